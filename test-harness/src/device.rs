//! The device of `san-proxy` on a simulated machine: the same library and tools that run on Windows run against it.
#![allow(unsafe_code)] // requests whose buffers are passed by address

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use san_protocol::{DEVICE_PATH, NtStatus};
use san_proxy::{Completed, Completion, Device, DeviceRequest, Error, Event, Operation, SharedMemory, Ticket};

use crate::IoStatus;
use crate::machine::{Handle, IoToken, Process};
use crate::nt::status::STATUS_SYSTEM_SHUTDOWN;
use crate::nt::types::ACCESS_MASK;
use crate::simulation::{self, Condvar};

/// GENERIC_READ | GENERIC_WRITE.
const READ_WRITE: ACCESS_MASK = 0xC000_0000;

/// A handle of `\\.\SanWsk` in a process of a simulated machine. Dropping it closes the handle.
pub struct HarnessDevice {
    process: Arc<Process>,
    /// `None` once it is closed.
    handle: RwLock<Option<Handle>>,
    /// For programs of a simulation, which wait for the ends of their requests here.
    ends: Arc<Ends>,
}

#[derive(Default)]
struct Ends {
    lock: Mutex<()>,
    came: Condvar,
}

/// A request that the machine has.
struct Issued {
    request: DeviceRequest,
    /// The output buffer in place of the request's own.
    memory: Option<Arc<SharedMemory>>,
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
        Ok(Self { process: process.clone(), handle: RwLock::new(Some(handle)), ends: Arc::default() })
    }

    /// Closes the handle now, whoever still uses the device: further requests get STATUS_INVALID_HANDLE.
    pub fn close(&self) {
        let mut handle = loop {
            match self.handle.try_write() {
                Some(handle) => break handle,
                None => simulation::pause(),
            }
        };
        if let Some(handle) = handle.take() {
            // Nobody else closes it; an exited process has closed it already.
            let _ = self.process.close(handle);
        }
    }

    /// The handle, until it is closed.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        *self.current_handle()
    }

    /// The handle, which stays open as long as this is held. A thread that holds it may be off the processor.
    fn current_handle(&self) -> RwLockReadGuard<'_, Option<Handle>> {
        loop {
            match self.handle.try_read() {
                Some(handle) => return handle,
                None => simulation::pause(),
            }
        }
    }

    /// The process that has the device open.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    fn issue(&self, mut request: DeviceRequest, memory: Option<Arc<SharedMemory>>, done: Completion) -> Ticket {
        let (buffer, length) = match &memory {
            Some(memory) => (memory.as_ptr(), memory.len()),
            None => (request.buffer.as_mut_ptr(), request.buffer.len()),
        };
        let lengths = (u32::try_from(request.input.len()), u32::try_from(length));
        // Held during the call, so that the value cannot name another file meanwhile.
        let handle = self.current_handle();
        let (Some(handle), (Ok(input_length), Ok(buffer_length))) = (*handle, lengths) else {
            let status = if handle.is_none() { NtStatus::INVALID_HANDLE } else { NtStatus::INVALID_PARAMETER };
            drop(memory);
            done(Completed::refused(status, request));
            return ENDED;
        };
        let code = request.code;
        let input = request.input.as_ptr();
        let slot = Arc::new(Slot::new(Some(Issued { request, memory, done })));
        let (told, ends) = (slot.clone(), self.ends.clone());
        let done = Box::new(move |ended| {
            finish(&told, ended);
            ends.came.notify_all();
        });
        // SAFETY: the slot keeps all of it until the request has ended; `finish` leaks it where the machine may still write to it.
        // The vectors are unused meanwhile, and of shared memory its users keep to parts that no request has.
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
}

/// The ticket of a request that has ended already.
const ENDED: Ticket = Ticket(u64::MAX);

impl Device for HarnessDevice {
    fn submit(&self, request: DeviceRequest, done: Completion) -> Ticket {
        self.issue(request, None, done)
    }

    fn submit_with_memory(&self, request: DeviceRequest, memory: Arc<SharedMemory>, done: Completion) -> Ticket {
        self.issue(request, Some(memory), done)
    }

    fn cancel(&self, ticket: Ticket) {
        if let Some(handle) = *self.current_handle() {
            // It fails if the request has ended.
            let _ = self.process.cancel(handle, Some(IoToken(ticket.0)));
        }
    }

    fn wait_scheduled(&self, is_over: &dyn Fn() -> bool, timeout: Option<Duration>) -> Option<bool> {
        if !simulation::is_simulated() {
            return None;
        }
        let deadline = timeout.and_then(|timeout| simulation::now().checked_add(timeout));
        let mut ends = self.ends.lock.lock();
        while !is_over() {
            match deadline {
                None => self.ends.came.wait(&mut ends),
                Some(deadline) if self.ends.came.wait_until(&mut ends, deadline).timed_out() => {
                    return Some(is_over());
                }
                Some(_) => {}
            }
        }
        Some(true)
    }

    fn create_event(&self) -> Result<Arc<dyn Event>, Error> {
        let handle = self.process.create_event(true);
        let handle = handle.map_err(|status| Error::new(Operation::CreateEvent, NtStatus(status)))?;
        Ok(Arc::new(HarnessEvent { process: self.process.clone(), handle }))
    }
}

/// An event object of a process of a simulated machine.
struct HarnessEvent {
    process: Arc<Process>,
    handle: Handle,
}

impl Event for HarnessEvent {
    fn handle(&self) -> u64 {
        self.handle.value()
    }

    fn wait(&self, timeout: Duration) -> bool {
        // The handle is open as long as the process lives; of one that has exited nothing is set any more.
        self.process.wait_event(self.handle, timeout).unwrap_or(false)
    }

    fn reset(&self) {
        // As above.
        let _ = self.process.set_event(self.handle, false);
    }

    fn is_set(&self) -> bool {
        self.process.is_signaled(self.handle).unwrap_or(false)
    }
}

impl Drop for HarnessEvent {
    fn drop(&mut self) {
        // An exited process has closed it already.
        let _ = self.process.close(self.handle);
    }
}

/// Gives a request's memory back to whoever waits for it.
fn finish(slot: &Slot, IoStatus { status, information }: IoStatus) {
    let issued = slot.lock().take();
    let Some(Issued { mut request, memory, done }) = issued else { return };
    if status == STATUS_SYSTEM_SHUTDOWN {
        mem::forget((mem::take(&mut request), memory));
    } else {
        drop(memory);
    }
    let DeviceRequest { code: _, input, buffer } = request;
    done(Completed { status: NtStatus(status), information, input, buffer });
}

impl Drop for HarnessDevice {
    fn drop(&mut self) {
        self.close();
    }
}
