/* A driver whose device does one thing at a time, by its name: rightly, or with the one fault that a rule forbids. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>

#define TAG 'tseT'

/* Backtraces are to name the function that errs. */
#define IN_BACKTRACES __attribute__((noinline, disable_tail_calls))

typedef struct {
    PDEVICE_OBJECT Device;
    PIRP Irp;      /* the request; NULL once the behaviour has dealt with it */
    BOOLEAN Wrong; /* whether to commit the fault */
} CALL;

#define BEHAVIOUR(Name) IN_BACKTRACES static NTSTATUS Name(CALL *Call)

typedef struct {
    const char *Name;
    NTSTATUS (*Act)(CALL *Call);
} ROW;

#define ROW_OF(Name) {#Name, Name}

/* The driver's own list, which ends with a row without a name. */
static const ROW Rows[];
/* What it does at its entry (NULL: nothing) and when it is unloaded. */
static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT DriverObject);
static VOID (*const AtUnload)(VOID);

#define CONTROL_CODE CTL_CODE(FILE_DEVICE_UNKNOWN, 1, METHOD_BUFFERED, FILE_ANY_ACCESS)

IN_BACKTRACES static VOID Complete(PIRP Irp, NTSTATUS Status) {
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
}

static BOOLEAN SameName(const char *Left, const char *Right) {
    while (*Left != 0 && *Left == *Right)
        Left++, Right++;
    return *Left == *Right;
}

/* The input: whether to commit the fault, and the behaviour's name with its final zero. */
IN_BACKTRACES static NTSTATUS NTAPI DispatchControl(PDEVICE_OBJECT Device, PIRP Irp) {
    const char *Input = Irp->AssociatedIrp.SystemBuffer;
    CALL Call = {.Device = Device, .Irp = Irp, .Wrong = Input[0] != 0};
    const ROW *Row;
    NTSTATUS Status = STATUS_NOT_IMPLEMENTED;
    for (Row = Rows; Row->Name != NULL && !SameName(Row->Name, Input + 1);)
        Row++;
    if (Row->Name != NULL)
        Status = Row->Act(&Call);
    if (Call.Irp != NULL)
        Complete(Call.Irp, Status);
    return Status;
}

static NTSTATUS NTAPI DispatchOther(PDEVICE_OBJECT Device, PIRP Irp) {
    UNREFERENCED_PARAMETER(Device);
    Complete(Irp, STATUS_SUCCESS);
    return STATUS_SUCCESS;
}

IN_BACKTRACES static VOID NTAPI Unload(PDRIVER_OBJECT DriverObject) {
    /* Completion routines that have set their event may not have returned yet. */
    KeFlushQueuedDpcs();
    UNICODE_STRING Link = RTL_CONSTANT_STRING(L"\\DosDevices\\Verifier");
    if (AtUnload != NULL)
        AtUnload();
    IoDeleteSymbolicLink(&Link);
    IoDeleteDevice(DriverObject->DeviceObject);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\Verifier");
    UNICODE_STRING Link = RTL_CONSTANT_STRING(L"\\DosDevices\\Verifier");
    PDEVICE_OBJECT Device;
    NTSTATUS Status;
    ULONG Major;
    UNREFERENCED_PARAMETER(RegistryPath);
    for (Major = 0; Major <= IRP_MJ_MAXIMUM_FUNCTION; Major++)
        DriverObject->MajorFunction[Major] = DispatchOther;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = DispatchControl;
    DriverObject->DriverUnload = Unload;
    if (AtEntry != NULL) {
        Status = AtEntry(DriverObject);
        if (!NT_SUCCESS(Status))
            return Status;
    }
    Status = IoCreateDevice(DriverObject, 0, &Name, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device);
    if (NT_SUCCESS(Status))
        Status = IoCreateSymbolicLink(&Link, &Name);
    return Status;
}
