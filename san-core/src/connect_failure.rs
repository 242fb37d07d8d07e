//! Why a connect failed, and which error its caller may be told.
//!
//! A switch that hears `WSAECONNRESET`, `WSAECONNREFUSED` or `WSAEHOSTUNREACH` does not try TCP/IP any more
//! (WSPConnect, Winsock Direct). So those three come out only where TCP/IP is certain to fail as well; what leaves a doubt
//! is a time-out.

use san_protocol::NtStatus;
use san_protocol::wire::RejectReason;

/// Who reaches the addresses of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// TCP/IP as well: what fails here may succeed there.
    AlsoTcp,
    /// SAN endpoints alone: what fails here fails for good.
    SanOnly,
}

/// Why a connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// No route maps the SAN address to a native one.
    NoRoute,
    /// The native machine refused the TCP connection: no SAN provider runs there.
    NativeRefused,
    /// The native host is not reachable.
    HostUnreachable,
    /// The native network is not reachable.
    NetworkUnreachable,
    /// No answer in time.
    TimedOut,
    /// [`RejectReason::NobodyListens`].
    NobodyListens,
    /// [`RejectReason::BacklogFull`].
    BacklogFull,
    /// [`RejectReason::Refused`].
    Refused,
    /// [`RejectReason::NoSuchAddress`].
    NoSuchAddress,
    /// [`RejectReason::Busy`].
    Busy,
    /// The native connection ended before there was an answer.
    PeerVanished,
    /// The answer was none of this protocol, or the peer says that the request was none of its version.
    Violation,
    /// Memory, or another resource, ran out here.
    Resources,
    /// The network is not up here.
    NetworkDown,
    /// The native address is none of this machine's (any more).
    AddressNotAvailable,
    /// The connect was cancelled.
    Cancelled,
    /// WSK gave a status without a meaning of its own here.
    Unknown(NtStatus),
}

impl ConnectFailure {
    /// What `WskSocket`, `WskBind` or `WskConnect` failed with.
    #[must_use]
    pub const fn of_native(status: NtStatus) -> Self {
        match status {
            NtStatus::CONNECTION_REFUSED => Self::NativeRefused,
            NtStatus::HOST_UNREACHABLE => Self::HostUnreachable,
            NtStatus::NETWORK_UNREACHABLE | NtStatus::BAD_NETWORK_PATH => Self::NetworkUnreachable,
            NtStatus::IO_TIMEOUT => Self::TimedOut,
            NtStatus::CONNECTION_RESET | NtStatus::REMOTE_DISCONNECT => Self::PeerVanished,
            NtStatus::INSUFFICIENT_RESOURCES | NtStatus::NO_MEMORY | NtStatus::TOO_MANY_ADDRESSES => Self::Resources,
            NtStatus::DEVICE_NOT_READY => Self::NetworkDown,
            NtStatus::INVALID_ADDRESS_COMPONENT => Self::AddressNotAvailable,
            NtStatus::CANCELLED | NtStatus::REQUEST_ABORTED => Self::Cancelled,
            other => Self::Unknown(other),
        }
    }

    /// The cause in words, for whoever looks for it.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::NoRoute => "no route maps the SAN address to a native one",
            Self::NativeRefused => "the machine refused the TCP connection: nobody listens at its port",
            Self::HostUnreachable => "the host is not reachable",
            Self::NetworkUnreachable => "the network is not reachable",
            Self::TimedOut => "no answer in time",
            Self::NobodyListens => "nobody listens at the SAN address and port",
            Self::BacklogFull => "the listener's backlog is full",
            Self::Refused => "the application refused the connection",
            Self::NoSuchAddress => {
                "the peer does not have the SAN address, or takes the native one for somebody else's"
            }
            Self::Busy => "the peer has too many hand-shakes under way",
            Self::PeerVanished => "the native connection ended before there was an answer",
            Self::Violation => "the peer does not speak this protocol, or another version of it",
            Self::Resources => "memory or another resource ran out here",
            Self::NetworkDown => "the network is not up here",
            Self::AddressNotAvailable => "the address to connect from is none of this machine's",
            Self::Cancelled => "the connect was cancelled",
            Self::Unknown(_) => "WSK failed for a reason of its own: see the status",
        }
    }

    /// What the connect completes with.
    #[must_use]
    pub const fn status(self, reach: Reach) -> NtStatus {
        match (self, reach) {
            // A full backlog or an application that says no answers TCP/IP the same way.
            (Self::BacklogFull | Self::Refused, Reach::AlsoTcp | Reach::SanOnly) => NtStatus::CONNECTION_REFUSED,
            (Self::NobodyListens | Self::NativeRefused, Reach::SanOnly) => NtStatus::CONNECTION_RESET,
            (Self::HostUnreachable | Self::NoSuchAddress, Reach::SanOnly) => NtStatus::HOST_UNREACHABLE,
            (
                Self::NobodyListens | Self::NativeRefused | Self::HostUnreachable | Self::NoSuchAddress,
                Reach::AlsoTcp,
            ) => NtStatus::IO_TIMEOUT,
            (Self::NoRoute | Self::NetworkUnreachable, _) => NtStatus::NETWORK_UNREACHABLE,
            (Self::Resources, _) => NtStatus::INSUFFICIENT_RESOURCES,
            (Self::NetworkDown, _) => NtStatus::DEVICE_NOT_READY,
            (Self::AddressNotAvailable, _) => NtStatus::INVALID_ADDRESS_COMPONENT,
            (Self::Cancelled, _) => NtStatus::CANCELLED,
            (Self::TimedOut | Self::Busy | Self::PeerVanished | Self::Violation | Self::Unknown(_), _) => {
                NtStatus::IO_TIMEOUT
            }
        }
    }
}

impl From<RejectReason> for ConnectFailure {
    fn from(reason: RejectReason) -> Self {
        match reason {
            RejectReason::NobodyListens => Self::NobodyListens,
            RejectReason::BacklogFull => Self::BacklogFull,
            RejectReason::Refused => Self::Refused,
            RejectReason::NoSuchAddress => Self::NoSuchAddress,
            RejectReason::Busy => Self::Busy,
            RejectReason::Version => Self::Violation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use san_protocol::{WsaError, wsa_error};

    /// Failure, error where TCP/IP reaches the address too, error where it does not.
    const TABLE: [(ConnectFailure, WsaError, WsaError); 17] = [
        (ConnectFailure::NoRoute, WsaError::WSAENETUNREACH, WsaError::WSAENETUNREACH),
        (ConnectFailure::NativeRefused, WsaError::WSAETIMEDOUT, WsaError::WSAECONNRESET),
        (ConnectFailure::HostUnreachable, WsaError::WSAETIMEDOUT, WsaError::WSAEHOSTUNREACH),
        (ConnectFailure::NetworkUnreachable, WsaError::WSAENETUNREACH, WsaError::WSAENETUNREACH),
        (ConnectFailure::TimedOut, WsaError::WSAETIMEDOUT, WsaError::WSAETIMEDOUT),
        (ConnectFailure::NobodyListens, WsaError::WSAETIMEDOUT, WsaError::WSAECONNRESET),
        (ConnectFailure::BacklogFull, WsaError::WSAECONNREFUSED, WsaError::WSAECONNREFUSED),
        (ConnectFailure::Refused, WsaError::WSAECONNREFUSED, WsaError::WSAECONNREFUSED),
        (ConnectFailure::NoSuchAddress, WsaError::WSAETIMEDOUT, WsaError::WSAEHOSTUNREACH),
        (ConnectFailure::Busy, WsaError::WSAETIMEDOUT, WsaError::WSAETIMEDOUT),
        (ConnectFailure::PeerVanished, WsaError::WSAETIMEDOUT, WsaError::WSAETIMEDOUT),
        (ConnectFailure::Violation, WsaError::WSAETIMEDOUT, WsaError::WSAETIMEDOUT),
        (ConnectFailure::Resources, WsaError::WSAENOBUFS, WsaError::WSAENOBUFS),
        (ConnectFailure::NetworkDown, WsaError::WSAENETDOWN, WsaError::WSAENETDOWN),
        (ConnectFailure::AddressNotAvailable, WsaError::WSAEADDRNOTAVAIL, WsaError::WSAEADDRNOTAVAIL),
        (ConnectFailure::Cancelled, WsaError::WSA_OPERATION_ABORTED, WsaError::WSA_OPERATION_ABORTED),
        (ConnectFailure::Unknown(NtStatus::UNSUCCESSFUL), WsaError::WSAETIMEDOUT, WsaError::WSAETIMEDOUT),
    ];

    /// Place of a failure in the table; a new one does not compile until it has a row.
    const fn row(failure: ConnectFailure) -> usize {
        match failure {
            ConnectFailure::NoRoute => 0,
            ConnectFailure::NativeRefused => 1,
            ConnectFailure::HostUnreachable => 2,
            ConnectFailure::NetworkUnreachable => 3,
            ConnectFailure::TimedOut => 4,
            ConnectFailure::NobodyListens => 5,
            ConnectFailure::BacklogFull => 6,
            ConnectFailure::Refused => 7,
            ConnectFailure::NoSuchAddress => 8,
            ConnectFailure::Busy => 9,
            ConnectFailure::PeerVanished => 10,
            ConnectFailure::Violation => 11,
            ConnectFailure::Resources => 12,
            ConnectFailure::NetworkDown => 13,
            ConnectFailure::AddressNotAvailable => 14,
            ConnectFailure::Cancelled => 15,
            ConnectFailure::Unknown(_) => 16,
        }
    }

    #[test]
    fn every_failure_on_every_kind_of_route_has_its_error() {
        for (at, (failure, also_tcp, san_only)) in TABLE.into_iter().enumerate() {
            assert_eq!(row(failure), at, "{failure:?}");
            assert_eq!(wsa_error(failure.status(Reach::AlsoTcp)), also_tcp, "{failure:?}, TCP/IP reaches it too");
            assert_eq!(wsa_error(failure.status(Reach::SanOnly)), san_only, "{failure:?}, TCP/IP does not reach it");
        }
    }

    #[test]
    fn the_certain_errors_never_come_out_where_tcp_could_still_succeed() {
        let certain = [WsaError::WSAECONNRESET, WsaError::WSAECONNREFUSED, WsaError::WSAEHOSTUNREACH];
        for (failure, _, _) in TABLE {
            let error = wsa_error(failure.status(Reach::AlsoTcp));
            // Only an answer of the listening application itself is certain: it gives it to TCP/IP as well.
            let answered = matches!(failure, ConnectFailure::BacklogFull | ConnectFailure::Refused);
            assert_eq!(certain.contains(&error), answered, "{failure:?} gives {error}");
        }
    }

    #[test]
    fn whatever_wsk_fails_with_is_certain_only_where_tcp_does_not_reach() {
        let certain = [WsaError::WSAECONNRESET, WsaError::WSAECONNREFUSED, WsaError::WSAEHOSTUNREACH];
        let known = [
            (NtStatus::CONNECTION_REFUSED, WsaError::WSAECONNRESET),
            (NtStatus::HOST_UNREACHABLE, WsaError::WSAEHOSTUNREACH),
            (NtStatus::NETWORK_UNREACHABLE, WsaError::WSAENETUNREACH),
            (NtStatus::BAD_NETWORK_PATH, WsaError::WSAENETUNREACH),
            (NtStatus::IO_TIMEOUT, WsaError::WSAETIMEDOUT),
            (NtStatus::CONNECTION_RESET, WsaError::WSAETIMEDOUT),
            (NtStatus::PORT_UNREACHABLE, WsaError::WSAETIMEDOUT),
            (NtStatus::INSUFFICIENT_RESOURCES, WsaError::WSAENOBUFS),
            (NtStatus::DEVICE_NOT_READY, WsaError::WSAENETDOWN),
            (NtStatus::INVALID_ADDRESS_COMPONENT, WsaError::WSAEADDRNOTAVAIL),
            (NtStatus::CANCELLED, WsaError::WSA_OPERATION_ABORTED),
            (NtStatus::UNSUCCESSFUL, WsaError::WSAETIMEDOUT),
        ];
        for (status, san_only) in known {
            let failure = ConnectFailure::of_native(status);
            assert_eq!(wsa_error(failure.status(Reach::SanOnly)), san_only, "{status}");
            assert!(!certain.contains(&wsa_error(failure.status(Reach::AlsoTcp))), "{status}");
        }
    }
}
