/* block.h: what programs ask of sanwsk-block.sys. Include <windows.h> and <winioctl.h>, or a driver's headers, first. */
#ifndef SANWSK_BLOCK_H
#define SANWSK_BLOCK_H

#include "../../include/sanwsk.h"

#define BLOCK_DEVICE_PATH "\\\\.\\SanWskBlock"

/* Connects to a peer that echoes, sends blocks, one after the other, receives each and compares it. Input: BLOCK_REQUEST.
 * Output: BLOCK_REPLY. STATUS_DATA_ERROR: something else came back. Other statuses: those of the functions of sanwsk.sys. */
#define IOCTL_BLOCK_EXCHANGE CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_BUFFERED, FILE_READ_DATA | FILE_WRITE_DATA)

/* The longest block. */
#define BLOCK_MAX_LENGTH (1u << 20)

typedef struct _BLOCK_REQUEST {
    /* SanWskEndpointKindSan: over a SAN session. SanWskEndpointKindStreamConnection: over a stream. */
    ULONG Kind;
    /* Bytes of a block: a multiple of 8, up to BLOCK_MAX_LENGTH. */
    ULONG BlockLength;
    /* How many blocks. */
    ULONGLONG Blocks;
    /* For a SAN session: an address of this machine. */
    SANWSK_SOCKET_ADDRESS Local;
    /* Where the peer is. */
    SANWSK_SOCKET_ADDRESS Remote;
} BLOCK_REQUEST, *PBLOCK_REQUEST;

typedef struct _BLOCK_REPLY {
    /* Hashes of all bytes that were sent, and of all that were received: FNV-1a over words of 64 bits. */
    ULONGLONG SentHash;
    ULONGLONG ReceivedHash;
} BLOCK_REPLY, *PBLOCK_REPLY;

#endif /* SANWSK_BLOCK_H */
