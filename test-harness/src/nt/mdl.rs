//! Memory descriptor lists. The machine has one address space, so a list's mapping is the described memory itself.
#![allow(unsafe_code)] // writes page numbers behind the list

use std::ptr;

use super::exception::{ExRaiseStatus, raise, raise_access_violation};
use super::irql::called;
use super::locked_pages::Remnant;
use super::pages::AllocatedPages;
use super::pool::{self, Owner};
use super::status::{STATUS_ACCESS_VIOLATION, STATUS_DATATYPE_MISALIGNMENT, STATUS_INSUFFICIENT_RESOURCES, name};
use super::types::{
    DISPATCH_LEVEL, IRP, KERNEL_MODE, MDL, MDL_ALLOCATED_FIXED_SIZE, MDL_IO_PAGE_READ, MDL_MAPPED_TO_SYSTEM_VA,
    MDL_PAGES_LOCKED, MDL_PARTIAL, MDL_PARTIAL_HAS_BEEN_MAPPED, MDL_SOURCE_IS_NONPAGED_POOL, MDL_WRITE_OPERATION,
    PAGE_SIZE, PVOID,
};
use crate::guard::{self, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::thread::{current, kernel};
use crate::violation::Rule;

pub(crate) const TAG: u32 = pool::tag(*b"Mdl ");

/// LOCK_OPERATION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Pages that a range touches (ADDRESS_AND_SIZE_TO_SPAN_PAGES).
pub(crate) fn pages_spanned(address: usize, length: usize) -> usize {
    (address % PAGE_SIZE + length).div_ceil(PAGE_SIZE)
}

fn page_numbers(mdl: &MDL) -> *mut usize {
    ptr::from_ref(mdl).wrapping_add(1).cast::<usize>().cast_mut()
}

/// What the ledger knows a list by.
fn key(mdl: &MDL) -> usize {
    ptr::from_ref(mdl) as usize
}

/// Room for pages behind the list. `MDL.Size` cannot say it for long lists: the end of the pool block does.
fn capacity(kernel: &Kernel, mdl: &MDL) -> usize {
    let size = match mdl.Size.get() {
        ..=0 | i16::MAX => kernel.pool.block_at(key(mdl)).map_or(0, |block| block.end - key(mdl)),
        said => usize::try_from(said).unwrap_or(0),
    };
    size.saturating_sub(size_of::<MDL>()) / size_of::<usize>()
}

fn has(mdl: &MDL, flag: i16) -> bool {
    mdl.MdlFlags.get() & flag != 0
}

fn set(mdl: &MDL, flag: i16) {
    mdl.MdlFlags.set(mdl.MdlFlags.get() | flag);
}

fn clear(mdl: &MDL, flag: i16) {
    mdl.MdlFlags.set(mdl.MdlFlags.get() & !flag);
}

/// Where the machine keeps the described bytes: lists of pages without an address of their own say it by their numbers alone.
pub(crate) fn described_address(mdl: &MDL) -> PVOID {
    let is_built = has(mdl, MDL_PAGES_LOCKED | MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL);
    if !is_built || mdl.ByteCount.get() == 0 {
        return mdl.virtual_address();
    }
    // SAFETY: a list that is built, and not empty, has the numbers of its pages behind it; a freed one faults.
    let first = unsafe { page_numbers(mdl).read() };
    ((first * PAGE_SIZE) as PVOID).wrapping_byte_add(mdl.ByteOffset.get() as usize)
}

/// Whether its pages have no address of their own (MmAllocatePagesForMdl).
fn is_of_allocated_pages(mdl: &MDL) -> bool {
    described_address(mdl) != mdl.virtual_address()
}

/// A list of as many pages as it has room for, which are at an address of the machine's, and locked for good.
pub(super) fn describe_pages(mdl: &MDL, first: usize) {
    write_numbers(mdl, first / PAGE_SIZE);
    set(mdl, MDL_PAGES_LOCKED);
    kernel().locked_pages.lock(key(mdl), 0);
}

/// Makes a list for a range, without pages (MmInitializeMdl).
pub(crate) fn initialize(mdl: &MDL, address: PVOID, length: usize) {
    let offset = address as usize % PAGE_SIZE;
    let size = size_of::<MDL>() + size_of::<usize>() * pages_spanned(address as usize, length);
    mdl.Next.set(ptr::null_mut());
    mdl.Size.set(i16::try_from(size).unwrap_or(i16::MAX));
    mdl.MdlFlags.set(0);
    mdl.StartVa.set(address.wrapping_byte_sub(offset));
    mdl.ByteOffset.set(u32::try_from(offset).unwrap_or(0));
    mdl.ByteCount.set(u32::try_from(length).unwrap_or(u32::MAX));
}

/// A list for a range. None if there is no memory, or if the range is too long for one list.
pub(crate) fn allocate(kernel: &Kernel, address: PVOID, length: usize, owner: Owner) -> Option<*mut MDL> {
    let size = size_of::<MDL>() + size_of::<usize>() * pages_spanned(address as usize, length);
    let block = kernel.pool.allocate(size, TAG, owner, true)?.cast::<MDL>();
    // SAFETY: a fresh block of at least the structure's size, zeroed, which is a valid list.
    initialize(unsafe { &*block }, address, length);
    Some(block)
}

/// The list at an address that some structure holds.
pub(crate) fn at<'a>(mdl: *mut MDL) -> Option<&'a MDL> {
    // SAFETY: chains and IRPs hold null or the address of a list; a freed one faults, which the guard reports.
    unsafe { mdl.as_ref() }
}

fn number_pages(mdl: &MDL) {
    write_numbers(mdl, mdl.StartVa.get() as usize / PAGE_SIZE);
}

fn write_numbers(mdl: &MDL, first: usize) {
    for index in 0..pages_spanned(mdl.ByteOffset.get() as usize, mdl.ByteCount.get() as usize) {
        // SAFETY: the list was allocated with room for the pages of its range.
        unsafe { page_numbers(mdl).wrapping_add(index).write(first + index) };
    }
}

/// Whether every page of a range can be accessed so. A write leaves the bytes as they are.
pub(crate) fn probe(address: usize, length: usize, access: Access) -> bool {
    if length == 0 {
        return true;
    }
    let Some(last) = address.checked_add(length - 1) else { return false };
    let accessible = |page: usize| match access {
        Access::Read => guard::can_read(page),
        Access::Write => guard::can_write(page),
    };
    (address..=last).step_by(PAGE_SIZE).all(accessible) && accessible(last)
}

/// Probes and locks; false where Windows raises STATUS_ACCESS_VIOLATION.
pub(crate) fn lock(mdl: &MDL, access: Access) -> bool {
    if has(mdl, MDL_PAGES_LOCKED) {
        violate(Rule::Mdl, "MmProbeAndLockPages: the pages are locked already");
    }
    if has(mdl, MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL | MDL_MAPPED_TO_SYSTEM_VA) {
        violate(Rule::Mdl, "MmProbeAndLockPages of a list that is built already");
    }
    if !probe(mdl.virtual_address() as usize, mdl.ByteCount.get() as usize, access) {
        return false;
    }
    number_pages(mdl);
    set(mdl, MDL_PAGES_LOCKED);
    let current = current();
    current.kernel.paging.lock(mdl.virtual_address() as usize);
    let of_the_system = current.kernel.pool.block_at(mdl.virtual_address() as usize).is_some();
    let process = if of_the_system { ptr::null_mut() } else { current.thread.process.body() };
    mdl.Process.set(process);
    current.kernel.locked_pages.lock(key(mdl), process as usize);
    match access {
        Access::Read => clear(mdl, MDL_WRITE_OPERATION),
        Access::Write => set(mdl, MDL_WRITE_OPERATION),
    }
    true
}

/// Unlocks; the list must be locked.
pub(crate) fn unlock(mdl: &MDL) {
    if !has(mdl, MDL_PAGES_LOCKED) {
        violate(Rule::Mdl, "MmUnlockPages: the pages are not locked");
    }
    if has(mdl, MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL) {
        violate(Rule::Mdl, "MmUnlockPages of a partial list, or of one over non-paged pool");
    }
    if is_of_allocated_pages(mdl) {
        violate(Rule::Mdl, "MmUnlockPages of pages of MmAllocatePagesForMdl (MmFreePagesFromMdl)");
    }
    match kernel().locked_pages.unlock(key(mdl)) {
        Ok(()) | Err(Remnant::Locked) => {}
        Err(Remnant::Used) => violate(Rule::Wsk(29), "the pages are unlocked while a pending WSK operation uses them"),
        Err(Remnant::Mapped) => {
            violate(Rule::Mdl, "the pages are unlocked while a partial MDL over them is mapped (MmPrepareMdlForReuse)")
        }
    }
    kernel().paging.unlock(mdl.virtual_address() as usize);
    clear(mdl, MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA | MDL_WRITE_OPERATION);
    mdl.MappedSystemVa.set(ptr::null_mut());
}

pub(crate) extern "win64" fn MmSizeOfMdl(base: PVOID, length: usize) -> usize {
    called("MmSizeOfMdl", super::types::HIGH_LEVEL);
    size_of::<MDL>() + size_of::<usize>() * pages_spanned(base as usize, length)
}

pub(crate) extern "win64" fn IoAllocateMdl(
    address: PVOID,
    length: u32,
    secondary: u8,
    _quota: u8,
    irp: Option<&IRP>,
) -> *mut MDL {
    let current = called("IoAllocateMdl", DISPATCH_LEVEL);
    if current.kernel.faults.allocation_fails() {
        return ptr::null_mut();
    }
    let Some(mdl) = allocate(&current.kernel, address, length as usize, Owner::Driver) else { return ptr::null_mut() };
    if let Some(irp) = irp {
        if secondary == 0 {
            irp.MdlAddress.set(mdl);
        } else {
            let mut last = at(irp.MdlAddress.get());
            while let Some(next) = last.and_then(|mdl| at(mdl.Next.get())) {
                last = Some(next);
            }
            if let Some(last) = last {
                last.Next.set(mdl);
            }
        }
    }
    mdl
}

pub(crate) extern "win64" fn IoFreeMdl(mdl: &MDL) {
    let current = called("IoFreeMdl", DISPATCH_LEVEL);
    free(&current.kernel, mdl);
}

/// Frees a list, which must not be locked.
pub(crate) fn free(kernel: &Kernel, mdl: &MDL) {
    if has(mdl, MDL_PAGES_LOCKED) && !has(mdl, MDL_PARTIAL) {
        violate(Rule::Mdl, "IoFreeMdl: the pages are still locked");
    }
    if has(mdl, MDL_PARTIAL_HAS_BEEN_MAPPED) && is_of_allocated_pages(mdl) {
        kernel.extension::<AllocatedPages>().count_mapping(described_address(mdl) as usize, false);
    }
    if kernel.locked_pages.forget(key(mdl)).is_err() {
        violate(Rule::Wsk(29), "the MDL is freed while a pending WSK operation uses it");
    }
    pool::free(kernel, ptr::from_ref(mdl).cast_mut().cast(), TAG);
}

pub(crate) extern "win64" fn IoBuildPartialMdl(source: &MDL, target: &MDL, address: PVOID, length: u32) {
    let kernel = &called("IoBuildPartialMdl", DISPATCH_LEVEL).kernel;
    let start = source.virtual_address() as usize;
    let end = start + source.ByteCount.get() as usize;
    let from = address as usize;
    // Zero asks for the rest of the source.
    let length = if length == 0 { end.saturating_sub(from) } else { length as usize };
    if from < start || from + length > end {
        violate(
            Rule::Mdl,
            format!("IoBuildPartialMdl: {length} bytes at {from:#x} lie outside the source, {start:#x} to {end:#x}"),
        );
    }
    if !has(source, MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL) {
        violate(Rule::Mdl, "IoBuildPartialMdl: the source's pages are not locked");
    }
    let room = capacity(kernel, target);
    if pages_spanned(from, length) > room {
        violate(Rule::Mdl, format!("IoBuildPartialMdl: the target has room for {room} pages"));
    }
    if has(target, MDL_PARTIAL_HAS_BEEN_MAPPED) {
        violate(Rule::Mdl, "IoBuildPartialMdl: the target is still mapped (MmPrepareMdlForReuse)");
    }
    if !is_described(source) {
        violate(Rule::Mdl, "IoBuildPartialMdl: the pages of the source were unlocked");
    }
    if kernel.locked_pages.build(key(source), key(target)).is_err() {
        violate(Rule::Wsk(29), "IoBuildPartialMdl: a pending WSK operation uses the target");
    }
    target.StartVa.set((from & !(PAGE_SIZE - 1)) as PVOID);
    target.ByteOffset.set(u32::try_from(from % PAGE_SIZE).unwrap_or(0));
    target.ByteCount.set(u32::try_from(length).unwrap_or(0));
    target.Process.set(source.Process.get());
    let kept = target.MdlFlags.get() & MDL_ALLOCATED_FIXED_SIZE;
    let inherited = source.MdlFlags.get() & (MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA | MDL_IO_PAGE_READ);
    target.MdlFlags.set(kept | inherited | MDL_PARTIAL);
    let offset = from - start;
    target.MappedSystemVa.set(source.system_address().map_or(ptr::null_mut(), |base| base.wrapping_byte_add(offset)));
    write_numbers(target, (described_address(source) as usize + offset) / PAGE_SIZE);
}

pub(crate) extern "win64" fn MmBuildMdlForNonPagedPool(mdl: &MDL) {
    let current = called("MmBuildMdlForNonPagedPool", DISPATCH_LEVEL);
    if has(mdl, MDL_PAGES_LOCKED | MDL_PARTIAL | MDL_SOURCE_IS_NONPAGED_POOL) {
        violate(Rule::Mdl, "MmBuildMdlForNonPagedPool of a list that is built already");
    }
    let (start, length) = (mdl.virtual_address() as usize, mdl.ByteCount.get() as usize);
    if current.kernel.paging.contains(start) {
        violate(Rule::PagedMemory, "MmBuildMdlForNonPagedPool of pageable memory");
    }
    if let Some(block) = current.kernel.pool.block_at(start)
        && start + length > block.end
    {
        violate(
            Rule::Mdl,
            format!(
                "MmBuildMdlForNonPagedPool: {length} bytes reach beyond the pool block, which has {} left",
                block.end - start
            ),
        );
    }
    number_pages(mdl);
    set(mdl, MDL_SOURCE_IS_NONPAGED_POOL);
    mdl.MappedSystemVa.set(mdl.virtual_address());
}

pub(crate) extern "win64" fn MmProbeAndLockPages(mdl: &MDL, mode: i8, operation: u32) {
    let current = called("MmProbeAndLockPages", DISPATCH_LEVEL);
    if mode != KERNEL_MODE && current.irql.get() > super::types::APC_LEVEL {
        violate(Rule::Irql, "MmProbeAndLockPages of pageable memory above APC_LEVEL");
    }
    let access = if operation == 0 { Access::Read } else { Access::Write };
    if !lock(mdl, access) {
        raise_access_violation(mdl.virtual_address() as usize, access == Access::Write, || {
            (Rule::Mdl, "MmProbeAndLockPages raised STATUS_ACCESS_VIOLATION".to_owned())
        });
    }
}

pub(crate) extern "win64" fn MmUnlockPages(mdl: &MDL) {
    called("MmUnlockPages", DISPATCH_LEVEL);
    unlock(mdl);
}

pub(crate) extern "win64" fn MmMapLockedPagesSpecifyCache(
    mdl: &MDL,
    mode: i8,
    _cache: u32,
    _address: PVOID,
    _bug_check: u32,
    _priority: u32,
) -> PVOID {
    let current = called("MmMapLockedPagesSpecifyCache", DISPATCH_LEVEL);
    if !has(mdl, MDL_PAGES_LOCKED | MDL_PARTIAL) {
        violate(Rule::Mdl, "MmMapLockedPagesSpecifyCache: the pages are not locked");
    }
    if has(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) && mode == KERNEL_MODE {
        violate(Rule::Mdl, "MmMapLockedPagesSpecifyCache: the list is mapped already");
    }
    if !is_described(mdl) {
        violate(Rule::Mdl, "MmMapLockedPagesSpecifyCache: the pages were unlocked");
    }
    if mode != KERNEL_MODE && current.irql.get() > super::types::APC_LEVEL {
        violate(Rule::Irql, "MmMapLockedPagesSpecifyCache into a process above APC_LEVEL");
    }
    let fails = current.kernel.faults.allocation_fails();
    if mode != KERNEL_MODE {
        return if fails { ExRaiseStatus(STATUS_INSUFFICIENT_RESOURCES) } else { map_into_process(mdl) };
    }
    if fails {
        return ptr::null_mut();
    }
    mark_mapped(mdl);
    if is_of_allocated_pages(mdl) {
        current.kernel.extension::<AllocatedPages>().count_mapping(described_address(mdl) as usize, true);
    }
    mdl.MappedSystemVa.get()
}

/// As MmMapLockedPagesSpecifyCache, for drivers that cannot do without the mapping.
pub(crate) extern "win64" fn MmMapLockedPages(mdl: &MDL, mode: i8) -> PVOID {
    let mapped = MmMapLockedPagesSpecifyCache(mdl, mode, 1, ptr::null_mut(), 1, 32);
    if mapped.is_null() {
        // NO_MORE_SYSTEM_PTES.
        violate(Rule::BugCheck, "0x0000003F: MmMapLockedPages has found no room");
    }
    mapped
}

/// Maps a list into the current process. Its own pages are there already.
fn map_into_process(mdl: &MDL) -> PVOID {
    let kernel = kernel();
    let described = described_address(mdl) as usize;
    let offset = mdl.ByteOffset.get() as usize;
    let memory = if is_of_allocated_pages(mdl) {
        let length = mdl.ByteCount.get() as usize + offset;
        match kernel.extension::<AllocatedPages>().view(described - offset, length) {
            Some(Ok(view)) => Some(view),
            Some(Err(_)) => ExRaiseStatus(STATUS_INSUFFICIENT_RESOURCES),
            None => None,
        }
    } else {
        None
    };
    let base = memory.as_ref().map_or(described, |view| view.base() + offset);
    let process = current().thread.process.body() as usize;
    let (first_page, described_page) = (base - offset, described - offset);
    kernel.locked_pages.add_view(key(mdl), first_page, described_page, process, memory);
    base as PVOID
}

/// Maps a list for a component of the system, unless it is mapped (MmGetSystemAddressForMdlSafe).
pub(crate) fn map(mdl: &MDL) {
    if has(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL) {
        return;
    }
    mark_mapped(mdl);
    if is_of_allocated_pages(mdl) {
        kernel().extension::<AllocatedPages>().open(described_address(mdl) as usize);
    }
}

fn mark_mapped(mdl: &MDL) {
    set(mdl, MDL_MAPPED_TO_SYSTEM_VA);
    if has(mdl, MDL_PARTIAL) {
        set(mdl, MDL_PARTIAL_HAS_BEEN_MAPPED);
        kernel().locked_pages.set_mapped(key(mdl), true);
    }
    mdl.MappedSystemVa.set(described_address(mdl));
}

/// Whether a list describes memory that is resident: non-paged pool, or pages that have stayed locked.
pub(crate) fn is_described(mdl: &MDL) -> bool {
    has(mdl, MDL_SOURCE_IS_NONPAGED_POOL)
        || has(mdl, MDL_PAGES_LOCKED | MDL_PARTIAL) && kernel().locked_pages.are_pages_locked(key(mdl))
}

pub(crate) extern "win64" fn MmUnmapLockedPages(base: PVOID, mdl: &MDL) {
    let current = called("MmUnmapLockedPages", DISPATCH_LEVEL);
    let first_page = base as usize - base as usize % PAGE_SIZE;
    let process = current.thread.process.body() as usize;
    if current.kernel.locked_pages.remove_view(key(mdl), first_page, process) {
        if current.irql.get() > super::types::APC_LEVEL {
            violate(Rule::Irql, "MmUnmapLockedPages of a process's mapping above APC_LEVEL");
        }
        return;
    }
    if has(mdl, MDL_PARTIAL) && !has(mdl, MDL_PARTIAL_HAS_BEEN_MAPPED) {
        violate(Rule::Mdl, "MmUnmapLockedPages: the mapping is that of the partial list's source");
    }
    if has(mdl, MDL_MAPPED_TO_SYSTEM_VA) && base == mdl.MappedSystemVa.get() {
        kernel().locked_pages.set_mapped(key(mdl), false);
        if is_of_allocated_pages(mdl) {
            current.kernel.extension::<AllocatedPages>().count_mapping(base as usize, false);
        }
        clear(mdl, MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED);
        mdl.MappedSystemVa.set(ptr::null_mut());
    } else {
        violate(Rule::Mdl, "MmUnmapLockedPages: the list is not mapped there");
    }
}

/// Where user addresses end (MmUserProbeAddress).
pub(crate) const USER_PROBE_ADDRESS: usize = 0x7fff_ffff_0000;

/// MmHighestUserAddress and MmSystemRangeStart: the last user address, and the first of the system's.
const HIGHEST_USER_ADDRESS: usize = USER_PROBE_ADDRESS - 1;
static USER_PROBE: usize = USER_PROBE_ADDRESS;
static HIGHEST_USER: usize = HIGHEST_USER_ADDRESS;
static SYSTEM_RANGE: usize = 0xffff_8000_0000_0000;

pub(super) fn variables() -> [(&'static str, Export); 3] {
    [
        ("MmUserProbeAddress", Export::Data(&raw const USER_PROBE as usize)),
        ("MmHighestUserAddress", Export::Data(&raw const HIGHEST_USER as usize)),
        ("MmSystemRangeStart", Export::Data(&raw const SYSTEM_RANGE as usize)),
    ]
}

/// What ProbeForRead and ProbeForWrite raise for a range, if anything. An empty one is not looked at.
fn probe_user(call: &'static str, address: usize, length: usize, alignment: usize, access: Option<Access>) {
    called(call, super::types::APC_LEVEL);
    if length == 0 {
        return;
    }
    let unhandled =
        |status| move || (Rule::Fault, format!("{call} raised {} for {length} bytes at {address:#x}", name(status)));
    if alignment.is_power_of_two() && !address.is_multiple_of(alignment) {
        raise(STATUS_DATATYPE_MISALIGNMENT, 0, &[], unhandled(STATUS_DATATYPE_MISALIGNMENT));
    }
    if address.checked_add(length).is_none_or(|end| end > USER_PROBE_ADDRESS)
        || access.is_some_and(|access| !probe(address, length, access))
    {
        raise_access_violation(address, access.is_some(), unhandled(STATUS_ACCESS_VIOLATION));
    }
}

pub(crate) extern "win64" fn ProbeForRead(address: usize, length: usize, alignment: u32) {
    probe_user("ProbeForRead", address, length, alignment as usize, None);
}

pub(crate) extern "win64" fn ProbeForWrite(address: usize, length: usize, alignment: u32) {
    probe_user("ProbeForWrite", address, length, alignment as usize, Some(Access::Write));
}

pub(crate) extern "win64" fn MmIsAddressValid(address: usize) -> u8 {
    called("MmIsAddressValid", DISPATCH_LEVEL);
    u8::from(guard::can_read(address))
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    MmSizeOfMdl,
    IoAllocateMdl,
    IoFreeMdl,
    IoBuildPartialMdl,
    MmBuildMdlForNonPagedPool,
    MmProbeAndLockPages,
    MmUnlockPages,
    MmMapLockedPagesSpecifyCache,
    MmMapLockedPages,
    MmUnmapLockedPages,
    ProbeForRead,
    ProbeForWrite,
    MmIsAddressValid,
];
