//! Where operations go on that may not go on where they are: out of WSK's completion routines, onto a worker at
//! PASSIVE_LEVEL, so that no WSK call is made from within the completion of another.
#![allow(unsafe_code, reason = "makes a framework work item")]

use crate::endpoint::AnyEndpoint;
use crate::nt::{Outcome, SpinLock};
use crate::operation::Pending;
use crate::stream;
use crate::wdf;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use san_protocol::NtStatus;
use wdk_sys::{PFN_WDF_WORKITEM, WDF_WORKITEM_CONFIG, WDFDEVICE, WDFWORKITEM, call_unsafe_wdf_function_binding};

/// A work item of the device.
pub(crate) struct WorkItem(AtomicPtr<core::ffi::c_void>);

impl WorkItem {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Makes it; it goes with the device. IRQL = PASSIVE_LEVEL; once, before it is used.
    pub(crate) fn create(&self, device: WDFDEVICE, work: PFN_WDF_WORKITEM) -> Result<(), NtStatus> {
        let mut config = WDF_WORKITEM_CONFIG {
            Size: wdf::size::<WDF_WORKITEM_CONFIG>(),
            EvtWorkItemFunc: work,
            AutomaticSerialization: 0,
        };
        let mut attributes = wdf::object_attributes();
        attributes.ParentObject = device.cast();
        let mut item: WDFWORKITEM = ptr::null_mut();
        // SAFETY: `device` is this driver's; the structures are locals with their sizes filled in.
        wdf::check(unsafe {
            call_unsafe_wdf_function_binding!(WdfWorkItemCreate, &raw mut config, &raw mut attributes, &raw mut item)
        })?;
        self.0.store(item.cast(), Ordering::Release);
        Ok(())
    }

    /// Has it run, once more after this call. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn enqueue(&self) {
        // SAFETY: made when the device was; it lives as long.
        unsafe { call_unsafe_wdf_function_binding!(WdfWorkItemEnqueue, self.0.load(Ordering::Acquire).cast()) };
    }

    /// Waits until it does not run any more. IRQL = PASSIVE_LEVEL.
    pub(crate) fn flush(&self) {
        let item: WDFWORKITEM = self.0.load(Ordering::Acquire).cast();
        if !item.is_null() {
            // SAFETY: as above.
            unsafe { call_unsafe_wdf_function_binding!(WdfWorkItemFlush, item) };
        }
    }
}

/// Operations on their way to the worker, newest first.
static QUEUE: SpinLock<Option<Pending>> = SpinLock::new(None);

/// The worker.
static WORKER: WorkItem = WorkItem::new();

/// Makes the worker. IRQL = PASSIVE_LEVEL; from DriverEntry.
pub(crate) fn create(device: WDFDEVICE) -> Result<(), NtStatus> {
    WORKER.create(device, Some(work))
}

/// Waits until the worker is idle. IRQL = PASSIVE_LEVEL; at unload, when no operation is left.
pub(crate) fn flush() {
    WORKER.flush();
}

/// Has the operation go on with the outcome of its call. IRQL <= DISPATCH_LEVEL.
pub(crate) fn queue(mut pending: Pending, outcome: Outcome) {
    pending.arguments().outcome = outcome;
    {
        let mut queue = QUEUE.lock();
        let rest = queue.take();
        *queue = Some(pending.link(rest));
    }
    WORKER.enqueue();
}

/// EvtWorkItem. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn work(_item: WDFWORKITEM) {
    loop {
        // Everything that has come so far, and the order turned round: oldest first.
        let mut newest = QUEUE.lock().take();
        let mut oldest = None;
        while let Some(pending) = newest {
            newest = pending.unlink();
            oldest = Some(pending.link(oldest));
        }
        if oldest.is_none() {
            return;
        }
        while let Some(mut pending) = oldest {
            oldest = pending.unlink();
            let outcome = pending.arguments().outcome;
            match pending.endpoint().clone() {
                AnyEndpoint::Stream(endpoint) => stream::resume_setup(&endpoint, pending, outcome),
                AnyEndpoint::San(_) => pending.finish(outcome.status, outcome.information),
            }
        }
    }
}
