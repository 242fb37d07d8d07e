//! File objects: each open handle of the device has its own endpoints, named by its own ids.
#![allow(unsafe_code, reason = "keeps the id table in the file object's context space")]

use crate::endpoint::AnyEndpoint;
use crate::nt::{CriticalRegion, SpinLock};
use crate::parameters;
use crate::san::PinnedMemory;
use crate::wdf::{self, Request};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};
use san_core::id_table::{IdTable, InsertError};
use san_protocol::{EndpointId, NtStatus};
use wdk_sys::{WDFDEVICE, WDFFILEOBJECT, WDFOBJECT, WDFREQUEST};

/// What a file object carries. The framework makes it of zeros, and destroys it also where [`create`] was never called.
#[repr(C)]
pub(crate) struct FileContext {
    created: bool,
    pinned: PinnedMemory,
    endpoints: MaybeUninit<SpinLock<IdTable<AnyEndpoint>>>,
}

wdf::context_type!(FileContext, c"FileContext");

/// Draws the generations of all ids, so that no id is ever valid for two handles.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// EvtDeviceFileCreate: somebody opens the device. IRQL = PASSIVE_LEVEL.
pub(crate) unsafe extern "C" fn create(_device: WDFDEVICE, request: WDFREQUEST, file: WDFFILEOBJECT) {
    let endpoints = SpinLock::new(IdTable::new(parameters::get().endpoints_per_handle));
    let context = FileContext { created: true, pinned: PinnedMemory::new(), endpoints: MaybeUninit::new(endpoints) };
    // SAFETY: the device gives every file object this context, and nobody else looks at it yet.
    let space = unsafe { wdf::context::<FileContext>(file.cast()) };
    // SAFETY: the space has the type's size and is aligned as pool is.
    unsafe { space.write(context) };
    // SAFETY: the framework handed the request over with this call.
    unsafe { Request::new(request) }.complete(NtStatus::SUCCESS, 0);
}

/// EvtFileCleanup: the last handle is closed. Its endpoints end; their operations are completed as they do.
/// IRQL = PASSIVE_LEVEL.
pub(crate) unsafe extern "C" fn cleanup(file: WDFFILEOBJECT) {
    // As for a request: others may wait for what this thread is doing for an endpoint.
    let _region = CriticalRegion::enter();
    // SAFETY: a file object of this device, alive during the call.
    let endpoints = unsafe { of(file) }.lock().end();
    for endpoint in endpoints {
        endpoint.close(None);
    }
}

/// EvtDestroyCallback of the file object: nobody refers to it any more. IRQL <= DISPATCH_LEVEL.
pub(crate) unsafe extern "C" fn destroy(file: WDFOBJECT) {
    // SAFETY: the context space is there until this callback returns.
    let mut space = unsafe { wdf::context::<FileContext>(file) };
    // SAFETY: nobody else refers to it any more.
    let context = unsafe { space.as_mut() };
    if context.created {
        // SAFETY: `create` wrote it, and this is its end.
        unsafe { context.endpoints.assume_init_drop() };
    }
}

/// The endpoints of a file object.
///
/// # Safety
///
/// `file` is an open file object of this device, and outlives the reference.
unsafe fn of<'a>(file: WDFFILEOBJECT) -> &'a SpinLock<IdTable<AnyEndpoint>> {
    // SAFETY: the device gives every file object this context.
    let space = unsafe { wdf::context::<FileContext>(file.cast()) };
    // SAFETY: by this function's contract it lives.
    let context = unsafe { space.as_ref() };
    // SAFETY: `create` wrote it before the open succeeded.
    unsafe { context.endpoints.assume_init_ref() }
}

fn of_request(request: &Request) -> &SpinLock<IdTable<AnyEndpoint>> {
    // SAFETY: a request keeps its file object alive until it is completed.
    unsafe { of(request.file_object()) }
}

/// Memory that is registered through the request's handle.
pub(crate) fn pinned(request: &Request) -> &PinnedMemory {
    // SAFETY: the device gives every file object this context.
    let space = unsafe { wdf::context::<FileContext>(request.file_object().cast()) };
    // SAFETY: a request keeps its file object alive until it is completed.
    &unsafe { space.as_ref() }.pinned
}

/// What `id` names for the handle that the request came through. IRQL <= DISPATCH_LEVEL.
pub(crate) fn find(request: Request, id: EndpointId) -> Result<AnyEndpoint, NtStatus> {
    of_request(&request).lock().get(id).cloned().ok_or(NtStatus::INVALID_HANDLE)
}

/// Takes an endpoint out: its id is stale from now on. IRQL <= DISPATCH_LEVEL.
pub(crate) fn take(request: Request, id: EndpointId) -> Result<AnyEndpoint, NtStatus> {
    of_request(&request).lock().remove(id).ok_or(NtStatus::INVALID_HANDLE)
}

/// An id for an endpoint to come. IRQL <= DISPATCH_LEVEL.
pub(crate) fn reserve_id(request: Request) -> Result<EndpointId, NtStatus> {
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    of_request(&request).lock().reserve(generation).map_err(|error| match error {
        InsertError::Full => NtStatus::TOO_MANY_OPENED_FILES,
        InsertError::NoMemory => NtStatus::INSUFFICIENT_RESOURCES,
    })
}

/// Gives a reserved id its endpoint; fails when the handle is being closed. IRQL <= DISPATCH_LEVEL.
pub(crate) fn fill_id(request: Request, id: EndpointId, endpoint: AnyEndpoint) -> Result<(), NtStatus> {
    let refused = of_request(&request).lock().fill(id, endpoint);
    refused.map_err(|_| NtStatus::CANCELLED)
}

/// Gives a reserved id back. IRQL <= DISPATCH_LEVEL.
pub(crate) fn release_id(request: Request, id: EndpointId) {
    let removed = of_request(&request).lock().remove(id);
    drop(removed);
}
