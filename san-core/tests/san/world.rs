//! Two SAN endpoints and a listener, the drivers around them, and a lossless but arbitrarily slow and fragmented network between
//! them; with a model of what has to come out, which is checked whenever something does.

use san_core::address_map::{Mapped, Reach};
use san_core::backlog::Backlog;
use san_core::connect_failure::ConnectFailure;
use san_core::san::{Action, Endpoint, Incident, Limits, Offered, Reply, Sending, Slice, State};
use san_protocol::NtStatus;
use san_protocol::wire::{ControlMessage, HEADER_SIZE, Header, MessageType, RejectReason};
use std::collections::VecDeque;
use std::net::SocketAddr;

pub(crate) const LIMITS: Limits =
    Limits { message_size: 48, connect_timeout: 1000, handshake_timeout: 100, regions: 3 };

/// Bytes of each memory; there are [`MEMORIES`] on each side.
pub(crate) const MEMORY: usize = 64;
pub(crate) const MEMORIES: u32 = 5;

/// The side that connects.
pub(crate) const CONNECTOR: usize = 0;
/// The side that is accepted, once its native connection is there.
pub(crate) const ACCEPTOR: usize = 1;
/// The listener; it has no network.
pub(crate) const LISTENER: usize = 2;

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Not zero, and another one for each seed.
        let mut random = Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(bound)) >> 32).unwrap()
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.below(u32::try_from(length).unwrap()) as usize
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    /// Once in `of` times.
    pub(crate) fn once_in(&mut self, of: u32) -> bool {
        self.below(of) == 0
    }
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Bind,
    Connect,
    Accept,
    Negotiate,
    Disconnect,
    Deregister,
    /// Of this memory.
    Register(u32),
    Send,
    /// Into this memory, at this offset.
    Receive(u32, usize),
}

enum Message {
    Control,
    Data(Sending<u32>),
}

struct Outgoing {
    message: Message,
    /// What it reads from, if it is data.
    memory: Option<u32>,
    bytes: Vec<u8>,
    moved: usize,
}

enum Read {
    Header,
    Control,
    Payload(Slice<u32>),
}

struct Reading {
    read: Read,
    wanted: usize,
    got: Vec<u8>,
}

/// What a side's kernel has to do, and what it has done and not said yet.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an operation of its own")]
struct Kernel {
    is_opening: bool,
    connecting: Option<Result<(), NtStatus>>,
    outgoing: VecDeque<Outgoing>,
    sent: Vec<(Message, Result<(), NtStatus>)>,
    is_sending_control: bool,
    reading: Option<Reading>,
    is_disconnecting: bool,
    is_offering: Option<Offered>,
    has_open: bool,
    has_disconnected: bool,
    has_said_goodbye: bool,
    is_closing: bool,
    is_timer_running: bool,
}

/// The bytes on their way from a side.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// The sender has ended.
    is_ended: bool,
    /// Nobody takes them any more.
    is_broken: bool,
}

pub(crate) struct Side {
    pub(crate) endpoint: Endpoint<usize, u32, u32>,
    pub(crate) exists: bool,
    kernel: Kernel,
    pipe: Pipe,
    memory: Vec<[u8; MEMORY]>,
    /// Messages that have gone out and were not received yet.
    issued: VecDeque<Vec<u8>>,
    /// Requests, in the order in which they were made.
    queued: VecDeque<u32>,
    posted: VecDeque<u32>,
    receives_admitted: u64,
    credits_granted: u64,
    data_issued: u64,
    pub(crate) received: u64,
    in_flight: u32,
}

impl Side {
    fn new(endpoint: Endpoint<usize, u32, u32>, random: &mut Random) -> Self {
        let memory = (0..MEMORIES).map(|_| core::array::from_fn(|_| random.byte())).collect();
        Self {
            endpoint,
            exists: true,
            kernel: Kernel::default(),
            pipe: Pipe::default(),
            memory,
            issued: VecDeque::new(),
            queued: VecDeque::new(),
            posted: VecDeque::new(),
            receives_admitted: 0,
            credits_granted: 0,
            data_issued: 0,
            received: 0,
            in_flight: 0,
        }
    }
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) sides: [Side; 3],
    /// Requests that have not come out yet, and whose.
    pub(crate) waiting: Vec<Option<(usize, Request)>>,
    /// The acceptor was given to a user.
    pub(crate) is_taken: bool,
    pub(crate) completed: u64,
    /// The native machine never refuses.
    pub(crate) is_reliable: bool,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn offset(slice: Slice<u32>) -> usize {
    usize::try_from(slice.offset).unwrap()
}

fn other(side: usize) -> usize {
    1 - side
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut sides = core::array::from_fn(|_| Side::new(Endpoint::new(LIMITS), &mut random));
        sides[ACCEPTOR].exists = false;
        Self { random, sides, waiting: Vec::new(), is_taken: false, completed: 0, is_reliable: false }
    }

    /// A request is made; it has to come out once.
    pub(crate) fn request(&mut self, side: usize, request: Request) -> u32 {
        self.waiting.push(Some((side, request)));
        u32::try_from(self.waiting.len() - 1).unwrap()
    }

    /// It was admitted, or is given back.
    pub(crate) fn outcome(&mut self, side: usize, waiter: u32, outcome: Result<(), (u32, NtStatus)>) -> bool {
        if let Err((back, _)) = outcome {
            assert_eq!(back, waiter);
            self.waiting[waiter as usize] = None;
            return false;
        }
        match self.waiting[waiter as usize] {
            Some((_, Request::Send)) => self.sides[side].queued.push_back(waiter),
            Some((_, Request::Receive(..))) => {
                self.sides[side].posted.push_back(waiter);
                self.sides[side].receives_admitted += 1;
            }
            _ => {}
        }
        true
    }

    pub(crate) fn came_out(&mut self, side: usize, waiter: u32) -> Request {
        let (whose, request) = self.waiting[waiter as usize].take().expect("it comes out once");
        assert_eq!(whose, side);
        match request {
            Request::Send => self.sides[side].queued.retain(|&queued| queued != waiter),
            Request::Receive(..) => self.sides[side].posted.retain(|&posted| posted != waiter),
            Request::Register(memory) => self.assert_unused(side, memory),
            Request::Bind
            | Request::Connect
            | Request::Accept
            | Request::Negotiate
            | Request::Disconnect
            | Request::Deregister => {}
        }
        self.completed += 1;
        request
    }

    fn assert_unused(&self, side: usize, memory: u32) {
        // Another registration, or an unregistered send, may use the same memory; in this world they do not.
        let kernel = &self.sides[side].kernel;
        let is_read = kernel.outgoing.iter().any(|outgoing| outgoing.memory == Some(memory));
        let is_written = kernel
            .reading
            .as_ref()
            .is_some_and(|reading| matches!(reading.read, Read::Payload(slice) if slice.memory == memory));
        assert!(!is_read && !is_written, "memory {memory} is given back while the network uses it");
    }

    pub(crate) fn bind_and_listen(&mut self) {
        for (side, local) in [(CONNECTOR, "10.0.0.1:1"), (LISTENER, "10.0.0.2:2")] {
            let waiter = self.request(side, Request::Bind);
            let outcome = self.sides[side].endpoint.bind(waiter, address(local), Some(address("127.0.0.1:0")));
            self.outcome(side, waiter, outcome);
            self.pull(side);
        }
        self.sides[LISTENER].endpoint.listen(Backlog::new(1).unwrap()).unwrap();
    }

    pub(crate) fn connect(&mut self) {
        let waiter = self.request(CONNECTOR, Request::Connect);
        let mapped = Mapped { native: address("127.0.0.1:28057"), reach: Reach::SanOnly };
        let outcome = self.sides[CONNECTOR].endpoint.connect(waiter, address("10.0.0.2:2"), Some(mapped), 0);
        self.outcome(CONNECTOR, waiter, outcome);
    }

    pub(crate) fn accept(&mut self) {
        let waiter = self.request(LISTENER, Request::Accept);
        match self.sides[LISTENER].endpoint.accept(waiter) {
            Ok(None) => {}
            Ok(Some((connection, waiter))) => {
                self.came_out(LISTENER, waiter);
                self.take(connection);
            }
            Err(back) => {
                self.outcome(LISTENER, waiter, Err(back));
            }
        }
    }

    fn take(&mut self, connection: usize) {
        assert_eq!(connection, ACCEPTOR);
        assert!(!self.is_taken);
        self.is_taken = true;
        self.sides[ACCEPTOR].endpoint.taken();
    }

    /// The listener ends: those that wait in it are turned away.
    pub(crate) fn close_listener(&mut self) {
        self.sides[LISTENER].endpoint.close();
        while let Some(connection) = self.sides[LISTENER].endpoint.withdraw(|_| true) {
            self.sides[connection].endpoint.offered(Offered::Rejected(RejectReason::NobodyListens));
        }
    }

    pub(crate) fn pull(&mut self, side: usize) {
        while let Some(action) = self.sides[side].endpoint.next_action() {
            self.carry_out(side, action);
        }
        self.check(side);
    }

    /// What holds whenever there is nothing to be done.
    fn check(&mut self, side: usize) {
        while let Some(incident) = self.sides[side].endpoint.take_incident() {
            let is_violation =
                matches!(incident, Incident::Violation | Incident::ConnectFailed(ConnectFailure::Violation, _));
            assert!(!is_violation, "side {side} takes an honest peer for another");
        }
        let Side { endpoint, queued, posted, in_flight, .. } = &self.sides[side];
        let statistics = endpoint.statistics();
        assert_eq!(statistics.receives_posted as usize, posted.len());
        assert_eq!(statistics.sends_queued as usize, queued.len() + *in_flight as usize);
        if side != LISTENER {
            let (this, peer) = (&self.sides[side], &self.sides[other(side)]);
            assert!(u64::from(statistics.send_credits) <= peer.credits_granted - this.data_issued);
            assert!(this.credits_granted <= this.receives_admitted, "credits for receives that were never posted");
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is carried out once")]
    fn carry_out(&mut self, side: usize, action: Action<u32, u32>) {
        let kernel = &mut self.sides[side].kernel;
        let is_network = !matches!(
            action,
            Action::Complete { .. } | Action::StartTimer(_) | Action::StopTimer | Action::Offer(_) | Action::Withdraw
        );
        assert!(!is_network || !kernel.is_closing, "{action:?} after close");
        match action {
            Action::Open { .. } => kernel.is_opening = true,
            Action::Connect { .. } => self.start_connect(),
            Action::SendControl(message) => self.start_control(side, &message),
            Action::SendData { header, send, slice } => self.start_data(side, header, send, slice),
            Action::ReceiveHeader => self.start_read(side, Read::Header, HEADER_SIZE),
            Action::ReceiveControl { length } => self.start_read(side, Read::Control, length),
            Action::ReceivePayload(slice) => {
                assert_ne!(slice.length, 0);
                self.start_read(side, Read::Payload(slice), slice.length as usize);
            }
            Action::Disconnect => {
                assert!(kernel.outgoing.iter().all(|outgoing| matches!(outgoing.message, Message::Control)));
                kernel.is_disconnecting = true;
            }
            Action::Offer(request) => {
                assert_eq!((request.source, request.target), (address("10.0.0.1:1"), address("10.0.0.2:2")));
                self.offer();
            }
            Action::Withdraw => {
                if let Some(connection) = self.sides[LISTENER].endpoint.withdraw(|_| true) {
                    self.sides[connection].endpoint.close();
                }
            }
            Action::StartTimer(_) => kernel.is_timer_running = true,
            Action::StopTimer => kernel.is_timer_running = false,
            Action::Complete { waiter, result } => self.complete(side, waiter, result),
            Action::Close => self.start_close(side),
        }
    }

    fn start_connect(&mut self) {
        let is_refused = !self.is_reliable && self.random.once_in(20);
        let connector = &mut self.sides[CONNECTOR].kernel;
        assert!(connector.has_open && connector.connecting.is_none());
        connector.connecting = Some(if is_refused { Err(NtStatus::CONNECTION_REFUSED) } else { Ok(()) });
        if !is_refused {
            self.sides[ACCEPTOR].endpoint = Endpoint::arriving(LIMITS);
            self.sides[ACCEPTOR].exists = true;
            self.sides[ACCEPTOR].kernel.has_open = true;
        }
    }

    fn offer(&mut self) {
        let offered = match self.sides[LISTENER].endpoint.arrived(ACCEPTOR) {
            Ok(None) => Offered::Queued,
            Ok(Some((connection, waiter))) => {
                self.came_out(LISTENER, waiter);
                self.take(connection);
                Offered::Queued
            }
            Err((connection, reason)) => {
                assert_eq!(connection, ACCEPTOR);
                Offered::Rejected(reason)
            }
        };
        self.sides[ACCEPTOR].kernel.is_offering = Some(offered);
    }

    fn start_control(&mut self, side: usize, message: &ControlMessage) {
        let Side { kernel, credits_granted, .. } = &mut self.sides[side];
        assert!(!core::mem::replace(&mut kernel.is_sending_control, true), "one control message at a time");
        assert!(!kernel.has_said_goodbye && kernel.has_open);
        let header = Header::parse(message.as_bytes().first_chunk().unwrap()).expect("only good headers go out");
        kernel.has_said_goodbye = header.message == MessageType::Goodbye;
        *credits_granted += u64::from(header.credits);
        let bytes = message.as_bytes().to_vec();
        kernel.outgoing.push_back(Outgoing { message: Message::Control, memory: None, bytes, moved: 0 });
    }

    fn start_data(&mut self, side: usize, header: [u8; HEADER_SIZE], send: Sending<u32>, slice: Slice<u32>) {
        let granted = self.sides[other(side)].credits_granted;
        let Side { kernel, queued, memory, issued, in_flight, credits_granted, data_issued, .. } =
            &mut self.sides[side];
        assert!(!kernel.has_said_goodbye, "nothing follows a goodbye");
        assert_eq!(queued.pop_front(), Some(send.waiter), "sends go in their order");
        let parsed = Header::parse(&header).expect("only good headers go out");
        assert_eq!((parsed.message, parsed.length), (MessageType::Data, slice.length));
        *credits_granted += u64::from(parsed.credits);
        *data_issued += 1;
        assert!(*data_issued <= granted, "a message without a credit");
        *in_flight += 1;
        let payload = &memory[slice.memory as usize][offset(slice)..][..slice.length as usize];
        issued.push_back(payload.to_vec());
        let bytes = [&header, payload].concat();
        let is_registered = send.key().is_some();
        let memory = is_registered.then_some(slice.memory);
        kernel.outgoing.push_back(Outgoing { message: Message::Data(send), memory, bytes, moved: 0 });
    }

    fn start_read(&mut self, side: usize, read: Read, wanted: usize) {
        let kernel = &mut self.sides[side].kernel;
        assert!(kernel.reading.is_none(), "one receive at a time");
        kernel.reading = Some(Reading { read, wanted, got: Vec::new() });
    }

    fn start_close(&mut self, side: usize) {
        let kernel = &mut self.sides[side].kernel;
        assert!(kernel.has_open);
        kernel.is_closing = true;
        self.break_pipes(side);
        if !self.sides[side].kernel.has_disconnected {
            // A reset overtakes what is still on its way.
            let kept = self.random.index(self.sides[side].pipe.bytes.len() + 1);
            self.sides[side].pipe.bytes.truncate(kept);
        }
    }

    /// Nothing more goes out of a side, and it takes nothing more.
    fn break_pipes(&mut self, side: usize) {
        let Side { kernel, pipe, .. } = &mut self.sides[side];
        pipe.is_ended = true;
        for Outgoing { message, .. } in kernel.outgoing.drain(..) {
            kernel.sent.push((message, Err(NtStatus::CONNECTION_ABORTED)));
        }
        self.sides[other(side)].pipe.is_broken = true;
    }

    fn complete(&mut self, side: usize, waiter: u32, result: Result<Reply, NtStatus>) {
        let is_first = self.sides[side].posted.front() == Some(&waiter);
        let request = self.came_out(side, waiter);
        let Ok(reply) = result else { return };
        match (request, reply) {
            (Request::Receive(memory, offset), Reply::Transferred(length)) => {
                assert!(is_first, "receives complete in their order");
                let expected = self.sides[other(side)].issued.pop_front().expect("something was sent");
                let received = &self.sides[side].memory[memory as usize][offset..][..length as usize];
                assert_eq!(received, expected, "what was received is what was sent");
                self.sides[side].received += 1;
            }
            (Request::Send, Reply::Transferred(_))
            | (Request::Bind, Reply::Bound(_))
            | (Request::Negotiate, Reply::Negotiated)
            | (Request::Connect | Request::Disconnect | Request::Deregister | Request::Register(_), Reply::Nothing) => {
            }
            (request, reply) => panic!("{request:?} was answered with {reply:?}"),
        }
    }

    /// Bytes move on, at most `most`; whether any did.
    pub(crate) fn move_bytes(&mut self, side: usize, most: usize) -> bool {
        let Side { kernel, pipe, .. } = &mut self.sides[side];
        if kernel.connecting.is_some() {
            return false;
        }
        // Nobody listens, or this side has been cut off amid a message.
        if (pipe.is_broken || pipe.is_ended) && !kernel.outgoing.is_empty() {
            for Outgoing { message, .. } in kernel.outgoing.drain(..) {
                kernel.sent.push((message, Err(NtStatus::CONNECTION_RESET)));
            }
            return true;
        }
        let Some(outgoing) = kernel.outgoing.front_mut() else { return false };
        // TCP holds no more than this.
        let room = 64_usize.saturating_sub(pipe.bytes.len());
        let count = most.min(room).min(outgoing.bytes.len() - outgoing.moved);
        pipe.bytes.extend(&outgoing.bytes[outgoing.moved..outgoing.moved + count]);
        outgoing.moved += count;
        if outgoing.moved == outgoing.bytes.len() {
            let Outgoing { message, .. } = kernel.outgoing.pop_front().unwrap();
            kernel.sent.push((message, Ok(())));
            return true;
        }
        count != 0
    }

    /// A side's receive takes up to `most` bytes, and is answered when it has all, or cannot get them.
    pub(crate) fn read(&mut self, side: usize, most: usize) -> bool {
        let (left, right) = self.sides.split_at_mut(1);
        let (this, peer) =
            if side == CONNECTOR { (&mut left[0], &mut right[0]) } else { (&mut right[0], &mut left[0]) };
        let Some(reading) = &mut this.kernel.reading else { return false };
        let is_over = this.kernel.is_closing || (peer.pipe.is_ended && peer.pipe.bytes.is_empty());
        let count = most.min(reading.wanted - reading.got.len()).min(peer.pipe.bytes.len());
        reading.got.extend(peer.pipe.bytes.drain(..count));
        if reading.got.len() < reading.wanted {
            if !is_over {
                return count != 0;
            }
            let reading = this.kernel.reading.take().unwrap();
            let error = NtStatus::CONNECTION_RESET;
            match reading.read {
                Read::Header => this.endpoint.header_received(Err(error)),
                Read::Control => this.endpoint.control_received(Err(error)),
                Read::Payload(_) => this.endpoint.payload_received(Err(error)),
            }
            return true;
        }
        let reading = this.kernel.reading.take().unwrap();
        match reading.read {
            Read::Header => this.endpoint.header_received(Ok(reading.got.try_into().unwrap())),
            Read::Control => this.endpoint.control_received(Ok(&reading.got)),
            Read::Payload(slice) => {
                let memory = &mut this.memory[slice.memory as usize];
                memory[offset(slice)..][..reading.got.len()].copy_from_slice(&reading.got);
                this.endpoint.payload_received(Ok(()));
            }
        }
        true
    }

    /// A send that is done is answered, in whatever order.
    pub(crate) fn answer_send(&mut self, side: usize) -> bool {
        let Side { endpoint, kernel, in_flight, .. } = &mut self.sides[side];
        if kernel.sent.is_empty() {
            return false;
        }
        let index = self.random.index(kernel.sent.len());
        match kernel.sent.swap_remove(index) {
            (Message::Control, result) => {
                kernel.is_sending_control = false;
                endpoint.control_sent(result);
            }
            (Message::Data(send), result) => {
                *in_flight -= 1;
                endpoint.sent(send, result);
            }
        }
        true
    }

    /// Open, connect, disconnect, offer or close is answered.
    pub(crate) fn answer_other(&mut self, side: usize) -> bool {
        let Side { endpoint, kernel, pipe, .. } = &mut self.sides[side];
        if core::mem::take(&mut kernel.is_opening) {
            kernel.has_open = true;
            endpoint.opened(Ok(()));
        } else if let Some(result) = kernel.connecting.take() {
            endpoint.connected(if kernel.is_closing { Err(NtStatus::CANCELLED) } else { result });
        } else if let Some(offered) = kernel.is_offering.take() {
            endpoint.offered(offered);
        } else if kernel.is_disconnecting && (kernel.outgoing.is_empty() || kernel.is_closing) {
            kernel.is_disconnecting = false;
            kernel.has_disconnected = true;
            pipe.is_ended = true;
            endpoint.disconnected();
        } else if kernel.is_closing && kernel.has_open {
            kernel.has_open = false;
            endpoint.closed();
        } else {
            return false;
        }
        true
    }

    pub(crate) fn fire_timer(&mut self, side: usize) -> bool {
        let Side { endpoint, kernel, .. } = &mut self.sides[side];
        if !core::mem::take(&mut kernel.is_timer_running) {
            return false;
        }
        endpoint.timer_expired();
        true
    }

    /// Cancels a request, as the driver does: by the machine, or its IRP if it is on the wire.
    pub(crate) fn cancel(&mut self, waiter: u32) {
        let Some((side, _)) = self.waiting[waiter as usize] else { return };
        if let Some(back) = self.sides[side].endpoint.cancel(|&other| other == waiter) {
            assert_eq!(back, waiter);
            self.came_out(side, waiter);
            return;
        }
        let is_it = |outgoing: &Outgoing| matches!(&outgoing.message, Message::Data(send) if send.waiter == waiter);
        let outgoing = &mut self.sides[side].kernel.outgoing;
        if let Some(position) = outgoing.iter().position(is_it) {
            let cancelled = outgoing.remove(position).unwrap();
            self.sides[side].kernel.sent.push((cancelled.message, Err(NtStatus::CANCELLED)));
            // Half of it may be out; nothing can follow.
            self.break_pipes(side);
        }
    }

    /// All that can happen happens, until nothing does; with the timers, when nothing else does.
    pub(crate) fn run(&mut self, with_timers: bool) {
        for _ in 0..100_000 {
            let mut has_happened = false;
            for side in [CONNECTOR, ACCEPTOR, LISTENER] {
                self.pull(side);
                has_happened |= side != LISTENER
                    && (self.move_bytes(side, 37)
                        | self.read(side, 50)
                        | self.answer_send(side)
                        | self.answer_other(side));
            }
            let fired = !has_happened && with_timers && (self.fire_timer(CONNECTOR) | self.fire_timer(ACCEPTOR));
            if !has_happened && !fired {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Everybody closes, and everything has to come out.
    pub(crate) fn end(&mut self) {
        let first = self.random.index(3);
        for side in [first, (first + 1) % 3, (first + 2) % 3] {
            match side {
                LISTENER => self.close_listener(),
                ACCEPTOR if !self.is_taken => {}
                side => self.sides[side].endpoint.close(),
            }
            if self.random.once_in(2) {
                self.run(false);
            }
        }
        // An accept may have taken it meanwhile.
        if self.is_taken {
            self.sides[ACCEPTOR].endpoint.close();
        }
        self.run(true);
        for (index, side) in self.sides.iter().enumerate().filter(|(_, side)| side.exists) {
            assert!(side.endpoint.is_finished(), "side {index} is not finished: {:#?}", side.endpoint);
            assert_eq!(side.endpoint.state(), State::Closing);
        }
        for (waiter, waiting) in self.waiting.iter().enumerate() {
            assert!(waiting.is_none(), "{waiter} has not come out: {waiting:?}");
        }
    }
}
