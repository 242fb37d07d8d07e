//! What an id names: an endpoint of one of the two kinds.

use crate::handle::Handle;
use crate::issuer::Issuer;
use crate::nt::{Process, Shared};
use crate::parameters;
use crate::trace;
use crate::wsk::{PROVIDER, SockAddr};
use crate::{san, stream};
use core::cell::Cell;
use core::net::SocketAddr;
use san_protocol::{AddressError, AddressesReply, EndpointEntry, EndpointId, EndpointKind, NtStatus, SocketAddress};
use wsk_bindings::{ADDRESS_FAMILY, AF_INET, AF_INET6};

/// An endpoint of either kind.
#[derive(Clone)]
pub(crate) enum AnyEndpoint {
    /// Plain TCP, with any peer.
    Stream(Shared<stream::Endpoint>),
    /// Messages through registered memory, with a peer that runs this driver too.
    San(Shared<san::Endpoint>),
}

/// What became of something that was asked for.
pub(crate) enum Begun {
    /// It is done: its issuer is to be told so, with so many bytes.
    Done(usize),
    /// It is an operation's now, which tells its issuer.
    Pends,
}

impl AnyEndpoint {
    /// A new endpoint; `process`: on whose behalf, none for the kernel's own. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn create(kind: u32, family: ADDRESS_FAMILY, process: Option<Process>) -> Result<Self, NtStatus> {
        let provider = PROVIDER.acquire()?;
        Ok(match Self::check_create(kind, family)? {
            EndpointKind::StreamConnection => Self::Stream(stream::Endpoint::connection(provider, family, process)?),
            EndpointKind::StreamListener => Self::Stream(stream::Endpoint::listener(provider, family, process)?),
            EndpointKind::San => Self::San(san::Endpoint::new(provider, family, process)?),
        })
    }

    /// The kind of endpoint that is meant, if there can be such a one. Any IRQL.
    pub(crate) fn check_create(kind: u32, family: ADDRESS_FAMILY) -> Result<EndpointKind, NtStatus> {
        let kind = EndpointKind::from_number(kind).ok_or(NtStatus::INVALID_PARAMETER)?;
        if family == AF_INET || family == AF_INET6 { Ok(kind) } else { Err(NtStatus::NOT_SUPPORTED) }
    }

    /// A stream endpoint; `STATUS_NOT_SUPPORTED` for a SAN one.
    pub(crate) fn stream(self) -> Result<Shared<stream::Endpoint>, NtStatus> {
        match self {
            Self::Stream(endpoint) => Ok(endpoint),
            Self::San(_) => Err(NtStatus::NOT_SUPPORTED),
        }
    }

    /// A SAN endpoint; `STATUS_NOT_SUPPORTED` for a stream.
    pub(crate) fn san(self) -> Result<Shared<san::Endpoint>, NtStatus> {
        match self {
            Self::San(endpoint) => Ok(endpoint),
            Self::Stream(_) => Err(NtStatus::NOT_SUPPORTED),
        }
    }

    /// An address that suits the endpoint.
    pub(crate) fn address(&self, address: SocketAddress) -> Result<SocketAddr, NtStatus> {
        let address = address.parse().map_err(|error| match error {
            AddressError::Family(_) | AddressError::Padding => NtStatus::INVALID_PARAMETER,
        })?;
        let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
        let own = match self {
            Self::Stream(endpoint) => endpoint.family(),
            Self::San(endpoint) => endpoint.family(),
        };
        if family == own { Ok(address) } else { Err(NtStatus::INVALID_PARAMETER) }
    }

    /// Binds to one of its own addresses. Answered by an [`AddressReply`](san_protocol::AddressReply). IRQL <= DISPATCH_LEVEL.
    pub(crate) fn bind(&self, issuer: Issuer, address: SocketAddr) -> Result<(), NtStatus> {
        match self {
            Self::Stream(endpoint) => stream::Endpoint::bind(endpoint, issuer, address),
            Self::San(endpoint) => san::Endpoint::bind(endpoint, issuer, address),
        }
    }

    /// Connects within `timeout` milliseconds; 0: as long as it takes. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn connect(&self, issuer: Issuer, address: SocketAddress, timeout: u32) -> Result<(), NtStatus> {
        let address = self.address(address)?;
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(NtStatus::INVALID_ADDRESS_COMPONENT);
        }
        match self {
            Self::Stream(endpoint) => stream::Endpoint::connect(endpoint, issuer, address, timeout),
            Self::San(endpoint) => san::Endpoint::connect(endpoint, issuer, address, timeout),
        }
    }

    /// Listens, with a backlog of about so many connections. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn listen(&self, issuer: Issuer, backlog: u32) -> Result<Begun, NtStatus> {
        // As winsock does: SOMAXCONN and other large numbers become what is reasonable, and none is one.
        let backlog = (backlog as usize).clamp(1, parameters::get().backlog);
        match self {
            Self::Stream(endpoint) => stream::Endpoint::listen(endpoint, backlog).map(|()| Begun::Done(0)),
            Self::San(endpoint) => san::Endpoint::listen(endpoint, issuer, backlog).map(|()| Begun::Pends),
        }
    }

    /// Hands out a connection. Answered by an [`AcceptReply`](san_protocol::AcceptReply). IRQL <= DISPATCH_LEVEL.
    pub(crate) fn accept(&self, issuer: Issuer) -> Result<(), NtStatus> {
        match self {
            Self::Stream(endpoint) => stream::Endpoint::accept(endpoint, issuer),
            Self::San(endpoint) => san::Endpoint::accept(endpoint, issuer),
        }
    }

    /// Ends the connection, or this side's sending. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn disconnect(&self, issuer: Issuer, abortive: bool) -> Result<(), NtStatus> {
        match self {
            Self::Stream(endpoint) => stream::Endpoint::disconnect(endpoint, issuer, abortive),
            Self::San(endpoint) => san::Endpoint::disconnect(endpoint, issuer, abortive),
        }
    }

    /// Both addresses, zeros where there is none. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn addresses(&self) -> AddressesReply {
        let (local, remote): (SockAddr, SockAddr) = match self {
            Self::Stream(endpoint) => endpoint.addresses(),
            Self::San(endpoint) => endpoint.addresses(),
        };
        AddressesReply { local: local.protocol(), remote: remote.protocol() }
    }

    /// The endpoint as it is now, under its id, of a handle that a process has opened. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn entry(&self, id: EndpointId, process: u32) -> EndpointEntry {
        let entry = match self {
            Self::Stream(endpoint) => endpoint.entry(),
            Self::San(endpoint) => endpoint.entry(),
        };
        EndpointEntry { endpoint: id, process: process.into(), ..entry }
    }

    /// What the trace calls it. Any IRQL.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Stream(endpoint) => endpoint.number(),
            Self::San(endpoint) => endpoint.number(),
        }
    }

    /// Closes the endpoint; `waiter` is told when nothing of it is left. The caller has taken it out of the id table.
    ///
    /// IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn close(&self, waiter: Option<CloseWaiter>) {
        trace::endpoint_closing(self.number());
        match self {
            Self::Stream(endpoint) => stream::Endpoint::close(endpoint, waiter),
            Self::San(endpoint) => san::Endpoint::close(endpoint, waiter),
        }
    }
}

/// Who waits for an endpoint's end.
pub(crate) enum CloseWaiter {
    /// Whoever asked for it, and is told.
    Issuer(Issuer),
    /// A handle that is being closed: it ends when its last endpoint has.
    Handle(#[expect(dead_code, reason = "a reference, dropped with the endpoint")] Shared<Handle>),
}

/// Who waits for the endpoint's end, if somebody does: told when this is dropped. An endpoint's last field.
pub(crate) struct Closing(Cell<Option<CloseWaiter>>);

impl Closing {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Stores who waits; by the one caller that has taken the endpoint out of the id table.
    pub(crate) fn set(&self, waiter: Option<CloseWaiter>) {
        self.0.set(waiter);
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        match self.0.take() {
            Some(CloseWaiter::Issuer(issuer)) => issuer.complete(NtStatus::SUCCESS, 0),
            Some(CloseWaiter::Handle(_)) | None => {}
        }
    }
}
