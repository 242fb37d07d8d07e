//! Wakers of reference-counted values.
#![allow(unsafe_code, reason = "makes wakers of references")]

use crate::shared::Shared;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::task::{RawWaker, RawWakerVTable, Waker};

/// What can be woken, on any thread and at IRQL <= DISPATCH_LEVEL.
pub(crate) trait Wake: Send + Sync + Sized + 'static {
    fn wake(this: &Shared<Self>);
}

pub(crate) fn waker<T: Wake>(woken: Shared<T>) -> Waker {
    let raw = RawWaker::new(Shared::into_raw(woken), Table::<T>::TABLE);
    // SAFETY: the table's functions take the reference that it is made of.
    unsafe { Waker::from_raw(raw) }
}

struct Table<T>(PhantomData<T>);

impl<T: Wake> Table<T> {
    const TABLE: &'static RawWakerVTable = &RawWakerVTable::new(Self::clone, Self::wake, Self::wake_by_ref, Self::drop);

    /// What a waker wakes; the waker keeps its reference.
    ///
    /// # Safety
    ///
    /// `raw` is of a waker of such a value.
    unsafe fn borrow(raw: *const ()) -> ManuallyDrop<Shared<T>> {
        // SAFETY: by this function's contract; the reference is not given back.
        ManuallyDrop::new(unsafe { Shared::from_raw(raw) })
    }

    unsafe fn clone(raw: *const ()) -> RawWaker {
        // SAFETY: a waker's own.
        let woken = unsafe { Self::borrow(raw) };
        RawWaker::new(Shared::into_raw(Shared::clone(&woken)), Self::TABLE)
    }

    unsafe fn wake(raw: *const ()) {
        // SAFETY: a waker's own, which goes with this.
        let woken = unsafe { Shared::from_raw(raw) };
        T::wake(&woken);
    }

    unsafe fn wake_by_ref(raw: *const ()) {
        // SAFETY: a waker's own.
        let woken = unsafe { Self::borrow(raw) };
        T::wake(&woken);
    }

    unsafe fn drop(raw: *const ()) {
        // SAFETY: a waker's own, which goes with this.
        drop(unsafe { Shared::<T>::from_raw(raw) });
    }
}
