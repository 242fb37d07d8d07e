//! The caller's privileges.
#![allow(unsafe_code, reason = "asks the security reference monitor")]

use wdk_sys::ntddk::SeSinglePrivilegeCheck;
use wdk_sys::{KPROCESSOR_MODE, LUID, SE_LOAD_DRIVER_PRIVILEGE};

/// Whether the calling thread has SeLoadDriverPrivilege, enabled: who may load a driver may set this one up. Kernel mode may.
/// IRQL = PASSIVE_LEVEL; in the caller's context.
pub(crate) fn may_load_drivers(mode: KPROCESSOR_MODE) -> bool {
    let privilege = LUID { LowPart: SE_LOAD_DRIVER_PRIVILEGE, HighPart: 0 };
    // SAFETY: has no preconditions but the IRQL.
    unsafe { SeSinglePrivilegeCheck(privilege, mode) != 0 }
}
