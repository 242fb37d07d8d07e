/* What drivers do with pages that they allocate for a list, and with contiguous memory. */
#include "verifier.h"

/* Which check failed, by its line, in a status that is an error. */
#define CHECK(Condition)                                                                                               \
    if (!(Condition))                                                                                                  \
    return (NTSTATUS)(0xE0000000 | __LINE__)

static const PHYSICAL_ADDRESS Zero = {.QuadPart = 0}, Any = {.QuadPart = -1};

static PMDL AllocateSome(SIZE_T Length, ULONG Flags) {
    return MmAllocatePagesForMdlEx(Zero, Any, Zero, Length, MmCached, Flags);
}

static UCHAR *Map(PMDL Mdl, KPROCESSOR_MODE Mode) {
    return MmMapLockedPagesSpecifyCache(Mdl, Mode, MmCached, NULL, FALSE, NormalPagePriority);
}

BEHAVIOUR(pages_are_mapped_and_freed) {
    PMDL Mdl = AllocateSome(3 * PAGE_SIZE - 1, 0), Dirty;
    UCHAR *Bytes, *Again, *Users;
    ULONG Index;
    CHECK(Mdl != NULL && MmGetMdlByteCount(Mdl) == 3 * PAGE_SIZE && MmGetMdlByteOffset(Mdl) == 0);
    CHECK((Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA)) == MDL_PAGES_LOCKED);
    Bytes = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    CHECK(Bytes != NULL && MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority) == Bytes);
    for (Index = 0; Index < 3 * PAGE_SIZE; Index++)
        CHECK(Bytes[Index] == 0);
    CHECK(MmGetPhysicalAddress(Bytes + PAGE_SIZE + 5).QuadPart == (LONGLONG)MmGetMdlPfnArray(Mdl)[1] * PAGE_SIZE + 5);
    Bytes[PAGE_SIZE] = 7;
    /* The same pages, at another address. */
    Users = Map(Mdl, UserMode);
    CHECK(Users != Bytes && Users[PAGE_SIZE] == 7);
    CHECK(MmGetPhysicalAddress(Users + 1).QuadPart == MmGetPhysicalAddress(Bytes + 1).QuadPart);
    Users[1] = 8;
    CHECK(Bytes[1] == 8);
    MmUnmapLockedPages(Users, Mdl);
    MmUnmapLockedPages(Bytes, Mdl);
    Again = Map(Mdl, KernelMode);
    CHECK(Again != NULL && Again[1] == 8);
    if (Call->Wrong)
        Again = NULL;
    else
        MmUnmapLockedPages(Again, Mdl);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    Dirty = AllocateSome(PAGE_SIZE, 1);
    CHECK(Dirty != NULL);
    Bytes = Map(Dirty, KernelMode);
    CHECK(Bytes != NULL && Bytes[0] != 0);
    MmUnmapLockedPages(Bytes, Dirty);
    MmFreePagesFromMdl(Dirty);
    ExFreePool(Dirty);
    return STATUS_SUCCESS;
}

BEHAVIOUR(there_are_as_many_pages_as_there_are) {
    PMDL First = AllocateSome(512 << 20, 0), Rest, None;
    PHYSICAL_ADDRESS Low = {.QuadPart = 4096};
    UNREFERENCED_PARAMETER(Call);
    CHECK(First != NULL && MmGetMdlByteCount(First) == 512 << 20);
    CHECK(AllocateSome(3ull << 30, 4) == NULL && AllocateSome(3ull << 30, 0x20) == NULL);
    Rest = AllocateSome(3ull << 30, 0);
    CHECK(Rest != NULL && MmGetMdlByteCount(Rest) == 512 << 20);
    None = AllocateSome(PAGE_SIZE, 0);
    CHECK(None == NULL);
    MmFreePagesFromMdl(Rest);
    CHECK(MmAllocatePagesForMdl(Zero, Low, Zero, PAGE_SIZE) == NULL);
    ExFreePool(Rest);
    MmFreePagesFromMdl(First);
    ExFreePool(First);
    return STATUS_SUCCESS;
}

BEHAVIOUR(chunks_are_aligned) {
    PHYSICAL_ADDRESS Chunk = {.QuadPart = 64 << 10};
    PMDL Mdl = MmAllocatePagesForMdlEx(Zero, Any, Chunk, 128 << 10, MmCached, 0x20);
    UNREFERENCED_PARAMETER(Call);
    CHECK(Mdl != NULL && MmGetMdlPfnArray(Mdl)[0] % 16 == 0 && MmGetMdlPfnArray(Mdl)[31] == MmGetMdlPfnArray(Mdl)[0] + 31);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    CHECK(MmAllocatePagesForMdlEx(Zero, Any, Chunk, 100 << 10, MmCached, 0x20) == NULL);
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_part_of_the_pages_is_mapped_alone) {
    PMDL Mdl = AllocateSome(2 * PAGE_SIZE, 0), Part;
    UCHAR *Bytes, *Piece;
    CHECK(Mdl != NULL);
    Part = IoAllocateMdl((PUCHAR)MmGetMdlVirtualAddress(Mdl) + PAGE_SIZE, 100, FALSE, FALSE, NULL);
    CHECK(Part != NULL);
    IoBuildPartialMdl(Mdl, Part, (PUCHAR)MmGetMdlVirtualAddress(Mdl) + PAGE_SIZE + 10, 90);
    Piece = MmGetSystemAddressForMdlSafe(Part, NormalPagePriority);
    CHECK(Piece != NULL && (ULONG_PTR)Piece % PAGE_SIZE == 10);
    *Piece = 9;
    if (Call->Wrong)
        MmFreePagesFromMdl(Mdl);
    IoFreeMdl(Part);
    Bytes = MmGetSystemAddressForMdlSafe(Mdl, NormalPagePriority);
    CHECK(Bytes == Piece - PAGE_SIZE - 10 && Bytes[PAGE_SIZE + 10] == 9);
    MmUnmapLockedPages(Bytes, Mdl);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    return STATUS_SUCCESS;
}

IN_BACKTRACES static VOID Touch(volatile UCHAR *Byte) {
    *Byte = 2;
}

/* They are the system's: no handler of exceptions is asked. */
BEHAVIOUR(unmapped_pages_are_out_of_reach) {
    PMDL Mdl = AllocateSome(PAGE_SIZE, 0);
    volatile UCHAR *Bytes;
    CHECK(Mdl != NULL && (Bytes = Map(Mdl, KernelMode)) != NULL);
    Bytes[0] = 1;
    MmUnmapLockedPages((PVOID)Bytes, Mdl);
    if (Call->Wrong) {
        __try {
            Touch(Bytes);
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            return STATUS_UNSUCCESSFUL;
        }
    }
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    return STATUS_SUCCESS;
}

BEHAVIOUR(pages_are_freed_by_their_own_function) {
    PMDL Mdl = AllocateSome(PAGE_SIZE, 0);
    CHECK(Mdl != NULL);
    if (Call->Wrong)
        MmUnlockPages(Mdl);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    return STATUS_SUCCESS;
}

BEHAVIOUR(pages_are_freed_once) {
    PMDL Mdl = AllocateSome(PAGE_SIZE, 0);
    CHECK(Mdl != NULL);
    MmFreePagesFromMdl(Mdl);
    if (Call->Wrong)
        MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    return STATUS_SUCCESS;
}

BEHAVIOUR(pages_do_not_outlive_the_driver) {
    PMDL Mdl = AllocateSome(5 * PAGE_SIZE, 0);
    CHECK(Mdl != NULL);
    if (!Call->Wrong) {
        MmFreePagesFromMdl(Mdl);
        ExFreePool(Mdl);
    }
    return STATUS_SUCCESS;
}

extern POBJECT_TYPE *IoFileObjectType;

static NTSTATUS NTAPI Written(PDEVICE_OBJECT Device, PIRP Irp, PVOID Context) {
    UNREFERENCED_PARAMETER(Device);
    *Irp->UserIosb = Irp->IoStatus;
    /* The list is the driver's own. */
    Irp->MdlAddress = NULL;
    IoFreeIrp(Irp);
    KeSetEvent((PKEVENT)Context, IO_NO_INCREMENT, FALSE);
    return STATUS_MORE_PROCESSING_REQUIRED;
}

BEHAVIOUR(other_drivers_reach_pages_that_are_not_mapped) {
    UNICODE_STRING Name = RTL_CONSTANT_STRING(L"\\??\\C:\\pages");
    OBJECT_ATTRIBUTES Attributes;
    LARGE_INTEGER Offset = {.QuadPart = 0};
    IO_STATUS_BLOCK Block = {0};
    PFILE_OBJECT Object;
    PDEVICE_OBJECT Device;
    HANDLE File;
    KEVENT Done;
    char Bytes[4] = {0};
    PMDL Mdl = AllocateSome(PAGE_SIZE, 0);
    UCHAR *Mapped;
    PIRP Irp;
    CHECK(Mdl != NULL && (Mapped = Map(Mdl, KernelMode)) != NULL);
    RtlCopyMemory(Mapped, "abc", 3);
    MmUnmapLockedPages(Mapped, Mdl);
    KeInitializeEvent(&Done, NotificationEvent, FALSE);
    InitializeObjectAttributes(&Attributes, &Name, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK(NT_SUCCESS(ZwCreateFile(&File, GENERIC_READ | GENERIC_WRITE | SYNCHRONIZE, &Attributes, &Block, NULL, 0, 0, FILE_CREATE,
        FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0)));
    CHECK(NT_SUCCESS(ObReferenceObjectByHandle(File, 0, *IoFileObjectType, KernelMode, (PVOID *)&Object, NULL)));
    Device = IoGetRelatedDeviceObject(Object);
    Irp = IoBuildAsynchronousFsdRequest(IRP_MJ_WRITE, Device, NULL, 3, &Offset, &Block);
    CHECK(Irp != NULL);
    Irp->MdlAddress = Mdl;
    IoGetNextIrpStackLocation(Irp)->FileObject = Object;
    IoSetCompletionRoutine(Irp, Written, &Done, TRUE, TRUE, TRUE);
    IoCallDriver(Device, Irp);
    CHECK(NT_SUCCESS(KeWaitForSingleObject(&Done, Executive, KernelMode, FALSE, NULL)) && Block.Information == 3);
    ObDereferenceObject(Object);
    CHECK(NT_SUCCESS(ZwReadFile(File, NULL, NULL, NULL, &Block, Bytes, 3, &Offset, NULL)) && Bytes[0] == 'a' && Bytes[2] == 'c');
    ZwClose(File);
    MmFreePagesFromMdl(Mdl);
    ExFreePool(Mdl);
    UNREFERENCED_PARAMETER(Call);
    return STATUS_SUCCESS;
}

BEHAVIOUR(contiguous_memory_is_of_whole_pages) {
    PHYSICAL_ADDRESS Low = {.QuadPart = 4096};
    UCHAR *Memory = MmAllocateContiguousMemory(5000, Any);
    CHECK(Memory != NULL && (ULONG_PTR)Memory % PAGE_SIZE == 0);
    Memory[0] = Memory[2 * PAGE_SIZE - 1] = 1;
    CHECK(MmGetPhysicalAddress(Memory + PAGE_SIZE).QuadPart == MmGetPhysicalAddress(Memory).QuadPart + PAGE_SIZE);
    CHECK(MmAllocateContiguousMemory(PAGE_SIZE, Low) == NULL);
    if (Call->Wrong)
        ExFreePool(Memory);
    MmFreeContiguousMemory(Memory);
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(pages_are_mapped_and_freed),
    ROW_OF(there_are_as_many_pages_as_there_are),
    ROW_OF(chunks_are_aligned),
    ROW_OF(a_part_of_the_pages_is_mapped_alone),
    ROW_OF(unmapped_pages_are_out_of_reach),
    ROW_OF(pages_are_freed_by_their_own_function),
    ROW_OF(pages_are_freed_once),
    ROW_OF(pages_do_not_outlive_the_driver),
    ROW_OF(other_drivers_reach_pages_that_are_not_mapped),
    ROW_OF(contiguous_memory_is_of_whole_pages),
    {NULL, NULL},
};
static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;
static VOID (*const AtUnload)(VOID) = NULL;
