//! Locks, IRQLs and dispatcher objects.

use std::time::Duration;

use test_harness::Machine;
use test_harness::Rule::{self, DispatcherObject, Irql, Lock, LockAcrossIo, LockHeldTooLong, LockOrder, SpinLock};

use crate::bed::{self, Row};

faults! { "verifier_locks",
    spin_locks_in_two_orders: LockOrder, "KeAcquireSpinLockAtDpcLevel";
    mutexes_in_two_orders: LockOrder, "ExAcquireFastMutex";
    acquire_a_spin_lock_twice: SpinLock, "KeAcquireSpinLockAtDpcLevel";
    release_a_spin_lock_that_is_free: SpinLock, "KeReleaseSpinLock";
    lower_the_irql_under_a_spin_lock: SpinLock, "KeLowerIrql";
    return_with_a_spin_lock: SpinLock, "a dispatch routine";
    complete_a_request_under_a_spin_lock: LockAcrossIo, "IofCompleteRequest";
    acquire_a_mutex_twice: Lock, "ExAcquireFastMutex";
    release_a_mutex_of_nobody: Lock, "ExReleaseFastMutex";
    leave_a_critical_region_twice: Lock, "KeLeaveCriticalRegion";
    leave_a_critical_region_open: Lock, "a dispatch routine";
    release_rundown_protection_twice: Lock, "ExReleaseRundownProtection";
    free_memory_with_a_spin_lock_that_is_held: SpinLock, "ExFreePoolWithTag";
    wait_at_dispatch_level: Irql, "KeWaitForSingleObject";
    delay_at_dispatch_level: Irql, "KeDelayExecutionThread";
    raise_the_irql_by_lowering_it: Irql, "KeLowerIrql";
    return_at_another_irql: Irql, "a dispatch routine";
    set_an_event_that_is_not_initialized: DispatcherObject, "KeSetEvent";
    release_a_semaphore_beyond_its_limit: DispatcherObject, "KeReleaseSemaphore";
    free_memory_with_an_armed_timer: DispatcherObject, "ExFreePoolWithTag";
}

pub(crate) const SLOW: Row = Row {
    driver: "verifier_locks",
    behaviour: "hold_a_spin_lock_for_long",
    rule: LockHeldTooLong,
    call: "KeReleaseSpinLock",
};

#[test]
fn hold_a_spin_lock_for_long() {
    bed::prove(&SLOW, || Machine::builder().spin_lock_limit(Duration::from_millis(500)));
}

/// The report names the place of the other order, too.
#[test]
fn both_orders_are_named() {
    let row = ROWS.iter().find(|row| row.rule == Rule::LockOrder).expect("a row");
    let violation = bed::run(row, Machine::builder(), true).expect("it is caught");
    println!("{violation}");
    let lines = violation.text.matches("verifier_locks.c:").count();
    assert!(violation.text.contains(" was taken while ") && lines >= 2, "{violation}");
}
