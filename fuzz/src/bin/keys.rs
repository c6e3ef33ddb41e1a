//! Keys files and PEM blocks: a keyring is never without its invariants, and PEM has one meaning.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use openexec::core::approval::keys::{Keyring, fingerprint};
use openexec::core::base64;
use openexec::core::limits::{KEY_NAME_BYTES_MAX, KEYS_MAX};
use openexec::sys::clock;

/// SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4) before the key.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fuzz_target!(|text: &str| {
    if let Ok(keyring) = Keyring::from_keys_file(text) {
        holds(&keyring);
        for action in keyring.actions_of_keys().chain(keyring.actions_with_thresholds()) {
            let able = keyring.keys().iter().filter(|key| key.may_approve(action)).count();
            assert!(able >= keyring.required(action).get(), "nobody can approve {action}");
        }
    }
    if let Ok(keyring) = Keyring::from_pem(text) {
        holds(&keyring);
        let pem: String = keyring
            .keys()
            .iter()
            .map(|key| {
                assert_eq!(key.name(), fingerprint(key.public_key()));
                assert!(key.may_approve("echo") && !key.is_expired(clock::now()));
                let der = [&SPKI[..], &key.public_key()[..]].concat();
                format!(
                    "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
                    base64::encode(&der)
                )
            })
            .collect();
        assert_eq!(Keyring::from_pem(&pem), Ok(keyring.clone()));
        assert_eq!(Keyring::from_pem(&pem.replace('\n', "\\n")), Ok(keyring));
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
        assert!(keyring.has(key.public_key()));
        // A weak key has signatures that anybody can make.
        assert!(ed25519_compact::PublicKey::new(**key.public_key()).validate().is_ok());
    }
}
