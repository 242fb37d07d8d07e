//! Socket addresses as WSK wants them: in non-paged memory, aligned, and there until the IRP is completed.
#![allow(unsafe_code, reason = "reads addresses that WSK lends to a callback")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use san_protocol::SocketAddress;
use wsk_bindings::{ADDRESS_FAMILY, AF_INET, AF_INET6, PSOCKADDR};
use zerocopy::IntoBytes;

/// Length of `SOCKADDR_IN6`, the longest address used.
const LONGEST: usize = 28;

/// A `SOCKADDR_IN` or `SOCKADDR_IN6`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct SockAddr(SocketAddress);

impl SockAddr {
    /// All zeros.
    pub(crate) const NONE: Self = Self(SocketAddress::NONE);

    /// The wildcard address of a family, with port 0.
    pub(crate) fn wildcard(family: ADDRESS_FAMILY) -> Self {
        let ip = if family == AF_INET6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        SocketAddr::new(ip, 0).into()
    }

    /// For a WSK function to read.
    pub(crate) fn as_ptr(&self) -> PSOCKADDR {
        core::ptr::from_ref(self).cast_mut().cast()
    }

    /// For a WSK function to write: as much of it as the family has.
    pub(crate) fn as_mut_ptr(&mut self) -> PSOCKADDR {
        core::ptr::from_mut(self).cast()
    }

    /// As a reply carries it.
    pub(crate) fn protocol(&self) -> SocketAddress {
        self.0
    }

    /// As the standard library has it; the wildcard of IPv4 for what is no address.
    pub(crate) fn socket_address(&self) -> SocketAddr {
        self.0.parse().unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
    }

    /// Copies the address that a callback was lent.
    ///
    /// # Safety
    ///
    /// `address` points to the address structure of its family.
    pub(crate) unsafe fn copy(address: PSOCKADDR) -> Self {
        let mut copy = SocketAddress::NONE;
        // SAFETY: every address structure begins with its family.
        let family = unsafe { address.cast::<ADDRESS_FAMILY>().read_unaligned() };
        let length = match family {
            family if family == AF_INET => 16,
            family if family == AF_INET6 => LONGEST,
            _ => return Self(copy),
        };
        // SAFETY: a structure of that family has that length.
        let bytes = unsafe { core::slice::from_raw_parts(address.cast::<u8>(), length) };
        copy.as_mut_bytes()[..length].copy_from_slice(bytes);
        Self(copy)
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(address: SocketAddr) -> Self {
        Self(address.into())
    }
}
