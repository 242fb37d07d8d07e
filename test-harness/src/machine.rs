//! A simulated Windows, from outside: its drivers, its options, what it has in use.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, mem};

use parking_lot::Mutex;

use crate::guard::Stopped;
use crate::image::{ImageError, ImportName};
use crate::kernel::{Kernel, Options};
use crate::network::Backend;
use crate::nt::etw::TraceSession;
use crate::nt::io::driver::{self, Failure, Source};
use crate::nt::notify;
use crate::nt::pool::{Owner, PoolGuard, TagUse};
use crate::nt::power;
use crate::nt::process::{ProcessKind, start_system_thread};
use crate::nt::registry::Value;
use crate::nt::status::{STATUS_SYSTEM_SHUTDOWN, name as status_name};
use crate::nt::types::{DRIVER_INITIALIZE, GUID, NTSTATUS};
pub use crate::process::{Finished, Handle, IoToken, Process, UserThread};
use crate::simulation::{self, Condvar};
use crate::thread;
use crate::violation::Violation;
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

/// Far more than any driver needs, and than a host takes to go on with a thread.
const SPIN_LOCK_LIMIT: Duration = Duration::from_secs(5);

/// Names the `Wdf01000.sys` on which all machines run KMDF drivers, unless they say otherwise ([`Builder::kmdf`]).
pub const KMDF_VARIABLE: &str = "SANWSK_KMDF";

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

    /// A host that the machine's drivers find by its name; several addresses of one name come in this order.
    #[must_use]
    pub fn host(mut self, name: &str, address: IpAddr) -> Self {
        self.options.hosts.push((name.to_owned(), address));
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

    /// On which side of their blocks the guard pages lie; behind them by default.
    #[must_use]
    pub fn pool_guard(mut self, guard: PoolGuard) -> Self {
        self.options.pool_guard = guard;
        self
    }

    /// How long a spin lock may be held; seconds by default, for a host that is busy with other things.
    #[must_use]
    pub fn spin_lock_limit(mut self, limit: Duration) -> Self {
        self.options.spin_lock_limit = limit;
        self
    }

    /// Whether what the documentation only advises against is noted ([`Machine::notes`]), and no violation.
    #[must_use]
    pub fn lenient(mut self, lenient: bool) -> Self {
        self.options.is_lenient = lenient;
        self
    }

    /// Microsoft's own framework for the drivers of this machine: a `Wdf01000.sys` of KMDF 1.31 or later, taken from a Windows machine
    /// (`%SystemRoot%\System32\drivers`) or built from its published source. The default is what the environment variable
    /// [`KMDF_VARIABLE`] names, and without it the framework of this crate.
    #[must_use]
    pub fn kmdf(mut self, runtime: Option<&Path>) -> Self {
        self.options.kmdf = runtime.map(Path::to_owned);
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
    /// If the host has no address space left for its pool, or there is no such framework as was asked for.
    #[must_use]
    pub fn build(self) -> Machine {
        let kernel = Arc::new(Kernel::new(self.options).expect("address space for the machine's pool"));
        if let Some(runtime) = &kernel.options.kmdf {
            assert!(runtime.is_file(), "there is no KMDF at {} ({KMDF_VARIABLE})", runtime.display());
        }
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

    /// The addresses of the image's section of this name, of an image that is in memory.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<Range<usize>> {
        self.record.image.as_ref()?.section(name)
    }

    /// Whether it has been unloaded, or its entry point has failed.
    #[must_use]
    pub fn is_unloaded(&self) -> bool {
        self.record.phase() == driver::Phase::Unloaded
    }
}

/// A root-enumerated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootDevice {
    pdo: usize,
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
    /// MDLs whose pages are locked.
    pub locked_mdls: usize,
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
        let options = Options {
            name: "local".to_owned(),
            workers: 4,
            guarded_pool: true,
            pool_guard: PoolGuard::After,
            spin_lock_limit: SPIN_LOCK_LIMIT,
            is_lenient: false,
            kmdf: std::env::var_os(KMDF_VARIABLE).map(PathBuf::from),
            hosts: Vec::new(),
        };
        Builder { options, values: Vec::new(), echo: false }
    }

    /// Runs `body` on a system thread, and waits for it.
    pub(crate) fn on_system_thread<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Kernel) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        on_system_thread(&self.kernel, body)
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

    /// Whether a driver is one of Plug and Play: it has an AddDevice routine.
    #[must_use]
    pub fn adds_devices(&self, driver: &Driver) -> bool {
        driver::adds_devices(&driver.record)
    }

    /// Lets a root-enumerated device appear, adds it to a driver and starts it.
    ///
    /// # Errors
    /// What AddDevice or IRP_MN_START_DEVICE failed with; STATUS_INVALID_DEVICE_REQUEST if the driver has no AddDevice routine;
    /// STATUS_SYSTEM_SHUTDOWN if the machine has stopped.
    pub fn add_device(&self, driver: &Driver) -> Result<RootDevice, NTSTATUS> {
        let record = driver.record.clone();
        let added = self.on_system_thread(move |kernel| driver::add_device(kernel, &record));
        added.unwrap_or(Err(STATUS_SYSTEM_SHUTDOWN)).map(|pdo| RootDevice { pdo })
    }

    /// Removes a root-enumerated device from its driver.
    ///
    /// # Errors
    /// STATUS_DEVICE_BUSY if it is open, or what the driver answers IRP_MN_QUERY_REMOVE_DEVICE with; STATUS_SYSTEM_SHUTDOWN if the
    /// machine has stopped.
    pub fn remove_device(&self, driver: &Driver, device: RootDevice) -> Result<(), NTSTATUS> {
        let record = driver.record.clone();
        let removed = self.on_system_thread(move |kernel| driver::remove_device(kernel, &record, device.pdo));
        removed.unwrap_or(Err(STATUS_SYSTEM_SHUTDOWN))
    }

    /// Pulls a root-enumerated device (IRP_MN_SURPRISE_REMOVAL). What is left of it goes when nobody has it open any more.
    ///
    /// # Errors
    /// STATUS_NO_SUCH_DEVICE if it has gone already; STATUS_SYSTEM_SHUTDOWN if the machine has stopped.
    pub fn unplug_device(&self, driver: &Driver, device: RootDevice) -> Result<(), NTSTATUS> {
        let record = driver.record.clone();
        let unplugged = self.on_system_thread(move |kernel| driver::unplug(kernel, &record, device.pdo));
        unplugged.unwrap_or(Err(STATUS_SYSTEM_SHUTDOWN))
    }

    /// Puts the machine to sleep (S3), which the drivers of its root devices may refuse.
    ///
    /// # Errors
    /// STATUS_INVALID_DEVICE_STATE if it sleeps; what a driver answered IRP_MN_QUERY_POWER with; STATUS_SYSTEM_SHUTDOWN if it has stopped.
    pub fn sleep(&self) -> Result<(), NTSTATUS> {
        self.on_system_thread(power::sleep).unwrap_or(Err(STATUS_SYSTEM_SHUTDOWN))
    }

    /// Wakes the machine. Its devices may still be on their way back when this returns.
    ///
    /// # Errors
    /// STATUS_INVALID_DEVICE_STATE if it does not sleep; STATUS_SYSTEM_SHUTDOWN if it has stopped.
    pub fn wake(&self) -> Result<(), NTSTATUS> {
        self.on_system_thread(power::wake).unwrap_or(Err(STATUS_SYSTEM_SHUTDOWN))
    }

    /// Tells drivers that have asked for it that the system is shut down (IRP_MJ_SHUTDOWN).
    ///
    /// # Errors
    /// STATUS_SYSTEM_SHUTDOWN if the machine has stopped.
    pub fn shut_down(&self) -> Result<(), NTSTATUS> {
        self.on_system_thread(crate::nt::io::shutdown::notify).map_err(|Stopped| STATUS_SYSTEM_SHUTDOWN)
    }

    /// The paths of the enabled device interfaces of a class, which a process can open.
    #[must_use]
    pub fn interfaces(&self, class: &GUID) -> Vec<String> {
        crate::nt::io::interface::enabled(&self.kernel, class)
    }

    /// Unloads a driver, or lets it go with its last handle. What it leaves behind is a violation.
    ///
    /// # Errors
    /// STATUS_INVALID_DEVICE_REQUEST if it has no unload routine, has devices of Plug and Play, or is being unloaded already; STATUS_SYSTEM_SHUTDOWN if the
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
        if notify::of_processes(&self.kernel) {
            let new = process.clone();
            // A machine that stops meanwhile says why itself.
            let _ = self.on_system_thread(move |kernel| notify::process(kernel, &new, true));
        }
        Process::new(&self.kernel, process)
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

    /// Lets the allocation after the next `n` fail: pool, IRPs, MDLs, work items, devices, threads, objects, and what WSK needs for each
    /// of its functions.
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

    /// The call that was refused, once the one chosen by [`Self::fail_allocation`] has come.
    #[must_use]
    pub fn refused_call(&self) -> Option<&'static str> {
        self.kernel.faults.refused()
    }

    /// Allocations asked for by drivers so far, counted as [`Self::fail_allocation`] counts.
    #[must_use]
    pub fn allocations(&self) -> u64 {
        self.kernel.faults.asked()
    }

    /// Takes the processor away from whichever thread makes the drivers' next call but `n`, until [`Self::go_on`], or for a few
    /// milliseconds.
    pub fn preempt(&self, n: u64) {
        self.kernel.preemption.arm(n);
    }

    /// Waits until a thread is off the processor by [`Self::preempt`]: the kernel function that it has called.
    #[must_use]
    pub fn wait_preempted(&self, timeout: Duration) -> Option<&'static str> {
        self.kernel.preemption.wait(timeout)
    }

    /// Gives the processor back, and takes it from nobody any more.
    pub fn go_on(&self) {
        self.kernel.preemption.disarm();
    }

    /// Kernel functions that drivers have called so far, counted as [`Self::preempt`] counts.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.kernel.preemption.calls()
    }

    /// What is in use now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        crate::kmdf::settle(&self.kernel);
        let (pool_blocks, pool_bytes, pool_allocations) = self.kernel.pool.totals();
        let objects =
            self.kernel.objects.count().into_iter().map(|(kind, count)| (format!("{kind:?}"), count)).collect();
        Stats {
            driver_pool: self.kernel.pool.by_tag(Owner::Driver),
            pool_blocks,
            pool_bytes,
            pool_allocations,
            irps: self.kernel.irps.live(),
            locked_mdls: self.kernel.locked_pages.count(),
            objects,
            kernel_handles: self.kernel.processes.system(&self.kernel).handles.lock().len(),
        }
    }

    /// What drivers did against the documentation's advice, on a lenient machine.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.kernel.notes()
    }

    /// Paths by which a process can open the devices that drivers have named, device interfaces among them.
    #[must_use]
    pub fn device_paths(&self) -> Vec<String> {
        crate::nt::io::device::paths(&self.kernel)
    }

    /// What drivers printed.
    #[must_use]
    pub fn debug_output(&self) -> Vec<String> {
        self.kernel.debug.lines()
    }

    /// Starts a tracing session, which gets nothing before it enables a provider.
    #[must_use]
    pub fn trace(&self) -> TraceSession {
        TraceSession::start(&self.kernel)
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

    /// The value under the `Parameters` key of a driver's service, if there is one.
    #[must_use]
    pub fn parameter(&self, service: &str, name: &str) -> Option<Value> {
        self.kernel.registry.get(&format!(r"{}\Parameters", driver::service_key(service)), name)
    }

    /// Deletes a driver's service: its key, with all that is under it.
    pub fn delete_service(&self, service: &str) {
        self.kernel.registry.delete_key(driver::service_key(service).as_str());
    }
}

/// What a test decides about a machine's WSK and network.
pub struct Network {
    wsk: Arc<Wsk>,
}

impl Network {
    /// Whether the provider is attached, its transport ready: WskCaptureProviderNPI waits until it is. It is from the start, unless
    /// this says no. One that detaches later waits for its clients: whoever has captured its NPI has it until it is released.
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

/// Runs `body` on a system thread, and waits for it.
pub(crate) fn on_system_thread<T: Send + 'static>(
    kernel: &Arc<Kernel>,
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
    let started = start_system_thread(kernel, "system thread", move || {
        let told = Tell(told);
        let value = body(thread::kernel());
        told.0.0.lock().1 = Some(value);
    });
    if started.is_err() {
        return Err(Stopped);
    }
    let mut state = result.0.lock();
    while !state.0 && !kernel.is_stopped() {
        // A machine that stops abandons the thread without a word.
        result.1.wait_for(&mut state, Duration::from_millis(20));
    }
    state.1.take().ok_or(Stopped)
}

/// How long the threads of a machine may take to leave.
const LEAVING: Duration = Duration::from_secs(5);

impl Drop for Machine {
    fn drop(&mut self) {
        self.kernel.stop();
        let deadline = simulation::now() + LEAVING;
        for thread in self.kernel.take_threads() {
            while !thread.is_finished() && simulation::now() < deadline {
                simulation::sleep(Duration::from_micros(200));
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
