//! The records of the store (design section 8): how each kind is written and read.
//!
//! Writing gives canonical lines without their newline. Reading takes exactly the fields of the
//! kind, no more and no fewer, and leaves payloads, results and artifacts as slices of the line.

use crate::core::hash::{Hash, hex, is_random, unhex};
use crate::core::json::{Value, canonical, strict};
use crate::core::limits::RECORD_DEPTH_MAX;
use crate::core::line::{Fields, LineWriter};
use crate::core::receipt::{Effect, Outcome, is_action_name, is_nonce};
use crate::core::time::Time;

/// The format this program writes and reads.
pub const FORMAT: u64 = 1;

/// The mode that a store was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Demo,
    Clawshield,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Demo => "demo",
            Mode::Clawshield => "clawshield",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Mode::Demo, Mode::Clawshield].into_iter().find(|mode| mode.name() == name)
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

/// The first line of a segment: what came before it. Not a leaf of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLine {
    pub identity: Identity,
    /// Records in all segments before.
    pub first: u64,
    /// The last batch before; 0 for none.
    pub batch: u64,
    /// The root before.
    pub root: Hash,
}

/// The last line of a batch. Not a leaf of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// From 1; seals count.
    pub batch: u64,
    /// Records so far, in all segments.
    pub size: u64,
    /// The RFC 6962 root over them.
    pub root: Hash,
}

/// An execution that may begin: written before its handler runs (with its receipt, if pure).
pub struct Claim<'a> {
    pub at: Time,
    pub id: Hash,
    pub action: &'a str,
    /// Canonical text.
    pub payload: &'a str,
    pub nonce: String,
    pub effect: Effect,
    /// Canonical text: the array of artifacts that counted, or `null` in demo mode.
    pub approval: &'a str,
    /// Canonical text: the array of their keys' names.
    pub keys: &'a str,
    /// The legacy text that an approval hashed.
    pub legacy: Option<String>,
    pub tenant: Option<String>,
    pub required: Option<u64>,
    pub ttl_max: Option<u64>,
    /// The marker of the directory that was meant; `None` where the handler has none.
    pub place: Option<&'a str>,
}

impl Claim<'_> {
    /// The ids that this claim spent.
    pub fn approval_ids(&self) -> Option<Vec<String>> {
        if self.approval == "null" {
            return Some(Vec::new());
        }
        let artifacts = strict::read(self.approval.as_bytes(), RECORD_DEPTH_MAX).ok()?;
        let id = |artifact: &Value| artifact.get("approval_id")?.as_str().map(str::to_owned);
        artifacts.as_array()?.iter().map(id).collect()
    }

    pub fn line(&self) -> String {
        let number = |value: Option<u64>| value.map_or("null".to_owned(), |n| n.to_string());
        LineWriter::start()
            .text("action", self.action)
            .raw("approval", self.approval)
            .text("at", &self.at.to_string())
            .text("effect", self.effect.name())
            .text("id", &hex(&self.id))
            .raw("keys", self.keys)
            .text("kind", "claim")
            .optional("legacy", self.legacy.as_deref())
            .text("nonce", &self.nonce)
            .raw("payload", self.payload)
            .optional("place", self.place)
            .raw("required", &number(self.required))
            .optional("tenant", self.tenant.as_deref())
            .raw("ttl_max", &number(self.ttl_max))
            .end()
    }
}

/// How an execution ended.
pub struct Receipt<'a> {
    pub at: Time,
    pub id: Hash,
    pub outcome: Outcome,
    /// Canonical text.
    pub result: &'a str,
    pub receipt: Hash,
}

impl Receipt<'_> {
    pub fn line(&self) -> String {
        LineWriter::start()
            .text("at", &self.at.to_string())
            .text("id", &hex(&self.id))
            .text("kind", "receipt")
            .text("outcome", self.outcome.name())
            .text("receipt", &hex(&self.receipt))
            .raw("result", self.result)
            .end()
    }
}

/// A refused attempt.
pub struct Denial<'a> {
    pub at: Time,
    pub id: Hash,
    pub action: String,
    pub nonce: String,
    pub payload: DeniedPayload<'a>,
    pub code: &'a str,
    pub detail: String,
    pub receipt: Hash,
}

/// A denied payload, or the SHA-256 of its canonical text when that is over 4 KiB.
pub enum DeniedPayload<'a> {
    Text(&'a str),
    Hash(Hash),
}

impl Denial<'_> {
    pub fn line(&self) -> String {
        let line = LineWriter::start()
            .text("action", &self.action)
            .text("at", &self.at.to_string())
            .text("code", self.code)
            .text("detail", &self.detail)
            .text("id", &hex(&self.id))
            .text("kind", "denial")
            .text("nonce", &self.nonce);
        let line = match &self.payload {
            DeniedPayload::Text(text) => line.raw("payload", text),
            DeniedPayload::Hash(hash) => line.text("payload_hash", &hex(hash)),
        };
        line.text("receipt", &hex(&self.receipt)).end()
    }
}

/// Any line that is a leaf of the tree.
pub enum Record<'a> {
    Store { at: Time, store: &'a str, mode: Mode },
    Claim(Claim<'a>),
    Receipt(Receipt<'a>),
    Retry { at: Time, id: Hash },
    Denial(Denial<'a>),
    Suppressed { at: Time, count: &'a str },
    Freeze { at: Time, reason: String },
    Unfreeze { at: Time, reason: String },
}

/// Any line at all.
pub enum Line<'a> {
    Segment(SegmentLine),
    Commit(Commit),
    Record(Record<'a>),
}

pub fn store_line(identity: &Identity) -> String {
    LineWriter::start()
        .text("at", &identity.created.to_string())
        .text("kind", "store")
        .text("mode", identity.mode.name())
        .text("store", &identity.store)
        .end()
}

pub fn retry_line(at: Time, id: &Hash) -> String {
    LineWriter::start().text("at", &at.to_string()).text("id", &hex(id)).text("kind", "retry").end()
}

/// `count`: canonical text of the object from code to number.
pub fn suppressed_line(at: Time, count: &str) -> String {
    LineWriter::start()
        .text("at", &at.to_string())
        .raw("count", count)
        .text("kind", "suppressed")
        .end()
}

pub fn freeze_line(at: Time, frozen: bool, reason: &str) -> String {
    LineWriter::start()
        .text("at", &at.to_string())
        .text("kind", if frozen { "freeze" } else { "unfreeze" })
        .text("reason", reason)
        .end()
}

impl SegmentLine {
    pub fn line(&self) -> String {
        LineWriter::start()
            .number("batch", self.batch)
            .text("created", &self.identity.created.to_string())
            .number("first", self.first)
            .number("format", FORMAT)
            .text("kind", "segment")
            .text("mode", self.identity.mode.name())
            .text("root", &hex(&self.root))
            .text("store", &self.identity.store)
            .end()
    }
}

impl Commit {
    pub fn line(&self) -> String {
        LineWriter::start()
            .number("batch", self.batch)
            .text("kind", "commit")
            .text("root", &hex(&self.root))
            .number("size", self.size)
            .end()
    }

    /// Reads a commit line that is exactly as [`Commit::line`] writes it.
    pub fn read(line: &str) -> Option<Self> {
        let fields = Fields::of(line)?;
        let commit = read_commit(&fields)?;
        (commit.line() == line).then_some(commit)
    }
}

impl<'a> Line<'a> {
    /// Reads any line; `None` if it is of no known kind or not formed as its kind is.
    pub fn read(line: &'a str) -> Option<Self> {
        let fields = Fields::of(line)?;
        Some(match fields.plain("kind")? {
            "commit" => Line::Commit(Commit::read(line)?),
            "segment" => Line::Segment(read_segment(&fields)?),
            _ => Line::Record(read_record(&fields)?),
        })
    }
}

impl<'a> Record<'a> {
    pub fn at(&self) -> Time {
        match self {
            Record::Claim(claim) => claim.at,
            Record::Receipt(receipt) => receipt.at,
            Record::Denial(denial) => denial.at,
            Record::Store { at, .. }
            | Record::Retry { at, .. }
            | Record::Suppressed { at, .. }
            | Record::Freeze { at, .. }
            | Record::Unfreeze { at, .. } => *at,
        }
    }

    /// Reads a line that is a leaf.
    pub fn read(line: &'a str) -> Option<Self> {
        read_record(&Fields::of(line)?)
    }
}

fn read_commit(fields: &Fields) -> Option<Commit> {
    if !fields.are(&["batch", "kind", "root", "size"]) || fields.plain("kind") != Some("commit") {
        return None;
    }
    Some(Commit {
        batch: fields.number("batch")?,
        size: fields.number("size")?,
        root: unhex(fields.plain("root")?)?,
    })
}

fn read_segment(fields: &Fields) -> Option<SegmentLine> {
    let names = ["batch", "created", "first", "format", "kind", "mode", "root", "store"];
    if !fields.are(&names) || fields.number("format")? != FORMAT {
        return None;
    }
    Some(SegmentLine {
        identity: Identity {
            store: fields.plain("store").filter(|id| is_random(id))?.to_owned(),
            mode: Mode::from_name(fields.plain("mode")?)?,
            created: time(fields.plain("created")?)?,
        },
        first: fields.number("first")?,
        batch: fields.number("batch")?,
        root: unhex(fields.plain("root")?)?,
    })
}

/// A time as records have it: in one form, where an approval's may have many.
fn time(text: &str) -> Option<Time> {
    // Of that length only one form ends so.
    const BYTES: usize = "2026-01-01T00:00:00.000000Z".len();
    Time::parse(text).filter(|_| text.len() == BYTES && text.ends_with('Z'))
}

/// A word that says why something was refused.
fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// At least one code, each with how often.
fn is_count(text: &str) -> bool {
    let counts = strict::read(text.as_bytes(), RECORD_DEPTH_MAX).unwrap_or_default();
    canonical::to_string(&counts) == text
        && counts.as_object().is_some_and(|counts| {
            let is_one = |(code, n): (&String, &Value)| is_code(code) && n.as_u64() > Some(0);
            !counts.is_empty() && counts.iter().all(is_one)
        })
}

/// What begins as an object. Opening looks no further into it: that takes as long as all the rest, and
/// is the audit's.
fn object<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a str> {
    fields.raw(name).filter(|text| text.starts_with('{'))
}

/// Whether the text begins with lines of another format: a segment line that says so, or, as it was
/// before any release, a claim without its place.
pub fn is_of_other_format(text: &[u8]) -> bool {
    let lines = text.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    lines.map_while(|line| strict::read(line, RECORD_DEPTH_MAX).ok()).any(|value| {
        let format = value.get("format").and_then(Value::as_u64);
        match value.get("kind").and_then(Value::as_str) {
            Some("segment") => format.is_some_and(|format| format != FORMAT),
            Some("claim") => value.get("place").is_none(),
            _ => false,
        }
    })
}

fn read_record<'a>(fields: &Fields<'a>) -> Option<Record<'a>> {
    let at = time(fields.plain("at")?)?;
    let id = || unhex(fields.plain("id")?);
    Some(match fields.plain("kind")? {
        "claim" => Record::Claim(read_claim(fields, at)?),
        "receipt" if fields.are(&["at", "id", "kind", "outcome", "receipt", "result"]) => {
            Record::Receipt(Receipt {
                at,
                id: id()?,
                outcome: Outcome::from_name(fields.plain("outcome")?)?,
                result: object(fields, "result")?,
                receipt: unhex(fields.plain("receipt")?)?,
            })
        }
        "retry" if fields.are(&["at", "id", "kind"]) => Record::Retry { at, id: id()? },
        "denial" => Record::Denial(read_denial(fields, at)?),
        "suppressed" if fields.are(&["at", "count", "kind"]) => {
            Record::Suppressed { at, count: fields.raw("count").filter(|text| is_count(text))? }
        }
        "freeze" if fields.are(&["at", "kind", "reason"]) => {
            Record::Freeze { at, reason: fields.text("reason")? }
        }
        "unfreeze" if fields.are(&["at", "kind", "reason"]) => {
            Record::Unfreeze { at, reason: fields.text("reason")? }
        }
        "store" if fields.are(&["at", "kind", "mode", "store"]) => Record::Store {
            at,
            store: fields.plain("store").filter(|id| is_random(id))?,
            mode: Mode::from_name(fields.plain("mode")?)?,
        },
        _ => return None,
    })
}

fn read_claim<'a>(fields: &Fields<'a>, at: Time) -> Option<Claim<'a>> {
    let names = [
        "action", "approval", "at", "effect", "id", "keys", "kind", "legacy", "nonce", "payload",
        "place", "required", "tenant", "ttl_max",
    ];
    if !fields.are(&names) {
        return None;
    }
    // `null` or the value; the outer option says whether the field is formed as it must be.
    let text = |name| {
        if fields.raw(name)? == "null" { Some(None) } else { fields.text(name).map(Some) }
    };
    let number = |name| {
        if fields.raw(name)? == "null" { Some(None) } else { fields.number(name).map(Some) }
    };
    let place = match fields.raw("place")? {
        "null" => None,
        _ => Some(fields.plain("place").filter(|text| is_random(text))?),
    };
    Some(Claim {
        at,
        id: unhex(fields.plain("id")?)?,
        action: fields.plain("action").filter(|name| is_action_name(name))?,
        payload: object(fields, "payload")?,
        nonce: fields.text("nonce").filter(|nonce| is_nonce(nonce))?,
        effect: Effect::from_name(fields.plain("effect")?)?,
        approval: fields.raw("approval")?,
        keys: fields.raw("keys")?,
        legacy: text("legacy")?,
        tenant: text("tenant")?,
        required: number("required")?,
        ttl_max: number("ttl_max")?,
        place,
    })
}

fn read_denial<'a>(fields: &Fields<'a>, at: Time) -> Option<Denial<'a>> {
    let names =
        |payload| ["action", "at", "code", "detail", "id", "kind", "nonce", payload, "receipt"];
    let payload = if fields.are(&names("payload")) {
        DeniedPayload::Text(object(fields, "payload")?)
    } else if fields.are(&names("payload_hash")) {
        DeniedPayload::Hash(unhex(fields.plain("payload_hash")?)?)
    } else {
        return None;
    };
    Some(Denial {
        at,
        id: unhex(fields.plain("id")?)?,
        action: fields.plain("action").filter(|name| is_action_name(name))?.to_owned(),
        nonce: fields.text("nonce").filter(|nonce| is_nonce(nonce))?,
        payload,
        code: fields.plain("code").filter(|code| is_code(code))?,
        detail: fields.text("detail")?,
        receipt: unhex(fields.plain("receipt")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn a_time_has_one_form() {
        assert!(time("2026-01-01T00:00:00.000000Z").is_some());
        for other in ["", ".0Z", ".000Z", ".0000000", ".000000", ".000000+00:00", ".0+00:00", "Z"] {
            assert_eq!(time(&format!("2026-01-01T00:00:00{other}")), None, "{other}");
        }
    }
}
