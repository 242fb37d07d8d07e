/* What drivers do with CNG: hashes, HMACs and random numbers. */
#include "verifier.h"

/* Which check failed, by its line, in a status that is an error. */
#define CHECK(Condition)                                                                                               \
    if (!(Condition))                                                                                                  \
    return (NTSTATUS)(0xE0000000 | __LINE__)

typedef PVOID BCRYPT_HANDLE;
#define IMPORT __declspec(dllimport) NTSTATUS NTAPI
IMPORT BCryptOpenAlgorithmProvider(BCRYPT_HANDLE *Handle, PCWSTR Algorithm, PCWSTR Implementation, ULONG Flags);
IMPORT BCryptCloseAlgorithmProvider(BCRYPT_HANDLE Handle, ULONG Flags);
IMPORT BCryptGetProperty(BCRYPT_HANDLE Handle, PCWSTR Name, PVOID Output, ULONG Length, PULONG Done, ULONG Flags);
IMPORT BCryptSetProperty(BCRYPT_HANDLE Handle, PCWSTR Name, PVOID Input, ULONG Length, ULONG Flags);
IMPORT BCryptCreateHash(BCRYPT_HANDLE Algorithm, BCRYPT_HANDLE *Handle, PVOID Object, ULONG ObjectLength, const VOID *Secret, ULONG SecretLength, ULONG Flags);
IMPORT BCryptDuplicateHash(BCRYPT_HANDLE Source, BCRYPT_HANDLE *Handle, PVOID Object, ULONG ObjectLength, ULONG Flags);
IMPORT BCryptHashData(BCRYPT_HANDLE Hash, const VOID *Input, ULONG Length, ULONG Flags);
IMPORT BCryptFinishHash(BCRYPT_HANDLE Hash, PVOID Output, ULONG Length, ULONG Flags);
IMPORT BCryptDestroyHash(BCRYPT_HANDLE Hash);
IMPORT BCryptHash(BCRYPT_HANDLE Algorithm, const VOID *Secret, ULONG SecretLength, const VOID *Input, ULONG Length, PVOID Output, ULONG OutputLength);
IMPORT BCryptGenRandom(BCRYPT_HANDLE Algorithm, PVOID Buffer, ULONG Length, ULONG Flags);
#define PROV_DISPATCH 1
#define HMAC 8
#define REUSABLE 0x20
#define SYSTEM_PREFERRED_RNG 2

/* The first bytes of the hash of "abc" (FIPS 180-2, RFC 1321). */
typedef struct {
    PCWSTR Name;
    ULONG Length, Block;
    UCHAR First[4];
} KNOWN_HASH;

static const KNOWN_HASH Known[] = {
    {L"MD5", 16, 64, {0x90, 0x01, 0x50, 0x98}},
    {L"SHA1", 20, 64, {0xA9, 0x99, 0x3E, 0x36}},
    {L"SHA256", 32, 64, {0xBA, 0x78, 0x16, 0xBF}},
    {L"SHA384", 48, 128, {0xCB, 0x00, 0x75, 0x3F}},
    {L"SHA512", 64, 128, {0xDD, 0xAF, 0x35, 0xA1}},
};

static ULONG Number(BCRYPT_HANDLE Handle, PCWSTR Name) {
    ULONG Value = 0, Done = 0;
    NTSTATUS Status = BCryptGetProperty(Handle, Name, &Value, sizeof(Value), &Done, 0);
    return NT_SUCCESS(Status) && Done == sizeof(Value) ? Value : 0;
}

static BOOLEAN Same(const VOID *Left, const VOID *Right, SIZE_T Length) {
    return RtlCompareMemory(Left, Right, Length) == Length;
}

BEHAVIOUR(hashes_are_those_of_their_standards) {
    BCRYPT_HANDLE Provider, Hash, Copy;
    UCHAR Output[64], Again[64];
    WCHAR Name[8];
    ULONG Index, Done;
    PVOID Object;
    UNREFERENCED_PARAMETER(Call);
    for (Index = 0; Index < ARRAYSIZE(Known); Index++) {
        const KNOWN_HASH *Of = &Known[Index];
        CHECK(NT_SUCCESS(BCryptOpenAlgorithmProvider(&Provider, Of->Name, NULL, 0)));
        CHECK(Number(Provider, L"HashDigestLength") == Of->Length && Number(Provider, L"HashBlockLength") == Of->Block);
        CHECK(NT_SUCCESS(BCryptGetProperty(Provider, L"AlgorithmName", Name, sizeof(Name), &Done, 0)));
        CHECK(Same(Name, Of->Name, Done) && Name[Done / sizeof(WCHAR) - 1] == 0);
        CHECK(BCryptGetProperty(Provider, L"AlgorithmName", Name, 2, &Done, 0) == STATUS_BUFFER_TOO_SMALL);
        CHECK(BCryptGetProperty(Provider, L"BlockLength", Name, 2, &Done, 0) == STATUS_NOT_SUPPORTED);
        CHECK(BCryptSetProperty(Provider, L"ChainingMode", Name, 2, 0) == STATUS_NOT_SUPPORTED);
        CHECK(Number(Provider, L"ObjectLength") != 0);
        Object = ExAllocatePool2(POOL_FLAG_PAGED, Number(Provider, L"ObjectLength"), TAG);
        CHECK(Object != NULL);
        CHECK(BCryptCreateHash(Provider, &Hash, Object, 8, NULL, 0, 0) == STATUS_BUFFER_TOO_SMALL);
        CHECK(BCryptCreateHash(Provider, &Hash, NULL, 0, "key", 3, 0) == STATUS_INVALID_PARAMETER);
        CHECK(NT_SUCCESS(BCryptCreateHash(Provider, &Hash, Object, Number(Provider, L"ObjectLength"), NULL, 0, 0)));
        CHECK(NT_SUCCESS(BCryptHashData(Hash, "ab", 2, 0)) && NT_SUCCESS(BCryptDuplicateHash(Hash, &Copy, NULL, 0, 0)));
        CHECK(NT_SUCCESS(BCryptHashData(Hash, "c", 1, 0)));
        CHECK(BCryptFinishHash(Hash, Output, Of->Length - 1, 0) == STATUS_INVALID_PARAMETER);
        CHECK(NT_SUCCESS(BCryptFinishHash(Hash, Output, Of->Length, 0)) && Same(Output, Of->First, 4));
        CHECK(BCryptFinishHash(Hash, Output, Of->Length, 0) == STATUS_INVALID_HANDLE);
        CHECK(BCryptHashData(Hash, "c", 1, 0) == STATUS_INVALID_HANDLE);
        CHECK(NT_SUCCESS(BCryptDestroyHash(Hash)));
        ExFreePoolWithTag(Object, TAG);
        CHECK(NT_SUCCESS(BCryptHashData(Copy, "c", 1, 0)) && NT_SUCCESS(BCryptFinishHash(Copy, Again, Of->Length, 0)));
        CHECK(Same(Output, Again, Of->Length) && NT_SUCCESS(BCryptDestroyHash(Copy)));
        CHECK(NT_SUCCESS(BCryptHash(Provider, NULL, 0, "abc", 3, Again, Of->Length)) && Same(Output, Again, Of->Length));
        CHECK(BCryptGenRandom(Provider, Again, 4, 0) == STATUS_INVALID_HANDLE);
        CHECK(NT_SUCCESS(BCryptCloseAlgorithmProvider(Provider, 0)));
    }
    CHECK(BCryptOpenAlgorithmProvider(&Provider, L"SHA3", NULL, 0) == STATUS_NOT_FOUND);
    CHECK(BCryptOpenAlgorithmProvider(&Provider, L"SHA1", L"Another Provider", 0) == STATUS_NOT_FOUND);
    CHECK(BCryptHashData(NULL, "a", 1, 0) == STATUS_INVALID_HANDLE);
    return STATUS_SUCCESS;
}

BEHAVIOUR(hmacs_are_those_of_rfc_4231) {
    /* Test cases 2 and 6: a short key, and one longer than a block. */
    static const UCHAR Short[] = {0x5B, 0xDC, 0xC1, 0x46, 0xBF, 0x60, 0x75, 0x4E}, Long[] = {0x60, 0xE4, 0x31, 0x59, 0x1E, 0xE0, 0xB6, 0x7F};
    static const char Question[] = "what do ya want for nothing?", Larger[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    UCHAR Key[131], Output[32];
    BCRYPT_HANDLE Provider, Hash;
    ULONG Index;
    UNREFERENCED_PARAMETER(Call);
    CHECK(NT_SUCCESS(BCryptOpenAlgorithmProvider(&Provider, L"SHA256", L"Microsoft Primitive Provider", HMAC)));
    CHECK(NT_SUCCESS(BCryptCreateHash(Provider, &Hash, NULL, 0, "Jefe", 4, REUSABLE)));
    /* A reusable object begins anew, with its key. */
    for (Index = 0; Index < 2; Index++) {
        CHECK(NT_SUCCESS(BCryptHashData(Hash, Question, 10, 0)) && NT_SUCCESS(BCryptHashData(Hash, Question + 10, sizeof(Question) - 11, 0)));
        CHECK(NT_SUCCESS(BCryptFinishHash(Hash, Output, sizeof(Output), 0)) && Same(Output, Short, sizeof(Short)));
    }
    CHECK(NT_SUCCESS(BCryptDestroyHash(Hash)));
    RtlFillMemory(Key, sizeof(Key), 0xAA);
    CHECK(NT_SUCCESS(BCryptHash(Provider, Key, sizeof(Key), Larger, sizeof(Larger) - 1, Output, sizeof(Output))) && Same(Output, Long, sizeof(Long)));
    CHECK(NT_SUCCESS(BCryptCloseAlgorithmProvider(Provider, 0)));
    return STATUS_SUCCESS;
}

BEHAVIOUR(random_numbers_differ) {
    UCHAR First[40] = {0}, Second[40] = {0};
    BCRYPT_HANDLE Provider;
    KIRQL Irql;
    NTSTATUS Status;
    CHECK(NT_SUCCESS(BCryptGenRandom(NULL, First, 37, SYSTEM_PREFERRED_RNG)) && First[37] == 0 && First[38] == 0 && First[39] == 0);
    CHECK(NT_SUCCESS(BCryptGenRandom(NULL, Second, 37, SYSTEM_PREFERRED_RNG)) && !Same(First, Second, 37));
    CHECK(BCryptGenRandom(NULL, First, 8, 0) == STATUS_INVALID_HANDLE);
    CHECK(NT_SUCCESS(BCryptOpenAlgorithmProvider(&Provider, L"RNG", NULL, PROV_DISPATCH)));
    CHECK(BCryptGenRandom(Provider, First, 8, SYSTEM_PREFERRED_RNG) == STATUS_INVALID_PARAMETER);
    KeRaiseIrql(DISPATCH_LEVEL, &Irql);
    Status = BCryptGenRandom(Call->Wrong ? NULL : Provider, Second, 37, Call->Wrong ? SYSTEM_PREFERRED_RNG : 0);
    KeLowerIrql(Irql);
    CHECK(NT_SUCCESS(Status) && !Same(First, Second, 37));
    CHECK(BCryptCreateHash(Provider, &Provider, NULL, 0, NULL, 0, 0) == STATUS_NOT_SUPPORTED);
    CHECK(NT_SUCCESS(BCryptCloseAlgorithmProvider(Provider, 0)));
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_provider_is_for_dispatch_level_if_it_was_opened_so) {
    UCHAR Output[20];
    BCRYPT_HANDLE Provider, Hash;
    KIRQL Irql;
    NTSTATUS Status;
    CHECK(NT_SUCCESS(BCryptOpenAlgorithmProvider(&Provider, L"SHA1", NULL, Call->Wrong ? 0 : PROV_DISPATCH)));
    CHECK(NT_SUCCESS(BCryptCreateHash(Provider, &Hash, NULL, 0, NULL, 0, 0)));
    KeRaiseIrql(DISPATCH_LEVEL, &Irql);
    Status = BCryptHashData(Hash, "a", 1, 0);
    KeLowerIrql(Irql);
    CHECK(NT_SUCCESS(Status) && NT_SUCCESS(BCryptFinishHash(Hash, Output, sizeof(Output), 0)));
    CHECK(NT_SUCCESS(BCryptDestroyHash(Hash)) && NT_SUCCESS(BCryptCloseAlgorithmProvider(Provider, 0)));
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_hash_object_is_destroyed_before_its_memory_goes) {
    BCRYPT_HANDLE Provider, Hash;
    PVOID Object;
    CHECK(NT_SUCCESS(BCryptOpenAlgorithmProvider(&Provider, L"SHA1", NULL, 0)));
    Object = ExAllocatePool2(POOL_FLAG_PAGED, Number(Provider, L"ObjectLength"), TAG);
    CHECK(Object != NULL && NT_SUCCESS(BCryptCreateHash(Provider, &Hash, Object, Number(Provider, L"ObjectLength"), NULL, 0, 0)));
    if (!Call->Wrong)
        BCryptDestroyHash(Hash);
    ExFreePoolWithTag(Object, TAG);
    BCryptCloseAlgorithmProvider(Provider, 0);
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_provider_is_closed_after_its_hash_objects) {
    BCRYPT_HANDLE Provider, Hash;
    CHECK(NT_SUCCESS(BCryptOpenAlgorithmProvider(&Provider, L"SHA1", NULL, PROV_DISPATCH)));
    CHECK(NT_SUCCESS(BCryptCreateHash(Provider, &Hash, NULL, 0, NULL, 0, 0)));
    if (!Call->Wrong)
        BCryptDestroyHash(Hash);
    BCryptCloseAlgorithmProvider(Provider, 0);
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_handle_is_closed_once) {
    BCRYPT_HANDLE Provider;
    CHECK(NT_SUCCESS(BCryptOpenAlgorithmProvider(&Provider, L"SHA1", NULL, 0)));
    BCryptCloseAlgorithmProvider(Provider, 0);
    if (Call->Wrong)
        BCryptCloseAlgorithmProvider(Provider, 0);
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_provider_does_not_outlive_the_driver) {
    BCRYPT_HANDLE Provider;
    CHECK(NT_SUCCESS(BCryptOpenAlgorithmProvider(&Provider, L"SHA1", NULL, 0)));
    if (!Call->Wrong)
        BCryptCloseAlgorithmProvider(Provider, 0);
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(hashes_are_those_of_their_standards),
    ROW_OF(hmacs_are_those_of_rfc_4231),
    ROW_OF(random_numbers_differ),
    ROW_OF(a_provider_is_for_dispatch_level_if_it_was_opened_so),
    ROW_OF(a_hash_object_is_destroyed_before_its_memory_goes),
    ROW_OF(a_provider_is_closed_after_its_hash_objects),
    ROW_OF(a_handle_is_closed_once),
    ROW_OF(a_provider_does_not_outlive_the_driver),
    {NULL, NULL},
};
static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;
static VOID (*const AtUnload)(VOID) = NULL;
