//! The table: a rule, the change that breaks it alone, and who must refuse the store.

use openexec::core::hash::{hex, sha256};
use serde_json::{Value, json};

use crate::forge::{
    Files, Frame, Model, SECTOR, laid_out, receipt_of, refusal, respelled, retry_of, simple,
};
use crate::{approvals, forms, keys, order, proposals, records};

/// Who refuses it.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// It breaks the form of a line, or the state: opening, `verify` and the reader.
    All,
    /// What takes a second look at each record: `verify` and the reader. Opening looks into no payload,
    /// result or approval, and keeps hashes of nonces and approvals and not themselves.
    Audits,
    /// What only a signature shows: `verify`.
    Verify,
}

/// Another spelling of a line.
pub type Respell = fn(&str) -> String;
pub type Vary = fn(&mut Model);

#[derive(Clone)]
pub enum Change {
    /// Ids and receipts are computed afterwards.
    Before(Vary),
    /// Roots alone are.
    After(Vary),
    /// The line of a record.
    Text(&'static str, Respell),
    /// Lines where they stand; nothing is computed afterwards.
    Frame(fn(&mut Frame)),
    Bytes(fn(&mut Files)),
    /// A field of a record takes this value; ids and receipts are computed afterwards.
    Field(&'static str, &'static str, Value),
    /// The same after they are.
    Put(&'static str, String, Value),
    Without(&'static str, String),
}

#[derive(Clone)]
pub struct Case {
    pub rule: String,
    pub clawshield: bool,
    pub change: Change,
    pub refused_by: Who,
}

use Change::{Bytes, Frame as Framed};
use Who::All;

/// In demo mode.
pub fn demo(rule: &str, refused_by: Who, change: Change) -> Case {
    Case { rule: rule.to_owned(), clawshield: false, change, refused_by }
}

pub fn claw(rule: &str, refused_by: Who, change: Change) -> Case {
    Case { rule: rule.to_owned(), clawshield: true, change, refused_by }
}

pub fn cases() -> Vec<Case> {
    [
        framing(),
        order::cases(),
        proposals::cases(),
        records::cases(),
        approvals::cases(),
        keys::cases(),
        forms::cases(),
    ]
    .concat()
}

/// The last line of a batch; its numbers changed.
fn commit(frame: &mut Frame, batch: usize, from: &str, to: &str) {
    let line = frame[0][batch].last_mut().expect("a commit line");
    *line = respelled(line, from, to);
}

fn framing() -> Vec<Case> {
    vec![
        demo("the root of a batch", All, Framed(|f| commit(f, 2, "\"root\":\"", "\"root\":\"0"))),
        demo(
            "the root of a batch, well formed",
            All,
            Framed(|f| {
                let root =
                    f[0][1].last().expect("a line").split("\"root\":\"").nth(1).expect("a root")
                        [..64]
                        .to_owned();
                let line = f[0][2].last_mut().expect("a line");
                let own = line.split("\"root\":\"").nth(1).expect("a root")[..64].to_owned();
                *line = line.replace(&own, &root);
            }),
        ),
        demo("the number of a batch", All, Framed(|f| commit(f, 2, "\"batch\":3", "\"batch\":4"))),
        demo("the number of records", All, Framed(|f| commit(f, 2, "\"size\":7", "\"size\":8"))),
        demo(
            "a commit line in its canonical form",
            All,
            Framed(|f| commit(f, 2, "\"size\":7", "\"size\":7.0")),
        ),
        demo("a commit line with no more fields", All, Framed(|f| commit(f, 2, "}", ",\"x\":1}"))),
        demo(
            "a batch ends with a commit line",
            All,
            Framed(|f| {
                f[0][2].pop();
            }),
        ),
        demo(
            "a batch is not lost",
            All,
            Framed(|f| {
                f[0].remove(3);
            }),
        ),
        demo(
            "a batch is not there twice",
            All,
            Framed(|f| {
                let again = f[0][3].clone();
                f[0].insert(4, again);
            }),
        ),
        demo(
            "a segment begins with a segment line",
            All,
            Framed(|f| {
                f[0][0].remove(0);
            }),
        ),
        demo(
            "a segment line begins a segment",
            All,
            Framed(|f| {
                let line = f[0][0][0].clone();
                f[0][3].insert(0, line);
            }),
        ),
        claw(
            "what a segment says of the records before",
            All,
            Framed(|f| segment(f, "\"first\":", "\"first\":1")),
        ),
        claw(
            "what a segment says of the batch before",
            All,
            Framed(|f| segment(f, "\"batch\":", "\"batch\":1")),
        ),
        claw(
            "what a segment says of the root before",
            All,
            Framed(|f| {
                let of_nothing = hex(&sha256(&[]));
                let line = &mut f[1][0][0];
                let own = line.split("\"root\":\"").nth(1).expect("a root")[..64].to_owned();
                *line = line.replace(&own, &of_nothing);
            }),
        ),
        claw("a segment of this store", All, Framed(|f| segment(f, "0f0f", "0e0f"))),
        claw("a segment of this mode", All, Framed(|f| segment(f, "clawshield", "demo"))),
        claw(
            "a segment of this store's time",
            All,
            Framed(|f| segment(f, "00:00:00.000000", "00:00:00.000001")),
        ),
        demo(
            "the first segment is the store record's",
            All,
            Framed(|f| {
                f[0][0][0] = respelled(&f[0][0][0], "0f0f", "0e0f");
            }),
        ),
        demo(
            "format 2, not the one before",
            All,
            Framed(|f| f[0][0][0] = respelled(&f[0][0][0], "\"format\":2", "\"format\":1")),
        ),
        demo(
            "format 2, a number",
            All,
            Framed(|f| f[0][0][0] = respelled(&f[0][0][0], "\"format\":2", "\"format\":true")),
        ),
        demo(
            "a segment line has its fields and no more",
            All,
            Framed(|f| {
                f[0][0][0] = respelled(&f[0][0][0], "}", ",\"version\":1}");
            }),
        ),
        claw(
            "no segment is missing",
            All,
            Bytes(|files| {
                files.remove("00000001.jsonl");
            }),
        ),
        claw(
            "segments are numbered without a gap",
            All,
            Bytes(|files| {
                let second = files.remove("00000002.jsonl").expect("a segment");
                files.insert("00000003.jsonl".into(), second);
            }),
        ),
        demo("a segment is not shorter", All, Bytes(|files| first(files).truncate(SECTOR * 100))),
        demo("a segment is not longer", All, Bytes(|files| first(files).push(b'\n'))),
        demo("the first segment is not blank", All, Bytes(|files| first(files).fill(b'\n'))),
        claw(
            "a blank segment is the last",
            All,
            Bytes(|files| {
                let second = files["00000002.jsonl"].clone();
                files.insert("00000003.jsonl".into(), second);
                files.get_mut("00000002.jsonl").expect("a segment").fill(b'\n');
            }),
        ),
        demo(
            "blanks fill the gap between batches",
            All,
            Bytes(|files| {
                let bytes = first(files);
                let end = bytes.windows(2).position(|two| two == b"\n\n").expect("a gap");
                bytes[end + 1] = b'x';
            }),
        ),
        demo(
            "a batch begins at a sector",
            All,
            Bytes(|files| {
                let bytes = first(files);
                let end = bytes.windows(2).position(|two| two == b"\n\n").expect("a gap");
                let second = (end + 2).next_multiple_of(SECTOR);
                bytes.copy_within(second..second + 8 * SECTOR, second - 1);
            }),
        ),
        claw(
            "after a batch that was cut short no segment has text",
            All,
            Bytes(|files| {
                let bytes = first(files);
                let end = bytes.iter().rposition(|byte| *byte != b'\n').expect("text");
                let from = (end + 1).next_multiple_of(SECTOR);
                bytes[from..from + SECTOR].fill(b'x');
            }),
        ),
        demo(
            "what stands behind the end is no rest of a batch",
            All,
            Bytes(|files| {
                let bytes = first(files);
                let end = bytes.iter().rposition(|byte| *byte != b'\n').expect("text");
                bytes[(end + 1).next_multiple_of(SECTOR)] = b'x';
            }),
        ),
        demo(
            "bytes that are no UTF-8",
            All,
            Bytes(|files| {
                let bytes = first(files);
                let place = bytes.windows(7).position(|seven| seven == b"process").expect("there");
                bytes[place] = 0xff;
            }),
        ),
    ]
}

fn first(files: &mut Files) -> &mut Vec<u8> {
    files.get_mut("00000001.jsonl").expect("a segment")
}

/// The second segment's line.
fn segment(frame: &mut Frame, from: &str, to: &str) {
    frame[1][0][0] = respelled(&frame[1][0][0], from, to);
}

/// The model, and the same with what happens to a store that is well: what all must accept.
pub fn genuine(model: &Model) -> Vec<(String, Files)> {
    let mut sealed = model.clone();
    sealed.seal();
    let files = laid_out(&sealed.frame());
    let mut stores = vec![("as it is".to_owned(), files.clone())];
    let last = files.keys().last().expect("a segment").clone();
    let next = openexec::store::segment::name(files.len() as u32 + 1);
    let blank = vec![b'\n'; crate::forge::SEGMENT];
    let with = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        files
    };
    stores.push((
        "a segment made ahead".into(),
        with(&|f| drop(f.insert(next.clone(), blank.clone()))),
    ));
    stores.push((
        "blank as NUL".into(),
        with(&|files| {
            let bytes = files.get_mut(&last).expect("a segment");
            let end = bytes.iter().rposition(|byte| *byte != b'\n').expect("text") + 2;
            bytes[end..].fill(0);
        }),
    ));
    // What a power cut leaves of a batch: some of its sectors, and in the next segment too.
    let batch: String = {
        let mut torn = sealed.clone();
        torn.insert(torn.batches.len(), vec![refusal("torn", "frozen"), refusal("more", "frozen")]);
        torn.seal();
        let frame = torn.frame();
        let lines = frame.last().and_then(|segment| segment.last()).expect("a batch").clone();
        lines.iter().map(|line| format!("{line}\n")).collect()
    };
    let sectors = batch.len().div_ceil(SECTOR);
    for kept in 0..1 << sectors {
        let written: Vec<usize> = (0..sectors).filter(|n| kept >> n & 1 == 1).collect();
        stores.push((
            format!("a torn batch of which {written:?} are there"),
            with(&|files| {
                let bytes = files.get_mut(&last).expect("a segment");
                let end = bytes.iter().rposition(|byte| *byte != b'\n').expect("text");
                let from = (end + 1).next_multiple_of(SECTOR);
                for n in &written {
                    let part = &batch.as_bytes()[n * SECTOR..((n + 1) * SECTOR).min(batch.len())];
                    bytes[from + n * SECTOR..][..part.len()].copy_from_slice(part);
                }
            }),
        ));
    }
    let variants: [(&str, Vary); 4] = [
        ("two freezes", |m| {
            m.insert_before("owed", simple("f", "freeze", json!({"reason": ""})));
            m.insert_before("owed", simple("u", "unfreeze", json!({"reason": ""})));
        }),
        ("frozen at the end, and an execution ends in it", |m| {
            let receipt = receipt_of("late", m.rec("owed"), "indeterminate");
            let last = m.batches.len();
            m.insert(last, vec![simple("f", "freeze", json!({"reason": "now"}))]);
            m.insert(last + 1, vec![receipt]);
        }),
        ("times that go back", |m| m.set("pure", "at", "2026-03-01T11:59:30.000000Z".into())),
        ("a claim run again and not ended", |m| {
            let retry = retry_of("late", m.rec("owed"));
            let last = m.batches.len();
            m.insert(last, vec![retry]);
        }),
    ];
    let many = |m: &mut Model| {
        let most = (1u64 << 53) - 1;
        let codes = (0..2_100).map(|n| (format!("{:x}", n), most.into()));
        let count: serde_json::Map<String, Value> = codes.collect();
        m.insert_before("owed", simple("many", "suppressed", json!({"count": count})));
        let place = m.place("many").0;
        m.begins.push(place);
    };
    let not_allowed = |m: &mut Model| {
        if m.batches[0][0].value["mode"] == "demo" {
            return;
        }
        // Who says yes does not change what is allowed: a claim would.
        let mut changed = m.rec("policy").clone();
        changed.value["allowed"] = json!([]);
        m.insert_before("approved", changed.clone());
        changed.value["allowed"] = Value::Null;
        m.insert_before("owed", changed);
        let before = m.batches[..m.place("owed").0].iter().map(Vec::len).sum::<usize>();
        m.set("owed", "policy", (before - 1).into());
    };
    let variants = variants.into_iter().chain([
        ("more refusals than 2^64", many as Vary),
        ("an approval of what is not allowed just now", not_allowed as Vary),
    ]);
    let is_claw = model.batches[0][0].value["mode"] == "clawshield";
    let of_keys = if is_claw { keys::variants() } else { Vec::new() };
    for (name, change) in variants.chain(of_keys) {
        let mut changed = model.clone();
        change(&mut changed);
        changed.seal();
        stores.push((name.to_owned(), laid_out(&changed.frame())));
    }
    stores
}
