//! How many must approve, and of which groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keys::Key;
use crate::core::json::{Value, object};
use crate::core::limits::ARTIFACTS_MAX;
use crate::core::receipt::is_action_name;

/// The places that approvals must fill, 1 to [`ARTIFACTS_MAX`]: each is for a key of that group, or all are
/// for any key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required(Vec<Option<String>>);

impl Required {
    /// Reads a number, or an object from group to number.
    pub fn read(value: &Value) -> Option<Self> {
        let number = |value: &Value| {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
            number.filter(|number| (1..=ARTIFACTS_MAX).contains(number))
        };
        let Some(groups) = value.as_object() else {
            return Some(Required(vec![None; number(value)?]));
        };
        let mut places = Vec::new();
        for (group, count) in groups {
            let group = Some(group.clone()).filter(|group| is_action_name(group))?;
            places.extend(vec![Some(group); number(count)?]);
        }
        (1..=ARTIFACTS_MAX).contains(&places.len()).then_some(Required(places))
    }

    /// What [`Self::read`] reads.
    pub fn value(&self) -> Value {
        let mut groups = BTreeMap::new();
        for group in self.0.iter().flatten() {
            *groups.entry(group.as_str()).or_insert(0) += 1;
        }
        let groups = object(groups.into_iter().map(|(group, count)| (group, count.into())));
        if groups.is_empty() { self.count().into() } else { groups.into() }
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The places that these keys leave empty, as few as can be. A holder fills one place, with whichever of
    /// their keys.
    pub fn missing<'a>(&'a self, keys: &'a [Arc<Key>]) -> Vec<Option<&'a str>> {
        let mut seats = Seats { required: self, keys, taken: vec![None; self.count()] };
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().all(|earlier| earlier.holder() != key.holder()) {
                seats.seat(key.holder(), &mut vec![false; self.count()]);
            }
        }
        let places = self.0.iter().zip(seats.taken);
        places.filter(|(_, taken)| taken.is_none()).map(|(group, _)| group.as_deref()).collect()
    }
}

/// A maximum matching of holders and places, by augmenting paths: who is seated stays so, if elsewhere.
struct Seats<'a> {
    required: &'a Required,
    keys: &'a [Arc<Key>],
    /// For each place, who fills it.
    taken: Vec<Option<&'a str>>,
}

impl<'a> Seats<'a> {
    /// Finds a place for this holder, for which others may move; `tried` are those looked at for the purpose.
    fn seat(&mut self, holder: &'a str, tried: &mut [bool]) -> bool {
        for place in 0..tried.len() {
            let group = &self.required.0[place];
            let fits = |key: &Arc<Key>| {
                key.holder() == holder && group.as_ref().is_none_or(|group| key.is_in(group))
            };
            if tried[place] || !self.keys.iter().any(fits) {
                continue;
            }
            tried[place] = true;
            if self.taken[place].is_none_or(|other| self.seat(other, tried)) {
                self.taken[place] = Some(holder);
                return true;
            }
        }
        false
    }
}

/// What to add to a sentence about places that are empty: the groups that they are for.
pub fn groups_of(missing: &[Option<&str>]) -> String {
    match missing.iter().copied().flatten().collect::<Vec<_>>() {
        groups if groups.is_empty() => String::new(),
        groups => format!("; missing: {}", groups.join(", ")),
    }
}
