//! Which Ed25519 signatures and keys count: published edge cases, with a committed answer to each.

use crate::common::approvals::{point_pem, read_json, unhex};
use ed25519_compact::{PublicKey, Signature};
use openexec::core::json::Value;
use openexec::serve::keys::from_text;

/// L, the order of the base point (RFC 8032, section 5.1), little-endian.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// Every encoding of a point of small order, canonical or not.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];

fn answer(test: &Value) -> &'static str {
    let bytes = |name: &str| unhex(test[name].as_str().expect("hexadecimal"));
    let verified = PublicKey::from_slice(&bytes("key"))
        .and_then(|key| key.verify(bytes("msg"), &Signature::from_slice(&bytes("sig"))?));
    if verified.is_ok() { "accepted" } else { "refused" }
}

#[test]
fn wycheproof() {
    let file = read_json("wycheproof_ed25519.json");
    let tests = file["tests"].as_array().expect("tests");
    assert_eq!(tests.len(), 151);
    for test in tests {
        assert_eq!(answer(test), test["expect"], "{}: {}", test["id"], test["comment"]);
    }
}

#[test]
fn taming_the_many_eddsas() {
    let file = read_json("speccheck.json");
    let tests = file["tests"].as_array().expect("tests");
    assert_eq!(tests.len(), 12);
    for test in tests {
        assert_eq!(answer(test), test["expect"], "{}: {}", test["id"], test["comment"]);
        let key = unhex(test["key"].as_str().expect("hexadecimal"));
        let weak = test["because"].as_str().expect("reason").starts_with("A ");
        assert_eq!(from_text(&point_pem(&key)).is_err(), weak, "{}", test["id"]);
    }
}

#[test]
fn no_second_signature_by_adding_the_order() {
    let key = crate::common::approvals::private_key(7);
    let file = read_json("wycheproof_ed25519.json");
    let valid =
        file["tests"].as_array().expect("tests").iter().find(|test| test["expect"] == "accepted");
    let valid = valid.expect("a valid signature");
    let mut signature = unhex(valid["sig"].as_str().expect("hexadecimal"));
    // S + kL for every k that fits into 32 bytes.
    let order = unhex(ORDER);
    for multiple in 1..16 {
        let mut carry = 0u16;
        for (byte, addend) in signature[32..].iter_mut().zip(&order) {
            carry += u16::from(*byte) + u16::from(*addend);
            *byte = (carry & 255) as u8;
            carry >>= 8;
        }
        let public_key = unhex(valid["key"].as_str().expect("hexadecimal"));
        let public_key = PublicKey::from_slice(&public_key).expect("32 bytes");
        let message = unhex(valid["msg"].as_str().expect("hexadecimal"));
        let altered = Signature::from_slice(&signature).expect("64 bytes");
        assert!(public_key.verify(&message, &altered).is_err(), "S + {multiple} L");
        assert!(key.public_key().verify(&message, &altered).is_err());
    }
}

#[test]
fn a_point_of_small_order_is_no_key_and_no_r() {
    let key = crate::common::approvals::private_key(7);
    for point in SMALL_ORDER {
        let point = unhex(point);
        let error = from_text(&point_pem(&point)).expect_err("weak");
        assert!(error.to_string().contains("weak"), "{error}");
        let weak = PublicKey::from_slice(&point).expect("32 bytes");
        for s in [[0; 32], [1; 32]] {
            let signature = Signature::from_slice(&[&point[..], &s].concat()).expect("64 bytes");
            assert!(weak.verify(b"anything", &signature).is_err());
            assert!(key.public_key().verify(b"anything", &signature).is_err());
        }
    }
}

#[test]
fn an_encoding_that_is_not_canonical_or_no_point_is_no_key() {
    // y = p + k for the k that fit, which a lenient reader takes for y = k; with either sign.
    for k in 0..19u8 {
        for sign in [0x7f, 0xff] {
            let mut point = [0xff; 32];
            point[0] = 0xed + k;
            point[31] = sign;
            assert!(from_text(&point_pem(&point)).is_err(), "p + {k}");
        }
    }
    let mut no_point = [0u8; 32];
    no_point[0] = 2;
    assert!(from_text(&point_pem(&no_point)).is_err());
}
