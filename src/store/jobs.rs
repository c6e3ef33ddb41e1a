//! Executions that left a job of which nobody has said what became of it: a bit each, so that ten million of
//! them take no more than one megabyte and a quarter.

#[derive(Default)]
pub struct Jobs {
    words: Vec<u64>,
    pub open: u64,
    /// No word before this one has a bit.
    first: usize,
}

impl Jobs {
    pub fn set(&mut self, execution: u32, is_open: bool) {
        let (at, bit) = (execution as usize / 64, 1 << (execution % 64));
        if self.words.len() <= at {
            self.words.resize(at + 1, 0);
        }
        let word = &mut self.words[at];
        self.open -= u64::from(*word & bit != 0);
        *word &= !bit;
        if is_open {
            *word |= bit;
            self.open += 1;
            self.first = self.first.min(at);
        }
        while self.words.get(self.first) == Some(&0) {
            self.first += 1;
        }
    }

    pub fn oldest(&self) -> Option<u32> {
        let word = self.words.get(self.first)?;
        Some((self.first * 64) as u32 + word.trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Against a set that takes its time, in an order that jumps back and forth.
    #[test]
    fn it_counts_and_finds_the_oldest() {
        let (mut jobs, mut known) = (Jobs::default(), BTreeSet::new());
        let mut random = 1u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (number, is_open) = ((random >> 33) as u32 % 700, random >> 63 == 0);
            jobs.set(number, is_open);
            if is_open {
                known.insert(number)
            } else {
                known.remove(&number)
            };
            assert_eq!((jobs.open, jobs.oldest()), (known.len() as u64, known.first().copied()));
        }
        for number in 0..700 {
            jobs.set(number, false);
        }
        assert_eq!((jobs.open, jobs.oldest()), (0, None));
    }
}
