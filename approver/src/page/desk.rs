//! What the person was shown, what they decide about it, and what became of that.
//!
//! Invariant: only what was shown is signed. A decision names a view; the hash, the tenant and the time that are signed are
//! those of that view, and the view is at least [`LOOK`] old.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openexec::core::hash::{Hash, hex, sha256};
use openexec::core::json::{canonical, strict};
use openexec::core::time::Time;
use openexec::sys::clock;
use openexec::sys::exit::{self, Failure};
use serde_json::{Value, json};

use super::door::Ask;
use super::http::Answer;
use super::{csv, view};
use crate::http::Service;
use crate::key::Key;
use crate::message::Unsigned;
use crate::proposal::{self, Proposal, have, word};
use crate::reading::Readable;
use crate::waiting::waiting;
use crate::{online, refused};

/// Nobody reads faster: a click that comes sooner was meant for what stood there before.
pub const LOOK: Duration = Duration::from_millis(500);
/// Views that can still be decided: one for each tab, and a few.
const VIEWS_MAX: usize = 32;
/// Decisions that are listed; of them those whose outcome is asked for at a time.
const DECISIONS_MAX: usize = 1000;
const REFRESHED_MAX: usize = 20;
/// What a request of the page is nested at most.
const DEPTH_MAX: usize = 2;
const JSON: &str = "application/json";

pub struct Desk {
    service: Service,
    key: Key,
    tenant: Option<String>,
    ttl: Option<u32>,
    views: Mutex<Views>,
    decisions: Mutex<VecDeque<Decision>>,
    /// One at a time: a token is touched for one.
    signing: Mutex<()>,
}

#[derive(Default)]
struct Views {
    /// How many there were: the number of the next.
    count: u64,
    newest: VecDeque<View>,
}

/// What was shown, as far as it is signed or watched.
#[derive(Clone)]
struct View {
    number: u64,
    id: Hash,
    action: String,
    nonce: String,
    tenant: Option<String>,
    expires: Time,
    state: String,
    /// The hash of those that it had.
    approvals: Hash,
    /// Why nothing can be decided, and why it cannot be approved.
    hindrance: Option<String>,
    already: Option<String>,
    at: Instant,
}

struct Decision {
    at: Time,
    id: Hash,
    action: String,
    /// By which people tell it from others: an order, a ticket.
    nonce: String,
    is_approval: bool,
    justification: String,
    /// As the service said it last, and what it says was done.
    state: String,
    completion: String,
}

impl Desk {
    pub fn new(service: Service, key: Key, tenant: Option<String>, ttl: Option<u32>) -> Self {
        Desk {
            service,
            key,
            tenant,
            ttl,
            views: Mutex::default(),
            decisions: Mutex::default(),
            signing: Mutex::default(),
        }
    }

    pub fn answer(&self, ask: Ask, body: &[u8], now: Instant) -> Answer {
        let said = match ask {
            Ask::List => self.list(),
            Ask::Show(id) => self.show(id),
            Ask::Watch(id) => Ok(self.watch(id)),
            Ask::Decided => Ok(self.decided()),
            Ask::Csv => return self.csv(),
            Ask::Approve | Ask::Reject => self.decide(ask, body, now),
            // The server answers these itself.
            Ask::Enter | Ask::File(_) => Ok(Value::Null),
        };
        let said = said.unwrap_or_else(|failure| json!({"refused": failure.text}));
        Answer::of(JSON, spelled(said).to_string())
    }

    fn list(&self) -> Result<Value, Failure> {
        let waiting = waiting(&self.service)?;
        let ids: Vec<String> = waiting.iter().map(|listed| hex(&listed.id)).collect();
        let needs_terminal = matches!(self.key, Key::Ssh(..));
        Ok(json!({"waiting": ids, "needs_terminal": needs_terminal}))
    }

    fn show(&self, id: Hash) -> Result<Value, Failure> {
        let proposal = Proposal::fetch(&self.service, id)?;
        let schema = proposal::schema(&self.service, &proposal.action);
        let now = clock::now();
        let signing = view::Signing {
            expires: online::expiry(&proposal, self.ttl, now),
            fingerprint: self.key.fingerprint(),
            hindrance: self.hindrance(&proposal),
            already: self.already(&proposal),
            now,
        };
        let mut shown = view::of(&proposal, schema.as_ref(), &signing)?;
        let mut views = locked(&self.views);
        views.count += 1;
        shown["view"] = views.count.into();
        let view = View {
            number: views.count,
            id,
            action: proposal.action.clone(),
            nonce: proposal.nonce(),
            tenant: proposal.tenant.clone(),
            expires: signing.expires,
            state: proposal.state().to_owned(),
            approvals: hashed(proposal.approvals()),
            hindrance: signing.hindrance,
            already: signing.already,
            at: Instant::now(),
        };
        views.newest.push_back(view);
        if views.newest.len() > VIEWS_MAX {
            views.newest.pop_front();
        }
        Ok(shown)
    }

    /// Why nobody can decide about it here.
    fn hindrance(&self, proposal: &Proposal) -> Option<String> {
        if let Err(failure) = proposal.tenant() {
            return Some(failure.text.into_owned());
        }
        if self.tenant.is_some() && proposal.tenant != self.tenant {
            return Some("it is of another tenant than --tenant says".to_owned());
        }
        let state = proposal.state();
        (state != "pending").then(|| format!("it is no longer pending: it is {state}"))
    }

    /// Who has said yes may still say no.
    fn already(&self, proposal: &Proposal) -> Option<String> {
        let fingerprint = self.key.fingerprint();
        let mine = || have(proposal.approvals()).any(|one| one["key"] == *fingerprint);
        let here = self.decision_about(&proposal.id);
        here.or_else(|| mine().then(|| "this key has approved it".to_owned()))
    }

    fn decision_about(&self, id: &Hash) -> Option<String> {
        let decisions = locked(&self.decisions);
        let decision = decisions.iter().find(|decision| decision.id == *id)?;
        Some(format!("you {} it here at {}", decision.verb(), view::date(decision.at)))
    }

    /// Whether it is as it was shown last.
    fn watch(&self, id: Hash) -> Value {
        let shown = locked(&self.views).newest.iter().rev().find(|view| view.id == id).cloned();
        let notice = match (Proposal::fetch(&self.service, id), shown) {
            (Err(failure), _) => Some(failure.text.into_owned()),
            (Ok(_), None) => Some("It was shown too long ago to be decided".to_owned()),
            (Ok(found), Some(shown)) if found.state() != shown.state => Some(format!(
                "What you see has changed: it was {}, and is {} now",
                shown.state,
                found.state()
            )),
            (Ok(found), Some(shown)) if hashed(found.approvals()) != shown.approvals => Some(
                "What you see has changed: others have approved it, or what it needs is different"
                    .to_owned(),
            ),
            (Ok(found), Some(shown)) if found.tenant != shown.tenant => {
                Some("What you see has changed: the service has another tenant now".to_owned())
            }
            _ => None,
        };
        json!({"notice": notice})
    }

    fn decide(&self, ask: Ask, body: &[u8], now: Instant) -> Result<Value, Failure> {
        let asked = Asked::read(body, ask)?;
        let views = locked(&self.views).newest.clone();
        let view = views.into_iter().find(|view| view.number == asked.view && view.id == asked.id);
        let view = view.ok_or_else(|| {
            refused("nothing is signed: this page did not show it, or too long ago; show it again")
        })?;
        if now.saturating_duration_since(view.at) < LOOK {
            return Err(refused("nothing is signed: that was sooner than anybody could look"));
        }
        let Ok(_alone) = self.signing.try_lock() else {
            return Err(refused(
                "nothing is signed: another decision is being signed; look at the terminal",
            ));
        };
        // Once more: another tab may have decided meanwhile.
        let already = match ask {
            Ask::Approve => self.decision_about(&view.id).or(view.already),
            _ => None,
        };
        if let Some(why) = view.hindrance.or(already) {
            return Err(refused(format!("nothing is signed: {why}")));
        }
        let tenant = view.tenant.as_deref().unwrap_or_default();
        let issued = clock::now();
        let (path, unsigned) = match &asked.justification {
            None if issued >= view.expires => {
                return Err(refused(
                    "nothing is signed: the approval that was shown is over; show it again",
                ));
            }
            None => ("/approvals", Unsigned::approval(tenant, &view.id, issued, view.expires)?),
            Some(why) => ("/rejections", Unsigned::rejection(tenant, &view.id, issued, why)?),
        };
        let signature = self.key.sign(unsigned.message())?;
        let state = online::deliver(&self.service, path, unsigned.signed(&signature), &view.id)
            .map_err(|failure| match failure.code {
                exit::INPUT_OUTPUT => Failure::new(
                    failure.code,
                    format!("it is signed; show it again: {}", failure.text),
                ),
                _ => failure,
            })?;
        let decision = Decision {
            at: issued,
            id: view.id,
            action: view.action,
            nonce: view.nonce,
            is_approval: asked.justification.is_none(),
            justification: asked.justification.unwrap_or_default(),
            state: state.clone(),
            completion: String::new(),
        };
        let done = format!("You {} it. The service says: {state}.", decision.verb());
        let mut decisions = locked(&self.decisions);
        decisions.push_front(decision);
        decisions.truncate(DECISIONS_MAX);
        Ok(json!({"done": done}))
    }

    /// Asks what became of the newest decisions that may still change; says what it could not learn.
    fn refresh(&self) -> Option<String> {
        let open: Vec<Hash> = locked(&self.decisions)
            .iter()
            .filter(|decision| decision.may_change())
            .map(|decision| decision.id)
            .take(REFRESHED_MAX)
            .collect();
        let mut notice = None;
        for id in open {
            let found = match Proposal::fetch_one(&self.service, id) {
                Ok(Ok(found)) => found,
                Ok(Err(failure)) => {
                    notice.get_or_insert(failure.text.into_owned());
                    continue;
                }
                Err(failure) => return Some(failure.text.into_owned()),
            };
            let mut decisions = locked(&self.decisions);
            for decision in decisions.iter_mut().filter(|decision| decision.id == id) {
                decision.state = found.state().to_owned();
                decision.completion = word(&found.field("completion")["outcome"]).to_owned();
            }
        }
        notice
    }

    fn decided(&self) -> Value {
        let notice = self.refresh();
        let decisions = locked(&self.decisions);
        let rows: Vec<[String; 8]> = decisions.iter().map(Decision::row).collect();
        json!({"rows": rows, "notice": notice})
    }

    fn csv(&self) -> Answer {
        self.refresh();
        let decisions = locked(&self.decisions);
        let head =
            ["time", "decision", "action", "proposal", "state", "job", "nonce", "justification"];
        let table = csv::of(head, decisions.iter().map(Decision::row));
        Answer::download("decided.csv", "text/csv; charset=utf-8; header=present", table)
    }
}

impl Decision {
    fn verb(&self) -> &'static str {
        if self.is_approval { "approved" } else { "rejected" }
    }

    fn may_change(&self) -> bool {
        let is_over =
            matches!(&*self.state, "rejected" | "withdrawn" | "expired" | "refused" | "denied");
        !is_over && self.completion.is_empty()
    }

    fn row(&self) -> [String; 8] {
        let (verb, state) = (self.verb().to_owned(), self.state.clone());
        let (id, done) = (hex(&self.id), self.completion.clone());
        [
            view::date(self.at),
            verb,
            self.action.clone(),
            id,
            state,
            done,
            self.nonce.clone(),
            self.justification.clone(),
        ]
    }
}

/// What the page asks to be decided.
struct Asked {
    view: u64,
    id: Hash,
    /// Of a rejection.
    justification: Option<String>,
}

impl Asked {
    fn read(body: &[u8], ask: Ask) -> Result<Self, Failure> {
        let bad = || refused("nothing is signed: the request is none of this page");
        let Ok(Value::Object(fields)) = strict::read(body, DEPTH_MAX) else { return Err(bad()) };
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let justification = match ask {
            Ask::Reject => Some(text("justification").ok_or_else(bad)?.to_owned()),
            _ => None,
        };
        let count = if justification.is_some() { 3 } else { 2 };
        let view = fields.get("view").and_then(Value::as_u64).ok_or_else(bad)?;
        let id = text("id").and_then(openexec::core::hash::unhex).ok_or_else(bad)?;
        if fields.len() != count {
            return Err(bad());
        }
        if justification.as_deref().is_some_and(|why| !online::is_justification(why)) {
            return Err(refused("nothing is signed: say why, in 1 to 500 characters"));
        }
        Ok(Asked { view, id, justification })
    }
}

/// Every text spelled out as a terminal's reading is. What was spelled out already stays as it is; only line breaks
/// within a reading are ours.
fn spelled(value: Value) -> Value {
    match value {
        Value::String(text) => {
            let lines: Vec<String> =
                text.split('\n').map(|line| Readable::new(line).to_string()).collect();
            lines.join("\n").into()
        }
        Value::Array(items) => items.into_iter().map(spelled).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, spelled(value))).collect()
        }
        other => other,
    }
}

/// Of what may be large, what tells it from others.
fn hashed(value: &Value) -> Hash {
    sha256(&[canonical::to_string(value).as_bytes()])
}

/// A panic elsewhere left whole what it guards: each change is one assignment or one push.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::LETTERS;

    #[test]
    fn no_character_reaches_the_page_that_hides_moves_or_runs() {
        for char in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let said = spelled(json!({"a": [[char.to_string()]]}));
            let text = said["a"][0][0].as_str().expect("text");
            let is_plain = |char: char| {
                matches!(char, ' '..='~' | '\n')
                    || LETTERS.iter().any(|(first, last)| (*first..=*last).contains(&char))
            };
            assert!(text.chars().all(is_plain), "{char:?} arrives as {text:?}");
        }
    }
}
