//! The table of functions, and how a driver gets it.
#![allow(unsafe_code, reason = "reads and writes a kernel caller's buffers, and counts references to a file object")]

use super::call::Memory;
use super::functions;
use crate::wdf::Request;
use core::ffi::c_void;
use core::ptr::NonNull;
use san_protocol::NtStatus;
use san_protocol::kernel::{
    GetInterface, INTERFACE_VERSION, IOCTL_INTERNAL_SANWSK_GET_INTERFACE, Interface, InterfaceVersions,
    OLDEST_INTERFACE_VERSION, interface_size,
};
use wdk_sys::_MODE::KernelMode;
use wdk_sys::ntddk::{ObDereferenceObjectDeferDelete, ObfReferenceObject};

/// A reference to a file object of the device. As long as there is one the device is open, and the driver is not unloaded.
pub(crate) struct DeviceUse(NonNull<c_void>);

// SAFETY: a file object may be referenced and dereferenced from any thread.
unsafe impl Send for DeviceUse {}
// SAFETY: as above; nothing else is done with it.
unsafe impl Sync for DeviceUse {}

impl DeviceUse {
    /// A further reference. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// `file` is a file object of the device, and alive during the call.
    pub(super) unsafe fn of(file: NonNull<c_void>) -> Self {
        // SAFETY: by this function's contract.
        unsafe { ObfReferenceObject(file.as_ptr()) };
        Self(file)
    }
}

impl Drop for DeviceUse {
    fn drop(&mut self) {
        // Its end, if this is it, comes on a worker: not here, perhaps at DISPATCH_LEVEL, with this image still to return through.
        // SAFETY: gives back the one reference that this value stands for.
        unsafe { ObDereferenceObjectDeferDelete(self.0.as_ptr()) };
    }
}

/// InterfaceReference. IRQL <= DISPATCH_LEVEL.
unsafe extern "C" fn reference(context: *mut c_void) {
    if let Some(file) = NonNull::new(context) {
        // SAFETY: the caller has a reference of its own.
        core::mem::forget(unsafe { DeviceUse::of(file) });
    }
}

/// InterfaceDereference. IRQL <= DISPATCH_LEVEL.
unsafe extern "C" fn dereference(context: *mut c_void) {
    if let Some(file) = NonNull::new(context) {
        drop(DeviceUse(file));
    }
}

/// An internal device control: hands out the table, with a reference. IRQL = PASSIVE_LEVEL.
///
/// `STATUS_INVALID_DEVICE_REQUEST`: it is another one, or not from the kernel. `STATUS_REVISION_MISMATCH`: the versions offered are in
/// the output. `STATUS_BUFFER_TOO_SMALL`: a buffer is shorter than it says, or than that version.
pub(crate) fn get_interface(request: Request, code: u32) -> Result<usize, NtStatus> {
    if code != IOCTL_INTERNAL_SANWSK_GET_INTERFACE || i32::from(request.requestor_mode()) != KernelMode {
        return Err(NtStatus::INVALID_DEVICE_REQUEST);
    }
    let buffers = request.neither_buffers();
    // SAFETY: the kernel's own buffers, with their lengths.
    let asked = unsafe { buffers.read_input::<GetInterface>() }.ok_or(NtStatus::BUFFER_TOO_SMALL)?;
    let Some(size) = interface_size(asked.version) else {
        let versions = InterfaceVersions { oldest: OLDEST_INTERFACE_VERSION.into(), newest: INTERFACE_VERSION.into() };
        // SAFETY: as above.
        unsafe { buffers.write_output(&versions, size_of_val(&versions)) };
        return Err(NtStatus::REVISION_MISMATCH);
    };
    if (asked.size as usize) < size {
        return Err(NtStatus::BUFFER_TOO_SMALL);
    }
    let file = NonNull::new(request.wdm_file_object()).ok_or(NtStatus::INVALID_DEVICE_REQUEST)?;
    // SAFETY: the request keeps its file object.
    let device = unsafe { DeviceUse::of(file) };
    // SAFETY: as above.
    if !unsafe { buffers.write_output(&table(asked.version, size, file.as_ptr()), size) } {
        return Err(NtStatus::BUFFER_TOO_SMALL);
    }
    // The caller's, until it calls InterfaceDereference.
    core::mem::forget(device);
    Ok(size)
}

/// The newest table, of which a client gets the first `size` bytes: those of its own version.
const fn table(version: u32, size: usize, context: *mut c_void) -> Interface {
    const {
        assert!(size_of::<Interface>() <= u16::MAX as usize);
        // Pool is aligned so.
        assert!(align_of::<Memory>() <= 16);
    };
    #[expect(clippy::cast_possible_truncation, reason = "small numbers, asserted above, and some kilobytes")]
    let (size, version, operation_size) = (size as u16, version as u16, size_of::<Memory>() as u32);
    Interface {
        size,
        version,
        context,
        interface_reference: reference,
        interface_dereference: dereference,
        operation_size,
        reserved: 0,
        open_client: functions::open_client,
        close_client: functions::close_client,
        initialize_operation: functions::initialize_operation,
        initialize_irp_operation: functions::initialize_irp_operation,
        cancel_operation: functions::cancel_operation,
        create: functions::create,
        set_option: functions::set_option,
        bind: functions::bind,
        connect: functions::connect,
        listen: functions::listen,
        accept: functions::accept,
        decide: functions::decide,
        negotiate: functions::negotiate,
        register_memory: functions::register_memory,
        deregister_memory: functions::deregister_memory,
        query_memory: functions::query_memory,
        send: functions::send,
        send_registered: functions::send_registered,
        receive: functions::receive,
        receive_registered: functions::receive_registered,
        disconnect: functions::disconnect,
        close: functions::close,
        query_addresses: functions::query_addresses,
        query_statistics: functions::query_statistics,
    }
}
