//! The program can approve nothing: which lines read a private key, which sign, and what.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// "Nothing in the program can sign an approval."
///
/// One module reads private keys, `pkcs8`, and one type is made of what it reads: the log's key, whose one operation
/// signs the text of a checkpoint.
#[test]
fn nothing_can_sign_an_approval() {
    let sources = sources();
    let named_by = |words: &[&str], allowed: &[&str]| {
        let mut seen = Vec::new();
        for (name, text) in &sources {
            for word in words.iter().filter(|word| text.contains(**word)) {
                assert!(allowed.contains(&name.as_str()), "{name} names {word}");
                seen.push(name.as_str());
            }
        }
        for name in allowed {
            assert!(seen.contains(name), "{name} names none of {words:?}: they have changed");
        }
    };
    // What reads a private key at all, and what a key pair is made or signs with.
    let readers = ["evidence/pkcs8.rs", "evidence/key.rs"];
    named_by(&["pkcs8::", "KeyPair", "Seed", ".sk.", ".sign(&", "SecretKey", "Noise"], &readers);
    // The crate that could is named for verifying, and by these alone.
    let verifiers = sources.iter().filter(|(name, _)| !readers.contains(&name.as_str()));
    for (name, text) in verifiers {
        let uses = text.lines().filter(|line| line.contains("ed25519_compact"));
        for line in uses {
            let taken =
                line.trim().trim_start_matches("use ed25519_compact::").trim_end_matches(';');
            let names = taken.trim_matches(['{', '}']).split(", ");
            let verify =
                |name: &str| ["PublicKey", "Signature", "Signature as Ed25519"].contains(&name);
            assert!(names.clone().all(verify), "{name}: {line}");
        }
    }
    // The type of the log's key is made of one setting only.
    named_by(&["LogKey::read"], &["serve/config/mod.rs"]);
    let config = &sources["serve/config/mod.rs"];
    assert_eq!(config.matches("LogKey::read").count(), 1);
    let reader = config.split("fn log_key(").nth(1).and_then(|rest| rest.split("\n    fn ").next());
    let reader = reader.expect("the log key's reader");
    let is_setting = |text: &&str| text.starts_with("OPENEXEC_") || text.starts_with("CLAWSHIELD_");
    let settings: Vec<&str> = reader.split('"').filter(is_setting).collect();
    assert_eq!(settings, ["OPENEXEC_LOG_KEY_FILE", "OPENEXEC_LOG_ORIGIN"]);
    // And it signs the text of a checkpoint, whatever it is given.
    let key = &sources["evidence/key.rs"];
    let signs: Vec<&str> =
        key.lines().filter(|line| line.contains("pub fn")).map(str::trim).collect();
    assert_eq!(
        signs,
        [
            "pub fn read(path: &Path, origin: &str) -> Result<Self, String> {",
            "pub fn verifier(&self) -> &VerifierKey {",
            "pub fn sign(&self, head: Head) -> String {",
        ]
    );
    assert!(
        sources["evidence/mod.rs"].contains("\npub(crate) mod pkcs8;"),
        "it is the library's own"
    );
}

fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let name =
        |file: &Path| file.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
    rust_files(&root)
        .iter()
        .map(|file| (name(file), fs::read_to_string(file).expect("source")))
        .collect()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
