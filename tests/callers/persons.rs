//! Nobody approves what they proposed.

use openexec::core::base64;
use serde_json::{Value, json};

use crate::common::approvals::{Minted, TENANT, public_pem};
use crate::common::{Scratch, Server, cli, private_file, refusal};
use crate::{entry, file, post_as};

const OPS: u8 = 1;
const AUDIT: u8 = 2;

fn settings(scratch: &Scratch, person: Option<&str>) -> Vec<(String, String)> {
    let key = |name: &str, seed: u8, person: &str| json!({"name": name, "public_key": public_pem(seed), "person": person});
    let keys = json!({"keys": [key("ops", OPS, "Olga"), key("audit", AUDIT, "Ann")]});
    let path_of_keys = scratch.join("keys.json");
    private_file(&path_of_keys, &keys.to_string());
    let mut caller = entry("agent-7", r#"["propose"]"#);
    if let Some(person) = person {
        caller["person"] = person.into();
    }
    let callers = file(scratch, &[caller]);
    let path = |path: std::path::PathBuf| path.to_str().expect("UTF-8").to_owned();
    [
        ("OPENEXEC_MODE", "clawshield".to_owned()),
        ("CLAWSHIELD_TENANT_ID", TENANT.to_owned()),
        ("OPENEXEC_KEYS_FILE", path(path_of_keys)),
        ("OPENEXEC_CALLERS_FILE", path(callers)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[test]
fn an_approval_by_the_proposers_own_key_is_refused_and_another_persons_counts() {
    let scratch = Scratch::new();
    let settings = settings(&scratch, Some("Olga"));
    let settings: Vec<_> = settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(cli(&scratch, &settings, &["init"]).code, 0);
    let server = Server::start(&scratch, &settings);
    let ask = |artifact: &Value| {
        let body =
            json!({"action": "echo", "nonce": "n", "payload": {}, "approval_artifact": artifact});
        post_as(&server, "agent-7", "/execute", &body.to_string())
    };
    let by = |key: u8| Minted { key, ..Minted::of("echo", &json!({})) }.sign();
    let body = refusal(&ask(&by(OPS)), 403, "approver_is_proposer");
    assert_eq!(body["detail"], "Key 'ops' is of the person who proposed this");
    // Beside another's it refuses as well: it does not count in silence.
    refusal(&ask(&json!([by(AUDIT), by(OPS)])), 403, "approver_is_proposer");
    // A signature that does not hold is told first.
    let mut broken = by(OPS);
    broken["signature"] = base64::encode(&[1; 64]).into();
    refusal(&ask(&broken), 403, "approval_signature_invalid");
    assert_eq!(ask(&by(AUDIT)).status, 200);
    assert_eq!(ask(&Value::Null).header("idempotent-replayed"), Some("true"));
    drop(server);
    let verified = cli(&scratch, &[], &["verify", "store"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
}

#[test]
fn where_keys_have_a_person_callers_must() {
    let scratch = Scratch::new();
    let settings = settings(&scratch, None);
    let settings: Vec<_> = settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let refused = cli(&scratch, &settings, &["init"]);
    assert_eq!(refused.code, 78);
    assert!(refused.stderr.contains("\"agent-7\" has none; give it one"), "{}", refused.stderr);
}
