//! `print_label`: prints a line of text on the label printer, up to ten times.
//!
//! The effect is `Once`: a label that was printed cannot be printed "again, the same". After a
//! crash nobody knows how many came out, and OpenExec will say so (`indeterminate`) and not guess.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use openexec::handlers::schema::Schema;
use openexec::handlers::{
    Call, Effect, Failure, Handler, Payload, PayloadError, Unusable, nowhere,
};
use openexec::core::json::{Object, Value};

const PRINTER: &str = "/dev/usb/lp0";

/// The payload's schema, which also checks it.
static SCHEMA: Schema = Schema::of(PRINT_LABEL.payload_schema, &[]);

pub const PRINT_LABEL: Handler = Handler {
    action: "print_label",
    summary: "Prints a line of text on the label printer.",
    effect: Effect::Once,
    // What agents are shown, and what `SCHEMA` checks.
    payload_schema: r#"{
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 1, "maxLength": 60,
                "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$"},
            "copies": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1}
        },
        "required": ["text"],
        "additionalProperties": false
    }"#,
    result_schema: r#"{
        "type": "object",
        "properties": {"printed": {"type": "integer", "minimum": 1, "maximum": 10}},
        "required": ["printed"],
        "additionalProperties": false
    }"#,
    // {"printed":10}
    result_bytes_max: 16,
    offered: |_| match Path::new(PRINTER).exists() {
        true => Ok(()),
        false => Err("connect the label printer: there is no /dev/usb/lp0"),
    },
    // At start and by `openexec check`: before an approver's time is spent on what cannot be printed.
    ready: |_| match OpenOptions::new().append(true).open(PRINTER) {
        Ok(_) => Ok(()),
        Err(error) => Err(Unusable { path: PRINTER.into(), error }),
    },
    // Before anybody is asked to approve it. Pure: it may look at the payload, and at nothing else.
    check: &|payload, _| Label::read(payload).map(drop),
    // An action on files gives its directory here, as `|_| Some("/srv/labels".into())`: after a crash it
    // runs again only where that is still the same directory.
    place: nowhere,
    run: &|call, _| run(call, Path::new(PRINTER)),
};

/// The payload, once it has been understood.
#[derive(Debug, PartialEq)]
struct Label<'a> {
    text: &'a str,
    copies: u64,
}

impl<'a> Label<'a> {
    fn read(payload: &'a Payload) -> Result<Self, PayloadError> {
        SCHEMA.check(payload)?;
        Ok(Label {
            text: payload.get("text").and_then(Value::as_str).unwrap_or_default(),
            copies: payload.get("copies").and_then(Value::as_u64).unwrap_or(1),
        })
    }
}

fn run(call: &Call, printer: &Path) -> Result<Object, Failure> {
    let label = Label::read(call.payload).map_err(|error| call.failure(error.0))?;
    // Until here nothing has happened, so a failure is `Failed`, and the agent may propose anew.
    let mut printer = OpenOptions::new()
        .append(true)
        .open(printer)
        .map_err(|error| call.failure(format!("the printer cannot be opened: {error}")))?;
    for _ in 0..label.copies {
        // From here on something may have come out: `Unknown`, and somebody has to look.
        writeln!(printer, "{}", label.text)
            .map_err(|error| Failure::Unknown(format!("the printer stopped: {error}")))?;
    }
    // A function of the request alone: no time, no name of a host, so that receipts can be compared.
    Ok(Object::from_iter([("printed".to_owned(), Value::from(label.copies))]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openexec::core::json::{canonical, strict};

    fn payload(text: &str) -> Payload {
        match strict::read(text.as_bytes(), 64) {
            Ok(Value::Object(payload)) => payload,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn run_on(printer: &Path, text: &str) -> Result<Object, Failure> {
        let payload = payload(text);
        let call = Call {
            id: "0000",
            action: "print_label",
            nonce: "n",
            payload: &payload,
            approval_ids: &[],
            place: None,
            again: false,
        };
        run(&call, printer)
    }

    #[test]
    fn only_labels_pass() {
        let label = payload(r#"{"text":"Box 7"}"#);
        assert_eq!(Label::read(&label), Ok(Label { text: "Box 7", copies: 1 }));
        for bad in [
            "{}",
            r#"{"text":""}"#,
            r#"{"text":"a\nb"}"#,
            r#"{"text":7}"#,
            r#"{"text":"a","copies":0}"#,
            r#"{"text":"a","copies":11}"#,
            r#"{"text":"a","copies":1.5}"#,
            r#"{"text":"a","printer":"/etc/passwd"}"#,
        ] {
            assert!(Label::read(&payload(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_prints_as_many_as_were_asked_for() {
        let paper = std::env::temp_dir().join(format!("labels-{}", std::process::id()));
        std::fs::write(&paper, "").unwrap();
        let result = run_on(&paper, r#"{"text":"Box 7","copies":10}"#).unwrap();
        let printed = std::fs::read_to_string(&paper).unwrap();
        std::fs::remove_file(&paper).unwrap();
        assert_eq!(printed, "Box 7\n".repeat(10));
        let result = canonical::to_string(&Value::Object(result));
        assert_eq!(result, r#"{"printed":10}"#);
        assert!(result.len() <= PRINT_LABEL.result_bytes_max);
    }

    /// The difference that an operator acts on: nothing happened, or somebody has to look.
    #[test]
    fn no_printer_is_failed_and_a_jam_is_unknown() {
        let label = r#"{"text":"Box 7"}"#;
        let missing = run_on(Path::new("/nowhere/lp0"), label);
        assert!(matches!(missing, Err(Failure::Failed(_))), "{missing:?}");
        let jam = run_on(Path::new("/dev/full"), label);
        assert!(matches!(jam, Err(Failure::Unknown(_))), "{jam:?}");
    }
}
