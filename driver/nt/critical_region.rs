//! Critical regions: the thread is neither suspended nor otherwise interrupted by normal kernel APCs.
#![allow(unsafe_code, reason = "calls the kernel")]

use core::marker::PhantomData;
use wdk_sys::ntddk::{KeEnterCriticalRegion, KeLeaveCriticalRegion};

/// While it exists the thread cannot be suspended, so that nobody waits for what a suspended thread has begun.
pub(crate) struct CriticalRegion(PhantomData<*mut ()>);

impl CriticalRegion {
    /// IRQL <= APC_LEVEL; left on the same thread.
    pub(crate) fn enter() -> Self {
        // SAFETY: callers run at PASSIVE_LEVEL; the guard leaves the region on the same thread.
        unsafe { KeEnterCriticalRegion() };
        Self(PhantomData)
    }
}

impl Drop for CriticalRegion {
    fn drop(&mut self) {
        // SAFETY: entered by this guard.
        unsafe { KeLeaveCriticalRegion() };
    }
}
