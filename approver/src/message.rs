//! What is signed: the message of an approval or a rejection, and the object that it becomes with its signature.
//!
//! An approval's message is the one that the service's own reader makes of it ([`artifact`]), so that nothing is
//! signed that it would not read.

use openexec::core::approval::artifact;
use openexec::core::base64;
use openexec::core::hash::{self, Hash, hex};
use openexec::core::json::{Object, Value, canonical, strict};
use openexec::core::limits::JSON_DEPTH_MAX;
use openexec::core::time::Time;
use openexec::sys::exit::Failure;
use openexec::sys::random;

use crate::refused;

/// The line that a rejection's message begins with.
const REJECTION: &str = "openexec-rejection-v1\n";
const REJECTION_FIELDS: [&str; 5] =
    ["exec_id", "issued_at", "justification", "rejection_id", "tenant_id"];
/// A time as we write it, `2026-01-02T03:04:05.000000Z`.
const TIME_BYTES: usize = 27;
const ID_BYTES: usize = 36;
const HASH_BYTES: usize = 64;

/// A statement without its signature.
pub struct Unsigned {
    fields: Object,
    message: Vec<u8>,
}

impl Unsigned {
    /// # Errors
    /// 65 where the service would not read it, as with a time beyond the year 9999.
    pub fn approval(
        tenant: &str,
        hash: &Hash,
        issued: Time,
        expires: Time,
    ) -> Result<Self, Failure> {
        let [issued, expires] = [issued, expires].map(|time| time.to_string());
        Self::of_approval([&fresh_id()?, tenant, &hex(hash), &issued, &expires])
    }

    fn of_approval(texts: [&str; 5]) -> Result<Self, Failure> {
        let names = ["approval_id", "tenant_id", "action_hash", "issued_at", "expires_at"];
        let mut fields = object(names, texts);
        let unsigned = Value::String(base64::encode(&[0; 64]));
        fields.insert("signature".to_owned(), unsigned);
        let value = Value::Object(fields);
        let message = match artifact::parse(&value).as_deref() {
            Ok([artifact]) => artifact.signed_message(),
            Ok(_) => return Err(refused("an approval would be several")),
            Err(fault) => return Err(refused(fault.to_string())),
        };
        let Value::Object(fields) = value else { return Err(refused("an approval is an object")) };
        Ok(Unsigned { fields, message })
    }

    pub fn rejection(tenant: &str, id: &Hash, issued: Time, why: &str) -> Result<Self, Failure> {
        let (rejection_id, issued) = (fresh_id()?, issued.to_string());
        let texts = [&hex(id), issued.as_str(), why, &rejection_id, tenant];
        Ok(Self::of_rejection(object(REJECTION_FIELDS, texts)))
    }

    fn of_rejection(fields: Object) -> Self {
        let text = canonical::to_string(&Value::Object(fields.clone()));
        Unsigned { fields, message: format!("{REJECTION}{text}").into_bytes() }
    }

    /// What was printed before, to be signed elsewhere.
    ///
    /// # Errors
    /// 65 where it is no message of this program.
    pub fn of_message(message: &[u8]) -> Result<Self, Failure> {
        let ours = || refused("the message is none that --print-message printed");
        let text = std::str::from_utf8(message).map_err(|_| ours())?;
        let read = match text.strip_prefix(REJECTION) {
            Some(json) => match strict::read(json.as_bytes(), JSON_DEPTH_MAX) {
                Ok(Value::Object(fields))
                    if fields.keys().map(String::as_str).eq(REJECTION_FIELDS)
                        && fields.values().all(Value::is_string) =>
                {
                    Self::of_rejection(fields)
                }
                _ => return Err(ours()),
            },
            None => {
                let (rest, expires) = split_end(text, TIME_BYTES).ok_or_else(ours)?;
                let (rest, issued) = split_end(rest, TIME_BYTES).ok_or_else(ours)?;
                let (rest, hash) = split_end(rest, HASH_BYTES).ok_or_else(ours)?;
                let (id, tenant) = rest.split_at_checked(ID_BYTES).ok_or_else(ours)?;
                Self::of_approval([id, tenant, hash, issued, expires])?
            }
        };
        if read.message == message { Ok(read) } else { Err(ours()) }
    }

    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// A field; empty where it has none of this name.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Canonical JSON of the statement with its signature.
    pub fn signed(mut self, signature: &[u8]) -> String {
        let signature = Value::String(base64::encode(signature));
        self.fields.insert("signature".to_owned(), signature);
        canonical::to_string(&Value::Object(self.fields))
    }
}

fn object<const N: usize>(names: [&str; N], texts: [&str; N]) -> Object {
    let texts = texts.map(|text| Value::String(text.to_owned()));
    names.map(str::to_owned).into_iter().zip(texts).collect()
}

fn split_end(text: &str, bytes: usize) -> Option<(&str, &str)> {
    text.split_at_checked(text.len().checked_sub(bytes)?)
}

/// A version 4 UUID (RFC 9562, section 5.4).
fn fresh_id() -> Result<String, Failure> {
    let mut random =
        random::bytes().map_err(|error| Failure::io("/dev/urandom".to_owned(), &error))?;
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let digits = hash::hex(&random);
    Ok([&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_is_read_back_and_nothing_else_is() {
        let now = Time::parse("2026-03-01T12:00:00.5Z").expect("a time");
        let approval = Unsigned::approval("t1", &[7; 32], now, now.plus_seconds(9)).expect("one");
        let rejection = Unsigned::rejection("t1", &[7; 32], now, "too\n\u{202e}much").expect("one");
        for made in [approval, rejection] {
            let read = Unsigned::of_message(made.message()).expect("ours");
            assert_eq!(read.fields, made.fields);
            for at in 0..made.message().len() {
                let mut other = made.message().to_vec();
                other.remove(at);
                // A shorter tenant or text of another statement is one; it is not this one.
                if let Ok(read) = Unsigned::of_message(&other) {
                    assert_ne!(read.fields, made.fields);
                }
            }
        }
        for bad in ["", "x", "openexec-rejection-v1\n{}", "openexec-rejection-v1\n{\"exec_id\":1}"]
        {
            assert!(Unsigned::of_message(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_service_would_not_read_is_not_signed() {
        let never = Time::from_micros(i64::MAX);
        let fault = Unsigned::approval("t1", &[0; 32], Time::from_micros(0), never).err();
        assert!(fault.expect("refused").text.contains("expires_at"));
    }

    #[test]
    fn an_id_is_a_version_4_uuid() {
        let (one, other) = (fresh_id().expect("an id"), fresh_id().expect("an id"));
        assert_ne!(one, other);
        assert!(one.len() == 36 && &one[14..15] == "4" && "89ab".contains(&one[19..20]), "{one}");
    }
}
