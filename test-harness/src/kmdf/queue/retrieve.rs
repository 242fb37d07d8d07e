//! What a driver takes out of its queues itself: the next request, one of a file, or one that it has looked for.
#![allow(unsafe_code)] // reads the client's structures

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Dispatching, Queue, next};
use crate::kmdf::object::{self, Kind, Object, expect_kind};
use crate::kmdf::request::{self, Request};
use crate::kmdf::types::{HANDLE, WDF_REQUEST_PARAMETERS};
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER_4, STATUS_NO_MORE_ENTRIES,
    STATUS_NOT_FOUND, STATUS_SUCCESS, STATUS_WDF_PAUSED,
};
use crate::nt::types::{DISPATCH_LEVEL, FILE_OBJECT, NTSTATUS};

/// Takes a request out for the driver; `none` says that there is no such one.
fn retrieve(handle: HANDLE, wanted: impl Fn(&Request) -> bool, none: NTSTATUS, out: *mut HANDLE) -> NTSTATUS {
    let object = object::find(handle);
    let queue = expect_kind!(object, Queue);
    if matches!(queue.dispatching, Dispatching::Parallel(_)) {
        return STATUS_INVALID_DEVICE_STATE;
    }
    let paused = {
        let state = queue.state.lock();
        !state.flow.dispatches || !state.powered
    };
    if paused {
        return STATUS_WDF_PAUSED;
    }
    loop {
        let Some(request) = next(queue, &wanted, true) else { return none };
        if queue.skips(expect_kind!(request, Request)) {
            request::complete(&request, STATUS_SUCCESS, Some(0));
            continue;
        }
        // SAFETY: the client's out parameter; a bad pointer faults.
        unsafe { out.write(request.handle) };
        return STATUS_SUCCESS;
    }
}

/// Looks for a waiting request, the one behind `tag` if there is one. It stays where it is, with a reference for the client.
fn peek(queue: &Queue, tag: HANDLE, file: *mut FILE_OBJECT) -> Result<Arc<Object>, NTSTATUS> {
    let state = queue.state.lock();
    let mut behind = tag == 0;
    for object in state.waiting.iter().copied().filter_map(object::try_find) {
        let Kind::Request(request) = &object.kind else { continue };
        if request.irp().Cancel.load(Ordering::SeqCst) != 0 {
            continue;
        }
        if behind && (file.is_null() || request.file_object() == file) {
            object.reference();
            return Ok(object);
        }
        behind |= object.handle == tag;
    }
    Err(if behind { STATUS_NO_MORE_ENTRIES } else { STATUS_NOT_FOUND })
}

pub(crate) extern "win64" fn WdfIoQueueFindRequest(
    _globals: usize,
    handle: HANDLE,
    tag: HANDLE,
    file: HANDLE,
    parameters: *mut WDF_REQUEST_PARAMETERS,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfIoQueueFindRequest", DISPATCH_LEVEL);
    let object = object::find(handle);
    let queue = expect_kind!(object, Queue);
    let file = (file != 0).then(|| object::find(file));
    let wdm = file.map_or(ptr::null_mut(), |file| expect_kind!(file, File).wdm);
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let size = unsafe { parameters.as_ref() }.map(|parameters| usize::from(parameters.Size));
    let found = match (queue.dispatching, size) {
        (_, Some(size)) if size < size_of::<WDF_REQUEST_PARAMETERS>() => Err(STATUS_INVALID_PARAMETER_4),
        (Dispatching::Manual, _) => peek(queue, tag, wdm),
        (Dispatching::Sequential | Dispatching::Parallel(_), _) => Err(STATUS_INVALID_DEVICE_REQUEST),
    };
    let (status, request) = match found {
        Ok(request) => {
            if !parameters.is_null() {
                request::store_parameters(expect_kind!(request, Request), parameters);
            }
            (STATUS_SUCCESS, request.handle)
        }
        Err(status) => (status, 0),
    };
    // SAFETY: the client's out parameter; a bad pointer faults.
    unsafe { out.write(request) };
    status
}

pub(crate) extern "win64" fn WdfIoQueueRetrieveFoundRequest(
    _globals: usize,
    handle: HANDLE,
    tag: HANDLE,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfIoQueueRetrieveFoundRequest", DISPATCH_LEVEL);
    let object = object::find(tag);
    let tag: &Request = expect_kind!(object, Request);
    retrieve(handle, |request| ptr::eq(request, tag), STATUS_NOT_FOUND, out)
}

pub(crate) extern "win64" fn WdfIoQueueRetrieveNextRequest(
    _globals: usize,
    handle: HANDLE,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfIoQueueRetrieveNextRequest", DISPATCH_LEVEL);
    retrieve(handle, |_| true, STATUS_NO_MORE_ENTRIES, out)
}

pub(crate) extern "win64" fn WdfIoQueueRetrieveRequestByFileObject(
    _globals: usize,
    handle: HANDLE,
    file: HANDLE,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfIoQueueRetrieveRequestByFileObject", DISPATCH_LEVEL);
    let file = object::find(file);
    let wdm = expect_kind!(file, File).wdm;
    retrieve(handle, |request| request.file_object() == wdm, STATUS_NO_MORE_ENTRIES, out)
}
