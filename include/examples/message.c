/* message.c: one message over sanwsk, from C.
 *
 *   message both ADDRESS                       between two endpoints of this program
 *   message listen ADDRESS PORT                waits for a peer, and receives
 *   message connect ADDRESS PEER PORT [TEXT]   sends
 *
 * ADDRESS is a SAN address of this machine, IPv4 or IPv6. It connects, negotiates a session, registers memory, and sends from
 * and receives into that memory. Each error is told with its NTSTATUS and its Winsock error.
 *
 *   cl /std:c11 /I.. message.c ntdll.lib ws2_32.lib
 *   x86_64-w64-mingw32-gcc -I.. message.c -o message.exe -lntdll -lws2_32
 */
#include <winsock2.h>
#include <ws2tcpip.h>

#include <windows.h>
#include <winternl.h>

#include <sanwsk.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_SIZE 4096
#define KEY 1
#define TIME_LIMIT 30000

static HANDLE Device;

static void Fail(const char *What, int32_t Status)
{
    const char *name = SanWskStatusName(Status);
    fprintf(stderr, "message: cannot %s: %s (0x%08lX), Winsock error %d\n", What, name ? name : "NTSTATUS",
            (unsigned long)(uint32_t)Status, SanWskWsaError(Status));
    exit(1);
}

static void FailWin32(const char *What)
{
    fprintf(stderr, "message: cannot %s: Windows error %lu\n", What, GetLastError());
    exit(1);
}

/*
 * Requests
 */

/* A request that may pend. It and its buffers stay where they are until FinishStatus has returned. */
typedef struct _CALL {
    const char *What;
    HANDLE Event;
    IO_STATUS_BLOCK Result;
    int32_t Status;
} CALL;

/* NtDeviceIoControlFile, which DeviceIoControl wraps: it tells the NTSTATUS itself. */
static void Start(CALL *Call, const char *What, ULONG Code, void *Input, ULONG InputLength, void *Output, ULONG OutputLength)
{
    memset(Call, 0, sizeof(*Call));
    Call->What = What;
    Call->Event = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (!Call->Event) {
        FailWin32("create an event");
    }
    Call->Status = (int32_t)NtDeviceIoControlFile(Device, Call->Event, NULL, NULL, &Call->Result, Code, Input, InputLength,
                                                  Output, OutputLength);
}

static int IsPending(const CALL *Call)
{
    return (uint32_t)Call->Status == (uint32_t)STATUS_PENDING && WaitForSingleObject(Call->Event, 0) == WAIT_TIMEOUT;
}

/* Waits for the end. After the time limit the request is cancelled; also then its end is waited for, since until then the
 * driver may touch its buffers. */
static int32_t FinishStatus(CALL *Call, DWORD TimeLimit)
{
    int32_t status = Call->Status;
    if ((uint32_t)status == (uint32_t)STATUS_PENDING) {
        int late = WaitForSingleObject(Call->Event, TimeLimit) == WAIT_TIMEOUT;
        if (late) {
            /* An OVERLAPPED begins with the IO_STATUS_BLOCK, and that is what a request is known by. */
            CancelIoEx(Device, (OVERLAPPED *)&Call->Result);
            WaitForSingleObject(Call->Event, INFINITE);
        }
        status = (int32_t)Call->Result.Status;
        if (late && (uint32_t)status == (uint32_t)STATUS_CANCELLED) {
            status = (int32_t)STATUS_IO_TIMEOUT;
        }
    }
    CloseHandle(Call->Event);
    return status;
}

static void Finish(CALL *Call)
{
    int32_t status = FinishStatus(Call, TIME_LIMIT);
    if (status < 0) {
        Fail(Call->What, status);
    }
}

static void Run(const char *What, ULONG Code, void *Input, ULONG InputLength, void *Output, ULONG OutputLength)
{
    CALL call;
    Start(&call, What, Code, Input, InputLength, Output, OutputLength);
    Finish(&call);
}

static SANWSK_HEADER Header(void)
{
    SANWSK_HEADER header = {SANWSK_PROTOCOL_VERSION, 0};
    return header;
}

/*
 * Addresses
 */

static SANWSK_SOCKET_ADDRESS ParseAddress(const char *Text, const char *PortText)
{
    SANWSK_SOCKET_ADDRESS address;
    char *end;
    unsigned long port = strtoul(PortText, &end, 10);
    memset(&address, 0, sizeof(address));
    if (*PortText == '\0' || *end != '\0' || port > 65535) {
        fprintf(stderr, "message: %s is no port\n", PortText);
        exit(2);
    }
    address.Port[0] = (uint8_t)(port >> 8);
    address.Port[1] = (uint8_t)port;
    if (InetPtonA(AF_INET, Text, address.Rest) == 1) {
        address.Family = SANWSK_AF_INET;
    } else if (InetPtonA(AF_INET6, Text, address.Rest + 4) == 1) {
        address.Family = SANWSK_AF_INET6;
    } else {
        fprintf(stderr, "message: %s is no address\n", Text);
        exit(2);
    }
    return address;
}

static void PrintAddress(const char *What, const SANWSK_SOCKET_ADDRESS *Address)
{
    char text[INET6_ADDRSTRLEN] = "?";
    int ipv6 = Address->Family == SANWSK_AF_INET6;
    InetNtopA(ipv6 ? AF_INET6 : AF_INET, (void *)(Address->Rest + (ipv6 ? 4 : 0)), text, sizeof(text));
    printf(ipv6 ? "%s [%s]:%u\n" : "%s %s:%u\n", What, text, Address->Port[0] << 8 | Address->Port[1]);
    fflush(stdout);
}

/*
 * Endpoints
 */

/* A SAN endpoint that is bound; Address is given the port that was chosen. */
static SANWSK_ENDPOINT_ID CreateBound(SANWSK_SOCKET_ADDRESS *Address)
{
    SANWSK_CREATE_REQUEST create = {Header(), SanWskEndpointKindSan, Address->Family, 0};
    SANWSK_CREATE_REPLY created;
    SANWSK_BIND_REQUEST bind;
    SANWSK_ADDRESS_REPLY bound;
    Run("create an endpoint", IOCTL_SANWSK_CREATE, &create, sizeof(create), &created, sizeof(created));
    memset(&bind, 0, sizeof(bind));
    bind.Header = Header();
    bind.Endpoint = created.Endpoint;
    bind.Address = *Address;
    Run("bind", IOCTL_SANWSK_BIND, &bind, sizeof(bind), &bound, sizeof(bound));
    *Address = bound.Address;
    return created.Endpoint;
}

static void Listen(SANWSK_ENDPOINT_ID Listener)
{
    SANWSK_LISTEN_REQUEST listen = {Header(), Listener, SANWSK_SOMAXCONN, 0};
    Run("listen", IOCTL_SANWSK_LISTEN, &listen, sizeof(listen), NULL, 0);
}

/* Takes a peer and tells it that it is connected. */
static SANWSK_ENDPOINT_ID Accept(SANWSK_ENDPOINT_ID Listener, DWORD TimeLimit)
{
    SANWSK_ENDPOINT_REQUEST accept = {Header(), Listener};
    SANWSK_ACCEPT_REPLY accepted;
    SANWSK_DECIDE_REQUEST decide;
    CALL call;
    int32_t status;
    Start(&call, "accept", IOCTL_SANWSK_ACCEPT, &accept, sizeof(accept), &accepted, sizeof(accepted));
    status = FinishStatus(&call, TimeLimit);
    if (status < 0) {
        Fail("accept", status);
    }
    PrintAddress("connected by", &accepted.Remote);
    memset(&decide, 0, sizeof(decide));
    decide.Header = Header();
    decide.Endpoint = accepted.Endpoint;
    decide.Decision = SanWskDecisionAccept;
    Run("accept the peer", IOCTL_SANWSK_DECIDE, &decide, sizeof(decide), NULL, 0);
    return accepted.Endpoint;
}

static void StartConnect(CALL *Call, SANWSK_CONNECT_REQUEST *Request, SANWSK_ENDPOINT_ID Endpoint,
                         const SANWSK_SOCKET_ADDRESS *Peer)
{
    memset(Request, 0, sizeof(*Request));
    Request->Header = Header();
    Request->Endpoint = Endpoint;
    Request->Address = *Peer;
    Start(Call, "connect", IOCTL_SANWSK_CONNECT, Request, sizeof(*Request), NULL, 0);
}

static void Close(SANWSK_ENDPOINT_ID Endpoint)
{
    SANWSK_ENDPOINT_REQUEST close = {Header(), Endpoint};
    Run("close", IOCTL_SANWSK_CLOSE, &close, sizeof(close), NULL, 0);
}

/*
 * Sessions: a connected endpoint with registered memory
 */

typedef struct _SESSION {
    SANWSK_ENDPOINT_ID Endpoint;
    char *Memory;
    CALL Registration;
    SANWSK_REGISTER_MEMORY_REQUEST Register;
    CALL Negotiation;
    SANWSK_NEGOTIATE_REQUEST Offer;
    SANWSK_NEGOTIATE_REPLY Answer;
    CALL Receive;
    SANWSK_TRANSFER_REQUEST Slice;
    SANWSK_RECEIVE_REPLY Received;
    CALL Disconnection;
    SANWSK_DISCONNECT_REQUEST Goodbye;
} SESSION;

/* Registers the session's memory. That request pends as long as the memory is registered. */
static void RegisterMemory(SESSION *Session, uint32_t Rights)
{
    SANWSK_MEMORY_REQUEST query = {Header(), Session->Endpoint, KEY};
    SANWSK_MEMORY_REPLY reply;
    CALL call;
    int32_t status;

    Session->Memory = (char *)VirtualAlloc(NULL, MESSAGE_SIZE, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    if (!Session->Memory) {
        FailWin32("allocate memory");
    }
    memset(&Session->Register, 0, sizeof(Session->Register));
    Session->Register.Header = Header();
    Session->Register.Endpoint = Session->Endpoint;
    Session->Register.Key = KEY;
    Session->Register.Rights = Rights;
    Start(&Session->Registration, "register memory", IOCTL_SANWSK_REGISTER_MEMORY, &Session->Register,
          sizeof(Session->Register), Session->Memory, MESSAGE_SIZE);

    /* It stands when the driver knows the key; if it does not come to that, its own request has ended. */
    for (;;) {
        Start(&call, "ask for the registration", IOCTL_SANWSK_QUERY_MEMORY, &query, sizeof(query), &reply, sizeof(reply));
        status = FinishStatus(&call, TIME_LIMIT);
        if (status >= 0) {
            return;
        }
        if (!IsPending(&Session->Registration)) {
            Finish(&Session->Registration);
            Fail("register memory", status);
        }
        if ((uint32_t)status != (uint32_t)STATUS_INVALID_PARAMETER) {
            Fail("ask for the registration", status);
        }
        Sleep(1);
    }
}

static void DeregisterMemory(SESSION *Session)
{
    SANWSK_MEMORY_REQUEST deregister = {Header(), Session->Endpoint, KEY};
    Run("deregister memory", IOCTL_SANWSK_DEREGISTER_MEMORY, &deregister, sizeof(deregister), NULL, 0);
    Finish(&Session->Registration);
    /* Not before: until its request has ended, the memory is the driver's too. */
    VirtualFree(Session->Memory, 0, MEM_RELEASE);
}

/* Posts the memory for one message. Done before the negotiation, the peer is granted it with the session. */
static void StartReceive(SESSION *Session)
{
    memset(&Session->Slice, 0, sizeof(Session->Slice));
    Session->Slice.Header = Header();
    Session->Slice.Endpoint = Session->Endpoint;
    Session->Slice.Key = KEY;
    Session->Slice.Length = MESSAGE_SIZE;
    Start(&Session->Receive, "receive", IOCTL_SANWSK_RECEIVE_REGISTERED, &Session->Slice, sizeof(Session->Slice),
          &Session->Received, sizeof(Session->Received));
}

static void FinishReceive(SESSION *Session)
{
    Finish(&Session->Receive);
    printf("received %lu bytes: %.*s\n", (unsigned long)Session->Received.Length, (int)Session->Received.Length,
           Session->Memory);
}

/* Offers the session; the request ends when the peer's offer has come. */
static void StartNegotiation(SESSION *Session, const char *Private)
{
    memset(&Session->Offer, 0, sizeof(Session->Offer));
    Session->Offer.Header = Header();
    Session->Offer.Endpoint = Session->Endpoint;
    Session->Offer.ReceiveSize = MESSAGE_SIZE;
    Session->Offer.PrivateLength = (uint32_t)strlen(Private);
    memcpy(Session->Offer.Private, Private, strlen(Private));
    Start(&Session->Negotiation, "negotiate", IOCTL_SANWSK_NEGOTIATE, &Session->Offer, sizeof(Session->Offer),
          &Session->Answer, sizeof(Session->Answer));
}

static void FinishNegotiation(SESSION *Session)
{
    Finish(&Session->Negotiation);
    printf("session with \"%.*s\", which takes %lu messages of %lu bytes\n", (int)Session->Answer.PrivateLength,
           (const char *)Session->Answer.Private, (unsigned long)Session->Answer.ReceiveCount,
           (unsigned long)Session->Answer.ReceiveSize);
}

static void Send(SESSION *Session, const char *Text)
{
    SANWSK_TRANSFER_REQUEST slice;
    size_t length = strlen(Text);
    if (length == 0 || length > MESSAGE_SIZE) {
        fprintf(stderr, "message: a message has 1 to %d bytes here\n", MESSAGE_SIZE);
        exit(2);
    }
    memcpy(Session->Memory, Text, length);
    memset(&slice, 0, sizeof(slice));
    slice.Header = Header();
    slice.Endpoint = Session->Endpoint;
    slice.Key = KEY;
    slice.Length = (uint32_t)length;
    Run("send", IOCTL_SANWSK_SEND_REGISTERED, &slice, sizeof(slice), NULL, 0);
    printf("sent %lu bytes\n", (unsigned long)length);
}

/* Graceful; the request ends when the peer has said goodbye too. */
static void StartDisconnection(SESSION *Session)
{
    memset(&Session->Goodbye, 0, sizeof(Session->Goodbye));
    Session->Goodbye.Header = Header();
    Session->Goodbye.Endpoint = Session->Endpoint;
    Start(&Session->Disconnection, "disconnect", IOCTL_SANWSK_DISCONNECT, &Session->Goodbye, sizeof(Session->Goodbye), NULL,
          0);
}

static void FinishDisconnection(SESSION *Session)
{
    int32_t status = FinishStatus(&Session->Disconnection, TIME_LIMIT);
    /* The peer was first: as good an end. */
    if (status < 0 && (uint32_t)status != (uint32_t)STATUS_GRACEFUL_DISCONNECT) {
        Fail("disconnect", status);
    }
}

/*
 * The three ways to run it
 */

static void ListenAndReceive(SANWSK_SOCKET_ADDRESS Address)
{
    SANWSK_ENDPOINT_ID listener = CreateBound(&Address);
    SESSION session;
    Listen(listener);
    PrintAddress("listening on", &Address);
    session.Endpoint = Accept(listener, INFINITE);
    RegisterMemory(&session, SANWSK_MEMORY_RECEIVE);
    StartReceive(&session);
    StartNegotiation(&session, "message.c, listening");
    FinishNegotiation(&session);
    FinishReceive(&session);
    StartDisconnection(&session);
    FinishDisconnection(&session);
    DeregisterMemory(&session);
    Close(session.Endpoint);
    Close(listener);
}

static void ConnectAndSend(SANWSK_SOCKET_ADDRESS Address, const SANWSK_SOCKET_ADDRESS *Peer, const char *Text)
{
    SANWSK_CONNECT_REQUEST connect;
    SESSION session;
    CALL call;
    session.Endpoint = CreateBound(&Address);
    StartConnect(&call, &connect, session.Endpoint, Peer);
    Finish(&call);
    PrintAddress("connected to", Peer);
    RegisterMemory(&session, SANWSK_MEMORY_SEND);
    StartNegotiation(&session, "message.c, connecting");
    FinishNegotiation(&session);
    Send(&session, Text);
    StartDisconnection(&session);
    FinishDisconnection(&session);
    DeregisterMemory(&session);
    Close(session.Endpoint);
}

static void BothEnds(SANWSK_SOCKET_ADDRESS Address, const char *Text)
{
    SANWSK_SOCKET_ADDRESS client = Address;
    SANWSK_ENDPOINT_ID listener = CreateBound(&Address);
    SANWSK_CONNECT_REQUEST connect;
    SESSION sender, receiver;
    CALL call;

    /* What waits for the other end is started here, and finished when the other end has done its part. */
    Listen(listener);
    sender.Endpoint = CreateBound(&client);
    StartConnect(&call, &connect, sender.Endpoint, &Address);
    receiver.Endpoint = Accept(listener, TIME_LIMIT);
    Finish(&call);

    RegisterMemory(&receiver, SANWSK_MEMORY_RECEIVE);
    RegisterMemory(&sender, SANWSK_MEMORY_SEND);
    StartReceive(&receiver);
    StartNegotiation(&receiver, "the receiver");
    StartNegotiation(&sender, "the sender");
    FinishNegotiation(&receiver);
    FinishNegotiation(&sender);

    Send(&sender, Text);
    FinishReceive(&receiver);

    StartDisconnection(&sender);
    StartDisconnection(&receiver);
    FinishDisconnection(&sender);
    FinishDisconnection(&receiver);
    DeregisterMemory(&sender);
    DeregisterMemory(&receiver);
    Close(sender.Endpoint);
    Close(receiver.Endpoint);
    Close(listener);
}

static void OpenDevice(void)
{
    Device = CreateFileW(SANWSK_DEVICE_PATH, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                         OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
    if (Device != INVALID_HANDLE_VALUE) {
        return;
    }
    switch (GetLastError()) {
    case ERROR_FILE_NOT_FOUND:
        fprintf(stderr, "message: there is no \\\\.\\SanWsk: is the driver installed and its service started?\n");
        exit(1);
    case ERROR_ACCESS_DENIED:
        fprintf(stderr, "message: no access to \\\\.\\SanWsk: run as an administrator, or set AllowUsers\n");
        exit(1);
    default:
        FailWin32("open \\\\.\\SanWsk");
    }
}

int main(int argc, char **argv)
{
    const char *text = "a message from C";
    if (argc == 3 && strcmp(argv[1], "both") == 0) {
        SANWSK_SOCKET_ADDRESS address = ParseAddress(argv[2], "0");
        OpenDevice();
        BothEnds(address, text);
    } else if (argc == 4 && strcmp(argv[1], "listen") == 0) {
        SANWSK_SOCKET_ADDRESS address = ParseAddress(argv[2], argv[3]);
        OpenDevice();
        ListenAndReceive(address);
    } else if ((argc == 5 || argc == 6) && strcmp(argv[1], "connect") == 0) {
        SANWSK_SOCKET_ADDRESS address = ParseAddress(argv[2], "0");
        SANWSK_SOCKET_ADDRESS peer = ParseAddress(argv[3], argv[4]);
        OpenDevice();
        ConnectAndSend(address, &peer, argc == 6 ? argv[5] : text);
    } else {
        fprintf(stderr, "usage: message both ADDRESS\n"
                        "       message listen ADDRESS PORT\n"
                        "       message connect ADDRESS PEER PORT [TEXT]\n");
        return 2;
    }
    CloseHandle(Device);
    return 0;
}
