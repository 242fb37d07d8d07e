//! Deferred procedure calls. One runs on the processor that queued it, which here is the thread: at once, or as soon as the
//! thread's IRQL falls below DISPATCH_LEVEL. So it may run in two threads at the same time, as on two processors.
#![allow(unsafe_code)] // finds DPCs again by their address

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::irql::called;
use super::processor_groups::PROCESSOR_NUMBER;
use super::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use super::types::{DISPATCH_LEVEL, HIGH_LEVEL, KDEFERRED_ROUTINE, KDPC, NTSTATUS, PASSIVE_LEVEL, PVOID};
use crate::guard::{callout, escape, violate};
use crate::image::Export;
use crate::simulation::Condvar;
use crate::thread::Current;
use crate::violation::Rule;

/// The DPCs of a machine.
#[derive(Default)]
pub(crate) struct Dpcs {
    state: Mutex<State>,
    /// A DPC has run.
    ran: Condvar,
}

/// A DPC that waits for its thread.
struct Queued {
    ticket: u64,
    thread: usize,
    dpc: usize,
}

#[derive(Default)]
struct State {
    stopped: bool,
    tickets: u64,
    /// In the order of their tickets.
    queued: VecDeque<Queued>,
    /// Tickets of those that run.
    running: BTreeSet<u64>,
}

impl State {
    fn oldest(&self) -> Option<u64> {
        let queued = self.queued.front().map(|queued| queued.ticket);
        queued.into_iter().chain(self.running.first().copied()).min()
    }
}

fn at<'a>(address: usize) -> &'a KDPC {
    // SAFETY: a queued DPC is not freed: freeing pool that holds one is a violation.
    unsafe { &*(address as *const KDPC) }
}

impl Dpcs {
    /// Queues a DPC to the calling thread, which runs it by [`retire`]. False if it is queued already.
    pub(super) fn queue(&self, current: &Current, dpc: &KDPC, arguments: Option<[PVOID; 2]>) -> bool {
        let address = ptr::from_ref(dpc) as usize;
        let mut state = self.state.lock();
        if !dpc.DpcData.swap(address as PVOID, Ordering::AcqRel).is_null() {
            return false;
        }
        if let Some([first, second]) = arguments {
            dpc.SystemArgument1.set(first);
            dpc.SystemArgument2.set(second);
        }
        state.tickets += 1;
        let ticket = state.tickets;
        state.queued.push_back(Queued { ticket, thread: current.thread.id, dpc: address });
        current.dpcs_queued.set(true);
        true
    }

    fn remove(&self, dpc: &KDPC) -> bool {
        let address = ptr::from_ref(dpc) as usize;
        let mut state = self.state.lock();
        let position = state.queued.iter().position(|queued| queued.dpc == address);
        let removed = position.and_then(|position| state.queued.remove(position)).is_some();
        if removed {
            dpc.DpcData.store(ptr::null_mut(), Ordering::Release);
            self.ran.notify_all();
        }
        removed
    }

    /// Takes the next DPC of a thread out to be run.
    fn take(&self, thread: usize) -> Option<Queued> {
        let mut state = self.state.lock();
        let position = state.queued.iter().position(|queued| queued.thread == thread)?;
        let queued = state.queued.remove(position)?;
        state.running.insert(queued.ticket);
        Some(queued)
    }

    fn has_run(&self, ticket: u64) {
        self.state.lock().running.remove(&ticket);
        self.ran.notify_all();
    }

    /// Waits until everything that is queued now has run. False if the machine stops first.
    fn flush(&self) -> bool {
        let mut state = self.state.lock();
        let newest = state.tickets;
        while state.oldest().is_some_and(|oldest| oldest <= newest) {
            if state.stopped {
                return false;
            }
            self.ran.wait(&mut state);
        }
        true
    }

    pub(super) fn is_queued_in(&self, range: &Range<usize>) -> bool {
        self.state.lock().queued.iter().any(|queued| range.contains(&queued.dpc))
    }

    /// DPCs that wait to be run.
    pub(crate) fn pending(&self) -> usize {
        self.state.lock().queued.len()
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.ran.notify_all();
    }
}

/// The thread's IRQL has fallen: if it is below DISPATCH_LEVEL now, its DPCs run.
pub(crate) fn retire(current: &Current) {
    if current.dpcs_queued.get() && current.irql.get() < DISPATCH_LEVEL {
        run(current);
    }
}

/// Runs the thread's DPCs between two that its own loop stands for.
pub(crate) fn retire_between(current: &Current) {
    if current.dpcs_queued.get() {
        run(current);
    }
}

fn run(current: &Current) {
    // What a DPC queues is for this loop, not for one inside it.
    let irql = current.irql.replace(current.irql.get().max(DISPATCH_LEVEL));
    while let Some(queued) = current.kernel.dpcs.take(current.thread.id) {
        let dpc = at(queued.dpc);
        let Some(routine) = dpc.DeferredRoutine.get() else {
            violate(Rule::DispatcherObject, "a DPC without a routine")
        };
        let (context, first, second) =
            (dpc.DeferredContext.get(), dpc.SystemArgument1.get(), dpc.SystemArgument2.get());
        // From here on the driver may queue it again, or free it.
        dpc.DpcData.store(ptr::null_mut(), Ordering::Release);
        // It interrupts the thread: it is no part of the calls that the thread is in.
        let depth = current.wsk_depth.replace(0);
        callout("a DPC", || routine(queued.dpc as *mut KDPC, context, first, second));
        current.wsk_depth.set(depth);
        current.kernel.dpcs.has_run(queued.ticket);
    }
    current.irql.set(irql);
    current.dpcs_queued.set(false);
}

/// DpcObject and ThreadedDpcObject of KOBJECTS.
const DPC_OBJECT: u8 = 0x13;
const THREADED_DPC_OBJECT: u8 = 0x18;

pub(crate) extern "win64" fn KeInitializeDpc(dpc: &KDPC, routine: KDEFERRED_ROUTINE, context: PVOID) {
    called("KeInitializeDpc", HIGH_LEVEL);
    initialize(dpc, DPC_OBJECT, routine, context);
}

/// A threaded DPC may run at PASSIVE_LEVEL or as an ordinary one: here it does the latter, as its routine must allow for.
pub(crate) extern "win64" fn KeInitializeThreadedDpc(dpc: &KDPC, routine: KDEFERRED_ROUTINE, context: PVOID) {
    called("KeInitializeThreadedDpc", HIGH_LEVEL);
    initialize(dpc, THREADED_DPC_OBJECT, routine, context);
}

fn initialize(dpc: &KDPC, kind: u8, routine: KDEFERRED_ROUTINE, context: PVOID) {
    dpc.Type.set(kind);
    dpc.Importance.set(1);
    dpc.Number.set(0);
    dpc.DeferredRoutine.set(Some(routine));
    dpc.DeferredContext.set(context);
    dpc.DpcData.store(ptr::null_mut(), Ordering::Release);
}

pub(crate) extern "win64" fn KeInsertQueueDpc(dpc: &KDPC, first: PVOID, second: PVOID) -> u8 {
    let current = called("KeInsertQueueDpc", HIGH_LEVEL);
    if !matches!(dpc.Type.get(), DPC_OBJECT | THREADED_DPC_OBJECT) {
        violate(Rule::DispatcherObject, "KeInsertQueueDpc: not an initialized DPC");
    }
    let queued = current.kernel.dpcs.queue(current, dpc, Some([first, second]));
    retire(current);
    u8::from(queued)
}

pub(crate) extern "win64" fn KeSetImportanceDpc(dpc: &KDPC, importance: u32) {
    called("KeSetImportanceDpc", HIGH_LEVEL);
    dpc.Importance.set(importance.to_le_bytes()[0]);
}

/// Biased by this where Number names a processor, and not the one that queues it (MAXIMUM_PROCESSORS).
const TARGETED: u16 = 2048;

pub(crate) extern "win64" fn KeSetTargetProcessorDpc(dpc: &KDPC, number: i8) {
    called("KeSetTargetProcessorDpc", HIGH_LEVEL);
    dpc.Number.set(TARGETED + u16::from(number.cast_unsigned()));
}

pub(crate) extern "win64" fn KeSetTargetProcessorDpcEx(dpc: &KDPC, number: &PROCESSOR_NUMBER) -> NTSTATUS {
    called("KeSetTargetProcessorDpcEx", HIGH_LEVEL);
    match number.index() {
        Some(index) => {
            dpc.Number.set(TARGETED + index);
            STATUS_SUCCESS
        }
        None => STATUS_INVALID_PARAMETER,
    }
}

pub(crate) extern "win64" fn KeRemoveQueueDpc(dpc: &KDPC) -> u8 {
    let current = called("KeRemoveQueueDpc", HIGH_LEVEL);
    u8::from(current.kernel.dpcs.remove(dpc))
}

pub(crate) extern "win64" fn KeFlushQueuedDpcs() {
    let current = called("KeFlushQueuedDpcs", PASSIVE_LEVEL);
    retire(current);
    // A DPC on every processor: each has left DISPATCH_LEVEL once, whatever it did there, and then run what it had queued.
    let left = current.kernel.dispatch_sections.wait(|| current.kernel.is_stopped());
    if !left || !current.kernel.dpcs.flush() {
        escape();
    }
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeInitializeDpc,
    KeInitializeThreadedDpc,
    KeSetImportanceDpc,
    KeSetTargetProcessorDpc,
    KeSetTargetProcessorDpcEx,
    KeInsertQueueDpc,
    KeRemoveQueueDpc,
    KeFlushQueuedDpcs,
];
