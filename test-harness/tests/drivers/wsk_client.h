/* What a client of WSK needs of wsk.h and netioddk.h, which Debian's headers lack. */

#define WSK_NO_WAIT 0
#define WSK_INFINITE_WAIT 0xffffffff
#define WSK_FLAG_LISTEN_SOCKET 1
#define WSK_FLAG_CONNECTION_SOCKET 2
#define WSK_FLAG_DATAGRAM_SOCKET 4
#define WSK_FLAG_WAITALL 2
#define WSK_FLAG_DRAIN 4
#define WSK_FLAG_ABORTIVE 1
#define WSK_EVENT_ACCEPT 0x200
#define WSK_EVENT_RECEIVE 0x40
#define WSK_EVENT_RECEIVE_FROM 0x100
#define WSK_EVENT_DISCONNECT 0x80
#define WSK_EVENT_DISABLE 0x80000000
#define WSK_TRANSPORT_LIST_QUERY 2
#define WSK_RELEASE_SD 5
#define SOL_SOCKET 0xffff
#define SO_CONDITIONAL_ACCEPT 0x3002
#define SO_WSK_EVENT_CALLBACK (0x4000 + 2)
#define AF_INET 2
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define MSG_TRUNC 0x100
#define STATUS_DATA_NOT_ACCEPTED ((NTSTATUS)0xC000021B)
enum { WskSetOption, WskGetOption, WskIoctl };
enum { WskInspectReject, WskInspectAccept, WskInspectPend };

typedef struct {
    USHORT sin_family;
    USHORT sin_port;
    UCHAR sin_addr[4];
    UCHAR sin_zero[8];
} SOCKADDR_IN;

typedef struct _WSK_SOCKET {
    const struct _WSK_DISPATCH *Dispatch;
} WSK_SOCKET, *PWSK_SOCKET;

typedef struct {
    PMDL Mdl;
    ULONG Offset;
    SIZE_T Length;
} WSK_BUF;

typedef struct _WSK_DATA_INDICATION {
    struct _WSK_DATA_INDICATION *Next;
    WSK_BUF Buffer;
} WSK_DATA_INDICATION;

typedef struct _WSK_BUF_LIST {
    struct _WSK_BUF_LIST *Next;
    WSK_BUF Buffer;
} WSK_BUF_LIST;

typedef struct _WSK_DATAGRAM_INDICATION {
    struct _WSK_DATAGRAM_INDICATION *Next;
    WSK_BUF Buffer;
    PVOID ControlInfo;
    ULONG ControlInfoLength;
    SOCKADDR_IN *RemoteAddress;
} WSK_DATAGRAM_INDICATION;

typedef struct {
    const GUID *NpiId;
    ULONG EventMask;
} WSK_EVENT_CALLBACK_CONTROL;

typedef struct {
    USHORT Version;
    USHORT Reserved;
    PVOID WskClientEvent;
} WSK_CLIENT_DISPATCH;

typedef struct {
    PVOID ClientContext;
    const WSK_CLIENT_DISPATCH *Dispatch;
} WSK_CLIENT_NPI;

typedef struct {
    ULONGLONG State;
    PVOID Context;
    KSPIN_LOCK Lock;
} WSK_REGISTRATION;

typedef struct {
    USHORT Version;
    USHORT Reserved;
    NTSTATUS(NTAPI *WskSocket)
    (PVOID Client, USHORT Family, USHORT Type, ULONG Protocol, ULONG Flags, PVOID Context, const void *Dispatch,
        PEPROCESS Process, PETHREAD Thread, PVOID Descriptor, PIRP Irp);
    PVOID WskSocketConnect;
    NTSTATUS(NTAPI *WskControlClient)
    (PVOID Client, ULONG Code, SIZE_T InputSize, PVOID Input, SIZE_T OutputSize, PVOID Output, SIZE_T *Returned, PIRP Irp);
    PVOID WskGetAddressInfo;
    PVOID WskFreeAddressInfo;
    PVOID WskGetNameInfo;
} WSK_PROVIDER_DISPATCH;

typedef struct {
    PVOID Client;
    const WSK_PROVIDER_DISPATCH *Dispatch;
} WSK_PROVIDER_NPI;

/* The tables of a listening and of a connection socket begin alike. */
typedef struct _WSK_DISPATCH {
    NTSTATUS(NTAPI *WskControlSocket)
    (PWSK_SOCKET Socket, int Request, ULONG Code, ULONG Level, SIZE_T InputSize, PVOID Input, SIZE_T OutputSize,
        PVOID Output, SIZE_T *Returned, PIRP Irp);
    NTSTATUS(NTAPI *WskCloseSocket)(PWSK_SOCKET Socket, PIRP Irp);
    NTSTATUS(NTAPI *WskBind)(PWSK_SOCKET Socket, SOCKADDR_IN *Local, ULONG Flags, PIRP Irp);
    union {
        struct {
            NTSTATUS(NTAPI *WskAccept)
            (PWSK_SOCKET Socket, ULONG Flags, PVOID Context, const void *Dispatch, SOCKADDR_IN *Local,
                SOCKADDR_IN *Remote, PIRP Irp);
            PVOID WskInspectComplete;
            NTSTATUS(NTAPI *WskGetLocalAddress)(PWSK_SOCKET Socket, SOCKADDR_IN *Local, PIRP Irp);
        } Listen;
        struct {
            NTSTATUS(NTAPI *WskConnect)(PWSK_SOCKET Socket, SOCKADDR_IN *Remote, ULONG Flags, PIRP Irp);
            NTSTATUS(NTAPI *WskGetLocalAddress)(PWSK_SOCKET Socket, SOCKADDR_IN *Local, PIRP Irp);
            PVOID WskGetRemoteAddress;
            NTSTATUS(NTAPI *WskSend)(PWSK_SOCKET Socket, WSK_BUF *Buffer, ULONG Flags, PIRP Irp);
            NTSTATUS(NTAPI *WskReceive)(PWSK_SOCKET Socket, WSK_BUF *Buffer, ULONG Flags, PIRP Irp);
            PVOID WskDisconnect;
            NTSTATUS(NTAPI *WskRelease)(PWSK_SOCKET Socket, WSK_DATA_INDICATION *Indication);
            PVOID WskConnectEx;
        } Connection;
        struct {
            NTSTATUS(NTAPI *WskSendTo)
            (PWSK_SOCKET Socket, WSK_BUF *Buffer, ULONG Flags, SOCKADDR_IN *Remote, ULONG ControlLength, PVOID Control, PIRP Irp);
            NTSTATUS(NTAPI *WskReceiveFrom)
            (PWSK_SOCKET Socket, WSK_BUF *Buffer, ULONG Flags, SOCKADDR_IN *Remote, ULONG *ControlLength, PVOID Control,
                ULONG *ControlFlags, PIRP Irp);
            NTSTATUS(NTAPI *WskRelease)(PWSK_SOCKET Socket, WSK_DATAGRAM_INDICATION *Indication);
            NTSTATUS(NTAPI *WskGetLocalAddress)(PWSK_SOCKET Socket, SOCKADDR_IN *Local, PIRP Irp);
            NTSTATUS(NTAPI *WskSendMessages)
            (PWSK_SOCKET Socket, WSK_BUF_LIST *List, ULONG Flags, SOCKADDR_IN *Remote, ULONG ControlLength, PVOID Control,
                PIRP Irp);
        } Datagram;
    };
} WSK_DISPATCH;

typedef struct {
    NTSTATUS(NTAPI *WskAcceptEvent)
    (PVOID Context, ULONG Flags, SOCKADDR_IN *Local, SOCKADDR_IN *Remote, PWSK_SOCKET Accepted, PVOID *AcceptedContext,
        const void **AcceptedDispatch);
    int(NTAPI *WskInspectEvent)(PVOID Context, SOCKADDR_IN *Local, SOCKADDR_IN *Remote, PVOID InspectId);
    NTSTATUS(NTAPI *WskAbortEvent)(PVOID Context, PVOID InspectId);
} WSK_CLIENT_LISTEN_DISPATCH;

typedef struct {
    NTSTATUS(NTAPI *WskReceiveEvent)
    (PVOID Context, ULONG Flags, WSK_DATA_INDICATION *Indication, SIZE_T Length, SIZE_T *Accepted);
    NTSTATUS(NTAPI *WskDisconnectEvent)(PVOID Context, ULONG Flags);
    PVOID WskSendBacklogEvent;
} WSK_CLIENT_CONNECTION_DISPATCH;

typedef struct {
    NTSTATUS(NTAPI *WskReceiveFromEvent)(PVOID Context, ULONG Flags, WSK_DATAGRAM_INDICATION *Indication);
} WSK_CLIENT_DATAGRAM_DISPATCH;

NTSTATUS NTAPI WskRegister(WSK_CLIENT_NPI *Client, WSK_REGISTRATION *Registration);
NTSTATUS NTAPI WskCaptureProviderNPI(WSK_REGISTRATION *Registration, ULONG Timeout, WSK_PROVIDER_NPI *Npi);
VOID NTAPI WskReleaseProviderNPI(WSK_REGISTRATION *Registration);
VOID NTAPI WskDeregister(WSK_REGISTRATION *Registration);
