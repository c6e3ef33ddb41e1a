//! Cosignatures: what counts as one, how many there are, and what is kept of them. A witness that is not ours:
//! `tests/witness/witnesses.sh`.
use ed25519_compact::{KeyPair, Seed};
use openexec::core::base64;
use openexec::core::hash::{hex, sha256};
use openexec::evidence::cosignature::Witnesses;

use crate::common::evidence::{Evidence, LOG_KEY, echo, verifier};
use crate::common::{Scratch, Server, cli};

/// A witness, as c2sp.org/tlog-cosignature has it.
struct Witness {
    name: &'static str,
    pair: KeyPair,
}

impl Witness {
    fn new(name: &'static str, seed: u8) -> Self {
        Witness { name, pair: KeyPair::from_seed(Seed::new([seed; 32])) }
    }

    fn id(&self, kind: u8) -> [u8; 4] {
        let id = sha256(&[self.name.as_bytes(), b"\n", &[kind], &self.pair.pk[..]]);
        id[..4].try_into().expect("four bytes")
    }

    fn vkey(&self) -> String {
        let key = base64::encode(&[&[4][..], &self.pair.pk[..]].concat());
        format!("{}+{}+{key}", self.name, hex(&self.id(4)))
    }

    /// Its line, that says `shown` and has signed `signed`.
    fn line_of(&self, text: &str, signed: u64, shown: u64) -> String {
        let message = format!("cosignature/v1\ntime {signed}\n{text}");
        let signature = self.pair.sk.sign(message, None);
        let bytes = [&self.id(4)[..], &shown.to_be_bytes(), signature.as_ref()].concat();
        format!("\u{2014} {} {}\n", self.name, base64::encode(&bytes))
    }

    fn line(&self, text: &str, at: u64) -> String {
        self.line_of(text, at, at)
    }
}

const TEXT: &str = "example.com/log\n4\nO6Y4zEsYsy1fwRFQzRLnJXHGAlgq3qg8cOjhN9OZjdA=\n";
const AT: u64 = 1_764_182_000;

fn of(witnesses: &[&Witness], note: &str) -> Result<Vec<(String, String)>, String> {
    let keys: Vec<String> = witnesses.iter().map(|witness| witness.vkey()).collect();
    let witnesses = Witnesses::read(keys.iter().map(String::as_str)).expect("keys");
    let seen = witnesses.of(note).map_err(|fault| fault.to_string())?;
    Ok(seen.into_iter().map(|(name, at)| (name, at.to_string())).collect())
}

#[test]
fn a_cosignature_counts_for_its_key_its_text_and_its_time_alone() {
    let (one, two) = (Witness::new("w.example/1", 1), Witness::new("w.example/2", 2));
    let note = |lines: &[String]| format!("{TEXT}\n{}", lines.concat());
    let good = note(&[one.line(TEXT, AT), two.line(TEXT, AT + 1)]);
    let seen = of(&[&one, &two], &good).expect("cosigned");
    assert_eq!(seen[0], ("w.example/1".to_owned(), "2025-11-26T18:33:20.000000Z".to_owned()));
    assert_eq!(seen.len(), 2);
    // Twice is once, and the later time counts; who is not asked for is passed over.
    let twice = note(&[one.line(TEXT, AT + 60), one.line(TEXT, AT), two.line(TEXT, AT)]);
    let seen = of(&[&one], &twice).expect("cosigned");
    assert_eq!(seen, [("w.example/1".to_owned(), "2025-11-26T18:34:20.000000Z".to_owned())]);
    // The same bytes as a note's own signature, and another key under the same name: not this key's.
    let as_log = {
        let signature = one.pair.sk.sign(TEXT, None);
        let bytes = [&one.id(1)[..], &AT.to_be_bytes(), signature.as_ref()];
        format!("\u{2014} {} {}\n", one.name, base64::encode(&bytes.concat()))
    };
    for passed_over in [as_log, Witness::new("w.example/1", 9).line(TEXT, AT), two.line(TEXT, AT)] {
        assert_eq!(of(&[&one], &note(&[passed_over])), Ok(Vec::new()));
    }
    let other = TEXT.replace("\n4\n", "\n5\n");
    let other_origin = TEXT.replace("example.com", "example.org");
    let bare = one.pair.sk.sign(TEXT, None);
    let bare = [&one.id(4)[..], &AT.to_be_bytes(), bare.as_ref()].concat();
    let short = [&one.id(4)[..], &AT.to_be_bytes()[..7]].concat();
    for (what, line) in [
        ("another size", one.line(&other, AT)),
        ("another origin", one.line(&other_origin, AT)),
        ("an older time shown", one.line_of(TEXT, AT, AT - 86_400)),
        ("a newer time shown", one.line_of(TEXT, AT, AT + 86_400)),
        ("the year 10000", one.line(TEXT, 253_402_300_800)),
        ("no time signed", format!("\u{2014} {} {}\n", one.name, base64::encode(&bare))),
        ("cut short", format!("\u{2014} {} {}\n", one.name, base64::encode(&short))),
        ("no dash", one.line(TEXT, AT).replace('\u{2014}', "-")),
        ("no base64", one.line(TEXT, AT).replace('=', "!")),
        ("an end like Windows", one.line(TEXT, AT).replace('\n', "\r\n")),
    ] {
        // Beside a good one, too: what one of them says wrongly, nothing outweighs.
        for lines in [vec![line.clone()], vec![one.line(TEXT, AT), line.clone()]] {
            assert!(of(&[&one], &note(&lines)).is_err(), "{what}");
        }
    }
}

#[test]
fn a_witness_is_one_key_and_one_name() {
    let (one, two) = (Witness::new("w.example/1", 1), Witness::new("w.example/2", 2));
    let read =
        |keys: &[String]| Witnesses::read(keys.iter().map(String::as_str)).map(|w| w.count());
    assert_eq!(read(&[one.vkey(), two.vkey()]), Ok(2));
    let log = verifier().to_string();
    for bad in [
        vec![one.vkey(), one.vkey()],
        vec![one.vkey(), Witness::new("w.example/other", 1).vkey()],
        vec![one.vkey(), Witness::new("w.example/1", 2).vkey()],
        vec![log],
        vec![one.vkey().replace("w.example/1", "w.example/2")],
        vec![String::new()],
    ] {
        assert!(read(&bad).is_err(), "{bad:?}");
    }
}

/// What `checkpoint --add-checkpoint` prints of what the service has signed now.
fn request(scratch: &Scratch, evidence: &Evidence, server: &Server, size: &str) -> String {
    server.get("/log/checkpoint");
    let asked = cli(scratch, &evidence.settings(), &["checkpoint", "--add-checkpoint", size]);
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    asked.stdout
}

#[test]
fn what_witnesses_answer_is_kept_and_only_so_many_of_those_that_are_named_suffice() {
    let scratch = Scratch::new();
    let evidence = Evidence::new(&scratch);
    let server = evidence.start(&scratch);
    echo(&server, "first", "x");
    let (one, two) = (Witness::new("w.example/1", 1), Witness::new("w.example/2", 2));
    let (keys, log) = ([one.vkey(), two.vkey()], verifier().to_string());
    let body = request(&scratch, &evidence, &server, "0");
    let text_of = |body: &str| {
        let note = body.split_once("\n\n").expect("a note").1;
        verifier().open(note).expect("signed").to_owned()
    };
    let text = text_of(&body);
    let keep = |content: &str, more: &[&str]| {
        std::fs::write(scratch.join("given"), content).expect("written");
        let arguments = [&["checkpoint", "--cosignatures", "given"], more].concat();
        cli(&scratch, &evidence.settings(), &arguments)
    };
    let kept = evidence.checkpoint.with_extension("cosigned");
    let kept_text = || std::fs::read_to_string(&kept).expect("kept");
    let first = ["--witness", &keys[0]];
    let both = ["--witness", &keys[0], "--witness", &keys[1]];
    for (what, content, more, code) in [
        ("nobody named", format!("{body}{}", one.line(&text, AT)), &[][..], 64),
        ("nobody answered", body.clone(), &first[..], 65),
        ("another answered", format!("{body}{}", two.line(&text, AT)), &first, 65),
        ("of another text", format!("{body}{}", one.line(TEXT, AT)), &first, 65),
        ("an error's text", format!("{body}404 page not found\n"), &first, 65),
        ("one of two", format!("{body}{}", one.line(&text, AT)), &both, 65),
        ("another log", format!("{TEXT}\n{}", one.line(TEXT, AT)), &first, 65),
        ("nothing", String::new(), &first, 65),
    ] {
        let refused = keep(&content, more);
        assert_eq!(refused.code, code, "{what}: {}", refused.stderr);
        assert!(!kept.exists(), "{what}");
    }
    // One after the other: both are there then, the log's own line once, and no stranger's.
    let stranger = Witness::new("w.example/3", 3);
    let content = format!("{body}{}{}", one.line(&text, AT), stranger.line(&text, AT));
    // Many lines of one witness are as one: what is kept stays as small as it was.
    let many: String = (1..900).rev().map(|ago| one.line(&text, AT - ago)).collect();
    assert_eq!(keep(&format!("{body}{many}"), &first).code, 0);
    assert_eq!(keep(&content, &first).code, 0);
    let second = ["--witness", &keys[1]];
    assert_eq!(keep(&format!("{body}{}", two.line(&text, AT)), &second).code, 0);
    assert_eq!(kept_text().lines().count(), 3 + 1 + 3, "{}", kept_text());
    let first_kept = kept_text();
    let verify = |more: &[&str]| {
        let file = kept.to_str().expect("UTF-8");
        let arguments = ["verify", "store", "--checkpoint", file];
        cli(&scratch, &[], &[&arguments[..], more].concat())
    };
    let stranger = stranger.vkey();
    let three =
        ["--log-key", &log, "--witness", &keys[0], "--witness", &keys[1], "--witness", &stranger];
    for (quorum, code) in
        [("1", 0), ("2", 0), ("3", 65), ("4", 64), ("0", 64), ("-1", 64), ("x", 64), ("", 64)]
    {
        let ended = verify(&[&three[..], &["--quorum", quorum]].concat());
        assert_eq!(ended.code, code, "{quorum}: {}", ended.stderr);
        let seen = ended.stdout.matches("cosigned it at 2025-11-26T18:33:20").count();
        assert_eq!(seen, if code == 0 { 2 } else { 0 }, "{}", ended.stdout);
    }
    assert_eq!(verify(&three).code, 65, "all, without a quorum");
    assert_eq!(verify(&three[..6]).code, 0);
    assert_eq!(verify(&both).code, 64, "no log key");
    assert_eq!(verify(&["--log-key", &log, "--quorum", "1"]).code, 64, "nobody to count");
    let twice = ["--log-key", &log, "--witness", &keys[0], "--witness", &keys[0]];
    assert_eq!(verify(&twice).code, 64);
    let json = verify(&[&three[..6], &["--json"]].concat()).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["checkpoint"]["witnesses"][one.name], "2025-11-26T18:33:20.000000Z");

    // A newer one takes its place, and an older one does not come back.
    echo(&server, "second", "x");
    let newer = request(&scratch, &evidence, &server, "4");
    assert!(newer.starts_with("old 4\n"), "{newer}");
    let line = one.line(&text_of(&newer), AT + 60);
    assert_eq!(keep(&format!("{newer}{line}"), &first).code, 0);
    assert_ne!(kept_text(), first_kept);
    let back = keep(&content, &first);
    assert_eq!(back.code, 74, "{}", back.stderr);
    // Nor does another root of as many records, by the same log: what shows two histories is not overwritten.
    let newest = text_of(&newer);
    let root = newest.lines().nth(2).expect("a root");
    let other = newest.replace(root, &base64::encode(&[7; 32]));
    let own = verifier().line(&KeyPair::from_seed(Seed::new([LOG_KEY; 32])).sk.sign(&other, None));
    let beside = keep(&format!("{other}\n{own}{}", one.line(&other, AT + 120)), &first);
    assert_eq!(beside.code, 74, "{}", beside.stderr);
    assert!(beside.stderr.contains("newer or a fork") && kept_text().starts_with(&newest));
    for (size, code) in [("4", 0), ("999", 65), ("04", 64), ("", 64), ("x", 64)] {
        let ended = cli(&scratch, &evidence.settings(), &["checkpoint", "--add-checkpoint", size]);
        assert_eq!(ended.code, code, "{size}: {}", ended.stderr);
    }
    let unsigned = cli(&scratch, &evidence.unsigned(), &["checkpoint", "--add-checkpoint", "0"]);
    assert_eq!(unsigned.code, 78, "{}", unsigned.stderr);
}
