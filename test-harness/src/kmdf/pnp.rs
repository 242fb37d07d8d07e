//! Plug and Play of a function or filter device: from EvtDriverDeviceAdd over its start to its removal.
//!
//! A device enters D0 when it is started, and leaves it for good when it is removed; what comes between is [`power`]'s.
#![allow(unsafe_code)] // reads the client's structures

mod query;
mod state;

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use parking_lot::Mutex;

pub(super) use self::query::{WdfDeviceAddQueryInterface, WdfFdoQueryForInterface, WdfIoTargetQueryForInterface, ask};
pub(super) use self::state::{
    WdfDeviceGetDeviceState, WdfDeviceSetDeviceState, WdfDeviceSetFailed, WdfDeviceSetPnpCapabilities,
    WdfDeviceSetPowerCapabilities,
};
use super::device::{self, Device, DeviceInit};
use super::object::{self, Attributes, Kind, Object, expect_kind};
use super::power::{self, Idle, Power};
use super::queue::Stop;
use super::types::{
    DriverObject, HANDLE, PFN_DEVICE_STATUS, WDF_PNPPOWER_EVENT_CALLBACKS, WDF_POWER_POLICY_EVENT_CALLBACKS,
    WdfPowerDeviceD3Final,
};
use crate::guard::{callout, violate};
use crate::nt::dispatcher::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use crate::nt::io::device as device_object;
use crate::nt::io::device::{IoAttachDeviceToDeviceStack, IoDetachDevice};
use crate::nt::io::interface::{IoRegisterDeviceInterface, IoSetDeviceInterfaceState};
use crate::nt::io::pnp::{
    IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_QUERY_CAPABILITIES, IRP_MN_QUERY_INTERFACE,
    IRP_MN_QUERY_PNP_DEVICE_STATE, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_START_DEVICE, IRP_MN_SURPRISE_REMOVAL,
};
use crate::nt::irp::{IofCallDriver, IofCompleteRequest, set_completion_routine};
use crate::nt::irql::called;
use crate::nt::power::POWER_DEVICE_D0;
use crate::nt::status::{
    STATUS_INVALID_DEVICE_REQUEST, STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS, nt_success,
};
use crate::nt::strings::{RtlFreeUnicodeString, text};
use crate::nt::types::{
    DEVICE_OBJECT, DISPATCH_LEVEL, DO_BUFFERED_IO, DO_DEVICE_INITIALIZING, DO_DIRECT_IO, GUID, IRP, IRP_MJ_PNP,
    IRP_MJ_POWER, KEVENT, NTSTATUS, PASSIVE_LEVEL, PVOID, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR,
    SL_INVOKE_ON_SUCCESS, UNICODE_STRING, Zeroed,
};
use crate::violation::Rule;

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
    own: *mut DEVICE_OBJECT,
    /// The next lower device of the stack.
    lower: *mut DEVICE_OBJECT,
    callbacks: WDF_PNPPOWER_EVENT_CALLBACKS,
    filter: bool,
    owns_policy: bool,
    power: Mutex<Power>,
    /// IRP_MN_START_DEVICE is being handled.
    starting: AtomicBool,
    /// What the device's last way into D0 ended with.
    entry: AtomicI32,
    /// What its driver has said of it.
    said: Mutex<state::Said>,
    /// What its driver gives others of the stack.
    given: Mutex<Vec<Arc<query::Given>>>,
    /// Who needs it to be in D0.
    idle: Idle,
    /// It has been asked whether it may be removed or stopped, for which it is in D0.
    held: AtomicBool,
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
    /// Whether the client has said that it owns the power policy, or does not.
    owns_policy: Option<bool>,
    /// Where the handle of the device is noted that is made with it.
    made: Arc<AtomicUsize>,
}

impl PnpInit {
    pub(super) fn is_filter(&self) -> bool {
        self.filter
    }

    /// The device has been made.
    pub(super) fn note(&self, device: HANDLE) {
        self.made.store(device, Ordering::Release);
    }

    /// The PDO.
    pub(super) fn physical(&self) -> *mut DEVICE_OBJECT {
        self.physical
    }

    /// Puts the device on top of its stack.
    pub(super) fn attach(&self, wdm: *mut DEVICE_OBJECT) -> Pnp {
        let lower = IoAttachDeviceToDeviceStack(device_object(wdm), device_object(self.physical));
        if self.filter {
            // It looks like the device that it filters.
            const INHERITED: u32 = DO_BUFFERED_IO | DO_DIRECT_IO;
            let (own, below) = (device_object(wdm), device_object(lower));
            own.Flags.set(own.Flags.get() & !INHERITED | below.Flags.get() & INHERITED);
            own.DeviceType.set(below.DeviceType.get());
            own.Characteristics.set(below.Characteristics.get());
        }
        Pnp {
            physical: self.physical,
            own: wdm,
            lower,
            callbacks: self.callbacks.unwrap_or_default(),
            filter: self.filter,
            owns_policy: self.owns_policy.unwrap_or(!self.filter),
            power: Mutex::new(Power::Off),
            starting: AtomicBool::new(false),
            entry: AtomicI32::new(STATUS_SUCCESS),
            said: Mutex::default(),
            given: Mutex::default(),
            idle: Idle::new(),
            held: AtomicBool::new(false),
            interfaces: Mutex::default(),
            self_managed: AtomicBool::new(false),
        }
    }
}

impl Pnp {
    pub(super) fn lower(&self) -> *mut DEVICE_OBJECT {
        self.lower
    }

    pub(super) fn is_filter(&self) -> bool {
        self.filter
    }

    /// Whether queues that leave it to the framework are power-managed: those of function devices.
    pub(super) fn manages_queues(&self) -> bool {
        !self.filter
    }

    pub(super) fn is_in_d0(&self) -> bool {
        self.power() == Power::D0
    }

    pub(super) fn power(&self) -> Power {
        *self.power.lock()
    }

    pub(super) fn set_power(&self, power: Power) {
        *self.power.lock() = power;
    }

    /// Whether its driver decides what state the device is in.
    pub(super) fn owns_policy(&self) -> bool {
        self.owns_policy
    }

    /// The device object that is in the stack.
    pub(super) fn own(&self) -> *mut DEVICE_OBJECT {
        self.own
    }

    pub(super) fn physical(&self) -> *mut DEVICE_OBJECT {
        self.physical
    }

    pub(super) fn callbacks(&self) -> &WDF_PNPPOWER_EVENT_CALLBACKS {
        &self.callbacks
    }

    pub(super) fn is_starting(&self) -> bool {
        self.starting.load(Ordering::Acquire)
    }

    pub(super) fn note_entry(&self, status: NTSTATUS) {
        self.entry.store(status, Ordering::Release);
    }

    pub(super) fn idle(&self) -> &Idle {
        &self.idle
    }

    /// Has the device in D0 until it is let go.
    fn hold(&self) -> Result<(), NTSTATUS> {
        if self.owns_policy && !self.held.load(Ordering::Acquire) {
            self.idle.hold(self)?;
            self.held.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn let_go(&self) {
        if self.held.swap(false, Ordering::AcqRel) {
            self.idle.dereference();
        }
    }

    /// It could not be brought back to D0.
    pub(super) fn set_failed(&self) {
        self.said.lock().set_failed();
    }

    /// Whether the client's I/O of its own has begun.
    pub(super) fn manages_its_io(&self) -> bool {
        self.self_managed.load(Ordering::Acquire)
    }

    pub(super) fn begin_own_io(&self) {
        self.self_managed.store(true, Ordering::Release);
    }
}

/// DRIVER_EXTENSION.AddDevice of every client with EvtDriverDeviceAdd.
pub(super) extern "win64" fn add_device(driver: DriverObject, physical: *mut DEVICE_OBJECT) -> NTSTATUS {
    called("the framework's AddDevice routine", PASSIVE_LEVEL);
    let Some(client) = super::driver::client_of(driver) else { return STATUS_INVALID_DEVICE_REQUEST };
    let Some(callback) = client.config.lock().and_then(|config| config.EvtDriverDeviceAdd) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let made = Arc::new(AtomicUsize::new(0));
    let pnp = PnpInit { physical, callbacks: None, filter: false, owns_policy: None, made: made.clone() };
    let init = device::new_init(&client, None, Some(pnp));
    let handle = client.driver();
    let status = callout("EvtDriverDeviceAdd", || callback(handle, init.cast()));
    device::free_if_left(init);
    let Some(object) = object::try_find(made.load(Ordering::Acquire)) else { return status };
    let Some(pnp) = pnp_of(&object) else { return status };
    if nt_success(status) {
        let flags = &device_object(pnp.own).Flags;
        flags.set(flags.get() & !DO_DEVICE_INITIALIZING);
        return status;
    }
    // A filter that fails does not keep the others from building the stack.
    let status = if pnp.filter { STATUS_SUCCESS } else { status };
    detach_and_delete(&object);
    status
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
pub(super) fn expect_pnp<'a>(object: &'a Object, call: &str) -> &'a Pnp {
    let device: &Device = expect_kind!(object, Device);
    match &device.pnp {
        Some(pnp) => pnp,
        None => violate(Rule::Framework, format!("{call}: a control device is none of Plug and Play")),
    }
}

/// Hands a packet on with the same location (IoSkipCurrentIrpStackLocation).
pub(super) fn pass_on(pnp: &Pnp, irp: &IRP) -> NTSTATUS {
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
pub(super) fn pass_and_wait(pnp: &Pnp, irp: &IRP) -> NTSTATUS {
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

pub(super) fn complete(irp: &IRP, status: NTSTATUS) -> NTSTATUS {
    irp.IoStatus.Status.set(status);
    IofCompleteRequest(irp, 0);
    status
}

/// IRP_MJ_PNP, IRP_MJ_POWER and IRP_MJ_SYSTEM_CONTROL of a device of Plug and Play. Packets that the framework has no part in go on.
pub(super) fn dispatch(object: &Arc<Object>, pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    let (major, minor) = (irp.current().MajorFunction.get(), irp.current().MinorFunction.get());
    match major {
        IRP_MJ_PNP => {}
        IRP_MJ_POWER => return power::dispatch(object, pnp, irp),
        _ => return pass_on(pnp, irp),
    }
    match minor {
        IRP_MN_START_DEVICE => {
            let lower = pass_and_wait(pnp, irp);
            let status = if nt_success(lower) { start(object, pnp) } else { lower };
            complete(irp, status)
        }
        IRP_MN_QUERY_REMOVE_DEVICE => {
            pnp.idle.wait_until_settled();
            query(object, pnp, irp, "EvtDeviceQueryRemove", pnp.callbacks.EvtDeviceQueryRemove)
        }
        IRP_MN_QUERY_STOP_DEVICE => query(object, pnp, irp, "EvtDeviceQueryStop", pnp.callbacks.EvtDeviceQueryStop),
        IRP_MN_CANCEL_REMOVE_DEVICE | IRP_MN_CANCEL_STOP_DEVICE => {
            pnp.let_go();
            irp.IoStatus.Status.set(STATUS_SUCCESS);
            pass_on(pnp, irp)
        }
        IRP_MN_QUERY_PNP_DEVICE_STATE => state::answer_state(pnp, irp),
        IRP_MN_QUERY_CAPABILITIES => state::answer_capabilities(pnp, irp),
        IRP_MN_QUERY_INTERFACE => query::answer(object, pnp, irp),
        IRP_MN_SURPRISE_REMOVAL => {
            pnp.idle.end();
            if let Some(callback) = pnp.callbacks.EvtDeviceSurpriseRemoval {
                callout("EvtDeviceSurpriseRemoval", || callback(object.handle));
            }
            stop(object, pnp);
            irp.IoStatus.Status.set(STATUS_SUCCESS);
            pass_on(pnp, irp)
        }
        IRP_MN_REMOVE_DEVICE => {
            pnp.idle.end();
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

/// A question whether the device may go, which the client may deny. It is in D0 for that.
fn query(
    object: &Arc<Object>,
    pnp: &Pnp,
    irp: &IRP,
    name: &'static str,
    callback: Option<PFN_DEVICE_STATUS>,
) -> NTSTATUS {
    if let Err(status) = pnp.hold() {
        return complete(irp, status);
    }
    let status = callback.map_or(STATUS_SUCCESS, |callback| callout(name, || callback(object.handle)));
    if !nt_success(status) {
        pnp.let_go();
        return complete(irp, status);
    }
    irp.IoStatus.Status.set(STATUS_SUCCESS);
    pass_on(pnp, irp)
}

/// The device is prepared and enters D0. What has been done is undone if the client refuses.
fn start(object: &Arc<Object>, pnp: &Pnp) -> NTSTATUS {
    let device = object.handle;
    if let Some(callback) = pnp.callbacks.EvtDevicePrepareHardware {
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
    pnp.starting.store(true, Ordering::Release);
    pnp.idle.begin();
    let entered = if pnp.owns_policy {
        let requested = power::request(pnp, POWER_DEVICE_D0);
        if nt_success(requested) { pnp.entry.load(Ordering::Acquire) } else { requested }
    } else {
        power::enter_d0(object, pnp, WdfPowerDeviceD3Final)
    };
    pnp.starting.store(false, Ordering::Release);
    if !nt_success(entered) {
        pnp.idle.end();
        release_hardware(object, pnp);
        return entered;
    }
    pnp.idle.started();
    enable_interfaces(pnp, true);
    STATUS_SUCCESS
}

/// The device stops for good, if it has been started.
fn stop(object: &Arc<Object>, pnp: &Pnp) {
    let before = pnp.power();
    if before == Power::Off {
        return;
    }
    enable_interfaces(pnp, false);
    pnp.set_power(Power::Off);
    if before == Power::D0 {
        power::leave_d0(object, pnp, WdfPowerDeviceD3Final, Stop::Purge);
    }
    release_hardware(object, pnp);
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

/// The callbacks are for devices that wake up, which no root device does.
pub(crate) extern "win64" fn WdfDeviceInitSetPowerPolicyEventCallbacks(
    _globals: usize,
    pointer: *mut DeviceInit,
    callbacks: *const WDF_POWER_POLICY_EVENT_CALLBACKS,
) {
    called("WdfDeviceInitSetPowerPolicyEventCallbacks", DISPATCH_LEVEL);
    /// How large the structure was up to KMDF 1.5, without the last callback.
    const FORMER_SIZE: usize = 56;
    with_init(pointer, "WdfDeviceInitSetPowerPolicyEventCallbacks", |_| {});
    // SAFETY: the structure begins with its size; a bad pointer faults, which the guard reports.
    let size = unsafe { callbacks.cast::<u32>().read() } as usize;
    if size == FORMER_SIZE {
        return;
    }
    if size != size_of::<WDF_POWER_POLICY_EVENT_CALLBACKS>() {
        violate(Rule::Framework, format!("WDF_POWER_POLICY_EVENT_CALLBACKS.Size is {size}, not 64"));
    }
    // SAFETY: the client's structure, which has all callbacks.
    let callbacks = unsafe { &*callbacks };
    if callbacks.FromSx[0] != 0 && callbacks.EvtDeviceArmWakeFromSxWithReason != 0 {
        violate(Rule::Framework, "WDF_POWER_POLICY_EVENT_CALLBACKS: there are two callbacks to arm the device for Sx");
    }
}

/// The owner asks for the device's state that belongs to the system's.
pub(crate) extern "win64" fn WdfDeviceInitSetPowerPolicyOwnership(
    _globals: usize,
    pointer: *mut DeviceInit,
    owner: u8,
) {
    called("WdfDeviceInitSetPowerPolicyOwnership", PASSIVE_LEVEL);
    with_init(pointer, "WdfDeviceInitSetPowerPolicyOwnership", |pnp| pnp.owns_policy = Some(owner != 0));
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
    if pnp.power() != Power::Off {
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
        && pnp.power() != Power::Off
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
