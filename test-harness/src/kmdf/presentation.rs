//! Presentation locks: what the framework holds while it calls a driver that has asked for one callback at a time
//! (WDF_SYNCHRONIZATION_SCOPE), and what WdfObjectAcquireLock takes.
#![allow(unsafe_code)] // the kernel's lock objects are cells, and a DPC's context is an address

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use super::object::{self, Kind, Object};
use super::types::{
    HANDLE, WdfSynchronizationScopeDevice, WdfSynchronizationScopeInheritFromParent, WdfSynchronizationScopeQueue,
};
use crate::guard::{callout, violate};
use crate::nt::dpc::{KeInitializeDpc, KeInsertQueueDpc};
use crate::nt::irql::{KeEnterCriticalRegion, KeLeaveCriticalRegion, called};
use crate::nt::lock_order::LockKind;
use crate::nt::mutex::{ExAcquireFastMutexUnsafe, ExInitializeFastMutex, ExReleaseFastMutexUnsafe};
use crate::nt::spin_lock::{KeReleaseSpinLock, raise_and_acquire};
use crate::nt::status::{STATUS_INVALID_DEVICE_REQUEST, STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL};
use crate::nt::types::{DISPATCH_LEVEL, FAST_MUTEX, KDPC, KSPIN_LOCK, NTSTATUS, PASSIVE_LEVEL, PVOID, Zeroed};
use crate::thread::current;
use crate::violation::Rule;

/// Whose callbacks are made one at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    None,
    /// Those of the device, its files and all its queues.
    Device,
    /// Those of each queue.
    Queue,
}

impl Scope {
    /// WDF_SYNCHRONIZATION_SCOPE of an object's attributes; `parent` is what its parent has.
    pub(super) fn of(value: u32, parent: Scope) -> Self {
        match value {
            WdfSynchronizationScopeInheritFromParent => parent,
            WdfSynchronizationScopeDevice => Self::Device,
            WdfSynchronizationScopeQueue => Self::Queue,
            _ => Self::None,
        }
    }
}

enum Lock {
    /// Callbacks are made at DISPATCH_LEVEL.
    Spin(Box<KSPIN_LOCK>),
    /// Callbacks are made at PASSIVE_LEVEL, in a critical region.
    Mutex(Box<FAST_MUTEX>),
}

/// The lock of a device or of a queue. Its owner may take it again: the framework does, a driver must not.
pub(crate) struct PresentationLock {
    lock: Lock,
    owner: AtomicUsize,
    depth: AtomicU32,
    old_irql: AtomicU8,
}

// SAFETY: a kernel's lock is its own synchronization; the rest is the owner's.
unsafe impl Send for PresentationLock {}
// SAFETY: as above.
unsafe impl Sync for PresentationLock {}

impl PresentationLock {
    pub(super) fn new(passive: bool) -> Self {
        let lock = if passive {
            let mutex = Box::new(FAST_MUTEX::zeroed());
            ExInitializeFastMutex(&mutex);
            Lock::Mutex(mutex)
        } else {
            Lock::Spin(Box::new(KSPIN_LOCK::new(0)))
        };
        Self { lock, owner: AtomicUsize::new(0), depth: AtomicU32::new(0), old_irql: AtomicU8::new(0) }
    }

    /// Whether the calling thread holds it.
    pub(super) fn is_own(&self) -> bool {
        self.owner.load(Ordering::Acquire) == current().thread.id
    }

    fn acquire(&self) {
        if !self.is_own() {
            match &self.lock {
                Lock::Spin(lock) => {
                    let old = raise_and_acquire(lock, LockKind::Presentation);
                    self.old_irql.store(old, Ordering::Relaxed);
                }
                Lock::Mutex(mutex) => {
                    KeEnterCriticalRegion();
                    ExAcquireFastMutexUnsafe(mutex);
                }
            }
            self.owner.store(current().thread.id, Ordering::Release);
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
    }

    fn release(&self) {
        if self.depth.fetch_sub(1, Ordering::Relaxed) != 1 {
            return;
        }
        self.owner.store(0, Ordering::Release);
        match &self.lock {
            Lock::Spin(lock) => KeReleaseSpinLock(lock, self.old_irql.load(Ordering::Relaxed)),
            Lock::Mutex(mutex) => {
                ExReleaseFastMutexUnsafe(mutex);
                KeLeaveCriticalRegion();
            }
        }
    }
}

impl Object {
    /// The lock that callbacks of this object are made under, if they are made one at a time.
    pub(super) fn serialization(&self) -> Option<&PresentationLock> {
        let serialized = match (&self.kind, self.scope) {
            (_, Scope::None) | (Kind::Device(_), Scope::Queue) => false,
            (_, Scope::Device | Scope::Queue) => true,
        };
        self.presentation.as_deref().filter(|_| serialized)
    }

    /// Calls the driver, one callback at a time if it wants that.
    pub(super) fn callback<R>(&self, routine: &'static str, body: impl FnOnce() -> R) -> R {
        under(self.serialization(), routine, body)
    }

    /// Whether a callback has to wait: the thread is in one that this one must not meet, or its IRQL is too high.
    pub(super) fn must_defer(&self) -> bool {
        self.passive && current().irql.get() > PASSIVE_LEVEL
            || self.serialization().is_some_and(PresentationLock::is_own)
    }
}

type Work = Box<dyn FnOnce(&Arc<Object>) + Send>;

struct Deferred {
    dpc: KDPC,
    object: Arc<Object>,
    work: Work,
}

/// Does what [`Object::must_defer`] puts off: on a worker if the object's callbacks are made at PASSIVE_LEVEL, in a DPC else, as
/// soon as the thread has given the lock back.
pub(super) fn defer(object: &Arc<Object>, work: impl FnOnce(&Arc<Object>) + Send + 'static) {
    let object = object.clone();
    object.reference();
    if object.passive {
        let kernel = &current().kernel;
        kernel.workers.queue(kernel, move || {
            work(&object);
            object.dereference();
        });
        return;
    }
    let deferred = Box::into_raw(Box::new(Deferred { dpc: KDPC::zeroed(), object, work: Box::new(work) }));
    // SAFETY: just made; the DPC, which runs once, frees it.
    let dpc = unsafe { &(*deferred).dpc };
    KeInitializeDpc(dpc, run_deferred, deferred.cast());
    KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut());
}

extern "win64" fn run_deferred(_dpc: *mut KDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    // SAFETY: `defer` made it for this call alone.
    let Deferred { object, work, .. } = *unsafe { Box::from_raw(context.cast::<Deferred>()) };
    work(&object);
    object.dereference();
}

/// Calls the driver while it holds the lock.
pub(super) fn under<R>(lock: Option<&PresentationLock>, routine: &'static str, body: impl FnOnce() -> R) -> R {
    let Some(lock) = lock else { return callout(routine, body) };
    lock.acquire();
    let result = callout(routine, body);
    lock.release();
    result
}

/// The object by whose lock the callbacks of a timer, DPC or work item are serialized with those of its parent, which asks for
/// it by AutomaticSerialization. `passive` says whether they are made at PASSIVE_LEVEL. None: they are not.
///
/// # Errors
/// STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL if the parent's are made at the other level.
pub(super) fn automatic(parent: &Object, asked: u8, passive: bool) -> Result<Option<HANDLE>, NTSTATUS> {
    if asked == 0 {
        return Ok(None);
    }
    let mut owner = None;
    let mut handle = parent.handle;
    while let Some(object) = object::try_find(handle) {
        if object.presentation.is_some() {
            owner = Some(object);
            break;
        }
        handle = object.parent;
    }
    let Some(owner) = owner else { return Err(STATUS_INVALID_DEVICE_REQUEST) };
    match owner.scope {
        Scope::None => Ok(None),
        Scope::Device | Scope::Queue if parent.passive == passive => Ok(Some(owner.handle)),
        Scope::Device | Scope::Queue => Err(STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL),
    }
}

/// Calls the driver under the lock of the object that [`automatic`] found.
pub(super) fn serialized_with<R>(owner: Option<HANDLE>, routine: &'static str, body: impl FnOnce() -> R) -> R {
    let owner = owner.and_then(object::try_find);
    under(owner.as_ref().and_then(|owner| owner.presentation.as_deref()), routine, body)
}

fn lock_of<'a>(object: &'a Object, call: &str) -> &'a PresentationLock {
    match &object.presentation {
        Some(lock) => lock,
        None => violate(Rule::Framework, format!("{call}: a {} has no presentation lock", object.kind.name())),
    }
}

pub(crate) extern "win64" fn WdfObjectAcquireLock(_globals: usize, handle: HANDLE) {
    called("WdfObjectAcquireLock", DISPATCH_LEVEL);
    let object = object::find(handle);
    let lock = lock_of(&object, "WdfObjectAcquireLock");
    if lock.is_own() {
        violate(Rule::Framework, "WdfObjectAcquireLock: the thread holds this lock already");
    }
    lock.acquire();
}

pub(crate) extern "win64" fn WdfObjectReleaseLock(_globals: usize, handle: HANDLE) {
    called("WdfObjectReleaseLock", DISPATCH_LEVEL);
    let object = object::find(handle);
    let lock = lock_of(&object, "WdfObjectReleaseLock");
    if !lock.is_own() {
        violate(Rule::Framework, "WdfObjectReleaseLock: the thread does not hold this lock");
    }
    lock.release();
}
