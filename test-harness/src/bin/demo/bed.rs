//! The simulated Windows with the driver on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use san_protocol::ProviderState;
use san_proxy::{Provider, Status};
use test_harness::device::HarnessDevice;
use test_harness::machine::{Builder, Stats, Unload};
use test_harness::nt::status;
use test_harness::{Driver, Machine};

use crate::console::{Console, duration};
use crate::failure::Failure;

/// How long the driver may take to capture the provider NPI.
const CAPTURE_PATIENCE: Duration = Duration::from_secs(10);
/// How long the driver may take to go.
const UNLOAD_PATIENCE: Duration = Duration::from_secs(5);

/// A machine, and the driver once it is loaded.
pub(crate) struct Bed {
    machine: Machine,
    /// What the machine had in use before the driver came.
    before: Stats,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(Machine::builder())
    }

    pub(crate) fn with(builder: Builder) -> Self {
        let machine = builder.build();
        let before = machine.stats();
        Self { machine, before }
    }

    /// Loads the image and runs its DriverEntry.
    pub(crate) fn load(&self, image: &Path) -> Result<Driver, Failure> {
        self.machine.load(image, "sanwsk").map_err(Failure::defect)
    }

    /// The same, and tells about it.
    pub(crate) fn show_load(&self, image: &Path, console: &Console) -> Result<Driver, Failure> {
        let started = Instant::now();
        let driver = self.load(image)?;
        let took = duration(started.elapsed());
        let mut modules = BTreeMap::<_, usize>::new();
        for import in driver.imports() {
            *modules.entry(import.module.to_lowercase()).or_default() += 1;
        }
        for (module, functions) in &modules {
            console.note(format_args!("{functions:3} functions of {module}"));
        }
        if !driver.missing_imports().is_empty() {
            let names: Vec<_> = driver.missing_imports().iter().map(ToString::to_string).collect();
            return Err(Failure::defect(format_args!("the harness lacks imports of the driver: {}", names.join(", "))));
        }
        console.done(format_args!("mapped, all {} imports resolved", driver.imports().len()));
        console.done(format_args!("DriverEntry returned STATUS_SUCCESS after {took}"));
        Ok(driver)
    }

    /// Opens the device, and waits until the driver has captured the WSK provider NPI.
    pub(crate) fn open(&self) -> Result<(Provider, Status), Failure> {
        let started = Instant::now();
        let process = Arc::new(self.machine.process());
        let provider = Provider::new(Arc::new(HarnessDevice::open(&process)?));
        let status = loop {
            let status = provider.status()?;
            if status.provider != ProviderState::Capturing {
                break status;
            }
            if started.elapsed() > CAPTURE_PATIENCE {
                return Err(Failure::defect("the driver does not get the WSK provider NPI"));
            }
            thread::sleep(Duration::from_millis(1));
        };
        Ok((provider, status))
    }

    /// The same, and tells about it.
    pub(crate) fn show_capture(&self, console: &Console) -> Result<Provider, Failure> {
        let (provider, status) = self.open()?;
        console.done(format_args!(r"a process opened \\.\SanWsk"));
        let (ProviderState::Ready, Some(version)) = (status.provider, status.wsk_version) else {
            let why = format_args!("the capture of the WSK provider NPI ended with {}", status.capture_status);
            return Err(Failure::defect(why));
        };
        console
            .done(format_args!("WskRegister, then WskCaptureProviderNPI on a worker: WSK version {version} captured"));
        let [major, minor, patch] = provider.version()?.driver;
        console.note(format_args!("driver {major}.{minor}.{patch} answers its IOCTLs, {} endpoints", status.endpoints));
        Ok(provider)
    }

    /// Closes the device and unloads the driver, and tells about it.
    pub(crate) fn show_unload(&self, driver: &Driver, provider: Provider, console: &Console) -> Result<(), Failure> {
        let busy = self.machine.stats();
        let blocks = busy.driver_pool.values().map(|tag| tag.blocks).sum::<usize>();
        let bytes = busy.driver_pool.values().map(|tag| tag.bytes).sum::<usize>();
        let asked = busy.pool_allocations - self.before.pool_allocations;
        console.note(format_args!(
            "before: {blocks} pool blocks of the driver ({bytes} bytes), {} IRPs; {asked} allocations so far",
            busy.irps
        ));
        self.unload(driver, provider)?;
        console.done("the last handle is closed, EvtDriverUnload has run, the driver has gone");
        console.done("left behind: 0 pool blocks, 0 IRPs, 0 kernel handles, no device, file or event");
        Ok(())
    }

    /// Closes the device and unloads the driver: nothing may be left behind.
    pub(crate) fn unload(&self, driver: &Driver, provider: Provider) -> Result<(), Failure> {
        drop(provider);
        match self.machine.unload(driver) {
            Ok(Unload::Done) => {}
            // The last request may still be on its way out of the I/O manager: then the driver goes right after it.
            Ok(Unload::Deferred) if self.machine.wait_unloaded(driver, UNLOAD_PATIENCE) => {}
            Ok(Unload::Deferred) => return Err(Failure::defect("a handle is open still, so the driver stays")),
            Err(status) => return Err(Failure::defect(format_args!("not unloaded: {}", status::name(status)))),
        }
        let (deadline, had) = (Instant::now() + UNLOAD_PATIENCE, kept_objects(&self.before));
        loop {
            let after = self.machine.stats();
            let left = kept_objects(&after);
            if after.driver_pool.is_empty() && after.irps == 0 && after.kernel_handles == 0 && left == had {
                break;
            }
            // The driver may have gone inside the completion of the last request, which is still being finished.
            if Instant::now() > deadline {
                let (pool, irps, handles) = (&after.driver_pool, after.irps, after.kernel_handles);
                return Err(Failure::defect(format_args!(
                    "left behind: pool {pool:?}, {irps} IRPs, {handles} kernel handles, objects {left:?} (before: {had:?})"
                )));
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.claim(Ok(()))
    }

    /// What happened, or the rule that the driver broke if that is the reason for it.
    pub(crate) fn claim(&self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        match self.machine.violation() {
            Some(violation) => Err(Failure::defect(violation)),
            None => outcome,
        }
    }
}

/// Objects, but for the threads: the machine's own, which come with its first work items.
fn kept_objects(stats: &Stats) -> BTreeMap<&str, usize> {
    stats.objects.iter().filter(|(kind, _)| *kind != "Thread").map(|(kind, count)| (kind.as_str(), *count)).collect()
}
