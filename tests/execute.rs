//! `POST /execute` and `POST /receipts/verify` in demo mode: the worked examples, the form of a
//! request, and the rows of the decision that need no approval.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use common::{
    Scratch, Server, canonical, cli, exchange, executed, no_attempt, post, refusal, run, sha256,
    until,
};
use openexec::core::limits::JSON_VALUES_MAX;
use serde_json::{Value, json};

const ECHO: &str = r#"{"action": "echo", "payload": {"msg": "hello world"}, "nonce": "unique-1", "approval_artifact": null}"#;

fn demo() -> (Scratch, Server) {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    (scratch, server)
}

fn request(action: &str, nonce: &str, payload: &Value) -> String {
    json!({"action": action, "nonce": nonce, "payload": payload}).to_string()
}

#[test]
fn the_worked_example_runs_once_and_replays() {
    let (_scratch, server) = demo();
    let first = server.execute(ECHO);
    assert_eq!(
        first.text(),
        r#"{"action":"echo","approved":true,"id":"d5ecb2f8","outcome":"executed"}"#
            .replace("d5ecb2f8", &sha256(r#"{"action":"echo","nonce":"unique-1","payload":{"msg":"hello world"}}"#))
            .replace(
                "\"executed\"}",
                &format!(
                    "\"executed\",\"receipt\":\"{}\",\"result\":{{\"echo\":{{\"msg\":\"hello world\"}}}}}}",
                    first.json()["receipt"].as_str().expect("text")
                )
            )
    );
    let payload = json!({"msg": "hello world"});
    executed(&first, "echo", "unique-1", &payload);
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(server.runs("echo"), 1);

    // Whatever the spelling: it is the same request.
    for again in [
        ECHO,
        r#"{"nonce":"unique-1","payload":{"msg":"hello world"},"action":"echo"}"#,
        r#"{"action":"echo","nonce":"unique\u002d1","payload":"{\"msg\": \"hello world\"}"}"#,
        " {\"action\":\"echo\",\n\"nonce\":\"unique-1\",\t\"payload\":{\"m\\u0073g\":\"hello world\"}}\r\n",
        r#"{"action":"echo","nonce":"unique-1","payload":{"msg":"hello world"},"approval_artifact":7}"#,
    ] {
        let replay = server.execute(again);
        assert_eq!((replay.status, replay.text()), (200, first.text()), "{again}");
        assert_eq!(replay.header("idempotent-replayed"), Some("true"));
        assert_eq!(replay.header("content-type"), Some("application/json"));
    }
    assert_eq!(server.runs("echo"), 1, "a replay runs nothing");
    assert_eq!(server.metric("openexec_replays_total"), 5);
    assert_eq!(server.metric("openexec_store_executions"), 1);
}

#[test]
fn a_payload_may_be_missing_null_or_a_string_that_holds_an_object() {
    let (_scratch, server) = demo();
    for (n, (given, meant)) in [
        ("", json!({})),
        (r#","payload":null"#, json!({})),
        (r#","payload":{}"#, json!({})),
        (r#","payload":"{}""#, json!({})),
        (r#","payload":"""#, json!({})),
        (r#","payload":" \t\r\n""#, json!({})),
        (r#","payload":" {\"b\":2, \"a\":[1,null]} ""#, json!({"a": [1, null], "b": 2})),
        (r#","payload":"{\"x\":\"\\u00e9\"}""#, json!({"x": "é"})),
        (r#","payload":{"x":"{\"y\":1}"}"#, json!({"x": "{\"y\":1}"})),
    ]
    .into_iter()
    .enumerate()
    {
        let nonce = format!("n{n}");
        let answer = server.execute(&format!(r#"{{"action":"echo","nonce":"{nonce}"{given}}}"#));
        let body = executed(&answer, "echo", &nonce, &meant);
        assert_eq!(body["result"], json!({"echo": meant}));
    }
    let runs = server.runs("echo");
    for bad in [
        "1",
        "true",
        "[]",
        "[{}]",
        r#""\u00a0""#,
        r#""\u000b""#,
        r#""\ufeff""#,
        r#""\u0000""#,
        r#"" null ""#,
        r#""1""#,
        r#""null""#,
        r#""[]""#,
        r#""{""#,
        r#""{} {}""#,
        r#""{\"a\":1,\"a\":2}""#,
        r#""{\"a\":9007199254740992}""#,
        r#""'{}'""#,
        r#""\"{}\"""#,
        r#""{\"a\":\"\\ud800\"}""#,
        r#""\ufeff{}""#,
    ] {
        let body = format!(r#"{{"action":"echo","nonce":"bad","payload":{bad}}}"#);
        let body = no_attempt(&server.execute(&body), 422, "invalid_request");
        assert!(body["detail"].as_str().expect("text").starts_with("payload "), "{bad}: {body}");
    }
    assert_eq!(server.runs("echo"), runs);
}

#[test]
fn actions_run() {
    let (_scratch, server) = demo();
    for (n, (payload, sum)) in [
        (json!({"a": 2, "b": 3}), json!(5)),
        (json!({}), json!(0)),
        (json!({"b": -1.5}), json!(-1.5)),
        (json!({"a": 0.1, "b": 0.2}), json!(0.30000000000000004)),
    ]
    .into_iter()
    .enumerate()
    {
        let nonce = n.to_string();
        let body =
            executed(&server.execute(&request("add", &nonce, &payload)), "add", &nonce, &payload);
        assert_eq!(body["result"], json!({"sum": sum}));
    }
    // `1.0` and `1` are one value, here as everywhere: the second is a replay.
    let first = server.execute(r#"{"action":"echo","nonce":"one","payload":{"n":1.0}}"#);
    assert!(first.text().ends_with(r#""result":{"echo":{"n":1}}}"#), "{}", first.text());
    let second = server.execute(r#"{"action":"echo","nonce":"one","payload":{"n":1}}"#);
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_eq!(second.body, first.body);
}

#[test]
fn a_receipt_is_verified_in_any_spelling() {
    let (_scratch, server) = demo();
    let payload = json!({"b": [1, 2.5, "é\u{1F600}"], "a": {"z": null, "y": true}});
    let body = executed(&server.execute(&request("echo", "n", &payload)), "echo", "n", &payload);
    let verify = |id: &Value, result: &Value, receipt: &Value| {
        let body = json!({"exec_id": id, "result": result, "receipt": receipt});
        let answer = server.post("/receipts/verify", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    };
    let yes = r#"{"outcome":"executed","recorded":true,"valid":true}"#;
    let no = r#"{"recorded":false,"valid":false}"#;
    let text = canonical(&body["result"]);
    let spaced = serde_json::to_string_pretty(&body["result"]).expect("JSON");
    let reordered = r#" {"echo":{"b":[1.0,25e-1,"\u00e9\ud83d\ude00"],"a":{"z":null,"y":true}}} "#;
    for result in [body["result"].clone(), text.as_str().into(), spaced.into(), reordered.into()] {
        assert_eq!(verify(&body["id"], &result, &body["receipt"]), yes, "{result}");
    }

    // One thing changed, and the hash does not hold.
    let zeros: Value = "0".repeat(64).into();
    let upper = |value: &Value| Value::from(value.as_str().expect("text").to_uppercase());
    for (id, result, receipt) in [
        (&zeros, &body["result"], &body["receipt"]),
        (&body["id"], &body["result"], &zeros),
        (&body["id"], &json!({"echo": {}}), &body["receipt"]),
        (&body["id"], &json!({}), &body["receipt"]),
        (&upper(&body["id"]), &body["result"], &body["receipt"]),
        (&body["id"], &body["result"], &upper(&body["receipt"])),
        (&body["id"], &body["result"], &"".into()),
        (&body["id"], &"".into(), &body["receipt"]),
        (&body["id"], &"{".into(), &body["receipt"]),
        (&body["id"], &"not JSON".into(), &body["receipt"]),
        (&body["id"], &format!("{text} {text}").into(), &body["receipt"]),
        (&body["id"], &r#"{"a":1,"a":1}"#.into(), &body["receipt"]),
    ] {
        assert_eq!(verify(id, result, receipt), no, "{id} {result} {receipt}");
    }

    // Anyone can compute a hash; only the store can say that it happened.
    let forged_result = json!({"echo": {"paid": true}});
    let id = body["id"].as_str().expect("text");
    let forged = sha256(&format!("{id}:{}", canonical(&forged_result)));
    let hash_only = r#"{"recorded":false,"valid":true}"#;
    assert_eq!(verify(&body["id"], &forged_result, &forged.into()), hash_only);
    for id in ["", "x", &"a".repeat(64)] {
        let receipt = sha256(&format!("{id}:{text}"));
        assert_eq!(verify(&id.into(), &body["result"], &receipt.into()), hash_only);
    }
}

#[test]
fn what_is_no_question_about_a_receipt_is_refused() {
    let (_scratch, server) = demo();
    for body in [
        "{}",
        r#"{"exec_id":"a","receipt":"b"}"#,
        r#"{"exec_id":"a","receipt":"b","result":null}"#,
        r#"{"exec_id":"a","receipt":"b","result":1}"#,
        r#"{"exec_id":"a","receipt":"b","result":[]}"#,
        r#"{"exec_id":1,"receipt":"b","result":{}}"#,
        r#"{"exec_id":"a","receipt":null,"result":{}}"#,
        "[]",
        "1",
    ] {
        no_attempt(&server.post("/receipts/verify", body), 422, "invalid_request");
    }
    let more = r#"{"exec_id":"a","receipt":"b","result":{},"more":1}"#;
    let body = no_attempt(&server.post("/receipts/verify", more), 422, "unknown_field");
    assert_eq!(body["detail"], "Unknown field: more");
    let body = no_attempt(&server.post("/receipts/verify", "{\"exec_id\":"), 400, "malformed_json");
    assert_eq!(body["offset"], 11);
    // Four levels more than a request may have, since a result wraps what was accepted.
    let nested = |depth: usize| {
        let arrays = depth - 2;
        let inner = format!("{}{}", "[".repeat(arrays), "]".repeat(arrays));
        format!(r#"{{"exec_id":"a","receipt":"b","result":{{"x":{inner}}}}}"#)
    };
    assert_eq!(server.post("/receipts/verify", &nested(68)).status, 200);
    // So is one of as many values as fit.
    let payload = json!({"a": vec![0; 131_072 - 2 * 16 - 3]});
    let most = server.execute(&request("echo", "most", &payload)).json();
    let question =
        json!({"exec_id": most["id"], "result": most["result"], "receipt": most["receipt"]});
    let verified = server.post("/receipts/verify", &question.to_string());
    assert_eq!(verified.text(), r#"{"outcome":"executed","recorded":true,"valid":true}"#);
    no_attempt(&server.post("/receipts/verify", &nested(69)), 400, "too_deep");
}

#[test]
fn refusals_have_receipts_and_are_recorded() {
    let (_scratch, server) = demo();
    let answer = server.execute(r#"{"action":"nope","nonce":"n","payload":{"a":1}}"#);
    let body = refusal(&answer, 400, "unknown_action");
    assert_eq!(body["detail"], "Unknown action: nope");
    assert_eq!(body["id"], sha256(r#"{"action":"nope","nonce":"n","payload":{"a":1}}"#));
    assert_eq!(body["recorded"], true);
    let verify = |body: &Value| {
        let question = json!({"exec_id": body["id"], "result": body["result"],
                              "receipt": body["receipt"]});
        server.post("/receipts/verify", &question.to_string()).text()
    };
    assert_eq!(verify(&body), r#"{"outcome":"denied","recorded":true,"valid":true}"#);

    const FLOOD: u64 = 2_000;
    // A flood of one code is counted rather than stored, and the answer says so; another code is
    // still stored.
    let mut recorded = 0;
    let mut unrecorded = None;
    let mut client = common::Client::connect(&server.address);
    for n in 0..FLOOD {
        let request = format!(r#"{{"action":"nope","nonce":"{n}"}}"#);
        let body = client.exchange(&common::post("/execute", request.as_bytes())).json();
        match body["recorded"] == true {
            true => recorded += 1,
            false => unrecorded = Some(body),
        }
    }
    assert!((FLOOD / 4..FLOOD).contains(&recorded), "{recorded}");
    let unrecorded = unrecorded.expect("one that was not recorded");
    common::assert_receipt(&unrecorded);
    assert_eq!(verify(&unrecorded), r#"{"recorded":false,"valid":true}"#);
    assert_eq!(server.metric("openexec_refusals_total{code=\"unknown_action\"}"), FLOOD + 1);
    assert_eq!(
        server.metric("openexec_refusals_not_stored_total{code=\"unknown_action\"}"),
        FLOOD - recorded
    );
    let other = server.execute(r#"{"action":"add","nonce":"n","payload":{"a":"x"}}"#);
    assert_eq!(refusal(&other, 422, "invalid_payload")["recorded"], true);
}

#[test]
fn text_that_is_not_strict_json_is_refused_with_its_offset() {
    let (_scratch, server) = demo();
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let many = |values: usize| format!("[{}]", vec!["0"; values - 1].join(","));
    let cases: &[(&[u8], &str, usize)] = &[
        (b"", "malformed_json", 0),
        (b" ", "malformed_json", 1),
        (b"x", "malformed_json", 0),
        (b"{\"action\":\"echo\"", "malformed_json", 16),
        (b"{} x", "malformed_json", 3),
        (b"{}{}", "malformed_json", 2),
        (b"{\"a\":1,}", "malformed_json", 7),
        (b"{'a':1}", "malformed_json", 1),
        (b"{\"a\":01}", "malformed_json", 6),
        (b"{\"a\":.5}", "malformed_json", 5),
        (b"{\"a\":+1}", "malformed_json", 5),
        (b"{\"a\":NaN}", "malformed_json", 5),
        (b"{\"a\":1}//", "malformed_json", 7),
        (b"{\"a\":\"\n\"}", "malformed_json", 6),
        (b"\xef\xbb\xbf{}", "malformed_json", 0),
        (b"{\"a\":\"\xff\"}", "invalid_utf8", 6),
        (b"{\"a\":\"\xed\xa0\x80\"}", "invalid_utf8", 6),
        (b"{\"a\":\"\xc0\xaf\"}", "invalid_utf8", 6),
        (br#"{"a":"\ud800"}"#, "lone_surrogate", 6),
        (br#"{"a":"\udc00\ud800"}"#, "lone_surrogate", 6),
        (br#"{"action":"echo","action":"echo"}"#, "duplicate_key", 17),
        (br#"{"payload":{"a":1,"\u0061":2}}"#, "duplicate_key", 18),
        (br#"{"approval_artifact":[{"a":1,"a":1}]}"#, "duplicate_key", 29),
        (br#"{"a":9007199254740992}"#, "number_out_of_range", 5),
        (br#"{"a":-9007199254740992}"#, "number_out_of_range", 5),
        (br#"{"a":1e400}"#, "number_out_of_range", 5),
        (br#"{"a":9007199254740991.9}"#, "number_out_of_range", 5),
        (&deep(65).into_bytes(), "too_deep", 64),
        (&many(JSON_VALUES_MAX + 1).into_bytes(), "too_many_values", 2 * JSON_VALUES_MAX - 1),
    ];
    for (body, code, offset) in cases {
        let answer = common::exchange(&server.address, &common::post("/execute", body));
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
        let problem = no_attempt(&answer, 400, code);
        assert_eq!(problem["offset"], *offset, "{shown}");
    }
    // At the bounds: judged by the next row.
    for body in
        [deep(64), many(JSON_VALUES_MAX), r#"[9007199254740991,-9007199254740991,1e15]"#.to_owned()]
    {
        no_attempt(&server.execute(&body), 422, "invalid_request");
    }
    assert_eq!(server.metric("openexec_store_records"), 1, "the store's own first record");
}

#[test]
fn fields_are_held_to_their_form() {
    let (_scratch, server) = demo();
    let long_action = "a".repeat(65);
    for action in [
        "null",
        "1",
        "[]",
        "{}",
        r#""""#,
        r#""a b""#,
        r#""é""#,
        r#""a/b""#,
        r#""a\u0000""#,
        &format!("\"{long_action}\""),
    ] {
        let body = format!(r#"{{"action":{action},"nonce":"n"}}"#);
        let body = no_attempt(&server.execute(&body), 422, "invalid_request");
        assert!(body["detail"].as_str().expect("text").starts_with("action "), "{action}");
    }
    for nonce in [
        "null",
        "1",
        "[]",
        "{}",
        r#""""#,
        r#""\u0000""#,
        r#""a\nb""#,
        r#""\u007f""#,
        r#""\u0085""#,
        &format!("\"{}\"", "n".repeat(257)),
        &format!("\"{}\"", "é".repeat(129)),
    ] {
        let body = format!(r#"{{"action":"echo","nonce":{nonce}}}"#);
        let body = no_attempt(&server.execute(&body), 422, "invalid_request");
        assert!(body["detail"].as_str().expect("text").starts_with("nonce "), "{nonce}");
    }
    for body in ["null", "1", "\"{}\"", "[]", "{}", r#"{"nonce":"n"}"#, r#"{"action":"echo"}"#] {
        no_attempt(&server.execute(body), 422, "invalid_request");
    }
    for name in ["id", "Action", "payload ", "approval", "nonce2", "é", ""] {
        let body = json!({"action": "echo", "nonce": "n", name: null});
        let body = no_attempt(&server.execute(&body.to_string()), 422, "unknown_field");
        assert_eq!(body["detail"], format!("Unknown field: {name}"));
    }
    // Only a part of a long name is repeated, and no control character.
    let name = format!("a\u{1b}[31m{}", "b".repeat(500));
    let body = json!({"action": "echo", "nonce": "n", name: 1}).to_string();
    let detail = no_attempt(&server.execute(&body), 422, "unknown_field")["detail"].to_string();
    assert!(detail.len() < 100 && !detail.contains("\\u001b"), "{detail}");

    // At the bounds.
    let longest = [
        ("a".repeat(64), "n".to_owned(), 400),
        ("A-Z_0.9".to_owned(), "n".to_owned(), 400),
        ("echo".to_owned(), "n".repeat(256), 200),
        ("echo".to_owned(), "é".repeat(128), 200),
        ("echo".to_owned(), " ".to_owned(), 200),
        ("echo".to_owned(), "\u{200b}\u{2028}\u{1F600}".to_owned(), 200),
    ];
    for (action, nonce, status) in longest {
        let answer = server.execute(&request(&action, &nonce, &json!({})));
        match status {
            200 => drop(executed(&answer, &action, &nonce, &json!({}))),
            _ => drop(refusal(&answer, 400, "unknown_action")),
        }
    }
}

#[test]
fn sizes_and_depths_are_held_to_their_bounds() {
    let (_scratch, server) = demo();
    const MIB: usize = 1024 * 1024;
    // Canonical `{"x":"..."}` of that many bytes, spelt shorter: 1E9 stands for 1000000000.
    let payload = |bytes: usize| {
        let numbers = 50_000;
        let fill = bytes - r#"{"n":[],"x":""}"#.len() - (numbers * 11 - 1);
        format!(r#"{{"n":[{}],"x":"{}"}}"#, vec!["1E9"; numbers].join(","), "x".repeat(fill))
    };
    let sent = |nonce: &str, payload: &str| {
        server.execute(&format!(r#"{{"action":"echo","nonce":"{nonce}","payload":{payload}}}"#))
    };
    let around = r#"{"echo":}"#.len();
    let answer = sent("fits", &payload(MIB - around));
    assert_eq!(answer.status, 200);
    common::assert_receipt(&answer.json());
    // It may be asked for, but the result that wraps it is over its own bound.
    let answer = sent("result too large", &payload(MIB - around + 1));
    assert_eq!(common::problem(&answer, 500, "handler_failed")["outcome"], "failed");
    assert_eq!(sent("largest", &payload(MIB)).status, 500);
    no_attempt(&sent("too large", &payload(MIB + 1)), 422, "invalid_request");

    // The body: refused before it is read.
    let body = |bytes: usize| {
        let head = r#"{"action":"echo","nonce":"body","payload":{"x":""#;
        format!("{head}{}\"}}}}", "x".repeat(bytes - head.len() - 3))
    };
    assert_eq!(server.execute(&body(MIB)).status, 200);
    no_attempt(&server.execute(&body(MIB + 1)), 413, "body_too_large");

    // Depth: 64 open containers, of which the body and the payload are two.
    let nested = |arrays: usize| format!("{{\"x\":{}{}}}", "[".repeat(arrays), "]".repeat(arrays));
    let text = |payload: &str| canonical(&Value::from(payload));
    assert_eq!(sent("deepest", &nested(62)).status, 200);
    assert_eq!(sent("deepest text", &text(&nested(62))).status, 200);
    no_attempt(&sent("deeper", &nested(63)), 400, "too_deep");
    no_attempt(&sent("deeper text", &text(&nested(63))), 422, "invalid_request");
    // None of the refused spent its nonce.
    for nonce in ["too large", "deeper", "deeper text"] {
        assert_eq!(sent(nonce, "{}").header("idempotent-replayed"), None, "{nonce}");
    }
}

#[test]
fn the_body_limit_can_be_lowered() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[("OPENEXEC_MAX_BODY_BYTES", "1024")]);
    let body = |bytes: usize| {
        let head = r#"{"action":"echo","nonce":""#;
        let fill = " ".repeat(bytes - head.len() - 3);
        format!("{head}n\"{fill}}}")
    };
    no_attempt(&server.execute(&body(1025)), 413, "body_too_large");
    assert_eq!(server.execute(&body(1024)).status, 200);
}

/// Of the header, the nonce; `None` where there is none.
#[test]
fn the_nonce_may_be_a_header() {
    let (_scratch, server) = demo();
    let asked = |key: Option<&str>, nonce: &str| {
        let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
        let body = format!(r#"{{"action":"echo","payload":{{}}{nonce}}}"#);
        let request = String::from_utf8(post("/execute", body.as_bytes())).expect("UTF-8");
        let request = request.replace("Content-Type", &format!("{key}Content-Type"));
        exchange(&server.address, request.as_bytes())
    };
    let (longest, longer) = ("k".repeat(256), "k".repeat(257));
    for (key, nonce, expected) in [
        ("order-1", "", Some("order-1")),
        ("\"order-2\"", "", Some("order-2")),
        ("  order-3 \t", r#","nonce":null"#, Some("order-3")),
        ("order-4", r#","nonce":"order-4""#, Some("order-4")),
        ("\"order-5\"", r#","nonce":"order-5""#, Some("order-5")),
        // One pair goes, and only a pair.
        ("\"\"a\"\"", "", Some("\"a\"")),
        ("\"", "", Some("\"")),
        ("\"a", "", Some("\"a")),
        ("a, b;c=\\", "", Some("a, b;c=\\")),
        (&longest, "", Some(&longest)),
        (&longer, "", None),
        ("", "", None),
        ("\"\"", "", None),
        ("order-6", r#","nonce":"order-7""#, None),
        ("order-6", r#","nonce":"Order-6""#, None),
        ("\"order-6", r#","nonce":"order-6""#, None),
        ("6", r#","nonce":6"#, None),
        ("order-6", r#","nonce":"""#, None),
        ("order-6", r#","nonce":["order-6"]"#, None),
    ] {
        let answer = asked(Some(key), nonce);
        match expected {
            Some(expected) => drop(executed(&answer, "echo", expected, &json!({}))),
            None => drop(no_attempt(&answer, 422, "invalid_request")),
        }
    }
    // It is the nonce: what follows from one follows from it.
    let replay = asked(None, r#","nonce":"order-1""#);
    assert_eq!((replay.status, replay.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(asked(Some("order-1"), "").text(), replay.text());
    no_attempt(&asked(None, ""), 422, "invalid_request");
}

#[test]
fn a_nonce_belongs_to_one_request() {
    let (_scratch, server) = demo();
    let first = server.execute(ECHO);
    for other in [
        r#"{"action":"echo","payload":{"msg":"hello"},"nonce":"unique-1"}"#,
        r#"{"action":"echo","nonce":"unique-1"}"#,
        r#"{"action":"add","payload":{"msg":"hello world"},"nonce":"unique-1"}"#,
        r#"{"action":"nope","payload":{"msg":"hello world"},"nonce":"unique-1"}"#,
        r#"{"action":"echo","payload":{"msg":"hello world","x":null},"nonce":"unique-1"}"#,
    ] {
        refusal(&server.execute(other), 409, "nonce_conflict");
    }
    assert_eq!(server.execute(ECHO).body, first.body, "the first stands");
    // These are other nonces.
    for nonce in ["Unique-1", "unique-1 ", "unique\u{2010}1", "u\u{308}", "\u{fc}"] {
        let answer = server.execute(&request("echo", nonce, &json!({})));
        executed(&answer, "echo", nonce, &json!({}));
    }
    assert_eq!(server.runs("echo"), 6);
}

#[test]
fn a_refusal_does_not_spend_the_nonce() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[("OPENEXEC_ALLOWED_ACTIONS", "add")]);
    let allowed = json!({"a": 1, "b": 2});
    let refused = |action: &str, payload: &Value, status: u16, code: &str, detail: &str| {
        let body = refusal(&server.execute(&request(action, "n", payload)), status, code);
        assert_eq!(body["detail"], detail);
    };
    let not_allowed = "is not in the execution allow-list";
    refused("echo", &allowed, 403, "action_not_allowed", &format!("Action 'echo' {not_allowed}"));
    refused("nope", &allowed, 403, "action_not_allowed", &format!("Action 'nope' {not_allowed}"));
    refused("Add", &allowed, 403, "action_not_allowed", &format!("Action 'Add' {not_allowed}"));
    for bad in [json!({"a": "1"}), json!({"a": 1, "c": 1}), json!({"b": 4503599627370496_i64})] {
        refusal(&server.execute(&request("add", "n", &bad)), 422, "invalid_payload");
    }
    no_attempt(
        &server.execute(r#"{"action":"add","nonce":"n","payload":[]}"#),
        422,
        "invalid_request",
    );
    assert_eq!(server.runs("add"), 0);
    let answer = server.execute(&request("add", "n", &allowed));
    assert_eq!(answer.header("idempotent-replayed"), None);
    executed(&answer, "add", "n", &allowed);
}

#[test]
fn a_request_wrong_in_two_rows_gets_the_earlier() {
    let (scratch, server) = demo();
    executed(&server.execute(&request("echo", "used", &json!({}))), "echo", "used", &json!({}));
    type Fault = fn(&mut Value);
    let rows: [(&str, Fault); 4] = [
        ("unknown_field", |body| body["more"] = 1.into()),
        ("nonce_conflict", |body| body["nonce"] = "used".into()),
        ("unknown_action", |body| body["action"] = "nope".into()),
        ("invalid_payload", |body| body["payload"] = json!({"a": "x"})),
    ];
    let wrong_in = |faults: &[usize]| {
        let mut body = json!({"action": "add", "nonce": "new", "payload": {}});
        for fault in faults {
            rows[*fault].1(&mut body);
        }
        body.to_string()
    };
    let code_of = |body: &str| server.execute(body).code();
    for first in 0..rows.len() {
        for second in first..rows.len() {
            let body = wrong_in(&[first, second]);
            assert_eq!(code_of(&body), rows[first].0, "{body}");
            let malformed = body.replacen('{', r#"{"action":"add","#, 1);
            assert_eq!(code_of(&malformed), "duplicate_key", "{malformed}");
        }
    }
    assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
    for (first, (code, _)) in rows.iter().enumerate() {
        let expected = if first < 2 { code } else { "frozen" };
        assert_eq!(code_of(&wrong_in(&[first])), expected);
    }
    assert_eq!(code_of(&wrong_in(&[])), "frozen");
}

/// Where somebody stands in another directory, there may be another store.
#[test]
fn a_freeze_and_its_end_say_of_which_store_they_are() {
    let (scratch, _server) = demo();
    let which = scratch.join("store").canonicalize().expect("there");
    let which = format!("openexec: the store is {}\n", which.display());
    for command in ["freeze", "unfreeze"] {
        let said = cli(&scratch, &[], &[command]);
        assert_eq!((said.code, said.stderr), (0, which.clone()));
    }
}

#[test]
fn frozen_stops_executions_and_nothing_else() {
    let (scratch, mut server) = demo();
    let first = server.execute(ECHO);
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    let frozen = cli(&scratch, &[], &["freeze", "--reason", "the auditor \"asked\""]);
    assert_eq!(frozen.code, 0, "{}", frozen.stderr);

    let new = r#"{"action":"echo","nonce":"new"}"#;
    let held_to = |server: &Server| {
        let answer = server.execute(new);
        let body = refusal(&answer, 503, "frozen");
        assert_eq!(body["detail"], "Execution is frozen: the auditor \"asked\"");
        assert!(answer.header("retry-after").is_some());
        let replay = server.execute(ECHO);
        assert_eq!((replay.status, &replay.body), (200, &first.body), "replays go on");
        assert_eq!(replay.header("idempotent-replayed"), Some("true"));
        assert_eq!(server.get(&format!("/receipts/{id}")).body, first.body, "and reads");
        let ready = server.get("/ready");
        assert_eq!((ready.status, ready.text().as_str()), (200, r#"{"frozen":true,"ready":true}"#));
        assert_eq!(server.metric("openexec_frozen"), 1);
    };
    held_to(&server);
    server.kill();
    drop(server);
    let server = Server::start(&scratch, &[]);
    assert_eq!(server.get("/ready").text(), r#"{"frozen":true,"ready":true}"#, "from the first");
    held_to(&server);
    until("the log says so", || server.log().contains("executions are frozen"));

    assert_eq!(cli(&scratch, &[], &["unfreeze"]).code, 0);
    executed(&server.execute(new), "echo", "new", &json!({}));
    assert_eq!(server.get("/ready").text(), r#"{"ready":true}"#);
    let again = cli(&scratch, &[], &["unfreeze"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "it was not frozen\n"));

    // An idle service notices by itself, and without a reason says so much.
    assert_eq!(cli(&scratch, &[], &["freeze"]).code, 0);
    until("/ready says frozen", || server.get("/ready").text().contains("frozen"));
    let body = refusal(&server.execute(r#"{"action":"echo","nonce":"newer"}"#), 503, "frozen");
    assert_eq!(body["detail"], "Execution is frozen");
}

/// The `freeze` and `unfreeze` records of the store, with their reasons.
fn freezes(store: &std::path::Path) -> Vec<(String, String)> {
    let lines = common::evidence::records(store).into_iter();
    let values = lines.map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    values
        .map(|value| (text(&value, "kind"), text(&value, "reason")))
        .filter(|(kind, _)| kind.ends_with("freeze"))
        .collect()
}

/// A stop that is over before anybody looked is one all the same: the way out of `clock_behind`.
#[test]
fn a_stop_is_recorded_however_short_and_while_nothing_runs() {
    let (scratch, mut server) = demo();
    let pair = [("freeze".to_owned(), "short".to_owned()), ("unfreeze".to_owned(), String::new())];
    let stop = || {
        assert_eq!(cli(&scratch, &[], &["freeze", "--reason", "short"]).code, 0);
        assert_eq!(cli(&scratch, &[], &["unfreeze"]).code, 0);
    };
    stop();
    until("it is recorded", || freezes(&server.store).len() == 2);
    assert_eq!(freezes(&server.store), pair);
    let names = || std::fs::read_dir(&server.store).expect("listed").flatten();
    let is_left = || names().any(|entry| entry.file_name().to_string_lossy().contains("FROZEN"));
    assert!(!is_left(), "nothing is left of it");
    // A second one over while the first is recorded.
    executed(&server.execute(r#"{"action":"echo","nonce":"n"}"#), "echo", "n", &json!({}));

    server.kill();
    stop();
    stop();
    assert_eq!(cli(&scratch, &[], &["freeze", "--reason", "long"]).code, 0);
    let server = Server::start(&scratch, &[]);
    until("all is recorded", || freezes(&server.store).len() == 5);
    let mut all = [pair.clone(), pair].concat();
    all.push(("freeze".to_owned(), "long".to_owned()));
    assert_eq!(freezes(&server.store), all);
    refusal(&server.execute(r#"{"action":"echo","nonce":"m"}"#), 503, "frozen");
}

#[test]
fn a_freeze_file_that_cannot_be_read_is_frozen() {
    let (scratch, server) = demo();
    let first = server.execute(ECHO);
    let file = server.store.join("FROZEN");
    let link = |to: &str| std::os::unix::fs::symlink(scratch.join(to), &file);
    let makers: [(&str, &dyn Fn()); 4] = [
        ("a directory", &|| std::fs::create_dir(&file).expect("made")),
        ("a link that leads nowhere", &|| link("nothing").expect("linked")),
        ("a link to itself", &|| link("store/FROZEN").expect("linked")),
        ("a pipe that nobody writes into", &|| common::fifo(&file)),
    ];
    for (what, make) in makers {
        make();
        refusal(&server.execute(r#"{"action":"echo","nonce":"n"}"#), 503, "frozen");
        assert_eq!(server.execute(ECHO).body, first.body, "{what}: replays go on");
        let _ = std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir(&file));
    }
    // What cannot be removed would be recorded for ever; `unfreeze` mends it.
    let past = server.store.join("UNFROZEN");
    std::fs::create_dir(&past).expect("made");
    let body = refusal(&server.execute(r#"{"action":"echo","nonce":"n"}"#), 503, "frozen");
    assert_eq!(body["detail"], "Execution is frozen: UNFROZEN is there still");
    refusal(&server.execute(r#"{"action":"echo","nonce":"n"}"#), 503, "frozen");
    std::fs::remove_dir(&past).expect("removed");
    std::fs::create_dir(&file).expect("made");
    refusal(&server.execute(r#"{"action":"echo","nonce":"n"}"#), 503, "frozen");
    assert_eq!(cli(&scratch, &[], &["unfreeze"]).code, 0, "one made by hand");
    executed(&server.execute(r#"{"action":"echo","nonce":"n"}"#), "echo", "n", &json!({}));
}

#[test]
fn what_hash_says_is_what_the_service_computes() {
    let (scratch, server) = demo();
    let requests = [
        ECHO,
        r#"{"action":"echo","nonce":"n","payload":"{\"b\":1.0,\"a\":\"\u00e9\"}"}"#,
        r#"{"action":"add","nonce":"n2","payload":null}"#,
        r#"{"action":"add","nonce":"n3","payload":" \n"}"#,
    ];
    for request in requests {
        let mut command = common::openexec(&scratch);
        command.arg("hash");
        let hashed = run(command, request);
        assert_eq!((hashed.code, hashed.stderr.as_str()), (0, ""));
        let hashes: Value = serde_json::from_str(&hashed.stdout).expect("JSON");
        assert_eq!(hashed.stdout, format!("{}\n", canonical(&hashes)));
        assert_eq!(server.execute(request).json()["id"], hashes["exec_id"]);
    }
}
