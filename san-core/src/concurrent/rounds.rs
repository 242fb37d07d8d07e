//! Uses of one thing, one after the other, each of which may be cancelled from anywhere.

use super::atomic::{AtomicU32, Ordering, constructor};

/// Says: cancelled. The bits below count the parties of the round.
const CANCELLED: u32 = 1 << 31;

/// The rounds of an IRP that is used for one call after the other.
///
/// A round has up to three kinds of parties: the issuer until its call has returned, the completion, and whoever is cancelling.
/// The last one to leave ends the round, whichever it is. Once cancelled, all later rounds are too.
#[derive(Debug)]
pub struct Rounds(AtomicU32);

impl Rounds {
    constructor! {
        /// No round is under way.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    /// A round begins, with two parties: issuer and completion. No other is under way. False if it is cancelled already.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.0.fetch_add(2, Ordering::AcqRel) & CANCELLED == 0
    }

    /// Cancels the round that is under way, and all later ones. True if there is one: the caller is a party of it now.
    #[must_use]
    pub fn cancel(&self) -> bool {
        let mut state = self.0.fetch_or(CANCELLED, Ordering::AcqRel) | CANCELLED;
        while state != CANCELLED {
            match self.0.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(changed) => state = changed,
            }
        }
        false
    }

    /// Whether it has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) & CANCELLED != 0
    }

    /// A party leaves; true for the last one: the round has ended.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) & !CANCELLED == 1
    }
}
