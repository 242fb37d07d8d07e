//! `sanwsk.sys`: a KMDF driver that is a Winsock Kernel client.
#![no_std]
#![allow(unsafe_code)]

#[cfg(not(test))]
extern crate wdk_panic;

use core::ptr;
use wdk_alloc::WdkAllocator;
use wdk_sys::{
    DRIVER_OBJECT, NTSTATUS, PCUNICODE_STRING, WDF_DRIVER_CONFIG, WDF_NO_HANDLE, WDF_NO_OBJECT_ATTRIBUTES, WDFDRIVER,
    call_unsafe_wdf_function_binding,
};

#[global_allocator]
static ALLOCATOR: WdkAllocator = WdkAllocator;

/// Placeholder entry while the real one is being written: creates the framework driver object and no device.
///
/// # Safety
///
/// Called by the framework's entry stub with the driver object and registry path of this driver.
#[unsafe(export_name = "DriverEntry")]
pub unsafe extern "system" fn driver_entry(driver: &mut DRIVER_OBJECT, registry_path: PCUNICODE_STRING) -> NTSTATUS {
    let mut config = WDF_DRIVER_CONFIG {
        Size: size_of::<WDF_DRIVER_CONFIG>() as u32,
        DriverInitFlags: 1,
        ..WDF_DRIVER_CONFIG::default()
    };
    // SAFETY: the arguments are this driver's own, as the entry stub passed them.
    unsafe {
        call_unsafe_wdf_function_binding!(
            WdfDriverCreate,
            ptr::from_mut(driver),
            registry_path,
            WDF_NO_OBJECT_ATTRIBUTES,
            &mut config,
            WDF_NO_HANDLE.cast::<WDFDRIVER>()
        )
    }
}
