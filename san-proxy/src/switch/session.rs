//! Sessions: connected SAN endpoints with receives posted and the session negotiated.

use super::config::ReceiveWindow;
use crate::error::{Error, Operation};
use crate::memory::Memory;
use crate::pending::Pending;
use crate::san::{MemoryRights, PeerSession, Region, SanEndpoint};
use crate::signal::Signal;
use crate::stream::Transfer;
use san_protocol::{ControlCode, NtStatus};
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Receives that are posted, one behind the other, and posted again when their message has been used.
pub(super) struct Window {
    region: Region,
    size: usize,
    posted: VecDeque<Posted>,
    /// How the connection has ended.
    ended: Option<Error>,
    signal: Arc<Signal>,
}

struct Posted {
    receive: Pending<Result<usize, Error>>,
    place: usize,
}

/// A message in its place in the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    place: usize,
    length: usize,
}

impl Window {
    /// Registers room for the receives, and posts them all. `signal` is raised when one of them ends.
    fn post(endpoint: &SanEndpoint, window: ReceiveWindow, signal: Arc<Signal>) -> Result<Self, Error> {
        let refused = Error::new(Operation::Request(ControlCode::RegisterMemory), NtStatus::INSUFFICIENT_RESOURCES);
        let size = usize::try_from(window.size).map_err(|_| refused)?;
        let length = window.count.checked_mul(size).filter(|&length| isize::try_from(length).is_ok()).ok_or(refused)?;
        let region = endpoint.register(Memory::new(length), MemoryRights::RECEIVE)?;
        let posted = VecDeque::with_capacity(window.count);
        let mut posting = Self { region, size, posted, ended: None, signal };
        for place in 0..window.count {
            posting.post_again(endpoint, place);
        }
        Ok(posting)
    }

    fn post_again(&mut self, endpoint: &SanEndpoint, place: usize) {
        let receive = endpoint.start_receive(&self.region, place * self.size..(place + 1) * self.size);
        receive.raise_on_end(&self.signal);
        self.posted.push_back(Posted { receive, place });
    }

    /// Whether [`Self::next`] has something.
    fn is_ready(&self) -> bool {
        self.ended.is_some() || self.posted.front().is_some_and(|posted| posted.receive.has_ended())
    }

    /// The next message, if there is one, or how the connection has ended, then and ever after. A message keeps its place until
    /// it is given back.
    pub(super) fn next(&mut self) -> Option<Result<Arrived, Error>> {
        if !self.is_ready() {
            return None;
        }
        let next = match (self.ended, self.posted.pop_front()) {
            (Some(ended), _) => Err(ended),
            (None, posted) => {
                let Posted { receive, place } = posted?;
                receive.wait().map(|length| Arrived { place, length })
            }
        };
        self.ended = next.err();
        Some(next)
    }

    /// Shows a part of a message. The part is cut to the message.
    pub(super) fn show<T>(
        &self,
        arrived: Arrived,
        part: Range<usize>,
        body: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Error> {
        let start = arrived.place * self.size;
        self.region.with_bytes(start + part.start.min(arrived.length)..start + part.end.min(arrived.length), body)
    }

    /// Posts the place of a message anew.
    pub(super) fn give_back(&mut self, endpoint: &SanEndpoint, arrived: Arrived) {
        self.post_again(endpoint, arrived.place);
    }
}

/// A SAN connection for those who want messages, buffers and completions: receives are posted, and the session is negotiated.
///
/// Messages are sent through [`Self::endpoint`], from buffers that are given away or from registered memory, and shown where
/// they have arrived.
pub struct SanSession {
    /// First: its close ends every request at once, which what follows waits for.
    endpoint: SanEndpoint,
    window: Window,
    peer: PeerSession,
}

/// A connected endpoint that has posted its receives, and negotiates next.
pub(super) struct Prepared {
    /// First, as in a session.
    pub(super) endpoint: SanEndpoint,
    window: Window,
    receives: ReceiveWindow,
}

impl Prepared {
    pub(super) fn new(endpoint: SanEndpoint, receives: ReceiveWindow) -> Result<Self, Error> {
        let window = Window::post(&endpoint, receives, Arc::default())?;
        Ok(Self { endpoint, window, receives })
    }

    /// The longest message that it takes.
    pub(super) fn size(&self) -> usize {
        self.window.size
    }

    pub(super) fn negotiate(self, private: &[u8], timeout: Duration) -> Result<SanSession, Error> {
        let Self { endpoint, window, receives } = self;
        let peer = endpoint.start_negotiate(private, receives.size).wait_or_cancel(timeout)?;
        Ok(SanSession { endpoint, window, peer })
    }
}

impl SanSession {
    /// Posts receives on a connected endpoint, then exchanges the session with the peer, within `timeout`.
    ///
    /// # Errors
    ///
    /// As [`SanEndpoint::register`] and [`SanEndpoint::start_negotiate`]; `STATUS_IO_TIMEOUT` when the time has passed.
    pub fn negotiate(
        endpoint: SanEndpoint,
        receives: ReceiveWindow,
        private: &[u8],
        timeout: Duration,
    ) -> Result<Self, Error> {
        Prepared::new(endpoint, receives)?.negotiate(private, timeout)
    }

    /// The endpoint: addresses, statistics, registered memory, sending.
    #[must_use]
    pub fn endpoint(&self) -> &SanEndpoint {
        &self.endpoint
    }

    /// What the peer takes, and its private data.
    #[must_use]
    pub fn peer(&self) -> &PeerSession {
        &self.peer
    }

    /// Sends a copy of `message`.
    ///
    /// # Errors
    ///
    /// As [`SanEndpoint::start_send`].
    pub fn send(&self, message: &[u8]) -> Result<usize, Error> {
        self.endpoint.send(message)
    }

    /// Starts to send a buffer; it comes back.
    pub fn start_send(&self, message: Vec<u8>) -> Pending<Transfer> {
        self.endpoint.start_send(message)
    }

    /// Waits for the next message, shows it to `body` where it lies, and posts its place anew.
    ///
    /// # Errors
    ///
    /// How the connection has ended: `STATUS_GRACEFUL_DISCONNECT` and the like, as for [`SanEndpoint::start_receive`].
    pub fn receive<T>(&mut self, body: impl FnOnce(&[u8]) -> T) -> Result<T, Error> {
        self.wait(None);
        self.take(body)
    }

    /// The same, but waits at most so long. `None`: no message has come.
    ///
    /// # Errors
    ///
    /// As [`Self::receive`].
    pub fn receive_within<T>(&mut self, timeout: Duration, body: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Error> {
        if self.wait(Instant::now().checked_add(timeout)) { self.take(body).map(Some) } else { Ok(None) }
    }

    /// Ends the session after all that was sent, and waits for the peer to do the same.
    ///
    /// # Errors
    ///
    /// As [`SanEndpoint::start_disconnect`].
    pub fn disconnect(self) -> Result<(), Error> {
        self.endpoint.disconnect()
    }

    /// Waits until there is a message or the connection has ended.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        loop {
            let seen = self.window.signal.count();
            if self.window.is_ready() {
                return true;
            }
            if !self.window.signal.wait_past(seen, deadline) {
                return false;
            }
        }
    }

    fn take<T>(&mut self, body: impl FnOnce(&[u8]) -> T) -> Result<T, Error> {
        let none = Error::new(Operation::Request(ControlCode::ReceiveRegistered), NtStatus::CANT_WAIT);
        let arrived = self.window.next().unwrap_or(Err(none))?;
        let taken = self.window.show(arrived, 0..arrived.length, body);
        self.window.give_back(&self.endpoint, arrived);
        taken
    }

    /// What a stream is made of: the signal is raised when a receive ends.
    pub(super) fn into_parts(self) -> (SanEndpoint, Window, PeerSession, Arc<Signal>) {
        let signal = self.window.signal.clone();
        (self.endpoint, self.window, self.peer, signal)
    }
}

impl Arrived {
    pub(super) fn length(self) -> usize {
        self.length
    }
}

impl fmt::Debug for SanSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SanSession")
            .field("endpoint", &self.endpoint)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
