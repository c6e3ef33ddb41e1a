//! `examples/prove.sh`, the README's first screen, does what it says and prints what is kept.
#![allow(clippy::disallowed_types, reason = "tests drive the binary from outside")]

use std::process::Command;

#[test]
fn the_proof_prints_what_is_kept() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let kept = std::fs::read_to_string(format!("{examples}/prove.txt")).expect("prove.txt");
    // `sh` is another shell on every distribution.
    for shell in ["dash", "bash", "sh"] {
        let mut command = Command::new(shell);
        command.arg(format!("{examples}/prove.sh")).arg(env!("CARGO_BIN_EXE_openexec"));
        let output = command.output().expect("three shells, curl and sha256sum");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shell}: {complaints}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), kept, "{shell}");
        assert_eq!(complaints, "", "{shell}");
    }
}

/// A proof that cannot fail proves nothing.
#[test]
fn what_serves_nothing_is_not_proved() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/prove.sh");
    let output = Command::new(script).arg("/bin/true").output().expect("a shell");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("NOT PROVED"), "{output:?}");
}
