//! The control device `\Device\SanWsk`: who may open it, and where its requests go.
#![allow(unsafe_code, reason = "makes framework objects")]

use crate::caller;
use crate::file::{self, FileContext};
use crate::ioctl;
use crate::kernel;
use crate::operation::Operation;
use crate::parameters::{self, unicode_string, utf16};
use crate::wdf::{self, Context, Request};
use core::ptr;
use san_protocol::NtStatus;
use san_protocol::control::FILE_DEVICE_SANWSK;
use wdk_sys::{
    _WDF_EXECUTION_LEVEL, _WDF_FILEOBJECT_CLASS, _WDF_IO_QUEUE_DISPATCH_TYPE, _WDF_SYNCHRONIZATION_SCOPE,
    _WDF_TRI_STATE, FILE_DEVICE_SECURE_OPEN, PWDFDEVICE_INIT, ULONG, WDF_FILEOBJECT_CONFIG, WDF_IO_QUEUE_CONFIG,
    WDF_NO_HANDLE, WDFDEVICE, WDFDRIVER, WDFQUEUE, WDFREQUEST, call_unsafe_wdf_function_binding,
};

/// SYSTEM and administrators: everything.
const ADMINISTRATORS: &[u16] = utf16!("D:P(A;;GA;;;SY)(A;;GA;;;BA)");
/// And interactive users: read and write.
const ADMINISTRATORS_AND_USERS: &[u16] = utf16!("D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GRGW;;;IU)");

/// A `WDFDEVICE_INIT` that is freed unless the device takes it.
struct DeviceInit(PWDFDEVICE_INIT);

impl Drop for DeviceInit {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: allocated by the framework, and no device has been made of it.
            unsafe { call_unsafe_wdf_function_binding!(WdfDeviceInitFree, self.0) };
        }
    }
}

/// Makes the device, which answers no request until [`finish_initializing`]. IRQL = PASSIVE_LEVEL; from DriverEntry.
pub(crate) fn create(driver: WDFDRIVER) -> Result<WDFDEVICE, NtStatus> {
    let sddl = if parameters::get().allow_users { ADMINISTRATORS_AND_USERS } else { ADMINISTRATORS };
    let sddl = unicode_string(sddl);
    // SAFETY: the driver object has been made; the string is read during the call.
    let init = unsafe { call_unsafe_wdf_function_binding!(WdfControlDeviceInitAllocate, driver, &raw const sddl) };
    if init.is_null() {
        return Err(NtStatus::INSUFFICIENT_RESOURCES);
    }
    let mut init = DeviceInit(init);
    let name = unicode_string(utf16!(r"\Device\SanWsk"));
    // SAFETY: `init` is not a device yet; the framework copies the name.
    wdf::check(unsafe { call_unsafe_wdf_function_binding!(WdfDeviceInitAssignName, init.0, &raw const name) })?;
    // SAFETY: as above.
    unsafe { call_unsafe_wdf_function_binding!(WdfDeviceInitSetDeviceType, init.0, FILE_DEVICE_SANWSK) };
    // SAFETY: as above; 1: besides the characteristics that are set.
    unsafe { call_unsafe_wdf_function_binding!(WdfDeviceInitSetCharacteristics, init.0, FILE_DEVICE_SECURE_OPEN, 1) };
    set_file_objects(&init);
    // SAFETY: as above.
    unsafe {
        call_unsafe_wdf_function_binding!(
            WdfDeviceInitSetIoInCallerContextCallback,
            init.0,
            Some(caller::in_caller_context)
        );
    };
    let mut requests = wdf::object_attributes();
    requests.ContextTypeInfo = Operation::type_info();
    // SAFETY: as above; the framework copies the attributes.
    unsafe { call_unsafe_wdf_function_binding!(WdfDeviceInitSetRequestAttributes, init.0, &raw mut requests) };

    let mut attributes = wdf::object_attributes();
    attributes.ExecutionLevel = _WDF_EXECUTION_LEVEL::WdfExecutionLevelPassive;
    attributes.SynchronizationScope = _WDF_SYNCHRONIZATION_SCOPE::WdfSynchronizationScopeNone;
    let mut device: WDFDEVICE = ptr::null_mut();
    // SAFETY: as above; on success the framework takes `init` and sets the pointer to null.
    wdf::check(unsafe {
        call_unsafe_wdf_function_binding!(WdfDeviceCreate, &raw mut init.0, &raw mut attributes, &raw mut device)
    })?;
    let link = unicode_string(utf16!(r"\DosDevices\SanWsk"));
    // SAFETY: the device has been made; the string is read during the call.
    wdf::check(unsafe { call_unsafe_wdf_function_binding!(WdfDeviceCreateSymbolicLink, device, &raw const link) })?;
    create_queue(device)?;
    Ok(device)
}

fn set_file_objects(init: &DeviceInit) {
    let mut config = WDF_FILEOBJECT_CONFIG {
        Size: wdf::size::<WDF_FILEOBJECT_CONFIG>(),
        EvtDeviceFileCreate: Some(file::create),
        EvtFileClose: None,
        EvtFileCleanup: Some(file::cleanup),
        AutoForwardCleanupClose: _WDF_TRI_STATE::WdfUseDefault,
        FileObjectClass: _WDF_FILEOBJECT_CLASS::WdfFileObjectWdfCanUseFsContext,
    };
    let mut attributes = wdf::object_attributes();
    attributes.ContextTypeInfo = FileContext::type_info();
    attributes.EvtDestroyCallback = Some(file::destroy);
    // SAFETY: `init` is not a device yet; the framework copies both structures.
    unsafe {
        call_unsafe_wdf_function_binding!(
            WdfDeviceInitSetFileObjectConfig,
            init.0,
            &raw mut config,
            &raw mut attributes
        );
    };
}

/// One queue that hands every request over at once: endpoints order their own operations.
fn create_queue(device: WDFDEVICE) -> Result<(), NtStatus> {
    let mut config = WDF_IO_QUEUE_CONFIG {
        Size: wdf::size::<WDF_IO_QUEUE_CONFIG>(),
        DispatchType: _WDF_IO_QUEUE_DISPATCH_TYPE::WdfIoQueueDispatchParallel,
        PowerManaged: _WDF_TRI_STATE::WdfFalse,
        DefaultQueue: 1,
        EvtIoDeviceControl: Some(evt_io_device_control),
        EvtIoInternalDeviceControl: Some(evt_io_internal_device_control),
        ..WDF_IO_QUEUE_CONFIG::default()
    };
    config.Settings.Parallel.NumberOfPresentedRequests = ULONG::MAX;
    let mut attributes = wdf::object_attributes();
    // SAFETY: the device has been made; the structures are locals, and the queue's handle is not wanted.
    wdf::check(unsafe {
        call_unsafe_wdf_function_binding!(
            WdfIoQueueCreate,
            device,
            &raw mut config,
            &raw mut attributes,
            WDF_NO_HANDLE.cast()
        )
    })
}

/// From now on the device can be opened. IRQL = PASSIVE_LEVEL; from DriverEntry.
pub(crate) fn finish_initializing(device: WDFDEVICE) {
    // SAFETY: the device has been made.
    unsafe { call_unsafe_wdf_function_binding!(WdfControlFinishInitializing, device) };
}

/// EvtIoDeviceControl. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn evt_io_device_control(
    _queue: WDFQUEUE,
    request: WDFREQUEST,
    output_length: usize,
    _input_length: usize,
    code: ULONG,
) {
    // SAFETY: the framework hands the request over with this call.
    ioctl::handle(unsafe { Request::new(request) }, code, output_length);
}

/// EvtIoInternalDeviceControl. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn evt_io_internal_device_control(
    _queue: WDFQUEUE,
    request: WDFREQUEST,
    _output_length: usize,
    _input_length: usize,
    code: ULONG,
) {
    // SAFETY: the framework hands the request over with this call.
    let request = unsafe { Request::new(request) };
    match kernel::get_interface(request, code) {
        Ok(length) => request.complete(NtStatus::SUCCESS, length),
        Err(status) => request.complete(status, 0),
    }
}
