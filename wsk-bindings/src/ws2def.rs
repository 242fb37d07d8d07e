//! ws2def.h: socket addresses, socket options and name resolution, as far as Winsock Kernel uses them.
//!
//! Ports and IPv4 addresses are in network byte order, as on the wire.
#![allow(non_camel_case_types, non_snake_case)] // C spelling.
#![allow(clippy::pub_underscore_fields)] // `__ss_*` are the fields' names in C.

use crate::bits::bits;
use crate::nt::{CHAR, INT, LONGLONG, LPGUID, PVOID, PWSTR, SIZE_T, UCHAR, ULONG, USHORT};

/// An address family: one of the `AF_*` constants.
pub type ADDRESS_FAMILY = USHORT;

/// No family in particular.
pub const AF_UNSPEC: ADDRESS_FAMILY = 0;
/// IPv4: [`sockaddr_in`].
pub const AF_INET: ADDRESS_FAMILY = 2;
/// IPv6: [`sockaddr_in6`](crate::sockaddr_in6).
pub const AF_INET6: ADDRESS_FAMILY = 23;

/// A byte stream over a connection (TCP).
pub const SOCK_STREAM: USHORT = 1;
/// Datagrams (UDP).
pub const SOCK_DGRAM: USHORT = 2;
/// Packets of a network protocol.
pub const SOCK_RAW: USHORT = 3;
/// Reliable datagrams.
pub const SOCK_RDM: USHORT = 4;
/// Sequenced packets over a connection.
pub const SOCK_SEQPACKET: USHORT = 5;

/// Level of the options of the IPv4 protocol; as a protocol, the default one.
pub const IPPROTO_IP: ULONG = 0;
/// Protocol: ICMP for IPv4.
pub const IPPROTO_ICMP: ULONG = 1;
/// Protocol: TCP; the level of the `TCP_*` options.
pub const IPPROTO_TCP: ULONG = 6;
/// Protocol: UDP.
pub const IPPROTO_UDP: ULONG = 17;
/// Level of the options of the IPv6 protocol.
pub const IPPROTO_IPV6: ULONG = 41;
/// Protocol: ICMP for IPv6.
pub const IPPROTO_ICMPV6: ULONG = 58;
/// Protocol: raw IP packets.
pub const IPPROTO_RAW: ULONG = 255;

/// Level of the `SO_*` options.
pub const SOL_SOCKET: ULONG = 0xffff;
/// Option, get or set, `ULONG`: debugging information is recorded.
pub const SO_DEBUG: ULONG = 0x0001;
/// Option, get, `ULONG`: the socket listens.
pub const SO_ACCEPTCONN: ULONG = 0x0002;
/// Option, `ULONG`: the local address may be bound although it is in use.
pub const SO_REUSEADDR: ULONG = 0x0004;
/// Option, `ULONG`: idle connections are probed.
pub const SO_KEEPALIVE: ULONG = 0x0008;
/// Option, `ULONG`: routing is bypassed.
pub const SO_DONTROUTE: ULONG = 0x0010;
/// Option, `ULONG`: broadcasts may be sent.
pub const SO_BROADCAST: ULONG = 0x0020;
/// Option, `ULONG`: hardware is bypassed where possible.
pub const SO_USELOOPBACK: ULONG = 0x0040;
/// Option: closing waits for unsent data.
pub const SO_LINGER: ULONG = 0x0080;
/// Option, `ULONG`: out-of-band data is received in line.
pub const SO_OOBINLINE: ULONG = 0x0100;
/// Option, `ULONG`: the opposite of [`SO_LINGER`].
pub const SO_DONTLINGER: ULONG = !SO_LINGER;
/// Option, `ULONG`, before bind: nobody else may bind the same address.
pub const SO_EXCLUSIVEADDRUSE: ULONG = !SO_REUSEADDR;
/// Option, `ULONG`: size of the send buffer in bytes.
pub const SO_SNDBUF: ULONG = 0x1001;
/// Option, `ULONG`: size of the receive buffer in bytes.
pub const SO_RCVBUF: ULONG = 0x1002;
/// Option: low-water mark of sends, in bytes.
pub const SO_SNDLOWAT: ULONG = 0x1003;
/// Option: low-water mark of receives, in bytes.
pub const SO_RCVLOWAT: ULONG = 0x1004;
/// Option: time-out of sends, in milliseconds.
pub const SO_SNDTIMEO: ULONG = 0x1005;
/// Option: time-out of receives, in milliseconds.
pub const SO_RCVTIMEO: ULONG = 0x1006;
/// Option, get: the last error, and clears it.
pub const SO_ERROR: ULONG = 0x1007;
/// Option, get, `ULONG`: `SOCK_*`.
pub const SO_TYPE: ULONG = 0x1008;
/// Option, get: addresses, type and protocol of the socket.
pub const SO_BSP_STATE: ULONG = 0x1009;
/// Option: reserved.
pub const SO_GROUP_ID: ULONG = 0x2001;
/// Option: reserved.
pub const SO_GROUP_PRIORITY: ULONG = 0x2002;
/// Option, get, `ULONG`: the longest message that can be sent.
pub const SO_MAX_MSG_SIZE: ULONG = 0x2003;
/// Option of a listening socket, before bind, `ULONG` one: the client decides on each connection request
/// ([`PFN_WSK_INSPECT_EVENT`](crate::PFN_WSK_INSPECT_EVENT)). Requires an IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/so-conditional-accept>
pub const SO_CONDITIONAL_ACCEPT: ULONG = 0x3002;
/// Option of a listening socket, `ULONG`: arriving connections wait.
pub const SO_PAUSE_ACCEPT: ULONG = 0x3003;
/// Option, `ULONG`: the network compartment.
pub const SO_COMPARTMENT_ID: ULONG = 0x3004;
/// Option, before bind, `ULONG`: a wildcard port is chosen at random.
pub const SO_RANDOMIZE_PORT: ULONG = 0x3005;
/// Option, before bind, `ULONG`: wildcard ports are allocated for each remote address.
pub const SO_PORT_SCALABILITY: ULONG = 0x3006;
/// Option, before bind, `ULONG`: a wildcard port is chosen at connect, and shared between connections.
pub const SO_REUSE_UNICASTPORT: ULONG = 0x3007;
/// Option, before bind, `ULONG`: as [`SO_REUSE_UNICASTPORT`], for multicast.
pub const SO_REUSE_MULTICASTPORT: ULONG = 0x3008;
/// Option at [`IPPROTO_TCP`], `ULONG`: small segments are sent at once.
pub const TCP_NODELAY: ULONG = 0x0001;

/// I/O control with no parameters.
pub const IOC_VOID: ULONG = 0x2000_0000;
/// I/O control with output.
pub const IOC_OUT: ULONG = 0x4000_0000;
/// I/O control with input.
pub const IOC_IN: ULONG = 0x8000_0000;
/// I/O control with both.
pub const IOC_INOUT: ULONG = IOC_IN | IOC_OUT;
/// I/O controls from Berkeley sockets.
pub const IOC_UNIX: ULONG = 0x0000_0000;
/// I/O controls of Winsock 2.
pub const IOC_WS2: ULONG = 0x0800_0000;
/// I/O controls of a protocol.
pub const IOC_PROTOCOL: ULONG = 0x1000_0000;
/// I/O controls of a vendor.
pub const IOC_VENDOR: ULONG = 0x1800_0000;

/// The code of I/O control `y` of `x`, with no parameters.
#[must_use]
pub const fn _WSAIO(x: ULONG, y: ULONG) -> ULONG {
    IOC_VOID | x | y
}

/// The code of I/O control `y` of `x`, with output.
#[must_use]
pub const fn _WSAIOR(x: ULONG, y: ULONG) -> ULONG {
    IOC_OUT | x | y
}

/// The code of I/O control `y` of `x`, with input.
#[must_use]
pub const fn _WSAIOW(x: ULONG, y: ULONG) -> ULONG {
    IOC_IN | x | y
}

/// The code of I/O control `y` of `x`, with input and output.
#[must_use]
pub const fn _WSAIORW(x: ULONG, y: ULONG) -> ULONG {
    IOC_INOUT | x | y
}

/// Any IPv4 address of this machine. `INADDR_*` are in host byte order: see [`in_addr::from_octets`] for another way.
pub const INADDR_ANY: ULONG = 0x0000_0000;
/// 127.0.0.1.
pub const INADDR_LOOPBACK: ULONG = 0x7f00_0001;
/// 255.255.255.255.
pub const INADDR_BROADCAST: ULONG = 0xffff_ffff;
/// No address.
pub const INADDR_NONE: ULONG = 0xffff_ffff;

/// The datagram was longer than the buffer.
pub const MSG_TRUNC: ULONG = 0x0100;
/// The control data was longer than its buffer.
pub const MSG_CTRUNC: ULONG = 0x0200;
/// The datagram was a broadcast.
pub const MSG_BCAST: ULONG = 0x0400;
/// The datagram was a multicast.
pub const MSG_MCAST: ULONG = 0x0800;
/// The datagram comes from the error queue.
pub const MSG_ERRQUEUE: ULONG = 0x1000;

/// Name look-up: only the host part for local hosts.
pub const NI_NOFQDN: ULONG = 0x01;
/// Name look-up: the address in figures.
pub const NI_NUMERICHOST: ULONG = 0x02;
/// Name look-up: an error where there is no name.
pub const NI_NAMEREQD: ULONG = 0x04;
/// Name look-up: the port in figures.
pub const NI_NUMERICSERV: ULONG = 0x08;
/// Name look-up: the service is a datagram one.
pub const NI_DGRAM: ULONG = 0x10;
/// Characters of the longest host name, with its NUL.
pub const NI_MAXHOST: ULONG = 1025;
/// Characters of the longest service name, with its NUL.
pub const NI_MAXSERV: ULONG = 32;

/// An IPv4 address, in network byte order. C reaches its octets and words through a union; here they are methods.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/winsock2/ns-winsock2-in_addr>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct in_addr {
    /// The address, its first octet in the lowest byte.
    pub S_addr: ULONG,
}

bits! { in_addr { S_addr } as ULONG {
    /// The first octet.
    s_b1 / set_s_b1: 0, 8 => UCHAR;
    /// The second octet.
    s_b2 / set_s_b2: 8, 8 => UCHAR;
    /// The third octet.
    s_b3 / set_s_b3: 16, 8 => UCHAR;
    /// The fourth octet.
    s_b4 / set_s_b4: 24, 8 => UCHAR;
    /// The first two octets.
    s_w1 / set_s_w1: 0, 16 => USHORT;
    /// The last two octets.
    s_w2 / set_s_w2: 16, 16 => USHORT;
}}

impl in_addr {
    /// The address with these octets, as they are written.
    #[must_use]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self { S_addr: ULONG::from_ne_bytes(octets) }
    }

    /// The octets, as they are written.
    #[must_use]
    pub const fn octets(self) -> [u8; 4] {
        self.S_addr.to_ne_bytes()
    }
}

/// See [`in_addr`].
pub type IN_ADDR = in_addr;
/// Points to an [`in_addr`].
pub type PIN_ADDR = *mut in_addr;

/// The beginning of every socket address.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-sockaddr>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct sockaddr {
    /// Says what the rest is.
    pub sa_family: ADDRESS_FAMILY,
    /// The rest, or the beginning of it.
    pub sa_data: [CHAR; 14],
}

/// See [`sockaddr`].
pub type SOCKADDR = sockaddr;
/// Points to a [`sockaddr`] of any family.
pub type PSOCKADDR = *mut sockaddr;
/// Points to a [`sockaddr`] of any family.
pub type LPSOCKADDR = *mut sockaddr;

/// A socket address with its length.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-socket_address>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SOCKET_ADDRESS {
    /// The address.
    pub lpSockaddr: LPSOCKADDR,
    /// Its bytes.
    pub iSockaddrLength: INT,
}

/// Points to a [`SOCKET_ADDRESS`].
pub type PSOCKET_ADDRESS = *mut SOCKET_ADDRESS;

/// Room for a socket address of any family.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-sockaddr_storage_lh>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sockaddr_storage {
    /// Says what the rest is.
    pub ss_family: ADDRESS_FAMILY,
    /// Padding.
    pub __ss_pad1: [CHAR; 6],
    /// Forces the alignment.
    pub __ss_align: LONGLONG,
    /// Padding.
    pub __ss_pad2: [CHAR; 112],
}

impl sockaddr_storage {
    /// One of no family, all zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { ss_family: AF_UNSPEC, __ss_pad1: [0; 6], __ss_align: 0, __ss_pad2: [0; 112] }
    }
}

impl Default for sockaddr_storage {
    fn default() -> Self {
        Self::new()
    }
}

/// See [`sockaddr_storage`].
pub type SOCKADDR_STORAGE = sockaddr_storage;
/// Points to a [`sockaddr_storage`].
pub type PSOCKADDR_STORAGE = *mut sockaddr_storage;

/// An IPv4 socket address.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-sockaddr_in>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct sockaddr_in {
    /// [`AF_INET`].
    pub sin_family: ADDRESS_FAMILY,
    /// The port, in network byte order.
    pub sin_port: USHORT,
    /// The address.
    pub sin_addr: IN_ADDR,
    /// Zero.
    pub sin_zero: [CHAR; 8],
}

/// See [`sockaddr_in`].
pub type SOCKADDR_IN = sockaddr_in;
/// Points to a [`sockaddr_in`].
pub type PSOCKADDR_IN = *mut sockaddr_in;

/// Bytes with their length.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-wsabuf>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSABUF {
    /// Bytes at `buf`.
    pub len: ULONG,
    /// The bytes.
    pub buf: *mut CHAR,
}

/// Points to a [`WSABUF`].
pub type LPWSABUF = *mut WSABUF;

/// A message with its address and control data.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-wsamsg>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSAMSG {
    /// The address.
    pub name: LPSOCKADDR,
    /// Its bytes.
    pub namelen: INT,
    /// The payload.
    pub lpBuffers: LPWSABUF,
    /// Elements at `lpBuffers`.
    pub dwBufferCount: ULONG,
    /// The control data.
    pub Control: WSABUF,
    /// `MSG_*`.
    pub dwFlags: ULONG,
}

/// Points to a [`WSAMSG`].
pub type LPWSAMSG = *mut WSAMSG;

/// The header of one piece of control data; the data follows, aligned to eight bytes.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-wsacmsghdr>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct cmsghdr {
    /// Bytes of the header and the data.
    pub cmsg_len: SIZE_T,
    /// The protocol that the data belongs to, such as [`IPPROTO_IP`].
    pub cmsg_level: INT,
    /// What it is, in that protocol.
    pub cmsg_type: INT,
}

/// See [`cmsghdr`].
pub type WSACMSGHDR = cmsghdr;
/// See [`cmsghdr`].
pub type CMSGHDR = cmsghdr;
/// Points to a [`cmsghdr`].
pub type PCMSGHDR = *mut cmsghdr;

/// One result of [`PFN_WSK_GET_ADDRESS_INFO`](crate::PFN_WSK_GET_ADDRESS_INFO), or a hint for it.
///
/// Page: <https://learn.microsoft.com/windows/win32/api/ws2def/ns-ws2def-addrinfoexw>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct addrinfoexW {
    /// `AI_*`.
    pub ai_flags: INT,
    /// `AF_*`.
    pub ai_family: INT,
    /// `SOCK_*`.
    pub ai_socktype: INT,
    /// `IPPROTO_*`.
    pub ai_protocol: INT,
    /// Bytes at `ai_addr`.
    pub ai_addrlen: SIZE_T,
    /// The canonical name, NUL-terminated, or null.
    pub ai_canonname: PWSTR,
    /// The address.
    pub ai_addr: *mut sockaddr,
    /// What the name space provider returned besides, or null.
    pub ai_blob: PVOID,
    /// Bytes at `ai_blob`.
    pub ai_bloblen: SIZE_T,
    /// The name space provider, or null.
    pub ai_provider: LPGUID,
    /// The next result, or null.
    pub ai_next: *mut addrinfoexW,
}

/// See [`addrinfoexW`].
pub type ADDRINFOEXW = addrinfoexW;
/// Points to an [`addrinfoexW`].
pub type PADDRINFOEXW = *mut addrinfoexW;
