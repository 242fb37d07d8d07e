/* IRPs, MDLs, objects and the rest of the kernel, used rightly or wrongly. */
#include "verifier.h"

static PIRP Leftover;

static VOID FreeLeftovers(VOID) {
    if (Leftover != NULL)
        IoFreeIrp(Leftover);
}

static PIRP Held;

/* IRP_MJ_READ pends. */
static NTSTATUS NTAPI Hold(PDEVICE_OBJECT Device, PIRP Irp) {
    UNREFERENCED_PARAMETER(Device);
    IoMarkIrpPending(Irp);
    Held = Irp;
    return STATUS_PENDING;
}

static NTSTATUS TakeReads(PDRIVER_OBJECT DriverObject) {
    DriverObject->MajorFunction[IRP_MJ_READ] = Hold;
    return STATUS_SUCCESS;
}

static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = TakeReads;
static VOID (*const AtUnload)(VOID) = FreeLeftovers;

/* Keeps a packet of the driver's own, whatever became of it. */
static NTSTATUS NTAPI Keep(PDEVICE_OBJECT Device, PIRP Irp, PVOID Event) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    if (Event != NULL)
        KeSetEvent(Event, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS NTAPI LetGo(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    UNREFERENCED_PARAMETER(Context);
    return STATUS_SUCCESS;
}

/* A packet for this device itself, which answers IRP_MJ_FLUSH_BUFFERS at once. */
static PIRP Packet(CALL *Call, PIO_COMPLETION_ROUTINE Routine) {
    PIRP Irp = IoAllocateIrp(Call->Device->StackSize, FALSE);
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_FLUSH_BUFFERS;
    if (Routine != NULL)
        IoSetCompletionRoutine(Irp, Routine, NULL, TRUE, TRUE, TRUE);
    return Irp;
}

/* A packet that is under way. */
static PIRP Pending(CALL *Call) {
    PIRP Irp = Packet(Call, Keep);
    IoGetNextIrpStackLocation(Irp)->MajorFunction = IRP_MJ_READ;
    IoCallDriver(Call->Device, Irp);
    return Irp;
}

BEHAVIOUR(complete_a_request_twice) {
    PIRP Irp = Pending(Call);
    Complete(Irp, STATUS_SUCCESS);
    if (Call->Wrong)
        Complete(Irp, STATUS_SUCCESS);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

BEHAVIOUR(touch_a_completed_request) {
    volatile PIRP Irp = Call->Irp;
    Call->Irp = NULL;
    if (!Call->Wrong)
        Irp->Tail.Overlay.DriverContext[0] = NULL;
    Complete(Irp, STATUS_SUCCESS);
    if (Call->Wrong)
        Irp->Tail.Overlay.DriverContext[0] = NULL;
    return STATUS_SUCCESS;
}

BEHAVIOUR(complete_with_status_pending) {
    PIRP Irp = Call->Irp;
    Call->Irp = NULL;
    Complete(Irp, Call->Wrong ? STATUS_PENDING : STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

BEHAVIOUR(mark_pending_and_return_success) {
    PIRP Irp = Call->Irp;
    Call->Irp = NULL;
    IoMarkIrpPending(Irp);
    Complete(Irp, STATUS_SUCCESS);
    KeQueryPerformanceCounter(NULL);
    return Call->Wrong ? STATUS_SUCCESS : STATUS_PENDING;
}

BEHAVIOUR(return_without_completing) {
    PIRP Irp = Call->Irp;
    Call->Irp = NULL;
    if (!Call->Wrong)
        Complete(Irp, STATUS_SUCCESS);
    KeQueryPerformanceCounter(NULL);
    return STATUS_SUCCESS;
}

BEHAVIOUR(complete_with_too_many_bytes) {
    PIRP Irp = Call->Irp;
    Call->Irp = NULL;
    Irp->IoStatus.Status = STATUS_SUCCESS;
    Irp->IoStatus.Information = Call->Wrong ? 1000 : 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    KeQueryPerformanceCounter(NULL);
    return STATUS_SUCCESS;
}

static VOID NTAPI Cancelled(PDEVICE_OBJECT Device, PIRP Irp) { IoReleaseCancelSpinLock(Irp->CancelIrql); }

BEHAVIOUR(complete_with_a_cancel_routine) {
    PIRP Irp = Call->Irp;
    Call->Irp = NULL;
    IoSetCancelRoutine(Irp, Cancelled);
    if (!Call->Wrong)
        IoSetCancelRoutine(Irp, NULL);
    Irp->IoStatus.Status = STATUS_SUCCESS;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    KeQueryPerformanceCounter(NULL);
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_a_pending_irp) {
    PIRP Irp = Pending(Call);
    if (Call->Wrong)
        IoFreeIrp(Irp);
    Complete(Irp, STATUS_SUCCESS);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

BEHAVIOUR(reuse_a_pending_irp) {
    PIRP Irp = Pending(Call);
    if (Call->Wrong)
        IoReuseIrp(Irp, STATUS_SUCCESS);
    Complete(Irp, STATUS_SUCCESS);
    IoReuseIrp(Irp, STATUS_SUCCESS);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

BEHAVIOUR(let_an_own_irp_go) {
    PIRP Irp = Packet(Call, Call->Wrong ? LetGo : Keep);
    IoCallDriver(Call->Device, Irp);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

BEHAVIOUR(send_an_irp_without_a_completion_routine) {
    PIRP Irp = Packet(Call, Call->Wrong ? NULL : Keep);
    IoCallDriver(Call->Device, Irp);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

BEHAVIOUR(send_an_irp_with_too_few_stack_locations) {
    PIRP Irp = Packet(Call, Keep);
    if (Call->Wrong)
        IoSetNextIrpStackLocation(Irp);
    IoCallDriver(Call->Device, Irp);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

BEHAVIOUR(allocate_an_irp_without_a_stack) {
    IoFreeIrp(IoAllocateIrp(Call->Wrong ? 0 : 1, FALSE));
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_an_irp_twice) {
    PIRP Irp = IoAllocateIrp(1, FALSE);
    IoFreeIrp(Irp);
    if (Call->Wrong)
        IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

BEHAVIOUR(leak_an_irp) {
    PIRP Irp = IoAllocateIrp(1, FALSE);
    if (!Call->Wrong)
        Leftover = Irp;
    return STATUS_SUCCESS;
}

/* MDLs */

static UCHAR Page[64];

static PMDL Locked(PVOID Memory, ULONG Size) {
    PMDL Mdl = IoAllocateMdl(Memory, Size, FALSE, FALSE, NULL);
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    return Mdl;
}

BEHAVIOUR(lock_pages_twice) {
    PMDL Mdl = Locked(Page, sizeof(Page));
    if (Call->Wrong)
        MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    return STATUS_SUCCESS;
}

BEHAVIOUR(unlock_pages_twice) {
    PMDL Mdl = Locked(Page, sizeof(Page));
    MmUnlockPages(Mdl);
    if (Call->Wrong)
        MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_a_locked_mdl) {
    PMDL Mdl = Locked(Page, sizeof(Page));
    if (!Call->Wrong)
        MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    return STATUS_SUCCESS;
}

BEHAVIOUR(map_pages_that_are_not_locked) {
    PMDL Mdl = Locked(Page, sizeof(Page));
    if (Call->Wrong)
        MmUnlockPages(Mdl);
    MmMapLockedPagesSpecifyCache(Mdl, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
    return STATUS_SUCCESS;
}

BEHAVIOUR(describe_more_than_a_pool_block) {
    PVOID Block = ExAllocatePoolWithTag(NonPagedPoolNx, 64, TAG);
    PMDL Mdl = IoAllocateMdl(Block, Call->Wrong ? 65 : 64, FALSE, FALSE, NULL);
    MmBuildMdlForNonPagedPool(Mdl);
    IoFreeMdl(Mdl);
    ExFreePoolWithTag(Block, TAG);
    return STATUS_SUCCESS;
}

BEHAVIOUR(describe_paged_pool_as_non_paged) {
    PVOID Block = ExAllocatePoolWithTag(Call->Wrong ? PagedPool : NonPagedPoolNx, 64, TAG);
    PMDL Mdl = IoAllocateMdl(Block, 64, FALSE, FALSE, NULL);
    MmBuildMdlForNonPagedPool(Mdl);
    IoFreeMdl(Mdl);
    ExFreePoolWithTag(Block, TAG);
    return STATUS_SUCCESS;
}

/* The pages are those of the process that calls. */
BEHAVIOUR(leave_pages_locked_when_the_process_exits) {
    PMDL Mdl = IoAllocateMdl(Call->Irp->UserBuffer, 1, FALSE, FALSE, NULL);
    MmProbeAndLockPages(Mdl, UserMode, IoReadAccess);
    if (!Call->Wrong) {
        MmUnlockPages(Mdl);
        IoFreeMdl(Mdl);
    }
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_memory_with_a_locked_mdl) {
    PMDL Mdl = ExAllocatePoolWithTag(NonPagedPoolNx, MmSizeOfMdl(Page, sizeof(Page)), TAG);
    MmInitializeMdl(Mdl, Page, sizeof(Page));
    MmProbeAndLockPages(Mdl, KernelMode, IoWriteAccess);
    if (!Call->Wrong)
        MmUnlockPages(Mdl);
    ExFreePoolWithTag(Mdl, TAG);
    return STATUS_SUCCESS;
}

/* Objects and devices */

BEHAVIOUR(close_a_handle_twice) {
    HANDLE Event;
    OBJECT_ATTRIBUTES Attributes;
    InitializeObjectAttributes(&Attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    if (!NT_SUCCESS(ZwCreateEvent(&Event, EVENT_ALL_ACCESS, &Attributes, NotificationEvent, FALSE)))
        return STATUS_UNSUCCESSFUL;
    ZwClose(Event);
    if (Call->Wrong)
        ZwClose(Event);
    return STATUS_SUCCESS;
}

BEHAVIOUR(leak_a_handle) {
    HANDLE Event;
    OBJECT_ATTRIBUTES Attributes;
    InitializeObjectAttributes(&Attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    if (!NT_SUCCESS(ZwCreateEvent(&Event, EVENT_ALL_ACCESS, &Attributes, NotificationEvent, FALSE)))
        return STATUS_UNSUCCESSFUL;
    if (!Call->Wrong)
        ZwClose(Event);
    return STATUS_SUCCESS;
}

BEHAVIOUR(dereference_what_is_no_object) {
    PVOID Block = ExAllocatePoolWithTag(NonPagedPoolNx, 64, TAG);
    PVOID Object = Call->Wrong ? Block : (PVOID)PsGetCurrentProcess();
    if (!Call->Wrong)
        ObReferenceObject(Object);
    ObDereferenceObject(Object);
    ExFreePoolWithTag(Block, TAG);
    return STATUS_SUCCESS;
}

BEHAVIOUR(delete_a_device_twice) {
    PDEVICE_OBJECT Device;
    if (!NT_SUCCESS(IoCreateDevice(Call->Device->DriverObject, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device)))
        return STATUS_UNSUCCESSFUL;
    ObReferenceObject(Device);
    IoDeleteDevice(Device);
    if (Call->Wrong)
        IoDeleteDevice(Device);
    ObDereferenceObject(Device);
    return STATUS_SUCCESS;
}

static VOID NTAPI Work(PDEVICE_OBJECT Device, PVOID Event) { KeSetEvent(Event, IO_NO_INCREMENT, FALSE); }

/* The second time comes before a worker can have begun with the first, once in ten thousand at the latest. */
BEHAVIOUR(queue_a_work_item_twice) {
    PIO_WORKITEM Item = IoAllocateWorkItem(Call->Device);
    ULONG Rounds = Call->Wrong ? 10000 : 10;
    KEVENT Event;
    KeInitializeEvent(&Event, SynchronizationEvent, FALSE);
    while (Rounds-- != 0) {
        IoQueueWorkItem(Item, Work, DelayedWorkQueue, &Event);
        if (!Call->Wrong)
            KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
    }
    IoFreeWorkItem(Item);
    return STATUS_SUCCESS;
}

/* The rest */

BEHAVIOUR(read_an_address_of_nobody) {
    static volatile ULONG_PTR Known;
    volatile ULONG_PTR *Address = Call->Wrong ? (PVOID)0x10000 : &Known;
    return *Address == 0 ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
}

BEHAVIOUR(execute_an_illegal_instruction) {
    if (Call->Wrong)
        __asm__ volatile("ud2");
    return STATUS_SUCCESS;
}

BEHAVIOUR(bug_check) {
    if (Call->Wrong)
        KeBugCheckEx(MANUALLY_INITIATED_CRASH, 1, 2, 3, 4);
    return STATUS_SUCCESS;
}

BEHAVIOUR(fail_fast) {
    if (Call->Wrong)
        __asm__ volatile("int $0x29" : : "c"(5));
    return STATUS_SUCCESS;
}

/* The stand-in kernel has no such function, which is found when it is called. */
BEHAVIOUR(call_an_import_that_nothing_provides) {
    if (Call->Wrong)
        KeInvalidateAllCaches();
    return STATUS_SUCCESS;
}

/* A kernel stack has 24 KiB. */
BEHAVIOUR(use_too_much_stack) {
    volatile UCHAR Small[2000];
    Small[Call->Wrong] = 1;
    if (Call->Wrong) {
        volatile UCHAR *Large = __builtin_alloca(30000);
        Large[0] = Small[1];
    }
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(complete_a_request_twice),
    ROW_OF(touch_a_completed_request),
    ROW_OF(complete_with_status_pending),
    ROW_OF(mark_pending_and_return_success),
    ROW_OF(return_without_completing),
    ROW_OF(complete_with_too_many_bytes),
    ROW_OF(complete_with_a_cancel_routine),
    ROW_OF(free_a_pending_irp),
    ROW_OF(reuse_a_pending_irp),
    ROW_OF(let_an_own_irp_go),
    ROW_OF(send_an_irp_without_a_completion_routine),
    ROW_OF(send_an_irp_with_too_few_stack_locations),
    ROW_OF(allocate_an_irp_without_a_stack),
    ROW_OF(free_an_irp_twice),
    ROW_OF(leak_an_irp),
    ROW_OF(lock_pages_twice),
    ROW_OF(unlock_pages_twice),
    ROW_OF(free_a_locked_mdl),
    ROW_OF(map_pages_that_are_not_locked),
    ROW_OF(describe_more_than_a_pool_block),
    ROW_OF(describe_paged_pool_as_non_paged),
    ROW_OF(leave_pages_locked_when_the_process_exits),
    ROW_OF(free_memory_with_a_locked_mdl),
    ROW_OF(close_a_handle_twice),
    ROW_OF(leak_a_handle),
    ROW_OF(dereference_what_is_no_object),
    ROW_OF(delete_a_device_twice),
    ROW_OF(queue_a_work_item_twice),
    ROW_OF(read_an_address_of_nobody),
    ROW_OF(execute_an_illegal_instruction),
    ROW_OF(bug_check),
    ROW_OF(fail_fast),
    ROW_OF(call_an_import_that_nothing_provides),
    ROW_OF(use_too_much_stack),
    {NULL, NULL},
};
