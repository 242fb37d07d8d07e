//! I/O request packets: allocation, the way down a device stack and back up, and cancellation.
#![allow(unsafe_code)] // packets are found by address

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::dpc;
use super::io::request::{self, Done, Request};
use super::irql::{called, called_from};
use super::lock_order::none_across;
use super::pool::{self, Owner};
use super::spin_lock::{acquire, release};
use super::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS,
    STATUS_SYSTEM_SHUTDOWN, nt_success,
};
use super::types::{
    DEVICE_OBJECT, DISPATCH_LEVEL, DRIVER_CANCEL, GUID, IO_COMPLETION_ROUTINE, IO_STACK_LOCATION, IO_TYPE_IRP, IRP,
    KIRQL, KSPIN_LOCK, NTSTATUS, PVOID, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS,
    SL_PENDING_RETURNED,
};
use crate::guard::{callout, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::machine::IoStatus;
use crate::thread::{current, kernel};
use crate::violation::Rule;

const TAG: u32 = pool::tag(*b"Irp ");

/// Who may do what with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its owner has it: it may be sent, reused and freed.
    Held,
    /// It was sent, and has not come back.
    Sent,
    /// Its last completion routine has run; the I/O manager is finishing it.
    Finishing,
    /// Nobody needs it but the cancellers that look at it.
    Finished,
}

struct Record {
    phase: Phase,
    /// Whether IoFreeIrp frees it; false for packets in memory of the driver's own.
    allocated: bool,
    /// What the I/O manager has to do when it completes, for packets that it made.
    request: Option<Box<Request>>,
    /// Who is to be told, while the I/O manager is finishing it.
    done: Option<Done>,
    /// Cancellers that look at the packet; its memory stays while there are any.
    pins: usize,
    /// Whether WSK had it last.
    wsk: bool,
    /// Whether it has come back, and IoReuseIrp has not been called since.
    spent: bool,
    marks: Marks,
}

/// What drivers have noted at a packet.
#[derive(Default)]
struct Marks {
    /// PoSetSystemWake has been called for it.
    system_wake: bool,
    /// What IoSetActivityIdIrp gave it.
    activity: Option<GUID>,
}

/// The packets of a machine.
#[derive(Default)]
pub(crate) struct Irps {
    records: Mutex<HashMap<usize, Record>>,
    /// Packets in memory that drivers allocated for themselves.
    embedded: Mutex<BTreeSet<usize>>,
    cancel_lock: KSPIN_LOCK,
    pinned_frees: AtomicUsize,
}

/// A packet by its address.
pub(crate) fn at<'a>(irp: *mut IRP) -> &'a IRP {
    // SAFETY: drivers and this kernel pass packets on by address; a freed one faults, which the guard reports.
    unsafe { &*irp }
}

fn packet_size(stack_size: i8) -> usize {
    size_of::<IRP>() + usize::try_from(stack_size).unwrap_or(0) * size_of::<IO_STACK_LOCATION>()
}

/// Sets a packet to its initial state, over `size` bytes.
fn initialize(irp: *mut IRP, size: usize, stack_size: i8) {
    // SAFETY: the packet's owner says that `size` bytes are there; bad memory faults, which the guard reports.
    unsafe { ptr::write_bytes(irp.cast::<u8>(), 0, size) };
    let irp = at(irp);
    irp.Type.set(IO_TYPE_IRP);
    irp.Size.set(u16::try_from(size).unwrap_or(u16::MAX));
    irp.StackCount.set(stack_size);
    irp.CurrentLocation.set(stack_size + 1);
    irp.CurrentStackLocation.set(irp.location_address(stack_size + 1));
    let head = ptr::from_ref(&irp.ThreadListEntry).cast_mut();
    irp.ThreadListEntry.Flink.set(head);
    irp.ThreadListEntry.Blink.set(head);
}

impl Irps {
    /// Packets that were allocated, and those in memory of drivers' own that are on their way: the rest of these is memory.
    pub(crate) fn live(&self) -> usize {
        self.records.lock().values().filter(|record| record.allocated || record.phase != Phase::Held).count()
    }

    fn phase(&self, irp: &IRP) -> Option<Phase> {
        self.records.lock().get(&(irp.as_ptr() as usize)).map(|record| record.phase)
    }

    fn set_phase(&self, irp: &IRP, phase: Phase) -> Option<Phase> {
        let mut records = self.records.lock();
        let record = records.get_mut(&(irp.as_ptr() as usize))?;
        Some(std::mem::replace(&mut record.phase, phase))
    }

    /// A packet that its owner has is sent.
    fn send_held(&self, irp: &IRP) {
        if let Some(record) = self.records.lock().get_mut(&(irp.as_ptr() as usize))
            && matches!(record.phase, Phase::Held)
        {
            record.phase = Phase::Sent;
        }
    }

    fn insert(&self, irp: *mut IRP, allocated: bool, request: Option<Box<Request>>) {
        let record = Record {
            phase: Phase::Held,
            allocated,
            request,
            done: None,
            pins: 0,
            wsk: false,
            spent: false,
            marks: Marks::default(),
        };
        self.records.lock().insert(irp as usize, record);
    }

    /// WSK takes a packet. False if it has been used before, and not been made ready again.
    pub(crate) fn enter_wsk(&self, irp: &IRP) -> bool {
        let mut records = self.records.lock();
        let Some(record) = records.get_mut(&(irp.as_ptr() as usize)) else { return true };
        record.wsk = true;
        !record.spent
    }

    /// Whether the I/O manager made a packet.
    fn is_of_the_system(&self, irp: &IRP) -> bool {
        self.records.lock().get(&(irp.as_ptr() as usize)).is_some_and(|record| record.request.is_some())
    }

    fn is_of_wsk(&self, irp: &IRP) -> bool {
        self.records.lock().get(&(irp.as_ptr() as usize)).is_some_and(|record| record.wsk)
    }

    fn set_spent(&self, irp: &IRP, spent: bool) {
        if let Some(record) = self.records.lock().get_mut(&(irp.as_ptr() as usize)) {
            record.spent = spent;
        }
    }

    pub(super) fn set_system_wake(&self, irp: &IRP) {
        if let Some(record) = self.records.lock().get_mut(&(irp.as_ptr() as usize)) {
            record.marks.system_wake = true;
        }
    }

    pub(super) fn set_activity(&self, irp: &IRP, activity: Option<GUID>) {
        if let Some(record) = self.records.lock().get_mut(&(irp.as_ptr() as usize)) {
            record.marks.activity = activity;
        }
    }

    pub(super) fn activity(&self, irp: &IRP) -> Option<GUID> {
        self.records.lock().get(&(irp.as_ptr() as usize))?.marks.activity
    }

    pub(super) fn is_system_wake(&self, irp: &IRP) -> bool {
        self.records.lock().get(&(irp.as_ptr() as usize)).is_some_and(|record| record.marks.system_wake)
    }

    /// Takes what the I/O manager noted for a packet, but for whom to tell: a machine that stops while the packet is being
    /// finished tells them too.
    pub(crate) fn take(&self, irp: &IRP) -> Option<Box<Request>> {
        let mut records = self.records.lock();
        let record = records.get_mut(&(irp.as_ptr() as usize))?;
        let mut request = record.request.take()?;
        record.done = request.take_done();
        Some(request)
    }

    /// Takes whom to tell that a packet has been finished.
    pub(crate) fn take_done(&self, irp: &IRP) -> Option<Done> {
        self.records.lock().get_mut(&(irp.as_ptr() as usize))?.done.take()
    }

    /// Pins the sent packets that the I/O manager made and that `wanted` chooses; in the order in which they were issued.
    fn pin(&self, wanted: impl Fn(&Request) -> bool) -> Vec<usize> {
        let mut records = self.records.lock();
        let chosen = records
            .iter_mut()
            .filter(|(_, record)| record.phase == Phase::Sent && record.request.as_deref().is_some_and(&wanted));
        let mut pinned: Vec<(u64, usize)> = chosen
            .map(|(address, record)| {
                record.pins += 1;
                (record.request.as_deref().map_or(0, |request| request.id), *address)
            })
            .collect();
        pinned.sort_unstable();
        pinned.into_iter().map(|(_, address)| address).collect()
    }

    /// Whether a packet that the I/O manager made and that `wanted` chooses is still pending.
    pub(crate) fn any(&self, wanted: impl Fn(&Request) -> bool) -> bool {
        self.records.lock().values().any(|record| record.request.as_deref().is_some_and(&wanted))
    }

    /// Where the driver was last seen with a pending packet that `wanted` chooses, if that is known.
    pub(crate) fn left_at(&self, wanted: impl Fn(&Request) -> bool) -> Vec<usize> {
        let records = self.records.lock();
        let request = records.values().filter_map(|record| record.request.as_deref()).find(|request| wanted(request));
        request.map(Request::left_at).filter(|site| *site != 0).map(|site| site - 1).into_iter().collect()
    }

    /// Ends every request of a machine that has stopped: its issuer is told, its memory stays.
    pub(crate) fn abandon(&self) {
        let told: Vec<Done> = {
            let mut records = self.records.lock();
            let whom = |record: &mut Record| {
                record.done.take().or_else(|| record.request.take().and_then(|mut request| request.take_done()))
            };
            records.values_mut().filter_map(whom).collect()
        };
        for done in told {
            done(IoStatus { status: STATUS_SYSTEM_SHUTDOWN, information: 0 });
        }
    }

    /// Packets in a range of memory that is being freed must not be under way.
    pub(crate) fn forget_in(&self, range: &Range<usize>) {
        let inside: Vec<usize> = {
            let embedded = self.embedded.lock();
            if embedded.is_empty() {
                return;
            }
            embedded.range(range.clone()).copied().collect()
        };
        for address in inside {
            self.embedded.lock().remove(&address);
            let record = self.records.lock().remove(&address);
            if record.is_some_and(|record| record.phase != Phase::Held) {
                violate(Rule::Irp, "the freed memory holds an IRP that has not completed");
            }
        }
    }
}

/// Allocates a packet, with what the I/O manager will do when it completes. None if there is no memory.
pub(crate) fn allocate(
    kernel: &Kernel,
    stack_size: i8,
    owner: Owner,
    request: Option<Box<Request>>,
) -> Option<*mut IRP> {
    let size = packet_size(stack_size);
    let irp = kernel.pool.allocate(size, TAG, owner, false)?.cast::<IRP>();
    initialize(irp, size, stack_size);
    kernel.irps.insert(irp, true, request);
    Some(irp)
}

/// Frees a packet, or leaves that to the last canceller that looks at it.
pub(crate) fn free(kernel: &Kernel, irp: *mut IRP) {
    let pinned = {
        let mut records = kernel.irps.records.lock();
        match records.get_mut(&(irp as usize)) {
            Some(record) if record.pins > 0 => {
                record.phase = Phase::Finished;
                true
            }
            Some(_) | None => {
                records.remove(&(irp as usize));
                false
            }
        }
    };
    if pinned {
        kernel.irps.pinned_frees.fetch_add(1, Ordering::Relaxed);
    } else {
        pool::free(kernel, irp.cast(), TAG);
    }
}

fn unpin(kernel: &Kernel, address: usize) {
    let finished = {
        let mut records = kernel.irps.records.lock();
        let Some(record) = records.get_mut(&address) else { return };
        record.pins -= 1;
        let finished = record.pins == 0 && record.phase == Phase::Finished;
        if finished {
            records.remove(&address);
        }
        finished
    };
    if finished {
        pool::free(kernel, address as PVOID, TAG);
    }
}

/// Cancels the pending requests that `wanted` chooses; how many there were.
pub(crate) fn cancel_requests(kernel: &Kernel, wanted: impl Fn(&Request) -> bool) -> usize {
    let chosen = kernel.irps.pin(wanted);
    for address in &chosen {
        cancel(at(*address as *mut IRP));
        unpin(kernel, *address);
    }
    chosen.len()
}

/// Ends the call if this is no packet in the phase that the call needs.
fn expect(irp: &IRP, phase: Phase, call: &str) {
    let kernel = kernel();
    if irp.Type.get() != IO_TYPE_IRP {
        violate(Rule::Irp, format!("{call}: {irp:p} is not an IRP (type {})", irp.Type.get(), irp = irp.as_ptr()));
    }
    match (kernel.irps.phase(irp), phase) {
        (Some(Phase::Held), Phase::Held) | (Some(Phase::Sent), Phase::Sent) => {}
        (None, _) => violate(Rule::Irp, format!("{call}: the IRP was never allocated, or it has been freed")),
        (Some(Phase::Sent), _) => {
            let rule = if kernel.irps.is_of_wsk(irp) { Rule::Wsk(9) } else { Rule::Irp };
            violate(rule, format!("{call}: the IRP was sent, and has not completed"));
        }
        (Some(Phase::Held | Phase::Finishing | Phase::Finished), _) => {
            violate(
                Rule::Irp,
                format!("{call}: the IRP is not under way: it was never sent, or it has completed already"),
            );
        }
    }
}

pub(crate) extern "win64" fn IoAllocateIrp(stack_size: i8, _charge_quota: u8) -> *mut IRP {
    let current = called("IoAllocateIrp", DISPATCH_LEVEL);
    if stack_size < 1 {
        violate(Rule::Irp, format!("IoAllocateIrp with a stack of {stack_size}"));
    }
    if current.kernel.faults.allocation_fails() {
        return ptr::null_mut();
    }
    allocate(&current.kernel, stack_size, Owner::Driver, None).unwrap_or(ptr::null_mut())
}

pub(crate) extern "win64" fn IoSizeOfIrp(stack_size: i8) -> u16 {
    u16::try_from(packet_size(stack_size)).unwrap_or(u16::MAX)
}

pub(crate) extern "win64" fn IoInitializeIrp(irp: *mut IRP, size: u16, stack_size: i8) {
    let current = called("IoInitializeIrp", DISPATCH_LEVEL);
    if usize::from(size) < packet_size(stack_size) {
        violate(Rule::Irp, format!("IoInitializeIrp: {size} bytes are too few for {stack_size} stack locations"));
    }
    if current.kernel.irps.phase(at(irp)).is_some_and(|phase| phase != Phase::Held) {
        violate(Rule::Irp, "IoInitializeIrp of an IRP that was sent and has not completed");
    }
    initialize(irp, size.into(), stack_size);
    current.kernel.irps.embedded.lock().insert(irp as usize);
    current.kernel.irps.insert(irp, false, None);
}

pub(crate) extern "win64" fn IoReuseIrp(irp: &IRP, status: NTSTATUS) {
    called("IoReuseIrp", DISPATCH_LEVEL);
    expect(irp, Phase::Held, "IoReuseIrp");
    let flags = irp.AllocationFlags.get();
    initialize(irp.as_ptr(), irp.Size.get().into(), irp.StackCount.get());
    irp.AllocationFlags.set(flags);
    irp.IoStatus.Status.set(status);
    kernel().irps.set_spent(irp, false);
}

pub(crate) extern "win64" fn IoFreeIrp(irp: &IRP) {
    let current = called("IoFreeIrp", DISPATCH_LEVEL);
    expect(irp, Phase::Held, "IoFreeIrp");
    let allocated =
        current.kernel.irps.records.lock().get(&(irp.as_ptr() as usize)).is_some_and(|record| record.allocated);
    if !allocated {
        violate(Rule::Irp, "IoFreeIrp of an IRP that IoAllocateIrp did not allocate");
    }
    free(&current.kernel, irp.as_ptr());
}

/// Sets the routine that is called when the next lower driver completes the packet (the macro IoSetCompletionRoutine).
pub(crate) fn set_completion_routine(irp: &IRP, routine: IO_COMPLETION_ROUTINE, context: PVOID, control: u8) {
    let next = irp.next();
    next.CompletionRoutine.set(Some(routine));
    next.Context.set(context);
    next.Control.set(control);
}

pub(crate) extern "win64" fn IoSetCompletionRoutineEx(
    _device: *mut DEVICE_OBJECT,
    irp: &IRP,
    routine: IO_COMPLETION_ROUTINE,
    context: PVOID,
    on_success: u8,
    on_error: u8,
    on_cancel: u8,
) -> NTSTATUS {
    let current = called("IoSetCompletionRoutineEx", DISPATCH_LEVEL);
    if current.kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let flag = |wanted: u8, flag: u8| if wanted == 0 { 0 } else { flag };
    let control = flag(on_success, SL_INVOKE_ON_SUCCESS)
        | flag(on_error, SL_INVOKE_ON_ERROR)
        | flag(on_cancel, SL_INVOKE_ON_CANCEL);
    set_completion_routine(irp, routine, context, control);
    STATUS_SUCCESS
}

/// Makes the next stack location current and the packet sent, as IoCallDriver begins. WSK takes packets so, too.
pub(crate) fn send(irp: &IRP, call: &str) {
    let kernel = kernel();
    if irp.Type.get() != IO_TYPE_IRP {
        violate(Rule::Irp, format!("{call}: {:p} is not an IRP (type {})", irp.as_ptr(), irp.Type.get()));
    }
    if irp.CurrentLocation.get() <= 1 {
        violate(Rule::Irp, format!("{call}: the IRP has no stack location left"));
    }
    // A driver that passes a packet on with its own location (IoSkipCurrentIrpStackLocation) is at the top, too.
    let passed_on = kernel.irps.is_of_the_system(irp) || current().routine.get() == "a dispatch routine";
    let top = irp.CurrentLocation.get() > irp.StackCount.get() && !passed_on;
    match kernel.irps.set_phase(irp, Phase::Sent) {
        None => violate(Rule::Irp, format!("{call}: the IRP was never allocated, or it has been freed")),
        Some(Phase::Sent) if top => violate(Rule::Irp, format!("{call}: the IRP was sent, and has not completed")),
        Some(Phase::Finishing | Phase::Finished) => {
            violate(Rule::Irp, format!("{call}: the IRP has completed already"))
        }
        Some(Phase::Sent | Phase::Held) => {}
    }
    irp.CurrentLocation.set(irp.CurrentLocation.get() - 1);
    irp.CurrentStackLocation.set(irp.location_address(irp.CurrentLocation.get()));
}

pub(crate) extern "win64" fn IofCallDriver(device: &DEVICE_OBJECT, irp: &IRP) -> NTSTATUS {
    none_across(called("IofCallDriver", DISPATCH_LEVEL), "IofCallDriver");
    let device = ptr::from_ref(device).cast_mut();
    send(irp, "IofCallDriver");
    irp.current().DeviceObject.set(device);
    super::io::dispatch(device, irp)
}

/// A packet whose driver has taken a stack location itself (IoSetNextIrpStackLocation), as a function does that completes its
/// caller's packet, is as good as sent.
fn take_own(current: &crate::thread::Current, irp: &IRP) {
    if irp.Type.get() == IO_TYPE_IRP && irp.CurrentLocation.get() <= irp.StackCount.get() {
        current.kernel.irps.send_held(irp);
    }
}

pub(crate) extern "win64" fn IofCompleteRequest(irp: &IRP, _boost: i8) {
    let current = called("IofCompleteRequest", DISPATCH_LEVEL);
    none_across(current, current.call.get());
    take_own(current, irp);
    expect(irp, Phase::Sent, "IofCompleteRequest");
    let status = irp.IoStatus.Status.get();
    if status == STATUS_PENDING || status == -1 {
        violate(Rule::Irp, format!("IofCompleteRequest: the IRP's status is {}", super::status::name(status)));
    }
    if !irp.CancelRoutine.load(Ordering::Acquire).is_null() {
        violate(Rule::Irp, "IofCompleteRequest: the IRP still has a cancel routine");
    }
    let count = irp.StackCount.get();
    while irp.CurrentLocation.get() <= count {
        let location = irp.location(irp.CurrentLocation.get());
        irp.CurrentLocation.set(irp.CurrentLocation.get() + 1);
        let upper = irp.CurrentLocation.get();
        irp.CurrentStackLocation.set(irp.location_address(upper));
        let control = location.Control.get();
        irp.PendingReturned.set(control & SL_PENDING_RETURNED);
        let flag = if nt_success(irp.IoStatus.Status.get()) { SL_INVOKE_ON_SUCCESS } else { SL_INVOKE_ON_ERROR };
        let wanted =
            control & flag != 0 || control & SL_INVOKE_ON_CANCEL != 0 && irp.Cancel.load(Ordering::Acquire) != 0;
        let routine = if wanted { location.CompletionRoutine.get() } else { None };
        let context = location.Context.get();
        clear(location);
        if let Some(routine) = routine {
            let device = if upper > count { ptr::null_mut() } else { irp.location(upper).DeviceObject.get() };
            if upper > count {
                // Its sender has it again, and may free or reuse it in the routine.
                current.kernel.irps.set_phase(irp, Phase::Held);
                current.kernel.irps.set_spent(irp, true);
            }
            let packet = irp.as_ptr();
            if callout("a completion routine", || routine(device, packet, context)) == STATUS_MORE_PROCESSING_REQUIRED {
                return;
            }
            current.kernel.irps.set_phase(irp, Phase::Sent);
        } else if irp.PendingReturned.get() != 0 && upper <= count {
            irp.mark_pending();
        }
    }
    current.kernel.irps.set_phase(irp, Phase::Finishing);
    match current.kernel.irps.take(irp) {
        Some(request) => request::finish(&current.kernel, irp, &request),
        None => violate(
            if current.kernel.irps.is_of_wsk(irp) { Rule::Wsk(7) } else { Rule::Irp },
            "a driver's own IRP went on to the I/O manager: its completion routine must return STATUS_MORE_PROCESSING_REQUIRED",
        ),
    }
}

/// A location that has completed keeps nothing of its driver's (IopClearStackLocation).
fn clear(location: &IO_STACK_LOCATION) {
    location.MinorFunction.set(0);
    location.Flags.set(0);
    location.Control.set(0);
    for argument in &location.Parameters.Argument {
        argument.set(0);
    }
    location.FileObject.set(ptr::null_mut());
    location.CompletionRoutine.set(None);
    location.Context.set(ptr::null_mut());
}

pub(crate) extern "win64" fn IoAcquireCancelSpinLock(irql: &std::cell::Cell<KIRQL>) {
    let current = called("IoAcquireCancelSpinLock", DISPATCH_LEVEL);
    let old = current.irql.replace(DISPATCH_LEVEL);
    acquire(current, &current.kernel.irps.cancel_lock);
    irql.set(old);
}

pub(crate) extern "win64" fn IoReleaseCancelSpinLock(irql: KIRQL) {
    let current = called_from("IoReleaseCancelSpinLock", DISPATCH_LEVEL, DISPATCH_LEVEL);
    release(current, &current.kernel.irps.cancel_lock);
    current.irql.set(irql);
    dpc::retire(current);
}

pub(crate) extern "win64" fn IoCancelIrp(irp: &IRP) -> u8 {
    let current = called("IoCancelIrp", DISPATCH_LEVEL);
    none_across(current, "IoCancelIrp");
    // The packet is read when it is known to be one: a driver may just have made it, in memory of its own, on another thread.
    if current.kernel.irps.phase(irp).is_none() || irp.Type.get() != IO_TYPE_IRP {
        violate(Rule::Irp, "IoCancelIrp: the IRP was never allocated, or it has been freed");
    }
    u8::from(cancel(irp))
}

/// Sets the packet's cancel flag, and calls its cancel routine if it has one.
fn cancel(irp: &IRP) -> bool {
    let current = current();
    callout("IoCancelIrp", || {
        let old = current.irql.replace(DISPATCH_LEVEL);
        acquire(current, &current.kernel.irps.cancel_lock);
        irp.Cancel.store(1, Ordering::Release);
        let routine = irp.CancelRoutine.swap(ptr::null_mut(), Ordering::AcqRel);
        if routine.is_null() {
            release(current, &current.kernel.irps.cancel_lock);
            current.irql.set(old);
            return false;
        }
        irp.CancelIrql.set(old);
        // SAFETY: only IoSetCancelRoutine stores here, and what it stores is a DRIVER_CANCEL.
        let routine = unsafe { std::mem::transmute::<PVOID, DRIVER_CANCEL>(routine) };
        let location = irp.CurrentLocation.get();
        let device =
            if location > irp.StackCount.get() { ptr::null_mut() } else { irp.location(location).DeviceObject.get() };
        // It releases the cancel spin lock.
        routine(device, irp.as_ptr());
        true
    })
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    IoAllocateIrp,
    IoSizeOfIrp,
    IoInitializeIrp,
    IoReuseIrp,
    IoFreeIrp,
    IoSetCompletionRoutineEx,
    IofCallDriver,
    IofCompleteRequest,
    IoAcquireCancelSpinLock,
    IoReleaseCancelSpinLock,
    IoCancelIrp,
];
