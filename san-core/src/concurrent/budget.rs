//! Something of which there is so much.

use super::atomic::{AtomicU64, Ordering, constructor};

/// How much of something is taken. Never more than there may be, not even for a moment; and nobody is refused what is there.
#[derive(Debug)]
pub struct Budget(AtomicU64);

impl Budget {
    constructor! {
        /// Nothing is taken.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Takes `amount`, unless that makes more than `most`; whether it has.
    #[must_use]
    pub fn take(&self, amount: u64, most: u64) -> bool {
        let more = |taken: u64| taken.checked_add(amount).filter(|sum| *sum <= most);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives back what was taken.
    pub fn give_back(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// How much is taken.
    pub fn taken(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
