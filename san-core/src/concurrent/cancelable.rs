//! Something that is used again and again, and may be cancelled by one while it is under way.

use super::atomic::{AtomicU32, Ordering, constructor};

/// Not under way.
const IDLE: u32 = 0;
/// Under way, and not to be cancelled (any more).
const BEGUN: u32 = 1;
/// Under way, and to be cancelled by whoever changes this.
const CANCELABLE: u32 = 2;
/// Somebody cancels it, or has.
const CANCELLED: u32 = 3;

/// Whether an operation is under way, and who may cancel it.
#[derive(Debug)]
pub struct Cancelable(AtomicU32);

impl Cancelable {
    constructor! {
        /// Not under way.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicU32::new(IDLE))
        }
    }

    /// It begins; false if it is under way already.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.0.compare_exchange(IDLE, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// It may be cancelled from now on. It is under way, and has not been cancelled.
    pub fn allow(&self) {
        self.0.store(CANCELABLE, Ordering::Release);
    }

    /// It may not be cancelled any more. False if somebody cancels it, has, or could not be kept from it.
    #[must_use]
    pub fn revoke(&self) -> bool {
        self.0.compare_exchange(CANCELABLE, BEGUN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The caller cancels it: true for one at most, and only between [`Cancelable::allow`] and a [`Cancelable::revoke`] that succeeds.
    #[must_use]
    pub fn claim(&self) -> bool {
        self.0.compare_exchange(CANCELABLE, CANCELLED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// It is over: it may begin again.
    pub fn end(&self) {
        self.0.store(IDLE, Ordering::Release);
    }
}
