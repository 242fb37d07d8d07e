/* A function driver and a filter above it, of one driver: the framework's AddDevice routine is called again for the filter. The filter
 * takes writes and what it is asked for by code 1; everything else goes on to the function device. */
#include <ntifs.h>
#include <ntddk.h>
#include <wdf.h>

#include "kmdf_power.h"

#define WDF(Name, Type, ...) (((PFN_##Type)WdfFunctions[Name##TableIndex])(WdfDriverGlobals, ##__VA_ARGS__))

/* The device control that the filter answers. */
enum { FILTERED = 1 };

static PDRIVER_OBJECT Own;
static WDFDEVICE Function, Filter;

static VOID Complete(WDFREQUEST Request, NTSTATUS Status, ULONG_PTR Information) {
    WDF(WdfRequestCompleteWithInformation, WDFREQUESTCOMPLETEWITHINFORMATION, Request, Status, Information);
}

static NTSTATUS NTAPI D0Entry(WDFDEVICE Device, int State) {
    UNREFERENCED_PARAMETER(State);
    DbgPrint("D0 entry of the %s\n", Device == Filter ? "filter" : "function");
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI D0Exit(WDFDEVICE Device, int State) {
    UNREFERENCED_PARAMETER(State);
    DbgPrint("D0 exit of the %s\n", Device == Filter ? "filter" : "function");
    return STATUS_SUCCESS;
}

static VOID NTAPI EvtDeviceFileCreate(WDFDEVICE Device, WDFREQUEST Request, WDFFILEOBJECT File) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(File);
    DbgPrint("create\n");
    Complete(Request, STATUS_SUCCESS, 0);
}

static VOID NTAPI EvtFileCleanup(WDFFILEOBJECT File) {
    UNREFERENCED_PARAMETER(File);
    DbgPrint("cleanup\n");
}

static VOID NTAPI EvtFileClose(WDFFILEOBJECT File) {
    UNREFERENCED_PARAMETER(File);
    DbgPrint("close\n");
}

static VOID NTAPI EvtFilterFileCleanup(WDFFILEOBJECT File) {
    UNREFERENCED_PARAMETER(File);
    DbgPrint("cleanup in the filter\n");
}

/* How the function device and the filter answer differs. */
static VOID NTAPI EvtFunctionTransfer(WDFQUEUE Queue, WDFREQUEST Request, size_t Length) {
    UNREFERENCED_PARAMETER(Queue);
    UNREFERENCED_PARAMETER(Length);
    Complete(Request, STATUS_SUCCESS, 3);
}

static VOID NTAPI EvtFilterTransfer(WDFQUEUE Queue, WDFREQUEST Request, size_t Length) {
    UNREFERENCED_PARAMETER(Queue);
    UNREFERENCED_PARAMETER(Length);
    Complete(Request, STATUS_SUCCESS, 2);
}

static VOID NTAPI EvtFunctionControl(WDFQUEUE Queue, WDFREQUEST Request, size_t Output, size_t Input, ULONG Code) {
    UNREFERENCED_PARAMETER(Queue);
    UNREFERENCED_PARAMETER(Output);
    UNREFERENCED_PARAMETER(Input);
    UNREFERENCED_PARAMETER(Code);
    Complete(Request, STATUS_SUCCESS, 4);
}

static VOID NTAPI EvtIoInCallerContext(WDFDEVICE Device, WDFREQUEST Request) {
    WDF_REQUEST_PARAMETERS Parameters = {.Size = sizeof(Parameters)};
    WDF(WdfRequestGetParameters, WDFREQUESTGETPARAMETERS, Request, &Parameters);
    if (Parameters.Type == WdfRequestTypeDeviceControl &&
        ((Parameters.Parameters.DeviceIoControl.IoControlCode >> 2) & 0xFFF) == FILTERED)
        Complete(Request, STATUS_SUCCESS, 1);
    else if (!NT_SUCCESS(WDF(WdfDeviceEnqueueRequest, WDFDEVICEENQUEUEREQUEST, Device, Request)))
        Complete(Request, STATUS_UNSUCCESSFUL, 0);
}

static NTSTATUS NewFilter(PWDFDEVICE_INIT Init) {
    WDF_IO_QUEUE_CONFIG Default = {.Size = sizeof(Default), .PowerManaged = WdfUseDefault, .DefaultQueue = TRUE,
        .DispatchType = WdfIoQueueDispatchSequential, .EvtIoWrite = EvtFilterTransfer};
    WDF_FILEOBJECT_CONFIG Files = {.Size = sizeof(Files), .AutoForwardCleanupClose = WdfUseDefault,
        .FileObjectClass = WdfFileObjectWdfCannotUseFsContexts, .EvtFileCleanup = EvtFilterFileCleanup};
    PDEVICE_OBJECT Upper, Lower;
    NTSTATUS Status;
    WDF(WdfFdoInitSetFilter, WDFFDOINITSETFILTER, Init);
    WDF(WdfDeviceInitSetIoInCallerContextCallback, WDFDEVICEINITSETIOINCALLERCONTEXTCALLBACK, Init, EvtIoInCallerContext);
    WDF(WdfDeviceInitSetFileObjectConfig, WDFDEVICEINITSETFILEOBJECTCONFIG, Init, &Files, NULL);
    Status = WDF(WdfDeviceCreate, WDFDEVICECREATE, &Init, NULL, &Filter);
    if (!NT_SUCCESS(Status))
        return Status;
    /* It looks like what it filters. */
    Upper = WDF(WdfDeviceWdmGetDeviceObject, WDFDEVICEWDMGETDEVICEOBJECT, Filter);
    Lower = WDF(WdfDeviceWdmGetDeviceObject, WDFDEVICEWDMGETDEVICEOBJECT, Function);
    if (WDF(WdfDeviceWdmGetAttachedDevice, WDFDEVICEWDMGETATTACHEDDEVICE, Filter) != Lower ||
        Upper->DeviceType != FILE_DEVICE_SERIAL_PORT || !(Upper->Flags & DO_DIRECT_IO) || (Upper->Flags & DO_BUFFERED_IO))
        return STATUS_UNSUCCESSFUL;
    return WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Filter, &Default, NULL, NULL);
}

static NTSTATUS NTAPI EvtDriverDeviceAdd(WDFDRIVER Driver, PWDFDEVICE_INIT Init) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\Filtered"), Link = RTL_CONSTANT_STRING(L"\\DosDevices\\Filtered");
    WDF_PNPPOWER_EVENT_CALLBACKS Callbacks = {.Size = sizeof(Callbacks), .EvtDeviceD0Entry = D0Entry, .EvtDeviceD0Exit = D0Exit};
    WDF_FILEOBJECT_CONFIG Files = {.Size = sizeof(Files), .AutoForwardCleanupClose = WdfUseDefault,
        .FileObjectClass = WdfFileObjectWdfCannotUseFsContexts, .EvtDeviceFileCreate = EvtDeviceFileCreate,
        .EvtFileCleanup = EvtFileCleanup, .EvtFileClose = EvtFileClose};
    WDF_IO_QUEUE_CONFIG Default = {.Size = sizeof(Default), .PowerManaged = WdfUseDefault, .DefaultQueue = TRUE,
        .DispatchType = WdfIoQueueDispatchSequential, .EvtIoRead = EvtFunctionTransfer, .EvtIoWrite = EvtFunctionTransfer,
        .EvtIoDeviceControl = EvtFunctionControl};
    NTSTATUS Status;
    UNREFERENCED_PARAMETER(Driver);
    WDF(WdfDeviceInitSetPnpPowerEventCallbacks, WDFDEVICEINITSETPNPPOWEREVENTCALLBACKS, Init, &Callbacks);
    if (Function != NULL)
        return NewFilter(Init);
    WDF(WdfDeviceInitAssignName, WDFDEVICEINITASSIGNNAME, Init, &Name);
    WDF(WdfDeviceInitSetDeviceType, WDFDEVICEINITSETDEVICETYPE, Init, FILE_DEVICE_SERIAL_PORT);
    WDF(WdfDeviceInitSetIoType, WDFDEVICEINITSETIOTYPE, Init, WdfDeviceIoDirect);
    WDF(WdfDeviceInitSetFileObjectConfig, WDFDEVICEINITSETFILEOBJECTCONFIG, Init, &Files, NULL);
    Status = WDF(WdfDeviceCreate, WDFDEVICECREATE, &Init, NULL, &Function);
    if (NT_SUCCESS(Status))
        Status = WDF(WdfDeviceCreateSymbolicLink, WDFDEVICECREATESYMBOLICLINK, Function, &Link);
    if (NT_SUCCESS(Status))
        Status = WDF(WdfIoQueueCreate, WDFIOQUEUECREATE, Function, &Default, NULL, NULL);
    if (NT_SUCCESS(Status))
        Status = Own->DriverExtension->AddDevice(
            Own, WDF(WdfDeviceWdmGetPhysicalDevice, WDFDEVICEWDMGETPHYSICALDEVICE, Function));
    return NT_SUCCESS(Status) && Filter == NULL ? STATUS_UNSUCCESSFUL : Status;
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    WDF_DRIVER_CONFIG Config = {.Size = sizeof(Config), .EvtDriverDeviceAdd = EvtDriverDeviceAdd};
    Own = DriverObject;
    return WDF(WdfDriverCreate, WDFDRIVERCREATE, DriverObject, RegistryPath, NULL, &Config, NULL);
}
