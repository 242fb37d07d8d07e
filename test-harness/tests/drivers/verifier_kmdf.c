/* The framework, used rightly or wrongly. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>
#include <wdf.h>

#define CALL_WDF(name, type) ((type)WdfFunctions[name##TableIndex])
#define IN_BACKTRACES __attribute__((noinline, disable_tail_calls))

typedef struct {
    WDFDEVICE Device;
    WDFQUEUE Queue;
    WDFREQUEST Request; /* NULL once the behaviour has dealt with it */
    BOOLEAN Wrong;      /* whether to commit the fault */
} CALL;

#define BEHAVIOUR(Name) IN_BACKTRACES static NTSTATUS Name(CALL *Call)

static WDFDRIVER Driver;
static WDFREQUEST Held;

static VOID Complete(WDFREQUEST Request, NTSTATUS Status) {
    CALL_WDF(WdfRequestComplete, PFN_WDFREQUESTCOMPLETE)(WdfDriverGlobals, Request, Status);
}

static VOID NTAPI CompleteCancelled(WDFREQUEST Request) { Complete(Request, STATUS_CANCELLED); }

static NTSTATUS MarkCancelable(WDFREQUEST Request) {
    return CALL_WDF(WdfRequestMarkCancelableEx, PFN_WDFREQUESTMARKCANCELABLEEX)(
        WdfDriverGlobals, Request, CompleteCancelled);
}

static NTSTATUS UnmarkCancelable(WDFREQUEST Request) {
    return CALL_WDF(WdfRequestUnmarkCancelable, PFN_WDFREQUESTUNMARKCANCELABLE)(WdfDriverGlobals, Request);
}

static WDFREQUEST Take(CALL *Call) {
    WDFREQUEST Request = Call->Request;
    Call->Request = NULL;
    return Request;
}

static VOID Delete(WDFOBJECT Object) { CALL_WDF(WdfObjectDelete, PFN_WDFOBJECTDELETE)(WdfDriverGlobals, Object); }

static WDFSPINLOCK NewSpinLock(VOID) {
    WDFSPINLOCK Lock = NULL;
    CALL_WDF(WdfSpinLockCreate, PFN_WDFSPINLOCKCREATE)(WdfDriverGlobals, NULL, &Lock);
    return Lock;
}

static WDFWAITLOCK NewWaitLock(VOID) {
    WDFWAITLOCK Lock = NULL;
    CALL_WDF(WdfWaitLockCreate, PFN_WDFWAITLOCKCREATE)(WdfDriverGlobals, NULL, &Lock);
    return Lock;
}

BEHAVIOUR(complete_twice) {
    WDFREQUEST Request = Take(Call);
    Complete(Request, STATUS_SUCCESS);
    if (Call->Wrong)
        Complete(Request, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

BEHAVIOUR(complete_while_cancelable) {
    WDFREQUEST Request = Take(Call);
    MarkCancelable(Request);
    if (!Call->Wrong)
        UnmarkCancelable(Request);
    Complete(Request, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

BEHAVIOUR(mark_cancelable_twice) {
    MarkCancelable(Call->Request);
    if (!Call->Wrong)
        UnmarkCancelable(Call->Request);
    MarkCancelable(Call->Request);
    UnmarkCancelable(Call->Request);
    return STATUS_SUCCESS;
}

BEHAVIOUR(unmark_what_is_not_cancelable) {
    if (!Call->Wrong)
        MarkCancelable(Call->Request);
    UnmarkCancelable(Call->Request);
    return STATUS_SUCCESS;
}

/* Neither completed nor cancelable: its process cannot end. */
BEHAVIOUR(never_complete) {
    WDFREQUEST Request = Take(Call);
    if (Call->Wrong)
        Held = Request;
    else
        Complete(Request, STATUS_SUCCESS);
    KeQueryPerformanceCounter(NULL);
    return STATUS_SUCCESS;
}

BEHAVIOUR(complete_under_a_spin_lock) {
    WDFSPINLOCK Lock = NewSpinLock();
    WDFREQUEST Request = Take(Call);
    CALL_WDF(WdfSpinLockAcquire, PFN_WDFSPINLOCKACQUIRE)(WdfDriverGlobals, Lock);
    if (Call->Wrong)
        Complete(Request, STATUS_SUCCESS);
    CALL_WDF(WdfSpinLockRelease, PFN_WDFSPINLOCKRELEASE)(WdfDriverGlobals, Lock);
    Delete(Lock);
    Complete(Request, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

BEHAVIOUR(pass_a_handle_of_another_type) {
    WDFSPINLOCK Lock = NewSpinLock();
    WDFWAITLOCK Wait = NewWaitLock();
    CALL_WDF(WdfSpinLockAcquire, PFN_WDFSPINLOCKACQUIRE)(WdfDriverGlobals, Call->Wrong ? (WDFSPINLOCK)Wait : Lock);
    CALL_WDF(WdfSpinLockRelease, PFN_WDFSPINLOCKRELEASE)(WdfDriverGlobals, Lock);
    Delete(Lock);
    Delete(Wait);
    return STATUS_SUCCESS;
}

BEHAVIOUR(use_a_deleted_object) {
    WDFSPINLOCK Lock = NewSpinLock();
    if (Call->Wrong)
        Delete(Lock);
    CALL_WDF(WdfSpinLockAcquire, PFN_WDFSPINLOCKACQUIRE)(WdfDriverGlobals, Lock);
    CALL_WDF(WdfSpinLockRelease, PFN_WDFSPINLOCKRELEASE)(WdfDriverGlobals, Lock);
    Delete(Lock);
    return STATUS_SUCCESS;
}

BEHAVIOUR(delete_twice) {
    WDFSPINLOCK Lock = NewSpinLock();
    /* The reference keeps the handle. */
    CALL_WDF(WdfObjectReferenceActual, PFN_WDFOBJECTREFERENCEACTUAL)(WdfDriverGlobals, Lock, NULL, 0, "");
    Delete(Lock);
    if (Call->Wrong)
        Delete(Lock);
    CALL_WDF(WdfObjectDereferenceActual, PFN_WDFOBJECTDEREFERENCEACTUAL)(WdfDriverGlobals, Lock, NULL, 0, "");
    return STATUS_SUCCESS;
}

BEHAVIOUR(leak_a_reference) {
    WDFSPINLOCK Lock = NewSpinLock();
    CALL_WDF(WdfObjectReferenceActual, PFN_WDFOBJECTREFERENCEACTUAL)(WdfDriverGlobals, Lock, NULL, 0, "");
    if (!Call->Wrong)
        CALL_WDF(WdfObjectDereferenceActual, PFN_WDFOBJECTDEREFERENCEACTUAL)(WdfDriverGlobals, Lock, NULL, 0, "");
    return STATUS_SUCCESS;
}

/* With the reference that the framework itself has, which goes by WdfObjectDelete alone. */
BEHAVIOUR(dereference_too_often) {
    WDFSPINLOCK Lock = NewSpinLock();
    CALL_WDF(WdfObjectReferenceActual, PFN_WDFOBJECTREFERENCEACTUAL)(WdfDriverGlobals, Lock, NULL, 0, "");
    CALL_WDF(WdfObjectDereferenceActual, PFN_WDFOBJECTDEREFERENCEACTUAL)(WdfDriverGlobals, Lock, NULL, 0, "");
    if (Call->Wrong)
        CALL_WDF(WdfObjectDereferenceActual, PFN_WDFOBJECTDEREFERENCEACTUAL)(WdfDriverGlobals, Lock, NULL, 0, "");
    return STATUS_SUCCESS;
}

BEHAVIOUR(delete_a_request) {
    if (Call->Wrong)
        Delete(Call->Request);
    return STATUS_SUCCESS;
}

static VOID NTAPI Ring(WDFTIMER Timer) { UNREFERENCED_PARAMETER(Timer); }

/* A timer's parent is a device, or has one. */
BEHAVIOUR(create_a_timer_under_the_driver) {
    WDF_TIMER_CONFIG Config = {.Size = sizeof(Config), .EvtTimerFunc = Ring};
    WDF_OBJECT_ATTRIBUTES Attributes = {.Size = sizeof(Attributes),
        .ExecutionLevel = WdfExecutionLevelInheritFromParent,
        .SynchronizationScope = WdfSynchronizationScopeInheritFromParent};
    WDFTIMER Timer;
    Attributes.ParentObject = Call->Wrong ? (WDFOBJECT)Driver : (WDFOBJECT)Call->Device;
    return CALL_WDF(WdfTimerCreate, PFN_WDFTIMERCREATE)(WdfDriverGlobals, &Config, &Attributes, &Timer);
}

BEHAVIOUR(acquire_a_wait_lock_twice) {
    WDFWAITLOCK Lock = NewWaitLock();
    CALL_WDF(WdfWaitLockAcquire, PFN_WDFWAITLOCKACQUIRE)(WdfDriverGlobals, Lock, NULL);
    if (Call->Wrong)
        CALL_WDF(WdfWaitLockAcquire, PFN_WDFWAITLOCKACQUIRE)(WdfDriverGlobals, Lock, NULL);
    CALL_WDF(WdfWaitLockRelease, PFN_WDFWAITLOCKRELEASE)(WdfDriverGlobals, Lock);
    Delete(Lock);
    return STATUS_SUCCESS;
}

BEHAVIOUR(release_a_wait_lock_that_is_free) {
    WDFWAITLOCK Lock = NewWaitLock();
    if (!Call->Wrong)
        CALL_WDF(WdfWaitLockAcquire, PFN_WDFWAITLOCKACQUIRE)(WdfDriverGlobals, Lock, NULL);
    CALL_WDF(WdfWaitLockRelease, PFN_WDFWAITLOCKRELEASE)(WdfDriverGlobals, Lock);
    Delete(Lock);
    return STATUS_SUCCESS;
}

BEHAVIOUR(wait_locks_in_two_orders) {
    WDFWAITLOCK Locks[2] = {NewWaitLock(), NewWaitLock()};
    int Round;
    for (Round = 0; Round < 2; Round++) {
        int First = Call->Wrong ? Round : 0;
        CALL_WDF(WdfWaitLockAcquire, PFN_WDFWAITLOCKACQUIRE)(WdfDriverGlobals, Locks[First], NULL);
        CALL_WDF(WdfWaitLockAcquire, PFN_WDFWAITLOCKACQUIRE)(WdfDriverGlobals, Locks[1 - First], NULL);
        CALL_WDF(WdfWaitLockRelease, PFN_WDFWAITLOCKRELEASE)(WdfDriverGlobals, Locks[1 - First]);
        CALL_WDF(WdfWaitLockRelease, PFN_WDFWAITLOCKRELEASE)(WdfDriverGlobals, Locks[First]);
    }
    Delete(Locks[0]);
    Delete(Locks[1]);
    return STATUS_SUCCESS;
}

BEHAVIOUR(wait_for_a_wait_lock_at_dispatch_level) {
    WDFWAITLOCK Lock = NewWaitLock();
    LONGLONG Poll = 0;
    KIRQL Old;
    KeRaiseIrql(DISPATCH_LEVEL, &Old);
    CALL_WDF(WdfWaitLockAcquire, PFN_WDFWAITLOCKACQUIRE)(WdfDriverGlobals, Lock, Call->Wrong ? NULL : &Poll);
    CALL_WDF(WdfWaitLockRelease, PFN_WDFWAITLOCKRELEASE)(WdfDriverGlobals, Lock);
    KeLowerIrql(Old);
    Delete(Lock);
    return STATUS_SUCCESS;
}

typedef struct {
    const char *Name;
    NTSTATUS (*Act)(CALL *Call);
} ROW;

#define ROW_OF(Name) {#Name, Name}

static const ROW Rows[] = {
    ROW_OF(complete_twice),
    ROW_OF(complete_while_cancelable),
    ROW_OF(mark_cancelable_twice),
    ROW_OF(unmark_what_is_not_cancelable),
    ROW_OF(never_complete),
    ROW_OF(complete_under_a_spin_lock),
    ROW_OF(pass_a_handle_of_another_type),
    ROW_OF(use_a_deleted_object),
    ROW_OF(delete_twice),
    ROW_OF(leak_a_reference),
    ROW_OF(dereference_too_often),
    ROW_OF(delete_a_request),
    ROW_OF(create_a_timer_under_the_driver),
    ROW_OF(acquire_a_wait_lock_twice),
    ROW_OF(release_a_wait_lock_that_is_free),
    ROW_OF(wait_locks_in_two_orders),
    ROW_OF(wait_for_a_wait_lock_at_dispatch_level),
    {NULL, NULL},
};

static BOOLEAN SameName(const char *Left, const char *Right) {
    while (*Left != 0 && *Left == *Right)
        Left++, Right++;
    return *Left == *Right;
}

/* The input: whether to commit the fault, and the behaviour's name with its final zero. */
IN_BACKTRACES static VOID NTAPI EvtIoDeviceControl(
    WDFQUEUE Queue, WDFREQUEST Request, size_t Output, size_t Input, ULONG Code) {
    CALL Call = {.Queue = Queue, .Request = Request};
    const ROW *Row = Rows;
    const char *Name;
    NTSTATUS Status = STATUS_NOT_IMPLEMENTED;
    UNREFERENCED_PARAMETER(Output);
    UNREFERENCED_PARAMETER(Code);
    Call.Device = CALL_WDF(WdfIoQueueGetDevice, PFN_WDFIOQUEUEGETDEVICE)(WdfDriverGlobals, Queue);
    CALL_WDF(WdfRequestRetrieveInputBuffer, PFN_WDFREQUESTRETRIEVEINPUTBUFFER)(
        WdfDriverGlobals, Request, 2, (PVOID *)&Name, NULL);
    Call.Wrong = Name[0] != 0;
    while (Row->Name != NULL && !SameName(Row->Name, Name + 1))
        Row++;
    if (Row->Name != NULL)
        Status = Row->Act(&Call);
    if (Call.Request != NULL)
        Complete(Call.Request, Status);
}

static VOID NTAPI EvtDriverUnload(WDFDRIVER Driver_) { UNREFERENCED_PARAMETER(Driver_); }

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    WDF_DRIVER_CONFIG Config = {
        .Size = sizeof(Config), .EvtDriverUnload = EvtDriverUnload, .DriverInitFlags = WdfDriverInitNonPnpDriver};
    WDF_IO_QUEUE_CONFIG Default = {.Size = sizeof(Default), .PowerManaged = WdfFalse, .DefaultQueue = TRUE,
        .DispatchType = WdfIoQueueDispatchParallel, .EvtIoDeviceControl = EvtIoDeviceControl};
    UNICODE_STRING Sddl = RTL_CONSTANT_STRING(L"D:P(A;;GA;;;SY)(A;;GA;;;BA)");
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\Verifier");
    UNICODE_STRING Link = RTL_CONSTANT_STRING(L"\\DosDevices\\Verifier");
    WDFDEVICE Device;
    PWDFDEVICE_INIT Init;
    NTSTATUS Status = CALL_WDF(WdfDriverCreate, PFN_WDFDRIVERCREATE)(
        WdfDriverGlobals, DriverObject, RegistryPath, NULL, &Config, &Driver);
    if (!NT_SUCCESS(Status))
        return Status;
    Init = CALL_WDF(WdfControlDeviceInitAllocate, PFN_WDFCONTROLDEVICEINITALLOCATE)(WdfDriverGlobals, Driver, &Sddl);
    if (Init == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    CALL_WDF(WdfDeviceInitAssignName, PFN_WDFDEVICEINITASSIGNNAME)(WdfDriverGlobals, Init, &Name);
    Status = CALL_WDF(WdfDeviceCreate, PFN_WDFDEVICECREATE)(WdfDriverGlobals, &Init, NULL, &Device);
    if (!NT_SUCCESS(Status)) {
        CALL_WDF(WdfDeviceInitFree, PFN_WDFDEVICEINITFREE)(WdfDriverGlobals, Init);
        return Status;
    }
    CALL_WDF(WdfDeviceCreateSymbolicLink, PFN_WDFDEVICECREATESYMBOLICLINK)(WdfDriverGlobals, Device, &Link);
    /* As many at once as come. */
    Default.Settings.Parallel.NumberOfPresentedRequests = (ULONG)-1;
    Status = CALL_WDF(WdfIoQueueCreate, PFN_WDFIOQUEUECREATE)(WdfDriverGlobals, Device, &Default, NULL, NULL);
    CALL_WDF(WdfControlFinishInitializing, PFN_WDFCONTROLFINISHINITIALIZING)(WdfDriverGlobals, Device);
    return Status;
}
