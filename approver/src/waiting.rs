//! What waits: the service's list, and `list`, which shows it. What it says decides nothing.
//!
//! Invariant: of a service that lists without end, or makes its entries large, no more is kept than [`KEPT_BYTES_MAX`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use openexec::core::hash::{Hash, hex, unhex};
use openexec::core::json::canonical;
use openexec::sys::exit::{self, Failure};
use serde_json::Value;

use crate::http::{Answer, Service};
use crate::options::Options;
use crate::screen::Screen;
use crate::{refused, terminal};

/// More than the service has at once.
const LISTED_MAX: usize = 2000;
/// One page: the service's have at most 1 MiB and one proposal more.
const PAGE_BYTES_MAX: usize = 2 << 20;
/// What is kept of all that are listed: more than 2 KB of each.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// No page is asked for later.
const LISTING: Duration = Duration::from_secs(120);

/// A proposal of the list: its id, and the lines that `list` shows.
pub(crate) struct Listed {
    pub id: Hash,
    lines: Vec<(&'static str, String)>,
}

impl Listed {
    fn of(id: Hash, entry: &Value) -> Self {
        let fields = [
            ("  action   ", &entry["action"]),
            ("  asked by ", &entry["caller"]),
            ("  asked at ", &entry["asked_at"]),
            ("  until    ", &entry["expires_at"]),
            ("  missing  ", &entry["approvals"]["missing"]),
        ];
        let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
        let lines = fields.map(|(label, value)| (label, canonical::to_string(value))).collect();
        Listed { id, lines }
    }

    fn bytes(&self) -> usize {
        self.lines.iter().map(|(_, text)| text.len()).sum()
    }
}

pub(crate) fn list(options: &Options) -> Result<(), Failure> {
    let waiting = waiting(&Service::of(options)?)?;
    if waiting.is_empty() {
        return terminal::print("nothing waits for an approval\n");
    }
    let screen = waiting.iter().fold(Screen::new(), |screen, listed| {
        let screen = screen.line("proposal ", hex(&listed.id));
        listed.lines.iter().fold(screen, |screen, (label, text)| screen.line(label, text))
    });
    screen.print()
}

/// What waits, in the service's order.
pub(crate) fn waiting(service: &Service) -> Result<Vec<Listed>, Failure> {
    read(|path| service.get(path), Instant::now() + LISTING)
}

fn read(
    get: impl Fn(&str) -> Result<Answer, Failure>,
    deadline: Instant,
) -> Result<Vec<Listed>, Failure> {
    let (mut found, mut seen, mut after) = (Vec::new(), HashSet::new(), String::new());
    let mut kept = 0;
    loop {
        if Instant::now() >= deadline {
            let why = format!("the service's list does not end within {} s", LISTING.as_secs());
            return Err(Failure::new(exit::INPUT_OUTPUT, why));
        }
        let answer = get(&format!("/proposals?state=pending{after}"))?;
        if answer.status != 200 {
            return Err(answer.refusal());
        }
        if answer.body.len() > PAGE_BYTES_MAX {
            return Err(refused(format!(
                "a page of the service's list is larger than {PAGE_BYTES_MAX} bytes"
            )));
        }
        let none = || refused("the service's answer is no list of proposals");
        let page: Value = serde_json::from_slice(&answer.body).map_err(|_| none())?;
        let before = found.len();
        for entry in page["proposals"].as_array().ok_or_else(none)? {
            let id = entry["id"].as_str().and_then(unhex).ok_or_else(none)?;
            if found.len() < LISTED_MAX && seen.insert(id) {
                let listed = Listed::of(id, entry);
                kept += listed.bytes();
                found.push(listed);
            }
        }
        if kept > KEPT_BYTES_MAX {
            return Err(refused(format!(
                "the service's list says more than {KEPT_BYTES_MAX} bytes of what waits"
            )));
        }
        // One that goes on without saying anything new would never end.
        match page["next"].as_str() {
            Some(next) if found.len() > before => after = format!("&after={}", encoded(next)),
            _ => return Ok(found),
        }
    }
}

/// A text as a query takes it (RFC 3986, section 2).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::cell::Cell;

    /// A service of which each page has one proposal more, and says this of it.
    fn endless(action: &Value, junk: usize, deadline: Instant) -> Result<Vec<Listed>, Failure> {
        let count = Cell::new(0);
        let page = |_: &str| {
            count.set(count.get() + 1);
            let entry = json!({"id": format!("{:064x}", count.get()), "action": action,
                "payload": "x".repeat(junk)});
            let body = json!({"proposals": [entry], "next": "more"}).to_string().into_bytes();
            Ok(Answer { status: 200, body })
        };
        read(page, deadline)
    }

    #[test]
    fn a_list_without_end_is_bounded_in_count_in_bytes_and_in_time() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
        let said = |ended: Result<Vec<Listed>, Failure>| match ended {
            Ok(found) => found.len().to_string(),
            Err(failure) => format!("{} {}", failure.code, failure.text),
        };
        assert_eq!(said(endless(&json!("a"), 0, later)), "2000");
        for (ended, sentence) in [
            (endless(&json!("a"), 2 << 20, later), "65 a page of the service's list is larger"),
            (endless(&json!("a".repeat(1 << 20)), 0, later), "65 the service's list says more"),
            (endless(&json!("a"), 0, now), "74 the service's list does not end within 120 s"),
        ] {
            let said = said(ended);
            assert!(said.starts_with(sentence), "{said}");
        }
        // What nobody looks at is not kept.
        let found = endless(&json!("a"), 4096, later).unwrap_or_default();
        assert!(found.iter().all(|listed| listed.bytes() == 3), "\"a\" alone");
    }
}
