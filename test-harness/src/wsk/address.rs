//! Socket addresses in a driver's memory, and as the network takes them.
#![allow(unsafe_code)] // addresses are given by pointer

use std::ffi::c_void;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use wsk_bindings::{AF_INET, AF_INET6};

use crate::nt::status::{STATUS_INVALID_ADDRESS_COMPONENT, STATUS_INVALID_PARAMETER};
use crate::nt::types::NTSTATUS;

/// Bytes of SOCKADDR_IN and SOCKADDR_IN6.
const V4: usize = 16;
const V6: usize = 28;

/// Reads a SOCKADDR_IN or SOCKADDR_IN6.
///
/// # Errors
/// STATUS_INVALID_PARAMETER for a null pointer, STATUS_INVALID_ADDRESS_COMPONENT for another family.
pub(super) fn read(address: *const c_void) -> Result<SocketAddr, NTSTATUS> {
    if address.is_null() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    // SAFETY: every socket address begins with its family; a bad pointer faults, which the guard reports.
    let family = unsafe { address.cast::<u16>().read_unaligned() };
    if family == AF_INET {
        // SAFETY: an address of this family has this length.
        let b = unsafe { address.cast::<[u8; V4]>().read_unaligned() };
        return Ok(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(b[4], b[5], b[6], b[7])),
            u16::from_be_bytes([b[2], b[3]]),
        ));
    }
    if family == AF_INET6 {
        // SAFETY: as above.
        let b = unsafe { address.cast::<[u8; V6]>().read_unaligned() };
        let mut octets = [0; 16];
        octets.copy_from_slice(&b[8..24]);
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let port = u16::from_be_bytes([b[2], b[3]]);
        return Ok(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(octets), port, word(4), word(24))));
    }
    Err(STATUS_INVALID_ADDRESS_COMPONENT)
}

/// An address as SOCKADDR_IN or SOCKADDR_IN6, in a buffer that is long and aligned enough for both.
#[repr(C, align(8))]
pub(super) struct Encoded {
    bytes: [u8; 32],
    length: usize,
}

impl Encoded {
    pub(super) fn new(address: &SocketAddr) -> Self {
        let mut bytes = [0; 32];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, length) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (AF_INET, V4)
            }
            SocketAddr::V6(v6) => {
                bytes[4..8].copy_from_slice(&v6.flowinfo().to_le_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_le_bytes());
                (AF_INET6, V6)
            }
        };
        bytes[..2].copy_from_slice(&family.to_le_bytes());
        Self { bytes, length }
    }

    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.bytes.as_ptr().cast_mut().cast()
    }

    /// Writes the address, as much of it as its family has, to where a driver wants it; nowhere if that is null.
    pub(super) fn write(&self, to: *mut c_void) {
        if !to.is_null() {
            // SAFETY: the driver gives room for an address of the socket's family; a bad pointer faults.
            unsafe { std::ptr::copy_nonoverlapping(self.bytes.as_ptr(), to.cast::<u8>(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_travel_both_ways() {
        for text in ["192.0.2.7:4711", "[2001:db8::1]:80"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(read(Encoded::new(&address).as_ptr()), Ok(address));
        }
        assert_eq!(read([0_u8; 32].as_ptr().cast()), Err(STATUS_INVALID_ADDRESS_COMPONENT));
        assert_eq!(read(std::ptr::null()), Err(STATUS_INVALID_PARAMETER));
    }
}
