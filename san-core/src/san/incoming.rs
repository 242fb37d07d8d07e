//! What comes in: headers, control messages, and payloads straight into posted receives.

use super::{Action, Endpoint, Reply, Right, Slice, State};
use alloc::collections::VecDeque;
use san_protocol::NtStatus;
use san_protocol::wire::{HEADER_SIZE, Header, MAX_CREDITS, MessageType};

#[derive(Debug)]
struct Posted<W, M> {
    waiter: W,
    slice: Slice<M>,
    /// Of the region that it is in; none for memory of the receive's own.
    key: Option<u64>,
}

/// How far the reading is.
#[derive(Debug)]
enum Reading<W, M> {
    /// A header is to be read next.
    Idle,
    Header,
    ControlDue(Header),
    Control(Header),
    /// A message of so many bytes has come, and there is no receive for it.
    Held(u32),
    PayloadDue(Posted<W, M>, u32),
    Payload {
        receive: Posted<W, M>,
        length: u32,
        is_cancelled: bool,
    },
}

/// The receives of an endpoint, and what its peer may send.
#[derive(Debug)]
pub(super) struct Incoming<W, M> {
    reading: Reading<W, M>,
    posted: VecDeque<Posted<W, M>>,
    /// Credits that the peer holds: messages that it may send, or that are on their way.
    granted: u32,
    /// Received so far.
    pub(super) messages: u64,
    /// Received so far.
    pub(super) bytes: u64,
}

impl<W, M> Incoming<W, M> {
    pub(super) const fn new() -> Self {
        Self { reading: Reading::Idle, posted: VecDeque::new(), granted: 0, messages: 0, bytes: 0 }
    }

    pub(super) fn count(&self) -> usize {
        let filling = match self.reading {
            Reading::PayloadDue(..) | Reading::Payload { .. } => 1,
            Reading::Idle | Reading::Header | Reading::ControlDue(_) | Reading::Control(_) | Reading::Held(_) => 0,
        };
        self.posted.len() + filling
    }

    /// Length of the shortest posted receive; the greatest there is if none is posted.
    pub(super) fn shortest(&self) -> u32 {
        self.posted.iter().map(|receive| receive.slice.length).min().unwrap_or(u32::MAX)
    }

    fn grantable(&self) -> u32 {
        let posted = u32::try_from(self.posted.len()).unwrap_or(MAX_CREDITS).min(MAX_CREDITS);
        posted.saturating_sub(self.granted)
    }

    /// Whether the credits that could be granted are worth a message of their own: the peer has none left, or would have
    /// twice as many.
    pub(super) fn is_grant_due(&self) -> bool {
        let grantable = self.grantable();
        grantable != 0 && grantable >= self.granted
    }

    /// Grants what can be granted; it goes out with the message that is being made.
    pub(super) fn grant(&mut self) -> u32 {
        let credits = self.grantable();
        self.granted += credits;
        credits
    }

    pub(super) fn expect_control(&mut self, header: Header) {
        self.reading = Reading::ControlDue(header);
    }

    /// Whether memory of a receive is being written.
    fn is_filling(&self) -> bool {
        matches!(self.reading, Reading::Payload { .. })
    }

    fn take_posted(&mut self, is_it: impl Fn(&Posted<W, M>) -> bool) -> Option<Posted<W, M>> {
        let position = self.posted.iter().position(is_it)?;
        self.posted.remove(position)
    }

    /// The receive that is to be filled goes back to the head of those posted; its message is held.
    fn hold(&mut self) {
        self.reading = match core::mem::replace(&mut self.reading, Reading::Idle) {
            Reading::PayloadDue(receive, length) => {
                // It has just been taken out, so there is room.
                self.posted.push_front(receive);
                Reading::Held(length)
            }
            other @ (Reading::Idle
            | Reading::Header
            | Reading::ControlDue(_)
            | Reading::Control(_)
            | Reading::Held(_)
            | Reading::Payload { .. }) => other,
        };
    }
}

impl<C, W, M: Copy> Endpoint<C, W, M> {
    /// Posts registered memory for one message. `waiter` completes with [`Reply::Transferred`]; receives complete in the
    /// order in which they were posted.
    ///
    /// # Errors
    ///
    /// Those of [`Regions::slice`](crate::memory::Regions::slice). `STATUS_INVALID_BUFFER_SIZE`: shorter than this side has told
    /// its peer. Otherwise why there is no connection.
    pub fn receive_registered(&mut self, waiter: W, key: u64, offset: u64, length: u32) -> Result<(), (W, NtStatus)> {
        self.post(waiter, Some(key), |endpoint| endpoint.slice(key, offset, length, Right::Receive))
    }

    /// Posts memory of the caller's own for one message, as [`Endpoint::receive_registered`] does. It stays until `waiter` has
    /// completed.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: no length. Otherwise those of [`Endpoint::receive_registered`] that do not concern a region.
    pub fn receive(&mut self, waiter: W, slice: Slice<M>) -> Result<(), (W, NtStatus)> {
        self.post(waiter, None, |_| if slice.length == 0 { Err(NtStatus::INVALID_PARAMETER) } else { Ok(slice) })
    }

    fn post(
        &mut self,
        waiter: W,
        key: Option<u64>,
        slice: impl FnOnce(&Self) -> Result<Slice<M>, NtStatus>,
    ) -> Result<(), (W, NtStatus)> {
        let slice = match self.is_connected().and_then(|()| slice(self)).and_then(|slice| self.check_size(slice)) {
            Ok(slice) => slice,
            Err(status) => return Err((waiter, status)),
        };
        // One more, for the receive that may have to come back.
        if self.incoming.posted.try_reserve(2).is_err() {
            return Err((waiter, NtStatus::INSUFFICIENT_RESOURCES));
        }
        let waiter = self.admit(waiter)?;
        if let Some(Err(status)) = key.map(|key| self.regions.begin_use(key)) {
            self.waiters.leave();
            return Err((waiter, status));
        }
        self.incoming.posted.push_back(Posted { waiter, slice, key });
        self.deliver_held();
        Ok(())
    }

    /// A receive has room for the longest message that the peer may send.
    fn check_size(&self, slice: Slice<M>) -> Result<Slice<M>, NtStatus> {
        match self.session.receive_size() {
            Some(size) if slice.length < size => Err(NtStatus::INVALID_BUFFER_SIZE),
            Some(_) | None => Ok(slice),
        }
    }

    /// A message that is held goes to the first posted receive.
    fn deliver_held(&mut self) {
        let Reading::Held(length) = self.incoming.reading else { return };
        let Some(receive) = self.incoming.posted.pop_front() else { return };
        if length == 0 {
            self.incoming.reading = Reading::Idle;
            self.complete_receive(receive, Ok(0));
        } else {
            self.incoming.reading = Reading::PayloadDue(receive, length);
        }
    }

    fn complete_receive(&mut self, receive: Posted<W, M>, result: Result<u32, NtStatus>) {
        if let Ok(length) = result {
            self.incoming.messages += 1;
            self.incoming.bytes += u64::from(length);
        }
        self.complete(receive.waiter, result.map(Reply::Transferred));
        self.end_use(receive.key);
    }

    pub(super) fn next_receive(&mut self) -> Option<Action<W, M>> {
        match core::mem::replace(&mut self.incoming.reading, Reading::Idle) {
            Reading::Idle if self.wants_header() => {
                self.incoming.reading = Reading::Header;
                Some(Action::ReceiveHeader)
            }
            Reading::ControlDue(header) if self.wants_header() => {
                self.incoming.reading = Reading::Control(header);
                Some(Action::ReceiveControl { length: header.length as usize })
            }
            Reading::PayloadDue(receive, length) => {
                let slice = Slice { length, ..receive.slice };
                self.incoming.reading = Reading::Payload { receive, length, is_cancelled: false };
                Some(Action::ReceivePayload(slice))
            }
            other @ (Reading::Idle
            | Reading::Header
            | Reading::ControlDue(_)
            | Reading::Control(_)
            | Reading::Held(_)
            | Reading::Payload { .. }) => {
                self.incoming.reading = other;
                None
            }
        }
    }

    /// Whether anything that comes in now means something.
    fn wants_header(&self) -> bool {
        match self.state {
            State::Connecting
            | State::Arriving
            | State::Queued
            | State::Undecided
            | State::Rejecting
            | State::Connected
            | State::Disconnecting => true,
            State::Idle
            | State::Bound
            | State::Listening
            | State::Offering
            | State::Abandoned(_)
            | State::Ended(_)
            | State::Closing => false,
        }
    }

    /// Answer to [`Action::ReceiveHeader`]: an error also when the peer has ended its side, or ends amid the header.
    pub fn header_received(&mut self, result: Result<[u8; HEADER_SIZE], NtStatus>) {
        self.answered();
        if matches!(self.incoming.reading, Reading::Header) {
            self.incoming.reading = Reading::Idle;
            match result {
                Ok(bytes) => self.take_header(&bytes),
                Err(status) => self.peer_ended(status),
            }
        }
        self.settle();
    }

    fn take_header(&mut self, bytes: &[u8; HEADER_SIZE]) {
        let header = Header::parse(bytes);
        match (self.state, header) {
            (State::Arriving, header) => self.arriving_header(header),
            (State::Connecting, Ok(header)) => self.answer_header(header),
            (State::Connected | State::Disconnecting, Ok(header)) => self.message_header(header),
            (State::Connecting | State::Connected | State::Disconnecting, Err(_))
            | (State::Queued | State::Undecided, Ok(_) | Err(_)) => self.violated(),
            // Nobody listens any more.
            (
                State::Idle
                | State::Bound
                | State::Listening
                | State::Offering
                | State::Abandoned(_)
                | State::Rejecting
                | State::Ended(_)
                | State::Closing,
                Ok(_) | Err(_),
            ) => {}
        }
    }

    fn message_header(&mut self, header: Header) {
        match header.message {
            MessageType::Session => self.session_header(header),
            MessageType::Data => self.data_header(header),
            MessageType::Credit => {
                if !self.session.has_peer() || self.outgoing.add_credits(header.credits).is_err() {
                    self.violated();
                }
            }
            MessageType::Goodbye => self.goodbye_received(),
            MessageType::ConnectRequest | MessageType::Accept | MessageType::Reject => self.violated(),
        }
    }

    fn data_header(&mut self, header: Header) {
        let fits = self.session.standing().is_some()
            && self.incoming.granted != 0
            && self.session.receive_size().is_some_and(|size| header.length <= size);
        if !fits || self.outgoing.add_credits(header.credits).is_err() {
            return self.violated();
        }
        self.incoming.granted -= 1;
        self.incoming.reading = Reading::Held(header.length);
        self.deliver_held();
    }

    /// Answer to [`Action::ReceiveControl`]: exactly the bytes, or an error.
    pub fn control_received(&mut self, result: Result<&[u8], NtStatus>) {
        self.answered();
        if let Reading::Control(header) = self.incoming.reading {
            self.incoming.reading = Reading::Idle;
            match (result, self.state) {
                (Ok(payload), State::Connecting) => self.answer_control(payload),
                (Ok(payload), State::Arriving) => self.arriving_control(payload),
                (Ok(payload), State::Connected | State::Disconnecting) => self.session_control(header, payload),
                (Err(status), _) => self.lost(status),
                (
                    Ok(_),
                    State::Idle
                    | State::Bound
                    | State::Listening
                    | State::Offering
                    | State::Queued
                    | State::Abandoned(_)
                    | State::Undecided
                    | State::Rejecting
                    | State::Ended(_)
                    | State::Closing,
                ) => {}
            }
        }
        self.settle();
    }

    /// Answer to [`Action::ReceivePayload`]: an error if less than all of it came.
    pub fn payload_received(&mut self, result: Result<(), NtStatus>) {
        self.answered();
        match core::mem::replace(&mut self.incoming.reading, Reading::Idle) {
            Reading::Payload { receive, length, is_cancelled } => match result {
                Ok(()) => self.complete_receive(receive, Ok(length)),
                Err(status) => {
                    self.lost(status);
                    let status = if is_cancelled { NtStatus::CANCELLED } else { self.failure_of(status) };
                    self.complete_receive(receive, Err(status));
                }
            },
            other @ (Reading::Idle
            | Reading::Header
            | Reading::ControlDue(_)
            | Reading::Control(_)
            | Reading::Held(_)
            | Reading::PayloadDue(..)) => self.incoming.reading = other,
        }
        self.settle();
    }

    /// The connection is over: the receives fail in the order in which they were posted, so after the one that is being filled.
    pub(super) fn fail_posted_receives(&mut self, status: NtStatus) {
        self.incoming.hold();
        if self.incoming.is_filling() {
            return;
        }
        while let Some(receive) = self.incoming.posted.pop_front() {
            self.complete_receive(receive, Err(status));
        }
    }

    /// `None` if there is no such receive, or it is being filled: then the connection is aborted, for the rest of the message
    /// has no place to go, and the receive completes when nothing writes to its memory any more.
    pub(super) fn cancel_receive(&mut self, is_it: impl Fn(&W) -> bool) -> Option<W> {
        self.incoming.hold();
        let cancelled = self.incoming.take_posted(|posted| is_it(&posted.waiter));
        self.deliver_held();
        if let Some(Posted { waiter, key, .. }) = cancelled {
            self.end_use(key);
            return Some(waiter);
        }
        if let Reading::Payload { receive, is_cancelled, .. } = &mut self.incoming.reading
            && is_it(&receive.waiter)
        {
            *is_cancelled = true;
            self.end(State::Ended(NtStatus::CONNECTION_ABORTED), NtStatus::CONNECTION_ABORTED);
        }
        None
    }

    /// The posted receives into a region complete with `STATUS_CANCELLED`.
    pub(super) fn cancel_receives_into(&mut self, region: u64) {
        self.incoming.hold();
        while let Some(receive) = self.incoming.take_posted(|posted| posted.key == Some(region)) {
            self.complete_receive(receive, Err(NtStatus::CANCELLED));
        }
        self.deliver_held();
    }
}
