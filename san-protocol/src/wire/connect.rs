//! The hand-shake: who wants to connect to whom, and why it may not.

use super::{MessageType, WireError};
use crate::numbers::numbered;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of a [`ConnectRequest`].
pub const CONNECT_REQUEST_SIZE: usize = 2 * ADDRESS_SIZE;

/// Bytes of an address: family (4 or 6), port, and 16 bytes, of which IPv4 uses the first four and leaves zeros.
const ADDRESS_SIZE: usize = 20;

/// Bytes of the payload of a [`MessageType::Reject`].
pub const REJECT_SIZE: usize = 4;

/// Who wants to connect to whom.
///
/// Flow information and scope id of an IPv6 address mean something on one machine only, and do not travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// SAN address and port of the connector.
    pub source: SocketAddr,
    /// The SAN address and port that it wants.
    pub target: SocketAddr,
}

impl ConnectRequest {
    /// Reads and checks the payload.
    ///
    /// # Errors
    ///
    /// A wrong length, families that are unknown or differ, or an address that no endpoint has.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let length = WireError::Length { message: MessageType::ConnectRequest, length: bytes.len() };
        let (source, rest) = bytes.split_first_chunk().ok_or(length)?;
        let target = rest.try_into().map_err(|_| length)?;
        let (source, target) = (parse_address(source)?, parse_address(target)?);
        if source.is_ipv4() == target.is_ipv4() {
            Ok(Self { source, target })
        } else {
            Err(WireError::Family(family(target.ip())))
        }
    }

    /// Its bytes. They [parse](Self::parse) if both addresses are such as endpoints have, and of one family.
    #[must_use]
    pub fn encode(&self) -> [u8; CONNECT_REQUEST_SIZE] {
        let mut bytes = [0; CONNECT_REQUEST_SIZE];
        let (source, target) = bytes.split_at_mut(ADDRESS_SIZE);
        encode_address(self.source, source);
        encode_address(self.target, target);
        bytes
    }
}

const fn family(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 6,
    }
}

fn parse_address(bytes: &[u8; ADDRESS_SIZE]) -> Result<SocketAddr, WireError> {
    let [f0, f1, p0, p1, octets @ ..] = *bytes;
    let address: IpAddr = match u16::from_le_bytes([f0, f1]) {
        4 => {
            let [a, b, c, d, padding @ ..] = octets;
            if padding != [0; 12] {
                return Err(WireError::Address);
            }
            Ipv4Addr::new(a, b, c, d).into()
        }
        6 => Ipv6Addr::from(octets).into(),
        other => return Err(WireError::Family(other)),
    };
    let port = u16::from_le_bytes([p0, p1]);
    let nobodys = address.is_unspecified() || address.is_multicast() || address == Ipv4Addr::BROADCAST;
    if port == 0 || nobodys { Err(WireError::Address) } else { Ok(SocketAddr::new(address, port)) }
}

fn encode_address(address: SocketAddr, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&family(address.ip()).to_le_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_le_bytes());
    match address.ip() {
        IpAddr::V4(v4) => bytes[4..8].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes[4..20].copy_from_slice(&v6.octets()),
    }
}

numbered! {
    /// Why a connection is rejected.
    RejectReason: u32 {
        /// Nobody listens at the SAN address and port.
        NobodyListens = 1,
        /// The listener's backlog is full.
        BacklogFull = 2,
        /// The listener has decided against it.
        Refused = 3,
        /// The SAN address is none of this machine's.
        NoSuchAddress = 4,
        /// A limit, or memory: it may go better later.
        Busy = 5,
        /// Another version of the protocol.
        Version = 6,
    }
}

impl RejectReason {
    /// Reads and checks the payload.
    ///
    /// # Errors
    ///
    /// A wrong length, or a number without a meaning.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let number = bytes
            .try_into()
            .map_err(|_| WireError::Length { message: MessageType::Reject, length: bytes.len() })
            .map(u32::from_le_bytes)?;
        Self::from_number(number).ok_or(WireError::Reason(number))
    }

    /// Its bytes.
    #[must_use]
    pub const fn encode(self) -> [u8; REJECT_SIZE] {
        (self as u32).to_le_bytes()
    }
}
