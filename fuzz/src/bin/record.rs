//! Records: a line that is accepted is, byte for byte, what writing it gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openexec::core::json::{canonical, strict};
use openexec::core::limits::RECORD_DEPTH_MAX;
use openexec::core::record::{
    Identity, Line, Record, freeze_line, retry_line, store_line, suppressed_line,
};

fuzz_target!(|line: &str| {
    // The store takes its segments apart at line ends.
    if line.contains('\n') {
        return;
    }
    let Some(read) = Line::read(line) else { return };
    let written = match &read {
        Line::Segment(segment) => segment.line(),
        Line::Commit(commit) => commit.line(),
        Line::Record(record) => written(record),
    };
    assert_eq!(written, line);
    // Payloads and results are slices that were not judged. Where they are JSON, so is the line.
    if let Ok(value) = strict::read(line.as_bytes(), RECORD_DEPTH_MAX + 1)
        && let Line::Record(record) = &read
        && raw(record).iter().all(|text| is_canonical(text))
    {
        assert_eq!(canonical::to_string(&value), line);
    }
});

fn written(record: &Record) -> String {
    match record {
        Record::Store { at, store, mode } => {
            store_line(&Identity { store: (*store).to_owned(), mode: *mode, created: *at })
        }
        Record::Claim(claim) => claim.line(),
        Record::Receipt(receipt) => receipt.line(),
        Record::Retry { at, id } => retry_line(*at, id),
        Record::Denial(denial) => denial.line(),
        Record::Suppressed { at, count } => suppressed_line(*at, count),
        Record::Freeze { at, reason } => freeze_line(*at, true, reason),
        Record::Unfreeze { at, reason } => freeze_line(*at, false, reason),
    }
}

fn raw<'a>(record: &Record<'a>) -> Vec<&'a str> {
    use openexec::core::record::DeniedPayload::Text;
    match record {
        Record::Claim(claim) => vec![claim.payload, claim.approval, claim.keys],
        Record::Receipt(receipt) => vec![receipt.result],
        Record::Denial(denial) => match denial.payload {
            Text(payload) => vec![payload],
            _ => vec![],
        },
        Record::Suppressed { count, .. } => vec![count],
        _ => vec![],
    }
}

fn is_canonical(text: &str) -> bool {
    strict::read(text.as_bytes(), RECORD_DEPTH_MAX)
        .is_ok_and(|value| canonical::to_string(&value) == text)
}
