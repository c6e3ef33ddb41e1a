//! What files of evidence show: each rule broken, each byte and each part changed. None is accepted beyond what it shows,
//! by either program.

use std::collections::BTreeSet;

use openexec::core::base64;
use openexec::core::hash::{hex, unhex};
use openexec::core::time::Time;
use openexec::evidence::bundle::Bundle;

use crate::common::approvals::private_key;
use crate::common::signer::mint;
use crate::forge::{Model, clawshield, demo};
use crate::shown::Given::{Both, Keys, LogKey, Nothing};
use crate::shown::{Judges, Verdict, bundles, chosen, genuine, lines};
use crate::table::{self, Change};
use crate::{made, random};

/// In the order of what they mean.
fn rank(verdict: &str) -> usize {
    ["not_shown", "attested", "proven"].iter().position(|known| *known == verdict).expect("known")
}

#[test]
fn a_genuine_store_shows_what_it_has() {
    let mut judges = Judges::new();
    let mut ways = BTreeSet::new();
    for (what, lines) in genuine() {
        for is_signed in [false, true] {
            for text in bundles(&lines, is_signed) {
                for given in [Nothing, Keys, LogKey, Both] {
                    let verdict = judges.judge(text.as_bytes(), given, what);
                    let may_be = (is_signed || matches!(given, Nothing | Keys))
                        && (what != "demo" || matches!(given, Nothing | LogKey));
                    assert_eq!(verdict.is_some(), may_be, "{what} {given:?}: {text}");
                    let Some(verdict) = verdict else { continue };
                    for name in ["log", "policy", "service"] {
                        let is_said = matches!(given, LogKey | Both);
                        assert_eq!(verdict[name] != "not_shown", is_said, "{name}");
                    }
                    let is_artifact = text.contains("approval_id") || text.contains("rejection_id");
                    let is_by_keys = matches!(given, Keys | Both) && is_artifact;
                    assert_eq!(verdict["keys"] == "proven", is_by_keys, "{text}");
                    ways.insert(verdict.into_values().collect::<Vec<_>>());
                }
            }
        }
    }
    assert!(ways.len() > 12, "few different verdicts: {}", ways.len());
}

/// What a part of a log cannot show, though the log breaks a rule: the audit of all of it does.
const ONLY_THE_WHOLE_LOG: &[&str] = &[
    "no claim stands inside a freeze",
    "no retry stands inside a freeze",
    "a freeze is not frozen again",
    "an unfreeze ends a freeze",
    "an unfreeze ends it once",
    "a nonce has one claim",
    "a claim of effect once is alone in its batch",
    "an approval is in one claim",
    "a nonce is one proposal's",
    "a nonce is not another claim's",
];

/// Each rule of a store broken once: no file shows it, but those that are about a whole log.
#[test]
fn each_rule_broken_once_is_shown_by_none_of_both() {
    let mut judges = Judges::new();
    let known: BTreeSet<String> =
        genuine().iter().flat_map(|(_, lines)| bundles(lines, false)).collect();
    let mut accepted = Vec::new();
    for case in table::cases() {
        let base = if case.clawshield { clawshield() } else { demo() };
        let lines = lines(&made(base, &case.change));
        let mut is_refused = false;
        let mut are_shown = 0;
        for text in bundles(&lines, false) {
            let verdict = judges.judge(text.as_bytes(), Nothing, &case.rule);
            is_refused |= verdict.is_none();
            are_shown += usize::from(verdict.is_some() && !known.contains(&text));
        }
        if !is_refused && are_shown > 0 {
            accepted.push(case.rule);
        }
    }
    println!("{}", accepted.iter().map(|rule| format!("    {rule:?},\n")).collect::<String>());
    assert_eq!(accepted, ONLY_THE_WHOLE_LOG);
}

#[test]
fn random_changes_are_judged_alike() {
    let mut judges = Judges::new();
    let count = std::env::var("OPENEXEC_READERS").ok().and_then(|text| text.parse().ok());
    let (mut accepted, mut all) = (0, 0);
    for seed in 0..count.unwrap_or(300) {
        let (what, files) = random::changed(seed);
        for text in bundles(&lines(&files), false) {
            let verdict = judges.judge(text.as_bytes(), Nothing, &format!("seed {seed}, {what}"));
            accepted += usize::from(verdict.is_some());
            all += 1;
        }
    }
    println!("{accepted} of {all} files show something");
}

/// With the log's key every byte counts. Without it nobody looks at the signature and at the name in the checkpoint, and
/// a size may be another one for which all paths lead to the same root: of none of these anything is said.
#[test]
fn every_byte_that_is_another_one_is_refused_or_says_nothing() {
    let mut judges = Judges::new();
    for (is_signed, given) in [(true, LogKey), (true, Nothing), (false, Nothing)] {
        let text = chosen(is_signed).remove(1).into_bytes();
        let own = judges.judge(&text, given, "as it is");
        let records = text.windows(9).position(|nine| nine == b"\"records\"").expect("records");
        let mut accepted = Vec::new();
        for at in 0..text.len() {
            let mut changes = vec![[&text[..at], &text[at + 1..]].concat()];
            changes.push(text.clone());
            changes[1][at] ^= 1 << (at % 8);
            for changed in changes {
                let verdict = judges.judge(&changed, given, &format!("byte {at}"));
                if verdict.is_some() {
                    assert_eq!(verdict, own, "byte {at}");
                    accepted.push(at);
                }
            }
        }
        let in_checkpoint = accepted.iter().all(|at| *at < records);
        assert!(in_checkpoint && (given == Nothing || accepted.is_empty()), "{accepted:?}");
        println!("signed {is_signed}, {given:?}: {} accepted", accepted.len());
    }
}

/// Parts of one file in another, each record dropped, doubled and moved: what is accepted says no more than before.
#[test]
fn no_part_of_one_file_says_more_in_another() {
    let mut judges = Judges::new();
    let (_, other_log) = genuine().swap_remove(3);
    for (is_signed, given) in [(true, Both), (false, Nothing)] {
        let mut all: Vec<Bundle> = Vec::new();
        for text in chosen(is_signed).iter().chain(&bundles(&other_log, is_signed)[..3]) {
            all.push(Bundle::read(text).expect("a bundle"));
        }
        let own: Vec<Verdict> = all
            .iter()
            .map(|bundle| judges.judge(bundle.text().as_bytes(), given, "as it is"))
            .collect();
        let mut changed: Vec<(usize, Bundle, String)> = Vec::new();
        for (a, bundle) in all.iter().enumerate() {
            let mut with = |change: &dyn Fn(&mut Bundle), what: String| {
                let mut other = bundle.clone();
                change(&mut other);
                if other != *bundle {
                    changed.push((a, other, what));
                }
            };
            for (b, other) in all.iter().enumerate() {
                with(&|bundle| bundle.note = other.note.clone(), format!("checkpoint of {b}"));
                for (n, from) in other.records.iter().enumerate() {
                    for m in 0..bundle.records.len() {
                        let what = format!("record {m} of {a} and {n} of {b}");
                        with(&|bundle| bundle.records[m] = from.clone(), what.clone() + ": whole");
                        with(
                            &|bundle| bundle.records[m].line = from.line.clone(),
                            what.clone() + ": line",
                        );
                        with(
                            &|bundle| bundle.records[m].path = from.path.clone(),
                            what.clone() + ": path",
                        );
                        with(
                            &|bundle| bundle.records[m].index = from.index,
                            what.clone() + ": index",
                        );
                        with(&|bundle| bundle.records.insert(m, from.clone()), what + ": put in");
                    }
                }
            }
            for m in 0..bundle.records.len() {
                with(&|bundle| drop(bundle.records.remove(m)), format!("without record {m}"));
                with(&|bundle| bundle.records.swap(m, 0), format!("record {m} first"));
                with(&|bundle| bundle.records[m].path.push([7; 32]), format!("longer path of {m}"));
                with(&|bundle| bundle.records[m].path.truncate(1), format!("shorter path of {m}"));
                with(&|bundle| bundle.records.truncate(m), format!("the first {m}"));
            }
        }
        let mut accepted = 0;
        for (a, bundle, what) in &changed {
            let verdict = judges.judge(bundle.text().as_bytes(), given, what);
            let Some(verdict) = verdict else { continue };
            accepted += 1;
            let own = own[*a].as_ref().expect("genuine");
            // What is left out may be all that a statement was about.
            let says_no_more = verdict.iter().all(|(name, said)| rank(said) <= rank(&own[name]));
            assert!(says_no_more, "{what}: {verdict:?} and not {own:?}");
            assert!(what.contains("without") || what.contains("the first"), "{what}");
        }
        println!("{accepted} of {} accepted", changed.len());
    }
}

/// Whoever writes the store can write a policy of their own keys, and approve by them.
#[test]
fn a_policy_of_other_keys_shows_only_what_its_own_keys_signed() {
    const FORGER: u8 = 9;
    let forge = |m: &mut Model| {
        m.of("policy")["keys"][0]["public_key"] = hex(&private_key(FORGER).public_key()[..]).into();
        for label in ["pure", "again"] {
            let artifact = &mut m.of(label)["approval"][0];
            let text = |name: &str| artifact[name].as_str().expect("a text");
            let time = |name: &str| Time::parse(text(name)).expect("a time");
            let hash = unhex(text("action_hash")).expect("a hash");
            let (issued, expires, id) =
                (time("issued_at"), time("expires_at"), text("approval_id"));
            let key = private_key(FORGER);
            let forged = mint(&key, text("tenant_id"), &hash, issued, expires, id).expect("minted");
            *artifact = forged.to_value();
        }
    };
    let mut judges = Judges::new();
    let mut seen = 0;
    let lines = lines(&made(clawshield(), &Change::Before(forge)));
    for is_signed in [false, true] {
        let files = bundles(&lines, is_signed);
        let own = ["\\\"pure\\\"", "\\\"again\\\""];
        for text in files.iter().filter(|text| own.iter().any(|own| text.contains(own))) {
            let mut judge = |given| judges.judge(text.as_bytes(), given, "forged");
            let shown = judge(Nothing).expect("consistent");
            assert_eq!((&*shown["approvals"], &*shown["keys"]), ("proven", "not_shown"));
            assert_eq!(judge(Keys), None);
            assert_eq!(judge(Both), None);
            // Who has the log's key too can say so, and nobody who knows the approvers believes it.
            assert_eq!(judge(LogKey).is_some(), is_signed);
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}

/// By another key of the same name, without a signature, or with one over another text.
#[test]
fn a_checkpoint_that_the_key_did_not_sign_is_none_of_its_log() {
    let mut judges = Judges::new();
    let text = chosen(true).remove(0);
    let bundle = Bundle::read(&text).expect("a bundle");
    let (own, line) = bundle.note.split_once("\n\n").expect("signed");
    let signature = line.trim_end().rsplit(' ').next().expect("a signature");
    let bytes = base64::decode(signature).expect("base64");
    let other = |bytes: &[u8]| line.replace(signature, &base64::encode(bytes));
    let mut wrong = bytes.clone();
    wrong[20] ^= 1;
    let mut of_other_key = wrong.clone();
    of_other_key[0] ^= 1;
    let (good, wrong, of_other_key) = (line.to_owned(), other(&wrong), other(&of_other_key));
    let cases = [
        ("as it is", good.clone(), true),
        ("another signature", wrong.clone(), false),
        ("another key's", of_other_key.clone(), false),
        ("another key's beside it", format!("{good}{of_other_key}"), true),
        ("one of two is wrong", format!("{good}{wrong}"), false),
        ("longer", other(&[&bytes[..], &[0]].concat()), false),
        ("none", String::new(), false),
        ("a line that is none", format!("{good}x\n"), false),
    ];
    for (what, lines, is_good) in cases {
        let note = format!("{own}\n\n{lines}");
        let text = Bundle { note, ..bundle.clone() }.text();
        let verdict = judges.judge(text.as_bytes(), LogKey, what);
        assert_eq!(verdict.is_some(), is_good, "{what}");
    }
    for note in [format!("{own}\n"), own.to_owned(), format!("{own}\nmore\n"), format!("{own}\n\n")]
    {
        let text = Bundle { note: note.clone(), ..bundle.clone() }.text();
        for given in [Nothing, LogKey] {
            assert_eq!(judges.judge(text.as_bytes(), given, &note), None, "{note}");
        }
    }
}

/// Of a checkpoint that nobody signed the size is nobody's word: a few others have the same paths to the same root. Every
/// statement is about the root, and none about the size.
#[test]
fn a_size_that_is_not_signed_is_not_believed() {
    let mut judges = Judges::new();
    for (is_signed, given) in [(true, LogKey), (true, Nothing), (false, Nothing)] {
        let text = chosen(is_signed).remove(0);
        let own = judges.judge(text.as_bytes(), given, "as it is");
        let bundle = Bundle::read(&text).expect("a bundle");
        let size = bundle.note.lines().nth(1).expect("a size").to_owned();
        let number: u64 = size.parse().expect("a number");
        let mut judge = |other: &str| {
            let own = format!("\n{size}\n");
            let note = bundle.note.replacen(&own, &format!("\n{other}\n"), 1);
            judges.judge(Bundle { note, ..bundle.clone() }.text().as_bytes(), given, other)
        };
        for other in (0..number).chain(number + 1..4 * number) {
            let shown = judge(&other.to_string());
            let is_like = other.next_power_of_two() == number.next_power_of_two();
            assert!(shown.is_none() || given == Nothing && is_like && shown == own, "{other}");
        }
        for other in ["", "-1", "+9", "09", "9.0", "1e1", "18446744073709551616", "9 ", "٩"] {
            assert_eq!(judge(other), None, "{other}");
        }
    }
}

#[test]
fn a_text_that_parsers_read_differently_is_refused() {
    let mut judges = Judges::new();
    let text = chosen(true).remove(0);
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    let deep = |open: &str, close: &str| {
        with(
            "\"version\":1",
            &format!("\"version\":{}1{}", open.repeat(100_000), close.repeat(100_000)),
        )
    };
    let cases = [
        String::new(),
        "null\n".into(),
        "[]\n".into(),
        "{}\n".into(),
        text.trim_end().to_owned(),
        format!("{text}\n"),
        format!(" {text}"),
        format!("\u{feff}{text}"),
        format!("{text}{text}"),
        text.replace('\n', "\r\n"),
        with("\"version\":1", "\"version\":1,\"version\":1"),
        with("\"version\":1", "\"version\":2"),
        with("\"version\":1", "\"version\":1.0"),
        with("\"version\":1", "\"version\":1e0"),
        with("\"version\":1", "\"version\":true"),
        with("\"version\":1", "\"version\":\"1\""),
        with("\"version\":1", "\"version\":null"),
        with("\"version\":1", "\"version\":1,\"x\":0"),
        with("\"version\":1", "\"version\":[1]"),
        with("\"version\":1", "\"version\": 1"),
        with("\"version\":1", "\"v\\u0065rsion\":1"),
        with(",\"version\":1", ""),
        with("{\"checkpoint\"", "{\"a\":1,\"checkpoint\""),
        with("\"index\":0", "\"index\":-0"),
        with("\"index\":0", "\"index\":0.0"),
        with("\"index\":0", "\"index\":false"),
        with("\"index\":0", "\"index\":18446744073709551616"),
        with("\"index\":0", "\"index\":9007199254740992"),
        with("\"index\":0", "\"index\":1e400"),
        with("\"index\":0", "\"index\":NaN"),
        with("\"index\":0", &format!("\"index\":{}", "9".repeat(5_000))),
        with("\"index\":0", "\"index\":null"),
        with("\"index\":0,", ""),
        with("\"index\":0", "\"index\":0,\"index\":0"),
        with("\"path\":[\"", "\"path\":[\"\",\""),
        with("\"path\":[", "\"path\":[null,"),
        with("\"path\":[", "\"path\":[[],"),
        with("\"path\":[\"", "\"path\":[\" "),
        with("=\",", "\","),
        with("\"record\":\"{", "\"record\":\"\\u007b"),
        with("\"record\":\"{", "\"record\":\"\\ud800{"),
        with("\"record\":\"{", "\"record\":{\"a\":\"{"),
        with("\\n", "\\u000a"),
        deep("[", "]"),
        deep("{\"a\":", "}"),
    ];
    for (n, changed) in cases.iter().enumerate() {
        for given in [Nothing, LogKey] {
            assert_eq!(judges.judge(changed.as_bytes(), given, &n.to_string()), None, "{n}");
        }
    }
    for bytes in [&b"\xff"[..], b"{\"\xed\xa0\x80\":1}\n", b"\0"] {
        assert_eq!(judges.judge(bytes, Nothing, "bytes"), None);
    }
}
