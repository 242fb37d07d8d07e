//! Waiting, on the rare occasions on which somebody does.
#![allow(unsafe_code, reason = "waits for an event that lies on the stack")]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use wdk_sys::ntddk::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use wdk_sys::{_EVENT_TYPE, _KWAIT_REASON, _MODE, KEVENT};

/// A thread that waits until this is dropped, wherever that is.
pub(crate) struct WaitingThread(NonNull<KEVENT>);

// SAFETY: an event may be set from any thread, and its own waits for that.
unsafe impl Send for WaitingThread {}

impl Drop for WaitingThread {
    fn drop(&mut self) {
        // SAFETY: it lies on the stack of a thread that waits for this.
        unsafe { KeSetEvent(self.0.as_ptr(), 0, 0) };
    }
}

/// Gives `begin` this thread, and waits until that is dropped. IRQL <= APC_LEVEL.
pub(crate) fn wait_for(begin: impl FnOnce(WaitingThread)) {
    let event = UnsafeCell::new(MaybeUninit::<KEVENT>::uninit());
    // SAFETY: a variable's address.
    let event = unsafe { NonNull::new_unchecked(event.get().cast::<KEVENT>()) };
    // SAFETY: memory for an event, which stays where it is until the wait is over.
    unsafe { KeInitializeEvent(event.as_ptr(), _EVENT_TYPE::NotificationEvent, 0) };
    begin(WaitingThread(event));
    #[expect(clippy::cast_possible_truncation, reason = "0")]
    let mode = _MODE::KernelMode as i8;
    // SAFETY: initialized above; whoever got the thread sets it.
    let _ = unsafe { KeWaitForSingleObject(event.as_ptr().cast(), _KWAIT_REASON::Executive, mode, 0, ptr::null_mut()) };
}
