//! The page signs with whichever key its person has.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests drive the binary from outside"
)]

mod common;

use std::path::Path;
use std::process::Command;

use common::page::{Page, refusal};
use common::peer::{Peer, proposal, service};
use common::{Scratch, TOOL, Terminal, key_file};
use openexec::core::base64;
use serde_json::{Value, json};

fn run(scratch: &Scratch, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(scratch.path()).output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn start() -> (Scratch, String, Peer) {
    let (id, said) = proposal("n1", &json!({"amount": 4900, "currency": "EUR"}));
    let peer = Peer::start(service(&[(id.clone(), said)]));
    (Scratch::new(), id, peer)
}

fn approve(page: &Page, id: &str) -> Value {
    let view = page.json(&format!("proposal/{id}"))["view"].clone();
    page.decide("approve", &json!({"id": id, "view": view}))
}

fn signature(peer: &Peer) -> Vec<u8> {
    let posted = peer.posted("/approvals");
    let [approval] = &posted[..] else { panic!("{posted:?}") };
    base64::decode(approval["signature"].as_str().expect("text")).expect("base64")
}

/// The passphrase is asked for once, in the terminal, before there is an address.
#[test]
fn an_encrypted_key_is_opened_in_the_terminal_at_the_start() {
    let (scratch, id, peer) = start();
    let plain = key_file(&scratch, 1, 0o600).display().to_string();
    let pass = ["-passout", "pass:sesame", "-out", "key.pem"];
    run(&scratch, "openssl", &[&["pkcs8", "-topk8", "-in", &plain][..], &pass].concat());
    run(&scratch, "chmod", &["600", "key.pem"]);
    let line = format!("{TOOL} page --url {} --key key.pem", peer.url);
    let mut terminal = Terminal::run(&scratch, &line, 200);
    let before = terminal.until("Passphrase of the key: ");
    assert!(!before.contains("http://"), "{before}");
    terminal.types("sesame\n");
    terminal.until("http://");
    let address = format!("http://{}", terminal.until("\r\n").trim_end());
    let page = Page::at(&address);
    assert_eq!(page.json("list")["needs_terminal"], false);
    assert!(approve(&page, &id)["done"].is_string());
    assert_eq!(signature(&peer).len(), 64);
    // Ctrl-C ends it.
    terminal.types("\u{3}");
    assert_ne!(terminal.ended().0, Some(0));
}

#[test]
fn an_openssh_key_signs_through_ssh_keygen_and_the_page_says_where_it_asks() {
    let (scratch, id, peer) = start();
    run(&scratch, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "ssh"]);
    let key = scratch.path().join("ssh").display().to_string();
    let page = Page::of(&peer.url, &key, &[]);
    assert_eq!(page.json("list")["needs_terminal"], true);
    assert!(approve(&page, &id)["done"].is_string());
    assert!(signature(&peer).starts_with(b"SSHSIG"));
}

/// The public half of a key that neither lies beside it nor is in an agent.
#[test]
fn what_does_not_sign_is_not_done() {
    let (scratch, id, peer) = start();
    run(&scratch, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "ssh"]);
    std::fs::remove_file(scratch.path().join("ssh")).expect("removed");
    let key = Path::new("ssh.pub");
    let page = Page::of(&peer.url, &scratch.path().join(key).display().to_string(), &[]);
    let said = approve(&page, &id);
    assert!(refusal(&said).contains("ssh-keygen did not sign; nothing was signed"), "{said}");
    assert!(peer.posted("/approvals").is_empty());
    assert_eq!(page.json("decided")["rows"], json!([]));
}
