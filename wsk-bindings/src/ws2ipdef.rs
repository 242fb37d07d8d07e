//! ws2ipdef.h: IPv6 socket addresses and the options of TCP and IPv6, as far as Winsock Kernel uses them.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

use crate::bits::bits;
use crate::nt::{UCHAR, ULONG, USHORT};
use crate::ws2def::{ADDRESS_FAMILY, SOCKADDR_IN};

/// A range of ports.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/mstcpip/ns-mstcpip-inet_port_range>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct INET_PORT_RANGE {
    /// The first port, in network byte order.
    pub StartPort: USHORT,
    /// How many.
    pub NumberOfPorts: USHORT,
}

/// Points to an [`INET_PORT_RANGE`].
pub type PINET_PORT_RANGE = *mut INET_PORT_RANGE;

/// Option at `IPPROTO_IPV6`, before bind, `ULONG`: zero lets an IPv6 socket serve IPv4 too.
pub const IPV6_V6ONLY: ULONG = 27;

/// For [`TCP_OFFLOAD_PREFERENCE`]: no preference.
pub const TCP_OFFLOAD_NO_PREFERENCE: ULONG = 0;
/// For [`TCP_OFFLOAD_PREFERENCE`]: rather not offloaded.
pub const TCP_OFFLOAD_NOT_PREFERRED: ULONG = 1;
/// For [`TCP_OFFLOAD_PREFERENCE`]: rather offloaded.
pub const TCP_OFFLOAD_PREFERRED: ULONG = 2;

/// TCP option: urgent data as RFC 1122 has it.
pub const TCP_EXPEDITED_1122: ULONG = 0x0002;
/// TCP option: seconds of idleness before probes. The same as [`TCP_KEEPIDLE`].
pub const TCP_KEEPALIVE: ULONG = 3;
/// TCP option: the largest segment.
pub const TCP_MAXSEG: ULONG = 4;
/// TCP option: seconds of retransmission before giving up.
pub const TCP_MAXRT: ULONG = 5;
/// TCP option: urgent data as RFC 793 has it.
pub const TCP_STDURG: ULONG = 6;
/// TCP option: the urgent flag is ignored.
pub const TCP_NOURG: ULONG = 7;
/// TCP option: the receive position is at urgent data.
pub const TCP_ATMARK: ULONG = 8;
/// TCP option: connect requests are not sent again.
pub const TCP_NOSYNRETRIES: ULONG = 9;
/// TCP option: time stamps.
pub const TCP_TIMESTAMPS: ULONG = 10;
/// TCP option: `TCP_OFFLOAD_*`.
pub const TCP_OFFLOAD_PREFERENCE: ULONG = 11;
/// TCP option: the congestion algorithm.
pub const TCP_CONGESTION_ALGORITHM: ULONG = 12;
/// TCP option: acknowledging a FIN is delayed.
pub const TCP_DELAY_FIN_ACK: ULONG = 13;
/// TCP option: as [`TCP_MAXRT`], in milliseconds.
pub const TCP_MAXRTMS: ULONG = 14;
/// TCP option: data may travel with the connect request (RFC 7413).
pub const TCP_FASTOPEN: ULONG = 15;
/// TCP option: probes without answer before the connection is aborted.
pub const TCP_KEEPCNT: ULONG = 16;
/// TCP option: seconds of idleness before probes.
pub const TCP_KEEPIDLE: ULONG = TCP_KEEPALIVE;
/// TCP option: seconds between probes.
pub const TCP_KEEPINTVL: ULONG = 17;

/// An IPv6 address, in network byte order.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/in6addr/ns-in6addr-in6_addr>
#[repr(C, align(2))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct in6_addr {
    /// The sixteen octets.
    pub Byte: [UCHAR; 16],
}

impl in6_addr {
    /// The eight 16-bit words, each in network byte order. C reaches them through a union.
    #[must_use]
    pub const fn Word(&self) -> [USHORT; 8] {
        let mut words = [0; 8];
        let mut index = 0;
        while index < words.len() {
            words[index] = USHORT::from_ne_bytes([self.Byte[2 * index], self.Byte[2 * index + 1]]);
            index += 1;
        }
        words
    }

    /// Sets the eight 16-bit words, each in network byte order.
    pub const fn set_Word(&mut self, words: [USHORT; 8]) {
        let mut index = 0;
        while index < words.len() {
            [self.Byte[2 * index], self.Byte[2 * index + 1]] = words[index].to_ne_bytes();
            index += 1;
        }
    }
}

/// See [`in6_addr`].
pub type IN6_ADDR = in6_addr;
/// Points to an [`in6_addr`].
pub type PIN6_ADDR = *mut in6_addr;

/// The scope of an IPv6 address: which of the networks that use the same address is meant.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2ipdef/ns-ws2ipdef-sockaddr_in6_lh>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SCOPE_ID {
    /// Zone and level in one; for a link-local address the index of the interface.
    pub Value: ULONG,
}

bits! { SCOPE_ID { Value } as ULONG {
    /// The zone, 28 bits.
    Zone / set_Zone: 0, 28 => ULONG;
    /// The level, 4 bits.
    Level / set_Level: 28, 4 => ULONG;
}}

/// Points to a [`SCOPE_ID`].
pub type PSCOPE_ID = *mut SCOPE_ID;

/// An IPv6 socket address.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2ipdef/ns-ws2ipdef-sockaddr_in6_lh>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct sockaddr_in6 {
    /// `AF_INET6`.
    pub sin6_family: ADDRESS_FAMILY,
    /// The port, in network byte order.
    pub sin6_port: USHORT,
    /// Flow information.
    pub sin6_flowinfo: ULONG,
    /// The address.
    pub sin6_addr: IN6_ADDR,
    /// The scope, zero where the address needs none.
    pub sin6_scope_id: ULONG,
}

impl sockaddr_in6 {
    /// The scope in its parts. C reaches it through a union.
    #[must_use]
    pub const fn sin6_scope_struct(&self) -> SCOPE_ID {
        SCOPE_ID { Value: self.sin6_scope_id }
    }

    /// Sets the scope.
    pub const fn set_sin6_scope_struct(&mut self, scope: SCOPE_ID) {
        self.sin6_scope_id = scope.Value;
    }
}

/// See [`sockaddr_in6`].
pub type SOCKADDR_IN6 = sockaddr_in6;
/// Points to a [`sockaddr_in6`].
pub type PSOCKADDR_IN6 = *mut sockaddr_in6;

/// An IPv4 or an IPv6 socket address: `si_family` says which.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2ipdef/ns-ws2ipdef-sockaddr_inet>
#[repr(C)]
#[derive(Clone, Copy)]
pub union SOCKADDR_INET {
    /// Where `si_family` is `AF_INET`.
    pub Ipv4: SOCKADDR_IN,
    /// Where `si_family` is `AF_INET6`.
    pub Ipv6: SOCKADDR_IN6,
    /// The family.
    pub si_family: ADDRESS_FAMILY,
}

/// Points to a [`SOCKADDR_INET`].
pub type PSOCKADDR_INET = *mut SOCKADDR_INET;
