//! The device of `san-proxy` on a simulated machine: the same library and tools that run on Windows run against it.
#![allow(unsafe_code)] // requests whose buffers are passed by address

use std::mem;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use san_protocol::{DEVICE_PATH, NtStatus};
use san_proxy::{Completed, Completion, Device, DeviceRequest, Error, Operation, Ticket};

use crate::IoStatus;
use crate::machine::{Handle, IoToken, Process};
use crate::nt::status::STATUS_SYSTEM_SHUTDOWN;
use crate::nt::types::ACCESS_MASK;

/// GENERIC_READ | GENERIC_WRITE.
const READ_WRITE: ACCESS_MASK = 0xC000_0000;

/// A handle of `\\.\SanWsk` in a process of a simulated machine. Dropping it closes the handle.
pub struct HarnessDevice {
    process: Arc<Process>,
    /// `None` once it is closed.
    handle: RwLock<Option<Handle>>,
}

/// A request that the machine has.
struct Issued {
    request: DeviceRequest,
    done: Completion,
}

/// Taken by the first to learn the end of the request.
type Slot = Mutex<Option<Issued>>;

impl HarnessDevice {
    /// Opens the device for reading and writing.
    ///
    /// # Errors
    /// As [`Self::open_for`].
    pub fn open(process: &Arc<Process>) -> Result<Self, Error> {
        Self::open_for(process, READ_WRITE)
    }

    /// Opens the device with the given access.
    ///
    /// # Errors
    /// The status that NtCreateFile returns: STATUS_OBJECT_NAME_NOT_FOUND if the driver is not loaded, STATUS_ACCESS_DENIED.
    pub fn open_for(process: &Arc<Process>, access: ACCESS_MASK) -> Result<Self, Error> {
        let handle =
            process.open(DEVICE_PATH, access).map_err(|status| Error::new(Operation::Open, NtStatus(status)))?;
        Ok(Self { process: process.clone(), handle: RwLock::new(Some(handle)) })
    }

    /// Closes the handle now, whoever still uses the device: further requests get STATUS_INVALID_HANDLE.
    pub fn close(&self) {
        if let Some(handle) = self.handle.write().take() {
            // Nobody else closes it; an exited process has closed it already.
            let _ = self.process.close(handle);
        }
    }

    /// The handle, until it is closed.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        *self.handle.read()
    }

    /// The process that has the device open.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }
}

/// The ticket of a request that has ended already.
const ENDED: Ticket = Ticket(u64::MAX);

impl Device for HarnessDevice {
    fn submit(&self, mut request: DeviceRequest, done: Completion) -> Ticket {
        let lengths = (u32::try_from(request.input.len()), u32::try_from(request.buffer.len()));
        // Held during the call, so that the value cannot name another file meanwhile.
        let handle = self.handle.read();
        let (Some(handle), (Ok(input_length), Ok(buffer_length))) = (*handle, lengths) else {
            let status = if handle.is_none() { NtStatus::INVALID_HANDLE } else { NtStatus::INVALID_PARAMETER };
            done(Completed::refused(status, request));
            return ENDED;
        };
        let code = request.code;
        let (input, buffer) = (request.input.as_ptr(), request.buffer.as_mut_ptr());
        let slot = Arc::new(Slot::new(Some(Issued { request, done })));
        let told = slot.clone();
        let done = Box::new(move |ended| finish(&told, ended));
        // SAFETY: the slot keeps both vectors, unused, until the request has ended; `finish` leaks them where the machine may
        // still write to them.
        let issued =
            unsafe { self.process.device_io_control(handle, code, input, input_length, buffer, buffer_length, done) };
        match issued {
            Ok(IoToken(id)) => Ticket(id),
            Err(status) => {
                finish(&slot, IoStatus { status, information: 0 });
                ENDED
            }
        }
    }

    fn cancel(&self, ticket: Ticket) {
        if let Some(handle) = *self.handle.read() {
            // It fails if the request has ended.
            let _ = self.process.cancel(handle, Some(IoToken(ticket.0)));
        }
    }
}

/// Gives a request's memory back to whoever waits for it.
fn finish(slot: &Slot, IoStatus { status, information }: IoStatus) {
    let issued = slot.lock().take();
    let Some(Issued { mut request, done }) = issued else { return };
    if status == STATUS_SYSTEM_SHUTDOWN {
        mem::forget(mem::take(&mut request));
    }
    let DeviceRequest { code: _, input, buffer } = request;
    done(Completed { status: NtStatus(status), information, input, buffer });
}

impl Drop for HarnessDevice {
    fn drop(&mut self) {
        self.close();
    }
}
