//! The JSON modules against fixed texts: those that must be refused, the examples of RFC 8785, and
//! what Python wrote.

use openexec::core::json::{Object, Value, canonical, strict};
use openexec::core::limits::{JSON_DEPTH_MAX, RECORD_DEPTH_MAX};
use openexec::core::problem::Code;
use openexec::serve::front::legacy;
use serde_json::json;

/// Every line of a vector file as an object.
fn vectors(lines: &str) -> impl Iterator<Item = Object> + '_ {
    lines.lines().map(|line| serde_json::from_str(line).expect("a vector is a JSON object"))
}

fn text<'a>(vector: &'a Object, field: &str) -> &'a str {
    let value = vector.get(field).and_then(Value::as_str);
    value.unwrap_or_else(|| panic!("{field} is missing: {vector:?}"))
}

/// The text to be read: UTF-8 as it stands, anything else in hexadecimal.
fn input(vector: &Object) -> Vec<u8> {
    let Some(hex) = vector.get("hex").and_then(Value::as_str) else {
        return text(vector, "text").as_bytes().to_vec();
    };
    let digits = hex.as_bytes().chunks_exact(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16));
    bytes.collect::<Result<_, _>>().expect("hexadecimal")
}

#[test]
fn what_is_not_strict_is_refused_with_its_code_and_offset() {
    let mut count = 0;
    for vector in vectors(include_str!("../vectors/json/bad.jsonl")) {
        let input = input(&vector);
        let why = text(&vector, "why");
        let Err(error) = strict::read(&input, JSON_DEPTH_MAX) else {
            panic!("{why}: was read: {vector:?}");
        };
        let expected = json!([vector["code"], vector["offset"]]);
        assert_eq!(json!([error.code.name(), error.offset]), expected, "{why}: {vector:?}");
        count += 1;
    }
    assert!(count > 150, "only {count} vectors");
}

/// A mark is named, wherever a tool has left one: the code says only that it is no JSON.
#[test]
fn a_byte_order_mark_is_named() {
    for (text, offset) in [
        ("\u{feff}{}", 0),
        ("\u{feff}", 0),
        (" \u{feff}[]", 1),
        ("{}\u{feff}", 2),
        ("[1,\u{feff}2]", 3),
    ] {
        let error = strict::read(text.as_bytes(), JSON_DEPTH_MAX).unwrap_err();
        assert_eq!((error.code, error.offset), (Code::MalformedJson, offset), "{text:?}");
        assert!(error.to_string().contains("byte order mark"), "{error}");
    }
    // What is in a string is text; what only begins alike is none.
    assert!(strict::read("\"\u{feff}\"".as_bytes(), JSON_DEPTH_MAX).is_ok());
    for text in ["\u{fefe}{}", "{}x", ""] {
        let error = strict::read(text.as_bytes(), JSON_DEPTH_MAX).unwrap_err();
        assert!(!error.to_string().contains("mark"), "{error}");
    }
    let utf_16 = strict::read(b"\xff\xfe{\0}\0", JSON_DEPTH_MAX).unwrap_err();
    assert_eq!(utf_16.code, Code::InvalidUtf8);
}

#[test]
fn what_is_strict_is_read() {
    let deep = "[".repeat(64) + &"]".repeat(64);
    let deep = deep.as_str();
    let cases = [
        (" \t\r\n{ } \n", "{}"),
        ("[\n1 ,\t2\r]", "[1,2]"),
        ("{\"b\" : [ ] ,\"a\":{ }}", "{\"a\":{},\"b\":[]}"),
        ("\"\"", "\"\""),
        ("\"\u{7f}\u{80}\u{2028}\u{feff}\u{ffff}\"", "\"\u{7f}\u{80}\u{2028}\u{feff}\u{ffff}\""),
        (r#""\"\\\/\b\f\n\r\t\u0041""#, r#""\"\\/\b\f\n\r\tA""#),
        (r#""\uD83D\ude00 \ud7ff\uE000 \uFFFF""#, "\"\u{1f600} \u{d7ff}\u{e000} \u{ffff}\""),
        (r#""\ud800\udc00\uDBFF\uDFFF""#, "\"\u{10000}\u{10ffff}\""),
        (r#""\\ud800""#, r#""\\ud800""#),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0e99999999999999999999", "0"),
        ("0.0000e-99999999999999999999", "0"),
        ("-0e-400", "0"),
        // Half of the smallest double and a little more; below that it would be zero.
        ("2.4703282292062328e-324", "5e-324"),
        ("0.1000000000000000055511151231257827", "0.1"),
        ("1.0", "1"),
        ("1E+2", "100"),
        ("1e-07", "1e-7"),
        ("9007199254740991", "9007199254740991"),
        ("-9007199254740991.0", "-9007199254740991"),
        ("9007199254740991.4999", "9007199254740991"),
        ("9.007199254740991e15", "9007199254740991"),
        // Halfway between two doubles: to the even one, as an independent reading has it too.
        ("4503599627370496.25", "4503599627370496"),
        ("4503599627370496.75", "4503599627370497"),
        ("{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]}}", "{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]}}"),
        (
            "{\"a\":1,\"A\":2,\"\u{e9}\":3,\"e\u{301}\":4}",
            "{\"A\":2,\"a\":1,\"e\u{301}\":4,\"\u{e9}\":3}",
        ),
        (deep, deep),
    ];
    for (text, expected) in cases {
        let value = strict::read(text.as_bytes(), JSON_DEPTH_MAX);
        let written = value.as_ref().map(canonical::to_string);
        assert_eq!(written.as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn a_record_may_wrap_what_was_accepted() {
    let text = "[".repeat(RECORD_DEPTH_MAX) + &"]".repeat(RECORD_DEPTH_MAX);
    assert!(strict::read(text.as_bytes(), RECORD_DEPTH_MAX).is_ok());
    let error = strict::read(text.as_bytes(), JSON_DEPTH_MAX).unwrap_err();
    assert_eq!(error.offset, JSON_DEPTH_MAX);
}

/// RFC 8785, section 3.2.2. Its `1E30` is more than the strict reader takes.
#[test]
fn rfc_8785_sample_is_serialised_as_printed() {
    let sample = r#"{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"#;
    let expected = concat!(
        r#"{"literals":[null,true,false],"#,
        r#""numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
        r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
    );
    let value: Value = serde_json::from_str(sample).expect("the sample is JSON");
    assert_eq!(canonical::to_string(&value), expected);

    let error = strict::read(sample.as_bytes(), JSON_DEPTH_MAX).unwrap_err();
    assert_eq!(error.code, Code::NumberOutOfRange);
    assert_eq!(Some(error.offset), sample.find("1E30"));
    let value = strict::read(sample.replace("1E30", "1E3").as_bytes(), JSON_DEPTH_MAX);
    let written = value.as_ref().map(canonical::to_string);
    assert_eq!(written, Ok(expected.replace("1e+30", "1000")));
}

/// RFC 8785, section 3.2.3.
#[test]
fn rfc_8785_keys_are_sorted_as_printed() {
    let sample = r#"{
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\ud83d\ude00": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis"
    }"#;
    let expected = concat!(
        "{\"\\r\":\"Carriage Return\",",
        "\"1\":\"One\",",
        "\"\u{80}\":\"Control\",",
        "\"\u{f6}\":\"Latin Small Letter O With Diaeresis\",",
        "\"\u{20ac}\":\"Euro Sign\",",
        "\"\u{1f600}\":\"Emoji: Grinning Face\",",
        "\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
    );
    let value = strict::read(sample.as_bytes(), JSON_DEPTH_MAX);
    let written = value.as_ref().map(canonical::to_string);
    assert_eq!(written.as_deref(), Ok(expected));
}

/// RFC 8785, appendix B. Its two errors, NaN and Infinity, are no JSON numbers.
#[test]
fn rfc_8785_numbers_are_written_as_printed() {
    let table: [(u64, &str); 24] = [
        (0x0000000000000000, "0"),
        (0x8000000000000000, "0"),
        (0x0000000000000001, "5e-324"),
        (0x8000000000000001, "-5e-324"),
        (0x7fefffffffffffff, "1.7976931348623157e+308"),
        (0xffefffffffffffff, "-1.7976931348623157e+308"),
        (0x4340000000000000, "9007199254740992"),
        (0xc340000000000000, "-9007199254740992"),
        (0x4430000000000000, "295147905179352830000"),
        (0x44b52d02c7e14af5, "9.999999999999997e+22"),
        (0x44b52d02c7e14af6, "1e+23"),
        (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
        (0x444b1ae4d6e2ef4e, "999999999999999700000"),
        (0x444b1ae4d6e2ef4f, "999999999999999900000"),
        (0x444b1ae4d6e2ef50, "1e+21"),
        (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
        (0x3eb0c6f7a0b5ed8d, "0.000001"),
        (0x41b3de4355555553, "333333333.3333332"),
        (0x41b3de4355555554, "333333333.33333325"),
        (0x41b3de4355555555, "333333333.3333333"),
        (0x41b3de4355555556, "333333333.3333334"),
        (0x41b3de4355555557, "333333333.33333343"),
        (0xbecbf647612f3696, "-0.0000033333333333333333"),
        (0x43143ff3c1cb0959, "1424953923781206.2"),
    ];
    for (bits, expected) in table {
        let value = json!(f64::from_bits(bits));
        assert_eq!(canonical::to_string(&value), expected, "{bits:016x}");
    }
    assert!(serde_json::Number::from_f64(f64::from_bits(0x7fffffffffffffff)).is_none());
    assert!(serde_json::Number::from_f64(f64::from_bits(0x7ff0000000000000)).is_none());
}

/// The vectors are made by `tests/vectors/json/legacy.py`.
#[test]
fn the_legacy_encoding_is_what_python_writes() {
    let mut count = 0;
    for vector in vectors(include_str!("../vectors/json/legacy.jsonl")) {
        let (text, expected) = (text(&vector, "text"), text(&vector, "legacy"));
        let value = strict::read(text.as_bytes(), JSON_DEPTH_MAX);
        let value = value.unwrap_or_else(|error| panic!("{error}: {text}"));
        let bytes = canonical::to_string(&json!(expected)).len() - "\"\"".len();
        let written = legacy::to_string(&value, bytes);
        assert_eq!(written.as_deref(), Some(expected), "{text}");
        assert_eq!(legacy::to_string(&value, bytes - 1), None, "{text}");
        count += 1;
    }
    assert!(count > 300, "only {count} vectors");
}
