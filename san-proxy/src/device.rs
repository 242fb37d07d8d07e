//! A handle of the device, whichever kernel is behind it.

use crate::error::Error;
use crate::memory::SharedMemory;
use san_protocol::{ControlCode, NtStatus};
use std::sync::Arc;
use std::time::Duration;

/// A device control request, with the memory that it gives away.
#[derive(Debug, Default)]
pub struct DeviceRequest {
    /// The control code. A number, since a device must also meet codes that it does not know.
    pub code: u32,
    /// The input buffer.
    pub input: Vec<u8>,
    /// The output buffer; for METHOD_IN_DIRECT the data to send. All of its length is offered.
    pub buffer: Vec<u8>,
}

impl DeviceRequest {
    /// A request with a code of this protocol.
    #[must_use]
    pub fn new(code: ControlCode, input: &[u8], buffer: Vec<u8>) -> Self {
        Self { code: code.value(), input: input.to_vec(), buffer }
    }
}

/// How a request ended, and the memory that it gave away.
#[derive(Debug)]
pub struct Completed {
    /// IO_STATUS_BLOCK.Status.
    pub status: NtStatus,
    /// IO_STATUS_BLOCK.Information: bytes of output, or bytes sent.
    pub information: usize,
    /// [`DeviceRequest::input`].
    pub input: Vec<u8>,
    /// [`DeviceRequest::buffer`].
    pub buffer: Vec<u8>,
}

impl Completed {
    /// A request that was refused before it reached the driver.
    #[must_use]
    pub fn refused(status: NtStatus, request: DeviceRequest) -> Self {
        Self { status, information: 0, input: request.input, buffer: request.buffer }
    }
}

/// Is told of the end of a request.
pub type Completion = Box<dyn FnOnce(Completed) + Send>;

/// Names a request of a [`Device`] for cancelling it; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// One open handle of `\\.\SanWsk`. Dropping it closes the handle, and with it every endpoint made through it.
///
/// An implementation owns the buffers of a request from [`submit`](Self::submit) until the driver is done with them.
pub trait Device: Send + Sync {
    /// Issues a request. `done` is called exactly once, also when the request does not reach the driver: by any thread, and
    /// possibly before this returns. It hands the result on; it neither blocks nor calls the device.
    fn submit(&self, request: DeviceRequest, done: Completion) -> Ticket;

    /// The same with `memory` as the output buffer, which others may use meanwhile; [`DeviceRequest::buffer`] is not offered. The
    /// device lets go of `memory` before it calls `done`.
    fn submit_with_memory(&self, request: DeviceRequest, memory: Arc<SharedMemory>, done: Completion) -> Ticket;

    /// Asks for the end of a request (CancelIoEx). It still completes: with `STATUS_CANCELLED`, or as it would have anyway.
    /// A request that has completed already is left alone.
    fn cancel(&self, ticket: Ticket);

    /// Makes an event object, manual-reset and not set, as WSACreateEvent does.
    ///
    /// # Errors
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES`.
    fn create_event(&self) -> Result<Arc<dyn Event>, Error>;

    /// Enables what of this process's privileges the driver asks administrators for, where they have it disabled. Without, their
    /// requests end with `STATUS_PRIVILEGE_NOT_HELD`.
    fn claim_administration(&self) {}

    /// Waits until `is_over` says so, at most so long, where the device schedules its callers' threads itself, in a time of its
    /// own: whether it is over. `None`, at once, where a thread waits as threads do, which is everywhere but in a simulation.
    fn wait_scheduled(&self, _is_over: &dyn Fn() -> bool, _timeout: Option<Duration>) -> Option<bool> {
        None
    }
}

/// A manual-reset event object, which a driver sets. Dropping it closes its handle; a driver that was given it has its own
/// reference.
pub trait Event: Send + Sync {
    /// The handle, as requests name it.
    fn handle(&self) -> u64;

    /// Waits until it is set, at most so long. Whether it is.
    fn wait(&self, timeout: Duration) -> bool;

    /// Resets it.
    fn reset(&self);

    /// Whether it is set.
    fn is_set(&self) -> bool;
}
