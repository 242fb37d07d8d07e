//! The layout of every request and reply.

use crate::{NtStatus, PROTOCOL_VERSION, SocketAddress};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Names an endpoint for the handle that made it; never used again once the endpoint is closed.
pub type EndpointId = u64;

/// First field of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`PROTOCOL_VERSION`].
    pub version: u32,
    /// Flags of the request; bits without a meaning for it must be zero.
    pub flags: u32,
}

impl Header {
    /// The header of a request with these flags.
    #[must_use]
    pub const fn new(flags: u32) -> Self {
        Self { version: PROTOCOL_VERSION, flags }
    }
}

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
    ($($(#[$doc:meta])* $name:ident: $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

structures! {
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
        /// A [`ProviderState`] as a number.
        provider: u32,
        /// The NTSTATUS that the capture of the WSK provider NPI ended with; `STATUS_PENDING` while it goes on.
        capture_status: i32,
        /// The provider's WSK version (major in the high byte of the low word, minor below it); 0 until captured.
        wsk_version: u32,
        /// Endpoints that exist, of all handles, those being closed included.
        endpoints: u32,
    }

    /// Makes an endpoint ([`Create`](crate::ControlCode::Create)).
    CreateRequest: 16 {
        /// The header; no flags.
        header: Header,
        /// An [`EndpointKind`] as a number.
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
        /// A [`SocketOption`] as a number.
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
        /// Milliseconds after which the attempt ends with `STATUS_IO_TIMEOUT`; 0 leaves it to TCP.
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
        /// The new, connected endpoint.
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
    CreateRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
    EndpointRequest;
    SetOptionRequest;
    BindRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
    ConnectRequest;
    ListenRequest { fn reserved_is_zero(&self) -> bool { self.reserved == 0 } };
    ReceiveRequest { const FLAGS: u32 = RECEIVE_ALL; };
    DisconnectRequest { const FLAGS: u32 = DISCONNECT_ABORTIVE; };
}

/// Flag of [`ReceiveRequest`]: complete only when the buffer is full, the peer has ended its side, or on an error
/// (`WSK_FLAG_WAITALL`).
pub const RECEIVE_ALL: u32 = 1;

/// Flag of [`DisconnectRequest`]: reset the connection and drop what is not sent yet (`WSK_FLAG_ABORTIVE`).
pub const DISCONNECT_ABORTIVE: u32 = 1;

/// Backlog that stands for "a reasonable maximum" in [`ListenRequest`], as winsock2.h defines it.
pub const SOMAXCONN: u32 = 0x7FFF_FFFF;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $name { $($(#[$variant_doc])* $variant = $value,)* }

        impl $name {
            /// What `number` stands for; `None` if it stands for nothing.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

numbered! {
    /// What an endpoint is made for. The kinds are WSK's socket categories.
    EndpointKind {
        /// A TCP connection to be made by [`Connect`](crate::ControlCode::Connect).
        StreamConnection = 1,
        /// A TCP listener, whose connections [`Accept`](crate::ControlCode::Accept) hands out.
        StreamListener = 2,
    }
}

numbered! {
    /// How the driver stands to the WSK subsystem.
    ProviderState {
        /// Waiting for the provider NPI.
        Capturing = 0,
        /// The NPI is captured: endpoints work.
        Ready = 1,
        /// The capture failed; `capture_status` says why.
        Failed = 2,
    }
}

numbered! {
    /// Options that [`SetOption`](crate::ControlCode::SetOption) takes.
    SocketOption {
        /// `TCP_NODELAY`: send small segments at once.
        NoDelay = 1,
        /// `SO_KEEPALIVE`: probe an idle peer.
        KeepAlive = 2,
        /// `SO_EXCLUSIVEADDRUSE`: nobody else may bind the port. Before bind only.
        ExclusiveAddressUse = 3,
        /// `SO_REUSEADDR`: share the port with others that say the same. Before bind only.
        ReuseAddress = 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn numbers_without_a_meaning_stay_numbers() {
        assert_eq!(EndpointKind::from_number(1), Some(EndpointKind::StreamConnection));
        assert_eq!(EndpointKind::from_number(0), None);
        assert_eq!(SocketOption::from_number(5), None);
    }
}
