//! The bed of every scenario: a machine with the driver loaded, and a process that has its device open.

// By path, as this file is a module of several tests.
#[path = "adversity.rs"]
pub(crate) mod adversity;
#[path = "documented.rs"]
pub(crate) mod documented;
#[path = "watched.rs"]
pub(crate) mod watched;

use self::adversity::{Trial, with_pool_guard};
use self::watched::Watch;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use san_protocol::{NtStatus, ProviderState};
use san_proxy::{AddressFamily, Backlog, Error, Provider, StreamConnection, StreamListener};
use test_harness::machine::{Builder, Process};
use test_harness::nt::registry::Value;
use test_harness::simulation;
use test_harness::wsk::Completions;
use test_harness::{Driver, Machine};

/// Longer than anything here takes, and shorter than anybody's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough that what is to pend does pend.
pub(crate) const MOMENT: Duration = Duration::from_millis(50);

/// Names an image to test in place of the one that is built.
pub(crate) const IMAGE_VARIABLE: &str = "SANWSK_IMAGE";

/// The image, built once.
pub(crate) fn image() -> &'static PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        if let Some(image) = std::env::var_os(IMAGE_VARIABLE) {
            return image.into();
        }
        let options = driver_build::Options::default();
        driver_build::build(&options).expect("`cargo driver` builds the driver").image
    })
}

/// A machine with the driver loaded, and a process.
pub(crate) struct Bed {
    /// First, as fields are dropped in their order.
    trial: Option<Trial>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) driver: Driver,
    pub(crate) process: Arc<Process>,
    pub(crate) watch: Arc<Watch>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(Machine::builder())
    }

    pub(crate) fn with(builder: Builder) -> Self {
        let mut bed = Self::load(with_pool_guard(builder).build());
        bed.wait_for_provider();
        bed.trial = Trial::of(&bed);
        bed
    }

    /// Loads the driver into a machine that has been prepared.
    pub(crate) fn on(machine: Machine) -> Self {
        let mut bed = Self::load(machine);
        bed.trial = Trial::of(&bed);
        bed
    }

    /// Of a machine on which the driver has been loaded otherwise.
    pub(crate) fn of(machine: Machine, driver: Driver) -> Self {
        let mut bed = Self::around(machine, driver);
        bed.trial = Trial::of(&bed);
        bed
    }

    /// WSK completes what it can at once or later, by a seed that a failed test shows.
    fn load(machine: Machine) -> Self {
        let by_clock = || std::time::UNIX_EPOCH.elapsed().map_or(1, |time| u64::from(time.subsec_nanos()));
        let seed = simulation::seed().unwrap_or_else(by_clock);
        println!("completions are mixed by seed {seed}");
        machine.network().set_completions(Completions::Mixed, seed);
        let driver = machine.load(image(), "sanwsk").expect("the driver loads");
        Self::around(machine, driver)
    }

    fn around(machine: Machine, driver: Driver) -> Self {
        let watch = Arc::<Watch>::default();
        let process = watch.enlist(machine.process());
        Self { trial: None, machine: Arc::new(machine), driver, process, watch }
    }

    /// The same with a driver that was loaded when the first had gone.
    pub(crate) fn with_driver(mut self, driver: Driver) -> Self {
        if let Some(trial) = &self.trial {
            trial.follow(driver.clone());
        }
        self.driver = driver;
        self
    }

    /// A further process, of an administrator or not, of 64 bits or (`wow64`) of 32.
    pub(crate) fn process_of(&self, elevated: bool, wow64: bool) -> Arc<Process> {
        self.watch.enlist(self.machine.process_of(elevated, wow64))
    }

    /// The driver through a handle of its own.
    pub(crate) fn open(&self) -> Provider {
        Provider::new(self.watch.open(&self.process).expect("the device opens"))
    }

    /// Waits until the driver has captured the WSK provider NPI.
    pub(crate) fn wait_for_provider(&self) {
        let provider = self.open();
        eventually("the provider NPI is captured", || {
            provider.status().expect("status").provider == ProviderState::Ready
        });
    }

    /// Ends the process and unloads the driver: nothing may be left behind, and no answer was given that is not documented.
    pub(crate) fn finish(self) {
        let Self { trial, machine, driver, process, watch } = self;
        if trial.is_some() {
            // It looks at all this itself.
            return;
        }
        watch.check();
        drop(process);
        let unloaded = machine.unload(&driver);
        if let Some(violation) = machine.violation() {
            panic!("{violation}");
        }
        // The last request may still be on its way out of the I/O manager: then the driver goes right after it.
        assert!(unloaded.is_ok(), "{unloaded:?}");
        check_gone(&machine, &driver);
    }

    /// The same of a driver that has been told to go: it does as soon as its last handle is closed.
    pub(crate) fn finish_unload(self) {
        let Self { trial, machine, driver, process, watch } = self;
        if trial.is_some() {
            return;
        }
        watch.check();
        drop(process);
        check_gone(&machine, &driver);
    }
}

/// The driver goes, and leaves nothing behind.
fn check_gone(machine: &Machine, driver: &Driver) {
    let is_unloaded = machine.wait_unloaded(driver, PATIENCE);
    if let Some(violation) = machine.violation() {
        panic!("{violation}");
    }
    assert!(is_unloaded, "no handle is open any more");
    let stats = machine.stats();
    assert!(stats.driver_pool.is_empty(), "pool left behind: {:?}", stats.driver_pool);
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

/// A foreign peer's accept, which does not wait for ever for a connection that does not come.
pub(crate) fn accept_in_time(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("non-blocking");
    let mut accepted = None;
    eventually("a connection arrives", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (stream, _) = accepted.expect("it has arrived");
    stream.set_nonblocking(false).expect("blocking");
    stream
}

/// The status that an operation failed with.
#[track_caller]
pub(crate) fn status<T: std::fmt::Debug>(result: Result<T, Error>) -> NtStatus {
    result.expect_err("it fails").status()
}

/// A TCP port that nobody has at the moment; below those that the host gives to connections, and each time another one.
pub(crate) fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 12_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Where tests run side by side, each process begins elsewhere.
        let number = std::process::id().wrapping_mul(211).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let count = u32::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(number % count).expect("less than the count");
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// A machine builder with a native port of its own.
pub(crate) fn builder() -> Builder {
    Machine::builder().parameter("sanwsk", "NativePort", Value::Number(free_port().into()))
}

/// A free port of 127.0.0.1 or ::1, chosen by the system.
pub(crate) fn any(family: AddressFamily) -> SocketAddr {
    if family == AddressFamily::INET6 { "[::1]:0" } else { "127.0.0.1:0" }.parse().expect("an address")
}

/// A listener of the host.
pub(crate) fn host_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

/// A host listener that answers no further connect.
pub(crate) fn full_listener() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
    use std::os::fd::AsRawFd;
    let (listener, address) = host_listener();
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is open and listens already; this only shortens its queue.
    let result = unsafe { libc::listen(listener.as_raw_fd(), 0) };
    assert_eq!(result, 0);
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(stream);
    }
    (listener, address, waiting)
}

/// An address of 127.0.0.1 where nobody listens. None of those that the host gives to connections: one that is made from there would
/// meet itself.
pub(crate) fn closed_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// An endpoint of the driver, connected to a socket of the host.
pub(crate) fn connected(provider: &Provider) -> (StreamConnection, TcpStream) {
    let (listener, address) = host_listener();
    let connection = StreamConnection::create(provider, AddressFamily::INET).expect("an endpoint");
    connection.connect(address, Some(PATIENCE)).expect("connects");
    let (peer, _) = listener.accept().expect("the connection arrives");
    peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    peer.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    (connection, peer)
}

/// A listener of the driver.
pub(crate) fn listening(provider: &Provider, backlog: u32) -> (StreamListener, SocketAddr) {
    let listener = StreamListener::create(provider, AddressFamily::INET).expect("an endpoint");
    let address = listener.bind(any(AddressFamily::INET)).expect("binds");
    listener.listen(Backlog(backlog)).expect("listens");
    (listener, address)
}

/// A socket of the host, connected to `address`.
pub(crate) fn host_connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Has a host socket reset its connection when it is closed.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = u32::try_from(size_of::<libc::linger>()).expect("a small structure");
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is open; the option's structure is a local of the given length.
    let result = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), length)
    };
    assert_eq!(result, 0);
}

/// Sends what it receives back, until the peer ends its side.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 16384];
    loop {
        match stream.read(&mut buffer).expect("reads") {
            0 => return,
            length => stream.write_all(&buffer[..length]).expect("writes"),
        }
    }
}

/// Bytes that differ from place to place: byte `n` of stream `seed`.
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
