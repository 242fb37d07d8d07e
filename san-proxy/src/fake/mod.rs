//! A device for tests: endpoints that connect to each other in memory, and requests that pend.

use crate::device::{Completed, Completion, Device, DeviceRequest, Event, Ticket};
use crate::error::Error;
use crate::memory::SharedMemory;
use crate::provider::Provider;
use san::San;
use san_protocol::{
    AcceptReply, AddressReply, AddressesReply, BindRequest, ConnectRequest, ControlCode, CreateReply, CreateRequest,
    DISCONNECT_ABORTIVE, DisconnectRequest, EndpointId, EndpointKind, EndpointRequest, ListenRequest, NtStatus,
    RECEIVE_ALL, ReceiveRequest, Request, Route, SetOptionRequest, SocketAddress, StatusReply, VersionReply,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use zerocopy::IntoBytes;

mod event;
mod operations;
mod san;

use event::FakeEvent;
pub(crate) use operations::MAX_ROUTES;

/// The address that refuses nobody and answers nobody: a connect to it pends.
pub(crate) const SILENT_PORT: u16 = 1;

#[derive(Default)]
pub(crate) struct FakeDevice {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_ticket: u64,
    last_id: EndpointId,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    pending: Vec<Waiting>,
    last_event: u64,
    events: BTreeMap<u64, Arc<FakeEvent>>,
    routes: Vec<Route>,
    /// Whether the caller lacks the privilege that administrators have.
    ordinary: bool,
}

#[derive(Default)]
struct Endpoint {
    /// Of a SAN endpoint.
    san: Option<San>,
    local: Option<SocketAddress>,
    remote: Option<SocketAddress>,
    peer: EndpointId,
    /// Of a listener that listens: connections that wait to be accepted.
    backlog: Option<VecDeque<EndpointId>>,
    received: VecDeque<u8>,
    /// The peer has ended its side.
    peer_ended: bool,
    ended: bool,
    reset: bool,
}

struct Waiting {
    ticket: Ticket,
    endpoint: EndpointId,
    code: ControlCode,
    request: DeviceRequest,
    memory: Option<Arc<SharedMemory>>,
    done: Completion,
}

/// Whether a request comes for the first time, or has pended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Again,
}

/// What became of a request: a reply, a number of bytes that were put in the buffer, or nothing yet.
enum Handled {
    Reply(Vec<u8>),
    /// The same, but it is not all that there is.
    Part(Vec<u8>),
    Transferred(usize),
    Pends(EndpointId),
}

type Ends = Vec<(Completion, Completed)>;

impl FakeDevice {
    pub(crate) fn provider() -> (Provider, Arc<Self>) {
        let device = Arc::new(Self::default());
        (Provider::new(device.clone()), device)
    }

    pub(crate) fn endpoints(&self) -> usize {
        self.state.lock().unwrap().endpoints.len()
    }

    /// From now on the caller is no administrator.
    pub(crate) fn make_ordinary(&self) {
        self.state.lock().unwrap().ordinary = true;
    }

    pub(crate) fn pending(&self) -> usize {
        self.state.lock().unwrap().pending.len()
    }
}

impl FakeDevice {
    fn issue(&self, mut request: DeviceRequest, memory: Option<Arc<SharedMemory>>, done: Completion) -> Ticket {
        let mut ends = Ends::new();
        let mut state = self.state.lock().unwrap();
        state.last_ticket += 1;
        let ticket = Ticket(state.last_ticket);
        match ControlCode::from_value(request.code) {
            None => ends.push((done, Completed::refused(NtStatus::INVALID_DEVICE_REQUEST, request))),
            Some(code) => match state.handle(code, &mut request, memory.as_ref(), Turn::First) {
                Ok(Handled::Pends(endpoint)) => {
                    state.pending.push(Waiting { ticket, endpoint, code, request, memory, done });
                }
                handled => {
                    drop(memory);
                    ends.push((done, completed(handled, request)));
                }
            },
        }
        state.retry(&mut ends);
        drop(state);
        for (done, completed) in ends {
            done(completed);
        }
        ticket
    }
}

impl Device for FakeDevice {
    fn submit(&self, request: DeviceRequest, done: Completion) -> Ticket {
        self.issue(request, None, done)
    }

    fn submit_with_memory(&self, request: DeviceRequest, memory: Arc<SharedMemory>, done: Completion) -> Ticket {
        self.issue(request, Some(memory), done)
    }

    fn cancel(&self, ticket: Ticket) {
        let mut ends = Ends::new();
        let mut state = self.state.lock().unwrap();
        let Some(at) = state.pending.iter().position(|waiting| waiting.ticket == ticket) else { return };
        let Waiting { code, request, memory, done, .. } = state.pending.remove(at);
        state.withdraw(code, &request.input);
        drop(memory);
        ends.push((done, Completed::refused(NtStatus::CANCELLED, request)));
        state.retry(&mut ends);
        drop(state);
        for (done, completed) in ends {
            done(completed);
        }
    }

    fn create_event(&self) -> Result<Arc<dyn Event>, Error> {
        let mut state = self.state.lock().unwrap();
        state.last_event += 4;
        let event = Arc::new(FakeEvent::new(state.last_event));
        state.events.insert(event.handle(), event.clone());
        Ok(event)
    }
}

fn completed(handled: Result<Handled, NtStatus>, mut request: DeviceRequest) -> Completed {
    let status = if matches!(handled, Ok(Handled::Part(_))) { NtStatus::BUFFER_OVERFLOW } else { NtStatus::SUCCESS };
    let information = match handled {
        Err(status) => return Completed::refused(status, request),
        Ok(Handled::Reply(reply) | Handled::Part(reply)) if reply.len() > request.buffer.len() => {
            return Completed::refused(NtStatus::BUFFER_TOO_SMALL, request);
        }
        Ok(Handled::Reply(reply) | Handled::Part(reply)) => {
            request.buffer[..reply.len()].copy_from_slice(&reply);
            reply.len()
        }
        Ok(Handled::Transferred(length)) => length,
        Ok(Handled::Pends(_)) => unreachable!("it pends"),
    };
    Completed { status, information, input: request.input, buffer: request.buffer }
}

fn reply(reply: &(impl IntoBytes + zerocopy::Immutable)) -> Handled {
    Handled::Reply(reply.as_bytes().to_vec())
}

impl State {
    /// Tries again what pends, until nothing moves any more.
    fn retry(&mut self, ends: &mut Ends) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for mut waiting in std::mem::take(&mut self.pending) {
                let known = self.endpoints.contains_key(&waiting.endpoint);
                let handled = if known { self.handle_again(&mut waiting) } else { Err(NtStatus::CANCELLED) };
                match handled {
                    Ok(Handled::Pends(_)) => self.pending.push(waiting),
                    handled => {
                        moved = true;
                        drop(waiting.memory);
                        ends.push((waiting.done, completed(handled, waiting.request)));
                    }
                }
            }
        }
    }

    fn handle_again(&mut self, waiting: &mut Waiting) -> Result<Handled, NtStatus> {
        self.handle(waiting.code, &mut waiting.request, waiting.memory.as_ref(), Turn::Again)
    }

    fn endpoint(&mut self, id: EndpointId) -> Result<&mut Endpoint, NtStatus> {
        self.endpoints.get_mut(&id).ok_or(NtStatus::INVALID_HANDLE)
    }

    fn add(&mut self, endpoint: Endpoint) -> EndpointId {
        self.last_id += 1;
        self.endpoints.insert(self.last_id, endpoint);
        self.last_id
    }

    fn handle(
        &mut self,
        code: ControlCode,
        request: &mut DeviceRequest,
        memory: Option<&Arc<SharedMemory>>,
        turn: Turn,
    ) -> Result<Handled, NtStatus> {
        if let Some(handled) = self.handle_san(code, request, memory, turn) {
            return handled;
        }
        let input = &request.input[..];
        match code {
            ControlCode::QueryVersion => {
                Ok(reply(&VersionReply { oldest_protocol: 1, newest_protocol: 1, driver: [1, 2, 3] }))
            }
            ControlCode::QueryStatus => {
                let endpoints = self.endpoints.len().try_into().unwrap();
                Ok(reply(&StatusReply { provider: 1, capture_status: 0, wsk_version: 0x0100, endpoints }))
            }
            ControlCode::Create => {
                let asked = CreateRequest::read(input)?;
                let kind = EndpointKind::from_number(asked.kind).ok_or(NtStatus::INVALID_PARAMETER)?;
                if asked.family != 2 && asked.family != 23 {
                    return Err(NtStatus::NOT_SUPPORTED);
                }
                let san = (kind == EndpointKind::San).then(San::default);
                Ok(reply(&CreateReply { endpoint: self.add(Endpoint { san, ..Endpoint::default() }) }))
            }
            ControlCode::SetOption => {
                self.endpoint(SetOptionRequest::read(input)?.endpoint)?;
                Ok(Handled::Reply(Vec::new()))
            }
            ControlCode::Bind => self.bind(BindRequest::read(input)?),
            ControlCode::Connect => self.connect(ConnectRequest::read(input)?),
            ControlCode::Listen => {
                self.endpoint(ListenRequest::read(input)?.endpoint)?.backlog = Some(VecDeque::new());
                Ok(Handled::Reply(Vec::new()))
            }
            ControlCode::Accept => self.accept(EndpointRequest::read(input)?.endpoint),
            ControlCode::Send => self.send(EndpointRequest::read(input)?.endpoint, &request.buffer),
            ControlCode::Receive => {
                let asked = ReceiveRequest::read(input)?;
                self.receive(asked.endpoint, asked.header.flags & RECEIVE_ALL != 0, &mut request.buffer)
            }
            ControlCode::Disconnect => self.disconnect(DisconnectRequest::read(input)?),
            ControlCode::QueryAddresses => {
                let endpoint = self.endpoint(EndpointRequest::read(input)?.endpoint)?;
                let local = endpoint.local.unwrap_or(SocketAddress::NONE);
                Ok(reply(&AddressesReply { local, remote: endpoint.remote.unwrap_or(SocketAddress::NONE) }))
            }
            ControlCode::Close => {
                let id = EndpointRequest::read(input)?.endpoint;
                let closed = self.endpoints.remove(&id).ok_or(NtStatus::INVALID_HANDLE)?;
                if let Some(peer) = self.endpoints.get_mut(&closed.peer) {
                    peer.peer_ended = true;
                }
                Ok(Handled::Reply(Vec::new()))
            }
            ControlCode::QueryLimits
            | ControlCode::QueryRoutes
            | ControlCode::AddRoute
            | ControlCode::RemoveRoute
            | ControlCode::QueryEndpoints
            | ControlCode::QueryHandles => self.handle_operations(code, input, request.buffer.len()),
            ControlCode::EventSelect
            | ControlCode::EnumNetworkEvents
            | ControlCode::Decide
            | ControlCode::Negotiate
            | ControlCode::RegisterMemory
            | ControlCode::QueryMemory
            | ControlCode::DeregisterMemory
            | ControlCode::SendRegistered
            | ControlCode::ReceiveRegistered
            | ControlCode::QueryStatistics
            | ControlCode::QueryDeviceStatistics => Err(NtStatus::NOT_SUPPORTED),
        }
    }

    fn bind(&mut self, asked: BindRequest) -> Result<Handled, NtStatus> {
        let mut address = asked.address;
        if self.endpoints.values().any(|endpoint| endpoint.backlog.is_some() && endpoint.local == Some(address)) {
            return Err(NtStatus::ADDRESS_ALREADY_EXISTS);
        }
        if address.port == [0, 0] {
            address.port = [200, u8::try_from(asked.endpoint).unwrap()];
        }
        self.endpoint(asked.endpoint)?.local = Some(address);
        Ok(reply(&AddressReply { address }))
    }

    fn connect(&mut self, asked: ConnectRequest) -> Result<Handled, NtStatus> {
        if self.endpoint(asked.endpoint)?.remote.is_some() {
            return Err(NtStatus::CONNECTION_ACTIVE);
        }
        if asked.address.port == SILENT_PORT.to_be_bytes() {
            return Ok(Handled::Pends(asked.endpoint));
        }
        let listener =
            self.endpoints.iter().find(|(_, other)| other.backlog.is_some() && other.local == Some(asked.address));
        let listener = *listener.ok_or(NtStatus::CONNECTION_REFUSED)?.0;
        let mut local = asked.address;
        local.port = [100, u8::try_from(asked.endpoint).unwrap()];
        let accepted =
            Endpoint { local: Some(asked.address), remote: Some(local), peer: asked.endpoint, ..Endpoint::default() };
        let accepted = self.add(accepted);
        self.endpoint(listener)?.backlog.as_mut().unwrap().push_back(accepted);
        let own = self.endpoint(asked.endpoint)?;
        (own.local, own.remote, own.peer) = (Some(local), Some(asked.address), accepted);
        Ok(Handled::Reply(Vec::new()))
    }

    fn accept(&mut self, id: EndpointId) -> Result<Handled, NtStatus> {
        let backlog = self.endpoint(id)?.backlog.as_mut().ok_or(NtStatus::INVALID_PARAMETER)?;
        let Some(endpoint) = backlog.pop_front() else { return Ok(Handled::Pends(id)) };
        let accepted = self.endpoint(endpoint)?;
        let (local, remote) = (accepted.local.unwrap(), accepted.remote.unwrap());
        Ok(reply(&AcceptReply { endpoint, local, remote }))
    }

    fn send(&mut self, id: EndpointId, data: &[u8]) -> Result<Handled, NtStatus> {
        let own = self.endpoint(id)?;
        match own {
            Endpoint { reset: true, .. } => return Err(NtStatus::CONNECTION_RESET),
            Endpoint { ended: true, .. } => return Err(NtStatus::PIPE_DISCONNECTED),
            Endpoint { remote: None, .. } => return Err(NtStatus::INVALID_CONNECTION),
            _ => {}
        }
        let peer = own.peer;
        let peer = self.endpoints.get_mut(&peer).ok_or(NtStatus::CONNECTION_RESET)?;
        peer.received.extend(data);
        Ok(Handled::Transferred(data.len()))
    }

    fn receive(&mut self, id: EndpointId, all: bool, buffer: &mut [u8]) -> Result<Handled, NtStatus> {
        let own = self.endpoint(id)?;
        let enough = if all { buffer.len() } else { 1 };
        if own.remote.is_none() {
            Err(NtStatus::INVALID_CONNECTION)
        } else if own.reset {
            Err(NtStatus::CONNECTION_RESET)
        } else if own.received.len() >= enough || own.peer_ended {
            let length = buffer.len().min(own.received.len());
            for (to, from) in buffer.iter_mut().zip(own.received.drain(..length)) {
                *to = from;
            }
            Ok(Handled::Transferred(length))
        } else {
            Ok(Handled::Pends(id))
        }
    }

    fn disconnect(&mut self, asked: DisconnectRequest) -> Result<Handled, NtStatus> {
        let abortive = asked.header.flags & DISCONNECT_ABORTIVE != 0;
        let own = self.endpoint(asked.endpoint)?;
        if own.remote.is_none() {
            return Err(NtStatus::INVALID_CONNECTION);
        }
        (own.ended, own.reset) = (true, abortive);
        let peer = own.peer;
        if let Some(peer) = self.endpoints.get_mut(&peer) {
            (peer.peer_ended, peer.reset) = (true, abortive);
        }
        Ok(Handled::Reply(Vec::new()))
    }
}
