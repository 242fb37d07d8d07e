//! What the numbers in requests and replies stand for: flags, rights, events, kinds and states.

/// Flag of [`ReceiveRequest`](crate::ReceiveRequest): complete only when the buffer is full, the peer has ended its side, or on an error
/// (`WSK_FLAG_WAITALL`).
pub const RECEIVE_ALL: u32 = 1;

/// Flag of [`DisconnectRequest`](crate::DisconnectRequest): reset the connection and drop what is not sent yet (`WSK_FLAG_ABORTIVE`).
pub const DISCONNECT_ABORTIVE: u32 = 1;

/// Flag of [`EndpointsRequest`](crate::EndpointsRequest): endpoints of all handles, not of the caller's own alone. Administrators only.
pub const ENDPOINTS_OF_ALL_HANDLES: u32 = 1;

/// Flag of [`HandlesRequest`](crate::HandlesRequest): all handles, not the caller's own alone. Administrators only.
pub const ALL_HANDLES: u32 = 1;

/// Flag of [`Route`](crate::Route): TCP/IP does not reach the SAN addresses.
pub const ROUTE_SAN_ONLY: u32 = 1;

/// Flag of [`Route`](crate::Route), in answers alone: the route comes from the registry.
pub const ROUTE_FROM_REGISTRY: u32 = 2;

/// Backlog that stands for "a reasonable maximum" in [`ListenRequest`](crate::ListenRequest), as winsock2.h defines it.
pub const SOMAXCONN: u32 = 0x7FFF_FFFF;

/// Network event: a connect has ended, as winsock2.h numbers it.
pub const FD_CONNECT: u32 = 0x10;

/// Network event: a connection waits to be accepted, as winsock2.h numbers it.
pub const FD_ACCEPT: u32 = 0x08;

/// The network events that [`EventSelectRequest::mask`](crate::EventSelectRequest::mask) may name.
pub const NETWORK_EVENTS: u32 = FD_CONNECT | FD_ACCEPT;

/// Right of registered memory: messages may be sent from it.
pub const MEMORY_SEND: u32 = 1;

/// Right of registered memory: messages may be received into it.
pub const MEMORY_RECEIVE: u32 = 2;

/// The rights that [`RegisterMemoryRequest::rights`](crate::RegisterMemoryRequest::rights) may name.
pub const MEMORY_RIGHTS: u32 = MEMORY_SEND | MEMORY_RECEIVE;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident: $number:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr($number)]
        pub enum $name { $($(#[$variant_doc])* $variant = $value,)* }

        impl $name {
            /// Every one, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What `number` stands for; `None` if it stands for nothing.
            #[must_use]
            pub const fn from_number(number: $number) -> Option<Self> {
                match number {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use numbered;

numbered! {
    /// What an endpoint is made for: one of WSK's socket categories, or SAN.
    EndpointKind: u32 {
        /// A TCP connection to be made by [`Connect`](crate::ControlCode::Connect).
        StreamConnection = 1,
        /// A TCP listener, whose connections [`Accept`](crate::ControlCode::Accept) hands out.
        StreamListener = 2,
        /// A SAN endpoint, which connects or listens, and moves messages.
        San = 3,
    }
}

numbered! {
    /// Where an endpoint is in its life.
    EndpointState: u32 {
        /// New, and nothing else.
        Idle = 0,
        /// A bind is under way.
        Binding = 1,
        /// Bound to a local address.
        Bound = 2,
        /// Lets connections wait in a backlog.
        Listening = 3,
        /// A connect is under way.
        Connecting = 4,
        /// SAN: taken out of a backlog, and not decided on yet.
        Undecided = 5,
        /// Connected.
        Connected = 6,
        /// Connected, but this side has said that it sends no more.
        Disconnecting = 7,
        /// No longer connected, or never was: it can only be closed.
        Ended = 8,
        /// Being closed.
        Closing = 9,
    }
}

numbered! {
    /// What becomes of a connection that was accepted undecided.
    Decision: u32 {
        /// The peer is told that it is connected.
        Accept = 1,
        /// The peer is refused, and the endpoint is gone: the request ends with `STATUS_CONNECTION_REFUSED`.
        Reject = 2,
    }
}

numbered! {
    /// How the driver stands to the WSK subsystem.
    ProviderState: u32 {
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
    SocketOption: u32 {
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
    fn numbers_without_a_meaning_stay_numbers() {
        assert_eq!(EndpointKind::from_number(1), Some(EndpointKind::StreamConnection));
        assert_eq!((EndpointKind::from_number(0), EndpointKind::from_number(4)), (None, None));
        assert_eq!((Decision::from_number(2), Decision::from_number(3)), (Some(Decision::Reject), None));
        assert_eq!(SocketOption::from_number(5), None);
    }
}
