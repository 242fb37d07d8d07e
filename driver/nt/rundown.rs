//! Run-down protection: users come and go until somebody waits for the last.
#![allow(unsafe_code, reason = "calls the kernel's run-down protection")]

use core::cell::UnsafeCell;
use wdk_sys::EX_RUNDOWN_REF;
use wdk_sys::ntddk::{ExAcquireRundownProtection, ExReleaseRundownProtection, ExWaitForRundownProtectionRelease};

/// An `EX_RUNDOWN_REF`; lives in a static.
pub(crate) struct Rundown(UnsafeCell<EX_RUNDOWN_REF>);

// SAFETY: the kernel's functions use the field by interlocked operations.
unsafe impl Sync for Rundown {}

impl Rundown {
    /// Nobody uses it, nobody waits: all zeros, as `ExInitializeRundownProtection` leaves it.
    pub(crate) const fn new() -> Self {
        // SAFETY: the structure is one word, for which zero is a value.
        Self(UnsafeCell::new(unsafe { core::mem::zeroed() }))
    }

    /// A use, unless somebody is waiting for the last or has waited. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn acquire(&'static self) -> Option<RundownGuard> {
        // SAFETY: the field is initialized and static.
        let acquired = unsafe { ExAcquireRundownProtection(self.0.get()) };
        // Made only where there is a use to release: a guard that is dropped releases one.
        (acquired != 0).then(|| RundownGuard(self))
    }

    /// Waits until the last use has ended; there are none from then on. IRQL = PASSIVE_LEVEL.
    pub(crate) fn wait(&'static self) {
        // SAFETY: the field is initialized and static; only unload calls this, at PASSIVE_LEVEL.
        unsafe { ExWaitForRundownProtectionRelease(self.0.get()) };
    }
}

/// One use of a [`Rundown`].
pub(crate) struct RundownGuard(&'static Rundown);

impl RundownGuard {
    /// A further use, for somebody else. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn another(&self) -> Option<Self> {
        self.0.acquire()
    }
}

impl Drop for RundownGuard {
    fn drop(&mut self) {
        // SAFETY: this guard is the proof of one acquisition that has not been released.
        unsafe { ExReleaseRundownProtection(self.0.0.get()) };
    }
}
