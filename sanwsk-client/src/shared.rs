//! Reference-counted values in non-paged pool; unlike `Arc`, making one can fail.
#![allow(unsafe_code, reason = "owns pool memory and counts the references to it")]

use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use san_protocol::NtStatus;
use wdk_sys::POOL_FLAG_NON_PAGED;
use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag};

/// Pool tag of all that this crate allocates.
const TAG: u32 = u32::from_le_bytes(*b"SanC");

/// A block of non-paged pool, of zeros and aligned to 16 bytes. IRQL <= DISPATCH_LEVEL.
pub(crate) fn allocate(length: usize) -> Result<NonNull<u8>, NtStatus> {
    // SAFETY: non-paged pool may be allocated at any IRQL <= DISPATCH_LEVEL.
    let block = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, length as _, TAG) };
    NonNull::new(block.cast()).ok_or(NtStatus::INSUFFICIENT_RESOURCES)
}

/// # Safety
///
/// `block` comes from [`allocate`], is freed once, and not used any more.
pub(crate) unsafe fn free(block: NonNull<u8>) {
    // SAFETY: by this function's contract.
    unsafe { ExFreePoolWithTag(block.as_ptr().cast(), TAG) };
}

struct Counted<T> {
    references: AtomicUsize,
    value: T,
}

/// One reference to a value; the last one to go drops it.
pub(crate) struct Shared<T>(NonNull<Counted<T>>);

// SAFETY: it gives `&T` to whoever has it and drops `T` wherever the last reference goes, as `Arc` does.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// IRQL <= DISPATCH_LEVEL. `STATUS_INSUFFICIENT_RESOURCES` when pool has run out; `value` is dropped then.
    pub(crate) fn try_new(value: T) -> Result<Self, NtStatus> {
        const { assert!(align_of::<Counted<T>>() <= 16) };
        let block = allocate(size_of::<Counted<T>>())?.cast::<Counted<T>>();
        // SAFETY: the block is this call's own, large enough, and aligned.
        unsafe { block.write(Counted { references: AtomicUsize::new(1), value }) };
        Ok(Self(block))
    }

    /// Gives the reference away; [`Shared::from_raw`] takes it back.
    pub(crate) fn into_raw(this: Self) -> *const () {
        let block = this.0;
        core::mem::forget(this);
        block.as_ptr().cast_const().cast()
    }

    /// # Safety
    ///
    /// `raw` came out of [`Shared::into_raw`] of the same type, and is taken back once for each time.
    pub(crate) unsafe fn from_raw(raw: *const ()) -> Self {
        // SAFETY: it is the address of a pool block, which is never null.
        Self(unsafe { NonNull::new_unchecked(raw.cast_mut().cast()) })
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: this reference keeps the block alive, and nobody has it mutably.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        self.counted().references.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if self.counted().references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // SAFETY: that was the last reference: the value is dropped once, here.
        unsafe { self.0.drop_in_place() };
        // SAFETY: it came from `try_new`, and its value has gone.
        unsafe { free(self.0.cast()) };
    }
}
