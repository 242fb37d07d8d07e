//! Transport addresses as requests carry them.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `AF_INET`.
pub(crate) const AF_INET: u16 = 2;
/// `AF_INET6`, as Windows numbers it.
pub(crate) const AF_INET6: u16 = 23;

/// An IPv4 or IPv6 address and port: 28 bytes laid out as `SOCKADDR_INET` (ws2ipdef.h), so that a C caller passes its own.
///
/// As bytes it is only a claim; [`SocketAddress::parse`] makes it an address.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketAddress {
    /// `AF_INET` (2) or `AF_INET6` (23).
    pub family: u16,
    /// Port, most significant byte first.
    pub port: [u8; 2],
    /// IPv4: address (4 bytes), then zeros. IPv6: flow information (4), address (16), scope id (4).
    pub rest: [u8; 24],
}

const _: () = assert!(size_of::<SocketAddress>() == 28 && align_of::<SocketAddress>() == 2);

/// Why bytes are not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// The family is neither `AF_INET` nor `AF_INET6`.
    Family(u16),
    /// An IPv4 address is followed by something else than zeros.
    Padding,
}

impl SocketAddress {
    /// No address: all zeros, as replies carry where there is none.
    pub const NONE: Self = Self { family: 0, port: [0; 2], rest: [0; 24] };

    /// Reads the claim.
    ///
    /// # Errors
    ///
    /// The family is unknown, or the bytes that an IPv4 address leaves over are not zero.
    pub fn parse(&self) -> Result<SocketAddr, AddressError> {
        let port = u16::from_be_bytes(self.port);
        match self.family {
            AF_INET => {
                let (address, padding) = self.rest.split_at(4);
                if padding.iter().any(|&byte| byte != 0) {
                    return Err(AddressError::Padding);
                }
                let address = Ipv4Addr::new(address[0], address[1], address[2], address[3]);
                Ok(SocketAddrV4::new(address, port).into())
            }
            AF_INET6 => {
                let word = |at: usize| {
                    u32::from_ne_bytes([self.rest[at], self.rest[at + 1], self.rest[at + 2], self.rest[at + 3]])
                };
                let mut address = [0; 16];
                address.copy_from_slice(&self.rest[4..20]);
                Ok(SocketAddrV6::new(Ipv6Addr::from(address), port, word(0), word(20)).into())
            }
            other => Err(AddressError::Family(other)),
        }
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        let mut rest = [0; 24];
        let family = match address {
            SocketAddr::V4(v4) => {
                rest[..4].copy_from_slice(&v4.ip().octets());
                AF_INET
            }
            SocketAddr::V6(v6) => {
                rest[..4].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                rest[4..20].copy_from_slice(&v6.ip().octets());
                rest[20..].copy_from_slice(&v6.scope_id().to_ne_bytes());
                AF_INET6
            }
        };
        Self { family, port: address.port().to_be_bytes(), rest }
    }
}

impl core::fmt::Debug for SocketAddress {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.parse() {
            Ok(address) => core::fmt::Debug::fmt(&address, formatter),
            Err(error) => core::fmt::Debug::fmt(&error, formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn an_ipv4_address_lies_as_sockaddr_in_does() {
        let address = SocketAddress::from(SocketAddr::from(([127, 0, 0, 1], 0x1F90)));
        assert_eq!(address.as_bytes()[..8], [2, 0, 0x1F, 0x90, 127, 0, 0, 1]);
        assert_eq!(address.parse(), Ok(SocketAddr::from(([127, 0, 0, 1], 8080))));
    }

    #[test]
    fn an_ipv6_address_keeps_flow_and_scope() {
        let address: SocketAddr = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 443, 7, 9).into();
        let bytes = SocketAddress::from(address);
        assert_eq!(bytes.as_bytes()[..2], [23, 0]);
        assert_eq!(bytes.as_bytes()[23], 1, "last byte of ::1");
        assert_eq!(bytes.as_bytes()[24..], [9, 0, 0, 0]);
        assert_eq!(bytes.parse(), Ok(address));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let mut address = SocketAddress::from(SocketAddr::from(([10, 0, 0, 1], 1)));
        address.rest[23] = 1;
        assert_eq!(address.parse(), Err(AddressError::Padding));
        address.family = 1;
        assert_eq!(address.parse(), Err(AddressError::Family(1)));
        assert_eq!(SocketAddress::NONE.parse(), Err(AddressError::Family(0)));
    }
}
