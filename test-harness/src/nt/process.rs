//! Processes and threads, as the kernel sees them.
#![allow(unsafe_code)] // reaches the driver-visible bodies of processes and threads

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::dispatcher::initialize_header;
use super::irql::called;
use super::object::{self, Handles, Kind};
use super::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_CID, STATUS_SUCCESS};
use super::types::{
    APC_LEVEL, CLIENT_ID, DISPATCH_LEVEL, EPROCESS, ETHREAD, HANDLE, HIGH_LEVEL, IRP, NTSTATUS, PASSIVE_LEVEL,
    PEPROCESS, PETHREAD, PROCESS_OBJECT, PVOID, THREAD_OBJECT,
};
use crate::guard::{callout, escape, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::thread::{self, current};
use crate::violation::Rule;

/// Identifiers of processes and threads, and the numbers spin locks know owners by: multiples of 4, unique in this host process.
static NEXT_ID: AtomicUsize = AtomicUsize::new(4);

fn next_id() -> usize {
    NEXT_ID.fetch_add(4, Ordering::Relaxed)
}

/// The priority of threads that nobody has given another.
const NORMAL_PRIORITY: i32 = 8;

/// What kind of process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessKind {
    /// The System process, which worker and system threads belong to.
    System,
    /// A user's; `elevated` as the Administrators group is enabled, `wow64` as it is a 32-bit one.
    User {
        /// Whether the Administrators group is enabled in its token.
        elevated: bool,
        /// Whether it is a 32-bit process.
        wow64: bool,
    },
}

/// A process.
pub(crate) struct Process {
    pub(crate) id: usize,
    pub(crate) kind: ProcessKind,
    /// The EPROCESS.
    body: usize,
    pub(crate) handles: Mutex<Handles>,
    pub(crate) exiting: AtomicBool,
}

impl Process {
    pub(crate) fn body(&self) -> PEPROCESS {
        self.body as PEPROCESS
    }

    pub(crate) fn header(&self) -> &EPROCESS {
        // SAFETY: the body lives in kernel-owned pool until this process object is dropped from the machine.
        unsafe { &*self.body() }
    }

    pub(crate) fn is_wow64(&self) -> bool {
        matches!(self.kind, ProcessKind::User { wow64: true, .. })
    }
}

/// A thread: of the system, or one by which a process entered the kernel.
pub(crate) struct Thread {
    /// Unique, and not zero: spin locks hold it.
    pub(crate) id: usize,
    pub(crate) process: Arc<Process>,
    /// The ETHREAD.
    body: usize,
}

impl Thread {
    pub(crate) fn body(&self) -> PETHREAD {
        self.body as PETHREAD
    }

    fn header(&self) -> &ETHREAD {
        // SAFETY: the thread holds a reference to its body until it has ended.
        unsafe { &*self.body() }
    }

    /// Ends the thread object: waits on it are satisfied, and its own reference goes.
    pub(crate) fn end(&self, kernel: &Kernel) {
        kernel.dispatcher.set(&self.header().Header, |_| 1);
        kernel.processes.threads.lock().remove(&self.body);
        object::dereference_outside(kernel, self.body);
    }
}

/// The processes and threads of a machine.
#[derive(Default)]
pub(crate) struct Processes {
    system: std::sync::OnceLock<Arc<Process>>,
    processes: Mutex<HashMap<usize, Arc<Process>>>,
    threads: Mutex<HashMap<usize, Arc<Thread>>>,
}

impl Processes {
    /// The System process.
    pub(crate) fn system(&self, kernel: &Kernel) -> Arc<Process> {
        self.system
            .get_or_init(|| self.create(kernel, ProcessKind::System).expect("memory for the System process"))
            .clone()
    }

    /// Where PsInitialSystemProcess lies, as long as the machine is there.
    pub(crate) fn initial(&self, kernel: &Kernel) -> usize {
        &raw const self.system(kernel).body as usize
    }

    /// A new process. None if there is no memory.
    pub(crate) fn create(&self, kernel: &Kernel, kind: ProcessKind) -> Option<Arc<Process>> {
        let id = next_id();
        let body = object::create(kernel, Kind::Process, size_of::<EPROCESS>())? as usize;
        let process = Process { id, kind, body, handles: Mutex::default(), exiting: AtomicBool::new(false) };
        initialize_header(&process.header().Header, PROCESS_OBJECT, size_of::<EPROCESS>(), 0);
        process.header().UniqueProcessId.set(id);
        let process = Arc::new(process);
        self.processes.lock().insert(body, process.clone());
        Some(process)
    }

    /// A new thread of a process. None if there is no memory.
    pub(crate) fn create_thread(&self, kernel: &Kernel, process: &Arc<Process>) -> Option<Arc<Thread>> {
        let body = object::create(kernel, Kind::Thread, size_of::<ETHREAD>())? as usize;
        let thread = Arc::new(Thread { id: next_id(), process: process.clone(), body });
        initialize_header(&thread.header().Header, THREAD_OBJECT, size_of::<ETHREAD>(), 0);
        thread.header().UniqueThreadId.set(thread.id);
        thread.header().Priority.set(NORMAL_PRIORITY);
        thread.header().Process.set(process.body());
        self.threads.lock().insert(body, thread.clone());
        Some(thread)
    }

    /// The thread with this body.
    pub(crate) fn find_thread(&self, body: PETHREAD) -> Option<Arc<Thread>> {
        self.threads.lock().get(&(body as usize)).cloned()
    }

    /// Forgets a process that has exited; its body stays while a driver holds a reference.
    pub(crate) fn remove(&self, kernel: &Kernel, process: &Process) {
        kernel.dispatcher.set(&process.header().Header, |_| 1);
        let gone = self.processes.lock().remove(&process.body);
        drop(gone);
        object::dereference_outside(kernel, process.body);
    }
}

/// Starts a system thread that runs `body` in kernel mode.
pub(crate) fn start_system_thread(
    kernel: &Arc<Kernel>,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<Arc<Thread>, NTSTATUS> {
    start_known_thread(kernel, name, |_| (), body).map(|(thread, ())| thread)
}

/// As [`start_system_thread`]; `before` has the thread before it runs, and may end.
fn start_known_thread<T>(
    kernel: &Arc<Kernel>,
    name: &str,
    before: impl FnOnce(&Thread) -> T,
    body: impl FnOnce() + Send + 'static,
) -> Result<(Arc<Thread>, T), NTSTATUS> {
    let system = kernel.processes.system(kernel);
    let thread = kernel.processes.create_thread(kernel, &system).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    let known = before(&thread);
    let (owner, own) = (kernel.clone(), thread.clone());
    let run = move || {
        // A stopped machine has abandoned the body; there is nothing more to do for it.
        let _ = thread::enter(&owner, &own, body);
        own.end(&owner);
    };
    kernel.spawn(name, run).map_err(|_| STATUS_INSUFFICIENT_RESOURCES)?;
    Ok((thread, known))
}

pub(crate) type KSTART_ROUTINE = extern "win64" fn(PVOID);

struct Argument(PVOID);
// SAFETY: the driver itself hands the pointer to the other thread.
unsafe impl Send for Argument {}

pub(crate) extern "win64" fn PsCreateSystemThread(
    handle: &std::cell::Cell<HANDLE>,
    _access: u32,
    _attributes: PVOID,
    _process: HANDLE,
    client: Option<&mut CLIENT_ID>,
    routine: KSTART_ROUTINE,
    context: PVOID,
) -> NTSTATUS {
    let current = called("PsCreateSystemThread", PASSIVE_LEVEL);
    if current.kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let context = Argument(context);
    let open = |thread: &Thread| object::open_kernel_handle(&current.kernel, thread.body);
    let started = start_known_thread(&current.kernel, "system thread", open, move || {
        let context = context;
        callout("a system thread", || routine(context.0));
    });
    match started {
        Ok((thread, opened)) => {
            if let Some(client) = client {
                *client = CLIENT_ID { UniqueProcess: thread.process.id, UniqueThread: thread.id };
            }
            handle.set(opened);
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn PsTerminateSystemThread(_status: NTSTATUS) -> NTSTATUS {
    called("PsTerminateSystemThread", PASSIVE_LEVEL);
    escape()
}

pub(crate) extern "win64" fn PsGetCurrentProcessId() -> HANDLE {
    called("PsGetCurrentProcessId", HIGH_LEVEL).thread.process.id
}

pub(crate) extern "win64" fn PsGetCurrentThreadId() -> HANDLE {
    called("PsGetCurrentThreadId", HIGH_LEVEL).thread.id
}

pub(crate) extern "win64" fn PsLookupProcessByProcessId(id: HANDLE, found: &std::cell::Cell<PEPROCESS>) -> NTSTATUS {
    let kernel = &called("PsLookupProcessByProcessId", APC_LEVEL).kernel;
    let process = kernel.processes.processes.lock().values().find(|process| process.id == id).cloned();
    match process.filter(|process| kernel.objects.reference(process.body).is_some()) {
        Some(process) => {
            found.set(process.body());
            STATUS_SUCCESS
        }
        None => STATUS_INVALID_CID,
    }
}

pub(crate) extern "win64" fn PsLookupThreadByThreadId(id: HANDLE, found: &std::cell::Cell<PETHREAD>) -> NTSTATUS {
    let kernel = &called("PsLookupThreadByThreadId", APC_LEVEL).kernel;
    let thread = kernel.processes.threads.lock().values().find(|thread| thread.id == id).cloned();
    match thread.filter(|thread| kernel.objects.reference(thread.body).is_some()) {
        Some(thread) => {
            found.set(thread.body());
            STATUS_SUCCESS
        }
        None => STATUS_INVALID_CID,
    }
}

pub(crate) extern "win64" fn PsGetProcessId(process: &EPROCESS) -> HANDLE {
    called("PsGetProcessId", HIGH_LEVEL);
    process.UniqueProcessId.get()
}

pub(crate) extern "win64" fn IoGetCurrentProcess() -> PEPROCESS {
    called("IoGetCurrentProcess", HIGH_LEVEL).thread.process.body()
}

pub(crate) extern "win64" fn PsGetCurrentProcess() -> PEPROCESS {
    called("PsGetCurrentProcess", HIGH_LEVEL).thread.process.body()
}

pub(crate) extern "win64" fn PsGetCurrentThread() -> PETHREAD {
    called("PsGetCurrentThread", HIGH_LEVEL).thread.body()
}

pub(crate) extern "win64" fn KeGetCurrentThread() -> PETHREAD {
    called("KeGetCurrentThread", HIGH_LEVEL).thread.body()
}

pub(crate) extern "win64" fn KeGetCurrentProcessorNumberEx(number: Option<&mut [u8; 4]>) -> u32 {
    called("KeGetCurrentProcessorNumberEx", super::types::HIGH_LEVEL);
    if let Some(number) = number {
        *number = [0; 4];
    }
    0
}

pub(crate) extern "win64" fn KeQueryActiveProcessorCountEx(_group: u16) -> u32 {
    called("KeQueryActiveProcessorCountEx", super::types::HIGH_LEVEL);
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

pub(crate) extern "win64" fn KeQueryActiveProcessorCount(affinity: Option<&std::cell::Cell<usize>>) -> u32 {
    called("KeQueryActiveProcessorCount", HIGH_LEVEL);
    if let Some(affinity) = affinity {
        affinity.set(KeQueryActiveProcessors());
    }
    KeQueryActiveProcessorCountEx(0)
}

pub(crate) extern "win64" fn KeQueryActiveProcessors() -> usize {
    called("KeQueryActiveProcessors", HIGH_LEVEL);
    let count = KeQueryActiveProcessorCountEx(0).min(usize::BITS);
    usize::MAX >> (usize::BITS - count.max(1))
}

pub(crate) extern "win64" fn KeQueryMaximumProcessorCount() -> u32 {
    called("KeQueryMaximumProcessorCount", HIGH_LEVEL);
    KeQueryActiveProcessorCountEx(0)
}

pub(crate) extern "win64" fn KeQueryMaximumProcessorCountEx(group: u16) -> u32 {
    called("KeQueryMaximumProcessorCountEx", HIGH_LEVEL);
    KeQueryActiveProcessorCountEx(group)
}

pub(crate) extern "win64" fn PsGetThreadId(thread: &ETHREAD) -> HANDLE {
    called("PsGetThreadId", HIGH_LEVEL);
    thread.UniqueThreadId.get()
}

pub(crate) extern "win64" fn PsGetThreadProcessId(thread: &ETHREAD) -> HANDLE {
    called("PsGetThreadProcessId", HIGH_LEVEL);
    // SAFETY: a thread's process stays as long as the thread does.
    unsafe { &*thread.Process.get() }.UniqueProcessId.get()
}

/// The host chooses the processors of its threads; what a driver wants is not kept, and what it had before was all.
pub(crate) extern "win64" fn KeSetSystemAffinityThreadEx(_affinity: usize) -> usize {
    called("KeSetSystemAffinityThreadEx", DISPATCH_LEVEL);
    0
}

pub(crate) extern "win64" fn KeRevertToUserAffinityThreadEx(_affinity: usize) {
    called("KeRevertToUserAffinityThreadEx", DISPATCH_LEVEL);
}

pub(crate) extern "win64" fn KeSetSystemAffinityThread(_affinity: usize) {
    called("KeSetSystemAffinityThread", DISPATCH_LEVEL);
}

pub(crate) extern "win64" fn KeRevertToUserAffinityThread() {
    called("KeRevertToUserAffinityThread", DISPATCH_LEVEL);
}

/// Threads of the host keep their own floating-point registers, whatever a driver does with them.
pub(crate) extern "win64" fn KeSaveExtendedProcessorState(_mask: u64, _save: PVOID) -> NTSTATUS {
    called("KeSaveExtendedProcessorState", DISPATCH_LEVEL);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn KeRestoreExtendedProcessorState(_save: PVOID) {
    called("KeRestoreExtendedProcessorState", DISPATCH_LEVEL);
}

pub(crate) extern "win64" fn KeSaveFloatingPointState(_save: PVOID) -> NTSTATUS {
    called("KeSaveFloatingPointState", DISPATCH_LEVEL);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn KeRestoreFloatingPointState(_save: PVOID) -> NTSTATUS {
    called("KeRestoreFloatingPointState", DISPATCH_LEVEL);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn IoThreadToProcess(thread: &ETHREAD) -> PEPROCESS {
    called("IoThreadToProcess", HIGH_LEVEL);
    thread.Process.get()
}

pub(crate) extern "win64" fn PsIsSystemThread(thread: &ETHREAD) -> u8 {
    let current = called("PsIsSystemThread", HIGH_LEVEL);
    u8::from(thread.Process.get() == current.kernel.processes.system(&current.kernel).body())
}

/// The processor mode that the system call came from which the thread is in: a user's process has none other here.
pub(crate) extern "win64" fn ExGetPreviousMode() -> i8 {
    let current = called("ExGetPreviousMode", PASSIVE_LEVEL);
    match current.thread.process.kind {
        ProcessKind::System => super::types::KERNEL_MODE,
        ProcessKind::User { .. } => super::types::USER_MODE,
    }
}

/// Threads of the host have its own priorities: what a driver wants is noted, and told.
pub(crate) extern "win64" fn KeSetPriorityThread(thread: &ETHREAD, priority: i32) -> i32 {
    called("KeSetPriorityThread", PASSIVE_LEVEL);
    if !(1..=31).contains(&priority) {
        violate(Rule::Object, format!("KeSetPriorityThread: {priority} is no priority (1 to 31)"));
    }
    thread.Priority.replace(priority)
}

pub(crate) extern "win64" fn KeQueryPriorityThread(thread: &ETHREAD) -> i32 {
    called("KeQueryPriorityThread", PASSIVE_LEVEL);
    thread.Priority.get()
}

/// The process whose thread issued a packet.
fn requestor(irp: &IRP) -> Option<Arc<Process>> {
    let thread = current().kernel.processes.find_thread(irp.Thread.get())?;
    Some(thread.process.clone())
}

pub(crate) extern "win64" fn IoGetRequestorProcess(irp: &IRP) -> PEPROCESS {
    called("IoGetRequestorProcess", DISPATCH_LEVEL);
    requestor(irp).map_or(std::ptr::null_mut(), |process| process.body())
}

pub(crate) extern "win64" fn IoGetRequestorProcessId(irp: &IRP) -> u32 {
    called("IoGetRequestorProcessId", DISPATCH_LEVEL);
    requestor(irp).map_or(0, |process| u32::try_from(process.id).unwrap_or(u32::MAX))
}

pub(crate) extern "win64" fn IoIs32bitProcess(irp: Option<&IRP>) -> u8 {
    let current = called("IoIs32bitProcess", DISPATCH_LEVEL);
    let wow64 = match irp {
        Some(irp) => requestor(irp).is_some_and(|process| process.is_wow64()),
        None => current.thread.process.is_wow64(),
    };
    u8::from(wow64)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    PsLookupProcessByProcessId,
    PsLookupThreadByThreadId,
    KeQueryActiveProcessorCount,
    KeQueryActiveProcessors,
    KeQueryMaximumProcessorCount,
    KeQueryMaximumProcessorCountEx,
    PsGetThreadId,
    PsGetThreadProcessId,
    KeSetSystemAffinityThreadEx,
    KeRevertToUserAffinityThreadEx,
    KeSetSystemAffinityThread,
    KeRevertToUserAffinityThread,
    KeSaveExtendedProcessorState,
    KeRestoreExtendedProcessorState,
    KeSaveFloatingPointState,
    KeRestoreFloatingPointState,
    IoThreadToProcess,
    PsIsSystemThread,
    ExGetPreviousMode,
    KeSetPriorityThread,
    KeQueryPriorityThread,
    PsCreateSystemThread,
    PsTerminateSystemThread,
    PsGetCurrentProcessId,
    PsGetCurrentThreadId,
    PsGetProcessId,
    IoGetCurrentProcess,
    PsGetCurrentProcess,
    PsGetCurrentThread,
    KeGetCurrentThread,
    KeGetCurrentProcessorNumberEx,
    KeQueryActiveProcessorCountEx,
    IoGetRequestorProcess,
    IoGetRequestorProcessId,
    IoIs32bitProcess,
];
