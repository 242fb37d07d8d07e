//! The list of endpoints.

use crate::input::raw;
use crate::san::support::{bed, bound, connected as san_connected, listening as san_listening, session};
use crate::support::{PATIENCE, connected, eventually, host_connect, listening, status};
use san_protocol::{
    ControlCode, ENDPOINTS_OF_ALL_HANDLES, EndpointEntry, EndpointsReply, EndpointsRequest, Header, NtStatus,
};
use san_proxy::{
    AddressFamily, DeviceRequest, Disconnect, EndpointId, EndpointInfo, EndpointKind, EndpointScope, EndpointState,
    Pending, Provider, SanEndpoint, StreamConnection,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use test_harness::device::HarnessDevice;
use zerocopy::{FromBytes, IntoBytes};

fn list(provider: &Provider, scope: EndpointScope) -> BTreeMap<EndpointId, EndpointInfo> {
    let listed = provider.endpoints(scope).expect("a list");
    let count = listed.len();
    let by_id: BTreeMap<_, _> = listed.into_iter().map(|one| (one.id, one)).collect();
    assert_eq!(by_id.len(), count, "each is listed once");
    by_id
}

fn own(provider: &Provider, id: EndpointId) -> EndpointInfo {
    list(provider, EndpointScope::OwnHandle)[&id]
}

#[test]
fn an_endpoint_is_listed_as_what_it_is_and_where_it_is_in_its_life() {
    let bed = bed();
    let provider = bed.open();
    let kind_and_state = |id| {
        let info = own(&provider, id);
        (info.kind, info.state)
    };
    let idle = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(kind_and_state(idle.id()), (EndpointKind::StreamConnection, EndpointState::Idle));
    idle.bind(crate::support::any(AddressFamily::INET)).expect("binds");
    assert_eq!(kind_and_state(idle.id()).1, EndpointState::Bound);

    let (listener, address) = listening(&provider, 3);
    let waiting: Vec<_> = (0..2).map(|_| host_connect(address)).collect();
    eventually("both wait", || own(&provider, listener.id()).backlog == 2);
    let listed = own(&provider, listener.id());
    assert_eq!((listed.kind, listed.state), (EndpointKind::StreamListener, EndpointState::Listening));
    assert_eq!((listed.backlog_limit, listed.local, listed.peer), (3, Some(address), None));
    let accepted = listener.accept().expect("waits").connection;
    assert_eq!(own(&provider, listener.id()).backlog, 1);
    let listed = own(&provider, accepted.id());
    assert_eq!((listed.kind, listed.state), (EndpointKind::StreamConnection, EndpointState::Connected));
    assert_eq!((listed.local, listed.peer), (Some(address), waiting[0].local_addr().ok()));
    accepted.start_disconnect(Disconnect::Graceful).wait().expect("ends its side");
    assert_eq!(kind_and_state(accepted.id()).1, EndpointState::Disconnecting);

    let san = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(kind_and_state(san.id()), (EndpointKind::San, EndpointState::Idle));
    let (san_listener, san_address) = san_listening(&provider, 7);
    let listed = own(&provider, san_listener.id());
    assert_eq!((listed.kind, listed.state), (EndpointKind::San, EndpointState::Listening));
    assert_eq!((listed.backlog, listed.backlog_limit, listed.local), (0, 7, Some(san_address)));
    let (connector, connector_address) = bound(&provider);
    assert_eq!(kind_and_state(connector.id()).1, EndpointState::Bound);
    let connect = connector.start_connect(san_address, Some(PATIENCE));
    eventually("it waits", || own(&provider, san_listener.id()).backlog == 1);
    assert_eq!(kind_and_state(connector.id()).1, EndpointState::Connecting);
    let undecided = san_listener.accept().expect("waits");
    assert_eq!(kind_and_state(undecided.id()).1, EndpointState::Undecided);
    assert_eq!(own(&provider, san_listener.id()).backlog, 0);
    let acceptor = undecided.accept().expect("accepts");
    connect.wait().expect("connects");
    let listed = own(&provider, acceptor.id());
    assert_eq!(
        (listed.state, listed.local, listed.peer),
        (EndpointState::Connected, Some(san_address), Some(connector_address))
    );
    drop(connector);
    eventually("its peer has gone", || own(&provider, acceptor.id()).state == EndpointState::Ended);
    drop((idle, listener, waiting, accepted, san, san_listener, acceptor, provider));
    bed.finish();
}

#[test]
fn what_an_endpoint_holds_is_in_its_entry() {
    let bed = bed();
    let provider = bed.open();
    let (connector, mut acceptor) = session(&provider, 3, 64);
    for _ in 0..2 {
        connector.endpoint.send(&[7; 10]).expect("sends");
    }
    acceptor.next(0);
    acceptor.next(1);
    let entries = list(&provider, EndpointScope::OwnHandle);
    for side in [&connector, &acceptor] {
        let (entry, statistics) = (entries[&side.endpoint.id()], side.endpoint.statistics().expect("statistics"));
        assert_eq!(
            (entry.messages_sent, entry.bytes_sent, entry.messages_received, entry.bytes_received),
            (statistics.messages_sent, statistics.bytes_sent, statistics.messages_received, statistics.bytes_received)
        );
        assert_eq!(
            (entry.sends_queued, entry.receives_posted, entry.regions, entry.pinned_bytes),
            (statistics.sends_queued, statistics.receives_posted, statistics.regions, statistics.pinned_bytes)
        );
        assert_eq!((entry.receives_posted, entry.regions, entry.pinned_bytes), (3, 1, 192));
    }
    let (sent, received) = (entries[&connector.endpoint.id()], entries[&acceptor.endpoint.id()]);
    assert_eq!((sent.messages_sent, sent.bytes_sent), (2, 20));
    assert_eq!((received.messages_received, received.bytes_received), (2, 20));
    drop((connector, acceptor, provider));
    bed.finish();
}

#[test]
fn a_handle_lists_its_own_and_administrators_all_with_their_processes() {
    let bed = bed();
    let process = bed.process_of(true, true);
    let (here, there) = (bed.open(), Provider::new(Arc::new(HarnessDevice::open(&process).expect("opens"))));
    let (own, peer) = (bound(&here).0, san_connected(&there));
    let of = |provider: &Provider, scope| list(provider, scope).into_keys().collect::<BTreeSet<_>>();
    assert_eq!(of(&here, EndpointScope::OwnHandle), [own.id()].into());
    assert_eq!(of(&there, EndpointScope::OwnHandle), [peer.0.id(), peer.1.id()].into());
    let all = list(&here, EndpointScope::AllHandles);
    assert_eq!(of(&there, EndpointScope::AllHandles), all.keys().copied().collect());
    assert_eq!(all[&own.id()].process, bed.process.id() as u64);
    assert_eq!(all[&peer.1.id()].process, process.id() as u64, "an accepted one is the accepting handle's");
    // An id of another handle is a name and nothing else.
    let foreign = san_protocol::EndpointRequest { header: Header::new(0), endpoint: own.id() };
    let closed = raw(&there, ControlCode::Close.value(), foreign.as_bytes(), 0);
    assert_eq!(closed.0, NtStatus::INVALID_HANDLE);
    drop((peer, there));
    assert_eq!(of(&here, EndpointScope::AllHandles), [own.id()].into(), "a closed handle is not listed");
    drop((own, here, process));
    bed.finish();
}

/// A page as it comes.
fn page(provider: &Provider, flags: u32, position: u64, room: usize) -> (NtStatus, EndpointsReply, Vec<EndpointId>) {
    let input = EndpointsRequest { header: Header::new(flags), position };
    let buffer = vec![0xEE; size_of::<EndpointsReply>() + room];
    let request = DeviceRequest::new(ControlCode::QueryEndpoints, input.as_bytes(), buffer);
    let (status, information, buffer) =
        Pending::start(provider.device(), request, |done| (done.status, done.information, done.buffer)).wait();
    let (head, rest) = EndpointsReply::read_from_prefix(&buffer[..information]).expect("a head");
    assert_eq!(rest.len(), head.count as usize * size_of::<EndpointEntry>());
    assert!(buffer[information..].iter().all(|&byte| byte == 0xEE), "nothing is written behind");
    let ids = rest.chunks_exact(size_of::<EndpointEntry>()).map(EndpointEntry::read_from_bytes);
    (status, head, ids.map(|entry| entry.expect("an entry").endpoint).collect())
}

#[test]
fn page_by_page_every_endpoint_comes_once_whatever_the_size_of_the_pages() {
    let bed = bed();
    let providers: Vec<_> = (0..3).map(|_| bed.open()).collect();
    let made: Vec<_> = providers.iter().flat_map(|provider| (0..40).map(|_| bound(provider).0)).collect();
    let expected: BTreeSet<_> = made.iter().map(SanEndpoint::id).collect();
    let entry = size_of::<EndpointEntry>();
    for room in [entry, entry + 1, 2 * entry - 1, 7 * entry, 16 * entry, 119 * entry, 120 * entry, 1000 * entry] {
        let (mut seen, mut position) = (Vec::new(), 0);
        loop {
            let (status, head, ids) = page(&providers[0], ENDPOINTS_OF_ALL_HANDLES, position, room);
            seen.extend(ids);
            if status == NtStatus::SUCCESS {
                assert_eq!(head.next, 0);
                break;
            }
            assert_eq!((status, head.count as usize), (NtStatus::BUFFER_OVERFLOW, room / entry));
            assert!(head.next > position, "it gets on");
            position = head.next;
        }
        assert_eq!(seen.len(), expected.len(), "in pages of {room} bytes");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    // Without room for one it stays where it is.
    let (status, head, _) = page(&providers[0], ENDPOINTS_OF_ALL_HANDLES, 0, entry - 1);
    assert_eq!((status, head.count, head.next), (NtStatus::BUFFER_OVERFLOW, 0, 0));
    for length in 0..size_of::<EndpointsReply>() {
        let input = EndpointsRequest { header: Header::new(0), position: 0 };
        let refused = raw(&providers[0], ControlCode::QueryEndpoints.value(), input.as_bytes(), length);
        assert_eq!(refused, (NtStatus::BUFFER_TOO_SMALL, 0));
    }
    // A position that nobody has given is somewhere, or nowhere.
    for bit in 0..64 {
        for position in [1 << bit, u64::MAX << bit, !(u64::MAX << bit)] {
            for flags in [0, ENDPOINTS_OF_ALL_HANDLES] {
                let (status, _, ids) = page(&providers[0], flags, position, 200 * entry);
                assert_eq!(status, NtStatus::SUCCESS);
                assert!(ids.iter().all(|id| expected.contains(id)));
            }
        }
    }
    drop((made, providers));
    bed.finish();
}

#[test]
fn those_that_stay_are_listed_once_while_others_come_and_go() {
    const ROUNDS: usize = 60;
    let bed = bed();
    let (provider, watcher) = (bed.open(), bed.open());
    let mut others: Vec<_> = (0..60).map(|_| bound(&provider).0).collect();
    // Vacant slots between those that stay.
    let staying: Vec<_> = std::iter::from_fn(|| (others.len() > 30).then(|| others.remove(others.len() / 2))).collect();
    drop(others);
    let streams = connected(&provider);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let handle = bed.open();
                    let made: Vec<_> = (0..20).map(|_| bound(&handle).0).collect();
                    drop(san_connected(&provider));
                    drop((made, handle));
                }
            });
        }
        for _ in 0..ROUNDS {
            let listed = list(&watcher, EndpointScope::AllHandles);
            assert!(staying.iter().all(|one| listed[&one.id()].state == EndpointState::Bound));
            assert_eq!(listed[&streams.0.id()].state, EndpointState::Connected);
        }
        done.store(true, Ordering::Relaxed);
    });
    drop((staying, streams));
    eventually("nothing is left", || watcher.status().expect("status").endpoints == 0);
    assert_eq!(list(&watcher, EndpointScope::AllHandles), BTreeMap::new());
    let closed = bound(&provider).0;
    let id = closed.id();
    closed.close().expect("closes");
    assert!(!list(&provider, EndpointScope::OwnHandle).contains_key(&id));
    let again = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_ne!(again.id(), id);
    assert_eq!(status(again.accept()), NtStatus::INVALID_PARAMETER);
    drop((again, provider, watcher));
    bed.finish();
}
