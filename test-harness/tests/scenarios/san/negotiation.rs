//! Sessions: what either side offers the other before messages flow, in whatever order it comes.

use super::support::{Receiver, bed, bound, builder, connected, connected_to, listening, negotiated, pause};
use super::wire_peer::{Neighbours, Role, session};
use crate::input::raw;
use crate::support::{Bed, MOMENT, PATIENCE, eventually, pattern, status};
use san_protocol::wire::{ControlMessage, MessageType, SessionOffer};
use san_protocol::{ControlCode, Header, NegotiateReply, NegotiateRequest, NtStatus};
use san_proxy::{AddressFamily, MAX_PRIVATE_DATA, Memory, MemoryRights, PeerSession, SanEndpoint};
use test_harness::nt::registry::Value;
use zerocopy::IntoBytes;

#[test]
fn a_session_message_that_comes_before_all_else_is_held() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    for role in Role::BOTH {
        let (endpoint, mut peer) = neighbours.connected(&provider, role);
        peer.send_byte_by_byte(session(64, b"early", 3).as_bytes());
        assert!(peer.hears_nothing(), "nothing is answered by itself");
        let receiver = Receiver::new(endpoint, 2, 32);
        let offer = receiver.endpoint.negotiate(b"late", 32).expect("the peer's has come already");
        assert_eq!(offer, PeerSession { receive_count: 3, receive_size: 64, private: b"early".to_vec() });
        let own = peer.expect(MessageType::Session);
        assert_eq!(own.header.credits, 2);
        assert_eq!(SessionOffer::parse(&own.payload), Ok(SessionOffer { receive_size: 32, private: b"late" }));
    }
    drop(provider);
    neighbours.bed.finish();
}

#[test]
fn messages_without_a_posted_receive_are_held_and_fill_one_buffer_each() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    for role in Role::BOTH {
        let (mut receiver, mut peer) = neighbours.session(&provider, role, (2, 32), 0);
        for receive in receiver.receives.drain(..) {
            receive.cancel();
            assert_eq!(status(receive.wait()), NtStatus::CANCELLED);
        }
        // The peer holds the credits still.
        peer.send_data(b"first");
        peer.send_data(b"second");
        let post = |at: usize| receiver.endpoint.start_receive(&receiver.region, at..at + 32);
        pause(|| ());
        assert_eq!(post(0).wait().expect("the one that is held"), 5);
        assert_eq!(post(32).wait().expect("the next"), 6);
        assert_eq!(receiver.region.read(0..5).expect("free"), b"first");
        assert_eq!(receiver.region.read(32..38).expect("free"), b"second");
    }
    drop(provider);
    neighbours.bed.finish();
}

#[test]
fn private_data_of_every_length_arrives_as_it_was() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    for (at, (one, other)) in [(0, 256), (1, 255), (255, 1), (256, 0), (256, 256)].into_iter().enumerate() {
        let (connector, acceptor) = connected_to(&provider, &listener, address);
        let (one, other) = (pattern(at as u64, one), pattern(at as u64 + 100, other));
        let negotiate = connector.start_negotiate(&one, 0);
        assert_eq!(acceptor.negotiate(&other, 0).expect("negotiates").private, one);
        assert_eq!(negotiate.wait().expect("negotiates").private, other);
    }
    drop((listener, provider));
    bed.finish();
}

#[test]
fn more_private_data_than_fits_is_refused_and_the_connection_goes_on() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = connected(&provider);
    for length in [MAX_PRIVATE_DATA + 1, MAX_PRIVATE_DATA + 2, 70_000] {
        let refused = connector.negotiate(&vec![1; length], 0);
        assert_eq!(status(refused), NtStatus::INVALID_BUFFER_SIZE, "{length}");
    }
    for private_length in [257, 0x8000_0000, u32::MAX] {
        let request = NegotiateRequest {
            header: Header::new(0),
            endpoint: acceptor.id(),
            receive_size: 0,
            private_length,
            private: [7; MAX_PRIVATE_DATA],
        };
        let refused = raw(&provider, ControlCode::Negotiate.value(), request.as_bytes(), size_of::<NegotiateReply>());
        assert_eq!(refused, (NtStatus::INVALID_BUFFER_SIZE, 0), "{private_length:#x}");
    }
    let (connector, mut acceptor) = negotiated(connector, acceptor, 1, 16);
    connector.endpoint.send(b"whole").expect("sends");
    assert_eq!(acceptor.next(0), b"whole");
    drop((connector, acceptor, provider));
    bed.finish();
}

#[test]
fn negotiating_ends_when_both_have_said_their_part() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    for connector_first in [true, false] {
        let (connector, acceptor) = connected_to(&provider, &listener, address);
        let (first, second) = if connector_first { (connector, acceptor) } else { (acceptor, connector) };
        let negotiate = first.start_negotiate(b"first", 0).wait_for(MOMENT).expect_err("it waits for the other");
        assert_eq!(second.negotiate(b"second", 0).expect("negotiates").private, b"first");
        assert_eq!(negotiate.wait().expect("negotiates").private, b"second");
    }
    drop((listener, provider));
    bed.finish();
}

#[test]
fn a_second_negotiation_is_refused_at_any_time() {
    let bed = bed();
    let (connector, acceptor) = connected(&bed.open());
    let (connector, mut acceptor) = (Receiver::new(connector, 1, 16), Receiver::new(acceptor, 1, 16));
    let negotiate = connector.endpoint.start_negotiate(b"once", 16);
    assert_eq!(status(connector.endpoint.negotiate(b"twice", 16)), NtStatus::INVALID_PARAMETER);
    let offer = acceptor.endpoint.negotiate(b"", 16).expect("negotiates");
    assert_eq!(offer.private, b"once");
    negotiate.wait().expect("negotiates");
    for endpoint in [&connector.endpoint, &acceptor.endpoint] {
        assert_eq!(status(endpoint.negotiate(b"twice", 16)), NtStatus::INVALID_PARAMETER);
    }
    connector.endpoint.send(b"goes on").expect("sends");
    assert_eq!(acceptor.next(0), b"goes on");
    drop((connector, acceptor));
    bed.finish();
}

#[test]
fn only_a_connected_endpoint_negotiates() {
    let bed = bed();
    let provider = bed.open();
    let idle = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    let (listener, address) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    for endpoint in [&idle, &connector, &listener] {
        assert_eq!(status(endpoint.negotiate(b"", 0)), NtStatus::INVALID_CONNECTION);
    }
    let connect = connector.start_connect(address, Some(PATIENCE));
    assert_eq!(status(connector.negotiate(b"", 0)), NtStatus::INVALID_CONNECTION, "connecting");
    let undecided = listener.accept().expect("arrives");
    let acceptor = undecided.accept().expect("accepts");
    connect.wait().expect("connects");
    negotiated(connector, acceptor, 1, 1);
    drop((idle, listener, provider));
    bed.finish();
}

#[test]
fn the_receive_size_is_one_that_every_posted_receive_has() {
    let bed = Bed::with(builder().parameter("sanwsk", "MaxMessageSize", Value::Number(4096)));
    let (connector, acceptor) = connected(&bed.open());
    let region = connector.register(Memory::new(8192), MemoryRights::BOTH).expect("registers");
    let long = connector.start_receive(&region, 0..4097);
    assert_eq!(status(connector.negotiate(b"", 4097)), NtStatus::INVALID_PARAMETER, "past the driver's limit");
    assert_eq!(status(connector.negotiate(b"", u32::MAX)), NtStatus::INVALID_PARAMETER);
    let short = connector.start_receive(&region, 4100..4200);
    for size in [101, 4096] {
        assert_eq!(status(connector.negotiate(b"", size)), NtStatus::INVALID_PARAMETER, "past a posted receive");
    }
    let negotiate = connector.start_negotiate(b"", 100);
    acceptor.negotiate(b"", 0).expect("negotiates");
    negotiate.wait().expect("negotiates");
    acceptor.send(&[1; 100]).expect("sends");
    acceptor.send(&[2; 100]).expect("sends");
    assert_eq!((long.wait().expect("a message"), short.wait().expect("a message")), (100, 100));
    drop((connector, acceptor, region));
    bed.finish();
}

#[test]
fn later_receives_are_no_shorter_than_was_promised() {
    let bed = bed();
    let (connector, mut acceptor) = super::support::session(&bed.open(), 1, 64);
    let spare = acceptor.endpoint.register(Memory::new(64), MemoryRights::RECEIVE).expect("registers");
    for length in [1, 63] {
        let posted = acceptor.endpoint.receive(&spare, 0..length);
        assert_eq!(status(posted), NtStatus::INVALID_BUFFER_SIZE, "{length}");
    }
    let second = acceptor.endpoint.start_receive(&spare, 0..64);
    connector.endpoint.send(&[1; 64]).expect("sends");
    connector.endpoint.send(&[2; 64]).expect("sends");
    assert_eq!(acceptor.next(0), [1; 64]);
    assert_eq!(second.wait().expect("a message"), 64);
    assert_eq!(spare.read(0..64).expect("free"), [2; 64]);
    drop((connector, acceptor, spare));
    bed.finish();
}

#[test]
fn a_message_longer_than_the_peer_takes_is_refused_here() {
    let bed = bed();
    let (connector, mut acceptor) = super::support::session(&bed.open(), 1, 100);
    let region = connector.endpoint.register(Memory::new(1000), MemoryRights::SEND).expect("registers");
    for length in [101, 1000] {
        assert_eq!(status(connector.endpoint.send(&vec![1; length])), NtStatus::INVALID_BUFFER_SIZE);
        let registered = connector.endpoint.send_registered(&region, 0..length);
        assert_eq!(status(registered), NtStatus::INVALID_BUFFER_SIZE);
    }
    connector.endpoint.send_registered(&region, 5..105).expect("sends");
    assert_eq!(acceptor.next(0), [0; 100]);
    connector.endpoint.send(&[3; 100]).expect("sends");
    assert_eq!(acceptor.next(0), [3; 100]);
    drop((connector, acceptor, region));
    bed.finish();
}

#[test]
fn whatever_the_peer_takes_the_own_limit_holds() {
    let neighbours =
        Neighbours::with("tcp", |builder| builder.parameter("sanwsk", "MaxMessageSize", Value::Number(300)));
    let provider = neighbours.bed.open();
    let (endpoint, mut peer) = neighbours.connected(&provider, Role::Connector);
    peer.send_session(u32::MAX, 1);
    let offer = endpoint.negotiate(b"", 0).expect("negotiates");
    assert_eq!((offer.receive_count, offer.receive_size), (1, u32::MAX));
    peer.expect(MessageType::Session);
    assert_eq!(status(endpoint.send(&[0; 301])), NtStatus::INVALID_BUFFER_SIZE);
    endpoint.send(&pattern(1, 300)).expect("sends");
    assert_eq!(peer.expect(MessageType::Data).payload, pattern(1, 300));
    drop((endpoint, provider));
    neighbours.bed.finish();
}

#[test]
fn nothing_is_sent_before_the_session_stands() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let idle = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    let (listener, _) = listening(&provider, 1);
    let (unconnected, _) = bound(&provider);
    for endpoint in [&idle, &listener, &unconnected] {
        assert_eq!(status(endpoint.send(b"x")), NtStatus::INVALID_CONNECTION);
    }
    for role in Role::BOTH {
        let (endpoint, mut peer) = neighbours.connected(&provider, role);
        let region = endpoint.register(Memory::new(16), MemoryRights::SEND).expect("registers");
        let refused = |when: &str| {
            assert_eq!(status(endpoint.send(b"x")), NtStatus::INVALID_CONNECTION, "{when}");
            assert_eq!(status(endpoint.send(b"")), NtStatus::INVALID_CONNECTION, "{when}");
            let registered = endpoint.send_registered(&region, 0..1);
            assert_eq!(status(registered), NtStatus::INVALID_CONNECTION, "{when}");
        };
        refused("connected");
        let negotiate = endpoint.start_negotiate(b"", 0);
        peer.expect(MessageType::Session);
        refused("only this side has said its part");
        peer.send_session(16, 1);
        negotiate.wait().expect("negotiates");
        endpoint.send(b"now").expect("sends");
        assert_eq!(peer.expect(MessageType::Data).payload, b"now");

        let (endpoint, mut peer) = neighbours.connected(&provider, role);
        peer.send_session(16, 1);
        assert!(peer.hears_nothing());
        assert_eq!(status(endpoint.send(b"x")), NtStatus::INVALID_CONNECTION, "only the peer has said its part");
        endpoint.negotiate(b"", 0).expect("negotiates");
        endpoint.send(b"now").expect("sends");
        peer.expect(MessageType::Session);
        assert_eq!(peer.expect(MessageType::Data).payload, b"now");
    }
    drop((idle, listener, unconnected, provider));
    neighbours.bed.finish();
}

#[test]
fn counts_and_sizes_of_the_posted_receives_arrive_at_the_other_side() {
    let bed = bed();
    let (connector, acceptor) = connected(&bed.open());
    let (connector, acceptor) = (Receiver::new(connector, 3, 100), Receiver::new(acceptor, 5, 2000));
    let negotiate = connector.endpoint.start_negotiate(b"", 99);
    let offer = acceptor.endpoint.negotiate(b"", 2000).expect("negotiates");
    assert_eq!((offer.receive_count, offer.receive_size), (3, 99));
    let offer = negotiate.wait().expect("negotiates");
    assert_eq!((offer.receive_count, offer.receive_size), (5, 2000));
    let credits = |of: &Receiver| of.endpoint.statistics().expect("statistics").send_credits;
    assert_eq!((credits(&connector), credits(&acceptor)), (5, 3));
    drop((connector, acceptor));
    bed.finish();
}

#[test]
fn the_acceptor_posts_its_receives_before_it_replies() {
    let bed = bed();
    let (connector, acceptor) = connected(&bed.open());
    let connector = Receiver::new(connector, 1, 16);
    let negotiate = connector.endpoint.start_negotiate(b"", 16).wait_for(MOMENT).expect_err("no reply yet");
    let mut acceptor = Receiver::new(acceptor, 4, 16);
    acceptor.endpoint.negotiate(b"", 16).expect("the connector's part is here");
    assert_eq!(negotiate.wait().expect("negotiates").receive_count, 4);
    // All four can go, before the acceptor posts any more.
    for n in 0..4_u8 {
        connector.endpoint.send(&[n; 16]).expect("sends");
    }
    for n in 0..4_u8 {
        assert_eq!(acceptor.next(n.into()), [n; 16]);
    }
    drop((connector, acceptor));
    bed.finish();
}

#[test]
fn a_session_without_receives_stands_and_messages_wait_for_the_first() {
    let bed = bed();
    let (connector, acceptor) = connected(&bed.open());
    let negotiate = connector.start_negotiate(b"", 16);
    assert_eq!(acceptor.negotiate(b"", 16).expect("negotiates").receive_count, 0);
    assert_eq!(negotiate.wait().expect("negotiates").receive_count, 0);
    let sends: Vec<_> = (0..3_u8).map(|n| connector.start_send(vec![n; 16])).collect();
    let statistics = pause(|| connector.statistics().expect("statistics"));
    assert_eq!((statistics.sends_queued, statistics.send_credits, statistics.messages_sent), (3, 0, 0));
    assert!(sends.iter().all(|send| !send.has_ended()));
    let region = acceptor.register(Memory::new(16), MemoryRights::RECEIVE).expect("registers");
    for n in 0..3_u8 {
        assert_eq!(acceptor.receive(&region, 0..16).expect("a message"), 16);
        assert_eq!(region.read(0..16).expect("free"), [n; 16]);
    }
    for send in sends {
        assert_eq!(send.wait().result.expect("sends"), 16);
    }
    drop((connector, acceptor, region));
    bed.finish();
}

#[test]
fn receives_posted_later_become_credits_of_their_own() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    for role in Role::BOTH {
        let (receiver, mut peer) = neighbours.session(&provider, role, (1, 16), 0);
        let more = receiver.endpoint.register(Memory::new(32), MemoryRights::RECEIVE).expect("registers");
        let second = receiver.endpoint.start_receive(&more, 0..16);
        assert_eq!(peer.expect(MessageType::Credit).header.credits, 1, "as many again");
        let third = receiver.endpoint.start_receive(&more, 16..32);
        assert!(peer.hears_nothing(), "half as many again can wait");
        peer.send(ControlMessage::credit(1).as_bytes());
        receiver.endpoint.send(b"data").expect("sends");
        assert_eq!(peer.expect(MessageType::Data).header.credits, 1, "data carries it");
        for payload in [b"one", b"two", b"tri"] {
            peer.send_data(payload);
        }
        for receive in receiver.receives.into_iter().chain([second, third]) {
            assert_eq!(receive.wait().expect("a message"), 3);
        }
    }
    drop(provider);
    neighbours.bed.finish();
}

#[test]
fn a_message_of_no_bytes_is_a_message() {
    let bed = bed();
    let (connector, mut acceptor) = super::support::session(&bed.open(), 2, 16);
    for round in 0..6_u8 {
        let at = usize::from(round) % 2;
        let message = if round % 3 == 1 { vec![round; 16] } else { Vec::new() };
        assert_eq!(connector.endpoint.send(&message).expect("sends"), message.len());
        assert_eq!(acceptor.next(at), message);
    }
    let statistics = acceptor.endpoint.statistics().expect("statistics");
    assert_eq!((statistics.messages_received, statistics.bytes_received), (6, 32));
    eventually("all are sent", || connector.endpoint.statistics().expect("statistics").messages_sent == 6);
    drop((connector, acceptor));
    bed.finish();
}

#[test]
fn a_session_of_empty_messages_alone_needs_a_receive_for_each() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (endpoint, mut peer) = neighbours.connected(&provider, Role::Connector);
    peer.send_session(0, 1);
    endpoint.negotiate(b"", 0).expect("negotiates");
    assert_eq!(peer.expect(MessageType::Session).header.credits, 0);
    assert_eq!(status(endpoint.send(b"x")), NtStatus::INVALID_BUFFER_SIZE);
    endpoint.send(b"").expect("sends");
    let second = endpoint.start_send(Vec::new()).wait_for(MOMENT).expect_err("there was one credit");
    assert_eq!(peer.expect(MessageType::Data).payload, b"");
    peer.send(ControlMessage::credit(1).as_bytes());
    assert_eq!(second.wait().result.expect("sends"), 0);
    assert_eq!(peer.expect(MessageType::Data).payload, b"");
    drop((endpoint, provider));
    neighbours.bed.finish();
}

#[test]
fn a_peer_that_leaves_ends_the_negotiation_as_it_left() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    for role in Role::BOTH {
        let (endpoint, mut peer) = neighbours.connected(&provider, role);
        let negotiate = endpoint.start_negotiate(b"", 0);
        peer.expect(MessageType::Session);
        peer.send(ControlMessage::goodbye().as_bytes());
        assert_eq!(status(negotiate.wait()), NtStatus::GRACEFUL_DISCONNECT);
        peer.expect(MessageType::Goodbye);
        assert_eq!(peer.rest(), b"");

        let (endpoint, mut peer) = neighbours.connected(&provider, role);
        let negotiate = endpoint.start_negotiate(b"", 0);
        peer.expect(MessageType::Session);
        drop(peer);
        assert_eq!(status(negotiate.wait()), NtStatus::CONNECTION_RESET);
    }
    drop(provider);
    neighbours.bed.finish();
}
