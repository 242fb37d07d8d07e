//! Sockets that are connected without waiting.

use super::attempt::Attempt;
use super::{SanStream, Switch};
use crate::error::{Error, Operation};
use san_protocol::{ControlCode, NtStatus};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A socket that is to be connected. Programs that poll connect again and again; the switch answers them, the SAN provider is asked once.
///
/// Dropping it gives a connect up that goes on.
#[derive(Debug)]
pub struct SanSocket {
    switch: Switch,
    nonblocking: AtomicBool,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    attempt: Attempt,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    New,
    Connecting,
    /// It has ended so, and nobody has been told.
    Ended(io::Result<SanStream>),
    Connected(SanStream),
    /// A failure was told: it can be tried again.
    Failed,
}

impl SanSocket {
    pub(super) fn new(switch: Switch) -> Self {
        Self { switch, nonblocking: AtomicBool::new(false), shared: Arc::default() }
    }

    /// Whether [`Self::connect`] returns before the connect has ended.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Release);
    }

    /// Connects, or says how a connect stands that was started before.
    ///
    /// # Errors
    ///
    /// - `WSAEWOULDBLOCK`: it is non-blocking, and the connect goes on from now on.
    /// - `WSAEALREADY`: the connect goes on.
    /// - `WSAEISCONN`: it is connected, and that has been told before.
    /// - How the connect has failed, as [`Switch::connect`]: afterwards it can be tried again.
    pub fn connect(&self, address: SocketAddr) -> io::Result<()> {
        let mut state = self.shared.lock();
        match &*state {
            State::New | State::Failed => self.start(&mut state, address)?,
            State::Connecting => return Err(error(NtStatus::DEVICE_BUSY, address)),
            State::Connected(_) => return Err(error(NtStatus::CONNECTION_ACTIVE, address)),
            State::Ended(_) => return tell(&mut state),
        }
        if self.nonblocking.load(Ordering::Acquire) {
            return Err(error(NtStatus::CANT_WAIT, address));
        }
        while matches!(*state, State::Connecting) {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        tell(&mut state)
    }

    /// Whether it is connected, told or not.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(*self.shared.lock(), State::Connected(_) | State::Ended(Ok(_)))
    }

    /// The stream, once it is connected.
    ///
    /// # Errors
    ///
    /// `WSAENOTCONN`, or how the connect has failed if nobody has been told.
    pub fn into_stream(self) -> io::Result<SanStream> {
        match std::mem::take(&mut *self.shared.lock()) {
            State::Connected(stream) => Ok(stream),
            State::Ended(result) => result,
            State::New | State::Connecting | State::Failed => {
                Err(Error::new(Operation::Request(ControlCode::Connect), NtStatus::INVALID_CONNECTION).into())
            }
        }
    }

    fn start(&self, state: &mut State, address: SocketAddr) -> io::Result<()> {
        let (switch, shared) = (self.switch.clone(), self.shared.clone());
        let connect = move || {
            let connected = switch.connect_one(address, None, &shared.attempt);
            shared.end(connected);
        };
        thread::Builder::new().name("san connect".into()).spawn(connect)?;
        *state = State::Connecting;
        Ok(())
    }
}

/// Tells how a connect has ended.
fn tell(state: &mut State) -> io::Result<()> {
    match std::mem::take(state) {
        State::Ended(Ok(stream)) => {
            *state = State::Connected(stream);
            Ok(())
        }
        State::Ended(Err(failed)) => {
            *state = State::Failed;
            Err(failed)
        }
        other => {
            *state = other;
            Ok(())
        }
    }
}

fn error(status: NtStatus, address: SocketAddr) -> io::Error {
    Error::new(Operation::Request(ControlCode::Connect), status).at(address).into()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, connected: io::Result<SanStream>) {
        // A socket that is gone has given the attempt up: nobody wants the stream.
        if self.attempt.goes_on().is_ok() {
            *self.lock() = State::Ended(connected);
            self.changed.notify_all();
        }
    }
}

impl Drop for SanSocket {
    fn drop(&mut self) {
        self.shared.attempt.give_up();
    }
}
