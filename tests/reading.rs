//! READING.md: each file that it lists is there, has the lines that it says, and stands in it once; what it does not
//! list lies in a directory that it names; and each room uses those alone that it may. `OPENEXEC_WRITE_READING=1 cargo test --test reading` writes the counts anew.

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Lines of code: neither blank nor a comment, up to the first test module.
fn count(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let code = text.lines().map(str::trim).take_while(|line| !line.starts_with("#[cfg(test)]"));
    code.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.strip_prefix(root()).expect("below").to_owned());
        }
    }
    found.sort();
}

/// The rows "| `src/…` | N | …": the path as it stands there, and N.
fn rows(page: &str) -> Vec<(String, usize)> {
    let row = |line: &str| {
        let (path, rest) = line.strip_prefix("| `src/")?.split_once("` | ")?;
        let (number, _) = rest.split_once(" |")?;
        Some((format!("src/{path}"), number.parse().expect("a count")))
    };
    page.lines().filter_map(row).collect()
}

/// Of a directory (a path that ends with a slash): all below it that has no row of its own.
fn counted(path: &str, all: &[PathBuf], listed: &[String]) -> usize {
    if !path.ends_with('/') {
        return count(&root().join(path));
    }
    let below = all.iter().filter(|file| file.starts_with(path));
    let unlisted = below.filter(|file| !listed.iter().any(|row| Path::new(row) == *file));
    // A deeper directory with a row of its own counts there.
    let deeper = |file: &Path| {
        listed
            .iter()
            .any(|row| row.len() > path.len() && row.ends_with('/') && file.starts_with(row))
    };
    unlisted.filter(|file| !deeper(file)).map(|file| count(&root().join(file))).sum()
}

#[test]
fn every_count_is_true_and_every_file_has_its_place() {
    let file = root().join("READING.md");
    let mut page = std::fs::read_to_string(&file).expect("READING.md");
    let mut all = Vec::new();
    sources(&root().join("src"), &mut all);
    let listed: Vec<String> = rows(&page).into_iter().map(|(path, _)| path).collect();
    let write = std::env::var_os("OPENEXEC_WRITE_READING").is_some();
    for (path, said) in rows(&page) {
        let is = counted(&path, &all, &listed);
        if write {
            page = page.replace(&format!("| `{path}` | {said} |"), &format!("| `{path}` | {is} |"));
        } else {
            assert_eq!(said, is, "{path}: READING.md has another count; write it anew");
        }
        assert_eq!(listed.iter().filter(|other| **other == path).count(), 1, "{path} stands twice");
    }
    if write {
        std::fs::write(&file, page).expect("written");
    }
    for file in &all {
        let has_place = listed
            .iter()
            .any(|row| Path::new(row) == file || row.ends_with('/') && file.starts_with(row));
        assert!(has_place, "READING.md does not lead to {}", file.display());
    }
}

/// Each room, and those that its files may name. The longest path that fits a file is its room.
const ROOMS: &[(&str, &[&str])] = &[
    ("src/core/", &["core"]),
    ("src/sys/", &["core", "sys"]),
    ("src/sys/disk.rs", &["core", "sys", "store"]),
    ("src/store/", &["core", "sys", "store"]),
    ("src/executor/", &["core", "sys", "store", "executor"]),
    ("src/handlers/", &["core", "sys", "handlers"]),
    ("src/evidence/", &["core", "sys", "store", "evidence"]),
    ("src/serve/", &["core", "sys", "store", "executor", "handlers", "evidence", "serve"]),
    ("src/cli/", &["core", "sys", "store", "executor", "handlers", "evidence", "serve", "cli"]),
    // The root itself, which names them without `crate::`.
    ("src/lib.rs", &[]),
    ("src/main.rs", &["handlers", "main"]),
];

/// What a text of code names below the root: after `crate::` or `openexec::`, and after as many `super::` as lead
/// there from a module so deep. `{` and `*` are named, too: they could hide any.
fn named(code: &str, depth: usize) -> Vec<String> {
    let to_root = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", "openexec::", &to_root] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            let word: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            found.push(if word.is_empty() { rest.chars().take(1).collect() } else { word });
        }
    }
    found
}

/// The code of a file without comments and tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(root().join(path)).expect("a source");
    let lines = text.lines().take_while(|line| !line.trim().starts_with("#[cfg(test)]"));
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_room_uses_only_those_that_it_may() {
    let mut all = Vec::new();
    sources(&root().join("src"), &mut all);
    let mut used = std::collections::BTreeSet::new();
    for file in &all {
        let is_it = |(room, _): &&(&str, &[&str])| file.to_string_lossy().starts_with(room);
        let room = ROOMS.iter().filter(is_it).max_by_key(|(room, _)| room.len());
        let (room, allowed) = room.unwrap_or_else(|| panic!("{} has no room", file.display()));
        // `src/core/json/mod.rs` is the module `core::json`: two steps above is the root.
        let is_directory = file.file_name().is_some_and(|name| name == "mod.rs");
        let depth = file.components().count() - 1 - usize::from(is_directory);
        for name in named(&code(file), depth) {
            assert!(allowed.contains(&name.as_str()), "{} uses {name}", file.display());
            used.insert((*room, name));
        }
    }
    // A permission that nobody needs is taken away.
    for (room, allowed) in ROOMS {
        for name in *allowed {
            let own = room.strip_prefix("src/").is_some_and(|path| path.starts_with(name));
            assert!(own || used.contains(&(*room, (*name).to_owned())), "{room} never uses {name}");
        }
    }
}

#[test]
fn a_room_cannot_be_named_unseen() {
    for (text, depth, name) in [
        ("use crate::serve::gate;", 2, "serve"),
        ("use crate::{serve, core};", 2, "{"),
        ("use crate::*;", 2, "*"),
        ("let a = super::super::cli::main();", 2, "cli"),
        ("openexec::handlers::find(all)", 3, "handlers"),
    ] {
        assert_eq!(named(text, depth), [name], "{text}");
    }
    assert_eq!(named("use super::hash;", 2), [""; 0]);
}

/// The core computes: of the standard library it names nothing that asks the system or waits.
#[test]
fn the_core_asks_no_system() {
    let mut all = Vec::new();
    sources(&root().join("src/core"), &mut all);
    assert!(all.len() > 20, "the core has files");
    for file in &all {
        let code = code(file);
        for word in
            ["std::fs", "std::net", "std::env", "std::process", "std::thread", "std::os", "::now("]
        {
            assert!(!code.contains(word), "{} has {word}", file.display());
        }
    }
}

/// The trusted core, at most; it is to be 5,000.
const TRUSTED_LINES_MAX: usize = 6_940;
/// All of `src/`, at most; it is to be 13,000.
const LINES_MAX: usize = 19_644;
/// One file with its comments and tests, of each package. What one can hold in the head.
const FILE_LINES_MAX: usize = 500;

#[test]
fn no_file_is_longer_than_one_can_hold_in_the_head() {
    for package in ["src", "approver/src", "postgres/src"] {
        let mut all = Vec::new();
        sources(&root().join(package), &mut all);
        assert!(!all.is_empty(), "{package}");
        for file in all {
            let text = std::fs::read_to_string(root().join(&file)).expect("read");
            let lines = text.lines().count();
            assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", file.display());
        }
    }
}

#[test]
fn what_must_be_read_has_a_bound() {
    let mut all = Vec::new();
    sources(&root().join("src"), &mut all);
    let lines: Vec<(String, usize)> = all
        .iter()
        .map(|file| (file.to_string_lossy().into_owned(), count(&root().join(file))))
        .collect();
    let rooms = ["src/core/", "src/store/", "src/executor/", "src/sys/disk.rs"];
    let is_trusted = |file: &str| rooms.iter().any(|room| file.starts_with(room));
    let sum = |is_it: &dyn Fn(&str) -> bool| -> usize {
        lines.iter().filter(|(file, _)| is_it(file)).map(|(_, lines)| lines).sum()
    };
    let (trusted, whole) = (sum(&is_trusted), sum(&|_| true));
    assert!(trusted <= TRUSTED_LINES_MAX, "the trusted core has {trusted} lines");
    assert!(whole <= LINES_MAX, "src/ has {whole} lines");
}
