//! Properties of devices, and their keys in the registry: those of the PDO, before a device is made on it and after.
#![allow(unsafe_code)] // reads the client's structures and writes its out parameters

use std::cell::Cell;
use std::ptr;

use super::super::bind::client;
use super::super::object::{self, Attributes, Object, expect_kind};
use super::super::pnp::{self, Pnp};
use super::super::support::{Memory, keep_memory};
use super::super::target;
use super::super::types::{HANDLE, WDF_DEVICE_PROPERTY_DATA, WDF_OBJECT_ATTRIBUTES};
use super::super::{device, registry};
use super::{Device, DeviceInit};
use crate::nt::io::property::{
    IoGetDeviceProperty, IoGetDevicePropertyData, IoOpenDeviceRegistryKey, IoSetDevicePropertyData,
};
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INFO_LENGTH_MISMATCH, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER, STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED, nt_success,
};
use crate::nt::types::{APC_LEVEL, DEVICE_OBJECT, NTSTATUS, PASSIVE_LEVEL};

/// The PDO under a device; `otherwise` is what a control device, which has none, ends with.
fn pdo_of(object: &Object, otherwise: NTSTATUS) -> Result<*mut DEVICE_OBJECT, NTSTATUS> {
    let device: &Device = expect_kind!(object, Device);
    device.pnp.as_ref().map(Pnp::physical).ok_or(otherwise)
}

/// The PDO that a WDFDEVICE_INIT of EvtDriverDeviceAdd is for.
fn pdo_of_init(pointer: *mut DeviceInit, otherwise: NTSTATUS) -> Result<*mut DEVICE_OBJECT, NTSTATUS> {
    device::init(pointer).pnp.as_ref().map(pnp::PnpInit::physical).ok_or(otherwise)
}

fn settled(outcome: Result<NTSTATUS, NTSTATUS>) -> NTSTATUS {
    outcome.unwrap_or_else(|status| status)
}

/// What a client asks for of a property of the unified model.
fn asked_for(property: *const WDF_DEVICE_PROPERTY_DATA) -> Result<WDF_DEVICE_PROPERTY_DATA, NTSTATUS> {
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let property = unsafe { *property };
    if property.Size as usize == size_of::<WDF_DEVICE_PROPERTY_DATA>() {
        Ok(property)
    } else {
        Err(STATUS_INFO_LENGTH_MISMATCH)
    }
}

/// Reads a property of the unified model: also its length and its type, if it is there.
fn read(
    pdo: *mut DEVICE_OBJECT,
    property: &WDF_DEVICE_PROPERTY_DATA,
    room: u32,
    buffer: *mut u8,
    (length, kind): (&Cell<u32>, &Cell<u32>),
) -> NTSTATUS {
    let (needed, known) = (Cell::new(0), Cell::new(0));
    // SAFETY: the client's DEVPROPKEY; a bad pointer faults, which the guard reports.
    let key = unsafe { &*property.PropertyKey };
    let status = IoGetDevicePropertyData(pdo, key, property.Lcid, 0, room, buffer, &needed, &known);
    let found = nt_success(status) || status == STATUS_BUFFER_TOO_SMALL;
    length.set(if found { needed.get() } else { 0 });
    kind.set(if found { known.get() } else { 0 });
    status
}

/// Makes the WDFMEMORY of something whose length is asked for first.
fn allocate(
    globals: usize,
    pool_type: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
    query: impl Fn(u32, *mut u8, &Cell<u32>) -> NTSTATUS,
) -> NTSTATUS {
    let (client, attributes, length) = (client(globals), Attributes::read(attributes), Cell::new(0));
    match query(0, ptr::null_mut(), &length) {
        STATUS_BUFFER_TOO_SMALL => {}
        status => return status,
    }
    let Some(memory) = Memory::allocate(length.get() as usize, client.tag(), pool_type) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    let status = query(length.get(), memory.address() as *mut u8, &length);
    if !nt_success(status) {
        memory.free();
        return status;
    }
    keep_memory(&client, memory, &attributes, client.driver(), out)
}

/// Makes the WDFMEMORY of a property of DEVICE_REGISTRY_PROPERTY's.
fn allocate_registry_property(
    globals: usize,
    pdo: Result<*mut DEVICE_OBJECT, NTSTATUS>,
    property: u32,
    pool_type: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    clear(out);
    settled(pdo.map(|pdo| {
        let query = |room, buffer, length: &Cell<u32>| IoGetDeviceProperty(pdo, property, room, buffer, length);
        allocate(globals, pool_type, attributes, out, query)
    }))
}

/// Makes the client's variable say that there is no object.
fn clear(out: *mut HANDLE) {
    // SAFETY: the client's out parameter; a bad pointer faults, which the guard reports.
    unsafe { out.write(0) };
}

pub(crate) extern "win64" fn WdfDeviceQueryProperty(
    _globals: usize,
    handle: HANDLE,
    property: u32,
    room: u32,
    buffer: *mut u8,
    length: &Cell<u32>,
) -> NTSTATUS {
    called("WdfDeviceQueryProperty", PASSIVE_LEVEL);
    let pdo = pdo_of(&object::find(handle), STATUS_INVALID_DEVICE_REQUEST);
    settled(pdo.map(|pdo| IoGetDeviceProperty(pdo, property, room, buffer, length)))
}

pub(crate) extern "win64" fn WdfDeviceAllocAndQueryProperty(
    globals: usize,
    handle: HANDLE,
    property: u32,
    pool_type: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfDeviceAllocAndQueryProperty", PASSIVE_LEVEL);
    let pdo = pdo_of(&object::find(handle), STATUS_INVALID_DEVICE_REQUEST);
    allocate_registry_property(globals, pdo, property, pool_type, attributes, out)
}

pub(crate) extern "win64" fn WdfFdoInitQueryProperty(
    _globals: usize,
    init: *mut DeviceInit,
    property: u32,
    room: u32,
    buffer: *mut u8,
    length: &Cell<u32>,
) -> NTSTATUS {
    called("WdfFdoInitQueryProperty", PASSIVE_LEVEL);
    let pdo = pdo_of_init(init, STATUS_INVALID_DEVICE_REQUEST);
    settled(pdo.map(|pdo| IoGetDeviceProperty(pdo, property, room, buffer, length)))
}

pub(crate) extern "win64" fn WdfFdoInitAllocAndQueryProperty(
    globals: usize,
    init: *mut DeviceInit,
    property: u32,
    pool_type: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfFdoInitAllocAndQueryProperty", PASSIVE_LEVEL);
    let pdo = pdo_of_init(init, STATUS_INVALID_DEVICE_REQUEST);
    allocate_registry_property(globals, pdo, property, pool_type, attributes, out)
}

pub(crate) extern "win64" fn WdfDeviceQueryPropertyEx(
    _globals: usize,
    handle: HANDLE,
    property: *const WDF_DEVICE_PROPERTY_DATA,
    room: u32,
    buffer: *mut u8,
    length: &Cell<u32>,
    kind: &Cell<u32>,
) -> NTSTATUS {
    called("WdfDeviceQueryPropertyEx", APC_LEVEL);
    let object = object::find(handle);
    settled(asked_for(property).and_then(|property| {
        if (room == 0) != buffer.is_null() {
            return Err(STATUS_INVALID_PARAMETER);
        }
        length.set(0);
        kind.set(0);
        let pdo = pdo_of(&object, STATUS_INVALID_DEVICE_STATE)?;
        Ok(read(pdo, &property, room, buffer, (length, kind)))
    }))
}

pub(crate) extern "win64" fn WdfDeviceAllocAndQueryPropertyEx(
    globals: usize,
    handle: HANDLE,
    property: *const WDF_DEVICE_PROPERTY_DATA,
    pool_type: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
    kind: &Cell<u32>,
) -> NTSTATUS {
    called("WdfDeviceAllocAndQueryPropertyEx", APC_LEVEL);
    let object = object::find(handle);
    settled(asked_for(property).and_then(|property| {
        clear(out);
        let pdo = pdo_of(&object, STATUS_INVALID_DEVICE_STATE)?;
        let query = |room, buffer, length: &Cell<u32>| read(pdo, &property, room, buffer, (length, kind));
        Ok(allocate(globals, pool_type, attributes, out, query))
    }))
}

pub(crate) extern "win64" fn WdfFdoInitQueryPropertyEx(
    _globals: usize,
    init: *mut DeviceInit,
    property: *const WDF_DEVICE_PROPERTY_DATA,
    room: u32,
    buffer: *mut u8,
    length: &Cell<u32>,
    kind: &Cell<u32>,
) -> NTSTATUS {
    called("WdfFdoInitQueryPropertyEx", PASSIVE_LEVEL);
    settled(asked_for(property).and_then(|property| {
        let pdo = pdo_of_init(init, STATUS_INVALID_DEVICE_REQUEST)?;
        Ok(read(pdo, &property, room, buffer, (length, kind)))
    }))
}

pub(crate) extern "win64" fn WdfFdoInitAllocAndQueryPropertyEx(
    globals: usize,
    init: *mut DeviceInit,
    property: *const WDF_DEVICE_PROPERTY_DATA,
    pool_type: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
    kind: &Cell<u32>,
) -> NTSTATUS {
    called("WdfFdoInitAllocAndQueryPropertyEx", PASSIVE_LEVEL);
    settled(asked_for(property).and_then(|property| {
        clear(out);
        let pdo = pdo_of_init(init, STATUS_INVALID_DEVICE_REQUEST)?;
        let query = |room, buffer, length: &Cell<u32>| read(pdo, &property, room, buffer, (length, kind));
        Ok(allocate(globals, pool_type, attributes, out, query))
    }))
}

/// Sets a property of the unified model; no data deletes it.
pub(crate) extern "win64" fn WdfDeviceAssignProperty(
    _globals: usize,
    handle: HANDLE,
    property: *const WDF_DEVICE_PROPERTY_DATA,
    kind: u32,
    size: u32,
    data: *const u8,
) -> NTSTATUS {
    called("WdfDeviceAssignProperty", APC_LEVEL);
    let object = object::find(handle);
    settled(asked_for(property).and_then(|property| {
        if size == 0 && !data.is_null() {
            return Err(STATUS_INVALID_PARAMETER);
        }
        let pdo = pdo_of(&object, STATUS_INVALID_DEVICE_STATE)?;
        // SAFETY: the client's DEVPROPKEY; a bad pointer faults, which the guard reports.
        let key = unsafe { &*property.PropertyKey };
        Ok(IoSetDevicePropertyData(pdo, key, property.Lcid, property.Flags, kind, size, data))
    }))
}

/// Opens a key of a PDO's, by PLUGPLAY_REGKEY_*.
fn open_key(
    globals: usize,
    pdo: *mut DEVICE_OBJECT,
    (kind, access): (u32, u32),
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    let key = Cell::new(0);
    let status = IoOpenDeviceRegistryKey(pdo, kind, access, &key);
    if nt_success(status) { registry::keep(globals, key.get(), attributes, out) } else { status }
}

pub(crate) extern "win64" fn WdfDeviceOpenRegistryKey(
    globals: usize,
    handle: HANDLE,
    kind: u32,
    access: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfDeviceOpenRegistryKey", PASSIVE_LEVEL);
    clear(out);
    if Attributes::read(attributes).parent != 0 {
        return STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED;
    }
    let pdo = pdo_of(&object::find(handle), STATUS_INVALID_DEVICE_STATE);
    settled(pdo.map(|pdo| open_key(globals, pdo, (kind, access), attributes, out)))
}

pub(crate) extern "win64" fn WdfFdoInitOpenRegistryKey(
    globals: usize,
    init: *mut DeviceInit,
    kind: u32,
    access: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfFdoInitOpenRegistryKey", PASSIVE_LEVEL);
    clear(out);
    let pdo = pdo_of_init(init, STATUS_INVALID_PARAMETER);
    settled(pdo.map(|pdo| open_key(globals, pdo, (kind, access), attributes, out)))
}

/// The PDO of a target.
fn pdo_of_target(handle: HANDLE) -> Result<*mut DEVICE_OBJECT, NTSTATUS> {
    target::physical(&object::find(handle)).ok_or(STATUS_INVALID_DEVICE_REQUEST)
}

pub(crate) extern "win64" fn WdfIoTargetQueryTargetProperty(
    _globals: usize,
    handle: HANDLE,
    property: u32,
    room: u32,
    buffer: *mut u8,
    length: &Cell<u32>,
) -> NTSTATUS {
    called("WdfIoTargetQueryTargetProperty", PASSIVE_LEVEL);
    settled(pdo_of_target(handle).map(|pdo| IoGetDeviceProperty(pdo, property, room, buffer, length)))
}

pub(crate) extern "win64" fn WdfIoTargetAllocAndQueryTargetProperty(
    globals: usize,
    handle: HANDLE,
    property: u32,
    pool_type: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfIoTargetAllocAndQueryTargetProperty", PASSIVE_LEVEL);
    allocate_registry_property(globals, pdo_of_target(handle), property, pool_type, attributes, out)
}
