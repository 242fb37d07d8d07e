//! A signal that several requests raise, and that several threads wait for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Counts how often something has happened. Who waits reads the count, looks whether there is something to do, and then waits for
/// the count to pass what was read: nothing that happens in between is missed.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it was raised.
    pub(crate) fn count(&self) -> u64 {
        *self.lock()
    }

    /// Wakes everybody who waits. It takes no other lock, so that completions may raise it.
    pub(crate) fn raise(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits until it was raised more often than `seen` times, or until `deadline`. Whether it was.
    pub(crate) fn wait_past(&self, seen: u64, deadline: Option<Instant>) -> bool {
        let mut raised = self.lock();
        while *raised <= seen {
            raised = match deadline {
                None => self.changed.wait(raised).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                    else {
                        return false;
                    };
                    self.changed.wait_timeout(raised, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_happens_between_looking_and_waiting_is_not_missed() {
        let signal = Signal::default();
        let seen = signal.count();
        signal.raise();
        assert!(signal.wait_past(seen, None));
        assert!(!signal.wait_past(signal.count(), Some(Instant::now())));
    }

    #[test]
    fn all_who_wait_are_woken() {
        let signal = Signal::default();
        let deadline = Some(Instant::now() + Duration::from_secs(30));
        std::thread::scope(|scope| {
            let waiting = [0; 3].map(|_| scope.spawn(|| signal.wait_past(0, deadline)));
            signal.raise();
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        });
    }
}
