//! Network events.

use crate::error::{Error, Operation};
use san_protocol::{ControlCode, FD_ACCEPT, FD_CONNECT, NetworkEventsReply, NtStatus};
use std::ops::BitOr;

/// Network events, as winsock2.h numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkEvents(pub u32);

impl NetworkEvents {
    /// None: the endpoint is blocking.
    pub const NONE: Self = Self(0);
    /// `FD_CONNECT`: a connect has ended.
    pub const CONNECT: Self = Self(FD_CONNECT);
    /// `FD_ACCEPT`: a connection waits to be accepted.
    pub const ACCEPT: Self = Self(FD_ACCEPT);

    /// Whether all of `others` are among these.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl BitOr for NetworkEvents {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The network events that were recorded, each with what it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// A connect has ended so.
    pub connect: Option<Result<(), Error>>,
    /// A connection has arrived.
    pub accept: Option<Result<(), Error>>,
}

impl EventRecord {
    /// Nothing has happened.
    pub const NOTHING: Self = Self { connect: None, accept: None };

    /// The events.
    #[must_use]
    pub fn events(&self) -> NetworkEvents {
        let one = |event, recorded| if recorded { event } else { NetworkEvents::NONE };
        one(NetworkEvents::CONNECT, self.connect.is_some()) | one(NetworkEvents::ACCEPT, self.accept.is_some())
    }

    pub(super) fn from_reply(reply: &NetworkEventsReply) -> Self {
        let events = NetworkEvents(reply.events);
        let outcome = |event, code, status| {
            let status = NtStatus(status);
            let outcome = if status.is_success() { Ok(()) } else { Err(Error::new(Operation::Request(code), status)) };
            events.contains(event).then_some(outcome)
        };
        Self {
            connect: outcome(NetworkEvents::CONNECT, ControlCode::Connect, reply.connect_status),
            accept: outcome(NetworkEvents::ACCEPT, ControlCode::Accept, reply.accept_status),
        }
    }
}
