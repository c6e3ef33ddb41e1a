//! A store as a crash between claim and receipt leaves it.

use std::path::Path;
use std::sync::Arc;

use openexec::core::receipt::exec_id;
use openexec::core::record::Claim;
use openexec::core::time::Time;
use openexec::handlers::{HANDLERS, find};
use openexec::store::open::open;
use openexec::store::{Batch, GEOMETRY, Store};
use openexec::sys::disk::Directory;
use serde_json::Value;

use super::approvals::TENANT;
use super::canonical;

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
        let disk = Arc::new(Directory::open(store).expect("a directory"));
        let (mut store, _) = open(disk, GEOMETRY, &mut |_, _| {}).expect("it opens");
        let payload = canonical(&self.payload);
        let is_demo = self.approvals.is_empty();
        let approval = canonical(&Value::from(self.approvals.clone()));
        let claim = Claim {
            at: Time::now(),
            id: exec_id(self.action, self.nonce, &payload),
            action: self.action,
            payload: &payload,
            nonce: self.nonce.to_owned(),
            effect: find(HANDLERS, self.action).expect("registered").effect,
            approval: if is_demo { "null" } else { &approval },
            keys: if is_demo { "[]" } else { "[\"one\"]" },
            legacy: self.legacy.clone(),
            tenant: (!is_demo).then(|| TENANT.to_owned()),
            required: (!is_demo).then_some(1),
            ttl_max: None,
            place: self.place.as_deref(),
        };
        let mut batch = Batch::default();
        batch.push(&claim.line());
        store.append(&batch).expect("appended");
    }
}

/// The marker of a directory.
pub fn place(directory: &Path) -> String {
    let text = std::fs::read_to_string(directory.join(".openexec-place")).expect("a marker");
    text.trim_end().to_owned()
}
