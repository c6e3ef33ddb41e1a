//! Bytes on their way through, in pieces of one size that are used again.
//!
//! An allocator may keep what is freed, or copy what grows. Here a request or an answer never moves
//! once it has come, and the pieces go back to one stock: invariant: however connections come and
//! go, no more pieces exist than were ever charged at once, so that the byte budget is also a bound
//! on memory.

use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::limits::{HELD_STEP_BYTES, PIECE_BYTES};

/// Pieces that nobody uses now.
#[derive(Default)]
pub(super) struct Stock(Mutex<Vec<Box<[u8]>>>);

impl Stock {
    fn free(&self) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request or answer.
pub(super) struct Pieces {
    stock: Arc<Stock>,
    /// The connection's own; most requests and answers need no more.
    first: Vec<u8>,
    more: Vec<Box<[u8]>>,
    len: usize,
}

impl Pieces {
    pub(super) fn new(stock: &Arc<Stock>) -> Self {
        Pieces { stock: Arc::clone(stock), first: Vec::new(), more: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of pieces taken from the stock: what is charged.
    pub(super) fn charged(&self) -> usize {
        self.more.len() * PIECE_BYTES
    }

    /// The part that is never in a second piece: where a head must be.
    pub(super) fn start(&self) -> &[u8] {
        &self.first[..self.len.min(self.first.len())]
    }

    /// Where the next bytes go, at least one of them. A piece is taken for them if need be, and if
    /// `may_hold` so many charged bytes; otherwise `None`.
    pub(super) fn room(&mut self, may_hold: impl FnOnce(usize) -> bool) -> Option<&mut [u8]> {
        if self.first.is_empty() {
            self.first = vec![0; HELD_STEP_BYTES];
        }
        if self.len == self.first.len() + self.charged() {
            if !may_hold(self.charged() + PIECE_BYTES) {
                return None;
            }
            let free = self.stock.free().pop();
            let piece = free.unwrap_or_else(|| vec![0; PIECE_BYTES].into_boxed_slice());
            self.more.push(piece);
        }
        match self.len.checked_sub(self.first.len()) {
            None => Some(&mut self.first[self.len..]),
            Some(after) => {
                let piece = self.more.get_mut(after / PIECE_BYTES)?;
                Some(&mut piece[after % PIECE_BYTES..])
            }
        }
    }

    /// So many bytes were put into the room.
    pub(super) fn came(&mut self, bytes: usize) {
        self.len += bytes;
    }

    /// The bytes from `from` on, in as many slices as there are; how many were needed.
    pub(super) fn slices<'a>(&'a self, mut from: usize, into: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for slice in into {
            let left = self.len.saturating_sub(from);
            let piece = match from.checked_sub(self.first.len()) {
                _ if left == 0 => break,
                None => &self.first[from..],
                Some(after) => &self.more[after / PIECE_BYTES][after % PIECE_BYTES..],
            };
            let piece = &piece[..piece.len().min(left)];
            *slice = IoSlice::new(piece);
            from += piece.len();
            filled += 1;
        }
        filled
    }

    /// Gives every piece back, and forgets the rest.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        if !self.more.is_empty() {
            self.stock.free().append(&mut self.more);
            self.more = Vec::new();
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_and_pieces_are_used_again() {
        let stock = Arc::new(Stock::default());
        for length in [0, 1, 4095, 4096, 4097, 20_480, 20_481, 300_000] {
            let bytes: Vec<u8> = (0..length).map(|at: usize| (at % 251) as u8).collect();
            let mut pieces = Pieces::new(&stock);
            while pieces.len() < length {
                let left = &bytes[pieces.len()..];
                let room = pieces.room(|_| true).unwrap();
                let piece = room.len().min(left.len()).min(1_000);
                room[..piece].copy_from_slice(&left[..piece]);
                pieces.came(piece);
            }
            for from in [0, length / 3, length] {
                let mut out = Vec::new();
                loop {
                    let mut slices = [IoSlice::new(&[]); 3];
                    let filled = pieces.slices(from + out.len(), &mut slices);
                    for slice in &slices[..filled] {
                        out.extend_from_slice(slice);
                    }
                    if filled == 0 {
                        break;
                    }
                }
                assert_eq!(out, bytes[from..]);
            }
        }
        let most = (300_000 - HELD_STEP_BYTES).div_ceil(PIECE_BYTES);
        assert_eq!(stock.free().len(), most);
    }

    #[test]
    fn no_piece_is_taken_without_leave() {
        let mut pieces = Pieces::new(&Arc::new(Stock::default()));
        let first = pieces.room(|_| false).unwrap().len();
        pieces.came(first);
        assert!(pieces.room(|_| false).is_none());
        assert_eq!(pieces.room(|held| held == PIECE_BYTES).unwrap().len(), PIECE_BYTES);
    }
}
