//! The machine, and what it has in use.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use san_protocol::{NtStatus, ProviderState};
use san_proxy::Provider;
use test_harness::device::HarnessDevice;
use test_harness::machine::{Stats, Unload};
use test_harness::nt::registry::Value;
use test_harness::wsk::Completions;
use test_harness::{Driver, Machine};

/// Nothing that nobody holds up takes so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// What stays the same so long is at rest.
const REST: Duration = Duration::from_millis(500);

/// Threads of the system and of programs, at most; none here needs so many.
const MOST_THREADS: usize = 300;

/// What is wrong.
pub(crate) type Failure = String;

/// A machine with the driver, and a handle through which it is looked at.
pub(crate) struct Bed {
    pub(crate) machine: Machine,
    driver: Driver,
    observer: Provider,
    /// Where SAN connections arrive.
    pub(crate) native: SocketAddr,
}

/// What the driver and its callers use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InUse {
    pub(crate) endpoints: u32,
    pub(crate) pinned_bytes: u64,
    /// The driver's pool: blocks by their tags.
    blocks: BTreeMap<String, usize>,
    pub(crate) irps: usize,
    locked_mdls: usize,
    /// But for the threads.
    objects: BTreeMap<String, usize>,
    kernel_handles: usize,
    sockets: usize,
}

impl InUse {
    pub(crate) fn pool_blocks(&self) -> usize {
        self.blocks.values().sum()
    }
}

impl fmt::Display for InUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, pinned_bytes, irps, sockets, .. } = self;
        let blocks = self.pool_blocks();
        write!(formatter, "{endpoints} endpoints, {blocks} pool blocks, {irps} IRPs, {pinned_bytes} bytes pinned, ")?;
        write!(formatter, "{sockets} sockets")
    }
}

/// A TCP port that nobody has: below those that the host gives to connections, and for each process another one.
fn free_port() -> Option<u16> {
    const PORTS: std::ops::Range<u16> = 12_000..32_000;
    let first = u16::try_from(std::process::id().wrapping_mul(211) % u32::from(PORTS.end - PORTS.start)).ok()?;
    let mut ports = (PORTS.start + first..PORTS.end).chain(PORTS);
    ports.find(|port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)).is_ok())
}

/// Asks again while the refusals hit the asking.
fn asked<T>(mut ask: impl FnMut() -> Result<T, san_proxy::Error>) -> Result<T, san_proxy::Error> {
    loop {
        match ask() {
            Err(error) if error.status() == NtStatus::INSUFFICIENT_RESOURCES => {}
            answer => return answer,
        }
    }
}

impl Bed {
    pub(crate) fn new(image: &Path, seed: u64) -> Result<Self, Failure> {
        let native = free_port().ok_or("no port is free")?;
        let machine = Machine::builder()
            .parameter("sanwsk", "NativePort", Value::Number(native.into()))
            .parameter("sanwsk", "HandshakeTimeout", Value::Number(1000))
            .build();
        machine.network().set_completions(Completions::Mixed, seed);
        let driver = machine.load(image, "sanwsk").map_err(|error| {
            machine.violation().map_or_else(|| error.to_string(), |violation| violation.to_string())
        })?;
        let observer = HarnessDevice::open(&Arc::new(machine.process())).map_err(|error| error.to_string())?;
        let native = (Ipv4Addr::LOCALHOST, native).into();
        let bed = Self { machine, driver, observer: Provider::new(Arc::new(observer)), native };
        let deadline = Instant::now() + PATIENCE;
        while bed.observer.status().map_err(|error| error.to_string())?.provider != ProviderState::Ready {
            if Instant::now() > deadline {
                return Err("the driver does not capture the WSK provider NPI".to_owned());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(bed)
    }

    /// Fails if a rule was broken.
    pub(crate) fn violation(&self) -> Result<(), Failure> {
        self.machine.violation().map_or(Ok(()), |violation| Err(violation.to_string()))
    }

    /// What is in use now.
    pub(crate) fn in_use(&self) -> Result<InUse, Failure> {
        let endpoints = asked(|| self.observer.status()).map(|status| status.endpoints);
        let pinned_bytes = asked(|| self.observer.statistics()).map(|statistics| statistics.pinned_bytes);
        self.violation()?;
        let Stats { driver_pool, irps, locked_mdls, mut objects, kernel_handles, .. } = self.machine.stats();
        // The system's come with work, and stay.
        let threads = objects.remove("Thread").unwrap_or(0);
        if threads > MOST_THREADS {
            return Err(format!("there are {threads} threads"));
        }
        Ok(InUse {
            endpoints: endpoints.map_err(|error| error.to_string())?,
            pinned_bytes: pinned_bytes.map_err(|error| error.to_string())?,
            blocks: driver_pool.into_iter().map(|(tag, used)| (tag, used.blocks)).collect(),
            irps,
            locked_mdls,
            objects,
            kernel_handles,
            sockets: self.machine.network().in_use().sockets,
        })
    }

    /// What is in use when nobody does anything.
    pub(crate) fn at_rest(&self) -> Result<InUse, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut last = self.in_use()?;
        loop {
            thread::sleep(REST);
            let now = self.in_use()?;
            if now == last && now.endpoints == 0 {
                return Ok(now);
            }
            if Instant::now() > deadline {
                return Err(format!("the machine does not come to rest: {now:#?}"));
            }
            last = now;
        }
    }

    /// Unloads the driver: nothing may be left behind.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self { machine, driver, observer, .. } = self;
        drop(observer);
        let unloaded = machine.unload(&driver);
        let gone = match unloaded {
            Ok(Unload::Done) => true,
            Ok(Unload::Deferred) => machine.wait_unloaded(&driver, PATIENCE),
            Err(_) => false,
        };
        match machine.violation() {
            Some(violation) => Err(violation.to_string()),
            None if gone => Ok(()),
            None => Err(format!("the driver is not unloaded: {unloaded:?}")),
        }
    }
}

/// Bytes of this process that are in memory.
pub(crate) fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    let statistics = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statistics.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
}
