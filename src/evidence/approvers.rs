//! Those who may approve: what a key is called, and whether there are enough of them.
//!
//! Nothing is approved by what is found here: an action that too few keys may approve is never executed.

use std::sync::Arc;

use crate::core::approval::keys::{Key, Keyring};
use crate::core::approval::required::groups_of;
use crate::core::hash::{Hash, hex, sha256};
use crate::core::time::Time;

/// The first 16 hexadecimal digits of the SHA-256 of the 32 bytes of a public key.
pub fn fingerprint(public_key: &Hash) -> String {
    let mut digits = hex(&sha256(&[public_key]));
    digits.truncate(16);
    digits
}

/// Whether those who may approve `action` at this time are enough.
pub fn are_enough(keyring: &Keyring, action: &str, now: Time) -> bool {
    let able = those(keyring, |key| key.may_approve(action) && !key.is_expired(now));
    keyring.required(action).missing(&able).is_empty()
}

/// Refuses a threshold that can never be reached, for every action named anywhere and for those
/// that are not. Where every key is restricted, unnamed actions may be approved by nobody: that
/// is a decision, not a mistake. `not_after` does not count: revoking a key must not keep the
/// service, with everything else it may do, from starting.
///
/// # Errors
/// A sentence for the operator.
pub fn check_thresholds(keyring: &Keyring) -> Result<(), String> {
    let reach = |what: String, action: &str, able: Vec<Arc<Key>>, which: &str| {
        let required = keyring.required(action);
        let missing = required.missing(&able);
        if missing.is_empty() {
            return Ok(());
        }
        let (needed, given) = (required.count(), required.count() - missing.len());
        Err(format!(
            "{what} needs {needed} approvals and {given} of them can be given by the keys that may \
             approve {which}{}; lower \"required\" or add keys",
            groups_of(&missing)
        ))
    };
    let mut named: Vec<_> =
        keyring.actions_of_keys().chain(keyring.actions_with_thresholds()).collect();
    named.sort_unstable();
    for action in named {
        let able = those(keyring, |key| key.may_approve(action));
        reach(format!("'{action}'"), action, able, "it")?;
    }
    // No action has this name: a key that may approve it may approve every one.
    let able = those(keyring, |key| key.may_approve("*"));
    if able.is_empty() { Ok(()) } else { reach("\"*\"".to_owned(), "*", able, "every action") }
}

fn those(keyring: &Keyring, are: impl Fn(&Key) -> bool) -> Vec<Arc<Key>> {
    keyring.keys().iter().filter(|key| are(key)).cloned().collect()
}
