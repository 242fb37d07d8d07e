//! Random sequences of everything that users and the network do, each checked against the model in [`World`].

use crate::world::{ACCEPTOR, CONNECTOR, LISTENER, MEMORIES, MEMORY, Request, World};
use san_core::san::Slice;
use san_protocol::{FD_ACCEPT, FD_CONNECT};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// In each of the tests below.
const SEQUENCES: u64 = 25_000;

/// Longest message that a side takes.
const RECEIVE_SIZE: u32 = 24;

impl World {
    fn register(&mut self, side: usize, key: u64) {
        // A memory is registered by one key alone, so that its use can be told.
        let memory = u32::try_from(key).unwrap() % (MEMORIES - 1);
        let waiter = self.request(side, Request::Register(memory));
        let length = MEMORY as u64 - u64::from(self.random.below(3));
        let rights = if self.random.once_in(12) { self.random.below(5) } else { 3 };
        let outcome = self.sides[side].endpoint.register(waiter, key, memory, length, rights);
        self.outcome(side, waiter, outcome);
    }

    fn deregister(&mut self, side: usize, key: u64) {
        let waiter = self.request(side, Request::Deregister);
        let outcome = self.sides[side].endpoint.deregister(waiter, key);
        self.outcome(side, waiter, outcome);
    }

    fn post_receive(&mut self, side: usize, key: u64) {
        let memory = u32::try_from(key).unwrap() % (MEMORIES - 1);
        let offset = self.random.below(40);
        let waiter = self.request(side, Request::Receive(memory, offset as usize));
        let length = if self.random.once_in(40) { self.random.below(30) } else { RECEIVE_SIZE };
        let outcome = self.sides[side].endpoint.receive_registered(waiter, key, offset.into(), length);
        self.outcome(side, waiter, outcome);
    }

    fn send(&mut self, side: usize, key: Option<u64>) {
        let (offset, length) = (self.random.below(32), self.random.below(RECEIVE_SIZE + 2));
        let waiter = self.request(side, Request::Send);
        let outcome = match key {
            Some(key) => self.sides[side].endpoint.send_registered(waiter, key, offset.into(), length),
            None => {
                let slice = Slice { memory: MEMORIES - 1, offset: offset.into(), length };
                self.sides[side].endpoint.send(waiter, slice)
            }
        };
        self.outcome(side, waiter, outcome);
    }

    fn negotiate(&mut self, side: usize) {
        let length = if self.random.once_in(20) { 257 } else { self.random.index(9) };
        let waiter = self.request(side, Request::Negotiate);
        let outcome = self.sides[side].endpoint.negotiate(waiter, &[7; 257][..length], RECEIVE_SIZE);
        self.outcome(side, waiter, outcome);
    }

    fn disconnect(&mut self, side: usize) {
        let waiter = self.request(side, Request::Disconnect);
        let is_abortive = self.random.once_in(3);
        let outcome = self.sides[side].endpoint.disconnect(waiter, is_abortive);
        self.outcome(side, waiter, outcome);
    }

    fn cancel_one(&mut self) {
        // Mostly one of the last, for the others have come out.
        let back = self.random.index(self.waiting.len().min(12));
        self.cancel(u32::try_from(self.waiting.len() - 1 - back).unwrap());
    }

    /// Something that a user does.
    fn user_step(&mut self) {
        let side = self.random.index(2);
        let is_owned = side == CONNECTOR || self.is_taken;
        let key = u64::from(self.random.below(3)) + u64::from(self.random.once_in(8));
        match self.random.below(100) {
            0..28 if is_owned => self.post_receive(side, key),
            28..38 if is_owned => self.send(side, Some(key)),
            38..48 if is_owned => self.send(side, None),
            48..56 if is_owned => self.register(side, key),
            56..60 if is_owned => self.deregister(side, key),
            60..66 if is_owned => self.negotiate(side),
            66..72 => self.cancel_one(),
            76 if is_owned && self.random.once_in(2) => self.disconnect(side),
            78 if is_owned && self.random.once_in(4) => self.sides[side].endpoint.close(),
            79 if self.random.once_in(4) => self.close_listener(),
            80..84 => self.accept(),
            84..90 if self.is_taken => {
                let accept = !self.random.once_in(8);
                let _ = self.sides[ACCEPTOR].endpoint.decide(accept);
            }
            90..92 => {
                let (side, mask) = [(CONNECTOR, FD_CONNECT), (LISTENER, FD_ACCEPT), (side, 0)][self.random.index(3)];
                let _ = self.sides[side].endpoint.event_select(mask);
            }
            92 => self.connect(),
            93..95 => {
                self.sides[LISTENER].endpoint.enum_network_events();
                self.sides[CONNECTOR].endpoint.enum_network_events();
            }
            _ => {}
        }
    }

    /// The network does something, perhaps.
    fn network_step(&mut self) {
        let side = self.random.index(2);
        let most = 1 + self.random.index(40);
        match self.random.below(32) {
            0..10 => self.move_bytes(side, most),
            10..20 => self.read(side, most),
            20..26 => self.answer_send(side),
            26..31 => self.answer_other(side),
            _ => self.random.once_in(30) && self.fire_timer(side),
        };
    }

    /// A user does something, and the network goes on, faster or slower.
    fn step(&mut self, network_steps: u32) {
        self.user_step();
        for _ in 0..network_steps {
            // The runner may be late.
            if !self.random.once_in(4) {
                self.pull(CONNECTOR);
                self.pull(ACCEPTOR);
            }
            self.network_step();
        }
        self.pull(LISTENER);
    }

    /// Brings the world to somewhere on the way to a session.
    fn begin(&mut self) {
        self.bind_and_listen();
        let depth = self.random.below(12);
        if depth == 0 {
            return;
        }
        self.accept();
        self.connect();
        if depth == 1 {
            return;
        }
        self.run(false);
        let _ = self.sides[ACCEPTOR].endpoint.decide(true);
        if depth > 2 {
            self.run(false);
            for side in [CONNECTOR, ACCEPTOR] {
                self.register(side, 0);
                self.register(side, 1);
                for _ in 0..self.random.below(6) {
                    self.post_receive(side, 0);
                }
                if depth > 3 {
                    self.negotiate(side);
                }
            }
        }
        if depth > 4 {
            self.run(false);
        }
    }
}

/// Messages received and requests that came out, of one sequence.
fn sequence(seed: u64) -> (u64, u64) {
    let mut world = World::new(seed);
    world.begin();
    let network_steps = 1 + world.random.below(10);
    for _ in 0..10 + world.random.below(100) {
        world.step(network_steps);
    }
    world.end();
    (world.sides[CONNECTOR].received + world.sides[ACCEPTOR].received, world.completed)
}

fn sequences(from: u64) {
    let (mut received, mut completed) = (0, 0);
    for seed in from * SEQUENCES..(from + 1) * SEQUENCES {
        match catch_unwind(AssertUnwindSafe(|| sequence(seed))) {
            Ok((of_received, of_completed)) => {
                received += of_received;
                completed += of_completed;
            }
            Err(panic) => {
                std::eprintln!("the sequence of seed {seed} has failed");
                resume_unwind(panic);
            }
        }
    }
    // The sequences would prove nothing if nothing got through.
    assert!(received > SEQUENCES && completed > 10 * SEQUENCES, "{received} messages, {completed} requests");
}

#[test]
fn random_sequences_end_with_everything_delivered_in_order_and_nothing_left_1() {
    sequences(0);
}

#[test]
fn random_sequences_end_with_everything_delivered_in_order_and_nothing_left_2() {
    sequences(1);
}

#[test]
fn random_sequences_end_with_everything_delivered_in_order_and_nothing_left_3() {
    sequences(2);
}

#[test]
fn random_sequences_end_with_everything_delivered_in_order_and_nothing_left_4() {
    sequences(3);
}
