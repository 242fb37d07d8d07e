/* A client of sanwsk.sys in the kernel: each behaviour is a test, which ends in success or in the line that is not as it should. */
#include "verifier.h"

#include "../../../include/sanwsk_kernel.h"

static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;

#define FAILED_AT(Line) ((NTSTATUS)(0xE0000000 | (Line)))
#define CHECK(Condition)               \
    do {                               \
        if (!(Condition))              \
            return FAILED_AT(__LINE__); \
    } while (0)
#define TRY(Expression)                       \
    do {                                      \
        NTSTATUS Tried = (Expression);        \
        if (Tried != STATUS_SUCCESS) {        \
            DbgPrint("kernel_client.c:%d: %x\n", __LINE__, Tried); \
            return FAILED_AT(__LINE__);       \
        }                                     \
    } while (0)

static PFILE_OBJECT File;
static SANWSK_INTERFACE San;

static NTSTATUS Ask(ULONG Version, ULONG Size, PVOID Output, ULONG OutputSize) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(SANWSK_DEVICE_NAME);
    SANWSK_GET_INTERFACE Get = {.Version = Version, .Size = Size};
    PDEVICE_OBJECT Device;
    IO_STATUS_BLOCK Block;
    KEVENT Event;
    NTSTATUS Status;
    PIRP Irp;
    if (File == NULL) {
        Status = IoGetDeviceObjectPointer(&Name, FILE_READ_DATA | FILE_WRITE_DATA, &File, &Device);
        if (!NT_SUCCESS(Status))
            return Status;
    }
    Device = IoGetRelatedDeviceObject(File);
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    Irp = IoBuildDeviceIoControlRequest(IOCTL_INTERNAL_SANWSK_GET_INTERFACE, Device, &Get, sizeof(Get), Output, OutputSize, TRUE,
                                        &Event, &Block);
    if (Irp == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    IoGetNextIrpStackLocation(Irp)->FileObject = File;
    Status = IoCallDriver(Device, Irp);
    if (Status == STATUS_PENDING) {
        KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
        Status = Block.Status;
    }
    return Status;
}

static NTSTATUS Open(VOID) {
    return San.Context != NULL ? STATUS_SUCCESS : Ask(SANWSK_INTERFACE_VERSION, sizeof(San), &San, sizeof(San));
}

static VOID Release(VOID) {
    if (San.Context != NULL)
        San.InterfaceDereference(San.Context);
    if (File != NULL)
        ObDereferenceObject(File);
}

static VOID (*const AtUnload)(VOID) = Release;

/* An operation that can be waited for. */
typedef struct {
    PSANWSK_OPERATION Operation;
    KEVENT Event;
    NTSTATUS Status;
    ULONG_PTR Information;
    LONG Completions;
    LONG Order;
    KIRQL Irql;
} OP;

static LONG Order;

static VOID NTAPI Completed(PSANWSK_OPERATION Operation, PVOID Context, NTSTATUS Status, ULONG_PTR Information) {
    OP *Op = Context;
    UNREFERENCED_PARAMETER(Operation);
    Op->Status = Status;
    Op->Information = Information;
    Op->Order = InterlockedIncrement(&Order);
    InterlockedIncrement(&Op->Completions);
    KeSetEvent(&Op->Event, IO_NO_INCREMENT, FALSE);
}

static NTSTATUS Make(OP *Op) {
    RtlZeroMemory(Op, sizeof(*Op));
    Op->Operation = ExAllocatePool2(POOL_FLAG_NON_PAGED, San.OperationSize, TAG);
    if (Op->Operation == NULL)
        return STATUS_INSUFFICIENT_RESOURCES;
    KeInitializeEvent(&Op->Event, SynchronizationEvent, FALSE);
    return San.InitializeOperation(Op->Operation, Completed, Op);
}

static VOID Free(OP *Op) { ExFreePoolWithTag(Op->Operation, TAG); }

/* What a begun operation comes to. */
static NTSTATUS Wait(OP *Op, NTSTATUS Begun) {
    LARGE_INTEGER Timeout = {.QuadPart = -20LL * 10000000};
    if (Begun != STATUS_PENDING)
        return Begun;
    if (KeWaitForSingleObject(&Op->Event, Executive, KernelMode, FALSE, &Timeout) == STATUS_TIMEOUT)
        return STATUS_IO_TIMEOUT;
    return Op->Status;
}

static VOID Moment(VOID) {
    LARGE_INTEGER Time = {.QuadPart = -30LL * 10000};
    KeDelayExecutionThread(KernelMode, FALSE, &Time);
}

#define LOOPBACK {.Family = SANWSK_AF_INET, .Rest = {127, 0, 0, 1}}
#define LENGTH 100000
#define HALF (LENGTH / 2)

static PMDL Memory(VOID) {
    PUCHAR Bytes = ExAllocatePool2(POOL_FLAG_NON_PAGED, LENGTH, TAG);
    PMDL Mdl = Bytes == NULL ? NULL : IoAllocateMdl(Bytes, LENGTH, FALSE, FALSE, NULL);
    ULONG At;
    if (Mdl == NULL)
        return NULL;
    MmBuildMdlForNonPagedPool(Mdl);
    for (At = 0; At < LENGTH; At++)
        Bytes[At] = (UCHAR)(At * 7 + At / 251);
    return Mdl;
}

static PUCHAR Bytes(PMDL Mdl) { return MmGetMdlVirtualAddress(Mdl); }

static VOID FreeMemory(PMDL Mdl) {
    PVOID Block = Bytes(Mdl);
    IoFreeMdl(Mdl);
    ExFreePoolWithTag(Block, TAG);
}

static BOOLEAN Same(const UCHAR *Left, const UCHAR *Right, ULONG Length) {
    while (Length > 0 && *Left == *Right)
        Left++, Right++, Length--;
    return Length == 0;
}

/* Two connected endpoints, and what a test needs with them. */
typedef struct {
    SANWSK_CLIENT Client;
    SANWSK_ENDPOINT_ID Listener, Near, Far;
    SANWSK_SOCKET_ADDRESS Address;
    OP One, Two, Three;
    PMDL From, To;
} PAIR;

static NTSTATUS Listening(PAIR *Pair, ULONG Kind) {
    SANWSK_SOCKET_ADDRESS Any = LOOPBACK;
    SANWSK_ADDRESS_REPLY Bound;
    TRY(Open());
    TRY(Make(&Pair->One));
    TRY(Make(&Pair->Two));
    TRY(Make(&Pair->Three));
    CHECK((Pair->From = Memory()) != NULL && (Pair->To = Memory()) != NULL);
    RtlZeroMemory(Bytes(Pair->To), LENGTH);
    TRY(San.OpenClient(San.Context, &Pair->Client));
    TRY(San.Create(Pair->Client, Kind, SANWSK_AF_INET, &Pair->Listener));
    TRY(Wait(&Pair->One, San.Bind(Pair->Client, Pair->One.Operation, Pair->Listener, &Any, &Bound)));
    CHECK(Bound.Address.Port[0] != 0 && Bound.Address.Family == SANWSK_AF_INET);
    Pair->Address = Bound.Address;
    TRY(Wait(&Pair->One, San.Listen(Pair->Client, Pair->One.Operation, Pair->Listener, 5)));
    return STATUS_SUCCESS;
}

static NTSTATUS Connected(PAIR *Pair, BOOLEAN Messages) {
    SANWSK_ACCEPT_REPLY Accepted;
    SANWSK_SOCKET_ADDRESS Any = LOOPBACK;
    SANWSK_ADDRESSES_REPLY Addresses;
    NTSTATUS Accept, Connect;
    TRY(Listening(Pair, Messages ? SanWskEndpointKindSan : SanWskEndpointKindStreamListener));
    TRY(San.Create(Pair->Client, Messages ? SanWskEndpointKindSan : SanWskEndpointKindStreamConnection, SANWSK_AF_INET,
                   &Pair->Near));
    if (Messages)
        TRY(Wait(&Pair->Two, San.Bind(Pair->Client, Pair->Two.Operation, Pair->Near, &Any, NULL)));
    Accept = San.Accept(Pair->Client, Pair->One.Operation, Pair->Listener, &Accepted);
    Connect = San.Connect(Pair->Client, Pair->Two.Operation, Pair->Near, &Pair->Address, 20000);
    TRY(Wait(&Pair->One, Accept));
    Pair->Far = Accepted.Endpoint;
    if (Messages)
        TRY(San.Decide(Pair->Client, Pair->Far, SanWskDecisionAccept));
    TRY(Wait(&Pair->Two, Connect));
    TRY(San.QueryAddresses(Pair->Client, Pair->Near, &Addresses));
    CHECK(Same(Addresses.Remote.Port, Pair->Address.Port, 2) && Same(Addresses.Local.Port, Accepted.Remote.Port, 2));
    return STATUS_SUCCESS;
}

static NTSTATUS Negotiated(PAIR *Pair) {
    static const UCHAR Ours[] = "near", Theirs[] = "far";
    SANWSK_NEGOTIATE_REPLY Near, Far;
    NTSTATUS One, Two;
    One = San.Negotiate(Pair->Client, Pair->One.Operation, Pair->Near, Ours, sizeof(Ours), LENGTH, &Near);
    Two = San.Negotiate(Pair->Client, Pair->Two.Operation, Pair->Far, Theirs, sizeof(Theirs), LENGTH, &Far);
    TRY(Wait(&Pair->One, One));
    TRY(Wait(&Pair->Two, Two));
    CHECK(Near.PrivateLength == sizeof(Theirs) && Same(Near.Private, Theirs, sizeof(Theirs)));
    CHECK(Far.PrivateLength == sizeof(Ours) && Same(Far.Private, Ours, sizeof(Ours)));
    return STATUS_SUCCESS;
}

static VOID FreePair(PAIR *Pair) {
    Free(&Pair->One);
    Free(&Pair->Two);
    Free(&Pair->Three);
    FreeMemory(Pair->From);
    FreeMemory(Pair->To);
}

static NTSTATUS Closed(PAIR *Pair) {
    TRY(Wait(&Pair->Three, San.CloseClient(Pair->Client, Pair->Three.Operation)));
    FreePair(Pair);
    return STATUS_SUCCESS;
}

BEHAVIOUR(gets_the_interface) {
    SANWSK_INTERFACE_VERSIONS Versions = {0};
    SANWSK_INTERFACE Short;
    struct {
        SANWSK_INTERFACE Interface;
        ULONGLONG Behind;
    } Long;
    UNREFERENCED_PARAMETER(Call);
    CHECK(Ask(SANWSK_INTERFACE_VERSION + 1, sizeof(San), &Versions, sizeof(Versions)) == STATUS_REVISION_MISMATCH);
    CHECK(Versions.Oldest == 1 && Versions.Newest == SANWSK_INTERFACE_VERSION);
    CHECK(Ask(0, sizeof(San), NULL, 0) == STATUS_REVISION_MISMATCH);
    CHECK(Ask(SANWSK_INTERFACE_VERSION, sizeof(San) - 1, &San, sizeof(San)) == STATUS_BUFFER_TOO_SMALL);
    CHECK(Ask(SANWSK_INTERFACE_VERSION, sizeof(San), &Short, sizeof(Short) - 1) == STATUS_BUFFER_TOO_SMALL);
    CHECK(San.Context == NULL);
    TRY(Open());
    CHECK(San.Version == SANWSK_INTERFACE_VERSION && San.Size == sizeof(San));
    /* A client that was built for more than this version has gets this version's bytes, and no others are touched. */
    RtlFillMemory(&Long, sizeof(Long), 0x5A);
    TRY(Ask(SANWSK_INTERFACE_VERSION, sizeof(Long), &Long, sizeof(Long)));
    CHECK(Long.Interface.Size == sizeof(San) && Long.Behind == 0x5A5A5A5A5A5A5A5AULL);
    CHECK(Long.Interface.Context == San.Context && Long.Interface.QueryStatistics == San.QueryStatistics);
    Long.Interface.InterfaceDereference(Long.Interface.Context);
    San.InterfaceReference(San.Context);
    San.InterfaceDereference(San.Context);
    return STATUS_SUCCESS;
}

BEHAVIOUR(sends_and_receives_on_a_stream) {
    PAIR Pair;
    NTSTATUS Send, Receive;
    UNREFERENCED_PARAMETER(Call);
    TRY(Connected(&Pair, FALSE));
    Receive = San.Receive(Pair.Client, Pair.One.Operation, Pair.Far, Pair.To, 0, LENGTH, SANWSK_RECEIVE_ALL);
    Send = San.Send(Pair.Client, Pair.Two.Operation, Pair.Near, Pair.From, 0, HALF);
    TRY(Wait(&Pair.Two, Send));
    CHECK(Pair.Two.Information == HALF);
    TRY(Wait(&Pair.Two, San.Send(Pair.Client, Pair.Two.Operation, Pair.Near, Pair.From, HALF, LENGTH - HALF)));
    TRY(Wait(&Pair.One, Receive));
    CHECK(Pair.One.Information == LENGTH && Same(Bytes(Pair.From), Bytes(Pair.To), LENGTH));
    TRY(Wait(&Pair.Two, San.Send(Pair.Client, Pair.Two.Operation, Pair.Near, NULL, 0, 0)));
    TRY(Wait(&Pair.Two, San.SetOption(Pair.Client, Pair.Two.Operation, Pair.Near, SanWskSocketOptionNoDelay, 1)));
    TRY(Wait(&Pair.Two, San.Disconnect(Pair.Client, Pair.Two.Operation, Pair.Near, 0)));
    TRY(Wait(&Pair.One, San.Receive(Pair.Client, Pair.One.Operation, Pair.Far, Pair.To, 10, 1, 0)));
    CHECK(Pair.One.Information == 0);
    CHECK(Wait(&Pair.Two, San.Send(Pair.Client, Pair.Two.Operation, Pair.Near, Pair.From, 0, 1)) == STATUS_PIPE_DISCONNECTED);
    TRY(Wait(&Pair.One, San.Close(Pair.Client, Pair.One.Operation, Pair.Far)));
    CHECK(San.Close(Pair.Client, Pair.One.Operation, Pair.Far) == STATUS_INVALID_HANDLE);
    return Closed(&Pair);
}

BEHAVIOUR(sends_and_receives_messages) {
    PAIR Pair;
    SANWSK_ENDPOINT_STATISTICS Statistics;
    NTSTATUS Receive;
    UNREFERENCED_PARAMETER(Call);
    TRY(Connected(&Pair, TRUE));
    Receive = San.Receive(Pair.Client, Pair.Three.Operation, Pair.Far, Pair.To, 0, LENGTH, 0);
    CHECK(Receive == STATUS_PENDING);
    TRY(Negotiated(&Pair));
    /* A piece from the middle, of pages that need an MDL of their own. */
    TRY(Wait(&Pair.Two, San.Send(Pair.Client, Pair.Two.Operation, Pair.Near, Pair.From, 100, LENGTH - 100)));
    CHECK(Pair.Two.Information == LENGTH - 100);
    TRY(Wait(&Pair.Three, Receive));
    CHECK(Pair.Three.Information == LENGTH - 100 && Same(Bytes(Pair.From) + 100, Bytes(Pair.To), LENGTH - 100));
    TRY(San.QueryStatistics(Pair.Client, Pair.Far, &Statistics));
    CHECK(Statistics.MessagesReceived == 1 && Statistics.BytesReceived == LENGTH - 100);
    /* Nothing is a message too. */
    Receive = San.Receive(Pair.Client, Pair.Three.Operation, Pair.Far, Pair.To, 0, LENGTH, 0);
    TRY(Wait(&Pair.Two, San.Send(Pair.Client, Pair.Two.Operation, Pair.Near, NULL, 0, 0)));
    TRY(Wait(&Pair.Three, Receive));
    CHECK(Pair.Three.Information == 0);
    /* A receive that is too short for the longest message; memory that is none. */
    CHECK(Wait(&Pair.Two, San.Receive(Pair.Client, Pair.Two.Operation, Pair.Far, Pair.To, 1, LENGTH - 1, 0)) ==
          STATUS_INVALID_BUFFER_SIZE);
    CHECK(San.Receive(Pair.Client, Pair.Two.Operation, Pair.Far, Pair.To, 1, LENGTH, 0) == STATUS_ACCESS_VIOLATION);
    CHECK(San.Send(Pair.Client, Pair.Two.Operation, Pair.Near, NULL, 0, 1) == STATUS_INVALID_PARAMETER);
    TRY(Wait(&Pair.Two, San.Disconnect(Pair.Client, Pair.Two.Operation, Pair.Near, 0)));
    return Closed(&Pair);
}

BEHAVIOUR(sends_and_receives_registered_memory) {
    PAIR Pair;
    OP Source, Target;
    SANWSK_MEMORY_REPLY Reply;
    NTSTATUS Receive;
    UNREFERENCED_PARAMETER(Call);
    TRY(Connected(&Pair, TRUE));
    TRY(Make(&Source));
    TRY(Make(&Target));
    CHECK(San.RegisterMemory(Pair.Client, Source.Operation, Pair.Near, 1, Pair.From, SANWSK_MEMORY_SEND) == STATUS_PENDING);
    CHECK(San.RegisterMemory(Pair.Client, Target.Operation, Pair.Far, 2, Pair.To, SANWSK_MEMORY_RECEIVE) == STATUS_PENDING);
    TRY(San.QueryMemory(Pair.Client, Pair.Near, 1, &Reply));
    CHECK(Reply.Length == LENGTH && Reply.Rights == SANWSK_MEMORY_SEND);
    CHECK(San.QueryMemory(Pair.Client, Pair.Near, 2, &Reply) == STATUS_INVALID_PARAMETER);
    Receive = San.ReceiveRegistered(Pair.Client, Pair.Three.Operation, Pair.Far, 2, 0, LENGTH);
    TRY(Negotiated(&Pair));
    TRY(Wait(&Pair.Two, San.SendRegistered(Pair.Client, Pair.Two.Operation, Pair.Near, 1, 4000, HALF)));
    CHECK(Pair.Two.Information == HALF);
    TRY(Wait(&Pair.Three, Receive));
    CHECK(Pair.Three.Information == HALF && Same(Bytes(Pair.From) + 4000, Bytes(Pair.To), HALF));
    /* Not registered for this; not inside. */
    CHECK(Wait(&Pair.Two, San.SendRegistered(Pair.Client, Pair.Two.Operation, Pair.Far, 2, 0, 1)) == STATUS_ACCESS_VIOLATION);
    CHECK(Wait(&Pair.Two, San.SendRegistered(Pair.Client, Pair.Two.Operation, Pair.Near, 1, LENGTH, 1)) ==
          STATUS_ACCESS_VIOLATION);
    CHECK(Source.Completions == 0);
    TRY(Wait(&Pair.Two, San.DeregisterMemory(Pair.Client, Pair.Two.Operation, Pair.Near, 1)));
    TRY(Wait(&Source, STATUS_PENDING));
    CHECK(Target.Completions == 0);
    TRY(Wait(&Pair.Two, San.Close(Pair.Client, Pair.Two.Operation, Pair.Far)));
    CHECK(Target.Completions == 1 && Target.Order < Pair.Two.Order);
    Free(&Source);
    Free(&Target);
    return Closed(&Pair);
}

BEHAVIOUR(rejects_a_connection) {
    PAIR Pair;
    SANWSK_SOCKET_ADDRESS Any = LOOPBACK;
    SANWSK_ACCEPT_REPLY Accepted;
    NTSTATUS Accept, Connect;
    UNREFERENCED_PARAMETER(Call);
    TRY(Listening(&Pair, SanWskEndpointKindSan));
    TRY(San.Create(Pair.Client, SanWskEndpointKindSan, SANWSK_AF_INET, &Pair.Near));
    TRY(Wait(&Pair.Two, San.Bind(Pair.Client, Pair.Two.Operation, Pair.Near, &Any, NULL)));
    Accept = San.Accept(Pair.Client, Pair.One.Operation, Pair.Listener, &Accepted);
    Connect = San.Connect(Pair.Client, Pair.Two.Operation, Pair.Near, &Pair.Address, 20000);
    TRY(Wait(&Pair.One, Accept));
    CHECK(San.Decide(Pair.Client, Accepted.Endpoint, 7) == STATUS_INVALID_PARAMETER);
    TRY(San.Decide(Pair.Client, Accepted.Endpoint, SanWskDecisionReject));
    CHECK(Wait(&Pair.Two, Connect) == STATUS_CONNECTION_REFUSED);
    CHECK(San.Decide(Pair.Client, Accepted.Endpoint, SanWskDecisionAccept) == STATUS_INVALID_HANDLE);
    return Closed(&Pair);
}

BEHAVIOUR(refuses_what_makes_no_sense) {
    PAIR Pair;
    SANWSK_SOCKET_ADDRESS Nowhere = {.Family = SANWSK_AF_INET}, Other = {.Family = SANWSK_AF_INET6, .Port = {0, 1}};
    SANWSK_ENDPOINT_ID Stream, Endpoint;
    SANWSK_CLIENT Client;
    SANWSK_ADDRESSES_REPLY Addresses;
    UNREFERENCED_PARAMETER(Call);
    TRY(Listening(&Pair, SanWskEndpointKindSan));
    CHECK(San.OpenClient(San.Context, NULL) == STATUS_INVALID_PARAMETER);
    CHECK(San.Create(Pair.Client, 99, SANWSK_AF_INET, &Stream) == STATUS_INVALID_PARAMETER);
    CHECK(San.Create(Pair.Client, SanWskEndpointKindSan, 99, &Stream) == STATUS_NOT_SUPPORTED);
    CHECK(San.Create(Pair.Client + 1, SanWskEndpointKindSan, SANWSK_AF_INET, &Stream) == STATUS_INVALID_HANDLE);
    TRY(San.Create(Pair.Client, SanWskEndpointKindStreamConnection, SANWSK_AF_INET, &Stream));
    CHECK(San.Negotiate(Pair.Client, Pair.One.Operation, Stream, NULL, 0, 1, NULL) == STATUS_NOT_SUPPORTED);
    CHECK(San.Negotiate(Pair.Client, Pair.One.Operation, Pair.Listener, Bytes(Pair.From), 257, 1, NULL) == STATUS_INVALID_BUFFER_SIZE);
    CHECK(San.Negotiate(Pair.Client, Pair.One.Operation, Pair.Listener, NULL, 1, 1, NULL) == STATUS_INVALID_PARAMETER);
    CHECK(San.SetOption(Pair.Client, Pair.One.Operation, Stream, 99, 1) == STATUS_INVALID_PARAMETER);
    CHECK(San.SetOption(Pair.Client, Pair.One.Operation, Stream, SanWskSocketOptionNoDelay, 2) == STATUS_INVALID_PARAMETER);
    CHECK(San.SetOption(Pair.Client, Pair.One.Operation, Pair.Listener, SanWskSocketOptionNoDelay, 1) == STATUS_NOT_SUPPORTED);
    CHECK(San.Connect(Pair.Client, Pair.One.Operation, Stream, &Nowhere, 0) == STATUS_INVALID_ADDRESS_COMPONENT);
    CHECK(San.Connect(Pair.Client, Pair.One.Operation, Stream, &Other, 0) == STATUS_INVALID_PARAMETER);
    CHECK(San.Connect(Pair.Client, Pair.One.Operation, Stream, NULL, 0) == STATUS_INVALID_PARAMETER);
    CHECK(San.Send(Pair.Client, Pair.One.Operation, Stream, Pair.From, 0, 1) == STATUS_INVALID_CONNECTION);
    CHECK(San.Receive(Pair.Client, Pair.One.Operation, Stream, Pair.From, 0, 1, 8) == STATUS_INVALID_PARAMETER);
    CHECK(San.Accept(Pair.Client, Pair.One.Operation, Pair.Listener, NULL) == STATUS_INVALID_PARAMETER);
    CHECK(Wait(&Pair.One, San.Listen(Pair.Client, Pair.One.Operation, Stream, 1)) == STATUS_NOT_SUPPORTED);
    /* Memory that is no operation, and operations that are under way. */
    CHECK(San.InitializeOperation(NULL, Completed, NULL) == STATUS_INVALID_PARAMETER);
    CHECK(San.InitializeOperation(Pair.Two.Operation, NULL, NULL) == STATUS_INVALID_PARAMETER);
    CHECK(San.Close(Pair.Client, (PSANWSK_OPERATION)Bytes(Pair.From), Stream) == STATUS_INVALID_PARAMETER);
    CHECK(San.Close(Pair.Client, NULL, Stream) == STATUS_INVALID_PARAMETER);
    /* Ids of others, and old ones. */
    TRY(San.OpenClient(San.Context, &Client));
    CHECK(San.QueryAddresses(Client, Stream, &Addresses) == STATUS_INVALID_HANDLE);
    TRY(Wait(&Pair.One, San.CloseClient(Client, Pair.One.Operation)));
    CHECK(San.CloseClient(Client, Pair.One.Operation) == STATUS_INVALID_HANDLE);
    CHECK(San.Create(Client, SanWskEndpointKindSan, SANWSK_AF_INET, &Endpoint) == STATUS_INVALID_HANDLE);
    TRY(Wait(&Pair.One, San.Close(Pair.Client, Pair.One.Operation, Stream)));
    CHECK(San.QueryAddresses(Pair.Client, Stream, &Addresses) == STATUS_INVALID_HANDLE);
    return Closed(&Pair);
}

static NTSTATUS CancelAccept(PAIR *Pair) {
    SANWSK_ACCEPT_REPLY Accepted;
    CHECK(San.CancelOperation(Pair->One.Operation) == STATUS_NOT_FOUND);
    CHECK(San.Accept(Pair->Client, Pair->One.Operation, Pair->Listener, &Accepted) == STATUS_PENDING);
    CHECK(San.Accept(Pair->Client, Pair->One.Operation, Pair->Listener, &Accepted) == STATUS_DEVICE_BUSY);
    Moment();
    CHECK(Pair->One.Completions > 0 && Pair->One.Status == STATUS_SUCCESS);
    TRY(San.CancelOperation(Pair->One.Operation));
    CHECK(Wait(&Pair->One, STATUS_PENDING) == STATUS_CANCELLED);
    CHECK(San.CancelOperation(Pair->One.Operation) == STATUS_NOT_FOUND);
    return STATUS_SUCCESS;
}

BEHAVIOUR(cancels) {
    PAIR Pair;
    LONG Before;
    UNREFERENCED_PARAMETER(Call);
    TRY(Listening(&Pair, SanWskEndpointKindStreamListener));
    TRY(CancelAccept(&Pair));
    TRY(Closed(&Pair));
    TRY(Listening(&Pair, SanWskEndpointKindSan));
    TRY(CancelAccept(&Pair));
    TRY(Closed(&Pair));
    TRY(Connected(&Pair, FALSE));
    Before = Pair.One.Completions;
    CHECK(San.Receive(Pair.Client, Pair.One.Operation, Pair.Far, Pair.To, 0, 1, 0) == STATUS_PENDING);
    Moment();
    TRY(San.CancelOperation(Pair.One.Operation));
    CHECK(Wait(&Pair.One, STATUS_PENDING) == STATUS_CANCELLED && Pair.One.Completions == Before + 1);
    TRY(Closed(&Pair));
    TRY(Connected(&Pair, TRUE));
    CHECK(San.Receive(Pair.Client, Pair.One.Operation, Pair.Far, Pair.To, 0, LENGTH, 0) == STATUS_PENDING);
    TRY(San.CancelOperation(Pair.One.Operation));
    CHECK(Wait(&Pair.One, STATUS_PENDING) == STATUS_CANCELLED);
    CHECK(San.RegisterMemory(Pair.Client, Pair.One.Operation, Pair.Far, 3, Pair.To, SANWSK_MEMORY_RECEIVE) == STATUS_PENDING);
    TRY(San.CancelOperation(Pair.One.Operation));
    CHECK(Wait(&Pair.One, STATUS_PENDING) == STATUS_CANCELLED);
    return Closed(&Pair);
}

#define MANY 20

BEHAVIOUR(closes_with_operations_outstanding) {
    PAIR Pair;
    OP Ops[MANY];
    SANWSK_ACCEPT_REPLY Accepted[MANY];
    ULONG At;
    ULONG Kind;
    UNREFERENCED_PARAMETER(Call);
    for (Kind = 0; Kind < 4; Kind++) {
        BOOLEAN Waits = Kind >= 2;
        TRY(Connected(&Pair, Kind % 2 == 1));
        for (At = 0; At < MANY; At++) {
            TRY(Make(&Ops[At]));
            if (At % 2 == 0)
                CHECK(San.Accept(Pair.Client, Ops[At].Operation, Pair.Listener, &Accepted[At]) == STATUS_PENDING);
            else
                CHECK(San.Receive(Pair.Client, Ops[At].Operation, Pair.Near, Pair.To, 0, LENGTH, 0) == STATUS_PENDING);
        }
        if (Waits) {
            /* A close that waits has all completions behind it. */
            TRY(San.CloseClient(Pair.Client, NULL));
            CHECK(San.CloseClient(Pair.Client, NULL) == STATUS_INVALID_HANDLE);
            FreePair(&Pair);
        } else {
            TRY(Closed(&Pair));
        }
        for (At = 0; At < MANY; At++) {
            CHECK(Ops[At].Completions == 1 && !NT_SUCCESS(Ops[At].Status));
            CHECK(Waits || Ops[At].Order < Pair.Three.Order);
            Free(&Ops[At]);
        }
    }
    return STATUS_SUCCESS;
}

/* All functions with the IRQL raised: what they begin ends when it is lower. */
#define RAISED(Result, Expression)                \
    do {                                          \
        KIRQL Old;                                \
        KeRaiseIrql(DISPATCH_LEVEL, &Old);        \
        Result = (Expression);                    \
        KeLowerIrql(Old);                         \
    } while (0)

BEHAVIOUR(may_be_called_at_dispatch_level) {
    PAIR Pair;
    SANWSK_CLIENT Client;
    SANWSK_ADDRESSES_REPLY Addresses;
    SANWSK_SOCKET_ADDRESS Any = LOOPBACK;
    SANWSK_ACCEPT_REPLY Accepted;
    SANWSK_ENDPOINT_STATISTICS Statistics;
    SANWSK_MEMORY_REPLY Registered;
    NTSTATUS Status, Other;
    ULONG Messages;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    RAISED(Status, San.OpenClient(San.Context, &Client));
    TRY(Status);
    for (Messages = 0; Messages < 2; Messages++) {
        SANWSK_ENDPOINT_ID Listener, Near, Far;
        TRY(Listening(&Pair, SanWskEndpointKindSan));
        RAISED(Status, San.Create(Client, Messages ? SanWskEndpointKindSan : SanWskEndpointKindStreamListener, SANWSK_AF_INET,
                                  &Listener));
        TRY(Status);
        RAISED(Status, San.Bind(Client, Pair.One.Operation, Listener, &Any, NULL));
        TRY(Wait(&Pair.One, Status));
        RAISED(Status, San.QueryAddresses(Client, Listener, &Addresses));
        TRY(Status);
        RAISED(Status, San.Listen(Client, Pair.One.Operation, Listener, 5));
        TRY(Wait(&Pair.One, Status));
        TRY(San.Create(Client, Messages ? SanWskEndpointKindSan : SanWskEndpointKindStreamConnection, SANWSK_AF_INET, &Near));
        if (Messages) {
            RAISED(Status, San.Bind(Client, Pair.One.Operation, Near, &Any, NULL));
            TRY(Wait(&Pair.One, Status));
        }
        RAISED(Status, San.Accept(Client, Pair.One.Operation, Listener, &Accepted));
        RAISED(Other, San.Connect(Client, Pair.Two.Operation, Near, &Addresses.Local, 20000));
        TRY(Wait(&Pair.One, Status));
        Far = Accepted.Endpoint;
        if (Messages) {
            RAISED(Status, San.Decide(Client, Far, SanWskDecisionAccept));
            TRY(Status);
        }
        TRY(Wait(&Pair.Two, Other));
        RAISED(Other, San.Receive(Client, Pair.Three.Operation, Far, Pair.To, 0, LENGTH, 0));
        if (Messages) {
            NTSTATUS Negotiation;
            RAISED(Status, San.Negotiate(Client, Pair.One.Operation, Near, NULL, 0, LENGTH, NULL));
            RAISED(Negotiation, San.Negotiate(Client, Pair.Two.Operation, Far, NULL, 0, LENGTH, NULL));
            TRY(Wait(&Pair.One, Status));
            TRY(Wait(&Pair.Two, Negotiation));
            RAISED(Status, San.RegisterMemory(Client, Pair.One.Operation, Near, 1, Pair.From, SANWSK_MEMORY_SEND));
            CHECK(Status == STATUS_PENDING);
            RAISED(Status, San.QueryMemory(Client, Near, 1, &Registered));
            TRY(Status);
            RAISED(Status, San.SendRegistered(Client, Pair.Two.Operation, Near, 1, 0, LENGTH));
            TRY(Wait(&Pair.Two, Status));
            RAISED(Status, San.DeregisterMemory(Client, Pair.Two.Operation, Near, 1));
            TRY(Wait(&Pair.Two, Status));
            TRY(Wait(&Pair.One, STATUS_PENDING));
            RAISED(Status, San.QueryStatistics(Client, Near, &Statistics));
            TRY(Status);
        } else {
            RAISED(Status, San.SetOption(Client, Pair.Two.Operation, Near, SanWskSocketOptionNoDelay, 1));
            TRY(Wait(&Pair.Two, Status));
            RAISED(Status, San.Send(Client, Pair.Two.Operation, Near, Pair.From, 0, LENGTH));
            TRY(Wait(&Pair.Two, Status));
        }
        TRY(Wait(&Pair.Three, Other));
        RAISED(Status, San.Disconnect(Client, Pair.Two.Operation, Near, SANWSK_DISCONNECT_ABORTIVE));
        TRY(Wait(&Pair.Two, Status));
        RAISED(Status, San.Accept(Client, Pair.One.Operation, Listener, &Accepted));
        CHECK(Status == STATUS_PENDING);
        RAISED(Status, San.CancelOperation(Pair.One.Operation));
        TRY(Status);
        CHECK(Wait(&Pair.One, STATUS_PENDING) == STATUS_CANCELLED);
        RAISED(Status, San.Close(Client, Pair.One.Operation, Near));
        TRY(Wait(&Pair.One, Status));
        TRY(Closed(&Pair));
    }
    TRY(Make(&Pair.One));
    RAISED(Status, San.CloseClient(Client, Pair.One.Operation));
    TRY(Wait(&Pair.One, Status));
    Free(&Pair.One);
    return STATUS_SUCCESS;
}

/* An IRP in place of a callback. */

static NTSTATUS NTAPI IrpCompleted(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID Prepare(PIRP Irp, PKEVENT Event) {
    IoReuseIrp(Irp, STATUS_UNSUCCESSFUL);
    KeInitializeEvent(Event, NotificationEvent, FALSE);
    IoSetCompletionRoutine(Irp, IrpCompleted, Event, TRUE, TRUE, TRUE);
}

BEHAVIOUR(completes_irps) {
    PAIR Pair;
    PSANWSK_OPERATION Operation;
    KEVENT Event;
    PIRP Irp;
    UNREFERENCED_PARAMETER(Call);
    TRY(Connected(&Pair, FALSE));
    CHECK((Operation = ExAllocatePool2(POOL_FLAG_NON_PAGED, San.OperationSize, TAG)) != NULL);
    CHECK((Irp = IoAllocateIrp(1, FALSE)) != NULL);
    CHECK(San.InitializeIrpOperation(Operation, NULL) == STATUS_INVALID_PARAMETER);
    TRY(San.InitializeIrpOperation(Operation, Irp));
    /* Success. */
    Prepare(Irp, &Event);
    CHECK(San.Receive(Pair.Client, Operation, Pair.Far, Pair.To, 0, 1000, SANWSK_RECEIVE_ALL) == STATUS_PENDING);
    TRY(Wait(&Pair.One, San.Send(Pair.Client, Pair.One.Operation, Pair.Near, Pair.From, 0, 1000)));
    KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
    CHECK(Irp->IoStatus.Status == STATUS_SUCCESS && Irp->IoStatus.Information == 1000 && Irp->PendingReturned);
    CHECK(Same(Bytes(Pair.From), Bytes(Pair.To), 1000));
    /* A function that does not begin leaves it as it is. */
    Prepare(Irp, &Event);
    CHECK(San.Receive(Pair.Client, Operation, 12345, Pair.To, 0, 1000, 0) == STATUS_INVALID_HANDLE);
    CHECK(Irp->CurrentLocation == 2);
    /* Cancelled while it waits, and before. */
    CHECK(San.Receive(Pair.Client, Operation, Pair.Far, Pair.To, 0, 1000, 0) == STATUS_PENDING);
    CHECK(San.CancelOperation(Operation) == STATUS_NOT_SUPPORTED);
    Moment();
    CHECK(IoCancelIrp(Irp));
    KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
    CHECK(Irp->IoStatus.Status == STATUS_CANCELLED);
    Prepare(Irp, &Event);
    CHECK(!IoCancelIrp(Irp));
    CHECK(San.Receive(Pair.Client, Operation, Pair.Far, Pair.To, 0, 1000, 0) == STATUS_CANCELLED);
    CHECK(Irp->CurrentLocation == 2 && !KeReadStateEvent(&Event));
    CHECK((IoGetNextIrpStackLocation(Irp)->Control & SL_PENDING_RETURNED) == 0);
    TRY(Closed(&Pair));
    ExFreePoolWithTag(Operation, TAG);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

/* From many threads. */

static NTSTATUS Worker(CALL *Call) {
    ULONG Round;
    for (Round = 0; Round < 5; Round++) {
        NTSTATUS Status = Round % 2 == 0 ? sends_and_receives_on_a_stream(Call) : sends_and_receives_messages(Call);
        if (Status != STATUS_SUCCESS)
            return Status;
    }
    return STATUS_SUCCESS;
}

static VOID NTAPI Thread(PVOID Context) {
    NTSTATUS Status = Worker(NULL);
    if (Status != STATUS_SUCCESS)
        InterlockedExchange((volatile LONG *)Context, Status);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

#define THREADS 4

BEHAVIOUR(may_be_called_from_many_threads) {
    volatile LONG Result = STATUS_SUCCESS;
    PVOID Objects[THREADS];
    ULONG At;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    for (At = 0; At < THREADS; At++) {
        HANDLE Handle;
        TRY(PsCreateSystemThread(&Handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, Thread, (PVOID)&Result));
        TRY(ObReferenceObjectByHandle(Handle, SYNCHRONIZE, NULL, KernelMode, &Objects[At], NULL));
        ZwClose(Handle);
    }
    for (At = 0; At < THREADS; At++) {
        KeWaitForSingleObject(Objects[At], Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(Objects[At]);
    }
    return Result;
}

static const ROW Rows[] = {
    ROW_OF(gets_the_interface),
    ROW_OF(sends_and_receives_on_a_stream),
    ROW_OF(sends_and_receives_messages),
    ROW_OF(sends_and_receives_registered_memory),
    ROW_OF(rejects_a_connection),
    ROW_OF(refuses_what_makes_no_sense),
    ROW_OF(cancels),
    ROW_OF(closes_with_operations_outstanding),
    ROW_OF(may_be_called_at_dispatch_level),
    ROW_OF(completes_irps),
    ROW_OF(may_be_called_from_many_threads),
    {NULL, NULL},
};
