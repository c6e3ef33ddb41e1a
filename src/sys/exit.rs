//! The exit codes (sysexits.h) and the one error that ends the process.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;

/// The command line is wrong.
pub const USAGE: u8 = 64;
/// The data is wrong: a store, a record, a file.
pub const DATA: u8 = 65;
/// A bug of ours.
pub const BUG: u8 = 70;
/// Input or output failed.
pub const INPUT_OUTPUT: u8 = 74;
/// The store or the address is in use.
pub const IN_USE: u8 = 75;
/// The configuration is wrong.
pub const CONFIGURATION: u8 = 78;

/// Why the process ends: the code, and a sentence that names path, user or setting, and the mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    /// A literal is ours; what was formatted may hold what was received.
    pub text: Cow<'static, str>,
    /// What the text announces, if it announces a list.
    pub problems: Vec<String>,
}

pub fn usage(text: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(USAGE, text)
}

pub fn data(text: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(DATA, text)
}

pub fn configuration(text: impl Into<Cow<'static, str>>) -> Failure {
    Failure::new(CONFIGURATION, text)
}

impl Failure {
    pub fn new(code: u8, text: impl Into<Cow<'static, str>>) -> Self {
        Failure { code, text: text.into(), problems: Vec::new() }
    }

    /// What failed while `doing`; names the user where permissions may be the reason.
    pub fn io(doing: impl fmt::Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => configuration(format!(
                "{doing}: {error}; this process runs as user id {}: run it as the owner of that path, or give it the path (chown)",
                user_id()
            )),
            io::ErrorKind::StorageFull => Failure::new(
                INPUT_OUTPUT,
                format!("{doing}: {error}; make space on that file system"),
            ),
            _ => Failure::new(INPUT_OUTPUT, format!("{doing}: {error}")),
        }
    }

    /// The same, of whatever error comes.
    pub fn while_doing(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure::io(doing, &error)
    }

    /// A file or directory that a handler needs cannot be used. A full disk is 74, since it may have
    /// room when the service is started again; what a person has to mend is 78.
    pub fn unusable(path: &Path, error: &io::Error) -> Self {
        let (shown, user) = (path.display(), user_id());
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let text = format!("{shown}: {error}; make space on that file system");
            return Failure::new(INPUT_OUTPUT, text);
        }
        let mend = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("run chown {user} {shown}, and chmod u+rwx {shown}")
            }
            io::ErrorKind::NotFound => {
                format!("make the directory and give it to this user: install -d -o {user} {shown}")
            }
            io::ErrorKind::NotADirectory => {
                format!("it is not a directory of its own: mv {shown} {shown}.old")
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                format!("mount it to be written (systemd: ReadWritePaths={shown})")
            }
            io::ErrorKind::InvalidData => "let the worker end that job, or move it away".to_owned(),
            _ => format!("what handlers need there fails; find out why: ls -ld {shown}"),
        };
        let text = format!("{shown}: {error}; this process runs as user id {user}: {mend}");
        Failure::new(CONFIGURATION, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The process's user id, or -1 where the system does not say.
pub fn user_id() -> i64 {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self").metadata().map_or(-1, |metadata| metadata.uid().into())
}
