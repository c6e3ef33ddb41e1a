//! The keys that may approve: who they are, what each may approve, until when, and how many of them
//! an action needs.
//!
//! Owns [`Keyring`]. Its invariant: it holds at least one key; no public key and no name occurs twice; and no key is
//! weak. A keyring is made at start from public keys alone. What cannot be read is refused with a sentence that says how
//! to mend it and repeats nothing that might be a key. (That enough keys may approve each action is found where a keys
//! file or a stored policy is read: what nobody can approve executes nothing.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ed25519_compact::PublicKey;

use super::public::{Public, Scheme};
use super::required::Required;
use super::signature::Signature;
use crate::core::caller::{is_name, texts};
use crate::core::hash;
use crate::core::json::{Object, Value, object};
use crate::core::limits::{ACTION_BYTES_MAX, KEYS_MAX};
use crate::core::receipt::is_action_name;
use crate::core::time::Time;

/// The name in `required` that stands for every action without its own.
const EVERY_OTHER: &str = "*";

/// The configured keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Arc<Key>>,
    required: BTreeMap<String, Required>,
    required_otherwise: Required,
}

/// One key that may approve.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    name: String,
    public: Public,
    groups: BTreeSet<String>,
    /// Whose it is: one person with two keys is one approver.
    person: Option<String>,
    /// `None`: every action.
    actions: Option<BTreeSet<String>>,
    /// From this moment on the key approves nothing.
    not_after: Option<Time>,
}

impl Keyring {
    /// Reads what [`Self::recorded`] gives, and each member that is missing as if it were null there: the
    /// keys, and how many must approve.
    ///
    /// # Errors
    /// Why there is no keyring: a sentence for the operator.
    pub fn read(keys: &[Value], required: &Object) -> Result<Self, String> {
        let keys = keys.iter().enumerate().map(|(at, key)| Key::read(&format!("keys[{at}]"), key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut places = BTreeMap::new();
        for (action, needed) in required {
            if action != EVERY_OTHER && !is_action_name(action) {
                return Err(format!(
                    "\"required\" has a name that is no action; use 1 to {ACTION_BYTES_MAX} of \
                     A-Za-z0-9_.-, or \"*\""
                ));
            }
            let form = "must be a whole number from 1 to 16, or an object from group to such numbers, 16 in all";
            let needed = Required::read(needed);
            let needed = needed.ok_or_else(|| format!("\"required\" of '{action}' {form}"))?;
            places.insert(action.clone(), needed);
        }
        let required_otherwise = places.remove(EVERY_OTHER).ok_or("no \"*\"")?;
        are_different(&keys)?;
        let keys = keys.into_iter().map(Arc::new).collect();
        Ok(Keyring { keys, required: places, required_otherwise })
    }

    /// How many must approve `action`, and of which groups.
    pub fn required(&self, action: &str) -> &Required {
        self.required.get(action).unwrap_or(&self.required_otherwise)
    }

    /// The key that made this signature: one at most, since a key is part of what is hashed (RFC 8032, 5.1.7).
    pub fn signer(&self, signature: &Signature, message: &[u8]) -> Option<Arc<Key>> {
        self.keys.iter().find(|key| key.made(signature, message)).cloned()
    }

    pub fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// The actions that keys are limited to.
    pub fn actions_of_keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.actions.as_ref()).flatten().map(String::as_str)
    }

    /// The actions that have a threshold of their own.
    pub fn actions_with_thresholds(&self) -> impl Iterator<Item = &str> {
        self.required.keys().map(String::as_str)
    }

    /// As a policy record has them: the keys, and how many an action needs.
    pub fn recorded(&self) -> (Value, Value) {
        let key = |key: &Arc<Key>| {
            serde_json::json!({
                "actions": key.actions,
                "application": key.public.application(),
                "groups": key.groups,
                "name": key.name,
                "not_after": key.not_after.map(|time| time.to_string()),
                "person": key.person,
                "public_key": hash::hex(&key.public.key[..]),
                "type": key.public.kind(),
                "verified": matches!(key.public.scheme, Scheme::Token { verified: true, .. }),
            })
        };
        let required = self.required.iter().map(|(action, needed)| (action.as_str(), needed));
        let required = required.chain([(EVERY_OTHER, &self.required_otherwise)]);
        let required = required.map(|(action, needed)| (action, needed.value()));
        (self.keys.iter().map(key).collect(), object(required).into())
    }
}

/// Whether there are as many keys as may be, each another's, and all of persons or none.
fn are_different(keys: &[Key]) -> Result<(), String> {
    if !(1..=KEYS_MAX).contains(&keys.len()) {
        return Err(format!("there are {} keys; give 1 to {KEYS_MAX}", keys.len()));
    }
    for (index, key) in keys.iter().enumerate() {
        for earlier in &keys[..index] {
            // Approvers are counted by key: one key under two names would be two approvers.
            if earlier.public.key == key.public.key {
                return Err(format!(
                    "the keys '{}' and '{}' are the same public key; remove one",
                    earlier.name, key.name
                ));
            }
            if earlier.name == key.name {
                return Err(format!("two keys are named '{}'; rename one", key.name));
            }
        }
    }
    if let Some(key) = keys.iter().find(|key| key.person.is_some() != keys[0].person.is_some()) {
        return Err(format!(
            "of the keys '{}' and '{}' one has a \"person\"; give it to all keys or to none",
            keys[0].name, key.name
        ));
    }
    Ok(())
}

impl Key {
    /// One of a policy record's; `place` says where it stands, for the sentence.
    fn read(place: &str, key: &Value) -> Result<Self, String> {
        let fault = |field: &str, what: &str| format!("{place}.{field} {what}");
        let given = |field: &str| key.get(field).filter(|value| !value.is_null());
        let name = |field: &str| {
            let form = "must be 1 to 64 printable ASCII characters without a space at either end";
            let read = |name: &Value| name.as_str().filter(|name| is_name(name)).map(str::to_owned);
            given(field).map(|value| read(value).ok_or_else(|| fault(field, form))).transpose()
        };
        let names = |field: &str| {
            let form = "must be an array of names, each 1 to 64 of A-Za-z0-9_.-; or leave it out";
            let read = |value: &Value| texts(value, is_action_name);
            given(field).map(|value| read(value).ok_or_else(|| fault(field, form))).transpose()
        };
        let actions = names("actions")?;
        if actions.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(fault(
                "actions",
                "must have one at least; or leave it out for every action",
            ));
        }
        let not_after = given("not_after").map(|value| {
            let time = value.as_str().and_then(Time::parse);
            time.ok_or_else(|| fault("not_after", "must be a time YYYY-MM-DDTHH:MM:SSZ"))
        });
        Ok(Key {
            name: name("name")?.ok_or_else(|| fault("name", "is missing"))?,
            public: Public::read(key).map_err(|why| format!("{place}{why}"))?,
            groups: names("groups")?.unwrap_or_default(),
            person: name("person")?,
            actions,
            not_after: not_after.transpose()?,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.public.key
    }

    /// Whether it made this signature over this message.
    pub fn made(&self, signature: &Signature, message: &[u8]) -> bool {
        signature.is_by(&self.public, message)
    }

    /// Who fills one place, with however many keys: the person, or the key itself where no key has one.
    pub fn holder(&self) -> &str {
        self.person.as_deref().unwrap_or(&self.name)
    }

    pub fn person(&self) -> Option<&str> {
        self.person.as_deref()
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.contains(group)
    }

    pub fn may_approve(&self, action: &str) -> bool {
        self.actions.as_ref().is_none_or(|actions| actions.contains(action))
    }

    /// `not_after` is itself too late.
    pub fn is_expired(&self, now: Time) -> bool {
        self.not_after.is_some_and(|not_after| not_after <= now)
    }
}
