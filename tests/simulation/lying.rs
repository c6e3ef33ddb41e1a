//! A case that random histories meet too rarely: a power cut tears the first batch of a new segment,
//! opening blanks it, and the sync of that fails: from then on the kernel shows blanks, and the disk
//! has the torn batch still.

use std::sync::Arc;

use openexec::core::line::Json;
use openexec::core::record::{Identity, Mode, Suppressed};
use openexec::store::open::open;
use openexec::store::{self, Batch, Geometry, Store};

use crate::disk::{Crash, Fault, SimDisk};
use crate::random::Random;
use crate::requests::CREATED;

const GEOMETRY: Geometry =
    Geometry { segment_bytes: 8 * 1024, batch_bytes_max: 2_700, executions_max: 100 };

#[test]
fn what_the_disk_kept_of_a_failed_segment_does_not_come_back() {
    let mut failed = 0;
    for seed in 0..100 {
        let disk = Arc::new(SimDisk::new(Random::new(seed)));
        let identity = Identity { store: "e".repeat(32), mode: Mode::Demo, created: CREATED };
        store::make(disk.as_ref(), GEOMETRY, &identity).expect("made");
        let (mut store, _) = open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens");
        store.preparation().step(disk.as_ref(), GEOMETRY.segment_bytes);
        let batch = |bytes: usize| {
            let mut batch = Batch::default();
            batch.push(
                &Suppressed {
                    at: CREATED,
                    count: Json(&format!("{{\"{}\":1}}", "z".repeat(bytes))),
                }
                .line(),
            );
            batch
        };
        while store.room().used + 1_024 <= GEOMETRY.segment_bytes {
            store.append(&batch(10)).expect("appended");
        }
        disk.crash_in(Some(2));
        store.append(&batch(2_000)).expect_err("the process dies at its sync");
        disk.restart(Crash::Power);

        // The copy is synced first, then the current segment, then this one.
        disk.fault(Some((Fault::Sync { shows_old: false }, 3)));
        if open(disk.clone(), GEOMETRY, &mut |_, _| {}).is_err() {
            failed += 1;
        }
        disk.restart(Crash::Kill);
        let (mut store, _) = open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens again");
        // Into what is left of the old segment, then, with some seeds, into the new one.
        store.append(&batch(10)).expect("appended");
        if seed % 2 == 0 {
            store.append(&batch(300)).expect("appended");
        }
        let size = store.size();
        disk.restart(Crash::Power);
        let (store, torn) = open(disk.clone(), GEOMETRY, &mut |_, _| {})
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((store.size(), torn), (size, None), "seed {seed}");
    }
    assert!(failed > 10, "only {failed} met the case");
}
