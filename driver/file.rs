//! File objects: each open handle of the device has its own endpoints.
#![allow(unsafe_code, reason = "keeps a reference to the handle in the file object's context space")]

use crate::handle::{Handle, Owner};
use crate::nt::{CriticalRegion, Shared};
use crate::wdf::{self, Request};
use san_protocol::NtStatus;
use wdk_sys::{WDFDEVICE, WDFFILEOBJECT, WDFOBJECT, WDFREQUEST};

/// What a file object carries. The framework makes it of zeros, which is `None`, and destroys it also where [`create`] was never
/// called, or has failed.
#[repr(transparent)]
pub(crate) struct FileContext(Option<Shared<Handle>>);

wdf::context_type!(FileContext, c"FileContext");

/// EvtDeviceFileCreate: somebody opens the device. IRQL = PASSIVE_LEVEL.
pub(crate) unsafe extern "C" fn create(_device: WDFDEVICE, request: WDFREQUEST, file: WDFFILEOBJECT) {
    // SAFETY: the framework handed the request over with this call.
    let request = unsafe { Request::new(request) };
    match Handle::open(Owner::Process(request.requestor_id())) {
        Ok(handle) => {
            // SAFETY: the device gives every file object this context, and nobody else looks at it yet.
            let space = unsafe { wdf::context::<FileContext>(file.cast()) };
            // SAFETY: the space has the type's size and is aligned as pool is.
            unsafe { space.write(FileContext(Some(handle))) };
            request.complete(NtStatus::SUCCESS, 0);
        }
        Err(status) => request.complete(status, 0),
    }
}

/// EvtFileCleanup: the last handle is closed. Its endpoints end; their operations are completed as they do.
/// IRQL = PASSIVE_LEVEL.
pub(crate) unsafe extern "C" fn cleanup(file: WDFFILEOBJECT) {
    // As for a request: others may wait for what this thread is doing for an endpoint.
    let _region = CriticalRegion::enter();
    // SAFETY: a file object of this device, alive during the call.
    Handle::close(unsafe { of(file) });
}

/// EvtDestroyCallback of the file object: nobody refers to it any more. IRQL <= DISPATCH_LEVEL.
pub(crate) unsafe extern "C" fn destroy(file: WDFOBJECT) {
    // SAFETY: the context space is there until this callback returns.
    let mut space = unsafe { wdf::context::<FileContext>(file) };
    // SAFETY: nobody else refers to it any more.
    drop(unsafe { space.as_mut() }.0.take());
}

/// The handle of a file object.
///
/// # Safety
///
/// `file` is an open file object of this device, and outlives the reference.
unsafe fn of<'a>(file: WDFFILEOBJECT) -> &'a Shared<Handle> {
    // SAFETY: the device gives every file object this context.
    let space = unsafe { wdf::context::<FileContext>(file.cast()) };
    // SAFETY: by this function's contract it lives.
    let context = unsafe { space.as_ref() };
    // SAFETY: `create` wrote it before the open succeeded.
    unsafe { context.0.as_ref().unwrap_unchecked() }
}

/// The handle that a request came through.
pub(crate) fn handle(request: &Request) -> &Handle {
    // SAFETY: a request keeps its file object alive until it is completed.
    unsafe { of(request.file_object()) }
}
