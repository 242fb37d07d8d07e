//! Control codes, built as `CTL_CODE` of the WDK (devioctl.h) builds them.

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

macro_rules! control_codes {
    ($($(#[$doc:meta])* $name:ident, $constant:ident = $function:literal, $method:ident, $access:ident;)*) => {
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

            /// How its buffers travel.
            #[must_use]
            pub const fn method(self) -> Method {
                match self { $(Self::$name => Method::$method,)* }
            }
        }
    };
}

control_codes! {
    /// Which driver and protocol this is. Output: [`VersionReply`](crate::VersionReply). Asks for no access.
    QueryVersion, IOCTL_SANWSK_QUERY_VERSION = 0x800, Buffered, Any;
    /// The state of the device. Output: [`StatusReply`](crate::StatusReply). Asks for no access.
    QueryStatus, IOCTL_SANWSK_QUERY_STATUS = 0x801, Buffered, Any;
    /// Makes an endpoint. Input: [`CreateRequest`](crate::CreateRequest). Output: [`CreateReply`](crate::CreateReply).
    Create, IOCTL_SANWSK_CREATE = 0x810, Buffered, ReadWrite;
    /// Sets an option. Input: [`SetOptionRequest`](crate::SetOptionRequest).
    SetOption, IOCTL_SANWSK_SET_OPTION = 0x811, Buffered, ReadWrite;
    /// Binds to a local address. Input: [`BindRequest`](crate::BindRequest). Output: [`AddressReply`](crate::AddressReply).
    Bind, IOCTL_SANWSK_BIND = 0x812, Buffered, ReadWrite;
    /// Connects; pends until connected. Input: [`ConnectRequest`](crate::ConnectRequest).
    Connect, IOCTL_SANWSK_CONNECT = 0x813, Buffered, ReadWrite;
    /// Opens the backlog of a bound endpoint. Input: [`ListenRequest`](crate::ListenRequest).
    Listen, IOCTL_SANWSK_LISTEN = 0x814, Buffered, ReadWrite;
    /// Takes a connection; pends until there is one. Input: [`EndpointRequest`](crate::EndpointRequest).
    /// Output: [`AcceptReply`](crate::AcceptReply).
    Accept, IOCTL_SANWSK_ACCEPT = 0x815, Buffered, ReadWrite;
    /// Sends the output buffer; completes when TCP has taken all of it. On a SAN endpoint the buffer is one message. Input: [`EndpointRequest`](crate::EndpointRequest).
    Send, IOCTL_SANWSK_SEND = 0x816, InDirect, ReadWrite;
    /// Receives into the output buffer; zero bytes mean that the peer has ended its side. Streams only.
    /// Input: [`ReceiveRequest`](crate::ReceiveRequest).
    Receive, IOCTL_SANWSK_RECEIVE = 0x817, OutDirect, ReadWrite;
    /// Ends the connection, gracefully or not. Input: [`DisconnectRequest`](crate::DisconnectRequest).
    Disconnect, IOCTL_SANWSK_DISCONNECT = 0x818, Buffered, ReadWrite;
    /// Local and remote address. Input: [`EndpointRequest`](crate::EndpointRequest). Output:
    /// [`AddressesReply`](crate::AddressesReply).
    QueryAddresses, IOCTL_SANWSK_QUERY_ADDRESSES = 0x819, Buffered, ReadWrite;
    /// Closes an endpoint; completes when nothing of it is left. Input: [`EndpointRequest`](crate::EndpointRequest).
    Close, IOCTL_SANWSK_CLOSE = 0x81A, Buffered, ReadWrite;
    /// Names the event object and the network events that set it; makes the endpoint non-blocking.
    /// Input: [`EventSelectRequest`](crate::EventSelectRequest).
    EventSelect, IOCTL_SANWSK_EVENT_SELECT = 0x820, Buffered, ReadWrite;
    /// Takes the network events that were recorded and resets the event. Input: [`EndpointRequest`](crate::EndpointRequest).
    /// Output: [`NetworkEventsReply`](crate::NetworkEventsReply).
    EnumNetworkEvents, IOCTL_SANWSK_ENUM_NETWORK_EVENTS = 0x821, Buffered, ReadWrite;
    /// Accepts or rejects an undecided endpoint. Input: [`DecideRequest`](crate::DecideRequest).
    Decide, IOCTL_SANWSK_DECIDE = 0x822, Buffered, ReadWrite;
    /// Exchanges the session message with the peer; pends until the peer's has come.
    /// Input: [`NegotiateRequest`](crate::NegotiateRequest). Output: [`NegotiateReply`](crate::NegotiateReply).
    Negotiate, IOCTL_SANWSK_NEGOTIATE = 0x823, Buffered, ReadWrite;
    /// Registers the output buffer as memory to send from or receive into; pends as long as it is registered.
    /// Input: [`RegisterMemoryRequest`](crate::RegisterMemoryRequest).
    RegisterMemory, IOCTL_SANWSK_REGISTER_MEMORY = 0x824, OutDirect, ReadWrite;
    /// A registration as it stands. Input: [`MemoryRequest`](crate::MemoryRequest). Output: [`MemoryReply`](crate::MemoryReply).
    QueryMemory, IOCTL_SANWSK_QUERY_MEMORY = 0x825, Buffered, ReadWrite;
    /// Ends a registration; pends until no operation uses it. Input: [`MemoryRequest`](crate::MemoryRequest).
    DeregisterMemory, IOCTL_SANWSK_DEREGISTER_MEMORY = 0x826, Buffered, ReadWrite;
    /// Sends a slice of registered memory as one message; information is its length.
    /// Input: [`TransferRequest`](crate::TransferRequest).
    SendRegistered, IOCTL_SANWSK_SEND_REGISTERED = 0x827, Buffered, ReadWrite;
    /// Posts a slice of registered memory for one message; pends until it has come.
    /// Input: [`TransferRequest`](crate::TransferRequest). Output: [`ReceiveReply`](crate::ReceiveReply).
    ReceiveRegistered, IOCTL_SANWSK_RECEIVE_REGISTERED = 0x828, Buffered, ReadWrite;
    /// What an endpoint has done and holds. Input: [`EndpointRequest`](crate::EndpointRequest).
    /// Output: [`EndpointStatistics`](crate::EndpointStatistics).
    QueryStatistics, IOCTL_SANWSK_QUERY_STATISTICS = 0x829, Buffered, ReadWrite;
    /// What the device has done and holds, of all handles. Output: [`DeviceStatistics`](crate::DeviceStatistics).
    /// Asks for no access.
    QueryDeviceStatistics, IOCTL_SANWSK_QUERY_DEVICE_STATISTICS = 0x82A, Buffered, Any;
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
        }
    }
}
