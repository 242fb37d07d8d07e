//! SAN sessions on the same network.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use san_proxy::{
    AddressFamily, Backlog, Memory, MemoryRights, NtStatus, Pending, Provider, Region, SanEndpoint, WsaError,
};
use test_harness::network::simulated::{Link, Simulated};
use test_harness::simulation;

use crate::bed::{Host, pattern, simulate_all};

/// Longer than any time-out of the network's.
const HOUR: Duration = Duration::from_hours(1);

/// Receives that a side has posted.
const POSTED: usize = 4;

/// One side of a session, with its receives.
pub(crate) struct Side {
    pub(crate) endpoint: SanEndpoint,
    region: Region,
    size: usize,
    receives: Vec<Pending<Result<usize, san_proxy::Error>>>,
}

impl Side {
    fn new(endpoint: SanEndpoint, size: usize) -> Self {
        let region = endpoint.register(Memory::new(POSTED * size), MemoryRights::BOTH).expect("registers");
        let receives = (0..POSTED).map(|at| endpoint.start_receive(&region, at * size..(at + 1) * size)).collect();
        Self { endpoint, region, size, receives }
    }

    /// Message `number` of those that come.
    fn next(&mut self, number: usize) -> Vec<u8> {
        let length = self.receives.remove(0).wait().expect("a message");
        let start = number % POSTED * self.size;
        let message = self.region.read(start..start + length).expect("nobody uses it");
        self.receives.push(self.endpoint.start_receive(&self.region, start..start + self.size));
        message
    }
}

fn bound(host: &Host, provider: &Provider) -> (SanEndpoint, SocketAddr) {
    let endpoint = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
    let address = endpoint.bind(host.any()).expect("binds");
    (endpoint, address)
}

/// A session between two machines.
fn session(first: &Host, near: &Provider, second: &Host, far: &Provider, size: usize) -> (Side, Side) {
    let (listener, address) = bound(second, far);
    listener.listen(Backlog(2)).expect("listens");
    let (connector, _) = bound(first, near);
    let connecting = connector.start_connect(address, None);
    let acceptor = listener.accept().expect("arrives").accept().expect("accepts");
    connecting.wait().expect("connects");
    let (one, other) = (Side::new(connector, size), Side::new(acceptor, size));
    let size = u32::try_from(size).expect("a message size");
    let negotiating = one.endpoint.start_negotiate(b"one", size);
    assert_eq!(other.endpoint.negotiate(b"other", size).expect("negotiates").private, b"one");
    assert_eq!(negotiating.wait().expect("negotiates").private, b"other");
    (one, other)
}

/// Two machines, a handle of each, and a session between them.
pub(crate) fn with_session(
    network: &Arc<Simulated>,
    link: Link,
    size: usize,
    body: impl FnOnce(&Host, &Host, Side, Side),
) {
    let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
    network.set_link(&first.attachment, &second.attachment, link);
    let (near, far) = (first.open(), second.open());
    let (one, other) = session(&first, &near, &second, &far, size);
    body(&first, &second, one, other);
    drop((near, far));
    first.finish();
    second.finish();
}

#[test]
fn messages_arrive_whole_and_in_order_over_a_slow_link_that_loses_and_cuts() {
    const COUNT: usize = 20;
    const SIZE: usize = 3_000;
    simulate_all(6, |network| {
        with_session(network, Link { loss: 40, ..Link::SLOW }, SIZE, |_, _, one, other| {
            let sides = [(one, 1), (other, 2)].map(|(mut side, own)| {
                simulation::start("side", move || {
                    let message = |of: u64, number: usize| pattern(of * 1000 + number as u64, 1 + number * 149 % SIZE);
                    let sends: Vec<_> =
                        (0..COUNT).map(|number| side.endpoint.start_send(message(own, number))).collect();
                    for number in 0..COUNT {
                        assert!(side.next(number) == message(3 - own, number), "message {number}");
                    }
                    for send in sends {
                        send.wait().result.expect("it has gone");
                    }
                    side
                })
            });
            drop(sides.map(simulation::Program::join));
        });
    });
}

#[test]
fn a_reset_ends_what_pends_and_the_memory_goes_free() {
    simulate_all(8, |network| {
        with_session(network, Link::LOCAL, 512, |first, second, mut one, mut other| {
            one.endpoint.send(b"before").expect("goes");
            assert_eq!(other.next(0), b"before");
            assert_eq!(network.reset(&first.attachment, &second.attachment), 1);
            for side in [&mut one, &mut other] {
                for receive in side.receives.drain(..) {
                    assert_eq!(receive.wait().expect_err("reset").status(), NtStatus::CONNECTION_RESET);
                }
                side.endpoint.send(b"after").expect_err("nobody is there");
                side.region.deregister().expect("nothing uses it");
            }
        });
    });
}

#[test]
fn a_peer_that_vanishes_is_missed_by_who_sends() {
    simulate_all(6, |network| {
        with_session(network, Link::LOCAL, 512, |_, second, mut one, other| {
            network.vanish(&second.attachment);
            assert_eq!(one.receives[0].status_within(HOUR), None, "half open");
            let sent = one.endpoint.start_send(vec![1; 100]).wait();
            // It lies in the socket's buffer, as far as its sender knows.
            assert_eq!(sent.result.expect("there is room"), 100);
            for receive in one.receives.drain(..) {
                // A session that breaks is reset, whatever has broken it.
                let error = receive.wait().expect_err("given up");
                assert_eq!((error.status(), error.wsa_error()), (NtStatus::CONNECTION_RESET, WsaError::WSAECONNRESET));
            }
            drop((one, other));
        });
    });
}

#[test]
fn a_connect_without_an_answer_times_out_and_one_without_a_listener_is_told() {
    simulate_all(6, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let nobody = SocketAddr::new(second.ip, 99);
        // The driver's native port listens; nobody does at the SAN port. TCP might reach it, so that it is not certain.
        let (endpoint, _) = bound(&first, &near);
        let begun = simulation::now();
        let error = endpoint.connect(nobody, None).expect_err("nobody listens");
        assert_eq!((error.status(), error.wsa_error()), (NtStatus::IO_TIMEOUT, WsaError::WSAETIMEDOUT));
        assert!(simulation::now() - begun < Duration::from_secs(1), "it need not wait for that");
        drop(endpoint);
        network.partition(&first.attachment, &second.attachment);
        let (endpoint, _) = bound(&first, &near);
        let begun = simulation::now();
        let error = endpoint.connect(nobody, None).expect_err("no answer");
        assert_eq!((error.status(), error.wsa_error()), (NtStatus::IO_TIMEOUT, WsaError::WSAETIMEDOUT));
        let taken = simulation::now() - begun;
        assert!(taken >= Duration::from_secs(5) && taken < Duration::from_secs(22), "{taken:?}");
        drop((endpoint, near, far));
        first.finish();
        second.finish();
    });
}
