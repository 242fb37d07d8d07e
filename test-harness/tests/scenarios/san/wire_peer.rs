//! A foreign machine: it speaks the wire over plain sockets, as well or as badly as a test wants.

use super::support::{Receiver, bound, builder, free_port, listening};
use crate::support::{Bed, MOMENT, PATIENCE, accept_in_time};
use rustix::net;
use san_protocol::wire::{
    ConnectRequest, ControlMessage, HEADER_SIZE, Header, MessageType, RejectReason, SessionOffer,
};
use san_proxy::{Provider, SanEndpoint};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use test_harness::machine::Builder;
use test_harness::nt::registry::Value;

/// The SAN address of the foreign machine.
pub(crate) const FOREIGN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 7);

/// Its native address.
const FOREIGN_NATIVE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Bytes of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
}

/// A TCP connection of the foreign machine.
pub(crate) struct WirePeer {
    stream: TcpStream,
}

impl WirePeer {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Self { stream }
    }

    /// Connects from the foreign machine.
    pub(crate) fn connect(native: SocketAddr) -> Self {
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &SocketAddr::from((FOREIGN_NATIVE, 0))).expect("binds");
        net::connect(&socket, &native).expect("connects");
        Self::new(TcpStream::from(socket))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sends");
    }

    pub(crate) fn send_byte_by_byte(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(std::slice::from_ref(byte));
            std::thread::yield_now();
        }
    }

    pub(crate) fn send_session(&mut self, receive_size: u32, credits: u32) {
        self.send(session(receive_size, b"", credits).as_bytes());
    }

    /// Sends one message of the application.
    pub(crate) fn send_data(&mut self, payload: &[u8]) {
        self.send(&[&header(MessageType::Data, payload.len(), 0), payload].concat());
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Message {
        let mut bytes = [0; HEADER_SIZE];
        self.stream.read_exact(&mut bytes).expect("a header");
        let header = Header::parse(&bytes).expect("of this protocol");
        let mut payload = vec![0; header.length as usize];
        self.stream.read_exact(&mut payload).expect("its payload");
        Message { header, payload }
    }

    /// The next message, which is of this type.
    #[track_caller]
    pub(crate) fn expect(&mut self, message: MessageType) -> Message {
        let received = self.receive();
        assert_eq!(received.header.message, message);
        received
    }

    /// The reason of the rejection that comes next.
    #[track_caller]
    pub(crate) fn expect_reject(&mut self) -> RejectReason {
        RejectReason::parse(&self.expect(MessageType::Reject).payload).expect("a reason")
    }

    /// Whether nothing comes for a moment, not even the end.
    pub(crate) fn hears_nothing(&self) -> bool {
        self.stream.set_read_timeout(Some(MOMENT)).expect("a timeout");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        matches!(peeked, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// What comes until the connection has ended, by the driver's doing.
    #[track_caller]
    pub(crate) fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the connection ends"),
        }
        rest
    }
}

/// Bytes of a header.
pub(crate) fn header(message: MessageType, length: usize, credits: u32) -> Vec<u8> {
    let length = u32::try_from(length).expect("a length");
    Header { message, length, credits }.encode().to_vec()
}

/// A session message.
pub(crate) fn session(receive_size: u32, private: &[u8], credits: u32) -> ControlMessage {
    ControlMessage::session(&SessionOffer { receive_size, private }, credits).expect("a session message")
}

/// A request of the foreign machine to connect.
pub(crate) fn connect_request(target: SocketAddr) -> ControlMessage {
    ControlMessage::connect_request(&ConnectRequest { source: FOREIGN, target })
}

/// What the driver's endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Connector,
    Acceptor,
}

impl Role {
    pub(crate) const BOTH: [Self; 2] = [Self::Connector, Self::Acceptor];
}

/// A machine with the driver, and the foreign machine next to it.
pub(crate) struct Neighbours {
    pub(crate) bed: Bed,
    /// Where the driver's SAN connections arrive.
    pub(crate) native: SocketAddr,
    listener: TcpListener,
}

impl Neighbours {
    pub(crate) fn new() -> Self {
        Self::with("tcp", |builder| builder)
    }

    /// `reach` is what the route to the foreign machine says about TCP/IP.
    pub(crate) fn with(reach: &str, parameters: impl FnOnce(Builder) -> Builder) -> Self {
        let listener = TcpListener::bind((FOREIGN_NATIVE, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let routes =
            vec!["127.0.0.1 127.0.0.1".to_owned(), format!("{} {FOREIGN_NATIVE} port={port} {reach}", FOREIGN.ip())];
        let native = free_port();
        let builder = builder().parameter("sanwsk", "NativePort", Value::Number(native.into())).parameter(
            "sanwsk",
            "Routes",
            Value::List(routes),
        );
        Self { bed: Bed::with(parameters(builder)), native: (Ipv4Addr::LOCALHOST, native).into(), listener }
    }

    /// A connection of the driver to the foreign machine, which has said nothing yet.
    pub(crate) fn arriving(&self) -> WirePeer {
        WirePeer::new(accept_in_time(&self.listener))
    }

    /// An endpoint of the driver, connected to a peer of the foreign machine.
    pub(crate) fn connected(&self, provider: &Provider, role: Role) -> (SanEndpoint, WirePeer) {
        match role {
            Role::Connector => {
                let (connector, source) = bound(provider);
                let connect = connector.start_connect(FOREIGN, Some(PATIENCE));
                let mut peer = self.arriving();
                let request = ConnectRequest::parse(&peer.expect(MessageType::ConnectRequest).payload);
                assert_eq!(request, Ok(ConnectRequest { source, target: FOREIGN }));
                peer.send(ControlMessage::accept().as_bytes());
                connect.wait().expect("connects");
                (connector, peer)
            }
            Role::Acceptor => {
                let (listener, address) = listening(provider, 1);
                let mut peer = WirePeer::connect(self.native);
                peer.send(connect_request(address).as_bytes());
                let undecided = listener.accept().expect("arrives");
                assert_eq!((undecided.local(), undecided.peer()), (address, FOREIGN));
                let acceptor = undecided.accept().expect("accepts");
                peer.expect(MessageType::Accept);
                (acceptor, peer)
            }
        }
    }

    /// The same with a session: the driver's side has posted `count` receives of `size` bytes, the peer takes messages of `size`
    /// bytes, and as many as `credits` at first.
    pub(crate) fn session(
        &self,
        provider: &Provider,
        role: Role,
        (count, size): (usize, usize),
        credits: u32,
    ) -> (Receiver, WirePeer) {
        let (endpoint, mut peer) = self.connected(provider, role);
        let receiver = Receiver::new(endpoint, count, size);
        let size = u32::try_from(size).expect("a message size");
        let negotiate = receiver.endpoint.start_negotiate(b"", size);
        assert_eq!(peer.expect(MessageType::Session).header.credits as usize, count);
        peer.send_session(size, credits);
        negotiate.wait().expect("negotiates");
        (receiver, peer)
    }
}
