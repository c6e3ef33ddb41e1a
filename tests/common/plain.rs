//! A handler that does nothing: tests and benches take it and say what is different.

use openexec::core::json::Object;
use openexec::handlers::{Effect, Handler, always, needs_nothing, nowhere};

pub const PLAIN: Handler = Handler {
    action: "plain",
    summary: "For tests.",
    effect: Effect::Pure,
    payload_schema: r#"{"type":"object","properties":{}}"#,
    result_schema: r#"{"type":"object"}"#,
    result_bytes_max: 4096,
    offered: always,
    ready: needs_nothing,
    check: &|_, _| Ok(()),
    place: nowhere,
    run: &|_, _| Ok(Object::new()),
};
