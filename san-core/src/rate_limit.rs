//! How often something may be said that others can trigger as often as they like.

use core::sync::atomic::{AtomicU64, Ordering};

/// Units of 100 ns in a second.
const SECOND: u64 = 10_000_000;

/// So many a second, and how many there would have been more.
///
/// Any number of threads may ask at once, at any IRQL: one word holds the second (upper half) and how many have asked in it
/// (lower half).
#[derive(Debug)]
pub struct RateLimit {
    most: u32,
    state: AtomicU64,
}

impl RateLimit {
    /// At most `most` a second.
    #[must_use]
    pub const fn new(most: u32) -> Self {
        Self { most, state: AtomicU64::new(0) }
    }

    /// Whether one more may be said at `now`, in units of 100 ns of a clock that does not go back; and if so, how many may
    /// not have been since the last one that might, in an earlier second.
    pub fn admit(&self, now: u64) -> Option<u32> {
        let [second, _] = halves((now / SECOND) << 32);
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let [current, asked] = halves(seen);
            let (next, admitted) = if current == second {
                (asked.saturating_add(1), (asked < self.most).then_some(0))
            } else {
                (1, (self.most > 0).then(|| asked.saturating_sub(self.most)))
            };
            let state = (u64::from(second) << 32) | u64::from(next);
            match self.state.compare_exchange_weak(seen, state, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return admitted,
                Err(other) => seen = other,
            }
        }
    }
}

/// Upper and lower half of a word.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn halves(word: u64) -> [u32; 2] {
    [(word >> 32) as u32, word as u32]
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::sync::atomic::AtomicU32;
    use std::thread;

    #[test]
    fn so_many_a_second_are_admitted_and_the_next_second_s_first_says_how_many_were_not() {
        let limit = RateLimit::new(3);
        let asked: std::vec::Vec<_> = (0..5).map(|tick| limit.admit(7 * SECOND + tick)).collect();
        assert_eq!(asked, [Some(0), Some(0), Some(0), None, None]);
        assert_eq!(limit.admit(9 * SECOND), Some(2));
        assert_eq!(limit.admit(9 * SECOND), Some(0));
        assert_eq!(limit.admit(10 * SECOND), Some(0), "nothing was kept back in between");
    }

    #[test]
    fn the_first_second_of_the_clock_is_a_second_too() {
        let limit = RateLimit::new(1);
        assert_eq!((limit.admit(0), limit.admit(1), limit.admit(SECOND)), (Some(0), None, Some(1)));
    }

    #[test]
    fn many_threads_get_no_more_together_and_none_is_lost() {
        const THREADS: u32 = 8;
        const EACH: u32 = 10_000;
        let (limit, admitted) = (RateLimit::new(100), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        if limit.admit(SECOND).is_some() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 100);
        assert_eq!(limit.admit(2 * SECOND), Some(THREADS * EACH - 100));
    }
}
