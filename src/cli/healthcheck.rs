//! `openexec healthcheck`: the container's question to the server beside it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::options::Options;
use crate::serve::gate::listen::within;
use crate::store::lock;
use crate::sys::exit::{self, Failure};
use crate::sys::limits::HEALTHCHECK_MS;

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

pub fn run(options: &Options) -> Result<(), Failure> {
    healthcheck(&options.store(None)?)
}

/// Succeeds when the server named in the `LOCK` there answers `/health` with 200.
pub fn healthcheck(store: &Path) -> Result<(), Failure> {
    let address = lock::address(store)
        .map_err(Failure::while_doing(format_args!("reading {}/LOCK", store.display())))?;
    let asked = address.clone();
    let asked = within(HEALTHCHECK_MS, move || ask(&asked));
    let answer = asked.map_err(Failure::while_doing(format_args!("asking {address}")))?;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(Failure::new(exit::INPUT_OUTPUT, format!("{address} does not answer /health with 200")))
}

fn ask(address: &str) -> std::io::Result<Vec<u8>> {
    #[allow(clippy::disallowed_methods, reason = "this command calls its own server")]
    let mut stream = match address.strip_prefix("unix:") {
        // Nothing is asked of it that is not asked of every socket.
        Some(path) => TcpStream::from(OwnedFd::from(UnixStream::connect(path)?)),
        None => TcpStream::connect(reachable(address.parse().map_err(std::io::Error::other)?))?,
    };
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// A server that listens on every address is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
