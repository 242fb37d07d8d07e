//! Control codes, built as `CTL_CODE` of the WDK (devioctl.h) builds them.

use crate::request::{
    AcceptReply, AddRouteRequest, AddressReply, AddressesReply, BindRequest, ConnectRequest, CreateReply,
    CreateRequest, DecideRequest, DeviceLimits, DeviceStatistics, DisconnectRequest, EndpointRequest,
    EndpointStatistics, EndpointsReply, EndpointsRequest, EventSelectRequest, HandlesReply, HandlesRequest,
    ListenRequest, MemoryReply, MemoryRequest, NegotiateReply, NegotiateRequest, NetworkEventsReply, ReceiveReply,
    ReceiveRequest, RegisterMemoryRequest, RemoveRouteRequest, RoutesReply, SetOptionRequest, StatusReply,
    TransferRequest, VersionReply,
};

/// `FILE_DEVICE_SANWSK`: a device type of the range left to vendors (0x8000 and above).
pub const FILE_DEVICE_SANWSK: u32 = 0x8057;

/// How the I/O manager passes a request's buffers (the low two bits of a control code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `METHOD_BUFFERED`: input and output are copied through one system buffer.
    Buffered = 0,
    /// `METHOD_IN_DIRECT`: input is copied; the output buffer is locked for the device to read from.
    InDirect = 1,
    /// `METHOD_OUT_DIRECT`: input is copied; the output buffer is locked for the device to write to.
    OutDirect = 2,
}

/// Access that the handle must have been opened with (bits 14 and 15 of a control code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `FILE_ANY_ACCESS`.
    Any = 0,
    /// `FILE_READ_ACCESS | FILE_WRITE_ACCESS`.
    ReadWrite = 3,
}

/// `CTL_CODE(DeviceType, Function, Method, Access)`.
#[must_use]
pub const fn ctl_code(device_type: u32, function: u32, method: Method, access: Access) -> u32 {
    (device_type << 16) | ((access as u32) << 14) | (function << 2) | method as u32
}

/// A structure that a request or a reply consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Its name; "()" for none.
    pub name: &'static str,
    /// Its length in bytes.
    pub size: usize,
}

macro_rules! control_codes {
    ($(
        $(#[$doc:meta])* $name:ident, $constant:ident = $function:literal, $method:ident, $access:ident,
        $input:ty => $output:ty;
    )*) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ControlCode { $($(#[$doc])* $name,)* }

        $($(#[$doc])* pub const $constant: u32 = ctl_code(FILE_DEVICE_SANWSK, $function, Method::$method, Access::$access);)*

        impl ControlCode {
            /// Every code, in the order of their function numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code that `value` stands for; `None` if this device has no such code.
            #[must_use]
            pub const fn from_value(value: u32) -> Option<Self> {
                match value {
                    $($constant => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The number passed to `DeviceIoControl`.
            #[must_use]
            pub const fn value(self) -> u32 {
                match self { $(Self::$name => $constant,)* }
            }

            /// The name of that number.
            #[must_use]
            pub const fn constant_name(self) -> &'static str {
                match self { $(Self::$name => stringify!($constant),)* }
            }

            /// What its input consists of.
            #[must_use]
            pub const fn input(self) -> Structure {
                match self {
                    $(Self::$name => Structure { name: stringify!($input), size: size_of::<$input>() },)*
                }
            }

            /// What it is answered by. Where that is nothing, the output buffer may still hold data: see the code.
            #[must_use]
            pub const fn output(self) -> Structure {
                match self {
                    $(Self::$name => Structure { name: stringify!($output), size: size_of::<$output>() },)*
                }
            }

            /// The access that the handle needs.
            #[must_use]
            pub const fn access(self) -> Access {
                match self { $(Self::$name => Access::$access,)* }
            }

            /// How its buffers travel.
            #[must_use]
            pub const fn method(self) -> Method {
                match self { $(Self::$name => Method::$method,)* }
            }
        }
    };
}

control_codes! {
    /// Which driver and protocol this is. Output: [`VersionReply`]. Asks for no access.
    QueryVersion, IOCTL_SANWSK_QUERY_VERSION = 0x800, Buffered, Any, () => VersionReply;
    /// The state of the device. Output: [`StatusReply`]. Asks for no access.
    QueryStatus, IOCTL_SANWSK_QUERY_STATUS = 0x801, Buffered, Any, () => StatusReply;
    /// The limits and settings in force. Output: [`DeviceLimits`]. Asks for no access.
    QueryLimits, IOCTL_SANWSK_QUERY_LIMITS = 0x802, Buffered, Any, () => DeviceLimits;
    /// The routes from SAN addresses to native ones. Output: [`RoutesReply`], with a [`Route`](crate::Route) behind it for
    /// each that fits. Asks for no access.
    QueryRoutes, IOCTL_SANWSK_QUERY_ROUTES = 0x803, Buffered, Any, () => RoutesReply;
    /// Adds a route. Administrators only. Input: [`AddRouteRequest`].
    AddRoute, IOCTL_SANWSK_ADD_ROUTE = 0x804, Buffered, ReadWrite, AddRouteRequest => ();
    /// Removes a route. Administrators only. Input: [`RemoveRouteRequest`].
    RemoveRoute, IOCTL_SANWSK_REMOVE_ROUTE = 0x805, Buffered, ReadWrite, RemoveRouteRequest => ();
    /// The endpoints of this handle, or, for administrators, of all. Input: [`EndpointsRequest`]. Output: [`EndpointsReply`],
    /// with an [`EndpointEntry`](crate::EndpointEntry) behind it for each that fits.
    QueryEndpoints, IOCTL_SANWSK_QUERY_ENDPOINTS = 0x806, Buffered, ReadWrite, EndpointsRequest => EndpointsReply;
    /// This handle, or, for administrators, all: what has been done through each, and what it holds. Input:
    /// [`HandlesRequest`]. Output: [`HandlesReply`], with a [`HandleEntry`](crate::HandleEntry) behind it for each that fits.
    QueryHandles, IOCTL_SANWSK_QUERY_HANDLES = 0x807, Buffered, ReadWrite, HandlesRequest => HandlesReply;
    /// Makes an endpoint. Input: [`CreateRequest`]. Output: [`CreateReply`].
    Create, IOCTL_SANWSK_CREATE = 0x810, Buffered, ReadWrite, CreateRequest => CreateReply;
    /// Sets an option. Input: [`SetOptionRequest`].
    SetOption, IOCTL_SANWSK_SET_OPTION = 0x811, Buffered, ReadWrite, SetOptionRequest => ();
    /// Binds to a local address. Input: [`BindRequest`]. Output: [`AddressReply`].
    Bind, IOCTL_SANWSK_BIND = 0x812, Buffered, ReadWrite, BindRequest => AddressReply;
    /// Connects; pends until connected. Input: [`ConnectRequest`].
    Connect, IOCTL_SANWSK_CONNECT = 0x813, Buffered, ReadWrite, ConnectRequest => ();
    /// Opens the backlog of a bound endpoint. Input: [`ListenRequest`].
    Listen, IOCTL_SANWSK_LISTEN = 0x814, Buffered, ReadWrite, ListenRequest => ();
    /// Takes a connection; pends until there is one. Input: [`EndpointRequest`].
    /// Output: [`AcceptReply`].
    Accept, IOCTL_SANWSK_ACCEPT = 0x815, Buffered, ReadWrite, EndpointRequest => AcceptReply;
    /// Sends the output buffer; completes when TCP has taken all of it. On a SAN endpoint the buffer is one message. Input: [`EndpointRequest`].
    Send, IOCTL_SANWSK_SEND = 0x816, InDirect, ReadWrite, EndpointRequest => ();
    /// Receives into the output buffer; zero bytes mean that the peer has ended its side. Streams only.
    /// Input: [`ReceiveRequest`].
    Receive, IOCTL_SANWSK_RECEIVE = 0x817, OutDirect, ReadWrite, ReceiveRequest => ();
    /// Ends the connection, gracefully or not. Input: [`DisconnectRequest`].
    Disconnect, IOCTL_SANWSK_DISCONNECT = 0x818, Buffered, ReadWrite, DisconnectRequest => ();
    /// Local and remote address. Input: [`EndpointRequest`]. Output:
    /// [`AddressesReply`].
    QueryAddresses, IOCTL_SANWSK_QUERY_ADDRESSES = 0x819, Buffered, ReadWrite, EndpointRequest => AddressesReply;
    /// Closes an endpoint; completes when nothing of it is left. Input: [`EndpointRequest`].
    Close, IOCTL_SANWSK_CLOSE = 0x81A, Buffered, ReadWrite, EndpointRequest => ();
    /// Names the event object and the network events that set it; makes the endpoint non-blocking.
    /// Input: [`EventSelectRequest`].
    EventSelect, IOCTL_SANWSK_EVENT_SELECT = 0x820, Buffered, ReadWrite, EventSelectRequest => ();
    /// Takes the network events that were recorded and resets the event. Input: [`EndpointRequest`].
    /// Output: [`NetworkEventsReply`].
    EnumNetworkEvents, IOCTL_SANWSK_ENUM_NETWORK_EVENTS = 0x821, Buffered, ReadWrite, EndpointRequest => NetworkEventsReply;
    /// Accepts or rejects an undecided endpoint. Input: [`DecideRequest`].
    Decide, IOCTL_SANWSK_DECIDE = 0x822, Buffered, ReadWrite, DecideRequest => ();
    /// Exchanges the session message with the peer; pends until the peer's has come.
    /// Input: [`NegotiateRequest`]. Output: [`NegotiateReply`].
    Negotiate, IOCTL_SANWSK_NEGOTIATE = 0x823, Buffered, ReadWrite, NegotiateRequest => NegotiateReply;
    /// Registers the output buffer as memory to send from or receive into; pends as long as it is registered.
    /// Input: [`RegisterMemoryRequest`].
    RegisterMemory, IOCTL_SANWSK_REGISTER_MEMORY = 0x824, OutDirect, ReadWrite, RegisterMemoryRequest => ();
    /// A registration as it stands. Input: [`MemoryRequest`]. Output: [`MemoryReply`].
    QueryMemory, IOCTL_SANWSK_QUERY_MEMORY = 0x825, Buffered, ReadWrite, MemoryRequest => MemoryReply;
    /// Ends a registration; pends until no operation uses it. Input: [`MemoryRequest`].
    DeregisterMemory, IOCTL_SANWSK_DEREGISTER_MEMORY = 0x826, Buffered, ReadWrite, MemoryRequest => ();
    /// Sends a slice of registered memory as one message; information is its length.
    /// Input: [`TransferRequest`].
    SendRegistered, IOCTL_SANWSK_SEND_REGISTERED = 0x827, Buffered, ReadWrite, TransferRequest => ();
    /// Posts a slice of registered memory for one message; pends until it has come.
    /// Input: [`TransferRequest`]. Output: [`ReceiveReply`].
    ReceiveRegistered, IOCTL_SANWSK_RECEIVE_REGISTERED = 0x828, Buffered, ReadWrite, TransferRequest => ReceiveReply;
    /// What an endpoint has done and holds. Input: [`EndpointRequest`].
    /// Output: [`EndpointStatistics`].
    QueryStatistics, IOCTL_SANWSK_QUERY_STATISTICS = 0x829, Buffered, ReadWrite, EndpointRequest => EndpointStatistics;
    /// What the device has done and holds, of all handles. Output: [`DeviceStatistics`].
    /// Asks for no access.
    QueryDeviceStatistics, IOCTL_SANWSK_QUERY_DEVICE_STATISTICS = 0x82A, Buffered, Any, () => DeviceStatistics;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_built_as_the_wdk_builds_it() {
        // CTL_CODE(0x8057, 0x816, METHOD_IN_DIRECT, FILE_READ_ACCESS | FILE_WRITE_ACCESS), worked out by hand.
        assert_eq!(IOCTL_SANWSK_SEND, 0x8057_E059);
    }

    #[test]
    fn codes_and_values_are_one_to_one() {
        for (index, code) in ControlCode::ALL.iter().enumerate() {
            assert_eq!(ControlCode::from_value(code.value()), Some(*code));
            assert!(!ControlCode::ALL[..index].iter().any(|other| other.value() == code.value()));
            assert_eq!(code.value() & 3, code.method() as u32);
            assert_eq!((code.value() >> 14) & 3, code.access() as u32);
        }
    }
}
