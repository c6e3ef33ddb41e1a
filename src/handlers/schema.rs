//! A payload held to its JSON Schema (2020-12), as far as that is judged here: one text is what agents are shown and what
//! is checked.
//!
//! ```json
//! {"type": "object", "properties": {"amount": {"type": "integer", "minimum": 1}},
//!  "required": ["amount"], "additionalProperties": false}
//! ```
//!
//! Invariant: no rule is passed over in silence. A schema with a keyword or a pattern that this file does not list, and
//! of which its handler does not say that its own code judges it, refuses every payload.

use std::sync::OnceLock;

use super::{Payload, PayloadError, mail, outbox, subset};
use crate::core::hash::unhex;
use crate::core::json::{Object, Value, canonical, strict};
use crate::core::limits::JSON_DEPTH_MAX;

/// What is judged, each by JSON Schema's own rule; `type` is one name, `additionalProperties` is false.
pub const JUDGED: &str = "additionalProperties const enum items maxItems maxLength maximum minItems minLength minimum \
                          pattern properties required type";
/// What says nothing of a payload.
pub const ANNOTATIONS: &str = "$schema default description title";
/// There are no regular expressions here. These are known by their text: what each means, and how a refusal says it.
pub type Pattern = (&'static str, fn(&str) -> bool, &'static str);
pub const PATTERNS: [Pattern; 4] = [
    (
        r"^[^\x00-\x1f\x7f-\x9f]*$",
        |text| !text.contains(char::is_control),
        "must be free of control characters",
    ),
    ("^[0-9a-f]{64}$", |text| unhex(text).is_some(), "must be 64 lower-case hexadecimal digits"),
    ("^[A-Za-z0-9_-]{1,64}$", outbox::is_queue_name, "must be 1 to 64 of A-Za-z0-9_-"),
    (mail::ADDRESS, mail::is_address, "must be an address of the form a.b@c.d"),
];
/// How much of an unknown field's name its refusal repeats.
const NAME_CHARS_SHOWN_MAX: usize = 64;

/// A schema's text, read when it is first asked.
pub struct Schema {
    text: &'static str,
    own: &'static [&'static str],
    /// Whether null means absent for a property that is not required: models write it where they have nothing to say.
    drops_nulls: bool,
    rules: OnceLock<Option<Object>>,
}

/// Where in the payload, as `.to[3]`, and what is wrong there.
type Fault = (String, String);

impl Schema {
    /// `own`: the keywords that the handler's own code judges.
    pub const fn of(text: &'static str, own: &'static [&'static str]) -> Self {
        Schema { text, own, drops_nulls: false, rules: OnceLock::new() }
    }

    /// Of a declared action, in which [`subset`] found no fault.
    pub const fn declared(text: &'static str) -> Self {
        let rules = OnceLock::new();
        Schema { text, own: &subset::DISPLAY, drops_nulls: true, rules }
    }

    /// Holds a payload to it.
    ///
    /// # Errors
    /// The first rule that is broken: a sentence that names the field and never repeats its value.
    pub fn check(&self, payload: &Payload) -> Result<(), PayloadError> {
        let Some(rules) = self.rules.get_or_init(|| self.read()) else {
            return Err(PayloadError(
                "the action's schema has a rule that is not known".to_owned(),
            ));
        };
        members(rules, payload, self.drops_nulls).map_err(|(place, says)| {
            PayloadError(match place.strip_prefix('.') {
                Some(place) => format!("{place} {says}"),
                None => format!("the payload {says}"),
            })
        })
    }

    /// Its rules, their values as payloads have them; `None` if one of them is not known.
    fn read(&self) -> Option<Object> {
        let mut schema = strict::read(self.text.as_bytes(), JSON_DEPTH_MAX).ok()?;
        canonical::normalise(&mut schema);
        match schema {
            Value::Object(rules) if self.knows(&rules) => Some(rules),
            _ => None,
        }
    }

    fn knows(&self, rules: &Object) -> bool {
        let is_known = |schema: &Value| schema.as_object().is_some_and(|rules| self.knows(rules));
        let listed =
            JUDGED.split(' ').chain(ANNOTATIONS.split(' ')).chain(self.own.iter().copied());
        rules.iter().all(|(keyword, rule)| match keyword.as_str() {
            "properties" => rule.as_object().is_some_and(|named| named.values().all(is_known)),
            "items" => is_known(rule),
            "pattern" => pattern(rule).is_some(),
            "additionalProperties" => rule == false,
            keyword => listed.clone().any(|known| known == keyword),
        })
    }
}

/// The rules about an object's members.
fn members(rules: &Object, object: &Object, drops_nulls: bool) -> Result<(), Fault> {
    let named = rules.get("properties").and_then(Value::as_object);
    let required = list(rules.get("required"));
    let is_absent = |name: &str, value: &Value| {
        drops_nulls && value.is_null() && required.iter().all(|other| other != name)
    };
    let is_closed = rules.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, value) in object {
        match named.and_then(|named| named.get(name)) {
            Some(_) if is_absent(name, value) => {}
            Some(schema) => within(format!(".{name}"), judge(schema, value, drops_nulls))?,
            None if is_closed => {
                let shown: String = name.chars().take(NAME_CHARS_SHOWN_MAX).collect();
                let fault = format!("has a field {shown:?} that its schema does not have");
                return Err((String::new(), fault));
            }
            None => {}
        }
    }
    match required.iter().filter_map(Value::as_str).find(|name| !object.contains_key(*name)) {
        Some(name) => Err((format!(".{name}"), "is missing".to_owned())),
        None => Ok(()),
    }
}

pub(super) fn judge(schema: &Value, value: &Value, drops_nulls: bool) -> Result<(), Fault> {
    let Value::Object(rules) = schema else { return Ok(()) };
    if let Value::Object(object) = value {
        members(rules, object, drops_nulls)?;
    }
    for (keyword, rule) in rules {
        let holds = match (keyword.as_str(), value) {
            ("type", _) => is_of(rule, value),
            ("const", _) => value == rule,
            ("enum", _) => list(Some(rule)).contains(value),
            ("minimum", Value::Number(number)) => number.as_f64() >= rule.as_f64(),
            ("maximum", Value::Number(number)) => number.as_f64() <= rule.as_f64(),
            ("minLength", Value::String(text)) => text.chars().count() >= size(rule),
            ("maxLength", Value::String(text)) => text.chars().count() <= size(rule),
            ("minItems", Value::Array(items)) => items.len() >= size(rule),
            ("maxItems", Value::Array(items)) => items.len() <= size(rule),
            ("pattern", Value::String(text)) => {
                pattern(rule).is_some_and(|(_, matches, _)| matches(text))
            }
            ("items", Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    within(format!("[{at}]"), judge(rule, item, drops_nulls))?;
                }
                true
            }
            // It is no rule, or one about another type.
            _ => true,
        };
        if !holds {
            let says = match keyword.as_str() {
                "enum" => "is none of those that its schema lists".to_owned(),
                "pattern" => pattern(rule).map_or("", |(.., says)| says).to_owned(),
                _ => format!("does not keep to {keyword} {rule} of its schema"),
            };
            return Err((String::new(), says));
        }
    }
    Ok(())
}

/// A verdict, seen from the value that has the judged one at this place.
fn within(place: String, judged: Result<(), Fault>) -> Result<(), Fault> {
    judged.map_err(|(inner, says)| (place + &inner, says))
}

fn is_of(name: &Value, value: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    }
}

fn pattern(rule: &Value) -> Option<&Pattern> {
    PATTERNS.iter().find(|(text, ..)| rule == text)
}

pub(super) fn list(rule: Option<&Value>) -> &[Value] {
    rule.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn size(rule: &Value) -> usize {
    rule.as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(0)
}
