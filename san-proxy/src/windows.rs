//! The device on Windows: overlapped requests, an I/O completion port, and a thread that empties it.
#![allow(unsafe_code, reason = "calls Windows")]

use crate::device::{Completed, Completion, Device, DeviceRequest, Event, Ticket};
use crate::endpoint::milliseconds;
use crate::error::{Error, Operation};
use crate::memory::SharedMemory;
use san_protocol::{DEVICE_PATH, NtStatus};
use std::collections::HashMap;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use windows_sys::Wdk::System::IO::NtDeviceIoControlFile;
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_FILE_NOT_FOUND, GENERIC_READ, GENERIC_WRITE, GetLastError, HANDLE, INVALID_HANDLE_VALUE,
    WAIT_OBJECT_0,
};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, SE_LOAD_DRIVER_NAME, SE_PRIVILEGE_ENABLED,
    TOKEN_ADJUST_PRIVILEGES, TOKEN_PRIVILEGES,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_OVERLAPPED, FILE_SHARE_READ, FILE_SHARE_WRITE, OPEN_EXISTING,
};
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatus, IO_STATUS_BLOCK, OVERLAPPED,
    PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, GetCurrentProcess, INFINITE, OpenProcessToken, ResetEvent, WaitForSingleObject,
};

/// A handle of `\\.\SanWsk`.
///
/// Requests are issued by `NtDeviceIoControlFile`, which `DeviceIoControl` wraps: it returns the NTSTATUS itself, which tells
/// whether a completion packet will come, while a Win32 error no longer does (a warning becomes an error there, and has a packet).
pub struct WindowsDevice {
    shared: Arc<Shared>,
    completer: Option<JoinHandle<()>>,
}

struct Shared {
    device: OwnedHandle,
    port: OwnedHandle,
    outstanding: Mutex<Outstanding>,
}

#[derive(Default)]
struct Outstanding {
    last_ticket: usize,
    requests: HashMap<usize, Issued>,
}

/// A request that Windows has: its memory stays where it is until it is taken out of [`Outstanding`].
struct Issued {
    overlapped: Overlapped,
    request: DeviceRequest,
    /// The output buffer in place of the request's own.
    memory: Option<Arc<SharedMemory>>,
    done: Completion,
}

/// An OVERLAPPED of its own allocation, whose first two fields Windows uses as the IO_STATUS_BLOCK.
struct Overlapped(*mut OVERLAPPED);

// SAFETY: plain memory without a tie to a thread.
unsafe impl Send for Overlapped {}

impl Overlapped {
    fn new() -> Self {
        Self(Box::into_raw(Box::default()))
    }

    /// Status and information.
    fn outcome(&self) -> (NtStatus, usize) {
        // SAFETY: allocated by `new`; this is asked when Windows is done with it.
        let overlapped = unsafe { self.0.read() };
        // The status is the low half of a field as wide as a pointer.
        #[expect(clippy::cast_possible_truncation)]
        let status = NtStatus(overlapped.Internal as i32);
        (status, overlapped.InternalHigh)
    }
}

impl Drop for Overlapped {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`; requests are dropped when Windows is done with them.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl WindowsDevice {
    /// Opens the device, for reading and writing.
    ///
    /// # Errors
    ///
    /// `STATUS_OBJECT_NAME_NOT_FOUND`: the driver is not loaded. `STATUS_ACCESS_DENIED`: the caller lacks rights.
    pub fn open() -> Result<Self, Error> {
        let path: Vec<u16> = DEVICE_PATH.encode_utf16().chain([0]).collect();
        // SAFETY: the path ends with a zero; the optional pointers are null.
        let handle = unsafe {
            CreateFileW(
                path.as_ptr(),
                GENERIC_READ | GENERIC_WRITE,
                FILE_SHARE_READ | FILE_SHARE_WRITE,
                ptr::null(),
                OPEN_EXISTING,
                FILE_FLAG_OVERLAPPED,
                ptr::null_mut(),
            )
        };
        if handle == INVALID_HANDLE_VALUE {
            return Err(cannot_open());
        }
        // SAFETY: a handle that was just opened, and that nobody else owns.
        let device = unsafe { OwnedHandle::from_raw_handle(handle) };
        // SAFETY: an open overlapped handle; a null port makes one.
        let port = unsafe { CreateIoCompletionPort(handle, ptr::null_mut(), 0, 1) };
        if port.is_null() {
            return Err(cannot_open());
        }
        // SAFETY: as above.
        let port = unsafe { OwnedHandle::from_raw_handle(port) };
        let shared = Arc::new(Shared { device, port, outstanding: Mutex::default() });
        let completer = std::thread::Builder::new().name("sanwsk completions".to_owned()).spawn({
            let shared = shared.clone();
            move || shared.complete_requests()
        });
        let completer = completer.map_err(|_| Error::new(Operation::Open, NtStatus::INSUFFICIENT_RESOURCES))?;
        Ok(Self { shared, completer: Some(completer) })
    }
}

/// The last error of this thread, after an open.
fn cannot_open() -> Error {
    // SAFETY: has no preconditions.
    let error = unsafe { GetLastError() };
    let status = match error {
        ERROR_FILE_NOT_FOUND => NtStatus::OBJECT_NAME_NOT_FOUND,
        ERROR_ACCESS_DENIED => NtStatus::ACCESS_DENIED,
        // NTSTATUS_FROM_WIN32.
        other => NtStatus((0xC007_0000 | (other & 0xFFFF)) as i32),
    };
    Error::new(Operation::Open, status)
}

impl Shared {
    fn device(&self) -> HANDLE {
        self.device.as_raw_handle()
    }

    fn port(&self) -> HANDLE {
        self.port.as_raw_handle()
    }

    fn outstanding(&self) -> MutexGuard<'_, Outstanding> {
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes completions from the port until the device is dropped and nothing is outstanding.
    fn complete_requests(&self) {
        let mut dropped = false;
        while !dropped || !self.outstanding().requests.is_empty() {
            let (mut length, mut key, mut context) = (0, 0, ptr::null_mut());
            // The result says how the request ended, as its status block does, or that there was no packet.
            // SAFETY: an open port, and out parameters of this frame.
            unsafe {
                GetQueuedCompletionStatus(self.port(), &raw mut length, &raw mut key, &raw mut context, INFINITE)
            };
            if context.is_null() {
                dropped = true;
            } else {
                self.complete(context.addr(), None);
            }
        }
    }

    /// Gives a request's memory back. `refused`: Windows did not take it.
    fn complete(&self, ticket: usize, refused: Option<NtStatus>) {
        let issued = self.outstanding().requests.remove(&ticket);
        let Some(Issued { overlapped, request, memory, done }) = issued else { return };
        drop(memory);
        match refused {
            Some(status) => done(Completed::refused(status, request)),
            None => {
                let (status, information) = overlapped.outcome();
                done(Completed { status, information, input: request.input, buffer: request.buffer });
            }
        }
    }
}

impl WindowsDevice {
    fn issue(&self, mut request: DeviceRequest, memory: Option<Arc<SharedMemory>>, done: Completion) -> Ticket {
        let code = request.code;
        let (buffer, length) = match &memory {
            Some(memory) => (memory.as_ptr(), memory.len()),
            None => (request.buffer.as_mut_ptr(), request.buffer.len()),
        };
        let lengths = u32::try_from(request.input.len()).and_then(|input| Ok((input, u32::try_from(length)?)));
        let input = request.input.as_ptr();
        let overlapped = Overlapped::new();
        let block: *mut IO_STATUS_BLOCK = overlapped.0.cast();
        let ticket = {
            let mut outstanding = self.shared.outstanding();
            outstanding.last_ticket += 1;
            let ticket = outstanding.last_ticket;
            outstanding.requests.insert(ticket, Issued { overlapped, request, memory, done });
            ticket
        };
        let Ok((input_length, buffer_length)) = lengths else {
            self.shared.complete(ticket, Some(NtStatus::INVALID_PARAMETER));
            return Ticket(ticket as u64);
        };
        // SAFETY: `Outstanding` keeps buffers and status block where they are until the completion packet has come. The context
        // comes back with the packet, and is never followed.
        let status = unsafe {
            NtDeviceIoControlFile(
                self.shared.device(),
                ptr::null_mut(),
                None,
                ptr::without_provenance(ticket),
                block,
                code,
                input.cast(),
                input_length,
                buffer.cast(),
                buffer_length,
            )
        };
        // NT_ERROR: there is no packet. It comes after every other status, a success included.
        if status.cast_unsigned() >> 30 == 3 {
            self.shared.complete(ticket, Some(NtStatus(status)));
        }
        Ticket(ticket as u64)
    }
}

impl Device for WindowsDevice {
    fn submit(&self, request: DeviceRequest, done: Completion) -> Ticket {
        self.issue(request, None, done)
    }

    fn submit_with_memory(&self, request: DeviceRequest, memory: Arc<SharedMemory>, done: Completion) -> Ticket {
        self.issue(request, Some(memory), done)
    }

    fn cancel(&self, ticket: Ticket) {
        let outstanding = self.shared.outstanding();
        let issued = usize::try_from(ticket.0).ok().and_then(|ticket| outstanding.requests.get(&ticket));
        if let Some(issued) = issued {
            // It fails if the request has ended, and its packet is on the way.
            // SAFETY: an open handle; the lock keeps the OVERLAPPED from being freed, and so from naming another request.
            unsafe { CancelIoEx(self.shared.device(), issued.overlapped.0) };
        }
    }

    fn create_event(&self) -> Result<Arc<dyn Event>, Error> {
        // SAFETY: no security attributes and no name.
        let handle = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        if handle.is_null() {
            return Err(Error::new(Operation::CreateEvent, NtStatus::INSUFFICIENT_RESOURCES));
        }
        // SAFETY: a handle that was just opened, and that nobody else owns.
        Ok(Arc::new(WindowsEvent(unsafe { OwnedHandle::from_raw_handle(handle) })))
    }

    fn claim_administration(&self) {
        // Whoever has not got the privilege hears it from the driver.
        let _ = enable_load_driver_privilege();
    }
}

/// Enables SeLoadDriverPrivilege, which an administrator's token has disabled. `None` if this process has not got it.
fn enable_load_driver_privilege() -> Option<()> {
    let mut token = ptr::null_mut();
    // SAFETY: has no preconditions.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the pseudo handle of this process; the out parameter is a local.
    let opened = unsafe { OpenProcessToken(process, TOKEN_ADJUST_PRIVILEGES, &raw mut token) };
    if opened == 0 {
        return None;
    }
    // SAFETY: a handle that was just opened, and that nobody else owns.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let mut privilege = LUID_AND_ATTRIBUTES { Attributes: SE_PRIVILEGE_ENABLED, ..Default::default() };
    // SAFETY: null is this system; the name is a constant that ends with a zero; the out parameter is a local.
    let found = unsafe { LookupPrivilegeValueW(ptr::null(), SE_LOAD_DRIVER_NAME, &raw mut privilege.Luid) };
    if found == 0 {
        return None;
    }
    let privileges = TOKEN_PRIVILEGES { PrivilegeCount: 1, Privileges: [privilege] };
    // SAFETY: an open token; the structure is a local, and the old state is not wanted.
    let adjusted = unsafe {
        AdjustTokenPrivileges(token.as_raw_handle(), 0, &raw const privileges, 0, ptr::null_mut(), ptr::null_mut())
    };
    (adjusted != 0).then_some(())
}

/// An event object of this process.
struct WindowsEvent(OwnedHandle);

impl WindowsEvent {
    fn wait_milliseconds(&self, timeout: u32) -> bool {
        // SAFETY: an open handle of an event.
        unsafe { WaitForSingleObject(self.0.as_raw_handle(), timeout) == WAIT_OBJECT_0 }
    }
}

impl Event for WindowsEvent {
    fn handle(&self) -> u64 {
        self.0.as_raw_handle().addr() as u64
    }

    fn wait(&self, timeout: Duration) -> bool {
        self.wait_milliseconds(milliseconds(timeout).min(INFINITE - 1))
    }

    fn reset(&self) {
        // It fails only for a handle without the right to.
        // SAFETY: an open handle of an event.
        unsafe { ResetEvent(self.0.as_raw_handle()) };
    }

    fn is_set(&self) -> bool {
        self.wait_milliseconds(0)
    }
}

impl Drop for WindowsDevice {
    fn drop(&mut self) {
        // It fails if nothing is outstanding.
        // SAFETY: an open handle; null stands for all of its requests.
        unsafe { CancelIoEx(self.shared.device(), ptr::null()) };
        // SAFETY: an open port; a packet without a context is the one that ends the completer.
        unsafe { PostQueuedCompletionStatus(self.shared.port(), 0, 0, ptr::null()) };
        if let Some(completer) = self.completer.take()
            && completer.thread().id() != std::thread::current().id()
        {
            // Its panic has been reported already.
            let _ = completer.join();
        }
    }
}
