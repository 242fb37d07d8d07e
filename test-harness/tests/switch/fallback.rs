//! Which failures of the SAN leave TCP/IP a chance, shown with a TCP listener that would answer.

use crate::bed::{Witness, bed, builder, config, free_port, switch};
use crate::support::{Bed, PATIENCE};
use san_protocol::wire::{CONNECT_REQUEST_SIZE, ControlMessage, HEADER_SIZE, RejectReason};
use san_proxy::{
    AddressFamily, Backlog, Error, NetworkEvents, Prefix, Provider, SanEndpoint, SanStream, Subnet, Switch,
    SwitchConfig, WsaError,
};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use test_harness::Machine;
use test_harness::nt::registry::Value;

/// The peer's SAN address; its native one is 127.0.0.1.
const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The SAN has this long to connect.
const SHORT: Duration = Duration::from_millis(300);

/// What a connect came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// TCP/IP was tried, after the SAN had failed so.
    Tcp(WsaError),
    /// It failed so, and TCP/IP was not tried.
    Certain(WsaError),
}

fn san_error(error: &io::Error) -> WsaError {
    let inner = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    inner.unwrap_or_else(|| panic!("not of the SAN: {error}")).wsa_error()
}

fn outcome(connected: &io::Result<SanStream>, witness: &Witness) -> Outcome {
    let outcome = match connected {
        Ok(stream) => {
            assert!(!stream.is_san());
            Outcome::Tcp(stream.san_failure().expect("the SAN was tried").wsa_error())
        }
        Err(error) => Outcome::Certain(san_error(error)),
    };
    assert_eq!(witness.was_asked(), matches!(outcome, Outcome::Tcp(_)), "{outcome:?}");
    outcome
}

/// A machine whose peer has this native port.
fn machine(route: &str, port: u16) -> Machine {
    let route = format!("{PEER}/32 127.0.0.1/32 port={port} {route}");
    builder().parameter("sanwsk", "Routes", Value::List(vec![route, "127.0.0.1/32 127.0.0.1/32".into()])).build()
}

/// Connects to [`PEER`], where a TCP listener is there to answer.
fn connect(machine: Machine) -> Outcome {
    let bed = Bed::on(machine);
    bed.wait_for_provider();
    let switch = switch(&bed, SwitchConfig { connect_timeout: SHORT, ..config() });
    let witness = Witness::at(PEER);
    let outcome = outcome(&switch.connect(witness.address), &witness);
    let status = switch.provider().expect("there is one").status().expect("status");
    assert_eq!(status.endpoints, 0, "the SAN socket is closed");
    drop(switch);
    bed.finish();
    outcome
}

/// Connects to a peer that reads the connect request and then answers so.
fn connect_to(route: &str, answer: impl FnOnce(TcpStream) + Send + 'static) -> Outcome {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let peer = thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("a connection");
        peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        peer.read_exact(&mut [0; HEADER_SIZE + CONNECT_REQUEST_SIZE]).expect("a connect request");
        answer(peer);
    });
    let outcome = connect(machine(route, port));
    peer.join().expect("the peer");
    outcome
}

#[test]
fn after_a_rejection_tcp_is_tried_unless_it_is_certain_to_fail() {
    use Outcome::{Certain, Tcp};
    for (reason, by_tcp_too, san_only) in [
        (RejectReason::NobodyListens, Tcp(WsaError::WSAETIMEDOUT), Certain(WsaError::WSAECONNRESET)),
        (RejectReason::NoSuchAddress, Tcp(WsaError::WSAETIMEDOUT), Certain(WsaError::WSAEHOSTUNREACH)),
        (RejectReason::BacklogFull, Certain(WsaError::WSAECONNREFUSED), Certain(WsaError::WSAECONNREFUSED)),
        (RejectReason::Refused, Certain(WsaError::WSAECONNREFUSED), Certain(WsaError::WSAECONNREFUSED)),
        (RejectReason::Busy, Tcp(WsaError::WSAETIMEDOUT), Tcp(WsaError::WSAETIMEDOUT)),
        (RejectReason::Version, Tcp(WsaError::WSAETIMEDOUT), Tcp(WsaError::WSAETIMEDOUT)),
    ] {
        for (route, expected) in [("tcp", by_tcp_too), ("san-only", san_only)] {
            let reject = move |mut peer: TcpStream| {
                peer.write_all(ControlMessage::reject(reason).as_bytes()).expect("sends");
                // Until the connector has ended its side.
                let _ = peer.read(&mut [0]);
            };
            assert_eq!(connect_to(route, reject), expected, "{reason:?}, {route}");
        }
    }
}

#[test]
fn after_a_doubtful_failure_tcp_is_tried() {
    type Answer = fn(TcpStream);
    let answers: [(&str, Answer); 4] = [
        ("an end", drop),
        ("a reset", |peer| crate::support::reset_on_close(&peer)),
        ("nonsense", |mut peer| peer.write_all(&[0xA5; 100]).expect("sends")),
        ("silence", |mut peer| drop(peer.read(&mut [0]))),
    ];
    for (what, answer) in answers {
        for route in ["tcp", "san-only"] {
            assert_eq!(connect_to(route, answer), Outcome::Tcp(WsaError::WSAETIMEDOUT), "{what}, {route}");
        }
    }
}

#[test]
fn where_no_native_listener_is_the_route_says_what_that_proves() {
    assert_eq!(connect(machine("tcp", free_port())), Outcome::Tcp(WsaError::WSAETIMEDOUT));
    assert_eq!(connect(machine("san-only", free_port())), Outcome::Certain(WsaError::WSAECONNRESET));
}

#[test]
fn without_a_route_tcp_is_tried() {
    let routes = Value::List(vec!["127.0.0.1/32 127.0.0.1/32 san-only".into()]);
    let machine = builder().parameter("sanwsk", "Routes", routes).build();
    assert_eq!(connect(machine), Outcome::Tcp(WsaError::WSAENETUNREACH));
}

#[test]
fn where_no_san_socket_can_be_made_or_bound_tcp_is_tried() {
    let bed = Bed::with(builder().parameter("sanwsk", "MaxEndpointsPerHandle", Value::Number(1)));
    let prefix: Prefix = "127.0.0.0/8".parse().expect("a prefix");
    let not_ours = Subnet { prefix, local: Some([192, 0, 2, 1].into()) };
    let provider = bed.open();
    let witness = Witness::at(PEER);

    let unbindable = Switch::new(Some(provider.clone()), SwitchConfig::default().with_subnet(not_ours));
    let unbound = outcome(&unbindable.connect(witness.address), &witness);
    assert_eq!(unbound, Outcome::Tcp(WsaError::WSAEADDRNOTAVAIL));

    let held = SanEndpoint::create(&provider, AddressFamily::INET).expect("the only one");
    let switch = Switch::new(Some(provider), config());
    assert_eq!(outcome(&switch.connect(witness.address), &witness), Outcome::Tcp(WsaError::WSAEMFILE));
    drop((unbindable, switch, held));
    bed.finish();
}

#[test]
fn a_backlog_that_is_full_refuses_and_tcp_is_not_tried() {
    let bed = bed();
    let switch = switch(&bed, config());
    let witness = Witness::at(Ipv4Addr::LOCALHOST);
    let provider = switch.provider().expect("there is one");
    let listener = san_listener(provider, &witness);
    let arrival = provider.create_event().expect("an event");
    listener.event_select(Some(&*arrival), NetworkEvents::ACCEPT).expect("selects");
    let first = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
    first.bind(([127, 0, 0, 1], 0).into()).expect("binds");
    let waiting = first.start_connect(witness.address, Some(PATIENCE));
    assert!(arrival.wait(PATIENCE), "it has the only place");
    let refused = outcome(&switch.connect(witness.address), &witness);
    assert_eq!(refused, Outcome::Certain(WsaError::WSAECONNREFUSED));
    drop((waiting, first, listener, arrival, switch));
    bed.finish();
}

/// Listens where the TCP listener does: the SAN has ports of its own.
fn san_listener(provider: &Provider, witness: &Witness) -> SanEndpoint {
    let listener = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
    listener.bind(witness.address).expect("binds");
    listener.listen(Backlog(1)).expect("listens");
    listener
}

#[test]
fn once_connected_there_is_no_way_back() {
    let bed = bed();
    let switch = switch(&bed, SwitchConfig { negotiate_timeout: SHORT, ..config() });
    let witness = Witness::at(Ipv4Addr::LOCALHOST);
    let listener = san_listener(switch.provider().expect("there is one"), &witness);
    thread::scope(|scope| {
        let connecting = scope.spawn(|| switch.connect(witness.address));
        let silent = listener.accept().expect("arrives").accept().expect("accepts");
        let failed = connecting.join().expect("does not panic").expect_err("nobody negotiates");
        assert_eq!(san_error(&failed), WsaError::WSAETIMEDOUT);
        assert!(!witness.was_asked(), "its session failed, but the SAN connection stood");
        drop(silent);
    });
    drop((listener, switch));
    bed.finish();
}

#[test]
fn targets_outside_the_subnets_go_by_tcp_without_asking_the_san() {
    let bed = bed();
    let only: Prefix = "127.0.0.2/32".parse().expect("a prefix");
    let switch = switch(&bed, SwitchConfig::default().with_subnet(only));
    let witness = Witness::at(Ipv4Addr::LOCALHOST);
    let stream = switch.connect(witness.address).expect("connects");
    assert!(!stream.is_san() && stream.san_failure().is_none() && witness.was_asked());
    let statistics = switch.provider().expect("there is one").statistics().expect("statistics");
    assert_eq!(statistics.connects + statistics.connect_failures, 0);
    drop((stream, switch));
    bed.finish();
}

#[test]
fn without_a_driver_everything_goes_by_tcp() {
    let machine = Machine::new();
    let process = std::sync::Arc::new(machine.process());
    let missing = test_harness::device::HarnessDevice::open(&process).err().expect("there is no driver");
    assert_eq!(missing.wsa_error(), WsaError::WSAENETDOWN);
    let switch = Switch::new(None, config());
    let listener = switch.bind("127.0.0.1:0").expect("listens");
    assert!(!listener.is_san() && listener.san_failure().is_none());
    let mut client = switch.connect(listener.local_addr().expect("its address")).expect("connects");
    let (mut server, _) = listener.accept().expect("accepts");
    assert!(!client.is_san() && !server.is_san());
    client.write_all(b"by TCP").expect("writes");
    drop(client);
    let mut heard = String::new();
    server.read_to_string(&mut heard).expect("reads");
    assert_eq!(heard, "by TCP");
}
