//! The bounds of the trusted core, one constant each, the unit last in the name. Those of the edge are in
//! `sys/limits.rs`.
//!
//! A bound that an operator may change at start says so; the value here is its default.

// --- JSON ---

/// Open containers in a request; the text of a payload string counts in its place.
pub const JSON_DEPTH_MAX: usize = 64;
/// Open containers in a stored record, which wraps what was accepted.
pub const RECORD_DEPTH_MAX: usize = 68;
/// Values in one text, an object counted as [`JSON_OBJECT_VALUES`]: with it a body of 1 MiB takes
/// at most some 6 MiB of memory, and not 90.
pub const JSON_VALUES_MAX: usize = 128 * 1024;
/// Values in a text of ours, which holds a few that were accepted: payload, result, and what a worker reports.
pub const OWN_VALUES_MAX: usize = 4 * JSON_VALUES_MAX;
/// A value takes 32 bytes, and a map some 650 even for one short member.
pub const JSON_OBJECT_VALUES: usize = 16;
/// A number in any spelling. Room for the exact decimal expansion of every double (1,077 bytes for
/// the smallest); beyond it parsers differ: Rust's own reads `0.`, 900,000 zeros, `1e900001` as 0.
pub const NUMBER_BYTES_MAX: usize = 1_100;
/// 2^53 - 1: the largest integer that every JSON parser reads alike (RFC 7493, section 2.2).
pub const NUMBER_MAGNITUDE_MAX: f64 = 9_007_199_254_740_991.0;
/// A payload in canonical form.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// The legacy text of a request, as the claim record would hold it.
pub const LEGACY_BYTES_MAX: usize = 1024 * 1024;

// --- Requests ---

/// An action's name.
pub const ACTION_BYTES_MAX: usize = 64;
/// A nonce.
pub const NONCE_BYTES_MAX: usize = 256;
/// Artifacts in one `approval_artifact` array.
pub const ARTIFACTS_MAX: usize = 16;
/// Keys that may approve: each artifact is tried against every one, on a thread that all share.
pub const KEYS_MAX: usize = 64;
/// A key's name in the keys file.
pub const KEY_NAME_BYTES_MAX: usize = 64;
/// How far in the future an approval's `issued_at` may lie, and how far the clock may be behind the
/// newest record, or go ahead of the monotonic one at once.
pub const CLOCK_SKEW_SECONDS: i64 = 60;
/// Approvals of one proposal that are recorded of one key: the first, and those that replace it.
pub const APPROVALS_OF_A_KEY_MAX: usize = 4;
/// What an approver says of a rejection, in characters.
pub const REJECTION_CHARACTERS_MAX: usize = 500;
/// Characters kept of a sentence that a handler gives as its reason.
pub const DETAIL_CHARACTERS_MAX: usize = 200;
/// A handler's result, in canonical form.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;

// --- The store ---

/// One segment file, from birth.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Segments of one store, 1 TiB in all: then 507 `store_full`.
pub const SEGMENTS_MAX: u32 = 65_536;
/// What a disk writes whole or not at all; every batch starts at a multiple of it.
pub const SECTOR_BYTES: u64 = 512;
/// One batch: its record lines and its commit line.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The record of keys, thresholds, callers and allowed actions: it may share its batch with any other record.
pub const POLICY_BYTES_MAX: usize = 512 * 1024;
const _: () = assert!(
    POLICY_BYTES_MAX + PAYLOAD_BYTES_MAX + LEGACY_BYTES_MAX + RESULT_BYTES_MAX + 256 * 1024
        <= BATCH_BYTES_MAX
);
/// Requests in one batch.
pub const BATCH_REQUESTS_MAX: usize = 128;
/// Executions in one store: then 507 `store_full`.
pub const EXECUTIONS_MAX: u64 = 10_000_000;
/// Records under one cached hash of the Merkle tree.
pub const LEAVES_PER_BLOCK: u64 = 256;

// --- Refusals ---

/// Bytes of refusals, padding included, that all codes and actions hold together; none of them holds
/// more than is left free.
pub const REFUSAL_BYTES_HELD: u64 = 5 * 512 * 1024;
/// In so many seconds as much drains as was held when they began.
pub const REFUSALS_DRAIN_SECONDS: i64 = 3_600;
/// Bytes of refusals stored in a day, at most: what is held, and what drains.
pub const REFUSAL_BYTES_PER_DAY: u64 = 64 * 1024 * 1024;
/// A denied payload longer than this is stored as its hash.
pub const REFUSAL_PAYLOAD_BYTES_MAX: usize = 4 * 1024;
/// The newest refusals whose receipts are known to `/receipts/verify`.
pub const REFUSALS_INDEXED: usize = 10_000;

// --- Proposals ---

/// Proposals that are pending, and the bytes of their payloads. Nobody of whom it is asked who calls holds more of
/// either than is left free.
pub const PROPOSALS_PENDING: u64 = 1_000;
pub const PROPOSAL_BYTES_PENDING: u64 = 64 * 1024 * 1024;
/// Proposals that are recorded in a day (UTC), and the bytes of their payloads; shared alike.
pub const PROPOSALS_A_DAY: u64 = 20_000;
pub const PROPOSAL_BYTES_A_DAY: u64 = 64 * 1024 * 1024;

// --- Files that are read at start or per request ---

/// Keys, the keys file, an approval file.
pub const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;
/// What an operator leaves in the store: a stop, or a request that holds a record for each pending proposal.
pub const REQUEST_BYTES_MAX: u64 = 256 * PROPOSALS_PENDING;

const _: () = assert!(SEGMENT_BYTES.is_multiple_of(SECTOR_BYTES));
const _: () = assert!((BATCH_BYTES_MAX as u64).is_multiple_of(SECTOR_BYTES));
// A batch, the receipts it can lead to and a seal fit into one fresh segment.
const _: () = assert!(3 * BATCH_BYTES_MAX as u64 <= SEGMENT_BYTES);
// A claim with the largest payload and legacy text, and its receipt, fit into one batch.
const _: () = assert!(PAYLOAD_BYTES_MAX + LEGACY_BYTES_MAX + RESULT_BYTES_MAX < BATCH_BYTES_MAX);
// An hour's is added once, and a sixtieth for the steps in which it drains.
const _: () = assert!(
    REFUSAL_BYTES_HELD * (86_400 / REFUSALS_DRAIN_SECONDS as u64 + 1) * 61 / 60
        <= REFUSAL_BYTES_PER_DAY
);
const _: () = assert!(JSON_DEPTH_MAX + 4 == RECORD_DEPTH_MAX);
