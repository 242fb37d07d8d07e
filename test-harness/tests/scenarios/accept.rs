//! Listening and accepting.

use crate::support::{Bed, MOMENT, PATIENCE, any, connected, eventually, host_connect, listening, status};
use san_protocol::{NtStatus, WsaError};
use san_proxy::{AddressFamily, Backlog, StreamConnection, StreamListener};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;

#[test]
fn a_connection_is_accepted_and_carries_bytes() {
    let bed = Bed::new();
    let (listener, address) = listening(&bed.open(), 4);
    let mut client = host_connect(address);
    let accepted = listener.accept().expect("accepts");
    assert_eq!(accepted.peer, client.local_addr().expect("its address"));
    assert_eq!(accepted.local, address);
    assert_eq!(accepted.connection.peer_address().expect("has one"), accepted.peer);
    client.write_all(b"ping").expect("sends");
    let mut buffer = [0; 4];
    assert_eq!(accepted.connection.receive(&mut buffer).expect("receives"), 4);
    accepted.connection.send(b"pong").expect("sends");
    client.read_exact(&mut buffer).expect("receives");
    assert_eq!(&buffer, b"pong");
    drop((accepted, listener));
    bed.finish();
}

#[test]
fn an_accept_that_waits_gets_the_next_connection_over_ipv6_too() {
    let bed = Bed::new();
    let provider = bed.open();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        let listener = StreamListener::create(&provider, family).expect("an endpoint");
        let address = listener.bind(any(family)).expect("binds");
        listener.listen(Backlog::MAXIMUM).expect("listens");
        let accept = listener.start_accept().wait_for(MOMENT).expect_err("nobody is there");
        let client = host_connect(address);
        let accepted = accept.wait().expect("accepts");
        assert_eq!(accepted.peer, client.local_addr().expect("its address"));
    }
    drop(provider);
    bed.finish();
}

/// Whether the peer of a connection that came about has let it stand, or reset it.
fn stands(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("polls");
    match (&*client).read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => true,
        Err(_) | Ok(_) => false,
    }
}

#[test]
fn four_of_fifty_wait_the_others_are_refused_at_once_and_nothing_is_lost() {
    let bed = Bed::new();
    let (listener, address) = listening(&bed.open(), 4);
    let clients: Vec<_> = (0..50).map(|_| TcpStream::connect_timeout(&address, PATIENCE)).collect();
    // A refusal comes instead of the connection, or right after it.
    let mut waiting = Vec::new();
    eventually("46 are refused", || {
        waiting = clients.iter().flatten().filter(|client| stands(client)).collect();
        waiting.len() == 4
    });
    for (number, client) in (0_u8..).zip(&waiting) {
        let mut client: &TcpStream = client;
        client.write_all(&[number]).expect("sends");
    }
    for number in 0..4 {
        let accepted = listener.accept().expect("one of the four");
        let mut byte = [0];
        assert_eq!(accepted.connection.receive(&mut byte).expect("receives"), 1);
        assert_eq!(byte, [number], "in the order of their arrival");
    }
    let accept = listener.start_accept().wait_for(MOMENT).expect_err("there is no fifth");
    // There is room again.
    let client = host_connect(address);
    assert_eq!(accept.wait().expect("accepts").peer, client.local_addr().expect("its address"));
    drop((clients, listener));
    bed.finish();
}

#[test]
fn a_bound_listener_that_does_not_listen_yet_refuses() {
    let bed = Bed::new();
    let listener = StreamListener::create(&bed.open(), AddressFamily::INET).expect("an endpoint");
    let address = listener.bind(any(AddressFamily::INET)).expect("binds");
    if let Ok(client) = TcpStream::connect_timeout(&address, PATIENCE) {
        eventually("the peer is refused", || !stands(&client));
    }
    listener.listen(Backlog(1)).expect("listens");
    let client = host_connect(address);
    assert_eq!(listener.accept().expect("accepts").peer, client.local_addr().expect("its address"));
    drop(listener);
    bed.finish();
}

#[test]
fn what_is_out_of_order_gets_its_own_error() {
    let bed = Bed::new();
    let provider = bed.open();
    let listener = StreamListener::create(&provider, AddressFamily::INET).expect("an endpoint");
    let error = listener.listen(Backlog(1)).expect_err("not bound");
    assert_eq!((error.status(), error.wsa_error()), (NtStatus::INVALID_PARAMETER, WsaError::WSAEINVAL));
    assert_eq!(status(listener.accept()), NtStatus::INVALID_PARAMETER);
    listener.bind(any(AddressFamily::INET)).expect("binds");
    assert_eq!(status(listener.bind(any(AddressFamily::INET))), NtStatus::INVALID_PARAMETER);
    assert_eq!(status(listener.accept()), NtStatus::INVALID_PARAMETER);
    listener.listen(Backlog(1)).expect("listens");
    assert_eq!(status(listener.listen(Backlog(1))), NtStatus::CONNECTION_ACTIVE);
    let as_connection = StreamConnection::from_endpoint(listener.into_endpoint());
    assert_eq!(status(as_connection.connect(any(AddressFamily::INET), None)), NtStatus::INVALID_ADDRESS_COMPONENT);
    assert_eq!(status(as_connection.send(b"x")), NtStatus::NOT_SUPPORTED);
    let (connection, _peer) = connected(&provider);
    let as_listener = StreamListener::from_endpoint(connection.into_endpoint());
    assert_eq!(status(as_listener.listen(Backlog(1))), NtStatus::NOT_SUPPORTED);
    assert_eq!(status(as_listener.accept()), NtStatus::NOT_SUPPORTED);
    drop((as_connection, as_listener, provider));
    bed.finish();
}

#[test]
fn accepts_are_served_in_the_order_they_were_made() {
    let bed = Bed::new();
    let (listener, address) = listening(&bed.open(), 1);
    let accepts: Vec<_> = (0..20).map(|_| listener.start_accept()).collect();
    // Twenty that wait make room for twenty more than the backlog.
    let clients: Vec<_> = (0..20).map(|_| host_connect(address)).collect();
    let mut peers: Vec<_> = clients.iter().map(|client| client.local_addr().expect("its address")).collect();
    let mut accepted: Vec<_> = accepts.into_iter().map(|accept| accept.wait().expect("accepts").peer).collect();
    peers.sort_unstable();
    accepted.sort_unstable();
    assert_eq!(peers, accepted);
    drop(listener);
    bed.finish();
}

#[test]
fn a_connection_reset_while_it_waits_is_still_handed_out() {
    let bed = Bed::new();
    let (listener, address) = listening(&bed.open(), 4);
    let client = host_connect(address);
    crate::support::reset_on_close(&client);
    thread::sleep(MOMENT);
    drop(client);
    let accepted = listener.accept().expect("accepts");
    assert_eq!(status(accepted.connection.receive(&mut [0])), NtStatus::CONNECTION_RESET);
    drop((accepted, listener));
    bed.finish();
}

#[test]
fn the_driver_connects_to_itself() {
    let bed = Bed::new();
    let provider = bed.open();
    let (listener, address) = listening(&provider, 1);
    let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    let accept = listener.start_accept();
    connection.connect(address, Some(PATIENCE)).expect("connects");
    let accepted = accept.wait().expect("accepts");
    connection.send(b"hello").expect("sends");
    let mut buffer = [0; 5];
    assert_eq!(accepted.connection.receive(&mut buffer).expect("receives"), 5);
    assert_eq!(&buffer, b"hello");
    drop((connection, accepted, listener, provider));
    bed.finish();
}
