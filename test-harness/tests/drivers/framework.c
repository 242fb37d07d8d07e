/* A framework that WDFLDR.SYS loads in the place of Wdf01000.sys: it says what the loader tells it, and has one function. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>

typedef VOID (*WDFFUNC)(VOID);

/* fxldr.h of the published KMDF source. */
typedef struct _WDF_BIND_INFO {
    ULONG Size;
    PWCHAR Component;
    ULONG Version[3];
    ULONG FuncCount;
    const WDFFUNC **FuncTable;
    PVOID Module;
} WDF_BIND_INFO;

typedef struct _CLIENT_INFO {
    ULONG Size;
    PUNICODE_STRING RegistryPath;
    PDRIVER_OBJECT DriverObject;
} CLIENT_INFO;

typedef struct _WDF_DRIVER_GLOBALS {
    PVOID Driver;
    ULONG DriverFlags;
    ULONG DriverTag;
    CHAR DriverName[32];
    BOOLEAN DisplaceDriverUnload;
} WDF_DRIVER_GLOBALS;

typedef struct _WDF_LIBRARY_INFO {
    ULONG Size;
    NTSTATUS (*LibraryCommission)(VOID);
    NTSTATUS (*LibraryDecommission)(VOID);
    NTSTATUS (*LibraryRegisterClient)(WDF_BIND_INFO *, WDF_DRIVER_GLOBALS **, PVOID *);
    NTSTATUS (*LibraryUnregisterClient)(WDF_BIND_INFO *, WDF_DRIVER_GLOBALS *);
    ULONG Version[3];
} WDF_LIBRARY_INFO;

NTSTATUS WdfRegisterLibrary(WDF_LIBRARY_INFO *LibraryInfo, PUNICODE_STRING ServicePath, PUNICODE_STRING LibraryDeviceName);

enum { FUNCTIONS = 458, TAG = 'karF' };

static WDFFUNC Functions[FUNCTIONS];

/* WdfDriverCreate and all the rest. */
static NTSTATUS Function(WDF_DRIVER_GLOBALS *Globals, PDRIVER_OBJECT DriverObject) {
    DriverObject->DriverUnload = NULL;
    Globals->DisplaceDriverUnload = TRUE;
    return STATUS_SUCCESS;
}

static NTSTATUS LibraryCommission(VOID) {
    DbgPrint("commissioned\n");
    return STATUS_SUCCESS;
}

static NTSTATUS LibraryDecommission(VOID) {
    DbgPrint("decommissioned\n");
    return STATUS_SUCCESS;
}

static NTSTATUS LibraryRegisterClient(WDF_BIND_INFO *Info, WDF_DRIVER_GLOBALS **Globals, PVOID *Context) {
    CLIENT_INFO *Client = *Context;
    UNICODE_STRING Name = *Client->RegistryPath;
    Name.Buffer += Name.Length / sizeof(WCHAR) - 6;
    Name.Length = 6 * sizeof(WCHAR);
    DbgPrint("%wZ: %u of %u bytes, functions %u, driver %d\n", &Name, Client->Size, Info->Size, Info->FuncCount,
             Client->DriverObject->DriverInit != NULL);
    if (RtlCompareMemory(Name.Buffer, L"refuse", Name.Length) == Name.Length)
        return STATUS_NOT_SUPPORTED;
    *Globals = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(**Globals), TAG);
    if (*Globals == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    *Info->FuncTable = Functions;
    *Context = *Globals;
    if (RtlCompareMemory(Name.Buffer, L"keeper", Name.Length) == Name.Length)
        ExAllocatePool2(POOL_FLAG_NON_PAGED, 16, TAG);
    return STATUS_SUCCESS;
}

static NTSTATUS LibraryUnregisterClient(WDF_BIND_INFO *Info, WDF_DRIVER_GLOBALS *Globals) {
    DbgPrint("unregistered %u\n", Info->FuncCount);
    ExFreePoolWithTag(Globals, TAG);
    return STATUS_SUCCESS;
}

static WDF_LIBRARY_INFO Library = {
    sizeof(Library), LibraryCommission, LibraryDecommission, LibraryRegisterClient, LibraryUnregisterClient, {1, 33, 0}};

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    UNICODE_STRING Device = RTL_CONSTANT_STRING(L"\\Device\\KMDF0");
    (void)DriverObject;
    for (ULONG Index = 0; Index < FUNCTIONS; Index++)
        Functions[Index] = (WDFFUNC)Function;
    return WdfRegisterLibrary(&Library, RegistryPath, &Device);
}
