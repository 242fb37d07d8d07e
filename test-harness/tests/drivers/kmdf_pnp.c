/* A driver of Plug and Play on the framework: a root device with an interface, queues of all dispatch types, a timer, a work item, a DPC,
 * memory objects, strings and collections. What is written to it is what is read from it; a read waits for a write. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>
#include <wdf.h>

#define CALL(name, type) ((type)WdfFunctions[name##TableIndex])

typedef NTSTATUS(NTAPI *PFN_POWER)(WDFDEVICE Device, int State);

struct _WDF_PNPPOWER_EVENT_CALLBACKS {
    ULONG Size;
    PFN_POWER EvtDeviceD0Entry;
    PFN_POWER EvtDeviceD0EntryPostInterruptsEnabled;
    PFN_POWER EvtDeviceD0Exit;
    PFN_POWER EvtDeviceD0ExitPreInterruptsDisabled;
    PFN_WDF_DEVICE_PREPARE_HARDWARE EvtDevicePrepareHardware;
    PFN_WDF_DEVICE_RELEASE_HARDWARE EvtDeviceReleaseHardware;
    PFN_WDF_DEVICE_SELF_MANAGED_IO_CLEANUP EvtDeviceSelfManagedIoCleanup;
    PFN_WDF_DEVICE_SELF_MANAGED_IO_FLUSH EvtDeviceSelfManagedIoFlush;
    PFN_WDF_DEVICE_SELF_MANAGED_IO_INIT EvtDeviceSelfManagedIoInit;
    PFN_WDF_DEVICE_SELF_MANAGED_IO_SUSPEND EvtDeviceSelfManagedIoSuspend;
    PFN_WDF_DEVICE_SELF_MANAGED_IO_RESTART EvtDeviceSelfManagedIoRestart;
    PFN_WDF_DEVICE_SURPRISE_REMOVAL EvtDeviceSurpriseRemoval;
    PFN_WDF_DEVICE_QUERY_REMOVE EvtDeviceQueryRemove;
    PFN_WDF_DEVICE_QUERY_STOP EvtDeviceQueryStop;
    PVOID EvtDeviceUsageNotification;
    PVOID EvtDeviceRelationsQuery;
    PVOID EvtDeviceUsageNotificationEx;
};
C_ASSERT(sizeof(struct _WDF_PNPPOWER_EVENT_CALLBACKS) == 144);
C_ASSERT(FIELD_OFFSET(struct _WDF_PNPPOWER_EVENT_CALLBACKS, EvtDeviceSurpriseRemoval) == 96);

/* wdfstatus.h. */
#define STATUS_WDF_EXECUTION_LEVEL_INVALID ((NTSTATUS)0xC0200211L)

enum { BY_TIMER = 1, BY_WORK_ITEM = 2, BY_DPC = 3, REFUSE_REMOVAL = 4, ALLOW_REMOVAL = 5, KEEP = 6, STATE = 7 };
/* WDF_POWER_DEVICE_STATE. */
enum { D3 = 4, D3_FINAL = 5 };

/* {5a1c2d5e-0b6f-4d3a-9c41-7f2e6f0a1b2c} */
static const GUID Interface = {0x5a1c2d5e, 0x0b6f, 0x4d3a, {0x9c, 0x41, 0x7f, 0x2e, 0x6f, 0x0a, 0x1b, 0x2c}};

static WDFQUEUE Waiting;
static WDFTIMER Timer;
static WDFWORKITEM Work;
static WDFDPC Dpc;
static WDFWAITLOCK Lock;
static WDFMEMORY Stored;
static WDFREQUEST Timed, Worked, Deferred;
static BOOLEAN Refuses, Works;
static PDRIVER_OBJECT Own;
static PVOID Notification;

static VOID Complete(WDFREQUEST Request, NTSTATUS Status, ULONG_PTR Information) {
    CALL(WdfRequestCompleteWithInformation, PFN_WDFREQUESTCOMPLETEWITHINFORMATION)
    (WdfDriverGlobals, Request, Status, Information);
}

static VOID NTAPI EvtTimerFunc(WDFTIMER Timer_) {
    UNREFERENCED_PARAMETER(Timer_);
    Complete(Timed, STATUS_SUCCESS, KeGetCurrentIrql());
}

static VOID NTAPI EvtWorkItem(WDFWORKITEM Item) {
    UNREFERENCED_PARAMETER(Item);
    Complete(Worked, STATUS_SUCCESS, KeGetCurrentIrql());
}

static VOID NTAPI EvtDpcFunc(WDFDPC Dpc_) {
    UNREFERENCED_PARAMETER(Dpc_);
    Complete(Deferred, STATUS_SUCCESS, KeGetCurrentIrql());
}

static VOID NTAPI EvtIoDeviceControl(WDFQUEUE Queue, WDFREQUEST Request, size_t Output, size_t Input, ULONG Code) {
    UNREFERENCED_PARAMETER(Queue);
    UNREFERENCED_PARAMETER(Output);
    UNREFERENCED_PARAMETER(Input);
    switch ((Code >> 2) & 0xFFF) {
    case BY_TIMER:
        Timed = Request;
        CALL(WdfTimerStart, PFN_WDFTIMERSTART)(WdfDriverGlobals, Timer, -10000);
        break;
    case BY_WORK_ITEM:
        Worked = Request;
        CALL(WdfWorkItemEnqueue, PFN_WDFWORKITEMENQUEUE)(WdfDriverGlobals, Work);
        break;
    case BY_DPC:
        Deferred = Request;
        CALL(WdfDpcEnqueue, PFN_WDFDPCENQUEUE)(WdfDriverGlobals, Dpc);
        break;
    case REFUSE_REMOVAL:
    case ALLOW_REMOVAL:
        Refuses = ((Code >> 2) & 0xFFF) == REFUSE_REMOVAL;
        Complete(Request, STATUS_SUCCESS, 0);
        break;
    case KEEP:
        /* Until the device has slept. */
        break;
    case STATE:
        Complete(Request, STATUS_SUCCESS, Works ? 1 : 0);
        break;
    default:
        Complete(Request, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
}

static VOID NTAPI EvtIoStop(WDFQUEUE Queue, WDFREQUEST Request, ULONG Actions) {
    UNREFERENCED_PARAMETER(Queue);
    if (Actions & 1 /* WdfRequestStopActionSuspend */)
        CALL(WdfRequestStopAcknowledge, PFN_WDFREQUESTSTOPACKNOWLEDGE)(WdfDriverGlobals, Request, FALSE);
    else
        Complete(Request, STATUS_CANCELLED, 0);
}

static VOID NTAPI EvtIoResume(WDFQUEUE Queue, WDFREQUEST Request) {
    UNREFERENCED_PARAMETER(Queue);
    Complete(Request, STATUS_SUCCESS, 6);
}

/* Gives a read what is stored, and forgets it. */
static VOID Deliver(WDFREQUEST Read) {
    WDFMEMORY Target;
    size_t Size;
    PVOID Bytes = CALL(WdfMemoryGetBuffer, PFN_WDFMEMORYGETBUFFER)(WdfDriverGlobals, Stored, &Size);
    NTSTATUS Status =
        CALL(WdfRequestRetrieveOutputMemory, PFN_WDFREQUESTRETRIEVEOUTPUTMEMORY)(WdfDriverGlobals, Read, &Target);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfMemoryCopyFromBuffer, PFN_WDFMEMORYCOPYFROMBUFFER)(WdfDriverGlobals, Target, 0, Bytes, Size);
    CALL(WdfObjectDelete, PFN_WDFOBJECTDELETE)(WdfDriverGlobals, Stored);
    Stored = NULL;
    Complete(Read, Status, NT_SUCCESS(Status) ? Size : 0);
}

static VOID NTAPI EvtIoWrite(WDFQUEUE Queue, WDFREQUEST Request, size_t Length) {
    WDFREQUEST Reader;
    WDFMEMORY Source;
    PVOID Bytes;
    NTSTATUS Status;
    UNREFERENCED_PARAMETER(Queue);
    CALL(WdfWaitLockAcquire, PFN_WDFWAITLOCKACQUIRE)(WdfDriverGlobals, Lock, NULL);
    if (Stored != NULL)
        CALL(WdfObjectDelete, PFN_WDFOBJECTDELETE)(WdfDriverGlobals, Stored);
    Stored = NULL;
    Status = CALL(WdfRequestRetrieveInputMemory, PFN_WDFREQUESTRETRIEVEINPUTMEMORY)(WdfDriverGlobals, Request, &Source);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfMemoryCreate, PFN_WDFMEMORYCREATE)(
            WdfDriverGlobals, NULL, NonPagedPoolNx, 'pnPT', Length, &Stored, &Bytes);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfMemoryCopyToBuffer, PFN_WDFMEMORYCOPYTOBUFFER)(WdfDriverGlobals, Source, 0, Bytes, Length);
    if (NT_SUCCESS(Status) &&
        NT_SUCCESS(CALL(WdfIoQueueRetrieveNextRequest, PFN_WDFIOQUEUERETRIEVENEXTREQUEST)(WdfDriverGlobals, Waiting, &Reader)))
        Deliver(Reader);
    CALL(WdfWaitLockRelease, PFN_WDFWAITLOCKRELEASE)(WdfDriverGlobals, Lock);
    Complete(Request, Status, NT_SUCCESS(Status) ? Length : 0);
}

static VOID NTAPI EvtIoRead(WDFQUEUE Queue, WDFREQUEST Request, size_t Length) {
    UNREFERENCED_PARAMETER(Queue);
    UNREFERENCED_PARAMETER(Length);
    CALL(WdfWaitLockAcquire, PFN_WDFWAITLOCKACQUIRE)(WdfDriverGlobals, Lock, NULL);
    if (Stored != NULL)
        Deliver(Request);
    else if (!NT_SUCCESS(CALL(WdfRequestForwardToIoQueue, PFN_WDFREQUESTFORWARDTOIOQUEUE)(WdfDriverGlobals, Request, Waiting)))
        Complete(Request, STATUS_UNSUCCESSFUL, 0);
    CALL(WdfWaitLockRelease, PFN_WDFWAITLOCKRELEASE)(WdfDriverGlobals, Lock);
}

static NTSTATUS Say(const char *What) {
    DbgPrint("%s\n", What);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI PrepareHardware(WDFDEVICE Device, WDFCMRESLIST Raw, WDFCMRESLIST Translated) {
    UNREFERENCED_PARAMETER(Device);
    if (CALL(WdfCmResourceListGetCount, PFN_WDFCMRESOURCELISTGETCOUNT)(WdfDriverGlobals, Raw) != 0 ||
        CALL(WdfCmResourceListGetCount, PFN_WDFCMRESOURCELISTGETCOUNT)(WdfDriverGlobals, Translated) != 0)
        return STATUS_UNSUCCESSFUL;
    return Say("prepare hardware");
}

static NTSTATUS NTAPI ReleaseHardware(WDFDEVICE Device, WDFCMRESLIST Translated) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Translated);
    return Say("release hardware");
}

static NTSTATUS NTAPI D0Entry(WDFDEVICE Device, int State) {
    UNREFERENCED_PARAMETER(Device);
    Works = TRUE;
    return Say(State == D3 ? "D0 entry from D3" : State == D3_FINAL ? "D0 entry" : "D0 entry from nowhere");
}

static NTSTATUS NTAPI D0Exit(WDFDEVICE Device, int State) {
    UNREFERENCED_PARAMETER(Device);
    Works = FALSE;
    return Say(State == D3 ? "D0 exit to D3" : State == D3_FINAL ? "D0 exit" : "D0 exit to nowhere");
}

static NTSTATUS NTAPI SelfManagedIoRestart(WDFDEVICE Device) {
    UNREFERENCED_PARAMETER(Device);
    return Say("self-managed I/O restart");
}

static VOID NTAPI SurpriseRemoval(WDFDEVICE Device) {
    UNREFERENCED_PARAMETER(Device);
    Say("surprise removal");
}

static NTSTATUS NTAPI SelfManagedIoInit(WDFDEVICE Device) {
    UNREFERENCED_PARAMETER(Device);
    return Say("self-managed I/O init");
}

static NTSTATUS NTAPI SelfManagedIoSuspend(WDFDEVICE Device) {
    UNREFERENCED_PARAMETER(Device);
    return Say("self-managed I/O suspend");
}

static VOID NTAPI SelfManagedIoCleanup(WDFDEVICE Device) {
    UNREFERENCED_PARAMETER(Device);
    Say("self-managed I/O cleanup");
}

static NTSTATUS NTAPI QueryRemove(WDFDEVICE Device) {
    UNREFERENCED_PARAMETER(Device);
    return Refuses ? STATUS_UNSUCCESSFUL : Say("query remove");
}

/* The driver hears of its own interface, too. */
static NTSTATUS NTAPI InterfaceChanged(PVOID Structure, PVOID Context) {
    const DEVICE_INTERFACE_CHANGE_NOTIFICATION *Change = Structure;
    UNREFERENCED_PARAMETER(Context);
    DbgPrint("interface %s %wZ\n", Change->Event.Data1 == 0xcb3a4004 ? "arrived" : "removed", Change->SymbolicLinkName);
    return STATUS_SUCCESS;
}

static VOID NTAPI EvtDeviceCleanup(WDFOBJECT Device) {
    UNREFERENCED_PARAMETER(Device);
    if (Notification != NULL)
        IoUnregisterPlugPlayNotificationEx(Notification);
    Notification = NULL;
    Say("device cleanup");
}

/* The names of the framework's version and of the interface, by strings in a collection. */
static NTSTATUS SayNames(WDFDEVICE Device) {
    WDFCOLLECTION Names = NULL;
    WDFSTRING Name;
    UNICODE_STRING Text;
    NTSTATUS Status = CALL(WdfCollectionCreate, PFN_WDFCOLLECTIONCREATE)(WdfDriverGlobals, NULL, &Names);
    if (!NT_SUCCESS(Status))
        return Status;
    Status = CALL(WdfStringCreate, PFN_WDFSTRINGCREATE)(WdfDriverGlobals, NULL, NULL, &Name);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfCollectionAdd, PFN_WDFCOLLECTIONADD)(WdfDriverGlobals, Names, Name);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfDeviceRetrieveDeviceInterfaceString, PFN_WDFDEVICERETRIEVEDEVICEINTERFACESTRING)(
            WdfDriverGlobals, Device, &Interface, NULL, Name);
    if (NT_SUCCESS(Status)) {
        Name = CALL(WdfCollectionGetFirstItem, PFN_WDFCOLLECTIONGETFIRSTITEM)(WdfDriverGlobals, Names);
        CALL(WdfStringGetUnicodeString, PFN_WDFSTRINGGETUNICODESTRING)(WdfDriverGlobals, Name, &Text);
        DbgPrint("interface %wZ\n", &Text);
    }
    CALL(WdfObjectDelete, PFN_WDFOBJECTDELETE)(WdfDriverGlobals, Names);
    return Status;
}

static NTSTATUS NTAPI EvtDriverDeviceAdd(WDFDRIVER Driver, PWDFDEVICE_INIT Init) {
    WDF_PNPPOWER_EVENT_CALLBACKS Callbacks = {.Size = sizeof(Callbacks),
        .EvtDevicePrepareHardware = PrepareHardware,
        .EvtDeviceReleaseHardware = ReleaseHardware,
        .EvtDeviceD0Entry = D0Entry,
        .EvtDeviceD0Exit = D0Exit,
        .EvtDeviceSelfManagedIoInit = SelfManagedIoInit,
        .EvtDeviceSelfManagedIoSuspend = SelfManagedIoSuspend,
        .EvtDeviceSelfManagedIoRestart = SelfManagedIoRestart,
        .EvtDeviceSelfManagedIoCleanup = SelfManagedIoCleanup,
        .EvtDeviceSurpriseRemoval = SurpriseRemoval,
        .EvtDeviceQueryRemove = QueryRemove};
    WDF_OBJECT_ATTRIBUTES Attributes = {.Size = sizeof(Attributes),
        .ExecutionLevel = WdfExecutionLevelPassive,
        .SynchronizationScope = WdfSynchronizationScopeInheritFromParent,
        .EvtCleanupCallback = EvtDeviceCleanup};
    WDF_IO_QUEUE_CONFIG Parallel = {.Size = sizeof(Parallel), .PowerManaged = WdfUseDefault, .DefaultQueue = TRUE,
        .DispatchType = WdfIoQueueDispatchParallel, .EvtIoDeviceControl = EvtIoDeviceControl, .EvtIoStop = EvtIoStop,
        .EvtIoResume = EvtIoResume};
    WDF_IO_QUEUE_CONFIG Sequential = {.Size = sizeof(Sequential), .PowerManaged = WdfTrue,
        .DispatchType = WdfIoQueueDispatchSequential, .EvtIoRead = EvtIoRead, .EvtIoWrite = EvtIoWrite};
    WDF_IO_QUEUE_CONFIG Manual = {.Size = sizeof(Manual), .PowerManaged = WdfFalse, .DispatchType = WdfIoQueueDispatchManual};
    WDF_TIMER_CONFIG TimerConfig = {.Size = sizeof(TimerConfig), .EvtTimerFunc = EvtTimerFunc};
    WDF_WORKITEM_CONFIG WorkConfig = {.Size = sizeof(WorkConfig), .EvtWorkItemFunc = EvtWorkItem};
    WDF_DPC_CONFIG DpcConfig = {.Size = sizeof(DpcConfig), .EvtDpcFunc = EvtDpcFunc};
    WDFDEVICE Device;
    WDFQUEUE Queue;
    NTSTATUS Status;
    UNREFERENCED_PARAMETER(Driver);
    CALL(WdfDeviceInitSetPnpPowerEventCallbacks, PFN_WDFDEVICEINITSETPNPPOWEREVENTCALLBACKS)
    (WdfDriverGlobals, Init, &Callbacks);
    Status = CALL(WdfDeviceCreate, PFN_WDFDEVICECREATE)(WdfDriverGlobals, &Init, &Attributes, &Device);
    if (!NT_SUCCESS(Status))
        return Status;
    Parallel.Settings.Parallel.NumberOfPresentedRequests = (ULONG)-1;
    Status = CALL(WdfIoQueueCreate, PFN_WDFIOQUEUECREATE)(WdfDriverGlobals, Device, &Parallel, NULL, NULL);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfIoQueueCreate, PFN_WDFIOQUEUECREATE)(WdfDriverGlobals, Device, &Sequential, NULL, &Queue);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfDeviceConfigureRequestDispatching, PFN_WDFDEVICECONFIGUREREQUESTDISPATCHING)(
            WdfDriverGlobals, Device, Queue, WdfRequestTypeRead);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfDeviceConfigureRequestDispatching, PFN_WDFDEVICECONFIGUREREQUESTDISPATCHING)(
            WdfDriverGlobals, Device, Queue, WdfRequestTypeWrite);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfIoQueueCreate, PFN_WDFIOQUEUECREATE)(WdfDriverGlobals, Device, &Manual, NULL, &Waiting);
    Attributes.ParentObject = Device;
    Attributes.EvtCleanupCallback = NULL;
    if (NT_SUCCESS(Status))
        Status = CALL(WdfTimerCreate, PFN_WDFTIMERCREATE)(WdfDriverGlobals, &TimerConfig, &Attributes, &Timer);
    /* The level of a lock, a work item or a DPC is what it is. */
    if (NT_SUCCESS(Status) &&
        CALL(WdfWorkItemCreate, PFN_WDFWORKITEMCREATE)(WdfDriverGlobals, &WorkConfig, &Attributes, &Work) !=
            STATUS_WDF_EXECUTION_LEVEL_INVALID)
        Status = STATUS_UNSUCCESSFUL;
    Attributes.ExecutionLevel = WdfExecutionLevelInheritFromParent;
    if (NT_SUCCESS(Status))
        Status = CALL(WdfWaitLockCreate, PFN_WDFWAITLOCKCREATE)(WdfDriverGlobals, &Attributes, &Lock);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfWorkItemCreate, PFN_WDFWORKITEMCREATE)(WdfDriverGlobals, &WorkConfig, &Attributes, &Work);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfDpcCreate, PFN_WDFDPCCREATE)(WdfDriverGlobals, &DpcConfig, &Attributes, &Dpc);
    if (NT_SUCCESS(Status))
        Status = CALL(WdfDeviceCreateDeviceInterface, PFN_WDFDEVICECREATEDEVICEINTERFACE)(
            WdfDriverGlobals, Device, &Interface, NULL);
    if (NT_SUCCESS(Status))
        Status = IoRegisterPlugPlayNotification(EventCategoryDeviceInterfaceChange,
            PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES, (PVOID)&Interface, Own, InterfaceChanged, NULL, &Notification);
    return NT_SUCCESS(Status) ? SayNames(Device) : Status;
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    WDF_DRIVER_CONFIG Config = {.Size = sizeof(Config), .EvtDriverDeviceAdd = EvtDriverDeviceAdd};
    Own = DriverObject;
    return CALL(WdfDriverCreate, PFN_WDFDRIVERCREATE)(
        WdfDriverGlobals, DriverObject, RegistryPath, NULL, &Config, NULL);
}
