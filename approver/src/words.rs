//! What a refusal of the service means for whoever decides. The service's own words always follow.

/// By its code, or else its status; empty where they say it themselves.
pub fn of(status: u16, code: &str) -> &'static str {
    let by_code = |(known, _): &&(&str, &str)| *known == code;
    let by_status = |(known, _): &&(u16, &str)| *known == status;
    match BY_CODE.iter().find(by_code) {
        Some((_, words)) => words,
        None => BY_STATUS.iter().find(by_status).map_or("", |(_, words)| words),
    }
}

const BY_CODE: [(&str, &str); 12] = [
    (
        "approval_expired",
        "the approval was over before the service had it; look whether the proposal still waits",
    ),
    (
        "approval_key_expired",
        "this key's time is over: ask the operator of the service to register a new one",
    ),
    ("approval_key_not_authorized", "this key may not decide about this action"),
    ("approval_signature_invalid", "the service does not know this key"),
    ("approver_is_proposer", "you proposed this yourself, so somebody else must decide"),
    ("caller_not_allowed", "this token may not do that; it needs the right `approve`"),
    ("clock_behind", "the service does not believe its clock, and decides nothing until it does"),
    ("clock_jumped", "the service does not believe its clock, and decides nothing until it does"),
    ("not_pending", "somebody was quicker, or its time is over: it is no longer pending"),
    ("nothing_pending", "the service knows no such proposal"),
    ("pending_full", "that is as often as one key may approve one proposal"),
    ("tenant_mismatch", "it was signed for another tenant than the service has now"),
];

const BY_STATUS: [(u16, &str); 5] = [
    (401, "the service does not know this token, or was given none; start again with --token-file"),
    (
        404,
        "the service knows no such proposal; or it has no callers file, and so lists none; or --url is wrong",
    ),
    (429, "the service has too much of that; try again later"),
    (503, "the service cannot do that now; try again"),
    (507, "the service has no room left to write it down"),
];
