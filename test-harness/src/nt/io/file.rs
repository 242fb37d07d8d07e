//! File objects: opened by a name, cleaned up with the last handle, closed with the last reference.
#![allow(unsafe_code)] // reads object names

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::Ordering;

use super::request::send_and_wait;
use super::{device, driver, file_object};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::nt::dispatcher::initialize_header;
use crate::nt::irql::called;
use crate::nt::object::{self, Kind};
use crate::nt::process::Process;
use crate::nt::status::{
    STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_SUCH_DEVICE, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_SUCCESS, nt_success,
};
use crate::nt::strings;
use crate::nt::types::{
    ACCESS_MASK, CREATE, DISPATCH_LEVEL, DO_DEVICE_INITIALIZING, DO_EXCLUSIVE, EVENT_NOTIFICATION_OBJECT,
    FILE_DEVICE_SECURE_OPEN, FILE_OBJECT, FILE_READ_DATA, FILE_WRITE_DATA, FO_CLEANUP_COMPLETE, FO_HANDLE_CREATED,
    HANDLE, IO_SECURITY_CONTEXT, IO_STATUS_BLOCK, IO_TYPE_FILE, IRP_CLOSE_OPERATION, IRP_CREATE_OPERATION,
    IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_SYNCHRONOUS_API, KERNEL_MODE, KEVENT, NTSTATUS, OBJ_KERNEL_HANDLE,
    OBJECT_ATTRIBUTES, PASSIVE_LEVEL, PEPROCESS, PVOID, USER_MODE,
};
use crate::thread::current;

/// FILE_OPEN, the disposition that CreateFile's OPEN_EXISTING becomes, in the top byte of Create.Options.
const FILE_OPEN: u32 = 1;
/// FILE_NON_DIRECTORY_FILE.
const FILE_NON_DIRECTORY_FILE: u32 = 0x40;
/// FILE_SHARE_READ and FILE_SHARE_WRITE.
const FILE_SHARE_READ_WRITE: u16 = 3;

/// Opens a device by name for a process. A handle in its table.
///
/// # Errors
/// What NtCreateFile returns: no such name, access denied, the device goes, or the driver's own status.
pub(crate) fn open(
    kernel: &Kernel,
    process: &Process,
    path: &str,
    access: ACCESS_MASK,
    trusted: bool,
) -> Result<HANDLE, NTSTATUS> {
    let found = super::device::find(kernel, path).ok_or(STATUS_OBJECT_NAME_NOT_FOUND)?;
    let target = device(found.device);
    let granted = {
        let state = kernel.io.state.lock();
        let record = state.devices.get(&(found.device as usize)).ok_or(STATUS_OBJECT_NAME_NOT_FOUND)?;
        let going = record.delete_pending
            || driver::is_unloading(&state, device(super::device::attached(found.device)).DriverObject.get());
        if going || target.Flags.get() & DO_DEVICE_INITIALIZING != 0 {
            return Err(STATUS_NO_SUCH_DEVICE);
        }
        // Names below the device are the driver's to guard, unless it wants them guarded like the device itself.
        let guarded = found.rest.is_empty() || target.Characteristics.get() & FILE_DEVICE_SECURE_OPEN != 0;
        let granted = if trusted || !guarded {
            super::security::map_generic(access)
        } else {
            record.security.grant(access, process.kind).ok_or(STATUS_ACCESS_DENIED)?
        };
        if target.Flags.get() & DO_EXCLUSIVE != 0 && target.ReferenceCount.load(Ordering::Acquire) != 0 {
            return Err(STATUS_ACCESS_DENIED);
        }
        target.ReferenceCount.fetch_add(1, Ordering::AcqRel);
        granted
    };
    let created = create(kernel, &found, granted, trusted);
    let body = created.inspect_err(|_| super::device::release(kernel, found.device))?;
    let handle = object::open(kernel, process, body, granted);
    object::dereference(kernel, body);
    handle.ok_or(STATUS_INSUFFICIENT_RESOURCES)
}

/// Makes a file object and asks the driver to open it.
fn create(
    kernel: &Kernel,
    found: &super::device::Found,
    granted: ACCESS_MASK,
    trusted: bool,
) -> Result<usize, NTSTATUS> {
    let body = object::create(kernel, Kind::File, size_of::<FILE_OBJECT>()).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    let file = file_object(body.cast());
    file.Type.set(IO_TYPE_FILE);
    file.Size.set(const { size_of::<FILE_OBJECT>() as i16 });
    file.DeviceObject.set(found.device);
    file.ReadAccess.set(u8::from(granted & FILE_READ_DATA != 0));
    file.WriteAccess.set(u8::from(granted & FILE_WRITE_DATA != 0));
    for event in [&file.Lock, &file.Event] {
        initialize_header(&event.Header, EVENT_NOTIFICATION_OBJECT, size_of::<KEVENT>(), 0);
    }
    if !found.rest.is_empty() {
        strings::allocate(kernel, &found.rest, &file.FileName);
    }
    let options = FILE_OPEN << 24 | FILE_NON_DIRECTORY_FILE;
    let mut security = IO_SECURITY_CONTEXT {
        SecurityQos: ptr::null_mut(),
        AccessState: ptr::null_mut(),
        DesiredAccess: granted,
        FullCreateOptions: options,
    };
    let view = CREATE {
        SecurityContext: &raw mut security,
        Options: options,
        FileAttributes: 0,
        ShareAccess: FILE_SHARE_READ_WRITE,
        EaLength: 0,
    };
    let mode = if trusted { KERNEL_MODE } else { USER_MODE };
    let status =
        send_and_wait(kernel, file, IRP_MJ_CREATE, mode, IRP_CREATE_OPERATION | IRP_SYNCHRONOUS_API, |location| {
            location.Parameters.set_create(view);
        });
    match status {
        Ok(status) if nt_success(status) => {
            file.Flags.set(file.Flags.get() | FO_HANDLE_CREATED);
            Ok(body as usize)
        }
        Ok(status) | Err(status) => {
            // An open that failed is neither cleaned up nor closed.
            strings::free(kernel, &file.FileName);
            object::discard(kernel, body as usize);
            Err(status)
        }
    }
}

/// The last handle has been closed: IRP_MJ_CLEANUP.
pub(crate) fn cleanup(kernel: &Kernel, body: usize) {
    let file = object::file(body);
    if file.Flags.get() & FO_HANDLE_CREATED == 0 {
        return;
    }
    // Its status is of no interest to anyone: the handle is gone.
    let _ = send_and_wait(kernel, file, IRP_MJ_CLEANUP, KERNEL_MODE, IRP_CLOSE_OPERATION | IRP_SYNCHRONOUS_API, |_| {});
    file.Flags.set(file.Flags.get() | FO_CLEANUP_COMPLETE);
}

/// The last reference has gone: IRP_MJ_CLOSE, and the end of the file object.
pub(crate) fn close(kernel: &Kernel, body: usize) {
    let file = object::file(body);
    // As for the cleanup, nobody is left to hear of a failure.
    let _ = send_and_wait(kernel, file, IRP_MJ_CLOSE, KERNEL_MODE, IRP_CLOSE_OPERATION | IRP_SYNCHRONOUS_API, |_| {});
    let target = file.DeviceObject.get();
    strings::free(kernel, &file.FileName);
    object::free_file(kernel, body);
    super::device::release(kernel, target);
}

/// Opens a device for a driver, which may open all; there are no file systems.
fn open_for_driver(
    handle: &Cell<HANDLE>,
    access: ACCESS_MASK,
    attributes: &OBJECT_ATTRIBUTES,
    status: &IO_STATUS_BLOCK,
) -> NTSTATUS {
    /// FILE_OPENED.
    const OPENED: usize = 1;
    let current = current();
    let kernel = &current.kernel;
    if attributes.RootDirectory != 0 {
        return STATUS_OBJECT_PATH_SYNTAX_BAD;
    }
    if kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: OBJECT_ATTRIBUTES name a UNICODE_STRING; a bad one faults, which the guard reports.
    let name = unsafe { attributes.ObjectName.as_ref() }.map(strings::text).unwrap_or_default();
    let in_kernel = attributes.Attributes & OBJ_KERNEL_HANDLE != 0;
    let process = if in_kernel { kernel.processes.system(kernel) } else { current.thread.process.clone() };
    let opened = open(kernel, &process, &name, access, true);
    let result = opened.map(|opened| {
        handle.set(if in_kernel { object::as_kernel_handle(opened) } else { opened });
        status.Information.set(OPENED);
    });
    let result = result.err().unwrap_or(STATUS_SUCCESS);
    status.Status.set(result);
    result
}

pub(crate) extern "win64" fn ZwCreateFile(
    handle: &Cell<HANDLE>,
    access: ACCESS_MASK,
    attributes: &OBJECT_ATTRIBUTES,
    status: &IO_STATUS_BLOCK,
    _allocation: PVOID,
    _file_attributes: u32,
    _share: u32,
    _disposition: u32,
    _options: u32,
    _extended: PVOID,
    _extended_length: u32,
) -> NTSTATUS {
    called("ZwCreateFile", PASSIVE_LEVEL);
    open_for_driver(handle, access, attributes, status)
}

pub(crate) extern "win64" fn ZwOpenFile(
    handle: &Cell<HANDLE>,
    access: ACCESS_MASK,
    attributes: &OBJECT_ATTRIBUTES,
    status: &IO_STATUS_BLOCK,
    _share: u32,
    _options: u32,
) -> NTSTATUS {
    called("ZwOpenFile", PASSIVE_LEVEL);
    open_for_driver(handle, access, attributes, status)
}

/// Nobody opens files on behalf of others here.
pub(crate) extern "win64" fn IoGetInitiatorProcess(_file: &FILE_OBJECT) -> PEPROCESS {
    called("IoGetInitiatorProcess", DISPATCH_LEVEL);
    ptr::null_mut()
}

pub(in crate::nt) const EXPORTS: &[(&str, Export)] =
    crate::nt::exports![ZwCreateFile, ZwOpenFile, IoGetInitiatorProcess];
