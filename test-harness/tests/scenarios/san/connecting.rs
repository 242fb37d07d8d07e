//! Connecting, row by row: event select, connect, network events, failures and what they prove.

use super::support::{any, bed, bound, builder, connected, free_port, listening, pause, quiet, session};
use crate::support::{Bed, MOMENT, PATIENCE, eventually, status};
use san_proxy::{AddressFamily, Backlog, EventRecord, NetworkEvents, NtStatus, SanEndpoint, WsaError};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use test_harness::nt::registry::Value;

/// The Winsock error of a failed operation.
#[track_caller]
fn wsa<T: std::fmt::Debug>(result: Result<T, san_proxy::Error>) -> WsaError {
    result.expect_err("it fails").wsa_error()
}

#[test]
fn a_session_carries_messages_both_ways() {
    let bed = bed();
    let (mut connector, mut acceptor) = session(&bed.open(), 2, 64);
    for round in 0..10_u8 {
        let at = usize::from(round) % 2;
        connector.endpoint.send(&[round; 17]).expect("sends");
        assert_eq!(acceptor.next(at), [round; 17]);
        acceptor.endpoint.send(&[round; 64]).expect("sends");
        assert_eq!(connector.next(at), [round; 64]);
    }
    drop((connector, acceptor));
    bed.finish();
}

#[test]
fn a_session_over_ipv6_carries_messages() {
    let bed = bed();
    let provider = bed.open();
    let listener = SanEndpoint::create(&provider, AddressFamily::INET6).expect("an endpoint");
    let address = listener.bind("[::1]:0".parse().expect("an address")).expect("binds");
    listener.listen(Backlog(1)).expect("listens");
    let connector = SanEndpoint::create(&provider, AddressFamily::INET6).expect("an endpoint");
    connector.bind("[::1]:0".parse().expect("an address")).expect("binds");
    let connect = connector.start_connect(address, Some(PATIENCE));
    let acceptor = listener.accept().expect("arrives").accept().expect("accepts");
    connect.wait().expect("connects");
    let (connector, mut acceptor) = super::support::negotiated(connector, acceptor, 1, 64);
    connector.endpoint.send(b"six").expect("sends");
    assert_eq!(acceptor.next(0), b"six");
    drop((listener, connector, acceptor, provider));
    bed.finish();
}

#[test]
fn both_ends_know_both_san_addresses() {
    let bed = bed();
    let provider = bed.open();
    let (listener, target) = listening(&provider, 1);
    let (connector, source) = bound(&provider);
    let connect = connector.start_connect(target, Some(PATIENCE));
    let undecided = listener.accept().expect("arrives");
    assert_eq!((undecided.local(), undecided.peer()), (target, source));
    let acceptor = undecided.accept().expect("accepts");
    connect.wait().expect("connects");
    let own = connector.addresses().expect("addresses");
    assert_eq!((own.local, own.peer), (Some(source), Some(target)));
    let own = acceptor.addresses().expect("addresses");
    assert_eq!((own.local, own.peer), (Some(target), Some(source)));
    drop((listener, connector, acceptor, provider));
    bed.finish();
}

#[test]
fn with_an_event_selected_a_connect_would_block_and_the_event_tells_how_it_ended() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    let event = provider.device().create_event().expect("an event");
    connector.event_select(Some(&*event), NetworkEvents::CONNECT).expect("selects");
    assert_eq!(wsa(connector.connect(address, Some(PATIENCE))), WsaError::WSAEWOULDBLOCK);
    assert!(!event.wait(MOMENT), "nobody has accepted yet");
    assert_eq!(connector.enum_network_events().expect("events"), EventRecord::NOTHING);
    let acceptor = listener.accept().expect("arrives").accept().expect("accepts");
    assert!(event.wait(PATIENCE), "connected");
    let record = connector.enum_network_events().expect("events");
    assert_eq!((record.connect, record.accept), (Some(Ok(())), None));
    assert!(!event.is_set(), "and the event is reset");
    assert_eq!(connector.enum_network_events().expect("events"), EventRecord::NOTHING);
    drop((listener, connector, acceptor, event, provider));
    bed.finish();
}

#[test]
fn a_failed_connect_is_reported_by_the_event_with_its_error() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    let event = provider.device().create_event().expect("an event");
    connector.event_select(Some(&*event), NetworkEvents::CONNECT).expect("selects");
    assert_eq!(status(connector.connect(address, Some(PATIENCE))), NtStatus::CANT_WAIT);
    listener.accept().expect("arrives").reject().expect("rejects");
    assert!(event.wait(PATIENCE));
    let record = connector.enum_network_events().expect("events");
    assert_eq!(wsa(record.connect.expect("a connect has ended")), WsaError::WSAECONNREFUSED);
    drop((listener, connector, event, provider));
    bed.finish();
}

#[test]
fn only_connect_and_accept_are_network_events_and_only_an_event_object_is_one() {
    let bed = bed();
    let provider = bed.open();
    let (endpoint, _) = bound(&provider);
    let event = provider.device().create_event().expect("an event");
    for mask in [1, 2, 0x20, 0x11, u32::MAX] {
        let selected = endpoint.event_select(Some(&*event), NetworkEvents(mask));
        assert_eq!(wsa(selected), WsaError::WSAEINVAL, "{mask:#x}");
    }
    assert_eq!(wsa(endpoint.event_select(None, NetworkEvents::CONNECT)), WsaError::WSAEINVAL);
    assert_eq!(wsa(endpoint.event_select(Some(&*event), NetworkEvents::NONE)), WsaError::WSAEINVAL);
    endpoint.event_select(None, NetworkEvents::NONE).expect("nothing selected is taken back");
    drop((endpoint, event, provider));
    bed.finish();
}

#[test]
fn a_second_connect_is_refused_while_the_first_is_under_way_and_after_it() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    let connect = connector.start_connect(address, Some(PATIENCE));
    assert_eq!(wsa(connector.connect(address, None)), WsaError::WSAEALREADY);
    let acceptor = listener.accept().expect("arrives").accept().expect("accepts");
    connect.wait().expect("connects");
    assert_eq!(wsa(connector.connect(address, None)), WsaError::WSAEISCONN);
    assert_eq!(wsa(connector.listen(Backlog(1))), WsaError::WSAEISCONN);
    assert_eq!(wsa(acceptor.connect(address, None)), WsaError::WSAEISCONN);
    drop((listener, connector, acceptor, provider));
    bed.finish();
}

#[test]
fn what_cannot_connect_says_why() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let unbound = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(wsa(unbound.connect(address, None)), WsaError::WSAEINVAL);
    let wildcard = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    wildcard.bind("0.0.0.0:0".parse().expect("an address")).expect("binds to listen");
    assert_eq!(wsa(wildcard.connect(address, None)), WsaError::WSAEADDRNOTAVAIL);
    assert_eq!(wsa(listener.connect(address, None)), WsaError::WSAEINVAL);
    let (endpoint, own) = bound(&provider);
    assert_eq!(wsa(endpoint.bind(any())), WsaError::WSAEINVAL, "bound already");
    assert_eq!(wsa(endpoint.connect("[::1]:1".parse().expect("an address"), None)), WsaError::WSAEINVAL);
    assert_eq!(wsa(endpoint.connect("127.0.0.1:0".parse().expect("an address"), None)), WsaError::WSAEADDRNOTAVAIL);
    let other = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(wsa(other.bind(own)), WsaError::WSAEADDRINUSE);
    assert_eq!(wsa(other.bind("192.0.2.1:80".parse().expect("an address"))), WsaError::WSAEADDRNOTAVAIL);
    other.bind(any()).expect("a bind that failed is no bind");
    drop((listener, unbound, wildcard, endpoint, other, provider));
    bed.finish();
}

/// A machine whose addresses are reached through the SAN alone.
fn san_only_bed() -> Bed {
    let port = free_port();
    let route = format!("127.0.0.0/8 127.0.0.0/8 port={port} san-only");
    let builder = builder().parameter("sanwsk", "NativePort", Value::Number(port.into())).parameter(
        "sanwsk",
        "Routes",
        Value::List(vec![route]),
    );
    Bed::with(builder)
}

#[test]
fn nobody_listening_is_certain_where_tcp_cannot_reach_and_doubtful_elsewhere() {
    for (bed, expected) in [(san_only_bed(), WsaError::WSAECONNRESET), (bed(), WsaError::WSAETIMEDOUT)] {
        let provider = bed.open();
        let failure = |target| {
            let (connector, _) = bound(&provider);
            wsa(connector.connect(target, Some(PATIENCE)))
        };
        let (bound, own) = bound(&provider);
        let nobody = SocketAddr::new(own.ip(), 7);
        assert_eq!(failure(nobody), expected, "there is no native listener yet: TCP refuses");
        let (listener, _) = listening(&provider, 1);
        assert_eq!(failure(nobody), expected, "nobody has that SAN port");
        assert_eq!(failure(own), expected, "somebody has it, and does not listen");
        drop((bound, listener));
        quiet(&provider);
        drop(provider);
        bed.finish();
    }
}

#[test]
fn an_address_without_a_route_is_unreachable_and_proves_nothing() {
    let bed = san_only_bed();
    let provider = bed.open();
    let (connector, _) = bound(&provider);
    let elsewhere = "10.1.2.3:80".parse().expect("an address");
    assert_eq!(wsa(connector.connect(elsewhere, Some(PATIENCE))), WsaError::WSAENETUNREACH);
    let unmapped = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(wsa(unmapped.bind("10.1.2.3:80".parse().expect("an address"))), WsaError::WSAEADDRNOTAVAIL);
    drop((connector, unmapped, provider));
    bed.finish();
}

#[test]
fn a_peer_that_never_answers_times_out() {
    let port = free_port();
    let silent = TcpListener::bind(("127.0.0.1", port)).expect("the native port");
    let bed = Bed::with(builder().parameter("sanwsk", "NativePort", Value::Number(port.into())));
    let provider = bed.open();
    let (connector, own) = bound(&provider);
    let target = SocketAddr::new(own.ip(), 7);
    let connect = connector.start_connect(target, Some(Duration::from_millis(200)));
    let (_peer, _) = silent.accept().expect("a connection");
    assert_eq!(wsa(connect.wait()), WsaError::WSAETIMEDOUT);
    drop((connector, provider));
    bed.finish();
}

#[test]
fn a_connect_that_names_no_time_has_the_administrators() {
    let port = free_port();
    let silent = TcpListener::bind(("127.0.0.1", port)).expect("the native port");
    let parameters = builder().parameter("sanwsk", "NativePort", Value::Number(port.into())).parameter(
        "sanwsk",
        "ConnectTimeout",
        Value::Number(100),
    );
    let bed = Bed::with(parameters);
    let provider = bed.open();
    let (connector, own) = bound(&provider);
    let connect = connector.start_connect(SocketAddr::new(own.ip(), 7), None);
    let (_peer, _) = silent.accept().expect("a connection");
    assert_eq!(wsa(connect.wait()), WsaError::WSAETIMEDOUT);
    drop((connector, provider));
    bed.finish();
}

#[test]
fn once_connected_the_end_of_the_san_connection_is_the_end() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = connected(&provider);
    drop(acceptor);
    eventually("the end is seen", || {
        let error = connector.negotiate(b"", 0).expect_err("there is no connection").wsa_error();
        error == WsaError::WSAECONNRESET
    });
    // The endpoint does not connect again, by whichever way.
    assert_eq!(wsa(connector.connect(any_port(), None)), WsaError::WSAECONNRESET);
    drop((connector, provider));
    bed.finish();
}

fn any_port() -> SocketAddr {
    "127.0.0.1:9".parse().expect("an address")
}

#[test]
fn closing_a_connecting_endpoint_ends_the_connect_promptly() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    let connect = connector.start_connect(address, None);
    let connect = connect.wait_for(MOMENT).expect_err("nobody accepts");
    let started = std::time::Instant::now();
    connector.close().expect("closes");
    assert_eq!(wsa(connect.wait()), WsaError::WSA_OPERATION_ABORTED);
    assert!(started.elapsed() < PATIENCE, "without waiting for the connect's time");
    // The backlog has its place back.
    let (connector, _) = bound(&provider);
    let connect = pause(|| connector.start_connect(address, Some(PATIENCE)));
    let acceptor = loop {
        match listener.accept().expect("arrives").accept() {
            Ok(acceptor) => break acceptor,
            Err(gone) => assert_eq!(gone.status(), NtStatus::CONNECTION_RESET),
        }
    };
    connect.wait().expect("connects");
    drop((listener, connector, acceptor, provider));
    bed.finish();
}
