//! What drivers do with files by handles: ZwCreateFile, ZwReadFile, and their like. Files are devices', or on the volume.
//!
//! Previous mode is kernel mode: neither access nor buffers are checked, and a bad buffer faults.
#![allow(unsafe_code)] // reads the caller's structures

use std::cell::Cell;
use std::ptr;

use super::device;
use super::file::{self, Opening};
use super::request::{Buffer, serve, set_up_control, set_up_transfer, system_buffer};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::nt::dispatcher::KeWaitForSingleObject;
use crate::nt::irql::called;
use crate::nt::mdl::Access;
use crate::nt::object::{self, HandleEntry, Kind, reference_by_handle};
use crate::nt::status::{
    STATUS_INFO_LENGTH_MISMATCH, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER,
    STATUS_OBJECT_NAME_INVALID, STATUS_OBJECT_PATH_SYNTAX_BAD, STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
};
use crate::nt::strings::text;
use crate::nt::types::{
    ACCESS_MASK, DELETE, DISPATCHER_HEADER, FILE_APPEND_DATA, FILE_OBJECT, FILE_WRITE_DATA, FO_SYNCHRONOUS_IO, HANDLE,
    IO_STATUS_BLOCK, IRP_BUFFERED_IO, IRP_INPUT_OPERATION, IRP_MJ_DEVICE_CONTROL, IRP_MJ_DIRECTORY_CONTROL,
    IRP_MJ_FLUSH_BUFFERS, IRP_MJ_QUERY_INFORMATION, IRP_MJ_READ, IRP_MJ_SET_INFORMATION, IRP_MJ_WRITE,
    IRP_MN_QUERY_DIRECTORY, KERNEL_MODE, METHOD_NEITHER, NTSTATUS, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, PASSIVE_LEVEL,
    PVOID, READ_WRITE, SL_RESTART_SCAN, SL_RETURN_SINGLE_ENTRY,
};
use crate::thread::{current, kernel};

/// FILE_OPEN, and FILE_DELETE_ON_CLOSE.
const FILE_OPEN: u32 = 1;
const FILE_DELETE_ON_CLOSE: u32 = 0x1000;
/// How far create dispositions go: FILE_OVERWRITE_IF.
const LAST_DISPOSITION: u32 = 5;
const VALID_OPTIONS: u32 = 0x00ff_ffff;

/// Opens what the attributes name.
fn create(
    attributes: &OBJECT_ATTRIBUTES,
    access: ACCESS_MASK,
    options: u32,
    file_attributes: u32,
    share: u32,
) -> Result<(HANDLE, usize), NTSTATUS> {
    let kernel = kernel();
    // SAFETY: OBJECT_ATTRIBUTES name a UNICODE_STRING; a bad one faults, which the guard reports.
    let path = unsafe { attributes.ObjectName.as_ref() }.map(text).ok_or(STATUS_OBJECT_NAME_INVALID)?;
    let related = match attributes.RootDirectory {
        0 if path.starts_with('\\') => 0,
        0 => return Err(STATUS_OBJECT_PATH_SYNTAX_BAD),
        root => reference_file(kernel, root)?.body,
    };
    let opening = Opening {
        access,
        options,
        attributes: u16::try_from(file_attributes & 0xffff).unwrap_or(0),
        share: u16::try_from(share & 7).unwrap_or(0),
        trusted: true,
        related,
    };
    let opened = if kernel.faults.allocation_fails() {
        Err(STATUS_INSUFFICIENT_RESOURCES)
    } else if attributes.Attributes & OBJ_KERNEL_HANDLE != 0 {
        let opened = file::open_as(kernel, &kernel.processes.system(kernel), &path, opening);
        opened.map(|(handle, information)| (object::as_kernel_handle(handle), information))
    } else {
        file::open_as(kernel, &current().thread.process, &path, opening)
    };
    if related != 0 {
        object::dereference(kernel, related);
    }
    opened
}

fn create_into(handle: &Cell<HANDLE>, status: &IO_STATUS_BLOCK, opened: Result<(HANDLE, usize), NTSTATUS>) -> NTSTATUS {
    match opened {
        Ok((opened, information)) => {
            handle.set(opened);
            status.Status.set(STATUS_SUCCESS);
            status.Information.set(information);
            STATUS_SUCCESS
        }
        Err(failed) => failed,
    }
}

/// The options as IRP_MJ_CREATE carries them.
fn full_options(disposition: u32, options: u32) -> Result<u32, NTSTATUS> {
    if disposition > LAST_DISPOSITION || options & !VALID_OPTIONS != 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    Ok(disposition << 24 | options)
}

pub(crate) extern "win64" fn ZwCreateFile(
    handle: &Cell<HANDLE>,
    access: ACCESS_MASK,
    attributes: &OBJECT_ATTRIBUTES,
    status: &IO_STATUS_BLOCK,
    _allocation: *const i64,
    file_attributes: u32,
    share: u32,
    disposition: u32,
    options: u32,
    _extended_attributes: PVOID,
    _extended_length: u32,
) -> NTSTATUS {
    called("ZwCreateFile", PASSIVE_LEVEL);
    let opened = full_options(disposition, options)
        .and_then(|options| create(attributes, access, options, file_attributes, share));
    create_into(handle, status, opened)
}

/// As ZwCreateFile, for a caller that says which kind of file it creates: CreateFileTypeNone is the one there is.
pub(crate) extern "win64" fn IoCreateFile(
    handle: &Cell<HANDLE>,
    access: ACCESS_MASK,
    attributes: &OBJECT_ATTRIBUTES,
    status: &IO_STATUS_BLOCK,
    _allocation: *const i64,
    file_attributes: u32,
    share: u32,
    disposition: u32,
    options: u32,
    _extended_attributes: PVOID,
    _extended_length: u32,
    kind: u32,
    _extra: PVOID,
    _io_options: u32,
) -> NTSTATUS {
    called("IoCreateFile", PASSIVE_LEVEL);
    if kind != 0 {
        return STATUS_INVALID_PARAMETER;
    }
    let opened = full_options(disposition, options)
        .and_then(|options| create(attributes, access, options, file_attributes, share));
    create_into(handle, status, opened)
}

pub(crate) extern "win64" fn ZwOpenFile(
    handle: &Cell<HANDLE>,
    access: ACCESS_MASK,
    attributes: &OBJECT_ATTRIBUTES,
    status: &IO_STATUS_BLOCK,
    share: u32,
    options: u32,
) -> NTSTATUS {
    called("ZwOpenFile", PASSIVE_LEVEL);
    let opened = full_options(FILE_OPEN, options).and_then(|options| create(attributes, access, options, 0, share));
    create_into(handle, status, opened)
}

pub(crate) extern "win64" fn ZwDeleteFile(attributes: &OBJECT_ATTRIBUTES) -> NTSTATUS {
    called("ZwDeleteFile", PASSIVE_LEVEL);
    /// FILE_SHARE_READ, FILE_SHARE_WRITE and FILE_SHARE_DELETE.
    const ALL: u32 = 7;
    let opened = create(attributes, DELETE, FILE_OPEN << 24 | FILE_DELETE_ON_CLOSE, 0, ALL);
    match opened {
        Ok((handle, _)) => object::ZwClose(handle),
        Err(status) => status,
    }
}

/// The object of a handle of that type, with a reference.
fn reference(kernel: &Kernel, handle: HANDLE, kind: Kind) -> Result<HandleEntry, NTSTATUS> {
    let entry = reference_by_handle(kernel, handle).ok_or(STATUS_INVALID_HANDLE)?;
    if entry.kind == kind {
        return Ok(entry);
    }
    object::dereference(kernel, entry.body);
    Err(STATUS_OBJECT_TYPE_MISMATCH)
}

fn reference_file(kernel: &Kernel, handle: HANDLE) -> Result<HandleEntry, NTSTATUS> {
    reference(kernel, handle, Kind::File)
}

/// Does something with the file of a handle, which may be closed meanwhile, and an event, which is 0 or has a reference.
fn with_file(
    handle: HANDLE,
    event: HANDLE,
    body: impl FnOnce(HandleEntry, usize) -> Result<NTSTATUS, NTSTATUS>,
) -> NTSTATUS {
    let kernel = kernel();
    let entry = match reference_file(kernel, handle) {
        Ok(entry) => entry,
        Err(status) => return status,
    };
    let event = if event == 0 { Ok(0) } else { reference(kernel, event, Kind::Event).map(|event| event.body) };
    let outcome = event.and_then(|event| {
        if event != 0 {
            object::event(event).Header.SignalState.store(0, std::sync::atomic::Ordering::Release);
        }
        let outcome = body(entry, event);
        if outcome.is_err() && event != 0 {
            // There was no packet that would give it back.
            object::dereference(kernel, event);
        }
        outcome
    });
    object::dereference(kernel, entry.body);
    outcome.unwrap_or_else(|status| status)
}

/// Where a read or write begins.
fn position(file: &FILE_OBJECT, offset: Option<&i64>) -> Result<i64, NTSTATUS> {
    /// FILE_USE_FILE_POINTER_POSITION with -1 above it.
    const CURRENT: i64 = -2;
    let synchronous = file.Flags.get() & FO_SYNCHRONOUS_IO != 0;
    match offset.copied() {
        None | Some(CURRENT) if synchronous => Ok(file.CurrentByteOffset.get()),
        None => Err(STATUS_INVALID_PARAMETER),
        Some(offset) => Ok(offset),
    }
}

fn transfer(
    handle: HANDLE,
    event: HANDLE,
    status: &IO_STATUS_BLOCK,
    buffer: Buffer,
    offset: Option<&i64>,
    key: Option<&u32>,
    access: Access,
) -> NTSTATUS {
    with_file(handle, event, |entry, event| {
        let file = object::file(entry.body);
        let target = device::attached(file.DeviceObject.get());
        let appends = access == Access::Read && entry.access & (FILE_WRITE_DATA | FILE_APPEND_DATA) == FILE_APPEND_DATA;
        // Whoever may only append writes at the end.
        let offset = if appends { -1 } else { position(file, offset)? };
        serve(kernel(), entry.body, Some(buffer.length as usize), status, event, |irp| {
            let major = if access == Access::Write { IRP_MJ_READ } else { IRP_MJ_WRITE };
            irp.next().MajorFunction.set(major);
            let key = key.copied().unwrap_or(0);
            irp.next().Parameters.set_read_write(READ_WRITE { Length: buffer.length, Key: key, ByteOffset: offset });
            set_up_transfer(kernel(), irp, target, access, buffer)
        })
    })
}

pub(crate) extern "win64" fn ZwReadFile(
    handle: HANDLE,
    event: HANDLE,
    _apc: usize,
    _apc_context: PVOID,
    status: &IO_STATUS_BLOCK,
    buffer: PVOID,
    length: u32,
    offset: Option<&i64>,
    key: Option<&u32>,
) -> NTSTATUS {
    called("ZwReadFile", PASSIVE_LEVEL);
    transfer(handle, event, status, Buffer { address: buffer as usize, length }, offset, key, Access::Write)
}

pub(crate) extern "win64" fn ZwWriteFile(
    handle: HANDLE,
    event: HANDLE,
    _apc: usize,
    _apc_context: PVOID,
    status: &IO_STATUS_BLOCK,
    buffer: PVOID,
    length: u32,
    offset: Option<&i64>,
    key: Option<&u32>,
) -> NTSTATUS {
    called("ZwWriteFile", PASSIVE_LEVEL);
    transfer(handle, event, status, Buffer { address: buffer as usize, length }, offset, key, Access::Read)
}

pub(crate) extern "win64" fn ZwDeviceIoControlFile(
    handle: HANDLE,
    event: HANDLE,
    _apc: usize,
    _apc_context: PVOID,
    status: &IO_STATUS_BLOCK,
    code: u32,
    input: PVOID,
    input_length: u32,
    output: PVOID,
    output_length: u32,
) -> NTSTATUS {
    called("ZwDeviceIoControlFile", PASSIVE_LEVEL);
    let input = Buffer { address: input as usize, length: input_length };
    let output = Buffer { address: output as usize, length: output_length };
    let counted = (code & 3 != METHOD_NEITHER).then_some(output_length as usize);
    with_file(handle, event, |entry, event| {
        serve(kernel(), entry.body, counted, status, event, |irp| {
            irp.next().MajorFunction.set(IRP_MJ_DEVICE_CONTROL);
            set_up_control(kernel(), irp, code, input, output, KERNEL_MODE)
        })
    })
}

pub(crate) extern "win64" fn ZwFlushBuffersFile(handle: HANDLE, status: &IO_STATUS_BLOCK) -> NTSTATUS {
    called("ZwFlushBuffersFile", PASSIVE_LEVEL);
    with_file(handle, 0, |entry, event| {
        serve(kernel(), entry.body, None, status, event, |irp| {
            irp.next().MajorFunction.set(IRP_MJ_FLUSH_BUFFERS);
            Ok(())
        })
    })
}

/// FILE_INFORMATION_CLASS, what the I/O manager knows itself.
const ACCESS: u32 = 8;
const POSITION: u32 = 14;
const MODE: u32 = 16;
const ALIGNMENT: u32 = 17;
const FILE_SYNCHRONOUS_IO_NONALERT: u32 = 0x20;

/// The caller's buffer gets a structure that the I/O manager fills.
fn tell(status: &IO_STATUS_BLOCK, buffer: PVOID, length: u32, all: &[u8]) -> NTSTATUS {
    if (length as usize) < all.len() {
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    // SAFETY: the caller gives `length` bytes; a bad buffer faults, which the guard reports.
    unsafe { ptr::copy(all.as_ptr(), buffer.cast::<u8>(), all.len()) };
    status.Status.set(STATUS_SUCCESS);
    status.Information.set(all.len());
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn ZwQueryInformationFile(
    handle: HANDLE,
    status: &IO_STATUS_BLOCK,
    buffer: PVOID,
    length: u32,
    class: u32,
) -> NTSTATUS {
    called("ZwQueryInformationFile", PASSIVE_LEVEL);
    with_file(handle, 0, |entry, event| {
        let file = object::file(entry.body);
        let synchronous = file.Flags.get() & FO_SYNCHRONOUS_IO != 0;
        match class {
            POSITION => Ok(tell(status, buffer, length, &file.CurrentByteOffset.get().to_le_bytes())),
            ACCESS => Ok(tell(status, buffer, length, &entry.access.to_le_bytes())),
            MODE => {
                let mode = if synchronous { FILE_SYNCHRONOUS_IO_NONALERT } else { 0 };
                Ok(tell(status, buffer, length, &mode.to_le_bytes()))
            }
            ALIGNMENT => Ok(tell(status, buffer, length, &0_u32.to_le_bytes())),
            _ => serve(kernel(), entry.body, Some(length as usize), status, event, |irp| {
                irp.next().MajorFunction.set(IRP_MJ_QUERY_INFORMATION);
                irp.next().Parameters.Argument[0].set(length as usize);
                irp.next().Parameters.Argument[1].set(class as usize);
                irp.UserBuffer.set(buffer);
                system_buffer(kernel(), irp, Buffer { address: buffer as usize, length: 0 }, length as usize)?;
                irp.Flags.set(irp.Flags.get() | IRP_BUFFERED_IO | IRP_INPUT_OPERATION);
                Ok(())
            }),
        }
    })
}

pub(crate) extern "win64" fn ZwSetInformationFile(
    handle: HANDLE,
    status: &IO_STATUS_BLOCK,
    buffer: PVOID,
    length: u32,
    class: u32,
) -> NTSTATUS {
    called("ZwSetInformationFile", PASSIVE_LEVEL);
    with_file(handle, 0, |entry, event| {
        let file = object::file(entry.body);
        if class == POSITION {
            if length < 8 {
                return Err(STATUS_INFO_LENGTH_MISMATCH);
            }
            // SAFETY: the caller gives `length` bytes; a bad buffer faults, which the guard reports.
            file.CurrentByteOffset.set(unsafe { buffer.cast::<i64>().read_unaligned() });
            status.Status.set(STATUS_SUCCESS);
            status.Information.set(0);
            return Ok(STATUS_SUCCESS);
        }
        serve(kernel(), entry.body, Some(length as usize), status, event, |irp| {
            irp.next().MajorFunction.set(IRP_MJ_SET_INFORMATION);
            irp.next().Parameters.Argument[0].set(length as usize);
            irp.next().Parameters.Argument[1].set(class as usize);
            let data = Buffer { address: buffer as usize, length };
            system_buffer(kernel(), irp, data, length as usize)
        })
    })
}

pub(crate) extern "win64" fn ZwQueryDirectoryFile(
    handle: HANDLE,
    event: HANDLE,
    _apc: usize,
    _apc_context: PVOID,
    status: &IO_STATUS_BLOCK,
    buffer: PVOID,
    length: u32,
    class: u32,
    single: u8,
    name: usize,
    restart: u8,
) -> NTSTATUS {
    called("ZwQueryDirectoryFile", PASSIVE_LEVEL);
    with_file(handle, event, |entry, event| {
        let target = device::attached(object::file(entry.body).DeviceObject.get());
        serve(kernel(), entry.body, Some(length as usize), status, event, |irp| {
            let next = irp.next();
            next.MajorFunction.set(IRP_MJ_DIRECTORY_CONTROL);
            next.MinorFunction.set(IRP_MN_QUERY_DIRECTORY);
            let flag = |asked: u8, flag: u8| if asked == 0 { 0 } else { flag };
            next.Flags.set(flag(single, SL_RETURN_SINGLE_ENTRY) | flag(restart, SL_RESTART_SCAN));
            for (argument, value) in next.Parameters.Argument.iter().zip([length as usize, name, class as usize, 0]) {
                argument.set(value);
            }
            set_up_transfer(kernel(), irp, target, Access::Write, Buffer { address: buffer as usize, length })
        })
    })
}

pub(crate) extern "win64" fn ZwQueryFullAttributesFile(attributes: &OBJECT_ATTRIBUTES, buffer: PVOID) -> NTSTATUS {
    called("ZwQueryFullAttributesFile", PASSIVE_LEVEL);
    /// FileNetworkOpenInformation, the size of its structure, and FILE_SYNCHRONOUS_IO_NONALERT.
    const CLASS: u32 = 34;
    const SIZE: u32 = 56;
    const FILE_READ_ATTRIBUTES: ACCESS_MASK = 0x80;
    let options = FILE_OPEN << 24 | FILE_SYNCHRONOUS_IO_NONALERT;
    match create(attributes, FILE_READ_ATTRIBUTES, options, 0, 7) {
        Ok((handle, _)) => {
            let block = IO_STATUS_BLOCK { Status: Cell::new(0), Information: Cell::new(0) };
            let status = ZwQueryInformationFile(handle, &block, buffer, SIZE, CLASS);
            object::ZwClose(handle);
            status
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn ZwWaitForSingleObject(handle: HANDLE, alertable: u8, timeout: Option<&i64>) -> NTSTATUS {
    let current = called("ZwWaitForSingleObject", PASSIVE_LEVEL);
    let kernel = &current.kernel;
    let Some(entry) = reference_by_handle(kernel, handle) else { return STATUS_INVALID_HANDLE };
    let header = match entry.kind {
        Kind::Event | Kind::Process | Kind::Thread => Some(entry.body as *const DISPATCHER_HEADER),
        Kind::File => Some(&raw const object::file(entry.body).Event.Header),
        Kind::Device | Kind::Driver | Kind::Key | Kind::Callback => None,
    };
    let status = header.map_or(STATUS_OBJECT_TYPE_MISMATCH, |header| {
        // SAFETY: the object's body begins with its header, or holds it, and has a reference.
        KeWaitForSingleObject(unsafe { &*header }, 0, KERNEL_MODE, alertable, timeout)
    });
    object::dereference(kernel, entry.body);
    status
}

pub(in crate::nt) const EXPORTS: &[(&str, Export)] = crate::nt::exports![
    ZwCreateFile,
    IoCreateFile,
    ZwOpenFile,
    ZwDeleteFile,
    ZwReadFile,
    ZwWriteFile,
    ZwDeviceIoControlFile,
    ZwFlushBuffersFile,
    ZwQueryInformationFile,
    ZwSetInformationFile,
    ZwQueryDirectoryFile,
    ZwQueryFullAttributesFile,
    ZwWaitForSingleObject,
];

/// The same services by the names that user mode knows them by, which drivers may import as well.
pub(in crate::nt) const NATIVE: &[(&str, Export)] = &[
    ("NtCreateFile", Export::Function(crate::nt::address(ZwCreateFile as *const ()))),
    ("NtOpenFile", Export::Function(crate::nt::address(ZwOpenFile as *const ()))),
    ("NtReadFile", Export::Function(crate::nt::address(ZwReadFile as *const ()))),
    ("NtWriteFile", Export::Function(crate::nt::address(ZwWriteFile as *const ()))),
    ("NtDeviceIoControlFile", Export::Function(crate::nt::address(ZwDeviceIoControlFile as *const ()))),
    ("NtQueryInformationFile", Export::Function(crate::nt::address(ZwQueryInformationFile as *const ()))),
    ("NtSetInformationFile", Export::Function(crate::nt::address(ZwSetInformationFile as *const ()))),
    ("NtQueryDirectoryFile", Export::Function(crate::nt::address(ZwQueryDirectoryFile as *const ()))),
    ("NtClose", Export::Function(crate::nt::address(object::ZwClose as *const ()))),
    ("NtWaitForSingleObject", Export::Function(crate::nt::address(ZwWaitForSingleObject as *const ()))),
];
