//! The provider's dispatch tables: what WSK does for its client.
//!
//! The functions that take an IRP share their rules:
//!
//! - The IRP belongs to the caller, has at least one stack location and a completion routine that runs on success, error
//!   and cancel. WSK completes it **whatever the function returned**, and possibly before the function returns.
//! - `STATUS_SUCCESS`: done, the IRP is completed with it. `STATUS_PENDING`: the IRP will be completed later. Anything
//!   else: an error, the IRP is completed with it.
//! - `STATUS_FILE_FORCED_CLOSED`: the socket no longer works; close it as soon as possible.
//! - Buffers and addresses that are given stay valid, and MDLs locked, until the IRP completes.
//!
//! Page: <https://learn.microsoft.com/windows-hardware/drivers/network/using-irps-with-winsock-kernel-functions>
#![allow(non_camel_case_types, non_snake_case)] // C spelling.

#[cfg(doc)]
use crate::ws2def::{AF_INET, IPPROTO_TCP, SO_CONDITIONAL_ACCEPT, SOCK_STREAM, SOL_SOCKET};
#[cfg(doc)]
use crate::ws2ipdef::TCP_FASTOPEN;
#[cfg(doc)]
use crate::wsk::*;

use crate::nt::{
    GUID, NTSTATUS, PCVOID, PEPROCESS, PETHREAD, PIRP, PSECURITY_DESCRIPTOR, PSIZE_T, PULONG, PUNICODE_STRING, PVOID,
    SIZE_T, ULONG, USHORT,
};
use crate::ws2def::{ADDRESS_FAMILY, PADDRINFOEXW, PCMSGHDR, PSOCKADDR};
use crate::wsk::client::{WSK_CLIENT_CONNECTION_DISPATCH, WSK_INSPECT_ACTION};
use crate::wsk::control::WSK_CONTROL_SOCKET_TYPE;
use crate::wsk::{
    PWSK_BUF, PWSK_BUF_LIST, PWSK_CLIENT, PWSK_DATA_INDICATION, PWSK_DATAGRAM_INDICATION, PWSK_INSPECT_ID, PWSK_SOCKET,
};

/// [`PFN_WSK_SOCKET`] makes a basic socket: only controls and close. The absence of the other four flags.
pub const WSK_FLAG_BASIC_SOCKET: ULONG = 0x0000_0000;
/// [`PFN_WSK_SOCKET`] makes a listening socket.
pub const WSK_FLAG_LISTEN_SOCKET: ULONG = 0x0000_0001;
/// [`PFN_WSK_SOCKET`] makes a connection-oriented socket.
pub const WSK_FLAG_CONNECTION_SOCKET: ULONG = 0x0000_0002;
/// [`PFN_WSK_SOCKET`] makes a datagram socket.
pub const WSK_FLAG_DATAGRAM_SOCKET: ULONG = 0x0000_0004;
/// [`PFN_WSK_SOCKET`] makes a stream socket, which later listens or connects (Windows 10 1703).
pub const WSK_FLAG_STREAM_SOCKET: ULONG = 0x0000_0008;
/// [`PFN_WSK_SEND`] sends out-of-band data.
pub const WSK_FLAG_OOB: ULONG = 0x0000_0001;
/// [`PFN_WSK_SEND`] sends this and what is queued before it without delay.
pub const WSK_FLAG_NODELAY: ULONG = 0x0000_0002;
/// [`PFN_WSK_RECEIVE`] completes only when the buffer is full, the peer has disconnected, or the IRP is cancelled.
pub const WSK_FLAG_WAITALL: ULONG = 0x0000_0002;
/// [`PFN_WSK_RECEIVE`] discards everything that arrives from now on; `Length` is zero. Excludes [`WSK_FLAG_WAITALL`].
pub const WSK_FLAG_DRAIN: ULONG = 0x0000_0004;

/// `WskSocket`: creates a socket.
///
/// - `AddressFamily`, `SocketType`, `Protocol`: such as [`AF_INET`], [`SOCK_STREAM`], [`IPPROTO_TCP`].
/// - `Flags`: one of [`WSK_FLAG_BASIC_SOCKET`], [`WSK_FLAG_LISTEN_SOCKET`], [`WSK_FLAG_CONNECTION_SOCKET`],
///   [`WSK_FLAG_DATAGRAM_SOCKET`], [`WSK_FLAG_STREAM_SOCKET`].
/// - `SocketContext`: passed to the callbacks, in non-paged memory. `Dispatch`: the table of callbacks of that category,
///   [`WSK_CLIENT_LISTEN_DISPATCH`], [`WSK_CLIENT_CONNECTION_DISPATCH`], [`WSK_CLIENT_DATAGRAM_DISPATCH`] or
///   [`WSK_CLIENT_STREAM_DISPATCH`]. Both null where no events are wanted, and for basic sockets.
/// - `OwningProcess`, `OwningThread`: whose security context decides when the address is bound; null for the current.
/// - `SecurityDescriptor`: null, or one from [`WSK_CACHE_SD`], not to be released until the IRP completes.
///
/// On success `IoStatus.Information` is the [`PWSK_SOCKET`]. All events of the socket are off.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_socket>
pub type PFN_WSK_SOCKET = Option<
    unsafe extern "system" fn(
        Client: PWSK_CLIENT,
        AddressFamily: ADDRESS_FAMILY,
        SocketType: USHORT,
        Protocol: ULONG,
        Flags: ULONG,
        SocketContext: PVOID,
        Dispatch: PCVOID,
        OwningProcess: PEPROCESS,
        OwningThread: PETHREAD,
        SecurityDescriptor: PSECURITY_DESCRIPTOR,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskSocketConnect`: creates a connection-oriented socket, binds it to `LocalAddress` and connects it to
/// `RemoteAddress`. The address family is that of `LocalAddress`; a wildcard address and port 0 leave the choice to the
/// transport. To set an option first, use [`PFN_WSK_SOCKET`], [`PFN_WSK_BIND`] and [`PFN_WSK_CONNECT`].
///
/// `Flags` is zero; the rest is as in [`PFN_WSK_SOCKET`]. On success `IoStatus.Information` is the [`PWSK_SOCKET`]; on
/// failure no socket remains.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_socket_connect>
pub type PFN_WSK_SOCKET_CONNECT = Option<
    unsafe extern "system" fn(
        Client: PWSK_CLIENT,
        SocketType: USHORT,
        Protocol: ULONG,
        LocalAddress: PSOCKADDR,
        RemoteAddress: PSOCKADDR,
        Flags: ULONG,
        SocketContext: PVOID,
        Dispatch: *const WSK_CLIENT_CONNECTION_DISPATCH,
        OwningProcess: PEPROCESS,
        OwningThread: PETHREAD,
        SecurityDescriptor: PSECURITY_DESCRIPTOR,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskControlClient`: a control operation on the client as a whole.
///
/// `ControlCode` is one of [`WSK_TRANSPORT_LIST_QUERY`], [`WSK_TRANSPORT_LIST_CHANGE`], [`WSK_CACHE_SD`],
/// [`WSK_RELEASE_SD`], [`WSK_SET_STATIC_EVENT_CALLBACKS`], [`WSK_TDI_DEVICENAME_MAPPING`] and [`WSK_TDI_BEHAVIOR`]: each
/// says there what goes in and out, and whether `Irp` must be null. Sizes are in bytes. `OutputSizeReturned` is used
/// where `Irp` is null.
///
/// Returns `STATUS_BUFFER_OVERFLOW` where the output buffer is too small, with the size in `*OutputSizeReturned`.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_control_client>
pub type PFN_WSK_CONTROL_CLIENT = Option<
    unsafe extern "system" fn(
        Client: PWSK_CLIENT,
        ControlCode: ULONG,
        InputSize: SIZE_T,
        InputBuffer: PVOID,
        OutputSize: SIZE_T,
        OutputBuffer: PVOID,
        OutputSizeReturned: PSIZE_T,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskGetAddressInfo` (Windows 7): resolves a host name, a service name or both to socket addresses.
///
/// `NodeName` and `ServiceName` are NUL-terminated inside their lengths; one may be null. `NameSpace` and `Provider`
/// (zero, null: any) choose who resolves, `Hints` what kind of sockets is wanted. On success `*Result` is a list, to be
/// freed by [`PFN_WSK_FREE_ADDRESS_INFO`]. `OwningProcess` and `OwningThread` give the security context of the query.
///
/// Returns also `STATUS_NO_MATCH` (no such name) and `STATUS_INVALID_PARAMETER`.
///
/// IRQL: `PASSIVE_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_get_address_info>
pub type PFN_WSK_GET_ADDRESS_INFO = Option<
    unsafe extern "system" fn(
        Client: PWSK_CLIENT,
        NodeName: PUNICODE_STRING,
        ServiceName: PUNICODE_STRING,
        NameSpace: ULONG,
        Provider: *mut GUID,
        Hints: PADDRINFOEXW,
        Result: *mut PADDRINFOEXW,
        OwningProcess: PEPROCESS,
        OwningThread: PETHREAD,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskFreeAddressInfo` (Windows 7): frees a list that [`PFN_WSK_GET_ADDRESS_INFO`] returned.
///
/// IRQL: `PASSIVE_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_free_address_info>
pub type PFN_WSK_FREE_ADDRESS_INFO = Option<unsafe extern "system" fn(Client: PWSK_CLIENT, AddrInfo: PADDRINFOEXW)>;

/// `WskGetNameInfo` (Windows 7): turns a socket address of `SockAddrLength` bytes into a host name, a service name or
/// both. `NodeName` and `ServiceName` have buffers with room for the terminating NUL; one may be null. `Flags` is made of
/// the `NI_*` constants.
///
/// IRQL: `PASSIVE_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_get_name_info>
pub type PFN_WSK_GET_NAME_INFO = Option<
    unsafe extern "system" fn(
        Client: PWSK_CLIENT,
        SockAddr: PSOCKADDR,
        SockAddrLength: ULONG,
        NodeName: PUNICODE_STRING,
        ServiceName: PUNICODE_STRING,
        Flags: ULONG,
        OwningProcess: PEPROCESS,
        OwningThread: PETHREAD,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskBind`: binds a socket to a local transport address. A listening socket listens from then on. `Flags` is zero.
///
/// An address that is in use, or not one of this machine, is an error; the page does not say which.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_bind>
pub type PFN_WSK_BIND = Option<
    unsafe extern "system" fn(Socket: PWSK_SOCKET, LocalAddress: PSOCKADDR, Flags: ULONG, Irp: PIRP) -> NTSTATUS,
>;

/// `WskConnect`: connects a bound connection-oriented or stream socket. `Flags` is zero.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_connect>
pub type PFN_WSK_CONNECT = Option<
    unsafe extern "system" fn(Socket: PWSK_SOCKET, RemoteAddress: PSOCKADDR, Flags: ULONG, Irp: PIRP) -> NTSTATUS,
>;

/// `WskConnectEx`: as [`PFN_WSK_CONNECT`], and sends `Buffer` (up to 65,535 bytes; may be null) with the connection or
/// right after it; with [`TCP_FASTOPEN`] some of it may travel in the first segment. `Flags` is zero.
///
/// Returns also `STATUS_BUFFER_OVERFLOW` for a longer buffer, `STATUS_INVALID_PARAMETER` for a flag.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_connect_ex>
pub type PFN_WSK_CONNECT_EX = Option<
    unsafe extern "system" fn(
        Socket: PWSK_SOCKET,
        RemoteAddress: PSOCKADDR,
        Buffer: PWSK_BUF,
        Flags: ULONG,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskControlSocket`: sets or gets a socket option, or performs an I/O control, as `RequestType` says.
///
/// `ControlCode` is the option or the control; `Level` is [`SOL_SOCKET`] or a protocol, and is ignored for
/// [`WskIoctl`]. Sizes are in bytes. Whether `Irp` is required, optional or must be null depends on the option.
/// `OutputSizeReturned` is used where `Irp` is null.
///
/// Returns also `STATUS_REQUEST_NOT_ACCEPTED` where `Irp` was null but the operation cannot complete at once, and
/// `STATUS_EVENT_PENDING` where events are being disabled while a callback still runs.
///
/// IRQL: up to `DISPATCH_LEVEL`, unless the option asks for `PASSIVE_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_control_socket>
pub type PFN_WSK_CONTROL_SOCKET = Option<
    unsafe extern "system" fn(
        Socket: PWSK_SOCKET,
        RequestType: WSK_CONTROL_SOCKET_TYPE,
        ControlCode: ULONG,
        Level: ULONG,
        InputSize: SIZE_T,
        InputBuffer: PVOID,
        OutputSize: SIZE_T,
        OutputBuffer: PVOID,
        OutputSizeReturned: PSIZE_T,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskCloseSocket`: cancels what is pending on a socket, waits for its callbacks, and ends it. A connection that has not
/// been disconnected both ways is aborted.
///
/// No other call on the socket may be in progress (pending IRPs may be), and none may follow. Kept indications are
/// released first.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_close_socket>
pub type PFN_WSK_CLOSE_SOCKET = Option<unsafe extern "system" fn(Socket: PWSK_SOCKET, Irp: PIRP) -> NTSTATUS>;

/// `WskAccept`: takes an established connection from a listening socket, or waits for one.
///
/// `Flags` is zero. `AcceptSocketContext` and `AcceptSocketDispatch` are for the new socket's events, or null.
/// `LocalAddress` and `RemoteAddress` are null or non-paged buffers that receive the connection's addresses. On success
/// `IoStatus.Information` is the new [`PWSK_SOCKET`], a connection-oriented one.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_accept>
pub type PFN_WSK_ACCEPT = Option<
    unsafe extern "system" fn(
        ListenSocket: PWSK_SOCKET,
        Flags: ULONG,
        AcceptSocketContext: PVOID,
        AcceptSocketDispatch: *const WSK_CLIENT_CONNECTION_DISPATCH,
        LocalAddress: PSOCKADDR,
        RemoteAddress: PSOCKADDR,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskInspectComplete`: answers a connection request that [`PFN_WSK_INSPECT_EVENT`] left pending, with
/// [`WskInspectAccept`] or [`WskInspectReject`]. Only for sockets with [`SO_CONDITIONAL_ACCEPT`].
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_inspect_complete>
pub type PFN_WSK_INSPECT_COMPLETE = Option<
    unsafe extern "system" fn(
        ListenSocket: PWSK_SOCKET,
        InspectID: PWSK_INSPECT_ID,
        Action: WSK_INSPECT_ACTION,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskSendTo`: sends a datagram from a bound datagram socket.
///
/// `Flags` is zero. `RemoteAddress` may be null where [`SIO_WSK_SET_SENDTO_ADDRESS`] or [`SIO_WSK_SET_REMOTE_ADDRESS`]
/// has fixed it. `ControlInfo` has `ControlInfoLength` bytes, or is null.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_send_to>
pub type PFN_WSK_SEND_TO = Option<
    unsafe extern "system" fn(
        Socket: PWSK_SOCKET,
        Buffer: PWSK_BUF,
        Flags: ULONG,
        RemoteAddress: PSOCKADDR,
        ControlInfoLength: ULONG,
        ControlInfo: PCMSGHDR,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskSendMessages` (Windows 8): as [`PFN_WSK_SEND_TO`], for a list of datagrams in one call.
///
/// IRQL: the page names none; keep to that of [`PFN_WSK_SEND_TO`], up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_send_messages>
pub type PFN_WSK_SEND_MESSAGES = Option<
    unsafe extern "system" fn(
        Socket: PWSK_SOCKET,
        BufferList: PWSK_BUF_LIST,
        Flags: ULONG,
        RemoteAddress: PSOCKADDR,
        ControlInfoLength: ULONG,
        ControlInfo: PCMSGHDR,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskReceiveFrom`: receives a datagram, or waits for one. `IoStatus.Information` is its length in bytes.
///
/// `Flags` is zero. `RemoteAddress` receives the sender, and may be null. `ControlLength` is null, or holds the room at
/// `ControlInfo` and receives the bytes used. `ControlFlags` receives `MSG_BCAST`, `MSG_MCAST`, `MSG_TRUNC` and
/// `MSG_CTRUNC`, and may be null. All of them stay valid until the IRP completes.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_receive_from>
pub type PFN_WSK_RECEIVE_FROM = Option<
    unsafe extern "system" fn(
        Socket: PWSK_SOCKET,
        Buffer: PWSK_BUF,
        Flags: ULONG,
        RemoteAddress: PSOCKADDR,
        ControlLength: PULONG,
        ControlInfo: PCMSGHDR,
        ControlFlags: PULONG,
        Irp: PIRP,
    ) -> NTSTATUS,
>;

/// `WskGetLocalAddress`: the address a socket is bound to, with what the transport chose where it was left open.
/// `LocalAddress` has room for an address of the socket's family.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_get_local_address>
pub type PFN_WSK_GET_LOCAL_ADDRESS =
    Option<unsafe extern "system" fn(Socket: PWSK_SOCKET, LocalAddress: PSOCKADDR, Irp: PIRP) -> NTSTATUS>;

/// `WskGetRemoteAddress`: the address a socket is connected to.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_get_remote_address>
pub type PFN_WSK_GET_REMOTE_ADDRESS =
    Option<unsafe extern "system" fn(Socket: PWSK_SOCKET, RemoteAddress: PSOCKADDR, Irp: PIRP) -> NTSTATUS>;

/// `WskRelease` of a connection: gives back data that [`PFN_WSK_RECEIVE_EVENT`] kept, before the socket is closed.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_release_data_indication_list>
pub type PFN_WSK_RELEASE_DATA_INDICATION_LIST =
    Option<unsafe extern "system" fn(Socket: PWSK_SOCKET, DataIndication: PWSK_DATA_INDICATION) -> NTSTATUS>;

/// `WskRelease` of a datagram socket: gives back datagrams that [`PFN_WSK_RECEIVE_FROM_EVENT`] kept, before the socket
/// is closed.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_release_datagram_indication_list>
pub type PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST =
    Option<unsafe extern "system" fn(Socket: PWSK_SOCKET, DatagramIndication: PWSK_DATAGRAM_INDICATION) -> NTSTATUS>;

/// `WskSend`: sends over a connection. It completes when all of it is sent, since WSK buffers nothing: a client keeps
/// several sends in flight ([`SIO_WSK_QUERY_IDEAL_SEND_BACKLOG`] says how many bytes). `IoStatus.Information` is the
/// number of bytes sent.
///
/// `Flags`: [`WSK_FLAG_NODELAY`], [`WSK_FLAG_OOB`]; a transport that has no such thing returns `STATUS_NOT_SUPPORTED`.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_send>
pub type PFN_WSK_SEND =
    Option<unsafe extern "system" fn(Socket: PWSK_SOCKET, Buffer: PWSK_BUF, Flags: ULONG, Irp: PIRP) -> NTSTATUS>;

/// `WskReceive`: receives from a connection, or waits for data. `IoStatus.Information` is the number of bytes received;
/// zero, for a buffer that is not empty, means that the peer sends no more.
///
/// `Flags`: [`WSK_FLAG_WAITALL`], [`WSK_FLAG_DRAIN`]; a transport that has no such thing returns
/// `STATUS_NOT_SUPPORTED`. A pending receive takes precedence over [`PFN_WSK_RECEIVE_EVENT`].
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_receive>
pub type PFN_WSK_RECEIVE =
    Option<unsafe extern "system" fn(Socket: PWSK_SOCKET, Buffer: PWSK_BUF, Flags: ULONG, Irp: PIRP) -> NTSTATUS>;

/// `WskDisconnect`: ends a connection, gracefully after all sends and `Buffer` (may be null), or abortively at once with
/// [`WSK_FLAG_ABORTIVE`] (`Buffer` is null then).
///
/// After a graceful disconnect the socket still receives. It may stay pending for as long as the peer does not
/// acknowledge: an abortive one, or [`PFN_WSK_CLOSE_SOCKET`], ends it.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_disconnect>
pub type PFN_WSK_DISCONNECT =
    Option<unsafe extern "system" fn(Socket: PWSK_SOCKET, Buffer: PWSK_BUF, Flags: ULONG, Irp: PIRP) -> NTSTATUS>;

/// `WskListen` (Windows 10 1703): makes a bound stream socket a listening one, for good.
///
/// IRQL: up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_listen>
pub type PFN_WSK_LISTEN = Option<unsafe extern "system" fn(Socket: PWSK_SOCKET, Irp: PIRP) -> NTSTATUS>;

/// The provider's functions that need no socket.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_provider_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_PROVIDER_DISPATCH {
    /// The version of WSK that serves this client. The last three functions are there from version 1.0 of Windows 7 on.
    pub Version: USHORT,
    /// Reserved.
    pub Reserved: USHORT,
    /// Creates a socket.
    pub WskSocket: PFN_WSK_SOCKET,
    /// Creates, binds and connects a socket.
    pub WskSocketConnect: PFN_WSK_SOCKET_CONNECT,
    /// Controls the client.
    pub WskControlClient: PFN_WSK_CONTROL_CLIENT,
    /// Resolves a name.
    pub WskGetAddressInfo: PFN_WSK_GET_ADDRESS_INFO,
    /// Frees what `WskGetAddressInfo` returned.
    pub WskFreeAddressInfo: PFN_WSK_FREE_ADDRESS_INFO,
    /// Names an address.
    pub WskGetNameInfo: PFN_WSK_GET_NAME_INFO,
}

/// Points to a [`WSK_PROVIDER_DISPATCH`].
pub type PWSK_PROVIDER_DISPATCH = *mut WSK_PROVIDER_DISPATCH;

/// The functions of a basic socket. Every other socket's table begins with them.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_provider_basic_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_PROVIDER_BASIC_DISPATCH {
    /// Options and controls.
    pub WskControlSocket: PFN_WSK_CONTROL_SOCKET,
    /// Closes the socket.
    pub WskCloseSocket: PFN_WSK_CLOSE_SOCKET,
}

/// Points to a [`WSK_PROVIDER_BASIC_DISPATCH`].
pub type PWSK_PROVIDER_BASIC_DISPATCH = *mut WSK_PROVIDER_BASIC_DISPATCH;

/// The functions of a listening socket.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_provider_listen_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_PROVIDER_LISTEN_DISPATCH {
    /// Options, controls and close.
    pub Basic: WSK_PROVIDER_BASIC_DISPATCH,
    /// Binds the socket, which then listens.
    pub WskBind: PFN_WSK_BIND,
    /// Takes a connection.
    pub WskAccept: PFN_WSK_ACCEPT,
    /// Answers a pended request.
    pub WskInspectComplete: PFN_WSK_INSPECT_COMPLETE,
    /// The address bound to.
    pub WskGetLocalAddress: PFN_WSK_GET_LOCAL_ADDRESS,
}

/// Points to a [`WSK_PROVIDER_LISTEN_DISPATCH`].
pub type PWSK_PROVIDER_LISTEN_DISPATCH = *mut WSK_PROVIDER_LISTEN_DISPATCH;

/// The functions of a datagram socket.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_provider_datagram_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_PROVIDER_DATAGRAM_DISPATCH {
    /// Options, controls and close.
    pub Basic: WSK_PROVIDER_BASIC_DISPATCH,
    /// Binds the socket.
    pub WskBind: PFN_WSK_BIND,
    /// Sends a datagram.
    pub WskSendTo: PFN_WSK_SEND_TO,
    /// Receives a datagram.
    pub WskReceiveFrom: PFN_WSK_RECEIVE_FROM,
    /// Gives kept datagrams back.
    pub WskRelease: PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST,
    /// The address bound to.
    pub WskGetLocalAddress: PFN_WSK_GET_LOCAL_ADDRESS,
    /// Sends a list of datagrams.
    pub WskSendMessages: PFN_WSK_SEND_MESSAGES,
}

/// Points to a [`WSK_PROVIDER_DATAGRAM_DISPATCH`].
pub type PWSK_PROVIDER_DATAGRAM_DISPATCH = *mut WSK_PROVIDER_DATAGRAM_DISPATCH;

/// The functions of a connection-oriented socket, whether it connected or was accepted.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_provider_connection_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_PROVIDER_CONNECTION_DISPATCH {
    /// Options, controls and close.
    pub Basic: WSK_PROVIDER_BASIC_DISPATCH,
    /// Binds the socket, before it connects.
    pub WskBind: PFN_WSK_BIND,
    /// Connects.
    pub WskConnect: PFN_WSK_CONNECT,
    /// The address bound to.
    pub WskGetLocalAddress: PFN_WSK_GET_LOCAL_ADDRESS,
    /// The address connected to.
    pub WskGetRemoteAddress: PFN_WSK_GET_REMOTE_ADDRESS,
    /// Sends.
    pub WskSend: PFN_WSK_SEND,
    /// Receives.
    pub WskReceive: PFN_WSK_RECEIVE,
    /// Disconnects.
    pub WskDisconnect: PFN_WSK_DISCONNECT,
    /// Gives kept data back.
    pub WskRelease: PFN_WSK_RELEASE_DATA_INDICATION_LIST,
    /// Connects and sends.
    pub WskConnectEx: PFN_WSK_CONNECT_EX,
}

/// Points to a [`WSK_PROVIDER_CONNECTION_DISPATCH`].
pub type PWSK_PROVIDER_CONNECTION_DISPATCH = *mut WSK_PROVIDER_CONNECTION_DISPATCH;

/// The functions of a stream socket (Windows 10 1703).
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_provider_stream_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_PROVIDER_STREAM_DISPATCH {
    /// Options, controls and close.
    pub Basic: WSK_PROVIDER_BASIC_DISPATCH,
    /// Binds the socket.
    pub WskBind: PFN_WSK_BIND,
    /// Takes a connection, once the socket listens.
    pub WskAccept: PFN_WSK_ACCEPT,
    /// Connects.
    pub WskConnect: PFN_WSK_CONNECT,
    /// Listens.
    pub WskListen: PFN_WSK_LISTEN,
    /// Sends.
    pub WskSend: PFN_WSK_SEND,
    /// Receives.
    pub WskReceive: PFN_WSK_RECEIVE,
    /// Disconnects.
    pub WskDisconnect: PFN_WSK_DISCONNECT,
    /// Gives kept data back.
    pub WskRelease: PFN_WSK_RELEASE_DATA_INDICATION_LIST,
    /// The address bound to.
    pub WskGetLocalAddress: PFN_WSK_GET_LOCAL_ADDRESS,
    /// The address connected to.
    pub WskGetRemoteAddress: PFN_WSK_GET_REMOTE_ADDRESS,
    /// Connects and sends.
    pub WskConnectEx: PFN_WSK_CONNECT_EX,
}

/// Points to a [`WSK_PROVIDER_STREAM_DISPATCH`].
pub type PWSK_PROVIDER_STREAM_DISPATCH = *mut WSK_PROVIDER_STREAM_DISPATCH;
