//! Approvals: what is accepted is given back exactly, and every field has its one form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openexec::core::approval::artifact::parse;
use openexec::core::json::strict;
use openexec::core::limits::{ARTIFACTS_MAX, JSON_DEPTH_MAX};
use serde_json::Value;

fuzz_target!(|text: &[u8]| {
    let Ok(value) = strict::read(text, JSON_DEPTH_MAX) else { return };
    let Ok(artifacts) = parse(&value) else { return };
    assert!((1..=ARTIFACTS_MAX).contains(&artifacts.len()));
    let back: Vec<Value> = artifacts.iter().map(|artifact| artifact.to_value()).collect();
    match &value {
        Value::Array(items) => assert_eq!(*items, back),
        one => assert_eq!(vec![one.clone()], back),
    }
    let mut ids: Vec<&str> = artifacts.iter().map(|artifact| artifact.approval_id()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|two| two[0] != two[1]), "an id counts twice");
    for (artifact, value) in artifacts.iter().zip(back) {
        let field = |name: &str| value[name].as_str().expect("a string").to_owned();
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let id = field("approval_id");
        let is_uuid = id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => is_hex(byte),
        });
        assert!(id.len() == 36 && is_uuid, "{id}");
        let hash = field("action_hash");
        assert!(hash.len() == 64 && hash.bytes().all(is_hex), "{hash}");
        let tenant = field("tenant_id");
        let (issued, expires) = (field("issued_at"), field("expires_at"));

        // The signed message has no separators; all the same it can be taken apart again, from its ends.
        let message = String::from_utf8(artifact.signed_message()).expect("UTF-8");
        assert_eq!(message, [&id[..], &tenant, &hash, &issued, &expires].concat());
        let last = message.rfind('T').expect("a time") - 10;
        let first = message[..last].rfind('T').expect("a time") - 10;
        assert_eq!((&message[first..last], &message[last..]), (&issued[..], &expires[..]));
        assert_eq!((&message[..36], &message[36..first - 64]), (&id[..], &tenant[..]));
    }
});
