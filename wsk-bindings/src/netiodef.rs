//! netiodef.h: identifiers of network modules and their interfaces, and, by protocol, the headers of packets:
//! [`link`], [`ipv4`], [`icmpv6`], [`ipv6`], [`tcp`] and [`tunnel`].
//!
//! Header fields longer than a byte are in network byte order. Where C has bit-fields, or a second name for the same
//! bytes, there is one storage field here, and a pair of methods for each name.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)] // C spelling.

pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod link;
pub mod tcp;
pub mod tunnel;

pub use icmpv6::*;
pub use ipv4::*;
pub use ipv6::*;
pub use link::*;
pub use tcp::*;
pub use tunnel::*;

use crate::nt::{GUID, INT, LUID, UINT32, USHORT};

/// Byte order of the machine: [`LITTLE_ENDIAN`], on x64 as on ARM64.
pub const BYTE_ORDER: UINT32 = LITTLE_ENDIAN;
/// The lowest byte comes first.
pub const LITTLE_ENDIAN: UINT32 = 1234;

/// Which member of an [`NPI_MODULEID`] is valid. A C enumeration: [`MIT_GUID`] and [`MIT_IF_LUID`].
pub type NPI_MODULEID_TYPE = INT;
/// The module is named by a GUID.
pub const MIT_GUID: NPI_MODULEID_TYPE = 1;
/// The module is named by an interface's LUID.
pub const MIT_IF_LUID: NPI_MODULEID_TYPE = 2;

/// Identifies a network module.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/network-module>
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NPI_MODULEID {
    /// Bytes of this structure.
    pub Length: USHORT,
    /// Which member of `Id` is valid.
    pub Type: NPI_MODULEID_TYPE,
    /// The name. In C this union is anonymous.
    pub Id: NPI_MODULEID_ID,
}

/// Points to a constant [`NPI_MODULEID`].
pub type PNPI_MODULEID = *const NPI_MODULEID;

/// The anonymous union of [`NPI_MODULEID`].
#[repr(C)]
#[derive(Clone, Copy)]
pub union NPI_MODULEID_ID {
    /// With [`MIT_GUID`].
    pub Guid: GUID,
    /// With [`MIT_IF_LUID`].
    pub IfLuid: LUID,
}

/// Identifies a network programming interface.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/network-programming-interface>
pub type NPIID = GUID;
/// Points to a constant [`NPIID`].
pub type PNPIID = *const NPIID;

/// Index into the table of features that fall back where a network does not bear them. A C enumeration.
pub type FALLBACK_INDEX = INT;
/// TCP Fast Open.
pub const FallbackIndexTcpFastopen: FALLBACK_INDEX = 0;
/// How many there are.
pub const FallbackIndexMax: FALLBACK_INDEX = 1;
