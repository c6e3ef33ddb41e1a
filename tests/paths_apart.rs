//! No path of the configuration lies within another's directory, however it is spelt: what a handler may
//! write there, or an approver leave there, must not become the store, a key or the socket.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "what tests share does")]

mod common;

use std::fs::create_dir;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::Scratch;
use openexec::handlers::HANDLERS;
use openexec::serve::config::{self, Environment, Problems};

/// Settings that name a directory, then those that name a file or a socket.
const DIRECTORIES: [&str; 4] =
    ["OPENEXEC_DB_URL", "OPENEXEC_OUTBOX_DIR", "OPENEXEC_FILES_DIR", "OPENEXEC_APPROVALS_DIR"];
const FILES: [&str; 5] = [
    "OPENEXEC_KEYS_FILE",
    "CLAWSHIELD_PUBLIC_KEY_FILE",
    "OPENEXEC_CHECKPOINT_FILE",
    "OPENEXEC_LOG_KEY_FILE",
    "OPENEXEC_LISTEN",
];

fn value(name: &str, path: &Path) -> String {
    let scheme = match name {
        "OPENEXEC_DB_URL" => "file:",
        "OPENEXEC_LISTEN" => "unix:",
        _ => "",
    };
    format!("{scheme}{}", path.display())
}

/// What is said of paths with every setting at a place of its own, but those given.
fn said(scratch: &Scratch, other: &[(&str, &Path)]) -> Vec<String> {
    let mut environment: Environment = DIRECTORIES
        .iter()
        .chain(&FILES)
        .map(|name| ((*name).to_owned(), value(name, &scratch.join(name).join("own"))))
        .collect();
    environment.insert("OPENEXEC_MODE".to_owned(), "clawshield".to_owned());
    for (name, path) in other {
        environment.insert((*name).to_owned(), value(name, path));
    }
    let Err(Problems(problems)) = config::read(&environment, HANDLERS) else {
        panic!("two settings of keys, and none of a tenant");
    };
    problems.into_iter().filter(|problem| problem.contains(" lies within ")).collect()
}

#[test]
fn every_pair_however_it_is_spelt() {
    let scratch = Scratch::new();
    for name in DIRECTORIES.iter().chain(&FILES) {
        create_dir(scratch.join(name)).expect("made");
    }
    for name in DIRECTORIES {
        create_dir(scratch.join(name).join("own")).expect("made");
    }
    create_dir(scratch.join("elsewhere")).expect("made");
    assert_eq!(said(&scratch, &[]), [""; 0]);
    for outer in DIRECTORIES {
        let above = scratch.join(outer).join("own");
        let link = scratch.join(&format!("link-to-{outer}"));
        symlink(&above, &link).expect("linked");
        let chain = scratch.join(&format!("chain-to-{outer}"));
        symlink(Path::new(".").join(link.file_name().expect("a name")), &chain).expect("linked");
        let out = above.join("out");
        symlink(scratch.join("elsewhere"), &out).expect("linked");
        let spellings: [(&str, PathBuf); 7] = [
            ("in it", above.join("x")),
            ("deep in it", above.join("a/b/x")),
            ("with dots", scratch.join("elsewhere/..").join(outer).join("./own/y/../x")),
            ("through a link", link.join("x")),
            ("through a link to a link", chain.join("x")),
            ("back from a link's target", link.join("../own/x")),
            ("through a link that can be changed", out.join("x")),
        ];
        for inner in DIRECTORIES.iter().chain(&FILES).filter(|inner| **inner != outer) {
            let wanted = format!("{inner} lies within {outer} (");
            for (how, path) in &spellings {
                let said = said(&scratch, &[(inner, path)]);
                assert!(said.len() == 1 && said[0].starts_with(&wanted), "{how}: {said:?}");
            }
        }
        // The same directory twice is said once.
        for other in DIRECTORIES.iter().filter(|other| **other != outer) {
            assert_eq!(said(&scratch, &[(other, &above)]).len(), 1, "{other} is {outer}");
            assert_eq!(said(&scratch, &[(other, &link)]).len(), 1, "{other} is {outer}");
        }
    }
}

#[test]
fn what_only_looks_alike_is_apart() {
    let scratch = Scratch::new();
    for name in DIRECTORIES.iter().chain(&FILES) {
        create_dir(scratch.join(name)).expect("made");
    }
    for outer in DIRECTORIES {
        let above = scratch.join(outer).join("own");
        for inner in DIRECTORIES.iter().chain(&FILES).filter(|inner| **inner != outer) {
            let beside = scratch.join(outer).join("own-too");
            for path in [&beside, &above.join("../own.x"), &above.join("x/../../x")] {
                assert_eq!(said(&scratch, &[(inner, path)]), [""; 0], "{inner}: {path:?}");
            }
        }
    }
}

/// The service makes it there, and renames it.
#[test]
fn what_the_checkpoint_file_is_made_of_is_apart_too() {
    let scratch = Scratch::new();
    for name in DIRECTORIES.iter().chain(&FILES) {
        create_dir(scratch.join(name)).expect("made");
    }
    let of_it = scratch.join("OPENEXEC_CHECKPOINT_FILE/own.tmp");
    for name in DIRECTORIES.iter().chain(&FILES).filter(|name| !name.contains("CHECKPOINT")) {
        let said = said(&scratch, &[(name, &of_it)]);
        assert!(said.len() == 1 && said[0].contains(name), "{name}: {said:?}");
        assert!(said[0].contains("OPENEXEC_CHECKPOINT_FILE"), "{name}: {said:?}");
    }
}
