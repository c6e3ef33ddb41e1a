//! By what a record is found, and what there may be only once.
//!
//! ```text
//! first 16 bytes of SHA-256 over   n<nonce>  i<id>  a<approval_id>      of a claim
//!                                  r<number of its claim, 8 bytes>      of a receipt
//!                                  c or C<number of its claim>          of a completion: of nothing for good, of all
//!                                  N<nonce>  I<id>                      of a proposal
//!                                  P<which of all proposals, 4 bytes>   of a proposal
//!                                  A<approval_id>                       of an approval that was posted
//!                                  c<number of its proposal>            of what made one asynchronous
//!                                  e<number of its proposal>            of what ends one without a claim
//!                                  i<id>                                of that too: it keeps a claim from following
//! ```
//!
//! Callers choose nonces, but nobody chooses a hash of 128 bits; what is found is compared with the record all the same.

use openexec::core::hash::{Hash, sha256};
use openexec::core::receipt::Outcome;
use openexec::core::record::{self, Record};

/// A row of the table `key`.
pub type Key = [u8; 16];

/// The key of a value of that kind.
pub fn key(kind: u8, value: &[u8]) -> Key {
    let hash = sha256(&[&[kind], value]);
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

/// The keys of a record. `claim` is the number of the claim that it belongs to, `proposal` tells the one of the pending
/// proposal with an id, and `proposals` were recorded before.
///
/// # Errors
/// Its claim or its proposal is not known, or its approvals cannot be read.
pub fn of_record(
    record: &Record,
    claim: Option<u64>,
    proposal: impl Fn(&Hash) -> Option<u64>,
    proposals: u32,
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
        Record::Receipt(_) => below(b'r', claim),
        Record::Completion(said) => {
            let kind = if said.outcome == Outcome::Indeterminate { b'c' } else { b'C' };
            below(kind, claim)
        }
        Record::Proposal(asked) => {
            Ok(vec![key(b'N', asked.nonce.as_bytes()), key(b'I', &asked.id), of_number(proposals)])
        }
        Record::Approval(approval) => {
            let id = approval.approval_id().ok_or("its approval cannot be read")?;
            Ok(vec![key(b'A', id.as_bytes())])
        }
        Record::Asynchronous(record) => below(b'c', proposal(&record.id)),
        Record::Rejection(record::Rejection { id, .. })
        | Record::Closed(record::Closed { id, .. }) => {
            let mut keys = below(b'e', proposal(id))?;
            keys.push(key(b'i', id));
            Ok(keys)
        }
        _ => Ok(Vec::new()),
    }
}

/// The key of the proposal of that number, from 0 in their order.
pub fn of_number(number: u32) -> Key {
    key(b'P', &number.to_be_bytes())
}
