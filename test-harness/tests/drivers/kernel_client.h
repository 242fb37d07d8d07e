/* What a client of sanwsk.sys in the kernel begins with: the interface, operations that can be waited for, memory, and two
 * connected endpoints. */
#include "verifier.h"

#include "../../../include/sanwsk_kernel.h"

static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;

#define FAILED_AT(Line) ((NTSTATUS)(0xE0000000 | (Line)))
#define CHECK(Condition)                                              \
    do {                                                              \
        if (!(Condition)) {                                           \
            DbgPrint(__FILE_NAME__ ":%d: " #Condition "\n", __LINE__); \
            return FAILED_AT(__LINE__);                               \
        }                                                             \
    } while (0)
#define TRY(Expression)                       \
    do {                                      \
        NTSTATUS Tried = (Expression);        \
        if (Tried != STATUS_SUCCESS) {        \
            DbgPrint(__FILE_NAME__ ":%d: %x\n", __LINE__, Tried); \
            return FAILED_AT(__LINE__);       \
        }                                     \
    } while (0)

/* Calls a function of the interface; what it comes to has to be Expected. Op: its operation, or NULL. docs/kernel-interface.md is held to
 * these: each status in the tables of its functions is brought about here. */
#define EXPECT(Function, Expected, Op, ...)                                             \
    do {                                                                                \
        NTSTATUS Came = Wait(Op, San.Function(__VA_ARGS__));                            \
        if (Came != (Expected)) {                                                       \
            DbgPrint(__FILE_NAME__ ":%d: %s: %x\n", __LINE__, #Function, Came);        \
            return FAILED_AT(__LINE__);                                                 \
        }                                                                               \
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
    PIRP Irp; /* of its own, which it completes; NULL: it calls back */
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

static VOID Free(OP *Op) {
    ExFreePoolWithTag(Op->Operation, TAG);
    if (Op->Irp != NULL)
        IoFreeIrp(Op->Irp);
}

/* What a begun operation comes to. */
static NTSTATUS Wait(OP *Op, NTSTATUS Begun) {
    LARGE_INTEGER Timeout = {.QuadPart = -20LL * 10000000};
    if (Begun != STATUS_PENDING || Op == NULL)
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
    if (Mdl == NULL) {
        if (Bytes != NULL)
            ExFreePoolWithTag(Bytes, TAG);
        return NULL;
    }
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
