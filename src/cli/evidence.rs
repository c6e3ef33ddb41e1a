//! `openexec evidence`: all that the log has of one id, for somebody who has neither the store nor trust in it; and
//! `verify --evidence`, which says what such a file shows.

use super::existing::say;
use super::kept::read_text;
use super::options::Options;
use super::usage;
use super::verify::beside_a_server;
use crate::core::approval::keys::Keyring;
use crate::core::hash::hex;
use crate::core::json::{canonical, object};
use crate::core::receipt::Outcome;
use crate::core::record::Mode;
use crate::evidence::bundle::{Bundle, Included, gather};
use crate::evidence::checkpoint::Checkpoint;
use crate::evidence::guard::Guard;
use crate::evidence::note::VerifierKey;
use crate::evidence::statements::judge;
use crate::sys::exit::{self, Failure};
use crate::sys::limits::{EVIDENCE_BYTES_MAX, NOTE_BYTES_MAX};
use crate::sys::page::Page;

const DIGITS_MIN: usize = 8;
const DIGITS: usize = 64;

pub fn run(options: &Options) -> Result<(), Failure> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_id = |id: &&str| (DIGITS_MIN..=DIGITS).contains(&id.len()) && id.bytes().all(is_digit);
    let digits = options.word().filter(is_id).ok_or_else(|| {
        usage("it takes the exec_id, 64 hexadecimal digits, or the first eight of them or more")
    })?;
    let environment = options.environment()?;
    let path = options.store(options.second_word())?;
    let configured = environment.get("OPENEXEC_CHECKPOINT_FILE");
    let configured = configured.filter(|_| options.second_word().is_none());
    let note = match (options.get("--checkpoint"), configured) {
        (Some(file), _) => Some(read_text(file, NOTE_BYTES_MAX)?),
        (None, Some(file)) => Some(Guard { path: file.into(), key: None }.read()?),
        (None, None) => None,
    };
    let found = beside_a_server(&path, |directory, progress| {
        gather(directory, digits, note.as_deref(), progress)
    });
    let (bundle, is_behind) = found??;
    // Opening a store looks into no payload and at no signature: what is not so is no evidence.
    let text = bundle.text();
    let is_readable = text.len() <= EVIDENCE_BYTES_MAX && Bundle::read(&text).is_some();
    if !is_readable {
        return Err(exit::data("the log has more of this id than a file of evidence may hold"));
    }
    judge(&bundle, None, None).map_err(|why| exit::data(format!("{}: {why}", path.display())))?;
    if is_behind {
        say(
            "the newest signed checkpoint does not cover all of this yet, so the one printed has no signature; \
             beside a service ask again in a second",
        );
    }
    Page::new().data(&text).print()
}

/// Offline, with no store.
pub fn verify(
    file: &str,
    log_key: Option<&VerifierKey>,
    keyring: Option<&Keyring>,
    as_json: bool,
) -> Result<(), Failure> {
    let refused = |why: &str| exit::data(format!("the evidence {file}: {why}"));
    let text = read_text(file, EVIDENCE_BYTES_MAX)?;
    let bundle = Bundle::read(&text).ok_or_else(|| {
        refused("it is not, byte for byte, what `openexec evidence` of this version writes")
    })?;
    drop(text);
    let (Checkpoint { origin, head }, shown) =
        judge(&bundle, log_key, keyring).map_err(|why| refused(&why))?;
    let mode = if shown.is_clawshield { Mode::Clawshield } else { Mode::Demo }.name();
    if as_json {
        let verdicts = shown.verdicts().map(|(name, verdict, _)| (name, verdict.name().into()));
        let object = canonical::to_string(&serde_json::json!({
            "checkpoint": {"origin": origin, "root": hex(&head.root), "size": head.size},
            "id": hex(&shown.id),
            "mode": mode,
            "ok": true,
            "outcome": shown.outcome.map(Outcome::name),
            "statements": object(verdicts),
            "store": shown.store,
        }));
        return Page::new().json(&object).print();
    }
    let signature = if shown.is_signed { "verified" } else { "not checked: give --log-key VKEY" };
    let page = Page::new()
        .line("ok          ", file)
        .own(format_args!("store       {} ({mode} mode)", shown.store))
        .line(
            "checkpoint  ",
            format_args!("{} records of {origin}, signature {signature}", head.size),
        )
        .own(format_args!("root        {}\nid          {}", hex(&head.root), hex(&shown.id)));
    let page = bundle.records.iter().fold(page, |page, Included { index, line, .. }| {
        page.line("record      ", format_args!("{index} {line}"))
    });
    let verdicts = shown.verdicts().fold(page, |page, (name, verdict, sentence)| {
        page.own(format_args!("{:<11} {name}: {sentence}", verdict.name().replace('_', " ")))
    });
    verdicts.print()
}
