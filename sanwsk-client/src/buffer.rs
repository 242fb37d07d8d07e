//! Memory that is sent and received.
#![allow(unsafe_code, reason = "owns pool memory, and an MDL for it")]

use crate::shared::{allocate, free};
use core::ops::{Deref, DerefMut, Range};
use core::ptr::{self, NonNull};
use san_protocol::NtStatus;
use san_protocol::kernel::Mdl;
use wdk_sys::MDL;
use wdk_sys::ntddk::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};

/// A part of a [`Buffer`], in bytes.
pub type BufferRange = Range<u32>;

/// Bytes in non-paged pool, with the MDL that describes them.
pub struct Buffer {
    start: NonNull<u8>,
    length: u32,
    mdl: NonNull<MDL>,
}

// SAFETY: memory of its own; nothing in it has a tie to a thread.
unsafe impl Send for Buffer {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Zeros. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// `STATUS_INSUFFICIENT_RESOURCES`: no memory. `STATUS_INVALID_PARAMETER`: no length.
    pub fn new(length: u32) -> Result<Self, NtStatus> {
        if length == 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let start = allocate(length as usize)?;
        // SAFETY: the memory of that length was allocated above.
        let mdl = unsafe { IoAllocateMdl(start.as_ptr().cast(), length, 0, 0, ptr::null_mut()) };
        let Some(mdl) = NonNull::new(mdl) else {
            // SAFETY: allocated above, and nobody else's.
            unsafe { free(start) };
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        };
        // SAFETY: it describes non-paged pool.
        unsafe { MmBuildMdlForNonPagedPool(mdl.as_ptr()) };
        Ok(Self { start, length, mdl })
    }

    /// A copy of `bytes`. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// Those of [`Buffer::new`].
    pub fn of(bytes: &[u8]) -> Result<Self, NtStatus> {
        let length = u32::try_from(bytes.len()).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        let mut buffer = Self::new(length)?;
        buffer.copy_from_slice(bytes);
        Ok(buffer)
    }

    /// For the driver.
    pub(crate) fn mdl(&self) -> *mut Mdl {
        self.mdl.as_ptr().cast()
    }

    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: initialized memory of that length; whoever has the buffer has it to itself.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.length as usize) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.length as usize) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made with the buffer; no operation has it, for that would have the buffer.
        unsafe { IoFreeMdl(self.mdl.as_ptr()) };
        // SAFETY: as above.
        unsafe { free(self.start) };
    }
}
