//! An audit beside a live service holds less than the service does: most of what that holds is the index
//! of what was executed, and an audit has none. A history holds less, of every row too.
//!
//! Counted by the allocator of this test, at their peaks, over one store in small segments: the ratio
//! does not depend on the machine.

#[path = "../benches/store/generate.rs"]
mod generate;
#[path = "common/signer.rs"]
mod signer;
#[path = "../benches/store/unsynced.rs"]
mod unsynced;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use openexec::evidence::audit::audit;
use openexec::evidence::history::{Filter, Readable, Row, Tail, history};
use openexec::store::replay::{Observer, observe};
use openexec::store::state::State;
use openexec::store::{Geometry, files, open};
use openexec::sys::disk::{Directory, Disk};
use openexec::sys::exit::{self, Failure};

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is the system's; the counts change nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes held at once beyond what was held before.
fn peak<T>(work: impl FnOnce() -> T) -> usize {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    drop(work());
    MOST.load(Relaxed) - before
}

const GEOMETRY: Geometry =
    Geometry { segment_bytes: 64 * 1024, batch_bytes_max: 16 * 1024, executions_max: 1_000_000 };
const EXECUTIONS: u64 = 50_000;

struct OnDisk<'a>(&'a dyn Disk);

impl Readable for OnDisk<'_> {
    fn each(&self, observer: Observer) -> Result<(State, Tail), Failure> {
        let read = observe(self.0, GEOMETRY, &mut |_, _| {}, observer);
        let read = read.map_err(|error| exit::data(error.to_string()))?;
        let tail = read.tail();
        Ok((read.state, tail))
    }

    fn line(&self, at: u64) -> std::io::Result<String> {
        files::line(self.0, GEOMETRY, at)
    }
}

#[test]
fn an_audit_holds_a_fraction_of_what_the_service_holds() {
    for approvals in [0, 3] {
        let path = std::env::temp_dir().join(format!("oe-memory-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        generate::generate(&path, GEOMETRY, generate::Plan::of(EXECUTIONS, approvals));
        let disk: Arc<dyn Disk> = Arc::new(Directory::open(&path).expect("the directory"));
        let serves = peak(|| open::open(disk.clone(), GEOMETRY, &mut |_, _| {}).expect("it opens"));
        let audits = peak(|| {
            let summary = audit(disk.as_ref(), GEOMETRY, None, None, &mut |_, _| {});
            assert_eq!(summary.expect("a good store").executions["executed"], EXECUTIONS);
        });
        // Every row, though not all at once.
        let mut rows = 0;
        let lists = peak(|| {
            let mut count = |_: &Row| {
                rows += 1;
                Ok(())
            };
            history(&OnDisk(disk.as_ref()), &Filter::default(), &mut count)
        });
        std::fs::remove_dir_all(&path).expect("removed");
        assert!(
            rows == EXECUTIONS && lists * 3 <= serves * 2,
            "{rows} rows: {lists} beside {serves}"
        );
        assert!(audits * 4 <= serves * 3, "{approvals} approvals: {audits} beside {serves} bytes");
    }
}
