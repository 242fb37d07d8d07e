//! SAN endpoints of the device for tests. A message goes over when its receive is posted; a region is what was registered.

use super::{Endpoint, Handled, State, Turn, event::FakeEvent, reply};
use crate::device::{DeviceRequest, Event};
use crate::memory::SharedMemory;
use san_protocol::wire::MAX_PRIVATE_DATA;
use san_protocol::{
    ConnectRequest, ControlCode, DISCONNECT_ABORTIVE, DecideRequest, Decision, DeviceStatistics, DisconnectRequest,
    EndpointId, EndpointRequest, EndpointStatistics, EventSelectRequest, FD_ACCEPT, FD_CONNECT, MEMORY_RECEIVE,
    MEMORY_SEND, MemoryReply, MemoryRequest, NETWORK_EVENTS, NegotiateReply, NegotiateRequest, NetworkEventsReply,
    NtStatus, ReceiveReply, RegisterMemoryRequest, Request, TransferRequest,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use zerocopy::FromZeros;

#[derive(Default)]
pub(super) struct San {
    link: Link,
    selected: Option<(Arc<FakeEvent>, u32)>,
    recorded: u32,
    connect_status: i32,
    offer: Option<NegotiateRequest>,
    regions: BTreeMap<u64, Registered>,
    /// Messages that have come, of which no receive has been told.
    inbox: VecDeque<Vec<u8>>,
    posted: usize,
    messages_sent: u64,
    messages_received: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Link {
    #[default]
    None,
    Connecting,
    Undecided,
    Connected,
    Ended(NtStatus),
}

struct Registered {
    memory: Arc<SharedMemory>,
    rights: u32,
    in_use: u32,
    ending: bool,
}

impl San {
    fn record(&mut self, event: u32) {
        if let Some((object, mask)) = &self.selected
            && mask & event != 0
        {
            self.recorded |= event;
            object.set();
        }
    }

    fn selects(&self, event: u32) -> bool {
        self.selected.as_ref().is_some_and(|(_, mask)| mask & event != 0)
    }

    fn connected(&self) -> Result<(), NtStatus> {
        match self.link {
            Link::Connected => Ok(()),
            Link::Ended(status) => Err(status),
            Link::None | Link::Connecting | Link::Undecided => Err(NtStatus::INVALID_CONNECTION),
        }
    }

    /// The memory of a slice that may be used so.
    fn slice(
        &mut self,
        asked: &TransferRequest,
        right: u32,
    ) -> Result<(&mut Registered, std::ops::Range<usize>), NtStatus> {
        self.connected()?;
        let region = self.regions.get_mut(&asked.key).filter(|region| !region.ending || region.in_use > 0);
        let region = region.ok_or(NtStatus::INVALID_PARAMETER)?;
        let start = usize::try_from(asked.offset).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
        let end = start.checked_add(asked.length as usize).ok_or(NtStatus::ACCESS_VIOLATION)?;
        if asked.length == 0 {
            Err(NtStatus::INVALID_PARAMETER)
        } else if end > region.memory.len() || region.rights & right == 0 {
            Err(NtStatus::ACCESS_VIOLATION)
        } else {
            Ok((region, start..end))
        }
    }
}

impl State {
    fn san(&mut self, id: EndpointId) -> Result<&mut San, NtStatus> {
        self.endpoint(id)?.san.as_mut().ok_or(NtStatus::NOT_SUPPORTED)
    }

    fn peer_of(&mut self, id: EndpointId) -> Option<&mut San> {
        let peer = self.endpoints.get(&id)?.peer;
        self.endpoints.get_mut(&peer)?.san.as_mut()
    }

    fn is_san(&self, id: EndpointId) -> bool {
        self.endpoints.get(&id).is_some_and(|endpoint| endpoint.san.is_some())
    }

    /// What SAN endpoints do otherwise than streams, or alone.
    pub(super) fn handle_san(
        &mut self,
        code: ControlCode,
        request: &mut DeviceRequest,
        memory: Option<&Arc<SharedMemory>>,
        turn: Turn,
    ) -> Option<Result<Handled, NtStatus>> {
        let input = &request.input[..];
        let own = EndpointRequest::read(input).ok().map(|asked| asked.endpoint).filter(|id| self.is_san(*id));
        Some(match code {
            ControlCode::Connect => {
                let asked = ConnectRequest::read(input).ok().filter(|asked| self.is_san(asked.endpoint))?;
                self.connect_san(asked, turn)
            }
            ControlCode::Accept => self.accept_san(own?),
            ControlCode::Send => self.send_san(own?, &request.buffer),
            ControlCode::Disconnect => {
                let asked = DisconnectRequest::read(input).ok().filter(|asked| self.is_san(asked.endpoint))?;
                self.disconnect_san(asked)
            }
            ControlCode::Close => {
                let id = own?;
                self.end(id, NtStatus::CANCELLED, NtStatus::CONNECTION_RESET);
                self.endpoints.remove(&id);
                Ok(Handled::Reply(Vec::new()))
            }
            ControlCode::EventSelect => EventSelectRequest::read(input).and_then(|asked| self.event_select(asked)),
            ControlCode::EnumNetworkEvents => self.enum_network_events(own.unwrap_or_default()),
            ControlCode::Decide => DecideRequest::read(input).and_then(|asked| self.decide(asked)),
            ControlCode::Negotiate => NegotiateRequest::read(input).and_then(|asked| self.negotiate(&asked, turn)),
            ControlCode::RegisterMemory => {
                RegisterMemoryRequest::read(input).and_then(|asked| self.register(asked, memory, turn))
            }
            ControlCode::QueryMemory => MemoryRequest::read(input).and_then(|asked| self.query_memory(asked)),
            ControlCode::DeregisterMemory => MemoryRequest::read(input).and_then(|asked| self.deregister(asked, turn)),
            ControlCode::SendRegistered => {
                TransferRequest::read(input).and_then(|asked| self.send_registered(asked, turn))
            }
            ControlCode::ReceiveRegistered => {
                TransferRequest::read(input).and_then(|asked| self.receive_registered(asked, turn))
            }
            ControlCode::QueryStatistics => self.statistics(own.unwrap_or_default()),
            ControlCode::QueryDeviceStatistics => {
                let sum =
                    |of: fn(&San) -> u64| self.endpoints.values().filter_map(|end| end.san.as_ref()).map(of).sum();
                let (messages_sent, regions) = (sum(|san| san.messages_sent), sum(|san| san.regions.len() as u64));
                let regions = u32::try_from(regions).unwrap();
                let statistics = self.device_statistics();
                Ok(reply(&DeviceStatistics { messages_sent, regions, ..statistics }))
            }
            _ => return None,
        })
    }

    /// A request was cancelled.
    pub(super) fn withdraw(&mut self, code: ControlCode, input: &[u8]) {
        match code {
            ControlCode::RegisterMemory => {
                let asked = RegisterMemoryRequest::read(input).unwrap();
                self.san(asked.endpoint).unwrap().regions.remove(&asked.key);
            }
            ControlCode::SendRegistered | ControlCode::ReceiveRegistered => {
                let asked = TransferRequest::read(input).unwrap();
                let own = self.san(asked.endpoint).unwrap();
                own.posted -= usize::from(code == ControlCode::ReceiveRegistered);
                own.regions.get_mut(&asked.key).unwrap().in_use -= 1;
            }
            _ => {}
        }
    }

    fn connect_san(&mut self, asked: ConnectRequest, turn: Turn) -> Result<Handled, NtStatus> {
        let endpoint = self.endpoint(asked.endpoint)?;
        let local = endpoint.local.ok_or(NtStatus::INVALID_PARAMETER)?;
        let own = endpoint.san.as_mut().unwrap();
        match (turn, own.link) {
            (Turn::First, Link::None) => {}
            (Turn::Again, Link::Connecting) => return Ok(Handled::Pends(asked.endpoint)),
            (Turn::Again, Link::Connected) => return Ok(Handled::Reply(Vec::new())),
            (Turn::Again, _) => return Err(NtStatus(own.connect_status)),
            (Turn::First, Link::Connecting) => return Err(NtStatus::DEVICE_BUSY),
            (Turn::First, Link::Ended(status)) => return Err(status),
            (Turn::First, _) => return Err(NtStatus::CONNECTION_ACTIVE),
        }
        own.link = Link::Connecting;
        let goes_on = own.selects(FD_CONNECT);
        let listener =
            self.endpoints.iter().find(|(_, other)| other.backlog.is_some() && other.local == Some(asked.address));
        let Some((&listener, _)) = listener else {
            self.connect_ended(asked.endpoint, NtStatus::CONNECTION_RESET);
            return Err(if goes_on { NtStatus::CANT_WAIT } else { NtStatus::CONNECTION_RESET });
        };
        let san = San { link: Link::Undecided, ..San::default() };
        let arrived = self.add(Endpoint {
            san: Some(san),
            local: Some(asked.address),
            remote: Some(local),
            peer: asked.endpoint,
            ..Endpoint::default()
        });
        let listener = self.endpoint(listener)?;
        listener.backlog.as_mut().unwrap().push_back(arrived);
        listener.san.as_mut().unwrap().record(FD_ACCEPT);
        let endpoint = self.endpoint(asked.endpoint)?;
        (endpoint.remote, endpoint.peer) = (Some(asked.address), arrived);
        if goes_on { Err(NtStatus::CANT_WAIT) } else { Ok(Handled::Pends(asked.endpoint)) }
    }

    fn connect_ended(&mut self, id: EndpointId, status: NtStatus) {
        if let Ok(san) = self.san(id) {
            san.link = if status.is_success() { Link::Connected } else { Link::Ended(status) };
            san.connect_status = status.0;
            san.record(FD_CONNECT);
        }
    }

    fn accept_san(&mut self, id: EndpointId) -> Result<Handled, NtStatus> {
        let listener = self.endpoint(id)?;
        let waiting = listener.backlog.as_ref().is_some_and(|backlog| !backlog.is_empty());
        if !waiting && listener.san.as_ref().unwrap().selects(FD_ACCEPT) {
            return Err(NtStatus::CANT_WAIT);
        }
        self.accept(id)
    }

    fn decide(&mut self, asked: DecideRequest) -> Result<Handled, NtStatus> {
        let decision = Decision::from_number(asked.decision).ok_or(NtStatus::INVALID_PARAMETER)?;
        let peer = self.endpoint(asked.endpoint)?.peer;
        let own = self.san(asked.endpoint)?;
        match own.link {
            Link::Undecided => {}
            Link::Ended(status) => return Err(status),
            Link::None | Link::Connecting | Link::Connected => return Err(NtStatus::INVALID_PARAMETER),
        }
        match decision {
            Decision::Accept => {
                own.link = Link::Connected;
                self.connect_ended(peer, NtStatus::SUCCESS);
                Ok(Handled::Reply(Vec::new()))
            }
            Decision::Reject => {
                self.endpoints.remove(&asked.endpoint);
                self.connect_ended(peer, NtStatus::CONNECTION_REFUSED);
                Err(NtStatus::CONNECTION_REFUSED)
            }
        }
    }

    /// Ends a connection with these statuses, here and at the peer.
    fn end(&mut self, id: EndpointId, here: NtStatus, there: NtStatus) {
        if let Some(peer) = self.peer_of(id) {
            match peer.link {
                Link::Connecting => {
                    let status = NtStatus::CONNECTION_REFUSED;
                    (peer.link, peer.connect_status) = (Link::Ended(status), status.0);
                }
                Link::Undecided | Link::Connected => peer.link = Link::Ended(there),
                Link::None | Link::Ended(_) => {}
            }
        }
        if let Ok(own) = self.san(id) {
            own.link = Link::Ended(here);
        }
    }

    fn disconnect_san(&mut self, asked: DisconnectRequest) -> Result<Handled, NtStatus> {
        self.san(asked.endpoint)?.connected()?;
        if asked.header.flags & DISCONNECT_ABORTIVE != 0 {
            self.end(asked.endpoint, NtStatus::CONNECTION_ABORTED, NtStatus::CONNECTION_RESET);
        } else {
            self.end(asked.endpoint, NtStatus::GRACEFUL_DISCONNECT, NtStatus::GRACEFUL_DISCONNECT);
        }
        Ok(Handled::Reply(Vec::new()))
    }

    fn event_select(&mut self, asked: EventSelectRequest) -> Result<Handled, NtStatus> {
        let event = self.events.get(&asked.event).cloned();
        let own = self.san(asked.endpoint)?;
        if asked.mask & !NETWORK_EVENTS != 0 || (asked.mask == 0) != (asked.event == 0) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        own.selected = match (asked.event, event) {
            (0, _) => None,
            (_, Some(event)) => Some((event, asked.mask)),
            (_, None) => return Err(NtStatus::OBJECT_TYPE_MISMATCH),
        };
        Ok(Handled::Reply(Vec::new()))
    }

    fn enum_network_events(&mut self, id: EndpointId) -> Result<Handled, NtStatus> {
        let own = self.san(id)?;
        if let Some((event, _)) = &own.selected {
            event.reset();
        }
        let events = std::mem::take(&mut own.recorded);
        let connect_status = if events & FD_CONNECT == 0 { 0 } else { own.connect_status };
        Ok(reply(&NetworkEventsReply { events, connect_status, accept_status: 0, reserved: 0 }))
    }

    fn negotiate(&mut self, asked: &NegotiateRequest, turn: Turn) -> Result<Handled, NtStatus> {
        let own = self.san(asked.endpoint)?;
        own.connected()?;
        if asked.private_length as usize > MAX_PRIVATE_DATA {
            return Err(NtStatus::INVALID_BUFFER_SIZE);
        }
        match turn {
            Turn::First if own.offer.is_some() => return Err(NtStatus::INVALID_PARAMETER),
            Turn::First => own.offer = Some(*asked),
            Turn::Again => {}
        }
        let peer = self.peer_of(asked.endpoint).ok_or(NtStatus::CONNECTION_RESET)?;
        let Some(offer) = peer.offer else { return Ok(Handled::Pends(asked.endpoint)) };
        let NegotiateRequest { receive_size, private_length, private, .. } = offer;
        let receive_count = u32::try_from(peer.posted).unwrap();
        Ok(reply(&NegotiateReply { receive_count, receive_size, private_length, reserved: 0, private }))
    }

    fn register(
        &mut self,
        asked: RegisterMemoryRequest,
        memory: Option<&Arc<SharedMemory>>,
        turn: Turn,
    ) -> Result<Handled, NtStatus> {
        let own = self.san(asked.endpoint)?;
        let stands = own.regions.contains_key(&asked.key);
        if turn == Turn::First {
            own.connected()?;
            let memory = memory.filter(|memory| !memory.is_empty()).ok_or(NtStatus::INVALID_PARAMETER)?.clone();
            if stands || asked.rights == 0 || asked.rights & !(MEMORY_SEND | MEMORY_RECEIVE) != 0 {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            own.regions.insert(asked.key, Registered { memory, rights: asked.rights, in_use: 0, ending: false });
            return Ok(Handled::Pends(asked.endpoint));
        }
        if stands { Ok(Handled::Pends(asked.endpoint)) } else { Ok(Handled::Reply(Vec::new())) }
    }

    fn query_memory(&mut self, asked: MemoryRequest) -> Result<Handled, NtStatus> {
        let region = self.san(asked.endpoint)?.regions.get(&asked.key).ok_or(NtStatus::INVALID_PARAMETER)?;
        let Registered { memory, rights, in_use, .. } = region;
        Ok(reply(&MemoryReply { length: memory.len() as u64, rights: *rights, in_use: *in_use }))
    }

    fn deregister(&mut self, asked: MemoryRequest, turn: Turn) -> Result<Handled, NtStatus> {
        let regions = &mut self.san(asked.endpoint)?.regions;
        let region = regions.get_mut(&asked.key).ok_or(NtStatus::INVALID_PARAMETER)?;
        if turn == Turn::First && std::mem::replace(&mut region.ending, true) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if region.in_use > 0 {
            return Ok(Handled::Pends(asked.endpoint));
        }
        regions.remove(&asked.key);
        Ok(Handled::Reply(Vec::new()))
    }

    /// Whether the peer has a receive for one more message; it gets `message` then.
    fn deliver(&mut self, id: EndpointId, message: impl FnOnce() -> Vec<u8>) -> Result<bool, NtStatus> {
        let own = self.san(id)?;
        own.connected()?;
        own.offer.ok_or(NtStatus::INVALID_CONNECTION)?;
        let peer = self.peer_of(id).ok_or(NtStatus::CONNECTION_RESET)?;
        if peer.posted <= peer.inbox.len() {
            return Ok(false);
        }
        let message = message();
        if peer.offer.is_none_or(|offer| message.len() > offer.receive_size as usize) {
            return Err(NtStatus::INVALID_BUFFER_SIZE);
        }
        peer.inbox.push_back(message);
        self.san(id)?.messages_sent += 1;
        Ok(true)
    }

    fn send_san(&mut self, id: EndpointId, data: &[u8]) -> Result<Handled, NtStatus> {
        let delivered = self.deliver(id, || data.to_vec())?;
        Ok(if delivered { Handled::Transferred(data.len()) } else { Handled::Pends(id) })
    }

    fn send_registered(&mut self, asked: TransferRequest, turn: Turn) -> Result<Handled, NtStatus> {
        let own = self.san(asked.endpoint)?;
        let (memory, range) = {
            let (region, range) = match own.slice(&asked, MEMORY_SEND) {
                Ok(slice) => slice,
                Err(status) => return Err(own.release(&asked, turn, status)),
            };
            region.in_use += u32::from(turn == Turn::First);
            (region.memory.clone(), range)
        };
        let length = range.len();
        match self.deliver(asked.endpoint, || memory.device_read(range)) {
            Ok(false) => Ok(Handled::Pends(asked.endpoint)),
            delivered => {
                self.san(asked.endpoint)?.regions.get_mut(&asked.key).unwrap().in_use -= 1;
                delivered.map(|_| Handled::Transferred(length))
            }
        }
    }

    fn receive_registered(&mut self, asked: TransferRequest, turn: Turn) -> Result<Handled, NtStatus> {
        let own = self.san(asked.endpoint)?;
        let (memory, range) = match own.slice(&asked, MEMORY_RECEIVE) {
            Ok((region, range)) => {
                region.in_use += u32::from(turn == Turn::First);
                (region.memory.clone(), range)
            }
            Err(status) => {
                own.posted -= usize::from(turn == Turn::Again);
                return Err(own.release(&asked, turn, status));
            }
        };
        own.posted += usize::from(turn == Turn::First);
        let Some(message) = own.inbox.pop_front() else { return Ok(Handled::Pends(asked.endpoint)) };
        own.posted -= 1;
        own.messages_received += 1;
        own.regions.get_mut(&asked.key).unwrap().in_use -= 1;
        memory.device_write(range, &message);
        Ok(reply(&ReceiveReply { length: u32::try_from(message.len()).unwrap(), reserved: 0 }))
    }

    fn statistics(&mut self, id: EndpointId) -> Result<Handled, NtStatus> {
        Ok(reply(&self.san(id)?.statistics()))
    }
}

impl San {
    pub(super) fn statistics(&self) -> EndpointStatistics {
        EndpointStatistics {
            messages_sent: self.messages_sent,
            messages_received: self.messages_received,
            receives_posted: u32::try_from(self.posted).unwrap(),
            regions: u32::try_from(self.regions.len()).unwrap(),
            pinned_bytes: self.regions.values().map(|region| region.memory.len() as u64).sum(),
            ..EndpointStatistics::new_zeroed()
        }
    }

    /// An operation that had pended fails: it uses its region no more.
    fn release(&mut self, asked: &TransferRequest, turn: Turn, status: NtStatus) -> NtStatus {
        if turn == Turn::Again
            && let Some(region) = self.regions.get_mut(&asked.key)
        {
            region.in_use -= 1;
        }
        status
    }
}
