//! Reference-counted values in non-paged pool; unlike `Arc`, making one can fail.
#![allow(unsafe_code, reason = "owns pool memory and counts the references to it")]

use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};
use san_protocol::NtStatus;
use wdk_sys::ntddk::{ExAllocatePool2, ExFreePoolWithTag};
use wdk_sys::{POOL_FLAG_NON_PAGED, ULONG};

struct Counted<T> {
    references: AtomicUsize,
    tag: ULONG,
    value: T,
}

/// One reference to a value; the last one to go drops it.
pub(crate) struct Shared<T>(NonNull<Counted<T>>);

// SAFETY: it gives `&T` to whoever has it and drops `T` wherever the last reference goes, as `Arc` does.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Moves `value` into pool with the tag `tag`.
    ///
    /// IRQL <= DISPATCH_LEVEL. `STATUS_INSUFFICIENT_RESOURCES` when pool has run out; `value` is dropped then.
    pub(crate) fn try_new(tag: [u8; 4], value: T) -> Result<Self, NtStatus> {
        // Pool blocks are aligned to 16 bytes.
        const { assert!(align_of::<Counted<T>>() <= 16) };
        let tag = u32::from_le_bytes(tag);
        // SAFETY: non-paged pool may be allocated at any IRQL <= DISPATCH_LEVEL.
        let memory = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size_of::<Counted<T>>() as _, tag) };
        let Some(memory) = NonNull::new(memory.cast::<Counted<T>>()) else {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        };
        // SAFETY: the block is this call's own, large enough, and aligned.
        unsafe { memory.write(Counted { references: AtomicUsize::new(1), tag, value }) };
        Ok(Self(memory))
    }

    /// The value as the opaque context of a callback. No reference is counted for it.
    pub(crate) fn as_ptr(this: &Self) -> *const T {
        // SAFETY: the reference keeps the block alive.
        unsafe { &raw const (*this.0.as_ptr()).value }
    }

    /// Gives the reference away as a pointer; [`Shared::from_raw`] takes it back.
    pub(crate) fn into_raw(this: Self) -> *const T {
        let value = Self::as_ptr(&this);
        core::mem::forget(this);
        value
    }

    /// # Safety
    ///
    /// `value` came out of [`Shared::into_raw`], and is taken back once for each time.
    pub(crate) unsafe fn from_raw(value: *const T) -> Self {
        let offset = core::mem::offset_of!(Counted<T>, value);
        // SAFETY: the caller says that `value` lies in a `Counted<T>`.
        let counted = unsafe { value.cast::<u8>().sub(offset) };
        // SAFETY: it is the address of a pool block, which is never null.
        Self(unsafe { NonNull::new_unchecked(counted.cast_mut().cast()) })
    }

    /// Another reference to the value behind a callback's context.
    ///
    /// # Safety
    ///
    /// `value` came out of [`Shared::as_ptr`] or [`Shared::into_raw`], and some reference outlives this call.
    pub(crate) unsafe fn from_context(value: *const T) -> Self {
        // SAFETY: by this function's own contract.
        let borrowed = core::mem::ManuallyDrop::new(unsafe { Self::from_raw(value) });
        Self::clone(&borrowed)
    }

    /// Whether both refer to the same value.
    pub(crate) fn is_same(this: &Self, other: &Self) -> bool {
        this.0 == other.0
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
        // SAFETY: that was the last reference: the block is nobody else's from here on.
        unsafe { end(self.0) };
    }
}

/// Frees the block, then drops the value, which may tell somebody that nothing is left of it.
///
/// A function of its own: kilobytes of a value are on the stack here, and not wherever a reference may go.
///
/// # Safety
///
/// The last reference to the block has gone.
#[inline(never)]
unsafe fn end<T>(block: NonNull<Counted<T>>) {
    // SAFETY: by this function's contract.
    let Counted { tag, value, .. } = unsafe { block.read() };
    // SAFETY: it came from ExAllocatePool2 with this tag, and its contents have been moved out.
    unsafe { ExFreePoolWithTag(block.as_ptr().cast(), tag) };
    drop(value);
}
