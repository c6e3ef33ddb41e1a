//! READING.md: each file that it lists is there, has the lines that it says, and stands in it once; what it does not
//! list lies in a directory that it names. `OPENEXEC_WRITE_READING=1 cargo test --test reading` writes the counts anew.

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
