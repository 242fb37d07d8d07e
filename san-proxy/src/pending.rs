//! A request on its way.

use crate::device::{Completed, Completion, Device, DeviceRequest, Ticket};
use crate::memory::SharedMemory;
use crate::signal::Signal;
use san_protocol::{NtStatus, WsaError};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Where the completion puts what it got.
#[derive(Default)]
struct Slot {
    completed: Mutex<Option<Completed>>,
    arrived: Condvar,
    /// Raised by whoever puts the completion here, if it was set before.
    signal: OnceLock<Arc<Signal>>,
    /// Woken by the same. It is set under the lock of `completed`, so that no end is missed.
    waker: Mutex<Option<Waker>>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Completed>> {
        self.completed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, completed: Completed) {
        *self.lock() = Some(completed);
        self.arrived.notify_all();
        if let Some(signal) = self.signal.get() {
            signal.raise();
        }
        let waker = self.waker().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been put here; if nothing has, `waker` is woken when it is.
    fn poll(&self, waker: &Waker) -> Option<Completed> {
        let mut completed = self.lock();
        if completed.is_none() {
            self.waker().replace(waker.clone());
        }
        completed.take()
    }

    fn take(&self) -> Completed {
        let mut slot = self.lock();
        loop {
            match slot.take() {
                Some(completed) => return completed,
                None => slot = self.arrived.wait(slot).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn wait(&self, timeout: Duration) -> Option<NtStatus> {
        let waited = self.arrived.wait_timeout_while(self.lock(), timeout, |slot| slot.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.as_ref().map(|completed| completed.status)
    }
}

/// A request that has been issued and ends with a `T`.
///
/// Dropping it cancels the request and waits until it has ended; what it brought (a connection that was accepted) is dropped.
///
/// It is a future too, of any executor:
///
/// ```
/// async fn echo_one(near: &san_proxy::StreamConnection) -> Result<(), san_proxy::Error> {
///     let received = near.start_receive(vec![0; 1024], san_proxy::Receive::Some).await;
///     let length = received.result?;
///     near.start_send(received.buffer[..length].to_vec()).await.result?;
///     Ok(())
/// }
/// ```
#[must_use = "dropping it cancels the request"]
pub struct Pending<T> {
    device: Arc<dyn Device>,
    /// `None` if the device was not asked.
    ticket: Option<Ticket>,
    slot: Arc<Slot>,
    /// Makes the result; taken by whoever takes the completion.
    finish: Option<Box<dyn FnOnce(Completed) -> T + Send + Sync>>,
}

impl<T> Pending<T> {
    /// Issues `request` on `device`; `finish` makes the result of its completion, in the thread that waits for it.
    pub fn start(
        device: &Arc<dyn Device>,
        request: DeviceRequest,
        finish: impl FnOnce(Completed) -> T + Send + Sync + 'static,
    ) -> Self {
        Self::begin(device, |done| Some(device.submit(request, done)), finish)
    }

    /// Issues `request` with `memory` as its output buffer.
    pub fn start_with_memory(
        device: &Arc<dyn Device>,
        request: DeviceRequest,
        memory: Arc<SharedMemory>,
        finish: impl FnOnce(Completed) -> T + Send + Sync + 'static,
    ) -> Self {
        Self::begin(device, |done| Some(device.submit_with_memory(request, memory, done)), finish)
    }

    /// A request that is refused without asking the device.
    pub(crate) fn refused(
        device: &Arc<dyn Device>,
        status: NtStatus,
        finish: impl FnOnce(Completed) -> T + Send + Sync + 'static,
    ) -> Self {
        let refuse = |done: Completion| {
            done(Completed::refused(status, DeviceRequest::default()));
            None
        };
        Self::begin(device, refuse, finish)
    }

    fn begin(
        device: &Arc<dyn Device>,
        submit: impl FnOnce(Completion) -> Option<Ticket>,
        finish: impl FnOnce(Completed) -> T + Send + Sync + 'static,
    ) -> Self {
        let slot = Arc::new(Slot::default());
        let told = slot.clone();
        let ticket = submit(Box::new(move |completed| told.put(completed)));
        Self { device: device.clone(), ticket, slot, finish: Some(Box::new(finish)) }
    }

    /// Waits for the end.
    #[must_use]
    pub fn wait(mut self) -> T {
        let completed = self.take();
        self.finish(completed)
    }

    /// Waits for the completion, and takes it.
    fn take(&self) -> Completed {
        // It says that the end has come, or leaves the wait to the slot.
        let _ = self.device.wait_scheduled(&|| self.has_ended(), None);
        self.slot.take()
    }

    /// Waits for the end at most so long; gives itself back if the time passes first. The request goes on then.
    ///
    /// # Errors
    ///
    /// The request has not ended.
    pub fn wait_for(self, timeout: Duration) -> Result<T, Self> {
        if self.status_within(timeout).is_some() { Ok(self.wait()) } else { Err(self) }
    }

    /// Waits for the end, and cancels the request when `timeout` has passed. A request that this has ended fails with
    /// `STATUS_IO_TIMEOUT`.
    #[must_use]
    pub fn wait_or_cancel(mut self, timeout: Duration) -> T {
        if self.status_within(timeout).is_some() {
            return self.wait();
        }
        self.cancel();
        let mut completed = self.take();
        if completed.status == NtStatus::CANCELLED {
            completed.status = NtStatus::IO_TIMEOUT;
        }
        self.finish(completed)
    }

    /// The result if there is one, without waiting, as WSPGetOverlappedResult is asked for it.
    ///
    /// # Errors
    ///
    /// The request has not ended: it comes back, and goes on.
    pub fn result(self) -> Result<T, Incomplete<T>> {
        self.wait_for(Duration::ZERO).map_err(Incomplete)
    }

    /// The request's status as it stands: `STATUS_PENDING`, which is `WSA_IO_PENDING`, until it has ended.
    #[must_use]
    pub fn status(&self) -> NtStatus {
        self.slot.lock().as_ref().map_or(NtStatus::PENDING, |completed| completed.status)
    }

    /// Whether the request has ended: then [`Self::wait`] returns at once.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.slot.lock().is_some()
    }

    /// Waits for the end at most so long, and says which status it came with; the result is still there to be waited for.
    /// `None`: it has not ended.
    #[must_use]
    pub fn status_within(&self, timeout: Duration) -> Option<NtStatus> {
        match self.device.wait_scheduled(&|| self.has_ended(), Some(timeout)) {
            Some(false) => None,
            Some(true) | None => self.slot.wait(timeout),
        }
    }

    /// Asks for the request's end. It still has to be waited for, and may succeed nevertheless.
    pub fn cancel(&self) {
        if let Some(ticket) = self.ticket {
            self.device.cancel(ticket);
        }
    }

    /// Has `signal` raised when the request ends, or now if it has ended already. One signal for each request: a second one is
    /// not heard.
    pub(crate) fn raise_on_end(&self, signal: &Arc<Signal>) {
        // The end is put first and the signal looked for then: set in between it is raised twice, which harms nobody.
        let _ = self.slot.signal.set(signal.clone());
        if self.has_ended() {
            signal.raise();
        }
    }

    fn finish(&mut self, completed: Completed) -> T {
        let finish = self.finish.take().expect("a result is asked for once");
        finish(completed)
    }
}

impl<T> Future for Pending<T> {
    type Output = T;

    /// # Panics
    ///
    /// It was ready before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.slot.poll(context.waker()) {
            Some(completed) => Poll::Ready(self.finish(completed)),
            None => Poll::Pending,
        }
    }
}

/// A request that has not ended, asked for its result. It goes on, unless this is dropped.
#[derive(Debug)]
pub struct Incomplete<T>(pub Pending<T>);

impl<T> Incomplete<T> {
    /// `WSA_IO_INCOMPLETE`.
    #[must_use]
    pub const fn wsa_error(&self) -> WsaError {
        WsaError::WSA_IO_INCOMPLETE
    }
}

impl<T> fmt::Display for Incomplete<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the request has not ended: {}", self.wsa_error())
    }
}

impl<T: fmt::Debug> std::error::Error for Incomplete<T> {}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        if let Some(finish) = self.finish.take() {
            self.cancel();
            drop(finish(self.take()));
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pending")
            .field("ticket", &self.ticket)
            .field("has_ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}
