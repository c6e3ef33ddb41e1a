//! Keys as PEM and as a keys file: what is read, and with what sentence everything else is refused.

use crate::common::approvals::{keys_file_fault, pem, private_pem, public_pem, unhex};
use openexec::core::json::Value;
use openexec::core::time::Time;
use openexec::serve::keys::{from_keys_file, from_text};
use serde_json::json;

fn pem_fault(text: &str) -> String {
    match from_text(text) {
        Ok(_) => panic!("accepted: {text:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn one_or_more_blocks_with_real_or_written_line_breaks() {
    let (first, second) = (public_pem(1), public_pem(2));
    for text in [
        first.clone() + &second,
        format!("\n{first}\n\n{second}\n"),
        format!("{first}{}", second.trim_end()),
        (first.clone() + &second).replace('\n', "\\n"),
        (first.clone() + &second).replace('\n', "\r\n"),
        format!("{}\\n{second}", first.trim_end()),
    ] {
        let keyring = from_text(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert_eq!(keyring.keys().len(), 2);
        assert!(keyring.keys().iter().all(|key| key.may_approve("anything")));
        assert!(keyring.keys().iter().all(|key| key.name().len() == 16));
        assert_eq!(keyring.required("anything").count(), 1);
    }
}

#[test]
fn whatever_is_no_ed25519_public_key_is_refused() {
    let good = public_pem(1);
    let spki = |bytes: &[u8]| pem("PUBLIC KEY", bytes);
    let point = &crate::common::approvals::private_key(1).public_key()[..].to_vec();
    let with = |prefix: &str, point: &[u8]| spki(&[&unhex(prefix)[..], point].concat());
    for (text, sentence) in [
        (String::new(), "no PEM block"),
        ("\n\\n\n".to_owned(), "no PEM block"),
        ("MCowBQYDK2VwAyEA".to_owned(), "outside"),
        (format!("ops key:\n{good}"), "outside"),
        (format!("{good}# the end"), "outside"),
        (format!(" {good}"), "outside"),
        (format!("{good} "), "outside"),
        (format!("\u{feff}{good}"), "outside"),
        (good.replace("BEGIN", "Begin"), "outside"),
        (good.replace("-----BEGIN ", "----BEGIN "), "outside"),
        (good.replace("END PUBLIC", "END PRIVATE"), "does not match"),
        (good.replace("-----END PUBLIC KEY-----\n", ""), "no -----END"),
        (good.replace("END PUBLIC KEY-----", "END PUBLIC KEY----"), "does not match"),
        (good.replace("END PUBLIC KEY-----", "END PUBLIC KEY-----x"), "must end its line"),
        (good.replace("END PUBLIC KEY-----", "END PUBLIC KEY----- "), "must end its line"),
        (good.replace("\n-----END", "-----END"), "does not match"),
        (good.replace('\n', " "), "followed by a line break"),
        (good.replace('\n', ""), "followed by a line break"),
        (good.trim_end().to_owned() + &good, "must end its line"),
        (good.replace("=\n", "\n"), "base64"),
        (good.replacen("MCow", "MC ow", 1), "base64"),
        (good.replacen("MCow", "MC*w", 1), "base64"),
        (good.replacen("MCow", "Comment: x\nMCow", 1), "base64"),
        (good.replacen("MCow", "\\rMCow", 1), "base64"),
        (private_pem(&[1; 32]), "private key"),
        (format!("{good}{}", private_pem(&[1; 32])), "private key"),
        (pem("ENCRYPTED PRIVATE KEY", &[1]), "private key"),
        (pem("RSA PRIVATE KEY", &[1]), "private key"),
        (pem("CERTIFICATE", &[1]), "no PUBLIC KEY"),
        (pem("RSA PUBLIC KEY", &[1]), "no PUBLIC KEY"),
        (pem("", &[1]), "no PUBLIC KEY"),
        (spki(&[]), "no Ed25519"),
        (spki(point), "no Ed25519"),
        (with("302a300506032b6570032100", &point[..31]), "no Ed25519"),
        (with("302a300506032b6570032100", &[&point[..], &[0]].concat()), "no Ed25519"),
        (with("302a300506032b656e032100", point), "no Ed25519"), // X25519
        (with("302a300506032b6571032100", point), "no Ed25519"), // Ed448's identifier
        (with("302b300506032b6570032200", point), "no Ed25519"),
        (with("302c300706032b65700500032100", point), "no Ed25519"), // parameters NULL
        (with("30812a300506032b6570032100", point), "no Ed25519"),   // BER length
        (with("302a300506032b6570032100", &[0; 32]), "weak"),
        (good.clone() + &good, "same public key"),
        (good.clone() + &good.replace('\n', "\r\n"), "same public key"),
        ((0..65).map(public_pem_of_many).collect(), "give 1 to 64"),
    ] {
        let fault = pem_fault(&text);
        assert!(fault.contains(sentence), "{text:?}: {fault}");
        assert!(!fault.contains("MC4CAQ") && !fault.contains("AQEBAQ"), "repeats a key: {fault}");
    }
}

fn public_pem_of_many(seed: u8) -> String {
    public_pem(seed + 1)
}

/// A keys file with these two keys' further members and this `required`.
fn keys_file(first: Value, second: Value, required: Value) -> String {
    let key = |name: &str, seed: u8, more: Value| {
        let mut key = json!({"name": name, "public_key": public_pem(seed)});
        for (name, value) in more.as_object().expect("members") {
            key[name] = value.clone();
        }
        key
    };
    let mut file = json!({"keys": [key("ops", 1, first), key("audit", 2, second)]});
    if !required.is_null() {
        file["required"] = required;
    }
    file.to_string()
}

#[test]
fn a_keys_file_says_who_may_approve_what_until_when_and_how_many() {
    let text = keys_file(
        json!({"actions": ["send_email", "charge_card"], "not_after": "2027-01-01T00:00:00Z"}),
        json!({}),
        json!({"charge_card": 2, "*": 1}),
    );
    let keyring = from_keys_file(&text).expect("keys");
    let [ops, audit] = keyring.keys() else { panic!("two keys") };
    assert_eq!((ops.name(), audit.name()), ("ops", "audit"));
    assert!(ops.may_approve("send_email") && !ops.may_approve("echo") && audit.may_approve("echo"));
    let end = Time::parse("2027-01-01T00:00:00Z").expect("a time");
    assert!(ops.is_expired(end) && !audit.is_expired(end));
    assert!(!ops.is_expired(Time::from_micros(end.micros() - 1)));
    assert_eq!(keyring.required("charge_card").count(), 2);
    assert_eq!(keyring.required("send_email").count(), 1);
    assert_eq!(keyring.required("*").count(), 1);

    for required in [json!(null), json!({}), json!({"*": 2}), json!({"echo": 2})] {
        let keyring = from_keys_file(&keys_file(json!({}), json!({}), required.clone()));
        let expected = required["*"].as_u64().unwrap_or(1);
        assert_eq!(keyring.expect("keys").required("add").count() as u64, expected);
    }
    // Every key restricted: what none of them may approve, nobody approves.
    let only = json!({"actions": ["echo"]});
    assert!(from_keys_file(&keys_file(only.clone(), only, json!({"*": 2}))).is_ok());
    // A revoked key still counts towards what could be approved, so that the service starts.
    let revoked = json!({"not_after": "2020-01-01T00:00:00Z"});
    assert!(from_keys_file(&keys_file(revoked, json!({}), json!({"echo": 2}))).is_ok());
}

#[test]
fn thresholds_that_nobody_can_reach_are_refused() {
    let echo = || json!({"actions": ["echo"]});
    for (first, second, required, sentence) in [
        (json!({}), json!({}), json!({"echo": 3}), "'echo' needs 3 approvals and 2 of"),
        (json!({}), json!({}), json!({"*": 3}), "\"*\" needs 3 approvals and 2 of"),
        (json!({}), echo(), json!({"*": 2}), "\"*\" needs 2 approvals and 1 of"),
        (json!({}), echo(), json!({"add": 2}), "'add' needs 2 approvals and 1 of"),
        (echo(), echo(), json!({"add": 1}), "'add' needs 1 approvals and 0 of"),
        (echo(), json!({"actions": ["add"]}), json!({"*": 2}), "'add' needs 2 approvals and 1 of"),
    ] {
        let fault = keys_file_fault(&keys_file(first, second, required));
        assert!(fault.contains(sentence), "{fault}");
        assert!(fault.contains("lower \"required\" or add keys"), "{fault}");
    }
}

#[test]
fn every_fault_of_a_keys_file_is_named() {
    let more = |first: Value| keys_file(first, json!({}), json!({"*": 1}));
    let required = |required: Value| keys_file(json!({}), json!({}), required);
    let many = format!("{}{}", public_pem(3), public_pem(4));
    for (text, sentence) in [
        (String::new(), "strict JSON"),
        ("{".to_owned(), "strict JSON"),
        (more(json!({})) + "x", "strict JSON"),
        (public_pem(1), "strict JSON"),
        (r#"{"keys":[],"required":{"echo":2,"echo":1}}"#.to_owned(), "strict JSON"),
        (r#"{"keys":[],"keys":[]}"#.to_owned(), "strict JSON"),
        ("[]".to_owned(), "not a JSON object"),
        ("{}".to_owned(), "no array \"keys\""),
        (json!({"keys": {}}).to_string(), "no array \"keys\""),
        (json!({"keys": []}).to_string(), "there are 0 keys"),
        (json!({"keys": [], "Required": {}}).to_string(), "unknown field \"Required\""),
        (json!({"keys": [1]}).to_string(), "keys[0] is not an object"),
        (more(json!({"not_before": "x"})), "unknown field \"not_before\""),
        (more(json!({"name": ""})), "keys[0].name"),
        (more(json!({"name": 1})), "keys[0].name"),
        (more(json!({"name": "a\nb"})), "keys[0].name"),
        (more(json!({"name": " ops"})), "keys[0].name"),
        (more(json!({"name": "öps"})), "keys[0].name"),
        (more(json!({"name": "x".repeat(65)})), "keys[0].name"),
        (more(json!({"name": "audit"})), "two keys are named 'audit'"),
        (more(json!({"public_key": null})), "keys[0].public_key must be"),
        (more(json!({"public_key": "junk"})), "keys[0].public_key: no public key"),
        (more(json!({"public_key": private_pem(&[1; 32])})), "private key"),
        (more(json!({"public_key": many})), "more than one key"),
        (more(json!({"public_key": public_pem(2)})), "'ops' and 'audit' are the same public key"),
        (more(json!({"public_key": crate::common::approvals::point_pem(&[0; 32])})), "weak"),
        (more(json!({"actions": null})), "keys[0].actions"),
        (more(json!({"actions": "echo"})), "keys[0].actions"),
        (more(json!({"actions": []})), "keys[0].actions"),
        (more(json!({"actions": ["*"]})), "or leave it out"),
        (more(json!({"actions": [""]})), "keys[0].actions"),
        (more(json!({"actions": ["a b"]})), "keys[0].actions"),
        (more(json!({"actions": ["échec"]})), "keys[0].actions"),
        (more(json!({"actions": ["x".repeat(65)]})), "keys[0].actions"),
        (more(json!({"actions": ["echo", 1]})), "keys[0].actions"),
        (more(json!({"not_after": null})), "keys[0].not_after"),
        (more(json!({"not_after": 1})), "keys[0].not_after"),
        (more(json!({"not_after": "2027-01-01"})), "keys[0].not_after"),
        (more(json!({"not_after": "2027-02-29T00:00:00Z"})), "keys[0].not_after"),
        (required(json!([])), "\"required\" is not an object"),
        (required(json!({"a b": 1})), "no action"),
        (required(json!({"": 1})), "no action"),
        (required(json!({"**": 1})), "no action"),
        (required(json!({"echo": 0})), "'echo' must be a whole number from 1 to 16"),
        (required(json!({"*": 0})), "'*' must be"),
        (required(json!({"echo": 17})), "'echo' must be"),
        (required(json!({"echo": -1})), "'echo' must be"),
        (required(json!({"echo": 1.5})), "'echo' must be"),
        (required(json!({"echo": "1"})), "'echo' must be"),
        (required(json!({"echo": null})), "'echo' must be"),
        (required(json!({"echo": 9007199254740991u64})), "'echo' must be"),
    ] {
        let fault = keys_file_fault(&text);
        assert!(fault.contains(sentence), "{text}: {fault}");
    }
}
