/* sanwsk.h: the requests of sanwsk.sys, for callers in C and C++.
 *
 * Open SANWSK_DEVICE_PATH with CreateFileW, for reading and writing and with FILE_FLAG_OVERLAPPED, and issue the control
 * codes below with DeviceIoControl or NtDeviceIoControlFile. What each request does, when it is allowed, and every status
 * that it may end with is described in docs/ioctl.md; include/examples/message.c is a program that uses it.
 *
 * Structures are plain data without pointers, in the machine's byte order, and the same for 32-bit and 64-bit callers.
 * Every input begins with a SANWSK_HEADER. Fields named Reserved are 0.
 *
 * C11 and C++11, and later. A program that wants <winsock2.h> or <ntstatus.h> may include the former before or after this
 * header, and the latter before it (with WIN32_NO_STATUS, as ever).
 */
#ifndef SANWSK_H
#define SANWSK_H

#include <stdint.h>

#if defined(_WIN32) && !defined(CTL_CODE)
/* A driver has CTL_CODE from <wdm.h>. For others: without the old <winsock.h>, which would keep <winsock2.h> out. */
#ifdef WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#undef WIN32_LEAN_AND_MEAN
#endif
#include <winioctl.h>
#endif

#ifndef CTL_CODE
/* Not Windows: as devioctl.h has them. */
#define CTL_CODE(DeviceType, Function, Method, Access) \
    (((uint32_t)(DeviceType) << 16) | ((uint32_t)(Access) << 14) | ((uint32_t)(Function) << 2) | (uint32_t)(Method))
#define METHOD_BUFFERED 0
#define METHOD_IN_DIRECT 1
#define METHOD_OUT_DIRECT 2
#define FILE_ANY_ACCESS 0
#define FILE_READ_ACCESS 1
#define FILE_WRITE_ACCESS 2
#endif

/* For the sizes below. */
#ifdef __cplusplus
#define SANWSK_STATIC_ASSERT(Condition, What) static_assert(Condition, What)
#else
#define SANWSK_STATIC_ASSERT(Condition, What) _Static_assert(Condition, What)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The device
 */

/* What user mode opens (CreateFileW). */
#define SANWSK_DEVICE_PATH L"\\\\.\\SanWsk"

/* The symbolic link behind SANWSK_DEVICE_PATH. */
#define SANWSK_SYMBOLIC_LINK L"\\DosDevices\\SanWsk"

/* The device object in the kernel's name space. */
#define SANWSK_DEVICE_NAME L"\\Device\\SanWsk"

/* A device type of the range left to vendors. */
#define FILE_DEVICE_SANWSK 0x8057

/* Version of these structures, carried by every request (Version of SANWSK_HEADER). */
#define SANWSK_PROTOCOL_VERSION 1

/*
 * Control codes
 */

/* Which driver and protocol this is. Asks for no access. Input: none. Output: SANWSK_VERSION_REPLY. */
#define IOCTL_SANWSK_QUERY_VERSION \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)

/* The state of the device. Asks for no access. Input: none. Output: SANWSK_STATUS_REPLY. */
#define IOCTL_SANWSK_QUERY_STATUS \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)

/* The limits and settings in force. Asks for no access. Input: none. Output: SANWSK_DEVICE_LIMITS. */
#define IOCTL_SANWSK_QUERY_LIMITS \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x802, METHOD_BUFFERED, FILE_ANY_ACCESS)

/* The routes from SAN addresses to native ones. Asks for no access. Input: none. Output: SANWSK_ROUTES_REPLY, and a
 * SANWSK_ROUTE behind it for each that fits (STATUS_BUFFER_OVERFLOW if not all do). */
#define IOCTL_SANWSK_QUERY_ROUTES \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x803, METHOD_BUFFERED, FILE_ANY_ACCESS)

/* Adds a route. Administrators only. Input: SANWSK_ADD_ROUTE_REQUEST. Output: none. */
#define IOCTL_SANWSK_ADD_ROUTE \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x804, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Removes a route. Administrators only. Input: SANWSK_REMOVE_ROUTE_REQUEST. Output: none. */
#define IOCTL_SANWSK_REMOVE_ROUTE \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x805, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* The endpoints of this handle, or, for administrators, of all. Input: SANWSK_ENDPOINTS_REQUEST. Output:
 * SANWSK_ENDPOINTS_REPLY, and a SANWSK_ENDPOINT_ENTRY behind it for each that fits (STATUS_BUFFER_OVERFLOW if not all do). */
#define IOCTL_SANWSK_QUERY_ENDPOINTS \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x806, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* This handle, or, for administrators, all: what has been done through each, and what it holds. Input: SANWSK_HANDLES_REQUEST.
 * Output: SANWSK_HANDLES_REPLY, and a SANWSK_HANDLE_ENTRY behind it for each that fits (STATUS_BUFFER_OVERFLOW if not all do). */
#define IOCTL_SANWSK_QUERY_HANDLES \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x807, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Makes an endpoint. Input: SANWSK_CREATE_REQUEST. Output: SANWSK_CREATE_REPLY. */
#define IOCTL_SANWSK_CREATE \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x810, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Sets an option. Input: SANWSK_SET_OPTION_REQUEST. Output: none. */
#define IOCTL_SANWSK_SET_OPTION \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x811, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Binds to a local address. Input: SANWSK_BIND_REQUEST. Output: SANWSK_ADDRESS_REPLY. */
#define IOCTL_SANWSK_BIND \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x812, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Connects; pends until connected. Input: SANWSK_CONNECT_REQUEST. Output: none. */
#define IOCTL_SANWSK_CONNECT \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x813, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Opens the backlog of a bound endpoint. Input: SANWSK_LISTEN_REQUEST. Output: none. */
#define IOCTL_SANWSK_LISTEN \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x814, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Takes a connection; pends until there is one. Input: SANWSK_ENDPOINT_REQUEST. Output: SANWSK_ACCEPT_REPLY. */
#define IOCTL_SANWSK_ACCEPT \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x815, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Sends the output buffer; completes when TCP has taken all of it. On a SAN endpoint the buffer is one message. Input:
 * SANWSK_ENDPOINT_REQUEST. Output: none. */
#define IOCTL_SANWSK_SEND \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x816, METHOD_IN_DIRECT, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Receives into the output buffer; zero bytes mean that the peer has ended its side. Streams only. Input:
 * SANWSK_RECEIVE_REQUEST. Output: none. */
#define IOCTL_SANWSK_RECEIVE \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x817, METHOD_OUT_DIRECT, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Ends the connection, gracefully or not. Input: SANWSK_DISCONNECT_REQUEST. Output: none. */
#define IOCTL_SANWSK_DISCONNECT \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x818, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Local and remote address. Input: SANWSK_ENDPOINT_REQUEST. Output: SANWSK_ADDRESSES_REPLY. */
#define IOCTL_SANWSK_QUERY_ADDRESSES \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x819, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Closes an endpoint; completes when nothing of it is left. Input: SANWSK_ENDPOINT_REQUEST. Output: none. */
#define IOCTL_SANWSK_CLOSE \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x81A, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Names the event object and the network events that set it; makes the endpoint non-blocking. Input:
 * SANWSK_EVENT_SELECT_REQUEST. Output: none. */
#define IOCTL_SANWSK_EVENT_SELECT \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x820, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Takes the network events that were recorded and resets the event. Input: SANWSK_ENDPOINT_REQUEST. Output:
 * SANWSK_NETWORK_EVENTS_REPLY. */
#define IOCTL_SANWSK_ENUM_NETWORK_EVENTS \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x821, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Accepts or rejects an undecided endpoint. Input: SANWSK_DECIDE_REQUEST. Output: none. */
#define IOCTL_SANWSK_DECIDE \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x822, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Exchanges the session message with the peer; pends until the peer's has come. Input: SANWSK_NEGOTIATE_REQUEST.
 * Output: SANWSK_NEGOTIATE_REPLY. */
#define IOCTL_SANWSK_NEGOTIATE \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x823, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Registers the output buffer as memory to send from or receive into; pends as long as it is registered. Input:
 * SANWSK_REGISTER_MEMORY_REQUEST. Output: none. */
#define IOCTL_SANWSK_REGISTER_MEMORY \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x824, METHOD_OUT_DIRECT, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* A registration as it stands. Input: SANWSK_MEMORY_REQUEST. Output: SANWSK_MEMORY_REPLY. */
#define IOCTL_SANWSK_QUERY_MEMORY \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x825, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Ends a registration; pends until no operation uses it. Input: SANWSK_MEMORY_REQUEST. Output: none. */
#define IOCTL_SANWSK_DEREGISTER_MEMORY \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x826, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Sends a slice of registered memory as one message; information is its length. Input: SANWSK_TRANSFER_REQUEST.
 * Output: none. */
#define IOCTL_SANWSK_SEND_REGISTERED \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x827, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* Posts a slice of registered memory for one message; pends until it has come. Input: SANWSK_TRANSFER_REQUEST. Output:
 * SANWSK_RECEIVE_REPLY. */
#define IOCTL_SANWSK_RECEIVE_REGISTERED \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x828, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* What an endpoint has done and holds. Input: SANWSK_ENDPOINT_REQUEST. Output: SANWSK_ENDPOINT_STATISTICS. */
#define IOCTL_SANWSK_QUERY_STATISTICS \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x829, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)

/* What the device has done and holds, of all handles. Asks for no access. Input: none. Output:
 * SANWSK_DEVICE_STATISTICS. */
#define IOCTL_SANWSK_QUERY_DEVICE_STATISTICS \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x82A, METHOD_BUFFERED, FILE_ANY_ACCESS)

/*
 * Numbers, flags and limits
 */

/* What an endpoint is made for: one of WSK's socket categories, or SAN. */
typedef enum _SANWSK_ENDPOINT_KIND {
    /* A TCP connection to be made by IOCTL_SANWSK_CONNECT. */
    SanWskEndpointKindStreamConnection = 1,
    /* A TCP listener, whose connections IOCTL_SANWSK_ACCEPT hands out. */
    SanWskEndpointKindStreamListener = 2,
    /* A SAN endpoint, which connects or listens, and moves messages. */
    SanWskEndpointKindSan = 3
} SANWSK_ENDPOINT_KIND;

/* Where an endpoint is in its life. */
typedef enum _SANWSK_ENDPOINT_STATE {
    /* New, and nothing else. */
    SanWskEndpointStateIdle = 0,
    /* A bind is under way. */
    SanWskEndpointStateBinding = 1,
    /* Bound to a local address. */
    SanWskEndpointStateBound = 2,
    /* Lets connections wait in a backlog. */
    SanWskEndpointStateListening = 3,
    /* A connect is under way. */
    SanWskEndpointStateConnecting = 4,
    /* SAN: taken out of a backlog, and not decided on yet. */
    SanWskEndpointStateUndecided = 5,
    /* Connected. */
    SanWskEndpointStateConnected = 6,
    /* Connected, but this side has said that it sends no more. */
    SanWskEndpointStateDisconnecting = 7,
    /* No longer connected, or never was: it can only be closed. */
    SanWskEndpointStateEnded = 8,
    /* Being closed. */
    SanWskEndpointStateClosing = 9
} SANWSK_ENDPOINT_STATE;

/* What becomes of a connection that was accepted undecided. */
typedef enum _SANWSK_DECISION {
    /* The peer is told that it is connected. */
    SanWskDecisionAccept = 1,
    /* The peer is refused, and the endpoint is gone: the request ends with STATUS_CONNECTION_REFUSED. */
    SanWskDecisionReject = 2
} SANWSK_DECISION;

/* How the driver stands to the WSK subsystem. */
typedef enum _SANWSK_PROVIDER_STATE {
    /* Waiting for the provider NPI. */
    SanWskProviderStateCapturing = 0,
    /* The NPI is captured: endpoints work. */
    SanWskProviderStateReady = 1,
    /* The capture failed; CaptureStatus says why. */
    SanWskProviderStateFailed = 2
} SANWSK_PROVIDER_STATE;

/* Options that IOCTL_SANWSK_SET_OPTION takes. */
typedef enum _SANWSK_SOCKET_OPTION {
    /* TCP_NODELAY: send small segments at once. */
    SanWskSocketOptionNoDelay = 1,
    /* SO_KEEPALIVE: probe an idle peer. */
    SanWskSocketOptionKeepAlive = 2,
    /* SO_EXCLUSIVEADDRUSE: nobody else may bind the port. Before bind only. */
    SanWskSocketOptionExclusiveAddressUse = 3,
    /* SO_REUSEADDR: share the port with others that say the same. Before bind only. */
    SanWskSocketOptionReuseAddress = 4
} SANWSK_SOCKET_OPTION;

/* Address families (AF_INET and AF_INET6 of Windows). */
#define SANWSK_AF_INET 2
#define SANWSK_AF_INET6 23

/* Flag of SANWSK_RECEIVE_REQUEST: complete only when the buffer is full, the peer has ended its side, or on an error. */
#define SANWSK_RECEIVE_ALL 1

/* Flag of SANWSK_DISCONNECT_REQUEST: reset the connection and drop what is not sent yet. */
#define SANWSK_DISCONNECT_ABORTIVE 1

/* Flag of SANWSK_ENDPOINTS_REQUEST: endpoints of all handles, not of the caller's own alone. Administrators only. */
#define SANWSK_ENDPOINTS_OF_ALL_HANDLES 1

/* Flag of SANWSK_HANDLES_REQUEST: all handles, not the caller's own alone. Administrators only. */
#define SANWSK_ALL_HANDLES 1

/* Flag of SANWSK_ROUTE: TCP/IP does not reach the SAN addresses. */
#define SANWSK_ROUTE_SAN_ONLY 1

/* Flag of SANWSK_ROUTE, in answers alone: the route comes from the registry. */
#define SANWSK_ROUTE_FROM_REGISTRY 2

/* Backlog of SANWSK_LISTEN_REQUEST: as many as the driver allows (SOMAXCONN of winsock2.h; winsock.h has another). */
#define SANWSK_SOMAXCONN 0x7FFFFFFF

/* Network events, as winsock2.h numbers them: a connection waits to be accepted, and a connect has ended. */
#define SANWSK_FD_ACCEPT 0x08
#define SANWSK_FD_CONNECT 0x10

/* The network events that SANWSK_EVENT_SELECT_REQUEST may name. */
#define SANWSK_NETWORK_EVENTS (SANWSK_FD_CONNECT | SANWSK_FD_ACCEPT)

/* Rights of registered memory: messages may be sent from it, and received into it. */
#define SANWSK_MEMORY_SEND 1
#define SANWSK_MEMORY_RECEIVE 2

/* The rights that SANWSK_REGISTER_MEMORY_REQUEST may name. */
#define SANWSK_MEMORY_RIGHTS (SANWSK_MEMORY_SEND | SANWSK_MEMORY_RECEIVE)

/* Bytes of private data in a session message, at most. */
#define SANWSK_MAX_PRIVATE_DATA 256

/* What the driver's settings are where the registry says nothing else (docs/limits.md): bytes of a message, connections in a
 * backlog, milliseconds of a connect, and the TCP port at which SAN connections arrive. */
#define SANWSK_DEFAULT_MAX_MESSAGE_SIZE 1048576
#define SANWSK_DEFAULT_MAX_BACKLOG 200
#define SANWSK_DEFAULT_CONNECT_TIMEOUT 21000
#define SANWSK_DEFAULT_NATIVE_PORT 28057

/*
 * Structures
 */

/* Names an endpoint for the handle that made it; never used again once the endpoint is closed. */
typedef uint64_t SANWSK_ENDPOINT_ID;

/* An address and port, laid out as SOCKADDR_INET (ws2ipdef.h): copy one here. All zeros where a reply has no address. */
typedef struct _SANWSK_SOCKET_ADDRESS {
    /* SANWSK_AF_INET or SANWSK_AF_INET6. */
    uint16_t Family;
    /* Port, most significant byte first. */
    uint8_t Port[2];
    /* IPv4: address (4 bytes), then zeros. IPv6: flow information (4), address (16), scope id (4). */
    uint8_t Rest[24];
} SANWSK_SOCKET_ADDRESS, *PSANWSK_SOCKET_ADDRESS;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_SOCKET_ADDRESS) == 28, "SANWSK_SOCKET_ADDRESS");

/* First field of every request. */
typedef struct _SANWSK_HEADER {
    /* SANWSK_PROTOCOL_VERSION. */
    uint32_t Version;
    /* Flags of the request; bits without a meaning for it must be zero. */
    uint32_t Flags;
} SANWSK_HEADER, *PSANWSK_HEADER;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_HEADER) == 8, "SANWSK_HEADER");

/* Answer to IOCTL_SANWSK_QUERY_VERSION. */
typedef struct _SANWSK_VERSION_REPLY {
    /* Oldest SANWSK_PROTOCOL_VERSION the driver understands. */
    uint32_t OldestProtocol;
    /* Newest SANWSK_PROTOCOL_VERSION the driver understands. */
    uint32_t NewestProtocol;
    /* Version of the driver: major, minor, patch. */
    uint32_t Driver[3];
} SANWSK_VERSION_REPLY, *PSANWSK_VERSION_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_VERSION_REPLY) == 20, "SANWSK_VERSION_REPLY");

/* Answer to IOCTL_SANWSK_QUERY_STATUS. */
typedef struct _SANWSK_STATUS_REPLY {
    /* A SANWSK_PROVIDER_STATE as a number. */
    uint32_t Provider;
    /* The NTSTATUS that the capture of the WSK provider NPI ended with; STATUS_PENDING while it goes on. */
    int32_t CaptureStatus;
    /* The provider's WSK version (major in the high byte of the low word, minor below it); 0 until captured. */
    uint32_t WskVersion;
    /* Endpoints that exist, of all handles, those being closed included. */
    uint32_t Endpoints;
} SANWSK_STATUS_REPLY, *PSANWSK_STATUS_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_STATUS_REPLY) == 16, "SANWSK_STATUS_REPLY");

/* Answer to IOCTL_SANWSK_QUERY_LIMITS: the registry parameters in force. */
typedef struct _SANWSK_DEVICE_LIMITS {
    /* MaxPinnedMiB, in bytes: registered memory of all handles. */
    uint64_t PinnedBytes;
    /* MaxPinnedMiBPerHandle, in bytes. */
    uint64_t PinnedBytesPerHandle;
    /* MaxEndpoints: endpoints of all handles. */
    uint32_t Endpoints;
    /* MaxEndpointsPerHandle. */
    uint32_t EndpointsPerHandle;
    /* MaxBacklog: connections that may wait at a listener. */
    uint32_t Backlog;
    /* MaxRegions: registered regions of all handles. */
    uint32_t Regions;
    /* MaxRegionsPerHandle. */
    uint32_t RegionsPerHandle;
    /* MaxMessageSize: bytes of a SAN message. */
    uint32_t MessageSize;
    /* MaxHandshakes: native connections in the hand-shake. */
    uint32_t Handshakes;
    /* MaxRoutes: routes, those of the registry included. */
    uint32_t Routes;
    /* HandshakeTimeout, in milliseconds. */
    uint32_t HandshakeTimeout;
    /* ConnectTimeout, in milliseconds. */
    uint32_t ConnectTimeout;
    /* NativePort: the TCP port at which SAN connections arrive. */
    uint32_t NativePort;
    /* AllowUsers: 1 if every interactive user may open the device. */
    uint32_t AllowUsers;
    /* Routes that there are. */
    uint32_t RoutesUsed;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_DEVICE_LIMITS, *PSANWSK_DEVICE_LIMITS;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_DEVICE_LIMITS) == 72, "SANWSK_DEVICE_LIMITS");

/* Maps a prefix of SAN addresses to a prefix of native ones, of the same family and length. */
typedef struct _SANWSK_ROUTE {
    /* The first SAN address of the prefix: no bits past its length, port, flow and scope 0. */
    SANWSK_SOCKET_ADDRESS San;
    /* The first native address of the prefix, likewise; its port is where SAN connections arrive at the machines
     * behind the route, 0 for this machine's own native port. */
    SANWSK_SOCKET_ADDRESS Native;
    /* Bits of both prefixes. */
    uint32_t Length;
    /* SANWSK_ROUTE_SAN_ONLY; in answers also SANWSK_ROUTE_FROM_REGISTRY. */
    uint32_t Flags;
} SANWSK_ROUTE, *PSANWSK_ROUTE;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ROUTE) == 64, "SANWSK_ROUTE");

/* Answer to IOCTL_SANWSK_QUERY_ROUTES, in front of the routes: the longer prefixes first. */
typedef struct _SANWSK_ROUTES_REPLY {
    /* Routes that there are. With more than Count, the request ends with STATUS_BUFFER_OVERFLOW. */
    uint32_t Total;
    /* Routes that follow: as many as fit. */
    uint32_t Count;
} SANWSK_ROUTES_REPLY, *PSANWSK_ROUTES_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ROUTES_REPLY) == 8, "SANWSK_ROUTES_REPLY");

/* Adds a route (IOCTL_SANWSK_ADD_ROUTE). */
typedef struct _SANWSK_ADD_ROUTE_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The route. */
    SANWSK_ROUTE Route;
} SANWSK_ADD_ROUTE_REQUEST, *PSANWSK_ADD_ROUTE_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ADD_ROUTE_REQUEST) == 72, "SANWSK_ADD_ROUTE_REQUEST");

/* Removes a route (IOCTL_SANWSK_REMOVE_ROUTE). */
typedef struct _SANWSK_REMOVE_ROUTE_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The first SAN address of its prefix, as in SANWSK_ROUTE. */
    SANWSK_SOCKET_ADDRESS San;
    /* Bits of the prefix. */
    uint32_t Length;
} SANWSK_REMOVE_ROUTE_REQUEST, *PSANWSK_REMOVE_ROUTE_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_REMOVE_ROUTE_REQUEST) == 40, "SANWSK_REMOVE_ROUTE_REQUEST");

/* Asks for endpoints (IOCTL_SANWSK_QUERY_ENDPOINTS). */
typedef struct _SANWSK_ENDPOINTS_REQUEST {
    /* The header; SANWSK_ENDPOINTS_OF_ALL_HANDLES is the only flag. */
    SANWSK_HEADER Header;
    /* Where to go on: Next of SANWSK_ENDPOINTS_REPLY of the answer before, 0 to begin. */
    uint64_t Position;
} SANWSK_ENDPOINTS_REQUEST, *PSANWSK_ENDPOINTS_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ENDPOINTS_REQUEST) == 16, "SANWSK_ENDPOINTS_REQUEST");

/* Answer to IOCTL_SANWSK_QUERY_ENDPOINTS, in front of the entries. */
typedef struct _SANWSK_ENDPOINTS_REPLY {
    /* Where to go on, if the request has ended with STATUS_BUFFER_OVERFLOW for want of room; 0: that was all. */
    uint64_t Next;
    /* Entries that follow. */
    uint32_t Count;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_ENDPOINTS_REPLY, *PSANWSK_ENDPOINTS_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ENDPOINTS_REPLY) == 16, "SANWSK_ENDPOINTS_REPLY");

/* An endpoint as IOCTL_SANWSK_QUERY_ENDPOINTS finds it. */
typedef struct _SANWSK_ENDPOINT_ENTRY {
    /* The endpoint's id, which is of use through its own handle alone. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* Id of the process that opened the handle; 0 for the kernel's own. */
    uint64_t Process;
    /* SAN: messages that TCP has taken. Stream: sends that TCP has taken. */
    uint64_t MessagesSent;
    /* Their bytes. */
    uint64_t BytesSent;
    /* SAN: messages that were received into posted buffers. Stream: receives that have brought bytes. */
    uint64_t MessagesReceived;
    /* Their bytes. */
    uint64_t BytesReceived;
    /* Local address; all zeros if the endpoint is not bound. */
    SANWSK_SOCKET_ADDRESS Local;
    /* The peer's address; all zeros if the endpoint is not connected. */
    SANWSK_SOCKET_ADDRESS Remote;
    /* An SANWSK_ENDPOINT_KIND as a number. */
    uint32_t Kind;
    /* An SANWSK_ENDPOINT_STATE as a number. */
    uint32_t State;
    /* Listeners: connections that wait to be accepted. */
    uint32_t Backlog;
    /* Listeners: connections that may wait; 0 for others. */
    uint32_t BacklogLimit;
    /* SAN: sends that wait for credits or are on their way. */
    uint32_t SendsQueued;
    /* SAN: receives that wait for a message. */
    uint32_t ReceivesPosted;
    /* SAN: messages that the peer has granted and this side has not sent yet. */
    uint32_t SendCredits;
    /* SAN: registered regions. */
    uint32_t Regions;
    /* SAN: bytes of those regions. */
    uint64_t PinnedBytes;
} SANWSK_ENDPOINT_ENTRY, *PSANWSK_ENDPOINT_ENTRY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ENDPOINT_ENTRY) == 144, "SANWSK_ENDPOINT_ENTRY");

/* Asks for handles (IOCTL_SANWSK_QUERY_HANDLES). */
typedef struct _SANWSK_HANDLES_REQUEST {
    /* The header; SANWSK_ALL_HANDLES is the only flag. */
    SANWSK_HEADER Header;
    /* Where to go on: Next of SANWSK_HANDLES_REPLY of the answer before, 0 to begin. */
    uint64_t Position;
} SANWSK_HANDLES_REQUEST, *PSANWSK_HANDLES_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_HANDLES_REQUEST) == 16, "SANWSK_HANDLES_REQUEST");

/* Answer to IOCTL_SANWSK_QUERY_HANDLES, in front of the entries. */
typedef struct _SANWSK_HANDLES_REPLY {
    /* Where to go on, if the request has ended with STATUS_BUFFER_OVERFLOW for want of room; 0: that was all. */
    uint64_t Next;
    /* Entries that follow. */
    uint32_t Count;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_HANDLES_REPLY, *PSANWSK_HANDLES_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_HANDLES_REPLY) == 16, "SANWSK_HANDLES_REPLY");

/* A handle as IOCTL_SANWSK_QUERY_HANDLES finds it: what has been done through it since it was opened, by endpoints that are closed
 * too, and what it holds now. */
typedef struct _SANWSK_HANDLE_ENTRY {
    /* Its number, which no other handle ever has. */
    uint64_t Handle;
    /* Id of the process that opened it; 0 for a client in the kernel. */
    uint64_t Process;
    /* SAN messages that TCP has taken. */
    uint64_t MessagesSent;
    /* Bytes of those messages. */
    uint64_t BytesSent;
    /* SAN messages that were received into posted buffers. */
    uint64_t MessagesReceived;
    /* Bytes of those messages. */
    uint64_t BytesReceived;
    /* Sends of streams that TCP has taken. */
    uint64_t StreamSends;
    /* Their bytes. */
    uint64_t StreamBytesSent;
    /* Receives of streams that have brought bytes. */
    uint64_t StreamReceives;
    /* Their bytes. */
    uint64_t StreamBytesReceived;
    /* Bytes registered now. */
    uint64_t PinnedBytes;
    /* Endpoints now, and accepts that wait: what MaxEndpointsPerHandle limits. */
    uint32_t Endpoints;
    /* Regions registered now. */
    uint32_t Regions;
} SANWSK_HANDLE_ENTRY, *PSANWSK_HANDLE_ENTRY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_HANDLE_ENTRY) == 96, "SANWSK_HANDLE_ENTRY");

/* Makes an endpoint (IOCTL_SANWSK_CREATE). */
typedef struct _SANWSK_CREATE_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* A SANWSK_ENDPOINT_KIND as a number. */
    uint32_t Kind;
    /* Address family: SANWSK_AF_INET (2) or SANWSK_AF_INET6 (23). */
    uint16_t Family;
    /* Zero. */
    uint16_t Reserved;
} SANWSK_CREATE_REQUEST, *PSANWSK_CREATE_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_CREATE_REQUEST) == 16, "SANWSK_CREATE_REQUEST");

/* Answer to IOCTL_SANWSK_CREATE. */
typedef struct _SANWSK_CREATE_REPLY {
    /* The new endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
} SANWSK_CREATE_REPLY, *PSANWSK_CREATE_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_CREATE_REPLY) == 8, "SANWSK_CREATE_REPLY");

/* A request with nothing to say but which endpoint it is for. */
typedef struct _SANWSK_ENDPOINT_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
} SANWSK_ENDPOINT_REQUEST, *PSANWSK_ENDPOINT_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ENDPOINT_REQUEST) == 16, "SANWSK_ENDPOINT_REQUEST");

/* Sets an option (IOCTL_SANWSK_SET_OPTION). */
typedef struct _SANWSK_SET_OPTION_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* A SANWSK_SOCKET_OPTION as a number. */
    uint32_t Option;
    /* 1 to turn it on, 0 to turn it off. */
    uint32_t Value;
} SANWSK_SET_OPTION_REQUEST, *PSANWSK_SET_OPTION_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_SET_OPTION_REQUEST) == 24, "SANWSK_SET_OPTION_REQUEST");

/* Binds an endpoint (IOCTL_SANWSK_BIND). */
typedef struct _SANWSK_BIND_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* The local address, of the endpoint's family; port 0 lets the system choose. */
    SANWSK_SOCKET_ADDRESS Address;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_BIND_REQUEST, *PSANWSK_BIND_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_BIND_REQUEST) == 48, "SANWSK_BIND_REQUEST");

/* Answer to IOCTL_SANWSK_BIND. */
typedef struct _SANWSK_ADDRESS_REPLY {
    /* The address that the endpoint is bound to, with its port. */
    SANWSK_SOCKET_ADDRESS Address;
} SANWSK_ADDRESS_REPLY, *PSANWSK_ADDRESS_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ADDRESS_REPLY) == 28, "SANWSK_ADDRESS_REPLY");

/* Connects (IOCTL_SANWSK_CONNECT). */
typedef struct _SANWSK_CONNECT_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* The address to connect to, of the endpoint's family; the port is not 0. */
    SANWSK_SOCKET_ADDRESS Address;
    /* Milliseconds after which the attempt ends with STATUS_IO_TIMEOUT; 0 leaves it to TCP, on a SAN endpoint to the
     * driver's limit. */
    uint32_t Timeout;
} SANWSK_CONNECT_REQUEST, *PSANWSK_CONNECT_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_CONNECT_REQUEST) == 48, "SANWSK_CONNECT_REQUEST");

/* Opens the backlog of a listener (IOCTL_SANWSK_LISTEN). */
typedef struct _SANWSK_LISTEN_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* Connections that may wait to be accepted; more are refused. SANWSK_SOMAXCONN: a reasonable maximum. */
    uint32_t Backlog;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_LISTEN_REQUEST, *PSANWSK_LISTEN_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_LISTEN_REQUEST) == 24, "SANWSK_LISTEN_REQUEST");

/* Answer to IOCTL_SANWSK_ACCEPT. */
typedef struct _SANWSK_ACCEPT_REPLY {
    /* The new endpoint: connected; of a SAN endpoint undecided, see IOCTL_SANWSK_DECIDE. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* Its local address. */
    SANWSK_SOCKET_ADDRESS Local;
    /* The peer's address. */
    SANWSK_SOCKET_ADDRESS Remote;
} SANWSK_ACCEPT_REPLY, *PSANWSK_ACCEPT_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ACCEPT_REPLY) == 64, "SANWSK_ACCEPT_REPLY");

/* Receives (IOCTL_SANWSK_RECEIVE). */
typedef struct _SANWSK_RECEIVE_REQUEST {
    /* The header; SANWSK_RECEIVE_ALL is the only flag. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
} SANWSK_RECEIVE_REQUEST, *PSANWSK_RECEIVE_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_RECEIVE_REQUEST) == 16, "SANWSK_RECEIVE_REQUEST");

/* Ends a connection (IOCTL_SANWSK_DISCONNECT). */
typedef struct _SANWSK_DISCONNECT_REQUEST {
    /* The header; SANWSK_DISCONNECT_ABORTIVE is the only flag. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
} SANWSK_DISCONNECT_REQUEST, *PSANWSK_DISCONNECT_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_DISCONNECT_REQUEST) == 16, "SANWSK_DISCONNECT_REQUEST");

/* Answer to IOCTL_SANWSK_QUERY_ADDRESSES. */
typedef struct _SANWSK_ADDRESSES_REPLY {
    /* Local address; all zeros if the endpoint is not bound. */
    SANWSK_SOCKET_ADDRESS Local;
    /* The peer's address; all zeros if the endpoint is not connected. */
    SANWSK_SOCKET_ADDRESS Remote;
} SANWSK_ADDRESSES_REPLY, *PSANWSK_ADDRESSES_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ADDRESSES_REPLY) == 56, "SANWSK_ADDRESSES_REPLY");

/* Names the event object of an endpoint (IOCTL_SANWSK_EVENT_SELECT). */
typedef struct _SANWSK_EVENT_SELECT_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* The caller's handle of an event object, zero-extended; 0 with a mask of 0. */
    uint64_t Event;
    /* The network events that set it: SANWSK_FD_CONNECT and SANWSK_FD_ACCEPT. 0 lets go of the event and makes the
     * endpoint blocking again. */
    uint32_t Mask;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_EVENT_SELECT_REQUEST, *PSANWSK_EVENT_SELECT_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_EVENT_SELECT_REQUEST) == 32, "SANWSK_EVENT_SELECT_REQUEST");

/* Answer to IOCTL_SANWSK_ENUM_NETWORK_EVENTS. */
typedef struct _SANWSK_NETWORK_EVENTS_REPLY {
    /* The network events since the last enumeration. */
    uint32_t Events;
    /* With SANWSK_FD_CONNECT: the NTSTATUS that the connect ended with. Otherwise 0. */
    int32_t ConnectStatus;
    /* With SANWSK_FD_ACCEPT: the NTSTATUS of the arrival. Otherwise 0. */
    int32_t AcceptStatus;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_NETWORK_EVENTS_REPLY, *PSANWSK_NETWORK_EVENTS_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_NETWORK_EVENTS_REPLY) == 16, "SANWSK_NETWORK_EVENTS_REPLY");

/* Decides on a connection that was accepted undecided (IOCTL_SANWSK_DECIDE). */
typedef struct _SANWSK_DECIDE_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The undecided endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* A SANWSK_DECISION as a number. */
    uint32_t Decision;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_DECIDE_REQUEST, *PSANWSK_DECIDE_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_DECIDE_REQUEST) == 24, "SANWSK_DECIDE_REQUEST");

/* Offers a session to the peer (IOCTL_SANWSK_NEGOTIATE). */
typedef struct _SANWSK_NEGOTIATE_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* The longest message, in bytes, that the peer may send: no posted receive is shorter. */
    uint32_t ReceiveSize;
    /* Bytes of Private that go to the peer, at most SANWSK_MAX_PRIVATE_DATA. */
    uint32_t PrivateLength;
    /* Private data for the peer; what lies past PrivateLength is not looked at. */
    uint8_t Private[SANWSK_MAX_PRIVATE_DATA];
} SANWSK_NEGOTIATE_REQUEST, *PSANWSK_NEGOTIATE_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_NEGOTIATE_REQUEST) == 280, "SANWSK_NEGOTIATE_REQUEST");

/* Answer to IOCTL_SANWSK_NEGOTIATE: what the peer offered. */
typedef struct _SANWSK_NEGOTIATE_REPLY {
    /* Messages that the peer had receives posted for when it made its offer. */
    uint32_t ReceiveCount;
    /* The longest message, in bytes, that the peer takes. */
    uint32_t ReceiveSize;
    /* Bytes of Private that the peer sent. */
    uint32_t PrivateLength;
    /* Zero. */
    uint32_t Reserved;
    /* The peer's private data; zeros past PrivateLength. */
    uint8_t Private[SANWSK_MAX_PRIVATE_DATA];
} SANWSK_NEGOTIATE_REPLY, *PSANWSK_NEGOTIATE_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_NEGOTIATE_REPLY) == 272, "SANWSK_NEGOTIATE_REPLY");

/* Registers the output buffer (IOCTL_SANWSK_REGISTER_MEMORY). */
typedef struct _SANWSK_REGISTER_MEMORY_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* The caller's name for the region, not used by another registration of the endpoint. */
    uint64_t Key;
    /* What it may be used for: SANWSK_MEMORY_SEND, SANWSK_MEMORY_RECEIVE, or both. */
    uint32_t Rights;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_REGISTER_MEMORY_REQUEST, *PSANWSK_REGISTER_MEMORY_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_REGISTER_MEMORY_REQUEST) == 32, "SANWSK_REGISTER_MEMORY_REQUEST");

/* Names a registered region (IOCTL_SANWSK_QUERY_MEMORY, IOCTL_SANWSK_DEREGISTER_MEMORY). */
typedef struct _SANWSK_MEMORY_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* The key it was registered by. */
    uint64_t Key;
} SANWSK_MEMORY_REQUEST, *PSANWSK_MEMORY_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_MEMORY_REQUEST) == 24, "SANWSK_MEMORY_REQUEST");

/* Answer to IOCTL_SANWSK_QUERY_MEMORY. */
typedef struct _SANWSK_MEMORY_REPLY {
    /* Bytes registered. */
    uint64_t Length;
    /* SANWSK_MEMORY_SEND, SANWSK_MEMORY_RECEIVE, or both. */
    uint32_t Rights;
    /* Sends and receives that use it now. */
    uint32_t InUse;
} SANWSK_MEMORY_REPLY, *PSANWSK_MEMORY_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_MEMORY_REPLY) == 16, "SANWSK_MEMORY_REPLY");

/* Sends from or receives into a slice of a registered region (IOCTL_SANWSK_SEND_REGISTERED,
 * IOCTL_SANWSK_RECEIVE_REGISTERED). */
typedef struct _SANWSK_TRANSFER_REQUEST {
    /* The header; no flags. */
    SANWSK_HEADER Header;
    /* The endpoint. */
    SANWSK_ENDPOINT_ID Endpoint;
    /* The key of the region. */
    uint64_t Key;
    /* Where the slice starts, in bytes from the start of the region. */
    uint64_t Offset;
    /* Bytes of the slice; not 0. */
    uint32_t Length;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_TRANSFER_REQUEST, *PSANWSK_TRANSFER_REQUEST;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_TRANSFER_REQUEST) == 40, "SANWSK_TRANSFER_REQUEST");

/* Answer to IOCTL_SANWSK_RECEIVE_REGISTERED. */
typedef struct _SANWSK_RECEIVE_REPLY {
    /* Bytes of the message, from the start of the slice. */
    uint32_t Length;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_RECEIVE_REPLY, *PSANWSK_RECEIVE_REPLY;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_RECEIVE_REPLY) == 8, "SANWSK_RECEIVE_REPLY");

/* Answer to IOCTL_SANWSK_QUERY_STATISTICS. */
typedef struct _SANWSK_ENDPOINT_STATISTICS {
    /* Messages that TCP has taken. */
    uint64_t MessagesSent;
    /* Bytes of those messages. */
    uint64_t BytesSent;
    /* Messages that were received into posted buffers. */
    uint64_t MessagesReceived;
    /* Bytes of those messages. */
    uint64_t BytesReceived;
    /* Sends that wait for credits or are on their way. */
    uint32_t SendsQueued;
    /* Receives that wait for a message. */
    uint32_t ReceivesPosted;
    /* Messages that the peer has granted and this side has not sent yet. */
    uint32_t SendCredits;
    /* Registered regions. */
    uint32_t Regions;
    /* Bytes of those regions. */
    uint64_t PinnedBytes;
} SANWSK_ENDPOINT_STATISTICS, *PSANWSK_ENDPOINT_STATISTICS;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_ENDPOINT_STATISTICS) == 56, "SANWSK_ENDPOINT_STATISTICS");

/* Answer to IOCTL_SANWSK_QUERY_DEVICE_STATISTICS: of all handles; what has happened, since the driver was loaded. */
typedef struct _SANWSK_DEVICE_STATISTICS {
    /* SAN messages that TCP has taken. */
    uint64_t MessagesSent;
    /* Bytes of those messages. */
    uint64_t BytesSent;
    /* SAN messages that were received into posted buffers. */
    uint64_t MessagesReceived;
    /* Bytes of those messages. */
    uint64_t BytesReceived;
    /* SAN connects that succeeded. */
    uint64_t Connects;
    /* SAN connects that failed. */
    uint64_t ConnectFailures;
    /* SAN connections that were accepted. */
    uint64_t Accepts;
    /* SAN connections that were refused because the backlog was full. */
    uint64_t RefusedBacklog;
    /* SAN connections that were refused in the hand-shake for another reason, or rejected. */
    uint64_t HandshakesRefused;
    /* Native connections that did not finish the hand-shake in time. */
    uint64_t HandshakesTimedOut;
    /* SAN connections that ended because the peer broke the protocol. */
    uint64_t ProtocolViolations;
    /* Bytes registered now. */
    uint64_t PinnedBytes;
    /* Sends of streams that TCP has taken. */
    uint64_t StreamSends;
    /* Their bytes. */
    uint64_t StreamBytesSent;
    /* Receives of streams that have brought bytes. */
    uint64_t StreamReceives;
    /* Their bytes. */
    uint64_t StreamBytesReceived;
    /* Streams' connects that succeeded. */
    uint64_t StreamConnects;
    /* Streams' connects that were tried and failed. */
    uint64_t StreamConnectFailures;
    /* Connections that stream listeners have handed out. */
    uint64_t StreamAccepts;
    /* Peers of streams that were refused because the backlog was full. */
    uint64_t StreamRefusedBacklog;
    /* Requests that were refused because of a limit on endpoints, registered memory or routes. */
    uint64_t LimitsHit;
    /* Regions registered now. */
    uint32_t Regions;
    /* Native connections in the hand-shake now. */
    uint32_t Handshakes;
    /* Handles of the device that are open now. */
    uint32_t Handles;
    /* Stream connections that exist now, those that wait to be accepted included. */
    uint32_t StreamConnections;
    /* Stream listeners that exist now. */
    uint32_t StreamListeners;
    /* SAN endpoints that exist now, those in the hand-shake and those that wait to be accepted included. */
    uint32_t SanEndpoints;
    /* Routes that there are now. */
    uint32_t Routes;
    /* Zero. */
    uint32_t Reserved;
} SANWSK_DEVICE_STATISTICS, *PSANWSK_DEVICE_STATISTICS;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_DEVICE_STATISTICS) == 200, "SANWSK_DEVICE_STATISTICS");

/*
 * Statuses, and the Winsock errors that they become in user mode
 *
 * <winnt.h> has a few of these statuses as a DWORD: compare as uint32_t.
 */

/* Done. */
#ifndef STATUS_SUCCESS
#define STATUS_SUCCESS ((int32_t)0x00000000)
#endif
/* Not done yet. */
#ifndef STATUS_PENDING
#define STATUS_PENDING ((int32_t)0x00000103)
#endif
/* The output buffer holds less than there is (a warning: what fits was written). */
#ifndef STATUS_BUFFER_OVERFLOW
#define STATUS_BUFFER_OVERFLOW ((int32_t)0x80000005)
#endif
/* Another setup operation of the endpoint is under way. */
#ifndef STATUS_DEVICE_BUSY
#define STATUS_DEVICE_BUSY ((int32_t)0x80000011)
#endif
/* Something is wrong that has no better name. */
#ifndef STATUS_UNSUCCESSFUL
#define STATUS_UNSUCCESSFUL ((int32_t)0xC0000001)
#endif
/* An input buffer has another length than the request. */
#ifndef STATUS_INFO_LENGTH_MISMATCH
#define STATUS_INFO_LENGTH_MISMATCH ((int32_t)0xC0000004)
#endif
/* A user buffer cannot be read or written. */
#ifndef STATUS_ACCESS_VIOLATION
#define STATUS_ACCESS_VIOLATION ((int32_t)0xC0000005)
#endif
/* The endpoint does not exist for this handle (any more). */
#ifndef STATUS_INVALID_HANDLE
#define STATUS_INVALID_HANDLE ((int32_t)0xC0000008)
#endif
/* A field has a value that means nothing. */
#ifndef STATUS_INVALID_PARAMETER
#define STATUS_INVALID_PARAMETER ((int32_t)0xC000000D)
#endif
/* The device is on its way out: its driver is being unloaded. */
#ifndef STATUS_NO_SUCH_DEVICE
#define STATUS_NO_SUCH_DEVICE ((int32_t)0xC000000E)
#endif
/* The device has no such control code. */
#ifndef STATUS_INVALID_DEVICE_REQUEST
#define STATUS_INVALID_DEVICE_REQUEST ((int32_t)0xC0000010)
#endif
/* No pool left. */
#ifndef STATUS_NO_MEMORY
#define STATUS_NO_MEMORY ((int32_t)0xC0000017)
#endif
/* The caller may not do this. */
#ifndef STATUS_ACCESS_DENIED
#define STATUS_ACCESS_DENIED ((int32_t)0xC0000022)
#endif
/* The output buffer is too small for the reply. */
#ifndef STATUS_BUFFER_TOO_SMALL
#define STATUS_BUFFER_TOO_SMALL ((int32_t)0xC0000023)
#endif
/* A handle names an object of another type. */
#ifndef STATUS_OBJECT_TYPE_MISMATCH
#define STATUS_OBJECT_TYPE_MISMATCH ((int32_t)0xC0000024)
#endif
/* There is no such device: the driver is not loaded. Or: there is no such route. */
#ifndef STATUS_OBJECT_NAME_NOT_FOUND
#define STATUS_OBJECT_NAME_NOT_FOUND ((int32_t)0xC0000034)
#endif
/* There is such a route already. */
#ifndef STATUS_OBJECT_NAME_COLLISION
#define STATUS_OBJECT_NAME_COLLISION ((int32_t)0xC0000035)
#endif
/* A part of registered memory is in use (said in user mode). */
#ifndef STATUS_LOCK_NOT_GRANTED
#define STATUS_LOCK_NOT_GRANTED ((int32_t)0xC0000055)
#endif
/* Another protocol version. */
#ifndef STATUS_REVISION_MISMATCH
#define STATUS_REVISION_MISMATCH ((int32_t)0xC0000059)
#endif
/* The caller has not the privilege that the request asks for, or has not enabled it. */
#ifndef STATUS_PRIVILEGE_NOT_HELD
#define STATUS_PRIVILEGE_NOT_HELD ((int32_t)0xC0000061)
#endif
/* Memory, or another resource, ran out. */
#ifndef STATUS_INSUFFICIENT_RESOURCES
#define STATUS_INSUFFICIENT_RESOURCES ((int32_t)0xC000009A)
#endif
/* The WSK provider is not there yet. */
#ifndef STATUS_DEVICE_NOT_READY
#define STATUS_DEVICE_NOT_READY ((int32_t)0xC00000A3)
#endif
/* The side to send on is shut down. */
#ifndef STATUS_PIPE_DISCONNECTED
#define STATUS_PIPE_DISCONNECTED ((int32_t)0xC00000B0)
#endif
/* A time limit passed. */
#ifndef STATUS_IO_TIMEOUT
#define STATUS_IO_TIMEOUT ((int32_t)0xC00000B5)
#endif
/* The WSK socket is no longer functional. */
#ifndef STATUS_FILE_FORCED_CLOSED
#define STATUS_FILE_FORCED_CLOSED ((int32_t)0xC00000B6)
#endif
/* Not offered. */
#ifndef STATUS_NOT_SUPPORTED
#define STATUS_NOT_SUPPORTED ((int32_t)0xC00000BB)
#endif
/* A path on the network is not there. */
#ifndef STATUS_BAD_NETWORK_PATH
#define STATUS_BAD_NETWORK_PATH ((int32_t)0xC00000BE)
#endif
/* The peer broke the protocol. */
#ifndef STATUS_INVALID_NETWORK_RESPONSE
#define STATUS_INVALID_NETWORK_RESPONSE ((int32_t)0xC00000C3)
#endif
/* It would have to wait, and the endpoint is non-blocking: an event tells of the end. */
#ifndef STATUS_CANT_WAIT
#define STATUS_CANT_WAIT ((int32_t)0xC00000D8)
#endif
/* A limit on endpoints is reached. */
#ifndef STATUS_TOO_MANY_OPENED_FILES
#define STATUS_TOO_MANY_OPENED_FILES ((int32_t)0xC000011F)
#endif
/* Cancelled. */
#ifndef STATUS_CANCELLED
#define STATUS_CANCELLED ((int32_t)0xC0000120)
#endif
/* The connection was ended here. */
#ifndef STATUS_LOCAL_DISCONNECT
#define STATUS_LOCAL_DISCONNECT ((int32_t)0xC000013B)
#endif
/* The connection was ended by the peer. */
#ifndef STATUS_REMOTE_DISCONNECT
#define STATUS_REMOTE_DISCONNECT ((int32_t)0xC000013C)
#endif
/* The endpoint is not connected. */
#ifndef STATUS_INVALID_CONNECTION
#define STATUS_INVALID_CONNECTION ((int32_t)0xC0000140)
#endif
/* A message, or private data, is longer than is allowed; or a receive is shorter than was promised. */
#ifndef STATUS_INVALID_BUFFER_SIZE
#define STATUS_INVALID_BUFFER_SIZE ((int32_t)0xC0000206)
#endif
/* The address is not one of this machine's. */
#ifndef STATUS_INVALID_ADDRESS_COMPONENT
#define STATUS_INVALID_ADDRESS_COMPONENT ((int32_t)0xC0000207)
#endif
/* Too many addresses in use. */
#ifndef STATUS_TOO_MANY_ADDRESSES
#define STATUS_TOO_MANY_ADDRESSES ((int32_t)0xC0000209)
#endif
/* The address is in use. */
#ifndef STATUS_ADDRESS_ALREADY_EXISTS
#define STATUS_ADDRESS_ALREADY_EXISTS ((int32_t)0xC000020A)
#endif
/* The connection was reset by the peer. */
#ifndef STATUS_CONNECTION_RESET
#define STATUS_CONNECTION_RESET ((int32_t)0xC000020D)
#endif
/* Nobody listens there, or the listener refused. */
#ifndef STATUS_CONNECTION_REFUSED
#define STATUS_CONNECTION_REFUSED ((int32_t)0xC0000236)
#endif
/* The connection has ended gracefully. */
#ifndef STATUS_GRACEFUL_DISCONNECT
#define STATUS_GRACEFUL_DISCONNECT ((int32_t)0xC0000237)
#endif
/* The connection is not there. */
#ifndef STATUS_CONNECTION_INVALID
#define STATUS_CONNECTION_INVALID ((int32_t)0xC000023A)
#endif
/* The endpoint is connected (or connecting) already. */
#ifndef STATUS_CONNECTION_ACTIVE
#define STATUS_CONNECTION_ACTIVE ((int32_t)0xC000023B)
#endif
/* No route to the network. */
#ifndef STATUS_NETWORK_UNREACHABLE
#define STATUS_NETWORK_UNREACHABLE ((int32_t)0xC000023C)
#endif
/* No route to the host. */
#ifndef STATUS_HOST_UNREACHABLE
#define STATUS_HOST_UNREACHABLE ((int32_t)0xC000023D)
#endif
/* The protocol is not known there. */
#ifndef STATUS_PROTOCOL_UNREACHABLE
#define STATUS_PROTOCOL_UNREACHABLE ((int32_t)0xC000023E)
#endif
/* The port is not known there. */
#ifndef STATUS_PORT_UNREACHABLE
#define STATUS_PORT_UNREACHABLE ((int32_t)0xC000023F)
#endif
/* The request was aborted. */
#ifndef STATUS_REQUEST_ABORTED
#define STATUS_REQUEST_ABORTED ((int32_t)0xC0000240)
#endif
/* The connection was aborted here. */
#ifndef STATUS_CONNECTION_ABORTED
#define STATUS_CONNECTION_ABORTED ((int32_t)0xC0000241)
#endif
/* The WSK version asked for is not offered. */
#ifndef STATUS_NOINTERFACE
#define STATUS_NOINTERFACE ((int32_t)0xC00002B9)
#endif

/* As <winerror.h> has them. */
#ifndef NO_ERROR
#define NO_ERROR 0L
#endif
#ifndef WSAEACCES
#define WSAEACCES 10013L
#define WSAEFAULT 10014L
#define WSAEINVAL 10022L
#define WSAEMFILE 10024L
#define WSAEWOULDBLOCK 10035L
#define WSAEALREADY 10037L
#define WSAENOTSOCK 10038L
#define WSAEMSGSIZE 10040L
#define WSAEPROTOTYPE 10041L
#define WSAEPROTONOSUPPORT 10043L
#define WSAESOCKTNOSUPPORT 10044L
#define WSAEOPNOTSUPP 10045L
#define WSAEAFNOSUPPORT 10047L
#define WSAEADDRINUSE 10048L
#define WSAEADDRNOTAVAIL 10049L
#define WSAENETDOWN 10050L
#define WSAENETUNREACH 10051L
#define WSAECONNABORTED 10053L
#define WSAECONNRESET 10054L
#define WSAENOBUFS 10055L
#define WSAEISCONN 10056L
#define WSAENOTCONN 10057L
#define WSAESHUTDOWN 10058L
#define WSAETIMEDOUT 10060L
#define WSAECONNREFUSED 10061L
#define WSAEHOSTUNREACH 10065L
#define WSAEDISCON 10101L
#endif

/* As <winsock2.h> has them. */
#ifdef ERROR_IO_PENDING
#ifndef WSA_IO_PENDING
#define WSA_IO_PENDING (ERROR_IO_PENDING)
#endif
#ifndef WSA_IO_INCOMPLETE
#define WSA_IO_INCOMPLETE (ERROR_IO_INCOMPLETE)
#endif
#ifndef WSA_OPERATION_ABORTED
#define WSA_OPERATION_ABORTED (ERROR_OPERATION_ABORTED)
#endif
#else
#define WSA_IO_PENDING 997
#define WSA_IO_INCOMPLETE 996
#define WSA_OPERATION_ABORTED 995
#endif

/* Every status above with its Winsock error: SANWSK_STATUSES(Row) is Row(STATUS_SUCCESS, NO_ERROR) and so on. */
#define SANWSK_STATUSES(Row) \
    Row(STATUS_SUCCESS, NO_ERROR) \
    Row(STATUS_PENDING, WSA_IO_PENDING) \
    Row(STATUS_BUFFER_OVERFLOW, WSAEMSGSIZE) \
    Row(STATUS_DEVICE_BUSY, WSAEALREADY) \
    Row(STATUS_UNSUCCESSFUL, WSAEINVAL) \
    Row(STATUS_INFO_LENGTH_MISMATCH, WSAEINVAL) \
    Row(STATUS_ACCESS_VIOLATION, WSAEFAULT) \
    Row(STATUS_INVALID_HANDLE, WSAENOTSOCK) \
    Row(STATUS_INVALID_PARAMETER, WSAEINVAL) \
    Row(STATUS_NO_SUCH_DEVICE, WSAENETDOWN) \
    Row(STATUS_INVALID_DEVICE_REQUEST, WSAEOPNOTSUPP) \
    Row(STATUS_NO_MEMORY, WSAENOBUFS) \
    Row(STATUS_ACCESS_DENIED, WSAEACCES) \
    Row(STATUS_BUFFER_TOO_SMALL, WSAEFAULT) \
    Row(STATUS_OBJECT_TYPE_MISMATCH, WSAEINVAL) \
    Row(STATUS_OBJECT_NAME_NOT_FOUND, WSAEINVAL) \
    Row(STATUS_OBJECT_NAME_COLLISION, WSAEINVAL) \
    Row(STATUS_LOCK_NOT_GRANTED, WSAEINVAL) \
    Row(STATUS_REVISION_MISMATCH, WSAEINVAL) \
    Row(STATUS_PRIVILEGE_NOT_HELD, WSAEACCES) \
    Row(STATUS_INSUFFICIENT_RESOURCES, WSAENOBUFS) \
    Row(STATUS_DEVICE_NOT_READY, WSAENETDOWN) \
    Row(STATUS_PIPE_DISCONNECTED, WSAESHUTDOWN) \
    Row(STATUS_IO_TIMEOUT, WSAETIMEDOUT) \
    Row(STATUS_FILE_FORCED_CLOSED, WSAECONNABORTED) \
    Row(STATUS_NOT_SUPPORTED, WSAEOPNOTSUPP) \
    Row(STATUS_BAD_NETWORK_PATH, WSAENETUNREACH) \
    Row(STATUS_INVALID_NETWORK_RESPONSE, WSAECONNABORTED) \
    Row(STATUS_CANT_WAIT, WSAEWOULDBLOCK) \
    Row(STATUS_TOO_MANY_OPENED_FILES, WSAEMFILE) \
    Row(STATUS_CANCELLED, WSA_OPERATION_ABORTED) \
    Row(STATUS_LOCAL_DISCONNECT, WSAECONNABORTED) \
    Row(STATUS_REMOTE_DISCONNECT, WSAECONNRESET) \
    Row(STATUS_INVALID_CONNECTION, WSAENOTCONN) \
    Row(STATUS_INVALID_BUFFER_SIZE, WSAEMSGSIZE) \
    Row(STATUS_INVALID_ADDRESS_COMPONENT, WSAEADDRNOTAVAIL) \
    Row(STATUS_TOO_MANY_ADDRESSES, WSAEADDRINUSE) \
    Row(STATUS_ADDRESS_ALREADY_EXISTS, WSAEADDRINUSE) \
    Row(STATUS_CONNECTION_RESET, WSAECONNRESET) \
    Row(STATUS_CONNECTION_REFUSED, WSAECONNREFUSED) \
    Row(STATUS_GRACEFUL_DISCONNECT, WSAEDISCON) \
    Row(STATUS_CONNECTION_INVALID, WSAENOTCONN) \
    Row(STATUS_CONNECTION_ACTIVE, WSAEISCONN) \
    Row(STATUS_NETWORK_UNREACHABLE, WSAENETUNREACH) \
    Row(STATUS_HOST_UNREACHABLE, WSAEHOSTUNREACH) \
    Row(STATUS_PROTOCOL_UNREACHABLE, WSAENETUNREACH) \
    Row(STATUS_PORT_UNREACHABLE, WSAECONNRESET) \
    Row(STATUS_REQUEST_ABORTED, WSA_OPERATION_ABORTED) \
    Row(STATUS_CONNECTION_ABORTED, WSAECONNABORTED) \
    Row(STATUS_NOINTERFACE, WSAENETDOWN)

/* The Winsock error for the status that a request has ended with; WSAEINVAL for a failure without a closer meaning.
 * STATUS_NOT_SUPPORTED of IOCTL_SANWSK_CREATE is better called WSAEAFNOSUPPORT. */
static inline int SanWskWsaError(int32_t Status)
{
#define SANWSK_ROW(Name, Error) \
    case (uint32_t)(Name):      \
        return (int)(Error);
    switch ((uint32_t)Status) {
        SANWSK_STATUSES(SANWSK_ROW)
    default:
        return Status >= 0 ? (int)NO_ERROR : (int)WSAEINVAL;
    }
#undef SANWSK_ROW
}

/* The name of a status; a null pointer for one that is not listed above. */
static inline const char *SanWskStatusName(int32_t Status)
{
#define SANWSK_ROW(Name, Error) \
    case (uint32_t)(Name):      \
        return #Name;
    switch ((uint32_t)Status) {
        SANWSK_STATUSES(SANWSK_ROW)
    default:
        return 0;
    }
#undef SANWSK_ROW
}

#ifdef __cplusplus
}
#endif

#endif /* SANWSK_H */
