//! What a device is by itself: its name, class, alignment and characteristics, and who hears of the system's shutdown.
#![allow(unsafe_code)] // reads a GUID of the client's

use std::sync::Arc;

use super::super::object::{self, Object, expect_kind};
use super::super::pnp;
use super::super::types::{HANDLE, PFN_OBJECT};
use super::super::values;
use super::{Device, DeviceInit, complete, device_object, init};
use crate::guard::{callout, violate};
use crate::nt::io::shutdown::{IoRegisterLastChanceShutdownNotification, IoRegisterShutdownNotification};
use crate::nt::irql::called;
use crate::nt::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use crate::nt::types::{DISPATCH_LEVEL, FILE_DEVICE_SECURE_OPEN, GUID, IRP, NTSTATUS, PASSIVE_LEVEL};
use crate::violation::Rule;

/// WDF_DEVICE_SHUTDOWN_FLAGS.
const SHUTDOWN: u8 = 1;
const LAST_CHANCE_SHUTDOWN: u8 = 2;

/// EvtDeviceShutdownNotification, and when it comes.
#[derive(Clone, Copy)]
pub(super) struct Shutdown {
    callback: PFN_OBJECT,
    flags: u8,
}

impl Device {
    /// What is left to do of a new device when it has all that its driver wants.
    pub(super) fn finish_creation(&self, own: HANDLE) {
        if let Some(pnp) = &self.pnp {
            pnp.idle().bind(own);
        }
        let wdm = device_object(self.wdm);
        if !self.preprocess.is_empty() {
            // The client has a completion routine of its own, for which it needs a location.
            wdm.StackSize.set(wdm.StackSize.get() + 1);
        }
        let flags = self.shutdown.map_or(0, |shutdown| shutdown.flags);
        if flags & SHUTDOWN != 0 {
            IoRegisterShutdownNotification(wdm);
        }
        if flags & LAST_CHANCE_SHUTDOWN != 0 {
            IoRegisterLastChanceShutdownNotification(wdm);
        }
    }
}

/// IRP_MJ_SHUTDOWN.
pub(super) fn shut_down(object: &Arc<Object>, device: &Device, irp: &IRP) -> NTSTATUS {
    if let Some(Shutdown { callback, .. }) = device.shutdown {
        callout("EvtDeviceShutdownNotification", || callback(object.handle));
    }
    match &device.pnp {
        Some(pnp) if pnp.is_filter() => pnp::pass_on(pnp, irp),
        Some(_) | None => {
            irp.IoStatus.Information.set(0);
            complete(irp, STATUS_SUCCESS)
        }
    }
}

pub(crate) extern "win64" fn WdfControlDeviceInitSetShutdownNotification(
    _globals: usize,
    pointer: *mut DeviceInit,
    callback: Option<PFN_OBJECT>,
    flags: u8,
) {
    called("WdfControlDeviceInitSetShutdownNotification", DISPATCH_LEVEL);
    let init = init(pointer);
    let (Some(callback), None) = (callback, &init.pnp) else {
        violate(
            Rule::Framework,
            "WdfControlDeviceInitSetShutdownNotification: there is no callback, or the device is one of Plug and Play",
        )
    };
    if flags & !(SHUTDOWN | LAST_CHANCE_SHUTDOWN) != 0 {
        violate(Rule::Framework, format!("WdfControlDeviceInitSetShutdownNotification: flags are {flags:#x}"));
    }
    let before = init.shutdown.map_or(0, |shutdown| shutdown.flags);
    init.shutdown = Some(Shutdown { callback, flags: before | flags });
}

pub(crate) extern "win64" fn WdfDeviceInitSetDeviceClass(
    _globals: usize,
    pointer: *mut DeviceInit,
    class: *const GUID,
) {
    called("WdfDeviceInitSetDeviceClass", DISPATCH_LEVEL);
    // SAFETY: the client's GUID; a bad pointer faults, which the guard reports.
    init(pointer).class = Some(unsafe { *class });
}

pub(crate) extern "win64" fn WdfDeviceRetrieveDeviceName(_globals: usize, handle: HANDLE, string: HANDLE) -> NTSTATUS {
    called("WdfDeviceRetrieveDeviceName", PASSIVE_LEVEL);
    let object = object::find(handle);
    match &expect_kind!(object, Device).name {
        Some(name) => values::set_string(string, name),
        None => STATUS_INVALID_PARAMETER,
    }
}

pub(crate) extern "win64" fn WdfDeviceGetAlignmentRequirement(_globals: usize, handle: HANDLE) -> u32 {
    called("WdfDeviceGetAlignmentRequirement", DISPATCH_LEVEL);
    let object = object::find(handle);
    device_object(expect_kind!(object, Device).wdm).AlignmentRequirement.get()
}

pub(crate) extern "win64" fn WdfDeviceSetAlignmentRequirement(_globals: usize, handle: HANDLE, mask: u32) {
    called("WdfDeviceSetAlignmentRequirement", DISPATCH_LEVEL);
    let object = object::find(handle);
    device_object(expect_kind!(object, Device).wdm).AlignmentRequirement.set(mask);
}

pub(crate) extern "win64" fn WdfDeviceGetCharacteristics(_globals: usize, handle: HANDLE) -> u32 {
    called("WdfDeviceGetCharacteristics", DISPATCH_LEVEL);
    let object = object::find(handle);
    device_object(expect_kind!(object, Device).wdm).Characteristics.get()
}

pub(crate) extern "win64" fn WdfDeviceSetCharacteristics(_globals: usize, handle: HANDLE, characteristics: u32) {
    called("WdfDeviceSetCharacteristics", DISPATCH_LEVEL);
    let object = object::find(handle);
    device_object(expect_kind!(object, Device).wdm).Characteristics.set(characteristics | FILE_DEVICE_SECURE_OPEN);
}
