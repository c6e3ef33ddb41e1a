//! Approvals minted by an independent implementation, each with its expected outcome in the file.

use crate::common::approvals::read_json;
use crate::common::signer::PrivateKey;
use openexec::core::approval::artifact;
use openexec::core::approval::keys::Keyring;
use openexec::core::approval::required::Required;
use openexec::core::approval::verify::{Context, Terms, examine, judge, malformed};
use openexec::core::hash::{hex, sha256, unhex};
use openexec::core::json::Value;
use openexec::core::problem::Code;
use openexec::core::time::Time;
use openexec::evidence::approvers::fingerprint;
use openexec::serve::keys::from_text;

#[test]
fn every_minted_case_has_the_outcome_that_its_file_says() {
    let file = read_json("minted.json");
    let configured = file["configured"].as_array().expect("names");
    let text = |name: &Value| file["keys"][name.as_str().expect("name")]["public"].as_str();
    let pem: String = configured.iter().filter_map(text).collect();
    let keyring = from_text(&pem).expect("keys");

    let mut approved = 0;
    let cases = file["cases"].as_array().expect("cases");
    for case in cases {
        let name = case["name"].as_str().expect("name");
        let outcome = outcome(&file, case, &keyring);
        assert_eq!(outcome, case["expect"].as_str().expect("expect"), "{name}");
        approved += usize::from(outcome == "approved");
    }
    assert!(approved >= 15 && cases.len() - approved > 5 * approved);
}

/// `approved`, or the code of the refusal.
fn outcome(file: &Value, case: &Value, keyring: &Keyring) -> String {
    let name = &case["name"];
    let given = &case["approval_artifact"];
    let artifacts = match artifact::parse(given) {
        Ok(artifacts) => artifacts,
        Err(fault) => {
            assert_no_signature(&fault.to_string(), given);
            return malformed(&fault).code.name().to_owned();
        }
    };
    let read: Vec<Value> = artifacts.iter().map(artifact::Artifact::to_value).collect();
    let as_given = given.as_array().cloned().unwrap_or_else(|| vec![given.clone()]);
    assert_eq!(read, as_given, "{name}: read and written again");

    let setting = |name: &str| match &case["context"][name] {
        Value::Null => file["context"][name].clone(),
        value => value.clone(),
    };
    let time = |name: &str| setting(name).as_str().and_then(Time::parse).expect("time");
    let request = |name: &str| file["request"][name].as_str().and_then(unhex).expect("hash");
    let spent = setting("spent");
    let required = setting("required").as_u64().expect("required") as usize;
    let verdict = judge(
        &examine(artifacts, keyring),
        &Context {
            terms: Terms {
                now: time("now"),
                tenant: setting("tenant").as_str().expect("tenant"),
                ttl_max_seconds: setting("ttl_max_seconds").as_u64(),
                store_created: time("store_created"),
                clock: (setting("clock_behind") == true)
                    .then_some(openexec::core::clock::Fault::Behind),
            },
            action: file["request"]["action"].as_str().expect("action"),
            exec_id: request("exec_id"),
            action_hash: request("action_hash"),
            legacy_hash: (setting("no_legacy") == false).then(|| request("legacy_hash")),
            required: &Required::read(&required.into()).expect("at least one"),
            proposer: None,
            is_spent: &|id| spent.as_array().expect("ids").contains(&id.into()),
        },
    );
    match verdict {
        Ok(approved) => {
            let fingerprint = |name: &Value| {
                file["keys"][name.as_str().expect("name")]["fingerprint"].as_str().expect("digits")
            };
            let keys: Vec<&str> =
                case["keys"].as_array().expect("keys").iter().map(fingerprint).collect();
            assert_eq!(approved.key_names(), keys, "{name}");
            assert_eq!(approved.is_legacy(), case["legacy"] == true, "{name}");
            let ids: Vec<&str> = approved.approval_ids().collect();
            let given: Vec<&str> =
                as_given.iter().filter_map(|artifact| artifact["approval_id"].as_str()).collect();
            assert_eq!(ids, given, "{name}: all are spent");
            "approved".to_owned()
        }
        Err(problem) => {
            assert_eq!(
                problem.code.status(),
                if problem.code == Code::ClockBehind { 503 } else { 403 }
            );
            assert_no_signature(&problem.detail, given);
            problem.code.name().to_owned()
        }
    }
}

fn assert_no_signature(detail: &str, given: &Value) {
    let artifacts = given.as_array().cloned().unwrap_or_else(|| vec![given.clone()]);
    for signature in artifacts.iter().filter_map(|artifact| artifact["signature"].as_str()) {
        assert!(signature.len() < 8 || !detail.contains(&signature[..8]), "{detail}");
    }
}

/// The signed message has no separators, and seconds may have a fraction of any length: all the same
/// no message is that of two artifacts.
#[test]
fn a_signed_message_reads_in_one_way() {
    let digits = ["", ".1", ".12", ".202", ".2026", ".00000", ".123456", ".2026202", ".999999999"];
    let forms: Vec<String> = ["2026-01-01T00:00:00", "2026-12-31T23:59:59"]
        .iter()
        .flat_map(|time| digits.iter().map(move |digits| format!("{time}{digits}")))
        .flat_map(|time| ["", "Z", "+00:00"].map(|offset| format!("{time}{offset}")))
        .collect();
    let (id, hash) = ("3f0d6f0a-6d0c-4b7e-9a55-0a1b2c3d4e5f", "0123456789abcdef".repeat(4));
    let artifact = |parts: [&str; 5]| {
        let names = ["approval_id", "tenant_id", "action_hash", "issued_at", "expires_at"];
        let mut fields: openexec::core::json::Object =
            names.iter().zip(parts).map(|(name, part)| ((*name).to_owned(), part.into())).collect();
        fields.insert("signature".to_owned(), format!("{}==", "A".repeat(86)).into());
        artifact::parse(&Value::Object(fields)).is_ok()
    };
    for tenant in ["", "t1", "0", "deadbeef", "T", "2026-01-01T00:00:00", "2026-01-01T00:00:00.1Z"]
    {
        for (issued, expires) in forms.iter().flat_map(|i| forms.iter().map(move |e| (i, e))) {
            let message = [id, tenant, &hash, issued, expires].concat();
            // Wherever the fields could begin: `expires_at` first, then what is before it.
            let mut readings = Vec::new();
            for last in 36..message.len() {
                let expires = &message[last..];
                if Time::parse(expires).is_none() {
                    continue;
                }
                for first in 36..last {
                    let issued = &message[first..last];
                    // A hash has one length.
                    if Time::parse(issued).is_none() || first < 36 + 64 {
                        continue;
                    }
                    let (tenant, hash) = (&message[36..first - 64], &message[first - 64..first]);
                    if artifact([&message[..36], tenant, hash, issued, expires]) {
                        readings.push([tenant, hash, issued, expires]);
                    }
                }
            }
            assert_eq!(readings, [[tenant, &hash, issued, expires]], "{message}");
        }
    }
}

#[test]
fn the_requests_hashes_are_those_of_its_texts() {
    let request = &read_json("minted.json")["request"];
    for (text, hash) in
        [("canonical", "action_hash"), ("legacy", "legacy_hash"), ("bound", "exec_id")]
    {
        let text = request[text].as_str().expect("text");
        assert_eq!(hex(&sha256(&[text.as_bytes()])), request[hash].as_str().expect("hash"));
    }
}

#[test]
fn a_private_key_written_elsewhere_has_the_public_key_written_elsewhere() {
    let file = read_json("minted.json");
    for key in file["keys"].as_object().expect("keys").values() {
        let text = |name: &str| key[name].as_str().expect("text");
        let private = PrivateKey::from_pem(text("private")).expect("private key");
        let keyring = from_text(text("public")).expect("public key");
        assert_eq!(keyring.keys()[0].public_key(), private.public_key());
        assert_eq!(keyring.keys()[0].name(), text("fingerprint"));
        assert_eq!(fingerprint(private.public_key()), text("fingerprint"));
    }
}
