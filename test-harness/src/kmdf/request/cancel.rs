//! Cancelling a request: while it waits in a queue, and while the driver has it and has said that it may be cancelled.
#![allow(unsafe_code)] // calls what the client has stored

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Request;
use crate::guard::{callout, violate};
use crate::kmdf::object::{self, Object, expect_kind};
use crate::kmdf::presentation::defer;
use crate::kmdf::queue;
use crate::kmdf::types::HANDLE;
use crate::nt::irp::{self, IoReleaseCancelSpinLock};
use crate::nt::irql::called;
use crate::nt::status::{STATUS_CANCELLED, STATUS_SUCCESS};
use crate::nt::types::{DEVICE_OBJECT, DISPATCH_LEVEL, IRP, NTSTATUS, PVOID};
use crate::thread::current;
use crate::violation::Rule;

type CancelCallback = extern "win64" fn(HANDLE);

pub(crate) extern "win64" fn WdfRequestIsCanceled(_globals: usize, handle: HANDLE) -> u8 {
    called("WdfRequestIsCanceled", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Request).irp().Cancel.load(Ordering::Acquire)
}

/// The cancel routine of an IRP that its driver has made cancelable, or that waits in a queue; the IRP's DriverContext names
/// the request.
extern "win64" fn cancel_routine(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let irp = irp::at(irp);
    let handle = irp.DriverContext[0].get() as usize;
    let object = object::try_find(handle);
    if let Some(object) = &object {
        // The callback may be met by a completion elsewhere: the request stays until the callback has returned.
        object.reference();
    }
    IoReleaseCancelSpinLock(irp.CancelIrql.get());
    let Some(object) = object else { return };
    let request = expect_kind!(object, Request);
    let callback = request.cancel.swap(ptr::null_mut(), Ordering::AcqRel);
    if callback.is_null() {
        queue::cancelled_in_queue(&object, request);
    } else {
        // SAFETY: `mark` stored a callback of this type.
        let callback: CancelCallback = unsafe { std::mem::transmute(callback) };
        call_cancel(&object, request, callback);
    }
    object.dereference();
}

/// Cancels a request if the driver, which has it, has made it cancelable: its queue is purged.
pub(in crate::kmdf) fn cancel_presented(object: &Arc<Object>) {
    let request = expect_kind!(object, Request);
    let callback = {
        let _kept = request.kept.lock();
        match request.packet() {
            // One that waits has no callback; the purge has looked for these.
            Some(irp) if !request.cancel.load(Ordering::Acquire).is_null() && disarm_cancel(request) => {
                irp.Cancel.store(1, Ordering::SeqCst);
                object.reference();
                request.cancel.swap(ptr::null_mut(), Ordering::AcqRel)
            }
            Some(_) | None => return,
        }
    };
    // SAFETY: `mark` stored a callback of this type.
    let callback: CancelCallback = unsafe { std::mem::transmute(callback) };
    call_cancel(object, request, callback);
    object.dereference();
}

/// Calls EvtRequestCancel, which is one of the callbacks of the request's queue.
fn call_cancel(object: &Arc<Object>, request: &Request, callback: CancelCallback) {
    let handle = object.handle;
    match object::try_find(request.queue.load(Ordering::Acquire)) {
        Some(queue) if queue.must_defer() => {
            let request = object.clone();
            request.reference();
            defer(&queue, move |queue| {
                queue.callback("EvtRequestCancel", || callback(handle));
                request.dereference();
            });
        }
        Some(queue) => queue.callback("EvtRequestCancel", || callback(handle)),
        None => callout("EvtRequestCancel", || callback(handle)),
    }
}

/// Sets the IRP's cancel routine; false if the IRP has been cancelled already.
pub(in crate::kmdf) fn arm_cancel(object: &Object, request: &Request) -> bool {
    let irp = request.irp();
    irp.DriverContext[0].set(object.handle as PVOID);
    irp.CancelRoutine.store(cancel_routine as *mut _, Ordering::SeqCst);
    let cancelled = irp.Cancel.load(Ordering::SeqCst) != 0;
    // Whoever takes the routine out answers for the request.
    !cancelled || irp.CancelRoutine.swap(ptr::null_mut(), Ordering::SeqCst).is_null()
}

/// Takes the IRP's cancel routine out; false if it has been, or is being, called.
pub(in crate::kmdf) fn disarm_cancel(request: &Request) -> bool {
    !request.irp().CancelRoutine.swap(ptr::null_mut(), Ordering::SeqCst).is_null()
}

fn mark(handle: HANDLE, callback: CancelCallback) -> bool {
    let object = object::find(handle);
    let request = expect_kind!(object, Request);
    request.expect_driver();
    if !request.cancel.swap(callback as *mut (), Ordering::AcqRel).is_null() {
        violate(Rule::Framework, format!("{}: the request is cancelable already", current().call.get()));
    }
    let armed = arm_cancel(&object, request);
    if !armed {
        request.cancel.store(ptr::null_mut(), Ordering::Release);
    }
    armed
}

pub(crate) extern "win64" fn WdfRequestMarkCancelableEx(
    _globals: usize,
    handle: HANDLE,
    callback: CancelCallback,
) -> NTSTATUS {
    called("WdfRequestMarkCancelableEx", DISPATCH_LEVEL);
    if mark(handle, callback) { STATUS_SUCCESS } else { STATUS_CANCELLED }
}

pub(crate) extern "win64" fn WdfRequestMarkCancelable(_globals: usize, handle: HANDLE, callback: CancelCallback) {
    called("WdfRequestMarkCancelable", DISPATCH_LEVEL);
    if !mark(handle, callback) {
        let object = object::find(handle);
        call_cancel(&object, expect_kind!(object, Request), callback);
    }
}

pub(crate) extern "win64" fn WdfRequestUnmarkCancelable(_globals: usize, handle: HANDLE) -> NTSTATUS {
    called("WdfRequestUnmarkCancelable", DISPATCH_LEVEL);
    let object = object::find(handle);
    let request = expect_kind!(object, Request);
    request.expect_driver();
    let _kept = request.kept.lock();
    if disarm_cancel(request) {
        request.cancel.store(ptr::null_mut(), Ordering::Release);
        STATUS_SUCCESS
    } else if request.irp().Cancel.load(Ordering::SeqCst) != 0 {
        STATUS_CANCELLED
    } else {
        violate(Rule::Framework, "WdfRequestUnmarkCancelable: the request is not cancelable")
    }
}
