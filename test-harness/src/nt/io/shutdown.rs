//! Shutdown of the system: IRP_MJ_SHUTDOWN to the devices whose drivers have asked for it.

use std::ptr;

use super::request::send_to_device;
use crate::image::Export;
use crate::kernel::Kernel;
use crate::nt::irql::called;
use crate::nt::status::STATUS_SUCCESS;
use crate::nt::types::{DEVICE_OBJECT, DO_SHUTDOWN_REGISTERED, IRP_MJ_SHUTDOWN, NTSTATUS, PASSIVE_LEVEL};
use crate::thread::kernel;

/// When a device hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// While files can still be written.
    First,
    /// After that.
    LastChance,
}

/// A device whose driver is told.
pub(super) struct Registration {
    device: usize,
    order: Order,
}

/// Sends the packets: first to those that may still use files, then to the others, the latest registered first.
pub(crate) fn notify(kernel: &Kernel) {
    for order in [Order::First, Order::LastChance] {
        let devices: Vec<usize> = {
            let state = kernel.io.state.lock();
            state.shutdown.iter().rev().filter(|known| known.order == order).map(|known| known.device).collect()
        };
        for device in devices {
            // The system goes down, whatever a driver says.
            let _ = send_to_device(kernel, device as *mut DEVICE_OBJECT, |location| {
                location.MajorFunction.set(IRP_MJ_SHUTDOWN);
            });
        }
    }
}

fn register(object: &DEVICE_OBJECT, order: Order) -> NTSTATUS {
    object.Flags.set(object.Flags.get() | DO_SHUTDOWN_REGISTERED);
    let device = ptr::from_ref(object) as usize;
    kernel().io.state.lock().shutdown.push(Registration { device, order });
    STATUS_SUCCESS
}

/// A device that is deleted hears of nothing more.
pub(super) fn forget(kernel: &Kernel, object: &DEVICE_OBJECT) {
    let device = ptr::from_ref(object) as usize;
    object.Flags.set(object.Flags.get() & !DO_SHUTDOWN_REGISTERED);
    kernel.io.state.lock().shutdown.retain(|known| known.device != device);
}

pub(crate) extern "win64" fn IoRegisterShutdownNotification(object: &DEVICE_OBJECT) -> NTSTATUS {
    called("IoRegisterShutdownNotification", PASSIVE_LEVEL);
    register(object, Order::First)
}

pub(crate) extern "win64" fn IoRegisterLastChanceShutdownNotification(object: &DEVICE_OBJECT) -> NTSTATUS {
    called("IoRegisterLastChanceShutdownNotification", PASSIVE_LEVEL);
    register(object, Order::LastChance)
}

pub(crate) extern "win64" fn IoUnregisterShutdownNotification(object: &DEVICE_OBJECT) {
    called("IoUnregisterShutdownNotification", PASSIVE_LEVEL);
    forget(kernel(), object);
}

pub(in crate::nt) const EXPORTS: &[(&str, Export)] = crate::nt::exports![
    IoRegisterShutdownNotification,
    IoRegisterLastChanceShutdownNotification,
    IoUnregisterShutdownNotification,
];
