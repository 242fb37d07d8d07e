//! Dispatcher objects and waits. One lock a machine orders all of them, as NT's dispatcher lock did.
#![allow(unsafe_code)] // finds objects again by their address

use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::irql::called;
use super::shared_data;
use super::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS, STATUS_TIMEOUT};
use super::types::{
    APC_LEVEL, DISPATCH_LEVEL, DISPATCHER_HEADER, EVENT_NOTIFICATION_OBJECT, EVENT_SYNCHRONIZATION_OBJECT, HIGH_LEVEL,
    KEVENT, KMUTANT, KSEMAPHORE, MUTANT_OBJECT, NTSTATUS, PASSIVE_LEVEL, PROCESS_OBJECT, PVOID, SEMAPHORE_OBJECT,
    THREAD_OBJECT, TIMER_NOTIFICATION_OBJECT, TIMER_SYNCHRONIZATION_OBJECT, Zeroed,
};
use crate::guard::{escape, violate};
use crate::image::Export;
use crate::simulation::{self, Condvar};
use crate::thread::{kernel, try_current};
use crate::violation::Rule;

/// Objects that KeWaitForMultipleObjects takes (MAXIMUM_WAIT_OBJECTS).
const MAXIMUM_WAIT_OBJECTS: usize = 64;

/// The waits of a machine.
#[derive(Default)]
pub(crate) struct Dispatcher {
    waits: Mutex<Waits>,
}

#[derive(Default)]
struct Waits {
    stopped: bool,
    next: u64,
    waiting: HashMap<u64, Waiting>,
    /// Waits by the address of an object, in the order in which they began.
    by_object: HashMap<usize, VecDeque<u64>>,
}

struct Waiting {
    objects: Vec<usize>,
    all: bool,
    /// The number of the thread that waits.
    thread: usize,
    outcome: Option<NTSTATUS>,
    wake: Arc<Condvar>,
}

/// The number of the calling thread; 0 outside kernel mode.
fn waiter() -> usize {
    try_current().map_or(0, |current| current.thread.id)
}

enum Outcome {
    Done(NTSTATUS),
    Stopped,
}

/// The object at an address that was checked when the call came in.
fn header<'a>(address: usize) -> &'a DISPATCHER_HEADER {
    // SAFETY: the address came in as a reference to a dispatcher object, and the driver may not free what is waited on.
    unsafe { &*(address as *const DISPATCHER_HEADER) }
}

/// The mutex whose header this is.
fn mutant(object: &DISPATCHER_HEADER) -> &KMUTANT {
    // SAFETY: the type says that the header begins a KMUTANT, which its driver initialized.
    unsafe { &*std::ptr::from_ref(object).cast::<KMUTANT>() }
}

/// Whether a wait of a thread's on an object ends now. A mutex can be had again by its owner.
fn satisfies(object: &DISPATCHER_HEADER, thread: usize) -> bool {
    object.SignalState.load(Ordering::Acquire) > 0
        || object.Type.get() == MUTANT_OBJECT && thread != 0 && mutant(object).OwnerThread.get() == thread
}

/// Takes what a thread's satisfied wait takes of an object.
fn consume(object: &DISPATCHER_HEADER, thread: usize) {
    match object.Type.get() {
        MUTANT_OBJECT => {
            object.SignalState.fetch_sub(1, Ordering::AcqRel);
            mutant(object).OwnerThread.set(thread);
        }
        EVENT_SYNCHRONIZATION_OBJECT | TIMER_SYNCHRONIZATION_OBJECT => object.SignalState.store(0, Ordering::Release),
        SEMAPHORE_OBJECT => drop(object.SignalState.fetch_sub(1, Ordering::AcqRel)),
        _ => {}
    }
}

impl Waits {
    /// Satisfies a wait on these objects if their states allow.
    fn satisfy(objects: &[usize], all: bool, thread: usize) -> Option<NTSTATUS> {
        let signaled = |address: &usize| satisfies(header(*address), thread);
        if all {
            if !objects.iter().all(signaled) {
                return None;
            }
            for address in objects {
                consume(header(*address), thread);
            }
            return Some(STATUS_SUCCESS);
        }
        let index = objects.iter().position(signaled)?;
        consume(header(objects[index]), thread);
        i32::try_from(index).ok()
    }

    fn begin(&mut self, objects: Vec<usize>, all: bool, wake: Arc<Condvar>) -> u64 {
        self.next += 1;
        for object in &objects {
            self.by_object.entry(*object).or_default().push_back(self.next);
        }
        let thread = waiter();
        self.waiting.insert(self.next, Waiting { objects, all, thread, outcome: None, wake });
        self.next
    }

    fn end(&mut self, wait: u64) -> Option<NTSTATUS> {
        let waiting = self.waiting.remove(&wait)?;
        for object in waiting.objects {
            if let Some(queue) = self.by_object.get_mut(&object) {
                queue.retain(|queued| *queued != wait);
                if queue.is_empty() {
                    self.by_object.remove(&object);
                }
            }
        }
        waiting.outcome
    }

    /// An object has become signaled: ends the waits that it satisfies.
    fn signaled(&mut self, object: usize) {
        let Some(queue) = self.by_object.get(&object) else { return };
        for wait in queue {
            let Some(waiting) = self.waiting.get_mut(wait) else { continue };
            if waiting.outcome.is_none() {
                waiting.outcome = Self::satisfy(&waiting.objects, waiting.all, waiting.thread);
                if waiting.outcome.is_some() {
                    waiting.wake.notify_one();
                }
            }
            if header(object).SignalState.load(Ordering::Acquire) <= 0 {
                return;
            }
        }
    }
}

thread_local! {
    static WAKE: Arc<Condvar> = Arc::new(Condvar::new());
}

impl Dispatcher {
    /// Changes an object's state by `change`, which gets the old one; returns the old one.
    pub(crate) fn set(&self, object: &DISPATCHER_HEADER, change: impl FnOnce(i32) -> i32) -> i32 {
        let mut waits = self.waits.lock();
        let old = object.SignalState.load(Ordering::Acquire);
        let new = change(old);
        object.SignalState.store(new, Ordering::Release);
        if new > 0 && !waits.waiting.is_empty() {
            waits.signaled(std::ptr::from_ref(object) as usize);
        }
        old
    }

    /// Waits on a machine's thread. A machine that stops ends the wait by leaving the driver.
    fn wait(&self, objects: Vec<usize>, all: bool, deadline: Option<Instant>) -> NTSTATUS {
        match self.wait_or_stop(objects, all, deadline) {
            Outcome::Done(status) => {
                if status == STATUS_TIMEOUT {
                    shared_data::tick();
                }
                status
            }
            Outcome::Stopped => escape(),
        }
    }

    fn wait_or_stop(&self, objects: Vec<usize>, all: bool, deadline: Option<Instant>) -> Outcome {
        let mut waits = self.waits.lock();
        if let Some(status) = Waits::satisfy(&objects, all, waiter()) {
            return Outcome::Done(status);
        }
        if deadline.is_some_and(|deadline| deadline <= simulation::now()) {
            return Outcome::Done(STATUS_TIMEOUT);
        }
        let wake = WAKE.with(Arc::clone);
        let wait = waits.begin(objects, all, wake.clone());
        loop {
            if waits.stopped {
                waits.end(wait);
                return Outcome::Stopped;
            }
            if waits.waiting.get(&wait).is_some_and(|waiting| waiting.outcome.is_some()) {
                return Outcome::Done(waits.end(wait).unwrap_or(STATUS_SUCCESS));
            }
            match deadline {
                None => wake.wait(&mut waits),
                Some(deadline) => {
                    if wake.wait_until(&mut waits, deadline).timed_out() {
                        return Outcome::Done(waits.end(wait).unwrap_or(STATUS_TIMEOUT));
                    }
                }
            }
        }
    }

    /// Waits for an object from outside kernel mode. None if the machine has stopped.
    pub(crate) fn wait_outside(&self, object: &DISPATCHER_HEADER, timeout: Option<Duration>) -> Option<bool> {
        let deadline = timeout.map(|timeout| simulation::now() + timeout);
        match self.wait_or_stop(vec![std::ptr::from_ref(object) as usize], false, deadline) {
            Outcome::Done(status) => Some(status != STATUS_TIMEOUT),
            Outcome::Stopped => None,
        }
    }

    /// Whether some thread waits for an object in an address range.
    pub(crate) fn is_waited_on(&self, range: &Range<usize>) -> bool {
        let waits = self.waits.lock();
        !waits.waiting.is_empty() && waits.by_object.keys().any(|object| range.contains(object))
    }

    pub(crate) fn stop(&self) {
        let mut waits = self.waits.lock();
        waits.stopped = true;
        for waiting in waits.waiting.values() {
            waiting.wake.notify_one();
        }
    }
}

/// The moment a LARGE_INTEGER time-out names: negative is relative, in units of 100 ns; else system time.
pub(super) fn deadline(timeout: Option<&i64>) -> Option<Instant> {
    let now = simulation::now();
    timeout.map(|timeout| {
        let ticks = if *timeout < 0 {
            timeout.unsigned_abs()
        } else {
            (*timeout - super::time::system_time()).max(0).unsigned_abs()
        };
        // A far moment is as good as none, and cannot overflow.
        now + Duration::from_nanos(ticks.saturating_mul(100)).min(Duration::from_secs(1 << 32))
    })
}

/// Ends the call if this is no initialized dispatcher object.
fn check(object: &DISPATCHER_HEADER, call: &str, known: &[u8]) {
    let kind = object.Type.get();
    if !known.contains(&kind) || object.Size.get() == 0 {
        violate(
            Rule::DispatcherObject,
            format!("{call}: not an initialized object (type {kind}, size {})", object.Size.get()),
        );
    }
}

const EVENTS: &[u8] = &[EVENT_NOTIFICATION_OBJECT, EVENT_SYNCHRONIZATION_OBJECT];
const WAITABLE: &[u8] = &[
    EVENT_NOTIFICATION_OBJECT,
    EVENT_SYNCHRONIZATION_OBJECT,
    MUTANT_OBJECT,
    PROCESS_OBJECT,
    SEMAPHORE_OBJECT,
    THREAD_OBJECT,
    TIMER_NOTIFICATION_OBJECT,
    TIMER_SYNCHRONIZATION_OBJECT,
];

/// Makes a dispatcher object's header. `size` is the object's size in bytes.
pub(super) fn initialize_header(object: &DISPATCHER_HEADER, kind: u8, size: usize, state: i32) {
    object.Type.set(kind);
    object.Signalling.set(0);
    object.Size.set(u8::try_from(size / 4).unwrap_or(u8::MAX));
    object.Inserted.set(0);
    object.SignalState.store(state, Ordering::Release);
    let head = std::ptr::from_ref(&object.WaitListHead).cast_mut();
    object.WaitListHead.Flink.set(head);
    object.WaitListHead.Blink.set(head);
}

pub(crate) extern "win64" fn KeInitializeEvent(event: &KEVENT, kind: u32, state: u8) {
    called("KeInitializeEvent", HIGH_LEVEL);
    let kind = if kind == 0 { EVENT_NOTIFICATION_OBJECT } else { EVENT_SYNCHRONIZATION_OBJECT };
    initialize_header(&event.Header, kind, size_of::<KEVENT>(), i32::from(state != 0));
}

pub(crate) extern "win64" fn KeSetEvent(event: &KEVENT, _increment: i32, wait: u8) -> i32 {
    let current = called("KeSetEvent", DISPATCH_LEVEL);
    check(&event.Header, "KeSetEvent", EVENTS);
    if wait != 0 && current.irql.get() > APC_LEVEL {
        violate(Rule::Irql, "KeSetEvent with Wait above APC_LEVEL");
    }
    current.kernel.dispatcher.set(&event.Header, |_| 1)
}

pub(crate) extern "win64" fn KeResetEvent(event: &KEVENT) -> i32 {
    let current = called("KeResetEvent", DISPATCH_LEVEL);
    check(&event.Header, "KeResetEvent", EVENTS);
    current.kernel.dispatcher.set(&event.Header, |_| 0)
}

pub(crate) extern "win64" fn KeClearEvent(event: &KEVENT) {
    let current = called("KeClearEvent", DISPATCH_LEVEL);
    check(&event.Header, "KeClearEvent", EVENTS);
    current.kernel.dispatcher.set(&event.Header, |_| 0);
}

pub(crate) extern "win64" fn KeReadStateEvent(event: &KEVENT) -> i32 {
    called("KeReadStateEvent", DISPATCH_LEVEL);
    check(&event.Header, "KeReadStateEvent", EVENTS);
    event.Header.SignalState.load(Ordering::Acquire)
}

pub(crate) extern "win64" fn KeInitializeSemaphore(semaphore: &KSEMAPHORE, count: i32, limit: i32) {
    called("KeInitializeSemaphore", PASSIVE_LEVEL);
    initialize_header(&semaphore.Header, SEMAPHORE_OBJECT, size_of::<KSEMAPHORE>(), count);
    semaphore.Limit.set(limit);
}

pub(crate) extern "win64" fn KeReleaseSemaphore(
    semaphore: &KSEMAPHORE,
    _increment: i32,
    adjustment: i32,
    _wait: u8,
) -> i32 {
    let current = called("KeReleaseSemaphore", DISPATCH_LEVEL);
    check(&semaphore.Header, "KeReleaseSemaphore", &[SEMAPHORE_OBJECT]);
    let limit = semaphore.Limit.get();
    let state = semaphore.Header.SignalState.load(Ordering::Acquire);
    if adjustment <= 0 || state.checked_add(adjustment).is_none_or(|sum| sum > limit) {
        violate(Rule::DispatcherObject, format!("KeReleaseSemaphore: {state} + {adjustment} exceeds {limit}"));
    }
    current.kernel.dispatcher.set(&semaphore.Header, |old| old + adjustment)
}

pub(crate) extern "win64" fn KeReadStateSemaphore(semaphore: &KSEMAPHORE) -> i32 {
    called("KeReadStateSemaphore", HIGH_LEVEL);
    semaphore.Header.SignalState.load(Ordering::Acquire)
}

pub(crate) extern "win64" fn KeInitializeMutex(mutex: &KMUTANT, _level: u32) {
    called("KeInitializeMutex", DISPATCH_LEVEL);
    initialize_header(&mutex.Header, MUTANT_OBJECT, size_of::<KMUTANT>(), 1);
    mutex.OwnerThread.set(0);
    mutex.Abandoned.set(0);
    mutex.ApcDisable.set(1);
}

pub(crate) extern "win64" fn KeReleaseMutex(mutex: &KMUTANT, _wait: u8) -> i32 {
    let current = called("KeReleaseMutex", DISPATCH_LEVEL);
    check(&mutex.Header, "KeReleaseMutex", &[MUTANT_OBJECT]);
    if mutex.OwnerThread.get() != current.thread.id {
        violate(Rule::Lock, "KeReleaseMutex: the thread does not own this mutex (STATUS_MUTANT_NOT_OWNED)");
    }
    current.kernel.dispatcher.set(&mutex.Header, |old| {
        if old == 0 {
            mutex.OwnerThread.set(0);
        }
        old + 1
    })
}

pub(crate) extern "win64" fn KeReadStateMutex(mutex: &KMUTANT) -> i32 {
    called("KeReadStateMutex", DISPATCH_LEVEL);
    check(&mutex.Header, "KeReadStateMutex", &[MUTANT_OBJECT]);
    mutex.Header.SignalState.load(Ordering::Acquire)
}

pub(crate) extern "win64" fn KePulseEvent(event: &KEVENT, _increment: i32, _wait: u8) -> i32 {
    let current = called("KePulseEvent", DISPATCH_LEVEL);
    check(&event.Header, "KePulseEvent", EVENTS);
    let old = current.kernel.dispatcher.set(&event.Header, |_| 1);
    current.kernel.dispatcher.set(&event.Header, |_| 0);
    old
}

/// A wait that can block is for IRQL <= APC_LEVEL; with a zero time-out, for DISPATCH_LEVEL too.
fn called_to_wait(call: &'static str, timeout: Option<&i64>) {
    let current = called(call, DISPATCH_LEVEL);
    if current.irql.get() > APC_LEVEL && timeout.is_none_or(|timeout| *timeout != 0) {
        // No other callback of WSK's has such a name.
        let routine = current.routine.get();
        let in_callback = routine.starts_with("Wsk") && routine.ends_with("Event");
        let rule = if in_callback { Rule::Wsk(22) } else { Rule::Irql };
        violate(rule, format!("{call} at IRQL {} with a time-out other than zero", current.irql.get()));
    }
}

pub(crate) extern "win64" fn KeWaitForSingleObject(
    object: &DISPATCHER_HEADER,
    _reason: u32,
    _mode: i8,
    _alertable: u8,
    timeout: Option<&i64>,
) -> NTSTATUS {
    called_to_wait("KeWaitForSingleObject", timeout);
    check(object, "KeWaitForSingleObject", WAITABLE);
    kernel().dispatcher.wait(vec![std::ptr::from_ref(object) as usize], false, deadline(timeout))
}

pub(crate) extern "win64" fn KeWaitForMultipleObjects(
    count: u32,
    objects: *const *mut c_void,
    wait_type: u32,
    _reason: u32,
    _mode: i8,
    _alertable: u8,
    timeout: Option<&i64>,
    wait_blocks: PVOID,
) -> NTSTATUS {
    /// Objects for which the thread's own wait blocks suffice (THREAD_WAIT_OBJECTS).
    const THREAD_WAIT_OBJECTS: usize = 3;
    called_to_wait("KeWaitForMultipleObjects", timeout);
    let count = count as usize;
    if count == 0 || count > MAXIMUM_WAIT_OBJECTS || count > THREAD_WAIT_OBJECTS && wait_blocks.is_null() {
        violate(
            Rule::DispatcherObject,
            format!("KeWaitForMultipleObjects on {count} objects, wait blocks at {wait_blocks:p}"),
        );
    }
    // SAFETY: the caller passes an array of `count` pointers; a bad one faults, which the guard reports.
    let addresses = unsafe { std::slice::from_raw_parts(objects.cast::<usize>(), count) };
    for address in addresses {
        check(header(*address), "KeWaitForMultipleObjects", WAITABLE);
    }
    kernel().dispatcher.wait(addresses.to_vec(), wait_type == 0, deadline(timeout))
}

pub(crate) extern "win64" fn KeDelayExecutionThread(_mode: i8, _alertable: u8, interval: Option<&i64>) -> NTSTATUS {
    called("KeDelayExecutionThread", APC_LEVEL);
    let Some(interval) = interval else { return STATUS_INVALID_PARAMETER };
    // A timer of the thread's own, which nothing signals.
    let never = KEVENT::zeroed();
    initialize_header(&never.Header, EVENT_NOTIFICATION_OBJECT, size_of::<KEVENT>(), 0);
    kernel().dispatcher.wait(vec![&raw const never as usize], false, deadline(Some(interval)));
    STATUS_SUCCESS
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeInitializeMutex,
    KeReleaseMutex,
    KeReadStateMutex,
    KePulseEvent,
    KeInitializeEvent,
    KeSetEvent,
    KeResetEvent,
    KeClearEvent,
    KeReadStateEvent,
    KeInitializeSemaphore,
    KeReleaseSemaphore,
    KeReadStateSemaphore,
    KeWaitForSingleObject,
    KeWaitForMultipleObjects,
    KeDelayExecutionThread,
];
