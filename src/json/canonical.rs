//! RFC 8785 (placeholder until the writer lands).
use super::Value;
pub fn to_string(value: &Value) -> String {
    value.to_string()
}
