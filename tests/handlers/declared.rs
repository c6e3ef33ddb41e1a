//! Declared actions: a file is taken as it means, or refused with the place of each fault.

use boon::{Compiler, Schemas};
use openexec::core::json::{canonical, strict};
use openexec::handlers::declared::with;
use openexec::handlers::{HANDLERS, Handler, Settings};
use serde_json::{Value, json};

use crate::common::calls::object;

fn file(actions: &Value) -> String {
    json!({ "actions": actions }).to_string()
}

fn declare(action: &str, schema: &Value) -> Result<&'static Handler, Vec<String>> {
    let declared = json!([{"action": action, "summary": "For tests.", "payload_schema": schema}]);
    with(&[], &file(&declared)).map(|all| &all[0])
}

fn takes(handler: &Handler, payload: &Value) -> bool {
    let seen = strict::read(canonical::to_string(payload).as_bytes(), 64).unwrap();
    (handler.check)(object(&seen), &Settings::default()).is_ok()
}

/// SplitMix64: the same pairs each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    /// Quarters, so that whole and other numbers come as often as each other meets a bound.
    fn number(&mut self) -> Value {
        let quarters = self.below(40) as f64 - 12.0;
        if self.one_in(2) { json!((quarters / 4.0).floor()) } else { json!(quarters / 4.0) }
    }

    fn text(&mut self) -> String {
        (0..self.below(5)).map(|_| *self.of(&['a', 'é', '\u{1f600}', '\n', '0'])).collect()
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.one_in(2)),
            2 | 3 => self.number(),
            4 => json!(self.text()),
            5 => (0..self.below(3)).map(|_| self.value(depth - 1)).collect(),
            _ => (0..self.below(3)).map(|_| (self.name(), self.value(depth - 1))).collect(),
        }
    }

    fn name(&mut self) -> String {
        (*self.of(&["a", "b", "c", "a.b"])).to_owned()
    }

    /// A pair of bounds, mostly in order.
    fn bounds(&mut self, schema: &mut Value, names: [&str; 2], one: fn(&mut Self) -> Value) {
        let (low, high) = (one(self), one(self));
        let is_turned = low.as_f64() > high.as_f64() && !self.one_in(8);
        let (low, high) = if is_turned { (high, low) } else { (low, high) };
        for (name, value) in names.into_iter().zip([low, high]) {
            if !self.one_in(3) {
                schema[name] = value;
            }
        }
    }

    fn size(&mut self) -> Value {
        json!(self.below(4))
    }

    fn schema(&mut self, depth: u64) -> Value {
        let mut schema = json!({});
        let kind = match self.below(if depth == 0 { 7 } else { 12 }) {
            0 => "boolean",
            1 => "null",
            2 => "number",
            3 => "integer",
            4 => "string",
            5 => {
                schema["enum"] = (0..=self.below(3)).map(|_| self.value(1)).collect();
                return schema;
            }
            6 => {
                schema["const"] = self.value(2);
                return schema;
            }
            7 | 8 => "array",
            _ => "object",
        };
        schema["type"] = kind.into();
        match kind {
            "number" | "integer" => self.bounds(&mut schema, ["minimum", "maximum"], Self::number),
            "string" => self.bounds(&mut schema, ["minLength", "maxLength"], Self::size),
            "array" => {
                self.bounds(&mut schema, ["minItems", "maxItems"], Self::size);
                schema["items"] = self.schema(depth - 1);
            }
            "object" => self.members(&mut schema, depth - 1),
            _ => {}
        }
        // A listed value is meant as it stands, null or not: what `meant` makes of it is another value.
        if !schema.to_string().contains("properties") && self.one_in(6) {
            // More of one kind, so that some of them keep to the other rules.
            schema["enum"] = (0..4).map(|_| self.near(&schema)).collect();
        }
        if self.one_in(10) {
            schema["description"] = "Said.".into();
        }
        schema
    }

    fn members(&mut self, schema: &mut Value, depth: u64) {
        schema["additionalProperties"] = false.into();
        schema["properties"] = json!({});
        let mut required = Vec::new();
        for name in ["a", "b", "c", "a.b"] {
            if self.one_in(2) {
                schema["properties"][name] = self.schema(depth);
                if self.one_in(3) {
                    required.push(name);
                }
            } else if self.one_in(40) {
                required.push(name);
            }
        }
        if !required.is_empty() || self.one_in(4) {
            schema["required"] = json!(required);
        }
    }

    /// A value that keeps to the schema more often than not.
    fn near(&mut self, schema: &Value) -> Value {
        if self.one_in(12) {
            return self.value(2);
        }
        if let Some(listed) = schema["enum"].as_array() {
            return self.of(listed).clone();
        }
        match schema["type"].as_str() {
            None => schema["const"].clone(),
            Some("boolean") => json!(self.one_in(2)),
            Some("null") => Value::Null,
            Some("string") => json!(self.text()),
            Some("array") => (0..self.below(4)).map(|_| self.near(&schema["items"])).collect(),
            Some("object") => self.near_object(schema),
            Some(_) => self.number(),
        }
    }

    fn near_object(&mut self, schema: &Value) -> Value {
        let mut members = serde_json::Map::new();
        for (name, of) in schema["properties"].as_object().unwrap() {
            let is_required =
                schema["required"].as_array().is_some_and(|all| all.contains(&json!(name)));
            if is_required && !self.one_in(20) || self.one_in(2) {
                let value = if self.one_in(8) { Value::Null } else { self.near(of) };
                members.insert(name.clone(), value);
            }
        }
        if self.one_in(20) {
            members.insert(self.name(), self.value(1));
        }
        Value::Object(members)
    }
}

/// The payload as it is meant: null for a property that is not required is no property.
fn meant(schema: &Value, value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| meant(&schema["items"], item)).collect(),
        Value::Object(members) if schema["properties"].is_object() => {
            let is_required = |name: &String| {
                schema["required"].as_array().is_some_and(|all| all.contains(&json!(name)))
            };
            let of = &schema["properties"];
            let kept = members.iter().filter(|(name, value)| {
                !value.is_null() || is_required(name) || of.get(name).is_none()
            });
            kept.map(|(name, value)| (name.clone(), meant(&of[name], value))).collect()
        }
        other => other.clone(),
    }
}

/// The least that a schema without a fault promises: something that keeps to it.
fn least(schema: &Value) -> Value {
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(listed) = schema["enum"].as_array() {
        return listed[0].clone();
    }
    let size = |name: &str| schema[name].as_u64().unwrap_or(0) as usize;
    match schema["type"].as_str().unwrap() {
        "boolean" => json!(false),
        "null" => Value::Null,
        "string" => json!("x".repeat(size("minLength"))),
        "array" => vec![least(&schema["items"]); size("minItems")].into(),
        "object" => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let named = required.iter().map(|name| name.as_str().unwrap());
            named.map(|name| (name.to_owned(), least(&schema["properties"][name]))).collect()
        }
        kind => {
            let bound = schema["minimum"].as_f64().or(schema["maximum"].as_f64()).unwrap_or(0.0);
            let is_least = schema.get("minimum").is_some();
            json!(match kind {
                "number" => bound,
                _ if is_least => bound.ceil(),
                _ => bound.floor(),
            })
        }
    }
}

/// 100,000 pairs of schema and payload.
#[test]
fn payloads_are_judged_as_an_independent_validator_judges_them() {
    let mut random = Random(19);
    let (mut accepted, mut refused, mut pairs, mut faulty) = (0, 0, 0, 0);
    while pairs < 100_000 {
        let mut schema = json!({"type": "object"});
        random.members(&mut schema, 2);
        let handler = match declare("random", &schema) {
            Ok(handler) => handler,
            Err(faults) => {
                let is_named = faults.iter().all(|fault| fault.contains("satisfy both"));
                assert!(is_named, "{schema} {faults:?}");
                faulty += 1;
                continue;
            }
        };
        let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
        compiler.add_resource("s.json", schema.clone()).unwrap();
        let index = compiler.compile("s.json", &mut schemas).unwrap();
        let least = least(&schema);
        assert!(schemas.validate(&least, index).is_ok(), "{schema} {least}");
        assert!(takes(handler, &least), "{schema} {least}");
        for _ in 0..10 {
            let payload = random.near_object(&schema);
            let judged = schemas.validate(&meant(&schema, &payload), index).is_ok();
            assert_eq!(takes(handler, &payload), judged, "{schema} {payload}");
            *(if judged { &mut accepted } else { &mut refused }) += 1;
            pairs += 1;
        }
    }
    assert!(accepted > 30_000 && refused > 30_000 && faulty > 500, "{accepted} {refused} {faulty}");
}

/// A schema with this at `properties.p`.
fn of_p(rules: Value) -> Value {
    json!({"type": "object", "properties": {"p": rules}, "additionalProperties": false})
}

#[test]
fn each_fault_of_a_schema_is_told_with_its_place() {
    let (nothing, taken) = ("needs type, enum or const", "is no keyword");
    let both = "satisfy both";
    let amount = |more: Value| {
        let mut amount = json!({"type": "integer", "x-display": "money", "x-currency": "currency",
            "x-exponents": {"EUR": 2, "JPY": 0}});
        amount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        amount
    };
    // Rules of the property, the place of the fault below it, and what is said.
    let rows = [
        (json!(true), "", "must be a schema"),
        (json!([]), "", "must be a schema"),
        (json!({}), "", nothing),
        (json!({"title": "t"}), "", nothing),
        (json!({"type": ["string", "null"]}), "/type", "must be array, boolean"),
        (json!({"type": "text"}), "/type", "must be array, boolean"),
        (json!({"type": "string", "title": 1}), "/title", "must be a text"),
        (json!({"type": "string", "description": "a\u{1b}[2J"}), "/description", "control"),
        (json!({"type": "string", "pattern": "^a$"}), "/pattern", taken),
        (json!({"type": "string", "format": "date"}), "/format", taken),
        (json!({"type": "string", "default": ""}), "/default", taken),
        (json!({"type": "string", "Minimum": 1}), "/Minimum", taken),
        (json!({"type": "integer", "multipleOf": 2}), "/multipleOf", taken),
        (json!({"type": "integer", "exclusiveMinimum": 2}), "/exclusiveMinimum", taken),
        (json!({"type": "string", "a/b~c": 1}), "/a~1b~0c", taken),
        (json!({"$ref": "#/x"}), "/$ref", taken),
        (json!({"$id": "x", "type": "null"}), "/$id", taken),
        (json!({"anyOf": [{"type": "null"}]}), "/anyOf", taken),
        (json!({"not": {"type": "null"}}), "/not", taken),
        (
            json!({"type": "array", "items": {"type": "null"}, "uniqueItems": true}),
            "/uniqueItems",
            taken,
        ),
        // Rules of other types.
        (
            json!({"type": "string", "maximum": 50000}),
            "/maximum",
            "only for the type integer or number",
        ),
        (json!({"type": "integer", "maxLength": 3}), "/maxLength", "only for the type string"),
        (json!({"enum": [1], "minimum": 1}), "/minimum", "only for the type"),
        (json!({"type": "string", "items": {"type": "null"}}), "/items", "only for the type array"),
        (json!({"type": "boolean", "required": []}), "/required", "only for the type object"),
        // Bounds.
        (json!({"type": "integer", "minimum": 2, "maximum": 1}), "/minimum", both),
        (json!({"type": "number", "minimum": 0.5, "maximum": 0.25}), "/minimum", both),
        (json!({"type": "integer", "minimum": 1.25, "maximum": 1.75}), "/minimum", both),
        (json!({"type": "string", "minLength": 2, "maxLength": 1}), "/minLength", both),
        (
            json!({"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 0}),
            "/minItems",
            both,
        ),
        (json!({"type": "integer", "minimum": "1"}), "/minimum", "must be a number"),
        (json!({"type": "string", "minLength": -1}), "/minLength", "whole number"),
        (json!({"type": "string", "maxLength": 1.5}), "/maxLength", "whole number"),
        (
            json!({"type": "string", "minLength": 1_048_577}),
            "/minLength",
            "no more than a payload can have",
        ),
        (
            json!({"type": "array", "items": {"type": "null"}, "minItems": 131_073}),
            "/minItems",
            "no more than a payload",
        ),
        // Listed values.
        (json!({"enum": []}), "/enum", "at least one value"),
        (json!({"enum": {}}), "/enum", "at least one value"),
        (json!({"type": "string", "const": 1}), "/const", both),
        (json!({"type": "integer", "enum": [1, 1.5]}), "/enum/1", both),
        (json!({"type": "integer", "maximum": 1, "enum": [0, 1, 2]}), "/enum/2", both),
        (json!({"enum": [1, 2], "const": 3}), "/const", both),
        // Containers.
        (json!({"type": "object"}), "", "needs properties"),
        (json!({"type": "object", "properties": {}}), "", "needs additionalProperties"),
        (
            json!({"type": "object", "properties": {}, "additionalProperties": true}),
            "/additionalProperties",
            "must be false",
        ),
        (
            json!({"type": "object", "properties": {}, "additionalProperties": {}}),
            "/additionalProperties",
            "must be false",
        ),
        (
            json!({"type": "object", "properties": [], "additionalProperties": false}),
            "/properties",
            "must be an object of schemas",
        ),
        (json!({"type": "array"}), "", "needs items"),
        (json!({"type": "array", "items": true}), "/items", "must be a schema"),
        (json!({"type": "array", "items": {}}), "/items", nothing),
        (
            json!({"type": "array", "items": {"type": "array", "items": {"enum": []}}}),
            "/items/items/enum",
            "at least one",
        ),
        (
            json!({"type": "object", "properties": {"a/b": {}}, "additionalProperties": false}),
            "/properties/a~1b",
            nothing,
        ),
        (
            json!({"type": "object", "properties": {}, "required": ["q"], "additionalProperties": false}),
            "/required/0",
            both,
        ),
        (
            json!({"type": "object", "properties": {"q": {"type": "null"}}, "required": ["q", "q"], "additionalProperties": false}),
            "/required",
            "each once",
        ),
        (
            json!({"type": "object", "properties": {}, "required": [1], "additionalProperties": false}),
            "/required",
            "names",
        ),
        // What an approver is shown.
        (json!({"type": "string", "x-display": "html"}), "/x-display", "can only be text"),
        (json!({"type": "integer", "x-display": "text"}), "/x-display", "can only be money"),
        (
            json!({"type": "number", "x-display": "money"}),
            "/x-display",
            "only for the type string or integer",
        ),
        (json!({"type": "integer", "x-display": "money"}), "", "needs x-"),
        (json!({"type": "integer", "x-currency": "currency"}), "", "needs x-"),
        (amount(json!({"x-currency": "p"})), "/x-currency", "names no string"),
        (amount(json!({"x-currency": "nothing"})), "/x-currency", "names no string"),
        (amount(json!({"x-currency": 1})), "/x-currency", "must be the name"),
        (amount(json!({"x-exponents": {}})), "/x-exponents", "0 to 18 for each"),
        (amount(json!({"x-exponents": {"EUR": 19}})), "/x-exponents", "0 to 18 for each"),
        (amount(json!({"x-exponents": {"EUR": -1}})), "/x-exponents", "0 to 18 for each"),
        (amount(json!({"x-exponents": {"EUR": 2}})), "/x-exponents", "lacks the currency \"JPY\""),
        (
            json!({"type": "array", "items": amount(json!({}))}),
            "/items/x-currency",
            "names no string",
        ),
    ];
    for (rules, place, says) in rows {
        let mut schema = of_p(rules.clone());
        schema["properties"]["currency"] = json!({"enum": ["EUR", "JPY"]});
        let faults = declare("a", &schema).map(|handler| handler.action).unwrap_err();
        let beginning = format!("action \"a\", /actions/0/payload_schema/properties/p{place} ");
        assert!(
            faults.iter().any(|f| f.starts_with(&beginning) && f.contains(says)),
            "{rules} {faults:?}"
        );
    }
    // Without the fault it is taken.
    let mut good = of_p(amount(json!({"title": "t", "minimum": 1, "maximum": 1.0, "enum": [1]})));
    good["properties"]["currency"] = json!({"type": "string", "x-display": "text"});
    assert!(takes(declare("a", &good).unwrap(), &json!({"p": 1})));
}

#[test]
fn each_fault_of_a_file_is_told_with_its_place() {
    let good =
        || json!({"action": "a", "summary": "S.", "payload_schema": of_p(json!({"type": "null"}))});
    let but = |name: &str, value: Value| {
        let mut declared = good();
        declared[name] = value;
        declared
    };
    let rows = [
        (but("action", json!("")), "/action must be 1 to 64"),
        (but("action", json!("a.b")), "/action must be 1 to 64"),
        (but("action", json!("a/b")), "/action must be 1 to 64"),
        (but("action", json!("é")), "/action must be 1 to 64"),
        (but("action", json!("a".repeat(65))), "/action must be 1 to 64"),
        (but("action", json!(1)), "/action must be 1 to 64"),
        (but("action", json!("enqueue")), "/action is taken already"),
        (but("action", json!("Send_Email")), "/action is taken already"),
        (but("action", json!("GOOD")), "/action is taken already"),
        (but("action", json!("openexec_proposal")), " this name is reserved"),
        (but("action", json!("OpenExec_Proposal")), " this name is reserved"),
        (but("action", json!("denied")), " this name is reserved"),
        (but("summary", json!("")), " summary must be 1 to 1024"),
        (but("summary", json!("a".repeat(1025))), " summary must be 1 to 1024"),
        (but("summary", json!("a\nb")), "/summary must be a text"),
        (but("summary", json!(null)), "/summary must be a text"),
        (but("more", json!(1)), " must be an object of action, summary and payload_schema"),
        (json!({"action": "a", "summary": "S."}), " must be an object of action"),
        (json!("a"), " must be an object of action"),
        (but("payload_schema", json!({})), "/payload_schema must be a schema with"),
        (
            but("payload_schema", json!({"type": "array", "items": {"type": "null"}})),
            "/payload_schema must be a schema with",
        ),
        (but("payload_schema", json!({"enum": [{}]})), "/payload_schema must be a schema with"),
        (
            but(
                "payload_schema",
                json!({"type": "object", "properties": {"a b": {"type": "null"}}, "additionalProperties": false}),
            ),
            " a property must be an object, named by",
        ),
        (
            but(
                "payload_schema",
                json!({"type": "object", "properties": {}, "additionalProperties": false, "enum": [{}]}),
            ),
            " payload_schema may not have",
        ),
    ];
    for (wrong, says) in &rows {
        let mut named_good = good();
        named_good["action"] = "good".into();
        let text = file(&json!([named_good, wrong]));
        let faults = with(HANDLERS, &text).map(<[Handler]>::len).unwrap_err();
        let name = wrong["action"].as_str().unwrap_or_default();
        let expected = format!("action {name:?}, /actions/1{says}");
        assert!(faults.len() == 1 && faults[0].starts_with(&expected), "{wrong} {faults:?}");
    }
    // All of them at once (three names are taken by built-in handlers alone), but no more than can be read.
    let all: Vec<Value> = rows.iter().map(|(wrong, _)| wrong.clone()).collect();
    assert_eq!(
        with(&[], &file(&json!(all))).map(<[Handler]>::len).unwrap_err().len(),
        rows.len() - 3
    );
    let many = vec![json!(1); 1_000];
    assert_eq!(with(&[], &file(&json!(many))).map(<[Handler]>::len).unwrap_err().len(), 50);
    for text in [
        "",
        "[]",
        "{}",
        r#"{"actions":{}}"#,
        r#"{"actions":[],"more":1}"#,
        r#"{"actions":[],"actions":[]}"#,
        r#"{"actions":[]} x"#,
        "\u{feff}{\"actions\":[]}",
    ] {
        assert!(with(&[], text).is_err(), "{text}");
    }
    assert_eq!(with(HANDLERS, r#"{"actions":[]}"#).map(<[Handler]>::len), Ok(HANDLERS.len()));
}

#[test]
fn a_deep_schema_is_taken_as_far_as_json_goes() {
    let deep = |levels: usize| {
        let mut schema = json!({"type": "null"});
        for _ in 0..levels {
            schema = of_p(schema);
        }
        schema
    };
    // Each level is two containers; around them are the file, its array and the action, and inside is one.
    let handler = declare("deep", &deep(30)).unwrap();
    let mut payload = Value::Null;
    for _ in 0..30 {
        payload = json!({ "p": payload });
    }
    assert!(takes(handler, &payload));
    assert!(!takes(handler, &json!({ "p": payload })));
    for levels in [31, 64, 500] {
        let faults = declare("deep", &deep(levels)).map(|handler| handler.action).unwrap_err();
        assert!(
            faults[0].starts_with("is not strict JSON: ") && faults[0].contains("byte"),
            "{faults:?}"
        );
    }
}
