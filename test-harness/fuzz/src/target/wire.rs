//! A foreign peer at the other end of a SAN connection, which sends what the protocol knows, and what it does not.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use rustix::net::{self, AddressFamily, SocketType, sockopt};
use san_protocol::wire::{
    ConnectRequest, ControlMessage, HEADER_SIZE, Header, MessageType, RejectReason, SessionOffer,
};
use san_protocol::{ControlCode, DISCONNECT_ABORTIVE, Decision, EndpointId, EndpointKind};

use crate::bed::{Bed, FOREIGN, FOREIGN_NATIVE, Failure, PATIENCE, wrong};
use crate::client::{Client, Request};
use crate::requests::Slice;

/// Steps of one input; what follows is left out.
const MOST_STEPS: usize = 40;
/// Bytes of registered memory, and of each message's place in it.
const MEMORY: usize = 4096;
const PLACE: u32 = 64;
const KEY: u64 = 1;
/// Messages that each side may send at first, where the stage is a session.
const CREDITS: u32 = 4;

/// Long enough for what was sent to arrive, mostly.
const MOMENT: Duration = Duration::from_micros(200);

/// How far peer and driver go by the book before the steps begin.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// A TCP connection.
    Native,
    /// The connection is accepted, on whichever side.
    Connected,
    /// The sessions are exchanged; each side may send.
    Session,
}

/// What the driver's endpoint is.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Role {
    Acceptor,
    Connector,
}

/// What happens next.
#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// The peer sends a header of any type, with any length and credits, and any payload.
    Message {
        kind: u8,
        length: Option<u32>,
        credits: u32,
        payload: &'a [u8],
    },
    /// The peer asks for the connection, of the right addresses or with one bit flipped.
    Request {
        flip: Option<u16>,
    },
    Accept,
    Reject(u32),
    Session {
        receive_size: u16,
        credits: u8,
        private: &'a [u8],
    },
    Data(&'a [u8]),
    Credit(u32),
    Goodbye,
    /// The peer sends bytes of no particular form.
    Bytes(&'a [u8]),
    /// The peer ends its direction of TCP.
    Shutdown,
    /// The peer resets the connection.
    Reset,
    /// The driver's side:
    Post,
    Negotiate {
        receive_size: u8,
    },
    Send(&'a [u8]),
    SendRegistered(u8),
    Decide(bool),
    Disconnect {
        abortive: bool,
    },
    Deregister,
    Close,
    Cancel(u8),
    Moment,
}

/// The foreign peer's connection, while it stands.
struct Peer {
    stream: Option<TcpStream>,
    /// All that it has sent.
    sent: Vec<u8>,
    /// All that it has received.
    received: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> Result<Self, Failure> {
        stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).map_err(harness)?;
        Ok(Self { stream: Some(stream), sent: Vec::new(), received: Vec::new() })
    }

    fn connect(native: SocketAddr) -> Result<Self, Failure> {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).map_err(harness)?;
        net::bind(&socket, &SocketAddr::from((FOREIGN_NATIVE, 0))).map_err(harness)?;
        net::connect(&socket, &native).map_err(harness)?;
        Self::new(socket.into())
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream
            // Whatever does not fit into TCP's buffers, or comes after the end, is not sent.
            && let Ok(length) = stream.write(bytes)
        {
            self.sent.extend(&bytes[..length]);
        }
    }

    /// Takes what has come; whether more may come.
    fn look(&mut self) -> bool {
        let mut buffer = [0; 4096];
        while let Some(stream) = &mut self.stream {
            match stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.received.extend(&buffer[..length]),
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// Waits for a message of this type to have come after `from` bytes.
    fn expect(&mut self, message: MessageType) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !parse(&self.received)?.any(|(header, _)| header.message == message) {
            if !self.look() || Instant::now() > deadline {
                return wrong(format!("the driver sends no {message:?}, but {:02x?}", self.received));
            }
            thread::sleep(MOMENT / 4);
        }
        Ok(())
    }

    fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            // Then the close resets it; if the option cannot be set, it ends gracefully.
            let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
        }
    }
}

fn harness(error: impl std::fmt::Display) -> Failure {
    Failure::Wrong(format!("the foreign peer: {error}"))
}

/// The messages that bytes begin with, each with what has come of its payload; fails where the header is none.
fn parse(bytes: &[u8]) -> Result<impl Iterator<Item = (Header, &[u8])>, Failure> {
    let (mut rest, mut messages) = (bytes, Vec::new());
    while let Some((header, behind)) = rest.split_first_chunk::<HEADER_SIZE>() {
        let header = Header::parse(header)
            .or_else(|error| wrong(format!("the driver sends what is no message: {error:?} in {bytes:02x?}")))?;
        let length = (header.length as usize).min(behind.len());
        let (payload, behind) = behind.split_at(length);
        messages.push((header, payload));
        rest = behind;
    }
    Ok(messages.into_iter())
}

/// A connection between the driver and the peer.
struct Scene<'a> {
    client: &'a Client,
    role: Role,
    /// What the peer asks for.
    request: ConnectRequest,
    endpoint: EndpointId,
    /// The driver's request that pends until the peer is there: its accept or its connect.
    meeting: Request,
    peer: Peer,
    /// The registered memory, which comes back when it is registered no more.
    memory: Option<Request>,
    posted: Vec<Request>,
}

/// The answer that a request has without waiting for anybody else.
fn now(request: &Request, what: &str) -> Result<crate::client::Answer, Failure> {
    request.wait(PATIENCE).map_or_else(|| wrong(format!("{what} does not end")), Ok)
}

impl<'a> Scene<'a> {
    fn new(bed: &Bed, client: &'a Client, role: Role) -> Result<Self, Failure> {
        let endpoint = now(&client.create(EndpointKind::San), "Create")?.endpoint();
        let Some(endpoint) = endpoint else { return wrong("no endpoint can be made") };
        let Some(address) = now(&client.bind(endpoint), "Bind")?.address() else { return wrong("it cannot be bound") };
        let (request, meeting, peer) = match role {
            Role::Acceptor => {
                if !now(&client.listen(endpoint, 4), "Listen")?.status.is_success() {
                    return wrong("it cannot listen");
                }
                let accept = client.accept(endpoint);
                (ConnectRequest { source: FOREIGN, target: address }, accept, Peer::connect(bed.native)?)
            }
            Role::Connector => {
                let connect = client.connect(endpoint, FOREIGN);
                let deadline = Instant::now() + PATIENCE;
                let stream = loop {
                    match bed.foreign.accept() {
                        Ok((stream, _)) => break stream,
                        Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                            thread::sleep(MOMENT / 4);
                        }
                        Err(error) => {
                            bed.violation()?;
                            return Err(harness(error));
                        }
                    }
                };
                (ConnectRequest { source: address, target: FOREIGN }, connect, Peer::new(stream)?)
            }
        };
        Ok(Self { client, role, request, endpoint, meeting, peer, memory: None, posted: Vec::new() })
    }

    /// Goes by the book so far. All of it has to succeed.
    fn reach(&mut self, stage: Stage) -> Result<(), Failure> {
        if stage >= Stage::Connected {
            match self.role {
                Role::Acceptor => {
                    self.peer.send(ControlMessage::connect_request(&self.request).as_bytes());
                    let accepted = now(&self.meeting, "Accept")?;
                    let Some(endpoint) = accepted.endpoint() else {
                        return wrong(format!("Accept: {}", accepted.status));
                    };
                    self.endpoint = endpoint;
                    Self::succeeds(&self.client.decide(endpoint, Decision::Accept), "Decide")?;
                    self.peer.expect(MessageType::Accept)?;
                }
                Role::Connector => {
                    self.peer.expect(MessageType::ConnectRequest)?;
                    self.peer.send(ControlMessage::accept().as_bytes());
                    Self::succeeds(&self.meeting, "Connect")?;
                }
            }
        }
        if stage >= Stage::Session {
            for _ in 0..CREDITS {
                self.post();
            }
            let negotiate = self.client.negotiate(self.endpoint, PLACE, b"driver");
            self.peer.expect(MessageType::Session)?;
            self.send(MessageType::Session, CREDITS, &session(PLACE, b"peer"));
            Self::succeeds(&negotiate, "Negotiate")?;
        }
        Ok(())
    }

    fn succeeds(request: &Request, what: &str) -> Result<(), Failure> {
        let status = now(request, what)?.status;
        if status.is_success() { Ok(()) } else { wrong(format!("{what}: {status}")) }
    }

    /// Sends a message with this payload.
    fn send(&mut self, message: MessageType, credits: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.peer.send(&[&Header { message, length, credits }.encode(), payload].concat());
    }

    /// Posts a place of registered memory, each behind the last; what does not fit is for the driver to refuse.
    fn post(&mut self) {
        if self.memory.is_none() {
            self.memory = Some(self.client.register(self.endpoint, KEY, MEMORY));
        }
        let offset = self.posted.len() as u64 * u64::from(PLACE);
        let slice = Slice { key: KEY, offset, length: PLACE };
        self.posted.push(self.client.transfer(ControlCode::ReceiveRegistered, self.endpoint, slice));
    }

    fn step(&mut self, step: &Step<'_>) {
        match *step {
            Step::Message { kind, length, credits, payload } => {
                let length = length.unwrap_or(u32::try_from(payload.len()).unwrap_or(u32::MAX));
                let mut header = Header { message: MessageType::Data, length, credits }.encode();
                header[5] = kind % 12;
                self.peer.send(&[&header, payload].concat());
            }
            Step::Request { flip } => {
                let mut message = ControlMessage::connect_request(&self.request).as_bytes().to_vec();
                if let Some(bit) = flip {
                    let bit = usize::from(bit) % (8 * message.len());
                    message[bit / 8] ^= 1 << (bit % 8);
                }
                self.peer.send(&message);
            }
            Step::Accept => self.peer.send(ControlMessage::accept().as_bytes()),
            Step::Reject(reason) => match RejectReason::parse(&reason.to_le_bytes()) {
                Ok(reason) => self.peer.send(ControlMessage::reject(reason).as_bytes()),
                Err(_) => self.send(MessageType::Reject, 0, &reason.to_le_bytes()),
            },
            Step::Session { receive_size, credits, private } => {
                self.send(MessageType::Session, credits.into(), &session(receive_size.into(), private));
            }
            Step::Data(payload) => self.send(MessageType::Data, 0, payload),
            Step::Credit(credits) => self.send(MessageType::Credit, credits, &[]),
            Step::Goodbye => self.peer.send(ControlMessage::goodbye().as_bytes()),
            Step::Bytes(bytes) => self.peer.send(bytes),
            Step::Shutdown => {
                // It fails where the connection has ended.
                let _ = self.peer.stream.as_ref().map(|stream| stream.shutdown(Shutdown::Write));
            }
            Step::Reset => self.peer.reset(),
            Step::Post => self.post(),
            Step::Negotiate { receive_size } => {
                self.client.negotiate(self.endpoint, receive_size.into(), b"driver");
            }
            Step::Send(data) => {
                self.client.send(self.endpoint, data);
            }
            Step::SendRegistered(length) => {
                let slice = Slice { key: KEY, offset: 0, length: length.into() };
                self.client.transfer(ControlCode::SendRegistered, self.endpoint, slice);
            }
            Step::Decide(accept) => {
                // As soon as the connection has arrived, it is that one the steps are for.
                let endpoint = self.meeting.wait(MOMENT).and_then(|answer| answer.endpoint());
                self.endpoint = endpoint.unwrap_or(self.endpoint);
                self.client.decide(self.endpoint, if accept { Decision::Accept } else { Decision::Reject });
            }
            Step::Disconnect { abortive } => {
                self.client.disconnect(self.endpoint, if abortive { DISCONNECT_ABORTIVE } else { 0 });
            }
            Step::Deregister => {
                self.client.deregister(self.endpoint, KEY);
            }
            Step::Close => {
                self.client.close(self.endpoint);
            }
            Step::Cancel(which) => {
                if let Some(request) = self.client.nth(which.into()) {
                    self.client.cancel(&request);
                }
            }
            Step::Moment => {
                thread::sleep(MOMENT);
                self.peer.look();
            }
        }
    }

    /// What the peer has sent as messages, held against what the receives have brought; the memory has come back.
    fn compare(&self) -> Result<(), Failure> {
        let Some(memory) = self.memory.as_ref().and_then(Request::answer) else { return Ok(()) };
        let sent = messages(&self.peer.sent);
        let mut sent = sent.into_iter();
        for (index, receive) in self.posted.iter().enumerate() {
            let Some(reply) = receive.answer().filter(|answer| answer.status.is_success()) else { continue };
            let length = reply.reply().and_then(|reply| reply.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes));
            let place = index * PLACE as usize;
            let brought = length.and_then(|length| memory.output.get(place..place + length as usize));
            let expected = sent.next();
            if brought.is_none() || brought != expected {
                return wrong(format!("receive {index} has brought {brought:02x?}; the peer sent {expected:02x?}"));
            }
        }
        Ok(())
    }
}

/// The payload of a session message, however long.
fn session(receive_size: u32, private: &[u8]) -> Vec<u8> {
    match ControlMessage::session(&SessionOffer { receive_size, private }, 0) {
        Ok(message) => message.as_bytes()[HEADER_SIZE..].to_vec(),
        Err(_) => [&receive_size.to_le_bytes(), &[0; 4][..], private].concat(),
    }
}

/// The data messages that the bytes begin with, up to the first that is no message.
fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut data = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_SIZE>()
        && let Ok(header) = Header::parse(header)
        && let Some((payload, rest)) = rest.split_at_checked(header.length as usize)
    {
        if header.message == MessageType::Data {
            data.push(payload);
        }
        bytes = rest;
    }
    data
}

pub(super) fn run(bed: &Bed, input: &[u8]) -> Result<(), Failure> {
    let mut bytes = Unstructured::new(input);
    let Ok((role, stage)) = <(Role, Stage)>::arbitrary(&mut bytes) else { return Ok(()) };
    let client = bed.client(true, false)?;
    let mut scene = Scene::new(bed, &client, role)?;
    scene.reach(stage).or_else(|failure| {
        bed.violation()?;
        Err(failure)
    })?;
    for _ in 0..MOST_STEPS {
        match Step::arbitrary(&mut bytes) {
            Ok(step) if !bytes.is_empty() => scene.step(&step),
            Ok(_) | Err(_) => break,
        }
    }
    let more = scene.peer.look();
    parse(&scene.peer.received).map(drop)?;
    // What comes after the handle's end is the driver's business no more; without an end the peer would hold its hand-shake up.
    if more && stage == Stage::Native {
        scene.peer.reset();
    }
    scene.peer.stream.take();
    let Scene { memory, posted, peer, role, request, endpoint, meeting, .. } = scene;
    client.process().exit();
    let scene = Scene { client: &client, memory, posted, peer, role, request, endpoint, meeting };
    scene.compare()?;
    client.finish()
}
