//! The native connection under an endpoint, and the endpoint's timer.

use core::net::SocketAddr;
use san_protocol::wire::RejectReason;

/// What is said last over a native connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastWord {
    Goodbye,
    Reject(RejectReason),
}

/// The native socket. "Due" is what has to be done and was not started yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// There is none yet.
    Absent,
    OpenDue {
        local: SocketAddr,
        remote: SocketAddr,
    },
    Opening {
        remote: SocketAddr,
    },
    /// Nobody wants it any more, but it cannot be closed before it is there.
    OpeningInVain,
    ConnectDue {
        remote: SocketAddr,
    },
    Connecting,
    Open,
    LastWordDue(LastWord),
    LastWordSending(LastWord),
    DisconnectDue(LastWord),
    Disconnecting(LastWord),
    /// Disconnected after a reject; the peer is to end its side first, for else the reject might not reach it.
    Draining,
    CloseDue,
    Closing,
    /// There is none any more.
    Closed,
}

impl Socket {
    /// It is to be closed, as soon as that is possible.
    pub(super) fn close(&mut self) {
        *self = match *self {
            Self::Absent | Self::OpenDue { .. } | Self::Closed => Self::Closed,
            Self::Opening { .. } | Self::OpeningInVain => Self::OpeningInVain,
            Self::ConnectDue { .. }
            | Self::Connecting
            | Self::Open
            | Self::LastWordDue(_)
            | Self::LastWordSending(_)
            | Self::DisconnectDue(_)
            | Self::Disconnecting(_)
            | Self::Draining
            | Self::CloseDue => Self::CloseDue,
            Self::Closing => Self::Closing,
        };
    }

    pub(super) const fn is_gone(&self) -> bool {
        matches!(self, Self::Absent | Self::Closed)
    }
}

/// The one timer. A timer that fires while it is being stopped counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Off,
    /// Milliseconds.
    StartDue(u32),
    Running,
    StopDue,
}

impl Timer {
    pub(super) fn stop(&mut self) {
        *self = match self {
            Self::Off | Self::StartDue(_) => Self::Off,
            Self::Running | Self::StopDue => Self::StopDue,
        };
    }

    /// Whether it was running; it is off afterwards.
    pub(super) fn fire(&mut self) -> bool {
        match self {
            Self::Running => {
                *self = Self::Off;
                true
            }
            Self::Off | Self::StartDue(_) | Self::StopDue => false,
        }
    }
}
