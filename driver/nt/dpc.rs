//! Deferred procedure calls.
#![allow(unsafe_code, reason = "owns a KDPC, which the kernel links into its queues")]

use super::timer::Due;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr;
use wdk_sys::ntddk::{KeInitializeDpc, KeInsertQueueDpc};
use wdk_sys::{KDPC, PVOID};

/// A DPC that does not move once it is initialized.
pub(crate) struct Dpc(UnsafeCell<MaybeUninit<KDPC>>);

// SAFETY: the kernel synchronizes the use of an initialized DPC.
unsafe impl Sync for Dpc {}
// SAFETY: plain memory until it is initialized.
unsafe impl Send for Dpc {}

impl Dpc {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Says what it calls, with which context, at DISPATCH_LEVEL. Any IRQL.
    ///
    /// # Safety
    ///
    /// Once, before it is queued; from now on it stays where it is.
    pub(crate) unsafe fn initialize(&self, routine: Due, context: PVOID) {
        // SAFETY: nobody else looks at it yet.
        unsafe { KeInitializeDpc(self.0.get().cast(), Some(routine), context) };
    }

    /// Has it run once after this call; false if it is queued already. IRQL <= DISPATCH_LEVEL (any, in fact).
    ///
    /// # Safety
    ///
    /// It is initialized, and its context stays valid until the routine has run.
    pub(crate) unsafe fn queue(&self) -> bool {
        // SAFETY: by this function's contract.
        unsafe { KeInsertQueueDpc(self.0.get().cast(), ptr::null_mut(), ptr::null_mut()) != 0 }
    }
}
