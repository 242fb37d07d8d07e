/* sanwsk-block.sys: a WDM driver that connects, sends a block, receives it and compares, over streams and SAN sessions of
 * sanwsk.sys. block.h says what programs ask of it.
 *
 * It does everything in the thread that asks, and waits for each operation; a driver with more to do goes on in its
 * completions. sanwsk.sys has to be loaded before it (sc config sanwsk-block depend= sanwsk). */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>

#include "../../include/sanwsk_kernel.h"
#include "block.h"

#define TAG 'BnaS'
#define SECONDS(Count) (-(Count) * 10000000LL)

DRIVER_INITIALIZE DriverEntry;

/* The functions, and the open device that they come from. */
static SANWSK_INTERFACE San;
static PFILE_OBJECT SanFile;

/* Opens the device of sanwsk.sys, and asks for the functions. IRQL = PASSIVE_LEVEL. */
static NTSTATUS GetInterface(VOID) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(SANWSK_DEVICE_NAME);
    SANWSK_GET_INTERFACE Get = {.Version = SANWSK_INTERFACE_VERSION, .Size = sizeof(San)};
    PDEVICE_OBJECT Device;
    IO_STATUS_BLOCK Block;
    KEVENT Event;
    PIRP Irp;
    NTSTATUS Status = IoGetDeviceObjectPointer(&Name, FILE_READ_DATA | FILE_WRITE_DATA, &SanFile, &Device);
    if (!NT_SUCCESS(Status))
        return Status;
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    Irp = IoBuildDeviceIoControlRequest(IOCTL_INTERNAL_SANWSK_GET_INTERFACE, Device, &Get, sizeof(Get), &San, sizeof(San), TRUE,
                                        &Event, &Block);
    if (Irp == NULL) {
        Status = STATUS_INSUFFICIENT_RESOURCES;
    } else {
        /* The interface holds a reference to the file. */
        IoGetNextIrpStackLocation(Irp)->FileObject = SanFile;
        Status = IoCallDriver(Device, Irp);
        if (Status == STATUS_PENDING) {
            KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
            Status = Block.Status;
        }
    }
    if (!NT_SUCCESS(Status))
        ObDereferenceObject(SanFile);
    return Status;
}

static VOID ReleaseInterface(VOID) {
    San.InterfaceDereference(San.Context);
    ObDereferenceObject(SanFile);
}

/* An operation that a thread waits for. */
typedef struct _WAITED {
    PSANWSK_OPERATION Operation;
    KEVENT Done;
    NTSTATUS Status;
    ULONG_PTR Information;
} WAITED, *PWAITED;

static SANWSK_COMPLETION Completed;

static VOID NTAPI Completed(PSANWSK_OPERATION Operation, PVOID Context, NTSTATUS Status, ULONG_PTR Information) {
    PWAITED Waited = Context;
    UNREFERENCED_PARAMETER(Operation);
    Waited->Status = Status;
    Waited->Information = Information;
    KeSetEvent(&Waited->Done, IO_NO_INCREMENT, FALSE);
}

/* What an operation comes to, of which Begun is what its function has returned. One that does not end is cancelled. */
static NTSTATUS Wait(PWAITED Waited, NTSTATUS Begun) {
    LARGE_INTEGER Timeout = {.QuadPart = SECONDS(30)};
    if (Begun != STATUS_PENDING)
        return Begun;
    if (KeWaitForSingleObject(&Waited->Done, Executive, KernelMode, FALSE, &Timeout) == STATUS_TIMEOUT) {
        San.CancelOperation(Waited->Operation);
        KeWaitForSingleObject(&Waited->Done, Executive, KernelMode, FALSE, NULL);
    }
    return Waited->Status;
}

/* A connection, and all that an exchange needs: one operation to send, one to receive, a buffer for each. */
typedef struct _EXCHANGE {
    SANWSK_CLIENT Client;
    SANWSK_ENDPOINT_ID Endpoint;
    WAITED Sending, Receiving;
    PULONGLONG Sent, Received;
    PMDL SentMdl, ReceivedMdl;
    ULONGLONG Words;
    BLOCK_REPLY Reply;
} EXCHANGE, *PEXCHANGE;

static NTSTATUS MakeOperation(PWAITED Waited) {
    Waited->Operation = ExAllocatePool2(POOL_FLAG_NON_PAGED, San.OperationSize, TAG);
    if (Waited->Operation == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    KeInitializeEvent(&Waited->Done, SynchronizationEvent, FALSE);
    return San.InitializeOperation(Waited->Operation, Completed, Waited);
}

static NTSTATUS MakeBuffer(ULONG Length, PULONGLONG *Buffer, PMDL *Mdl) {
    *Buffer = ExAllocatePool2(POOL_FLAG_NON_PAGED, Length, TAG);
    if (*Buffer == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    *Mdl = IoAllocateMdl(*Buffer, Length, FALSE, FALSE, NULL);
    if (*Mdl == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    MmBuildMdlForNonPagedPool(*Mdl);
    return STATUS_SUCCESS;
}

static NTSTATUS Make(PEXCHANGE Exchange, ULONG BlockLength) {
    NTSTATUS Status = MakeOperation(&Exchange->Sending);
    if (NT_SUCCESS(Status))
        Status = MakeOperation(&Exchange->Receiving);
    if (NT_SUCCESS(Status))
        Status = MakeBuffer(BlockLength, &Exchange->Sent, &Exchange->SentMdl);
    if (NT_SUCCESS(Status))
        Status = MakeBuffer(BlockLength, &Exchange->Received, &Exchange->ReceivedMdl);
    return Status;
}

/* Frees what Make has made. Nothing of it is under way. */
static VOID Free(PEXCHANGE Exchange) {
    PVOID Blocks[] = {Exchange->Sending.Operation, Exchange->Receiving.Operation, Exchange->Sent, Exchange->Received};
    PMDL Mdls[] = {Exchange->SentMdl, Exchange->ReceivedMdl};
    ULONG At;
    for (At = 0; At < ARRAYSIZE(Mdls); At++)
        if (Mdls[At] != NULL)
            IoFreeMdl(Mdls[At]);
    for (At = 0; At < ARRAYSIZE(Blocks); At++)
        if (Blocks[At] != NULL)
            ExFreePoolWithTag(Blocks[At], TAG);
}

static NTSTATUS Connect(PEXCHANGE Exchange, const BLOCK_REQUEST *Request) {
    PWAITED Waited = &Exchange->Sending;
    BOOLEAN Messages = Request->Kind == SanWskEndpointKindSan;
    NTSTATUS Status = San.Create(Exchange->Client, Request->Kind, Request->Remote.Family, &Exchange->Endpoint);
    if (NT_SUCCESS(Status) && Messages)
        Status = Wait(Waited, San.Bind(Exchange->Client, Waited->Operation, Exchange->Endpoint, &Request->Local, NULL));
    if (NT_SUCCESS(Status))
        Status = Wait(Waited, San.Connect(Exchange->Client, Waited->Operation, Exchange->Endpoint, &Request->Remote, 20000));
    if (NT_SUCCESS(Status) && Messages)
        Status = Wait(Waited, San.Negotiate(Exchange->Client, Waited->Operation, Exchange->Endpoint, "block", 5,
                                            Request->BlockLength, NULL));
    return Status;
}

/* Bytes that are different everywhere: splitmix64 of a counter. */
static VOID Fill(PEXCHANGE Exchange, ULONG Words) {
    ULONG At;
    for (At = 0; At < Words; At++) {
        ULONGLONG Word = ++Exchange->Words * 0x9E3779B97F4A7C15ULL;
        Word = (Word ^ (Word >> 30)) * 0xBF58476D1CE4E5B9ULL;
        Word = (Word ^ (Word >> 27)) * 0x94D049BB133111EBULL;
        Exchange->Sent[At] = Word ^ (Word >> 31);
    }
}

static ULONGLONG Hash(ULONGLONG Before, const ULONGLONG *Words, ULONG Count) {
    while (Count-- > 0)
        Before = (Before ^ *Words++) * 0x100000001B3ULL;
    return Before;
}

/* Sends a block, receives it and compares. */
static NTSTATUS ExchangeBlock(PEXCHANGE Exchange, ULONG Kind, ULONG Length) {
    ULONG Flags = Kind == SanWskEndpointKindSan ? 0 : SANWSK_RECEIVE_ALL;
    ULONG Words = Length / sizeof(ULONGLONG);
    NTSTATUS Receiving, Sent, Received;
    Fill(Exchange, Words);
    /* The receive is there before the block can come back. */
    Receiving = San.Receive(Exchange->Client, Exchange->Receiving.Operation, Exchange->Endpoint, Exchange->ReceivedMdl, 0, Length,
                            Flags);
    Sent = Wait(&Exchange->Sending, San.Send(Exchange->Client, Exchange->Sending.Operation, Exchange->Endpoint,
                                             Exchange->SentMdl, 0, Length));
    if (!NT_SUCCESS(Sent) && Receiving == STATUS_PENDING)
        San.CancelOperation(Exchange->Receiving.Operation);
    Received = Wait(&Exchange->Receiving, Receiving);
    if (!NT_SUCCESS(Sent))
        return Sent;
    if (!NT_SUCCESS(Received))
        return Received;
    Exchange->Reply.SentHash = Hash(Exchange->Reply.SentHash, Exchange->Sent, Words);
    Exchange->Reply.ReceivedHash = Hash(Exchange->Reply.ReceivedHash, Exchange->Received, Words);
    if (Exchange->Receiving.Information != Length ||
        RtlCompareMemory(Exchange->Sent, Exchange->Received, Length) != Length)
        return STATUS_DATA_ERROR;
    return STATUS_SUCCESS;
}

static NTSTATUS DoExchange(const BLOCK_REQUEST *Request, PBLOCK_REPLY Reply) {
    const ULONGLONG Seed = 0xCBF29CE484222325ULL;
    EXCHANGE Exchange = {.Reply = {Seed, Seed}};
    ULONGLONG At;
    NTSTATUS Status;
    if (Request->BlockLength == 0 || Request->BlockLength > BLOCK_MAX_LENGTH || Request->BlockLength % sizeof(ULONGLONG) != 0)
        return STATUS_INVALID_PARAMETER;
    if (Request->Kind != SanWskEndpointKindSan && Request->Kind != SanWskEndpointKindStreamConnection)
        return STATUS_INVALID_PARAMETER;
    Status = Make(&Exchange, Request->BlockLength);
    if (NT_SUCCESS(Status))
        Status = San.OpenClient(San.Context, &Exchange.Client);
    if (NT_SUCCESS(Status)) {
        Status = Connect(&Exchange, Request);
        for (At = 0; At < Request->Blocks && NT_SUCCESS(Status); At++)
            Status = ExchangeBlock(&Exchange, Request->Kind, Request->BlockLength);
        if (NT_SUCCESS(Status))
            Status = Wait(&Exchange.Sending, San.Disconnect(Exchange.Client, Exchange.Sending.Operation, Exchange.Endpoint, 0));
        /* No operation: waits until everything of the client is over. */
        San.CloseClient(Exchange.Client, NULL);
    }
    Free(&Exchange);
    *Reply = Exchange.Reply;
    return Status;
}

static VOID Complete(PIRP Irp, NTSTATUS Status, ULONG_PTR Information) {
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
}

static DRIVER_DISPATCH DispatchControl;

static NTSTATUS NTAPI DispatchControl(PDEVICE_OBJECT Device, PIRP Irp) {
    PIO_STACK_LOCATION Location = IoGetCurrentIrpStackLocation(Irp);
    BLOCK_REQUEST Request;
    BLOCK_REPLY Reply = {0};
    NTSTATUS Status;
    UNREFERENCED_PARAMETER(Device);
    if (Location->Parameters.DeviceIoControl.IoControlCode != IOCTL_BLOCK_EXCHANGE)
        Status = STATUS_INVALID_DEVICE_REQUEST;
    else if (Location->Parameters.DeviceIoControl.InputBufferLength != sizeof(Request) ||
             Location->Parameters.DeviceIoControl.OutputBufferLength < sizeof(Reply))
        Status = STATUS_INFO_LENGTH_MISMATCH;
    else {
        /* Input and output are one buffer. */
        RtlCopyMemory(&Request, Irp->AssociatedIrp.SystemBuffer, sizeof(Request));
        Status = DoExchange(&Request, &Reply);
        RtlCopyMemory(Irp->AssociatedIrp.SystemBuffer, &Reply, sizeof(Reply));
    }
    Complete(Irp, Status, NT_SUCCESS(Status) ? sizeof(Reply) : 0);
    return Status;
}

static DRIVER_DISPATCH DispatchOpen;

static NTSTATUS NTAPI DispatchOpen(PDEVICE_OBJECT Device, PIRP Irp) {
    UNREFERENCED_PARAMETER(Device);
    Complete(Irp, STATUS_SUCCESS, 0);
    return STATUS_SUCCESS;
}

static DRIVER_UNLOAD Unload;

static UNICODE_STRING Link = RTL_CONSTANT_STRING(L"\\DosDevices\\SanWskBlock");

/* Nobody has the device open: no exchange is under way, and each has closed its client. */
static VOID NTAPI Unload(PDRIVER_OBJECT DriverObject) {
    ReleaseInterface();
    IoDeleteSymbolicLink(&Link);
    IoDeleteDevice(DriverObject->DeviceObject);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\SanWskBlock");
    PDEVICE_OBJECT Device;
    NTSTATUS Status = GetInterface();
    UNREFERENCED_PARAMETER(RegistryPath);
    if (!NT_SUCCESS(Status))
        return Status;
    DriverObject->MajorFunction[IRP_MJ_CREATE] = DispatchOpen;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = DispatchOpen;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = DispatchControl;
    DriverObject->DriverUnload = Unload;
    Status = IoCreateDevice(DriverObject, 0, &Name, FILE_DEVICE_UNKNOWN, FILE_DEVICE_SECURE_OPEN, FALSE, &Device);
    if (!NT_SUCCESS(Status)) {
        ReleaseInterface();
        return Status;
    }
    Status = IoCreateSymbolicLink(&Link, &Name);
    if (!NT_SUCCESS(Status)) {
        IoDeleteDevice(Device);
        ReleaseInterface();
    }
    return Status;
}
