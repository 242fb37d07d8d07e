//! The system's version, which is that of Windows 10 22H2, and comparisons with it.
#![allow(unsafe_code)] // structures of several lengths by address

use std::cell::Cell;
use std::cmp::Ordering;
use std::ptr;

use super::irql::called;
use super::status::{STATUS_INVALID_PARAMETER, STATUS_REVISION_MISMATCH, STATUS_SUCCESS, STATUS_UNSUCCESSFUL};
use super::types::{HIGH_LEVEL, NTSTATUS, PASSIVE_LEVEL, UNICODE_STRING};
use crate::image::Export;

/// Major and minor version, and build.
pub(super) const VERSION: (u32, u32, u32) = (10, 0, 19045);
/// NTDDI_WIN10_VB and OSVERSION_MASK: what 2004 and its updates report.
const NTDDI_VERSION: u32 = 0x0A00_0008;
/// VER_PLATFORM_WIN32_NT, VER_SUITE_SINGLEUSERTS and VER_NT_WORKSTATION.
const PLATFORM_NT: u32 = 2;
const SUITE: u16 = 0x0100;
const WORKSTATION: u8 = 1;

pub(crate) extern "win64" fn RtlIsNtDdiVersionAvailable(version: u32) -> u8 {
    called("RtlIsNtDdiVersionAvailable", PASSIVE_LEVEL);
    u8::from(
        version.trailing_zeros() >= 8 && version <= NTDDI_VERSION & 0xffff_0000
            || version <= NTDDI_VERSION && version & 0xff != 0,
    )
}

/// RTL_OSVERSIONINFOEXW. RTL_OSVERSIONINFOW ends before the service pack.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct RTL_OSVERSIONINFOEXW {
    size: u32,
    major: u32,
    minor: u32,
    build: u32,
    platform: u32,
    service_pack_name: [u16; 128],
    service_pack_major: u16,
    service_pack_minor: u16,
    suite: u16,
    product_type: u8,
    reserved: u8,
}

const OURS: RTL_OSVERSIONINFOEXW = RTL_OSVERSIONINFOEXW {
    size: 0,
    major: VERSION.0,
    minor: VERSION.1,
    build: VERSION.2,
    platform: PLATFORM_NT,
    service_pack_name: [0; 128],
    service_pack_major: 0,
    service_pack_minor: 0,
    suite: SUITE,
    product_type: WORKSTATION,
    reserved: 0,
};

/// Fills as much of the structure as its size says, which is that of one of the two.
pub(crate) extern "win64" fn RtlGetVersion(information: &Cell<u32>) -> NTSTATUS {
    called("RtlGetVersion", PASSIVE_LEVEL);
    const WHOLE: usize = size_of::<RTL_OSVERSIONINFOEXW>();
    const SHORT: usize = std::mem::offset_of!(RTL_OSVERSIONINFOEXW, service_pack_major);
    let size = information.get();
    let filled = match size as usize {
        ..SHORT => return STATUS_UNSUCCESSFUL,
        WHOLE.. => WHOLE,
        SHORT.. => SHORT,
    };
    let ours = RTL_OSVERSIONINFOEXW { size, ..OURS };
    // SAFETY: the caller's structure is as long as it says; a bad one faults, which the guard reports.
    unsafe { ptr::copy(ptr::from_ref(&ours).cast::<u8>(), information.as_ptr().cast::<u8>(), filled) };
    STATUS_SUCCESS
}

/// There is no service pack. Whether it is a checked build, which it is not.
pub(crate) extern "win64" fn PsGetVersion(
    major: Option<&Cell<u32>>,
    minor: Option<&Cell<u32>>,
    build: Option<&Cell<u32>>,
    service_pack: Option<&UNICODE_STRING>,
) -> u8 {
    called("PsGetVersion", PASSIVE_LEVEL);
    for (told, value) in [(major, VERSION.0), (minor, VERSION.1), (build, VERSION.2)] {
        if let Some(told) = told {
            told.set(value);
        }
    }
    if let Some(service_pack) = service_pack {
        service_pack.Length.set(0);
        service_pack.MaximumLength.set(0);
        service_pack.Buffer.set(ptr::null_mut());
    }
    0
}

/// What is compared (VER_*), in the order of its bits.
const MINOR: u32 = 0x01;
const MAJOR: u32 = 0x02;
const BUILD: u32 = 0x04;
const PLATFORM: u32 = 0x08;
const SERVICE_PACK_MINOR: u32 = 0x10;
const SERVICE_PACK_MAJOR: u32 = 0x20;
const SUITE_NAME: u32 = 0x40;
const PRODUCT_TYPE: u32 = 0x80;
/// How a suite is (VER_AND, VER_OR).
const AND: u64 = 6;
const OR: u64 = 7;
/// Bits of a condition in a mask.
const CONDITION: u32 = 3;

pub(crate) extern "win64" fn VerSetConditionMask(mask: u64, what: u32, condition: u8) -> u64 {
    called("VerSetConditionMask", HIGH_LEVEL);
    match (what & 0xff).checked_ilog2() {
        Some(bit) => mask | (u64::from(condition) & 7) << (bit * CONDITION),
        None => mask,
    }
}

fn condition(mask: u64, what: u32) -> u64 {
    mask >> (what.trailing_zeros() * CONDITION) & 7
}

/// Whether a comparison of ours with what is wanted is as the condition has it; None of no condition.
fn holds(condition: u64, ours: Ordering) -> Option<bool> {
    match condition {
        1 => Some(ours.is_eq()),
        2 => Some(ours.is_gt()),
        3 => Some(ours.is_ge()),
        4 => Some(ours.is_lt()),
        5 => Some(ours.is_le()),
        _ => None,
    }
}

/// Whether the version is such; None if the parameters do not say how.
fn verify(wanted: &RTL_OSVERSIONINFOEXW, what: u32, mask: u64) -> Option<bool> {
    let mut all = true;
    if what & SUITE_NAME != 0 {
        all &= match condition(mask, SUITE_NAME) {
            AND => SUITE & wanted.suite == wanted.suite,
            OR => SUITE & wanted.suite != 0,
            _ => return None,
        };
    }
    for (part, ours, wanted) in [
        (PRODUCT_TYPE, u32::from(OURS.product_type), u32::from(wanted.product_type)),
        (PLATFORM, OURS.platform, wanted.platform),
        (BUILD, OURS.build, wanted.build),
    ] {
        if what & part != 0 {
            all &= holds(condition(mask, part), ours.cmp(&wanted))?;
        }
    }
    // These are one number: the first that differs decides.
    let mut version = None;
    for (part, ours, wanted) in [
        (MAJOR, OURS.major, wanted.major),
        (MINOR, OURS.minor, wanted.minor),
        (SERVICE_PACK_MAJOR, OURS.service_pack_major.into(), wanted.service_pack_major.into()),
        (SERVICE_PACK_MINOR, OURS.service_pack_minor.into(), wanted.service_pack_minor.into()),
    ] {
        if what & part != 0 {
            let order = ours.cmp(&wanted);
            version = Some(holds(condition(mask, part), order)?);
            if order.is_ne() {
                break;
            }
        }
    }
    Some(all && version.unwrap_or(true))
}

pub(crate) extern "win64" fn RtlVerifyVersionInfo(wanted: &RTL_OSVERSIONINFOEXW, what: u32, mask: u64) -> NTSTATUS {
    called("RtlVerifyVersionInfo", PASSIVE_LEVEL);
    if what.trailing_zeros() >= u8::BITS {
        return STATUS_INVALID_PARAMETER;
    }
    match verify(wanted, what, mask) {
        Some(true) => STATUS_SUCCESS,
        Some(false) => STATUS_REVISION_MISMATCH,
        None => STATUS_INVALID_PARAMETER,
    }
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlIsNtDdiVersionAvailable,
    RtlGetVersion,
    PsGetVersion,
    VerSetConditionMask,
    RtlVerifyVersionInfo,
];
