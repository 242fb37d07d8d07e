//! Plug and Play and power of a function or filter device: from EvtDriverDeviceAdd over D0 to its removal.
//!
//! A device enters D0 when it is started, and leaves it when it is removed; callbacks come in the order of the documentation's page "PnP
//! and Power Management Callback Sequences".
#![allow(unsafe_code)] // reads the client's structures

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::device::{self, Device, DeviceInit};
use super::object::{self, Attributes, Kind, Object, expect_kind};
use super::types::{DriverObject, HANDLE, PFN_DEVICE_STATUS, WDF_PNPPOWER_EVENT_CALLBACKS, WdfPowerDeviceD3Final};
use crate::guard::{callout, violate};
use crate::nt::dispatcher::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use crate::nt::io::device as device_object;
use crate::nt::io::device::{IoAttachDeviceToDeviceStack, IoDetachDevice};
use crate::nt::io::interface::{IoRegisterDeviceInterface, IoSetDeviceInterfaceState};
use crate::nt::io::pnp::{
    IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE,
    IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE, IRP_MN_SURPRISE_REMOVAL,
};
use crate::nt::irp::{IofCallDriver, IofCompleteRequest, set_completion_routine};
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_INVALID_DEVICE_REQUEST, STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS, nt_success,
};
use crate::nt::strings::{RtlFreeUnicodeString, text};
use crate::nt::types::{
    DEVICE_OBJECT, DISPATCH_LEVEL, DO_DEVICE_INITIALIZING, GUID, IRP, IRP_MJ_PNP, KEVENT, NTSTATUS, PASSIVE_LEVEL,
    PVOID, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, UNICODE_STRING, Zeroed,
};
use crate::violation::Rule;

/// How far a device has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    /// Not started yet, or removed.
    Off,
    /// Started: its hardware is prepared, and it works.
    D0,
}

/// An interface of the device: its class, reference string and link, and whether the client wants it enabled while the device works.
struct Interface {
    class: GUID,
    reference: String,
    link: String,
    wanted: bool,
}

/// What makes a device one of Plug and Play.
pub(super) struct Pnp {
    physical: *mut DEVICE_OBJECT,
    /// The next lower device of the stack.
    lower: *mut DEVICE_OBJECT,
    callbacks: WDF_PNPPOWER_EVENT_CALLBACKS,
    filter: bool,
    power: Mutex<Power>,
    interfaces: Mutex<Vec<Interface>>,
    /// EvtDeviceSelfManagedIoInit has been called.
    self_managed: AtomicBool,
}

// SAFETY: the device objects of the stack are the kernel's, and live until the device is detached; the callbacks are code.
unsafe impl Send for Pnp {}
// SAFETY: as above.
unsafe impl Sync for Pnp {}

/// What a WDFDEVICE_INIT of EvtDriverDeviceAdd has in addition.
pub(super) struct PnpInit {
    physical: *mut DEVICE_OBJECT,
    callbacks: Option<WDF_PNPPOWER_EVENT_CALLBACKS>,
    filter: bool,
}

impl PnpInit {
    /// Puts the device on top of its stack.
    pub(super) fn attach(&self, wdm: *mut DEVICE_OBJECT) -> Pnp {
        let lower = IoAttachDeviceToDeviceStack(device_object(wdm), device_object(self.physical));
        Pnp {
            physical: self.physical,
            lower,
            callbacks: self.callbacks.unwrap_or_default(),
            filter: self.filter,
            power: Mutex::new(Power::Off),
            interfaces: Mutex::default(),
            self_managed: AtomicBool::new(false),
        }
    }
}

impl Pnp {
    pub(super) fn lower(&self) -> *mut DEVICE_OBJECT {
        self.lower
    }

    /// Whether queues that leave it to the framework are power-managed: those of function devices.
    pub(super) fn manages_queues(&self) -> bool {
        !self.filter
    }

    pub(super) fn is_in_d0(&self) -> bool {
        *self.power.lock() == Power::D0
    }
}

/// DRIVER_EXTENSION.AddDevice of every client with EvtDriverDeviceAdd.
pub(super) extern "win64" fn add_device(driver: DriverObject, physical: *mut DEVICE_OBJECT) -> NTSTATUS {
    called("the framework's AddDevice routine", PASSIVE_LEVEL);
    let Some(client) = super::driver::client_of(driver) else { return STATUS_INVALID_DEVICE_REQUEST };
    let Some(callback) = client.config.lock().and_then(|config| config.EvtDriverDeviceAdd) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let pnp = PnpInit { physical, callbacks: None, filter: false };
    let init = device::new_init(&client, None, Some(pnp));
    let handle = client.driver();
    let status = callout("EvtDriverDeviceAdd", || callback(handle, init.cast()));
    device::free_if_left(init);
    let top = device_object::attached(physical);
    let made = device::of(top).filter(|object| matches!(&object.kind, Kind::Device(device) if device.pnp.is_some()));
    match made {
        Some(object) if !nt_success(status) => {
            detach_and_delete(&object);
            status
        }
        Some(_) => {
            let flags = &device_object(top).Flags;
            flags.set(flags.get() & !DO_DEVICE_INITIALIZING);
            status
        }
        None => status,
    }
}

/// Takes the device out of its stack, and deletes it.
fn detach_and_delete(object: &Arc<Object>) {
    if let Some(pnp) = pnp_of(object) {
        IoDetachDevice(device_object(pnp.lower));
    }
    object::delete(object);
}

fn pnp_of(object: &Object) -> Option<&Pnp> {
    match &object.kind {
        Kind::Device(device) => device.pnp.as_ref(),
        _ => None,
    }
}

/// The device's own part, or the violation that it is a control device.
fn expect_pnp<'a>(object: &'a Object, call: &str) -> &'a Pnp {
    let device: &Device = expect_kind!(object, Device);
    match &device.pnp {
        Some(pnp) => pnp,
        None => violate(Rule::Framework, format!("{call}: a control device is none of Plug and Play")),
    }
}

/// Hands a packet on with the same location (IoSkipCurrentIrpStackLocation).
fn pass_on(pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    irp.CurrentLocation.set(irp.CurrentLocation.get() + 1);
    irp.CurrentStackLocation.set(irp.location_address(irp.CurrentLocation.get()));
    IofCallDriver(device_object(pnp.lower), irp)
}

extern "win64" fn passed(_device: *mut DEVICE_OBJECT, _irp: *mut IRP, context: PVOID) -> NTSTATUS {
    // SAFETY: `pass_and_wait` waits for the event, which lies in its frame.
    KeSetEvent(unsafe { &*context.cast::<KEVENT>() }, 0, 0);
    STATUS_MORE_PROCESSING_REQUIRED
}

/// Hands a packet on and has it again when the lower drivers have done with it.
fn pass_and_wait(pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    let done = KEVENT::zeroed();
    KeInitializeEvent(&done, 0, 0);
    let (own, next) = (irp.current(), irp.next());
    next.MajorFunction.set(own.MajorFunction.get());
    next.MinorFunction.set(own.MinorFunction.get());
    next.Flags.set(own.Flags.get());
    for (to, from) in next.Parameters.Argument.iter().zip(&own.Parameters.Argument) {
        to.set(from.get());
    }
    next.FileObject.set(own.FileObject.get());
    let always = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
    set_completion_routine(irp, passed, ptr::from_ref(&done).cast_mut().cast(), always);
    if IofCallDriver(device_object(pnp.lower), irp) == STATUS_PENDING {
        KeWaitForSingleObject(&done.Header, 0, 0, 0, None);
    }
    irp.IoStatus.Status.get()
}

fn complete(irp: &IRP, status: NTSTATUS) -> NTSTATUS {
    irp.IoStatus.Status.set(status);
    IofCompleteRequest(irp, 0);
    status
}

/// IRP_MJ_PNP, IRP_MJ_POWER and IRP_MJ_SYSTEM_CONTROL of a device of Plug and Play. Packets that the framework has no part in go on.
pub(super) fn dispatch(object: &Arc<Object>, pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    let (major, minor) = (irp.current().MajorFunction.get(), irp.current().MinorFunction.get());
    if major != IRP_MJ_PNP {
        return pass_on(pnp, irp);
    }
    match minor {
        IRP_MN_START_DEVICE => {
            let lower = pass_and_wait(pnp, irp);
            let status = if nt_success(lower) { start(object, pnp) } else { lower };
            complete(irp, status)
        }
        IRP_MN_QUERY_REMOVE_DEVICE => {
            query(object, pnp, irp, "EvtDeviceQueryRemove", pnp.callbacks.EvtDeviceQueryRemove)
        }
        IRP_MN_QUERY_STOP_DEVICE => query(object, pnp, irp, "EvtDeviceQueryStop", pnp.callbacks.EvtDeviceQueryStop),
        IRP_MN_CANCEL_REMOVE_DEVICE | IRP_MN_CANCEL_STOP_DEVICE => {
            irp.IoStatus.Status.set(STATUS_SUCCESS);
            pass_on(pnp, irp)
        }
        IRP_MN_SURPRISE_REMOVAL => {
            if let Some(callback) = pnp.callbacks.EvtDeviceSurpriseRemoval {
                callout("EvtDeviceSurpriseRemoval", || callback(object.handle));
            }
            stop(object, pnp);
            irp.IoStatus.Status.set(STATUS_SUCCESS);
            pass_on(pnp, irp)
        }
        IRP_MN_REMOVE_DEVICE => {
            stop(object, pnp);
            for (name, callback) in [
                ("EvtDeviceSelfManagedIoFlush", pnp.callbacks.EvtDeviceSelfManagedIoFlush),
                ("EvtDeviceSelfManagedIoCleanup", pnp.callbacks.EvtDeviceSelfManagedIoCleanup),
            ] {
                if let Some(callback) = callback
                    && pnp.self_managed.load(Ordering::Acquire)
                {
                    callout(name, || callback(object.handle));
                }
            }
            irp.IoStatus.Status.set(STATUS_SUCCESS);
            let status = pass_on(pnp, irp);
            detach_and_delete(object);
            status
        }
        _ => pass_on(pnp, irp),
    }
}

/// A question whether the device may go, which the client may deny.
fn query(
    object: &Arc<Object>,
    pnp: &Pnp,
    irp: &IRP,
    name: &'static str,
    callback: Option<PFN_DEVICE_STATUS>,
) -> NTSTATUS {
    let status = callback.map_or(STATUS_SUCCESS, |callback| callout(name, || callback(object.handle)));
    if !nt_success(status) {
        return complete(irp, status);
    }
    irp.IoStatus.Status.set(STATUS_SUCCESS);
    pass_on(pnp, irp)
}

/// The device is prepared and enters D0. What has been done is undone if the client refuses.
fn start(object: &Arc<Object>, pnp: &Pnp) -> NTSTATUS {
    let (device, callbacks) = (object.handle, &pnp.callbacks);
    if let Some(callback) = callbacks.EvtDevicePrepareHardware {
        // A root device has no resources.
        let lists = [0, 1].map(|_| object::create(&object.client, Kind::ResourceList, &Attributes::NONE, device));
        let [Ok(raw), Ok(translated)] = &lists else { return crate::nt::status::STATUS_INSUFFICIENT_RESOURCES };
        let prepared = callout("EvtDevicePrepareHardware", || callback(device, raw.handle, translated.handle));
        object::delete(raw);
        object::delete(translated);
        if !nt_success(prepared) {
            release_hardware(object, pnp);
            return prepared;
        }
    }
    if let Some(callback) = callbacks.EvtDeviceD0Entry {
        let entered = callout("EvtDeviceD0Entry", || callback(device, WdfPowerDeviceD3Final));
        if !nt_success(entered) {
            release_hardware(object, pnp);
            return entered;
        }
    }
    if let Some(callback) = callbacks.EvtDeviceD0EntryPostInterruptsEnabled {
        let entered = callout("EvtDeviceD0EntryPostInterruptsEnabled", || callback(device, WdfPowerDeviceD3Final));
        if !nt_success(entered) {
            leave_d0(object, pnp);
            release_hardware(object, pnp);
            return entered;
        }
    }
    *pnp.power.lock() = Power::D0;
    super::queue::power_up(object);
    if let Some(callback) = callbacks.EvtDeviceSelfManagedIoInit {
        pnp.self_managed.store(true, Ordering::Release);
        let begun = callout("EvtDeviceSelfManagedIoInit", || callback(device));
        if !nt_success(begun) {
            stop(object, pnp);
            return begun;
        }
    }
    enable_interfaces(pnp, true);
    STATUS_SUCCESS
}

/// The device leaves D0 for good, if it is there.
fn stop(object: &Arc<Object>, pnp: &Pnp) {
    if std::mem::replace(&mut *pnp.power.lock(), Power::Off) == Power::Off {
        return;
    }
    enable_interfaces(pnp, false);
    if let Some(callback) = pnp.callbacks.EvtDeviceSelfManagedIoSuspend
        && pnp.self_managed.load(Ordering::Acquire)
    {
        callout("EvtDeviceSelfManagedIoSuspend", || callback(object.handle));
    }
    super::queue::power_down(object);
    leave_d0(object, pnp);
    release_hardware(object, pnp);
}

fn leave_d0(object: &Arc<Object>, pnp: &Pnp) {
    for (name, callback) in [
        ("EvtDeviceD0ExitPreInterruptsDisabled", pnp.callbacks.EvtDeviceD0ExitPreInterruptsDisabled),
        ("EvtDeviceD0Exit", pnp.callbacks.EvtDeviceD0Exit),
    ] {
        if let Some(callback) = callback {
            callout(name, || callback(object.handle, WdfPowerDeviceD3Final));
        }
    }
}

fn release_hardware(object: &Arc<Object>, pnp: &Pnp) {
    let Some(callback) = pnp.callbacks.EvtDeviceReleaseHardware else { return };
    let Ok(list) = object::create(&object.client, Kind::ResourceList, &Attributes::NONE, object.handle) else { return };
    callout("EvtDeviceReleaseHardware", || callback(object.handle, list.handle));
    object::delete(&list);
}

fn enable_interfaces(pnp: &Pnp, enable: bool) {
    let links: Vec<String> =
        pnp.interfaces.lock().iter().filter(|known| known.wanted).map(|known| known.link.clone()).collect();
    for link in links {
        let (_units, link) = device::unicode(&link);
        IoSetDeviceInterfaceState(&link, u8::from(enable));
    }
}

fn with_init(pointer: *mut DeviceInit, call: &str, change: impl FnOnce(&mut PnpInit)) {
    match &mut device::init(pointer).pnp {
        Some(pnp) => change(pnp),
        None => violate(Rule::Framework, format!("{call}: the WDFDEVICE_INIT is that of a control device")),
    }
}

pub(crate) extern "win64" fn WdfDeviceInitSetPnpPowerEventCallbacks(
    _globals: usize,
    pointer: *mut DeviceInit,
    callbacks: *const WDF_PNPPOWER_EVENT_CALLBACKS,
) {
    called("WdfDeviceInitSetPnpPowerEventCallbacks", PASSIVE_LEVEL);
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let callbacks = unsafe { *callbacks };
    if callbacks.Size as usize != size_of::<WDF_PNPPOWER_EVENT_CALLBACKS>() {
        violate(Rule::Framework, format!("WDF_PNPPOWER_EVENT_CALLBACKS.Size is {}, not 144", callbacks.Size));
    }
    with_init(pointer, "WdfDeviceInitSetPnpPowerEventCallbacks", |pnp| pnp.callbacks = Some(callbacks));
}

/// Power policy: the device stays in D0 while the system does, whoever owns the policy.
pub(crate) extern "win64" fn WdfDeviceInitSetPowerPolicyOwnership(
    _globals: usize,
    pointer: *mut DeviceInit,
    _owner: u8,
) {
    called("WdfDeviceInitSetPowerPolicyOwnership", PASSIVE_LEVEL);
    with_init(pointer, "WdfDeviceInitSetPowerPolicyOwnership", |_| ());
}

pub(crate) extern "win64" fn WdfFdoInitSetFilter(_globals: usize, pointer: *mut DeviceInit) {
    called("WdfFdoInitSetFilter", PASSIVE_LEVEL);
    with_init(pointer, "WdfFdoInitSetFilter", |pnp| pnp.filter = true);
}

pub(crate) extern "win64" fn WdfFdoInitWdmGetPhysicalDevice(
    _globals: usize,
    pointer: *mut DeviceInit,
) -> *mut DEVICE_OBJECT {
    called("WdfFdoInitWdmGetPhysicalDevice", PASSIVE_LEVEL);
    let mut physical = ptr::null_mut();
    with_init(pointer, "WdfFdoInitWdmGetPhysicalDevice", |pnp| physical = pnp.physical);
    physical
}

pub(crate) extern "win64" fn WdfDeviceWdmGetPhysicalDevice(_globals: usize, handle: HANDLE) -> *mut DEVICE_OBJECT {
    called("WdfDeviceWdmGetPhysicalDevice", DISPATCH_LEVEL);
    let object = object::find(handle);
    pnp_of(&object).map_or(ptr::null_mut(), |pnp| pnp.physical)
}

pub(crate) extern "win64" fn WdfDeviceWdmGetAttachedDevice(_globals: usize, handle: HANDLE) -> *mut DEVICE_OBJECT {
    called("WdfDeviceWdmGetAttachedDevice", DISPATCH_LEVEL);
    let object = object::find(handle);
    pnp_of(&object).map_or(ptr::null_mut(), |pnp| pnp.lower)
}

/// Lists of resources: a root device's are empty.
pub(crate) extern "win64" fn WdfCmResourceListGetCount(_globals: usize, handle: HANDLE) -> u32 {
    called("WdfCmResourceListGetCount", DISPATCH_LEVEL);
    let object = object::find(handle);
    if !matches!(object.kind, Kind::ResourceList) {
        object::wrong_type(&object, "ResourceList");
    }
    0
}

pub(crate) extern "win64" fn WdfCmResourceListGetDescriptor(_globals: usize, handle: HANDLE, _index: u32) -> PVOID {
    called("WdfCmResourceListGetDescriptor", DISPATCH_LEVEL);
    let object = object::find(handle);
    if !matches!(object.kind, Kind::ResourceList) {
        object::wrong_type(&object, "ResourceList");
    }
    ptr::null_mut()
}

pub(crate) extern "win64" fn WdfDeviceCreateDeviceInterface(
    _globals: usize,
    handle: HANDLE,
    class: &GUID,
    reference: Option<&UNICODE_STRING>,
) -> NTSTATUS {
    called("WdfDeviceCreateDeviceInterface", PASSIVE_LEVEL);
    let object = object::find(handle);
    let pnp = expect_pnp(&object, "WdfDeviceCreateDeviceInterface");
    let link = UNICODE_STRING::zeroed();
    let status = IoRegisterDeviceInterface(device_object(pnp.physical), class, reference, &link);
    if !nt_success(status) {
        return status;
    }
    let interface = Interface {
        class: *class,
        reference: reference.map(text).unwrap_or_default(),
        link: text(&link),
        wanted: true,
    };
    RtlFreeUnicodeString(&link);
    if pnp.is_in_d0() {
        let (_units, name) = device::unicode(&interface.link);
        IoSetDeviceInterfaceState(&name, 1);
    }
    pnp.interfaces.lock().push(interface);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WdfDeviceSetDeviceInterfaceState(
    _globals: usize,
    handle: HANDLE,
    class: &GUID,
    reference: Option<&UNICODE_STRING>,
    enable: u8,
) {
    called("WdfDeviceSetDeviceInterfaceState", PASSIVE_LEVEL);
    let object = object::find(handle);
    let pnp = expect_pnp(&object, "WdfDeviceSetDeviceInterfaceState");
    let reference = reference.map(text).unwrap_or_default();
    let link = {
        let mut interfaces = pnp.interfaces.lock();
        let known = interfaces.iter_mut().find(|known| known.class == *class && known.reference == reference);
        known.map(|known| {
            known.wanted = enable != 0;
            known.link.clone()
        })
    };
    if let Some(link) = link
        && pnp.is_in_d0()
    {
        let (_units, link) = device::unicode(&link);
        IoSetDeviceInterfaceState(&link, enable);
    }
}

pub(crate) extern "win64" fn WdfDeviceRetrieveDeviceInterfaceString(
    _globals: usize,
    handle: HANDLE,
    class: &GUID,
    reference: Option<&UNICODE_STRING>,
    string: HANDLE,
) -> NTSTATUS {
    called("WdfDeviceRetrieveDeviceInterfaceString", PASSIVE_LEVEL);
    let object = object::find(handle);
    let pnp = expect_pnp(&object, "WdfDeviceRetrieveDeviceInterfaceString");
    let reference = reference.map(text).unwrap_or_default();
    let interfaces = pnp.interfaces.lock();
    let known = interfaces.iter().find(|known| known.class == *class && known.reference == reference);
    let Some(link) = known.map(|known| known.link.clone()) else {
        return crate::nt::status::STATUS_OBJECT_NAME_NOT_FOUND;
    };
    drop(interfaces);
    super::values::set_string(string, &link)
}
