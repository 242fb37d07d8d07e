//! Requests: packets that the I/O manager makes for processes and for drivers, and what it does when they complete.
#![allow(unsafe_code)] // copies between system buffers and the requestor's

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::device::attached;
use super::{device, dispatch};
use crate::guard::{escape, violate, violate_returned};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::machine::IoStatus;
use crate::nt::dispatcher::{KeClearEvent, KeSetEvent};
use crate::nt::irp::{self, send};
use crate::nt::irql::called;
use crate::nt::mdl::{self, Access};
use crate::nt::object;
use crate::nt::pool::{self, Owner};
use crate::nt::status::{
    STATUS_ACCESS_DENIED, STATUS_ACCESS_VIOLATION, STATUS_INSUFFICIENT_RESOURCES, STATUS_PENDING, name, nt_error,
};
use crate::nt::types::{
    ACCESS_MASK, APC_LEVEL, DEVICE_IO_CONTROL, DEVICE_OBJECT, DO_BUFFERED_IO, DO_DIRECT_IO, FILE_OBJECT,
    FILE_READ_ACCESS, FILE_READ_DATA, FILE_WRITE_ACCESS, FILE_WRITE_DATA, FO_SYNCHRONOUS_IO, IO_STACK_LOCATION,
    IO_STATUS_BLOCK, IRP, IRP_BUFFERED_IO, IRP_DEALLOCATE_BUFFER, IRP_INPUT_OPERATION, IRP_MJ_CLEANUP, IRP_MJ_CLOSE,
    IRP_MJ_DEVICE_CONTROL, IRP_MJ_INTERNAL_DEVICE_CONTROL, IRP_MJ_READ, IRP_MJ_WRITE, IRP_READ_OPERATION,
    IRP_WRITE_OPERATION, KERNEL_MODE, KEVENT, METHOD_BUFFERED, METHOD_IN_DIRECT, METHOD_NEITHER, METHOD_OUT_DIRECT,
    NTSTATUS, PVOID, READ_WRITE, USER_MODE,
};
use crate::simulation::Condvar;
use crate::thread::current;
use crate::violation::Rule;

pub(crate) type Done = Box<dyn FnOnce(IoStatus) + Send>;

/// How the dispatch routine returned, against how the packet completed: both must say "pending", or neither.
#[derive(Default)]
struct Pending {
    bits: AtomicU8,
    /// Where the driver made its last call before its dispatch routine returned.
    left_at: AtomicUsize,
}

const RETURNED: u8 = 1;
const RETURNED_PENDING: u8 = 2;
const COMPLETED: u8 = 4;
const COMPLETED_PENDING: u8 = 8;

impl Pending {
    /// Notes one side; true if both are known and differ.
    fn note(&self, bits: u8) -> bool {
        let all = self.bits.fetch_or(bits, Ordering::AcqRel) | bits;
        all & RETURNED != 0 && all & COMPLETED != 0 && (all & RETURNED_PENDING != 0) != (all & COMPLETED_PENDING != 0)
    }

    fn is_completed(&self) -> bool {
        self.bits.load(Ordering::Acquire) & COMPLETED != 0
    }
}

/// What the I/O manager notes for a packet of its own.
pub(crate) struct Request {
    /// Unique in this process.
    pub(crate) id: u64,
    /// The requestor's identifiers.
    pub(crate) process: usize,
    pub(crate) thread: usize,
    /// The file object, which has a reference, or 0.
    pub(crate) file: usize,
    /// Bytes of output that the status' Information may name.
    output: Option<usize>,
    pending: Arc<Pending>,
    done: Option<Done>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Request {
    fn new(file: usize, output: Option<usize>, done: Option<Done>) -> Self {
        let current = current();
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            process: current.thread.process.id,
            thread: current.thread.id,
            file,
            output,
            pending: Arc::default(),
            done,
        }
    }

    /// Where the driver made its last call before its dispatch routine returned.
    pub(crate) fn left_at(&self) -> usize {
        self.pending.left_at.load(Ordering::Relaxed)
    }

    /// Takes whom to tell that it is over.
    pub(crate) fn take_done(&mut self) -> Option<Done> {
        self.done.take()
    }
}

/// A packet for the top of a device stack, with a reference to its file object. It must be sent.
fn build(kernel: &Kernel, file: &FILE_OBJECT, request: Request) -> Result<&'static IRP, NTSTATUS> {
    let target = attached(file.DeviceObject.get());
    let (body, referenced) = (ptr::from_ref(file).cast_mut(), request.file);
    let packet = irp::allocate(kernel, device(target).StackSize.get(), Owner::Kernel, Some(Box::new(request)));
    let irp = irp::at(packet.ok_or(STATUS_INSUFFICIENT_RESOURCES)?);
    kernel.objects.reference(referenced);
    irp.Thread.set(current().thread.body());
    irp.OriginalFileObject.set(body);
    irp.next().FileObject.set(body);
    Ok(irp)
}

/// Sends a packet that `build` made; the dispatch routine's status.
fn start(target: *mut DEVICE_OBJECT, irp: &IRP, pending: &Pending) -> NTSTATUS {
    irp.next().DeviceObject.set(target);
    send(irp, "NtDeviceIoControlFile");
    let status = dispatch(target, irp);
    pending.left_at.store(current().returned.get().1, Ordering::Relaxed);
    let bits = if status == STATUS_PENDING { RETURNED | RETURNED_PENDING } else { RETURNED };
    if pending.note(bits) {
        violate_returned(
            Rule::Irp,
            format!("the dispatch routine returned {}, which does not fit IoMarkIrpPending", name(status)),
        );
    }
    if status != STATUS_PENDING && !pending.is_completed() {
        violate_returned(
            Rule::Irp,
            format!("the dispatch routine returned {} without completing the IRP", name(status)),
        );
    }
    status
}

/// Sends a packet without data, and waits for it.
pub(super) fn send_and_wait(
    kernel: &Kernel,
    file: &FILE_OBJECT,
    major: u8,
    mode: i8,
    flags: u32,
    parameters: impl FnOnce(&IO_STACK_LOCATION),
) -> Result<IoStatus, NTSTATUS> {
    let (waiting, done) = waiting();
    let body = ptr::from_ref(file) as usize;
    // IRP_MJ_CLOSE comes when the last reference has gone.
    let mut request = Request::new(if major == IRP_MJ_CLOSE { 0 } else { body }, None, Some(done));
    if matches!(major, IRP_MJ_CLEANUP | IRP_MJ_CLOSE) {
        // Exiting threads and processes do not cancel these.
        (request.process, request.thread) = (0, 0);
    }
    let pending = request.pending.clone();
    let irp = build(kernel, file, request)?;
    irp.RequestorMode.set(mode);
    irp.Flags.set(flags);
    irp.next().MajorFunction.set(major);
    parameters(irp.next());
    start(attached(file.DeviceObject.get()), irp, &pending);
    Ok(wait(kernel, waiting))
}

/// Whom a packet's end is waited for by.
type Waiting = Arc<(Mutex<Option<IoStatus>>, Condvar)>;

fn waiting() -> (Waiting, Done) {
    let waiting = Waiting::default();
    let told = waiting.clone();
    let done: Done = Box::new(move |status| {
        *told.0.lock() = Some(status);
        told.1.notify_all();
    });
    (waiting, done)
}

fn wait(kernel: &Kernel, waiting: Waiting) -> IoStatus {
    let status = {
        let mut told = waiting.0.lock();
        loop {
            match told.take() {
                Some(status) => break status,
                None => waiting.1.wait(&mut told),
            }
        }
    };
    drop(waiting);
    if kernel.is_stopped() {
        escape();
    }
    status
}

/// A packet of the PnP or the power manager's for the top of a device stack. It must be sent.
pub(in crate::nt) struct Packet {
    target: usize,
    irp: usize,
    pending: Arc<Pending>,
}

impl Packet {
    /// Makes a packet; `parameters` fills the location of the stack's topmost driver, and `done` is told when it has completed.
    pub(in crate::nt) fn new(
        kernel: &Kernel,
        target: *mut DEVICE_OBJECT,
        done: Done,
        parameters: impl FnOnce(&IO_STACK_LOCATION),
    ) -> Result<Self, NTSTATUS> {
        let mut request = Request::new(0, None, Some(done));
        // Exiting threads and processes do not cancel it.
        (request.process, request.thread) = (0, 0);
        let pending = request.pending.clone();
        let packet = irp::allocate(kernel, device(target).StackSize.get(), Owner::Kernel, Some(Box::new(request)));
        let irp = irp::at(packet.ok_or(STATUS_INSUFFICIENT_RESOURCES)?);
        irp.Thread.set(current().thread.body());
        irp.RequestorMode.set(KERNEL_MODE);
        irp.IoStatus.Status.set(super::pnp::INITIAL);
        parameters(irp.next());
        // The device is there as long as the packet is on its way to it.
        kernel.objects.reference(target as usize);
        Ok(Self { target: target as usize, irp: irp.as_ptr() as usize, pending })
    }

    pub(in crate::nt) fn irp(&self) -> *mut IRP {
        self.irp as *mut IRP
    }

    pub(in crate::nt) fn send(self) {
        start(self.target as *mut DEVICE_OBJECT, irp::at(self.irp as *mut IRP), &self.pending);
        object::dereference(&current().kernel, self.target);
    }
}

/// Sends a packet of the system's to a device, and waits for it.
pub(in crate::nt) fn send_to_device(
    kernel: &Kernel,
    target: *mut DEVICE_OBJECT,
    parameters: impl FnOnce(&IO_STACK_LOCATION),
) -> Result<IoStatus, NTSTATUS> {
    let (waiting, done) = waiting();
    Packet::new(kernel, target, done, parameters)?.send();
    Ok(wait(kernel, waiting))
}

/// A caller's buffer: an address, which is a claim, and a length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) address: usize,
    pub(crate) length: u32,
}

impl Buffer {
    fn len(self) -> usize {
        self.length as usize
    }

    fn probe(self, access: Access) -> Result<(), NTSTATUS> {
        if mdl::probe(self.address, self.len(), access) { Ok(()) } else { Err(STATUS_ACCESS_VIOLATION) }
    }
}

/// A system buffer of `size` bytes with `input` at its start. What lies behind is not cleared, as on Windows.
pub(super) fn system_buffer(kernel: &Kernel, irp: &IRP, input: Buffer, size: usize) -> Result<(), NTSTATUS> {
    let block =
        kernel.pool.allocate(size, SYSTEM_BUFFER_TAG, Owner::Kernel, false).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    // SAFETY: the input was probed, and the block is at least as long.
    unsafe { ptr::copy(input.address as *const u8, block.cast::<u8>(), input.len()) };
    irp.SystemBuffer.set(block);
    irp.Flags.set(irp.Flags.get() | IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER);
    Ok(())
}

const SYSTEM_BUFFER_TAG: u32 = pool::tag(*b"IoSB");

/// Describes and locks a caller's buffer.
fn lock_buffer(kernel: &Kernel, irp: &IRP, buffer: Buffer, access: Access) -> Result<(), NTSTATUS> {
    let list = mdl::allocate(kernel, buffer.address as PVOID, buffer.len(), Owner::Kernel)
        .ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    let list = mdl::at(list).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    if !mdl::lock(list, access) {
        mdl::free(kernel, list);
        return Err(STATUS_ACCESS_VIOLATION);
    }
    irp.MdlAddress.set(ptr::from_ref(list).cast_mut());
    Ok(())
}

/// Builds buffers as the code's method says.
pub(super) fn set_up_control(
    kernel: &Kernel,
    irp: &IRP,
    code: u32,
    input: Buffer,
    output: Buffer,
    mode: i8,
) -> Result<(), NTSTATUS> {
    let mut view = DEVICE_IO_CONTROL {
        OutputBufferLength: output.length,
        InputBufferLength: input.length,
        IoControlCode: code,
        Type3InputBuffer: 0,
    };
    let method = code & 3;
    match method {
        METHOD_BUFFERED => {
            if mode == USER_MODE {
                input.probe(Access::Read)?;
                output.probe(Access::Write)?;
            }
            let size = input.len().max(output.len());
            if size != 0 {
                system_buffer(kernel, irp, input, size)?;
            }
            if output.length != 0 {
                irp.UserBuffer.set(output.address as PVOID);
                irp.Flags.set(irp.Flags.get() | IRP_INPUT_OPERATION);
            }
        }
        METHOD_IN_DIRECT | METHOD_OUT_DIRECT => {
            if input.length != 0 {
                if mode == USER_MODE {
                    input.probe(Access::Read)?;
                }
                system_buffer(kernel, irp, input, input.len())?;
            }
            if output.length != 0 {
                let access = if method == METHOD_IN_DIRECT { Access::Read } else { Access::Write };
                lock_buffer(kernel, irp, output, access)?;
            }
        }
        _ => {
            irp.UserBuffer.set(output.address as PVOID);
            view.Type3InputBuffer = input.address;
        }
    }
    irp.next().Parameters.set_device_io_control(view);
    Ok(())
}

/// Gives back what `set_up` made for a packet that is not sent after all.
fn unbuild(kernel: &Kernel, irp: &IRP) {
    let request = discard_buffers(kernel, irp);
    if let Some(request) = request {
        object::dereference(kernel, request.file);
    }
    irp::free(kernel, irp.as_ptr());
}

fn discard_buffers(kernel: &Kernel, irp: &IRP) -> Option<Box<Request>> {
    if irp.Flags.get() & IRP_DEALLOCATE_BUFFER != 0 {
        pool::free(kernel, irp.SystemBuffer.get(), SYSTEM_BUFFER_TAG);
    }
    unlock_all(kernel, irp);
    kernel.irps.take(irp)
}

/// Unlocks and frees a packet's memory descriptor lists.
fn unlock_all(kernel: &Kernel, irp: &IRP) {
    let mut next = irp.MdlAddress.replace(ptr::null_mut());
    while let Some(list) = mdl::at(next) {
        next = list.Next.get();
        if list.MdlFlags.get() & super::super::types::MDL_PAGES_LOCKED != 0 {
            mdl::unlock(list);
        }
        mdl::free(kernel, list);
    }
}

/// NtDeviceIoControlFile for a file handle of the current process. `done` is called exactly once if this succeeds; the
/// request's identifier.
///
/// # Errors
/// What the system call returns before there is a packet: the handle lacks the access the code asks for, a buffer is not
/// accessible, there is no memory.
pub(crate) fn device_control(
    kernel: &Kernel,
    file: usize,
    granted: ACCESS_MASK,
    code: u32,
    input: Buffer,
    output: Buffer,
    done: Done,
) -> Result<u64, NTSTATUS> {
    let needed = code >> 14 & 3;
    let lacks = |bit: u32, right: ACCESS_MASK| needed & bit != 0 && granted & right == 0;
    if lacks(FILE_READ_ACCESS, FILE_READ_DATA) || lacks(FILE_WRITE_ACCESS, FILE_WRITE_DATA) {
        return Err(STATUS_ACCESS_DENIED);
    }
    let counted = (code & 3 != METHOD_NEITHER).then_some(output.len());
    let set_up = |irp: &IRP| {
        irp.next().MajorFunction.set(IRP_MJ_DEVICE_CONTROL);
        set_up_control(kernel, irp, code, input, output, USER_MODE)
    };
    submit(kernel, file, counted, done, set_up)
}

fn submit(
    kernel: &Kernel,
    body: usize,
    counted: Option<usize>,
    done: Done,
    set_up: impl FnOnce(&IRP) -> Result<(), NTSTATUS>,
) -> Result<u64, NTSTATUS> {
    let file = object::file(body);
    let request = Request::new(body, counted, Some(done));
    let (id, pending) = (request.id, request.pending.clone());
    let irp = build(kernel, file, request)?;
    irp.RequestorMode.set(USER_MODE);
    if let Err(status) = set_up(irp) {
        unbuild(kernel, irp);
        return Err(status);
    }
    start(attached(file.DeviceObject.get()), irp, &pending);
    Ok(id)
}

/// A service that a driver calls for an open file: sends a packet, and waits for it if the file was opened for that. `event` is an
/// event object with a reference, or 0.
///
/// # Errors
/// The status before there was a packet.
pub(super) fn serve(
    kernel: &Kernel,
    body: usize,
    counted: Option<usize>,
    block: &IO_STATUS_BLOCK,
    event: usize,
    set_up: impl FnOnce(&IRP) -> Result<(), NTSTATUS>,
) -> Result<NTSTATUS, NTSTATUS> {
    let file = object::file(body);
    let (waiting, told) = waiting();
    KeClearEvent(&file.Event);
    let kept = Arc::new(KeptFile::new(kernel, body));
    let until_done = kept.clone();
    let done: Done = Box::new(move |status| {
        if event != 0 {
            object::dereference(&current().kernel, event);
        }
        KeSetEvent(&object::file(body).Event, 0, 0);
        // Whoever waits has the file last, so that it is closed before the service returns.
        drop(until_done);
        told(status);
    });
    let request = Request::new(body, counted, Some(done));
    let pending = request.pending.clone();
    let irp = build(kernel, file, request)?;
    irp.RequestorMode.set(KERNEL_MODE);
    irp.UserIosb.set(ptr::from_ref(block).cast_mut());
    irp.UserEvent.set(event as *mut KEVENT);
    if let Err(status) = set_up(irp) {
        unbuild(kernel, irp);
        return Err(status);
    }
    let status = start(attached(file.DeviceObject.get()), irp, &pending);
    let synchronous = file.Flags.get() & FO_SYNCHRONOUS_IO != 0;
    let status = if status == STATUS_PENDING && synchronous { wait(kernel, waiting).status } else { status };
    drop(kept);
    Ok(status)
}

/// A reference to a file, for as long as a service and its packet have to do with it.
struct KeptFile(usize);

impl KeptFile {
    fn new(kernel: &Kernel, body: usize) -> Self {
        kernel.objects.reference(body);
        Self(body)
    }
}

impl Drop for KeptFile {
    fn drop(&mut self) {
        drop_file(&current().kernel, self.0);
    }
}

/// Buffers of a read or write as its device wants them.
pub(super) fn set_up_transfer(
    kernel: &Kernel,
    irp: &IRP,
    target: *mut DEVICE_OBJECT,
    access: Access,
    buffer: Buffer,
) -> Result<(), NTSTATUS> {
    let flag = match access {
        // A read writes the caller's buffer.
        Access::Write => IRP_READ_OPERATION | IRP_INPUT_OPERATION,
        Access::Read => IRP_WRITE_OPERATION,
    };
    irp.UserBuffer.set(buffer.address as PVOID);
    let flags = device(target).Flags.get();
    if flags & DO_BUFFERED_IO != 0 && buffer.length != 0 {
        let input = if access == Access::Read { buffer } else { Buffer { length: 0, ..buffer } };
        system_buffer(kernel, irp, input, buffer.len())?;
        irp.Flags.set(irp.Flags.get() | flag);
    } else if flags & DO_DIRECT_IO != 0 && buffer.length != 0 {
        lock_buffer(kernel, irp, buffer, access)?;
    }
    Ok(())
}

/// NtReadFile or NtWriteFile for a file handle of the current process.
///
/// # Errors
/// As [`device_control`].
pub(crate) fn transfer(
    kernel: &Kernel,
    file: usize,
    granted: ACCESS_MASK,
    access: Access,
    buffer: Buffer,
    done: Done,
) -> Result<u64, NTSTATUS> {
    let (major, right) = match access {
        Access::Write => (IRP_MJ_READ, FILE_READ_DATA),
        Access::Read => (IRP_MJ_WRITE, FILE_WRITE_DATA),
    };
    if granted & right == 0 {
        return Err(STATUS_ACCESS_DENIED);
    }
    submit(kernel, file, Some(buffer.len()), done, |irp| {
        let location = irp.next();
        location.MajorFunction.set(major);
        location.Parameters.set_read_write(READ_WRITE { Length: buffer.length, Key: 0, ByteOffset: 0 });
        buffer.probe(access)?;
        set_up_transfer(kernel, irp, attached(object::file(file).DeviceObject.get()), access, buffer)
    })
}

/// The last completion routine of a packet has run: the requestor gets its data and its status, the packet goes.
pub(crate) fn finish(kernel: &Kernel, irp: &IRP, request: &Request) {
    let status = irp.IoStatus.Status.get();
    let information = irp.IoStatus.Information.get();
    let pended = irp.PendingReturned.get() != 0;
    if request.pending.note(if pended { COMPLETED | COMPLETED_PENDING } else { COMPLETED }) {
        violate(
            Rule::Irp,
            format!(
                "the IRP completed with IoMarkIrpPending {}, and its dispatch routine returned otherwise",
                if pended { "called" } else { "not called" }
            ),
        );
    }
    if let Some(output) = request.output
        && !nt_error(status)
        && information > output
    {
        violate(Rule::Irp, format!("the IRP completed with {information} bytes for a buffer of {output}"));
    }
    let flags = irp.Flags.get();
    if flags & IRP_BUFFERED_IO != 0 {
        let system = irp.SystemBuffer.get();
        if flags & IRP_INPUT_OPERATION != 0 && !nt_error(status) {
            // SAFETY: the caller's buffer was probed, and is at least `information` bytes long, as is the system buffer.
            unsafe { ptr::copy(system.cast::<u8>().cast_const(), irp.UserBuffer.get().cast::<u8>(), information) };
        }
        if flags & IRP_DEALLOCATE_BUFFER != 0 {
            pool::free(kernel, system, SYSTEM_BUFFER_TAG);
        }
    }
    unlock_all(kernel, irp);
    // A request that failed at once tells so by its return value alone.
    if !nt_error(status) || pended {
        // SAFETY: null, or the requestor's own status block, which it keeps until it is told.
        if let Some(block) = unsafe { irp.UserIosb.get().as_ref() } {
            block.Status.set(status);
            block.Information.set(information);
        }
        // SAFETY: null, or the requestor's own event, likewise.
        if let Some(event) = unsafe { irp.UserEvent.get().as_ref() } {
            KeSetEvent(event, 0, 0);
        }
    }
    let done = kernel.irps.take_done(irp);
    irp::free(kernel, irp.as_ptr());
    if request.file != 0 {
        drop_file(kernel, request.file);
    }
    if let Some(done) = done {
        done(IoStatus { status, information });
    }
}

/// Drops a packet's reference to its file object. Windows does so in the requestor's thread, not inside the driver's call.
fn drop_file(kernel: &Kernel, file: usize) {
    if kernel.objects.is_last_reference(file) {
        let owner = current().kernel.clone();
        owner.workers.queue(&owner, move || {
            object::dereference(&current().kernel, file);
        });
    } else {
        object::dereference(kernel, file);
    }
}

pub(crate) extern "win64" fn IoBuildDeviceIoControlRequest(
    code: u32,
    target: &DEVICE_OBJECT,
    input: PVOID,
    input_length: u32,
    output: PVOID,
    output_length: u32,
    internal: u8,
    event: *mut KEVENT,
    status: *mut IO_STATUS_BLOCK,
) -> *mut IRP {
    let current = called("IoBuildDeviceIoControlRequest", APC_LEVEL);
    let kernel = &current.kernel;
    if kernel.faults.allocation_fails() {
        return ptr::null_mut();
    }
    let output = Buffer { address: output as usize, length: output_length };
    let input = Buffer { address: input as usize, length: input_length };
    let counted = (code & 3 != METHOD_NEITHER).then_some(output.len());
    let request = Request::new(0, counted, None);
    let packet = irp::allocate(kernel, target.StackSize.get(), Owner::Kernel, Some(Box::new(request)));
    let Some(packet) = packet else { return ptr::null_mut() };
    let irp = irp::at(packet);
    irp.Thread.set(current.thread.body());
    irp.RequestorMode.set(KERNEL_MODE);
    irp.UserEvent.set(event);
    irp.UserIosb.set(status);
    irp.next().MajorFunction.set(if internal == 0 { IRP_MJ_DEVICE_CONTROL } else { IRP_MJ_INTERNAL_DEVICE_CONTROL });
    if set_up_control(kernel, irp, code, input, output, KERNEL_MODE).is_err() {
        discard_buffers(kernel, irp);
        irp::free(kernel, packet);
        return ptr::null_mut();
    }
    packet
}

/// What the two IoBuild…FsdRequest have in common: a packet for a read, a write, or something without data.
fn build_fsd_request(
    request: Option<Box<Request>>,
    major: u32,
    target: &DEVICE_OBJECT,
    buffer: Buffer,
    offset: i64,
    status: *mut IO_STATUS_BLOCK,
) -> Option<&'static IRP> {
    let current = current();
    let kernel = &current.kernel;
    if kernel.faults.allocation_fails() {
        return None;
    }
    let irp = irp::at(irp::allocate(kernel, target.StackSize.get(), Owner::Kernel, request)?);
    irp.Thread.set(current.thread.body());
    irp.RequestorMode.set(KERNEL_MODE);
    irp.UserIosb.set(status);
    let location = irp.next();
    let major = u8::try_from(major).unwrap_or(u8::MAX);
    location.MajorFunction.set(major);
    let access = match major {
        IRP_MJ_READ => Access::Write,
        IRP_MJ_WRITE => Access::Read,
        _ => return Some(irp),
    };
    location.Parameters.set_read_write(READ_WRITE { Length: buffer.length, Key: 0, ByteOffset: offset });
    let set_up = set_up_transfer(kernel, irp, ptr::from_ref(target).cast_mut(), access, buffer);
    if set_up.is_err() {
        discard_buffers(kernel, irp);
        irp::free(kernel, irp.as_ptr());
        return None;
    }
    Some(irp)
}

pub(crate) extern "win64" fn IoBuildSynchronousFsdRequest(
    major: u32,
    target: &DEVICE_OBJECT,
    buffer: PVOID,
    length: u32,
    offset: Option<&i64>,
    event: *mut KEVENT,
    status: *mut IO_STATUS_BLOCK,
) -> *mut IRP {
    called("IoBuildSynchronousFsdRequest", APC_LEVEL);
    let request = Some(Box::new(Request::new(0, Some(length as usize), None)));
    let buffer = Buffer { address: buffer as usize, length };
    let irp = build_fsd_request(request, major, target, buffer, offset.copied().unwrap_or(0), status);
    irp.map_or(ptr::null_mut(), |irp| {
        irp.UserEvent.set(event);
        irp.as_ptr()
    })
}

/// The packet is the driver's: its completion routine takes it back, unlocks and frees what it has, and frees it.
pub(crate) extern "win64" fn IoBuildAsynchronousFsdRequest(
    major: u32,
    target: &DEVICE_OBJECT,
    buffer: PVOID,
    length: u32,
    offset: Option<&i64>,
    status: *mut IO_STATUS_BLOCK,
) -> *mut IRP {
    called("IoBuildAsynchronousFsdRequest", APC_LEVEL);
    let buffer = Buffer { address: buffer as usize, length };
    let irp = build_fsd_request(None, major, target, buffer, offset.copied().unwrap_or(0), status);
    irp.map_or(ptr::null_mut(), IRP::as_ptr)
}

pub(crate) extern "win64" fn IoGetRequestorMode(irp: &IRP) -> i8 {
    called("IoGetRequestorMode", crate::nt::types::DISPATCH_LEVEL);
    irp.RequestorMode.get()
}

pub(in crate::nt) const EXPORTS: &[(&str, Export)] = crate::nt::exports![
    IoBuildDeviceIoControlRequest,
    IoBuildSynchronousFsdRequest,
    IoBuildAsynchronousFsdRequest,
    IoGetRequestorMode,
];
