//! Timers. One thread a machine signals them, and runs their DPCs as a processor does that takes the clock's interrupt; it calls the
//! callbacks of those that the system allocates (ExAllocateTimer), too.
#![allow(unsafe_code)] // finds timers and their DPCs again by their address

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::dispatcher::{deadline, initialize_header};
use super::dpc;
use super::irql::called;
use super::pool::{self, Owner};
use super::process::start_system_thread;
use super::shared_data;
use super::types::{
    APC_LEVEL, DISPATCH_LEVEL, KDPC, KTIMER, PVOID, TIMER_NOTIFICATION_OBJECT, TIMER_SYNCHRONIZATION_OBJECT,
};
use crate::guard::{callout, callout_at_dispatch, escape, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::simulation::{self, Condvar};
use crate::thread::current;
use crate::violation::Rule;

/// The timers and DPCs of a machine.
#[derive(Default)]
pub(crate) struct Timers {
    state: Mutex<State>,
    /// Something was queued, or the machine stops.
    wake: Condvar,
    /// A callback has returned, or the machine stops.
    called: Condvar,
}

/// EXT_CALLBACK.
pub(crate) type EXT_CALLBACK = extern "win64" fn(timer: PVOID, context: PVOID);

/// EX_TIMER; what drivers have is the address of a block that says nothing.
struct SystemTimer {
    callback: Option<EXT_CALLBACK>,
    context: usize,
    period: Duration,
}

#[derive(Default)]
struct State {
    started: bool,
    stopped: bool,
    next: u64,
    /// Armed timers by due time; the number keeps equal times apart.
    due: BTreeMap<(Instant, u64), usize>,
    armed: HashMap<usize, (Instant, u64)>,
    /// Those that ExAllocateTimer has made, by address.
    system: HashMap<usize, SystemTimer>,
    /// The one whose callback runs.
    calling: Option<usize>,
    /// It was deleted meanwhile.
    deleted: bool,
}

enum Next {
    Timer(usize),
    Stopped,
}

fn timer_at<'a>(address: usize) -> &'a KTIMER {
    // SAFETY: an armed timer is not freed: freeing pool that holds one is a violation.
    unsafe { &*(address as *const KTIMER) }
}

fn dpc_at<'a>(address: *mut KDPC) -> &'a KDPC {
    // SAFETY: the DPC of an armed timer, which its driver keeps; a freed one faults, which the guard reports.
    unsafe { &*address }
}

impl State {
    fn arm(&mut self, timer: usize, due: Instant) {
        self.next += 1;
        self.due.insert((due, self.next), timer);
        self.armed.insert(timer, (due, self.next));
    }

    fn disarm(&mut self, timer: usize) -> bool {
        let Some(key) = self.armed.remove(&timer) else { return false };
        self.due.remove(&key);
        true
    }
}

impl Timers {
    fn start(kernel: &Arc<Kernel>) {
        let first = !std::mem::replace(&mut kernel.timers.state.lock().started, true);
        if first && start_system_thread(kernel, "DPCs and timers", || current().kernel.timers.run()).is_err() {
            violate(Rule::Hang, "the machine has no memory for its timer thread");
        }
    }

    fn run(&self) {
        loop {
            match self.next() {
                Next::Timer(timer) => self.expire(timer),
                Next::Stopped => return,
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return Next::Stopped;
            }
            match state.due.first_key_value().map(|(key, timer)| (key.0, *timer)) {
                Some((due, timer)) if due <= simulation::now() => return Next::Timer(timer),
                Some((due, _)) => drop(self.wake.wait_until(&mut state, due)),
                None => self.wake.wait(&mut state),
            }
        }
    }

    fn expire(&self, address: usize) {
        shared_data::tick();
        let mut state = self.state.lock();
        if state.armed.get(&address).is_none_or(|(due, _)| *due > simulation::now()) {
            return; // cancelled or set anew meanwhile
        }
        state.disarm(address);
        if state.system.contains_key(&address) {
            return self.call(state, address);
        }
        let timer = timer_at(address);
        match timer.Period.get() {
            0 => timer.Header.Inserted.set(0),
            period => state.arm(address, simulation::now() + Duration::from_millis(period.into())),
        }
        let current = current();
        if !timer.Dpc.get().is_null() {
            current.kernel.dpcs.queue(current, dpc_at(timer.Dpc.get()), None);
        }
        // Signaled before the lock goes: from then on the driver may free the timer.
        current.kernel.dispatcher.set(&timer.Header, |_| 1);
        drop(state);
        dpc::retire(current);
    }

    /// Runs the callback of a timer that has expired.
    fn call(&self, mut state: MutexGuard<'_, State>, address: usize) {
        let Some(timer) = state.system.get(&address) else { return };
        let (callback, context, period) = (timer.callback, timer.context as PVOID, timer.period);
        if !period.is_zero() {
            state.arm(address, simulation::now() + period);
        }
        state.calling = Some(address);
        drop(state);
        if let Some(callback) = callback {
            callout_at_dispatch("a timer's callback", || callback(address as PVOID, context));
        }
        let deleted = {
            let mut state = self.state.lock();
            state.calling = None;
            std::mem::take(&mut state.deleted)
        };
        if deleted {
            pool::free(&current().kernel, address as PVOID, EX_TIMER_TAG);
        }
        self.called.notify_all();
    }

    /// Timers that ExAllocateTimer has made and ExDeleteTimer has not deleted.
    pub(crate) fn allocated(&self) -> usize {
        self.state.lock().system.len()
    }

    /// Whether an armed timer lies in an address range.
    pub(super) fn is_armed_in(&self, range: &Range<usize>) -> bool {
        self.state.lock().armed.keys().any(|timer| range.contains(timer))
    }

    /// Armed timers.
    pub(crate) fn pending(&self) -> usize {
        self.state.lock().armed.len()
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_all();
        self.called.notify_all();
    }
}

pub(crate) extern "win64" fn KeInitializeTimerEx(timer: &KTIMER, kind: u32) {
    called("KeInitializeTimerEx", DISPATCH_LEVEL);
    let kind = if kind == 0 { TIMER_NOTIFICATION_OBJECT } else { TIMER_SYNCHRONIZATION_OBJECT };
    initialize_header(&timer.Header, kind, size_of::<KTIMER>(), 0);
    timer.DueTime.set(0);
    timer.Period.set(0);
    timer.Dpc.set(ptr::null_mut());
}

pub(crate) extern "win64" fn KeInitializeTimer(timer: &KTIMER) {
    KeInitializeTimerEx(timer, 0);
}

fn check(timer: &KTIMER, call: &str) {
    if !matches!(timer.Header.Type.get(), TIMER_NOTIFICATION_OBJECT | TIMER_SYNCHRONIZATION_OBJECT) {
        violate(Rule::DispatcherObject, format!("{call}: not an initialized timer"));
    }
}

pub(crate) extern "win64" fn KeSetTimerEx(timer: &KTIMER, due: i64, period: i32, dpc: *mut KDPC) -> u8 {
    let current = called("KeSetTimerEx", DISPATCH_LEVEL);
    check(timer, "KeSetTimerEx");
    Timers::start(&current.kernel);
    let timers = &current.kernel.timers;
    let address = ptr::from_ref(timer) as usize;
    let mut state = timers.state.lock();
    let was_armed = state.disarm(address);
    timer.Header.SignalState.store(0, Ordering::Release);
    timer.Header.Inserted.set(1);
    timer.Dpc.set(dpc);
    timer.Period.set(period.unsigned_abs());
    timer.DueTime.set(due.cast_unsigned());
    state.arm(address, deadline(Some(&due)).unwrap_or_else(simulation::now));
    drop(state);
    timers.wake.notify_all();
    u8::from(was_armed)
}

pub(crate) extern "win64" fn KeSetTimer(timer: &KTIMER, due: i64, dpc: *mut KDPC) -> u8 {
    KeSetTimerEx(timer, due, 0, dpc)
}

pub(crate) extern "win64" fn KeSetCoalescableTimer(
    timer: &KTIMER,
    due: i64,
    period: u32,
    _tolerance: u32,
    dpc: *mut KDPC,
) -> u8 {
    KeSetTimerEx(timer, due, period.cast_signed(), dpc)
}

pub(crate) extern "win64" fn KeCancelTimer(timer: &KTIMER) -> u8 {
    let current = called("KeCancelTimer", DISPATCH_LEVEL);
    check(timer, "KeCancelTimer");
    let was_armed = current.kernel.timers.state.lock().disarm(ptr::from_ref(timer) as usize);
    timer.Header.Inserted.set(0);
    u8::from(was_armed)
}

pub(crate) extern "win64" fn KeReadStateTimer(timer: &KTIMER) -> u8 {
    called("KeReadStateTimer", DISPATCH_LEVEL);
    check(timer, "KeReadStateTimer");
    u8::from(timer.Header.SignalState.load(Ordering::Acquire) > 0)
}

const EX_TIMER_TAG: u32 = pool::tag(*b"ExTm");
/// The block of an EX_TIMER, whose contents are nobody's business.
const EX_TIMER_SIZE: usize = 0x88;

pub(crate) extern "win64" fn ExAllocateTimer(
    callback: Option<EXT_CALLBACK>,
    context: PVOID,
    _attributes: u32,
) -> PVOID {
    let current = called("ExAllocateTimer", DISPATCH_LEVEL);
    let kernel = &current.kernel;
    if kernel.faults.allocation_fails() {
        return ptr::null_mut();
    }
    let Some(block) = kernel.pool.allocate(EX_TIMER_SIZE, EX_TIMER_TAG, Owner::Kernel, true) else {
        return ptr::null_mut();
    };
    Timers::start(kernel);
    let timer = SystemTimer { callback, context: context as usize, period: Duration::ZERO };
    kernel.timers.state.lock().system.insert(block as usize, timer);
    block
}

/// Ends the call: ExAllocateTimer has not made this timer, or it is deleted.
fn no_system_timer(timer: PVOID, call: &str) -> ! {
    violate(Rule::DispatcherObject, format!("{call}: {timer:p} is no timer that ExAllocateTimer has made"))
}

/// `due` is as KeSetTimer takes it, the period is in units of 100 ns. True if the timer was set already.
pub(crate) extern "win64" fn ExSetTimer(timer: PVOID, due: i64, period: i64, _parameters: PVOID) -> u8 {
    let current = called("ExSetTimer", DISPATCH_LEVEL);
    let (timers, address) = (&current.kernel.timers, timer as usize);
    let mut state = timers.state.lock();
    let was_armed = state.disarm(address);
    let Some(known) = state.system.get_mut(&address) else {
        drop(state);
        no_system_timer(timer, "ExSetTimer");
    };
    known.period = Duration::from_nanos(period.max(0).unsigned_abs().saturating_mul(100));
    state.arm(address, deadline(Some(&due)).unwrap_or_else(simulation::now));
    drop(state);
    timers.wake.notify_all();
    u8::from(was_armed)
}

pub(crate) extern "win64" fn ExCancelTimer(timer: PVOID, _parameters: PVOID) -> u8 {
    let current = called("ExCancelTimer", DISPATCH_LEVEL);
    let mut state = current.kernel.timers.state.lock();
    let known = state.system.contains_key(&(timer as usize));
    let was_armed = state.disarm(timer as usize);
    drop(state);
    if !known {
        no_system_timer(timer, "ExCancelTimer");
    }
    u8::from(was_armed)
}

/// EXT_DELETE_PARAMETERS.
#[repr(C)]
pub(crate) struct EXT_DELETE_PARAMETERS {
    version: u32,
    reserved: u32,
    callback: Option<extern "win64" fn(context: PVOID)>,
    context: PVOID,
}

pub(crate) extern "win64" fn ExDeleteTimer(
    timer: PVOID,
    cancel: u8,
    wait: u8,
    parameters: Option<&EXT_DELETE_PARAMETERS>,
) -> u8 {
    let current = called("ExDeleteTimer", if wait == 0 { DISPATCH_LEVEL } else { APC_LEVEL });
    if wait != 0 && cancel == 0 {
        violate(Rule::BugCheck, "ExDeleteTimer is to wait for a timer that it does not cancel");
    }
    let (timers, address) = (&current.kernel.timers, timer as usize);
    let mut state = timers.state.lock();
    if !state.system.contains_key(&address) {
        drop(state);
        no_system_timer(timer, "ExDeleteTimer");
    }
    if cancel == 0 && state.armed.contains_key(&address) {
        drop(state);
        violate(Rule::DispatcherObject, "ExDeleteTimer: the timer is set, and is not to be cancelled");
    }
    let cancelled = state.disarm(address);
    while wait != 0 && state.calling == Some(address) && !state.stopped {
        timers.called.wait(&mut state);
    }
    state.system.remove(&address);
    let runs = state.calling == Some(address);
    state.deleted |= runs;
    let stopped = state.stopped;
    drop(state);
    if stopped {
        escape();
    }
    if !runs {
        pool::free(&current.kernel, timer, EX_TIMER_TAG);
    }
    if let Some((callback, context)) = parameters.and_then(|given| Some((given.callback?, given.context))) {
        callout("a timer's delete callback", || callback(context));
    }
    u8::from(cancelled)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeInitializeTimerEx,
    KeInitializeTimer,
    KeSetTimerEx,
    KeSetTimer,
    KeSetCoalescableTimer,
    KeCancelTimer,
    KeReadStateTimer,
    ExAllocateTimer,
    ExSetTimer,
    ExCancelTimer,
    ExDeleteTimer,
];
