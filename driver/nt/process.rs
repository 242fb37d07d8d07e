//! The process on whose behalf a socket is made.
#![allow(unsafe_code, reason = "references a process object")]

use core::ptr::NonNull;
use wdk_sys::ntddk::{IoGetRequestorProcess, ObfDereferenceObject, ObfReferenceObject};
use wdk_sys::{PEPROCESS, PIRP};

/// A reference to a process object.
pub(crate) struct Process(NonNull<core::ffi::c_void>);

// SAFETY: a process object may be referenced and dereferenced from any thread.
unsafe impl Send for Process {}
// SAFETY: as above; nothing else is done with it.
unsafe impl Sync for Process {}

impl Process {
    /// The process that issued `irp`; `None` for a request of the kernel's own. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// `irp` is a request that this driver has and has not completed: it keeps its thread, and so the process, alive.
    pub(crate) unsafe fn requestor(irp: PIRP) -> Option<Self> {
        // SAFETY: by this function's contract.
        let process = NonNull::new(unsafe { IoGetRequestorProcess(irp) }.cast())?;
        // SAFETY: the request keeps the process alive during this call.
        unsafe { ObfReferenceObject(process.as_ptr()) };
        Some(Self(process))
    }

    /// The object, valid while `self` is.
    pub(crate) fn as_ptr(&self) -> PEPROCESS {
        self.0.as_ptr().cast()
    }
}

impl Clone for Process {
    fn clone(&self) -> Self {
        // SAFETY: `self` holds a reference, so the object is alive.
        unsafe { ObfReferenceObject(self.0.as_ptr()) };
        Self(self.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SAFETY: gives back the one reference that this value stands for.
        unsafe { ObfDereferenceObject(self.0.as_ptr()) };
    }
}
