//! What threads agree on without a lock. `tests/models` tries every interleaving of each of these (with loom).

mod atomic {
    pub(super) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    /// A constructor for statics; loom's atomics have none.
    macro_rules! constructor {
        ($(#[$attribute:meta])* pub fn $($rest:tt)*) => {
            #[allow(clippy::new_without_default, reason = "statics cannot use a `Default`")]
            $(#[$attribute])*
            pub const fn $($rest)*
        };
    }
    pub(super) use constructor;
}

mod budget;
mod cancelable;
mod parties;
mod rate_limit;
mod rounds;

pub use budget::Budget;
pub use cancelable::Cancelable;
pub use parties::Parties;
pub use rate_limit::RateLimit;
pub use rounds::Rounds;
