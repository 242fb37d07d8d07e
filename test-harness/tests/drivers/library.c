/* What drivers call of the kernel's run-time library and of its processes: each behaviour checks some of it. */
#include "verifier.h"

/* Which check failed, by its line, in a status that is an error. */
#define CHECK(Condition)                                                                                               \
    if (!(Condition))                                                                                                  \
    return (NTSTATUS)(0xE0000000 | __LINE__)

int strcmp(const char *Left, const char *Right);
NTSTATUS NTAPI RtlIpv4StringToAddressA(const char *Text, BOOLEAN Strict, const char **End, UCHAR *Address);
NTSTATUS NTAPI RtlIpv4StringToAddressExW(const wchar_t *Text, BOOLEAN Strict, UCHAR *Address, USHORT *Port);
NTSTATUS NTAPI RtlIpv6StringToAddressExA(const char *Text, UCHAR *Address, ULONG *Scope, USHORT *Port);
char *NTAPI RtlIpv4AddressToStringA(const UCHAR *Address, char *Text);
NTSTATUS NTAPI RtlIpv6AddressToStringExA(const UCHAR *Address, ULONG Scope, USHORT Port, char *Text, ULONG *Length);
VOID NTAPI ExInitializePushLock(PULONG_PTR Lock);
VOID NTAPI ExAcquirePushLockExclusiveEx(PULONG_PTR Lock, ULONG Flags);
VOID NTAPI ExAcquirePushLockSharedEx(PULONG_PTR Lock, ULONG Flags);
VOID NTAPI ExReleasePushLockExclusiveEx(PULONG_PTR Lock, ULONG Flags);
VOID NTAPI ExReleasePushLockSharedEx(PULONG_PTR Lock, ULONG Flags);
NTSTATUS NTAPI ZwSetEvent(HANDLE Event, PLONG Before);
NTSTATUS NTAPI PsLookupProcessByProcessId(HANDLE Id, PEPROCESS *Process);

BEHAVIOUR(addresses_are_read_and_written_as_text) {
    UCHAR Four[4], Sixteen[16];
    char Text[65];
    const char *End;
    ULONG Scope, Length = sizeof(Text);
    USHORT Port;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(RtlIpv4StringToAddressA("192.0.2.33/24", TRUE, &End, Four)) && *End == '/' && Four[3] == 33);
    CHECK(RtlIpv4StringToAddressA("192.0.2", TRUE, &End, Four) == STATUS_INVALID_PARAMETER);
    CHECK(NT_SUCCESS(RtlIpv4StringToAddressExW(L"127.0.0.1:5000", TRUE, Four, &Port)) && Port == 0x8813 && Four[0] == 127);
    CHECK(RtlIpv4StringToAddressExW(L"127.0.0.1:5000x", TRUE, Four, &Port) == STATUS_INVALID_PARAMETER);
    CHECK(RtlIpv4AddressToStringA(Four, Text) == Text + 9 && strcmp(Text, "127.0.0.1") == 0);
    CHECK(NT_SUCCESS(RtlIpv6StringToAddressExA("[fe80::1%7]:80", Sixteen, &Scope, &Port)) && Scope == 7 && Port == 0x5000);
    CHECK(NT_SUCCESS(RtlIpv6AddressToStringExA(Sixteen, Scope, Port, Text, &Length)));
    CHECK(strcmp(Text, "[fe80::1%7]:80") == 0 && Length == 15);
    return STATUS_SUCCESS;
}

/* The inline functions of ntstrsafe.h, and what they call. */
BEHAVIOUR(strings_are_cut_to_their_buffers) {
    char Text[8];
    WCHAR Wide[8];
    size_t Length;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(RtlStringCbPrintfA(Text, sizeof(Text), "%d %s", 12, "abc")) && strcmp(Text, "12 abc") == 0);
    CHECK(RtlStringCbPrintfA(Text, sizeof(Text), "%s", "too long") == STATUS_BUFFER_OVERFLOW && strcmp(Text, "too lon") == 0);
    CHECK(NT_SUCCESS(RtlStringCchPrintfW(Wide, 8, L"%ws%04x", L"<", 0xab)) && Wide[4] == L'b');
    CHECK(NT_SUCCESS(RtlStringCchCatW(Wide, 8, L"!")) && NT_SUCCESS(RtlStringCchLengthW(Wide, 8, &Length)) && Length == 6);
    return STATUS_SUCCESS;
}

typedef struct {
    ULONG Key, Value;
} PAIR;

static LONG Allocated;

static RTL_GENERIC_COMPARE_RESULTS NTAPI Compare(PRTL_AVL_TABLE Table, PVOID First, PVOID Second) {
    ULONG Left = ((PAIR *)First)->Key, Right = ((PAIR *)Second)->Key;
    UNREFERENCED_PARAMETER(Table);
    return Left < Right ? GenericLessThan : Left > Right ? GenericGreaterThan : GenericEqual;
}

static PVOID NTAPI Allocate(PRTL_AVL_TABLE Table, CLONG Size) {
    UNREFERENCED_PARAMETER(Table);
    Allocated++;
    return ExAllocatePool2(POOL_FLAG_NON_PAGED, Size, TAG);
}

static VOID NTAPI Free(PRTL_AVL_TABLE Table, PVOID Buffer) {
    UNREFERENCED_PARAMETER(Table);
    Allocated--;
    ExFreePoolWithTag(Buffer, TAG);
}

BEHAVIOUR(a_generic_table_is_in_order_and_balanced) {
    RTL_AVL_TABLE Table;
    PAIR Pair, *Found, *Previous = NULL;
    BOOLEAN New;
    PVOID Restart = NULL;
    ULONG Index, Count = 0;
    UNREFERENCED_PARAMETER(Call);
    RtlInitializeGenericTableAvl(&Table, Compare, Allocate, Free, NULL);
    CHECK(RtlIsGenericTableEmptyAvl(&Table));
    for (Index = 0; Index < 1000; Index++) {
        /* All numbers below 1009, a prime, but one: in no order. */
        Pair.Key = Index * 577 % 1009, Pair.Value = Index;
        CHECK(RtlInsertElementGenericTableAvl(&Table, &Pair, sizeof(Pair), &New) != NULL && New);
    }
    CHECK(RtlNumberGenericTableElementsAvl(&Table) == 1000 && Allocated == 1000 && Table.DepthOfTree <= 14);
    Pair.Key = 577;
    Found = RtlInsertElementGenericTableAvl(&Table, &Pair, sizeof(Pair), &New);
    CHECK(!New && Found->Value == 1 && RtlLookupElementGenericTableAvl(&Table, &Pair) == Found);
    for (Found = RtlEnumerateGenericTableWithoutSplayingAvl(&Table, &Restart); Found != NULL;
         Found = RtlEnumerateGenericTableWithoutSplayingAvl(&Table, &Restart)) {
        CHECK(Previous == NULL || Previous->Key < Found->Key);
        Previous = Found, Count++;
    }
    CHECK(Count == 1000 && RtlGetElementGenericTableAvl(&Table, 999) == Previous);
    for (Index = 0; Index < 1000; Index += 2) {
        Pair.Key = Index * 577 % 1009;
        CHECK(RtlDeleteElementGenericTableAvl(&Table, &Pair) && RtlLookupElementGenericTableAvl(&Table, &Pair) == NULL);
        CHECK(!RtlDeleteElementGenericTableAvl(&Table, &Pair));
    }
    CHECK(Table.DepthOfTree <= 13);
    Count = 0;
    for (Found = RtlEnumerateGenericTableAvl(&Table, TRUE); Found != NULL; Found = RtlEnumerateGenericTableAvl(&Table, FALSE)) {
        CHECK(Found->Value % 2 == 1 && (Count == 0 || Pair.Key < Found->Key));
        Pair = *Found;
        /* It goes on behind what has been deleted meanwhile. */
        CHECK(Count++ % 5 != 2 || RtlDeleteElementGenericTableAvl(&Table, &Pair));
    }
    CHECK(Count == 500 && Allocated == 400);
    while ((Found = RtlGetElementGenericTableAvl(&Table, 0)) != NULL)
        CHECK(RtlDeleteElementGenericTableAvl(&Table, Found));
    CHECK(Allocated == 0 && RtlIsGenericTableEmptyAvl(&Table));
    return STATUS_SUCCESS;
}

/* The kernel's routine of that name, which the headers have a macro or nothing for. */
static PVOID Routine(PCWSTR Name) {
    UNICODE_STRING Text;
    RtlInitUnicodeString(&Text, Name);
    return MmGetSystemRoutineAddress(&Text);
}

static RTL_GENERIC_COMPARE_RESULTS NTAPI CompareInTree(PRTL_GENERIC_TABLE Table, PVOID First, PVOID Second) {
    ULONG Left = ((PAIR *)First)->Key, Right = ((PAIR *)Second)->Key;
    UNREFERENCED_PARAMETER(Table);
    return Left < Right ? GenericLessThan : Left > Right ? GenericGreaterThan : GenericEqual;
}

static PVOID NTAPI AllocateInTree(PRTL_GENERIC_TABLE Table, CLONG Size) {
    (*(LONG *)Table->TableContext)++;
    return ExAllocatePool2(POOL_FLAG_NON_PAGED, Size, TAG);
}

static VOID NTAPI FreeInTree(PRTL_GENERIC_TABLE Table, PVOID Buffer) {
    (*(LONG *)Table->TableContext)--;
    ExFreePoolWithTag(Buffer, TAG);
}

/* The data of the node on top. */
static PAIR *Top(PRTL_GENERIC_TABLE Table) {
    return (PAIR *)((PUCHAR)Table->TableRoot + sizeof(RTL_SPLAY_LINKS) + sizeof(LIST_ENTRY));
}

PVOID NTAPI RtlEnumerateGenericTableWithoutSplaying(PRTL_GENERIC_TABLE Table, PVOID *RestartKey);

BEHAVIOUR(a_generic_table_of_splay_links_has_what_was_used_on_top) {
    RTL_GENERIC_TABLE Table;
    PAIR Pair, *Found, *Previous = NULL;
    PVOID(NTAPI * Lookup)(PRTL_GENERIC_TABLE, PVOID, PVOID *, TABLE_SEARCH_RESULT *);
    PVOID(NTAPI * Insert)(PRTL_GENERIC_TABLE, PVOID, CLONG, PBOOLEAN, PVOID, TABLE_SEARCH_RESULT);
    TABLE_SEARCH_RESULT Result;
    LONG Blocks = 0;
    BOOLEAN New;
    PVOID Restart = NULL, Place;
    ULONG Index, Count = 0;
    UNREFERENCED_PARAMETER(Call);
    RtlInitializeGenericTable(&Table, CompareInTree, AllocateInTree, FreeInTree, &Blocks);
    CHECK(RtlIsGenericTableEmpty(&Table) && RtlGetElementGenericTable(&Table, 0) == NULL);
    CHECK(RtlEnumerateGenericTable(&Table, TRUE) == NULL && Table.OrderedPointer == &Table.InsertOrderList);
    for (Index = 0; Index < 500; Index++) {
        Pair.Key = Index * 577 % 1009, Pair.Value = Index;
        Found = RtlInsertElementGenericTable(&Table, &Pair, sizeof(Pair), &New);
        CHECK(Found != NULL && New && Found == Top(&Table));
    }
    CHECK(RtlNumberGenericTableElements(&Table) == 500 && Blocks == 500);
    Pair.Key = 577;
    Found = RtlInsertElementGenericTable(&Table, &Pair, sizeof(Pair), &New);
    CHECK(!New && Found->Value == 1 && Found == Top(&Table));
    Pair.Key = 0;
    CHECK(RtlLookupElementGenericTable(&Table, &Pair) == Top(&Table) && Top(&Table)->Value == 0);
    for (Found = RtlEnumerateGenericTableWithoutSplaying(&Table, &Restart); Found != NULL;
         Found = RtlEnumerateGenericTableWithoutSplaying(&Table, &Restart)) {
        CHECK(Previous == NULL || Previous->Key < Found->Key);
        Previous = Found, Count++;
    }
    CHECK(Count == 500 && Top(&Table)->Value == 0);
    /* By their order of insertion, from either side. */
    for (Index = 0; Index < 500; Index += 7) {
        CHECK(((PAIR *)RtlGetElementGenericTable(&Table, Index))->Value == Index);
        CHECK(((PAIR *)RtlGetElementGenericTable(&Table, 499 - Index))->Value == 499 - Index);
    }
    for (Index = 0; Index < 500; Index += 2) {
        Pair.Key = Index * 577 % 1009;
        CHECK(RtlDeleteElementGenericTable(&Table, &Pair) && RtlLookupElementGenericTable(&Table, &Pair) == NULL);
        CHECK(!RtlDeleteElementGenericTable(&Table, &Pair));
    }
    CHECK(((PAIR *)RtlGetElementGenericTable(&Table, 100))->Value == 201 && Blocks == 250);
    Count = 0;
    for (Found = RtlEnumerateGenericTable(&Table, TRUE); Found != NULL; Found = RtlEnumerateGenericTable(&Table, FALSE)) {
        CHECK(Found == Top(&Table) && Found->Value % 2 == 1 && (Count++ == 0 || Pair.Key < Found->Key));
        Pair = *Found;
    }
    CHECK(Count == 250 && RtlRealSuccessor(Table.TableRoot) == NULL && RtlSubtreePredecessor(Table.TableRoot) != NULL);
    Lookup = Routine(L"RtlLookupElementGenericTableFull"), Insert = Routine(L"RtlInsertElementGenericTableFull");
    CHECK(Lookup != NULL && Insert != NULL);
    Pair.Key = 5000;
    CHECK(Lookup(&Table, &Pair, &Place, &Result) == NULL && Result == TableInsertAsRight);
    CHECK(((PAIR *)Insert(&Table, &Pair, sizeof(Pair), &New, Place, Result))->Key == 5000 && New);
    CHECK(Lookup(&Table, &Pair, &Place, &Result) == Top(&Table) && Result == TableFoundNode && Place == Table.TableRoot);
    while ((Found = RtlGetElementGenericTable(&Table, 0)) != NULL)
        CHECK(RtlDeleteElementGenericTable(&Table, Found));
    CHECK(Lookup(&Table, &Pair, &Place, &Result) == NULL && Result == TableEmptyTree);
    CHECK(Blocks == 0 && RtlIsGenericTableEmpty(&Table));
    return STATUS_SUCCESS;
}

BEHAVIOUR(functions_that_are_macros_in_c_are_exported_too) {
    VOID(NTAPI * Copy)(PVOID, const VOID *, SIZE_T) = Routine(L"RtlCopyMemory");
    VOID(NTAPI * Stream)(PVOID, const VOID *, SIZE_T) = Routine(L"RtlCopyMemoryNonTemporal");
    VOID(NTAPI * Move)(PVOID, const VOID *, SIZE_T) = Routine(L"RtlMoveMemory");
    VOID(NTAPI * Fill)(PVOID, SIZE_T, UCHAR) = Routine(L"RtlFillMemory");
    VOID(NTAPI * Zero)(PVOID, SIZE_T) = Routine(L"RtlZeroMemory");
    LONG_PTR(NTAPI * Dereference)(PVOID) = Routine(L"ObDereferenceObject");
    char Bytes[] = "0123456789";
    CHECK(Copy != NULL && Stream != NULL && Move != NULL && Fill != NULL && Zero != NULL && Dereference != NULL);
    Move(Bytes + 2, Bytes, 4);
    CHECK(strcmp(Bytes, "0101236789") == 0);
    Copy(Bytes, "ab", 2);
    Stream(Bytes + 8, "yz", 2);
    Fill(Bytes + 2, 3, 'x');
    CHECK(strcmp(Bytes, "abxxx367yz") == 0);
    Zero(Bytes + 5, 2);
    CHECK(Bytes[4] == 'x' && Bytes[5] == 0 && Bytes[6] == 0 && Bytes[7] == '7');
    ObReferenceObject(Call->Device);
    Dereference(Call->Device);
    return STATUS_SUCCESS;
}

VOID NTAPI RtlSetBit(PRTL_BITMAP Map, ULONG Bit);
VOID NTAPI RtlClearBit(PRTL_BITMAP Map, ULONG Bit);
CCHAR NTAPI RtlFindLeastSignificantBit(ULONGLONG Value);
CCHAR NTAPI RtlFindMostSignificantBit(ULONGLONG Value);

BEHAVIOUR(bits_are_set_and_found) {
    ULONG Words[3] = {~0u, ~0u, ~0u}, Start;
    RTL_BITMAP Map;
    RTL_BITMAP_RUN Runs[3];
    RtlInitializeBitMap(&Map, Words, 70);
    CHECK(Map.SizeOfBitMap == 70 && Map.Buffer == Words);
    RtlClearAllBits(&Map);
    /* Whole ULONGs are cleared. */
    CHECK(Words[2] == 0 && RtlNumberOfClearBits(&Map) == 70 && RtlNumberOfSetBits(&Map) == 0);
    RtlSetBits(&Map, 30, 5);
    RtlSetBit(&Map, 69);
    CHECK(Words[0] == 0xC0000000 && Words[1] == 7 && Words[2] == 0x20);
    CHECK(RtlTestBit(&Map, 30) && !RtlTestBit(&Map, 29) && RtlAreBitsSet(&Map, 30, 5) && !RtlAreBitsSet(&Map, 30, 6));
    CHECK(RtlAreBitsClear(&Map, 35, 34) && !RtlAreBitsClear(&Map, 35, 35) && !RtlAreBitsClear(&Map, 35, 36));
    /* A hint, behind which there is room; none; what begins before the hint and ends behind it; and none at all. */
    CHECK(RtlFindClearBits(&Map, 10, 20) == 20 && RtlFindClearBits(&Map, 20, 60) == 0);
    CHECK(RtlFindClearBits(&Map, 34, 40) == 35 && RtlFindClearBits(&Map, 35, 0) == 0xFFFFFFFF);
    CHECK(RtlFindSetBits(&Map, 1, 40) == 69 && RtlFindSetBits(&Map, 5, 0) == 30 && RtlFindClearBits(&Map, 0, 13) == 8);
    CHECK(RtlFindClearRuns(&Map, Runs, 3, FALSE) == 2 && Runs[0].StartingIndex == 0 && Runs[0].NumberOfBits == 30);
    CHECK(RtlFindClearRuns(&Map, Runs, 1, TRUE) == 1 && Runs[0].StartingIndex == 35 && Runs[0].NumberOfBits == 34);
    CHECK(RtlFindLongestRunClear(&Map, &Start) == 34 && Start == 35 && RtlFindFirstRunClear(&Map, &Start) == 30 && Start == 0);
    CHECK(RtlFindNextForwardRunClear(&Map, 31, &Start) == 34 && Start == 35 && RtlFindNextForwardRunClear(&Map, 69, &Start) == 0);
    CHECK(RtlFindLastBackwardRunClear(&Map, 34, &Start) == 30 && Start == 0);
    CHECK(RtlFindLastBackwardRunClear(&Map, 50, &Start) == 16 && Start == 35);
    CHECK(RtlFindClearBitsAndSet(&Map, 4, 66) == 0 && RtlAreBitsSet(&Map, 0, 4) && !RtlTestBit(&Map, 4));
    CHECK(RtlFindSetBitsAndClear(&Map, 5, 3) == 30 && RtlAreBitsClear(&Map, 4, 65));
    RtlClearBit(&Map, 69);
    RtlClearBits(&Map, 0, 4);
    CHECK(RtlAreBitsClear(&Map, 0, 70));
    RtlSetAllBits(&Map);
    CHECK(Words[2] == ~0u && RtlNumberOfSetBits(&Map) == 70 && RtlFindLongestRunClear(&Map, &Start) == 0);
    CHECK(RtlFindLeastSignificantBit(0x50) == 4 && RtlFindMostSignificantBit(0x50) == 6 && RtlFindMostSignificantBit(0) == -1);
    if (Call->Wrong)
        RtlSetBits(&Map, 69, 2);
    return STATUS_SUCCESS;
}

ULONGLONG NTAPI VerSetConditionMask(ULONGLONG Mask, ULONG What, UCHAR Condition);

BEHAVIOUR(versions_are_told_and_compared) {
    RTL_OSVERSIONINFOEXW Version = {.dwOSVersionInfoSize = sizeof(Version)};
    RTL_OSVERSIONINFOW Short = {.dwOSVersionInfoSize = sizeof(Short), .szCSDVersion = L"?"};
    ULONG Major, Minor, Build;
    UNICODE_STRING Pack;
    ULONGLONG AtLeast = VerSetConditionMask(VerSetConditionMask(0, VER_MAJORVERSION, VER_GREATER_EQUAL), VER_MINORVERSION, VER_GREATER_EQUAL);
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(RtlGetVersion((PRTL_OSVERSIONINFOW)&Version)) && Version.dwMajorVersion == 10 && Version.wProductType == VER_NT_WORKSTATION);
    CHECK(NT_SUCCESS(RtlGetVersion(&Short)) && Short.dwBuildNumber == Version.dwBuildNumber && Short.szCSDVersion[0] == 0);
    CHECK(!PsGetVersion(&Major, &Minor, &Build, &Pack) && Major == 10 && Minor == 0 && Build == Version.dwBuildNumber && Pack.Length == 0);
    CHECK(AtLeast == (3 << 3 | 3) && VerSetConditionMask(0, VER_PRODUCT_TYPE, VER_EQUAL) == 1 << 21);
    Version.dwMajorVersion = 6, Version.dwMinorVersion = 3;
    /* 10.0 is more than 6.3, and less than 10.1. */
    CHECK(NT_SUCCESS(RtlVerifyVersionInfo(&Version, VER_MAJORVERSION | VER_MINORVERSION, AtLeast)));
    CHECK(RtlVerifyVersionInfo(&Version, VER_MINORVERSION, AtLeast) == STATUS_REVISION_MISMATCH);
    Version.dwMajorVersion = 10, Version.dwMinorVersion = 1;
    CHECK(RtlVerifyVersionInfo(&Version, VER_MAJORVERSION | VER_MINORVERSION, AtLeast) == STATUS_REVISION_MISMATCH);
    CHECK(RtlVerifyVersionInfo(&Version, VER_BUILDNUMBER, AtLeast) == STATUS_INVALID_PARAMETER && RtlVerifyVersionInfo(&Version, 0, AtLeast) == STATUS_INVALID_PARAMETER);
    CHECK(NT_SUCCESS(RtlVerifyVersionInfo(&Version, VER_PRODUCT_TYPE, VerSetConditionMask(0, VER_PRODUCT_TYPE, VER_EQUAL))));
    Version.dwBuildNumber++;
    CHECK(NT_SUCCESS(RtlVerifyVersionInfo(&Version, VER_BUILDNUMBER, VerSetConditionMask(0, VER_BUILDNUMBER, VER_LESS))));
    CHECK(MmQuerySystemSize() == MmLargeSystem);
    return STATUS_SUCCESS;
}

BEHAVIOUR(security_identifiers_are_made_and_copied) {
    SID_IDENTIFIER_AUTHORITY Authority = SECURITY_NT_AUTHORITY;
    ULONG Space[8] = {0}, Copy[8] = {0};
    PSID Sid = Space;
    UNREFERENCED_PARAMETER(Call);
    CHECK(RtlLengthRequiredSid(2) == 16 && RtlInitializeSid(Sid, &Authority, 16) == STATUS_INVALID_PARAMETER);
    CHECK(!RtlValidSid(Sid) && NT_SUCCESS(RtlInitializeSid(Sid, &Authority, 2)) && RtlValidSid(Sid));
    *RtlSubAuthoritySid(Sid, 0) = SECURITY_BUILTIN_DOMAIN_RID;
    *RtlSubAuthoritySid(Sid, 1) = DOMAIN_ALIAS_RID_ADMINS;
    CHECK(RtlLengthSid(Sid) == 16 && Space[0] == 0x0201 && Space[1] == 0x05000000 && Space[2] == 32 && Space[3] == 544);
    CHECK(RtlCopySid(15, Copy, Sid) == STATUS_BUFFER_TOO_SMALL && NT_SUCCESS(RtlCopySid(16, Copy, Sid)) && RtlEqualSid(Copy, Sid));
    *RtlSubAuthoritySid(Copy, 1) = 545;
    CHECK(!RtlEqualSid(Copy, Sid));
    return STATUS_SUCCESS;
}

ULONG NTAPI RtlRandom(PULONG Seed);
ULONG NTAPI RtlRandomEx(PULONG Seed);
NTSTATUS NTAPI ExUuidCreate(GUID *Uuid);

BEHAVIOUR(numbers_are_random_and_in_their_range) {
    ULONG Seed = 7, Again = 7, Index, Above = 0, Value;
    GUID First, Second;
    UNREFERENCED_PARAMETER(Call);
    for (Index = 0; Index < 1000; Index++) {
        Value = RtlRandomEx(&Seed);
        CHECK(Value < MAXLONG && Value == RtlRandom(&Again));
        Above += Value > MAXLONG / 2;
    }
    CHECK(Above > 400 && Above < 600);
    CHECK(NT_SUCCESS(ExUuidCreate(&First)) && NT_SUCCESS(ExUuidCreate(&Second)));
    CHECK(RtlCompareMemory(&First, &Second, sizeof(GUID)) < sizeof(GUID) && First.Data3 >> 12 == 4 && First.Data4[0] >> 6 == 2);
    return STATUS_SUCCESS;
}

BEHAVIOUR(an_assertion_that_fails_ends_the_run) {
    VOID(NTAPI * Assert)(PVOID, PVOID, ULONG, PCHAR) = Routine(L"RtlAssert");
    CHECK(Assert != NULL);
    if (Call->Wrong)
        Assert("Left == Right", "library.c", 7, "they differ");
    return STATUS_SUCCESS;
}

static VOID NTAPI Deferred(PKDPC Dpc, PVOID Context, PVOID First, PVOID Second) {
    UNREFERENCED_PARAMETER(Dpc);
    UNREFERENCED_PARAMETER(First);
    UNREFERENCED_PARAMETER(Second);
    *(KIRQL *)Context = KeGetCurrentIrql();
}

BEHAVIOUR(there_is_one_processor_which_dpcs_may_name) {
    PROCESSOR_NUMBER Number;
    GROUP_AFFINITY Affinity = {.Mask = 1}, Previous = {.Mask = 7};
    KIRQL Ran = 0;
    KDPC Dpc;
    LARGE_INTEGER Before, After, Frequency;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(KeGetProcessorNumberFromIndex(0, &Number)) && Number.Group == 0 && Number.Number == 0);
    CHECK(KeGetProcessorIndexFromNumber(&Number) == 0 && KeGetProcessorNumberFromIndex(1, &Number) == STATUS_INVALID_PARAMETER);
    CHECK(KeQueryActiveGroupCount() == 1 && KeQueryGroupAffinity(0) == 1);
    KeSetSystemGroupAffinityThread(&Affinity, &Previous);
    CHECK(Previous.Mask == 0);
    KeRevertToUserGroupAffinityThread(&Previous);
    KeInitializeThreadedDpc(&Dpc, Deferred, &Ran);
    KeSetImportanceDpc(&Dpc, HighImportance);
    CHECK(NT_SUCCESS(KeSetTargetProcessorDpcEx(&Dpc, &Number)));
    KeInsertQueueDpc(&Dpc, NULL, NULL);
    KeFlushQueuedDpcs();
    CHECK(Ran == DISPATCH_LEVEL);
    Before = KeQueryPerformanceCounter(&Frequency);
    KeStallExecutionProcessor(50);
    After = KeQueryPerformanceCounter(NULL);
    CHECK((After.QuadPart - Before.QuadPart) * 1000000 >= 50 * Frequency.QuadPart);
    return STATUS_SUCCESS;
}

BEHAVIOUR(push_locks_are_shared_or_held_alone) {
    static ULONG_PTR Lock;
    ExInitializePushLock(&Lock);
    KeEnterCriticalRegion();
    ExAcquirePushLockExclusiveEx(&Lock, 0);
    CHECK(Lock != 0);
    ExReleasePushLockExclusiveEx(&Lock, 0);
    ExAcquirePushLockSharedEx(&Lock, 0);
    if (Call->Wrong)
        ExReleasePushLockExclusiveEx(&Lock, 0);
    ExReleasePushLockSharedEx(&Lock, 0);
    KeLeaveCriticalRegion();
    CHECK(Lock == 0);
    return STATUS_SUCCESS;
}

BEHAVIOUR(named_events_are_the_same_by_their_name) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\BaseNamedObjects\\Ready");
    HANDLE First, Second;
    LONG Before = 0;
    PKEVENT Event = IoCreateNotificationEvent(&Name, &First);
    UNREFERENCED_PARAMETER(Call);
    CHECK(Event != NULL && KeReadStateEvent(Event) != 0);
    CHECK(IoCreateNotificationEvent(&Name, &Second) == Event && First != Second);
    KeClearEvent(Event);
    CHECK(NT_SUCCESS(ZwSetEvent(Second, &Before)) && Before == 0 && KeReadStateEvent(Event) != 0);
    ZwClose(First);
    ZwClose(Second);
    Event = IoCreateSynchronizationEvent(&Name, &First);
    CHECK(Event != NULL && KeReadStateEvent(Event) != 0);
    ZwClose(First);
    return STATUS_SUCCESS;
}

BEHAVIOUR(registry_values_are_written_by_path) {
    static const ULONG Four = 4;
    ULONG Read = 0;
    RTL_QUERY_REGISTRY_TABLE Table[2] = {{.Flags = RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED, .Name = L"Four", .EntryContext = &Read}};
    UNREFERENCED_PARAMETER(Call);
    CHECK(RtlCheckRegistryKey(RTL_REGISTRY_SERVICES, L"library_key") == STATUS_OBJECT_NAME_NOT_FOUND);
    CHECK(NT_SUCCESS(RtlCreateRegistryKey(RTL_REGISTRY_SERVICES, L"library_key")));
    CHECK(NT_SUCCESS(RtlCheckRegistryKey(RTL_REGISTRY_SERVICES, L"library_key")));
    CHECK(NT_SUCCESS(RtlWriteRegistryValue(RTL_REGISTRY_SERVICES, L"library_key", L"Four", REG_DWORD, (PVOID)&Four, sizeof(Four))));
    CHECK(NT_SUCCESS(RtlQueryRegistryValues(RTL_REGISTRY_SERVICES, L"library_key", Table, NULL, NULL)) && Read == 4);
    CHECK(NT_SUCCESS(RtlDeleteRegistryValue(RTL_REGISTRY_SERVICES, L"library_key", L"Four")));
    CHECK(RtlDeleteRegistryValue(RTL_REGISTRY_SERVICES, L"library_key", L"Four") == STATUS_OBJECT_NAME_NOT_FOUND);
    return STATUS_SUCCESS;
}

BEHAVIOUR(registry_keys_are_enumerated) {
    UNICODE_STRING Path = RTL_CONSTANT_STRING(L"\\Registry\\Machine\\Software\\Library"), Below = RTL_CONSTANT_STRING(L"Below");
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"One");
    OBJECT_ATTRIBUTES Attributes;
    struct {
        union {
            KEY_BASIC_INFORMATION Basic;
            KEY_FULL_INFORMATION Full;
            KEY_VALUE_BASIC_INFORMATION Value;
        } u;
        WCHAR Rest[32];
    } Information;
    HANDLE Key, Child;
    ULONG Size, Created;
    UNREFERENCED_PARAMETER(Call);
    InitializeObjectAttributes(&Attributes, &Path, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, NULL, NULL);
    CHECK(NT_SUCCESS(ZwCreateKey(&Key, KEY_ALL_ACCESS, &Attributes, 0, NULL, 0, &Created)));
    InitializeObjectAttributes(&Attributes, &Below, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, Key, NULL);
    CHECK(NT_SUCCESS(ZwCreateKey(&Child, KEY_ALL_ACCESS, &Attributes, 0, NULL, 0, &Created)));
    CHECK(NT_SUCCESS(ZwSetValueKey(Key, &Name, 0, REG_SZ, L"x", 4)));
    CHECK(NT_SUCCESS(ZwEnumerateKey(Key, 0, KeyBasicInformation, &Information, sizeof(Information), &Size)));
    CHECK(Information.u.Basic.NameLength == 10 && Information.u.Basic.Name[0] == L'B');
    CHECK(ZwEnumerateKey(Key, 1, KeyBasicInformation, &Information, sizeof(Information), &Size) == STATUS_NO_MORE_ENTRIES);
    CHECK(NT_SUCCESS(ZwQueryKey(Key, KeyFullInformation, &Information, sizeof(Information), &Size)));
    CHECK(Information.u.Full.SubKeys == 1 && Information.u.Full.Values == 1 && Information.u.Full.MaxNameLen == 10);
    CHECK(NT_SUCCESS(ZwEnumerateValueKey(Key, 0, KeyValueBasicInformation, &Information, sizeof(Information), &Size)));
    CHECK(Information.u.Value.Type == REG_SZ && Information.u.Value.NameLength == 6);
    CHECK(ZwEnumerateValueKey(Key, 1, KeyValueBasicInformation, &Information, sizeof(Information), &Size) == STATUS_NO_MORE_ENTRIES);
    CHECK(ZwDeleteKey(Key) == STATUS_CANNOT_DELETE);
    CHECK(NT_SUCCESS(ZwDeleteKey(Child)) && NT_SUCCESS(ZwDeleteKey(Key)));
    CHECK(ZwQueryKey(Key, KeyFullInformation, &Information, sizeof(Information), &Size) == STATUS_KEY_DELETED);
    ZwClose(Child);
    ZwClose(Key);
    return STATUS_SUCCESS;
}

BEHAVIOUR(an_error_is_logged) {
    PIO_ERROR_LOG_PACKET Packet = IoAllocateErrorLogEntry(Call->Device, sizeof(IO_ERROR_LOG_PACKET));
    CHECK(Packet != NULL && IoAllocateErrorLogEntry(Call->Device, 255) == NULL);
    Packet->ErrorCode = (NTSTATUS)0xC0040001;
    Packet->FinalStatus = STATUS_DEVICE_NOT_READY;
    Packet->UniqueErrorValue = 7;
    IoWriteErrorLogEntry(Packet);
    return STATUS_SUCCESS;
}

BEHAVIOUR(processes_and_threads_are_found_by_their_numbers) {
    PEPROCESS Process;
    PETHREAD Thread;
    HANDLE Handle;
    PVOID Again;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(PsLookupProcessByProcessId(PsGetCurrentProcessId(), &Process)) && Process == PsGetCurrentProcess());
    CHECK(NT_SUCCESS(ObOpenObjectByPointer(Process, OBJ_KERNEL_HANDLE, NULL, PROCESS_ALL_ACCESS, NULL, KernelMode, &Handle)));
    CHECK(NT_SUCCESS(ObReferenceObjectByHandle(Handle, 0, NULL, KernelMode, &Again, NULL)) && Again == Process);
    ObDereferenceObject(Again);
    ZwClose(Handle);
    ObDereferenceObject(Process);
    CHECK(NT_SUCCESS(PsLookupThreadByThreadId(PsGetCurrentThreadId(), &Thread)) && Thread == PsGetCurrentThread());
    ObDereferenceObject(Thread);
    CHECK(PsLookupProcessByProcessId((HANDLE)0x7ffffffc, &Process) == STATUS_INVALID_CID);
    return STATUS_SUCCESS;
}

/* These headers declare them as imported: what they point to is read twice, and the type found by itself. */
BEHAVIOUR(variables_of_the_kernel_are_read) {
    extern __declspec(dllimport) ULONG NtBuildNumber, InitSafeBootMode;
    RTL_OSVERSIONINFOW Version = {sizeof(Version)};
    HANDLE Handle;
    PVOID Again;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(ObOpenObjectByPointer(
        PsInitialSystemProcess, OBJ_KERNEL_HANDLE, NULL, PROCESS_ALL_ACCESS, *PsProcessType, KernelMode, &Handle)));
    CHECK(ObReferenceObjectByHandle(Handle, 0, *PsThreadType, KernelMode, &Again, NULL) == STATUS_OBJECT_TYPE_MISMATCH);
    CHECK(NT_SUCCESS(ObReferenceObjectByHandle(Handle, 0, *PsProcessType, KernelMode, &Again, NULL)));
    CHECK(Again == PsInitialSystemProcess && Again != PsGetCurrentProcess());
    ObDereferenceObject(Again);
    ZwClose(Handle);
    CHECK(NT_SUCCESS(RtlGetVersion(&Version)) && (NtBuildNumber & 0xFFFF) == Version.dwBuildNumber);
    CHECK(InitSafeBootMode == 0 && KeNumberProcessors == 1);
    return STATUS_SUCCESS;
}

static volatile LONG Begun, Ended;

static VOID NTAPI OfProcess(PEPROCESS Process, HANDLE Id, PPS_CREATE_NOTIFY_INFO Information) {
    if (PsGetProcessId(Process) != Id || KeGetCurrentIrql() != PASSIVE_LEVEL)
        return;
    if (Information != NULL && Information->Size == sizeof(*Information) && Information->ParentProcessId != Id)
        InterlockedIncrement(&Begun);
    if (Information == NULL)
        InterlockedIncrement(&Ended);
}

/* Between these two a process begins and ends. */
BEHAVIOUR(begin_to_watch_processes) {
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(PsSetCreateProcessNotifyRoutineEx(OfProcess, FALSE)));
    CHECK(PsSetCreateProcessNotifyRoutineEx(OfProcess, FALSE) == STATUS_INVALID_PARAMETER);
    return STATUS_SUCCESS;
}

BEHAVIOUR(stop_watching_processes) {
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(PsSetCreateProcessNotifyRoutineEx(OfProcess, TRUE)));
    CHECK(PsSetCreateProcessNotifyRoutineEx(OfProcess, TRUE) == STATUS_INVALID_PARAMETER);
    CHECK(Begun == 1 && Ended == 1);
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(addresses_are_read_and_written_as_text),
    ROW_OF(strings_are_cut_to_their_buffers),
    ROW_OF(a_generic_table_is_in_order_and_balanced),
    ROW_OF(a_generic_table_of_splay_links_has_what_was_used_on_top),
    ROW_OF(functions_that_are_macros_in_c_are_exported_too),
    ROW_OF(versions_are_told_and_compared),
    ROW_OF(security_identifiers_are_made_and_copied),
    ROW_OF(numbers_are_random_and_in_their_range),
    ROW_OF(an_assertion_that_fails_ends_the_run),
    ROW_OF(bits_are_set_and_found),
    ROW_OF(there_is_one_processor_which_dpcs_may_name),
    ROW_OF(push_locks_are_shared_or_held_alone),
    ROW_OF(named_events_are_the_same_by_their_name),
    ROW_OF(registry_values_are_written_by_path),
    ROW_OF(registry_keys_are_enumerated),
    ROW_OF(an_error_is_logged),
    ROW_OF(processes_and_threads_are_found_by_their_numbers),
    ROW_OF(variables_of_the_kernel_are_read),
    {"begin_to_watch_processes", begin_to_watch_processes},
    {"stop_watching_processes", stop_watching_processes},
    {NULL, NULL},
};
static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;
static VOID (*const AtUnload)(VOID) = NULL;
