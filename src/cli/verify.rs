//! `openexec verify`: the audit of a store, for people and for programs.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::options::Options;
use super::{environment, print};
use crate::approval::keys::Keyring;
use crate::audit::{Summary, audit};
use crate::config::{read_public_file, store_path};
use crate::exit::{self, Failure};
use crate::hash::hex;
use crate::json::canonical;
use crate::server::open_failure;
use crate::store::GEOMETRY;
use crate::store::disk::Directory;
use crate::store::open::OpenError;

/// A live server may write while we read; what is read half-written is read again.
const ATTEMPTS: u32 = 3;

pub fn run(arguments: &[String]) -> Result<(), Failure> {
    let options = Options::read_with_flags(arguments, &["--keys"], &["--json"], 1)?;
    let path = match options.words.first() {
        Some(path) => PathBuf::from(path),
        None => store_path(&environment()?).map_err(super::refused)?,
    };
    let keyring = options.get("--keys").map(|file| read_keys(Path::new(file))).transpose()?;
    let summary = audit_directory(&path, keyring.as_ref())?;
    if options.has("--json") {
        return print(&format!("{}\n", as_json(&summary)));
    }
    print(&as_text(&path, &summary, keyring.is_some()))
}

fn audit_directory(path: &Path, keyring: Option<&Keyring>) -> Result<Summary, Failure> {
    let shown = path.display();
    let directory =
        Directory::open(path).map_err(|error| Failure::io(format!("opening {shown}"), &error))?;
    let mut progress = |done: u64, total: u64| {
        let mut stderr = std::io::stderr();
        if stderr.is_terminal() {
            let _ = write!(stderr, "\r{} of {} MiB read", done >> 20, total >> 20);
            let _ = if done == total { writeln!(stderr) } else { stderr.flush() };
        }
    };
    let mut attempt = 1;
    loop {
        match audit(&directory, GEOMETRY, keyring, &mut progress) {
            Ok(summary) => return Ok(summary),
            Err(OpenError::Corrupt { .. }) if attempt < ATTEMPTS && is_live(path) => attempt += 1,
            Err(OpenError::Corrupt { file, byte, reason }) => {
                let text = format!("{shown}/{file}, byte {byte}: {reason}");
                return Err(Failure::new(exit::DATA, text));
            }
            Err(OpenError::Absent) => {
                return Err(Failure::new(exit::DATA, format!("there is no store in {shown}")));
            }
            Err(error) => return Err(open_failure(path, &error)),
        }
    }
}

/// Whether a server has the store open. A shared lock, let go at once, never keeps one from starting
/// for longer than this call.
fn is_live(path: &Path) -> bool {
    let file = std::fs::File::open(path.join("LOCK"));
    file.is_ok_and(|file| file.try_lock_shared().is_err())
}

/// A keys file, or PEM public keys.
fn read_keys(path: &Path) -> Result<Keyring, Failure> {
    let refused = |why: String| Failure::new(exit::CONFIGURATION, format!("--keys: {why}"));
    let text = read_public_file(path).map_err(refused)?;
    let keyring = if text.trim_start().starts_with('{') {
        Keyring::from_keys_file(&text)
    } else {
        Keyring::from_pem(&text)
    };
    keyring.map_err(|error| refused(error.to_string()))
}

fn as_json(summary: &Summary) -> String {
    canonical::to_string(&serde_json::json!({
        "ok": true,
        "store": summary.identity.store,
        "mode": summary.identity.mode.name(),
        "created": summary.identity.created.to_string(),
        "records": summary.records,
        "batches": summary.batches,
        "root": hex(&summary.root),
        "executions": summary.executions,
        "owed": summary.owed,
        "denials": summary.denials,
        "suppressed": summary.suppressed,
        "approvals_judged": summary.approvals_judged,
        "unfinished_tail": summary.unfinished_tail,
    }))
}

fn as_text(path: &Path, summary: &Summary, with_keys: bool) -> String {
    let identity = &summary.identity;
    let outcome = |name: &str| summary.executions.get(name).copied().unwrap_or(0);
    let mut text = format!(
        "{}: ok\nstore       {} ({} mode, made {})\nrecords     {} in {} batches\n\
         executions  {} executed, {} failed, {} indeterminate, {} without a receipt yet\n\
         refusals    {} stored, {} more counted\nroot        {}\n",
        path.display(),
        identity.store,
        identity.mode.name(),
        identity.created,
        summary.records,
        summary.batches,
        outcome("executed"),
        outcome("failed"),
        outcome("indeterminate"),
        summary.owed,
        summary.denials,
        summary.suppressed,
        hex(&summary.root),
    );
    text.push_str(&if with_keys {
        format!("approvals   {} claims judged, signatures too\n", summary.approvals_judged)
    } else {
        "approvals   signatures not checked: give --keys FILE\n".to_owned()
    });
    if summary.unfinished_tail {
        text.push_str("note        an unfinished batch stands behind the last commit\n");
    }
    text
}
