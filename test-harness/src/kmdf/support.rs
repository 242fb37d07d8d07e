//! Work items, timers, locks and memory objects.
#![allow(unsafe_code)] // reads the client's structures

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::bind::{Client, client};
use super::object::{self, Attributes, Kind, Object, create_into, expect_kind, named_parent};
use super::presentation::{automatic, serialized_with};
use super::types::{
    HANDLE, PFN_OBJECT, WDF_OBJECT_ATTRIBUTES, WDF_TIMER_CONFIG, WDF_WORKITEM_CONFIG, WDFMEMORY_OFFSET,
};
use crate::guard::violate;
use crate::nt::dispatcher::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use crate::nt::dpc::{KeFlushQueuedDpcs, KeInitializeDpc};
use crate::nt::irql::{called, called_from};
use crate::nt::lock_order::{self, LockKind};
use crate::nt::mdl::{self, IoFreeMdl, MmUnlockPages};
use crate::nt::pool::{self, ExFreePoolWithTag};
use crate::nt::spin_lock::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};
use crate::nt::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INTEGER_OVERFLOW, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use crate::nt::timer::{KeCancelTimer, KeInitializeTimer, KeSetTimerEx};
use crate::nt::types::{
    DISPATCH_LEVEL, HIGH_LEVEL, KDPC, KEVENT, KSPIN_LOCK, KTIMER, MDL, NTSTATUS, PASSIVE_LEVEL, PVOID, Zeroed,
};
use crate::simulation::Condvar;
use crate::thread::{current, kernel};
use crate::violation::Rule;

/// How far a work item has come.
#[derive(Default)]
struct Progress {
    queued: bool,
    running: bool,
}

/// A work item.
pub(crate) struct WorkItem {
    callback: PFN_OBJECT,
    serialized_with: Option<HANDLE>,
    progress: Mutex<Progress>,
    done: Condvar,
}

pub(crate) extern "win64" fn WdfWorkItemCreate(
    globals: usize,
    config: *const WDF_WORKITEM_CONFIG,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfWorkItemCreate", DISPATCH_LEVEL);
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let config = unsafe { *config };
    let attributes = Attributes::read(attributes);
    let Some(callback) = config.EvtWorkItemFunc else { return STATUS_INVALID_PARAMETER };
    let serialized_with =
        match named_parent(&attributes).and_then(|parent| automatic(&parent, config.AutomaticSerialization, true)) {
            Ok(owner) => owner,
            Err(status) => return status,
        };
    let item = WorkItem { callback, serialized_with, progress: Mutex::default(), done: Condvar::new() };
    create_into(&client(globals), Kind::WorkItem(item), &attributes, 0, out)
}

pub(crate) extern "win64" fn WdfWorkItemEnqueue(_globals: usize, handle: HANDLE) {
    called("WdfWorkItemEnqueue", DISPATCH_LEVEL);
    let object = object::find(handle);
    let item = expect_kind!(object, WorkItem);
    if std::mem::replace(&mut item.progress.lock().queued, true) {
        return;
    }
    object.reference();
    let kernel = &current().kernel;
    kernel.workers.queue(kernel, move || run_work_item(&object));
}

fn run_work_item(object: &Arc<Object>) {
    let item = expect_kind!(object, WorkItem);
    {
        let mut progress = item.progress.lock();
        // One at a time: the one that runs goes on with what was queued meanwhile.
        if progress.running {
            drop(progress);
            object.dereference();
            return;
        }
        progress.running = true;
    }
    loop {
        item.progress.lock().queued = false;
        serialized_with(item.serialized_with, "EvtWorkItemFunc", || (item.callback)(object.handle));
        let mut progress = item.progress.lock();
        if !progress.queued {
            progress.running = false;
            item.done.notify_all();
            break;
        }
    }
    object.dereference();
}

pub(crate) extern "win64" fn WdfWorkItemFlush(_globals: usize, handle: HANDLE) {
    called("WdfWorkItemFlush", PASSIVE_LEVEL);
    let object = object::find(handle);
    wait(expect_kind!(object, WorkItem));
}

fn wait(item: &WorkItem) {
    let mut progress = item.progress.lock();
    while progress.queued || progress.running {
        if kernel().is_stopped() {
            drop(progress);
            crate::guard::escape();
        }
        item.done.wait_for(&mut progress, std::time::Duration::from_millis(50));
    }
}

pub(crate) extern "win64" fn WdfWorkItemGetParentObject(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfWorkItemGetParentObject", DISPATCH_LEVEL);
    object::find(handle).parent
}

/// A timer.
pub(crate) struct Timer {
    callback: PFN_OBJECT,
    serialized_with: Option<HANDLE>,
    period: u32,
    passive: bool,
    due: Box<KTIMER>,
    dpc: Box<KDPC>,
    initialized: AtomicBool,
}

// SAFETY: timer and DPC are the kernel's own objects, which it synchronizes; they stay where they are.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

pub(crate) extern "win64" fn WdfTimerCreate(
    globals: usize,
    config: *const WDF_TIMER_CONFIG,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfTimerCreate", DISPATCH_LEVEL);
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let config = unsafe { *config };
    let attributes = Attributes::read(attributes);
    let Some(callback) = config.EvtTimerFunc else { return STATUS_INVALID_PARAMETER };
    let passive = attributes.execution_level == super::types::WdfExecutionLevelPassive;
    if passive && config.Period != 0 {
        return crate::nt::status::STATUS_NOT_SUPPORTED;
    }
    let serialized_with =
        match named_parent(&attributes).and_then(|parent| automatic(&parent, config.AutomaticSerialization, passive)) {
            Ok(owner) => owner,
            Err(status) => return status,
        };
    let timer = Timer {
        callback,
        serialized_with,
        period: config.Period,
        passive,
        due: Box::new(KTIMER::zeroed()),
        dpc: Box::new(KDPC::zeroed()),
        initialized: AtomicBool::new(false),
    };
    create_into(&client(globals), Kind::Timer(timer), &attributes, 0, out)
}

extern "win64" fn timer_due(_dpc: *mut KDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    let Some(object) = object::try_find(context as HANDLE) else { return };
    let Kind::Timer(timer) = &object.kind else { return };
    if timer.passive {
        object.reference();
        let kernel = &current().kernel;
        kernel.workers.queue(kernel, move || {
            if let Kind::Timer(timer) = &object.kind {
                serialized_with(timer.serialized_with, "EvtTimerFunc", || (timer.callback)(object.handle));
            }
            object.dereference();
        });
    } else {
        serialized_with(timer.serialized_with, "EvtTimerFunc", || (timer.callback)(object.handle));
    }
}

pub(crate) extern "win64" fn WdfTimerStart(_globals: usize, handle: HANDLE, due: i64) -> u8 {
    called("WdfTimerStart", DISPATCH_LEVEL);
    let object = object::find(handle);
    let timer = expect_kind!(object, Timer);
    if !timer.initialized.swap(true, Ordering::AcqRel) {
        KeInitializeTimer(&timer.due);
        KeInitializeDpc(&timer.dpc, timer_due, handle as PVOID);
    }
    let dpc = std::ptr::from_ref::<KDPC>(&timer.dpc).cast_mut();
    KeSetTimerEx(&timer.due, due, timer.period.cast_signed(), dpc)
}

pub(crate) extern "win64" fn WdfTimerStop(_globals: usize, handle: HANDLE, wait: u8) -> u8 {
    let highest = if wait == 0 { DISPATCH_LEVEL } else { PASSIVE_LEVEL };
    called("WdfTimerStop", highest);
    let object = object::find(handle);
    stop(expect_kind!(object, Timer), wait != 0)
}

fn stop(timer: &Timer, wait: bool) -> u8 {
    if !timer.initialized.load(Ordering::Acquire) {
        return 0;
    }
    let stopped = KeCancelTimer(&timer.due);
    if wait {
        KeFlushQueuedDpcs();
    }
    stopped
}

pub(crate) extern "win64" fn WdfTimerGetParentObject(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfTimerGetParentObject", DISPATCH_LEVEL);
    object::find(handle).parent
}

pub(crate) extern "win64" fn WdfSpinLockCreate(
    globals: usize,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfSpinLockCreate", DISPATCH_LEVEL);
    let client = client(globals);
    let kind = Kind::SpinLock(Box::new(KSPIN_LOCK::new(0)), AtomicUsize::new(0));
    create_into(&client, kind, &Attributes::read(attributes), client.driver(), out)
}

fn spin_lock(object: &Object) -> (&KSPIN_LOCK, &AtomicUsize) {
    match &object.kind {
        Kind::SpinLock(lock, irql) => (lock, irql),
        _ => object::wrong_type(object, "SpinLock"),
    }
}

pub(crate) extern "win64" fn WdfSpinLockAcquire(_globals: usize, handle: HANDLE) {
    called("WdfSpinLockAcquire", DISPATCH_LEVEL);
    let object = object::find(handle);
    let (lock, irql) = spin_lock(&object);
    let old = KeAcquireSpinLockRaiseToDpc(lock);
    irql.store(usize::from(old), Ordering::Relaxed);
}

pub(crate) extern "win64" fn WdfSpinLockRelease(_globals: usize, handle: HANDLE) {
    called_from("WdfSpinLockRelease", DISPATCH_LEVEL, DISPATCH_LEVEL);
    let object = object::find(handle);
    let (lock, irql) = spin_lock(&object);
    let old = irql.load(Ordering::Relaxed).to_le_bytes()[0];
    KeReleaseSpinLock(lock, old);
}

/// A wait lock: a synchronization event that is set while nobody has the lock.
pub(crate) struct WaitLock {
    free: Box<KEVENT>,
    owner: AtomicUsize,
}

// SAFETY: the event is a kernel object, which the kernel synchronizes; it stays where it is.
unsafe impl Send for WaitLock {}
// SAFETY: as above.
unsafe impl Sync for WaitLock {}

pub(crate) extern "win64" fn WdfWaitLockCreate(
    globals: usize,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfWaitLockCreate", DISPATCH_LEVEL);
    let client = client(globals);
    let lock = WaitLock { free: Box::new(KEVENT::zeroed()), owner: AtomicUsize::new(0) };
    KeInitializeEvent(&lock.free, 1, 1);
    create_into(&client, Kind::WaitLock(lock), &Attributes::read(attributes), client.driver(), out)
}

pub(crate) extern "win64" fn WdfWaitLockAcquire(_globals: usize, handle: HANDLE, timeout: *const i64) -> NTSTATUS {
    // SAFETY: the client's timeout; a bad pointer faults, which the guard reports.
    let polls = !timeout.is_null() && unsafe { *timeout } == 0;
    called("WdfWaitLockAcquire", if polls { DISPATCH_LEVEL } else { PASSIVE_LEVEL });
    let object = object::find(handle);
    let lock = expect_kind!(object, WaitLock);
    let me = current().thread.id;
    if lock.owner.load(Ordering::Acquire) == me {
        violate(Rule::Framework, "WdfWaitLockAcquire: the thread has this lock already");
    }
    // SAFETY: as above.
    let timeout = unsafe { timeout.as_ref() };
    if timeout.is_none() {
        lock_order::wanted(current(), handle);
    }
    let status = KeWaitForSingleObject(&lock.free.Header, 0, 0, 0, timeout);
    if status == STATUS_SUCCESS {
        lock.owner.store(me, Ordering::Release);
        lock_order::acquired(current(), handle, LockKind::Wait);
    }
    status
}

pub(crate) extern "win64" fn WdfWaitLockRelease(_globals: usize, handle: HANDLE) {
    called("WdfWaitLockRelease", DISPATCH_LEVEL);
    let object = object::find(handle);
    let lock = expect_kind!(object, WaitLock);
    if lock.owner.swap(0, Ordering::AcqRel) != current().thread.id {
        violate(Rule::Framework, "WdfWaitLockRelease: the thread does not have this lock");
    }
    lock_order::released(current(), handle);
    KeSetEvent(&lock.free, 0, 0);
}

/// A memory object.
pub(crate) struct Memory {
    buffer: Cell<usize>,
    size: Cell<usize>,
    /// The tag, where the framework allocated the buffer.
    tag: Option<u32>,
    /// The list of a requestor's buffer that the framework has locked, or null.
    list: AtomicPtr<MDL>,
}

// SAFETY: the buffer changes only by WdfMemoryAssignBuffer, which the client does not call while others use it.
unsafe impl Sync for Memory {}

impl Memory {
    /// A memory object over a buffer that is somebody else's.
    pub(super) fn over(buffer: PVOID, size: usize) -> Self {
        Self { buffer: Cell::new(buffer as usize), size: Cell::new(size), tag: None, list: AtomicPtr::default() }
    }

    /// A memory object with a buffer of its own.
    pub(super) fn allocate(size: usize, tag: u32, pool_type: u32) -> Option<Self> {
        let block = pool::allocate(kernel(), size, tag, false, pool::is_paged(pool_type))?;
        let list = AtomicPtr::default();
        Some(Self { buffer: Cell::new(block as usize), size: Cell::new(size), tag: Some(tag), list })
    }

    /// Where a part of it lies, and how many bytes that is; all of it where none is named.
    ///
    /// # Errors
    /// STATUS_INTEGER_OVERFLOW, STATUS_BUFFER_TOO_SMALL.
    pub(super) fn part(&self, part: Option<&WDFMEMORY_OFFSET>) -> Result<(usize, usize), NTSTATUS> {
        let (offset, length) = part.map_or((0, 0), |part| (part.BufferOffset, part.BufferLength));
        let end = offset.checked_add(length).ok_or(STATUS_INTEGER_OVERFLOW)?;
        if end > self.size() || offset > self.size() {
            return Err(STATUS_BUFFER_TOO_SMALL);
        }
        Ok((self.address() + offset, if length == 0 { self.size() - offset } else { length }))
    }

    /// A memory object over a buffer that is locked, and is unlocked with it.
    pub(super) fn locked(list: &MDL, mapped: PVOID, size: usize) -> Self {
        let memory = Self::over(mapped, size);
        memory.list.store(std::ptr::from_ref(list).cast_mut(), Ordering::Release);
        memory
    }

    /// What it holds goes.
    pub(super) fn free(&self) {
        if let Some(list) = mdl::at(self.list.swap(std::ptr::null_mut(), Ordering::AcqRel)) {
            MmUnlockPages(list);
            IoFreeMdl(list);
        }
        if let Some(tag) = self.tag {
            ExFreePoolWithTag(self.address() as PVOID, tag);
        }
    }

    pub(super) fn address(&self) -> usize {
        self.buffer.get()
    }

    pub(super) fn size(&self) -> usize {
        self.size.get()
    }

    /// Gives it another buffer. False if it has one of the framework's.
    pub(super) fn assign(&self, buffer: PVOID, size: usize) -> bool {
        if self.tag.is_some() {
            return false;
        }
        self.buffer.set(buffer as usize);
        self.size.set(size);
        true
    }
}

pub(crate) extern "win64" fn WdfMemoryCreate(
    globals: usize,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    pool_type: u32,
    tag: u32,
    size: usize,
    out: *mut HANDLE,
    buffer: *mut PVOID,
) -> NTSTATUS {
    called("WdfMemoryCreate", DISPATCH_LEVEL);
    if size == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let client = client(globals);
    let tag = if tag == 0 { client.tag() } else { tag };
    let Some(memory) = Memory::allocate(size, tag, pool_type) else { return STATUS_INSUFFICIENT_RESOURCES };
    let block = memory.address() as PVOID;
    let status = keep_memory(&client, memory, &Attributes::read(attributes), client.driver(), out);
    if status == STATUS_SUCCESS && !buffer.is_null() {
        // SAFETY: the client's out parameter; a bad pointer faults.
        unsafe { buffer.write(block) };
    }
    status
}

/// Makes the WDFMEMORY of memory with a buffer of its own, which goes if that fails.
pub(super) fn keep_memory(
    client: &Arc<Client>,
    memory: Memory,
    attributes: &Attributes,
    parent: HANDLE,
    out: *mut HANDLE,
) -> NTSTATUS {
    let (address, tag) = (memory.address(), memory.tag);
    let status = create_into(client, Kind::Memory(memory), attributes, parent, out);
    if let Some(tag) = tag.filter(|_| status != STATUS_SUCCESS) {
        ExFreePoolWithTag(address as PVOID, tag);
    }
    status
}

/// A WDFLOOKASIDE: memory objects of one size.
pub(crate) struct Lookaside {
    size: usize,
    tag: u32,
    pool_type: u32,
    attributes: Attributes,
}

pub(crate) extern "win64" fn WdfLookasideListCreate(
    globals: usize,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    size: usize,
    pool_type: u32,
    memory_attributes: *const WDF_OBJECT_ATTRIBUTES,
    tag: u32,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfLookasideListCreate", if pool::is_paged(pool_type) { PASSIVE_LEVEL } else { DISPATCH_LEVEL });
    if size == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let client = client(globals);
    let tag = if tag == 0 { client.tag() } else { tag };
    let lookaside = Lookaside { size, tag, pool_type, attributes: Attributes::read(memory_attributes) };
    create_into(&client, Kind::Lookaside(lookaside), &Attributes::read(attributes), client.driver(), out)
}

pub(crate) extern "win64" fn WdfMemoryCreateFromLookaside(
    _globals: usize,
    handle: HANDLE,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfMemoryCreateFromLookaside", DISPATCH_LEVEL);
    let object = object::find(handle);
    let lookaside = expect_kind!(object, Lookaside);
    match Memory::allocate(lookaside.size, lookaside.tag, lookaside.pool_type) {
        Some(memory) => keep_memory(&object.client, memory, &lookaside.attributes, object.client.driver(), out),
        None => STATUS_INSUFFICIENT_RESOURCES,
    }
}

pub(crate) extern "win64" fn WdfMemoryCreatePreallocated(
    globals: usize,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    buffer: PVOID,
    size: usize,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfMemoryCreatePreallocated", DISPATCH_LEVEL);
    if size == 0 || buffer.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    let client = client(globals);
    let memory = Memory::over(buffer, size);
    create_into(&client, Kind::Memory(memory), &Attributes::read(attributes), client.driver(), out)
}

pub(crate) extern "win64" fn WdfMemoryGetBuffer(_globals: usize, handle: HANDLE, size: *mut usize) -> PVOID {
    called("WdfMemoryGetBuffer", HIGH_LEVEL);
    let object = object::find(handle);
    let memory = expect_kind!(object, Memory);
    if !size.is_null() {
        // SAFETY: the client's out parameter; a bad pointer faults.
        unsafe { size.write(memory.size.get()) };
    }
    memory.buffer.get() as PVOID
}

impl Kind {
    /// What goes with an object that is deleted, before its cleanup callbacks: nothing of it runs any more afterwards.
    pub(super) fn dispose(&self) {
        match self {
            Kind::Device(device) => device.dispose(),
            Kind::WorkItem(item) if current().irql.get() == PASSIVE_LEVEL => wait(item),
            Kind::Timer(timer) => {
                stop(timer, current().irql.get() == PASSIVE_LEVEL);
            }
            Kind::Memory(memory) => memory.free(),
            Kind::Target(target) => target.dispose(),
            Kind::Request(request) => request.sending.dispose(request),
            Kind::Key(key) => {
                crate::nt::object::ZwClose(*key);
            }
            Kind::Collection(collection) => collection.dispose(),
            Kind::Dpc(dpc) => dpc.dispose(current().irql.get() == PASSIVE_LEVEL),
            Kind::WorkItem(_)
            | Kind::Text(_)
            | Kind::ResourceList
            | Kind::Lookaside(_)
            | Kind::Driver
            | Kind::File(_)
            | Kind::Queue(_)
            | Kind::SpinLock(..)
            | Kind::WaitLock(_)
            | Kind::General => {}
        }
    }
}
