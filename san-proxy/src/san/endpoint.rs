//! The endpoint.

use super::{EventRecord, MemoryRights, NetworkEvents, PeerSession, Protocol, Region, SocketType, Undecided};
use crate::device::{DeviceRequest, Event};
use crate::endpoint::{AddressFamily, Addresses, Endpoint};
use crate::error::{Error, Operation};
use crate::listener::Backlog;
use crate::memory::{Memory, Usage};
use crate::pending::Pending;
use crate::provider::Provider;
use crate::stream::{Disconnect, Transfer, start_transfer};
use san_protocol::wire::MAX_PRIVATE_DATA;
use san_protocol::{
    AcceptReply, ControlCode, DISCONNECT_ABORTIVE, DisconnectRequest, EndpointId, EndpointKind, EndpointStatistics,
    EventSelectRequest, Header, ListenRequest, NegotiateReply, NegotiateRequest, NetworkEventsReply, NtStatus,
    ReceiveReply,
};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;
use zerocopy::{FromBytes, IntoBytes};

/// A SAN endpoint: a connection of messages, or one to be, or a listener. Closed when dropped, which cancels what pends on it.
///
/// Once connected, each side posts receives, negotiates, and then sends: a message fills one posted receive, and none is
/// sent before its receive is posted. Messages arrive in the order in which they were sent, and in the receives in the order in which
/// those were posted.
///
/// ```
/// use san_proxy::{AddressFamily, Error, MemoryRights, Provider, SanEndpoint, Memory};
/// use std::net::SocketAddr;
///
/// /// Sends one message, and gives back the answer.
/// fn ask(provider: &Provider, local: SocketAddr, server: SocketAddr, question: &[u8]) -> Result<Vec<u8>, Error> {
///     let endpoint = SanEndpoint::create(provider, AddressFamily::of(server))?;
///     endpoint.bind(local)?;
///     endpoint.connect(server, None)?;
///     let region = endpoint.register(Memory::new(8192), MemoryRights::BOTH)?;
///     let answer = endpoint.start_receive(&region, 0..4096);
///     endpoint.negotiate(b"ask/1", 4096)?;
///     region.write(4096, question)?;
///     endpoint.send_registered(&region, 4096..4096 + question.len())?;
///     let length = answer.wait()?;
///     let answer = region.read(0..length)?;
///     endpoint.disconnect()?;
///     Ok(answer)
/// }
/// ```
#[derive(Debug)]
pub struct SanEndpoint {
    endpoint: Endpoint,
}

impl SanEndpoint {
    /// An endpoint that is to be bound.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::create`].
    pub fn create(provider: &Provider, family: AddressFamily) -> Result<Self, Error> {
        Endpoint::create(provider, EndpointKind::San, family).map(Self::from_endpoint)
    }

    /// An endpoint for a socket of this kind, as WSPSocket makes it: a stream, over TCP.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::create`], which knows the families (`WSAEAFNOSUPPORT`), and before anything else:
    ///
    /// - `WSAEPROTOTYPE`: UDP and a stream, or TCP and datagrams;
    /// - `WSAESOCKTNOSUPPORT`: another type than a stream;
    /// - `WSAEPROTONOSUPPORT`: another protocol than TCP.
    pub fn socket(
        provider: &Provider,
        family: AddressFamily,
        socket_type: SocketType,
        protocol: Protocol,
    ) -> Result<Self, Error> {
        socket_type.is_offered_with(protocol).map_err(Error::no_such_socket)?;
        Self::create(provider, family)
    }

    /// The SAN endpoint that `endpoint` is.
    #[must_use]
    pub fn from_endpoint(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// The endpoint behind it.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The endpoint behind it, without the type.
    #[must_use]
    pub fn into_endpoint(self) -> Endpoint {
        self.endpoint
    }

    /// Its name in requests.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.endpoint.id()
    }

    /// Binds to a SAN address; port 0 lets the driver choose. The wildcard address is for listening only. The address that
    /// came of it.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::start_bind`], about SAN addresses and ports.
    pub fn bind(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        self.endpoint.bind(address)
    }

    /// Connects, within `timeout` or the driver's limit.
    ///
    /// # Errors
    ///
    /// As [`Self::start_connect`].
    pub fn connect(&self, address: SocketAddr, timeout: Option<Duration>) -> Result<(), Error> {
        self.start_connect(address, timeout).wait()
    }

    /// Starts to connect to a SAN address. The driver keeps the time, in milliseconds.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_CANT_WAIT` (`WSAEWOULDBLOCK`) if [`NetworkEvents::CONNECT`] is selected: the connect goes on, and the
    /// event tells of its end. The ends that are certain to happen over TCP/IP too are `STATUS_CONNECTION_REFUSED`,
    /// `STATUS_CONNECTION_RESET` (nobody listens) and `STATUS_HOST_UNREACHABLE`; in doubt it is `STATUS_IO_TIMEOUT`.
    /// After these the endpoint is of no more use but to be closed. `STATUS_NETWORK_UNREACHABLE`: no route.
    /// `STATUS_CONNECTION_ACTIVE` if it is connected, `STATUS_DEVICE_BUSY` if it is connecting, `STATUS_INVALID_PARAMETER` if it is
    /// not bound, `STATUS_INVALID_ADDRESS_COMPONENT` if it is bound to the wildcard address.
    pub fn start_connect(&self, address: SocketAddr, timeout: Option<Duration>) -> Pending<Result<(), Error>> {
        self.endpoint.start_connect(address, timeout)
    }

    /// Opens the backlog: from now on, connections wait in it to be accepted.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER` before it is bound and if it listens already, `STATUS_CONNECTION_ACTIVE` if it is connected.
    pub fn listen(&self, backlog: Backlog) -> Result<(), Error> {
        let request = ListenRequest { header: Header::new(0), endpoint: self.id(), backlog: backlog.0, reserved: 0 };
        self.provider().call(ControlCode::Listen, &request).wait()
    }

    /// Takes the connection that has waited longest, now or when there is one.
    ///
    /// # Errors
    ///
    /// As [`Self::start_accept`].
    pub fn accept(&self) -> Result<Undecided, Error> {
        self.start_accept().wait()
    }

    /// Starts to take a connection; its peer is told nothing yet.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_CANT_WAIT` if [`NetworkEvents::ACCEPT`] is selected and none waits, `STATUS_INVALID_PARAMETER` before it
    /// listens, `STATUS_CANCELLED`, also when it is closed.
    pub fn start_accept(&self) -> Pending<Result<Undecided, Error>> {
        let provider = self.provider().clone();
        let undecided = move |reply: Result<AcceptReply, Error>| Undecided::from_reply(&provider, &reply?);
        self.provider().call_then(ControlCode::Accept, &self.endpoint.request(), undecided)
    }

    /// Has `event` set when one of `events` happens, and makes the endpoint non-blocking for them. [`NetworkEvents::NONE`]
    /// takes that back.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: events that there are not, events without an event object, or an event object without events.
    /// `STATUS_OBJECT_TYPE_MISMATCH` and the like: the handle is not one of an event.
    pub fn event_select(&self, event: Option<&dyn Event>, events: NetworkEvents) -> Result<(), Error> {
        let request = EventSelectRequest {
            header: Header::new(0),
            endpoint: self.id(),
            event: event.map_or(0, Event::handle),
            mask: events.0,
            reserved: 0,
        };
        self.provider().call(ControlCode::EventSelect, &request).wait()
    }

    /// What has happened since it was asked last. Resets the event.
    ///
    /// # Errors
    ///
    /// The endpoint is gone.
    pub fn enum_network_events(&self) -> Result<EventRecord, Error> {
        let reply: NetworkEventsReply =
            self.provider().call(ControlCode::EnumNetworkEvents, &self.endpoint.request()).wait()?;
        Ok(EventRecord::from_reply(&reply))
    }

    /// Exchanges the session with the peer.
    ///
    /// # Errors
    ///
    /// As [`Self::start_negotiate`].
    pub fn negotiate(&self, private: &[u8], receive_size: u32) -> Result<PeerSession, Error> {
        self.start_negotiate(private, receive_size).wait()
    }

    /// Starts to exchange the session: offers the receives that are posted, each of `receive_size` bytes or more, and waits for the
    /// peer's offer.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_INVALID_BUFFER_SIZE` for more private data than [`MAX_PRIVATE_DATA`], `STATUS_INVALID_PARAMETER` for a receive
    /// size past the driver's limit or that of a posted receive, and if it is negotiated already, `STATUS_INVALID_CONNECTION` before it
    /// is connected.
    pub fn start_negotiate(&self, private: &[u8], receive_size: u32) -> Pending<Result<PeerSession, Error>> {
        let code = ControlCode::Negotiate;
        let mut request = NegotiateRequest {
            header: Header::new(0),
            endpoint: self.id(),
            receive_size,
            // More than fits is for the driver to refuse.
            private_length: u32::try_from(private.len()).unwrap_or(u32::MAX),
            private: [0; MAX_PRIVATE_DATA],
        };
        let fitting = &private[..private.len().min(MAX_PRIVATE_DATA)];
        request.private[..fitting.len()].copy_from_slice(fitting);
        self.provider().call_then(code, &request, move |reply: Result<NegotiateReply, Error>| {
            let broken = Error::new(Operation::Request(code), NtStatus::REVISION_MISMATCH);
            reply.and_then(|reply| PeerSession::from_reply(&reply).ok_or(broken))
        })
    }

    /// Registers memory, to send from and receive into.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_CONNECTION` before it is connected, `STATUS_INVALID_PARAMETER` for no bytes or rights that there are not,
    /// `STATUS_INSUFFICIENT_RESOURCES` past a limit, `STATUS_ACCESS_VIOLATION` for memory that cannot be locked.
    pub fn register(&self, memory: impl Into<Memory>, rights: MemoryRights) -> Result<Region, Error> {
        Region::register(&self.endpoint, memory.into(), rights)
    }

    /// Sends a copy of `data` as one message; none is a message too.
    ///
    /// # Errors
    ///
    /// As [`Self::start_send`].
    pub fn send(&self, data: &[u8]) -> Result<usize, Error> {
        self.start_send(data.to_vec()).wait().result
    }

    /// Starts to send a buffer as one message, from where it lies; it comes back. It ends when TCP has taken all of it, and
    /// waits for the peer to post a receive before.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_INVALID_CONNECTION` before the session stands, `STATUS_INVALID_BUFFER_SIZE` for a message longer than the
    /// peer takes, and how the connection has ended: `STATUS_GRACEFUL_DISCONNECT`, `STATUS_CONNECTION_RESET`,
    /// `STATUS_CONNECTION_ABORTED`, `STATUS_INVALID_NETWORK_RESPONSE` (the peer broke the protocol), `STATUS_CANCELLED`.
    pub fn start_send(&self, buffer: Vec<u8>) -> Pending<Transfer> {
        start_transfer(&self.endpoint, ControlCode::Send, self.endpoint.request().as_bytes(), buffer)
    }

    /// Sends a part of registered memory as one message.
    ///
    /// # Errors
    ///
    /// As [`Self::start_send_registered`].
    pub fn send_registered(&self, region: &Region, range: Range<usize>) -> Result<usize, Error> {
        self.start_send_registered(region, range).wait()
    }

    /// Starts to send a part of registered memory as one message, from where it lies. Until it has ended the part can be read,
    /// and sent again, but not written.
    ///
    /// # Errors
    ///
    /// As [`Self::start_send`]; `STATUS_ACCESS_VIOLATION` for a part that is not inside and a region without the right,
    /// `STATUS_INVALID_PARAMETER` for no bytes, for a region that is another endpoint's and one that is no more registered,
    /// `STATUS_LOCK_NOT_GRANTED` (from this library) if a receive has some of the part.
    pub fn start_send_registered(&self, region: &Region, range: Range<usize>) -> Pending<Result<usize, Error>> {
        let code = ControlCode::SendRegistered;
        let failed = move |status| Error::new(Operation::Request(code), status);
        let length = range.len();
        let (request, posted) = match region.post(self.id(), range, Usage::Read) {
            Ok(post) => post,
            Err(status) => return Pending::refused(self.provider().device(), status, move |_| Err(failed(status))),
        };
        let request = DeviceRequest::new(code, request.as_bytes(), Vec::new());
        Pending::start(self.provider().device(), request, move |completed| {
            drop(posted);
            if completed.status.is_success() { Ok(length) } else { Err(failed(completed.status)) }
        })
    }

    /// Posts a part of registered memory, and waits for the message that fills it: its length.
    ///
    /// # Errors
    ///
    /// As [`Self::start_receive`].
    pub fn receive(&self, region: &Region, range: Range<usize>) -> Result<usize, Error> {
        self.start_receive(region, range).wait()
    }

    /// Posts a part of registered memory for one message, which lies at its start afterwards; ends with the message's length.
    /// Until it has ended the part can be neither read nor written.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_INVALID_CONNECTION` before it is connected, `STATUS_INVALID_BUFFER_SIZE` for less than the receive size that
    /// was negotiated, `STATUS_ACCESS_VIOLATION`, `STATUS_INVALID_PARAMETER` and `STATUS_LOCK_NOT_GRANTED` as for
    /// [`Self::start_send_registered`], and how the connection has ended, as for [`Self::start_send`].
    pub fn start_receive(&self, region: &Region, range: Range<usize>) -> Pending<Result<usize, Error>> {
        let code = ControlCode::ReceiveRegistered;
        let failed = move |status| Error::new(Operation::Request(code), status);
        let available = range.len();
        let (request, posted) = match region.post(self.id(), range, Usage::Write) {
            Ok(post) => post,
            Err(status) => return Pending::refused(self.provider().device(), status, move |_| Err(failed(status))),
        };
        let request = DeviceRequest::new(code, request.as_bytes(), vec![0; size_of::<ReceiveReply>()]);
        Pending::start(self.provider().device(), request, move |completed| {
            drop(posted);
            if !completed.status.is_success() {
                return Err(failed(completed.status));
            }
            let reply = completed.buffer.get(..completed.information).map(ReceiveReply::read_from_bytes);
            let length = reply.and_then(|reply| usize::try_from(reply.ok()?.length).ok());
            length.filter(|&length| length <= available).ok_or(failed(NtStatus::INFO_LENGTH_MISMATCH))
        })
    }

    /// Ends the connection after all that was sent, and waits for the peer to do the same.
    ///
    /// # Errors
    ///
    /// As [`Self::start_disconnect`].
    pub fn disconnect(&self) -> Result<(), Error> {
        self.start_disconnect(Disconnect::Graceful).wait()
    }

    /// Resets the connection; what is on its way is lost.
    ///
    /// # Errors
    ///
    /// As [`Self::start_disconnect`].
    pub fn abort(&self) -> Result<(), Error> {
        self.start_disconnect(Disconnect::Abortive).wait()
    }

    /// Starts to end the connection.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_INVALID_CONNECTION` before it is connected, and how the connection has ended if it has.
    pub fn start_disconnect(&self, how: Disconnect) -> Pending<Result<(), Error>> {
        let flags = match how {
            Disconnect::Graceful => 0,
            Disconnect::Abortive => DISCONNECT_ABORTIVE,
        };
        let request = DisconnectRequest { header: Header::new(flags), endpoint: self.id() };
        self.provider().call(ControlCode::Disconnect, &request)
    }

    /// Both SAN addresses.
    ///
    /// # Errors
    ///
    /// The endpoint is gone.
    pub fn addresses(&self) -> Result<Addresses, Error> {
        self.endpoint.addresses()
    }

    /// What it has done and holds.
    ///
    /// # Errors
    ///
    /// The endpoint is gone.
    pub fn statistics(&self) -> Result<EndpointStatistics, Error> {
        self.provider().call(ControlCode::QueryStatistics, &self.endpoint.request()).wait()
    }

    /// Closes the endpoint and waits until nothing of it is left. What pends on it, registrations included, is cancelled.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::close`].
    pub fn close(self) -> Result<(), Error> {
        self.endpoint.close()
    }

    /// Starts to close the endpoint.
    pub fn start_close(self) -> Pending<Result<(), Error>> {
        self.endpoint.start_close()
    }

    fn provider(&self) -> &Provider {
        self.endpoint.provider()
    }
}
