//! Push locks: shared by many or held by one, one pointer wide.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::irql::called;
use super::lock_order::{LockKind, acquired, released, wanted};
use super::types::{APC_LEVEL, DISPATCH_LEVEL};
use crate::guard::{escape, violate};
use crate::image::Export;
use crate::simulation::Condvar;
use crate::thread::Current;
use crate::violation::Rule;

/// An EX_PUSH_LOCK: 0, [`EXCLUSIVE`], or so many times [`SHARED`].
pub(crate) type EX_PUSH_LOCK = AtomicUsize;

const EXCLUSIVE: usize = 1;
const SHARED: usize = 0x10;

/// Where the push locks of a machine are waited for.
#[derive(Default)]
struct Waiters {
    mutex: Mutex<()>,
    changed: Condvar,
}

/// Takes the lock as `take` changes its value, when that can.
fn acquire(call: &'static str, lock: &EX_PUSH_LOCK, take: fn(usize) -> Option<usize>) {
    let current = called(call, APC_LEVEL);
    if current.irql.get() != APC_LEVEL && current.critical_regions.get() == 0 {
        violate(Rule::Lock, format!("{call} with normal kernel APCs enabled"));
    }
    let address = ptr::from_ref(lock) as usize;
    wanted(current, address);
    let waiters = current.kernel.extension::<Waiters>();
    let mut guard = waiters.mutex.lock();
    while lock.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_err() {
        if current.kernel.is_stopped() {
            drop(guard);
            escape();
        }
        waiters.changed.wait_for(&mut guard, Duration::from_millis(50));
    }
    drop(guard);
    acquired(current, address, LockKind::Mutex);
}

fn release(current: &Current, call: &str, lock: &EX_PUSH_LOCK, give: fn(usize) -> Option<usize>) {
    let waiters = current.kernel.extension::<Waiters>();
    let given = {
        let _guard = waiters.mutex.lock();
        waiters.changed.notify_all();
        lock.fetch_update(Ordering::AcqRel, Ordering::Acquire, give).is_ok()
    };
    let own = released(current, ptr::from_ref(lock) as usize).is_some();
    if !given || !own {
        violate(Rule::Lock, format!("{call}: the thread does not hold this push lock so"));
    }
}

pub(crate) extern "win64" fn ExInitializePushLock(lock: &EX_PUSH_LOCK) {
    called("ExInitializePushLock", DISPATCH_LEVEL);
    lock.store(0, Ordering::Release);
}

pub(crate) extern "win64" fn ExAcquirePushLockExclusiveEx(lock: &EX_PUSH_LOCK, _flags: u32) {
    acquire("ExAcquirePushLockExclusiveEx", lock, |value| (value == 0).then_some(EXCLUSIVE));
}

pub(crate) extern "win64" fn ExAcquirePushLockSharedEx(lock: &EX_PUSH_LOCK, _flags: u32) {
    acquire("ExAcquirePushLockSharedEx", lock, |value| (value & EXCLUSIVE == 0).then(|| value + SHARED));
}

pub(crate) extern "win64" fn ExReleasePushLockExclusiveEx(lock: &EX_PUSH_LOCK, _flags: u32) {
    let call = "ExReleasePushLockExclusiveEx";
    release(called(call, APC_LEVEL), call, lock, |value| (value == EXCLUSIVE).then_some(0));
}

pub(crate) extern "win64" fn ExReleasePushLockSharedEx(lock: &EX_PUSH_LOCK, _flags: u32) {
    let call = "ExReleasePushLockSharedEx";
    release(called(call, APC_LEVEL), call, lock, |value| value.checked_sub(SHARED));
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    ExInitializePushLock,
    ExAcquirePushLockExclusiveEx,
    ExAcquirePushLockSharedEx,
    ExReleasePushLockExclusiveEx,
    ExReleasePushLockSharedEx,
];
