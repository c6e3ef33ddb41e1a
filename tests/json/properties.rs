//! The JSON modules against independent ones, and against each other, over random values.

use openexec::core::json::{Value, canonical, strict};
use openexec::core::limits::{JSON_DEPTH_MAX, NUMBER_MAGNITUDE_MAX};
use openexec::core::problem::Code;
use openexec::serve::front::legacy;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

/// Characters on every side of every rule: escapes, UTF-8 lengths, and the order of U+E000 to
/// U+FFFF and of what lies beyond the BMP.
fn any_char() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => prop::char::range('a', 'd'),
        2 => prop::char::range('\u{0}', '\u{7f}'),
        1 => prop::char::range('\u{80}', '\u{d7ff}'),
        2 => prop::char::range('\u{e000}', '\u{ffff}'),
        2 => prop::char::range('\u{10000}', '\u{10ffff}'),
        1 => prop::sample::select(vec!['"', '\\', '/', '\u{7f}', '\u{d7ff}', '\u{e000}']),
    ]
}

fn any_string() -> impl Strategy<Value = String> {
    let short = vec(any_char(), 0..6);
    let long = vec(any_char(), 0..80);
    prop_oneof![4 => short, 1 => long].prop_map(String::from_iter)
}

/// Doubles of every size, integers among them.
fn any_double() -> impl Strategy<Value = f64> {
    let decimal = (any::<i32>(), -40_i32..40);
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        decimal.prop_map(|(digits, exponent)| format!("{digits}e{exponent}").parse().unwrap()),
        (any::<i64>(), 0_u32..64).prop_map(|(integer, shift)| (integer >> shift) as f64),
        prop::sample::select(vec![0.0, -0.0, 1.0, 1e-6, 1e-7, 1e-4, 1e-5, 1e15, 1e21, 5e-324]),
    ]
    .prop_filter("JSON has no other", |double| double.is_finite())
}

/// Numbers that the strict reader takes.
fn any_number() -> impl Strategy<Value = Value> {
    let largest = NUMBER_MAGNITUDE_MAX as i64;
    prop_oneof![
        (-largest..=largest).prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        any_double()
            .prop_filter("in range", |double| double.abs() <= NUMBER_MAGNITUDE_MAX)
            .prop_map(Value::from),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from)],
        3 => any_number(),
        2 => any_string().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(any_string(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A source of choices that a failing case can be replayed with.
struct Choices(u64);

impl Choices {
    /// Below `limit`: a linear congruential step (Knuth's MMIX), of which the high bits are used.
    fn below(&mut self, limit: u64) -> u64 {
        let step = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = step.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// `value` in some other spelling, with the same meaning.
fn respell(value: &Value, choices: &mut Choices, out: &mut String) {
    space(choices, out);
    match value {
        Value::String(string) => respell_string(string, choices, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                respell(item, choices, out);
            }
            space(choices, out);
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (index, (key, value)) in object.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                space(choices, out);
                respell_string(key, choices, out);
                space(choices, out);
                out.push(':');
                respell(value, choices, out);
            }
            space(choices, out);
            out.push('}');
        }
        Value::Number(number) if choices.below(2) == 0 => {
            let text = format!("{:e}", number.as_f64().unwrap());
            out.push_str(&if choices.below(2) == 0 { text.to_uppercase() } else { text });
        }
        other => out.push_str(&other.to_string()),
    }
    space(choices, out);
}

fn respell_string(string: &str, choices: &mut Choices, out: &mut String) {
    out.push('"');
    for char in string.chars() {
        match (choices.below(3), char) {
            (0, '/') => out.push_str("\\/"),
            (0, _) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    out.push_str(&match choices.below(2) {
                        0 => format!("\\u{unit:04x}"),
                        _ => format!("\\u{unit:04X}"),
                    });
                }
            }
            _ => {
                let quoted = json!(char.to_string()).to_string();
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
        }
    }
    out.push('"');
}

fn space(choices: &mut Choices, out: &mut String) {
    out.push_str(["", "", " ", "\n", "\t\r "][choices.below(5) as usize]);
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_canonical_text_is_that_of_an_independent_writer(value in any_value()) {
        let expected = serde_json_canonicalizer::to_string(&value).unwrap();
        prop_assert_eq!(canonical::to_string(&value), expected);
    }

    #[test]
    fn a_double_of_any_size_is_written_as_by_an_independent_writer(double in any_double()) {
        let expected = serde_json_canonicalizer::to_string(&double).unwrap();
        prop_assert_eq!(canonical::to_string(&json!(double)), expected);
    }

    #[test]
    fn the_canonical_text_is_read_back_to_itself(value in any_value()) {
        let text = canonical::to_string(&value);
        let reread = strict::read(text.as_bytes(), JSON_DEPTH_MAX).unwrap();
        prop_assert_eq!(canonical::to_string(&reread), text);
    }

    #[test]
    fn every_spelling_of_a_value_has_one_canonical_text(value in any_value(), seed: u64) {
        let mut text = String::new();
        respell(&value, &mut Choices(seed), &mut text);
        let reread = strict::read(text.as_bytes(), JSON_DEPTH_MAX);
        let written = reread.as_ref().map(canonical::to_string);
        prop_assert_eq!(written, Ok(canonical::to_string(&value)), "{}", text);
    }

    #[test]
    fn what_was_read_is_made_what_its_canonical_text_reads_as(value in any_value(), seed: u64) {
        let mut text = String::new();
        respell(&value, &mut Choices(seed), &mut text);
        let mut read = strict::read(text.as_bytes(), JSON_DEPTH_MAX).expect("strict");
        canonical::normalise(&mut read);
        let again = strict::read(canonical::to_string(&value).as_bytes(), JSON_DEPTH_MAX);
        prop_assert_eq!(Ok(read), again);
    }

    #[test]
    fn a_key_is_found_twice_however_it_is_spelt(
        keys in prop::collection::btree_set(any_string(), 1..20),
        again: prop::sample::Index,
        seed: u64,
    ) {
        let choices = &mut Choices(seed);
        let keys = Vec::from_iter(keys);
        let mut text = String::from("{");
        for key in &keys {
            respell_string(key, choices, &mut text);
            text.push_str(":{},");
        }
        let offset = text.len();
        respell_string(&keys[again.index(keys.len())], choices, &mut text);
        text.push_str(":{}}");
        let error = strict::read(text.as_bytes(), JSON_DEPTH_MAX).unwrap_err();
        prop_assert_eq!(error.code, Code::DuplicateKey);
        prop_assert_eq!(error.offset, offset);
    }

    /// Wherever no rule of our own applies, an independent reader agrees on what is JSON.
    #[test]
    fn an_independent_reader_accepts_the_same(
        value in any_value(),
        seed: u64,
        changes in vec((any::<prop::sample::Index>(), 0_u8..3, any_json_byte()), 0..4),
    ) {
        let mut text = String::new();
        respell(&value, &mut Choices(seed), &mut text);
        let mut text = text.into_bytes();
        for (place, way, byte) in changes {
            match way {
                0 => text.insert(place.index(text.len() + 1), byte),
                1 if !text.is_empty() => drop(text.remove(place.index(text.len()))),
                _ if !text.is_empty() => { let at = place.index(text.len()); text[at] = byte; }
                _ => {}
            }
        }
        let theirs = serde_json::from_slice::<Value>(&text);
        match strict::read(&text, JSON_DEPTH_MAX) {
            Ok(ours) => {
                let theirs = theirs.as_ref().map(canonical::to_string);
                prop_assert_eq!(theirs.ok(), Some(canonical::to_string(&ours)));
            }
            Err(error) => {
                prop_assert!(error.offset <= text.len());
                let is_ours_alone = matches!(
                    error.code,
                    Code::DuplicateKey | Code::NumberOutOfRange
                );
                prop_assert!(is_ours_alone || theirs.is_err(), "{}", error);
            }
        }
    }

    #[test]
    fn the_legacy_text_means_the_same_and_fits_exactly(value in any_value()) {
        let text = legacy::to_string(&value, usize::MAX).unwrap();
        prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        prop_assert_eq!(strict::read(text.as_bytes(), JSON_DEPTH_MAX), Ok(value.clone()));
        let bytes = canonical::to_string(&json!(text)).len() - "\"\"".len();
        prop_assert_eq!(legacy::to_string(&value, bytes), Some(text));
        prop_assert_eq!(legacy::to_string(&value, bytes - 1), None);
    }
}

/// Bytes that JSON gives a meaning to, and any other.
fn any_json_byte() -> impl Strategy<Value = u8> {
    let meaningful = b"{}[]:,\"\\/ \n\t0123456789+-.eEbfnrtuaDd\0\x1f\x7f\x80\xc3\xed\xff";
    prop_oneof![4 => prop::sample::select(meaningful.to_vec()), 1 => any::<u8>()]
}
