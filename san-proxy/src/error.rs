//! What failed, why, and what to do about it.

use san_protocol::{ControlCode, NtStatus, WsaError, wsa_error};
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// What was asked of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening the device.
    Open,
    /// Making an event object.
    CreateEvent,
    /// Using memory that is registered, in user mode.
    UseMemory,
    /// Choosing what kind of socket to make, in user mode.
    Socket,
    /// A request.
    Request(ControlCode),
}

/// A request that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error {
    operation: Operation,
    status: NtStatus,
    winsock: WsaError,
    address: Option<SocketAddr>,
}

impl Error {
    /// `operation` failed with `status`.
    #[must_use]
    pub const fn new(operation: Operation, status: NtStatus) -> Self {
        let winsock = match (operation, status) {
            (Operation::Request(ControlCode::Create), NtStatus::NOT_SUPPORTED) => WsaError::WSAEAFNOSUPPORT,
            (Operation::Open, NtStatus::OBJECT_NAME_NOT_FOUND) => WsaError::WSAENETDOWN,
            (_, status) => wsa_error(status),
        };
        Self { operation, status, winsock, address: None }
    }

    /// A kind of socket that is not offered. No NTSTATUS tells these apart.
    pub(crate) const fn no_such_socket(winsock: WsaError) -> Self {
        Self { winsock, ..Self::new(Operation::Socket, NtStatus::NOT_SUPPORTED) }
    }

    /// The same, about an address.
    #[must_use]
    pub const fn at(self, address: SocketAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    /// What was asked for.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// What the driver, or the kernel before it, answered.
    #[must_use]
    pub const fn status(&self) -> NtStatus {
        self.status
    }

    /// The Winsock error that stands for it.
    #[must_use]
    pub const fn wsa_error(&self) -> WsaError {
        self.winsock
    }

    /// What a person can do about it; `None` where the error says all there is to say.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match (self.operation, self.status) {
            (Operation::Open, NtStatus::OBJECT_NAME_NOT_FOUND) => Some(
                "the driver is not loaded: start its service (sc.exe start sanwsk); before the first time, install it (pnputil /add-driver sanwsk.inf /install)",
            ),
            (Operation::Open, NtStatus::NO_SUCH_DEVICE) => Some(
                "the driver is being stopped, and goes when the last program has closed it: close them, then start it (sc.exe start sanwsk)",
            ),
            (Operation::Open, NtStatus::NOT_SUPPORTED) => {
                Some("the driver runs on Windows; elsewhere, cargo harness sanctl runs the same command against it")
            }
            (
                Operation::Request(
                    ControlCode::AddRoute
                    | ControlCode::RemoveRoute
                    | ControlCode::QueryEndpoints
                    | ControlCode::QueryHandles,
                ),
                NtStatus::PRIVILEGE_NOT_HELD,
            ) => {
                Some("run it as an administrator: routes, and the handles and endpoints of other programs, are theirs")
            }
            (Operation::Request(ControlCode::AddRoute), NtStatus::OBJECT_NAME_COLLISION) => {
                Some("there is a route for that SAN prefix: sanctl route list shows it; remove it first")
            }
            (Operation::Request(ControlCode::AddRoute), NtStatus::INVALID_PARAMETER) => Some(
                "both prefixes are of one family and length, without bits past it, and a native port is 1 to 65535",
            ),
            (Operation::Request(ControlCode::AddRoute), NtStatus::INSUFFICIENT_RESOURCES) => {
                Some("the driver has as many routes as it may have: remove one, or raise MaxRoutes in its registry key")
            }
            (Operation::Request(ControlCode::RemoveRoute), NtStatus::OBJECT_NAME_NOT_FOUND) => {
                Some("there is no route for that SAN prefix: sanctl route list shows those that there are")
            }
            (_, NtStatus::ACCESS_DENIED | NtStatus::PRIVILEGE_NOT_HELD) => Some(
                "run it as an administrator, or let the driver's administrator widen the device's security descriptor",
            ),
            (_, NtStatus::DEVICE_NOT_READY) => Some(
                "the driver waits for the Windows network stack: try again shortly; sanctl status shows how it stands",
            ),
            (_, NtStatus::NOINTERFACE) => Some("the driver got no interface from the network stack: see sanctl status"),
            (_, NtStatus::REVISION_MISMATCH) => Some(
                "driver and program are of different versions: sanctl status shows the driver's; update the older one",
            ),
            (_, NtStatus::CONNECTION_REFUSED) => {
                Some("nobody listens at that address and port, or the listener's backlog is full: check the server")
            }
            (_, NtStatus::HOST_UNREACHABLE | NtStatus::NETWORK_UNREACHABLE | NtStatus::BAD_NETWORK_PATH) => Some(
                "there is no route to that address: check the address, the SAN's routes (sanctl route list) and TCP/IP's (route print)",
            ),
            (_, NtStatus::CONNECTION_RESET | NtStatus::CONNECTION_ABORTED) => Some(
                "the other side, or something between, has broken the connection off: see what the other side says",
            ),
            (_, NtStatus::IO_TIMEOUT) => {
                Some("there was no answer in time: check the address and the firewalls between, or give it more time")
            }
            (_, NtStatus::ADDRESS_ALREADY_EXISTS | NtStatus::TOO_MANY_ADDRESSES) => {
                Some("another program has that port: choose another one, or 0 for any free one")
            }
            (Operation::Request(ControlCode::Bind | ControlCode::Connect), NtStatus::INVALID_ADDRESS_COMPONENT) => {
                Some("give one of this machine's addresses to listen on, and a real address and port to connect to")
            }
            (Operation::Request(ControlCode::Create), NtStatus::NOT_SUPPORTED) => {
                Some("the driver knows IPv4 and IPv6 only")
            }
            (Operation::Socket, _) => Some("SAN sockets are streams: ask for SOCK_STREAM and IPPROTO_TCP"),
            (_, NtStatus::CANT_WAIT) => {
                Some("the endpoint is non-blocking: wait for its event, then ask for its network events")
            }
            (_, NtStatus::LOCK_NOT_GRANTED) => {
                Some("a send or receive has that part of the memory: wait for its end, or use another part")
            }
            (Operation::Request(ControlCode::Negotiate), NtStatus::INVALID_BUFFER_SIZE) => {
                Some("private data of a session has at most 256 bytes")
            }
            (Operation::Request(ControlCode::ReceiveRegistered), NtStatus::INVALID_BUFFER_SIZE) => {
                Some("post no less than the receive size that the session was negotiated with")
            }
            (_, NtStatus::INVALID_BUFFER_SIZE) => {
                Some("send no more at once than the peer takes: its receive size is in what it negotiated")
            }
            (_, NtStatus::INVALID_NETWORK_RESPONSE) => Some(
                "the peer broke the protocol: check that it runs sanwsk of this version, and that the native port is its own",
            ),
            (Operation::Request(ControlCode::RegisterMemory), NtStatus::INSUFFICIENT_RESOURCES) => Some(
                "a limit on registered memory is reached: deregister what is not needed, or raise the driver's limit",
            ),
            (_, NtStatus::TOO_MANY_OPENED_FILES) => Some("close endpoints that are not needed any more"),
            (_, NtStatus::INSUFFICIENT_RESOURCES | NtStatus::NO_MEMORY) => {
                Some("the kernel has no memory left for it: close what is not needed, or try again later")
            }
            (_, _) => None,
        }
    }

    /// The kind that std users match on: one for each Winsock error, `Other` where std has none that means it.
    #[must_use]
    pub const fn kind(&self) -> io::ErrorKind {
        match (self.operation, self.wsa_error()) {
            (Operation::Open, WsaError::WSAENETDOWN) => io::ErrorKind::NotFound,
            (Operation::Request(ControlCode::RemoveRoute), _) if self.status.0 == NtStatus::OBJECT_NAME_NOT_FOUND.0 => {
                io::ErrorKind::NotFound
            }
            (Operation::Request(ControlCode::AddRoute), _) if self.status.0 == NtStatus::OBJECT_NAME_COLLISION.0 => {
                io::ErrorKind::AlreadyExists
            }
            (_, WsaError::WSAEACCES) => io::ErrorKind::PermissionDenied,
            (_, WsaError::WSAEINVAL | WsaError::WSAENOTSOCK | WsaError::WSAEFAULT | WsaError::WSAEMSGSIZE) => {
                io::ErrorKind::InvalidInput
            }
            (
                _,
                WsaError::WSAEOPNOTSUPP
                | WsaError::WSAEAFNOSUPPORT
                | WsaError::WSAEPROTOTYPE
                | WsaError::WSAEPROTONOSUPPORT
                | WsaError::WSAESOCKTNOSUPPORT,
            ) => io::ErrorKind::Unsupported,
            (_, WsaError::WSAEADDRINUSE) => io::ErrorKind::AddrInUse,
            (_, WsaError::WSAEADDRNOTAVAIL) => io::ErrorKind::AddrNotAvailable,
            (_, WsaError::WSAENETDOWN) => io::ErrorKind::NetworkDown,
            (_, WsaError::WSAENETUNREACH) => io::ErrorKind::NetworkUnreachable,
            (_, WsaError::WSAEHOSTUNREACH) => io::ErrorKind::HostUnreachable,
            (_, WsaError::WSAECONNABORTED) => io::ErrorKind::ConnectionAborted,
            (_, WsaError::WSAECONNRESET) => io::ErrorKind::ConnectionReset,
            (_, WsaError::WSAECONNREFUSED) => io::ErrorKind::ConnectionRefused,
            (_, WsaError::WSAENOTCONN) => io::ErrorKind::NotConnected,
            (_, WsaError::WSAESHUTDOWN) => io::ErrorKind::BrokenPipe,
            (_, WsaError::WSAEDISCON) => io::ErrorKind::UnexpectedEof,
            (_, WsaError::WSAETIMEDOUT) => io::ErrorKind::TimedOut,
            (_, WsaError::WSAENOBUFS) => io::ErrorKind::OutOfMemory,
            (_, WsaError::WSAEMFILE) => io::ErrorKind::QuotaExceeded,
            (_, WsaError::WSAEALREADY) => io::ErrorKind::ResourceBusy,
            (_, WsaError::WSAEWOULDBLOCK | WsaError::WSA_IO_PENDING | WsaError::WSA_IO_INCOMPLETE) => {
                io::ErrorKind::WouldBlock
            }
            // A cancelled request is not `Interrupted`: std would try it again.
            (_, _) => io::ErrorKind::Other,
        }
    }
}

impl Operation {
    /// As in "cannot ...".
    const fn verb(self) -> &'static str {
        match self {
            Self::Open => "open the device",
            Self::CreateEvent => "make an event object",
            Self::UseMemory => "use registered memory",
            Self::Socket => "make such a socket",
            Self::Request(ControlCode::QueryVersion) => "ask for the driver's version",
            Self::Request(ControlCode::QueryStatus) => "ask for the driver's status",
            Self::Request(ControlCode::QueryLimits) => "ask for the driver's limits",
            Self::Request(ControlCode::QueryRoutes) => "ask for the routes",
            Self::Request(ControlCode::AddRoute) => "add a route",
            Self::Request(ControlCode::RemoveRoute) => "remove a route",
            Self::Request(ControlCode::QueryEndpoints) => "list endpoints",
            Self::Request(ControlCode::QueryHandles) => "list handles",
            Self::Request(ControlCode::Create) => "create an endpoint",
            Self::Request(ControlCode::SetOption) => "set an option",
            Self::Request(ControlCode::Bind) => "bind",
            Self::Request(ControlCode::Connect) => "connect",
            Self::Request(ControlCode::Listen) => "listen",
            Self::Request(ControlCode::Accept) => "accept a connection",
            Self::Request(ControlCode::Send) => "send",
            Self::Request(ControlCode::Receive) => "receive",
            Self::Request(ControlCode::Disconnect) => "disconnect",
            Self::Request(ControlCode::QueryAddresses) => "ask for an endpoint's addresses",
            Self::Request(ControlCode::Close) => "close an endpoint",
            Self::Request(ControlCode::EventSelect) => "select network events",
            Self::Request(ControlCode::EnumNetworkEvents) => "ask for network events",
            Self::Request(ControlCode::Decide) => "decide on a connection",
            Self::Request(ControlCode::Negotiate) => "negotiate a session",
            Self::Request(ControlCode::RegisterMemory) => "register memory",
            Self::Request(ControlCode::QueryMemory) => "ask for a registration",
            Self::Request(ControlCode::DeregisterMemory) => "deregister memory",
            Self::Request(ControlCode::SendRegistered) => "send registered memory",
            Self::Request(ControlCode::ReceiveRegistered) => "receive into registered memory",
            Self::Request(ControlCode::QueryStatistics) => "ask for an endpoint's statistics",
            Self::Request(ControlCode::QueryDeviceStatistics) => "ask for the device's statistics",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {}", self.operation.verb())?;
        if let Some(address) = self.address {
            write!(formatter, " to {address}")?;
        }
        write!(formatter, ": {}, {}", self.wsa_error(), self.status)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_failed_and_by_which_name_and_number() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let error = Error::new(Operation::Request(ControlCode::Connect), NtStatus::CONNECTION_REFUSED).at(address);
        assert_eq!(
            error.to_string(),
            "cannot connect to 127.0.0.1:9: WSAECONNREFUSED (10061), STATUS_CONNECTION_REFUSED (0xc0000236)"
        );
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn an_unknown_family_is_one_for_whoever_creates() {
        let status = NtStatus::NOT_SUPPORTED;
        let create = Error::new(Operation::Request(ControlCode::Create), status);
        assert_eq!(create.wsa_error(), WsaError::WSAEAFNOSUPPORT);
        let listen = Error::new(Operation::Request(ControlCode::Listen), status);
        assert_eq!(listen.wsa_error(), WsaError::WSAEOPNOTSUPP);
    }

    /// The table of statuses in `docs/ioctl.md`, of which `san-protocol` tests the other columns.
    #[test]
    fn every_status_has_the_kind_that_is_documented() {
        let page = include_str!("../../docs/ioctl.md");
        for &status in NtStatus::NAMED.iter().filter(|status| wsa_error(**status) != WsaError::NO_ERROR) {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{}` | 0x", status.name().unwrap())));
            let documented = row.and_then(|row| row.split('|').nth(5)).expect("a row with a kind");
            let kind = Error::new(Operation::UseMemory, status).kind();
            assert_eq!(format!("`{kind:?}`"), documented.trim(), "{status}");
        }
    }

    #[test]
    fn errors_of_a_certain_request_have_hints_of_their_own() {
        let hint = |code, status| Error::new(Operation::Request(code), status).hint().unwrap();
        let sizes = [ControlCode::Negotiate, ControlCode::ReceiveRegistered, ControlCode::SendRegistered];
        let [private, receive, send] = sizes.map(|code| hint(code, NtStatus::INVALID_BUFFER_SIZE));
        assert!(private.contains("256") && receive.contains("post") && send.contains("send"));
        assert!(hint(ControlCode::RegisterMemory, NtStatus::INSUFFICIENT_RESOURCES).contains("limit"));
        assert!(hint(ControlCode::Connect, NtStatus::CANT_WAIT).contains("event"));
    }

    #[test]
    fn std_does_not_retry_what_was_cancelled() {
        let error = Error::new(Operation::Request(ControlCode::Receive), NtStatus::CANCELLED);
        assert_ne!(error.kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn a_missing_driver_and_missing_rights_are_told_apart() {
        let missing = Error::new(Operation::Open, NtStatus::OBJECT_NAME_NOT_FOUND);
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(missing.hint().unwrap().contains("pnputil"));
        let denied = Error::new(Operation::Open, NtStatus::ACCESS_DENIED);
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        assert!(denied.hint().unwrap().contains("administrator"));
    }
}
