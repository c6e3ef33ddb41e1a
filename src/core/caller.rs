//! Who may call, and what each may do.
//!
//! Tokens are not known here. The gate finds the caller by one; all behind it knows a caller by name.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::json::Value;
use super::limits::KEY_NAME_BYTES_MAX;

/// Who asks; `None` where nobody is asked who calls.
pub type Who = Option<Arc<Caller>>;

pub const APPROVE: &str = "approve";
pub const PROPOSE: &str = "propose";
/// To see what others recorded.
pub const READ: &str = "read";
/// What a caller may do; the file and the records have no other words.
pub const RIGHTS: [&str; 3] = [APPROVE, PROPOSE, READ];

/// The name of a key or of a caller: it goes into records, answers and logs.
pub fn is_name(name: &str) -> bool {
    (1..=KEY_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && name.trim() == name
}

/// A caller, as the policy record has it: `{"actions":null,"may":["propose"],"name":"agent-7","person":null}`.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    pub name: String,
    /// Of [`RIGHTS`].
    pub may: BTreeSet<String>,
    /// What it may propose, and what of others it sees; `None` for every action.
    pub actions: Option<BTreeSet<String>>,
    /// Whom it acts for.
    pub person: Option<String>,
}

/// The texts of an array, each once and each as it must be. (To collect them into a set would sort them first, by code of
/// its own for each type of set.)
pub fn texts(value: &Value, is_one: impl Fn(&str) -> bool) -> Option<BTreeSet<String>> {
    let (mut set, items) = (BTreeSet::new(), value.as_array()?);
    for item in items {
        set.insert(item.as_str().filter(|text| is_one(text))?.to_owned());
    }
    Some(set)
}

impl Caller {
    pub fn knows(&self, action: &str) -> bool {
        self.actions.as_ref().is_none_or(|actions| actions.contains(action))
    }

    pub fn may_propose(&self, action: &str) -> bool {
        self.may.contains(PROPOSE) && self.knows(action)
    }

    pub fn recorded(&self) -> Value {
        let Caller { name, may, actions, person } = self;
        json!({"actions": actions, "may": may, "name": name, "person": person})
    }
}

/// The name that a record has of whoever asks.
pub fn name_of(who: &Who) -> Option<&str> {
    who.as_ref().map(|caller| caller.name.as_str())
}

/// The person whom it acts for.
pub fn person_of(who: &Who) -> Option<&str> {
    who.as_ref().and_then(|caller| caller.person.as_deref())
}
