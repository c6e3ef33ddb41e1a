//! The checker of payloads by their schemas, against an independent validator over random pairs of both.

use boon::{Compiler, Schemas};
use openexec::core::json::{canonical, strict};
use openexec::handlers::PayloadError;
use openexec::handlers::schema::Schema;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

use crate::common::calls::object;

/// A value of few kinds and sizes, so that rules about it hold as often as not.
fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..4_i32).prop_map(Value::from),
        (-8..16_i32).prop_map(|quarters| Value::from(f64::from(quarters) / 4.0)),
        "[a-bé]{0,4}".prop_map(Value::from),
        prop::sample::select(vec!["\n", "a\u{85}", "A-z_0", "a.b"]).prop_map(Value::from),
        "[0-9a-f]{63,65}".prop_map(Value::from),
    ];
    let nested = leaf.prop_recursive(2, 8, 3, |inner| {
        let members = prop::collection::btree_map("[a-d]", inner.clone(), 0..4);
        let object = members.prop_map(|members| Value::Object(members.into_iter().collect()));
        prop_oneof![prop::collection::vec(inner, 0..4).prop_map(Value::from), object]
    });
    nested.boxed()
}

/// Some of these keywords, each with some value.
fn rules(keywords: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let rule = |(name, of): (&'static str, BoxedStrategy<Value>)| {
        prop::option::weighted(0.25, of.prop_map(move |value| (name.to_owned(), value)))
    };
    let rules: Vec<_> = keywords.into_iter().map(rule).collect();
    rules.prop_map(|rules| Value::Object(rules.into_iter().flatten().collect()))
}

/// A schema of the judged keywords, whether they agree with each other or not.
fn judged_schema() -> BoxedStrategy<Value> {
    let nested = rules(leaf_rules()).prop_recursive(2, 12, 3, |inner| {
        let mut keywords = leaf_rules();
        keywords.extend(object_rules(inner.clone().boxed()));
        keywords.push(("items", inner.boxed()));
        rules(keywords)
    });
    rules(object_rules(nested.boxed())).boxed()
}

fn leaf_rules() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let size = || (0..4_u32).prop_map(Value::from).boxed();
    let number = || {
        prop_oneof![Just(json!(1.0)), (-4..12_i32).prop_map(|n| json!(f64::from(n) / 4.0))].boxed()
    };
    let types = ["array", "boolean", "integer", "null", "number", "object", "string"];
    let patterns = ["^[^\\x00-\\x1f\\x7f-\\x9f]*$", "^[0-9a-f]{64}$", "^[A-Za-z0-9_-]{1,64}$"];
    let of =
        |names: &[&'static str]| prop::sample::select(names.to_vec()).prop_map(Value::from).boxed();
    vec![
        ("type", of(&types)),
        ("enum", prop::collection::vec(value(), 0..6).prop_map(Value::from).boxed()),
        ("const", value()),
        ("minimum", number()),
        ("maximum", number()),
        ("minLength", size()),
        ("maxLength", size()),
        ("minItems", size()),
        ("maxItems", size()),
        ("pattern", of(&patterns)),
        ("title", Just(json!("t")).boxed()),
    ]
}

fn object_rules(inner: BoxedStrategy<Value>) -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let named = prop::collection::btree_map("[a-d]", inner, 0..4);
    let named = named.prop_map(|named| Value::Object(named.into_iter().collect()));
    let names = prop::collection::btree_set("[a-d]", 0..2);
    let names = names.prop_map(|names| names.into_iter().map(Value::from).collect());
    // Twice as often as others: without them nothing below is reached.
    vec![
        ("properties", named.clone().boxed()),
        ("properties", named.boxed()),
        ("required", names.boxed()),
        ("additionalProperties", Just(json!(false)).boxed()),
    ]
}

fn schema_of(text: &Value) -> Schema {
    Schema::of(text.to_string().leak(), &[])
}

#[test]
fn any_schema_is_judged_as_an_independent_validator_judges_it() {
    let (mut accepted, mut refused) = (0, 0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 5_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let payloads = prop::collection::btree_map("[a-d]", value(), 0..4);
    for _ in 0..runner.config().cases {
        let text = judged_schema().new_tree(&mut runner).unwrap().current();
        let payload = payloads.new_tree(&mut runner).unwrap().current();
        let payload = Value::Object(payload.into_iter().collect());
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource("s.json", text.clone()).unwrap();
        let index = compiler.compile("s.json", &mut schemas).unwrap();
        let judged = schemas.validate(&payload, index).is_ok();
        // As a handler sees it.
        let seen = strict::read(canonical::to_string(&payload).as_bytes(), 64).unwrap();
        let checked = schema_of(&text).check(object(&seen));
        assert_eq!(checked.is_ok(), judged, "{text} {payload} {checked:?}");
        *(if judged { &mut accepted } else { &mut refused }) += 1;
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} {refused}");
}

#[test]
fn a_schema_with_a_rule_that_nobody_judges_refuses_every_payload() {
    for (keyword, rule) in [
        ("oneOf", json!([{}])),
        ("anyOf", json!([{}])),
        ("allOf", json!([])),
        ("not", json!(false)),
        ("if", json!({})),
        ("format", json!("email")),
        ("pattern", json!("^.*$")),
        ("pattern", json!(1)),
        ("patternProperties", json!({})),
        ("propertyNames", json!({})),
        ("dependentRequired", json!({})),
        ("prefixItems", json!([])),
        ("contains", json!({})),
        ("uniqueItems", json!(false)),
        ("multipleOf", json!(1)),
        ("exclusiveMinimum", json!(0)),
        ("minProperties", json!(0)),
        ("additionalProperties", json!(true)),
        ("additionalProperties", json!({})),
        ("$ref", json!("#")),
        ("x-new", json!(1)),
        ("properties", json!([])),
        ("properties", json!({"a": true})),
        ("items", json!(true)),
        ("items", json!([{}])),
    ] {
        let rules = json!({ keyword: rule });
        for text in [
            rules.clone(),
            json!({"properties": {"a": rules}}),
            json!({"properties": {"a": {"items": rules}}}),
            json!({"properties": {"a": {"properties": {"b": rules}}}}),
        ] {
            let refused = schema_of(&text).check(object(&json!({})));
            let sentence = "the action's schema has a rule that is not known";
            assert_eq!(refused, Err(PayloadError(sentence.to_owned())), "{text}");
        }
        let says_so =
            Schema::of(rules.to_string().leak(), &["not", "if"]).check(object(&json!({})));
        assert_eq!(says_so.is_ok(), ["not", "if"].contains(&keyword), "{rules}");
    }
    for text in ["", "{", "[]", "true", "{\"a\":1,\"a\":2}"] {
        assert!(Schema::of(text, &[]).check(object(&json!({}))).is_err(), "{text}");
    }
}

#[test]
fn a_refusal_names_the_place_and_the_rule_and_not_the_value() {
    let text = json!({
        "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 9},
            "s": {"minLength": 2, "maxLength": 3, "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            "e": {"enum": ["secret"]},
            "l": {"minItems": 1, "maxItems": 2, "items": {"properties": {"t": {"type": "string"}},
                "required": ["t"], "additionalProperties": false}},
        },
        "required": ["n"],
        "additionalProperties": false,
    });
    let schema = schema_of(&text);
    for (payload, sentence) in [
        (json!({}), "n is missing"),
        (json!({"n": 77.5}), "n does not keep to maximum 9 of its schema"),
        (json!({"n": 0}), "n does not keep to minimum 1 of its schema"),
        (json!({"n": "77"}), "n does not keep to type \"integer\" of its schema"),
        (json!({"n": 1, "s": "7"}), "s does not keep to minLength 2 of its schema"),
        (json!({"n": 1, "s": "7777"}), "s does not keep to maxLength 3 of its schema"),
        (json!({"n": 1, "s": "7 7"}), "s must be 1 to 64 of A-Za-z0-9_-"),
        (json!({"n": 1, "e": "77"}), "e is none of those that its schema lists"),
        (json!({"n": 1, "l": []}), "l does not keep to minItems 1 of its schema"),
        (json!({"n": 1, "l": [{"t": "77"}, {}]}), "l[1].t is missing"),
        (
            json!({"n": 1, "l": [{"t": 77}]}),
            "l[0].t does not keep to type \"string\" of its schema",
        ),
        (
            json!({"n": 1, "l": [{"t": "", "u": 77}]}),
            "l[0] has a field \"u\" that its schema does not have",
        ),
        (json!({"n": 1, "m": 77}), "the payload has a field \"m\" that its schema does not have"),
    ] {
        assert_eq!(schema.check(object(&payload)), Err(PayloadError(sentence.to_owned())));
    }
}
