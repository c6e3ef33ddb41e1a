//! Ten thousand damaged requests: each is refused and leaves the store as it was, or is executed
//! rightly.
//!
//! Whether an answer is right is judged by code that is not the product's: `serde_json` reads what
//! was sent, `serde_json_canonicalizer` and `sha2` compute what it must lead to.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use common::{Answer, Client, Scratch, Server, executed, post, problem};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

const REQUESTS: u32 = 10_000;

const SEEDS: [&str; 6] = [
    r#"{"action":"echo","payload":{"msg":"hello world"},"nonce":"unique-1"}"#,
    r#"{"action": "add", "nonce": "n", "payload": {"a": 2, "b": -3.5e0}}"#,
    r#"{"action":"echo","payload":"{\"b\":[1,2.0,null],\"a\":\"\\u00e9\"}","nonce":"text"}"#,
    r#"{"nonce":"\ud83d\ude00 é","action":"echo","payload":{"é":"\ud83d\ude00","x":{"y":[[]]}}}"#,
    r#"{"action":"echo","nonce":"m","payload":null,"approval_artifact":null}"#,
    r#"{"action":"add","nonce":"o","payload":{"a":4503599627370495,"b":0.1}}"#,
];

/// What is put into a request: tokens on which parsers differ.
const TOKENS: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "1e400",
    "-0",
    "1.0",
    "01",
    "NaN",
    "9007199254740991",
    "9007199254740992",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{a0}",
    "//x",
    "\n",
    "\0",
    "\"action\":\"add\",",
    "\"nonce\":\"x\",",
    "\"payload\":{},",
    "\"a\":1,",
    "\"more\":0,",
    "echo",
    "\u{1F600}",
    "'",
    "{\"a\":",
    "[[[[",
];

#[derive(Debug, Clone)]
enum Damage {
    Delete {
        at: usize,
        bytes: usize,
    },
    Flip {
        at: usize,
        bit: u8,
    },
    Insert {
        at: usize,
        token: usize,
    },
    Replace {
        at: usize,
        byte: u8,
    },
    Double {
        at: usize,
        bytes: usize,
    },
    Cut {
        at: usize,
    },
    /// One meaning for another.
    Swap {
        with: usize,
    },
    /// Another nonce.
    Renumber {
        number: u16,
    },
}

/// What a request may say instead of what it says.
const SWAPS: [(&str, &str); 20] = [
    ("echo", "add"),
    ("add", "echo"),
    ("echo", "ech0"),
    ("add", "delete"),
    ("unique-1", "n"),
    ("\"n\"", "\"o\""),
    ("\"a\":", "\"c\":"),
    ("2", "\"2\""),
    ("4503599627370495", "4503599627370496"),
    ("2", "2.0"),
    ("hello", "bye"),
    ("payload", "Payload"),
    ("nonce", "nonces"),
    ("{\"msg\":\"hello world\"}", "[]"),
    ("{\"msg\":\"hello world\"}", "null"),
    ("null", "{}"),
    ("null", "\"{}\""),
    ("\"b\"", "\"a\""),
    (":", " : "),
    ("e", "\\u0065"),
];

fn damage() -> impl Strategy<Value = Damage> {
    let at = 0..200usize;
    prop_oneof![
        1 => (at.clone(), 1..12usize).prop_map(|(at, bytes)| Damage::Delete { at, bytes }),
        1 => (at.clone(), 0..8u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        1 => (at.clone(), 0..TOKENS.len()).prop_map(|(at, token)| Damage::Insert { at, token }),
        1 => (at.clone(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace { at, byte }),
        1 => (at.clone(), 1..40usize).prop_map(|(at, bytes)| Damage::Double { at, bytes }),
        1 => at.prop_map(|at| Damage::Cut { at }),
        5 => (0..SWAPS.len()).prop_map(|with| Damage::Swap { with }),
        4 => any::<u16>().prop_map(|number| Damage::Renumber { number }),
    ]
}

fn apply(body: &mut Vec<u8>, damage: &Damage) {
    let inside = |at: usize| at % (body.len() + 1);
    match *damage {
        Damage::Delete { at, bytes } => {
            let at = inside(at);
            body.drain(at..(at + bytes).min(body.len()));
        }
        Damage::Flip { at, bit } => {
            let at = inside(at);
            body.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
        }
        Damage::Insert { at, token } => {
            let at = inside(at);
            body.splice(at..at, TOKENS[token].bytes());
        }
        Damage::Replace { at, byte } => {
            let at = inside(at);
            body.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
        }
        Damage::Double { at, bytes } => {
            let at = inside(at);
            let again = body[at..(at + bytes).min(body.len())].to_vec();
            body.splice(at..at, again);
        }
        Damage::Cut { at } => body.truncate(inside(at)),
        Damage::Swap { with } => {
            let (old, new) = SWAPS[with];
            replace_first(body, old, new);
        }
        Damage::Renumber { number } => {
            for start in ["\"nonce\":\"", "\"nonce\": \""] {
                replace_first(body, start, &format!("{start}{number}"));
            }
        }
    }
}

fn replace_first(body: &mut Vec<u8>, old: &str, new: &str) {
    if let Some(at) = body.windows(old.len()).position(|bytes| bytes == old.as_bytes()) {
        body.splice(at..at + old.len(), new.bytes());
    }
}

/// What the service may be expected to know.
struct Known {
    server: Server,
    client: RefCell<Client>,
    /// Body of the answer by nonce, and what was asked under it.
    executed: RefCell<HashMap<String, (Value, Vec<u8>)>>,
    /// Nonces of refused attempts: they must still be good for another.
    refused: RefCell<Vec<String>>,
    outcomes: RefCell<BTreeMap<String, u32>>,
    sent: Cell<u32>,
}

impl Known {
    fn judge(&self, body: &[u8]) {
        let answer = self.client.borrow_mut().exchange(&post("/execute", body));
        let name = if answer.status == 200 { "executed".to_owned() } else { answer.code() };
        *self.outcomes.borrow_mut().entry(name).or_insert(0) += 1;
        if answer.status == 200 {
            self.judge_execution(body, &answer)
        } else {
            self.judge_refusal(body, &answer)
        }
        self.sent.set(self.sent.get() + 1);
        if self.sent.get().is_multiple_of(1000) {
            self.judge_store();
        }
    }

    fn judge_execution(&self, body: &[u8], answer: &Answer) {
        let (action, nonce, payload) = meaning(body).expect("only a request is executed");
        let answered = executed(answer, &action, &nonce, &payload);
        match action.as_str() {
            "echo" => {
                assert_eq!(canonical(&answered["result"]), canonical(&json!({"echo": payload})))
            }
            _ => {
                let term = |name: &str| payload.get(name).map_or(Some(0.0), Value::as_f64);
                let sum = term("a").expect("a number") + term("b").expect("a number");
                assert_eq!(answered["result"]["sum"].as_f64(), Some(sum));
            }
        }
        let request = json!([action, payload]);
        let is_replay = answer.header("idempotent-replayed") == Some("true");
        let mut known = self.executed.borrow_mut();
        match known.get(&nonce) {
            Some((asked, first)) => {
                assert!(is_replay);
                assert_eq!(canonical(asked), canonical(&request));
                assert_eq!(&answer.body, first);
            }
            None => {
                assert!(!is_replay);
                known.insert(nonce, (request, answer.body.clone()));
            }
        }
    }

    fn judge_refusal(&self, body: &[u8], answer: &Answer) {
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        let code = answer.code();
        let refused = problem(answer, answer.status, &code);
        if refused.get("approved").is_none() {
            assert!([400, 422].contains(&answer.status), "{refused}");
            return;
        }
        common::refusal(answer, answer.status, &code);
        let (action, nonce, payload) = meaning(body).expect("only a request is an attempt");
        let request = json!({"action": action, "nonce": nonce, "payload": payload});
        assert_eq!(refused["id"], common::sha256(&canonical(&request)));
        let is_known = self.executed.borrow().contains_key(&nonce);
        assert_eq!(code == "nonce_conflict", is_known, "{refused}");
        if !is_known {
            self.refused.borrow_mut().push(nonce);
        }
    }

    /// The store holds what was executed, each once, and nothing else.
    fn judge_store(&self) {
        let executions = self.executed.borrow().len() as u64;
        assert_eq!(self.server.metric("openexec_store_executions"), executions);
        assert_eq!(self.server.runs("echo") + self.server.runs("add"), executions);
        let outcome = "openexec_executions_total{outcome=\"executed\"}";
        assert_eq!(self.server.metric(outcome), executions);
    }
}

fn canonical(value: &Value) -> String {
    common::canonical(value)
}

/// Action, nonce and payload, as another reader understands them.
fn meaning(body: &[u8]) -> Option<(String, String, Value)> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let payload = match body.get("payload") {
        None | Some(Value::Null) => json!({}),
        Some(Value::String(text)) => serde_json::from_str(text).ok()?,
        Some(payload) => payload.clone(),
    };
    payload.as_object()?;
    Some((body["action"].as_str()?.to_owned(), body["nonce"].as_str()?.to_owned(), payload))
}

#[test]
fn damaged_requests_are_refused_or_executed_rightly() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, &[]);
    let client = RefCell::new(Client::connect(&server.address));
    let known = Known {
        server,
        client,
        executed: RefCell::default(),
        refused: RefCell::default(),
        outcomes: RefCell::default(),
        sent: Cell::new(0),
    };
    // The same requests every time; shrinking would ask a service that has changed since.
    let config = Config {
        cases: REQUESTS,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let strategy = (0..SEEDS.len(), prop::collection::vec(damage(), 1..4));
    let tried = TestRunner::new_with_rng(config, rng).run(&strategy, |(seed, damages)| {
        let mut body = SEEDS[seed].as_bytes().to_vec();
        for damage in &damages {
            apply(&mut body, damage);
        }
        known.judge(&body);
        Ok(())
    });
    if let Err(error) = tried {
        panic!("{error}");
    }
    known.judge_store();

    // Each kind of end was seen, so that the requests were damaged, but not beyond all reading.
    let outcomes = known.outcomes.take();
    for end in [
        "executed",
        "malformed_json",
        "duplicate_key",
        "invalid_utf8",
        "lone_surrogate",
        "number_out_of_range",
        "invalid_request",
        "unknown_field",
        "nonce_conflict",
        "unknown_action",
        "invalid_payload",
    ] {
        assert!(outcomes.get(end).is_some_and(|count| *count >= 10), "{end}: {outcomes:?}");
    }
    // What was refused spent no nonce.
    let refused = known.refused.take();
    for nonce in refused.iter().take(200) {
        if !known.executed.borrow().contains_key(nonce) {
            let body = json!({"action": "echo", "nonce": nonce}).to_string();
            known.judge(body.as_bytes());
            assert!(known.executed.borrow().contains_key(nonce), "{nonce:?} was spent");
        }
    }
}
