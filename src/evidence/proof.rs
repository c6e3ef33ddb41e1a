//! Proofs in a file (c2sp.org/tlog-proof@v1): what was logged, where, the path, and the checkpoint.
//!
//! What was logged stands in `extra`: here it is the receipt's record line. It is believed only once
//! its hash is found to be the leaf.

use super::checkpoint::{Checkpoint, decimal, hash};
use super::note::VerifierKey;
use super::path::{PATH_HASHES_MAX, includes};
use crate::core::base64;
use crate::core::hash::{Hash, hex};
use crate::core::receipt::receipt;
use crate::core::record::{Receipt, Record};
use crate::core::tree::leaf_hash;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// The text of a proof. `note` is a whole checkpoint with its signatures.
pub fn text(line: &str, index: u64, path: &[Hash], note: &str) -> String {
    let mut text = format!("{FIRST_LINE}\nextra {}\n", base64::encode(line.as_bytes()));
    text.push_str(&format!("index {index}\n"));
    for hash in path {
        text.push_str(&base64::encode(hash));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(note);
    text
}

/// What a proof that holds has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The record, as it stands in the store.
    pub line: String,
    pub index: u64,
    pub checkpoint: Checkpoint,
}

/// Checks with nothing but the log's public key that a line is in the log; what it is [`read_receipt`] tells.
///
/// # Errors
/// A sentence: the first thing that does not hold.
pub fn check(text: &str, key: &VerifierKey) -> Result<Proven, String> {
    let malformed = |why: &str| format!("it is no tlog-proof: {why}");
    let mut note = text;
    // What is behind these words in the next line; what comes after is left.
    let mut line = |words: &str| {
        let (line, rest) = note.split_once('\n')?;
        note = rest;
        line.strip_prefix(words)
    };
    if line(FIRST_LINE) != Some("") {
        return Err(malformed("the first line is not c2sp.org/tlog-proof@v1"));
    }
    let extra =
        line("extra ").ok_or_else(|| malformed("the second line is not extra, with the record"))?;
    let extra = base64::decode(extra).and_then(|bytes| String::from_utf8(bytes).ok());
    let record = extra.ok_or_else(|| malformed("extra is not base64 of a text"))?;
    let index = line("index ").ok_or_else(|| malformed("the third line is not the index"))?;
    let index = decimal(index).ok_or_else(|| malformed("the index is no number"))?;
    let mut path = Vec::new();
    loop {
        match line("").ok_or_else(|| malformed("there is no empty line before a checkpoint"))? {
            "" => break,
            _ if path.len() == PATH_HASHES_MAX => return Err(malformed("the path is too long")),
            text => path.push(
                hash(text).ok_or_else(|| malformed("a line of the path is no hash in base64"))?,
            ),
        }
    }
    let checkpoint = Checkpoint::open(note, Some(key));
    let checkpoint = checkpoint.map_err(|why| format!("the checkpoint: {why}"))?;
    if !includes(&checkpoint.head, index, &leaf_hash(record.as_bytes()), &path) {
        return Err("the path does not lead from this record to the checkpoint's root".to_owned());
    }
    Ok(Proven { line: record, index, checkpoint })
}

/// The receipt that a proven line is: its own hash must hold too.
pub fn read_receipt(line: &str) -> Result<Receipt<'_>, &'static str> {
    let Some(Record::Receipt(record)) = Record::read(line) else {
        return Err("the record is no receipt");
    };
    if record.line() != line {
        return Err("the record is not in canonical form");
    }
    if receipt(&hex(&record.id), &record.result) != record.receipt {
        return Err("the receipt is not the hash of its id and result");
    }
    Ok(record)
}
