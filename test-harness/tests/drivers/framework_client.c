/* The least client of a framework: it calls one function, and can be unloaded. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>
#include <wdf.h>

NTSTATUS DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    WDF_DRIVER_CONFIG Config = {.Size = sizeof(Config), .DriverInitFlags = WdfDriverInitNonPnpDriver};
    return ((PFN_WDFDRIVERCREATE)WdfFunctions[WdfDriverCreateTableIndex])(
        WdfDriverGlobals, DriverObject, RegistryPath, NULL, &Config, NULL);
}
