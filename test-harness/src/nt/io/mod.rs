//! The I/O manager: drivers and devices, file objects, requests of processes and of drivers.
#![allow(unsafe_code)] // devices and drivers are found by address

pub(crate) mod device;
mod directory;
pub(crate) mod driver;
pub(crate) mod file;
pub(crate) mod interface;
pub(crate) mod notification;
pub(crate) mod pnp;
pub(crate) mod property;
pub(crate) mod request;
pub(crate) mod security;
pub(crate) mod services;
pub(crate) mod shutdown;
#[cfg(test)]
mod tests;
mod volume;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;

use super::irp::IofCompleteRequest;
use super::status::STATUS_INVALID_DEVICE_REQUEST;
use super::types::{DEVICE_OBJECT, DRIVER_OBJECT, FILE_OBJECT, IRP, NTSTATUS};
use crate::guard::{callout, violate};
use crate::simulation::Condvar;
use crate::violation::Rule;

/// The devices, names and drivers of a machine.
#[derive(Default)]
pub(crate) struct Io {
    state: Mutex<State>,
    /// The thread that runs a driver's entry point, or 0.
    pub(crate) starting: AtomicUsize,
    /// A driver has been unloaded, or the machine stops.
    unloaded: Condvar,
    /// Actions of the PnP manager, one at a time.
    pub(in crate::nt) pnp: pnp::Actions,
    notifications: notification::Notifications,
}

#[derive(Default)]
struct State {
    devices: HashMap<usize, device::Record>,
    /// Devices by name, in lower case.
    names: BTreeMap<String, usize>,
    /// Symbolic links in `\??\`: name, in lower case, to target.
    links: BTreeMap<String, String>,
    drivers: HashMap<usize, Arc<driver::Record>>,
    next_name: u32,
    interfaces: Vec<interface::Interface>,
    properties: Vec<property::Property>,
    shutdown: Vec<shutdown::Registration>,
    bus: pnp::Bus,
}

impl Io {
    pub(crate) fn stop(&self) {
        self.unloaded.notify_all();
        self.pnp.stop();
        self.notifications.stop();
    }
}

pub(crate) fn device<'a>(device: *mut DEVICE_OBJECT) -> &'a DEVICE_OBJECT {
    // SAFETY: devices are referenced by the file objects, packets and drivers that name them; a freed one faults.
    unsafe { &*device }
}

pub(crate) fn driver_object<'a>(driver: *mut DRIVER_OBJECT) -> &'a DRIVER_OBJECT {
    // SAFETY: a driver's object lives as long as its devices.
    unsafe { &*driver }
}

pub(crate) fn file_object<'a>(file: *mut FILE_OBJECT) -> &'a FILE_OBJECT {
    // SAFETY: a file object is referenced by the packets and handles that name it; a freed one faults.
    unsafe { &*file }
}

/// Hands a packet, whose current location is set, to the driver of a device.
pub(crate) fn dispatch(target: *mut DEVICE_OBJECT, irp: &IRP) -> NTSTATUS {
    let driver = driver_object(device(target).DriverObject.get());
    let major = usize::from(irp.current().MajorFunction.get());
    match driver.MajorFunction.get(major).and_then(std::cell::Cell::get) {
        Some(routine) => {
            let packet = irp.as_ptr();
            callout("a dispatch routine", || routine(target, packet))
        }
        None => violate(Rule::Io, format!("the driver has no routine for major function {major:#x}")),
    }
}

/// What every entry of MajorFunction is until the driver sets it (IopInvalidDeviceRequest).
pub(crate) extern "win64" fn invalid_device_request(_device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let irp = super::irp::at(irp);
    irp.IoStatus.Status.set(STATUS_INVALID_DEVICE_REQUEST);
    IofCompleteRequest(irp, 0);
    STATUS_INVALID_DEVICE_REQUEST
}
