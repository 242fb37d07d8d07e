//! Privileges of a caller's token: an elevated process has enabled what a test of it asks for, an ordinary one has not got it.

use super::irql::called;
use super::process::ProcessKind;
use super::types::PASSIVE_LEVEL;
use crate::image::Export;

/// SE_LOAD_DRIVER_PRIVILEGE.
const SE_LOAD_DRIVER_PRIVILEGE: u64 = 10;

/// UserMode.
const USER_MODE: u8 = 1;

/// `privilege`: a LUID, passed by value.
pub(crate) extern "win64" fn SeSinglePrivilegeCheck(privilege: u64, previous_mode: u8) -> u8 {
    let current = called("SeSinglePrivilegeCheck", PASSIVE_LEVEL);
    let held = match current.thread.process.kind {
        ProcessKind::System => true,
        ProcessKind::User { elevated, .. } => elevated && privilege == SE_LOAD_DRIVER_PRIVILEGE,
    };
    u8::from(previous_mode != USER_MODE || held)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![SeSinglePrivilegeCheck];
