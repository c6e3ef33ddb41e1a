//! A store as a crash between claim and receipt leaves it.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use openexec::core::line::Json;
use openexec::core::receipt::exec_id;
use openexec::core::record::{Claim, Policy};
use openexec::handlers::{HANDLERS, find};
use openexec::serve::keys::from_keys_file;
use openexec::store::open::open;
use openexec::store::{Batch, GEOMETRY, Store};
use openexec::sys::clock;
use openexec::sys::disk::Directory;
use serde_json::{Value, json};

use super::approvals::{OPS, TENANT, public_pem};
use super::{canonical, in_files};

/// A claim to be. Without approvals it is one of demo mode.
#[derive(Clone)]
pub struct Owed<'a> {
    pub action: &'a str,
    pub payload: Value,
    pub nonce: &'a str,
    pub place: Option<String>,
    pub approvals: Vec<Value>,
    pub legacy: Option<String>,
}

impl Owed<'_> {
    pub fn id(&self) -> String {
        openexec::core::hash::hex(&exec_id(self.action, self.nonce, &canonical(&self.payload)))
    }

    /// Appends the claim to a store that nobody holds.
    pub fn append(&self, store: &Path) {
        let disk = Arc::new(Directory::open(in_files(store)).expect("a directory"));
        let (mut store, _) = open(disk, GEOMETRY, &mut |_, _| {}).expect("it opens");
        let payload = canonical(&self.payload);
        let is_demo = self.approvals.is_empty();
        let approval = canonical(&Value::from(self.approvals.clone()));
        let in_force = store.state().policy;
        let mut batch = Batch::default();
        if in_force.is_none() {
            batch.push(&policy(!is_demo));
        }
        let claim = Claim {
            at: clock::now(),
            id: exec_id(self.action, self.nonce, &payload),
            action: self.action,
            payload: Json(&payload),
            nonce: self.nonce.into(),
            caller: None,
            effect: find(HANDLERS, self.action).expect("registered").effect,
            approval: Json(if is_demo { "null" } else { &approval }),
            keys: Json(if is_demo { "[]" } else { "[\"one\"]" }),
            legacy: self.legacy.as_deref().map(Cow::from),
            policy: in_force.map_or(store.size(), |policy| policy.number),
            place: self.place.as_deref(),
        };
        batch.push(&claim.line());
        store.append(&batch).expect("appended");
    }
}

/// The record of a policy: of clawshield mode with one key, or of demo mode.
pub fn policy(is_clawshield: bool) -> String {
    let key = json!({"name": "one", "public_key": public_pem(OPS)});
    let keyring = from_keys_file(&json!({"keys": [key]}).to_string()).expect("a key");
    let (keys, required) =
        if is_clawshield { keyring.recorded() } else { (Value::Null, Value::Null) };
    Policy {
        actions: None,
        allowed: Json("null"),
        at: clock::now(),
        callers: Json("null"),
        keys: Json(&canonical(&keys)),
        required: Json(&canonical(&required)),
        tenant: is_clawshield.then(|| TENANT.into()),
        ttl_max: None,
        version: "0".into(),
    }
    .line()
}

/// The marker of a directory.
pub fn place(directory: &Path) -> String {
    let text = std::fs::read_to_string(directory.join(".openexec-place")).expect("a marker");
    text.trim_end().to_owned()
}
