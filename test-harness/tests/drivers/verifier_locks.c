/* Locks and IRQLs, used rightly or wrongly. */
#include "verifier.h"

/* The headers' KeLowerIrql writes CR8 itself; this is the kernel's. */
static VOID(NTAPI *LowerIrql)(KIRQL NewIrql);
static KSPIN_LOCK First, Second;
static FAST_MUTEX Outer, Inner;

static NTSTATUS InitializeLocks(PDRIVER_OBJECT DriverObject) {
    UNREFERENCED_PARAMETER(DriverObject);
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"KeLowerIrql");
    LowerIrql = MmGetSystemRoutineAddress(&Name);
    KeInitializeSpinLock(&First);
    KeInitializeSpinLock(&Second);
    ExInitializeFastMutex(&Outer);
    ExInitializeFastMutex(&Inner);
    return STATUS_SUCCESS;
}

static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = InitializeLocks;
static VOID (*const AtUnload)(VOID) = NULL;

IN_BACKTRACES static VOID TakeBoth(KSPIN_LOCK *Left, KSPIN_LOCK *Right) {
    KIRQL Old;
    KeAcquireSpinLock(Left, &Old);
    KeAcquireSpinLockAtDpcLevel(Right);
    KeReleaseSpinLockFromDpcLevel(Right);
    KeReleaseSpinLock(Left, Old);
}

/* No two threads meet here, and yet they could. */
BEHAVIOUR(spin_locks_in_two_orders) {
    TakeBoth(&First, &Second);
    if (Call->Wrong)
        TakeBoth(&Second, &First);
    else
        TakeBoth(&First, &Second);
    return STATUS_SUCCESS;
}

BEHAVIOUR(mutexes_in_two_orders) {
    FAST_MUTEX *Before = Call->Wrong ? &Inner : &Outer, *After = Call->Wrong ? &Outer : &Inner;
    ExAcquireFastMutex(&Outer);
    ExAcquireFastMutex(&Inner);
    ExReleaseFastMutex(&Inner);
    ExReleaseFastMutex(&Outer);
    ExAcquireFastMutex(Before);
    ExAcquireFastMutex(After);
    ExReleaseFastMutex(After);
    ExReleaseFastMutex(Before);
    return STATUS_SUCCESS;
}

BEHAVIOUR(acquire_a_spin_lock_twice) {
    KIRQL Old;
    KeAcquireSpinLock(&First, &Old);
    if (Call->Wrong)
        KeAcquireSpinLockAtDpcLevel(&First);
    KeReleaseSpinLock(&First, Old);
    return STATUS_SUCCESS;
}

BEHAVIOUR(release_a_spin_lock_that_is_free) {
    KIRQL Old;
    KeAcquireSpinLock(&First, &Old);
    KeReleaseSpinLock(Call->Wrong ? &Second : &First, Old);
    return STATUS_SUCCESS;
}

BEHAVIOUR(lower_the_irql_under_a_spin_lock) {
    KIRQL Old;
    KeAcquireSpinLock(&First, &Old);
    if (Call->Wrong)
        LowerIrql(Old);
    KeReleaseSpinLock(&First, Old);
    return STATUS_SUCCESS;
}

BEHAVIOUR(return_with_a_spin_lock) {
    KIRQL Old;
    Complete(Call->Irp, STATUS_SUCCESS);
    Call->Irp = NULL;
    KeAcquireSpinLock(&First, &Old);
    if (Call->Wrong)
        KeLowerIrql(Old);
    else
        KeReleaseSpinLock(&First, Old);
    return STATUS_SUCCESS;
}

BEHAVIOUR(hold_a_spin_lock_for_long) {
    KIRQL Old;
    ULONG Milliseconds = Call->Wrong ? 600 : 0;
    LARGE_INTEGER Now, Frequency, Until;
    KeAcquireSpinLock(&First, &Old);
    Until = Now = KeQueryPerformanceCounter(&Frequency);
    Until.QuadPart += Frequency.QuadPart * Milliseconds / 1000;
    while (Now.QuadPart < Until.QuadPart)
        Now = KeQueryPerformanceCounter(NULL);
    KeReleaseSpinLock(&First, Old);
    return STATUS_SUCCESS;
}

BEHAVIOUR(complete_a_request_under_a_spin_lock) {
    KIRQL Old;
    PIRP Irp = Call->Irp;
    Call->Irp = NULL;
    KeAcquireSpinLock(&First, &Old);
    if (Call->Wrong)
        Complete(Irp, STATUS_SUCCESS);
    KeReleaseSpinLock(&First, Old);
    Complete(Irp, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

BEHAVIOUR(acquire_a_mutex_twice) {
    ExAcquireFastMutex(&Outer);
    if (Call->Wrong)
        ExAcquireFastMutex(&Outer);
    ExReleaseFastMutex(&Outer);
    return STATUS_SUCCESS;
}

BEHAVIOUR(release_a_mutex_of_nobody) {
    ExAcquireFastMutex(&Outer);
    ExReleaseFastMutex(&Outer);
    if (Call->Wrong) {
        KIRQL Old;
        KeRaiseIrql(APC_LEVEL, &Old);
        ExReleaseFastMutex(&Outer);
        KeLowerIrql(Old);
    }
    return STATUS_SUCCESS;
}

BEHAVIOUR(leave_a_critical_region_twice) {
    KeEnterCriticalRegion();
    KeLeaveCriticalRegion();
    if (Call->Wrong)
        KeLeaveCriticalRegion();
    return STATUS_SUCCESS;
}

BEHAVIOUR(release_rundown_protection_twice) {
    EX_RUNDOWN_REF Rundown;
    ExInitializeRundownProtection(&Rundown);
    ExAcquireRundownProtection(&Rundown);
    ExReleaseRundownProtection(&Rundown);
    if (Call->Wrong)
        ExReleaseRundownProtection(&Rundown);
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_memory_with_a_spin_lock_that_is_held) {
    KIRQL Old;
    KSPIN_LOCK *Lock = ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*Lock), TAG);
    KeInitializeSpinLock(Lock);
    KeAcquireSpinLock(Lock, &Old);
    if (Call->Wrong)
        ExFreePoolWithTag(Lock, TAG);
    KeReleaseSpinLock(Lock, Old);
    ExFreePoolWithTag(Lock, TAG);
    return STATUS_SUCCESS;
}

/* IRQLs */

BEHAVIOUR(wait_at_dispatch_level) {
    KEVENT Event;
    LARGE_INTEGER Timeout = {.QuadPart = Call->Wrong ? -10 : 0};
    KIRQL Old;
    NTSTATUS Status;
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    KeRaiseIrql(DISPATCH_LEVEL, &Old);
    Status = KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, &Timeout);
    KeLowerIrql(Old);
    return Status == STATUS_TIMEOUT ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
}

BEHAVIOUR(delay_at_dispatch_level) {
    LARGE_INTEGER Interval = {.QuadPart = -10};
    KIRQL Old;
    KeRaiseIrql(Call->Wrong ? DISPATCH_LEVEL : APC_LEVEL, &Old);
    KeDelayExecutionThread(KernelMode, FALSE, &Interval);
    KeLowerIrql(Old);
    return STATUS_SUCCESS;
}

BEHAVIOUR(raise_the_irql_by_lowering_it) {
    KIRQL Old;
    KeRaiseIrql(APC_LEVEL, &Old);
    if (Call->Wrong)
        LowerIrql(DISPATCH_LEVEL);
    KeLowerIrql(Old);
    return STATUS_SUCCESS;
}

/* The report shows the last call that the routine made. */
BEHAVIOUR(return_at_another_irql) {
    KIRQL Old;
    Complete(Call->Irp, STATUS_SUCCESS);
    Call->Irp = NULL;
    if (Call->Wrong)
        KeRaiseIrql(DISPATCH_LEVEL, &Old);
    KeQueryPerformanceCounter(NULL);
    return STATUS_SUCCESS;
}

BEHAVIOUR(leave_a_critical_region_open) {
    Complete(Call->Irp, STATUS_SUCCESS);
    Call->Irp = NULL;
    KeEnterCriticalRegion();
    if (!Call->Wrong)
        KeLeaveCriticalRegion();
    return STATUS_SUCCESS;
}

/* Dispatcher objects */

BEHAVIOUR(set_an_event_that_is_not_initialized) {
    KEVENT Event = {0};
    if (!Call->Wrong)
        KeInitializeEvent(&Event, NotificationEvent, FALSE);
    KeSetEvent(&Event, IO_NO_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

BEHAVIOUR(release_a_semaphore_beyond_its_limit) {
    KSEMAPHORE Semaphore;
    KeInitializeSemaphore(&Semaphore, 0, 1);
    KeReleaseSemaphore(&Semaphore, IO_NO_INCREMENT, Call->Wrong ? 2 : 1, FALSE);
    return STATUS_SUCCESS;
}

static VOID NTAPI Ring(PKDPC Dpc, PVOID Context, PVOID First_, PVOID Second_) {}

BEHAVIOUR(free_memory_with_an_armed_timer) {
    LARGE_INTEGER Due = {.QuadPart = -36000000000};
    struct { KTIMER Timer; KDPC Dpc; } *Block = ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*Block), TAG);
    KeInitializeTimer(&Block->Timer);
    KeInitializeDpc(&Block->Dpc, Ring, NULL);
    KeSetTimer(&Block->Timer, Due, &Block->Dpc);
    if (!Call->Wrong)
        KeCancelTimer(&Block->Timer);
    ExFreePoolWithTag(Block, TAG);
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(spin_locks_in_two_orders),
    ROW_OF(mutexes_in_two_orders),
    ROW_OF(acquire_a_spin_lock_twice),
    ROW_OF(release_a_spin_lock_that_is_free),
    ROW_OF(lower_the_irql_under_a_spin_lock),
    ROW_OF(return_with_a_spin_lock),
    ROW_OF(leave_a_critical_region_open),
    ROW_OF(hold_a_spin_lock_for_long),
    ROW_OF(complete_a_request_under_a_spin_lock),
    ROW_OF(acquire_a_mutex_twice),
    ROW_OF(release_a_mutex_of_nobody),
    ROW_OF(leave_a_critical_region_twice),
    ROW_OF(release_rundown_protection_twice),
    ROW_OF(free_memory_with_a_spin_lock_that_is_held),
    ROW_OF(wait_at_dispatch_level),
    ROW_OF(delay_at_dispatch_level),
    ROW_OF(raise_the_irql_by_lowering_it),
    ROW_OF(return_at_another_irql),
    ROW_OF(set_an_event_that_is_not_initialized),
    ROW_OF(release_a_semaphore_beyond_its_limit),
    ROW_OF(free_memory_with_an_armed_timer),
    {NULL, NULL},
};
