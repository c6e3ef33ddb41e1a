//! `echo` and `add`: the two actions of the first OpenExec service. Both are pure.

use super::schema::Schema;
use super::{Call, Effect, Failure, Handler, Settings, always, needs_nothing, nowhere};
use crate::core::json::{Object, Value, object};
use crate::core::limits::RESULT_BYTES_MAX;

static ADD_SCHEMA: Schema = Schema::of(ADD.payload_schema, &[]);

pub const ECHO: Handler = Handler {
    action: "echo",
    summary: "Returns its payload.",
    effect: Effect::Pure,
    payload_schema: r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{}}"#,
    result_schema: r#"{"type":"object","properties":{"echo":{"type":"object"}},"required":["echo"],"additionalProperties":false}"#,
    result_bytes_max: RESULT_BYTES_MAX,
    offered: always,
    ready: needs_nothing,
    check: &|_, _| Ok(()),
    place: nowhere,
    run: &echo,
};

/// Of two numbers up to (2^53 - 1 - 1) / 2 the sum is still one that every parser reads alike.
pub const ADD: Handler = Handler {
    action: "add",
    summary: "Adds two numbers.",
    payload_schema: include_str!("schemas/add.json"),
    result_schema: include_str!("schemas/sum.json"),
    result_bytes_max: 64,
    check: &|payload, _| ADD_SCHEMA.check(payload),
    run: &add,
    ..ECHO
};

fn echo(call: &Call, _: &Settings) -> Result<Object, Failure> {
    Ok(object([("echo", Value::Object(call.payload.clone()))]))
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
    Ok(object([("sum", sum)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::json::canonical;
    use crate::handlers::{Payload, PayloadError};

    fn sum_of(payload: &str) -> Result<String, PayloadError> {
        let payload: Payload = serde_json::from_str(payload).expect("test payload");
        ADD_SCHEMA.check(&payload)?;
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
