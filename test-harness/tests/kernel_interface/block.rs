//! `samples/block`, a driver in C beside sanwsk.sys: it sends blocks to `samples/echo` on another machine, and gets them back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Instant;

use driver_build::{Arch, CDriver, DriverModel};
use san_protocol::{EndpointKind, SocketAddress};
use test_harness::machine::Unload;
use test_harness::nt::registry::Value;
use test_harness::nt::status::{
    STATUS_CONNECTION_REFUSED, STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use test_harness::{Driver, Machine};
use zerocopy::IntoBytes;

use crate::READ_WRITE;
use crate::echo::{self, Echo};
use crate::support::{Bed, PATIENCE, builder, closed_port, free_port};

/// CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_BUFFERED, FILE_READ_DATA | FILE_WRITE_DATA), as block.h has it.
const EXCHANGE: u32 = 0x22 << 16 | 3 << 14 | 0x801 << 2;
/// Bytes of a BLOCK_REPLY.
const REPLY: usize = 16;
/// SAN addresses of the machines.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));

/// The sample's image, built once.
fn image() -> &'static Path {
    static IMAGE: OnceLock<std::path::PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let source = driver_build::workspace_root().join("samples/block/block.c");
        let driver = CDriver {
            name: "sanwsk-block".to_owned(),
            sources: vec![source],
            model: DriverModel::Wdm,
            arch: Arch::X64,
        };
        let folder = driver_build::output_root().join("samples");
        driver_build::build_c(&driver, &folder).expect("the sample builds").image
    })
}

/// A BLOCK_REQUEST.
fn request(kind: EndpointKind, length: u32, blocks: u64, remote: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((kind as u32).to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(blocks.to_le_bytes());
    bytes.extend(SocketAddress::from(SocketAddr::new(HERE, 0)).as_bytes());
    bytes.extend(SocketAddress::from(remote).as_bytes());
    bytes
}

/// Has the sample exchange blocks: its status, and what it has hashed.
fn exchange(bed: &Bed, input: Vec<u8>) -> (i32, [u64; 2]) {
    let handle = bed.process.open(r"\\.\SanWskBlock", READ_WRITE).expect("the sample's device opens");
    let (done, told) = channel();
    let issued = bed.process.control_async(handle, EXCHANGE, input, vec![0; REPLY], move |(status, _, output)| {
        let _ = done.send((status.status, output));
    });
    let ended = issued.ok().and_then(|_| told.recv_timeout(PATIENCE * 15).ok());
    if let Some(violation) = bed.machine.violation() {
        panic!("{violation}");
    }
    let (status, output) = ended.expect("it ends");
    bed.process.close(handle).expect("closes");
    let hash = |at: usize| u64::from_le_bytes(output[at..at + 8].try_into().expect("eight bytes"));
    (status, [hash(0), hash(8)])
}

/// What the sample's bytes hash to: FNV-1a over splitmix64.
fn expected(words: u64) -> u64 {
    (1..=words).fold(0xCBF2_9CE4_8422_2325, |hash, at| {
        let word = at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (hash ^ (word ^ (word >> 31))).wrapping_mul(0x0100_0000_01B3)
    })
}

/// Two machines: one with the echo, the other with the sample that sends blocks.
struct Pair {
    here: Bed,
    sample: Driver,
    there: Echo,
}

impl Pair {
    fn new() -> Self {
        let ports = [free_port(), free_port()];
        let routes = [HERE, THERE].into_iter().zip(ports);
        let routes: Vec<_> =
            routes.map(|(address, port)| format!("{address}/32 127.0.0.1/32 port={port} san-only")).collect();
        let machine = |name, port: u16| {
            Machine::builder().name(name).parameter("sanwsk", "NativePort", Value::Number(port.into())).parameter(
                "sanwsk",
                "Routes",
                Value::List(routes.clone()),
            )
        };
        let there = Echo::on(machine("there", ports[1]));
        let here = Bed::with(machine("here", ports[0]));
        let sample = here.machine.load(image(), "sanwsk-block").expect("the sample loads");
        Self { here, sample, there }
    }

    fn remote(&self, kind: EndpointKind) -> SocketAddr {
        match kind {
            EndpointKind::San => SocketAddr::new(THERE, self.there.port),
            EndpointKind::StreamConnection | EndpointKind::StreamListener => self.there.address(),
        }
    }

    /// Exchanges so many bytes, in blocks, and checks both hashes.
    #[track_caller]
    fn exchange(&self, kind: EndpointKind, length: u32, bytes: u64) {
        let blocks = bytes / u64::from(length);
        let started = Instant::now();
        let (status, hashes) = exchange(&self.here, request(kind, length, blocks, self.remote(kind)));
        let seconds = started.elapsed().as_secs_f64();
        if let Some(violation) = self.there.bed.machine.violation() {
            panic!("{violation}");
        }
        assert_eq!(status, STATUS_SUCCESS);
        println!("{kind:?}: {blocks} blocks of {length} bytes there and back in {seconds:.2} s");
        assert_eq!(hashes, [expected(bytes / 8); 2], "what was sent, and what came back");
    }

    fn finish(self) {
        unload(&self.here.machine, &self.sample);
        self.here.finish();
        self.there.finish();
    }
}

#[track_caller]
fn unload(machine: &Machine, sample: &Driver) {
    let unloaded = machine.unload(sample);
    if let Some(violation) = machine.violation() {
        panic!("{violation}");
    }
    assert_eq!(unloaded, Ok(Unload::Done));
}

#[test]
fn two_machines_exchange_blocks_of_every_length() {
    const LENGTHS: [(u32, u64); 4] = [(8, 100), (4096, 50), (65_544, 20), (1 << 20, 5)];
    let pair = Pair::new();
    for kind in [EndpointKind::StreamConnection, EndpointKind::San] {
        for (length, blocks) in LENGTHS {
            pair.exchange(kind, length, u64::from(length) * blocks);
        }
    }
    // The echo's is the handle of no process.
    let bytes: u64 = LENGTHS.iter().map(|&(length, blocks)| u64::from(length) * blocks).sum();
    let provider = pair.there.bed.open();
    let handles = provider.handles().expect("a list");
    let echo = handles.iter().find(|handle| handle.process == 0).expect("a client in the kernel");
    assert_eq!((echo.bytes_sent, echo.bytes_received), (bytes, bytes));
    assert_eq!((echo.stream_bytes_sent, echo.stream_bytes_received), (bytes, bytes));
    drop(provider);
    pair.finish();
}

fn exchange_a_gibibyte(kind: EndpointKind) {
    let pair = Pair::new();
    pair.exchange(kind, 1 << 20, 1 << 30);
    pair.finish();
}

#[test]
fn two_machines_exchange_a_gibibyte_over_a_stream() {
    exchange_a_gibibyte(EndpointKind::StreamConnection);
}

#[test]
fn two_machines_exchange_a_gibibyte_over_a_session() {
    exchange_a_gibibyte(EndpointKind::San);
}

#[test]
fn the_sample_refuses_what_makes_no_sense_and_says_what_has_failed() {
    let bed = Bed::with(builder());
    let sample = bed.machine.load(image(), "sanwsk-block").expect("the sample loads");
    let nobody = closed_port();
    let asked = |kind, length| exchange(&bed, request(kind, length, 1, nobody)).0;
    assert_eq!(asked(EndpointKind::StreamListener, 8), STATUS_INVALID_PARAMETER);
    for length in [0, 7, (1 << 20) + 8] {
        assert_eq!(asked(EndpointKind::San, length), STATUS_INVALID_PARAMETER);
    }
    assert_eq!(exchange(&bed, vec![0; 8]).0, STATUS_INFO_LENGTH_MISMATCH);
    assert_eq!(asked(EndpointKind::StreamConnection, 8), STATUS_CONNECTION_REFUSED);
    unload(&bed.machine, &sample);
    bed.finish();
}

/// Both samples on one machine: a client each, and neither knows of the other.
#[test]
fn two_clients_of_one_driver_talk_to_each_other() {
    let echo = Echo::on(builder());
    let sample = echo.bed.machine.load(image(), "sanwsk-block").expect("the sample loads");
    let mut input = request(EndpointKind::San, 4096, 10, echo.address());
    input[16..44].copy_from_slice(SocketAddress::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).as_bytes());
    let (status, hashes) = exchange(&echo.bed, input);
    assert_eq!((status, hashes), (STATUS_SUCCESS, [expected(10 * 512); 2]));
    assert_eq!(echo.bed.machine.unload(&echo.bed.driver), Ok(Unload::Deferred));
    unload(&echo.bed.machine, &sample);
    assert!(!echo.bed.driver.is_unloaded(), "{} has it open", echo::SERVICE);
    unload(&echo.bed.machine, &echo.sample);
    echo.bed.finish_unload();
}
