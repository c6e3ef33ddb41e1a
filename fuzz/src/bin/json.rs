//! Strict JSON: what it accepts means the same to serde_json and has one canonical text; what it calls
//! malformed is malformed to serde_json as well.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openexec::core::json::canonical;
use openexec::core::json::strict::read;
use openexec::core::limits::JSON_DEPTH_MAX;
use openexec::core::problem::Code;
use openexec::serve::front::legacy;
use openexec::sys::visible;
use serde_json::Value;

fuzz_target!(|text: &[u8]| {
    let other = serde_json::from_slice::<Value>(text);
    let value = match read(text, JSON_DEPTH_MAX) {
        Ok(value) => value,
        Err(error) => {
            assert!(error.offset <= text.len());
            let is_no_json =
                matches!(error.code, Code::MalformedJson | Code::InvalidUtf8 | Code::LoneSurrogate);
            assert!(!is_no_json || other.is_err(), "only serde_json reads it: {error}");
            return;
        }
    };
    let text = canonical::to_string(&value);
    let other = other.expect("serde_json reads what we accept");
    assert_eq!(canonical::to_string(&other), text, "serde_json reads something else");

    let again = read(text.as_bytes(), JSON_DEPTH_MAX).expect("canonical text is strict");
    assert_eq!(canonical::to_string(&again), text, "canonical text is not canonical");
    let standard: Value = serde_json::from_str(&text).expect("canonical text is JSON");
    assert_eq!(canonical::to_string(&standard), text);

    let escaped = visible::escaped(&text);
    assert!(escaped.chars().all(visible::is_visible));
    assert_eq!(
        read(escaped.as_bytes(), JSON_DEPTH_MAX),
        Ok(again),
        "it is shown as something else"
    );

    if let Some(legacy) = legacy::to_string(&value, 1 << 20) {
        let read = read(legacy.as_bytes(), JSON_DEPTH_MAX).expect("legacy text is strict");
        assert_eq!(canonical::to_string(&read), text, "the legacy text means something else");
        assert_eq!(legacy::to_string(&read, 1 << 20), Some(legacy));
    }
});
