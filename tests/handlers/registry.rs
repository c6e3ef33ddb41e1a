//! A wrong array of handlers: the binary does not start, and says in a sentence each what is wrong.
//!
//! The binary is this test's own executable, started again, as in `crate::common::handlers`.
use crate::common::handlers::{again, end};
use crate::common::misbehaving::plain::PLAIN;
use crate::common::{Scratch, run};
use openexec::core::limits::RESULT_BYTES_MAX;
use openexec::handlers::Handler;

const REGISTRY: &str = "TEST_REGISTRY";

const GOOD: Handler = Handler { action: "good", result_bytes_max: 64, ..PLAIN };

const fn described(payload_schema: &'static str) -> Handler {
    Handler { payload_schema, ..GOOD }
}

const LONG_NAME: &str = "a2345678901234567890123456789012345678901234567890123456789012345";
const NOT_ONE_NAME: &str = "an action is 1 to 64 of A-Za-z0-9_.-";
const RESERVED: &str = "this name is reserved; choose another";
const NO_SCHEMA: &str = "payload_schema must be the text of a JSON object";
const NO_RESULT_SCHEMA: &str = "result_schema must be the text of a JSON object";
const SUMMARY: &str = "summary must be 1 to 1024 characters, none of them a control character";
const CONTROL: &str = r"a schema has a control character; spell it as \\x00 in a pattern";
const REFERS: &str = "a schema may not refer to another: no $ref, $dynamicRef, $id";
const NO_OBJECT: &str = r#"payload_schema must say "type":"object" and have "properties""#;
const PROPERTY: &str = "a property must be an object, named by 1 to 64 of A-Za-z0-9_.-";
const TOP: &str = "payload_schema may not have oneOf, anyOf, allOf, not or enum at its top";
const LACKS: &str = r#"in payload_schema an array needs "items", and an object "properties""#;
const NO_BOUND: &str = "result_bytes_max must be 1 to 1048576";

/// Each wrong array and what must be said of it, in its order.
static WRONG: &[(&[Handler], &[&str])] = &[
    (&[GOOD, GOOD], &[r#"handler "good": it is registered twice; remove one"#]),
    (&[Handler { action: "", ..GOOD }], &[NOT_ONE_NAME]),
    (&[Handler { action: "a b", ..GOOD }], &[NOT_ONE_NAME]),
    (&[Handler { action: "a/b", ..GOOD }], &[NOT_ONE_NAME]),
    (&[Handler { action: "caf\u{e9}", ..GOOD }], &[NOT_ONE_NAME]),
    (&[Handler { action: LONG_NAME, ..GOOD }], &[NOT_ONE_NAME]),
    (&[Handler { action: "denied", ..GOOD }], &[RESERVED]),
    (&[Handler { action: "failed", ..GOOD }], &[RESERVED]),
    (&[Handler { action: "indeterminate", ..GOOD }], &[RESERVED]),
    (&[Handler { action: "..", ..GOOD }], &[RESERVED]),
    (&[Handler { payload_schema: "", ..GOOD }], &[NO_SCHEMA]),
    (&[Handler { payload_schema: "{\"type\":\"object\"", ..GOOD }], &[NO_SCHEMA]),
    (&[Handler { payload_schema: "{\"a\":1,\"a\":2}", ..GOOD }], &[NO_SCHEMA]),
    (&[Handler { payload_schema: "true", ..GOOD }], &[NO_SCHEMA]),
    (&[Handler { result_schema: "", ..GOOD }], &[NO_RESULT_SCHEMA]),
    (&[Handler { result_schema: "[{}]", ..GOOD }], &[NO_RESULT_SCHEMA]),
    (&[Handler { result_bytes_max: 0, ..GOOD }], &[NO_BOUND]),
    (&[Handler { result_bytes_max: RESULT_BYTES_MAX + 1, ..GOOD }], &[NO_BOUND]),
    // What others' parsers refuse.
    (&[Handler { summary: "", ..GOOD }], &[SUMMARY]),
    (&[Handler { summary: "a\u{0}b", ..GOOD }], &[SUMMARY]),
    (&[described(r#"{"type":"object","properties":{},"description":"\u0000"}"#)], &[CONTROL]),
    (&[described(r#"{"type":"object","properties":{},"\u0000":1}"#)], &[CONTROL]),
    (
        &[described(r#"{"type":"object","properties":{"a":{"pattern":"^[^\u0000-\u001f]*$"}}}"#)],
        &[CONTROL],
    ),
    (
        &[described(r#"{"type":"object","properties":{"a":{"pattern":"^[^\u0001]*$"}}}"#)],
        &[CONTROL],
    ),
    (
        &[described("{\"type\":\"object\",\"properties\":{\"a\":{\"pattern\":\"^[^\u{7f}]*$\"}}}")],
        &[CONTROL],
    ),
    (&[described(r#"{"type":"object","properties":{"a":{"enum":["a","\u0085"]}}}"#)], &[CONTROL]),
    (&[Handler { result_schema: r#"{"const":"\u0000"}"#, ..GOOD }], &[CONTROL]),
    (&[described("{}")], &[NO_OBJECT]),
    (&[described(r#"{"type":"object"}"#)], &[NO_OBJECT]),
    (&[described(r#"{"properties":{}}"#)], &[NO_OBJECT]),
    (&[described(r#"{"type":["object"],"properties":{}}"#)], &[NO_OBJECT]),
    (&[described(r#"{"type":"object","properties":[]}"#)], &[NO_OBJECT]),
    (&[described(r#"{"type":"object","properties":{"a":true}}"#)], &[PROPERTY]),
    (&[described(r#"{"type":"object","properties":{"a b":{}}}"#)], &[PROPERTY]),
    (&[described(r#"{"type":"object","properties":{"":{}}}"#)], &[PROPERTY]),
    (&[described(r#"{"type":"object","properties":{"caf\u00e9":{}}}"#)], &[PROPERTY]),
    (&[described(r#"{"type":"object","properties":{},"oneOf":[{}]}"#)], &[TOP]),
    (&[described(r#"{"type":"object","properties":{},"anyOf":[{}]}"#)], &[TOP]),
    (&[described(r#"{"type":"object","properties":{},"allOf":[{}]}"#)], &[TOP]),
    (&[described(r#"{"type":"object","properties":{},"not":{}}"#)], &[TOP]),
    (&[described(r#"{"type":"object","properties":{},"enum":[{}]}"#)], &[TOP]),
    (&[described(r#"{"type":"object","properties":{"a":{"type":"array"}}}"#)], &[LACKS]),
    (&[described(r#"{"type":"object","properties":{"a":{"type":"object"}}}"#)], &[LACKS]),
    (&[described(r#"{"type":"object","properties":{"a":{"type":["null","array"]}}}"#)], &[LACKS]),
    (
        &[described(
            r#"{"type":"object","properties":{"a":{"anyOf":[{"items":{"type":"object"}}]}}}"#,
        )],
        &[LACKS],
    ),
    (&[described(r##"{"type":"object","properties":{"a":{"$ref":"#"}}}"##)], &[REFERS]),
    (&[described(r#"{"$id":"urn:x","type":"object","properties":{}}"#)], &[REFERS]),
    (&[Handler { result_schema: r##"{"items":{"$dynamicRef":"#a"}}"##, ..GOOD }], &[REFERS]),
    // All at once, and beside what else is wrong with the configuration.
    (
        &[GOOD, Handler { action: "failed", payload_schema: "{", ..GOOD }, GOOD],
        &[RESERVED, NO_SCHEMA, r#"handler "good": it is registered twice; remove one"#],
    ),
];

/// The service of a wrong array, where this process was started to be it.
pub fn serve() {
    let Some(which) = std::env::var_os(REGISTRY) else { return };
    let which: usize = which.to_str().and_then(|text| text.parse().ok()).expect("a number");
    end(openexec::main(WRONG[which].0));
}

#[test]
fn a_wrong_array_does_not_start() {
    for (which, (_, sentences)) in WRONG.iter().enumerate() {
        let scratch = Scratch::new();
        let ended = run(again(&scratch, REGISTRY, &which.to_string()), "");
        assert_eq!(ended.code, 78, "{which}: {ended:?}");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(lines[0], "openexec: the configuration is refused:", "{which}");
        assert_eq!(lines.len(), 1 + sentences.len(), "{which}: {}", ended.stderr);
        for (line, sentence) in lines[1..].iter().zip(*sentences) {
            assert!(line.starts_with("  - handler \""), "{which}: {line}");
            assert!(line.ends_with(sentence), "{which}: {line} is not {sentence}");
        }
        assert!(!scratch.join("store").exists(), "{which}: nothing was made");
    }
}
