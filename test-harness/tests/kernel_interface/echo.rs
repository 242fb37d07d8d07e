//! `samples/echo`, a driver in Rust beside sanwsk.sys, and user-mode peers that talk to it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use san_proxy::{AddressFamily, Memory, MemoryRights, Provider, SanEndpoint, StreamConnection};
use test_harness::machine::{Builder, Unload};
use test_harness::nt::registry::Value;
use test_harness::nt::status::{STATUS_ADDRESS_ALREADY_EXISTS, STATUS_OBJECT_NAME_NOT_FOUND};
use test_harness::{Driver, LoadError, Machine};

use crate::support::{Bed, PATIENCE, builder, free_port, host_connect, pattern, status};

/// The name of its service.
pub(crate) const SERVICE: &str = "sanwsk-echo";

/// The sample's image, built once.
pub(crate) fn image() -> &'static Path {
    static IMAGE: OnceLock<std::path::PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let options = driver_build::Options { package: SERVICE.to_owned(), ..driver_build::Options::default() };
        driver_build::build(&options).expect("the sample builds").image
    })
}

/// Both drivers on a machine.
pub(crate) struct Echo {
    pub(crate) bed: Bed,
    pub(crate) sample: Driver,
    pub(crate) port: u16,
}

impl Echo {
    fn new() -> Self {
        Self::on(builder())
    }

    /// On a machine of its own, at a port of its own.
    pub(crate) fn on(builder: Builder) -> Self {
        let port = free_port();
        let bed = Bed::with(builder.parameter(SERVICE, "Port", Value::Number(port.into())));
        let sample = bed.machine.load(image(), SERVICE).expect("the sample loads");
        Self { bed, sample, port }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The sample goes first, then the driver: nothing is left of either.
    pub(crate) fn finish(self) {
        unload(&self.bed.machine, &self.sample);
        self.bed.finish();
    }
}

#[track_caller]
fn unload(machine: &Machine, driver: &Driver) {
    let unloaded = machine.unload(driver);
    if let Some(violation) = machine.violation() {
        panic!("{violation}");
    }
    assert_eq!(unloaded, Ok(Unload::Done));
}

/// Sends bytes over a stream, and gets them back.
fn over_a_stream(provider: &Provider, address: SocketAddr, bytes: &[u8]) {
    let stream = StreamConnection::create(provider, AddressFamily::INET).expect("an endpoint");
    stream.connect(address, Some(PATIENCE)).expect("connects");
    let sending = stream.start_send(bytes.to_vec());
    let received = stream.receive_all(vec![0; bytes.len()]);
    assert_eq!(received.result.expect("receives"), bytes.len());
    assert!(received.buffer == bytes, "the same bytes come back");
    assert_eq!(sending.wait().result.expect("sends"), bytes.len());
    stream.shutdown().expect("disconnects");
    assert_eq!(stream.receive(&mut [0]).expect("the end"), 0);
}

/// A session with the sample, from this side.
fn session(provider: &Provider, address: SocketAddr) -> SanEndpoint {
    let endpoint = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
    endpoint.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("binds");
    endpoint.connect(address, Some(PATIENCE)).expect("connects");
    let peer = endpoint.negotiate(b"peer", 1 << 20).expect("negotiates");
    assert_eq!(peer.private, b"echo");
    endpoint
}

/// Sends messages over a session, and gets each back.
fn over_a_session(provider: &Provider, address: SocketAddr, lengths: &[usize]) {
    let endpoint = session(provider, address);
    let region = endpoint.register(Memory::new(1 << 20), MemoryRights::BOTH).expect("registers");
    for (seed, &length) in (1..).zip(lengths) {
        let message = pattern(seed, length);
        let receive = endpoint.start_receive(&region, 0..1 << 20);
        endpoint.send(&message).expect("sends");
        assert_eq!(receive.wait().expect("receives"), length);
        assert!(region.read(0..length).expect("nobody uses it") == message, "the same message comes back");
    }
    endpoint.disconnect().expect("disconnects");
}

const LENGTHS: [usize; 5] = [1, 0, 65_537, 4096, 1 << 20];

#[test]
fn user_mode_peers_talk_to_a_kernel_peer() {
    let echo = Echo::new();
    let (provider, address) = (echo.bed.open(), echo.address());
    over_a_stream(&provider, address, &pattern(1, 3_000_000));
    over_a_session(&provider, address, &LENGTHS);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (provider, bytes) = (echo.bed.open(), pattern(seed, 300_000));
            scope.spawn(move || over_a_stream(&provider, address, &bytes));
            let provider = echo.bed.open();
            scope.spawn(move || over_a_session(&provider, address, &LENGTHS));
        }
    });
    drop(provider);
    echo.finish();
}

#[test]
fn a_kernel_peer_takes_any_tcp_peer() {
    use std::io::{Read, Write};
    let echo = Echo::new();
    let mut peer = host_connect(echo.address());
    for length in [1, 100_000] {
        let bytes = pattern(7, length);
        peer.write_all(&bytes).expect("writes");
        let mut back = vec![0; length];
        peer.read_exact(&mut back).expect("reads");
        assert!(back == bytes);
    }
    drop(peer);
    echo.finish();
}

#[test]
fn a_client_is_unloaded_under_its_connections() {
    let echo = Echo::new();
    let provider = echo.bed.open();
    let stream = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    stream.connect(echo.address(), Some(PATIENCE)).expect("connects");
    let sessions: Vec<_> = (0..3).map(|_| session(&provider, echo.address())).collect();
    // Under load: what is sent is on its way when the client goes.
    let sending = stream.start_send(pattern(3, 4 << 20));
    unload(&echo.bed.machine, &echo.sample);
    for session in sessions {
        let region = session.register(Memory::new(1 << 20), MemoryRights::BOTH);
        // Its end has come, or comes.
        status(region.and_then(|region| session.start_receive(&region, 0..1 << 20).wait()));
    }
    drop((sending, stream, provider));
    echo.bed.finish();
}

#[test]
fn the_driver_stays_as_long_as_a_client() {
    let Echo { bed, sample, .. } = Echo::new();
    assert_eq!(bed.machine.unload(&bed.driver), Ok(Unload::Deferred));
    assert!(!bed.driver.is_unloaded());
    unload(&bed.machine, &sample);
    drop(bed.process);
    let gone = bed.machine.wait_unloaded(&bed.driver, PATIENCE);
    if let Some(violation) = bed.machine.violation() {
        panic!("{violation}");
    }
    assert!(gone, "nobody has it open any more");
    assert!(bed.machine.stats().driver_pool.is_empty());
}

#[test]
fn a_client_does_not_load_without_the_driver() {
    let machine = Machine::builder().build();
    let refused = machine.load(image(), SERVICE);
    if let Some(violation) = machine.violation() {
        panic!("{violation}");
    }
    assert!(matches!(refused, Err(LoadError::Entry(status)) if status == STATUS_OBJECT_NAME_NOT_FOUND));
    assert!(machine.stats().driver_pool.is_empty());
}

#[test]
fn a_client_does_not_load_where_it_cannot_listen() {
    let port = free_port();
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the host's port");
    let bed = Bed::with(builder().parameter(SERVICE, "Port", Value::Number(port.into())));
    let refused = bed.machine.load(image(), SERVICE);
    if let Some(violation) = bed.machine.violation() {
        panic!("{violation}");
    }
    assert!(matches!(refused, Err(LoadError::Entry(status)) if status == STATUS_ADDRESS_ALREADY_EXISTS));
    drop(taken);
    let sample = bed.machine.load(image(), SERVICE).expect("the port is free");
    unload(&bed.machine, &sample);
    bed.finish();
}
