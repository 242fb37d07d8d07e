//! Load and unload.
#![allow(unsafe_code, reason = "the entry point, and the framework's functions")]

use crate::echo;
use core::cell::UnsafeCell;
use core::ptr;
use sanwsk_client::{Client, Interface, NtStatus};
use wdk_sys::{
    _WDF_DRIVER_INIT_FLAGS, DRIVER_OBJECT, KEY_READ, NTSTATUS, PCUNICODE_STRING, ULONG, UNICODE_STRING,
    WDF_DRIVER_CONFIG, WDF_NO_OBJECT_ATTRIBUTES, WDFDRIVER, WDFKEY, call_unsafe_wdf_function_binding,
};

/// Pool tag of what the framework allocates for this driver.
const TAG: ULONG = u32::from_le_bytes(*b"Echo");

/// Where it listens if the registry does not say.
const DEFAULT_PORT: u16 = 7;

/// The client while the driver is loaded.
struct Running(UnsafeCell<Option<Client>>);

// SAFETY: `DriverEntry` and the unload callback have it, one after the other.
unsafe impl Sync for Running {}

static RUNNING: Running = Running(UnsafeCell::new(None));

/// Called when the driver is loaded. IRQL = PASSIVE_LEVEL.
///
/// # Safety
///
/// The framework's entry stub calls it, once, with this driver's object and registry path.
#[unsafe(export_name = "DriverEntry")]
unsafe extern "system" fn driver_entry(driver: *mut DRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> NTSTATUS {
    match load(driver, registry_path) {
        Ok(()) => NtStatus::SUCCESS.0,
        Err(status) => status.0,
    }
}

fn check(status: NTSTATUS) -> Result<(), NtStatus> {
    let status = NtStatus(status);
    if status.is_success() { Ok(()) } else { Err(status) }
}

fn load(driver: *mut DRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> Result<(), NtStatus> {
    let mut config = WDF_DRIVER_CONFIG {
        #[expect(clippy::cast_possible_truncation, reason = "some bytes")]
        Size: size_of::<WDF_DRIVER_CONFIG>() as ULONG,
        EvtDriverDeviceAdd: None,
        EvtDriverUnload: Some(unload),
        DriverInitFlags: _WDF_DRIVER_INIT_FLAGS::WdfDriverInitNonPnpDriver as _,
        DriverPoolTag: TAG,
    };
    let mut handle: WDFDRIVER = ptr::null_mut();
    // SAFETY: the entry point's own arguments; the structures are locals.
    check(unsafe {
        call_unsafe_wdf_function_binding!(
            WdfDriverCreate,
            driver,
            registry_path,
            WDF_NO_OBJECT_ATTRIBUTES,
            &raw mut config,
            &raw mut handle
        )
    })?;
    let client = Client::open(&Interface::open()?)?;
    match echo::serve(&client, port(handle)) {
        Ok(()) => {
            // SAFETY: nobody else has it while the driver is loaded.
            unsafe { *RUNNING.0.get() = Some(client) };
            Ok(())
        }
        Err(status) => {
            // A driver that has failed to load is unloaded at once.
            client.close();
            Err(status)
        }
    }
}

/// EvtDriverUnload: when the client is closed, nothing of this driver runs any more. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn unload(_driver: WDFDRIVER) {
    // SAFETY: `DriverEntry` has returned, and this is called once.
    let client = unsafe { (*RUNNING.0.get()).take() };
    if let Some(client) = client {
        client.close();
    }
}

/// What the registry says, or the default. IRQL = PASSIVE_LEVEL.
fn port(driver: WDFDRIVER) -> u16 {
    query_port(driver).ok().and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT)
}

fn query_port(driver: WDFDRIVER) -> Result<u32, NtStatus> {
    const NAME: [u16; 4] = [b'P' as u16, b'o' as u16, b'r' as u16, b't' as u16];
    let mut key: WDFKEY = ptr::null_mut();
    // SAFETY: the driver object has been made; the key is a local.
    check(unsafe {
        call_unsafe_wdf_function_binding!(
            WdfDriverOpenParametersRegistryKey,
            driver,
            KEY_READ,
            WDF_NO_OBJECT_ATTRIBUTES,
            &raw mut key
        )
    })?;
    let name = UNICODE_STRING { Length: 8, MaximumLength: 8, Buffer: NAME.as_ptr().cast_mut() };
    let mut value: ULONG = 0;
    // SAFETY: the key is open; the name is only read.
    let found = check(unsafe {
        call_unsafe_wdf_function_binding!(WdfRegistryQueryULong, key, &raw const name, &raw mut value)
    });
    // SAFETY: opened above, and not used any more.
    unsafe { call_unsafe_wdf_function_binding!(WdfRegistryClose, key) };
    found.map(|()| value)
}
