//! Peers that break the protocol in the hand-shake, or fall silent in it, on either side.

use super::malformed::{OFFER, broken, impatient, malformed_headers, malformed_requests, of_version};
use super::support::{Bystander, bound, listening, outcome, quiet};
use super::wire_peer::{FOREIGN, Neighbours, WirePeer, connect_request, header};
use crate::support::{MOMENT, PATIENCE, eventually, status};
use san_protocol::wire::{ConnectRequest, ControlMessage, MessageType, RejectReason};
use san_protocol::{DeviceStatistics, NtStatus, WsaError};
use san_proxy::{NetworkEvents, Provider};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use test_harness::nt::registry::Value;

fn statistics(provider: &Provider) -> DeviceStatistics {
    provider.statistics().expect("statistics")
}

#[test]
fn a_peer_that_begins_otherwise_than_with_a_request_is_disconnected() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    let (listener, address) = listening(&provider, 1);
    let mut all = malformed_headers();
    all.extend(malformed_requests(address));
    all.extend([
        broken("Accept", ControlMessage::accept().as_bytes()),
        broken("Reject", ControlMessage::reject(RejectReason::Refused).as_bytes()),
        broken("Session", ControlMessage::session(&OFFER, 1).expect("a message").as_bytes()),
        broken("Data", header(MessageType::Data, 0, 0)),
        broken("Credit", ControlMessage::credit(1).as_bytes()),
        broken("Goodbye", ControlMessage::goodbye().as_bytes()),
    ]);
    let before = statistics(&provider).protocol_violations;
    for (at, (what, bytes)) in all.iter().enumerate() {
        let mut peer = WirePeer::connect(neighbours.native);
        peer.send(bytes);
        assert_eq!(peer.rest(), b"", "{what}: nothing is answered");
        assert_eq!(statistics(&provider).protocol_violations, before + at as u64 + 1, "{what}");
        bystander.goes_on();
    }
    quiet(&provider);
    let accept = listener.start_accept();
    let mut peer = WirePeer::connect(neighbours.native);
    peer.send_byte_by_byte(connect_request(address).as_bytes());
    let acceptor = outcome(accept).expect("an honest one arrives").accept().expect("accepts");
    peer.expect(MessageType::Accept);
    drop((listener, acceptor, bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn a_peer_of_another_version_is_told_so() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (listener, _) = listening(&provider, 1);
    let before = statistics(&provider);
    for version in [0, 2, 0xFF] {
        let mut peer = WirePeer::connect(neighbours.native);
        peer.send(&of_version(version));
        assert_eq!(peer.expect_reject(), RejectReason::Version);
        assert_eq!(peer.rest(), b"");
    }
    quiet(&provider);
    let after = statistics(&provider);
    assert_eq!(after.protocol_violations, before.protocol_violations);
    assert_eq!(after.handshakes_refused, before.handshakes_refused + 3);
    drop((listener, provider));
    neighbours.bed.finish();
}

/// The disconnect took the IRP of an option that was still being set on the socket, where that took long: one run in several found it.
#[test]
fn a_refusal_waits_until_the_sockets_option_is_set() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (listener, _) = listening(&provider, 1);
    let machine = &neighbours.bed.machine;
    let refused = || {
        let mut peer = WirePeer::connect(neighbours.native);
        peer.send(&of_version(2));
        assert_eq!(peer.expect_reject(), RejectReason::Version);
        assert_eq!(peer.rest(), b"");
    };
    // Whichever thread makes a call is off the processor for a while, and with it the completion that it is about to bring: in the
    // middle of some hundred calls, that of the option.
    for call in 0..4 * 100 {
        machine.preempt(call / 4);
        refused();
    }
    machine.go_on();
    quiet(&provider);
    drop((listener, provider));
    neighbours.bed.finish();
}

#[test]
fn a_peer_may_ask_only_for_what_is_here_and_as_who_it_is() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (listener, address) = listening(&provider, 1);
    let before = statistics(&provider);
    let here = |last: u8, port| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
    let foreign = |last: u8| SocketAddr::from((Ipv4Addr::new(10, 77, 0, last), 7));
    let mut refused = 0;
    for (source, target, reason) in [
        (foreign(1), address, RejectReason::NoSuchAddress),
        (foreign(3), address, RejectReason::NoSuchAddress),
        (here(1, 7), address, RejectReason::NoSuchAddress),
        (here(2, 7), address, RejectReason::NoSuchAddress),
        (address, address, RejectReason::NoSuchAddress),
        (FOREIGN, here(2, address.port()), RejectReason::NoSuchAddress),
        (FOREIGN, here(3, address.port()), RejectReason::NoSuchAddress),
        (FOREIGN, foreign(2), RejectReason::NoSuchAddress),
        (FOREIGN, "192.0.2.1:7".parse().expect("an address"), RejectReason::NoSuchAddress),
        (FOREIGN, here(1, address.port() ^ 1), RejectReason::NobodyListens),
    ] {
        let mut peer = WirePeer::connect(neighbours.native);
        peer.send(ControlMessage::connect_request(&ConnectRequest { source, target }).as_bytes());
        assert_eq!(peer.expect_reject(), reason, "{source} wants {target}");
        assert_eq!(peer.rest(), b"");
        refused += 1;
    }
    let v6 = |port| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    let mut peer = WirePeer::connect(neighbours.native);
    let request = ConnectRequest { source: v6(7), target: v6(address.port()) };
    peer.send(ControlMessage::connect_request(&request).as_bytes());
    assert_eq!(peer.expect_reject(), RejectReason::NoSuchAddress);
    refused += 1;
    assert_eq!(peer.rest(), b"");
    quiet(&provider);
    let after = statistics(&provider);
    assert_eq!(after.handshakes_refused, before.handshakes_refused + refused);
    assert_eq!(after.protocol_violations, before.protocol_violations, "a wrong address is none");
    let pending = listener.start_accept().wait_for(MOMENT).expect_err("nobody has come so far");
    drop((pending, listener, provider));
    neighbours.bed.finish();
}

#[test]
fn a_peer_that_goes_on_while_it_waits_loses_its_place_in_the_queue() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (listener, address) = listening(&provider, 1);
    for (at, (what, bytes)) in impatient(address).iter().enumerate() {
        let before = statistics(&provider).protocol_violations;
        let mut peer = WirePeer::connect(neighbours.native);
        let request = connect_request(address);
        // Behind the request in one piece, or when it has been queued.
        if at % 2 == 0 {
            peer.send(&[request.as_bytes(), bytes].concat());
        } else {
            peer.send(request.as_bytes());
            assert!(peer.hears_nothing());
            peer.send(bytes);
        }
        assert_eq!(peer.rest(), b"", "{what}");
        assert_eq!(statistics(&provider).protocol_violations, before + 1, "{what}");
        let mut honest = WirePeer::connect(neighbours.native);
        honest.send(request.as_bytes());
        let acceptor = outcome(listener.start_accept()).expect("the place is free").accept().expect("accepts");
        honest.expect(MessageType::Accept);
        drop(acceptor);
    }
    drop((listener, provider));
    neighbours.bed.finish();
}

#[test]
fn a_peer_that_goes_on_before_the_decision_makes_it_in_vain() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    let (listener, address) = listening(&provider, 1);
    for (at, (what, bytes)) in impatient(address).iter().enumerate() {
        let before = statistics(&provider).protocol_violations;
        let mut peer = WirePeer::connect(neighbours.native);
        peer.send(connect_request(address).as_bytes());
        let undecided = outcome(listener.start_accept()).expect("it arrives");
        peer.send(bytes);
        assert_eq!(peer.rest(), b"", "{what}");
        let decided = if at % 2 == 0 { undecided.accept().map(drop) } else { undecided.reject() };
        assert_eq!(status(decided), NtStatus::INVALID_NETWORK_RESPONSE, "{what}");
        assert_eq!(statistics(&provider).protocol_violations, before + 1, "{what}");
        bystander.goes_on();
    }
    drop((listener, bystander, provider));
    neighbours.bed.finish();
}

/// The three that tell a switch that TCP/IP would fail too.
const CERTAIN: [WsaError; 3] = [WsaError::WSAECONNRESET, WsaError::WSAECONNREFUSED, WsaError::WSAEHOSTUNREACH];

#[test]
fn an_answer_that_is_none_proves_nothing_to_a_connect() {
    let mut all = malformed_headers();
    all.extend([
        broken("a request", connect_request(FOREIGN).as_bytes()),
        broken("Session", ControlMessage::session(&OFFER, 1).expect("a message").as_bytes()),
        broken("Data", header(MessageType::Data, 1, 0)),
        broken("Credit", ControlMessage::credit(1).as_bytes()),
        broken("Goodbye", ControlMessage::goodbye().as_bytes()),
        broken("version 0", of_version(0)),
        broken("version 2", of_version(2)),
    ]);
    for reason in [0, 7, 0x100, u32::MAX] {
        let message = [&header(MessageType::Reject, 4, 0)[..], &reason.to_le_bytes()].concat();
        all.push((format!("reason {reason}"), message));
    }
    for reach in ["tcp", "san-only"] {
        let neighbours = Neighbours::with(reach, |builder| builder);
        let provider = neighbours.bed.open();
        let mut bystander = Bystander::new(&provider);
        for (what, bytes) in &all {
            let before = statistics(&provider);
            let (connector, _) = bound(&provider);
            let connect = connector.start_connect(FOREIGN, Some(PATIENCE));
            let mut peer = neighbours.arriving();
            peer.expect(MessageType::ConnectRequest);
            peer.send(bytes);
            let error = outcome(connect).expect_err("no answer").wsa_error();
            assert_eq!(error, WsaError::WSAETIMEDOUT, "{what}");
            assert!(!CERTAIN.contains(&error));
            assert_eq!(peer.rest(), b"", "{what}");
            let after = statistics(&provider);
            assert_eq!(after.connect_failures, before.connect_failures + 1, "{what}");
            assert_eq!(after.protocol_violations, before.protocol_violations + 1, "{what}");
            bystander.goes_on();
        }
        drop((bystander, provider));
        neighbours.bed.finish();
    }
}

#[test]
fn a_peer_that_hangs_up_instead_of_an_answer_proves_nothing() {
    for reach in ["tcp", "san-only"] {
        let neighbours = Neighbours::with(reach, |builder| builder);
        let provider = neighbours.bed.open();
        let accept = ControlMessage::accept();
        let reject = ControlMessage::reject(RejectReason::Refused);
        let beginnings = [&[][..], &accept.as_bytes()[..15], &reject.as_bytes()[..16], &reject.as_bytes()[..19]];
        for beginning in beginnings {
            for hears_the_request in [true, false] {
                let (connector, _) = bound(&provider);
                let connect = connector.start_connect(FOREIGN, Some(PATIENCE));
                let mut peer = neighbours.arriving();
                if hears_the_request {
                    peer.expect(MessageType::ConnectRequest);
                }
                peer.send(beginning);
                drop(peer);
                let error = outcome(connect).expect_err("no answer").wsa_error();
                assert_eq!(error, WsaError::WSAETIMEDOUT, "{reach}, {} bytes", beginning.len());
            }
        }
        drop(provider);
        neighbours.bed.finish();
    }
}

#[test]
fn an_answer_that_stops_halfway_is_a_time_out() {
    for reach in ["tcp", "san-only"] {
        let neighbours = Neighbours::with(reach, |builder| builder);
        let provider = neighbours.bed.open();
        let accept = ControlMessage::accept();
        let reject = ControlMessage::reject(RejectReason::Refused);
        // Longer than the peer needs for its part.
        let time = Duration::from_secs(1);
        let beginnings = [&[][..], &accept.as_bytes()[..8], &reject.as_bytes()[..16], &reject.as_bytes()[..18]];
        let started = Instant::now();
        let connects = beginnings.map(|beginning| {
            let (connector, _) = bound(&provider);
            let connect = connector.start_connect(FOREIGN, Some(time));
            let mut peer = neighbours.arriving();
            peer.expect(MessageType::ConnectRequest);
            peer.send(beginning);
            (connector, connect, peer)
        });
        for (connector, connect, peer) in connects {
            assert_eq!(outcome(connect).expect_err("no answer").wsa_error(), WsaError::WSAETIMEDOUT);
            assert!(started.elapsed() >= time, "not before its time");
            assert_eq!(peer.rest(), b"", "nobody listens any more");
            assert_eq!(status(connector.send(b"x")), NtStatus::IO_TIMEOUT);
        }
        drop(provider);
        neighbours.bed.finish();
    }
}

/// Neighbours with a time for the hand-shake, and a number of those who may be in it.
fn strict(time: Duration, peers: u32) -> Neighbours {
    let milliseconds = u32::try_from(time.as_millis()).expect("a short time");
    Neighbours::with("tcp", |builder| {
        builder.parameter("sanwsk", "HandshakeTimeout", Value::Number(milliseconds)).parameter(
            "sanwsk",
            "MaxHandshakes",
            Value::Number(peers),
        )
    })
}

#[test]
fn a_peer_that_does_not_say_in_time_what_it_wants_is_disconnected() {
    let time = Duration::from_secs(1);
    let neighbours = strict(time, 100);
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    let (listener, address) = listening(&provider, 1);
    let request = connect_request(address);
    let started = Instant::now();
    let peers = [0, 1, 15, 16, 17, 55].map(|length| {
        let mut peer = WirePeer::connect(neighbours.native);
        peer.send(&request.as_bytes()[..length]);
        peer
    });
    bystander.goes_on();
    for peer in peers {
        assert_eq!(peer.rest(), b"");
        assert!(started.elapsed() >= time, "not before its time");
    }
    quiet(&provider);
    let after = statistics(&provider);
    assert_eq!((after.handshakes_timed_out, after.protocol_violations, after.handshakes_refused), (6, 0, 0));
    // Who has said it may wait for as long as it takes.
    let mut peer = WirePeer::connect(neighbours.native);
    peer.send(request.as_bytes());
    std::thread::sleep(time + MOMENT);
    assert!(peer.hears_nothing());
    let acceptor = outcome(listener.start_accept()).expect("it waits still").accept().expect("accepts");
    peer.expect(MessageType::Accept);
    bystander.goes_on();
    drop((listener, acceptor, bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn a_peer_that_leaves_within_its_request_leaves_nothing() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (listener, address) = listening(&provider, 1);
    for length in [0, 7, 16, 40, 55] {
        let mut peer = WirePeer::connect(neighbours.native);
        peer.send(&connect_request(address).as_bytes()[..length]);
        drop(peer);
    }
    quiet(&provider);
    let after = statistics(&provider);
    assert_eq!((after.handshakes_timed_out, after.protocol_violations), (0, 0));
    drop((listener, provider));
    neighbours.bed.finish();
}

#[test]
fn silent_peers_keep_others_out_only_until_their_time_is_up() {
    let neighbours = strict(Duration::from_secs(2), 3);
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    quiet(&provider);
    let (listener, address) = listening(&provider, 1);
    let silent = [(); 3].map(|()| WirePeer::connect(neighbours.native));
    eventually("all three are in", || statistics(&provider).handshakes == 3);
    for _ in 0..2 {
        // It is not even asked what it wants.
        assert_eq!(WirePeer::connect(neighbours.native).rest(), b"");
    }
    let now = statistics(&provider);
    assert_eq!((now.handshakes, now.handshakes_refused, now.handshakes_timed_out), (3, 2, 0));
    bystander.goes_on();
    for peer in silent {
        assert_eq!(peer.rest(), b"");
    }
    eventually("they are out", || statistics(&provider).handshakes == 0);
    assert_eq!(statistics(&provider).handshakes_timed_out, 3);
    // Who waits in a backlog is in nobody's way.
    let event = provider.create_event().expect("an event");
    listener.event_select(Some(&*event), NetworkEvents::ACCEPT).expect("selects");
    let mut waiting = WirePeer::connect(neighbours.native);
    waiting.send(connect_request(address).as_bytes());
    assert!(event.wait(PATIENCE), "it has been put into the backlog");
    quiet(&provider);
    let silent = [(); 3].map(|()| WirePeer::connect(neighbours.native));
    eventually("three more are in", || statistics(&provider).handshakes == 3);
    let acceptor = listener.accept().expect("it waits").accept().expect("accepts");
    waiting.expect(MessageType::Accept);
    drop((silent, acceptor, event, listener, bystander, provider));
    neighbours.bed.finish();
}
