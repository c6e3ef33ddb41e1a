//! The ids and receipts of a fixed set of requests, as constants: nothing may alter one unnoticed.
//!
//! The constants were computed by Python's `hashlib` over texts written by hand.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use common::{Scratch, Server, refusal};

/// Request, code of the refusal if it is one, id, receipt.
const CASES: &[(&str, &str, &str, &str)] = &[
    (
        r#"{"action": "echo", "payload": {"msg": "hello world"}, "nonce": "unique-1", "approval_artifact": null}"#,
        "",
        "46143a0cefd51a96bb0f597720ddbea2854dd6472241881c21232e952dfe616c",
        "e01c4ffc9b0f2a23561d327cc2ef74f8d8a81774aa5095d000df3721e0a53212",
    ),
    (
        r#"{"action":"echo","nonce":"n"}"#,
        "",
        "d9cee03ff4f3b5954f9ddd83315ff8d36b6c44f4cd0acb4d68a31c541fc14d9e",
        "6201c867a97777d64ba5581d04f0ae5d7361b1e044e3f104449460a507c3e568",
    ),
    (
        r#"{"action":"echo","nonce":"s","payload":"{\"b\":[1.0,1e-7,-0.0],\"a\":\"\\u00e9\"}"}"#,
        "",
        "4d3d417b35bb0b5031b80dd859d552c9a465148383ffe7680c9de28f5a2c73ed",
        "1b012cbf778982a057de7a4458e26d9effa128a68bc63844a09590ef7732b5a4",
    ),
    (
        r#"{"action":"echo","nonce":"\u00fc \ud83d\ude00","payload":{"\ufb33":1,"\ud83d\ude00":2,"/":"\/\u007f\u2028"}}"#,
        "",
        "ef804771f27a6a8432c14ac4f7f5eb37f1126e4085a1d3ea75010a338d484da8",
        "98afc1dece3650e0fa87ffd2618f5fdfa6582d367ad7dae08b502910aa7e66df",
    ),
    (
        r#"{"action":"add","nonce":"sum","payload":{"a":2,"b":3}}"#,
        "",
        "5f45fe9bea1ea73acd7ecdad59828bca0715d9e197cf4af527730949383384ba",
        "4c4b2d252eb34696f71d52b64f30c783af8670c5b516539cd430cc7b984d86d4",
    ),
    (
        r#"{"action":"add","nonce":"tenths","payload":{"a":0.1,"b":0.2}}"#,
        "",
        "707ae73903ceffb8b28a37f4b18bca2208074990d35b852bc59583fb433dde1d",
        "00bac715ce6f21a83496c654892aa574646e62053e86d9fdd73ddaa065f87b20",
    ),
    (
        r#"{"action":"echo","nonce":"sum","payload":{"a":2,"b":3}}"#,
        "nonce_conflict",
        "227a17e5309c5b643530b7784df455a41b3b47c0c1f1154daed1460267564f89",
        "9d75f71c237b0dce8ea3f304b2d88e9bcab37ac81dbb742774958a2f4cafdeef",
    ),
    (
        r#"{"action":"nope","nonce":"n2","payload":{"a":1}}"#,
        "unknown_action",
        "3110096f9eed76603182f58a965fe9af858d3256e24619432fe208aebad2e190",
        "6a647fa8eadbf6f3b2fc03c5495158b57b7d81821dbe000ce03e99e4241c04de",
    ),
];

#[test]
fn the_same_request_has_the_same_id_and_receipt_everywhere() {
    for _machine in 0..2 {
        let scratch = Scratch::new();
        let server = Server::start(&scratch, &[]);
        for (request, code, id, receipt) in CASES {
            let answer = server.execute(request);
            let body = match *code {
                "" => answer.json(),
                "nonce_conflict" => refusal(&answer, 409, code),
                code => refusal(&answer, 400, code),
            };
            assert_eq!(body["id"], *id, "{request}");
            assert_eq!(body["receipt"], *receipt, "{request}");
        }
    }
}

/// The whole answer to the first example of the README, byte for byte.
#[test]
fn the_first_answer_is_these_bytes() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let answer = server.execute(CASES[0].0);
    assert_eq!(
        answer.text(),
        format!(
            "{{\"action\":\"echo\",\"approved\":true,\"id\":\"{}\",\"outcome\":\"executed\",\
             \"receipt\":\"{}\",\"result\":{{\"echo\":{{\"msg\":\"hello world\"}}}}}}",
            CASES[0].2, CASES[0].3
        )
    );
}
