//! A stream of bytes over a session.

use super::config::SwitchConfig;
use super::message::{DATA, END, HEADER, Message};
use super::session::{Arrived, Prepared, Window};
use crate::error::{Error, Operation};
use crate::memory::Memory;
use crate::pending::Pending;
use crate::san::{MemoryRights, Region, SanEndpoint};
use crate::signal::Signal;
use crate::stream::{Disconnect, Transfer};
use san_protocol::{ControlCode, NtStatus};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long dropping a stream waits for the peer to have everything, before it is waited for in the background.
const DROP_PAUSE: Duration = Duration::from_millis(100);

/// What std's sockets report when a time-out has passed.
const TIMED_OUT: io::ErrorKind = if cfg!(windows) { io::ErrorKind::TimedOut } else { io::ErrorKind::WouldBlock };

/// Both directions of a stream, each with a lock of its own that nobody waits under.
pub(super) struct Channel {
    /// First: its close ends every request at once, which what follows waits for.
    endpoint: SanEndpoint,
    reader: Mutex<Reader>,
    writer: Mutex<Writer>,
    /// Raised when a receive ends, and when reading is shut down.
    arrived: Arc<Signal>,
    /// Raised when a send ends.
    sent: Arc<Signal>,
    reading_is_shut: AtomicBool,
    nonblocking: AtomicBool,
    read_timeout: Mutex<Option<Duration>>,
    write_timeout: Mutex<Option<Duration>>,
    linger: Duration,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

struct Reader {
    window: Window,
    /// A message of which not everything was read, and how much was, the header included.
    unread: Option<(Arrived, usize)>,
    end: ReadEnd,
}

/// How reading has ended.
#[derive(Clone, Copy)]
enum ReadEnd {
    Open,
    /// The peer sends nothing more.
    Ended,
    /// The peer has sent something that no switch sends.
    Broken,
}

/// Whether bytes that are read stay there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    Read,
    Peek,
}

struct Writer {
    region: Region,
    /// Bytes of a place in the region.
    size: usize,
    free: Vec<usize>,
    on_the_way: VecDeque<Sending>,
    /// How a send has failed first: none after it succeeds.
    failed: Option<Error>,
    /// Whether the failure has been reported through `take_error` or a write.
    reported: bool,
    is_shut: bool,
}

enum Sending {
    Data { send: Pending<Result<usize, Error>>, place: usize },
    End(Pending<Transfer>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel {
    /// Negotiates the session of a stream on a connected endpoint, within `timeout`.
    pub(super) fn negotiate(endpoint: SanEndpoint, config: &SwitchConfig, timeout: Duration) -> Result<Self, Error> {
        let failed = |code, status| Error::new(Operation::Request(code), status);
        let own = endpoint.addresses()?;
        let address = |address: Option<SocketAddr>| {
            address.ok_or(failed(ControlCode::QueryAddresses, NtStatus::INVALID_CONNECTION))
        };
        let (local, peer) = (address(own.local)?, address(own.peer)?);
        let prepared = Prepared::new(endpoint, config.receives)?;
        let send_count = config.send_count;
        let length = prepared
            .size()
            .checked_mul(send_count)
            .filter(|&length| isize::try_from(length).is_ok())
            .ok_or(failed(ControlCode::RegisterMemory, NtStatus::INSUFFICIENT_RESOURCES))?;
        // Before the peer can have sent everything, and gone: then nothing is registered any more.
        let region = prepared.endpoint.register(Memory::new(length), MemoryRights::SEND)?;
        let largest = prepared.size();
        let (endpoint, window, offer, arrived) = prepared.negotiate(b"", timeout)?.into_parts();
        let size = usize::try_from(offer.receive_size).unwrap_or(usize::MAX).min(largest);
        if size <= HEADER {
            return Err(failed(ControlCode::Negotiate, NtStatus::INVALID_NETWORK_RESPONSE));
        }
        let writer = Writer {
            region,
            size,
            free: (0..send_count).rev().collect(),
            on_the_way: VecDeque::with_capacity(send_count + 1),
            failed: None,
            reported: false,
            is_shut: false,
        };
        Ok(Self {
            endpoint,
            reader: Mutex::new(Reader { window, unread: None, end: ReadEnd::Open }),
            writer: Mutex::new(writer),
            arrived,
            sent: Arc::default(),
            reading_is_shut: AtomicBool::new(false),
            nonblocking: AtomicBool::new(false),
            read_timeout: Mutex::new(None),
            write_timeout: Mutex::new(None),
            linger: config.linger,
            local,
            peer,
        })
    }

    pub(super) fn endpoint(&self) -> &SanEndpoint {
        &self.endpoint
    }

    pub(super) fn read(&self, buffer: &mut [u8], take: Take) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let deadline = deadline(&self.read_timeout);
        loop {
            let seen = self.arrived.count();
            if let Some(length) = lock(&self.reader).read(&self.endpoint, buffer, take)? {
                return Ok(length);
            }
            if self.reading_is_shut.load(Ordering::Acquire) {
                return Ok(0);
            }
            self.wait(&self.arrived, seen, deadline)?;
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let deadline = deadline(&self.write_timeout);
        loop {
            let seen = self.sent.count();
            if let Some(length) = lock(&self.writer).write(&self.endpoint, &self.sent, bytes)? {
                return Ok(length);
            }
            self.wait(&self.sent, seen, deadline)?;
        }
    }

    fn wait(&self, signal: &Signal, seen: u64, deadline: Option<Instant>) -> io::Result<()> {
        if self.nonblocking.load(Ordering::Acquire) {
            Err(io::ErrorKind::WouldBlock.into())
        } else if signal.wait_past(seen, deadline) {
            Ok(())
        } else {
            Err(TIMED_OUT.into())
        }
    }

    /// Ends reading: what has arrived can still be read, and then it is at its end.
    pub(super) fn shut_reading(&self) {
        self.reading_is_shut.store(true, Ordering::Release);
        self.arrived.raise();
    }

    /// Ends writing: the peer reads what was written before, and then it is at its end.
    pub(super) fn shut_writing(&self) -> io::Result<()> {
        lock(&self.writer).shut(&self.endpoint, &self.sent).map_err(broken)?;
        // Who waits for room waits in vain.
        self.sent.raise();
        Ok(())
    }

    /// How sending has failed, if nobody has heard of it yet.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        let mut writer = lock(&self.writer);
        writer.collect();
        let failed = writer.failed.filter(|_| !writer.reported)?;
        writer.reported = true;
        Some(broken(failed))
    }

    pub(super) fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Release);
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.read_timeout, timeout)
    }

    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        set_timeout(&self.write_timeout, timeout)
    }

    pub(super) fn read_timeout(&self) -> Option<Duration> {
        *lock(&self.read_timeout)
    }

    pub(super) fn write_timeout(&self) -> Option<Duration> {
        *lock(&self.write_timeout)
    }

    /// Ends the stream behind what was written, and lets go of it: soon, or in the background when the peer has everything.
    fn finish(self) {
        if lock(&self.writer).shut(&self.endpoint, &self.sent).is_err() {
            // The connection is broken: nothing can be delivered.
            return;
        }
        // The driver sends what waits before it says goodbye.
        let disconnect = self.endpoint.start_disconnect(Disconnect::Graceful);
        let Err(disconnect) = disconnect.wait_for(DROP_PAUSE) else { return };
        let in_background = move || {
            let linger = self.linger;
            // Success or not, it is closed now.
            let _ = disconnect.wait_or_cancel(linger);
            drop(self);
        };
        // Without a thread the closure is dropped, and with it the connection.
        let _ = thread::Builder::new().name("san linger".into()).spawn(in_background);
    }
}

/// When a time-out passes that begins now.
fn deadline(timeout: &Mutex<Option<Duration>>) -> Option<Instant> {
    lock(timeout).and_then(|timeout| Instant::now().checked_add(timeout))
}

/// As std's sockets, which take no time-out of 0.
fn set_timeout(timeout: &Mutex<Option<Duration>>, to: Option<Duration>) -> io::Result<()> {
    if to == Some(Duration::ZERO) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a time-out of 0 is none: say `None`"));
    }
    *lock(timeout) = to;
    Ok(())
}

/// The error of a stream whose connection has ended.
fn broken(error: Error) -> io::Error {
    match error.status() {
        // As TCP reports that the peer takes nothing any more.
        NtStatus::GRACEFUL_DISCONNECT => io::Error::new(io::ErrorKind::BrokenPipe, error),
        // The endpoint was closed by someone else, or its handle.
        NtStatus::CANCELLED | NtStatus::INVALID_HANDLE => io::Error::new(io::ErrorKind::ConnectionAborted, error),
        _ => error.into(),
    }
}

impl Reader {
    /// Copies what there is. `None`: nothing yet.
    fn read(&mut self, endpoint: &SanEndpoint, buffer: &mut [u8], take: Take) -> io::Result<Option<usize>> {
        loop {
            if let Some((arrived, from)) = self.unread {
                let until = arrived.length().min(from.saturating_add(buffer.len()));
                let length = until - from;
                self.window.show(arrived, from..until, |bytes| buffer[..length].copy_from_slice(bytes))?;
                if take == Take::Read {
                    self.unread = (until < arrived.length()).then_some((arrived, until));
                    if self.unread.is_none() {
                        self.window.give_back(endpoint, arrived);
                    }
                }
                return Ok(Some(length));
            }
            match self.end {
                ReadEnd::Open => {}
                ReadEnd::Ended => return Ok(Some(0)),
                ReadEnd::Broken => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer's messages are not of a stream"));
                }
            }
            let arrived = match self.window.next() {
                None => return Ok(None),
                Some(Ok(arrived)) => arrived,
                Some(Err(error)) if error.status() == NtStatus::GRACEFUL_DISCONNECT => return Ok(Some(0)),
                Some(Err(error)) => return Err(broken(error)),
            };
            let parsed = |message: &[u8]| match Message::parse(message) {
                Some(Message::Data(_)) => ReadEnd::Open,
                Some(Message::End) => ReadEnd::Ended,
                None => ReadEnd::Broken,
            };
            self.end = self.window.show(arrived, 0..arrived.length(), parsed)?;
            match self.end {
                ReadEnd::Open => self.unread = Some((arrived, HEADER)),
                ReadEnd::Ended => {}
                // The end of the connection is an error here already.
                ReadEnd::Broken => drop(endpoint.abort()),
            }
        }
    }
}

impl Writer {
    /// Takes back the places of messages that have gone.
    fn collect(&mut self) {
        while let Some(first) = self.on_the_way.pop_front() {
            if !first.has_ended() {
                self.on_the_way.push_front(first);
                return;
            }
            let result = match first {
                Sending::Data { send, place } => {
                    self.free.push(place);
                    send.wait()
                }
                Sending::End(send) => send.wait().result,
            };
            self.failed = self.failed.or(result.err());
        }
    }

    /// Starts to send as much as fits in one message. `None`: there is no room now.
    fn write(&mut self, endpoint: &SanEndpoint, signal: &Arc<Signal>, bytes: &[u8]) -> io::Result<Option<usize>> {
        self.collect();
        if self.is_shut {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "writing was shut down"));
        }
        if let Some(failed) = self.failed {
            self.reported = true;
            return Err(broken(failed));
        }
        let Some(place) = self.free.pop() else { return Ok(None) };
        let length = bytes.len().min(self.size - HEADER);
        let start = place * self.size;
        let message = start..start + HEADER + length;
        self.region.with_bytes_mut(message.clone(), |message| {
            let (header, data) = message.split_at_mut(HEADER);
            header.copy_from_slice(&DATA);
            data.copy_from_slice(&bytes[..length]);
        })?;
        let send = endpoint.start_send_registered(&self.region, message);
        send.raise_on_end(signal);
        self.on_the_way.push_back(Sending::Data { send, place });
        // What fails at once need not wait for the next write.
        self.collect();
        self.failed.map_or(Ok(Some(length)), |failed| {
            self.reported = true;
            Err(broken(failed))
        })
    }

    /// Sends the end, once.
    fn shut(&mut self, endpoint: &SanEndpoint, signal: &Arc<Signal>) -> Result<(), Error> {
        self.collect();
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        if !std::mem::replace(&mut self.is_shut, true) {
            let send = endpoint.start_send(END.to_vec());
            send.raise_on_end(signal);
            self.on_the_way.push_back(Sending::End(send));
        }
        Ok(())
    }
}

impl Sending {
    fn has_ended(&self) -> bool {
        match self {
            Self::Data { send, .. } => send.has_ended(),
            Self::End(send) => send.has_ended(),
        }
    }
}

/// A channel that several streams may share; with the last of them it ends, behind what was written.
#[derive(Clone)]
pub(super) struct SharedChannel(Arc<FinishOnDrop>);

struct FinishOnDrop(Option<Channel>);

impl SharedChannel {
    pub(super) fn new(channel: Channel) -> Self {
        Self(Arc::new(FinishOnDrop(Some(channel))))
    }
}

impl std::ops::Deref for SharedChannel {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        self.0.0.as_ref().expect("it is taken out when nobody has it any more")
    }
}

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        if let Some(channel) = self.0.take() {
            channel.finish();
        }
    }
}
