//! How many request bytes are behind the gate at once.
//!
//! Invariant: at most [`INSIDE_BYTES_MAX`] of them, or one request, beside small ones. What the front and the executor
//! hold of a request is a small multiple of its bytes (its value, its record, its answer), so this
//! bounds them without their counting anything. Whoever must wait does so here, with its bytes in
//! the gate's own budget.
//!
//! Small requests never wait, and count for nothing: two large ones that wait for a handler must not
//! keep `/health` from answering.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits::{INSIDE_BYTES_MAX, SMALL_REQUEST_BYTES};

#[derive(Default)]
pub(super) struct Inside {
    bytes: Mutex<usize>,
    freed: Condvar,
}

/// The leave of one request; dropping it gives the room to the next.
pub(super) struct Leave<'a> {
    inside: &'a Inside,
    bytes: usize,
}

impl Inside {
    /// Waits until a request of `bytes` may go in.
    pub(super) fn enter(&self, bytes: usize) -> Leave<'_> {
        let bytes = if bytes > SMALL_REQUEST_BYTES { bytes } else { 0 };
        let must_wait =
            |inside: &mut usize| bytes > 0 && *inside > 0 && *inside + bytes > INSIDE_BYTES_MAX;
        let mut inside =
            self.freed.wait_while(self.lock(), must_wait).unwrap_or_else(PoisonError::into_inner);
        *inside += bytes;
        Leave { inside: self, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.inside.lock() -= self.bytes;
        self.inside.freed.notify_all();
    }
}
