//! The part of JSON Schema (2020-12) in which declared actions say what their payloads are, and what is wrong with a
//! schema that is not of it.
//!
//! ```json
//! {"type": "object", "additionalProperties": false, "required": ["amount", "currency"],
//!  "properties": {
//!    "amount": {"type": "integer", "minimum": 1, "maximum": 50000,
//!      "x-display": "money", "x-currency": "currency", "x-exponents": {"EUR": 2, "JPY": 0}},
//!    "currency": {"enum": ["EUR", "JPY"]}}}
//! ```
//!
//! Invariant: of a schema without a fault every rule is judged ([`super::schema`]), every rule can be broken, and some
//! payload breaks none. An object takes no field that the schema does not name: an approver would see it, and nobody
//! would have said what it means.

use super::outside;
use super::schema::{judge, list};
use crate::core::caller::texts;
use crate::core::json::{Object, Value};
use crate::core::limits::{JSON_VALUES_MAX, PAYLOAD_BYTES_MAX};

/// Where in a document (a JSON pointer, RFC 6901), and what is wrong there.
pub type Fault = (String, String);

/// How an approver is shown a value.
pub const DISPLAY: [&str; 3] = ["x-display", "x-currency", "x-exponents"];
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
/// Of a schema that is wrong all over, so many faults are told, and so much of each.
pub const FAULTS_MAX: usize = 50;
const FAULT_CHARS_MAX: usize = 200;
/// Digits of an amount behind the point.
const EXPONENT_MAX: u64 = 18;

/// A keyword: of values of which types it says something (none: of all), what it takes, and how that is said.
type Keyword = (&'static str, &'static [&'static str], fn(&Value) -> bool, &'static str);

const NUMBERS: &[&str] = &["integer", "number"];
const TEXT: &str = "must be a text without control characters but line breaks and tabs";
const SIZE: &str = "must be a whole number, and no more than a payload can have";

const KEYWORDS: &[Keyword] = &[
    ("type", &[], is_type, "must be array, boolean, integer, null, number, object or string"),
    ("title", &[], is_text, TEXT),
    ("description", &[], is_text, TEXT),
    ("enum", &[], |rule| !list(Some(rule)).is_empty(), "must be an array of at least one value"),
    ("const", &[], |_| true, ""),
    ("properties", &["object"], Value::is_object, "must be an object of schemas"),
    ("required", &["object"], is_set_of_names, "must be an array of names, each once"),
    ("additionalProperties", &["object"], |rule| rule == false, "must be false"),
    ("items", &["array"], Value::is_object, "must be a schema: a JSON object"),
    ("minItems", &["array"], |rule| is_size(rule, JSON_VALUES_MAX), SIZE),
    ("maxItems", &["array"], |rule| is_size(rule, usize::MAX), SIZE),
    ("minLength", &["string"], |rule| is_size(rule, PAYLOAD_BYTES_MAX), SIZE),
    ("maxLength", &["string"], |rule| is_size(rule, usize::MAX), SIZE),
    ("minimum", NUMBERS, Value::is_number, "must be a number"),
    ("maximum", NUMBERS, Value::is_number, "must be a number"),
    ("x-display", &["string"], |rule| rule == "text", "of a string can only be text"),
    ("x-display", &["integer"], |rule| rule == "money", "of an integer can only be money"),
    ("x-currency", &["integer"], Value::is_string, "must be the name of a property"),
    ("x-exponents", &["integer"], is_exponents, "must have 0 to 18 for each currency"),
];
/// Beside a keyword of that value, or of any (empty), which other has to be there.
const NEEDED: [(&str, &str, &str); 7] = [
    ("type", "object", "properties"),
    ("type", "object", "additionalProperties"),
    ("type", "array", "items"),
    ("x-display", "money", "x-currency"),
    ("x-display", "money", "x-exponents"),
    ("x-currency", "", "x-display"),
    ("x-exponents", "", "x-display"),
];
const BOUNDS: [(&str, &str); 3] =
    [("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")];

/// Everything that is wrong with the schema of a payload, which lies at `place`.
pub fn faults(schema: &Value, place: &str) -> Vec<Fault> {
    let mut faults = Faults(Vec::new());
    if schema["type"] == "object" {
        faults.of(schema, place, &Object::new());
    } else {
        faults.say(place, "must be a schema with \"type\":\"object\": a payload is an object");
    }
    faults.0
}

struct Faults(Vec<Fault>);

impl Faults {
    fn say(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.0.push((place.into(), what.into().chars().take(FAULT_CHARS_MAX).collect()));
    }

    /// `siblings`: the properties that the schema is one of.
    fn of(&mut self, schema: &Value, place: &str, siblings: &Object) {
        let Some(rules) = schema.as_object() else {
            return self.say(place, "must be a schema: a JSON object");
        };
        let before = self.0.len();
        let kind = rules.get("type").and_then(Value::as_str).unwrap_or_default();
        for (keyword, rule) in rules {
            self.keyword(keyword, rule, kind, &format!("{place}/{}", escaped(keyword)));
        }
        for (keyword, value, needed) in NEEDED {
            let is_said = |rule: &Value| value.is_empty() || rule == value;
            if rules.get(keyword).is_some_and(is_said) && !rules.contains_key(needed) {
                self.say(place, format!("needs {needed}, for it has {keyword} {value}"));
            }
        }
        if ["type", "enum", "const"].iter().all(|needed| !rules.contains_key(*needed)) {
            self.say(place, "needs type, enum or const: without one it would take anything");
        }
        // Rules that are none mean nothing together.
        if self.0.len() == before {
            self.together(schema, rules, place);
            self.money(rules, place, siblings);
        }
        let properties = rules.get("properties").and_then(Value::as_object);
        for (name, inner) in properties.into_iter().flatten() {
            let place = format!("{place}/properties/{}", escaped(name));
            self.of(inner, &place, properties.unwrap_or(siblings));
        }
        if let Some(items) = rules.get("items") {
            self.of(items, &format!("{place}/items"), &Object::new());
        }
    }

    fn keyword(&mut self, keyword: &str, rule: &Value, kind: &str, place: &str) {
        let mut types = Vec::new();
        for (_, of, takes, wanted) in KEYWORDS.iter().filter(|known| known.0 == keyword) {
            if of.is_empty() || of.contains(&kind) {
                if !takes(rule) {
                    self.say(place, *wanted);
                }
                return;
            }
            types.extend_from_slice(of);
        }
        match types.is_empty() {
            true => self.say(place, "is no keyword that a declared action may have"),
            false => self.say(place, format!("is only for the type {}", types.join(" or "))),
        }
    }

    /// Whether some value keeps to all of the rules, and each value that they list does.
    fn together(&mut self, schema: &Value, rules: &Object, place: &str) {
        let number = |name| rules.get(name).and_then(Value::as_f64);
        for (least, most) in BOUNDS {
            let (Some(low), Some(high)) = (number(least), number(most)) else { continue };
            if low > high || schema["type"] == "integer" && low.ceil() > high {
                let what = format!("leaves nothing up to {most}: no value can satisfy both");
                self.say(format!("{place}/{least}"), what);
            }
        }
        for (at, name) in list(rules.get("required")).iter().enumerate() {
            if name.as_str().is_none_or(|name| schema["properties"].get(name).is_none()) {
                let what = "is none of properties: no payload can satisfy both";
                self.say(format!("{place}/required/{at}"), what);
            }
        }
        let mut others = schema.clone();
        others.as_object_mut().map(|rules| rules.remove("enum"));
        let listed = list(rules.get("enum")).iter().enumerate();
        let listed = listed.map(|(at, value)| (&others, format!("{place}/enum/{at}"), value));
        let only = rules.get("const").map(|value| (schema, format!("{place}/const"), value));
        for (schema, place, value) in listed.chain(only) {
            if let Err((_, says)) = judge(schema, value, true) {
                self.say(place, says + ": no value can satisfy both");
            }
            if self.0.len() >= FAULTS_MAX {
                return;
            }
        }
    }

    /// An amount can be shown: its currency stands beside it, and has an exponent.
    fn money(&mut self, rules: &Object, place: &str, siblings: &Object) {
        let exponents = rules.get("x-exponents").and_then(Value::as_object);
        let currency = rules.get("x-currency").and_then(Value::as_str);
        let (Some(exponents), Some(currency)) = (exponents, currency) else { return };
        let null = Value::Null;
        let of = siblings.get(currency).unwrap_or(&null);
        let mut listed = list(of.get("enum")).iter().chain(of.get("const")).peekable();
        if of["type"] != "string" && listed.peek().is_none() {
            self.say(format!("{place}/x-currency"), "names no string beside this property");
        }
        let is_unknown =
            |value: &&Value| value.as_str().is_none_or(|name| !exponents.contains_key(name));
        if let Some(unknown) = listed.find(is_unknown) {
            self.say(format!("{place}/x-exponents"), format!("lacks the currency {unknown}"));
        }
    }
}

/// A name as a JSON pointer has it.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn is_type(rule: &Value) -> bool {
    rule.as_str().is_some_and(|name| TYPES.contains(&name))
}

fn is_text(rule: &Value) -> bool {
    rule.as_str().is_some_and(|text| !text.contains(outside::is_control))
}

fn is_set_of_names(rule: &Value) -> bool {
    texts(rule, |_| true).is_some_and(|names| Some(names.len()) == rule.as_array().map(Vec::len))
}

fn is_size(rule: &Value, most: usize) -> bool {
    rule.as_u64().is_some_and(|size| size <= most as u64)
}

fn is_exponents(rule: &Value) -> bool {
    let is_one = |exponent: &Value| exponent.as_u64().is_some_and(|digits| digits <= EXPONENT_MAX);
    rule.as_object().is_some_and(|of| !of.is_empty() && of.values().all(is_one))
}
