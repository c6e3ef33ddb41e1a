//! The table: a rule, the change that breaks it alone, and who must refuse the store.

use openexec::core::hash::{hex, sha256};
use serde_json::{Value, json};

use crate::forge::{
    AT, AUDIT, Approval, Files, Frame, Model, OPS, Of, SECTOR, approve, claim, keys_of, laid_out,
    receipt_of, refusal, respelled, retry_of, simple,
};

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
type Respell = fn(&str) -> String;
type Vary = fn(&mut Model);

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

use Change::{After, Before, Bytes, Field, Frame as Framed, Text};
use Who::{All, Audits, Verify};

/// In demo mode.
fn demo(rule: &str, refused_by: Who, change: Change) -> Case {
    Case { rule: rule.to_owned(), clawshield: false, change, refused_by }
}

fn claw(rule: &str, refused_by: Who, change: Change) -> Case {
    Case { rule: rule.to_owned(), clawshield: true, change, refused_by }
}

pub fn cases() -> Vec<Case> {
    let mut cases = [framing(), order(), records(), approvals()].concat();
    cases.extend(forms());
    cases
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

/// Which record may stand where.
fn order() -> Vec<Case> {
    vec![
        demo(
            "the store record is the first",
            All,
            Before(|m| {
                let record = m.remove("refusal");
                m.batches[0].insert(0, record);
            }),
        ),
        demo(
            "there is one store record",
            All,
            Before(|m| {
                let mut again = m.rec("store").clone();
                again.label = "store again";
                m.insert_before("refusal", again);
            }),
        ),
        demo(
            "there is a store record",
            All,
            Before(|m| {
                let at = m.of("store").clone();
                m.remove("store");
                // So that the segment line still says something.
                let mut refusal = m.remove("refusal");
                refusal.value["store"] = at["store"].clone();
                m.batches[0].push(refusal);
            }),
        ),
        demo("a kind that there is none of", All, Field("refusal", "kind", json!("denial"))),
        demo(
            "a policy is in force",
            All,
            Before(|m| {
                m.remove("policy");
            }),
        ),
        demo("a claim names the policy in force", All, Field("owed", "policy", json!(0))),
        demo(
            "a claim names no policy that was in force before",
            All,
            Before(|m| {
                let mut other = m.rec("policy").clone();
                other.label = "other";
                other.value["version"] = "2".into();
                m.insert_before("owed", other);
            }),
        ),
        demo(
            "a policy is another than the one in force",
            All,
            Before(|m| {
                let mut other = m.rec("policy").clone();
                other.value["at"] = "2026-03-01T12:00:01.000000Z".into();
                m.insert_before("freeze", other);
            }),
        ),
        demo(
            "a policy is the first of its batch",
            All,
            Before(|m| {
                let mut other = m.rec("policy").clone();
                other.label = "other";
                other.value["version"] = "2".into();
                let (batch, _) = m.place("freeze");
                m.batches[batch].push(other);
            }),
        ),
        demo(
            "a receipt has a claim",
            All,
            Before(|m| {
                m.remove("idempotent");
            }),
        ),
        demo(
            "a receipt comes after its claim",
            All,
            Before(|m| {
                let receipt = m.remove("idempotent receipt");
                m.insert_before("idempotent", receipt);
            }),
        ),
        demo(
            "there is one receipt of an id",
            All,
            Before(|m| {
                let again = m.rec("idempotent receipt").clone();
                m.insert_before("again", again);
            }),
        ),
        demo(
            "there is one receipt of an id, with the same outcome or another",
            All,
            Before(|m| {
                let claim = m.rec("idempotent").clone();
                m.insert_before("again", receipt_of("second", &claim, "failed"));
            }),
        ),
        demo(
            "a retry has a claim",
            All,
            Before(|m| {
                m.of("retry")["id"] = "cd".repeat(32).into();
            }),
        ),
        demo(
            "a retry comes before the receipt",
            All,
            Before(|m| {
                let retry = m.remove("retry");
                m.insert_before("once", retry);
            }),
        ),
        demo(
            "a retry comes after the claim",
            All,
            Before(|m| {
                let retry = m.remove("retry");
                m.insert_before("again", retry);
            }),
        ),
        demo(
            "a claim is retried once",
            All,
            Before(|m| {
                let retry = m.rec("retry").clone();
                m.insert_before("again receipt", retry);
            }),
        ),
        demo(
            "a claim of effect once is never retried",
            All,
            Before(|m| {
                let retry = retry_of("retry once", m.rec("once"));
                m.insert_before("once receipt", retry);
            }),
        ),
        demo(
            "no claim stands inside a freeze",
            All,
            Before(|m| {
                let claim = m.remove("owed");
                m.insert_before("unfreeze", claim);
            }),
        ),
        demo(
            "no retry stands inside a freeze",
            All,
            Before(|m| {
                let retry = m.remove("retry");
                let (freeze, unfreeze) = (m.remove("freeze"), m.remove("unfreeze"));
                m.insert_before("again receipt", freeze);
                m.insert_before("again receipt", retry);
                m.insert_before("again receipt", unfreeze);
            }),
        ),
        demo(
            "a freeze is not frozen again",
            All,
            Before(|m| {
                let again = m.rec("freeze").clone();
                m.insert_before("unfreeze", again);
            }),
        ),
        demo(
            "an unfreeze ends a freeze",
            All,
            Before(|m| {
                m.remove("freeze");
            }),
        ),
        demo(
            "an unfreeze ends it once",
            All,
            Before(|m| {
                let again = m.rec("unfreeze").clone();
                m.insert_before("owed", again);
            }),
        ),
        demo(
            "a nonce has one claim",
            Audits,
            Before(|m| {
                let mut again = claim("other", "idempotent");
                again.value["nonce"] = m.of("idempotent")["nonce"].clone();
                let receipt = receipt_of("other receipt", &again, "executed");
                m.insert_before("again", again);
                m.insert_before("again", receipt);
            }),
        ),
        demo(
            "an id has one claim without a receipt",
            All,
            Before(|m| {
                let again = m.rec("owed").clone();
                m.insert_before("owed", again);
            }),
        ),
        demo(
            "an id has one claim",
            Audits,
            Before(|m| {
                let again = m.rec("idempotent").clone();
                let receipt = m.rec("idempotent receipt").clone();
                m.insert_before("again", again);
                m.insert_before("again", receipt);
            }),
        ),
        demo(
            "a pure claim's receipt is in its batch",
            Audits,
            Before(|m| {
                let receipt = m.remove("pure receipt");
                m.insert_before("idempotent", receipt);
            }),
        ),
        demo(
            "another claim's receipt is in a later batch",
            Audits,
            Before(|m| {
                let receipt = m.remove("idempotent receipt");
                let (batch, _) = m.place("idempotent");
                m.batches[batch].push(receipt);
            }),
        ),
        demo(
            "a claim of effect once is alone in its batch",
            Audits,
            Before(|m| {
                let record = m.remove("suppressed");
                let (batch, _) = m.place("once");
                m.batches[batch].insert(0, record);
            }),
        ),
        claw(
            "an approval is in one claim",
            Audits,
            Before(|m| {
                approve(m.of("owed"), &[Approval::by(AUDIT, 3)]);
            }),
        ),
    ]
}

fn receipt(m: &mut Model, label: &str, outcome: &str, result: Value) {
    m.set(label, "outcome", outcome.into());
    m.set(label, "result", result);
}

/// What a record says of itself.
fn records() -> Vec<Case> {
    vec![
        demo(
            "the id of a claim",
            Audits,
            After(|m| {
                let other = hex(&sha256(&[b"other"]));
                m.set("owed", "id", other.into());
            }),
        ),
        demo(
            "the id of a claim covers its action",
            Audits,
            After(|m| m.set("owed", "action", "other".into())),
        ),
        demo(
            "the id of a claim covers its nonce",
            Audits,
            After(|m| m.set("owed", "nonce", "other".into())),
        ),
        demo(
            "the id of a claim covers its payload",
            Audits,
            After(|m| m.set("owed", "payload", json!({}))),
        ),
        demo(
            "the id of a refusal",
            Audits,
            After(|m| {
                m.set("refusal", "payload", json!({"n": 2}));
            }),
        ),
        demo(
            "the receipt of a receipt",
            Audits,
            After(|m| m.set("pure receipt", "result", json!({"sum": 2}))),
        ),
        demo(
            "the receipt of a refusal covers its code",
            Audits,
            After(|m| m.set("refusal", "code", "busy".into())),
        ),
        demo(
            "the receipt of a refusal covers its detail",
            Audits,
            After(|m| m.set("refusal", "detail", "".into())),
        ),
        demo(
            "the receipt of a refusal with a hash",
            Audits,
            After(|m| m.set("hashed", "code", "busy".into())),
        ),
        demo(
            "no hash covers the outcome: executed, by a failure's result",
            Audits,
            After(|m| {
                m.set("once receipt", "outcome", "executed".into());
            }),
        ),
        demo(
            "the outcome failed, by an execution's result",
            Audits,
            After(|m| {
                m.set("pure receipt", "outcome", "failed".into());
            }),
        ),
        demo(
            "the outcome indeterminate, by a failure's result",
            Audits,
            After(|m| {
                m.set("once receipt", "outcome", "indeterminate".into());
            }),
        ),
        demo(
            "the outcome failed, by an indeterminate result",
            Audits,
            After(|m| {
                m.set("again receipt", "outcome", "failed".into());
            }),
        ),
        demo(
            "the result denied is no execution's",
            Audits,
            Before(|m| {
                receipt(
                    m,
                    "pure receipt",
                    "executed",
                    json!({"denied": {"code": "a", "detail": ""}}),
                );
            }),
        ),
        demo(
            "a reserved name beside others is no execution's",
            Audits,
            Before(|m| {
                receipt(m, "pure receipt", "executed", json!({"failed": 1, "sum": 2}));
            }),
        ),
        demo(
            "a failure's result has one name",
            Audits,
            Before(|m| {
                let why = json!({"code": "a", "detail": ""});
                receipt(m, "once receipt", "failed", json!({"failed": why, "more": 1}));
            }),
        ),
        demo(
            "a failure's result has a code",
            Audits,
            Before(|m| {
                receipt(m, "once receipt", "failed", json!({"failed": {"detail": ""}}));
            }),
        ),
        demo(
            "a failure's result has no more than code and detail",
            Audits,
            Before(|m| {
                let why = json!({"code": "a", "detail": "", "more": 1});
                receipt(m, "once receipt", "failed", json!({"failed": why}));
            }),
        ),
        demo(
            "a failure's code is a text",
            Audits,
            Before(|m| {
                receipt(m, "once receipt", "failed", json!({"failed": {"code": 1, "detail": ""}}));
            }),
        ),
        demo(
            "a denied payload of over 4,096 bytes is a hash",
            Audits,
            Before(|m| {
                m.set("refusal", "payload", json!({"n": "x".repeat(4_089)}));
            }),
        ),
        demo(
            "a refusal has a payload or its hash",
            All,
            Before(|m| {
                m.set("refusal", "payload_hash", "ab".repeat(32).into());
            }),
        ),
        demo(
            "a refusal has one of the two",
            All,
            After(|m| {
                m.of("refusal").as_object_mut().expect("an object").remove("payload");
            }),
        ),
        demo(
            "suppressed counts are counts of something",
            All,
            Field("suppressed", "count", json!({})),
        ),
        demo(
            "suppressed counts are not zero",
            All,
            Field("suppressed", "count", json!({"busy": 0})),
        ),
        demo(
            "suppressed counts are not negative",
            All,
            Field("suppressed", "count", json!({"busy": -1})),
        ),
        demo(
            "suppressed counts are whole",
            All,
            Field("suppressed", "count", json!({"busy": 1.5})),
        ),
        demo(
            "suppressed counts are of codes",
            All,
            Field("suppressed", "count", json!({"Busy?": 1})),
        ),
        demo("suppressed counts are in an object", All, Field("suppressed", "count", json!([1]))),
        demo(
            "suppressed counts are numbers",
            All,
            Field("suppressed", "count", json!({"busy": "1"})),
        ),
        demo(
            "a claim in demo mode has no approval",
            Audits,
            Before(|m| {
                approve(m.of("owed"), &[Approval::by(OPS, 9)]);
            }),
        ),
        demo(
            "a claim in demo mode has no empty approval",
            Audits,
            Field("owed", "approval", json!([])),
        ),
        demo("a claim in demo mode has no keys", Audits, Field("owed", "keys", json!(["ops"]))),
        demo("a claim in demo mode has no legacy text", Audits, Field("owed", "legacy", json!(""))),
        demo("a policy of demo mode has no keys", Audits, Before(|m| keys_of(m.of("policy")))),
        demo("a policy of demo mode has no tenant", Audits, Field("policy", "tenant", json!("t"))),
        demo(
            "a policy of demo mode has no thresholds",
            Audits,
            Field("policy", "required", json!({"*": 1})),
        ),
    ]
}

fn artifact(m: &mut Model, label: &str, field: &str, value: Value) {
    m.of(label)["approval"][0][field] = value;
}

fn key(m: &mut Model, number: usize, field: &str, value: Value) {
    m.of("policy")["keys"][number][field] = value;
}

fn approved(m: &mut Model, approval: Approval) {
    approve(m.of("owed"), &[approval]);
}

/// A claim's approvals, by its own terms at its own time.
fn approvals() -> Vec<Case> {
    vec![
        claw(
            "a claim in clawshield mode has an approval",
            Audits,
            Field("owed", "approval", Value::Null),
        ),
        claw("it has at least one", Audits, Field("owed", "approval", json!([]))),
        claw(
            "a claim has at most 16",
            Audits,
            Before(|m| {
                let many: Vec<_> = (0..17).map(|n| Approval::by(AUDIT, 100 + n)).collect();
                approve(m.of("owed"), &many);
            }),
        ),
        claw(
            "an approval is an array's",
            All,
            Before(|m| {
                let one = m.of("owed")["approval"][0].clone();
                m.set("owed", "approval", one);
            }),
        ),
        claw(
            "an approval has an id",
            All,
            Before(|m| {
                let one = m.of("owed")["approval"][0].as_object_mut().expect("an object");
                one.remove("approval_id");
            }),
        ),
        claw(
            "an approval's id is a text",
            All,
            Before(|m| artifact(m, "owed", "approval_id", json!(1))),
        ),
        claw(
            "an approval's id is a UUID",
            Audits,
            Before(|m| artifact(m, "owed", "approval_id", json!("a"))),
        ),
        claw(
            "an approval's id is in lower case",
            Audits,
            Before(|m| {
                let upper = json!("3F0D6F0A-6D0C-4B7E-9A55-000000000008");
                artifact(m, "owed", "approval_id", upper);
            }),
        ),
        claw(
            "an approval has no more fields",
            Audits,
            Before(|m| artifact(m, "owed", "more", json!(1))),
        ),
        claw(
            "an approval has all fields",
            Audits,
            Before(|m| {
                let one = m.of("owed")["approval"][0].as_object_mut().expect("an object");
                one.remove("signature");
            }),
        ),
        claw(
            "an approval's times are dates",
            Audits,
            Before(|m| {
                artifact(m, "owed", "issued_at", json!("2026-02-30T11:59:00Z"));
            }),
        ),
        claw(
            "an approval's times are UTC",
            Audits,
            Before(|m| {
                artifact(m, "owed", "issued_at", json!("2026-03-01T11:59:00+01:00"));
            }),
        ),
        claw(
            "an approval's times have at most nine digits",
            Audits,
            Before(|m| {
                artifact(m, "owed", "issued_at", json!("2026-03-01T11:59:00.0000000000Z"));
            }),
        ),
        claw(
            "an approval's hash is one",
            Audits,
            Before(|m| artifact(m, "owed", "action_hash", json!("ab"))),
        ),
        claw(
            "an approval's signature has 64 bytes",
            Audits,
            Before(|m| {
                artifact(m, "owed", "signature", json!("AAAA"));
            }),
        ),
        claw(
            "an approval's signature is strict base64",
            Audits,
            Before(|m| {
                let text =
                    m.of("owed")["approval"][0]["signature"].as_str().expect("a text").to_owned();
                let other = crate::random::other_spelling(&text);
                artifact(m, "owed", "signature", other.into());
            }),
        ),
        claw(
            "an approval counts once",
            Audits,
            Before(|m| {
                approve(m.of("owed"), &[Approval::by(AUDIT, 8), Approval::by(OPS, 8)]);
            }),
        ),
        claw(
            "an approval is for the claim's tenant",
            Audits,
            Before(|m| {
                approved(m, Approval { tenant: "tenant-2", ..Approval::by(AUDIT, 8) });
            }),
        ),
        claw("a policy has a tenant", Audits, Field("policy", "tenant", Value::Null)),
        claw("the tenant is the approval's", Audits, Field("policy", "tenant", json!("tenant-2"))),
        claw("a policy has keys", Audits, Field("policy", "keys", Value::Null)),
        claw("a policy has at least one key", Audits, Field("policy", "keys", json!([]))),
        claw("a policy has thresholds", Audits, Field("policy", "required", Value::Null)),
        claw(
            "a policy has the other threshold",
            Audits,
            Field("policy", "required", json!({"a": 1})),
        ),
        claw(
            "a threshold can be reached",
            Audits,
            Field("policy", "required", json!({"*": 1, "a": 2})),
        ),
        claw(
            "every other threshold can be reached",
            Audits,
            Field("policy", "required", json!({"*": 2})),
        ),
        claw(
            "a threshold is an action's",
            Audits,
            Field("policy", "required", json!({"*": 1, "a b": 1})),
        ),
        claw("a key's name is there once", Audits, Before(|m| key(m, 1, "name", "ops".into()))),
        claw(
            "a key is there once",
            Audits,
            Before(|m| {
                let first = m.of("policy")["keys"][0]["public_key"].clone();
                key(m, 1, "public_key", first);
            }),
        ),
        claw("a key has a name", Audits, Before(|m| key(m, 1, "name", "".into()))),
        claw("a key may approve something", Audits, Before(|m| key(m, 1, "actions", json!([])))),
        claw(
            "a key may approve the action",
            Audits,
            Before(|m| key(m, 1, "actions", json!(["do.once"]))),
        ),
        claw(
            "a key is not past its not_after",
            Audits,
            Before(|m| key(m, 1, "not_after", AT.into())),
        ),
        claw(
            "an action is allowed",
            Audits,
            Field("policy", "allowed", json!(["do.pure", "do.once"])),
        ),
        claw(
            "an approval had not expired",
            Audits,
            Before(|m| {
                approved(m, Approval { expires: AT, ..Approval::by(AUDIT, 8) });
            }),
        ),
        claw(
            "an approval expires after it was issued",
            Audits,
            Before(|m| {
                let issued = "2026-03-01T12:00:30Z";
                approved(m, Approval { issued, expires: issued, ..Approval::by(AUDIT, 8) });
            }),
        ),
        claw(
            "an approval was issued by then",
            Audits,
            Before(|m| {
                approved(
                    m,
                    Approval { issued: "2026-03-01T12:01:00.000001Z", ..Approval::by(AUDIT, 8) },
                );
            }),
        ),
        claw(
            "an approval is not older than the store",
            Audits,
            Before(|m| {
                approved(
                    m,
                    Approval { issued: "2026-02-28T23:59:59.999999Z", ..Approval::by(AUDIT, 8) },
                );
            }),
        ),
        claw(
            "an approval lives no longer than the policy says",
            Audits,
            Field("policy", "ttl_max", json!(659)),
        ),
        claw(
            "an approval is of the claim",
            Audits,
            Before(|m| {
                approved(m, Approval { of: Of::Other, ..Approval::by(AUDIT, 8) });
            }),
        ),
        claw(
            "all approvals are of one hash",
            Audits,
            Before(|m| {
                let nonce = Approval { of: Of::Nonce, ..Approval::by(OPS, 9) };
                approve(m.of("owed"), &[Approval::by(AUDIT, 8), nonce]);
            }),
        ),
        claw("a claim has as many keys as it takes", Audits, Field("once", "keys", json!(["ops"]))),
        claw("a claim names its keys", Audits, Field("owed", "keys", json!([]))),
        claw(
            "a claim names no more keys than approvals",
            Audits,
            Field("owed", "keys", json!(["audit", "ops"])),
        ),
        claw(
            "a claim names a key once",
            Audits,
            Field("idempotent", "keys", json!(["ops", "ops"])),
        ),
        claw("a key's name is a text", Audits, Field("owed", "keys", json!([1]))),
        claw("keys are an array", Audits, Field("owed", "keys", json!("audit"))),
        claw(
            "a legacy text is one that was hashed",
            Audits,
            Before(|m| {
                let text = crate::random::legacy_of(m.of("owed"));
                m.set("owed", "legacy", text.into());
            }),
        ),
        claw("a legacy hash has its text", Audits, Field("pure", "legacy", Value::Null)),
        claw(
            "a legacy text is the one that was hashed",
            Audits,
            Before(|m| {
                let text = m.of("pure")["legacy"].as_str().expect("a text").replace("0.5", "0.50");
                m.set("pure", "legacy", text.into());
            }),
        ),
        claw(
            "a legacy text means what was executed",
            Audits,
            Before(|m| {
                // Signed as it is: another action's text.
                let mut other = m.of("again").clone();
                approve(&mut other, &[Approval { of: Of::Legacy, ..Approval::by(OPS, 1) }]);
                for field in ["approval", "legacy"] {
                    m.set("pure", field, other[field].clone());
                }
            }),
        ),
        claw(
            "a signature is the key's",
            Verify,
            Before(|m| {
                let other = m.of("again")["approval"][0]["signature"].clone();
                artifact(m, "owed", "signature", other);
            }),
        ),
        claw(
            "a signature covers the id",
            Verify,
            Before(|m| {
                artifact(m, "owed", "approval_id", json!("3f0d6f0a-6d0c-4b7e-9a55-0000000000ff"));
            }),
        ),
        claw("a claim names the key that verifies", Verify, Field("owed", "keys", json!(["ops"]))),
        claw(
            "a claim names keys in their order",
            Verify,
            Field("idempotent", "keys", json!(["audit", "ops"])),
        ),
        claw(
            "a claim names every key that verifies",
            Verify,
            Before(|m| {
                m.set("idempotent", "keys", json!(["ops"]));
            }),
        ),
        claw("a claim names no stranger", Audits, Field("owed", "keys", json!(["boss"]))),
        claw(
            "two approvals by one key are one",
            Verify,
            Before(|m| {
                approve(m.of("once"), &[Approval::by(AUDIT, 10), Approval::by(AUDIT, 11)]);
                m.set("once", "keys", json!(["audit", "ops"]));
            }),
        ),
    ]
}

const TIMES: [&str; 14] = [
    "2026-03-01T12:00:00Z",
    "2026-03-01T12:00:00.000000",
    "2026-03-01T12:00:00.000000+00:00",
    "2026-03-01T12:00:00.00000000Z",
    "2026-03-01T12:00:00.00000Z",
    "2026-03-01 12:00:00.000000Z",
    "2026-03-01t12:00:00.000000z",
    "2026-02-29T12:00:00.000000Z",
    "2026-13-01T12:00:00.000000Z",
    "2026-03-01T24:00:00.000000Z",
    "2026-03-01T12:60:00.000000Z",
    "2026-03-01T12:00:60.000000Z",
    "0000-03-01T12:00:00.000000Z",
    "2026-03-01T12:00:00.00\u{0660}000Z",
];

/// Each record of demo mode that has a form of its own.
const RECORDS: [&str; 10] = [
    "store",
    "policy",
    "refusal",
    "hashed",
    "suppressed",
    "owed",
    "pure receipt",
    "retry",
    "freeze",
    "unfreeze",
];

/// Values that a field does not take.
fn not_taken(field: &str) -> Vec<Value> {
    let long = "a".repeat(65);
    match field {
        "at" => TIMES.map(Value::from).to_vec(),
        "id" | "receipt" | "payload_hash" => {
            vec!["AB".repeat(32).into(), "ab".repeat(31).into(), "ab".repeat(33).into(), "".into()]
        }
        "store" => vec!["ab".repeat(15).into(), "0F".repeat(16).into(), "xy".repeat(16).into()],
        "mode" => vec!["Demo".into(), "".into()],
        "effect" => vec!["twice".into(), "Once".into()],
        "outcome" => vec!["denied".into(), "".into()],
        "action" => vec!["".into(), "a b".into(), long.into(), "\u{e9}".into()],
        "nonce" => vec![
            "".into(),
            "x".repeat(257).into(),
            "\u{e9}".repeat(129).into(),
            "a\tb".into(),
            "\u{85}".into(),
            "\u{7f}".into(),
        ],
        "code" => vec!["".into(), "Not A Code".into(), "x-y".into()],
        "ttl_max" | "policy" => {
            vec!["1".into(), (-1).into(), 1.5.into(), json!(9_007_199_254_740_992u64)]
        }
        "payload" | "result" => vec![json!([]), json!("{}")],
        "detail" | "reason" | "tenant" | "legacy" | "caller" | "version" => vec![1.into()],
        _ => Vec::new(),
    }
}

/// The form of each field of each kind, and of lines as texts.
fn forms() -> Vec<Case> {
    let mut model = crate::forge::demo();
    let mut cases = Vec::new();
    for label in RECORDS {
        let value = model.of(label).clone();
        let object = value.as_object().expect("an object");
        for field in object.keys() {
            // Nothing refuses this spelling but its own line: it is put there as it is.
            let rule = format!("{label}: {field} is not missing");
            cases.push(demo(&rule, All, Change::Without(label, field.clone())));
            let mut wrong = not_taken(field);
            wrong.push(true.into());
            let nullable = [
                "actions", "allowed", "approval", "caller", "callers", "keys", "legacy", "place",
                "required", "tenant", "ttl_max",
            ];
            if !nullable.contains(&field.as_str()) {
                wrong.push(Value::Null);
            }
            for wrong in wrong {
                // Of keys opening reads nothing.
                let who = if field == "keys" && label == "owed" { Audits } else { All };
                let shown: String = wrong.to_string().chars().take(40).collect();
                let rule = format!("{label}: {field} is not {shown}");
                // The segment line says the same as the store record.
                cases.push(demo(&rule, who, Change::Put(label, field.clone(), wrong)));
            }
        }
        let rule = format!("{label}: no field more");
        cases.push(demo(&rule, All, Change::Put(label, "zz".to_owned(), 1.into())));
        let texts: [(&str, Respell); 6] = [
            ("no space", |line| respelled(line, "\":", "\": ")),
            ("names in order", |line| {
                let rest =
                    line.strip_prefix('{').and_then(|l| l.strip_suffix('}')).expect("an object");
                let (last, before) = (rest.rfind(",\"").expect("two"), rest);
                format!("{{{},{}}}", &before[last + 1..], &before[..last])
            }),
            ("no name twice", |line| {
                let kind = line.find("\"kind\"").expect("a kind");
                let end = kind + line[kind..].find([',', '}']).expect("an end");
                format!("{}{},{}", &line[..kind], &line[kind..end], &line[kind..])
            }),
            ("no name escaped", |line| respelled(line, "\"kind\"", "\"\\u006bind\"")),
            ("no value escaped", |line| respelled(line, "\"at\":\"2026", "\"at\":\"\\u0032026")),
            ("nothing behind it", |line| format!("{line} ")),
        ];
        for (what, change) in texts {
            cases.push(demo(&format!("{label}: {what}"), All, Text(label, change)));
        }
    }
    let spelled: [(&str, &'static str, Who, Respell); 14] = [
        ("a reason's letter escaped", "freeze", All, |l| respelled(l, "why", "\\u0077hy")),
        ("a reason's hex in upper case", "refusal", All, |l| respelled(l, "\\u001b", "\\u001B")),
        ("a solidus escaped", "freeze", All, |l| respelled(l, "why", "w\\/y")),
        ("a line feed by its number", "freeze", All, |l| respelled(l, "\\n", "\\u000a")),
        ("a control character as it is", "freeze", All, |l| respelled(l, "\\n", "\t")),
        ("a lone surrogate", "freeze", All, |l| respelled(l, "why", "\\ud800")),
        ("a character by its surrogates", "freeze", All, |l| respelled(l, "\u{e9}", "\\u00e9")),
        ("a letter of a payload escaped", "owed", Audits, |l| {
            respelled(l, "{\"text\":\"owed\"", "{\"text\":\"\\u006fwed\"")
        }),
        ("a number of a payload as 1.0", "owed", Audits, |l| respelled(l, "[1,", "[1.0,")),
        ("a number of a payload as 5e-1", "owed", Audits, |l| respelled(l, "0.5", "5e-1")),
        ("a space in a payload", "owed", Audits, |l| respelled(l, "[1,", "[1, ")),
        ("a name twice in a payload", "owed", Audits, |l| {
            respelled(l, "{\"text\":\"owed\"", "{\"text\":\"owed\",\"text\":\"owed\"")
        }),
        ("a number beyond 2^53 in a payload", "owed", Audits, |l| {
            respelled(l, "[1,", "[9007199254740993,")
        }),
        ("a payload deeper than 68", "owed", Audits, |l| {
            respelled(l, "[1,", &format!("[{}{},", "[".repeat(70), "]".repeat(70)))
        }),
    ];
    for (what, label, who, change) in spelled {
        cases.push(demo(what, who, Text(label, change)));
    }
    cases
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
    for (name, change) in variants {
        let mut changed = model.clone();
        change(&mut changed);
        changed.seal();
        stores.push((name.to_owned(), laid_out(&changed.frame())));
    }
    stores
}
