//! MDLs of the driver's own: over a small buffer beside them, and over a part of somebody else's locked memory.
#![allow(unsafe_code, reason = "initializes MDLs in place, and has the kernel fill them in")]

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use san_protocol::NtStatus;
use wdk_sys::ntddk::{IoAllocateMdl, IoBuildPartialMdl, IoFreeMdl, MmBuildMdlForNonPagedPool, MmUnmapLockedPages};
use wdk_sys::{MDL, MDL_PARTIAL_HAS_BEEN_MAPPED, PAGE_SIZE, PMDL, PVOID};

/// An MDL with room for so many page frame numbers behind it.
#[repr(C)]
struct Frames<const PAGES: usize> {
    mdl: MDL,
    pages: [usize; PAGES],
}

impl<const PAGES: usize> Frames<PAGES> {
    /// Initializes the MDL for the memory at `address`, as `MmInitializeMdl` of wdm.h does.
    ///
    /// # Safety
    ///
    /// `this` is memory of this size that nobody else looks at.
    unsafe fn initialize(this: *mut Self, address: usize, length: u32) -> PMDL {
        const { assert!(size_of::<Self>() <= i16::MAX as usize) };
        #[expect(clippy::cast_possible_truncation, reason = "less than a page")]
        let byte_offset = (address % PAGE_SIZE as usize) as u32;
        let mdl = MDL {
            Next: ptr::null_mut(),
            #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
            Size: size_of::<Self>() as i16,
            MdlFlags: 0,
            Process: ptr::null_mut(),
            MappedSystemVa: ptr::null_mut(),
            StartVa: (address - byte_offset as usize) as PVOID,
            ByteCount: length,
            ByteOffset: byte_offset,
        };
        // SAFETY: by this function's contract; the MDL is the structure's first field.
        unsafe { this.cast::<MDL>().write(mdl) };
        this.cast()
    }
}

/// A buffer of `N` bytes, at most a page, with its MDL. It does not move once it is built.
pub(crate) struct MdlBuffer<const N: usize> {
    frames: UnsafeCell<MaybeUninit<Frames<2>>>,
    bytes: UnsafeCell<[u8; N]>,
}

// SAFETY: memory that is used by one owner at a time; its owner says who that is.
unsafe impl<const N: usize> Sync for MdlBuffer<N> {}
// SAFETY: plain memory; nothing in it has a tie to a thread.
unsafe impl<const N: usize> Send for MdlBuffer<N> {}

impl<const N: usize> MdlBuffer<N> {
    pub(crate) const fn new() -> Self {
        const { assert!(N <= PAGE_SIZE as usize) };
        Self { frames: UnsafeCell::new(MaybeUninit::uninit()), bytes: UnsafeCell::new([0; N]) }
    }

    /// Builds the MDL, whose chain goes on with `next`. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// The buffer lies in non-paged pool, stays where it is, and no call refers to it.
    pub(crate) unsafe fn build(&self, next: Option<NonNull<MDL>>) -> NonNull<MDL> {
        #[expect(clippy::cast_possible_truncation, reason = "at most a page")]
        let length = N as u32;
        let address = self.bytes.get() as usize;
        // SAFETY: by this function's contract nobody looks at the frames.
        let mdl = unsafe { Frames::initialize(self.frames.get().cast::<Frames<2>>(), address, length) };
        // SAFETY: initialized for bytes in non-paged pool, with frames for the two pages that they can lie in.
        unsafe { MmBuildMdlForNonPagedPool(mdl) };
        // SAFETY: the field of an MDL that is this buffer's own.
        unsafe { (*mdl).Next = next.map_or(ptr::null_mut(), NonNull::as_ptr) };
        // SAFETY: it lies in `self`.
        unsafe { NonNull::new_unchecked(mdl) }
    }

    /// The MDL that [`MdlBuffer::build`] has built.
    pub(crate) fn mdl(&self) -> NonNull<MDL> {
        // SAFETY: it lies in `self`.
        unsafe { NonNull::new_unchecked(self.frames.get().cast()) }
    }

    /// Stores `bytes` at the buffer's beginning.
    ///
    /// # Safety
    ///
    /// No call refers to the buffer, and nobody else reads or writes it meanwhile.
    pub(crate) unsafe fn write(&self, bytes: &[u8]) {
        // SAFETY: by this function's contract.
        let buffer = unsafe { &mut *self.bytes.get() };
        let length = bytes.len().min(N);
        buffer[..length].copy_from_slice(&bytes[..length]);
    }

    /// A copy of what is in the buffer.
    ///
    /// # Safety
    ///
    /// No call refers to the buffer, and nobody writes it meanwhile.
    pub(crate) unsafe fn read(&self) -> [u8; N] {
        // SAFETY: by this function's contract.
        unsafe { *self.bytes.get() }
    }
}

/// Pages that a [`PartialMdl`] describes without an allocation: 64 KiB at any offset.
const PAGES_IN_PLACE: usize = 17;

/// Where a partial MDL's memory is.
enum Place {
    InPlace,
    Allocated(NonNull<MDL>),
}

/// An MDL for a part of memory that is locked by another MDL. It does not move once it is built.
pub(crate) struct PartialMdl {
    frames: UnsafeCell<MaybeUninit<Frames<PAGES_IN_PLACE>>>,
    place: Place,
    built: bool,
}

impl PartialMdl {
    pub(crate) const fn new() -> Self {
        Self { frames: UnsafeCell::new(MaybeUninit::uninit()), place: Place::InPlace, built: false }
    }

    /// Makes sure that `length` bytes at any offset can be described. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn make_room(&mut self, length: u32) -> Result<(), NtStatus> {
        if length as usize <= (PAGES_IN_PLACE - 1) * PAGE_SIZE as usize {
            return Ok(());
        }
        // The worst offset in a page, for the most pages.
        let worst = (PAGE_SIZE as usize - 1) as PVOID;
        // SAFETY: the address is only reckoned with: it says how many pages there are to describe.
        let mdl = unsafe { IoAllocateMdl(worst, length, 0, 0, ptr::null_mut()) };
        self.place = Place::Allocated(NonNull::new(mdl).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?);
        Ok(())
    }

    /// Describes `length` bytes at `offset` of what `source` describes. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// Room has been made for the length; the part lies inside `source`, whose pages stay locked until `self` is dropped; and
    /// `self` does not move from now on.
    pub(crate) unsafe fn build(&mut self, source: NonNull<MDL>, offset: u32, length: u32) -> NonNull<MDL> {
        // SAFETY: the source is alive by this function's contract.
        let described = unsafe { source.as_ref() };
        let address = described.StartVa as usize + described.ByteOffset as usize + offset as usize;
        let target = match self.place {
            // SAFETY: the frames are this MDL's own.
            Place::InPlace => unsafe {
                Frames::initialize(self.frames.get().cast::<Frames<PAGES_IN_PLACE>>(), address, length)
            },
            Place::Allocated(mdl) => mdl.as_ptr(),
        };
        // SAFETY: the part lies inside the source, and the target has frames for all its pages.
        unsafe { IoBuildPartialMdl(source.as_ptr(), target, address as PVOID, length) };
        self.built = true;
        // SAFETY: it is `self`'s own memory, or allocated.
        unsafe { NonNull::new_unchecked(target) }
    }
}

impl PartialMdl {
    /// Lets go of what it describes. No call refers to it any more. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn clear(&mut self) {
        match core::mem::replace(&mut self.place, Place::InPlace) {
            // SAFETY: allocated by `make_room`, freed once; this unmaps it too, if it was mapped.
            Place::Allocated(mdl) => unsafe { IoFreeMdl(mdl.as_ptr()) },
            Place::InPlace if self.built => {
                let mdl = self.frames.get().cast::<MDL>();
                // SAFETY: built, hence initialized, and no call refers to it any more.
                let fields = unsafe { &*mdl };
                if u32::from(fields.MdlFlags.cast_unsigned()) & MDL_PARTIAL_HAS_BEEN_MAPPED != 0 {
                    // SAFETY: somebody mapped it through this MDL, as `MmPrepareMdlForReuse` finds.
                    unsafe { MmUnmapLockedPages(fields.MappedSystemVa, mdl) };
                }
            }
            Place::InPlace => {}
        }
        self.built = false;
    }
}

impl Drop for PartialMdl {
    fn drop(&mut self) {
        self.clear();
    }
}
