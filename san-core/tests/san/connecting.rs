//! Bind, connect and listen: what an endpoint admits, and what its connect ends with.

use crate::rig::{Rig, address, local, mapped, remote};
use san_core::address_map::Reach;
use san_core::backlog::Backlog;
use san_core::connect_failure::ConnectFailure;
use san_core::san::{EventChange, IllegalTransition, Incident, NetworkEvents, State};
use san_protocol::wire::{ControlMessage, MessageType, RejectReason};
use san_protocol::{FD_ACCEPT, FD_CONNECT, NtStatus};

/// An endpoint in each state that a user can meet.
fn every_state() -> Vec<(Rig, State)> {
    let mut disconnecting = Rig::connected();
    disconnecting.endpoint.disconnect(9, false).unwrap();
    let mut ended = Rig::connected();
    ended.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
    let mut closing = Rig::connected();
    closing.endpoint.close();
    let mut rejecting = Rig::undecided();
    rejecting.endpoint.decide(false).unwrap();
    vec![
        (Rig::new(), State::Idle),
        (Rig::bound(), State::Bound),
        (Rig::listening(1), State::Listening),
        (Rig::connecting(Reach::AlsoTcp), State::Connecting),
        (Rig::undecided(), State::Undecided),
        (Rig::connected(), State::Connected),
        (disconnecting, State::Disconnecting),
        (ended, State::Ended(NtStatus::CONNECTION_RESET)),
        (rejecting, State::Rejecting),
        (closing, State::Closing),
    ]
}

/// What a request gets in each state, in the order of [`every_state`]; `None`: it is admitted.
fn expect(
    operation: &str,
    expected: [Option<NtStatus>; 10],
    mut request: impl FnMut(&mut Rig) -> Result<(), NtStatus>,
) {
    for ((mut rig, state), expected) in every_state().into_iter().zip(expected) {
        assert_eq!(rig.endpoint.state(), state);
        rig.pull();
        assert_eq!(request(&mut rig), expected.map_or(Ok(()), Err), "{operation} in {state:?}");
        if expected.is_some() {
            assert_eq!(rig.endpoint.state(), state, "a refused {operation} changes nothing");
            assert_eq!(rig.pull(), [""; 0], "a refused {operation} does nothing");
        }
    }
}

const INVALID: Option<NtStatus> = Some(NtStatus::INVALID_PARAMETER);
const NOT_CONNECTED: Option<NtStatus> = Some(NtStatus::INVALID_CONNECTION);
const BUSY: Option<NtStatus> = Some(NtStatus::DEVICE_BUSY);
const ACTIVE: Option<NtStatus> = Some(NtStatus::CONNECTION_ACTIVE);
const RESET: Option<NtStatus> = Some(NtStatus::CONNECTION_RESET);
const CLOSED: Option<NtStatus> = Some(NtStatus::INVALID_HANDLE);

#[test]
fn every_request_is_admitted_or_refused_by_the_state_it_meets() {
    let bind = [None, INVALID, INVALID, INVALID, INVALID, INVALID, INVALID, RESET, CLOSED, CLOSED];
    expect("bind", bind, |rig| rig.endpoint.bind(50, local(), None).map_err(|(_, status)| status));
    let connect = [INVALID, None, INVALID, BUSY, ACTIVE, ACTIVE, ACTIVE, RESET, CLOSED, CLOSED];
    expect("connect", connect, |rig| {
        rig.endpoint.connect(50, remote(), mapped(Reach::AlsoTcp), 0).map_err(|(_, status)| status)
    });
    let listen = [INVALID, None, INVALID, BUSY, ACTIVE, ACTIVE, ACTIVE, RESET, CLOSED, CLOSED];
    expect("listen", listen, |rig| rig.endpoint.listen(Backlog::new(1).unwrap()).map_err(|(status, _)| status));
    let accept = [INVALID, INVALID, None, INVALID, INVALID, INVALID, INVALID, INVALID, CLOSED, CLOSED];
    expect("accept", accept, |rig| rig.endpoint.accept(50).map(drop).map_err(|(_, status)| status));
    let decide = [INVALID, INVALID, INVALID, INVALID, None, INVALID, INVALID, RESET, CLOSED, CLOSED];
    for accept in [true, false] {
        expect("decide", decide, |rig| rig.endpoint.decide(accept));
    }
    let on_connection =
        [NOT_CONNECTED, NOT_CONNECTED, NOT_CONNECTED, NOT_CONNECTED, NOT_CONNECTED, None, None, RESET, CLOSED, CLOSED];
    expect("register", on_connection, |rig| {
        rig.endpoint.register(50, 1, "memory", 10, 3).map_err(|(_, status)| status)
    });
    let mut with = on_connection;
    with[6] = Some(NtStatus::GRACEFUL_DISCONNECT);
    expect("negotiate", with, |rig| rig.endpoint.negotiate(50, &[], 10).map_err(|(_, status)| status));
    // No session stands.
    with[5] = NOT_CONNECTED;
    expect("send", with, |rig| rig.endpoint.send(50, crate::rig::slice(1)).map_err(|(_, status)| status));
    // No region is registered.
    (with[5], with[6]) = (INVALID, INVALID);
    expect("receive", with, |rig| rig.endpoint.receive_registered(50, 1, 0, 1).map_err(|(_, status)| status));
    let mut disconnect = on_connection;
    expect("abort", disconnect, |rig| rig.endpoint.disconnect(50, true).map_err(|(_, status)| status));
    disconnect[6] = BUSY;
    expect("disconnect", disconnect, |rig| rig.endpoint.disconnect(50, false).map_err(|(_, status)| status));
    let select = [None, None, None, None, None, None, None, None, CLOSED, CLOSED];
    expect("event select", select, |rig| rig.endpoint.event_select(FD_CONNECT));
}

#[test]
fn an_illegal_transition_names_both_states() {
    let illegal = State::Listening.may_become(State::Connecting).unwrap_err();
    assert_eq!(illegal, IllegalTransition { from: State::Listening, to: State::Connecting });
    assert_eq!(illegal.to_string(), "an endpoint that is listening cannot become one that is connecting");
}

#[test]
fn an_endpoint_at_the_wildcard_does_not_connect() {
    let mut rig = Rig::new();
    rig.endpoint.bind(1, address("0.0.0.0:80"), None).unwrap();
    let refused = rig.endpoint.connect(2, remote(), mapped(Reach::SanOnly), 0);
    assert_eq!(refused, Err((2, NtStatus::INVALID_ADDRESS_COMPONENT)));
}

#[test]
fn nobody_can_be_reached_at_port_0_the_wildcard_a_multicast_address_or_in_another_family() {
    let mut rig = Rig::bound();
    for (target, status) in [
        ("10.0.0.2:0", NtStatus::INVALID_ADDRESS_COMPONENT),
        ("0.0.0.0:80", NtStatus::INVALID_ADDRESS_COMPONENT),
        ("224.0.0.1:80", NtStatus::INVALID_ADDRESS_COMPONENT),
        ("[::1]:80", NtStatus::INVALID_PARAMETER),
    ] {
        let refused = rig.endpoint.connect(2, address(target), mapped(Reach::AlsoTcp), 0);
        assert_eq!(refused, Err((2, status)), "{target}");
    }
}

#[test]
fn without_a_route_the_network_is_unreachable() {
    let mut rig = Rig::bound();
    assert_eq!(rig.endpoint.connect(2, remote(), None, 0), Err((2, NtStatus::NETWORK_UNREACHABLE)));
    assert_eq!(rig.endpoint.state(), State::Bound);
}

#[test]
fn a_connect_ends_when_the_peer_accepts() {
    let rig = Rig::connected();
    assert_eq!(rig.endpoint.state(), State::Connected);
    assert_eq!((rig.endpoint.local(), rig.endpoint.remote()), (Some(local()), Some(remote())));
}

#[test]
fn every_reason_to_reject_becomes_its_error() {
    for (reason, also_tcp, san_only) in [
        (RejectReason::NobodyListens, "IO_TIMEOUT", "CONNECTION_RESET"),
        (RejectReason::BacklogFull, "CONNECTION_REFUSED", "CONNECTION_REFUSED"),
        (RejectReason::Refused, "CONNECTION_REFUSED", "CONNECTION_REFUSED"),
        (RejectReason::NoSuchAddress, "IO_TIMEOUT", "HOST_UNREACHABLE"),
        (RejectReason::Busy, "IO_TIMEOUT", "IO_TIMEOUT"),
        (RejectReason::Version, "IO_TIMEOUT", "IO_TIMEOUT"),
    ] {
        for (reach, expected) in [(Reach::AlsoTcp, also_tcp), (Reach::SanOnly, san_only)] {
            let mut rig = Rig::requesting(reach);
            rig.message(&ControlMessage::reject(reason));
            assert_eq!(rig.pull(), [format!("2: STATUS_{expected}"), "stop timer".into(), "close".into()]);
            let failure = ConnectFailure::from(reason);
            let told = Incident::ConnectFailed(failure, failure.status(reach));
            assert_eq!(rig.endpoint.take_incident(), Some(told));
            rig.endpoint.closed();
            rig.close();
        }
    }
}

#[test]
fn a_native_connect_that_fails_becomes_its_error() {
    let mut rig = Rig::connecting(Reach::SanOnly);
    rig.endpoint.connected(Err(NtStatus::CONNECTION_REFUSED));
    assert_eq!(rig.pull(), ["2: STATUS_CONNECTION_RESET", "stop timer", "close"]);
    assert_eq!(
        rig.endpoint.connect(5, remote(), mapped(Reach::SanOnly), 0),
        Err((5, NtStatus::CONNECTION_RESET)),
        "a failed connect ends the endpoint"
    );
    rig.endpoint.closed();
    rig.close();
}

#[test]
fn a_socket_that_cannot_be_opened_ends_the_connect_and_needs_no_close() {
    let mut rig = Rig::bound();
    rig.endpoint.connect(2, remote(), mapped(Reach::AlsoTcp), 300).unwrap();
    assert_eq!(rig.pull(), ["start timer 300", "open 192.168.0.1:0"]);
    rig.endpoint.opened(Err(NtStatus::DEVICE_NOT_READY));
    assert_eq!(rig.pull(), ["2: STATUS_DEVICE_NOT_READY", "stop timer"]);
    assert_eq!(rig.close(), [""; 0]);
}

#[test]
fn a_connect_times_out_at_every_point() {
    let mut opening = Rig::bound();
    opening.endpoint.connect(2, remote(), mapped(Reach::SanOnly), 0).unwrap();
    opening.pull();
    opening.endpoint.timer_expired();
    assert_eq!(opening.pull(), ["2: STATUS_IO_TIMEOUT"]);
    opening.endpoint.opened(Ok(()));
    assert_eq!(opening.pull(), ["close"], "the socket came too late");
    opening.endpoint.closed();
    opening.close();

    let mut connecting = Rig::connecting(Reach::SanOnly);
    connecting.endpoint.timer_expired();
    assert_eq!(connecting.pull(), ["2: STATUS_IO_TIMEOUT", "close"]);
    connecting.endpoint.connected(Err(NtStatus::CANCELLED));
    connecting.endpoint.closed();
    connecting.close();

    let mut requesting = Rig::requesting(Reach::SanOnly);
    requesting.endpoint.timer_expired();
    assert_eq!(requesting.pull(), ["2: STATUS_IO_TIMEOUT", "close"]);
    assert_eq!(
        requesting.endpoint.take_incident(),
        Some(Incident::ConnectFailed(ConnectFailure::TimedOut, NtStatus::IO_TIMEOUT))
    );
    requesting.close_socket();
    requesting.close();
}

#[test]
fn a_timer_that_fires_after_the_answer_changes_nothing() {
    let mut rig = Rig::requesting(Reach::SanOnly);
    rig.header(MessageType::Accept, 0, 0);
    rig.endpoint.timer_expired();
    assert_eq!(rig.pull(), ["2: done", "stop timer", "receive header"]);
    rig.endpoint.timer_expired();
    assert_eq!(rig.pull(), [""; 0]);
    assert_eq!(rig.endpoint.state(), State::Connected);
}

#[test]
fn a_peer_that_vanishes_or_answers_anything_else_leaves_a_doubt() {
    let answers = [
        MessageType::ConnectRequest,
        MessageType::Session,
        MessageType::Data,
        MessageType::Credit,
        MessageType::Goodbye,
    ];
    for answer in answers {
        let mut rig = Rig::requesting(Reach::SanOnly);
        let length = match answer {
            MessageType::ConnectRequest => 40,
            MessageType::Session => 8,
            _ => 0,
        };
        rig.header(answer, length, u32::from(answer == MessageType::Credit));
        assert_eq!(rig.pull(), ["2: STATUS_IO_TIMEOUT", "stop timer", "close"], "{answer:?}");
    }
    let mut garbage = Rig::requesting(Reach::SanOnly);
    garbage.endpoint.header_received(Ok(*b"HTTP/1.1 400 Bad"));
    assert_eq!(garbage.pull(), ["2: STATUS_IO_TIMEOUT", "stop timer", "close"]);
    assert_eq!(
        garbage.endpoint.take_incident(),
        Some(Incident::ConnectFailed(ConnectFailure::Violation, NtStatus::IO_TIMEOUT))
    );
    let mut gone = Rig::requesting(Reach::SanOnly);
    gone.endpoint.header_received(Err(NtStatus::CONNECTION_RESET));
    assert_eq!(gone.pull(), ["2: STATUS_IO_TIMEOUT", "stop timer", "close"]);
}

#[test]
fn with_fd_connect_selected_a_connect_does_not_wait_and_its_result_is_an_event() {
    for accepts in [true, false] {
        let mut rig = Rig::bound();
        rig.endpoint.event_select(FD_CONNECT).unwrap();
        rig.endpoint.connect(2, remote(), mapped(Reach::AlsoTcp), 0).unwrap();
        assert_eq!(rig.pull(), ["2: STATUS_CANT_WAIT", "start timer 20000", "open 192.168.0.1:0"]);
        rig.endpoint.opened(Ok(()));
        rig.pull();
        rig.endpoint.connected(Ok(()));
        rig.pull();
        rig.endpoint.control_sent(Ok(()));
        assert_eq!(rig.endpoint.take_event_change(), None);
        let status = if accepts {
            rig.header(MessageType::Accept, 0, 0);
            NtStatus::SUCCESS
        } else {
            rig.message(&ControlMessage::reject(RejectReason::BacklogFull));
            NtStatus::CONNECTION_REFUSED
        };
        assert_eq!(rig.endpoint.take_event_change(), Some(EventChange::Set));
        let expected = NetworkEvents { events: FD_CONNECT, connect: status, accept: NtStatus::SUCCESS };
        assert_eq!(rig.endpoint.enum_network_events(), expected);
        assert_eq!(rig.endpoint.take_event_change(), Some(EventChange::Reset));
    }
}

#[test]
fn a_connect_that_waits_records_fd_connect_only_if_it_is_selected_by_then() {
    let mut rig = Rig::requesting(Reach::AlsoTcp);
    rig.endpoint.event_select(FD_CONNECT | FD_ACCEPT).unwrap();
    rig.header(MessageType::Accept, 0, 0);
    assert_eq!(rig.pull(), ["2: done", "stop timer", "receive header"]);
    assert_eq!(rig.endpoint.enum_network_events().events, FD_CONNECT);
}

#[test]
fn a_cancelled_connect_comes_back_at_once_and_ends_the_endpoint() {
    let mut rig = Rig::connecting(Reach::AlsoTcp);
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 2), Some(2));
    assert_eq!(rig.endpoint.cancel(|&waiter| waiter == 2), None);
    assert_eq!(rig.pull(), ["stop timer", "close"]);
    rig.endpoint.connected(Err(NtStatus::CANCELLED));
    rig.endpoint.closed();
    assert_eq!(rig.close(), [""; 0]);
}

#[test]
fn closing_during_a_connect_frees_everything_at_every_point() {
    let mut opening = Rig::bound();
    opening.endpoint.connect(2, remote(), mapped(Reach::AlsoTcp), 0).unwrap();
    opening.pull();
    opening.endpoint.close();
    assert_eq!(opening.pull(), ["2: STATUS_CANCELLED", "stop timer"]);
    opening.endpoint.opened(Ok(()));
    assert_eq!(opening.pull(), ["close"]);
    opening.endpoint.closed();
    assert!(opening.endpoint.is_finished());

    let mut connecting = Rig::connecting(Reach::AlsoTcp);
    connecting.endpoint.close();
    assert_eq!(connecting.pull(), ["2: STATUS_CANCELLED", "stop timer", "close"]);
    connecting.endpoint.closed();
    assert!(!connecting.endpoint.is_finished(), "the connect's answer is to come");
    connecting.endpoint.connected(Ok(()));
    assert!(connecting.endpoint.is_finished());

    let mut requesting = Rig::requesting(Reach::AlsoTcp);
    assert_eq!(requesting.close(), ["2: STATUS_CANCELLED", "stop timer", "close"]);
}
