//! Declared actions: those of `OPENEXEC_ACTIONS_FILE`, read once at start. Each is a typed `enqueue` into the queue of
//! its own name, and can do nothing but leave a job there: no code, no expression, no template.
//!
//! ```json
//! {"actions": [{"action": "restart", "summary": "Restarts a host.",
//!    "payload_schema": {"type": "object", "properties": {}, "additionalProperties": false}}]}
//! ```

use super::outbox::{ENQUEUE, is_queue_name, put};
use super::schema::Schema;
use super::subset::{self, FAULTS_MAX, Fault};
use super::{Check, Handler, Run, check_registry};
use crate::core::json::{Value, canonical, strict};
use crate::core::limits::JSON_DEPTH_MAX;

const FIELDS: [&str; 3] = ["action", "payload_schema", "summary"];

/// The handlers of the binary, and behind them those that the file declares. They live as long as the process.
///
/// # Errors
/// Each fault: a sentence that names action and place (a JSON pointer into the file).
pub fn with(handlers: &[Handler], text: &str) -> Result<&'static [Handler], Vec<String>> {
    let unread = |error| vec![format!("is not strict JSON: {error}")];
    let mut file = strict::read(text.as_bytes(), JSON_DEPTH_MAX).map_err(unread)?;
    // As payloads are read: `1.0` is 1.
    canonical::normalise(&mut file);
    let actions =
        file["actions"].as_array().filter(|_| file.as_object().is_some_and(|f| f.len() == 1));
    let actions = actions.ok_or_else(|| vec!["must be {\"actions\":[..]} alone".to_owned()])?;
    let (mut all, mut faults) = (handlers.to_vec(), Vec::new());
    for (at, declared) in actions.iter().enumerate() {
        let name = declared["action"].as_str().unwrap_or_default();
        match handler(declared, &all, &format!("/actions/{at}")) {
            Ok(handler) => all.push(handler),
            Err(found) => faults.extend(
                found.iter().map(|(place, says)| format!("action {name:?}, {place} {says}")),
            ),
        }
    }
    faults.truncate(FAULTS_MAX);
    if faults.is_empty() { Ok(all.leak()) } else { Err(faults) }
}

/// One of them, beside those that there are.
fn handler(declared: &Value, others: &[Handler], place: &str) -> Result<Handler, Vec<Fault>> {
    let said = |at: &str, says: &str| vec![(format!("{place}{at}"), says.to_owned())];
    let fields =
        declared.as_object().map(|fields| fields.keys().map(String::as_str).collect::<Vec<_>>());
    if fields.is_none_or(|fields| fields != FIELDS) {
        return Err(said("", "must be an object of action, summary and payload_schema"));
    }
    let (name, summary) = (declared["action"].as_str(), declared["summary"].as_str());
    let Some(name) = name.filter(|name| is_queue_name(name)) else {
        return Err(said("/action", "must be 1 to 64 of A-Za-z0-9_-"));
    };
    if others.iter().any(|other| other.action.eq_ignore_ascii_case(name)) {
        return Err(said("/action", "is taken already, in upper or lower case: choose another"));
    }
    let Some(summary) = summary.filter(|text| !text.contains(char::is_control)) else {
        return Err(said("/summary", "must be a text without control characters"));
    };
    let faults = subset::faults(&declared["payload_schema"], &format!("{place}/payload_schema"));
    if !faults.is_empty() {
        return Err(faults);
    }
    let leaked = |text: &str| -> &'static str { text.to_owned().leak() };
    let (action, summary) = (leaked(name), leaked(summary));
    let payload_schema = leaked(&canonical::to_string(&declared["payload_schema"]));
    let schema: &Schema = Box::leak(Box::new(Schema::declared(payload_schema)));
    let check: Box<Check> = Box::new(|payload, _| schema.check(payload));
    let run: Box<Run> = Box::new(move |call, settings| {
        put(call, settings, schema.check(call.payload).map(|()| action))
    });
    let (check, run) = (Box::leak(check), Box::leak(run));
    let handler = Handler { action, summary, payload_schema, check, run, ..ENQUEUE };
    match check_registry(&[handler]).first() {
        None => Ok(handler),
        Some(mistake) => Err(said("", mistake.says)),
    }
}
