//! User-mode processes of a machine, from outside: their handles, requests, events and threads.
#![allow(unsafe_code)] // requests with raw buffers

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::kernel::Kernel;
use crate::machine::IoStatus;
use crate::nt::io::request::{self, Buffer};
use crate::nt::mdl::Access;
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_NOT_FOUND, STATUS_PROCESS_IS_TERMINATING,
    STATUS_SYSTEM_SHUTDOWN,
};
use crate::nt::types::{ACCESS_MASK, EVENT_ALL_ACCESS, NTSTATUS};
use crate::nt::{notify, object, process};
use crate::simulation::{self, Condvar};
use crate::thread;
use crate::violation::Rule;

/// A handle of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub(crate) usize);

impl Handle {
    /// The value that the process sees, and may hand to a driver.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0 as u64
    }

    /// A handle from a value, which may be wrong.
    #[must_use]
    pub fn from_value(value: u64) -> Self {
        Self(usize::try_from(value).unwrap_or(usize::MAX))
    }
}

/// A request that was issued, for cancelling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IoToken(pub(crate) u64);

/// How long an exiting process waits for its requests before that is a violation: an unkillable process.
const EXIT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the last request's completion may take to unlock its buffer.
const UNLOCKING: Duration = Duration::from_secs(1);

/// A user-mode process. Each host thread that calls in is a thread of its own; dropping the process ends it.
pub struct Process {
    kernel: Arc<Kernel>,
    process: Arc<process::Process>,
    /// `None` once the process has gone: then there are no more.
    threads: Mutex<Option<HashMap<std::thread::ThreadId, Arc<process::Thread>>>>,
    /// Its threads that are in kernel mode. Those of a process that is being ended leave before its handles are closed.
    inside: AtomicUsize,
}

/// A thread in kernel mode.
struct Inside<'a>(&'a AtomicUsize);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A thread of a process, for tests in which a thread ends before its process.
pub struct UserThread<'a> {
    owner: &'a Process,
    thread: Arc<process::Thread>,
}

/// Buffers that a request owned, and how it ended.
pub type Finished = (IoStatus, Vec<u8>, Vec<u8>);

impl Process {
    pub(crate) fn new(kernel: &Arc<Kernel>, process: Arc<process::Process>) -> Self {
        Self { kernel: kernel.clone(), process, threads: Mutex::new(Some(HashMap::new())), inside: AtomicUsize::new(0) }
    }

    /// The process's identifier.
    #[must_use]
    pub fn id(&self) -> usize {
        self.process.id
    }

    /// Whether it is a 32-bit process.
    #[must_use]
    pub fn is_wow64(&self) -> bool {
        self.process.is_wow64()
    }

    fn own_thread(&self) -> Result<Arc<process::Thread>, NTSTATUS> {
        let mut threads = self.threads.lock();
        let threads = threads.as_mut().ok_or(STATUS_PROCESS_IS_TERMINATING)?;
        if let Some(thread) = threads.get(&std::thread::current().id()) {
            return Ok(thread.clone());
        }
        let thread =
            self.kernel.processes.create_thread(&self.kernel, &self.process).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        threads.insert(std::thread::current().id(), thread.clone());
        Ok(thread)
    }

    fn enter<T>(&self, body: impl FnOnce(&Kernel) -> Result<T, NTSTATUS>) -> Result<T, NTSTATUS> {
        self.enter_as(&self.own_thread()?, body)
    }

    fn enter_as<T>(
        &self,
        thread: &Arc<process::Thread>,
        body: impl FnOnce(&Kernel) -> Result<T, NTSTATUS>,
    ) -> Result<T, NTSTATUS> {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let _inside = Inside(&self.inside);
        if self.process.exiting.load(Ordering::SeqCst) {
            return Err(STATUS_PROCESS_IS_TERMINATING);
        }
        thread::enter(&self.kernel, thread, || body(thread::kernel())).unwrap_or(Err(STATUS_SYSTEM_SHUTDOWN))
    }

    /// Enters kernel mode in the thread that ends the process.
    fn enter_to_end<T>(&self, body: impl FnOnce(&Kernel) -> T) -> Result<T, NTSTATUS> {
        let thread = self.own_thread()?;
        thread::enter(&self.kernel, &thread, || body(thread::kernel())).map_err(|_| STATUS_SYSTEM_SHUTDOWN)
    }

    /// Runs `body` in kernel mode, in the calling thread as one of this process.
    #[cfg(test)]
    pub(crate) fn in_kernel<T>(&self, body: impl FnOnce(&Kernel) -> T) -> Result<T, NTSTATUS> {
        self.enter(|kernel| Ok(body(kernel)))
    }

    /// A further thread of this process.
    ///
    /// # Errors
    /// STATUS_INSUFFICIENT_RESOURCES.
    pub fn thread(&self) -> Result<UserThread<'_>, NTSTATUS> {
        let thread =
            self.kernel.processes.create_thread(&self.kernel, &self.process).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        Ok(UserThread { owner: self, thread })
    }

    /// Opens a device (`\\.\SanWsk`) with the given access, as CreateFile does with OPEN_EXISTING and FILE_FLAG_OVERLAPPED.
    ///
    /// # Errors
    /// The status that NtCreateFile returns.
    pub fn open(&self, path: &str, access: ACCESS_MASK) -> Result<Handle, NTSTATUS> {
        self.enter(|kernel| crate::nt::io::file::open(kernel, &self.process, path, access, false)).map(Handle)
    }

    /// Issues a device control. `done` is called exactly once if this returns a token, possibly before it returns, by the thread
    /// and at the IRQL at which the driver completes the request: it hands the result on, and calls no machine.
    ///
    /// # Errors
    /// What the system call returns without a request: a bad handle, missing access, an inaccessible buffer.
    ///
    /// # Safety
    /// Both ranges stay as they are, the output unused by others, until `done` was called; if it gets
    /// STATUS_SYSTEM_SHUTDOWN, for ever. Ranges that are not accessible at all are allowed: that is for the kernel to find.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn device_io_control(
        &self,
        handle: Handle,
        code: u32,
        input: *const u8,
        input_length: u32,
        output: *mut u8,
        output_length: u32,
        done: Box<dyn FnOnce(IoStatus) + Send>,
    ) -> Result<IoToken, NTSTATUS> {
        let thread = self.own_thread()?;
        let (input, output) = (
            Buffer { address: input as usize, length: input_length },
            Buffer { address: output as usize, length: output_length },
        );
        self.control_as(&thread, handle, code, input, output, done)
    }

    fn control_as(
        &self,
        thread: &Arc<process::Thread>,
        handle: Handle,
        code: u32,
        input: Buffer,
        output: Buffer,
        done: request::Done,
    ) -> Result<IoToken, NTSTATUS> {
        let control = |kernel: &Kernel| {
            object::with_user_file(kernel, &self.process, handle.0, |entry| {
                request::device_control(kernel, entry.body, entry.access, code, input, output, done)
            })
        };
        self.enter_as(thread, control).map(IoToken)
    }

    /// Issues a device control with buffers of its own; `done` gets them back.
    ///
    /// # Errors
    /// As [`Self::device_io_control`].
    pub fn control_async(
        &self,
        handle: Handle,
        code: u32,
        input: Vec<u8>,
        output: Vec<u8>,
        done: impl FnOnce(Finished) + Send + 'static,
    ) -> Result<IoToken, NTSTATUS> {
        self.control_owned(&self.own_thread()?, handle, code, input, output, done)
    }

    fn control_owned(
        &self,
        thread: &Arc<process::Thread>,
        handle: Handle,
        code: u32,
        input: Vec<u8>,
        mut output: Vec<u8>,
        done: impl FnOnce(Finished) + Send + 'static,
    ) -> Result<IoToken, NTSTATUS> {
        let length = |buffer: &Vec<u8>| u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let from = Buffer { address: input.as_ptr() as usize, length: length(&input) };
        let to = Buffer { address: output.as_mut_ptr() as usize, length: length(&output) };
        let done = Box::new(move |status: IoStatus| {
            if status.status == STATUS_SYSTEM_SHUTDOWN {
                // The machine has stopped, and may still be about to write to them.
                mem::forget((input, output));
                done((status, Vec::new(), Vec::new()));
            } else {
                done((status, input, output));
            }
        });
        self.control_as(thread, handle, code, from, to, done)
    }

    /// A device control that waits for its end: the output, cut to the bytes that the status names.
    ///
    /// # Errors
    /// The status, if it is not a success.
    pub fn control(&self, handle: Handle, code: u32, input: &[u8], output_length: usize) -> Result<Vec<u8>, NTSTATUS> {
        let (status, mut output) = self.control_status(handle, code, input, output_length)?;
        output.truncate(status.information);
        if crate::nt::status::nt_success(status.status) { Ok(output) } else { Err(status.status) }
    }

    /// As [`Self::control`], with the status and the whole output buffer.
    ///
    /// # Errors
    /// As [`Self::device_io_control`]; a request that failed is no error here.
    pub fn control_status(
        &self,
        handle: Handle,
        code: u32,
        input: &[u8],
        output_length: usize,
    ) -> Result<(IoStatus, Vec<u8>), NTSTATUS> {
        let result = Arc::new((Mutex::new(None), Condvar::new()));
        let told = result.clone();
        self.control_async(handle, code, input.to_vec(), vec![0; output_length], move |finished| {
            *told.0.lock() = Some(finished);
            told.1.notify_one();
        })?;
        let mut finished = result.0.lock();
        loop {
            match finished.take() {
                Some((status, _, output)) => return Ok((status, output)),
                None => result.1.wait(&mut finished),
            }
        }
    }

    /// Reads through IRP_MJ_READ (`write` false) or writes through IRP_MJ_WRITE, with a buffer of its own.
    ///
    /// # Errors
    /// As [`Self::device_io_control`].
    pub fn transfer_async(
        &self,
        handle: Handle,
        write: bool,
        mut buffer: Vec<u8>,
        done: impl FnOnce((IoStatus, Vec<u8>)) + Send + 'static,
    ) -> Result<IoToken, NTSTATUS> {
        let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let range = Buffer { address: buffer.as_mut_ptr() as usize, length };
        let done = Box::new(move |status: IoStatus| {
            if status.status == STATUS_SYSTEM_SHUTDOWN {
                mem::forget(buffer);
                done((status, Vec::new()));
            } else {
                done((status, buffer));
            }
        });
        let access = if write { Access::Read } else { Access::Write };
        let transfer = |kernel: &Kernel| {
            object::with_user_file(kernel, &self.process, handle.0, |entry| {
                request::transfer(kernel, entry.body, entry.access, access, range, done)
            })
        };
        self.enter(transfer).map(IoToken)
    }

    /// Cancels one request of a handle, or all of them (CancelIoEx).
    ///
    /// # Errors
    /// STATUS_NOT_FOUND if there is nothing to cancel; STATUS_INVALID_HANDLE.
    pub fn cancel(&self, handle: Handle, token: Option<IoToken>) -> Result<(), NTSTATUS> {
        let file = object::user_file(&self.process, handle.0)?.body;
        let process = self.process.id;
        self.enter(|kernel| {
            let wanted = move |request: &request::Request| {
                request.file == file && request.process == process && token.is_none_or(|token| token.0 == request.id)
            };
            if crate::nt::irp::cancel_requests(kernel, wanted) == 0 { Err(STATUS_NOT_FOUND) } else { Ok(()) }
        })
    }

    /// Closes a handle.
    ///
    /// # Errors
    /// STATUS_INVALID_HANDLE.
    pub fn close(&self, handle: Handle) -> Result<(), NTSTATUS> {
        let status = self.enter(|kernel| Ok(object::close(kernel, &self.process, handle.0)))?;
        if status == STATUS_INVALID_HANDLE { Err(status) } else { Ok(()) }
    }

    /// Open handles.
    #[must_use]
    pub fn handles(&self) -> usize {
        self.process.handles.lock().len()
    }

    /// Creates an event object, not signaled; a manual-reset one if `notification`. The handle has all access.
    ///
    /// # Errors
    /// STATUS_INSUFFICIENT_RESOURCES.
    pub fn create_event(&self, notification: bool) -> Result<Handle, NTSTATUS> {
        self.create_event_with(notification, EVENT_ALL_ACCESS)
    }

    /// As [`Self::create_event`], with a handle of this access only (`nt::types::EVENT_MODIFY_STATE`, `EVENT_QUERY_STATE`,
    /// `SYNCHRONIZE`).
    ///
    /// # Errors
    /// STATUS_INSUFFICIENT_RESOURCES.
    pub fn create_event_with(&self, notification: bool, access: ACCESS_MASK) -> Result<Handle, NTSTATUS> {
        object::create_user_event(&self.kernel, &self.process, notification, access)
            .map(Handle)
            .ok_or(STATUS_INSUFFICIENT_RESOURCES)
    }

    /// Waits for an event. False after the time-out, and if the machine has stopped.
    ///
    /// # Errors
    /// STATUS_INVALID_HANDLE.
    pub fn wait_event(&self, event: Handle, timeout: Duration) -> Result<bool, NTSTATUS> {
        let body = object::user_event(&self.process, event.0).ok_or(STATUS_INVALID_HANDLE)?;
        Ok(self.kernel.dispatcher.wait_outside(&object::event(body).Header, Some(timeout)).unwrap_or(false))
    }

    /// Sets or resets an event.
    ///
    /// # Errors
    /// STATUS_INVALID_HANDLE.
    pub fn set_event(&self, event: Handle, signaled: bool) -> Result<(), NTSTATUS> {
        let body = object::user_event(&self.process, event.0).ok_or(STATUS_INVALID_HANDLE)?;
        self.kernel.dispatcher.set(&object::event(body).Header, |_| i32::from(signaled));
        Ok(())
    }

    /// Whether an event is signaled.
    ///
    /// # Errors
    /// STATUS_INVALID_HANDLE.
    pub fn is_signaled(&self, event: Handle) -> Result<bool, NTSTATUS> {
        object::user_event(&self.process, event.0).map(object::is_signaled).ok_or(STATUS_INVALID_HANDLE)
    }

    /// Ends the process: cancels the requests of its threads, waits for them, closes its handles. Requests that do not end
    /// are a violation, an unkillable process; so are pages of it that stay locked.
    pub fn exit(&self) {
        if self.process.exiting.swap(true, Ordering::SeqCst) {
            return;
        }
        if !self.kernel.is_stopped() {
            let id = self.process.id;
            self.run_down(move |request| request.process == id, || self.inside.load(Ordering::SeqCst) == 0);
            if notify::of_processes(&self.kernel) {
                // A machine that stops meanwhile says why itself.
                let _ = self.enter_to_end(|kernel| notify::process(kernel, &self.process, false));
            }
            let handles = self.process.handles.lock().all();
            for handle in handles {
                // The list is our own: the handle exists.
                let _ = self.enter_to_end(|kernel| object::close(kernel, &self.process, handle));
            }
            self.check_locked_pages();
        }
        let threads = self.threads.lock().take();
        for thread in threads.iter().flat_map(HashMap::values) {
            thread.end(&self.kernel);
        }
        self.kernel.processes.remove(&self.kernel, &self.process);
    }

    /// A process must not go while pages of it are locked (bug check PROCESS_HAS_LOCKED_PAGES).
    fn check_locked_pages(&self) {
        let locked = || self.kernel.locked_pages.of_process(self.process.body() as usize);
        // The thread that completes the last request may be about to unlock its buffer.
        let deadline = simulation::now() + UNLOCKING;
        while locked() != 0 && simulation::now() < deadline && !self.kernel.is_stopped() {
            simulation::sleep(Duration::from_micros(50));
        }
        let left = locked();
        if left != 0 {
            let text = format!("process {} exits, and {left} MDLs still lock pages of it", self.process.id);
            let site = self.kernel.locked_pages.site_of(self.process.body() as usize);
            self.kernel.report_at(Rule::Mdl, text, "", &site);
        }
    }

    /// Cancels requests until all have ended and nobody makes further ones.
    fn run_down(&self, wanted: impl Fn(&request::Request) -> bool + Copy, is_quiet: impl Fn() -> bool) {
        let deadline = simulation::now() + EXIT_PATIENCE;
        while !self.kernel.is_stopped() {
            // In this order: a thread that has left has made its last request.
            let quiet = is_quiet();
            if self.enter_to_end(|kernel| crate::nt::irp::cancel_requests(kernel, wanted)) == Ok(0)
                && quiet
                && !self.kernel.irps.any(wanted)
            {
                return;
            }
            if simulation::now() > deadline {
                let text = format!(
                    "a request of process {} did not end within {EXIT_PATIENCE:?} of being cancelled",
                    self.process.id
                );
                self.kernel.report_at(Rule::Hang, text, "", &self.kernel.irps.left_at(wanted));
            }
            simulation::sleep(Duration::from_micros(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.exit();
    }
}

impl UserThread<'_> {
    /// Issues a device control from this thread, as [`Process::control_async`] does.
    ///
    /// # Errors
    /// As there.
    pub fn control_async(
        &self,
        handle: Handle,
        code: u32,
        input: Vec<u8>,
        output: Vec<u8>,
        done: impl FnOnce(Finished) + Send + 'static,
    ) -> Result<IoToken, NTSTATUS> {
        self.owner.control_owned(&self.thread, handle, code, input, output, done)
    }

    /// Ends the thread: its requests are cancelled and waited for.
    pub fn exit(self) {
        drop(self);
    }
}

impl Drop for UserThread<'_> {
    fn drop(&mut self) {
        let id = self.thread.id;
        self.owner.run_down(move |request| request.thread == id, || true);
        self.thread.end(&self.owner.kernel);
    }
}
