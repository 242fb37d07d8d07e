//! The layout of every request and reply.

use crate::numbers::{ALL_HANDLES, DISCONNECT_ABORTIVE, ENDPOINTS_OF_ALL_HANDLES, RECEIVE_ALL};
use crate::wire::MAX_PRIVATE_DATA;
use crate::{NtStatus, PROTOCOL_VERSION, SocketAddress};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Names an endpoint for the handle that made it; never used again once the endpoint is closed.
pub type EndpointId = u64;

/// A request structure, read from an input buffer by [`Request::read`].
pub trait Request: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {
    /// The flags that the request knows.
    const FLAGS: u32 = 0;

    /// Its header.
    fn header(&self) -> &Header;

    /// Whether its reserved fields are zero.
    fn reserved_is_zero(&self) -> bool {
        true
    }

    /// Takes a request out of an input buffer.
    ///
    /// # Errors
    ///
    /// - `STATUS_INFO_LENGTH_MISMATCH`: the buffer is not exactly as long as the structure.
    /// - `STATUS_REVISION_MISMATCH`: another [`PROTOCOL_VERSION`].
    /// - `STATUS_INVALID_PARAMETER`: an unknown flag, or a reserved field that is not zero.
    fn read(input: &[u8]) -> Result<Self, NtStatus> {
        let request = Self::read_from_bytes(input).map_err(|_| NtStatus::INFO_LENGTH_MISMATCH)?;
        if request.header().version != PROTOCOL_VERSION {
            return Err(NtStatus::REVISION_MISMATCH);
        }
        if request.header().flags & !Self::FLAGS != 0 || !request.reserved_is_zero() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        Ok(request)
    }
}

macro_rules! structures {
    ($($(#[$doc:meta])* $name:ident: $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
    $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        const _: () = assert!(size_of::<$name>() == $size);
    )*

        /// The layout of every structure, as the compiler has laid it out, for those who describe or check it.
        pub const LAYOUTS: &[Layout] = &[$(Layout {
            name: stringify!($name),
            size: size_of::<$name>(),
            fields: &[$(Field {
                name: stringify!($field),
                offset: core::mem::offset_of!($name, $field),
                size: size_of::<$type>(),
            },)*],
        },)*];
    };
}

/// How a structure lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Its name.
    pub name: &'static str,
    /// Its length in bytes.
    pub size: usize,
    /// Its fields, in their order.
    pub fields: &'static [Field],
}

/// Where a field lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Bytes before it.
    pub offset: usize,
    /// Its length in bytes.
    pub size: usize,
}

structures! {
    /// First field of every request.
    Header: 8 {
        /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION).
        version: u32,
        /// Flags of the request; bits without a meaning for it must be zero.
        flags: u32,
    }

    /// Answer to [`QueryVersion`](crate::ControlCode::QueryVersion).
    VersionReply: 20 {
        /// Oldest [`PROTOCOL_VERSION`] the driver understands.
        oldest_protocol: u32,
        /// Newest [`PROTOCOL_VERSION`] the driver understands.
        newest_protocol: u32,
        /// Version of the driver: major, minor, patch.
        driver: [u32; 3],
    }

    /// Answer to [`QueryStatus`](crate::ControlCode::QueryStatus).
    StatusReply: 16 {
        /// A [`ProviderState`](crate::ProviderState) as a number.
        provider: u32,
        /// The NTSTATUS that the capture of the WSK provider NPI ended with; `STATUS_PENDING` while it goes on.
        capture_status: i32,
        /// The provider's WSK version (major in the high byte of the low word, minor below it); 0 until captured.
        wsk_version: u32,
        /// Endpoints that exist, of all handles, those being closed included.
        endpoints: u32,
    }

    /// Answer to [`QueryLimits`](crate::ControlCode::QueryLimits): the registry parameters in force.
    DeviceLimits: 72 {
        /// `MaxPinnedMiB`, in bytes: registered memory of all handles.
        pinned_bytes: u64,
        /// `MaxPinnedMiBPerHandle`, in bytes.
        pinned_bytes_per_handle: u64,
        /// `MaxEndpoints`: endpoints of all handles.
        endpoints: u32,
        /// `MaxEndpointsPerHandle`.
        endpoints_per_handle: u32,
        /// `MaxBacklog`: connections that may wait at a listener.
        backlog: u32,
        /// `MaxRegions`: registered regions of all handles.
        regions: u32,
        /// `MaxRegionsPerHandle`.
        regions_per_handle: u32,
        /// `MaxMessageSize`: bytes of a SAN message.
        message_size: u32,
        /// `MaxHandshakes`: native connections in the hand-shake.
        handshakes: u32,
        /// `MaxRoutes`: routes, those of the registry included.
        routes: u32,
        /// `HandshakeTimeout`, in milliseconds.
        handshake_timeout: u32,
        /// `ConnectTimeout`, in milliseconds.
        connect_timeout: u32,
        /// `NativePort`: the TCP port at which SAN connections arrive.
        native_port: u32,
        /// `AllowUsers`: 1 if every interactive user may open the device.
        allow_users: u32,
        /// Routes that there are.
        routes_used: u32,
        /// Zero.
        reserved: u32,
    }

    /// Maps a prefix of SAN addresses to a prefix of native ones, of the same family and length.
    Route: 64 {
        /// The first SAN address of the prefix: no bits past its length, port, flow and scope 0.
        san: SocketAddress,
        /// The first native address of the prefix, likewise; its port is where SAN connections arrive at the machines behind
        /// the route, 0 for this machine's own native port.
        native: SocketAddress,
        /// Bits of both prefixes.
        length: u32,
        /// [`ROUTE_SAN_ONLY`](crate::ROUTE_SAN_ONLY); in answers also
        /// [`ROUTE_FROM_REGISTRY`](crate::ROUTE_FROM_REGISTRY).
        flags: u32,
    }

    /// Answer to [`QueryRoutes`](crate::ControlCode::QueryRoutes), in front of the routes: the longer prefixes first.
    RoutesReply: 8 {
        /// Routes that there are. With more than `count`, the request ends with `STATUS_BUFFER_OVERFLOW`.
        total: u32,
        /// Routes that follow: as many as fit.
        count: u32,
    }

    /// Adds a route ([`AddRoute`](crate::ControlCode::AddRoute)).
    AddRouteRequest: 72 {
        /// The header; no flags.
        header: Header,
        /// The route.
        route: Route,
    }

    /// Removes a route ([`RemoveRoute`](crate::ControlCode::RemoveRoute)).
    RemoveRouteRequest: 40 {
        /// The header; no flags.
        header: Header,
        /// The first SAN address of its prefix, as in [`Route`].
        san: SocketAddress,
        /// Bits of the prefix.
        length: u32,
    }

    /// Asks for endpoints ([`QueryEndpoints`](crate::ControlCode::QueryEndpoints)).
    EndpointsRequest: 16 {
        /// The header; [`ENDPOINTS_OF_ALL_HANDLES`](crate::ENDPOINTS_OF_ALL_HANDLES) is the only flag.
        header: Header,
        /// Where to go on: [`EndpointsReply::next`] of the answer before, 0 to begin.
        position: u64,
    }

    /// Answer to [`QueryEndpoints`](crate::ControlCode::QueryEndpoints), in front of the entries.
    EndpointsReply: 16 {
        /// Where to go on, if the request has ended with `STATUS_BUFFER_OVERFLOW` for want of room; 0: that was all.
        next: u64,
        /// Entries that follow.
        count: u32,
        /// Zero.
        reserved: u32,
    }

    /// An endpoint as [`QueryEndpoints`](crate::ControlCode::QueryEndpoints) finds it.
    EndpointEntry: 144 {
        /// The endpoint's id, which is of use through its own handle alone.
        endpoint: EndpointId,
        /// Id of the process that opened the handle; 0 for the kernel's own.
        process: u64,
        /// SAN: messages that TCP has taken. Stream: sends that TCP has taken.
        messages_sent: u64,
        /// Their bytes.
        bytes_sent: u64,
        /// SAN: messages that were received into posted buffers. Stream: receives that have brought bytes.
        messages_received: u64,
        /// Their bytes.
        bytes_received: u64,
        /// Local address; all zeros if the endpoint is not bound.
        local: SocketAddress,
        /// The peer's address; all zeros if the endpoint is not connected.
        remote: SocketAddress,
        /// An [`EndpointKind`](crate::EndpointKind) as a number.
        kind: u32,
        /// An [`EndpointState`](crate::EndpointState) as a number.
        state: u32,
        /// Listeners: connections that wait to be accepted.
        backlog: u32,
        /// Listeners: connections that may wait; 0 for others.
        backlog_limit: u32,
        /// SAN: sends that wait for credits or are on their way.
        sends_queued: u32,
        /// SAN: receives that wait for a message.
        receives_posted: u32,
        /// SAN: messages that the peer has granted and this side has not sent yet.
        send_credits: u32,
        /// SAN: registered regions.
        regions: u32,
        /// SAN: bytes of those regions.
        pinned_bytes: u64,
    }

    /// Asks for handles ([`QueryHandles`](crate::ControlCode::QueryHandles)).
    HandlesRequest: 16 {
        /// The header; [`ALL_HANDLES`](crate::ALL_HANDLES) is the only flag.
        header: Header,
        /// Where to go on: [`HandlesReply::next`] of the answer before, 0 to begin.
        position: u64,
    }

    /// Answer to [`QueryHandles`](crate::ControlCode::QueryHandles), in front of the entries.
    HandlesReply: 16 {
        /// Where to go on, if the request has ended with `STATUS_BUFFER_OVERFLOW` for want of room; 0: that was all.
        next: u64,
        /// Entries that follow.
        count: u32,
        /// Zero.
        reserved: u32,
    }

    /// A handle as [`QueryHandles`](crate::ControlCode::QueryHandles) finds it: what has been done through it since it was opened,
    /// by endpoints that are closed too, and what it holds now.
    HandleEntry: 96 {
        /// Its number, which no other handle ever has.
        handle: u64,
        /// Id of the process that opened it; 0 for a client in the kernel.
        process: u64,
        /// SAN messages that TCP has taken.
        messages_sent: u64,
        /// Bytes of those messages.
        bytes_sent: u64,
        /// SAN messages that were received into posted buffers.
        messages_received: u64,
        /// Bytes of those messages.
        bytes_received: u64,
        /// Sends of streams that TCP has taken.
        stream_sends: u64,
        /// Their bytes.
        stream_bytes_sent: u64,
        /// Receives of streams that have brought bytes.
        stream_receives: u64,
        /// Their bytes.
        stream_bytes_received: u64,
        /// Bytes registered now.
        pinned_bytes: u64,
        /// Endpoints now, and accepts that wait: what `MaxEndpointsPerHandle` limits.
        endpoints: u32,
        /// Regions registered now.
        regions: u32,
    }

    /// Makes an endpoint ([`Create`](crate::ControlCode::Create)).
    CreateRequest: 16 {
        /// The header; no flags.
        header: Header,
        /// An [`EndpointKind`](crate::EndpointKind) as a number.
        kind: u32,
        /// Address family: `AF_INET` (2) or `AF_INET6` (23).
        family: u16,
        /// Zero.
        reserved: u16,
    }

    /// Answer to [`Create`](crate::ControlCode::Create).
    CreateReply: 8 {
        /// The new endpoint.
        endpoint: EndpointId,
    }

    /// A request with nothing to say but which endpoint it is for.
    EndpointRequest: 16 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
    }

    /// Sets an option ([`SetOption`](crate::ControlCode::SetOption)).
    SetOptionRequest: 24 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
        /// A [`SocketOption`](crate::SocketOption) as a number.
        option: u32,
        /// 1 to turn it on, 0 to turn it off.
        value: u32,
    }

    /// Binds an endpoint ([`Bind`](crate::ControlCode::Bind)).
    BindRequest: 48 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
        /// The local address, of the endpoint's family; port 0 lets the system choose.
        address: SocketAddress,
        /// Zero.
        reserved: u32,
    }

    /// Answer to [`Bind`](crate::ControlCode::Bind).
    AddressReply: 28 {
        /// The address that the endpoint is bound to, with its port.
        address: SocketAddress,
    }

    /// Connects ([`Connect`](crate::ControlCode::Connect)).
    ConnectRequest: 48 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
        /// The address to connect to, of the endpoint's family; the port is not 0.
        address: SocketAddress,
        /// Milliseconds after which the attempt ends with `STATUS_IO_TIMEOUT`; 0 leaves it to TCP, on a SAN endpoint to the
        /// driver's limit.
        timeout: u32,
    }

    /// Opens the backlog of a listener ([`Listen`](crate::ControlCode::Listen)).
    ListenRequest: 24 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
        /// Connections that may wait to be accepted; more are refused. [`SOMAXCONN`](crate::SOMAXCONN): a reasonable maximum.
        backlog: u32,
        /// Zero.
        reserved: u32,
    }

    /// Answer to [`Accept`](crate::ControlCode::Accept).
    AcceptReply: 64 {
        /// The new endpoint: connected; of a SAN endpoint undecided, see [`Decide`](crate::ControlCode::Decide).
        endpoint: EndpointId,
        /// Its local address.
        local: SocketAddress,
        /// The peer's address.
        remote: SocketAddress,
    }

    /// Receives ([`Receive`](crate::ControlCode::Receive)).
    ReceiveRequest: 16 {
        /// The header; [`RECEIVE_ALL`](crate::RECEIVE_ALL) is the only flag.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
    }

    /// Ends a connection ([`Disconnect`](crate::ControlCode::Disconnect)).
    DisconnectRequest: 16 {
        /// The header; [`DISCONNECT_ABORTIVE`](crate::DISCONNECT_ABORTIVE) is the only flag.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
    }

    /// Answer to [`QueryAddresses`](crate::ControlCode::QueryAddresses).
    AddressesReply: 56 {
        /// Local address; all zeros if the endpoint is not bound.
        local: SocketAddress,
        /// The peer's address; all zeros if the endpoint is not connected.
        remote: SocketAddress,
    }

    /// Names the event object of an endpoint ([`EventSelect`](crate::ControlCode::EventSelect)).
    EventSelectRequest: 32 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
        /// The caller's handle of an event object, zero-extended; 0 with a mask of 0.
        event: u64,
        /// The network events that set it: [`FD_CONNECT`](crate::FD_CONNECT) and [`FD_ACCEPT`](crate::FD_ACCEPT). 0 lets go of
        /// the event and makes the endpoint blocking again.
        mask: u32,
        /// Zero.
        reserved: u32,
    }

    /// Answer to [`EnumNetworkEvents`](crate::ControlCode::EnumNetworkEvents).
    NetworkEventsReply: 16 {
        /// The network events since the last enumeration.
        events: u32,
        /// With [`FD_CONNECT`](crate::FD_CONNECT): the NTSTATUS that the connect ended with. Otherwise 0.
        connect_status: i32,
        /// With [`FD_ACCEPT`](crate::FD_ACCEPT): the NTSTATUS of the arrival. Otherwise 0.
        accept_status: i32,
        /// Zero.
        reserved: u32,
    }

    /// Decides on a connection that was accepted undecided ([`Decide`](crate::ControlCode::Decide)).
    DecideRequest: 24 {
        /// The header; no flags.
        header: Header,
        /// The undecided endpoint.
        endpoint: EndpointId,
        /// A [`Decision`](crate::Decision) as a number.
        decision: u32,
        /// Zero.
        reserved: u32,
    }

    /// Offers a session to the peer ([`Negotiate`](crate::ControlCode::Negotiate)).
    NegotiateRequest: 280 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
        /// The longest message, in bytes, that the peer may send: no posted receive is shorter.
        receive_size: u32,
        /// Bytes of `private` that go to the peer, at most [`MAX_PRIVATE_DATA`](crate::wire::MAX_PRIVATE_DATA).
        private_length: u32,
        /// Private data for the peer; what lies past `private_length` is not looked at.
        private: [u8; MAX_PRIVATE_DATA],
    }

    /// Answer to [`Negotiate`](crate::ControlCode::Negotiate): what the peer offered.
    NegotiateReply: 272 {
        /// Messages that the peer had receives posted for when it made its offer.
        receive_count: u32,
        /// The longest message, in bytes, that the peer takes.
        receive_size: u32,
        /// Bytes of `private` that the peer sent.
        private_length: u32,
        /// Zero.
        reserved: u32,
        /// The peer's private data; zeros past `private_length`.
        private: [u8; MAX_PRIVATE_DATA],
    }

    /// Registers the output buffer ([`RegisterMemory`](crate::ControlCode::RegisterMemory)).
    RegisterMemoryRequest: 32 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
        /// The caller's name for the region, not used by another registration of the endpoint.
        key: u64,
        /// What it may be used for: [`MEMORY_SEND`](crate::MEMORY_SEND), [`MEMORY_RECEIVE`](crate::MEMORY_RECEIVE), or both.
        rights: u32,
        /// Zero.
        reserved: u32,
    }

    /// Names a registered region ([`QueryMemory`](crate::ControlCode::QueryMemory),
    /// [`DeregisterMemory`](crate::ControlCode::DeregisterMemory)).
    MemoryRequest: 24 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
        /// The key it was registered by.
        key: u64,
    }

    /// Answer to [`QueryMemory`](crate::ControlCode::QueryMemory).
    MemoryReply: 16 {
        /// Bytes registered.
        length: u64,
        /// [`MEMORY_SEND`](crate::MEMORY_SEND), [`MEMORY_RECEIVE`](crate::MEMORY_RECEIVE), or both.
        rights: u32,
        /// Sends and receives that use it now.
        in_use: u32,
    }

    /// Sends from or receives into a slice of a registered region ([`SendRegistered`](crate::ControlCode::SendRegistered),
    /// [`ReceiveRegistered`](crate::ControlCode::ReceiveRegistered)).
    TransferRequest: 40 {
        /// The header; no flags.
        header: Header,
        /// The endpoint.
        endpoint: EndpointId,
        /// The key of the region.
        key: u64,
        /// Where the slice starts, in bytes from the start of the region.
        offset: u64,
        /// Bytes of the slice; not 0.
        length: u32,
        /// Zero.
        reserved: u32,
    }

    /// Answer to [`ReceiveRegistered`](crate::ControlCode::ReceiveRegistered).
    ReceiveReply: 8 {
        /// Bytes of the message, from the start of the slice.
        length: u32,
        /// Zero.
        reserved: u32,
    }

    /// Answer to [`QueryStatistics`](crate::ControlCode::QueryStatistics).
    EndpointStatistics: 56 {
        /// Messages that TCP has taken.
        messages_sent: u64,
        /// Bytes of those messages.
        bytes_sent: u64,
        /// Messages that were received into posted buffers.
        messages_received: u64,
        /// Bytes of those messages.
        bytes_received: u64,
        /// Sends that wait for credits or are on their way.
        sends_queued: u32,
        /// Receives that wait for a message.
        receives_posted: u32,
        /// Messages that the peer has granted and this side has not sent yet.
        send_credits: u32,
        /// Registered regions.
        regions: u32,
        /// Bytes of those regions.
        pinned_bytes: u64,
    }

    /// Answer to [`QueryDeviceStatistics`](crate::ControlCode::QueryDeviceStatistics): of all handles; what has happened, since
    /// the driver was loaded.
    DeviceStatistics: 200 {
        /// SAN messages that TCP has taken.
        messages_sent: u64,
        /// Bytes of those messages.
        bytes_sent: u64,
        /// SAN messages that were received into posted buffers.
        messages_received: u64,
        /// Bytes of those messages.
        bytes_received: u64,
        /// SAN connects that succeeded.
        connects: u64,
        /// SAN connects that failed.
        connect_failures: u64,
        /// SAN connections that were accepted.
        accepts: u64,
        /// SAN connections that were refused because the backlog was full.
        refused_backlog: u64,
        /// SAN connections that were refused in the hand-shake for another reason, or rejected.
        handshakes_refused: u64,
        /// Native connections that did not finish the hand-shake in time.
        handshakes_timed_out: u64,
        /// SAN connections that ended because the peer broke the protocol.
        protocol_violations: u64,
        /// Bytes registered now.
        pinned_bytes: u64,
        /// Sends of streams that TCP has taken.
        stream_sends: u64,
        /// Their bytes.
        stream_bytes_sent: u64,
        /// Receives of streams that have brought bytes.
        stream_receives: u64,
        /// Their bytes.
        stream_bytes_received: u64,
        /// Streams' connects that succeeded.
        stream_connects: u64,
        /// Streams' connects that were tried and failed.
        stream_connect_failures: u64,
        /// Connections that stream listeners have handed out.
        stream_accepts: u64,
        /// Peers of streams that were refused because the backlog was full.
        stream_refused_backlog: u64,
        /// Requests that were refused because of a limit on endpoints, registered memory or routes.
        limits_hit: u64,
        /// Regions registered now.
        regions: u32,
        /// Native connections in the hand-shake now.
        handshakes: u32,
        /// Handles of the device that are open now.
        handles: u32,
        /// Stream connections that exist now, those that wait to be accepted included.
        stream_connections: u32,
        /// Stream listeners that exist now.
        stream_listeners: u32,
        /// SAN endpoints that exist now, those in the hand-shake and those that wait to be accepted included.
        san_endpoints: u32,
        /// Routes that there are now.
        routes: u32,
        /// Zero.
        reserved: u32,
    }
}

impl Header {
    /// The header of a request with these flags.
    #[must_use]
    pub const fn new(flags: u32) -> Self {
        Self { version: PROTOCOL_VERSION, flags }
    }
}

macro_rules! requests {
    ($($name:ident $({ $($item:tt)* })?;)*) => {$(
        impl Request for $name {
            $($($item)*)?

            fn header(&self) -> &Header {
                &self.header
            }
        }
    )*};
}

requests! {
    AddRouteRequest;
    RemoveRouteRequest;
    EndpointsRequest { const FLAGS: u32 = ENDPOINTS_OF_ALL_HANDLES; };
    HandlesRequest { const FLAGS: u32 = ALL_HANDLES; };
    CreateRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
    EndpointRequest;
    SetOptionRequest;
    BindRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
    ConnectRequest;
    ListenRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
    ReceiveRequest { const FLAGS: u32 = RECEIVE_ALL; };
    DisconnectRequest { const FLAGS: u32 = DISCONNECT_ABORTIVE; };
    EventSelectRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
    DecideRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
    NegotiateRequest;
    RegisterMemoryRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
    MemoryRequest;
    TransferRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
}

impl NegotiateRequest {
    /// The private data for the peer; `None` if its length is past [`MAX_PRIVATE_DATA`].
    #[must_use]
    pub fn private_data(&self) -> Option<&[u8]> {
        self.private.get(..self.private_length as usize)
    }
}

impl NegotiateReply {
    /// The peer's private data; `None` if its length is past [`MAX_PRIVATE_DATA`].
    #[must_use]
    pub fn private_data(&self) -> Option<&[u8]> {
        self.private.get(..self.private_length as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ControlCode;
    extern crate std;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = ListenRequest { header: Header::new(0), endpoint: 7, backlog: 4, reserved: 0 };
        assert_eq!(ListenRequest::read(request.as_bytes()), Ok(request));
    }

    #[test]
    fn every_length_but_the_right_one_is_refused() {
        let bytes = [0; 64];
        for length in (0..=64).filter(|&length| length != size_of::<EndpointRequest>()) {
            assert_eq!(EndpointRequest::read(&bytes[..length]), Err(NtStatus::INFO_LENGTH_MISMATCH));
        }
    }

    #[test]
    fn version_flags_and_reserved_fields_are_checked() {
        let good = DisconnectRequest { header: Header::new(DISCONNECT_ABORTIVE), endpoint: 1 };
        assert_eq!(DisconnectRequest::read(good.as_bytes()), Ok(good));
        for bit in 1..32 {
            let bad = DisconnectRequest { header: Header::new(1 << bit), endpoint: 1 };
            assert_eq!(DisconnectRequest::read(bad.as_bytes()), Err(NtStatus::INVALID_PARAMETER));
        }
        let other = DisconnectRequest { header: Header { version: PROTOCOL_VERSION + 1, flags: 0 }, endpoint: 1 };
        assert_eq!(DisconnectRequest::read(other.as_bytes()), Err(NtStatus::REVISION_MISMATCH));
        let padded = CreateRequest { header: Header::new(0), kind: 1, family: 2, reserved: 1 };
        assert_eq!(CreateRequest::read(padded.as_bytes()), Err(NtStatus::INVALID_PARAMETER));
    }

    /// Every reserved field of a request, byte by byte: the request is refused if one is not 0.
    fn refuses_reserved<R: Request>(name: &str) {
        let layout = LAYOUTS.iter().find(|layout| layout.name == name).expect("it has a layout");
        let mut bytes = std::vec![0; layout.size];
        bytes[..4].copy_from_slice(&PROTOCOL_VERSION.to_ne_bytes());
        assert!(R::read(&bytes).is_ok(), "{name}");
        for field in layout.fields {
            for at in field.offset..field.offset + field.size {
                let mut wrong = bytes.clone();
                wrong[at] ^= 0x80;
                let expected = match field.name {
                    "header" if at < 4 => Some(NtStatus::REVISION_MISMATCH),
                    "header" | "reserved" => Some(NtStatus::INVALID_PARAMETER),
                    _ => None,
                };
                assert_eq!(R::read(&wrong).err(), expected, "{name}.{} at {at}", field.name);
            }
        }
        for length in (0..=layout.size + 8).filter(|&length| length != layout.size) {
            let wrong = std::vec![0; length];
            assert_eq!(R::read(&wrong).err(), Some(NtStatus::INFO_LENGTH_MISMATCH), "{name}");
        }
    }

    #[test]
    fn every_request_refuses_what_is_reserved_and_other_lengths() {
        macro_rules! refuse {
            ($($name:ident)*) => {
                let requests: &[&str] = &[$({ refuses_reserved::<$name>(stringify!($name)); stringify!($name) },)*];
                for code in ControlCode::ALL {
                    assert!(code.input().size == 0 || requests.contains(&code.input().name), "{code:?}");
                }
            };
        }
        refuse! {
            AddRouteRequest RemoveRouteRequest EndpointsRequest HandlesRequest
            CreateRequest EndpointRequest SetOptionRequest BindRequest ConnectRequest ListenRequest ReceiveRequest
            DisconnectRequest EventSelectRequest DecideRequest NegotiateRequest RegisterMemoryRequest MemoryRequest
            TransferRequest
        }
    }

    #[test]
    fn layouts_have_no_holes() {
        for layout in LAYOUTS {
            let mut end = 0;
            for field in layout.fields {
                assert_eq!(field.offset, end, "{}.{}", layout.name, field.name);
                end += field.size;
            }
            assert_eq!(end, layout.size, "{}", layout.name);
        }
    }

    #[test]
    fn private_data_is_as_long_as_it_says() {
        let private = core::array::from_fn(|at| u8::try_from(at).unwrap());
        let mut request =
            NegotiateRequest { header: Header::new(0), endpoint: 1, receive_size: 2, private_length: 256, private };
        assert_eq!(request.private_data(), Some(&private[..]));
        request.private_length = 3;
        assert_eq!(request.private_data(), Some(&[0, 1, 2][..]));
        for length in [257, u32::MAX] {
            request.private_length = length;
            assert_eq!(request.private_data(), None);
            let reply =
                NegotiateReply { receive_count: 0, receive_size: 0, private_length: length, reserved: 0, private };
            assert_eq!(reply.private_data(), None);
        }
    }
}
