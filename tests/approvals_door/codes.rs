//! What is no approval, and which code it gets: every attack, through every door.

use crate::*;

#[test]
fn what_says_something_else_is_refused_with_its_code_and_records_nothing() {
    let service = Service::new(&[]);
    let (body, other) = (echo("n1"), echo("n2"));
    let (id, _) = (service.asked(&body), service.asked(&other));
    let (same, alike) = (
        json!({"action": "echo", "nonce": "a", "payload": {}}),
        json!({"action": "echo", "nonce": "b", "payload": {}}),
    );
    let same_id = service.asked(&same);
    service.asked(&alike);
    let good = yes(OPS, &body);
    let mut unknown_id = good.clone();
    unknown_id["approval_id"] = "x".into();
    let cases = [
        (409, "approval_ambiguous", yes_to_any(OPS, &same)),
        (409, "approval_ambiguous", json!([yes(BOB, &same), yes_to_any(OPS, &same)])),
        (404, "nothing_pending", Minted::hashed("x").sign()),
        (404, "nothing_pending", yes(OPS, &echo("n3"))),
        (403, "approval_malformed", json!([yes(OPS, &body), yes(BOB, &other)])),
        (403, "approval_malformed", json!([yes(OPS, &body), yes(OPS, &body)])),
        (403, "approval_malformed", unknown_id),
        (403, "approval_malformed", json!({})),
        (403, "approval_malformed", json!([])),
        (403, "approval_malformed", json!(1)),
        (403, "approval_malformed", json!([good, 1])),
        (403, "approval_key_not_authorized", yes(4, &body)),
        (403, "approval_key_expired", yes(5, &body)),
        (403, "approval_key_expired", json!([yes(BOB, &body), yes(5, &body)])),
        (403, "approval_signature_invalid", json!([yes(BOB, &body), yes(9, &body)])),
    ];
    for (status, code, approval) in cases {
        problem(&service.approve(&approval), status, code);
    }
    for (text, code) in
        [("", "malformed_json"), ("[", "malformed_json"), (r#"{"a":1,"a":1}"#, "duplicate_key")]
    {
        no_attempt(&service.server.post("/approvals", text), 400, code);
    }
    assert!(service.records("approval").is_empty());
    // By the id it is none of two.
    is_said(&service.approve(&yes(OPS, &same)), &same_id, "pending");
    // The same id with other bytes; of this or of another proposal.
    is_said(&service.approve(&good), &id, "pending");
    let twice = |key, of: &Value| {
        let approval_id = good["approval_id"].as_str().expect("text").to_owned();
        Minted { key, approval_id, ..Minted::hashed(&hashed(of)) }.sign()
    };
    for approval in
        [twice(BOB, &body), twice(OPS, &other), json!([yes(3, &body), twice(BOB, &body)])]
    {
        problem(&service.approve(&approval), 409, "approval_id_conflict");
    }
    // The first and three that replace it.
    for _ in 1..APPROVALS_OF_A_KEY_MAX {
        is_said(&service.approve(&yes(OPS, &body)), &id, "pending");
    }
    problem(&service.approve(&yes(OPS, &body)), 429, "pending_full");
    is_said(&service.approve(&good), &id, "pending");
    assert_eq!(service.records("approval").len(), 1 + APPROVALS_OF_A_KEY_MAX);
    // Of what is over.
    // Of one of the two nothing is added: it is recorded already.
    is_said(&service.approve(&json!([good, yes(BOB, &body)])), &id, "pending");
    assert_eq!(service.ask(&body).status, 200);
    let said = problem(&service.approve(&yes(3, &body)), 409, "not_pending");
    assert_eq!((&said["state"], &said["id"]), (&json!("executed"), &json!(id)));
    is_said(&service.approve(&good), &id, "executed");
    service.audit();
}

#[test]
fn demo_mode_has_no_such_door() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    problem(&server.post("/approvals", &yes(OPS, &echo("n")).to_string()), 404, "not_found");
}

/// Every attack, through each door: brought with the call, dropped, posted. None executes anything or lasts.
#[test]
fn no_attack_on_an_approval_works_through_any_door() {
    let service = Service::new(&[]);
    let body = add("n1");
    let id = service.asked(&body);
    let plain = |change: &dyn Fn(&mut Minted)| {
        let mut minted = Minted::hashed(&hashed(&body));
        change(&mut minted);
        minted.sign()
    };
    let good = plain(&|_| {});
    let with = |name: &str, value: Value| {
        let mut other = good.clone();
        other[name] = value;
        other
    };
    let without = |name: &str| {
        let mut other = good.clone();
        other.as_object_mut().expect("an object").remove(name);
        other
    };
    // Spent by another execution.
    let (first, spent) = (add("first"), yes_to_any(OPS, &body));
    let mut call = first.clone();
    call["approval_artifact"] = spent.clone();
    assert_eq!(service.ask(&call).status, 200);
    let now = clock::now();
    let old = mint(
        &private_key(OPS),
        TENANT,
        &unhex(&id).expect("a hash"),
        now.plus_seconds(-650),
        now.plus_seconds(40),
        "3f0d6f0a-6d0c-4b7e-9a55-ffffffffffff",
    );
    // A key that says no has not said yes.
    let no = json!({"rejection_id": "3f0d6f0a-6d0c-4b7e-9a55-0000000000aa", "tenant_id": TENANT,
        "exec_id": id, "issued_at": now.to_string(), "justification": "no"});
    let message = format!("openexec-rejection-v1\n{}", canonical(&no));
    let pair = KeyPair::from_seed(Seed::new([OPS; 32]));
    let signed_no = base64::encode(&pair.sk.sign(message, None)[..]);
    let many: Vec<_> = (0..17).map(|_| yes(OPS, &body)).collect();
    let invalid = "approval_signature_invalid";
    for (code, posted, approval) in [
        (invalid, "", plain(&|m| m.key = 9)),
        (invalid, "", with("signature", signed_no.into())),
        (invalid, "", with("signature", yes(OPS, &first)["signature"].clone())),
        (invalid, "", with("approval_id", "3f0d6f0a-6d0c-4b7e-9a55-eeeeeeeeeeee".into())),
        (invalid, "", with("tenant_id", "tenant-2".into())),
        (invalid, "", with("tenant_id", "tenant-".into())),
        (invalid, "", with("action_hash", action_hash(&body).into())),
        (invalid, "", with("issued_at", now.plus_seconds(-1).to_string().into())),
        (invalid, "", with("expires_at", now.plus_seconds(601).to_string().into())),
        ("tenant_mismatch", "", plain(&|m| m.tenant = "tenant-2")),
        ("approval_expired", "", plain(&|m| m.expires_seconds = 0)),
        ("approval_expired", "", plain(&|m| (m.issued_seconds, m.expires_seconds) = (20, 10))),
        ("approval_not_yet_valid", "", plain(&|m| m.issued_seconds = 120)),
        ("approval_ttl_too_long", "", plain(&|m| m.expires_seconds = 800)),
        ("approval_before_store", "", old.expect("minted").to_value()),
        ("approval_hash_mismatch", "nothing_pending", yes(OPS, &add("n9"))),
        ("approval_hash_mismatch", "nothing_pending", Minted::hashed("x").sign()),
        ("approval_hash_mismatch", "not_pending", yes(OPS, &first)),
        ("approval_already_used", "", spent),
        ("approval_key_expired", "", plain(&|m| m.key = 5)),
        ("approval_malformed", "", json!({})),
        ("approval_malformed", "", json!([])),
        ("approval_malformed", "", json!("x")),
        ("approval_malformed", "", json!([[good]])),
        ("approval_malformed", "", json!([good, good])),
        ("approval_malformed", "", json!(many)),
        ("approval_malformed", "", no),
        ("approval_malformed", "", without("signature")),
        ("approval_malformed", "", without("tenant_id")),
        ("approval_malformed", "", with("more", json!(1))),
        ("approval_malformed", "", with("signature", "AAAA".into())),
        ("approval_malformed", "", with("signature", json!(1))),
        (
            "approval_malformed",
            "",
            with("approval_id", "3F0D6F0A-6d0c-4b7e-9a55-000000000001".into()),
        ),
        ("approval_malformed", "", with("action_hash", id.to_uppercase().into())),
        ("approval_malformed", "", with("issued_at", "2026-02-30T00:00:00Z".into())),
        (invalid, "", json!([good, plain(&|m| m.key = 9)])),
        ("approval_expired", "", json!([good, plain(&|m| (m.key, m.expires_seconds) = (BOB, 0))])),
    ] {
        let posted = if posted.is_empty() { code } else { posted };
        let mut call = body.clone();
        call["approval_artifact"] = approval.clone();
        refusal(&service.ask(&call), 403, code);
        let file = service.drop_file(&id, &approval);
        refusal(&service.ask(&body), 403, "approval_missing");
        std::fs::remove_file(file).expect("removed");
        let answer = service.approve(&approval);
        assert_eq!(answer.code(), posted, "{approval}: {}", answer.text());
        let signature = approval["signature"].as_str().unwrap_or("none");
        assert!(!answer.text().contains(signature) || signature == "none");
        let shown = service.follow(&id);
        assert_eq!((&shown["state"], &shown["approvals"]["have"]), (&json!("pending"), &json!([])));
    }
    assert_eq!(service.server.runs("add"), 1);
    assert!(service.records("approval").is_empty());
    is_said(&service.approve(&good), &id, "pending");
    assert_eq!(service.ask(&body).status, 200);
    service.audit();
}
