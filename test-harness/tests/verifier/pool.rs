//! Pool and pageable memory.

use test_harness::Rule::{BadFree, Leak, PagedMemory, PoolOverrun, PoolUnderrun, UseAfterFree};

use test_harness::Machine;
use test_harness::nt::pool::PoolGuard;

use crate::bed::{self, Row};

faults! { "verifier_pool",
    write_behind_a_block: PoolOverrun, "";
    write_into_the_rounding: PoolOverrun, "ExFreePoolWithTag";
    write_before_a_block: PoolUnderrun, "ExFreePoolWithTag";
    read_freed_memory: UseAfterFree, "";
    free_twice: BadFree, "ExFreePoolWithTag";
    free_foreign_memory: BadFree, "ExFreePoolWithTag";
    free_inside_a_block: BadFree, "ExFreePoolWithTag";
    free_with_another_tag: BadFree, "ExFreePoolWithTag";
    leak_a_block: Leak, "";
    allocate_paged_pool_at_dispatch_level: PagedMemory, "ExAllocatePoolWithTag";
    free_paged_pool_at_dispatch_level: PagedMemory, "ExFreePoolWithTag";
    touch_paged_pool_at_dispatch_level: PagedMemory, "";
    touch_a_paged_section_at_dispatch_level: PagedMemory, "";
    spin_lock_in_paged_pool: PagedMemory, "KeAcquireSpinLockRaiseToDpc";
}

pub(crate) const BEFORE: Row =
    Row { driver: "verifier_pool", behaviour: "read_before_a_block", rule: PoolUnderrun, call: "" };

/// With the guard pages before the blocks, an access there is caught where it is made.
#[test]
fn read_before_a_block() {
    bed::prove(&BEFORE, || Machine::builder().pool_guard(PoolGuard::Before));
    // On either side, it is caught sooner or later.
    let caught = |seed| bed::run(&BEFORE, Machine::builder().pool_guard(PoolGuard::Alternating(seed)), true).is_some();
    let found = (0..32).filter(|seed| caught(*seed)).count();
    assert!((4..=28).contains(&found), "{found} of 32 seeds");
}
