//! Tunnels: the data link addresses of IP in IP and Teredo.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

use crate::netiodef::{DL_EUI48, DL_EUI64};
use crate::nt::{INT, UCHAR, UINT8, UINT32, ULONG, ULONGLONG, USHORT};
use crate::ws2def::IN_ADDR;
use crate::ws2ipdef::SCOPE_ID;

/// A network compartment; zero for none. From ifdef.h.
pub type COMPARTMENT_ID = UINT32;
/// Points to a [`COMPARTMENT_ID`].
pub type PCOMPARTMENT_ID = *mut COMPARTMENT_ID;
/// The index of a network interface on this machine; zero for none. From ifdef.h.
pub type IF_INDEX = ULONG;
/// Points to an [`IF_INDEX`].
pub type PIF_INDEX = *mut IF_INDEX;

/// The data link address of an IP in IP tunnel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DL_TUNNEL_ADDRESS {
    /// The compartment.
    pub CompartmentId: COMPARTMENT_ID,
    /// The scope of the address.
    pub ScopeId: SCOPE_ID,
    /// Where the IPv4 or IPv6 address begins.
    pub IpAddress: [UCHAR; 0],
}

/// Points to a [`DL_TUNNEL_ADDRESS`].
pub type PDL_TUNNEL_ADDRESS = *mut DL_TUNNEL_ADDRESS;

/// Bytes of a [`DL_TUNNEL_ADDRESS`] with an IP address of `AddressBytes`.
#[must_use]
pub const fn DL_SIZEOF_TUNNEL_ADDRESS(AddressBytes: UINT32) -> UINT32 {
    8 + AddressBytes
}

/// Bytes of a [`DL_TUNNEL_ADDRESS`] with an IPv4 address.
pub const DL_SIZEOF_IPV4_TUNNEL_ADDRESS: UINT32 = DL_SIZEOF_TUNNEL_ADDRESS(4);
/// Bytes of a [`DL_TUNNEL_ADDRESS`] with an IPv6 address.
pub const DL_SIZEOF_IPV6_TUNNEL_ADDRESS: UINT32 = DL_SIZEOF_TUNNEL_ADDRESS(16);

/// Technology of a tunnel whose type is "other". A C enumeration.
pub type TUNNEL_SUB_TYPE = INT;
/// Points to a [`TUNNEL_SUB_TYPE`].
pub type PTUNNEL_SUB_TYPE = *mut TUNNEL_SUB_TYPE;
/// None in particular.
pub const TUNNEL_SUB_TYPE_NONE: TUNNEL_SUB_TYPE = 0;
/// CP.
pub const TUNNEL_SUB_TYPE_CP: TUNNEL_SUB_TYPE = 1;
/// IP over TLS (IP-HTTPS).
pub const TUNNEL_SUB_TYPE_IPTLS: TUNNEL_SUB_TYPE = 2;
/// HA.
pub const TUNNEL_SUB_TYPE_HA: TUNNEL_SUB_TYPE = 3;

/// The data link address of a Teredo tunnel.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct DL_TEREDO_ADDRESS {
    /// Reserved.
    pub Reserved: [UINT8; 6],
    /// The address. In C this union is anonymous.
    pub Address: DL_TEREDO_ADDRESS_UNION,
}

/// The address in a [`DL_TEREDO_ADDRESS`].
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub union DL_TEREDO_ADDRESS_UNION {
    /// As an EUI-64 address.
    pub Eui64: DL_EUI64,
    /// In its parts. In C this structure is anonymous.
    pub Parts: DL_TEREDO_ADDRESS_PARTS,
}

/// The parts of a [`DL_TEREDO_ADDRESS`].
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DL_TEREDO_ADDRESS_PARTS {
    /// Flags.
    pub Flags: USHORT,
    /// The port, as seen from outside, in network byte order.
    pub MappedPort: USHORT,
    /// The address, as seen from outside.
    pub MappedAddress: IN_ADDR,
}

/// Points to a [`DL_TEREDO_ADDRESS`].
pub type PDL_TEREDO_ADDRESS = *mut DL_TEREDO_ADDRESS;

/// A [`DL_TEREDO_ADDRESS`] with what the framing layer adds for itself.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct DL_TEREDO_ADDRESS_PRV {
    /// Reserved.
    pub Reserved: [UINT8; 6],
    /// The address. In C this union is anonymous.
    pub Address: DL_TEREDO_ADDRESS_PRV_UNION,
}

/// The address in a [`DL_TEREDO_ADDRESS_PRV`].
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub union DL_TEREDO_ADDRESS_PRV_UNION {
    /// As an EUI-64 address.
    pub Eui64: DL_EUI64,
    /// In its parts. In C this structure is anonymous.
    pub Parts: DL_TEREDO_ADDRESS_PRV_PARTS,
}

/// The parts of a [`DL_TEREDO_ADDRESS_PRV`].
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct DL_TEREDO_ADDRESS_PRV_PARTS {
    /// Flags.
    pub Flags: USHORT,
    /// The port, as seen from outside, in network byte order.
    pub MappedPort: USHORT,
    /// The address, as seen from outside.
    pub MappedAddress: IN_ADDR,
    /// The address on this machine.
    pub LocalAddress: IN_ADDR,
    /// The interface.
    pub InterfaceIndex: IF_INDEX,
    /// The port on this machine, in network byte order.
    pub LocalPort: USHORT,
    /// The data link address of the next hop.
    pub DlDestination: DL_EUI48,
}

/// Points to a [`DL_TEREDO_ADDRESS_PRV`].
pub type PDL_TEREDO_ADDRESS_PRV = *mut DL_TEREDO_ADDRESS_PRV;

/// What travels with a packet over IP-HTTPS.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct IPTLS_METADATA {
    /// Its number in sequence.
    pub SequenceNumber: ULONGLONG,
}

/// Points to an [`IPTLS_METADATA`].
pub type PIPTLS_METADATA = *mut IPTLS_METADATA;
