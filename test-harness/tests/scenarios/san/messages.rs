//! Messages: order, flow control, many sessions, two machines, the end of a session.

use super::support::{Receiver, bed, bound, connected_to, free_port, listening, negotiated, session};
use crate::support::{Bed, MOMENT, PATIENCE, eventually, pattern, status};
use san_proxy::{Memory, MemoryRights, NtStatus, Pending, Provider, Transfer, WsaError};
use std::net::SocketAddr;
use std::thread;
use test_harness::Machine;
use test_harness::nt::registry::Value;

/// A message that says which one it is.
fn numbered(number: u32, length: usize) -> Vec<u8> {
    let mut message = pattern(number.into(), length.max(4));
    message[..4].copy_from_slice(&number.to_le_bytes());
    message
}

#[test]
fn a_thousand_queued_sends_arrive_in_order_at_a_receiver_that_posts_one_buffer_at_a_time() {
    const COUNT: u32 = 1000;
    let bed = bed();
    let provider = bed.open();
    let (sender, mut receiver) = session(&provider, 1, 256);
    let before = bed.machine.stats().driver_pool.values().map(|used| used.bytes).sum::<usize>();
    let sends: Vec<Pending<Transfer>> = (0..COUNT).map(|n| sender.endpoint.start_send(numbered(n, 200))).collect();
    let statistics = sender.endpoint.statistics().expect("statistics");
    assert!(statistics.sends_queued >= COUNT - 1, "the receiver has one buffer: {statistics:?}");
    let during = bed.machine.stats().driver_pool.values().map(|used| used.bytes).sum::<usize>();
    assert!(during - before < COUNT as usize * 4096, "a request each, and no copies: {before} to {during} bytes");
    for number in 0..COUNT {
        assert_eq!(receiver.next(0), numbered(number, 200));
    }
    for send in sends {
        send.wait().result.expect("every send has gone");
    }
    let statistics = sender.endpoint.statistics().expect("statistics");
    assert_eq!((statistics.messages_sent, statistics.bytes_sent), (COUNT.into(), u64::from(COUNT) * 200));
    let statistics = receiver.endpoint.statistics().expect("statistics");
    assert_eq!((statistics.messages_received, statistics.bytes_received), (COUNT.into(), u64::from(COUNT) * 200));
    drop((sender, receiver, provider));
    bed.finish();
}

#[test]
fn both_sides_send_only_and_neither_waits_for_ever() {
    const COUNT: u32 = 300;
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = session(&provider, 3, 1024);
    let sides = [connector, acceptor].map(|mut side| {
        let sends: Vec<_> = (0..COUNT).map(|n| side.endpoint.start_send(numbered(n, 1000))).collect();
        thread::spawn(move || {
            for number in 0..COUNT {
                assert_eq!(side.next(number as usize % 3), numbered(number, 1000));
            }
            for send in sends {
                send.wait().result.expect("it has gone");
            }
            side
        })
    });
    let sides = sides.map(|side| side.join().expect("a side"));
    drop((sides, provider));
    bed.finish();
}

#[test]
fn sends_without_a_receiver_wait_and_nothing_else_does() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = session(&provider, 0, 0);
    let sends: Vec<_> = (0..10).map(|_| connector.endpoint.start_send(Vec::new())).collect();
    let other: Vec<_> = (0..10).map(|_| acceptor.endpoint.start_send(Vec::new())).collect();
    assert_eq!(connector.endpoint.statistics().expect("statistics").sends_queued, 10);
    for send in sends.into_iter().chain(other) {
        send.wait_for(std::time::Duration::from_millis(1)).map(|_| ()).expect_err("it waits").cancel();
    }
    let (mut late, mut other) = (session(&provider, 1, 8), session(&provider, 1, 8));
    late.0.endpoint.send(b"goes").expect("on");
    assert_eq!(late.1.next(0), b"goes");
    other.1.endpoint.send(b"as well").expect("on");
    assert_eq!(other.0.next(0), b"as well");
    drop((late, other, connector, acceptor, provider));
    bed.finish();
}

#[test]
fn registered_memory_is_sent_and_received_in_place_at_every_length_and_offset() {
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let (connector, acceptor) = connected_to(&provider, &listener, address);
    let size = 1 << 20;
    let sent = connector.register(Memory::from(pattern(1, size + 8192)), MemoryRights::SEND).expect("registers");
    let got = acceptor.register(Memory::new(size + 8192), MemoryRights::RECEIVE).expect("registers");
    let negotiate = connector.start_negotiate(b"", 0);
    acceptor.negotiate(b"", u32::try_from(size).expect("a size")).expect("negotiates");
    negotiate.wait().expect("negotiates");
    for (length, from, to) in [
        (1, 0, 0),
        (16, 4095, 1),
        (4096, 1, 4095),
        (4097, 4095, 4095),
        (65535, 7, 9),
        (65536, 4095, 0),
        (65537, 4095, 4095),
        (69632, 1, 1),
        (size - 1, 1, 8191),
        (size, 8191, 3),
    ] {
        got.with_bytes_mut(0..size + 8192, |all| all.fill(0xEE)).expect("nobody uses it");
        let receive = acceptor.start_receive(&got, to..to + size);
        connector.send_registered(&sent, from..from + length).expect("sends");
        assert_eq!(receive.wait().expect("receives"), length);
        let expected = sent.read(from..from + length).expect("nobody uses it");
        let all = got.read(0..size + 8192).expect("nobody uses it");
        assert_eq!(all[to..to + length], expected, "{length} bytes");
        let around = all[..to].iter().chain(&all[to + length..]);
        assert!(around.into_iter().all(|&byte| byte == 0xEE), "nothing around {length} bytes is touched");
    }
    drop((connector, acceptor, listener, sent, got, provider));
    bed.finish();
}

#[test]
fn a_thousand_endpoints_on_one_handle_each_carry_their_own_messages() {
    /// Sessions, each between two endpoints of the handle.
    const COUNT: u32 = 500;
    let bed = bed();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 16);
    let mut sessions: Vec<_> = (0..COUNT)
        .map(|_| {
            let (connector, acceptor) = connected_to(&provider, &listener, address);
            negotiated(connector, acceptor, 2, 64)
        })
        .collect();
    for round in 0..4 {
        let sends: Vec<_> = sessions
            .iter()
            .zip(0..)
            .flat_map(|((connector, acceptor), n)| {
                let message = numbered(n * 10 + round, 40);
                [connector.endpoint.start_send(message.clone()), acceptor.endpoint.start_send(message)]
            })
            .collect();
        for ((connector, acceptor), n) in sessions.iter_mut().zip(0..) {
            let (message, at) = (numbered(n * 10 + round, 40), round as usize % 2);
            assert_eq!(acceptor.next(at), message);
            assert_eq!(connector.next(at), message);
        }
        for send in sends {
            send.wait().result.expect("sent");
        }
    }
    // A thousand endpoints, and the listener.
    assert_eq!(provider.status().expect("status").endpoints, 2 * COUNT + 1);
    drop((sessions, listener, provider));
    bed.finish();
}

/// Two machines, each with its own driver, which reach each other's SAN addresses by loopback TCP.
fn neighbours() -> [Bed; 2] {
    let ports = [free_port(), free_port()];
    let routes: Vec<String> =
        (1..).zip(ports).map(|(host, port)| format!("10.9.0.{host}/32 127.0.0.1/32 port={port} san-only")).collect();
    ports.map(|port| {
        let builder = Machine::builder().parameter("sanwsk", "NativePort", Value::Number(port.into())).parameter(
            "sanwsk",
            "Routes",
            Value::List(routes.clone()),
        );
        Bed::with(builder)
    })
}

#[test]
fn two_machines_hold_a_session_by_their_san_addresses() {
    let [here, there] = neighbours();
    let (mine, theirs): (Provider, Provider) = (here.open(), there.open());
    let create = |provider: &Provider| {
        san_proxy::SanEndpoint::create(provider, san_proxy::AddressFamily::INET).expect("an endpoint")
    };
    let (listener, connector) = (create(&theirs), create(&mine));
    let target = listener.bind(SocketAddr::from(([10, 9, 0, 2], 80))).expect("its own address");
    listener.listen(san_proxy::Backlog(1)).expect("listens");
    let error = create(&mine).bind(target).expect_err("that is the other machine's").wsa_error();
    assert_eq!(error, WsaError::WSAEADDRNOTAVAIL);
    let source = connector.bind(SocketAddr::from(([10, 9, 0, 1], 0))).expect("its own address");
    let connect = connector.start_connect(target, Some(PATIENCE));
    let undecided = listener.accept().expect("arrives");
    assert_eq!(undecided.peer(), source);
    let acceptor = undecided.accept().expect("accepts");
    connect.wait().expect("connects");
    let (connector, mut acceptor) = negotiated(connector, acceptor, 4, 4096);
    let region = connector.endpoint.register(Memory::from(pattern(3, 4096)), MemoryRights::SEND).expect("registers");
    for round in 0..100 {
        connector.endpoint.send_registered(&region, 0..4096).expect("sends");
        assert_eq!(acceptor.next(round % 4), pattern(3, 4096));
    }
    drop((region, connector, acceptor, listener, mine, theirs));
    here.finish();
    there.finish();
}

#[test]
fn a_disconnect_lets_everything_sent_before_it_arrive() {
    let bed = bed();
    let provider = bed.open();
    let (connector, mut acceptor) = session(&provider, 8, 1024);
    let sends: Vec<_> = (0..8).map(|n| connector.endpoint.start_send(numbered(n, 1000))).collect();
    connector.endpoint.disconnect().expect("the peer has heard everything");
    for send in sends {
        send.wait().result.expect("it has gone");
    }
    for number in 0..8 {
        let receive = acceptor.receives.remove(0);
        assert_eq!(receive.wait().expect("a message"), 1000);
        let start = number as usize * 1024;
        assert_eq!(acceptor.region.read(start..start + 1000).expect("nobody uses it"), numbered(number, 1000));
    }
    eventually("the peer knows", || acceptor.endpoint.send(b"late").is_err());
    assert_eq!(acceptor.endpoint.send(b"late").expect_err("over").wsa_error(), WsaError::WSAEDISCON);
    assert_eq!(connector.endpoint.send(b"late").expect_err("over").wsa_error(), WsaError::WSAEDISCON);
    drop((connector, acceptor, provider));
    bed.finish();
}

#[test]
fn after_a_disconnect_the_posted_receives_of_both_sides_end() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = session(&provider, 4, 64);
    connector.endpoint.disconnect().expect("disconnects");
    for side in [connector, acceptor] {
        let Receiver { endpoint, receives, region, .. } = side;
        for receive in receives {
            assert_eq!(status(receive.wait()), NtStatus::GRACEFUL_DISCONNECT);
        }
        region.deregister().expect("a region outlives the connection");
        endpoint.close().expect("closes");
    }
    drop(provider);
    bed.finish();
}

#[test]
fn an_abort_ends_both_sides_at_once() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = session(&provider, 2, 64);
    connector.endpoint.abort().expect("aborts");
    for receive in connector.receives {
        assert_eq!(status(receive.wait()), NtStatus::CONNECTION_ABORTED);
    }
    for receive in acceptor.receives {
        assert_eq!(status(receive.wait()), NtStatus::CONNECTION_RESET);
    }
    assert_eq!(status(connector.endpoint.send(b"x")), NtStatus::CONNECTION_ABORTED);
    drop((connector.endpoint, connector.region, acceptor.endpoint, acceptor.region, provider));
    bed.finish();
}

#[test]
fn a_disconnect_that_the_peer_does_not_answer_is_cancelled_or_closed() {
    let bed = bed();
    let provider = bed.open();
    let (connector, acceptor) = session(&provider, 0, 0);
    // No credit: the send stays queued, and the goodbye behind it.
    let send = connector.endpoint.start_send(Vec::new());
    let disconnect = connector.endpoint.start_disconnect(san_proxy::Disconnect::Graceful);
    let disconnect = disconnect.wait_for(MOMENT).expect_err("the send comes first");
    disconnect.cancel();
    assert_eq!(status(disconnect.wait()), NtStatus::CANCELLED);
    let again = connector.endpoint.start_disconnect(san_proxy::Disconnect::Graceful);
    let again = again.wait_for(MOMENT).expect_err("the send comes first");
    drop((bound(&provider), connector.region));
    connector.endpoint.close().expect("closes");
    assert!(again.wait().is_err());
    assert_eq!(status(send.wait().result), NtStatus::CANCELLED);
    drop((acceptor, provider));
    bed.finish();
}
