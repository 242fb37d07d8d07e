//! Connections that wait for a decision.

use super::SanEndpoint;
use crate::endpoint::{Endpoint, parse};
use crate::error::Error;
use crate::provider::Provider;
use san_protocol::{AcceptReply, ControlCode, DecideRequest, Decision, EndpointId, Header, NtStatus};
use std::net::SocketAddr;

/// A connection that was taken out of a backlog, and whose peer has not been told anything yet. Dropping it refuses the peer.
#[derive(Debug)]
#[must_use = "dropping it refuses the peer"]
pub struct Undecided {
    endpoint: Endpoint,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Undecided {
    pub(super) fn from_reply(provider: &Provider, reply: &AcceptReply) -> Result<Self, Error> {
        let endpoint = Endpoint::from_id(provider, reply.endpoint);
        let end = |address| parse(ControlCode::Accept, address);
        Ok(Self { local: end(&reply.local)?, peer: end(&reply.remote)?, endpoint })
    }

    /// Its name in requests.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.endpoint.id()
    }

    /// The SAN address that the peer asked for.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The peer's SAN address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Accepts: the peer is told.
    ///
    /// # Errors
    ///
    /// `STATUS_CONNECTION_RESET` if the peer has gone; `STATUS_CANCELLED` if the endpoint is closed meanwhile.
    pub fn accept(self) -> Result<SanEndpoint, Error> {
        self.decide(Decision::Accept)?;
        Ok(SanEndpoint::from_endpoint(self.endpoint))
    }

    /// Rejects: the peer's connect ends with `STATUS_CONNECTION_REFUSED`, and so does this request, as WSPAccept does; here that is
    /// success.
    ///
    /// # Errors
    ///
    /// `STATUS_CONNECTION_RESET` if the peer has gone.
    pub fn reject(self) -> Result<(), Error> {
        match self.decide(Decision::Reject) {
            Err(error) if error.status() == NtStatus::CONNECTION_REFUSED => {
                // The driver knows it no more.
                let _ = self.endpoint.into_id();
                Ok(())
            }
            other => other,
        }
    }

    /// Issues the decision. What it answers: success after an acceptance, `STATUS_CONNECTION_REFUSED` after a rejection.
    fn decide(&self, decision: Decision) -> Result<(), Error> {
        let request = DecideRequest {
            header: Header::new(0),
            endpoint: self.endpoint.id(),
            decision: decision as u32,
            reserved: 0,
        };
        self.endpoint.provider().call(ControlCode::Decide, &request).wait()
    }
}
