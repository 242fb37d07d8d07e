/* A plain WDM driver that uses WSK as drivers do which want sockets that block: one IRP and one event a socket, a thread that serves, and
 * device controls that connect and exchange bytes of their caller's memory. */
#include <ntifs.h>
#include <ntddk.h>
#include <ntstrsafe.h>

#include "wsk_client.h"

#define TAG 'kcoS'
#define _byteswap_ushort __builtin_bswap16

enum { LISTEN = 1, CONNECT = 2, ECHO = 3, DISCONNECT = 4, STOP = 5 };

#define WSK_FLAG_GRACEFUL 0
#define AI_NUMERICHOST 4

typedef struct _ADDRINFOEX {
    int Flags, Family, Type, Protocol;
    SIZE_T Length;
    PWSTR CanonicalName;
    SOCKADDR_IN *Address;
    PVOID Blob;
    SIZE_T BlobLength;
    GUID *Provider;
    struct _ADDRINFOEX *Next;
} ADDRINFOEX;

typedef NTSTATUS(NTAPI *GET_ADDRESS_INFO)(PVOID Client, PUNICODE_STRING Node, PUNICODE_STRING Service, ULONG NameSpace,
    GUID *Provider, ADDRINFOEX *Hints, ADDRINFOEX **Result, PEPROCESS Process, PETHREAD Thread, PIRP Irp);
typedef NTSTATUS(NTAPI *GET_NAME_INFO)(PVOID Client, SOCKADDR_IN *Address, ULONG Length, PUNICODE_STRING Node,
    PUNICODE_STRING Service, ULONG Flags, PEPROCESS Process, PETHREAD Thread, PIRP Irp);
typedef VOID(NTAPI *FREE_ADDRESS_INFO)(PVOID Client, ADDRINFOEX *Info);

/* A socket, or no socket yet: what an operation waits with. */
typedef struct {
    PWSK_SOCKET Socket;
    PIRP Irp;
    KEVENT Done;
} SOCKET;

static WSK_REGISTRATION Registration;
static WSK_PROVIDER_NPI Provider;
static const WSK_CLIENT_DISPATCH ClientDispatch = {0x100, 0, NULL};
static NPAGED_LOOKASIDE_LIST Sockets;
/* Signaled while no request is at work: what they call has to be called below APC_LEVEL, where a fast mutex would put them. */
static KEVENT Idle;
static SOCKET *Client, *Listener;
static PVOID Server;
static volatile BOOLEAN Stopping;

static NTSTATUS NTAPI Completed(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent((PKEVENT)Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static SOCKET *New(VOID) {
    SOCKET *Socket = ExAllocateFromNPagedLookasideList(&Sockets);
    if (Socket == NULL)
        return NULL;
    RtlZeroMemory(Socket, sizeof(*Socket));
    KeInitializeEvent(&Socket->Done, SynchronizationEvent, FALSE);
    Socket->Irp = IoAllocateIrp(1, FALSE);
    if (Socket->Irp == NULL) {
        ExFreeToNPagedLookasideList(&Sockets, Socket);
        return NULL;
    }
    IoSetCompletionRoutine(Socket->Irp, Completed, &Socket->Done, TRUE, TRUE, TRUE);
    return Socket;
}

/* Waits for what a function of WSK has begun, and makes the IRP ready for the next one. */
static NTSTATUS Wait(SOCKET *Socket, NTSTATUS Status, ULONG_PTR *Information) {
    if (Status == STATUS_PENDING)
        KeWaitForSingleObject(&Socket->Done, Executive, KernelMode, FALSE, NULL);
    else
        KeClearEvent(&Socket->Done);
    Status = Socket->Irp->IoStatus.Status;
    if (Information != NULL)
        *Information = Socket->Irp->IoStatus.Information;
    IoReuseIrp(Socket->Irp, STATUS_UNSUCCESSFUL);
    IoSetCompletionRoutine(Socket->Irp, Completed, &Socket->Done, TRUE, TRUE, TRUE);
    return Status;
}

static VOID Close(SOCKET *Socket) {
    if (Socket->Socket != NULL)
        Wait(Socket, Socket->Socket->Dispatch->WskCloseSocket(Socket->Socket, Socket->Irp), NULL);
    IoFreeIrp(Socket->Irp);
    ExFreeToNPagedLookasideList(&Sockets, Socket);
}

static NTSTATUS Open(ULONG Flags, USHORT Port, SOCKET **Out) {
    SOCKADDR_IN Local = {.sin_family = AF_INET, .sin_port = RtlUshortByteSwap(Port)};
    SOCKET *Socket = New();
    NTSTATUS Status;
    if (Socket == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    if (Flags == WSK_FLAG_LISTEN_SOCKET)
        Local.sin_addr[0] = 127, Local.sin_addr[3] = 1;
    Status = Wait(Socket,
        Provider.Dispatch->WskSocket(Provider.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, Flags, NULL, NULL, NULL, NULL,
            NULL, Socket->Irp),
        (ULONG_PTR *)&Socket->Socket);
    if (NT_SUCCESS(Status))
        Status = Wait(Socket, Socket->Socket->Dispatch->WskBind(Socket->Socket, &Local, 0, Socket->Irp), NULL);
    else
        Socket->Socket = NULL;
    if (NT_SUCCESS(Status))
        *Out = Socket;
    else
        Close(Socket);
    return Status;
}

/* Sends or receives all bytes of a locked or non-paged buffer. */
static NTSTATUS Transfer(SOCKET *Socket, PMDL Mdl, SIZE_T Length, BOOLEAN Sends, ULONG_PTR *Moved) {
    WSK_BUF Buffer = {Mdl, 0, Length};
    const struct _WSK_DISPATCH *Dispatch = Socket->Socket->Dispatch;
    return Wait(Socket,
        Sends ? Dispatch->Connection.WskSend(Socket->Socket, &Buffer, 0, Socket->Irp)
              : Dispatch->Connection.WskReceive(Socket->Socket, &Buffer, 0, Socket->Irp),
        Moved);
}

/* Sends back what comes, until the peer ends. */
static VOID Serve(SOCKET *Peer) {
    enum { SIZE = 4096 };
    PVOID Bytes = ExAllocatePool2(POOL_FLAG_NON_PAGED, SIZE, TAG);
    PMDL Mdl = Bytes != NULL ? IoAllocateMdl(Bytes, SIZE, FALSE, FALSE, NULL) : NULL;
    ULONG_PTR Length;
    if (Mdl != NULL) {
        MmBuildMdlForNonPagedPool(Mdl);
        while (NT_SUCCESS(Transfer(Peer, Mdl, SIZE, FALSE, &Length)) && Length != 0)
            if (!NT_SUCCESS(Transfer(Peer, Mdl, Length, TRUE, NULL)))
                break;
        IoFreeMdl(Mdl);
    }
    if (Bytes != NULL)
        ExFreePoolWithTag(Bytes, TAG);
}

static VOID NTAPI ServerThread(PVOID Context) {
    SOCKET *Socket = Context, *Peer;
    while (!Stopping) {
        PWSK_SOCKET Accepted = NULL;
        SOCKADDR_IN Remote;
        NTSTATUS Status = Wait(Socket,
            Socket->Socket->Dispatch->Listen.WskAccept(Socket->Socket, 0, NULL, NULL, NULL, &Remote, Socket->Irp),
            (ULONG_PTR *)&Accepted);
        if (!NT_SUCCESS(Status))
            break;
        Peer = New();
        if (Peer == NULL)
            break;
        Peer->Socket = Accepted;
        DbgPrint("accepted from %u.%u.%u.%u\n", Remote.sin_addr[0], Remote.sin_addr[1], Remote.sin_addr[2], Remote.sin_addr[3]);
        Serve(Peer);
        Close(Peer);
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static NTSTATUS Listen(USHORT *Port) {
    SOCKADDR_IN Local;
    HANDLE Thread;
    NTSTATUS Status;
    if (Listener != NULL)
        return STATUS_DEVICE_BUSY;
    Status = Open(WSK_FLAG_LISTEN_SOCKET, 0, &Listener);
    if (!NT_SUCCESS(Status))
        return Status;
    Status = Wait(Listener,
        Listener->Socket->Dispatch->Listen.WskGetLocalAddress(Listener->Socket, &Local, Listener->Irp), NULL);
    *Port = RtlUshortByteSwap(Local.sin_port);
    Stopping = FALSE;
    if (NT_SUCCESS(Status))
        Status = PsCreateSystemThread(&Thread, THREAD_ALL_ACCESS, NULL, NULL, NULL, ServerThread, Listener);
    if (!NT_SUCCESS(Status)) {
        Close(Listener);
        Listener = NULL;
        return Status;
    }
    Status = ObReferenceObjectByHandle(Thread, THREAD_ALL_ACCESS, NULL, KernelMode, &Server, NULL);
    ZwClose(Thread);
    return Status;
}

static VOID Stop(VOID) {
    LARGE_INTEGER Interval = {.QuadPart = -10000};
    if (Listener == NULL)
        return;
    Stopping = TRUE;
    /* The thread may be about to accept again: until it has gone, its accept is cancelled. */
    do
        IoCancelIrp(Listener->Irp);
    while (KeWaitForSingleObject(Server, Executive, KernelMode, FALSE, &Interval) == STATUS_TIMEOUT);
    ObDereferenceObject(Server);
    Close(Listener);
    Listener = NULL;
}

/* The first address of a host's name and a port, both as text. */
static NTSTATUS Resolve(PCSTR Host, USHORT Port, SOCKADDR_IN *Out) {
    WCHAR Digits[8];
    UNICODE_STRING Node, Service = {0, sizeof(Digits), Digits};
    ANSI_STRING Name;
    ADDRINFOEX Hints = {.Flags = AI_NUMERICHOST, .Family = AF_INET, .Type = SOCK_STREAM, .Protocol = IPPROTO_TCP};
    ADDRINFOEX *Found;
    SOCKET *Waits = New();
    NTSTATUS Status;
    if (Waits == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    RtlInitAnsiString(&Name, Host);
    Status = RtlAnsiStringToUnicodeString(&Node, &Name, TRUE);
    if (NT_SUCCESS(Status)) {
        Status = RtlIntegerToUnicodeString(Port, 10, &Service);
        if (NT_SUCCESS(Status))
            Status = Wait(Waits,
                ((GET_ADDRESS_INFO)Provider.Dispatch->WskGetAddressInfo)(
                    Provider.Client, &Node, &Service, 0, NULL, &Hints, &Found, NULL, NULL, Waits->Irp),
                NULL);
        if (NT_SUCCESS(Status)) {
            WCHAR Text[32];
            UNICODE_STRING Back = {0, sizeof(Text), Text};
            *Out = *Found->Address;
            Status = Wait(Waits,
                ((GET_NAME_INFO)Provider.Dispatch->WskGetNameInfo)(
                    Provider.Client, Out, sizeof(*Out), &Back, &Service, 0, NULL, NULL, Waits->Irp),
                NULL);
            DbgPrint("connecting to %wZ, port %wZ\n", &Back, &Service);
            ((FREE_ADDRESS_INFO)Provider.Dispatch->WskFreeAddressInfo)(Provider.Client, Found);
        }
        RtlFreeUnicodeString(&Node);
    }
    Close(Waits);
    return Status;
}

static NTSTATUS Connect(PCSTR Host, USHORT Port) {
    SOCKADDR_IN Remote;
    NTSTATUS Status = Client != NULL ? STATUS_DEVICE_BUSY : Resolve(Host, Port, &Remote);
    if (NT_SUCCESS(Status))
        Status = Open(WSK_FLAG_CONNECTION_SOCKET, 0, &Client);
    if (!NT_SUCCESS(Status))
        return Status;
    Status = Wait(Client, Client->Socket->Dispatch->Connection.WskConnect(Client->Socket, &Remote, 0, Client->Irp), NULL);
    if (!NT_SUCCESS(Status)) {
        Close(Client);
        Client = NULL;
    }
    return Status;
}

static VOID Disconnect(VOID) {
    if (Client != NULL)
        Close(Client);
    Client = NULL;
}

/* Locks memory of the caller's, whose address is a claim. */
static NTSTATUS LockCaller(PVOID Address, ULONG Length, LOCK_OPERATION Operation, PMDL *Out) {
    volatile NTSTATUS Status = STATUS_SUCCESS;
    PMDL Mdl = IoAllocateMdl(Address, Length, FALSE, FALSE, NULL);
    if (Mdl == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    __try {
        MmProbeAndLockPages(Mdl, UserMode, Operation);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Status = _exception_code();
    }
    if (!NT_SUCCESS(Status)) {
        IoFreeMdl(Mdl);
        return Status;
    }
    *Out = Mdl;
    return STATUS_SUCCESS;
}

static VOID UnlockAndFree(PMDL Mdl) {
    MmUnlockPages(Mdl);
    IoFreeMdl(Mdl);
}

/* Sends the caller's bytes, and receives as many. */
static NTSTATUS Echo(PVOID Input, PVOID Output, ULONG Length) {
    PMDL Source, Target;
    ULONG_PTR Moved, Received = 0;
    NTSTATUS Status = Client == NULL ? STATUS_CONNECTION_INVALID : LockCaller(Input, Length, IoReadAccess, &Source);
    if (!NT_SUCCESS(Status))
        return Status;
    Status = LockCaller(Output, Length, IoWriteAccess, &Target);
    if (NT_SUCCESS(Status)) {
        Status = Transfer(Client, Source, Length, TRUE, NULL);
        while (NT_SUCCESS(Status) && Received < Length) {
            WSK_BUF Rest = {Target, (ULONG)Received, Length - Received};
            Status = Wait(Client,
                Client->Socket->Dispatch->Connection.WskReceive(Client->Socket, &Rest, WSK_FLAG_WAITALL, Client->Irp), &Moved);
            if (NT_SUCCESS(Status) && Moved == 0)
                Status = STATUS_CONNECTION_DISCONNECTED;
            Received += Moved;
        }
        UnlockAndFree(Target);
    }
    UnlockAndFree(Source);
    return Status;
}

static NTSTATUS NTAPI Dispatch(PDEVICE_OBJECT Device, PIRP Irp) {
    PIO_STACK_LOCATION Location = IoGetCurrentIrpStackLocation(Irp);
    PVOID Buffer = Irp->AssociatedIrp.SystemBuffer;
    ULONG Input = Location->Parameters.DeviceIoControl.InputBufferLength;
    ULONG Output = Location->Parameters.DeviceIoControl.OutputBufferLength;
    NTSTATUS Status = STATUS_SUCCESS;
    ULONG_PTR Information = 0;
    UNREFERENCED_PARAMETER(Device);
    if (Location->MajorFunction == IRP_MJ_DEVICE_CONTROL) {
        KeWaitForSingleObject(&Idle, Executive, KernelMode, FALSE, NULL);
        switch ((Location->Parameters.DeviceIoControl.IoControlCode >> 2) & 0xFFF) {
        case LISTEN:
            Status = Output < sizeof(USHORT) ? STATUS_BUFFER_TOO_SMALL : Listen(Buffer);
            Information = sizeof(USHORT);
            break;
        case CONNECT:
            /* The port, and the host's name with its final zero. */
            Status = Input < 4 || ((PCSTR)Buffer)[Input - 1] != 0 ? STATUS_INVALID_PARAMETER
                                                                  : Connect((PCSTR)Buffer + 2, *(USHORT *)Buffer);
            break;
        case ECHO:
            Status = Input != Output ? STATUS_INVALID_PARAMETER
                                     : Echo(Location->Parameters.DeviceIoControl.Type3InputBuffer, Irp->UserBuffer, Input);
            Information = Output;
            break;
        case DISCONNECT:
            Disconnect();
            break;
        case STOP:
            Stop();
            break;
        default:
            Status = STATUS_INVALID_DEVICE_REQUEST;
        }
        KeSetEvent(&Idle, IO_NO_INCREMENT, FALSE);
    }
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = NT_SUCCESS(Status) ? Information : 0;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

static VOID NTAPI Unload(PDRIVER_OBJECT DriverObject) {
    UNICODE_STRING Link = RTL_CONSTANT_STRING(L"\\DosDevices\\WskBlocking");
    Disconnect();
    Stop();
    WskReleaseProviderNPI(&Registration);
    WskDeregister(&Registration);
    IoDeleteSymbolicLink(&Link);
    IoDeleteDevice(DriverObject->DeviceObject);
    ExDeleteNPagedLookasideList(&Sockets);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\WskBlocking");
    UNICODE_STRING Link = RTL_CONSTANT_STRING(L"\\DosDevices\\WskBlocking");
    WSK_CLIENT_NPI Npi = {NULL, &ClientDispatch};
    PDEVICE_OBJECT Device;
    NTSTATUS Status;
    UNREFERENCED_PARAMETER(RegistryPath);
    KeInitializeEvent(&Idle, SynchronizationEvent, TRUE);
    ExInitializeNPagedLookasideList(&Sockets, NULL, NULL, 0, sizeof(SOCKET), TAG, 0);
    Status = WskRegister(&Npi, &Registration);
    if (NT_SUCCESS(Status)) {
        Status = WskCaptureProviderNPI(&Registration, 1000, &Provider);
        if (!NT_SUCCESS(Status))
            WskDeregister(&Registration);
    }
    if (!NT_SUCCESS(Status)) {
        ExDeleteNPagedLookasideList(&Sockets);
        return Status;
    }
    DriverObject->MajorFunction[IRP_MJ_CREATE] = Dispatch;
    DriverObject->MajorFunction[IRP_MJ_CLEANUP] = Dispatch;
    DriverObject->MajorFunction[IRP_MJ_CLOSE] = Dispatch;
    DriverObject->MajorFunction[IRP_MJ_DEVICE_CONTROL] = Dispatch;
    DriverObject->DriverUnload = Unload;
    Status = IoCreateDevice(DriverObject, 0, &Name, FILE_DEVICE_UNKNOWN, 0, FALSE, &Device);
    if (NT_SUCCESS(Status))
        Status = IoCreateSymbolicLink(&Link, &Name);
    return Status;
}
