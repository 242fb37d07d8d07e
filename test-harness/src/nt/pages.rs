//! Pages that a driver allocates for a list, without an address until they are mapped (MmAllocatePagesForMdl), and contiguous memory.
//!
//! A page's physical address is where this machine keeps it, as the page numbers of all lists say. What is not mapped cannot be
//! accessed, and a mapping into a process is a second view of the same pages.
#![allow(unsafe_code)] // fills pages, and maps them twice

use std::collections::BTreeMap;
use std::{io, ptr};

use parking_lot::Mutex;

use super::irql::called;
use super::locked_pages::Remnant;
use super::mdl;
use super::pool::{self, Owner};
use super::types::{DISPATCH_LEVEL, HIGH_LEVEL, MDL, MDL_MAPPED_TO_SYSTEM_VA, MDL_PAGES_LOCKED, PAGE_SIZE, PVOID};
use crate::guard::violate;
use crate::image::Export;
use crate::image::unwind::{Site, known, site};
use crate::kernel::Kernel;
use crate::memory::{Access, Mapping, page_up};
use crate::thread::kernel;
use crate::violation::Rule;

/// How much memory a machine has for such pages. Who asks for more gets a part.
const MEMORY: usize = 1 << 30;
/// The longest list: its length is a ULONG.
const LONGEST: usize = (4 << 30) - PAGE_SIZE;
/// What pages hold that are not asked to be zeroed, as far as they are filled at all.
const GARBAGE: u8 = 0xa5;
const GARBAGE_MAXIMUM: usize = 16 * PAGE_SIZE;

const MM_DONT_ZERO_ALLOCATION: u32 = 0x01;
const MM_ALLOCATE_FULLY_REQUIRED: u32 = 0x04;
const MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS: u32 = 0x20;

/// What one call has allocated.
struct Allocation {
    memory: Mapping,
    /// Its list's address.
    list: usize,
    /// Mappings that the driver has made and not taken away.
    mappings: usize,
    /// Whether a component of the system has mapped it, for as long as it is there.
    opened: bool,
    site: Site,
}

impl Allocation {
    fn show(&self) {
        let access = if self.mappings != 0 || self.opened { Access::ReadWrite } else { Access::None };
        if self.memory.protect(0, self.memory.len(), access).is_err() {
            violate(Rule::Mdl, "the host has no room for another mapping");
        }
    }
}

/// The allocations of a machine, by the address of their first page.
#[derive(Default)]
pub(crate) struct AllocatedPages(Mutex<BTreeMap<usize, Allocation>>);

impl AllocatedPages {
    fn with<T>(&self, address: usize, body: impl FnOnce(&mut Allocation) -> T) -> Option<T> {
        let mut all = self.0.lock();
        let (_, allocation) = all.range_mut(..=address).next_back()?;
        allocation.memory.contains(address).then(|| body(allocation))
    }

    /// A component of the system maps pages.
    pub(super) fn open(&self, address: usize) {
        self.with(address, |allocation| {
            if !std::mem::replace(&mut allocation.opened, true) {
                allocation.show();
            }
        });
    }

    /// The driver maps pages, or takes a mapping away.
    pub(super) fn count_mapping(&self, address: usize, mapped: bool) {
        self.with(address, |allocation| {
            allocation.mappings = if mapped { allocation.mappings + 1 } else { allocation.mappings.saturating_sub(1) };
            allocation.show();
        });
    }

    /// Another view of the pages of a range.
    pub(super) fn view(&self, address: usize, length: usize) -> Option<io::Result<Mapping>> {
        self.with(address, |allocation| allocation.memory.view(address - allocation.memory.base(), length))
    }

    /// Whether an address lies in pages of a list itself, not of a partial one.
    pub(super) fn is_list(&self, list: usize) -> bool {
        self.0.lock().values().any(|allocation| allocation.list == list)
    }

    fn used(&self) -> usize {
        self.0.lock().values().map(|allocation| allocation.memory.len()).sum()
    }

    /// Where what is left was allocated, and how many pages each has.
    pub(super) fn left(&self) -> Vec<(Vec<usize>, usize)> {
        let all = self.0.lock();
        all.values().map(|allocation| (known(allocation.site), allocation.memory.len() / PAGE_SIZE)).collect()
    }
}

/// Where pages may lie: from one physical address to another, and again so many bytes higher.
struct Ranges {
    low: u64,
    high: u64,
    skip: u64,
}

impl Ranges {
    fn contain(&self, start: usize, length: usize) -> bool {
        let (start, last) = (start as u64, (start + length - 1) as u64);
        let Some(behind) = start.checked_sub(self.low) else { return false };
        let moved = behind.checked_div(self.skip).unwrap_or(0).saturating_mul(self.skip);
        last <= self.high.saturating_add(moved)
    }
}

fn allocate(ranges: &Ranges, length: usize, flags: u32) -> Option<*mut MDL> {
    let kernel = kernel();
    if !ranges.skip.is_multiple_of(PAGE_SIZE as u64) {
        violate(Rule::Mdl, format!("SkipBytes is {:#x}, no multiple of a page", ranges.skip));
    }
    let skip = usize::try_from(ranges.skip).ok()?;
    let in_chunks = flags & MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS != 0 && skip != 0;
    if in_chunks && (!skip.is_power_of_two() || !length.is_multiple_of(skip)) {
        return None;
    }
    let pages = kernel.extension::<AllocatedPages>();
    let asked = page_up(length.min(LONGEST));
    let there = asked.min(MEMORY.saturating_sub(pages.used()));
    let there = if in_chunks { there / skip * skip } else { there };
    let all_or_none = flags & (MM_ALLOCATE_FULLY_REQUIRED | MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS) != 0 && !in_chunks;
    if there == 0 || there < asked && all_or_none || kernel.faults.allocation_fails() {
        return None;
    }
    let alignment = if in_chunks { skip } else { PAGE_SIZE };
    let mut memory = Mapping::shared(there, alignment).ok()?;
    if !ranges.contain(memory.base(), there) {
        return None;
    }
    if flags & MM_DONT_ZERO_ALLOCATION != 0 {
        let filled = there.min(GARBAGE_MAXIMUM);
        memory.protect(0, filled, Access::ReadWrite).ok()?;
        memory.write(0, &vec![GARBAGE; filled]);
        memory.protect(0, filled, Access::None).ok()?;
    }
    let list = mdl::allocate(kernel, ptr::null_mut(), there, Owner::Driver)?;
    mdl::describe_pages(mdl::at(list)?, memory.base());
    let allocation = Allocation { memory, list: list as usize, mappings: 0, opened: false, site: site() };
    pages.0.lock().insert(allocation.memory.base(), allocation);
    Some(list)
}

pub(crate) extern "win64" fn MmAllocatePagesForMdl(low: u64, high: u64, skip: u64, length: usize) -> *mut MDL {
    called("MmAllocatePagesForMdl", DISPATCH_LEVEL);
    allocate(&Ranges { low, high, skip }, length, 0).unwrap_or(ptr::null_mut())
}

pub(crate) extern "win64" fn MmAllocatePagesForMdlEx(
    low: u64,
    high: u64,
    skip: u64,
    length: usize,
    _cache: u32,
    flags: u32,
) -> *mut MDL {
    called("MmAllocatePagesForMdlEx", DISPATCH_LEVEL);
    allocate(&Ranges { low, high, skip }, length, flags).unwrap_or(ptr::null_mut())
}

/// The list itself is freed by ExFreePool.
pub(crate) extern "win64" fn MmFreePagesFromMdl(list: &MDL) {
    let kernel = &called("MmFreePagesFromMdl", DISPATCH_LEVEL).kernel;
    let (pages, key) = (kernel.extension::<AllocatedPages>(), ptr::from_ref(list) as usize);
    if !pages.is_list(key) {
        violate(Rule::BadFree, "MmFreePagesFromMdl of a list that MmAllocatePagesForMdl did not make, or has freed");
    }
    let first = mdl::described_address(list) as usize;
    if pages.with(first, |allocation| allocation.mappings != 0) == Some(true) || kernel.locked_pages.is_viewed(key) {
        violate(Rule::Mdl, "MmFreePagesFromMdl: the pages are still mapped (MmUnmapLockedPages)");
    }
    match kernel.locked_pages.unlock(key) {
        Ok(()) | Err(Remnant::Locked) => {}
        Err(Remnant::Used) => violate(Rule::Wsk(29), "the pages are freed while a pending WSK operation uses them"),
        Err(Remnant::Mapped) => {
            violate(Rule::Mdl, "the pages are freed while a partial MDL over them is mapped (MmPrepareMdlForReuse)")
        }
    }
    list.MdlFlags.set(list.MdlFlags.get() & !(MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA));
    list.MappedSystemVa.set(ptr::null_mut());
    pages.0.lock().remove(&first);
}

/// Contiguous memory that a physical address range holds. It is of whole pages.
fn allocate_contiguous(length: usize, ranges: &Ranges, boundary: u64) -> PVOID {
    let kernel = kernel();
    if kernel.faults.allocation_fails() {
        return ptr::null_mut();
    }
    let length = page_up(length.max(1));
    let Some(block) = kernel.pool.allocate(length, pool::CONTIGUOUS_TAG, Owner::Driver, false) else {
        return ptr::null_mut();
    };
    let (first, last) = (block as u64, (block as usize + length - 1) as u64);
    let crosses = first.checked_div(boundary) != last.checked_div(boundary);
    if ranges.contain(block as usize, length) && !crosses {
        return block;
    }
    pool::free(kernel, block, pool::CONTIGUOUS_TAG);
    ptr::null_mut()
}

pub(crate) extern "win64" fn MmAllocateContiguousMemory(length: usize, highest: u64) -> PVOID {
    called("MmAllocateContiguousMemory", DISPATCH_LEVEL);
    allocate_contiguous(length, &Ranges { low: 0, high: highest, skip: 0 }, 0)
}

pub(crate) extern "win64" fn MmAllocateContiguousMemorySpecifyCache(
    length: usize,
    low: u64,
    high: u64,
    boundary: u64,
    _cache: u32,
) -> PVOID {
    called("MmAllocateContiguousMemorySpecifyCache", DISPATCH_LEVEL);
    allocate_contiguous(length, &Ranges { low, high, skip: 0 }, boundary)
}

pub(crate) extern "win64" fn MmFreeContiguousMemory(address: PVOID) {
    let kernel = &called("MmFreeContiguousMemory", DISPATCH_LEVEL).kernel;
    pool::free(kernel, address, pool::CONTIGUOUS_TAG);
}

pub(crate) extern "win64" fn MmFreeContiguousMemorySpecifyCache(address: PVOID, _length: usize, _cache: u32) {
    let kernel = &called("MmFreeContiguousMemorySpecifyCache", DISPATCH_LEVEL).kernel;
    pool::free(kernel, address, pool::CONTIGUOUS_TAG);
}

/// Where the machine keeps a byte that an address reaches. A page that is not there has no such place.
pub(crate) extern "win64" fn MmGetPhysicalAddress(address: usize) -> u64 {
    called("MmGetPhysicalAddress", HIGH_LEVEL);
    if crate::guard::can_read(address) { kernel().locked_pages.seen_through(address) as u64 } else { 0 }
}

/// What an address that faulted is, among pages that are not mapped.
pub(crate) fn describe(kernel: &Kernel, address: usize) -> Option<(Rule, String)> {
    let pages = kernel.extension::<AllocatedPages>();
    let page = pages.with(address, |allocation| (address - allocation.memory.base()) / PAGE_SIZE)?;
    Some((Rule::Fault, format!("page {page} of a list of MmAllocatePagesForMdl, which is not mapped")))
}

/// What a driver left, as [`AllocatedPages::left`] of the machine has it.
pub(super) fn left(kernel: &Kernel) -> Vec<(Vec<usize>, usize)> {
    kernel.extension::<AllocatedPages>().left()
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    MmAllocatePagesForMdl,
    MmAllocatePagesForMdlEx,
    MmFreePagesFromMdl,
    MmAllocateContiguousMemory,
    MmAllocateContiguousMemorySpecifyCache,
    MmFreeContiguousMemory,
    MmFreeContiguousMemorySpecifyCache,
    MmGetPhysicalAddress,
];
