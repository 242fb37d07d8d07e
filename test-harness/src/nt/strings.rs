//! Counted strings (Rtl*String), and host strings from them.
#![allow(unsafe_code)] // strings are given by address

use std::cmp::Ordering;
use std::ptr;

use super::irql::called;
use super::pool::{self, Owner};
use super::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use super::types::{ANSI_STRING, APC_LEVEL, DISPATCH_LEVEL, NTSTATUS, PASSIVE_LEVEL, UNICODE_STRING};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::thread::kernel;

/// The UTF-16 units of a counted string.
pub(crate) fn code_units(string: &UNICODE_STRING) -> Vec<u16> {
    (0..usize::from(string.Length.get() / 2)).map(|index| unit(string.Buffer.get().wrapping_add(index))).collect()
}

/// A counted string as text.
pub(crate) fn text(string: &UNICODE_STRING) -> String {
    String::from_utf16_lossy(&code_units(string))
}

pub(crate) fn unit(at: *const u16) -> u16 {
    // SAFETY: the string's owner says that the unit is there; a bad address faults, which the guard reports.
    unsafe { at.read_unaligned() }
}

pub(super) fn byte(at: *const u8) -> u8 {
    // SAFETY: as for `unit`.
    unsafe { at.read() }
}

pub(crate) fn put(at: *mut u16, value: u16) {
    // SAFETY: as for `unit`.
    unsafe { at.write_unaligned(value) };
}

pub(super) fn put_byte(at: *mut u8, value: u8) {
    // SAFETY: as for `unit`.
    unsafe { at.write(value) };
}

/// The units of a terminated wide string, at most `limit`.
pub(crate) fn units(mut at: *const u16, limit: usize) -> Vec<u16> {
    let mut all = Vec::new();
    while all.len() < limit {
        match unit(at) {
            0 => break,
            value => all.push(value),
        }
        at = at.wrapping_add(1);
    }
    all
}

/// The bytes of a terminated string, at most `limit`.
pub(crate) fn narrow(mut at: *const u8, limit: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < limit {
        match byte(at) {
            0 => break,
            value => all.push(value),
        }
        at = at.wrapping_add(1);
    }
    all
}

/// A string in kernel-owned pool, for the kernel's own structures.
pub(crate) fn allocate(kernel: &Kernel, value: &str, into: &UNICODE_STRING) {
    let units: Vec<u16> = value.encode_utf16().chain([0]).collect();
    let Some(block) = kernel.pool.allocate(units.len() * 2, pool::tag(*b"Strg"), Owner::Kernel, true) else { return };
    let buffer = block.cast::<u16>();
    for (index, value) in units.iter().enumerate() {
        put(buffer.wrapping_add(index), *value);
    }
    into.Buffer.set(buffer);
    into.Length.set(u16::try_from(units.len() * 2 - 2).unwrap_or(u16::MAX));
    into.MaximumLength.set(u16::try_from(units.len() * 2).unwrap_or(u16::MAX));
}

/// Frees what [`allocate`] made.
pub(crate) fn free(kernel: &Kernel, string: &UNICODE_STRING) {
    let buffer = string.Buffer.replace(ptr::null_mut());
    if !buffer.is_null()
        && let Err((rule, what)) = kernel.pool.free(buffer.cast(), pool::tag(*b"Strg"))
    {
        kernel.report_at(rule, format!("a string of the kernel's: {what}"), "", &[]);
    }
}

/// Upper case as the kernel's table has it, for the letters that one unit can express.
pub(super) fn upcase(value: u16) -> u16 {
    let mut upper = char::from_u32(value.into()).unwrap_or('\0').to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(only), None) if value != 0 => u16::try_from(u32::from(only)).unwrap_or(value),
        _ => value,
    }
}

pub(crate) extern "win64" fn RtlInitUnicodeString(destination: &UNICODE_STRING, source: *mut u16) {
    called("RtlInitUnicodeString", DISPATCH_LEVEL);
    destination.Buffer.set(source);
    let length = if source.is_null() { 0 } else { units(source, 0x7ffe).len() * 2 };
    destination.Length.set(u16::try_from(length).unwrap_or(0));
    destination.MaximumLength.set(if source.is_null() { 0 } else { u16::try_from(length + 2).unwrap_or(0) });
}

pub(crate) extern "win64" fn RtlInitAnsiString(destination: &ANSI_STRING, source: *mut u8) {
    called("RtlInitAnsiString", DISPATCH_LEVEL);
    destination.Buffer.set(source);
    let length = if source.is_null() { 0 } else { narrow(source, 0xfffe).len() };
    destination.Length.set(u16::try_from(length).unwrap_or(0));
    destination.MaximumLength.set(if source.is_null() { 0 } else { u16::try_from(length + 1).unwrap_or(0) });
}

pub(crate) extern "win64" fn RtlCopyUnicodeString(destination: &UNICODE_STRING, source: Option<&UNICODE_STRING>) {
    called("RtlCopyUnicodeString", DISPATCH_LEVEL);
    let room = usize::from(destination.MaximumLength.get() / 2);
    let source = source.map(code_units).unwrap_or_default();
    let copied = source.len().min(room);
    for (index, value) in source[..copied].iter().enumerate() {
        put(destination.Buffer.get().wrapping_add(index), *value);
    }
    destination.Length.set(u16::try_from(copied * 2).unwrap_or(0));
    if copied < room {
        put(destination.Buffer.get().wrapping_add(copied), 0);
    }
}

pub(super) fn append(destination: &UNICODE_STRING, source: &[u16]) -> NTSTATUS {
    let used = usize::from(destination.Length.get() / 2);
    let room = usize::from(destination.MaximumLength.get() / 2);
    if used + source.len() > room {
        return STATUS_BUFFER_TOO_SMALL;
    }
    for (index, value) in source.iter().enumerate() {
        put(destination.Buffer.get().wrapping_add(used + index), *value);
    }
    destination.Length.set(u16::try_from((used + source.len()) * 2).unwrap_or(0));
    if used + source.len() < room {
        put(destination.Buffer.get().wrapping_add(used + source.len()), 0);
    }
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlAppendUnicodeStringToString(
    destination: &UNICODE_STRING,
    source: &UNICODE_STRING,
) -> NTSTATUS {
    called("RtlAppendUnicodeStringToString", DISPATCH_LEVEL);
    append(destination, &code_units(source))
}

pub(crate) extern "win64" fn RtlAppendUnicodeToString(destination: &UNICODE_STRING, source: *const u16) -> NTSTATUS {
    called("RtlAppendUnicodeToString", DISPATCH_LEVEL);
    if source.is_null() { STATUS_SUCCESS } else { append(destination, &units(source, 0x8000)) }
}

pub(crate) extern "win64" fn RtlCompareUnicodeString(
    first: &UNICODE_STRING,
    second: &UNICODE_STRING,
    insensitive: u8,
) -> i32 {
    called("RtlCompareUnicodeString", PASSIVE_LEVEL);
    let (first, second) = (code_units(first), code_units(second));
    let fold = |value: u16| i32::from(if insensitive == 0 { value } else { upcase(value) });
    let pairs = first.iter().zip(&second).map(|(a, b)| fold(*a) - fold(*b));
    let difference = pairs.into_iter().find(|difference| *difference != 0);
    difference.unwrap_or(match first.len().cmp(&second.len()) {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    })
}

pub(crate) extern "win64" fn RtlEqualUnicodeString(
    first: &UNICODE_STRING,
    second: &UNICODE_STRING,
    insensitive: u8,
) -> u8 {
    u8::from(RtlCompareUnicodeString(first, second, insensitive) == 0)
}

pub(crate) extern "win64" fn RtlAnsiStringToUnicodeString(
    destination: &UNICODE_STRING,
    source: &ANSI_STRING,
    allocate: u8,
) -> NTSTATUS {
    called("RtlAnsiStringToUnicodeString", PASSIVE_LEVEL);
    let bytes = narrow(source.Buffer.get(), source.Length.get().into());
    let size = (bytes.len() + 1) * 2;
    let Ok(maximum) = u16::try_from(size) else { return STATUS_INVALID_PARAMETER };
    if allocate != 0 {
        let kernel = kernel();
        let block = if kernel.faults.allocation_fails() {
            None
        } else {
            kernel.pool.allocate(size, pool::tag(*b"Strg"), Owner::Driver, true)
        };
        let Some(block) = block else { return STATUS_INSUFFICIENT_RESOURCES };
        destination.Buffer.set(block.cast());
        destination.MaximumLength.set(maximum);
    } else if maximum > destination.MaximumLength.get() {
        return STATUS_BUFFER_OVERFLOW;
    }
    for (index, value) in bytes.iter().chain(&[0]).enumerate() {
        put(destination.Buffer.get().wrapping_add(index), u16::from(*value));
    }
    destination.Length.set(maximum - 2);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlFreeUnicodeString(string: &UNICODE_STRING) {
    called("RtlFreeUnicodeString", APC_LEVEL);
    let buffer = string.Buffer.replace(ptr::null_mut());
    string.Length.set(0);
    string.MaximumLength.set(0);
    if !buffer.is_null() {
        pool::free(kernel(), buffer.cast(), 0);
    }
}

pub(crate) extern "win64" fn strlen(string: *const u8) -> usize {
    narrow(string, usize::MAX).len()
}

pub(crate) extern "win64" fn wcslen(string: *const u16) -> usize {
    units(string, usize::MAX).len()
}

pub(crate) extern "win64" fn wcsrchr(string: *const u16, wanted: u16) -> *const u16 {
    let all = units(string, usize::MAX);
    let found = if wanted == 0 { Some(all.len()) } else { all.iter().rposition(|value| *value == wanted) };
    found.map_or(ptr::null(), |index| string.wrapping_add(index))
}

pub(crate) extern "win64" fn RtlUpcaseUnicodeChar(value: u16) -> u16 {
    called("RtlUpcaseUnicodeChar", APC_LEVEL);
    upcase(value)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlInitUnicodeString,
    RtlInitAnsiString,
    RtlCopyUnicodeString,
    RtlAppendUnicodeStringToString,
    RtlAppendUnicodeToString,
    RtlCompareUnicodeString,
    RtlEqualUnicodeString,
    RtlAnsiStringToUnicodeString,
    RtlFreeUnicodeString,
    RtlUpcaseUnicodeChar,
    strlen,
    wcslen,
    wcsrchr,
];
