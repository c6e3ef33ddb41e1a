//! What the front has found out about a request without any state, ready to be decided.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use crate::core::approval::keys::Keyring;
use crate::core::approval::verify::{Examined, Terms};
use crate::core::caller::{Caller, Who, name_of};
use crate::core::clock::Fault;
use crate::core::handler::{Handler, Settings, find};
use crate::core::hash::Hash;
use crate::core::json::{Value, strict};
use crate::core::limits::{DETAIL_CHARACTERS_MAX, JSON_DEPTH_MAX};
use crate::core::problem::{Code, Problem};
use crate::core::receipt::action_hash;
use crate::core::record::{self, Mode};
use crate::core::time::Time;

/// What the configuration permits; fixed at start.
pub struct Policy {
    pub handlers: &'static [Handler],
    /// SHA-256 of the file that declares some of them.
    pub actions_file: Option<Hash>,
    pub settings: Settings,
    /// `OPENEXEC_ALLOWED_ACTIONS`, in the order given; `None` allows all.
    pub allowed_actions: Option<Vec<String>>,
    /// In the order of their names; `None` where nobody is asked who calls.
    pub callers: Option<Vec<Arc<Caller>>>,
    /// What clawshield mode checks approvals against; `None` in demo mode.
    pub approvals: Option<ApprovalPolicy>,
}

pub struct ApprovalPolicy {
    pub tenant: String,
    pub keyring: Keyring,
    pub ttl_max_seconds: Option<u64>,
    /// `OPENEXEC_PENDING_TTL_SECONDS`.
    pub pending_ttl_seconds: u32,
    /// `OPENEXEC_APPROVALS_DIR`.
    pub directory: Option<PathBuf>,
}

impl ApprovalPolicy {
    /// What the tenant and the times of approvals are judged by.
    pub fn terms(&self, now: Time, store_created: Time, clock: Option<Fault>) -> Terms<'_> {
        let (tenant, ttl_max_seconds) = (self.tenant.as_str(), self.ttl_max_seconds);
        Terms { now, tenant, ttl_max_seconds, store_created, clock }
    }
}

impl Policy {
    pub fn mode(&self) -> Mode {
        if self.approvals.is_some() { Mode::Clawshield } else { Mode::Demo }
    }

    /// The caller that a record names, as it is now; nobody for what nobody by name recorded.
    pub fn caller(&self, name: Option<&str>) -> Result<Who, Problem> {
        let Some(name) = name else { return Ok(None) };
        let known = self.callers.iter().flatten().find(|caller| caller.name == name);
        known.cloned().map(Some).ok_or_else(|| {
            Problem::new(Code::CallerNotAllowed, "Its caller is not configured any more")
        })
    }

    /// Row 5: the handler that may run this action, or why none may.
    pub fn handler(&self, action: &str) -> Result<&'static Handler, Problem> {
        if let Some(allowed) = &self.allowed_actions
            && !allowed.iter().any(|name| name == action)
        {
            let detail = format!("Action '{action}' is not in the execution allow-list");
            return Err(Problem::new(Code::ActionNotAllowed, detail));
        }
        let Some(handler) = find(self.handlers, action) else {
            return Err(Problem::new(Code::UnknownAction, format!("Unknown action: {action}")));
        };
        match (handler.offered)(&self.settings) {
            Ok(()) => Ok(handler),
            Err(missing) => {
                let detail = format!("Action '{action}' is not configured: {missing}");
                Err(Problem::new(Code::ActionNotConfigured, detail))
            }
        }
    }

    /// Rows 5 and 6: the handler that runs this, or why none does. It sees the payload as its canonical
    /// text reads. A caller that may not propose an action is not told whether there is one.
    pub fn admit(
        &self,
        caller: &Who,
        action: &str,
        payload: &Value,
    ) -> Result<&'static Handler, Problem> {
        if caller.as_ref().is_some_and(|caller| !caller.may_propose(action)) {
            let detail = format!("Action '{action}' is not one that this caller may propose");
            return Err(Problem::new(Code::CallerNotAllowed, detail));
        }
        let handler = self.handler(action)?;
        let why = match payload {
            Value::Object(payload) => {
                let check = || (handler.check)(payload, &self.settings);
                match catch_unwind(AssertUnwindSafe(check)) {
                    Ok(Ok(())) => return Ok(handler),
                    // A handler may repeat what it was sent: bounded, since it is answered and stored.
                    Ok(Err(error)) => error.0.chars().take(DETAIL_CHARACTERS_MAX).collect(),
                    Err(_) => "The handler's check panicked".to_owned(),
                }
            }
            _ => "The payload cannot be read".to_owned(),
        };
        Err(Problem::new(Code::InvalidPayload, why))
    }
}

/// A well-formed attempt.
pub struct Proposal {
    pub caller: Who,
    pub action: String,
    pub nonce: String,
    /// Canonical text.
    pub payload: String,
    /// What that reads as; `None` where it is to be read again: a large one takes little as a text.
    pub read: Option<Value>,
    /// `exec_id`.
    pub id: Hash,
    /// Rows 5 and 6.
    pub handler: Result<&'static Handler, Problem>,
    /// Row 7, as far as it needs no state; `None` in demo mode, where artifacts are ignored.
    pub approval: Option<Approval>,
    pub wish: Wish,
}

impl Proposal {
    /// One that was recorded, as it is judged now, with the files that the approvals directory has for it.
    pub fn recorded(record: &record::Proposal, policy: &Policy, files: Vec<Dropped>) -> Self {
        let payload = strict::read(record.payload.as_bytes(), JSON_DEPTH_MAX).unwrap_or_default();
        let caller = policy.caller(record.caller.as_deref());
        let known = caller.as_ref().map_err(Clone::clone);
        let handler = known.and_then(|caller| policy.admit(caller, record.action, &payload));
        let action_hash = action_hash(record.action, &record.payload);
        Proposal {
            caller: caller.unwrap_or_default(),
            read: None,
            action: record.action.to_owned(),
            nonce: record.nonce.to_string(),
            payload: record.payload.to_string(),
            id: record.id,
            handler,
            approval: Some(Approval { action_hash, legacy: None, given: Given::Files(files) }),
            wish: Wish::default(),
        }
    }

    /// Whether a record with this id, of this caller, is of the same attempt.
    pub fn is(&self, id: &Hash, caller: Option<&str>) -> bool {
        self.id == *id && name_of(&self.caller) == caller
    }

    /// The approvals directory is looked at where it does not.
    pub fn brings_artifacts(&self) -> bool {
        let given = self.approval.as_ref().map(|approval| &approval.given);
        given.is_some_and(|given| !matches!(given, Given::Files(_)))
    }
}

/// What the caller says of a proposal beside it. No hash covers it.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// If it lacks only approvals, it executes by itself once it has them (RFC 7240, `respond-async`).
    pub asynchronous: bool,
    pub justification: Option<String>,
    /// When it expires, where that is sooner than it would.
    pub expires: Option<Time>,
}

/// What there is for a request that needs approval.
pub struct Approval {
    /// Of the canonical form without the nonce.
    pub action_hash: Hash,
    /// The legacy text of the request, made only where an artifact may mean it. Whether it says the same is judged.
    pub legacy: Option<String>,
    pub given: Given,
}

pub enum Given {
    /// The request's artifact is not formed as one.
    Malformed(String),
    /// The request's artifacts.
    Artifacts(Examined),
    /// The request has none: the files that the approvals directory had for it, in the order of
    /// trying.
    Files(Vec<Dropped>),
}

/// One file of the approvals directory.
#[derive(Clone)]
pub struct Dropped {
    pub name: String,
    /// Or why it holds no artifacts.
    pub examined: Result<Examined, String>,
}
