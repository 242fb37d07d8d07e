//! Processors by group and number: there is one, number 0 of group 0.

use std::cell::Cell;
use std::time::Duration;

use super::irql::called;
use super::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use super::types::{DISPATCH_LEVEL, HIGH_LEVEL, NTSTATUS};
use crate::image::Export;
use crate::simulation;

/// PROCESSOR_NUMBER.
#[repr(C)]
pub(crate) struct PROCESSOR_NUMBER {
    Group: Cell<u16>,
    Number: Cell<u8>,
    Reserved: Cell<u8>,
}

impl PROCESSOR_NUMBER {
    /// Its system-wide index, if there is such a processor.
    pub(super) fn index(&self) -> Option<u16> {
        ((self.Group.get(), self.Number.get()) == (0, 0)).then_some(0)
    }
}

/// GROUP_AFFINITY.
#[repr(C)]
pub(crate) struct GROUP_AFFINITY {
    Mask: Cell<usize>,
    Group: Cell<u16>,
    Reserved: [Cell<u16>; 3],
}

/// Spins for some microseconds.
pub(crate) extern "win64" fn KeStallExecutionProcessor(microseconds: u32) {
    called("KeStallExecutionProcessor", HIGH_LEVEL);
    let (since, time) = (simulation::now(), Duration::from_micros(microseconds.into()));
    while simulation::now().duration_since(since) < time {
        simulation::pause();
    }
}

pub(crate) extern "win64" fn KeGetProcessorNumberFromIndex(index: u32, number: &PROCESSOR_NUMBER) -> NTSTATUS {
    called("KeGetProcessorNumberFromIndex", HIGH_LEVEL);
    if index != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    number.Group.set(0);
    number.Number.set(0);
    number.Reserved.set(0);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn KeGetProcessorIndexFromNumber(number: &PROCESSOR_NUMBER) -> u32 {
    called("KeGetProcessorIndexFromNumber", HIGH_LEVEL);
    /// INVALID_PROCESSOR_INDEX.
    const INVALID: u32 = u32::MAX;
    number.index().map_or(INVALID, u32::from)
}

pub(crate) extern "win64" fn KeQueryActiveGroupCount() -> u16 {
    called("KeQueryActiveGroupCount", HIGH_LEVEL);
    1
}

pub(crate) extern "win64" fn KeQueryMaximumGroupCount() -> u16 {
    called("KeQueryMaximumGroupCount", HIGH_LEVEL);
    1
}

pub(crate) extern "win64" fn KeQueryGroupAffinity(group: u16) -> usize {
    called("KeQueryGroupAffinity", HIGH_LEVEL);
    usize::from(group == 0)
}

/// The thread may run on all processors there are, before and after: an affinity without one of them changes nothing.
pub(crate) extern "win64" fn KeSetSystemGroupAffinityThread(
    _affinity: &GROUP_AFFINITY,
    previous: Option<&GROUP_AFFINITY>,
) {
    called("KeSetSystemGroupAffinityThread", DISPATCH_LEVEL);
    if let Some(previous) = previous {
        // None was set by this function before: KeRevertToUserGroupAffinityThread is to restore the user's.
        previous.Mask.set(0);
        previous.Group.set(0);
        previous.Reserved.iter().for_each(|reserved| reserved.set(0));
    }
}

pub(crate) extern "win64" fn KeRevertToUserGroupAffinityThread(_previous: &GROUP_AFFINITY) {
    called("KeRevertToUserGroupAffinityThread", DISPATCH_LEVEL);
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeStallExecutionProcessor,
    KeGetProcessorNumberFromIndex,
    KeGetProcessorIndexFromNumber,
    KeQueryActiveGroupCount,
    KeQueryMaximumGroupCount,
    KeQueryGroupAffinity,
    KeSetSystemGroupAffinityThread,
    KeRevertToUserGroupAffinityThread,
];
