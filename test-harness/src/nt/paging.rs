//! Pageable memory, which no thread may touch at DISPATCH_LEVEL or above.
//!
//! As under Driver Verifier's forced IRQL checking, all of it is paged out whenever a thread raises its IRQL so far: it becomes
//! inaccessible. A thread that touches it below DISPATCH_LEVEL gets it back; one that does so at DISPATCH_LEVEL has a fault.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::irql::called;
use super::types::{APC_LEVEL, PAGE_SIZE, PVOID};
use crate::image::Export;
use crate::memory::{self, Access, page_up};

struct Range {
    end: usize,
    /// What may be done with it while it is in memory.
    access: Access,
    resident: bool,
    /// MDLs that have its pages locked.
    locks: usize,
}

impl Range {
    /// Code can be read still, so that backtraces can.
    const fn paged_out(&self) -> Access {
        match self.access {
            Access::ReadExecute => Access::Read,
            Access::None | Access::Read | Access::ReadWrite => Access::None,
        }
    }

    fn set_resident(&mut self, start: usize, resident: bool) -> bool {
        let access = if resident { self.access } else { self.paged_out() };
        let changed = memory::protect(start, self.end - start, access).is_ok();
        if changed {
            self.resident = resident;
        }
        changed
    }
}

/// The pageable memory of a machine. Its lock is never held while such memory is touched: the handler of faults takes it.
#[derive(Default)]
pub(crate) struct Paging {
    /// By their starts.
    ranges: Mutex<BTreeMap<usize, Range>>,
    resident: AtomicUsize,
    count: AtomicUsize,
}

fn range_of(ranges: &mut BTreeMap<usize, Range>, address: usize) -> Option<(usize, &mut Range)> {
    let (start, range) = ranges.range_mut(..=address).next_back()?;
    (address < range.end).then_some((*start, range))
}

impl Paging {
    /// The whole pages around `start..start + size`, which can be accessed so, are pageable from now on.
    pub(crate) fn add(&self, start: usize, size: usize, access: Access) {
        let (start, end) = (start & !(PAGE_SIZE - 1), page_up(start + size));
        self.ranges.lock().insert(start, Range { end, access, resident: true, locks: 0 });
        self.resident.fetch_add(1, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// The range that begins in this page goes; it is accessible again. False if there is none.
    pub(crate) fn remove(&self, start: usize) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut ranges = self.ranges.lock();
        let start = start & !(PAGE_SIZE - 1);
        let Some(mut range) = ranges.remove(&start) else { return false };
        if range.resident {
            self.resident.fetch_sub(1, Ordering::SeqCst);
        } else {
            range.set_resident(start, true);
        }
        self.count.fetch_sub(1, Ordering::SeqCst);
        true
    }

    /// Whether an address is pageable.
    pub(crate) fn contains(&self, address: usize) -> bool {
        self.count.load(Ordering::Relaxed) != 0 && range_of(&mut self.ranges.lock(), address).is_some()
    }

    /// A thread has come to DISPATCH_LEVEL.
    pub(crate) fn page_out(&self) {
        if self.resident.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut ranges = self.ranges.lock();
        for (start, range) in ranges.iter_mut().filter(|(_, range)| range.resident && range.locks == 0) {
            if range.set_resident(*start, false) {
                self.resident.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Brings the memory at an address in. False if it is not pageable.
    pub(crate) fn page_in(&self, address: usize) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.bring_in(range_of(&mut self.ranges.lock(), address))
    }

    fn bring_in(&self, found: Option<(usize, &mut Range)>) -> bool {
        let Some((start, range)) = found else { return false };
        // It may be in already: another thread was faster.
        if !range.resident && range.set_resident(start, true) {
            self.resident.fetch_add(1, Ordering::SeqCst);
        }
        true
    }

    /// Locks the memory at an address in, where it is pageable.
    pub(crate) fn lock(&self, address: usize) {
        self.change_locks(address, |locks| locks + 1);
    }

    /// Undoes one [`Self::lock`].
    pub(crate) fn unlock(&self, address: usize) {
        self.change_locks(address, |locks| locks.saturating_sub(1));
    }

    fn change_locks(&self, address: usize, change: impl FnOnce(usize) -> usize) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut ranges = self.ranges.lock();
        let mut found = range_of(&mut ranges, address);
        if let Some((_, range)) = &mut found {
            range.locks = change(range.locks);
        }
        self.bring_in(found);
    }
}

/// Locks the pageable section of an image that an address lies in. What it returns is the handle: the address.
pub(crate) extern "win64" fn MmLockPagableDataSection(address: PVOID) -> PVOID {
    called("MmLockPagableDataSection", APC_LEVEL).kernel.paging.lock(address as usize);
    address
}

pub(crate) extern "win64" fn MmLockPagableSectionByHandle(section: PVOID) {
    called("MmLockPagableSectionByHandle", APC_LEVEL).kernel.paging.lock(section as usize);
}

pub(crate) extern "win64" fn MmUnlockPagableImageSection(section: PVOID) {
    called("MmUnlockPagableImageSection", APC_LEVEL).kernel.paging.unlock(section as usize);
}

pub(super) const EXPORTS: &[(&str, Export)] =
    super::exports![MmLockPagableDataSection, MmLockPagableSectionByHandle, MmUnlockPagableImageSection];
