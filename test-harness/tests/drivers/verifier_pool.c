/* Pool, used rightly or wrongly. */
#include "verifier.h"

static VOID (*const AtUnload)(VOID) = NULL;
static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;

static volatile char Sink;

static volatile char *Allocate(SIZE_T Size) { return ExAllocatePoolWithTag(NonPagedPoolNx, Size, TAG); }

static VOID Free(volatile char *Block) { ExFreePoolWithTag((PVOID)Block, TAG); }

BEHAVIOUR(write_behind_a_block) {
    volatile char *Block = Allocate(64);
    Block[Call->Wrong ? 64 : 63] = 1;
    Free(Block);
    return STATUS_SUCCESS;
}

/* Within the block's last page, where no guard page is: found when the block is freed. */
BEHAVIOUR(write_into_the_rounding) {
    volatile char *Block = Allocate(60);
    Block[Call->Wrong ? 61 : 59] = 1;
    Free(Block);
    return STATUS_SUCCESS;
}

BEHAVIOUR(write_before_a_block) {
    volatile char *Block = Allocate(64);
    Block[Call->Wrong ? -8 : 0] = 1;
    Free(Block);
    return STATUS_SUCCESS;
}

/* The guard page before a block finds reads, too, where the machine puts it there. */
BEHAVIOUR(read_before_a_block) {
    volatile char *Block = Allocate(64);
    Sink = Block[Call->Wrong ? -1 : 0];
    Free(Block);
    return STATUS_SUCCESS;
}

BEHAVIOUR(read_freed_memory) {
    volatile char *Block = Allocate(64);
    if (Call->Wrong)
        Free(Block);
    Sink = Block[5];
    if (!Call->Wrong)
        Free(Block);
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_twice) {
    volatile char *Block = Allocate(64);
    Free(Block);
    if (Call->Wrong)
        Free(Block);
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_foreign_memory) {
    char Stack[64];
    volatile char *Block = Allocate(64);
    if (Call->Wrong)
        Free(Stack);
    Free(Block);
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_inside_a_block) {
    volatile char *Block = Allocate(64);
    Free(Call->Wrong ? Block + 16 : Block);
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_with_another_tag) {
    volatile char *Block = Allocate(64);
    ExFreePoolWithTag((PVOID)Block, Call->Wrong ? 'rehO' : TAG);
    return STATUS_SUCCESS;
}

BEHAVIOUR(leak_a_block) {
    volatile char *Block = ExAllocatePoolWithTag(NonPagedPoolNx, 64, 'kaeL');
    if (!Call->Wrong)
        ExFreePoolWithTag((PVOID)Block, 'kaeL');
    return STATUS_SUCCESS;
}

BEHAVIOUR(allocate_paged_pool_at_dispatch_level) {
    KIRQL Old;
    PVOID Block;
    KeRaiseIrql(DISPATCH_LEVEL, &Old);
    Block = ExAllocatePoolWithTag(Call->Wrong ? PagedPool : NonPagedPoolNx, 64, TAG);
    KeLowerIrql(Old);
    ExFreePoolWithTag(Block, TAG);
    return STATUS_SUCCESS;
}

BEHAVIOUR(free_paged_pool_at_dispatch_level) {
    KIRQL Old;
    PVOID Block = ExAllocatePoolWithTag(PagedPool, 64, TAG);
    if (Call->Wrong)
        KeRaiseIrql(DISPATCH_LEVEL, &Old);
    ExFreePoolWithTag(Block, TAG);
    if (Call->Wrong)
        KeLowerIrql(Old);
    return STATUS_SUCCESS;
}

BEHAVIOUR(touch_paged_pool_at_dispatch_level) {
    KIRQL Old;
    volatile char *Block = ExAllocatePoolWithTag(PagedPool, 64, TAG);
    Block[0] = 1;
    KeRaiseIrql(DISPATCH_LEVEL, &Old);
    if (Call->Wrong)
        Block[1] = 1;
    KeLowerIrql(Old);
    Block[2] = 1; /* it is paged in again */
    Free(Block);
    return STATUS_SUCCESS;
}

static __attribute__((section("PAGEDATA"))) volatile ULONG Pageable = 5;

BEHAVIOUR(touch_a_paged_section_at_dispatch_level) {
    KIRQL Old;
    Pageable++;
    KeRaiseIrql(DISPATCH_LEVEL, &Old);
    if (Call->Wrong)
        Pageable++;
    KeLowerIrql(Old);
    return ++Pageable >= 7 ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
}

/* What the kernel itself touches at any IRQL is no paged memory. */
BEHAVIOUR(spin_lock_in_paged_pool) {
    KSPIN_LOCK *Lock = ExAllocatePoolWithTag(Call->Wrong ? PagedPool : NonPagedPoolNx, sizeof(*Lock), TAG);
    KIRQL Old;
    KeInitializeSpinLock(Lock);
    KeAcquireSpinLock(Lock, &Old);
    KeReleaseSpinLock(Lock, Old);
    ExFreePoolWithTag(Lock, TAG);
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(write_behind_a_block),
    ROW_OF(write_into_the_rounding),
    ROW_OF(write_before_a_block),
    ROW_OF(read_before_a_block),
    ROW_OF(read_freed_memory),
    ROW_OF(free_twice),
    ROW_OF(free_foreign_memory),
    ROW_OF(free_inside_a_block),
    ROW_OF(free_with_another_tag),
    ROW_OF(leak_a_block),
    ROW_OF(allocate_paged_pool_at_dispatch_level),
    ROW_OF(free_paged_pool_at_dispatch_level),
    ROW_OF(touch_paged_pool_at_dispatch_level),
    ROW_OF(touch_a_paged_section_at_dispatch_level),
    ROW_OF(spin_lock_in_paged_pool),
    {NULL, NULL},
};
