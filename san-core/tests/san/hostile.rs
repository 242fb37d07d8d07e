//! A peer that says whatever it likes, and a driver that answers what nobody asked.

use crate::rig::{LIMITS, Rig, Tested, local, mapped, remote, slice};
use crate::world::Random;
use san_core::address_map::Reach;
use san_core::backlog::Backlog;
use san_core::san::{Action, Endpoint, Offered, Reply, Sending, State};
use san_protocol::NtStatus;
use san_protocol::wire::{
    ConnectRequest, ControlMessage, HEADER_SIZE, Header, MAX_CONTROL, MAX_CREDITS, MessageType, RejectReason,
};
use std::collections::BTreeSet;

const SEEDS: u64 = 30_000;

/// A header of a hostile peer, which is hostile once in `malice` times.
fn any_header(random: &mut Random, malice: u32) -> [u8; HEADER_SIZE] {
    if !random.once_in(malice) {
        return Header { message: MessageType::Credit, length: 0, credits: 1 }.encode();
    }
    if random.once_in(20) {
        return core::array::from_fn(|_| random.byte());
    }
    let message = [
        MessageType::ConnectRequest,
        MessageType::Accept,
        MessageType::Reject,
        MessageType::Session,
        MessageType::Data,
        MessageType::Data,
        MessageType::Data,
        MessageType::Credit,
        MessageType::Goodbye,
    ][random.index(9)];
    let length = match message {
        MessageType::ConnectRequest => 40,
        MessageType::Reject => 4,
        MessageType::Session => 8 + random.below(257),
        MessageType::Data => [0, 1, 99, 100, 101, u32::MAX][random.index(6)],
        MessageType::Accept | MessageType::Credit | MessageType::Goodbye => 0,
    };
    let credits = match message {
        MessageType::Session | MessageType::Data | MessageType::Credit => {
            [0, 1, 2, MAX_CREDITS - 1, MAX_CREDITS, MAX_CREDITS + 1, u32::MAX][random.index(7)]
        }
        _ => 0,
    };
    let mut bytes = Header { message, length, credits }.encode();
    if random.once_in(20) {
        bytes[random.index(HEADER_SIZE)] ^= 1 << random.below(8);
    }
    bytes
}

fn any_control(random: &mut Random, length: usize) -> Vec<u8> {
    let good = match length {
        40 => ControlMessage::connect_request(&ConnectRequest { source: remote(), target: local() }),
        4 => ControlMessage::reject(RejectReason::Refused),
        _ => return vec![u8::from(random.once_in(10)); length],
    };
    let mut bytes = good.as_bytes()[HEADER_SIZE..].to_vec();
    if random.once_in(4) {
        bytes[random.index(length)] ^= random.byte();
    }
    bytes
}

/// The network actions that are to be answered.
struct Driver {
    endpoint: Tested,
    network: Vec<Action<u32, &'static str>>,
    waiting: BTreeSet<u32>,
    malice: u32,
}

impl Driver {
    fn pull(&mut self) {
        while let Some(action) = self.endpoint.next_action() {
            match action {
                Action::Complete { waiter, .. } => assert!(self.waiting.remove(&waiter), "{waiter} comes out once"),
                Action::StartTimer(_) | Action::StopTimer | Action::Withdraw => {}
                Action::ReceivePayload(slice) => {
                    assert!((1..=100).contains(&slice.length), "it stays inside the receive");
                    self.network.push(Action::ReceivePayload(slice));
                }
                Action::ReceiveControl { length } => {
                    assert!(length + HEADER_SIZE <= MAX_CONTROL);
                    self.network.push(Action::ReceiveControl { length });
                }
                other => self.network.push(other),
            }
        }
    }

    /// One of the actions is answered; what is received is the peer's choice.
    fn answer(&mut self, random: &mut Random, fails: bool) {
        if self.network.is_empty() {
            return;
        }
        let result = if fails || random.once_in(60) { Err(NtStatus::CONNECTION_RESET) } else { Ok(()) };
        let endpoint = &mut self.endpoint;
        let index = random.index(self.network.len());
        match self.network.swap_remove(index) {
            Action::Open { .. } => endpoint.opened(result),
            Action::Connect { .. } => endpoint.connected(result),
            Action::SendControl(_) => endpoint.control_sent(result),
            Action::SendData { send, .. } => endpoint.sent(send, result),
            Action::ReceiveHeader => endpoint.header_received(result.map(|()| any_header(random, self.malice))),
            Action::ReceiveControl { length } => {
                let bytes = any_control(random, length);
                endpoint.control_received(result.map(|()| &bytes[..]));
            }
            Action::ReceivePayload(_) => endpoint.payload_received(result),
            Action::Disconnect => endpoint.disconnected(),
            Action::Offer(_) => {
                endpoint.offered(Offered::Queued);
                endpoint.taken();
                let _ = endpoint.decide(!random.once_in(4));
            }
            Action::Close => endpoint.closed(),
            Action::Withdraw | Action::StartTimer(_) | Action::StopTimer | Action::Complete { .. } => unreachable!(),
        }
    }
}

fn begin(random: &mut Random) -> Driver {
    let (rig, waiting) = match random.below(5) {
        0 => (Rig { endpoint: Endpoint::arriving(LIMITS), sending: std::collections::VecDeque::new() }, vec![]),
        1 => (Rig::connecting(Reach::AlsoTcp), vec![2]),
        2 => (Rig::connected(), vec![]),
        3 => (Rig::in_session(random.below(3), random.below(3)), vec![3, 100, 101]),
        _ => (Rig::in_session(2, 2), vec![3, 100, 101]),
    };
    let posted = rig.endpoint.statistics().receives_posted;
    let waiting = waiting.into_iter().filter(|&waiter| waiter < 100 || waiter < 100 + posted).collect();
    let mut driver = Driver { endpoint: rig.endpoint, network: Vec::new(), waiting, malice: 1 + random.below(20) };
    // What the rig has pulled is to be answered still.
    match driver.endpoint.state() {
        State::Connecting => driver.network.push(Action::Connect { native: remote() }),
        State::Connected => driver.network.push(Action::ReceiveHeader),
        _ => {}
    }
    driver
}

fn sequence(seed: u64) -> State {
    let mut random = Random::new(seed);
    let mut driver = begin(&mut random);
    let mut next = 200;
    for _ in 0..40 {
        driver.pull();
        next += 1;
        let endpoint = &mut driver.endpoint;
        let outcome = match random.below(12) {
            0 => endpoint.send(next, slice(random.below(300))),
            1 => endpoint.receive_registered(next, 7, 0, 100),
            2 => endpoint.negotiate(next, &[], 100),
            3 if random.once_in(10) => endpoint.disconnect(next, random.once_in(2)),
            4 => endpoint.register(next, 7, "seven", 1000, 3),
            _ => {
                driver.answer(&mut random, false);
                continue;
            }
        };
        if outcome.is_ok() {
            driver.waiting.insert(next);
        }
        assert!(driver.endpoint.statistics().send_credits <= MAX_CREDITS);
    }
    let reached = driver.endpoint.state();
    driver.endpoint.close();
    for _ in 0..1000 {
        driver.pull();
        driver.answer(&mut random, true);
    }
    assert!(driver.endpoint.is_finished(), "{:#?}", driver.endpoint);
    assert!(driver.waiting.is_empty(), "{:?} have not come out", driver.waiting);
    reached
}

#[test]
fn a_hostile_peer_ends_its_own_connection_in_a_clear_state_and_nothing_else() {
    let (mut violations, mut resets, mut standing) = (0, 0, 0);
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| sequence(seed)) {
            Ok(State::Ended(NtStatus::INVALID_NETWORK_RESPONSE)) => violations += 1,
            Ok(State::Ended(NtStatus::CONNECTION_RESET)) => resets += 1,
            Ok(State::Connected | State::Disconnecting) => standing += 1,
            Ok(
                State::Ended(
                    NtStatus::GRACEFUL_DISCONNECT
                    | NtStatus::CONNECTION_ABORTED
                    | NtStatus::CONNECTION_REFUSED
                    | NtStatus::IO_TIMEOUT,
                )
                | State::Arriving
                | State::Connecting
                | State::Rejecting
                | State::Closing
                | State::Undecided
                | State::Offering,
            ) => {}
            Ok(other) => panic!("seed {seed} ends in {other:?}"),
            Err(panic) => {
                eprintln!("the sequence of seed {seed} has failed");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let least = SEEDS / 100;
    assert!(violations > least && resets > least && standing > least, "{violations}, {resets}, {standing}");
}

/// Answers to actions that were never pulled, in whatever state.
#[test]
fn an_answer_that_nobody_asked_for_never_panics() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut endpoint: Tested = if random.once_in(2) { Endpoint::new(LIMITS) } else { Endpoint::arriving(LIMITS) };
        let mut sends: Vec<Sending<u32>> = Vec::new();
        for waiter in 0..40 {
            let result = if random.once_in(8) { Err(NtStatus::CONNECTION_RESET) } else { Ok(()) };
            match random.below(24) {
                0 => endpoint.opened(result),
                1 => endpoint.connected(result),
                2 => endpoint.control_sent(result),
                3 => endpoint.header_received(result.map(|()| any_header(&mut random, 1))),
                4 => endpoint.control_received(result.map(|()| &[0; 8][..])),
                5 => endpoint.payload_received(result),
                6 => endpoint.disconnected(),
                7 => endpoint.offered(Offered::Queued),
                8 => endpoint.offered(Offered::Rejected(RejectReason::Busy)),
                9 => endpoint.taken(),
                10 => drop(endpoint.decide(true)),
                11 if random.once_in(4) => endpoint.closed(),
                12 => endpoint.timer_expired(),
                13 => drop(endpoint.bind(waiter, local(), Some(local()))),
                14 => drop(endpoint.connect(waiter, remote(), mapped(Reach::AlsoTcp), 0)),
                15 => drop(endpoint.listen(Backlog::new(1).unwrap())),
                16 => drop(endpoint.arrived(1)),
                17 => drop(endpoint.withdraw(|_| true)),
                18 if random.once_in(8) => endpoint.close(),
                19 => {
                    if let Some(send) = sends.pop() {
                        endpoint.sent(send, result);
                    }
                }
                _ => {
                    for _ in 0..random.below(5) {
                        match endpoint.next_action() {
                            Some(Action::SendData { send, .. }) => sends.push(send),
                            Some(Action::Complete { waiter: _, result: Ok(Reply::Negotiated) }) => panic!("no session"),
                            Some(_) | None => {}
                        }
                    }
                }
            }
            assert!(endpoint.cancel(|&other| other == u32::MAX).is_none());
        }
    }
}
