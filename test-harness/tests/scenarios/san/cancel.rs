//! Cancel, close, a closed handle and a dying process, at every state and wherever a SAN request pends.

use super::support::{Receiver, bed, bound, builder, free_port, listening, negotiated, session};
use super::wire_peer::{FOREIGN, Neighbours, Role, WirePeer, connect_request, header};
use crate::support::{Bed, MOMENT, PATIENCE, eventually, full_listener, status};
use san_protocol::wire::MessageType;
use san_proxy::{
    Disconnect, Endpoint, EndpointId, Memory, MemoryRights, NetworkEvents, NtStatus, Pending, Provider, Region,
    SanEndpoint,
};
use std::any::Any;
use std::sync::Arc;
use test_harness::device::HarnessDevice;
use test_harness::nt::registry::Value;

/// A request on its way, of whichever kind.
trait Request {
    fn cancel(&self);
    fn pends(&self) -> bool;
    fn status(&self) -> NtStatus;
}

impl<T: Send> Request for Pending<T> {
    fn cancel(&self) {
        Pending::cancel(self);
    }

    fn pends(&self) -> bool {
        self.status_within(MOMENT).is_none()
    }

    fn status(&self) -> NtStatus {
        self.status_within(PATIENCE).expect("it ends")
    }
}

/// The registration of a region.
struct Registration(Region);

impl Request for Registration {
    fn cancel(&self) {
        self.0.cancel();
    }

    fn pends(&self) -> bool {
        self.0.is_registered()
    }

    fn status(&self) -> NtStatus {
        self.0.wait_for_end(PATIENCE).expect("it ends")
    }
}

/// What is left of a connection when the request has been cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    /// There was none, or there is none any more.
    NoConnection,
    /// It goes on.
    Connected,
}

/// An endpoint with a request that pends.
struct Outstanding {
    endpoint: EndpointId,
    request: Box<dyn Request>,
    afterwards: Afterwards,
    /// What has to stay for that.
    _others: Box<dyn Any>,
}

impl Outstanding {
    fn new(endpoint: SanEndpoint, request: impl Request + 'static, afterwards: Afterwards, others: impl Any) -> Self {
        assert!(request.pends(), "it pends");
        // Closed by the test, in its own way.
        let endpoint = endpoint.into_endpoint().into_id();
        Self { endpoint, request: Box::new(request), afterwards, _others: Box::new(others) }
    }
}

/// Room for one receive, which a foreign peer may fill.
fn receiving(neighbours: &Neighbours, provider: &Provider, size: usize) -> (Receiver, WirePeer) {
    neighbours.session(provider, Role::Connector, (1, size), 1)
}

type Situation = (&'static str, fn(&Neighbours, &Provider) -> Outstanding);

const SITUATIONS: [Situation; 12] = [
    ("hand-shake pending", |neighbours, provider| {
        let (connector, _) = bound(provider);
        let connect = connector.start_connect(FOREIGN, None);
        let peer = neighbours.arriving();
        Outstanding::new(connector, connect, Afterwards::NoConnection, peer)
    }),
    ("accept pending", |_, provider| {
        let (listener, _) = listening(provider, 1);
        let accept = listener.start_accept();
        Outstanding::new(listener, accept, Afterwards::NoConnection, ())
    }),
    ("negotiate pending", |neighbours, provider| {
        let (endpoint, peer) = neighbours.connected(provider, Role::Acceptor);
        let negotiate = endpoint.start_negotiate(b"", 0);
        Outstanding::new(endpoint, negotiate, Afterwards::Connected, peer)
    }),
    ("receive posted and idle", |neighbours, provider| {
        let (receiver, peer) = receiving(neighbours, provider, 64);
        let Receiver { endpoint, region, mut receives, .. } = receiver;
        Outstanding::new(endpoint, receives.remove(0), Afterwards::Connected, (region, peer))
    }),
    ("receive half filled", |neighbours, provider| {
        let (receiver, mut peer) = receiving(neighbours, provider, 64);
        peer.send(&header(MessageType::Data, 64, 0));
        peer.send(&[7; 30]);
        std::thread::sleep(MOMENT);
        let Receiver { endpoint, region, mut receives, .. } = receiver;
        Outstanding::new(endpoint, receives.remove(0), Afterwards::NoConnection, (region, peer))
    }),
    ("send queued", |neighbours, provider| {
        let (receiver, peer) = neighbours.session(provider, Role::Acceptor, (1, 64), 0);
        let send = receiver.endpoint.start_send(vec![1; 64]);
        let Receiver { endpoint, region, receives, .. } = receiver;
        Outstanding::new(endpoint, send, Afterwards::Connected, (region, receives, peer))
    }),
    ("registered send queued", |neighbours, provider| {
        let (receiver, peer) = neighbours.session(provider, Role::Acceptor, (1, 64), 0);
        let region = receiver.endpoint.register(Memory::new(64), MemoryRights::SEND).expect("registers");
        let send = receiver.endpoint.start_send_registered(&region, 0..64);
        let Receiver { endpoint, region: other, receives, .. } = receiver;
        Outstanding::new(endpoint, send, Afterwards::Connected, (region, other, receives, peer))
    }),
    ("send in flight", |neighbours, provider| {
        let size = 1 << 20;
        let (endpoint, mut peer) = neighbours.connected(provider, Role::Connector);
        let region = endpoint.register(Memory::new(size), MemoryRights::SEND).expect("registers");
        let negotiate = endpoint.start_negotiate(b"", 0);
        peer.expect(MessageType::Session);
        peer.send_session(1 << 20, 64);
        negotiate.wait().expect("negotiates");
        // More than the sockets' buffers hold, and the peer reads nothing.
        let mut sends: Vec<_> = (0..64).map(|_| endpoint.start_send_registered(&region, 0..size)).collect();
        let stuck = sends.iter().position(Request::pends).expect("64 MiB fit in no socket buffer");
        let send = sends.swap_remove(stuck);
        Outstanding::new(endpoint, send, Afterwards::NoConnection, (region, sends, peer))
    }),
    ("region registered and idle", |neighbours, provider| {
        let (endpoint, peer) = neighbours.connected(provider, Role::Acceptor);
        let region = endpoint.register(Memory::new(100), MemoryRights::BOTH).expect("registers");
        Outstanding::new(endpoint, Registration(region), Afterwards::Connected, peer)
    }),
    ("region registered and posted", |neighbours, provider| {
        let (receiver, peer) = receiving(neighbours, provider, 64);
        let Receiver { endpoint, region, receives, .. } = receiver;
        Outstanding::new(endpoint, Registration(region), Afterwards::Connected, (receives, peer))
    }),
    ("deregister pending", |neighbours, provider| {
        let (receiver, peer) = receiving(neighbours, provider, 64);
        let deregister = receiver.region.start_deregister();
        let Receiver { endpoint, region, receives, .. } = receiver;
        Outstanding::new(endpoint, deregister, Afterwards::Connected, (region, receives, peer))
    }),
    ("disconnect pending", |neighbours, provider| {
        let (receiver, peer) = receiving(neighbours, provider, 64);
        let disconnect = receiver.endpoint.start_disconnect(Disconnect::Graceful);
        let Receiver { endpoint, region, receives, .. } = receiver;
        Outstanding::new(endpoint, disconnect, Afterwards::Connected, (region, receives, peer))
    }),
];

/// What a connection says to a message that is too long, or comes too early: it is there.
fn is_connected(provider: &Provider, endpoint: EndpointId) -> bool {
    let endpoint = SanEndpoint::from_endpoint(Endpoint::from_id(provider, endpoint));
    let status = status(endpoint.send(&vec![0; (1 << 20) + 1]));
    let _ = endpoint.into_endpoint().into_id();
    [NtStatus::INVALID_BUFFER_SIZE, NtStatus::INVALID_CONNECTION, NtStatus::GRACEFUL_DISCONNECT].contains(&status)
}

fn close(provider: &Provider, endpoint: EndpointId) {
    SanEndpoint::from_endpoint(Endpoint::from_id(provider, endpoint)).close().expect("closes");
}

#[test]
fn whatever_pends_is_cancelled_at_once() {
    for (name, situation) in SITUATIONS {
        println!("{name}");
        let neighbours = Neighbours::new();
        let provider = neighbours.bed.open();
        let outstanding = situation(&neighbours, &provider);
        outstanding.request.cancel();
        assert_eq!(outstanding.request.status(), NtStatus::CANCELLED, "{name}");
        match outstanding.afterwards {
            Afterwards::NoConnection => {}
            Afterwards::Connected => assert!(is_connected(&provider, outstanding.endpoint), "{name}"),
        }
        close(&provider, outstanding.endpoint);
        drop((outstanding, provider));
        neighbours.bed.finish();
    }
}

#[test]
fn whatever_pends_ends_when_its_endpoint_is_closed() {
    for (name, situation) in SITUATIONS {
        println!("{name}");
        let neighbours = Neighbours::new();
        let provider = neighbours.bed.open();
        let outstanding = situation(&neighbours, &provider);
        close(&provider, outstanding.endpoint);
        // The end of the endpoint is the end of the registration that a deregister waits for.
        let expected = if name == "deregister pending" { NtStatus::SUCCESS } else { NtStatus::CANCELLED };
        assert_eq!(outstanding.request.status(), expected, "{name}");
        let gone = SanEndpoint::from_endpoint(Endpoint::from_id(&provider, outstanding.endpoint));
        assert_eq!(status(gone.addresses()), NtStatus::INVALID_HANDLE, "{name}");
        let _ = gone.into_endpoint().into_id();
        drop((outstanding, provider));
        neighbours.bed.finish();
    }
}

#[test]
fn whatever_pends_ends_when_its_handle_is_closed() {
    for (name, situation) in SITUATIONS {
        println!("{name}");
        let neighbours = Neighbours::new();
        let device = Arc::new(HarnessDevice::open(&neighbours.bed.process).expect("opens"));
        let provider = Provider::new(device.clone());
        let outstanding = situation(&neighbours, &provider);
        device.close();
        let ended = outstanding.request.status();
        assert!([NtStatus::CANCELLED, NtStatus::SUCCESS].contains(&ended), "{name}: {ended}");
        drop((outstanding, provider, device));
        let other = neighbours.bed.open();
        eventually("no endpoint is left", || other.status().expect("status").endpoints == 0);
        assert_eq!(other.statistics().expect("statistics").pinned_bytes, 0, "{name}");
        drop(other);
        neighbours.bed.finish();
    }
}

#[test]
fn whatever_pends_ends_when_its_process_dies() {
    for (name, situation) in SITUATIONS {
        println!("{name}");
        let neighbours = Neighbours::new();
        let process = neighbours.bed.process_of(true, false);
        let device = HarnessDevice::open(&process).expect("opens");
        let provider = Provider::new(Arc::new(device));
        let outstanding = situation(&neighbours, &provider);
        process.exit();
        let ended = outstanding.request.status();
        assert!(
            [NtStatus::CANCELLED, NtStatus::CONNECTION_ABORTED, NtStatus::SUCCESS].contains(&ended),
            "{name}: {ended}"
        );
        drop((outstanding, provider, process));
        let other = neighbours.bed.open();
        eventually("no endpoint is left", || other.status().expect("status").endpoints == 0);
        assert_eq!(other.statistics().expect("statistics").pinned_bytes, 0, "{name}");
        drop(other);
        neighbours.bed.finish();
    }
}

/// A machine, a SAN address behind which nobody answers a TCP connect, and what keeps it so.
fn unanswered() -> (Bed, std::net::SocketAddr, impl Any) {
    let full = full_listener();
    let routes = vec!["127.0.0.1 127.0.0.1".into(), format!("10.77.0.3 127.0.0.1 port={}", full.1.port())];
    let bed = Bed::with(builder().parameter("sanwsk", "Routes", Value::List(routes)));
    (bed, "10.77.0.3:7".parse().expect("an address"), full)
}

#[test]
fn a_connect_that_tcp_does_not_answer_is_cancelled_closed_and_times_out() {
    let (bed, nobody, full) = unanswered();
    let provider = bed.open();
    let (cancelled, _) = bound(&provider);
    let connect = cancelled.start_connect(nobody, None).wait_for(MOMENT).expect_err("no answer");
    connect.cancel();
    assert_eq!(status(connect.wait()), NtStatus::CANCELLED);
    drop(cancelled);
    let (connector, _) = bound(&provider);
    let connect = connector.start_connect(nobody, None).wait_for(MOMENT).expect_err("no answer");
    connector.close().expect("closes");
    assert_eq!(status(connect.wait()), NtStatus::CANCELLED);
    let (connector, _) = bound(&provider);
    assert_eq!(status(connector.connect(nobody, Some(MOMENT))), NtStatus::IO_TIMEOUT);
    drop((connector, full, provider));
    bed.finish();
}

#[test]
fn a_connect_without_a_request_ends_with_its_endpoint() {
    let (bed, nobody, full) = unanswered();
    let provider = bed.open();
    let event = provider.create_event().expect("an event");
    let (connector, _) = bound(&provider);
    connector.event_select(Some(&*event), NetworkEvents::CONNECT).expect("selects");
    assert_eq!(status(connector.connect(nobody, None)), NtStatus::CANT_WAIT);
    connector.close().expect("closes");
    assert!(!event.is_set(), "nobody is there to ask what has happened");
    drop((event, full, provider));
    bed.finish();
}

#[test]
fn connections_that_wait_and_those_undecided_end_with_their_handle() {
    let neighbours = Neighbours::new();
    let device = Arc::new(HarnessDevice::open(&neighbours.bed.process).expect("opens"));
    let provider = Provider::new(device.clone());
    let (listener, address) = listening(&provider, 4);
    let peers: Vec<_> = (0..3)
        .map(|_| {
            let mut peer = WirePeer::connect(neighbours.native);
            peer.send(connect_request(address).as_bytes());
            peer
        })
        .collect();
    let undecided = listener.accept().expect("arrives");
    device.close();
    let other = neighbours.bed.open();
    eventually("no endpoint is left", || other.status().expect("status").endpoints == 0);
    drop((undecided, listener, peers, provider, device, other));
    neighbours.bed.finish();
}

#[test]
fn the_driver_unloads_while_a_peer_is_in_its_hand_shake() {
    let port = free_port();
    let limits = builder().parameter("sanwsk", "NativePort", Value::Number(port.into())).parameter(
        "sanwsk",
        "HandshakeTimeout",
        Value::Number(600_000),
    );
    let bed = Bed::with(limits);
    let provider = bed.open();
    let (listener, _) = listening(&provider, 1);
    let silent = WirePeer::connect(([127, 0, 0, 1], port).into());
    eventually("it has arrived", || provider.statistics().expect("statistics").handshakes == 1);
    drop((listener, provider));
    bed.finish();
    drop(silent);
}

#[test]
fn many_rounds_of_cancel_against_completion_lose_no_message_and_double_none() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = session(&provider, 1, 8);
    let Receiver { endpoint, region, mut receives, .. } = acceptor;
    let (mut sent, mut received) = (0_u32, 0_u32);
    let mut sends = Vec::new();
    for round in 0_u32..1000 {
        if round % 3 != 0 {
            sends.push(connector.endpoint.start_send(sent.to_le_bytes().to_vec()));
            sent += 1;
        }
        let receive = receives.pop().unwrap_or_else(|| endpoint.start_receive(&region, 0..8));
        receive.cancel();
        match receive.wait() {
            Ok(length) => {
                assert_eq!(region.read(0..length).expect("nobody uses it"), received.to_le_bytes());
                received += 1;
            }
            Err(error) if error.status() == NtStatus::CANCELLED => {}
            // A cancel that came amid a message has ended the connection.
            Err(error) => {
                assert_eq!(error.status(), NtStatus::CONNECTION_ABORTED);
                break;
            }
        }
    }
    assert!(received <= sent);
    drop((sends, endpoint, region, connector, provider));
    bed.finish();
}

#[test]
fn closing_one_of_two_sessions_leaves_the_other_alone() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (stays, mut other) = session(&provider, 1, 16);
    for (name, situation) in SITUATIONS {
        let outstanding = situation(&neighbours, &provider);
        close(&provider, outstanding.endpoint);
        drop(outstanding);
        stays.endpoint.send(b"still here").expect("sends");
        assert_eq!(other.next(0), b"still here", "{name}");
    }
    let (listener, address) = listening(&provider, 1);
    let (connector, acceptor) = super::support::connected_to(&provider, &listener, address);
    drop(negotiated(connector, acceptor, 1, 1));
    drop((listener, stays, other, provider));
    neighbours.bed.finish();
}
