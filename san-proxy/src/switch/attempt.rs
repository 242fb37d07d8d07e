//! An attempt to connect, which can be given up.

use crate::endpoint::Endpoint;
use crate::error::{Error, Operation};
use crate::provider::Provider;
use crate::san::SanEndpoint;
use san_protocol::{ControlCode, EndpointId, NtStatus};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the SAN could not connect.
pub(super) enum Failure {
    /// No socket was made, or it was not bound: nothing was sent, and TCP/IP is as good as without a SAN.
    NoSocket(Error),
    /// The connect failed.
    Connect(Error),
}

/// Another thread may give up what one thread connects.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing waits.
    #[default]
    Idle,
    /// This endpoint connects, or negotiates its session.
    Connecting(Provider, EndpointId),
    GivenUp,
}

impl Attempt {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error once it is given up.
    pub(super) fn goes_on(&self) -> Result<(), Error> {
        match *self.lock() {
            State::Idle | State::Connecting(..) => Ok(()),
            State::GivenUp => Err(Error::new(Operation::Request(ControlCode::Connect), NtStatus::CANCELLED)),
        }
    }

    /// Connects, unless it is given up before or meanwhile. The endpoint can be given up until [`Self::end`].
    pub(super) fn connect(&self, endpoint: &SanEndpoint, to: SocketAddr, timeout: Duration) -> Result<(), Error> {
        self.goes_on()?;
        let connect = endpoint.start_connect(to, Some(timeout));
        match &mut *self.lock() {
            state @ (State::Idle | State::Connecting(..)) => {
                *state = State::Connecting(endpoint.endpoint().provider().clone(), endpoint.id());
            }
            State::GivenUp => connect.cancel(),
        }
        connect.wait()
    }

    /// It has ended, with a session or without: from now on there is nothing to close.
    pub(super) fn end(&self) {
        match &mut *self.lock() {
            state @ (State::Idle | State::Connecting(..)) => *state = State::Idle,
            State::GivenUp => {}
        }
    }

    /// Gives it up: closes the endpoint, which ends at once what it waits for.
    pub(super) fn give_up(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::GivenUp);
        match state {
            State::Connecting(provider, id) => close(&provider, id),
            State::Idle | State::GivenUp => {}
        }
    }
}

/// Closes an endpoint that another thread has. Its id names no other endpoint afterwards, so that it can be closed again.
pub(super) fn close(provider: &Provider, id: EndpointId) {
    drop(Endpoint::from_id(provider, id));
}
