//! The rejection artifact: a signed no to one proposal (design section 21).
//!
//! The message is `openexec-rejection-v1`, a line feed, and the canonical text of all fields but the signature:
//! no approval's message has a line feed, so a key that says no can never be taken to have said yes.

use std::sync::Arc;

use super::artifact::{is_uuid, read_signature};
use super::keys::{Key, Keyring};
use super::verify::keys_hold;
use crate::core::hash::{Hash, unhex};
use crate::core::json::{Object, Value, canonical};
use crate::core::limits::{CLOCK_SKEW_SECONDS, REJECTION_CHARACTERS_MAX};
use crate::core::problem::{Code, Problem};
use crate::core::time::Time;

const HEAD: &str = "openexec-rejection-v1\n";
const FIELDS: [&str; 6] =
    ["exec_id", "issued_at", "justification", "rejection_id", "signature", "tenant_id"];

/// A well-formed rejection.
pub struct Rejection {
    pub exec_id: Hash,
    /// As it was given: canonical text.
    pub text: String,
    tenant_id: String,
    issued_at: Time,
    /// The configured key that signed it.
    signer: Option<Arc<Key>>,
}

impl Rejection {
    /// Reads one, and finds who signed it.
    ///
    /// # Errors
    /// What of its form is wrong; it repeats no value.
    pub fn read(mut said: Object, keyring: &Keyring) -> Result<Self, String> {
        let wrong = |what: &str| format!("rejection{what}");
        let is_text = |name: &&str| said.get(*name).is_some_and(Value::is_string);
        if said.len() != FIELDS.len() || !FIELDS.iter().all(is_text) {
            let names = FIELDS.join(", ");
            return Err(wrong(&format!(" must have the strings {names}, and no other")));
        }
        let given = canonical::to_string(&Value::Object(said.clone()));
        let text = |name: &str| said[name].as_str().unwrap_or_default();
        if !is_uuid(text("rejection_id")) {
            return Err(wrong(".rejection_id is not a UUID of 36 lower-case characters"));
        }
        if text("justification").chars().count() > REJECTION_CHARACTERS_MAX {
            return Err(wrong(".justification is longer than 500 characters"));
        }
        let exec_id = unhex(text("exec_id"))
            .ok_or_else(|| wrong(".exec_id is not 64 lower-case hexadecimal digits"))?;
        let issued_at = Time::parse(text("issued_at"))
            .ok_or_else(|| wrong(".issued_at is not a time YYYY-MM-DDTHH:MM:SSZ"))?;
        let signature = read_signature(text("signature"));
        let signature = signature.map_err(|why| wrong(&format!(".signature {why}")))?;
        let tenant_id = text("tenant_id").to_owned();
        said.remove("signature");
        let message = format!("{HEAD}{}", canonical::to_string(&Value::Object(said)));
        let signer = keyring.signer(&signature, message.as_bytes());
        Ok(Rejection { exec_id, text: given, tenant_id, issued_at, signer })
    }

    /// Signature, tenant and time, as of `now`; gives the key that signed.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(&self, tenant: &str, created: Time, now: Time) -> Result<&Arc<Key>, Problem> {
        let refuse = |code, detail: &str| Err(Problem::new(code, detail));
        let Some(signer) = &self.signer else {
            let detail = "Invalid signature: no configured key made that of the rejection";
            return refuse(Code::RejectionSignatureInvalid, detail);
        };
        if self.tenant_id != tenant {
            let detail = "Tenant mismatch: the rejection is for another tenant than this service";
            return refuse(Code::TenantMismatch, detail);
        }
        if self.issued_at > now.plus_seconds(CLOCK_SKEW_SECONDS) {
            let detail = "The rejection was issued in the future; check both clocks";
            return refuse(Code::ApprovalNotYetValid, detail);
        }
        if self.issued_at.seconds() < created.seconds() {
            let detail = "The rejection was issued before this store was created";
            return refuse(Code::ApprovalBeforeStore, detail);
        }
        Ok(signer)
    }

    /// Whether the key may say so of this action. It may of what its person proposed.
    pub fn may(signer: &Arc<Key>, action: &str, now: Time) -> Result<(), Problem> {
        keys_hold(std::slice::from_ref(signer), action, now, None)
    }
}
