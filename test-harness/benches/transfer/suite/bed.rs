//! A machine with the driver on it.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use san_protocol::ProviderState;
use san_proxy::Provider;
use test_harness::device::HarnessDevice;
use test_harness::machine::Unload;
use test_harness::nt::registry::Value;
use test_harness::{Driver, Machine};

/// Longer than anything here takes, if it works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A machine, and two handles of its driver's device: one for each side of a connection.
pub(crate) struct Bed {
    pub(crate) machine: Machine,
    driver: Driver,
    pub(crate) near: Provider,
    pub(crate) far: Provider,
}

impl Bed {
    /// Loads the driver. Pool is without guard pages: they cost system calls that no kernel makes.
    pub(crate) fn new(image: &Path) -> Result<Self> {
        let port = TcpListener::bind("0.0.0.0:0")?.local_addr()?.port();
        let machine = Machine::builder()
            .guarded_pool(false)
            .parameter("sanwsk", "NativePort", Value::Number(port.into()))
            .build();
        let driver = machine.load(image, "sanwsk").map_err(|error| anyhow!("{error}"))?;
        let process = Arc::new(machine.process());
        let open = || anyhow::Ok(Provider::new(Arc::new(HarnessDevice::open(&process)?)));
        let (near, far) = (open()?, open()?);
        let deadline = Instant::now() + PATIENCE;
        while near.status()?.provider != ProviderState::Ready {
            ensure!(Instant::now() < deadline, "the driver does not capture the WSK provider NPI");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { machine, driver, near, far })
    }

    /// Closes the device and unloads the driver.
    pub(crate) fn finish(self) -> Result<()> {
        let Self { machine, driver, near, far } = self;
        drop((near, far));
        let unloaded = machine.unload(&driver);
        if let Some(violation) = machine.violation() {
            return Err(anyhow!("{violation}"));
        }
        // The last request may still be on its way out of the I/O manager: then the driver goes right after it.
        let gone = match unloaded {
            Ok(Unload::Done) => true,
            Ok(Unload::Deferred) => machine.wait_unloaded(&driver, PATIENCE),
            Err(_) => false,
        };
        ensure!(gone, "the driver is not unloaded: {unloaded:?}");
        Ok(())
    }
}
