//! WMI: providers may register; nobody asks them anything.

use super::irql::called;
use super::status::{STATUS_NOT_SUPPORTED, STATUS_SUCCESS};
use super::types::{DEVICE_OBJECT, HIGH_LEVEL, NTSTATUS, PASSIVE_LEVEL, PVOID};
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

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![IoWMIRegistrationControl, WmiQueryTraceInformation];
