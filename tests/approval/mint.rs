//! The approver's side: which private keys are read, what is signed, and who may not read one.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::common::approvals::{pem, private_key, private_pem, public_pem, unhex};
use openexec::cli::mint::{PrivateKey, approval_id, mint};
use openexec::core::approval::artifact;
use openexec::core::approval::required::Required;
use openexec::core::approval::verify::{Context, examine, judge};
use openexec::core::time::Time;
use openexec::serve::keys::from_text;

const ID: &str = "3f0d6f0a-6d0c-4b7e-9a55-0a1b2c3d4e5f";

#[test]
fn what_is_minted_is_approved() {
    let now = Time::parse("2026-03-01T12:00:00.500000Z").expect("a time");
    let hash = [7; 32];
    let minted =
        mint(&private_key(1), "t1", &hash, now, now.plus_seconds(300), ID).expect("minted");
    assert_eq!(minted.to_value()["expires_at"], "2026-03-01T12:05:00.500000Z");
    let read = artifact::parse(&minted.to_value()).expect("well formed");
    assert_eq!(read, [minted]);
    let verdict = judge(
        &examine(read, &from_text(&public_pem(1)).expect("keys")),
        &Context {
            now,
            action: "echo",
            tenant: "t1",
            exec_id: [0; 32],
            action_hash: hash,
            legacy_hash: None,
            required: &Required::any(NonZeroUsize::MIN),
            ttl_max_seconds: Some(300),
            store_created: now,
            clock: None,
            is_spent: &|_| false,
        },
    );
    assert!(verdict.is_ok(), "{verdict:?}");
}

#[test]
fn what_the_service_would_not_read_is_not_minted() {
    let now = Time::from_micros(0);
    let fault = mint(&private_key(1), "t1", &[0; 32], now, now, "no-uuid").expect_err("an id");
    assert!(fault.to_string().contains("approval_id"), "{fault}");
    let never = Time::from_micros(i64::MAX);
    let fault = mint(&private_key(1), "t1", &[0; 32], now, never, ID).expect_err("a time");
    assert!(fault.to_string().contains("expires_at"), "{fault}");
}

#[test]
fn an_id_is_a_version_4_uuid() {
    assert_eq!(approval_id([0; 16]), "00000000-0000-4000-8000-000000000000");
    assert_eq!(approval_id([255; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    let id = approval_id(*b"0123456789abcdef");
    assert_eq!(id, "30313233-3435-4637-b839-616263646566");
}

#[test]
fn whatever_is_no_ed25519_private_key_is_refused() {
    let good = private_pem(&[1; 32]);
    let pkcs8 =
        |prefix: &str, seed: &[u8]| pem("PRIVATE KEY", &[&unhex(prefix)[..], seed].concat());
    for (text, sentence) in [
        (String::new(), "no PEM block"),
        (public_pem(1), "no PRIVATE KEY"),
        (format!("{good}{}", public_pem(1)), "more than one"),
        (format!("x\n{good}"), "outside"),
        (good.replace('\n', "\\n"), "line break"),
        (good.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "encrypted"),
        (good.replace("PRIVATE KEY", "RSA PRIVATE KEY"), "no PRIVATE KEY"),
        (good.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"), "no PRIVATE KEY"),
        (good.replacen("MC4C", "MC4 C", 1), "base64"),
        (pkcs8("302e020100300506032b657004220420", &[1; 31]), "no Ed25519"),
        (pkcs8("302e020100300506032b657004220420", &[1; 33]), "no Ed25519"),
        (pkcs8("302e020100300506032b656e04220420", &[1; 32]), "no Ed25519"), // X25519
        (pkcs8("302e020101300506032b657004220420", &[1; 32]), "no Ed25519"),
        (pkcs8("", &[1; 32]), "no Ed25519"),
        (private_pem(&[0; 32]), "all zeros"),
    ] {
        let fault = PrivateKey::from_pem(&text).err().expect("refused").to_string();
        assert!(fault.contains(sentence), "{text:?}: {fault}");
    }
}

/// "The server never reads an approver's private key; the serving path has no code that could."
///
/// Private keys are read by one module, `pkcs8`, for two types: the approver's, and the log's key,
/// which the service has and which can sign nothing but a checkpoint.
#[test]
fn only_the_approve_command_can_name_this_module() {
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
    // By module and by the type in it.
    let allowed = ["cli/mint.rs", "cli/approve.rs"];
    named_by(&["mint::", "::mint", "PrivateKey"], &[&allowed[..], &["evidence/pkcs8.rs"]].concat());
    // What reads a private key at all, and what a key pair is made or signs with.
    let readers = ["cli/mint.rs", "evidence/pkcs8.rs", "evidence/key.rs"];
    named_by(&["pkcs8::", "KeyPair", "Seed", ".sk.sign(", "SecretKey"], &readers);
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
    // And only the command line can name that command.
    for (name, text) in &sources {
        assert!(name == "cli/help.rs" || !text.contains("approve::run"), "{name}");
    }
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
