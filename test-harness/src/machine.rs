//! A simulated Windows, from outside: drivers, processes, their handles and requests.
#![allow(unsafe_code)] // requests with raw buffers

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{fmt, mem};

use parking_lot::{Condvar, Mutex};

use crate::guard::Stopped;
use crate::image::{ImageError, ImportName};
use crate::kernel::{Kernel, Options};
use crate::network::Backend;
use crate::nt::etw::Event;
use crate::nt::io::driver::{self, Failure, Source};
use crate::nt::io::request::{self, Buffer};
use crate::nt::mdl::Access;
use crate::nt::object;
use crate::nt::pool::{Owner, TagUse};
use crate::nt::process::{self, ProcessKind, start_system_thread};
use crate::nt::registry::Value;
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_NOT_FOUND, STATUS_PROCESS_IS_TERMINATING,
    STATUS_SYSTEM_SHUTDOWN, name as status_name,
};
use crate::nt::types::{ACCESS_MASK, DRIVER_INITIALIZE, NTSTATUS};
use crate::thread;
use crate::violation::{Rule, Violation};
use crate::wsk::{Completions, Wsk, WskUse};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoStatus {
    /// IO_STATUS_BLOCK.Status.
    pub status: NTSTATUS,
    /// IO_STATUS_BLOCK.Information: usually bytes of output.
    pub information: usize,
}

/// Why a driver was not loaded.
#[derive(Debug)]
pub enum LoadError {
    /// The file is no image that can be loaded.
    Image(ImageError),
    /// The system refused, before the entry point ran.
    Refused(NTSTATUS),
    /// The entry point returned this status.
    Entry(NTSTATUS),
    /// The driver broke a rule; [`Machine::violation`] has it.
    Violation,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Image(error) => write!(f, "{error}"),
            LoadError::Refused(status) => write!(f, "the driver cannot be loaded: {}", status_name(*status)),
            LoadError::Entry(status) => write!(f, "the driver's entry point returned {}", status_name(*status)),
            LoadError::Violation => write!(f, "the driver broke a rule"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Makes a [`Machine`].
#[derive(Clone, Debug)]
pub struct Builder {
    options: Options,
    values: Vec<(String, String, Value)>,
    echo: bool,
}

impl Builder {
    /// The machine's name in reports.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.options.name);
        self
    }

    /// A value under the `Parameters` key of a driver's service.
    #[must_use]
    pub fn parameter(mut self, service: &str, name: &str, value: Value) -> Self {
        self.values.push((format!(r"{}\Parameters", driver::service_key(service)), name.to_owned(), value));
        self
    }

    /// System worker threads to begin with.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.options.workers = workers;
        self
    }

    /// Whether pool blocks end at guard pages and freed ones are inaccessible (the default), or pool is merely fast.
    #[must_use]
    pub fn guarded_pool(mut self, guarded: bool) -> Self {
        self.options.guarded_pool = guarded;
        self
    }

    /// Whether what drivers print is also written to standard error.
    #[must_use]
    pub fn echo_debug(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }

    /// Starts the machine.
    ///
    /// # Panics
    /// If the host has no address space left for its pool.
    #[must_use]
    pub fn build(self) -> Machine {
        let kernel = Arc::new(Kernel::new(self.options).expect("address space for the machine's pool"));
        kernel.debug.set_echo(self.echo);
        for (key, name, value) in self.values {
            kernel.registry.set(&key, &name, value);
        }
        kernel.processes.system(&kernel);
        Machine { kernel }
    }
}

/// One simulated Windows. Dropping it ends its threads; a violation that nobody has claimed panics then.
pub struct Machine {
    pub(crate) kernel: Arc<Kernel>,
}

/// A loaded driver.
#[derive(Clone)]
pub struct Driver {
    record: Arc<driver::Record>,
}

impl Driver {
    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// All imports of the image.
    #[must_use]
    pub fn imports(&self) -> &[ImportName] {
        self.record.image.as_ref().map_or(&[], |image| image.imports())
    }

    /// Imports that nothing provides. Calling one is a violation.
    #[must_use]
    pub fn missing_imports(&self) -> &[ImportName] {
        self.record.image.as_ref().map_or(&[], |image| image.missing())
    }

    /// Whether it has been unloaded, or its entry point has failed.
    #[must_use]
    pub fn is_unloaded(&self) -> bool {
        self.record.phase() == driver::Phase::Unloaded
    }
}

/// What a machine has in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pool of drivers, by tag.
    pub driver_pool: BTreeMap<String, TagUse>,
    /// Live pool blocks of drivers and of the kernel.
    pub pool_blocks: usize,
    /// Bytes in them.
    pub pool_bytes: usize,
    /// Pool allocations since the machine began.
    pub pool_allocations: usize,
    /// Live IRPs.
    pub irps: usize,
    /// Live objects by type.
    pub objects: BTreeMap<String, usize>,
    /// Kernel handles.
    pub kernel_handles: usize,
}

/// How an unload went (NtUnloadDriver returns success for both).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unload {
    /// The driver has gone.
    Done,
    /// Its devices are open; it goes with the last handle, and cannot be opened any more.
    Deferred,
}

impl Machine {
    /// A machine with the usual options.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Options first.
    #[must_use]
    pub fn builder() -> Builder {
        let options = Options { name: "local".to_owned(), workers: 4, guarded_pool: true };
        Builder { options, values: Vec::new(), echo: false }
    }

    /// Runs `body` on a system thread, and waits for it.
    pub(crate) fn on_system_thread<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Kernel) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let result = Arc::new((Mutex::new((false, None)), Condvar::new()));
        let told = result.clone();
        /// Tells of the end even if the thread leaves early, when its closure is dropped or abandoned.
        #[allow(clippy::type_complexity)] // the pair above, which has no other use
        struct Tell<T>(Arc<(Mutex<(bool, Option<T>)>, Condvar)>);
        impl<T> Drop for Tell<T> {
            fn drop(&mut self) {
                self.0.0.lock().0 = true;
                self.0.1.notify_all();
            }
        }
        let started = start_system_thread(&self.kernel, "system thread", move || {
            let told = Tell(told);
            let value = body(thread::kernel());
            told.0.0.lock().1 = Some(value);
        });
        if started.is_err() {
            return Err(Stopped);
        }
        let mut state = result.0.lock();
        while !state.0 && !self.kernel.is_stopped() {
            // A machine that stops abandons the thread without a word.
            result.1.wait_for(&mut state, Duration::from_millis(20));
        }
        state.1.take().ok_or(Stopped)
    }

    /// Loads a driver as the service `name` and runs its entry point, on a system thread.
    ///
    /// # Errors
    /// The image cannot be loaded, its entry point failed, or it broke a rule.
    pub fn load(&self, path: impl AsRef<Path>, name: &str) -> Result<Driver, LoadError> {
        self.load_from(Source::File(path.as_ref().to_owned()), name)
    }

    /// Loads a driver whose code is part of this program: a kernel component for tests.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_builtin(&self, entry: DRIVER_INITIALIZE, name: &str) -> Result<Driver, LoadError> {
        self.load_from(Source::Builtin(entry), name)
    }

    fn load_from(&self, source: Source, name: &str) -> Result<Driver, LoadError> {
        let name = name.to_owned();
        let loaded = self.on_system_thread(move |kernel| driver::load(kernel, &source, &name));
        match loaded {
            Ok(Ok(record)) => Ok(Driver { record }),
            Ok(Err(Failure::Image(error))) => Err(LoadError::Image(error)),
            Ok(Err(Failure::Status(status))) => Err(LoadError::Refused(status)),
            Ok(Err(Failure::Entry(status))) => Err(LoadError::Entry(status)),
            Err(Stopped) => Err(LoadError::Violation),
        }
    }

    /// Unloads a driver, or lets it go with its last handle. What it leaves behind is a violation.
    ///
    /// # Errors
    /// STATUS_INVALID_DEVICE_REQUEST if it has no unload routine or is being unloaded already; STATUS_SYSTEM_SHUTDOWN if the
    /// machine has stopped.
    pub fn unload(&self, driver: &Driver) -> Result<Unload, NTSTATUS> {
        let record = driver.record.clone();
        self.on_system_thread(move |kernel| driver::unload(kernel, &record)).unwrap_or(Err(STATUS_SYSTEM_SHUTDOWN))?;
        if self.kernel.is_stopped() {
            return Err(STATUS_SYSTEM_SHUTDOWN);
        }
        Ok(if driver.is_unloaded() { Unload::Done } else { Unload::Deferred })
    }

    /// Waits for a deferred unload. False if it did not end in time.
    #[must_use]
    pub fn wait_unloaded(&self, driver: &Driver, timeout: Duration) -> bool {
        driver::wait_unloaded(&self.kernel, &driver.record, timeout)
    }

    /// A 64-bit process of an administrator.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process_of(true, false)
    }

    /// A process with or without an administrator's rights, of 64 bits or (`wow64`) of 32.
    ///
    /// # Panics
    /// If the machine has no pool left.
    #[must_use]
    pub fn process_of(&self, elevated: bool, wow64: bool) -> Process {
        let kind = ProcessKind::User { elevated, wow64 };
        let process = self.kernel.processes.create(&self.kernel, kind).expect("pool for a process object");
        Process { kernel: self.kernel.clone(), process, threads: Mutex::default() }
    }

    /// The violation that stopped the machine. Looking at it claims it: dropping the machine no longer panics.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.kernel.claim_violation()
    }

    /// Whether a violation has stopped the machine. This does not claim it.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.kernel.is_stopped()
    }

    /// Lets the allocation after the next `n` fail: pool, IRPs, MDLs, work items, devices, threads, objects.
    pub fn fail_allocation(&self, n: u32) {
        self.kernel.faults.fail_after(n);
    }

    /// Lets allocations succeed again.
    pub fn fail_no_allocation(&self) {
        self.kernel.faults.fail_none();
    }

    /// Whether the chosen allocation has been asked for, and refused.
    #[must_use]
    pub fn allocation_has_failed(&self) -> bool {
        self.kernel.faults.has_failed()
    }

    /// Allocations asked for by drivers so far, counted as [`Self::fail_allocation`] counts.
    #[must_use]
    pub fn allocations(&self) -> u64 {
        self.kernel.faults.asked()
    }

    /// What is in use now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (pool_blocks, pool_bytes, pool_allocations) = self.kernel.pool.totals();
        let objects =
            self.kernel.objects.count().into_iter().map(|(kind, count)| (format!("{kind:?}"), count)).collect();
        Stats {
            driver_pool: self.kernel.pool.by_tag(Owner::Driver),
            pool_blocks,
            pool_bytes,
            pool_allocations,
            irps: self.kernel.irps.live(),
            objects,
            kernel_handles: self.kernel.processes.system(&self.kernel).handles.lock().len(),
        }
    }

    /// What drivers printed.
    #[must_use]
    pub fn debug_output(&self) -> Vec<String> {
        self.kernel.debug.lines()
    }

    /// Events that drivers wrote (EtwWrite).
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.kernel.events.written()
    }

    /// The machine's WSK and network.
    #[must_use]
    pub fn network(&self) -> Network {
        Network { wsk: self.kernel.extension() }
    }

    /// Sets a value under the `Parameters` key of a driver's service.
    pub fn set_parameter(&self, service: &str, name: &str, value: Value) {
        self.kernel.registry.set(&format!(r"{}\Parameters", driver::service_key(service)), name, value);
    }
}

/// What a test decides about a machine's WSK and network.
pub struct Network {
    wsk: Arc<Wsk>,
}

impl Network {
    /// Whether the transport is ready: WskCaptureProviderNPI waits until it is. It is from the start, unless this says no.
    pub fn set_ready(&self, ready: bool) {
        self.wsk.readiness.set_ready(ready);
    }

    /// What WskCaptureProviderNPI fails with from now on, if anything.
    pub fn fail_capture(&self, status: Option<NTSTATUS>) {
        self.wsk.readiness.set_failure(status);
    }

    /// When operations complete that could complete at once.
    pub fn set_completions(&self, completions: Completions, seed: u64) {
        self.wsk.set_completions(completions, seed);
    }

    /// Attaches the machine to a network, before it has made its first socket; by default to the host's.
    /// False if it is attached already.
    #[must_use]
    pub fn attach(&self, backend: Arc<dyn Backend>) -> bool {
        self.wsk.set_backend(backend)
    }

    /// What is in use now.
    #[must_use]
    pub fn in_use(&self) -> WskUse {
        self.wsk.in_use()
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

/// How long the threads of a machine may take to leave.
const LEAVING: Duration = Duration::from_secs(5);

impl Drop for Machine {
    fn drop(&mut self) {
        self.kernel.stop();
        let deadline = Instant::now() + LEAVING;
        for thread in self.kernel.take_threads() {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_micros(200));
            }
            if thread.is_finished() {
                // A panic of the harness on that thread has been printed already.
                let _ = thread.join();
            } else {
                // It runs in driver code that calls nothing: its image and pool must stay mapped.
                mem::forget(self.kernel.clone());
            }
        }
        self.kernel.drop_extensions();
        if let Some(violation) = self.kernel.take_violation()
            && !std::thread::panicking()
        {
            panic!("{violation}");
        }
    }
}

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

/// A user-mode process. Each host thread that calls in is a thread of its own; dropping the process ends it.
pub struct Process {
    kernel: Arc<Kernel>,
    process: Arc<process::Process>,
    threads: Mutex<HashMap<std::thread::ThreadId, Arc<process::Thread>>>,
}

/// A thread of a process, for tests in which a thread ends before its process.
pub struct UserThread<'a> {
    owner: &'a Process,
    thread: Arc<process::Thread>,
}

/// Buffers that a request owned, and how it ended.
pub type Finished = (IoStatus, Vec<u8>, Vec<u8>);

impl Process {
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
        if self.process.exiting.load(Ordering::Acquire) {
            return Err(STATUS_PROCESS_IS_TERMINATING);
        }
        thread::enter(&self.kernel, thread, || body(thread::kernel())).unwrap_or(Err(STATUS_SYSTEM_SHUTDOWN))
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
        let entry = object::user_file(&self.process, handle.0)?;
        let control =
            |kernel: &Kernel| request::device_control(kernel, entry.body, entry.access, code, input, output, done);
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
        let entry = object::user_file(&self.process, handle.0)?;
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
        self.enter(|kernel| request::transfer(kernel, entry.body, entry.access, access, range, done)).map(IoToken)
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

    /// Creates an event object, not signaled; a manual-reset one if `notification`.
    ///
    /// # Errors
    /// STATUS_INSUFFICIENT_RESOURCES.
    pub fn create_event(&self, notification: bool) -> Result<Handle, NTSTATUS> {
        object::create_user_event(&self.kernel, &self.process, notification)
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
    /// are a violation, an unkillable process.
    pub fn exit(&self) {
        if self.process.exiting.load(Ordering::Acquire) {
            return;
        }
        if !self.kernel.is_stopped() {
            let id = self.process.id;
            self.run_down(move |request| request.process == id);
            let handles = self.process.handles.lock().all();
            for handle in handles {
                // The list is our own: the handle exists.
                let _ = self.close(Handle(handle));
            }
        }
        self.process.exiting.store(true, Ordering::Release);
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads.values() {
            thread.end(&self.kernel);
        }
        self.kernel.processes.remove(&self.kernel, &self.process);
    }

    /// Cancels requests and waits until they have ended.
    fn run_down(&self, wanted: impl Fn(&request::Request) -> bool + Copy) {
        let deadline = Instant::now() + EXIT_PATIENCE;
        let cancelled = self.enter(|kernel| Ok(crate::nt::irp::cancel_requests(kernel, wanted)));
        if cancelled == Ok(0) {
            return;
        }
        while self.kernel.irps.any(wanted) && !self.kernel.is_stopped() {
            if Instant::now() > deadline {
                let text = format!(
                    "a request of process {} did not end within {EXIT_PATIENCE:?} of being cancelled",
                    self.process.id
                );
                self.kernel.report_at(Rule::Hang, text, "", &[]);
            }
            std::thread::sleep(Duration::from_micros(50));
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
        self.owner.run_down(move |request| request.thread == id);
        self.thread.end(&self.owner.kernel);
    }
}
