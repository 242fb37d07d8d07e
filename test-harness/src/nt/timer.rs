//! Timers and deferred procedure calls. One thread a machine runs both, at DISPATCH_LEVEL.
#![allow(unsafe_code)] // finds timers and DPCs again by their address

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::dispatcher::{deadline, initialize_header};
use super::irql::called;
use super::process::start_system_thread;
use super::types::{
    DISPATCH_LEVEL, HIGH_LEVEL, KDEFERRED_ROUTINE, KDPC, KTIMER, PASSIVE_LEVEL, PVOID, TIMER_NOTIFICATION_OBJECT,
    TIMER_SYNCHRONIZATION_OBJECT,
};
use crate::guard::{callout_at_dispatch, escape, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::thread::current;
use crate::violation::Rule;

/// The timers and DPCs of a machine.
#[derive(Default)]
pub(crate) struct Timers {
    state: Mutex<State>,
    /// Something was queued, or the machine stops.
    wake: Condvar,
    /// A DPC has run.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    started: bool,
    stopped: bool,
    next: u64,
    /// Armed timers by due time; the number keeps equal times apart.
    due: BTreeMap<(Instant, u64), usize>,
    armed: HashMap<usize, (Instant, u64)>,
    dpcs: VecDeque<usize>,
    /// The DPC that runs now.
    running: Option<usize>,
}

enum Next {
    Timer(usize),
    Dpc(usize),
    Stopped,
}

fn timer_at<'a>(address: usize) -> &'a KTIMER {
    // SAFETY: an armed timer is not freed: freeing pool that holds one is a violation.
    unsafe { &*(address as *const KTIMER) }
}

fn dpc_at<'a>(address: usize) -> &'a KDPC {
    // SAFETY: a queued DPC is not freed: freeing pool that holds one is a violation.
    unsafe { &*(address as *const KDPC) }
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

    fn queue(&mut self, dpc: usize) -> bool {
        let queued =
            dpc_at(dpc).DpcData.compare_exchange(ptr::null_mut(), dpc as PVOID, Ordering::AcqRel, Ordering::Relaxed);
        if queued.is_ok() {
            self.dpcs.push_back(dpc);
        }
        queued.is_ok()
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
                Next::Dpc(dpc) => {
                    run_dpc(dpc_at(dpc));
                    self.state.lock().running = None;
                    self.idle.notify_all();
                }
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
            if let Some(dpc) = state.dpcs.pop_front() {
                state.running = Some(dpc);
                return Next::Dpc(dpc);
            }
            match state.due.first_key_value().map(|(key, timer)| (key.0, *timer)) {
                Some((due, timer)) if due <= Instant::now() => return Next::Timer(timer),
                Some((due, _)) => drop(self.wake.wait_until(&mut state, due)),
                None => self.wake.wait(&mut state),
            }
        }
    }

    fn expire(&self, address: usize) {
        let mut state = self.state.lock();
        if state.armed.get(&address).is_none_or(|(due, _)| *due > Instant::now()) {
            return; // cancelled or set anew meanwhile
        }
        let timer = timer_at(address);
        state.disarm(address);
        match timer.Period.get() {
            0 => timer.Header.Inserted.set(0),
            period => state.arm(address, Instant::now() + Duration::from_millis(period.into())),
        }
        if !timer.Dpc.get().is_null() {
            state.queue(timer.Dpc.get() as usize);
        }
        // Signaled before the lock goes: from then on the driver may free the timer.
        current().kernel.dispatcher.set(&timer.Header, |_| 1);
    }

    /// What lies in an address range and is still armed or queued.
    pub(crate) fn queued_in(&self, range: &Range<usize>) -> Option<&'static str> {
        let state = self.state.lock();
        if state.armed.keys().any(|timer| range.contains(timer)) {
            return Some("an armed timer");
        }
        state.dpcs.iter().any(|dpc| range.contains(dpc)).then_some("a queued DPC")
    }

    /// Armed timers and queued DPCs.
    pub(crate) fn pending(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.armed.len(), state.dpcs.len())
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_all();
        self.idle.notify_all();
    }
}

fn run_dpc(dpc: &KDPC) {
    let Some(routine) = dpc.DeferredRoutine.get() else { violate(Rule::DispatcherObject, "a DPC without a routine") };
    let (context, first, second) = (dpc.DeferredContext.get(), dpc.SystemArgument1.get(), dpc.SystemArgument2.get());
    dpc.DpcData.store(ptr::null_mut(), Ordering::Release);
    let address = ptr::from_ref(dpc).cast_mut();
    callout_at_dispatch("a DPC", || routine(address, context, first, second));
}

/// DpcObject of KOBJECTS.
const DPC_OBJECT: u8 = 0x13;

pub(crate) extern "win64" fn KeInitializeDpc(dpc: &KDPC, routine: KDEFERRED_ROUTINE, context: PVOID) {
    called("KeInitializeDpc", HIGH_LEVEL);
    dpc.Type.set(DPC_OBJECT);
    dpc.Importance.set(1);
    dpc.Number.set(0);
    dpc.DeferredRoutine.set(Some(routine));
    dpc.DeferredContext.set(context);
    dpc.DpcData.store(ptr::null_mut(), Ordering::Release);
}

pub(crate) extern "win64" fn KeInsertQueueDpc(dpc: &KDPC, first: PVOID, second: PVOID) -> u8 {
    let current = called("KeInsertQueueDpc", HIGH_LEVEL);
    if dpc.Type.get() != DPC_OBJECT {
        violate(Rule::DispatcherObject, "KeInsertQueueDpc: not an initialized DPC");
    }
    Timers::start(&current.kernel);
    let timers = &current.kernel.timers;
    let mut state = timers.state.lock();
    if !dpc.DpcData.load(Ordering::Acquire).is_null() {
        return 0;
    }
    dpc.SystemArgument1.set(first);
    dpc.SystemArgument2.set(second);
    let queued = state.queue(ptr::from_ref(dpc) as usize);
    drop(state);
    timers.wake.notify_all();
    u8::from(queued)
}

pub(crate) extern "win64" fn KeRemoveQueueDpc(dpc: &KDPC) -> u8 {
    let current = called("KeRemoveQueueDpc", HIGH_LEVEL);
    let mut state = current.kernel.timers.state.lock();
    let address = ptr::from_ref(dpc) as usize;
    let before = state.dpcs.len();
    state.dpcs.retain(|queued| *queued != address);
    let removed = state.dpcs.len() != before;
    if removed {
        dpc.DpcData.store(ptr::null_mut(), Ordering::Release);
    }
    u8::from(removed)
}

pub(crate) extern "win64" fn KeFlushQueuedDpcs() {
    let current = called("KeFlushQueuedDpcs", PASSIVE_LEVEL);
    let timers = &current.kernel.timers;
    let mut state = timers.state.lock();
    while !state.stopped && (state.running.is_some() || !state.dpcs.is_empty()) {
        timers.idle.wait(&mut state);
    }
    drop(state);
    // A DPC on every processor: each has left DISPATCH_LEVEL once, whatever it did there.
    if !current.kernel.dispatch_sections.wait(|| current.kernel.is_stopped()) {
        escape();
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
    state.arm(address, deadline(Some(&due)).unwrap_or_else(Instant::now));
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

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeInitializeDpc,
    KeInsertQueueDpc,
    KeRemoveQueueDpc,
    KeFlushQueuedDpcs,
    KeInitializeTimerEx,
    KeInitializeTimer,
    KeSetTimerEx,
    KeSetTimer,
    KeSetCoalescableTimer,
    KeCancelTimer,
    KeReadStateTimer,
];
