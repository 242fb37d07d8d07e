//! Memory that user mode and the driver use at once, each its own parts of it.
//!
//! What is borrowed from [`SharedMemory`] and what is posted to the driver never overlaps, unless both only read: every use
//! takes its range first. The one way around this is a request of one's own making ([`Device::submit`](crate::Device::submit))
//! that names another's region by its key; who issues such requests answers for them.
#![allow(unsafe_code, reason = "hands out parts of memory that the kernel uses")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a page on x64 and ARM64.
pub const PAGE_SIZE: usize = 4096;

const NONZERO_PAGE_SIZE: NonZeroUsize = NonZeroUsize::new(PAGE_SIZE).unwrap();

/// Bytes to be registered, at an address that does not change.
///
/// From a `Vec` or a boxed slice it takes over their allocation. The driver locks whole pages; memory that starts with a
/// page shares none with others, so that as few as possible are locked.
pub struct Memory {
    start: NonNull<u8>,
    /// What it was allocated with. Nothing is allocated for no bytes.
    layout: Layout,
}

// SAFETY: it owns its bytes, as a boxed slice does.
unsafe impl Send for Memory {}
// SAFETY: a shared `Memory` gives out shared slices only.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeros that start with a page.
    ///
    /// # Panics
    ///
    /// `length` is more than an address space holds.
    #[must_use]
    pub fn new(length: usize) -> Self {
        let layout = Layout::from_size_align(length, PAGE_SIZE).expect("less than the address space");
        if length == 0 {
            return Self { start: NonNull::without_provenance(NONZERO_PAGE_SIZE), layout };
        }
        // SAFETY: the layout is not of size 0.
        let start = unsafe { alloc_zeroed(layout) };
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }
}

impl From<Box<[u8]>> for Memory {
    fn from(bytes: Box<[u8]>) -> Self {
        let layout = Layout::for_value(&*bytes);
        let bytes = NonNull::from(Box::leak(bytes));
        Self { start: bytes.cast(), layout }
    }
}

impl From<Vec<u8>> for Memory {
    fn from(bytes: Vec<u8>) -> Self {
        bytes.into_boxed_slice().into()
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: its own bytes, initialised when it was made.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.layout.size() != 0 {
            // SAFETY: allocated with this layout, by `new` or as a boxed slice, by the same allocator.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memory").field("length", &self.layout.size()).finish_non_exhaustive()
    }
}

/// Memory that is registered, or to be.
pub struct SharedMemory {
    memory: Memory,
    uses: Mutex<Vec<Use>>,
}

/// What a part is used for: reading by any number, or writing by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Read,
    Write,
}

#[derive(Clone, PartialEq, Eq)]
struct Use {
    range: Range<usize>,
    usage: Usage,
}

/// Why a part cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CannotUse {
    /// It is not inside the memory.
    Outside,
    /// Another uses it.
    InUse,
}

/// A part that is in use until this is dropped.
pub(crate) struct Lease {
    memory: Arc<SharedMemory>,
    of: Use,
}

impl SharedMemory {
    pub(crate) fn new(memory: Memory) -> Arc<Self> {
        Arc::new(Self { memory, uses: Mutex::default() })
    }

    pub(crate) fn into_memory(self) -> Memory {
        self.memory
    }

    /// Its address.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.start.as_ptr()
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.layout.size()
    }

    /// Whether it is of no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn uses(&self) -> MutexGuard<'_, Vec<Use>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a part. No part of no bytes is ever in use.
    pub(crate) fn lend(self: &Arc<Self>, range: Range<usize>, usage: Usage) -> Result<Lease, CannotUse> {
        if range.start > range.end || range.end > self.len() {
            return Err(CannotUse::Outside);
        }
        let of = Use { range, usage };
        let mut uses = self.uses();
        if uses.iter().any(|other| other.excludes(&of)) {
            return Err(CannotUse::InUse);
        }
        if !of.range.is_empty() {
            uses.push(of.clone());
        }
        Ok(Lease { memory: self.clone(), of })
    }

    pub(crate) fn with_bytes<T>(
        self: &Arc<Self>,
        range: Range<usize>,
        body: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, CannotUse> {
        let lease = self.lend(range, Usage::Read)?;
        // SAFETY: a lease is inside the memory.
        let start = unsafe { self.memory.start.add(lease.of.range.start) };
        // SAFETY: initialised; nobody writes there until the lease ends.
        Ok(body(unsafe { slice::from_raw_parts(start.as_ptr(), lease.of.range.len()) }))
    }

    pub(crate) fn with_bytes_mut<T>(
        self: &Arc<Self>,
        range: Range<usize>,
        body: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, CannotUse> {
        let lease = self.lend(range, Usage::Write)?;
        // SAFETY: a lease is inside the memory.
        let start = unsafe { self.memory.start.add(lease.of.range.start) };
        // SAFETY: initialised; nobody else reads or writes there until the lease ends.
        Ok(body(unsafe { slice::from_raw_parts_mut(start.as_ptr(), lease.of.range.len()) }))
    }
}

/// What a device does, in tests.
#[cfg(test)]
impl SharedMemory {
    /// Reads a part that was posted to the device.
    pub(crate) fn device_read(&self, range: Range<usize>) -> Vec<u8> {
        assert!(self.is_used(&range, Usage::Read) || self.is_used(&range, Usage::Write), "not posted");
        // SAFETY: what is used is inside.
        let start = unsafe { self.memory.start.add(range.start) };
        // SAFETY: initialised; its user has posted it.
        unsafe { slice::from_raw_parts(start.as_ptr(), range.len()) }.to_vec()
    }

    /// Writes to the start of a part that was posted to the device.
    pub(crate) fn device_write(&self, range: Range<usize>, bytes: &[u8]) {
        assert!(self.is_used(&range, Usage::Write), "not posted");
        assert!(bytes.len() <= range.len());
        // SAFETY: what is used is inside.
        let start = unsafe { self.memory.start.add(range.start) };
        // SAFETY: the part is as long, and nobody else uses it: its user has posted it.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    fn is_used(&self, range: &Range<usize>, usage: Usage) -> bool {
        self.uses().iter().any(|one| one.range == *range && one.usage == usage)
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SharedMemory").field("length", &self.len()).finish_non_exhaustive()
    }
}

impl Use {
    fn excludes(&self, other: &Self) -> bool {
        let overlap = self.range.start.max(other.range.start) < self.range.end.min(other.range.end);
        overlap && (self.usage, other.usage) != (Usage::Read, Usage::Read)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut uses = self.memory.uses();
        if let Some(at) = uses.iter().position(|one| *one == self.of) {
            uses.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_and_starts_with_a_page() {
        for length in [0, 1, 4096, 10_000] {
            let mut memory = Memory::new(length);
            assert_eq!(memory.as_ptr().addr() % PAGE_SIZE, 0);
            assert_eq!(*memory, vec![0; length]);
            memory.fill(7);
            assert_eq!(*memory, vec![7; length]);
        }
    }

    #[test]
    fn a_vec_keeps_its_allocation() {
        let mut bytes = Vec::with_capacity(100);
        bytes.extend(0..100_u8);
        let at = bytes.as_ptr();
        let memory = Memory::from(bytes);
        assert_eq!((memory.as_ptr(), memory.len(), memory[99]), (at, 100, 99));
        assert!(Memory::from(Vec::new()).is_empty());
    }

    #[test]
    fn writing_excludes_and_reading_does_not() {
        let memory = SharedMemory::new(Memory::new(100));
        let first = memory.lend(10..20, Usage::Read).unwrap();
        let second = memory.lend(10..20, Usage::Read).unwrap();
        for overlapping in [0..11, 19..30, 12..13, 0..100] {
            assert_eq!(memory.lend(overlapping, Usage::Write).err(), Some(CannotUse::InUse));
        }
        for apart in [0..10, 20..100, 15..15] {
            assert!(memory.lend(apart, Usage::Write).is_ok());
        }
        drop(first);
        assert_eq!(memory.lend(10..20, Usage::Write).err(), Some(CannotUse::InUse));
        drop(second);
        let writer = memory.lend(10..20, Usage::Write).unwrap();
        assert_eq!(memory.with_bytes(19..20, |_| ()), Err(CannotUse::InUse));
        drop(writer);
        assert_eq!(memory.with_bytes_mut(19..20, |bytes| bytes.fill(3)), Ok(()));
        assert_eq!(memory.with_bytes(18..21, <[u8]>::to_vec), Ok(vec![0, 3, 0]));
        assert!(memory.uses().is_empty());
    }

    #[test]
    fn nothing_outside_is_lent() {
        let memory = SharedMemory::new(Memory::new(10));
        #[expect(clippy::reversed_empty_ranges)]
        for outside in [0..11, 11..11, 11..12, 5..4, usize::MAX..usize::MAX, 1..usize::MAX] {
            assert_eq!(memory.lend(outside, Usage::Read).err(), Some(CannotUse::Outside));
        }
        assert!(memory.lend(10..10, Usage::Write).is_ok());
    }

    #[test]
    fn a_panic_gives_the_part_back() {
        let memory = SharedMemory::new(Memory::new(10));
        let panicked = std::panic::catch_unwind(|| memory.with_bytes_mut(0..10, |_| panic!("by the test")));
        assert!(panicked.is_err());
        assert_eq!(memory.with_bytes(0..10, <[u8]>::len), Ok(10));
    }
}
