//! Power of a device of Plug and Play: its ways into D0 and out of it, and the IRPs that these come with.
//!
//! The power policy owner of a stack, its function driver, asks for the device's state that belongs to the system's: D0 in S0, D3 when
//! it sleeps. Callbacks come in the order of the documentation's page "PnP and Power Management Callback Sequences".
#![allow(unsafe_code)] // finds the device of a completed power IRP again

mod idle;

use std::ptr;
use std::sync::Arc;

pub(super) use self::idle::{
    Idle, WdfDeviceAssignS0IdleSettings, WdfDeviceAssignSxWakeSettings, WdfDeviceResumeIdleActual,
    WdfDeviceResumeIdleNoTrack, WdfDeviceStopIdleActual, WdfDeviceStopIdleNoTrack,
};

use super::object::Object;
use super::pnp::{Pnp, complete, pass_and_wait, pass_on};
use super::queue::{self, Stop};
use super::types::WdfPowerDeviceD3Final;
use crate::guard::callout;
use crate::nt::dispatcher::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use crate::nt::io::pnp::IoInvalidateDeviceState;
use crate::nt::power::{
    DEVICE_POWER_STATE, IRP_MN_QUERY_POWER, IRP_MN_SET_POWER, POWER_DEVICE_D0, POWER_DEVICE_D3, POWER_SYSTEM_WORKING,
    PoRequestPowerIrp, PoSetPowerState, PowerParameters,
};
use crate::nt::status::{STATUS_PENDING, STATUS_SUCCESS, nt_success};
use crate::nt::types::{DEVICE_OBJECT, IO_STATUS_BLOCK, IRP, KEVENT, NTSTATUS, PVOID, Zeroed};

/// How far a device has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    /// Not started yet, or removed.
    Off,
    /// Started: its hardware is prepared, and it works.
    D0,
    /// Started, and in a lower state: DEVICE_POWER_STATE, which is what WDF_POWER_DEVICE_STATE calls it.
    Dx(u32),
}

/// IRP_MJ_POWER of a device. What the framework has no part in goes on.
pub(super) fn dispatch(object: &Arc<Object>, pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    let location = irp.current();
    match location.MinorFunction.get() {
        IRP_MN_SET_POWER => {
            let asked = PowerParameters::of(location);
            match (asked.kind == DEVICE_POWER_STATE, asked.state) {
                (true, POWER_DEVICE_D0) => device_up(object, pnp, irp),
                (true, state) => device_down(object, pnp, irp, state),
                (false, POWER_SYSTEM_WORKING) => system_up(pnp, irp),
                (false, _) => system_down(pnp, irp),
            }
        }
        IRP_MN_QUERY_POWER => {
            irp.IoStatus.Status.set(STATUS_SUCCESS);
            pass_on(pnp, irp)
        }
        _ => pass_on(pnp, irp),
    }
}

/// The lower drivers bring the device to D0 first.
fn device_up(object: &Arc<Object>, pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    let lower = pass_and_wait(pnp, irp);
    if nt_success(lower) {
        let entered = match pnp.power() {
            Power::D0 => STATUS_SUCCESS,
            Power::Off if !pnp.is_starting() => STATUS_SUCCESS,
            Power::Off => enter_d0(object, pnp, WdfPowerDeviceD3Final),
            Power::Dx(state) => enter_d0(object, pnp, state),
        };
        pnp.note_entry(entered);
        PoSetPowerState(pnp.own(), DEVICE_POWER_STATE, POWER_DEVICE_D0);
        if !nt_success(entered) && !pnp.is_starting() {
            // The PnP manager asks for its state, and removes it.
            pnp.set_failed();
            IoInvalidateDeviceState(pnp.physical());
        }
    }
    complete(irp, lower)
}

/// The lower drivers take the device out of D0 last.
fn device_down(object: &Arc<Object>, pnp: &Pnp, irp: &IRP, state: u32) -> NTSTATUS {
    if pnp.power() == Power::D0 {
        PoSetPowerState(pnp.own(), DEVICE_POWER_STATE, state);
        leave_d0(object, pnp, state, Stop::Suspend);
        pnp.set_power(Power::Dx(state));
    }
    irp.IoStatus.Status.set(STATUS_SUCCESS);
    pass_on(pnp, irp)
}

/// The system goes on at once, while the device comes back.
fn system_up(pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    if pnp.owns_policy() && matches!(pnp.power(), Power::Dx(_)) {
        pnp.idle().resume(pnp);
    }
    irp.IoStatus.Status.set(STATUS_SUCCESS);
    pass_on(pnp, irp)
}

/// The system goes to sleep when the device does.
fn system_down(pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    if pnp.owns_policy() && pnp.power() != Power::Off {
        pnp.idle().pause();
        if pnp.power() == Power::D0 {
            request(pnp, POWER_DEVICE_D3);
        }
        pnp.idle().fell();
    }
    irp.IoStatus.Status.set(STATUS_SUCCESS);
    pass_on(pnp, irp)
}

extern "win64" fn requested(
    _device: *mut DEVICE_OBJECT,
    _minor: u8,
    _state: u32,
    context: PVOID,
    _status: *const IO_STATUS_BLOCK,
) {
    // SAFETY: `request` waits for the event, which lies in its frame.
    KeSetEvent(unsafe { &*context.cast::<KEVENT>() }, 0, 0);
}

/// Has the stack go to a state of the device, and waits for that.
pub(super) fn request(pnp: &Pnp, state: u32) -> NTSTATUS {
    let done = KEVENT::zeroed();
    KeInitializeEvent(&done, 0, 0);
    let context = ptr::from_ref(&done).cast_mut().cast();
    let status = PoRequestPowerIrp(pnp.physical(), IRP_MN_SET_POWER, state, Some(requested), context, None);
    if status == STATUS_PENDING {
        KeWaitForSingleObject(&done.Header, 0, 0, 0, None);
        return STATUS_SUCCESS;
    }
    status
}

/// The device works, coming from another state. What has been done is undone if the client refuses.
pub(super) fn enter_d0(object: &Arc<Object>, pnp: &Pnp, previous: u32) -> NTSTATUS {
    let (device, callbacks) = (object.handle, pnp.callbacks());
    if let Some(callback) = callbacks.EvtDeviceD0Entry {
        let entered = callout("EvtDeviceD0Entry", || callback(device, previous));
        if !nt_success(entered) {
            return entered;
        }
    }
    if let Some(callback) = callbacks.EvtDeviceD0EntryPostInterruptsEnabled {
        let entered = callout("EvtDeviceD0EntryPostInterruptsEnabled", || callback(device, previous));
        if !nt_success(entered) {
            exit(object, pnp, WdfPowerDeviceD3Final);
            return entered;
        }
    }
    pnp.set_power(Power::D0);
    queue::power_up(object);
    let (name, callback) = if pnp.manages_its_io() {
        ("EvtDeviceSelfManagedIoRestart", callbacks.EvtDeviceSelfManagedIoRestart)
    } else {
        ("EvtDeviceSelfManagedIoInit", callbacks.EvtDeviceSelfManagedIoInit)
    };
    if let Some(callback) = callback {
        pnp.begin_own_io();
        let begun = callout(name, || callback(device));
        if !nt_success(begun) {
            leave_d0(object, pnp, WdfPowerDeviceD3Final, Stop::Purge);
            pnp.set_power(Power::Off);
            return begun;
        }
    }
    STATUS_SUCCESS
}

/// The device stops to work.
pub(super) fn leave_d0(object: &Arc<Object>, pnp: &Pnp, target: u32, how: Stop) {
    if let Some(callback) = pnp.callbacks().EvtDeviceSelfManagedIoSuspend
        && pnp.manages_its_io()
    {
        callout("EvtDeviceSelfManagedIoSuspend", || callback(object.handle));
    }
    queue::power_down(object, how);
    exit(object, pnp, target);
}

fn exit(object: &Arc<Object>, pnp: &Pnp, target: u32) {
    for (name, callback) in [
        ("EvtDeviceD0ExitPreInterruptsDisabled", pnp.callbacks().EvtDeviceD0ExitPreInterruptsDisabled),
        ("EvtDeviceD0Exit", pnp.callbacks().EvtDeviceD0Exit),
    ] {
        if let Some(callback) = callback {
            callout(name, || callback(object.handle, target));
        }
    }
}
