//! Load and unload.
#![allow(unsafe_code, reason = "the entry point, and the framework's driver object")]

use crate::continuation::{self, WorkItem};
use crate::device;
use crate::handle;
use crate::nt;
use crate::parameters;
use crate::san;
use crate::trace;
use crate::wdf;
use crate::wsk::PROVIDER;
use core::ptr;
use san_protocol::NtStatus;
use wdk_sys::{
    _WDF_DRIVER_INIT_FLAGS, DRIVER_OBJECT, NTSTATUS, PCUNICODE_STRING, ULONG, WDF_DRIVER_CONFIG,
    WDF_NO_OBJECT_ATTRIBUTES, WDFDRIVER, WDFWORKITEM, call_unsafe_wdf_function_binding,
};

/// Pool tag of what the framework allocates for this driver.
const TAG: ULONG = u32::from_le_bytes(*b"SanF");

/// Captures the provider NPI, however long that takes.
static CAPTURE: WorkItem = WorkItem::new();

/// Called when the driver is loaded. Never waits: the WSK provider is captured on a worker. IRQL = PASSIVE_LEVEL.
///
/// # Safety
///
/// The framework's entry stub calls it, once, with this driver's object and registry path.
#[unsafe(export_name = "DriverEntry")]
unsafe extern "system" fn driver_entry(driver: *mut DRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> NTSTATUS {
    trace::register();
    match load(driver, registry_path) {
        Ok(()) => NtStatus::SUCCESS.0,
        Err(status) => {
            trace::load_failed(status);
            trace::unregister();
            status.0
        }
    }
}

fn load(driver: *mut DRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> Result<(), NtStatus> {
    let mut config = WDF_DRIVER_CONFIG {
        Size: wdf::size::<WDF_DRIVER_CONFIG>(),
        EvtDriverDeviceAdd: None,
        EvtDriverUnload: Some(evt_driver_unload),
        DriverInitFlags: _WDF_DRIVER_INIT_FLAGS::WdfDriverInitNonPnpDriver as _,
        DriverPoolTag: TAG,
    };
    let mut handle: WDFDRIVER = ptr::null_mut();
    // SAFETY: the entry point's own arguments; the structures are locals.
    wdf::check(unsafe {
        call_unsafe_wdf_function_binding!(
            WdfDriverCreate,
            driver,
            registry_path,
            WDF_NO_OBJECT_ATTRIBUTES,
            &raw mut config,
            &raw mut handle
        )
    })?;
    let routes = parameters::read(handle)?;
    let device = device::create(handle)?;
    continuation::create(device)?;
    san::create(device)?;
    CAPTURE.create(device, Some(capture))?;
    // The last step that can fail: when it has failed there is nothing to take back, for the framework deletes its objects.
    PROVIDER.register()?;
    san::set_routes(routes);
    trace::loaded(parameters::get().native_port);
    device::finish_initializing(device);
    CAPTURE.enqueue();
    Ok(())
}

/// EvtWorkItem. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn capture(_item: WDFWORKITEM) {
    PROVIDER.capture();
}

/// EvtDriverUnload: every handle is closed. Waits until every endpoint is gone, then leaves WSK, then for what may still be
/// returning through this image. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn evt_driver_unload(_driver: WDFDRIVER) {
    san::end();
    PROVIDER.end();
    CAPTURE.flush();
    continuation::flush();
    san::flush();
    handle::clear();
    nt::flush_queued_dpcs();
    trace::unloaded();
    trace::unregister();
}
