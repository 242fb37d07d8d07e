//! Spin locks: real ones, which several threads contend for, and which know their owner.

use std::ptr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::dpc;
use super::irql::{called, called_from};
use super::lock_order::{LockKind, acquired, check_duration, released, wanted};
use super::types::{DISPATCH_LEVEL, HIGH_LEVEL, KIRQL, KLOCK_QUEUE_HANDLE, KSPIN_LOCK};
use crate::guard::{escape, violate};
use crate::image::Export;
use crate::simulation;
use crate::thread::Current;
use crate::violation::Rule;

/// How long a spin lock may be held against a waiter.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes the lock; the IRQL is the caller's business.
pub(super) fn acquire(current: &Current, lock: &KSPIN_LOCK) {
    acquire_as(current, lock, LockKind::Spin);
}

fn acquire_as(current: &Current, lock: &KSPIN_LOCK, kind: LockKind) {
    let me = current.thread.id;
    if lock.load(Ordering::Relaxed) != me {
        wanted(current, ptr::from_ref(lock) as usize);
    }
    let mut spins = 0_u32;
    let mut since = None;
    while let Err(owner) = lock.compare_exchange_weak(0, me, Ordering::Acquire, Ordering::Relaxed) {
        if owner == me {
            violate(Rule::SpinLock, format!("{}: the thread holds this spin lock already", current.call.get()));
        }
        spins += 1;
        if spins < 64 {
            std::hint::spin_loop();
            continue;
        }
        spins = 0;
        if current.kernel.is_stopped() {
            escape();
        }
        if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            violate(
                Rule::Hang,
                format!("{}: the spin lock's value has been {owner:#x} for {PATIENCE:?}", current.call.get()),
            );
        }
        simulation::pause();
    }
    acquired(current, ptr::from_ref(lock) as usize, kind);
}

/// Gives the lock back.
pub(super) fn release(current: &Current, lock: &KSPIN_LOCK) {
    let call = current.call.get();
    let address = ptr::from_ref(lock) as usize;
    let Some(held) = released(current, address) else {
        violate(Rule::SpinLock, format!("{call}: the thread does not hold this spin lock"))
    };
    lock.store(0, Ordering::Release);
    check_duration(current, &held);
}

pub(crate) extern "win64" fn KeInitializeSpinLock(lock: &KSPIN_LOCK) {
    called("KeInitializeSpinLock", HIGH_LEVEL);
    lock.store(0, Ordering::Release);
}

pub(crate) extern "win64" fn KeAcquireSpinLockRaiseToDpc(lock: &KSPIN_LOCK) -> KIRQL {
    let current = called("KeAcquireSpinLockRaiseToDpc", DISPATCH_LEVEL);
    let old = current.irql.replace(DISPATCH_LEVEL);
    acquire(current, lock);
    old
}

/// What KeAcquireSpinLockRaiseToDpc does, for a lock of the framework's own.
pub(crate) fn raise_and_acquire(lock: &KSPIN_LOCK, kind: LockKind) -> KIRQL {
    let current = called("KeAcquireSpinLockRaiseToDpc", DISPATCH_LEVEL);
    let old = current.irql.replace(DISPATCH_LEVEL);
    acquire_as(current, lock, kind);
    old
}

pub(crate) extern "win64" fn KeReleaseSpinLock(lock: &KSPIN_LOCK, new: KIRQL) {
    let current = called_from("KeReleaseSpinLock", DISPATCH_LEVEL, DISPATCH_LEVEL);
    release_to(current, lock, new);
}

fn release_to(current: &Current, lock: &KSPIN_LOCK, new: KIRQL) {
    if new > DISPATCH_LEVEL {
        violate(Rule::Irql, format!("{} to IRQL {new}", current.call.get()));
    }
    release(current, lock);
    if new < DISPATCH_LEVEL && current.spin_locks() != 0 {
        violate(Rule::SpinLock, format!("{} to IRQL {new} while another spin lock is held", current.call.get()));
    }
    current.irql.set(new);
    dpc::retire(current);
}

pub(crate) extern "win64" fn KeAcquireSpinLockAtDpcLevel(lock: &KSPIN_LOCK) {
    acquire(called_from("KeAcquireSpinLockAtDpcLevel", DISPATCH_LEVEL, HIGH_LEVEL), lock);
}

pub(crate) extern "win64" fn KeReleaseSpinLockFromDpcLevel(lock: &KSPIN_LOCK) {
    release(called_from("KeReleaseSpinLockFromDpcLevel", DISPATCH_LEVEL, HIGH_LEVEL), lock);
}

pub(crate) extern "win64" fn KeTryToAcquireSpinLockAtDpcLevel(lock: &KSPIN_LOCK) -> u8 {
    let current = called_from("KeTryToAcquireSpinLockAtDpcLevel", DISPATCH_LEVEL, HIGH_LEVEL);
    let free = lock.compare_exchange(0, current.thread.id, Ordering::Acquire, Ordering::Relaxed).is_ok();
    if free {
        acquired(current, ptr::from_ref(lock) as usize, LockKind::Spin);
    }
    u8::from(free)
}

pub(crate) extern "win64" fn KeAcquireInStackQueuedSpinLock(lock: &KSPIN_LOCK, handle: &KLOCK_QUEUE_HANDLE) {
    let current = called("KeAcquireInStackQueuedSpinLock", DISPATCH_LEVEL);
    handle.OldIrql.set(current.irql.replace(DISPATCH_LEVEL));
    handle.LockQueue.Lock.set(ptr::from_ref(lock));
    acquire(current, lock);
}

pub(crate) extern "win64" fn KeReleaseInStackQueuedSpinLock(handle: &KLOCK_QUEUE_HANDLE) {
    let current = called_from("KeReleaseInStackQueuedSpinLock", DISPATCH_LEVEL, DISPATCH_LEVEL);
    release_to(current, queued(handle), handle.OldIrql.get());
}

pub(crate) extern "win64" fn KeAcquireInStackQueuedSpinLockAtDpcLevel(lock: &KSPIN_LOCK, handle: &KLOCK_QUEUE_HANDLE) {
    let current = called_from("KeAcquireInStackQueuedSpinLockAtDpcLevel", DISPATCH_LEVEL, HIGH_LEVEL);
    handle.OldIrql.set(current.irql.get());
    handle.LockQueue.Lock.set(ptr::from_ref(lock));
    acquire(current, lock);
}

pub(crate) extern "win64" fn KeReleaseInStackQueuedSpinLockFromDpcLevel(handle: &KLOCK_QUEUE_HANDLE) {
    let current = called_from("KeReleaseInStackQueuedSpinLockFromDpcLevel", DISPATCH_LEVEL, HIGH_LEVEL);
    release(current, queued(handle));
}

#[allow(unsafe_code)] // the lock's address lies in the handle
fn queued(handle: &KLOCK_QUEUE_HANDLE) -> &KSPIN_LOCK {
    // SAFETY: the acquiring call stored its lock's address, and a lock that is held is not freed.
    unsafe { &*handle.LockQueue.Lock.get() }
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeInitializeSpinLock,
    KeAcquireSpinLockRaiseToDpc,
    KeReleaseSpinLock,
    KeAcquireSpinLockAtDpcLevel,
    KeReleaseSpinLockFromDpcLevel,
    KeTryToAcquireSpinLockAtDpcLevel,
    KeAcquireInStackQueuedSpinLock,
    KeReleaseInStackQueuedSpinLock,
    KeAcquireInStackQueuedSpinLockAtDpcLevel,
    KeReleaseInStackQueuedSpinLockFromDpcLevel,
];
