//! Checkpoints (c2sp.org/tlog-checkpoint): which log, how many records, under which root.

use super::note::{VerifierKey, split};
use crate::core::base64;
use crate::core::hash::Hash;
use crate::core::tree::Head;

/// The text of a checkpoint, what a note's signatures are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    pub head: Head,
}

impl Checkpoint {
    pub fn text(&self) -> String {
        let Head { size, root } = &self.head;
        format!("{}\n{size}\n{}\n", self.origin, base64::encode(root))
    }

    /// The checkpoint in a note, signed by the key if one is given; without one nobody says whose it is, and it may
    /// have no signature.
    ///
    /// # Errors
    /// What does not hold.
    pub fn open(note: &str, key: Option<&VerifierKey>) -> Result<Self, String> {
        let text = match key {
            Some(key) => key.open(note).map_err(|fault| fault.to_string())?,
            None => split(note).map_or(note, |(text, _)| text),
        };
        let checkpoint = Self::parse(text).ok_or("it is not formed as a checkpoint")?;
        match key.is_some_and(|key| key.name() != checkpoint.origin) {
            true => Err("it is of a log of another name".to_owned()),
            false => Ok(checkpoint),
        }
    }

    /// Reads a text. Extension lines are passed over, as the format asks; `None` for what is not
    /// exactly the form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        if origin.is_empty() || lines.any(str::is_empty) {
            return None;
        }
        let head = Head { size: decimal(size)?, root: hash(root)? };
        Some(Checkpoint { origin: origin.to_owned(), head })
    }
}

/// A number in ASCII digits without a leading zero.
pub fn decimal(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = text == "0" || !text.starts_with('0');
    (is_plain && is_canonical).then(|| text.parse().ok())?
}

/// A hash in base64.
pub fn hash(text: &str) -> Option<Hash> {
    base64::decode(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_form_of_a_checkpoint_is_one() {
        let root = base64::encode(&[7; 32]);
        let good = format!("example.com/log\n42\n{root}\n");
        let read = Checkpoint::parse(&good).expect("a checkpoint");
        assert_eq!((read.head.size, read.text()), (42, good.clone()));
        assert_eq!(Checkpoint::parse(&format!("{good}an extension\n")), Some(read));
        for bad in [
            String::new(),
            "\n".to_owned(),
            good.trim_end().to_owned(),
            good.replacen("example.com/log", "", 1),
            good.replace("42", "042"),
            good.replace("42", "+42"),
            good.replace("42", "-1"),
            good.replace("42", ""),
            good.replace("42", "4 2"),
            good.replace("42", "18446744073709551616"),
            good.replace("42", "\u{664}"),
            good.replace(&root, &root[1..]),
            good.replace(&root, &base64::encode(&[7; 31])),
            good.replace(&root, &base64::encode(&[7; 33])),
            good.replace(&root, root.trim_end_matches('=')),
            // The same bytes spelled with bits that the padding leaves over.
            good.replace("c=\n", "d=\n"),
            format!("{good}\n"),
            format!("{good}\nx\n"),
            good.replace('\n', "\r\n"),
            format!("\n{good}"),
        ] {
            assert_eq!(Checkpoint::parse(&bad), None, "{bad:?}");
        }
    }
}
