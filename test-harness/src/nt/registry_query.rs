//! RtlQueryRegistryValues: a table of values, each handed to a routine or stored where the entry says.
#![allow(unsafe_code)] // reads the caller's table and writes where its entries say

use std::ptr;
use std::slice;

use super::irql::called;
use super::pool;
use super::registry::{self, Value};
use super::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS, nt_success,
};
use super::strings::units;
use super::types::{HANDLE, NTSTATUS, PASSIVE_LEVEL, PVOID, UNICODE_STRING};
use crate::guard::callout;
use crate::image::Export;
use crate::kernel::Kernel;
use crate::thread::kernel;

type QueryRoutine = extern "win64" fn(*const u16, u32, *const u8, u32, PVOID, PVOID) -> NTSTATUS;

/// RTL_QUERY_REGISTRY_TABLE (wdm.h).
#[repr(C)]
pub(crate) struct RTL_QUERY_REGISTRY_TABLE {
    pub(crate) QueryRoutine: Option<QueryRoutine>,
    pub(crate) Flags: u32,
    pub(crate) Name: *const u16,
    pub(crate) EntryContext: PVOID,
    pub(crate) DefaultType: u32,
    pub(crate) DefaultData: *const u8,
    pub(crate) DefaultLength: u32,
}

/// RTL_QUERY_REGISTRY_*.
const SUBKEY: u32 = 0x01;
const TOPKEY: u32 = 0x02;
const REQUIRED: u32 = 0x04;
const NOVALUE: u32 = 0x08;
const NOEXPAND: u32 = 0x10;
const DIRECT: u32 = 0x20;
const DELETE: u32 = 0x40;
const TYPECHECK: u32 = 0x100;

/// RTL_REGISTRY_HANDLE and RTL_REGISTRY_OPTIONAL.
const IS_HANDLE: u32 = 0x4000_0000;
const OPTIONAL: u32 = 0x8000_0000;
/// What paths are relative to, by RTL_REGISTRY_ABSOLUTE and its like.
const ROOTS: [&str; 6] = [
    "",
    r"\Registry\Machine\System\CurrentControlSet\Services\",
    r"\Registry\Machine\System\CurrentControlSet\Control\",
    r"\Registry\Machine\Software\Microsoft\Windows NT\CurrentVersion\",
    r"\Registry\Machine\Hardware\DeviceMap\",
    r"\Registry\User\.Default\",
];

const REG_NONE: u32 = 0;
const REG_SZ: u32 = 1;
const REG_EXPAND_SZ: u32 = 2;
const REG_MULTI_SZ: u32 = 7;
const STRING_TAG: u32 = pool::tag(*b"RtlS");

/// Units of a string that is longer than any name.
const LIMIT: usize = 0x8000;

/// A string that ends with a zero.
fn text_at(string: *const u16) -> String {
    String::from_utf16_lossy(&units(string, LIMIT))
}

/// The key that the table begins with. `None` if there is none, and need not be.
fn top_key(kernel: &Kernel, relative_to: u32, path: usize) -> Result<Option<String>, NTSTATUS> {
    let key = if relative_to & IS_HANDLE != 0 {
        registry::path(kernel, path as HANDLE)
    } else {
        let root = ROOTS.get((relative_to & !OPTIONAL) as usize).ok_or(STATUS_INVALID_PARAMETER)?;
        Some(format!("{root}{}", text_at(path as *const u16)))
    };
    match key.filter(|key| kernel.registry.has_key(key)) {
        None if relative_to & OPTIONAL == 0 => Err(STATUS_OBJECT_NAME_NOT_FOUND),
        found => Ok(found),
    }
}

/// Hands a value to the entry's routine, a list by its parts unless the entry wants it whole.
fn tell(
    entry: &RTL_QUERY_REGISTRY_TABLE,
    routine: QueryRoutine,
    name: &str,
    (kind, data): (u32, &[u8]),
    context: PVOID,
) -> Result<(), NTSTATUS> {
    let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
    let call = |kind: u32, data: &[u8]| {
        let (name, bytes, length, entry) = (name.as_ptr(), data.as_ptr(), data.len() as u32, entry.EntryContext);
        match callout("a QueryRoutine", || routine(name, kind, bytes, length, context, entry)) {
            status if nt_success(status) || status == STATUS_BUFFER_TOO_SMALL => Ok(()),
            status => Err(status),
        }
    };
    if kind != REG_MULTI_SZ || entry.Flags & NOEXPAND != 0 {
        return call(kind, data);
    }
    let units: Vec<[u8; 2]> = data.as_chunks::<2>().0.to_vec();
    let mut parts = units.split(|unit| *unit == [0; 2]).filter(|part| !part.is_empty());
    parts.try_for_each(|part| call(REG_SZ, &[&part.concat()[..], &[0; 2]].concat()))
}

/// Stores a value where the entry says.
fn store(kernel: &Kernel, entry: &RTL_QUERY_REGISTRY_TABLE, kind: u32, data: &[u8]) -> Result<(), NTSTATUS> {
    let expected = entry.DefaultType >> 24;
    if entry.Flags & TYPECHECK != 0 && expected != kind {
        return Err(STATUS_OBJECT_TYPE_MISMATCH);
    }
    if matches!(kind, REG_SZ | REG_EXPAND_SZ | REG_MULTI_SZ) {
        // SAFETY: what the caller has read is a UNICODE_STRING, for values of these types; a bad pointer faults.
        return store_text(kernel, unsafe { &*entry.EntryContext.cast::<UNICODE_STRING>() }, data);
    }
    let (target, length) = (entry.EntryContext.cast::<u8>(), data.len());
    let put = |at: *mut u8, bytes: &[u8]| {
        // SAFETY: the caller's buffer, of the size that it has said; a bad one faults, which the guard reports.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    };
    if length <= size_of::<u32>() {
        put(target, data);
        return Ok(());
    }
    // SAFETY: of a buffer for more than a ULONG the beginning says how large it is.
    let size = unsafe { target.cast::<i32>().read_unaligned() };
    let header = if size < 0 { 0 } else { 2 * size_of::<u32>() };
    if (size.unsigned_abs() as usize) < header + length {
        return Err(STATUS_BUFFER_TOO_SMALL);
    }
    if header != 0 {
        put(target, &(length as u32).to_le_bytes());
        put(target.wrapping_add(4), &kind.to_le_bytes());
    }
    put(target.wrapping_add(header), data);
    Ok(())
}

fn store_text(kernel: &Kernel, target: &UNICODE_STRING, data: &[u8]) -> Result<(), NTSTATUS> {
    let length = u16::try_from(data.len()).map_err(|_| STATUS_BUFFER_TOO_SMALL)?;
    if target.Buffer.get().is_null() {
        let block =
            pool::allocate(kernel, data.len(), STRING_TAG, false, false).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        target.Buffer.set(block.cast());
        target.MaximumLength.set(length);
    } else if target.MaximumLength.get() < length {
        return Err(STATUS_BUFFER_TOO_SMALL);
    }
    // SAFETY: the string's buffer has room for its maximum length, which is not less; a bad one faults.
    unsafe { ptr::copy_nonoverlapping(data.as_ptr(), target.Buffer.get().cast::<u8>(), data.len()) };
    target.Length.set(length.saturating_sub(2));
    Ok(())
}

/// The value that an entry has for the case that there is none.
fn default_of(entry: &RTL_QUERY_REGISTRY_TABLE) -> Option<(u32, Vec<u8>)> {
    let kind = entry.DefaultType & 0xff;
    if kind == REG_NONE {
        return None;
    }
    let length = match entry.DefaultLength {
        0 if matches!(kind, REG_SZ | REG_EXPAND_SZ) => {
            (text_at(entry.DefaultData.cast()).encode_utf16().count() + 1) * size_of::<u16>()
        }
        length => length as usize,
    };
    // SAFETY: the caller says that its default data is so long; a bad range faults, which the guard reports.
    Some((kind, unsafe { slice::from_raw_parts(entry.DefaultData, length) }.to_vec()))
}

/// One entry of the table, of a key.
fn query(kernel: &Kernel, entry: &RTL_QUERY_REGISTRY_TABLE, key: Option<&str>, context: PVOID) -> Result<(), NTSTATUS> {
    let name = (!entry.Name.is_null()).then(|| text_at(entry.Name));
    let give = |name: &str, kind: u32, data: &[u8]| match entry.QueryRoutine {
        _ if entry.Flags & DIRECT != 0 => store(kernel, entry, kind, data),
        Some(routine) => tell(entry, routine, name, (kind, data), context),
        None => Err(STATUS_INVALID_PARAMETER),
    };
    if entry.Flags & DIRECT != 0 && entry.QueryRoutine.is_some() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    if entry.Flags & NOVALUE != 0 {
        return give(name.as_deref().unwrap_or_default(), REG_NONE, &[]);
    }
    let all: Vec<(String, Value)> = match (key, &name) {
        (None, _) => Vec::new(),
        (Some(key), Some(name)) => {
            kernel.registry.get(key, name).map(|value| (name.clone(), value)).into_iter().collect()
        }
        (Some(key), None) => kernel.registry.values(key),
    };
    if all.is_empty() {
        return match (default_of(entry), &name) {
            _ if entry.Flags & REQUIRED != 0 => Err(STATUS_OBJECT_NAME_NOT_FOUND),
            (Some((kind, data)), Some(name)) => give(name, kind, &data),
            (None, _) | (_, None) => Ok(()),
        };
    }
    for (name, value) in all {
        give(&name, value.kind(), &value.bytes())?;
        if let Some(key) = key.filter(|_| entry.Flags & DELETE != 0) {
            kernel.registry.delete_value(key, &name);
        }
    }
    Ok(())
}

fn query_all(
    kernel: &Kernel,
    top: Option<&str>,
    mut entry: *const RTL_QUERY_REGISTRY_TABLE,
    context: PVOID,
) -> Result<(), NTSTATUS> {
    let mut key = top.map(str::to_owned);
    loop {
        // SAFETY: the caller's table, which an entry without name and routine ends; a bad pointer faults.
        let current = unsafe { &*entry };
        if current.QueryRoutine.is_none() && current.Name.is_null() && current.Flags & (TOPKEY | SUBKEY) == 0 {
            return Ok(());
        }
        if current.Flags & (TOPKEY | SUBKEY) != 0 {
            key = top.map(str::to_owned);
        }
        if current.Flags & SUBKEY != 0 {
            if current.Name.is_null() {
                return Err(STATUS_INVALID_PARAMETER);
            }
            let below = top.map(|top| format!(r"{top}\{}", text_at(current.Name)));
            key = below.filter(|key| kernel.registry.has_key(key));
            if key.is_none() && current.Flags & REQUIRED != 0 {
                return Err(STATUS_OBJECT_NAME_NOT_FOUND);
            }
            if let (Some(routine), Some(key)) = (current.QueryRoutine, &key) {
                // A routine with a subkey is told of all the values there.
                for (name, value) in kernel.registry.values(key) {
                    tell(current, routine, &name, (value.kind(), &value.bytes()), context)?;
                }
            }
        } else if current.QueryRoutine.is_some() || !current.Name.is_null() {
            query(kernel, current, key.as_deref(), context)?;
        }
        entry = entry.wrapping_add(1);
    }
}

/// A key that a driver names by where its path begins.
fn key_path(relative_to: u32, path: usize) -> Result<String, NTSTATUS> {
    if relative_to & IS_HANDLE != 0 {
        return registry::path(kernel(), path as HANDLE).ok_or(STATUS_INVALID_HANDLE);
    }
    let root = ROOTS.get((relative_to & !OPTIONAL) as usize).ok_or(STATUS_INVALID_PARAMETER)?;
    Ok(format!("{root}{}", text_at(path as *const u16)))
}

pub(crate) extern "win64" fn RtlWriteRegistryValue(
    relative_to: u32,
    path: usize,
    name: *const u16,
    kind: u32,
    data: *const u8,
    length: u32,
) -> NTSTATUS {
    called("RtlWriteRegistryValue", PASSIVE_LEVEL);
    let path = match key_path(relative_to, path) {
        Ok(path) => path,
        Err(status) => return status,
    };
    // SAFETY: the caller names `length` bytes; a bad range faults, which the guard reports.
    let bytes = unsafe { std::slice::from_raw_parts(data, length as usize) };
    kernel().registry.set(&path, &text_at(name), Value::from_bytes(kind, bytes));
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlCheckRegistryKey(relative_to: u32, path: usize) -> NTSTATUS {
    called("RtlCheckRegistryKey", PASSIVE_LEVEL);
    match key_path(relative_to, path) {
        Ok(path) if kernel().registry.has_key(&path) => STATUS_SUCCESS,
        Ok(_) => STATUS_OBJECT_NAME_NOT_FOUND,
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn RtlCreateRegistryKey(relative_to: u32, path: usize) -> NTSTATUS {
    called("RtlCreateRegistryKey", PASSIVE_LEVEL);
    match key_path(relative_to, path) {
        Ok(path) => {
            kernel().registry.create_key(&path);
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn RtlDeleteRegistryValue(relative_to: u32, path: usize, name: *const u16) -> NTSTATUS {
    called("RtlDeleteRegistryValue", PASSIVE_LEVEL);
    match key_path(relative_to, path) {
        Ok(path) if kernel().registry.delete_value(&path, &text_at(name)) => STATUS_SUCCESS,
        Ok(_) => STATUS_OBJECT_NAME_NOT_FOUND,
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn RtlQueryRegistryValues(
    relative_to: u32,
    path: usize,
    table: *const RTL_QUERY_REGISTRY_TABLE,
    context: PVOID,
    _environment: PVOID,
) -> NTSTATUS {
    let kernel = &called("RtlQueryRegistryValues", PASSIVE_LEVEL).kernel;
    let queried = top_key(kernel, relative_to, path).and_then(|top| query_all(kernel, top.as_deref(), table, context));
    queried.map_or_else(|status| status, |()| STATUS_SUCCESS)
}

pub(crate) extern "win64" fn RtlQueryRegistryValuesEx(
    relative_to: u32,
    path: usize,
    table: *const RTL_QUERY_REGISTRY_TABLE,
    context: PVOID,
    environment: PVOID,
) -> NTSTATUS {
    called("RtlQueryRegistryValuesEx", PASSIVE_LEVEL);
    RtlQueryRegistryValues(relative_to, path, table, context, environment)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlQueryRegistryValues,
    RtlQueryRegistryValuesEx,
    RtlWriteRegistryValue,
    RtlCheckRegistryKey,
    RtlCreateRegistryKey,
    RtlDeleteRegistryValue,
];
