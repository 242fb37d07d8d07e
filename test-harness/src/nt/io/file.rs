//! File objects: opened by a name, cleaned up with the last handle, closed with the last reference.
#![allow(unsafe_code)] // reads object names

use std::ptr;
use std::sync::atomic::Ordering;

use super::device::Found;
use super::request::send_and_wait;
use super::{device, driver, file_object, volume};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::machine::IoStatus;
use crate::nt::dispatcher::initialize_header;
use crate::nt::irql::called;
use crate::nt::object::{self, Kind};
use crate::nt::process::Process;
use crate::nt::status::{
    STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES, STATUS_NO_SUCH_DEVICE, STATUS_OBJECT_NAME_NOT_FOUND,
    nt_success,
};
use crate::nt::strings;
use crate::nt::types::{
    ACCESS_MASK, CREATE, DELETE, DISPATCH_LEVEL, DO_DEVICE_INITIALIZING, DO_EXCLUSIVE, EVENT_NOTIFICATION_OBJECT,
    FILE_DEVICE_SECURE_OPEN, FILE_OBJECT, FILE_READ_DATA, FILE_WRITE_DATA, FO_CLEANUP_COMPLETE, FO_HANDLE_CREATED,
    FO_SYNCHRONOUS_IO, HANDLE, IO_SECURITY_CONTEXT, IO_TYPE_FILE, IRP_CLOSE_OPERATION, IRP_CREATE_OPERATION,
    IRP_MJ_CLEANUP, IRP_MJ_CLOSE, IRP_MJ_CREATE, IRP_SYNCHRONOUS_API, KERNEL_MODE, KEVENT, NTSTATUS, PEPROCESS,
    USER_MODE,
};

/// FILE_OPEN, the disposition that CreateFile's OPEN_EXISTING becomes, in the top byte of Create.Options.
const FILE_OPEN: u32 = 1;
/// FILE_NON_DIRECTORY_FILE.
const FILE_NON_DIRECTORY_FILE: u32 = 0x40;
const FILE_SYNCHRONOUS_IO_ALERT: u32 = 0x10;
const FILE_SYNCHRONOUS_IO_NONALERT: u32 = 0x20;
/// FILE_SHARE_READ and FILE_SHARE_WRITE.
const FILE_SHARE_READ_WRITE: u16 = 3;

/// What NtCreateFile is asked for, besides the name.
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    pub(crate) access: ACCESS_MASK,
    /// The create disposition in the top byte, and the create options.
    pub(crate) options: u32,
    pub(crate) attributes: u16,
    pub(crate) share: u16,
    /// Asked for in kernel mode: access is not checked.
    pub(crate) trusted: bool,
    /// An open file that the name is below, or 0.
    pub(crate) related: usize,
}

impl Opening {
    /// What CreateFile with OPEN_EXISTING asks for.
    pub(crate) const fn existing(access: ACCESS_MASK, trusted: bool) -> Self {
        let options = FILE_OPEN << 24 | FILE_NON_DIRECTORY_FILE;
        Self { access, options, attributes: 0, share: FILE_SHARE_READ_WRITE, trusted, related: 0 }
    }
}

/// Opens a device or file by name for a process. A handle in its table.
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
    open_as(kernel, process, path, Opening::existing(access, trusted)).map(|(handle, _)| handle)
}

/// The device that a path leads to, and what follows.
fn find(kernel: &Kernel, path: &str, related: usize) -> Result<Found, NTSTATUS> {
    if related != 0 {
        return Ok(Found { device: object::file(related).DeviceObject.get(), rest: path.to_owned() });
    }
    match volume::name_on(path) {
        Some(rest) => Ok(Found { device: volume::device_of(kernel)?, rest }),
        None => super::device::find(kernel, path).ok_or(STATUS_OBJECT_NAME_NOT_FOUND),
    }
}

/// As [`open`]: the handle, and what Information says of the open.
pub(crate) fn open_as(
    kernel: &Kernel,
    process: &Process,
    path: &str,
    opening: Opening,
) -> Result<(HANDLE, usize), NTSTATUS> {
    let (access, trusted) = (opening.access, opening.trusted);
    let found = find(kernel, path, opening.related)?;
    let target = device(found.device);
    let granted = {
        let state = kernel.io.state.lock();
        let record = state.devices.get(&(found.device as usize)).ok_or(STATUS_OBJECT_NAME_NOT_FOUND)?;
        let going = record.delete_pending
            || !volume::is_device(kernel, found.device)
                && driver::is_unloading(&state, device(super::device::attached(found.device)).DriverObject.get());
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
    let created = create(kernel, &found, granted, opening);
    let (body, information) = created.inspect_err(|_| super::device::release(kernel, found.device))?;
    let handle = object::open(kernel, process, body, granted);
    object::dereference(kernel, body);
    Ok((handle.ok_or(STATUS_INSUFFICIENT_RESOURCES)?, information))
}

/// Makes a file object and asks the driver to open it.
fn create(kernel: &Kernel, found: &Found, granted: ACCESS_MASK, opening: Opening) -> Result<(usize, usize), NTSTATUS> {
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
    if opening.options & (FILE_SYNCHRONOUS_IO_ALERT | FILE_SYNCHRONOUS_IO_NONALERT) != 0 {
        file.Flags.set(FO_SYNCHRONOUS_IO);
    }
    file.DeleteAccess.set(u8::from(granted & DELETE != 0));
    file.RelatedFileObject.set(opening.related as *mut FILE_OBJECT);
    let options = opening.options;
    let mut security = IO_SECURITY_CONTEXT {
        SecurityQos: ptr::null_mut(),
        AccessState: ptr::null_mut(),
        DesiredAccess: granted,
        FullCreateOptions: options,
    };
    let view = CREATE {
        SecurityContext: &raw mut security,
        Options: options,
        FileAttributes: opening.attributes,
        ShareAccess: opening.share,
        EaLength: 0,
    };
    let mode = if opening.trusted { KERNEL_MODE } else { USER_MODE };
    let status =
        send_and_wait(kernel, file, IRP_MJ_CREATE, mode, IRP_CREATE_OPERATION | IRP_SYNCHRONOUS_API, |location| {
            location.Parameters.set_create(view);
        });
    // What it is below has been looked at, and may go.
    file.RelatedFileObject.set(ptr::null_mut());
    match status {
        Ok(IoStatus { status, information }) if nt_success(status) => {
            file.Flags.set(file.Flags.get() | FO_HANDLE_CREATED);
            Ok((body as usize, information))
        }
        Ok(IoStatus { status, .. }) | Err(status) => {
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

/// Nobody opens files on behalf of others here.
pub(crate) extern "win64" fn IoGetInitiatorProcess(_file: &FILE_OBJECT) -> PEPROCESS {
    called("IoGetInitiatorProcess", DISPATCH_LEVEL);
    ptr::null_mut()
}

pub(in crate::nt) const EXPORTS: &[(&str, Export)] = crate::nt::exports![IoGetInitiatorProcess];
