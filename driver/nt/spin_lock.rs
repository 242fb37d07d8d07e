//! A spin lock that owns what it protects.
#![allow(unsafe_code, reason = "calls the kernel's spin lock, and hands out what it protects")]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use wdk_sys::ntddk::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};
use wdk_sys::{KIRQL, KSPIN_LOCK};

/// A value behind a `KSPIN_LOCK`. It must lie in non-paged memory, as everything of this driver does.
pub(crate) struct SpinLock<T> {
    lock: UnsafeCell<KSPIN_LOCK>,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through `lock` alone, by one processor at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}
// SAFETY: the lock word has no tie to a thread while it is free, and moving needs exclusive access.
unsafe impl<T: Send> Send for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock; zero is what `KeInitializeSpinLock` stores.
    pub(crate) const fn new(value: T) -> Self {
        Self { lock: UnsafeCell::new(0), value: UnsafeCell::new(value) }
    }

    /// Takes the lock. No call that may complete a request, or take another lock but as the lock order says, while it is held.
    ///
    /// IRQL <= DISPATCH_LEVEL; at DISPATCH_LEVEL until the guard is dropped.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        // SAFETY: the lock word is initialized, non-paged, and lives as long as `self`.
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        Guard { owner: self, irql, thread: PhantomData }
    }
}

/// Holds a [`SpinLock`]; guards are dropped in the reverse order of taking.
pub(crate) struct Guard<'a, T> {
    owner: &'a SpinLock<T>,
    irql: KIRQL,
    thread: PhantomData<*mut ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard holds the lock, so no other reference to the value exists.
        unsafe { &*self.owner.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard holds the lock, and is borrowed mutably itself.
        unsafe { &mut *self.owner.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this guard took the lock on this processor, and `irql` is what it was then.
        unsafe { KeReleaseSpinLock(self.owner.lock.get(), self.irql) };
    }
}
