//! The framework.

use test_harness::Rule::{Framework, Hang, Irql, Leak, LockAcrossIo, LockOrder};

faults! { "verifier_kmdf",
    complete_twice: Framework, "WdfRequestComplete";
    complete_while_cancelable: Framework, "WdfRequestComplete";
    mark_cancelable_twice: Framework, "WdfRequestMarkCancelableEx";
    unmark_what_is_not_cancelable: Framework, "WdfRequestUnmarkCancelable";
    never_complete: Hang, "";
    complete_under_a_spin_lock: LockAcrossIo, "WdfRequestComplete";
    pass_a_handle_of_another_type: Framework, "WdfSpinLockAcquire";
    use_a_deleted_object: Framework, "WdfSpinLockAcquire";
    delete_twice: Framework, "WdfObjectDelete";
    leak_a_reference: Leak, "WdfVersionUnbind";
    dereference_too_often: Framework, "WdfObjectDereferenceActual";
    delete_a_request: Framework, "WdfObjectDelete";
    create_a_timer_under_the_driver: Framework, "WdfTimerCreate";
    acquire_a_wait_lock_twice: Framework, "WdfWaitLockAcquire";
    release_a_wait_lock_that_is_free: Framework, "WdfWaitLockRelease";
    wait_locks_in_two_orders: LockOrder, "WdfWaitLockAcquire";
    wait_for_a_wait_lock_at_dispatch_level: Irql, "WdfWaitLockAcquire";
}
