//! Security identifiers (SID): their lengths, copies and comparisons.
#![allow(unsafe_code)] // identifiers by address

use std::cell::Cell;
use std::ptr;

use super::irql::called;
use super::status::{STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use super::types::{APC_LEVEL, HIGH_LEVEL, NTSTATUS, PVOID};
use crate::image::Export;

/// SID_REVISION, and SID_MAX_SUB_AUTHORITIES.
const REVISION: u8 = 1;
const SUB_AUTHORITIES: u8 = 15;

/// What is before the sub-authorities (ntifs.h).
#[repr(C)]
pub(crate) struct SID {
    Revision: Cell<u8>,
    SubAuthorityCount: Cell<u8>,
    IdentifierAuthority: Cell<[u8; 6]>,
}

fn length_of(count: u8) -> u32 {
    size_of::<SID>() as u32 + 4 * u32::from(count)
}

fn bytes(sid: &SID) -> Vec<u8> {
    let mut all = vec![0; length_of(sid.SubAuthorityCount.get()) as usize];
    // SAFETY: an identifier is as long as it says; a bad one faults, which the guard reports.
    unsafe { ptr::copy(ptr::from_ref(sid).cast::<u8>(), all.as_mut_ptr(), all.len()) };
    all
}

pub(crate) extern "win64" fn RtlValidSid(sid: Option<&SID>) -> u8 {
    called("RtlValidSid", APC_LEVEL);
    let is_valid = |sid: &SID| sid.Revision.get() & 0x0f == REVISION && sid.SubAuthorityCount.get() <= SUB_AUTHORITIES;
    u8::from(sid.is_some_and(is_valid))
}

pub(crate) extern "win64" fn RtlLengthSid(sid: &SID) -> u32 {
    called("RtlLengthSid", APC_LEVEL);
    length_of(sid.SubAuthorityCount.get())
}

pub(crate) extern "win64" fn RtlLengthRequiredSid(count: u32) -> u32 {
    called("RtlLengthRequiredSid", APC_LEVEL);
    size_of::<SID>() as u32 + 4 * count
}

pub(crate) extern "win64" fn RtlCopySid(room: u32, destination: *mut u8, source: &SID) -> NTSTATUS {
    called("RtlCopySid", APC_LEVEL);
    let all = bytes(source);
    if (room as usize) < all.len() {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller has room for so many bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy(all.as_ptr(), destination, all.len()) };
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlEqualSid(first: &SID, second: &SID) -> u8 {
    called("RtlEqualSid", HIGH_LEVEL);
    u8::from(bytes(first) == bytes(second))
}

pub(crate) extern "win64" fn RtlInitializeSid(sid: &SID, authority: &[u8; 6], count: u8) -> NTSTATUS {
    called("RtlInitializeSid", APC_LEVEL);
    if count > SUB_AUTHORITIES {
        return STATUS_INVALID_PARAMETER;
    }
    sid.Revision.set(REVISION);
    sid.SubAuthorityCount.set(count);
    sid.IdentifierAuthority.set(*authority);
    STATUS_SUCCESS
}

/// Where a sub-authority is.
pub(crate) extern "win64" fn RtlSubAuthoritySid(sid: *mut SID, index: u32) -> PVOID {
    called("RtlSubAuthoritySid", APC_LEVEL);
    sid.wrapping_add(1).wrapping_byte_add(index as usize * size_of::<u32>()).cast()
}

/// Where their number is.
pub(crate) extern "win64" fn RtlSubAuthorityCountSid(sid: &SID) -> *mut u8 {
    called("RtlSubAuthorityCountSid", APC_LEVEL);
    sid.SubAuthorityCount.as_ptr()
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlValidSid,
    RtlLengthSid,
    RtlLengthRequiredSid,
    RtlCopySid,
    RtlEqualSid,
    RtlInitializeSid,
    RtlSubAuthoritySid,
    RtlSubAuthorityCountSid,
];
