//! Registered memory.

use crate::rig::{Rig, slice};
use san_core::san::{Right, Slice, State};
use san_protocol::wire::MessageType;
use san_protocol::{MEMORY_RECEIVE, MEMORY_SEND, MemoryReply, NtStatus};

const INVALID: NtStatus = NtStatus::INVALID_PARAMETER;
const VIOLATION: NtStatus = NtStatus::ACCESS_VIOLATION;

#[test]
fn a_region_needs_a_new_key_a_length_and_known_rights() {
    let mut rig = Rig::with_memory();
    for (key, length, rights) in [(7, 10, MEMORY_SEND), (8, 0, MEMORY_SEND), (8, 10, 0), (8, 10, 4), (8, 10, 7)] {
        let refused = rig.endpoint.register(50, key, "memory", length, rights);
        assert_eq!(refused, Err((50, INVALID)), "key {key}, {length} bytes, rights {rights}");
    }
    for key in 0..3 {
        rig.endpoint.register(50, key, "memory", 10, MEMORY_SEND).unwrap();
    }
    assert_eq!(rig.endpoint.register(60, 9, "memory", 10, MEMORY_SEND), Err((60, NtStatus::INSUFFICIENT_RESOURCES)));
    assert_eq!(rig.endpoint.statistics().pinned_bytes, 1030);
}

#[test]
fn a_slice_lies_inside_its_region_and_has_its_right() {
    let mut rig = Rig::connected();
    rig.endpoint.register(3, 1, "to send", 100, MEMORY_SEND).unwrap();
    rig.endpoint.register(4, 2, "to receive", 100, MEMORY_RECEIVE).unwrap();
    let whole = Slice { memory: "to send", offset: 0, length: 100 };
    assert_eq!(rig.endpoint.slice(1, 0, 100, Right::Send), Ok(whole));
    for (key, offset, length, right, status) in [
        (1, 0, 101, Right::Send, VIOLATION),
        (1, 100, 1, Right::Send, VIOLATION),
        (1, u64::MAX, 1, Right::Send, VIOLATION),
        (1, u64::MAX - 3, 4, Right::Send, VIOLATION),
        (1, 0, 10, Right::Receive, VIOLATION),
        (2, 0, 10, Right::Send, VIOLATION),
        (2, 0, 0, Right::Receive, INVALID),
        (1, 0, 0, Right::Send, INVALID),
        (9, 0, 1, Right::Send, INVALID),
    ] {
        let slice = rig.endpoint.slice(key, offset, length, right);
        assert_eq!(slice, Err(status), "key {key}, {length} bytes at {offset}, to {right:?}");
    }
    assert_eq!(rig.endpoint.receive_registered(50, 1, 0, 10), Err((50, VIOLATION)), "read-only");
}

#[test]
fn a_region_that_nothing_uses_is_deregistered_at_once() {
    let mut rig = Rig::with_memory();
    assert_eq!(rig.endpoint.deregister(50, 8), Err((50, INVALID)));
    rig.endpoint.deregister(50, 7).unwrap();
    assert_eq!(rig.pull(), ["3: done", "50: done"], "the registration first");
    assert_eq!(rig.endpoint.deregister(51, 7), Err((51, INVALID)), "twice");
    assert_eq!(rig.endpoint.query_memory(7), Err(INVALID));
}

#[test]
fn deregistering_waits_for_sends_queued_and_in_flight_and_receives_posted_and_filling() {
    let mut rig = Rig::in_session(2, 1);
    rig.endpoint.send_registered(50, 7, 0, 10).unwrap();
    rig.endpoint.send_registered(51, 7, 0, 10).unwrap();
    assert_eq!(rig.endpoint.query_memory(7), Ok(MemoryReply { length: 1000, rights: 3, in_use: 4 }));
    rig.header(MessageType::Data, 10, 0);
    assert_eq!(rig.pull(), ["send 10 bytes of seven for 50", "receive payload of 10 into seven at 0"]);
    rig.endpoint.deregister(60, 7).unwrap();
    assert_eq!(rig.endpoint.deregister(61, 7), Err((61, INVALID)), "it is being deregistered");
    assert_eq!(rig.endpoint.send_registered(62, 7, 0, 10), Err((62, INVALID)), "no new use");
    assert_eq!(rig.endpoint.receive_registered(62, 7, 0, 100), Err((62, INVALID)), "no new use");
    rig.endpoint.payload_received(Ok(()));
    rig.sent(Ok(()));
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 51), Some(51));
    assert_eq!(rig.pull(), ["100: 10 bytes", "50: 10 bytes", "receive header"]);
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 101), Some(101));
    assert_eq!(rig.pull(), ["3: done", "60: done"]);
    assert_eq!(rig.endpoint.statistics().regions, 0);
}

#[test]
fn a_cancelled_deregistration_has_never_been() {
    let mut rig = Rig::in_session(1, 0);
    rig.endpoint.deregister(60, 7).unwrap();
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 60), Some(60));
    rig.endpoint.receive_registered(61, 7, 0, 100).unwrap();
}

#[test]
fn a_revoked_region_that_nothing_uses_comes_back() {
    let mut rig = Rig::with_memory();
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 3), Some(3));
    assert_eq!(rig.pull(), [""; 0]);
    assert_eq!(rig.endpoint.state(), State::Connected);
}

#[test]
fn revoking_a_region_cancels_what_waits_with_it() {
    let mut rig = Rig::in_session(2, 0);
    rig.endpoint.send_registered(50, 7, 0, 10).unwrap();
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 3), None);
    let cancelled = ["50", "100", "101", "3"].map(|waiter| format!("{waiter}: STATUS_CANCELLED"));
    assert_eq!(rig.pull(), cancelled);
    assert_eq!(rig.endpoint.state(), State::Connected, "nothing of it was on the wire");
}

#[test]
fn revoking_a_region_on_the_wire_aborts_the_connection() {
    let mut sending = Rig::in_session(0, 1);
    sending.endpoint.send_registered(50, 7, 0, 10).unwrap();
    sending.pull();
    assert_eq!(sending.endpoint.cancel(|&waiter| waiter == 3), None);
    assert_eq!(sending.pull(), ["close"]);
    sending.endpoint.closed();
    assert_eq!(sending.pull(), [""; 0], "the memory is still in use");
    sending.sent(Err(NtStatus::CONNECTION_ABORTED));
    assert_eq!(sending.pull(), ["50: STATUS_CONNECTION_ABORTED", "3: STATUS_CANCELLED"]);

    let mut filling = Rig::in_session(1, 0);
    filling.header(MessageType::Data, 10, 0);
    filling.pull();
    filling.endpoint.deregister(60, 7).unwrap();
    assert_eq!(filling.endpoint.cancel(|&waiter| waiter == 3), None);
    assert_eq!(filling.pull(), ["close"]);
    filling.endpoint.payload_received(Err(NtStatus::CONNECTION_ABORTED));
    let expected = ["100: STATUS_CONNECTION_ABORTED", "3: STATUS_CANCELLED", "60: done"];
    assert_eq!(filling.pull(), expected);
}

#[test]
fn registrations_outlive_the_connection_and_can_be_ended_after_it() {
    let mut rig = Rig::in_session(1, 0);
    rig.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
    assert_eq!(rig.pull(), ["100: STATUS_CONNECTION_RESET", "close"]);
    assert_eq!(rig.endpoint.register(50, 8, "memory", 1, 1), Err((50, NtStatus::CONNECTION_RESET)));
    rig.endpoint.deregister(60, 7).unwrap();
    assert_eq!(rig.pull(), ["3: done", "60: done"]);
}

#[test]
fn closing_cancels_registrations_last_when_nothing_uses_their_memory() {
    let mut rig = Rig::in_session(2, 1);
    rig.endpoint.send_registered(50, 7, 0, 10).unwrap();
    rig.endpoint.send_registered(51, 7, 0, 10).unwrap();
    rig.header(MessageType::Data, 10, 0);
    rig.pull();
    rig.endpoint.close();
    rig.endpoint.close();
    assert_eq!(rig.pull(), ["51: STATUS_CANCELLED", "close"]);
    assert_eq!(rig.endpoint.deregister(60, 7), Err((60, NtStatus::INVALID_HANDLE)));
    rig.endpoint.closed();
    assert_eq!(rig.pull(), [""; 0]);
    rig.endpoint.payload_received(Err(NtStatus::CONNECTION_ABORTED));
    assert_eq!(rig.pull(), ["100: STATUS_CANCELLED", "101: STATUS_CANCELLED"]);
    assert!(!rig.endpoint.is_finished());
    rig.sent(Err(NtStatus::CONNECTION_ABORTED));
    assert_eq!(rig.pull(), ["50: STATUS_CANCELLED", "3: STATUS_CANCELLED"]);
    assert!(rig.endpoint.is_finished());
}

#[test]
fn closing_gives_no_registration_back_while_any_send_is_in_flight() {
    let mut rig = Rig::in_session(0, 1);
    rig.endpoint.send(50, slice(3)).unwrap();
    rig.pull();
    rig.endpoint.close();
    rig.pull();
    rig.close_socket();
    assert_eq!(rig.pull(), [""; 0]);
    rig.sent(Ok(()));
    assert_eq!(rig.pull(), ["50: 3 bytes", "3: STATUS_CANCELLED"]);
}
