//! The contract with handlers: what one is, what it is told and what it says. The handlers themselves come from
//! outside, as a static array.

use std::io;
use std::path::PathBuf;

use crate::core::json::Object;
use crate::core::receipt::Effect;

/// The payload of a request, as read again from its canonical text.
pub type Payload = Object;

/// One action and the code that performs it.
#[derive(Clone, Copy)]
pub struct Handler {
    /// 1 to 64 of `A-Za-z0-9_.-`, unique in the array.
    pub action: &'static str,
    /// One sentence for people and models.
    pub summary: &'static str,
    pub effect: Effect,
    /// JSON Schema 2020-12 text of the payload, shown to whoever proposes.
    pub payload_schema: &'static str,
    /// The same of what `run` returns, for clients that check the results of their calls.
    pub result_schema: &'static str,
    /// The largest canonical result, in bytes: room for it is kept before the claim is written.
    pub result_bytes_max: usize,
    /// Whether the settings that the handler needs are there; otherwise the sentence that names
    /// what is missing. `handlers::always` for a handler that needs none.
    pub offered: fn(&Settings) -> Result<(), &'static str>,
    /// Tries what `run` needs and no request can mend, such as to write where it will write; at start
    /// and by `openexec check`, and only where the action may be called. A failure ends both, which say
    /// path, user and mend. `handlers::needs_nothing` where there is nothing to try.
    pub ready: fn(&Settings) -> Result<(), Unusable>,
    /// Judges the payload before anybody is asked to approve it. Pure.
    pub check: &'static Check,
    /// The directory in which it acts, if it acts in one: after a crash it runs again only if that
    /// is still the same, by the marker in it. `handlers::nowhere` for a handler without one.
    pub place: fn(&Settings) -> Option<PathBuf>,
    /// Performs the action.
    pub run: &'static Run,
}

/// A function, by reference: that of a declared action has the schema that was read at start.
pub type Check = dyn Fn(&Payload, &Settings) -> Result<(), PayloadError> + Send + Sync;
pub type Run = dyn Fn(&Call, &Settings) -> Result<Object, Failure> + Send + Sync;

/// One execution, as its handler sees it.
pub struct Call<'a> {
    /// The `exec_id`: the handler's own idempotency key. 64 hexadecimal digits.
    pub id: &'a str,
    pub action: &'a str,
    pub nonce: &'a str,
    pub payload: &'a Payload,
    /// The approvals that were spent for it; none in demo mode.
    pub approval_ids: &'a [String],
    /// The marker of the directory that the claim means: 32 hexadecimal digits.
    pub place: Option<&'a str>,
    /// A run before this one was cut short by a crash: its effect may be there already, and others
    /// may have changed what it left. It may change only a state that the first run left, or that
    /// the request names as its precondition; any other is [`Failure::Unknown`].
    pub again: bool,
}

impl Call<'_> {
    /// The failure of a run that has changed nothing. A second run cannot say that of the first.
    pub fn failure(&self, sentence: impl Into<String>) -> Failure {
        if self.again {
            Failure::Unknown(sentence.into())
        } else {
            Failure::Failed(sentence.into())
        }
    }
}

/// Why a run has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing happened. Stored, and repeated to replays.
    Failed(String),
    /// Something may have happened: the outcome is `indeterminate`.
    Unknown(String),
}

/// Why a payload cannot be run: a sentence for the caller, deterministic, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadError(pub String);

/// A file or directory that a handler needs and cannot use.
#[derive(Debug)]
pub struct Unusable {
    pub path: PathBuf,
    pub error: io::Error,
}

/// What the configuration gives to handlers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `OPENEXEC_OUTBOX_DIR`.
    pub outbox_dir: Option<PathBuf>,
    /// `OPENEXEC_FILES_DIR`.
    pub files_dir: Option<PathBuf>,
    /// All registered actions: a queue named as one of them, in upper or lower case, takes that one's jobs alone.
    pub actions: Vec<&'static str>,
}

/// Keys that a result may not have: they are how a receipt says that there was none.
pub const RESERVED_RESULT_KEYS: [&str; 3] = ["denied", "failed", "indeterminate"];

/// The handler of that name.
pub fn find(handlers: &'static [Handler], action: &str) -> Option<&'static Handler> {
    handlers.iter().find(|handler| handler.action == action)
}
