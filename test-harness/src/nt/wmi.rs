//! WMI: providers may register; nobody asks them anything.

use super::irql::called;
use super::pool;
use super::status::{STATUS_INVALID_HANDLE, STATUS_NOT_SUPPORTED, STATUS_SUCCESS};
use super::types::{APC_LEVEL, DEVICE_OBJECT, DISPATCH_LEVEL, GUID, HIGH_LEVEL, NTSTATUS, PASSIVE_LEVEL, PVOID};
use crate::image::Export;

pub(crate) extern "win64" fn IoWMIRegistrationControl(_device: *mut DEVICE_OBJECT, _action: u32) -> NTSTATUS {
    called("IoWMIRegistrationControl", PASSIVE_LEVEL);
    STATUS_SUCCESS
}

/// There is no session of the classic tracing to be asked about.
pub(crate) extern "win64" fn WmiQueryTraceInformation(
    _class: u32,
    _information: PVOID,
    _length: u32,
    _required: *mut u32,
    _buffer: PVOID,
) -> NTSTATUS {
    called("WmiQueryTraceInformation", HIGH_LEVEL);
    STATUS_NOT_SUPPORTED
}

/// A message for a session of the classic tracing: there is none that a handle could name.
pub(crate) extern "win64" fn WmiTraceMessage(
    _session: u64,
    _flags: u32,
    _class: Option<&GUID>,
    _number: u16,
) -> NTSTATUS {
    called("WmiTraceMessage", HIGH_LEVEL);
    STATUS_INVALID_HANDLE
}

/// A provider's identifier is the low half of its device's address.
#[allow(clippy::cast_possible_truncation)] // that is how identifiers come about
pub(crate) extern "win64" fn IoWMIDeviceObjectToProviderId(device: *mut DEVICE_OBJECT) -> u32 {
    called("IoWMIDeviceObjectToProviderId", DISPATCH_LEVEL);
    device as usize as u32
}

/// An event, which WMI frees when it has been delivered: at once, as nobody waits for one.
pub(crate) extern "win64" fn IoWMIWriteEvent(event: PVOID) -> NTSTATUS {
    let kernel = &called("IoWMIWriteEvent", APC_LEVEL).kernel;
    pool::free(kernel, event, 0);
    STATUS_SUCCESS
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    IoWMIRegistrationControl,
    IoWMIDeviceObjectToProviderId,
    IoWMIWriteEvent,
    WmiQueryTraceInformation,
    WmiTraceMessage,
];
