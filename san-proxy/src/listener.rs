//! Listeners.

use crate::endpoint::{AddressFamily, Endpoint, parse};
use crate::error::Error;
use crate::pending::Pending;
use crate::provider::Provider;
use crate::stream::StreamConnection;
use san_protocol::{
    AcceptReply, ControlCode, EndpointId, EndpointKind, Header, ListenRequest, SOMAXCONN, SocketOption,
};
use std::net::SocketAddr;

/// Connections that may wait to be accepted; more are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog(pub u32);

impl Backlog {
    /// As many as the driver allows.
    pub const MAXIMUM: Self = Self(SOMAXCONN);
}

/// A connection that a listener has handed out.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub connection: StreamConnection,
    /// Its local address.
    pub local: SocketAddr,
    /// The peer's address.
    pub peer: SocketAddr,
}

/// A TCP listener of the driver. Closed when dropped, with the connections that nobody has accepted.
#[derive(Debug)]
pub struct StreamListener {
    endpoint: Endpoint,
}

impl StreamListener {
    /// An endpoint that is to be bound and to listen.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::create`].
    pub fn create(provider: &Provider, family: AddressFamily) -> Result<Self, Error> {
        Endpoint::create(provider, EndpointKind::StreamListener, family).map(Self::from_endpoint)
    }

    /// The listener that `endpoint` is.
    #[must_use]
    pub fn from_endpoint(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// The endpoint behind it: options, addresses, its id.
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

    /// Sets an option.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::set_option`].
    pub fn set_option(&self, option: SocketOption, on: bool) -> Result<(), Error> {
        self.endpoint.set_option(option, on)
    }

    /// Binds to a local address; port 0 lets the system choose. The address that came of it.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::start_bind`].
    pub fn bind(&self, address: SocketAddr) -> Result<SocketAddr, Error> {
        self.endpoint.bind(address)
    }

    /// Opens the backlog. Until then, connections are refused.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER` before the listener is bound; `STATUS_CONNECTION_ACTIVE` if it listens already.
    pub fn listen(&self, backlog: Backlog) -> Result<(), Error> {
        let request = ListenRequest { header: Header::new(0), endpoint: self.id(), backlog: backlog.0, reserved: 0 };
        self.endpoint.provider().call(ControlCode::Listen, &request).wait()
    }

    /// Takes the connection that has waited longest, now or when there is one.
    ///
    /// # Errors
    ///
    /// As [`Self::start_accept`].
    pub fn accept(&self) -> Result<Accepted, Error> {
        self.start_accept().wait()
    }

    /// Starts to accept.
    ///
    /// # Errors
    ///
    /// The result is `STATUS_INVALID_PARAMETER` before it listens, `STATUS_TOO_MANY_OPENED_FILES` at the limit of the handle,
    /// `STATUS_CANCELLED`, also when the listener is closed.
    pub fn start_accept(&self) -> Pending<Result<Accepted, Error>> {
        let provider = self.endpoint.provider().clone();
        let code = ControlCode::Accept;
        let accepted = move |reply: Result<AcceptReply, Error>| {
            let AcceptReply { endpoint, local, remote } = reply?;
            let connection = StreamConnection::from_endpoint(Endpoint::from_id(&provider, endpoint));
            Ok(Accepted { connection, local: parse(code, &local)?, peer: parse(code, &remote)? })
        };
        self.endpoint.provider().call_then(code, &self.endpoint.request(), accepted)
    }

    /// The local address.
    ///
    /// # Errors
    ///
    /// The endpoint is gone.
    pub fn local_address(&self) -> Result<Option<SocketAddr>, Error> {
        Ok(self.endpoint.addresses()?.local)
    }

    /// Closes the listener and waits until nothing of it is left.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::close`].
    pub fn close(self) -> Result<(), Error> {
        self.endpoint.close()
    }
}
