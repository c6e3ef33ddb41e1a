//! A proposal as the page shows it: JSON of texts that are spelled out already, and where they stand.

use openexec::core::hash::hex;
use openexec::core::time::Time;
use openexec::sys::exit::Failure;
use openexec::sys::visible::quoted;
use serde_json::{Value, json};

use crate::proposal::{Proposal, have};
use crate::screen::{Line, Screen};

/// What it shows beside the proposal: how an approval of it would be.
pub struct Signing {
    pub expires: Time,
    pub fingerprint: String,
    /// Why nothing can be decided, and why it cannot be approved.
    pub hindrance: Option<String>,
    pub already: Option<String>,
    pub now: Time,
}

/// # Errors
/// As of [`Proposal::payload_lines`].
pub fn of(
    proposal: &Proposal,
    schema: Option<&Value>,
    signing: &Signing,
) -> Result<Value, Failure> {
    let now = signing.now;
    let time = |name: &str| proposal.field(name).as_str().and_then(Time::parse);
    let caller = match proposal.field("caller").as_str() {
        Some(caller) => quoted(caller),
        None => "the service asks nobody who they are".to_owned(),
    };
    let once = match proposal.field("asynchronous").as_bool() {
        Some(true) => "it executes by itself",
        _ => "it executes when the caller asks again",
    };
    let mut asked = vec![("asked by", caller)];
    asked.extend(time("asked_at").map(|at| ("asked at", date(at))));
    asked.extend(time("expires_at").map(|at| ("waits until", until(at, now))));
    asked.push(("once approved", once.to_owned()));
    asked.extend(proposal.field("blocked").as_str().map(|why| ("blocked", quoted(why))));
    let approvals = proposal.approvals();
    let have: Vec<Value> = have(approvals)
        .map(|one| {
            let key = one["key"].as_str().map_or_else(|| one.to_string(), quoted);
            let end = one["until"].as_str().and_then(Time::parse);
            json!([key, end.map(|end| until(end, now))])
        })
        .collect();
    let tenant = proposal.tenant.as_deref().map_or_else(String::new, quoted);
    Ok(json!({
        "id": hex(&proposal.id),
        "action": proposal.action,
        "state": proposal.state(),
        "bytes": proposal.payload.len(),
        "payload": lines(&proposal.payload_lines(schema)?),
        "signed": [
            ["nonce", proposal.nonce()],
            ["tenant", tenant],
            ["hash", hex(&proposal.id)],
        ],
        "asked": asked,
        "words": lines(&proposal.said(&[("justification", "")])),
        "have": have,
        "missing": missing(&approvals["missing"]),
        "signing": [
            ["your key", signing.fingerprint],
            ["your approval holds until", until(signing.expires, now)],
        ],
        "hindrance": signing.hindrance,
        "already": signing.already,
    }))
}

/// Each with what stands before it, an indentation or a word, and its reading, which the page keeps together.
fn lines(screen: &Screen) -> Vec<Value> {
    let mut lines: Vec<Value> = Vec::new();
    for line in screen.lines() {
        match line {
            Line::Exact(label, text) if label.trim().is_empty() => {
                lines.push(json!([label.len() / 2, text]));
            }
            Line::Exact(label, text) => lines.push(json!([label.trim(), text])),
            Line::Reading(_, reading) => {
                let Some(Value::Array(line)) = lines.last_mut() else { continue };
                match line.get_mut(2) {
                    Some(Value::String(text)) => text.push_str(&format!("\n{reading}")),
                    _ => line.extend([reading.to_string().into(), reading.is_amount.into()]),
                }
            }
        }
    }
    lines
}

/// `2 more, of them 1 of finance`.
fn missing(missing: &Value) -> String {
    let Some(count) = missing["count"].as_u64() else {
        return "the service does not say".to_owned();
    };
    let groups = missing["groups"].as_object();
    let groups: Vec<String> = groups
        .into_iter()
        .flatten()
        .map(|(group, count)| format!("{count} of {}", quoted(group)))
        .collect();
    match (count, groups.is_empty()) {
        (0, _) => "nothing is missing".to_owned(),
        (_, true) => format!("{count} more"),
        (_, false) => format!("{count} more, of them {}", groups.join(" and ")),
    }
}

/// `2026-01-02 03:04:05 UTC`.
pub fn date(time: Time) -> String {
    let text = time.to_string();
    let (day, rest) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {} UTC", rest.get(..8).unwrap_or(rest))
}

/// The same, and how long that is.
fn until(time: Time, now: Time) -> String {
    let seconds = time.seconds() - now.seconds();
    let (count, unit) = match seconds {
        ..=0 => return format!("{} (over)", date(time)),
        1..=119 => (seconds, "s"),
        120..=7199 => (seconds / 60, "min"),
        7200..=172_799 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{} (in {count} {unit})", date(time))
}
