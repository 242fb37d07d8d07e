//! Requests that wait, and those whose wait is over.

use super::Reply;
use crate::NoMemory;
use alloc::collections::VecDeque;
use san_protocol::NtStatus;

/// Counts the requests that are inside, and holds those that are to be completed. Room to complete a request is taken when
/// it is admitted, so that completing never allocates.
#[derive(Debug)]
pub(super) struct Waiters<W> {
    inside: usize,
    done: VecDeque<(W, Result<Reply, NtStatus>)>,
}

impl<W> Waiters<W> {
    pub(super) const fn new() -> Self {
        Self { inside: 0, done: VecDeque::new() }
    }

    pub(super) fn admit(&mut self) -> Result<(), NoMemory> {
        let room = (self.inside + 1).saturating_sub(self.done.len());
        self.done.try_reserve(room).map_err(|_| NoMemory)?;
        self.inside += 1;
        Ok(())
    }

    pub(super) fn complete(&mut self, waiter: W, result: Result<Reply, NtStatus>) {
        self.done.push_back((waiter, result));
    }

    /// One leaves that is completed elsewhere.
    pub(super) fn leave(&mut self) {
        self.inside = self.inside.saturating_sub(1);
    }

    pub(super) fn next_done(&mut self) -> Option<(W, Result<Reply, NtStatus>)> {
        let done = self.done.pop_front()?;
        self.leave();
        Some(done)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.inside == 0
    }
}
