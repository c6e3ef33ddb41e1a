//! Files of evidence as somebody makes them who may write every record and every root; and the two programs that judge
//! them: `openexec verify --evidence` and docs/verify_evidence.py, which must agree on each statement of each file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use openexec::core::base64;
use openexec::core::hash::Hash;
use openexec::core::tree::{Head, Tree, leaf_hash};
use openexec::evidence::bundle::{Bundle, Included};
use openexec::evidence::checkpoint::Checkpoint;
use openexec::evidence::guard::unsigned;
use openexec::evidence::statements::judge;
use serde_json::{Value, json};

use crate::common::approvals::{private_key, public_pem};
use crate::common::evidence::{LOG_KEY, ORIGIN, verifier};
use crate::forge::{AUDIT, Files, OPS, clawshield, demo};
use crate::table::Change;
use crate::{keyring, keys, made};

/// What is given beside a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Given {
    Nothing,
    Keys,
    LogKey,
    Both,
}
use Given::{Both, Keys, LogKey};

/// Statements by name, or a refusal.
pub type Verdict = Option<BTreeMap<String, String>>;

/// Both judges.
pub struct Judges {
    reader: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Anything but a refusal ends it, and the test.
const DRIVER: &str = r#"
import base64, importlib.util, json, sys
spec = importlib.util.spec_from_file_location("verify_evidence", sys.argv[1])
judge = importlib.util.module_from_spec(spec)
spec.loader.exec_module(judge)
log_key, keys = judge.verifier(sys.argv[2]), judge.keys_of(sys.argv[3])
for line in sys.stdin:
    given, text = line.rstrip("\n").split(" ")
    with_key, with_log = given in ("Keys", "Both"), given in ("LogKey", "Both")
    try:
        answer = judge.judge(base64.b64decode(text), log_key if with_log else None, keys if with_key else None)
    except judge.BROKEN as refused:
        answer = {"ok": False, "why": repr(refused)}
    print(json.dumps(answer), flush=True)
"#;

impl Judges {
    pub fn new() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_evidence.py");
        let key = |(seed, name): (u8, &str)| json!({"name": name, "public_key": public_pem(seed)});
        let keys = json!({"keys": [key((OPS, "one")), key((AUDIT, "two"))]}).to_string();
        let mut command = Command::new("python3");
        command.args(["-c", DRIVER, script, &verifier().to_string(), &keys]);
        let mut reader =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
        let asks = reader.stdin.take().expect("piped");
        let answers = BufReader::new(reader.stdout.take().expect("piped"));
        Judges { reader, asks, answers }
    }

    /// What both say; a test fails where they do not say the same.
    pub fn judge(&mut self, text: &[u8], given: Given, what: &str) -> Verdict {
        let (ours, why) = ours(text, given);
        writeln!(self.asks, "{given:?} {}", base64::encode(text)).expect("asked");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("answered");
        let answer: Value = serde_json::from_str(&answer).expect("an answer");
        let statements = serde_json::from_value(answer["statements"].clone());
        let theirs: Verdict = (answer["ok"] == true).then(|| statements.expect("statements"));
        assert_eq!(ours, theirs, "{what}, {given:?}: {why:?}, {answer}");
        ours
    }
}

impl Drop for Judges {
    fn drop(&mut self) {
        let _ = self.reader.kill();
        let _ = self.reader.wait();
    }
}

fn ours(text: &[u8], given: Given) -> (Verdict, String) {
    let bundle = std::str::from_utf8(text).ok().and_then(Bundle::read);
    let Some(bundle) = bundle else { return (None, "no bundle".to_owned()) };
    let (log_key, keys) = (verifier(), keyring());
    let log_key = Some(&log_key).filter(|_| matches!(given, LogKey | Both));
    let keys = Some(&keys).filter(|_| matches!(given, Keys | Both));
    match judge(&bundle, log_key, keys) {
        Ok((_, shown)) => {
            let verdicts = shown.verdicts().map(|(name, verdict, _)| (name, verdict.name()));
            let owned = verdicts.map(|(name, verdict)| (name.to_owned(), verdict.to_owned()));
            (Some(owned.collect()), String::new())
        }
        Err(why) => (None, why),
    }
}

/// RFC 6962, section 2.1.
fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    for leaf in leaves {
        tree.push(*leaf);
    }
    tree.root()
}

/// RFC 6962, section 2.1.1.
fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut inner, outer) = match index.checked_sub(left.len()) {
        None => (path(index, left), root(right)),
        Some(index) => (path(index, right), root(left)),
    };
    inner.push(outer);
    inner
}

/// The records of a store, in the order of their lines; none where one is no text.
pub fn lines(files: &Files) -> Vec<String> {
    let bytes = files.values().flatten().copied().collect::<Vec<u8>>();
    let lines = bytes.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    let is_record = |line: &str| {
        !line.is_empty() && !["segment", "commit"].iter().any(|kind| is_of(line, kind))
    };
    lines.map(String::from).filter(|line| is_record(line)).collect()
}

fn is_of(line: &str, kind: &str) -> bool {
    line.contains(&format!("\"kind\":\"{kind}\""))
}

pub fn signed(head: Head) -> String {
    let text = Checkpoint { origin: ORIGIN.to_owned(), head }.text();
    let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([LOG_KEY; 32]));
    assert_eq!(&pair.pk, private_key(LOG_KEY).public_key());
    let signature = pair.sk.sign(&text, None);
    format!("{text}\n{}", verifier().line(&signature))
}

/// These records with their paths, in a log that has nothing to tell beside them.
pub fn bundled(own: &[(usize, String)], size: usize, is_signed: bool) -> String {
    let mut leaves = vec![leaf_hash(b"something else"); size];
    own.iter().for_each(|(index, line)| leaves[*index] = leaf_hash(line.as_bytes()));
    let head = Head { size: size as u64, root: root(&leaves) };
    let store: Value = serde_json::from_str(&own[0].1).unwrap_or_default();
    let note = match is_signed {
        true => signed(head),
        false => unsigned(store["store"].as_str().unwrap_or(""), head),
    };
    let record = |(index, line): &(usize, String)| Included {
        index: *index as u64,
        path: path(*index, &leaves),
        line: line.clone(),
    };
    Bundle { note, records: own.iter().map(record).collect() }.text()
}

/// What a store has of each id: as the command collects it, written again.
fn collected(lines: &[String]) -> BTreeMap<String, Vec<(usize, String)>> {
    let id = |line: &str| {
        let is_left_out = ["refusal", "suppressed", "policy"].iter().any(|kind| is_of(line, kind));
        let (_, rest) = line.split_once("\"id\":\"").filter(|_| !is_left_out)?;
        rest.split_once('"').map(|(id, _)| id.to_owned())
    };
    let mut found: BTreeMap<String, Vec<(usize, String)>> = BTreeMap::new();
    let mut policy: Option<(usize, String)> = None;
    for (index, line) in lines.iter().enumerate() {
        if is_of(line, "policy") {
            policy = Some((index, line.clone()));
        }
        let Some(id) = id(line) else {
            // One that has lost its id could be anybody's.
            let has_none = ["freeze", "unfreeze", "suppressed", "refusal", "policy", "store"];
            if !has_none.iter().any(|kind| is_of(line, kind)) {
                found.values_mut().for_each(|own| own.push((index, line.clone())));
            }
            continue;
        };
        let own = found.entry(id).or_insert_with(|| vec![(0, lines[0].clone())]);
        let is_decided = ["proposal", "approval", "rejection", "claim"];
        if is_decided.iter().any(|kind| is_of(line, kind)) {
            own.extend(policy.clone().filter(|policy| !own.contains(policy)));
        }
        own.push((index, line.clone()));
    }
    found
}

pub fn bundles(lines: &[String], is_signed: bool) -> Vec<String> {
    let each = collected(lines).into_values();
    each.map(|own| bundled(&own, lines.len(), is_signed)).collect()
}

/// The lines of stores in which nothing is wrong: of both modes, and with every kind of key.
pub fn genuine() -> Vec<(&'static str, Vec<String>)> {
    let of = |model, vary| lines(&made(model, &Change::Before(vary)));
    let plain = [("demo", of(demo(), |_| {})), ("clawshield", of(clawshield(), |_| {}))];
    let variants = keys::variants().into_iter().map(|(name, vary)| (name, of(clawshield(), vary)));
    plain.into_iter().chain(variants).collect()
}

/// The three files that the next tests take apart: an execution by two keys, one that was proposed, and a rejection.
pub fn chosen(is_signed: bool) -> Vec<String> {
    let (_, lines) = genuine().swap_remove(1);
    let all = bundles(&lines, is_signed);
    let with = |word: &str| all.iter().find(|text| text.contains(word)).expect(word).clone();
    vec![
        with("do.once\\\",\\\"approval\\\":["),
        with("kind\\\":\\\"asynchronous"),
        with("rejection_id"),
    ]
}
