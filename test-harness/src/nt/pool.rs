//! Pool memory. Every block ends at an inaccessible page, and a freed one becomes inaccessible itself.
//!
//! Slots are grouped in classes by their number of pages, each class in an address range of its own, so that the slot of
//! any address is found by arithmetic. A freed slot waits in its class's quarantine before it is used again. Once very many
//! blocks are live, further ones go to classes without guard pages: a process may have only so many mappings.
#![allow(unsafe_code)] // fills and checks pool memory

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::irql::called;
use super::locked_pages::Remnant;
use super::types::{APC_LEVEL, DISPATCH_LEVEL, PAGE_SIZE, PVOID};
use crate::guard::violate;
use crate::image::Export;
use crate::image::unwind::{self, NOWHERE, Site, site};
use crate::kernel::Kernel;
use crate::memory::{Access, Mapping, page_up};
use crate::nt::status::STATUS_INSUFFICIENT_RESOURCES;
use crate::thread::{Current, current};
use crate::violation::Rule;

/// Classes of 1, 2, 4, ... data pages.
const SIZES: usize = 14;
/// Address space for one class.
const REGION: usize = 4 << 30;
/// Freed bytes a class keeps inaccessible.
const QUARANTINE: usize = 16 << 20;
/// Live guarded blocks in this process, each of which costs two mappings of the system's 65,530.
const GUARDED_MAXIMUM: usize = 20_000;
static GUARDED: AtomicUsize = AtomicUsize::new(0);

/// What surrounds a block inside its pages, to be found unchanged when it is freed.
const FENCE: u8 = 0xfd;
/// Bytes checked before a block.
const FENCE_BEFORE: usize = 32;
/// What uninitialized and freed pool holds.
const GARBAGE: u8 = 0xa5;
/// Larger uninitialized blocks are left as they are.
const GARBAGE_MAXIMUM: usize = PAGE_SIZE;

/// On which side of a block its guard page lies: each finds what the other leaves to the fence that is checked at the free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolGuard {
    /// Behind every block, which ends at it but for the rounding to 16 bytes.
    #[default]
    After,
    /// Before every block.
    Before,
    /// On either side, by this seed.
    Alternating(u64),
}

impl PoolGuard {
    /// Whether the n-th allocation has it before itself.
    fn is_before(self, allocation: usize) -> bool {
        match self {
            PoolGuard::After => false,
            PoolGuard::Before => true,
            PoolGuard::Alternating(seed) => {
                // The finalizer of splitmix64.
                let mut x = seed.wrapping_add((allocation as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (x ^ (x >> 31)) & 1 != 0
            }
        }
    }
}

/// Whose block it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A driver's: it has to be freed before the driver is unloaded.
    Driver,
    /// This kernel's own (IRPs of the I/O manager, object bodies, system buffers).
    Kernel,
    /// An image's that is part of Windows.
    System,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    Freed,
}

#[derive(Clone, Copy)]
struct Slot {
    state: State,
    guarded: bool,
    start: usize,
    size: usize,
    tag: u32,
    owner: Owner,
    allocated: Site,
    freed: Site,
}

struct Class {
    guarded: bool,
    pages: usize,
    start: usize,
    slots: Vec<Slot>,
    freed: VecDeque<u32>,
    quarantine: usize,
}

impl Class {
    fn stride(&self) -> usize {
        (self.pages + usize::from(self.guarded)) * PAGE_SIZE
    }

    fn slot_end(&self, slot: u32) -> usize {
        self.start + slot as usize * self.stride() + self.pages * PAGE_SIZE
    }

    fn slot_of(&self, address: usize) -> Option<(u32, &Slot)> {
        let index = address.checked_sub(self.start)? / self.stride();
        Some((u32::try_from(index).ok()?, self.slots.get(index)?))
    }
}

/// The pool of a machine.
pub(crate) struct Pool {
    memory: Mapping,
    guarded: bool,
    guard: PoolGuard,
    classes: Vec<Mutex<Class>>,
    live_bytes: AtomicUsize,
    live_blocks: AtomicUsize,
    allocations: AtomicUsize,
}

/// A live block, for reports.
#[derive(Clone, Debug)]
pub(crate) struct LiveBlock {
    pub(crate) size: usize,
    pub(crate) tag: u32,
    /// Where it was allocated.
    pub(crate) site: Vec<usize>,
}

/// Pool use by tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagUse {
    /// Live blocks.
    pub blocks: usize,
    /// Bytes in them.
    pub bytes: usize,
}

/// A pool tag as debuggers show it.
pub(crate) fn tag_name(tag: u32) -> String {
    tag.to_le_bytes()
        .iter()
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
        .collect()
}

/// Socket addresses that WSK passes to a callback, and takes back after it.
pub(crate) const CALLBACK_ADDRESS_TAG: u32 = tag(*b"WskA");

/// Memory of MmAllocateContiguousMemory, which MmFreeContiguousMemory alone frees.
pub(crate) const CONTIGUOUS_TAG: u32 = tag(*b"MmCm");

/// A tag from its four characters.
pub(crate) const fn tag(name: [u8; 4]) -> u32 {
    u32::from_le_bytes(name)
}

impl Pool {
    pub(crate) fn new(guarded: bool, guard: PoolGuard) -> io::Result<Self> {
        let memory = Mapping::new(2 * SIZES * REGION, Access::None)?;
        let classes = (0..2 * SIZES).map(|index| {
            let pages = 1 << (index % SIZES);
            Mutex::new(Class {
                guarded: index < SIZES,
                pages,
                // The first block, too, has an inaccessible page before it.
                start: memory.base() + index * REGION + PAGE_SIZE,
                slots: Vec::new(),
                freed: VecDeque::new(),
                quarantine: if guarded { (QUARANTINE / (pages * PAGE_SIZE)).clamp(2, 2048) } else { 0 },
            })
        });
        let classes = classes.collect();
        let (live_bytes, live_blocks, allocations) = Default::default();
        Ok(Self { memory, guarded, guard, classes, live_bytes, live_blocks, allocations })
    }

    /// A block of at least one byte, aligned to 16 bytes, or to a page from a page's size on. None if there is no memory.
    pub(crate) fn allocate(&self, size: usize, tag: u32, owner: Owner, zeroed: bool) -> Option<PVOID> {
        let size = size.max(1);
        let pages = page_up(size) / PAGE_SIZE;
        let index = pages.next_power_of_two().trailing_zeros() as usize;
        if index >= SIZES {
            return None;
        }
        let guarded = self.guarded && GUARDED.load(Ordering::Relaxed) < GUARDED_MAXIMUM;
        let index = index + if guarded { 0 } else { SIZES };
        let allocated = site();
        let system = owner == Owner::Driver && unwind::is_in_system(allocated);
        let owner = if system { Owner::System } else { owner };
        let before_it = guarded && self.guard.is_before(self.allocations.load(Ordering::Relaxed));
        let start = {
            let mut class = self.classes[index].lock();
            let reused = if class.freed.len() > class.quarantine { class.freed.pop_front() } else { None };
            let slot = match reused {
                Some(slot) => slot,
                None if (class.slots.len() + 1) * class.stride() + PAGE_SIZE > REGION => return None,
                None => u32::try_from(class.slots.len()).ok()?,
            };
            let end = class.slot_end(slot);
            let used = pages * PAGE_SIZE;
            let fresh = slot as usize == class.slots.len();
            // Without guard pages a slot stays accessible, all of it: the next block in it may be longer.
            let opened = if class.guarded { used } else { class.pages * PAGE_SIZE };
            if (class.guarded || fresh)
                && self.memory.protect(end - opened - self.memory.base(), opened, Access::ReadWrite).is_err()
            {
                return None;
            }
            let start = if size < PAGE_SIZE && !before_it { end - size.next_multiple_of(16) } else { end - used };
            let entry = Slot { state: State::Live, guarded, start, size, tag, owner, allocated, freed: NOWHERE };
            if fresh {
                class.slots.push(entry);
            } else {
                class.slots[slot as usize] = entry;
            }
            start
        };
        if guarded {
            GUARDED.fetch_add(1, Ordering::Relaxed);
        }
        self.live_bytes.fetch_add(size, Ordering::Relaxed);
        self.live_blocks.fetch_add(1, Ordering::Relaxed);
        self.allocations.fetch_add(1, Ordering::Relaxed);
        fill(before(start), FENCE);
        fill(after(start, size), FENCE);
        if zeroed {
            fill(start..start + size, 0);
        } else if size <= GARBAGE_MAXIMUM {
            fill(start..start + size, GARBAGE);
        }
        Some(start as PVOID)
    }

    /// Frees a block; what is wrong with it, if anything is.
    pub(crate) fn free(&self, block: PVOID, tag: u32) -> Result<(), (Rule, String)> {
        self.retire(block, tag).map(|range| self.recycle(range.start))
    }

    /// Frees a block, which nobody gets again before [`Self::recycle`]; what is wrong with it, if anything is.
    fn retire(&self, block: PVOID, tag: u32) -> Result<Range<usize>, (Rule, String)> {
        let address = block as usize;
        let Some(class) = self.class_of(address) else {
            return Err((Rule::BadFree, format!("{block:p} is not pool memory")));
        };
        let freed = site();
        let mut class = class.lock();
        let Some((index, slot)) = class.slot_of(address).map(|(index, slot)| (index, *slot)) else {
            return Err((Rule::BadFree, format!("{block:p} was never allocated")));
        };
        if slot.state == State::Freed {
            return Err((Rule::BadFree, format!("{block:p} ({}) is free already", tag_name(slot.tag))));
        }
        if slot.start != address {
            return Err((
                Rule::BadFree,
                format!("{block:p} lies inside the block at {:#x}, not at its start", slot.start),
            ));
        }
        if slot.tag == CONTIGUOUS_TAG && tag != slot.tag {
            return Err((Rule::BadFree, format!("{block:p} is contiguous memory (MmFreeContiguousMemory)")));
        }
        if tag != 0 && tag != slot.tag {
            let (given, own) = (tag_name(tag), tag_name(slot.tag));
            return Err((
                Rule::BadFree,
                format!("{block:p} was allocated with tag '{own}' and is freed with '{given}'"),
            ));
        }
        let size = slot.size;
        if let Some(changed) = changed(before(address)).or_else(|| changed(after(address, size))) {
            let offset = changed.cast_signed() - address.cast_signed();
            let text =
                format!("the byte at offset {offset} of a block of {size} ({}) was overwritten", tag_name(slot.tag));
            return Err((beyond(offset), text));
        }
        let entry = &mut class.slots[index as usize];
        (entry.state, entry.freed) = (State::Freed, freed);
        if class.guarded {
            let (end, used) = (class.slot_end(index), page_up(size));
            if self.memory.protect(end - used - self.memory.base(), used, Access::None).is_err() {
                fill(address..address + size.min(GARBAGE_MAXIMUM), GARBAGE);
            }
        } else if self.guarded {
            fill(address..address + size.min(GARBAGE_MAXIMUM), GARBAGE);
        }
        drop(class);
        if slot.guarded {
            GUARDED.fetch_sub(1, Ordering::Relaxed);
        }
        self.live_bytes.fetch_sub(size, Ordering::Relaxed);
        self.live_blocks.fetch_sub(1, Ordering::Relaxed);
        Ok(address..address + size)
    }

    /// A retired block can be allocated again, after its quarantine.
    fn recycle(&self, address: usize) {
        let Some(mut class) = self.class_of(address).map(Mutex::lock) else { return };
        let Some(index) = class.slot_of(address).map(|(index, _)| index) else { return };
        if class.quarantine == 0 {
            class.freed.push_front(index);
        } else {
            class.freed.push_back(index);
        }
    }

    fn class_of(&self, address: usize) -> Option<&Mutex<Class>> {
        self.memory.contains(address).then(|| &self.classes[(address - self.memory.base()) / REGION])
    }

    /// Whether an address lies in the pool's range.
    pub(crate) fn contains(&self, address: usize) -> bool {
        self.memory.contains(address)
    }

    /// What an address in the pool's range that faulted is.
    pub(crate) fn describe(&self, address: usize) -> Option<(Rule, String)> {
        let class = self.class_of(address)?.lock();
        let at = class.slot_of(address);
        let next = class.slots.get(at.map_or(0, |(index, _)| index as usize + 1));
        // A guard page lies behind one block and before another: the nearer one is meant.
        let distance = |slot: &Slot| match address {
            address if address < slot.start => slot.start - address,
            address => address.saturating_sub(slot.start + slot.size - 1),
        };
        let nearer = |slot: &&Slot| at.is_none_or(|(_, own)| distance(slot) < distance(own));
        let slot = next.filter(nearer).or(at.map(|(_, slot)| slot))?;
        let offset = address.cast_signed() - slot.start.cast_signed();
        let (size, tag) = (slot.size, tag_name(slot.tag));
        Some(match slot.state {
            State::Freed if slot.tag == CALLBACK_ADDRESS_TAG => {
                (Rule::Wsk(26), "an address that was valid during its callback only".to_owned())
            }
            State::Freed => (Rule::UseAfterFree, format!("offset {offset} of a freed block of {size} ({tag})")),
            State::Live => (beyond(offset), format!("offset {offset} of a block of {size} ({tag})")),
        })
    }

    /// The live block that an address lies in: its range.
    pub(crate) fn block_at(&self, address: usize) -> Option<Range<usize>> {
        let class = self.class_of(address)?.lock();
        let (_, slot) = class.slot_of(address)?;
        let range = slot.start..slot.start + slot.size;
        (slot.state == State::Live && range.contains(&address)).then_some(range)
    }

    /// Live blocks of an owner.
    pub(crate) fn live(&self, owner: Owner) -> Vec<LiveBlock> {
        let mut blocks = Vec::new();
        for class in &self.classes {
            let class = class.lock();
            let live = class.slots.iter().filter(|slot| slot.state == State::Live && slot.owner == owner);
            blocks.extend(live.map(|slot| LiveBlock {
                size: slot.size,
                tag: slot.tag,
                site: unwind::known(slot.allocated),
            }));
        }
        blocks
    }

    /// Live blocks and bytes by tag, of an owner.
    pub(crate) fn by_tag(&self, owner: Owner) -> BTreeMap<String, TagUse> {
        let mut tags = BTreeMap::<_, TagUse>::new();
        for block in self.live(owner) {
            let entry = tags.entry(tag_name(block.tag)).or_default();
            entry.blocks += 1;
            entry.bytes += block.size;
        }
        tags
    }

    /// Live blocks, live bytes, and allocations since the start.
    pub(crate) fn totals(&self) -> (usize, usize, usize) {
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (read(&self.live_blocks), read(&self.live_bytes), read(&self.allocations))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let live = |class: &mut Mutex<Class>| {
            class.get_mut().slots.iter().filter(|slot| slot.guarded && slot.state == State::Live).count()
        };
        let guarded: usize = self.classes.iter_mut().map(live).sum();
        GUARDED.fetch_sub(guarded, Ordering::Relaxed);
    }
}

/// The rule that an access at an offset outside of its block breaks.
const fn beyond(offset: isize) -> Rule {
    if offset < 0 { Rule::PoolUnderrun } else { Rule::PoolOverrun }
}

/// The fence before a block, inside its first page.
fn before(start: usize) -> Range<usize> {
    let page = start & !(PAGE_SIZE - 1);
    page.max(start - FENCE_BEFORE.min(start - page))..start
}

/// The fence behind a block, to the end of its last page.
fn after(start: usize, size: usize) -> Range<usize> {
    start + size..page_up(start + size)
}

fn fill(range: Range<usize>, value: u8) {
    // SAFETY: the range lies in accessible pages of a slot that its caller has just allocated or is freeing.
    unsafe { std::ptr::write_bytes(range.start as *mut u8, value, range.len()) };
}

fn changed(fence: Range<usize>) -> Option<usize> {
    // SAFETY: a fence lies in the accessible pages of a live slot.
    let bytes = unsafe { std::slice::from_raw_parts(fence.start as *const u8, fence.len()) };
    bytes.iter().position(|byte| *byte != FENCE).map(|offset| fence.start + offset)
}

/// Frees a block for whoever calls; a violation ends the call.
pub(crate) fn free(kernel: &Kernel, block: PVOID, tag: u32) {
    if kernel.paging.contains(block as usize) {
        check_paged(current().call.get());
        kernel.paging.remove(block as usize);
    }
    match kernel.pool.retire(block, tag) {
        // Before another thread gets the block, and has such things in it.
        Ok(range) => {
            check_contents(kernel, &range);
            kernel.pool.recycle(range.start);
        }
        Err((rule, text)) => violate(rule, text),
    }
}

/// Memory that is being freed, or goes with an unloaded image, must hold nothing that the kernel still uses.
pub(crate) fn check_contents(kernel: &Kernel, range: &Range<usize>) {
    kernel.irps.forget_in(range);
    kernel.lock_order.forget_in(range);
    if let Some((rule, what)) = kernel.lent.in_range(range) {
        violate(rule, format!("the freed memory holds {what}"));
    }
    if kernel.dispatcher.is_waited_on(range) {
        violate(Rule::DispatcherObject, "a thread waits for an object in the freed memory");
    }
    if kernel.timers.is_armed_in(range) {
        violate(Rule::DispatcherObject, "the freed memory holds an armed timer");
    }
    if kernel.dpcs.is_queued_in(range) {
        violate(Rule::DispatcherObject, "the freed memory holds a queued DPC");
    }
    if let Some(remnant) = kernel.locked_pages.forget_in(range) {
        let (rule, what) = match remnant {
            Remnant::Locked => (Rule::Mdl, "whose pages are locked"),
            Remnant::Mapped => (Rule::Mdl, "that is partial and still mapped (MmPrepareMdlForReuse)"),
            Remnant::Used => (Rule::Wsk(29), "that a pending WSK operation uses"),
        };
        violate(rule, format!("the freed memory holds an MDL {what}"));
    }
    let held = current().locks.borrow().iter().any(|held| range.contains(&held.address));
    if held {
        violate(Rule::SpinLock, "the freed memory holds a lock that is held");
    }
}

const POOL_FLAG_UNINITIALIZED: u64 = 0x2;
const POOL_FLAG_NON_PAGED: u64 = 0x40;
const POOL_FLAG_NON_PAGED_EXECUTE: u64 = 0x80;
const POOL_FLAG_PAGED: u64 = 0x100;
/// PagedPool and its variants have the low bit set (POOL_TYPE).
const PAGED_POOL: u32 = 1;

/// Whether a POOL_TYPE is one of paged pool.
pub(crate) const fn is_paged(pool_type: u32) -> bool {
    pool_type & PAGED_POOL != 0
}

fn check_paged(call: &str) {
    let irql = current().irql.get();
    if irql > APC_LEVEL {
        violate(Rule::PagedMemory, format!("{call} of paged pool at IRQL {irql}"));
    }
}

/// A driver's block of either pool. None if there is no memory.
pub(crate) fn allocate(kernel: &Kernel, size: usize, tag: u32, zeroed: bool, paged: bool) -> Option<PVOID> {
    if paged {
        check_paged(current().call.get());
    }
    if kernel.faults.allocation_fails() {
        return None;
    }
    let block = kernel.pool.allocate(size, tag, Owner::Driver, zeroed)?;
    if paged && kernel.options.guarded_pool {
        kernel.paging.add(block as usize, size, Access::ReadWrite);
    }
    Some(block)
}

pub(crate) extern "win64" fn ExAllocatePool2(flags: u64, size: usize, tag: u32) -> PVOID {
    let current = called("ExAllocatePool2", DISPATCH_LEVEL);
    let kinds = flags & (POOL_FLAG_NON_PAGED | POOL_FLAG_NON_PAGED_EXECUTE | POOL_FLAG_PAGED);
    if !kinds.is_power_of_two() || tag == 0 || size == 0 {
        return std::ptr::null_mut();
    }
    let zeroed = flags & POOL_FLAG_UNINITIALIZED == 0;
    allocate(&current.kernel, size, tag, zeroed, kinds == POOL_FLAG_PAGED).unwrap_or(std::ptr::null_mut())
}

pub(crate) extern "win64" fn ExAllocatePoolWithTag(kind: u32, size: usize, tag: u32) -> PVOID {
    let current = called("ExAllocatePoolWithTag", DISPATCH_LEVEL);
    allocate(&current.kernel, size, tag, false, is_paged(kind)).unwrap_or(std::ptr::null_mut())
}

pub(crate) extern "win64" fn ExAllocatePool(kind: u32, size: usize) -> PVOID {
    let current = called("ExAllocatePool", DISPATCH_LEVEL);
    allocate(&current.kernel, size, tag(*b"None"), false, is_paged(kind)).unwrap_or(std::ptr::null_mut())
}

/// As much of the pool as there is may be used, whatever the priority.
pub(crate) extern "win64" fn ExAllocatePoolWithTagPriority(kind: u32, size: usize, tag: u32, _priority: i32) -> PVOID {
    let current = called("ExAllocatePoolWithTagPriority", DISPATCH_LEVEL);
    allocate(&current.kernel, size, tag, false, is_paged(kind)).unwrap_or(std::ptr::null_mut())
}

/// Processes have no quotas here; without memory it raises, unless its kind says that it is to return.
fn allocate_or_raise(current: &Current, kind: u32, size: usize, tag: u32) -> PVOID {
    const POOL_QUOTA_FAIL_INSTEAD_OF_RAISE: u32 = 8;
    match allocate(&current.kernel, size, tag, false, is_paged(kind)) {
        Some(block) => block,
        None if kind & POOL_QUOTA_FAIL_INSTEAD_OF_RAISE != 0 => std::ptr::null_mut(),
        None => super::exception::ExRaiseStatus(STATUS_INSUFFICIENT_RESOURCES),
    }
}

pub(crate) extern "win64" fn ExAllocatePoolWithQuotaTag(kind: u32, size: usize, tag: u32) -> PVOID {
    allocate_or_raise(called("ExAllocatePoolWithQuotaTag", DISPATCH_LEVEL), kind, size, tag)
}

pub(crate) extern "win64" fn ExAllocatePoolWithQuota(kind: u32, size: usize) -> PVOID {
    allocate_or_raise(called("ExAllocatePoolWithQuota", DISPATCH_LEVEL), kind, size, tag(*b"None"))
}

pub(crate) extern "win64" fn ExFreePoolWithTag(block: PVOID, tag: u32) {
    let current = called("ExFreePoolWithTag", DISPATCH_LEVEL);
    free(&current.kernel, block, tag);
}

pub(crate) extern "win64" fn ExFreePool(block: PVOID) {
    let current = called("ExFreePool", DISPATCH_LEVEL);
    free(&current.kernel, block, 0);
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    ExAllocatePool,
    ExAllocatePoolWithTagPriority,
    ExAllocatePoolWithQuotaTag,
    ExAllocatePoolWithQuota,
    ExAllocatePool2,
    ExAllocatePoolWithTag,
    ExFreePoolWithTag,
    ExFreePool,
];

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: u32 = tag(*b"Test");

    fn pool() -> Pool {
        Pool::new(true, PoolGuard::After).unwrap()
    }

    #[test]
    fn blocks_are_aligned_zeroed_and_end_at_a_guard_page() {
        let pool = pool();
        for size in [1, 15, 16, 17, 100, 4080, 4095, 4096, 4097, 20_000, 1 << 20] {
            let block = pool.allocate(size, TAG, Owner::Driver, true).unwrap() as usize;
            assert_eq!(block % if size < PAGE_SIZE { 16 } else { PAGE_SIZE }, 0, "{size}");
            // SAFETY: the block has this many bytes.
            let bytes = unsafe { std::slice::from_raw_parts(block as *const u8, size) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            assert_eq!(
                page_up(block + size),
                block + size.next_multiple_of(if size < PAGE_SIZE { 16 } else { PAGE_SIZE })
            );
            pool.free(block as PVOID, TAG).unwrap();
        }
        assert_eq!(pool.totals(), (0, 0, 11));
    }

    #[test]
    fn bad_frees_are_named() {
        let pool = pool();
        let block = pool.allocate(100, TAG, Owner::Driver, true).unwrap();
        assert_eq!(pool.free(block.wrapping_byte_add(16), TAG).unwrap_err().0, Rule::BadFree);
        assert!(pool.free(block, tag(*b"Else")).unwrap_err().1.contains("'Else'"));
        assert_eq!(pool.free(0x1000 as PVOID, 0).unwrap_err().0, Rule::BadFree);
        pool.free(block, TAG).unwrap();
        assert!(pool.free(block, TAG).unwrap_err().1.contains("free already"));
    }

    #[test]
    fn overwritten_fences_are_found() {
        for offset in [-1_isize, 100, 111] {
            let pool = pool();
            let block = pool.allocate(100, TAG, Owner::Driver, true).unwrap();
            let fence = block.cast::<u8>().wrapping_offset(offset);
            // SAFETY: the fences lie in the block's own page.
            unsafe { fence.write(0) };
            let (rule, text) = pool.free(block, 0).unwrap_err();
            assert_eq!(rule, if offset < 0 { Rule::PoolUnderrun } else { Rule::PoolOverrun });
            assert!(text.contains(&format!("offset {offset} ")), "{text}");
        }
    }

    #[test]
    fn freed_blocks_stay_in_quarantine_and_are_known_by_their_address() {
        let pool = pool();
        let block = pool.allocate(64, TAG, Owner::Driver, true).unwrap();
        pool.free(block, 0).unwrap();
        let other = pool.allocate(64, TAG, Owner::Driver, true).unwrap();
        assert_ne!(block, other);
        assert_eq!(pool.describe(block as usize + 8).unwrap().0, Rule::UseAfterFree);
        assert_eq!(pool.describe(other as usize + 64).unwrap().0, Rule::PoolOverrun);
        assert_eq!(pool.block_at(other as usize + 63), Some(other as usize..other as usize + 64));
        assert_eq!(pool.by_tag(Owner::Driver)["Test"], TagUse { blocks: 1, bytes: 64 });
    }

    #[test]
    fn slots_are_reused_after_the_quarantine() {
        let pool = pool();
        let mut highest = 0;
        for _ in 0..10_000 {
            let block = pool.allocate(64, TAG, Owner::Driver, true).unwrap();
            highest = highest.max(block as usize);
            pool.free(block, 0).unwrap();
        }
        assert!(highest < pool.memory.base() + 3000 * 2 * PAGE_SIZE);
    }
}
