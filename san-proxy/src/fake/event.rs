//! Events of the device for tests.

use crate::device::Event;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

pub(crate) struct FakeEvent {
    handle: u64,
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl FakeEvent {
    pub(crate) fn new(handle: u64) -> Self {
        Self { handle, is_set: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn set(&self) {
        *self.is_set.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl Event for FakeEvent {
    fn handle(&self) -> u64 {
        self.handle
    }

    fn wait(&self, timeout: Duration) -> bool {
        let is_set = self.is_set.lock().unwrap();
        *self.changed.wait_timeout_while(is_set, timeout, |is_set| !*is_set).unwrap().0
    }

    fn reset(&self) {
        *self.is_set.lock().unwrap() = false;
    }

    fn is_set(&self) -> bool {
        *self.is_set.lock().unwrap()
    }
}
