//! Schemas tell the truth: `check` accepts a payload exactly when an independent JSON Schema
//! validator does, but for the bounds that the schema language cannot say.

use crate::common::calls::*;
use boon::{Compiler, SchemaIndex, Schemas};
use openexec::handlers::{HANDLERS, result_schema, schema};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

struct Judges(Schemas, Vec<(&'static str, SchemaIndex)>);

impl Judges {
    fn new() -> Self {
        let mut judges = Judges(Schemas::new(), Vec::new());
        for handler in HANDLERS {
            let mut compiler = Compiler::new();
            let location = format!("{}.json", handler.action);
            let schema = schema(handler).unwrap();
            compiler.add_resource(&location, schema).unwrap();
            let index = compiler.compile(&location, &mut judges.0).unwrap();
            judges.1.push((handler.action, index));
        }
        judges
    }

    fn accept(&self, action: &str, payload: &Value) -> bool {
        let (_, index) = self.1.iter().find(|(name, _)| *name == action).unwrap();
        self.0.validate(payload, *index).is_ok()
    }
}

/// Beyond a bound that the schema's description gives in words: bytes, a sum of lengths, queues of actions.
fn beyond_words(payload: &Value) -> bool {
    let recipients = ["to", "cc", "bcc"].map(|name| payload[name].as_array().map_or(0, Vec::len));
    let path = payload["path"].as_str().unwrap_or_default();
    let queue = payload["queue"].as_str().unwrap_or_default();
    recipients.iter().sum::<usize>() > 100
        || HANDLERS.iter().any(|handler| handler.action.eq_ignore_ascii_case(queue))
        || path.len() > 1024
        || path.split('/').any(|name| name.len() > 255)
}

#[track_caller]
fn agree(judges: &Judges, action: &str, payload: &Value) {
    let (checked, judged) = (check(action, payload), judges.accept(action, payload));
    if beyond_words(payload) {
        assert!(checked.is_err(), "{action} {payload}");
    } else {
        assert_eq!(checked.is_ok(), judged, "{action} {payload}: {checked:?}");
    }
}

#[test]
fn the_vectors_are_judged_as_they_say() {
    let judges = Judges::new();
    for row in vectors("payloads.json") {
        let action = row["action"].as_str().unwrap();
        let checked = check(action, &row["payload"]);
        assert_eq!(json!(checked.is_ok()), row["ok"], "{row} {checked:?}");
        agree(&judges, action, &row["payload"]);
    }
}

#[test]
fn no_bad_address_passes_anywhere() {
    let judges = Judges::new();
    for address in vectors("bad_addresses.json") {
        for field in ["to", "cc", "bcc"] {
            let mut payload = json!({"to": ["a@b"], "subject": "", "text": ""});
            payload[field] = json!(["c@d", address]);
            assert!(check("send_email", &payload).is_err(), "{address}");
            agree(&judges, "send_email", &payload);
        }
    }
}

#[test]
fn bounds_hold_to_the_last_one() {
    let judges = Judges::new();
    let list = |count| vec!["a@b"; count];
    let label = "d".repeat(63);
    let long_domain = format!("{label}.{label}.{label}.{}", "d".repeat(60));
    let (nothing, body) = (json!({}), json!({"to": ["a@b"], "subject": "", "text": ""}));
    let email = |to: Value| json!({"to": to, "subject": "", "text": ""});
    let with = |base: &Value, name: &str, value: Value| {
        let mut payload = base.clone();
        payload[name] = value;
        payload
    };
    let path = |path: String| with(&nothing, "path", json!(path));
    let mut split = email(json!(list(50)));
    split["cc"] = json!(list(49));
    let customer = json!({"amount": 1, "currency": "USD", "customer": "c"});
    for (action, payload, ok) in [
        ("send_email", email(json!(list(100))), true),
        ("send_email", email(json!(list(101))), false),
        ("send_email", with(&split, "bcc", json!(list(1))), true),
        ("send_email", with(&split, "bcc", json!(list(2))), false),
        ("send_email", email(json!([format!("{}@b", "a".repeat(64))])), true),
        ("send_email", email(json!([format!("{}@b", "a".repeat(65))])), false),
        ("send_email", email(json!([format!("a@{long_domain}")])), true),
        ("send_email", email(json!([format!("aa@{long_domain}")])), false),
        ("send_email", email(json!([format!("a@{label}d")])), false),
        ("send_email", with(&body, "subject", json!("é".repeat(998))), true),
        ("send_email", with(&body, "subject", json!("é".repeat(999))), false),
        ("charge_card", with(&customer, "customer", json!("é".repeat(255))), true),
        ("charge_card", with(&customer, "customer", json!("é".repeat(256))), false),
        ("charge_card", with(&customer, "description", json!("é".repeat(1000))), true),
        ("charge_card", with(&customer, "description", json!("é".repeat(1001))), false),
        ("enqueue", json!({"queue": "q".repeat(64), "job": {}}), true),
        ("enqueue", json!({"queue": "q".repeat(65), "job": {}}), false),
        ("delete_file", path("a".repeat(255)), true),
        ("delete_file", path("a".repeat(256)), false),
        ("delete_file", path(format!("{}é", "a".repeat(253))), true),
        ("delete_file", path(format!("{}é", "a".repeat(254))), false),
        ("delete_file", path("a/".repeat(511) + "aa"), true),
        ("delete_file", path("a/".repeat(511) + "aaa"), false),
        ("delete_file", path("a/".repeat(511) + "aé"), false),
        ("add", json!({"a": 4503599627370495_i64}), true),
        ("add", json!({"a": 4503599627370496_i64}), false),
    ] {
        assert_eq!(check(action, &payload).is_ok(), ok, "{action} {payload}");
        agree(&judges, action, &payload);
    }
}

/// The function-calling APIs of model vendors refuse these at the top of a tool's schema.
#[test]
fn schemas_are_plain_at_the_top() {
    for handler in HANDLERS {
        let schema = schema(handler).unwrap();
        assert_eq!(schema["type"], "object", "{}", handler.action);
        for keyword in ["oneOf", "anyOf", "allOf", "not", "enum"] {
            assert_eq!(schema.get(keyword), None, "{}", handler.action);
        }
    }
}

/// An approver sees an amount with its point, whatever the currency: ISO 4217 says where that is.
#[test]
fn each_currency_of_a_charge_says_how_many_digits_are_behind_its_point() {
    let schema =
        schema(HANDLERS.iter().find(|handler| handler.action == "charge_card").unwrap()).unwrap();
    let amount = &schema["properties"]["amount"];
    assert_eq!(
        (&amount["x-display"], &amount["x-currency"]),
        (&json!("money"), &json!("currency"))
    );
    let digits = |currency: &Value| match currency.as_str().unwrap() {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    };
    let currencies = schema["properties"]["currency"]["enum"].as_array().unwrap();
    let expected = currencies
        .iter()
        .map(|currency| (currency.as_str().unwrap().to_owned(), json!(digits(currency))));
    assert_eq!(amount["x-exponents"], Value::Object(expected.collect()));
}

/// Each built-in handler's result is as its schema says, and the schema says no more than that: what
/// lacks a member, or has one too many, is not a result of it.
#[test]
fn results_are_as_their_schemas_say() {
    let scratch = scratch();
    std::fs::create_dir(scratch.join("files")).unwrap();
    let email = json!({"to": ["a@b"], "subject": "", "text": ""});
    let cases = [
        ("echo", json!({"deep": [{"er": null}]})),
        ("add", json!({"a": 0.5, "b": 2})),
        ("enqueue", json!({"queue": "Q_-9", "job": {}})),
        ("send_email", email),
        ("charge_card", json!({"amount": 1, "currency": "USD", "customer": "c"})),
        ("write_file", json!({"path": "é \"", "content": "é"})),
        ("delete_file", json!({"path": "é \""})),
    ];
    assert_eq!(
        cases.each_ref().map(|case| case.0),
        HANDLERS.iter().map(|h| h.action).collect::<Vec<_>>()[..]
    );
    for (action, payload) in cases {
        // `run` holds it to the schema.
        let result = run(&scratch, action, &payload, action, false).unwrap();
        let schema = result_schema(handler(action)).unwrap();
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource("r.json", schema).unwrap();
        let index = compiler.compile("r.json", &mut schemas).unwrap();
        let mut more = result.clone();
        more["more"] = json!(1);
        let name = result.as_object().unwrap().keys().next().unwrap().clone();
        let emptied = json!({ name: "" });
        for wrong in [more, emptied, json!({}), json!([]), json!({"failed": {}})] {
            assert!(schemas.validate(&wrong, index).is_err(), "{action} {wrong}");
        }
    }
}

/// A value for the field of that name: more often one that passes than not.
fn field(name: &'static str) -> BoxedStrategy<Value> {
    let line = || prop_oneof!["[a-zA-Z0-9é .,-]{0,40}", "\\PC{0,12}", any::<String>()];
    let address = || {
        prop_oneof![
            6 => "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,9}(\\.[a-z+-]{1,9})?@[a-z0-9]{1,9}(\\.[a-z0-9]{1,9})?",
            1 => "[a-z.@\" <>,\n-]{0,12}",
            1 => "[a-z]{60,70}@[a-z-]{1,3}(\\.[a-z]{58,66}){0,4}",
        ]
    };
    let text = match name {
        "queue" => {
            prop_oneof![6 => "[A-Za-z0-9_-]{1,66}", 1 => "(?i)send_email|charge_card|echo|enqueue", 1 => "[a-z./ \n]{0,9}"].boxed()
        }
        "currency" => prop_oneof!["[A-Z]{3}", "[A-Za-z]{2,4}", Just("EUR".to_owned())].boxed(),
        "if_sha256" => prop_oneof![4 => "[0-9a-f]{64}", 1 => "[0-9a-fA-F]{63,65}"].boxed(),
        "path" => prop_oneof![
            4 => "[a-zé. ]{1,9}(/[a-zé.-]{1,9}){0,3}",
            1 => "[a./]{0,8}",
            1 => "(a/)?\\.openexec-?a?",
            1 => "[a/é]{250,260}",
            1 => any::<String>(),
        ]
        .boxed(),
        _ => line().boxed(),
    };
    let usual = match name {
        "to" | "cc" | "bcc" => prop::collection::vec(address(), 0..4).prop_map(Value::from).boxed(),
        "a" | "b" => {
            prop_oneof![any::<i32>().prop_map(Value::from), any::<f64>().prop_map(Value::from)]
                .boxed()
        }
        "amount" => prop_oneof![
            4 => (-2..1_000_000_000_002_i64).prop_map(Value::from),
            1 => (-2..4_i64).prop_map(Value::from),
            1 => (0..40_u32).prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        ]
        .boxed(),
        "create_only" => any::<bool>().prop_map(Value::from).boxed(),
        "job" => Just(json!({"k": [1]})).boxed(),
        _ => text.prop_map(Value::from).boxed(),
    };
    let strange = prop_oneof![
        Just(Value::Null),
        Just(json!(1)),
        Just(json!("")),
        Just(json!([])),
        Just(json!({})),
        Just(json!(true))
    ];
    prop_oneof![20 => usual, 1 => strange].boxed()
}

fn payload() -> impl Strategy<Value = (&'static str, Value)> {
    let of = |(action, names): (&'static str, &'static [&'static str])| {
        let fields: Vec<_> = names
            .iter()
            .map(|name| {
                prop::option::weighted(0.85, field(name)).prop_map(move |value| (*name, value))
            })
            .collect();
        (fields, prop::option::weighted(0.05, "[a-z]{1,8}")).prop_map(move |(fields, other)| {
            let known =
                fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            let payload = known.chain(other.map(|name| (name, json!(1)))).collect();
            (action, Value::Object(payload))
        })
    };
    prop::sample::select(vec![
        ("echo", &["text", "a"] as &[_]),
        ("add", &["a", "b"]),
        ("enqueue", &["queue", "job"]),
        ("send_email", &["to", "cc", "bcc", "subject", "text", "html"]),
        ("charge_card", &["amount", "currency", "customer", "description"]),
        ("write_file", &["path", "content", "if_sha256", "create_only"]),
        ("delete_file", &["path", "if_sha256"]),
    ])
    .prop_flat_map(of)
}

#[test]
fn check_and_schema_agree() {
    let judges = Judges::new();
    let mut accepted = 0;
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 5_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    for _ in 0..runner.config().cases {
        let (action, payload) = payload().new_tree(&mut runner).unwrap().current();
        agree(&judges, action, &payload);
        accepted += u32::from(judges.accept(action, &payload));
    }
    // Neither side is tested by payloads that are all refused, or all accepted.
    assert!((1_000..4_000).contains(&accepted), "{accepted}");
}
