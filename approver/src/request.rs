//! What is to be signed offline: a request, or a line of `openexec pending`.

use openexec::core::hash::{Hash, hex};
use openexec::core::json::{Object, strict};
use openexec::core::limits::JSON_DEPTH_MAX;
use openexec::core::problem::Problem;
use openexec::core::receipt;
use openexec::serve::front::request::{self, Nonce, Request};
use openexec::sys::exit::Failure;
use openexec::sys::visible::quoted;

use crate::screen::Screen;
use crate::{refused, usage};

/// What a line of `openexec pending` has beside a request's fields.
const PENDING_FIELDS: [&str; 8] = [
    "action_hash",
    "asked_at",
    "asynchronous",
    "caller",
    "expires_at",
    "id",
    "justification",
    "state",
];

/// What is to be approved: the hash, and the lines that say what it is the hash of.
pub struct Asked {
    pub action: String,
    pub hash: Hash,
    pub screen: Screen,
}

impl Asked {
    pub fn read(body: &[u8], bind_nonce: bool) -> Result<Self, Failure> {
        let (request, given) = read_request(body)?;
        let payload = &request.payload;
        let action_hash = receipt::action_hash(&request.action, payload);
        let nonce = request.nonce.as_deref();
        let exec_id = nonce.map(|nonce| receipt::exec_id(&request.action, nonce, payload));
        let matches = |name: &str, hash: Option<Hash>| {
            given
                .get(name)
                .is_none_or(|given| given.as_str().map(str::to_owned) == hash.map(|h| hex(&h)))
        };
        if !matches("action_hash", Some(action_hash)) || !matches("id", exec_id) {
            return Err(no_request(
                "its hashes are not those of its action, payload and nonce; do not approve it",
            ));
        }
        let (hash, nonce) = match (bind_nonce, exec_id, nonce) {
            (true, Some(exec_id), Some(nonce)) => {
                (exec_id, format!("{} and no other", quoted(nonce)))
            }
            (true, ..) => return Err(usage("--bind-nonce needs a nonce in the request")),
            (false, ..) => {
                (action_hash, "any; it executes once, under the first that comes".to_owned())
            }
        };
        // As the handler will see it: read again from what is hashed.
        let shown =
            strict::read_own(payload.as_bytes()).map_err(|error| no_request(&error.to_string()))?;
        let screen = Screen::new()
            .line("action   ", &request.action)
            .line("payload  ", format_args!("({} bytes)", payload.len()))
            .value(&shown, None)
            .line("nonce    ", nonce);
        let said = [("caller", "asked by "), ("justification", "in their words ")];
        let said =
            said.iter().filter_map(|(name, label)| Some((label, given.get(*name)?.as_str()?)));
        let screen = said.fold(screen, |screen, (label, text)| screen.text(label, text));
        Ok(Asked { action: request.action, hash, screen })
    }
}

/// A request, or a line of `openexec pending`, with the fields that only such a line has.
fn read_request(body: &[u8]) -> Result<(Request, Object), Failure> {
    let problem = |problem: Problem| no_request(&problem.detail);
    let mut object = request::object(body, JSON_DEPTH_MAX).map_err(problem)?;
    let given: Object =
        PENDING_FIELDS.iter().filter_map(|name| object.remove_entry(*name)).collect();
    // A payload that is missing means `{}`: in a line that lost its own, nobody meant that.
    if !given.is_empty() && (given.len() < PENDING_FIELDS.len() || !object.contains_key("payload"))
    {
        return Err(no_request("it is neither a request nor a whole line of `openexec pending`"));
    }
    Ok((request::of(object, Nonce::Optional).map_err(problem)?, given))
}

fn no_request(why: &str) -> Failure {
    refused(format!("the request is refused: {why}"))
}
