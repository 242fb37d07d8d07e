//! Critical regions: the thread is neither suspended nor otherwise interrupted by normal kernel APCs.
#![allow(unsafe_code, reason = "calls the kernel")]

use core::marker::PhantomData;
use wdk_sys::ntddk::{KeAreAllApcsDisabled, KeEnterCriticalRegion, KeLeaveCriticalRegion};

/// While it exists the thread cannot be suspended, so that nobody waits for what a suspended thread has begun.
pub(crate) struct CriticalRegion {
    entered: bool,
    thread: PhantomData<*mut ()>,
}

impl CriticalRegion {
    /// IRQL <= DISPATCH_LEVEL; left on the same thread. Where no APC can come, at APC_LEVEL and above, there is nothing to enter.
    pub(crate) fn enter() -> Self {
        // SAFETY: callers run at IRQL <= DISPATCH_LEVEL.
        let entered = unsafe { KeAreAllApcsDisabled() } == 0;
        if entered {
            // SAFETY: IRQL = PASSIVE_LEVEL; the guard leaves the region on the same thread.
            unsafe { KeEnterCriticalRegion() };
        }
        Self { entered, thread: PhantomData }
    }
}

impl Drop for CriticalRegion {
    fn drop(&mut self) {
        if self.entered {
            // SAFETY: entered by this guard.
            unsafe { KeLeaveCriticalRegion() };
        }
    }
}
