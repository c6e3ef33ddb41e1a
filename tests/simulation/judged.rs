//! A batch is judged by what stands before it, and before it is written: what an opening would refuse never
//! reaches the disk, whatever bug has made it.

use std::sync::Arc;

use openexec::core::hash::{Hash, sha256};
use openexec::core::line::Json;
use openexec::core::receipt::{Effect, Outcome};
use openexec::core::record::{
    Approval, Asynchronous, Claim, Closed, Freeze, Identity, Mode, Policy, Receipt, Retry, Unfreeze,
};
use openexec::core::time::Time;
use openexec::store::open::open;
use openexec::store::{self, Batch, Files, Geometry, Lost, Store};

use crate::disk::{Crash, SimDisk};
use crate::random::Random;
use crate::requests::CREATED;

const GEOMETRY: Geometry =
    Geometry { segment_bytes: 64 * 1024, batch_bytes_max: 20 * 1024, executions_max: 1_000 };
const AT: Time = CREATED;

fn id(name: &str) -> Hash {
    sha256(&[name.as_bytes()])
}

fn claim(name: &str, policy: u64, effect: Effect) -> String {
    Claim {
        action: "echo",
        approval: Json("null"),
        at: AT,
        caller: None,
        effect,
        id: id(name),
        keys: Json("[]"),
        legacy: None,
        nonce: name.into(),
        payload: Json("{}"),
        place: None,
        policy,
    }
    .line()
}

fn receipt(name: &str) -> String {
    let (outcome, receipt) = (Outcome::Executed, id("receipt"));
    Receipt { at: AT, id: id(name), outcome, receipt, result: Json("{}") }.line()
}

fn policy() -> String {
    Policy {
        actions: None,
        allowed: Json("null"),
        at: AT,
        callers: Json("null"),
        keys: Json("null"),
        required: Json("null"),
        tenant: None,
        ttl_max: None,
        version: "1".into(),
    }
    .line()
}

fn freeze() -> String {
    Freeze { at: AT, reason: "".into() }.line()
}

fn retry(name: &str) -> String {
    Retry { at: AT, id: id(name) }.line()
}

fn batch(lines: &[String]) -> Batch {
    let mut batch = Batch::default();
    lines.iter().for_each(|line| batch.push(line));
    batch
}

fn opened(disk: &Arc<SimDisk>) -> Files {
    open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens").0
}

/// A store with a policy, one execution, a claim that is owed its receipt, and one of effect once.
fn store() -> (Arc<SimDisk>, Files) {
    let disk = Arc::new(SimDisk::new(Random::new(1)));
    let identity = Identity { store: "f".repeat(32), mode: Mode::Demo, created: CREATED };
    store::make(disk.as_ref(), GEOMETRY, &identity).expect("made");
    let mut files = opened(&disk);
    let done = [policy(), claim("done", 1, Effect::Pure), receipt("done")];
    files.append(&batch(&done)).expect("good");
    let owed = [claim("owed", 1, Effect::Idempotent), claim("once", 1, Effect::Once)];
    files.append(&batch(&owed)).expect("good");
    (disk, files)
}

#[test]
fn what_an_opening_would_refuse_is_never_written() {
    let new = || claim("new", 1, Effect::Pure);
    let bad: [(&str, Vec<String>); 16] = [
        ("a receipt without a claim", vec![receipt("new")]),
        ("a second receipt", vec![receipt("done")]),
        ("two receipts in the batch", vec![receipt("owed"), receipt("owed")]),
        ("a claim that is owed a receipt", vec![claim("owed", 1, Effect::Pure)]),
        ("the same claim twice", vec![new(), new()]),
        ("a policy that is not in force", vec![claim("new", 0, Effect::Pure)]),
        ("the policy again", vec![policy()]),
        ("behind what is good", vec![new(), receipt("new"), receipt("new")]),
        ("a claim in a freeze of the batch", vec![freeze(), new()]),
        ("a freeze in a freeze", vec![freeze(), freeze()]),
        ("an end of no freeze", vec![Unfreeze { at: AT, reason: "".into() }.line()]),
        ("a second run of what runs once", vec![retry("once")]),
        ("a third run", vec![retry("owed"), retry("owed")]),
        ("what nobody proposed", vec![Asynchronous { at: AT, id: id("new") }.line()]),
        (
            "an approval and an end of nothing",
            vec![
                Approval { artifact: Json("{}"), at: AT, id: id("new"), key: "k".into() }.line(),
                Closed {
                    at: AT,
                    by: None,
                    code: None,
                    how: openexec::core::stage::How::Expired,
                    id: id("new"),
                }
                .line(),
            ],
        ),
        ("no record", vec![new(), "{}".to_owned()]),
    ];
    for (what, lines) in bad {
        let (disk, mut files) = store();
        let before = disk.contents();
        let refused = files.append(&batch(&lines));
        assert!(matches!(refused, Err(Lost::Refused(_))), "{what}: {refused:?}");
        // What it makes of the records is half applied: it takes nothing more.
        assert!(files.append(&batch(&[new()])).is_err(), "{what}: taken after that");
        assert!(disk.contents() == before, "{what}: something was written");
        drop(files);
        disk.restart(Crash::Power);
        let mut files = opened(&disk);
        assert_eq!(files.size(), 6, "{what}");
        files.append(&batch(&[new(), receipt("new"), retry("owed")])).expect(what);
    }
}
