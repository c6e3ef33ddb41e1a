//! The keys that may approve, as an operator gives them: PEM, lines of OpenSSH, and the keys file.
//!
//! What is read here becomes what a policy record says of keys, which the core judges. What cannot be read is refused with a
//! sentence that says how to mend it and repeats nothing that might be a key.

use serde_json::json;

use crate::core::approval::keys::Keyring;
use crate::core::approval::public::{RAW, SSH, TOKEN};
use crate::core::base64;
use crate::core::hash::{Hash, hex};
use crate::core::json::{Object, Value, strict};
use crate::core::limits::JSON_DEPTH_MAX;
use crate::core::ssh::Reader;
use crate::evidence::approvers::{check_thresholds, fingerprint};
use crate::sys::pem;

/// SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4) up to the 32 bytes of the key.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key before the core has judged it.
struct Given {
    kind: &'static str,
    key: Hash,
    application: Option<String>,
}

impl Given {
    /// Puts it where a policy record's key has it.
    fn put(self, item: &mut Object) {
        item.insert("type".to_owned(), self.kind.into());
        item.insert("public_key".to_owned(), hex(&self.key).into());
        item.insert("application".to_owned(), self.application.into());
    }
}

/// Reads `CLAWSHIELD_PUBLIC_KEY`, or the file that `CLAWSHIELD_PUBLIC_KEY_FILE` names: public keys, whose line
/// breaks may be written as `\n` because an environment file often can hold no others. Each key may approve
/// every action, and one approval is enough; a key's name is its [`fingerprint`].
pub fn from_text(text: &str) -> Result<Keyring, String> {
    let named = |given: Given| {
        let mut item = Object::new();
        item.insert("name".to_owned(), fingerprint(&given.key).into());
        given.put(&mut item);
        Value::Object(item)
    };
    let keys: Vec<_> = public_keys(&text.replace("\\n", "\n"))?.into_iter().map(named).collect();
    judged(&keys, Object::new())
}

/// Reads the file that `OPENEXEC_KEYS_FILE` names, strict JSON:
/// `{"keys":[{"name","public_key","verified","groups","person","actions","not_after"}],
/// "required":{"<action>":n,"*":{"<group>":n}}}`. All but `keys`, `name` and `public_key` may be missing.
pub fn from_keys_file(text: &str) -> Result<Keyring, String> {
    // Strictly: a name that occurs twice must not mean one thing here and another to who wrote it.
    let file = strict::read(text.as_bytes(), JSON_DEPTH_MAX)
        .map_err(|error| format!("the keys file is not strict JSON: {error}"))?;
    let Value::Object(file) = &file else {
        return Err("the keys file is not a JSON object; write {\"keys\":[...]}".to_owned());
    };
    only_fields(file, "the keys file", &["keys", "required"])?;
    let Some(Value::Array(items)) = file.get("keys") else {
        return Err("the keys file has no array \"keys\"; add one with a key in it".to_owned());
    };
    let keys: Vec<_> = items.iter().enumerate().map(of_file).collect::<Result<_, _>>()?;
    match file.get("required") {
        None => judged(&keys, Object::new()),
        Some(Value::Object(required)) => judged(&keys, required.clone()),
        Some(_) => {
            Err("\"required\" is not an object; write {\"<action>\":<count>,\"*\":1}".to_owned())
        }
    }
}

fn judged(keys: &[Value], mut required: Object) -> Result<Keyring, String> {
    required.entry("*").or_insert(json!(1));
    let keyring = Keyring::read(keys, &required)?;
    check_thresholds(&keyring).map(|()| keyring)
}

fn of_file((index, item): (usize, &Value)) -> Result<Value, String> {
    let place = format!("keys[{index}]");
    let Value::Object(item) = item else {
        return Err(format!("{place} is not an object; write {{\"name\":..,\"public_key\":..}}"));
    };
    let known = ["name", "public_key", "verified", "groups", "person", "actions", "not_after"];
    only_fields(item, &place, &known)?;
    let Some(text) = item.get("public_key").and_then(Value::as_str) else {
        return Err(format!("{place}.public_key must be a PEM text or an OpenSSH line"));
    };
    if let Some((name, _)) = item.iter().find(|(_, value)| value.is_null()) {
        return Err(format!("{place}.{name} is null; leave it out"));
    }
    let given = public_keys(text).map_err(|fault| format!("{place}.public_key: {fault}"))?;
    let Ok([given]) = <[Given; 1]>::try_from(given) else {
        return Err(format!("{place}.public_key holds more than one key; give each its own name"));
    };
    let mut item = item.clone();
    given.put(&mut item);
    Ok(Value::Object(item))
}

/// Refuses what a file of the operator's says and nobody reads: it was meant to guard something.
pub fn only_fields(object: &Object, place: &str, known: &[&str]) -> Result<(), String> {
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            Err(format!("{place} has the unknown field {name:?}; known are {}", known.join(", ")))
        }
    }
}

/// PEM `PUBLIC KEY` blocks (RFC 7468, RFC 8410) and OpenSSH lines, one or more.
fn public_keys(text: &str) -> Result<Vec<Given>, String> {
    let is_ssh = |line: &&str| ["ssh-", "sk-", "ecdsa-"].iter().any(|kind| line.starts_with(kind));
    let (lines, rest): (Vec<_>, Vec<_>) = text.lines().partition(is_ssh);
    let mut keys = lines.into_iter().map(of_line).collect::<Result<Vec<_>, _>>()?;
    let rest = rest.join("\n");
    if keys.is_empty() || !rest.trim().is_empty() {
        let blocks = pem::blocks(&rest).map_err(|fault| {
            format!(
                "no public key can be read: {fault}; give PEM as `openssl pkey -pubout` writes it, or the line of a \
                 .pub file of OpenSSH"
            )
        })?;
        for block in blocks {
            keys.push(of_block(&block)?);
        }
    }
    Ok(keys)
}

/// Only the one DER encoding of an Ed25519 key is taken, so that a key has one spelling.
fn of_block(block: &pem::Block<'_>) -> Result<Given, &'static str> {
    if block.label.ends_with("PRIVATE KEY") {
        return Err(
            "this is a private key, which the service must never have; keep it with its approver and \
                    give what `openssl pkey -in KEY.pem -pubout` writes",
        );
    }
    if block.label != "PUBLIC KEY" {
        return Err(
            "a PEM block is no PUBLIC KEY; give what `openssl pkey -in KEY.pem -pubout` writes",
        );
    }
    let der =
        block.der().ok_or("a PUBLIC KEY block is not strict base64; copy it again, unchanged")?;
    let key = der.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
    let key = key.ok_or(
        "a PUBLIC KEY block is no Ed25519 key; make one with `openssl genpkey -algorithm ed25519`",
    )?;
    Ok(Given { kind: RAW, key, application: None })
}

/// A line of a .pub file (sshd(8), AUTHORIZED_KEYS FILE FORMAT, without options): type, base64, comment.
fn of_line(line: &str) -> Result<Given, &'static str> {
    let mut words = line.split_ascii_whitespace();
    let own = words.next();
    let kind = [SSH, TOKEN].into_iter().find(|kind| own == Some(kind)).ok_or(
        "an OpenSSH key is neither ssh-ed25519 nor sk-ssh-ed25519@openssh.com; RSA, DSA and ECDSA keys cannot \
         approve, so make one with `ssh-keygen -t ed25519`",
    )?;
    let cut = "an OpenSSH key is not whole; copy the line of the .pub file again, unchanged";
    let bytes = words.next().and_then(base64::decode).ok_or(cut)?;
    let mut wire = Reader(&bytes);
    let is_own = wire.string() == Some(kind.as_bytes());
    let key = wire.string().and_then(|key| key.try_into().ok()).ok_or(cut)?;
    let application = match kind {
        TOKEN => {
            let text = wire.string().and_then(|text| std::str::from_utf8(text).ok());
            Some(text.filter(|text| !text.contains(char::is_control)).ok_or(cut)?.to_owned())
        }
        _ => None,
    };
    match is_own && wire.is_empty() {
        true => Ok(Given { kind, key, application }),
        false => Err(cut),
    }
}
