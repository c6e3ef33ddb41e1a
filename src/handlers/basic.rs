//! `echo` and `add`: the two actions of the first OpenExec service. Both are pure.

use super::fields::{self, refuse};
use super::{
    Call, Effect, Failure, Handler, Payload, PayloadError, Settings, always, needs_nothing, nowhere,
};
use crate::core::json::{Object, Value};
use crate::core::limits::RESULT_BYTES_MAX;

/// (2^53 - 1 - 1) / 2: the sum of two such numbers is still one that every parser reads alike.
const TERM_MAX: f64 = 4_503_599_627_370_495.0;

pub const ECHO: Handler = Handler {
    action: "echo",
    summary: "Returns its payload.",
    effect: Effect::Pure,
    payload_schema: r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{}}"#,
    result_schema: r#"{"type":"object","properties":{"echo":{"type":"object"}},"required":["echo"],"additionalProperties":false}"#,
    result_bytes_max: RESULT_BYTES_MAX,
    offered: always,
    ready: needs_nothing,
    check: any_payload,
    place: nowhere,
    run: echo,
};

pub const ADD: Handler = Handler {
    action: "add",
    summary: "Adds two numbers.",
    effect: Effect::Pure,
    payload_schema: r#"{
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "a": {"type": "number", "default": 0,
                  "minimum": -4503599627370495, "maximum": 4503599627370495},
            "b": {"type": "number", "default": 0,
                  "minimum": -4503599627370495, "maximum": 4503599627370495}
        },
        "additionalProperties": false
    }"#,
    result_schema: r#"{"type":"object","properties":{"sum":{"type":"number"}},"required":["sum"],"additionalProperties":false}"#,
    result_bytes_max: 64,
    offered: always,
    ready: needs_nothing,
    check: two_terms,
    place: nowhere,
    run: add,
};

fn any_payload(_: &Payload, _: &Settings) -> Result<(), PayloadError> {
    Ok(())
}

fn echo(call: &Call, _: &Settings) -> Result<Object, Failure> {
    let mut result = Object::new();
    result.insert("echo".to_owned(), Value::Object(call.payload.clone()));
    Ok(result)
}

fn two_terms(payload: &Payload, _: &Settings) -> Result<(), PayloadError> {
    fields::only(payload, &["a", "b"])?;
    for name in ["a", "b"] {
        let fits = match payload.get(name) {
            None => true,
            Some(value) => value.as_f64().is_some_and(|term| term.abs() <= TERM_MAX),
        };
        if !fits {
            return refuse(format!("{name} must be a number of magnitude at most {TERM_MAX}"));
        }
    }
    Ok(())
}

/// Exact for integers; for others the nearest double, as IEEE 754 adds.
fn add(call: &Call, _: &Settings) -> Result<Object, Failure> {
    let zero = Value::from(0);
    let a = call.payload.get("a").unwrap_or(&zero);
    let b = call.payload.get("b").unwrap_or(&zero);
    let sum = match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => Value::from(a + b),
        _ => Value::from(a.as_f64().unwrap_or(0.0) + b.as_f64().unwrap_or(0.0)),
    };
    let mut result = Object::new();
    result.insert("sum".to_owned(), sum);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::json::canonical;

    fn sum_of(payload: &str) -> Result<String, PayloadError> {
        let payload: Payload = serde_json::from_str(payload).expect("test payload");
        two_terms(&payload, &Settings::default())?;
        let call = Call {
            id: "",
            action: "add",
            nonce: "n",
            payload: &payload,
            approval_ids: &[],
            place: None,
            again: false,
        };
        let result = add(&call, &Settings::default()).expect("add never fails");
        Ok(canonical::to_string(&Value::Object(result)))
    }

    #[test]
    fn sums() {
        assert_eq!(sum_of(r#"{"a":2,"b":3}"#).unwrap(), r#"{"sum":5}"#);
        assert_eq!(sum_of("{}").unwrap(), r#"{"sum":0}"#);
        assert_eq!(sum_of(r#"{"a":0.1,"b":0.2}"#).unwrap(), r#"{"sum":0.30000000000000004}"#);
        let largest = r#"{"a":4503599627370495,"b":4503599627370495}"#;
        assert_eq!(sum_of(largest).unwrap(), r#"{"sum":9007199254740990}"#);
    }

    #[test]
    fn what_is_not_two_numbers_is_refused() {
        for bad in [
            r#"{"a":"1"}"#,
            r#"{"a":null}"#,
            r#"{"a":true}"#,
            r#"{"b":[1]}"#,
            r#"{"a":4503599627370496}"#,
            r#"{"a":1,"c":2}"#,
        ] {
            assert!(sum_of(bad).is_err(), "{bad}");
        }
    }
}
