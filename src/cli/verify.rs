//! `openexec verify`: the audit of a store, for people and for programs.

use std::path::Path;

use super::kept::{self, Kept};
use super::options::Options;
use super::{evidence, usage};
use crate::core::approval::keys::Keyring;
use crate::core::hash::hex;
use crate::core::json::canonical;
use crate::core::record::Mode;
use crate::evidence::audit::{Summary, audit};
use crate::evidence::checkpoint::Checkpoint;
use crate::evidence::note::VerifierKey;
use crate::evidence::proof::{check, read_receipt};
use crate::serve::config::read_keys;
use crate::serve::opening::open_failure;
use crate::store::GEOMETRY;
use crate::store::fault::OpenError;
use crate::store::replay::Progress;
use crate::sys::disk::Directory;
use crate::sys::exit::{self, Failure};
use crate::sys::limits::PROOF_BYTES_MAX;
use crate::sys::page::{self, Page};
use crate::sys::visible::quoted;

pub fn run(options: &Options) -> Result<(), Failure> {
    let log_key = kept::log_key(options)?;
    if let Some(file) = options.get("--proof") {
        let key = log_key.as_ref().ok_or_else(|| usage("--proof needs --log-key VKEY"))?;
        let others = ["--json", "--keys", "--checkpoint", "--evidence", "--witness", "--quorum"];
        if options.word().is_some() || others.iter().any(|other| options.has(other)) {
            return Err(usage("--proof goes with --log-key alone"));
        }
        return proof(file, key);
    }
    let keyring = options.get("--keys").map(keys).transpose()?;
    if let Some(file) = options.get("--evidence") {
        let others = ["--checkpoint", "--witness", "--quorum"];
        if options.word().is_some() || others.iter().any(|other| options.has(other)) {
            return Err(usage("--evidence goes with --log-key, --keys and --json alone"));
        }
        return evidence::verify(file, log_key.as_ref(), keyring.as_ref(), options.has("--json"));
    }
    let kept = Kept::given(options, log_key.as_ref())?;
    let path = options.store(options.word())?;
    let head = kept.as_ref().map(|kept| kept.checkpoint.head);
    let summary = beside_a_server(&path, |directory, progress| {
        audit(directory, GEOMETRY, keyring.as_ref(), head.as_ref(), progress)
    })?;
    if keyring.is_some() && summary.identity.mode == Mode::Demo {
        let shown = path.display();
        return Err(exit::data(format!(
            "{shown} is of demo mode, where nobody approves; leave out --keys"
        )));
    }
    if let Some(kept) = &kept {
        kept.judge(&path, &summary)?;
    }
    if options.has("--json") {
        return Page::new().json(&as_json(&summary, keyring.is_some(), kept.as_ref())).print();
    }
    let page = shown(&path, &summary, keyring.is_some());
    kept.iter().fold(page, |page, kept| kept.show(page)).print()
}

/// Reads a store, whether or not a server is writing it.
pub fn beside_a_server<T>(
    path: &Path,
    read: impl FnOnce(&Directory, Progress) -> Result<T, OpenError>,
) -> Result<T, Failure> {
    let shown = path.display();
    let directory =
        Directory::open(path).map_err(Failure::while_doing(format_args!("opening {shown}")))?;
    read(&directory, &mut page::progress).map_err(|error| match error {
        OpenError::Corrupt { file, byte, reason } => {
            exit::data(format!("{shown}/{file}, byte {byte}: {reason}"))
        }
        OpenError::Absent => exit::data(format!("there is no store in {shown}")),
        error => open_failure(path, &error),
    })
}

/// A keys file, or PEM public keys.
fn keys(file: &str) -> Result<Keyring, Failure> {
    let keyring = read_keys(Path::new(file), |text| text.trim_start().starts_with('{'));
    keyring.map_err(|why| exit::configuration(format!("--keys: {why}")))
}

/// `--proof`: offline, with no store.
fn proof(file: &str, key: &VerifierKey) -> Result<(), Failure> {
    let refused = |why: &str| exit::data(format!("the proof {file}: {why}"));
    let proven =
        check(&kept::read_text(file, PROOF_BYTES_MAX)?, key).map_err(|why| refused(&why))?;
    let record = read_receipt(&proven.line).map_err(refused)?;
    let Checkpoint { origin, head } = &proven.checkpoint;
    Page::new()
        .line("ok          ", file)
        .line("log         ", origin)
        .own(format_args!("index       {}, of {} records", proven.index, head.size))
        .own(format_args!("id          {}", hex(&record.id)))
        .own(format_args!("outcome     {}", record.outcome.name()))
        .own(format_args!("time        {}", record.at))
        .own(format_args!("receipt     {}", hex(&record.receipt)))
        .line("result      ", record.result.0)
        .own(format_args!("root        {}", hex(&head.root)))
        .print()
}

/// What is counted beside executions.
const COUNTS: [&str; 6] =
    ["proposals", "approvals", "rejections", "closed", "completions", "refusals"];

fn as_json(summary: &Summary, with_keys: bool, kept: Option<&Kept>) -> String {
    let key = |(fingerprint, name): &(String, String)| serde_json::json!({"fingerprint": fingerprint, "name": name});
    let keys: Vec<_> = summary.keys.iter().map(key).collect();
    let mut json = serde_json::json!({
        "ok": true,
        "checkpoint": kept.map(Kept::as_json),
        "store": summary.identity.store,
        "mode": summary.identity.mode.name(),
        "created": summary.identity.created.to_string(),
        "records": summary.records,
        "batches": summary.batches,
        "root": hex(&summary.root),
        "executions": summary.executions,
        "owed": summary.owed,
        "pending": summary.pending,
        "suppressed": summary.suppressed,
        "approvals_judged": summary.approvals_judged,
        "keys": keys,
        "keys_trusted": with_keys,
        "unfinished_tail": summary.unfinished_tail,
    });
    COUNTS.into_iter().for_each(|what| json[what] = summary.count(what).into());
    canonical::to_string(&json)
}

fn shown(path: &Path, summary: &Summary, with_keys: bool) -> Page {
    let Summary { identity, records, batches, owed, pending, suppressed, .. } = summary;
    let (store, mode, created) = (&identity.store, identity.mode.name(), identity.created);
    let [executed, failed, indeterminate] = ["executed", "failed", "indeterminate"]
        .map(|outcome| summary.executions.get(outcome).copied().unwrap_or(0));
    let [proposals, approvals, rejections, closed, completions, refusals] =
        COUNTS.map(|what| summary.count(what));
    let mut page = Page::new()
        .line("ok          ", path.display())
        .line("store       ", format_args!("{store} ({mode} mode, made {created})"))
        .own(format_args!("records     {records} in {batches} batches"))
        .own(format_args!(
            "executions  {executed} executed, {failed} failed, {indeterminate} indeterminate, \
             {owed} without a receipt yet"
        ))
        .own(format_args!(
            "proposals   {proposals}, {pending} of them pending; {approvals} approvals, \
             {rejections} rejections, {closed} closed"
        ))
        .own(format_args!("completions {completions}"))
        .own(format_args!("refusals    {refusals} stored, {suppressed} more counted"))
        .own(format_args!("root        {}", hex(&summary.root)))
        .own(format_args!(
            "approvals   {} claims judged, signatures too",
            summary.approvals_judged
        ));
    if !with_keys && !summary.keys.is_empty() {
        for (fingerprint, name) in &summary.keys {
            page = page.line("key         ", format_args!("{fingerprint} {}", quoted(name)));
        }
        page = page.own("keys        not checked against keys that you trust: give --keys FILE");
    }
    if summary.unfinished_tail {
        page = page.own("note        an unfinished batch stands behind the last commit");
    }
    page
}
