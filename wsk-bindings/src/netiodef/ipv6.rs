//! IPv6: the header, extension headers and options. Fields longer than a byte are in network byte order.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

use crate::bits::bits;
use crate::nt::{INT, UCHAR, UINT8, UINT16, UINT32, ULONG};
use crate::ws2ipdef::IN6_ADDR;

/// The first byte of a header, without its traffic class.
pub const IPV6_VERSION: UINT8 = 0x60;
/// The bits of the traffic class in [`IPV6_HEADER::VersionClassFlow`], as it lies in memory.
pub const IPV6_TRAFFIC_CLASS_MASK: UINT32 = 0x0000_c00f;
/// The bits of the traffic class and of congestion notification, likewise.
pub const IPV6_FULL_TRAFFIC_CLASS_MASK: UINT32 = 0x0000_f00f;
/// The bits of congestion notification, likewise.
pub const IPV6_ECN_MASK: UINT32 = 0x0000_3000;
/// The bits of the flow label, likewise.
pub const IPV6_FLOW_LABEL_MASK: UINT32 = 0xffff_0f00;
/// Bytes of the longest payload.
pub const MAX_IPV6_PAYLOAD: UINT32 = 65_535;
/// Bytes of the longest packet.
pub const MAX_IPV6_PACKET: UINT32 = MAX_IPV6_PAYLOAD + 40;
/// Where the bits of [`IPV6_ECN_MASK`] begin.
pub const IPV6_ECN_SHIFT: UINT32 = 12;
/// Bytes that every network carries.
pub const IPV6_MINIMUM_MTU: UINT32 = 1280;
/// The same, for the layer above.
pub const IPV6_MINIMUM_ULMTU: UINT32 = IPV6_MINIMUM_MTU - 40;

/// An IPv6 header (RFC 8200).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV6_HEADER {
    /// Version, traffic class and flow label.
    pub VersionClassFlow: UINT32,
    /// Bytes of the payload; zero with a jumbo payload option.
    pub PayloadLength: UINT16,
    /// `IPPROTO_*`.
    pub NextHeader: UINT8,
    /// Routers it may still pass.
    pub HopLimit: UINT8,
    /// From whom.
    pub SourceAddress: IN6_ADDR,
    /// To whom.
    pub DestinationAddress: IN6_ADDR,
}

bits! { IPV6_HEADER { VersionClassFlow } as UINT32 {
    /// Version: 6.
    Version / set_Version: 4, 4 => UINT32;
}}

/// Points to an [`IPV6_HEADER`].
pub type PIPV6_HEADER = *mut IPV6_HEADER;

/// An IPv6 fragment header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV6_FRAGMENT_HEADER {
    /// `IPPROTO_*`.
    pub NextHeader: UINT8,
    /// Reserved.
    pub Reserved: UINT8,
    /// Offset of the fragment, and flags: `IP6F_*`.
    pub OffsetAndFlags: UINT16,
    /// Says which fragments belong together.
    pub Id: UINT32,
}

bits! { IPV6_FRAGMENT_HEADER { OffsetAndFlags } as UINT16 {
    /// High bits of the offset.
    DontUse1 / set_DontUse1: 0, 8 => UINT16;
    /// Not the last fragment.
    MoreFragments / set_MoreFragments: 8, 1 => UINT16;
    /// Reserved.
    ReservedBits / set_ReservedBits: 9, 2 => UINT16;
    /// Low bits of the offset.
    DontUse2 / set_DontUse2: 11, 5 => UINT16;
}}

/// Points to an [`IPV6_FRAGMENT_HEADER`].
pub type PIPV6_FRAGMENT_HEADER = *mut IPV6_FRAGMENT_HEADER;

/// The bits of the offset in [`IPV6_FRAGMENT_HEADER::OffsetAndFlags`], as it lies in memory.
pub const IP6F_OFF_MASK: UINT16 = 0xf8ff;
/// The reserved bits, likewise.
pub const IP6F_RESERVED_MASK: UINT16 = 0x0600;
/// Not the last fragment, likewise.
pub const IP6F_MORE_FRAG: UINT16 = 0x0100;

/// Bytes before a fragment's payload in the whole packet's.
#[must_use]
pub const fn Ip6FragmentOffset(Header: &IPV6_FRAGMENT_HEADER) -> UINT16 {
    (Header.OffsetAndFlags & IP6F_OFF_MASK).swap_bytes()
}

/// The beginning of an extension header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV6_EXTENSION_HEADER {
    /// `IPPROTO_*`.
    pub NextHeader: UINT8,
    /// Length in units of [`EXT_LEN_UNIT`], without the first.
    pub Length: UINT8,
}

/// Points to an [`IPV6_EXTENSION_HEADER`].
pub type PIPV6_EXTENSION_HEADER = *mut IPV6_EXTENSION_HEADER;

/// Bytes in a unit of the length of extension headers.
pub const EXT_LEN_UNIT: ULONG = 8;

/// Bytes of an extension header of this `Length`.
#[must_use]
pub const fn IPV6_EXTENSION_HEADER_LENGTH(Blocks: ULONG) -> ULONG {
    (Blocks + 1) * EXT_LEN_UNIT
}

/// The `Length` of an extension header of so many bytes.
#[must_use]
pub const fn IPV6_EXTENSION_HEADER_BLOCKS(Length: ULONG) -> ULONG {
    (Length / EXT_LEN_UNIT) - 1
}

/// Bytes of the longest extension header.
pub const MAX_IPV6_EXTENSION_HEADER_LENGTH: ULONG = IPV6_EXTENSION_HEADER_LENGTH(0xff);
/// Bytes of an extension header with the router alert option.
pub const IPV6_ROUTER_ALERT_LENGTH: ULONG = IPV6_EXTENSION_HEADER_LENGTH(0);
/// The same.
pub const SIZEOF_IPV6_ROUTERALERT: ULONG = IPV6_EXTENSION_HEADER_LENGTH(0);

/// The beginning of an option.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV6_OPTION_HEADER {
    /// `IP6OPT_*`.
    pub Type: UINT8,
    /// Bytes after this header.
    pub DataLength: UINT8,
}

/// Points to an [`IPV6_OPTION_HEADER`].
pub type PIPV6_OPTION_HEADER = *mut IPV6_OPTION_HEADER;

/// Type of an IPv6 option. A C enumeration.
pub type IPV6_OPTION_TYPE = INT;
/// Points to an [`IPV6_OPTION_TYPE`].
pub type PIPV6_OPTION_TYPE = *mut IPV6_OPTION_TYPE;
/// Padding; one byte.
pub const IP6OPT_PAD1: IPV6_OPTION_TYPE = 0x00;
/// Padding.
pub const IP6OPT_PADN: IPV6_OPTION_TYPE = 0x01;
/// Limit of tunnels.
pub const IP6OPT_TUNNEL_LIMIT: IPV6_OPTION_TYPE = 0x04;
/// Router alert: [`IPV6_OPTION_ROUTER_ALERT`].
pub const IP6OPT_ROUTER_ALERT: IPV6_OPTION_TYPE = 0x05;
/// Jumbo payload: [`IPV6_OPTION_JUMBOGRAM`].
pub const IP6OPT_JUMBO: IPV6_OPTION_TYPE = 0xc2;
/// NSAP address.
pub const IP6OPT_NSAP_ADDR: IPV6_OPTION_TYPE = 0xc3;

/// What to do with an option of this type that is not known: `IP6OPT_TYPE_*`.
#[must_use]
pub const fn IP6OPT_TYPE(Type: UINT8) -> UINT8 {
    Type & 0xc0
}

/// Unknown: skip it.
pub const IP6OPT_TYPE_SKIP: UINT8 = 0x00;
/// Unknown: discard the packet.
pub const IP6OPT_TYPE_DISCARD: UINT8 = 0x40;
/// Unknown: discard the packet, and say so.
pub const IP6OPT_TYPE_FORCEICMP: UINT8 = 0x80;
/// Unknown: discard the packet, and say so unless it was a multicast.
pub const IP6OPT_TYPE_ICMP: UINT8 = 0xc0;
/// The option may change on its way.
pub const IP6OPT_MUTABLE: UINT8 = 0x20;

/// Whether an option of this type may change on its way.
#[must_use]
pub const fn IP6OPT_ISMUTABLE(Type: UINT8) -> bool {
    Type & IP6OPT_MUTABLE != 0
}

/// The jumbo payload option (RFC 2675).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV6_OPTION_JUMBOGRAM {
    /// The option.
    pub Header: IPV6_OPTION_HEADER,
    /// Bytes of the payload.
    pub JumbogramLength: [UINT8; 4],
}

/// Points to an [`IPV6_OPTION_JUMBOGRAM`].
pub type PIPV6_OPTION_JUMBOGRAM = *mut IPV6_OPTION_JUMBOGRAM;

/// The router alert option (RFC 2711).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV6_OPTION_ROUTER_ALERT {
    /// The option.
    pub Header: IPV6_OPTION_HEADER,
    /// What the alert is about.
    pub Value: [UINT8; 2],
}

/// Points to an [`IPV6_OPTION_ROUTER_ALERT`].
pub type PIPV6_OPTION_ROUTER_ALERT = *mut IPV6_OPTION_ROUTER_ALERT;

/// A routing header; its addresses follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV6_ROUTING_HEADER {
    /// `IPPROTO_*`.
    pub NextHeader: UCHAR,
    /// Length in units of [`EXT_LEN_UNIT`], without the first.
    pub Length: UCHAR,
    /// Type of routing.
    pub RoutingType: UCHAR,
    /// Nodes that are still to be visited.
    pub SegmentsLeft: UCHAR,
    /// Reserved.
    pub Reserved: [UCHAR; 4],
}

/// Points to an [`IPV6_ROUTING_HEADER`].
pub type PIPV6_ROUTING_HEADER = *mut IPV6_ROUTING_HEADER;

/// Where an IPv6 address with an embedded IPv4 address (RFC 6052) has its reserved octet.
pub const IN6_EMBEDDEDV4_UOCTET_POSITION: ULONG = 8;
/// Bits in an octet.
pub const IN6_EMBEDDEDV4_BITS_IN_BYTE: ULONG = 8;

/// Whether a prefix of so many bits may have an IPv4 address embedded behind it (RFC 6052).
#[must_use]
pub const fn In6IsEmbeddedV4AddrPrefixLengthValid(PrefixLength: ULONG) -> bool {
    matches!(PrefixLength, 32 | 40 | 48 | 56 | 64 | 96)
}
