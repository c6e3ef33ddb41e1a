//! The approval artifact: six strings and the message that their signature covers.
//!
//! Owns the form of an approval. The invariant is that every [`Artifact`] is well formed, and that
//! [`Artifact::to_value`] gives back exactly what was read. The signed message has no separators;
//! it is unambiguous all the same. A time has exactly one `T`, its eleventh character, and a hash has
//! none. So the last `T` of a message says where `expires_at` begins, the one before it where
//! `issued_at` begins and ends, however many digits their seconds have; `action_hash` is the 64
//! characters before that, `approval_id` the first 36, and the tenant is all that lies between.

use std::collections::BTreeSet;
use std::fmt;

use super::signature::Signature;
use crate::core::base64;
use crate::core::hash::{self, Hash};
use crate::core::json::{Object, Value, object};
use crate::core::limits::ARTIFACTS_MAX;
use crate::core::time::Time;

/// The fields, in the order in which they are checked. The first five, in this order, are signed.
const FIELDS: [&str; 6] =
    ["approval_id", "tenant_id", "action_hash", "issued_at", "expires_at", "signature"];

/// One well-formed approval. Whether it is valid is for [`super::verify`] to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Artifact {
    /// As they were given: the spelling is what was signed.
    texts: [String; FIELDS.len()],
    action_hash: Hash,
    issued_at: Time,
    expires_at: Time,
    signature: Signature,
}

/// Reads an `approval_artifact`: one artifact, or an array of 1 to [`ARTIFACTS_MAX`] with different
/// approval ids.
///
/// # Errors
///
/// A sentence names the first fault: artifacts in order, in each the fields in the contract's order (missing, no string,
/// wrong form), then fields it does not have; in an array with the index from 0. It repeats no value, so no signature either.
pub fn parse(value: &Value) -> Result<Vec<Artifact>, String> {
    const PLACE: &str = "approval_artifact";
    let items = match value {
        Value::Object(object) => return Ok(vec![Artifact::read(object, PLACE)?]),
        Value::Array(items) => items,
        _ => return Err(format!("{PLACE} is neither an object nor an array of objects")),
    };
    if !(1..=ARTIFACTS_MAX).contains(&items.len()) {
        let count = items.len();
        return Err(format!("{PLACE} has {count} elements; an array holds 1 to {ARTIFACTS_MAX}"));
    }
    let read = |(index, item): (usize, &Value)| {
        let place = format!("{PLACE}[{index}]");
        let object = item.as_object().ok_or_else(|| format!("{place} is not an object"))?;
        Artifact::read(object, &place)
    };
    let artifacts = items.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    // An id is what is spent. One that came twice would be spent once and counted twice.
    let mut ids = BTreeSet::new();
    match artifacts.iter().position(|artifact| !ids.insert(artifact.approval_id())) {
        None => Ok(artifacts),
        Some(index) => Err(format!("{PLACE}[{index}].approval_id occurs earlier in the array")),
    }
}

impl Artifact {
    pub fn approval_id(&self) -> &str {
        &self.texts[0]
    }

    pub fn tenant_id(&self) -> &str {
        &self.texts[1]
    }

    pub fn action_hash(&self) -> &Hash {
        &self.action_hash
    }

    pub fn issued_at(&self) -> Time {
        self.issued_at
    }

    pub fn expires_at(&self) -> Time {
        self.expires_at
    }

    /// `expires_at` as it was written and signed.
    pub fn expires_at_text(&self) -> &str {
        &self.texts[4]
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The bytes that are signed: `approval_id + tenant_id + action_hash + issued_at + expires_at`
    /// in UTF-8, without separators.
    pub fn signed_message(&self) -> Vec<u8> {
        self.texts[..5].concat().into_bytes()
    }

    /// The artifact as it was given, for the claim record.
    pub fn to_value(&self) -> Value {
        let texts = self.texts.iter().cloned().map(Value::String);
        object(FIELDS.into_iter().zip(texts)).into()
    }

    /// Reads one artifact; `place` says where it stands, for the sentence.
    fn read(given: &Object, place: &str) -> Result<Self, String> {
        let text = |field: &str| match given.get(field) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(format!("{place}.{field} is not a string")),
            None => Err(format!("{place}.{field} is missing")),
        };
        let wrong = |field: &str, form: &str| format!("{place}.{field} is not {form}");
        let moment = |field: &str| {
            Time::parse(text(field)?).ok_or_else(|| {
                wrong(field, "a time YYYY-MM-DDTHH:MM:SS, optionally with . and 1 to 9 digits, and Z or +00:00")
            })
        };
        if !is_uuid(text("approval_id")?) {
            return Err(wrong("approval_id", "a UUID of 36 lower-case characters"));
        }
        text("tenant_id")?;
        let artifact = Artifact {
            action_hash: hash::unhex(text("action_hash")?)
                .ok_or_else(|| wrong("action_hash", "64 lower-case hexadecimal digits"))?,
            issued_at: moment("issued_at")?,
            expires_at: moment("expires_at")?,
            signature: read_signature(text("signature")?)
                .map_err(|why| format!("{place}.signature {why}"))?,
            texts: FIELDS.map(|field| text(field).unwrap_or_default().to_owned()),
        };
        match given.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            None => Ok(artifact),
            Some(name) => Err(match printable(name) {
                true => format!("{place} has the unknown field '{name}'"),
                false => format!("{place} has an unknown field"),
            }),
        }
    }
}

/// Reads strict base64 of a signature.
///
/// # Errors
/// What is wrong, to stand behind "the signature".
pub(crate) fn read_signature(text: &str) -> Result<Signature, &'static str> {
    Signature::read(&base64::decode(text).ok_or("is not standard base64 with padding")?)
}

/// A UUID (RFC 9562, section 4) of any version: 8-4-4-4-12 digits in lower case.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Whether a field's name may be repeated in a sentence: short, and nothing that a terminal or a
/// log would take for something else. A misplaced signature, 88 characters, is too long.
fn printable(name: &str) -> bool {
    name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Without the signature, which belongs in no log.
impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact")
            .field("approval_id", &self.approval_id())
            .field("tenant_id", &self.tenant_id())
            .finish_non_exhaustive()
    }
}
