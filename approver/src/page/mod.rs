//! `openexec-approve page`: the same as in the terminal, on a page of this process's own, for a browser on this machine.
//!
//! ```text
//! browser -> http (bounds) -> door (address, Host, Origin) -> desk (what is shown, what is decided) -> the service
//! ```
//!
//! Invariants. The key, and all that signs, stays in this process: the page sends the number of a view, and what is signed
//! is what that view showed, hashed here. Every text that reaches the page was spelled out here, by the terminal's own
//! function: the page joins no text and escapes none. Whoever lacks the token in the address gets one and the same answer
//! to everything.

mod csv;
mod desk;
mod door;
mod http;
mod view;

use std::net::{Ipv4Addr, TcpListener};

use openexec::core::hash::hex;
use openexec::sys::exit::Failure;
use openexec::sys::random;

use crate::http::Service;
use crate::offline::ttl;
use crate::options::Options;
use crate::outside::Signer;
use crate::{terminal, usage};

use desk::Desk;
use door::Door;

pub(crate) fn page(options: &Options) -> Result<(), Failure> {
    let (service, ttl) = (Service::of(options)?, ttl(options)?);
    let Signer::Key(key) = Signer::of(options)?.ready()? else {
        return Err(usage("the page signs with --key itself"));
    };
    let tenant = options.get("--tenant").map(str::to_owned);
    let io = |error| Failure::io("listening on 127.0.0.1".to_owned(), &error);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io)?;
    let host = listener.local_addr().map_err(io)?.to_string();
    let door = Door::new(host, token()?);
    terminal::print(&format!("{}\n", door.address()))?;
    http::serve(&listener, &door, &Desk::new(service, key, tenant, ttl))
}

/// 32 random bytes, as hexadecimal digits.
fn token() -> Result<String, Failure> {
    let random = || random::bytes().map_err(|error| Failure::io("/dev/urandom".to_owned(), &error));
    Ok(hex(&[random()?, random()?].concat()))
}
