/* An IRP for a call of WSK, and the wait for its end. */

typedef struct {
    PIRP Irp;
    KEVENT Done;
} OPERATION;

static NTSTATUS NTAPI Completed(PDEVICE_OBJECT Device, PIRP Irp, PVOID Event) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Event, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID Arm(OPERATION *Operation) {
    KeInitializeEvent(&Operation->Done, NotificationEvent, FALSE);
    IoSetCompletionRoutine(Operation->Irp, Completed, &Operation->Done, TRUE, TRUE, TRUE);
}

static PIRP New(OPERATION *Operation) {
    Operation->Irp = IoAllocateIrp(1, FALSE);
    Arm(Operation);
    return Operation->Irp;
}

/* Waits for the end; Information is the new socket, where there is one. */
static NTSTATUS End(OPERATION *Operation, PVOID *Information) {
    NTSTATUS Status;
    KeWaitForSingleObject(&Operation->Done, Executive, KernelMode, FALSE, NULL);
    Status = Operation->Irp->IoStatus.Status;
    if (Information != NULL)
        *Information = NT_SUCCESS(Status) ? (PVOID)Operation->Irp->IoStatus.Information : NULL;
    IoFreeIrp(Operation->Irp);
    return Status;
}
