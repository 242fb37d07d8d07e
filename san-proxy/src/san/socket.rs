//! Which kinds of socket there are.

use san_protocol::WsaError;

/// A type of socket, as winsock2.h numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketType(pub i32);

impl SocketType {
    /// Any: what the protocol needs.
    pub const ANY: Self = Self(0);
    /// `SOCK_STREAM`.
    pub const STREAM: Self = Self(1);
    /// `SOCK_DGRAM`.
    pub const DATAGRAM: Self = Self(2);
    /// `SOCK_RAW`.
    pub const RAW: Self = Self(3);
}

/// A protocol, as winsock2.h numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocol(pub i32);

impl Protocol {
    /// Any: what the type needs.
    pub const ANY: Self = Self(0);
    /// `IPPROTO_TCP`.
    pub const TCP: Self = Self(6);
    /// `IPPROTO_UDP`.
    pub const UDP: Self = Self(17);
}

impl SocketType {
    /// Whether there are sockets of this type and protocol; else WSPSocket's error.
    pub(super) const fn is_offered_with(self, protocol: Protocol) -> Result<(), WsaError> {
        match (self, protocol) {
            (Self::STREAM | Self::ANY, Protocol::TCP | Protocol::ANY) => Ok(()),
            (Self::STREAM, Protocol::UDP) | (Self::DATAGRAM, Protocol::TCP) => Err(WsaError::WSAEPROTOTYPE),
            (Self::STREAM | Self::ANY, _) => Err(WsaError::WSAEPROTONOSUPPORT),
            (_, _) => Err(WsaError::WSAESOCKTNOSUPPORT),
        }
    }
}
