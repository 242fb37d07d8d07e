//! Sends: queued until there is a credit, then on their way, in order.

use super::{Action, Endpoint, Reply, Right, Slice, State};
use alloc::collections::VecDeque;
use san_protocol::NtStatus;
use san_protocol::wire::{Header, MAX_CREDITS, MessageType};

/// A send on its way; it comes back by [`Endpoint::sent`].
#[derive(Clone, Copy, Debug)]
pub struct Sending<W> {
    /// The request.
    pub waiter: W,
    key: Option<u64>,
    length: u32,
}

impl<W> Sending<W> {
    /// The region that it sends from, if it does.
    #[must_use]
    pub const fn key(&self) -> Option<u64> {
        self.key
    }

    /// Takes the request out, for it to have the rest inside itself while it is on its way.
    pub fn split(self) -> (W, Sending<()>) {
        let Self { waiter, key, length } = self;
        (waiter, Sending { waiter: (), key, length })
    }
}

impl Sending<()> {
    /// Puts the request back.
    pub fn with<W>(self, waiter: W) -> Sending<W> {
        let Self { waiter: (), key, length } = self;
        Sending { waiter, key, length }
    }
}

#[derive(Debug)]
struct Queued<W, M> {
    waiter: W,
    slice: Slice<M>,
    key: Option<u64>,
}

/// The peer holds more credits than there may be.
#[derive(Debug)]
pub(super) struct TooManyCredits;

/// The sends of an endpoint.
#[derive(Debug)]
pub(super) struct Outgoing<W, M> {
    queued: VecDeque<Queued<W, M>>,
    in_flight: usize,
    credits: u32,
    /// Sent so far.
    pub(super) messages: u64,
    /// Sent so far.
    pub(super) bytes: u64,
}

impl<W, M> Outgoing<W, M> {
    pub(super) const fn new() -> Self {
        Self { queued: VecDeque::new(), in_flight: 0, credits: 0, messages: 0, bytes: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.queued.len() + self.in_flight
    }

    pub(super) fn is_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight != 0
    }

    pub(super) const fn credits(&self) -> u32 {
        self.credits
    }

    pub(super) fn add_credits(&mut self, credits: u32) -> Result<(), TooManyCredits> {
        let sum = self.credits.checked_add(credits).filter(|&sum| sum <= MAX_CREDITS);
        self.credits = sum.ok_or(TooManyCredits)?;
        Ok(())
    }

    fn take_queued(&mut self, is_it: impl Fn(&Queued<W, M>) -> bool) -> Option<Queued<W, M>> {
        let position = self.queued.iter().position(is_it)?;
        self.queued.remove(position)
    }
}

impl<C, W, M: Copy> Endpoint<C, W, M> {
    /// Sends one message, perhaps an empty one, from memory that is locked for this send alone. `waiter` completes with
    /// [`Reply::Transferred`].
    ///
    /// # Errors
    ///
    /// - `STATUS_INVALID_CONNECTION`: not connected, or no session stands.
    /// - `STATUS_INVALID_BUFFER_SIZE`: longer than the limit, or than the peer takes.
    /// - `STATUS_GRACEFUL_DISCONNECT`: this side has disconnected. Otherwise why there is no connection any more.
    pub fn send(&mut self, waiter: W, slice: Slice<M>) -> Result<(), (W, NtStatus)> {
        self.enqueue(waiter, None, |_| Ok(slice))
    }

    /// Sends one message from registered memory.
    ///
    /// # Errors
    ///
    /// Those of [`Endpoint::send`] and [`Regions::slice`](crate::memory::Regions::slice).
    pub fn send_registered(&mut self, waiter: W, key: u64, offset: u64, length: u32) -> Result<(), (W, NtStatus)> {
        self.enqueue(waiter, Some(key), |endpoint| endpoint.slice(key, offset, length, Right::Send))
    }

    fn enqueue(
        &mut self,
        waiter: W,
        key: Option<u64>,
        slice: impl FnOnce(&Self) -> Result<Slice<M>, NtStatus>,
    ) -> Result<(), (W, NtStatus)> {
        let slice = match self.check_send().and_then(|limit| slice(self).map(|slice| (slice, limit))) {
            Ok((slice, limit)) if slice.length <= limit => slice,
            Ok(_) => return Err((waiter, NtStatus::INVALID_BUFFER_SIZE)),
            Err(status) => return Err((waiter, status)),
        };
        if self.outgoing.queued.try_reserve(1).is_err() {
            return Err((waiter, NtStatus::INSUFFICIENT_RESOURCES));
        }
        let waiter = self.admit(waiter)?;
        if let Some(Err(status)) = key.map(|key| self.regions.begin_use(key)) {
            self.waiters.leave();
            return Err((waiter, status));
        }
        self.outgoing.queued.push_back(Queued { waiter, slice, key });
        Ok(())
    }

    /// How long a message may be.
    fn check_send(&self) -> Result<u32, NtStatus> {
        self.may_send()?;
        let offer = self.session.standing().ok_or(NtStatus::INVALID_CONNECTION)?;
        Ok(offer.receive_size.min(self.limits.message_size))
    }

    pub(super) fn next_data(&mut self) -> Option<Action<W, M>> {
        if self.outgoing.credits == 0 || self.session.standing().is_none() {
            return None;
        }
        let Queued { waiter, slice, key } = self.outgoing.queued.pop_front()?;
        self.outgoing.credits -= 1;
        self.outgoing.in_flight += 1;
        let header = Header { message: MessageType::Data, length: slice.length, credits: self.incoming.grant() };
        Some(Action::SendData { header: header.encode(), send: Sending { waiter, key, length: slice.length }, slice })
    }

    /// Answer to [`Action::SendData`].
    pub fn sent(&mut self, send: Sending<W>, result: Result<(), NtStatus>) {
        self.answered();
        self.outgoing.in_flight = self.outgoing.in_flight.saturating_sub(1);
        let result = match result {
            Ok(()) => {
                self.outgoing.messages += 1;
                self.outgoing.bytes += u64::from(send.length);
                Ok(Reply::Transferred(send.length))
            }
            Err(status) => {
                // Part of the message may be out, so that nothing can follow it.
                self.lost(status);
                Err(self.failure_of(status))
            }
        };
        self.complete(send.waiter, result);
        self.end_use(send.key);
        self.settle();
    }

    /// What a request completes with whose network operation failed.
    pub(super) fn failure_of(&self, status: NtStatus) -> NtStatus {
        match (status, self.state) {
            (NtStatus::CANCELLED, _) | (_, State::Closing) => NtStatus::CANCELLED,
            (_, State::Ended(end)) => end,
            (other, _) => other,
        }
    }

    pub(super) fn fail_queued_sends(&mut self, status: NtStatus) {
        while let Some(Queued { waiter, key, .. }) = self.outgoing.queued.pop_front() {
            self.complete(waiter, Err(status));
            self.end_use(key);
        }
    }

    pub(super) fn cancel_send(&mut self, is_it: impl Fn(&W) -> bool) -> Option<W> {
        let Queued { waiter, key, .. } = self.outgoing.take_queued(|queued| is_it(&queued.waiter))?;
        self.end_use(key);
        Some(waiter)
    }

    /// The queued sends from a region complete with `STATUS_CANCELLED`.
    pub(super) fn cancel_sends_from(&mut self, region: u64) {
        while let Some(queued) = self.outgoing.take_queued(|queued| queued.key == Some(region)) {
            self.complete(queued.waiter, Err(NtStatus::CANCELLED));
            self.end_use(queued.key);
        }
    }
}
