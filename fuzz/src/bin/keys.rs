//! Keys files, PEM blocks and OpenSSH lines: a keyring is never without its invariants, and what is read has
//! one meaning.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use openexec::core::approval::keys::Keyring;
use openexec::core::limits::{KEY_NAME_BYTES_MAX, KEYS_MAX};
use openexec::evidence::approvers::fingerprint;
use openexec::serve::keys::{from_keys_file, from_text};
use openexec::sys::clock;

fuzz_target!(|text: &str| {
    if let Ok(keyring) = from_keys_file(text) {
        holds(&keyring);
        for action in keyring.actions_of_keys().chain(keyring.actions_with_thresholds()) {
            let able: Vec<_> =
                keyring.keys().iter().filter(|key| key.may_approve(action)).cloned().collect();
            assert!(
                keyring.required(action).missing(&able).is_empty(),
                "nobody can approve {action}"
            );
        }
    }
    if let Ok(keyring) = from_text(text) {
        holds(&keyring);
        for key in keyring.keys() {
            assert_eq!(key.name(), fingerprint(key.public_key()));
            assert!(key.may_approve("echo") && !key.is_expired(clock::now()));
        }
        assert_eq!(from_text(&text.replace('\n', "\\n")), Ok(keyring));
    }
});

fn holds(keyring: &Keyring) {
    let keys = keyring.keys();
    assert!((1..=KEYS_MAX).contains(&keys.len()));
    let names: BTreeSet<&str> = keys.iter().map(|key| key.name()).collect();
    let public: BTreeSet<&[u8]> = keys.iter().map(|key| &key.public_key()[..]).collect();
    assert_eq!((names.len(), public.len()), (keys.len(), keys.len()), "one key counts twice");
    for key in keys {
        assert!((1..=KEY_NAME_BYTES_MAX).contains(&key.name().len()));
        assert!(!key.name().chars().any(char::is_control), "{:?}", key.name());
        assert_eq!(key.person().is_some(), keys[0].person().is_some());
        // A weak key has signatures that anybody can make.
        assert!(ed25519_compact::PublicKey::new(**key.public_key()).validate().is_ok());
    }
    // A record keeps all of it.
    let (recorded, required) = keyring.recorded();
    let again = Keyring::read(
        recorded.as_array().expect("keys"),
        required.as_object().expect("thresholds"),
    );
    assert_eq!(again.as_ref(), Ok(keyring));
}
