/* A client of sanwsk.sys in the kernel whose operations end in the middle, begin in each other's completions, and are counted. */
#include "kernel_client.h"

/* What an operation comes to that is cancelled at once: it completes, once. */
static NTSTATUS Cancelled(OP *Op, NTSTATUS Begun) {
    LONG Before = Op->Completions;
    NTSTATUS Status;
    if (Begun != STATUS_PENDING)
        return Begun;
    Status = San.CancelOperation(Op->Operation);
    if (Status != STATUS_SUCCESS && Status != STATUS_NOT_FOUND)
        return Status;
    Status = Wait(Op, STATUS_PENDING);
    /* It may have completed before it was counted, but not twice. */
    return Op->Completions - Before <= 1 ? Status : STATUS_INVALID_DEVICE_STATE;
}

/* Where nothing else can end it. */
#define CANCEL(Function, Op, ...) \
    CHECK(Cancelled(Op, San.Function(Pair.Client, (Op)->Operation, __VA_ARGS__)) == STATUS_CANCELLED)

/* Where its end may have been faster. */
#define CANCEL_OR_END(Function, Op, ...)                                                              \
    do {                                                                                              \
        NTSTATUS Came = Cancelled(Op, San.Function(Pair.Client, (Op)->Operation, __VA_ARGS__));       \
        CHECK(Came == STATUS_CANCELLED || Came == STATUS_SUCCESS);                                    \
    } while (0)

BEHAVIOUR(cancels_what_streams_do) {
    PAIR Pair;
    SANWSK_ENDPOINT_ID Endpoint;
    SANWSK_SOCKET_ADDRESS Any = LOOPBACK;
    SANWSK_ACCEPT_REPLY Accepted;
    ULONG Kind;
    UNREFERENCED_PARAMETER(Call);
    TRY(Connected(&Pair, FALSE));
    CANCEL(Accept, &Pair.One, Pair.Listener, &Accepted);
    CANCEL(Receive, &Pair.One, Pair.Far, Pair.To, 0, LENGTH, SANWSK_RECEIVE_ALL);
    for (Kind = SanWskEndpointKindStreamConnection; Kind <= SanWskEndpointKindStreamListener; Kind++) {
        TRY(San.Create(Pair.Client, Kind, SANWSK_AF_INET, &Endpoint));
        CANCEL_OR_END(Bind, &Pair.One, Endpoint, &Any, NULL);
        TRY(Wait(&Pair.One, San.Close(Pair.Client, Pair.One.Operation, Endpoint)));
    }
    TRY(San.Create(Pair.Client, SanWskEndpointKindStreamConnection, SANWSK_AF_INET, &Endpoint));
    CANCEL_OR_END(SetOption, &Pair.One, Endpoint, SanWskSocketOptionNoDelay, 1);
    CANCEL_OR_END(Connect, &Pair.One, Endpoint, &Pair.Address, 20000);
    /* The peer does not read: the buffers fill, and the last send waits. */
    do
        CANCEL_OR_END(Send, &Pair.One, Pair.Near, Pair.From, 0, LENGTH);
    while (Pair.One.Status == STATUS_SUCCESS);
    TRY(Closed(&Pair));
    TRY(Connected(&Pair, FALSE));
    CANCEL_OR_END(Disconnect, &Pair.One, Pair.Near, 0);
    return Closed(&Pair);
}

BEHAVIOUR(cancels_what_sessions_do) {
    PAIR Pair;
    OP Source, Target;
    SANWSK_ENDPOINT_ID Endpoint;
    SANWSK_SOCKET_ADDRESS Any = LOOPBACK;
    SANWSK_ACCEPT_REPLY Accepted;
    SANWSK_NEGOTIATE_REPLY Peer;
    UNREFERENCED_PARAMETER(Call);
    TRY(Connected(&Pair, TRUE));
    TRY(Make(&Source));
    TRY(Make(&Target));
    CANCEL(Accept, &Pair.One, Pair.Listener, &Accepted);
    TRY(San.Create(Pair.Client, SanWskEndpointKindSan, SANWSK_AF_INET, &Endpoint));
    TRY(Wait(&Pair.One, San.Bind(Pair.Client, Pair.One.Operation, Endpoint, &Any, NULL)));
    /* Nobody takes it in. */
    CANCEL(Connect, &Pair.One, Endpoint, &Pair.Address, 0);
    CHECK(San.RegisterMemory(Pair.Client, Source.Operation, Pair.Near, 1, Pair.From, SANWSK_MEMORY_SEND) == STATUS_PENDING);
    CHECK(San.RegisterMemory(Pair.Client, Target.Operation, Pair.Far, 2, Pair.To, SANWSK_MEMORY_RECEIVE) == STATUS_PENDING);
    CANCEL(RegisterMemory, &Pair.One, Pair.Near, 3, Pair.From, SANWSK_MEMORY_SEND);
    CANCEL(Negotiate, &Pair.One, Pair.Near, NULL, 0, LENGTH, &Peer);
    TRY(Closed(&Pair));
    CHECK(Source.Completions == 1 && Target.Completions == 1);
    TRY(Connected(&Pair, TRUE));
    TRY(Negotiated(&Pair));
    CHECK(San.RegisterMemory(Pair.Client, Source.Operation, Pair.Near, 1, Pair.From, SANWSK_MEMORY_SEND) == STATUS_PENDING);
    CHECK(San.RegisterMemory(Pair.Client, Target.Operation, Pair.Far, 2, Pair.To, SANWSK_MEMORY_RECEIVE) == STATUS_PENDING);
    CANCEL(Receive, &Pair.One, Pair.Far, Pair.To, 0, LENGTH, 0);
    CANCEL(ReceiveRegistered, &Pair.One, Pair.Far, 2, 0, LENGTH);
    TRY(Wait(&Pair.Two, San.DeregisterMemory(Pair.Client, Pair.Two.Operation, Pair.Far, 2)));
    CHECK(San.CancelOperation(Target.Operation) == STATUS_NOT_FOUND);
    TRY(Closed(&Pair));
    /* What is sent waits for a receive. */
    TRY(Connected(&Pair, TRUE));
    TRY(Negotiated(&Pair));
    CHECK(San.RegisterMemory(Pair.Client, Source.Operation, Pair.Near, 1, Pair.From, SANWSK_MEMORY_SEND) == STATUS_PENDING);
    CANCEL(Send, &Pair.One, Pair.Near, Pair.From, 0, LENGTH);
    CANCEL(SendRegistered, &Pair.One, Pair.Near, 1, 0, LENGTH);
    CANCEL_OR_END(Disconnect, &Pair.One, Pair.Near, 0);
    /* What closes is not cancelled. */
    CHECK(Cancelled(&Pair.One, San.Close(Pair.Client, Pair.One.Operation, Pair.Near)) == STATUS_SUCCESS);
    CHECK(Cancelled(&Pair.One, San.CloseClient(Pair.Client, Pair.One.Operation)) == STATUS_SUCCESS);
    FreePair(&Pair);
    Free(&Source);
    Free(&Target);
    return STATUS_SUCCESS;
}

/* One operation that begins again in its own completion. */
typedef struct {
    PSANWSK_OPERATION Operation;
    PAIR *Pair;
    BOOLEAN Sends;
    ULONG Room;
    ULONG Left;
    NTSTATUS Ended;
    KEVENT Done;
} CHAIN;

#define LINKS 2000

static VOID Next(CHAIN *Chain) {
    PAIR *Pair = Chain->Pair;
    NTSTATUS Status = Chain->Sends ? San.Send(Pair->Client, Chain->Operation, Pair->Near, Pair->From, 0, 1)
                                   : San.Receive(Pair->Client, Chain->Operation, Pair->Far, Pair->To, 0, Chain->Room, 0);
    if (Status != STATUS_PENDING) {
        Chain->Ended = Status;
        KeSetEvent(&Chain->Done, IO_NO_INCREMENT, FALSE);
    }
}

static VOID NTAPI GoesOn(PSANWSK_OPERATION Operation, PVOID Context, NTSTATUS Status, ULONG_PTR Information) {
    CHAIN *Chain = Context;
    UNREFERENCED_PARAMETER(Operation);
    if (NT_SUCCESS(Status) && Information == 1 && --Chain->Left > 0) {
        Next(Chain);
        return;
    }
    Chain->Ended = Status;
    KeSetEvent(&Chain->Done, IO_NO_INCREMENT, FALSE);
}

static NTSTATUS Begin(CHAIN *Chain, PAIR *Pair, BOOLEAN Sends, ULONG Room) {
    *Chain = (CHAIN){.Pair = Pair, .Sends = Sends, .Room = Room};
    KeInitializeEvent(&Chain->Done, NotificationEvent, FALSE);
    CHECK((Chain->Operation = ExAllocatePool2(POOL_FLAG_NON_PAGED, San.OperationSize, TAG)) != NULL);
    return San.InitializeOperation(Chain->Operation, GoesOn, Chain);
}

static NTSTATUS End(CHAIN *Chain) {
    LARGE_INTEGER Timeout = {.QuadPart = -20LL * 10000000};
    CHECK(KeWaitForSingleObject(&Chain->Done, Executive, KernelMode, FALSE, &Timeout) == STATUS_SUCCESS);
    TRY(Chain->Ended);
    CHECK(Chain->Left == 0);
    return STATUS_SUCCESS;
}

BEHAVIOUR(begins_again_in_a_completion) {
    PAIR Pair;
    CHAIN Sends, Receives;
    ULONG Messages, Late;
    UNREFERENCED_PARAMETER(Call);
    for (Messages = 0; Messages < 2; Messages++) {
        TRY(Connected(&Pair, Messages != 0));
        if (Messages)
            TRY(Negotiated(&Pair));
        TRY(Begin(&Sends, &Pair, TRUE, 0));
        TRY(Begin(&Receives, &Pair, FALSE, Messages ? LENGTH : 1));
        for (Late = 0; Late < (Messages ? 1 : 2); Late++) {
            Sends.Left = Receives.Left = LINKS;
            KeClearEvent(&Sends.Done);
            KeClearEvent(&Receives.Done);
            if (!Late)
                Next(&Receives);
            Next(&Sends);
            TRY(End(&Sends));
            /* Everything is there already: each receive can end at once. */
            if (Late)
                Next(&Receives);
            TRY(End(&Receives));
        }
        TRY(San.CloseClient(Pair.Client, NULL));
        ExFreePoolWithTag(Sends.Operation, TAG);
        ExFreePoolWithTag(Receives.Operation, TAG);
        FreePair(&Pair);
    }
    return STATUS_SUCCESS;
}

/* Operations on what stands, for the test to count what they allocate. */
static PAIR Stream, Session;
static OP Source, Target;

BEHAVIOUR(stands) {
    UNREFERENCED_PARAMETER(Call);
    TRY(Connected(&Stream, FALSE));
    TRY(Connected(&Session, TRUE));
    TRY(Negotiated(&Session));
    TRY(Make(&Source));
    TRY(Make(&Target));
    CHECK(San.RegisterMemory(Session.Client, Source.Operation, Session.Near, 1, Session.From, SANWSK_MEMORY_SEND) == STATUS_PENDING);
    CHECK(San.RegisterMemory(Session.Client, Target.Operation, Session.Far, 2, Session.To, SANWSK_MEMORY_RECEIVE) == STATUS_PENDING);
    return STATUS_SUCCESS;
}

BEHAVIOUR(falls) {
    UNREFERENCED_PARAMETER(Call);
    TRY(Closed(&Stream));
    TRY(Closed(&Session));
    Free(&Source);
    Free(&Target);
    return STATUS_SUCCESS;
}

static NTSTATUS Operate(ULONG Times) {
    ULONG Round;
    for (Round = 0; Round < Times; Round++) {
        SANWSK_ADDRESSES_REPLY Addresses;
        SANWSK_ACCEPT_REPLY Accepted;
        NTSTATUS Receive = San.Receive(Stream.Client, Stream.One.Operation, Stream.Far, Stream.To, 0, LENGTH, SANWSK_RECEIVE_ALL);
        TRY(Wait(&Stream.Two, San.Send(Stream.Client, Stream.Two.Operation, Stream.Near, Stream.From, 0, LENGTH)));
        TRY(Wait(&Stream.One, Receive));
        Receive = San.Receive(Session.Client, Session.One.Operation, Session.Far, Session.To, 0, LENGTH, 0);
        TRY(Wait(&Session.Two, San.Send(Session.Client, Session.Two.Operation, Session.Near, Session.From, 100, HALF)));
        TRY(Wait(&Session.One, Receive));
        Receive = San.ReceiveRegistered(Session.Client, Session.One.Operation, Session.Far, 2, 0, LENGTH);
        TRY(Wait(&Session.Two, San.SendRegistered(Session.Client, Session.Two.Operation, Session.Near, 1, 0, HALF)));
        TRY(Wait(&Session.One, Receive));
        CHECK(Cancelled(&Session.One, San.Accept(Session.Client, Session.One.Operation, Session.Listener, &Accepted)) ==
              STATUS_CANCELLED);
        TRY(San.QueryAddresses(Stream.Client, Stream.Near, &Addresses));
    }
    return STATUS_SUCCESS;
}

BEHAVIOUR(operates_ten_times) {
    UNREFERENCED_PARAMETER(Call);
    return Operate(10);
}

BEHAVIOUR(operates_two_hundred_times) {
    UNREFERENCED_PARAMETER(Call);
    return Operate(200);
}

/* A path from a listener to a disconnect, which something else may end at any point of it. */
static PAIR Path;
static OP Ender;

static NTSTATUS NTAPI IrpCompleted(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    OP *Op = Context;
    UNREFERENCED_PARAMETER(Device);
    Completed(Op->Operation, Op, Irp->IoStatus.Status, Irp->IoStatus.Information);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS MakeWithIrp(OP *Op) {
    TRY(Make(Op));
    CHECK((Op->Irp = IoAllocateIrp(1, FALSE)) != NULL);
    return San.InitializeIrpOperation(Op->Operation, Op->Irp);
}

/* Its operation, ready to be begun. */
static PSANWSK_OPERATION Ready(OP *Op) {
    if (Op->Irp != NULL) {
        IoReuseIrp(Op->Irp, STATUS_UNSUCCESSFUL);
        IoSetCompletionRoutine(Op->Irp, IrpCompleted, Op, TRUE, TRUE, TRUE);
    }
    return Op->Operation;
}

static VOID Cancel(OP *Op) {
    if (Op->Irp != NULL)
        IoCancelIrp(Op->Irp);
    else
        San.CancelOperation(Op->Operation);
}

static NTSTATUS Prepare(NTSTATUS (*MakeOne)(OP *Op)) {
    TRY(Open());
    TRY(MakeOne(&Path.One));
    TRY(MakeOne(&Path.Two));
    TRY(MakeOne(&Path.Three));
    TRY(Make(&Ender));
    CHECK((Path.From = Memory()) != NULL && (Path.To = Memory()) != NULL);
    return STATUS_SUCCESS;
}

BEHAVIOUR(prepares_the_path) {
    UNREFERENCED_PARAMETER(Call);
    return Prepare(Make);
}

BEHAVIOUR(prepares_the_path_with_irps) {
    UNREFERENCED_PARAMETER(Call);
    return Prepare(MakeWithIrp);
}

BEHAVIOUR(frees_the_path) {
    UNREFERENCED_PARAMETER(Call);
    FreePair(&Path);
    Free(&Ender);
    return STATUS_SUCCESS;
}

static NTSTATUS OutcomeOf(OP *Op, NTSTATUS Begun) {
    return Begun == STATUS_PENDING && KeReadStateEvent(&Op->Event) ? Op->Status : Begun;
}

/* Until Two is over; or the first failure, for then the other one may wait in vain. */
static NTSTATUS WaitForTwo(NTSTATUS One, NTSTATUS Two) {
    ULONG Tries;
    for (Tries = 0; Tries < 5000; Tries++) {
        NTSTATUS First = OutcomeOf(&Path.One, One), Second = OutcomeOf(&Path.Two, Two);
        if (First != STATUS_SUCCESS && First != STATUS_PENDING)
            return First;
        if (Second != STATUS_PENDING) {
            KeClearEvent(&Path.Two.Event);
            return Second;
        }
        Moment();
    }
    CHECK(!"it hangs");
}

static NTSTATUS WaitForOne(NTSTATUS Begun) {
    NTSTATUS Status = Wait(&Path.One, Begun);
    CHECK(Status != STATUS_IO_TIMEOUT || Path.One.Status == STATUS_IO_TIMEOUT);
    return Status;
}

static NTSTATUS WaitForBoth(NTSTATUS One, NTSTATUS Two) {
    Two = WaitForTwo(One, Two);
    return Two == STATUS_SUCCESS ? WaitForOne(One) : Two;
}

#define STEP(Expression)                  \
    do {                                  \
        NTSTATUS Came = (Expression);     \
        if (Came != STATUS_SUCCESS)       \
            return Came;                  \
    } while (0)
#define ONE(Function, ...) San.Function(Path.Client, Ready(&Path.One), __VA_ARGS__)
#define TWO(Function, ...) San.Function(Path.Client, Ready(&Path.Two), __VA_ARGS__)

static NTSTATUS Go(BOOLEAN Messages) {
    SANWSK_SOCKET_ADDRESS Any = LOOPBACK;
    SANWSK_ADDRESSES_REPLY Addresses;
    /* They stay, whenever this returns. */
    static SANWSK_ACCEPT_REPLY Accepted;
    static SANWSK_NEGOTIATE_REPLY Peer;
    NTSTATUS First;
    STEP(San.Create(Path.Client, Messages ? SanWskEndpointKindSan : SanWskEndpointKindStreamListener, SANWSK_AF_INET, &Path.Listener));
    STEP(WaitForOne(ONE(Bind, Path.Listener, &Any, NULL)));
    STEP(WaitForOne(ONE(Listen, Path.Listener, 5)));
    STEP(San.QueryAddresses(Path.Client, Path.Listener, &Addresses));
    STEP(San.Create(Path.Client, Messages ? SanWskEndpointKindSan : SanWskEndpointKindStreamConnection, SANWSK_AF_INET, &Path.Near));
    if (Messages) {
        STEP(WaitForOne(ONE(Bind, Path.Near, &Any, NULL)));
        First = ONE(Connect, Path.Near, &Addresses.Local, 5000);
        STEP(WaitForTwo(First, TWO(Accept, Path.Listener, &Accepted)));
        STEP(San.Decide(Path.Client, Path.Far = Accepted.Endpoint, SanWskDecisionAccept));
        STEP(WaitForOne(First));
        First = ONE(Negotiate, Path.Near, NULL, 0, LENGTH, &Peer);
        STEP(WaitForBoth(First, TWO(Negotiate, Path.Far, NULL, 0, LENGTH, NULL)));
        First = San.RegisterMemory(Path.Client, Ready(&Path.Three), Path.Far, 1, Path.To, SANWSK_MEMORY_RECEIVE);
        STEP(First == STATUS_PENDING ? STATUS_SUCCESS : First);
        First = ONE(ReceiveRegistered, Path.Far, 1, 0, LENGTH);
        STEP(WaitForBoth(First, TWO(Send, Path.Near, Path.From, 100, LENGTH - 100)));
        STEP(WaitForBoth(ONE(DeregisterMemory, Path.Far, 1), TWO(Disconnect, Path.Near, 0)));
        return Wait(&Path.Three, STATUS_PENDING);
    }
    First = ONE(Connect, Path.Near, &Addresses.Local, 5000);
    STEP(WaitForBoth(First, TWO(Accept, Path.Listener, &Accepted)));
    Path.Far = Accepted.Endpoint;
    First = ONE(Receive, Path.Far, Path.To, 0, LENGTH, SANWSK_RECEIVE_ALL);
    STEP(WaitForBoth(First, TWO(Send, Path.Near, Path.From, 0, LENGTH)));
    STEP(WaitForBoth(ONE(Disconnect, Path.Near, 0), TWO(Receive, Path.Far, Path.To, 0, 1, 0)));
    return WaitForOne(ONE(Disconnect, Path.Far, 0));
}

static NTSTATUS Run(BOOLEAN Messages) {
    NTSTATUS Status;
    KeClearEvent(&Path.One.Event);
    KeClearEvent(&Path.Two.Event);
    KeClearEvent(&Path.Three.Event);
    Path.Listener = Path.Near = Path.Far = 0;
    STEP(San.OpenClient(San.Context, &Path.Client));
    Status = Go(Messages);
    /* Unless the other one has closed it. */
    San.CloseClient(Path.Client, NULL);
    return Status;
}

BEHAVIOUR(runs_over_a_stream) {
    UNREFERENCED_PARAMETER(Call);
    return Run(FALSE);
}

BEHAVIOUR(runs_over_a_session) {
    UNREFERENCED_PARAMETER(Call);
    return Run(TRUE);
}

BEHAVIOUR(cancels_the_path) {
    UNREFERENCED_PARAMETER(Call);
    Cancel(&Path.One);
    Cancel(&Path.Two);
    Cancel(&Path.Three);
    return STATUS_SUCCESS;
}

BEHAVIOUR(closes_its_endpoints) {
    SANWSK_ENDPOINT_ID Endpoints[] = {Path.Far, Path.Near, Path.Listener};
    ULONG At;
    UNREFERENCED_PARAMETER(Call);
    for (At = 0; At < 3; At++) {
        NTSTATUS Status = Wait(&Ender, San.Close(Path.Client, Ender.Operation, Endpoints[At]));
        CHECK(Status == STATUS_SUCCESS || Status == STATUS_INVALID_HANDLE);
    }
    return STATUS_SUCCESS;
}

BEHAVIOUR(closes_its_client) {
    NTSTATUS Status = San.CloseClient(Path.Client, NULL);
    UNREFERENCED_PARAMETER(Call);
    CHECK(Status == STATUS_SUCCESS || Status == STATUS_INVALID_HANDLE);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI Asked(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    UNREFERENCED_PARAMETER(Irp);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

/* By an IRP that nobody built for it, as an I/O target of KMDF sends it. */
BEHAVIOUR(asks_as_an_io_target_does) {
    SANWSK_GET_INTERFACE Get = {.Version = SANWSK_INTERFACE_VERSION, .Size = sizeof(San)};
    SANWSK_INTERFACE Got = {0};
    PDEVICE_OBJECT Device;
    PIO_STACK_LOCATION Next;
    KEVENT Event;
    PIRP Irp;
    UNREFERENCED_PARAMETER(Call);
    TRY(Open());
    Device = IoGetRelatedDeviceObject(File);
    CHECK((Irp = IoAllocateIrp(Device->StackSize, FALSE)) != NULL);
    KeInitializeEvent(&Event, NotificationEvent, FALSE);
    Next = IoGetNextIrpStackLocation(Irp);
    Next->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    Next->FileObject = File;
    Next->Parameters.DeviceIoControl.IoControlCode = IOCTL_INTERNAL_SANWSK_GET_INTERFACE;
    Next->Parameters.DeviceIoControl.InputBufferLength = sizeof(Get);
    Next->Parameters.DeviceIoControl.OutputBufferLength = sizeof(Got);
    Next->Parameters.DeviceIoControl.Type3InputBuffer = &Get;
    Irp->UserBuffer = &Got;
    IoSetCompletionRoutine(Irp, Asked, &Event, TRUE, TRUE, TRUE);
    IoCallDriver(Device, Irp);
    KeWaitForSingleObject(&Event, Executive, KernelMode, FALSE, NULL);
    TRY(Irp->IoStatus.Status);
    CHECK(Irp->IoStatus.Information == sizeof(Got) && Got.Context == San.Context && Got.Send == San.Send);
    Got.InterfaceDereference(Got.Context);
    IoFreeIrp(Irp);
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(cancels_what_streams_do),
    ROW_OF(cancels_what_sessions_do),
    ROW_OF(begins_again_in_a_completion),
    ROW_OF(stands),
    ROW_OF(falls),
    ROW_OF(operates_ten_times),
    ROW_OF(operates_two_hundred_times),
    ROW_OF(asks_as_an_io_target_does),
    ROW_OF(prepares_the_path),
    ROW_OF(prepares_the_path_with_irps),
    ROW_OF(frees_the_path),
    ROW_OF(runs_over_a_stream),
    ROW_OF(runs_over_a_session),
    ROW_OF(cancels_the_path),
    ROW_OF(closes_its_endpoints),
    ROW_OF(closes_its_client),
    {NULL, NULL},
};
