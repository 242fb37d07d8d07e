//! WDFDRIVER: the client's driver object, its unload, and its registry keys.
#![allow(unsafe_code)] // reads the client's structures

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::bind::{Client, client};
use super::device;
use super::object::{self, Attributes, Kind, Object, expect_kind};
use super::types::{
    DriverObject, HANDLE, WDF_DRIVER_CONFIG, WDF_OBJECT_ATTRIBUTES, WdfDriverInitNoDispatchOverride,
    WdfDriverInitNonPnpDriver,
};
use crate::guard::{callout, escape, violate};
use crate::nt::irql::called;
use crate::nt::object::ZwClose;
use crate::nt::registry::{ZwQueryValueKey, open_key};
use crate::nt::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_OBJECT_TYPE_MISMATCH,
    STATUS_SUCCESS,
};
use crate::nt::types::{DISPATCH_LEVEL, HIGH_LEVEL, IRP_MJ_MAXIMUM_FUNCTION, NTSTATUS, PASSIVE_LEVEL, UNICODE_STRING};
use crate::simulation;
use crate::thread::kernel;
use crate::violation::Rule;

pub(crate) extern "win64" fn WdfDriverCreate(
    globals: usize,
    driver: DriverObject,
    _registry_path: *const UNICODE_STRING,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    config: *const WDF_DRIVER_CONFIG,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfDriverCreate", PASSIVE_LEVEL);
    let client = client(globals);
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let config = unsafe { *config };
    if config.Size as usize != size_of::<WDF_DRIVER_CONFIG>() || client.driver() != 0 {
        violate(Rule::Framework, "WdfDriverCreate: a wrong WDF_DRIVER_CONFIG.Size, or a second driver object");
    }
    let non_pnp = config.DriverInitFlags & WdfDriverInitNonPnpDriver != 0;
    if non_pnp && config.EvtDriverDeviceAdd.is_some() {
        return STATUS_INVALID_PARAMETER;
    }
    let object = match object::create(&client, Kind::Driver, &Attributes::read(attributes), 0) {
        Ok(object) => object,
        Err(status) => return status,
    };
    client.set_driver(object.handle, &config);
    let driver = crate::nt::io::driver_object(driver);
    if config.DriverInitFlags & WdfDriverInitNoDispatchOverride == 0 {
        for major in 0..=usize::from(IRP_MJ_MAXIMUM_FUNCTION) {
            driver.MajorFunction[major].set(Some(device::dispatch));
        }
        // Without EvtDriverUnload a driver that is not PnP cannot be unloaded.
        if config.EvtDriverUnload.is_some() || !non_pnp {
            driver.DriverUnload.set(Some(unload));
        }
    }
    if config.EvtDriverDeviceAdd.is_some() {
        // SAFETY: the extension lies in the driver object's own block.
        unsafe { (*driver.DriverExtension.get()).AddDevice.set(Some(super::pnp::add_device)) };
    }
    if !out.is_null() {
        // SAFETY: the client's out parameter; a bad pointer faults.
        unsafe { out.write(object.handle) };
    }
    STATUS_SUCCESS
}

/// The client that a driver object is of.
pub(super) fn client_of(driver: DriverObject) -> Option<Arc<Client>> {
    let framework = kernel().extension::<super::Framework>();
    let clients = framework.clients.lock();
    clients.values().find(|client| client.driver_object == driver).cloned()
}

/// What WdfDriverRetrieveVersionString says, in place of the build of a Windows.
const VERSION: &str = "Kernel Mode Driver Framework (Debug|Free) v1.33";

pub(crate) extern "win64" fn WdfDriverRetrieveVersionString(
    _globals: usize,
    _driver: HANDLE,
    string: HANDLE,
) -> NTSTATUS {
    called("WdfDriverRetrieveVersionString", PASSIVE_LEVEL);
    super::values::set_string(string, VERSION)
}

/// WDF_DRIVER_VERSION_AVAILABLE_PARAMS.
#[repr(C)]
pub(crate) struct VersionParameters {
    size: u32,
    major: u32,
    minor: u32,
}

pub(crate) extern "win64" fn WdfDriverIsVersionAvailable(
    _globals: usize,
    _driver: HANDLE,
    version: &VersionParameters,
) -> u8 {
    called("WdfDriverIsVersionAvailable", PASSIVE_LEVEL);
    u8::from(version.size as usize >= size_of::<VersionParameters>() && version.major == 1 && version.minor <= 33)
}

pub(crate) extern "win64" fn WdfDriverGetRegistryPath(globals: usize, _driver: HANDLE) -> *const u16 {
    called("WdfDriverGetRegistryPath", PASSIVE_LEVEL);
    client(globals).registry_units.as_ptr()
}

/// DRIVER_OBJECT.DriverUnload of every client: the client's own callback, then the end of its objects.
extern "win64" fn unload(driver: DriverObject) {
    called("the framework's unload routine", PASSIVE_LEVEL);
    let Some(client) = client_of(driver) else { return };
    let Some(object) = object::try_find(client.driver()) else { return };
    let callback = client.config.lock().and_then(|config| config.EvtDriverUnload);
    if let Some(callback) = callback {
        callout("EvtDriverUnload", || callback(object.handle));
    }
    delete(&client, &object);
}

/// How long the client's objects may outlive its driver object.
const PATIENCE: Duration = Duration::from_secs(1);

/// Deletes the driver object, and with it everything else of the client. What other threads are about to destroy is waited for:
/// the callbacks that this makes are in the client's image.
pub(super) fn delete(client: &Arc<Client>, driver: &Arc<Object>) {
    client.clear_driver();
    object::delete(driver);
    let since = simulation::now();
    while !super::objects_of(client).is_empty() && simulation::now().duration_since(since) < PATIENCE {
        simulation::sleep(Duration::from_micros(100));
        if kernel().is_stopped() {
            escape();
        }
    }
}

pub(crate) extern "win64" fn WdfDriverWdmGetDriverObject(globals: usize, _driver: HANDLE) -> DriverObject {
    called("WdfDriverWdmGetDriverObject", DISPATCH_LEVEL);
    client(globals).driver_object
}

pub(crate) extern "win64" fn WdfWdmDriverGetWdfDriverHandle(globals: usize, _driver: DriverObject) -> HANDLE {
    called("WdfWdmDriverGetWdfDriverHandle", HIGH_LEVEL);
    client(globals).driver()
}

pub(crate) extern "win64" fn WdfDriverOpenParametersRegistryKey(
    globals: usize,
    driver: HANDLE,
    _access: u32,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfDriverOpenParametersRegistryKey", PASSIVE_LEVEL);
    let client = client(globals);
    let path = format!("{}\\Parameters", client.registry_path);
    let key = match open_key(kernel(), &path) {
        Ok(key) => key,
        Err(status) => return status,
    };
    let status = object::create_into(&client, Kind::Key(key), &Attributes::read(attributes), driver, out);
    if status != STATUS_SUCCESS {
        ZwClose(key);
    }
    status
}

pub(crate) extern "win64" fn WdfRegistryClose(_globals: usize, key: HANDLE) {
    called("WdfRegistryClose", PASSIVE_LEVEL);
    let object = object::find(key);
    let _: &usize = expect_kind!(object, Key);
    object::delete(&object);
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
    let object = object::find(key);
    // The framework needs a buffer of its own for the data alone.
    if !value.is_null() && kernel().faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // The fields of KEY_VALUE_PARTIAL_INFORMATION, with the data behind them.
    const DATA: usize = 12;
    let room = if value.is_null() { 0 } else { length };
    let mut information = vec![0_u8; DATA + room as usize];
    let (size, needed) = (DATA as u32 + room, Cell::new(0));
    let buffer = information.as_mut_ptr().cast();
    let status = ZwQueryValueKey(*expect_kind!(object, Key), name, PARTIAL, buffer, size, &needed);
    if !matches!(status, STATUS_SUCCESS | STATUS_BUFFER_OVERFLOW) {
        return status;
    }
    let field = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| information[at + index]));
    let data = &information[DATA..];
    if status == STATUS_SUCCESS && !value.is_null() {
        // SAFETY: the client gives `length` bytes; a bad buffer faults, which the guard reports.
        unsafe { value.copy_from_nonoverlapping(data.as_ptr(), field(8) as usize) };
    }
    for (out, number) in [(queried, field(8)), (kind, field(4))] {
        if !out.is_null() {
            // SAFETY: the client's out parameter; a bad pointer faults.
            unsafe { out.write(number) };
        }
    }
    status
}

/// KEY_VALUE_PARTIAL_INFORMATION with room for a number.
#[repr(C)]
struct PartialInformation {
    title_index: u32,
    kind: u32,
    length: u32,
    number: u32,
}

/// KeyValuePartialInformation.
const PARTIAL: u32 = 2;
const REG_DWORD: u32 = 4;

pub(crate) extern "win64" fn WdfRegistryQueryULong(
    _globals: usize,
    key: HANDLE,
    name: &UNICODE_STRING,
    out: *mut u32,
) -> NTSTATUS {
    called("WdfRegistryQueryULong", PASSIVE_LEVEL);
    let object = object::find(key);
    let mut value = PartialInformation { title_index: 0, kind: 0, length: 0, number: 0 };
    let (size, needed) = (size_of::<PartialInformation>() as u32, Cell::new(0));
    let status = ZwQueryValueKey(*expect_kind!(object, Key), name, PARTIAL, (&raw mut value).cast(), size, &needed);
    match status {
        STATUS_SUCCESS if value.kind == REG_DWORD => {
            // SAFETY: the client's out parameter; a bad pointer faults.
            unsafe { out.write(value.number) };
            STATUS_SUCCESS
        }
        STATUS_SUCCESS | STATUS_BUFFER_OVERFLOW => STATUS_OBJECT_TYPE_MISMATCH,
        other => other,
    }
}
