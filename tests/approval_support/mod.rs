//! Keys and requests that the approval tests share.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

use openexec::cli::mint::PrivateKey;
use openexec::core::approval::keys::Keyring;
use openexec::core::base64;

/// The private key whose seed is this byte 32 times.
pub fn private_key(seed: u8) -> PrivateKey {
    PrivateKey::from_pem(&private_pem(&[seed; 32])).expect("a private key")
}

pub fn private_pem(seed: &[u8]) -> String {
    pem("PRIVATE KEY", &[&unhex("302e020100300506032b657004220420")[..], seed].concat())
}

pub fn public_pem(seed: u8) -> String {
    point_pem(&private_key(seed).public_key()[..])
}

/// PEM of 32 bytes as a public key, whatever they are.
pub fn point_pem(point: &[u8]) -> String {
    pem("PUBLIC KEY", &[&unhex("302a300506032b6570032100")[..], point].concat())
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let body = base64::encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// The sentence with which a keys file is refused.
pub fn keys_file_fault(text: &str) -> String {
    match Keyring::from_keys_file(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}

pub fn read_json(name: &str) -> openexec::core::json::Value {
    let path = format!("{}/tests/vectors/approval/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("a vector file");
    serde_json::from_str(&text).expect("JSON")
}
