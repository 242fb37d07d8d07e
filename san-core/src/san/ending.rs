//! How an endpoint ends: disconnect, the peer's end, violations, cancelling, close.

use super::socket::{LastWord, Socket};
use super::{Action, ControlMessage, Endpoint, Incident, MessageType, Offer, Reply, State};
use crate::connect_failure::ConnectFailure;
use san_protocol::NtStatus;

impl<C, W, M: Copy> Endpoint<C, W, M> {
    /// Ends the connection. Gracefully: what was sent before still goes, then a goodbye; `waiter` completes when the peer's goodbye,
    /// or its end, is here. Abortively: at once; `waiter` completes when the socket is gone.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_CONNECTION`: not connected. `STATUS_DEVICE_BUSY`: disconnecting gracefully already. Otherwise why there is no
    /// connection any more.
    pub fn disconnect(&mut self, waiter: W, abortive: bool) -> Result<(), (W, NtStatus)> {
        let to = if abortive { State::Ended(NtStatus::CONNECTION_ABORTED) } else { State::Disconnecting };
        if let Err(illegal) = self.state.may_become(to) {
            return Err((waiter, illegal.status()));
        }
        let waiter = self.admit(waiter)?;
        if abortive {
            self.abort = Some(waiter);
            self.end(to, NtStatus::CONNECTION_ABORTED);
        } else {
            self.disconnect = Some(waiter);
            self.state = to;
        }
        self.settle();
        Ok(())
    }

    /// The peer's goodbye: nothing follows from it, and it takes nothing more.
    pub(super) fn goodbye_received(&mut self) {
        self.end(State::Ended(NtStatus::GRACEFUL_DISCONNECT), NtStatus::GRACEFUL_DISCONNECT);
        self.socket = match (self.has_said_goodbye, self.control) {
            (true, Some(MessageType::Goodbye)) => Socket::LastWordSending(LastWord::Goodbye),
            (true, _) => Socket::DisconnectDue(LastWord::Goodbye),
            (false, _) => Socket::LastWordDue(LastWord::Goodbye),
        };
    }

    pub(super) fn next_last_word(&mut self) -> Option<Action<W, M>> {
        let Socket::LastWordDue(word) = self.socket else { return None };
        if self.control.is_some() || self.outgoing.is_in_flight() {
            return None;
        }
        self.socket = Socket::LastWordSending(word);
        Some(match word {
            LastWord::Goodbye => self.send_control(MessageType::Goodbye, &ControlMessage::goodbye()),
            LastWord::Reject(reason) => self.send_control(MessageType::Reject, &ControlMessage::reject(reason)),
        })
    }

    /// Answer to [`Action::Disconnect`].
    pub fn disconnected(&mut self) {
        self.answered();
        match self.socket {
            Socket::Disconnecting(LastWord::Goodbye) => self.socket.close(),
            Socket::Disconnecting(LastWord::Reject(_)) => self.socket = Socket::Draining,
            // It is being closed.
            Socket::Absent
            | Socket::OpenDue { .. }
            | Socket::Opening { .. }
            | Socket::OpeningInVain
            | Socket::ConnectDue { .. }
            | Socket::Connecting
            | Socket::Open
            | Socket::LastWordDue(_)
            | Socket::LastWordSending(_)
            | Socket::DisconnectDue(_)
            | Socket::Draining
            | Socket::CloseDue
            | Socket::Closing
            | Socket::Closed => {}
        }
        self.settle();
    }

    /// The time that was to be waited has passed.
    pub fn timer_expired(&mut self) {
        if !self.timer.fire() {
            return;
        }
        match self.state {
            State::Connecting => self.connect_failed(ConnectFailure::TimedOut),
            State::Arriving => {
                self.incidents.handshake = Some(Incident::HandshakeTimedOut);
                self.close();
            }
            State::Rejecting => self.close(),
            State::Idle
            | State::Bound
            | State::Listening
            | State::Offering
            | State::Queued
            | State::Abandoned(_)
            | State::Undecided
            | State::Connected
            | State::Disconnecting
            | State::Ended(_)
            | State::Closing => {}
        }
        self.settle();
    }

    /// The peer has broken the protocol.
    pub(super) fn violated(&mut self) {
        self.incidents.end = Some(Incident::Violation);
        self.over(NtStatus::INVALID_NETWORK_RESPONSE, ConnectFailure::Violation);
    }

    /// A network operation failed in the middle of something.
    pub(super) fn lost(&mut self, status: NtStatus) {
        let end = match status {
            NtStatus::CANCELLED
            | NtStatus::REQUEST_ABORTED
            | NtStatus::INSUFFICIENT_RESOURCES
            | NtStatus::NO_MEMORY
            | NtStatus::LOCAL_DISCONNECT
            | NtStatus::CONNECTION_ABORTED => NtStatus::CONNECTION_ABORTED,
            _ => NtStatus::CONNECTION_RESET,
        };
        self.over(end, ConnectFailure::PeerVanished);
    }

    /// The peer ended between two messages, which after this side's goodbye is as good as its own.
    pub(super) fn peer_ended(&mut self, status: NtStatus) {
        if self.has_said_goodbye {
            self.over(NtStatus::GRACEFUL_DISCONNECT, ConnectFailure::PeerVanished);
        } else {
            self.lost(status);
        }
    }

    /// The connection is over, at whatever point it was.
    fn over(&mut self, status: NtStatus, failure: ConnectFailure) {
        match self.state {
            State::Connecting => self.connect_failed(failure),
            State::Connected | State::Disconnecting | State::Undecided => self.end(State::Ended(status), status),
            State::Queued => {
                self.is_withdraw_due = true;
                self.end(State::Abandoned(status), status);
            }
            // Nobody has it yet, or any more.
            State::Arriving | State::Offering | State::Rejecting => self.close(),
            State::Ended(_) | State::Abandoned(_) => self.socket.close(),
            State::Idle | State::Bound | State::Listening | State::Closing => {}
        }
    }

    /// The native connection is of no more use: what waits for it fails, and the socket is closed.
    pub(super) fn end(&mut self, state: State, status: NtStatus) {
        let has_stood = matches!(self.state, State::Connected | State::Disconnecting);
        if has_stood && state == State::Ended(status) {
            self.incidents.end.get_or_insert(Incident::Ended(status));
        }
        self.state = state;
        self.timer.stop();
        self.socket.close();
        self.is_accept_due = false;
        if let Offer::Due(_) = self.offer {
            self.offer = Offer::None;
        }
        if let Some(waiter) = self.session.take_waiter() {
            self.complete(waiter, Err(status));
        }
        self.fail_posted_receives(status);
        self.fail_queued_sends(status);
        if let Some(waiter) = self.disconnect.take() {
            let is_graceful = status == NtStatus::GRACEFUL_DISCONNECT;
            self.complete(waiter, if is_graceful { Ok(Reply::Nothing) } else { Err(status) });
        }
    }

    /// Closes the endpoint; everything inside comes out through actions. Again: nothing happens.
    pub fn close(&mut self) {
        if self.state == State::Closing {
            return;
        }
        let status = NtStatus::CANCELLED;
        if let Some(waiter) = self.connect.take().and_then(|connect| connect.waiter) {
            self.complete(waiter, Err(status));
        }
        while let Some(waiter) = self.backlog.as_mut().and_then(crate::backlog::Backlog::next_accepting) {
            self.complete(waiter, Err(status));
        }
        self.is_withdraw_due = false;
        self.end(State::Closing, status);
        self.settle();
    }

    /// Answer to [`Action::Close`].
    pub fn closed(&mut self) {
        self.answered();
        if self.socket == Socket::Closing {
            self.socket = Socket::Closed;
        }
        self.settle();
    }

    /// After everything that happens: what could not come out while the network was at work comes out now.
    pub(super) fn settle(&mut self) {
        let status = match self.state {
            State::Ended(status) => status,
            State::Closing => NtStatus::CANCELLED,
            State::Idle
            | State::Bound
            | State::Listening
            | State::Connecting
            | State::Arriving
            | State::Offering
            | State::Queued
            | State::Abandoned(_)
            | State::Undecided
            | State::Rejecting
            | State::Connected
            | State::Disconnecting => return,
        };
        self.fail_posted_receives(status);
        if !self.socket.is_gone() {
            return;
        }
        if let Some(waiter) = self.abort.take() {
            self.complete(waiter, Ok(Reply::Nothing));
        }
        if self.state == State::Closing && self.outstanding == 0 {
            while let Some(released) = self.regions.end_unused() {
                self.complete_released(released);
            }
        }
    }

    /// Cancels a request that waits: it comes back, for the caller to complete with `STATUS_CANCELLED`.
    ///
    /// `None` if it is not here, because it is on its way (the driver cancels its IRP) or about to complete, or if it comes out
    /// later: a receive that is half filled, and the registration of memory that the network is using, abort the connection
    /// and complete when nothing uses their memory any more; an abortive disconnect goes its way.
    ///
    /// A cancelled connect ends the endpoint. A cancelled disconnect has never been, unless the goodbye is out.
    pub fn cancel(&mut self, is_it: impl Fn(&W) -> bool) -> Option<W> {
        let waiter = self.cancel_inside(&is_it);
        if waiter.is_some() {
            self.waiters.leave();
        }
        self.settle();
        waiter
    }

    fn cancel_inside(&mut self, is_it: &impl Fn(&W) -> bool) -> Option<W> {
        if let Some(waiter) = self.cancel_connect(is_it) {
            return Some(waiter);
        }
        if let Some(waiter) = self.backlog.as_mut().and_then(|backlog| backlog.cancel(is_it)) {
            return Some(waiter);
        }
        if let Some(waiter) = self.session.cancel(is_it) {
            return Some(waiter);
        }
        if let Some(waiter) = self.cancel_disconnect(is_it) {
            return Some(waiter);
        }
        if let Some(waiter) = self.cancel_send(is_it) {
            return Some(waiter);
        }
        if let Some(waiter) = self.cancel_receive(is_it) {
            return Some(waiter);
        }
        if let Some(waiter) = self.regions.cancel_deregistration(is_it) {
            return Some(waiter);
        }
        self.cancel_registration(is_it)
    }

    fn cancel_disconnect(&mut self, is_it: &impl Fn(&W) -> bool) -> Option<W> {
        let waiter = self.disconnect.take_if(|waiter| is_it(waiter))?;
        if !self.has_said_goodbye {
            self.state = State::Connected;
        }
        Some(waiter)
    }

    fn cancel_registration(&mut self, is_it: &impl Fn(&W) -> bool) -> Option<W> {
        let key = self.regions.key_of(is_it)?;
        if let Some(released) = self.regions.revoke(key) {
            return Some(released.registration);
        }
        self.cancel_sends_from(key);
        self.cancel_receives_into(key);
        if self.regions.key_of(is_it).is_some() && self.is_connected().is_ok() {
            self.end(State::Ended(NtStatus::CONNECTION_ABORTED), NtStatus::CONNECTION_ABORTED);
        }
        None
    }
}
