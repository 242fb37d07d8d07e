//! Sequences of operations, and a model of what each may answer. One process makes endpoints, another tries to use them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use arbitrary::{Arbitrary, Unstructured};
use san_protocol::{ControlCode, DISCONNECT_ABORTIVE, Decision, EndpointId, EndpointKind, NtStatus};

use crate::bed::{Bed, Failure, PATIENCE, wrong};
use crate::client::{Answer, Client, Request};
use crate::requests::Slice;

/// Operations of one input; what follows is left out.
const MOST_OPERATIONS: usize = 40;
/// Endpoints of one input, the closed ones included.
const MOST_ENDPOINTS: usize = 24;
/// Connections that may wait at a listener.
const BACKLOG: usize = 2;
/// Bytes of a SAN message, and of its place in registered memory.
const PLACE: u32 = 32;
/// Receives that each side of a session posts.
const PLACES: u32 = 4;
const KEY: u64 = 1;

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connection,
    Listener,
    San,
}

/// An operation on the endpoint of a number, counted round and round.
#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    Create(Kind),
    Bind(u8),
    Listen(u8),
    Connect {
        endpoint: u8,
        to: u8,
    },
    Accept(u8),
    Decide {
        endpoint: u8,
        accept: bool,
    },
    /// Both sides of a connection post their receives and negotiate.
    Negotiate(u8),
    Send {
        endpoint: u8,
        data: &'a [u8],
    },
    Receive {
        endpoint: u8,
        length: u8,
    },
    Disconnect {
        endpoint: u8,
        abortive: bool,
    },
    Close(u8),
    Ask {
        endpoint: u8,
        what: u8,
    },
    /// The other process tries it.
    Stranger {
        endpoint: u8,
        what: u8,
    },
}

/// How an endpoint stands, as far as it follows from what was asked and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Bound,
    Listening,
    /// A SAN connect is under way.
    Connecting,
    Undecided,
    Connected,
    /// Connected, with a session.
    Session,
    /// A stream that has ended its side.
    HalfClosed,
    /// Its connection has ended or may end at any time: what is asked of it gets an answer that the documentation knows.
    Ending,
    Closed,
}

struct Endpoint {
    id: EndpointId,
    kind: Kind,
    state: State,
    address: Option<SocketAddr>,
    /// The other end, by its number.
    peer: Option<usize>,
    /// Connectors that wait in the backlog.
    backlog: VecDeque<usize>,
    connect: Option<Request>,
    /// What was sent to it and it has not received: a stream's bytes.
    bytes: VecDeque<u8>,
    /// What it has sent before it was accepted.
    early: VecDeque<u8>,
    /// Receives posted for messages, each with its number; the messages that they bring, in order.
    receives: VecDeque<Request>,
    memory: Option<Request>,
    /// Messages that have been received, at their places.
    messages: Vec<Vec<u8>>,
}

struct Model<'a> {
    bed: &'a Bed,
    client: &'a Client,
    stranger: &'a Client,
    endpoints: Vec<Endpoint>,
}

type Result<T = ()> = std::result::Result<T, Failure>;

/// Holds an answer against what the model says.
fn expect(what: &str, answer: &Answer, allowed: &[NtStatus]) -> Result {
    if allowed.contains(&answer.status) {
        return Ok(());
    }
    wrong(format!("{what}: {}, and the model says {allowed:?}", answer.status))
}

fn end(what: &str, request: &Request) -> Result<Answer> {
    request.wait(PATIENCE).map_or_else(|| wrong(format!("{what} does not end")), Ok)
}

impl Model<'_> {
    fn at(&self, number: u8) -> Option<usize> {
        (!self.endpoints.is_empty()).then(|| usize::from(number) % self.endpoints.len())
    }

    fn add(&mut self, id: EndpointId, kind: Kind, state: State, peer: Option<usize>) -> usize {
        let new = Endpoint {
            id,
            kind,
            state,
            address: None,
            peer,
            backlog: VecDeque::new(),
            connect: None,
            bytes: VecDeque::new(),
            early: VecDeque::new(),
            receives: VecDeque::new(),
            memory: None,
            messages: Vec::new(),
        };
        self.endpoints.push(new);
        self.endpoints.len() - 1
    }

    /// Waits for the end of what has to end soon.
    fn ended(&self, what: &str, request: &Request) -> Result<Answer> {
        end(what, request).or_else(|failure| self.bed.violation().and(Err(failure)))
    }

    /// A request that pends, as the model says: it does so until it is cancelled.
    fn pends(&self, what: &str, request: &Request) -> Result {
        self.client.cancel(request);
        expect(what, &self.ended(what, request)?, &[NtStatus::CANCELLED])
    }

    fn apply(&mut self, operation: &Operation<'_>) -> Result {
        match *operation {
            Operation::Create(kind) => self.create(kind),
            Operation::Bind(number) => self.at(number).map_or(Ok(()), |at| self.bind(at)),
            Operation::Listen(number) => self.at(number).map_or(Ok(()), |at| self.listen(at)),
            Operation::Connect { endpoint, to } => {
                self.at(endpoint).zip(self.at(to)).map_or(Ok(()), |(at, to)| self.connect(at, to))
            }
            Operation::Accept(number) => self.at(number).map_or(Ok(()), |at| self.accept(at)),
            Operation::Decide { endpoint, accept } => self.at(endpoint).map_or(Ok(()), |at| self.decide(at, accept)),
            Operation::Negotiate(number) => self.at(number).map_or(Ok(()), |at| self.negotiate(at)),
            Operation::Send { endpoint, data } => self.at(endpoint).map_or(Ok(()), |at| self.send(at, data)),
            Operation::Receive { endpoint, length } => self.at(endpoint).map_or(Ok(()), |at| self.receive(at, length)),
            Operation::Disconnect { endpoint, abortive } => {
                self.at(endpoint).map_or(Ok(()), |at| self.disconnect(at, abortive))
            }
            Operation::Close(number) => self.at(number).map_or(Ok(()), |at| self.close(at)),
            Operation::Ask { endpoint, what } => self.at(endpoint).map_or(Ok(()), |at| self.ask(at, what)),
            Operation::Stranger { endpoint, what } => self.at(endpoint).map_or(Ok(()), |at| self.strange(at, what)),
        }
    }

    fn create(&mut self, kind: Kind) -> Result {
        if self.endpoints.len() == MOST_ENDPOINTS {
            return Ok(());
        }
        let of = match kind {
            Kind::Connection => EndpointKind::StreamConnection,
            Kind::Listener => EndpointKind::StreamListener,
            Kind::San => EndpointKind::San,
        };
        let answer = self.ended("Create", &self.client.create(of))?;
        expect("Create", &answer, &[NtStatus::SUCCESS])?;
        let Some(id) = answer.endpoint() else { return wrong("Create answers nothing") };
        if self.endpoints.iter().any(|endpoint| endpoint.id == id) {
            return wrong(format!("the id {id:#x} is given out a second time"));
        }
        self.add(id, kind, State::Idle, None);
        Ok(())
    }

    fn bind(&mut self, at: usize) -> Result {
        let endpoint = &self.endpoints[at];
        let answer = self.ended("Bind", &self.client.bind(endpoint.id))?;
        match endpoint.state {
            State::Idle => {
                expect("Bind", &answer, &[NtStatus::SUCCESS])?;
                let Some(address) = answer.address() else { return wrong("Bind answers no address") };
                self.endpoints[at].address = Some(address);
                self.endpoints[at].state = State::Bound;
                Ok(())
            }
            State::Bound
            | State::Listening
            | State::Connecting
            | State::Undecided
            | State::Connected
            | State::Session
            | State::HalfClosed => expect("Bind again", &answer, &[NtStatus::INVALID_PARAMETER]),
            State::Closed => expect("Bind of a closed endpoint", &answer, &[NtStatus::INVALID_HANDLE]),
            State::Ending => Ok(()),
        }
    }

    fn listen(&mut self, at: usize) -> Result {
        let endpoint = &self.endpoints[at];
        let backlog = u32::try_from(BACKLOG).unwrap_or(1);
        let answer = self.ended("Listen", &self.client.listen(endpoint.id, backlog))?;
        let allowed = match (endpoint.kind, endpoint.state) {
            (_, State::Ending) => return Ok(()),
            (_, State::Closed) => NtStatus::INVALID_HANDLE,
            (Kind::Connection, _) => NtStatus::NOT_SUPPORTED,
            (Kind::Listener | Kind::San, State::Idle) | (Kind::San, State::Listening) => NtStatus::INVALID_PARAMETER,
            (Kind::Listener | Kind::San, State::Bound) => {
                expect("Listen", &answer, &[NtStatus::SUCCESS])?;
                self.endpoints[at].state = State::Listening;
                return Ok(());
            }
            (Kind::San, State::Connecting) => NtStatus::DEVICE_BUSY,
            (Kind::Listener, _)
            | (Kind::San, State::Undecided | State::Connected | State::Session | State::HalfClosed) => {
                NtStatus::CONNECTION_ACTIVE
            }
        };
        expect("Listen", &answer, &[allowed])
    }

    fn connect(&mut self, at: usize, to: usize) -> Result {
        let (endpoint, target) = (&self.endpoints[at], &self.endpoints[to]);
        let Some(address) = target.address else { return Ok(()) };
        let same = (endpoint.kind == Kind::San) == (target.kind == Kind::San);
        let full = target.backlog.len() >= BACKLOG;
        // What becomes of a connection that finds no room, or itself, is left to the other targets.
        if !same || at == to || (target.state == State::Listening && full) {
            return Ok(());
        }
        let listens = target.state == State::Listening;
        let target_is_bound = target.kind == Kind::Listener && target.state == State::Bound;
        let request = self.client.connect(endpoint.id, address);
        match (endpoint.kind, endpoint.state) {
            (_, State::Ending) => {
                self.client.cancel(&request);
                self.ended("Connect", &request).map(drop)
            }
            (_, State::Closed) => expect("Connect", &self.ended("Connect", &request)?, &[NtStatus::INVALID_HANDLE]),
            (Kind::Listener, _) => expect("Connect", &self.ended("Connect", &request)?, &[NtStatus::NOT_SUPPORTED]),
            (Kind::Connection, State::Idle | State::Bound) => {
                let answer = self.ended("Connect", &request)?;
                if listens {
                    expect("Connect to a listener", &answer, &[NtStatus::SUCCESS])?;
                    self.endpoints[at].state = State::Connected;
                    self.endpoints[to].backlog.push_back(at);
                } else {
                    // TCP lets in whoever comes to a WSK listener that is bound; without a backlog it is reset. The port of a
                    // closed endpoint may be another's.
                    let lets_in = target.kind == Kind::Listener || target.state == State::Closed;
                    let allowed = [NtStatus::CONNECTION_REFUSED, NtStatus::CONNECTION_RESET, NtStatus::SUCCESS];
                    expect("Connect to nobody", &answer, if lets_in { &allowed } else { &allowed[..1] })?;
                    self.endpoints[at].state = State::Ending;
                    if target_is_bound {
                        // It may come to the backlog yet, if that is opened soon.
                        self.endpoints[to].state = State::Ending;
                    }
                }
                Ok(())
            }
            (Kind::San, State::Idle | State::Listening) => {
                expect("Connect", &self.ended("Connect", &request)?, &[NtStatus::INVALID_PARAMETER])
            }
            (Kind::San, State::Bound) => {
                if listens {
                    self.endpoints[at].state = State::Connecting;
                    self.endpoints[at].connect = Some(request);
                    self.endpoints[to].backlog.push_back(at);
                    return Ok(());
                }
                // The address of no listener: TCP/IP might reach it.
                expect("Connect to nobody", &self.ended("Connect", &request)?, &[NtStatus::IO_TIMEOUT])?;
                self.endpoints[at].state = State::Ending;
                Ok(())
            }
            (Kind::San, State::Connecting) => {
                // It may have timed out meanwhile.
                let answer = self.ended("Connect", &request)?;
                expect("Connect", &answer, &[NtStatus::DEVICE_BUSY, NtStatus::IO_TIMEOUT])
            }
            (Kind::Connection, _)
            | (Kind::San, State::Undecided | State::Connected | State::Session | State::HalfClosed) => {
                expect("Connect", &self.ended("Connect", &request)?, &[NtStatus::CONNECTION_ACTIVE])
            }
        }
    }

    fn accept(&mut self, at: usize) -> Result {
        let endpoint = &self.endpoints[at];
        let request = self.client.accept(endpoint.id);
        let refusal = match (endpoint.kind, endpoint.state) {
            (Kind::Listener | Kind::San, State::Listening) => return self.take(at, &request),
            (_, State::Ending) => {
                self.client.cancel(&request);
                return self.ended("Accept", &request).map(drop);
            }
            (_, State::Closed) => NtStatus::INVALID_HANDLE,
            (Kind::Connection, _) => NtStatus::NOT_SUPPORTED,
            (Kind::Listener | Kind::San, _) => NtStatus::INVALID_PARAMETER,
        };
        expect("Accept", &self.ended("Accept", &request)?, &[refusal])
    }

    /// What an accept of a listener brings.
    fn take(&mut self, at: usize, request: &Request) -> Result {
        let kind = self.endpoints[at].kind;
        let waiting: Vec<usize> = self.endpoints[at].backlog.drain(..).collect();
        let (alive, gone): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|&connector| {
            matches!(self.endpoints[connector].state, State::Connected | State::Connecting | State::HalfClosed)
        });
        let Some((&connector, rest)) = alive.split_first() else {
            if gone.is_empty() {
                return self.pends("Accept", request);
            }
            // Those who have gone may be handed out or not.
            self.client.cancel(request);
            self.ended("Accept", request)?;
            self.endpoints[at].state = State::Ending;
            return Ok(());
        };
        if !gone.is_empty() {
            self.endpoints[at].state = State::Ending;
            self.endpoints[connector].state = State::Ending;
            self.client.cancel(request);
            return self.ended("Accept", request).map(drop);
        }
        self.endpoints[at].backlog.extend(rest);
        let answer = self.ended("Accept", request)?;
        expect("Accept", &answer, &[NtStatus::SUCCESS])?;
        let Some(id) = answer.endpoint() else { return wrong("Accept answers nothing") };
        let (kind, state) = match kind {
            Kind::San => (Kind::San, State::Undecided),
            Kind::Connection | Kind::Listener => (Kind::Connection, State::Connected),
        };
        let accepted = self.add(id, kind, state, Some(connector));
        self.endpoints[connector].peer = Some(accepted);
        // What was sent before it was accepted waits for it.
        let early = std::mem::take(&mut self.endpoints[connector].early);
        self.endpoints[accepted].bytes = early;
        Ok(())
    }

    fn decide(&mut self, at: usize, accept: bool) -> Result {
        let endpoint = &self.endpoints[at];
        let decision = if accept { Decision::Accept } else { Decision::Reject };
        let answer = self.ended("Decide", &self.client.decide(endpoint.id, decision))?;
        let refusal = match (endpoint.kind, endpoint.state) {
            (Kind::San, State::Undecided) => return self.decided(at, accept, &answer),
            (_, State::Ending) => return Ok(()),
            (_, State::Closed) => NtStatus::INVALID_HANDLE,
            (Kind::Connection | Kind::Listener, _) => NtStatus::NOT_SUPPORTED,
            (Kind::San, _) => NtStatus::INVALID_PARAMETER,
        };
        expect("Decide", &answer, &[refusal])
    }

    fn decided(&mut self, at: usize, accept: bool, answer: &Answer) -> Result {
        let peer = self.endpoints[at].peer;
        let connect = peer.and_then(|peer| self.endpoints[peer].connect.take());
        let (Some(peer), Some(connect)) = (peer, connect) else {
            self.endpoints[at].state = State::Ending;
            return Ok(());
        };
        let connected = self.ended("Connect", &connect)?;
        if accept {
            expect("Decide", answer, &[NtStatus::SUCCESS])?;
            expect("Connect that was accepted", &connected, &[NtStatus::SUCCESS])?;
            self.endpoints[at].state = State::Connected;
            self.endpoints[peer].state = State::Connected;
        } else {
            expect("Decide against it", answer, &[NtStatus::CONNECTION_REFUSED])?;
            expect("Connect that was refused", &connected, &[NtStatus::CONNECTION_REFUSED, NtStatus::IO_TIMEOUT])?;
            self.endpoints[at].state = State::Closed;
            self.endpoints[peer].state = State::Ending;
        }
        Ok(())
    }

    fn negotiate(&mut self, at: usize) -> Result {
        let endpoint = &self.endpoints[at];
        let peer = endpoint.peer.filter(|&peer| self.endpoints[peer].state == State::Connected);
        match (endpoint.kind, endpoint.state, peer) {
            (Kind::San, State::Connected, Some(peer)) => {
                self.post(at);
                self.post(peer);
                let private = [b"to ", &endpoint_name(peer)[..]].concat();
                let one = self.client.negotiate(self.endpoints[at].id, PLACE, &private);
                let other = self.client.negotiate(self.endpoints[peer].id, PLACE, b"from the other");
                expect("Negotiate", &self.ended("Negotiate", &one)?, &[NtStatus::SUCCESS])?;
                let answer = self.ended("Negotiate", &other)?;
                expect("Negotiate", &answer, &[NtStatus::SUCCESS])?;
                let said = answer.output.get(16..16 + private.len());
                if said != Some(&private[..]) {
                    return wrong(format!("the private data {private:02x?} arrives as {said:02x?}"));
                }
                self.endpoints[at].state = State::Session;
                self.endpoints[peer].state = State::Session;
                return Ok(());
            }
            (Kind::San, State::Connected, None) | (_, State::Ending, _) => return Ok(()),
            _ => {}
        }
        let request = self.client.negotiate(endpoint.id, PLACE, &[]);
        let answer = self.ended("Negotiate", &request)?;
        let refusal = match (endpoint.kind, endpoint.state) {
            (_, State::Closed) => NtStatus::INVALID_HANDLE,
            (Kind::Connection | Kind::Listener, _) => NtStatus::NOT_SUPPORTED,
            (Kind::San, State::Session) => NtStatus::INVALID_PARAMETER,
            // A connect that is under way may have timed out.
            (Kind::San, State::Connecting) => return Ok(()),
            (Kind::San, _) => NtStatus::INVALID_CONNECTION,
        };
        expect("Negotiate", &answer, &[refusal])
    }

    /// Registers memory and posts its places.
    fn post(&mut self, at: usize) {
        let id = self.endpoints[at].id;
        let memory = self.client.register(id, KEY, (PLACE * PLACES) as usize);
        let post = |place: u32| {
            let slice = Slice { key: KEY, offset: (place * PLACE).into(), length: PLACE };
            self.client.transfer(ControlCode::ReceiveRegistered, id, slice)
        };
        self.endpoints[at].receives = (0..PLACES).map(post).collect();
        self.endpoints[at].memory = Some(memory);
    }

    fn send(&mut self, at: usize, data: &[u8]) -> Result {
        let endpoint = &self.endpoints[at];
        let (kind, state, peer) = (endpoint.kind, endpoint.state, endpoint.peer);
        let data = &data[..data.len().min(PLACE as usize)];
        if let (Kind::San, State::Session) = (kind, state) {
            return self.send_message(at, data);
        }
        let request = self.client.send(endpoint.id, data);
        if state == State::Ending {
            self.client.cancel(&request);
            return self.ended("Send", &request).map(drop);
        }
        let answer = self.ended("Send", &request)?;
        let refusal = match (kind, state) {
            (Kind::Connection, State::Connected) => {
                expect("Send", &answer, &[NtStatus::SUCCESS])?;
                if answer.information != data.len() {
                    return wrong(format!("Send of {} bytes says {}", data.len(), answer.information));
                }
                // Before the connection is accepted nobody can be asked what has arrived.
                match peer {
                    Some(peer) => self.endpoints[peer].bytes.extend(data),
                    None => self.endpoints[at].early.extend(data),
                }
                return Ok(());
            }
            (_, State::Ending) | (Kind::San, State::Connecting) => return Ok(()),
            (_, State::Closed) => NtStatus::INVALID_HANDLE,
            (Kind::Listener, _) => NtStatus::NOT_SUPPORTED,
            (Kind::Connection, State::HalfClosed) => NtStatus::PIPE_DISCONNECTED,
            (Kind::Connection | Kind::San, _) => NtStatus::INVALID_CONNECTION,
        };
        expect("Send", &answer, &[refusal])
    }

    /// A message goes out if the peer has posted a receive for it, and arrives there.
    fn send_message(&mut self, at: usize, data: &[u8]) -> Result {
        let Some(peer) = self.endpoints[at].peer else { return Ok(()) };
        let request = self.client.send(self.endpoints[at].id, data);
        if self.endpoints[peer].state != State::Session {
            self.client.cancel(&request);
            return self.ended("Send", &request).map(drop);
        }
        let Some(receive) = self.endpoints[peer].receives.pop_front() else {
            return self.pends("Send without a credit", &request);
        };
        expect("Send", &self.ended("Send", &request)?, &[NtStatus::SUCCESS])?;
        let answer = self.ended("ReceiveRegistered", &receive)?;
        expect("ReceiveRegistered", &answer, &[NtStatus::SUCCESS])?;
        let length = answer.reply().and_then(|reply| reply.first_chunk()).map(|bytes| u32::from_ne_bytes(*bytes));
        if length != u32::try_from(data.len()).ok() {
            return wrong(format!("a message of {} bytes arrives with {length:?}", data.len()));
        }
        self.endpoints[peer].messages.push(data.to_vec());
        Ok(())
    }

    fn receive(&mut self, at: usize, length: u8) -> Result {
        let endpoint = &self.endpoints[at];
        let length = usize::from(length).max(1);
        let request = self.client.receive(endpoint.id, length, 0);
        let refusal = match (endpoint.kind, endpoint.state) {
            (Kind::Connection, State::Connected | State::HalfClosed) => return self.received(at, length, &request),
            (_, State::Ending) => {
                self.client.cancel(&request);
                return self.ended("Receive", &request).map(drop);
            }
            (_, State::Closed) => NtStatus::INVALID_HANDLE,
            (Kind::Listener | Kind::San, _) => NtStatus::NOT_SUPPORTED,
            (Kind::Connection, _) => NtStatus::INVALID_CONNECTION,
        };
        expect("Receive", &self.ended("Receive", &request)?, &[refusal])
    }

    fn received(&mut self, at: usize, length: usize, request: &Request) -> Result {
        let peer = self.endpoints[at].peer.map(|peer| self.endpoints[peer].state);
        if self.endpoints[at].bytes.is_empty() {
            return match peer {
                Some(State::HalfClosed) => {
                    let answer = self.ended("Receive at the end", request)?;
                    expect("Receive at the end", &answer, &[NtStatus::SUCCESS])?;
                    if answer.information == 0 { Ok(()) } else { wrong("bytes come that nobody has sent") }
                }
                Some(State::Connected) => self.pends("Receive", request),
                Some(_) | None => {
                    self.client.cancel(request);
                    self.ended("Receive", request).map(drop)
                }
            };
        }
        let answer = self.ended("Receive", request)?;
        expect("Receive", &answer, &[NtStatus::SUCCESS])?;
        let count = answer.information;
        let bytes = &mut self.endpoints[at].bytes;
        if count == 0 || count > length.min(bytes.len()) {
            return wrong(format!("Receive of {length} brings {count} bytes of {}", bytes.len()));
        }
        let expected: Vec<u8> = bytes.drain(..count).collect();
        if answer.output[..count] != expected {
            return wrong(format!("{expected:02x?} was sent, {:02x?} arrives", &answer.output[..count]));
        }
        Ok(())
    }

    /// What is at the other end of a connection that ends may find that at any time.
    fn ends(&mut self, at: usize, to: State) {
        self.endpoints[at].state = to;
        if let Some(peer) = self.endpoints[at].peer
            && self.endpoints[peer].state != State::Closed
        {
            self.endpoints[peer].state = State::Ending;
        }
    }

    fn disconnect(&mut self, at: usize, abortive: bool) -> Result {
        let endpoint = &self.endpoints[at];
        let request = self.client.disconnect(endpoint.id, if abortive { DISCONNECT_ABORTIVE } else { 0 });
        let refusal = match (endpoint.kind, endpoint.state) {
            (Kind::Connection, State::Connected) => {
                let answer = self.ended("Disconnect", &request)?;
                expect("Disconnect", &answer, &[NtStatus::SUCCESS])?;
                if abortive {
                    self.ends(at, State::Ending);
                } else {
                    self.endpoints[at].state = State::HalfClosed;
                }
                return Ok(());
            }
            (Kind::San, State::Connected | State::Session) => {
                if !abortive {
                    // It waits for the peer, which has to do as much.
                    if let Some(peer) = endpoint.peer {
                        let other = self.client.disconnect(self.endpoints[peer].id, 0);
                        self.ended("Disconnect of the peer", &other)?;
                    } else {
                        self.client.cancel(&request);
                    }
                }
                self.ended("Disconnect", &request)?;
                self.ends(at, State::Ending);
                return Ok(());
            }
            (Kind::Connection, State::HalfClosed) if abortive => {
                self.ended("Disconnect", &request)?;
                self.ends(at, State::Ending);
                return Ok(());
            }
            (_, State::Ending) | (Kind::San, State::Connecting) => {
                self.client.cancel(&request);
                return self.ended("Disconnect", &request).map(drop);
            }
            (_, State::Closed) => NtStatus::INVALID_HANDLE,
            (Kind::Listener, _) => NtStatus::NOT_SUPPORTED,
            (Kind::Connection, State::HalfClosed) => NtStatus::PIPE_DISCONNECTED,
            (Kind::Connection | Kind::San, _) => NtStatus::INVALID_CONNECTION,
        };
        expect("Disconnect", &self.ended("Disconnect", &request)?, &[refusal])
    }

    fn close(&mut self, at: usize) -> Result {
        let endpoint = &self.endpoints[at];
        let answer = self.ended("Close", &self.client.close(endpoint.id))?;
        if endpoint.state == State::Closed {
            return expect("Close again", &answer, &[NtStatus::INVALID_HANDLE]);
        }
        expect("Close", &answer, &[NtStatus::SUCCESS])?;
        for connector in std::mem::take(&mut self.endpoints[at].backlog) {
            if self.endpoints[connector].state != State::Closed {
                self.endpoints[connector].state = State::Ending;
            }
        }
        self.ends(at, State::Closed);
        let endpoint = &self.endpoints[at];
        for receive in &endpoint.receives {
            self.ended("ReceiveRegistered of a closed endpoint", receive)?;
        }
        let Some(memory) = &endpoint.memory else { return Ok(()) };
        let memory = self.ended("RegisterMemory of a closed endpoint", memory)?;
        for (place, message) in endpoint.messages.iter().enumerate() {
            let start = place * PLACE as usize;
            let there = &memory.output[start..start + message.len()];
            if there != message {
                return wrong(format!("the message {message:02x?} has arrived as {there:02x?}"));
            }
        }
        Ok(())
    }

    /// Asks what changes nothing.
    fn ask(&self, at: usize, what: u8) -> Result {
        const CODES: [(ControlCode, usize); 3] = [
            (ControlCode::QueryAddresses, 56),
            (ControlCode::QueryStatistics, 56),
            (ControlCode::EnumNetworkEvents, 16),
        ];
        let (code, output) = CODES[usize::from(what) % CODES.len()];
        let endpoint = &self.endpoints[at];
        let answer = self.ended("a question", &self.client.about(code, endpoint.id, output))?;
        let allowed = match (endpoint.state, endpoint.kind, code) {
            (State::Closed, ..) => NtStatus::INVALID_HANDLE,
            (_, Kind::San, _) | (_, _, ControlCode::QueryAddresses) => NtStatus::SUCCESS,
            (_, Kind::Connection | Kind::Listener, _) => NtStatus::NOT_SUPPORTED,
        };
        // Who is being refused may have been closed already.
        if endpoint.state == State::Ending { Ok(()) } else { expect(&format!("{code:?}"), &answer, &[allowed]) }
    }

    /// Whatever another process asks of an endpoint, it has none.
    fn strange(&self, at: usize, what: u8) -> Result {
        let id = self.endpoints[at].id;
        let request = match what % 8 {
            0 => self.stranger.bind(id),
            1 => self.stranger.listen(id, 1),
            2 => self.stranger.accept(id),
            3 => self.stranger.send(id, b"stolen"),
            4 => self.stranger.receive(id, 1, 0),
            5 => self.stranger.disconnect(id, DISCONNECT_ABORTIVE),
            6 => self.stranger.close(id),
            _ => self.stranger.register(id, KEY, 1),
        };
        expect("a request of another process", &self.ended("it", &request)?, &[NtStatus::INVALID_HANDLE])
    }
}

/// Something to tell sessions apart by.
fn endpoint_name(number: usize) -> [u8; 8] {
    (number as u64).to_le_bytes()
}

pub(super) fn run(bed: &Bed, input: &[u8]) -> Result {
    let mut bytes = Unstructured::new(input);
    let (client, stranger) = (bed.client(true, false)?, bed.client(false, false)?);
    let mut model = Model { bed, client: &client, stranger: &stranger, endpoints: Vec::new() };
    for _ in 0..MOST_OPERATIONS {
        match Operation::arbitrary(&mut bytes) {
            Ok(operation) if !bytes.is_empty() => model.apply(&operation)?,
            Ok(_) | Err(_) => break,
        }
    }
    stranger.finish()?;
    client.finish()
}
