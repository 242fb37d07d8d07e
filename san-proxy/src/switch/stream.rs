//! Streams.

use super::channel::{Channel, SharedChannel, Take};
use super::{Switch, SwitchConfig};
use crate::error::Error;
use crate::san::SanEndpoint;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A connection like `std::net::TcpStream`, over the SAN or TCP/IP. Which of them it is was decided when it was connected.
///
/// Dropping it ends it behind everything that was written, as with TCP; over the SAN a thread of this process sees to that where it takes
/// time, for [`SwitchConfig::linger`](crate::SwitchConfig::linger) at most. A program that ends right after it has written more than
/// its peer has room for shuts down its side, and reads the peer's end first.
///
/// ```
/// use san_proxy::{SanListener, SanStream};
/// use std::io::{Read, Write};
///
/// let listener = SanListener::bind("127.0.0.1:0")?;
/// let mut client = SanStream::connect(listener.local_addr()?)?;
/// let (mut server, _) = listener.accept()?;
/// client.write_all(b"hello")?;
/// drop(client);
/// let mut heard = String::new();
/// server.read_to_string(&mut heard)?;
/// assert_eq!(heard, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SanStream {
    path: Path,
}

enum Path {
    San(SharedChannel),
    Tcp { stream: TcpStream, san_failure: Option<Error> },
}

impl SanStream {
    pub(super) fn of_san(channel: SharedChannel) -> Self {
        Self { path: Path::San(channel) }
    }

    pub(super) fn of_tcp(stream: TcpStream, san_failure: Option<Error>) -> Self {
        Self { path: Path::Tcp { stream, san_failure } }
    }

    /// Connects through the program's own switch: [`Switch::connect`].
    ///
    /// # Errors
    ///
    /// As [`Switch::connect`] and [`Switch::installed`].
    pub fn connect(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        Switch::installed()?.connect(addresses)
    }

    /// Connects through the program's own switch, within `timeout`: [`Switch::connect_timeout`].
    ///
    /// # Errors
    ///
    /// As [`Switch::connect_timeout`] and [`Switch::installed`].
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        Switch::installed()?.connect_timeout(address, timeout)
    }

    /// Makes a stream of a SAN endpoint that is connected: negotiates its session, as the peer's switch does.
    ///
    /// # Errors
    ///
    /// As [`SanSession::negotiate`](crate::SanSession::negotiate); the peer takes messages that are too short for a stream.
    pub fn negotiate(endpoint: SanEndpoint, config: &SwitchConfig) -> io::Result<Self> {
        let channel = Channel::negotiate(endpoint, config, config.negotiate_timeout)?;
        Ok(Self::of_san(SharedChannel::new(channel)))
    }

    /// Whether it is a SAN connection.
    #[must_use]
    pub fn is_san(&self) -> bool {
        match self.path {
            Path::San(_) => true,
            Path::Tcp { .. } => false,
        }
    }

    /// Why it is not a SAN connection, if the SAN was tried.
    #[must_use]
    pub fn san_failure(&self) -> Option<Error> {
        match self.path {
            Path::San(_) => None,
            Path::Tcp { san_failure, .. } => san_failure,
        }
    }

    /// The SAN endpoint behind it, for its statistics.
    #[must_use]
    pub fn san_endpoint(&self) -> Option<&SanEndpoint> {
        match &self.path {
            Path::San(channel) => Some(channel.endpoint()),
            Path::Tcp { .. } => None,
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    ///
    /// As `TcpStream::peer_addr`.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.path {
            Path::San(channel) => Ok(channel.peer),
            Path::Tcp { stream, .. } => stream.peer_addr(),
        }
    }

    /// The local address.
    ///
    /// # Errors
    ///
    /// As `TcpStream::local_addr`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.path {
            Path::San(channel) => Ok(channel.local),
            Path::Tcp { stream, .. } => stream.local_addr(),
        }
    }

    /// Shuts down one side or both. Of the SAN, `Write` tells the peer that nothing more comes, behind what was written.
    ///
    /// # Errors
    ///
    /// How the connection has ended, if it has.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let channel = match &self.path {
            Path::San(channel) => channel,
            Path::Tcp { stream, .. } => return stream.shutdown(how),
        };
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            channel.shut_reading();
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) { channel.shut_writing() } else { Ok(()) }
    }

    /// One more handle of the same connection, which lasts until all of them are dropped.
    ///
    /// # Errors
    ///
    /// As `TcpStream::try_clone`.
    pub fn try_clone(&self) -> io::Result<Self> {
        let path = match &self.path {
            Path::San(channel) => Path::San(channel.clone()),
            Path::Tcp { stream, san_failure } => Path::Tcp { stream: stream.try_clone()?, san_failure: *san_failure },
        };
        Ok(Self { path })
    }

    /// How long a read waits before it fails with `WouldBlock` or `TimedOut`, as std's streams of the platform do. `None`: for ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time of 0.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.path {
            Path::San(channel) => channel.set_read_timeout(timeout),
            Path::Tcp { stream, .. } => stream.set_read_timeout(timeout),
        }
    }

    /// The same for writes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a time of 0.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match &self.path {
            Path::San(channel) => channel.set_write_timeout(timeout),
            Path::Tcp { stream, .. } => stream.set_write_timeout(timeout),
        }
    }

    /// What [`Self::set_read_timeout`] has set.
    ///
    /// # Errors
    ///
    /// As `TcpStream::read_timeout`.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        match &self.path {
            Path::San(channel) => Ok(channel.read_timeout()),
            Path::Tcp { stream, .. } => stream.read_timeout(),
        }
    }

    /// What [`Self::set_write_timeout`] has set.
    ///
    /// # Errors
    ///
    /// As `TcpStream::write_timeout`.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        match &self.path {
            Path::San(channel) => Ok(channel.write_timeout()),
            Path::Tcp { stream, .. } => stream.write_timeout(),
        }
    }

    /// Whether reads and writes fail with `WouldBlock` instead of waiting.
    ///
    /// # Errors
    ///
    /// As `TcpStream::set_nonblocking`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match &self.path {
            Path::San(channel) => {
                channel.set_nonblocking(nonblocking);
                Ok(())
            }
            Path::Tcp { stream, .. } => stream.set_nonblocking(nonblocking),
        }
    }

    /// Whether TCP sends small segments at once. Messages of the SAN always go at once.
    ///
    /// # Errors
    ///
    /// As `TcpStream::set_nodelay`.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match &self.path {
            Path::San(_) => Ok(()),
            Path::Tcp { stream, .. } => stream.set_nodelay(nodelay),
        }
    }

    /// What [`Self::set_nodelay`] has set; always `true` of the SAN.
    ///
    /// # Errors
    ///
    /// As `TcpStream::nodelay`.
    pub fn nodelay(&self) -> io::Result<bool> {
        match &self.path {
            Path::San(_) => Ok(true),
            Path::Tcp { stream, .. } => stream.nodelay(),
        }
    }

    /// How something that was written could not be sent, once: a write returns before its bytes have gone.
    ///
    /// # Errors
    ///
    /// As `TcpStream::take_error`.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match &self.path {
            Path::San(channel) => Ok(channel.take_error()),
            Path::Tcp { stream, .. } => stream.take_error(),
        }
    }

    /// Reads what there is, and leaves it there.
    ///
    /// # Errors
    ///
    /// As reading.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.path {
            Path::San(channel) => channel.read(buffer, Take::Peek),
            Path::Tcp { stream, .. } => stream.peek(buffer),
        }
    }
}

impl Read for &SanStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.path {
            Path::San(channel) => channel.read(buffer, Take::Read),
            Path::Tcp { stream, .. } => (&*stream).read(buffer),
        }
    }
}

impl Write for &SanStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.path {
            Path::San(channel) => channel.write(bytes),
            Path::Tcp { stream, .. } => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // What was written is on its way already, as with TCP.
        Ok(())
    }
}

impl Read for SanStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for SanStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl fmt::Debug for SanStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("SanStream");
        shown.field("is_san", &self.is_san());
        for (name, address) in [("local", self.local_addr()), ("peer", self.peer_addr())] {
            if let Ok(address) = address {
                shown.field(name, &address);
            }
        }
        shown.finish_non_exhaustive()
    }
}
