//! Every interleaving of what `san_core::concurrent` has threads agree on, by loom. Memory that two threads might touch at once is
//! a `loom::cell`, which fails the model if they do.

#[allow(dead_code, unreachable_pub)]
mod concurrent;

use concurrent::{Budget, Cancelable, Parties, RateLimit, Rounds};
use loom::cell::Cell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

#[test]
fn a_budget_is_never_exceeded() {
    loom::model(|| {
        let budget = Arc::new(Budget::new());
        let threads: Vec<_> = [2, 1]
            .into_iter()
            .map(|amount| {
                let budget = budget.clone();
                thread::spawn(move || {
                    let took = budget.take(amount, 2);
                    assert!(budget.taken() <= 2);
                    if took {
                        budget.give_back(amount);
                    }
                })
            })
            .collect();
        assert!(budget.taken() <= 2);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(budget.taken(), 0);
    });
}

#[test]
fn nobody_is_refused_what_is_there_because_another_asked_for_too_much() {
    loom::model(|| {
        let budget = Arc::new(Budget::new());
        let greedy = {
            let budget = budget.clone();
            thread::spawn(move || assert!(!budget.take(5, 4)))
        };
        assert!(budget.take(4, 4));
        greedy.join().unwrap();
        assert!(!budget.take(u64::MAX, u64::MAX), "a sum that wraps round");
    });
}

#[test]
fn what_is_not_admitted_is_counted_once_also_where_a_second_begins_in_between() {
    const SECOND: u64 = 10_000_000;
    loom::model(|| {
        let limit = Arc::new(RateLimit::new(1));
        let threads: Vec<_> = [7, 8]
            .into_iter()
            .map(|second| {
                let limit = limit.clone();
                thread::spawn(move || [limit.admit(second * SECOND), limit.admit(second * SECOND)])
            })
            .collect();
        let mut answers: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let of_the_seconds = answers.iter().filter(|answer| answer.is_some()).count();
        assert!(of_the_seconds <= 2, "one a second: {answers:?}");
        answers.push(limit.admit(9 * SECOND));
        let admitted = answers.iter().flatten().count();
        let told: u32 = answers.iter().flatten().sum();
        assert_eq!(admitted + told as usize, answers.len(), "{answers:?}");
    });
}

/// What an operation's parties share.
struct Shared {
    parties: Parties,
    outcome: Cell<u32>,
    told: AtomicU32,
}

impl Shared {
    fn new(parties: u32) -> Self {
        Self { parties: Parties::new(parties), outcome: Cell::new(0), told: AtomicU32::new(0) }
    }

    fn leave(&self) {
        if self.parties.leave() {
            assert_eq!(self.outcome.get(), 7, "the last one sees what the owner wrote");
            self.told.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn the_last_of_the_parties_and_nobody_else_ends_an_operation() {
    loom::model(|| {
        // The owner, and one that may cancel it; a timer joins.
        let operation = Arc::new(Shared::new(2));
        operation.parties.join();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let operation = operation.clone();
                thread::spawn(move || operation.leave())
            })
            .collect();
        operation.outcome.set(7);
        operation.leave();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(operation.told.load(Ordering::Relaxed), 1);
    });
}

/// A client's operation: memory that is used again.
struct Call {
    state: Cancelable,
    operation: Shared,
    cancelled: AtomicU32,
}

#[test]
fn an_operation_is_cancelled_by_one_or_none_and_ends_once() {
    loom::model(|| {
        let call = Arc::new(Call { state: Cancelable::new(), operation: Shared::new(2), cancelled: AtomicU32::new(0) });
        assert!(call.state.begin() && !call.state.begin());
        call.state.allow();
        let cancellers: Vec<_> = (0..2)
            .map(|_| {
                let call = call.clone();
                thread::spawn(move || {
                    if call.state.claim() {
                        call.cancelled.fetch_add(1, Ordering::Relaxed);
                        call.operation.leave();
                    }
                })
            })
            .collect();
        call.operation.outcome.set(7);
        let revoked = call.state.revoke();
        if revoked {
            call.operation.leave();
        }
        call.operation.leave();
        for canceller in cancellers {
            canceller.join().unwrap();
        }
        assert_eq!(call.cancelled.load(Ordering::Relaxed), u32::from(!revoked));
        assert_eq!(call.operation.told.load(Ordering::Relaxed), 1);
        call.state.end();
        assert!(
            !call.state.claim() && call.state.begin() && !call.state.claim(),
            "used again, and not to be cancelled yet"
        );
    });
}

/// An IRP that is used for one call after the other.
struct Irp {
    rounds: Rounds,
    /// The packet: of whoever has it alone, between rounds.
    packet: Cell<u32>,
    /// Of the completion, or of the issuer that could not make its call; read by whoever ends the round.
    outcome: Cell<u32>,
    /// Rounds that have ended.
    ended: AtomicU32,
}

/// Rounds that an IRP goes through.
const ROUNDS: u32 = 2;

impl Irp {
    /// A party leaves; whoever ends a round begins the next, as a continuation does.
    fn leave(this: &Arc<Self>) {
        if !this.rounds.leave() {
            return;
        }
        assert_eq!(this.outcome.replace(0), 1);
        if this.ended.fetch_add(1, Ordering::Relaxed) + 1 < ROUNDS {
            Self::issue(this);
        }
    }

    /// `WskIrp::issue`, with a provider that completes on another thread.
    fn issue(this: &Arc<Self>) {
        this.packet.set(this.packet.get() + 1);
        if this.rounds.begin() {
            let completed = this.clone();
            thread::spawn(move || {
                completed.outcome.set(1);
                Self::leave(&completed);
            });
        } else {
            this.outcome.set(1);
            Self::leave(this);
        }
        Self::leave(this);
    }
}

#[test]
fn rounds_end_once_whoever_leaves_last_and_a_cancel_meets_one_or_keeps_it_from_beginning() {
    let mut model = loom::model::Builder::new();
    // Every interleaving takes a minute; those with so many switches in the middle, a moment.
    model.preemption_bound = Some(3);
    model.check(|| {
        let (rounds, packet, outcome) = (Rounds::new(), Cell::new(0), Cell::new(0));
        let irp = Arc::new(Irp { rounds, packet, outcome, ended: AtomicU32::new(0) });
        let canceller = {
            let irp = irp.clone();
            thread::spawn(move || {
                if irp.rounds.cancel() {
                    Irp::leave(&irp);
                }
                assert!(irp.rounds.is_cancelled());
            })
        };
        Irp::issue(&irp);
        canceller.join().unwrap();
        while irp.ended.load(Ordering::Acquire) < ROUNDS {
            thread::yield_now();
        }
        assert_eq!(irp.ended.load(Ordering::Relaxed), ROUNDS);
        assert!(!irp.rounds.cancel(), "nothing is under way");
    });
}
