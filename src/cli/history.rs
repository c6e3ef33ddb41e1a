//! `openexec history`: what happened, a row for each execution, proposal and refusal.

use std::collections::BTreeMap;

use super::existing::say_tail;
use super::options::Options;
use super::usage;
use crate::core::hash::hex;
use crate::core::json::{canonical, strict};
use crate::core::line::{Json, LineWriter};
use crate::core::receipt::Outcome;
use crate::core::record::Record;
use crate::core::time::Time;
use crate::evidence::history::{Filter, Row, STATES, history};
use crate::sys::exit::{self, Failure};
use crate::sys::page::{self, Page};
use crate::sys::visible::quoted;

/// Rows are written when so many bytes of them are there.
const PAGE_BYTES: usize = 64 * 1024;

pub fn run(options: &Options) -> Result<(), Failure> {
    let filter = filter(options)?;
    let mut rows = Rows { is_json: options.has("--json"), ..Rows::default() };
    let log = options.existing(options.word())?;
    let told = history(log.as_ref(), &filter, &mut |row| rows.take(row));
    // A row that could not be written ended the reading.
    rows.failure.take().map_or(Ok(()), Err)?;
    let (told, page) = (told?, std::mem::take(&mut rows.page));
    page.print()?;
    if let (Some(key), false) = (&filter.key, told.is_key_known) {
        return Err(exit::data(format!("no policy of this store has the key {}", quoted(key))));
    }
    told.tail.into_iter().for_each(say_tail);
    if !rows.is_json && page::stdout_is_terminal() {
        Page::new().own("signatures are not checked here: `openexec verify` does that").say();
    }
    // A long list of one kind hides the others.
    if filter.states == ["stuck"] && !rows.is_json && !rows.counts.is_empty() {
        let counts = rows.counts.iter().map(|(state, count)| format!("{count} {state}"));
        Page::new().own(format!("stuck: {}", counts.collect::<Vec<_>>().join(", "))).say();
    }
    Ok(())
}

fn filter(options: &Options) -> Result<Filter, Failure> {
    let time = |name| options.get(name).map(|text| moment(name, text)).transpose();
    let owned = |name| options.get(name).map(str::to_owned);
    let states = options.get("--state").into_iter().flat_map(|states| states.split(','));
    let filter = Filter {
        since: time("--since")?,
        until: time("--until")?,
        action: owned("--action"),
        caller: owned("--caller"),
        key: owned("--key"),
        states: states.map(str::to_owned).collect(),
    };
    if filter.states.iter().any(|state| STATES.split(", ").all(|known| known != state)) {
        return Err(usage(format!("--state takes one of these, or several with commas: {STATES}")));
    }
    if filter.since.zip(filter.until).is_some_and(|(since, until)| since >= until) {
        return Err(usage("--since is not before --until"));
    }
    Ok(filter)
}

/// A date, which is its first moment, or a time of RFC 3339; without an offset it is UTC.
fn moment(option: &'static str, text: &str) -> Result<Time, Failure> {
    let read = || {
        if text.len() == "2026-01-01".len() {
            return Time::parse(&format!("{text}T00:00:00Z"));
        }
        let upper = text.to_ascii_uppercase();
        let (local, offset) = upper.split_at_checked(upper.len().saturating_sub("+00:00".len()))?;
        let sign = match offset.as_bytes().first()? {
            b'+' => -1,
            b'-' => 1,
            _ => return Time::parse(&upper),
        };
        let offset = Time::parse(&format!("1970-01-01T{}:00Z", &offset[1..]))?.seconds();
        Some(Time::parse(&format!("{local}Z"))?.plus_seconds(sign * offset))
    };
    read().ok_or_else(|| {
        usage(format!(
            "{option} takes a date (2026-01-31) or a time (2026-01-31T02:00:00Z), not {}",
            quoted(text)
        ))
    })
}

/// Rows on their way out.
#[derive(Default)]
struct Rows {
    is_json: bool,
    page: Page,
    bytes: usize,
    /// By state; an open job is one of its own.
    counts: BTreeMap<&'static str, u64>,
    failure: Option<Failure>,
}

impl Rows {
    fn take(&mut self, row: &Row) -> Result<(), String> {
        *self.counts.entry(if row.is_open { "open" } else { row.state }).or_default() += 1;
        let text = if self.is_json { for_programs(row) } else { for_people(row) };
        self.bytes += text.len();
        let page = std::mem::take(&mut self.page);
        self.page = if self.is_json { page.json(&text) } else { page.line("", text) };
        if self.bytes < PAGE_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        std::mem::take(&mut self.page).print().map_err(|failure| {
            self.failure = Some(failure);
            "its row was not written".to_owned()
        })
    }
}

/// `2026-01-01T00:00:00.000000Z 4b22b1a9 executed 12 charge_card "agent-1" ["ops"] completed failed by worker`
fn for_people(row: &Row) -> String {
    let id = hex(&row.id);
    let id = if row.is_ambiguous { &id } else { &id[..8] };
    let milliseconds = row.milliseconds.map_or("-".to_owned(), |number| number.to_string());
    let caller = row.caller.map_or("-".to_owned(), quoted);
    let keys = canonical::to_string(&row.keys.clone().into());
    let (at, state, action) = (row.at, row.state, row.action);
    let mut text = format!("{at} {id} {state} {milliseconds} {action} {caller} {keys}");
    for why in row.records.iter().filter_map(why) {
        text += &format!(" {why}");
    }
    if row.is_open { text + " job open" } else { text }
}

/// What a record adds to the state.
fn why(record: &Record) -> Option<String> {
    let said = |json: &str, path: &[&str]| {
        let value = strict::read_own(json.as_bytes()).ok()?;
        let text = path.iter().try_fold(&value, |value, name| value.get(name))?;
        text.as_str().map(quoted)
    };
    match record {
        Record::Refusal(refusal) => Some(refusal.code.to_owned()),
        Record::Closed(closed) => closed.code.or(closed.by.as_deref()).map(quoted),
        Record::Rejection(rejection) => {
            let why = said(&rejection.artifact, &["justification"]).unwrap_or_default();
            Some(format!("by {} {why}", quoted(&rejection.key)))
        }
        Record::Receipt(receipt) if receipt.outcome != Outcome::Executed => {
            said(&receipt.result, &[receipt.outcome.name(), "code"])
        }
        Record::Completion(said) => {
            Some(format!("completed {} by {}", said.outcome.name(), said.by.name()))
        }
        _ => None,
    }
}

/// Canonical, with the records as they are.
fn for_programs(row: &Row) -> String {
    LineWriter::start()
        .with("action", &row.action)
        .with("asked_at", &row.records[0].at())
        .with("at", &row.at)
        .with("caller", &row.caller)
        .with("id", &row.id)
        .with("keys", &Json(&canonical::to_string(&row.keys.clone().into())))
        .with("milliseconds", &row.milliseconds)
        .with("open", &row.is_open)
        .with("payload_hash", &row.payload_hash)
        .with("records", &Json(&format!("[{}]", row.lines.join(","))))
        .with("state", &row.state)
        .end()
}
