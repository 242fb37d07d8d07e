//! What requests are to do at their targets: the next stack location of their packets, and the memory that these name.
//!
//! A packet names memory of the framework's in the place of the client's, which is copied before and after: the client's may be
//! pageable, or described by no list.
#![allow(unsafe_code)] // copies between the client's buffers and the packet's

use std::ptr;
use std::sync::Arc;

use super::object::{self, Object, expect_kind};
use super::request::Request;
use super::send::{request_of, target_of};
use super::target::Target;
use super::types::{HANDLE, WDF_MEMORY_DESCRIPTOR, WDF_REQUEST_COMPLETION_PARAMS, WDFMEMORY_OFFSET};
use crate::guard::violate;
use crate::nt::io::device as device_object;
use crate::nt::irp::{self, IoAllocateIrp, IoFreeIrp};
use crate::nt::irql::called;
use crate::nt::mdl::{self, IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool, MmMapLockedPagesSpecifyCache};
use crate::nt::pool::{self, ExFreePoolWithTag};
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER, STATUS_REQUEST_NOT_ACCEPTED,
    STATUS_SUCCESS, nt_error,
};
use crate::nt::types::{
    DEVICE_IO_CONTROL, DEVICE_OBJECT, DISPATCH_LEVEL, DO_BUFFERED_IO, DO_DIRECT_IO, IO_STACK_LOCATION, IRP,
    IRP_MJ_DEVICE_CONTROL, IRP_MJ_INTERNAL_DEVICE_CONTROL, IRP_MJ_READ, IRP_MJ_WRITE, MDL, METHOD_BUFFERED,
    METHOD_IN_DIRECT, METHOD_OUT_DIRECT, NTSTATUS, PVOID, READ_WRITE,
};
use crate::thread::kernel;
use crate::violation::Rule;

/// WdfRequestTypeNoFormat.
pub(super) const NO_FORMAT: u32 = 0xff;

/// Memory that a transfer reads or writes: where it lies, and the object that it is of.
#[derive(Default)]
pub(super) struct Part {
    address: usize,
    length: usize,
    offset: usize,
    memory: Option<Arc<Object>>,
}

impl Part {
    /// A part of a memory object of the client's, which stays until the request has come back.
    fn of(memory: HANDLE, part: *const WDFMEMORY_OFFSET) -> Result<Self, NTSTATUS> {
        if memory == 0 {
            return Ok(Self::default());
        }
        let object = object::find(memory);
        // SAFETY: null, or the client's structure; a bad pointer faults.
        let part = unsafe { part.as_ref() };
        let (address, length) = expect_kind!(object, Memory).part(part)?;
        object.reference();
        Ok(Self { address, length, offset: part.map_or(0, |part| part.BufferOffset), memory: Some(object) })
    }

    /// What a WDF_MEMORY_DESCRIPTOR describes.
    pub(super) fn described(descriptor: *const WDF_MEMORY_DESCRIPTOR) -> Result<Self, NTSTATUS> {
        /// WDF_MEMORY_DESCRIPTOR_TYPE.
        const BUFFER: u32 = 1;
        const MDL: u32 = 2;
        const HANDLE: u32 = 3;
        // SAFETY: null, or the client's structure; a bad pointer faults.
        let Some(descriptor) = (unsafe { descriptor.as_ref() }) else { return Ok(Self::default()) };
        let length = descriptor.Length & 0xffff_ffff;
        match descriptor.Type {
            BUFFER => Ok(Self { address: descriptor.Buffer, length, offset: 0, memory: None }),
            MDL => {
                let list = mdl::at(descriptor.Buffer as *mut MDL).ok_or(STATUS_INVALID_PARAMETER)?;
                let mapped = list.system_address();
                let mapped = mapped.unwrap_or_else(|| MmMapLockedPagesSpecifyCache(list, 0, 1, ptr::null_mut(), 0, 16));
                if mapped.is_null() {
                    return Err(STATUS_INSUFFICIENT_RESOURCES);
                }
                Ok(Self { address: mapped as usize, length, offset: 0, memory: None })
            }
            HANDLE => Self::of(descriptor.Buffer, descriptor.Length as *const WDFMEMORY_OFFSET),
            _ => Err(STATUS_INVALID_PARAMETER),
        }
    }

    fn handle(&self) -> HANDLE {
        self.memory.as_ref().map_or(0, |memory| memory.handle)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            memory.dereference();
        }
    }
}

/// Nonpaged memory that a packet names in the place of the client's.
struct Block {
    address: PVOID,
    tag: u32,
}

impl Block {
    fn of(part: &Part, size: usize, tag: u32) -> Result<Self, NTSTATUS> {
        let address = pool::allocate(kernel(), size, tag, true, false).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        // SAFETY: the client's memory has so many bytes, a bad address faults; the block is as long at least.
        unsafe { ptr::copy(part.address as *const u8, address.cast(), part.length.min(size)) };
        Ok(Self { address, tag })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        ExFreePoolWithTag(self.address, self.tag);
    }
}

/// What a packet was formatted with, and had before.
pub(super) struct Formatted {
    kind: u32,
    code: u32,
    input: Part,
    output: Part,
    /// Where the output comes to be, and the input lies, if that is not the client's own memory.
    arrives: Option<Block>,
    departs: Option<Block>,
    list: *mut MDL,
    before: Option<(PVOID, *mut MDL, PVOID, u32)>,
}

impl Formatted {
    pub(super) const fn bare(kind: u32) -> Self {
        Self {
            kind,
            code: 0,
            input: Part { address: 0, length: 0, offset: 0, memory: None },
            output: Part { address: 0, length: 0, offset: 0, memory: None },
            arrives: None,
            departs: None,
            list: ptr::null_mut(),
            before: None,
        }
    }

    /// The packet has come back: the client gets its data, the packet what it had.
    pub(super) fn undo(&mut self, irp: &IRP) {
        if let Some(block) = self.arrives.take()
            && !nt_error(irp.IoStatus.Status.get())
        {
            let length = irp.IoStatus.Information.get().min(self.output.length);
            // SAFETY: both have so many bytes; a bad address of the client's faults.
            unsafe { ptr::copy(block.address.cast_const().cast::<u8>(), self.output.address as *mut u8, length) };
        }
        if let Some(list) = mdl::at(std::mem::replace(&mut self.list, ptr::null_mut())) {
            IoFreeMdl(list);
        }
        if let Some((system, list, user, flags)) = self.before.take() {
            irp.SystemBuffer.set(system);
            irp.MdlAddress.set(list);
            irp.UserBuffer.set(user);
            irp.Flags.set(flags);
        }
    }

    pub(super) fn parameters(&self, irp: &IRP) -> WDF_REQUEST_COMPLETION_PARAMS {
        let (status, information) = (irp.IoStatus.Status.get(), irp.IoStatus.Information.get());
        let values = match u8::try_from(self.kind) {
            Ok(IRP_MJ_READ) => [self.output.handle(), information, self.output.offset, 0, 0, 0],
            Ok(IRP_MJ_WRITE) => [self.input.handle(), information, self.input.offset, 0, 0, 0],
            Ok(IRP_MJ_DEVICE_CONTROL | IRP_MJ_INTERNAL_DEVICE_CONTROL) => [
                self.code as usize,
                self.input.handle(),
                self.input.offset,
                self.output.handle(),
                self.output.offset,
                information,
            ],
            _ => [0; 6],
        };
        WDF_REQUEST_COMPLETION_PARAMS {
            Size: const { size_of::<WDF_REQUEST_COMPLETION_PARAMS>() as u32 },
            Type: self.kind,
            Status: status,
            Information: information,
            Parameters: values,
        }
    }
}

/// The packet of a request, with a location for the target's device. A driver's own request gets one that is large enough.
pub(super) fn packet<'a>(request: &Request, device: *mut DEVICE_OBJECT) -> Result<&'a IRP, NTSTATUS> {
    let needed = device_object(device).StackSize.get();
    if request.is_drivers_own() {
        let known = request.packet();
        if let Some(irp) = known.filter(|irp| irp.StackCount.get() >= needed) {
            return Ok(irp);
        }
        if let Some(irp) = known {
            IoFreeIrp(irp);
        }
        let made = IoAllocateIrp(needed, 0);
        request.set_packet(made);
        return if made.is_null() { Err(STATUS_INSUFFICIENT_RESOURCES) } else { Ok(irp::at(made)) };
    }
    let irp = request.irp();
    if irp.CurrentLocation.get() - 1 < needed { Err(STATUS_REQUEST_NOT_ACCEPTED) } else { Ok(irp) }
}

/// What a request is to do at its target.
pub(super) enum Work {
    Read(Part, i64),
    Write(Part, i64),
    Control { major: u8, code: u32, input: Part, output: Part },
    Others { code: u32, arguments: [usize; 3] },
}

/// Describes a block to a packet.
fn describe(irp: &IRP, block: &Block, length: usize) -> Result<*mut MDL, NTSTATUS> {
    let made = IoAllocateMdl(block.address, u32::try_from(length).unwrap_or(u32::MAX), 0, 0, None);
    let list = mdl::at(made).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    MmBuildMdlForNonPagedPool(list);
    irp.MdlAddress.set(made);
    Ok(made)
}

/// Gives the packet the memory of a read or a write, as its device wants it.
fn attach_transfer(
    irp: &IRP,
    formatted: &mut Formatted,
    flags: u32,
    (part, reads): (&Part, bool),
    tag: u32,
) -> Result<(), NTSTATUS> {
    if flags & (DO_BUFFERED_IO | DO_DIRECT_IO) == 0 || part.length == 0 {
        irp.UserBuffer.set(part.address as PVOID);
        return Ok(());
    }
    let nothing = Part::default();
    let block = Block::of(if reads { &nothing } else { part }, part.length, tag)?;
    if flags & DO_BUFFERED_IO != 0 {
        irp.SystemBuffer.set(block.address);
    } else {
        formatted.list = describe(irp, &block, part.length)?;
    }
    if reads {
        formatted.arrives = Some(block);
    } else {
        formatted.departs = Some(block);
    }
    Ok(())
}

/// Gives the packet the memory of a control, as its code's method says.
fn attach_control(
    irp: &IRP,
    formatted: &mut Formatted,
    view: &mut DEVICE_IO_CONTROL,
    (input, output): (&Part, &Part),
    tag: u32,
) -> Result<(), NTSTATUS> {
    match view.IoControlCode & 3 {
        METHOD_BUFFERED => {
            let size = input.length.max(output.length);
            if size != 0 {
                let block = Block::of(input, size, tag)?;
                irp.SystemBuffer.set(block.address);
                formatted.arrives = Some(block);
            }
        }
        method @ (METHOD_IN_DIRECT | METHOD_OUT_DIRECT) => {
            if input.length != 0 {
                let block = Block::of(input, input.length, tag)?;
                irp.SystemBuffer.set(block.address);
                formatted.departs = Some(block);
            }
            if output.length != 0 {
                let nothing = Part::default();
                let content = if method == METHOD_IN_DIRECT { output } else { &nothing };
                let block = Block::of(content, output.length, tag)?;
                formatted.list = describe(irp, &block, output.length)?;
                formatted.arrives = Some(block);
            }
        }
        _ => {
            view.Type3InputBuffer = input.address;
            irp.UserBuffer.set(output.address as PVOID);
        }
    }
    Ok(())
}

/// Fills the packet's next location, and gives it its memory.
fn fill(irp: &IRP, formatted: &mut Formatted, flags: u32, work: Work, tag: u32) -> Result<(), NTSTATUS> {
    let location = irp.next();
    let length = |part: &Part| u32::try_from(part.length).unwrap_or(u32::MAX);
    match work {
        Work::Read(output, offset) => {
            formatted.kind = IRP_MJ_READ.into();
            location.Parameters.set_read_write(READ_WRITE { Length: length(&output), Key: 0, ByteOffset: offset });
            attach_transfer(irp, formatted, flags, (&output, true), tag)?;
            formatted.output = output;
        }
        Work::Write(input, offset) => {
            formatted.kind = IRP_MJ_WRITE.into();
            location.Parameters.set_read_write(READ_WRITE { Length: length(&input), Key: 0, ByteOffset: offset });
            attach_transfer(irp, formatted, flags, (&input, false), tag)?;
            formatted.input = input;
        }
        Work::Control { major, code, input, output } => {
            (formatted.kind, formatted.code) = (major.into(), code);
            let mut view = DEVICE_IO_CONTROL {
                OutputBufferLength: length(&output),
                InputBufferLength: length(&input),
                IoControlCode: code,
                Type3InputBuffer: 0,
            };
            attach_control(irp, formatted, &mut view, (&input, &output), tag)?;
            location.Parameters.set_device_io_control(view);
            (formatted.input, formatted.output) = (input, output);
        }
        Work::Others { code, arguments: [first, second, fourth] } => {
            (formatted.kind, formatted.code) = (IRP_MJ_INTERNAL_DEVICE_CONTROL.into(), code);
            for (index, argument) in [first, second, code as usize, fourth].into_iter().enumerate() {
                location.Parameters.Argument[index].set(argument);
            }
        }
    }
    location.MajorFunction.set(u8::try_from(formatted.kind).unwrap_or(u8::MAX));
    Ok(())
}

pub(super) fn format(object: &Arc<Object>, target: &Target, work: Work) -> Result<(), NTSTATUS> {
    let request = request_of(object);
    let Some((device, file)) = target.way() else { return Err(STATUS_INVALID_DEVICE_STATE) };
    unformat(request);
    let irp = packet(request, device)?;
    let mut formatted = Formatted::bare(NO_FORMAT);
    formatted.before = Some((irp.SystemBuffer.get(), irp.MdlAddress.get(), irp.UserBuffer.get(), irp.Flags.get()));
    let location = irp.next();
    location.FileObject.set(file);
    location.MinorFunction.set(0);
    location.Flags.set(0);
    let flags = device_object(device).Flags.get();
    let filled = fill(irp, &mut formatted, flags, work, object.client.tag());
    if filled.is_err() {
        formatted.arrives = None;
        formatted.undo(irp);
        return filled;
    }
    request.sending.0.lock().formatted = Some(formatted);
    Ok(())
}

/// Takes back what a request was formatted with.
pub(super) fn unformat(request: &Request) {
    let formatted = request.sending.0.lock().formatted.take();
    if let (Some(mut formatted), Some(irp)) = (formatted, request.packet()) {
        formatted.arrives = None;
        formatted.undo(irp);
    }
}

pub(super) fn status_of(outcome: Result<(), NTSTATUS>) -> NTSTATUS {
    outcome.map_or_else(|status| status, |()| STATUS_SUCCESS)
}

pub(super) fn offset_at(offset: *const i64) -> i64 {
    // SAFETY: null, or the client's variable; a bad pointer faults.
    unsafe { offset.as_ref() }.copied().unwrap_or(0)
}

fn format_for(target: HANDLE, request: HANDLE, work: impl FnOnce() -> Result<Work, NTSTATUS>) -> NTSTATUS {
    let (target, request) = (object::find(target), object::find(request));
    status_of(work().and_then(|work| format(&request, target_of(&target), work)))
}

pub(crate) extern "win64" fn WdfIoTargetFormatRequestForRead(
    _globals: usize,
    target: HANDLE,
    request: HANDLE,
    output: HANDLE,
    part: *const WDFMEMORY_OFFSET,
    offset: *const i64,
) -> NTSTATUS {
    called("WdfIoTargetFormatRequestForRead", DISPATCH_LEVEL);
    format_for(target, request, || Ok(Work::Read(Part::of(output, part)?, offset_at(offset))))
}

pub(crate) extern "win64" fn WdfIoTargetFormatRequestForWrite(
    _globals: usize,
    target: HANDLE,
    request: HANDLE,
    input: HANDLE,
    part: *const WDFMEMORY_OFFSET,
    offset: *const i64,
) -> NTSTATUS {
    called("WdfIoTargetFormatRequestForWrite", DISPATCH_LEVEL);
    format_for(target, request, || Ok(Work::Write(Part::of(input, part)?, offset_at(offset))))
}

pub(crate) extern "win64" fn WdfIoTargetFormatRequestForIoctl(
    _globals: usize,
    target: HANDLE,
    request: HANDLE,
    code: u32,
    input: HANDLE,
    input_part: *const WDFMEMORY_OFFSET,
    output: HANDLE,
    output_part: *const WDFMEMORY_OFFSET,
) -> NTSTATUS {
    called("WdfIoTargetFormatRequestForIoctl", DISPATCH_LEVEL);
    format_for(target, request, || {
        let (input, output) = (Part::of(input, input_part)?, Part::of(output, output_part)?);
        Ok(Work::Control { major: IRP_MJ_DEVICE_CONTROL, code, input, output })
    })
}

pub(crate) extern "win64" fn WdfIoTargetFormatRequestForInternalIoctl(
    _globals: usize,
    target: HANDLE,
    request: HANDLE,
    code: u32,
    input: HANDLE,
    input_part: *const WDFMEMORY_OFFSET,
    output: HANDLE,
    output_part: *const WDFMEMORY_OFFSET,
) -> NTSTATUS {
    called("WdfIoTargetFormatRequestForInternalIoctl", DISPATCH_LEVEL);
    format_for(target, request, || {
        let (input, output) = (Part::of(input, input_part)?, Part::of(output, output_part)?);
        Ok(Work::Control { major: IRP_MJ_INTERNAL_DEVICE_CONTROL, code, input, output })
    })
}

pub(crate) extern "win64" fn WdfIoTargetFormatRequestForInternalIoctlOthers(
    _globals: usize,
    target: HANDLE,
    request: HANDLE,
    code: u32,
    first: HANDLE,
    first_part: *const WDFMEMORY_OFFSET,
    second: HANDLE,
    second_part: *const WDFMEMORY_OFFSET,
    fourth: HANDLE,
    fourth_part: *const WDFMEMORY_OFFSET,
) -> NTSTATUS {
    called("WdfIoTargetFormatRequestForInternalIoctlOthers", DISPATCH_LEVEL);
    format_for(target, request, || {
        let parts = [Part::of(first, first_part)?, Part::of(second, second_part)?, Part::of(fourth, fourth_part)?];
        Ok(Work::Others { code, arguments: parts.map(|part| part.address) })
    })
}

/// Gives a request's packet a next location that is like another.
fn format_like(object: &Object, call: &str, choose: impl for<'a> FnOnce(&'a IRP) -> &'a IO_STACK_LOCATION) {
    let request = request_of(object);
    unformat(request);
    let irp = request.irp();
    if irp.CurrentLocation.get() <= 1 {
        violate(Rule::Framework, format!("{call}: the request has no next stack location"));
    }
    let (current, next) = (choose(irp), irp.next());
    next.MajorFunction.set(current.MajorFunction.get());
    next.MinorFunction.set(current.MinorFunction.get());
    next.Flags.set(current.Flags.get());
    next.FileObject.set(current.FileObject.get());
    for (to, from) in next.Parameters.Argument.iter().zip(&current.Parameters.Argument) {
        to.set(from.get());
    }
    request.sending.0.lock().formatted = Some(Formatted::bare(NO_FORMAT));
}

pub(crate) extern "win64" fn WdfRequestFormatRequestUsingCurrentType(_globals: usize, handle: HANDLE) {
    called("WdfRequestFormatRequestUsingCurrentType", DISPATCH_LEVEL);
    format_like(&object::find(handle), "WdfRequestFormatRequestUsingCurrentType", IRP::current);
}

/// The location's completion routine does not count: that is the framework's.
pub(crate) extern "win64" fn WdfRequestWdmFormatUsingStackLocation(
    _globals: usize,
    handle: HANDLE,
    location: *const IO_STACK_LOCATION,
) {
    called("WdfRequestWdmFormatUsingStackLocation", DISPATCH_LEVEL);
    // SAFETY: the client's location; a bad pointer faults, which the guard reports.
    let location = unsafe { &*location };
    format_like(&object::find(handle), "WdfRequestWdmFormatUsingStackLocation", |_| location);
}
