//! `POST /execute` in clawshield mode: every row of the decision that is about approvals, their
//! order, and that a refusal spends nothing.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use common::approvals::{Minted, OPS, TENANT, borrowed, public_pem, read_json, settings, start};
use common::{
    Answer, Scratch, Server, canonical, cli, executed, no_attempt, private_file, refusal, sha256,
    until,
};
use serde_json::{Value, json};

fn one_key() -> (Scratch, Server) {
    let scratch = Scratch::new();
    let server = start(&scratch, &borrowed(&settings()));
    (scratch, server)
}

fn ask(server: &Server, nonce: &str, payload: &Value, artifact: &Value) -> Answer {
    let body = json!({"action": "echo", "nonce": nonce, "payload": payload,
                      "approval_artifact": artifact});
    server.execute(&body.to_string())
}

fn hello() -> Value {
    json!({"msg": "hello world"})
}

#[test]
fn an_approved_request_executes_once() {
    let (_scratch, server) = one_key();
    let health = server.get("/health").json();
    assert_eq!(health["exec_mode"], "clawshield");
    assert_eq!(health["signature_verification"], "enabled");
    assert_eq!(server.get("/health").header("openexec-mode"), Some("clawshield"));

    let artifact = Minted::of("echo", &hello()).sign();
    let first = ask(&server, "n1", &hello(), &artifact);
    assert_eq!(first.header("openexec-mode"), Some("clawshield"));
    executed(&first, "echo", "n1", &hello());

    // The same request again: with the approval, without it, with one that is worth nothing.
    for again in [&artifact, &Value::Null, &json!({}), &json!("x"), &json!([])] {
        let replay = ask(&server, "n1", &hello(), again);
        assert_eq!((replay.status, &replay.body), (200, &first.body), "{again}");
        assert_eq!(replay.header("idempotent-replayed"), Some("true"));
    }
    // Another request with the same approval.
    let refused = ask(&server, "n2", &hello(), &artifact);
    let body = refusal(&refused, 403, "approval_already_used");
    let id = artifact["approval_id"].as_str().expect("an id");
    assert!(body["detail"].as_str().expect("text").contains(id));
    assert_eq!(server.runs("echo"), 1);
    // Its nonce was not spent.
    let fresh = Minted::of("echo", &hello()).sign();
    executed(&ask(&server, "n2", &hello(), &fresh), "echo", "n2", &hello());
}

#[test]
fn each_of_the_hashes_approves() {
    let (_scratch, server) = one_key();
    let payload = json!({"é": 1, "a": [0.5, "\u{1F600}"]});
    // As Python's json.dumps writes it, for a payload spelt with 1.0.
    let legacy = r#"{"action":"echo","payload":{"a":[0.5,"\ud83d\ude00"],"\u00e9":1.0}}"#;
    let of_nonce = |nonce: &str| {
        let request = json!({"action": "echo", "nonce": nonce, "payload": payload});
        Minted::hashed(&canonical(&request)).sign()
    };
    let canonical_form = Minted::of("echo", &payload).sign();
    let spelt = r#"{"é":1.0,"a":[5e-1,"😀"]}"#;
    let send = |nonce: &str, artifact: &Value| {
        server.execute(&format!(
            r#"{{"action":"echo","nonce":"{nonce}","payload":{spelt},"approval_artifact":{artifact}}}"#
        ))
    };
    executed(&send("canonical", &canonical_form), "echo", "canonical", &payload);
    executed(&send("legacy", &Minted::hashed(legacy).sign()), "echo", "legacy", &payload);
    executed(&send("bound", &of_nonce("bound")), "echo", "bound", &payload);

    // Bound to one nonce, it is good for no other; and the legacy hash is that of the spelling.
    refusal(&send("other", &of_nonce("bound2")), 403, "approval_hash_mismatch");
    let respelt = legacy.replace("1.0", "1");
    refusal(&send("other", &Minted::hashed(&respelt).sign()), 403, "approval_hash_mismatch");
    for near in [
        r#"{"action":"echo"}"#,
        r#"{"action":"echo","payload":{}}"#,
        r#"{"payload":{"a":[0.5,"\ud83d\ude00"],"\u00e9":1.0},"action":"echo"}"#,
        r#"{"action": "echo", "payload": {"a": [0.5, "\ud83d\ude00"], "\u00e9": 1.0}}"#,
        "",
    ] {
        refusal(&send("other", &Minted::hashed(near).sign()), 403, "approval_hash_mismatch");
    }
    assert_eq!(server.runs("echo"), 3);
}

#[test]
fn what_is_missing_is_said_to_whoever_approves() {
    let (_scratch, server) = one_key();
    for given in [json!({}), json!({"approval_artifact": null})] {
        let mut body = json!({"action": "echo", "nonce": "n", "payload": hello()});
        body.as_object_mut().expect("object").extend(given.as_object().expect("object").clone());
        let body = refusal(&server.execute(&body.to_string()), 403, "approval_missing");
        assert_eq!(body["detail"], "ClawShield mode requires an approval artifact");
        let canonical_request = canonical(&json!({"action": "echo", "payload": hello()}));
        assert_eq!(body["action_hash"], sha256(&canonical_request));
        assert_eq!(body["exec_id"], body["id"]);
    }
    let other = Minted::of("add", &hello());
    let body = refusal(&ask(&server, "n", &hello(), &other.sign()), 403, "approval_hash_mismatch");
    let expected = Minted::of("echo", &hello()).action_hash;
    assert_eq!(body["action_hash"], expected);
    let detail = body["detail"].as_str().expect("text");
    assert!(detail.starts_with("Action hash mismatch: "), "{detail}");
    assert!(detail.contains(&expected) && detail.contains(&other.action_hash), "{detail}");
}

#[test]
fn each_field_tampered_with_is_refused_and_spends_nothing() {
    let (_scratch, server) = one_key();
    let good = Minted::of("echo", &hello()).sign();
    let text = |field: &str| good[field].as_str().expect("text").to_owned();
    let flip = |field: &str, at: usize| {
        let mut text = text(field).into_bytes();
        text[at] = if text[at] == b'1' { b'2' } else { b'1' };
        String::from_utf8(text).expect("ASCII")
    };
    let signature = text("signature");
    let form = "approval_malformed";
    let signed = "approval_signature_invalid";
    let cases: Vec<(&str, Value, &str)> = vec![
        ("approval_id", flip("approval_id", 0).into(), signed),
        ("approval_id", flip("approval_id", 35).into(), signed),
        ("approval_id", text("approval_id").to_uppercase().into(), form),
        ("approval_id", text("approval_id")[..35].into(), form),
        ("approval_id", format!("{}1", text("approval_id")).into(), form),
        ("approval_id", "".into(), form),
        ("approval_id", 1.into(), form),
        ("tenant_id", "tenant-2".into(), signed),
        ("tenant_id", "".into(), signed),
        ("tenant_id", Value::Null, form),
        ("action_hash", flip("action_hash", 0).into(), signed),
        ("action_hash", text("action_hash").to_uppercase().into(), form),
        ("action_hash", text("action_hash")[..63].into(), form),
        ("action_hash", json!([text("action_hash")]), form),
        ("issued_at", flip("issued_at", 18).into(), signed),
        ("issued_at", text("issued_at").replace('T', " ").into(), form),
        ("issued_at", text("issued_at").replace('Z', "+00:00").into(), signed),
        ("issued_at", text("issued_at").replace('Z', "+01:00").into(), form),
        ("issued_at", "2026-02-30T00:00:00Z".into(), form),
        ("expires_at", flip("expires_at", 18).into(), signed),
        ("expires_at", "9999-12-31T23:59:59.999999Z".into(), signed),
        ("expires_at", "9999-12-31T24:00:00Z".into(), form),
        ("expires_at", "9999-12-31T23:59:60Z".into(), form),
        ("expires_at", 4_102_444_800_i64.into(), form),
        ("signature", flip("signature", 0).into(), signed),
        ("signature", flip("signature", 60).into(), signed),
        ("signature", signature.trim_end_matches('=').into(), form),
        ("signature", format!("{signature}=").into(), form),
        ("signature", format!(" {signature}").into(), form),
        ("signature", format!("{}\n{}", &signature[..44], &signature[44..]).into(), form),
        ("signature", signature[..84].into(), form),
        ("signature", "".into(), form),
        ("signature", "A".repeat(86).replace("AAAA", "AAA_").into(), form),
    ];
    for (field, value, code) in cases {
        let mut artifact = good.clone();
        artifact[field] = value.clone();
        let body = refusal(&ask(&server, "n", &hello(), &artifact), 403, code);
        let detail = body["detail"].as_str().expect("text");
        assert!(!detail.contains(&signature[..16]), "no signature in {detail}");
        match code == form {
            true => assert!(detail.contains(field), "{detail}"),
            false => assert!(detail.starts_with("Invalid signature: "), "{detail}"),
        }
        let mut without = good.clone();
        without.as_object_mut().expect("object").remove(field);
        refusal(&ask(&server, "n", &hello(), &without), 403, form);
    }
    let mut more = good.clone();
    more["note"] = "hello".into();
    refusal(&ask(&server, "n", &hello(), &more), 403, form);
    for other in [json!("x"), json!(1), json!(true), json!([]), json!([[]]), json!([1]), json!({})]
    {
        refusal(&ask(&server, "n", &hello(), &other), 403, form);
    }
    refusal(&ask(&server, "n", &hello(), &json!([good, good])), 403, form);
    let many: Vec<Value> = (0..17).map(|_| Minted::of("echo", &hello()).sign()).collect();
    refusal(&ask(&server, "n", &hello(), &json!(many)), 403, form);

    // The approval and the nonce are as good as new.
    executed(&ask(&server, "n", &hello(), &good), "echo", "n", &hello());
    // And so are the 16 that may come together.
    executed(&ask(&server, "n16", &hello(), &json!(many[..16])), "echo", "n16", &hello());
    refusal(&ask(&server, "n17", &hello(), &many[15]), 403, "approval_already_used");
    executed(&ask(&server, "n17", &hello(), &many[16]), "echo", "n17", &hello());
}

/// The signed message has no separators: what ends one field cannot be made to begin the next.
#[test]
fn a_boundary_cannot_be_moved() {
    let scratch = Scratch::new();
    let mut settings = settings();
    // "a1", so that a digit can pass for the end of the approval's id.
    settings[1].1 = "a1".to_owned();
    let server = start(&scratch, &borrowed(&settings));
    let victim = Minted { tenant: "1a1", ..Minted::of("echo", &hello()) }.sign();
    refusal(&ask(&server, "n", &hello(), &victim), 403, "tenant_mismatch");
    let id = victim["approval_id"].as_str().expect("text");
    let mut forged = victim.clone();
    forged["approval_id"] = format!("{id}1").into();
    forged["tenant_id"] = "a1".into();
    refusal(&ask(&server, "n", &hello(), &forged), 403, "approval_malformed");

    let hash = victim["action_hash"].as_str().expect("text");
    let mut forged = victim.clone();
    forged["tenant_id"] = format!("1a1{}", &hash[..1]).into();
    forged["action_hash"] = hash[1..].into();
    refusal(&ask(&server, "n", &hello(), &forged), 403, "approval_malformed");
    assert_eq!(server.runs("echo"), 0);
}

#[test]
fn times_are_held_to() {
    let scratch = Scratch::new();
    let mut settings = settings();
    settings.push(("OPENEXEC_MAX_APPROVAL_TTL_SECONDS".to_owned(), "3600".to_owned()));
    let server = start(&scratch, &borrowed(&settings));
    let of = |issued_seconds: i64, expires_seconds: i64| {
        Minted { issued_seconds, expires_seconds, ..Minted::of("echo", &hello()) }.sign()
    };
    for (issued, expires, code, phrase) in [
        (-600, -1, "approval_expired", "Approval artifact expired at "),
        (-7200, -10, "approval_expired", "Approval artifact expired at "),
        (60, 59, "approval_expired", "Approval artifact expired before it was issued"),
        (0, 0, "approval_expired", "Approval artifact expired"),
        (120, 600, "approval_not_yet_valid", ""),
        (0, 3601, "approval_ttl_too_long", ""),
        (30, 86_400, "approval_ttl_too_long", ""),
        (-100, 60, "approval_before_store", ""),
        (-3000, 500, "approval_before_store", ""),
    ] {
        let body = refusal(&ask(&server, "n", &hello(), &of(issued, expires)), 403, code);
        assert!(body["detail"].as_str().expect("text").starts_with(phrase), "{body}");
    }
    // Minted long ago by another implementation, for another key: refused, whatever the reason.
    let file = read_json("minted.json");
    for case in file["cases"].as_array().expect("cases") {
        let answer = ask(&server, "n", &hello(), &case["approval_artifact"]);
        assert_eq!(answer.status, 403, "{}", case["name"]);
    }
    // A little ahead of this clock, and as long as allowed.
    executed(&ask(&server, "n", &hello(), &of(30, 600)), "echo", "n", &hello());
    executed(&ask(&server, "n2", &hello(), &of(0, 3600)), "echo", "n2", &hello());
}

#[test]
fn any_of_several_keys_may_approve() {
    let scratch = Scratch::new();
    let mut settings = settings();
    let both = format!("{}\n{}", public_pem(OPS), public_pem(2)).replace('\n', "\\n");
    settings[2].1 = both;
    let server = start(&scratch, &borrowed(&settings));
    let by = |key: u8| Minted { key, ..Minted::of("echo", &hello()) }.sign();
    refusal(&ask(&server, "n", &hello(), &by(3)), 403, "approval_signature_invalid");
    executed(&ask(&server, "n1", &hello(), &by(OPS)), "echo", "n1", &hello());
    executed(&ask(&server, "n2", &hello(), &by(2)), "echo", "n2", &hello());
    drop(server);

    // Rotated: from a file, and without the first.
    let path = scratch.join("keys.pem");
    private_file(&path, &public_pem(2));
    settings[2] = ("CLAWSHIELD_PUBLIC_KEY_FILE".to_owned(), path.display().to_string());
    let server = Server::start(&scratch, &borrowed(&settings));
    refusal(&ask(&server, "n3", &hello(), &by(OPS)), 403, "approval_signature_invalid");
    executed(&ask(&server, "n3", &hello(), &by(2)), "echo", "n3", &hello());
}

/// The faults that an artifact can have, in the order in which they are found.
const ARTIFACT_FAULTS: [&str; 11] = [
    "approval_malformed",
    "approval_signature_invalid",
    "approval_key_not_authorized",
    "approval_key_expired",
    "tenant_mismatch",
    "approval_expired",
    "approval_not_yet_valid",
    "approval_ttl_too_long",
    "approval_before_store",
    "approval_hash_mismatch",
    "approval_already_used",
];

/// An artifact with just that fault.
fn faulty(code: &str, action: &str, payload: &Value, spent: &str) -> Value {
    let mut minted = Minted::of(action, payload);
    match code {
        "approval_signature_invalid" => minted.key = 9,
        "approval_key_not_authorized" => minted.key = 3,
        "approval_key_expired" => minted.key = 4,
        "tenant_mismatch" => minted.tenant = "tenant-2",
        "approval_expired" => minted.expires_seconds = -1,
        "approval_not_yet_valid" => minted.issued_seconds = 300,
        "approval_ttl_too_long" => minted.expires_seconds = 7300,
        "approval_before_store" => minted.issued_seconds = -100,
        "approval_hash_mismatch" => minted.action_hash = sha256("something else"),
        "approval_already_used" => minted.approval_id = spent.to_owned(),
        _ => {}
    }
    let mut artifact = minted.sign();
    if code == "approval_malformed" {
        artifact["more"] = 1.into();
    }
    artifact
}

/// A service with keys that may and may not, two of which `add` needs.
fn many_keys(scratch: &Scratch) -> (Vec<(String, String)>, Server) {
    let key = |name: &str, seed: u8| json!({"name": name, "public_key": public_pem(seed)});
    let mut limited = key("limited", 3);
    limited["actions"] = json!(["elsewhere"]);
    let mut old = key("old", 4);
    old["not_after"] = "2026-01-01T00:00:00Z".into();
    let keys = json!({"keys": [key("ops", OPS), key("second", 2), limited, old],
                      "required": {"add": 2}});
    let path = scratch.join("keys.json");
    private_file(&path, &keys.to_string());
    let settings: Vec<(String, String)> = [
        ("OPENEXEC_MODE", "clawshield"),
        ("CLAWSHIELD_TENANT_ID", TENANT),
        ("OPENEXEC_KEYS_FILE", path.to_str().expect("UTF-8")),
        ("OPENEXEC_ALLOWED_ACTIONS", "echo,add"),
        ("OPENEXEC_MAX_APPROVAL_TTL_SECONDS", "7200"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let server = start(scratch, &borrowed(&settings));
    // Perhaps a mistake, but one that only takes a right away.
    until("it warns", || server.log().contains(r#"\"actions\" names \"elsewhere\""#));
    (settings, server)
}

#[test]
fn a_request_wrong_in_two_rows_gets_the_earlier() {
    let scratch = Scratch::new();
    let (_, server) = many_keys(&scratch);
    let used = Minted::of("echo", &json!({})).sign();
    executed(&ask(&server, "used", &json!({}), &used), "echo", "used", &json!({}));
    let spent = used["approval_id"].as_str().expect("an id");

    let before = [
        "duplicate_key",
        "unknown_field",
        "nonce_conflict",
        "action_not_allowed",
        "invalid_payload",
    ];
    let mut rows: Vec<&str> = before.to_vec();
    rows.push("approval_missing");
    rows.extend(ARTIFACT_FAULTS);
    rows.push("approvals_insufficient");
    let wrong_in = |faults: [&str; 2]| {
        let has = |code: &str| faults.contains(&code);
        let payload = if has("invalid_payload") { json!({"a": "x"}) } else { json!({"a": 1}) };
        let action = match () {
            () if has("action_not_allowed") => "nope",
            () if has("invalid_payload") || has("approvals_insufficient") => "add",
            () => "echo",
        };
        // The later fault's artifact comes first: each row is judged over all of them.
        let mut artifacts: Vec<Value> = ARTIFACT_FAULTS
            .iter()
            .filter(|code| has(code))
            .map(|code| faulty(code, action, &payload, spent))
            .collect();
        artifacts.reverse();
        if artifacts.is_empty() {
            artifacts.push(Minted::of(action, &payload).sign());
        }
        let mut body = json!({"action": action, "nonce": format!("{faults:?}"), "payload": payload,
                              "approval_artifact": artifacts});
        if has("approval_missing") {
            body["approval_artifact"] = Value::Null;
        }
        if has("unknown_field") {
            body["more"] = 1.into();
        }
        if has("nonce_conflict") {
            body["nonce"] = "used".into();
        }
        let body = body.to_string();
        if has("duplicate_key") { body.replacen('{', r#"{"nonce":"x","#, 1) } else { body }
    };
    for (at, first) in rows.iter().enumerate() {
        for second in &rows[at..] {
            // No artifact has no fault; the rows are told apart by there being one.
            if *first == "approval_missing" && first != second {
                continue;
            }
            let body = wrong_in([first, second]);
            let answer = server.execute(&body);
            assert_eq!(answer.code(), *first, "with {second}: {body}");
            match *first {
                "duplicate_key" => drop(no_attempt(&answer, 400, first)),
                "unknown_field" => drop(no_attempt(&answer, 422, first)),
                "nonce_conflict" => drop(refusal(&answer, 409, first)),
                "invalid_payload" => drop(refusal(&answer, 422, first)),
                _ => drop(refusal(&answer, 403, first)),
            }
        }
    }

    assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
    for (at, code) in rows.iter().enumerate() {
        let expected = if at < 3 { code } else { "frozen" };
        assert_eq!(server.execute(&wrong_in([code, code])).code(), expected);
    }
    assert_eq!(cli(&scratch, &[], &["unfreeze"]).code, 0);
    assert_eq!(server.runs("echo") + server.runs("add"), 1, "nothing of this executed");

    // None of it spent the nonce.
    let good = Minted::of("echo", &json!({})).sign();
    executed(&ask(&server, "new", &json!({}), &good), "echo", "new", &json!({}));
}

/// A payload may have as many values as the reader takes. Read again inside the approved text it has
/// some more around it, and the audit must not take that for another request.
#[test]
fn the_audit_reads_the_largest_payload_that_was_approved_by_its_legacy_hash() {
    let scratch = Scratch::new();
    let settings = settings();
    let server = start(&scratch, &borrowed(&settings));
    // Two objects (the result has one more) and the array, and as many items as are left.
    let items = openexec::core::limits::JSON_VALUES_MAX
        - 2 * openexec::core::limits::JSON_OBJECT_VALUES
        - 1;
    let spelt = format!(r#"{{"a":[1.0{}]}}"#, ",0".repeat(items - 1));
    let legacy = format!(r#"{{"action":"echo","payload":{spelt}}}"#);
    let body = json!({"action": "echo", "nonce": "n", "payload": spelt,
                      "approval_artifact": Minted::hashed(&legacy).sign()});
    let answer = server.execute(&body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.code());
    let keys = scratch.join("keys.pem");
    private_file(&keys, &public_pem(OPS));
    let verify = ["verify", "--keys", keys.to_str().expect("UTF-8")];
    let audited = cli(&scratch, &borrowed(&settings), &verify);
    assert_eq!(audited.code, 0, "{}", audited.stderr);
    assert!(audited.stdout.contains("1 claims judged"), "{}", audited.stdout);
}

#[test]
fn as_many_different_keys_as_the_action_needs() {
    let scratch = Scratch::new();
    let (settings, server) = many_keys(&scratch);
    let payload = json!({"a": 1, "b": 2});
    let by = |key: u8| Minted { key, ..Minted::of("add", &payload) }.sign();
    let send = |server: &Server, nonce: &str, artifacts: &Value| {
        let body = json!({"action": "add", "nonce": nonce, "payload": payload,
                          "approval_artifact": artifacts});
        server.execute(&body.to_string())
    };
    let (first, second) = (by(OPS), by(2));
    let alone = refusal(&send(&server, "n", &first), 403, "approvals_insufficient");
    assert_eq!(alone["detail"], "'add' has 1 of the 2 approvals by different keys that it needs");
    assert_eq!(alone["exec_id"], alone["id"]);
    // Two by one key are one.
    let twice = json!([first, by(OPS)]);
    refusal(&send(&server, "n", &twice), 403, "approvals_insufficient");
    // They must approve the same; each in whichever way.
    let request = |nonce| json!({"action": "add", "nonce": nonce, "payload": payload});
    let bound = |nonce| Minted { key: 2, ..Minted::hashed(&canonical(&request(nonce))) }.sign();
    let other = json!([first, bound("other")]);
    refusal(&send(&server, "n", &other), 403, "approval_hash_mismatch");
    let mixed = json!([by(OPS), bound("mixed")]);
    executed(&send(&server, "mixed", &mixed), "add", "mixed", &payload);
    for bad in ["approval_key_not_authorized", "approval_key_expired", "tenant_mismatch"] {
        let three = json!([first, second, faulty(bad, "add", &payload, "")]);
        refusal(&send(&server, "n", &three), 403, bad);
    }
    let answer = send(&server, "n", &json!([second, first]));
    assert_eq!(executed(&answer, "add", "n", &payload)["result"], json!({"sum": 3}));
    // Both were spent together, and stay so.
    drop(server);
    let server = Server::start(&scratch, &borrowed(&settings));
    for half in [&first, &second] {
        let pair = json!([half, by(OPS), by(2)]);
        refusal(&send(&server, "n2", &pair), 403, "approval_already_used");
    }
    assert_eq!(send(&server, "n", &Value::Null).body, answer.body);
}

#[test]
fn in_demo_mode_the_artifact_is_ignored() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let artifact = Minted::of("echo", &hello()).sign();
    for (n, artifact) in [artifact, json!({}), json!(1), json!("x"), json!([1])].iter().enumerate()
    {
        let nonce = n.to_string();
        executed(&ask(&server, &nonce, &hello(), artifact), "echo", &nonce, &hello());
    }
    // It is read strictly all the same.
    let body = r#"{"action":"echo","nonce":"n","approval_artifact":{"a":1,"a":2}}"#;
    no_attempt(&server.execute(body), 400, "duplicate_key");
}
