//! By what a record is found, and what there may be only once.
//!
//! ```text
//! first 16 bytes of SHA-256 over   n<nonce>  i<id>  a<approval_id>      of a claim
//!                                  r<number of its claim, 8 bytes>      of a receipt
//!                                  c or C<number of its claim>          of a completion: of nothing for good, of all
//!                                  N<nonce>  I<id>                      of a proposal
//!                                  A<approval_id>                       of an approval that was posted
//!                                  c<number of its proposal>            of what made one asynchronous
//!                                  e<number of its proposal>            of what ends one without a claim
//! ```
//!
//! Callers choose nonces, but nobody chooses a hash of 128 bits; what is found is compared with the record all the same.

use openexec::core::hash::{Hash, sha256};
use openexec::core::receipt::Outcome;
use openexec::core::record::Record;

/// A row of the table `key`.
pub type Key = [u8; 16];

/// The key of a value of that kind.
pub fn key(kind: u8, value: &[u8]) -> Key {
    let hash = sha256(&[&[kind], value]);
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

/// The keys of a record. `claim` and `proposal` tell at which number those of an id are.
///
/// # Errors
/// Its claim or its proposal is not known, or its approvals cannot be read.
pub fn of_record(
    record: &Record,
    mut claim: impl FnMut(&Hash) -> Option<u64>,
    proposal: impl Fn(&Hash) -> Option<u64>,
) -> Result<Vec<Key>, &'static str> {
    let below = |kind, number: Option<u64>| {
        let number = number.ok_or("it belongs to a record that is not there")?;
        Ok(vec![key(kind, &number.to_be_bytes())])
    };
    match record {
        Record::Claim(claim) => {
            let approvals = claim.approval_ids().ok_or("its approvals cannot be read")?;
            let approvals = approvals.iter().map(|id| key(b'a', id.as_bytes()));
            Ok([key(b'n', claim.nonce.as_bytes()), key(b'i', &claim.id)]
                .into_iter()
                .chain(approvals)
                .collect())
        }
        Record::Receipt(receipt) => below(b'r', claim(&receipt.id)),
        Record::Completion(said) => {
            let kind = if said.outcome == Outcome::Indeterminate { b'c' } else { b'C' };
            below(kind, claim(&said.id))
        }
        Record::Proposal(asked) => {
            Ok(vec![key(b'N', asked.nonce.as_bytes()), key(b'I', &asked.id)])
        }
        Record::Approval(approval) => {
            let id = approval.approval_id().ok_or("its approval cannot be read")?;
            Ok(vec![key(b'A', id.as_bytes())])
        }
        Record::Asynchronous(record) => below(b'c', proposal(&record.id)),
        Record::Rejection(end) => below(b'e', proposal(&end.id)),
        Record::Closed(end) => below(b'e', proposal(&end.id)),
        _ => Ok(Vec::new()),
    }
}
