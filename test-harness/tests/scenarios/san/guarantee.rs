//! The guarantee: three errors say that TCP/IP is certain to fail too, and come out only where it is.

use super::support::{bound, builder, free_port};
use crate::broken_network::Broken;
use crate::support::{Bed, PATIENCE, accept_in_time, image};
use san_protocol::wire::{CONNECT_REQUEST_SIZE, ControlMessage, HEADER_SIZE, RejectReason};
use san_proxy::WsaError;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;
use test_harness::network::NetworkError;
use test_harness::nt::registry::Value;

/// After these the switch does not try TCP/IP.
const CERTAIN: [WsaError; 3] = [WsaError::WSAECONNRESET, WsaError::WSAECONNREFUSED, WsaError::WSAEHOSTUNREACH];

/// Whether TCP/IP can reach the addresses of a route too.
const ROUTES: [&str; 2] = ["tcp", "san-only"];

/// What a failed connect completes with, for each of [`ROUTES`].
type Expected = [WsaError; 2];

/// A machine whose peers have this native port.
fn machine(route: &str, peers: u16) -> test_harness::Machine {
    let route = format!("127.0.0.2/32 127.0.0.1/32 port={peers} {route}");
    builder().parameter("sanwsk", "Routes", Value::List(vec![route, "127.0.0.1/32 127.0.0.1/32".into()])).build()
}

/// Connects to a peer of that machine, which fails.
fn failure(machine: test_harness::Machine) -> WsaError {
    let bed = Bed::on(machine);
    bed.wait_for_provider();
    let provider = bed.open();
    let (connector, _) = bound(&provider);
    let peer = SocketAddr::from(([127, 0, 0, 2], 7));
    // Each of these failures is told, or seen, long before the time is over.
    let begun = Instant::now();
    let error = connector.connect(peer, Some(PATIENCE)).expect_err("it fails").wsa_error();
    assert!(begun.elapsed() < PATIENCE, "{error:?} is for want of an answer");
    // Whatever the error, nothing is connected, and the endpoint is there to be closed alone.
    assert_eq!(connector.send(b"x").expect_err("not connected").wsa_error(), error);
    drop((connector, provider));
    bed.finish();
    error
}

#[test]
fn what_the_native_network_fails_with_is_certain_only_where_tcp_cannot_reach() {
    let table: [(NetworkError, Expected); 7] = [
        (NetworkError::Refused, [WsaError::WSAETIMEDOUT, WsaError::WSAECONNRESET]),
        (NetworkError::HostUnreachable, [WsaError::WSAETIMEDOUT, WsaError::WSAEHOSTUNREACH]),
        (NetworkError::NetworkUnreachable, [WsaError::WSAENETUNREACH; 2]),
        (NetworkError::TimedOut, [WsaError::WSAETIMEDOUT; 2]),
        (NetworkError::Reset, [WsaError::WSAETIMEDOUT; 2]),
        (NetworkError::NoBuffers, [WsaError::WSAENOBUFS; 2]),
        (NetworkError::AccessDenied, [WsaError::WSAETIMEDOUT; 2]),
    ];
    for (failed, expected) in table {
        for (route, expected) in ROUTES.into_iter().zip(expected) {
            let machine = machine(route, 9);
            assert!(machine.network().attach(Broken::new(failed)));
            assert_eq!(failure(machine), expected, "{failed:?}, {route}");
            assert!(route == "san-only" || !CERTAIN.contains(&expected), "{failed:?} proves nothing");
        }
    }
}

/// Takes one connection, reads its connect request, and answers so.
fn answer(listener: TcpListener, answer: impl FnOnce(TcpStream) + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut peer = accept_in_time(&listener);
        peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        peer.read_exact(&mut [0; HEADER_SIZE + CONNECT_REQUEST_SIZE]).expect("a connect request");
        answer(peer);
    })
}

/// The error of a connect whose peer answers so.
fn answered(route: &str, with: impl FnOnce(TcpStream) + Send + 'static) -> WsaError {
    let listener = TcpListener::bind(("127.0.0.1", free_port())).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    // The peer does not wait while the driver is being built.
    image();
    let peer = answer(listener, with);
    let error = failure(machine(route, port));
    peer.join().expect("the peer");
    error
}

#[test]
fn what_a_peer_says_is_certain_where_it_is_and_where_tcp_cannot_reach() {
    let table: [(RejectReason, Expected); 6] = [
        (RejectReason::NobodyListens, [WsaError::WSAETIMEDOUT, WsaError::WSAECONNRESET]),
        (RejectReason::NoSuchAddress, [WsaError::WSAETIMEDOUT, WsaError::WSAEHOSTUNREACH]),
        // The application, or its backlog, says no, as it would by TCP/IP.
        (RejectReason::BacklogFull, [WsaError::WSAECONNREFUSED; 2]),
        (RejectReason::Refused, [WsaError::WSAECONNREFUSED; 2]),
        (RejectReason::Busy, [WsaError::WSAETIMEDOUT; 2]),
        (RejectReason::Version, [WsaError::WSAETIMEDOUT; 2]),
    ];
    for (reason, expected) in table {
        for (route, expected) in ROUTES.into_iter().zip(expected) {
            let reject = move |mut peer: TcpStream| {
                let message = ControlMessage::reject(reason);
                peer.write_all(message.as_bytes()).expect("sends");
                // Until the connector has ended its side.
                let _ = peer.read(&mut [0]);
            };
            assert_eq!(answered(route, reject), expected, "{reason:?}, {route}");
        }
    }
}

#[test]
fn a_peer_that_vanishes_or_talks_nonsense_proves_nothing() {
    type Answer = fn(TcpStream);
    let answers: [(&str, Answer); 5] = [
        ("an end", drop),
        ("a reset", |peer| crate::support::reset_on_close(&peer)),
        ("nonsense", |mut peer| peer.write_all(&[0xA5; 100]).expect("sends")),
        ("half a header", |mut peer| peer.write_all(&ControlMessage::accept().as_bytes()[..7]).expect("sends")),
        ("data", |mut peer| peer.write_all(ControlMessage::goodbye().as_bytes()).expect("sends")),
    ];
    for (what, with) in answers {
        for route in ROUTES {
            assert_eq!(answered(route, with), WsaError::WSAETIMEDOUT, "{what}, {route}");
        }
    }
}

#[test]
fn no_route_is_no_proof() {
    for route in ROUTES {
        let bed = Bed::on(machine(route, 9));
        bed.wait_for_provider();
        let provider = bed.open();
        let (connector, _) = bound(&provider);
        let unmapped = SocketAddr::from(([127, 0, 0, 3], 7));
        let error = connector.connect(unmapped, None).expect_err("no route").wsa_error();
        assert_eq!(error, WsaError::WSAENETUNREACH);
        drop((connector, provider));
        bed.finish();
    }
}
