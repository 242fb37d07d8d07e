//! What a SAN endpoint is, and what it may become.

use core::fmt;
use san_protocol::{EndpointState, NtStatus};

/// What a SAN endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// New, and nothing else.
    Idle,
    /// Bound to a SAN address and port.
    Bound,
    /// Lets connections wait in a backlog.
    Listening,
    /// Wants a connection, and has no answer yet.
    Connecting,
    /// A native connection that has not said yet what it wants.
    Arriving,
    /// Being put into a listener's backlog.
    Offering,
    /// Waits in a listener's backlog.
    Queued,
    /// Waits in a listener's backlog, but its peer is gone. The status is why.
    Abandoned(NtStatus),
    /// Taken out of the backlog; whether it is let in is to be decided.
    Undecided,
    /// Turned away; ends by itself.
    Rejecting,
    /// Connected.
    Connected,
    /// Connected, but this side has said, or is about to say, that it sends no more.
    Disconnecting,
    /// No longer connected, or never was. The status is why.
    Ended(NtStatus),
    /// Being closed, or closed.
    Closing,
}

/// Something that an endpoint cannot become from what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IllegalTransition {
    /// What it is.
    pub from: State,
    /// What it was to become.
    pub to: State,
}

impl State {
    /// The same, as endpoints are listed. What is in its hand-shake, or waits in a backlog, is not listed.
    #[must_use]
    pub const fn endpoint_state(self) -> EndpointState {
        match self {
            Self::Idle => EndpointState::Idle,
            Self::Bound => EndpointState::Bound,
            Self::Listening => EndpointState::Listening,
            Self::Connecting => EndpointState::Connecting,
            Self::Arriving | Self::Offering | Self::Queued | Self::Undecided => EndpointState::Undecided,
            Self::Connected => EndpointState::Connected,
            Self::Disconnecting => EndpointState::Disconnecting,
            Self::Abandoned(_) | Self::Ended(_) => EndpointState::Ended,
            Self::Rejecting | Self::Closing => EndpointState::Closing,
        }
    }

    /// Whether the owner of an endpoint in this state may ask for that one.
    ///
    /// # Errors
    ///
    /// Both states, if not.
    pub const fn may_become(self, to: Self) -> Result<(), IllegalTransition> {
        let legal = match to {
            Self::Bound => matches!(self, Self::Idle),
            Self::Listening | Self::Connecting => matches!(self, Self::Bound),
            Self::Connected | Self::Rejecting => matches!(self, Self::Undecided),
            Self::Disconnecting => matches!(self, Self::Connected),
            Self::Ended(_) => matches!(self, Self::Connected | Self::Disconnecting),
            Self::Closing => true,
            Self::Idle | Self::Arriving | Self::Offering | Self::Queued | Self::Abandoned(_) | Self::Undecided => false,
        };
        if legal { Ok(()) } else { Err(IllegalTransition { from: self, to }) }
    }

    /// What a request gets that needs a connection and finds none.
    pub(super) const fn not_connected(self) -> NtStatus {
        match self {
            Self::Ended(status) | Self::Abandoned(status) => status,
            Self::Closing | Self::Rejecting => NtStatus::INVALID_HANDLE,
            Self::Idle
            | Self::Bound
            | Self::Listening
            | Self::Connecting
            | Self::Arriving
            | Self::Offering
            | Self::Queued
            | Self::Undecided
            | Self::Connected
            | Self::Disconnecting => NtStatus::INVALID_CONNECTION,
        }
    }
}

impl IllegalTransition {
    /// What the request that asked for it completes with (the errors of WSPBind, WSPConnect, WSPListen and WSPAccept).
    #[must_use]
    pub const fn status(self) -> NtStatus {
        match (self.to, self.from) {
            (_, State::Ended(_) | State::Abandoned(_) | State::Closing | State::Rejecting) => self.from.not_connected(),
            (State::Connecting | State::Listening, State::Connecting)
            | (State::Disconnecting, State::Disconnecting) => NtStatus::DEVICE_BUSY,
            (
                State::Connecting | State::Listening,
                State::Arriving
                | State::Offering
                | State::Queued
                | State::Undecided
                | State::Connected
                | State::Disconnecting,
            ) => NtStatus::CONNECTION_ACTIVE,
            (
                State::Disconnecting | State::Ended(_),
                State::Idle
                | State::Bound
                | State::Listening
                | State::Connecting
                | State::Arriving
                | State::Offering
                | State::Queued
                | State::Undecided
                | State::Connected
                | State::Disconnecting,
            ) => NtStatus::INVALID_CONNECTION,
            (State::Connecting | State::Listening, State::Idle | State::Bound | State::Listening)
            | (
                State::Idle
                | State::Bound
                | State::Arriving
                | State::Offering
                | State::Queued
                | State::Abandoned(_)
                | State::Undecided
                | State::Rejecting
                | State::Connected
                | State::Closing,
                State::Idle
                | State::Bound
                | State::Listening
                | State::Connecting
                | State::Arriving
                | State::Offering
                | State::Queued
                | State::Undecided
                | State::Connected
                | State::Disconnecting,
            ) => NtStatus::INVALID_PARAMETER,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Idle => "idle",
            Self::Bound => "bound",
            Self::Listening => "listening",
            Self::Connecting => "connecting",
            Self::Arriving => "arriving",
            Self::Offering => "offered to a listener",
            Self::Queued => "queued",
            Self::Abandoned(_) => "abandoned",
            Self::Undecided => "undecided",
            Self::Rejecting => "being rejected",
            Self::Connected => "connected",
            Self::Disconnecting => "disconnecting",
            Self::Ended(_) => "ended",
            Self::Closing => "closing",
        })
    }
}

impl fmt::Display for IllegalTransition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an endpoint that is {} cannot become one that is {}", self.from, self.to)
    }
}

impl core::error::Error for IllegalTransition {}
