//! The callers' file, and the tokens by which the gate knows them.
//!
//! ```json
//! {"callers": [{"name": "agent-7", "token_sha256": "<64 hex digits>", "may": ["propose"],
//!               "actions": ["send_email"], "person": "ann"}]}
//! ```
//!
//! Invariant: no token is kept, only its SHA-256. A token is found by that hash, whole: how long a comparison takes says
//! something of a hash that nobody can choose, and nothing of a token.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::core::caller::{Caller, RIGHTS, is_name, texts};
use crate::core::hash::{Hash, hex, sha256, unhex};
use crate::core::json::{Value, strict};
use crate::core::limits::JSON_DEPTH_MAX;
use crate::core::receipt::is_action_name;
use crate::serve::keys::only_fields;

/// What every token of `openexec token` begins with, so that scanners for secrets find it.
const PREFIX: &str = "openexec_";
/// What a name is ([`is_caller_name`]).
pub const NAME_FORM: &str = "a name is 1 to 64 printable ASCII characters, without quotation marks and backslashes, and \
    without a space at either end";
const FIELDS: [&str; 5] = ["name", "token_sha256", "may", "actions", "person"];

/// By the SHA-256 of a token, who it is: the number among the callers, and the caller.
#[derive(Debug, Clone, Default)]
pub struct Tokens(HashMap<Hash, (usize, Arc<Caller>)>);

impl Tokens {
    /// Who sent this `Authorization` (RFC 6750, section 2.1; the scheme's case does not matter: RFC 9110, section
    /// 11.1).
    pub fn find(&self, authorization: &str) -> Option<&(usize, Arc<Caller>)> {
        let (scheme, token) = authorization.split_once(' ')?;
        let token = token.trim_start_matches(' ');
        let is_bearer = scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty();
        self.0.get(&sha256(&[token.as_bytes()])).filter(|_| is_bearer)
    }
}

/// A token of these random bytes, 32 of them, and the file's line for it.
pub fn made(name: &str, random: &[u8]) -> (String, String) {
    let token = format!("{PREFIX}{}", hex(random));
    let hash = hex(&sha256(&[token.as_bytes()]));
    let line = format!(r#"{{"name": "{name}", "token_sha256": "{hash}", "may": ["propose"]}}"#);
    (token, line)
}

/// Whether it can be a caller's name. It stands in JSON as it is.
pub fn is_caller_name(name: &str) -> bool {
    is_name(name) && !name.contains(['"', '\\'])
}

/// Reads the file's text: the callers in the order of their names, and their tokens.
///
/// # Errors
/// The first fault, with its place.
pub fn read(text: &str) -> Result<(Vec<Arc<Caller>>, Tokens), String> {
    let value = strict::read(text.as_bytes(), JSON_DEPTH_MAX);
    let value = value.map_err(|error| format!("the callers file is not strict JSON: {error}"))?;
    let file =
        value.as_object().ok_or("the callers file is no object; write {\"callers\":[..]}")?;
    only_fields(file, "the callers file", &["callers"])?;
    let items = file.get("callers").and_then(Value::as_array).filter(|items| !items.is_empty());
    let items = items.ok_or("\"callers\" must be an array of callers, at least one")?;
    let mut callers = BTreeMap::new();
    let mut owners = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let place = format!("callers[{index}]");
        let (caller, token) = entry(item, &place)?;
        let name = caller.name.clone();
        if let Some(other) = owners.insert(token, name.clone()) {
            return Err(format!(
                "{place}.token_sha256 is that of {other:?} too; give each its own"
            ));
        }
        if callers.insert(name.clone(), (token, Arc::new(caller))).is_some() {
            return Err(format!("{place}.name is there twice: {name:?}"));
        }
    }
    let numbered = callers.values().enumerate();
    let tokens = numbered.map(|(number, (token, caller))| (*token, (number, caller.clone())));
    let tokens = Tokens(tokens.collect());
    Ok((callers.into_values().map(|(_, caller)| caller).collect(), tokens))
}

fn entry(item: &Value, place: &str) -> Result<(Caller, Hash), String> {
    let item = item.as_object().ok_or_else(|| format!("{place} is no object"))?;
    only_fields(item, place, &FIELDS)?;
    let must_be = |field: &str, what: &str| format!("{place}.{field} must be {what}");
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    let named = |field: &str| {
        let name = text(field).filter(|name| is_caller_name(name));
        name.map(str::to_owned).ok_or_else(|| format!("{place}.{field}: {NAME_FORM}"))
    };
    let token = text("token_sha256").and_then(unhex).ok_or_else(|| {
        must_be("token_sha256", "64 lower-case hex digits, as `openexec token` prints them")
    })?;
    let may = item.get("may").and_then(|may| set(may, |right| RIGHTS.contains(&right)));
    let may = may.ok_or_else(|| must_be("may", "an array of propose, approve, read, each once"))?;
    let actions = item.get("actions").map(|actions| {
        let what = "an array of actions, each once; leave it out for every action";
        set(actions, is_action_name).ok_or_else(|| must_be("actions", what))
    });
    let person = item.get("person").map(|_| named("person")).transpose()?;
    Ok((Caller { name: named("name")?, may, actions: actions.transpose()?, person }, token))
}

/// An array of one text or more, each once and each as it must be.
fn set(value: &Value, is_one: impl Fn(&str) -> bool) -> Option<BTreeSet<String>> {
    let items = value.as_array().filter(|items| !items.is_empty())?;
    texts(value, is_one).filter(|set| set.len() == items.len())
}
