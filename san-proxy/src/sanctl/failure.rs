//! Why a run failed, and what to do next.

use crate::error::{Error, Operation};
use crate::switch::ConfigError;
use crate::{NtStatus, WsaError};
use san_protocol::ControlCode;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why a run failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The driver refused, or the SAN.
    San(Error),
    /// TCP/IP failed.
    Tcp { what: &'static str, address: Option<SocketAddr>, error: io::Error },
    /// Something on this machine: a file, standard input or output.
    Io { what: String, error: io::Error },
    /// The switch's file.
    Config(ConfigError),
    /// The other side does not keep to the sub-command's protocol, or refuses.
    Peer { what: String, hint: Option<&'static str> },
    /// Something else, which can be put right.
    Other { what: String, hint: &'static str },
}

impl Failure {
    /// Something that was done to a connection. Errors of the SAN are told from TCP/IP's.
    pub(super) fn network(what: &'static str, address: Option<SocketAddr>, error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(san) => Self::San(*san),
            None => Self::Tcp { what, address, error },
        }
    }

    pub(super) fn io(what: impl Into<String>, error: io::Error) -> Self {
        Self::Io { what: what.into(), error }
    }

    pub(super) fn peer(what: impl Into<String>) -> Self {
        Self::Peer { what: what.into(), hint: None }
    }

    /// Whether it is about one peer: then the next one can be served.
    pub(super) fn is_of_peer(&self) -> bool {
        match self {
            Self::San(_) | Self::Tcp { .. } | Self::Peer { .. } => true,
            Self::Io { .. } | Self::Config(_) | Self::Other { .. } => false,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::San(error) => error.hint(),
            Self::Tcp { error, .. } => tcp_hint(error.kind()),
            Self::Io { .. } => None,
            Self::Config(_) => {
                Some("san-proxy's documentation of the switch has an example of the file, with every key")
            }
            Self::Peer { hint, .. } => *hint,
            Self::Other { hint, .. } => Some(hint),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::San(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::San(error) => write!(formatter, "{error}")?,
            Self::Tcp { what, address, error } => {
                write!(formatter, "cannot {what}")?;
                if let Some(address) = address {
                    write!(formatter, " {address}")?;
                }
                match as_wsa(error.kind()) {
                    Some(wsa) => write!(formatter, " by TCP/IP: {wsa}")?,
                    None => write!(formatter, " by TCP/IP: {error}")?,
                }
            }
            Self::Io { what, error } => write!(formatter, "cannot {what}: {error}")?,
            Self::Config(error) => write!(formatter, "{error}")?,
            Self::Peer { what, .. } | Self::Other { what, .. } => formatter.write_str(what)?,
        }
        match self.hint() {
            Some(hint) => write!(formatter, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The Winsock error that an error of TCP/IP stands for, on whichever system it happened.
const fn as_wsa(kind: io::ErrorKind) -> Option<WsaError> {
    match kind {
        io::ErrorKind::PermissionDenied => Some(WsaError::WSAEACCES),
        io::ErrorKind::AddrInUse => Some(WsaError::WSAEADDRINUSE),
        io::ErrorKind::AddrNotAvailable => Some(WsaError::WSAEADDRNOTAVAIL),
        io::ErrorKind::NetworkDown => Some(WsaError::WSAENETDOWN),
        io::ErrorKind::NetworkUnreachable => Some(WsaError::WSAENETUNREACH),
        io::ErrorKind::HostUnreachable => Some(WsaError::WSAEHOSTUNREACH),
        io::ErrorKind::ConnectionAborted => Some(WsaError::WSAECONNABORTED),
        // Others than Windows tell a peer that has gone by a pipe that is broken.
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Some(WsaError::WSAECONNRESET),
        io::ErrorKind::ConnectionRefused => Some(WsaError::WSAECONNREFUSED),
        io::ErrorKind::NotConnected => Some(WsaError::WSAENOTCONN),
        // And a wait that was too long by one that would go on.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Some(WsaError::WSAETIMEDOUT),
        _ => None,
    }
}

/// What a person can do about an error of TCP/IP.
const fn tcp_hint(kind: io::ErrorKind) -> Option<&'static str> {
    let status = match kind {
        io::ErrorKind::PermissionDenied => {
            return Some("this address or port is for others: choose a port above 1023, or run it as an administrator");
        }
        io::ErrorKind::AddrInUse => NtStatus::ADDRESS_ALREADY_EXISTS,
        io::ErrorKind::AddrNotAvailable => {
            return Some("listen on one of this machine's addresses, or on 0.0.0.0 or [::] for all of them");
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => NtStatus::HOST_UNREACHABLE,
        io::ErrorKind::ConnectionRefused => NtStatus::CONNECTION_REFUSED,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            NtStatus::CONNECTION_RESET
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => NtStatus::IO_TIMEOUT,
        _ => return None,
    };
    Error::new(Operation::Request(ControlCode::Connect), status).hint()
}

/// Standard output is gone.
pub(super) fn cannot_write(error: io::Error) -> Failure {
    Failure::io("write to standard output", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NtStatus;
    use crate::error::Operation;

    #[test]
    fn a_san_error_within_an_io_error_keeps_its_name_and_its_hint() {
        let error = Error::new(Operation::Open, NtStatus::ACCESS_DENIED);
        let shown = Failure::network("connect to", None, error.into()).to_string();
        assert!(
            shown.contains("WSAEACCES (10013), STATUS_ACCESS_DENIED (0xc0000022)\nhint: run it as an admin"),
            "{shown}"
        );
    }

    #[test]
    fn tcp_errors_have_the_windows_name_and_number_everywhere() {
        let address = "192.0.2.7:80".parse().unwrap();
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        let shown = Failure::network("connect to", Some(address), error).to_string();
        assert_eq!(
            shown,
            "cannot connect to 192.0.2.7:80 by TCP/IP: WSAECONNREFUSED (10061)\n\
             hint: nobody listens at that address and port, or the listener's backlog is full: check the server"
        );
        let shown = Failure::network("send", None, io::Error::other("odd")).to_string();
        assert_eq!(shown, "cannot send by TCP/IP: odd");
    }
}
