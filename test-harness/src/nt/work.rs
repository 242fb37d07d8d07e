//! System worker threads, and the work items that drivers queue to them.
#![allow(unsafe_code)] // finds work items again by their address

use std::cell::Cell;
use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::irql::called;
use super::object;
use super::pool::{self, Owner};
use super::process::start_system_thread;
use super::types::{DEVICE_OBJECT, DISPATCH_LEVEL, HIGH_LEVEL, LIST_ENTRY, PVOID};
use crate::guard::{callout, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::simulation::Condvar;
use crate::thread::current;
use crate::violation::Rule;

/// Worker threads that a machine may have at once, however many block.
const WORKERS_MAXIMUM: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// The worker threads of a machine.
#[derive(Default)]
pub(crate) struct Workers {
    state: Mutex<State>,
    wake: Condvar,
    /// Drivers' work items queued or running.
    items: AtomicUsize,
}

#[derive(Default)]
struct State {
    stopped: bool,
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Workers {
    /// Has a worker thread run a job at PASSIVE_LEVEL.
    pub(crate) fn queue(&self, kernel: &Arc<Kernel>, job: impl FnOnce() + Send + 'static) {
        let more = {
            let mut state = self.state.lock();
            if state.stopped {
                return;
            }
            state.jobs.push_back(Box::new(job));
            let more = state.jobs.len() > state.idle && state.threads < WORKERS_MAXIMUM;
            let wanted = if state.threads == 0 { kernel.options.workers.max(1) } else { usize::from(more) };
            state.threads += wanted;
            wanted
        };
        self.wake.notify_one();
        for _ in 0..more {
            if start_system_thread(kernel, "system worker", || current().kernel.workers.run()).is_err() {
                self.state.lock().threads -= 1;
            }
        }
    }

    fn run(&self) {
        loop {
            let job = {
                let mut state = self.state.lock();
                loop {
                    if state.stopped {
                        return;
                    }
                    if let Some(job) = state.jobs.pop_front() {
                        break job;
                    }
                    state.idle += 1;
                    self.wake.wait(&mut state);
                    state.idle -= 1;
                }
            };
            job();
        }
    }

    /// Drivers' work items that are queued or running.
    pub(crate) fn pending_items(&self) -> usize {
        self.items.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self) {
        let jobs = {
            let mut state = self.state.lock();
            state.stopped = true;
            std::mem::take(&mut state.jobs)
        };
        drop(jobs);
        self.wake.notify_all();
    }
}

pub(crate) type IO_WORKITEM_ROUTINE = extern "win64" fn(*mut DEVICE_OBJECT, PVOID);
pub(crate) type IO_WORKITEM_ROUTINE_EX = extern "win64" fn(PVOID, PVOID, *mut IO_WORKITEM);

#[derive(Clone, Copy)]
enum Routine {
    Plain(IO_WORKITEM_ROUTINE),
    Extended(IO_WORKITEM_ROUTINE_EX),
}

/// An IO_WORKITEM, opaque to drivers.
pub(crate) struct IO_WORKITEM {
    object: Cell<PVOID>,
    context: Cell<PVOID>,
    routine: Cell<Option<Routine>>,
    /// 1 from being queued until the routine is called.
    queued: AtomicUsize,
}

const TAG: u32 = pool::tag(*b"IoWI");

/// A pointer that goes to the worker thread.
#[derive(Clone, Copy)]
struct Sent(usize);

pub(crate) extern "win64" fn IoAllocateWorkItem(device: *mut DEVICE_OBJECT) -> *mut IO_WORKITEM {
    let current = called("IoAllocateWorkItem", DISPATCH_LEVEL);
    if current.kernel.faults.allocation_fails() {
        return ptr::null_mut();
    }
    let Some(block) = current.kernel.pool.allocate(size_of::<IO_WORKITEM>(), TAG, Owner::Driver, true) else {
        return ptr::null_mut();
    };
    let item = block.cast::<IO_WORKITEM>();
    IoInitializeWorkItem(device.cast(), item);
    item
}

pub(crate) extern "win64" fn IoSizeofWorkItem() -> u32 {
    called("IoSizeofWorkItem", HIGH_LEVEL);
    const { size_of::<IO_WORKITEM>() as u32 }
}

pub(crate) extern "win64" fn IoInitializeWorkItem(object: PVOID, item: *mut IO_WORKITEM) {
    called("IoInitializeWorkItem", HIGH_LEVEL);
    let fresh = IO_WORKITEM {
        object: Cell::new(object),
        context: Cell::new(ptr::null_mut()),
        routine: Cell::new(None),
        queued: AtomicUsize::new(0),
    };
    // SAFETY: the caller gives IoSizeofWorkItem bytes of its own; a bad pointer faults, which the guard reports.
    unsafe { item.write(fresh) };
}

pub(crate) extern "win64" fn IoUninitializeWorkItem(item: &IO_WORKITEM) {
    called("IoUninitializeWorkItem", HIGH_LEVEL);
    check_idle(item, "IoUninitializeWorkItem");
}

fn check_idle(item: &IO_WORKITEM, call: &str) {
    if item.queued.load(Ordering::Acquire) != 0 {
        violate(Rule::Io, format!("{call}: the work item is still queued"));
    }
}

pub(crate) extern "win64" fn IoFreeWorkItem(item: &IO_WORKITEM) {
    let current = called("IoFreeWorkItem", DISPATCH_LEVEL);
    check_idle(item, "IoFreeWorkItem");
    pool::free(&current.kernel, ptr::from_ref(item).cast_mut().cast(), TAG);
}

fn queue(item: &IO_WORKITEM, routine: Routine, context: PVOID, call: &str) {
    let kernel = &current().kernel;
    if item.queued.swap(1, Ordering::AcqRel) != 0 {
        violate(Rule::Io, format!("{call}: the work item is queued already"));
    }
    let object = item.object.get() as usize;
    if kernel.objects.reference(object).is_none() {
        violate(Rule::Object, format!("{call}: the work item's device {object:#x} does not exist"));
    }
    item.routine.set(Some(routine));
    item.context.set(context);
    kernel.workers.items.fetch_add(1, Ordering::AcqRel);
    let sent = Sent(ptr::from_ref(item) as usize);
    kernel.workers.queue(kernel, move || run(sent));
}

fn run(sent: Sent) {
    let kernel = &current().kernel;
    let address = sent.0 as *mut IO_WORKITEM;
    // SAFETY: a queued work item is not freed: freeing one is a violation.
    let item = unsafe { &*address };
    let (object, context, routine) = (item.object.get(), item.context.get(), item.routine.get());
    // From here on the driver may queue or free it again.
    item.queued.store(0, Ordering::Release);
    match routine {
        Some(Routine::Plain(routine)) => callout("a work item", || routine(object.cast(), context)),
        Some(Routine::Extended(routine)) => callout("a work item", || routine(object, context, address)),
        None => {}
    }
    kernel.workers.items.fetch_sub(1, Ordering::AcqRel);
    object::dereference(kernel, object as usize);
    super::io::driver::retry_unload(kernel);
}

pub(crate) extern "win64" fn IoQueueWorkItem(
    item: &IO_WORKITEM,
    routine: IO_WORKITEM_ROUTINE,
    _queue: u32,
    context: PVOID,
) {
    called("IoQueueWorkItem", DISPATCH_LEVEL);
    queue(item, Routine::Plain(routine), context, "IoQueueWorkItem");
}

pub(crate) extern "win64" fn IoQueueWorkItemEx(
    item: &IO_WORKITEM,
    routine: IO_WORKITEM_ROUTINE_EX,
    _queue: u32,
    context: PVOID,
) {
    called("IoQueueWorkItemEx", DISPATCH_LEVEL);
    queue(item, Routine::Extended(routine), context, "IoQueueWorkItemEx");
}

/// WORK_QUEUE_ITEM, for ExQueueWorkItem.
#[repr(C)]
pub(crate) struct WORK_QUEUE_ITEM {
    list: LIST_ENTRY,
    routine: Cell<Option<extern "win64" fn(PVOID)>>,
    parameter: Cell<PVOID>,
}

pub(crate) extern "win64" fn ExQueueWorkItem(item: &WORK_QUEUE_ITEM, _queue: u32) {
    let current = called("ExQueueWorkItem", DISPATCH_LEVEL);
    let Some(routine) = item.routine.get() else { violate(Rule::Io, "ExQueueWorkItem: no routine") };
    let parameter = Sent(item.parameter.get() as usize);
    current.kernel.workers.items.fetch_add(1, Ordering::AcqRel);
    current.kernel.workers.queue(&current.kernel, move || {
        let parameter = parameter;
        callout("a work item", || routine(parameter.0 as PVOID));
        crate::thread::kernel().workers.items.fetch_sub(1, Ordering::AcqRel);
    });
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    IoAllocateWorkItem,
    IoSizeofWorkItem,
    IoInitializeWorkItem,
    IoUninitializeWorkItem,
    IoFreeWorkItem,
    IoQueueWorkItem,
    IoQueueWorkItemEx,
    ExQueueWorkItem,
];
