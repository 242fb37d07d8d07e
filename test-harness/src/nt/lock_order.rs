//! The locks that a thread holds, and the order in which locks have been taken since the machine began.
//!
//! Two threads that take two locks in opposite orders may wait for each other for ever. They need not meet for that to be found: an
//! edge goes from each lock that was held to each that was then taken, and one that closes a circle is a violation.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::time::Instant;

use parking_lot::Mutex;

use crate::guard::violate;
use crate::image::{
    self, registry,
    unwind::{self, Site, site},
};
use crate::simulation;
use crate::thread::Current;
use crate::violation::Rule;

/// What kind of lock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// KSPIN_LOCK, and WDFSPINLOCK on top of it.
    Spin,
    /// FAST_MUTEX and KGUARDED_MUTEX.
    Mutex,
    /// WDFWAITLOCK.
    Wait,
    /// A spin lock that the framework holds while it calls a driver, whose callback may complete requests nevertheless.
    Presentation,
}

/// A lock that a thread holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) address: usize,
    pub(crate) kind: LockKind,
    since: Instant,
    /// Where it was taken.
    site: usize,
}

impl Held {
    /// Whether the driver, and not Microsoft's framework for it, keeps others from a processor.
    fn is_drivers_spin_lock(&self) -> bool {
        self.kind == LockKind::Spin && !registry::find(self.site).is_some_and(|image| image.is_system())
    }
}

/// Where each lock was taken while another was held: the other's address first.
type Edges = BTreeMap<usize, BTreeMap<usize, Site>>;

/// The order of the locks of a machine.
#[derive(Default)]
pub(crate) struct LockOrder(Mutex<Edges>);

/// The locks from `from` to `to`, in the order in which they were taken.
fn path(edges: &Edges, from: usize, to: usize) -> Option<Vec<usize>> {
    let mut came_from = BTreeMap::from([(from, from)]);
    let mut left = vec![from];
    while let Some(lock) = left.pop() {
        for next in edges.get(&lock).into_iter().flat_map(BTreeMap::keys).copied() {
            if came_from.contains_key(&next) {
                continue;
            }
            came_from.insert(next, lock);
            if next == to {
                let before = |lock: &usize| (*lock != from).then(|| came_from[lock]);
                let mut path: Vec<_> = std::iter::successors(Some(to), before).collect();
                path.reverse();
                return Some(path);
            }
            left.push(next);
        }
    }
    None
}

impl LockOrder {
    /// A lock is about to be waited for; the text of the violation if another thread may wait the other way round.
    fn check(&self, held: &[Held], wanted: usize) -> Option<String> {
        let mut edges = self.0.lock();
        for outer in held.iter().map(|held| held.address) {
            if edges.get(&outer).is_some_and(|after| after.contains_key(&wanted)) {
                continue;
            }
            if let Some(path) = path(&edges, wanted, outer) {
                let steps: Vec<_> = path.windows(2).map(|pair| (pair[0], pair[1], edges[&pair[0]][&pair[1]])).collect();
                drop(edges);
                return Some(describe(outer, wanted, &steps));
            }
            edges.entry(outer).or_default().insert(wanted, site());
        }
        None
    }

    /// Memory is being freed: what lies there next is other locks.
    pub(crate) fn forget_in(&self, range: &Range<usize>) {
        let mut edges = self.0.lock();
        if edges.is_empty() {
            return;
        }
        edges.retain(|outer, after| {
            after.retain(|inner, _| !range.contains(inner));
            !range.contains(outer) && !after.is_empty()
        });
    }
}

fn describe(outer: usize, wanted: usize, steps: &[(usize, usize, Site)]) -> String {
    let mut text = format!("the lock {wanted:#x} is taken while {outer:#x} is held, as this backtrace shows");
    for (first, second, site) in steps {
        let frames: Vec<_> = image::resolve(&unwind::known(*site)).iter().map(ToString::to_string).collect();
        let at = frames.join(" < ");
        // Writing to a string does not fail.
        let _ = write!(text, "; {second:#x} was taken while {first:#x} was held at {at}");
    }
    text
}

/// A lock is wanted: taking it must not be able to deadlock. A lock that is only tried cannot.
pub(crate) fn wanted(current: &Current, address: usize) {
    let held = current.locks.borrow();
    if held.is_empty() {
        return;
    }
    let broken = current.kernel.lock_order.check(&held, address);
    drop(held);
    if let Some(text) = broken {
        violate(Rule::LockOrder, text);
    }
}

/// The thread has got a lock.
pub(crate) fn acquired(current: &Current, address: usize, kind: LockKind) {
    let held = Held { address, kind, since: simulation::now(), site: current.call_site.get() };
    current.locks.borrow_mut().push(held);
}

/// The thread gives a lock back. None if it does not hold it.
pub(crate) fn released(current: &Current, address: usize) -> Option<Held> {
    let index = current.locks.borrow().iter().rposition(|held| held.address == address)?;
    Some(current.locks.borrow_mut().remove(index))
}

/// A spin lock that was just given back must not have been held for long: other processors spin meanwhile.
pub(crate) fn check_duration(current: &Current, held: &Held) {
    let (held, limit) = (simulation::now().duration_since(held.since), current.kernel.options.spin_lock_limit);
    if held > limit {
        violate(Rule::LockHeldTooLong, format!("a spin lock was held for {held:?}, and may be for {limit:?}"));
    }
}

/// A call that may run other drivers' code, or this driver's own completion routines, is made with no spin lock held.
pub(crate) fn none_across(current: &Current, call: &str) {
    let held = current.locks.borrow().iter().rfind(|held| held.is_drivers_spin_lock()).copied();
    if let Some(held) = held {
        violate(Rule::LockAcrossIo, format!("{call} while the spin lock {:#x} is held", held.address));
    }
}
