//! The life of a SAN endpoint: events in, actions out.
//!
//! The driver calls in under the endpoint's lock, once for each request and each result, and afterwards pulls
//! [`Endpoint::next_action`] until there is none. One runner pulls at a time, and carries out what it pulls in the order
//! in which it pulls it, without the lock. Each network action has one answer, which may come at any time after it, whatever
//! has happened in between; an answer that nobody waits for any more changes nothing but the count of those outstanding.
//!
//! A request that was taken in comes out once: by [`Action::Complete`], out of [`Endpoint::cancel`], or with the connection
//! that [`Endpoint::accept`] or [`Endpoint::arrived`] gives it.

mod connecting;
mod ending;
mod incoming;
mod listening;
mod outgoing;
mod session;
mod socket;
mod state;
mod waiters;

pub use crate::memory::{Right, Slice};
pub use crate::network_events::{EventChange, NetworkEvents};
pub use outgoing::Sending;
pub use session::PeerOffer;
pub use state::{IllegalTransition, State};

use crate::address_map::Reach;
use crate::backlog::Backlog;
use crate::connect_failure::ConnectFailure;
use crate::memory::{Regions, Released};
use crate::network_events::EventSelection;
use core::net::SocketAddr;
use incoming::Incoming;
use outgoing::Outgoing;
use san_protocol::wire::{ConnectRequest, ControlMessage, HEADER_SIZE, MessageType, RejectReason};
use san_protocol::{EndpointStatistics, FD_ACCEPT, MemoryReply, NtStatus};
use session::Session;
use socket::{Socket, Timer};
use waiters::Waiters;

/// What an endpoint may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message, in bytes.
    pub message_size: u32,
    /// How long a connect may take that does not say how long, in milliseconds.
    pub connect_timeout: u32,
    /// How long a peer may take to say what it wants, and to end its side after it was rejected, in milliseconds.
    pub handshake_timeout: u32,
    /// Registered regions.
    pub regions: usize,
}

/// What a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Nothing,
    /// Bound to this address.
    Bound(SocketAddr),
    /// Bytes sent or received.
    Transferred(u32),
    /// The session stands: [`Endpoint::peer_offer`] is the peer's part of it.
    Negotiated,
}

/// What the driver is to do. `W` is a waiting request, `M` refers to locked memory.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "boxing a message would be an allocation that can fail")]
pub enum Action<W, M> {
    /// `WskSocket` and `WskBind` to this address and port 0. Answer: [`Endpoint::opened`].
    Open {
        /// The native address.
        native: SocketAddr,
    },
    /// `WskConnect`. Answer: [`Endpoint::connected`].
    Connect {
        /// The native address and port.
        native: SocketAddr,
    },
    /// `WskSend` of a whole message; one at a time. Answer: [`Endpoint::control_sent`].
    SendControl(ControlMessage),
    /// `WskSend` of a header and a slice behind it; many at a time, in this order. Answer: [`Endpoint::sent`].
    SendData {
        /// The header.
        header: [u8; HEADER_SIZE],
        /// The request, on its way.
        send: Sending<W>,
        /// The payload; may be empty.
        slice: Slice<M>,
    },
    /// `WskReceive` of exactly 16 bytes. Answer: [`Endpoint::header_received`].
    ReceiveHeader,
    /// `WskReceive` of exactly so many bytes, at most [`MAX_CONTROL`](san_protocol::wire::MAX_CONTROL). Answer:
    /// [`Endpoint::control_received`].
    ReceiveControl {
        /// Bytes.
        length: usize,
    },
    /// `WskReceive` of exactly the slice, which is not empty. Answer: [`Endpoint::payload_received`].
    ReceivePayload(Slice<M>),
    /// `WskDisconnect`, graceful. Answer: [`Endpoint::disconnected`].
    Disconnect,
    /// A peer wants this. The driver checks the addresses, finds the listener and calls its [`Endpoint::arrived`]. Answer:
    /// [`Endpoint::offered`].
    Offer(ConnectRequest),
    /// The peer is gone while the connection waits in a listener's backlog. The driver takes it out by
    /// [`Endpoint::withdraw`] of the listener and closes it; if it is not there any more, somebody has just accepted it.
    Withdraw,
    /// Starts the timer anew, in milliseconds; [`Endpoint::timer_expired`] when they have passed.
    StartTimer(u32),
    /// Stops the timer.
    StopTimer,
    /// Completes a request.
    Complete {
        /// The request.
        waiter: W,
        /// What it completes with.
        result: Result<Reply, NtStatus>,
    },
    /// `WskCloseSocket`, the last network action. All that is outstanding ends. Answer: [`Endpoint::closed`].
    Close,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits in the listener's backlog, or has met an accept.
    Queued,
    /// It is turned away.
    Rejected(RejectReason),
}

/// What device statistics count, and the trace tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// A connect has succeeded.
    Connected,
    /// A connect has failed: why, and what its caller is told.
    ConnectFailed(ConnectFailure, NtStatus),
    /// A peer was turned away.
    Rejected(RejectReason),
    /// A peer has connected and not said in time what it wants.
    HandshakeTimedOut,
    /// A peer has broken the protocol.
    Violation,
    /// A connection that stood has ended, and with what status; a violation is told instead.
    Ended(NtStatus),
}

/// Incidents that nobody has counted yet: an endpoint has one hand-shake and one end.
#[derive(Debug, Default)]
struct Incidents {
    handshake: Option<Incident>,
    end: Option<Incident>,
}

/// A connect that is under way.
#[derive(Debug)]
struct Connect<W> {
    /// `None` if the result comes as a network event.
    waiter: Option<W>,
    reach: Reach,
    is_requested: bool,
}

/// The offer of an arrived connection to a listener.
#[derive(Debug)]
enum Offer {
    None,
    Due(ConnectRequest),
    /// Its answer is to come.
    Made,
}

/// A SAN endpoint. `C` is a connection in a backlog, `W` a waiting request, `M` refers to locked memory.
#[derive(Debug)]
pub struct Endpoint<C, W, M> {
    limits: Limits,
    state: State,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    /// The native address behind `local`, unless that is the wildcard.
    native: Option<SocketAddr>,
    socket: Socket,
    timer: Timer,
    /// Network actions whose answers are to come.
    outstanding: usize,
    waiters: Waiters<W>,
    connect: Option<Connect<W>>,
    offer: Offer,
    is_withdraw_due: bool,
    is_accept_due: bool,
    backlog: Option<Backlog<C, W>>,
    events: EventSelection,
    /// The control message that is being sent.
    control: Option<MessageType>,
    /// This side has begun the goodbyes.
    has_said_goodbye: bool,
    session: Session<W>,
    incoming: Incoming<W, M>,
    outgoing: Outgoing<W, M>,
    regions: Regions<W, M>,
    /// The graceful disconnect that waits for the peer's goodbye.
    disconnect: Option<W>,
    /// The abortive disconnect that waits for the end of the socket.
    abort: Option<W>,
    incidents: Incidents,
}

impl<C, W, M: Copy> Endpoint<C, W, M> {
    /// An endpoint that its owner will bind.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self::in_state(State::Idle, Socket::Absent, Timer::Off, limits)
    }

    /// A native connection that was accepted; what its peer wants is to be heard within [`Limits::handshake_timeout`].
    #[must_use]
    pub const fn arriving(limits: Limits) -> Self {
        Self::in_state(State::Arriving, Socket::Open, Timer::StartDue(limits.handshake_timeout), limits)
    }

    const fn in_state(state: State, socket: Socket, timer: Timer, limits: Limits) -> Self {
        Self {
            limits,
            state,
            local: None,
            remote: None,
            native: None,
            socket,
            timer,
            outstanding: 0,
            waiters: Waiters::new(),
            connect: None,
            offer: Offer::None,
            is_withdraw_due: false,
            is_accept_due: false,
            backlog: None,
            events: EventSelection::new(),
            control: None,
            has_said_goodbye: false,
            session: Session::new(),
            incoming: Incoming::new(),
            outgoing: Outgoing::new(),
            regions: Regions::new(limits.regions),
            disconnect: None,
            abort: None,
            incidents: Incidents { handshake: None, end: None },
        }
    }

    /// What is to be done next; `None` if nothing is, until something happens.
    pub fn next_action(&mut self) -> Option<Action<W, M>> {
        if let Some((waiter, result)) = self.waiters.next_done() {
            return Some(Action::Complete { waiter, result });
        }
        if let Some(action) = self.next_timer_action() {
            return Some(action);
        }
        if core::mem::take(&mut self.is_withdraw_due) {
            return Some(Action::Withdraw);
        }
        if let Offer::Due(request) = self.offer {
            self.offer = Offer::Made;
            return Some(Action::Offer(request));
        }
        let action = self.next_network_action()?;
        self.outstanding += 1;
        Some(action)
    }

    fn next_timer_action(&mut self) -> Option<Action<W, M>> {
        match self.timer {
            Timer::Off | Timer::Running => None,
            Timer::StartDue(milliseconds) => {
                self.timer = Timer::Running;
                Some(Action::StartTimer(milliseconds))
            }
            Timer::StopDue => {
                self.timer = Timer::Off;
                Some(Action::StopTimer)
            }
        }
    }

    fn next_network_action(&mut self) -> Option<Action<W, M>> {
        match self.socket {
            Socket::OpenDue { local, remote } => {
                self.socket = Socket::Opening { remote };
                Some(Action::Open { native: local })
            }
            Socket::ConnectDue { remote } => {
                self.socket = Socket::Connecting;
                Some(Action::Connect { native: remote })
            }
            Socket::Open => self.next_action_when_open(),
            Socket::LastWordDue(_) => self.next_last_word().or_else(|| self.next_receive()),
            Socket::DisconnectDue(word) if !self.outgoing.is_in_flight() => {
                self.socket = Socket::Disconnecting(word);
                Some(Action::Disconnect)
            }
            Socket::LastWordSending(_) | Socket::DisconnectDue(_) | Socket::Disconnecting(_) | Socket::Draining => {
                self.next_receive()
            }
            Socket::CloseDue => {
                self.socket = Socket::Closing;
                Some(Action::Close)
            }
            Socket::Absent
            | Socket::Opening { .. }
            | Socket::OpeningInVain
            | Socket::Connecting
            | Socket::Closing
            | Socket::Closed => None,
        }
    }

    fn next_action_when_open(&mut self) -> Option<Action<W, M>> {
        match self.state {
            State::Connecting => self.next_request().or_else(|| self.next_receive()),
            State::Arriving | State::Queued | State::Undecided => self.next_receive(),
            State::Connected | State::Disconnecting => {
                self.next_opening_word().or_else(|| self.next_data()).or_else(|| self.next_word()).or_else(|| {
                    // What is received may have to be answered, so this comes last.
                    self.next_receive()
                })
            }
            State::Idle
            | State::Bound
            | State::Listening
            | State::Offering
            | State::Abandoned(_)
            | State::Rejecting
            | State::Ended(_)
            | State::Closing => None,
        }
    }

    fn send_control(&mut self, kind: MessageType, message: &ControlMessage) -> Action<W, M> {
        self.control = Some(kind);
        Action::SendControl(*message)
    }

    /// Answer to [`Action::SendControl`].
    pub fn control_sent(&mut self, result: Result<(), NtStatus>) {
        self.answered();
        self.control = None;
        match (result, self.socket) {
            (Ok(()), Socket::LastWordSending(word)) => self.socket = Socket::DisconnectDue(word),
            (Err(status), _) => self.lost(status),
            (Ok(()), _) => {}
        }
        self.settle();
    }

    /// The answer to a network action has come.
    fn answered(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    fn admit(&mut self, waiter: W) -> Result<W, (W, NtStatus)> {
        match self.waiters.admit() {
            Ok(()) => Ok(waiter),
            Err(crate::NoMemory) => Err((waiter, NtStatus::INSUFFICIENT_RESOURCES)),
        }
    }

    fn complete(&mut self, waiter: W, result: Result<Reply, NtStatus>) {
        self.waiters.complete(waiter, result);
    }

    fn complete_released(&mut self, released: Released<W>) {
        self.complete(released.registration, released.result.map(|()| Reply::Nothing));
        if let Some(deregistration) = released.deregistration {
            self.complete(deregistration, Ok(Reply::Nothing));
        }
    }

    fn end_use(&mut self, key: Option<u64>) {
        if let Some(released) = key.and_then(|key| self.regions.end_use(key)) {
            self.complete_released(released);
        }
    }

    /// Registers memory on a connected endpoint, for `rights` ([`MEMORY_SEND`](san_protocol::MEMORY_SEND),
    /// [`MEMORY_RECEIVE`](san_protocol::MEMORY_RECEIVE)). `waiter` completes when the memory is not registered any more.
    ///
    /// # Errors
    ///
    /// Those of [`Regions::register`], or why there is no connection.
    pub fn register(&mut self, waiter: W, key: u64, memory: M, length: u64, rights: u32) -> Result<(), (W, NtStatus)> {
        if let Err(status) = self.is_connected() {
            return Err((waiter, status));
        }
        let waiter = self.admit(waiter)?;
        self.regions.register(waiter, key, memory, length, rights).inspect_err(|_| self.waiters.leave())
    }

    /// Ends a registration as soon as no send or receive uses it; the registration completes, then `waiter`.
    ///
    /// # Errors
    ///
    /// Those of [`Regions::deregister`]; `STATUS_INVALID_HANDLE` when closing.
    pub fn deregister(&mut self, waiter: W, key: u64) -> Result<(), (W, NtStatus)> {
        if self.is_closing() {
            return Err((waiter, NtStatus::INVALID_HANDLE));
        }
        let waiter = self.admit(waiter)?;
        let released = self.regions.deregister(waiter, key).inspect_err(|_| self.waiters.leave())?;
        if let Some(released) = released {
            self.complete_released(released);
        }
        Ok(())
    }

    /// A slice of registered memory, to look at.
    ///
    /// # Errors
    ///
    /// Those of [`Regions::slice`].
    pub fn slice(&self, key: u64, offset: u64, length: u32, right: Right) -> Result<Slice<M>, NtStatus> {
        self.regions.slice(key, offset, length, right)
    }

    /// What is known of a region.
    ///
    /// # Errors
    ///
    /// Those of [`Regions::query`].
    pub fn query_memory(&self, key: u64) -> Result<MemoryReply, NtStatus> {
        self.regions.query(key)
    }

    /// Selects network events, in place of those selected before. With `FD_CONNECT` a connect does not wait, with `FD_ACCEPT` an
    /// accept does not. The driver first lets go of the event object that it had (WSPEventSelect).
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: other events. `STATUS_INVALID_HANDLE` when closing.
    pub fn event_select(&mut self, mask: u32) -> Result<(), NtStatus> {
        if self.is_closing() {
            return Err(NtStatus::INVALID_HANDLE);
        }
        self.events.select(mask)?;
        self.tell_of_waiting();
        Ok(())
    }

    /// The network events since the last time; the event is reset.
    pub fn enum_network_events(&mut self) -> NetworkEvents {
        self.events.enumerate()
    }

    /// What the driver is to do to the event object, under the same lock.
    pub fn take_event_change(&mut self) -> Option<EventChange> {
        self.events.take_change()
    }

    /// What device statistics count, once; pulled until `None`, as actions are.
    pub fn take_incident(&mut self) -> Option<Incident> {
        self.incidents.handshake.take().or_else(|| self.incidents.end.take())
    }

    /// Whether it is closed and nothing is left inside.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_closing()
            && self.socket.is_gone()
            && self.outstanding == 0
            && self.timer == Timer::Off
            && !self.is_withdraw_due
            && !matches!(self.offer, Offer::Made)
            && self.waiters.is_empty()
            && self.backlog.as_ref().is_none_or(|backlog| backlog.waiting() == 0)
    }

    /// What it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Its SAN address, once it has one.
    #[must_use]
    pub const fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// The SAN address of its peer, once it has one.
    #[must_use]
    pub const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Connections that wait to be accepted, and how many may; `None` if it does not listen.
    #[must_use]
    pub fn waiting(&self) -> Option<(usize, usize)> {
        self.backlog.as_ref().map(|backlog| (backlog.waiting(), backlog.limit()))
    }

    /// What it has done, and what it holds.
    #[must_use]
    pub fn statistics(&self) -> EndpointStatistics {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        EndpointStatistics {
            messages_sent: self.outgoing.messages,
            bytes_sent: self.outgoing.bytes,
            messages_received: self.incoming.messages,
            bytes_received: self.incoming.bytes,
            sends_queued: count(self.outgoing.count()),
            receives_posted: count(self.incoming.count()),
            send_credits: self.outgoing.credits(),
            regions: count(self.regions.count()),
            pinned_bytes: self.regions.pinned(),
        }
    }

    fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing | State::Rejecting)
    }

    fn is_connected(&self) -> Result<(), NtStatus> {
        match self.state {
            State::Connected | State::Disconnecting => Ok(()),
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

    /// If a connection waits and `FD_ACCEPT` is selected, that is recorded.
    fn tell_of_waiting(&mut self) {
        if self.backlog.as_ref().is_some_and(|backlog| backlog.waiting() != 0) {
            self.events.connection_waits();
        }
    }
}
