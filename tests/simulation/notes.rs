//! What operators leave while what they left before is being recorded: nothing of it is lost.

use openexec::core::record::Record;
use openexec::core::time::Time;
use openexec::executor::requests::{REQUEST_FILE, withdrawn};
use openexec::executor::{FROZEN_FILE, UNFROZEN_FILE};

use crate::refusals::{Flooded, promise, promise_under};

/// The reasons of all stops that were recorded, and how many ends.
fn stops(flooded: &Flooded) -> (Vec<String>, usize) {
    let (mut reasons, mut ends) = (Vec::new(), 0);
    for bytes in flooded.disk.contents().into_values() {
        for line in String::from_utf8(bytes).expect("text").lines() {
            match Record::read(line) {
                Some(Record::Freeze(stop)) => reasons.push(stop.reason.into_owned()),
                Some(Record::Unfreeze(_)) => ends += 1,
                _ => {}
            }
        }
    }
    (reasons, ends)
}

#[test]
fn a_stop_that_ends_while_another_is_recorded_is_recorded_too() {
    for was_seen in [false, true] {
        let mut flooded = Flooded::new();
        if was_seen {
            flooded.disk.set_file(FROZEN_FILE, Some("first"));
            flooded.idle();
            flooded.disk.set_file(FROZEN_FILE, None);
        }
        flooded.disk.set_file(UNFROZEN_FILE, Some("first"));
        flooded.disk.left_meanwhile(UNFROZEN_FILE, "second".to_owned());
        (0..3).for_each(|_| flooded.idle());
        assert_eq!(stops(&flooded), (vec!["first".to_owned(), "second".to_owned()], 2));
        assert!(!flooded.disk.contents().contains_key(UNFROZEN_FILE));
        flooded.ask("pure", 0, 1);
    }
}

#[test]
fn a_request_that_comes_while_another_is_recorded_is_taken_too() {
    let mut flooded = Flooded::new();
    assert_eq!(promise(&mut flooded, None), 202);
    assert_eq!(promise_under("another", &mut flooded, None).status, 202);
    let pending = flooded.executor.store().state().proposals.oldest_first();
    let [first, second] = [0, 1].map(|n| withdrawn(Time::default(), pending[n].0).line);
    flooded.disk.set_file(REQUEST_FILE, Some(&first));
    flooded.disk.left_meanwhile(REQUEST_FILE, second);
    (0..3).for_each(|_| flooded.idle());
    assert!(flooded.executor.store().state().proposals.oldest_first().is_empty());
    assert!(!flooded.disk.contents().contains_key(REQUEST_FILE));
}
