//! Every bound of the product, one constant each, the unit last in the name.
//!
//! A bound that an operator may change at start says so; the value here is its default.

// --- The network (RFC 9112 framing, held by the gate) ---

/// Request line and header lines together, with their CRLFs: beyond it 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines in one request: beyond it 431.
pub const HEADER_LINES_MAX: usize = 64;
/// A method's name; the longest registered one has 17 (RFC 9110, section 16.1.1).
pub const METHOD_BYTES_MAX: usize = 32;
/// One request body: beyond it 413, before it is read. `OPENEXEC_MAX_BODY_BYTES` lowers it.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// One size line of a chunked body, with its extensions and the CRLFs around it: beyond it 400.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Everything in a chunked body that is not data: beyond it 400. Room for 200,000 chunks, as clients
/// make them that send a text token by token.
pub const CHUNK_FRAMING_BYTES_MAX: usize = 1024 * 1024;
/// A whole head, from its first byte: then 408 and close.
pub const HEAD_DEADLINE_MS: u64 = 5_000;
/// A whole body, from the end of the head: then 408 and close.
pub const BODY_DEADLINE_MS: u64 = 10_000;
/// A whole answer, to be taken by the client: then the connection is cut.
pub const ANSWER_DEADLINE_MS: u64 = 10_000;
/// A connection on which no request has begun: then it is closed.
pub const IDLE_DEADLINE_MS: u64 = 30_000;
/// A whole request, until its turn to go inside: then 503.
pub const QUEUE_DEADLINE_MS: u64 = 10_000;
/// Open connections. `OPENEXEC_MAX_CONNECTIONS` changes it; a low file limit lowers it.
pub const CONNECTIONS_MAX: usize = 128;
/// For so many connections there is one inner connection more, and at least one: for requests that are
/// answered at once, whoever waits.
pub const CONNECTIONS_PER_RESERVED: usize = 16;
/// File descriptors that one connection may need at once: its own, and that of one whose request waits
/// for the executor.
pub const FILES_PER_CONNECTION: usize = 2;
/// File descriptors of an inner connection: the gate's, and two that `tiny_http` has.
pub const FILES_PER_INNER: usize = 3;
/// File descriptors kept for everything that is not a connection.
pub const FILES_RESERVED: usize = 32;
/// Bytes of requests and answers that all connections hold beyond their own.
pub const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A connection's own: they are not counted.
pub const OWN_BYTES: usize = 12 * 1024;
/// A buffer begins with so many, and doubles.
pub const BUFFER_BYTES: usize = 4 * 1024;
/// One read into a large one, or write from it, at most.
pub const PIECE_BYTES: usize = 64 * 1024;
/// After a last answer, how long what the client still sends is read and thrown away, so that the
/// answer is not lost to a reset (RFC 9112, section 9.6).
pub const LINGER_MS: u64 = 1_000;
/// How much of it.
pub const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// `Retry-After` of the gate's 503.
pub const RETRY_AFTER_SECONDS: u64 = 1;
/// Accepting, or a thread for it, failed: the first pause, and the longest.
pub const ACCEPT_PAUSE_MS_MIN: u64 = 10;
pub const ACCEPT_PAUSE_MS_MAX: u64 = 1_000;
/// The stack of a connection's thread.
pub const CONNECTION_STACK_BYTES: usize = 128 * 1024;
/// Threads beside those of connections: main, front, executor, log, helpers, and what `tiny_http`
/// keeps in hand.
pub const THREADS_RESERVED: usize = 24;
/// Attempts to open one inner connection that answers.
pub const INNER_ATTEMPTS_MAX: u32 = 3;
/// A payload of so many bytes is kept as it was read until it runs; a longer one is read again.
pub const PAYLOAD_KEPT_BYTES: usize = 1024;
/// Request bytes behind the gate at once, over all connections.
pub const INSIDE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Smaller requests do not count among them.
pub const SMALL_REQUEST_BYTES: usize = 4 * 1024;
/// A round trip to the front unanswered for this long, while the executor is idle, is a bug.
pub const INNER_DEADLINE_MS: u64 = 5_000;

/// A Unix socket takes a connection, or there is nobody.
pub const CONNECT_MS: u64 = 1_000;
/// `openexec healthcheck`: the whole question and its answer.
pub const HEALTHCHECK_MS: u64 = 2_000;

// --- JSON ---

/// Open containers in a request; the text of a payload string counts in its place.
pub const JSON_DEPTH_MAX: usize = 64;
/// Open containers in a stored record, which wraps what was accepted.
pub const RECORD_DEPTH_MAX: usize = 68;
/// Values in one text, an object counted as [`JSON_OBJECT_VALUES`]: with it a body of 1 MiB takes
/// at most some 6 MiB of memory, and not 90.
pub const JSON_VALUES_MAX: usize = 128 * 1024;
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
/// The `id` of a JSON-RPC message at `/mcp`, as it is spelt in the answer.
pub const MCP_ID_BYTES_MAX: usize = 256;
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

/// Queues of the outbox that are tried at start, the first by name.
pub const QUEUES_TRIED_MAX: usize = 64;

/// What a worker says of a job: its file, and its result in canonical form.
pub const OUTCOME_BYTES_MAX: u64 = 256 * 1024;
/// The outbox is looked through this often for what workers say.
pub const OUTCOMES_EVERY_MS: u64 = 500;
/// So much of it is with the executor at once, at most.
pub const OUTCOMES_AT_ONCE: usize = 16;
/// Files kept of each queue that say nothing which could be recorded: the newest.
pub const OUTCOMES_IGNORED_MAX: usize = 1_000;

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
/// Bytes of answers on their way from the executor to the gate.
pub const ANSWERS_CARRIED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Nothing to do for this long: the last batch is sealed.
pub const SEAL_AFTER_MS: u64 = 1_000;
/// Executions in one store: then 507 `store_full`.
pub const EXECUTIONS_MAX: u64 = 10_000_000;
/// Records under one cached hash of the Merkle tree.
pub const LEAVES_PER_BLOCK: u64 = 256;

// --- The witness ---

/// The checkpoint file follows the log this often.
pub const CHECKPOINT_EVERY_MS: u64 = 500;
/// The log's name.
pub const LOG_ORIGIN_BYTES_MAX: usize = 256;
/// A checkpoint with all its signatures: sixteen witnesses' largest, and to spare.
pub const NOTE_BYTES_MAX: usize = 128 * 1024;
/// A proof in a file: a record in base64, a path and a checkpoint.
pub const PROOF_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests for evidence that wait; each holds a connection that an execution could use.
pub const WITNESS_REQUESTS_MAX: usize = 16;

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
/// What a caller says of a proposal, in characters.
pub const JUSTIFICATION_CHARACTERS_MAX: usize = 500;
/// One page of the list of proposals: so many, or of so many bytes and one proposal more; each payload up to so many.
pub const PAGE_ENTRIES_MAX: usize = 100;
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
pub const PAGE_PAYLOAD_BYTES_MAX: usize = 4 * 1024;
/// A proposal that nobody has decided expires. `OPENEXEC_PENDING_TTL_SECONDS` changes it.
pub const PENDING_TTL_SECONDS: u32 = 86_400;

// --- Files that are read at start or per request ---

/// The file of declared actions.
pub const ACTIONS_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Keys, the keys file, an approval file.
pub const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;
/// The callers' file: thousands of them.
pub const CALLERS_FILE_BYTES_MAX: u64 = 1024 * 1024;

const _: () = assert!(SEGMENT_BYTES.is_multiple_of(SECTOR_BYTES));
// Whoever waits for room for an answer keeps one thread behind the gate from writing others. What is
// inside, in buffers that have doubled, and the two answers that other threads write leave room for it.
const _: () = assert!(2 * INSIDE_BYTES_MAX + 4 * (2 * RESULT_BYTES_MAX) < HELD_BYTES_MAX);
const _: () = assert!((BATCH_BYTES_MAX as u64).is_multiple_of(SECTOR_BYTES));
// A batch, the receipts it can lead to and a seal fit into one fresh segment.
const _: () = assert!(3 * BATCH_BYTES_MAX as u64 <= SEGMENT_BYTES);
// A claim with the largest payload and legacy text, and its receipt, fit into one batch.
const _: () = assert!(PAYLOAD_BYTES_MAX + LEGACY_BYTES_MAX + RESULT_BYTES_MAX < BATCH_BYTES_MAX);
// A proof holds the largest receipt in base64, and a checkpoint.
const _: () = assert!((RESULT_BYTES_MAX + 4096) / 3 * 4 + NOTE_BYTES_MAX < PROOF_BYTES_MAX);
// An hour's is added once, and a sixtieth for the steps in which it drains.
const _: () = assert!(
    REFUSAL_BYTES_HELD * (86_400 / REFUSALS_DRAIN_SECONDS as u64 + 1) * 61 / 60
        <= REFUSAL_BYTES_PER_DAY
);
const _: () = assert!(JSON_DEPTH_MAX + 4 == RECORD_DEPTH_MAX);
