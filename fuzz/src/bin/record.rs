//! Records: a line that is accepted is, byte for byte, what writing it gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openexec::core::json::{canonical, strict};
use openexec::core::limits::RECORD_DEPTH_MAX;
use openexec::core::record::{Line, Record, RefusedPayload};

fuzz_target!(|line: &str| {
    // The store takes its segments apart at line ends.
    if line.contains('\n') {
        return;
    }
    let Some(read) = Line::read(line) else { return };
    let written = match &read {
        Line::Segment(segment) => segment.line(),
        Line::Commit(commit) => commit.line(),
        Line::Record(record) => record.line(),
    };
    assert_eq!(written, line);
    // Payloads and results are slices that were not judged. Where each is canonical JSON, so is the line.
    let slices = match &read {
        Line::Record(record) => raw(record),
        Line::Segment(_) | Line::Commit(_) => vec![],
    };
    if slices.iter().all(|text| is_canonical(text)) {
        let value = strict::read(line.as_bytes(), RECORD_DEPTH_MAX + 1).expect("no strict JSON");
        assert_eq!(canonical::to_string(&value), line);
    }
});

fn raw<'a>(record: &Record<'a>) -> Vec<&'a str> {
    match record {
        Record::Policy(policy) => {
            vec![policy.allowed.0, policy.callers.0, policy.keys.0, policy.required.0]
        }
        Record::Proposal(proposal) => vec![proposal.payload.0],
        Record::Approval(approval) => vec![approval.artifact.0],
        Record::Rejection(rejection) => vec![rejection.artifact.0],
        Record::Claim(claim) => vec![claim.payload.0, claim.approval.0, claim.keys.0],
        Record::Receipt(receipt) => vec![receipt.result.0],
        Record::Completion(completion) => vec![completion.result.0],
        Record::Refusal(refusal) => match refusal.payload {
            RefusedPayload::Text(payload) => vec![payload],
            RefusedPayload::Hash(_) => vec![],
        },
        Record::Suppressed(suppressed) => vec![suppressed.count.0],
        // Every field of these is judged. (No `_`: a new kind has to say which of the two it is.)
        Record::Store(_) | Record::Asynchronous(_) | Record::Closed(_) | Record::Retry(_) => vec![],
        Record::Freeze(_) | Record::Unfreeze(_) => vec![],
    }
}

fn is_canonical(text: &str) -> bool {
    strict::read(text.as_bytes(), RECORD_DEPTH_MAX)
        .is_ok_and(|value| canonical::to_string(&value) == text)
}
