//! Registered memory: the caller's pages, which stay locked as long as the operation that has registered them pends.
#![allow(unsafe_code, reason = "carries the MDL of a pending operation to other threads")]

use crate::handle::Handle;
use crate::parameters;
use crate::statistics::{Limit, STATISTICS};
use core::ptr::NonNull;
use san_core::concurrent::Budget;
use san_protocol::NtStatus;
use wdk_sys::MDL;

/// Locked memory of an operation that pends; none for a message of nothing.
#[derive(Clone, Copy)]
pub(crate) struct LockedMemory(Option<NonNull<MDL>>);

// SAFETY: the MDL of a pending operation, which anybody may hand to WSK.
unsafe impl Send for LockedMemory {}

impl LockedMemory {
    pub(crate) const NOTHING: Self = Self(None);

    /// What the MDL describes, as long as the operation that it comes with.
    pub(crate) const fn of(mdl: NonNull<MDL>) -> Self {
        Self(Some(mdl))
    }

    pub(super) fn mdl(self) -> Option<NonNull<MDL>> {
        self.0
    }
}

/// How much memory is registered; of a handle, or of all.
#[derive(Debug)]
pub(crate) struct PinnedMemory {
    regions: Budget,
    bytes: Budget,
}

/// Of all handles.
pub(crate) static PINNED: PinnedMemory = PinnedMemory::new();

impl PinnedMemory {
    pub(crate) const fn new() -> Self {
        Self { regions: Budget::new(), bytes: Budget::new() }
    }

    pub(crate) fn regions(&self) -> u32 {
        // As many as a parameter of 32 bits allows.
        u32::try_from(self.regions.taken()).unwrap_or(u32::MAX)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.taken()
    }

    /// Counts a region in, unless that goes past a limit, which is given back.
    fn charge(
        &self,
        bytes: u64,
        (regions, most_regions): (Limit, u32),
        (pinned, most_bytes): (Limit, u64),
    ) -> Result<(), Limit> {
        if !self.regions.take(1, most_regions.into()) {
            return Err(regions);
        }
        if !self.bytes.take(bytes, most_bytes) {
            self.regions.give_back(1);
            return Err(pinned);
        }
        Ok(())
    }

    fn release(&self, bytes: u64) {
        self.regions.give_back(1);
        self.bytes.give_back(bytes);
    }
}

/// Counts a region in, for its handle and for all. IRQL <= DISPATCH_LEVEL.
pub(super) fn charge(handle: &Handle, bytes: u64) -> Result<(), NtStatus> {
    let limits = parameters::get();
    let of_handle = handle.pinned();
    let own_regions = (Limit::RegionsPerHandle, limits.regions_per_handle);
    let own_bytes = (Limit::PinnedMemoryPerHandle, limits.pinned_per_handle);
    let charged = of_handle.charge(bytes, own_regions, own_bytes).and_then(|()| {
        let of_all = PINNED.charge(bytes, (Limit::Regions, limits.regions), (Limit::PinnedMemory, limits.pinned));
        of_all.inspect_err(|_| of_handle.release(bytes))
    });
    charged.map_err(|limit| {
        STATISTICS.limit_hit(limit);
        NtStatus::INSUFFICIENT_RESOURCES
    })
}

/// Counts it out again, before its operation is completed. IRQL <= DISPATCH_LEVEL.
pub(crate) fn release(handle: &Handle, bytes: u64) {
    handle.pinned().release(bytes);
    PINNED.release(bytes);
}
