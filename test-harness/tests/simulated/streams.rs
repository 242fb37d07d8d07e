//! Streams on a network that is slow, cuts, loses, resets and parts; each time with the one outcome that Windows has for it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use san_protocol::ProviderState;
use san_proxy::{
    AddressFamily, Backlog, Error, NtStatus, Pending, Receive, StreamConnection, StreamListener, Transfer, WsaError,
};
use sha2::{Digest, Sha256};
use test_harness::Machine;
use test_harness::network::NetworkError;
use test_harness::network::simulated::Link;
use test_harness::simulation;

use crate::bed::{Host, connected, listening, pattern, simulate_all};

/// The three segments of a connect that nobody answers: after 3, 6 and 12 s it is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(21);

/// Longer than any time-out of the network's.
const HOUR: Duration = Duration::from_hours(1);

#[track_caller]
fn failed<T: std::fmt::Debug>(result: Result<T, Error>) -> (NtStatus, WsaError) {
    let error = result.expect_err("it fails");
    (error.status(), error.wsa_error())
}

#[track_caller]
fn ended(Transfer { result, .. }: Transfer) -> (NtStatus, WsaError) {
    failed(result)
}

fn stream() -> impl Fn(&san_proxy::Provider) -> StreamConnection {
    |provider| StreamConnection::create(provider, AddressFamily::INET).expect("an endpoint")
}

fn receiving(connection: &StreamConnection, length: usize) -> Pending<Transfer> {
    connection.start_receive(vec![0; length], Receive::Some)
}

#[test]
fn every_byte_arrives_over_a_slow_link_that_loses_and_cuts() {
    const LENGTH: usize = 150_000;
    simulate_all(6, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        network.set_link(&first.attachment, &second.attachment, Link { loss: 30, ..Link::SLOW });
        network.set_limits(8_192, 4_096, 8);
        let (near, far) = (first.open(), second.open());
        let (client, server) = connected(&near, &second, &far);
        let begun = simulation::now();
        let sides = [(client, 1, 2), (server, 2, 1)].map(|(connection, own, others)| {
            simulation::start("side", move || {
                let sending = connection.start_send(pattern(own, LENGTH));
                let mut hash = Sha256::new();
                let (mut buffer, mut received, mut reads) = (vec![0; 3_000], 0, 0);
                while received < LENGTH {
                    let count = connection.receive(&mut buffer).expect("receives");
                    hash.update(&buffer[..count]);
                    received += count;
                    reads += 1;
                }
                assert_eq!(sending.wait().result.expect("sends"), LENGTH);
                assert_eq!((received, hash.finalize()), (LENGTH, Sha256::digest(pattern(others, LENGTH))));
                assert!(reads > LENGTH / 3_000, "it came in pieces");
                connection
            })
        });
        let sides = sides.map(simulation::Program::join);
        // The window of 4 KiB goes round once for every 80 ms.
        let least = Duration::from_millis(80) * u32::try_from(LENGTH / 4_096 - 1).expect("a number");
        assert!(simulation::now() - begun > least, "{:?}", simulation::now() - begun);
        assert!(network.traffic().retransmissions > 0);
        drop((sides, near, far));
        first.finish();
        second.finish();
        assert_eq!(network.sockets(), 0);
    });
}

#[test]
fn a_receiver_that_does_not_read_stops_its_sender() {
    simulate_all(4, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        network.set_limits(10_000, 6_000, 8);
        let (near, far) = (first.open(), second.open());
        let (client, server) = connected(&near, &second, &far);
        let sending = client.start_send(pattern(5, 40_000));
        assert_eq!(sending.status_within(HOUR), None, "there is no room");
        let traffic = network.traffic();
        assert_eq!(traffic.bytes, 6_000, "what the receiver has room for");
        let received = server.receive_all(vec![0; 40_000]);
        assert_eq!(received.result.expect("receives"), 40_000);
        assert!(received.buffer == pattern(5, 40_000));
        assert_eq!(sending.wait().result.expect("sends"), 40_000);
        drop((client, server, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn a_connect_is_refused_or_never_answered_or_has_no_way() {
    simulate_all(4, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let near = first.open();
        let nobody = SocketAddr::new(second.ip, 4_000);
        let begun = simulation::now();
        let refused = stream()(&near);
        assert_eq!(failed(refused.connect(nobody, None)), (NtStatus::CONNECTION_REFUSED, WsaError::WSAECONNREFUSED));
        assert!(simulation::now() - begun < Duration::from_millis(1));

        network.partition(&first.attachment, &second.attachment);
        let begun = simulation::now();
        let unanswered = stream()(&near);
        assert_eq!(failed(unanswered.connect(nobody, None)), (NtStatus::IO_TIMEOUT, WsaError::WSAETIMEDOUT));
        let taken = simulation::now() - begun;
        assert!(taken >= CONNECT_TIMEOUT && taken < CONNECT_TIMEOUT + Duration::from_millis(1), "{taken:?}");

        // An own time-out is the driver's, and cancels.
        let begun = simulation::now();
        let impatient = stream()(&near);
        let five = Duration::from_secs(5);
        assert_eq!(failed(impatient.connect(nobody, Some(five))), (NtStatus::IO_TIMEOUT, WsaError::WSAETIMEDOUT));
        let taken = simulation::now() - begun;
        assert!(taken >= five && taken < five + Duration::from_millis(100), "{taken:?}");

        for (error, status, wsa) in [
            (NetworkError::HostUnreachable, NtStatus::HOST_UNREACHABLE, WsaError::WSAEHOSTUNREACH),
            (NetworkError::NetworkUnreachable, NtStatus::NETWORK_UNREACHABLE, WsaError::WSAENETUNREACH),
        ] {
            network.set_unreachable(second.ip, error);
            assert_eq!(failed(stream()(&near).connect(nobody, None)), (status, wsa));
        }
        drop((refused, unanswered, impatient, near));
        first.finish();
        second.finish();
    });
}

#[test]
fn a_partition_that_heals_in_time_costs_time_and_nothing_else() {
    simulate_all(6, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let (listener, address) = listening(&second, &far, 4);
        network.partition(&first.attachment, &second.attachment);
        let client = stream()(&near);
        let begun = simulation::now();
        let connecting = client.start_connect(address, None);
        assert_eq!(connecting.status_within(Duration::from_secs(4)), None);
        network.heal(&first.attachment, &second.attachment);
        let server = listener.accept().expect("accepts").connection;
        connecting.wait().expect("connects");
        let taken = simulation::now() - begun;
        assert!(taken >= Duration::from_secs(9) && taken < Duration::from_secs(10), "the third SYN: {taken:?}");

        let sending = client.start_send(pattern(1, 300_000));
        let mut received = server.receive_all(vec![0; 50_000]).buffer;
        network.partition(&first.attachment, &second.attachment);
        let rest = server.start_receive(vec![0; 250_000], Receive::All);
        assert_eq!(rest.status_within(Duration::from_secs(5)), None);
        network.heal(&first.attachment, &second.attachment);
        let rest = rest.wait();
        assert_eq!(rest.result.expect("receives"), 250_000);
        received.extend(rest.buffer);
        assert!(received == pattern(1, 300_000));
        assert_eq!(sending.wait().result.expect("sends"), 300_000);
        drop((client, server, listener, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn a_partition_that_lasts_ends_the_side_that_sends_and_leaves_the_other_half_open() {
    simulate_all(6, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let (client, server) = connected(&near, &second, &far);
        network.partition(&first.attachment, &second.attachment);
        let (waits, other) = (receiving(&client, 100), receiving(&server, 100));
        let begun = simulation::now();
        client.send(b"into the void").expect("there is room");
        assert_eq!(ended(waits.wait()), (NtStatus::IO_TIMEOUT, WsaError::WSAETIMEDOUT));
        // 300 ms, doubled five times.
        let taken = simulation::now() - begun;
        assert!(taken >= Duration::from_millis(9_300) && taken < Duration::from_millis(9_400), "{taken:?}");
        assert_eq!(failed(client.send(b"again")), (NtStatus::IO_TIMEOUT, WsaError::WSAETIMEDOUT));
        assert_eq!(other.status_within(HOUR), None, "it hears of nothing");
        network.heal(&first.attachment, &second.attachment);
        // The other side has forgotten the connection, and says so.
        server.send(b"hello?").expect("there is room");
        assert_eq!(ended(other.wait()), (NtStatus::CONNECTION_RESET, WsaError::WSAECONNRESET));
        drop((client, server, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn a_machine_that_vanishes_is_missed_by_its_senders_alone() {
    simulate_all(6, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let (sender, gone) = connected(&near, &second, &far);
        let (listener, also_gone) = connected(&near, &second, &far);
        let waits = receiving(&listener, 10);
        network.vanish(&second.attachment);
        sender.send(b"anybody there?").expect("there is room");
        assert_eq!(ended(sender.receive_all(vec![0; 1])), (NtStatus::IO_TIMEOUT, WsaError::WSAETIMEDOUT));
        assert_eq!(waits.status_within(HOUR), None, "half open");
        // Its own end can be taken down, and nobody hears of that either.
        drop((gone, also_gone, far));
        second.finish();
        network.restart(&first.attachment);
        drop((sender, listener, waits, near));
        first.finish();
    });
}

#[test]
fn a_restarted_machine_resets_what_it_does_not_know() {
    simulate_all(4, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let (client, server) = connected(&near, &second, &far);
        network.vanish(&second.attachment);
        network.restart(&second.attachment);
        let waits = receiving(&client, 10);
        assert_eq!(waits.status_within(HOUR), None);
        client.send(b"still there?").expect("there is room");
        assert_eq!(ended(waits.wait()), (NtStatus::CONNECTION_RESET, WsaError::WSAECONNRESET));
        drop((client, server, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn a_reset_ends_everything_on_both_sides() {
    simulate_all(10, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let (client, server) = connected(&near, &second, &far);
        let sending = client.start_send(pattern(1, 500_000));
        let waiting = [receiving(&client, 10), receiving(&client, 10), receiving(&server, 1)];
        assert_eq!(waiting[2].status_within(HOUR), Some(NtStatus::SUCCESS));
        assert_eq!(network.reset(&first.attachment, &second.attachment), 1);
        let reset = (NtStatus::CONNECTION_RESET, WsaError::WSAECONNRESET);
        let [one, two, third] = waiting;
        drop(third);
        assert_eq!([ended(sending.wait()), ended(one.wait()), ended(two.wait())], [reset; 3]);
        assert_eq!(ended(server.receive_buffer(vec![0; 10])), reset, "what was not read is lost");
        assert_eq!(failed(client.send(b"x")), reset);
        drop((client, server, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn a_half_closed_connection_goes_on_in_the_other_direction() {
    simulate_all(6, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        network.set_link(&first.attachment, &second.attachment, Link { loss: 50, ..Link::SLOW });
        let (near, far) = (first.open(), second.open());
        let (client, server) = connected(&near, &second, &far);
        client.send(&pattern(1, 3_000)).expect("sends");
        client.shutdown().expect("ends its side");
        let received = server.receive_all(vec![0; 4_000]);
        assert_eq!(received.result.expect("receives"), 3_000);
        assert!(received.buffer[..3_000] == pattern(1, 3_000));
        server.send(&pattern(2, 9_000)).expect("sends");
        server.shutdown().expect("ends its side");
        let received = client.receive_all(vec![0; 10_000]);
        assert_eq!(received.result.expect("receives"), 9_000);
        assert!(received.buffer[..9_000] == pattern(2, 9_000));
        drop((client, server, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn an_abort_is_a_reset_at_the_peer() {
    simulate_all(4, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let (client, server) = connected(&near, &second, &far);
        let waits = receiving(&server, 10);
        client.abort().expect("aborts");
        assert_eq!(ended(waits.wait()), (NtStatus::CONNECTION_RESET, WsaError::WSAECONNRESET));
        drop((client, server, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn a_full_backlog_refuses() {
    simulate_all(4, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let (listener, address) = listening(&second, &far, 3);
        let connections: Vec<_> = (0..3).map(|_| stream()(&near)).collect();
        for connection in &connections {
            connection.connect(address, None).expect("there is room");
        }
        // It is taken by the network first, as Linux does, and reset by the driver's answer.
        let fourth = stream()(&near);
        let refused = fourth.connect(address, None).and_then(|()| fourth.receive(&mut [0]).map(drop));
        let (status, _) = failed(refused);
        assert!(matches!(status, NtStatus::CONNECTION_REFUSED | NtStatus::CONNECTION_RESET), "{status}");
        let accepted: Vec<_> = (0..3).map(|_| listener.accept().expect("accepts").connection).collect();
        stream()(&near).connect(address, None).expect("there is room again");
        drop((accepted, connections, fourth, listener, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn ipv6_is_as_good() {
    simulate_all(3, |network| {
        let (first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let ip = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]);
        let listener = StreamListener::create(&far, AddressFamily::INET6).expect("an endpoint");
        let address = listener.bind(SocketAddr::new(ip, 0)).expect("binds");
        listener.listen(Backlog(1)).expect("listens");
        let client = StreamConnection::create(&near, AddressFamily::INET6).expect("an endpoint");
        client.connect(address, None).expect("connects");
        let server = listener.accept().expect("accepts").connection;
        assert_eq!(client.peer_address().expect("connected"), address);
        assert_eq!(server.peer_address().expect("connected").ip(), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]));
        client.send(b"six").expect("sends");
        assert_eq!(server.receive_all(vec![0; 3]).buffer, b"six");
        // A machine has no other machine's address, and no other machine's loopback.
        let elsewhere = StreamListener::create(&far, AddressFamily::INET6).expect("an endpoint");
        let foreign = elsewhere.bind(SocketAddr::new(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]), 0));
        assert_eq!(failed(foreign), (NtStatus::INVALID_ADDRESS_COMPONENT, WsaError::WSAEADDRNOTAVAIL));
        let own = StreamListener::create(&far, AddressFamily::INET).expect("an endpoint");
        let address = own.bind("127.0.0.1:0".parse().expect("an address")).expect("binds");
        own.listen(Backlog(1)).expect("listens");
        assert_eq!(failed(stream()(&near).connect(address, None)).0, NtStatus::CONNECTION_REFUSED);
        stream()(&far).connect(address, None).expect("its own");
        drop((client, server, listener, elsewhere, own, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn a_transport_that_is_late_is_waited_for() {
    simulate_all(6, |network| {
        let first = Host::boot_unready(network, 1, Machine::builder(), false);
        let second = Host::boot_unready(network, 2, Machine::builder(), false);
        let near = first.open();
        let early = StreamConnection::create(&near, AddressFamily::INET);
        assert_eq!(failed(early), (NtStatus::DEVICE_NOT_READY, WsaError::WSAENETDOWN));
        let address = SocketAddr::new(second.ip, 4_000);
        simulation::sleep(HOUR);
        first.machine.network().set_ready(true);
        first.wait_for_provider();
        assert_eq!(failed(stream()(&near).connect(address, None)).0, NtStatus::CONNECTION_REFUSED);
        drop(near);
        first.finish();
        // One whose transport never comes goes all the same.
        second.finish();
    });
}

#[test]
fn a_provider_that_detaches_serves_whoever_has_captured_it_and_nobody_after() {
    simulate_all(6, |network| {
        let (mut first, second) = (Host::boot(network, 1), Host::boot(network, 2));
        let (near, far) = (first.open(), second.open());
        let (client, server) = connected(&near, &second, &far);
        first.machine.network().set_ready(false);
        client.send(b"as before").expect("sends");
        assert_eq!(server.receive_all(vec![0; 9]).buffer, b"as before");
        let (listener, address) = listening(&second, &far, 2);
        let further = stream()(&near);
        further.connect(address, None).expect("the NPI is captured");
        assert_eq!(near.status().expect("status").provider, ProviderState::Ready);
        // The driver's unload is what the provider waits for. Its next load has none to capture, until there is one again.
        drop((client, further, near));
        first.reload();
        let near = first.open();
        assert_eq!(failed(StreamConnection::create(&near, AddressFamily::INET)).0, NtStatus::DEVICE_NOT_READY);
        assert_eq!(near.status().expect("status").provider, ProviderState::Capturing);
        first.machine.network().set_ready(true);
        first.wait_for_provider();
        stream()(&near).connect(address, None).expect("it is back");
        drop((server, listener, near, far));
        first.finish();
        second.finish();
    });
}

#[test]
fn four_machines_pass_it_round() {
    const LENGTH: usize = 10_000;
    simulate_all(3, |network| {
        let hosts: Vec<Host> = (1..=4).map(|number| Host::boot(network, number)).collect();
        for (index, host) in hosts.iter().enumerate() {
            network.set_link(&host.attachment, &hosts[(index + 1) % 4].attachment, Link::SLOW);
        }
        let providers: Vec<_> = hosts.iter().map(Host::open).collect();
        let listeners: Vec<_> =
            hosts.iter().zip(&providers).map(|(host, provider)| listening(host, provider, 2)).collect();
        let next: Vec<_> = (0..4)
            .map(|index| {
                let connection = stream()(&providers[index]);
                connection.connect(listeners[(index + 1) % 4].1, None).expect("connects");
                connection
            })
            .collect();
        let before: Vec<_> =
            listeners.iter().map(|(listener, _)| listener.accept().expect("accepts").connection).collect();
        let programs: Vec<_> = next
            .into_iter()
            .zip(before)
            .enumerate()
            .map(|(index, (next, before))| {
                simulation::start("member", move || {
                    if index == 0 {
                        next.send(&pattern(9, LENGTH)).expect("sends");
                    }
                    let got = before.receive_all(vec![0; LENGTH]);
                    assert_eq!(got.result.expect("receives"), LENGTH);
                    assert!(got.buffer == pattern(9, LENGTH));
                    if index != 0 {
                        next.send(&got.buffer).expect("sends");
                    }
                    (next, before)
                })
            })
            .collect();
        let connections: Vec<_> = programs.into_iter().map(simulation::Program::join).collect();
        drop((connections, listeners, providers));
        for host in hosts {
            host.finish();
        }
    });
}
