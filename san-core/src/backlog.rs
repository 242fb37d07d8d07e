//! Connections that wait for an accept, and accepts that wait for a connection.

use crate::NoMemory;
use alloc::collections::VecDeque;

/// What to tell a peer that asks to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it in; [`Backlog::arrived`] or [`Backlog::aborted`] follows.
    Accept,
    /// Refuse it, at once.
    Reject,
}

/// The two queues of a listener, at least one of which is empty.
///
/// A peer passes three points: it is *inspected*, then it *arrives* (or *aborts* on the way), then it is *accepted*. The
/// limit holds for those between the first and the last, less those that an accept is waiting for already. Room for the
/// limit is taken when the backlog is made, so that an arrival allocates nothing.
#[derive(Debug)]
pub struct Backlog<C, A> {
    limit: usize,
    arriving: usize,
    waiting: VecDeque<C>,
    accepting: VecDeque<A>,
}

impl<C, A> Backlog<C, A> {
    /// An empty backlog that lets `limit` connections wait.
    ///
    /// # Errors
    ///
    /// There is no memory for the limit.
    pub fn new(limit: usize) -> Result<Self, NoMemory> {
        let mut waiting = VecDeque::new();
        waiting.try_reserve_exact(limit).map_err(|_| NoMemory)?;
        Ok(Self { limit, arriving: 0, waiting, accepting: VecDeque::new() })
    }

    /// A peer asks to connect.
    pub fn inspect(&mut self) -> Verdict {
        if self.arriving + self.waiting.len() < self.limit + self.accepting.len() {
            self.arriving += 1;
            Verdict::Accept
        } else {
            Verdict::Reject
        }
    }

    /// A peer that was let in has gone before it arrived.
    pub fn aborted(&mut self) {
        self.arriving = self.arriving.saturating_sub(1);
    }

    /// A peer that was let in is here: it meets the accept that has waited longest, or waits itself.
    ///
    /// # Errors
    ///
    /// The connection comes back if there is no room, as when the accepts that it was let in for have been cancelled.
    pub fn arrived(&mut self, connection: C) -> Result<Option<(C, A)>, C> {
        self.aborted();
        if let Some(accept) = self.accepting.pop_front() {
            return Ok(Some((connection, accept)));
        }
        if self.waiting.len() >= self.limit {
            return Err(connection);
        }
        self.waiting.push_back(connection);
        Ok(None)
    }

    /// Somebody wants a connection: gets the one that has waited longest, or waits.
    ///
    /// # Errors
    ///
    /// It comes back if there is no memory for it to wait.
    pub fn accept(&mut self, accept: A) -> Result<Option<(C, A)>, A> {
        if let Some(connection) = self.waiting.pop_front() {
            return Ok(Some((connection, accept)));
        }
        if self.accepting.try_reserve(1).is_err() {
            return Err(accept);
        }
        self.accepting.push_back(accept);
        Ok(None)
    }

    /// Takes out an accept that waits; `None` if it has met a connection already.
    pub fn cancel(&mut self, is_it: impl FnMut(&A) -> bool) -> Option<A> {
        let position = self.accepting.iter().position(is_it)?;
        self.accepting.remove(position)
    }

    /// Takes out a waiting connection whose peer is gone; `None` if it has met an accept already.
    pub fn withdraw(&mut self, is_it: impl FnMut(&C) -> bool) -> Option<C> {
        let position = self.waiting.iter().position(is_it)?;
        self.waiting.remove(position)
    }

    /// Connections that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Connections that may wait.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes out the connection that has waited longest.
    pub fn next_waiting(&mut self) -> Option<C> {
        self.waiting.pop_front()
    }

    /// Takes out the accept that has waited longest.
    pub fn next_accepting(&mut self) -> Option<A> {
        self.accepting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn four_of_fifty_wait_and_none_of_them_is_lost() {
        let mut backlog: Backlog<u32, ()> = Backlog::new(4).unwrap();
        let mut let_in = Vec::new();
        for peer in 0..50 {
            match backlog.inspect() {
                Verdict::Accept => let_in.push(peer),
                Verdict::Reject => {}
            }
        }
        assert_eq!(let_in, [0, 1, 2, 3]);
        for peer in let_in {
            assert!(backlog.arrived(peer).unwrap().is_none());
        }
        for peer in 0..4 {
            assert_eq!(backlog.accept(()), Ok(Some((peer, ()))));
        }
        assert_eq!(backlog.accept(()), Ok(None));
    }

    #[test]
    fn a_peer_that_aborts_gives_its_place_back() {
        let mut backlog: Backlog<u32, ()> = Backlog::new(1).unwrap();
        assert_eq!(backlog.inspect(), Verdict::Accept);
        assert_eq!(backlog.inspect(), Verdict::Reject);
        backlog.aborted();
        assert_eq!(backlog.inspect(), Verdict::Accept);
    }

    #[test]
    fn a_connection_whose_accept_was_cancelled_on_the_way_comes_back_when_there_is_no_room() {
        let mut backlog: Backlog<u32, u32> = Backlog::new(1).unwrap();
        assert_eq!(backlog.accept(9), Ok(None));
        assert_eq!(backlog.inspect(), Verdict::Accept);
        assert_eq!(backlog.inspect(), Verdict::Accept);
        assert_eq!(backlog.cancel(|&accept| accept == 9), Some(9));
        assert_eq!(backlog.cancel(|&accept| accept == 9), None);
        assert_eq!(backlog.arrived(1), Ok(None));
        assert_eq!(backlog.arrived(2), Err(2));
    }

    #[test]
    fn a_withdrawn_connection_gives_its_place_back_and_is_never_accepted() {
        let mut backlog: Backlog<u32, ()> = Backlog::new(2).unwrap();
        for peer in [1, 2] {
            assert_eq!(backlog.inspect(), Verdict::Accept);
            assert_eq!(backlog.arrived(peer), Ok(None));
        }
        assert_eq!(backlog.inspect(), Verdict::Reject);
        assert_eq!(backlog.withdraw(|&peer| peer == 1), Some(1));
        assert_eq!(backlog.withdraw(|&peer| peer == 1), None);
        assert_eq!(backlog.inspect(), Verdict::Accept);
        assert_eq!(backlog.accept(()), Ok(Some((2, ()))));
        assert_eq!(backlog.withdraw(|&peer| peer == 2), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Inspect,
        Arrive,
        Abort,
        Accept,
        Cancel(usize),
        Withdraw(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Inspect),
            3 => Just(Step::Arrive),
            1 => Just(Step::Abort),
            3 => Just(Step::Accept),
            1 => (0_usize..8).prop_map(Step::Cancel),
            1 => (0_usize..8).prop_map(Step::Withdraw),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: each connection that arrived is accepted once, in order, or withdrawn, or refused
        /// when it arrives; the limit holds; and nobody waits on both sides.
        #[test]
        fn every_arrival_is_accepted_once_and_in_order(limit in 1_usize..5, steps in prop::collection::vec(step(), 0..200)) {
            let mut backlog = Backlog::new(limit).unwrap();
            let (mut arriving, mut next, mut next_accept) = (0_u32, 0_u32, 0_u32);
            let (mut expected, mut accepts) = (VecDeque::new(), VecDeque::new());
            for step in steps {
                let met = match step {
                    Step::Inspect => {
                        if backlog.inspect() == Verdict::Accept { arriving += 1; }
                        None
                    }
                    Step::Abort => {
                        if arriving > 0 { arriving -= 1; backlog.aborted(); }
                        None
                    }
                    Step::Arrive if arriving == 0 => None,
                    Step::Arrive => {
                        arriving -= 1;
                        next += 1;
                        match backlog.arrived(next) {
                            Ok(met) => { expected.push_back(next); met }
                            Err(back) => { prop_assert_eq!(back, next); prop_assert_eq!(expected.len(), limit); None }
                        }
                    }
                    Step::Accept => {
                        next_accept += 1;
                        accepts.push_back(next_accept);
                        backlog.accept(next_accept).unwrap()
                    }
                    Step::Cancel(at) => {
                        let chosen = accepts.get(at).copied();
                        let cancelled = chosen.and_then(|id| backlog.cancel(|&accept| accept == id));
                        prop_assert_eq!(cancelled, chosen);
                        if chosen.is_some() { accepts.remove(at); }
                        None
                    }
                    Step::Withdraw(at) => {
                        let chosen = expected.get(at).copied();
                        let withdrawn = chosen.and_then(|id| backlog.withdraw(|&connection| connection == id));
                        prop_assert_eq!(withdrawn, chosen);
                        if chosen.is_some() { expected.remove(at); }
                        None
                    }
                };
                if let Some((connection, accept)) = met {
                    prop_assert_eq!(expected.pop_front(), Some(connection));
                    prop_assert_eq!(accepts.pop_front(), Some(accept));
                }
                prop_assert!(expected.is_empty() || accepts.is_empty());
                prop_assert!(expected.len() <= limit);
                prop_assert_eq!(backlog.waiting(), expected.len());
            }
        }
    }
}
