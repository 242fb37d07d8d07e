//! `docs/san.md`, row by row: whether the scenarios that it names are there, and those that no other module has.

use super::support::{Receiver, bed, bound, listening, outcome, session};
use super::wire_peer::{FOREIGN, Neighbours, Role};
use crate::support::{MOMENT, PATIENCE, status};
use san_protocol::wire::{ControlMessage, MessageType};
use san_protocol::{ControlCode, Header, ReceiveReply, TransferRequest};
use san_proxy::{
    Backlog, Completed, DeviceRequest, EventRecord, Incomplete, Memory, MemoryRights, NetworkEvents, NtStatus,
    SanEndpoint, WsaError,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use zerocopy::IntoBytes;

const PAGE: &str = include_str!("../../../../docs/san.md");

/// What the table has behind a call: what it has to do, how that is done here, and the scenarios in either role.
#[derive(Debug)]
struct Row<'a> {
    /// Marked S.
    essential: bool,
    call: &'a str,
    here: &'a str,
    scenarios: [&'a str; 2],
}

impl Row<'_> {
    fn is_done(&self) -> bool {
        !self.here.starts_with("**not yet**")
    }

    /// The scenarios of a role. None where the row asks nothing of that role.
    fn named(&self, role: Role) -> Option<Vec<&str>> {
        let cell = self.scenarios[role as usize];
        (cell != "–").then(|| cell.split('`').skip(1).step_by(2).collect())
    }
}

/// The rows of all tables of requirements.
fn rows() -> Vec<Row<'static>> {
    let tables = PAGE.lines().filter(|line| line.starts_with("| S |") || line.starts_with("| |"));
    let cells = tables.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let rows = cells.filter(|cells| cells.len() == 6 && cells[5] != "accepting");
    rows.map(|cells| Row {
        essential: cells[0] == "S",
        call: cells[1],
        here: cells[3],
        scenarios: [cells[4], cells[5]],
    })
    .collect()
}

/// Every scenario by its module and name.
fn scenarios() -> BTreeSet<String> {
    // The driver's, and those of the switch above it.
    let folders =
        ["tests/scenarios/san", "tests/switch"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let mut scenarios = BTreeSet::new();
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("the sources"));
    for file in files.map(|file| file.expect("a file").path()) {
        let source = fs::read_to_string(&file).expect("a source");
        let module = file.file_stem().and_then(|name| name.to_str()).expect("a name");
        let tests = source.split("#[test]\n").skip(1);
        let names = tests.filter_map(|test| test.strip_prefix("fn ")?.split_once('(').map(|(name, _)| name));
        scenarios.extend(names.map(|name| format!("{module}::{name}")));
    }
    scenarios
}

#[test]
fn every_scenario_that_the_documentation_names_is_there() {
    let scenarios = scenarios();
    let rows = rows();
    for row in &rows {
        for name in Role::BOTH.iter().filter_map(|role| row.named(*role)).flatten() {
            assert!(scenarios.contains(name), "{}: no {name}", row.call);
        }
    }
    assert!(rows.len() > 20, "the tables are found");
}

#[test]
fn every_row_that_is_essential_and_done_has_a_scenario_in_each_role_that_it_is_about() {
    for row in rows().iter().filter(|row| row.essential) {
        let named = Role::BOTH.map(|role| row.named(role));
        assert!(named.iter().flatten().all(|named| !named.is_empty() || !row.is_done()), "{row:?}");
        assert!(named.iter().any(Option::is_some) || !row.is_done(), "{row:?}");
    }
}

#[test]
fn what_is_certain_at_once_is_returned_at_once() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let (connector, own) = bound(&provider);
    let event = provider.create_event().expect("an event");
    connector.event_select(Some(&*event), NetworkEvents::CONNECT).expect("selects");
    for (address, expected) in [
        ("10.99.0.1:7", WsaError::WSAENETUNREACH),
        ("10.77.0.2:0", WsaError::WSAEADDRNOTAVAIL),
        ("[::1]:7", WsaError::WSAEINVAL),
    ] {
        let connect = connector.start_connect(address.parse().expect("an address"), None);
        assert_eq!(outcome(connect).expect_err("it fails").wsa_error(), expected, "{address}");
        assert_eq!(connector.enum_network_events().expect("events"), EventRecord::NOTHING, "{address}");
    }
    // The endpoint is as it was.
    assert_eq!(status(connector.connect(FOREIGN, Some(PATIENCE))), NtStatus::CANT_WAIT);
    let mut peer = neighbours.arriving();
    peer.expect(MessageType::ConnectRequest);
    peer.send(ControlMessage::accept().as_bytes());
    assert!(event.wait(PATIENCE));
    assert_eq!(connector.enum_network_events().expect("events").connect, Some(Ok(())));
    assert_eq!(connector.addresses().expect("addresses").local, Some(own));
    drop((connector, event, provider, peer));
    neighbours.bed.finish();
}

#[test]
fn an_endpoint_waits_again_once_no_event_is_selected() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    let event = provider.create_event().expect("an event");
    for (endpoint, events) in [(&listener, NetworkEvents::ACCEPT), (&connector, NetworkEvents::CONNECT)] {
        endpoint.event_select(Some(&*event), events).expect("selects");
    }
    assert_eq!(status(listener.accept()), NtStatus::CANT_WAIT);
    for endpoint in [&listener, &connector] {
        endpoint.event_select(None, NetworkEvents::NONE).expect("takes it back");
    }
    let accept = listener.start_accept().wait_for(MOMENT).expect_err("nobody comes");
    let connect = connector.start_connect(address, Some(PATIENCE));
    let undecided = outcome(accept).expect("arrives");
    let connect = connect.wait_for(MOMENT).expect_err("nobody has decided");
    let acceptor = undecided.accept().expect("accepts");
    outcome(connect).expect("connects");
    assert!(!event.is_set());
    drop((listener, connector, acceptor, event, provider));
    bed.finish();
}

#[test]
fn where_a_connection_has_ended_nothing_begins_again() {
    type End = fn(&SanEndpoint) -> WsaError;
    let ends: [(&str, End); 2] = [
        ("aborted here", |endpoint| {
            endpoint.abort().expect("aborts");
            WsaError::WSAECONNABORTED
        }),
        ("left by the peer", |_| WsaError::WSAECONNRESET),
    ];
    for role in Role::BOTH {
        for (how, end) in ends {
            let neighbours = Neighbours::new();
            let provider = neighbours.bed.open();
            let (receiver, peer) = neighbours.session(&provider, role, (1, 16), 1);
            let Receiver { endpoint, region, mut receives, .. } = receiver;
            let expected = end(&endpoint);
            drop(peer);
            let code = |result: Result<(), san_proxy::Error>| result.expect_err("it has ended").wsa_error();
            assert_eq!(code(outcome(receives.remove(0)).map(drop)), expected, "{how}");
            let before = provider.statistics().expect("statistics");
            assert_eq!(code(endpoint.connect(FOREIGN, None)), expected, "{how}");
            assert_eq!(code(endpoint.negotiate(b"", 0).map(drop)), expected, "{how}");
            assert_eq!(code(endpoint.send(b"x").map(drop)), expected, "{how}");
            assert!(endpoint.listen(Backlog(1)).is_err(), "{how}");
            let after = provider.statistics().expect("statistics");
            assert_eq!((before.connects, before.connect_failures), (after.connects, after.connect_failures), "{how}");
            drop((region, endpoint, provider));
            neighbours.bed.finish();
        }
    }
}

#[test]
fn the_session_of_a_connector_waits_for_the_acceptors_answer_and_that_of_an_acceptor_for_the_request() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    for role in Role::BOTH {
        let (endpoint, mut peer) = neighbours.connected(&provider, role);
        let receiver = Receiver::new(endpoint, 3, 64);
        assert!(peer.hears_nothing(), "posting says nothing yet");
        let negotiate = receiver.endpoint.start_negotiate(b"", 64);
        let own = peer.expect(MessageType::Session);
        assert_eq!(own.header.credits, 3, "{role:?}: its receives were posted before");
        let negotiate = negotiate.wait_for(MOMENT).expect_err("the peer has said nothing");
        assert_eq!(status(receiver.endpoint.send(b"early")), NtStatus::INVALID_CONNECTION);
        peer.send_session(64, 2);
        let offer = outcome(negotiate).expect("negotiates");
        assert_eq!((offer.receive_count, offer.receive_size), (2, 64));
        receiver.endpoint.send(b"now").expect("sends");
        assert_eq!(peer.expect(MessageType::Data).payload, b"now");
        drop((receiver, peer));
    }
    drop(provider);
    neighbours.bed.finish();
}

#[test]
fn either_role_registers_memory_to_send_and_to_receive() {
    let bed = bed();
    let provider = bed.open();
    let (mut connector, mut acceptor) = session(&provider, 1, 16);
    for swapped in [false, true] {
        let (this, other) = if swapped { (&acceptor, &mut connector) } else { (&connector, &mut acceptor) };
        let to_send = this.endpoint.register(Memory::from(vec![7; 16]), MemoryRights::SEND).expect("registers");
        let to_receive = this.endpoint.register(Memory::new(16), MemoryRights::RECEIVE).expect("registers");
        let code = |result: Result<usize, san_proxy::Error>| result.expect_err("no right").wsa_error();
        assert_eq!(code(this.endpoint.receive(&to_send, 0..16)), WsaError::WSAEFAULT);
        assert_eq!(code(this.endpoint.send_registered(&to_receive, 0..16)), WsaError::WSAEFAULT);
        assert_eq!(code(other.endpoint.send_registered(&to_send, 0..16)), WsaError::WSAEINVAL, "it is this socket's");
        assert_eq!(this.endpoint.send_registered(&to_send, 0..16).expect("sends"), 16);
        assert_eq!(outcome(other.receives.remove(0)).expect("a message"), 16);
        assert_eq!(other.region.read(0..16).expect("free"), [7; 16]);
        to_send.deregister().expect("deregisters");
        to_receive.deregister().expect("deregisters");
    }
    drop((connector, acceptor, provider));
    bed.finish();
}

#[test]
fn receives_are_overlapped_and_each_takes_one_message_once() {
    let bed = bed();
    let (connector, acceptor) = session(&bed.open(), 3, 16);
    for (this, other) in [(&connector, &acceptor), (&acceptor, &connector)] {
        assert!(this.receives.iter().all(|receive| receive.status() == NtStatus::PENDING));
        for length in [16, 0, 5] {
            other.endpoint.send(&vec![9; length]).expect("sends");
        }
        assert_eq!(this.receives[2].status_within(PATIENCE), Some(NtStatus::SUCCESS));
    }
    for Receiver { endpoint, region, receives, .. } in [connector, acceptor] {
        let lengths = receives.into_iter().map(|receive| receive.result().expect("it has ended").expect("a message"));
        assert_eq!(lengths.collect::<Vec<_>>(), [16, 0, 5]);
        let expected = [[9; 16].as_slice(), &[0; 16], &[9; 5], &[0; 11]].concat();
        assert_eq!(region.read(0..48).expect("free"), expected);
        assert_eq!(endpoint.statistics().expect("statistics").messages_received, 3);
    }
    bed.finish();
}

#[test]
fn a_result_is_polled_or_told_and_either_way_once() {
    let bed = bed();
    let provider = bed.open();
    let (mut connector, mut acceptor) = session(&provider, 1, 16);
    for swapped in [false, true] {
        let (this, other) = if swapped { (&mut acceptor, &connector) } else { (&mut connector, &acceptor) };
        let Incomplete(polled) = this.receives.remove(0).result().expect_err("nothing was sent");
        let region = this.endpoint.register(Memory::new(16), MemoryRights::RECEIVE).expect("registers");
        let (endpoint, key) = (this.endpoint.id(), region.key());
        let request = TransferRequest { header: Header::new(0), endpoint, key, offset: 0, length: 16, reserved: 0 };
        let reply = vec![0; size_of::<ReceiveReply>()];
        let request = DeviceRequest::new(ControlCode::ReceiveRegistered, request.as_bytes(), reply);
        let (sender, told) = mpsc::channel();
        // Nobody listens any more where the scenario has failed.
        let tell = move |completed: Completed| _ = sender.send(completed.status);
        provider.device().submit(request, Box::new(tell));
        assert!(told.recv_timeout(MOMENT).is_err(), "nothing was sent");
        for message in [b"polled", b"told.."] {
            other.endpoint.send(message).expect("sends");
        }
        assert_eq!(told.recv_timeout(PATIENCE), Ok(NtStatus::SUCCESS));
        assert!(told.recv().is_err(), "once: who told is gone");
        assert_eq!(polled.result().expect("it came before the other").expect("a message"), 6);
        assert_eq!(region.read(0..6).expect("free"), b"told..");
    }
    drop((connector, acceptor, provider));
    bed.finish();
}
