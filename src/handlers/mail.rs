//! `send_email`: an email as a job of the queue `send_email`.
//!
//! Invariant: no address and no subject that passes here can end a header line, start another, be
//! read as an option by a mailer's command line, or name more than one mailbox. Addresses are the
//! dot-string form of RFC 5321, section 4.1.2, in ASCII, within the limits of its section 4.5.3.1:
//! no quoted strings, comments, routes or address literals.

use super::outbox::{ENQUEUE, put};
use super::schema::Schema;
use super::{Handler, Payload, PayloadError};
use crate::core::json::Value;

/// A forward path of 256 octets (RFC 5321, section 4.5.3.1.3), less its angle brackets.
const ADDRESS_BYTES_MAX: usize = 254;
const LOCAL_PART_BYTES_MAX: usize = 64;
const DOMAIN_LABEL_BYTES_MAX: usize = 63;
/// The least that every server takes (RFC 5321, section 4.5.3.1.8).
const RECIPIENTS_MAX: usize = 100;

/// The pattern of an address, which leaves lengths and hyphens to [`is_address`].
pub const ADDRESS: &str = r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+([.][A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$";

static SCHEMA: Schema = Schema::of(SEND_EMAIL.payload_schema, &["not", "if", "else"]);

pub const SEND_EMAIL: Handler = Handler {
    action: "send_email",
    summary: "Queues an email for the operator's mailer, which sets the sender.",
    payload_schema: include_str!("schemas/send_email.json"),
    check: &|payload, _| check(payload),
    run: &|call, settings| put(call, settings, check(call.payload).map(|()| "send_email")),
    ..ENQUEUE
};

fn check(payload: &Payload) -> Result<(), PayloadError> {
    SCHEMA.check(payload)?;
    let lists = ["to", "cc", "bcc"].iter().filter_map(|name| payload.get(*name));
    let recipients: usize = lists.filter_map(Value::as_array).map(Vec::len).sum();
    if recipients > RECIPIENTS_MAX {
        let sentence = format!("to, cc and bcc may have {RECIPIENTS_MAX} addresses together");
        return Err(PayloadError(sentence));
    }
    if !payload.contains_key("text") && !payload.contains_key("html") {
        return Err(PayloadError("text and html are both missing".to_owned()));
    }
    Ok(())
}

pub fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    text.len() <= ADDRESS_BYTES_MAX
        && local.len() <= LOCAL_PART_BYTES_MAX
        // Where a worker passes it on as an argument, it must not look like an option.
        && !local.starts_with('-')
        && local.split('.').all(is_atom)
        && domain.split('.').all(is_label)
}

/// RFC 5322, section 3.2.3.
fn is_atom(text: &str) -> bool {
    let is_atext =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-".contains(&byte);
    !text.is_empty() && text.bytes().all(is_atext)
}

/// RFC 1034, section 3.5, with the leading digit of RFC 1123, section 2.1.
fn is_label(text: &str) -> bool {
    (1..=DOMAIN_LABEL_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
