//! Listeners.

use super::attempt::close;
use super::{SanStream, Switch};
use crate::endpoint::AddressFamily;
use crate::error::Error;
use crate::listener::Backlog;
use crate::provider::Provider;
use crate::san::{SanEndpoint, Undecided};
use san_protocol::{EndpointId, NtStatus, WsaError};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often another TCP port is tried, where any will do and the SAN has that port in use.
const PORT_ATTEMPTS: usize = 16;

/// How long a listener that is dropped waits for its own connection, which ends its accept.
const WAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// A listener like `std::net::TcpListener`, on TCP/IP, and on the SAN as well where its address is one of the SAN's or the wildcard.
pub struct SanListener {
    tcp: TcpListener,
    /// `None`: TCP/IP alone.
    both: Option<Both>,
    san_failure: Option<Error>,
}

/// What it takes to accept from two sides.
struct Both {
    provider: Provider,
    endpoint: EndpointId,
    queue: Arc<Queue>,
    nonblocking: AtomicBool,
    accept_tcp: Option<JoinHandle<()>>,
    accept_san: Option<JoinHandle<()>>,
    /// Where TCP/IP listens.
    local: SocketAddr,
}

type Arrival = io::Result<(SanStream, SocketAddr)>;

/// Connections of both sides that wait to be accepted.
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
    limit: usize,
}

#[derive(Default)]
struct Waiting {
    ready: VecDeque<Arrival>,
    /// SAN connections whose sessions are being negotiated.
    negotiating: Vec<EndpointId>,
    /// The listener is dropped.
    ended: bool,
}

impl SanListener {
    /// Listens through the program's own switch: [`Switch::bind`].
    ///
    /// # Errors
    ///
    /// As [`Switch::bind`] and [`Switch::installed`].
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        Switch::installed()?.bind(addresses)
    }

    pub(super) fn bind_one(switch: &Switch, address: SocketAddr) -> io::Result<Self> {
        let provider = switch.provider().filter(|_| switch.config().subnets.is_for_listeners(address.ip()));
        let attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
        let mut refused = Vec::new();
        loop {
            let tcp = TcpListener::bind(address)?;
            let Some(provider) = provider else { return Ok(Self { tcp, both: None, san_failure: None }) };
            let local = SocketAddr::new(address.ip(), tcp.local_addr()?.port());
            match listen(provider, local) {
                Ok(endpoint) => {
                    let both = Some(Both::start(switch, &tcp, endpoint)?);
                    return Ok(Self { tcp, both, san_failure: None });
                }
                Err(error) if error.wsa_error() == WsaError::WSAEADDRINUSE && refused.len() + 1 < attempts => {
                    // Kept, so that another port is chosen next.
                    refused.push(tcp);
                }
                Err(error) => return Ok(Self { tcp, both: None, san_failure: Some(error) }),
            }
        }
    }

    /// Whether it listens on the SAN as well.
    #[must_use]
    pub fn is_san(&self) -> bool {
        self.both.is_some()
    }

    /// Why it does not listen on the SAN, if that was tried.
    #[must_use]
    pub fn san_failure(&self) -> Option<Error> {
        self.san_failure
    }

    /// Waits for a connection, of either side: the stream, and the peer's address.
    ///
    /// # Errors
    ///
    /// As `TcpListener::accept`, and what the SAN's accept fails with. A peer that does not manage to negotiate a session is no error.
    pub fn accept(&self) -> io::Result<(SanStream, SocketAddr)> {
        match &self.both {
            None => self.tcp.accept().map(|(stream, peer)| (SanStream::of_tcp(stream, None), peer)),
            Some(both) => both.queue.take(!both.nonblocking.load(Ordering::Acquire)),
        }
    }

    /// The connections that come, one after the other and without end.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address, which is the same on both sides.
    ///
    /// # Errors
    ///
    /// As `TcpListener::local_addr`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Whether an accept fails with `WouldBlock` if no connection waits.
    ///
    /// # Errors
    ///
    /// As `TcpListener::set_nonblocking`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match &self.both {
            None => self.tcp.set_nonblocking(nonblocking),
            Some(both) => {
                both.nonblocking.store(nonblocking, Ordering::Release);
                Ok(())
            }
        }
    }
}

/// An endpoint of the SAN that listens.
fn listen(provider: &Provider, address: SocketAddr) -> Result<SanEndpoint, Error> {
    let endpoint = SanEndpoint::create(provider, AddressFamily::of(address))?;
    endpoint.bind(address)?;
    endpoint.listen(Backlog::MAXIMUM)?;
    Ok(endpoint)
}

impl Both {
    fn start(switch: &Switch, tcp: &TcpListener, endpoint: SanEndpoint) -> io::Result<Self> {
        let queue =
            Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), limit: switch.config().backlog });
        let mut both = Self {
            provider: endpoint.endpoint().provider().clone(),
            endpoint: endpoint.id(),
            queue: queue.clone(),
            nonblocking: AtomicBool::new(false),
            accept_tcp: None,
            accept_san: None,
            local: tcp.local_addr()?,
        };
        let (tcp, for_tcp) = (tcp.try_clone()?, queue.clone());
        let accept_tcp = move || accept_tcp(&tcp, &for_tcp);
        let switch = switch.clone();
        let accept_san = move || accept_san(&switch, &endpoint, &queue);
        both.accept_tcp = Some(thread::Builder::new().name("san accept tcp".into()).spawn(accept_tcp)?);
        both.accept_san = Some(thread::Builder::new().name("san accept".into()).spawn(accept_san)?);
        Ok(both)
    }
}

fn accept_tcp(tcp: &TcpListener, queue: &Queue) {
    while queue.wait_for_room() {
        let arrived = tcp.accept().map(|(stream, peer)| (SanStream::of_tcp(stream, None), peer));
        queue.put(arrived);
    }
}

fn accept_san(switch: &Switch, listener: &SanEndpoint, queue: &Arc<Queue>) {
    while queue.wait_for_room() {
        match listener.accept() {
            Ok(undecided) => negotiate(switch, undecided, queue),
            // The listener is closed, or the handle: on this side nobody comes any more.
            Err(error) if matches!(error.status(), NtStatus::CANCELLED | NtStatus::INVALID_HANDLE) => return,
            Err(error) => queue.put(Err(error.into())),
        }
    }
}

/// Accepts a connection and negotiates its session, while others are waited for.
fn negotiate(switch: &Switch, undecided: Undecided, queue: &Arc<Queue>) {
    let (id, peer) = (undecided.id(), undecided.peer());
    if !queue.begin(id) {
        return;
    }
    let (switch, of_thread) = (switch.clone(), queue.clone());
    let negotiate = move || {
        let accepted = undecided.accept().map_err(io::Error::from);
        let channel = accepted.and_then(|endpoint| switch.negotiated(endpoint, None));
        // With the peer's connect fails ours, and nobody else cares.
        of_thread.end(id, channel.ok().map(|channel| (SanStream::of_san(channel), peer)));
    };
    if thread::Builder::new().name("san negotiate".into()).spawn(negotiate).is_err() {
        // What the closure had is dropped: the peer is refused.
        queue.end(id, None);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'queue>(&self, state: MutexGuard<'queue, Waiting>) -> MutexGuard<'queue, Waiting> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more may be accepted. `false`: none, any more.
    fn wait_for_room(&self) -> bool {
        let mut state = self.lock();
        while !state.ended && state.ready.len() + state.negotiating.len() >= self.limit {
            state = self.wait(state);
        }
        !state.ended
    }

    fn put(&self, arrival: Arrival) {
        let mut state = self.lock();
        if !state.ended {
            state.ready.push_back(arrival);
            self.changed.notify_all();
        }
    }

    /// Notes that a session is being negotiated. `false`: the listener is dropped.
    fn begin(&self, endpoint: EndpointId) -> bool {
        let mut state = self.lock();
        if !state.ended {
            state.negotiating.push(endpoint);
        }
        !state.ended
    }

    fn end(&self, endpoint: EndpointId, arrived: Option<(SanStream, SocketAddr)>) {
        let mut state = self.lock();
        state.negotiating.retain(|other| *other != endpoint);
        let unwanted = if state.ended {
            arrived
        } else {
            state.ready.extend(arrived.map(Ok));
            None
        };
        self.changed.notify_all();
        // It takes its time to end.
        drop(state);
        drop(unwanted);
    }

    fn take(&self, wait: bool) -> Arrival {
        let mut state = self.lock();
        loop {
            if let Some(arrival) = state.ready.pop_front() {
                self.changed.notify_all();
                return arrival;
            }
            if !wait {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state = self.wait(state);
        }
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        let (unaccepted, negotiating) = {
            let mut state = self.queue.lock();
            state.ended = true;
            self.queue.changed.notify_all();
            (std::mem::take(&mut state.ready), state.negotiating.clone())
        };
        close(&self.provider, self.endpoint);
        for endpoint in negotiating {
            close(&self.provider, endpoint);
        }
        drop(unaccepted);
        let woken = TcpStream::connect_timeout(&reachable(self.local), WAKE_TIMEOUT).is_ok();
        if let Some(accept_tcp) = self.accept_tcp.take()
            && (woken || accept_tcp.is_finished())
        {
            // A thread that has panicked has ended too.
            let _ = accept_tcp.join();
        }
        if let Some(accept_san) = self.accept_san.take() {
            let _ = accept_san.join();
        }
        let mut state = self.queue.lock();
        while !state.negotiating.is_empty() {
            state = self.queue.wait(state);
        }
    }
}

/// An address by which this machine reaches a listener of its own.
fn reachable(local: SocketAddr) -> SocketAddr {
    let ip = match local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, local.port())
}

/// The connections of a [`SanListener`].
#[derive(Debug)]
pub struct Incoming<'listener> {
    listener: &'listener SanListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<SanStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl std::fmt::Debug for SanListener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SanListener")
            .field("local", &self.tcp.local_addr().ok())
            .field("is_san", &self.is_san())
            .finish_non_exhaustive()
    }
}
