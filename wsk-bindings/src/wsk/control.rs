//! What [`PFN_WSK_CONTROL_CLIENT`] and [`PFN_WSK_CONTROL_SOCKET`] take: control codes, WSK's own socket options and I/O
//! controls, event masks, and the structures that travel with them.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)] // C spelling.
#![allow(clippy::used_underscore_items)] // `_WSAIO` and its kin are spelled so in C.

use crate::netiodef::PNPIID;
use crate::nt::{INT, PCVOID, PCWSTR, PVOID, ULONG, USHORT};
use crate::ws2def::{_WSAIO, _WSAIOR, _WSAIORW, _WSAIOW, ADDRESS_FAMILY, IOC_WS2};
#[cfg(doc)]
use crate::ws2def::{SO_CONDITIONAL_ACCEPT, SOL_SOCKET};
#[cfg(doc)]
use crate::wsk::{
    PFN_WSK_ACCEPT_EVENT, PFN_WSK_CONTROL_CLIENT, PFN_WSK_CONTROL_SOCKET, PFN_WSK_DISCONNECT_EVENT,
    PFN_WSK_RECEIVE_EVENT, PFN_WSK_RECEIVE_FROM_EVENT, PFN_WSK_SEND_BACKLOG_EVENT, WSK_INSPECT_ID, WSK_TRANSPORT,
};

/// Which operation [`PFN_WSK_CONTROL_SOCKET`] performs. A C enumeration: [`WskSetOption`] and its siblings.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_control_socket>
pub type WSK_CONTROL_SOCKET_TYPE = INT;
/// Points to a [`WSK_CONTROL_SOCKET_TYPE`].
pub type PWSK_CONTROL_SOCKET_TYPE = *mut WSK_CONTROL_SOCKET_TYPE;
/// Set a socket option, from the input buffer.
pub const WskSetOption: WSK_CONTROL_SOCKET_TYPE = 0;
/// Get a socket option, into the output buffer.
pub const WskGetOption: WSK_CONTROL_SOCKET_TYPE = 1;
/// Perform an I/O control.
pub const WskIoctl: WSK_CONTROL_SOCKET_TYPE = 2;
/// One past the last operation.
pub const WskControlMax: WSK_CONTROL_SOCKET_TYPE = 3;

/// Client control: the transports there are. Output: an array of [`WSK_TRANSPORT`]; no input, no IRP. Called twice, first
/// for the size (`STATUS_BUFFER_OVERFLOW`).
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/wsk-transport-list-query>
pub const WSK_TRANSPORT_LIST_QUERY: ULONG = 2;
/// Client control: completes its IRP when the list of transports changes. No input, no output.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/wsk-transport-list-change>
pub const WSK_TRANSPORT_LIST_CHANGE: ULONG = 3;
/// Client control: makes a cached copy of a security descriptor, for sockets to be created with. Input: the descriptor;
/// output: a pointer to the copy; no IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/wsk-cache-sd>
pub const WSK_CACHE_SD: ULONG = 4;
/// Client control: releases what [`WSK_CACHE_SD`] returned. Input: that pointer; no output, no IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/wsk-release-sd>
pub const WSK_RELEASE_SD: ULONG = 5;
/// Client control: maps combinations of family, type and protocol to TDI device names. Input: [`WSK_TDI_MAP_INFO`]; no
/// output, no IRP. Before any socket exists.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/wsk-tdi-devicename-mapping>
pub const WSK_TDI_DEVICENAME_MAPPING: ULONG = 6;
/// Client control: enables events for all sockets to come, for good: the cheapest way to have them. Input:
/// [`WSK_EVENT_CALLBACK_CONTROL`]; no output, no IRP. Before any socket exists.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/wsk-set-static-event-callbacks>
pub const WSK_SET_STATIC_EVENT_CALLBACKS: ULONG = 7;
/// Client control: whether traffic may be diverted to TDI transports. Input: a `ULONG`,
/// [`WSK_TDI_BEHAVIOR_BYPASS_TDI`]; no output, no IRP. Before any socket exists.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/wsk-tdi-behavior>
pub const WSK_TDI_BEHAVIOR: ULONG = 8;
/// For [`WSK_TDI_BEHAVIOR`]: never divert to TDI, even where TDI filters are installed.
pub const WSK_TDI_BEHAVIOR_BYPASS_TDI: ULONG = 0x0000_0001;

const WSK_SO_BASE: ULONG = 0x4000;

/// Socket option at [`SOL_SOCKET`]: the security descriptor that guards the socket's address. Set, before bind: a pointer
/// to one that [`WSK_CACHE_SD`] returned; get: a pointer to a cached copy, to be released with [`WSK_RELEASE_SD`].
/// Requires an IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/so-wsk-security>
pub const SO_WSK_SECURITY: ULONG = WSK_SO_BASE + 1;
/// Socket option at [`SOL_SOCKET`], set only: turns events on, or one off. Input: [`WSK_EVENT_CALLBACK_CONTROL`]. After
/// bind, or on a connection after connect. A listening socket hands the events of connections on to the sockets it
/// accepts, and cannot turn those off again.
///
/// Turning events on takes no IRP. Turning one off may: while a callback runs, the IRP is pending, or without one
/// `STATUS_EVENT_PENDING` is returned.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/so-wsk-event-callback>
pub const SO_WSK_EVENT_CALLBACK: ULONG = WSK_SO_BASE + 2;

/// Event mask: [`PFN_WSK_RECEIVE_FROM_EVENT`] of datagram sockets.
pub const WSK_EVENT_RECEIVE_FROM: ULONG = 0x0000_0100;
/// Event mask: [`PFN_WSK_ACCEPT_EVENT`] of listening sockets.
pub const WSK_EVENT_ACCEPT: ULONG = 0x0000_0200;
/// Event mask: [`PFN_WSK_SEND_BACKLOG_EVENT`] of connections; on a listening socket, of those it accepts.
pub const WSK_EVENT_SEND_BACKLOG: ULONG = 0x0000_0010;
/// Event mask: [`PFN_WSK_RECEIVE_EVENT`] of connections; on a listening socket, of those it accepts.
pub const WSK_EVENT_RECEIVE: ULONG = 0x0000_0040;
/// Event mask: [`PFN_WSK_DISCONNECT_EVENT`] of connections; on a listening socket, of those it accepts.
pub const WSK_EVENT_DISCONNECT: ULONG = 0x0000_0080;
/// Joined with exactly one other event: turn that one off.
pub const WSK_EVENT_DISABLE: ULONG = 0x8000_0000;

/// The vendor code of WSK's own I/O controls.
pub const IOC_WSK: ULONG = IOC_WS2 | 0x0700_0000;

/// I/O control of a bound datagram socket: only datagrams from this address are received, and it is where datagrams
/// without an address go. Input: a socket address of the socket's family, or nothing to undo it. Requires an IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/sio-wsk-set-remote-address>
pub const SIO_WSK_SET_REMOTE_ADDRESS: ULONG = _WSAIOW(IOC_WSK, 0x1);
/// I/O control: registers an extension interface with a socket. Input: [`WSK_EXTENSION_CONTROL_IN`]; output:
/// [`WSK_EXTENSION_CONTROL_OUT`]; no IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/sio-wsk-register-extension>
pub const SIO_WSK_REGISTER_EXTENSION: ULONG = _WSAIORW(IOC_WSK, 0x2);
/// I/O control of a connection: how many bytes of sends to keep outstanding. Output: a `SIZE_T`. Requires an IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/sio-wsk-query-ideal-send-backlog>
pub const SIO_WSK_QUERY_IDEAL_SEND_BACKLOG: ULONG = _WSAIOR(IOC_WSK, 0x3);
/// I/O control of a connection: how many bytes are waiting to be received. Output: a `SIZE_T`. Requires an
/// IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/sio-wsk-query-receive-backlog>
pub const SIO_WSK_QUERY_RECEIVE_BACKLOG: ULONG = _WSAIOR(IOC_WSK, 0x4);
/// I/O control of a socket accepted under [`SO_CONDITIONAL_ACCEPT`]: which request it came from. Output:
/// [`WSK_INSPECT_ID`]. Takes no IRP; any other socket returns `STATUS_INVALID_DEVICE_REQUEST`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/sio-wsk-query-inspect-id>
pub const SIO_WSK_QUERY_INSPECT_ID: ULONG = _WSAIOR(IOC_WSK, 0x5);
/// I/O control of a bound datagram socket: where datagrams without an address go. Input: a socket address of the socket's
/// family, or nothing to undo it. Requires an IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/sio-wsk-set-sendto-address>
pub const SIO_WSK_SET_SENDTO_ADDRESS: ULONG = _WSAIOW(IOC_WSK, 0x6);
/// I/O control of a TCP connection (Windows 8; not over loopback): from now on nothing is sent for it, and what arrives is
/// discarded. No send or disconnect is pending; later ones return `STATUS_INVALID_DEVICE_STATE`, and the socket can only
/// be closed. No input, no output; requires an IRP.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/network/sio-wsk-set-tcp-silent-mode>
pub const SIO_WSK_SET_TCP_SILENT_MODE: ULONG = _WSAIO(IOC_WSK, 0x7);

/// Which events to turn on or off.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_event_callback_control>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_EVENT_CALLBACK_CONTROL {
    /// Points to [`NPI_WSK_INTERFACE_ID`](crate::NPI_WSK_INTERFACE_ID), or to an extension interface's identifier.
    pub NpiId: PNPIID,
    /// `WSK_EVENT_*`: any number of them to turn on, or one joined with [`WSK_EVENT_DISABLE`].
    pub EventMask: ULONG,
}

/// Points to a [`WSK_EVENT_CALLBACK_CONTROL`].
pub type PWSK_EVENT_CALLBACK_CONTROL = *mut WSK_EVENT_CALLBACK_CONTROL;

/// Input of [`SIO_WSK_REGISTER_EXTENSION`].
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_extension_control_in>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_EXTENSION_CONTROL_IN {
    /// The extension interface.
    pub NpiId: PNPIID,
    /// Passed to the extension's callbacks.
    pub ClientContext: PVOID,
    /// The client's table of callbacks for the extension.
    pub ClientDispatch: PCVOID,
}

/// Points to a [`WSK_EXTENSION_CONTROL_IN`].
pub type PWSK_EXTENSION_CONTROL_IN = *mut WSK_EXTENSION_CONTROL_IN;

/// Output of [`SIO_WSK_REGISTER_EXTENSION`].
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_extension_control_out>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_EXTENSION_CONTROL_OUT {
    /// The first argument of the extension's functions.
    pub ProviderContext: PVOID,
    /// The extension's table of functions.
    pub ProviderDispatch: PCVOID,
}

/// Points to a [`WSK_EXTENSION_CONTROL_OUT`].
pub type PWSK_EXTENSION_CONTROL_OUT = *mut WSK_EXTENSION_CONTROL_OUT;

/// One mapping of a transport to a TDI device.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_tdi_map>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_TDI_MAP {
    /// `SOCK_*`.
    pub SocketType: USHORT,
    /// `AF_*`.
    pub AddressFamily: ADDRESS_FAMILY,
    /// `IPPROTO_*`.
    pub Protocol: ULONG,
    /// NUL-terminated name of the device.
    pub TdiDeviceName: PCWSTR,
}

/// Points to a [`WSK_TDI_MAP`].
pub type PWSK_TDI_MAP = *mut WSK_TDI_MAP;

/// Input of [`WSK_TDI_DEVICENAME_MAPPING`].
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_tdi_map_info>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_TDI_MAP_INFO {
    /// Elements at `Map`.
    pub ElementCount: ULONG,
    /// The mappings.
    pub Map: *const WSK_TDI_MAP,
}

/// Points to a [`WSK_TDI_MAP_INFO`].
pub type PWSK_TDI_MAP_INFO = *mut WSK_TDI_MAP_INFO;
