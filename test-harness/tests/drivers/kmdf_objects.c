/* A KMDF driver each of whose behaviours uses one kind of framework object, and checks it as the documentation has it. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>
#include <wdf.h>

/* wdfstatus.h */
#define STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL ((NTSTATUS)0xC020020C)

#define WDF(Name, Type, ...) (((PFN_##Type)WdfFunctions[Name##TableIndex])(WdfDriverGlobals, ##__VA_ARGS__))
#define IN_BACKTRACES __attribute__((noinline, disable_tail_calls))

/* Which check failed, by its line, in a status that is an error. */
#define CHECK(Condition)                                                                                               \
    if (!(Condition))                                                                                                  \
    return (NTSTATUS)(0xE0000000 | __LINE__)

typedef struct {
    WDFDEVICE Device;
    WDFQUEUE Queue;
    WDFREQUEST Request; /* NULL once the behaviour has dealt with it */
    BOOLEAN Wrong;      /* whether to commit the fault */
} CALL;

#define BEHAVIOUR(Name) IN_BACKTRACES static NTSTATUS Name(CALL *Call)

static WDFDRIVER Driver;

static VOID Complete(WDFREQUEST Request, NTSTATUS Status, ULONG_PTR Information) {
    WDF(WdfRequestCompleteWithInformation, WDFREQUESTCOMPLETEWITHINFORMATION, Request, Status, Information);
}

static VOID Delete(WDFOBJECT Object) { WDF(WdfObjectDelete, WDFOBJECTDELETE, Object); }

static WDF_OBJECT_ATTRIBUTES Constrained(WDF_EXECUTION_LEVEL Level, WDF_SYNCHRONIZATION_SCOPE Scope, WDFOBJECT Parent) {
    WDF_OBJECT_ATTRIBUTES Attributes = {
        .Size = sizeof(Attributes), .ExecutionLevel = Level, .SynchronizationScope = Scope, .ParentObject = Parent};
    return Attributes;
}

/* A control device of the given constraints, without a name if it is not to be opened. */
static NTSTATUS NewDevice(WDF_EXECUTION_LEVEL Level, WDF_SYNCHRONIZATION_SCOPE Scope, PCWSTR Name, WDFDEVICE *Device) {
    UNICODE_STRING Sddl = RTL_CONSTANT_STRING(L"D:P(A;;GA;;;SY)(A;;GA;;;BA)");
    WDF_OBJECT_ATTRIBUTES Attributes = Constrained(Level, Scope, NULL);
    UNICODE_STRING Text;
    PWDFDEVICE_INIT Init = WDF(WdfControlDeviceInitAllocate, WDFCONTROLDEVICEINITALLOCATE, Driver, &Sddl);
    NTSTATUS Status;
    *Device = NULL;
    if (Init == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    if (Name != NULL) {
        RtlInitUnicodeString(&Text, Name);
        WDF(WdfDeviceInitAssignName, WDFDEVICEINITASSIGNNAME, Init, &Text);
    }
    Status = WDF(WdfDeviceCreate, WDFDEVICECREATE, &Init, &Attributes, Device);
    if (!NT_SUCCESS(Status))
        WDF(WdfDeviceInitFree, WDFDEVICEINITFREE, Init);
    return Status;
}

static VOID Acquire(WDFOBJECT Object) { WDF(WdfObjectAcquireLock, WDFOBJECTACQUIRELOCK, Object); }

static VOID Release(WDFOBJECT Object) { WDF(WdfObjectReleaseLock, WDFOBJECTRELEASELOCK, Object); }

BEHAVIOUR(a_presentation_lock_is_a_spin_lock_or_a_mutex) {
    WDFDEVICE Any, Passive;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(NewDevice(WdfExecutionLevelDispatch, WdfSynchronizationScopeDevice, NULL, &Any)));
    Acquire(Any);
    CHECK(KeGetCurrentIrql() == DISPATCH_LEVEL);
    Release(Any);
    CHECK(KeGetCurrentIrql() == PASSIVE_LEVEL);
    CHECK(NT_SUCCESS(NewDevice(WdfExecutionLevelPassive, WdfSynchronizationScopeNone, NULL, &Passive)));
    Acquire(Passive);
    CHECK(KeGetCurrentIrql() == PASSIVE_LEVEL && KeAreApcsDisabled());
    Release(Passive);
    CHECK(KeGetCurrentIrql() == PASSIVE_LEVEL);
    Delete(Any);
    Delete(Passive);
    return STATUS_SUCCESS;
}

BEHAVIOUR(lock_an_object_without_a_lock) {
    WDFSPINLOCK Lock = NULL;
    WDF(WdfSpinLockCreate, WDFSPINLOCKCREATE, NULL, &Lock);
    if (Call->Wrong)
        Acquire(Lock);
    Delete(Lock);
    return STATUS_SUCCESS;
}

static KEVENT Ran;
static volatile LONG RanAt;

static VOID NTAPI EvtTimer(WDFTIMER Timer) {
    UNREFERENCED_PARAMETER(Timer);
    InterlockedExchange(&RanAt, KeGetCurrentIrql());
    KeSetEvent(&Ran, IO_NO_INCREMENT, FALSE);
}

static VOID NTAPI EvtWork(WDFWORKITEM Item) {
    UNREFERENCED_PARAMETER(Item);
    InterlockedExchange(&RanAt, KeGetCurrentIrql());
    KeSetEvent(&Ran, IO_NO_INCREMENT, FALSE);
}

static NTSTATUS RanWithin(LONG Milliseconds) {
    LARGE_INTEGER Timeout = {.QuadPart = -10000LL * Milliseconds};
    return KeWaitForSingleObject(&Ran, Executive, KernelMode, FALSE, &Timeout);
}

static NTSTATUS NewTimer(WDFOBJECT Parent, WDF_EXECUTION_LEVEL Level, WDFTIMER *Timer) {
    WDF_TIMER_CONFIG Config = {.Size = sizeof(Config), .EvtTimerFunc = EvtTimer, .AutomaticSerialization = TRUE};
    WDF_OBJECT_ATTRIBUTES Attributes = Constrained(Level, WdfSynchronizationScopeInheritFromParent, Parent);
    return WDF(WdfTimerCreate, WDFTIMERCREATE, &Config, &Attributes, Timer);
}

static NTSTATUS NewWorkItem(WDFOBJECT Parent, WDFWORKITEM *Item) {
    WDF_WORKITEM_CONFIG Config = {.Size = sizeof(Config), .EvtWorkItemFunc = EvtWork, .AutomaticSerialization = TRUE};
    WDF_OBJECT_ATTRIBUTES Attributes =
        Constrained(WdfExecutionLevelInheritFromParent, WdfSynchronizationScopeInheritFromParent, Parent);
    return WDF(WdfWorkItemCreate, WDFWORKITEMCREATE, &Config, &Attributes, Item);
}

BEHAVIOUR(a_work_item_waits_for_the_lock_of_its_device) {
    WDFDEVICE Device;
    WDFWORKITEM Item;
    UNREFERENCED_PARAMETER(Call);
    KeInitializeEvent(&Ran, SynchronizationEvent, FALSE);
    CHECK(NT_SUCCESS(NewDevice(WdfExecutionLevelPassive, WdfSynchronizationScopeDevice, NULL, &Device)));
    CHECK(NT_SUCCESS(NewWorkItem(Device, &Item)));
    Acquire(Device);
    WDF(WdfWorkItemEnqueue, WDFWORKITEMENQUEUE, Item);
    CHECK(RanWithin(20) == STATUS_TIMEOUT);
    Release(Device);
    CHECK(RanWithin(10000) == STATUS_SUCCESS && RanAt == PASSIVE_LEVEL);
    Delete(Device);
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_passive_timer_waits_for_the_lock_of_its_device) {
    WDFDEVICE Device;
    WDFTIMER Timer;
    UNREFERENCED_PARAMETER(Call);
    KeInitializeEvent(&Ran, SynchronizationEvent, FALSE);
    CHECK(NT_SUCCESS(NewDevice(WdfExecutionLevelPassive, WdfSynchronizationScopeDevice, NULL, &Device)));
    CHECK(NT_SUCCESS(NewTimer(Device, WdfExecutionLevelPassive, &Timer)));
    Acquire(Device);
    WDF(WdfTimerStart, WDFTIMERSTART, Timer, -10000);
    CHECK(RanWithin(20) == STATUS_TIMEOUT);
    Release(Device);
    CHECK(RanWithin(10000) == STATUS_SUCCESS && RanAt == PASSIVE_LEVEL);
    Delete(Device);
    return STATUS_SUCCESS;
}

BEHAVIOUR(what_is_serialized_runs_at_the_level_of_its_parent) {
    WDFDEVICE Any, Passive, Free;
    WDFTIMER Timer;
    WDFWORKITEM Item;
    UNREFERENCED_PARAMETER(Call);
    KeInitializeEvent(&Ran, SynchronizationEvent, FALSE);
    CHECK(NT_SUCCESS(NewDevice(WdfExecutionLevelDispatch, WdfSynchronizationScopeDevice, NULL, &Any)));
    CHECK(NT_SUCCESS(NewDevice(WdfExecutionLevelPassive, WdfSynchronizationScopeDevice, NULL, &Passive)));
    CHECK(NT_SUCCESS(NewDevice(WdfExecutionLevelPassive, WdfSynchronizationScopeNone, NULL, &Free)));
    CHECK(NewTimer(Passive, WdfExecutionLevelInheritFromParent, &Timer) == STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL);
    CHECK(NewWorkItem(Any, &Item) == STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL);
    CHECK(NT_SUCCESS(NewTimer(Free, WdfExecutionLevelInheritFromParent, &Timer)));
    CHECK(NT_SUCCESS(NewTimer(Any, WdfExecutionLevelInheritFromParent, &Timer)));
    WDF(WdfTimerStart, WDFTIMERSTART, Timer, -10000);
    CHECK(RanWithin(10000) == STATUS_SUCCESS && RanAt == DISPATCH_LEVEL);
    Delete(Any);
    Delete(Passive);
    Delete(Free);
    return STATUS_SUCCESS;
}

static VOID NTAPI EvtNothing(WDFQUEUE Queue, WDFREQUEST Request) {
    UNREFERENCED_PARAMETER(Queue);
    Complete(Request, STATUS_SUCCESS, 0);
}

BEHAVIOUR(a_queue_that_shares_the_lock_has_the_level_of_its_device) {
    WDF_IO_QUEUE_CONFIG Config = {.Size = sizeof(Config), .PowerManaged = WdfFalse, .EvtIoDefault = EvtNothing,
        .DispatchType = WdfIoQueueDispatchSequential};
    WDF_OBJECT_ATTRIBUTES Attributes = Constrained(WdfExecutionLevelPassive, WdfSynchronizationScopeDevice, NULL);
    WDFDEVICE Device;
    WDFQUEUE Queue;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(NewDevice(WdfExecutionLevelDispatch, WdfSynchronizationScopeNone, NULL, &Device)));
    CHECK(WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Device, &Config, &Attributes, &Queue) == STATUS_INVALID_PARAMETER);
    Attributes.ExecutionLevel = WdfExecutionLevelInheritFromParent;
    CHECK(NT_SUCCESS(WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Device, &Config, &Attributes, &Queue)));
    Delete(Device);
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_lookaside_list_makes_memory_objects) {
    WDFLOOKASIDE List = NULL;
    WDFMEMORY First, Second;
    size_t Size;
    PVOID Buffer;
    UNREFERENCED_PARAMETER(Call);
    CHECK(WDF(WdfLookasideListCreate, WDFLOOKASIDELISTCREATE, NULL, 0, NonPagedPoolNx, NULL, 'tseT', &List) == STATUS_INVALID_PARAMETER);
    CHECK(NT_SUCCESS(WDF(WdfLookasideListCreate, WDFLOOKASIDELISTCREATE, NULL, 100, NonPagedPoolNx, NULL, 'tseT', &List)));
    CHECK(NT_SUCCESS(WDF(WdfMemoryCreateFromLookaside, WDFMEMORYCREATEFROMLOOKASIDE, List, &First)));
    CHECK(NT_SUCCESS(WDF(WdfMemoryCreateFromLookaside, WDFMEMORYCREATEFROMLOOKASIDE, List, &Second)));
    Buffer = WDF(WdfMemoryGetBuffer, WDFMEMORYGETBUFFER, First, &Size);
    CHECK(Size == 100 && Buffer != WDF(WdfMemoryGetBuffer, WDFMEMORYGETBUFFER, Second, NULL));
    RtlFillMemory(Buffer, Size, 7);
    Delete(First);
    Delete(Second);
    Delete(List);
    return STATUS_SUCCESS;
}

static const UNICODE_STRING Number = RTL_CONSTANT_STRING(L"Number"), Name = RTL_CONSTANT_STRING(L"Name"),
                            Names = RTL_CONSTANT_STRING(L"Names"), Bytes = RTL_CONSTANT_STRING(L"Bytes"),
                            Missing = RTL_CONSTANT_STRING(L"Missing");

BEHAVIOUR(registry_values_are_read_as_they_were_written) {
    static const UNICODE_STRING Below = RTL_CONSTANT_STRING(L"Below"), Text = RTL_CONSTANT_STRING(L"echo.san");
    WCHAR Units[16];
    UNICODE_STRING Value = {.Buffer = Units, .MaximumLength = sizeof(Units)};
    WDFSTRING String;
    WDFCOLLECTION Strings;
    WDFMEMORY Memory;
    WDFKEY Key, Child;
    ULONG Read = 0, Type = 0, Created = 0;
    USHORT Length = 0;
    size_t Size;
    UCHAR Buffer[4];
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(WDF(WdfDriverOpenParametersRegistryKey, WDFDRIVEROPENPARAMETERSREGISTRYKEY, Driver, KEY_ALL_ACCESS, NULL, &Key)));
    CHECK(WDF(WdfRegistryOpenKey, WDFREGISTRYOPENKEY, Key, &Below, KEY_READ, NULL, &Child) == STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(NT_SUCCESS(WDF(WdfRegistryCreateKey, WDFREGISTRYCREATEKEY, Key, &Below, KEY_ALL_ACCESS, REG_OPTION_NON_VOLATILE, &Created, NULL, &Child)));
    CHECK(Created == REG_CREATED_NEW_KEY);
    CHECK(NT_SUCCESS(WDF(WdfRegistryAssignULong, WDFREGISTRYASSIGNULONG, Child, &Number, 5000)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryQueryULong, WDFREGISTRYQUERYULONG, Child, &Number, &Read)) && Read == 5000);
    CHECK(NT_SUCCESS(WDF(WdfRegistryAssignUnicodeString, WDFREGISTRYASSIGNUNICODESTRING, Child, &Name, &Text)));
    CHECK(WDF(WdfRegistryQueryULong, WDFREGISTRYQUERYULONG, Child, &Name, &Read) == STATUS_OBJECT_TYPE_MISMATCH);
    CHECK(NT_SUCCESS(WDF(WdfRegistryQueryUnicodeString, WDFREGISTRYQUERYUNICODESTRING, Child, &Name, &Length, &Value)));
    CHECK(Length == 18 && RtlEqualUnicodeString(&Value, &Text, FALSE));
    Value.MaximumLength = 8;
    CHECK(WDF(WdfRegistryQueryUnicodeString, WDFREGISTRYQUERYUNICODESTRING, Child, &Name, &Length, &Value) == STATUS_INVALID_PARAMETER);
    Value.Length = 0;
    CHECK(WDF(WdfRegistryQueryUnicodeString, WDFREGISTRYQUERYUNICODESTRING, Child, &Name, &Length, &Value) == STATUS_BUFFER_OVERFLOW && Length == 18);
    CHECK(WDF(WdfRegistryQueryUnicodeString, WDFREGISTRYQUERYUNICODESTRING, Child, &Number, NULL, NULL) == STATUS_BUFFER_OVERFLOW);
    CHECK(NT_SUCCESS(WDF(WdfStringCreate, WDFSTRINGCREATE, NULL, NULL, &String)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryQueryString, WDFREGISTRYQUERYSTRING, Child, &Name, String)));
    WDF(WdfStringGetUnicodeString, WDFSTRINGGETUNICODESTRING, String, &Value);
    CHECK(RtlEqualUnicodeString(&Value, &Text, FALSE));
    CHECK(NT_SUCCESS(WDF(WdfCollectionCreate, WDFCOLLECTIONCREATE, NULL, &Strings)));
    CHECK(NT_SUCCESS(WDF(WdfCollectionAdd, WDFCOLLECTIONADD, Strings, String)));
    CHECK(NT_SUCCESS(WDF(WdfCollectionAdd, WDFCOLLECTIONADD, Strings, String)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryAssignMultiString, WDFREGISTRYASSIGNMULTISTRING, Child, &Names, Strings)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryAssignString, WDFREGISTRYASSIGNSTRING, Child, &Name, String)));
    Delete(Strings);
    CHECK(NT_SUCCESS(WDF(WdfCollectionCreate, WDFCOLLECTIONCREATE, NULL, &Strings)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryQueryMultiString, WDFREGISTRYQUERYMULTISTRING, Child, &Names, NULL, Strings)));
    CHECK(WDF(WdfCollectionGetCount, WDFCOLLECTIONGETCOUNT, Strings) == 2);
    while (WDF(WdfCollectionGetCount, WDFCOLLECTIONGETCOUNT, Strings) != 0) {
        WDFOBJECT Item = WDF(WdfCollectionGetFirstItem, WDFCOLLECTIONGETFIRSTITEM, Strings);
        WDF(WdfCollectionRemoveItem, WDFCOLLECTIONREMOVEITEM, Strings, 0);
        Delete(Item);
    }
    CHECK(NT_SUCCESS(WDF(WdfRegistryAssignValue, WDFREGISTRYASSIGNVALUE, Child, &Bytes, REG_BINARY, 3, "abc")));
    CHECK(NT_SUCCESS(WDF(WdfRegistryQueryValue, WDFREGISTRYQUERYVALUE, Child, &Bytes, sizeof(Buffer), Buffer, &Read, &Type)));
    CHECK(Read == 3 && Type == REG_BINARY && Buffer[2] == 'c');
    CHECK(WDF(WdfRegistryQueryValue, WDFREGISTRYQUERYVALUE, Child, &Bytes, 2, Buffer, &Read, NULL) == STATUS_BUFFER_OVERFLOW && Read == 3);
    CHECK(NT_SUCCESS(WDF(WdfRegistryQueryMemory, WDFREGISTRYQUERYMEMORY, Child, &Bytes, PagedPool, NULL, &Memory, &Type)));
    CHECK(*(char *)WDF(WdfMemoryGetBuffer, WDFMEMORYGETBUFFER, Memory, &Size) == 'a' && Size == 3);
    CHECK(NT_SUCCESS(WDF(WdfRegistryAssignMemory, WDFREGISTRYASSIGNMEMORY, Child, &Missing, REG_BINARY, Memory, NULL)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryRemoveValue, WDFREGISTRYREMOVEVALUE, Child, &Missing)));
    CHECK(WDF(WdfRegistryQueryULong, WDFREGISTRYQUERYULONG, Child, &Missing, &Read) == STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(WDF(WdfRegistryWdmGetHandle, WDFREGISTRYWDMGETHANDLE, Child) != NULL);
    CHECK(NT_SUCCESS(WDF(WdfRegistryRemoveKey, WDFREGISTRYREMOVEKEY, Child)));
    CHECK(WDF(WdfRegistryOpenKey, WDFREGISTRYOPENKEY, Key, &Below, KEY_READ, NULL, &Child) == STATUS_OBJECT_NAME_NOT_FOUND);
    WDF(WdfRegistryClose, WDFREGISTRYCLOSE, Key);
    Delete(Memory);
    Delete(Strings);
    Delete(String);
    return STATUS_SUCCESS;
}

/* What the device that serializes its callbacks is asked for, by the code of the request: */
enum {
    PAUSE = 1,   /* completes after a moment with 1 if nothing else ran meanwhile */
    FORWARD = 2, /* goes to the other queue, and completes there with 1 if nothing else ran meanwhile */
    PARK = 3,    /* goes to the manual queue */
    FIND = 4,    /* completes the parked request whose input is as long as its own; Information: how many it has looked at */
    TWICE = 5,  /* completes with twice each byte of its input */
};

#define CODE(Function) CTL_CODE(FILE_DEVICE_UNKNOWN, Function, METHOD_BUFFERED, FILE_ANY_ACCESS)

/* A target that is open on that device. */
static NTSTATUS OpenTarget(WDFDEVICE Device, WDFIOTARGET *Target) {
    WDF_IO_TARGET_OPEN_PARAMS Parameters = {.Size = sizeof(Parameters), .Type = WdfIoTargetOpenByName,
        .DesiredAccess = GENERIC_READ | GENERIC_WRITE, .CreateDisposition = FILE_OPEN,
        .CreateOptions = FILE_NON_DIRECTORY_FILE};
    NTSTATUS Status;
    RtlInitUnicodeString(&Parameters.TargetDeviceName, L"\\DosDevices\\Serialized");
    Status = WDF(WdfIoTargetCreate, WDFIOTARGETCREATE, Device, NULL, Target);
    if (!NT_SUCCESS(Status))
        return Status;
    return WDF(WdfIoTargetOpen, WDFIOTARGETOPEN, *Target, &Parameters);
}

static WDF_MEMORY_DESCRIPTOR Described(PVOID Buffer, ULONG Length) {
    WDF_MEMORY_DESCRIPTOR Descriptor = {.Type = WdfMemoryDescriptorTypeBuffer};
    Descriptor.u.BufferType.Buffer = Buffer;
    Descriptor.u.BufferType.Length = Length;
    return Descriptor;
}

BEHAVIOUR(a_target_is_asked_and_answers) {
    UCHAR Bytes[3] = {1, 2, 3}, Twice[3] = {0};
    WDF_MEMORY_DESCRIPTOR Input = Described(Bytes, 3), Output = Described(Twice, 3);
    WDF_REQUEST_SEND_OPTIONS Options = {.Size = sizeof(Options), .Flags = WDF_REQUEST_SEND_OPTION_TIMEOUT, .Timeout = -200000};
    WDFIOTARGET Target;
    ULONG_PTR Returned = 0;
    CHECK(NT_SUCCESS(OpenTarget(Call->Device, &Target)));
    CHECK(WDF(WdfIoTargetGetState, WDFIOTARGETGETSTATE, Target) == WdfIoTargetStarted);
    CHECK(WDF(WdfIoTargetGetDevice, WDFIOTARGETGETDEVICE, Target) == Call->Device);
    CHECK(NT_SUCCESS(WDF(WdfIoTargetSendIoctlSynchronously, WDFIOTARGETSENDIOCTLSYNCHRONOUSLY, Target, NULL, CODE(TWICE), &Input, &Output, NULL, &Returned)));
    CHECK(Returned == 3 && Twice[0] == 2 && Twice[2] == 6);
    CHECK(WDF(WdfIoTargetSendIoctlSynchronously, WDFIOTARGETSENDIOCTLSYNCHRONOUSLY, Target, NULL, CODE(PARK), NULL, NULL, &Options, NULL) == STATUS_IO_TIMEOUT);
    CHECK(WDF(WdfIoTargetSendReadSynchronously, WDFIOTARGETSENDREADSYNCHRONOUSLY, Target, NULL, &Output, NULL, NULL, NULL) == STATUS_INVALID_DEVICE_REQUEST);
    WDF(WdfIoTargetClose, WDFIOTARGETCLOSE, Target);
    CHECK(WDF(WdfIoTargetGetState, WDFIOTARGETGETSTATE, Target) == WdfIoTargetClosed);
    CHECK(WDF(WdfIoTargetSendIoctlSynchronously, WDFIOTARGETSENDIOCTLSYNCHRONOUSLY, Target, NULL, CODE(TWICE), &Input, &Output, NULL, NULL) == STATUS_INVALID_DEVICE_STATE);
    Delete(Target);
    return STATUS_SUCCESS;
}

static NTSTATUS CameWith;
static ULONG_PTR CameBytes;

static VOID NTAPI EvtCompleted(WDFREQUEST Request, WDFIOTARGET Target, PWDF_REQUEST_COMPLETION_PARAMS Parameters, WDFCONTEXT Context) {
    UNREFERENCED_PARAMETER(Request);
    UNREFERENCED_PARAMETER(Target);
    CameWith = Parameters->IoStatus.Status;
    CameBytes = Parameters->IoStatus.Information;
    KeSetEvent((PKEVENT)Context, IO_NO_INCREMENT, FALSE);
}

/* Formats the request for a control with the memory object as input and output, and sends it. */
static NTSTATUS SendControl(WDFREQUEST Request, WDFIOTARGET Target, ULONG Code, WDFMEMORY Memory) {
    NTSTATUS Status = WDF(WdfIoTargetFormatRequestForIoctl, WDFIOTARGETFORMATREQUESTFORIOCTL, Target, Request, Code, Memory, NULL, Memory, NULL);
    if (!NT_SUCCESS(Status))
        return Status;
    WDF(WdfRequestSetCompletionRoutine, WDFREQUESTSETCOMPLETIONROUTINE, Request, EvtCompleted, &Ran);
    if (WDF(WdfRequestSend, WDFREQUESTSEND, Request, Target, NULL))
        return STATUS_SUCCESS;
    return WDF(WdfRequestGetStatus, WDFREQUESTGETSTATUS, Request);
}

static VOID Reuse(WDFREQUEST Request) {
    WDF_REQUEST_REUSE_PARAMS Parameters = {.Size = sizeof(Parameters), .Status = STATUS_NOT_SUPPORTED};
    WDF(WdfRequestReuse, WDFREQUESTREUSE, Request, &Parameters);
}

BEHAVIOUR(a_request_of_the_drivers_own_comes_back_and_is_used_again) {
    WDFIOTARGET Target;
    WDFREQUEST Request;
    WDFMEMORY Memory;
    PUCHAR Bytes;
    KeInitializeEvent(&Ran, SynchronizationEvent, FALSE);
    CHECK(NT_SUCCESS(OpenTarget(Call->Device, &Target)));
    CHECK(NT_SUCCESS(WDF(WdfRequestCreate, WDFREQUESTCREATE, NULL, Target, &Request)));
    CHECK(NT_SUCCESS(WDF(WdfMemoryCreate, WDFMEMORYCREATE, NULL, NonPagedPoolNx, 'tseT', 4, &Memory, (PVOID *)&Bytes)));
    RtlFillMemory(Bytes, 4, 5);
    CHECK(NT_SUCCESS(SendControl(Request, Target, CODE(TWICE), Memory)));
    CHECK(RanWithin(10000) == STATUS_SUCCESS && CameWith == STATUS_SUCCESS && CameBytes == 4 && Bytes[3] == 10);
    Reuse(Request);
    CHECK(NT_SUCCESS(SendControl(Request, Target, CODE(PARK), Memory)));
    CHECK(RanWithin(20) == STATUS_TIMEOUT);
    CHECK(WDF(WdfRequestCancelSentRequest, WDFREQUESTCANCELSENTREQUEST, Request));
    CHECK(RanWithin(10000) == STATUS_SUCCESS && CameWith == STATUS_CANCELLED);
    CHECK(!WDF(WdfRequestCancelSentRequest, WDFREQUESTCANCELSENTREQUEST, Request));
    Reuse(Request);
    WDF(WdfIoTargetStop, WDFIOTARGETSTOP, Target, WdfIoTargetWaitForSentIoToComplete);
    CHECK(NT_SUCCESS(SendControl(Request, Target, CODE(TWICE), Memory)) && RanWithin(20) == STATUS_TIMEOUT);
    CHECK(NT_SUCCESS(WDF(WdfIoTargetStart, WDFIOTARGETSTART, Target)));
    CHECK(RanWithin(10000) == STATUS_SUCCESS && CameWith == STATUS_SUCCESS && Bytes[0] == 20);
    Reuse(Request);
    WDF(WdfIoTargetPurge, WDFIOTARGETPURGE, Target, WdfIoTargetPurgeIoAndWait);
    CHECK(SendControl(Request, Target, CODE(TWICE), Memory) == STATUS_INVALID_DEVICE_STATE);
    Delete(Request);
    Delete(Memory);
    Delete(Target);
    return STATUS_SUCCESS;
}

typedef struct {
    const char *Name;
    NTSTATUS (*Act)(CALL *Call);
} ROW;

#define ROW_OF(Name) {#Name, Name}

static const ROW Rows[] = {
    ROW_OF(a_presentation_lock_is_a_spin_lock_or_a_mutex),
    ROW_OF(lock_an_object_without_a_lock),
    ROW_OF(a_work_item_waits_for_the_lock_of_its_device),
    ROW_OF(a_passive_timer_waits_for_the_lock_of_its_device),
    ROW_OF(what_is_serialized_runs_at_the_level_of_its_parent),
    ROW_OF(a_queue_that_shares_the_lock_has_the_level_of_its_device),
    ROW_OF(a_target_is_asked_and_answers),
    ROW_OF(a_request_of_the_drivers_own_comes_back_and_is_used_again),
    ROW_OF(a_lookaside_list_makes_memory_objects),
    ROW_OF(registry_values_are_read_as_they_were_written),
    {NULL, NULL},
};

static BOOLEAN SameName(const char *Left, const char *Right) {
    while (*Left != 0 && *Left == *Right)
        Left++, Right++;
    return *Left == *Right;
}

/* The input: whether to commit the fault, and the behaviour's name with its final zero. */
IN_BACKTRACES static VOID NTAPI EvtIoDeviceControl(WDFQUEUE Queue, WDFREQUEST Request, size_t Output, size_t Input, ULONG Code) {
    CALL Call = {.Queue = Queue, .Request = Request};
    const ROW *Row = Rows;
    const char *Name;
    NTSTATUS Status = STATUS_NOT_IMPLEMENTED;
    UNREFERENCED_PARAMETER(Output);
    UNREFERENCED_PARAMETER(Input);
    UNREFERENCED_PARAMETER(Code);
    Call.Device = WDF(WdfIoQueueGetDevice, WDFIOQUEUEGETDEVICE, Queue);
    WDF(WdfRequestRetrieveInputBuffer, WDFREQUESTRETRIEVEINPUTBUFFER, Request, 2, (PVOID *)&Name, NULL);
    Call.Wrong = Name[0] != 0;
    while (Row->Name != NULL && !SameName(Row->Name, Name + 1))
        Row++;
    if (Row->Name != NULL)
        Status = Row->Act(&Call);
    if (Call.Request != NULL)
        Complete(Call.Request, Status, 0);
}

static WDFQUEUE Other, Parked;
static volatile LONG Inside;

/* Whether the callback was alone while it took its time. */
static BOOLEAN IsAlone(VOID) {
    BOOLEAN Alone = InterlockedIncrement(&Inside) == 1;
    ULONG Turn;
    for (Turn = 0; Turn < 2000; Turn++)
        __builtin_ia32_pause();
    Alone = Alone && Inside == 1 && KeGetCurrentIrql() == DISPATCH_LEVEL;
    InterlockedDecrement(&Inside);
    return Alone;
}

static VOID NTAPI EvtOther(WDFQUEUE Queue, WDFREQUEST Request) {
    UNREFERENCED_PARAMETER(Queue);
    Complete(Request, STATUS_SUCCESS, IsAlone());
}

/* Looks through the parked requests as the documentation shows it. */
static ULONG_PTR Find(size_t Length) {
    WDF_REQUEST_PARAMETERS Parameters = {.Size = sizeof(Parameters)};
    WDFREQUEST Previous = NULL, Tag = NULL, Found = NULL;
    ULONG_PTR Seen = 0;
    NTSTATUS Status;
    do {
        Status = WDF(WdfIoQueueFindRequest, WDFIOQUEUEFINDREQUEST, Parked, Previous, NULL, &Parameters, &Tag);
        if (Previous != NULL)
            WDF(WdfObjectDereferenceActual, WDFOBJECTDEREFERENCEACTUAL, Previous, NULL, __LINE__, __FILE__);
        if (!NT_SUCCESS(Status))
            return Seen;
        Seen++;
        Previous = Tag;
    } while (Parameters.Parameters.DeviceIoControl.InputBufferLength != Length);
    Status = WDF(WdfIoQueueRetrieveFoundRequest, WDFIOQUEUERETRIEVEFOUNDREQUEST, Parked, Tag, &Found);
    WDF(WdfObjectDereferenceActual, WDFOBJECTDEREFERENCEACTUAL, Tag, NULL, __LINE__, __FILE__);
    if (NT_SUCCESS(Status))
        Complete(Found, STATUS_SUCCESS, 0);
    return Seen;
}

/* The output buffer is the input buffer. */
static VOID TwiceEach(WDFREQUEST Request, size_t Length) {
    PUCHAR Bytes;
    size_t Index;
    NTSTATUS Status = WDF(WdfRequestRetrieveOutputBuffer, WDFREQUESTRETRIEVEOUTPUTBUFFER, Request, Length, (PVOID *)&Bytes, NULL);
    for (Index = 0; NT_SUCCESS(Status) && Index < Length; Index++)
        Bytes[Index] *= 2;
    Complete(Request, Status, NT_SUCCESS(Status) ? Length : 0);
}

static VOID NTAPI EvtSerialized(WDFQUEUE Queue, WDFREQUEST Request, size_t Output, size_t Input, ULONG Code) {
    NTSTATUS Status = STATUS_SUCCESS;
    UNREFERENCED_PARAMETER(Queue);
    UNREFERENCED_PARAMETER(Output);
    switch (Code >> 2 & 0xFFF) {
    case PAUSE:
        Complete(Request, STATUS_SUCCESS, IsAlone());
        return;
    case FORWARD:
        InterlockedIncrement(&Inside);
        Status = WDF(WdfRequestForwardToIoQueue, WDFREQUESTFORWARDTOIOQUEUE, Request, Other);
        InterlockedDecrement(&Inside);
        break;
    case PARK:
        Status = WDF(WdfRequestForwardToIoQueue, WDFREQUESTFORWARDTOIOQUEUE, Request, Parked);
        break;
    case FIND:
        Complete(Request, STATUS_SUCCESS, Find(Input));
        return;
    case TWICE:
        TwiceEach(Request, Input);
        return;
    }
    if (!NT_SUCCESS(Status))
        Complete(Request, Status, 0);
}

static NTSTATUS NewSerializedDevice(VOID) {
    WDF_IO_QUEUE_CONFIG Default = {.Size = sizeof(Default), .PowerManaged = WdfFalse, .DefaultQueue = TRUE,
        .DispatchType = WdfIoQueueDispatchParallel, .EvtIoDeviceControl = EvtSerialized};
    WDF_IO_QUEUE_CONFIG Second = {.Size = sizeof(Second), .PowerManaged = WdfFalse,
        .DispatchType = WdfIoQueueDispatchSequential, .EvtIoDefault = EvtOther};
    WDF_IO_QUEUE_CONFIG Manual = {.Size = sizeof(Manual), .PowerManaged = WdfFalse, .DispatchType = WdfIoQueueDispatchManual};
    UNICODE_STRING Link = RTL_CONSTANT_STRING(L"\\DosDevices\\Serialized");
    WDFDEVICE Device;
    NTSTATUS Status = NewDevice(WdfExecutionLevelDispatch, WdfSynchronizationScopeDevice, L"\\Device\\Serialized", &Device);
    if (!NT_SUCCESS(Status))
        return Status;
    WDF(WdfDeviceCreateSymbolicLink, WDFDEVICECREATESYMBOLICLINK, Device, &Link);
    Default.Settings.Parallel.NumberOfPresentedRequests = (ULONG)-1;
    Status = WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Device, &Default, NULL, NULL);
    if (NT_SUCCESS(Status))
        Status = WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Device, &Second, NULL, &Other);
    if (NT_SUCCESS(Status))
        Status = WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Device, &Manual, NULL, &Parked);
    WDF(WdfControlFinishInitializing, WDFCONTROLFINISHINITIALIZING, Device);
    return Status;
}

static VOID NTAPI EvtDriverUnload(WDFDRIVER Driver_) { UNREFERENCED_PARAMETER(Driver_); }

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    WDF_DRIVER_CONFIG Config = {
        .Size = sizeof(Config), .EvtDriverUnload = EvtDriverUnload, .DriverInitFlags = WdfDriverInitNonPnpDriver};
    WDF_IO_QUEUE_CONFIG Default = {.Size = sizeof(Default), .PowerManaged = WdfFalse, .DefaultQueue = TRUE,
        .DispatchType = WdfIoQueueDispatchParallel, .EvtIoDeviceControl = EvtIoDeviceControl};
    UNICODE_STRING Link = RTL_CONSTANT_STRING(L"\\DosDevices\\Verifier");
    WDFDEVICE Device;
    NTSTATUS Status = WDF(WdfDriverCreate, WDFDRIVERCREATE, DriverObject, RegistryPath, NULL, &Config, &Driver);
    if (!NT_SUCCESS(Status))
        return Status;
    Status = NewDevice(WdfExecutionLevelPassive, WdfSynchronizationScopeNone, L"\\Device\\Verifier", &Device);
    if (!NT_SUCCESS(Status))
        return Status;
    WDF(WdfDeviceCreateSymbolicLink, WDFDEVICECREATESYMBOLICLINK, Device, &Link);
    Default.Settings.Parallel.NumberOfPresentedRequests = (ULONG)-1;
    Status = WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Device, &Default, NULL, NULL);
    WDF(WdfControlFinishInitializing, WDFCONTROLFINISHINITIALIZING, Device);
    return NT_SUCCESS(Status) ? NewSerializedDevice() : Status;
}
