/* A client that finds WSK by the Network Module Registrar, and sends datagrams: each behaviour checks some of it. */
#include "verifier.h"
#include "wsk_client.h"
#include "wsk_operation.h"

/* Which check failed, by its line, in a status that is an error. */
#define CHECK(Condition)                                                                                               \
    if (!(Condition))                                                                                                  \
    return (NTSTATUS)(0xE0000000 | __LINE__)
#define TRY(Call)                                                                                                      \
    do {                                                                                                               \
        NTSTATUS Tried = (Call);                                                                                       \
        if (Tried != STATUS_SUCCESS)                                                                                   \
            return Tried;                                                                                              \
    } while (0)

/* netioddk.h */

typedef struct {
    USHORT Length;
    int Type;
    GUID Guid;
} NPI_MODULEID;

typedef struct {
    USHORT Version;
    USHORT Size;
    const GUID *NpiId;
    const NPI_MODULEID *ModuleId;
    ULONG Number;
    const void *NpiSpecificCharacteristics;
} NPI_REGISTRATION_INSTANCE;

typedef struct {
    USHORT Version;
    USHORT Length;
    NTSTATUS(NTAPI *ClientAttachProvider)(HANDLE Binding, PVOID Context, const NPI_REGISTRATION_INSTANCE *Provider);
    NTSTATUS(NTAPI *ClientDetachProvider)(PVOID BindingContext);
    VOID(NTAPI *ClientCleanupBindingContext)(PVOID BindingContext);
    NPI_REGISTRATION_INSTANCE ClientRegistrationInstance;
} NPI_CLIENT_CHARACTERISTICS;

typedef struct {
    USHORT Version;
    USHORT Length;
    NTSTATUS(NTAPI *ProviderAttachClient)
    (HANDLE Binding, PVOID Context, const NPI_REGISTRATION_INSTANCE *Client, PVOID ClientContext, const void *ClientDispatch,
        PVOID *ProviderContext, const void **ProviderDispatch);
    NTSTATUS(NTAPI *ProviderDetachClient)(PVOID BindingContext);
    VOID(NTAPI *ProviderCleanupBindingContext)(PVOID BindingContext);
    NPI_REGISTRATION_INSTANCE ProviderRegistrationInstance;
} NPI_PROVIDER_CHARACTERISTICS;

NTSTATUS NTAPI NmrRegisterClient(const NPI_CLIENT_CHARACTERISTICS *Characteristics, PVOID Context, PHANDLE Client);
NTSTATUS NTAPI NmrDeregisterClient(HANDLE Client);
NTSTATUS NTAPI NmrWaitForClientDeregisterComplete(HANDLE Client);
NTSTATUS NTAPI NmrClientAttachProvider(
    HANDLE Binding, PVOID Context, const void *Dispatch, PVOID *ProviderContext, const void **ProviderDispatch);
VOID NTAPI NmrClientDetachProviderComplete(HANDLE Binding);
NTSTATUS NTAPI NmrRegisterProvider(const NPI_PROVIDER_CHARACTERISTICS *Characteristics, PVOID Context, PHANDLE Provider);
NTSTATUS NTAPI NmrDeregisterProvider(HANDLE Provider);
NTSTATUS NTAPI NmrWaitForProviderDeregisterComplete(HANDLE Provider);
VOID NTAPI NmrProviderDetachClientComplete(HANDLE Binding);

#define MIT_GUID 1
#define SIO_WSK_SET_REMOTE_ADDRESS 0x8F000001
#define SIO_WSK_SET_SENDTO_ADDRESS 0x8F000006

static const GUID WskInterface = {0x2227E803, 0x8D8B, 0x11D4, {0xAB, 0xAD, 0x00, 0x90, 0x27, 0x71, 0x9E, 0x09}};
static const GUID OwnInterface = {0x6f0d2d07, 0x41e5, 0x4b9d, {0x97, 0x6c, 0x15, 0xe2, 0x4a, 0x43, 0x5d, 0x02}};
static const NPI_MODULEID Module = {
    sizeof(Module), MIT_GUID, {0x6f0d2d07, 0x41e5, 0x4b9d, {0x97, 0x6c, 0x15, 0xe2, 0x4a, 0x43, 0x5d, 0x03}}};

/* The client of WSK */

static const WSK_CLIENT_DISPATCH ClientDispatch = {.Version = 0x100};
static HANDLE ClientHandle, Binding;
static WSK_PROVIDER_NPI Npi;
static LONG Attached, Detached, CleanedUp;
static BOOLEAN DetachLater;

static NTSTATUS NTAPI AttachWsk(HANDLE NewBinding, PVOID Context, const NPI_REGISTRATION_INSTANCE *Provider) {
    const USHORT *Versions = Provider->NpiSpecificCharacteristics;
    NTSTATUS Status;
    if (KeGetCurrentIrql() != PASSIVE_LEVEL || Context != &ClientHandle || Versions[0] < 0x100)
        return STATUS_NOINTERFACE;
    Status = NmrClientAttachProvider(NewBinding, &Binding, &ClientDispatch, &Npi.Client, (const void **)&Npi.Dispatch);
    if (NT_SUCCESS(Status)) {
        Binding = NewBinding;
        Attached++;
    }
    return Status;
}

static NTSTATUS NTAPI DetachWsk(PVOID BindingContext) {
    if (BindingContext == &Binding)
        Detached++;
    return DetachLater ? STATUS_PENDING : STATUS_SUCCESS;
}

static VOID NTAPI CleanUpWsk(PVOID BindingContext) {
    if (BindingContext == &Binding)
        CleanedUp++;
}

static const NPI_CLIENT_CHARACTERISTICS WskClient = {0, sizeof(WskClient), AttachWsk, DetachWsk, CleanUpWsk,
    {0, sizeof(NPI_REGISTRATION_INSTANCE), &WskInterface, &Module, 0, NULL}};

static NTSTATUS Open(VOID) {
    Attached = Detached = CleanedUp = 0;
    DetachLater = FALSE;
    TRY(NmrRegisterClient(&WskClient, &ClientHandle, &ClientHandle));
    CHECK(Attached == 1 && Npi.Dispatch->Version == 0x100);
    return STATUS_SUCCESS;
}

static NTSTATUS Shut(VOID) {
    CHECK(NmrDeregisterClient(ClientHandle) == STATUS_PENDING);
    TRY(NmrWaitForClientDeregisterComplete(ClientHandle));
    CHECK(Detached == 1 && CleanedUp == 1);
    return STATUS_SUCCESS;
}

/* Sockets */

typedef struct {
    PWSK_SOCKET Socket;
    SOCKADDR_IN Address;
} ENDPOINT;

static NTSTATUS NewEndpoint(ENDPOINT *Endpoint, const WSK_CLIENT_DATAGRAM_DISPATCH *Dispatch) {
    SOCKADDR_IN Any = {.sin_family = AF_INET, .sin_addr = {127, 0, 0, 1}};
    OPERATION Operation;
    Npi.Dispatch->WskSocket(Npi.Client, AF_INET, SOCK_DGRAM, IPPROTO_UDP, WSK_FLAG_DATAGRAM_SOCKET, Endpoint, Dispatch,
        NULL, NULL, NULL, New(&Operation));
    TRY(End(&Operation, (PVOID *)&Endpoint->Socket));
    Endpoint->Socket->Dispatch->WskBind(Endpoint->Socket, &Any, 0, New(&Operation));
    TRY(End(&Operation, NULL));
    Endpoint->Socket->Dispatch->Datagram.WskGetLocalAddress(Endpoint->Socket, &Endpoint->Address, New(&Operation));
    return End(&Operation, NULL);
}

static NTSTATUS Close(ENDPOINT *Endpoint) {
    OPERATION Operation;
    Endpoint->Socket->Dispatch->WskCloseSocket(Endpoint->Socket, New(&Operation));
    return End(&Operation, NULL);
}

static WSK_BUF Buffer(PVOID Bytes, ULONG Length) {
    WSK_BUF Buffer = {IoAllocateMdl(Bytes, Length, FALSE, FALSE, NULL), 0, Length};
    MmBuildMdlForNonPagedPool(Buffer.Mdl);
    return Buffer;
}

static NTSTATUS SendTo(ENDPOINT *From, const char *Text, ULONG Length, SOCKADDR_IN *To) {
    OPERATION Operation;
    WSK_BUF Datagram = Buffer((PVOID)Text, Length);
    NTSTATUS Status;
    PVOID Sent;
    From->Socket->Dispatch->Datagram.WskSendTo(From->Socket, &Datagram, 0, To, 0, NULL, New(&Operation));
    Status = End(&Operation, &Sent);
    IoFreeMdl(Datagram.Mdl);
    if (NT_SUCCESS(Status))
        CHECK((ULONG_PTR)Sent == Length);
    return Status;
}

typedef struct {
    OPERATION Operation;
    WSK_BUF Datagram;
    SOCKADDR_IN From;
    ULONG ControlLength;
    ULONG Flags;
} RECEIVE;

static VOID BeginReceive(ENDPOINT *At, RECEIVE *Receive, PVOID Bytes, ULONG Length) {
    Receive->Datagram = Buffer(Bytes, Length);
    Receive->ControlLength = 0;
    Receive->Flags = 0xFFFF;
    At->Socket->Dispatch->Datagram.WskReceiveFrom(At->Socket, &Receive->Datagram, 0, &Receive->From,
        &Receive->ControlLength, NULL, &Receive->Flags, New(&Receive->Operation));
}

static NTSTATUS EndReceive(RECEIVE *Receive, ULONG_PTR *Length) {
    PVOID Received;
    NTSTATUS Status = End(&Receive->Operation, &Received);
    IoFreeMdl(Receive->Datagram.Mdl);
    *Length = (ULONG_PTR)Received;
    return Status;
}

static BOOLEAN Same(const SOCKADDR_IN *One, const SOCKADDR_IN *Other) {
    return RtlCompareMemory(One, Other, 8) == 8;
}

static NTSTATUS Control(ENDPOINT *Of, int Request, ULONG Code, ULONG Level, SIZE_T Size, PVOID Input) {
    OPERATION Operation;
    Of->Socket->Dispatch->WskControlSocket(Of->Socket, Request, Code, Level, Size, Input, 0, NULL, NULL, New(&Operation));
    return End(&Operation, NULL);
}

static NTSTATUS SetEvents(ENDPOINT *Of, ULONG Mask) {
    WSK_EVENT_CALLBACK_CONTROL Events = {&WskInterface, Mask};
    return Of->Socket->Dispatch->WskControlSocket(
        Of->Socket, WskSetOption, SO_WSK_EVENT_CALLBACK, SOL_SOCKET, sizeof(Events), &Events, 0, NULL, NULL, NULL);
}

BEHAVIOUR(wsk_is_found_by_the_registrar) {
    SIZE_T Size = 0;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    CHECK(Npi.Dispatch->WskControlClient(Npi.Client, WSK_TRANSPORT_LIST_QUERY, 0, NULL, 0, NULL, &Size, NULL) ==
        STATUS_BUFFER_OVERFLOW);
    CHECK(NmrWaitForClientDeregisterComplete(ClientHandle) == STATUS_INVALID_PARAMETER);
    TRY(Shut());
    CHECK(NmrDeregisterClient(ClientHandle) == STATUS_INVALID_PARAMETER);
    return STATUS_SUCCESS;
}

BEHAVIOUR(datagrams_go_both_ways) {
    ENDPOINT One, Other;
    RECEIVE Receive;
    char Bytes[16];
    ULONG_PTR Length;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    TRY(NewEndpoint(&One, NULL));
    TRY(NewEndpoint(&Other, NULL));
    BeginReceive(&Other, &Receive, Bytes, sizeof(Bytes));
    TRY(SendTo(&One, "ping", 4, &Other.Address));
    TRY(EndReceive(&Receive, &Length));
    CHECK(Length == 4 && Bytes[0] == 'p' && Same(&Receive.From, &One.Address) && Receive.Flags == 0);
    /* One that is there already, one that is empty, and one that is longer than its buffer. */
    TRY(SendTo(&Other, "answer", 6, &Receive.From));
    TRY(SendTo(&Other, "", 0, &Receive.From));
    TRY(SendTo(&Other, "0123456789", 10, &Receive.From));
    BeginReceive(&One, &Receive, Bytes, sizeof(Bytes));
    TRY(EndReceive(&Receive, &Length));
    CHECK(Length == 6 && Bytes[5] == 'r' && Same(&Receive.From, &Other.Address));
    BeginReceive(&One, &Receive, Bytes, sizeof(Bytes));
    TRY(EndReceive(&Receive, &Length));
    CHECK(Length == 0);
    BeginReceive(&One, &Receive, Bytes, 4);
    TRY(EndReceive(&Receive, &Length));
    CHECK(Length == 4 && Bytes[3] == '3' && Receive.Flags == MSG_TRUNC);
    TRY(Close(&One));
    TRY(Close(&Other));
    return Shut();
}

BEHAVIOUR(a_receive_that_waits_is_cancelled_by_its_irp_and_by_the_close) {
    ENDPOINT Endpoint;
    RECEIVE First, Second;
    char Bytes[2][16];
    ULONG_PTR Length;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    TRY(NewEndpoint(&Endpoint, NULL));
    BeginReceive(&Endpoint, &First, Bytes[0], sizeof(Bytes[0]));
    BeginReceive(&Endpoint, &Second, Bytes[1], sizeof(Bytes[1]));
    IoCancelIrp(First.Operation.Irp);
    CHECK(EndReceive(&First, &Length) == STATUS_CANCELLED);
    TRY(Close(&Endpoint));
    CHECK(EndReceive(&Second, &Length) == STATUS_CANCELLED);
    return Shut();
}

BEHAVIOUR(a_socket_has_a_peer_of_its_own) {
    ENDPOINT One, Other, Stranger;
    RECEIVE Receive;
    char Bytes[16];
    ULONG_PTR Length;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    TRY(NewEndpoint(&One, NULL));
    TRY(NewEndpoint(&Other, NULL));
    TRY(NewEndpoint(&Stranger, NULL));
    CHECK(!NT_SUCCESS(SendTo(&One, "where to?", 9, NULL)));
    TRY(Control(&One, WskIoctl, SIO_WSK_SET_REMOTE_ADDRESS, 0, sizeof(SOCKADDR_IN), &Other.Address));
    TRY(Control(&Stranger, WskIoctl, SIO_WSK_SET_SENDTO_ADDRESS, 0, sizeof(SOCKADDR_IN), &One.Address));
    TRY(SendTo(&Stranger, "discarded", 9, NULL));
    TRY(SendTo(&One, "to my peer", 10, NULL));
    BeginReceive(&Other, &Receive, Bytes, sizeof(Bytes));
    TRY(EndReceive(&Receive, &Length));
    CHECK(Length == 10);
    TRY(SendTo(&Other, "from it", 7, &One.Address));
    BeginReceive(&One, &Receive, Bytes, sizeof(Bytes));
    TRY(EndReceive(&Receive, &Length));
    CHECK(Length == 7 && Same(&Receive.From, &Other.Address));
    /* And then it has none. */
    TRY(Control(&One, WskIoctl, SIO_WSK_SET_REMOTE_ADDRESS, 0, 0, NULL));
    TRY(SendTo(&Stranger, "welcome", 7, NULL));
    BeginReceive(&One, &Receive, Bytes, sizeof(Bytes));
    TRY(EndReceive(&Receive, &Length));
    CHECK(Length == 7 && Same(&Receive.From, &Stranger.Address));
    TRY(Close(&One));
    TRY(Close(&Other));
    TRY(Close(&Stranger));
    return Shut();
}

BEHAVIOUR(a_list_of_datagrams_is_sent) {
    ENDPOINT One, Other;
    OPERATION Operation;
    WSK_BUF_LIST Lists[3];
    RECEIVE Receive;
    char Bytes[16];
    ULONG_PTR Length;
    PVOID Sent;
    ULONG Index;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    TRY(NewEndpoint(&One, NULL));
    TRY(NewEndpoint(&Other, NULL));
    for (Index = 0; Index < 3; Index++) {
        Lists[Index].Next = Index < 2 ? &Lists[Index + 1] : NULL;
        Lists[Index].Buffer = Buffer((PVOID) "abcdef", Index + 1);
    }
    One.Socket->Dispatch->Datagram.WskSendMessages(One.Socket, Lists, 0, &Other.Address, 0, NULL, New(&Operation));
    TRY(End(&Operation, &Sent));
    CHECK((ULONG_PTR)Sent == 6);
    for (Index = 0; Index < 3; Index++) {
        IoFreeMdl(Lists[Index].Buffer.Mdl);
        BeginReceive(&Other, &Receive, Bytes, sizeof(Bytes));
        TRY(EndReceive(&Receive, &Length));
        CHECK(Length == Index + 1);
    }
    TRY(Close(&One));
    TRY(Close(&Other));
    return Shut();
}

/* What the callback is to do, and what it has seen. */
static NTSTATUS Answer;
static LONG Seen;
static WSK_DATAGRAM_INDICATION *Kept;
static SOCKADDR_IN LastFrom;
static KEVENT Told;

static NTSTATUS NTAPI ReceiveFrom(PVOID Context, ULONG Flags, WSK_DATAGRAM_INDICATION *Indication) {
    UNREFERENCED_PARAMETER(Context);
    UNREFERENCED_PARAMETER(Flags);
    LastFrom = *Indication->RemoteAddress;
    if (Answer == STATUS_PENDING)
        Kept = Indication;
    for (; Indication != NULL; Indication = Indication->Next)
        Seen++;
    KeSetEvent(&Told, IO_NO_INCREMENT, FALSE);
    return Answer;
}

static const WSK_CLIENT_DATAGRAM_DISPATCH Events = {ReceiveFrom};

static NTSTATUS OpenWithEvents(ENDPOINT *Sender, ENDPOINT *Receiver, NTSTATUS Answering) {
    TRY(Open());
    TRY(NewEndpoint(Sender, NULL));
    TRY(NewEndpoint(Receiver, &Events));
    KeInitializeEvent(&Told, SynchronizationEvent, FALSE);
    Answer = Answering;
    Seen = 0;
    Kept = NULL;
    return SetEvents(Receiver, WSK_EVENT_RECEIVE_FROM);
}

BEHAVIOUR(a_callback_is_told_of_datagrams) {
    ENDPOINT Sender, Receiver;
    OPERATION Disable;
    WSK_EVENT_CALLBACK_CONTROL Off = {&WskInterface, WSK_EVENT_RECEIVE_FROM | WSK_EVENT_DISABLE};
    UNREFERENCED_PARAMETER(Call);
    TRY(OpenWithEvents(&Sender, &Receiver, STATUS_SUCCESS));
    TRY(SendTo(&Sender, "one", 3, &Receiver.Address));
    KeWaitForSingleObject(&Told, Executive, KernelMode, FALSE, NULL);
    CHECK(Seen == 1 && Same(&LastFrom, &Sender.Address));
    Receiver.Socket->Dispatch->WskControlSocket(Receiver.Socket, WskSetOption, SO_WSK_EVENT_CALLBACK, SOL_SOCKET,
        sizeof(Off), &Off, 0, NULL, NULL, New(&Disable));
    TRY(End(&Disable, NULL));
    TRY(SendTo(&Sender, "two", 3, &Receiver.Address));
    CHECK(Seen == 1);
    TRY(SetEvents(&Receiver, WSK_EVENT_RECEIVE_FROM));
    KeWaitForSingleObject(&Told, Executive, KernelMode, FALSE, NULL);
    CHECK(Seen == 2);
    TRY(Close(&Sender));
    TRY(Close(&Receiver));
    return Shut();
}

BEHAVIOUR(datagrams_that_the_callback_does_not_take_wait) {
    ENDPOINT Sender, Receiver;
    RECEIVE Receive;
    char Bytes[16];
    ULONG_PTR Length;
    UNREFERENCED_PARAMETER(Call);
    TRY(OpenWithEvents(&Sender, &Receiver, STATUS_DATA_NOT_ACCEPTED));
    TRY(SendTo(&Sender, "later", 5, &Receiver.Address));
    KeWaitForSingleObject(&Told, Executive, KernelMode, FALSE, NULL);
    BeginReceive(&Receiver, &Receive, Bytes, sizeof(Bytes));
    TRY(EndReceive(&Receive, &Length));
    CHECK(Length == 5 && Bytes[0] == 'l');
    TRY(Close(&Sender));
    TRY(Close(&Receiver));
    return Shut();
}

BEHAVIOUR(keep_datagrams_past_the_close) {
    ENDPOINT Sender, Receiver;
    TRY(OpenWithEvents(&Sender, &Receiver, STATUS_PENDING));
    TRY(SendTo(&Sender, "kept", 4, &Receiver.Address));
    KeWaitForSingleObject(&Told, Executive, KernelMode, FALSE, NULL);
    /* The datagrams are the driver's once the callback has returned, which runs at DISPATCH_LEVEL. */
    KeFlushQueuedDpcs();
    CHECK(Kept->Buffer.Length == 4 && ((const char *)MmGetSystemAddressForMdlSafe(Kept->Buffer.Mdl, 0))[0] == 'k');
    if (!Call->Wrong)
        TRY(Receiver.Socket->Dispatch->Datagram.WskRelease(Receiver.Socket, Kept));
    TRY(Close(&Sender));
    TRY(Close(&Receiver));
    return Shut();
}

BEHAVIOUR(leave_a_client_registered) {
    TRY(Open());
    return Call->Wrong ? STATUS_SUCCESS : Shut();
}

/* Modules of an interface of its own */

static HANDLE OwnClient, OwnProvider, OwnBinding;
static LONG Bound, ClientsCleanedUp, ProvidersCleanedUp;
static const int ClientTable = 1, ProviderTable = 2;

static NTSTATUS NTAPI AttachOwnProvider(HANDLE NewBinding, PVOID Context, const NPI_REGISTRATION_INSTANCE *Provider) {
    PVOID ProviderContext;
    const void *Table;
    NTSTATUS Status;
    UNREFERENCED_PARAMETER(Context);
    if (Provider->Number != 7)
        return STATUS_NOINTERFACE;
    Status = NmrClientAttachProvider(NewBinding, &OwnClient, &ClientTable, &ProviderContext, &Table);
    if (NT_SUCCESS(Status) && ProviderContext == &OwnProvider && Table == &ProviderTable) {
        OwnBinding = NewBinding;
        Bound++;
    }
    return Status;
}

static NTSTATUS NTAPI AttachOwnClient(HANDLE NewBinding, PVOID Context, const NPI_REGISTRATION_INSTANCE *Client,
    PVOID ClientContext, const void *Table, PVOID *ProviderContext, const void **Dispatch) {
    UNREFERENCED_PARAMETER(NewBinding);
    UNREFERENCED_PARAMETER(Context);
    if (Client->ModuleId != &Module || ClientContext != &OwnClient || Table != &ClientTable)
        return STATUS_NOINTERFACE;
    *ProviderContext = &OwnProvider;
    *Dispatch = &ProviderTable;
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI DetachOwn(PVOID BindingContext) {
    return BindingContext == &OwnClient && DetachLater ? STATUS_PENDING : STATUS_SUCCESS;
}

static VOID NTAPI CleanUpOwnClient(PVOID BindingContext) {
    UNREFERENCED_PARAMETER(BindingContext);
    ClientsCleanedUp++;
}

static VOID NTAPI CleanUpOwnProvider(PVOID BindingContext) {
    UNREFERENCED_PARAMETER(BindingContext);
    ProvidersCleanedUp++;
}

static const NPI_CLIENT_CHARACTERISTICS Client = {0, sizeof(Client), AttachOwnProvider, DetachOwn, CleanUpOwnClient,
    {0, sizeof(NPI_REGISTRATION_INSTANCE), &OwnInterface, &Module, 0, NULL}};
static const NPI_PROVIDER_CHARACTERISTICS Provider = {0, sizeof(Provider), AttachOwnClient, DetachOwn, CleanUpOwnProvider,
    {0, sizeof(NPI_REGISTRATION_INSTANCE), &OwnInterface, &Module, 7, NULL}};

BEHAVIOUR(modules_of_the_same_interface_are_bound) {
    UNREFERENCED_PARAMETER(Call);
    Bound = ClientsCleanedUp = ProvidersCleanedUp = 0;
    DetachLater = FALSE;
    TRY(NmrRegisterClient(&Client, NULL, &OwnClient));
    CHECK(Bound == 0);
    TRY(NmrRegisterProvider(&Provider, NULL, &OwnProvider));
    CHECK(Bound == 1);
    CHECK(NmrDeregisterProvider(OwnProvider) == STATUS_PENDING);
    TRY(NmrWaitForProviderDeregisterComplete(OwnProvider));
    CHECK(ClientsCleanedUp == 1 && ProvidersCleanedUp == 1);
    /* Again, and the client leaves when it can. */
    TRY(NmrRegisterProvider(&Provider, NULL, &OwnProvider));
    CHECK(Bound == 2);
    DetachLater = TRUE;
    CHECK(NmrDeregisterClient(OwnClient) == STATUS_PENDING);
    CHECK(ClientsCleanedUp == 1);
    NmrClientDetachProviderComplete(OwnBinding);
    CHECK(ClientsCleanedUp == 2 && ProvidersCleanedUp == 2);
    TRY(NmrWaitForClientDeregisterComplete(OwnClient));
    CHECK(NmrDeregisterProvider(OwnProvider) == STATUS_PENDING);
    return NmrWaitForProviderDeregisterComplete(OwnProvider);
}

static const ROW Rows[] = {
    ROW_OF(wsk_is_found_by_the_registrar),
    ROW_OF(datagrams_go_both_ways),
    ROW_OF(a_receive_that_waits_is_cancelled_by_its_irp_and_by_the_close),
    ROW_OF(a_socket_has_a_peer_of_its_own),
    ROW_OF(a_list_of_datagrams_is_sent),
    ROW_OF(a_callback_is_told_of_datagrams),
    ROW_OF(datagrams_that_the_callback_does_not_take_wait),
    ROW_OF(keep_datagrams_past_the_close),
    ROW_OF(leave_a_client_registered),
    ROW_OF(modules_of_the_same_interface_are_bound),
    {NULL, NULL},
};
static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;
static VOID (*const AtUnload)(VOID) = NULL;
