//! ICMP for IPv6: error codes, neighbour discovery (RFC 4861) and multicast listener discovery (RFC 3810). Fields longer
//! than a byte are in network byte order.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

use crate::bits::bits;
use crate::netiodef::{ICMP_HEADER, ICMP_MESSAGE};
use crate::nt::{INT, UINT8, UINT16, UINT32};
use crate::ws2ipdef::IN6_ADDR;

/// See [`ICMP_HEADER`].
pub type ICMPV6_HEADER = ICMP_HEADER;
/// See [`ICMP_MESSAGE`].
pub type ICMPV6_MESSAGE = ICMP_MESSAGE;

/// The bit of the type that informational messages have, and errors lack.
pub const ICMP6_INFOMSG_MASK: UINT8 = 0x80;
/// Destination unreachable: no route.
pub const ICMP6_DST_UNREACH_NOROUTE: UINT8 = 0;
/// Destination unreachable: forbidden.
pub const ICMP6_DST_UNREACH_ADMIN: UINT8 = 1;
/// Destination unreachable: beyond the scope of the source.
pub const ICMP6_DST_UNREACH_BEYONDSCOPE: UINT8 = 2;
/// Destination unreachable: the address does not answer.
pub const ICMP6_DST_UNREACH_ADDR: UINT8 = 3;
/// Destination unreachable: nobody uses the port.
pub const ICMP6_DST_UNREACH_NOPORT: UINT8 = 4;
/// Time exceeded: hop limit.
pub const ICMP6_TIME_EXCEED_TRANSIT: UINT8 = 0;
/// Time exceeded: reassembly.
pub const ICMP6_TIME_EXCEED_REASSEMBLY: UINT8 = 1;
/// Parameter problem: a header's field.
pub const ICMP6_PARAMPROB_HEADER: UINT8 = 0;
/// Parameter problem: an unknown next header.
pub const ICMP6_PARAMPROB_NEXTHEADER: UINT8 = 1;
/// Parameter problem: an unknown option.
pub const ICMP6_PARAMPROB_OPTION: UINT8 = 2;
/// Echo request: the reverse route is asked for.
pub const ICMPV6_ECHO_REQUEST_FLAG_REVERSE: UINT32 = 0x1;

/// Asks for routers; options follow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nd_router_solicit {
    /// The message.
    pub nd_rs_hdr: ICMPV6_MESSAGE,
}

/// See [`nd_router_solicit`].
pub type ND_ROUTER_SOLICIT_HEADER = nd_router_solicit;
/// Points to a [`nd_router_solicit`].
pub type PND_ROUTER_SOLICIT_HEADER = *mut nd_router_solicit;

/// Announces a router; options follow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nd_router_advert {
    /// The message, with hop limit, flags ([`IPV6_ROUTER_ADVERTISEMENT_FLAGS`]) and lifetime.
    pub nd_ra_hdr: ICMPV6_MESSAGE,
    /// Milliseconds for which a neighbour counts as reachable.
    pub nd_ra_reachable: UINT32,
    /// Milliseconds between solicitations.
    pub nd_ra_retransmit: UINT32,
}

/// See [`nd_router_advert`].
pub type ND_ROUTER_ADVERT_HEADER = nd_router_advert;
/// Points to a [`nd_router_advert`].
pub type PND_ROUTER_ADVERT_HEADER = *mut nd_router_advert;

/// Router: addresses come from DHCP.
pub const ND_RA_FLAG_MANAGED: UINT8 = 0x80;
/// Router: other configuration comes from DHCP.
pub const ND_RA_FLAG_OTHER: UINT8 = 0x40;
/// Router: it is a home agent.
pub const ND_RA_FLAG_HOME_AGENT: UINT8 = 0x20;
/// Router: its preference.
pub const ND_RA_FLAG_PREFERENCE: UINT8 = 0x18;

/// The flags of a router advertisement.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV6_ROUTER_ADVERTISEMENT_FLAGS {
    /// All: `ND_RA_FLAG_*`.
    pub Value: UINT8,
}

bits! { IPV6_ROUTER_ADVERTISEMENT_FLAGS { Value } as UINT8 {
    /// Reserved.
    Reserved / set_Reserved: 0, 3 => UINT8;
    /// Preference.
    Preference / set_Preference: 3, 2 => UINT8;
    /// It is a home agent.
    HomeAgent / set_HomeAgent: 5, 1 => UINT8;
    /// Other configuration comes from DHCP.
    OtherStatefulConfiguration / set_OtherStatefulConfiguration: 6, 1 => UINT8;
    /// Addresses come from DHCP.
    ManagedAddressConfiguration / set_ManagedAddressConfiguration: 7, 1 => UINT8;
}}

/// Points to an [`IPV6_ROUTER_ADVERTISEMENT_FLAGS`].
pub type PIPV6_ROUTER_ADVERTISEMENT_FLAGS = *mut IPV6_ROUTER_ADVERTISEMENT_FLAGS;

/// Asks for a neighbour's link address; options follow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nd_neighbor_solicit {
    /// The message.
    pub nd_ns_hdr: ICMPV6_MESSAGE,
    /// Whose.
    pub nd_ns_target: IN6_ADDR,
}

/// See [`nd_neighbor_solicit`].
pub type ND_NEIGHBOR_SOLICIT_HEADER = nd_neighbor_solicit;
/// Points to a [`nd_neighbor_solicit`].
pub type PND_NEIGHBOR_SOLICIT_HEADER = *mut nd_neighbor_solicit;

/// Gives a neighbour's link address; options follow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nd_neighbor_advert {
    /// The message, with flags ([`IPV6_NEIGHBOR_ADVERTISEMENT_FLAGS`]).
    pub nd_na_hdr: ICMPV6_MESSAGE,
    /// Whose.
    pub nd_na_target: IN6_ADDR,
}

/// See [`nd_neighbor_advert`].
pub type ND_NEIGHBOR_ADVERT_HEADER = nd_neighbor_advert;
/// Points to a [`nd_neighbor_advert`].
pub type PND_NEIGHBOR_ADVERT_HEADER = *mut nd_neighbor_advert;

/// Neighbour: it is a router. As it lies in memory, like the others.
pub const ND_NA_FLAG_ROUTER: UINT32 = 0x0000_0080;
/// Neighbour: it was asked.
pub const ND_NA_FLAG_SOLICITED: UINT32 = 0x0000_0040;
/// Neighbour: what was known is to be replaced.
pub const ND_NA_FLAG_OVERRIDE: UINT32 = 0x0000_0020;

/// The flags of a neighbour advertisement.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IPV6_NEIGHBOR_ADVERTISEMENT_FLAGS {
    /// All: `ND_NA_FLAG_*`.
    pub Value: UINT32,
}

bits! { IPV6_NEIGHBOR_ADVERTISEMENT_FLAGS { Value } as UINT32 {
    /// Reserved.
    Reserved1 / set_Reserved1: 0, 5 => UINT8;
    /// What was known is to be replaced.
    Override / set_Override: 5, 1 => UINT8;
    /// It was asked.
    Solicited / set_Solicited: 6, 1 => UINT8;
    /// It is a router.
    Router / set_Router: 7, 1 => UINT8;
    /// Reserved: three bytes.
    Reserved2 / set_Reserved2: 8, 24 => UINT32;
}}

/// Points to an [`IPV6_NEIGHBOR_ADVERTISEMENT_FLAGS`].
pub type PIPV6_NEIGHBOR_ADVERTISEMENT_FLAGS = *mut IPV6_NEIGHBOR_ADVERTISEMENT_FLAGS;

/// Names a better first hop; options follow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nd_redirect {
    /// The message.
    pub nd_rd_hdr: ICMPV6_MESSAGE,
    /// The better hop.
    pub nd_rd_target: IN6_ADDR,
    /// The destination it is better for.
    pub nd_rd_dst: IN6_ADDR,
}

/// See [`nd_redirect`].
pub type ND_REDIRECT_HEADER = nd_redirect;
/// Points to a [`nd_redirect`].
pub type PND_REDIRECT_HEADER = *mut nd_redirect;

/// The beginning of a neighbour discovery option.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct nd_opt_hdr {
    /// `ND_OPT_*`.
    pub nd_opt_type: UINT8,
    /// Length of the option, in units of eight bytes; so in all of them.
    pub nd_opt_len: UINT8,
}

/// See [`nd_opt_hdr`].
pub type ND_OPTION_HDR = nd_opt_hdr;
/// Points to a [`nd_opt_hdr`].
pub type PND_OPTION_HDR = *mut nd_opt_hdr;

/// Type of a neighbour discovery option. A C enumeration.
pub type ND_OPTION_TYPE = INT;
/// Points to an [`ND_OPTION_TYPE`].
pub type PND_OPTION_TYPE = *mut ND_OPTION_TYPE;
/// Link address of the sender.
pub const ND_OPT_SOURCE_LINKADDR: ND_OPTION_TYPE = 1;
/// Link address of the target.
pub const ND_OPT_TARGET_LINKADDR: ND_OPTION_TYPE = 2;
/// [`nd_opt_prefix_info`].
pub const ND_OPT_PREFIX_INFORMATION: ND_OPTION_TYPE = 3;
/// [`nd_opt_rd_hdr`].
pub const ND_OPT_REDIRECTED_HEADER: ND_OPTION_TYPE = 4;
/// [`nd_opt_mtu`].
pub const ND_OPT_MTU: ND_OPTION_TYPE = 5;
/// Limit of NBMA short cuts.
pub const ND_OPT_NBMA_SHORTCUT_LIMIT: ND_OPTION_TYPE = 6;
/// Interval of advertisements.
pub const ND_OPT_ADVERTISEMENT_INTERVAL: ND_OPTION_TYPE = 7;
/// Home agent.
pub const ND_OPT_HOME_AGENT_INFORMATION: ND_OPTION_TYPE = 8;
/// Addresses of the sender.
pub const ND_OPT_SOURCE_ADDR_LIST: ND_OPTION_TYPE = 9;
/// Addresses of the target.
pub const ND_OPT_TARGET_ADDR_LIST: ND_OPTION_TYPE = 10;
/// [`nd_opt_route_info`].
pub const ND_OPT_ROUTE_INFO: ND_OPTION_TYPE = 24;
/// [`nd_opt_rdnss`].
pub const ND_OPT_RDNSS: ND_OPTION_TYPE = 25;
/// [`nd_opt_dnssl`].
pub const ND_OPT_DNSSL: ND_OPTION_TYPE = 31;

/// A prefix of the link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct nd_opt_prefix_info {
    /// [`ND_OPT_PREFIX_INFORMATION`].
    pub nd_opt_pi_type: UINT8,
    /// Length.
    pub nd_opt_pi_len: UINT8,
    /// Bits of the prefix.
    pub nd_opt_pi_prefix_len: UINT8,
    /// `ND_OPT_PI_FLAG_*`. C has the bits in a structure named `Flags`; the methods here go without it.
    pub nd_opt_pi_flags_reserved: UINT8,
    /// Seconds for which the prefix is valid.
    pub nd_opt_pi_valid_time: UINT32,
    /// Seconds for which addresses made of it are preferred.
    pub nd_opt_pi_preferred_time: UINT32,
    /// Reserved; its last byte may be the site prefix's bits.
    pub nd_opt_pi_reserved2: UINT32,
    /// The prefix.
    pub nd_opt_pi_prefix: IN6_ADDR,
}

bits! { nd_opt_prefix_info { nd_opt_pi_flags_reserved } as UINT8 {
    /// A route is to be made of it.
    Route / set_Route: 0, 1 => UINT8;
    /// Reserved.
    Reserved1 / set_Reserved1: 1, 3 => UINT8;
    /// It is a site's.
    SitePrefix / set_SitePrefix: 4, 1 => UINT8;
    /// It holds the router's whole address.
    RouterAddress / set_RouterAddress: 5, 1 => UINT8;
    /// Addresses may be made of it.
    Autonomous / set_Autonomous: 6, 1 => UINT8;
    /// Its addresses are on the link.
    OnLink / set_OnLink: 7, 1 => UINT8;
}}

bits! { nd_opt_prefix_info { nd_opt_pi_reserved2 } as UINT32 {
    /// Reserved: three bytes.
    nd_opt_pi_reserved3 / set_nd_opt_pi_reserved3: 0, 24 => UINT32;
    /// Bits of the site's prefix.
    nd_opt_pi_site_prefix_len / set_nd_opt_pi_site_prefix_len: 24, 8 => UINT8;
}}

/// See [`nd_opt_prefix_info`].
pub type ND_OPTION_PREFIX_INFO = nd_opt_prefix_info;
/// Points to a [`nd_opt_prefix_info`].
pub type PND_OPTION_PREFIX_INFO = *mut nd_opt_prefix_info;

/// Prefix: its addresses are on the link.
pub const ND_OPT_PI_FLAG_ONLINK: UINT8 = 0x80;
/// Prefix: addresses may be made of it.
pub const ND_OPT_PI_FLAG_AUTO: UINT8 = 0x40;
/// Prefix: it holds the router's whole address.
pub const ND_OPT_PI_FLAG_ROUTER_ADDR: UINT8 = 0x20;
/// Prefix: it is a site's.
pub const ND_OPT_PI_FLAG_SITE_PREFIX: UINT8 = 0x10;
/// Prefix: a route is to be made of it.
pub const ND_OPT_PI_FLAG_ROUTE: UINT8 = 0x01;

/// The packet that caused a redirect; it follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct nd_opt_rd_hdr {
    /// [`ND_OPT_REDIRECTED_HEADER`].
    pub nd_opt_rh_type: UINT8,
    /// Length.
    pub nd_opt_rh_len: UINT8,
    /// Reserved.
    pub nd_opt_rh_reserved1: UINT16,
    /// Reserved.
    pub nd_opt_rh_reserved2: UINT32,
}

/// See [`nd_opt_rd_hdr`].
pub type ND_OPTION_RD_HDR = nd_opt_rd_hdr;
/// Points to a [`nd_opt_rd_hdr`].
pub type PND_OPTION_RD_HDR = *mut nd_opt_rd_hdr;

/// The MTU of the link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct nd_opt_mtu {
    /// [`ND_OPT_MTU`].
    pub nd_opt_mtu_type: UINT8,
    /// Length.
    pub nd_opt_mtu_len: UINT8,
    /// Reserved.
    pub nd_opt_mtu_reserved: UINT16,
    /// The MTU in bytes.
    pub nd_opt_mtu_mtu: UINT32,
}

/// See [`nd_opt_mtu`].
pub type ND_OPTION_MTU = nd_opt_mtu;
/// Points to a [`nd_opt_mtu`].
pub type PND_OPTION_MTU = *mut nd_opt_mtu;

/// A route (RFC 4191). The prefix has 0, 8 or 16 bytes, as its length demands.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct nd_opt_route_info {
    /// [`ND_OPT_ROUTE_INFO`].
    pub nd_opt_ri_type: UINT8,
    /// Length.
    pub nd_opt_ri_len: UINT8,
    /// Bits of the prefix.
    pub nd_opt_ri_prefix_len: UINT8,
    /// The preference, at [`ND_OPT_RI_FLAG_PREFERENCE`]. C has the bits in a structure named `Flags`.
    pub nd_opt_ri_flags_reserved: UINT8,
    /// Seconds for which the route is valid.
    pub nd_opt_ri_route_lifetime: UINT32,
    /// The prefix.
    pub nd_opt_ri_prefix: IN6_ADDR,
}

bits! { nd_opt_route_info { nd_opt_ri_flags_reserved } as UINT8 {
    /// Reserved.
    Reserved / set_Reserved: 0, 3 => UINT8;
    /// Preference.
    Preference / set_Preference: 3, 2 => UINT8;
}}

/// See [`nd_opt_route_info`].
pub type ND_OPTION_ROUTE_INFO = nd_opt_route_info;
/// Points to a [`nd_opt_route_info`].
pub type PND_OPTION_ROUTE_INFO = *mut nd_opt_route_info;

/// The bits of the preference in [`nd_opt_route_info::nd_opt_ri_flags_reserved`].
pub const ND_OPT_RI_FLAG_PREFERENCE: UINT8 = 0x18;

/// Recursive DNS servers (RFC 8106); addresses follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct nd_opt_rdnss {
    /// [`ND_OPT_RDNSS`].
    pub nd_opt_rdnss_type: UINT8,
    /// Length: one, and two for each address.
    pub nd_opt_rdnss_len: UINT8,
    /// Reserved.
    pub nd_opt_rdnss_reserved: UINT16,
    /// Seconds for which they are valid.
    pub nd_opt_rdnss_lifetime: UINT32,
}

/// See [`nd_opt_rdnss`].
pub type ND_OPTION_RDNSS = nd_opt_rdnss;
/// Points to a [`nd_opt_rdnss`].
pub type PND_OPTION_RDNSS = *mut nd_opt_rdnss;

/// Bytes of the shortest [`nd_opt_rdnss`] with an address.
pub const ND_OPT_RDNSS_MIN_LEN: UINT32 = 24;

/// DNS search list (RFC 8106); names follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct nd_opt_dnssl {
    /// [`ND_OPT_DNSSL`].
    pub nd_opt_dnssl_type: UINT8,
    /// Length.
    pub nd_opt_dnssl_len: UINT8,
    /// Reserved.
    pub nd_opt_dnssl_reserved: UINT16,
    /// Seconds for which it is valid.
    pub nd_opt_dnssl_lifetime: UINT32,
}

/// See [`nd_opt_dnssl`].
pub type ND_OPTION_DNSSL = nd_opt_dnssl;
/// Points to a [`nd_opt_dnssl`].
pub type PND_OPTION_DNSSL = *mut nd_opt_dnssl;

/// Bytes of the shortest [`nd_opt_dnssl`] with a name.
pub const ND_OPT_DNSSL_MIN_LEN: UINT32 = 16;

/// A multicast listener message of version 1 (RFC 2710).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MLD_HEADER {
    /// The header.
    pub IcmpHeader: ICMPV6_HEADER,
    /// Milliseconds to answer.
    pub MaxRespTime: UINT16,
    /// Reserved.
    pub Reserved: UINT16,
    /// The group.
    pub MulticastAddress: IN6_ADDR,
}

/// Points to an [`MLD_HEADER`].
pub type PMLD_HEADER = *mut MLD_HEADER;

/// How a response code is to be read. A C enumeration.
pub type MLD_MAX_RESP_CODE_TYPE = INT;
/// As a number.
pub const MLD_MAX_RESP_CODE_TYPE_NORMAL: MLD_MAX_RESP_CODE_TYPE = 0;
/// As mantissa and exponent.
pub const MLD_MAX_RESP_CODE_TYPE_FLOAT: MLD_MAX_RESP_CODE_TYPE = 1;

/// A multicast listener query of version 2; sources follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MLDV2_QUERY_HEADER {
    /// The header.
    pub IcmpHeader: ICMPV6_HEADER,
    /// Milliseconds to answer, coded.
    pub MaxRespCode: UINT16,
    /// Reserved.
    pub Reserved: UINT16,
    /// The group.
    pub MulticastAddress: IN6_ADDR,
    /// `QueryReserved`, `SuppressRouterSideProcessing` and `QuerierRobustnessVariable`. In C this byte has no name.
    pub Robustness: UINT8,
    /// Interval of queries in seconds, coded.
    pub QueriersQueryInterfaceCode: UINT8,
    /// How many sources follow.
    pub SourceCount: UINT16,
}

bits! { MLDV2_QUERY_HEADER { MaxRespCode } as UINT16 {
    /// High bits of the mantissa.
    MaxRespCodeMantissaHi / set_MaxRespCodeMantissaHi: 0, 4 => UINT16;
    /// Exponent.
    MaxRespCodeExponent / set_MaxRespCodeExponent: 4, 3 => UINT16;
    /// `MLD_MAX_RESP_CODE_TYPE_*`.
    MaxRespCodeType / set_MaxRespCodeType: 7, 1 => UINT16;
    /// Low bits of the mantissa.
    MaxRespCodeMantissaLo / set_MaxRespCodeMantissaLo: 8, 8 => UINT16;
}}

bits! { MLDV2_QUERY_HEADER { Robustness } as UINT8 {
    /// How many losses are expected.
    QuerierRobustnessVariable / set_QuerierRobustnessVariable: 0, 3 => UINT8;
    /// Routers do not update their timers.
    SuppressRouterSideProcessing / set_SuppressRouterSideProcessing: 3, 1 => UINT8;
    /// Reserved.
    QueryReserved / set_QueryReserved: 4, 4 => UINT8;
}}

bits! { MLDV2_QUERY_HEADER { QueriersQueryInterfaceCode } as UINT8 {
    /// Mantissa.
    QQCMantissa / set_QQCMantissa: 0, 4 => UINT8;
    /// Exponent.
    QQCExponent / set_QQCExponent: 4, 3 => UINT8;
    /// `MLD_MAX_RESP_CODE_TYPE_*`.
    QQCType / set_QQCType: 7, 1 => UINT8;
}}

/// Points to an [`MLDV2_QUERY_HEADER`].
pub type PMLDV2_QUERY_HEADER = *mut MLDV2_QUERY_HEADER;

/// A record of a multicast listener report of version 2; sources follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MLDV2_REPORT_RECORD_HEADER {
    /// Type of the record.
    pub Type: UINT8,
    /// Auxiliary data after the sources, in units of four bytes.
    pub AuxillaryDataLength: UINT8,
    /// How many sources follow.
    pub SourceCount: UINT16,
    /// The group.
    pub MulticastAddress: IN6_ADDR,
}

/// Points to an [`MLDV2_REPORT_RECORD_HEADER`].
pub type PMLDV2_REPORT_RECORD_HEADER = *mut MLDV2_REPORT_RECORD_HEADER;

/// A multicast listener report of version 2; records follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MLDV2_REPORT_HEADER {
    /// The header.
    pub IcmpHeader: ICMPV6_HEADER,
    /// Reserved.
    pub Reserved: UINT16,
    /// How many records follow.
    pub RecordCount: UINT16,
}

/// Points to an [`MLDV2_REPORT_HEADER`].
pub type PMLDV2_REPORT_HEADER = *mut MLDV2_REPORT_HEADER;
