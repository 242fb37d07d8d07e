//! The life of a stream listener.

use crate::Refusal;
use crate::backlog::{Backlog, Verdict};
use san_protocol::EndpointState;

/// State of a listener endpoint; `C` stands for a connection, `A` for a caller that wants one.
#[derive(Debug)]
pub enum Listener<C, A> {
    /// No WSK socket.
    Idle,
    /// A bind is under way.
    Binding,
    /// Bound. WSK delivers connection requests from now on, and all of them are refused.
    Bound,
    /// Connections are let in as far as the backlog goes.
    Listening(Backlog<C, A>),
    /// The WSK socket is no longer functional; it can only be closed.
    Broken,
    /// Being closed.
    Closing,
}

impl<C, A> Listener<C, A> {
    /// Where it is in its life, as endpoints are listed.
    #[must_use]
    pub const fn endpoint_state(&self) -> EndpointState {
        match self {
            Self::Idle => EndpointState::Idle,
            Self::Binding => EndpointState::Binding,
            Self::Bound => EndpointState::Bound,
            Self::Listening(_) => EndpointState::Listening,
            Self::Broken => EndpointState::Ended,
            Self::Closing => EndpointState::Closing,
        }
    }

    /// A bind wants to start.
    ///
    /// # Errors
    ///
    /// Any state but [`Listener::Idle`] refuses.
    pub fn begin_bind(&mut self) -> Result<(), Refusal> {
        match self {
            Self::Idle => {
                *self = Self::Binding;
                Ok(())
            }
            Self::Binding => Err(Refusal::SetupUnderWay),
            Self::Bound | Self::Listening(_) => Err(Refusal::AlreadyBound),
            Self::Broken => Err(Refusal::Broken),
            Self::Closing => Err(Refusal::Closing),
        }
    }

    /// The bind has succeeded. While closing it stays so.
    pub fn setup_succeeded(&mut self) {
        match self {
            Self::Binding => *self = Self::Bound,
            Self::Idle | Self::Bound | Self::Listening(_) | Self::Broken | Self::Closing => {}
        }
    }

    /// The bind has failed, and its socket is gone. While closing it stays so.
    pub fn setup_failed(&mut self) {
        match self {
            Self::Binding => *self = Self::Idle,
            Self::Idle | Self::Bound | Self::Listening(_) | Self::Broken | Self::Closing => {}
        }
    }

    /// Opens the backlog.
    ///
    /// # Errors
    ///
    /// Not bound, or listening already; the backlog comes back, for its memory is not to be freed under a lock.
    pub fn listen(&mut self, backlog: Backlog<C, A>) -> Result<(), (Refusal, Backlog<C, A>)> {
        let refusal = match self {
            Self::Bound => {
                *self = Self::Listening(backlog);
                return Ok(());
            }
            Self::Idle => Refusal::NotBound,
            Self::Binding => Refusal::SetupUnderWay,
            Self::Listening(_) => Refusal::AlreadyActive,
            Self::Broken => Refusal::Broken,
            Self::Closing => Refusal::Closing,
        };
        Err((refusal, backlog))
    }

    /// A peer asks to connect.
    pub fn inspect(&mut self) -> Verdict {
        match self {
            Self::Listening(backlog) => backlog.inspect(),
            Self::Idle | Self::Binding | Self::Bound | Self::Broken | Self::Closing => Verdict::Reject,
        }
    }

    /// The backlog, for accepting.
    ///
    /// # Errors
    ///
    /// Not listening.
    pub fn backlog(&mut self) -> Result<&mut Backlog<C, A>, Refusal> {
        match self {
            Self::Listening(backlog) => Ok(backlog),
            Self::Idle | Self::Bound => Err(Refusal::NotBound),
            Self::Binding => Err(Refusal::SetupUnderWay),
            Self::Broken => Err(Refusal::Broken),
            Self::Closing => Err(Refusal::Closing),
        }
    }

    /// Ends the listener: what waited in it comes out, for the caller to close and to complete.
    pub fn end(&mut self, into: Ended) -> Option<Backlog<C, A>> {
        let next = match (into, &*self) {
            (Ended::Broken, Self::Closing) | (Ended::Closing, _) => Self::Closing,
            (Ended::Broken, Self::Idle | Self::Binding | Self::Bound | Self::Listening(_) | Self::Broken) => {
                Self::Broken
            }
        };
        match core::mem::replace(self, next) {
            Self::Listening(backlog) => Some(backlog),
            Self::Idle | Self::Binding | Self::Bound | Self::Broken | Self::Closing => None,
        }
    }
}

/// How a listener ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// WSK has said that its socket is no longer functional.
    Broken,
    /// Its owner closes it.
    Closing,
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tested = Listener<u32, u32>;

    #[test]
    fn refuses_every_peer_until_it_listens() {
        let mut listener = Tested::Idle;
        listener.begin_bind().unwrap();
        assert_eq!(listener.inspect(), Verdict::Reject);
        listener.setup_succeeded();
        assert_eq!(listener.inspect(), Verdict::Reject);
        listener.listen(Backlog::new(1).unwrap()).unwrap();
        assert_eq!(listener.inspect(), Verdict::Accept);
        assert_eq!(listener.inspect(), Verdict::Reject);
    }

    #[test]
    fn an_unbound_or_listening_endpoint_does_not_listen() {
        let mut listener = Tested::Idle;
        assert_eq!(listener.listen(Backlog::new(1).unwrap()).unwrap_err().0, Refusal::NotBound);
        listener = Tested::Listening(Backlog::new(1).unwrap());
        assert_eq!(listener.listen(Backlog::new(1).unwrap()).unwrap_err().0, Refusal::AlreadyActive);
    }

    #[test]
    fn what_waited_comes_out_at_the_end_once() {
        let mut listener = Tested::Listening(Backlog::new(2).unwrap());
        assert_eq!(listener.inspect(), Verdict::Accept);
        assert!(listener.backlog().unwrap().arrived(7).unwrap().is_none());
        let mut backlog = listener.end(Ended::Broken).unwrap();
        assert_eq!(backlog.next_waiting(), Some(7));
        assert!(listener.end(Ended::Closing).is_none());
        assert!(matches!(listener, Tested::Closing));
        assert!(listener.end(Ended::Broken).is_none());
        assert!(matches!(listener, Tested::Closing), "closing is final");
    }
}
