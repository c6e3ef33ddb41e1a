//! `write_file` and `delete_file`: text files below `OPENEXEC_FILES_DIR`, and nothing else.
//!
//! Invariant: one name below that directory is made, replaced or removed, or nothing is; see
//! [`super::confined`] for why no link leads elsewhere. A regular file is replaced by a new one
//! under its name: what reads the old one goes on reading it, and its other names (hard links),
//! which may lie outside, keep the old content. The new file has the permission bits of the one it
//! replaces, else 0640 less the umask; owner and attributes are those of any new file.
//!
//! Order of system calls: open the directories of the path one by one, look at the target and
//! decide; for a write create `.openexec-<id>` beside it, `write`, `fsync`, look and decide again,
//! then `rename` it to its name (`link` and `unlink` for `create_only`, so that the kernel itself
//! refuses to replace); for a deletion `unlink`; then `fsync` the directory. Between the last look
//! and the `rename` or `unlink` a stranger has some microseconds to change the target unnoticed
//! (Linux cannot rename on a condition); other executions cannot, there is one at a time.
//!
//! What the target is found to be, against what the request asks and requires:
//!
//! | the target is | nothing required | `create_only` | `if_sha256` |
//! | --- | --- | --- | --- |
//! | as asked (a deletion asks for nothing) | success | success | success |
//! | nothing | written | written | refused |
//! | the file that `if_sha256` names | written, deleted | refused | written, deleted |
//! | another regular file | written, deleted | refused | refused |
//! | a link, directory, device, FIFO, socket; or a parent is missing or no directory | refused | refused | refused |
//!
//! A second run (`again`) with nothing required changes nothing: it succeeds where the target is as
//! asked, and refuses everything else, a target that is missing too. Nobody knows whether the first run
//! had done it and somebody else has been there since, or had not. A request that names what it
//! expects can be repeated.
//!
//! *Success* writes nothing, and syncs what is there. *Refused* is `Failed`, and in a second run
//! `Unknown`. The same goes for an error before the `rename`, `link` or `unlink`; after it may have
//! begun it is `Unknown`.

use serde_json::json;

use super::confined::{
    COMPARED_BYTES_MAX, Dir, Found, NAME_BYTES_MAX, TEMPORARY, is_name, must_be, not_changed,
    temporary,
};
use super::schema::Schema;
use super::{Call, Effect, Failure, Handler, Payload, PayloadError, Settings, Unusable};
use crate::core::hash::{Hash, hex, sha256, unhex};
use crate::core::json::{Object, Value, object};
use crate::core::limits::PAYLOAD_BYTES_MAX;

const PATH_BYTES_MAX: usize = 1024;
/// A path of quotes, each escaped, and the fixed parts.
const RESULT_BYTES_MAX: usize = 2 * PATH_BYTES_MAX + 256;

static WRITE_SCHEMA: Schema = Schema::of(WRITE_FILE.payload_schema, &["not", "dependentSchemas"]);
static DELETE_SCHEMA: Schema = Schema::of(DELETE_FILE.payload_schema, &["not"]);

pub const WRITE_FILE: Handler = Handler {
    action: "write_file",
    summary: "Makes or replaces a text file.",
    effect: Effect::Idempotent,
    payload_schema: include_str!("schemas/write_file.json"),
    result_schema: include_str!("schemas/written.json"),
    result_bytes_max: RESULT_BYTES_MAX,
    offered: |settings| {
        let missing = "set OPENEXEC_FILES_DIR to the directory whose files may be changed";
        settings.files_dir.as_ref().map(drop).ok_or(missing)
    },
    ready,
    check: &|payload, _| Request::read(payload, &WRITE_SCHEMA).map(drop),
    place: |settings| settings.files_dir.clone(),
    run: &|call, settings| run(call, settings, &WRITE_SCHEMA),
};

pub const DELETE_FILE: Handler = Handler {
    action: "delete_file",
    summary: "Removes a file.",
    payload_schema: include_str!("schemas/delete_file.json"),
    result_schema: include_str!("schemas/deleted.json"),
    check: &|payload, _| Request::read(payload, &DELETE_SCHEMA).map(drop),
    run: &|call, settings| run(call, settings, &DELETE_SCHEMA),
    ..WRITE_FILE
};

/// The directories below are the operator's, and as many as he likes: only the one above is tried.
fn ready(settings: &Settings) -> Result<(), Unusable> {
    let Some(path) = &settings.files_dir else { return Ok(()) };
    let tried = Dir::root(path).and_then(|dir| dir.try_out(PAYLOAD_BYTES_MAX));
    tried.map_err(|error| Unusable { path: path.clone(), error })
}

fn run(call: &Call, settings: &Settings, schema: &Schema) -> Result<Object, Failure> {
    Request::read(call.payload, schema)
        .map_err(|error| call.failure(error.0))?
        .perform(call, settings)
}

struct Request<'a> {
    path: &'a str,
    /// What the file is to hold; `None`: there is to be none.
    content: Option<&'a str>,
    requires: Requires,
}

enum Requires {
    Anything,
    Nothing,
    Sha256(Hash),
}

/// What a look at the target leads to.
enum Next<'a> {
    /// It is as asked; the file, if one was asked for, with it.
    Done(Found<'a>),
    /// Go on; the permission bits of the file that is there.
    Go(Option<u32>),
    Refuse(String),
}

impl<'a> Request<'a> {
    fn read(payload: &'a Payload, schema: &Schema) -> Result<Self, PayloadError> {
        schema.check(payload)?;
        let text = |name: &str| payload.get(name).and_then(Value::as_str);
        let path = text("path").filter(|path| is_path(path)).ok_or_else(|| {
            PayloadError(format!(
                "path must be relative, of {PATH_BYTES_MAX} bytes at most, of names of 1 to \
                 {NAME_BYTES_MAX} bytes, none of them . or .. or beginning with {TEMPORARY}"
            ))
        })?;
        let create_only = payload.get("create_only") == Some(&Value::Bool(true));
        let requires = match (text("if_sha256").and_then(unhex), create_only) {
            (None, false) => Requires::Anything,
            (None, true) => Requires::Nothing,
            (Some(hash), false) => Requires::Sha256(hash),
            (Some(_), true) => {
                let sentence = "create_only and if_sha256 cannot both hold";
                return Err(PayloadError(sentence.to_owned()));
            }
        };
        Ok(Request { path, content: text("content"), requires })
    }

    fn perform(&self, call: &Call, settings: &Settings) -> Result<Object, Failure> {
        let (dir, name) = self.walk(call, settings)?;
        let temporary = temporary(call.id);
        if call.again {
            // What the first run left unfinished; if it cannot be removed, `create` says so.
            let _ = dir.remove(&temporary);
        }
        let mut next = self.look(call, &dir, name);
        let mut created = false;
        if let (Next::Go(mode), Some(content)) = (&next, self.content) {
            dir.create_with(&temporary, content.as_bytes(), *mode)
                .map_err(|error| call.failure(format!("the file cannot be written: {error}")))?;
            created = true;
            // Writing and syncing took a while, in which somebody may have changed the target.
            next = self.look(call, &dir, name);
        }
        let done = match next {
            Next::Go(_) => self.change(call, &dir, &temporary, name),
            Next::Refuse(sentence) => Err(call.failure(sentence)),
            Next::Done(Found::File(file)) => file.sync().map_err(|error| {
                call.failure(format!("the file that is there cannot be synced: {error}"))
            }),
            Next::Done(_) => Ok(()),
        };
        if created {
            // Gone already, if it was renamed.
            let _ = dir.remove(&temporary);
        }
        done?;
        dir.sync().map_err(|error| {
            Failure::Unknown(format!("the file's directory cannot be synced: {error}"))
        })?;
        Ok(self.result())
    }

    /// The directory that holds the target, and the target's name.
    fn walk(&self, call: &Call, settings: &Settings) -> Result<(Dir, &'a str), Failure> {
        let root = settings.files_dir.as_deref().unwrap_or("".as_ref());
        let mut dir = Dir::root(root).map_err(|error| {
            call.failure(format!("OPENEXEC_FILES_DIR cannot be opened: {error}"))
        })?;
        must_be(&dir, call)?;
        let mut names = self.path.split('/');
        let name = names.next_back().unwrap_or_default();
        for parent in names {
            dir = dir.child(parent).map_err(|error| {
                let sentence = "in the path is no directory that can be opened";
                call.failure(format!("{parent:?} {sentence}: {error}"))
            })?;
        }
        Ok((dir, name))
    }

    /// The table above, less its last column's row of parents.
    fn look<'d>(&self, call: &Call, dir: &'d Dir, name: &str) -> Next<'d> {
        let found = match dir.find(name) {
            Ok(found) => found,
            Err(error) => return Next::Refuse(format!("the target cannot be looked at: {error}")),
        };
        let file = match (&found, self.content) {
            (Found::Other, _) => {
                return Next::Refuse("the target is a link or no regular file".to_owned());
            }
            (Found::Nothing, None) => return Next::Done(found),
            (Found::File(file), Some(content)) if file.holds(content.as_bytes()) => {
                return Next::Done(found);
            }
            (Found::Nothing, Some(_)) => None,
            (Found::File(file), _) => Some(file),
        };
        let mode = file.map(|file| file.mode);
        match (&self.requires, file) {
            (Requires::Anything, _) if call.again => Next::Refuse(
                "the first run may have done it and somebody else have changed it since".to_owned(),
            ),
            (Requires::Anything, _) | (Requires::Nothing, None) => Next::Go(mode),
            (Requires::Nothing, Some(_)) => Next::Refuse("the file exists".to_owned()),
            (Requires::Sha256(_), None) => Next::Refuse("there is no file".to_owned()),
            (Requires::Sha256(hash), Some(file)) => match file.read() {
                Ok(content) if sha256(&[&content]) == *hash => Next::Go(mode),
                Ok(_) => Next::Refuse("the file is not the one that if_sha256 names".to_owned()),
                Err(error) => Next::Refuse(format!(
                    "the file cannot be compared ({COMPARED_BYTES_MAX} bytes at most): {error}"
                )),
            },
        }
    }

    fn change(&self, call: &Call, dir: &Dir, temporary: &str, name: &str) -> Result<(), Failure> {
        let changed = match (self.content, &self.requires) {
            (None, _) => dir.remove(name),
            (Some(_), Requires::Nothing) => dir.link(temporary, name),
            (Some(_), _) => dir.rename(temporary, name),
        };
        changed.map_err(|error| not_changed(call, &error, "the target cannot be changed"))
    }

    /// A function of the request alone.
    fn result(&self) -> Object {
        match self.content {
            None => object([("deleted", json!({ "path": self.path }))]),
            Some(content) => {
                let hash = hex(&sha256(&[content.as_bytes()]));
                let about = json!({"path": self.path, "bytes": content.len(), "sha256": hash});
                object([("written", about)])
            }
        }
    }
}

fn is_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX && path.split('/').all(|name| is_name(name) && !is_ours(name))
}

/// Whether a name is one of ours: an unfinished file's, or the marker's. In any case, since on a file
/// system that ignores case they are the same; some ignore invisible characters, too, none of them ASCII.
fn is_ours(name: &str) -> bool {
    let ascii = name.chars().filter(char::is_ascii).take(TEMPORARY.len());
    ascii.collect::<String>().eq_ignore_ascii_case(TEMPORARY)
}
