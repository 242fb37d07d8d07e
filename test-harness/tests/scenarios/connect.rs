//! Connecting: every way it goes, and every way it fails.

use crate::support::{Bed, MOMENT, PATIENCE, any, closed_port, connected, echo, host_listener, pattern, status};
use san_protocol::{EndpointKind, NtStatus, SocketOption, WsaError};
use san_proxy::{AddressFamily, Endpoint, StreamConnection, StreamListener};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

#[test]
fn bytes_go_there_and_back() {
    let bed = Bed::new();
    let (connection, peer) = connected(&bed.open());
    let echo = thread::spawn(move || echo(peer));
    let data = pattern(1, 100_000);
    let sent = connection.start_send(data.clone());
    let received = connection.receive_all(vec![0; data.len()]);
    assert_eq!(received.result.expect("receives"), data.len());
    assert!(received.buffer == data);
    assert_eq!(sent.wait().result.expect("sends"), data.len());
    connection.shutdown().expect("ends its side");
    assert_eq!(connection.receive(&mut [0]).expect("the peer has ended, too"), 0);
    echo.join().expect("the peer is content");
    connection.close().expect("closes");
    bed.finish();
}

#[test]
fn connects_over_ipv6() {
    let bed = Bed::new();
    let listener = TcpListener::bind("[::1]:0").expect("IPv6 on loopback");
    let address = listener.local_addr().expect("its address");
    let connection = StreamConnection::create(&bed.open(), AddressFamily::INET6).expect("an endpoint");
    connection.connect(address, Some(PATIENCE)).expect("connects");
    let (mut peer, from) = listener.accept().expect("arrives");
    assert_eq!(connection.local_address().expect("has one"), from);
    assert_eq!(connection.peer_address().expect("has one"), address);
    connection.send(b"six").expect("sends");
    let mut buffer = [0; 3];
    peer.read_exact(&mut buffer).expect("receives");
    assert_eq!(&buffer, b"six");
    drop(connection);
    bed.finish();
}

#[test]
fn a_bound_endpoint_connects_from_its_address() {
    let bed = Bed::new();
    let (listener, address) = host_listener();
    let connection = StreamConnection::create(&bed.open(), AddressFamily::INET).expect("an endpoint");
    let local = connection.bind("127.0.0.9:0".parse().expect("an address")).expect("binds");
    assert_ne!(local.port(), 0);
    connection.connect(address, Some(PATIENCE)).expect("connects");
    assert_eq!(listener.accept().expect("arrives").1, local);
    assert_eq!(connection.local_address().expect("has one"), local);
    drop(connection);
    bed.finish();
}

#[test]
fn options_set_before_there_is_a_socket_are_applied_to_it() {
    let bed = Bed::new();
    let (listener, address) = host_listener();
    let connection = StreamConnection::create(&bed.open(), AddressFamily::INET).expect("an endpoint");
    for option in [SocketOption::NoDelay, SocketOption::KeepAlive] {
        connection.set_option(option, true).expect("is kept");
    }
    connection.connect(address, Some(PATIENCE)).expect("connects");
    let (mut peer, _) = listener.accept().expect("arrives");
    connection.set_option(SocketOption::NoDelay, false).expect("is set at once");
    assert_eq!(status(connection.set_option(SocketOption::ReuseAddress, true)), NtStatus::INVALID_PARAMETER);
    connection.send(b"x").expect("sends");
    peer.read_exact(&mut [0]).expect("receives");
    drop(connection);
    bed.finish();
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    let bed = Bed::new();
    let provider = bed.open();
    let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    let error = connection.connect(closed_port(), Some(PATIENCE)).expect_err("nobody listens");
    assert_eq!(error.status(), NtStatus::CONNECTION_REFUSED);
    assert_eq!(error.wsa_error(), WsaError::WSAECONNREFUSED);
    // The endpoint is as good as new.
    let (listener, address) = host_listener();
    connection.connect(address, Some(PATIENCE)).expect("connects");
    listener.accept().expect("arrives");
    drop(connection);
    // The same when the socket was bound, and had options, before.
    let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    connection.set_option(SocketOption::NoDelay, true).expect("is kept");
    connection.bind(any(AddressFamily::INET)).expect("binds");
    assert_eq!(status(connection.connect(closed_port(), Some(PATIENCE))), NtStatus::CONNECTION_REFUSED);
    connection.bind(any(AddressFamily::INET)).expect("binds again");
    drop((connection, provider));
    bed.finish();
}

/// A listener of the host whose queue is full: further connects get no answer.
fn mute_listener() -> (TcpListener, std::net::SocketAddr, Vec<TcpStream>) {
    use std::os::fd::AsRawFd;
    let (listener, address) = host_listener();
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is open and listens already; this only shortens its queue.
    let result = unsafe { libc::listen(listener.as_raw_fd(), 0) };
    assert_eq!(result, 0);
    let mut waiting = Vec::new();
    while waiting.len() < 8 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => return (listener, address, waiting),
        }
    }
    panic!("the queue of length 0 takes {} connections", waiting.len());
}

#[test]
fn a_peer_that_does_not_answer_times_out() {
    let bed = Bed::new();
    let (_listener, address, _waiting) = mute_listener();
    let connection = StreamConnection::create(&bed.open(), AddressFamily::INET).expect("an endpoint");
    let error = connection.connect(address, Some(Duration::from_millis(200))).expect_err("no answer");
    assert_eq!(error.status(), NtStatus::IO_TIMEOUT);
    assert_eq!(error.wsa_error(), WsaError::WSAETIMEDOUT);
    drop(connection);
    bed.finish();
}

#[test]
fn a_connect_in_time_is_not_reported_as_timed_out() {
    let bed = Bed::new();
    let provider = bed.open();
    let (listener, address) = host_listener();
    for _ in 0..200 {
        // The time is about what a connect takes: either outcome may come, and each must be true.
        let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
        match connection.connect(address, Some(Duration::from_millis(1))) {
            Ok(()) => {
                let (mut peer, _) = listener.accept().expect("arrives");
                connection.send(b"!").expect("it is connected");
                peer.read_exact(&mut [0]).expect("receives");
            }
            Err(error) => assert_eq!(error.status(), NtStatus::IO_TIMEOUT),
        }
        listener.set_nonblocking(true).expect("polls");
        while listener.accept().is_ok() {}
        listener.set_nonblocking(false).expect("waits again");
    }
    drop(provider);
    bed.finish();
}

#[test]
fn a_pending_connect_is_cancelled() {
    let bed = Bed::new();
    let (_listener, address, _waiting) = mute_listener();
    let connection = StreamConnection::create(&bed.open(), AddressFamily::INET).expect("an endpoint");
    let pending = connection.start_connect(address, None);
    let pending = pending.wait_for(MOMENT).expect_err("it pends");
    assert_eq!(status(connection.connect(address, None)), NtStatus::DEVICE_BUSY, "one setup at a time");
    pending.cancel();
    assert_eq!(status(pending.wait()), NtStatus::CANCELLED);
    drop(connection);
    bed.finish();
}

#[test]
fn connecting_twice_is_refused() {
    let bed = Bed::new();
    let (connection, peer) = connected(&bed.open());
    let error = connection.connect(peer.local_addr().expect("its address"), None).expect_err("connected already");
    assert_eq!(error.status(), NtStatus::CONNECTION_ACTIVE);
    assert_eq!(error.wsa_error(), WsaError::WSAEISCONN);
    assert_eq!(status(connection.bind(any(AddressFamily::INET))), NtStatus::INVALID_PARAMETER);
    drop(connection);
    bed.finish();
}

#[test]
fn an_unconnected_endpoint_neither_sends_nor_receives() {
    let bed = Bed::new();
    let connection = StreamConnection::create(&bed.open(), AddressFamily::INET).expect("an endpoint");
    assert_eq!(status(connection.send(b"x")), NtStatus::INVALID_CONNECTION);
    assert_eq!(status(connection.send(b"")), NtStatus::INVALID_CONNECTION);
    assert_eq!(status(connection.receive(&mut [0])), NtStatus::INVALID_CONNECTION);
    assert_eq!(status(connection.shutdown()), NtStatus::INVALID_CONNECTION);
    assert_eq!(status(connection.abort()), NtStatus::INVALID_CONNECTION);
    drop(connection);
    bed.finish();
}

#[test]
fn a_family_that_is_not_offered_is_named() {
    let bed = Bed::new();
    let unknown = AddressFamily(6);
    let error = Endpoint::create(&bed.open(), EndpointKind::StreamConnection, unknown).expect_err("not offered");
    assert_eq!(error.status(), NtStatus::NOT_SUPPORTED);
    assert_eq!(error.wsa_error(), WsaError::WSAEAFNOSUPPORT);
    bed.finish();
}

#[test]
fn an_address_of_the_other_family_is_refused() {
    let bed = Bed::new();
    let connection = StreamConnection::create(&bed.open(), AddressFamily::INET).expect("an endpoint");
    assert_eq!(status(connection.connect("[::1]:9".parse().expect("an address"), None)), NtStatus::INVALID_PARAMETER);
    assert_eq!(status(connection.bind(any(AddressFamily::INET6))), NtStatus::INVALID_PARAMETER);
    for nowhere in ["127.0.0.1:0", "0.0.0.0:9"] {
        let error = connection.connect(nowhere.parse().expect("an address"), None);
        assert_eq!(status(error), NtStatus::INVALID_ADDRESS_COMPONENT);
    }
    drop(connection);
    bed.finish();
}

#[test]
fn a_port_in_use_and_a_foreign_address_cannot_be_bound() {
    let bed = Bed::new();
    let provider = bed.open();
    let (_listener, address) = host_listener();
    let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    let error = connection.bind(address).expect_err("in use");
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::ADDRESS_ALREADY_EXISTS, WsaError::WSAEADDRINUSE));
    let error = connection.bind("192.0.2.1:0".parse().expect("an address")).expect_err("of no machine");
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::INVALID_ADDRESS_COMPONENT, WsaError::WSAEADDRNOTAVAIL));
    let listener = StreamListener::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(status(listener.bind(address)), NtStatus::ADDRESS_ALREADY_EXISTS);
    listener.bind(any(AddressFamily::INET)).expect("may try again");
    drop((connection, listener, provider));
    bed.finish();
}

#[test]
fn five_hundred_connections_at_once() {
    let bed = Bed::new();
    let provider = bed.open();
    let (listener, address) = host_listener();
    let acceptor = thread::spawn(move || {
        let peers: Vec<TcpStream> = (0..500).map(|_| listener.accept().expect("arrives").0).collect();
        for mut peer in &peers {
            let mut byte = [0];
            peer.read_exact(&mut byte).expect("receives");
            peer.write_all(&byte).expect("answers");
        }
        peers
    });
    let connections: Vec<_> =
        (0..500).map(|_| StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint")).collect();
    let pending: Vec<_> =
        connections.iter().map(|connection| connection.start_connect(address, Some(PATIENCE))).collect();
    for connect in pending {
        connect.wait().expect("connects");
    }
    assert_eq!(provider.status().expect("status").endpoints, 500);
    for (connection, byte) in connections.iter().zip(0_u8..=255) {
        connection.send(&[byte]).expect("sends");
    }
    for connection in connections.iter().skip(256) {
        connection.send(b"z").expect("sends");
    }
    for (index, connection) in connections.iter().enumerate() {
        let mut byte = [0];
        assert_eq!(connection.receive(&mut byte).expect("receives"), 1);
        assert_eq!(byte[0], u8::try_from(index).unwrap_or(b'z'));
    }
    drop(acceptor.join().expect("the peers are content"));
    drop(connections);
    assert_eq!(provider.status().expect("status").endpoints, 0);
    drop(provider);
    bed.finish();
}
