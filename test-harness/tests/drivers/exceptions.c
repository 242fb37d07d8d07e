/* Structured exceptions: each behaviour raises some, and checks what its handlers see. */
#include "verifier.h"

/* Which check failed, by its line, in a status that is an error. */
#define CHECK(Condition)                                                                                               \
    if (!(Condition))                                                                                                  \
    return (NTSTATUS)(0xE0000000 | __LINE__)

NTKERNELAPI VOID NTAPI ExRaiseStatus(NTSTATUS Status);
NTKERNELAPI VOID NTAPI ExRaiseAccessViolation(VOID);
NTKERNELAPI VOID NTAPI ExRaiseDatatypeMisalignment(VOID);

C_ASSERT(sizeof(CONTEXT) == 1232);
C_ASSERT(FIELD_OFFSET(CONTEXT, ContextFlags) == 0x30);
C_ASSERT(FIELD_OFFSET(CONTEXT, MxCsr) == 0x34);
C_ASSERT(FIELD_OFFSET(CONTEXT, SegCs) == 0x38);
C_ASSERT(FIELD_OFFSET(CONTEXT, EFlags) == 0x44);
C_ASSERT(FIELD_OFFSET(CONTEXT, Rax) == 0x78);
C_ASSERT(FIELD_OFFSET(CONTEXT, Rip) == 0xf8);
C_ASSERT(FIELD_OFFSET(CONTEXT, Xmm0) == 0x1a0);
C_ASSERT(FIELD_OFFSET(CONTEXT, VectorRegister) == 0x300);
C_ASSERT(FIELD_OFFSET(EXCEPTION_RECORD, ExceptionAddress) == 16);
C_ASSERT(FIELD_OFFSET(EXCEPTION_RECORD, ExceptionInformation) == 32);
C_ASSERT(sizeof(EXCEPTION_RECORD) == 152);

#define NOTHING_THERE ((volatile ULONG *)(ULONG_PTR)0x10000)
/* Clang covers by a scope what a call in it does, not what an instruction of the function's own does. */
#define APART __attribute__((noinline))

APART static ULONG Load(volatile ULONG *Address) { return *Address; }
APART static VOID Store(volatile ULONG *Address) { *Address = 1; }
APART static int Divide(int Left, volatile int *Right) { return Left / *Right; }
/* The compiler is not to know that it does not return: it forgets the scopes around a termination handler that does not. */
static volatile BOOLEAN Raises = TRUE;
APART static VOID Raise(NTSTATUS Status) {
    if (Raises)
        ExRaiseStatus(Status);
}

BEHAVIOUR(raised_statuses_are_caught) {
    volatile NTSTATUS Seen = 0;
    UNREFERENCED_PARAMETER(Call);
    __try {
        Raise(STATUS_QUOTA_EXCEEDED);
        Seen = 1;
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Seen = _exception_code();
    }
    CHECK(Seen == STATUS_QUOTA_EXCEEDED);
    __try {
        ExRaiseAccessViolation();
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Seen = _exception_code();
    }
    CHECK(Seen == STATUS_ACCESS_VIOLATION);
    __try {
        ExRaiseDatatypeMisalignment();
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Seen = _exception_code();
    }
    CHECK(Seen == STATUS_DATATYPE_MISALIGNMENT);
    return STATUS_SUCCESS;
}

/* What lives in registers that functions keep is there again in the handler. */
APART static ULONG64 Mixed(ULONG64 A, ULONG64 B, ULONG64 C, ULONG64 D, volatile ULONG64 *Bits) {
    ULONG64 E = A * 3 + *Bits, F = B * 5 + *Bits, G = C * 7 + *Bits, H = D * 11 + *Bits;
    double X = (double)A * 1.5, Y = (double)B * 2.5, Z = (double)C * 3.5;
    __try {
        Raise(STATUS_UNSUCCESSFUL);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
    }
    return A + B + C + D + E + F + G + H + (ULONG64)X + (ULONG64)Y + (ULONG64)Z;
}

BEHAVIOUR(kept_registers_are_restored) {
    volatile ULONG64 Bits = 1;
    UNREFERENCED_PARAMETER(Call);
    CHECK(Mixed(2, 4, 6, 8, &Bits) == 20 + 7 + 21 + 43 + 89 + 3 + 10 + 21);
    return STATUS_SUCCESS;
}

static int NTAPI Examine(PEXCEPTION_POINTERS Pointers, ULONG_PTR *Information, PVOID *Address) {
    Information[0] = Pointers->ExceptionRecord->NumberParameters;
    Information[1] = Pointers->ExceptionRecord->ExceptionInformation[0];
    Information[2] = Pointers->ExceptionRecord->ExceptionInformation[1];
    *Address = Pointers->ExceptionRecord->ExceptionAddress;
    return Pointers->ContextRecord->Rip == (ULONG_PTR)*Address ? EXCEPTION_EXECUTE_HANDLER : EXCEPTION_CONTINUE_SEARCH;
}

BEHAVIOUR(user_addresses_that_are_bad_raise_access_violations) {
    ULONG_PTR Information[3] = {0};
    PVOID Address = NULL;
    UNREFERENCED_PARAMETER(Call);
    __try {
        Load(NOTHING_THERE);
        return STATUS_UNSUCCESSFUL;
    } __except (Examine(_exception_info(), Information, &Address)) {
    }
    CHECK(Information[0] == 2 && Information[1] == 0 && Information[2] == (ULONG_PTR)NOTHING_THERE);
    CHECK(Address != NULL);
    __try {
        Store(NOTHING_THERE);
        return STATUS_UNSUCCESSFUL;
    } __except (Examine(_exception_info(), Information, &Address)) {
    }
    CHECK(Information[1] == 1 && Information[2] == (ULONG_PTR)NOTHING_THERE);
    return STATUS_SUCCESS;
}

BEHAVIOUR(copies_from_bad_user_addresses_raise_access_violations) {
    UCHAR Buffer[64];
    volatile SIZE_T Length = sizeof(Buffer);
    volatile BOOLEAN Caught = FALSE;
    UNREFERENCED_PARAMETER(Call);
    __try {
        RtlCopyMemory(Buffer, (PVOID)NOTHING_THERE, Length);
    } __except (_exception_code() == STATUS_ACCESS_VIOLATION ? EXCEPTION_EXECUTE_HANDLER : EXCEPTION_CONTINUE_SEARCH) {
        Caught = TRUE;
    }
    CHECK(Caught);
    return STATUS_SUCCESS;
}

BEHAVIOUR(calls_of_bad_user_addresses_raise_access_violations) {
    VOID(NTAPI * volatile Nobody)(VOID) = (PVOID)NOTHING_THERE;
    volatile BOOLEAN Caught = FALSE;
    UNREFERENCED_PARAMETER(Call);
    __try {
        Nobody();
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Caught = TRUE;
    }
    CHECK(Caught);
    return STATUS_SUCCESS;
}

BEHAVIOUR(division_by_zero_is_caught) {
    volatile int Zero = 0, One = 1;
    volatile NTSTATUS Seen = 0;
    UNREFERENCED_PARAMETER(Call);
    __try {
        One = Divide(One, &Zero);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Seen = _exception_code();
    }
    CHECK(Seen == STATUS_INTEGER_DIVIDE_BY_ZERO);
    return STATUS_SUCCESS;
}

BEHAVIOUR(probes_and_locks_raise) {
    volatile ULONG Caught = 0;
    PMDL Mdl;
    UNREFERENCED_PARAMETER(Call);
    __try {
        ProbeForRead((PVOID)(ULONG_PTR)0xFFFF800000000000, 8, 1);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Caught += _exception_code() == STATUS_ACCESS_VIOLATION;
    }
    __try {
        ProbeForRead((PVOID)(ULONG_PTR)0x10001, 8, 4);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Caught += _exception_code() == STATUS_DATATYPE_MISALIGNMENT;
    }
    __try {
        ProbeForWrite((PVOID)NOTHING_THERE, 8, 1);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Caught += _exception_code() == STATUS_ACCESS_VIOLATION;
    }
    Mdl = IoAllocateMdl((PVOID)NOTHING_THERE, 100, FALSE, FALSE, NULL);
    CHECK(Mdl != NULL);
    __try {
        MmProbeAndLockPages(Mdl, UserMode, IoWriteAccess);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Caught += _exception_code() == STATUS_ACCESS_VIOLATION;
    }
    IoFreeMdl(Mdl);
    CHECK(Caught == 4);
    return STATUS_SUCCESS;
}

/* Digits in the order in which things happened. */
static volatile ULONG Order;
APART static int NTAPI Note(ULONG Digit, int Answer) {
    Order = Order * 10 + Digit;
    return Answer;
}

APART static VOID RaiseInside(VOID) {
    __try {
        __try {
            Raise(STATUS_UNSUCCESSFUL);
            /* Clang's scopes meet at the return address of a call that another follows at once. */
            Order = 0;
        } __finally {
            Note(4, 0);
        }
    } __except (Note(1, EXCEPTION_CONTINUE_SEARCH)) {
        Note(9, 0);
    }
}

BEHAVIOUR(filters_are_asked_first_and_then_frames_are_unwound) {
    volatile BOOLEAN Abnormal = FALSE;
    UNREFERENCED_PARAMETER(Call);
    Order = 0;
    __try {
        __try {
            __try {
                RaiseInside();
            } __finally {
                Abnormal = _abnormal_termination() != 0;
                Note(5, 0);
            }
        } __except (Note(2, EXCEPTION_CONTINUE_SEARCH)) {
            Note(9, 0);
        }
    } __except (Note(3, EXCEPTION_EXECUTE_HANDLER)) {
        Note(6, 0);
    }
    CHECK(Order == 123456);
    CHECK(Abnormal);
    return STATUS_SUCCESS;
}

APART static int RaiseAndCatch(NTSTATUS Status) {
    volatile NTSTATUS Seen = 0;
    __try {
        Raise(Status);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Seen = _exception_code();
    }
    return Seen == Status ? Note(7, EXCEPTION_EXECUTE_HANDLER) : EXCEPTION_CONTINUE_SEARCH;
}

BEHAVIOUR(exceptions_in_handlers_and_filters_go_on_outside) {
    volatile NTSTATUS Seen = 0;
    UNREFERENCED_PARAMETER(Call);
    Order = 0;
    __try {
        __try {
            Raise(STATUS_UNSUCCESSFUL);
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            Note(1, 0);
            Raise(STATUS_DATA_ERROR);
        }
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Seen = _exception_code();
    }
    CHECK(Seen == STATUS_DATA_ERROR && Order == 1);
    /* One raised in a termination handler takes the place of the first. */
    __try {
        __try {
            __try {
                Raise(STATUS_UNSUCCESSFUL);
            } __finally {
                Note(2, 0);
                Raise(STATUS_IN_PAGE_ERROR);
            }
        } __finally {
            Note(3, 0);
        }
    } __except (EXCEPTION_EXECUTE_HANDLER) {
        Seen = _exception_code();
    }
    CHECK(Seen == STATUS_IN_PAGE_ERROR && Order == 123);
    /* A filter may raise what it catches itself. */
    __try {
        Raise(STATUS_UNSUCCESSFUL);
    } __except (RaiseAndCatch(STATUS_DISK_FULL)) {
        Seen = _exception_code();
    }
    CHECK(Seen == STATUS_UNSUCCESSFUL && Order == 1237);
    return STATUS_SUCCESS;
}

static int NTAPI Repair(PEXCEPTION_POINTERS Pointers, volatile ULONG **Address, volatile ULONG *Good) {
    UNREFERENCED_PARAMETER(Address);
    /* The register that holds the bad address: the first argument's. */
    if (Pointers->ContextRecord->Rcx != (ULONG_PTR)NOTHING_THERE)
        return EXCEPTION_CONTINUE_SEARCH;
    Pointers->ContextRecord->Rcx = (ULONG_PTR)Good;
    return EXCEPTION_CONTINUE_EXECUTION;
}

BEHAVIOUR(a_filter_can_mend_and_go_on) {
    volatile ULONG Good = 77;
    volatile ULONG *Bad = NOTHING_THERE;
    volatile ULONG Read = 0;
    UNREFERENCED_PARAMETER(Call);
    __try {
        Read = Load(Bad);
    } __except (Repair(_exception_info(), &Bad, &Good)) {
        return STATUS_UNSUCCESSFUL;
    }
    CHECK(Read == 77);
    return STATUS_SUCCESS;
}

APART static ULONG Deep(ULONG Depth) {
    volatile UCHAR Room[256];
    Room[Depth] = (UCHAR)Depth;
    if (Depth == 0)
        Raise(STATUS_UNSUCCESSFUL);
    return Deep(Depth - 1) + Room[Depth];
}

BEHAVIOUR(exceptions_cross_many_frames_and_come_often) {
    volatile ULONG Caught = 0;
    ULONG Round;
    UNREFERENCED_PARAMETER(Call);
    for (Round = 0; Round < 1000; Round++) {
        __try {
            Deep(Round % 20);
        } __except (EXCEPTION_EXECUTE_HANDLER) {
            Caught++;
        }
    }
    CHECK(Caught == 1000);
    return STATUS_SUCCESS;
}

BEHAVIOUR(nobody_catches_a_raised_status) {
    if (Call->Wrong)
        ExRaiseStatus(STATUS_QUOTA_EXCEEDED);
    return STATUS_SUCCESS;
}

BEHAVIOUR(nobody_catches_an_access_violation) {
    __try {
        if (Call->Wrong)
            *NOTHING_THERE = 1;
    } __finally {
        Note(1, 0);
    }
    return STATUS_SUCCESS;
}

BEHAVIOUR(bad_kernel_addresses_are_not_caught) {
    if (!Call->Wrong)
        return STATUS_SUCCESS;
    __try {
        Load((volatile ULONG *)(ULONG_PTR)0xFFFF800000001000);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
    }
    return STATUS_SUCCESS;
}

BEHAVIOUR(bad_user_addresses_are_not_caught_at_dispatch_level) {
    KIRQL Old;
    if (!Call->Wrong)
        return STATUS_SUCCESS;
    KeRaiseIrql(DISPATCH_LEVEL, &Old);
    __try {
        Load(NOTHING_THERE);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
    }
    KeLowerIrql(Old);
    return STATUS_SUCCESS;
}

BEHAVIOUR(freed_memory_is_not_caught) {
    volatile ULONG *Block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, TAG);
    CHECK(Block != NULL);
    ExFreePoolWithTag((PVOID)Block, TAG);
    __try {
        if (Call->Wrong)
            Load(Block);
    } __except (EXCEPTION_EXECUTE_HANDLER) {
    }
    return STATUS_SUCCESS;
}

BEHAVIOUR(a_filter_goes_on_after_what_cannot_be_continued) {
    __try {
        if (Call->Wrong)
            Raise(STATUS_UNSUCCESSFUL);
    } __except (EXCEPTION_CONTINUE_EXECUTION) {
    }
    return STATUS_SUCCESS;
}

static const ROW Rows[] = {
    ROW_OF(raised_statuses_are_caught),
    ROW_OF(kept_registers_are_restored),
    ROW_OF(user_addresses_that_are_bad_raise_access_violations),
    ROW_OF(copies_from_bad_user_addresses_raise_access_violations),
    ROW_OF(calls_of_bad_user_addresses_raise_access_violations),
    ROW_OF(division_by_zero_is_caught),
    ROW_OF(probes_and_locks_raise),
    ROW_OF(filters_are_asked_first_and_then_frames_are_unwound),
    ROW_OF(exceptions_in_handlers_and_filters_go_on_outside),
    ROW_OF(a_filter_can_mend_and_go_on),
    ROW_OF(exceptions_cross_many_frames_and_come_often),
    ROW_OF(nobody_catches_a_raised_status),
    ROW_OF(nobody_catches_an_access_violation),
    ROW_OF(bad_kernel_addresses_are_not_caught),
    ROW_OF(bad_user_addresses_are_not_caught_at_dispatch_level),
    ROW_OF(freed_memory_is_not_caught),
    ROW_OF(a_filter_goes_on_after_what_cannot_be_continued),
    {NULL, NULL},
};
static NTSTATUS (*const AtEntry)(PDRIVER_OBJECT) = NULL;
static VOID (*const AtUnload)(VOID) = NULL;
