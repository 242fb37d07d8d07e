//! IPv4: the header and its options, ICMP and IGMP. Fields longer than a byte are in network byte order.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

use crate::bits::bits;
use crate::nt::{INT, LONG, UINT8, UINT16, UINT32};
use crate::ws2def::IN_ADDR;

/// The bits of the version in the first byte of an IP header of either version.
pub const IP_VER_MASK: UINT8 = 0xf0;
/// [`IPV4_HEADER::Version`].
pub const IPV4_VERSION: UINT8 = 4;
/// The first byte of a header without options.
pub const IPV4_DEFAULT_VERHLEN: UINT8 = (IPV4_VERSION << 4) | 5;
/// Bytes of the longest packet.
pub const MAX_IPV4_PACKET: UINT32 = 65_535;
/// Bytes of the longest payload.
pub const MAX_IPV4_PAYLOAD: UINT32 = MAX_IPV4_PACKET - 20;
/// Bytes of the longest header.
pub const MAX_IPV4_HLEN: UINT32 = 60;
/// Bytes that every network carries.
pub const IPV4_MINIMUM_MTU: UINT32 = 576;
/// The same, for the layer above.
pub const IPV4_MINIMUM_ULMTU: UINT32 = IPV4_MINIMUM_MTU - 20;
/// The smallest lower limit for path MTU discovery.
pub const IPV4_MIN_MINIMUM_MTU: UINT32 = 352;
/// The largest lower limit for path MTU discovery.
pub const IPV4_MAX_MINIMUM_MTU: UINT32 = IPV4_MINIMUM_MTU;
/// Bytes of the longest options.
pub const MAX_IP_OPTIONS_LENGTH: UINT32 = 0xf * 4 - 20;
/// Bytes of an [`IPV4_ROUTING_HEADER`].
pub const SIZEOF_IP_OPT_ROUTING_HEADER: UINT32 = 3;
/// Bytes of an [`IPV4_TIMESTAMP_OPTION`].
pub const SIZEOF_IP_OPT_TIMESTAMP_HEADER: UINT32 = 4;
/// Bytes of the security option.
pub const SIZEOF_IP_OPT_SECURITY: UINT32 = 11;
/// Bytes of the stream identifier option.
pub const SIZEOF_IP_OPT_STREAMIDENTIFIER: UINT32 = 4;
/// Bytes of the router alert option.
pub const SIZEOF_IP_OPT_ROUTERALERT: UINT32 = 4;
/// The bits of the offset in [`IPV4_HEADER::FlagsAndOffset`], as it lies in memory.
pub const IP4_OFF_MASK: UINT16 = 0xff1f;

/// An IPv4 header, without options (RFC 791).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV4_HEADER {
    /// Version and length of the header.
    pub VersionAndHeaderLength: UINT8,
    /// Type of service, and explicit congestion notification.
    pub TypeOfServiceAndEcnField: UINT8,
    /// Bytes of the packet.
    pub TotalLength: UINT16,
    /// Says which fragments belong together.
    pub Identification: UINT16,
    /// Flags, and offset of the fragment.
    pub FlagsAndOffset: UINT16,
    /// Routers it may still pass.
    pub TimeToLive: UINT8,
    /// `IPPROTO_*`.
    pub Protocol: UINT8,
    /// Checksum of the header.
    pub HeaderChecksum: UINT16,
    /// From whom.
    pub SourceAddress: IN_ADDR,
    /// To whom.
    pub DestinationAddress: IN_ADDR,
}

bits! { IPV4_HEADER { VersionAndHeaderLength } as UINT8 {
    /// Length of the header, in units of four bytes.
    HeaderLength / set_HeaderLength: 0, 4 => UINT8;
    /// Version: 4.
    Version / set_Version: 4, 4 => UINT8;
}}

bits! { IPV4_HEADER { TypeOfServiceAndEcnField } as UINT8 {
    /// Explicit congestion notification (RFC 3168).
    EcnField / set_EcnField: 0, 2 => UINT8;
    /// Type of service, or differentiated services (RFC 2474).
    TypeOfService / set_TypeOfService: 2, 6 => UINT8;
}}

bits! { IPV4_HEADER { FlagsAndOffset } as UINT16 {
    /// High bits of the offset.
    DontUse1 / set_DontUse1: 0, 5 => UINT16;
    /// Not the last fragment.
    MoreFragments / set_MoreFragments: 5, 1 => UINT16;
    /// Not to be fragmented.
    DontFragment / set_DontFragment: 6, 1 => UINT16;
    /// Reserved.
    Reserved / set_Reserved: 7, 1 => UINT16;
    /// Low bits of the offset.
    DontUse2 / set_DontUse2: 8, 8 => UINT16;
}}

/// Points to an [`IPV4_HEADER`].
pub type PIPV4_HEADER = *mut IPV4_HEADER;

/// Bytes of a header with its options.
#[must_use]
pub const fn Ip4HeaderLengthInBytes(Header: &IPV4_HEADER) -> UINT8 {
    Header.HeaderLength() << 2
}

/// Bytes before a fragment's payload in the whole packet's.
#[must_use]
pub const fn Ip4FragmentOffset(Header: &IPV4_HEADER) -> UINT16 {
    (Header.FlagsAndOffset & IP4_OFF_MASK).swap_bytes() << 3
}

/// The beginning of an option.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV4_OPTION_HEADER {
    /// `IP_OPT_*`.
    pub OptionType: UINT8,
    /// Bytes of the option, from here on.
    pub OptionLength: UINT8,
}

bits! { IPV4_OPTION_HEADER { OptionType } as UINT8 {
    /// Number of the option.
    OptionNumber / set_OptionNumber: 0, 5 => UINT8;
    /// Class of the option.
    OptionClass / set_OptionClass: 5, 2 => UINT8;
    /// Goes into all fragments.
    CopiedFlag / set_CopiedFlag: 7, 1 => UINT8;
}}

/// Points to an [`IPV4_OPTION_HEADER`].
pub type PIPV4_OPTION_HEADER = *mut IPV4_OPTION_HEADER;

/// Type of an IPv4 option. A C enumeration.
pub type IPV4_OPTION_TYPE = INT;
/// End of the list; one byte.
pub const IP_OPT_EOL: IPV4_OPTION_TYPE = 0x00;
/// Padding; one byte.
pub const IP_OPT_NOP: IPV4_OPTION_TYPE = 0x01;
/// Security (RFC 1108).
pub const IP_OPT_SECURITY: IPV4_OPTION_TYPE = 0x82;
/// Loose source route.
pub const IP_OPT_LSRR: IPV4_OPTION_TYPE = 0x83;
/// Time stamp.
pub const IP_OPT_TS: IPV4_OPTION_TYPE = 0x44;
/// Record route.
pub const IP_OPT_RR: IPV4_OPTION_TYPE = 0x07;
/// Strict source route.
pub const IP_OPT_SSRR: IPV4_OPTION_TYPE = 0x89;
/// Stream identifier.
pub const IP_OPT_SID: IPV4_OPTION_TYPE = 0x88;
/// Router alert (RFC 2113).
pub const IP_OPT_ROUTER_ALERT: IPV4_OPTION_TYPE = 0x94;
/// Several destinations (RFC 1770).
pub const IP_OPT_MULTIDEST: IPV4_OPTION_TYPE = 0x95;

/// The beginning of the time stamp option.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV4_TIMESTAMP_OPTION {
    /// The option. In C this structure is anonymous.
    pub OptionHeader: IPV4_OPTION_HEADER,
    /// Where the next stamp goes.
    pub Pointer: UINT8,
    /// Flags, and the count of stamps that found no room.
    pub FlagsOverflow: UINT8,
}

bits! { IPV4_TIMESTAMP_OPTION { FlagsOverflow } as UINT8 {
    /// `IP_OPTION_TIMESTAMP_*`.
    Flags / set_Flags: 0, 4 => UINT8;
    /// Stamps that found no room.
    Overflow / set_Overflow: 4, 4 => UINT8;
}}

/// Points to an [`IPV4_TIMESTAMP_OPTION`].
pub type PIPV4_TIMESTAMP_OPTION = *mut IPV4_TIMESTAMP_OPTION;

/// What a time stamp option collects. A C enumeration.
pub type IP_OPTION_TIMESTAMP_FLAGS = INT;
/// Stamps.
pub const IP_OPTION_TIMESTAMP_ONLY: IP_OPTION_TIMESTAMP_FLAGS = 0;
/// Stamps and addresses.
pub const IP_OPTION_TIMESTAMP_ADDRESS: IP_OPTION_TIMESTAMP_FLAGS = 1;
/// Stamps of the addresses given.
pub const IP_OPTION_TIMESTAMP_SPECIFIC_ADDRESS: IP_OPTION_TIMESTAMP_FLAGS = 3;

/// The beginning of a source route option.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV4_ROUTING_HEADER {
    /// The option. In C this structure is anonymous.
    pub OptionHeader: IPV4_OPTION_HEADER,
    /// Where the next address is.
    pub Pointer: UINT8,
}

/// Points to an [`IPV4_ROUTING_HEADER`].
pub type PIPV4_ROUTING_HEADER = *mut IPV4_ROUTING_HEADER;

/// The header of an ICMP message, of either version of IP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ICMP_HEADER {
    /// Type of the message.
    pub Type: UINT8,
    /// What the type leaves open.
    pub Code: UINT8,
    /// Checksum of the message.
    pub Checksum: UINT16,
}

/// Points to an [`ICMP_HEADER`].
pub type PICMP_HEADER = *mut ICMP_HEADER;

/// The beginning of an ICMP message: its header, and four bytes that depend on the type.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ICMP_MESSAGE {
    /// The header.
    pub Header: ICMP_HEADER,
    /// Four bytes.
    pub Data: ICMP_MESSAGE_DATA,
}

/// The four bytes in an [`ICMP_MESSAGE`] that depend on its type.
#[repr(C)]
#[derive(Clone, Copy)]
pub union ICMP_MESSAGE_DATA {
    /// As one number.
    pub Data32: [UINT32; 1],
    /// As two.
    pub Data16: [UINT16; 2],
    /// As four.
    pub Data8: [UINT8; 4],
}

/// Points to an [`ICMP_MESSAGE`].
pub type PICMP_MESSAGE = *mut ICMP_MESSAGE;
/// See [`ICMP_HEADER`].
pub type ICMPV4_HEADER = ICMP_HEADER;
/// See [`ICMP_MESSAGE`].
pub type ICMPV4_MESSAGE = ICMP_MESSAGE;

/// Why a destination is unreachable. A C enumeration.
pub type ICMP4_UNREACH_CODE = INT;
/// Points to an [`ICMP4_UNREACH_CODE`].
pub type PICMP4_UNREACH_CODE = *mut ICMP4_UNREACH_CODE;
/// No route to the network.
pub const ICMP4_UNREACH_NET: ICMP4_UNREACH_CODE = 0;
/// The host does not answer.
pub const ICMP4_UNREACH_HOST: ICMP4_UNREACH_CODE = 1;
/// The host lacks the protocol.
pub const ICMP4_UNREACH_PROTOCOL: ICMP4_UNREACH_CODE = 2;
/// Nobody uses the port.
pub const ICMP4_UNREACH_PORT: ICMP4_UNREACH_CODE = 3;
/// Too long, and not to be fragmented.
pub const ICMP4_UNREACH_FRAG_NEEDED: ICMP4_UNREACH_CODE = 4;
/// The source route failed.
pub const ICMP4_UNREACH_SOURCEROUTE_FAILED: ICMP4_UNREACH_CODE = 5;
/// The network is unknown.
pub const ICMP4_UNREACH_NET_UNKNOWN: ICMP4_UNREACH_CODE = 6;
/// The host is unknown.
pub const ICMP4_UNREACH_HOST_UNKNOWN: ICMP4_UNREACH_CODE = 7;
/// The source is isolated.
pub const ICMP4_UNREACH_ISOLATED: ICMP4_UNREACH_CODE = 8;
/// The network is forbidden.
pub const ICMP4_UNREACH_NET_ADMIN: ICMP4_UNREACH_CODE = 9;
/// The host is forbidden.
pub const ICMP4_UNREACH_HOST_ADMIN: ICMP4_UNREACH_CODE = 10;
/// The network does not serve this type of service.
pub const ICMP4_UNREACH_NET_TOS: ICMP4_UNREACH_CODE = 11;
/// The host does not serve this type of service.
pub const ICMP4_UNREACH_HOST_TOS: ICMP4_UNREACH_CODE = 12;
/// Forbidden.
pub const ICMP4_UNREACH_ADMIN: ICMP4_UNREACH_CODE = 13;

/// Which time was exceeded. A C enumeration.
pub type ICMP4_TIME_EXCEED_CODE = INT;
/// Points to an [`ICMP4_TIME_EXCEED_CODE`].
pub type PICMP4_TIME_EXCEED_CODE = *mut ICMP4_TIME_EXCEED_CODE;
/// The time to live.
pub const ICMP4_TIME_EXCEED_TRANSIT: ICMP4_TIME_EXCEED_CODE = 0;
/// That for reassembly.
pub const ICMP4_TIME_EXCEED_REASSEMBLY: ICMP4_TIME_EXCEED_CODE = 1;

/// Asks for routers (RFC 1256).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ICMPV4_ROUTER_SOLICIT {
    /// The message.
    pub RsHeader: ICMPV4_MESSAGE,
}

/// Points to an [`ICMPV4_ROUTER_SOLICIT`].
pub type PICMPV4_ROUTER_SOLICIT = *mut ICMPV4_ROUTER_SOLICIT;

/// Announces routers (RFC 1256); entries follow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ICMPV4_ROUTER_ADVERT_HEADER {
    /// The message.
    pub RaHeader: ICMPV4_MESSAGE,
}

/// Points to an [`ICMPV4_ROUTER_ADVERT_HEADER`].
pub type PICMPV4_ROUTER_ADVERT_HEADER = *mut ICMPV4_ROUTER_ADVERT_HEADER;

/// A router that is announced.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ICMPV4_ROUTER_ADVERT_ENTRY {
    /// Its address.
    pub RouterAdvertAddr: IN_ADDR,
    /// The higher, the better; or [`ICMPV4_INVALID_PREFERENCE_LEVEL`].
    pub PreferenceLevel: LONG,
}

/// Points to an [`ICMPV4_ROUTER_ADVERT_ENTRY`].
pub type PICMPV4_ROUTER_ADVERT_ENTRY = *mut ICMPV4_ROUTER_ADVERT_ENTRY;

/// Not to be used as a default router.
pub const ICMPV4_INVALID_PREFERENCE_LEVEL: LONG = LONG::MIN;

/// Asks for, or gives, the time. Times are milliseconds since midnight, UT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ICMPV4_TIMESTAMP_MESSAGE {
    /// The message.
    pub Header: ICMPV4_MESSAGE,
    /// When it was sent.
    pub OriginateTimestamp: UINT32,
    /// When it was received.
    pub ReceiveTimestamp: UINT32,
    /// When it was sent back.
    pub TransmitTimestamp: UINT32,
}

/// Points to an [`ICMPV4_TIMESTAMP_MESSAGE`].
pub type PICMPV4_TIMESTAMP_MESSAGE = *mut ICMPV4_TIMESTAMP_MESSAGE;

/// Asks for, or gives, the mask of the network.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ICMPV4_ADDRESS_MASK_MESSAGE {
    /// The message.
    pub Header: ICMPV4_MESSAGE,
    /// The mask.
    pub AddressMask: UINT32,
}

/// Points to an [`ICMPV4_ADDRESS_MASK_MESSAGE`].
pub type PICMPV4_ADDRESS_MASK_MESSAGE = *mut ICMPV4_ADDRESS_MASK_MESSAGE;

/// Type: query.
pub const IGMP_QUERY_TYPE: UINT8 = 0x11;
/// Type: report of version 1.
pub const IGMP_VERSION1_REPORT_TYPE: UINT8 = 0x12;
/// Type: report of version 2.
pub const IGMP_VERSION2_REPORT_TYPE: UINT8 = 0x16;
/// Type: leaves a group.
pub const IGMP_LEAVE_GROUP_TYPE: UINT8 = 0x17;
/// Type: report of version 3.
pub const IGMP_VERSION3_REPORT_TYPE: UINT8 = 0x22;

/// An IGMP message of version 1 or 2 (RFC 1112, RFC 2236).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IGMP_HEADER {
    /// `IGMP_*_TYPE`; in version 1 a version and a type.
    pub VersionType: UINT8,
    /// Time to answer, in tenths of a second; nothing in version 1.
    pub MaxRespTime: UINT8,
    /// Checksum of the message.
    pub Checksum: UINT16,
    /// The group.
    pub MulticastAddress: IN_ADDR,
}

bits! { IGMP_HEADER { VersionType } as UINT8 {
    /// Type, in version 1.
    Type / set_Type: 0, 4 => UINT8;
    /// Version, in version 1.
    Version / set_Version: 4, 4 => UINT8;
}}

bits! { IGMP_HEADER { MaxRespTime } as UINT8 {
    /// Reserved, in version 1.
    Reserved / set_Reserved: 0, 8 => UINT8;
    /// Code, in DVMRP.
    Code / set_Code: 0, 8 => UINT8;
}}

/// Points to an [`IGMP_HEADER`].
pub type PIGMP_HEADER = *mut IGMP_HEADER;

/// How a response code is to be read. A C enumeration.
pub type IGMP_MAX_RESP_CODE_TYPE = INT;
/// As a number.
pub const IGMP_MAX_RESP_CODE_TYPE_NORMAL: IGMP_MAX_RESP_CODE_TYPE = 0;
/// As mantissa and exponent.
pub const IGMP_MAX_RESP_CODE_TYPE_FLOAT: IGMP_MAX_RESP_CODE_TYPE = 1;

/// An IGMP query of version 3 (RFC 3376); sources follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IGMPV3_QUERY_HEADER {
    /// [`IGMP_QUERY_TYPE`].
    pub Type: UINT8,
    /// Time to answer, in tenths of a second, coded.
    pub MaxRespCode: UINT8,
    /// Checksum of the message.
    pub Checksum: UINT16,
    /// The group.
    pub MulticastAddress: IN_ADDR,
    /// `Reserved`, `SuppressRouterSideProcessing` and `QuerierRobustnessVariable`. In C this byte has no name.
    pub Robustness: UINT8,
    /// Interval of queries in seconds, coded.
    pub QueriersQueryInterfaceCode: UINT8,
    /// How many sources follow.
    pub SourceCount: UINT16,
}

bits! { IGMPV3_QUERY_HEADER { MaxRespCode } as UINT8 {
    /// Mantissa.
    MaxRespCodeMantissa / set_MaxRespCodeMantissa: 0, 4 => UINT8;
    /// Exponent.
    MaxRespCodeExponent / set_MaxRespCodeExponent: 4, 3 => UINT8;
    /// `IGMP_MAX_RESP_CODE_TYPE_*`.
    MaxRespCodeType / set_MaxRespCodeType: 7, 1 => UINT8;
}}

bits! { IGMPV3_QUERY_HEADER { Robustness } as UINT8 {
    /// How many losses are expected.
    QuerierRobustnessVariable / set_QuerierRobustnessVariable: 0, 3 => UINT8;
    /// Routers do not update their timers.
    SuppressRouterSideProcessing / set_SuppressRouterSideProcessing: 3, 1 => UINT8;
    /// Reserved.
    Reserved / set_Reserved: 4, 4 => UINT8;
}}

bits! { IGMPV3_QUERY_HEADER { QueriersQueryInterfaceCode } as UINT8 {
    /// Mantissa.
    QQCMantissa / set_QQCMantissa: 0, 4 => UINT8;
    /// Exponent.
    QQCExponent / set_QQCExponent: 4, 3 => UINT8;
    /// `IGMP_MAX_RESP_CODE_TYPE_*`.
    QQCType / set_QQCType: 7, 1 => UINT8;
}}

/// Points to an [`IGMPV3_QUERY_HEADER`].
pub type PIGMPV3_QUERY_HEADER = *mut IGMPV3_QUERY_HEADER;

/// A record of an IGMP report of version 3; sources follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IGMPV3_REPORT_RECORD_HEADER {
    /// Type of the record.
    pub Type: UINT8,
    /// Auxiliary data after the sources, in units of four bytes.
    pub AuxillaryDataLength: UINT8,
    /// How many sources follow.
    pub SourceCount: UINT16,
    /// The group.
    pub MulticastAddress: IN_ADDR,
}

/// Points to an [`IGMPV3_REPORT_RECORD_HEADER`].
pub type PIGMPV3_REPORT_RECORD_HEADER = *mut IGMPV3_REPORT_RECORD_HEADER;

/// An IGMP report of version 3; records follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IGMPV3_REPORT_HEADER {
    /// [`IGMP_VERSION3_REPORT_TYPE`].
    pub Type: UINT8,
    /// Reserved.
    pub Reserved: UINT8,
    /// Checksum of the message.
    pub Checksum: UINT16,
    /// Reserved.
    pub Reserved2: UINT16,
    /// How many records follow.
    pub RecordCount: UINT16,
}

/// See [`IGMPV3_REPORT_HEADER`]: its tag in C.
pub type IGMPV3_REPORT_HEADER_ = IGMPV3_REPORT_HEADER;
/// Points to an [`IGMPV3_REPORT_HEADER`].
pub type PIGMPV3_REPORT_HEADER = *mut IGMPV3_REPORT_HEADER;
