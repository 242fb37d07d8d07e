//! SAN endpoints over a device in memory.

use super::*;
use crate::fake::FakeDevice;
use crate::{
    AddressFamily, Backlog, Device, Error, Event, Incomplete, Memory, NtStatus, PAGE_SIZE, Pending, Provider,
    StreamConnection, WsaError,
};
use san_protocol::wsa_error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(30);

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn bound(provider: &Provider, port: u16) -> SanEndpoint {
    let endpoint = SanEndpoint::create(provider, AddressFamily::INET).unwrap();
    assert_eq!(endpoint.bind(address(port)), Ok(address(port)));
    endpoint
}

fn listening(provider: &Provider, port: u16) -> SanEndpoint {
    let listener = bound(provider, port);
    listener.listen(Backlog::MAXIMUM).unwrap();
    listener
}

/// Both ends of a connection.
fn pair(provider: &Provider) -> (SanEndpoint, SanEndpoint) {
    let listener = listening(provider, 80);
    let client = bound(provider, 1000);
    let connecting = client.start_connect(address(80), None);
    let server = listener.accept().unwrap().accept().unwrap();
    connecting.wait().unwrap();
    (client, server)
}

/// Both ends, with a session and a region each, without posted receives.
fn session(provider: &Provider) -> [(SanEndpoint, Region); 2] {
    let (client, server) = pair(provider);
    let [ours, theirs] =
        [&client, &server].map(|end| end.register(Memory::new(PAGE_SIZE), MemoryRights::BOTH).unwrap());
    let negotiating = client.start_negotiate(b"", 64);
    server.negotiate(b"", 64).unwrap();
    negotiating.wait().unwrap();
    [(client, ours), (server, theirs)]
}

fn status<T>(result: Result<T, Error>) -> NtStatus {
    result.err().map_or(NtStatus::SUCCESS, |error| error.status())
}

#[test]
fn sockets_are_streams_over_tcp() {
    use WsaError as Wsa;
    let (provider, device) = FakeDevice::provider();
    let socket = |family, socket_type, protocol| {
        SanEndpoint::socket(&provider, family, socket_type, protocol).map(drop).map_err(|error| error.wsa_error())
    };
    for (socket_type, protocol, expected) in [
        (SocketType::STREAM, Protocol::TCP, Ok(())),
        (SocketType::STREAM, Protocol::ANY, Ok(())),
        (SocketType::ANY, Protocol::TCP, Ok(())),
        (SocketType::ANY, Protocol::ANY, Ok(())),
        (SocketType::STREAM, Protocol::UDP, Err(Wsa::WSAEPROTOTYPE)),
        (SocketType::DATAGRAM, Protocol::TCP, Err(Wsa::WSAEPROTOTYPE)),
        (SocketType::DATAGRAM, Protocol::UDP, Err(Wsa::WSAESOCKTNOSUPPORT)),
        (SocketType::DATAGRAM, Protocol::ANY, Err(Wsa::WSAESOCKTNOSUPPORT)),
        (SocketType::RAW, Protocol::TCP, Err(Wsa::WSAESOCKTNOSUPPORT)),
        (SocketType(-1), Protocol(-1), Err(Wsa::WSAESOCKTNOSUPPORT)),
        (SocketType::STREAM, Protocol(132), Err(Wsa::WSAEPROTONOSUPPORT)),
        (SocketType::ANY, Protocol::UDP, Err(Wsa::WSAEPROTONOSUPPORT)),
    ] {
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            assert_eq!(socket(family, socket_type, protocol), expected, "{family:?} {socket_type:?} {protocol:?}");
        }
    }
    assert_eq!(socket(AddressFamily(6), SocketType::STREAM, Protocol::TCP), Err(Wsa::WSAEAFNOSUPPORT));
    assert_eq!(device.endpoints(), 0);
    let error = SanEndpoint::socket(&provider, AddressFamily::INET, SocketType::RAW, Protocol::ANY).unwrap_err();
    assert!(error.to_string().starts_with("cannot make such a socket: WSAESOCKTNOSUPPORT (10044)"), "{error}");
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.hint().unwrap().contains("SOCK_STREAM"));
}

#[test]
fn a_polled_result_is_incomplete_until_it_is_there() {
    let (provider, device) = FakeDevice::provider();
    let listener = listening(&provider, 80);
    let client = bound(&provider, 1000);
    let connecting = client.start_connect(address(80), None);
    assert_eq!(wsa_error(connecting.status()), WsaError::WSA_IO_PENDING);
    let incomplete = connecting.result().expect_err("nobody has decided");
    assert_eq!(incomplete.wsa_error(), WsaError::WSA_IO_INCOMPLETE);
    assert!(incomplete.to_string().ends_with("WSA_IO_INCOMPLETE (996)"), "{incomplete}");
    let Incomplete(connecting) = incomplete;
    listener.accept().unwrap().reject().unwrap();
    assert_eq!(connecting.status(), NtStatus::CONNECTION_REFUSED);
    assert_eq!(connecting.status(), NtStatus::CONNECTION_REFUSED, "asking takes nothing");
    assert_eq!(status(connecting.result().expect("it has ended")), NtStatus::CONNECTION_REFUSED);

    let accepting = listener.start_accept();
    drop(accepting.result());
    assert_eq!(device.pending(), 0, "what is dropped is cancelled");
}

#[test]
fn a_connection_is_decided_on_before_it_stands() {
    let (provider, _) = FakeDevice::provider();
    let listener = listening(&provider, 80);
    let client = bound(&provider, 1000);
    let connecting = client.start_connect(address(80), None);
    let undecided = listener.accept().unwrap();
    assert_eq!((undecided.local(), undecided.peer()), (address(80), address(1000)));
    let connecting = connecting.wait_for(SOON).expect_err("nobody has decided");
    let id = undecided.id();
    let server = undecided.accept().unwrap();
    connecting.wait().unwrap();
    assert_eq!(server.id(), id);
    assert_eq!(client.addresses().unwrap().peer, Some(address(80)));
    assert_eq!(status(client.connect(address(80), None)), NtStatus::CONNECTION_ACTIVE);
}

#[test]
fn a_rejection_refuses_the_peer_and_takes_the_endpoint_away() {
    let (provider, device) = FakeDevice::provider();
    let listener = listening(&provider, 80);
    let client = bound(&provider, 1000);
    let connecting = client.start_connect(address(80), None);
    assert_eq!(listener.accept().unwrap().reject(), Ok(()));
    let error = connecting.wait().unwrap_err();
    assert_eq!(error.wsa_error(), WsaError::WSAECONNREFUSED);
    assert!(error.to_string().contains("127.0.0.1:80"), "{error}");
    assert_eq!(device.endpoints(), 2);
}

#[test]
fn a_decision_that_is_not_taken_refuses() {
    let (provider, device) = FakeDevice::provider();
    let listener = listening(&provider, 80);
    let client = bound(&provider, 1000);
    let connecting = client.start_connect(address(80), None);
    drop(listener.accept().unwrap());
    assert_eq!(status(connecting.wait()), NtStatus::CONNECTION_REFUSED);
    assert_eq!(device.endpoints(), 2);
}

#[test]
fn a_peer_that_has_gone_cannot_be_accepted() {
    let (provider, device) = FakeDevice::provider();
    let listener = listening(&provider, 80);
    let client = bound(&provider, 1000);
    let connecting = client.start_connect(address(80), None);
    let undecided = listener.accept().unwrap();
    client.close().unwrap();
    assert_eq!(status(connecting.wait()), NtStatus::CANCELLED);
    assert_eq!(status(undecided.accept()), NtStatus::CONNECTION_RESET);
    assert_eq!(device.endpoints(), 1);
}

#[test]
fn a_selected_connect_goes_on_by_itself() {
    let (provider, _) = FakeDevice::provider();
    let listener = listening(&provider, 80);
    let arrival = provider.create_event().unwrap();
    listener.event_select(Some(&*arrival), NetworkEvents::ACCEPT).unwrap();
    assert_eq!(status(listener.accept()), NtStatus::CANT_WAIT);

    let (client, ended) = (bound(&provider, 1000), provider.create_event().unwrap());
    client.event_select(Some(&*ended), NetworkEvents::CONNECT).unwrap();
    let error = client.connect(address(80), None).unwrap_err();
    assert_eq!((error.wsa_error(), error.kind()), (WsaError::WSAEWOULDBLOCK, std::io::ErrorKind::WouldBlock));
    assert_eq!(client.enum_network_events(), Ok(EventRecord::NOTHING));
    assert!(arrival.is_set() && !ended.is_set());

    let undecided = listener.accept().unwrap();
    assert_eq!(listener.enum_network_events().unwrap().events(), NetworkEvents::ACCEPT);
    assert!(!arrival.is_set(), "asking resets it");
    let waiter = thread::spawn({
        let ended = ended.clone();
        move || ended.wait(LONG)
    });
    let _server = undecided.accept().unwrap();
    assert!(waiter.join().unwrap());
    assert_eq!(client.enum_network_events(), Ok(EventRecord { connect: Some(Ok(())), accept: None }));
    assert!(!ended.is_set());
    assert_eq!(client.enum_network_events(), Ok(EventRecord::NOTHING), "once");
}

#[test]
fn the_record_says_how_a_connect_has_failed() {
    let (provider, _) = FakeDevice::provider();
    let (client, ended) = (bound(&provider, 1000), provider.create_event().unwrap());
    client.event_select(Some(&*ended), NetworkEvents::CONNECT | NetworkEvents::ACCEPT).unwrap();
    assert_eq!(status(client.connect(address(9), None)), NtStatus::CANT_WAIT);
    assert!(ended.wait(LONG));
    let record = client.enum_network_events().unwrap();
    assert_eq!(record.events(), NetworkEvents::CONNECT);
    assert_eq!(record.connect.unwrap().unwrap_err().wsa_error(), WsaError::WSAECONNRESET);

    assert_eq!(status(client.connect(address(9), None)), NtStatus::CONNECTION_RESET, "it has ended");

    let other = bound(&provider, 1001);
    other.event_select(Some(&*ended), NetworkEvents::CONNECT).unwrap();
    other.event_select(None, NetworkEvents::NONE).unwrap();
    assert_eq!(status(other.connect(address(9), None)), NtStatus::CONNECTION_RESET, "blocking again");
    assert!(!ended.is_set());
}

#[test]
fn what_is_no_event_cannot_be_selected() {
    struct NoEvent;
    impl Event for NoEvent {
        fn handle(&self) -> u64 {
            0xBAD
        }
        fn wait(&self, _: Duration) -> bool {
            false
        }
        fn reset(&self) {}
        fn is_set(&self) -> bool {
            false
        }
    }
    let (provider, _) = FakeDevice::provider();
    let endpoint = bound(&provider, 1000);
    let error = endpoint.event_select(Some(&NoEvent), NetworkEvents::CONNECT).unwrap_err();
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::OBJECT_TYPE_MISMATCH, WsaError::WSAEINVAL));
    let event = provider.create_event().unwrap();
    for events in [NetworkEvents(1), NetworkEvents(0x20), NetworkEvents::NONE] {
        assert_eq!(status(endpoint.event_select(Some(&*event), events)), NtStatus::INVALID_PARAMETER);
    }
    assert_eq!(status(endpoint.event_select(None, NetworkEvents::ACCEPT)), NtStatus::INVALID_PARAMETER);
}

#[test]
fn a_session_is_exchanged_in_either_order() {
    let (provider, _) = FakeDevice::provider();
    let (client, server) = pair(&provider);
    let region = server.register(Memory::new(PAGE_SIZE), MemoryRights::RECEIVE).unwrap();
    let posted = [0..64, 64..128].map(|range| server.start_receive(&region, range));
    let negotiating = client.start_negotiate(b"hello", 32).wait_for(SOON).expect_err("the peer has not answered");
    let offered = server.negotiate(&[7; 256], 64).unwrap();
    assert_eq!(offered, PeerSession { receive_count: 0, receive_size: 32, private: b"hello".to_vec() });
    let answered = negotiating.wait().unwrap();
    assert_eq!(answered, PeerSession { receive_count: 2, receive_size: 64, private: vec![7; 256] });
    drop(posted);
}

#[test]
fn private_data_has_a_limit() {
    let (provider, _) = FakeDevice::provider();
    let (client, _server) = pair(&provider);
    let error = client.negotiate(&[0; 257], 64).unwrap_err();
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::INVALID_BUFFER_SIZE, WsaError::WSAEMSGSIZE));
    assert!(error.hint().unwrap().contains("256"));
}

#[test]
fn messages_go_from_region_to_region() {
    let (provider, _) = FakeDevice::provider();
    let [(client, ours), (server, theirs)] = session(&provider);
    let posted = server.start_receive(&theirs, 100..164);
    ours.write(8, b"registered").unwrap();
    assert_eq!(client.send_registered(&ours, 8..18), Ok(10));
    assert_eq!(posted.wait(), Ok(10));
    assert_eq!(theirs.read(100..110), Ok(b"registered".to_vec()));

    let posted = [0..64, 64..128].map(|range| server.start_receive(&theirs, range));
    assert_eq!(client.send(b"small"), Ok(5));
    assert_eq!(client.send(b""), Ok(0));
    assert_eq!(posted.map(Pending::wait), [Ok(5), Ok(0)]);
    assert_eq!(theirs.with_bytes(0..5, <[u8]>::to_vec), Ok(b"small".to_vec()));
    let sent = client.statistics().unwrap();
    assert_eq!((sent.messages_sent, sent.regions, sent.pinned_bytes), (3, 1, 4096));
    assert_eq!(server.statistics().unwrap().messages_received, 3);
    let all = provider.statistics().unwrap();
    assert_eq!((all.messages_sent, all.regions), (3, 2));
}

#[test]
fn a_send_waits_for_a_receive_and_gives_its_buffer_back() {
    let (provider, _) = FakeDevice::provider();
    let [(client, _ours), (server, theirs)] = session(&provider);
    let buffer = b"data".to_vec();
    let at = buffer.as_ptr();
    let sending = client.start_send(buffer).wait_for(SOON).expect_err("no receive is posted");
    assert_eq!(server.receive(&theirs, 0..64), Ok(4));
    let sent = sending.wait();
    assert_eq!((sent.result, sent.buffer.as_ptr()), (Ok(4), at));
}

#[test]
fn what_is_posted_is_lent_to_nobody_else() {
    let (provider, _) = FakeDevice::provider();
    let [(client, ours), (server, theirs)] = session(&provider);
    let receiving = server.start_receive(&theirs, 64..128);
    for range in [0..65, 127..200, 100..101] {
        assert_eq!(status(theirs.read(range.clone())), NtStatus::LOCK_NOT_GRANTED);
        assert_eq!(status(theirs.with_bytes_mut(range.clone(), |_| ())), NtStatus::LOCK_NOT_GRANTED);
        assert_eq!(status(server.receive(&theirs, range.clone())), NtStatus::LOCK_NOT_GRANTED);
        assert_eq!(status(server.send_registered(&theirs, range)), NtStatus::LOCK_NOT_GRANTED);
    }
    assert_eq!(theirs.write(0, &[1; 64]), Ok(()));
    assert_eq!(theirs.write(128, &[2; 64]), Ok(()));

    // What is sent may be read, and sent again.
    assert_eq!(ours.write(0, b"twice"), Ok(()));
    assert_eq!(client.send(b"first"), Ok(5));
    assert_eq!(receiving.wait(), Ok(5));
    let sends = [client.start_send_registered(&ours, 0..5), client.start_send_registered(&ours, 0..5)];
    assert!(sends.iter().all(|send| !send.has_ended()));
    assert_eq!(ours.read(0..5), Ok(b"twice".to_vec()));
    assert_eq!(status(ours.write(4, b"!")), NtStatus::LOCK_NOT_GRANTED);
    assert_eq!(status(client.receive(&ours, 0..5)), NtStatus::LOCK_NOT_GRANTED);
    for _ in 0..2 {
        assert_eq!(server.receive(&theirs, 64..128), Ok(5));
    }
    assert_eq!(sends.map(Pending::wait), [Ok(5), Ok(5)]);
    assert_eq!(ours.write(4, b"!"), Ok(()));
}

#[test]
fn while_it_is_borrowed_it_is_not_posted() {
    let (provider, _) = FakeDevice::provider();
    let [(client, ours), _peer] = session(&provider);
    let refused = ours.with_bytes_mut(0..10, |_| {
        assert_eq!(status(ours.read(9..11)), NtStatus::LOCK_NOT_GRANTED);
        client.start_receive(&ours, 9..20).wait()
    });
    assert_eq!(refused.map(status), Ok(NtStatus::LOCK_NOT_GRANTED));
    let read = ours.with_bytes(0..10, |outer| ours.with_bytes(5..15, |inner| outer.len() + inner.len()));
    assert_eq!(read, Ok(Ok(20)));
}

#[test]
fn a_part_outside_is_for_the_driver_to_refuse() {
    let (provider, _) = FakeDevice::provider();
    let [(client, ours), _peer] = session(&provider);
    #[expect(clippy::reversed_empty_ranges)]
    for range in [0..4097, 4096..4097, 5000..6000, usize::MAX - 1..usize::MAX, 10..9] {
        assert_eq!(status(client.send_registered(&ours, range.clone())), NtStatus::ACCESS_VIOLATION);
        assert_eq!(status(client.receive(&ours, range.clone())), NtStatus::ACCESS_VIOLATION);
        assert_eq!(status(ours.read(range)), NtStatus::ACCESS_VIOLATION);
    }
    assert_eq!(status(ours.write(usize::MAX, b"x")), NtStatus::ACCESS_VIOLATION);
    assert_eq!(status(client.send_registered(&ours, 7..7)), NtStatus::INVALID_PARAMETER);
    assert_eq!(status(client.receive(&ours, 7..7)), NtStatus::INVALID_PARAMETER);
}

#[test]
fn rights_and_owner_of_a_region_count() {
    let (provider, _) = FakeDevice::provider();
    let [(client, ours), (server, theirs)] = session(&provider);
    let only_send = client.register(vec![1; 64], MemoryRights::SEND).unwrap();
    assert_eq!(status(client.receive(&only_send, 0..64)), NtStatus::ACCESS_VIOLATION);
    let only_receive = client.register(vec![1; 64], MemoryRights::RECEIVE).unwrap();
    assert_eq!(status(client.send_registered(&only_receive, 0..64)), NtStatus::ACCESS_VIOLATION);
    assert_eq!(status(client.send_registered(&theirs, 0..64)), NtStatus::INVALID_PARAMETER, "another endpoint's");
    assert_eq!(status(server.send_registered(&ours, 0..64)), NtStatus::INVALID_PARAMETER);
    assert_eq!(only_send.rights() | only_receive.rights(), MemoryRights::BOTH);
    assert_eq!(only_send.query(), Ok(MemoryState { length: 64, rights: MemoryRights::SEND, in_use: 0 }));
}

#[test]
fn a_registration_that_is_refused_says_why() {
    let (provider, device) = FakeDevice::provider();
    let (client, _server) = pair(&provider);
    let refused = [
        client.register(Vec::new(), MemoryRights::BOTH),
        client.register(Memory::new(1), MemoryRights(0)),
        client.register(Memory::new(1), MemoryRights(4)),
    ];
    for refused in refused {
        assert_eq!(status(refused), NtStatus::INVALID_PARAMETER);
    }
    let idle = bound(&provider, 1001);
    let error = idle.register(Memory::new(1), MemoryRights::BOTH).unwrap_err();
    assert_eq!((error.wsa_error(), device.pending()), (WsaError::WSAENOTCONN, 0));
    let stream = StreamConnection::create(&provider, AddressFamily::INET).unwrap();
    let error = SanEndpoint::from_endpoint(stream.into_endpoint()).register(Memory::new(1), MemoryRights::BOTH);
    assert_eq!(status(error), NtStatus::NOT_SUPPORTED);
}

#[test]
fn deregistering_waits_for_what_uses_the_region() {
    let (provider, _) = FakeDevice::provider();
    let [(client, _ours), (server, theirs)] = session(&provider);
    let receiving = server.start_receive(&theirs, 0..64);
    assert_eq!(theirs.query().unwrap().in_use, 1);
    let ending = theirs.start_deregister().wait_for(SOON).expect_err("a receive uses it");
    assert!(theirs.is_registered());
    assert_eq!(status(theirs.deregister()), NtStatus::INVALID_PARAMETER, "it is ending already");
    client.send(b"last").unwrap();
    assert_eq!(ending.wait(), Ok(()));
    assert_eq!(theirs.wait_for_end(LONG), Some(NtStatus::SUCCESS));
    assert_eq!(receiving.wait(), Ok(4));
    assert_eq!(status(theirs.query()), NtStatus::INVALID_PARAMETER);
    let memory = theirs.try_into_memory().expect("nothing else holds it");
    assert_eq!(&memory[..4], b"last");
}

#[test]
fn memory_comes_back_when_nothing_holds_it() {
    let (provider, _) = FakeDevice::provider();
    let [(client, ours), (server, theirs)] = session(&provider);
    let ours = ours.try_into_memory().expect_err("it is registered");
    let other = ours.clone();
    ours.deregister().unwrap();
    let ours = ours.try_into_memory().expect_err("there is a clone");
    drop(other);
    assert_eq!(ours.try_into_memory().expect("the last one").len(), PAGE_SIZE);

    let receiving = server.start_receive(&theirs, 0..64);
    server.abort().unwrap();
    theirs.deregister().unwrap();
    let theirs = theirs.try_into_memory().expect_err("the receive has not been waited for");
    assert_eq!(status(receiving.wait()), NtStatus::CONNECTION_ABORTED);
    assert!(theirs.try_into_memory().is_ok());
    drop(client);
}

#[test]
fn an_operation_keeps_its_region_registered() {
    let (provider, device) = FakeDevice::provider();
    let [(client, _ours), (server, theirs)] = session(&provider);
    let receiving = server.start_receive(&theirs, 0..64);
    drop(theirs);
    assert_eq!(server.statistics().unwrap().regions, 1);
    client.send(b"data").unwrap();
    assert_eq!(receiving.wait(), Ok(4));
    assert_eq!(server.statistics().unwrap().regions, 0, "with its last user it is cancelled");
    assert_eq!(device.pending(), 1, "the other registration");
}

#[test]
fn a_cancelled_receive_gives_its_part_back() {
    let (provider, _) = FakeDevice::provider();
    let [_client, (server, theirs)] = session(&provider);
    let receiving = server.start_receive(&theirs, 0..64);
    receiving.cancel();
    assert_eq!(status(receiving.wait()), NtStatus::CANCELLED);
    assert_eq!(theirs.write(0, &[1; 64]), Ok(()));
    assert_eq!((theirs.query().unwrap().in_use, server.statistics().unwrap().receives_posted), (0, 0));
}

#[test]
fn closing_ends_registrations() {
    let (provider, device) = FakeDevice::provider();
    let [(client, ours), (server, theirs)] = session(&provider);
    let receiving = client.start_receive(&ours, 0..64);
    client.close().unwrap();
    assert_eq!(status(receiving.wait()), NtStatus::CANCELLED);
    assert_eq!(ours.wait_for_end(LONG), Some(NtStatus::CANCELLED));
    assert_eq!(status(ours.query()), NtStatus::INVALID_HANDLE);
    assert_eq!(theirs.wait_for_end(Duration::ZERO), None, "the peer's stands");
    theirs.cancel();
    assert_eq!(theirs.wait_for_end(LONG), Some(NtStatus::CANCELLED));
    drop(server);
    assert_eq!((device.pending(), device.endpoints()), (0, 0));
}

#[test]
fn a_graceful_end_is_told_apart_from_an_abort() {
    let (provider, _) = FakeDevice::provider();
    let [(client, _ours), (server, theirs)] = session(&provider);
    let receiving = server.start_receive(&theirs, 0..64);
    client.disconnect().unwrap();
    let error = receiving.wait().unwrap_err();
    assert_eq!((error.wsa_error(), error.kind()), (WsaError::WSAEDISCON, std::io::ErrorKind::UnexpectedEof));
    assert_eq!(status(client.send(b"more")), NtStatus::GRACEFUL_DISCONNECT);
    drop((client, server));

    let (provider, _) = FakeDevice::provider();
    let [(client, _ours), (server, theirs)] = session(&provider);
    let receiving = server.start_receive(&theirs, 0..64);
    client.abort().unwrap();
    assert_eq!(status(receiving.wait()), NtStatus::CONNECTION_RESET);
}

#[test]
fn a_region_is_used_by_many_threads() {
    let (provider, _) = FakeDevice::provider();
    let [(client, ours), (server, theirs)] = session(&provider);
    let (client, server) = (Arc::new(client), Arc::new(server));
    thread::scope(|scope| {
        for part in 0..8_usize {
            let (client, server, ours, theirs) = (&client, &server, &ours, &theirs);
            let range = part * 64..part * 64 + 64;
            scope.spawn(move || {
                for _ in 0..50 {
                    let receiving = server.start_receive(theirs, range.clone());
                    ours.write(range.start, &[u8::try_from(part).unwrap(); 64]).unwrap();
                    assert_eq!(client.send_registered(ours, range.clone()), Ok(64));
                    assert_eq!(receiving.wait(), Ok(64));
                    // Whichever message it is, it came whole.
                    theirs.with_bytes(range.clone(), |bytes| assert_eq!(bytes, [bytes[0]; 64])).unwrap();
                }
            });
        }
    });
    assert_eq!(server.statistics().unwrap().messages_received, 400);
}

#[test]
fn events_are_made_apart_and_not_set() {
    let (provider, device) = FakeDevice::provider();
    let event = provider.create_event().unwrap();
    let other = device.create_event().unwrap();
    assert_ne!(event.handle(), other.handle());
    assert!(!event.wait(SOON) && !event.is_set());
}
