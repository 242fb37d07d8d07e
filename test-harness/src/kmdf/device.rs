//! WDFDEVICE and WDFFILEOBJECT: control devices, who has them open, and the dispatch of their IRPs.
#![allow(unsafe_code)] // reads the client's structures

mod preprocess;
mod properties;
mod traits;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;

use self::preprocess::Callbacks;
pub(super) use self::preprocess::{
    WdfDeviceInitAssignWdmIrpPreprocessCallback, WdfDeviceWdmDispatchIrpToIoQueue, WdfDeviceWdmDispatchPreprocessedIrp,
};
pub(super) use self::properties::{
    WdfDeviceAllocAndQueryProperty, WdfDeviceAllocAndQueryPropertyEx, WdfDeviceAssignProperty,
    WdfDeviceOpenRegistryKey, WdfDeviceQueryProperty, WdfDeviceQueryPropertyEx, WdfFdoInitAllocAndQueryProperty,
    WdfFdoInitAllocAndQueryPropertyEx, WdfFdoInitOpenRegistryKey, WdfFdoInitQueryProperty, WdfFdoInitQueryPropertyEx,
    WdfIoTargetAllocAndQueryTargetProperty, WdfIoTargetQueryTargetProperty,
};
use self::traits::Shutdown;
pub(super) use self::traits::{
    WdfControlDeviceInitSetShutdownNotification, WdfDeviceGetAlignmentRequirement, WdfDeviceGetCharacteristics,
    WdfDeviceInitSetDeviceClass, WdfDeviceRetrieveDeviceName, WdfDeviceSetAlignmentRequirement,
    WdfDeviceSetCharacteristics,
};
use super::bind::{Client, client};
use super::object::{self, Attributes, Kind, Object, expect_kind};
use super::pnp::{self, Pnp, PnpInit};
use super::presentation::{Scope, under};
use super::request::{self, Owner, Purpose};
use super::types::{
    HANDLE, WDF_FILEOBJECT_CONFIG, WDF_OBJECT_ATTRIBUTES, WdfFalse, WdfFileObjectCanBeOptional,
    WdfFileObjectNotRequired, WdfFileObjectWdfCanUseFsContext, WdfFileObjectWdfCanUseFsContext2,
    WdfSynchronizationScopeNone, WdfTrue, WdfUseDefault,
};
use crate::guard::{callout, violate};
use crate::nt::io::device::{
    IoCreateDevice, IoCreateDeviceSecure, IoCreateSymbolicLink, IoDeleteDevice, IoDeleteSymbolicLink, IoDetachDevice,
};
use crate::nt::io::{device as device_object, file_object};
use crate::nt::irp::{self, IofCompleteRequest};
use crate::nt::irql::{KeEnterCriticalRegion, KeLeaveCriticalRegion, called};
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_SECURITY_DESCR, STATUS_PENDING,
    STATUS_SUCCESS,
};
use crate::nt::strings::text;
use crate::nt::types::{
    APC_LEVEL, DEVICE_OBJECT, DISPATCH_LEVEL, DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DO_DIRECT_IO,
    FILE_DEVICE_SECURE_OPEN, FILE_OBJECT, GUID, IRP, IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE,
    IRP_MJ_DEVICE_CONTROL, IRP_MJ_INTERNAL_DEVICE_CONTROL, IRP_MJ_PNP, IRP_MJ_POWER, IRP_MJ_READ, IRP_MJ_SHUTDOWN,
    IRP_MJ_SYSTEM_CONTROL, IRP_MJ_WRITE, NTSTATUS, PASSIVE_LEVEL, UNICODE_STRING, Zeroed,
};
use crate::thread::{current, kernel};
use crate::violation::Rule;

const FILE_DEVICE_UNKNOWN: u32 = 0x22;
/// What protects a device whose driver does not say (wdmsec.h): for the kernel and administrators alone.
const SDDL_DEVOBJ_SYS_ALL_ADM_ALL: &str = "D:P(A;;GA;;;SY)(A;;GA;;;BA)";

/// WDF_DEVICE_IO_TYPE.
const IO_BUFFERED: u32 = 2;
const IO_DIRECT: u32 = 3;

type InCallerContext = extern "win64" fn(HANDLE, HANDLE);

/// A WDFDEVICE_INIT, opaque to the client. Freed by WdfDeviceInitFree, or taken by WdfDeviceCreate.
pub(crate) struct DeviceInit {
    client: Arc<Client>,
    sddl: Option<String>,
    name: Option<String>,
    device_type: u32,
    characteristics: u32,
    exclusive: u8,
    io_type: u32,
    file_config: Option<WDF_FILEOBJECT_CONFIG>,
    file_attributes: Attributes,
    request_attributes: Attributes,
    in_caller_context: Option<InCallerContext>,
    preprocess: Callbacks,
    class: Option<GUID>,
    shutdown: Option<Shutdown>,
    pub(super) pnp: Option<PnpInit>,
}

/// A device.
pub(crate) struct Device {
    wdm: *mut DEVICE_OBJECT,
    name: Option<String>,
    file_config: Option<WDF_FILEOBJECT_CONFIG>,
    file_attributes: Attributes,
    /// Whether callbacks of its files are made one at a time with those of the device.
    serializes_files: bool,
    pub(super) request_attributes: Attributes,
    in_caller_context: Option<InCallerContext>,
    /// Who sees packets first.
    preprocess: Callbacks,
    shutdown: Option<Shutdown>,
    pub(super) default_queue: Mutex<Option<HANDLE>>,
    /// Queues of their own for the requests of a major function.
    dispatching: Mutex<BTreeMap<u8, HANDLE>>,
    links: Mutex<Vec<String>>,
    /// The target below it, or 0.
    pub(super) io_target: Mutex<HANDLE>,
    /// Whether opens and closes that the driver does not handle are those of the next lower device.
    forwards_files: bool,
    /// None of a control device.
    pub(super) pnp: Option<Pnp>,
}

// SAFETY: the device object is the kernel's and lives until `dispose`; the callbacks are the client's code.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// An open file object.
pub(crate) struct File {
    pub(super) wdm: *mut FILE_OBJECT,
}

// SAFETY: the file object outlives its WDFFILEOBJECT: that one goes when the file object is closed.
unsafe impl Send for File {}
// SAFETY: as above.
unsafe impl Sync for File {}

pub(super) fn unicode(text: &str) -> (Vec<u16>, UNICODE_STRING) {
    let mut units: Vec<u16> = text.encode_utf16().collect();
    let string = UNICODE_STRING::zeroed();
    let length = u16::try_from(units.len() * 2).unwrap_or(u16::MAX);
    string.Length.set(length);
    string.MaximumLength.set(length);
    string.Buffer.set(units.as_mut_ptr());
    (units, string)
}

pub(super) fn init<'a>(init: *mut DeviceInit) -> &'a mut DeviceInit {
    let known = kernel().extension::<super::Framework>().inits.lock().contains(&(init as usize));
    if !known {
        violate(Rule::Framework, format!("{init:p} is no WDFDEVICE_INIT (any more)"));
    }
    // SAFETY: made by `WdfControlDeviceInitAllocate` and not freed; a client uses it from one thread.
    unsafe { &mut *init }
}

pub(crate) extern "win64" fn WdfControlDeviceInitAllocate(
    globals: usize,
    _driver: HANDLE,
    sddl: &UNICODE_STRING,
) -> *mut DeviceInit {
    called("WdfControlDeviceInitAllocate", PASSIVE_LEVEL);
    if kernel().faults.allocation_fails() {
        return ptr::null_mut();
    }
    new_init(&client(globals), Some(text(sddl)), None)
}

/// A WDFDEVICE_INIT.
pub(super) fn new_init(client: &Arc<Client>, sddl: Option<String>, pnp: Option<PnpInit>) -> *mut DeviceInit {
    let init = Box::into_raw(Box::new(DeviceInit {
        client: client.clone(),
        sddl,
        name: None,
        device_type: FILE_DEVICE_UNKNOWN,
        characteristics: FILE_DEVICE_SECURE_OPEN,
        exclusive: 0,
        io_type: IO_BUFFERED,
        file_config: None,
        file_attributes: Attributes::NONE,
        request_attributes: Attributes::NONE,
        in_caller_context: None,
        preprocess: Callbacks::default(),
        class: None,
        shutdown: None,
        pnp,
    }));
    kernel().extension::<super::Framework>().inits.lock().insert(init as usize);
    init
}

/// Frees what EvtDriverDeviceAdd has not made a device of.
pub(super) fn free_if_left(pointer: *mut DeviceInit) {
    let left = kernel().extension::<super::Framework>().inits.lock().contains(&(pointer as usize));
    if left {
        drop(release(pointer));
    }
}

fn release(pointer: *mut DeviceInit) -> Box<DeviceInit> {
    init(pointer);
    kernel().extension::<super::Framework>().inits.lock().remove(&(pointer as usize));
    // SAFETY: it was known, and no longer is: this is its one release.
    unsafe { Box::from_raw(pointer) }
}

pub(crate) extern "win64" fn WdfDeviceInitFree(_globals: usize, pointer: *mut DeviceInit) {
    called("WdfDeviceInitFree", DISPATCH_LEVEL);
    drop(release(pointer));
}

pub(crate) extern "win64" fn WdfDeviceInitAssignName(
    _globals: usize,
    pointer: *mut DeviceInit,
    name: Option<&UNICODE_STRING>,
) -> NTSTATUS {
    called("WdfDeviceInitAssignName", PASSIVE_LEVEL);
    if kernel().faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    init(pointer).name = name.map(text);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WdfDeviceInitAssignSDDLString(
    _globals: usize,
    pointer: *mut DeviceInit,
    sddl: Option<&UNICODE_STRING>,
) -> NTSTATUS {
    called("WdfDeviceInitAssignSDDLString", PASSIVE_LEVEL);
    if kernel().faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    init(pointer).sddl = sddl.map(text);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WdfDeviceInitSetDeviceType(_globals: usize, pointer: *mut DeviceInit, device_type: u32) {
    called("WdfDeviceInitSetDeviceType", DISPATCH_LEVEL);
    init(pointer).device_type = device_type;
}

pub(crate) extern "win64" fn WdfDeviceInitSetCharacteristics(
    _globals: usize,
    pointer: *mut DeviceInit,
    characteristics: u32,
    or_in: u8,
) {
    called("WdfDeviceInitSetCharacteristics", DISPATCH_LEVEL);
    let init = init(pointer);
    init.characteristics = if or_in == 0 { characteristics } else { init.characteristics | characteristics };
}

pub(crate) extern "win64" fn WdfDeviceInitSetExclusive(_globals: usize, pointer: *mut DeviceInit, exclusive: u8) {
    called("WdfDeviceInitSetExclusive", DISPATCH_LEVEL);
    init(pointer).exclusive = exclusive;
}

pub(crate) extern "win64" fn WdfDeviceInitSetIoType(_globals: usize, pointer: *mut DeviceInit, io_type: u32) {
    called("WdfDeviceInitSetIoType", DISPATCH_LEVEL);
    init(pointer).io_type = io_type;
}

pub(crate) extern "win64" fn WdfDeviceInitSetFileObjectConfig(
    _globals: usize,
    pointer: *mut DeviceInit,
    config: *const WDF_FILEOBJECT_CONFIG,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
) {
    called("WdfDeviceInitSetFileObjectConfig", DISPATCH_LEVEL);
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let config = unsafe { *config };
    if config.Size as usize != size_of::<WDF_FILEOBJECT_CONFIG>() {
        violate(Rule::Framework, format!("WDF_FILEOBJECT_CONFIG.Size is {}, not 40", config.Size));
    }
    let init = init(pointer);
    init.file_config = Some(config);
    init.file_attributes = Attributes::read(attributes);
    if attributes.is_null() {
        init.file_attributes.synchronization_scope = WdfSynchronizationScopeNone;
    }
}

pub(crate) extern "win64" fn WdfDeviceInitSetRequestAttributes(
    _globals: usize,
    pointer: *mut DeviceInit,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
) {
    called("WdfDeviceInitSetRequestAttributes", DISPATCH_LEVEL);
    init(pointer).request_attributes = Attributes::read(attributes);
}

pub(crate) extern "win64" fn WdfDeviceInitSetIoInCallerContextCallback(
    _globals: usize,
    pointer: *mut DeviceInit,
    callback: Option<InCallerContext>,
) {
    called("WdfDeviceInitSetIoInCallerContextCallback", DISPATCH_LEVEL);
    init(pointer).in_caller_context = callback;
}

/// Whether callbacks of a new device's files are made under its lock.
///
/// # Errors
/// STATUS_INVALID_DEVICE_REQUEST for the scope of a queue, and for a device whose callbacks are not made at PASSIVE_LEVEL, which
/// those of files always are.
fn serializes_files(asked: &DeviceInit, attributes: &Attributes) -> Result<bool, NTSTATUS> {
    if asked.file_config.is_none() {
        return Ok(false);
    }
    let driver = object::find(asked.client.driver());
    let (passive, scope) = object::constraints(attributes, Some(&driver));
    match Scope::of(asked.file_attributes.synchronization_scope, scope) {
        Scope::None => Ok(false),
        Scope::Device if passive => Ok(true),
        Scope::Device | Scope::Queue => Err(STATUS_INVALID_DEVICE_REQUEST),
    }
}

pub(crate) extern "win64" fn WdfDeviceCreate(
    _globals: usize,
    pointer: *mut *mut DeviceInit,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfDeviceCreate", PASSIVE_LEVEL);
    // SAFETY: the client's variable; a bad pointer faults, which the guard reports.
    let asked = init(unsafe { *pointer });
    let (client, attributes) = (asked.client.clone(), Attributes::read(attributes));
    if attributes.parent != 0 {
        return crate::nt::status::STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED;
    }
    let serializes_files = match serializes_files(asked, &attributes) {
        Ok(serializes) => serializes,
        Err(status) => return status,
    };
    let name = asked.name.as_deref().map(unicode);
    let created = Cell::new(ptr::null_mut());
    let driver = crate::nt::io::driver_object(client.driver_object);
    let (extension, name) = (size_of::<HANDLE>() as u32, name.as_ref().map(|(_, string)| string));
    let (device_type, characteristics, exclusive) = (asked.device_type, asked.characteristics, asked.exclusive);
    let secured = asked.sddl.is_some() || asked.class.is_some();
    if secured && name.is_none() && asked.pnp.is_some() {
        return STATUS_INVALID_SECURITY_DESCR;
    }
    // A device that is opened by its name is protected.
    let sddl = asked.sddl.as_deref().or((secured || name.is_some()).then_some(SDDL_DEVOBJ_SYS_ALL_ADM_ALL));
    let status = match sddl.map(unicode) {
        None => IoCreateDevice(driver, extension, name, device_type, characteristics, exclusive, &created),
        Some((_, sddl)) => IoCreateDeviceSecure(
            driver,
            extension,
            name,
            device_type,
            characteristics,
            exclusive,
            &sddl,
            asked.class.as_ref(),
            &created,
        ),
    };
    if status != STATUS_SUCCESS {
        return status;
    }
    let wdm = created.get();
    let io_type = match asked.io_type {
        IO_BUFFERED => DO_BUFFERED_IO,
        IO_DIRECT => DO_DIRECT_IO,
        _ => 0,
    };
    let flags = &device_object(wdm).Flags;
    flags.set(flags.get() | io_type);
    let device = Device {
        wdm,
        name: asked.name.clone(),
        file_config: asked.file_config,
        file_attributes: asked.file_attributes,
        serializes_files,
        request_attributes: asked.request_attributes,
        in_caller_context: asked.in_caller_context,
        preprocess: asked.preprocess.clone(),
        shutdown: asked.shutdown,
        default_queue: Mutex::new(None),
        dispatching: Mutex::default(),
        links: Mutex::default(),
        io_target: Mutex::new(0),
        forwards_files: asked.forwards_files(),
        pnp: asked.pnp.as_ref().map(|pnp| pnp.attach(wdm)),
    };
    let lower = device.pnp.as_ref().map(Pnp::lower);
    let object = match object::create(&client, Kind::Device(Box::new(device)), &attributes, client.driver()) {
        Ok(object) => object,
        Err(status) => {
            if let Some(lower) = lower {
                IoDetachDevice(device_object(lower));
            }
            IoDeleteDevice(device_object(wdm));
            return status;
        }
    };
    expect_kind!(object, Device).finish_creation(object.handle);
    if let Some(pnp) = &asked.pnp {
        pnp.note(object.handle);
    }
    // SAFETY: the extension was asked for with this size.
    unsafe { device_object(wdm).DeviceExtension.get().cast::<HANDLE>().write(object.handle) };
    // SAFETY: the client's variable, read above.
    drop(release(unsafe { *pointer }));
    // SAFETY: as above.
    unsafe { pointer.write(ptr::null_mut()) };
    // SAFETY: the client's out parameter; a bad pointer faults.
    unsafe { out.write(object.handle) };
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WdfControlFinishInitializing(_globals: usize, handle: HANDLE) {
    called("WdfControlFinishInitializing", DISPATCH_LEVEL);
    let object = object::find(handle);
    let flags = &device_object(expect_kind!(object, Device).wdm).Flags;
    flags.set(flags.get() & !DO_DEVICE_INITIALIZING);
}

pub(crate) extern "win64" fn WdfDeviceCreateSymbolicLink(
    _globals: usize,
    handle: HANDLE,
    link: &UNICODE_STRING,
) -> NTSTATUS {
    called("WdfDeviceCreateSymbolicLink", PASSIVE_LEVEL);
    let object = object::find(handle);
    let device = expect_kind!(object, Device);
    let Some(name) = &device.name else { return STATUS_INVALID_DEVICE_REQUEST };
    let (_units, target) = unicode(name);
    let status = IoCreateSymbolicLink(link, &target);
    if status == STATUS_SUCCESS {
        device.links.lock().push(text(link));
    }
    status
}

pub(crate) extern "win64" fn WdfDeviceWdmGetDeviceObject(_globals: usize, handle: HANDLE) -> *mut DEVICE_OBJECT {
    called("WdfDeviceWdmGetDeviceObject", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Device).wdm
}

pub(crate) extern "win64" fn WdfWdmDeviceGetWdfDeviceHandle(_globals: usize, device: *mut DEVICE_OBJECT) -> HANDLE {
    called("WdfWdmDeviceGetWdfDeviceHandle", DISPATCH_LEVEL);
    of(device).map_or(0, |object| object.handle)
}

pub(crate) extern "win64" fn WdfDeviceGetDriver(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfDeviceGetDriver", DISPATCH_LEVEL);
    object::find(handle).client.driver()
}

pub(crate) extern "win64" fn WdfDeviceGetDefaultQueue(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfDeviceGetDefaultQueue", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Device).default_queue.lock().unwrap_or(0)
}

pub(crate) extern "win64" fn WdfFileObjectGetDevice(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfFileObjectGetDevice", DISPATCH_LEVEL);
    object::find(handle).parent
}

pub(crate) extern "win64" fn WdfFileObjectWdmGetFileObject(_globals: usize, handle: HANDLE) -> *mut FILE_OBJECT {
    called("WdfFileObjectWdmGetFileObject", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, File).wdm
}

pub(crate) extern "win64" fn WdfFileObjectGetFileName(_globals: usize, handle: HANDLE) -> *const UNICODE_STRING {
    called("WdfFileObjectGetFileName", PASSIVE_LEVEL);
    let object = object::find(handle);
    let wdm = expect_kind!(object, File).wdm;
    if wdm.is_null() { ptr::null() } else { &raw const crate::nt::io::file_object(wdm).FileName }
}

impl DeviceInit {
    /// AutoForwardCleanupClose, which a filter has unless its driver says otherwise.
    fn forwards_files(&self) -> bool {
        let asked = self.file_config.map_or(WdfUseDefault, |config| config.AutoForwardCleanupClose);
        match (&self.pnp, asked) {
            (None, _) | (Some(_), WdfFalse) => false,
            (Some(_), WdfTrue) => true,
            (Some(pnp), _) => pnp.is_filter(),
        }
    }
}

impl Device {
    /// The stack in which opens and closes go on.
    fn forwarding(&self) -> Option<&Pnp> {
        self.pnp.as_ref().filter(|_| self.forwards_files)
    }

    /// The stack in which requests of a major function go on: a filter has no queue for them.
    fn filtering(&self, major: u8) -> Option<&Pnp> {
        let pnp = self.pnp.as_ref().filter(|pnp| pnp.is_filter())?;
        let default = *self.default_queue.lock();
        let taken = match self.queue_for(major) {
            None => false,
            Some(queue) if Some(queue) == default => {
                object::try_find(queue).is_some_and(|queue| expect_kind!(queue, Queue).takes(major))
            }
            Some(_) => true,
        };
        (!taken).then_some(pnp)
    }

    /// What the framework does with the end of a file's use when the driver has heard of it.
    fn end(&self, irp: &IRP) -> NTSTATUS {
        match self.forwarding() {
            Some(pnp) => pnp::pass_on(pnp, irp),
            None => complete(irp, STATUS_SUCCESS),
        }
    }

    /// The device object goes, with its links.
    pub(super) fn dispose(&self) {
        for link in std::mem::take(&mut *self.links.lock()) {
            let (_units, link) = unicode(&link);
            IoDeleteSymbolicLink(&link);
        }
        IoDeleteDevice(device_object(self.wdm));
    }

    /// The queue for requests of a major function.
    pub(super) fn queue_for(&self, major: u8) -> Option<HANDLE> {
        let own = self.dispatching.lock().get(&major).copied();
        own.or(*self.default_queue.lock())
    }

    fn file_class(&self) -> u32 {
        self.file_config.map_or(WdfFileObjectNotRequired, |config| config.FileObjectClass & !WdfFileObjectCanBeOptional)
    }

    /// The WDFFILEOBJECT of a file object.
    pub(super) fn file(&self, file: *mut FILE_OBJECT) -> Option<Arc<Object>> {
        if file.is_null() {
            return None;
        }
        let file_object = file_object(file);
        match self.file_class() {
            WdfFileObjectNotRequired => None,
            WdfFileObjectWdfCanUseFsContext => object::try_find(file_object.FsContext.get() as usize),
            WdfFileObjectWdfCanUseFsContext2 => object::try_find(file_object.FsContext2.get() as usize),
            _ => {
                let framework = kernel().extension::<super::Framework>();
                let handle = framework.files.lock().get(&(self.wdm as usize, file as usize)).copied();
                handle.and_then(object::try_find)
            }
        }
    }

    fn attach_file(&self, file: *mut FILE_OBJECT, handle: HANDLE) {
        match self.file_class() {
            WdfFileObjectWdfCanUseFsContext => file_object(file).FsContext.set(handle as _),
            WdfFileObjectWdfCanUseFsContext2 => file_object(file).FsContext2.set(handle as _),
            _ => {
                let key = (self.wdm as usize, file as usize);
                kernel().extension::<super::Framework>().files.lock().insert(key, handle);
            }
        }
    }

    /// The WDFFILEOBJECT is deleted: its open has failed, or it is closed.
    fn end_file(&self, file: &Arc<Object>, wdm: *mut FILE_OBJECT) {
        self.attach_file(wdm, 0);
        kernel().extension::<super::Framework>().files.lock().remove(&(self.wdm as usize, wdm as usize));
        object::delete(file);
    }

    /// The open has been completed by the client.
    pub(super) fn create_completed(&self, wdm: *mut FILE_OBJECT, status: NTSTATUS) {
        if !crate::nt::status::nt_success(status)
            && let Some(file) = self.file(wdm)
        {
            self.end_file(&file, wdm);
        }
    }
}

/// The WDFDEVICE of a device object that a client of the framework made.
pub(super) fn of(device: *mut DEVICE_OBJECT) -> Option<Arc<Object>> {
    let extension = device_object(device).DeviceExtension.get().cast::<HANDLE>();
    if extension.is_null() {
        return None;
    }
    // SAFETY: every device of a client has a handle as its extension; 0 until it is stored.
    object::try_find(unsafe { extension.read() })
}

fn complete(irp: &IRP, status: NTSTATUS) -> NTSTATUS {
    irp.IoStatus.Status.set(status);
    IofCompleteRequest(irp, 0);
    status
}

/// Every entry of MajorFunction.
pub(super) extern "win64" fn dispatch(wdm: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    called("the framework's dispatch routine", DISPATCH_LEVEL);
    let irp = irp::at(irp);
    let Some(object) = of(wdm) else { return complete(irp, STATUS_INVALID_DEVICE_REQUEST) };
    let Kind::Device(device) = &object.kind else { return complete(irp, STATUS_INVALID_DEVICE_REQUEST) };
    match device.preprocess.for_packet(irp) {
        Some(callback) => preprocess::preprocess(&object, callback, irp),
        None => dispatch_now(&object, device, irp),
    }
}

/// What the framework does with a packet that the client does not want to see before, or has seen.
fn dispatch_now(object: &Arc<Object>, device: &Device, irp: &IRP) -> NTSTATUS {
    let file = irp.current().FileObject.get();
    match irp.current().MajorFunction.get() {
        IRP_MJ_CREATE => create(object, device, irp, file),
        IRP_MJ_CLEANUP => {
            if let Some(file) = device.file(file)
                && let Some(callback) = device.file_config.and_then(|config| config.EvtFileCleanup)
            {
                file_callback(object, "EvtFileCleanup", || callback(file.handle));
            }
            super::queue::flush_file(object, file);
            device.end(irp)
        }
        IRP_MJ_CLOSE => {
            if let Some(open) = device.file(file) {
                if let Some(callback) = device.file_config.and_then(|config| config.EvtFileClose) {
                    file_callback(object, "EvtFileClose", || callback(open.handle));
                }
                device.end_file(&open, file);
            }
            device.end(irp)
        }
        IRP_MJ_SHUTDOWN => traits::shut_down(object, device, irp),
        major if is_transfer(major) => transfer(object, device, irp),
        _ => match &device.pnp {
            Some(pnp) if is_of_pnp(irp) => pnp::dispatch(object, pnp, irp),
            Some(pnp) if pnp.is_filter() => pnp::pass_on(pnp, irp),
            Some(_) | None => complete(irp, STATUS_INVALID_DEVICE_REQUEST),
        },
    }
}

/// Calls the driver for a file of the device.
fn file_callback<R>(object: &Object, routine: &'static str, body: impl FnOnce() -> R) -> R {
    let lock = object.presentation.as_deref().filter(|_| expect_kind!(object, Device).serializes_files);
    under(lock, routine, body)
}

/// Whether requests of a major function go through queues.
fn is_transfer(major: u8) -> bool {
    matches!(major, IRP_MJ_READ | IRP_MJ_WRITE | IRP_MJ_DEVICE_CONTROL | IRP_MJ_INTERNAL_DEVICE_CONTROL)
}

/// A requestor that is suspended in here would hold up everybody's requests.
fn within_critical_region(body: impl FnOnce()) {
    let protected = current().irql.get() <= APC_LEVEL;
    if protected {
        KeEnterCriticalRegion();
    }
    body();
    if protected {
        KeLeaveCriticalRegion();
    }
}

fn is_of_pnp(irp: &IRP) -> bool {
    matches!(irp.current().MajorFunction.get(), IRP_MJ_PNP | IRP_MJ_POWER | IRP_MJ_SYSTEM_CONTROL)
}

fn create(object: &Arc<Object>, device: &Device, irp: &IRP, file: *mut FILE_OBJECT) -> NTSTATUS {
    if device.file_class() == WdfFileObjectNotRequired {
        return device.end(irp);
    }
    let made = object::create(&object.client, Kind::File(File { wdm: file }), &device.file_attributes, object.handle);
    let opened = match made {
        Ok(opened) => opened,
        Err(status) => return complete(irp, status),
    };
    device.attach_file(file, opened.handle);
    let Some(callback) = device.file_config.and_then(|config| config.EvtDeviceFileCreate) else {
        let Some(pnp) = device.forwarding() else { return complete(irp, STATUS_SUCCESS) };
        let status = pnp::pass_and_wait(pnp, irp);
        device.create_completed(file, status);
        return complete(irp, status);
    };
    irp.mark_pending();
    match request::create(object, irp, Purpose::Create) {
        Ok(request) => {
            file_callback(object, "EvtDeviceFileCreate", || callback(object.handle, request.handle, opened.handle));
        }
        Err(status) => {
            device.end_file(&opened, file);
            complete(irp, status);
        }
    }
    STATUS_PENDING
}

fn transfer(object: &Arc<Object>, device: &Device, irp: &IRP) -> NTSTATUS {
    if device.in_caller_context.is_none()
        && let Some(pnp) = device.filtering(irp.current().MajorFunction.get())
    {
        return pnp::pass_on(pnp, irp);
    }
    irp.mark_pending();
    within_critical_region(|| match request::create(object, irp, Purpose::Io) {
        Err(status) => {
            complete(irp, status);
        }
        Ok(request) => match device.in_caller_context {
            Some(callback) => {
                expect_kind!(request, Request).set_owner(Owner::DriverInCallerContext);
                callout("EvtIoInCallerContext", || callback(object.handle, request.handle));
            }
            None => super::queue::deliver_to_default(object, &request),
        },
    });
    STATUS_PENDING
}

pub(crate) extern "win64" fn WdfDeviceConfigureRequestDispatching(
    _globals: usize,
    handle: HANDLE,
    queue: HANDLE,
    kind: u32,
) -> NTSTATUS {
    called("WdfDeviceConfigureRequestDispatching", DISPATCH_LEVEL);
    let (object, queue) = (object::find(handle), object::find(queue));
    let device: &Device = expect_kind!(object, Device);
    let _: &super::queue::Queue = expect_kind!(queue, Queue);
    let major = u8::try_from(kind).unwrap_or(u8::MAX);
    if !is_transfer(major) {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    match device.dispatching.lock().entry(major) {
        Entry::Vacant(slot) => {
            slot.insert(queue.handle);
            STATUS_SUCCESS
        }
        Entry::Occupied(_) => crate::nt::status::STATUS_WDF_BUSY,
    }
}

pub(crate) extern "win64" fn WdfDeviceEnqueueRequest(_globals: usize, handle: HANDLE, request: HANDLE) -> NTSTATUS {
    called("WdfDeviceEnqueueRequest", DISPATCH_LEVEL);
    let (object, request) = (object::find(handle), object::find(request));
    let device: &Device = expect_kind!(object, Device);
    if !expect_kind!(request, Request).is_in_caller_context() {
        violate(
            Rule::Framework,
            "WdfDeviceEnqueueRequest: the request did not come by EvtIoInCallerContext, or has gone on",
        );
    }
    let request_data: &request::Request = expect_kind!(request, Request);
    let major = request_data.irp().current().MajorFunction.get();
    if request_data.aimed_at().is_none()
        && let Some(pnp) = device.filtering(major)
    {
        request::hand_on(&request, pnp.lower());
        return STATUS_SUCCESS;
    }
    match request_data.aimed_at().or_else(|| device.queue_for(major)).and_then(object::try_find) {
        Some(queue) => super::queue::enqueue(&queue, &request),
        None => STATUS_INVALID_DEVICE_REQUEST,
    }
}
