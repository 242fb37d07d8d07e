/* A KMDF driver that looks at each request in its caller's context: the framework's own tests run on it. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>
#include <wdf.h>

#define CALL(name, type) ((type)WdfFunctions[name##TableIndex])

/* mingw declares it imported, which takes the variable for its content; it is exported as data. */
extern POBJECT_TYPE *ExEventObjectType;

enum {
    COMPLETE_HERE = 1,    /* completed in the caller's context. Output: process, thread, IRQL, requestor mode, first input byte */
    ENQUEUE = 2,          /* EvtIoDeviceControl completes it. Output: what the caller's context left in the request's context */
    PARK = 3,             /* EvtIoDeviceControl forwards it to the manual queue */
    COUNTS = 4,           /* Output: cleanups, destructions, the last cleanup's context, the last destruction's */
    NO_CONTEXT = 5,       /* Information: 1 if the request has a context that nobody allocated */
    ENQUEUE_AT_DISPATCH = 6, /* Output: the IRQL of EvtIoDeviceControl */
    ENQUEUE_TWICE = 7,
    PURGE = 8,            /* EvtIoDeviceControl lets the queue take no more; what comes then is completed with what enqueuing said */
    FORWARD_FROM_CALLER = 9, /* WdfRequestForwardToIoQueue before WdfDeviceEnqueueRequest: completed with its status */
    ALLOCATE_TWICE = 10,  /* completed with the status of the second allocation */
    SELECT = 11,          /* Input: an event's handle, referenced as its caller may */
    SIGNAL = 12,          /* sets the event under a spin lock */
    RESET = 13,
    CLEAR = 14,
    DESELECT = 15,        /* gives the reference back at DISPATCH_LEVEL */
    SELECT_LATER = 16,    /* as SELECT, in a work item: the wrong process */
    DPC = 17,             /* a DPC completes it. Information: its IRQL */
    UNSAFE = 19,          /* the caller's own buffers: the input, backwards, and the first character of the file's name */
    QUERY_VALUE = 18,     /* Input: room; output: status, length, type, the first eight bytes */
};

typedef struct _REQUEST_CONTEXT {
    ULONG Number;
} REQUEST_CONTEXT;

static const WDF_OBJECT_CONTEXT_TYPE_INFO ContextType = {sizeof(ContextType), "REQUEST_CONTEXT", sizeof(REQUEST_CONTEXT), &ContextType, NULL};

static WDFDRIVER Driver;
static WDFDEVICE Device;
static WDFQUEUE Manual;
static WDFWORKITEM Work;
static WDFREQUEST Worked, Deferred;
static LONG Cleanups, Destructions;
static ULONG LastCleanup, LastDestruction;
static PKEVENT Event;
static KSPIN_LOCK Lock;
static KDPC Dpc;

/* Backtraces are to name the frame that called. */
#define IN_BACKTRACES __attribute__((disable_tail_calls))

IN_BACKTRACES static VOID Complete(WDFREQUEST Request, NTSTATUS Status, ULONG_PTR Information) {
    CALL(WdfRequestCompleteWithInformation, PFN_WDFREQUESTCOMPLETEWITHINFORMATION)
    (WdfDriverGlobals, Request, Status, Information);
}

static REQUEST_CONTEXT *GetContext(WDFREQUEST Request) {
    return CALL(WdfObjectGetTypedContextWorker, PFN_WDFOBJECTGETTYPEDCONTEXTWORKER)(WdfDriverGlobals, Request, &ContextType);
}

static PVOID Input(WDFREQUEST Request, size_t Size) {
    PVOID Buffer = NULL;
    if (!NT_SUCCESS(CALL(WdfRequestRetrieveInputBuffer, PFN_WDFREQUESTRETRIEVEINPUTBUFFER)(
            WdfDriverGlobals, Request, Size, &Buffer, NULL)))
        return NULL;
    return Buffer;
}

static VOID Answer(WDFREQUEST Request, const ULONG *Values, ULONG Count) {
    PVOID Buffer;
    NTSTATUS Status = CALL(WdfRequestRetrieveOutputBuffer, PFN_WDFREQUESTRETRIEVEOUTPUTBUFFER)(
        WdfDriverGlobals, Request, Count * sizeof(ULONG), &Buffer, NULL);
    if (NT_SUCCESS(Status))
        RtlCopyMemory(Buffer, Values, Count * sizeof(ULONG));
    Complete(Request, Status, NT_SUCCESS(Status) ? Count * sizeof(ULONG) : 0);
}

static VOID NTAPI EvtCleanup(WDFOBJECT Object) {
    InterlockedIncrement(&Cleanups);
    LastCleanup = GetContext(Object)->Number;
}

static VOID NTAPI EvtDestroy(WDFOBJECT Object) {
    InterlockedIncrement(&Destructions);
    LastDestruction = GetContext(Object)->Number;
}

static NTSTATUS Allocate(WDFREQUEST Request, ULONG Number) {
    WDF_OBJECT_ATTRIBUTES Attributes = {.Size = sizeof(Attributes),
        .ExecutionLevel = WdfExecutionLevelInheritFromParent,
        .SynchronizationScope = WdfSynchronizationScopeInheritFromParent,
        .EvtCleanupCallback = EvtCleanup, .EvtDestroyCallback = EvtDestroy, .ContextTypeInfo = &ContextType};
    REQUEST_CONTEXT *Context;
    NTSTATUS Status = CALL(WdfObjectAllocateContext, PFN_WDFOBJECTALLOCATECONTEXT)(
        WdfDriverGlobals, Request, &Attributes, (PVOID *)&Context);
    if (Status == STATUS_SUCCESS)
        Context->Number = Number;
    return Status;
}

IN_BACKTRACES static NTSTATUS Enqueue(WDFREQUEST Request) {
    return CALL(WdfDeviceEnqueueRequest, PFN_WDFDEVICEENQUEUEREQUEST)(WdfDriverGlobals, Device, Request);
}

static NTSTATUS Select(WDFREQUEST Request) {
    ULONG64 *Handle = Input(Request, sizeof(*Handle));
    KPROCESSOR_MODE Mode =
        CALL(WdfRequestGetRequestorMode, PFN_WDFREQUESTGETREQUESTORMODE)(WdfDriverGlobals, Request);
    PVOID Object;
    NTSTATUS Status;
    if (Handle == NULL)
        return STATUS_INVALID_PARAMETER;
    Status = ObReferenceObjectByHandle(
        (HANDLE)*Handle, EVENT_MODIFY_STATE, *ExEventObjectType, Mode, &Object, NULL);
    if (NT_SUCCESS(Status))
        Event = Object;
    return Status;
}

static VOID NTAPI EvtWorkItem(WDFWORKITEM Item) {
    UNREFERENCED_PARAMETER(Item);
    Complete(Worked, Select(Worked), 0);
}

static VOID NTAPI DpcRoutine(PKDPC Self, PVOID Context, PVOID First, PVOID Second) {
    BOOLEAN Right = Self == &Dpc && Context == &Deferred && First == (PVOID)1 && Second == (PVOID)2;
    Complete(Deferred, Right ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL, KeGetCurrentIrql());
}

static VOID QueryValue(WDFREQUEST Request) {
    ULONG *Room = Input(Request, sizeof(ULONG));
    ULONG Answers[5] = {0};
    UNICODE_STRING Name;
    WDFKEY Key;
    RtlInitUnicodeString(&Name, L"Routes");
    if (!NT_SUCCESS(CALL(WdfDriverOpenParametersRegistryKey, PFN_WDFDRIVEROPENPARAMETERSREGISTRYKEY)(
            WdfDriverGlobals, Driver, KEY_READ, NULL, &Key))) {
        Complete(Request, STATUS_UNSUCCESSFUL, 0);
        return;
    }
    Answers[0] = CALL(WdfRegistryQueryValue, PFN_WDFREGISTRYQUERYVALUE)(
        WdfDriverGlobals, Key, &Name, *Room, *Room ? &Answers[3] : NULL, &Answers[1], &Answers[2]);
    CALL(WdfRegistryClose, PFN_WDFREGISTRYCLOSE)(WdfDriverGlobals, Key);
    Answer(Request, Answers, 5);
}

static VOID UseUnsafeBuffers(WDFREQUEST Request) {
    WDFFILEOBJECT File = CALL(WdfRequestGetFileObject, PFN_WDFREQUESTGETFILEOBJECT)(WdfDriverGlobals, Request);
    UNICODE_STRING *Name = CALL(WdfFileObjectGetFileName, PFN_WDFFILEOBJECTGETFILENAME)(WdfDriverGlobals, File);
    WDFMEMORY Locked = NULL;
    UCHAR *From, *To;
    size_t Length, Room, Index;
    NTSTATUS Status;
    Status = CALL(WdfRequestRetrieveUnsafeUserInputBuffer, PFN_WDFREQUESTRETRIEVEUNSAFEUSERINPUTBUFFER)(
        WdfDriverGlobals, Request, 1, (PVOID *)&From, &Length);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfRequestRetrieveUnsafeUserOutputBuffer, PFN_WDFREQUESTRETRIEVEUNSAFEUSEROUTPUTBUFFER)(
            WdfDriverGlobals, Request, Length + 1, (PVOID *)&To, &Room);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfRequestProbeAndLockUserBufferForRead, PFN_WDFREQUESTPROBEANDLOCKUSERBUFFERFORREAD)(
            WdfDriverGlobals, Request, From, Length, &Locked);
    if (NT_SUCCESS(Status) &&
        CALL(WdfRequestProbeAndLockUserBufferForWrite, PFN_WDFREQUESTPROBEANDLOCKUSERBUFFERFORWRITE)(
            WdfDriverGlobals, Request, (PVOID)4096, 1, &Locked) != STATUS_ACCESS_VIOLATION)
        Status = STATUS_UNSUCCESSFUL;
    if (!NT_SUCCESS(Status)) {
        Complete(Request, Status, 0);
        return;
    }
    __try {
        ProbeForRead(From, Length, 1);
        ProbeForWrite(To, Room, 1);
        for (Index = 0; Index < Length; Index++)
            To[Index] = From[Length - 1 - Index];
        To[Length] = Name->Length >= 4 ? (UCHAR)Name->Buffer[1] : 0;
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Status = GetExceptionCode();
    }
    Complete(Request, Status, Length + 1);
}

IN_BACKTRACES static VOID NTAPI EvtIoInCallerContext(WDFDEVICE Device_, WDFREQUEST Request) {
    WDF_REQUEST_PARAMETERS Parameters = {.Size = sizeof(Parameters)};
    ULONG Answers[5];
    UCHAR *First;
    KIRQL Irql;
    NTSTATUS Status = STATUS_SUCCESS;
    UNREFERENCED_PARAMETER(Device_);
    CALL(WdfRequestGetParameters, PFN_WDFREQUESTGETPARAMETERS)(WdfDriverGlobals, Request, &Parameters);
    switch ((Parameters.Parameters.DeviceIoControl.IoControlCode >> 2) & 0xFFF) {
    case COMPLETE_HERE:
        First = Input(Request, 1);
        Answers[0] = (ULONG)(ULONG_PTR)PsGetCurrentProcessId();
        Answers[1] = (ULONG)(ULONG_PTR)PsGetCurrentThreadId();
        Answers[2] = KeGetCurrentIrql();
        Answers[3] = CALL(WdfRequestGetRequestorMode, PFN_WDFREQUESTGETREQUESTORMODE)(WdfDriverGlobals, Request);
        Answers[4] = First == NULL ? 0xFFFF : *First;
        Allocate(Request, 1);
        Answer(Request, Answers, 5);
        return;
    case ENQUEUE:
        Allocate(Request, 4711);
        break;
    case PARK:
        Allocate(Request, 42);
        break;
    case UNSAFE:
        UseUnsafeBuffers(Request);
        return;
    case SELECT:
        Complete(Request, Select(Request), 0);
        return;
    case ENQUEUE_AT_DISPATCH:
        KeRaiseIrql(DISPATCH_LEVEL, &Irql);
        Status = Enqueue(Request);
        KeLowerIrql(Irql);
        if (!NT_SUCCESS(Status))
            Complete(Request, Status, 0);
        return;
    case ENQUEUE_TWICE:
        Enqueue(Request);
        Enqueue(Request);
        return;
    case FORWARD_FROM_CALLER:
        Status = CALL(WdfRequestForwardToIoQueue, PFN_WDFREQUESTFORWARDTOIOQUEUE)(WdfDriverGlobals, Request, Manual);
        Complete(Request, Status, 0);
        return;
    case ALLOCATE_TWICE:
        Allocate(Request, 7);
        Complete(Request, Allocate(Request, 8), 0);
        return;
    }
    Status = Enqueue(Request);
    if (!NT_SUCCESS(Status))
        Complete(Request, Status, 0);
}

static VOID NTAPI EvtIoDeviceControl(WDFQUEUE Queue, WDFREQUEST Request, size_t Output, size_t Input_, ULONG Code) {
    ULONG Answers[4];
    KIRQL Irql;
    UNREFERENCED_PARAMETER(Output);
    UNREFERENCED_PARAMETER(Input_);
    switch ((Code >> 2) & 0xFFF) {
    case ENQUEUE:
        Answers[0] = GetContext(Request)->Number;
        Answer(Request, Answers, 1);
        break;
    case PARK:
        if (!NT_SUCCESS(CALL(WdfRequestForwardToIoQueue, PFN_WDFREQUESTFORWARDTOIOQUEUE)(WdfDriverGlobals, Request, Manual)))
            Complete(Request, STATUS_UNSUCCESSFUL, 0);
        break;
    case COUNTS:
        Answers[0] = Cleanups;
        Answers[1] = Destructions;
        Answers[2] = LastCleanup;
        Answers[3] = LastDestruction;
        Answer(Request, Answers, 4);
        break;
    case NO_CONTEXT:
        Complete(Request, STATUS_SUCCESS, GetContext(Request) != NULL);
        break;
    case ENQUEUE_AT_DISPATCH:
        Answers[0] = KeGetCurrentIrql();
        Answer(Request, Answers, 1);
        break;
    case PURGE:
        CALL(WdfIoQueuePurge, PFN_WDFIOQUEUEPURGE)(WdfDriverGlobals, Queue, NULL, NULL);
        Complete(Request, STATUS_SUCCESS, 0);
        break;
    case SIGNAL:
        KeAcquireSpinLock(&Lock, &Irql);
        KeSetEvent(Event, 0, FALSE);
        KeReleaseSpinLock(&Lock, Irql);
        Complete(Request, STATUS_SUCCESS, 0);
        break;
    case RESET:
        KeAcquireSpinLock(&Lock, &Irql);
        Answers[0] = KeResetEvent(Event);
        KeReleaseSpinLock(&Lock, Irql);
        Answer(Request, Answers, 1);
        break;
    case CLEAR:
        KeAcquireSpinLock(&Lock, &Irql);
        KeClearEvent(Event);
        KeReleaseSpinLock(&Lock, Irql);
        Complete(Request, STATUS_SUCCESS, 0);
        break;
    case DESELECT:
        KeRaiseIrql(DISPATCH_LEVEL, &Irql);
        ObfDereferenceObject(Event);
        Event = NULL;
        KeLowerIrql(Irql);
        Complete(Request, STATUS_SUCCESS, 0);
        break;
    case SELECT_LATER:
        Worked = Request;
        CALL(WdfWorkItemEnqueue, PFN_WDFWORKITEMENQUEUE)(WdfDriverGlobals, Work);
        break;
    case DPC:
        Deferred = Request;
        KeInsertQueueDpc(&Dpc, (PVOID)1, (PVOID)2);
        break;
    case QUERY_VALUE:
        QueryValue(Request);
        break;
    default:
        Complete(Request, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
}

static VOID NTAPI EvtDriverUnload(WDFDRIVER Driver_) {
    UNREFERENCED_PARAMETER(Driver_);
    KeFlushQueuedDpcs();
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    WDF_DRIVER_CONFIG Config = {
        .Size = sizeof(Config), .EvtDriverUnload = EvtDriverUnload, .DriverInitFlags = WdfDriverInitNonPnpDriver};
    WDF_OBJECT_ATTRIBUTES Attributes = {.Size = sizeof(Attributes), .ExecutionLevel = WdfExecutionLevelPassive,
        .SynchronizationScope = WdfSynchronizationScopeInheritFromParent};
    WDF_IO_QUEUE_CONFIG Default = {.Size = sizeof(Default), .PowerManaged = WdfFalse, .DefaultQueue = TRUE,
        .DispatchType = WdfIoQueueDispatchParallel, .EvtIoDeviceControl = EvtIoDeviceControl};
    WDF_IO_QUEUE_CONFIG Parking = {
        .Size = sizeof(Parking), .PowerManaged = WdfFalse, .DispatchType = WdfIoQueueDispatchManual};
    WDF_FILEOBJECT_CONFIG Files = {.Size = sizeof(Files), .FileObjectClass = WdfFileObjectWdfCannotUseFsContexts};
    WDF_WORKITEM_CONFIG WorkConfig = {.Size = sizeof(WorkConfig), .EvtWorkItemFunc = EvtWorkItem};
    UNICODE_STRING Sddl, Name, Link;
    PWDFDEVICE_INIT Init;
    NTSTATUS Status =
        CALL(WdfDriverCreate, PFN_WDFDRIVERCREATE)(WdfDriverGlobals, DriverObject, RegistryPath, NULL, &Config, &Driver);
    if (!NT_SUCCESS(Status))
        return Status;
    KeInitializeSpinLock(&Lock);
    KeInitializeDpc(&Dpc, DpcRoutine, &Deferred);
    RtlInitUnicodeString(&Sddl, L"D:P(A;;GA;;;SY)(A;;GA;;;BA)");
    RtlInitUnicodeString(&Name, L"\\Device\\KmdfCallerContext");
    RtlInitUnicodeString(&Link, L"\\DosDevices\\KmdfCallerContext");
    Init = CALL(WdfControlDeviceInitAllocate, PFN_WDFCONTROLDEVICEINITALLOCATE)(WdfDriverGlobals, Driver, &Sddl);
    if (Init == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    CALL(WdfDeviceInitAssignName, PFN_WDFDEVICEINITASSIGNNAME)(WdfDriverGlobals, Init, &Name);
    CALL(WdfDeviceInitSetFileObjectConfig, PFN_WDFDEVICEINITSETFILEOBJECTCONFIG)(WdfDriverGlobals, Init, &Files, NULL);
    CALL(WdfDeviceInitSetIoInCallerContextCallback, PFN_WDFDEVICEINITSETIOINCALLERCONTEXTCALLBACK)
    (WdfDriverGlobals, Init, EvtIoInCallerContext);
    Status = CALL(WdfDeviceCreate, PFN_WDFDEVICECREATE)(WdfDriverGlobals, &Init, &Attributes, &Device);
    if (!NT_SUCCESS(Status)) {
        CALL(WdfDeviceInitFree, PFN_WDFDEVICEINITFREE)(WdfDriverGlobals, Init);
        return Status;
    }
    CALL(WdfDeviceCreateSymbolicLink, PFN_WDFDEVICECREATESYMBOLICLINK)(WdfDriverGlobals, Device, &Link);
    Default.Settings.Parallel.NumberOfPresentedRequests = (ULONG)-1;
    Status = CALL(WdfIoQueueCreate, PFN_WDFIOQUEUECREATE)(WdfDriverGlobals, Device, &Default, NULL, NULL);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfIoQueueCreate, PFN_WDFIOQUEUECREATE)(WdfDriverGlobals, Device, &Parking, NULL, &Manual);
    Attributes.ParentObject = Device;
    Attributes.ExecutionLevel = WdfExecutionLevelInheritFromParent;
    if (NT_SUCCESS(Status))
        Status = CALL(WdfWorkItemCreate, PFN_WDFWORKITEMCREATE)(WdfDriverGlobals, &WorkConfig, &Attributes, &Work);
    CALL(WdfControlFinishInitializing, PFN_WDFCONTROLFINISHINITIALIZING)(WdfDriverGlobals, Device);
    return Status;
}
