//! Who has to do with something that ends when nobody has any more.

use super::atomic::{AtomicU32, Ordering, constructor};

/// How many parties there are. What one of them wrote before it left, the last one sees.
#[derive(Debug)]
pub struct Parties(AtomicU32);

impl Parties {
    constructor! {
        /// So many, which is not zero.
        #[must_use]
        pub fn new(count: u32) -> Self {
            Self(AtomicU32::new(count))
        }
    }

    /// A further one; the caller is one, or speaks for one.
    pub fn join(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One leaves; true for the last one.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }
}
