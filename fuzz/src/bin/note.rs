//! Notes, checkpoints, their keys and proofs: what is read is written alike.
#![no_main]

use std::sync::LazyLock;

use ed25519_compact::{KeyPair, Noise, Seed};
use libfuzzer_sys::fuzz_target;
use openexec::core::tree::{Head, leaf_hash};
use openexec::evidence::checkpoint::Checkpoint;
use openexec::evidence::note::{VerifierKey, is_key_name, split};
use openexec::evidence::proof::{self, Proven};

/// The key of the seeds' notes.
static PAIR: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::from_seed(Seed::new([7; 32])));
static KEY: LazyLock<VerifierKey> =
    LazyLock::new(|| VerifierKey::new("example.com/log", PAIR.pk).expect("a name"));

fuzz_target!(|text: &str| {
    if let Some(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
        assert!(is_key_name(key.name()));
    }
    if let Some(checkpoint) = Checkpoint::parse(text) {
        assert!(text.starts_with(&checkpoint.text()), "{text:?}");
        assert_eq!(Checkpoint::parse(&checkpoint.text()), Some(checkpoint));
    }
    if let Ok((inside, lines)) = split(text) {
        assert_eq!([inside, "\n", lines].concat(), text);
        assert!(inside.ends_with('\n') && !lines.contains("\n\n"));
    }
    if let Ok(inside) = KEY.open(text) {
        assert!(text.starts_with(inside));
        // Ed25519 is deterministic: the one line that this key can have made of this text is there.
        let line = KEY.line(&PAIR.sk.sign(inside, None::<Noise>));
        assert!(text[inside.len()..].contains(&line), "believed without its signature: {text:?}");
    }
    if let Ok(proven) = proof::check(text, &KEY) {
        assert!(proven.index < proven.checkpoint.head.size);
    }
    if text.starts_with('{') {
        proven_as_it_is(text);
    } else if !text.chars().any(|c| c < ' ' && c != '\n') {
        // Any text that can stand in a note is found again once it is signed.
        let text = format!("{text}\n");
        assert_eq!(KEY.open(&signed(&text)), Ok(&text[..]));
    }
});

/// Any line is proven as the only record of a log; that it is a receipt is found by reading it.
fn proven_as_it_is(text: &str) {
    let head = Head { size: 1, root: leaf_hash(text.as_bytes()) };
    let checkpoint = Checkpoint { origin: KEY.name().to_owned(), head };
    let proven = proof::check(&proof::text(text, 0, &[], &signed(&checkpoint.text())), &KEY);
    assert_eq!(proven, Ok(Proven { line: text.to_owned(), index: 0, checkpoint }));
    if let Ok(receipt) = proof::read_receipt(text) {
        assert_eq!(receipt.line(), text);
    }
}

fn signed(text: &str) -> String {
    format!("{text}\n{}", KEY.line(&PAIR.sk.sign(text, None::<Noise>)))
}
