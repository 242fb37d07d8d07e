//! The machine that inputs are tried on, and what has to hold after each.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use san_protocol::ProviderState;
use san_proxy::{AddressFamily, Backlog, Provider, Route, SanEndpoint};
use test_harness::device::HarnessDevice;
use test_harness::machine::Stats;
use test_harness::nt::registry::Value;
use test_harness::wsk::Completions;
use test_harness::{Driver, Machine, Violation};

use crate::client::Client;
use crate::loopback::Loopback;

/// The SAN address of the foreign machine.
pub(crate) const FOREIGN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 7);
/// Its native address.
pub(crate) const FOREIGN_NATIVE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Nothing here takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });
/// How often a wait looks.
const LOOK: Duration = Duration::from_micros(50);
/// So long nothing changes at a machine at rest.
const REST: Duration = Duration::from_millis(50);
/// What is in use so long stays in use.
const STAYS: Duration = Duration::from_millis(300);

/// What is wrong with the driver, or with the harness.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A rule was broken.
    Violation(Box<Violation>),
    /// No rule was, and yet it is not as it should be.
    Wrong(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(violation) => write!(formatter, "{violation}"),
            Self::Wrong(what) => write!(formatter, "{what}"),
        }
    }
}

/// Fails with what is wrong.
pub(crate) fn wrong<T>(what: impl fmt::Display) -> Result<T, Failure> {
    Err(Failure::Wrong(what.to_string()))
}

/// What has become of an input.
pub(crate) enum Settled {
    /// Nothing more is in use than before.
    AsBefore,
    /// Something else is, as it says. It counts as what is in use at rest from now on.
    Changed(String),
}

/// What the driver and its callers use.
#[derive(Clone, Debug, PartialEq)]
struct InUse {
    /// The driver's pool: blocks by their tags. A table that has grown keeps its size.
    blocks: BTreeMap<String, usize>,
    irps: usize,
    locked_mdls: usize,
    objects: BTreeMap<String, usize>,
    kernel_handles: usize,
    sockets: usize,
}

/// A machine with the driver, and a foreign machine next to it.
pub(crate) struct Bed {
    pub(crate) machine: Machine,
    pub(crate) driver: Driver,
    /// Where the driver's SAN connections arrive.
    pub(crate) native: SocketAddr,
    /// Where those to the foreign machine arrive.
    pub(crate) foreign: TcpListener,
    observer: Provider,
    routes: Vec<Route>,
    at_rest: InUse,
}

impl Bed {
    /// Loads the image.
    pub(crate) fn new(image: &Path) -> Result<Self> {
        let foreign = TcpListener::bind((FOREIGN_NATIVE, 0))?;
        foreign.set_nonblocking(true)?;
        let foreign_port = foreign.local_addr()?.port();
        let native = free_port().context("no port is free")?;
        let routes = vec![
            "127.0.0.1 127.0.0.1".to_owned(),
            "::1 ::1".to_owned(),
            format!("{} {FOREIGN_NATIVE} port={foreign_port}", FOREIGN.ip()),
        ];
        let parameter = |name: &str, number: u32| (name.to_owned(), Value::Number(number));
        let parameters = [
            parameter("NativePort", native.into()),
            parameter("AllowUsers", 1),
            parameter("HandshakeTimeout", 5000),
            parameter("ConnectTimeout", 10_000),
            parameter("MaxEndpointsPerHandle", 64),
            parameter("MaxRegionsPerHandle", 16),
            parameter("MaxPinnedMiBPerHandle", 1),
            parameter("MaxRoutes", 8),
            ("Routes".to_owned(), Value::List(routes)),
        ];
        let builder = parameters
            .into_iter()
            .fold(Machine::builder(), |builder, (name, value)| builder.parameter("sanwsk", &name, value));
        let machine = builder.build();
        if !machine.network().attach(Arc::new(Loopback::new([native, foreign_port])?)) {
            bail!("the machine has a network already");
        }
        let driver = machine.load(image, "sanwsk").map_err(|error| match machine.violation() {
            Some(violation) => anyhow::anyhow!("{violation}"),
            None => error.into(),
        })?;
        let observer = Provider::new(Arc::new(HarnessDevice::open(&Arc::new(machine.process()))?));
        let deadline = Instant::now() + PATIENCE;
        while observer.status()?.provider != ProviderState::Ready {
            if Instant::now() > deadline {
                bail!("the driver does not capture the WSK provider NPI");
            }
            thread::sleep(LOOK);
        }
        let routes = observer.routes()?.into_iter().map(|entry| entry.route).collect();
        let at_rest = InUse::of(&machine);
        let native = (Ipv4Addr::LOCALHOST, native).into();
        let mut bed = Self { machine, driver, native, foreign, observer, routes, at_rest };
        bed.warm_up().context("the driver does not do what it is there for")?;
        Ok(bed)
    }

    /// Has the driver make what it keeps, its native listeners, and notes what is in use then.
    fn warm_up(&mut self) -> Result<()> {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let address: SocketAddr = address.parse()?;
            let endpoint = SanEndpoint::create(&self.observer, AddressFamily::of(address))?;
            endpoint.bind(address)?;
            endpoint.listen(Backlog(1))?;
            endpoint.close()?;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.at_rest = InUse::of(&self.machine);
            thread::sleep(REST);
            if self.at_rest == InUse::of(&self.machine) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the machine does not come to rest");
            }
        }
    }

    /// A new process with the device open.
    pub(crate) fn client(&self, elevated: bool, wow64: bool) -> Result<Client, Failure> {
        Client::open(self.machine.process_of(elevated, wow64)).or_else(|status| {
            self.violation()?;
            wrong(format!("the device cannot be opened: {status}"))
        })
    }

    /// Has WSK complete operations at once or later, by what follows from the input alone.
    pub(crate) fn mix_completions(&self, seed: u64) {
        self.machine.network().set_completions(Completions::Mixed, seed);
    }

    /// Fails if a rule was broken.
    pub(crate) fn violation(&self) -> Result<(), Failure> {
        self.machine.violation().map_or(Ok(()), |violation| Err(Failure::Violation(Box::new(violation))))
    }

    /// What has to hold once nobody has the device open any more but the observer: the driver answers, has no endpoint left, and
    /// uses what it did at rest. Or, in the end, something else: a table that has grown, or a leak.
    pub(crate) fn settle(&mut self) -> Result<Settled, Failure> {
        let deadline = Instant::now() + PATIENCE;
        self.violation()?;
        self.restore_routes().or_else(|error| {
            self.violation()?;
            wrong(format!("the routes cannot be put back: {error}"))
        })?;
        let (mut last, mut since) = (InUse::of(&self.machine), Instant::now());
        loop {
            let answers = self.observer.status().and_then(|status| Ok((status, self.observer.statistics()?)));
            self.violation()?;
            let (endpoints, statistics) = match answers {
                Ok((status, statistics)) => (status.endpoints, statistics),
                Err(error) => return wrong(format!("the driver does not answer any more: {error}")),
            };
            if endpoints == 0 && (statistics.regions, statistics.pinned_bytes) != (0, 0) {
                let (regions, bytes) = (statistics.regions, statistics.pinned_bytes);
                return wrong(format!("no endpoint is left, and {regions} regions of {bytes} bytes are registered"));
            }
            let in_use = InUse::of(&self.machine);
            if endpoints == 0 && in_use == self.at_rest {
                return self.violation().map(|()| Settled::AsBefore);
            }
            if in_use != last {
                (last, since) = (in_use, Instant::now());
            } else if endpoints == 0 && since.elapsed() > STAYS {
                let change = format!("in use {in_use:#?}, before {:#?}", self.at_rest);
                self.at_rest = in_use;
                return Ok(Settled::Changed(change));
            }
            if Instant::now() > deadline {
                return wrong(format!("{endpoints} endpoints are left; in use {last:#?}, at rest {:#?}", self.at_rest));
            }
            thread::sleep(LOOK);
        }
    }

    /// Routes belong to no handle: what an input has changed is put back.
    fn restore_routes(&self) -> Result<(), san_proxy::Error> {
        let now = self.observer.routes()?;
        for entry in &now {
            if !self.routes.contains(&entry.route) {
                self.observer.remove_route(entry.route.san)?;
            }
        }
        for route in &self.routes {
            if !now.iter().any(|entry| entry.route == *route) {
                self.observer.add_route(route)?;
            }
        }
        Ok(())
    }

    /// Unloads the driver: nothing may be left behind.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self { machine, driver, observer, .. } = self;
        drop(observer);
        let unloaded = machine.unload(&driver);
        let gone = unloaded.is_ok() && machine.wait_unloaded(&driver, PATIENCE);
        match machine.violation() {
            Some(violation) => Err(Failure::Violation(Box::new(violation))),
            None if gone => Ok(()),
            None => wrong(format!("the driver is not unloaded: {unloaded:?}")),
        }
    }
}

/// A TCP port that nobody has: below those that the host gives to connections, and for each process another one.
fn free_port() -> Option<u16> {
    const PORTS: Range<u16> = 12_000..32_000;
    let first = u16::try_from(std::process::id().wrapping_mul(211) % u32::from(PORTS.end - PORTS.start)).ok()?;
    let mut ports = (PORTS.start + first..PORTS.end).chain(PORTS);
    ports.find(|port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)).is_ok())
}

impl InUse {
    fn of(machine: &Machine) -> Self {
        let sockets = machine.network().in_use().sockets;
        let Stats { driver_pool, irps, locked_mdls, objects, kernel_handles, .. } = machine.stats();
        let blocks = driver_pool.into_iter().map(|(tag, used)| (tag, used.blocks)).collect();
        Self { blocks, irps, locked_mdls, objects, kernel_handles, sockets }
    }
}
