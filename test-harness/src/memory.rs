//! Mapped memory of this process: reserved, protected and given back by whole pages.
#![allow(unsafe_code)] // mmap, mprotect, munmap

use std::io;
use std::ptr;

use crate::nt::types::PAGE_SIZE;

/// What may be done with mapped pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    None,
    Read,
    ReadWrite,
    ReadExecute,
}

impl Access {
    const fn prot(self) -> i32 {
        match self {
            Access::None => libc::PROT_NONE,
            Access::Read => libc::PROT_READ,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Access::ReadExecute => libc::PROT_READ | libc::PROT_EXEC,
        }
    }
}

/// Rounds up to whole pages.
pub(crate) const fn page_up(bytes: usize) -> usize {
    (bytes + PAGE_SIZE - 1) & !(PAGE_SIZE - 1)
}

/// Changes the access to whole pages of some [`Mapping`].
pub(crate) fn protect(start: usize, len: usize, access: Access) -> io::Result<()> {
    // SAFETY: the pages lie in a mapping of ours; what is kept there is reached through raw pointers only.
    let result = unsafe { libc::mprotect(start as *mut _, page_up(len), access.prot()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A range of pages that belongs to its owner and to nobody else.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: usize,
    len: usize,
}

impl Mapping {
    /// Maps zeroed pages. Pages that are never touched cost nothing.
    pub(crate) fn new(len: usize, access: Access) -> io::Result<Self> {
        let len = page_up(len);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new private mapping at an address of the system's choice disturbs no other memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, access.prot(), flags, -1, 0) };
        if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { base: base as usize, len }) }
    }

    /// Maps zeroed pages that [`Self::view`] can map again, at a multiple of `alignment`, which is a power of two; without access.
    pub(crate) fn shared(len: usize, alignment: usize) -> io::Result<Self> {
        let len = page_up(len);
        // Room in which there is an aligned place.
        let room = Self::new(len + alignment, Access::None)?;
        let base = room.base.next_multiple_of(alignment);
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the pages lie in a mapping that is this function's own.
        let mapped = unsafe { libc::mmap(base as *mut _, len, libc::PROT_NONE, flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let end = room.base + room.len;
        std::mem::forget(room);
        // What is around the aligned part goes.
        drop(Self { base: base + len, len: end - base - len });
        if base + len + alignment > end {
            drop(Self { base: end - len - alignment, len: base + len + alignment - end });
        }
        Ok(Self { base, len })
    }

    /// Another mapping of some of its pages, given by their offset; it must be a [`Self::shared`] one. They can be written there.
    pub(crate) fn view(&self, offset: usize, len: usize) -> io::Result<Self> {
        assert!(offset.is_multiple_of(PAGE_SIZE) && offset + len <= self.len, "whole pages of the mapping");
        let (old, len) = ((self.base + offset) as *mut _, page_up(len));
        // SAFETY: an old size of zero leaves the old mapping, which is shared, as it is, and maps its pages once more.
        let base = unsafe { libc::mremap(old, 0, len, libc::MREMAP_MAYMOVE) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let view = Self { base: base as usize, len };
        view.protect(0, len, Access::ReadWrite)?;
        Ok(view)
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.base) < self.len
    }

    /// Changes the access to a page range, given by its offset from the start.
    pub(crate) fn protect(&self, offset: usize, len: usize, access: Access) -> io::Result<()> {
        assert!(offset + len <= self.len, "the range lies in the mapping");
        protect(self.base + offset, len, access)
    }

    /// Copies bytes to an offset. The range must be writable.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len, "the range lies in the mapping");
        // SAFETY: the target lies in this mapping, which no Rust reference covers, so the source is elsewhere.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), (self.base + offset) as *mut u8, bytes.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the pages belong to this mapping, and its owner has ended every use of them.
        unsafe { libc::munmap(self.base as *mut _, self.len) };
    }
}
