//! `POST /receipts/verify`: whether a receipt holds, and whether this store has it.

use serde_json::json;

use super::{Next, said};
use crate::core::caller::Who;
use crate::core::hash::{hex, unhex};
use crate::core::json::{Value, canonical, strict};
use crate::core::limits::{JSON_OBJECT_VALUES, JSON_VALUES_MAX, RECORD_DEPTH_MAX};
use crate::core::problem::Problem;
use crate::core::receipt::receipt;
use crate::serve::front::request::{invalid, object, only};
use crate::serve::queue::Job;
use crate::serve::records::recorded;

/// The executor is asked only for a receipt whose hash holds.
pub fn next(body: &[u8], who: Who) -> Result<Next, Problem> {
    // Around a result of as many values as are accepted stand those of the question.
    let values_max = JSON_VALUES_MAX + 2 * JSON_OBJECT_VALUES;
    let mut body = object(strict::read_within(body, 0, RECORD_DEPTH_MAX, values_max))?;
    let result = body.remove("result");
    let text = |name: &str| match body.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        _ => Err(invalid(format!("{name} must be a string"))),
    };
    let (id, given) = (text("exec_id")?, text("receipt")?);
    let result = match result {
        Some(Value::String(text)) => strict::read(text.as_bytes(), RECORD_DEPTH_MAX).ok(),
        Some(object @ Value::Object(_)) => Some(object),
        _ => return Err(invalid("result must be an object or a string of JSON text")),
    };
    only(&body, &["exec_id", "receipt", "result"])?;
    let expected = result.map(|result| receipt(id, &canonical::to_string(&result)));
    Ok(match expected.filter(|expected| hex(expected) == given) {
        // An id that is no hash can have a valid receipt, but never a recorded one.
        Some(receipt) => {
            let id = unhex(id).unwrap_or_default();
            Next::Ask(Job::Ask(Box::new(move |e| recorded(e, &id, &receipt, &who).into())))
        }
        None => said(&json!({"recorded": false, "valid": false})),
    })
}
