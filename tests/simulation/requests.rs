//! Requests, prepared once: signatures cost too much to make or check in every history.

use crate::signer::{PrivateKey, approval_id, mint};
use std::sync::Arc;

use openexec::core::approval::keys::Keyring;
use openexec::core::approval::verify::{self, Examined};
use openexec::core::base64;
use openexec::core::hash::{Hash, hex};
use openexec::core::json::{Value, canonical};
use openexec::core::proposal::{Approval, ApprovalPolicy, Dropped, Given, Policy, Proposal, Wish};
use openexec::core::receipt;
use openexec::core::time::Time;
use openexec::handlers::Settings;
use openexec::serve::keys::from_keys_file;

use crate::handlers::{DEEDS, HANDLERS};
use crate::random::Random;

pub const ACTIONS: [&str; 3] = ["pure", "idempotent", "once"];
const TENANT: &str = "simulated";
/// Payloads of one action and deed differ by this number.
const VARIANTS: u64 = 3;
/// 2026-01-01T00:00:00Z, when every store is made.
pub const CREATED: Time = Time::from_micros(1_767_225_600_000_000);
/// Some clocks go that far while somebody still asks.
pub const PENDING_TTL_SECONDS: u32 = 300;
/// When the shorter half of the approvals expires.
pub const SHORT_SECONDS: i64 = 30;

/// What all histories share.
pub struct Catalogue {
    artifacts: Vec<Prepared>,
    demo: Vec<Arc<Policy>>,
    clawshield: Vec<Arc<Policy>>,
}

/// Artifacts that approve one action and payload.
struct Prepared {
    action: &'static str,
    payload: String,
    examined: Examined,
}

/// What a client asks for; asked again, it is the same.
#[derive(Clone, Debug)]
pub struct Ask {
    pub action: &'static str,
    pub nonce: String,
    pub payload: String,
    pub approval: Option<usize>,
    /// It is to execute by itself once it is approved.
    pub asynchronous: bool,
}

impl Catalogue {
    pub fn new() -> Self {
        let keys = [1u8, 2].map(private_key);
        let mut artifacts = Vec::new();
        let mut number = 0u8;
        for action in ACTIONS {
            for payload in [payload("ok", 0), payload("ok", 1), payload("unknown", 0)] {
                let hash = receipt::action_hash(action, &payload);
                let mut one = |key: usize, seconds: i64| {
                    number += 1;
                    let id = approval_id([number; 16]);
                    let expires = CREATED.plus_seconds(seconds);
                    mint(&keys[key], TENANT, &hash, CREATED, expires, &id).expect("an artifact")
                };
                let long = 86_400;
                let (first, second) = (one(0, long), one(1, long));
                let choices = [
                    vec![first.clone(), second.clone()],
                    vec![first, one(1, SHORT_SECONDS)],
                    vec![one(0, SHORT_SECONDS)],
                    vec![second],
                ];
                for choice in choices {
                    let examined = verify::examine(choice, &keyring(&keys));
                    artifacts.push(Prepared { action, payload: payload.clone(), examined });
                }
            }
        }
        let policy = |approvals: bool, allowed: Option<Vec<String>>| {
            Arc::new(Policy {
                handlers: HANDLERS,
                settings: Settings::default(),
                actions_file: None,
                allowed_actions: allowed,
                callers: None,
                approvals: approvals.then(|| ApprovalPolicy {
                    tenant: TENANT.to_owned(),
                    keyring: keyring(&keys),
                    ttl_max_seconds: None,
                    pending_ttl_seconds: PENDING_TTL_SECONDS,
                    directory: None,
                }),
            })
        };
        let without_idempotent = || Some(vec!["once".to_owned(), "pure".to_owned()]);
        Catalogue {
            artifacts,
            demo: vec![policy(false, None), policy(false, without_idempotent())],
            clawshield: vec![policy(true, None), policy(true, without_idempotent())],
        }
    }

    /// What an approver may leave for this: for it, mostly, or for something else.
    pub fn dropped(&self, random: &mut Random, id: &Hash, ask: &Ask) -> Vec<Dropped> {
        let is_for = |prepared: &&Prepared| {
            (prepared.action, &prepared.payload) == (ask.action, &ask.payload)
        };
        let mut good: Vec<&Prepared> = self.artifacts.iter().filter(is_for).collect();
        if good.is_empty() || random.chance(15) {
            good = self.artifacts.iter().collect();
        }
        let examined = Ok(random.pick(&good).examined.clone());
        vec![Dropped { name: format!("{}.json", hex(id)), examined }]
    }

    /// What an approver may post of this: approvals of its action and payload, each alone or all together.
    pub fn posted(&self, random: &mut Random, ask: &Ask) -> Option<Examined> {
        let is_for = |prepared: &&Prepared| {
            (prepared.action, &prepared.payload) == (ask.action, &ask.payload)
        };
        let all: Vec<&Prepared> = self.artifacts.iter().filter(is_for).collect();
        (!all.is_empty()).then(|| random.pick(&all).examined.clone())
    }

    /// Artifacts that approve this action.
    pub fn approval_of(&self, action: &str) -> usize {
        let is_it = |prepared: &Prepared| prepared.action == action;
        self.artifacts.iter().position(is_it).expect("an approval")
    }

    /// `narrow`: one action is not on the allow-list.
    pub fn policy(&self, clawshield: bool, narrow: bool) -> Arc<Policy> {
        let policies = if clawshield { &self.clawshield } else { &self.demo };
        policies[usize::from(narrow)].clone()
    }

    pub fn ask(&self, random: &mut Random, nonces: u64, clawshield: bool) -> Ask {
        let nonce = format!("n{}", random.below(nonces));
        if clawshield && random.chance(85) {
            let approval = random.below(self.artifacts.len() as u64) as usize;
            let prepared = &self.artifacts[approval];
            let payload = prepared.payload.clone();
            let approval = Some(approval).filter(|_| !random.chance(25));
            let asynchronous = approval.is_none() && random.chance(60);
            return Ask { action: prepared.action, nonce, payload, approval, asynchronous };
        }
        let action = random.pick(&ACTIONS);
        let deed = random.pick(&DEEDS);
        let mut payload = payload(deed, random.below(VARIANTS));
        if random.chance(10) {
            let filling = "y".repeat(random.below(3_000) as usize);
            payload = payload.replace("}", &format!(",\"z\":\"{filling}\"}}"));
        }
        // An approval of something else, or none.
        let approval =
            random.chance(30).then(|| random.below(self.artifacts.len() as u64) as usize);
        Ask { action, nonce, payload, approval, asynchronous: false }
    }

    pub fn proposal(&self, ask: &Ask, policy: &Policy) -> Box<Proposal> {
        let id = receipt::exec_id(ask.action, &ask.nonce, &ask.payload);
        let approval = policy.approvals.is_some().then(|| Approval {
            action_hash: receipt::action_hash(ask.action, &ask.payload),
            legacy: None,
            given: match ask.approval {
                None => Given::Files(Vec::new()),
                Some(number) => Given::Artifacts(self.artifacts[number].examined.clone()),
            },
        });
        Box::new(Proposal {
            caller: None,
            action: ask.action.to_owned(),
            nonce: ask.nonce.clone(),
            payload: ask.payload.clone(),
            read: None,
            id,
            handler: policy.handler(ask.action),
            approval,
            wish: Wish { asynchronous: ask.asynchronous, ..Wish::default() },
        })
    }
}

/// Canonical text.
pub fn payload(deed: &str, variant: u64) -> String {
    format!("{{\"do\":\"{deed}\",\"n\":{variant}}}")
}

fn keyring(keys: &[PrivateKey]) -> Keyring {
    let key = |(number, key): (usize, &PrivateKey)| {
        Value::Object(
            [
                ("name".to_owned(), Value::from(format!("key-{number}"))),
                ("public_key".to_owned(), Value::from(public_pem(key))),
            ]
            .into_iter()
            .collect(),
        )
    };
    let keys: Vec<Value> = keys.iter().enumerate().map(key).collect();
    let keys = canonical::to_string(&Value::Array(keys));
    let text = format!("{{\"keys\":{keys},\"required\":{{\"once\":2}}}}");
    from_keys_file(&text).expect("a keyring")
}

fn private_key(seed: u8) -> PrivateKey {
    let prefix = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    PrivateKey::from_pem(&pem("PRIVATE KEY", &[&prefix[..], &[seed; 32]].concat())).expect("a key")
}

fn public_pem(key: &PrivateKey) -> String {
    let prefix = [48, 42, 48, 5, 6, 3, 43, 101, 112, 3, 33, 0];
    pem("PUBLIC KEY", &[&prefix[..], &key.public_key()[..]].concat())
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64::encode(der))
}
