//! WDFREQUEST: an IRP on its way through the framework.
#![allow(unsafe_code)] // writes the client's out parameters

mod cancel;

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;

pub(super) use self::cancel::{
    WdfRequestIsCanceled, WdfRequestMarkCancelable, WdfRequestMarkCancelableEx, WdfRequestUnmarkCancelable, arm_cancel,
    cancel_presented, disarm_cancel,
};
use super::device::Device;
use super::object::{self, Attributes, Kind, Object, expect_kind};
use super::send::Sending;
use super::support::Memory;
use super::types::{HANDLE, WDF_REQUEST_PARAMETERS};
use crate::guard::violate;
use crate::nt::irp::{self, IofCallDriver, IofCompleteRequest};
use crate::nt::irql::called;
use crate::nt::lock_order::none_across;
use crate::nt::mdl::{
    self, Access, IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool, MmMapLockedPagesSpecifyCache, MmUnlockPages,
};
use crate::nt::process::{IoGetCurrentProcess, IoGetRequestorProcess};
use crate::nt::status::{
    STATUS_ACCESS_VIOLATION, STATUS_BUFFER_TOO_SMALL, STATUS_DEVICE_BUSY, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INTERNAL_ERROR, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_USER_BUFFER, STATUS_SUCCESS, STATUS_WDF_BUSY,
    STATUS_WDF_PAUSED,
};
use crate::nt::types::{
    DEVICE_OBJECT, DISPATCH_LEVEL, DO_BUFFERED_IO, DO_DIRECT_IO, FILE_OBJECT, IRP, IRP_MJ_DEVICE_CONTROL,
    IRP_MJ_INTERNAL_DEVICE_CONTROL, IRP_MJ_READ, IRP_MJ_WRITE, MDL, METHOD_BUFFERED, METHOD_IN_DIRECT, METHOD_NEITHER,
    METHOD_OUT_DIRECT, NTSTATUS, PASSIVE_LEVEL, PVOID,
};
use crate::thread::{current, kernel};
use crate::violation::Rule;

/// What the request was made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The open of a file object.
    Create,
    /// Everything that goes through a queue.
    Io,
    /// WdfRequestCreate: what the driver sends to targets.
    Own,
}

/// Who has the request.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Framework,
    /// The driver, since EvtIoInCallerContext: it enqueues or completes it.
    DriverInCallerContext,
    Driver,
    Completed,
}

/// A request.
pub(crate) struct Request {
    irp: AtomicPtr<IRP>,
    purpose: Purpose,
    owner: AtomicU8,
    /// Whether the driver has ever had it. The callbacks of a request that it never saw are not made.
    presented: AtomicBool,
    /// The queue that presented it, or holds it.
    pub(super) queue: AtomicUsize,
    /// The queue that it goes to when its driver enqueues it, or 0: that of its device.
    aimed: AtomicUsize,
    cancel: AtomicPtr<()>,
    /// While this is held the packet stays, and the driver does not take back that it may be cancelled.
    kept: Mutex<()>,
    /// An MDL that the framework made for a buffered request.
    own_mdl: AtomicPtr<MDL>,
    /// Its way to targets.
    pub(super) sending: Sending,
}

/// Makes the request of an IRP.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES.
pub(super) fn create(device: &Arc<Object>, irp: &IRP, purpose: Purpose) -> Result<Arc<Object>, NTSTATUS> {
    let attributes = expect_kind!(device, Device).request_attributes;
    let request = Request::new(irp.as_ptr(), purpose, Owner::Framework);
    let object = object::create(&device.client, Kind::Request(request), &attributes, device.handle)?;
    if purpose == Purpose::Create {
        expect_kind!(object, Request).set_owner(Owner::Driver);
    }
    Ok(object)
}

/// A buffer of a request.
struct Buffer {
    address: PVOID,
    length: usize,
}

impl Request {
    fn new(irp: *mut IRP, purpose: Purpose, owner: Owner) -> Self {
        Self {
            irp: AtomicPtr::new(irp),
            purpose,
            owner: AtomicU8::new(owner as u8),
            presented: AtomicBool::new(purpose == Purpose::Own),
            queue: AtomicUsize::new(0),
            aimed: AtomicUsize::new(0),
            cancel: AtomicPtr::default(),
            kept: Mutex::new(()),
            own_mdl: AtomicPtr::default(),
            sending: Sending::default(),
        }
    }

    /// A request that the driver sends to targets; it has no packet before it is formatted.
    pub(super) fn drivers_own() -> Self {
        Self::new(ptr::null_mut(), Purpose::Own, Owner::Driver)
    }

    pub(super) fn is_drivers_own(&self) -> bool {
        self.purpose == Purpose::Own
    }

    /// The IRP, if it has one (still).
    pub(super) fn packet<'a>(&self) -> Option<&'a IRP> {
        let irp = self.irp.load(Ordering::Acquire);
        (!irp.is_null()).then(|| irp::at(irp))
    }

    /// Gives a request of the driver's own its packet.
    pub(super) fn set_packet(&self, irp: *mut IRP) {
        self.irp.store(irp, Ordering::Release);
    }

    /// Takes the packet away: the request has no more to do with it.
    fn drop_packet(&self) {
        let _kept = self.kept.lock();
        self.irp.store(ptr::null_mut(), Ordering::Release);
    }

    /// The IRP; a violation if the request has been completed.
    pub(super) fn irp<'a>(&self) -> &'a IRP {
        let irp = self.irp.load(Ordering::Acquire);
        if irp.is_null() {
            violate(Rule::Framework, format!("{}: the request has been completed", current().call.get()));
        }
        irp::at(irp)
    }

    /// Names the queue that the request goes to when its driver enqueues it.
    pub(super) fn aim(&self, queue: HANDLE) {
        self.aimed.store(queue, Ordering::Release);
    }

    /// The queue that it was aimed at.
    pub(super) fn aimed_at(&self) -> Option<HANDLE> {
        Some(self.aimed.load(Ordering::Acquire)).filter(|queue| *queue != 0)
    }

    pub(super) fn file_object(&self) -> *mut FILE_OBJECT {
        self.irp().current().FileObject.get()
    }

    pub(super) fn set_owner(&self, owner: Owner) {
        match owner {
            Owner::Driver | Owner::DriverInCallerContext => self.presented.store(true, Ordering::Release),
            Owner::Framework | Owner::Completed => {}
        }
        self.owner.store(owner as u8, Ordering::Release);
    }

    fn has_owner(&self, owner: Owner) -> bool {
        self.owner.load(Ordering::Acquire) == owner as u8
    }

    /// Whether EvtIoInCallerContext was called with it, and it has been neither enqueued nor completed since.
    pub(super) fn is_in_caller_context(&self) -> bool {
        self.has_owner(Owner::DriverInCallerContext)
    }

    /// Whether the driver has it from a queue.
    pub(super) fn is_drivers(&self) -> bool {
        self.has_owner(Owner::Driver)
    }

    pub(super) fn was_presented(&self) -> bool {
        self.presented.load(Ordering::Acquire)
    }

    fn expect_driver(&self) {
        if !self.has_owner(Owner::Driver) && !self.is_in_caller_context() {
            let whose = if self.has_owner(Owner::Completed) { "has been completed" } else { "is in a queue" };
            violate(Rule::Framework, format!("{}: the request {whose}", current().call.get()));
        }
    }

    /// Control code of a device control, with its method.
    fn method(irp: &IRP) -> u32 {
        irp.current().Parameters.device_io_control().IoControlCode & 3
    }

    fn is_control(irp: &IRP) -> bool {
        matches!(irp.current().MajorFunction.get(), IRP_MJ_DEVICE_CONTROL | IRP_MJ_INTERNAL_DEVICE_CONTROL)
    }

    fn mapped(irp: &IRP) -> Result<PVOID, NTSTATUS> {
        let Some(mdl) = mdl::at(irp.MdlAddress.get()) else { return Err(STATUS_INTERNAL_ERROR) };
        let address = match mdl.system_address() {
            Some(address) => address,
            None => MmMapLockedPagesSpecifyCache(mdl, 0, 1, ptr::null_mut(), 0, 16),
        };
        if address.is_null() { Err(STATUS_INSUFFICIENT_RESOURCES) } else { Ok(address) }
    }

    /// A read's or write's buffer.
    fn transfer(irp: &IRP, major: u8) -> Result<Buffer, NTSTATUS> {
        if irp.current().MajorFunction.get() != major {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        let length = irp.current().Parameters.read_write().Length as usize;
        let flags = crate::nt::io::device(irp.current().DeviceObject.get()).Flags.get();
        if length == 0 {
            Ok(Buffer { address: ptr::null_mut(), length })
        } else if flags & DO_BUFFERED_IO != 0 {
            Ok(Buffer { address: irp.SystemBuffer.get(), length })
        } else if flags & DO_DIRECT_IO != 0 {
            Ok(Buffer { address: Self::mapped(irp)?, length })
        } else {
            Err(STATUS_INVALID_DEVICE_REQUEST)
        }
    }

    fn input(&self) -> Result<Buffer, NTSTATUS> {
        let irp = self.irp();
        if !Self::is_control(irp) {
            return Self::transfer(irp, IRP_MJ_WRITE);
        }
        match Self::method(irp) {
            METHOD_BUFFERED | METHOD_IN_DIRECT | METHOD_OUT_DIRECT => {
                let length = irp.current().Parameters.device_io_control().InputBufferLength as usize;
                Ok(Buffer { address: irp.SystemBuffer.get(), length })
            }
            _ => Err(STATUS_INVALID_DEVICE_REQUEST),
        }
    }

    fn output(&self) -> Result<Buffer, NTSTATUS> {
        let irp = self.irp();
        if !Self::is_control(irp) {
            return Self::transfer(irp, IRP_MJ_READ);
        }
        let length = irp.current().Parameters.device_io_control().OutputBufferLength as usize;
        match Self::method(irp) {
            METHOD_BUFFERED => Ok(Buffer { address: irp.SystemBuffer.get(), length }),
            METHOD_IN_DIRECT | METHOD_OUT_DIRECT if length == 0 => Ok(Buffer { address: ptr::null_mut(), length }),
            METHOD_IN_DIRECT | METHOD_OUT_DIRECT => Ok(Buffer { address: Self::mapped(irp)?, length }),
            _ => Err(STATUS_INVALID_DEVICE_REQUEST),
        }
    }
}

/// Gives a buffer to the client, if it is as long as the client needs.
fn give(buffer: Result<Buffer, NTSTATUS>, minimum: usize, out: *mut PVOID, length: *mut usize) -> NTSTATUS {
    let buffer = match buffer {
        Ok(buffer) if buffer.length == 0 || buffer.length < minimum => Err(STATUS_BUFFER_TOO_SMALL),
        other => other,
    };
    let (address, size, status) = match buffer {
        Ok(buffer) => (buffer.address, buffer.length, STATUS_SUCCESS),
        Err(status) => (ptr::null_mut(), 0, status),
    };
    // SAFETY: the client's out parameter; a bad pointer faults, which the guard reports.
    unsafe { out.write(address) };
    if !length.is_null() {
        // SAFETY: as above.
        unsafe { length.write(size) };
    }
    status
}

pub(crate) extern "win64" fn WdfRequestRetrieveInputBuffer(
    _globals: usize,
    handle: HANDLE,
    minimum: usize,
    buffer: *mut PVOID,
    length: *mut usize,
) -> NTSTATUS {
    called("WdfRequestRetrieveInputBuffer", DISPATCH_LEVEL);
    let object = object::find(handle);
    give(expect_kind!(object, Request).input(), minimum, buffer, length)
}

pub(crate) extern "win64" fn WdfRequestRetrieveOutputBuffer(
    _globals: usize,
    handle: HANDLE,
    minimum: usize,
    buffer: *mut PVOID,
    length: *mut usize,
) -> NTSTATUS {
    called("WdfRequestRetrieveOutputBuffer", DISPATCH_LEVEL);
    let object = object::find(handle);
    give(expect_kind!(object, Request).output(), minimum, buffer, length)
}

/// As [`give`]; the framework gives an empty buffer, too.
fn give_unsafe(buffer: Result<Buffer, NTSTATUS>, minimum: usize, out: *mut PVOID, length: *mut usize) -> NTSTATUS {
    let empty = buffer.as_ref().is_ok_and(|buffer| buffer.length == 0 && minimum == 0);
    let status = give(buffer, minimum, out, length);
    if empty { STATUS_SUCCESS } else { status }
}

pub(crate) extern "win64" fn WdfRequestRetrieveUnsafeUserInputBuffer(
    _globals: usize,
    handle: HANDLE,
    minimum: usize,
    buffer: *mut PVOID,
    length: *mut usize,
) -> NTSTATUS {
    called("WdfRequestRetrieveUnsafeUserInputBuffer", PASSIVE_LEVEL);
    let object = object::find(handle);
    give_unsafe(expect_kind!(object, Request).unsafe_user_buffer(false), minimum, buffer, length)
}

pub(crate) extern "win64" fn WdfRequestRetrieveUnsafeUserOutputBuffer(
    _globals: usize,
    handle: HANDLE,
    minimum: usize,
    buffer: *mut PVOID,
    length: *mut usize,
) -> NTSTATUS {
    called("WdfRequestRetrieveUnsafeUserOutputBuffer", PASSIVE_LEVEL);
    let object = object::find(handle);
    give_unsafe(expect_kind!(object, Request).unsafe_user_buffer(true), minimum, buffer, length)
}

impl Request {
    /// A caller's own buffer, as its address came: of a device control with METHOD_NEITHER, of a read or write on a device with neither
    /// buffered nor direct I/O.
    fn unsafe_user_buffer(&self, output: bool) -> Result<Buffer, NTSTATUS> {
        let irp = self.irp();
        let location = irp.current();
        match location.MajorFunction.get() {
            IRP_MJ_DEVICE_CONTROL if Self::method(irp) == METHOD_NEITHER => {
                let control = location.Parameters.device_io_control();
                Ok(if output {
                    Buffer { address: irp.UserBuffer.get(), length: control.OutputBufferLength as usize }
                } else {
                    Buffer { address: control.Type3InputBuffer as PVOID, length: control.InputBufferLength as usize }
                })
            }
            major if major == if output { IRP_MJ_READ } else { IRP_MJ_WRITE } => {
                let flags = crate::nt::io::device(location.DeviceObject.get()).Flags.get();
                if flags & (DO_BUFFERED_IO | DO_DIRECT_IO) != 0 {
                    return Err(STATUS_INVALID_DEVICE_REQUEST);
                }
                let length = location.Parameters.read_write().Length as usize;
                Ok(Buffer { address: irp.UserBuffer.get(), length })
            }
            _ => Err(STATUS_INVALID_DEVICE_REQUEST),
        }
    }

    /// Bytes of a locked buffer: the output of a direct device control, a read's or write's on a device with direct I/O.
    /// `None` if the buffer is not locked.
    fn locked_length(irp: &IRP, output: bool) -> Option<usize> {
        let location = irp.current();
        if Self::is_control(irp) {
            let direct = output && matches!(Self::method(irp), METHOD_IN_DIRECT | METHOD_OUT_DIRECT);
            return direct.then(|| location.Parameters.device_io_control().OutputBufferLength as usize);
        }
        let major = if output { IRP_MJ_READ } else { IRP_MJ_WRITE };
        let flags = crate::nt::io::device(location.DeviceObject.get()).Flags.get();
        let direct = location.MajorFunction.get() == major && flags & DO_DIRECT_IO != 0;
        direct.then(|| location.Parameters.read_write().Length as usize)
    }

    /// The MDL that describes a buffered request's system buffer, made when it is first asked for.
    fn system_buffer_mdl(&self, buffer: &Buffer) -> Result<*mut MDL, NTSTATUS> {
        let known = self.own_mdl.load(Ordering::Acquire);
        if !known.is_null() {
            return Ok(known);
        }
        let made = IoAllocateMdl(buffer.address, u32::try_from(buffer.length).unwrap_or(u32::MAX), 0, 0, None);
        let Some(list) = mdl::at(made) else { return Err(STATUS_INSUFFICIENT_RESOURCES) };
        MmBuildMdlForNonPagedPool(list);
        self.own_mdl.store(made, Ordering::Release);
        Ok(made)
    }
}

/// The MDL of the input (`false`) or output (`true`) buffer. A locked buffer is not mapped for it.
fn retrieve_mdl(handle: HANDLE, output: bool, out: *mut *mut MDL) -> NTSTATUS {
    let object = object::find(handle);
    let request = expect_kind!(object, Request);
    let irp = request.irp();
    let found = match Request::locked_length(irp, output) {
        Some(0) => Err(STATUS_BUFFER_TOO_SMALL),
        Some(_) => Ok(irp.MdlAddress.get()),
        None => match if output { request.output() } else { request.input() } {
            Ok(buffer) if buffer.length == 0 => Err(STATUS_BUFFER_TOO_SMALL),
            Ok(buffer) => request.system_buffer_mdl(&buffer),
            Err(status) => Err(status),
        },
    };
    match found {
        Ok(mdl) => {
            // SAFETY: the client's out parameter; a bad pointer faults.
            unsafe { out.write(mdl) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn WdfRequestRetrieveInputWdmMdl(
    _globals: usize,
    handle: HANDLE,
    out: *mut *mut MDL,
) -> NTSTATUS {
    called("WdfRequestRetrieveInputWdmMdl", DISPATCH_LEVEL);
    retrieve_mdl(handle, false, out)
}

pub(crate) extern "win64" fn WdfRequestRetrieveOutputWdmMdl(
    _globals: usize,
    handle: HANDLE,
    out: *mut *mut MDL,
) -> NTSTATUS {
    called("WdfRequestRetrieveOutputWdmMdl", DISPATCH_LEVEL);
    retrieve_mdl(handle, true, out)
}

/// A memory object over a buffer of the request, which it goes with.
fn retrieve_memory(handle: HANDLE, buffer: fn(&Request) -> Result<Buffer, NTSTATUS>, out: *mut HANDLE) -> NTSTATUS {
    let object = object::find(handle);
    match buffer(expect_kind!(object, Request)) {
        Ok(Buffer { length: 0, .. }) => STATUS_BUFFER_TOO_SMALL,
        Ok(Buffer { address, length }) => {
            let memory = Kind::Memory(Memory::over(address, length));
            object::create_into(&object.client, memory, &Attributes::NONE, handle, out)
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn WdfRequestRetrieveInputMemory(
    _globals: usize,
    handle: HANDLE,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfRequestRetrieveInputMemory", DISPATCH_LEVEL);
    retrieve_memory(handle, Request::input, out)
}

pub(crate) extern "win64" fn WdfRequestRetrieveOutputMemory(
    _globals: usize,
    handle: HANDLE,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfRequestRetrieveOutputMemory", DISPATCH_LEVEL);
    retrieve_memory(handle, Request::output, out)
}

/// Locks a buffer of the requestor's, in whose process this runs: a memory object, which goes with the request.
fn probe_and_lock(handle: HANDLE, buffer: PVOID, length: usize, access: Access, out: *mut HANDLE) -> NTSTATUS {
    let object = object::find(handle);
    let request = expect_kind!(object, Request);
    if length == 0 {
        return STATUS_INVALID_USER_BUFFER;
    }
    if IoGetRequestorProcess(request.irp()) != IoGetCurrentProcess() {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    let made = IoAllocateMdl(buffer, u32::try_from(length).unwrap_or(u32::MAX), 0, 0, None);
    let Some(list) = mdl::at(made) else { return STATUS_INSUFFICIENT_RESOURCES };
    if !mdl::lock(list, access) {
        IoFreeMdl(list);
        return STATUS_ACCESS_VIOLATION;
    }
    let mapped = MmMapLockedPagesSpecifyCache(list, 0, 1, ptr::null_mut(), 0, 16);
    if mapped.is_null() {
        MmUnlockPages(list);
        IoFreeMdl(list);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let memory = Kind::Memory(Memory::locked(list, mapped, length));
    let status = object::create_into(&object.client, memory, &Attributes::NONE, handle, out);
    if status != STATUS_SUCCESS {
        MmUnlockPages(list);
        IoFreeMdl(list);
    }
    status
}

pub(crate) extern "win64" fn WdfRequestProbeAndLockUserBufferForRead(
    _globals: usize,
    handle: HANDLE,
    buffer: PVOID,
    length: usize,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfRequestProbeAndLockUserBufferForRead", PASSIVE_LEVEL);
    probe_and_lock(handle, buffer, length, Access::Read, out)
}

pub(crate) extern "win64" fn WdfRequestProbeAndLockUserBufferForWrite(
    _globals: usize,
    handle: HANDLE,
    buffer: PVOID,
    length: usize,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfRequestProbeAndLockUserBufferForWrite", PASSIVE_LEVEL);
    probe_and_lock(handle, buffer, length, Access::Write, out)
}

pub(crate) extern "win64" fn WdfRequestGetParameters(
    _globals: usize,
    handle: HANDLE,
    out: *mut WDF_REQUEST_PARAMETERS,
) {
    called("WdfRequestGetParameters", DISPATCH_LEVEL);
    let object = object::find(handle);
    store_parameters(expect_kind!(object, Request), out);
}

/// Fills the client's WDF_REQUEST_PARAMETERS.
pub(super) fn store_parameters(request: &Request, out: *mut WDF_REQUEST_PARAMETERS) {
    let location = request.irp().current();
    let parameters = &location.Parameters;
    let values = match location.MajorFunction.get() {
        IRP_MJ_DEVICE_CONTROL | IRP_MJ_INTERNAL_DEVICE_CONTROL => {
            let control = parameters.device_io_control();
            [
                control.OutputBufferLength as usize,
                control.InputBufferLength as usize,
                control.IoControlCode as usize,
                control.Type3InputBuffer,
            ]
        }
        _ => std::array::from_fn(|index| parameters.Argument[index].get()),
    };
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let out = unsafe { &mut *out };
    out.MinorFunction = location.MinorFunction.get();
    out.Type = u32::from(location.MajorFunction.get());
    out.Parameters = values;
}

pub(crate) extern "win64" fn WdfRequestGetFileObject(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfRequestGetFileObject", DISPATCH_LEVEL);
    let object = object::find(handle);
    let request = expect_kind!(object, Request);
    let device = object::find(object.parent);
    let device: &Device = expect_kind!(device, Device);
    device.file(request.file_object()).map_or(0, |file| file.handle)
}

pub(crate) extern "win64" fn WdfRequestGetIoQueue(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfRequestGetIoQueue", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Request).queue.load(Ordering::Acquire)
}

pub(crate) extern "win64" fn WdfRequestWdmGetIrp(_globals: usize, handle: HANDLE) -> *mut IRP {
    called("WdfRequestWdmGetIrp", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Request).irp().as_ptr()
}

pub(crate) extern "win64" fn WdfRequestGetRequestorMode(_globals: usize, handle: HANDLE) -> i8 {
    called("WdfRequestGetRequestorMode", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Request).irp().RequestorMode.get()
}

pub(crate) extern "win64" fn WdfRequestIsFrom32BitProcess(_globals: usize, handle: HANDLE) -> u8 {
    called("WdfRequestIsFrom32BitProcess", DISPATCH_LEVEL);
    let object = object::find(handle);
    crate::nt::process::IoIs32bitProcess(Some(expect_kind!(object, Request).irp()))
}

pub(crate) extern "win64" fn WdfRequestGetStatus(_globals: usize, handle: HANDLE) -> NTSTATUS {
    called("WdfRequestGetStatus", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Request).irp().IoStatus.Status.get()
}

pub(crate) extern "win64" fn WdfRequestSetInformation(_globals: usize, handle: HANDLE, information: usize) {
    called("WdfRequestSetInformation", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Request).irp().IoStatus.Information.set(information);
}

pub(crate) extern "win64" fn WdfRequestGetInformation(_globals: usize, handle: HANDLE) -> usize {
    called("WdfRequestGetInformation", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Request).irp().IoStatus.Information.get()
}

/// The framework's own statuses do not leave it.
fn outside(status: NTSTATUS) -> NTSTATUS {
    /// FACILITY_DRIVER_FRAMEWORK, and where a status has its facility.
    const FACILITY: u32 = 0x0020_0000;
    const FACILITIES: u32 = 0x0FFF_0000;
    match status {
        STATUS_WDF_PAUSED | STATUS_WDF_BUSY => STATUS_DEVICE_BUSY,
        other if other.cast_unsigned() & FACILITIES == FACILITY => STATUS_INVALID_DEVICE_REQUEST,
        other => other,
    }
}

/// Completes a request: its cleanup callbacks, then the IRP, then the next request of its queue, then its destroy callbacks
/// unless the client still refers to it.
pub(super) fn complete(object: &Arc<Object>, status: NTSTATUS, information: Option<usize>) {
    let (request, status) = (expect_kind!(object, Request), outside(status));
    let irp = request.irp();
    if !irp.CancelRoutine.load(Ordering::Acquire).is_null() {
        violate(Rule::Framework, format!("{}: the request is still cancelable", current().call.get()));
    }
    let framework = kernel().extension::<super::Framework>();
    framework.completing.fetch_add(1, Ordering::AcqRel);
    request.set_owner(Owner::Completed);
    if !request.was_presented() {
        object.clear_callbacks();
    }
    let own_mdl = request.own_mdl.swap(ptr::null_mut(), Ordering::AcqRel);
    if let Some(mdl) = mdl::at(own_mdl) {
        IoFreeMdl(mdl);
    }
    if let Some(information) = information {
        irp.IoStatus.Information.set(information);
    }
    irp.IoStatus.Status.set(status);
    let file = irp.current().FileObject.get();
    let (queue, device) = (request.queue.load(Ordering::Acquire), object::try_find(object.parent));
    // The client's cleanup callback sees the request whole; after it, nobody reaches the IRP through the handle.
    object::dispose(object);
    request.drop_packet();
    if request.purpose == Purpose::Create
        && let Some(device) = device
        && let Kind::Device(device) = &device.kind
    {
        device.create_completed(file, status);
    }
    IofCompleteRequest(irp, 0);
    super::queue::completed(queue, object.handle);
    object.dereference();
    framework.completing.fetch_sub(1, Ordering::AcqRel);
}

/// A request goes on to the next driver, and the framework has no more to do with it.
pub(super) fn hand_on(object: &Arc<Object>, device: *mut DEVICE_OBJECT) {
    let request = expect_kind!(object, Request);
    let irp = request.irp();
    let queue = request.queue.load(Ordering::Acquire);
    request.set_owner(Owner::Completed);
    object::dispose(object);
    request.drop_packet();
    irp.CurrentLocation.set(irp.CurrentLocation.get() + 1);
    irp.CurrentStackLocation.set(irp.location_address(irp.CurrentLocation.get()));
    IofCallDriver(crate::nt::io::device(device), irp);
    super::queue::completed(queue, object.handle);
    object.dereference();
}

fn complete_by_driver(handle: HANDLE, status: NTSTATUS, information: Option<usize>) {
    none_across(current(), current().call.get());
    let object = object::find(handle);
    let request = expect_kind!(object, Request);
    request.expect_driver();
    if request.is_drivers_own() {
        violate(Rule::Framework, format!("{}: the driver made the request itself", current().call.get()));
    }
    complete(&object, status, information);
}

pub(crate) extern "win64" fn WdfRequestComplete(_globals: usize, handle: HANDLE, status: NTSTATUS) {
    called("WdfRequestComplete", DISPATCH_LEVEL);
    complete_by_driver(handle, status, None);
}

pub(crate) extern "win64" fn WdfRequestCompleteWithInformation(
    _globals: usize,
    handle: HANDLE,
    status: NTSTATUS,
    information: usize,
) {
    called("WdfRequestCompleteWithInformation", DISPATCH_LEVEL);
    complete_by_driver(handle, status, Some(information));
}

pub(crate) extern "win64" fn WdfRequestCompleteWithPriorityBoost(
    _globals: usize,
    handle: HANDLE,
    status: NTSTATUS,
    _boost: i8,
) {
    called("WdfRequestCompleteWithPriorityBoost", DISPATCH_LEVEL);
    complete_by_driver(handle, status, None);
}
