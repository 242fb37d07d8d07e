//! The error log: entries that drivers write for the system's event log, which go to the debug output here.
#![allow(unsafe_code)] // reads entries

use std::ptr;

use super::irql::called;
use super::pool::{self, Owner};
use super::status::name;
use super::types::{DISPATCH_LEVEL, NTSTATUS, PVOID};
use crate::image::Export;

/// The beginning of an IO_ERROR_LOG_PACKET.
#[repr(C)]
struct IO_ERROR_LOG_PACKET {
    MajorFunctionCode: u8,
    RetryCount: u8,
    DumpDataSize: u16,
    NumberOfStrings: u16,
    StringOffset: u16,
    EventCategory: u16,
    ErrorCode: NTSTATUS,
    UniqueErrorValue: u32,
    FinalStatus: NTSTATUS,
}

const TAG: u32 = pool::tag(*b"IoEr");
/// ERROR_LOG_MAXIMUM_SIZE.
const LARGEST: u8 = 240;

/// An entry; null if there is no memory for it, or it would be too large.
pub(crate) extern "win64" fn IoAllocateErrorLogEntry(_object: PVOID, size: u8) -> PVOID {
    let kernel = &called("IoAllocateErrorLogEntry", DISPATCH_LEVEL).kernel;
    if size > LARGEST || kernel.faults.allocation_fails() {
        return ptr::null_mut();
    }
    let size = usize::from(size).max(size_of::<IO_ERROR_LOG_PACKET>());
    kernel.pool.allocate(size, TAG, Owner::Driver, true).unwrap_or(ptr::null_mut())
}

/// Writes an entry, and frees it.
pub(crate) extern "win64" fn IoWriteErrorLogEntry(entry: PVOID) {
    let kernel = &called("IoWriteErrorLogEntry", DISPATCH_LEVEL).kernel;
    // SAFETY: what IoAllocateErrorLogEntry gave out has room for the structure; anything else faults.
    let packet = unsafe { &*entry.cast::<IO_ERROR_LOG_PACKET>() };
    let (code, last, unique) = (packet.ErrorCode, packet.FinalStatus, packet.UniqueErrorValue);
    kernel.debug.print(format!("error log: {} (final status {}, {unique:#x})\n", name(code), name(last)));
    pool::free(kernel, entry, TAG);
}

/// Frees an entry that is not written after all.
pub(crate) extern "win64" fn IoFreeErrorLogEntry(entry: PVOID) {
    let kernel = &called("IoFreeErrorLogEntry", DISPATCH_LEVEL).kernel;
    pool::free(kernel, entry, TAG);
}

pub(super) const EXPORTS: &[(&str, Export)] =
    super::exports![IoAllocateErrorLogEntry, IoWriteErrorLogEntry, IoFreeErrorLogEntry];
