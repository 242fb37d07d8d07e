//! An executor that is the calling thread.
#![allow(unsafe_code, reason = "waits for a kernel event")]

use crate::shared::Shared;
use crate::waker::{Wake, waker};
use core::cell::UnsafeCell;
use core::pin::pin;
use core::ptr;
use core::task::{Context, Poll};
use san_protocol::NtStatus;
use wdk_sys::ntddk::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use wdk_sys::{_EVENT_TYPE, _KWAIT_REASON, _MODE, IO_NO_INCREMENT, KEVENT};

/// A synchronization event.
struct Event(UnsafeCell<KEVENT>);

// SAFETY: the kernel's own functions are all that touches it, from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    fn new() -> Result<Shared<Self>, NtStatus> {
        let event = Shared::try_new(Self(UnsafeCell::new(KEVENT::default())))?;
        // SAFETY: it lies in pool by now, where it stays, and nobody else has it.
        unsafe { KeInitializeEvent(event.0.get(), _EVENT_TYPE::SynchronizationEvent, 0) };
        Ok(event)
    }

    /// IRQL = PASSIVE_LEVEL.
    fn wait(&self) {
        #[expect(clippy::cast_possible_truncation, reason = "0")]
        let mode = _MODE::KernelMode as i8;
        // SAFETY: initialized when it was made; the caller has a reference to it.
        let _ =
            unsafe { KeWaitForSingleObject(self.0.get().cast(), _KWAIT_REASON::Executive, mode, 0, ptr::null_mut()) };
    }
}

impl Wake for Event {
    fn wake(this: &Shared<Self>) {
        #[expect(clippy::cast_possible_wrap, reason = "0")]
        let increment = IO_NO_INCREMENT as i32;
        // SAFETY: initialized when it was made; the caller has a reference to it.
        let _ = unsafe { KeSetEvent(this.0.get(), increment, 0) };
    }
}

/// Polls a future on this thread until it is ready, and waits in between. For a driver's load, and for threads of its own; the
/// future lies on the kernel stack. IRQL = PASSIVE_LEVEL; not from within a future that [`spawn`](crate::spawn) polls.
///
/// # Errors
///
/// `STATUS_INSUFFICIENT_RESOURCES`: no memory; the future has not been polled.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, NtStatus> {
    let event = Event::new()?;
    let waker = waker(event.clone());
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        event.wait();
    }
}
