//! JSON in and out: one strict reader, one canonical writer, one legacy writer.

pub mod canonical;
pub mod legacy;
pub mod strict;

pub use serde_json::Value;
/// A JSON object.
pub type Object = serde_json::Map<String, Value>;
