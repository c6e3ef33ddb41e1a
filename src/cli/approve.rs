//! `openexec approve`: shows a person what would be approved, asks, and signs.
//!
//! Invariant: what is signed is the hash of what was shown, made here from the request itself; a
//! hash that somebody sent along is only compared. This is the one command that reads an approver's
//! private key. It needs no server, no store and no setting, and runs where the key lives.

use std::io::ErrorKind;
use std::path::Path;

use super::ask::ask;
use super::options::Options;
use super::{hash, own, usage};
use crate::cli::mint::{self, PrivateKey};
use crate::core::approval::keys::fingerprint;
use crate::core::hash::{Hash, hex};
use crate::core::json::{Object, canonical, strict};
use crate::core::limits::{
    APPROVAL_TTL_SECONDS, APPROVAL_TTL_SECONDS_MAX, JSON_DEPTH_MAX, RECORD_DEPTH_MAX,
};
use crate::core::receipt;
use crate::serve::front::request::{self, Nonce, Request};
use crate::sys::clock;
use crate::sys::exit::{self, Failure};
use crate::sys::page::Page;
use crate::sys::random;
use crate::sys::visible::quoted;

/// What a line of `openexec pending` has beside a request's fields.
const PENDING_FIELDS: [&str; 8] = [
    "action_hash",
    "asked_at",
    "asynchronous",
    "caller",
    "expires_at",
    "id",
    "justification",
    "state",
];

pub fn run(options: &Options) -> Result<(), Failure> {
    let key = options.get("--key").ok_or_else(|| usage("approve needs --key KEY.pem"))?;
    let tenant = options.get("--tenant").ok_or_else(|| usage("approve needs --tenant T"))?;
    if tenant.is_empty() || tenant.chars().any(char::is_control) {
        return Err(usage("--tenant takes the server's CLAWSHIELD_TENANT_ID"));
    }
    let ttl_seconds = ttl_seconds(options.get("--ttl"))?;
    let body = hash::read(options.word())?;
    let asked = Asked::read(&body, options.has("--bind-nonce"))?;
    let key = read_key(key)?;

    let issued_at = clock::now();
    let expires_at = issued_at.plus_seconds(ttl_seconds.into());
    let page = asked
        .page
        .line("tenant   ", quoted(tenant))
        .own(format_args!("expires  {expires_at} ({ttl_seconds} s from now)"))
        .own(format_args!("signs    {}", hex(&asked.hash)))
        .own(format_args!("key      {}", fingerprint(key.public_key())));
    if options.has("--yes") {
        // The caller answers for it; a log of what was approved does no harm.
        page.say();
    } else {
        ask(
            &page.own("").line("Approve ", format_args!("{}?", asked.action)),
            "not approved: nothing was signed",
            "there is no terminal to ask on; with --yes nothing is asked, so look before",
        )?;
    }
    let random = random::bytes().map_err(|error| Failure::io("/dev/urandom".to_owned(), &error))?;
    let id = mint::approval_id(random);
    let artifact = mint::mint(&key, tenant, &asked.hash, issued_at, expires_at, &id)
        .map_err(|fault| Failure::new(exit::DATA, fault.to_string()))?;
    own(canonical::to_string(&artifact.to_value()))
}

fn ttl_seconds(given: Option<&str>) -> Result<u32, Failure> {
    let Some(text) = given else { return Ok(APPROVAL_TTL_SECONDS) };
    match text.parse() {
        Ok(seconds) if (1..=APPROVAL_TTL_SECONDS_MAX).contains(&seconds) => Ok(seconds),
        _ => Err(usage(format!("--ttl takes whole seconds, 1 to {APPROVAL_TTL_SECONDS_MAX}"))),
    }
}

/// What is to be approved: the hash, and the lines that say what it is the hash of.
struct Asked {
    action: String,
    hash: Hash,
    page: Page,
}

impl Asked {
    fn read(body: &[u8], bind_nonce: bool) -> Result<Self, Failure> {
        let (request, given) = read_request(body)?;
        let payload = &request.payload;
        let action_hash = receipt::action_hash(&request.action, payload);
        let nonce = request.nonce.as_deref();
        let exec_id = nonce.map(|nonce| receipt::exec_id(&request.action, nonce, payload));
        let matches = |name: &str, hash: Option<Hash>| {
            given
                .get(name)
                .is_none_or(|given| given.as_str().map(str::to_owned) == hash.map(|h| hex(&h)))
        };
        if !matches("action_hash", Some(action_hash)) || !matches("id", exec_id) {
            return Err(refused(
                "its hashes are not those of its action, payload and nonce; do not approve it",
            ));
        }
        let (hash, nonce) = match (bind_nonce, exec_id, nonce) {
            (true, Some(exec_id), Some(nonce)) => {
                (exec_id, format!("{} and no other", quoted(nonce)))
            }
            (true, ..) => return Err(usage("--bind-nonce needs a nonce in the request")),
            (false, ..) => {
                (action_hash, "any; it executes once, under the first that comes".to_owned())
            }
        };
        // As the handler will see it: read again from what is hashed.
        let shown = strict::read(payload.as_bytes(), RECORD_DEPTH_MAX)
            .map_err(|error| refused(&error.to_string()))?;
        let page = Page::new()
            .line("action   ", &request.action)
            .own(format_args!("payload  ({} bytes)", payload.len()))
            .value(&shown)
            .line("nonce    ", nonce);
        Ok(Asked { action: request.action, hash, page })
    }
}

/// A request, or a line of `openexec pending`, with the fields that only such a line has.
fn read_request(body: &[u8]) -> Result<(Request, Object), Failure> {
    let problem = |problem: crate::core::problem::Problem| refused(&problem.detail);
    let mut object = request::object(body, JSON_DEPTH_MAX).map_err(problem)?;
    let given: Object =
        PENDING_FIELDS.iter().filter_map(|name| object.remove_entry(*name)).collect();
    // A payload that is missing means `{}`: in a line that lost its own, nobody meant that.
    if !given.is_empty() && (given.len() < PENDING_FIELDS.len() || !object.contains_key("payload"))
    {
        return Err(refused("it is neither a request nor a whole line of `openexec pending`"));
    }
    Ok((request::of(object, Nonce::Optional).map_err(problem)?, given))
}

fn refused(why: &str) -> Failure {
    Failure::new(exit::DATA, format!("the request is refused: {why}"))
}

fn read_key(path: &str) -> Result<PrivateKey, Failure> {
    PrivateKey::read(Path::new(path)).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => {
            Failure::new(exit::CONFIGURATION, format!("the key {path}: {error}"))
        }
        _ => Failure::io(format!("reading the key {path}"), &error),
    })
}
