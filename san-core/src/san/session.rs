//! The session: what each side offers the other, once, before data flows.

use super::{Action, Endpoint, Reply, State};
use san_protocol::NtStatus;
use san_protocol::wire::{ControlMessage, Header, MAX_PRIVATE_DATA, MessageType, SessionOffer};

/// The peer's part of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerOffer {
    /// Receives that it had posted.
    pub receive_count: u32,
    /// Longest message, in bytes, that it takes.
    pub receive_size: u32,
    /// Bytes of `private` that it sent.
    pub private_length: u32,
    /// Its private data, then zeros.
    pub private: [u8; MAX_PRIVATE_DATA],
}

/// This side's part.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "boxing the data would be an allocation that can fail")]
enum OwnOffer {
    /// Not made yet.
    Unmade,
    /// Made, and to be sent: longest message, private data and its length.
    Due(u32, [u8; MAX_PRIVATE_DATA], usize),
    /// Sent: longest message.
    Sent(u32),
}

/// Both parts. `W` is the request to negotiate.
#[derive(Debug)]
pub(super) struct Session<W> {
    own: OwnOffer,
    peer: Option<PeerOffer>,
    waiter: Option<W>,
}

impl<W> Session<W> {
    pub(super) const fn new() -> Self {
        Self { own: OwnOffer::Unmade, peer: None, waiter: None }
    }

    /// The peer's part, once both have been made.
    pub(super) fn standing(&self) -> Option<&PeerOffer> {
        match self.own {
            OwnOffer::Sent(_) => self.peer.as_ref(),
            OwnOffer::Unmade | OwnOffer::Due(..) => None,
        }
    }

    /// The least that a posted receive must hold, once this side has said so.
    pub(super) const fn receive_size(&self) -> Option<u32> {
        match self.own {
            OwnOffer::Due(size, ..) | OwnOffer::Sent(size) => Some(size),
            OwnOffer::Unmade => None,
        }
    }

    pub(super) const fn is_sent(&self) -> bool {
        matches!(self.own, OwnOffer::Sent(_))
    }

    pub(super) const fn is_due(&self) -> bool {
        matches!(self.own, OwnOffer::Due(..))
    }

    pub(super) const fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    pub(super) fn take_waiter(&mut self) -> Option<W> {
        self.waiter.take()
    }

    /// Takes the request out. If the offer was not sent yet, it was never made; else the session may still come to stand.
    pub(super) fn cancel(&mut self, is_it: impl Fn(&W) -> bool) -> Option<W> {
        let waiter = self.waiter.take_if(|waiter| is_it(waiter))?;
        if self.is_due() {
            self.own = OwnOffer::Unmade;
        }
        Some(waiter)
    }
}

impl<C, W, M: Copy> Endpoint<C, W, M> {
    /// Offers the peer a session: `private` data for it, and that messages up to `receive_size` bytes are taken. `waiter`
    /// completes with [`Reply::Negotiated`] when the peer's offer is here too. The receives posted so far are its credits.
    ///
    /// # Errors
    ///
    /// - `STATUS_INVALID_BUFFER_SIZE`: more than 256 bytes of private data.
    /// - `STATUS_INVALID_PARAMETER`: done before, `receive_size` is past the limit, or a posted receive is shorter.
    /// - `STATUS_GRACEFUL_DISCONNECT`: this side has disconnected. Otherwise why there is no connection.
    pub fn negotiate(&mut self, waiter: W, private: &[u8], receive_size: u32) -> Result<(), (W, NtStatus)> {
        if let Err(status) = self.check_negotiate(private, receive_size) {
            return Err((waiter, status));
        }
        let waiter = self.admit(waiter)?;
        let mut bytes = [0; MAX_PRIVATE_DATA];
        bytes[..private.len()].copy_from_slice(private);
        self.session.own = OwnOffer::Due(receive_size, bytes, private.len());
        self.session.waiter = Some(waiter);
        Ok(())
    }

    fn check_negotiate(&self, private: &[u8], receive_size: u32) -> Result<(), NtStatus> {
        self.may_send()?;
        if private.len() > MAX_PRIVATE_DATA {
            return Err(NtStatus::INVALID_BUFFER_SIZE);
        }
        let is_made = self.session.receive_size().is_some();
        if is_made || receive_size > self.limits.message_size || receive_size > self.incoming.shortest() {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        Ok(())
    }

    /// Whether this side is connected and has not said goodbye.
    pub(super) fn may_send(&self) -> Result<(), NtStatus> {
        match self.state {
            State::Disconnecting => Err(NtStatus::GRACEFUL_DISCONNECT),
            State::Connected => Ok(()),
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
            | State::Ended(_)
            | State::Closing => Err(self.state.not_connected()),
        }
    }

    /// The peer's part of the session, once it stands.
    #[must_use]
    pub fn peer_offer(&self) -> Option<&PeerOffer> {
        self.session.standing()
    }

    /// Accept and session, which go before all else.
    pub(super) fn next_opening_word(&mut self) -> Option<Action<W, M>> {
        if self.control.is_some() {
            return None;
        }
        if core::mem::take(&mut self.is_accept_due) {
            return Some(self.send_control(MessageType::Accept, &ControlMessage::accept()));
        }
        let OwnOffer::Due(receive_size, private, length) = &self.session.own else { return None };
        let receive_size = *receive_size;
        let offer = SessionOffer { receive_size, private: &private[..*length] };
        let message = ControlMessage::session(&offer, self.incoming.grant()).ok()?;
        self.session.own = OwnOffer::Sent(receive_size);
        self.session_may_stand();
        Some(self.send_control(MessageType::Session, &message))
    }

    /// Credits and the goodbye that this side begins with, when nothing else can go.
    pub(super) fn next_word(&mut self) -> Option<Action<W, M>> {
        if self.control.is_some() || self.has_said_goodbye {
            return None;
        }
        if self.state == State::Disconnecting && !self.outgoing.is_queued() && !self.session.is_due() {
            self.has_said_goodbye = true;
            return Some(self.send_control(MessageType::Goodbye, &ControlMessage::goodbye()));
        }
        if self.session.is_sent() && self.incoming.is_grant_due() {
            let credits = self.incoming.grant();
            return Some(self.send_control(MessageType::Credit, &ControlMessage::credit(credits)));
        }
        None
    }

    pub(super) fn session_header(&mut self, header: Header) {
        if self.session.has_peer() {
            self.violated();
        } else {
            self.incoming.expect_control(header);
        }
    }

    pub(super) fn session_control(&mut self, header: Header, payload: &[u8]) {
        let Ok(offer) = SessionOffer::parse(payload) else { return self.violated() };
        let mut private = [0; MAX_PRIVATE_DATA];
        private[..offer.private.len()].copy_from_slice(offer.private);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_PRIVATE_DATA")]
        let private_length = offer.private.len() as u32;
        let (receive_count, receive_size) = (header.credits, offer.receive_size);
        self.session.peer = Some(PeerOffer { receive_count, receive_size, private_length, private });
        if self.outgoing.add_credits(header.credits).is_err() {
            return self.violated();
        }
        self.session_may_stand();
    }

    fn session_may_stand(&mut self) {
        if self.session.standing().is_some()
            && let Some(waiter) = self.session.take_waiter()
        {
            self.complete(waiter, Ok(Reply::Negotiated));
        }
    }
}
