//! Data link layer: IEEE 802 addresses, Ethernet, SNAP and VLAN headers, ARP.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)] // C spelling.

use crate::bits::bits;
#[cfg(doc)]
use crate::netiodef::{DL_TUNNEL_ADDRESS, IPV6_HEADER};
use crate::nt::{INT, UCHAR, UINT8, UINT16, UINT32, UINT64, USHORT};

/// Bytes of the longest data link address.
pub const DL_ADDRESS_LENGTH_MAXIMUM: UINT32 = 32;
/// Bytes of the longest data link header.
pub const DL_HEADER_LENGTH_MAXIMUM: UINT32 = 64;
/// Bytes of an Ethernet header with SNAP.
pub const DL_ETHERNET_HEADER_LENGTH_MAXIMUM: UINT32 = ETH_LENGTH_OF_HEADER + ETH_LENGTH_OF_SNAP_HEADER;
/// Bytes of a tunnel's header: the longer of the IP headers, [`IPV6_HEADER`].
pub const DL_TUNNEL_HEADER_LENGTH_MAXIMUM: UINT32 = 40;

/// Kind of a data link address. A C enumeration.
pub type DL_ADDRESS_TYPE = INT;
/// Points to a [`DL_ADDRESS_TYPE`].
pub type PDL_ADDRESS_TYPE = *mut DL_ADDRESS_TYPE;
/// One station.
pub const DlUnicast: DL_ADDRESS_TYPE = 0;
/// A group of stations.
pub const DlMulticast: DL_ADDRESS_TYPE = 1;
/// All stations.
pub const DlBroadcast: DL_ADDRESS_TYPE = 2;

/// An organizationally unique identifier.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DL_OUI {
    /// The octets.
    pub Byte: [UINT8; 3],
}

impl DL_OUI {
    /// One for the address of a group: the lowest bit of the first octet.
    #[must_use]
    pub const fn Group(&self) -> UINT8 {
        self.Byte[0] & 1
    }

    /// Sets `Group`; only the lowest bit of `value` counts.
    pub const fn set_Group(&mut self, value: UINT8) {
        self.Byte[0] = (self.Byte[0] & !1) | (value & 1);
    }

    /// One for an address that was given locally: the second bit of the first octet.
    #[must_use]
    pub const fn Local(&self) -> UINT8 {
        (self.Byte[0] >> 1) & 1
    }

    /// Sets `Local`; only the lowest bit of `value` counts.
    pub const fn set_Local(&mut self, value: UINT8) {
        self.Byte[0] = (self.Byte[0] & !2) | ((value & 1) << 1);
    }
}

/// Points to a [`DL_OUI`].
pub type PDL_OUI = *mut DL_OUI;

/// The extension identifier of an EUI-48 address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DL_EI48 {
    /// The octets.
    pub Byte: [UINT8; 3],
}

/// Points to a [`DL_EI48`].
pub type PDL_EI48 = *mut DL_EI48;

/// An EUI-48 (Ethernet) address.
#[repr(C)]
#[derive(Clone, Copy)]
pub union DL_EUI48 {
    /// The octets.
    pub Byte: [UINT8; 6],
    /// The parts. In C this structure is anonymous.
    pub Parts: DL_EUI48_PARTS,
}

/// The parts of a [`DL_EUI48`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DL_EUI48_PARTS {
    /// Who gave it.
    pub Oui: DL_OUI,
    /// The rest.
    pub Ei48: DL_EI48,
}

/// Points to a [`DL_EUI48`].
pub type PDL_EUI48 = *mut DL_EUI48;

/// The extension identifier of an EUI-64 address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DL_EI64 {
    /// The octets.
    pub Byte: [UINT8; 5],
}

/// Points to a [`DL_EI64`].
pub type PDL_EI64 = *mut DL_EI64;

/// An EUI-64 address.
#[repr(C)]
#[derive(Clone, Copy)]
pub union DL_EUI64 {
    /// The octets.
    pub Byte: [UINT8; 8],
    /// All of them.
    pub Value: UINT64,
    /// The parts. In C this structure is anonymous.
    pub Parts: DL_EUI64_PARTS,
}

/// The parts of a [`DL_EUI64`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DL_EUI64_PARTS {
    /// Who gave it.
    pub Oui: DL_OUI,
    /// The rest. In C this union is anonymous.
    pub Extension: DL_EUI64_EXTENSION,
}

/// The extension identifier of a [`DL_EUI64`], whole or by its type.
#[repr(C)]
#[derive(Clone, Copy)]
pub union DL_EUI64_EXTENSION {
    /// The octets.
    pub Ei64: DL_EI64,
    /// With a type. In C this structure is anonymous.
    pub Typed: DL_EUI64_TYPED,
}

/// The extension identifier of a [`DL_EUI64`] that has a type.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DL_EUI64_TYPED {
    /// Says what the rest is.
    pub Type: UINT8,
    /// Extension of the type.
    pub Tse: UINT8,
    /// An EUI-48 extension identifier.
    pub Ei48: DL_EI48,
}

/// Points to a [`DL_EUI64`].
pub type PDL_EUI64 = *mut DL_EUI64;

/// An IEEE 802.2 header with SNAP, after an IEEE 802.3 header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SNAP_HEADER {
    /// [`SNAP_DSAP`].
    pub Dsap: UINT8,
    /// [`SNAP_SSAP`].
    pub Ssap: UINT8,
    /// [`SNAP_CONTROL`].
    pub Control: UINT8,
    /// [`SNAP_OUI`] thrice, where `Type` is an Ethernet type.
    pub Oui: [UINT8; 3],
    /// `SNAP_TYPE_*`, in network byte order.
    pub Type: UINT16,
}

/// Points to a [`SNAP_HEADER`].
pub type PSNAP_HEADER = *mut SNAP_HEADER;

/// [`SNAP_HEADER::Dsap`].
pub const SNAP_DSAP: UINT8 = 0xaa;
/// [`SNAP_HEADER::Ssap`].
pub const SNAP_SSAP: UINT8 = 0xaa;
/// [`SNAP_HEADER::Control`].
pub const SNAP_CONTROL: UINT8 = 0x03;
/// Each octet of [`SNAP_HEADER::Oui`].
pub const SNAP_OUI: UINT8 = 0x00;
/// ARP.
pub const SNAP_TYPE_ARP: UINT16 = ETHERNET_TYPE_ARP;
/// IPv4.
pub const SNAP_TYPE_IPV4: UINT16 = ETHERNET_TYPE_IPV4;
/// IPv6.
pub const SNAP_TYPE_IPV6: UINT16 = ETHERNET_TYPE_IPV6;

/// An Ethernet or IEEE 802.3 header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ETHERNET_HEADER {
    /// To whom.
    pub Destination: DL_EUI48,
    /// From whom.
    pub Source: DL_EUI48,
    /// `ETHERNET_TYPE_*`, in network byte order; below [`ETHERNET_TYPE_MINIMUM`] it is `Length`.
    pub Type: UINT16,
}

bits! { ETHERNET_HEADER { Type } as UINT16 {
    /// Bytes of the payload, in an IEEE 802.3 header, in network byte order.
    Length / set_Length: 0, 16 => UINT16;
}}

/// Points to an [`ETHERNET_HEADER`].
pub type PETHERNET_HEADER = *mut ETHERNET_HEADER;

/// Bytes of an [`ETHERNET_HEADER`].
pub const ETH_LENGTH_OF_HEADER: UINT32 = 14;
/// Bytes of a [`VLAN_TAG`].
pub const ETH_LENGTH_OF_VLAN_HEADER: UINT32 = 4;
/// Bytes of a [`SNAP_HEADER`].
pub const ETH_LENGTH_OF_SNAP_HEADER: UINT32 = 8;
/// The lowest Ethernet type, in host byte order like the others.
pub const ETHERNET_TYPE_MINIMUM: UINT16 = 0x0600;
/// IPv4.
pub const ETHERNET_TYPE_IPV4: UINT16 = 0x0800;
/// ARP.
pub const ETHERNET_TYPE_ARP: UINT16 = 0x0806;
/// IPv6.
pub const ETHERNET_TYPE_IPV6: UINT16 = 0x86dd;
/// A [`VLAN_TAG`] follows.
pub const ETHERNET_TYPE_802_1Q: UINT16 = 0x8100;

/// An IEEE 802.1Q tag, from its value on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VLAN_TAG {
    /// The tag: after a swap to host byte order, the methods take it apart.
    pub Tag: UINT16,
    /// The Ethernet type of what follows, in network byte order.
    pub Type: UINT16,
}

bits! { VLAN_TAG { Tag } as UINT16 {
    /// The VLAN.
    VID / set_VID: 0, 12 => UINT16;
    /// Canonical format indicator.
    CFI / set_CFI: 12, 1 => UINT16;
    /// Priority.
    User_Priority / set_User_Priority: 13, 3 => UINT16;
}}

/// The beginning of an ARP packet; four addresses follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ARP_HEADER {
    /// `ARP_HW_*`.
    pub HardwareAddressSpace: USHORT,
    /// An Ethernet type.
    pub ProtocolAddressSpace: USHORT,
    /// Bytes of a hardware address.
    pub HardwareAddressLength: UCHAR,
    /// Bytes of a protocol address.
    pub ProtocolAddressLength: UCHAR,
    /// [`ARP_REQUEST`] or [`ARP_RESPONSE`].
    pub Opcode: USHORT,
    /// Where the sender's hardware address begins; then its protocol address, and both of the target.
    pub SenderHardwareAddress: [UCHAR; 0],
}

/// Points to an [`ARP_HEADER`].
pub type PARP_HEADER = *mut ARP_HEADER;

/// What an ARP packet does. A C enumeration.
pub type ARP_OPCODE = INT;
/// Asks.
pub const ARP_REQUEST: ARP_OPCODE = 1;
/// Answers.
pub const ARP_RESPONSE: ARP_OPCODE = 2;

/// Hardware of an ARP packet. A C enumeration.
pub type ARP_HARDWARE_TYPE = INT;
/// Ethernet.
pub const ARP_HW_ENET: ARP_HARDWARE_TYPE = 1;
/// IEEE 802.
pub const ARP_HW_802: ARP_HARDWARE_TYPE = 6;
