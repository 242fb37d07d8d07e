//! The event that a request selects: a handle means something in its process alone, so it becomes a reference to its object
//! in the caller's context, before the request is queued.
#![allow(unsafe_code, reason = "gives requests a context space for the reference")]

use crate::nt::EventObject;
use crate::wdf::{self, Context, Request};
use san_protocol::{EventSelectRequest, NtStatus, Request as _};
use wdk_sys::{WDFOBJECT, call_unsafe_wdf_function_binding};

/// The event of a request that selects one. The framework makes it of zeros, which is `None`.
#[repr(transparent)]
pub(crate) struct EventReference(Option<EventObject>);

wdf::context_type!(EventReference, c"EventReference");

/// References the event that the request names, if it names one. IRQL = PASSIVE_LEVEL; in the caller's context.
pub(crate) fn resolve(request: Request) -> Result<(), NtStatus> {
    let asked = EventSelectRequest::read(request.input())?;
    if asked.event == 0 {
        return Ok(());
    }
    let event = EventObject::from_handle(asked.event, request.requestor_mode())?;
    let mut attributes = wdf::object_attributes();
    attributes.ContextTypeInfo = EventReference::type_info();
    attributes.EvtDestroyCallback = Some(destroy);
    let mut space = core::ptr::null_mut();
    // SAFETY: the request is this driver's, and has no such context yet; the structures are locals.
    wdf::check(unsafe {
        call_unsafe_wdf_function_binding!(
            WdfObjectAllocateContext,
            request.handle().cast(),
            &raw mut attributes,
            &raw mut space
        )
    })?;
    // SAFETY: the new space has the size of the type, and is aligned as pool is.
    unsafe { space.cast::<EventReference>().write(EventReference(Some(event))) };
    Ok(())
}

/// Takes the reference out; `None` if the request names no event. IRQL <= DISPATCH_LEVEL.
pub(crate) fn take(request: Request) -> Option<EventObject> {
    // SAFETY: the request is this driver's.
    let mut space = unsafe { wdf::optional_context::<EventReference>(request.handle().cast()) }?;
    // SAFETY: the space lives as long as the request, and nobody else looks at it.
    unsafe { space.as_mut() }.0.take()
}

/// EvtDestroyCallback of a request with such a context. IRQL <= DISPATCH_LEVEL.
unsafe extern "C" fn destroy(request: WDFOBJECT) {
    // SAFETY: called for requests that were given the context, which is there until this returns.
    let space = unsafe { wdf::optional_context::<EventReference>(request) };
    if let Some(mut space) = space {
        // SAFETY: nobody else looks at it any more.
        drop(unsafe { space.as_mut() }.0.take());
    }
}
