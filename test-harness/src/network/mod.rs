//! The network below WSK: what a TCP implementation does for it. WSK's objects and rules lie above this border, the bytes below.

mod host;
pub mod simulated;

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

pub use host::Host;

/// Why the network refused or ended something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// Nobody listens there, or the peer said no.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The peer did not answer in time.
    TimedOut,
    /// There is no way to the host.
    HostUnreachable,
    /// There is no way to its network.
    NetworkUnreachable,
    /// The local address is in use.
    AddressInUse,
    /// The local address is not this host's.
    AddressNotAvailable,
    /// The host does not allow it.
    AccessDenied,
    /// The socket is not connected.
    NotConnected,
    /// The socket is connected already.
    AlreadyConnected,
    /// The host has no room.
    NoBuffers,
    /// The host cannot do it.
    NotSupported,
    /// A buffer is not accessible memory.
    BadBuffer,
    /// Anything else, which the caller did wrong.
    Invalid,
}

/// What came of a step that may have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// It is done.
    Done(T),
    /// Not yet: the socket's token comes from [`Backend::wait`] when it is worth another try.
    Later,
}

/// The outcome of a step.
pub type Step<T> = Result<Progress<T>, NetworkError>;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6, and IPv6 alone.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// A socket option; values are as Windows has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// TCP_NODELAY.
    NoDelay,
    /// SO_KEEPALIVE.
    KeepAlive,
    /// SO_REUSEADDR.
    ReuseAddress,
    /// SO_SNDBUF.
    SendBuffer,
    /// SO_RCVBUF.
    ReceiveBuffer,
    /// IPV6_V6ONLY.
    V6Only,
    /// SO_BROADCAST.
    Broadcast,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who sent it.
    pub from: SocketAddr,
    /// Bytes of it that were stored.
    pub bytes: usize,
    /// It was longer than the buffer.
    pub is_truncated: bool,
}

/// A TCP or UDP socket. No call waits. Dropping it closes it: gracefully, unless [`Socket::abort`] was called.
pub trait Socket: Send + Sync {
    /// Gives it a local address.
    ///
    /// # Errors
    /// The address is in use, or not this host's.
    fn bind(&self, address: SocketAddr) -> Result<(), NetworkError>;
    /// Begins to connect.
    ///
    /// # Errors
    /// The peer or the network refused at once.
    fn connect(&self, address: SocketAddr) -> Step<()>;
    /// How a connect that was begun has gone.
    ///
    /// # Errors
    /// The peer or the network refused.
    fn connected(&self) -> Step<()>;
    /// Begins to listen.
    ///
    /// # Errors
    /// The address is in use.
    fn listen(&self) -> Result<(), NetworkError>;
    /// Takes a connection that has arrived; it is known by `token` from then on.
    ///
    /// # Errors
    /// The host has no room.
    fn accept(&self, token: u64) -> Step<Box<dyn Socket>>;
    /// Sends what there is room for; the number of bytes.
    ///
    /// # Errors
    /// The connection has ended.
    fn send(&self, buffers: &[IoSlice<'_>]) -> Step<usize>;
    /// Receives what there is; zero bytes at the end of the stream.
    ///
    /// # Errors
    /// The connection has ended.
    fn receive(&self, buffers: &mut [IoSliceMut<'_>]) -> Step<usize>;
    /// Sends a datagram; the number of bytes. `to` is `None` on a connected socket.
    ///
    /// # Errors
    /// The host refused it, or the socket is not one of datagrams.
    fn send_to(&self, _datagram: &[u8], _to: Option<SocketAddr>) -> Step<usize> {
        Err(NetworkError::NotSupported)
    }
    /// Undoes a connect of a datagram socket.
    ///
    /// # Errors
    /// The socket is not one of datagrams.
    fn forget_peer(&self) -> Result<(), NetworkError> {
        Err(NetworkError::NotSupported)
    }
    /// Receives a datagram.
    ///
    /// # Errors
    /// The socket is not one of datagrams.
    fn receive_from(&self, _buffer: &mut [u8]) -> Step<Received> {
        Err(NetworkError::NotSupported)
    }
    /// Whether a receive would not wait: true for data, false for the end of the stream.
    ///
    /// # Errors
    /// The connection has ended.
    fn peek(&self) -> Step<bool>;
    /// Ends the sending direction.
    ///
    /// # Errors
    /// The connection has ended.
    fn shut_down(&self) -> Result<(), NetworkError>;
    /// Makes the coming close a reset.
    fn abort(&self);
    /// The local address.
    ///
    /// # Errors
    /// There is none.
    fn local(&self) -> Result<SocketAddr, NetworkError>;
    /// The peer's address.
    ///
    /// # Errors
    /// There is none.
    fn remote(&self) -> Result<SocketAddr, NetworkError>;
    /// Sets an option.
    ///
    /// # Errors
    /// The host does not allow the value.
    fn set_option(&self, option: SocketOption, value: u32) -> Result<(), NetworkError>;
    /// Reads an option.
    ///
    /// # Errors
    /// The host does not know it.
    fn option(&self, option: SocketOption) -> Result<u32, NetworkError>;
}

/// A network that a machine is attached to.
pub trait Backend: Send + Sync {
    /// A new TCP socket, known by `token`.
    ///
    /// # Errors
    /// The host has no room, or not this family.
    fn socket(&self, family: Family, token: u64) -> Result<Box<dyn Socket>, NetworkError>;
    /// A new UDP socket, known by `token`.
    ///
    /// # Errors
    /// As [`Backend::socket`], or this network has no datagrams.
    fn datagram_socket(&self, _family: Family, _token: u64) -> Result<Box<dyn Socket>, NetworkError> {
        Err(NetworkError::NotSupported)
    }
    /// Waits until sockets are worth another try, or [`Backend::wake`] is called; adds their tokens.
    fn wait(&self, ready: &mut Vec<u64>);
    /// Ends one [`Backend::wait`], now or the next.
    fn wake(&self);
}
