//! Errors, and the one table of their codes, statuses and titles. How one is written is `sys/answer.rs`.

use std::io;

use crate::core::json::{Object, Value};

/// Makes of the table below the type of a code and what it says. A code stands there once, under its
/// status, so that it cannot have two.
macro_rules! table {
    ($($status:literal $title:literal { $($code:ident $name:literal)* })*) => {
        /// Why a request was not answered as it wished: a stable word that clients switch on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($($code,)*)*
        }

        impl Code {
            pub const ALL: &[Code] = &[$($(Code::$code,)*)*];

            /// The word, snake_case.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Code::$code => $name,)*)*
                }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self {
                    $($(Code::$code)|* => $status,)*
                }
            }
        }

        /// The reason phrase of RFC 9110, section 15, for each status in use.
        pub const fn title(status: u16) -> &'static str {
            match status {
                200 => "OK",
                202 => "Accepted",
                304 => "Not Modified",
                $($status => $title,)*
                _ => "Error",
            }
        }
    };
}

table! {
    400 "Bad Request" {
        BadRequest "bad_request"
        MalformedJson "malformed_json"
        DuplicateKey "duplicate_key"
        NumberOutOfRange "number_out_of_range"
        LoneSurrogate "lone_surrogate"
        TooDeep "too_deep"
        TooManyValues "too_many_values"
        InvalidUtf8 "invalid_utf8"
        UnknownAction "unknown_action"
    }
    401 "Unauthorized" {
        Unauthenticated "unauthenticated"
    }
    403 "Forbidden" {
        BrowserOrigin "browser_origin"
        CallerNotAllowed "caller_not_allowed"
        ActionNotAllowed "action_not_allowed"
        ActionNotConfigured "action_not_configured"
        ApprovalMissing "approval_missing"
        ApprovalMalformed "approval_malformed"
        ApprovalSignatureInvalid "approval_signature_invalid"
        ApprovalKeyNotAuthorized "approval_key_not_authorized"
        ApprovalKeyExpired "approval_key_expired"
        ApproverIsProposer "approver_is_proposer"
        TenantMismatch "tenant_mismatch"
        ApprovalExpired "approval_expired"
        ApprovalNotYetValid "approval_not_yet_valid"
        ApprovalTtlTooLong "approval_ttl_too_long"
        ApprovalBeforeStore "approval_before_store"
        ApprovalHashMismatch "approval_hash_mismatch"
        ApprovalAlreadyUsed "approval_already_used"
        ApprovalsInsufficient "approvals_insufficient"
        RejectionMalformed "rejection_malformed"
        RejectionSignatureInvalid "rejection_signature_invalid"
        Rejected "rejected"
        Withdrawn "withdrawn"
        Expired "expired"
        Refused "refused"
    }
    404 "Not Found" {
        NotFound "not_found"
        NothingPending "nothing_pending"
        NoLogKey "no_log_key"
    }
    405 "Method Not Allowed" {
        MethodNotAllowed "method_not_allowed"
    }
    408 "Request Timeout" {
        Timeout "timeout"
    }
    409 "Conflict" {
        NonceConflict "nonce_conflict"
        NotPending "not_pending"
        ApprovalAmbiguous "approval_ambiguous"
        ApprovalIdConflict "approval_id_conflict"
    }
    411 "Length Required" {
        LengthRequired "length_required"
    }
    413 "Content Too Large" {
        BodyTooLarge "body_too_large"
    }
    415 "Unsupported Media Type" {
        UnsupportedMediaType "unsupported_media_type"
    }
    417 "Expectation Failed" {
        ExpectationFailed "expectation_failed"
    }
    421 "Misdirected Request" {
        HostNotAllowed "host_not_allowed"
    }
    422 "Unprocessable Content" {
        InvalidRequest "invalid_request"
        UnknownField "unknown_field"
        InvalidPayload "invalid_payload"
    }
    429 "Too Many Requests" {
        PendingFull "pending_full"
    }
    431 "Request Header Fields Too Large" {
        HeadTooLarge "head_too_large"
    }
    500 "Internal Server Error" {
        HandlerFailed "handler_failed"
        Indeterminate "indeterminate"
    }
    503 "Service Unavailable" {
        Busy "busy"
        Frozen "frozen"
        ClockBehind "clock_behind"
        ClockJumped "clock_jumped"
        StoreUnavailable "store_unavailable"
        Standby "standby"
        OutcomeUnknown "outcome_unknown"
        CheckpointUnwritable "checkpoint_unwritable"
    }
    505 "HTTP Version Not Supported" {
        HttpVersionNotSupported "http_version_not_supported"
    }
    507 "Insufficient Storage" {
        StoreFull "store_full"
    }
}

/// One refusal or error, as every client sees it: its code's `title`, `status` and `code`, `type`,
/// `detail`, and for some codes further members.
///
/// ```text
/// {"code":"not_found","detail":"No such resource","status":404,"title":"Not Found","type":"about:blank"}
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub code: Code,
    /// Deterministic, and never a secret.
    pub detail: String,
    /// Members beside the five.
    pub members: Object,
}

/// Where reading failed it was the store that was read: nothing was spent.
impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Problem::new(Code::StoreUnavailable, format!("The store cannot be read: {error}"))
    }
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem { code, detail: detail.into(), members: Object::new() }
    }

    /// The same problem with one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_word_with_one_status_that_has_a_title() {
        for (at, code) in Code::ALL.iter().enumerate() {
            let name = code.name();
            assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b'8')), "{name}");
            assert!(Code::ALL[..at].iter().all(|earlier| earlier.name() != name), "{name} twice");
            assert!((400..600).contains(&code.status()), "{name}");
            assert_ne!(title(code.status()), title(0), "{name}");
        }
    }
}
