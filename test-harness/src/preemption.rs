//! Taking the processor away from a driver at a chosen call, so that others are quicker: what a scheduler may do anywhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a thread stays off the processor if nobody gives it back: the others may need what it holds, a spin lock for one.
const ABSENCE: Duration = Duration::from_millis(5);

/// The chosen call, and the thread that has come to it.
#[derive(Debug, Default)]
pub(crate) struct Preemption {
    /// Calls of drivers so far.
    calls: AtomicU64,
    armed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// Whoever makes the call of this number is taken off the processor.
    Armed(u64),
    /// A thread is off the processor, in this call.
    Off(&'static str),
}

impl Preemption {
    /// A driver calls a kernel function. Its thread holds nothing of the harness's.
    #[inline]
    pub(crate) fn called(&self, name: &'static str) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.armed.load(Ordering::Relaxed) {
            self.meet(number, name);
        }
    }

    #[cold]
    fn meet(&self, number: u64, name: &'static str) {
        let mut state = self.state.lock();
        if !matches!(*state, State::Armed(chosen) if chosen <= number) {
            return;
        }
        *state = State::Off(name);
        self.changed.notify_all();
        self.changed.wait_while_for(&mut state, |state| matches!(state, State::Off(_)), ABSENCE);
        self.armed.store(false, Ordering::Relaxed);
        *state = State::Idle;
    }

    /// Chooses the call after `n` more.
    pub(crate) fn arm(&self, n: u64) {
        *self.state.lock() = State::Armed(self.calls() + n);
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Chooses none.
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
        *self.state.lock() = State::Idle;
        self.changed.notify_all();
    }

    /// Waits until a thread is off the processor: the call that it is in.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<&'static str> {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| matches!(state, State::Armed(_)), timeout);
        match *state {
            State::Off(name) => Some(name),
            State::Idle | State::Armed(_) => None,
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}
