//! Event objects of user mode.
#![allow(unsafe_code, reason = "references an event object by its handle")]

use crate::wdf;
use core::ptr::{self, NonNull};
use san_protocol::NtStatus;
use wdk_sys::ntddk::{KeClearEvent, KeSetEvent, ObReferenceObjectByHandle, ObfDereferenceObject};
use wdk_sys::{EVENT_MODIFY_STATE, ExEventObjectType, HANDLE, KPROCESSOR_MODE, PVOID};

/// A reference to an event object.
pub(crate) struct EventObject(NonNull<core::ffi::c_void>);

// SAFETY: an event may be set, reset and dereferenced from any thread.
unsafe impl Send for EventObject {}
// SAFETY: as above; the kernel synchronizes it.
unsafe impl Sync for EventObject {}

impl EventObject {
    /// The event that `handle` names in the current process, if a caller of that mode may set it. IRQL = PASSIVE_LEVEL; in the
    /// caller's context.
    ///
    /// `STATUS_OBJECT_TYPE_MISMATCH`: it names no event. `STATUS_ACCESS_DENIED`: the caller may not set it.
    pub(crate) fn from_handle(handle: u64, mode: KPROCESSOR_MODE) -> Result<Self, NtStatus> {
        let mut object: PVOID = ptr::null_mut();
        // SAFETY: the kernel's own variable, which never changes.
        let event_type = unsafe { ExEventObjectType };
        // SAFETY: it leads to the type of event objects.
        let event_type = unsafe { event_type.read() };
        // SAFETY: the handle may be anything, and is checked with the caller's rights; the out parameter is a local.
        let referenced = wdf::check(unsafe {
            ObReferenceObjectByHandle(
                handle as HANDLE,
                EVENT_MODIFY_STATE,
                event_type,
                mode,
                &raw mut object,
                ptr::null_mut(),
            )
        });
        match referenced {
            Ok(()) => NonNull::new(object).map(Self).ok_or(NtStatus::OBJECT_TYPE_MISMATCH),
            // It is the event that is none; the endpoint may well be one.
            Err(NtStatus::INVALID_HANDLE) => Err(NtStatus::OBJECT_TYPE_MISMATCH),
            Err(status) => Err(status),
        }
    }

    /// Signals it. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn set(&self) {
        // SAFETY: referenced, and of type event; nothing is waited for.
        unsafe { KeSetEvent(self.0.as_ptr().cast(), 0, 0) };
    }

    /// Ends its signal. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn clear(&self) {
        // SAFETY: referenced, and of type event.
        unsafe { KeClearEvent(self.0.as_ptr().cast()) };
    }
}

impl Drop for EventObject {
    fn drop(&mut self) {
        // SAFETY: gives back the one reference that this value stands for.
        unsafe { ObfDereferenceObject(self.0.as_ptr()) };
    }
}
