//! Evidence for whoever does not trust this program (design section 14): signed checkpoints of the
//! log, proofs about it, and the file that shows a store rolled back.
//!
//! The formats are those that others verify: C2SP `signed-note`, `tlog-checkpoint` and
//! `tlog-proof@v1` over RFC 6962 trees. [`note`], [`checkpoint`], [`cosignature`], [`path`] and
//! [`proof`] are pure and need no store: with them `openexec verify --proof` checks what another machine made. [`bundle`] is
//! all that a log has of one id, and [`statements`] says what that shows. [`key`] is the log's own key, which can approve
//! nothing; [`approvers`] says what is worth knowing of those that can. [`history`] tells what happened. [`guard`] holds a store to its checkpoint file, and
//! [`service`] is the thread that writes this file and answers.

pub mod approvers;
pub mod audit;
pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod file;
pub mod guard;
pub mod history;
pub mod key;
pub mod log;
pub mod note;
pub mod path;
pub(crate) mod pkcs8;
pub mod proof;
pub mod service;
pub mod statements;
mod terms;
