//! What stands behind the last valid batch: nothing, what a power cut left of the next one, or damage.
//!
//! A checksum cannot tell the last two apart; the order of syncs can (see [`super::open`]).

use super::segment::BLANK;
use crate::core::limits::SECTOR_BYTES;
use crate::core::record::Commit;

/// Whether what begins at `from` is a torn batch; otherwise the reason why it is damage.
pub(super) fn judge(bytes: &[u8], from: usize, next_batch: u64) -> Result<(), &'static str> {
    let tail = &bytes[from..];
    let Some(last_text) = tail.iter().rposition(|byte| !is_blank(*byte)) else {
        return Ok(());
    };
    for line in tail[..=last_text].split(|byte| is_blank(*byte)) {
        let commit = std::str::from_utf8(line).ok().and_then(Commit::read);
        if commit.is_some_and(|commit| commit.batch != next_batch) {
            return Err("not a valid batch, and the commit line of another batch follows");
        }
    }
    let sector = SECTOR_BYTES as usize;
    let mut whole_sectors = tail[..last_text].chunks_exact(sector);
    if whole_sectors.any(|bytes| bytes.iter().all(|byte| is_blank(*byte))) {
        return Ok(());
    }
    // The last sectors of a batch are missing: its text stops where a sector ends, perhaps with
    // the newline of a line that ended just there.
    let text_end = last_text + 1;
    let stops_at_sector = text_end.is_multiple_of(sector)
        || ((text_end + 1).is_multiple_of(sector) && tail.get(text_end) == Some(&BLANK));
    if stops_at_sector && !ends_with_commit(&tail[..text_end]) {
        return Ok(());
    }
    Err("not a valid batch, and not one that a power cut could leave")
}

fn ends_with_commit(text: &[u8]) -> bool {
    let line = text.rsplit(|byte| *byte == BLANK).next().unwrap_or(text);
    std::str::from_utf8(line).ok().and_then(Commit::read).is_some()
}

/// The offset of the first byte from `from` that is not blank.
pub(super) fn text_at(bytes: &[u8], from: usize) -> Option<usize> {
    bytes[from..].iter().position(|byte| !is_blank(*byte)).map(|at| from + at)
}

pub(super) fn is_blank(byte: u8) -> bool {
    byte == BLANK || byte == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT_3: &str = r#"{"batch":3,"kind":"commit","root":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":9}"#;

    fn tail(parts: &[(usize, &str)]) -> Vec<u8> {
        let mut bytes = vec![BLANK; 4096];
        for (at, text) in parts {
            bytes[*at..*at + text.len()].copy_from_slice(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn a_power_cut_leaves_whole_sectors() {
        let sector = "x".repeat(512);
        let torn = [
            tail(&[(0, &sector)]),
            tail(&[(0, &sector), (1024, "y")]),
            tail(&[(512, "y")]),
            tail(&[(0, &sector[1..])]),
            tail(&[(0, &sector), (1024, COMMIT_3)]),
        ];
        for (n, bytes) in torn.iter().enumerate() {
            assert_eq!(judge(bytes, 0, 3), Ok(()), "case {n}");
        }
    }

    #[test]
    fn rot_is_not_a_power_cut() {
        let sector = "x".repeat(512);
        let ends_with_commit = format!("{}\n{COMMIT_3}", "x".repeat(511 - COMMIT_3.len()));
        let damage = [
            tail(&[(0, "x")]),
            tail(&[(0, &sector), (512, "y")]),
            tail(&[(0, &sector[2..])]),
            tail(&[(0, &ends_with_commit)]),
        ];
        for (n, bytes) in damage.iter().enumerate() {
            assert!(judge(bytes, 0, 3).is_err(), "case {n}");
        }
        let other_batch = tail(&[(0, &sector), (1024, COMMIT_3)]);
        assert!(judge(&other_batch, 0, 2).is_err());
    }
}
