//! Peers that break the protocol in a connection: it ends with a clear error, and every other goes on.

use super::malformed::{Broken, OFFER, broken, malformed_headers, of_version};
use super::support::{Bystander, Receiver, bound, outcome, pause};
use super::wire_peer::{FOREIGN, Neighbours, Role, connect_request, header};
use crate::support::{MOMENT, PATIENCE, eventually, status};
use san_protocol::wire::{ControlMessage, HEADER_SIZE, MAX_CREDITS, MessageType, RejectReason};
use san_protocol::{DeviceStatistics, NtStatus, WsaError};
use san_proxy::{Memory, MemoryRights, Provider, SanEndpoint};

fn statistics(provider: &Provider) -> DeviceStatistics {
    provider.statistics().expect("statistics")
}

/// All that pends on a connection ends with `end`, and so does what comes later.
#[track_caller]
fn ended_with(end: NtStatus, what: &str, endpoint: &SanEndpoint) {
    let later = endpoint.statistics().expect("statistics");
    assert_eq!((later.sends_queued, later.receives_posted), (0, 0), "{what}");
    assert_eq!(status(endpoint.send(b"later")), end, "{what}");
    assert_eq!(status(endpoint.negotiate(b"", 0)), end, "{what}");
    assert_eq!(status(endpoint.register(Memory::new(1), MemoryRights::BOTH)), end, "{what}");
    assert_eq!(status(endpoint.disconnect()), end, "{what}");
}

/// A peer that is connected, with no session yet, sends this: negotiation and receive of the driver's side end.
fn breaks_before_the_session(neighbours: &Neighbours, provider: &Provider, role: Role, (what, bytes): &Broken) {
    let what = &format!("{role:?}: {what}");
    let before = statistics(provider).protocol_violations;
    let (endpoint, mut peer) = neighbours.connected(provider, role);
    let receiver = Receiver::new(endpoint, 2, 16);
    let negotiate = receiver.endpoint.start_negotiate(b"", 16);
    peer.expect(MessageType::Session);
    peer.send(bytes);
    assert_eq!(status(outcome(negotiate)), NtStatus::INVALID_NETWORK_RESPONSE, "{what}");
    for receive in receiver.receives {
        assert_eq!(status(outcome(receive)), NtStatus::INVALID_NETWORK_RESPONSE, "{what}");
    }
    ended_with(NtStatus::INVALID_NETWORK_RESPONSE, what, &receiver.endpoint);
    assert_eq!(peer.rest(), b"", "{what}");
    assert_eq!(statistics(provider).protocol_violations, before + 1, "{what}");
    receiver.region.deregister().expect("nothing uses it");
}

/// A peer with a session, two credits, and messages that wait for its credits, sends this: all of it ends.
fn breaks_the_session(neighbours: &Neighbours, provider: &Provider, role: Role, (what, bytes): &Broken) {
    let what = &format!("{role:?}: {what}");
    let before = statistics(provider).protocol_violations;
    let (receiver, mut peer) = neighbours.session(provider, role, (2, 16), 0);
    let region = receiver.endpoint.register(Memory::new(16), MemoryRights::SEND).expect("registers");
    let send = receiver.endpoint.start_send(vec![1; 16]);
    let registered = receiver.endpoint.start_send_registered(&region, 0..16);
    let deregister = region.start_deregister();
    peer.send(bytes);
    assert_eq!(status(outcome(send).result), NtStatus::INVALID_NETWORK_RESPONSE, "{what}");
    let error = outcome(registered).expect_err("it fails");
    assert_eq!(error.wsa_error(), WsaError::WSAECONNABORTED, "{what}");
    outcome(deregister).expect("nothing uses it any more");
    for receive in receiver.receives {
        assert_eq!(status(outcome(receive)), NtStatus::INVALID_NETWORK_RESPONSE, "{what}");
    }
    ended_with(NtStatus::INVALID_NETWORK_RESPONSE, what, &receiver.endpoint);
    assert_eq!(peer.rest(), b"", "{what}");
    assert_eq!(statistics(provider).protocol_violations, before + 1, "{what}");
    assert_eq!(receiver.region.read(0..32).expect("free"), [0; 32], "nothing was written");
}

#[test]
fn a_header_that_is_none_ends_a_connection_before_its_session() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    let versions = [0, 2, 0xFF].map(|version| (format!("version {version}"), of_version(version)));
    for broken in malformed_headers().iter().chain(&versions) {
        for role in Role::BOTH {
            breaks_before_the_session(&neighbours, &provider, role, broken);
        }
        bystander.goes_on();
    }
    drop((bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn a_header_that_is_none_ends_a_session() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    let versions = [0, 2, 0xFF].map(|version| (format!("version {version}"), of_version(version)));
    for broken in malformed_headers().iter().chain(&versions) {
        for role in Role::BOTH {
            breaks_the_session(&neighbours, &provider, role, broken);
        }
        bystander.goes_on();
    }
    drop((bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn what_is_out_of_turn_before_the_session_ends_the_connection() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    let reserved = |at: usize| {
        let mut message = ControlMessage::session(&OFFER, 1).expect("a message").as_bytes().to_vec();
        message[HEADER_SIZE + 4 + at] = 1;
        (format!("byte {at} of the reserved field"), message)
    };
    let mut all = vec![
        broken("ConnectRequest", connect_request(FOREIGN).as_bytes()),
        broken("Accept", ControlMessage::accept().as_bytes()),
        broken("Reject", ControlMessage::reject(RejectReason::Refused).as_bytes()),
        broken("Credit before Session", ControlMessage::credit(1).as_bytes()),
        broken("Data before Session", header(MessageType::Data, 0, 0)),
        broken("Data with a payload before Session", header(MessageType::Data, 16, 1)),
    ];
    all.extend((0..4).map(reserved));
    for broken in &all {
        for role in Role::BOTH {
            breaks_before_the_session(&neighbours, &provider, role, broken);
        }
        bystander.goes_on();
    }
    drop((bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn what_is_out_of_turn_in_a_session_ends_it() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    for broken in [
        broken("ConnectRequest", connect_request(FOREIGN).as_bytes()),
        broken("Accept", ControlMessage::accept().as_bytes()),
        broken("Reject", ControlMessage::reject(RejectReason::Busy).as_bytes()),
        broken("a second Session", ControlMessage::session(&OFFER, 0).expect("a message").as_bytes()),
        broken("Data past the receive size", header(MessageType::Data, 17, 0)),
        broken("Data of 4 GiB", header(MessageType::Data, u32::MAX as usize, 0)),
    ] {
        for role in Role::BOTH {
            breaks_the_session(&neighbours, &provider, role, &broken);
        }
        bystander.goes_on();
    }
    drop((bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn data_before_the_own_session_is_out_of_turn_too() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    for role in Role::BOTH {
        let before = statistics(&provider).protocol_violations;
        let (endpoint, mut peer) = neighbours.connected(&provider, role);
        let receiver = Receiver::new(endpoint, 1, 16);
        peer.send_session(16, 1);
        peer.send_data(b"too early");
        assert_eq!(peer.rest(), b"");
        for receive in receiver.receives {
            assert_eq!(status(outcome(receive)), NtStatus::INVALID_NETWORK_RESPONSE);
        }
        ended_with(NtStatus::INVALID_NETWORK_RESPONSE, "data", &receiver.endpoint);
        assert_eq!(statistics(&provider).protocol_violations, before + 1);
        assert_eq!(receiver.region.read(0..16).expect("free"), [0; 16]);
        bystander.goes_on();
    }
    drop((bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn a_message_without_a_credit_ends_the_session_behind_those_that_had_one() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    for role in Role::BOTH {
        for payload in [&b""[..], b"third"] {
            let before = statistics(&provider).protocol_violations;
            let (receiver, mut peer) = neighbours.session(&provider, role, (2, 16), 0);
            let send = receiver.endpoint.start_send(vec![1]);
            let data = |payload: &[u8]| [&header(MessageType::Data, payload.len(), 0), payload].concat();
            peer.send(&[data(b"first"), data(b"second"), data(payload)].concat());
            let [first, second] = receiver.receives.try_into().expect("two receives");
            assert_eq!(outcome(first).expect("a message"), 5);
            assert_eq!(outcome(second).expect("a message"), 6);
            assert_eq!(status(outcome(send).result), NtStatus::INVALID_NETWORK_RESPONSE);
            ended_with(NtStatus::INVALID_NETWORK_RESPONSE, "without a credit", &receiver.endpoint);
            assert_eq!(peer.rest(), b"");
            assert_eq!(statistics(&provider).protocol_violations, before + 1);
            bystander.goes_on();
        }
    }
    drop((bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn credits_past_their_limit_end_the_session() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    let credit = |credits| ControlMessage::credit(credits).as_bytes().to_vec();
    let data = |credits| header(MessageType::Data, 0, credits);
    for role in Role::BOTH {
        for (credits, bytes) in [
            (MAX_CREDITS, credit(1)),
            (MAX_CREDITS, credit(MAX_CREDITS)),
            (MAX_CREDITS, data(1)),
            (1, credit(MAX_CREDITS)),
            (0, [credit(MAX_CREDITS), credit(1)].concat()),
            (0, [credit(MAX_CREDITS - 1), data(2)].concat()),
        ] {
            let before = statistics(&provider).protocol_violations;
            let (receiver, mut peer) = neighbours.session(&provider, role, (1, 16), credits);
            peer.send(&bytes);
            for receive in receiver.receives {
                assert_eq!(status(outcome(receive)), NtStatus::INVALID_NETWORK_RESPONSE, "{credits} and {bytes:?}");
            }
            ended_with(NtStatus::INVALID_NETWORK_RESPONSE, "credits", &receiver.endpoint);
            assert_eq!(peer.rest(), b"");
            assert_eq!(statistics(&provider).protocol_violations, before + 1);
        }
        // The limit itself is none too many.
        let (receiver, mut peer) = neighbours.session(&provider, role, (1, 16), MAX_CREDITS - 1);
        peer.send(&credit(1));
        eventually("it holds them", || receiver.endpoint.statistics().expect("statistics").send_credits == MAX_CREDITS);
        receiver.endpoint.send(b"x").expect("sends");
        bystander.goes_on();
    }
    drop((bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn a_violation_is_seen_however_its_bytes_arrive() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    for role in Role::BOTH {
        let (receiver, mut peer) = neighbours.session(&provider, role, (2, 16), 0);
        let [first, second] = receiver.receives.try_into().expect("two receives");
        peer.send_byte_by_byte(&[&header(MessageType::Data, 3, 0)[..], b"one"].concat());
        assert_eq!(outcome(first).expect("a message"), 3);
        peer.send_byte_by_byte(&header(MessageType::Accept, 0, 0));
        assert_eq!(status(outcome(second)), NtStatus::INVALID_NETWORK_RESPONSE);
        assert_eq!(peer.rest(), b"");
        assert_eq!(receiver.region.read(0..3).expect("free"), b"one");
    }
    drop(provider);
    neighbours.bed.finish();
}

#[test]
fn an_accept_that_comes_twice_ends_the_connection() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (connector, _) = bound(&provider);
    let connect = connector.start_connect(FOREIGN, Some(PATIENCE));
    let mut peer = neighbours.arriving();
    peer.expect(MessageType::ConnectRequest);
    let accept = ControlMessage::accept();
    peer.send(&[accept.as_bytes(), accept.as_bytes()].concat());
    outcome(connect).expect("the first one connects");
    assert_eq!(peer.rest(), b"");
    ended_with(NtStatus::INVALID_NETWORK_RESPONSE, "the second", &connector);
    assert_eq!(statistics(&provider).protocol_violations, 1);
    drop((connector, provider));
    neighbours.bed.finish();
}

#[test]
fn half_a_header_in_a_connection_is_waited_for() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    for role in Role::BOTH {
        let (endpoint, mut peer) = neighbours.connected(&provider, role);
        let negotiate = endpoint.start_negotiate(b"", 16);
        peer.expect(MessageType::Session);
        let offer = ControlMessage::session(&OFFER, 1).expect("a message");
        let mut negotiate = Some(negotiate);
        for (piece, next) in [(0..8, "the header"), (8..20, "the payload"), (20..24, "nothing")] {
            let pending = negotiate.take().expect("put back");
            peer.send(&offer.as_bytes()[piece]);
            match pending.wait_for(if next == "nothing" { PATIENCE } else { MOMENT }) {
                Ok(offer) => assert_eq!((offer.expect("negotiates").receive_size, next), (16, "nothing")),
                Err(still) => negotiate = Some(still),
            }
            bystander.goes_on();
        }
        assert!(negotiate.is_none());
        // Half a header again: the endpoint is closed all the same.
        peer.send(&header(MessageType::Goodbye, 0, 0)[..7]);
        let receiver = pause(|| Receiver::new(endpoint, 1, 16));
        assert!(!receiver.receives[0].has_ended());
        let closed = receiver.endpoint.start_close();
        outcome(closed).expect("closes");
        for receive in receiver.receives {
            assert_eq!(status(outcome(receive)), NtStatus::CANCELLED);
        }
    }
    drop((bystander, provider));
    neighbours.bed.finish();
}

#[test]
fn a_peer_that_leaves_within_a_message_has_reset_the_connection() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let mut bystander = Bystander::new(&provider);
    let message = [&header(MessageType::Data, 16, 0)[..], &[0xD7; 16]].concat();
    for role in Role::BOTH {
        for length in [0, 1, 15, 16, 17, 31] {
            let before = statistics(&provider).protocol_violations;
            let (receiver, mut peer) = neighbours.session(&provider, role, (2, 16), 0);
            let send = receiver.endpoint.start_send(vec![1; 16]);
            peer.send(&message[..length]);
            drop(peer);
            for receive in receiver.receives {
                assert_eq!(status(outcome(receive)), NtStatus::CONNECTION_RESET, "{length} bytes");
            }
            assert_eq!(status(outcome(send).result), NtStatus::CONNECTION_RESET);
            ended_with(NtStatus::CONNECTION_RESET, "left", &receiver.endpoint);
            assert_eq!(statistics(&provider).protocol_violations, before, "which is no violation");
            assert_eq!(receiver.region.read(16..32).expect("free"), [0; 16], "the second got nothing");
            bystander.goes_on();
        }
    }
    drop((bystander, provider));
    neighbours.bed.finish();
}
