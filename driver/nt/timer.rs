//! A one-shot timer with its DPC.
#![allow(unsafe_code, reason = "owns a KTIMER and a KDPC, which the kernel links into its queues")]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use wdk_sys::ntddk::{KeCancelTimer, KeFlushQueuedDpcs, KeInitializeDpc, KeInitializeTimerEx, KeSetTimer};
use wdk_sys::{_TIMER_TYPE, KDPC, KTIMER, LARGE_INTEGER, PKDPC, PVOID};

/// Units of 100 ns in a millisecond.
const MILLISECOND: i64 = 10_000;

/// What a timer calls when it is due, at DISPATCH_LEVEL, with the context that it was set with.
pub(crate) type Due = unsafe extern "C" fn(dpc: PKDPC, context: PVOID, argument1: PVOID, argument2: PVOID);

/// A timer that does not move once it is initialized.
pub(crate) struct Timer {
    timer: UnsafeCell<MaybeUninit<KTIMER>>,
    dpc: UnsafeCell<MaybeUninit<KDPC>>,
}

// SAFETY: the kernel synchronizes the use of an initialized timer.
unsafe impl Sync for Timer {}
// SAFETY: plain memory until it is initialized.
unsafe impl Send for Timer {}

impl Timer {
    pub(crate) const fn new() -> Self {
        Self { timer: UnsafeCell::new(MaybeUninit::uninit()), dpc: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Says what it calls, with which context. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// Once, before it is set; from now on it stays where it is.
    pub(crate) unsafe fn initialize(&self, due: Due, context: PVOID) {
        // SAFETY: nobody else looks at it yet.
        unsafe { KeInitializeTimerEx(self.timer.get().cast(), _TIMER_TYPE::NotificationTimer) };
        // SAFETY: as above.
        unsafe { KeInitializeDpc(self.dpc.get().cast(), Some(due), context) };
    }

    /// Sets it to be due after that many milliseconds. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// It is initialized and not set; its context stays valid until `due` has run or [`Timer::cancel`] has said true.
    pub(crate) unsafe fn set(&self, milliseconds: u32) {
        let mut relative = LARGE_INTEGER::default();
        relative.QuadPart = -(i64::from(milliseconds) * MILLISECOND);
        // SAFETY: both are initialized, non-paged, and stay where they are.
        unsafe { KeSetTimer(self.timer.get().cast(), relative, self.dpc.get().cast()) };
    }

    /// Whether the timer has been taken back before it was due. If not, `due` has run, runs, or will. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// It has been set.
    pub(crate) unsafe fn cancel(&self) -> bool {
        // SAFETY: set, hence initialized.
        unsafe { KeCancelTimer(self.timer.get().cast()) != 0 }
    }
}

/// Waits until every DPC that was queued has run, so that none runs in an image that is gone. IRQL = PASSIVE_LEVEL.
pub(crate) fn flush_queued_dpcs() {
    // SAFETY: it has no arguments; unload calls this at PASSIVE_LEVEL.
    unsafe { KeFlushQueuedDpcs() };
}
