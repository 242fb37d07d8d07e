//! WDFKEY: registry keys, and the types of value that the framework reads and writes.
#![allow(unsafe_code)] // writes the client's out parameters

use std::cell::Cell;
use std::ptr;

use super::bind::client;
use super::object::{self, Attributes, Kind, create_into, expect_kind};
use super::support::Memory;
use super::types::{HANDLE, WDF_OBJECT_ATTRIBUTES, WDFMEMORY_OFFSET};
use super::values::{self, Collection, Text};
use crate::nt::irql::called;
use crate::nt::object::ZwClose;
use crate::nt::registry::{
    ZwCreateKey, ZwDeleteKey, ZwDeleteValueKey, ZwOpenKey, ZwQueryValueKey, ZwSetValueKey, open_key,
};
use crate::nt::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_INSUFFICIENT_RESOURCES, STATUS_INTEGER_OVERFLOW, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER, STATUS_OBJECT_TYPE_MISMATCH, STATUS_RESOURCE_DATA_NOT_FOUND, STATUS_SUCCESS, nt_success,
};
use crate::nt::strings::code_units;
use crate::nt::types::{
    NTSTATUS, OBJ_CASE_INSENSITIVE, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, PASSIVE_LEVEL, PVOID, UNICODE_STRING,
};
use crate::thread::kernel;

/// KeyValuePartialInformation.
const PARTIAL: u32 = 2;
const REG_SZ: u32 = 1;
const REG_DWORD: u32 = 4;
const REG_MULTI_SZ: u32 = 7;

/// The kernel's handle of a WDFKEY.
fn kernel_handle(key: HANDLE) -> usize {
    let object = object::find(key);
    *expect_kind!(object, Key)
}

/// Type and data of a value, for which the framework needs a buffer of its own.
fn query(key: HANDLE, name: &UNICODE_STRING) -> Result<(u32, Vec<u8>), NTSTATUS> {
    if !is_valid(name) {
        return Err(STATUS_INVALID_PARAMETER);
    }
    if kernel().faults.allocation_fails() {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    read(key, name)
}

/// Type and data of a value.
fn read(key: HANDLE, name: &UNICODE_STRING) -> Result<(u32, Vec<u8>), NTSTATUS> {
    // The fields of KEY_VALUE_PARTIAL_INFORMATION, with the data behind them.
    const DATA: usize = 12;
    let (handle, needed) = (kernel_handle(key), Cell::new(0));
    let mut information = vec![0_u8; DATA];
    let fields = ZwQueryValueKey(handle, name, PARTIAL, information.as_mut_ptr().cast(), DATA as u32, &needed);
    if !nt_success(fields) && fields != STATUS_BUFFER_OVERFLOW {
        return Err(fields);
    }
    information.resize((needed.get() as usize).max(DATA), 0);
    let length = u32::try_from(information.len()).unwrap_or(u32::MAX);
    let status = ZwQueryValueKey(handle, name, PARTIAL, information.as_mut_ptr().cast(), length, &needed);
    if !nt_success(status) {
        return Err(status);
    }
    let kind = u32::from_le_bytes(std::array::from_fn(|index| information[4 + index]));
    Ok((kind, information.split_off(DATA)))
}

/// The units of a REG_SZ value, without its terminator.
fn text_units(kind: u32, data: &[u8]) -> Result<Vec<u16>, NTSTATUS> {
    if kind != REG_SZ {
        return Err(STATUS_OBJECT_TYPE_MISMATCH);
    }
    let mut units: Vec<u16> = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    if units.last() == Some(&0) {
        units.pop();
    }
    Ok(units)
}

fn bytes_of(units: impl IntoIterator<Item = u16>) -> Vec<u8> {
    units.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// OBJECT_ATTRIBUTES of a key, below another if one is given.
fn attributes_of(parent: HANDLE, name: &UNICODE_STRING) -> OBJECT_ATTRIBUTES {
    OBJECT_ATTRIBUTES {
        Length: const { size_of::<OBJECT_ATTRIBUTES>() as u32 },
        RootDirectory: if parent == 0 { 0 } else { kernel_handle(parent) },
        ObjectName: name,
        Attributes: OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE,
        SecurityDescriptor: ptr::null_mut(),
        SecurityQualityOfService: ptr::null_mut(),
    }
}

/// Makes the WDFKEY of a key that is open.
pub(super) fn keep(globals: usize, key: usize, attributes: *const WDF_OBJECT_ATTRIBUTES, out: *mut HANDLE) -> NTSTATUS {
    let client = client(globals);
    let status = create_into(&client, Kind::Key(key), &Attributes::read(attributes), client.driver(), out);
    if status != STATUS_SUCCESS {
        ZwClose(key);
    }
    status
}

pub(crate) extern "win64" fn WdfDriverOpenParametersRegistryKey(
    globals: usize,
    _driver: HANDLE,
    _access: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfDriverOpenParametersRegistryKey", PASSIVE_LEVEL);
    match open_key(kernel(), &format!("{}\\Parameters", client(globals).registry_path)) {
        Ok(key) => keep(globals, key, attributes, out),
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn WdfRegistryOpenKey(
    globals: usize,
    parent: HANDLE,
    name: &UNICODE_STRING,
    access: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfRegistryOpenKey", PASSIVE_LEVEL);
    let key = Cell::new(0);
    match ZwOpenKey(&key, access, &attributes_of(parent, name)) {
        STATUS_SUCCESS => keep(globals, key.get(), attributes, out),
        status => status,
    }
}

pub(crate) extern "win64" fn WdfRegistryCreateKey(
    globals: usize,
    parent: HANDLE,
    name: &UNICODE_STRING,
    access: u32,
    options: u32,
    disposition: Option<&Cell<u32>>,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfRegistryCreateKey", PASSIVE_LEVEL);
    let key = Cell::new(0);
    match ZwCreateKey(&key, access, &attributes_of(parent, name), 0, None, options, disposition) {
        STATUS_SUCCESS => keep(globals, key.get(), attributes, out),
        status => status,
    }
}

pub(crate) extern "win64" fn WdfRegistryClose(_globals: usize, key: HANDLE) {
    called("WdfRegistryClose", PASSIVE_LEVEL);
    let object = object::find(key);
    let _: &usize = expect_kind!(object, Key);
    object::delete(&object);
}

pub(crate) extern "win64" fn WdfRegistryWdmGetHandle(_globals: usize, key: HANDLE) -> usize {
    called("WdfRegistryWdmGetHandle", PASSIVE_LEVEL);
    kernel_handle(key)
}

pub(crate) extern "win64" fn WdfRegistryRemoveKey(_globals: usize, key: HANDLE) -> NTSTATUS {
    called("WdfRegistryRemoveKey", PASSIVE_LEVEL);
    let status = ZwDeleteKey(kernel_handle(key));
    if nt_success(status) {
        object::delete(&object::find(key));
    }
    status
}

pub(crate) extern "win64" fn WdfRegistryRemoveValue(_globals: usize, key: HANDLE, name: &UNICODE_STRING) -> NTSTATUS {
    called("WdfRegistryRemoveValue", PASSIVE_LEVEL);
    ZwDeleteValueKey(kernel_handle(key), name)
}

pub(crate) extern "win64" fn WdfRegistryQueryValue(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    length: u32,
    value: *mut u8,
    queried: *mut u32,
    kind: *mut u32,
) -> NTSTATUS {
    called("WdfRegistryQueryValue", PASSIVE_LEVEL);
    let asked = if value.is_null() { read(key, name) } else { query(key, name) };
    let (found, data) = match asked {
        Ok(found) => found,
        Err(status) => return status,
    };
    let fits = data.len() <= if value.is_null() { 0 } else { length as usize };
    if fits && !value.is_null() {
        // SAFETY: the client gives `length` bytes; a bad buffer faults, which the guard reports.
        unsafe { value.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
    }
    for (out, number) in [(queried, u32::try_from(data.len()).unwrap_or(u32::MAX)), (kind, found)] {
        if !out.is_null() {
            // SAFETY: the client's out parameter; a bad pointer faults.
            unsafe { out.write(number) };
        }
    }
    if fits { STATUS_SUCCESS } else { STATUS_BUFFER_OVERFLOW }
}

pub(crate) extern "win64" fn WdfRegistryQueryMemory(
    globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    pool_type: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
    kind: *mut u32,
) -> NTSTATUS {
    called("WdfRegistryQueryMemory", PASSIVE_LEVEL);
    let (found, data) = match query(key, name) {
        Ok((_, data)) if data.is_empty() => return STATUS_RESOURCE_DATA_NOT_FOUND,
        Ok(found) => found,
        Err(status) => return status,
    };
    let client = client(globals);
    let Some(memory) = Memory::allocate(data.len(), client.tag(), pool_type) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: just allocated, with as many bytes.
    unsafe { ptr::copy_nonoverlapping(data.as_ptr(), memory.address() as *mut u8, data.len()) };
    let status = super::support::keep_memory(&client, memory, &Attributes::read(attributes), client.driver(), out);
    if status == STATUS_SUCCESS && !kind.is_null() {
        // SAFETY: the client's out parameter; a bad pointer faults.
        unsafe { kind.write(found) };
    }
    status
}

pub(crate) extern "win64" fn WdfRegistryQueryMultiString(
    globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    collection: HANDLE,
) -> NTSTATUS {
    called("WdfRegistryQueryMultiString", PASSIVE_LEVEL);
    let collection = object::find(collection);
    let strings: &Collection = expect_kind!(collection, Collection);
    let data = match query(key, name) {
        Ok((REG_MULTI_SZ, data)) if data.is_empty() => return STATUS_RESOURCE_DATA_NOT_FOUND,
        Ok((REG_MULTI_SZ, data)) => data,
        Ok(_) => return STATUS_OBJECT_TYPE_MISMATCH,
        Err(status) => return status,
    };
    let units: Vec<u16> = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let (client, attributes) = (client(globals), Attributes::read(attributes));
    for text in units.split(|unit| *unit == 0).filter(|text| !text.is_empty()) {
        let text = Kind::Text(Text::new(text.to_vec()));
        match object::create(&client, text, &attributes, client.driver()) {
            Ok(object) => strings.add(&object),
            Err(status) => return status,
        }
    }
    STATUS_SUCCESS
}

/// What the framework wants of a string that it is given, also of one that it is to fill (FxValidateUnicodeString).
fn is_valid(string: &UNICODE_STRING) -> bool {
    let (length, most) = (string.Length.get(), string.MaximumLength.get());
    length % 2 == 0 && most % 2 == 0 && (most == 0 || !string.Buffer.get().is_null()) && length <= most
}

pub(crate) extern "win64" fn WdfRegistryQueryUnicodeString(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    length: Option<&Cell<u16>>,
    value: Option<&UNICODE_STRING>,
) -> NTSTATUS {
    called("WdfRegistryQueryUnicodeString", PASSIVE_LEVEL);
    if value.is_some_and(|value| !is_valid(value) || value.MaximumLength.get() == 0) {
        return STATUS_INVALID_PARAMETER;
    }
    let (kind, data) = match query(key, name) {
        Ok(found) => found,
        Err(status) => return status,
    };
    let bytes = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let fits = bytes <= value.map_or(0, |value| value.MaximumLength.get());
    let units = match text_units(kind, &data) {
        Ok(units) => units,
        Err(status) if fits => return status,
        Err(_) => Vec::new(),
    };
    if let Some(length) = length {
        length.set(bytes);
    }
    if !fits {
        return STATUS_BUFFER_OVERFLOW;
    }
    if let Some(value) = value {
        // SAFETY: the client gives MaximumLength bytes, which are enough; a bad buffer faults.
        unsafe { value.Buffer.get().cast::<u8>().copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        value.Length.set(u16::try_from(units.len() * 2).unwrap_or(u16::MAX));
    }
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WdfRegistryQueryString(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    string: HANDLE,
) -> NTSTATUS {
    called("WdfRegistryQueryString", PASSIVE_LEVEL);
    let (kind, data) = match query(key, name) {
        Ok((_, data)) if data.is_empty() => return STATUS_RESOURCE_DATA_NOT_FOUND,
        Ok(found) => found,
        Err(status) => return status,
    };
    match text_units(kind, &data) {
        Ok(units) => values::set_string_units(string, units),
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn WdfRegistryQueryULong(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    out: *mut u32,
) -> NTSTATUS {
    called("WdfRegistryQueryULong", PASSIVE_LEVEL);
    let (kind, data) = match read(key, name) {
        Ok(found) => found,
        Err(status) => return status,
    };
    match (kind, <[u8; 4]>::try_from(data)) {
        (REG_DWORD, Ok(bytes)) => {
            // SAFETY: the client's out parameter; a bad pointer faults.
            unsafe { out.write(u32::from_le_bytes(bytes)) };
            STATUS_SUCCESS
        }
        _ => STATUS_OBJECT_TYPE_MISMATCH,
    }
}

fn assign(key: HANDLE, name: &UNICODE_STRING, kind: u32, data: &[u8]) -> NTSTATUS {
    match u32::try_from(data.len()) {
        Ok(length) => ZwSetValueKey(kernel_handle(key), name, 0, kind, data.as_ptr(), length),
        Err(_) => STATUS_INTEGER_OVERFLOW,
    }
}

pub(crate) extern "win64" fn WdfRegistryAssignValue(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    kind: u32,
    length: u32,
    value: PVOID,
) -> NTSTATUS {
    called("WdfRegistryAssignValue", PASSIVE_LEVEL);
    ZwSetValueKey(kernel_handle(key), name, 0, kind, value.cast(), length)
}

pub(crate) extern "win64" fn WdfRegistryAssignMemory(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    kind: u32,
    memory: HANDLE,
    part: Option<&WDFMEMORY_OFFSET>,
) -> NTSTATUS {
    called("WdfRegistryAssignMemory", PASSIVE_LEVEL);
    let memory = object::find(memory);
    match expect_kind!(memory, Memory).part(part) {
        Ok((address, length)) => {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            ZwSetValueKey(kernel_handle(key), name, 0, kind, address as *const u8, length)
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn WdfRegistryAssignMultiString(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    collection: HANDLE,
) -> NTSTATUS {
    called("WdfRegistryAssignMultiString", PASSIVE_LEVEL);
    let collection = object::find(collection);
    let mut units = Vec::new();
    for item in expect_kind!(collection, Collection).items() {
        let item = object::find(item);
        let Kind::Text(text) = &item.kind else { return STATUS_INVALID_DEVICE_REQUEST };
        units.extend(text.units());
        units.push(0);
    }
    units.push(0);
    assign(key, name, REG_MULTI_SZ, &bytes_of(units))
}

pub(crate) extern "win64" fn WdfRegistryAssignUnicodeString(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    value: &UNICODE_STRING,
) -> NTSTATUS {
    called("WdfRegistryAssignUnicodeString", PASSIVE_LEVEL);
    assign(key, name, REG_SZ, &bytes_of(code_units(value).into_iter().chain([0])))
}

pub(crate) extern "win64" fn WdfRegistryAssignString(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    string: HANDLE,
) -> NTSTATUS {
    called("WdfRegistryAssignString", PASSIVE_LEVEL);
    let string = object::find(string);
    assign(key, name, REG_SZ, &bytes_of(expect_kind!(string, Text).units().into_iter().chain([0])))
}

pub(crate) extern "win64" fn WdfRegistryAssignULong(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    value: u32,
) -> NTSTATUS {
    called("WdfRegistryAssignULong", PASSIVE_LEVEL);
    assign(key, name, REG_DWORD, &value.to_le_bytes())
}
