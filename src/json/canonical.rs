//! RFC 8785 (placeholder until the writer lands).
use super::Value;
pub fn to_string(value: &Value) -> String {
    value.to_string()
}
pub fn write_string(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}
