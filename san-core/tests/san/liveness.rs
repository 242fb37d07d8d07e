//! Whatever can go on does.

use crate::world::{ACCEPTOR, CONNECTOR, MEMORIES, MEMORY, Request, World};
use san_core::san::{Slice, State};

const BOTH: [usize; 2] = [CONNECTOR, ACCEPTOR];
const LENGTH: u32 = 20;

impl World {
    /// A session without posted receives, memory 0 registered on both sides.
    fn in_session(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.is_reliable = true;
        world.bind_and_listen();
        world.accept();
        world.connect();
        world.run(false);
        world.sides[ACCEPTOR].endpoint.decide(true).unwrap();
        world.run(false);
        for side in BOTH {
            let waiter = world.request(side, Request::Register(0));
            let outcome = world.sides[side].endpoint.register(waiter, 0, 0, MEMORY as u64, 3);
            assert!(world.outcome(side, waiter, outcome));
            let waiter = world.request(side, Request::Negotiate);
            let outcome = world.sides[side].endpoint.negotiate(waiter, &[], LENGTH);
            assert!(world.outcome(side, waiter, outcome));
        }
        world.run(false);
        assert!(BOTH.iter().all(|&side| world.sides[side].endpoint.peer_offer().is_some()));
        world
    }

    fn queue_send(&mut self, side: usize) {
        let waiter = self.request(side, Request::Send);
        let slice =
            Slice { memory: MEMORIES - 1, offset: self.random.below(40).into(), length: self.random.below(LENGTH + 1) };
        let outcome = self.sides[side].endpoint.send(waiter, slice);
        assert!(self.outcome(side, waiter, outcome));
    }

    fn post(&mut self, side: usize) {
        let waiter = self.request(side, Request::Receive(0, 0));
        let outcome = self.sides[side].endpoint.receive_registered(waiter, 0, 0, LENGTH);
        assert!(self.outcome(side, waiter, outcome));
    }

    fn sends_left(&self) -> u32 {
        BOTH.iter().map(|&side| self.sides[side].endpoint.statistics().sends_queued).sum()
    }
}

#[test]
fn a_thousand_sends_reach_a_receiver_that_posts_one_buffer_at_a_time() {
    let mut world = World::in_session(1);
    for _ in 0..1000 {
        world.queue_send(CONNECTOR);
    }
    for received in 0..1000 {
        world.run(false);
        assert_eq!(world.sides[ACCEPTOR].received, received, "no more than there are receives");
        world.post(ACCEPTOR);
    }
    world.run(false);
    assert_eq!((world.sides[ACCEPTOR].received, world.sends_left()), (1000, 0));
    world.end();
}

#[test]
fn both_sides_may_send_as_much_as_they_like_while_both_receive() {
    for seed in 0..20 {
        let mut world = World::in_session(seed);
        for round in 0..300 {
            for side in BOTH {
                if round < 100 {
                    world.queue_send(side);
                }
                if world.random.once_in(2) {
                    world.post(side);
                }
            }
            if world.random.once_in(3) {
                world.run(false);
            }
        }
        world.run(false);
        assert_eq!((world.sides[CONNECTOR].received, world.sides[ACCEPTOR].received), (100, 100), "seed {seed}");
        assert_eq!(world.sends_left(), 0);
        world.end();
    }
}

#[test]
fn sides_that_only_send_wait_for_each_other_and_no_longer_than_that() {
    let mut world = World::in_session(2);
    for side in BOTH {
        for _ in 0..50 {
            world.queue_send(side);
        }
    }
    world.run(false);
    assert_eq!(world.sends_left(), 100);
    for _ in 0..50 {
        for side in BOTH {
            world.post(side);
        }
    }
    world.run(false);
    assert_eq!(world.sends_left(), 0);
    world.end();
}

#[test]
fn sides_that_only_send_can_disconnect_as_soon_as_one_of_them_receives() {
    let mut world = World::in_session(3);
    for side in BOTH {
        for _ in 0..50 {
            world.queue_send(side);
        }
    }
    let waiter = world.request(CONNECTOR, Request::Disconnect);
    let outcome = world.sides[CONNECTOR].endpoint.disconnect(waiter, false);
    assert!(world.outcome(CONNECTOR, waiter, outcome));
    world.run(false);
    assert_eq!(world.sides[CONNECTOR].endpoint.state(), State::Disconnecting);
    for _ in 0..50 {
        world.post(ACCEPTOR);
    }
    world.run(false);
    assert_eq!(world.sides[ACCEPTOR].received, 50, "what was queued before the disconnect arrives");
    assert!(BOTH.iter().all(|&side| matches!(world.sides[side].endpoint.state(), State::Ended(_))));
    assert_eq!(world.sends_left(), 0);
    world.end();
}

#[test]
fn a_cancelled_receive_holds_its_message_up_and_nothing_else() {
    let mut world = World::in_session(4);
    world.post(ACCEPTOR);
    world.run(false);
    let posted = u32::try_from(world.waiting.len() - 1).unwrap();
    world.cancel(posted);
    world.queue_send(CONNECTOR);
    world.queue_send(CONNECTOR);
    world.queue_send(ACCEPTOR);
    world.post(CONNECTOR);
    world.run(false);
    assert_eq!((world.sides[CONNECTOR].received, world.sides[ACCEPTOR].received), (1, 0));
    world.post(ACCEPTOR);
    world.post(ACCEPTOR);
    world.run(false);
    assert_eq!((world.sides[CONNECTOR].received, world.sides[ACCEPTOR].received), (1, 2));
    world.end();
}
