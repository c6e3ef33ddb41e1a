//! The form of each field of each kind, and of lines as texts.

use serde_json::{Value, json};

use crate::forge::{clawshield, demo as demo_model, respelled};
use crate::table::Change::{self, Text};
use crate::table::Who::{self, All, Audits};
use crate::table::{Case, Respell, demo};

const TIMES: [&str; 14] = [
    "2026-03-01T12:00:00Z",
    "2026-03-01T12:00:00.000000",
    "2026-03-01T12:00:00.000000+00:00",
    "2026-03-01T12:00:00.00000000Z",
    "2026-03-01T12:00:00.00000Z",
    "2026-03-01 12:00:00.000000Z",
    "2026-03-01t12:00:00.000000z",
    "2026-02-29T12:00:00.000000Z",
    "2026-13-01T12:00:00.000000Z",
    "2026-03-01T24:00:00.000000Z",
    "2026-03-01T12:60:00.000000Z",
    "2026-03-01T12:00:60.000000Z",
    "0000-03-01T12:00:00.000000Z",
    "2026-03-01T12:00:00.00\u{0660}000Z",
];

/// Each record that has a form of its own, and whether it is one of clawshield mode.
const RECORDS: [(&str, bool); 17] = [
    ("store", false),
    ("policy", false),
    ("policy", true),
    ("refusal", false),
    ("hashed", false),
    ("suppressed", false),
    ("owed", false),
    ("pure receipt", false),
    ("retry", false),
    ("completion", false),
    ("freeze", false),
    ("unfreeze", false),
    ("asked", true),
    ("approved", true),
    ("asynchronous", true),
    ("rejected", true),
    ("closed", true),
];

/// Values that a field does not take.
fn not_taken(field: &str) -> Vec<Value> {
    let long = "a".repeat(65);
    match field {
        "at" | "expires" => TIMES.map(Value::from).to_vec(),
        "id" | "receipt" | "payload_hash" | "actions" => {
            vec!["AB".repeat(32).into(), "ab".repeat(31).into(), "ab".repeat(33).into(), "".into()]
        }
        "store" => vec!["ab".repeat(15).into(), "0F".repeat(16).into(), "xy".repeat(16).into()],
        "mode" => vec!["Demo".into(), "".into()],
        "effect" => vec!["twice".into(), "Once".into()],
        "outcome" => vec!["denied".into(), "".into()],
        "action" => vec!["".into(), "a b".into(), long.into(), "\u{e9}".into()],
        "nonce" => vec![
            "".into(),
            "x".repeat(257).into(),
            "\u{e9}".repeat(129).into(),
            "a\tb".into(),
            "\u{85}".into(),
            "\u{7f}".into(),
        ],
        "code" => vec!["".into(), "Not A Code".into(), "x-y".into()],
        "ttl_max" | "policy" => {
            vec!["1".into(), (-1).into(), 1.5.into(), json!(9_007_199_254_740_992u64)]
        }
        "payload" | "result" | "artifact" => vec![json!([]), json!("{}")],
        "detail" | "reason" | "tenant" | "legacy" | "caller" | "version" | "key"
        | "justification" => vec![1.into()],
        "asynchronous" => vec!["true".into(), 1.into()],
        "how" => vec!["Expired".into(), "rejected".into()],
        "by" => vec![1.into(), json!(["worker"])],
        "allowed" => vec![json!({}), json!([1]), json!(["a b"]), json!("echo")],
        "keys" => keys(),
        "required" => {
            let wrong = [
                json!(0),
                json!(17),
                json!(1.5),
                json!("1"),
                json!(null),
                json!({"ops": 0}),
                json!({}),
            ];
            wrong.map(|needed| json!({"*": needed})).into_iter().chain([json!([])]).collect()
        }
        "callers" => {
            let caller = json!({"name": "a", "may": ["read"], "actions": null, "person": null});
            altered(
                &caller,
                &[
                    ("name", json!(null)),
                    ("may", json!("read")),
                    ("may", json!(["write"])),
                    ("actions", json!("echo")),
                    ("actions", json!(["a b"])),
                    ("person", json!(1)),
                    ("token", json!("x")),
                ],
            )
        }
        _ => Vec::new(),
    }
}

/// Arrays of one that has another value under a name, or lacks it.
fn altered(one: &Value, values: &[(&str, Value)]) -> Vec<Value> {
    let alter = |(name, value): &(&str, Value)| {
        let mut other = one.clone();
        other[*name] = value.clone();
        json!([other])
    };
    let without = |name: &String| {
        let mut other = one.clone();
        other.as_object_mut().expect("an object").remove(name);
        json!([other])
    };
    let names = one.as_object().expect("an object").keys();
    values.iter().map(alter).chain(names.map(without)).collect()
}

fn keys() -> Vec<Value> {
    let one = clawshield().of("policy")["keys"][0].clone();
    altered(
        &one,
        &[
            ("actions", json!("echo")),
            ("actions", json!(["a b"])),
            ("application", json!(1)),
            ("groups", json!(null)),
            ("groups", json!([1])),
            ("name", json!(null)),
            ("not_after", json!("2026-03-01T12:00:00Z")),
            ("person", json!(1)),
            ("public_key", json!("ab")),
            ("type", json!("rsa")),
            ("verified", json!(null)),
            ("more", json!(1)),
        ],
    )
}

fn may_be_null(label: &str, field: &str) -> bool {
    let nullable = [
        "actions",
        "allowed",
        "approval",
        "caller",
        "callers",
        "justification",
        "keys",
        "legacy",
        "place",
        "required",
        "tenant",
        "ttl_max",
    ];
    nullable.contains(&field) || (label == "closed" && ["by", "code"].contains(&field))
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (label, clawshield) in RECORDS {
        let put = |rule: String, refused_by: Who, change: Change| Case {
            rule,
            clawshield,
            change,
            refused_by,
        };
        let mut model = if clawshield { crate::forge::clawshield() } else { demo_model() };
        let value = model.of(label).clone();
        let object = value.as_object().expect("an object");
        for field in object.keys() {
            // Nothing refuses this spelling but its own line: it is put there as it is.
            let rule = format!("{label}: {field} is not missing");
            cases.push(put(rule, All, Change::Without(label, field.clone())));
            // Of these opening reads nothing.
            let is_audits = match label {
                "owed" => field == "keys",
                "policy" => ["allowed", "callers", "keys", "required"].contains(&field.as_str()),
                _ => false,
            };
            let mut wrong = if label == "owed" && is_audits { vec![] } else { not_taken(field) };
            if field != "asynchronous" {
                wrong.push(true.into());
            }
            if !may_be_null(label, field) {
                wrong.push(Value::Null);
            }
            for wrong in wrong {
                let who = if is_audits { Audits } else { All };
                let shown: String = wrong.to_string().chars().take(300).collect();
                let rule = format!("{label}: {field} is not {shown}");
                // The segment line says the same as the store record.
                cases.push(put(rule, who, Change::Put(label, field.clone(), wrong)));
            }
        }
        let rule = format!("{label}: no field more");
        cases.push(put(rule, All, Change::Put(label, "zz".to_owned(), 1.into())));
        let texts: [(&str, Respell); 6] = [
            ("no space", |line| respelled(line, "\":", "\": ")),
            ("names in order", |line| {
                let rest =
                    line.strip_prefix('{').and_then(|l| l.strip_suffix('}')).expect("an object");
                let (last, before) = (rest.rfind(",\"").expect("two"), rest);
                format!("{{{},{}}}", &before[last + 1..], &before[..last])
            }),
            ("no name twice", |line| {
                let kind = line.find("\"kind\"").expect("a kind");
                let end = kind + line[kind..].find([',', '}']).expect("an end");
                format!("{}{},{}", &line[..kind], &line[kind..end], &line[kind..])
            }),
            ("no name escaped", |line| respelled(line, "\"kind\"", "\"\\u006bind\"")),
            ("no value escaped", |line| respelled(line, "\"at\":\"2026", "\"at\":\"\\u0032026")),
            ("nothing behind it", |line| format!("{line} ")),
        ];
        for (what, change) in texts {
            cases.push(put(format!("{label}: {what}"), All, Text(label, change)));
        }
    }
    let spelled: [(&str, &'static str, Who, Respell); 14] = [
        ("a reason's letter escaped", "freeze", All, |l| respelled(l, "why", "\\u0077hy")),
        ("a reason's hex in upper case", "refusal", All, |l| respelled(l, "\\u001b", "\\u001B")),
        ("a solidus escaped", "freeze", All, |l| respelled(l, "why", "w\\/y")),
        ("a line feed by its number", "freeze", All, |l| respelled(l, "\\n", "\\u000a")),
        ("a control character as it is", "freeze", All, |l| respelled(l, "\\n", "\t")),
        ("a lone surrogate", "freeze", All, |l| respelled(l, "why", "\\ud800")),
        ("a character by its surrogates", "freeze", All, |l| respelled(l, "\u{e9}", "\\u00e9")),
        ("a letter of a payload escaped", "owed", Audits, |l| {
            respelled(l, "{\"text\":\"owed\"", "{\"text\":\"\\u006fwed\"")
        }),
        ("a number of a payload as 1.0", "owed", Audits, |l| respelled(l, "[1,", "[1.0,")),
        ("a number of a payload as 5e-1", "owed", Audits, |l| respelled(l, "0.5", "5e-1")),
        ("a space in a payload", "owed", Audits, |l| respelled(l, "[1,", "[1, ")),
        ("a name twice in a payload", "owed", Audits, |l| {
            respelled(l, "{\"text\":\"owed\"", "{\"text\":\"owed\",\"text\":\"owed\"")
        }),
        ("a number beyond 2^53 in a payload", "owed", Audits, |l| {
            respelled(l, "[1,", "[9007199254740993,")
        }),
        ("a payload deeper than 68", "owed", Audits, |l| {
            respelled(l, "[1,", &format!("[{}{},", "[".repeat(70), "]".repeat(70)))
        }),
    ];
    for (what, label, who, change) in spelled {
        cases.push(demo(what, who, Text(label, change)));
    }
    cases
}
