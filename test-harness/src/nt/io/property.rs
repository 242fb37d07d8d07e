//! Properties of devices, and their keys in the registry.
#![allow(unsafe_code)] // copies property data

use std::cell::Cell;
use std::ptr;

use super::device;
use crate::image::Export;
use crate::kernel::Kernel;
use crate::nt::irql::called;
use crate::nt::registry;
use crate::nt::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_SUCCESS,
};
use crate::nt::types::{APC_LEVEL, DEVICE_OBJECT, DO_BUS_ENUMERATED_DEVICE, GUID, HANDLE, NTSTATUS, PASSIVE_LEVEL};

/// A DEVPROPKEY.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DEVPROPKEY {
    fmtid: GUID,
    pid: u32,
}

/// DEVPROPTYPE.
const DEVPROP_TYPE_EMPTY: u32 = 0;
const DEVPROP_TYPE_STRING: u32 = 0x12;
const DEVPROP_TYPE_STRING_LIST: u32 = 0x2012;

/// A property that a driver has set.
pub(super) struct Property {
    pdo: usize,
    key: DEVPROPKEY,
    locale: u32,
    kind: u32,
    data: Vec<u8>,
}

/// What every root device is called.
enum Fact {
    Description,
    HardwareIds,
    PhysicalDeviceObjectName,
    EnumeratorName,
}

impl Fact {
    /// By DEVICE_REGISTRY_PROPERTY.
    fn of_registry_property(property: u32) -> Option<Self> {
        match property {
            0 => Some(Fact::Description),
            1 => Some(Fact::HardwareIds),
            10 => Some(Fact::PhysicalDeviceObjectName),
            15 => Some(Fact::EnumeratorName),
            _ => None,
        }
    }

    /// By DEVPKEY_Device_* (devpkey.h).
    fn of_key(key: DEVPROPKEY) -> Option<Self> {
        const DEVICE: GUID = GUID {
            Data1: 0xa45c_254e,
            Data2: 0xdf1c,
            Data3: 0x4efd,
            Data4: [0x80, 0x20, 0x67, 0xd1, 0x46, 0xa8, 0x50, 0xe0],
        };
        match (key.fmtid == DEVICE, key.pid) {
            (true, 2) => Some(Fact::Description),
            (true, 3) => Some(Fact::HardwareIds),
            (true, 16) => Some(Fact::PhysicalDeviceObjectName),
            (true, 24) => Some(Fact::EnumeratorName),
            _ => None,
        }
    }

    fn kind(&self) -> u32 {
        match self {
            Fact::HardwareIds => DEVPROP_TYPE_STRING_LIST,
            Fact::Description | Fact::PhysicalDeviceObjectName | Fact::EnumeratorName => DEVPROP_TYPE_STRING,
        }
    }

    fn data(&self, name: &str) -> Vec<u8> {
        let text = match self {
            Fact::Description => "Root device\0".to_owned(),
            Fact::HardwareIds => "ROOT\\HARNESS\0\0".to_owned(),
            Fact::PhysicalDeviceObjectName => format!("{name}\0"),
            Fact::EnumeratorName => "ROOT\0".to_owned(),
        };
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }
}

/// The name of a PDO.
pub(super) fn name_of(kernel: &Kernel, pdo: *mut DEVICE_OBJECT) -> Option<String> {
    let bus_enumerated = device(pdo).Flags.get() & DO_BUS_ENUMERATED_DEVICE != 0;
    bus_enumerated.then(|| kernel.io.state.lock().devices.get(&(pdo as usize))?.name.clone()).flatten()
}

/// A device has been removed.
pub(super) fn forget(kernel: &Kernel, pdo: usize) {
    kernel.io.state.lock().properties.retain(|known| known.pdo != pdo);
}

/// Gives data out, or says how much room it needs.
fn give(data: &[u8], room: u32, buffer: *mut u8, needed: &Cell<u32>) -> NTSTATUS {
    needed.set(u32::try_from(data.len()).unwrap_or(u32::MAX));
    if (room as usize) < data.len() {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller gives so many bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy_nonoverlapping(data.as_ptr(), buffer, data.len()) };
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn IoGetDeviceProperty(
    physical: *mut DEVICE_OBJECT,
    property: u32,
    room: u32,
    buffer: *mut u8,
    needed: &Cell<u32>,
) -> NTSTATUS {
    let kernel = &called("IoGetDeviceProperty", PASSIVE_LEVEL).kernel;
    let Some(name) = name_of(kernel, physical) else { return STATUS_INVALID_DEVICE_REQUEST };
    match Fact::of_registry_property(property) {
        Some(fact) => give(&fact.data(&name), room, buffer, needed),
        None => STATUS_OBJECT_NAME_NOT_FOUND,
    }
}

pub(crate) extern "win64" fn IoGetDevicePropertyData(
    physical: *mut DEVICE_OBJECT,
    key: &DEVPROPKEY,
    locale: u32,
    _flags: u32,
    room: u32,
    buffer: *mut u8,
    needed: &Cell<u32>,
    kind: &Cell<u32>,
) -> NTSTATUS {
    let kernel = &called("IoGetDevicePropertyData", APC_LEVEL).kernel;
    let Some(name) = name_of(kernel, physical) else { return STATUS_INVALID_DEVICE_REQUEST };
    let set = {
        let state = kernel.io.state.lock();
        let mut of_device = state.properties.iter().filter(|known| known.pdo == physical as usize);
        let known = of_device.find(|known| known.key == *key && known.locale == locale);
        known.map(|known| (known.kind, known.data.clone()))
    };
    let Some((known, data)) = set.or_else(|| Fact::of_key(*key).map(|fact| (fact.kind(), fact.data(&name)))) else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    kind.set(known);
    give(&data, room, buffer, needed)
}

/// Sets a property; no data deletes it.
pub(crate) extern "win64" fn IoSetDevicePropertyData(
    physical: *mut DEVICE_OBJECT,
    key: &DEVPROPKEY,
    locale: u32,
    _flags: u32,
    kind: u32,
    size: u32,
    data: *const u8,
) -> NTSTATUS {
    let kernel = &called("IoSetDevicePropertyData", APC_LEVEL).kernel;
    if name_of(kernel, physical).is_none() {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    let (pdo, key) = (physical as usize, *key);
    let data = if data.is_null() || kind == DEVPROP_TYPE_EMPTY {
        None
    } else {
        // SAFETY: the caller names `size` bytes; a bad range faults, which the guard reports.
        Some(unsafe { std::slice::from_raw_parts(data, size as usize) }.to_vec())
    };
    let mut state = kernel.io.state.lock();
    state.properties.retain(|known| known.pdo != pdo || known.key != key || known.locale != locale);
    if let Some(data) = data {
        state.properties.push(Property { pdo, key, locale, kind, data });
    }
    STATUS_SUCCESS
}

/// PLUGPLAY_REGKEY_*.
const PLUGPLAY_REGKEY_DEVICE: u32 = 1;
const PLUGPLAY_REGKEY_DRIVER: u32 = 2;
const PLUGPLAY_REGKEY_CURRENT_HWPROFILE: u32 = 4;

pub(crate) extern "win64" fn IoOpenDeviceRegistryKey(
    physical: *mut DEVICE_OBJECT,
    kind: u32,
    _access: u32,
    handle: &Cell<HANDLE>,
) -> NTSTATUS {
    let kernel = &called("IoOpenDeviceRegistryKey", PASSIVE_LEVEL).kernel;
    let Some(name) = name_of(kernel, physical) else { return STATUS_INVALID_DEVICE_REQUEST };
    let instance = name.rsplit('\\').next().unwrap_or_default();
    let profile = if kind & PLUGPLAY_REGKEY_CURRENT_HWPROFILE == 0 { "" } else { r"\Hardware Profiles\Current\System" };
    let control = format!(r"\Registry\Machine\System\CurrentControlSet{profile}");
    let path = match kind & !PLUGPLAY_REGKEY_CURRENT_HWPROFILE {
        PLUGPLAY_REGKEY_DEVICE => format!(r"{control}\Enum\ROOT\{instance}\0000\Device Parameters"),
        PLUGPLAY_REGKEY_DRIVER => format!(r"{control}\Control\Class\{instance}\0000"),
        _ => return STATUS_INVALID_PARAMETER,
    };
    kernel.registry.create_key(&path);
    match registry::open_key(kernel, &path) {
        Ok(opened) => {
            handle.set(opened);
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(in crate::nt) const EXPORTS: &[(&str, Export)] = crate::nt::exports![
    IoGetDeviceProperty,
    IoGetDevicePropertyData,
    IoSetDevicePropertyData,
    IoOpenDeviceRegistryKey,
];
