//! Two machines in one process, each with an image of the driver of its own: one connects to the other.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use san_protocol::ProviderState;
use san_proxy::{AddressFamily, Backlog, Provider, StreamConnection, StreamListener};
use test_harness::device::HarnessDevice;
use test_harness::machine::Unload;
use test_harness::nt::registry::Value;
use test_harness::{Driver, Machine};

const PATIENCE: Duration = Duration::from_secs(20);

struct Host {
    machine: Machine,
    driver: Driver,
    provider: Provider,
}

impl Host {
    /// A machine that lets a handle have so many endpoints.
    fn new(name: &str, endpoints: u32) -> Self {
        let image = driver_build::build(&driver_build::Options::default()).expect("the driver builds").image;
        let limit = Value::Number(endpoints);
        let machine = Machine::builder().name(name).parameter("sanwsk", "MaxEndpointsPerHandle", limit).build();
        let driver = machine.load(image, "sanwsk").expect("the driver loads");
        let process = Arc::new(machine.process());
        let provider = Provider::new(Arc::new(HarnessDevice::open(&process).expect("the device opens")));
        let deadline = Instant::now() + PATIENCE;
        while provider.status().expect("status").provider != ProviderState::Ready {
            assert!(Instant::now() < deadline, "the provider NPI is captured");
            thread::sleep(Duration::from_millis(1));
        }
        Self { machine, driver, provider }
    }

    /// Endpoints that a handle may have at once.
    fn limit(&self) -> usize {
        let create = |_| StreamConnection::create(&self.provider, AddressFamily::INET).ok();
        (0..100).map_while(create).collect::<Vec<_>>().len()
    }

    fn finish(self) {
        drop(self.provider);
        assert_ne!(self.machine.unload(&self.driver), Ok(Unload::Deferred));
        if let Some(violation) = self.machine.violation() {
            panic!("{violation}");
        }
    }
}

/// Bytes of one direction, all different from the other's.
fn bytes(seed: u32) -> Vec<u8> {
    (0..200_000_u32).map(|index| index.wrapping_mul(seed).to_le_bytes()[2]).collect()
}

fn exchange(connection: &StreamConnection, sent: &[u8], expected: &[u8]) {
    let sending = connection.start_send(sent.to_vec());
    let received = connection.receive_all(vec![0; expected.len()]);
    assert_eq!(received.result.expect("receives"), expected.len());
    assert!(received.buffer == expected);
    assert_eq!(sending.wait().result.expect("sends"), sent.len());
}

#[test]
fn two_loaded_drivers_talk_to_each_other_and_share_nothing() {
    let (first, second) = (Host::new("first", 5), Host::new("second", 7));
    assert_eq!((first.limit(), second.limit()), (5, 7), "each image has its own variables");
    let listener = StreamListener::create(&first.provider, AddressFamily::INET).expect("an endpoint");
    let address = listener.bind("127.0.0.1:0".parse().expect("an address")).expect("binds");
    listener.listen(Backlog(4)).expect("listens");
    let there = StreamConnection::create(&second.provider, AddressFamily::INET).expect("an endpoint");
    there.connect(address, Some(PATIENCE)).expect("connects");
    let here = listener.accept().expect("accepts").connection;
    let (to, from) = (bytes(77), bytes(1234));
    thread::scope(|scope| {
        scope.spawn(|| exchange(&here, &from, &to));
        scope.spawn(|| exchange(&there, &to, &from));
    });
    for host in [&first, &second] {
        assert_eq!(host.machine.stats().objects.get("File"), Some(&1));
    }
    drop((here, there, listener));
    // One goes, the other works on.
    second.finish();
    assert_eq!(first.provider.status().expect("status").provider, ProviderState::Ready);
    first.finish();
}
