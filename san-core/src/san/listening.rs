//! Listen, accept and decide: the side that is asked.

use super::socket::{LastWord, Socket, Timer};
use super::{Endpoint, FD_ACCEPT, IllegalTransition, Incident, Offer, Offered, State};
use crate::backlog::{Backlog, Verdict};
use san_protocol::NtStatus;
use san_protocol::wire::{ConnectRequest, Header, MessageType, RejectReason, WireError};

impl<C, W, M: Copy> Endpoint<C, W, M> {
    /// Whether it may listen.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: not bound, or listening already. `STATUS_CONNECTION_ACTIVE`: connected (WSPListen).
    pub fn check_listen(&self) -> Result<(), NtStatus> {
        self.state.may_become(State::Listening).map_err(IllegalTransition::status)
    }

    /// Lets connections wait in `backlog`.
    ///
    /// # Errors
    ///
    /// Those of [`Endpoint::check_listen`]; the backlog comes back.
    pub fn listen(&mut self, backlog: Backlog<C, W>) -> Result<(), (NtStatus, Backlog<C, W>)> {
        match self.check_listen() {
            Ok(()) => {
                (self.state, self.backlog) = (State::Listening, Some(backlog));
                Ok(())
            }
            Err(status) => Err((status, backlog)),
        }
    }

    /// Takes out the connection that has waited longest, with `waiter`; `None` if `waiter` waits for one. `FD_ACCEPT` is
    /// recorded anew if more connections wait, otherwise it is cleared.
    ///
    /// # Errors
    ///
    /// `STATUS_CANT_WAIT`: none waits, and `FD_ACCEPT` is selected. `STATUS_INVALID_PARAMETER`: not listening (WSPAccept).
    pub fn accept(&mut self, waiter: W) -> Result<Option<(C, W)>, (W, NtStatus)> {
        let backlog = match (self.state, self.backlog.as_mut()) {
            (State::Listening, Some(backlog)) => backlog,
            (State::Closing | State::Rejecting, _) => return Err((waiter, NtStatus::INVALID_HANDLE)),
            (_, _) => return Err((waiter, NtStatus::INVALID_PARAMETER)),
        };
        if backlog.waiting() == 0 && self.events.is_selected(FD_ACCEPT) {
            return Err((waiter, NtStatus::CANT_WAIT));
        }
        if self.waiters.admit().is_err() {
            return Err((waiter, NtStatus::INSUFFICIENT_RESOURCES));
        }
        let met = match backlog.accept(waiter) {
            Ok(met) => met,
            Err(waiter) => {
                self.waiters.leave();
                return Err((waiter, NtStatus::INSUFFICIENT_RESOURCES));
            }
        };
        if met.is_some() {
            self.waiters.leave();
            self.events.none_waits();
            self.tell_of_waiting();
        }
        Ok(met)
    }

    /// A connection wants to wait here: it meets the accept that has waited longest, or waits itself.
    ///
    /// # Errors
    ///
    /// The connection comes back with the reason to give its peer: the backlog is full, or nobody listens. Nothing is recorded.
    pub fn arrived(&mut self, connection: C) -> Result<Option<(C, W)>, (C, RejectReason)> {
        let (State::Listening, Some(backlog)) = (self.state, self.backlog.as_mut()) else {
            return Err((connection, RejectReason::NobodyListens));
        };
        match backlog.inspect() {
            Verdict::Accept => {}
            Verdict::Reject => return Err((connection, RejectReason::BacklogFull)),
        }
        match backlog.arrived(connection) {
            Ok(Some(met)) => {
                self.waiters.leave();
                Ok(Some(met))
            }
            Ok(None) => {
                self.events.connection_waits();
                Ok(None)
            }
            Err(connection) => Err((connection, RejectReason::BacklogFull)),
        }
    }

    /// Takes a waiting connection out: its peer is gone, or, after [`Endpoint::close`], the listener is, and then the driver takes
    /// out one after the other and turns them away by [`Endpoint::offered`].
    pub fn withdraw(&mut self, is_it: impl FnMut(&C) -> bool) -> Option<C> {
        let backlog = self.backlog.as_mut()?;
        let connection = backlog.withdraw(is_it)?;
        if backlog.waiting() == 0 {
            self.events.none_waits();
        }
        Some(connection)
    }

    pub(super) fn arriving_header(&mut self, header: Result<Header, WireError>) {
        match header {
            Ok(header) if header.message == MessageType::ConnectRequest => self.incoming.expect_control(header),
            // It speaks this protocol, and will understand that much.
            Err(WireError::Version(_)) => self.reject(RejectReason::Version),
            Ok(_) | Err(_) => self.violated(),
        }
    }

    pub(super) fn arriving_control(&mut self, payload: &[u8]) {
        match ConnectRequest::parse(payload) {
            Ok(request) => {
                self.state = State::Offering;
                (self.local, self.remote) = (Some(request.target), Some(request.source));
                self.offer = Offer::Due(request);
            }
            Err(_) => self.violated(),
        }
    }

    /// Answer to [`Action::Offer`](super::Action::Offer). A rejection may also come later, while the connection waits in the
    /// backlog of a listener that ends.
    pub fn offered(&mut self, offered: Offered) {
        self.offer = Offer::None;
        match (self.state, offered) {
            (State::Offering, Offered::Queued) => {
                self.state = State::Queued;
                self.timer.stop();
            }
            (State::Offering | State::Queued, Offered::Rejected(reason)) => self.reject(reason),
            (State::Abandoned(_), Offered::Rejected(_)) => self.close(),
            // It has been accepted, or has ended, meanwhile.
            (_, Offered::Queued | Offered::Rejected(_)) => {}
        }
        self.settle();
    }

    /// An accept has taken it out of the backlog; perhaps before its driver could say that it is in there.
    pub fn taken(&mut self) {
        self.is_withdraw_due = false;
        match self.state {
            State::Offering | State::Queued => {
                self.state = State::Undecided;
                self.timer.stop();
            }
            State::Abandoned(status) => self.state = State::Ended(status),
            State::Idle
            | State::Bound
            | State::Listening
            | State::Connecting
            | State::Arriving
            | State::Undecided
            | State::Rejecting
            | State::Connected
            | State::Disconnecting
            | State::Ended(_)
            | State::Closing => {}
        }
    }

    /// Lets an undecided connection in, or turns it away; its peer has heard nothing so far. An endpoint that was turned away
    /// ends by itself, and admits nothing more.
    ///
    /// # Errors
    ///
    /// `STATUS_CONNECTION_RESET`: the peer is gone; the endpoint stays, to be closed. `STATUS_INVALID_PARAMETER`: not undecided.
    pub fn decide(&mut self, accept: bool) -> Result<(), NtStatus> {
        let to = if accept { State::Connected } else { State::Rejecting };
        self.state.may_become(to).map_err(IllegalTransition::status)?;
        if accept {
            self.state = State::Connected;
            self.is_accept_due = true;
        } else {
            self.reject(RejectReason::Refused);
        }
        Ok(())
    }

    /// Says why not, and ends.
    fn reject(&mut self, reason: RejectReason) {
        self.state = State::Rejecting;
        self.socket = Socket::LastWordDue(LastWord::Reject(reason));
        self.timer = Timer::StartDue(self.limits.handshake_timeout);
        self.incidents.handshake = Some(Incident::Rejected(reason));
    }
}
