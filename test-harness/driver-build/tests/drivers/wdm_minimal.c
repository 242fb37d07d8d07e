#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>

static VOID NTAPI Unload(PDRIVER_OBJECT DriverObject) { DbgPrint("unloaded %p\n", DriverObject); }

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    DriverObject->DriverUnload = Unload;
    return RegistryPath->Length == 0 ? STATUS_INVALID_PARAMETER : STATUS_SUCCESS;
}
