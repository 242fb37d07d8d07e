/* A KMDF driver that does with its requests what its caller asks for: the framework's own tests run on it. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>
#include <wdf.h>

#define CALL(name, type) ((type)WdfFunctions[name##TableIndex])

enum {
    ECHO = 1,          /* completes with what came in */
    PARK = 2,          /* goes to the manual queue */
    UNPARK = 3,        /* completes the request that has waited longest there; Information: 1, or 0 if there was none */
    HOLD = 4,          /* stays with the driver, cancelable */
    RELEASE = 5,       /* completes the held request */
    COMPLETE_TWICE = 6,
    COMPLETE_WHILE_CANCELABLE = 7,
    HOLD_FOR_TIMER = 8, /* the timer completes it */
    WORK = 9,          /* a work item completes it */
    USE_DELETED = 10,  /* uses an object that it has deleted */
    STATE = 11,        /* Information: requests waiting in the manual queue */
    DRAIN = 12,        /* is completed when the manual queue, which takes no more, is empty */
    PURGE = 13,        /* purges the queue it came from */
};

static WDFQUEUE Manual;
static WDFTIMER Timer;
static WDFWORKITEM Work;
static WDFREQUEST Held, Timed, Worked, Draining;

/* Backtraces are to name the frame that called. */
#define IN_BACKTRACES __attribute__((disable_tail_calls))

IN_BACKTRACES static VOID Complete(WDFREQUEST Request, NTSTATUS Status, ULONG_PTR Information) {
    CALL(WdfRequestCompleteWithInformation, PFN_WDFREQUESTCOMPLETEWITHINFORMATION)
    (WdfDriverGlobals, Request, Status, Information);
}

static VOID NTAPI EvtRequestCancel(WDFREQUEST Request) {
    Held = NULL;
    Complete(Request, STATUS_CANCELLED, 0);
}

static VOID NTAPI EvtTimerFunc(WDFTIMER Timer_) {
    UNREFERENCED_PARAMETER(Timer_);
    Complete(Timed, STATUS_SUCCESS, KeGetCurrentIrql());
}

static VOID NTAPI EvtDrained(WDFQUEUE Queue, WDFCONTEXT Context) {
    UNREFERENCED_PARAMETER(Queue);
    UNREFERENCED_PARAMETER(Context);
    Complete(Draining, STATUS_SUCCESS, 0);
}

static VOID NTAPI EvtWorkItem(WDFWORKITEM Item) {
    UNREFERENCED_PARAMETER(Item);
    Complete(Worked, STATUS_SUCCESS, KeGetCurrentIrql());
}

IN_BACKTRACES static VOID NTAPI EvtIoDeviceControl(WDFQUEUE Queue, WDFREQUEST Request, size_t Output, size_t Input, ULONG Code) {
    WDFREQUEST Next = NULL;
    WDFSPINLOCK Lock = NULL;
    ULONG Waiting = 0;
    PVOID Buffer;
    UNREFERENCED_PARAMETER(Output);
    switch ((Code >> 2) & 0xFFF) {
    case ECHO:
        Complete(Request, STATUS_SUCCESS, Input);
        break;
    case PARK:
        if (!NT_SUCCESS(CALL(WdfRequestForwardToIoQueue, PFN_WDFREQUESTFORWARDTOIOQUEUE)(WdfDriverGlobals, Request, Manual)))
            Complete(Request, STATUS_UNSUCCESSFUL, 0);
        break;
    case UNPARK:
        if (NT_SUCCESS(CALL(WdfIoQueueRetrieveNextRequest, PFN_WDFIOQUEUERETRIEVENEXTREQUEST)(WdfDriverGlobals, Manual, &Next)))
            Complete(Next, STATUS_SUCCESS, 0);
        Complete(Request, STATUS_SUCCESS, Next != NULL);
        break;
    case HOLD:
        Held = Request;
        if (!NT_SUCCESS(CALL(WdfRequestMarkCancelableEx, PFN_WDFREQUESTMARKCANCELABLEEX)(WdfDriverGlobals, Request, EvtRequestCancel)))
            Complete(Request, STATUS_CANCELLED, 0);
        break;
    case RELEASE:
        Next = Held;
        Held = NULL;
        if (Next != NULL &&
            CALL(WdfRequestUnmarkCancelable, PFN_WDFREQUESTUNMARKCANCELABLE)(WdfDriverGlobals, Next) != STATUS_CANCELLED)
            Complete(Next, STATUS_SUCCESS, 0);
        Complete(Request, STATUS_SUCCESS, Next != NULL);
        break;
    case COMPLETE_TWICE:
        Complete(Request, STATUS_SUCCESS, 0);
        Complete(Request, STATUS_SUCCESS, 0);
        break;
    case COMPLETE_WHILE_CANCELABLE:
        CALL(WdfRequestMarkCancelableEx, PFN_WDFREQUESTMARKCANCELABLEEX)(WdfDriverGlobals, Request, EvtRequestCancel);
        Complete(Request, STATUS_SUCCESS, 0);
        break;
    case HOLD_FOR_TIMER:
        Timed = Request;
        CALL(WdfTimerStart, PFN_WDFTIMERSTART)(WdfDriverGlobals, Timer, -10000);
        break;
    case WORK:
        Worked = Request;
        CALL(WdfWorkItemEnqueue, PFN_WDFWORKITEMENQUEUE)(WdfDriverGlobals, Work);
        break;
    case USE_DELETED:
        CALL(WdfSpinLockCreate, PFN_WDFSPINLOCKCREATE)(WdfDriverGlobals, NULL, &Lock);
        CALL(WdfObjectDelete, PFN_WDFOBJECTDELETE)(WdfDriverGlobals, Lock);
        CALL(WdfSpinLockAcquire, PFN_WDFSPINLOCKACQUIRE)(WdfDriverGlobals, Lock);
        break;
    case STATE:
        CALL(WdfIoQueueGetState, PFN_WDFIOQUEUEGETSTATE)(WdfDriverGlobals, Manual, &Waiting, NULL);
        Complete(Request, STATUS_SUCCESS, Waiting);
        break;
    case DRAIN:
        Draining = Request;
        CALL(WdfIoQueueDrain, PFN_WDFIOQUEUEDRAIN)(WdfDriverGlobals, Manual, EvtDrained, NULL);
        break;
    case PURGE:
        CALL(WdfIoQueuePurge, PFN_WDFIOQUEUEPURGE)(WdfDriverGlobals, Queue, NULL, NULL);
        Complete(Request, STATUS_SUCCESS, 0);
        break;
    default:
        if (NT_SUCCESS(CALL(WdfRequestRetrieveInputBuffer, PFN_WDFREQUESTRETRIEVEINPUTBUFFER)(WdfDriverGlobals, Request, 4, &Buffer, NULL)))
            Complete(Request, STATUS_SUCCESS, 0);
        else
            Complete(Request, STATUS_BUFFER_TOO_SMALL, 0);
    }
}

static VOID NTAPI EvtDriverUnload(WDFDRIVER Driver) { UNREFERENCED_PARAMETER(Driver); }

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    WDF_DRIVER_CONFIG Config = {
        .Size = sizeof(Config), .EvtDriverUnload = EvtDriverUnload, .DriverInitFlags = WdfDriverInitNonPnpDriver};
    WDF_OBJECT_ATTRIBUTES Attributes = {.Size = sizeof(Attributes),
        .ExecutionLevel = WdfExecutionLevelInheritFromParent,
        .SynchronizationScope = WdfSynchronizationScopeInheritFromParent};
    WDF_IO_QUEUE_CONFIG Default = {.Size = sizeof(Default), .PowerManaged = WdfFalse, .DefaultQueue = TRUE,
        .DispatchType = WdfIoQueueDispatchParallel, .EvtIoDeviceControl = EvtIoDeviceControl};
    WDF_IO_QUEUE_CONFIG Parking = {
        .Size = sizeof(Parking), .PowerManaged = WdfFalse, .DispatchType = WdfIoQueueDispatchManual};
    WDF_TIMER_CONFIG TimerConfig = {.Size = sizeof(TimerConfig), .EvtTimerFunc = EvtTimerFunc};
    WDF_WORKITEM_CONFIG WorkConfig = {.Size = sizeof(WorkConfig), .EvtWorkItemFunc = EvtWorkItem};
    UNICODE_STRING Sddl, Name, Link;
    WDFDRIVER Driver;
    WDFDEVICE Device;
    PWDFDEVICE_INIT Init;
    NTSTATUS Status = CALL(WdfDriverCreate, PFN_WDFDRIVERCREATE)(
        WdfDriverGlobals, DriverObject, RegistryPath, NULL, &Config, &Driver);
    if (!NT_SUCCESS(Status))
        return Status;
    RtlInitUnicodeString(&Sddl, L"D:P(A;;GA;;;SY)(A;;GA;;;BA)");
    RtlInitUnicodeString(&Name, L"\\Device\\KmdfQueues");
    RtlInitUnicodeString(&Link, L"\\DosDevices\\KmdfQueues");
    Init = CALL(WdfControlDeviceInitAllocate, PFN_WDFCONTROLDEVICEINITALLOCATE)(WdfDriverGlobals, Driver, &Sddl);
    if (Init == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    CALL(WdfDeviceInitAssignName, PFN_WDFDEVICEINITASSIGNNAME)(WdfDriverGlobals, Init, &Name);
    Status = CALL(WdfDeviceCreate, PFN_WDFDEVICECREATE)(WdfDriverGlobals, &Init, NULL, &Device);
    if (!NT_SUCCESS(Status)) {
        CALL(WdfDeviceInitFree, PFN_WDFDEVICEINITFREE)(WdfDriverGlobals, Init);
        return Status;
    }
    CALL(WdfDeviceCreateSymbolicLink, PFN_WDFDEVICECREATESYMBOLICLINK)(WdfDriverGlobals, Device, &Link);
    /* Three at once: the fourth waits in the queue. */
    Default.Settings.Parallel.NumberOfPresentedRequests = 3;
    Status = CALL(WdfIoQueueCreate, PFN_WDFIOQUEUECREATE)(WdfDriverGlobals, Device, &Default, NULL, NULL);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfIoQueueCreate, PFN_WDFIOQUEUECREATE)(WdfDriverGlobals, Device, &Parking, NULL, &Manual);
    Attributes.ParentObject = Device;
    if (NT_SUCCESS(Status))
        Status = CALL(WdfTimerCreate, PFN_WDFTIMERCREATE)(WdfDriverGlobals, &TimerConfig, &Attributes, &Timer);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfWorkItemCreate, PFN_WDFWORKITEMCREATE)(WdfDriverGlobals, &WorkConfig, &Attributes, &Work);
    CALL(WdfControlFinishInitializing, PFN_WDFCONTROLFINISHINITIALIZING)(WdfDriverGlobals, Device);
    return Status;
}
