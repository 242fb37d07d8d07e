//! File objects: each open handle of the device has its own endpoints, named by its own ids.
#![allow(unsafe_code, reason = "keeps a reference to the handle in the file object's context space")]

use crate::endpoint::AnyEndpoint;
use crate::nt::{CriticalRegion, Shared, SpinLock};
use crate::parameters;
use crate::san::PinnedMemory;
use crate::statistics::{Existence, STATISTICS};
use crate::wdf::{self, Request};
use core::sync::atomic::{AtomicU64, Ordering};
use san_core::id_table::{CAPACITY, IdTable, InsertError, slot_of};
use san_protocol::{EndpointId, NtStatus};
use wdk_sys::{WDFDEVICE, WDFFILEOBJECT, WDFOBJECT, WDFREQUEST};

/// What a file object carries. The framework makes it of zeros, which is `None`, and destroys it also where [`create`] was never
/// called, or has failed.
#[repr(transparent)]
pub(crate) struct FileContext(Option<Shared<Handle>>);

/// An open handle of the device.
pub(crate) struct Handle {
    /// Its own name in [`HANDLES`].
    id: u64,
    /// Id of the process that opened it.
    process: u32,
    pinned: PinnedMemory,
    endpoints: SpinLock<IdTable<AnyEndpoint>>,
    _existence: Existence,
}

/// Pool tag of handles.
const TAG: [u8; 4] = *b"SanH";

/// The handles that are open, to be listed.
static HANDLES: SpinLock<IdTable<Shared<Handle>>> = SpinLock::new(IdTable::new(CAPACITY));

wdf::context_type!(FileContext, c"FileContext");

/// Draws the generations of all ids, those of handles too, so that no id is ever valid for two.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// EvtDeviceFileCreate: somebody opens the device. IRQL = PASSIVE_LEVEL.
pub(crate) unsafe extern "C" fn create(_device: WDFDEVICE, request: WDFREQUEST, file: WDFFILEOBJECT) {
    // SAFETY: the framework handed the request over with this call.
    let request = unsafe { Request::new(request) };
    match open(request) {
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

/// A handle of the process that asks for it. IRQL <= DISPATCH_LEVEL.
fn open(request: Request) -> Result<Shared<Handle>, NtStatus> {
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    let id = HANDLES.lock().reserve(generation).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
    let handle = Handle {
        id,
        process: request.requestor_id(),
        pinned: PinnedMemory::new(),
        endpoints: SpinLock::new(IdTable::new(parameters::get().endpoints_per_handle)),
        _existence: Existence::of_handle(),
    };
    let handle = Shared::try_new(TAG, handle).inspect_err(|_| drop(HANDLES.lock().remove(id)))?;
    let refused = HANDLES.lock().fill(id, handle.clone());
    refused.map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
    Ok(handle)
}

/// EvtFileCleanup: the last handle is closed. Its endpoints end; their operations are completed as they do.
/// IRQL = PASSIVE_LEVEL.
pub(crate) unsafe extern "C" fn cleanup(file: WDFFILEOBJECT) {
    // As for a request: others may wait for what this thread is doing for an endpoint.
    let _region = CriticalRegion::enter();
    // SAFETY: a file object of this device, alive during the call.
    let handle = unsafe { of(file) };
    let listed = HANDLES.lock().remove(handle.id);
    drop(listed);
    let endpoints = handle.endpoints.lock().end();
    for endpoint in endpoints {
        endpoint.close(None);
    }
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
unsafe fn of<'a>(file: WDFFILEOBJECT) -> &'a Handle {
    // SAFETY: the device gives every file object this context.
    let space = unsafe { wdf::context::<FileContext>(file.cast()) };
    // SAFETY: by this function's contract it lives.
    let context = unsafe { space.as_ref() };
    // SAFETY: `create` wrote it before the open succeeded.
    unsafe { context.0.as_ref().unwrap_unchecked() }
}

fn of_request(request: &Request) -> &Handle {
    // SAFETY: a request keeps its file object alive until it is completed.
    unsafe { of(request.file_object()) }
}

/// Memory that is registered through the request's handle.
pub(crate) fn pinned(request: &Request) -> &PinnedMemory {
    &of_request(request).pinned
}

/// What `id` names for the handle that the request came through. IRQL <= DISPATCH_LEVEL.
pub(crate) fn find(request: Request, id: EndpointId) -> Result<AnyEndpoint, NtStatus> {
    of_request(&request).endpoints.lock().get(id).cloned().ok_or(NtStatus::INVALID_HANDLE)
}

/// Takes an endpoint out: its id is stale from now on. IRQL <= DISPATCH_LEVEL.
pub(crate) fn take(request: Request, id: EndpointId) -> Result<AnyEndpoint, NtStatus> {
    of_request(&request).endpoints.lock().remove(id).ok_or(NtStatus::INVALID_HANDLE)
}

/// An id for an endpoint to come. IRQL <= DISPATCH_LEVEL.
pub(crate) fn reserve_id(request: Request) -> Result<EndpointId, NtStatus> {
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
    of_request(&request).endpoints.lock().reserve(generation).map_err(|error| match error {
        InsertError::Full => {
            STATISTICS.limit_hit();
            NtStatus::TOO_MANY_OPENED_FILES
        }
        InsertError::NoMemory => NtStatus::INSUFFICIENT_RESOURCES,
    })
}

/// Gives a reserved id its endpoint; fails when the handle is being closed. IRQL <= DISPATCH_LEVEL.
pub(crate) fn fill_id(request: Request, id: EndpointId, endpoint: AnyEndpoint) -> Result<(), NtStatus> {
    let refused = of_request(&request).endpoints.lock().fill(id, endpoint);
    refused.map_err(|_| NtStatus::CANCELLED)
}

/// Gives a reserved id back. IRQL <= DISPATCH_LEVEL.
pub(crate) fn release_id(request: Request, id: EndpointId) {
    let removed = of_request(&request).endpoints.lock().remove(id);
    drop(removed);
}

/// Frees the table of handles. At unload, when no handle is open. IRQL <= DISPATCH_LEVEL.
pub(crate) fn clear() {
    let handles = core::mem::replace(&mut *HANDLES.lock(), IdTable::new(CAPACITY));
    drop(handles);
}

/// Endpoints that are looked at under one lock of their table.
const BATCH: usize = 16;

impl Handle {
    /// Calls `see` for the endpoints in the slots from `slot` on, without a lock held, until it returns false: gives the slot
    /// that it was called for then. IRQL <= DISPATCH_LEVEL.
    fn walk(&self, mut slot: usize, see: &mut impl FnMut(EndpointId, &AnyEndpoint, u32) -> bool) -> Option<usize> {
        loop {
            let mut batch = [const { None }; BATCH];
            let slots = {
                let endpoints = self.endpoints.lock();
                for (place, (id, endpoint)) in batch.iter_mut().zip(endpoints.in_slots(slot, BATCH)) {
                    *place = Some((id, endpoint.clone()));
                }
                endpoints.slots()
            };
            for (id, endpoint) in batch.iter().flatten() {
                if !see(*id, endpoint, self.process) {
                    return Some(slot_of(*id));
                }
            }
            slot = slot.saturating_add(BATCH);
            if slot >= slots {
                return None;
            }
        }
    }
}

/// Bits of a position that hold the slot of an endpoint; those above hold that of a handle.
const ENDPOINT_BITS: u32 = 32;

/// Calls `see` with the endpoints of the request's handle, or of all, from a position on, until it returns false: gives the
/// position to go on at then. An endpoint keeps its position as long as it exists. IRQL <= DISPATCH_LEVEL; no lock is held.
pub(crate) fn walk(
    request: Request,
    all_handles: bool,
    position: u64,
    mut see: impl FnMut(EndpointId, &AnyEndpoint, u32) -> bool,
) -> Option<u64> {
    let part = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let (first, mut slot) = (part(position >> ENDPOINT_BITS), part(position & ((1 << ENDPOINT_BITS) - 1)));
    let position = |handle: usize, slot: usize| ((handle as u64) << ENDPOINT_BITS) | slot as u64;
    if !all_handles {
        return of_request(&request).walk(slot, &mut see).map(|slot| position(0, slot));
    }
    for handle in first.. {
        let (found, handles) = {
            let table = HANDLES.lock();
            let found = table.in_slots(handle, 1).next().map(|(_, handle)| handle.clone());
            (found, table.slots())
        };
        if handle >= handles {
            break;
        }
        if let Some(found) = found
            && let Some(slot) = found.walk(slot, &mut see)
        {
            return Some(position(handle, slot));
        }
        slot = 0;
    }
    None
}
