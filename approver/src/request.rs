//! What is to be signed offline: a request, or a line of `openexec pending`.

use openexec::core::hash::{Hash, hex};
use openexec::core::json::{Object, Value, strict};
use openexec::core::limits::{JSON_DEPTH_MAX, PAYLOAD_BYTES_MAX};
use openexec::core::problem::Problem;
use openexec::core::receipt;
use openexec::serve::front::request::{self, Nonce, Request};
use openexec::sys::exit::Failure;
use openexec::sys::limits::BODY_BYTES_MAX;
use openexec::sys::visible::quoted;

use crate::screen::Screen;
use crate::{refused, usage};

/// What a line of `openexec pending` has beside a request's fields.
const LINE_FIELDS: [&str; 6] = ["action_hash", "asked_at", "asynchronous", "caller", "id", "state"];
/// And this, where enough have approved it and something is in the way.
const BLOCKED: &str = "blocked";
/// What a request may leave out, and such a line has.
const GIVEN: [&str; 3] = ["expires_at", "justification", "payload"];
/// Such a line is ASCII: each byte of a payload may have become a `\u` and four digits.
pub const LINE_BYTES_MAX: usize = 6 * PAYLOAD_BYTES_MAX + (64 << 10);

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
        // As the handler will see it: read again from what is hashed, by the service's rules for what stands in a body.
        let shown = strict::read_nested(payload.as_bytes(), 1, JSON_DEPTH_MAX)
            .map_err(|error| no_request(&format!("its payload: {error}")))?;
        let screen = Screen::new()
            .line("action   ", &request.action)
            .line("payload  ", format_args!("({} bytes)", payload.len()))
            .value(&shown, None)
            .line("nonce    ", nonce);
        let caller = given.get("caller").and_then(Value::as_str);
        let said = [("asked by ", caller), ("in their words ", request.justification.as_deref())];
        let said = said.into_iter().filter_map(|(label, text)| Some((label, text?)));
        let screen = said.fold(screen, |screen, (label, text)| screen.text(label, text));
        Ok(Asked { action: request.action, hash, screen })
    }
}

/// A request, or a line of `openexec pending`, with the fields that only such a line has.
fn read_request(body: &[u8]) -> Result<(Request, Object), Failure> {
    let problem = |problem: Problem| no_request(&problem.detail);
    let is_given = |object: &Object, name: &&str| object.contains_key(*name);
    // What is around a payload may take it beyond what one text may hold.
    let mut object = match strict::read_own(body) {
        Ok(Value::Object(object))
            if LINE_FIELDS.iter().chain([&BLOCKED]).any(|name| is_given(&object, name)) =>
        {
            object
        }
        _ if body.len() > BODY_BYTES_MAX => {
            return Err(no_request(&format!("it is larger than {BODY_BYTES_MAX} bytes")));
        }
        _ => {
            let request = request::read(body, Nonce::Optional).map_err(problem)?;
            return Ok((request, Object::new()));
        }
    };
    // A payload that is missing means `{}`: in a line that lost its own, nobody meant that.
    if !LINE_FIELDS.iter().chain(&GIVEN).all(|name| is_given(&object, name)) {
        return Err(no_request("it is neither a request nor a whole line of `openexec pending`"));
    }
    let given = LINE_FIELDS.iter().chain([&BLOCKED]);
    let given = given.filter_map(|name| object.remove_entry(*name)).collect();
    Ok((request::of(object, Nonce::Optional).map_err(problem)?, given))
}

fn no_request(why: &str) -> Failure {
    refused(format!("the request is refused: {why}"))
}
