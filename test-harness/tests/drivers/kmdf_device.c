/* A driver of Plug and Play on the framework each of whose behaviours uses what the framework knows of its device: properties, registry
 * keys, name, state and capabilities, interfaces that drivers give each other, and packets that the driver sees first. */
#include <ntifs.h>
#include <ntddk.h>
#include <wdf.h>

#include "kmdf_power.h"

/* wdfstatus.h. */
#define STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED ((NTSTATUS)0xC020020FL)

C_ASSERT(sizeof(INTERFACE) == 32);

#define WDF(Name, Type, ...) (((PFN_##Type)WdfFunctions[Name##TableIndex])(WdfDriverGlobals, ##__VA_ARGS__))

/* Which check failed, by its line, in a status that is an error. */
#define CHECK(Condition)                                                                                               \
    if (!(Condition))                                                                                                  \
    return (NTSTATUS)(0xE0000000 | __LINE__)

#define BEHAVIOUR(Name) static NTSTATUS Name(VOID)

static WDFDRIVER Driver;
static WDFDEVICE Device, Control;
static WDFQUEUE Chosen;
static UNICODE_STRING Sddl = RTL_CONSTANT_STRING(L"D:P(A;;GA;;;SY)(A;;GA;;;BA)");

static VOID Complete(WDFREQUEST Request, NTSTATUS Status, ULONG_PTR Information) {
    WDF(WdfRequestCompleteWithInformation, WDFREQUESTCOMPLETEWITHINFORMATION, Request, Status, Information);
}

static VOID Delete(WDFOBJECT Object) { WDF(WdfObjectDelete, WDFOBJECTDELETE, Object); }

static BOOLEAN SameText(PCWSTR Left, PCWSTR Right) {
    while (*Left != 0 && *Left == *Right)
        Left++, Right++;
    return *Left == *Right;
}

/* The text that a memory object holds; the object goes. */
static BOOLEAN Holds(WDFMEMORY Memory, PCWSTR Text) {
    size_t Size;
    PVOID Bytes = WDF(WdfMemoryGetBuffer, WDFMEMORYGETBUFFER, Memory, &Size);
    BOOLEAN Same = Size >= sizeof(WCHAR) && SameText(Bytes, Text);
    Delete(Memory);
    return Same;
}

/* Properties. */

/* DEVPKEY_Device_EnumeratorName, and one of the driver's own. */
static const DEVPROPKEY EnumeratorName = {
    {0xa45c254e, 0xdf1c, 0x4efd, {0x80, 0x20, 0x67, 0xd1, 0x46, 0xa8, 0x50, 0xe0}}, 24};
static const DEVPROPKEY Own = {{0x3c1f6d52, 0x7a0e, 0x4b11, {0x8d, 0x5f, 0x21, 0x5c, 0x9a, 0x30, 0x4e, 0x77}}, 2};

static WDF_DEVICE_PROPERTY_DATA Property(const DEVPROPKEY *Key) {
    WDF_DEVICE_PROPERTY_DATA Data = {.Size = sizeof(Data), .PropertyKey = Key};
    return Data;
}

BEHAVIOUR(properties_are_those_of_the_pdo) {
    WCHAR Text[16] = {0};
    ULONG Length = 0;
    WDFMEMORY Memory;
    CHECK(WDF(WdfDeviceQueryProperty, WDFDEVICEQUERYPROPERTY, Device, DevicePropertyEnumeratorName, 0, NULL, &Length) ==
        STATUS_BUFFER_TOO_SMALL);
    CHECK(Length == sizeof(L"ROOT"));
    CHECK(NT_SUCCESS(WDF(WdfDeviceQueryProperty, WDFDEVICEQUERYPROPERTY, Device, DevicePropertyEnumeratorName, sizeof(Text),
        Text, &Length)));
    CHECK(Length == sizeof(L"ROOT") && SameText(Text, L"ROOT"));
    CHECK(NT_SUCCESS(WDF(WdfDeviceAllocAndQueryProperty, WDFDEVICEALLOCANDQUERYPROPERTY, Device, DevicePropertyEnumeratorName,
        NonPagedPoolNx, NULL, &Memory)));
    CHECK(Holds(Memory, L"ROOT"));
    CHECK(WDF(WdfDeviceAllocAndQueryProperty, WDFDEVICEALLOCANDQUERYPROPERTY, Device, DevicePropertyContainerID,
              NonPagedPoolNx, NULL, &Memory) == STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(Memory == NULL);
    CHECK(WDF(WdfDeviceQueryProperty, WDFDEVICEQUERYPROPERTY, Control, DevicePropertyEnumeratorName, sizeof(Text), Text,
              &Length) == STATUS_INVALID_DEVICE_REQUEST);
    CHECK(WDF(WdfDeviceAllocAndQueryProperty, WDFDEVICEALLOCANDQUERYPROPERTY, Control, DevicePropertyEnumeratorName,
              NonPagedPoolNx, NULL, &Memory) == STATUS_INVALID_DEVICE_REQUEST);
    return STATUS_SUCCESS;
}

BEHAVIOUR(properties_of_the_unified_model_have_types_and_are_assigned) {
    WDF_DEVICE_PROPERTY_DATA Data = Property(&EnumeratorName), Assigned = Property(&Own);
    WCHAR Text[16];
    ULONG Length = 1, Value = 0x5A5A, Read = 0;
    DEVPROPTYPE Type = 1;
    WDFMEMORY Memory;
    CHECK(WDF(WdfDeviceQueryPropertyEx, WDFDEVICEQUERYPROPERTYEX, Device, &Data, 0, NULL, &Length, &Type) ==
        STATUS_BUFFER_TOO_SMALL);
    CHECK(Length == sizeof(L"ROOT") && Type == DEVPROP_TYPE_STRING);
    CHECK(NT_SUCCESS(
        WDF(WdfDeviceQueryPropertyEx, WDFDEVICEQUERYPROPERTYEX, Device, &Data, sizeof(Text), Text, &Length, &Type)));
    CHECK(SameText(Text, L"ROOT"));
    CHECK(WDF(WdfDeviceQueryPropertyEx, WDFDEVICEQUERYPROPERTYEX, Device, &Data, 0, Text, &Length, &Type) ==
        STATUS_INVALID_PARAMETER);
    CHECK(WDF(WdfDeviceQueryPropertyEx, WDFDEVICEQUERYPROPERTYEX, Device, &Data, 2, NULL, &Length, &Type) ==
        STATUS_INVALID_PARAMETER);
    CHECK(WDF(WdfDeviceQueryPropertyEx, WDFDEVICEQUERYPROPERTYEX, Device, &Assigned, sizeof(Text), Text, &Length, &Type) ==
        STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(Length == 0 && Type == 0);
    CHECK(NT_SUCCESS(WDF(WdfDeviceAssignProperty, WDFDEVICEASSIGNPROPERTY, Device, &Assigned, DEVPROP_TYPE_UINT32,
        sizeof(Value), &Value)));
    CHECK(NT_SUCCESS(
        WDF(WdfDeviceQueryPropertyEx, WDFDEVICEQUERYPROPERTYEX, Device, &Assigned, sizeof(Read), &Read, &Length, &Type)));
    CHECK(Length == sizeof(Value) && Type == DEVPROP_TYPE_UINT32 && Read == Value);
    CHECK(NT_SUCCESS(WDF(WdfDeviceAllocAndQueryPropertyEx, WDFDEVICEALLOCANDQUERYPROPERTYEX, Device, &Assigned,
        NonPagedPoolNx, NULL, &Memory, &Type)));
    CHECK(*(PULONG)WDF(WdfMemoryGetBuffer, WDFMEMORYGETBUFFER, Memory, NULL) == Value);
    Delete(Memory);
    /* No data: it goes. */
    CHECK(NT_SUCCESS(
        WDF(WdfDeviceAssignProperty, WDFDEVICEASSIGNPROPERTY, Device, &Assigned, DEVPROP_TYPE_UINT32, 0, NULL)));
    CHECK(WDF(WdfDeviceAllocAndQueryPropertyEx, WDFDEVICEALLOCANDQUERYPROPERTYEX, Device, &Assigned, NonPagedPoolNx, NULL,
              &Memory, &Type) == STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(Memory == NULL);
    CHECK(WDF(WdfDeviceAssignProperty, WDFDEVICEASSIGNPROPERTY, Device, &Assigned, DEVPROP_TYPE_UINT32, 0, &Value) ==
        STATUS_INVALID_PARAMETER);
    CHECK(WDF(WdfDeviceAssignProperty, WDFDEVICEASSIGNPROPERTY, Control, &Assigned, DEVPROP_TYPE_UINT32, sizeof(Value),
              &Value) == STATUS_INVALID_DEVICE_STATE);
    Data.Size--;
    CHECK(WDF(WdfDeviceQueryPropertyEx, WDFDEVICEQUERYPROPERTYEX, Device, &Data, sizeof(Text), Text, &Length, &Type) ==
        STATUS_INFO_LENGTH_MISMATCH);
    CHECK(WDF(WdfDeviceAssignProperty, WDFDEVICEASSIGNPROPERTY, Device, &Data, DEVPROP_TYPE_UINT32, sizeof(Value), &Value) ==
        STATUS_INFO_LENGTH_MISMATCH);
    return STATUS_SUCCESS;
}

/* What EvtDriverDeviceAdd found before it made the device. */
static NTSTATUS Before;

static NTSTATUS AskBefore(PWDFDEVICE_INIT Init) {
    WDF_DEVICE_PROPERTY_DATA Data = Property(&EnumeratorName);
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"Before");
    PWDFDEVICE_INIT OfControl;
    WCHAR Text[16];
    ULONG Length;
    DEVPROPTYPE Type;
    WDFMEMORY Memory;
    WDFKEY Key;
    CHECK(NT_SUCCESS(WDF(WdfFdoInitQueryProperty, WDFFDOINITQUERYPROPERTY, Init, DevicePropertyEnumeratorName, sizeof(Text),
        Text, &Length)));
    CHECK(SameText(Text, L"ROOT"));
    CHECK(NT_SUCCESS(WDF(WdfFdoInitAllocAndQueryProperty, WDFFDOINITALLOCANDQUERYPROPERTY, Init,
        DevicePropertyEnumeratorName, NonPagedPoolNx, NULL, &Memory)));
    CHECK(Holds(Memory, L"ROOT"));
    CHECK(NT_SUCCESS(
        WDF(WdfFdoInitQueryPropertyEx, WDFFDOINITQUERYPROPERTYEX, Init, &Data, sizeof(Text), Text, &Length, &Type)));
    CHECK(SameText(Text, L"ROOT") && Type == DEVPROP_TYPE_STRING);
    CHECK(NT_SUCCESS(WDF(WdfFdoInitAllocAndQueryPropertyEx, WDFFDOINITALLOCANDQUERYPROPERTYEX, Init, &Data, NonPagedPoolNx,
        NULL, &Memory, &Type)));
    CHECK(Holds(Memory, L"ROOT") && Type == DEVPROP_TYPE_STRING);
    CHECK(NT_SUCCESS(WDF(WdfFdoInitOpenRegistryKey, WDFFDOINITOPENREGISTRYKEY, Init, PLUGPLAY_REGKEY_DEVICE, KEY_ALL_ACCESS,
        NULL, &Key)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryAssignULong, WDFREGISTRYASSIGNULONG, Key, &Name, 17)));
    WDF(WdfRegistryClose, WDFREGISTRYCLOSE, Key);
    OfControl = WDF(WdfControlDeviceInitAllocate, WDFCONTROLDEVICEINITALLOCATE, Driver, &Sddl);
    CHECK(OfControl != NULL);
    CHECK(WDF(WdfFdoInitQueryProperty, WDFFDOINITQUERYPROPERTY, OfControl, DevicePropertyEnumeratorName, sizeof(Text), Text,
              &Length) == STATUS_INVALID_DEVICE_REQUEST);
    CHECK(WDF(WdfFdoInitQueryPropertyEx, WDFFDOINITQUERYPROPERTYEX, OfControl, &Data, sizeof(Text), Text, &Length, &Type) ==
        STATUS_INVALID_DEVICE_REQUEST);
    CHECK(WDF(WdfFdoInitOpenRegistryKey, WDFFDOINITOPENREGISTRYKEY, OfControl, PLUGPLAY_REGKEY_DEVICE, KEY_ALL_ACCESS, NULL,
              &Key) == STATUS_INVALID_PARAMETER);
    WDF(WdfDeviceInitFree, WDFDEVICEINITFREE, OfControl);
    return STATUS_SUCCESS;
}

BEHAVIOUR(they_can_be_asked_for_before_the_device_is_made) { return Before; }

BEHAVIOUR(a_device_has_registry_keys) {
    UNICODE_STRING First = RTL_CONSTANT_STRING(L"Before"), Second = RTL_CONSTANT_STRING(L"Speed");
    WDF_OBJECT_ATTRIBUTES Attributes = {.Size = sizeof(Attributes), .ExecutionLevel = WdfExecutionLevelInheritFromParent,
        .SynchronizationScope = WdfSynchronizationScopeInheritFromParent, .ParentObject = Driver};
    ULONG Value = 0;
    WDFKEY Key, Again;
    CHECK(NT_SUCCESS(WDF(WdfDeviceOpenRegistryKey, WDFDEVICEOPENREGISTRYKEY, Device, PLUGPLAY_REGKEY_DEVICE, KEY_ALL_ACCESS,
        NULL, &Key)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryQueryULong, WDFREGISTRYQUERYULONG, Key, &First, &Value)) && Value == 17);
    WDF(WdfRegistryClose, WDFREGISTRYCLOSE, Key);
    CHECK(NT_SUCCESS(WDF(WdfDeviceOpenRegistryKey, WDFDEVICEOPENREGISTRYKEY, Device, PLUGPLAY_REGKEY_DRIVER, KEY_ALL_ACCESS,
        NULL, &Key)));
    CHECK(!NT_SUCCESS(WDF(WdfRegistryQueryULong, WDFREGISTRYQUERYULONG, Key, &First, &Value)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryAssignULong, WDFREGISTRYASSIGNULONG, Key, &Second, 9600)));
    CHECK(NT_SUCCESS(WDF(WdfDeviceOpenRegistryKey, WDFDEVICEOPENREGISTRYKEY, Device, PLUGPLAY_REGKEY_DRIVER, KEY_READ, NULL,
        &Again)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryQueryULong, WDFREGISTRYQUERYULONG, Again, &Second, &Value)) && Value == 9600);
    WDF(WdfRegistryClose, WDFREGISTRYCLOSE, Again);
    WDF(WdfRegistryClose, WDFREGISTRYCLOSE, Key);
    CHECK(WDF(WdfDeviceOpenRegistryKey, WDFDEVICEOPENREGISTRYKEY, Device, PLUGPLAY_REGKEY_DEVICE, KEY_READ, &Attributes,
              &Key) == STATUS_WDF_PARENT_ASSIGNMENT_NOT_ALLOWED);
    CHECK(Key == NULL);
    CHECK(WDF(WdfDeviceOpenRegistryKey, WDFDEVICEOPENREGISTRYKEY, Control, PLUGPLAY_REGKEY_DEVICE, KEY_READ, NULL, &Key) ==
        STATUS_INVALID_DEVICE_STATE);
    return STATUS_SUCCESS;
}

/* A target that is opened on a device, which is in the stack of this driver's device object. */
static NTSTATUS OpenTarget(PDEVICE_OBJECT Object, WDFIOTARGET *Target) {
    WDF_IO_TARGET_OPEN_PARAMS Params = {
        .Size = sizeof(Params), .Type = WdfIoTargetOpenUseExistingDevice, .TargetDeviceObject = Object};
    NTSTATUS Status = WDF(WdfIoTargetCreate, WDFIOTARGETCREATE, Device, NULL, Target);
    return NT_SUCCESS(Status) ? WDF(WdfIoTargetOpen, WDFIOTARGETOPEN, *Target, &Params) : Status;
}

BEHAVIOUR(a_target_knows_the_pdo_of_its_stack) {
    PDEVICE_OBJECT Pdo = WDF(WdfDeviceWdmGetPhysicalDevice, WDFDEVICEWDMGETPHYSICALDEVICE, Device);
    WDFIOTARGET Below = WDF(WdfDeviceGetIoTarget, WDFDEVICEGETIOTARGET, Device), Other, Nowhere;
    WCHAR Text[16];
    ULONG Length;
    WDFMEMORY Memory;
    CHECK(WDF(WdfIoTargetWdmGetTargetPhysicalDevice, WDFIOTARGETWDMGETTARGETPHYSICALDEVICE, Below) == Pdo);
    CHECK(NT_SUCCESS(WDF(WdfIoTargetQueryTargetProperty, WDFIOTARGETQUERYTARGETPROPERTY, Below, DevicePropertyEnumeratorName,
        sizeof(Text), Text, &Length)));
    CHECK(SameText(Text, L"ROOT") && Length == sizeof(L"ROOT"));
    CHECK(NT_SUCCESS(OpenTarget(WDF(WdfDeviceWdmGetDeviceObject, WDFDEVICEWDMGETDEVICEOBJECT, Device), &Other)));
    CHECK(WDF(WdfIoTargetWdmGetTargetPhysicalDevice, WDFIOTARGETWDMGETTARGETPHYSICALDEVICE, Other) == Pdo);
    CHECK(NT_SUCCESS(WDF(WdfIoTargetAllocAndQueryTargetProperty, WDFIOTARGETALLOCANDQUERYTARGETPROPERTY, Other,
        DevicePropertyEnumeratorName, NonPagedPoolNx, NULL, &Memory)));
    CHECK(Holds(Memory, L"ROOT"));
    WDF(WdfIoTargetClose, WDFIOTARGETCLOSE, Other);
    CHECK(WDF(WdfIoTargetWdmGetTargetPhysicalDevice, WDFIOTARGETWDMGETTARGETPHYSICALDEVICE, Other) == NULL);
    Delete(Other);
    /* A control device is in no stack with a PDO. */
    CHECK(NT_SUCCESS(OpenTarget(WDF(WdfDeviceWdmGetDeviceObject, WDFDEVICEWDMGETDEVICEOBJECT, Control), &Nowhere)));
    CHECK(WDF(WdfIoTargetQueryTargetProperty, WDFIOTARGETQUERYTARGETPROPERTY, Nowhere, DevicePropertyEnumeratorName,
              sizeof(Text), Text, &Length) == STATUS_INVALID_DEVICE_REQUEST);
    Delete(Nowhere);
    return STATUS_SUCCESS;
}

/* The device by itself. */

BEHAVIOUR(a_device_tells_its_name_and_its_alignment) {
    UNICODE_STRING Expected = RTL_CONSTANT_STRING(L"\\Device\\Verifier"), Name;
    WDFSTRING String;
    CHECK(NT_SUCCESS(WDF(WdfStringCreate, WDFSTRINGCREATE, NULL, NULL, &String)));
    CHECK(NT_SUCCESS(WDF(WdfDeviceRetrieveDeviceName, WDFDEVICERETRIEVEDEVICENAME, Device, String)));
    WDF(WdfStringGetUnicodeString, WDFSTRINGGETUNICODESTRING, String, &Name);
    CHECK(RtlEqualUnicodeString(&Name, &Expected, FALSE));
    CHECK(WDF(WdfDeviceRetrieveDeviceName, WDFDEVICERETRIEVEDEVICENAME, Control, String) == STATUS_INVALID_PARAMETER);
    Delete(String);
    CHECK(WDF(WdfDeviceGetAlignmentRequirement, WDFDEVICEGETALIGNMENTREQUIREMENT, Device) == FILE_BYTE_ALIGNMENT);
    WDF(WdfDeviceSetAlignmentRequirement, WDFDEVICESETALIGNMENTREQUIREMENT, Device, FILE_QUAD_ALIGNMENT);
    CHECK(WDF(WdfDeviceGetAlignmentRequirement, WDFDEVICEGETALIGNMENTREQUIREMENT, Device) == FILE_QUAD_ALIGNMENT);
    CHECK(WDF(WdfDeviceWdmGetDeviceObject, WDFDEVICEWDMGETDEVICEOBJECT, Device)->AlignmentRequirement == FILE_QUAD_ALIGNMENT);
    WDF(WdfDeviceSetAlignmentRequirement, WDFDEVICESETALIGNMENTREQUIREMENT, Device, FILE_BYTE_ALIGNMENT);
    WDF(WdfDeviceSetCharacteristics, WDFDEVICESETCHARACTERISTICS, Control, FILE_READ_ONLY_DEVICE);
    CHECK(WDF(WdfDeviceGetCharacteristics, WDFDEVICEGETCHARACTERISTICS, Control) ==
        (FILE_READ_ONLY_DEVICE | FILE_DEVICE_SECURE_OPEN));
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI Returned(PDEVICE_OBJECT Object, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Object);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* Sends a packet to the driver's own device, and waits for it. */
static NTSTATUS Ask(const IO_STACK_LOCATION *Location, ULONG_PTR *Information) {
    PDEVICE_OBJECT Object = WDF(WdfDeviceWdmGetDeviceObject, WDFDEVICEWDMGETDEVICEOBJECT, Device);
    PIRP Irp = IoAllocateIrp(Object->StackSize, FALSE);
    NTSTATUS Status = STATUS_INSUFFICIENT_RESOURCES;
    KEVENT Done;
    if (Irp == NULL)
        return Status;
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    *IoGetNextIrpStackLocation(Irp) = *Location;
    Irp->IoStatus.Status = STATUS_NOT_SUPPORTED;
    IoSetCompletionRoutine(Irp, Returned, &Done, TRUE, TRUE, TRUE);
    IoCallDriver(Object, Irp);
    KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    Status = Irp->IoStatus.Status;
    if (Information != NULL)
        *Information = Irp->IoStatus.Information;
    IoFreeIrp(Irp);
    return Status;
}

/* The PNP_DEVICE_STATE that the device answers with. */
static ULONG_PTR PnpState(VOID) {
    IO_STACK_LOCATION Location = {.MajorFunction = IRP_MJ_PNP, .MinorFunction = IRP_MN_QUERY_PNP_DEVICE_STATE};
    ULONG_PTR Information = 0;
    return NT_SUCCESS(Ask(&Location, &Information)) ? Information : (ULONG_PTR)-1;
}

BEHAVIOUR(the_pnp_manager_hears_what_state_the_device_is_in) {
    WDF_DEVICE_STATE State = {.Size = sizeof(State)}, Read = {.Size = sizeof(Read)};
    WDF(WdfDeviceGetDeviceState, WDFDEVICEGETDEVICESTATE, Device, &Read);
    CHECK(Read.Disabled == WdfUseDefault && Read.Failed == WdfUseDefault && Read.AssignedToGuest == WdfUseDefault);
    CHECK(PnpState() == 0);
    State = Read;
    State.NotDisableable = WdfTrue;
    State.DontDisplayInUI = WdfTrue;
    State.Removed = WdfFalse;
    WDF(WdfDeviceSetDeviceState, WDFDEVICESETDEVICESTATE, Device, &State);
    WDF(WdfDeviceGetDeviceState, WDFDEVICEGETDEVICESTATE, Device, &Read);
    CHECK(Read.NotDisableable == WdfTrue && Read.DontDisplayInUI == WdfTrue && Read.Removed == WdfFalse);
    CHECK(PnpState() == (PNP_DEVICE_NOT_DISABLEABLE | PNP_DEVICE_DONT_DISPLAY_IN_UI));
    /* A driver of an earlier version has a shorter structure. */
    Read.Size = State.Size = FIELD_OFFSET(WDF_DEVICE_STATE, AssignedToGuest);
    Read.AssignedToGuest = 77;
    State.DontDisplayInUI = WdfFalse;
    WDF(WdfDeviceSetDeviceState, WDFDEVICESETDEVICESTATE, Device, &State);
    WDF(WdfDeviceGetDeviceState, WDFDEVICEGETDEVICESTATE, Device, &Read);
    CHECK(Read.DontDisplayInUI == WdfFalse && Read.AssignedToGuest == 77);
    CHECK(PnpState() == PNP_DEVICE_NOT_DISABLEABLE);
    return STATUS_SUCCESS;
}

static NTSTATUS Capabilities(PDEVICE_CAPABILITIES Told) {
    IO_STACK_LOCATION Location = {.MajorFunction = IRP_MJ_PNP, .MinorFunction = IRP_MN_QUERY_CAPABILITIES};
    RtlZeroMemory(Told, sizeof(*Told));
    Told->Size = sizeof(*Told);
    Told->Version = 1;
    Told->Address = Told->UINumber = (ULONG)-1;
    Location.Parameters.DeviceCapabilities.Capabilities = Told;
    return Ask(&Location, NULL);
}

BEHAVIOUR(what_the_device_can_do_is_known) {
    WDF_DEVICE_PNP_CAPABILITIES Pnp = {.Size = sizeof(Pnp), .LockSupported = WdfUseDefault, .EjectSupported = WdfUseDefault,
        .Removable = WdfTrue, .DockDevice = WdfUseDefault, .UniqueID = WdfFalse, .SilentInstall = WdfTrue,
        .SurpriseRemovalOK = WdfTrue, .HardwareDisabled = WdfUseDefault, .NoDisplayInUI = WdfTrue, .Address = 5,
        .UINumber = (ULONG)-1};
    WDF_DEVICE_POWER_CAPABILITIES Power = {.Size = sizeof(Power), .DeviceD1 = WdfTrue, .DeviceD2 = WdfUseDefault,
        .WakeFromD0 = WdfUseDefault, .WakeFromD1 = WdfUseDefault, .WakeFromD2 = WdfUseDefault, .WakeFromD3 = WdfUseDefault,
        .DeviceState = {PowerDeviceMaximum, PowerDeviceD2, PowerDeviceD1, PowerDeviceMaximum, PowerDeviceMaximum,
            PowerDeviceMaximum, PowerDeviceMaximum},
        .DeviceWake = PowerDeviceMaximum, .SystemWake = PowerSystemMaximum, .D1Latency = (ULONG)-1, .D2Latency = 20,
        .D3Latency = 300, .IdealDxStateForSx = PowerDeviceMaximum};
    DEVICE_CAPABILITIES Told;
    CHECK(NT_SUCCESS(Capabilities(&Told)));
    CHECK(!Told.Removable && !Told.SurpriseRemovalOK && Told.UniqueID && !Told.SilentInstall && Told.Address == (ULONG)-1);
    CHECK(Told.DeviceState[PowerSystemWorking] == PowerDeviceD0 && Told.D2Latency == 0);
    WDF(WdfDeviceSetPnpCapabilities, WDFDEVICESETPNPCAPABILITIES, Device, &Pnp);
    WDF(WdfDeviceSetPowerCapabilities, WDFDEVICESETPOWERCAPABILITIES, Device, &Power);
    CHECK(NT_SUCCESS(Capabilities(&Told)));
    CHECK(Told.Removable && Told.SurpriseRemovalOK && Told.NoDisplayInUI && Told.Address == 5 && Told.UINumber == (ULONG)-1);
    /* Those are the bus driver's to say. */
    CHECK(Told.UniqueID && !Told.SilentInstall && !Told.DeviceD1);
    /* Sleep becomes deeper, not lighter. */
    CHECK(Told.DeviceState[PowerSystemWorking] == PowerDeviceD2 && Told.DeviceState[PowerSystemSleeping1] == PowerDeviceD3);
    CHECK(Told.D1Latency == 0 && Told.D2Latency == 20 && Told.D3Latency == 300);
    CHECK(PnpState() == PNP_DEVICE_DONT_DISPLAY_IN_UI);
    Pnp.Removable = Pnp.SurpriseRemovalOK = WdfFalse;
    WDF(WdfDeviceSetPnpCapabilities, WDFDEVICESETPNPCAPABILITIES, Device, &Pnp);
    CHECK(NT_SUCCESS(Capabilities(&Told)) && !Told.Removable && !Told.SurpriseRemovalOK);
    return STATUS_SUCCESS;
}

/* Interfaces that drivers give each other. */

typedef struct {
    INTERFACE Header;
    ULONG Value;
} NUMBER;

static const GUID Kept = {0x0b9a7c11, 0x31d2, 0x4c0a, {0xa1, 0x5b, 0x6e, 0x07, 0x4d, 0x52, 0x88, 0x19}};
static const GUID Refused = {0x0b9a7c12, 0x31d2, 0x4c0a, {0xa1, 0x5b, 0x6e, 0x07, 0x4d, 0x52, 0x88, 0x19}};
static const GUID Imported = {0x0b9a7c13, 0x31d2, 0x4c0a, {0xa1, 0x5b, 0x6e, 0x07, 0x4d, 0x52, 0x88, 0x19}};
static const GUID Unknown = {0x0b9a7c14, 0x31d2, 0x4c0a, {0xa1, 0x5b, 0x6e, 0x07, 0x4d, 0x52, 0x88, 0x19}};

static LONG References;

static VOID NTAPI Reference(PVOID Context) { InterlockedIncrement(Context); }

static VOID NTAPI Dereference(PVOID Context) { InterlockedDecrement(Context); }

static NTSTATUS NTAPI EvtDeviceProcessQueryInterface(WDFDEVICE Queried, LPGUID Type, PINTERFACE Interface, PVOID Data) {
    NUMBER *Number = (NUMBER *)Interface;
    if (Queried != Device || Data != &References)
        return STATUS_INTERNAL_ERROR;
    if (RtlCompareMemory(Type, &Refused, sizeof(GUID)) == sizeof(GUID))
        return STATUS_ACCESS_DENIED;
    if (RtlCompareMemory(Type, &Imported, sizeof(GUID)) == sizeof(GUID))
        Number->Value *= 2;
    else
        Number->Value++;
    return STATUS_SUCCESS;
}

static NTSTATUS Add(const GUID *Type, NUMBER *Number, BOOLEAN Import) {
    WDF_QUERY_INTERFACE_CONFIG Config = {.Size = sizeof(Config), .Interface = (PINTERFACE)Number, .InterfaceType = Type,
        .EvtDeviceProcessQueryInterfaceRequest = EvtDeviceProcessQueryInterface, .ImportInterface = Import};
    return WDF(WdfDeviceAddQueryInterface, WDFDEVICEADDQUERYINTERFACE, Device, &Config);
}

static NTSTATUS Query(const GUID *Type, NUMBER *Number, USHORT Size, USHORT Version) {
    return WDF(WdfFdoQueryForInterface, WDFFDOQUERYFORINTERFACE, Device, Type, (PINTERFACE)Number, Size, Version, &References);
}

BEHAVIOUR(drivers_of_a_stack_give_each_other_interfaces) {
    NUMBER Given = {.Header = {sizeof(Given), 2, &References, Reference, Dereference}, .Value = 41}, Got = {{0}};
    WDF_QUERY_INTERFACE_CONFIG Config = {.Size = sizeof(Config), .Interface = (PINTERFACE)&Given, .InterfaceType = &Kept};
    WDFIOTARGET Target;
    References = 0;
    CHECK(NT_SUCCESS(Add(&Kept, &Given, FALSE)));
    CHECK(Query(&Unknown, &Got, sizeof(Got), 2) == STATUS_NOT_SUPPORTED);
    /* What is asked for is less, or older. */
    CHECK(Query(&Kept, &Got, sizeof(Got) - 1, 2) == STATUS_NOT_SUPPORTED);
    CHECK(Query(&Kept, &Got, sizeof(Got), 1) == STATUS_NOT_SUPPORTED);
    CHECK(Got.Value == 0 && References == 0);
    CHECK(Query(&Kept, &Got, sizeof(Got), 2) == STATUS_SUCCESS);
    CHECK(Got.Value == 42 && Got.Header.Size == sizeof(Got) && References == 1);
    Got.Header.InterfaceDereference(Got.Header.Context);
    CHECK(References == 0);
    /* From outside of the stack. */
    CHECK(NT_SUCCESS(OpenTarget(WDF(WdfDeviceWdmGetPhysicalDevice, WDFDEVICEWDMGETPHYSICALDEVICE, Device), &Target)));
    Got.Value = 0;
    CHECK(WDF(WdfIoTargetQueryForInterface, WDFIOTARGETQUERYFORINTERFACE, Target, &Kept, (PINTERFACE)&Got, sizeof(Got), 3,
              &References) == STATUS_SUCCESS);
    CHECK(Got.Value == 42 && References == 1);
    Delete(Target);
    /* The driver refuses. */
    Got.Value = 0;
    CHECK(NT_SUCCESS(Add(&Refused, &Given, FALSE)));
    CHECK(Query(&Refused, &Got, sizeof(Got), 2) == STATUS_ACCESS_DENIED && References == 1);
    /* The driver reads what is passed. */
    CHECK(NT_SUCCESS(Add(&Imported, NULL, TRUE)));
    Got.Header.InterfaceReference = NULL;
    Got.Value = 8;
    CHECK(Query(&Imported, &Got, sizeof(Got), 1) == STATUS_SUCCESS && Got.Value == 16 && References == 1);
    /* What is no interface. */
    CHECK(Add(&Kept, NULL, FALSE) == STATUS_INVALID_PARAMETER);
    Config.SendQueryToParentStack = TRUE;
    CHECK(WDF(WdfDeviceAddQueryInterface, WDFDEVICEADDQUERYINTERFACE, Device, &Config) == STATUS_INVALID_PARAMETER);
    Config.Size--;
    CHECK(WDF(WdfDeviceAddQueryInterface, WDFDEVICEADDQUERYINTERFACE, Device, &Config) == STATUS_INFO_LENGTH_MISMATCH);
    CHECK(WDF(WdfDeviceAddQueryInterface, WDFDEVICEADDQUERYINTERFACE, Control, &Config) == STATUS_INVALID_DEVICE_REQUEST);
    CHECK(WDF(WdfFdoQueryForInterface, WDFFDOQUERYFORINTERFACE, Control, &Kept, (PINTERFACE)&Got, sizeof(Got), 2, NULL) ==
        STATUS_INVALID_PARAMETER);
    return STATUS_SUCCESS;
}

/* Packets that the driver sees first. */

static LONG Preprocessed, Dispatched, InCallerContext;

static NTSTATUS NTAPI EvtPreprocessRead(WDFDEVICE Seen, PIRP Irp) {
    Preprocessed++;
    IoSkipCurrentIrpStackLocation(Irp);
    return WDF(WdfDeviceWdmDispatchPreprocessedIrp, WDFDEVICEWDMDISPATCHPREPROCESSEDIRP, Seen, Irp);
}

static NTSTATUS NTAPI WriteReturned(PDEVICE_OBJECT Object, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Object);
    Irp->IoStatus.Information += 100;
    if (Irp->PendingReturned)
        IoMarkIrpPending(Irp);
    InterlockedIncrement(Context);
    return STATUS_SUCCESS;
}

/* With a location of its own, for a completion routine. */
static NTSTATUS NTAPI EvtPreprocessWrite(WDFDEVICE Seen, PIRP Irp) {
    IoCopyCurrentIrpStackLocationToNext(Irp);
    IoSetCompletionRoutine(Irp, WriteReturned, &Preprocessed, TRUE, TRUE, TRUE);
    return WDF(WdfDeviceWdmDispatchPreprocessedIrp, WDFDEVICEWDMDISPATCHPREPROCESSEDIRP, Seen, Irp);
}

static NTSTATUS NTAPI EvtPreprocessInternal(WDFDEVICE Seen, PIRP Irp) {
    ULONG Flags = WDF_DISPATCH_IRP_TO_IO_QUEUE_PREPROCESSED_IRP;
    if (IoGetCurrentIrpStackLocation(Irp)->Parameters.DeviceIoControl.IoControlCode == 1)
        Flags |= WDF_DISPATCH_IRP_TO_IO_QUEUE_INVOKE_INCALLERCTX_CALLBACK;
    Preprocessed++;
    IoSkipCurrentIrpStackLocation(Irp);
    return WDF(WdfDeviceWdmDispatchIrpToIoQueue, WDFDEVICEWDMDISPATCHIRPTOIOQUEUE, Seen, Irp, Chosen, Flags);
}

static NTSTATUS Answer(PIRP Irp, NTSTATUS Status, ULONG_PTR Information) {
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

/* Of all minor functions, and of one. */
static NTSTATUS NTAPI EvtPreprocessFlush(WDFDEVICE Seen, PIRP Irp) {
    UNREFERENCED_PARAMETER(Seen);
    Preprocessed++;
    return Answer(Irp, STATUS_SUCCESS, 7);
}

static NTSTATUS NTAPI EvtPreprocessPnp(WDFDEVICE Seen, PIRP Irp) {
    UNREFERENCED_PARAMETER(Seen);
    Preprocessed++;
    return Answer(Irp, STATUS_DEVICE_NOT_READY, 0);
}

static BOOLEAN SameName(const char *Left, const char *Right) {
    while (*Left != 0 && *Left == *Right)
        Left++, Right++;
    return *Left == *Right;
}

static NTSTATUS StopIdle(BOOLEAN Wait) {
    return WDF(WdfDeviceStopIdleActual, WDFDEVICESTOPIDLEACTUAL, Device, Wait, NULL, __LINE__, __FILE__);
}

static VOID NTAPI EvtIoInCallerContext(WDFDEVICE Seen, WDFREQUEST Request) {
    const char *Name;
    InCallerContext++;
    /* A queue that waits for the device to be in D0 cannot wait for that. */
    if (NT_SUCCESS(WDF(WdfRequestRetrieveInputBuffer, WDFREQUESTRETRIEVEINPUTBUFFER, Request, 1, (PVOID *)&Name, NULL)) &&
        SameName(Name, "stop_idle")) {
        Complete(Request, StopIdle(TRUE), 0);
        return;
    }
    if (!NT_SUCCESS(WDF(WdfDeviceEnqueueRequest, WDFDEVICEENQUEUEREQUEST, Seen, Request)))
        Complete(Request, STATUS_UNSUCCESSFUL, 0);
}

BEHAVIOUR(packets_come_by_the_driver_before_the_framework) {
    IO_STACK_LOCATION Read = {.MajorFunction = IRP_MJ_READ}, Write = {.MajorFunction = IRP_MJ_WRITE};
    IO_STACK_LOCATION Flush = {.MajorFunction = IRP_MJ_FLUSH_BUFFERS};
    IO_STACK_LOCATION Lock = {.MajorFunction = IRP_MJ_PNP, .MinorFunction = IRP_MN_SET_LOCK};
    ULONG_PTR Information;
    LONG Asked = InCallerContext;
    Preprocessed = Dispatched = 0;
    CHECK(Ask(&Flush, &Information) == STATUS_SUCCESS && Information == 7 && Preprocessed == 1);
    CHECK(Ask(&Lock, NULL) == STATUS_DEVICE_NOT_READY && Preprocessed == 2);
    Lock.MinorFunction = IRP_MN_QUERY_PNP_DEVICE_STATE;
    CHECK(NT_SUCCESS(Ask(&Lock, NULL)) && Preprocessed == 2);
    CHECK(Ask(&Read, &Information) == STATUS_SUCCESS && Information == 0 && Preprocessed == 3 && Dispatched == 1);
    CHECK(Ask(&Write, &Information) == STATUS_SUCCESS && Information == 100 && Preprocessed == 4 && Dispatched == 2);
    CHECK(InCallerContext == Asked + 2);
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_packet_goes_to_the_queue_that_the_driver_chooses) {
    IO_STACK_LOCATION Internal = {.MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL};
    ULONG_PTR Information;
    LONG Asked = InCallerContext;
    Preprocessed = 0;
    CHECK(Ask(&Internal, &Information) == STATUS_SUCCESS && Information == 3);
    CHECK(Preprocessed == 1 && InCallerContext == Asked);
    Internal.Parameters.DeviceIoControl.IoControlCode = 1;
    CHECK(Ask(&Internal, &Information) == STATUS_SUCCESS && Information == 3);
    CHECK(Preprocessed == 2 && InCallerContext == Asked + 1);
    return STATUS_SUCCESS;
}

static WDF_REQUEST_COMPLETION_PARAMS Outcome;

static VOID NTAPI EvtRequestCompletion(WDFREQUEST Request, WDFIOTARGET Target, PWDF_REQUEST_COMPLETION_PARAMS Params,
    WDFCONTEXT Context) {
    UNREFERENCED_PARAMETER(Request);
    UNREFERENCED_PARAMETER(Target);
    Outcome = *Params;
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
}

BEHAVIOUR(a_request_is_formatted_with_a_location) {
    IO_STACK_LOCATION Flush = {.MajorFunction = IRP_MJ_FLUSH_BUFFERS, .CompletionRoutine = (PVOID)1};
    WDFIOTARGET Target;
    WDFREQUEST Request;
    KEVENT Done;
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    CHECK(NT_SUCCESS(OpenTarget(WDF(WdfDeviceWdmGetDeviceObject, WDFDEVICEWDMGETDEVICEOBJECT, Device), &Target)));
    CHECK(NT_SUCCESS(WDF(WdfRequestCreate, WDFREQUESTCREATE, NULL, Target, &Request)));
    WDF(WdfRequestWdmFormatUsingStackLocation, WDFREQUESTWDMFORMATUSINGSTACKLOCATION, Request, &Flush);
    WDF(WdfRequestSetCompletionRoutine, WDFREQUESTSETCOMPLETIONROUTINE, Request, EvtRequestCompletion, &Done);
    Preprocessed = 0;
    CHECK(WDF(WdfRequestSend, WDFREQUESTSEND, Request, Target, NULL));
    KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL);
    CHECK(Preprocessed == 1 && Outcome.Type == WdfRequestTypeNoFormat);
    CHECK(Outcome.IoStatus.Status == STATUS_SUCCESS && Outcome.IoStatus.Information == 7);
    Delete(Request);
    Delete(Target);
    return STATUS_SUCCESS;
}

/* Power. */

static BOOLEAN Speaks;
static NTSTATUS StoppedBefore;

static NTSTATUS NTAPI D0Entry(WDFDEVICE Seen, int State) {
    UNREFERENCED_PARAMETER(Seen);
    if (Speaks)
        DbgPrint("D0 entry from %d\n", State);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI D0Exit(WDFDEVICE Seen, int State) {
    UNREFERENCED_PARAMETER(Seen);
    if (Speaks)
        DbgPrint("D0 exit to %d\n", State);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI NeverArmed(WDFDEVICE Seen) {
    UNREFERENCED_PARAMETER(Seen);
    DbgPrint("armed\n");
    return STATUS_SUCCESS;
}

static WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS IdleAfter(ULONG Milliseconds) {
    WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS Settings = {.Size = sizeof(Settings), .IdleCaps = CANNOT_WAKE,
        .DxState = PowerDeviceMaximum, .IdleTimeout = Milliseconds, .UserControlOfIdleSettings = NO_USER_CONTROL,
        .Enabled = WdfTrue, .PowerUpIdleDeviceOnSystemWake = WdfUseDefault, .ExcludeD3Cold = WdfUseDefault};
    return Settings;
}

static NTSTATUS Assign(const WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS *Settings) {
    return WDF(WdfDeviceAssignS0IdleSettings, WDFDEVICEASSIGNS0IDLESETTINGS, Device,
        (PWDF_DEVICE_POWER_POLICY_IDLE_SETTINGS)Settings);
}

static VOID ResumeIdle(VOID) {
    WDF(WdfDeviceResumeIdleActual, WDFDEVICERESUMEIDLEACTUAL, Device, NULL, __LINE__, __FILE__);
}

BEHAVIOUR(a_root_device_idles_but_wakes_nobody) {
    WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS Settings = IdleAfter(0);
    WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS Wake = {
        .Size = sizeof(Wake), .DxState = PowerDeviceMaximum, .UserControlOfWakeSettings = NO_USER_CONTROL, .Enabled = WdfTrue};
    CHECK(Assign(&Settings) == STATUS_SUCCESS);
    Settings.IdleCaps = CAN_WAKE;
    CHECK(Assign(&Settings) == STATUS_POWER_STATE_INVALID);
    Settings.DxState = PowerDeviceD2;
    CHECK(Assign(&Settings) == STATUS_POWER_STATE_INVALID);
    Settings.PowerUpIdleDeviceOnSystemWake = WdfTrue;
    CHECK(Assign(&Settings) == STATUS_INVALID_PARAMETER);
    Settings = IdleAfter(0);
    Settings.DxState = PowerDeviceD0;
    CHECK(Assign(&Settings) == STATUS_INVALID_PARAMETER);
    Settings = IdleAfter(0);
    Settings.UserControlOfIdleSettings = 0;
    CHECK(Assign(&Settings) == STATUS_INVALID_PARAMETER);
    Settings = IdleAfter(0);
    Settings.IdleTimeoutType = 3;
    CHECK(Assign(&Settings) == STATUS_INVALID_PARAMETER);
    Settings.Size--;
    CHECK(Assign(&Settings) == STATUS_INFO_LENGTH_MISMATCH);
    /* Those of KMDF 1.7, and of 1.9. */
    Settings.Size = FIELD_OFFSET(WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS, PowerUpIdleDeviceOnSystemWake);
    CHECK(Assign(&Settings) == STATUS_SUCCESS);
    Settings.Size = FIELD_OFFSET(WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS, IdleTimeoutType);
    CHECK(Assign(&Settings) == STATUS_SUCCESS);
    CHECK(WDF(WdfDeviceAssignSxWakeSettings, WDFDEVICEASSIGNSXWAKESETTINGS, Device, &Wake) == STATUS_POWER_STATE_INVALID);
    Wake.DxState = PowerDeviceD1;
    CHECK(WDF(WdfDeviceAssignSxWakeSettings, WDFDEVICEASSIGNSXWAKESETTINGS, Device, &Wake) == STATUS_POWER_STATE_INVALID);
    Wake.Enabled = 3;
    CHECK(WDF(WdfDeviceAssignSxWakeSettings, WDFDEVICEASSIGNSXWAKESETTINGS, Device, &Wake) == STATUS_INVALID_PARAMETER);
    Wake.Size--;
    CHECK(WDF(WdfDeviceAssignSxWakeSettings, WDFDEVICEASSIGNSXWAKESETTINGS, Device, &Wake) == STATUS_INFO_LENGTH_MISMATCH);
    CHECK(StoppedBefore == STATUS_POWER_STATE_INVALID);
    CHECK(StopIdle(FALSE) == STATUS_SUCCESS && StopIdle(TRUE) == STATUS_SUCCESS);
    CHECK(WDF(WdfDeviceStopIdleNoTrack, WDFDEVICESTOPIDLENOTRACK, Device, FALSE) == STATUS_SUCCESS);
    WDF(WdfDeviceResumeIdleNoTrack, WDFDEVICERESUMEIDLENOTRACK, Device);
    ResumeIdle();
    ResumeIdle();
    return STATUS_SUCCESS;
}

BEHAVIOUR(idle_soon) {
    WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS Settings = IdleAfter(1);
    Speaks = TRUE;
    return Assign(&Settings);
}

BEHAVIOUR(idle_soon_and_rise_with_the_system) {
    WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS Settings = IdleAfter(1);
    Settings.PowerUpIdleDeviceOnSystemWake = WdfTrue;
    return Assign(&Settings);
}

BEHAVIOUR(idle_no_more) {
    WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS Settings = IdleAfter(1);
    Settings.Enabled = WdfFalse;
    return Assign(&Settings);
}

BEHAVIOUR(resume_idle) {
    ResumeIdle();
    return STATUS_SUCCESS;
}

/* Faults. */

BEHAVIOUR(set_a_state_that_is_neither_yes_nor_no) {
    WDF_DEVICE_STATE State = {.Size = sizeof(State), .Failed = 9};
    WDF(WdfDeviceSetDeviceState, WDFDEVICESETDEVICESTATE, Device, &State);
    return STATUS_SUCCESS;
}

BEHAVIOUR(set_capabilities_of_another_size) {
    WDF_DEVICE_PNP_CAPABILITIES Capabilities = {.Size = sizeof(Capabilities) - 4};
    WDF(WdfDeviceSetPnpCapabilities, WDFDEVICESETPNPCAPABILITIES, Device, &Capabilities);
    return STATUS_SUCCESS;
}

BEHAVIOUR(resume_idle_that_was_not_stopped) {
    /* The queue that this runs in needs the device, too. */
    ResumeIdle();
    ResumeIdle();
    return STATUS_SUCCESS;
}

/* It takes effect when the driver is loaded again. */
BEHAVIOUR(break_on_errors) {
    UNICODE_STRING Wdf = RTL_CONSTANT_STRING(L"Wdf"), Name = RTL_CONSTANT_STRING(L"DbgBreakOnError");
    WDFKEY Parameters, Key;
    CHECK(NT_SUCCESS(WDF(WdfDriverOpenParametersRegistryKey, WDFDRIVEROPENPARAMETERSREGISTRYKEY, Driver, KEY_ALL_ACCESS,
        NULL, &Parameters)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryCreateKey, WDFREGISTRYCREATEKEY, Parameters, &Wdf, KEY_ALL_ACCESS,
        REG_OPTION_NON_VOLATILE, NULL, NULL, &Key)));
    CHECK(NT_SUCCESS(WDF(WdfRegistryAssignULong, WDFREGISTRYASSIGNULONG, Key, &Name, 1)));
    WDF(WdfRegistryClose, WDFREGISTRYCLOSE, Key);
    WDF(WdfRegistryClose, WDFREGISTRYCLOSE, Parameters);
    return STATUS_SUCCESS;
}

BEHAVIOUR(hit_a_break_point) {
    WDF(WdfVerifierDbgBreakPoint, WDFVERIFIERDBGBREAKPOINT);
    return STATUS_SUCCESS;
}

BEHAVIOUR(crash) {
    WDF(WdfVerifierKeBugCheck, WDFVERIFIERKEBUGCHECK, 0xE2, 1, 2, 3, 4);
    return STATUS_SUCCESS;
}

/* It is removed when its last handle is closed. */
BEHAVIOUR(fail_the_device) {
    WDF(WdfDeviceSetFailed, WDFDEVICESETFAILED, Device, WdfDeviceFailedNoRestart);
    return PnpState() == PNP_DEVICE_FAILED ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
}

typedef struct {
    const char *Name;
    NTSTATUS (*Act)(VOID);
} ROW;

#define ROW_OF(Name) {#Name, Name}

static const ROW Rows[] = {
    ROW_OF(properties_are_those_of_the_pdo),
    ROW_OF(properties_of_the_unified_model_have_types_and_are_assigned),
    ROW_OF(they_can_be_asked_for_before_the_device_is_made),
    ROW_OF(a_device_has_registry_keys),
    ROW_OF(a_target_knows_the_pdo_of_its_stack),
    ROW_OF(a_device_tells_its_name_and_its_alignment),
    ROW_OF(the_pnp_manager_hears_what_state_the_device_is_in),
    ROW_OF(what_the_device_can_do_is_known),
    ROW_OF(drivers_of_a_stack_give_each_other_interfaces),
    ROW_OF(packets_come_by_the_driver_before_the_framework),
    ROW_OF(a_packet_goes_to_the_queue_that_the_driver_chooses),
    ROW_OF(a_request_is_formatted_with_a_location),
    ROW_OF(a_root_device_idles_but_wakes_nobody),
    ROW_OF(hit_a_break_point),
    {"break_on_errors", break_on_errors},
    {"crash", crash},
    {"set_a_state_that_is_neither_yes_nor_no", set_a_state_that_is_neither_yes_nor_no},
    {"set_capabilities_of_another_size", set_capabilities_of_another_size},
    {"resume_idle_that_was_not_stopped", resume_idle_that_was_not_stopped},
    {"idle_soon", idle_soon},
    {"idle_soon_and_rise_with_the_system", idle_soon_and_rise_with_the_system},
    {"idle_no_more", idle_no_more},
    {"resume_idle", resume_idle},
    {"fail_the_device", fail_the_device},
    {NULL, NULL},
};

static VOID NTAPI EvtIoDeviceControl(WDFQUEUE Queue, WDFREQUEST Request, size_t Output, size_t Input, ULONG Code) {
    const ROW *Row = Rows;
    const char *Name;
    UNREFERENCED_PARAMETER(Queue);
    UNREFERENCED_PARAMETER(Output);
    UNREFERENCED_PARAMETER(Input);
    UNREFERENCED_PARAMETER(Code);
    WDF(WdfRequestRetrieveInputBuffer, WDFREQUESTRETRIEVEINPUTBUFFER, Request, 1, (PVOID *)&Name, NULL);
    while (Row->Name != NULL && !SameName(Row->Name, Name))
        Row++;
    Complete(Request, Row->Name != NULL ? Row->Act() : STATUS_NOT_IMPLEMENTED, 0);
}

static VOID NTAPI EvtIoTransfer(WDFQUEUE Queue, WDFREQUEST Request, size_t Length) {
    UNREFERENCED_PARAMETER(Queue);
    Dispatched++;
    Complete(Request, STATUS_SUCCESS, Length);
}

static VOID NTAPI EvtIoChosen(WDFQUEUE Queue, WDFREQUEST Request) {
    UNREFERENCED_PARAMETER(Queue);
    Complete(Request, STATUS_SUCCESS, 3);
}

static VOID NTAPI EvtDeviceCleanup(WDFOBJECT Object) {
    UNREFERENCED_PARAMETER(Object);
    Delete(Control);
    DbgPrint("device cleanup\n");
}

static VOID NTAPI EvtDeviceShutdown(WDFDEVICE Told) { DbgPrint("shutdown %s\n", Told == Control ? "of it" : "of another"); }

/* A device without a name that hears of the shutdown. */
static NTSTATUS NewControlDevice(VOID) {
    PWDFDEVICE_INIT Init = WDF(WdfControlDeviceInitAllocate, WDFCONTROLDEVICEINITALLOCATE, Driver, &Sddl);
    NTSTATUS Status;
    if (Init == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    WDF(WdfControlDeviceInitSetShutdownNotification, WDFCONTROLDEVICEINITSETSHUTDOWNNOTIFICATION, Init, EvtDeviceShutdown,
        WdfDeviceShutdown | WdfDeviceLastChanceShutdown);
    Status = WDF(WdfDeviceCreate, WDFDEVICECREATE, &Init, NULL, &Control);
    if (!NT_SUCCESS(Status)) {
        WDF(WdfDeviceInitFree, WDFDEVICEINITFREE, Init);
        return Status;
    }
    WDF(WdfControlFinishInitializing, WDFCONTROLFINISHINITIALIZING, Control);
    return Status;
}

static NTSTATUS Preprocess(PWDFDEVICE_INIT Init, PFN_WDFDEVICE_WDM_IRP_PREPROCESS Callback, UCHAR Major, PUCHAR Minors,
    ULONG Count) {
    return WDF(WdfDeviceInitAssignWdmIrpPreprocessCallback, WDFDEVICEINITASSIGNWDMIRPPREPROCESSCALLBACK, Init, Callback,
        Major, Minors, Count);
}

static NTSTATUS SetUp(PWDFDEVICE_INIT Init) {
    UCHAR Minors[] = {IRP_MN_SET_LOCK};
    WDF_PNPPOWER_EVENT_CALLBACKS Callbacks = {.Size = sizeof(Callbacks), .EvtDeviceD0Entry = D0Entry, .EvtDeviceD0Exit = D0Exit};
    WDF_POWER_POLICY_EVENT_CALLBACKS Policy = {
        .Size = sizeof(Policy), .EvtDeviceArmWakeFromS0 = NeverArmed, .EvtDeviceArmWakeFromSx = NeverArmed};
    WDF(WdfDeviceInitSetPnpPowerEventCallbacks, WDFDEVICEINITSETPNPPOWEREVENTCALLBACKS, Init, &Callbacks);
    WDF(WdfDeviceInitSetPowerPolicyEventCallbacks, WDFDEVICEINITSETPOWERPOLICYEVENTCALLBACKS, Init, &Policy);
    CHECK(NT_SUCCESS(Preprocess(Init, EvtPreprocessRead, IRP_MJ_READ, NULL, 0)));
    CHECK(NT_SUCCESS(Preprocess(Init, EvtPreprocessWrite, IRP_MJ_WRITE, NULL, 0)));
    CHECK(NT_SUCCESS(Preprocess(Init, EvtPreprocessInternal, IRP_MJ_INTERNAL_DEVICE_CONTROL, NULL, 0)));
    CHECK(NT_SUCCESS(Preprocess(Init, EvtPreprocessFlush, IRP_MJ_FLUSH_BUFFERS, NULL, 0)));
    CHECK(NT_SUCCESS(Preprocess(Init, EvtPreprocessPnp, IRP_MJ_PNP, Minors, 1)));
    CHECK(Preprocess(Init, EvtPreprocessPnp, IRP_MJ_PNP, Minors, 1) == STATUS_INVALID_DEVICE_REQUEST);
    CHECK(Preprocess(Init, EvtPreprocessPnp, IRP_MJ_MAXIMUM_FUNCTION + 1, NULL, 0) == STATUS_INVALID_PARAMETER);
    WDF(WdfDeviceInitSetIoInCallerContextCallback, WDFDEVICEINITSETIOINCALLERCONTEXTCALLBACK, Init, EvtIoInCallerContext);
    return STATUS_SUCCESS;
}

static const GUID Class = {0x4d36e97d, 0xe325, 0x11ce, {0xbf, 0xc1, 0x08, 0x00, 0x2b, 0xe1, 0x03, 0x18}};

static NTSTATUS NTAPI EvtDriverDeviceAdd(WDFDRIVER Driver_, PWDFDEVICE_INIT Init) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\Verifier"), Link = RTL_CONSTANT_STRING(L"\\DosDevices\\Verifier");
    WDF_OBJECT_ATTRIBUTES Attributes = {.Size = sizeof(Attributes), .ExecutionLevel = WdfExecutionLevelPassive,
        .SynchronizationScope = WdfSynchronizationScopeInheritFromParent, .EvtCleanupCallback = EvtDeviceCleanup};
    WDF_IO_QUEUE_CONFIG Default = {.Size = sizeof(Default), .PowerManaged = WdfUseDefault, .DefaultQueue = TRUE,
        .AllowZeroLengthRequests = TRUE, .DispatchType = WdfIoQueueDispatchParallel, .EvtIoDeviceControl = EvtIoDeviceControl,
        .EvtIoRead = EvtIoTransfer, .EvtIoWrite = EvtIoTransfer};
    WDF_IO_QUEUE_CONFIG Second = {.Size = sizeof(Second), .PowerManaged = WdfUseDefault,
        .DispatchType = WdfIoQueueDispatchSequential, .EvtIoDefault = EvtIoChosen};
    NTSTATUS Status;
    UNREFERENCED_PARAMETER(Driver_);
    Before = AskBefore(Init);
    Status = SetUp(Init);
    if (!NT_SUCCESS(Status))
        return Status;
    /* A name is needed to protect a device by its class. */
    WDF(WdfDeviceInitSetDeviceClass, WDFDEVICEINITSETDEVICECLASS, Init, &Class);
    if (WDF(WdfDeviceCreate, WDFDEVICECREATE, &Init, &Attributes, &Device) != STATUS_INVALID_SECURITY_DESCR)
        return STATUS_UNSUCCESSFUL;
    WDF(WdfDeviceInitAssignName, WDFDEVICEINITASSIGNNAME, Init, &Name);
    Status = WDF(WdfDeviceCreate, WDFDEVICECREATE, &Init, &Attributes, &Device);
    if (!NT_SUCCESS(Status))
        return Status;
    StoppedBefore = StopIdle(FALSE);
    Status = NewControlDevice();
    if (NT_SUCCESS(Status))
        Status = WDF(WdfDeviceCreateSymbolicLink, WDFDEVICECREATESYMBOLICLINK, Device, &Link);
    Default.Settings.Parallel.NumberOfPresentedRequests = (ULONG)-1;
    if (NT_SUCCESS(Status))
        Status = WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Device, &Default, NULL, NULL);
    if (NT_SUCCESS(Status))
        Status = WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Device, &Second, NULL, &Chosen);
    return Status;
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    WDF_DRIVER_CONFIG Config = {.Size = sizeof(Config), .EvtDriverDeviceAdd = EvtDriverDeviceAdd};
    return WDF(WdfDriverCreate, WDFDRIVERCREATE, DriverObject, RegistryPath, NULL, &Config, &Driver);
}
