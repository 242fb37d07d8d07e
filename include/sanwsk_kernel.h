/* sanwsk_kernel.h: the functions of sanwsk.sys, for other drivers in C and C++.
 *
 * Include <wdm.h>, <ntddk.h> or <ntifs.h> first. sanwsk.h beside this file has the structures and numbers that both user mode
 * and drivers use; docs/kernel-interface.md is a guide.
 *
 * A driver opens SANWSK_DEVICE_NAME (IoGetDeviceObjectPointer, or an I/O target), sends
 * IOCTL_INTERNAL_SANWSK_GET_INTERFACE at PASSIVE_LEVEL, and gets a SANWSK_INTERFACE: functions, and one reference to the
 * interface. While that reference lasts sanwsk.sys is not unloaded. It gives the reference back with InterfaceDereference when
 * its clients are closed and no function of the table runs any more, and then the file object.
 *
 * IRQL: every function but GET_INTERFACE may be called at IRQL <= DISPATCH_LEVEL, and completes at IRQL <= DISPATCH_LEVEL,
 * possibly before the function has returned, and on any thread. No spin lock may be held that a completion takes.
 *
 * Operations: what takes its time takes a SANWSK_OPERATION, non-paged memory of the caller's, of OperationSize bytes and
 * aligned as pool is, initialized once and used for one thing after the other. Nothing is allocated for it (but an MDL for a
 * SAN message of more than 64 KiB out of the middle of what an MDL describes).
 * A function with an operation returns
 *     STATUS_PENDING: begun. The operation completes exactly once, also when it fails or is cancelled; until then it, its
 *         reply and its MDL must stay as they are.
 *     anything else: not begun, and why. The operation does not complete.
 * A completion gets the status and the bytes moved (Send, Receive and their like; a receive of a stream that brings 0 says
 * that the peer has ended its side), and may use the operation again at once.
 *
 * Statuses of every function with a client: STATUS_INVALID_HANDLE (the client or the endpoint is not there, or not any more),
 * and with an operation: STATUS_INVALID_PARAMETER (it was not initialized), STATUS_DEVICE_BUSY (it is under way). A function
 * for the other kind of endpoint: STATUS_NOT_SUPPORTED. Those of the operations themselves are in docs/ioctl.md, for they are
 * the same that user mode gets.
 */
#ifndef SANWSK_KERNEL_H
#define SANWSK_KERNEL_H

#include "sanwsk.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Asks for the interface. An internal device control (IRP_MJ_INTERNAL_DEVICE_CONTROL). Input: SANWSK_GET_INTERFACE.
 * Output: SANWSK_INTERFACE. STATUS_REVISION_MISMATCH: the driver does not have that version; a SANWSK_INTERFACE_VERSIONS is
 * in the output. STATUS_BUFFER_TOO_SMALL: the interface of that version is larger. */
#define IOCTL_INTERNAL_SANWSK_GET_INTERFACE \
    CTL_CODE(FILE_DEVICE_SANWSK, 0x900, METHOD_NEITHER, FILE_ANY_ACCESS)

/* The version of SANWSK_INTERFACE that this header describes. */
#define SANWSK_INTERFACE_VERSION 1

/* Which interface a driver was built for. */
typedef struct _SANWSK_GET_INTERFACE {
    /* SANWSK_INTERFACE_VERSION. */
    ULONG Version;
    /* sizeof(SANWSK_INTERFACE). */
    ULONG Size;
} SANWSK_GET_INTERFACE, *PSANWSK_GET_INTERFACE;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_GET_INTERFACE) == 8, "SANWSK_GET_INTERFACE");

/* The versions that a driver offers. */
typedef struct _SANWSK_INTERFACE_VERSIONS {
    /* The oldest. */
    ULONG Oldest;
    /* The newest. */
    ULONG Newest;
} SANWSK_INTERFACE_VERSIONS, *PSANWSK_INTERFACE_VERSIONS;
SANWSK_STATIC_ASSERT(sizeof(SANWSK_INTERFACE_VERSIONS) == 8, "SANWSK_INTERFACE_VERSIONS");

/* A client: its endpoints have ids of its own, never given twice. Valid from OpenClient to CloseClient. */
typedef ULONGLONG SANWSK_CLIENT, *PSANWSK_CLIENT;

/* Something that is, or can be, under way. Opaque. */
typedef struct _SANWSK_OPERATION SANWSK_OPERATION, *PSANWSK_OPERATION;

/* Called when an operation is over. IRQL <= DISPATCH_LEVEL. */
typedef VOID NTAPI SANWSK_COMPLETION(PSANWSK_OPERATION Operation, PVOID Context, NTSTATUS Status, ULONG_PTR Information);
typedef SANWSK_COMPLETION *PSANWSK_COMPLETION;

/* Counts a reference to the interface. IRQL <= DISPATCH_LEVEL. */
typedef VOID NTAPI SANWSK_REFERENCE(PVOID Context);

/* Opens a client. STATUS_INSUFFICIENT_RESOURCES: no memory. */
typedef NTSTATUS NTAPI SANWSK_OPEN_CLIENT(PVOID Context, PSANWSK_CLIENT Client);

/* Closes a client: its endpoints are closed, and what is under way for them is cancelled. Completes with STATUS_SUCCESS when
 * every other operation of the client has completed and its completion has returned. The ids are stale as soon as this has
 * returned. Operation NULL: waits for that, IRQL <= APC_LEVEL, and returns STATUS_SUCCESS when no completion runs any more, so
 * that the caller may be unloaded; not from within a completion. */
typedef NTSTATUS NTAPI SANWSK_CLOSE_CLIENT(SANWSK_CLIENT Client, PSANWSK_OPERATION Operation);

/* Makes an operation of memory in which none is under way. Any IRQL. STATUS_INVALID_PARAMETER: no completion, or the memory
 * is not aligned. */
typedef NTSTATUS NTAPI SANWSK_INITIALIZE_OPERATION(
    PSANWSK_OPERATION Operation, PSANWSK_COMPLETION Completion, PVOID Context);

/* Makes an operation whose end completes an IRP of the caller's own, with a stack location to spare and a completion routine
 * set with IoSetCompletionRoutine before each use, as WSK's own functions take them. IoCancelIrp cancels. Where a function does
 * not return STATUS_PENDING the IRP is as it was. */
typedef NTSTATUS NTAPI SANWSK_INITIALIZE_IRP_OPERATION(PSANWSK_OPERATION Operation, PIRP Irp);

/* Cancels what is under way; the operation still completes, with STATUS_CANCELLED unless its end was faster. The operation stays
 * the caller's memory until this has returned. STATUS_NOT_FOUND: nothing is under way that can be cancelled (closing cannot).
 * STATUS_NOT_SUPPORTED: its IRP is IoCancelIrp's to cancel. */
typedef NTSTATUS NTAPI SANWSK_CANCEL_OPERATION(PSANWSK_OPERATION Operation);

/* Makes an endpoint. Kind: SANWSK_ENDPOINT_KIND. Family: SANWSK_AF_INET, SANWSK_AF_INET6. STATUS_NOT_SUPPORTED: another family.
 * STATUS_DEVICE_NOT_READY: TCP/IP is not there yet. STATUS_TOO_MANY_OPENED_FILES: the client has too many. */
typedef NTSTATUS NTAPI SANWSK_CREATE(SANWSK_CLIENT Client, ULONG Kind, USHORT Family, SANWSK_ENDPOINT_ID *Endpoint);

/* Sets an option of a stream: SANWSK_SOCKET_OPTION, to 1 (on) or 0 (off). */
typedef NTSTATUS NTAPI SANWSK_SET_OPTION(
    SANWSK_CLIENT Client, PSANWSK_OPERATION Operation, SANWSK_ENDPOINT_ID Endpoint, ULONG Option, ULONG Value);

/* Binds to a local address. Reply, if it is not NULL: the address it is bound to. */
typedef NTSTATUS NTAPI SANWSK_BIND(
    SANWSK_CLIENT Client,
    PSANWSK_OPERATION Operation,
    SANWSK_ENDPOINT_ID Endpoint,
    const SANWSK_SOCKET_ADDRESS *Address,
    PSANWSK_ADDRESS_REPLY Reply);

/* Connects within Timeout milliseconds; 0: as long as TCP tries. */
typedef NTSTATUS NTAPI SANWSK_CONNECT(
    SANWSK_CLIENT Client,
    PSANWSK_OPERATION Operation,
    SANWSK_ENDPOINT_ID Endpoint,
    const SANWSK_SOCKET_ADDRESS *Address,
    ULONG Timeout);

/* Lets peers connect to a bound endpoint, about Backlog of which may wait for Accept. */
typedef NTSTATUS NTAPI SANWSK_LISTEN(
    SANWSK_CLIENT Client, PSANWSK_OPERATION Operation, SANWSK_ENDPOINT_ID Endpoint, ULONG Backlog);

/* Takes the connection that has waited longest, or waits for one. Reply: its id and addresses. A SAN connection is
 * the caller's to decide about. */
typedef NTSTATUS NTAPI SANWSK_ACCEPT(
    SANWSK_CLIENT Client, PSANWSK_OPERATION Operation, SANWSK_ENDPOINT_ID Endpoint, PSANWSK_ACCEPT_REPLY Reply);

/* Lets a SAN connection in, or refuses it, which closes the endpoint. Decision: SANWSK_DECISION. */
typedef NTSTATUS NTAPI SANWSK_DECIDE(SANWSK_CLIENT Client, SANWSK_ENDPOINT_ID Endpoint, ULONG Decision);

/* Exchanges sessions with the peer of a SAN connection: up to 256 bytes of Private data (read before this returns) and the size
 * of the receives. Reply, if it is not NULL: what the peer says. Messages can be sent after this. */
typedef NTSTATUS NTAPI SANWSK_NEGOTIATE(
    SANWSK_CLIENT Client,
    PSANWSK_OPERATION Operation,
    SANWSK_ENDPOINT_ID Endpoint,
    const VOID *Private,
    ULONG PrivateLength,
    ULONG ReceiveSize,
    PSANWSK_NEGOTIATE_REPLY Reply);

/* Registers what an MDL describes, under a key of the caller's. The operation is the registration: the memory is the driver's to
 * use until it completes, after DeregisterMemory or with the endpoint. QueryMemory tells whether it stands. Rights:
 * SANWSK_MEMORY_SEND, SANWSK_MEMORY_RECEIVE. For MDLs see Send. */
typedef NTSTATUS NTAPI SANWSK_REGISTER_MEMORY(
    SANWSK_CLIENT Client,
    PSANWSK_OPERATION Operation,
    SANWSK_ENDPOINT_ID Endpoint,
    ULONGLONG Key,
    PMDL Mdl,
    ULONG Rights);

/* Ends a registration; completes after it. */
typedef NTSTATUS NTAPI SANWSK_DEREGISTER_MEMORY(
    SANWSK_CLIENT Client, PSANWSK_OPERATION Operation, SANWSK_ENDPOINT_ID Endpoint, ULONGLONG Key);

/* Tells what is registered. STATUS_INVALID_PARAMETER: nothing, by that key. */
typedef NTSTATUS NTAPI SANWSK_QUERY_MEMORY(
    SANWSK_CLIENT Client, SANWSK_ENDPOINT_ID Endpoint, ULONGLONG Key, PSANWSK_MEMORY_REPLY Reply);

/* Sends Length bytes at Offset of what an MDL describes: locked pages, non-paged pool, or a part of these. A stream sends
 * them in their order; a SAN endpoint sends them as one message. STATUS_INVALID_PARAMETER: the MDL is a chain, or its pages are
 * not locked. STATUS_ACCESS_VIOLATION: it describes less. */
typedef NTSTATUS NTAPI SANWSK_SEND(
    SANWSK_CLIENT Client,
    PSANWSK_OPERATION Operation,
    SANWSK_ENDPOINT_ID Endpoint,
    PMDL Mdl,
    ULONG Offset,
    ULONG Length);

/* Sends a piece of registered memory as one message. */
typedef NTSTATUS NTAPI SANWSK_SEND_REGISTERED(
    SANWSK_CLIENT Client,
    PSANWSK_OPERATION Operation,
    SANWSK_ENDPOINT_ID Endpoint,
    ULONGLONG Key,
    ULONGLONG Offset,
    ULONG Length);

/* Receives into Length bytes at Offset of what an MDL describes: what a stream has, or until it is full
 * (Flags: SANWSK_RECEIVE_ALL); of a SAN endpoint, one message. For MDLs see Send. */
typedef NTSTATUS NTAPI SANWSK_RECEIVE(
    SANWSK_CLIENT Client,
    PSANWSK_OPERATION Operation,
    SANWSK_ENDPOINT_ID Endpoint,
    PMDL Mdl,
    ULONG Offset,
    ULONG Length,
    ULONG Flags);

/* Posts a piece of registered memory for one message. */
typedef NTSTATUS NTAPI SANWSK_RECEIVE_REGISTERED(
    SANWSK_CLIENT Client,
    PSANWSK_OPERATION Operation,
    SANWSK_ENDPOINT_ID Endpoint,
    ULONGLONG Key,
    ULONGLONG Offset,
    ULONG Length);

/* Ends this side's sending, or (Flags: SANWSK_DISCONNECT_ABORTIVE) resets the connection. */
typedef NTSTATUS NTAPI SANWSK_DISCONNECT(
    SANWSK_CLIENT Client, PSANWSK_OPERATION Operation, SANWSK_ENDPOINT_ID Endpoint, ULONG Flags);

/* Closes an endpoint: what is under way for it is cancelled. Completes with STATUS_SUCCESS when all of that has completed. */
typedef NTSTATUS NTAPI SANWSK_CLOSE(SANWSK_CLIENT Client, PSANWSK_OPERATION Operation, SANWSK_ENDPOINT_ID Endpoint);

/* Tells the endpoint's addresses; zeros where there is none. */
typedef NTSTATUS NTAPI SANWSK_QUERY_ADDRESSES(
    SANWSK_CLIENT Client, SANWSK_ENDPOINT_ID Endpoint, PSANWSK_ADDRESSES_REPLY Reply);

/* Tells what a SAN endpoint has done and holds. */
typedef NTSTATUS NTAPI SANWSK_QUERY_STATISTICS(
    SANWSK_CLIENT Client, SANWSK_ENDPOINT_ID Endpoint, PSANWSK_ENDPOINT_STATISTICS Reply);

/* The functions. Begins as INTERFACE of <wdm.h> does. A later version has all of these at their places, and more behind them; what
 * they take stays as it is. */
typedef struct _SANWSK_INTERFACE {
    /* Bytes that the driver has filled in: those of the version that was asked for. */
    USHORT Size;
    /* The version that was asked for. */
    USHORT Version;
    /* For InterfaceReference, InterfaceDereference and OpenClient. */
    PVOID Context;
    SANWSK_REFERENCE *InterfaceReference;
    SANWSK_REFERENCE *InterfaceDereference;
    /* Bytes of a SANWSK_OPERATION. */
    ULONG OperationSize;
    /* 0. */
    ULONG Reserved;
    SANWSK_OPEN_CLIENT *OpenClient;
    SANWSK_CLOSE_CLIENT *CloseClient;
    SANWSK_INITIALIZE_OPERATION *InitializeOperation;
    SANWSK_INITIALIZE_IRP_OPERATION *InitializeIrpOperation;
    SANWSK_CANCEL_OPERATION *CancelOperation;
    SANWSK_CREATE *Create;
    SANWSK_SET_OPTION *SetOption;
    SANWSK_BIND *Bind;
    SANWSK_CONNECT *Connect;
    SANWSK_LISTEN *Listen;
    SANWSK_ACCEPT *Accept;
    SANWSK_DECIDE *Decide;
    SANWSK_NEGOTIATE *Negotiate;
    SANWSK_REGISTER_MEMORY *RegisterMemory;
    SANWSK_DEREGISTER_MEMORY *DeregisterMemory;
    SANWSK_QUERY_MEMORY *QueryMemory;
    SANWSK_SEND *Send;
    SANWSK_SEND_REGISTERED *SendRegistered;
    SANWSK_RECEIVE *Receive;
    SANWSK_RECEIVE_REGISTERED *ReceiveRegistered;
    SANWSK_DISCONNECT *Disconnect;
    SANWSK_CLOSE *Close;
    SANWSK_QUERY_ADDRESSES *QueryAddresses;
    SANWSK_QUERY_STATISTICS *QueryStatistics;
} SANWSK_INTERFACE, *PSANWSK_INTERFACE;

#ifdef __cplusplus
}
#endif

#endif /* SANWSK_KERNEL_H */
