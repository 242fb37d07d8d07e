//! Listeners that accept from the SAN and from TCP/IP.

use crate::bed::{bed, config, read_all, switch};
use crate::support::{MOMENT, PATIENCE};
use san_proxy::{AddressFamily, Backlog, SanEndpoint, SanListener, SwitchConfig, WsaError};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

fn address(listener: &SanListener) -> SocketAddr {
    listener.local_addr().expect("its address")
}

#[test]
fn a_listener_accepts_from_both_in_any_order() {
    let bed = bed();
    let switch = switch(&bed, config());
    for at in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
        let listener = switch.bind(at).expect("listens");
        assert!(listener.is_san(), "{at}");
        let ip = if at.starts_with('[') { "::1" } else { "127.0.0.1" }.parse().expect("an address");
        let to = SocketAddr::new(ip, address(&listener).port());
        thread::scope(|scope| {
            let clients = scope.spawn(|| {
                for number in 0..20_u8 {
                    let mut client: Box<dyn Write> = if number % 2 == 0 {
                        Box::new(switch.connect(to).expect("connects"))
                    } else {
                        Box::new(TcpStream::connect(to).expect("connects"))
                    };
                    client.write_all(&[number]).expect("writes");
                }
            });
            let mut numbers = Vec::new();
            for stream in listener.incoming().take(20) {
                let stream = stream.expect("accepts");
                let is_san = stream.is_san();
                let number = read_all(stream)[0];
                assert_eq!(is_san, number % 2 == 0, "{at}: {number}");
                numbers.push(number);
            }
            numbers.sort_unstable();
            assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "each of them once");
            clients.join().expect("the clients");
        });
    }
    drop(switch);
    bed.finish();
}

#[test]
fn a_nonblocking_listener_says_that_nobody_waits() {
    let bed = bed();
    let switch = switch(&bed, config());
    let listener = switch.bind("127.0.0.1:0").expect("listens");
    listener.set_nonblocking(true).expect("non-blocking");
    assert_eq!(listener.accept().expect_err("nobody").kind(), ErrorKind::WouldBlock);
    let client = switch.connect(address(&listener)).expect("connects");
    crate::support::eventually("it arrives", || match listener.accept() {
        Ok((server, _)) => server.is_san(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    });
    listener.set_nonblocking(false).expect("blocking");
    thread::scope(|scope| {
        let accepting = scope.spawn(|| listener.accept().expect("accepts").0.is_san());
        thread::sleep(MOMENT);
        let tcp = TcpStream::connect(address(&listener)).expect("connects");
        assert!(!accepting.join().expect("does not panic"));
        drop(tcp);
    });
    drop((client, listener, switch));
    bed.finish();
}

#[test]
fn tcp_listens_first_and_alone_where_the_san_cannot() {
    let bed = bed();
    let switch = switch(&bed, config());
    // TCP's error is the listener's.
    let taken = TcpListener::bind("127.0.0.1:0").expect("listens");
    let error = switch.bind(taken.local_addr().expect("its address")).expect_err("it is in use");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let status = switch.provider().expect("there is one").status().expect("status");
    assert_eq!(status.endpoints, 0, "the SAN was not asked");
    // The SAN's is not.
    let port = taken.local_addr().expect("its address");
    drop(taken);
    let san = SanEndpoint::create(switch.provider().expect("there is one"), AddressFamily::INET).expect("made");
    san.bind(port).expect("binds");
    san.listen(Backlog(1)).expect("listens");
    let listener = switch.bind(port).expect("listens on TCP/IP");
    assert!(!listener.is_san());
    assert_eq!(listener.san_failure().expect("it was tried").wsa_error(), WsaError::WSAEADDRINUSE);
    let client = TcpStream::connect(port).expect("connects");
    assert!(!listener.accept().expect("accepts").0.is_san());
    drop((client, listener, san, switch));
    bed.finish();
}

#[test]
fn a_silent_peer_keeps_nobody_waiting() {
    let bed = bed();
    let switch = switch(&bed, config());
    let listener = switch.bind("127.0.0.1:0").expect("listens");
    // It connects, and negotiates nothing.
    let silent = SanEndpoint::create(switch.provider().expect("there is one"), AddressFamily::INET).expect("made");
    silent.bind(([127, 0, 0, 1], 0).into()).expect("binds");
    silent.connect(address(&listener), Some(PATIENCE)).expect("connects");
    let client = switch.connect(address(&listener)).expect("connects");
    let (server, peer) = listener.accept().expect("accepts");
    assert_eq!(peer, client.local_addr().expect("its address"));
    // The listener ends although a session is being negotiated.
    drop(listener);
    drop((client, server, silent, switch));
    bed.finish();
}

#[test]
fn connections_that_nobody_accepts_end_with_their_listener() {
    let bed = bed();
    let switch = switch(&bed, SwitchConfig { backlog: 2, ..config() });
    let listener = switch.bind("127.0.0.1:0").expect("listens");
    let clients: Vec<_> = (0..2).map(|_| switch.connect(address(&listener)).expect("connects")).collect();
    let tcp = TcpStream::connect(address(&listener)).expect("connects");
    drop(listener);
    for mut client in clients {
        // An end, or a reset where the listener had not even got it ready: TCP has either as well.
        match client.read(&mut [0]) {
            Ok(length) => assert_eq!(length, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    drop((tcp, switch));
    bed.finish();
}
