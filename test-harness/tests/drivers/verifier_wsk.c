/* A WSK client that keeps the rules of docs/wsk-rules.md, or breaks the one that a behaviour is named after. */
#include "verifier.h"
#include "wsk_client.h"
#include "wsk_operation.h"

static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;
static VOID (*const AtUnload)(VOID) = NULL;

static const GUID Interface = {0x2227E803, 0x8D8B, 0x11D4, {0xAB, 0xAD, 0x00, 0x90, 0x27, 0x71, 0x9E, 0x09}};
static const WSK_CLIENT_DISPATCH ClientDispatch = {.Version = 0x100};
static WSK_REGISTRATION Registration;
static WSK_PROVIDER_NPI Npi;

/* Clients and sockets */

static VOID Open(VOID) {
    WSK_CLIENT_NPI Client = {NULL, &ClientDispatch};
    WskRegister(&Client, &Registration);
    WskCaptureProviderNPI(&Registration, WSK_NO_WAIT, &Npi);
}

static VOID Shut(VOID) {
    WskReleaseProviderNPI(&Registration);
    WskDeregister(&Registration);
}

static PWSK_SOCKET NewSocket(ULONG Flags, PVOID Context, const void *Dispatch) {
    OPERATION Operation;
    PVOID Socket;
    Npi.Dispatch->WskSocket(Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, Flags, Context, Dispatch, NULL, NULL, NULL,
        New(&Operation));
    End(&Operation, &Socket);
    return Socket;
}

static VOID Close(PWSK_SOCKET Socket) {
    OPERATION Operation;
    Socket->Dispatch->WskCloseSocket(Socket, New(&Operation));
    End(&Operation, NULL);
}

static SOCKADDR_IN Loopback(VOID) {
    SOCKADDR_IN Address = {.sin_family = AF_INET, .sin_addr = {127, 0, 0, 1}};
    return Address;
}

static VOID Bind(PWSK_SOCKET Socket) {
    SOCKADDR_IN Any = Loopback();
    OPERATION Operation;
    Socket->Dispatch->WskBind(Socket, &Any, 0, New(&Operation));
    End(&Operation, NULL);
}

static SOCKADDR_IN ListenerAddress(PWSK_SOCKET Listener) {
    SOCKADDR_IN Address;
    OPERATION Operation;
    Listener->Dispatch->Listen.WskGetLocalAddress(Listener, &Address, New(&Operation));
    End(&Operation, NULL);
    return Address;
}

static NTSTATUS SetEvents(PWSK_SOCKET Socket, ULONG Mask, PIRP Irp) {
    WSK_EVENT_CALLBACK_CONTROL Control = {&Interface, Mask};
    return Socket->Dispatch->WskControlSocket(
        Socket, WskSetOption, SO_WSK_EVENT_CALLBACK, SOL_SOCKET, sizeof(Control), &Control, 0, NULL, NULL, Irp);
}

/* A listener and a connection to it, whose callbacks are the driver's. */
static PWSK_SOCKET Listener, Client, Server;

static PWSK_SOCKET Listen(const WSK_CLIENT_LISTEN_DISPATCH *Dispatch) {
    Listener = NewSocket(WSK_FLAG_LISTEN_SOCKET, NULL, Dispatch);
    Bind(Listener);
    return Listener;
}

static VOID Connect(const WSK_CLIENT_CONNECTION_DISPATCH *Dispatch) {
    SOCKADDR_IN Address = ListenerAddress(Listener);
    OPERATION Operation;
    Client = NewSocket(WSK_FLAG_CONNECTION_SOCKET, NULL, Dispatch);
    Bind(Client);
    Client->Dispatch->Connection.WskConnect(Client, &Address, 0, New(&Operation));
    End(&Operation, NULL);
}

static VOID Accept(VOID) {
    OPERATION Operation;
    Listener->Dispatch->Listen.WskAccept(Listener, 0, NULL, NULL, NULL, NULL, New(&Operation));
    End(&Operation, (PVOID *)&Server);
}

static VOID OpenConnection(const WSK_CLIENT_CONNECTION_DISPATCH *Dispatch) {
    Open();
    Listen(NULL);
    Connect(Dispatch);
    Accept();
}

static VOID CloseConnection(VOID) {
    Close(Client);
    Close(Server);
    Close(Listener);
    Shut();
}

static UCHAR Bytes[16];

static WSK_BUF LockedBuffer(ULONG Length) {
    WSK_BUF Buffer = {IoAllocateMdl(Bytes, sizeof(Bytes), FALSE, FALSE, NULL), 0, Length};
    MmProbeAndLockPages(Buffer.Mdl, KernelMode, IoWriteAccess);
    return Buffer;
}

static VOID UnlockBuffer(WSK_BUF *Buffer) {
    MmUnlockPages(Buffer->Mdl);
    IoFreeMdl(Buffer->Mdl);
}

static VOID Send(PWSK_SOCKET Socket) {
    WSK_BUF Buffer = LockedBuffer(sizeof(Bytes));
    OPERATION Operation;
    Socket->Dispatch->Connection.WskSend(Socket, &Buffer, 0, New(&Operation));
    End(&Operation, NULL);
    UnlockBuffer(&Buffer);
}

/* Registration */

BEHAVIOUR(rule_1_free_the_client_dispatch_while_registered) {
    WSK_CLIENT_DISPATCH *Dispatch = ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*Dispatch), TAG);
    WSK_CLIENT_NPI Client_ = {NULL, Dispatch};
    *Dispatch = ClientDispatch;
    WskRegister(&Client_, &Registration);
    if (Call->Wrong)
        ExFreePoolWithTag(Dispatch, TAG);
    WskDeregister(&Registration);
    ExFreePoolWithTag(Dispatch, TAG);
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_2_deregister_twice) {
    Open();
    Shut();
    if (Call->Wrong)
        WskDeregister(&Registration);
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_3_wait_for_the_provider_at_dispatch_level) {
    WSK_CLIENT_NPI Client_ = {NULL, &ClientDispatch};
    KIRQL Old;
    WskRegister(&Client_, &Registration);
    KeRaiseIrql(DISPATCH_LEVEL, &Old);
    WskCaptureProviderNPI(&Registration, Call->Wrong ? 10 : WSK_NO_WAIT, &Npi);
    KeLowerIrql(Old);
    Shut();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_5_call_the_provider_after_its_release) {
    PWSK_SOCKET Socket;
    Open();
    Socket = NewSocket(WSK_FLAG_CONNECTION_SOCKET, NULL, NULL);
    /* Sockets outlive the capture. */
    WskReleaseProviderNPI(&Registration);
    Bind(Socket);
    if (Call->Wrong)
        NewSocket(WSK_FLAG_CONNECTION_SOCKET, NULL, NULL);
    Close(Socket);
    WskDeregister(&Registration);
    return STATUS_SUCCESS;
}

/* IRPs */

BEHAVIOUR(rule_6_call_without_a_completion_routine) {
    OPERATION Operation;
    PVOID Socket;
    Open();
    New(&Operation);
    if (Call->Wrong)
        IoReuseIrp(Operation.Irp, STATUS_SUCCESS);
    Npi.Dispatch->WskSocket(Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL,
        NULL, NULL, Operation.Irp);
    End(&Operation, &Socket);
    Close(Socket);
    Shut();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_6_use_an_irp_again_without_ioreuseirp) {
    OPERATION Operation;
    PWSK_SOCKET Socket;
    SOCKADDR_IN Any = Loopback();
    Open();
    Npi.Dispatch->WskSocket(Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL,
        NULL, NULL, New(&Operation));
    KeWaitForSingleObject(&Operation.Done, Executive, KernelMode, FALSE, NULL);
    Socket = (PWSK_SOCKET)Operation.Irp->IoStatus.Information;
    if (!Call->Wrong)
        IoReuseIrp(Operation.Irp, STATUS_SUCCESS);
    Arm(&Operation);
    Socket->Dispatch->WskBind(Socket, &Any, 0, Operation.Irp);
    End(&Operation, NULL);
    Close(Socket);
    Shut();
    return STATUS_SUCCESS;
}

IN_BACKTRACES static NTSTATUS NTAPI LetGo(PDEVICE_OBJECT Device, PIRP Irp, PVOID Event) {
    KeSetEvent(Event, IO_NO_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_7_let_the_irp_go) {
    OPERATION Operation;
    PVOID Socket;
    Open();
    New(&Operation);
    if (Call->Wrong)
        IoSetCompletionRoutine(Operation.Irp, LetGo, &Operation.Done, TRUE, TRUE, TRUE);
    Npi.Dispatch->WskSocket(Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL,
        NULL, NULL, Operation.Irp);
    End(&Operation, &Socket);
    Close(Socket);
    Shut();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_9_free_a_cancelled_irp_before_it_completes) {
    WSK_BUF Buffer = LockedBuffer(1);
    OPERATION Operation;
    OpenConnection(NULL);
    Client->Dispatch->Connection.WskReceive(Client, &Buffer, 0, New(&Operation));
    if (Call->Wrong)
        IoFreeIrp(Operation.Irp);
    IoCancelIrp(Operation.Irp);
    End(&Operation, NULL);
    UnlockBuffer(&Buffer);
    CloseConnection();
    return STATUS_SUCCESS;
}

static ULONG Depth;
static OPERATION Nested;
static SOCKADDR_IN NestedAddress;

IN_BACKTRACES static NTSTATUS NTAPI AskAgain(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    if (Depth-- == 0) {
        KeSetEvent(&Nested.Done, IO_NO_INCREMENT, FALSE);
        return STATUS_MORE_PROCESSING_REQUIRED;
    }
    IoReuseIrp(Irp, STATUS_SUCCESS);
    IoSetCompletionRoutine(Irp, AskAgain, NULL, TRUE, TRUE, TRUE);
    Listener->Dispatch->Listen.WskGetLocalAddress(Listener, &NestedAddress, Irp);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

BEHAVIOUR(rule_10_call_from_completion_routines_without_a_bound) {
    Open();
    Listen(NULL);
    Depth = Call->Wrong ? 100 : 1;
    New(&Nested);
    IoSetCompletionRoutine(Nested.Irp, AskAgain, NULL, TRUE, TRUE, TRUE);
    Listener->Dispatch->Listen.WskGetLocalAddress(Listener, &NestedAddress, Nested.Irp);
    End(&Nested, NULL);
    Close(Listener);
    Shut();
    return STATUS_SUCCESS;
}

/* Sockets and addresses */

BEHAVIOUR(rule_11_context_in_paged_pool) {
    PVOID Context = ExAllocatePoolWithTag(Call->Wrong ? PagedPool : NonPagedPoolNx, 64, TAG);
    Open();
    Close(NewSocket(WSK_FLAG_CONNECTION_SOCKET, Context, NULL));
    Shut();
    ExFreePoolWithTag(Context, TAG);
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_11_reserved_flags) {
    SOCKADDR_IN Any = Loopback();
    OPERATION Operation;
    PWSK_SOCKET Socket;
    Open();
    Socket = NewSocket(WSK_FLAG_CONNECTION_SOCKET, NULL, NULL);
    Socket->Dispatch->WskBind(Socket, &Any, Call->Wrong ? 1 : 0, New(&Operation));
    End(&Operation, NULL);
    Close(Socket);
    Shut();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_14_free_the_address_buffer_of_a_pending_accept) {
    SOCKADDR_IN *Remote = ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*Remote), TAG);
    OPERATION Operation;
    Open();
    Listen(NULL);
    Listener->Dispatch->Listen.WskAccept(Listener, 0, NULL, NULL, NULL, Remote, New(&Operation));
    if (Call->Wrong)
        ExFreePoolWithTag(Remote, TAG);
    IoCancelIrp(Operation.Irp);
    End(&Operation, NULL);
    ExFreePoolWithTag(Remote, TAG);
    Close(Listener);
    Shut();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_16_a_descriptor_that_is_not_cached) {
    static ULONG Descriptor[8];
    OPERATION Operation;
    PVOID Socket;
    Open();
    Npi.Dispatch->WskSocket(Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL, NULL,
        NULL, Call->Wrong ? Descriptor : NULL, New(&Operation));
    End(&Operation, &Socket);
    Close(Socket);
    Shut();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_17_an_owner_that_is_no_process) {
    OPERATION Operation;
    PVOID Socket;
    Open();
    Npi.Dispatch->WskSocket(Npi.Client, AF_INET, SOCK_STREAM, IPPROTO_TCP, WSK_FLAG_CONNECTION_SOCKET, NULL, NULL,
        Call->Wrong ? (PEPROCESS)Bytes : PsGetCurrentProcess(), NULL, NULL, New(&Operation));
    End(&Operation, &Socket);
    Close(Socket);
    Shut();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_18_an_irp_for_a_client_control) {
    OPERATION Operation;
    SIZE_T Size;
    Open();
    New(&Operation);
    Npi.Dispatch->WskControlClient(
        Npi.Client, WSK_TRANSPORT_LIST_QUERY, 0, NULL, 0, NULL, &Size, Call->Wrong ? Operation.Irp : NULL);
    IoFreeIrp(Operation.Irp);
    Shut();
    return STATUS_SUCCESS;
}

/* Events */

static NTSTATUS NTAPI Refuse(PVOID Context, ULONG Flags, SOCKADDR_IN *Local, SOCKADDR_IN *Remote, PWSK_SOCKET Accepted,
    PVOID *AcceptedContext, const void **AcceptedDispatch) {
    return STATUS_REQUEST_NOT_ACCEPTED;
}

static NTSTATUS NTAPI Ignore(PVOID Context, ULONG Flags) { return STATUS_SUCCESS; }

static BOOLEAN Wrongly;
static KEVENT Called, Go;

BEHAVIOUR(rule_20_enable_events_with_an_irp) {
    static const WSK_CLIENT_LISTEN_DISPATCH Dispatch = {.WskAcceptEvent = Refuse};
    OPERATION Operation;
    Open();
    Listen(&Dispatch);
    New(&Operation);
    SetEvents(Listener, WSK_EVENT_ACCEPT, Call->Wrong ? Operation.Irp : NULL);
    IoFreeIrp(Operation.Irp);
    Close(Listener);
    Shut();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_20_disable_two_events_at_once) {
    static const WSK_CLIENT_CONNECTION_DISPATCH Dispatch = {.WskDisconnectEvent = Ignore};
    OPERATION Operation;
    OpenConnection(&Dispatch);
    SetEvents(Client, WSK_EVENT_DISCONNECT | WSK_EVENT_RECEIVE, NULL);
    SetEvents(Client, WSK_EVENT_DISABLE | WSK_EVENT_DISCONNECT | (Call->Wrong ? WSK_EVENT_RECEIVE : 0), NULL);
    CloseConnection();
    return STATUS_SUCCESS;
}

/* A callback runs on a network thread: the behaviour's name is that of the callback. */
IN_BACKTRACES static NTSTATUS NTAPI rule_22_wait_in_a_callback_event(
    PVOID Context, ULONG Flags, WSK_DATA_INDICATION *Indication, SIZE_T Length, SIZE_T *Accepted) {
    LARGE_INTEGER Short = {.QuadPart = -1000};
    if (Wrongly)
        KeWaitForSingleObject(&Go, Executive, KernelMode, FALSE, &Short);
    KeSetEvent(&Called, IO_NO_INCREMENT, FALSE);
    return STATUS_SUCCESS;
}

IN_BACKTRACES static NTSTATUS NTAPI rule_25_receive_event_of_another_status_event(
    PVOID Context, ULONG Flags, WSK_DATA_INDICATION *Indication, SIZE_T Length, SIZE_T *Accepted) {
    KeSetEvent(&Called, IO_NO_INCREMENT, FALSE);
    return Wrongly ? STATUS_UNSUCCESSFUL : STATUS_SUCCESS;
}

static WSK_DATA_INDICATION *Kept;

static NTSTATUS NTAPI KeepIndication(
    PVOID Context, ULONG Flags, WSK_DATA_INDICATION *Indication, SIZE_T Length, SIZE_T *Accepted) {
    Kept = Indication;
    KeSetEvent(&Called, IO_NO_INCREMENT, FALSE);
    return STATUS_PENDING;
}

/* Sends what the client's receive event is called for. */
static VOID Indicate(CALL *Call, const WSK_CLIENT_CONNECTION_DISPATCH *Dispatch) {
    Wrongly = Call->Wrong;
    KeInitializeEvent(&Called, NotificationEvent, FALSE);
    KeInitializeEvent(&Go, NotificationEvent, FALSE);
    OpenConnection(Dispatch);
    SetEvents(Client, WSK_EVENT_RECEIVE, NULL);
    Send(Server);
    KeWaitForSingleObject(&Called, Executive, KernelMode, FALSE, NULL);
}

/* The callback has yet to return what it should not: the wait ends with the machine. */
static VOID AwaitTheEnd(CALL *Call) {
    if (Call->Wrong)
        KeWaitForSingleObject(&Go, Executive, KernelMode, FALSE, NULL);
}

BEHAVIOUR(rule_22_wait_in_a_callback) {
    static const WSK_CLIENT_CONNECTION_DISPATCH Dispatch = {.WskReceiveEvent = rule_22_wait_in_a_callback_event};
    Indicate(Call, &Dispatch);
    CloseConnection();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_25_receive_event_of_another_status) {
    static const WSK_CLIENT_CONNECTION_DISPATCH Dispatch = {
        .WskReceiveEvent = rule_25_receive_event_of_another_status_event};
    Indicate(Call, &Dispatch);
    AwaitTheEnd(Call);
    CloseConnection();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_25_close_with_a_kept_indication) {
    static const WSK_CLIENT_CONNECTION_DISPATCH Dispatch = {.WskReceiveEvent = KeepIndication};
    OPERATION Operation;
    WSK_DATA_INDICATION *First;
    Indicate(Call, &Dispatch);
    First = Kept;
    KeClearEvent(&Called);
    /* There is another one once the callback has returned: the first is the client's by then. */
    Send(Server);
    KeWaitForSingleObject(&Called, Executive, KernelMode, FALSE, NULL);
    if (!Call->Wrong) {
        Client->Dispatch->Connection.WskRelease(Client, First);
        Client->Dispatch->Connection.WskRelease(Client, Kept);
    }
    Client->Dispatch->WskCloseSocket(Client, New(&Operation));
    End(&Operation, NULL);
    Close(Server);
    Close(Listener);
    Shut();
    return STATUS_SUCCESS;
}

static SOCKADDR_IN *Seen;

static NTSTATUS NTAPI NoteAddress(PVOID Context, ULONG Flags, SOCKADDR_IN *Local, SOCKADDR_IN *Remote,
    PWSK_SOCKET Accepted, PVOID *AcceptedContext, const void **AcceptedDispatch) {
    Seen = Remote;
    KeSetEvent(&Called, IO_NO_INCREMENT, FALSE);
    return STATUS_REQUEST_NOT_ACCEPTED;
}

BEHAVIOUR(rule_26_read_an_address_after_its_callback) {
    static const WSK_CLIENT_LISTEN_DISPATCH Dispatch = {.WskAcceptEvent = NoteAddress};
    NTSTATUS Status = STATUS_SUCCESS;
    KeInitializeEvent(&Called, NotificationEvent, FALSE);
    Open();
    Listen(&Dispatch);
    SetEvents(Listener, WSK_EVENT_ACCEPT, NULL);
    Connect(NULL);
    KeWaitForSingleObject(&Called, Executive, KernelMode, FALSE, NULL);
    Close(Listener);
    if (Call->Wrong && ((volatile SOCKADDR_IN *)Seen)->sin_family != AF_INET)
        Status = STATUS_UNSUCCESSFUL;
    Close(Client);
    Shut();
    return Status;
}

/* Conditional accept */

IN_BACKTRACES static int NTAPI rule_28_an_inspection_without_an_answer_event(
    PVOID Context, SOCKADDR_IN *Local, SOCKADDR_IN *Remote, PVOID InspectId) {
    KeSetEvent(&Called, IO_NO_INCREMENT, FALSE);
    return Wrongly ? 7 : WskInspectReject;
}

static NTSTATUS NTAPI IgnoreAbort(PVOID Context, PVOID InspectId) { return STATUS_SUCCESS; }

static VOID ListenConditionally(const WSK_CLIENT_LISTEN_DISPATCH *Dispatch) {
    ULONG On = 1;
    OPERATION Operation;
    Open();
    Listener = NewSocket(WSK_FLAG_LISTEN_SOCKET, NULL, Dispatch);
    Listener->Dispatch->WskControlSocket(Listener, WskSetOption, SO_CONDITIONAL_ACCEPT, SOL_SOCKET, sizeof(On), &On, 0,
        NULL, NULL, New(&Operation));
    End(&Operation, NULL);
    Bind(Listener);
}

BEHAVIOUR(rule_28_an_inspection_without_an_answer) {
    static const WSK_CLIENT_LISTEN_DISPATCH Dispatch = {.WskAcceptEvent = Refuse,
        .WskInspectEvent = rule_28_an_inspection_without_an_answer_event, .WskAbortEvent = IgnoreAbort};
    Wrongly = Call->Wrong;
    KeInitializeEvent(&Called, NotificationEvent, FALSE);
    KeInitializeEvent(&Go, NotificationEvent, FALSE);
    ListenConditionally(&Dispatch);
    Connect(NULL);
    KeWaitForSingleObject(&Called, Executive, KernelMode, FALSE, NULL);
    AwaitTheEnd(Call);
    Close(Listener);
    Close(Client);
    Shut();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_27_conditional_accept_without_an_inspect_event) {
    static const WSK_CLIENT_LISTEN_DISPATCH Whole = {.WskAcceptEvent = Refuse,
        .WskInspectEvent = rule_28_an_inspection_without_an_answer_event, .WskAbortEvent = IgnoreAbort};
    static const WSK_CLIENT_LISTEN_DISPATCH Half = {.WskAcceptEvent = Refuse};
    ULONG On = 1;
    OPERATION Operation;
    Open();
    Listener = NewSocket(WSK_FLAG_LISTEN_SOCKET, NULL, Call->Wrong ? &Half : &Whole);
    Listener->Dispatch->WskControlSocket(Listener, WskSetOption, SO_CONDITIONAL_ACCEPT, SOL_SOCKET, sizeof(On), &On, 0,
        NULL, NULL, New(&Operation));
    End(&Operation, NULL);
    Close(Listener);
    Shut();
    return STATUS_SUCCESS;
}

/* Data and closing */

BEHAVIOUR(rule_29_send_memory_that_is_not_locked) {
    WSK_BUF Buffer = {IoAllocateMdl(Bytes, sizeof(Bytes), FALSE, FALSE, NULL), 0, sizeof(Bytes)};
    OPERATION Operation;
    OpenConnection(NULL);
    if (!Call->Wrong)
        MmProbeAndLockPages(Buffer.Mdl, KernelMode, IoReadAccess);
    Client->Dispatch->Connection.WskSend(Client, &Buffer, 0, New(&Operation));
    End(&Operation, NULL);
    UnlockBuffer(&Buffer);
    CloseConnection();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_29_unlock_memory_while_a_receive_is_pending) {
    WSK_BUF Buffer = LockedBuffer(1);
    OPERATION Operation;
    OpenConnection(NULL);
    Client->Dispatch->Connection.WskReceive(Client, &Buffer, 0, New(&Operation));
    if (Call->Wrong)
        MmUnlockPages(Buffer.Mdl);
    IoCancelIrp(Operation.Irp);
    End(&Operation, NULL);
    UnlockBuffer(&Buffer);
    CloseConnection();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_30_drain_into_a_buffer) {
    WSK_BUF Buffer = LockedBuffer(Call->Wrong ? 1 : 0);
    OPERATION Operation;
    OpenConnection(NULL);
    Client->Dispatch->Connection.WskReceive(Client, &Buffer, WSK_FLAG_DRAIN, New(&Operation));
    IoCancelIrp(Operation.Irp);
    End(&Operation, NULL);
    UnlockBuffer(&Buffer);
    CloseConnection();
    return STATUS_SUCCESS;
}

BEHAVIOUR(rule_33_call_on_a_closed_socket) {
    PWSK_SOCKET Socket;
    const WSK_DISPATCH *Dispatch;
    OPERATION Operation;
    SOCKADDR_IN Any = Loopback();
    Open();
    Socket = NewSocket(WSK_FLAG_CONNECTION_SOCKET, NULL, NULL);
    Dispatch = Socket->Dispatch;
    New(&Operation);
    if (!Call->Wrong)
        Dispatch->WskBind(Socket, &Any, 0, Operation.Irp);
    Close(Socket);
    if (Call->Wrong)
        Dispatch->WskBind(Socket, &Any, 0, Operation.Irp);
    End(&Operation, NULL);
    Shut();
    return STATUS_SUCCESS;
}

/* A connect over loopback takes a moment, and a moment later it is too late: one of many closes comes in time. */
BEHAVIOUR(rule_34_close_while_a_connect_is_pending) {
    ULONG Rounds = Call->Wrong ? 1000 : 3;
    SOCKADDR_IN Address;
    Open();
    Listen(NULL);
    Address = ListenerAddress(Listener);
    while (Rounds-- != 0) {
        OPERATION Connecting, Closing;
        PWSK_SOCKET Socket = NewSocket(WSK_FLAG_CONNECTION_SOCKET, NULL, NULL);
        Bind(Socket);
        Socket->Dispatch->Connection.WskConnect(Socket, &Address, 0, New(&Connecting));
        if (!Call->Wrong)
            KeWaitForSingleObject(&Connecting.Done, Executive, KernelMode, FALSE, NULL);
        Socket->Dispatch->WskCloseSocket(Socket, New(&Closing));
        End(&Connecting, NULL);
        End(&Closing, NULL);
    }
    Close(Listener);
    Shut();
    return STATUS_SUCCESS;
}

/* Not a rule: prints which of its calls returned STATUS_PENDING. */
BEHAVIOUR(print_what_pends) {
    ULONG Pending = 0, Round;
    SOCKADDR_IN Address;
    Open();
    Listen(NULL);
    for (Round = 0; Round < 32; Round++) {
        OPERATION Operation;
        if (Listener->Dispatch->Listen.WskGetLocalAddress(Listener, &Address, New(&Operation)) == STATUS_PENDING)
            Pending |= 1u << Round;
        End(&Operation, NULL);
    }
    DbgPrint("%08x\n", Pending);
    Close(Listener);
    Shut();
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(print_what_pends),
    ROW_OF(rule_1_free_the_client_dispatch_while_registered),
    ROW_OF(rule_2_deregister_twice),
    ROW_OF(rule_3_wait_for_the_provider_at_dispatch_level),
    ROW_OF(rule_5_call_the_provider_after_its_release),
    ROW_OF(rule_6_call_without_a_completion_routine),
    ROW_OF(rule_6_use_an_irp_again_without_ioreuseirp),
    ROW_OF(rule_7_let_the_irp_go),
    ROW_OF(rule_9_free_a_cancelled_irp_before_it_completes),
    ROW_OF(rule_10_call_from_completion_routines_without_a_bound),
    ROW_OF(rule_11_context_in_paged_pool),
    ROW_OF(rule_11_reserved_flags),
    ROW_OF(rule_14_free_the_address_buffer_of_a_pending_accept),
    ROW_OF(rule_16_a_descriptor_that_is_not_cached),
    ROW_OF(rule_17_an_owner_that_is_no_process),
    ROW_OF(rule_18_an_irp_for_a_client_control),
    ROW_OF(rule_20_enable_events_with_an_irp),
    ROW_OF(rule_20_disable_two_events_at_once),
    ROW_OF(rule_22_wait_in_a_callback),
    ROW_OF(rule_25_receive_event_of_another_status),
    ROW_OF(rule_25_close_with_a_kept_indication),
    ROW_OF(rule_26_read_an_address_after_its_callback),
    ROW_OF(rule_27_conditional_accept_without_an_inspect_event),
    ROW_OF(rule_28_an_inspection_without_an_answer),
    ROW_OF(rule_29_send_memory_that_is_not_locked),
    ROW_OF(rule_29_unlock_memory_while_a_receive_is_pending),
    ROW_OF(rule_30_drain_into_a_buffer),
    ROW_OF(rule_33_call_on_a_closed_socket),
    ROW_OF(rule_34_close_while_a_connect_is_pending),
    {NULL, NULL},
};
