//! Groups and persons: how many places approvals fill, held to trying every way; what start refuses.

use std::sync::Arc;

use openexec::core::approval::keys::{Key, Keyring};
use openexec::core::approval::required::Required;
use openexec::core::approval::verify::examine;
use openexec::core::time::Time;
use openexec::evidence::approvers::are_enough;
use openexec::serve::keys::from_keys_file;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::approvals::{keys_file_fault, private_key, public_pem};
use crate::common::signer::mint;

/// Keys with these members beside name and key.
fn file(members: &[Value], required: Value) -> String {
    let key = |(n, more): (usize, &Value)| {
        let seed = u8::try_from(n).expect("few") + 1;
        let mut key = json!({"name": format!("k{n}"), "public_key": public_pem(seed)});
        key.as_object_mut().expect("an object").extend(more.as_object().expect("members").clone());
        key
    };
    let keys: Vec<Value> = members.iter().enumerate().map(key).collect();
    json!({"keys": keys, "required": required}).to_string()
}

fn read(members: &[Value], required: Value) -> Keyring {
    let text = file(members, required);
    from_keys_file(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn in_groups(groups: &[&str]) -> Value {
    json!({"groups": groups})
}

/// How many places some seating of the keys fills at most: every way is tried.
fn most(places: &[Option<&str>], holders: &[Vec<&Arc<Key>>]) -> usize {
    let Some((place, others)) = places.split_first() else { return 0 };
    let mut best = most(others, holders);
    for (at, holder) in holders.iter().enumerate() {
        if holder.iter().any(|key| place.is_none_or(|group| key.is_in(group))) {
            let mut rest = holders.to_vec();
            rest.remove(at);
            best = best.max(1 + most(others, &rest));
        }
    }
    best
}

const GROUPS: [&str; 3] = ["finance", "legal", "ops"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn as_many_places_are_filled_as_can_be(
        keys in proptest::collection::vec((0u8..8, 0u8..4), 1..6),
        counts in proptest::array::uniform3(0usize..3),
        number in 1usize..5,
        with_persons: bool,
    ) {
        let groups = |bits: u8| GROUPS.into_iter().enumerate().filter(move |(n, _)| bits >> n & 1 == 1);
        let members: Vec<Value> = keys.iter().map(|(bits, person)| {
            let names: Vec<&str> = groups(*bits).map(|(_, name)| name).collect();
            match with_persons {
                true => json!({"groups": names, "person": format!("p{person}")}),
                false => json!({"groups": names}),
            }
        }).collect();
        let needed: serde_json::Map<String, Value> = GROUPS.iter().zip(counts)
            .filter(|(_, count)| *count > 0).map(|(group, count)| ((*group).to_owned(), count.into())).collect();
        let needed = if needed.is_empty() { json!(number) } else { json!(needed) };
        let required = Required::read(&needed).expect("a threshold");
        prop_assert_eq!(required.value(), needed.clone());
        let places: Vec<Option<&str>> = match needed.as_object() {
            None => vec![None; number],
            Some(groups) => groups.iter().flat_map(|(group, count)| {
                vec![Some(group.as_str()); count.as_u64().expect("a count") as usize]
            }).collect(),
        };
        prop_assert_eq!(required.count(), places.len());

        let keyring = read(&members, json!({}));
        let mut holders: Vec<Vec<&Arc<Key>>> = Vec::new();
        for key in keyring.keys() {
            match holders.iter_mut().find(|keys| with_persons && keys[0].person() == key.person()) {
                Some(keys) => keys.push(key),
                None => holders.push(vec![key]),
            }
        }
        let missing = required.missing(keyring.keys());
        prop_assert_eq!(places.len() - missing.len(), most(&places, &holders), "{}", needed);
        prop_assert!(missing.iter().all(|group| places.contains(group)));
        // Of approvals by all of them as few count as fill as many places: one a place, each needed.
        let now = Time::default();
        let sign = |n: usize| {
            let id = format!("3f0d6f0a-6d0c-4b7e-9a55-{n:012x}");
            let key = private_key(u8::try_from(n % keys.len()).expect("few") + 1);
            mint(&key, "t1", &[0; 32], now, now.plus_seconds(60), &id).expect("minted")
        };
        let mut counted = examine((0..2 * keys.len()).map(sign).collect(), &keyring);
        counted.reduce(&required);
        let kept = required.missing(counted.signers()).len();
        prop_assert_eq!(kept, missing.len());
        prop_assert_eq!(counted.signers().len(), places.len() - missing.len());
        prop_assert_eq!(counted.artifacts().len(), counted.signers().len());
        // And what start refuses is what they cannot fill.
        let text = file(&members, json!({"pay": needed}));
        prop_assert_eq!(from_keys_file(&text).is_ok(), missing.is_empty());
    }
}

/// Of a person's two keys the second frees a place for somebody else, though it fills none by itself.
#[test]
fn a_second_key_of_one_person_may_be_the_one_that_counts() {
    let of = |person: &str, group: &str| json!({"person": person, "groups": [group]});
    let members = [of("Ann", "finance"), of("Ann", "ops"), of("Bob", "finance")];
    let keyring = read(&members, json!({"pay": {"finance": 1, "ops": 1}}));
    let required = keyring.required("pay");
    let now = Time::default();
    let sign = |seed: u8| {
        let id = format!("3f0d6f0a-6d0c-4b7e-9a55-{seed:012x}");
        mint(&private_key(seed), "t1", &[0; 32], now, now.plus_seconds(60), &id).expect("minted")
    };
    for order in [[1, 2, 3], [3, 2, 1], [1, 3, 2], [2, 1, 3]] {
        let mut counted = examine(order.map(sign).to_vec(), &keyring);
        counted.reduce(required);
        let mut names: Vec<_> = counted.signers().iter().map(|key| key.name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["k1", "k2"]);
    }
}

/// The first that fits would take the place that another needs.
#[test]
fn who_could_sit_elsewhere_moves() {
    let members = [in_groups(&["finance", "ops"]), in_groups(&["finance"])];
    let needed = json!({"pay": {"finance": 1, "ops": 1}});
    for order in [[0, 1], [1, 0]] {
        let keyring = read(&order.map(|at| members[at].clone()), needed.clone());
        assert!(are_enough(&keyring, "pay", Time::default()));
        for key in keyring.keys() {
            let missing = keyring.required("pay").missing(std::slice::from_ref(key));
            assert_eq!(missing.len(), 1, "one key fills one place");
        }
    }
}

#[test]
fn what_nobody_can_fill_is_refused_at_start() {
    let finance = in_groups(&["finance"]);
    let person = |name: &str| json!({"person": name});
    let both = [in_groups(&["finance", "ops"]), json!({})];
    for (members, required, sentence) in [
        (&[finance.clone(), json!({})][..], json!({"pay": {"finance": 2}}), "1 of them"),
        (&[finance.clone(), json!({})], json!({"*": {"ops": 1}}), "missing: ops"),
        (
            &[finance.clone(), finance.clone()],
            json!({"pay": {"finance": 1, "ops": 1}}),
            "missing: ops",
        ),
        (&both, json!({"pay": {"finance": 1, "ops": 1}}), "needs 2 approvals and 1 of"),
        (&both, json!({"pay": {"Finance": 1}}), "missing: Finance"),
        (
            &[json!({"groups": ["finance"], "actions": ["echo"]}), json!({})],
            json!({"pay": {"finance": 1}}),
            "'pay' needs 1 approvals and 0 of",
        ),
        // Two keys of one person are one approver.
        (&[person("p"), person("p")], json!({"*": 2}), "\"*\" needs 2 approvals and 1 of"),
        (
            &[
                json!({"person": "p", "groups": ["finance"]}),
                json!({"person": "p", "groups": ["ops"]}),
            ],
            json!({"pay": {"finance": 1, "ops": 1}}),
            "needs 2 approvals and 1 of",
        ),
    ] {
        let fault = keys_file_fault(&file(members, required));
        assert!(fault.contains(sentence) && fault.contains("or add keys"), "{fault}");
    }
    // Who is past it could be replaced; the service must start.
    let past = json!({"groups": ["ops"], "not_after": "2020-01-01T00:00:00Z"});
    let keyring = read(&[finance, past], json!({"pay": {"finance": 1, "ops": 1}}));
    let at = |text| Time::parse(text).expect("a time");
    assert!(!are_enough(&keyring, "pay", at("2026-01-01T00:00:00Z")));
    assert!(are_enough(&keyring, "pay", at("2019-01-01T00:00:00Z")));
}

#[test]
fn every_fault_of_groups_and_persons_is_named() {
    let one = |more: Value| file(&[more, json!({})], json!({}));
    let required = |needed: Value| file(&[json!({}), json!({})], json!({"pay": needed}));
    let sixteen = json!({"a": 8, "b": 9});
    for (text, sentence) in [
        (one(json!({"groups": null})), "keys[0].groups is null; leave it out"),
        (one(json!({"groups": "finance"})), "keys[0].groups"),
        (one(json!({"groups": [1]})), "keys[0].groups"),
        (one(json!({"groups": [""]})), "keys[0].groups"),
        (one(json!({"groups": ["a b"]})), "keys[0].groups must be an array of names"),
        (one(json!({"groups": ["x".repeat(65)]})), "keys[0].groups"),
        (one(json!({"group": ["finance"]})), "unknown field \"group\""),
        (one(json!({"person": null})), "keys[0].person is null; leave it out"),
        (one(json!({"person": ""})), "keys[0].person"),
        (one(json!({"person": " p"})), "keys[0].person"),
        (one(json!({"person": ["p"]})), "keys[0].person"),
        (one(json!({"person": "p"})), "of the keys 'k0' and 'k1' one has a \"person\""),
        (required(json!({})), "'pay' must be a whole number from 1 to 16, or an object"),
        (required(json!({"finance": 0})), "'pay' must be"),
        (required(json!({"finance": "1"})), "'pay' must be"),
        (required(json!({"finance": 17})), "'pay' must be"),
        (required(json!({"finance": {"ops": 1}})), "'pay' must be"),
        (required(json!({"": 1})), "'pay' must be"),
        (required(json!({"a b": 1})), "'pay' must be"),
        (required(sixteen), "16 in all"),
        (required(json!([1])), "'pay' must be"),
    ] {
        let fault = keys_file_fault(&text);
        assert!(fault.contains(sentence), "{text}: {fault}");
    }
    // A group that none is in may stay empty, and an empty list is none.
    read(&[json!({"groups": []}), in_groups(&["finance", "finance"])], json!({}));
}
