//! What the service says of a proposal, and what of it is true whatever it says.
//!
//! Invariant: a [`Proposal`] has the id that was asked for, computed here of its action, nonce and payload. Everything
//! else (who asks, why, how many approve) is the service's word and decides nothing.

use openexec::core::hash::{Hash, hex, unhex};
use openexec::core::json::{Object, Value, canonical, strict};
use openexec::core::limits::{ARTIFACTS_MAX, JSON_DEPTH_MAX};
use openexec::core::receipt;
use openexec::core::time::Time;
use openexec::sys::exit::{self, Failure};

use crate::http::{Answer, Service};
use crate::screen::Screen;
use crate::{refused, usage};

/// A state, an outcome: the service's are words.
const WORD_BYTES_MAX: usize = 64;
/// What anybody calls a tenant is shorter.
const TENANT_BYTES_MAX: usize = 4096;

pub struct Proposal {
    pub id: Hash,
    pub action: String,
    /// `None` in demo mode, where nobody approves.
    pub tenant: Option<String>,
    nonce: String,
    /// Canonical text: what is hashed.
    pub payload: String,
    /// All that the service said.
    said: Object,
}

/// An exec_id as somebody gave it.
///
/// # Errors
/// 64 where it is none.
pub fn id_of(text: &str) -> Result<Hash, Failure> {
    unhex(text).ok_or_else(|| usage("ID is the exec_id of a proposal: 64 hexadecimal digits"))
}

impl Proposal {
    /// # Errors
    /// 65 where the service refuses, or sends another proposal than this; 74 where it cannot be reached.
    pub fn fetch(service: &Service, id: Hash) -> Result<Self, Failure> {
        Self::fetch_one(service, id).flatten()
    }

    /// One of several: the inner failure concerns it alone.
    ///
    /// # Errors
    /// As above, where every other would fail alike.
    pub fn fetch_one(service: &Service, id: Hash) -> Result<Result<Self, Failure>, Failure> {
        let answer = match service.get(&format!("/proposals/{}", hex(&id))) {
            Err(failure) if failure.code == exit::DATA => return Ok(Err(failure)),
            answer => answer?,
        };
        match answer.status {
            200 => Ok(Self::of(&answer, id)),
            _ if answer.is_to_all() => Err(answer.refusal()),
            _ => Ok(Err(answer.refusal())),
        }
    }

    fn of(answer: &Answer, id: Hash) -> Result<Self, Failure> {
        // What is approved has one meaning for every parser.
        let said = match strict::read_own(&answer.body) {
            Ok(Value::Object(said)) => said,
            Ok(_) => return Err(refused("the service's answer is no proposal")),
            Err(error) => return Err(refused(format!("the service's answer is refused: {error}"))),
        };
        let text = |name: &str| match said.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            _ => Err(refused(format!("the service's answer is no proposal: it lacks {name}"))),
        };
        let (action, nonce) = (text("action")?, text("nonce")?);
        let tenant = match said.get("tenant_id") {
            Some(Value::Null) => None,
            _ => Some(text("tenant_id")?),
        };
        let payload = match said.get("payload") {
            Some(payload @ Value::Object(_)) => canonical::to_string(payload),
            _ => return Err(refused("the service's answer is no proposal: it lacks payload")),
        };
        let is_one = receipt::is_action_name(&action) && receipt::is_nonce(&nonce);
        if !is_one || receipt::exec_id(&action, &nonce, &payload) != id {
            return Err(refused(
                "the service sent another proposal than was asked for: the hash of its action, nonce and payload is \
                 not its id; do not approve it",
            ));
        }
        let is_tenant = tenant
            .as_ref()
            .is_none_or(|tenant| !tenant.is_empty() && !tenant.chars().any(char::is_control))
            && tenant.as_ref().is_none_or(|tenant| tenant.len() <= TENANT_BYTES_MAX);
        match is_tenant {
            true => Ok(Proposal { id, action, tenant, nonce, payload, said }),
            false => Err(refused("the service's tenant is none")),
        }
    }

    /// # Errors
    /// 65 in demo mode.
    pub fn tenant(&self) -> Result<&str, Failure> {
        let demo = "the service is in demo mode, where nothing is approved";
        self.tenant.as_deref().ok_or_else(|| refused(demo))
    }

    pub fn state(&self) -> &str {
        word(self.field("state"))
    }

    pub fn expires_at(&self) -> Option<Time> {
        self.said.get("expires_at").and_then(Value::as_str).and_then(Time::parse)
    }

    /// The longest that the service lets an approval live, in seconds.
    pub fn ttl_max(&self) -> Option<u64> {
        self.said.get("ttl_max").and_then(Value::as_u64)
    }

    /// All of it, what is signed first. `schema` is its action's.
    ///
    /// # Errors
    /// 65 where the payload is nested deeper than any that is executed.
    pub fn screen(&self, schema: Option<&Value>) -> Result<Screen, Failure> {
        let screen = Screen::new()
            .line("proposal ", hex(&self.id))
            .line("action   ", &self.action)
            .line("payload  ", format_args!("({} bytes)", self.payload.len()))
            .and(self.payload_lines(schema)?)
            .line("nonce    ", self.nonce())
            .line("the service says of it:", "")
            .and(self.said(&SAID));
        let approvals = self.approvals();
        let have = have(approvals);
        let screen =
            have.fold(screen, |screen, one| screen.line("approved ", canonical::to_string(one)));
        Ok(match &approvals["missing"] {
            Value::Null => screen,
            missing => screen.line("missing  ", canonical::to_string(missing)),
        })
    }

    /// What it waits for, where the service says so: somebody's approval, or something else.
    pub fn waits_for(&self) -> Screen {
        let screen = match self.approvals()["missing"]["count"].as_u64() {
            Some(count @ 1..) => Screen::new().line("it needs ", format_args!("{count} more")),
            _ => Screen::new(),
        };
        screen.and(self.said(&[("blocked", "blocked  ")]))
    }

    /// The payload alone, as the handler will see it: read again from what is hashed.
    ///
    /// # Errors
    /// As above.
    pub fn payload_lines(&self, schema: Option<&Value>) -> Result<Screen, Failure> {
        let payload = strict::read(self.payload.as_bytes(), JSON_DEPTH_MAX)
            .map_err(|error| refused(format!("the payload is refused: {error}")))?;
        Ok(Screen::new().value(&payload, schema))
    }

    /// As JSON.
    pub fn nonce(&self) -> String {
        canonical::to_string(&Value::String(self.nonce.clone()))
    }

    /// What the service says of it in these fields, where it says something.
    pub fn said(&self, fields: &[(&str, &'static str)]) -> Screen {
        fields.iter().fold(Screen::new(), |screen, (name, label)| match self.said.get(*name) {
            None | Some(Value::Null) => screen,
            Some(Value::String(text)) => screen.text(label, text),
            Some(value) => screen.line(label, canonical::to_string(value)),
        })
    }

    /// A field as the service says it.
    pub fn field(&self, name: &str) -> &Value {
        self.said.get(name).unwrap_or(&Value::Null)
    }

    pub fn approvals(&self) -> &Value {
        self.field("approvals")
    }
}

/// A word that the service says; empty where it is none.
pub fn word(said: &Value) -> &str {
    said.as_str().filter(|text| text.len() <= WORD_BYTES_MAX).unwrap_or_default()
}

/// The approvals that a proposal has.
pub fn have(approvals: &Value) -> impl Iterator<Item = &Value> {
    approvals["have"].as_array().into_iter().flatten().take(ARTIFACTS_MAX)
}

/// What is said of a proposal, in this order, where there is any of it.
pub const SAID: [(&str, &str); 13] = [
    ("state", "state    "),
    ("blocked", "blocked  "),
    ("caller", "asked by "),
    // Whoever asks can write what they like.
    ("justification", "in their words "),
    ("asked_at", "asked at "),
    ("expires_at", "until    "),
    ("asynchronous", "executes by itself once approved: "),
    ("ttl_max", "approvals hold at most, in seconds: "),
    ("outcome", "outcome  "),
    ("result", "result   "),
    ("receipt", "receipt  "),
    ("completion", "completed "),
    ("rejection", "rejected "),
];

/// The schema of an action's payload, where the service says one. It only helps to read.
pub fn schema(service: &Service, action: &str) -> Option<Value> {
    let answer = service.get("/actions").ok().filter(|answer| answer.status == 200)?;
    let mut list = strict::read_own(&answer.body).ok()?;
    let actions = list.get_mut("actions")?.as_array_mut()?;
    let found = actions.iter_mut().find(|entry| entry["action"] == action)?;
    found.get_mut("payload_schema").map(Value::take)
}
