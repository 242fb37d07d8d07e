//! MDLs: partial ones, lists in memory of the driver's own, and what must not outlive what.

use std::ptr;

use super::*;
use crate::nt::mdl;

const PAGES: usize = 4;

/// A user's buffer: pages that are no pool, at an address in the middle of a page.
struct UserBuffer {
    memory: Vec<u8>,
    start: usize,
}

impl UserBuffer {
    fn new() -> Self {
        let memory = vec![0; (PAGES + 2) * PAGE_SIZE];
        let start = (memory.as_ptr() as usize).next_multiple_of(PAGE_SIZE) + 0x123;
        Self { memory, start }
    }

    fn at(&self, offset: usize) -> PVOID {
        let inside = self.start - self.memory.as_ptr() as usize + offset;
        self.memory.as_ptr().wrapping_add(inside).cast_mut().cast()
    }

    fn list(&self, length: usize) -> &'static MDL {
        list(IoAllocateMdl(self.at(0), u32::try_from(length).unwrap(), 0, 0, None))
    }

    fn locked(&self, length: usize) -> &'static MDL {
        let list = self.list(length);
        MmProbeAndLockPages(list, USER_MODE, 1);
        list
    }
}

fn list(mdl: *mut MDL) -> &'static MDL {
    mdl::at(mdl).expect("a list")
}

fn page_numbers(mdl: &MDL, count: usize) -> Vec<usize> {
    let first = ptr::from_ref(mdl).wrapping_add(1).cast::<usize>();
    // SAFETY: the list has that many page numbers behind it.
    unsafe { std::slice::from_raw_parts(first, count) }.to_vec()
}

/// The macro MmPrepareMdlForReuse.
fn prepare_for_reuse(mdl: &MDL) {
    if mdl.MdlFlags.get() & MDL_PARTIAL_HAS_BEEN_MAPPED != 0 {
        MmUnmapLockedPages(mdl.MappedSystemVa.get(), mdl);
    }
}

/// The macro MmGetSystemAddressForMdlSafe.
fn system_address(mdl: &MDL) -> PVOID {
    mdl.system_address().unwrap_or_else(|| MmMapLockedPagesSpecifyCache(mdl, 0, 1, ptr::null_mut(), 0, 16))
}

/// A list in non-paged pool of the driver's own, behind `before` bytes of other things, with room for `pages`: as the macro
/// MmInitializeMdl makes it for `length` bytes at `address`.
fn embedded(before: usize, pages: usize, address: PVOID, length: usize) -> (&'static MDL, PVOID) {
    let block = ExAllocatePool2(0x40, before + size_of::<MDL>() + pages * size_of::<usize>(), TAG);
    let mdl = list(block.wrapping_byte_add(before).cast());
    mdl::initialize(mdl, address, length);
    (mdl, block)
}

#[test]
fn a_partial_list_describes_the_middle_of_a_locked_users_buffer() {
    sound(|| {
        let buffer = UserBuffer::new();
        let source = buffer.locked(3 * PAGE_SIZE);
        let (part, block) = embedded(24, PAGES, buffer.at(0), 3 * PAGE_SIZE);
        let first_page = buffer.start / PAGE_SIZE;
        IoBuildPartialMdl(source, part, buffer.at(5000), 6000);
        assert_eq!(part.virtual_address(), buffer.at(5000));
        assert_eq!((part.ByteOffset.get() as usize, part.ByteCount.get()), ((buffer.start + 5000) % PAGE_SIZE, 6000));
        assert_eq!(page_numbers(part, 2), [first_page + 1, first_page + 2]);
        assert_eq!(part.system_address(), None);
        assert_eq!(system_address(part), buffer.at(5000));
        assert_ne!(part.MdlFlags.get() & MDL_PARTIAL_HAS_BEEN_MAPPED, 0);
        prepare_for_reuse(part);
        assert_eq!(part.MdlFlags.get() & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED), 0);
        // Zero bytes: the rest.
        IoBuildPartialMdl(source, part, buffer.at(100), 0);
        assert_eq!(part.ByteCount.get() as usize, 3 * PAGE_SIZE - 100);
        // Of a source that is mapped the partial list inherits the mapping, and has none to give back.
        assert_eq!(system_address(source), buffer.at(0));
        IoBuildPartialMdl(source, part, buffer.at(7), 8);
        assert_eq!(part.system_address(), Some(buffer.at(7)));
        assert_eq!(part.MdlFlags.get() & MDL_PARTIAL_HAS_BEEN_MAPPED, 0);
        prepare_for_reuse(part);
        // A part of a part.
        let smaller = list(IoAllocateMdl(buffer.at(0), 100, 0, 0, None));
        IoBuildPartialMdl(part, smaller, buffer.at(9), 2);
        assert_eq!((smaller.virtual_address(), smaller.ByteCount.get()), (buffer.at(9), 2));
        IoFreeMdl(smaller);
        assert_eq!(current().kernel.locked_pages.count(), 1);
        MmUnlockPages(source);
        assert_eq!(current().kernel.locked_pages.count(), 0);
        IoFreeMdl(source);
        ExFreePool(block);
    });
}

#[test]
fn a_list_in_the_drivers_own_memory_describes_non_paged_pool() {
    sound(|| {
        let header = ExAllocatePool2(0x40, 16, TAG);
        let (mdl, block) = embedded(8, 2, header, 16);
        assert_eq!(usize::try_from(mdl.Size.get()).unwrap(), size_of::<MDL>() + 8);
        MmBuildMdlForNonPagedPool(mdl);
        assert_eq!((mdl.system_address(), page_numbers(mdl, 1)), (Some(header), vec![header as usize / PAGE_SIZE]));
        let part = list(IoAllocateMdl(header, 16, 0, 0, None));
        IoBuildPartialMdl(mdl, part, header.wrapping_byte_add(4), 8);
        assert_eq!(part.system_address(), Some(header.wrapping_byte_add(4)));
        IoFreeMdl(part);
        ExFreePool(block);
        ExFreePool(header);
    });
}

#[test]
fn wrong_partial_lists_are_found() {
    breaks(Rule::Mdl, || {
        // The target has room for two pages.
        let buffer = UserBuffer::new();
        let (part, _) = embedded(0, 2, buffer.at(0), PAGE_SIZE);
        IoBuildPartialMdl(buffer.locked(3 * PAGE_SIZE), part, buffer.at(0), 2 * PAGE_SIZE as u32);
    });
    breaks(Rule::Mdl, || {
        let buffer = UserBuffer::new();
        let part = buffer.list(PAGE_SIZE);
        IoBuildPartialMdl(buffer.locked(PAGE_SIZE), part, buffer.at(10), PAGE_SIZE as u32);
    });
    let partial = || {
        let buffer = UserBuffer::new();
        let (source, part) = (buffer.locked(PAGE_SIZE), buffer.list(PAGE_SIZE));
        IoBuildPartialMdl(source, part, buffer.at(10), 20);
        (buffer, source, part)
    };
    breaks(Rule::Mdl, move || {
        // Built again while it is mapped.
        let (buffer, source, part) = partial();
        system_address(part);
        IoBuildPartialMdl(source, part, buffer.at(10), 20);
    });
    breaks(Rule::Mdl, move || {
        // It outlives its source's lock.
        let (_buffer, source, part) = partial();
        MmUnlockPages(source);
        system_address(part);
    });
    breaks(Rule::Mdl, move || {
        // Its mapping does.
        let (_buffer, source, part) = partial();
        system_address(part);
        MmUnlockPages(source);
    });
    breaks(Rule::Mdl, move || {
        // Locked anew: these are other pages.
        let (_buffer, source, part) = partial();
        MmUnlockPages(source);
        MmProbeAndLockPages(source, USER_MODE, 1);
        system_address(part);
    });
    breaks(Rule::Mdl, move || {
        // The mapping is the source's.
        let (buffer, source, part) = partial();
        system_address(source);
        IoBuildPartialMdl(source, part, buffer.at(10), 20);
        MmUnmapLockedPages(part.MappedSystemVa.get(), part);
    });
    breaks(Rule::Mdl, || {
        // A mapping of system addresses is lost with the memory of its list.
        let buffer = UserBuffer::new();
        let source = buffer.locked(PAGE_SIZE);
        let (part, block) = embedded(0, 2, buffer.at(0), PAGE_SIZE);
        IoBuildPartialMdl(source, part, buffer.at(10), 20);
        system_address(part);
        ExFreePool(block);
    });
}

#[test]
fn a_process_that_exits_with_locked_pages_is_found() {
    let machine = Machine::new();
    let process = machine.process();
    let memory = vec![0_u8; 100];
    let list = process.in_kernel(move |_| {
        let list = IoAllocateMdl(memory.as_ptr().cast_mut().cast(), 100, 0, 0, None);
        MmProbeAndLockPages(mdl::at(list).unwrap(), USER_MODE, 1);
        std::mem::forget(memory);
        list as usize
    });
    assert!(list.is_ok());
    assert_eq!(machine.stats().locked_mdls, 1);
    process.exit();
    let violation = machine.violation().expect("a violation");
    assert_eq!(violation.rule, Rule::Mdl, "{violation}");
}
