//! The approver's side: which private keys are read, what is signed, and who may not read one.

mod approval_support;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use approval_support::{pem, private_key, private_pem, public_pem, unhex};
use openexec::approval::artifact;
use openexec::approval::keys::Keyring;
use openexec::approval::mint::{PrivateKey, approval_id, mint};
use openexec::approval::verify::{Context, Verdict, examine, judge};
use openexec::time::Time;

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
        &examine(read, &Keyring::from_pem(&public_pem(1)).expect("keys")),
        &Context {
            now,
            action: "echo",
            tenant: "t1",
            exec_id: [0; 32],
            action_hash: hash,
            legacy_hash: None,
            required: NonZeroUsize::MIN,
            ttl_max_seconds: Some(300),
            store_created: now,
            clock_behind: false,
            is_spent: &|_| false,
        },
    );
    assert!(matches!(verdict, Verdict::Approved(_)), "{verdict:?}");
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
#[test]
fn only_the_approve_command_can_name_this_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed = ["approval/mint.rs", "approval/mod.rs", "cli/approve.rs"];
    let mut seen = 0;
    for file in rust_files(&root) {
        let name = file.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("source");
        // By module and by the type in it.
        for word in ["mint::", "::mint", "PrivateKey"] {
            if text.contains(word) {
                assert!(allowed.contains(&name.as_str()), "{name} names {word}");
                seen += usize::from(name == "approval/mint.rs");
            }
        }
    }
    assert!(seen >= 1, "the words are those of the module");
    // And only the command line can name that command.
    for file in rust_files(&root) {
        let text = fs::read_to_string(&file).expect("source");
        let is_command_line = file.ends_with("cli/mod.rs");
        assert!(is_command_line || !text.contains("approve::run"), "{}", file.display());
    }
    let parent = fs::read_to_string(root.join("approval/mod.rs")).expect("source");
    assert!(!parent.contains("pub use"), "nothing of it has a second name");
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
