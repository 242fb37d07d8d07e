//! NTSTATUS values, and the Winsock errors they become in user mode.

/// A status of the kernel. Only those that a caller can meet have names here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct NtStatus(pub i32);

/// A Winsock error (`WSAE...`, winerror.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct WsaError(pub i32);

macro_rules! named {
    ($type:ident, $prefix:literal; $($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl $type {
            $($(#[$doc])* pub const $name: Self = Self($value as u32 as i32);)*

            /// Every one that has a name here.
            pub const NAMED: &[Self] = &[$(Self::$name,)*];

            /// Its name in the Windows headers; `None` for a value that has no name here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self { $(Self::$name => Some(concat!($prefix, stringify!($name))),)* _ => None }
            }
        }
    };
}

named! { NtStatus, "STATUS_";
    /// Done.
    SUCCESS = 0x0000_0000,
    /// Not done yet.
    PENDING = 0x0000_0103,
    /// The output buffer holds less than there is (a warning: what fits was written).
    BUFFER_OVERFLOW = 0x8000_0005,
    /// Something is wrong that has no better name.
    UNSUCCESSFUL = 0xC000_0001,
    /// An input buffer has another length than the request.
    INFO_LENGTH_MISMATCH = 0xC000_0004,
    /// The endpoint does not exist for this handle (any more).
    INVALID_HANDLE = 0xC000_0008,
    /// A field has a value that means nothing.
    INVALID_PARAMETER = 0xC000_000D,
    /// The device is on its way out: its driver is being unloaded.
    NO_SUCH_DEVICE = 0xC000_000E,
    /// The device has no such control code.
    INVALID_DEVICE_REQUEST = 0xC000_0010,
    /// No pool left.
    NO_MEMORY = 0xC000_0017,
    /// The caller may not do this.
    ACCESS_DENIED = 0xC000_0022,
    /// The output buffer is too small for the reply.
    BUFFER_TOO_SMALL = 0xC000_0023,
    /// There is no such device: the driver is not loaded. Or: there is no such route.
    OBJECT_NAME_NOT_FOUND = 0xC000_0034,
    /// There is such a route already.
    OBJECT_NAME_COLLISION = 0xC000_0035,
    /// Another protocol version.
    REVISION_MISMATCH = 0xC000_0059,
    /// Memory, or another resource, ran out.
    INSUFFICIENT_RESOURCES = 0xC000_009A,
    /// Another setup operation of the endpoint is under way.
    DEVICE_BUSY = 0x8000_0011,
    /// The WSK provider is not there yet.
    DEVICE_NOT_READY = 0xC000_00A3,
    /// A time limit passed.
    IO_TIMEOUT = 0xC000_00B5,
    /// Not offered.
    NOT_SUPPORTED = 0xC000_00BB,
    /// A path on the network is not there.
    BAD_NETWORK_PATH = 0xC000_00BE,
    /// Cancelled.
    CANCELLED = 0xC000_0120,
    /// The WSK socket is no longer functional.
    FILE_FORCED_CLOSED = 0xC000_00B6,
    /// The connection is not there.
    CONNECTION_INVALID = 0xC000_023A,
    /// The endpoint is not connected.
    INVALID_CONNECTION = 0xC000_0140,
    /// The address is not one of this machine's.
    INVALID_ADDRESS_COMPONENT = 0xC000_0207,
    /// Too many addresses in use.
    TOO_MANY_ADDRESSES = 0xC000_0209,
    /// The address is in use.
    ADDRESS_ALREADY_EXISTS = 0xC000_020A,
    /// The connection was ended here.
    LOCAL_DISCONNECT = 0xC000_013B,
    /// The connection was ended by the peer.
    REMOTE_DISCONNECT = 0xC000_013C,
    /// The connection was reset by the peer.
    CONNECTION_RESET = 0xC000_020D,
    /// The connection has ended gracefully.
    GRACEFUL_DISCONNECT = 0xC000_0237,
    /// Nobody listens there, or the listener refused.
    CONNECTION_REFUSED = 0xC000_0236,
    /// The endpoint is connected (or connecting) already.
    CONNECTION_ACTIVE = 0xC000_023B,
    /// No route to the network.
    NETWORK_UNREACHABLE = 0xC000_023C,
    /// No route to the host.
    HOST_UNREACHABLE = 0xC000_023D,
    /// The protocol is not known there.
    PROTOCOL_UNREACHABLE = 0xC000_023E,
    /// The port is not known there.
    PORT_UNREACHABLE = 0xC000_023F,
    /// The request was aborted.
    REQUEST_ABORTED = 0xC000_0240,
    /// The connection was aborted here.
    CONNECTION_ABORTED = 0xC000_0241,
    /// The side to send on is shut down.
    PIPE_DISCONNECTED = 0xC000_00B0,
    /// The WSK version asked for is not offered.
    NOINTERFACE = 0xC000_02B9,
    /// A limit on endpoints is reached.
    TOO_MANY_OPENED_FILES = 0xC000_011F,
    /// The caller has not the privilege that the request asks for, or has not enabled it.
    PRIVILEGE_NOT_HELD = 0xC000_0061,
    /// A user buffer cannot be read or written.
    ACCESS_VIOLATION = 0xC000_0005,
    /// A handle names an object of another type.
    OBJECT_TYPE_MISMATCH = 0xC000_0024,
    /// It would have to wait, and the endpoint is non-blocking: an event tells of the end.
    CANT_WAIT = 0xC000_00D8,
    /// A message, or private data, is longer than is allowed; or a receive is shorter than was promised.
    INVALID_BUFFER_SIZE = 0xC000_0206,
    /// The peer broke the protocol.
    INVALID_NETWORK_RESPONSE = 0xC000_00C3,
    /// A part of registered memory is in use (said in user mode).
    LOCK_NOT_GRANTED = 0xC000_0055,
}

impl NtStatus {
    /// `NT_SUCCESS`: success or information.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 >= 0
    }
}

named! { WsaError, "";
    /// No error.
    NO_ERROR = 0,
    /// `WSA_IO_INCOMPLETE`: the overlapped operation is not done yet.
    WSA_IO_INCOMPLETE = 996,
    /// `WSA_IO_PENDING`: the overlapped operation has started.
    WSA_IO_PENDING = 997,
    /// `WSA_OPERATION_ABORTED`: the operation was cancelled.
    WSA_OPERATION_ABORTED = 995,
    /// Access denied.
    WSAEACCES = 10013,
    /// Bad buffer.
    WSAEFAULT = 10014,
    /// Bad argument.
    WSAEINVAL = 10022,
    /// Too many sockets.
    WSAEMFILE = 10024,
    /// Not now.
    WSAEWOULDBLOCK = 10035,
    /// An operation is under way already.
    WSAEALREADY = 10037,
    /// Not an endpoint.
    WSAENOTSOCK = 10038,
    /// A message is too long.
    WSAEMSGSIZE = 10040,
    /// Not the type of that protocol.
    WSAEPROTOTYPE = 10041,
    /// Protocol not offered.
    WSAEPROTONOSUPPORT = 10043,
    /// Type of socket not offered.
    WSAESOCKTNOSUPPORT = 10044,
    /// Not offered.
    WSAEOPNOTSUPP = 10045,
    /// Address family not offered.
    WSAEAFNOSUPPORT = 10047,
    /// Address in use.
    WSAEADDRINUSE = 10048,
    /// Not an address of this machine.
    WSAEADDRNOTAVAIL = 10049,
    /// The network is down.
    WSAENETDOWN = 10050,
    /// No route to the network.
    WSAENETUNREACH = 10051,
    /// Connection aborted here.
    WSAECONNABORTED = 10053,
    /// Connection reset by the peer.
    WSAECONNRESET = 10054,
    /// No buffers.
    WSAENOBUFS = 10055,
    /// Connected already.
    WSAEISCONN = 10056,
    /// Not connected.
    WSAENOTCONN = 10057,
    /// This side may send no more.
    WSAESHUTDOWN = 10058,
    /// Timed out.
    WSAETIMEDOUT = 10060,
    /// Refused.
    WSAECONNREFUSED = 10061,
    /// No route to the host.
    WSAEHOSTUNREACH = 10065,
    /// The peer has ended the connection gracefully.
    WSAEDISCON = 10101,
}

/// The Winsock error for a request. Total: a success is `NO_ERROR` (but for [`NtStatus::PENDING`], which is `WSA_IO_PENDING`),
/// and a failure that has no closer meaning is `WSAEINVAL`.
///
/// It follows what Windows' own sockets make of these statuses. `docs/ioctl.md` has the whole table.
#[must_use]
pub const fn wsa_error(status: NtStatus) -> WsaError {
    match status {
        NtStatus::PENDING => WsaError::WSA_IO_PENDING,
        success if success.is_success() => WsaError::NO_ERROR,
        NtStatus::CANCELLED | NtStatus::REQUEST_ABORTED => WsaError::WSA_OPERATION_ABORTED,
        NtStatus::INVALID_HANDLE => WsaError::WSAENOTSOCK,
        NtStatus::NO_MEMORY | NtStatus::INSUFFICIENT_RESOURCES => WsaError::WSAENOBUFS,
        NtStatus::TOO_MANY_OPENED_FILES => WsaError::WSAEMFILE,
        NtStatus::ACCESS_DENIED | NtStatus::PRIVILEGE_NOT_HELD => WsaError::WSAEACCES,
        NtStatus::BUFFER_TOO_SMALL | NtStatus::ACCESS_VIOLATION => WsaError::WSAEFAULT,
        NtStatus::DEVICE_BUSY => WsaError::WSAEALREADY,
        NtStatus::DEVICE_NOT_READY | NtStatus::NOINTERFACE | NtStatus::NO_SUCH_DEVICE => WsaError::WSAENETDOWN,
        NtStatus::IO_TIMEOUT => WsaError::WSAETIMEDOUT,
        NtStatus::NOT_SUPPORTED | NtStatus::INVALID_DEVICE_REQUEST => WsaError::WSAEOPNOTSUPP,
        NtStatus::INVALID_CONNECTION | NtStatus::CONNECTION_INVALID => WsaError::WSAENOTCONN,
        NtStatus::INVALID_ADDRESS_COMPONENT => WsaError::WSAEADDRNOTAVAIL,
        NtStatus::ADDRESS_ALREADY_EXISTS | NtStatus::TOO_MANY_ADDRESSES => WsaError::WSAEADDRINUSE,
        NtStatus::LOCAL_DISCONNECT
        | NtStatus::CONNECTION_ABORTED
        | NtStatus::FILE_FORCED_CLOSED
        | NtStatus::INVALID_NETWORK_RESPONSE => WsaError::WSAECONNABORTED,
        NtStatus::REMOTE_DISCONNECT | NtStatus::CONNECTION_RESET | NtStatus::PORT_UNREACHABLE => {
            WsaError::WSAECONNRESET
        }
        NtStatus::PIPE_DISCONNECTED => WsaError::WSAESHUTDOWN,
        NtStatus::GRACEFUL_DISCONNECT => WsaError::WSAEDISCON,
        NtStatus::CANT_WAIT => WsaError::WSAEWOULDBLOCK,
        NtStatus::BUFFER_OVERFLOW | NtStatus::INVALID_BUFFER_SIZE => WsaError::WSAEMSGSIZE,
        NtStatus::CONNECTION_REFUSED => WsaError::WSAECONNREFUSED,
        NtStatus::CONNECTION_ACTIVE => WsaError::WSAEISCONN,
        NtStatus::BAD_NETWORK_PATH | NtStatus::NETWORK_UNREACHABLE | NtStatus::PROTOCOL_UNREACHABLE => {
            WsaError::WSAENETUNREACH
        }
        NtStatus::HOST_UNREACHABLE => WsaError::WSAEHOSTUNREACH,
        _ => WsaError::WSAEINVAL,
    }
}

macro_rules! show {
    ($type:ident, $number:literal) => {
        impl core::fmt::Debug for $type {
            fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(self, formatter)
            }
        }

        impl core::fmt::Display for $type {
            fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => write!(formatter, concat!("{} (", $number, ")"), name, self.0),
                    None => write!(formatter, $number, self.0),
                }
            }
        }
    };
}

show!(NtStatus, "{:#010x}");
show!(WsaError, "{}");

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::format;

    #[test]
    fn every_failure_has_an_error() {
        assert_eq!(wsa_error(NtStatus::CONNECTION_REFUSED), WsaError::WSAECONNREFUSED);
        assert_eq!(wsa_error(NtStatus(0xC0FF_EE00_u32 as i32)), WsaError::WSAEINVAL);
    }

    #[test]
    fn a_status_is_shown_by_name_and_number() {
        assert_eq!(format!("{}", NtStatus::CONNECTION_REFUSED), "STATUS_CONNECTION_REFUSED (0xc0000236)");
        assert_eq!(format!("{}", NtStatus(0x4000_0000)), "0x40000000");
        assert_eq!(format!("{}", WsaError::WSAECONNREFUSED), "WSAECONNREFUSED (10061)");
    }
}
