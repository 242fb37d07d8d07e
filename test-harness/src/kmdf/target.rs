//! WDFIOTARGET: where a client sends requests, the device below its own or one that it opens.
#![allow(unsafe_code)] // reads the client's structures

use std::cell::Cell;
use std::collections::VecDeque;
use std::ptr;
use std::time::Duration;

use parking_lot::Mutex;

use super::bind::client;
use super::device::Device;
use super::object::{self, Attributes, Kind, Object, create_into, expect_kind, named_parent};
use super::pnp;
use super::types::{HANDLE, Name, WDF_IO_TARGET_OPEN_PARAMS, WDF_OBJECT_ATTRIBUTES};
use crate::guard::{escape, violate};
use crate::nt::io::device::IoGetRelatedDeviceObject;
use crate::nt::io::file_object;
use crate::nt::io::pnp::{IRP_MN_QUERY_DEVICE_RELATIONS, TARGET_DEVICE_RELATION};
use crate::nt::io::services::ZwCreateFile;
use crate::nt::irql::called;
use crate::nt::object::{ObReferenceObjectByHandle, ObfDereferenceObject, ObfReferenceObject, ZwClose};
use crate::nt::pool::ExFreePool;
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, nt_success,
};
use crate::nt::types::{
    DEVICE_OBJECT, DISPATCH_LEVEL, FILE_OBJECT, IO_STATUS_BLOCK, KERNEL_MODE, NTSTATUS, OBJ_CASE_INSENSITIVE,
    OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, PASSIVE_LEVEL, PVOID,
};
use crate::simulation::Condvar;
use crate::thread::kernel;
use crate::violation::Rule;

/// WDF_IO_TARGET_STATE.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Flow {
    Started = 1,
    Stopped = 2,
    ClosedForQueryRemove = 3,
    Closed = 4,
    Purged = 6,
}

/// Where an open target's requests go. Addresses are 0 where there is none.
#[derive(Clone, Copy, Default)]
struct Opened {
    device: usize,
    /// The PDO of its stack, to which a target that was opened has a reference.
    physical: usize,
    file: usize,
    /// A kernel handle of the framework's own.
    handle: usize,
}

impl Opened {
    fn give_back(self) {
        for object in [self.physical, self.file].into_iter().filter(|object| *object != 0) {
            ObfDereferenceObject(object as _);
        }
        if self.handle != 0 {
            ZwClose(self.handle);
        }
    }
}

struct State {
    flow: Flow,
    opened: Opened,
    /// What it was opened with, for WdfIoTargetOpenReopen, with the name's units.
    parameters: Option<(WDF_IO_TARGET_OPEN_PARAMS, Vec<u16>)>,
    /// Requests that wait for the target to be started.
    waiting: VecDeque<HANDLE>,
    /// Requests that are on their way.
    sent: Vec<HANDLE>,
}

/// A target.
pub(crate) struct Target {
    /// Whether the client opens it.
    is_remote: bool,
    state: Mutex<State>,
    /// A request has come back.
    returned: Condvar,
}

// SAFETY: the callbacks among the parameters are the client's code; the rest are addresses that the target has references to.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// What becomes of a request that is to be sent.
pub(super) enum Admission {
    /// It goes to this device.
    Send(*mut DEVICE_OBJECT),
    /// It waits until the target is started.
    Wait,
    Refuse(NTSTATUS),
}

impl Target {
    fn new(flow: Flow, opened: Opened) -> Self {
        let state = State { flow, opened, parameters: None, waiting: VecDeque::new(), sent: Vec::new() };
        Self { is_remote: flow == Flow::Closed, state: Mutex::new(state), returned: Condvar::new() }
    }

    /// Device and file object of an open target.
    pub(super) fn way(&self) -> Option<(*mut DEVICE_OBJECT, *mut FILE_OBJECT)> {
        let opened = self.state.lock().opened;
        (opened.device != 0).then_some((opened.device as *mut DEVICE_OBJECT, opened.file as *mut FILE_OBJECT))
    }

    /// Notes a request that is to be sent.
    pub(super) fn admit(&self, request: HANDLE, ignores_state: bool) -> Admission {
        let mut state = self.state.lock();
        let way = Admission::Send(state.opened.device as *mut DEVICE_OBJECT);
        match state.flow {
            Flow::Closed | Flow::ClosedForQueryRemove => Admission::Refuse(STATUS_INVALID_DEVICE_STATE),
            Flow::Stopped if !ignores_state => {
                state.waiting.push_back(request);
                Admission::Wait
            }
            Flow::Purged if !ignores_state => Admission::Refuse(STATUS_INVALID_DEVICE_STATE),
            Flow::Started | Flow::Stopped | Flow::Purged => {
                state.sent.push(request);
                way
            }
        }
    }

    /// Whether a request waits for the target to be started.
    pub(super) fn is_waiting(&self, request: HANDLE) -> bool {
        self.state.lock().waiting.contains(&request)
    }

    /// A request has come back, or does not wait any more.
    pub(super) fn leave(&self, request: HANDLE) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| *waiting != request);
        state.sent.retain(|sent| *sent != request);
        self.returned.notify_all();
    }

    fn wait(&self) {
        let mut state = self.state.lock();
        while !state.sent.is_empty() {
            if kernel().is_stopped() {
                drop(state);
                escape();
            }
            self.returned.wait_for(&mut state, Duration::from_millis(50));
        }
    }

    fn cancel_sent(&self) {
        let sent = self.state.lock().sent.clone();
        for request in sent {
            super::send::cancel(request);
        }
    }

    fn cancel_waiting(&self) {
        while let Some(request) = { self.state.lock().waiting.front().copied() } {
            if !super::send::cancel(request) {
                self.leave(request);
            }
        }
    }

    /// Sends nothing more, and gives back what it was opened with.
    fn close(&self, flow: Flow) {
        self.state.lock().flow = flow;
        self.cancel_waiting();
        self.cancel_sent();
        self.wait();
        if self.is_remote {
            let opened = std::mem::take(&mut self.state.lock().opened);
            opened.give_back();
        }
    }

    /// The target is deleted.
    pub(super) fn dispose(&self) {
        let is_remote = self.is_remote && self.state.lock().opened.device != 0;
        self.cancel_waiting();
        self.cancel_sent();
        self.wait();
        if is_remote {
            self.close(Flow::Closed);
        }
    }
}

fn target_of(object: &Object) -> &Target {
    expect_kind!(object, Target)
}

/// The PDO of an open target's stack, if it has one.
pub(super) fn physical(object: &Object) -> Option<*mut DEVICE_OBJECT> {
    let physical = target_of(object).state.lock().opened.physical;
    (physical != 0).then_some(physical as *mut DEVICE_OBJECT)
}

/// The device of an open target.
pub(super) fn way_of(object: &Object) -> Option<*mut DEVICE_OBJECT> {
    target_of(object).way().map(|(device, _)| device)
}

pub(crate) extern "win64" fn WdfIoTargetWdmGetTargetPhysicalDevice(
    _globals: usize,
    handle: HANDLE,
) -> *mut DEVICE_OBJECT {
    called("WdfIoTargetWdmGetTargetPhysicalDevice", DISPATCH_LEVEL);
    physical(&object::find(handle)).unwrap_or(ptr::null_mut())
}

pub(crate) extern "win64" fn WdfDeviceGetIoTarget(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfDeviceGetIoTarget", DISPATCH_LEVEL);
    let object = object::find(handle);
    let device: &Device = expect_kind!(object, Device);
    // Made when it is first asked for: the device below a PnP driver's own; control devices have none.
    let Some(pnp) = &device.pnp else { return 0 };
    let mut known = device.io_target.lock();
    if *known == 0 {
        let (lower, physical) = (pnp.lower() as usize, pnp.physical() as usize);
        let opened = Opened { device: lower, physical, ..Opened::default() };
        let target = Kind::Target(Target::new(Flow::Started, opened));
        if let Ok(target) = object::create(&object.client, target, &Attributes::NONE, handle) {
            *known = target.handle;
        }
    }
    *known
}

pub(crate) extern "win64" fn WdfIoTargetCreate(
    globals: usize,
    device: HANDLE,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfIoTargetCreate", PASSIVE_LEVEL);
    let attributes = Attributes::read(attributes);
    if attributes.parent != 0
        && let Err(status) = named_parent(&attributes)
    {
        return status;
    }
    let target = Target::new(Flow::Closed, Opened::default());
    create_into(&client(globals), Kind::Target(target), &attributes, device, out)
}

/// WDF_IO_TARGET_OPEN_TYPE.
const USE_EXISTING_DEVICE: u32 = 1;
const OPEN_BY_NAME: u32 = 2;
const REOPEN: u32 = 3;

/// Opens the device that the parameters name.
fn open_by_name(asked: &WDF_IO_TARGET_OPEN_PARAMS, units: &[u16]) -> Result<(Opened, usize), NTSTATUS> {
    let name = Name::of_units(units);
    let attributes = OBJECT_ATTRIBUTES {
        Length: const { size_of::<OBJECT_ATTRIBUTES>() as u32 },
        RootDirectory: 0,
        ObjectName: &raw const name,
        Attributes: OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
        SecurityDescriptor: ptr::null_mut(),
        SecurityQualityOfService: ptr::null_mut(),
    };
    let (handle, block) = (Cell::new(0), IO_STATUS_BLOCK { Status: Cell::new(0), Information: Cell::new(0) });
    let status = ZwCreateFile(
        &handle,
        asked.DesiredAccess,
        &attributes,
        &block,
        asked.AllocationSize,
        asked.FileAttributes,
        asked.ShareAccess,
        asked.CreateDisposition,
        asked.CreateOptions,
        asked.EaBuffer,
        asked.EaBufferLength,
    );
    if !nt_success(status) {
        return Err(status);
    }
    let mut file = ptr::null_mut();
    let referenced = ObReferenceObjectByHandle(handle.get(), 0, None, KERNEL_MODE, &mut file, None);
    if !nt_success(referenced) {
        ZwClose(handle.get());
        return Err(referenced);
    }
    let device = IoGetRelatedDeviceObject(file_object(file.cast()));
    let opened = Opened { device: device as usize, file: file as usize, handle: handle.get(), ..Opened::default() };
    Ok((opened, block.Information.get()))
}

/// The PDO of a stack, with a reference to it, if the stack's bus tells; 0 if not.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES.
fn physical_of(device: *mut DEVICE_OBJECT) -> Result<usize, NTSTATUS> {
    /// DEVICE_RELATIONS.Objects.
    const OBJECTS: usize = 8;
    match pnp::ask(device, IRP_MN_QUERY_DEVICE_RELATIONS, [TARGET_DEVICE_RELATION as usize, 0, 0, 0])? {
        (STATUS_INSUFFICIENT_RESOURCES, _) => Err(STATUS_INSUFFICIENT_RESOURCES),
        (status, relations) if nt_success(status) => {
            // SAFETY: who succeeds gives a DEVICE_RELATIONS of one object; a bad address faults, which the guard reports.
            let physical = unsafe { ((relations + OBJECTS) as *const usize).read() };
            ExFreePool(relations as PVOID);
            Ok(physical)
        }
        _ => Ok(0),
    }
}

pub(crate) extern "win64" fn WdfIoTargetOpen(
    _globals: usize,
    handle: HANDLE,
    parameters: *mut WDF_IO_TARGET_OPEN_PARAMS,
) -> NTSTATUS {
    called("WdfIoTargetOpen", PASSIVE_LEVEL);
    let object = object::find(handle);
    let target = target_of(&object);
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let given = unsafe { *parameters };
    if given.Size as usize != size_of::<WDF_IO_TARGET_OPEN_PARAMS>() {
        violate(Rule::Framework, format!("WDF_IO_TARGET_OPEN_PARAMS.Size is {}, not 136", given.Size));
    }
    let (flow, before) = {
        let state = target.state.lock();
        (state.flow, state.parameters.clone())
    };
    if !matches!(flow, Flow::Closed | Flow::ClosedForQueryRemove) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    let (asked, units) = match (given.Type, before) {
        (REOPEN, Some(before)) => before,
        (REOPEN, None) => return STATUS_INVALID_DEVICE_STATE,
        _ => (given, given.TargetDeviceName.units()),
    };
    let opened = match asked.Type {
        OPEN_BY_NAME => open_by_name(&asked, &units),
        USE_EXISTING_DEVICE if asked.TargetDeviceObject != 0 => {
            if asked.TargetFileObject != 0 {
                ObfReferenceObject(asked.TargetFileObject as _);
            }
            let (device, file) = (asked.TargetDeviceObject, asked.TargetFileObject);
            Ok((Opened { device, file, ..Opened::default() }, 0))
        }
        _ => Err(STATUS_INVALID_PARAMETER),
    };
    match opened {
        Ok((mut opened, information)) => {
            match physical_of(opened.device as *mut DEVICE_OBJECT) {
                Ok(physical) => opened.physical = physical,
                Err(status) => {
                    opened.give_back();
                    return status;
                }
            }
            let mut state = target.state.lock();
            (state.opened, state.flow, state.parameters) = (opened, Flow::Started, Some((asked, units)));
            drop(state);
            // SAFETY: the client's structure, read above.
            unsafe { (*parameters).FileInformation = information as u32 };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn WdfIoTargetClose(_globals: usize, handle: HANDLE) {
    called("WdfIoTargetClose", PASSIVE_LEVEL);
    target_of(&object::find(handle)).close(Flow::Closed);
}

pub(crate) extern "win64" fn WdfIoTargetCloseForQueryRemove(_globals: usize, handle: HANDLE) {
    called("WdfIoTargetCloseForQueryRemove", PASSIVE_LEVEL);
    target_of(&object::find(handle)).close(Flow::ClosedForQueryRemove);
}

pub(crate) extern "win64" fn WdfIoTargetStart(_globals: usize, handle: HANDLE) -> NTSTATUS {
    called("WdfIoTargetStart", DISPATCH_LEVEL);
    let object = object::find(handle);
    let target = target_of(&object);
    {
        let mut state = target.state.lock();
        match state.flow {
            Flow::Closed | Flow::ClosedForQueryRemove => return STATUS_INVALID_DEVICE_STATE,
            Flow::Started | Flow::Stopped | Flow::Purged => state.flow = Flow::Started,
        }
    }
    while let Some(request) = { target.state.lock().waiting.pop_front() } {
        super::send::send_waiting(&object, request);
    }
    STATUS_SUCCESS
}

/// WDF_IO_TARGET_SENT_IO_ACTION.
const CANCEL_SENT_IO: u32 = 1;
const LEAVE_SENT_IO_PENDING: u32 = 3;

pub(crate) extern "win64" fn WdfIoTargetStop(_globals: usize, handle: HANDLE, action: u32) {
    called("WdfIoTargetStop", if action == LEAVE_SENT_IO_PENDING { DISPATCH_LEVEL } else { PASSIVE_LEVEL });
    let object = object::find(handle);
    let target = target_of(&object);
    target.state.lock().flow = Flow::Stopped;
    if action == CANCEL_SENT_IO {
        target.cancel_sent();
    }
    if action != LEAVE_SENT_IO_PENDING {
        target.wait();
    }
}

/// WDF_IO_TARGET_PURGE_IO_ACTION: WdfIoTargetPurgeIoAndWait.
const PURGE_AND_WAIT: u32 = 1;

pub(crate) extern "win64" fn WdfIoTargetPurge(_globals: usize, handle: HANDLE, action: u32) {
    called("WdfIoTargetPurge", if action == PURGE_AND_WAIT { PASSIVE_LEVEL } else { DISPATCH_LEVEL });
    let object = object::find(handle);
    let target = target_of(&object);
    target.state.lock().flow = Flow::Purged;
    target.cancel_waiting();
    target.cancel_sent();
    if action == PURGE_AND_WAIT {
        target.wait();
    }
}

pub(crate) extern "win64" fn WdfIoTargetGetState(_globals: usize, handle: HANDLE) -> u32 {
    called("WdfIoTargetGetState", DISPATCH_LEVEL);
    let object = object::find(handle);
    let flow = target_of(&object).state.lock().flow;
    flow as u32
}

pub(crate) extern "win64" fn WdfIoTargetGetDevice(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfIoTargetGetDevice", DISPATCH_LEVEL);
    let mut object = object::find(handle);
    let _: &Target = target_of(&object);
    while !matches!(object.kind, Kind::Device(_)) {
        match object::try_find(object.parent) {
            Some(parent) => object = parent,
            None => return 0,
        }
    }
    object.handle
}

pub(crate) extern "win64" fn WdfIoTargetWdmGetTargetDeviceObject(_globals: usize, handle: HANDLE) -> usize {
    called("WdfIoTargetWdmGetTargetDeviceObject", DISPATCH_LEVEL);
    let object = object::find(handle);
    target_of(&object).state.lock().opened.device
}

pub(crate) extern "win64" fn WdfIoTargetWdmGetTargetFileObject(_globals: usize, handle: HANDLE) -> usize {
    called("WdfIoTargetWdmGetTargetFileObject", DISPATCH_LEVEL);
    let object = object::find(handle);
    target_of(&object).state.lock().opened.file
}

pub(crate) extern "win64" fn WdfIoTargetWdmGetTargetFileHandle(_globals: usize, handle: HANDLE) -> usize {
    called("WdfIoTargetWdmGetTargetFileHandle", DISPATCH_LEVEL);
    let object = object::find(handle);
    target_of(&object).state.lock().opened.handle
}
