//! Where the gate listens: addresses and Unix sockets, or standard input.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::core::hash::hex;
use crate::sys::dir::{Dir, parent};
use crate::sys::limits::CONNECT_MS;
use crate::sys::random;

/// Who may connect to the Unix socket: its owner and group.
const SOCKET_MODE: u32 = 0o660;
/// Each costs a descriptor and a thread of those that are reserved.
const ADDRESSES_MAX: usize = 8;

/// What accepts connections.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// A connection. One of a Unix socket is used like the others: see [`super::stream`].
    pub(super) fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| stream),
            Listener::Unix(listener) => {
                listener.accept().map(|(stream, _)| TcpStream::from(OwnedFd::from(stream)))
            }
        }
    }
}

/// One of `OPENEXEC_LISTEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Ip(SocketAddr),
    /// `[::1]:PORT`, where the machine has it: of `loopback:PORT`.
    Loopback6(u16),
    Unix(PathBuf),
    /// A listening socket as standard input: systemd's `StandardInput=socket`, without a line of
    /// unsafe code.
    Stdin,
}

impl ListenAddress {
    /// A list with commas of `IP:PORT`, `unix:/path` and `loopback:PORT`, which is `127.0.0.1:PORT`
    /// and, where the machine has it, `[::1]:PORT`; or `stdin` alone. Otherwise what is wrong with it.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        if text == "stdin" {
            return Ok(vec![ListenAddress::Stdin]);
        }
        let mut addresses = Vec::new();
        for one in text.split(',').map(str::trim) {
            let parsed = Self::parse_one(one)?;
            if parsed.iter().any(|address| addresses.contains(address)) {
                return Err(format!("'{one}' is given twice"));
            }
            addresses.extend(parsed);
        }
        if addresses.len() > ADDRESSES_MAX {
            return Err(format!("more than {ADDRESSES_MAX} addresses"));
        }
        Ok(addresses)
    }

    fn parse_one(text: &str) -> Result<Vec<Self>, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(format!("'{text}': the socket's path must be absolute"));
            }
            return Ok(vec![ListenAddress::Unix(PathBuf::from(path))]);
        }
        let wrong = || {
            format!(
                "'{text}' is not IP:PORT, unix:/path, loopback:PORT or stdin alone; a PORT is at most 65535"
            )
        };
        if let Some(port) = text.strip_prefix("loopback:") {
            let ip4 = format!("127.0.0.1:{port}").parse::<SocketAddr>().map_err(|_| wrong())?;
            return Ok(vec![ListenAddress::Ip(ip4), ListenAddress::Loopback6(ip4.port())]);
        }
        text.parse().map(|ip| vec![ListenAddress::Ip(ip)]).map_err(|_| wrong())
    }

    /// Whether other hosts may reach it.
    pub fn is_exposed(&self) -> bool {
        // `::ffff:127.0.0.1` is a loopback address too.
        matches!(self, ListenAddress::Ip(address) if !address.ip().to_canonical().is_loopback())
    }

    /// Listens, and says where, in the form that [`ListenAddress::parse`] takes; `None` where the
    /// machine lacks what may be missing.
    pub fn bind(&self) -> io::Result<Option<(Listener, String)>> {
        let tcp = |address: SocketAddr| {
            let listener = TcpListener::bind(address)?;
            let bound = listener.local_addr()?.to_string();
            Ok((Listener::Tcp(listener), bound))
        };
        let bound = match self {
            ListenAddress::Ip(address) => tcp(*address),
            ListenAddress::Loopback6(port) => match tcp((Ipv6Addr::LOCALHOST, *port).into()) {
                Err(error) if is_lacking(&error) => return Ok(None),
                bound => bound,
            },
            ListenAddress::Unix(path) => {
                let listener = bind_unix(path, SOCKET_MODE)?;
                Ok((Listener::Unix(listener), format!("unix:{}", path.display())))
            }
            ListenAddress::Stdin => from_descriptor(std::io::stdin().as_fd().try_clone_to_owned()?),
        };
        bound.map(Some)
    }
}

/// Whether the machine has no such address: IPv6 is not built in or not allowed to this process
/// (`EAFNOSUPPORT`), or no interface has it (`net.ipv6.conf.all.disable_ipv6`).
fn is_lacking(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Ip(address) => write!(f, "{address}"),
            ListenAddress::Loopback6(port) => write!(f, "[::1]:{port}"),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ListenAddress::Stdin => f.write_str("standard input"),
        }
    }
}

/// Listens at `path` with that mode, in place of a socket that nobody listens on any more; one that
/// answers is [`ErrorKind::AddrInUse`].
///
/// Bound where only this user may enter, given its mode, then renamed to its place: nobody can connect
/// while the mode is still the umask's, and there is no moment without a socket. Where others may enter
/// the directory of its place, that is in a fresh directory, which a full disk may have no block for.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let (parent, name) = can_bind_unix(path)?;
    let unfinished = format!(".openexec-{}", hex(&random::bytes()?));
    let bind_in = |private: &Dir, socket_name: &str| {
        let socket = private.at(socket_name)?;
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&socket, parent.at(name)?).inspect_err(|_| {
            let _ = private.remove(socket_name);
        })?;
        Ok(listener)
    };
    if parent.handle().metadata()?.permissions().mode() & 0o077 == 0 {
        return bind_in(&parent, &unfinished);
    }
    parent.make(&unfinished, 0o700)?;
    let bound = parent.child(&unfinished).and_then(|private| bind_in(&private, "socket"));
    let removed = parent.remove_dir(&unfinished);
    bound.and_then(|listener| removed.map(|()| listener))
}

/// Whether [`bind_unix`] could. Nothing is put in the place of a socket, which may be a service's that has started
/// meanwhile: this one has another name, and nobody is let in.
pub fn try_bind_unix(path: &Path) -> io::Result<()> {
    let (parent, _) = can_bind_unix(path)?;
    let unfinished = format!(".openexec-{}", hex(&random::bytes()?));
    UnixListener::bind(parent.at(&unfinished)?)?;
    parent.remove(&unfinished)
}

/// The directory of a socket at `path` and its name there, where [`bind_unix`] has a place. Nothing is changed.
pub fn can_bind_unix(path: &Path) -> io::Result<(Dir, &str)> {
    let refused = |kind, why| Err(io::Error::new(kind, format!("{}: {why}", path.display())));
    // `sun_path` holds so many (unix(7)); what is longer would be an unclear error much later.
    if std::os::unix::net::SocketAddr::from_pathname(path).is_err() {
        let why = "too long for a socket's address, which holds 107 bytes; use a shorter path";
        return refused(ErrorKind::InvalidInput, why);
    }
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::other("its path names no socket"))?;
    let parent = Dir::root(parent(path))?;
    let Some(found) = parent.look(name)? else { return Ok((parent, name)) };
    if !found.file_type().is_socket() {
        return refused(ErrorKind::AlreadyExists, "is there and is no socket");
    }
    // Only a connection tells a live socket from one left behind. Where the queue of those who wait is
    // full, the kernel would let us wait for as long as its owner likes.
    let socket = parent.at(name)?;
    let connected = within(CONNECT_MS, move || {
        #[allow(clippy::disallowed_methods, reason = "a socket that may be left behind")]
        UnixStream::connect(socket)
    });
    match connected.map_err(|error| (error.kind(), error)) {
        Err((ErrorKind::ConnectionRefused | ErrorKind::NotFound, _)) => Ok((parent, name)),
        // That its queue is full says so as well.
        Ok(_) | Err((ErrorKind::TimedOut, _)) => {
            refused(ErrorKind::AddrInUse, "another process listens there")
        }
        Err((_, error)) => Err(error),
    }
}

/// Does it on a thread of its own, which is left behind where it takes longer.
pub fn within<T: Send + 'static>(
    milliseconds: u64,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, waited_for) = sync_channel(1);
    std::thread::Builder::new().spawn(move || {
        let _ = done.send(work());
    })?;
    let ended = waited_for.recv_timeout(Duration::from_millis(milliseconds));
    ended.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// The listening socket that this descriptor is, TCP or Unix: each kind reads only its own address.
fn from_descriptor(descriptor: OwnedFd) -> io::Result<(Listener, String)> {
    // A connection has a peer; a listening socket has none.
    let stream = TcpStream::from(descriptor);
    if stream.peer_addr().is_ok() {
        return Err(not_listening());
    }
    let listener = TcpListener::from(OwnedFd::from(stream));
    if let Ok(address) = listener.local_addr() {
        listener.set_nonblocking(false)?;
        return Ok((Listener::Tcp(listener), address.to_string()));
    }
    let stream = UnixStream::from(OwnedFd::from(listener));
    if stream.peer_addr().is_ok() {
        return Err(not_listening());
    }
    let listener = UnixListener::from(OwnedFd::from(stream));
    let address = listener.local_addr().map_err(|_| not_listening())?;
    listener.set_nonblocking(false)?;
    let path = address.as_pathname().ok_or_else(not_listening)?;
    let bound = format!("unix:{}", path.display());
    Ok((Listener::Unix(listener), bound))
}

fn not_listening() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        "standard input is no listening socket (systemd: StandardInput=socket and Accept=no)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("openexec-listen-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn addresses_are_a_list() {
        let ip = |text: &str| ListenAddress::Ip(text.parse().unwrap());
        let unix = ListenAddress::Unix("/run/x".into());
        assert_eq!(ListenAddress::parse("stdin"), Ok(vec![ListenAddress::Stdin]));
        assert_eq!(ListenAddress::parse("unix:/run/x"), Ok(vec![unix.clone()]));
        let both = vec![ip("127.0.0.1:5000"), ip("[::1]:5000")];
        assert_eq!(ListenAddress::parse("127.0.0.1:5000, [::1]:5000"), Ok(both));
        let loopback = vec![ip("127.0.0.1:1"), ListenAddress::Loopback6(1), unix];
        assert_eq!(ListenAddress::parse("loopback:1,unix:/run/x"), Ok(loopback));
        for bad in [
            "",
            ",",
            "localhost:5000",
            "127.0.0.1",
            "unix:",
            "unix:x",
            "5000",
            "loopback",
            "loopback:",
            "loopback:x",
            "loopback:65536",
            "127.0.0.1:5000,",
            ",127.0.0.1:5000",
            "127.0.0.1:5000 [::1]:5000",
            "stdin,127.0.0.1:5000",
            "127.0.0.1:5000,stdin",
            "stdin,stdin",
            "[::1]:5000,[::1]:5000",
            "loopback:1,127.0.0.1:1",
            "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3,127.0.0.1:4,127.0.0.1:5,127.0.0.1:6,loopback:7,unix:/x",
        ] {
            assert!(ListenAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_machine_may_lack_is_told_from_what_it_refuses() {
        for lacking in [97, 99] {
            assert!(is_lacking(&io::Error::from_raw_os_error(lacking)), "{lacking}");
        }
        for refused in [1, 13, 22, 24, 98] {
            assert!(!is_lacking(&io::Error::from_raw_os_error(refused)), "{refused}");
        }
    }

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_replaced() {
        let path = scratch("stale");
        let address = ListenAddress::Unix(path.clone());
        let (first, bound) = address.bind().unwrap().unwrap();
        assert_eq!(ListenAddress::parse(&bound), Ok(vec![address.clone()]));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert_eq!(address.bind().unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        let (_second, _) = address.bind().unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(address.bind().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_is_said_so() {
        let path = scratch(&"x".repeat(120));
        let error = bind_unix(&path, SOCKET_MODE).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }

    #[test]
    fn a_descriptor_tells_what_it_is() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        let (listener, bound) = from_descriptor(OwnedFd::from(tcp)).unwrap();
        assert!(matches!(listener, Listener::Tcp(_)));
        assert_eq!(bound, address);
        let path = scratch("descriptor");
        let unix = UnixListener::bind(&path).unwrap();
        let (listener, bound) = from_descriptor(OwnedFd::from(unix)).unwrap();
        assert!(matches!(listener, Listener::Unix(_)));
        assert_eq!(bound, format!("unix:{}", path.display()));
        std::fs::remove_file(&path).unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(from_descriptor(OwnedFd::from(one)).is_err());
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(from_descriptor(OwnedFd::from(file)).is_err());
    }
}
