//! The life of a stream connection.

use crate::Refusal;
use san_protocol::EndpointState;

/// What this side may still send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Anything.
    Open,
    /// Nothing: it has disconnected gracefully. The peer may go on.
    Ended,
    /// Nothing, and nothing comes in either: it has reset the connection.
    Aborted,
}

/// Where a setup operation starts from, which says what it has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// There is no WSK socket yet.
    NoSocket,
    /// The WSK socket exists and is bound.
    BoundSocket,
}

/// State of a connection endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// No WSK socket: nothing has been done yet, or what was tried has failed.
    Idle,
    /// A bind is under way.
    Binding,
    /// Bound to a local address.
    Bound,
    /// A connect is under way.
    Connecting,
    /// Both sides are connected, as far as this one knows.
    Connected(Sending),
    /// The WSK socket is no longer functional; it can only be closed.
    Broken,
    /// Being closed: admits nothing, and completes what is under way.
    Closing,
}

impl Connection {
    /// Where it is in its life, as endpoints are listed.
    #[must_use]
    pub const fn endpoint_state(self) -> EndpointState {
        match self {
            Self::Idle => EndpointState::Idle,
            Self::Binding => EndpointState::Binding,
            Self::Bound => EndpointState::Bound,
            Self::Connecting => EndpointState::Connecting,
            Self::Connected(Sending::Open) => EndpointState::Connected,
            Self::Connected(Sending::Ended) => EndpointState::Disconnecting,
            Self::Connected(Sending::Aborted) | Self::Broken => EndpointState::Ended,
            Self::Closing => EndpointState::Closing,
        }
    }

    /// A bind wants to start.
    ///
    /// # Errors
    ///
    /// Any state but [`Connection::Idle`] refuses.
    pub fn begin_bind(&mut self) -> Result<(), Refusal> {
        match self {
            Self::Idle => {
                *self = Self::Binding;
                Ok(())
            }
            Self::Binding | Self::Connecting => Err(Refusal::SetupUnderWay),
            Self::Bound | Self::Connected(_) => Err(Refusal::AlreadyBound),
            Self::Broken => Err(Refusal::Broken),
            Self::Closing => Err(Refusal::Closing),
        }
    }

    /// A connect wants to start.
    ///
    /// # Errors
    ///
    /// Only [`Connection::Idle`] and [`Connection::Bound`] admit it.
    pub fn begin_connect(&mut self) -> Result<Origin, Refusal> {
        let origin = match self {
            Self::Idle => Origin::NoSocket,
            Self::Bound => Origin::BoundSocket,
            Self::Binding | Self::Connecting => return Err(Refusal::SetupUnderWay),
            Self::Connected(_) => return Err(Refusal::AlreadyActive),
            Self::Broken => return Err(Refusal::Broken),
            Self::Closing => return Err(Refusal::Closing),
        };
        *self = Self::Connecting;
        Ok(origin)
    }

    /// The setup that was under way has succeeded. While closing it stays so.
    pub fn setup_succeeded(&mut self) {
        match self {
            Self::Binding => *self = Self::Bound,
            Self::Connecting => *self = Self::Connected(Sending::Open),
            Self::Idle | Self::Bound | Self::Connected(_) | Self::Broken | Self::Closing => {}
        }
    }

    /// The setup that was under way has failed, and its socket is gone. While closing it stays so.
    pub fn setup_failed(&mut self) {
        match self {
            Self::Binding | Self::Connecting => *self = Self::Idle,
            Self::Idle | Self::Bound | Self::Connected(_) | Self::Broken | Self::Closing => {}
        }
    }

    /// Whether a send may start.
    ///
    /// # Errors
    ///
    /// Not connected, or this side has ended its sending.
    pub fn admit_send(&self) -> Result<(), Refusal> {
        match self {
            Self::Connected(Sending::Open) => Ok(()),
            Self::Connected(Sending::Ended) => Err(Refusal::SendingEnded),
            Self::Connected(Sending::Aborted) => Err(Refusal::Aborted),
            Self::Idle | Self::Binding | Self::Bound | Self::Connecting => Err(Refusal::NotConnected),
            Self::Broken => Err(Refusal::Broken),
            Self::Closing => Err(Refusal::Closing),
        }
    }

    /// Whether a receive may start. A half-closed connection still receives.
    ///
    /// # Errors
    ///
    /// Not connected, or reset by this side.
    pub fn admit_receive(&self) -> Result<(), Refusal> {
        match self {
            Self::Connected(Sending::Open | Sending::Ended) => Ok(()),
            Self::Connected(Sending::Aborted) => Err(Refusal::Aborted),
            Self::Idle | Self::Binding | Self::Bound | Self::Connecting => Err(Refusal::NotConnected),
            Self::Broken => Err(Refusal::Broken),
            Self::Closing => Err(Refusal::Closing),
        }
    }

    /// A disconnect wants to start; from now on nothing more is sent. An abortive one may follow a graceful one, to force it.
    ///
    /// # Errors
    ///
    /// Not connected, or there is nothing left to end.
    pub fn begin_disconnect(&mut self, abortive: bool) -> Result<(), Refusal> {
        self.admit_receive()?;
        if !abortive {
            self.admit_send()?;
        }
        *self = Self::Connected(if abortive { Sending::Aborted } else { Sending::Ended });
        Ok(())
    }

    /// WSK has said that the socket is no longer functional.
    pub fn broken(&mut self) {
        match self {
            Self::Closing => {}
            Self::Idle | Self::Binding | Self::Bound | Self::Connecting | Self::Connected(_) | Self::Broken => {
                *self = Self::Broken;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Connection; 9] = [
        Connection::Idle,
        Connection::Binding,
        Connection::Bound,
        Connection::Connecting,
        Connection::Connected(Sending::Open),
        Connection::Connected(Sending::Ended),
        Connection::Connected(Sending::Aborted),
        Connection::Broken,
        Connection::Closing,
    ];

    #[test]
    fn binds_and_connects() {
        let mut connection = Connection::Idle;
        connection.begin_bind().unwrap();
        connection.setup_succeeded();
        assert_eq!(connection.begin_connect(), Ok(Origin::BoundSocket));
        connection.setup_succeeded();
        assert_eq!(connection, Connection::Connected(Sending::Open));
        assert_eq!(connection.begin_connect(), Err(Refusal::AlreadyActive));
    }

    #[test]
    fn may_try_again_after_a_failed_connect() {
        let mut connection = Connection::Idle;
        assert_eq!(connection.begin_connect(), Ok(Origin::NoSocket));
        assert_eq!(connection.begin_connect(), Err(Refusal::SetupUnderWay));
        connection.setup_failed();
        assert_eq!(connection.begin_connect(), Ok(Origin::NoSocket));
    }

    #[test]
    fn a_half_closed_connection_receives_but_does_not_send() {
        let mut connection = Connection::Connected(Sending::Open);
        connection.begin_disconnect(false).unwrap();
        assert_eq!(connection.admit_send(), Err(Refusal::SendingEnded));
        assert_eq!(connection.admit_receive(), Ok(()));
        assert_eq!(connection.begin_disconnect(false), Err(Refusal::SendingEnded));
        connection.begin_disconnect(true).unwrap();
        assert_eq!(connection.admit_receive(), Err(Refusal::Aborted));
    }

    #[test]
    fn a_refused_operation_changes_nothing() {
        for state in ALL {
            let mut connection = state;
            if connection.begin_bind().is_err() {
                assert_eq!(connection, state);
            }
            connection = state;
            if connection.begin_connect().is_err() {
                assert_eq!(connection, state);
            }
            for abortive in [false, true] {
                connection = state;
                if connection.begin_disconnect(abortive).is_err() {
                    assert_eq!(connection, state);
                }
            }
        }
    }

    #[test]
    fn closing_is_final() {
        let mut connection = Connection::Closing;
        connection.setup_succeeded();
        connection.setup_failed();
        connection.broken();
        assert_eq!(connection.begin_bind(), Err(Refusal::Closing));
        assert_eq!(connection.begin_connect(), Err(Refusal::Closing));
        assert_eq!(connection.admit_send(), Err(Refusal::Closing));
        assert_eq!(connection.admit_receive(), Err(Refusal::Closing));
        assert_eq!(connection, Connection::Closing);
    }
}
