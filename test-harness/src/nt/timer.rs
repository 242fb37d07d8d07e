//! Timers. One thread a machine signals them, and runs their DPCs as a processor does that takes the clock's interrupt.
#![allow(unsafe_code)] // finds timers and their DPCs again by their address

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::dispatcher::{deadline, initialize_header};
use super::dpc;
use super::irql::called;
use super::process::start_system_thread;
use super::types::{DISPATCH_LEVEL, KDPC, KTIMER, TIMER_NOTIFICATION_OBJECT, TIMER_SYNCHRONIZATION_OBJECT};
use crate::guard::violate;
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
}

#[derive(Default)]
struct State {
    started: bool,
    stopped: bool,
    next: u64,
    /// Armed timers by due time; the number keeps equal times apart.
    due: BTreeMap<(Instant, u64), usize>,
    armed: HashMap<usize, (Instant, u64)>,
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
        let mut state = self.state.lock();
        if state.armed.get(&address).is_none_or(|(due, _)| *due > simulation::now()) {
            return; // cancelled or set anew meanwhile
        }
        let timer = timer_at(address);
        state.disarm(address);
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

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeInitializeTimerEx,
    KeInitializeTimer,
    KeSetTimerEx,
    KeSetTimer,
    KeSetCoalescableTimer,
    KeCancelTimer,
    KeReadStateTimer,
];
