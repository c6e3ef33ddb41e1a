//! `OPENEXEC_DB_URL`: where the database is, and as whom.
//!
//! ```text
//! postgresql://openexec@db1,db2:5433/openexec?sslmode=verify-full&sslrootcert=/etc/openexec/ca.pem
//! postgresql://openexec@/openexec?host=/run/postgresql
//! ```
//!
//! The form is libpq's (PostgreSQL, 34.1.1.2), of which only what stands above is taken: a word that would be ignored
//! here might have meant safety there.

use std::path::PathBuf;

const PORT: u16 = 5432;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub user: String,
    pub database: String,
    /// At least one, in the order in which they are tried.
    pub hosts: Vec<Host>,
    pub tls: Tls,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or the directory of a socket, which begins with a slash.
    pub name: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Only over a socket or loopback.
    Off,
    /// The server's certificate is for its name, and signed by one of these (`verify-full`).
    Verified { roots: PathBuf },
}

impl Host {
    /// Whether nobody else is on the way there.
    fn is_here(&self) -> bool {
        let is_loopback = |ip: std::net::IpAddr| ip.is_loopback();
        self.name.starts_with('/')
            || self.name.parse().is_ok_and(is_loopback)
            || self.name == "localhost"
    }
}

/// Reads the URL.
///
/// # Errors
/// What is wrong with it, and what to do; never what it holds, which may be a password.
pub fn parse(url: &str) -> Result<Address, String> {
    let rest = ["postgresql://", "postgres://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or("must begin with postgresql:// (files are served by `openexec`)")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').ok_or("names no user; write user@host")?;
    if user.contains(':') {
        return Err(
            "holds a password; put it into a file and set OPENEXEC_DB_PASSWORD_FILE".to_owned()
        );
    }
    let mut parameters = Parameters::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.take(name, decoded(value)?)?;
    }
    let hosts = match (&parameters.host, hosts) {
        (Some(named), "") => named.as_str(),
        (None, hosts) if !hosts.is_empty() => hosts,
        _ => return Err("must name its hosts once: before the slash, or as host=".to_owned()),
    };
    let mut hosts = hosts.split(',').map(host).collect::<Result<Vec<Host>, String>>()?;
    // `a,b:5433` means 5433 of both, as there is one port.
    if let [before @ .., last] = hosts.as_mut_slice()
        && before.iter().all(|host| host.port == 0)
    {
        let port = if last.port == 0 { PORT } else { last.port };
        before.iter_mut().for_each(|host| host.port = port);
        last.port = port;
    }
    if hosts.iter().any(|host| host.port == 0) {
        return Err("gives some hosts a port and others none".to_owned());
    }
    let address = Address {
        user: named(user, "user")?,
        database: named(database, "database")?,
        tls: parameters.tls(hosts.iter().all(Host::is_here))?,
        hosts,
    };
    Ok(address)
}

#[derive(Default)]
struct Parameters {
    host: Option<String>,
    mode: Option<String>,
    roots: Option<String>,
}

impl Parameters {
    fn take(&mut self, name: &str, value: String) -> Result<(), String> {
        let place = match name {
            "host" => &mut self.host,
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.roots,
            "password" => {
                return Err("holds a password; put it into OPENEXEC_DB_PASSWORD_FILE".to_owned());
            }
            _ => return Err("has a parameter other than host, sslmode and sslrootcert".to_owned()),
        };
        if place.replace(value).is_some() {
            return Err(format!("has {name} twice"));
        }
        Ok(())
    }

    fn tls(self, is_here: bool) -> Result<Tls, String> {
        match (self.mode.as_deref(), self.roots) {
            (None | Some("disable"), None) if is_here => Ok(Tls::Off),
            (None | Some("verify-full"), Some(roots)) => Ok(Tls::Verified { roots: roots.into() }),
            (None | Some("verify-full"), None) => {
                Err("needs sslrootcert=/path/of/ca.pem, by which the server is verified".to_owned())
            }
            (Some("disable"), _) => {
                Err("has sslmode=disable, which only a socket or loopback may have".to_owned())
            }
            (Some(_), _) => Err("has another sslmode than verify-full".to_owned()),
        }
    }
}

/// A port of 0 stands for none.
fn host(text: &str) -> Result<Host, String> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, ""),
        Some((name, port)) => (name, port.strip_prefix(':').ok_or("has a host that is none")?),
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    let port = match port {
        "" => 0,
        port => port.parse().ok().filter(|port| *port != 0).ok_or("has a port that is none")?,
    };
    Ok(Host { name: named(name, "host")?, port })
}

fn named(text: &str, what: &str) -> Result<String, String> {
    let text = decoded(text)?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("names no {what}"));
    }
    Ok(text)
}

/// RFC 3986, section 2.1.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let escape = digit().zip(digit()).map(|(high, low)| (high * 16 + low) as u8);
        bytes.push(escape.ok_or("has a % that begins no escape")?);
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[(&str, u16)]) -> Vec<Host> {
        names.iter().map(|(name, port)| Host { name: (*name).to_owned(), port: *port }).collect()
    }

    #[test]
    fn what_a_url_says() {
        let roots = || Tls::Verified { roots: "/ca.pem".into() };
        for (url, expected, tls) in [
            ("postgresql://u@127.0.0.1/d", hosts(&[("127.0.0.1", 5432)]), Tls::Off),
            ("postgres://u@localhost:1/d?sslmode=disable", hosts(&[("localhost", 1)]), Tls::Off),
            ("postgresql://u@/d?host=/run/pg", hosts(&[("/run/pg", 5432)]), Tls::Off),
            ("postgresql://u@/d?host=%2Frun", hosts(&[("/run", 5432)]), Tls::Off),
            ("postgresql://u@a,b:7/d?sslrootcert=/ca.pem", hosts(&[("a", 7), ("b", 7)]), roots()),
            (
                "postgresql://u@a:6,b:7/d?sslmode=verify-full&sslrootcert=/ca.pem",
                hosts(&[("a", 6), ("b", 7)]),
                roots(),
            ),
            ("postgresql://u@[::1]:7/d", hosts(&[("::1", 7)]), Tls::Off),
            (
                "postgresql://u@127.0.0.1/d?sslrootcert=/ca.pem",
                hosts(&[("127.0.0.1", 5432)]),
                roots(),
            ),
        ] {
            let user = "u".to_owned();
            let expected = Address { user, database: "d".to_owned(), hosts: expected, tls };
            assert_eq!(parse(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn whatever_could_mean_less_safety_is_refused_and_not_repeated() {
        for url in [
            "file:/x",
            "mysql://u@h/d",
            "postgresql://h/d",
            "postgresql://u:secret@127.0.0.1/d",
            "postgresql://u@127.0.0.1/d?password=secret",
            "postgresql://u@db/d",
            "postgresql://u@db/d?sslmode=require",
            "postgresql://u@db/d?sslmode=verify-ca&sslrootcert=/ca.pem",
            "postgresql://u@db/d?sslmode=prefer&sslrootcert=/ca.pem",
            "postgresql://u@db/d?sslmode=disable",
            "postgresql://u@db/d?sslmode=disable&sslrootcert=/ca.pem",
            "postgresql://u@db,127.0.0.1/d",
            "postgresql://u@127.0.0.1/",
            "postgresql://u@127.0.0.1",
            "postgresql://@127.0.0.1/d",
            "postgresql://u@/d",
            "postgresql://u@a/d?host=b&sslrootcert=/ca.pem",
            "postgresql://u@127.0.0.1:0/d",
            "postgresql://u@127.0.0.1:x/d",
            "postgresql://u@127.0.0.1:70000/d",
            "postgresql://u@a:1,b/d?sslrootcert=/ca.pem",
            "postgresql://u@127.0.0.1/d?options=-csynchronous_commit%3Doff",
            "postgresql://u@127.0.0.1/d?sslmode=disable&sslmode=disable",
            "postgresql://u@127.0.0.1/%zz",
            "postgresql://u@127.0.0.1/%00",
            "postgresql://u@127.0.0.1/%ff",
        ] {
            let why = parse(url).expect_err(url);
            assert!(!why.is_empty() && !why.contains("secret"), "{url}: {why}");
        }
    }
}
