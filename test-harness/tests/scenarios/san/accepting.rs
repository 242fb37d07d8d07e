//! Listening and accepting, row by row: backlog, event, accept, reject.

use super::support::{any, bed, bound, builder, connected, connected_to, free_port, listening, pause, quiet, request};
use crate::support::{Bed, MOMENT, PATIENCE, eventually, status};
use san_protocol::{ControlCode, DecideRequest, Header};
use san_proxy::{AddressFamily, Backlog, EventRecord, NetworkEvents, NtStatus, Provider, SanEndpoint, WsaError};
use std::net::TcpListener;
use test_harness::nt::registry::Value;
use zerocopy::IntoBytes;

#[track_caller]
fn wsa<T: std::fmt::Debug>(result: Result<T, san_proxy::Error>) -> WsaError {
    result.expect_err("it fails").wsa_error()
}

/// Connects without waiting for the answer.
fn connecting(
    provider: &Provider,
    address: std::net::SocketAddr,
) -> (SanEndpoint, san_proxy::Pending<Result<(), san_proxy::Error>>) {
    let (connector, _) = bound(provider);
    let connect = connector.start_connect(address, Some(PATIENCE));
    (connector, connect)
}

#[test]
fn listening_needs_a_bound_endpoint_and_happens_once() {
    let bed = bed();
    let provider = bed.open();
    let unbound = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(wsa(unbound.listen(Backlog(1))), WsaError::WSAEINVAL);
    assert_eq!(wsa(unbound.accept()), WsaError::WSAEINVAL);
    let (listener, _) = listening(&provider, 1);
    assert_eq!(wsa(listener.listen(Backlog(1))), WsaError::WSAEINVAL);
    let (connector, acceptor) = connected(&provider);
    assert_eq!(wsa(connector.listen(Backlog(1))), WsaError::WSAEISCONN);
    assert_eq!(wsa(acceptor.listen(Backlog(1))), WsaError::WSAEISCONN);
    drop((unbound, listener, connector, acceptor, provider));
    bed.finish();
}

#[test]
fn an_arrival_sets_the_event_and_accept_resets_it() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 4);
    let event = provider.device().create_event().expect("an event");
    listener.event_select(Some(&*event), NetworkEvents::ACCEPT).expect("selects");
    assert_eq!(wsa(listener.accept()), WsaError::WSAEWOULDBLOCK);
    assert!(!event.is_set());
    let (first, first_connect) = connecting(&provider, address);
    assert!(event.wait(PATIENCE), "somebody waits");
    let record = listener.enum_network_events().expect("events");
    assert_eq!((record.connect, record.accept), (None, Some(Ok(()))));
    assert!(!event.is_set(), "asking resets it");
    let undecided = listener.accept().expect("the one that waits");
    assert!(!event.is_set(), "nobody else waits");
    assert_eq!(listener.enum_network_events().expect("events"), EventRecord::NOTHING);
    let accepted = undecided.accept().expect("accepts");
    first_connect.wait().expect("connects");
    drop((first, accepted, listener, event, provider));
    bed.finish();
}

#[test]
fn while_more_connections_wait_the_event_is_set_again() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 4);
    let event = provider.device().create_event().expect("an event");
    listener.event_select(Some(&*event), NetworkEvents::ACCEPT).expect("selects");
    let peers: Vec<_> = (0..3).map(|_| connecting(&provider, address)).collect();
    let mut accepted = Vec::new();
    while accepted.len() < peers.len() {
        assert!(event.wait(PATIENCE), "somebody waits");
        match listener.accept() {
            Ok(undecided) => accepted.push(undecided.accept().expect("accepts")),
            Err(error) => assert_eq!(error.wsa_error(), WsaError::WSAEWOULDBLOCK),
        }
    }
    assert_eq!(wsa(listener.accept()), WsaError::WSAEWOULDBLOCK);
    assert!(!event.is_set());
    for (_, connect) in &peers {
        assert!(connect.status_within(PATIENCE).is_some_and(NtStatus::is_success));
    }
    drop((peers, accepted, listener, event, provider));
    bed.finish();
}

#[test]
fn selecting_late_reports_who_waits_already() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 4);
    let (peer, connect) = connecting(&provider, address);
    quiet(&provider);
    let event = provider.device().create_event().expect("an event");
    eventually("the event is set", || {
        listener.event_select(Some(&*event), NetworkEvents::ACCEPT).expect("selects");
        event.is_set()
    });
    listener.accept().expect("waits").reject().expect("rejects");
    assert_eq!(wsa(connect.wait()), WsaError::WSAECONNREFUSED);
    drop((peer, listener, event, provider));
    bed.finish();
}

#[test]
fn a_full_backlog_refuses_at_once_and_does_not_set_the_event() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 2);
    let event = provider.device().create_event().expect("an event");
    listener.event_select(Some(&*event), NetworkEvents::ACCEPT).expect("selects");
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let peer = connecting(&provider, address);
            assert!(event.wait(PATIENCE));
            listener.enum_network_events().expect("events");
            peer
        })
        .collect();
    for _ in 0..5 {
        let (connector, connect) = connecting(&provider, address);
        assert_eq!(wsa(connect.wait()), WsaError::WSAECONNREFUSED);
        assert!(!event.is_set(), "nobody new waits");
        drop(connector);
    }
    assert_eq!(provider.statistics().expect("statistics").refused_backlog, 5);
    for (peer, connect) in waiting {
        let accepted = listener.accept().expect("waits").accept().expect("accepts");
        connect.wait().expect("connects");
        drop((peer, accepted));
    }
    drop((listener, event, provider));
    bed.finish();
}

#[test]
fn a_rejected_peer_hears_it_and_the_undecided_endpoint_is_gone() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (connector, connect) = connecting(&provider, address);
    let undecided = listener.accept().expect("arrives");
    let connect = connect.wait_for(MOMENT).expect_err("nothing is decided, so the peer has heard nothing");
    let id = undecided.id();
    undecided.reject().expect("rejects");
    assert_eq!(wsa(connect.wait()), WsaError::WSAECONNREFUSED);
    let stale = SanEndpoint::from_endpoint(san_proxy::Endpoint::from_id(&provider, id));
    assert_eq!(wsa(stale.addresses()), WsaError::WSAENOTSOCK);
    let _ = stale.into_endpoint().into_id();
    drop((connector, listener, provider));
    bed.finish();
}

#[test]
fn an_undecided_connection_carries_nothing_and_is_decided_once() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (connector, connect) = connecting(&provider, address);
    let undecided = listener.accept().expect("arrives");
    let raw = SanEndpoint::from_endpoint(san_proxy::Endpoint::from_id(&provider, undecided.id()));
    assert_eq!(wsa(raw.negotiate(b"", 0)), WsaError::WSAENOTCONN);
    assert_eq!(wsa(raw.send(b"early")), WsaError::WSAENOTCONN);
    let _ = raw.into_endpoint().into_id();
    let accepted = undecided.accept().expect("accepts");
    connect.wait().expect("connects");
    for decision in [1, 2] {
        let again = DecideRequest { header: Header::new(0), endpoint: accepted.id(), decision, reserved: 0 };
        assert_eq!(request(&provider, ControlCode::Decide, again.as_bytes()), NtStatus::INVALID_PARAMETER);
    }
    drop((connector, accepted, listener, provider));
    bed.finish();
}

#[test]
fn a_peer_that_leaves_the_queue_gives_its_place_to_another() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (leaver, connect) = connecting(&provider, address);
    quiet(&provider);
    pause(|| leaver.close()).expect("closes");
    assert_eq!(wsa(connect.wait()), WsaError::WSA_OPERATION_ABORTED);
    let (stayer, connect) = eventually_queued(&provider, address);
    let accepted = listener.accept().expect("the one that stays").accept().expect("accepts");
    connect.wait().expect("connects");
    drop((stayer, accepted, listener, provider));
    bed.finish();
}

/// Connects again and again until the backlog has room.
fn eventually_queued(
    provider: &Provider,
    address: std::net::SocketAddr,
) -> (SanEndpoint, san_proxy::Pending<Result<(), san_proxy::Error>>) {
    loop {
        let (connector, connect) = connecting(provider, address);
        match connect.wait_for(MOMENT) {
            Ok(ended) => assert_eq!(wsa(ended), WsaError::WSAECONNREFUSED, "full"),
            Err(waiting) => return (connector, waiting),
        }
    }
}

#[test]
fn a_peer_that_leaves_before_the_decision_is_a_reset() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (leaver, connect) = connecting(&provider, address);
    let undecided = listener.accept().expect("arrives");
    leaver.close().expect("closes");
    assert_eq!(wsa(connect.wait()), WsaError::WSA_OPERATION_ABORTED);
    pause(|| ());
    assert_eq!(status(undecided.accept()), NtStatus::CONNECTION_RESET);
    drop((listener, provider));
    bed.finish();
}

#[test]
fn closing_a_listener_turns_those_away_who_wait() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 8);
    let peers: Vec<_> = (0..4).map(|_| connecting(&provider, address)).collect();
    quiet(&provider);
    pause(|| listener.close()).expect("closes");
    for (_, connect) in &peers {
        assert!(connect.status_within(PATIENCE).is_some_and(|status| !status.is_success()));
    }
    // The address is free again.
    let again = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(again.bind(address).expect("binds"), address);
    drop((peers, again, provider));
    bed.finish();
}

#[test]
fn a_listener_at_the_wildcard_gets_what_no_other_wants() {
    let bed = bed();
    let provider = bed.open();
    let listener = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    let address = listener.bind("0.0.0.0:4711".parse().expect("an address")).expect("binds");
    assert_eq!(address.port(), 4711);
    listener.listen(Backlog(2)).expect("listens");
    let (connector, acceptor) = connected_to(&provider, &listener, "127.0.0.1:4711".parse().expect("an address"));
    let local = acceptor.addresses().expect("addresses").local;
    assert_eq!(local, Some("127.0.0.1:4711".parse().expect("an address")));
    let other = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(wsa(other.bind("127.0.0.1:4711".parse().expect("an address"))), WsaError::WSAEADDRINUSE);
    drop((connector, acceptor, listener, other, provider));
    bed.finish();
}

#[test]
fn somaxconn_is_what_the_administrator_says() {
    let bed = Bed::with(builder().parameter("sanwsk", "MaxBacklog", Value::Number(3)));
    let provider = bed.open();
    let (listener, address) = listening(&provider, san_proxy::Backlog::MAXIMUM.0);
    let waiting: Vec<_> = (0..3).map(|_| eventually_queued(&provider, address)).collect();
    let (connector, connect) = connecting(&provider, address);
    assert_eq!(wsa(connect.wait()), WsaError::WSAECONNREFUSED);
    drop((connector, waiting, listener, provider));
    bed.finish();
}

#[test]
fn a_native_port_that_is_taken_fails_the_listen_and_the_next_one_tries_again() {
    let port = free_port();
    let taken = TcpListener::bind(("0.0.0.0", port)).expect("the native port");
    let bed = Bed::with(builder().parameter("sanwsk", "NativePort", Value::Number(port.into())));
    let provider = bed.open();
    let (endpoint, _) = bound(&provider);
    assert_eq!(wsa(endpoint.listen(Backlog(1))), WsaError::WSAEADDRINUSE);
    drop(taken);
    endpoint.listen(Backlog(1)).expect("the port is free now");
    drop((endpoint, provider));
    bed.finish();
}

#[test]
fn endpoints_of_a_handle_and_of_all_handles_have_their_limits() {
    let limits = builder().parameter("sanwsk", "MaxEndpointsPerHandle", Value::Number(2)).parameter(
        "sanwsk",
        "MaxEndpoints",
        Value::Number(3),
    );
    let bed = Bed::with(limits);
    let (first, second) = (bed.open(), bed.open());
    let create = |provider: &Provider| SanEndpoint::create(provider, AddressFamily::INET);
    let held = [create(&first).expect("one"), create(&first).expect("two")];
    assert_eq!(wsa(create(&first)), WsaError::WSAEMFILE);
    let third = create(&second).expect("three in all");
    assert_eq!(wsa(create(&second)), WsaError::WSAEMFILE);
    drop(held);
    third.bind(any()).expect("nothing was lost");
    let fourth = create(&second).expect("there is room again");
    drop((third, fourth, first, second));
    bed.finish();
}
