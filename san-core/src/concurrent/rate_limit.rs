//! How often something may be said that others can trigger as often as they like.

use super::atomic::{AtomicU64, Ordering, constructor};

/// Units of 100 ns in a second.
const SECOND: u64 = 10_000_000;

/// So many a second, and how many there would have been more.
///
/// Any number of threads may ask at once, at any IRQL: one word holds the second (upper half) and how many have asked in it
/// (lower half). Who has read the clock before another began the next second asks in that one.
#[derive(Debug)]
pub struct RateLimit {
    most: u32,
    state: AtomicU64,
}

impl RateLimit {
    constructor! {
        /// At most `most` a second; at least 1.
        #[must_use]
        pub fn new(most: u32) -> Self {
            Self { most, state: AtomicU64::new(0) }
        }
    }

    /// Whether one more may be said at `now`, in units of 100 ns since the machine began; and if so, how many may
    /// not have been since the last one that might, in an earlier second.
    pub fn admit(&self, now: u64) -> Option<u32> {
        let [now, _] = halves((now / SECOND) << 32);
        let next = |state| {
            let [second, asked] = halves(state);
            let (second, asked) = if now > second { (now, 1) } else { (second, asked.saturating_add(1)) };
            Some((u64::from(second) << 32) | u64::from(asked))
        };
        let before = match self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(before) | Err(before) => before,
        };
        let [second, asked] = halves(before);
        if now > second { Some(asked.saturating_sub(self.most)) } else { (asked < self.most).then_some(0) }
    }
}

/// Upper and lower half of a word.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn halves(word: u64) -> [u32; 2] {
    [(word >> 32) as u32, word as u32]
}
