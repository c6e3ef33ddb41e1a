//! The keys that may approve: who they are, what each may approve, until when, and how many of them
//! an action needs.
//!
//! Owns [`Keyring`]. Its invariant: it holds at least one key; no public key and no name occurs
//! twice; no key is weak; and no action needs more approvals than there are keys that may give them.
//! A keyring is made at start from public keys alone. What cannot be read is refused with a sentence
//! that says how to mend it and repeats nothing that might be a key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use ed25519_compact::PublicKey;

use crate::core::form::is_name;
use crate::core::hash;
use crate::core::json::{Object, Value, strict};
use crate::core::limits::{
    ACTION_BYTES_MAX, ARTIFACTS_MAX, JSON_DEPTH_MAX, KEY_NAME_BYTES_MAX, KEYS_MAX,
};
use crate::core::pem;
use crate::core::receipt::is_action_name;
use crate::core::time::Time;

/// SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4) up to the 32 bytes of the key.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The name in `required` that stands for every action without its own.
const EVERY_OTHER: &str = "*";

/// The configured keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Arc<Key>>,
    required: BTreeMap<String, NonZeroUsize>,
    required_otherwise: NonZeroUsize,
}

/// One key that may approve.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    name: String,
    public_key: PublicKey,
    /// `None`: every action.
    actions: Option<BTreeSet<String>>,
    /// From this moment on the key approves nothing.
    not_after: Option<Time>,
}

/// Why no keyring could be made: a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysError(String);

impl Keyring {
    /// Reads `CLAWSHIELD_PUBLIC_KEY`, or the file that `CLAWSHIELD_PUBLIC_KEY_FILE` names: one or
    /// more PEM `PUBLIC KEY` blocks (RFC 7468, RFC 8410), whose line breaks may be written as `\n`
    /// because an environment file often can hold no others. Each key may approve every action,
    /// and one approval is enough; a key's name is its [`fingerprint`].
    pub fn from_pem(text: &str) -> Result<Self, KeysError> {
        let keys = public_keys(&text.replace("\\n", "\n"))?.into_iter().map(|public_key| Key {
            name: fingerprint(&public_key),
            public_key,
            actions: None,
            not_after: None,
        });
        Self::new(keys.collect(), BTreeMap::new(), NonZeroUsize::MIN)
    }

    /// Reads the file that `OPENEXEC_KEYS_FILE` names, strict JSON:
    /// `{"keys":[{"name","public_key","actions","not_after"}],"required":{"<action>":n,"*":n}}`.
    /// `actions`, `not_after` and `required` may be missing.
    pub fn from_keys_file(text: &str) -> Result<Self, KeysError> {
        let file = read_json(text)?;
        let Value::Object(file) = &file else {
            return refuse("the keys file is not a JSON object; write {\"keys\":[...]}");
        };
        only_fields(file, "the keys file", &["keys", "required"])?;
        let Some(Value::Array(items)) = file.get("keys") else {
            return refuse("the keys file has no array \"keys\"; add one with a key in it");
        };
        let keys = items.iter().enumerate().map(|(index, item)| read_key(index, item));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut required = match file.get("required") {
            None => BTreeMap::new(),
            Some(Value::Object(counts)) => read_required(counts)?,
            Some(_) => {
                return refuse(
                    "\"required\" is not an object; write {\"<action>\":<count>,\"*\":1}",
                );
            }
        };
        let otherwise = required.remove(EVERY_OTHER).unwrap_or(NonZeroUsize::MIN);
        Self::new(keys, required, otherwise)
    }

    /// How many different keys must approve `action`.
    pub fn required(&self, action: &str) -> NonZeroUsize {
        *self.required.get(action).unwrap_or(&self.required_otherwise)
    }

    /// Whether there are enough keys that may approve `action` at this time.
    pub fn can_approve(&self, action: &str, now: Time) -> bool {
        let able = |key: &&Arc<Key>| key.may_approve(action) && !key.is_expired(now);
        self.keys.iter().filter(able).count() >= self.required(action).get()
    }

    pub fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// Whether it is one of them.
    pub fn has(&self, public_key: &PublicKey) -> bool {
        self.keys.iter().any(|key| key.public_key == *public_key)
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
                "application": null,
                "groups": [],
                "name": key.name,
                "not_after": key.not_after.map(|time| time.to_string()),
                "person": null,
                "public_key": hash::hex(&key.public_key[..]),
                "type": "ed25519",
                "verified": false,
            })
        };
        let counts = self.required.iter().map(|(action, count)| (action.as_str(), *count));
        let counts = counts.chain([(EVERY_OTHER, self.required_otherwise)]);
        let required = counts.map(|(action, count)| (action.to_owned(), count.get().into()));
        (self.keys.iter().map(key).collect(), Value::Object(required.collect()))
    }

    /// Reads what [`Self::recorded`] gives; the texts are a policy record's.
    pub fn from_record(keys: &str, required: &str) -> Result<Self, KeysError> {
        let (keys, required) = (read_json(keys)?, read_json(required)?);
        let counts = required.as_object().ok_or_else(|| KeysError::of("no thresholds"))?;
        let mut required = read_required(counts)?;
        let otherwise = required.remove(EVERY_OTHER).ok_or_else(|| KeysError::of("no \"*\""))?;
        let key = |key: &Value| {
            // What no keyring of this program has, it cannot judge.
            let is_plain = key["type"] == "ed25519"
                && key["groups"] == Value::Array(Vec::new())
                && ["application", "person"].iter().all(|name| key[name].is_null());
            if !is_plain {
                return None;
            }
            let bytes = key["public_key"].as_str().and_then(hash::unhex);
            let actions = key["actions"].as_array().map(|actions| {
                let names = actions.iter().filter_map(Value::as_str).map(str::to_owned);
                names.collect::<BTreeSet<_>>()
            });
            if actions.as_ref().is_some_and(BTreeSet::is_empty) {
                return None;
            }
            Some(Key {
                name: key["name"].as_str().filter(|name| is_name(name))?.to_owned(),
                public_key: PublicKey::new(bytes?),
                actions,
                not_after: key["not_after"].as_str().and_then(Time::parse),
            })
        };
        let keys = keys.as_array().and_then(|keys| keys.iter().map(key).collect());
        Self::new(keys.ok_or_else(|| KeysError::of("a key is none"))?, required, otherwise)
    }

    fn new(
        keys: Vec<Key>,
        required: BTreeMap<String, NonZeroUsize>,
        required_otherwise: NonZeroUsize,
    ) -> Result<Self, KeysError> {
        if !(1..=KEYS_MAX).contains(&keys.len()) {
            return refuse(format!("there are {} keys; give 1 to {KEYS_MAX}", keys.len()));
        }
        for (index, key) in keys.iter().enumerate() {
            for earlier in &keys[..index] {
                // Approvers are counted by key: one key under two names would be two approvers.
                if earlier.public_key == key.public_key {
                    return refuse(format!(
                        "the keys '{}' and '{}' are the same public key; remove one",
                        earlier.name, key.name
                    ));
                }
                if earlier.name == key.name {
                    return refuse(format!("two keys are named '{}'; rename one", key.name));
                }
            }
        }
        let keyring = Keyring {
            keys: keys.into_iter().map(Arc::new).collect(),
            required,
            required_otherwise,
        };
        keyring.check_thresholds()?;
        Ok(keyring)
    }

    /// Refuses a threshold that can never be reached, for every action named anywhere and for those
    /// that are not. Where every key is restricted, unnamed actions may be approved by nobody: that
    /// is a decision, not a mistake. `not_after` does not count: revoking a key must not keep the
    /// service, with everything else it may do, from starting.
    fn check_thresholds(&self) -> Result<(), KeysError> {
        let named = self.actions_of_keys().chain(self.actions_with_thresholds());
        for action in named.collect::<BTreeSet<_>>() {
            let able = self.keys.iter().filter(|key| key.may_approve(action)).count();
            let required = self.required(action);
            if able < required.get() {
                return refuse(format!(
                    "'{action}' needs {required} approvals and {able} of the keys may approve it; \
                     lower \"required\" or add keys"
                ));
            }
        }
        let able = self.keys.iter().filter(|key| key.actions.is_none()).count();
        let required = self.required_otherwise;
        if able > 0 && able < required.get() {
            return refuse(format!(
                "\"*\" needs {required} approvals and {able} of the keys may approve every action; \
                 lower \"required\" or add keys without \"actions\""
            ));
        }
        Ok(())
    }
}

impl Key {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    pub fn may_approve(&self, action: &str) -> bool {
        match &self.actions {
            None => true,
            Some(actions) => actions.contains(action),
        }
    }

    /// `not_after` is itself too late.
    pub fn is_expired(&self, now: Time) -> bool {
        self.not_after.is_some_and(|not_after| not_after <= now)
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of the 32 bytes of a public key.
pub fn fingerprint(public_key: &PublicKey) -> String {
    let mut digits = hash::hex(&hash::sha256(&[&public_key[..]]));
    digits.truncate(16);
    digits
}

/// Reads PEM `PUBLIC KEY` blocks. Only the one DER encoding of an Ed25519 key is taken, so that a
/// key has one spelling; and no weak key, under which anyone could make a signature.
fn public_keys(text: &str) -> Result<Vec<PublicKey>, KeysError> {
    let blocks = pem::blocks(text).map_err(|fault| {
        KeysError(format!(
            "no public key can be read: {fault}; give PEM as `openssl pkey -pubout` writes it"
        ))
    })?;
    let read = |block: pem::Block<'_>| {
        if block.label.ends_with("PRIVATE KEY") {
            return refuse(
                "this is a private key, which the service must never have; keep it with its \
                 approver and give what `openssl pkey -in KEY.pem -pubout` writes",
            );
        }
        if block.label != "PUBLIC KEY" {
            return refuse(
                "a PEM block is no PUBLIC KEY; give what `openssl pkey -in KEY.pem -pubout` writes",
            );
        }
        let Some(der) = block.der() else {
            return refuse("a PUBLIC KEY block is not strict base64; copy it again, unchanged");
        };
        let key = der.strip_prefix(&SPKI_PREFIX).and_then(|key| PublicKey::from_slice(key).ok());
        let Some(key) = key else {
            return refuse(
                "a PUBLIC KEY block is no Ed25519 key; make one with \
                 `openssl genpkey -algorithm ed25519`",
            );
        };
        match key.validate() {
            Ok(()) => Ok(key),
            Err(_) => refuse(
                "a public key is weak (no point of the curve, not canonical, or of small order): \
                 anyone could sign for it; make another with `openssl genpkey -algorithm ed25519`",
            ),
        }
    };
    blocks.into_iter().map(read).collect()
}

fn read_key(index: usize, item: &Value) -> Result<Key, KeysError> {
    let place = format!("keys[{index}]");
    let Value::Object(item) = item else {
        return refuse(format!(
            "{place} is not an object; write {{\"name\":..,\"public_key\":..}}"
        ));
    };
    only_fields(item, &place, &["name", "public_key", "actions", "not_after"])?;
    let must_be = |field: &str, form: String| KeysError(format!("{place}.{field} must be {form}"));
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    let name = text("name").filter(|name| is_name(name)).map(str::to_owned).ok_or_else(|| {
        let form = "printable ASCII characters without a space at either end";
        must_be("name", format!("1 to {KEY_NAME_BYTES_MAX} {form}"))
    })?;
    let pem = text("public_key").ok_or_else(|| must_be("public_key", "a PEM text".into()))?;
    let public_keys = public_keys(pem)
        .map_err(|KeysError(fault)| KeysError(format!("{place}.public_key: {fault}")))?;
    let [public_key] = public_keys[..] else {
        return refuse(format!(
            "{place}.public_key holds more than one key; give each its own name"
        ));
    };
    let name_of =
        |value: &Value| value.as_str().filter(|name| is_action_name(name)).map(str::to_owned);
    let names = |value: &Value| {
        let names = value.as_array().filter(|names| !names.is_empty())?;
        names.iter().map(name_of).collect::<Option<BTreeSet<_>>>()
    };
    let actions = item.get("actions").map(|value| {
        names(value).ok_or_else(|| {
            let form = "A-Za-z0-9_.-; leave \"actions\" out to allow every action";
            let form = format!("an array of action names, each 1 to {ACTION_BYTES_MAX} of {form}");
            must_be("actions", form)
        })
    });
    let not_after = item.get("not_after").map(|value| {
        let time = value.as_str().and_then(Time::parse);
        time.ok_or_else(|| must_be("not_after", "a time YYYY-MM-DDTHH:MM:SSZ".into()))
    });
    let (actions, not_after) = (actions.transpose()?, not_after.transpose()?);
    Ok(Key { name, public_key, actions, not_after })
}

fn read_required(counts: &Object) -> Result<BTreeMap<String, NonZeroUsize>, KeysError> {
    let mut required = BTreeMap::new();
    for (action, count) in counts {
        if action != EVERY_OTHER && !is_action_name(action) {
            return refuse(format!(
                "\"required\" has a name that is no action; use 1 to {ACTION_BYTES_MAX} of \
                 A-Za-z0-9_.-, or \"*\""
            ));
        }
        let whole = count.as_u64().and_then(|count| usize::try_from(count).ok());
        let count = whole.filter(|count| *count <= ARTIFACTS_MAX).and_then(NonZeroUsize::new);
        let Some(count) = count else {
            let form = format!("must be a whole number from 1 to {ARTIFACTS_MAX}");
            return refuse(format!("\"required\" of '{action}' {form}"));
        };
        required.insert(action.clone(), count);
    }
    Ok(required)
}

fn only_fields(object: &Object, place: &str, known: &[&str]) -> Result<(), KeysError> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => refuse(format!(
            "{place} has the unknown field {name:?}; known are {}",
            known.join(", ")
        )),
    }
}

/// Strictly: a name that occurs twice must not mean one thing here and another to who wrote it.
fn read_json(text: &str) -> Result<Value, KeysError> {
    strict::read(text.as_bytes(), JSON_DEPTH_MAX)
        .map_err(|error| KeysError(format!("the keys file is not strict JSON: {error}")))
}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, KeysError> {
    Err(KeysError(sentence.into()))
}

impl KeysError {
    fn of(sentence: &str) -> Self {
        KeysError(sentence.to_owned())
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeysError {}
