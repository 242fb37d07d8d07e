//! Disconnect, the peer's end, close.

use crate::rig::{Rig, slice};
use san_core::san::State;
use san_protocol::NtStatus;
use san_protocol::wire::MessageType;

const GRACEFUL: State = State::Ended(NtStatus::GRACEFUL_DISCONNECT);

#[test]
fn a_graceful_disconnect_sends_what_was_queued_then_goodbye_and_waits_for_the_peers() {
    let mut rig = Rig::in_session(1, 1);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.send(51, slice(3)).unwrap();
    rig.endpoint.disconnect(60, false).unwrap();
    assert_eq!(rig.endpoint.send(52, slice(3)), Err((52, NtStatus::GRACEFUL_DISCONNECT)));
    assert_eq!(rig.pull(), ["send 3 bytes of small for 50"], "no goodbye while a send waits");
    rig.header(MessageType::Credit, 0, 5);
    assert_eq!(rig.pull(), ["send 3 bytes of small for 51", "send Goodbye", "receive header"]);
    rig.sent(Ok(()));
    rig.sent(Ok(()));
    rig.endpoint.control_sent(Ok(()));
    assert_eq!(rig.pull(), ["50: 3 bytes", "51: 3 bytes"]);
    rig.data(10);
    assert_eq!(rig.pull(), ["100: 10 bytes", "receive header"], "the peer may go on");
    rig.endpoint.receive_registered(101, 7, 0, 100).unwrap();
    assert_eq!(rig.pull(), [""; 0], "the goodbye was the last word: no credit follows it");
    rig.header(MessageType::Goodbye, 0, 0);
    assert_eq!(rig.pull(), ["101: STATUS_GRACEFUL_DISCONNECT", "60: done", "disconnect"]);
    rig.endpoint.disconnected();
    assert_eq!(rig.pull(), ["close"]);
    rig.endpoint.closed();
    assert_eq!(rig.endpoint.state(), GRACEFUL);
    assert_eq!(rig.close(), ["3: STATUS_CANCELLED"]);
}

#[test]
fn a_goodbye_fails_what_waits_and_is_answered_when_the_sends_in_flight_are_done() {
    let mut rig = Rig::in_session(1, 1);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.send(51, slice(3)).unwrap();
    rig.pull();
    rig.header(MessageType::Goodbye, 0, 0);
    assert_eq!(rig.pull(), ["100: STATUS_GRACEFUL_DISCONNECT", "51: STATUS_GRACEFUL_DISCONNECT"]);
    assert_eq!(rig.endpoint.state(), GRACEFUL);
    assert_eq!(rig.endpoint.send(52, slice(3)), Err((52, NtStatus::GRACEFUL_DISCONNECT)));
    assert_eq!(rig.endpoint.register(53, 8, "memory", 1, 1), Err((53, NtStatus::GRACEFUL_DISCONNECT)));
    rig.sent(Ok(()));
    assert_eq!(rig.pull(), ["50: 3 bytes", "send Goodbye"]);
    rig.endpoint.control_sent(Ok(()));
    assert_eq!(rig.pull(), ["disconnect"]);
    rig.endpoint.disconnected();
    assert_eq!(rig.pull(), ["close"]);
    rig.endpoint.closed();
    assert_eq!(rig.close(), ["3: STATUS_CANCELLED"]);
}

#[test]
fn two_goodbyes_that_cross_end_both_sides() {
    let mut rig = Rig::connected();
    rig.endpoint.disconnect(60, false).unwrap();
    assert_eq!(rig.pull(), ["send Goodbye"]);
    rig.header(MessageType::Goodbye, 0, 0);
    assert_eq!(rig.pull(), ["60: done"], "its own goodbye is on its way");
    rig.endpoint.control_sent(Ok(()));
    assert_eq!(rig.pull(), ["disconnect"]);
    rig.endpoint.disconnected();
    assert_eq!(rig.pull(), ["close"]);
}

#[test]
fn the_connection_is_not_disconnected_before_the_sends_in_flight_are_back() {
    let mut rig = Rig::in_session(0, 1);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.disconnect(60, false).unwrap();
    assert_eq!(rig.pull(), ["send 3 bytes of small for 50", "send Goodbye"]);
    rig.endpoint.control_sent(Ok(()));
    rig.header(MessageType::Goodbye, 0, 0);
    assert_eq!(rig.pull(), ["60: done"]);
    rig.sent(Ok(()));
    assert_eq!(rig.pull(), ["50: 3 bytes", "disconnect"]);
}

#[test]
fn a_goodbye_that_comes_while_this_side_wants_to_disconnect_is_answered() {
    let mut rig = Rig::in_session(0, 0);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.disconnect(60, false).unwrap();
    rig.header(MessageType::Goodbye, 0, 0);
    assert_eq!(rig.pull(), ["50: STATUS_GRACEFUL_DISCONNECT", "60: done", "send Goodbye"]);
}

#[test]
fn an_end_of_the_connection_without_goodbye_is_a_reset() {
    let mut rig = Rig::in_session(1, 0);
    rig.endpoint.negotiate(40, &[], 1).unwrap_err();
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.disconnect(60, false).unwrap();
    rig.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
    let reset = ["100", "50", "60"].map(|waiter| format!("{waiter}: STATUS_CONNECTION_RESET"));
    let texts = rig.pull();
    assert_eq!(texts[..3], reset);
    assert_eq!(texts[3..], ["close"]);
    assert_eq!(rig.endpoint.send(51, slice(3)), Err((51, NtStatus::CONNECTION_RESET)));
}

#[test]
fn an_end_of_the_connection_after_this_sides_goodbye_is_graceful() {
    let mut rig = Rig::connected();
    rig.endpoint.disconnect(60, false).unwrap();
    rig.pull();
    rig.endpoint.control_sent(Ok(()));
    rig.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
    assert_eq!(rig.pull(), ["60: done", "close"]);
    assert_eq!(rig.endpoint.state(), GRACEFUL);
}

#[test]
fn a_negotiation_that_waits_hears_of_the_end() {
    for (goodbye, status) in [(true, "GRACEFUL_DISCONNECT"), (false, "CONNECTION_RESET")] {
        let mut rig = Rig::connected();
        rig.endpoint.negotiate(4, &[], 10).unwrap();
        rig.pull();
        rig.endpoint.control_sent(Ok(()));
        if goodbye {
            rig.header(MessageType::Goodbye, 0, 0);
        } else {
            rig.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
        }
        assert_eq!(rig.pull().first(), Some(&format!("4: STATUS_{status}")));
    }
}

#[test]
fn an_abortive_disconnect_ends_everything_here_and_waits_for_the_socket() {
    let mut rig = Rig::in_session(1, 0);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.disconnect(60, false).unwrap();
    assert_eq!(rig.endpoint.disconnect(61, false), Err((61, NtStatus::DEVICE_BUSY)));
    rig.endpoint.disconnect(62, true).unwrap();
    let aborted = ["100", "50", "60"].map(|waiter| format!("{waiter}: STATUS_CONNECTION_ABORTED"));
    let texts = rig.pull();
    assert_eq!(texts[..3], aborted);
    assert_eq!(texts[3..], ["close"]);
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 62), None);
    rig.close_socket();
    assert_eq!(rig.pull(), ["62: done"]);
    assert_eq!(rig.endpoint.send(51, slice(3)), Err((51, NtStatus::CONNECTION_ABORTED)));
}

#[test]
fn a_cancelled_disconnect_has_never_been_unless_the_goodbye_is_out() {
    let mut rig = Rig::in_session(0, 0);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.disconnect(60, false).unwrap();
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 60), Some(60));
    assert_eq!(rig.endpoint.state(), State::Connected);
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 50), Some(50));
    rig.endpoint.disconnect(61, false).unwrap();
    assert_eq!(rig.pull(), ["send Goodbye"]);
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 61), Some(61));
    assert_eq!(rig.endpoint.state(), State::Disconnecting);
    assert_eq!(rig.endpoint.send(51, slice(3)), Err((51, NtStatus::GRACEFUL_DISCONNECT)));
}

#[test]
fn nothing_goes_to_the_network_after_close() {
    let mut rig = Rig::in_session(1, 1);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.endpoint.close();
    assert_eq!(rig.pull(), ["100: STATUS_CANCELLED", "50: STATUS_CANCELLED", "close"]);
    rig.header(MessageType::Credit, 0, 4);
    rig.endpoint.timer_expired();
    rig.endpoint.disconnected();
    assert_eq!(rig.pull(), [""; 0]);
}

#[test]
fn a_message_that_had_come_whole_when_the_endpoint_closed_is_delivered() {
    let mut rig = Rig::in_session(1, 0);
    rig.header(MessageType::Data, 10, 0);
    rig.pull();
    rig.endpoint.close();
    assert_eq!(rig.pull(), ["close"]);
    rig.endpoint.payload_received(Ok(()));
    rig.endpoint.closed();
    assert_eq!(rig.pull(), ["100: 10 bytes", "3: STATUS_CANCELLED"]);
    assert!(rig.endpoint.is_finished());
}

#[test]
fn closing_an_endpoint_that_never_was_anything_leaves_nothing() {
    assert_eq!(Rig::new().close(), [""; 0]);
    assert_eq!(Rig::bound().close(), [""; 0]);
    assert_eq!(Rig::listening(3).close(), [""; 0]);
    assert_eq!(Rig::undecided().close(), ["close"]);
    assert_eq!(Rig::connected().close(), ["close"]);
}
