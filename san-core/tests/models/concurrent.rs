//! The sources of `san_core::concurrent`, with atomics of loom.

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    macro_rules! constructor {
        ($($function:tt)*) => {
            #[allow(clippy::new_without_default)] // as in the crate
            $($function)*
        };
    }
    pub(super) use constructor;
}

#[path = "../../src/concurrent/budget.rs"]
mod budget;
#[path = "../../src/concurrent/cancelable.rs"]
mod cancelable;
#[path = "../../src/concurrent/parties.rs"]
mod parties;
#[path = "../../src/concurrent/rate_limit.rs"]
mod rate_limit;
#[path = "../../src/concurrent/rounds.rs"]
mod rounds;

pub(crate) use budget::Budget;
pub(crate) use cancelable::Cancelable;
pub(crate) use parties::Parties;
pub(crate) use rate_limit::RateLimit;
pub(crate) use rounds::Rounds;
