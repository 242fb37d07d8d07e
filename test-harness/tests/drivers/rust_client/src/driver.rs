//! Load and unload.
#![allow(unsafe_code, reason = "the entry point, and the framework's functions")]

use crate::behaviour;
use crate::meeting::Line;
use core::cell::UnsafeCell;
use sanwsk_client::{Client, Interface, NtStatus, block_on};
use wdk_sys::{
    _WDF_DRIVER_INIT_FLAGS, DRIVER_OBJECT, NTSTATUS, PCUNICODE_STRING, ULONG, WDF_DRIVER_CONFIG, WDF_NO_HANDLE,
    WDF_NO_OBJECT_ATTRIBUTES, WDFDRIVER, call_unsafe_wdf_function_binding,
};

/// The client while the driver is loaded.
struct Running(UnsafeCell<Option<Client>>);

// SAFETY: `DriverEntry` and the unload callback have it, one after the other.
unsafe impl Sync for Running {}

static RUNNING: Running = Running(UnsafeCell::new(None));

/// # Safety
///
/// The framework's entry stub calls it, once, with this driver's object and registry path.
#[unsafe(export_name = "DriverEntry")]
unsafe extern "system" fn driver_entry(driver: *mut DRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> NTSTATUS {
    load(driver, registry_path).err().unwrap_or(NtStatus::SUCCESS).0
}

fn load(driver: *mut DRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> Result<(), NtStatus> {
    let mut config = WDF_DRIVER_CONFIG {
        #[expect(clippy::cast_possible_truncation, reason = "some bytes")]
        Size: size_of::<WDF_DRIVER_CONFIG>() as ULONG,
        EvtDriverDeviceAdd: None,
        EvtDriverUnload: Some(unload),
        DriverInitFlags: _WDF_DRIVER_INIT_FLAGS::WdfDriverInitNonPnpDriver as _,
        DriverPoolTag: 0,
    };
    // SAFETY: the entry point's own arguments; the structures are locals, and the handle is not wanted.
    let created = NtStatus(unsafe {
        call_unsafe_wdf_function_binding!(
            WdfDriverCreate,
            driver,
            registry_path,
            WDF_NO_OBJECT_ATTRIBUTES,
            &raw mut config,
            WDF_NO_HANDLE.cast::<WDFDRIVER>()
        )
    });
    if !created.is_success() {
        return Err(created);
    }
    let interface = Interface::open()?;
    let client = Client::open(&interface)?;
    let result = act(&client, &interface);
    if result.is_err() {
        client.close();
        return result;
    }
    // SAFETY: nobody else has it while the driver is loaded.
    unsafe { *RUNNING.0.get() = Some(client) };
    Ok(())
}

fn act(client: &Client, interface: &Interface) -> Result<(), NtStatus> {
    block_on(behaviour::all(client, interface))?.map_err(Line::status)?;
    block_on(behaviour::stay(client, interface))?
}

/// EvtDriverUnload. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn unload(_driver: WDFDRIVER) {
    // SAFETY: `DriverEntry` has returned, and this is called once.
    let client = unsafe { (*RUNNING.0.get()).take() };
    if let Some(client) = client {
        client.close();
    }
}
