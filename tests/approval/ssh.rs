//! Keys and signatures of OpenSSH: what its own tools made, what it publishes, and a security key in
//! software; and everything that differs from the one form is refused with a sentence.

use ed25519_compact::{PublicKey, Signature as Ed25519};
use openexec::core::approval::artifact::{Artifact, parse};
use openexec::core::approval::keys::Keyring;
use openexec::core::approval::required::Required;
use openexec::core::approval::signature::Signature;
use openexec::core::approval::verify::{Context, Terms, examine, judge};
use openexec::core::base64;
use openexec::core::time::Time;
use openexec::serve::keys::{from_keys_file, from_text};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::approvals::{keys_file_fault, private_key, public_pem, read_json};
use crate::common::ssh::{How, Signer, assembled, signed, string, touched};

const INVALID: &str = "does not verify under any configured key";

/// The artifact of the vectors, with this signature.
fn artifact(signature: &[u8]) -> Value {
    let mut artifact = read_json("ssh.json")["artifact"].clone();
    artifact["signature"] = base64::encode(signature).into();
    artifact
}

fn message() -> Vec<u8> {
    let artifact = parse(&artifact(&[0; 64])).expect("well formed");
    artifact[0].signed_message()
}

/// `approved`, or the sentence of the refusal.
fn outcome(artifact: &Value, keyring: &Keyring) -> String {
    let artifacts = match parse(artifact) {
        Ok(artifacts) => artifacts,
        Err(fault) => return fault.to_string(),
    };
    let read: Vec<Value> = artifacts.iter().map(Artifact::to_value).collect();
    assert_eq!(read, std::slice::from_ref(artifact), "read and written again");
    let context = Context {
        terms: Terms {
            now: Time::parse("2026-03-01T12:00:00Z").expect("a time"),
            tenant: "t1",
            ttl_max_seconds: None,
            store_created: Time::from_micros(0),
            clock: None,
        },
        action: "echo",
        exec_id: [0xbb; 32],
        action_hash: [0xaa; 32],
        legacy_hash: None,
        required: &Required::read(&1.into()).expect("one place"),
        proposer: None,
        is_spent: &|_| false,
    };
    match judge(&examine(artifacts, keyring), &context) {
        Ok(_) => "approved".to_owned(),
        Err(problem) => problem.detail,
    }
}

fn keyring(key: Value) -> Keyring {
    from_keys_file(&json!({"keys": [key]}).to_string()).expect("a key")
}

fn of(signer: &Signer) -> Keyring {
    keyring(json!({"name": "k", "public_key": signer.line()}))
}

#[test]
fn what_ssh_keygen_made_has_the_outcome_that_its_file_says() {
    let file = read_json("ssh.json");
    let alice = file["keys"]["alice"].as_str().expect("a line");
    let keyring = from_text(alice).expect("a key");
    let cases = file["cases"].as_array().expect("cases");
    for case in cases {
        let text = |name: &str| case[name].as_str().expect("a text");
        let signature = base64::decode(text("signature")).expect("base64");
        let outcome = outcome(&artifact(&signature), &keyring);
        assert!(outcome.contains(text("expect")), "{}: {outcome}", case["name"]);
    }
    let approved = cases.iter().filter(|case| case["expect"] == "approved").count();
    assert!(approved >= 2 && cases.len() > 3 * approved);
}

/// The signers of these tests sign by the formula by which these verify: so what they sign is what OpenSSH's do.
#[test]
fn what_openssh_publishes_verifies_by_the_formula_of_these_tests_and_is_no_approval() {
    let file = read_json("ssh.json")["openssh"].clone();
    let how = How { namespace: "unittest", ..How::default() };
    let message = file["message"].as_str().expect("a message").as_bytes();
    assert_eq!(file["namespace"], how.namespace);
    let mut verified = 0;
    for (name, key) in file["keys"].as_object().expect("keys") {
        let text = |name: &str| key[name].as_str().expect("a text");
        let blob = base64::decode(text("signature")).expect("base64");
        let why = Signature::read(&blob).expect_err("for something else");
        if !name.starts_with("ed25519") {
            assert!(why.contains("another type"), "{name}: {why}");
            let fault = from_text(text("public")).expect_err("no key of ours").to_string();
            assert!(fault.contains("RSA, DSA and ECDSA keys cannot approve"), "{name}: {fault}");
            continue;
        }
        assert!(why.contains("another namespace"), "{name}: {why}");
        let keyring = from_text(text("public")).expect("a key");
        let key: &PublicKey = keyring.keys()[0].public_key();
        let of_it = |application| {
            let pair = ed25519_compact::KeyPair { pk: *key, ..Signer::ssh(1).pair };
            Signer { pair, application }
        };
        let (signer, bytes, signed) = if name == "ed25519" {
            (of_it(None), &blob[blob.len() - 64..], signed(&how, message))
        } else {
            let (flags, counter) = (blob[blob.len() - 5], &blob[blob.len() - 4..]);
            let counter = u32::from_be_bytes(counter.try_into().expect("four"));
            let signed = touched("ssh:", flags, counter, &signed(&how, message));
            (of_it(Some("ssh:")), &blob[blob.len() - 69..blob.len() - 5], signed)
        };
        key.verify(signed, &Ed25519::from_slice(bytes).expect("64 bytes")).expect("it verifies");
        assert_eq!(signer.line().split(' ').nth(1), text("public").split(' ').nth(1), "{name}");
        let tail = if name == "ed25519" { 0 } else { 5 };
        let inner = [string(signer.kind()), string(bytes), blob[blob.len() - tail..].to_vec()];
        assert_eq!(assembled(&how, &signer.key(), &inner.concat()), blob, "{name}");
        verified += 1;
    }
    assert_eq!(verified, 2);
}

#[test]
fn of_a_security_keys_flags_touched_counts_and_touched_and_verified() {
    let token = Signer::token(1);
    let any = of(&token);
    let verified = json!({"name": "k", "public_key": token.line(), "verified": true});
    let verified = keyring(verified);
    for flags in 0..=u8::MAX {
        let blob = token.sign(&message(), &How { flags, ..How::default() });
        let [any, verified] = [&any, &verified].map(|keys| outcome(&artifact(&blob), keys));
        match flags {
            0x01 => assert!(any == "approved" && verified.contains(INVALID), "{verified}"),
            0x05 => assert_eq!([any, verified], ["approved", "approved"]),
            _ => assert!(any.contains("touched") && verified.contains("touched"), "{flags}: {any}"),
        }
    }
    for counter in [0, 1, u32::MAX] {
        let blob = token.sign(&message(), &How { counter, ..How::default() });
        assert_eq!(outcome(&artifact(&blob), &any), "approved", "{counter}");
    }
}

/// Flags and counter that the security key did not sign.
#[test]
fn flags_and_counter_are_signed() {
    let token = Signer::token(1);
    let mut blob = token.sign(&message(), &How::default());
    let flags = blob.len() - 5;
    for at in flags..blob.len() {
        let mut other = blob.clone();
        other[at] ^= 0x04;
        assert!(outcome(&artifact(&other), &of(&token)).contains(INVALID), "byte {at}");
    }
    blob[flags] = 0x05;
    let verified = json!({"name": "k", "public_key": token.line(), "verified": true});
    assert!(outcome(&artifact(&blob), &keyring(verified)).contains(INVALID));
}

#[test]
fn whatever_differs_from_the_one_form_is_refused_with_a_sentence() {
    let good = How::default;
    for signer in [Signer::ssh(1), Signer::token(1)] {
        let message = message();
        let keys = of(&signer);
        let sign = |how: How| signer.sign(&message, &how);
        assert_eq!(outcome(&artifact(&sign(good())), &keys), "approved");
        let (key, inner) = (signer.key(), signer.inner(&message, &good()));
        let with = |key: &[u8], inner: &[u8]| assembled(&good(), key, inner);
        let other = if signer.application.is_some() { "ssh-ed25519" } else { "ssh-rsa" };
        let rest = inner[string(signer.kind()).len()..].to_vec();
        let of_another_type = |kind: &str| [string(kind), rest.clone()].concat();
        let short = string(&rest[4..67]);
        let raw = signer.pair.sk.sign(&message, None);
        for (blob, sentence) in [
            (sign(How { version: 0, ..good() }), "another version than 1"),
            (sign(How { version: 2, ..good() }), "another version than 1"),
            (sign(How { namespace: "file", ..good() }), "`ssh-keygen -Y sign -n openexec`"),
            (sign(How { namespace: "", ..good() }), "another namespace"),
            (sign(How { namespace: "openexec\0", ..good() }), "another namespace"),
            (sign(How { reserved: "x", ..good() }), "reserved"),
            (sign(How { hash: "sha256", ..good() }), "another hash than sha512"),
            (sign(How { hash: "SHA512", ..good() }), "another hash than sha512"),
            (sign(How { hash: "", ..good() }), "another hash than sha512"),
            ([sign(good()), vec![0]].concat(), "more behind its end"),
            ([sign(good()), sign(good())].concat(), "more behind its end"),
            (with(&key, &[&inner[..], &[0]].concat()), "more behind its end"),
            (with(&key, &of_another_type(other)), "another type than its key"),
            (with(&key, &of_another_type("")), "another type than its key"),
            (with(&[&string(signer.kind())[..], &short].concat(), &inner), INVALID),
            (with(&[&key[..], &[0]].concat(), &inner), INVALID),
            (with(&string("ssh-rsa"), &inner), "of another type than ssh-ed25519 and"),
            (with(&string("ecdsa-sha2-nistp256"), &inner), "of another type than ssh-ed25519 and"),
            (with(&string(""), &inner), "of another type than ssh-ed25519 and"),
            (with(&key, &[string(signer.kind()), short.clone()].concat()), "cut short"),
            // As a PEM key signs.
            (raw[..].to_vec(), INVALID),
            (Vec::new(), "neither 64 bytes nor an SSH signature"),
            (vec![0; 63], "neither 64 bytes nor an SSH signature"),
            (b"sshsig\0\0\0\x01".to_vec(), "neither 64 bytes nor an SSH signature"),
        ] {
            let outcome = outcome(&artifact(&blob), &keys);
            assert!(outcome.contains(sentence), "{}: {sentence}: {outcome}", signer.kind());
        }
        // Another's application, and the other kind of the same 32 bytes.
        for other in [
            Signer::ssh(1),
            Signer::token(1),
            Signer { application: Some("ssh:x"), ..Signer::ssh(1) },
        ] {
            if other.key() != key {
                let blob = other.sign(&message, &good());
                assert!(outcome(&artifact(&blob), &keys).contains(INVALID), "{}", other.kind());
            }
        }
        // Under a PEM key of the same 32 bytes it is nothing, and that key's own signature is.
        let pem = from_text(&public_pem(1)).expect("a key");
        assert!(outcome(&artifact(&sign(good())), &pem).contains(INVALID));
        assert_eq!(outcome(&artifact(&raw[..]), &pem), "approved");
    }
}

#[test]
fn cut_short_anywhere_it_is_none() {
    for signer in [Signer::ssh(1), Signer::token(1)] {
        let blob = signer.sign(&message(), &How::default());
        for end in 0..blob.len() {
            let outcome = outcome(&artifact(&blob[..end]), &of(&signer));
            let is_raw = end == 64 && outcome.contains(INVALID);
            let is_none =
                ["cut short", "neither 64 bytes nor"].iter().any(|why| outcome.contains(why));
            assert!(is_raw || is_none, "{end}: {outcome}");
        }
    }
}

#[test]
fn a_line_of_a_pub_file_is_a_key_and_what_differs_from_one_is_refused() {
    let (alice, token) = (Signer::ssh(1), Signer::token(2));
    let (line, token_line) = (alice.line(), token.line());
    let pem = public_pem(3);
    for (text, count) in [
        (line.clone(), 1),
        (line.trim_end().to_owned(), 1),
        (line.replace(" of nowhere", ""), 1),
        (line.replace('\n', "\\n"), 1),
        (line.replace('\n', "\r\n"), 1),
        (format!("\n{line}\n\n{token_line}"), 2),
        (format!("{line}{pem}{token_line}"), 3),
        (format!("{}\\n{pem}", line.trim_end()), 2),
    ] {
        let keyring = from_text(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert_eq!(keyring.keys().len(), count, "{text:?}");
        assert_eq!(keyring.keys()[0].public_key(), private_key(1).public_key());
    }
    let kind =
        |line: &str, kind: &str| line.replacen(line.split(' ').next().expect("one"), kind, 1);
    let encoded = |kind: &str, key: &[u8]| format!("{kind} {}\n", base64::encode(key));
    let weak = [string("ssh-ed25519"), string([0u8; 32])].concat();
    let more = [alice.key(), string("ssh:")].concat();
    let control = Signer { application: Some("ssh:\n"), ..token.clone() };
    let (ssh, sk) = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com");
    for (text, sentence) in [
        (kind(&line, "ssh-rsa"), "RSA, DSA and ECDSA keys cannot approve"),
        (kind(&line, "ecdsa-sha2-nistp256"), "RSA, DSA and ECDSA keys cannot approve"),
        (kind(&line, "ssh-ed448"), "RSA, DSA and ECDSA keys cannot approve"),
        (kind(&line, "ssh-ed25519-cert-v01@openssh.com"), "cannot approve"),
        (kind(&line, sk), "not whole"),
        (kind(&token_line, ssh), "not whole"),
        (encoded(ssh, &more), "not whole"),
        (encoded(sk, &[token.key(), vec![0]].concat()), "not whole"),
        (encoded(ssh, &alice.key()[..50]), "not whole"),
        (encoded(sk, &token.key()[..token.key().len() - 1]), "not whole"),
        (encoded(sk, &control.key()), "not whole"),
        (encoded(ssh, &[]), "not whole"),
        (encoded(ssh, &weak), "weak"),
        (format!("{ssh}\n"), "not whole"),
        (format!("{ssh} ====\n"), "not whole"),
        (line.replace(" AAAA", " AAA"), "not whole"),
        // What other files have such lines.
        (format!("alice@example.org {line}"), "outside"),
        (format!("restrict {line}"), "outside"),
        (format!("# alice\n{line}"), "outside"),
        (format!(" {line}"), "outside"),
        (format!("{line}{line}"), "same public key"),
        (format!("{line}{}", public_pem(1)), "same public key"),
        (format!("{line}{}", Signer::token(1).line()), "same public key"),
    ] {
        let fault = from_text(&text).expect_err(&text).to_string();
        assert!(fault.contains(sentence), "{text:?}: {fault}");
        assert!(!fault.contains("AAAA"), "repeats a key: {fault}");
    }
    let file = |line: &str, verified: Value| {
        json!({"keys": [{"name": "k", "public_key": line, "verified": verified}]}).to_string()
    };
    for (text, sentence) in [
        (file(&line, json!(true)), "keys[0].verified can be true of a security key alone"),
        (file(&pem, json!(true)), "keys[0].verified"),
        (file(&token_line, json!(null)), "keys[0].verified"),
        (file(&token_line, json!("true")), "keys[0].verified"),
        (file(&token_line, json!(1)), "keys[0].verified"),
        (file(&format!("{line}{token_line}"), json!(false)), "more than one key"),
    ] {
        let fault = keys_file_fault(&text);
        assert!(fault.contains(sentence), "{fault}");
    }
    assert!(from_keys_file(&file(&line, json!(false))).is_ok());
}

#[test]
fn a_record_keeps_every_kind_of_key() {
    let keys = json!({"keys": [
        {"name": "pem", "public_key": public_pem(1), "groups": ["ops", "finance"], "person": "p"},
        {"name": "ssh", "public_key": Signer::ssh(2).line(), "actions": ["pay"], "person": "q"},
        {"name": "token", "public_key": Signer::token(3).line(), "verified": true, "person": "p",
         "not_after": "2027-01-01T00:00:00Z"},
        {"name": "touch", "public_key": Signer::token(4).line(), "person": "r"},
    ], "required": {"*": {"ops": 1}, "pay": 3}});
    let keyring = from_keys_file(&keys.to_string()).expect("keys");
    let (recorded, required) = keyring.recorded();
    let types =
        ["ed25519", "ssh-ed25519", "sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com"];
    for ((key, kind), application) in recorded.as_array().expect("keys").iter().zip(types).zip([
        json!(null),
        json!(null),
        json!("ssh:"),
        json!("ssh:"),
    ]) {
        assert_eq!((&key["type"], &key["application"]), (&json!(kind), &application));
    }
    assert_eq!(recorded[2]["verified"], true);
    assert_eq!(required, json!({"*": {"ops": 1}, "pay": 3}));
    let keys = recorded.as_array().expect("keys");
    let again = Keyring::read(keys, required.as_object().expect("thresholds"));
    assert_eq!(again, Ok(keyring));
}

proptest! {
    /// No bytes are a panic, and what reads has no other spelling than the one of its parts.
    #[test]
    fn one_byte_changed_is_none(at in 0usize..1000, bit in 0u8..8) {
        for signer in [Signer::ssh(1), Signer::token(1)] {
            let mut blob = signer.sign(&message(), &How::default());
            let at = at % blob.len();
            blob[at] ^= 1 << bit;
            prop_assert_ne!(outcome(&artifact(&blob), &of(&signer)), "approved");
        }
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Signature::read(&bytes);
        let _ = Signature::read(&[b"SSHSIG\0\0\0\x01", &bytes[..]].concat());
        let _ = from_text(&format!("ssh-ed25519 {}", base64::encode(&bytes)));
    }
}
