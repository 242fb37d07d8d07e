/* What drivers call of the kernel besides I/O: each behaviour checks some of it as its documentation has it. */
#include "verifier.h"

/* Which check failed, by its line, in a status that is an error. */
#define CHECK(Condition)                                                                                               \
    if (!(Condition))                                                                                                  \
    return (NTSTATUS)(0xE0000000 | __LINE__)

int _snprintf(char *Buffer, size_t Count, const char *Format, ...);
int _snwprintf(wchar_t *Buffer, size_t Count, const wchar_t *Format, ...);
int strcmp(const char *Left, const char *Right);
char *strstr(const char *Text, const char *Wanted);
char *strncpy(char *To, const char *From, size_t Count);
int _stricmp(const char *Left, const char *Right);
int _wcsicmp(const wchar_t *Left, const wchar_t *Right);
wchar_t *wcscpy(wchar_t *To, const wchar_t *From);
wchar_t *wcschr(const wchar_t *Text, wchar_t Wanted);
int atoi(const char *Text);
NTSTATUS NTAPI RtlUnicodeToUTF8N(PCHAR To, ULONG Room, PULONG Size, PCWCH From, ULONG Bytes);
NTSTATUS NTAPI RtlUTF8ToUnicodeN(PWSTR To, ULONG Room, PULONG Size, PCCH From, ULONG Bytes);
PWSTR NTAPI RtlIpv4AddressToStringW(const UCHAR *Address, PWSTR To);
NTSTATUS NTAPI RtlIpv4StringToAddressW(PCWSTR From, BOOLEAN Strict, PCWSTR *End, UCHAR *Address);
VOID NTAPI KeQuerySystemTimePrecise(PLARGE_INTEGER Time);
NTSTATUS NTAPI IoSetActivityIdIrp(PIRP Irp, LPCGUID Activity);
NTSTATUS NTAPI IoGetActivityIdIrp(PIRP Irp, LPGUID Activity);
PEPROCESS NTAPI IoGetInitiatorProcess(PFILE_OBJECT File);
ULONG NTAPI KeGetRecommendedSharedDataAlignment(VOID);
extern ULONG_PTR __security_cookie;
#undef YieldProcessor
#define YieldProcessor() __builtin_ia32_pause()

/* The loader reads where the cookie lies, and fills it. */
__attribute__((used)) const struct {
    ULONG Size;
    UCHAR Before[84];
    ULONG_PTR *SecurityCookie;
    UCHAR Behind[16];
} _load_config_used = {.Size = 112, .SecurityCookie = &__security_cookie};
C_ASSERT(FIELD_OFFSET(__typeof__(_load_config_used), SecurityCookie) == 88);

BEHAVIOUR(the_loader_fills_the_stack_cookie) {
    ULONG_PTR Cookie = *(volatile ULONG_PTR *)&__security_cookie;
    UNREFERENCED_PARAMETER(Call);
    CHECK(Cookie != 0x00002B992DDFA232 && Cookie != 0 && Cookie >> 48 == 0);
    return STATUS_SUCCESS;
}

BEHAVIOUR(ansi_and_unicode_strings_are_converted) {
    ANSI_STRING Ansi, Back;
    UNICODE_STRING Wide, Upper, Number;
    WCHAR Digits[8];
    ULONG Value;
    UNREFERENCED_PARAMETER(Call);
    RtlInitAnsiString(&Ansi, "Tcp\\Port 80");
    CHECK(NT_SUCCESS(RtlAnsiStringToUnicodeString(&Wide, &Ansi, TRUE)));
    CHECK(Wide.Length == 22 && Wide.Buffer[0] == L'T' && Wide.Buffer[11] == 0);
    CHECK(NT_SUCCESS(RtlUpcaseUnicodeString(&Upper, &Wide, TRUE)));
    CHECK(Upper.Buffer[1] == L'C' && RtlEqualUnicodeString(&Upper, &Wide, TRUE) && !RtlEqualUnicodeString(&Upper, &Wide, FALSE));
    CHECK(NT_SUCCESS(RtlUnicodeStringToAnsiString(&Back, &Wide, TRUE)));
    CHECK(strcmp(Back.Buffer, "Tcp\\Port 80") == 0 && Back.Length == 11);
    Wide.Length = 6;
    CHECK(RtlPrefixUnicodeString(&Wide, &Upper, TRUE) && !RtlPrefixUnicodeString(&Wide, &Upper, FALSE));
    RtlFreeAnsiString(&Back);
    RtlFreeUnicodeString(&Upper);
    RtlFreeUnicodeString(&Wide);
    Number.Buffer = Digits, Number.MaximumLength = sizeof(Digits);
    CHECK(NT_SUCCESS(RtlIntegerToUnicodeString(0xBEEF, 16, &Number)) && Number.Length == 8 && Digits[0] == L'B');
    CHECK(NT_SUCCESS(RtlUnicodeStringToInteger(&Number, 16, &Value)) && Value == 0xBEEF);
    Number.MaximumLength = 4;
    CHECK(RtlIntegerToUnicodeString(12345, 10, &Number) == STATUS_BUFFER_OVERFLOW);
    return STATUS_SUCCESS;
}

BEHAVIOUR(other_texts_are_converted) {
    static const GUID Guid = {0x01234567, 0x89ab, 0xcdef, {1, 2, 3, 4, 5, 6, 7, 8}};
    UNICODE_STRING Text;
    GUID Parsed;
    WCHAR Wide[40];
    CHAR Utf8[16];
    UCHAR Address[4] = {192, 0, 2, 1}, Back[4];
    PCWSTR End;
    ULONG Size;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(RtlStringFromGUID(&Guid, &Text)) && Text.Length == 76);
    CHECK(NT_SUCCESS(RtlGUIDFromString(&Text, &Parsed)) && RtlCompareMemory(&Guid, &Parsed, sizeof(GUID)) == sizeof(GUID));
    RtlFreeUnicodeString(&Text);
    CHECK(RtlUnicodeToUTF8N(Utf8, sizeof(Utf8), &Size, L"\u00fc\u20ac", 4) == STATUS_SUCCESS && Size == 5);
    CHECK(RtlUTF8ToUnicodeN(Wide, sizeof(Wide), &Size, Utf8, 5) == STATUS_SUCCESS && Size == 4 && Wide[1] == 0x20ac);
    CHECK(RtlUTF8ToUnicodeN(Wide, sizeof(Wide), &Size, "\xff", 1) == STATUS_SOME_NOT_MAPPED && Wide[0] == 0xfffd);
    CHECK(RtlIpv4AddressToStringW(Address, Wide) == Wide + 9 && Wide[9] == 0);
    CHECK(NT_SUCCESS(RtlIpv4StringToAddressW(L"192.0.2.1:80", TRUE, &End, Back)) && *End == L':' && Back[3] == 1);
    return STATUS_SUCCESS;
}

BEHAVIOUR(the_c_runtime_is_there) {
    CHAR Text[16];
    WCHAR Wide[16];
    UNREFERENCED_PARAMETER(Call);
    CHECK(_snprintf(Text, sizeof(Text), "%d:%s:%04X", -7, "ab", 0xbe) == 10 && strcmp(Text, "-7:ab:00BE") == 0);
    CHECK(_snprintf(Text, 3, "%s", "abcdef") == -1 && Text[2] == 'c');
    CHECK(_snwprintf(Wide, 16, L"%s %S %lu", L"w", "n", 5) == 5 && Wide[0] == L'w' && Wide[2] == L'n' && Wide[4] == L'5');
    CHECK(strstr("needle in hay", "in") != NULL && strstr("hay", "needle") == NULL);
    strncpy(Text, "x", 4);
    CHECK(Text[0] == 'x' && Text[1] == 0 && Text[3] == 0);
    CHECK(_stricmp("Net", "nET") == 0 && _wcsicmp(L"A", L"b") < 0 && atoi(" -42x") == -42);
    CHECK(wcschr(wcscpy(Wide, L"path\\name"), L'\\') == Wide + 4);
    return STATUS_SUCCESS;
}

typedef struct {
    SLIST_ENTRY Entry;
    ULONG Number;
} ITEM;

BEHAVIOUR(lookaside_lists_keep_what_is_freed) {
    /* As lists of the kernel have it, on a cache line of their own. */
    NPAGED_LOOKASIDE_LIST *List = ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_CACHE_ALIGNED, 4096, TAG);
    ITEM *First, *Second, *Others[8];
    ULONG Index;
    UNREFERENCED_PARAMETER(Call);
    CHECK(List != NULL);
    ExInitializeNPagedLookasideList(List, NULL, NULL, 0, sizeof(ITEM), TAG, 0);
    First = ExAllocateFromNPagedLookasideList(List);
    CHECK(First != NULL);
    ExFreeToNPagedLookasideList(List, First);
    Second = ExAllocateFromNPagedLookasideList(List);
    CHECK(Second == First);
    for (Index = 0; Index < 8; Index++)
        Others[Index] = ExAllocateFromNPagedLookasideList(List);
    for (Index = 0; Index < 8; Index++)
        ExFreeToNPagedLookasideList(List, Others[Index]);
    ExFreeToNPagedLookasideList(List, Second);
    ExDeleteNPagedLookasideList(List);
    ExFreePoolWithTag(List, TAG);
    return STATUS_SUCCESS;
}

BEHAVIOUR(sequenced_and_interlocked_lists_are_in_order) {
    __declspec(align(16)) SLIST_HEADER Head;
    __declspec(align(16)) ITEM Items[3];
    LIST_ENTRY List, Entries[2];
    KSPIN_LOCK Lock;
    UNREFERENCED_PARAMETER(Call);
    InitializeSListHead(&Head);
    CHECK(InterlockedPopEntrySList(&Head) == NULL);
    CHECK(InterlockedPushEntrySList(&Head, &Items[0].Entry) == NULL);
    CHECK(InterlockedPushEntrySList(&Head, &Items[1].Entry) == &Items[0].Entry);
    CHECK(ExQueryDepthSList(&Head) == 2);
    CHECK(InterlockedPopEntrySList(&Head) == &Items[1].Entry);
    CHECK(ExInterlockedFlushSList(&Head) == &Items[0].Entry && ExQueryDepthSList(&Head) == 0);
    KeInitializeSpinLock(&Lock);
    InitializeListHead(&List);
    CHECK(ExInterlockedInsertTailList(&List, &Entries[0], &Lock) == NULL);
    CHECK(ExInterlockedInsertHeadList(&List, &Entries[1], &Lock) == &Entries[0]);
    CHECK(ExInterlockedRemoveHeadList(&List, &Lock) == &Entries[1]);
    CHECK(ExInterlockedRemoveHeadList(&List, &Lock) == &Entries[0]);
    CHECK(ExInterlockedRemoveHeadList(&List, &Lock) == NULL);
    return STATUS_SUCCESS;
}

static KMUTEX Mutex;
static ERESOURCE Resource;
static volatile LONG Inside, Most, Rounds;

static VOID Enter(VOID) {
    LONG Now = InterlockedIncrement(&Inside);
    if (Now > Most)
        Most = Now;
    YieldProcessor();
    InterlockedDecrement(&Inside);
    InterlockedIncrement(&Rounds);
}

static VOID NTAPI Contend(PVOID Context) {
    ULONG Round;
    for (Round = 0; Round < 200; Round++) {
        if (Context != NULL) {
            KeEnterCriticalRegion();
            ExAcquireResourceExclusiveLite(&Resource, TRUE);
            Enter();
            ExReleaseResourceLite(&Resource);
            KeLeaveCriticalRegion();
        } else {
            KeWaitForSingleObject(&Mutex, Executive, KernelMode, FALSE, NULL);
            KeWaitForSingleObject(&Mutex, Executive, KernelMode, FALSE, NULL);
            Enter();
            KeReleaseMutex(&Mutex, FALSE);
            KeReleaseMutex(&Mutex, FALSE);
        }
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* Four threads that want one lock: whether they came one at a time. */
IN_BACKTRACES static BOOLEAN OneAtATime(PVOID Context) {
    HANDLE Handles[4];
    PVOID Threads[4];
    ULONG Index;
    Inside = Most = Rounds = 0;
    for (Index = 0; Index < 4; Index++) {
        if (!NT_SUCCESS(PsCreateSystemThread(&Handles[Index], THREAD_ALL_ACCESS, NULL, NULL, NULL, Contend, Context)))
            return FALSE;
        ObReferenceObjectByHandle(Handles[Index], THREAD_ALL_ACCESS, NULL, KernelMode, &Threads[Index], NULL);
        ZwClose(Handles[Index]);
    }
    for (Index = 0; Index < 4; Index++) {
        KeWaitForSingleObject(Threads[Index], Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(Threads[Index]);
    }
    return Most == 1 && Rounds == 800;
}

BEHAVIOUR(mutexes_and_resources_exclude) {
    UNREFERENCED_PARAMETER(Call);
    KeInitializeMutex(&Mutex, 0);
    CHECK(KeReadStateMutex(&Mutex) == 1);
    CHECK(OneAtATime(NULL));
    CHECK(NT_SUCCESS(ExInitializeResourceLite(&Resource)));
    CHECK(OneAtATime(&Resource));
    KeEnterCriticalRegion();
    CHECK(ExAcquireResourceSharedLite(&Resource, TRUE) && ExAcquireResourceSharedLite(&Resource, TRUE));
    CHECK(ExIsResourceAcquiredSharedLite(&Resource) == 2 && !ExAcquireResourceExclusiveLite(&Resource, FALSE));
    ExReleaseResourceLite(&Resource);
    ExReleaseResourceLite(&Resource);
    CHECK(ExAcquireResourceExclusiveLite(&Resource, FALSE));
    ExConvertExclusiveToSharedLite(&Resource);
    CHECK(!ExIsResourceAcquiredExclusiveLite(&Resource) && ExIsResourceAcquiredSharedLite(&Resource) == 1);
    ExReleaseResourceLite(&Resource);
    KeLeaveCriticalRegion();
    ExDeleteResourceLite(&Resource);
    return STATUS_SUCCESS;
}

BEHAVIOUR(release_a_kernel_mutex_of_nobody) {
    KeInitializeMutex(&Mutex, 0);
    if (Call->Wrong)
        KeReleaseMutex(&Mutex, FALSE);
    return STATUS_SUCCESS;
}

BEHAVIOUR(acquire_a_resource_with_apcs_enabled) {
    if (!Call->Wrong)
        return STATUS_SUCCESS;
    ExInitializeResourceLite(&Resource);
    ExAcquireResourceExclusiveLite(&Resource, TRUE);
    return STATUS_SUCCESS;
}

static IO_CSQ Queue;
static LIST_ENTRY Queued;
static KSPIN_LOCK QueueLock;
static PIRP Cancelled;

static VOID NTAPI InsertIrp(PIO_CSQ Csq, PIRP Irp) {
    UNREFERENCED_PARAMETER(Csq);
    InsertTailList(&Queued, &Irp->Tail.Overlay.ListEntry);
}

static VOID NTAPI RemoveIrp(PIO_CSQ Csq, PIRP Irp) {
    UNREFERENCED_PARAMETER(Csq);
    RemoveEntryList(&Irp->Tail.Overlay.ListEntry);
}

static PIRP NTAPI PeekNextIrp(PIO_CSQ Csq, PIRP Irp, PVOID Context) {
    PLIST_ENTRY Next = Irp == NULL ? Queued.Flink : Irp->Tail.Overlay.ListEntry.Flink;
    UNREFERENCED_PARAMETER(Csq);
    UNREFERENCED_PARAMETER(Context);
    return Next == &Queued ? NULL : CONTAINING_RECORD(Next, IRP, Tail.Overlay.ListEntry);
}

static VOID NTAPI AcquireLock(PIO_CSQ Csq, PKIRQL Irql) {
    UNREFERENCED_PARAMETER(Csq);
    KeAcquireSpinLock(&QueueLock, Irql);
}

static VOID NTAPI ReleaseLock(PIO_CSQ Csq, KIRQL Irql) {
    UNREFERENCED_PARAMETER(Csq);
    KeReleaseSpinLock(&QueueLock, Irql);
}

static VOID NTAPI CompleteCanceledIrp(PIO_CSQ Csq, PIRP Irp) {
    UNREFERENCED_PARAMETER(Csq);
    Cancelled = Irp;
}

BEHAVIOUR(cancel_safe_queues_give_each_irp_once) {
    IO_CSQ_IRP_CONTEXT Context;
    PIRP Irps[3];
    ULONG Index;
    UNREFERENCED_PARAMETER(Call);
    InitializeListHead(&Queued);
    KeInitializeSpinLock(&QueueLock);
    CHECK(NT_SUCCESS(IoCsqInitialize(&Queue, InsertIrp, RemoveIrp, PeekNextIrp, AcquireLock, ReleaseLock, CompleteCanceledIrp)));
    for (Index = 0; Index < 3; Index++) {
        Irps[Index] = IoAllocateIrp(1, FALSE);
        CHECK(Irps[Index] != NULL);
        IoSetNextIrpStackLocation(Irps[Index]);
        IoCsqInsertIrp(&Queue, Irps[Index], Index == 2 ? &Context : NULL);
    }
    IoCancelIrp(Irps[0]);
    CHECK(Cancelled == Irps[0]);
    CHECK(IoCsqRemoveNextIrp(&Queue, NULL) == Irps[1]);
    CHECK(IoCsqRemoveIrp(&Queue, &Context) == Irps[2] && Context.Irp == NULL);
    CHECK(IoCsqRemoveIrp(&Queue, &Context) == NULL && IoCsqRemoveNextIrp(&Queue, NULL) == NULL);
    CHECK(!IoCancelIrp(Irps[1]));
    for (Index = 0; Index < 3; Index++)
        IoFreeIrp(Irps[Index]);
    return STATUS_SUCCESS;
}

BEHAVIOUR(the_shared_page_tells_the_time) {
    LARGE_INTEGER Before, Now, Precise, Ticks, Later, Interval = {.QuadPart = -500000};
    UNREFERENCED_PARAMETER(Call);
    KeQuerySystemTime(&Before);
    KeQueryTickCount(&Ticks);
    KeDelayExecutionThread(KernelMode, FALSE, &Interval);
    KeQuerySystemTime(&Now);
    KeQuerySystemTimePrecise(&Precise);
    KeQueryTickCount(&Later);
    CHECK(Now.QuadPart - Before.QuadPart >= 400000 && Later.QuadPart > Ticks.QuadPart);
    CHECK(Precise.QuadPart - Now.QuadPart > -100000 && Precise.QuadPart - Now.QuadPart < 10000000);
    CHECK(SharedUserData->NtMajorVersion == 10 && SharedUserData->NtMinorVersion == 0);
    return STATUS_SUCCESS;
}

/* EX_SPIN_LOCK (wdm.h) */
static volatile LONG Shared;

KIRQL NTAPI ExAcquireSpinLockShared(volatile LONG *Lock);
KIRQL NTAPI ExAcquireSpinLockExclusive(volatile LONG *Lock);
VOID NTAPI ExReleaseSpinLockShared(volatile LONG *Lock, KIRQL Old);
VOID NTAPI ExReleaseSpinLockExclusive(volatile LONG *Lock, KIRQL Old);
LOGICAL NTAPI ExTryConvertSharedSpinLockExclusive(volatile LONG *Lock);

static VOID NTAPI ReadShared(PVOID Context) {
    KIRQL Old = ExAcquireSpinLockShared(&Shared);
    KeSetEvent(Context, IO_NO_INCREMENT, FALSE);
    ExReleaseSpinLockShared(&Shared, Old);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

BEHAVIOUR(executive_spin_locks_are_shared) {
    KEVENT Read;
    HANDLE Handle;
    PVOID Thread;
    KIRQL Old;
    UNREFERENCED_PARAMETER(Call);
    KeInitializeEvent(&Read, NotificationEvent, FALSE);
    Old = ExAcquireSpinLockExclusive(&Shared);
    CHECK(Old == PASSIVE_LEVEL && KeGetCurrentIrql() == DISPATCH_LEVEL);
    ExReleaseSpinLockExclusive(&Shared, Old);
    Old = ExAcquireSpinLockShared(&Shared);
    CHECK(ExTryConvertSharedSpinLockExclusive(&Shared));
    ExReleaseSpinLockExclusive(&Shared, Old);
    if (!NT_SUCCESS(PsCreateSystemThread(&Handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, ReadShared, &Read)))
        return STATUS_UNSUCCESSFUL;
    ObReferenceObjectByHandle(Handle, THREAD_ALL_ACCESS, NULL, KernelMode, &Thread, NULL);
    ZwClose(Handle);
    Old = ExAcquireSpinLockShared(&Shared);
    while (KeReadStateEvent(&Read) == 0)
        YieldProcessor();
    ExReleaseSpinLockShared(&Shared, Old);
    KeWaitForSingleObject(Thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(Thread);
    return STATUS_SUCCESS;
}

BEHAVIOUR(release_a_shared_lock_as_if_alone) {
    KIRQL Old = ExAcquireSpinLockShared(&Shared);
    if (Call->Wrong)
        ExReleaseSpinLockExclusive(&Shared, Old);
    ExReleaseSpinLockShared(&Shared, Old);
    return STATUS_SUCCESS;
}

BEHAVIOUR(time_is_a_date) {
    LARGE_INTEGER Time = {.QuadPart = 132223104000000000}, Back;
    TIME_FIELDS Fields;
    ULONG Seconds;
    UNREFERENCED_PARAMETER(Call);
    RtlTimeToTimeFields(&Time, &Fields);
    CHECK(Fields.Year == 2020 && Fields.Month == 1 && Fields.Day == 1 && Fields.Hour == 0 && Fields.Weekday == 3);
    CHECK(RtlTimeFieldsToTime(&Fields, &Back) && Back.QuadPart == Time.QuadPart);
    CHECK(RtlTimeToSecondsSince1970(&Time, &Seconds) && Seconds == 1577836800);
    return STATUS_SUCCESS;
}

BEHAVIOUR(pool_of_a_quota_raises_or_returns) {
    PVOID Block = ExAllocatePoolWithQuotaTag(512 /* NonPagedPoolNx */ | POOL_QUOTA_FAIL_INSTEAD_OF_RAISE, 64, TAG);
    UNREFERENCED_PARAMETER(Call);
    CHECK(Block != NULL);
    ExFreePoolWithTag(Block, TAG);
    return STATUS_SUCCESS;
}

BEHAVIOUR(threads_have_priorities) {
    PKTHREAD Thread = KeGetCurrentThread();
    UNREFERENCED_PARAMETER(Call);
    CHECK(KeSetPriorityThread(Thread, LOW_REALTIME_PRIORITY) == 8 && KeQueryPriorityThread(Thread) == LOW_REALTIME_PRIORITY);
    KeSetPriorityThread(Thread, 8);
    CHECK(PsGetThreadId((PETHREAD)Thread) == PsGetCurrentThreadId());
    return STATUS_SUCCESS;
}

static ULONG Notified;

static VOID NTAPI Notice(PVOID Context, PVOID First, PVOID Second) {
    Notified += *(ULONG *)Context + (ULONG)(ULONG_PTR)First + (ULONG)(ULONG_PTR)Second;
}

BEHAVIOUR(callback_objects_call_whom_they_know) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Callback\\Exports");
    OBJECT_ATTRIBUTES Attributes;
    PCALLBACK_OBJECT Object, Again;
    PVOID Registration;
    ULONG Weight = 100;
    UNREFERENCED_PARAMETER(Call);
    InitializeObjectAttributes(&Attributes, &Name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    CHECK(ExCreateCallback(&Object, &Attributes, FALSE, FALSE) == STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(NT_SUCCESS(ExCreateCallback(&Object, &Attributes, TRUE, FALSE)));
    CHECK(NT_SUCCESS(ExCreateCallback(&Again, &Attributes, FALSE, FALSE)) && Again == Object);
    Registration = ExRegisterCallback(Object, Notice, &Weight);
    CHECK(Registration != NULL && ExRegisterCallback(Object, Notice, &Weight) == NULL);
    Notified = 0;
    ExNotifyCallback(Object, (PVOID)20, (PVOID)3);
    CHECK(Notified == 123);
    ExUnregisterCallback(Registration);
    ExNotifyCallback(Object, (PVOID)20, (PVOID)3);
    CHECK(Notified == 123);
    ObDereferenceObject(Again);
    ObDereferenceObject(Object);
    return STATUS_SUCCESS;
}

BEHAVIOUR(packets_have_activities) {
    GUID First, Second = {0};
    PIRP Irp = IoAllocateIrp(1, FALSE);
    CHECK(Irp != NULL && IoGetActivityIdIrp(Irp, &Second) == STATUS_NOT_FOUND);
    CHECK(NT_SUCCESS(EtwActivityIdControl(EVENT_ACTIVITY_CTRL_CREATE_ID, &First)));
    CHECK(NT_SUCCESS(IoSetActivityIdIrp(Irp, &First)) && NT_SUCCESS(IoGetActivityIdIrp(Irp, &Second)));
    CHECK(RtlCompareMemory(&First, &Second, sizeof(GUID)) == sizeof(GUID));
    CHECK(NT_SUCCESS(EtwActivityIdControl(EVENT_ACTIVITY_CTRL_CREATE_ID, &Second)));
    CHECK(RtlCompareMemory(&First, &Second, sizeof(GUID)) != sizeof(GUID));
    IoFreeIrp(Irp);
    UNREFERENCED_PARAMETER(Call);
    return STATUS_SUCCESS;
}

BEHAVIOUR(drivers_open_devices_by_name) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\Device\\Verifier"), Other = RTL_CONSTANT_STRING(L"\\Device\\None");
    OBJECT_ATTRIBUTES Attributes;
    IO_STATUS_BLOCK Status;
    PFILE_OBJECT File;
    HANDLE Handle;
    InitializeObjectAttributes(&Attributes, &Other, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK(ZwOpenFile(&Handle, FILE_READ_DATA, &Attributes, &Status, 0, 0) == STATUS_OBJECT_NAME_NOT_FOUND);
    InitializeObjectAttributes(&Attributes, &Name, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK(NT_SUCCESS(ZwCreateFile(&Handle, FILE_READ_DATA, &Attributes, &Status, NULL, 0, 0, FILE_OPEN, 0, NULL, 0)));
    /* What the dispatch routine for IRP_MJ_CREATE has said. */
    CHECK(Status.Information == 0);
    CHECK(NT_SUCCESS(ObReferenceObjectByHandle(Handle, FILE_READ_DATA, NULL, KernelMode, (PVOID *)&File, NULL)));
    CHECK(File->DeviceObject == Call->Device && IoGetInitiatorProcess(File) == NULL);
    ObDereferenceObject(File);
    return ZwClose(Handle);
}

BEHAVIOUR(keys_are_deleted_when_they_are_empty) {
    UNICODE_STRING Upper = RTL_CONSTANT_STRING(L"\\Registry\\Machine\\Exports"), Lower = RTL_CONSTANT_STRING(L"Below");
    OBJECT_ATTRIBUTES Attributes;
    HANDLE Key, Below;
    UNREFERENCED_PARAMETER(Call);
    InitializeObjectAttributes(&Attributes, &Upper, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK(NT_SUCCESS(ZwCreateKey(&Key, KEY_ALL_ACCESS, &Attributes, 0, NULL, 0, NULL)));
    InitializeObjectAttributes(&Attributes, &Lower, OBJ_KERNEL_HANDLE, Key, NULL);
    CHECK(NT_SUCCESS(ZwCreateKey(&Below, KEY_ALL_ACCESS, &Attributes, 0, NULL, 0, NULL)));
    CHECK(ZwDeleteKey(Key) == STATUS_CANNOT_DELETE && NT_SUCCESS(ZwDeleteKey(Below)) && NT_SUCCESS(ZwDeleteKey(Key)));
    ZwClose(Below);
    ZwClose(Key);
    InitializeObjectAttributes(&Attributes, &Upper, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK(ZwOpenKey(&Key, KEY_ALL_ACCESS, &Attributes) == STATUS_OBJECT_NAME_NOT_FOUND);
    return STATUS_SUCCESS;
}

BEHAVIOUR(the_error_log_takes_entries) {
    PIO_ERROR_LOG_PACKET Entry = IoAllocateErrorLogEntry(Call->Device, sizeof(IO_ERROR_LOG_PACKET));
    CHECK(Entry != NULL && IoAllocateErrorLogEntry(Call->Device, 241) == NULL);
    Entry->ErrorCode = STATUS_DEVICE_BUSY;
    IoWriteErrorLogEntry(Entry);
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_routine_knows_its_stack) {
    ULONG_PTR Low, High, Here = (ULONG_PTR)&Low;
    UNREFERENCED_PARAMETER(Call);
    IoGetStackLimits(&Low, &High);
    CHECK(Low < Here && Here < High && High - Low == 24 * 1024);
    CHECK(KeGetRecommendedSharedDataAlignment() == 64);
    return STATUS_SUCCESS;
}

/* PO_FX_DEVICE_V1 with a component that has no states but F0. */
typedef struct {
    ULONG Version, ComponentCount;
    VOID(NTAPI *Active)(PVOID Context, ULONG Component);
    VOID(NTAPI *Idle)(PVOID Context, ULONG Component);
    PVOID IdleState;
    VOID(NTAPI *Required)(PVOID Context);
    VOID(NTAPI *NotRequired)(PVOID Context);
    PVOID PowerControl;
    PVOID Context;
    struct {
        GUID Id;
        ULONG IdleStateCount, DeepestWakeableIdleState;
        PVOID IdleStates;
    } Component;
} FX_DEVICE;
C_ASSERT(FIELD_OFFSET(FX_DEVICE, Component) == 64 && sizeof(FX_DEVICE) == 96);

NTSTATUS NTAPI PoFxRegisterDevice(PDEVICE_OBJECT Device, FX_DEVICE *Fx, PVOID *Handle);
VOID NTAPI PoFxStartDevicePowerManagement(PVOID Handle);
VOID NTAPI PoFxUnregisterDevice(PVOID Handle);
VOID NTAPI PoFxActivateComponent(PVOID Handle, ULONG Component, ULONG64 Flags);
VOID NTAPI PoFxIdleComponent(PVOID Handle, ULONG Component, ULONG64 Flags);
VOID NTAPI PoFxCompleteIdleCondition(PVOID Handle, ULONG Component);
VOID NTAPI PoFxReportDevicePoweredOn(PVOID Handle);
VOID NTAPI PoFxCompleteDevicePowerNotRequired(PVOID Handle);
VOID NTAPI PoFxSetDeviceIdleTimeout(PVOID Handle, ULONG64 Timeout);

typedef struct {
    PVOID Handle;
    KEVENT Activated, Needless;
    volatile LONG Active, Idle, Required, NotRequired;
} MANAGED;

static VOID NTAPI BecomesActive(PVOID Context, ULONG Component) {
    MANAGED *Managed = Context;
    Managed->Active += Component + 1;
    KeSetEvent(&Managed->Activated, 0, FALSE);
}

static VOID NTAPI BecomesIdle(PVOID Context, ULONG Component) {
    MANAGED *Managed = Context;
    Managed->Idle++;
    PoFxCompleteIdleCondition(Managed->Handle, Component);
}

static VOID NTAPI IsRequired(PVOID Context) {
    MANAGED *Managed = Context;
    Managed->Required++;
    PoFxReportDevicePoweredOn(Managed->Handle);
}

static VOID NTAPI IsNotRequired(PVOID Context) {
    MANAGED *Managed = Context;
    Managed->NotRequired++;
    PoFxCompleteDevicePowerNotRequired(Managed->Handle);
    KeSetEvent(&Managed->Needless, 0, FALSE);
}

BEHAVIOUR(the_power_framework_counts_who_needs_a_component) {
    static MANAGED Managed;
    FX_DEVICE Fx = {.Version = 1, .ComponentCount = 1, .Active = BecomesActive, .Idle = BecomesIdle, .Required = IsRequired,
        .NotRequired = IsNotRequired, .Context = &Managed, .Component = {.IdleStateCount = 1}};
    LARGE_INTEGER Long = {.QuadPart = -10 * 10000000LL}, Short = {.QuadPart = -200000};
    KeInitializeEvent(&Managed.Activated, SynchronizationEvent, FALSE);
    KeInitializeEvent(&Managed.Needless, SynchronizationEvent, FALSE);
    CHECK(NT_SUCCESS(PoFxRegisterDevice(Call->Device, &Fx, &Managed.Handle)));
    PoFxStartDevicePowerManagement(Managed.Handle);
    CHECK(KeWaitForSingleObject(&Managed.Needless, Executive, KernelMode, FALSE, &Long) == STATUS_SUCCESS);
    CHECK(Managed.Idle == 1 && Managed.NotRequired == 1 && Managed.Active == 0 && Managed.Required == 0);
    /* The device is needed before its component can be active. */
    PoFxSetDeviceIdleTimeout(Managed.Handle, 400000);
    PoFxActivateComponent(Managed.Handle, 0, 0);
    CHECK(KeWaitForSingleObject(&Managed.Activated, Executive, KernelMode, FALSE, &Long) == STATUS_SUCCESS);
    PoFxActivateComponent(Managed.Handle, 0, 1 /* PO_FX_FLAG_BLOCKING */);
    CHECK(Managed.Required == 1 && Managed.Active == 1);
    PoFxIdleComponent(Managed.Handle, 0, 0);
    CHECK(KeWaitForSingleObject(&Managed.Needless, Executive, KernelMode, FALSE, &Short) == STATUS_TIMEOUT);
    CHECK(Managed.Idle == 1);
    PoFxIdleComponent(Managed.Handle, 0, 0);
    CHECK(KeWaitForSingleObject(&Managed.Needless, Executive, KernelMode, FALSE, &Long) == STATUS_SUCCESS);
    CHECK(Managed.Idle == 2 && Managed.NotRequired == 2);
    PoFxUnregisterDevice(Managed.Handle);
    return STATUS_SUCCESS;
}

/* What a compiler makes of an indirect call under Control Flow Guard, with the routine that the image brings along. */
__attribute__((naked)) static VOID Dispatch(VOID) { __asm__("jmpq *%rax"); }
static VOID (*const volatile GuardDispatch)(VOID) = Dispatch;
static ULONG Called(ULONG Value) { return Value + 1; }

BEHAVIOUR(indirect_calls_go_through_the_guard) {
    ULONG_PTR Target = (ULONG_PTR)Called;
    ULONG Value = 41;
    UNREFERENCED_PARAMETER(Call);
    __asm__ volatile("subq $32, %%rsp\n\tcallq *%[Through]\n\taddq $32, %%rsp"
        : "+a"(Target), "+c"(Value) : [Through] "r"(GuardDispatch) : "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
    CHECK((ULONG)Target == 42);
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(callback_objects_call_whom_they_know),
    ROW_OF(packets_have_activities),
    ROW_OF(drivers_open_devices_by_name),
    ROW_OF(keys_are_deleted_when_they_are_empty),
    ROW_OF(the_error_log_takes_entries),
    ROW_OF(a_routine_knows_its_stack),
    ROW_OF(the_power_framework_counts_who_needs_a_component),
    ROW_OF(indirect_calls_go_through_the_guard),
    ROW_OF(the_loader_fills_the_stack_cookie),
    ROW_OF(ansi_and_unicode_strings_are_converted),
    ROW_OF(other_texts_are_converted),
    ROW_OF(the_c_runtime_is_there),
    ROW_OF(lookaside_lists_keep_what_is_freed),
    ROW_OF(sequenced_and_interlocked_lists_are_in_order),
    ROW_OF(mutexes_and_resources_exclude),
    ROW_OF(release_a_kernel_mutex_of_nobody),
    ROW_OF(acquire_a_resource_with_apcs_enabled),
    ROW_OF(cancel_safe_queues_give_each_irp_once),
    ROW_OF(the_shared_page_tells_the_time),
    ROW_OF(executive_spin_locks_are_shared),
    ROW_OF(release_a_shared_lock_as_if_alone),
    ROW_OF(time_is_a_date),
    ROW_OF(pool_of_a_quota_raises_or_returns),
    ROW_OF(threads_have_priorities),
    {NULL, NULL},
};
static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;
static VOID (*const AtUnload)(VOID) = NULL;
