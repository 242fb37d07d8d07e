//! WDFDRIVER: the client's driver object, and its unload.
#![allow(unsafe_code)] // reads the client's structures

use std::sync::Arc;
use std::time::Duration;

use super::bind::{Client, client};
use super::device;
use super::object::{self, Attributes, Kind, Object};
use super::types::{
    DriverObject, HANDLE, WDF_DRIVER_CONFIG, WDF_OBJECT_ATTRIBUTES, WdfDriverInitNoDispatchOverride,
    WdfDriverInitNonPnpDriver,
};
use crate::guard::{callout, escape, violate};
use crate::nt::irql::called;
use crate::nt::runtime::KeBugCheckEx;
use crate::nt::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
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

/// A break point where the driver's key asks for it; nobody debugs the machine.
pub(crate) extern "win64" fn WdfVerifierDbgBreakPoint(globals: usize) {
    called("WdfVerifierDbgBreakPoint", HIGH_LEVEL);
    if client(globals).breaks_on_errors {
        violate(Rule::BugCheck, "WdfVerifierDbgBreakPoint: a break point, and no debugger");
    }
}

pub(crate) extern "win64" fn WdfVerifierKeBugCheck(
    _globals: usize,
    code: u32,
    first: usize,
    second: usize,
    third: usize,
    fourth: usize,
) {
    called("WdfVerifierKeBugCheck", HIGH_LEVEL);
    KeBugCheckEx(code, first, second, third, fourth);
}

pub(crate) extern "win64" fn WdfDriverWdmGetDriverObject(globals: usize, _driver: HANDLE) -> DriverObject {
    called("WdfDriverWdmGetDriverObject", DISPATCH_LEVEL);
    client(globals).driver_object
}

pub(crate) extern "win64" fn WdfWdmDriverGetWdfDriverHandle(globals: usize, _driver: DriverObject) -> HANDLE {
    called("WdfWdmDriverGetWdfDriverHandle", HIGH_LEVEL);
    client(globals).driver()
}
