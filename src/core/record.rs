//! The records of the store (design section 8): one table of kinds and fields, from which follow how each is
//! written and how it is read.
//!
//! Writing gives canonical lines without their newline. Reading takes exactly the fields of the kind, no more and no
//! fewer, each as its type is spelled, and leaves payloads, results and artifacts as slices of the line.

use std::borrow::Cow;
use std::fmt::Write;

use crate::core::hash::{Hash, is_random, sha256, unhex, write_hex};
use crate::core::json::{Value, canonical, strict};
use crate::core::line::{Field, Json, LineReader, LineWriter, Spelled, quoted, words};
use crate::core::receipt::{self, Effect, Outcome, is_action_name, is_nonce};
use crate::core::stage::How;
use crate::core::time::Time;

/// The format this program writes and reads.
pub const FORMAT: u64 = 2;

words! {
    /// The mode that a store was made for.
    Mode {
        Demo = "demo",
        Clawshield = "clawshield",
    }
    /// Who says what became of a job.
    Witness {
        Worker = "worker",
        Operator = "operator",
    }
}

/// What a store is, for life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 16 random bytes, in hexadecimal.
    pub store: String,
    pub mode: Mode,
    pub created: Time,
}

/// Makes of each row a type with these fields, which writes itself as a line and is read from one. The names stand in
/// ascending order; after `where` stands what the text of a field must be beside its type.
macro_rules! kinds {
    ($($(#[$about:meta])* $Kind:ident $(<$life:lifetime>)? = $kind:literal {
        $($(#[$note:meta])* $name:ident: $Type:ty $(where $check:expr)?,)*
    })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $Kind $(<$life>)? { $($(#[$note])* pub $name: $Type,)* }

        impl<'a> $Kind $(<$life>)? {
            pub fn line(&self) -> String {
                let mut line = LineWriter::of($kind);
                $(self.$name.put(stringify!($name), &mut line);)*
                line.end()
            }

            /// Reads what [`Self::line`] writes; of payloads, results and artifacts only where they end.
            pub fn read(line: &'a str) -> Option<Self> {
                let mut line = LineReader::of($kind, line);
                $(let $name = <$Type>::take_from(&mut line, stringify!($name))?;
                $(if !$check(&$name) { return None; })?)*
                line.is_over().then_some($Kind { $($name,)* })
            }
        }
    )*};
}

/// The kinds that are leaves of the tree: all have a time. A line is read as each of them in turn, so those that most
/// lines are stand first.
macro_rules! records {
    ($($(#[$about:meta])* $Kind:ident $(<$life:lifetime>)? = $kind:literal { $($fields:tt)* })*) => {
        kinds! { $($(#[$about])* $Kind $(<$life>)? = $kind { $($fields)* })* }

        /// Any line that is a leaf of the tree.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Record<'a> { $($Kind($Kind $(<$life>)?),)* }

        impl<'a> Record<'a> {
            pub fn at(&self) -> Time {
                match self { $(Record::$Kind(record) => record.at,)* }
            }

            pub fn line(&self) -> String {
                match self { $(Record::$Kind(record) => record.line(),)* }
            }

            /// Reads a line that is a leaf, as each kind in turn: only one has the kind's name.
            pub fn read(line: &'a str) -> Option<Self> {
                None$(.or_else(|| $Kind::read(line).map(Record::$Kind)))*
            }
        }
    };
}

records! {
    /// An execution that may begin: written before its handler runs (with its receipt, if pure).
    Claim<'a> = "claim" {
        action: &'a str where is_action_name,
        /// The array of artifacts that counted, or null in demo mode.
        approval: Json<'a>,
        at: Time,
        caller: Option<Cow<'a, str>>,
        effect: Effect,
        id: Hash,
        /// The array of the names of the keys that counted.
        keys: Json<'a>,
        /// The legacy text that an approval hashed.
        legacy: Option<Cow<'a, str>>,
        nonce: Cow<'a, str> where is_nonce,
        payload: Json<'a> where is_object,
        /// The marker of the directory that was meant; null where the handler has none.
        place: Option<&'a str> where |place: &Option<&str>| place.is_none_or(is_random),
        /// The number of the policy record in force, records counted from 0.
        policy: u64,
    }
    /// How an execution ended.
    Receipt<'a> = "receipt" {
        at: Time,
        id: Hash,
        outcome: Outcome,
        receipt: Hash,
        result: Json<'a> where is_object,
    }
    /// The first record of all, and no other.
    Store<'a> = "store" {
        at: Time,
        mode: Mode,
        store: &'a str where is_random,
    }
    /// Witness what the records after it were decided, until the next one.
    Policy<'a> = "policy" {
        /// The SHA-256 of the file of declared actions.
        actions: Option<Hash>,
        /// The array of the actions that are allowed; null for all.
        allowed: Json<'a>,
        at: Time,
        /// The array of those who may call; null where nobody is asked who calls.
        callers: Json<'a>,
        /// The array of the keys that may approve; null in demo mode.
        keys: Json<'a>,
        /// The object from action to how many must approve it; null in demo mode.
        required: Json<'a>,
        tenant: Option<Cow<'a, str>>,
        /// Seconds that an approval may live, at most.
        ttl_max: Option<u64>,
        /// The program's.
        version: Cow<'a, str>,
    }
    /// What was asked for and lacks only approvals.
    Proposal<'a> = "proposal" {
        action: &'a str where is_action_name,
        /// It executes by itself once it is approved.
        asynchronous: bool,
        at: Time,
        caller: Option<Cow<'a, str>>,
        expires: Time,
        id: Hash,
        /// The caller's own words.
        justification: Option<Cow<'a, str>>,
        nonce: Cow<'a, str> where is_nonce,
        payload: Json<'a> where is_object,
    }
    /// From now on the proposal executes by itself once it is approved.
    Asynchronous = "asynchronous" {
        at: Time,
        id: Hash,
    }
    /// A yes to a proposal.
    Approval<'a> = "approval" {
        artifact: Json<'a> where is_object,
        at: Time,
        id: Hash,
        /// The name of the key that signed.
        key: Cow<'a, str>,
    }
    /// A no to a proposal: it is final.
    Rejection<'a> = "rejection" {
        artifact: Json<'a> where is_object,
        at: Time,
        id: Hash,
        key: Cow<'a, str>,
    }
    /// A proposal that ended without an execution and without a rejection.
    Closed<'a> = "closed" {
        at: Time,
        /// Who withdrew it.
        by: Option<Cow<'a, str>>,
        /// Why it was refused.
        code: Option<&'a str> where |code: &Option<&str>| code.is_none_or(is_code),
        how: How,
        id: Hash,
    }
    /// A claim is about to be run again after a crash.
    Retry = "retry" {
        at: Time,
        id: Hash,
    }
    /// What became of the job that an execution left, by the word of who performed it.
    Completion<'a> = "completion" {
        at: Time,
        by: Witness,
        id: Hash,
        outcome: Outcome,
        receipt: Hash,
        result: Json<'a> where is_object,
    }
    /// A refused attempt.
    Refusal<'a> = "refusal" {
        action: &'a str where is_action_name,
        at: Time,
        caller: Option<Cow<'a, str>>,
        code: &'a str where is_code,
        detail: Cow<'a, str>,
        id: Hash,
        nonce: Cow<'a, str> where is_nonce,
        payload: RefusedPayload<'a>,
        receipt: Hash,
    }
    /// Refusals that were not stored.
    Suppressed<'a> = "suppressed" {
        at: Time,
        /// The object from code to number.
        count: Json<'a> where is_object,
    }
    Freeze<'a> = "freeze" {
        at: Time,
        reason: Cow<'a, str>,
    }
    Unfreeze<'a> = "unfreeze" {
        at: Time,
        reason: Cow<'a, str>,
    }
}

kinds! {
    /// The first line of a segment: what came before it. Not a leaf of the tree.
    SegmentLine<'a> = "segment" {
        /// The last batch before; 0 for none.
        batch: u64,
        created: Time,
        /// Records in all segments before.
        first: u64,
        format: u64 where |format: &u64| *format == FORMAT,
        mode: Mode,
        /// The root before.
        root: Hash,
        store: &'a str where is_random,
    }
    /// The last line of a batch. Not a leaf of the tree.
    Commit = "commit" {
        /// From 1; seals count.
        batch: u64,
        /// The RFC 6962 root over the records so far.
        root: Hash,
        /// Records so far, in all segments.
        size: u64,
    }
}

/// A refused payload, or the SHA-256 of its canonical text when that is over 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusedPayload<'a> {
    Text(&'a str),
    Hash(Hash),
}

/// Its name says which of the two it is.
impl<'a> Field<'a> for RefusedPayload<'a> {
    fn put(&self, _: &'static str, line: &mut LineWriter) {
        match self {
            RefusedPayload::Text(text) => Json(text).put("payload", line),
            RefusedPayload::Hash(hash) => hash.put("payload_hash", line),
        }
    }

    fn take_from(line: &mut LineReader<'a>, _: &'static str) -> Option<Self> {
        match Json::take_from(line, "payload") {
            Some(Json(text)) => is_object(text).then_some(RefusedPayload::Text(text)),
            None => Hash::take_from(line, "payload_hash").map(RefusedPayload::Hash),
        }
    }
}

/// Any line at all.
pub enum Line<'a> {
    Segment(SegmentLine<'a>),
    Commit(Commit),
    Record(Record<'a>),
}

impl<'a> Line<'a> {
    /// Reads any line; `None` if it is of no known kind or not formed as its kind is.
    pub fn read(line: &'a str) -> Option<Self> {
        Commit::read(line)
            .map(Line::Commit)
            .or_else(|| Record::read(line).map(Line::Record))
            .or_else(|| SegmentLine::read(line).map(Line::Segment))
    }
}

/// What a proposal or a claim is of: its action, and its caller.
pub fn asked(line: &str) -> Option<(&str, Option<Cow<'_, str>>)> {
    match Record::read(line)? {
        Record::Proposal(asked) => Some((asked.action, asked.caller)),
        Record::Claim(claim) => Some((claim.action, claim.caller)),
        _ => None,
    }
}

impl<'a> SegmentLine<'a> {
    pub fn new(identity: &'a Identity, first: u64, batch: u64, root: Hash) -> Self {
        let &Identity { ref store, mode, created } = identity;
        SegmentLine { batch, created, first, format: FORMAT, mode, root, store }
    }

    pub fn identity(&self) -> Identity {
        Identity { store: self.store.to_owned(), mode: self.mode, created: self.created }
    }
}

impl Identity {
    pub fn line(&self) -> String {
        Store { at: self.created, mode: self.mode, store: &self.store }.line()
    }
}

impl Policy<'_> {
    /// The same for two that differ in their times alone.
    pub fn digest(&self) -> Hash {
        let timeless = Policy { at: Time::default(), ..self.clone() };
        sha256(&[timeless.line().as_bytes()])
    }
}

impl<'a> Completion<'a> {
    pub fn of(at: Time, id: Hash, by: Witness, outcome: Outcome, result: &'a str) -> Self {
        let receipt = receipt::completion(&id, outcome, result);
        Completion { at, by, id, outcome, receipt, result: Json(result) }
    }

    /// Whether its result is an object in canonical form, its receipt the hash of what it says, and an
    /// operator's a note of an outcome.
    pub fn holds(&self) -> bool {
        let result = strict::read_own(self.result.as_bytes()).unwrap_or_default();
        let is_note = result.as_object().is_some_and(|result| {
            result.len() == 1 && result.get("note").is_some_and(Value::is_string)
        });
        let may_say = match self.by {
            Witness::Worker => result.is_object(),
            Witness::Operator => is_note && self.outcome != Outcome::Indeterminate,
        };
        may_say
            && canonical::to_string(&result) == self.result.0
            && self.receipt == receipt::completion(&self.id, self.outcome, &self.result)
    }
}

impl Approval<'_> {
    /// The id that an execution would spend.
    pub fn approval_id(&self) -> Option<String> {
        let artifact = strict::read_own(self.artifact.as_bytes()).ok()?;
        artifact.get("approval_id")?.as_str().map(str::to_owned)
    }
}

impl Claim<'_> {
    /// The ids that this claim spent.
    pub fn approval_ids(&self) -> Option<Vec<String>> {
        if &*self.approval == "null" {
            return Some(Vec::new());
        }
        let artifacts = strict::read_own(self.approval.as_bytes()).ok()?;
        let id = |artifact: &Value| artifact.get("approval_id")?.as_str().map(str::to_owned);
        artifacts.as_array()?.iter().map(id).collect()
    }
}

/// A word that says why something was refused.
pub fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// What begins as an object. Opening looks no further into it: that takes as long as all the rest, and
/// is the audit's.
fn is_object(text: &str) -> bool {
    text.starts_with('{')
}

pub fn freeze_line(at: Time, frozen: bool, reason: &str) -> String {
    let reason = Cow::from(reason);
    if frozen { Freeze { at, reason }.line() } else { Unfreeze { at, reason }.line() }
}

/// Times have one form, where an approval's may have many.
impl Spelled<'_> for Time {
    fn write(&self, text: &mut String) {
        write!(text, "\"{self}\"").expect("a String takes all that is written to it");
    }

    fn take(text: &mut &str) -> Option<Self> {
        // Of that length only one form ends so.
        let time = quoted(text, "2026-01-01T00:00:00.000000Z".len())?;
        Time::parse(time).filter(|_| time.ends_with('Z'))
    }
}

impl Spelled<'_> for Hash {
    fn write(&self, text: &mut String) {
        text.push('"');
        write_hex(self, text);
        text.push('"');
    }

    fn take(text: &mut &str) -> Option<Self> {
        unhex(quoted(text, 2 * size_of::<Hash>())?)
    }
}

/// Whether the text begins with lines of another format: a segment line that says so.
pub fn is_of_other_format(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let value = strict::read_own(line).unwrap_or_default();
    let format = value.get("format").and_then(Value::as_u64);
    value.get("kind").is_some_and(|kind| kind == "segment") && format.is_some_and(|n| n != FORMAT)
}

#[cfg(test)]
mod tests {
    use super::{Spelled, Time};

    #[test]
    fn a_time_has_one_form() {
        let time = |text: &str| Time::take(&mut &*format!("\"{text}\""));
        assert!(time("2026-01-01T00:00:00.000000Z").is_some());
        for other in ["", ".0Z", ".000Z", ".0000000", ".000000", ".000000+00:00", ".0+00:00", "Z"] {
            assert_eq!(time(&format!("2026-01-01T00:00:00{other}")), None, "{other}");
        }
    }
}
