/* A client of sanwsk.sys in the kernel: each behaviour is a test, which ends in success or in the line that is not as it should. */
#include "kernel_client.h"

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
    EXPECT(Send, STATUS_PIPE_DISCONNECTED, &Pair.Two, Pair.Client, Pair.Two.Operation, Pair.Near, Pair.From, 0, 1);
    TRY(Wait(&Pair.One, San.Close(Pair.Client, Pair.One.Operation, Pair.Far)));
    EXPECT(Close, STATUS_INVALID_HANDLE, NULL, Pair.Client, Pair.One.Operation, Pair.Far);
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
    EXPECT(Receive, STATUS_INVALID_BUFFER_SIZE, &Pair.Two, Pair.Client, Pair.Two.Operation, Pair.Far, Pair.To, 1, LENGTH - 1, 0);
    EXPECT(Receive, STATUS_ACCESS_VIOLATION, NULL, Pair.Client, Pair.Two.Operation, Pair.Far, Pair.To, 1, LENGTH, 0);
    EXPECT(Send, STATUS_INVALID_PARAMETER, NULL, Pair.Client, Pair.Two.Operation, Pair.Near, NULL, 0, 1);
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
    EXPECT(QueryMemory, STATUS_INVALID_PARAMETER, NULL, Pair.Client, Pair.Near, 2, &Reply);
    EXPECT(RegisterMemory, STATUS_INVALID_PARAMETER, &Pair.Two, Pair.Client, Pair.Two.Operation, Pair.Near, 1, Pair.From,
           SANWSK_MEMORY_SEND);
    EXPECT(RegisterMemory, STATUS_INVALID_PARAMETER, &Pair.Two, Pair.Client, Pair.Two.Operation, Pair.Near, 9, Pair.From, 8);
    EXPECT(DeregisterMemory, STATUS_INVALID_PARAMETER, &Pair.Two, Pair.Client, Pair.Two.Operation, Pair.Near, 9);
    Receive = San.ReceiveRegistered(Pair.Client, Pair.Three.Operation, Pair.Far, 2, 0, LENGTH);
    TRY(Negotiated(&Pair));
    TRY(Wait(&Pair.Two, San.SendRegistered(Pair.Client, Pair.Two.Operation, Pair.Near, 1, 4000, HALF)));
    CHECK(Pair.Two.Information == HALF);
    TRY(Wait(&Pair.Three, Receive));
    CHECK(Pair.Three.Information == HALF && Same(Bytes(Pair.From) + 4000, Bytes(Pair.To), HALF));
    /* Not registered for this; not inside. */
    EXPECT(SendRegistered, STATUS_ACCESS_VIOLATION, &Pair.Two, Pair.Client, Pair.Two.Operation, Pair.Far, 2, 0, 1);
    EXPECT(SendRegistered, STATUS_ACCESS_VIOLATION, &Pair.Two, Pair.Client, Pair.Two.Operation, Pair.Near, 1, LENGTH, 1);
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
    EXPECT(Decide, STATUS_INVALID_PARAMETER, NULL, Pair.Client, Accepted.Endpoint, 7);
    TRY(San.Decide(Pair.Client, Accepted.Endpoint, SanWskDecisionReject));
    CHECK(Wait(&Pair.Two, Connect) == STATUS_CONNECTION_REFUSED);
    EXPECT(Decide, STATUS_INVALID_HANDLE, NULL, Pair.Client, Accepted.Endpoint, SanWskDecisionAccept);
    return Closed(&Pair);
}

BEHAVIOUR(refuses_what_makes_no_sense) {
    PAIR Pair;
    OP *Op = &Pair.One;
    SANWSK_SOCKET_ADDRESS Any = LOOPBACK;
    SANWSK_SOCKET_ADDRESS Nowhere = {.Family = SANWSK_AF_INET}, Other = {.Family = SANWSK_AF_INET6, .Port = {0, 1}};
    SANWSK_ENDPOINT_ID Stream;
    SANWSK_CLIENT Client;
    SANWSK_MEMORY_REPLY Memory;
    SANWSK_ENDPOINT_STATISTICS Statistics;
    MDL Unlocked = {.ByteCount = 1}, Chain;
    UNREFERENCED_PARAMETER(Call);
    TRY(Listening(&Pair, SanWskEndpointKindSan));
    Client = Pair.Client;
    EXPECT(OpenClient, STATUS_INVALID_PARAMETER, NULL, San.Context, NULL);
    EXPECT(OpenClient, STATUS_INVALID_PARAMETER, NULL, NULL, &Client);
    EXPECT(Create, STATUS_INVALID_PARAMETER, NULL, Client, 99, SANWSK_AF_INET, &Stream);
    EXPECT(Create, STATUS_INVALID_PARAMETER, NULL, Client, SanWskEndpointKindSan, SANWSK_AF_INET, NULL);
    EXPECT(Create, STATUS_NOT_SUPPORTED, NULL, Client, SanWskEndpointKindSan, 99, &Stream);
    TRY(San.Create(Client, SanWskEndpointKindStreamConnection, SANWSK_AF_INET, &Stream));
    /* A function of the other kind of endpoint. */
    EXPECT(Negotiate, STATUS_NOT_SUPPORTED, Op, Client, Op->Operation, Stream, NULL, 0, 1, NULL);
    EXPECT(Decide, STATUS_NOT_SUPPORTED, NULL, Client, Stream, SanWskDecisionAccept);
    EXPECT(RegisterMemory, STATUS_NOT_SUPPORTED, Op, Client, Op->Operation, Stream, 1, Pair.From, SANWSK_MEMORY_SEND);
    EXPECT(DeregisterMemory, STATUS_NOT_SUPPORTED, Op, Client, Op->Operation, Stream, 1);
    EXPECT(QueryMemory, STATUS_NOT_SUPPORTED, NULL, Client, Stream, 1, &Memory);
    EXPECT(SendRegistered, STATUS_NOT_SUPPORTED, Op, Client, Op->Operation, Stream, 1, 0, 1);
    EXPECT(ReceiveRegistered, STATUS_NOT_SUPPORTED, Op, Client, Op->Operation, Stream, 1, 0, 1);
    EXPECT(QueryStatistics, STATUS_NOT_SUPPORTED, NULL, Client, Stream, &Statistics);
    EXPECT(SetOption, STATUS_NOT_SUPPORTED, Op, Client, Op->Operation, Pair.Listener, SanWskSocketOptionNoDelay, 1);
    /* Numbers that there are not. */
    EXPECT(Negotiate, STATUS_INVALID_BUFFER_SIZE, Op, Client, Op->Operation, Pair.Listener, Bytes(Pair.From), 257, 1, NULL);
    EXPECT(SetOption, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, 99, 1);
    EXPECT(SetOption, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, SanWskSocketOptionNoDelay, 2);
    EXPECT(Decide, STATUS_INVALID_PARAMETER, NULL, Client, Pair.Listener, 7);
    EXPECT(Receive, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, Pair.From, 0, 1, 8);
    EXPECT(Receive, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, Pair.From, 0, 0, 0);
    EXPECT(Disconnect, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, 8);
    EXPECT(Connect, STATUS_INVALID_ADDRESS_COMPONENT, Op, Client, Op->Operation, Stream, &Nowhere, 0);
    EXPECT(Connect, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, &Other, 0);
    EXPECT(Bind, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, &Other, NULL);
    EXPECT(RegisterMemory, STATUS_INVALID_CONNECTION, Op, Client, Op->Operation, Pair.Listener, 1, Pair.From, SANWSK_MEMORY_SEND);
    EXPECT(QueryMemory, STATUS_INVALID_PARAMETER, NULL, Client, Pair.Listener, 1, &Memory);
    /* Nothing where something has to be. */
    EXPECT(Connect, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, NULL, 0);
    EXPECT(Bind, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, NULL, NULL);
    EXPECT(Accept, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Pair.Listener, NULL);
    EXPECT(Negotiate, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Pair.Listener, NULL, 1, 1, NULL);
    EXPECT(QueryAddresses, STATUS_INVALID_PARAMETER, NULL, Client, Stream, NULL);
    EXPECT(QueryStatistics, STATUS_INVALID_PARAMETER, NULL, Client, Pair.Listener, NULL);
    TRY(San.Create(Client, SanWskEndpointKindStreamConnection, SANWSK_AF_INET, &Pair.Near));
    /* MDLs that are not as they have to be. */
    Chain = *Pair.From;
    Chain.Next = Pair.To;
    EXPECT(Send, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, NULL, 0, 1);
    EXPECT(Send, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, &Unlocked, 0, 1);
    EXPECT(Send, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, &Chain, 0, 1);
    EXPECT(Send, STATUS_ACCESS_VIOLATION, Op, Client, Op->Operation, Stream, Pair.From, LENGTH, 1);
    EXPECT(Send, STATUS_ACCESS_VIOLATION, Op, Client, Op->Operation, Stream, Pair.From, 0xFFFFFFFF, 2);
    EXPECT(Receive, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Stream, &Chain, 0, 1, 0);
    EXPECT(Receive, STATUS_ACCESS_VIOLATION, Op, Client, Op->Operation, Stream, Pair.From, 1, LENGTH, 0);
    EXPECT(RegisterMemory, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Pair.Listener, 1, &Chain, SANWSK_MEMORY_SEND);
    EXPECT(RegisterMemory, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Pair.Listener, 1, NULL, SANWSK_MEMORY_SEND);
    /* States in which it makes no sense. */
    EXPECT(Send, STATUS_INVALID_CONNECTION, Op, Client, Op->Operation, Stream, Pair.From, 0, 1);
    EXPECT(Receive, STATUS_INVALID_CONNECTION, Op, Client, Op->Operation, Stream, Pair.From, 0, 1, 0);
    EXPECT(Disconnect, STATUS_INVALID_CONNECTION, Op, Client, Op->Operation, Stream, 0);
    EXPECT(Listen, STATUS_NOT_SUPPORTED, Op, Client, Op->Operation, Stream, 1);
    EXPECT(Accept, STATUS_NOT_SUPPORTED, Op, Client, Op->Operation, Stream, (PSANWSK_ACCEPT_REPLY)Bytes(Pair.To));
    EXPECT(Bind, STATUS_INVALID_PARAMETER, Op, Client, Op->Operation, Pair.Listener, &Any, NULL);
    /* Memory that is no operation. */
    EXPECT(InitializeOperation, STATUS_INVALID_PARAMETER, NULL, NULL, Completed, NULL);
    EXPECT(InitializeOperation, STATUS_INVALID_PARAMETER, NULL, Pair.Two.Operation, NULL, NULL);
    EXPECT(InitializeOperation, STATUS_INVALID_PARAMETER, NULL, (PSANWSK_OPERATION)(Bytes(Pair.To) + 1), Completed, NULL);
    EXPECT(InitializeIrpOperation, STATUS_INVALID_PARAMETER, NULL, Pair.Two.Operation, NULL);
    EXPECT(CancelOperation, STATUS_INVALID_PARAMETER, NULL, (PSANWSK_OPERATION)Bytes(Pair.To));
    EXPECT(CancelOperation, STATUS_NOT_FOUND, NULL, Pair.Two.Operation);
    return Closed(&Pair);
}

/* Every function with these ids and this operation. */
#define EVERY_OPERATION(Expected, Client, Memory, Endpoint)                                                              \
    do {                                                                                                                 \
        SANWSK_SOCKET_ADDRESS Some = LOOPBACK;                                                                           \
        static SANWSK_ACCEPT_REPLY Accepted;                                                                             \
        EXPECT(SetOption, Expected, NULL, Client, Memory, Endpoint, SanWskSocketOptionNoDelay, 1);                       \
        EXPECT(Bind, Expected, NULL, Client, Memory, Endpoint, &Some, NULL);                                             \
        EXPECT(Connect, Expected, NULL, Client, Memory, Endpoint, &Some, 0);                                             \
        EXPECT(Listen, Expected, NULL, Client, Memory, Endpoint, 1);                                                     \
        EXPECT(Accept, Expected, NULL, Client, Memory, Endpoint, &Accepted);                                             \
        EXPECT(Negotiate, Expected, NULL, Client, Memory, Endpoint, NULL, 0, 1, NULL);                                   \
        EXPECT(RegisterMemory, Expected, NULL, Client, Memory, Endpoint, 1, Pair.From, SANWSK_MEMORY_SEND);              \
        EXPECT(DeregisterMemory, Expected, NULL, Client, Memory, Endpoint, 1);                                           \
        EXPECT(Send, Expected, NULL, Client, Memory, Endpoint, Pair.From, 0, 1);                                         \
        EXPECT(SendRegistered, Expected, NULL, Client, Memory, Endpoint, 1, 0, 1);                                       \
        EXPECT(Receive, Expected, NULL, Client, Memory, Endpoint, Pair.To, 0, 1, 0);                                     \
        EXPECT(ReceiveRegistered, Expected, NULL, Client, Memory, Endpoint, 1, 0, 1);                                    \
        EXPECT(Disconnect, Expected, NULL, Client, Memory, Endpoint, 0);                                                 \
        EXPECT(Close, Expected, NULL, Client, Memory, Endpoint);                                                         \
    } while (0)

#define EVERY_QUERY(Expected, Client, Endpoint)                                         \
    do {                                                                                \
        SANWSK_ADDRESSES_REPLY Addresses;                                               \
        SANWSK_MEMORY_REPLY Memory;                                                     \
        SANWSK_ENDPOINT_STATISTICS Statistics;                                          \
        EXPECT(Decide, Expected, NULL, Client, Endpoint, SanWskDecisionAccept);         \
        EXPECT(QueryMemory, Expected, NULL, Client, Endpoint, 1, &Memory);              \
        EXPECT(QueryAddresses, Expected, NULL, Client, Endpoint, &Addresses);           \
        EXPECT(QueryStatistics, Expected, NULL, Client, Endpoint, &Statistics);         \
    } while (0)

BEHAVIOUR(refuses_stale_ids) {
    PAIR Pair;
    SANWSK_CLIENT Gone;
    SANWSK_ENDPOINT_ID Shut, Others, New;
    PSANWSK_OPERATION Operation;
    UNREFERENCED_PARAMETER(Call);
    TRY(Listening(&Pair, SanWskEndpointKindSan));
    Operation = Pair.One.Operation;
    /* An endpoint that is closed; one of another client; a client that is closed; one that has never been. */
    TRY(San.Create(Pair.Client, SanWskEndpointKindSan, SANWSK_AF_INET, &Shut));
    TRY(Wait(&Pair.One, San.Close(Pair.Client, Operation, Shut)));
    EVERY_OPERATION(STATUS_INVALID_HANDLE, Pair.Client, Operation, Shut);
    EVERY_QUERY(STATUS_INVALID_HANDLE, Pair.Client, Shut);
    TRY(San.OpenClient(San.Context, &Gone));
    TRY(San.Create(Gone, SanWskEndpointKindSan, SANWSK_AF_INET, &Others));
    EVERY_OPERATION(STATUS_INVALID_HANDLE, Pair.Client, Operation, Others);
    EVERY_QUERY(STATUS_INVALID_HANDLE, Pair.Client, Others);
    TRY(Wait(&Pair.One, San.CloseClient(Gone, Operation)));
    EVERY_OPERATION(STATUS_INVALID_HANDLE, Gone, Operation, Others);
    EVERY_QUERY(STATUS_INVALID_HANDLE, Gone, Others);
    EXPECT(CloseClient, STATUS_INVALID_HANDLE, NULL, Gone, Operation);
    EXPECT(Create, STATUS_INVALID_HANDLE, NULL, Gone, SanWskEndpointKindSan, SANWSK_AF_INET, &New);
    EVERY_OPERATION(STATUS_INVALID_HANDLE, 0, Operation, Pair.Listener);
    EVERY_OPERATION(STATUS_INVALID_HANDLE, ~0ULL, Operation, ~0ULL);
    return Closed(&Pair);
}

BEHAVIOUR(refuses_operations_that_are_none) {
    PAIR Pair;
    SANWSK_ACCEPT_REPLY Reply;
    PSANWSK_OPERATION None;
    UNREFERENCED_PARAMETER(Call);
    TRY(Listening(&Pair, SanWskEndpointKindSan));
    None = (PSANWSK_OPERATION)Bytes(Pair.To);
    EVERY_OPERATION(STATUS_INVALID_PARAMETER, Pair.Client, NULL, Pair.Listener);
    EVERY_OPERATION(STATUS_INVALID_PARAMETER, Pair.Client, None, Pair.Listener);
    EVERY_OPERATION(STATUS_INVALID_PARAMETER, Pair.Client, (PSANWSK_OPERATION)((PUCHAR)Pair.Two.Operation + 1), Pair.Listener);
    EXPECT(CloseClient, STATUS_INVALID_PARAMETER, NULL, Pair.Client, None);
    /* One that is under way. */
    CHECK(San.Accept(Pair.Client, Pair.Two.Operation, Pair.Listener, &Reply) == STATUS_PENDING);
    EVERY_OPERATION(STATUS_DEVICE_BUSY, Pair.Client, Pair.Two.Operation, Pair.Listener);
    EXPECT(CloseClient, STATUS_DEVICE_BUSY, NULL, Pair.Client, Pair.Two.Operation);
    return Closed(&Pair);
}

/* Before TCP/IP is there. */
BEHAVIOUR(is_not_ready) {
    SANWSK_CLIENT Client;
    SANWSK_ENDPOINT_ID Endpoint;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    TRY(San.OpenClient(San.Context, &Client));
    EXPECT(Create, STATUS_DEVICE_NOT_READY, NULL, Client, SanWskEndpointKindSan, SANWSK_AF_INET, &Endpoint);
    EXPECT(CloseClient, STATUS_SUCCESS, NULL, Client, NULL);
    return STATUS_SUCCESS;
}

/* Where a handle may have two. */
BEHAVIOUR(has_too_many_endpoints) {
    SANWSK_CLIENT Client;
    SANWSK_ENDPOINT_ID First, Second, Third;
    OP Op;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    TRY(Make(&Op));
    TRY(San.OpenClient(San.Context, &Client));
    TRY(San.Create(Client, SanWskEndpointKindSan, SANWSK_AF_INET, &First));
    TRY(San.Create(Client, SanWskEndpointKindSan, SANWSK_AF_INET, &Second));
    EXPECT(Create, STATUS_TOO_MANY_OPENED_FILES, NULL, Client, SanWskEndpointKindSan, SANWSK_AF_INET, &Third);
    TRY(Wait(&Op, San.Close(Client, Op.Operation, First)));
    TRY(San.Create(Client, SanWskEndpointKindSan, SANWSK_AF_INET, &Third));
    EXPECT(CloseClient, STATUS_SUCCESS, NULL, Client, NULL);
    Free(&Op);
    return STATUS_SUCCESS;
}

/* One allocation of it fails: whatever then cannot be done says so, and all that was is taken back. */
static NTSTATUS Scarce(PAIR *Pair, ULONG Kind) {
    SANWSK_SOCKET_ADDRESS Any = LOOPBACK;
    SANWSK_ENDPOINT_ID Endpoint;
    SANWSK_ACCEPT_REPLY Accepted;
    NTSTATUS Status = San.Create(Pair->Client, Kind, SANWSK_AF_INET, &Endpoint);
    if (Status != STATUS_SUCCESS)
        return Status;
    Status = Wait(&Pair->One, San.Bind(Pair->Client, Pair->One.Operation, Endpoint, &Any, NULL));
    if (Status == STATUS_SUCCESS)
        Status = Wait(&Pair->One, San.Listen(Pair->Client, Pair->One.Operation, Endpoint, 5));
    if (Status == STATUS_SUCCESS)
        Status = San.Accept(Pair->Client, Pair->Two.Operation, Endpoint, &Accepted);
    if (Kind == SanWskEndpointKindSan && NT_SUCCESS(Status))
        Status = San.RegisterMemory(Pair->Client, Pair->Three.Operation, Endpoint, 1, Pair->From, SANWSK_MEMORY_SEND);
    return Status == STATUS_PENDING ? STATUS_SUCCESS : Status;
}

BEHAVIOUR(gets_along_without_memory) {
    PAIR Pair;
    NTSTATUS Status = Open();
    UNREFERENCED_PARAMETER(Call);
    if (Status != STATUS_SUCCESS)
        return Status;
    RtlZeroMemory(&Pair, sizeof(Pair));
    Status = Make(&Pair.One);
    if (Status == STATUS_SUCCESS)
        Status = Make(&Pair.Two);
    if (Status == STATUS_SUCCESS)
        Status = Make(&Pair.Three);
    if (Status == STATUS_SUCCESS && (Pair.From = Memory()) == NULL)
        Status = STATUS_INSUFFICIENT_RESOURCES;
    if (Status == STATUS_SUCCESS)
        Status = San.OpenClient(San.Context, &Pair.Client);
    if (Status == STATUS_SUCCESS) {
        Status = Scarce(&Pair, SanWskEndpointKindSan);
        if (Status == STATUS_SUCCESS)
            EXPECT(CloseClient, STATUS_SUCCESS, NULL, Pair.Client, NULL);
        else
            San.CloseClient(Pair.Client, NULL);
    }
    if (Pair.One.Operation != NULL)
        Free(&Pair.One);
    if (Pair.Two.Operation != NULL)
        Free(&Pair.Two);
    if (Pair.Three.Operation != NULL)
        Free(&Pair.Three);
    if (Pair.From != NULL)
        FreeMemory(Pair.From);
    return Status;
}

/* Endpoints and a client that are closed while threads send and receive. */
typedef struct {
    PAIR *Pair;
    SANWSK_ENDPOINT_ID Endpoint;
    BOOLEAN Sends;
    OP Op;
    ULONG Moved;
    NTSTATUS Ended;
} LOAD;

static VOID NTAPI Loads(PVOID Context) {
    LOAD *Load = Context;
    PAIR *Pair = Load->Pair;
    do {
        NTSTATUS Begun = Load->Sends ? San.Send(Pair->Client, Load->Op.Operation, Load->Endpoint, Pair->From, 0, LENGTH)
                                     : San.Receive(Pair->Client, Load->Op.Operation, Load->Endpoint, Pair->To, 0, LENGTH, 0);
        Load->Ended = Wait(&Load->Op, Begun);
        Load->Moved += NT_SUCCESS(Load->Ended);
    } while (NT_SUCCESS(Load->Ended));
    PsTerminateSystemThread(STATUS_SUCCESS);
}

#define LOADS 6

static NTSTATUS UnderLoad(ULONG Kind, BOOLEAN WholeClient) {
    PAIR Pair;
    LOAD Load[LOADS];
    PVOID Threads[LOADS];
    ULONG At, Moved = 0;
    TRY(Connected(&Pair, Kind == SanWskEndpointKindSan));
    if (Kind == SanWskEndpointKindSan)
        TRY(Negotiated(&Pair));
    for (At = 0; At < LOADS; At++) {
        HANDLE Handle;
        RtlZeroMemory(&Load[At], sizeof(Load[At]));
        TRY(Make(&Load[At].Op));
        Load[At].Pair = &Pair;
        Load[At].Sends = At % 2 == 0;
        Load[At].Endpoint = Load[At].Sends ? Pair.Near : Pair.Far;
        TRY(PsCreateSystemThread(&Handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, Loads, &Load[At]));
        TRY(ObReferenceObjectByHandle(Handle, SYNCHRONIZE, NULL, KernelMode, &Threads[At], NULL));
        ZwClose(Handle);
    }
    Moment();
    if (WholeClient) {
        EXPECT(CloseClient, STATUS_SUCCESS, NULL, Pair.Client, NULL);
    } else {
        EXPECT(Close, STATUS_SUCCESS, &Pair.One, Pair.Client, Pair.One.Operation, Pair.Near);
        EXPECT(Close, STATUS_SUCCESS, &Pair.Two, Pair.Client, Pair.Two.Operation, Pair.Far);
    }
    for (At = 0; At < LOADS; At++) {
        KeWaitForSingleObject(Threads[At], Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(Threads[At]);
        /* Each operation has completed once, and none hangs. */
        CHECK(!NT_SUCCESS(Load[At].Ended) && Load[At].Ended != STATUS_IO_TIMEOUT);
        Moved += Load[At].Moved;
        Free(&Load[At].Op);
    }
    CHECK(Moved > 0);
    if (!WholeClient)
        EXPECT(CloseClient, STATUS_SUCCESS, NULL, Pair.Client, NULL);
    FreePair(&Pair);
    return STATUS_SUCCESS;
}

BEHAVIOUR(is_closed_under_load) {
    ULONG Round;
    UNREFERENCED_PARAMETER(Call);
    for (Round = 0; Round < 4; Round++)
        TRY(UnderLoad(Round % 2 == 0 ? SanWskEndpointKindSan : SanWskEndpointKindStreamConnection, Round >= 2));
    return STATUS_SUCCESS;
}

/* Faults: at an IRQL at which this may not be called. */
BEHAVIOUR(calls_above_dispatch_level) {
    SANWSK_CLIENT Client;
    SANWSK_ENDPOINT_ID Endpoint;
    NTSTATUS Status;
    KIRQL Old;
    TRY(Open());
    TRY(San.OpenClient(San.Context, &Client));
    KeRaiseIrql(Call->Wrong ? DISPATCH_LEVEL + 1 : DISPATCH_LEVEL, &Old);
    Status = San.Create(Client, SanWskEndpointKindSan, SANWSK_AF_INET, &Endpoint);
    KeLowerIrql(Old);
    TRY(Status);
    return San.CloseClient(Client, NULL);
}

BEHAVIOUR(waits_at_dispatch_level) {
    SANWSK_CLIENT Client;
    NTSTATUS Status;
    KIRQL Old;
    TRY(Open());
    TRY(San.OpenClient(San.Context, &Client));
    KeRaiseIrql(Call->Wrong ? DISPATCH_LEVEL : PASSIVE_LEVEL, &Old);
    Status = San.CloseClient(Client, NULL);
    KeLowerIrql(Old);
    return Status;
}

BEHAVIOUR(asks_at_dispatch_level) {
    SANWSK_INTERFACE Another;
    NTSTATUS Status;
    KIRQL Old;
    TRY(Open());
    KeRaiseIrql(Call->Wrong ? DISPATCH_LEVEL : PASSIVE_LEVEL, &Old);
    Status = Ask(SANWSK_INTERFACE_VERSION, sizeof(Another), &Another, sizeof(Another));
    KeLowerIrql(Old);
    TRY(Status);
    Another.InterfaceDereference(Another.Context);
    return STATUS_SUCCESS;
}

static NTSTATUS CancelAccept(PAIR *Pair) {
    SANWSK_ACCEPT_REPLY Accepted;
    EXPECT(CancelOperation, STATUS_NOT_FOUND, NULL, Pair->One.Operation);
    CHECK(San.Accept(Pair->Client, Pair->One.Operation, Pair->Listener, &Accepted) == STATUS_PENDING);
    EXPECT(Accept, STATUS_DEVICE_BUSY, NULL, Pair->Client, Pair->One.Operation, Pair->Listener, &Accepted);
    Moment();
    CHECK(Pair->One.Completions > 0 && Pair->One.Status == STATUS_SUCCESS);
    TRY(San.CancelOperation(Pair->One.Operation));
    CHECK(Wait(&Pair->One, STATUS_PENDING) == STATUS_CANCELLED);
    EXPECT(CancelOperation, STATUS_NOT_FOUND, NULL, Pair->One.Operation);
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
            EXPECT(CloseClient, STATUS_INVALID_HANDLE, NULL, Pair.Client, NULL);
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
    RAISED(Status, (San.InterfaceReference(San.Context), San.InterfaceDereference(San.Context), STATUS_SUCCESS));
    RAISED(Status, San.OpenClient(San.Context, &Client));
    TRY(Status);
    for (Messages = 0; Messages < 2; Messages++) {
        SANWSK_ENDPOINT_ID Listener, Near, Far;
        TRY(Listening(&Pair, SanWskEndpointKindSan));
        RAISED(Status, San.InitializeOperation(Pair.One.Operation, Completed, &Pair.One));
        TRY(Status);
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
            RAISED(Status, San.ReceiveRegistered(Client, Pair.One.Operation, Far, 1, 0, LENGTH));
            CHECK(!NT_SUCCESS(Wait(&Pair.One, Status)));
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
    EXPECT(InitializeIrpOperation, STATUS_INVALID_PARAMETER, NULL, Operation, NULL);
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
    EXPECT(Receive, STATUS_INVALID_HANDLE, NULL, Pair.Client, Operation, 12345, Pair.To, 0, 1000, 0);
    CHECK(Irp->CurrentLocation == 2);
    /* Cancelled while it waits, and before. */
    CHECK(San.Receive(Pair.Client, Operation, Pair.Far, Pair.To, 0, 1000, 0) == STATUS_PENDING);
    EXPECT(CancelOperation, STATUS_NOT_SUPPORTED, NULL, Operation);
    Moment();
    CHECK(IoCancelIrp(Irp));
    KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
    CHECK(Irp->IoStatus.Status == STATUS_CANCELLED);
    Prepare(Irp, &Event);
    CHECK(!IoCancelIrp(Irp));
    EXPECT(Receive, STATUS_CANCELLED, NULL, Pair.Client, Operation, Pair.Far, Pair.To, 0, 1000, 0);
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
    ROW_OF(refuses_stale_ids),
    ROW_OF(refuses_operations_that_are_none),
    ROW_OF(is_not_ready),
    ROW_OF(has_too_many_endpoints),
    ROW_OF(gets_along_without_memory),
    ROW_OF(is_closed_under_load),
    ROW_OF(calls_above_dispatch_level),
    ROW_OF(waits_at_dispatch_level),
    ROW_OF(asks_at_dispatch_level),
    ROW_OF(cancels),
    ROW_OF(closes_with_operations_outstanding),
    ROW_OF(may_be_called_at_dispatch_level),
    ROW_OF(completes_irps),
    ROW_OF(may_be_called_from_many_threads),
    {NULL, NULL},
};
