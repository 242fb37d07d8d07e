//! Backlog, accept and decide.

use crate::rig::{LIMITS, Rig, local, remote};
use san_core::san::{Endpoint, EventChange, Incident, Offered, State};
use san_protocol::wire::{ConnectRequest, ControlMessage, HEADER_SIZE, Header, MessageType, RejectReason};
use san_protocol::{FD_ACCEPT, NtStatus};
use std::collections::VecDeque;

#[test]
fn an_arrival_sets_the_event_and_a_full_backlog_refuses_at_once_without_setting_it() {
    let mut rig = Rig::listening(2);
    rig.endpoint.event_select(FD_ACCEPT).unwrap();
    assert_eq!(rig.endpoint.arrived(70), Ok(None));
    assert_eq!(rig.endpoint.take_event_change(), Some(EventChange::Set));
    assert_eq!(rig.endpoint.arrived(71), Ok(None));
    rig.endpoint.enum_network_events();
    assert_eq!(rig.endpoint.take_event_change(), Some(EventChange::Reset));
    assert_eq!(rig.endpoint.arrived(72), Err((72, RejectReason::BacklogFull)));
    assert_eq!(rig.endpoint.take_event_change(), None);
    assert_eq!(rig.endpoint.enum_network_events().events, 0);
}

#[test]
fn an_accept_resets_the_event_unless_another_connection_waits() {
    let mut rig = Rig::listening(5);
    rig.endpoint.event_select(FD_ACCEPT).unwrap();
    assert_eq!(rig.endpoint.accept(5), Err((5, NtStatus::CANT_WAIT)));
    rig.endpoint.arrived(70).unwrap();
    rig.endpoint.arrived(71).unwrap();
    assert_eq!(rig.endpoint.take_event_change(), Some(EventChange::Set));
    assert_eq!(rig.endpoint.enum_network_events().events, FD_ACCEPT);
    assert_eq!(rig.endpoint.take_event_change(), Some(EventChange::Reset));
    assert_eq!(rig.endpoint.accept(5), Ok(Some((70, 5))));
    assert_eq!(rig.endpoint.take_event_change(), Some(EventChange::Set), "71 waits");
    assert_eq!(rig.endpoint.accept(6), Ok(Some((71, 6))));
    assert_eq!(rig.endpoint.take_event_change(), Some(EventChange::Reset));
    assert_eq!(rig.endpoint.enum_network_events().events, 0);
    assert_eq!(rig.close(), [""; 0]);
}

#[test]
fn selecting_fd_accept_late_tells_of_a_connection_that_waits() {
    let mut rig = Rig::listening(5);
    rig.endpoint.arrived(70).unwrap();
    assert_eq!(rig.endpoint.take_event_change(), None);
    rig.endpoint.event_select(FD_ACCEPT).unwrap();
    assert_eq!(rig.endpoint.take_event_change(), Some(EventChange::Set));
}

#[test]
fn an_accept_without_an_event_waits_for_a_connection() {
    let mut rig = Rig::listening(1);
    assert_eq!(rig.endpoint.accept(5), Ok(None));
    assert_eq!(rig.endpoint.accept(6), Ok(None));
    assert_eq!(rig.endpoint.accept(7), Ok(None));
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 6), Some(6));
    assert_eq!(rig.endpoint.arrived(70), Ok(Some((70, 5))));
    assert_eq!(rig.close(), ["7: STATUS_CANCELLED"]);
}

#[test]
fn a_listener_that_closes_gives_its_connections_up_one_by_one() {
    let mut rig = Rig::listening(5);
    rig.endpoint.arrived(70).unwrap();
    rig.endpoint.arrived(71).unwrap();
    rig.endpoint.close();
    assert!(!rig.endpoint.is_finished());
    assert_eq!(rig.endpoint.arrived(72), Err((72, RejectReason::NobodyListens)));
    assert_eq!(rig.endpoint.withdraw(|_| true), Some(70));
    assert_eq!(rig.endpoint.withdraw(|_| true), Some(71));
    assert_eq!(rig.endpoint.withdraw(|_| true), None);
    assert!(rig.endpoint.is_finished());

    let mut waiting = Rig::queued();
    waiting.endpoint.offered(Offered::Rejected(RejectReason::NobodyListens));
    assert_eq!(waiting.pull(), ["start timer 5000", "send Reject"]);
}

#[test]
fn a_peer_that_says_nothing_is_closed_after_the_time_for_the_hand_shake() {
    let mut rig = Rig { endpoint: Endpoint::arriving(LIMITS), sending: VecDeque::new() };
    assert_eq!(rig.pull(), ["start timer 5000", "receive header"]);
    rig.endpoint.timer_expired();
    assert_eq!(rig.endpoint.take_incident(), Some(Incident::HandshakeTimedOut));
    assert_eq!(rig.pull(), ["close"]);
    rig.close_socket();
    assert!(rig.endpoint.is_finished(), "nobody else closes it");
}

#[test]
fn the_time_for_the_hand_shake_ends_when_the_offer_is_queued() {
    let mut rig = Rig::queued();
    rig.endpoint.timer_expired();
    assert_eq!(rig.endpoint.state(), State::Queued);
}

#[test]
fn a_timer_that_fires_late_does_not_shorten_the_time_of_the_next() {
    let mut rig = Rig::undecided();
    rig.endpoint.decide(false).unwrap();
    // The one of the hand-shake, which was stopped when the offer was queued.
    rig.endpoint.timer_expired();
    assert_eq!(rig.pull(), ["start timer 5000", "send Reject"]);
}

#[test]
fn a_connection_that_is_closed_before_its_offer_is_made_is_not_offered() {
    let mut rig = Rig { endpoint: Endpoint::arriving(LIMITS), sending: VecDeque::new() };
    rig.pull();
    rig.message(&ControlMessage::connect_request(&ConnectRequest { source: remote(), target: local() }));
    assert_eq!(rig.endpoint.state(), State::Offering);
    rig.endpoint.close();
    assert_eq!(rig.pull(), ["stop timer", "close"]);
    rig.endpoint.closed();
    assert!(rig.endpoint.is_finished());
}

#[test]
fn a_peer_that_begins_with_anything_else_than_a_request_is_closed() {
    let headers: [[u8; HEADER_SIZE]; 3] = [
        Header { message: MessageType::Accept, length: 0, credits: 0 }.encode(),
        Header { message: MessageType::Data, length: 8, credits: 0 }.encode(),
        *b"GET / HTTP/1.1\r\n",
    ];
    for header in headers {
        let mut rig = Rig { endpoint: Endpoint::arriving(LIMITS), sending: VecDeque::new() };
        rig.pull();
        rig.endpoint.header_received(Ok(header));
        assert_eq!(rig.endpoint.take_incident(), Some(Incident::Violation));
        assert_eq!(rig.pull(), ["stop timer", "close"]);
        rig.endpoint.closed();
        assert!(rig.endpoint.is_finished());
    }
}

#[test]
fn a_request_that_names_no_address_is_a_violation() {
    let mut rig = Rig { endpoint: Endpoint::arriving(LIMITS), sending: VecDeque::new() };
    rig.pull();
    let mut message = ControlMessage::connect_request(&ConnectRequest { source: remote(), target: local() });
    message.bytes[HEADER_SIZE] = 9;
    rig.message(&message);
    assert_eq!(rig.endpoint.take_incident(), Some(Incident::Violation));
    assert_eq!(rig.pull(), ["stop timer", "close"]);
}

#[test]
fn a_peer_of_another_version_is_told_so() {
    let mut rig = Rig { endpoint: Endpoint::arriving(LIMITS), sending: VecDeque::new() };
    rig.pull();
    let mut header = Header { message: MessageType::ConnectRequest, length: 40, credits: 0 }.encode();
    header[4] = 2;
    rig.endpoint.header_received(Ok(header));
    assert_eq!(rig.pull(), ["start timer 5000", "send Reject", "receive header"]);
    assert_eq!(rig.endpoint.take_incident(), Some(Incident::Rejected(RejectReason::Version)));
}

#[test]
fn a_rejected_peer_hears_why_and_ends_its_side_before_the_socket_closes() {
    let mut rig = Rig::offering();
    rig.endpoint.offered(Offered::Rejected(RejectReason::BacklogFull));
    assert_eq!(rig.pull(), ["start timer 5000", "send Reject", "receive header"]);
    assert_eq!(rig.endpoint.take_incident(), Some(Incident::Rejected(RejectReason::BacklogFull)));
    rig.endpoint.control_sent(Ok(()));
    assert_eq!(rig.pull(), ["disconnect"]);
    rig.endpoint.disconnected();
    assert_eq!(rig.pull(), [""; 0]);
    rig.endpoint.header_received(Ok([0xEE; HEADER_SIZE]));
    assert_eq!(rig.pull(), ["receive header"], "what it says meanwhile is not heard");
    rig.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
    assert_eq!(rig.pull(), ["stop timer", "close"]);
    rig.endpoint.closed();
    assert!(rig.endpoint.is_finished(), "nobody else closes it");
}

#[test]
fn a_rejected_peer_that_does_not_end_its_side_is_closed_after_the_time_for_the_hand_shake() {
    let mut rig = Rig::undecided();
    rig.endpoint.decide(false).unwrap();
    assert_eq!(rig.pull(), ["start timer 5000", "send Reject"]);
    rig.endpoint.timer_expired();
    assert_eq!(rig.pull(), ["close"]);
    rig.endpoint.control_sent(Err(NtStatus::CANCELLED));
    rig.close_socket();
    assert!(rig.endpoint.is_finished());
}

#[test]
fn a_peer_that_vanishes_while_queued_is_withdrawn() {
    let mut rig = Rig::queued();
    rig.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
    assert_eq!(rig.pull(), ["withdraw", "close"]);
    rig.endpoint.closed();
    rig.endpoint.close();
    assert!(rig.endpoint.is_finished());

    let mut listener = Rig::listening(3);
    listener.endpoint.event_select(FD_ACCEPT).unwrap();
    listener.endpoint.arrived(70).unwrap();
    assert_eq!(listener.endpoint.withdraw(|&connection| connection == 71), None);
    assert_eq!(listener.endpoint.withdraw(|&connection| connection == 70), Some(70));
    assert_eq!(listener.endpoint.enum_network_events().events, 0, "nothing is left to accept");
}

#[test]
fn an_accept_that_meets_a_vanished_peer_learns_of_it_from_the_decision() {
    let mut taken_before = Rig::undecided();
    taken_before.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
    assert_eq!(taken_before.pull(), ["close"]);
    assert_eq!(taken_before.endpoint.decide(true), Err(NtStatus::CONNECTION_RESET));

    let mut taken_after = Rig::queued();
    taken_after.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
    taken_after.endpoint.taken();
    assert_eq!(taken_after.pull(), ["close"], "there is nothing to withdraw any more");
    assert_eq!(taken_after.endpoint.decide(false), Err(NtStatus::CONNECTION_RESET));
}

#[test]
fn an_accept_may_take_a_connection_before_the_driver_says_that_it_is_queued() {
    let mut rig = Rig::offering();
    rig.endpoint.taken();
    rig.endpoint.decide(true).unwrap();
    rig.endpoint.offered(Offered::Queued);
    assert_eq!(rig.pull(), ["stop timer", "send Accept", "receive header"]);
    assert_eq!(rig.endpoint.state(), State::Connected);
}

#[test]
fn anything_said_before_the_accept_is_a_violation() {
    let mut rig = Rig::undecided();
    rig.header(MessageType::Goodbye, 0, 0);
    assert_eq!(rig.endpoint.take_incident(), Some(Incident::Violation));
    assert_eq!(rig.endpoint.decide(true), Err(NtStatus::INVALID_NETWORK_RESPONSE));
}

#[test]
fn the_peer_hears_nothing_before_the_decision() {
    let mut rig = Rig::undecided();
    assert_eq!(rig.pull(), [""; 0]);
    rig.endpoint.decide(true).unwrap();
    assert_eq!(rig.pull(), ["send Accept"]);
    assert_eq!((rig.endpoint.local(), rig.endpoint.remote()), (Some(local()), Some(remote())));
}

#[test]
fn the_session_waits_until_the_accept_is_out() {
    let mut rig = Rig::undecided();
    rig.endpoint.decide(true).unwrap();
    rig.endpoint.negotiate(5, &[], 10).unwrap();
    assert_eq!(rig.pull(), ["send Accept"]);
    rig.endpoint.control_sent(Ok(()));
    assert_eq!(rig.pull(), ["send Session"]);
}
