//! Reading a payload into typed fields, for the built-in handlers and for a user's own.
//!
//! What is unknown, missing, of another type or out of bounds is refused with a sentence that names
//! the field and never repeats its value.

use std::ops::RangeInclusive;

use super::{Payload, PayloadError};

/// How much of an unknown field's name its refusal repeats.
const NAME_CHARS_SHOWN_MAX: usize = 64;

/// Refuses every field but the `known` ones: nothing that was approved is silently ignored.
pub fn only(payload: &Payload, known: &[&str]) -> Result<(), PayloadError> {
    match payload.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(other) => {
            let shown: String = other.chars().take(NAME_CHARS_SHOWN_MAX).collect();
            let known = known.join(", ");
            refuse(format!("the fields are {known}; {shown:?} is none of them"))
        }
    }
}

/// The field as any text.
pub fn text<'a>(payload: &'a Payload, name: &str) -> Result<Option<&'a str>, PayloadError> {
    match payload.get(name) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text)),
            None => refuse(format!("{name} must be a string")),
        },
    }
}

/// The field as a text without control characters (Unicode Cc), its length in characters bounded.
pub fn line<'a>(
    payload: &'a Payload,
    name: &str,
    chars: RangeInclusive<usize>,
) -> Result<Option<&'a str>, PayloadError> {
    let line = text(payload, name)?;
    if line.is_some_and(|line| {
        line.chars().any(char::is_control) || !chars.contains(&line.chars().count())
    }) {
        return refuse(format!(
            "{name} must have {} to {} characters, no control characters among them",
            chars.start(),
            chars.end()
        ));
    }
    Ok(line)
}

/// The field, which may not be missing.
pub fn required<T>(field: Option<T>, name: &str) -> Result<T, PayloadError> {
    field.ok_or_else(|| PayloadError(format!("{name} is missing")))
}

/// The refusal with this sentence.
pub fn refuse<T>(sentence: impl Into<String>) -> Result<T, PayloadError> {
    Err(PayloadError(sentence.into()))
}
