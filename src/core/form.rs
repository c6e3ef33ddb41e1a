//! The forms that a field's text must have in a record, beside its type (design section 8).

use super::caller::RIGHTS;
use super::hash::unhex;
use super::json::{Value, canonical, strict};
use super::limits::{ARTIFACTS_MAX, KEY_NAME_BYTES_MAX, RECORD_DEPTH_MAX};
use super::line::Spelled;
use super::receipt::is_action_name;
use super::time::Time;

/// The name of a key or of a caller: it goes into records, answers and logs.
pub fn is_name(name: &str) -> bool {
    (1..=KEY_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && name.trim() == name
}

/// A word that says why something was refused.
pub(super) fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// What begins as an object. Opening looks no further into it: that takes as long as all the rest, and
/// is the audit's.
pub(super) fn is_object(text: &str) -> bool {
    text.starts_with('{')
}

/// At least one code, each with how often.
pub(super) fn is_count(text: &str) -> bool {
    holds(text, |count| {
        is_map(count, |code, n| is_code(code) && n.as_u64() > Some(0)) && text != "{}"
    })
}

pub(super) fn is_allowed(text: &str) -> bool {
    holds(text, |allowed| allowed.is_null() || is_list(allowed, is_action))
}

pub(super) fn is_required(text: &str) -> bool {
    let is_number = |n: &Value| (1..=ARTIFACTS_MAX as u64).contains(&n.as_u64().unwrap_or(0));
    let is_of_groups =
        |needed: &Value| is_map(needed, |_, n| is_number(n)) && !is_map(needed, |_, _| false);
    let is_needed = |needed: &Value| is_number(needed) || is_of_groups(needed);
    holds(text, |required| required.is_null() || is_map(required, |_, needed| is_needed(needed)))
}

pub(super) fn is_keys(text: &str) -> bool {
    let is_key = |key: &Value| {
        let hash = |name| key[name].as_str().and_then(unhex).is_some();
        let time = |name| key[name].as_str().and_then(|text| Time::read(&format!("\"{text}\"")));
        has(
            key,
            [
                "actions",
                "application",
                "groups",
                "name",
                "not_after",
                "person",
                "public_key",
                "type",
                "verified",
            ],
        ) && (key["actions"].is_null() || is_list(&key["actions"], is_action))
            && is_text_or_null(&key["application"])
            && is_list(&key["groups"], Value::is_string)
            && key["name"].is_string()
            && (key["not_after"].is_null() || time("not_after").is_some())
            && is_text_or_null(&key["person"])
            && hash("public_key")
            && matches!(
                key["type"].as_str(),
                Some("ed25519" | "ssh-ed25519" | "sk-ssh-ed25519@openssh.com")
            )
            && key["verified"].is_boolean()
    };
    holds(text, |keys| keys.is_null() || is_list(keys, is_key))
}

pub(super) fn is_callers(text: &str) -> bool {
    let is_right = |right: &Value| right.as_str().is_some_and(|right| RIGHTS.contains(&right));
    let is_caller = |caller: &Value| {
        has(caller, ["actions", "may", "name", "person"])
            && (caller["actions"].is_null() || is_list(&caller["actions"], is_action))
            && is_list(&caller["may"], is_right)
            && caller["name"].is_string()
            && is_text_or_null(&caller["person"])
    };
    holds(text, |callers| callers.is_null() || is_list(callers, is_caller))
}

/// Whether it is the canonical text of such a value.
fn holds(text: &str, is_it: impl Fn(&Value) -> bool) -> bool {
    strict::read(text.as_bytes(), RECORD_DEPTH_MAX)
        .is_ok_and(|value| canonical::to_string(&value) == text && is_it(&value))
}

fn has<const N: usize>(value: &Value, names: [&str; N]) -> bool {
    value.as_object().is_some_and(|object| {
        object.len() == N && names.iter().all(|name| object.contains_key(*name))
    })
}

fn is_list(value: &Value, is_it: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(is_it))
}

fn is_map(value: &Value, is_it: impl Fn(&str, &Value) -> bool) -> bool {
    value.as_object().is_some_and(|map| map.iter().all(|(name, value)| is_it(name, value)))
}

fn is_action(value: &Value) -> bool {
    value.as_str().is_some_and(is_action_name)
}

fn is_text_or_null(value: &Value) -> bool {
    value.is_null() || value.is_string()
}
