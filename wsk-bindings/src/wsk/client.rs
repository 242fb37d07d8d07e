//! The client's dispatch tables: the callbacks by which WSK reports events.
//!
//! WSK calls them in any thread, at up to `DISPATCH_LEVEL`. They do not wait for other WSK calls to complete, and the
//! addresses they are given end with the call. Events of a socket are off until the client turns them on
//! ([`SO_WSK_EVENT_CALLBACK`], or for all its sockets
//! [`WSK_SET_STATIC_EVENT_CALLBACKS`]); inspect and abort callbacks are on where
//! [`SO_CONDITIONAL_ACCEPT`](crate::SO_CONDITIONAL_ACCEPT) is.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)] // C spelling.

use crate::nt::{INT, NTSTATUS, PVOID, SIZE_T, ULONG, USHORT};
use crate::ws2def::PSOCKADDR;
#[cfg(doc)]
use crate::wsk::{
    PFN_WSK_ACCEPT, PFN_WSK_CLOSE_SOCKET, PFN_WSK_INSPECT_COMPLETE, PFN_WSK_RECEIVE, PFN_WSK_RECEIVE_FROM,
    PFN_WSK_RELEASE_DATA_INDICATION_LIST, PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST, SIO_WSK_QUERY_IDEAL_SEND_BACKLOG,
    SO_WSK_EVENT_CALLBACK, WSK_CLIENT_NPI, WSK_INSPECT_ID, WSK_SET_STATIC_EVENT_CALLBACKS,
};
use crate::wsk::{PWSK_DATA_INDICATION, PWSK_DATAGRAM_INDICATION, PWSK_INSPECT_ID, PWSK_SOCKET};

/// In a callback's `Flags`: the callback runs at `DISPATCH_LEVEL`. Without it the IRQL may still be that high; the flag
/// saves asking.
pub const WSK_FLAG_AT_DISPATCH_LEVEL: ULONG = 0x0000_0008;
/// In a receive callback's `Flags`: the client should not keep the buffers, or give them back as soon as it can.
pub const WSK_FLAG_RELEASE_ASAP: ULONG = 0x0000_0002;
/// In [`PFN_WSK_RECEIVE_EVENT`]'s `Flags`: the data indicated is a whole message, on a message-oriented transport.
pub const WSK_FLAG_ENTIRE_MESSAGE: ULONG = 0x0000_0004;
/// The disconnect is abortive: in [`PFN_WSK_DISCONNECT_EVENT`]'s `Flags` the peer's, in
/// [`PFN_WSK_DISCONNECT`](crate::PFN_WSK_DISCONNECT)'s `Flags` our own. Without it, graceful.
pub const WSK_FLAG_ABORTIVE: ULONG = 0x0000_0001;

/// What to do with a connection request: the answer of [`PFN_WSK_INSPECT_EVENT`] and the argument of
/// [`PFN_WSK_INSPECT_COMPLETE`]. A C enumeration: [`WskInspectReject`] and its siblings.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_inspect_event>
pub type WSK_INSPECT_ACTION = INT;
/// Points to a [`WSK_INSPECT_ACTION`].
pub type PWSK_INSPECT_ACTION = *mut WSK_INSPECT_ACTION;
/// Reject the request now. No accept and no abort callback follows.
pub const WskInspectReject: WSK_INSPECT_ACTION = 0;
/// Go on. An accept or an abort callback may follow.
pub const WskInspectAccept: WSK_INSPECT_ACTION = 1;
/// Decide later, with [`PFN_WSK_INSPECT_COMPLETE`]; an abort callback may come first.
pub const WskInspectPend: WSK_INSPECT_ACTION = 2;
/// One past the last action.
pub const WskInspectMax: WSK_INSPECT_ACTION = 3;

/// `WskClientEvent`: an event of the client as a whole. No event is defined so far, so a client leaves it null.
///
/// `ClientContext` is that of [`WSK_CLIENT_NPI`]; `Information` has `InformationLength` bytes. Returns
/// `STATUS_SUCCESS`.
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_client_event>
pub type PFN_WSK_CLIENT_EVENT = Option<
    unsafe extern "system" fn(
        ClientContext: PVOID,
        EventType: ULONG,
        Information: PVOID,
        InformationLength: SIZE_T,
    ) -> NTSTATUS,
>;

/// `WskReceiveFromEvent`: datagrams have arrived on a datagram socket.
///
/// `Flags` may hold `MSG_BCAST`, `MSG_MCAST` and [`WSK_FLAG_AT_DISPATCH_LEVEL`]. A null `DataIndication` means that the
/// socket no longer works and is to be closed.
///
/// Returns `STATUS_SUCCESS` (consumed), `STATUS_PENDING` (kept, until
/// [`PFN_WSK_RELEASE_DATAGRAM_INDICATION_LIST`]) or `STATUS_DATA_NOT_ACCEPTED` (WSK may buffer them; no more events
/// until they are enabled again, [`PFN_WSK_RECEIVE_FROM`] fetches).
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_receive_from_event>
pub type PFN_WSK_RECEIVE_FROM_EVENT = Option<
    unsafe extern "system" fn(SocketContext: PVOID, Flags: ULONG, DataIndication: PWSK_DATAGRAM_INDICATION) -> NTSTATUS,
>;

/// `WskAcceptEvent`: a listening socket has accepted a connection.
///
/// The client stores a context and a table of callbacks for the new socket through `AcceptSocketContext` and
/// `AcceptSocketDispatch`, or null where it wants no events of it. A null `AcceptSocket` means that the listening
/// socket no longer works and is to be closed.
///
/// Returns `STATUS_SUCCESS` (the socket is the client's) or `STATUS_REQUEST_NOT_ACCEPTED` (WSK closes it).
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_accept_event>
pub type PFN_WSK_ACCEPT_EVENT = Option<
    unsafe extern "system" fn(
        SocketContext: PVOID,
        Flags: ULONG,
        LocalAddress: PSOCKADDR,
        RemoteAddress: PSOCKADDR,
        AcceptSocket: PWSK_SOCKET,
        AcceptSocketContext: *mut PVOID,
        AcceptSocketDispatch: *mut *const WSK_CLIENT_CONNECTION_DISPATCH,
    ) -> NTSTATUS,
>;

/// `WskInspectEvent`: a connection request has come to a conditional-accept listening socket, and is not answered yet.
///
/// `InspectID` names the request; copy it to answer later. Where it is null, the listening socket no longer works and
/// is to be closed.
///
/// Returns [`WskInspectAccept`], [`WskInspectReject`] or [`WskInspectPend`].
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_inspect_event>
pub type PFN_WSK_INSPECT_EVENT = Option<
    unsafe extern "system" fn(
        SocketContext: PVOID,
        LocalAddress: PSOCKADDR,
        RemoteAddress: PSOCKADDR,
        InspectID: PWSK_INSPECT_ID,
    ) -> WSK_INSPECT_ACTION,
>;

/// `WskAbortEvent`: a request that [`PFN_WSK_INSPECT_EVENT`] reported has been dropped. It may race
/// [`PFN_WSK_INSPECT_COMPLETE`].
///
/// `InspectID` names the request by its contents. Returns `STATUS_SUCCESS`, nothing else.
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_abort_event>
pub type PFN_WSK_ABORT_EVENT =
    Option<unsafe extern "system" fn(SocketContext: PVOID, InspectID: PWSK_INSPECT_ID) -> NTSTATUS>;

/// `WskSendBacklogEvent`: the ideal amount of outstanding send data of a connection has changed.
///
/// `IdealBacklogSize` is in bytes; [`SIO_WSK_QUERY_IDEAL_SEND_BACKLOG`] asks for the same number. Returns
/// `STATUS_SUCCESS`, nothing else.
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_send_backlog_event>
pub type PFN_WSK_SEND_BACKLOG_EVENT =
    Option<unsafe extern "system" fn(SocketContext: PVOID, IdealBacklogSize: SIZE_T) -> NTSTATUS>;

/// `WskReceiveEvent`: data has arrived on a connection.
///
/// `Flags` may hold [`WSK_FLAG_RELEASE_ASAP`], [`WSK_FLAG_ENTIRE_MESSAGE`] and [`WSK_FLAG_AT_DISPATCH_LEVEL`].
/// `BytesIndicated` is the length of the whole list. A null `DataIndication` means that the socket no longer works and
/// is to be closed.
///
/// Returns `STATUS_SUCCESS`: consumed, all of it unless the client stores less in `*BytesAccepted`, after which events
/// stop until a [`PFN_WSK_RECEIVE`] completes; `STATUS_PENDING`: kept, until
/// [`PFN_WSK_RELEASE_DATA_INDICATION_LIST`]; `STATUS_DATA_NOT_ACCEPTED`: nothing was taken, and events stop until a
/// [`PFN_WSK_RECEIVE`] completes.
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_receive_event>
pub type PFN_WSK_RECEIVE_EVENT = Option<
    unsafe extern "system" fn(
        SocketContext: PVOID,
        Flags: ULONG,
        DataIndication: PWSK_DATA_INDICATION,
        BytesIndicated: SIZE_T,
        BytesAccepted: *mut SIZE_T,
    ) -> NTSTATUS,
>;

/// `WskDisconnectEvent`: the peer has disconnected; abortively where `Flags` holds [`WSK_FLAG_ABORTIVE`], otherwise it
/// only sends no more.
///
/// Returns `STATUS_SUCCESS`, nothing else. The socket remains to be closed by [`PFN_WSK_CLOSE_SOCKET`].
///
/// IRQL: called at up to `DISPATCH_LEVEL`.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/nc-wsk-pfn_wsk_disconnect_event>
pub type PFN_WSK_DISCONNECT_EVENT = Option<unsafe extern "system" fn(SocketContext: PVOID, Flags: ULONG) -> NTSTATUS>;

/// The client's table of functions.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_client_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_CLIENT_DISPATCH {
    /// The version of WSK that the client is written to: [`MAKE_WSK_VERSION(1, 0)`](crate::MAKE_WSK_VERSION).
    pub Version: USHORT,
    /// Zero.
    pub Reserved: USHORT,
    /// May be null.
    pub WskClientEvent: PFN_WSK_CLIENT_EVENT,
}

/// Points to a [`WSK_CLIENT_DISPATCH`].
pub type PWSK_CLIENT_DISPATCH = *mut WSK_CLIENT_DISPATCH;

/// The callbacks of a listening socket. Those that stay off may be null.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_client_listen_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct WSK_CLIENT_LISTEN_DISPATCH {
    /// A connection was accepted. Without it, [`PFN_WSK_ACCEPT`] fetches connections.
    pub WskAcceptEvent: PFN_WSK_ACCEPT_EVENT,
    /// A request wants an answer; required for conditional accept.
    pub WskInspectEvent: PFN_WSK_INSPECT_EVENT,
    /// A request was dropped; required for conditional accept.
    pub WskAbortEvent: PFN_WSK_ABORT_EVENT,
}

/// Points to a [`WSK_CLIENT_LISTEN_DISPATCH`].
pub type PWSK_CLIENT_LISTEN_DISPATCH = *mut WSK_CLIENT_LISTEN_DISPATCH;

/// The callbacks of a datagram socket.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_client_datagram_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct WSK_CLIENT_DATAGRAM_DISPATCH {
    /// Datagrams arrived. Without it, [`PFN_WSK_RECEIVE_FROM`] fetches them.
    pub WskReceiveFromEvent: PFN_WSK_RECEIVE_FROM_EVENT,
}

/// Points to a [`WSK_CLIENT_DATAGRAM_DISPATCH`].
pub type PWSK_CLIENT_DATAGRAM_DISPATCH = *mut WSK_CLIENT_DATAGRAM_DISPATCH;

/// The callbacks of a connected or accepted socket. Those that stay off may be null.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_client_connection_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct WSK_CLIENT_CONNECTION_DISPATCH {
    /// Data arrived. Without it, [`PFN_WSK_RECEIVE`] fetches it.
    pub WskReceiveEvent: PFN_WSK_RECEIVE_EVENT,
    /// The peer disconnected.
    pub WskDisconnectEvent: PFN_WSK_DISCONNECT_EVENT,
    /// The ideal send backlog changed.
    pub WskSendBacklogEvent: PFN_WSK_SEND_BACKLOG_EVENT,
}

/// Points to a [`WSK_CLIENT_CONNECTION_DISPATCH`].
pub type PWSK_CLIENT_CONNECTION_DISPATCH = *mut WSK_CLIENT_CONNECTION_DISPATCH;

/// The callbacks of a stream socket (Windows 10 1703), which can become either a listening or a connected one.
///
/// Page: <https://learn.microsoft.com/windows-hardware/drivers/ddi/wsk/ns-wsk-_wsk_client_stream_dispatch>
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct WSK_CLIENT_STREAM_DISPATCH {
    /// Used once the socket listens; may be null.
    pub Listen: *const WSK_CLIENT_LISTEN_DISPATCH,
    /// Used once the socket is connected; may be null.
    pub Connect: *const WSK_CLIENT_CONNECTION_DISPATCH,
}

/// Points to a [`WSK_CLIENT_STREAM_DISPATCH`].
pub type PWSK_CLIENT_STREAM_DISPATCH = *mut WSK_CLIENT_STREAM_DISPATCH;
