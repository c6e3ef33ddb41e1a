//! `openexec-approve sign`: a request in, an approval out; needs no network.

use std::fs::File;
use std::io::Read;

use openexec::core::hash::hex;
use openexec::core::time::Time;
use openexec::sys::clock;
use openexec::sys::exit::Failure;

use crate::message::Unsigned;
use crate::options::Options;
use crate::outside::Signer;
use crate::request::{Asked, LINE_BYTES_MAX};
use crate::screen::Screen;
use crate::terminal::{self, Answer};
use crate::{refused, usage};

/// How long an approval lives, unless told otherwise, and at most.
pub(crate) const APPROVAL_TTL_SECONDS: u32 = 900;
pub(crate) const APPROVAL_TTL_SECONDS_MAX: u32 = 7 * 86_400;

pub(crate) fn sign(options: &Options) -> Result<(), Failure> {
    let tenant = options.required("--tenant")?;
    if tenant.is_empty() || tenant.chars().any(char::is_control) {
        return Err(usage("--tenant takes the service's CLAWSHIELD_TENANT_ID"));
    }
    let ttl_seconds = ttl(options)?.unwrap_or(APPROVAL_TTL_SECONDS);
    options.required("--key")?;
    let body = read(options.word())?;
    let asked = Asked::read(&body, options.has("--bind-nonce"))?;
    let mut signer = Signer::of(options)?.ready()?;
    let now = clock::now();
    let unsigned = signer.message(|| {
        Unsigned::approval(tenant, &asked.hash, now, now.plus_seconds(ttl_seconds.into()))
    })?;
    matches(&unsigned, tenant, "action_hash", &hex(&asked.hash))?;
    let screen = asked
        .screen
        .text("tenant   ", tenant)
        .line("expires  ", life(&unsigned))
        .line("signs    ", hex(&asked.hash))
        .line("key      ", signer.key().fingerprint());
    confirm(options, screen, ("Approve ", &asked.action))?;
    match signer.sign(unsigned)? {
        Some(artifact) => terminal::print(&format!("{artifact}\n")),
        None => Ok(()),
    }
}

/// When it ends, and how long that is.
pub(crate) fn life(unsigned: &Unsigned) -> String {
    let text = unsigned.field("expires_at");
    let seconds = Time::parse(text).map_or(0, |end| end.seconds() - clock::now().seconds());
    format!("{text} ({seconds} s from now)")
}

/// What was brought must be of what is shown.
pub(crate) fn matches(
    unsigned: &Unsigned,
    tenant: &str,
    name: &str,
    hash: &str,
) -> Result<(), Failure> {
    match unsigned.field("tenant_id") == tenant && unsigned.field(name) == hash {
        true => Ok(()),
        false => Err(refused("the message is of another request or tenant than what is shown")),
    }
}

/// `--ttl`, if it is given.
pub(crate) fn ttl(options: &Options) -> Result<Option<u32>, Failure> {
    let Some(text) = options.get("--ttl") else { return Ok(None) };
    match text.parse() {
        Ok(seconds) if (1..=APPROVAL_TTL_SECONDS_MAX).contains(&seconds) => Ok(Some(seconds)),
        _ => Err(usage(format!("--ttl takes whole seconds, 1 to {APPROVAL_TTL_SECONDS_MAX}"))),
    }
}

/// Goes on only with a yes, or with `--yes`.
///
/// # Errors
/// 65 with any other answer; 64 where nobody can be asked.
pub(crate) fn confirm(
    options: &Options,
    screen: Screen,
    (verb, action): (&'static str, &str),
) -> Result<(), Failure> {
    if options.has("--yes") {
        // The caller answers for it; a log of what was signed does no harm.
        screen.say();
        return Ok(());
    }
    let screen = screen.line("", "").line(verb, format_args!("{action}?"));
    match terminal::ask(&screen, "Type yes: ")? {
        Answer::Yes => Ok(()),
        Answer::No | Answer::Stop => Err(refused("not confirmed: nothing was signed")),
    }
}

/// A request, or a line, from a file, or from standard input without one or with `-`.
fn read(file: Option<&str>) -> Result<Vec<u8>, Failure> {
    let shown = file.unwrap_or("-");
    let (mut bytes, limit) = (Vec::new(), LINE_BYTES_MAX as u64 + 1);
    let read = match file {
        None | Some("-") => std::io::stdin().take(limit).read_to_end(&mut bytes),
        Some(path) => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::io(format!("reading {shown}"), &error))?;
    match bytes.len() {
        0 => Err(usage("the request is empty: give a file or standard input")),
        1..=LINE_BYTES_MAX => Ok(bytes),
        _ => Err(refused(format!("{shown} is larger than {LINE_BYTES_MAX} bytes"))),
    }
}
