//! The object manager: typed, counted objects, and the handles of a process to them.
#![allow(unsafe_code)] // compares type variables by address, and reaches object bodies

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::dispatcher::{KeResetEvent, KeSetEvent, initialize_header};
use super::irql::called;
use super::pool::{self, Owner};
use super::status::{
    STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH,
    STATUS_SUCCESS,
};
use super::strings::text;
use super::types::{
    ACCESS_MASK, APC_LEVEL, DISPATCH_LEVEL, EVENT_ALL_ACCESS, EVENT_NOTIFICATION_OBJECT, EVENT_SYNCHRONIZATION_OBJECT,
    FILE_OBJECT, HANDLE, KERNEL_MODE, KEVENT, NTSTATUS, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES,
    OBJECT_HANDLE_INFORMATION, PASSIVE_LEVEL, PVOID, UNICODE_STRING,
};
use super::{io, registry};
use crate::guard::violate;
use crate::image::Export;
use crate::image::unwind::{NOWHERE, Site, known, site};
use crate::kernel::Kernel;
use crate::nt::process::Process;
use crate::thread::current;
use crate::violation::Rule;

/// The type of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Event,
    File,
    Device,
    Driver,
    Process,
    Thread,
    Key,
    Callback,
}

struct Object {
    kind: Kind,
    pointers: usize,
    handles: usize,
}

/// The objects of a machine, by the address of their bodies.
#[derive(Default)]
pub(crate) struct Objects {
    objects: Mutex<HashMap<usize, Object>>,
}

/// An entry of a handle table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandleEntry {
    pub(crate) body: usize,
    pub(crate) kind: Kind,
    pub(crate) access: ACCESS_MASK,
    /// Where the driver opened it, if one did.
    site: Site,
}

/// The handle table of a process. Handles are multiples of four, and not used again soon.
#[derive(Default)]
pub(crate) struct Handles {
    entries: BTreeMap<HANDLE, HandleEntry>,
    last: HANDLE,
}

impl Handles {
    fn insert(&mut self, entry: HandleEntry) -> HANDLE {
        self.last += 4;
        self.entries.insert(self.last, entry);
        self.last
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The object that a handle names.
    pub(crate) fn body(&self, handle: HANDLE) -> Option<usize> {
        self.entries.get(&handle).map(|entry| entry.body)
    }

    /// All handles, in order.
    pub(crate) fn all(&self) -> Vec<HANDLE> {
        self.entries.keys().copied().collect()
    }
}

/// What a kernel handle has set, and a user's has not.
const KERNEL_HANDLE: HANDLE = 0xffff_ffff_8000_0000;
/// NtCurrentProcess() and NtCurrentThread().
const CURRENT_PROCESS: HANDLE = HANDLE::MAX;
const CURRENT_THREAD: HANDLE = HANDLE::MAX - 1;

const TAG: u32 = pool::tag(*b"ObOb");

/// A new object with a zeroed body and one reference. None if there is no memory.
pub(crate) fn create(kernel: &Kernel, kind: Kind, size: usize) -> Option<PVOID> {
    let body = kernel.pool.allocate(size, TAG, Owner::Kernel, true)?;
    kernel.objects.objects.lock().insert(body as usize, Object { kind, pointers: 1, handles: 0 });
    Some(body)
}

/// What is left of an object after a reference went.
enum Left {
    Unknown,
    Some(usize),
    None(Kind),
}

impl Objects {
    fn remove_reference(&self, body: usize) -> Left {
        let mut objects = self.objects.lock();
        let Some(object) = objects.get_mut(&body) else { return Left::Unknown };
        object.pointers -= 1;
        if object.pointers > 0 {
            return Left::Some(object.pointers);
        }
        let kind = object.kind;
        objects.remove(&body);
        Left::None(kind)
    }

    /// Adds a reference; the new count, or None if there is no such object.
    pub(crate) fn reference(&self, body: usize) -> Option<usize> {
        let mut objects = self.objects.lock();
        let object = objects.get_mut(&body)?;
        object.pointers += 1;
        Some(object.pointers)
    }

    /// Whether only one reference is left.
    pub(crate) fn is_last_reference(&self, body: usize) -> bool {
        self.objects.lock().get(&body).is_some_and(|object| object.pointers == 1)
    }

    pub(crate) fn kind(&self, body: usize) -> Option<Kind> {
        self.objects.lock().get(&body).map(|object| object.kind)
    }

    /// Live objects by type.
    pub(crate) fn count(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for object in self.objects.lock().values() {
            *counts.entry(object.kind).or_insert(0) += 1;
        }
        counts
    }

    /// Objects of a type that somebody refers to without a handle. Live processes and threads hold one reference themselves.
    pub(crate) fn referenced_without_handle(&self, kind: Kind) -> usize {
        let own = usize::from(matches!(kind, Kind::Process | Kind::Thread));
        let objects = self.objects.lock();
        objects.values().filter(|object| object.kind == kind && object.pointers > object.handles + own).count()
    }
}

/// Takes a reference away; deletes the object with the last one.
pub(crate) fn dereference(kernel: &Kernel, body: usize) -> usize {
    match kernel.objects.remove_reference(body) {
        Left::Unknown => violate(Rule::Object, format!("{body:#x} is no object, or it has been deleted")),
        Left::Some(count) => count,
        Left::None(kind) => {
            delete(kernel, body, kind);
            0
        }
    }
}

/// As [`dereference`], for objects whose deletion runs no driver code, from outside kernel mode too.
pub(crate) fn dereference_outside(kernel: &Kernel, body: usize) {
    if let Left::None(_) = kernel.objects.remove_reference(body) {
        free_body(kernel, body);
    }
}

fn free_body(kernel: &Kernel, body: usize) {
    if let Err((rule, text)) = kernel.pool.free(body as PVOID, TAG) {
        kernel.report_at(rule, format!("the body of an object: {text}"), "", &[]);
    }
}

fn delete(kernel: &Kernel, body: usize, kind: Kind) {
    match kind {
        Kind::File => {
            // IRP_MJ_CLOSE is for PASSIVE_LEVEL, and not for the middle of a driver's completion.
            if current().irql.get() == PASSIVE_LEVEL {
                io::file::close(kernel, body);
            } else {
                let kernel = current().kernel.clone();
                kernel.clone().workers.queue(&kernel, move || io::file::close(&current().kernel, body));
            }
        }
        Kind::Key => {
            registry::forget(kernel, body);
            free_body(kernel, body);
        }
        Kind::Callback => {
            kernel.callback_objects.forget(body);
            free_body(kernel, body);
        }
        Kind::Event => {
            kernel.extension::<NamedEvents>().0.lock().retain(|_, event| *event != body);
            free_body(kernel, body);
        }
        Kind::Device | Kind::Driver | Kind::Process | Kind::Thread => free_body(kernel, body),
    }
}

/// Frees what is left of a file object after its IRP_MJ_CLOSE, or after a failed open.
pub(crate) fn free_file(kernel: &Kernel, body: usize) {
    free_body(kernel, body);
}

/// Removes a file object that was never opened.
pub(crate) fn discard(kernel: &Kernel, body: usize) {
    if let Left::None(_) = kernel.objects.remove_reference(body) {
        free_body(kernel, body);
    }
}

/// Enters a handle in a process's table; the object gets a reference and a handle.
pub(crate) fn open(kernel: &Kernel, process: &Process, body: usize, access: ACCESS_MASK) -> Option<HANDLE> {
    let kind = {
        let mut objects = kernel.objects.objects.lock();
        let object = objects.get_mut(&body)?;
        object.pointers += 1;
        object.handles += 1;
        object.kind
    };
    Some(process.handles.lock().insert(HandleEntry { body, kind, access, site: site() }))
}

/// How many kernel handles are open, and where the driver opened the oldest.
pub(crate) fn kernel_handles(kernel: &Kernel) -> (usize, Vec<usize>) {
    let system = kernel.processes.system(kernel);
    let handles = system.handles.lock();
    let oldest = handles.entries.values().next();
    (handles.len(), oldest.map_or_else(Vec::new, |entry| known(entry.site)))
}

/// A kernel handle with all access.
pub(crate) fn open_kernel_handle(kernel: &Kernel, body: usize) -> HANDLE {
    let system = kernel.processes.system(kernel);
    open(kernel, &system, body, ACCESS_MASK::MAX).map_or(0, as_kernel_handle)
}

/// A handle in the system's table, as drivers know it.
pub(crate) fn as_kernel_handle(handle: HANDLE) -> HANDLE {
    handle | KERNEL_HANDLE
}

/// The table a handle belongs to, and the handle in it.
fn table(kernel: &Kernel, handle: HANDLE) -> (Arc<Process>, HANDLE) {
    if handle & KERNEL_HANDLE == KERNEL_HANDLE && handle != CURRENT_PROCESS && handle != CURRENT_THREAD {
        (kernel.processes.system(kernel), handle & !KERNEL_HANDLE)
    } else {
        (current().thread.process.clone(), handle)
    }
}

/// Looks a handle up in the current process, or among the kernel handles, and references its object: another thread may close the
/// handle at any time. Its two low bits are the owner's own.
pub(crate) fn reference_by_handle(kernel: &Kernel, handle: HANDLE) -> Option<HandleEntry> {
    let (process, handle) = table(kernel, handle);
    reference_in(kernel, &process, handle)
}

/// The table stays locked until the object has its reference.
fn reference_in(kernel: &Kernel, process: &Process, handle: HANDLE) -> Option<HandleEntry> {
    let handles = process.handles.lock();
    let entry = handles.entries.get(&(handle & !3)).copied()?;
    kernel.objects.reference(entry.body).map(|_| entry)
}

/// Closes a handle of a process. The last one to a file sends IRP_MJ_CLEANUP.
pub(crate) fn close(kernel: &Kernel, process: &Process, handle: HANDLE) -> NTSTATUS {
    let Some(entry) = process.handles.lock().entries.remove(&handle) else { return STATUS_INVALID_HANDLE };
    let last = {
        let mut objects = kernel.objects.objects.lock();
        objects.get_mut(&entry.body).is_some_and(|object| {
            object.handles -= 1;
            object.handles == 0
        })
    };
    if last && entry.kind == Kind::File {
        io::file::cleanup(kernel, entry.body);
    }
    dereference(kernel, entry.body);
    STATUS_SUCCESS
}

/// A type of objects, as `*ExEventObjectType` and its like point to. Drivers that are built with headers which declare those variables
/// as imported read once more through what they get: as on Windows, they find the type again, by the head of an empty list.
#[repr(C)]
pub(crate) struct OBJECT_TYPE {
    /// The objects of this type: a list that Windows keeps only while it is debugged.
    TypeList: [&'static Self; 2],
    kind: Kind,
}

macro_rules! types {
    ($($name:ident = $kind:ident),* $(,)?) => {
        $(pub(crate) static $name: &OBJECT_TYPE = {
            static TYPE: OBJECT_TYPE = OBJECT_TYPE { TypeList: [&TYPE; 2], kind: Kind::$kind };
            &TYPE
        };)*

        /// The variables, by the names under which ntoskrnl.exe exports them.
        pub(super) fn type_variables() -> Vec<(&'static str, Export)> {
            vec![$((stringify!($name), Export::Data(&raw const $name as usize))),*]
        }
    };
}

types! {
    ExEventObjectType = Event,
    IoFileObjectType = File,
    IoDeviceObjectType = Device,
    IoDriverObjectType = Driver,
    PsProcessType = Process,
    PsThreadType = Thread,
    CmKeyObjectType = Key,
}

/// The rights that a generic right stands for, of a type.
fn map_generic(kind: Kind, access: ACCESS_MASK) -> ACCESS_MASK {
    use super::types::{
        FILE_ALL_ACCESS, FILE_GENERIC_EXECUTE, FILE_GENERIC_READ, FILE_GENERIC_WRITE, GENERIC_ALL, GENERIC_EXECUTE,
        GENERIC_READ, GENERIC_WRITE,
    };
    let [read, write, execute, all] = match kind {
        Kind::File | Kind::Device => [FILE_GENERIC_READ, FILE_GENERIC_WRITE, FILE_GENERIC_EXECUTE, FILE_ALL_ACCESS],
        Kind::Event => [0x0002_0001, 0x0002_0002, 0x0012_0000, EVENT_ALL_ACCESS],
        Kind::Driver | Kind::Process | Kind::Thread | Kind::Key | Kind::Callback => {
            [0x0002_0000, 0x0002_0000, 0x0002_0000, 0x001f_ffff]
        }
    };
    let mut mapped = access & 0x0fff_ffff;
    for (generic, rights) in
        [(GENERIC_READ, read), (GENERIC_WRITE, write), (GENERIC_EXECUTE, execute), (GENERIC_ALL, all)]
    {
        if access & generic != 0 {
            mapped |= rights;
        }
    }
    mapped
}

pub(crate) extern "win64" fn ObReferenceObjectByHandle(
    handle: HANDLE,
    access: ACCESS_MASK,
    object_type: Option<&OBJECT_TYPE>,
    mode: i8,
    object: &mut PVOID,
    information: Option<&mut OBJECT_HANDLE_INFORMATION>,
) -> NTSTATUS {
    let current = called("ObReferenceObjectByHandle", PASSIVE_LEVEL);
    let kernel = &current.kernel;
    let wanted = object_type.map(|object_type| object_type.kind);
    let pseudo = match handle {
        CURRENT_PROCESS => Some((Kind::Process, current.thread.process.body() as usize)),
        CURRENT_THREAD => Some((Kind::Thread, current.thread.body() as usize)),
        _ => None,
    };
    let referenced = match pseudo {
        Some((kind, body)) => {
            kernel.objects.reference(body).map(|_| HandleEntry { body, kind, access: ACCESS_MASK::MAX, site: NOWHERE })
        }
        // A user's handle value can never name a kernel handle.
        None if mode != KERNEL_MODE && handle & KERNEL_HANDLE == KERNEL_HANDLE => None,
        None => reference_by_handle(kernel, handle),
    };
    let Some(entry) = referenced else { return STATUS_INVALID_HANDLE };
    let refused = if wanted.is_some_and(|wanted| wanted != entry.kind) {
        Some(STATUS_OBJECT_TYPE_MISMATCH)
    } else if mode != KERNEL_MODE && map_generic(entry.kind, access) & !entry.access != 0 {
        Some(STATUS_ACCESS_DENIED)
    } else {
        None
    };
    if let Some(refused) = refused {
        dereference(kernel, entry.body);
        return refused;
    }
    if let Some(information) = information {
        *information = OBJECT_HANDLE_INFORMATION { HandleAttributes: 0, GrantedAccess: entry.access };
    }
    *object = entry.body as PVOID;
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn ObReferenceObjectByHandleWithTag(
    handle: HANDLE,
    access: ACCESS_MASK,
    object_type: Option<&OBJECT_TYPE>,
    mode: i8,
    _tag: u32,
    object: &mut PVOID,
    information: Option<&mut OBJECT_HANDLE_INFORMATION>,
) -> NTSTATUS {
    ObReferenceObjectByHandle(handle, access, object_type, mode, object, information)
}

pub(crate) extern "win64" fn ObReferenceObjectByPointer(
    object: PVOID,
    _access: ACCESS_MASK,
    object_type: Option<&OBJECT_TYPE>,
    _mode: i8,
) -> NTSTATUS {
    let current = called("ObReferenceObjectByPointer", DISPATCH_LEVEL);
    if object_type.is_some_and(|wanted| current.kernel.objects.kind(object as usize) != Some(wanted.kind)) {
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    ObfReferenceObject(object);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn ObOpenObjectByPointer(
    object: PVOID,
    attributes: u32,
    _access_state: PVOID,
    access: ACCESS_MASK,
    object_type: Option<&OBJECT_TYPE>,
    _mode: i8,
    handle: &std::cell::Cell<HANDLE>,
) -> NTSTATUS {
    let current = called("ObOpenObjectByPointer", APC_LEVEL);
    let kernel = &current.kernel;
    let body = object as usize;
    let Some(kind) = kernel.objects.kind(body) else {
        violate(Rule::Object, format!("{object:p} is no object, or it has been deleted"))
    };
    if object_type.is_some_and(|wanted| wanted.kind != kind) {
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    if kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let opened = if attributes & OBJ_KERNEL_HANDLE != 0 {
        Some(open_kernel_handle(kernel, body))
    } else {
        open(kernel, &current.thread.process, body, map_generic(kind, access))
    };
    handle.set(opened.unwrap_or(0));
    STATUS_SUCCESS
}

/// The names of events that have one, and their bodies.
#[derive(Default)]
struct NamedEvents(Mutex<BTreeMap<String, usize>>);

/// Makes a named event, or opens it. A kernel handle, and the event.
fn named_event(
    call: &'static str,
    name: &UNICODE_STRING,
    notification: bool,
    handle: &std::cell::Cell<HANDLE>,
) -> PVOID {
    let kernel = &called(call, PASSIVE_LEVEL).kernel;
    let name = text(name).to_lowercase();
    let names = kernel.extension::<NamedEvents>();
    if kernel.faults.allocation_fails() {
        return std::ptr::null_mut();
    }
    let known = names.0.lock().get(&name).copied().filter(|body| kernel.objects.reference(*body).is_some());
    // The state of a new one is signaled.
    let Some(body) = known.or_else(|| create_event(kernel, notification, true)) else { return std::ptr::null_mut() };
    names.0.lock().insert(name, body);
    handle.set(open_kernel_handle(kernel, body));
    dereference(kernel, body);
    body as PVOID
}

pub(crate) extern "win64" fn IoCreateNotificationEvent(
    name: &UNICODE_STRING,
    handle: &std::cell::Cell<HANDLE>,
) -> PVOID {
    named_event("IoCreateNotificationEvent", name, true, handle)
}

pub(crate) extern "win64" fn IoCreateSynchronizationEvent(
    name: &UNICODE_STRING,
    handle: &std::cell::Cell<HANDLE>,
) -> PVOID {
    named_event("IoCreateSynchronizationEvent", name, false, handle)
}

/// The event of a handle; the state before.
fn change_event(call: &'static str, handle: HANDLE, before: Option<&std::cell::Cell<i32>>, set: bool) -> NTSTATUS {
    let kernel = &called(call, PASSIVE_LEVEL).kernel;
    let Some(entry) = reference_by_handle(kernel, handle) else { return STATUS_INVALID_HANDLE };
    let status = if entry.kind == Kind::Event {
        let event = event(entry.body);
        let state = if set { KeSetEvent(event, 0, 0) } else { KeResetEvent(event) };
        if let Some(before) = before {
            before.set(state);
        }
        STATUS_SUCCESS
    } else {
        STATUS_OBJECT_TYPE_MISMATCH
    };
    dereference(kernel, entry.body);
    status
}

pub(crate) extern "win64" fn ZwSetEvent(handle: HANDLE, before: Option<&std::cell::Cell<i32>>) -> NTSTATUS {
    change_event("ZwSetEvent", handle, before, true)
}

pub(crate) extern "win64" fn ZwResetEvent(handle: HANDLE, before: Option<&std::cell::Cell<i32>>) -> NTSTATUS {
    change_event("ZwResetEvent", handle, before, false)
}

pub(crate) extern "win64" fn ObfReferenceObject(object: PVOID) -> isize {
    let current = called("ObfReferenceObject", DISPATCH_LEVEL);
    match current.kernel.objects.reference(object as usize) {
        Some(count) => count.cast_signed(),
        None => violate(Rule::Object, format!("{object:p} is no object, or it has been deleted")),
    }
}

pub(crate) extern "win64" fn ObfDereferenceObject(object: PVOID) -> isize {
    let current = called("ObfDereferenceObject", DISPATCH_LEVEL);
    dereference(&current.kernel, object as usize).cast_signed()
}

/// A macro in the C headers, and a function for who does not use them.
pub(crate) extern "win64" fn ObDereferenceObject(object: PVOID) -> isize {
    ObfDereferenceObject(object)
}

/// The last reference's end comes on a worker, whatever the IRQL.
pub(crate) extern "win64" fn ObDereferenceObjectDeferDelete(object: PVOID) {
    let current = called("ObDereferenceObjectDeferDelete", DISPATCH_LEVEL);
    let body = object as usize;
    match current.kernel.objects.remove_reference(body) {
        Left::Unknown => violate(Rule::Object, format!("{body:#x} is no object, or it has been deleted")),
        Left::Some(_) => {}
        Left::None(kind) => {
            let kernel = current.kernel.clone();
            kernel.clone().workers.queue(&kernel, move || delete(&crate::thread::current().kernel, body, kind));
        }
    }
}

pub(crate) extern "win64" fn ObfReferenceObjectWithTag(object: PVOID, _tag: u32) -> isize {
    ObfReferenceObject(object)
}

pub(crate) extern "win64" fn ObfDereferenceObjectWithTag(object: PVOID, _tag: u32) -> isize {
    ObfDereferenceObject(object)
}

pub(crate) extern "win64" fn ZwClose(handle: HANDLE) -> NTSTATUS {
    let current = called("ZwClose", PASSIVE_LEVEL);
    let (process, handle) = table(&current.kernel, handle);
    let status = close(&current.kernel, &process, handle);
    if status == STATUS_INVALID_HANDLE {
        violate(Rule::Object, format!("ZwClose of {handle:#x}, which is no open handle"));
    }
    status
}

/// An event object: its KEVENT. None if there is no memory.
pub(crate) fn create_event(kernel: &Kernel, notification: bool, state: bool) -> Option<usize> {
    let body = create(kernel, Kind::Event, size_of::<KEVENT>())?;
    let kind = if notification { EVENT_NOTIFICATION_OBJECT } else { EVENT_SYNCHRONIZATION_OBJECT };
    initialize_header(&event(body as usize).Header, kind, size_of::<KEVENT>(), i32::from(state));
    Some(body as usize)
}

/// The event with this body.
pub(crate) fn event<'a>(body: usize) -> &'a KEVENT {
    // SAFETY: the caller holds a reference to an event object, or a handle to it.
    unsafe { &*(body as *const KEVENT) }
}

/// The file object with this body.
pub(crate) fn file<'a>(body: usize) -> &'a FILE_OBJECT {
    // SAFETY: the caller holds a reference to a file object, or a handle to it.
    unsafe { &*(body as *const FILE_OBJECT) }
}

pub(crate) extern "win64" fn ZwCreateEvent(
    handle: &std::cell::Cell<HANDLE>,
    access: ACCESS_MASK,
    attributes: Option<&OBJECT_ATTRIBUTES>,
    kind: u32,
    state: u8,
) -> NTSTATUS {
    let current = called("ZwCreateEvent", PASSIVE_LEVEL);
    let kernel = &current.kernel;
    if kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let Some(body) = create_event(kernel, kind == 0, state != 0) else { return STATUS_INSUFFICIENT_RESOURCES };
    let in_kernel = attributes.is_some_and(|attributes| attributes.Attributes & OBJ_KERNEL_HANDLE != 0);
    let access = map_generic(Kind::Event, access);
    let opened = if in_kernel {
        Some(open_kernel_handle(kernel, body))
    } else {
        open(kernel, &current.thread.process, body, access)
    };
    dereference(kernel, body);
    handle.set(opened.unwrap_or(0));
    STATUS_SUCCESS
}

/// A process's event and a handle to it; for tests and the user-mode library.
pub(crate) fn create_user_event(
    kernel: &Kernel,
    process: &Process,
    notification: bool,
    access: ACCESS_MASK,
) -> Option<HANDLE> {
    let body = create_event(kernel, notification, false)?;
    let handle = open(kernel, process, body, map_generic(Kind::Event, access));
    dereference_outside(kernel, body);
    handle
}

/// The body of an event that a process has a handle to.
pub(crate) fn user_event(process: &Process, handle: HANDLE) -> Option<usize> {
    let entry = process.handles.lock().entries.get(&handle).copied()?;
    (entry.kind == Kind::Event).then_some(entry.body)
}

/// Whether an event is signaled.
pub(crate) fn is_signaled(body: usize) -> bool {
    event(body).Header.SignalState.load(Ordering::Acquire) > 0
}

/// The entry of a file handle of a process.
pub(crate) fn user_file(process: &Process, handle: HANDLE) -> Result<HandleEntry, NTSTATUS> {
    entry_of_file(&process.handles.lock().entries, handle)
}

fn entry_of_file(entries: &BTreeMap<HANDLE, HandleEntry>, handle: HANDLE) -> Result<HandleEntry, NTSTATUS> {
    let entry = entries.get(&handle).copied().ok_or(STATUS_INVALID_HANDLE)?;
    if entry.kind == Kind::File { Ok(entry) } else { Err(STATUS_OBJECT_TYPE_MISMATCH) }
}

/// Does something with the file object of a handle, which another thread of the process may close meanwhile.
pub(crate) fn with_user_file<T>(
    kernel: &Kernel,
    process: &Process,
    handle: HANDLE,
    body: impl FnOnce(HandleEntry) -> Result<T, NTSTATUS>,
) -> Result<T, NTSTATUS> {
    let entry = {
        let handles = process.handles.lock();
        let entry = entry_of_file(&handles.entries, handle)?;
        kernel.objects.reference(entry.body);
        entry
    };
    let result = body(entry);
    dereference(kernel, entry.body);
    result
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    ObReferenceObjectByHandle,
    ObReferenceObjectByHandleWithTag,
    ObReferenceObjectByPointer,
    ObfReferenceObject,
    ObfDereferenceObject,
    ObDereferenceObject,
    ObDereferenceObjectDeferDelete,
    ObfReferenceObjectWithTag,
    ObfDereferenceObjectWithTag,
    ZwClose,
    ZwCreateEvent,
    ZwSetEvent,
    ZwResetEvent,
    ObOpenObjectByPointer,
    IoCreateNotificationEvent,
    IoCreateSynchronizationEvent,
];

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::machine::Machine;

    /// How long the look-up may take to begin, and how long it is seen to keep the table.
    const PATIENCE: Duration = Duration::from_secs(20);
    const MOMENT: Duration = Duration::from_millis(20);

    #[test]
    fn a_handle_is_not_closed_between_its_look_up_and_the_reference_to_its_object() {
        let machine = Machine::new();
        let referenced = machine.on_system_thread(|kernel| {
            let system = kernel.processes.system(kernel);
            let body = create_event(kernel, true, false).expect("an event");
            let handle = open(kernel, &system, body, EVENT_ALL_ACCESS).expect("a handle");
            dereference(kernel, body);
            let entry = std::thread::scope(|scope| {
                // The reference has to wait for the objects, and whoever would close the handle has to wait for it.
                let objects = kernel.objects.objects.lock();
                let looking = scope.spawn(|| reference_in(kernel, &system, handle));
                let begin = Instant::now();
                while !system.handles.is_locked() {
                    assert!(begin.elapsed() < PATIENCE, "the table is not locked while the reference waits");
                    std::thread::yield_now();
                }
                let closing = system.handles.try_lock_for(MOMENT).is_some();
                drop(objects);
                assert!(!closing, "the handle can be closed meanwhile");
                looking.join().expect("no panic").expect("the handle is known")
            });
            let pointers = kernel.objects.objects.lock().get(&body).map(|object| object.pointers);
            dereference(kernel, entry.body);
            close(kernel, &system, handle);
            (entry.body == body, pointers, kernel.objects.kind(body))
        });
        assert_eq!(referenced.expect("no violation"), (true, Some(2), None));
    }
}
