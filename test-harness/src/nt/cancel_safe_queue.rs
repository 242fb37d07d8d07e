//! Cancel-safe queues of IRPs: the driver keeps the queue and its lock, this kernel the races with cancellation (IoCsq*).
#![allow(unsafe_code)] // queues, contexts and packets by address

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;

use super::irp::{self, IoReleaseCancelSpinLock};
use super::irql::called;
use super::status::{STATUS_SUCCESS, nt_success};
use super::types::{DEVICE_OBJECT, DISPATCH_LEVEL, IRP, KIRQL, NTSTATUS, PVOID};
use crate::image::Export;
use crate::thread::DriverCall;

/// IO_TYPE_CSQ_IRP_CONTEXT, IO_TYPE_CSQ and IO_TYPE_CSQ_EX.
const TYPE_CONTEXT: u32 = 1;
const TYPE_QUEUE: u32 = 2;
const TYPE_QUEUE_EX: u32 = 3;

type Insert = extern "win64" fn(&IO_CSQ, *mut IRP, PVOID) -> NTSTATUS;
type Remove = extern "win64" fn(&IO_CSQ, *mut IRP);
type PeekNext = extern "win64" fn(&IO_CSQ, *mut IRP, PVOID) -> *mut IRP;
type Acquire = extern "win64" fn(&IO_CSQ, &Cell<KIRQL>);
type Release = extern "win64" fn(&IO_CSQ, KIRQL);

/// IO_CSQ. The plain insert routine takes two arguments and returns nothing; it can be called like the other.
#[repr(C)]
pub(crate) struct IO_CSQ {
    Type: Cell<u32>,
    CsqInsertIrp: Cell<Option<Insert>>,
    CsqRemoveIrp: Cell<Option<Remove>>,
    CsqPeekNextIrp: Cell<Option<PeekNext>>,
    CsqAcquireLock: Cell<Option<Acquire>>,
    CsqReleaseLock: Cell<Option<Release>>,
    CsqCompleteCanceledIrp: Cell<Option<Remove>>,
    ReservePointer: Cell<PVOID>,
}

/// IO_CSQ_IRP_CONTEXT.
#[repr(C)]
pub(crate) struct IO_CSQ_IRP_CONTEXT {
    Type: Cell<u32>,
    Irp: Cell<*mut IRP>,
    Csq: Cell<*const IO_CSQ>,
}

/// Where a queued packet has its context, or its queue.
const SLOT: usize = 3;

impl IO_CSQ {
    /// The driver's routines change the IRQL by its lock, so they are called without the checks of a callout.
    fn lock(&self) -> KIRQL {
        let call = DriverCall::get();
        let irql = Cell::new(0);
        if let Some(acquire) = self.CsqAcquireLock.get() {
            acquire(self, &irql);
        }
        call.put_back();
        irql.get()
    }

    fn unlock(&self, irql: KIRQL) {
        let call = DriverCall::get();
        if let Some(release) = self.CsqReleaseLock.get() {
            release(self, irql);
        }
        call.put_back();
    }

    fn insert(&self, irp: &IRP, context: PVOID) -> NTSTATUS {
        let call = DriverCall::get();
        let status = self.CsqInsertIrp.get().map_or(STATUS_SUCCESS, |insert| insert(self, irp.as_ptr(), context));
        call.put_back();
        if self.Type.get() == TYPE_QUEUE { STATUS_SUCCESS } else { status }
    }

    fn remove(&self, irp: &IRP) {
        let call = DriverCall::get();
        if let Some(remove) = self.CsqRemoveIrp.get() {
            remove(self, irp.as_ptr());
        }
        call.put_back();
    }

    fn peek<'a>(&self, after: *mut IRP, context: PVOID) -> Option<&'a IRP> {
        let call = DriverCall::get();
        let next = self.CsqPeekNextIrp.get().map_or(ptr::null_mut(), |peek| peek(self, after, context));
        call.put_back();
        (!next.is_null()).then(|| irp::at(next))
    }

    fn complete_canceled(&self, irp: &IRP) {
        let call = DriverCall::get();
        if let Some(complete) = self.CsqCompleteCanceledIrp.get() {
            complete(self, irp.as_ptr());
        }
        call.put_back();
    }
}

/// The packet's context, if it has one.
fn context_of<'a>(irp: &IRP) -> Option<&'a IO_CSQ_IRP_CONTEXT> {
    // SAFETY: a queued packet has a queue or a context there; both begin with their type.
    let context = unsafe { &*irp.DriverContext[SLOT].get().cast::<IO_CSQ_IRP_CONTEXT>() };
    (context.Type.get() == TYPE_CONTEXT).then_some(context)
}

fn forget_context(irp: &IRP) {
    if let Some(context) = context_of(irp) {
        context.Irp.set(ptr::null_mut());
    }
    irp.DriverContext[SLOT].set(ptr::null_mut());
}

/// Takes the cancel routine out; false if the packet is being cancelled.
fn disarm(irp: &IRP) -> bool {
    !irp.CancelRoutine.swap(ptr::null_mut(), Ordering::SeqCst).is_null()
}

extern "win64" fn cancelled(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let irp = irp::at(irp);
    IoReleaseCancelSpinLock(irp.CancelIrql.get());
    let queue = match context_of(irp) {
        Some(context) => context.Csq.get(),
        None => irp.DriverContext[SLOT].get().cast_const().cast(),
    };
    // SAFETY: the driver keeps the queue while packets are in it.
    let queue = unsafe { &*queue };
    let irql = queue.lock();
    queue.remove(irp);
    forget_context(irp);
    queue.unlock(irql);
    queue.complete_canceled(irp);
}

#[allow(clippy::too_many_arguments)]
pub(crate) extern "win64" fn IoCsqInitialize(
    queue: &IO_CSQ,
    insert: Option<Insert>,
    remove: Option<Remove>,
    peek: Option<PeekNext>,
    acquire: Option<Acquire>,
    release: Option<Release>,
    complete_canceled: Option<Remove>,
) -> NTSTATUS {
    called("IoCsqInitialize", DISPATCH_LEVEL);
    queue.Type.set(TYPE_QUEUE);
    queue.CsqInsertIrp.set(insert);
    queue.CsqRemoveIrp.set(remove);
    queue.CsqPeekNextIrp.set(peek);
    queue.CsqAcquireLock.set(acquire);
    queue.CsqReleaseLock.set(release);
    queue.CsqCompleteCanceledIrp.set(complete_canceled);
    queue.ReservePointer.set(ptr::null_mut());
    STATUS_SUCCESS
}

#[allow(clippy::too_many_arguments)]
pub(crate) extern "win64" fn IoCsqInitializeEx(
    queue: &IO_CSQ,
    insert: Option<Insert>,
    remove: Option<Remove>,
    peek: Option<PeekNext>,
    acquire: Option<Acquire>,
    release: Option<Release>,
    complete_canceled: Option<Remove>,
) -> NTSTATUS {
    called("IoCsqInitializeEx", DISPATCH_LEVEL);
    let status = IoCsqInitialize(queue, insert, remove, peek, acquire, release, complete_canceled);
    queue.Type.set(TYPE_QUEUE_EX);
    status
}

fn insert(queue: &IO_CSQ, irp: &IRP, context: Option<&IO_CSQ_IRP_CONTEXT>, inserted: PVOID) -> NTSTATUS {
    match context {
        Some(context) => {
            context.Type.set(TYPE_CONTEXT);
            context.Irp.set(irp.as_ptr());
            context.Csq.set(queue);
            irp.DriverContext[SLOT].set(ptr::from_ref(context).cast_mut().cast());
        }
        None => irp.DriverContext[SLOT].set(ptr::from_ref(queue).cast_mut().cast()),
    }
    let irql = queue.lock();
    let status = queue.insert(irp, inserted);
    if !nt_success(status) {
        forget_context(irp);
        queue.unlock(irql);
        return status;
    }
    irp.mark_pending();
    irp.CancelRoutine.store(cancelled as *const () as *mut c_void, Ordering::SeqCst);
    if irp.Cancel.load(Ordering::SeqCst) != 0 && disarm(irp) {
        queue.remove(irp);
        forget_context(irp);
        queue.unlock(irql);
        queue.complete_canceled(irp);
    } else {
        queue.unlock(irql);
    }
    status
}

pub(crate) extern "win64" fn IoCsqInsertIrp(queue: &IO_CSQ, irp: &IRP, context: Option<&IO_CSQ_IRP_CONTEXT>) {
    called("IoCsqInsertIrp", DISPATCH_LEVEL);
    insert(queue, irp, context, ptr::null_mut());
}

pub(crate) extern "win64" fn IoCsqInsertIrpEx(
    queue: &IO_CSQ,
    irp: &IRP,
    context: Option<&IO_CSQ_IRP_CONTEXT>,
    inserted: PVOID,
) -> NTSTATUS {
    called("IoCsqInsertIrpEx", DISPATCH_LEVEL);
    insert(queue, irp, context, inserted)
}

pub(crate) extern "win64" fn IoCsqRemoveIrp(queue: &IO_CSQ, context: &IO_CSQ_IRP_CONTEXT) -> *mut IRP {
    called("IoCsqRemoveIrp", DISPATCH_LEVEL);
    let irql = queue.lock();
    let held = context.Irp.get();
    let taken = !held.is_null() && disarm(irp::at(held));
    if taken {
        queue.remove(irp::at(held));
        forget_context(irp::at(held));
    }
    queue.unlock(irql);
    if taken { held } else { ptr::null_mut() }
}

pub(crate) extern "win64" fn IoCsqRemoveNextIrp(queue: &IO_CSQ, wanted: PVOID) -> *mut IRP {
    called("IoCsqRemoveNextIrp", DISPATCH_LEVEL);
    let irql = queue.lock();
    let mut next = queue.peek(ptr::null_mut(), wanted);
    while let Some(irp) = next {
        if disarm(irp) {
            queue.remove(irp);
            forget_context(irp);
            break;
        }
        next = queue.peek(irp.as_ptr(), wanted);
    }
    queue.unlock(irql);
    next.map_or(ptr::null_mut(), IRP::as_ptr)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    IoCsqInitialize,
    IoCsqInitializeEx,
    IoCsqInsertIrp,
    IoCsqInsertIrpEx,
    IoCsqRemoveIrp,
    IoCsqRemoveNextIrp,
];
