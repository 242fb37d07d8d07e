//! IRPs, MDLs, objects, and what ends a machine at once.

use test_harness::Rule::{
    BugCheck, Fault, Io, Irp, KernelStack, Leak, Mdl, MissingImport, Object, PagedMemory, UseAfterFree,
};

faults! { "verifier_io",
    complete_a_request_twice: Irp, "IofCompleteRequest";
    touch_a_completed_request: UseAfterFree, "";
    complete_with_status_pending: Irp, "IofCompleteRequest";
    mark_pending_and_return_success: Irp, "a dispatch routine";
    return_without_completing: Irp, "a dispatch routine";
    complete_with_too_many_bytes: Irp, "IofCompleteRequest";
    complete_with_a_cancel_routine: Irp, "IofCompleteRequest";
    free_a_pending_irp: Irp, "IoFreeIrp";
    reuse_a_pending_irp: Irp, "IoReuseIrp";
    let_an_own_irp_go: Irp, "IofCompleteRequest";
    send_an_irp_without_a_completion_routine: Irp, "IofCompleteRequest";
    send_an_irp_with_too_few_stack_locations: Irp, "IofCallDriver";
    allocate_an_irp_without_a_stack: Irp, "IoAllocateIrp";
    free_an_irp_twice: UseAfterFree, "IoFreeIrp";
    leak_an_irp: Leak, "";
    lock_pages_twice: Mdl, "MmProbeAndLockPages";
    unlock_pages_twice: Mdl, "MmUnlockPages";
    free_a_locked_mdl: Mdl, "IoFreeMdl";
    map_pages_that_are_not_locked: Mdl, "MmMapLockedPagesSpecifyCache";
    describe_more_than_a_pool_block: Mdl, "MmBuildMdlForNonPagedPool";
    describe_paged_pool_as_non_paged: PagedMemory, "MmBuildMdlForNonPagedPool";
    leave_pages_locked_when_the_process_exits: Mdl, "";
    free_memory_with_a_locked_mdl: Mdl, "ExFreePoolWithTag";
    close_a_handle_twice: Object, "ZwClose";
    leak_a_handle: Leak, "";
    dereference_what_is_no_object: Object, "ObfDereferenceObject";
    delete_a_device_twice: Io, "IoDeleteDevice";
    queue_a_work_item_twice: Io, "IoQueueWorkItem";
    read_an_address_of_nobody: Fault, "";
    execute_an_illegal_instruction: Fault, "";
    bug_check: BugCheck, "KeBugCheckEx";
    fail_fast: BugCheck, "";
    call_an_import_that_nothing_provides: MissingImport, "";
    use_too_much_stack: KernelStack, "__chkstk";
}
