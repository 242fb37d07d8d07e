/* Stands in for WdfDriverEntry.lib: the image's entry point, which binds the driver to the KMDF 1.31 runtime before
 * DriverEntry runs, and unbinds it after the driver has failed to start or the framework has unloaded it. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>
#include <wdf.h>

#define MAXIMUM_REGISTRY_PATH 260 /* characters */

typedef struct _WDF_BIND_INFO2 {
    ULONG Size;
    const WCHAR *Component;
    struct {
        ULONG Major;
        ULONG Minor;
        ULONG Build;
    } Version;
    ULONG FuncCount;
    const WDFFUNC **FuncTable;
    PVOID Module;
    ULONG *MinimumVersionRequired;
    BOOLEAN *ClientVersionHigherThanFramework;
    ULONG *FuncCountPtr;
    ULONG *StructCountPtr;
    size_t **StructTable;
} WDF_BIND_INFO2;
_Static_assert(sizeof(WDF_BIND_INFO2) == 88, "WDF_BIND_INFO2 of KMDF 1.25 and later");

NTSTATUS NTAPI WdfVersionBind(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath, WDF_BIND_INFO2 *BindInfo,
        PWDF_DRIVER_GLOBALS *Globals);
NTSTATUS NTAPI WdfVersionUnbind(PUNICODE_STRING RegistryPath, WDF_BIND_INFO2 *BindInfo, PWDF_DRIVER_GLOBALS Globals);

DRIVER_INITIALIZE DriverEntry;
DRIVER_INITIALIZE FxDriverEntry;
void __security_init_cookie(void);

const WDFFUNC *WdfFunctions;
WDFFUNC WdfDriverMiniportUnloadOverride;
PWDF_DRIVER_GLOBALS WdfDriverGlobals;
BOOLEAN WdfClientVersionHigherThanFramework;
ULONG WdfFunctionCount;
ULONG WdfStructureCount;
size_t *WdfStructures;

static WDF_BIND_INFO2 BindInfo = {
    .Size = sizeof(WDF_BIND_INFO2),
    .Component = L"KmdfLibrary",
    .Version = {KMDF_VERSION_MAJOR, KMDF_VERSION_MINOR, 0},
    .FuncCount = WdfFunctionTableNumEntries,
    .FuncTable = &WdfFunctions,
    .MinimumVersionRequired = &WdfMinimumVersionRequired,
    .ClientVersionHigherThanFramework = &WdfClientVersionHigherThanFramework,
    .FuncCountPtr = &WdfFunctionCount,
    .StructCountPtr = &WdfStructureCount,
    .StructTable = &WdfStructures,
};

/* The caller's registry path is gone when DriverEntry has returned, and unbinding needs it. */
static WCHAR RegistryPathBuffer[MAXIMUM_REGISTRY_PATH];
static UNICODE_STRING RegistryPathCopy = {0, sizeof(RegistryPathBuffer), RegistryPathBuffer};

static PDRIVER_UNLOAD FrameworkUnload;
static WDFFUNC MiniportUnload;

static void Unbind(void) { (void)WdfVersionUnbind(&RegistryPathCopy, &BindInfo, WdfDriverGlobals); }

static VOID NTAPI UnloadThenUnbind(PDRIVER_OBJECT DriverObject) {
    if (FrameworkUnload != NULL) {
        FrameworkUnload(DriverObject);
    }
    Unbind();
}

/* A driver that left its dispatch table to a port driver is unloaded by that one, through this hook. */
static VOID NTAPI MiniportUnloadThenUnbind(VOID) {
    if (MiniportUnload != NULL) {
        MiniportUnload();
    }
    Unbind();
}

NTSTATUS NTAPI FxDriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    NTSTATUS Status;

    __security_init_cookie();

    /* Loaded as a library of another driver: there is no driver object to bind. */
    if (DriverObject == NULL) {
        return DriverEntry(DriverObject, RegistryPath);
    }

    RtlCopyUnicodeString(&RegistryPathCopy, RegistryPath);
    Status = WdfVersionBind(DriverObject, &RegistryPathCopy, &BindInfo, &WdfDriverGlobals);
    if (!NT_SUCCESS(Status)) {
        return Status;
    }

    Status = DriverEntry(DriverObject, RegistryPath);
    if (!NT_SUCCESS(Status)) {
        Unbind();
        return Status;
    }

    /* The framework says in its globals whether the driver can be unloaded: then DriverUnload is the framework's routine. */
    if (WdfDriverGlobals->DisplaceDriverUnload) {
        FrameworkUnload = DriverObject->DriverUnload;
        DriverObject->DriverUnload = UnloadThenUnbind;
    } else if (WdfDriverGlobals->DriverFlags & WdfDriverInitNoDispatchOverride) {
        MiniportUnload = WdfDriverMiniportUnloadOverride;
        WdfDriverMiniportUnloadOverride = MiniportUnloadThenUnbind;
    }
    return Status;
}
