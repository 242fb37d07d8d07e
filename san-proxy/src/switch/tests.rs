//! The switch over a device in memory.

use super::*;
use crate::fake::FakeDevice;
use crate::{Backlog, WsaError};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;

const SOON: Duration = Duration::from_millis(20);

/// A switch whose SAN is 127.0.0.0/8, with small windows.
fn switch() -> (Switch, Arc<FakeDevice>) {
    let (provider, device) = FakeDevice::provider();
    (Switch::new(Some(provider), config()), device)
}

fn config() -> SwitchConfig {
    let subnet: Prefix = "127.0.0.0/8".parse().unwrap();
    let receives = ReceiveWindow { count: 2, size: 64 };
    SwitchConfig { receives, send_count: 2, ..SwitchConfig::default() }.with_subnet(subnet)
}

/// Both ends of a stream.
fn streams(switch: &Switch) -> (SanStream, SanStream) {
    let listener = switch.bind("127.0.0.1:0").unwrap();
    let client = switch.connect(listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

/// Both ends of a stream over the SAN.
fn san_streams(switch: &Switch) -> (SanStream, SanStream) {
    let streams = streams(switch);
    assert!(streams.0.is_san() && streams.1.is_san());
    streams
}

fn wsa(error: &io::Error) -> WsaError {
    error.get_ref().and_then(|error| error.downcast_ref::<Error>()).expect("a SAN error").wsa_error()
}

#[test]
fn bytes_go_both_ways_whatever_the_path() {
    let (san, device) = switch();
    let (provider, _) = FakeDevice::provider();
    let no_subnets = Switch::new(Some(provider), SwitchConfig::default());
    let no_provider = Switch::new(None, config());
    for (switch, is_san) in [(san, true), (no_subnets, false), (no_provider, false)] {
        let (client, server) = streams(&switch);
        assert_eq!((client.is_san(), server.is_san()), (is_san, is_san));
        assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
        assert_eq!(client.san_failure(), None);
        let data: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut echoed = Vec::new();
                (&server).read_to_end(&mut echoed).unwrap();
                (&server).write_all(&echoed).unwrap();
                server.shutdown(Shutdown::Write).unwrap();
            });
            (&client).write_all(&data).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            (&client).read_to_end(&mut back).unwrap();
            assert!(back == data);
        });
        let after = (&client).write(b"more").unwrap_err();
        assert_eq!(after.kind(), ErrorKind::BrokenPipe);
    }
    assert_eq!((device.endpoints(), device.pending()), (0, 0), "nothing is left");
}

#[test]
fn what_was_written_before_a_drop_arrives() {
    let (switch, _) = switch();
    let (mut client, mut server) = san_streams(&switch);
    let written = [[1; 60], [2; 60]].concat();
    client.write_all(&written).unwrap();
    drop(client);
    let mut read = Vec::new();
    server.read_to_end(&mut read).unwrap();
    assert_eq!(read, written);
}

#[test]
fn a_full_window_blocks_and_times_out() {
    let (switch, _) = switch();
    let (mut client, mut server) = san_streams(&switch);
    client.set_nonblocking(true).unwrap();
    let mut written = 0;
    let full = loop {
        match client.write(&[7; 1000]) {
            Ok(length) => written += length,
            Err(error) => break error.kind(),
        }
    };
    assert_eq!((full, written), (ErrorKind::WouldBlock, 4 * 60), "two receives and two sends");
    client.set_nonblocking(false).unwrap();
    client.set_write_timeout(Some(SOON)).unwrap();
    assert_eq!(client.write_timeout().unwrap(), Some(SOON));
    let timed_out = if cfg!(windows) { ErrorKind::TimedOut } else { ErrorKind::WouldBlock };
    assert_eq!(client.write(&[7]).unwrap_err().kind(), timed_out);
    let mut read = vec![0; written];
    server.read_exact(&mut read).unwrap();
    assert_eq!(read, vec![7; written]);
    assert_eq!(client.write(&[7]).unwrap(), 1);
}

#[test]
fn reads_would_block_time_out_and_peek() {
    let (switch, _) = switch();
    let (mut client, mut server) = san_streams(&switch);
    let mut buffer = [0; 8];
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    assert_eq!(server.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
    server.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(server.read_timeout().unwrap(), Some(SOON));
    let begun = Instant::now();
    let timed_out = if cfg!(windows) { ErrorKind::TimedOut } else { ErrorKind::WouldBlock };
    assert_eq!(server.read(&mut buffer).unwrap_err().kind(), timed_out);
    assert!(begun.elapsed() >= SOON);
    client.write_all(b"0123456789").unwrap();
    assert_eq!((server.peek(&mut buffer).unwrap(), &buffer), (8, b"01234567"));
    assert_eq!((server.read(&mut buffer[..3]).unwrap(), &buffer[..3]), (3, &b"012"[..]));
    assert_eq!((server.read(&mut buffer).unwrap(), &buffer[..7]), (7, &b"3456789"[..]));
    assert_eq!(server.read(&mut []).unwrap(), 0);
}

#[test]
fn shutting_down_reading_wakes_the_reader() {
    let (switch, _) = switch();
    let (_client, server) = san_streams(&switch);
    thread::scope(|scope| {
        let reader = scope.spawn(|| (&server).read(&mut [0; 8]).unwrap());
        thread::sleep(SOON);
        server.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
    });
}

#[test]
fn a_clone_keeps_the_connection() {
    let (switch, device) = switch();
    let (client, mut server) = san_streams(&switch);
    let mut other = client.try_clone().unwrap();
    drop(client);
    other.write_all(b"still").unwrap();
    drop(other);
    let mut read = String::new();
    server.read_to_string(&mut read).unwrap();
    assert_eq!(read, "still");
    drop(server);
    assert_eq!(device.endpoints(), 0);
}

#[test]
fn a_listener_takes_both_kinds_and_waits_for_either() {
    let (switch, device) = switch();
    let listener = switch.bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert!(listener.is_san() && listener.san_failure().is_none());
    let tcp = TcpStream::connect(address).unwrap();
    assert!(!listener.accept().unwrap().0.is_san());
    let san = switch.connect(address).unwrap();
    assert!(listener.incoming().next().unwrap().unwrap().is_san());
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    drop((tcp, san, listener));
    assert_eq!((device.endpoints(), device.pending()), (0, 0));
}

#[test]
fn a_listener_elsewhere_is_one_of_tcp_alone() {
    let (provider, device) = FakeDevice::provider();
    let elsewhere: Prefix = "10.0.0.0/8".parse().unwrap();
    let switch = Switch::new(Some(provider), SwitchConfig::default().with_subnet(elsewhere));
    assert!(!switch.bind("127.0.0.1:0").unwrap().is_san());
    assert!(switch.bind("0.0.0.0:0").unwrap().is_san(), "the wildcard");
    assert_eq!(device.endpoints(), 0);
}

#[test]
fn a_port_that_the_san_has_in_use_leaves_tcp_alone() {
    let (switch, _) = switch();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let taken = SanEndpoint::create(switch.provider().unwrap(), AddressFamily::INET).unwrap();
    taken.bind(free).unwrap();
    taken.listen(Backlog(1)).unwrap();
    let listener = switch.bind(free).unwrap();
    assert!(!listener.is_san());
    assert_eq!(listener.san_failure().unwrap().wsa_error(), WsaError::WSAEADDRINUSE);
}

#[test]
fn where_it_is_certain_that_nobody_listens_tcp_is_not_tried() {
    let (switch, device) = switch();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    // The device says so where nobody listens on the SAN, though TCP would have answered.
    let nobody = switch.connect(address).unwrap_err();
    assert_eq!((nobody.kind(), wsa(&nobody)), (ErrorKind::ConnectionReset, WsaError::WSAECONNRESET));
    tcp.set_nonblocking(true).unwrap();
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "TCP was not asked");
    assert_eq!(device.endpoints(), 0, "the SAN socket is closed");
}

#[test]
fn polled_connects_are_answered_by_the_switch() {
    let (switch, device) = switch();
    let listener = SanEndpoint::create(switch.provider().unwrap(), AddressFamily::INET).unwrap();
    let address = listener.bind("127.0.0.1:4711".parse().unwrap()).unwrap();
    listener.listen(Backlog(4)).unwrap();
    let socket = switch.socket();
    socket.set_nonblocking(true);
    let poll = || socket.connect(address).map_err(|error| (error.kind(), wsa(&error)));
    assert_eq!(poll(), Err((ErrorKind::WouldBlock, WsaError::WSAEWOULDBLOCK)));
    assert_eq!(poll(), Err((ErrorKind::ResourceBusy, WsaError::WSAEALREADY)));
    let endpoint = listener.accept().unwrap().accept().unwrap();
    thread::sleep(SOON);
    assert!(!socket.is_connected(), "not before the session is negotiated");
    let config = switch.config();
    let server = SanSession::negotiate(endpoint, config.receives, b"", config.negotiate_timeout).unwrap();
    while !socket.is_connected() {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(poll(), Ok(()));
    for _ in 0..2 {
        assert_eq!(poll().unwrap_err().1, WsaError::WSAEISCONN);
    }
    let (mut stream, mut server) = (socket.into_stream().unwrap(), server);
    stream.write_all(b"hello").unwrap();
    server.receive(|message| assert_eq!(message, b"\x01\0\0\0hello")).unwrap();
    // The fake device counts what was asked of it: one listener, and two ends.
    assert_eq!(device.endpoints(), 3);
}

#[test]
fn a_socket_that_is_dropped_gives_its_connect_up() {
    let (switch, device) = switch();
    let undecided = SanEndpoint::create(switch.provider().unwrap(), AddressFamily::INET).unwrap();
    let address = undecided.bind("127.0.0.1:4713".parse().unwrap()).unwrap();
    undecided.listen(Backlog(1)).unwrap();
    let socket = switch.socket();
    socket.set_nonblocking(true);
    assert_eq!(wsa(&socket.connect(address).unwrap_err()), WsaError::WSAEWOULDBLOCK);
    while device.pending() == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    drop(socket);
    let deadline = Instant::now() + Duration::from_secs(20);
    while device.pending() != 0 {
        assert!(Instant::now() < deadline, "the connect has ended");
    }
}

#[test]
fn a_socket_that_is_dropped_gives_its_negotiation_up() {
    let (switch, device) = switch();
    let silent = SanEndpoint::create(switch.provider().unwrap(), AddressFamily::INET).unwrap();
    let address = silent.bind("127.0.0.1:4714".parse().unwrap()).unwrap();
    silent.listen(Backlog(1)).unwrap();
    let socket = switch.socket();
    socket.set_nonblocking(true);
    assert_eq!(wsa(&socket.connect(address).unwrap_err()), WsaError::WSAEWOULDBLOCK);
    let peer = silent.accept().unwrap().accept().unwrap();
    // Two receives, two regions and the negotiation.
    let deadline = Instant::now() + Duration::from_secs(20);
    while device.pending() != 5 {
        assert!(Instant::now() < deadline, "it negotiates");
    }
    let begun = Instant::now();
    drop(socket);
    while device.pending() != 0 {
        assert!(begun.elapsed() < switch.config().negotiate_timeout / 2, "before the negotiation times out");
    }
    drop(peer);
}

#[test]
fn a_socket_that_failed_can_be_tried_again() {
    let (switch, _) = switch();
    let socket = switch.socket();
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    for _ in 0..2 {
        assert_eq!(socket.connect(nobody).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(wsa(&switch.socket().into_stream().unwrap_err()), WsaError::WSAENOTCONN);
    assert_eq!(socket.into_stream().unwrap_err().kind(), ErrorKind::NotConnected);
}

#[test]
fn a_peer_that_negotiates_nothing_is_given_up_and_tcp_is_not_tried() {
    let (provider, _) = FakeDevice::provider();
    let config = SwitchConfig { negotiate_timeout: SOON, ..config() };
    let switch = Switch::new(Some(provider), config);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let silent = SanEndpoint::create(switch.provider().unwrap(), AddressFamily::INET).unwrap();
    silent.bind(address).unwrap();
    silent.listen(Backlog(1)).unwrap();
    let connecting = thread::scope(|scope| {
        let connecting = scope.spawn(|| switch.connect(address));
        let _peer = silent.accept().unwrap().accept().unwrap();
        connecting.join().unwrap()
    });
    assert_eq!(connecting.unwrap_err().kind(), ErrorKind::TimedOut);
    tcp.set_nonblocking(true).unwrap();
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "there is no way back");
}

#[test]
fn a_peer_that_is_no_switch_breaks_the_stream() {
    let (switch, _) = switch();
    let listener = switch.bind("127.0.0.1:0").unwrap();
    let session = switch.connect_session(listener.local_addr().unwrap(), b"private").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    assert_eq!(session.peer().receive_size, 64);
    session.send(b"what?").unwrap();
    for _ in 0..2 {
        assert_eq!(server.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}

#[test]
fn sessions_hand_out_messages_and_their_end() {
    let (switch, _) = switch();
    let listener = SanEndpoint::create(switch.provider().unwrap(), AddressFamily::INET).unwrap();
    let address = listener.bind("127.0.0.1:4712".parse().unwrap()).unwrap();
    listener.listen(Backlog(4)).unwrap();
    let receives = switch.config().receives;
    let (client, mut server) = thread::scope(|scope| {
        let client = scope.spawn(|| switch.connect_session(address, b"client").unwrap());
        let endpoint = listener.accept().unwrap().accept().unwrap();
        let server = SanSession::negotiate(endpoint, receives, b"server", Duration::from_secs(20)).unwrap();
        (client.join().unwrap(), server)
    });
    assert_eq!((&*client.peer().private, &*server.peer().private), (&b"server"[..], &b"client"[..]));
    assert_eq!(server.receive_within(SOON, <[u8]>::to_vec), Ok(None));
    for number in 0..10 {
        client.send(&[number; 64]).unwrap();
        assert_eq!(server.receive(<[u8]>::to_vec), Ok(vec![number; 64]));
    }
    client.disconnect().unwrap();
    for _ in 0..5 {
        let ended = server.receive(<[u8]>::to_vec).unwrap_err();
        assert_eq!(ended.wsa_error(), WsaError::WSAEDISCON);
    }
}

#[test]
fn without_a_subnet_there_are_no_sessions() {
    let switch = Switch::new(None, config());
    let error = switch.connect_session("127.0.0.1:80".parse().unwrap(), b"").unwrap_err();
    assert_eq!(error.wsa_error(), WsaError::WSAENETUNREACH);
}

#[test]
fn routing_finds_the_local_address() {
    assert_eq!(routed_from("127.0.0.1:9".parse().unwrap()), Ok(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(routed_from("[::1]:9".parse().unwrap()), Ok(Ipv6Addr::LOCALHOST.into()));
}

#[test]
fn a_stream_by_the_san_alone_needs_no_subnet_and_has_no_other_way() {
    let (provider, _) = FakeDevice::provider();
    let switch = Switch::new(Some(provider.clone()), SwitchConfig { subnets: SubnetTable::default(), ..config() });
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let refused = switch.connect_san(address, Some(Duration::from_secs(20))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset, "nobody is on the SAN");
    let listener = SanEndpoint::create(&provider, AddressFamily::INET).unwrap();
    listener.bind(address).unwrap();
    listener.listen(Backlog(1)).unwrap();
    let (mut client, mut server) = thread::scope(|scope| {
        let client = scope.spawn(|| switch.connect_san(address, None).unwrap());
        let endpoint = listener.accept().unwrap().accept().unwrap();
        (SanStream::negotiate(endpoint, switch.config()).unwrap(), client.join().unwrap())
    });
    assert!(client.is_san() && server.is_san());
    client.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    tcp.set_nonblocking(true).unwrap();
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "TCP/IP was not tried");
    let none = Switch::new(None, config()).connect_san(address, None).unwrap_err();
    assert_eq!(wsa(&none), WsaError::WSAENETUNREACH);
}
