//! An executor without threads: a future goes on where it is woken, which is where what it waits for completes.
#![allow(unsafe_code, reason = "pins a future in pool, and hands it from poller to poller")]

use crate::shared::Shared;
use crate::waker::{Wake, waker};
use core::cell::UnsafeCell;
use core::pin::Pin;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context, Poll, Waker};
use san_protocol::NtStatus;

/// Waits to be woken.
const WAITING: u32 = 0;
/// Somebody polls the future.
const POLLED: u32 = 1;
/// Somebody polls it, and is to do so once more.
const WOKEN: u32 = 2;
/// It is ready.
const READY: u32 = 3;

struct Task<F> {
    state: AtomicU32,
    /// Whoever has made the state `POLLED` has it.
    future: UnsafeCell<Option<F>>,
}

// SAFETY: the future goes from one poller to the next by `state`.
unsafe impl<F: Send> Sync for Task<F> {}

/// Polls a future until it is ready, first here and then wherever it is woken, always at IRQL <= DISPATCH_LEVEL. IRQL <=
/// DISPATCH_LEVEL.
///
/// # Errors
///
/// `STATUS_INSUFFICIENT_RESOURCES`: no memory; the future is dropped.
pub fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Result<(), NtStatus> {
    let task = Shared::try_new(Task { state: AtomicU32::new(WAITING), future: UnsafeCell::new(Some(future)) })?;
    Wake::wake(&task);
    Ok(())
}

impl<F: Future<Output = ()> + Send + 'static> Wake for Task<F> {
    /// Polls the task, or has its poller do so.
    fn wake(task: &Shared<Self>) {
        let woken = task.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
            WAITING => Some(POLLED),
            POLLED => Some(WOKEN),
            _ => None,
        });
        if woken != Ok(WAITING) {
            return;
        }
        let waker = waker(task.clone());
        while poll(task, &waker) {}
    }
}

/// Polls once; whether to do so again.
fn poll<F: Future<Output = ()>>(task: &Task<F>, waker: &Waker) -> bool {
    // SAFETY: only the poller has it.
    let future = unsafe { &mut *task.future.get() };
    let Some(running) = future else { return false };
    // SAFETY: it lies in pool, and goes where it is.
    let pinned = unsafe { Pin::new_unchecked(running) };
    match pinned.poll(&mut Context::from_waker(waker)) {
        Poll::Ready(()) => {
            *future = None;
            task.state.store(READY, Ordering::Release);
            false
        }
        Poll::Pending => {
            let waits = task.state.compare_exchange(POLLED, WAITING, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if !waits {
                task.state.store(POLLED, Ordering::Release);
            }
            !waits
        }
    }
}
