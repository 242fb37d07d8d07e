//! Power: IRPs to device stacks that their power policy owners ask for, and the system's own way to sleep and back.
//!
//! Devices of Plug and Play get IRP_MN_QUERY_POWER and IRP_MN_SET_POWER for the system's state; what state of the device belongs to
//! that is their drivers' business. A device's power IRPs come on a worker thread, at PASSIVE_LEVEL.
#![allow(unsafe_code)] // reads the I/O status that a completion routine gets

use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::callback_object;
use super::io::device::attached;
use super::io::request::{Packet, send_to_device};
use super::io::{self, pnp};
use super::irp::IofCallDriver;
use super::irql::called;
use super::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER_2, STATUS_PENDING, nt_success,
};
use super::types::{
    APC_LEVEL, DEVICE_OBJECT, DISPATCH_LEVEL, IO_STACK_LOCATION, IO_STATUS_BLOCK, IRP, IRP_MJ_POWER, NTSTATUS, PVOID,
    Zeroed,
};
use crate::guard::{callout, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::thread::try_current;
use crate::violation::Rule;

/// Minor functions of IRP_MJ_POWER.
pub(crate) const IRP_MN_WAIT_WAKE: u8 = 0x00;
pub(crate) const IRP_MN_SET_POWER: u8 = 0x02;
pub(crate) const IRP_MN_QUERY_POWER: u8 = 0x03;

/// SYSTEM_POWER_STATE.
pub(crate) const POWER_SYSTEM_WORKING: u32 = 1;
pub(crate) const POWER_SYSTEM_SLEEPING3: u32 = 4;
/// DEVICE_POWER_STATE.
pub(crate) const POWER_DEVICE_D0: u32 = 1;
pub(crate) const POWER_DEVICE_D3: u32 = 4;
/// POWER_STATE_TYPE.
pub(crate) const SYSTEM_POWER_STATE: u32 = 0;
pub(crate) const DEVICE_POWER_STATE: u32 = 1;
/// POWER_ACTION.
const POWER_ACTION_NONE: u32 = 0;
const POWER_ACTION_SLEEP: u32 = 2;

/// The callback object that tells of the system's power, and its first argument for the way out of and into S0.
const POWER_STATE_CALLBACK: &str = r"\Callback\PowerState";
const PO_CB_SYSTEM_STATE_LOCK: usize = 3;

/// A REQUEST_POWER_COMPLETE.
pub(crate) type REQUEST_POWER_COMPLETE = extern "win64" fn(*mut DEVICE_OBJECT, u8, u32, PVOID, *const IO_STATUS_BLOCK);

/// What the power manager of a machine knows.
#[derive(Default)]
pub(crate) struct Power {
    /// Packets that wait for the one before them to complete, by the top of the stack: a device gets one at a time.
    waiting: Mutex<HashMap<usize, VecDeque<Packet>>>,
    /// SYSTEM_POWER_STATE; 0 stands for the working state until the system has slept once.
    state: AtomicU32,
    /// POWER_ACTION that is under way.
    action: AtomicU32,
}

/// The view `Parameters.Power`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PowerParameters {
    /// POWER_STATE_TYPE.
    pub(crate) kind: u32,
    /// SYSTEM_POWER_STATE or DEVICE_POWER_STATE.
    pub(crate) state: u32,
    /// POWER_ACTION.
    action: u32,
}

impl PowerParameters {
    /// Reads them from the location of a query or set-power packet.
    #[allow(clippy::cast_possible_truncation)] // the low halves are what the enumerations lie in
    pub(crate) fn of(location: &IO_STACK_LOCATION) -> Self {
        let [_, kind, state, action] = &location.Parameters.Argument;
        Self { kind: kind.get() as u32, state: state.get() as u32, action: action.get() as u32 }
    }

    fn put(self, location: &IO_STACK_LOCATION) {
        let [context, kind, state, action] = &location.Parameters.Argument;
        context.set(0);
        kind.set(self.kind as usize);
        state.set(self.state as usize);
        action.set(self.action as usize);
    }
}

/// Has a worker send a power IRP to the top of a device's stack: a device's state, or the system's that it may wake up from.
pub(crate) extern "win64" fn PoRequestPowerIrp(
    object: *mut DEVICE_OBJECT,
    minor: u8,
    state: u32,
    routine: Option<REQUEST_POWER_COMPLETE>,
    context: PVOID,
    requested: Option<&Cell<*mut IRP>>,
) -> NTSTATUS {
    let kernel = &called("PoRequestPowerIrp", DISPATCH_LEVEL).kernel;
    if !matches!(minor, IRP_MN_WAIT_WAKE | IRP_MN_SET_POWER | IRP_MN_QUERY_POWER) {
        return STATUS_INVALID_PARAMETER_2;
    }
    if kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let (device, context) = (object as usize, context as usize);
    let target = attached(object);
    let top = target as usize;
    let done = Box::new(move |status: crate::machine::IoStatus| {
        // A machine that has stopped calls no driver.
        let Some(current) = try_current().filter(|current| !current.kernel.is_stopped()) else { return };
        if minor != IRP_MN_WAIT_WAKE {
            send_next(&current.kernel, top);
        }
        let Some(routine) = routine else { return };
        let block = IO_STATUS_BLOCK::zeroed();
        block.Status.set(status.status);
        block.Information.set(status.information);
        callout("a power completion routine", || {
            routine(device as *mut DEVICE_OBJECT, minor, state, context as PVOID, &raw const block);
        });
    });
    let action = kernel.power.action.load(Ordering::Acquire);
    let packet = Packet::new(kernel, target, done, |location| {
        location.MajorFunction.set(IRP_MJ_POWER);
        location.MinorFunction.set(minor);
        if minor == IRP_MN_WAIT_WAKE {
            location.Parameters.Argument[0].set(state as usize);
        } else {
            PowerParameters { kind: DEVICE_POWER_STATE, state, action }.put(location);
        }
    });
    let packet = match packet {
        Ok(packet) => packet,
        Err(status) => return status,
    };
    if let Some(requested) = requested {
        requested.set(packet.irp());
    }
    if minor == IRP_MN_WAIT_WAKE {
        kernel.workers.queue(kernel, move || packet.send());
        return STATUS_PENDING;
    }
    match kernel.power.waiting.lock().entry(top) {
        Entry::Occupied(mut waiting) => waiting.get_mut().push_back(packet),
        Entry::Vacant(none) => {
            none.insert(VecDeque::new());
            kernel.workers.queue(kernel, move || packet.send());
        }
    }
    STATUS_PENDING
}

/// Whether a power packet of a stack, known by its top, is under way.
pub(in crate::nt) fn is_under_way(kernel: &Kernel, top: *mut DEVICE_OBJECT) -> bool {
    kernel.power.waiting.lock().contains_key(&(top as usize))
}

/// A power packet of a stack has completed: the next one may go.
fn send_next(kernel: &Arc<Kernel>, top: usize) {
    let mut waiting = kernel.power.waiting.lock();
    let Some(packets) = waiting.get_mut(&top) else { return };
    match packets.pop_front() {
        Some(packet) => kernel.workers.queue(kernel, move || packet.send()),
        None => drop(waiting.remove(&top)),
    }
}

/// Notes a device's state; the state that it was in. Callers that power down must be below DISPATCH_LEVEL. The page has drivers tell of
/// their device's state alone; Microsoft's framework tells of the system's, too.
pub(crate) extern "win64" fn PoSetPowerState(object: *mut DEVICE_OBJECT, kind: u32, state: u32) -> u32 {
    let highest = if kind == DEVICE_POWER_STATE && state == POWER_DEVICE_D0 { DISPATCH_LEVEL } else { APC_LEVEL };
    let kernel = &called("PoSetPowerState", highest).kernel;
    if !matches!(kind, SYSTEM_POWER_STATE | DEVICE_POWER_STATE) {
        violate(Rule::Io, format!("PoSetPowerState: {kind} is no POWER_STATE_TYPE"));
    }
    io::device::set_power(kernel, object, kind, state)
}

/// A power packet goes down like any other since Windows Vista.
pub(crate) extern "win64" fn PoCallDriver(object: &DEVICE_OBJECT, irp: &IRP) -> NTSTATUS {
    called("PoCallDriver", DISPATCH_LEVEL);
    IofCallDriver(object, irp)
}

/// The next power packet is not held back since Windows Vista.
pub(crate) extern "win64" fn PoStartNextPowerIrp(_irp: &IRP) {
    called("PoStartNextPowerIrp", DISPATCH_LEVEL);
}

/// Marks a wait/wake packet as one whose device has woken the system.
pub(crate) extern "win64" fn PoSetSystemWake(irp: &IRP) {
    called("PoSetSystemWake", DISPATCH_LEVEL).kernel.irps.set_system_wake(irp);
}

pub(crate) extern "win64" fn PoGetSystemWake(irp: &IRP) -> u8 {
    u8::from(called("PoGetSystemWake", DISPATCH_LEVEL).kernel.irps.is_system_wake(irp))
}

/// What the bus does with a power packet that has come down to its device: one of a device without wake-up.
pub(super) fn at_the_bus(object: *mut DEVICE_OBJECT, packet: &IRP) -> NTSTATUS {
    use super::status::STATUS_SUCCESS;
    let location = packet.current();
    match location.MinorFunction.get() {
        IRP_MN_SET_POWER => {
            let asked = PowerParameters::of(location);
            if asked.kind == DEVICE_POWER_STATE {
                PoSetPowerState(object, DEVICE_POWER_STATE, asked.state);
            }
            STATUS_SUCCESS
        }
        IRP_MN_QUERY_POWER => STATUS_SUCCESS,
        // What a bus does not handle it leaves as it is: not supported.
        _ => packet.IoStatus.Status.get(),
    }
}

/// Sends the system's power to the stack of a device; what its drivers say.
fn tell(kernel: &Kernel, pdo: usize, minor: u8, state: u32) -> Result<NTSTATUS, NTSTATUS> {
    let action = kernel.power.action.load(Ordering::Acquire);
    let told = send_to_device(kernel, attached(pdo as *mut DEVICE_OBJECT), |location| {
        location.MajorFunction.set(IRP_MJ_POWER);
        location.MinorFunction.set(minor);
        PowerParameters { kind: SYSTEM_POWER_STATE, state, action }.put(location);
    });
    told.map(|told| told.status)
}

/// The system goes from S0 to S3: every started device is asked, and then told.
///
/// # Errors
/// It sleeps already (STATUS_INVALID_DEVICE_STATE), or a device's drivers refuse; those that were asked hear that it stays in S0.
pub(crate) fn sleep(kernel: &Kernel) -> Result<(), NTSTATUS> {
    let power = &kernel.power;
    if power.state.load(Ordering::Acquire) > POWER_SYSTEM_WORKING {
        return Err(STATUS_INVALID_DEVICE_STATE);
    }
    power.action.store(POWER_ACTION_SLEEP, Ordering::Release);
    let devices = pnp::started(kernel);
    for (index, device) in devices.iter().enumerate() {
        let asked = tell(kernel, *device, IRP_MN_QUERY_POWER, POWER_SYSTEM_SLEEPING3)?;
        if !nt_success(asked) {
            for device in &devices[..=index] {
                tell(kernel, *device, IRP_MN_SET_POWER, POWER_SYSTEM_WORKING)?;
            }
            power.action.store(POWER_ACTION_NONE, Ordering::Release);
            return Err(asked);
        }
    }
    callback_object::notify(kernel, POWER_STATE_CALLBACK, PO_CB_SYSTEM_STATE_LOCK, 0);
    power.state.store(POWER_SYSTEM_SLEEPING3, Ordering::Release);
    for device in devices {
        set_power(kernel, device, POWER_SYSTEM_SLEEPING3)?;
    }
    Ok(())
}

/// The system is back in S0. Drivers may still be at bringing their devices back when this returns.
///
/// # Errors
/// It does not sleep (STATUS_INVALID_DEVICE_STATE).
pub(crate) fn wake(kernel: &Kernel) -> Result<(), NTSTATUS> {
    let power = &kernel.power;
    if power.state.load(Ordering::Acquire) <= POWER_SYSTEM_WORKING {
        return Err(STATUS_INVALID_DEVICE_STATE);
    }
    power.state.store(POWER_SYSTEM_WORKING, Ordering::Release);
    for device in pnp::started(kernel) {
        set_power(kernel, device, POWER_SYSTEM_WORKING)?;
    }
    power.action.store(POWER_ACTION_NONE, Ordering::Release);
    callback_object::notify(kernel, POWER_STATE_CALLBACK, PO_CB_SYSTEM_STATE_LOCK, 1);
    Ok(())
}

/// A set-power packet of the system's, which no driver may fail.
fn set_power(kernel: &Kernel, device: usize, state: u32) -> Result<(), NTSTATUS> {
    let told = tell(kernel, device, IRP_MN_SET_POWER, state)?;
    if !nt_success(told) {
        let status = super::status::name(told);
        violate(Rule::Io, format!("IRP_MN_SET_POWER for the system's state {state} ended with {status}"));
    }
    Ok(())
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    PoRequestPowerIrp,
    PoSetPowerState,
    PoCallDriver,
    PoStartNextPowerIrp,
    PoSetSystemWake,
    PoGetSystemWake,
];
