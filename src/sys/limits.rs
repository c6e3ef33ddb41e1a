//! The bounds of the edge, one constant each, the unit last in the name. Those of the trusted core are in
//! [`crate::core::limits`].
//!
//! A bound that an operator may change at start says so; the value here is its default.

use crate::core::limits::RESULT_BYTES_MAX;

// --- Answers ---

/// `Retry-After`, of the gate's 503 too.
pub const RETRY_AFTER_SECONDS: u64 = 1;

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
/// A round trip to the front on which nothing moves for this long, while nobody works, is a bug.
pub const INNER_DEADLINE_MS: u64 = 5_000;
/// A Unix socket takes a connection, or there is nobody.
pub const CONNECT_MS: u64 = 1_000;
/// `openexec healthcheck`: the whole question and its answer.
pub const HEALTHCHECK_MS: u64 = 2_000;

// --- Requests ---

/// The `id` of a JSON-RPC message at `/mcp`, as it is spelt in the answer.
pub const MCP_ID_BYTES_MAX: usize = 256;
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

/// Bytes of answers on their way from the executor to the gate.
pub const ANSWERS_CARRIED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Nothing to do for this long: the last batch is sealed.
pub const SEAL_AFTER_MS: u64 = 1_000;

// --- The witness ---

/// The checkpoint file follows the log this often.
pub const CHECKPOINT_EVERY_MS: u64 = 500;
/// The log's name.
pub const LOG_ORIGIN_BYTES_MAX: usize = 256;
/// A checkpoint with all its signatures: sixteen witnesses' largest, and to spare.
pub const NOTE_BYTES_MAX: usize = 128 * 1024;
/// A proof in a file: a record in base64, a path and a checkpoint.
pub const PROOF_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a store has of one id, in a file.
pub const EVIDENCE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests for evidence that wait; each holds a connection that an execution could use.
pub const WITNESS_REQUESTS_MAX: usize = 16;

// --- Proposals ---

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
/// The callers' file: thousands of them.
pub const CALLERS_FILE_BYTES_MAX: u64 = 1024 * 1024;
// Whoever waits for room for an answer keeps one thread behind the gate from writing others. What is
// inside, in buffers that have doubled, and the two answers that other threads write leave room for it.
const _: () = assert!(2 * INSIDE_BYTES_MAX + 4 * (2 * RESULT_BYTES_MAX) < HELD_BYTES_MAX);
// A proof holds the largest receipt in base64, and a checkpoint.
const _: () = assert!((RESULT_BYTES_MAX + 4096) / 3 * 4 + NOTE_BYTES_MAX < PROOF_BYTES_MAX);
