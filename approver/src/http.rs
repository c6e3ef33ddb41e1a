//! The service, over HTTPS, or over plain HTTP where nothing lies between: loopback and Unix sockets.
//!
//! An answer is bounded in bytes and in time, whoever gives it. A redirect is never followed: the token belongs to
//! one service. Certificates are judged by what this machine trusts.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openexec::sys::exit::{self, Failure};
use serde_json::Value;
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Error};

use crate::options::Options;
use crate::{usage, words};

/// A whole exchange.
const EXCHANGE: Duration = Duration::from_secs(30);
/// A payload and a result, each up to 1 MiB, spelt as JSON.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A refusal. Read as JSON, a body may take a hundred times its size.
const PROBLEM_BYTES_MAX: usize = 64 << 10;
const TOKEN_BYTES_MAX: u64 = 4096;
/// A sentence of somebody else's, at most.
const DETAIL_CHARACTERS_MAX: usize = 2000;

pub struct Service {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// What came back, whatever its status.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Where the service is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// `http://127.0.0.1:5000`, without a slash at the end.
    Web(String),
    Socket(PathBuf),
}

impl Service {
    pub fn of(options: &Options) -> Result<Self, Failure> {
        let place = Place::of(options.required("--url")?)?;
        let token = options.get("--token-file").map(token).transpose()?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(EXCHANGE))
            .max_response_header_size(HEAD_BYTES_MAX)
            .user_agent(concat!("openexec-approve/", env!("CARGO_PKG_VERSION")));
        let (agent, base) = match place {
            Place::Web(base) if base.starts_with("https:") => {
                (config.tls_config(tls()?).build().into(), base)
            }
            Place::Web(base) => (config.proxy(None).build().into(), base),
            Place::Socket(path) => {
                let (config, resolver) = (config.proxy(None).build(), DefaultResolver::default());
                (Agent::with_parts(config, ToSocket(path), resolver), "http://localhost".to_owned())
            }
        };
        Ok(Service { agent, base, token })
    }

    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.exchange(Method::GET, path, String::new())
    }

    /// `body` is JSON.
    pub fn post(&self, path: &str, body: String) -> Result<Answer, Failure> {
        self.exchange(Method::POST, path, body)
    }

    fn exchange(&self, method: Method, path: &str, body: String) -> Result<Answer, Failure> {
        let url = format!("{}{path}", self.base);
        let is_post = method == Method::POST;
        let mut request = Request::builder().method(method).uri(url.as_str());
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if is_post {
            request = request.header("Content-Type", "application/json");
        }
        let failed = |error: Error| {
            let code = match error {
                Error::BodyExceedsLimit(_) => exit::DATA,
                _ => exit::INPUT_OUTPUT,
            };
            let arrived = match &error {
                Error::Io(io) if io.kind() == io::ErrorKind::ConnectionRefused => {
                    "; nothing was handed in"
                }
                _ => "; it may have arrived: look at the proposal again",
            };
            let arrived = if is_post { arrived } else { "" };
            Failure::new(code, format!("the service at {}: {error}{arrived}", self.base))
        };
        let bad = |error: ureq::http::Error| usage(format!("--url: {error}"));
        let answer = match is_post {
            true => self.agent.run(request.body(body).map_err(bad)?),
            false => self.agent.run(request.body(()).map_err(bad)?),
        };
        let mut answer = answer.map_err(failed)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        Ok(Answer { status, body: body.read_to_vec().map_err(failed)? })
    }
}

impl Answer {
    /// Whether it is a refusal of whoever asks, or of anything now, whatever is asked for.
    pub fn is_to_all(&self) -> bool {
        matches!(self.status, 401 | 403 | 407 | 429 | 502..=504)
    }

    /// What the service says instead of an answer: 65, or 74 where it could not.
    pub fn refusal(&self) -> Failure {
        // Not strictly: whoever refused, a proxy perhaps, is to be heard.
        let problem = Some(&self.body).filter(|body| body.len() <= PROBLEM_BYTES_MAX);
        let problem = problem.and_then(|body| serde_json::from_slice(body).ok());
        let problem: Value = problem.unwrap_or_default();
        let text = |name: &str| {
            let text = problem[name].as_str().unwrap_or_default();
            text.chars().take(DETAIL_CHARACTERS_MAX).collect::<String>()
        };
        let said = match (text("code"), text("detail"), text("state")) {
            (code, ..) if code.is_empty() => {
                "and no code of OpenExec's; is --url right?".to_owned()
            }
            (code, detail, state) if state.is_empty() => format!("{code}: {detail}"),
            (code, detail, state) => format!("{code}: {detail} (state: {state})"),
        };
        let words = match words::of(self.status, &text("code")) {
            "" => String::new(),
            words => format!("{words}; "),
        };
        let code = if self.status >= 500 { exit::INPUT_OUTPUT } else { exit::DATA };
        Failure::new(code, format!("{words}the service answers {} {said}", self.status))
    }
}

impl Place {
    fn of(url: &str) -> Result<Self, Failure> {
        if let Some(path) = url.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Place::Socket(path.into())),
                false => Err(usage("--url unix: takes a whole path, as unix:/run/openexec/socket")),
            };
        }
        let url = url.strip_suffix('/').unwrap_or(url);
        let (scheme, host) = url.split_once("://").unwrap_or_default();
        // A path, a query, a user's name: nothing of it is meant.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_plain) {
            return Err(usage("--url takes https://HOST, http://127.0.0.1:PORT or unix:/SOCKET"));
        }
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        // A name is what a resolver says it is.
        let name = if name == "localhost" { "127.0.0.1" } else { name };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = bare.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
            || bare.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback());
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        match scheme {
            "https" => Ok(Place::Web(url.to_owned())),
            "http" if is_loopback => Ok(Place::Web(format!("http://{name}{port}"))),
            "http" => Err(usage(
                "--url: http only to loopback or a Unix socket, since anybody between could read the token; \
                 give https",
            )),
            _ => Err(usage("--url takes https://HOST, http://127.0.0.1:PORT or unix:/SOCKET")),
        }
    }
}

/// What this machine trusts.
fn tls() -> Result<TlsConfig, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let certificates: Vec<_> =
        found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    if certificates.is_empty() {
        let why = "this machine trusts no certificate authority; install ca-certificates, or set SSL_CERT_FILE";
        return Err(Failure::new(exit::CONFIGURATION, why));
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

fn token(path: &str) -> Result<String, Failure> {
    let failed = |error| Failure::io(format!("reading the token {path}"), &error);
    let refused = |why: &str| Failure::new(exit::CONFIGURATION, format!("the token {path}: {why}"));
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o007 != 0 {
        return Err(refused(&format!("it is open to others; run chmod o= {path}")));
    }
    let mut text = String::new();
    file.take(TOKEN_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let token = text.strip_suffix('\n').unwrap_or(&text);
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(refused("it must be one line without spaces")),
    }
}

/// Opens a Unix socket, whatever the address says.
#[derive(Debug)]
struct ToSocket(PathBuf);

impl Connector for ToSocket {
    type Out = Socket;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Socket>, Error> {
        #[allow(clippy::disallowed_methods, reason = "the service's socket")]
        let stream = UnixStream::connect(Path::new(&self.0))?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Socket { stream, buffers }))
    }
}

#[derive(Debug)]
struct Socket {
    stream: UnixStream,
    buffers: LazyBuffers,
}

/// What a socket's time limit ends is a time limit.
fn timed<T>(result: io::Result<T>, timeout: &NextTimeout) -> Result<T, Error> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    })
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|left| *left))?;
        let output = &self.buffers.output()[..amount];
        timed(self.stream.write_all(output), &timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|left| *left))?;
        let input = self.buffers.input_append_buf();
        let read = timed(self.stream.read(input), &timeout)?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // Each exchange has a connection of its own.
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_nowhere_but_to_this_machine() {
        for (url, base) in [
            ("https://openexec.example", Some("https://openexec.example")),
            ("https://openexec.example:8443/", Some("https://openexec.example:8443")),
            ("https://[2001:db8::1]:1", Some("https://[2001:db8::1]:1")),
            ("http://127.0.0.1:5000", Some("http://127.0.0.1:5000")),
            ("http://127.9.9.9", Some("http://127.9.9.9")),
            ("http://[::1]:5000/", Some("http://[::1]:5000")),
            ("http://localhost:5000", Some("http://127.0.0.1:5000")),
            ("http://openexec.example", None),
            ("http://10.0.0.1:5000", None),
            ("http://127.0.0.1.example:5000", None),
            ("http://localhost.example", None),
            ("http://127.0.0.1@example.com", None),
            ("http://[::ffff:10.0.0.1]", None),
            ("http://0.0.0.0:5000", None),
            ("https://host/path", None),
            ("https://host?x", None),
            ("https://user@host", None),
            ("https://", None),
            ("ftp://127.0.0.1", None),
            ("127.0.0.1:5000", None),
            ("https://host\r\nX: y", None),
            ("unix:relative", None),
            ("", None),
        ] {
            let place = Place::of(url).ok();
            assert_eq!(place, base.map(|base| Place::Web(base.to_owned())), "{url}");
        }
        assert_eq!(Place::of("unix:/run/x").ok(), Some(Place::Socket("/run/x".into())));
    }
}
