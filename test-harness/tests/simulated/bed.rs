//! The bed of the simulations: machines on a network, and how many seeds a test has.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use san_protocol::ProviderState;
use san_proxy::{AddressFamily, Backlog, Provider, StreamConnection, StreamListener};
use test_harness::device::HarnessDevice;
use test_harness::machine::{Builder, Process, Unload};
use test_harness::network::simulated::{Attachment, Simulated};
use test_harness::simulation::{self, Record, Schedule};
use test_harness::wsk::Completions;
use test_harness::{Driver, Machine};

/// Longer than anything takes that ends, in the simulation's time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);

/// The image, built once.
fn image() -> &'static PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| driver_build::build(&driver_build::Options::default()).expect("the driver builds").image)
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// The seeds that a test runs by, of which it has `count` unless the environment says otherwise.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    match from_environment("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => (1..=from_environment("SIMULATION_SEEDS").unwrap_or(count)).collect(),
    }
}

/// Runs `body` by a seed, with a network and a schedule of that seed.
pub(crate) fn simulate(seed: u64, body: impl FnOnce(&Arc<Simulated>)) -> Record {
    image();
    let schedule = Schedule::of(seed);
    println!("seed {seed}: {schedule:?}");
    let ((), record) = simulation::run(seed, schedule, || body(&Simulated::new(seed)));
    record
}

/// Runs `body` by each of so many seeds.
pub(crate) fn simulate_all(count: u64, mut body: impl FnMut(&Arc<Simulated>)) {
    for seed in seeds(count) {
        let record = simulate(seed, &mut body);
        println!("seed {seed}: {} kernel calls in {:?}", record.steps.len(), record.time);
    }
}

/// A machine of a network, with the driver loaded.
pub(crate) struct Host {
    pub(crate) machine: Machine,
    pub(crate) driver: Driver,
    pub(crate) process: Arc<Process>,
    pub(crate) attachment: Arc<Attachment>,
    pub(crate) ip: IpAddr,
}

impl Host {
    /// Machine `number` of a network: 10.0.0.`number` and fd00::`number`.
    pub(crate) fn boot(network: &Arc<Simulated>, number: u8) -> Self {
        Self::boot_with(network, number, Machine::builder())
    }

    pub(crate) fn boot_with(network: &Arc<Simulated>, number: u8, builder: Builder) -> Self {
        let host = Self::boot_unready(network, number, builder, true);
        host.wait_for_provider();
        host
    }

    /// As the others, but the transport may not be ready.
    pub(crate) fn boot_unready(network: &Arc<Simulated>, number: u8, builder: Builder, ready: bool) -> Self {
        let ip = IpAddr::from([10, 0, 0, number]);
        let v6 = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, number.into()]);
        let attachment = network.attach(&[ip, v6]);
        let machine = builder.name(&format!("machine {number}")).workers(2).build();
        assert!(machine.network().attach(attachment.clone()));
        let seed = simulation::seed().unwrap_or_default() ^ u64::from(number);
        machine.network().set_completions(Completions::Mixed, seed);
        machine.network().set_ready(ready);
        let driver = machine.load(image(), "sanwsk").expect("the driver loads");
        let process = Arc::new(machine.process());
        Self { machine, driver, process, attachment, ip }
    }

    pub(crate) fn open(&self) -> Provider {
        Provider::new(Arc::new(HarnessDevice::open(&self.process).expect("the device opens")))
    }

    pub(crate) fn wait_for_provider(&self) {
        let provider = self.open();
        eventually("the provider NPI is captured", || {
            provider.status().expect("status").provider == ProviderState::Ready
        });
    }

    /// The machine's address with a port that the system chooses.
    pub(crate) fn any(&self) -> SocketAddr {
        SocketAddr::new(self.ip, 0)
    }

    /// Unloads the driver, of which no handle is open, and loads it again.
    pub(crate) fn reload(&mut self) {
        assert_eq!(self.machine.unload(&self.driver), Ok(Unload::Done));
        check(&self.machine);
        self.driver = self.machine.load(image(), "sanwsk").expect("the driver loads again");
    }

    /// Ends the process and unloads the driver: nothing may be left behind.
    pub(crate) fn finish(self) {
        let Self { machine, driver, process, .. } = self;
        drop(process);
        let unloaded = machine.unload(&driver);
        check(&machine);
        assert!(unloaded.is_ok(), "{unloaded:?}");
        assert!(machine.wait_unloaded(&driver, PATIENCE), "a handle is open");
        check(&machine);
        let stats = machine.stats();
        assert!(stats.driver_pool.is_empty(), "pool left behind: {:?}", stats.driver_pool);
        assert_eq!((stats.irps, stats.locked_mdls, machine.network().in_use().sockets), (0, 0, 0));
    }
}

/// No rule was broken.
#[track_caller]
pub(crate) fn check(machine: &Machine) {
    if let Some(violation) = machine.violation() {
        panic!("{violation}");
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = simulation::now() + PATIENCE;
    while !condition() {
        assert!(simulation::now() < deadline, "not in time: {what}");
        simulation::sleep(Duration::from_millis(1));
    }
}

/// A stream listener at an address of a machine.
pub(crate) fn listening(host: &Host, provider: &Provider, backlog: u32) -> (StreamListener, SocketAddr) {
    let listener = StreamListener::create(provider, AddressFamily::INET).expect("an endpoint");
    let address = listener.bind(host.any()).expect("binds");
    listener.listen(Backlog(backlog)).expect("listens");
    (listener, address)
}

/// A connection between two machines: the end that connected, and the end that accepted.
pub(crate) fn connected(client: &Provider, server: &Host, provider: &Provider) -> (StreamConnection, StreamConnection) {
    let (listener, address) = listening(server, provider, 4);
    let accepting = listener.start_accept();
    let connection = StreamConnection::create(client, AddressFamily::INET).expect("an endpoint");
    connection.connect(address, None).expect("connects");
    (connection, accepting.wait().expect("accepts").connection)
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
