//! The password: of a file of its own (`OPENEXEC_DB_PASSWORD_FILE`), or of libpq's (`PGPASSFILE`; PostgreSQL, 34.16).
//! Read at each connection: it may be another by then.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::address::{Address, Host};

/// Bytes of such a file, at most.
const BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Clone)]
pub enum Password {
    /// The server asks for none, or knows this user by the socket.
    None,
    /// The whole of a file, less a newline.
    Alone(PathBuf),
    /// Lines of `host:port:database:user:password`.
    Table(PathBuf),
}

impl Password {
    /// What it is for this host; `None` where there is none.
    ///
    /// # Errors
    /// The file cannot be read, or others can.
    pub fn find(&self, address: &Address, host: &Host) -> Result<Option<String>, String> {
        match self {
            Password::None => Ok(None),
            Password::Alone(path) => {
                let text = read(path)?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                if text.is_empty() || text.contains(['\n', '\0']) {
                    return Err(format!("{} holds no password of one line", path.display()));
                }
                Ok(Some(text.to_owned()))
            }
            Password::Table(path) => {
                let name = if host.name.starts_with('/') { "localhost" } else { &host.name };
                let port = host.port.to_string();
                let wanted = [name, &port, &address.database, &address.user];
                Ok(read(path)?.lines().find_map(|line| of_line(line, &wanted)))
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let failed = |error| format!("{shown}: {error}");
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(format!("{shown} is not a regular file"));
    }
    let file = File::open(path).map_err(failed)?;
    // Its group may read: so Kubernetes mounts a secret.
    if file.metadata().map_err(failed)?.mode() & 0o037 != 0 {
        return Err(format!("{shown} is open to others; run chmod g-wx,o= {shown}"));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The password of a line whose first four fields are these, or a star; a backslash takes the next character as it is.
fn of_line(line: &str, wanted: &[&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let (mut fields, mut is_escaped) = (vec![String::new()], false);
    for character in line.chars() {
        match character {
            '\\' if !is_escaped => is_escaped = true,
            ':' if !is_escaped && fields.len() < 5 => fields.push(String::new()),
            other => {
                fields.last_mut()?.push(other);
                is_escaped = false;
            }
        }
    }
    let [of @ .., password] = fields.as_slice() else { return None };
    let is_it = of.len() == 4
        && of.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
    is_it.then(|| password.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_whom_it_names() {
        let wanted = ["h", "5432", "d", "u"];
        for (line, password) in [
            ("h:5432:d:u:secret", Some("secret")),
            ("*:*:*:*:a\\:b\\\\c", Some("a:b\\c")),
            ("*:*:*:u:a:b", Some("a:b")),
            ("h:5433:d:u:secret", None),
            ("h:5432:e:u:secret", None),
            ("h:5432:d:v:secret", None),
            ("#h:5432:d:u:secret", None),
            ("h:5432:d:u", None),
            ("\\*:5432:d:v:secret", None),
            ("", None),
        ] {
            assert_eq!(of_line(line, &wanted).as_deref(), password, "{line}");
        }
    }
}
