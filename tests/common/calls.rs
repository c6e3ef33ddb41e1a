//! Calls of the built-in handlers, without a service.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use openexec::core::hash::{hex, sha256};
use openexec::core::json::{Object, Value, canonical};
use openexec::handlers::{
    Call, Failure, HANDLERS, Handler, PayloadError, Settings, find, place, result_schema,
};

use super::Scratch;

/// A directory with an empty outbox, in memory where there is such a place.
pub fn scratch() -> Scratch {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let scratch = Scratch::below(&parent);
    fs::create_dir(scratch.join("outbox")).unwrap();
    scratch
}

/// The outbox and the files directory are `outbox` and `files` in it.
pub fn settings(scratch: &Scratch) -> Settings {
    Settings {
        outbox_dir: Some(scratch.join("outbox")),
        files_dir: Some(scratch.join("files")),
        actions: HANDLERS.iter().map(|handler| handler.action).collect(),
    }
}

pub fn handler(action: &str) -> &'static Handler {
    find(HANDLERS, action).unwrap()
}

pub fn object(value: &Value) -> &Object {
    value.as_object().unwrap()
}

/// An id as an execution has it.
pub fn id(of: &str) -> String {
    hex(&sha256(&[of.as_bytes()]))
}

pub fn check(action: &str, payload: &Value) -> Result<(), PayloadError> {
    let actions = HANDLERS.iter().map(|handler| handler.action).collect();
    (handler(action).check)(object(payload), &Settings { actions, ..Settings::default() })
}

/// Runs the action under the id of `nonce`, with one approval, and holds the result to its limit.
pub fn run(
    scratch: &Scratch,
    action: &str,
    payload: &Value,
    nonce: &str,
    again: bool,
) -> Result<Value, Failure> {
    let handler = handler(action);
    // As at start; a directory that is missing is for the handler to find.
    let place = (handler.place)(&settings(scratch)).and_then(|path| place::establish(&path).ok());
    let call = Call {
        id: &id(nonce),
        action,
        nonce,
        payload: object(payload),
        approval_ids: &["12345678-1234-1234-1234-123456789012".to_owned()],
        place: place.as_deref(),
        again,
    };
    let result = Value::Object((handler.run)(&call, &settings(scratch))?);
    assert!(canonical::to_string(&result).len() <= handler.result_bytes_max);
    assert_as_told(handler, &result);
    Ok(result)
}

/// Holds a result to the handler's schema of it, by an independent validator.
#[track_caller]
pub fn assert_as_told(handler: &Handler, result: &Value) {
    let (mut compiler, mut schemas) = (boon::Compiler::new(), boon::Schemas::new());
    compiler.add_resource("result.json", result_schema(handler).unwrap()).unwrap();
    let index = compiler.compile("result.json", &mut schemas).unwrap();
    let judged = schemas.validate(result, index).map_err(|error| error.to_string());
    assert_eq!(judged, Ok(()), "{} {result}", handler.action);
}

#[track_caller]
pub fn assert_failed(result: Result<Value, Failure>) {
    assert!(matches!(result, Err(Failure::Failed(_))), "{result:?}");
}

#[track_caller]
pub fn assert_unknown(result: Result<Value, Failure>) {
    assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}");
}

/// Every name under `path`, with its kind, link target, mode and content, but the marker of a place.
pub fn tree(path: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with(place::MARKER) {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mut about = format!("{:o}", metadata.mode());
        if metadata.is_dir() {
            seen.extend(tree(&path));
        } else if metadata.is_symlink() {
            about += &format!(" {:?}", fs::read_link(&path).unwrap());
        } else if metadata.is_file() {
            about += &format!(" {:?}", fs::read(&path).unwrap());
        }
        seen.insert(path, about);
    }
    seen
}

/// The rows of a data file in `tests/vectors/handlers`.
pub fn vectors(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/vectors/handlers/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
