//! Negotiation, credits, messages.

use crate::rig::{Rig, slice};
use san_core::san::{Incident, Sending, State};
use san_protocol::wire::{ControlMessage, HEADER_SIZE, MAX_CREDITS, MessageType, SessionOffer};
use san_protocol::{EndpointStatistics, NtStatus};

/// The connection has ended by the peer's fault: `rig` closes its socket, and says so to all who come.
fn assert_violated(mut rig: Rig, what: &str) {
    assert_eq!(rig.endpoint.state(), State::Ended(NtStatus::INVALID_NETWORK_RESPONSE), "{what}");
    assert_eq!(rig.endpoint.take_incident(), Some(Incident::Connected));
    assert_eq!(rig.endpoint.take_incident(), Some(Incident::Violation), "{what}");
    assert_eq!(rig.pull().last(), Some(&"close".into()), "{what}");
    assert_eq!(rig.endpoint.send(50, slice(1)), Err((50, NtStatus::INVALID_NETWORK_RESPONSE)));
}

#[test]
fn a_session_stands_when_both_offers_are_exchanged_in_either_order() {
    let mut first = Rig::in_session(2, 3);
    let offer = *first.endpoint.peer_offer().expect("the session stands");
    assert_eq!((offer.receive_count, offer.receive_size, offer.private_length), (3, 200, 6));
    assert_eq!(offer.private[..7], *b"theirs\0");
    first.endpoint.send(50, slice(5)).unwrap();
    assert_eq!(first.pull(), ["send 5 bytes of small for 50"]);

    let mut second = Rig::with_memory();
    second.session(200, b"theirs", 3);
    assert_eq!(second.endpoint.peer_offer(), None, "held until this side offers too");
    second.endpoint.receive_registered(100, 7, 0, 100).unwrap();
    second.endpoint.negotiate(4, &[7; 256], 100).unwrap();
    assert_eq!(second.pull(), ["send Session with 1 credits", "4: negotiated", "receive header"]);
    assert!(second.endpoint.peer_offer().is_some());
}

#[test]
fn private_data_past_256_bytes_is_refused_here() {
    let mut rig = Rig::connected();
    assert_eq!(rig.endpoint.negotiate(4, &[0; 257], 10), Err((4, NtStatus::INVALID_BUFFER_SIZE)));
    rig.endpoint.negotiate(4, &[0; 256], 10).unwrap();
    assert_eq!(rig.pull(), ["send Session"]);
}

#[test]
fn a_receive_size_past_the_limit_or_a_posted_receive_is_refused() {
    let mut rig = Rig::with_memory();
    assert_eq!(rig.endpoint.negotiate(4, &[], 1001), Err((4, NtStatus::INVALID_PARAMETER)));
    rig.endpoint.receive_registered(100, 7, 0, 300).unwrap();
    rig.endpoint.receive_registered(101, 7, 0, 200).unwrap();
    assert_eq!(rig.endpoint.negotiate(4, &[], 201), Err((4, NtStatus::INVALID_PARAMETER)));
    rig.endpoint.negotiate(4, &[], 200).unwrap();
    let short = rig.endpoint.receive_registered(102, 7, 0, 199);
    assert_eq!(short, Err((102, NtStatus::INVALID_BUFFER_SIZE)), "the peer was told 200");
    assert_eq!(rig.endpoint.negotiate(5, &[], 10), Err((5, NtStatus::INVALID_PARAMETER)), "once");
}

#[test]
fn a_cancelled_negotiation_was_never_made_unless_its_offer_is_out() {
    let mut rig = Rig::with_memory();
    rig.endpoint.negotiate(4, &[], 10).unwrap();
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 4), Some(4));
    assert_eq!(rig.pull(), [""; 0]);
    rig.endpoint.negotiate(5, &[], 10).unwrap();
    assert_eq!(rig.pull(), ["send Session"]);
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 5), Some(5));
    rig.endpoint.control_sent(Ok(()));
    rig.session(10, &[], 0);
    assert!(rig.endpoint.peer_offer().is_some());
    assert_eq!(rig.pull(), ["receive header"]);
}

#[test]
fn a_message_longer_than_the_peer_takes_or_the_limit_is_refused_here() {
    let mut rig = Rig::in_session(0, 1);
    assert_eq!(rig.endpoint.send(50, slice(201)), Err((50, NtStatus::INVALID_BUFFER_SIZE)));
    rig.endpoint.send(50, slice(200)).unwrap();

    let mut greedy = Rig::connected();
    greedy.endpoint.negotiate(4, &[], 10).unwrap();
    greedy.pull();
    greedy.session(5000, &[], 1);
    assert_eq!(greedy.endpoint.send(50, slice(1001)), Err((50, NtStatus::INVALID_BUFFER_SIZE)));
    greedy.endpoint.send(50, slice(1000)).unwrap();
}

#[test]
fn each_send_uses_up_one_credit_and_waits_for_it() {
    let mut rig = Rig::in_session(0, 2);
    for waiter in 50..54 {
        rig.endpoint.send(waiter, slice(3)).unwrap();
    }
    assert_eq!(rig.pull(), ["send 3 bytes of small for 50", "send 3 bytes of small for 51"]);
    rig.header(MessageType::Credit, 0, 1);
    assert_eq!(rig.pull(), ["send 3 bytes of small for 52", "receive header"]);
    rig.sent(Ok(()));
    assert_eq!(rig.pull(), ["50: 3 bytes"]);
}

#[test]
fn an_empty_message_is_a_message() {
    let mut rig = Rig::in_session(1, 1);
    rig.endpoint.send(50, slice(0)).unwrap();
    assert_eq!(rig.pull(), ["send 0 bytes of small for 50"]);
    rig.header(MessageType::Data, 0, 0);
    assert_eq!(rig.pull(), ["100: 0 bytes", "receive header"]);
}

#[test]
fn a_credit_message_goes_when_the_peer_has_none_left_or_would_have_twice_as_many() {
    let mut rig = Rig::in_session(4, 0);
    for waiter in 104..107 {
        rig.endpoint.receive_registered(waiter, 7, 0, 100).unwrap();
        assert_eq!(rig.pull(), [""; 0], "it holds 4, three more are not worth a message");
    }
    rig.endpoint.receive_registered(107, 7, 0, 100).unwrap();
    assert_eq!(rig.pull(), ["send Credit with 4 credits"]);
    rig.endpoint.receive_registered(108, 7, 0, 100).unwrap();
    assert_eq!(rig.pull(), [""; 0]);

    let mut none = Rig::in_session(0, 0);
    none.endpoint.receive_registered(100, 7, 0, 100).unwrap();
    assert_eq!(none.pull(), ["send Credit with 1 credits"]);
}

#[test]
fn no_credit_goes_before_the_session() {
    let mut rig = Rig::with_memory();
    rig.session(100, &[], 5);
    rig.pull();
    rig.endpoint.receive_registered(100, 7, 0, 100).unwrap();
    assert_eq!(rig.pull(), [""; 0]);
    rig.endpoint.negotiate(4, &[], 100).unwrap();
    assert_eq!(rig.pull(), ["send Session with 1 credits", "4: negotiated"]);
}

#[test]
fn data_carries_the_credits_that_can_be_granted() {
    let mut rig = Rig::in_session(4, 5);
    rig.endpoint.receive_registered(104, 7, 0, 100).unwrap();
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.send(51, slice(3)).unwrap();
    assert_eq!(rig.pull(), ["send 3 bytes of small for 50 with 1 credits", "send 3 bytes of small for 51"]);
}

#[test]
fn messages_fill_the_posted_receives_in_their_order() {
    let mut rig = Rig::in_session(2, 0);
    rig.header(MessageType::Data, 80, 0);
    assert_eq!(rig.pull(), ["receive payload of 80 into seven at 0"]);
    rig.endpoint.payload_received(Ok(()));
    assert_eq!(rig.pull(), ["100: 80 bytes", "receive header"]);
    rig.header(MessageType::Data, 100, 0);
    rig.pull();
    rig.endpoint.payload_received(Ok(()));
    assert_eq!(rig.pull(), ["101: 100 bytes", "receive header"]);
    let expected = EndpointStatistics {
        messages_sent: 0,
        bytes_sent: 0,
        messages_received: 2,
        bytes_received: 180,
        sends_queued: 0,
        receives_posted: 0,
        send_credits: 0,
        regions: 1,
        pinned_bytes: 1000,
    };
    assert_eq!(rig.endpoint.statistics(), expected);
}

#[test]
fn a_message_whose_receive_was_cancelled_is_held_for_the_next_one() {
    let mut rig = Rig::in_session(1, 0);
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 100), Some(100));
    rig.header(MessageType::Data, 10, 0);
    assert_eq!(rig.pull(), [""; 0], "nothing more is read");
    rig.endpoint.receive_registered(101, 7, 40, 100).unwrap();
    assert_eq!(rig.pull(), ["receive payload of 10 into seven at 40"]);
    rig.endpoint.payload_received(Ok(()));
    assert_eq!(rig.pull(), ["101: 10 bytes", "receive header"]);
}

#[test]
fn a_receive_that_is_to_be_filled_can_be_cancelled_until_the_filling_starts() {
    let mut rig = Rig::in_session(2, 0);
    rig.header(MessageType::Data, 10, 0);
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 100), Some(100));
    assert_eq!(rig.pull(), ["receive payload of 10 into seven at 0"]);
    rig.endpoint.payload_received(Ok(()));
    assert_eq!(rig.pull(), ["101: 10 bytes", "receive header"]);
}

#[test]
fn cancelling_a_half_filled_receive_aborts_the_connection() {
    let mut rig = Rig::in_session(2, 0);
    rig.header(MessageType::Data, 10, 0);
    rig.pull();
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 100), None);
    assert_eq!(rig.pull(), ["close"], "the others wait for the one that is being filled");
    rig.endpoint.payload_received(Err(NtStatus::CANCELLED));
    assert_eq!(rig.pull(), ["100: STATUS_CANCELLED", "101: STATUS_CONNECTION_ABORTED"]);
}

#[test]
fn a_queued_send_can_be_cancelled_and_one_on_its_way_is_the_drivers() {
    let mut rig = Rig::in_session(0, 1);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.send(51, slice(3)).unwrap();
    rig.pull();
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 51), Some(51));
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 50), None);
    rig.sent(Err(NtStatus::CANCELLED));
    assert_eq!(rig.pull(), ["50: STATUS_CANCELLED", "close"], "half of it may be out");
    assert_eq!(rig.endpoint.state(), State::Ended(NtStatus::CONNECTION_ABORTED));
}

#[test]
fn data_before_the_session_is_a_violation() {
    let mut before_any = Rig::connected();
    before_any.header(MessageType::Data, 1, 0);
    assert_violated(before_any, "no session");
    let mut before_ours = Rig::connected();
    before_ours.session(10, &[], 0);
    before_ours.pull();
    before_ours.header(MessageType::Data, 1, 0);
    assert_violated(before_ours, "only the peer's session");
    let mut credit = Rig::connected();
    credit.header(MessageType::Credit, 0, 1);
    assert_violated(credit, "credit before the session");
}

#[test]
fn a_second_session_is_a_violation() {
    let mut rig = Rig::in_session(0, 0);
    rig.header(MessageType::Session, 8, 0);
    assert_violated(rig, "second session");
}

#[test]
fn data_without_a_credit_or_longer_than_this_side_takes_is_a_violation() {
    let mut without = Rig::in_session(1, 0);
    without.data(10);
    without.pull();
    without.header(MessageType::Data, 10, 0);
    assert_violated(without, "no credit");
    let mut long = Rig::in_session(1, 0);
    long.header(MessageType::Data, 101, 0);
    assert_violated(long, "too long");
}

#[test]
fn credits_past_the_most_there_may_be_are_a_violation() {
    let mut rig = Rig::in_session(0, MAX_CREDITS);
    rig.header(MessageType::Credit, 0, 1);
    assert_violated(rig, "too many credits");
    let mut by_data = Rig::in_session(1, MAX_CREDITS);
    by_data.header(MessageType::Data, 0, 1);
    assert_violated(by_data, "too many credits, by data");
}

#[test]
fn garbage_another_version_and_hand_shake_messages_are_violations() {
    let mut garbage = Rig::in_session(0, 0);
    garbage.endpoint.header_received(Ok([0xAA; HEADER_SIZE]));
    assert_violated(garbage, "garbage");
    for message in [MessageType::Accept, MessageType::Reject, MessageType::ConnectRequest] {
        let mut rig = Rig::in_session(0, 0);
        let length = match message {
            MessageType::Reject => 4,
            MessageType::ConnectRequest => 40,
            _ => 0,
        };
        rig.header(message, length, 0);
        assert_violated(rig, "hand-shake again");
    }
    let mut reserved = Rig::connected();
    let mut message = ControlMessage::session(&SessionOffer { receive_size: 1, private: &[] }, 0).unwrap();
    message.bytes[HEADER_SIZE + 4] = 1;
    reserved.message(&message);
    assert_violated(reserved, "a reserved field");
}

#[test]
fn a_violation_ends_every_request_with_its_error() {
    let mut rig = Rig::in_session(1, 0);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.receive_registered(101, 7, 0, 100).unwrap();
    rig.header(MessageType::Accept, 0, 0);
    let mut expected = vec!["100", "101", "50"]
        .into_iter()
        .map(|waiter| format!("{waiter}: STATUS_INVALID_NETWORK_RESPONSE"))
        .collect::<Vec<_>>();
    expected.push("close".into());
    // The credit for 101 had not gone.
    assert_eq!(rig.pull(), expected);
    rig.endpoint.closed();
    assert_eq!(rig.close(), ["3: STATUS_CANCELLED"]);
}

#[test]
fn sends_come_back_in_any_order() {
    let mut rig = Rig::in_session(0, 9);
    for waiter in 50..53 {
        rig.endpoint.send(waiter, slice(waiter)).unwrap();
    }
    rig.pull();
    let last = rig.sending.pop_back().unwrap();
    rig.endpoint.sent(last, Ok(()));
    let is_waiter = |send: &Sending<u32>| send.waiter == 50;
    assert!(rig.sending.front().is_some_and(is_waiter));
    rig.sent(Ok(()));
    rig.sent(Ok(()));
    assert_eq!(rig.pull(), ["52: 52 bytes", "50: 50 bytes", "51: 51 bytes"]);
    let statistics = rig.endpoint.statistics();
    assert_eq!((statistics.messages_sent, statistics.bytes_sent, statistics.sends_queued), (3, 153, 0));
    assert_eq!(statistics.send_credits, 6);
}
