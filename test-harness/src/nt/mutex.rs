//! Fast mutexes, guarded mutexes, and rundown protection.
#![allow(unsafe_code)] // a rundown reference holds the address of its waiter's block

use std::sync::atomic::{AtomicUsize, Ordering};

use super::dispatcher::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject, initialize_header};
use super::irql::{called, called_from};
use super::lock_order::{LockKind, acquired, released, wanted};
use super::types::{
    APC_LEVEL, DISPATCH_LEVEL, EVENT_SYNCHRONIZATION_OBJECT, EX_RUNDOWN_REF, FAST_MUTEX, KEVENT, PASSIVE_LEVEL, PVOID,
    Zeroed,
};
use crate::guard::violate;
use crate::image::Export;
use crate::thread::{Current, current};
use crate::violation::Rule;

/// SynchronizationEvent of EVENT_TYPE.
const SYNCHRONIZATION_EVENT: u32 = 1;

pub(crate) extern "win64" fn ExInitializeFastMutex(mutex: &FAST_MUTEX) {
    called("ExInitializeFastMutex", DISPATCH_LEVEL);
    mutex.Count.store(1, Ordering::Release);
    mutex.Owner.store(0, Ordering::Release);
    mutex.Contention.set(0);
    KeInitializeEvent(&mutex.Event, SYNCHRONIZATION_EVENT, 0);
}

fn acquire(current: &Current, mutex: &FAST_MUTEX, call: &'static str) {
    if mutex.Owner.load(Ordering::Acquire) == current.thread.id {
        violate(Rule::Lock, format!("{call}: the thread owns this mutex already"));
    }
    let address = std::ptr::from_ref(mutex) as usize;
    wanted(current, address);
    if mutex.Count.fetch_sub(1, Ordering::AcqRel) != 1 {
        mutex.Contention.set(mutex.Contention.get().wrapping_add(1));
        KeWaitForSingleObject(&mutex.Event.Header, 0, 0, 0, None);
    }
    mutex.Owner.store(current.thread.id, Ordering::Release);
    acquired(current, address, LockKind::Mutex);
}

fn release(current: &Current, mutex: &FAST_MUTEX, call: &'static str) {
    if mutex.Owner.swap(0, Ordering::AcqRel) != current.thread.id {
        violate(Rule::Lock, format!("{call}: the thread does not own this mutex"));
    }
    released(current, std::ptr::from_ref(mutex) as usize);
    if mutex.Count.fetch_add(1, Ordering::AcqRel) < 0 {
        KeSetEvent(&mutex.Event, 0, 0);
    }
}

pub(crate) extern "win64" fn ExAcquireFastMutex(mutex: &FAST_MUTEX) {
    let current = called("ExAcquireFastMutex", APC_LEVEL);
    let old = current.irql.replace(APC_LEVEL);
    acquire(current, mutex, "ExAcquireFastMutex");
    mutex.OldIrql.set(old.into());
}

pub(crate) extern "win64" fn ExReleaseFastMutex(mutex: &FAST_MUTEX) {
    let current = called_from("ExReleaseFastMutex", APC_LEVEL, APC_LEVEL);
    let old = mutex.OldIrql.get();
    release(current, mutex, "ExReleaseFastMutex");
    current.irql.set(u8::try_from(old).unwrap_or(APC_LEVEL));
}

pub(crate) extern "win64" fn ExTryToAcquireFastMutex(mutex: &FAST_MUTEX) -> u8 {
    let current = called("ExTryToAcquireFastMutex", APC_LEVEL);
    if mutex.Count.compare_exchange(1, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return 0;
    }
    mutex.OldIrql.set(current.irql.replace(APC_LEVEL).into());
    mutex.Owner.store(current.thread.id, Ordering::Release);
    acquired(current, std::ptr::from_ref(mutex) as usize, LockKind::Mutex);
    1
}

pub(crate) extern "win64" fn ExAcquireFastMutexUnsafe(mutex: &FAST_MUTEX) {
    let current = called("ExAcquireFastMutexUnsafe", APC_LEVEL);
    if current.irql.get() != APC_LEVEL && current.critical_regions.get() == 0 {
        violate(Rule::Lock, "ExAcquireFastMutexUnsafe below APC_LEVEL and outside a critical region");
    }
    acquire(current, mutex, "ExAcquireFastMutexUnsafe");
}

pub(crate) extern "win64" fn ExReleaseFastMutexUnsafe(mutex: &FAST_MUTEX) {
    release(called("ExReleaseFastMutexUnsafe", APC_LEVEL), mutex, "ExReleaseFastMutexUnsafe");
}

pub(crate) extern "win64" fn KeInitializeGuardedMutex(mutex: &FAST_MUTEX) {
    called("KeInitializeGuardedMutex", APC_LEVEL);
    ExInitializeFastMutex(mutex);
}

pub(crate) extern "win64" fn KeAcquireGuardedMutex(mutex: &FAST_MUTEX) {
    called("KeAcquireGuardedMutex", APC_LEVEL);
    ExAcquireFastMutex(mutex);
}

pub(crate) extern "win64" fn KeReleaseGuardedMutex(mutex: &FAST_MUTEX) {
    called("KeReleaseGuardedMutex", APC_LEVEL);
    ExReleaseFastMutex(mutex);
}

pub(crate) extern "win64" fn KeTryToAcquireGuardedMutex(mutex: &FAST_MUTEX) -> u8 {
    called("KeTryToAcquireGuardedMutex", APC_LEVEL);
    ExTryToAcquireFastMutex(mutex)
}

/// Set once rundown has begun; the rest of the count is then the address of the waiter's block.
const RUNNING_DOWN: usize = 1;
/// One reference.
const REFERENCE: usize = 2;

/// What the references that remain are counted in while their end is waited for.
struct Waiter {
    remaining: AtomicUsize,
    done: KEVENT,
}

pub(crate) extern "win64" fn ExInitializeRundownProtection(rundown: &EX_RUNDOWN_REF) {
    called("ExInitializeRundownProtection", APC_LEVEL);
    rundown.Count.store(0, Ordering::Release);
}

pub(crate) extern "win64" fn ExReInitializeRundownProtection(rundown: &EX_RUNDOWN_REF) {
    called("ExReInitializeRundownProtection", APC_LEVEL);
    rundown.Count.store(0, Ordering::Release);
}

pub(crate) extern "win64" fn ExAcquireRundownProtection(rundown: &EX_RUNDOWN_REF) -> u8 {
    called("ExAcquireRundownProtection", DISPATCH_LEVEL);
    let free = |count: usize| (count & RUNNING_DOWN == 0).then_some(count + REFERENCE);
    u8::from(rundown.Count.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).is_ok())
}

pub(crate) extern "win64" fn ExReleaseRundownProtection(rundown: &EX_RUNDOWN_REF) {
    called("ExReleaseRundownProtection", DISPATCH_LEVEL);
    let held = |count: usize| (count & RUNNING_DOWN == 0 && count >= REFERENCE).then(|| count - REFERENCE);
    let Err(count) = rundown.Count.fetch_update(Ordering::AcqRel, Ordering::Acquire, held) else { return };
    let waiter = (count & !RUNNING_DOWN) as *const Waiter;
    if waiter.is_null() {
        violate(Rule::Lock, "ExReleaseRundownProtection without a reference");
    }
    // SAFETY: the waiter stays in its call until the last reference, one of which is ours, has signaled it.
    let waiter = unsafe { &*waiter };
    if waiter.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
        KeSetEvent(&waiter.done, 0, 0);
    }
}

pub(crate) extern "win64" fn ExWaitForRundownProtectionRelease(rundown: &EX_RUNDOWN_REF) {
    called("ExWaitForRundownProtectionRelease", APC_LEVEL);
    let waiter = Waiter { remaining: AtomicUsize::new(0), done: KEVENT::zeroed() };
    initialize_header(&waiter.done.Header, EVENT_SYNCHRONIZATION_OBJECT, size_of::<KEVENT>(), 0);
    let address = &raw const waiter as usize;
    loop {
        let count = rundown.Count.load(Ordering::Acquire);
        if count & RUNNING_DOWN != 0 {
            return;
        }
        let references = count / REFERENCE;
        waiter.remaining.store(references, Ordering::Release);
        let begun = if references == 0 { RUNNING_DOWN } else { address | RUNNING_DOWN };
        if rundown.Count.compare_exchange(count, begun, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            if references != 0 {
                KeWaitForSingleObject(&waiter.done.Header, 0, 0, 0, None);
                rundown.Count.store(RUNNING_DOWN, Ordering::Release);
            }
            return;
        }
    }
}

pub(crate) extern "win64" fn ExRundownCompleted(rundown: &EX_RUNDOWN_REF) {
    called("ExRundownCompleted", APC_LEVEL);
    rundown.Count.store(RUNNING_DOWN, Ordering::Release);
}

/// A remove lock's opaque insides begin with these; drivers reserve an IO_REMOVE_LOCK (IoInitializeRemoveLockEx).
#[repr(C)]
pub(crate) struct IO_REMOVE_LOCK {
    removed: AtomicUsize,
    rundown: EX_RUNDOWN_REF,
}

pub(crate) extern "win64" fn IoInitializeRemoveLockEx(
    lock: &IO_REMOVE_LOCK,
    _tag: u32,
    _minutes: u32,
    _high: u32,
    size: u32,
) {
    called("IoInitializeRemoveLockEx", PASSIVE_LEVEL);
    if (size as usize) < size_of::<IO_REMOVE_LOCK>() {
        violate(Rule::Lock, format!("IoInitializeRemoveLockEx with a size of {size}"));
    }
    lock.removed.store(0, Ordering::Release);
    lock.rundown.Count.store(0, Ordering::Release);
}

pub(crate) extern "win64" fn IoAcquireRemoveLockEx(
    lock: &IO_REMOVE_LOCK,
    _tag: PVOID,
    _file: PVOID,
    _line: u32,
    _size: u32,
) -> i32 {
    called("IoAcquireRemoveLockEx", DISPATCH_LEVEL);
    if ExAcquireRundownProtection(&lock.rundown) != 0 { 0 } else { super::status::STATUS_DELETE_PENDING }
}

pub(crate) extern "win64" fn IoReleaseRemoveLockEx(lock: &IO_REMOVE_LOCK, _tag: PVOID, _size: u32) {
    called("IoReleaseRemoveLockEx", DISPATCH_LEVEL);
    ExReleaseRundownProtection(&lock.rundown);
}

pub(crate) extern "win64" fn IoReleaseRemoveLockAndWaitEx(lock: &IO_REMOVE_LOCK, _tag: PVOID, _size: u32) {
    called("IoReleaseRemoveLockAndWaitEx", PASSIVE_LEVEL);
    ExReleaseRundownProtection(&lock.rundown);
    ExWaitForRundownProtectionRelease(&lock.rundown);
    lock.removed.store(current().thread.id, Ordering::Release);
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeTryToAcquireGuardedMutex,
    ExInitializeFastMutex,
    ExAcquireFastMutex,
    ExReleaseFastMutex,
    ExTryToAcquireFastMutex,
    ExAcquireFastMutexUnsafe,
    ExReleaseFastMutexUnsafe,
    KeInitializeGuardedMutex,
    KeAcquireGuardedMutex,
    KeReleaseGuardedMutex,
    ExInitializeRundownProtection,
    ExReInitializeRundownProtection,
    ExAcquireRundownProtection,
    ExReleaseRundownProtection,
    ExWaitForRundownProtectionRelease,
    ExRundownCompleted,
    IoInitializeRemoveLockEx,
    IoAcquireRemoveLockEx,
    IoReleaseRemoveLockEx,
    IoReleaseRemoveLockAndWaitEx,
];
