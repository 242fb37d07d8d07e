//! EX_SPIN_LOCK: spin locks that many threads share, or one has alone.

use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use super::dpc;
use super::irql::{called, called_from};
use super::lock_order::{LockKind, acquired, check_duration, released, wanted};
use super::types::{DISPATCH_LEVEL, HIGH_LEVEL, KIRQL};
use crate::guard::{escape, violate};
use crate::image::Export;
use crate::simulation;
use crate::thread::Current;
use crate::violation::Rule;

/// The lock's value while one thread has it alone; else the number of those that share it.
const EXCLUSIVE: i32 = i32::MIN;
/// How long a lock may be held against a waiter.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
}

fn is_held(current: &Current, lock: &AtomicI32) -> bool {
    let address = ptr::from_ref(lock) as usize;
    current.locks.borrow().iter().any(|held| held.address == address)
}

fn try_take(lock: &AtomicI32, mode: Mode) -> bool {
    let next = |value: i32| match mode {
        Mode::Shared => (value >= 0).then_some(value + 1),
        Mode::Exclusive => (value == 0).then_some(EXCLUSIVE),
    };
    lock.fetch_update(Ordering::Acquire, Ordering::Relaxed, next).is_ok()
}

fn acquire(current: &Current, lock: &AtomicI32, mode: Mode) {
    let call = current.call.get();
    if is_held(current, lock) {
        violate(Rule::SpinLock, format!("{call}: the thread holds this spin lock already"));
    }
    wanted(current, ptr::from_ref(lock) as usize);
    let since = Instant::now();
    while !try_take(lock, mode) {
        if current.kernel.is_stopped() {
            escape();
        }
        if since.elapsed() > PATIENCE {
            violate(Rule::Hang, format!("{call}: the spin lock has been held for {PATIENCE:?}"));
        }
        simulation::pause();
    }
    acquired(current, ptr::from_ref(lock) as usize, LockKind::Spin);
}

fn release(current: &Current, lock: &AtomicI32, mode: Mode) {
    let call = current.call.get();
    let is_exclusive = lock.load(Ordering::Acquire) == EXCLUSIVE;
    let held = released(current, ptr::from_ref(lock) as usize).filter(|_| is_exclusive == (mode == Mode::Exclusive));
    let Some(held) = held else {
        violate(Rule::SpinLock, format!("{call}: the thread does not hold this spin lock in this way"))
    };
    match mode {
        Mode::Shared => drop(lock.fetch_sub(1, Ordering::AcqRel)),
        Mode::Exclusive => lock.store(0, Ordering::Release),
    }
    check_duration(current, &held);
}

fn raise_and_acquire(call: &'static str, lock: &AtomicI32, mode: Mode) -> KIRQL {
    let current = called(call, DISPATCH_LEVEL);
    let old = current.irql.replace(DISPATCH_LEVEL);
    acquire(current, lock, mode);
    old
}

fn release_and_lower(call: &'static str, lock: &AtomicI32, mode: Mode, old: KIRQL) {
    let current = called_from(call, DISPATCH_LEVEL, DISPATCH_LEVEL);
    release(current, lock, mode);
    if old < DISPATCH_LEVEL && current.spin_locks() != 0 {
        violate(Rule::SpinLock, format!("{call} to IRQL {old} while another spin lock is held"));
    }
    current.irql.set(old);
    dpc::retire(current);
}

pub(crate) extern "win64" fn ExAcquireSpinLockShared(lock: &AtomicI32) -> KIRQL {
    raise_and_acquire("ExAcquireSpinLockShared", lock, Mode::Shared)
}

pub(crate) extern "win64" fn ExAcquireSpinLockExclusive(lock: &AtomicI32) -> KIRQL {
    raise_and_acquire("ExAcquireSpinLockExclusive", lock, Mode::Exclusive)
}

pub(crate) extern "win64" fn ExReleaseSpinLockShared(lock: &AtomicI32, old: KIRQL) {
    release_and_lower("ExReleaseSpinLockShared", lock, Mode::Shared, old);
}

pub(crate) extern "win64" fn ExReleaseSpinLockExclusive(lock: &AtomicI32, old: KIRQL) {
    release_and_lower("ExReleaseSpinLockExclusive", lock, Mode::Exclusive, old);
}

pub(crate) extern "win64" fn ExAcquireSpinLockSharedAtDpcLevel(lock: &AtomicI32) {
    acquire(called_from("ExAcquireSpinLockSharedAtDpcLevel", DISPATCH_LEVEL, HIGH_LEVEL), lock, Mode::Shared);
}

pub(crate) extern "win64" fn ExAcquireSpinLockExclusiveAtDpcLevel(lock: &AtomicI32) {
    acquire(called_from("ExAcquireSpinLockExclusiveAtDpcLevel", DISPATCH_LEVEL, HIGH_LEVEL), lock, Mode::Exclusive);
}

pub(crate) extern "win64" fn ExReleaseSpinLockSharedFromDpcLevel(lock: &AtomicI32) {
    release(called_from("ExReleaseSpinLockSharedFromDpcLevel", DISPATCH_LEVEL, HIGH_LEVEL), lock, Mode::Shared);
}

pub(crate) extern "win64" fn ExReleaseSpinLockExclusiveFromDpcLevel(lock: &AtomicI32) {
    release(called_from("ExReleaseSpinLockExclusiveFromDpcLevel", DISPATCH_LEVEL, HIGH_LEVEL), lock, Mode::Exclusive);
}

pub(crate) extern "win64" fn ExTryConvertSharedSpinLockExclusive(lock: &AtomicI32) -> u32 {
    let current = called_from("ExTryConvertSharedSpinLockExclusive", DISPATCH_LEVEL, HIGH_LEVEL);
    if !is_held(current, lock) {
        violate(Rule::SpinLock, "ExTryConvertSharedSpinLockExclusive: the thread does not hold this spin lock");
    }
    u32::from(lock.compare_exchange(1, EXCLUSIVE, Ordering::AcqRel, Ordering::Relaxed).is_ok())
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    ExAcquireSpinLockShared,
    ExAcquireSpinLockExclusive,
    ExReleaseSpinLockShared,
    ExReleaseSpinLockExclusive,
    ExAcquireSpinLockSharedAtDpcLevel,
    ExAcquireSpinLockExclusiveAtDpcLevel,
    ExReleaseSpinLockSharedFromDpcLevel,
    ExReleaseSpinLockExclusiveFromDpcLevel,
    ExTryConvertSharedSpinLockExclusive,
];
