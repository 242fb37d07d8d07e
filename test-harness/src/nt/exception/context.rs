//! CONTEXT: all registers of a point of execution, from the processor and back to it.
#![allow(unsafe_code)] // reads and loads registers

use std::arch::naked_asm;
use std::mem::offset_of;

use crate::image::frame::{RSP, Registers, SIGNAL_ORDER};
use crate::thread::{DRIVER_REGISTERS, DRIVER_STACK, DriverRegisters};

/// Of the parts of a context: integer and control registers, and those for floating point (CONTEXT_FULL of AMD64).
const CONTEXT_FULL: u32 = 0x0010_000b;
/// Selectors of Windows' kernel.
const KERNEL_CODE: u16 = 0x10;
const KERNEL_STACK: u16 = 0x18;
/// EFLAGS while nothing is compared: interrupts are on.
const INTERRUPTS: u32 = 0x202;
/// MXCSR as a thread begins.
const DEFAULT_MXCSR: u32 = 0x1f80;

/// CONTEXT (winnt.h; x64). General registers are numbered as in instructions.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct CONTEXT {
    home: [usize; 6],
    pub(crate) ContextFlags: u32,
    pub(crate) MxCsr: u32,
    /// SegCs to SegSs.
    segments: [u16; 6],
    pub(crate) EFlags: u32,
    debug: [usize; 6],
    /// Rax to R15.
    pub(crate) general: [usize; 16],
    pub(crate) Rip: usize,
    /// The head of XMM_SAVE_AREA32, of which MxCsr is used.
    float_head: [u32; 8],
    float_registers: [u128; 8],
    /// Xmm0 to Xmm15.
    pub(crate) vectors: [u128; 16],
    float_reserved: [u8; 96],
    vector_register: [u128; 26],
    vector_and_branch: [usize; 6],
}

/// MxCsr and its mask in XMM_SAVE_AREA32, in words.
const FLOAT_MXCSR: usize = 6;

impl CONTEXT {
    pub(crate) const ZERO: Self = Self {
        home: [0; 6],
        ContextFlags: CONTEXT_FULL,
        MxCsr: DEFAULT_MXCSR,
        segments: [KERNEL_CODE, 0, 0, 0, 0, KERNEL_STACK],
        EFlags: INTERRUPTS,
        debug: [0; 6],
        general: [0; 16],
        Rip: 0,
        float_head: [0; 8],
        float_registers: [0; 8],
        vectors: [0; 16],
        float_reserved: [0; 96],
        vector_register: [0; 26],
        vector_and_branch: [0; 6],
    };

    pub(crate) fn stack(&self) -> usize {
        self.general[RSP]
    }

    /// What a signal has interrupted.
    pub(crate) fn of_signal(signal: &libc::ucontext_t) -> Self {
        let registers = &signal.uc_mcontext.gregs;
        let value = |register: i32| registers[register as usize].cast_unsigned() as usize;
        let mut context = Self::ZERO;
        context.general = SIGNAL_ORDER.map(value);
        context.Rip = value(libc::REG_RIP);
        context.EFlags = value(libc::REG_EFL) as u32;
        // SAFETY: null, or where the system has stored the floating point state of the signal's frame.
        if let Some(float) = unsafe { signal.uc_mcontext.fpregs.as_ref() } {
            for (vector, stored) in context.vectors.iter_mut().zip(&float._xmm) {
                let words = stored.element.map(u128::from);
                *vector = words[0] | words[1] << 32 | words[2] << 64 | words[3] << 96;
            }
            context.MxCsr = float.mxcsr;
        }
        context
    }

    /// The driver at the return from the import that it has called last; `None` if it has called none.
    pub(crate) fn of_driver_call() -> Option<Self> {
        let stack = DRIVER_STACK.get();
        if stack == 0 {
            return None;
        }
        let kept = DRIVER_REGISTERS.get();
        let mut context = Self::ZERO;
        for (register, value) in DriverRegisters::GENERAL.into_iter().zip(kept.general) {
            context.general[usize::from(register)] = value;
        }
        for (register, value) in DriverRegisters::VECTORS.into_iter().zip(kept.vectors) {
            context.vectors[usize::from(register)] = value;
        }
        // SAFETY: the driver's thread had its return address there when it called; its stack stays mapped.
        context.Rip = unsafe { (stack as *const usize).read() };
        context.general[RSP] = stack + 8;
        Some(context)
    }

    pub(crate) fn registers(&self) -> Registers {
        Registers { rip: self.Rip, general: self.general.map(Some), vectors: self.vectors }
    }

    /// Takes over what unwinding has found.
    pub(crate) fn set_registers(&mut self, registers: &Registers) {
        self.Rip = registers.rip;
        for (own, found) in self.general.iter_mut().zip(registers.general) {
            *own = found.unwrap_or(0);
        }
        self.vectors = registers.vectors;
    }

    /// Goes on there. The stack above its stack pointer must be that of live frames; those below are abandoned.
    pub(crate) unsafe fn resume(&self) -> ! {
        // SAFETY: as the caller promises.
        unsafe { load(self) }
    }
}

/// RtlCaptureContext: the caller's registers, with nothing changed.
#[unsafe(naked)]
pub(crate) extern "win64" fn RtlCaptureContext() {
    naked_asm!(
        "mov [rcx + {general}], rax",
        "mov [rcx + {general} + 8], rcx",
        "mov [rcx + {general} + 16], rdx",
        "mov [rcx + {general} + 24], rbx",
        "lea rax, [rsp + 8]",
        "mov [rcx + {general} + 32], rax",
        "mov [rcx + {general} + 40], rbp",
        "mov [rcx + {general} + 48], rsi",
        "mov [rcx + {general} + 56], rdi",
        "mov [rcx + {general} + 64], r8",
        "mov [rcx + {general} + 72], r9",
        "mov [rcx + {general} + 80], r10",
        "mov [rcx + {general} + 88], r11",
        "mov [rcx + {general} + 96], r12",
        "mov [rcx + {general} + 104], r13",
        "mov [rcx + {general} + 112], r14",
        "mov [rcx + {general} + 120], r15",
        "mov rax, [rsp]",
        "mov [rcx + {rip}], rax",
        "movups [rcx + {vectors}], xmm0",
        "movups [rcx + {vectors} + 16], xmm1",
        "movups [rcx + {vectors} + 32], xmm2",
        "movups [rcx + {vectors} + 48], xmm3",
        "movups [rcx + {vectors} + 64], xmm4",
        "movups [rcx + {vectors} + 80], xmm5",
        "movups [rcx + {vectors} + 96], xmm6",
        "movups [rcx + {vectors} + 112], xmm7",
        "movups [rcx + {vectors} + 128], xmm8",
        "movups [rcx + {vectors} + 144], xmm9",
        "movups [rcx + {vectors} + 160], xmm10",
        "movups [rcx + {vectors} + 176], xmm11",
        "movups [rcx + {vectors} + 192], xmm12",
        "movups [rcx + {vectors} + 208], xmm13",
        "movups [rcx + {vectors} + 224], xmm14",
        "movups [rcx + {vectors} + 240], xmm15",
        "stmxcsr [rcx + {mxcsr}]",
        "stmxcsr [rcx + {float_mxcsr}]",
        "mov dword ptr [rcx + {flags}], {full}",
        "pushfq",
        "pop rax",
        "mov [rcx + {eflags}], eax",
        "mov word ptr [rcx + {segments}], {code}",
        "mov word ptr [rcx + {segments} + 10], {stack}",
        "mov rax, [rcx + {general}]",
        "ret",
        general = const offset_of!(CONTEXT, general),
        rip = const offset_of!(CONTEXT, Rip),
        vectors = const offset_of!(CONTEXT, vectors),
        mxcsr = const offset_of!(CONTEXT, MxCsr),
        float_mxcsr = const offset_of!(CONTEXT, float_head) + 4 * FLOAT_MXCSR,
        flags = const offset_of!(CONTEXT, ContextFlags),
        eflags = const offset_of!(CONTEXT, EFlags),
        segments = const offset_of!(CONTEXT, segments),
        full = const CONTEXT_FULL,
        code = const KERNEL_CODE,
        stack = const KERNEL_STACK,
    )
}

/// Loads all registers. By `iretq`, which takes stack pointer and flags from memory of its own: nothing below the context's stack
/// pointer is written, where code of the System V ABI may keep values.
#[unsafe(naked)]
unsafe extern "sysv64" fn load(context: &CONTEXT) -> ! {
    naked_asm!(
        "mov eax, ss",
        "push rax",
        "push qword ptr [rdi + {general} + 32]",
        "mov eax, [rdi + {eflags}]",
        "push rax",
        "mov eax, cs",
        "push rax",
        "push qword ptr [rdi + {rip}]",
        "ldmxcsr [rdi + {mxcsr}]",
        "movups xmm0, [rdi + {vectors}]",
        "movups xmm1, [rdi + {vectors} + 16]",
        "movups xmm2, [rdi + {vectors} + 32]",
        "movups xmm3, [rdi + {vectors} + 48]",
        "movups xmm4, [rdi + {vectors} + 64]",
        "movups xmm5, [rdi + {vectors} + 80]",
        "movups xmm6, [rdi + {vectors} + 96]",
        "movups xmm7, [rdi + {vectors} + 112]",
        "movups xmm8, [rdi + {vectors} + 128]",
        "movups xmm9, [rdi + {vectors} + 144]",
        "movups xmm10, [rdi + {vectors} + 160]",
        "movups xmm11, [rdi + {vectors} + 176]",
        "movups xmm12, [rdi + {vectors} + 192]",
        "movups xmm13, [rdi + {vectors} + 208]",
        "movups xmm14, [rdi + {vectors} + 224]",
        "movups xmm15, [rdi + {vectors} + 240]",
        "mov rax, [rdi + {general}]",
        "mov rcx, [rdi + {general} + 8]",
        "mov rdx, [rdi + {general} + 16]",
        "mov rbx, [rdi + {general} + 24]",
        "mov rbp, [rdi + {general} + 40]",
        "mov rsi, [rdi + {general} + 48]",
        "mov r8, [rdi + {general} + 64]",
        "mov r9, [rdi + {general} + 72]",
        "mov r10, [rdi + {general} + 80]",
        "mov r11, [rdi + {general} + 88]",
        "mov r12, [rdi + {general} + 96]",
        "mov r13, [rdi + {general} + 104]",
        "mov r14, [rdi + {general} + 112]",
        "mov r15, [rdi + {general} + 120]",
        "mov rdi, [rdi + {general} + 56]",
        "iretq",
        general = const offset_of!(CONTEXT, general),
        rip = const offset_of!(CONTEXT, Rip),
        eflags = const offset_of!(CONTEXT, EFlags),
        vectors = const offset_of!(CONTEXT, vectors),
        mxcsr = const offset_of!(CONTEXT, MxCsr),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// As `tests/drivers/exceptions.c` has the compiler check against the headers.
    #[test]
    fn the_layout_is_that_of_the_headers() {
        assert_eq!(size_of::<CONTEXT>(), 1232);
        assert_eq!(offset_of!(CONTEXT, ContextFlags), 0x30);
        assert_eq!(offset_of!(CONTEXT, MxCsr), 0x34);
        assert_eq!(offset_of!(CONTEXT, segments), 0x38);
        assert_eq!(offset_of!(CONTEXT, EFlags), 0x44);
        assert_eq!(offset_of!(CONTEXT, general), 0x78);
        assert_eq!(offset_of!(CONTEXT, Rip), 0xf8);
        assert_eq!(offset_of!(CONTEXT, float_head), 0x100);
        assert_eq!(offset_of!(CONTEXT, vectors), 0x1a0);
        assert_eq!(offset_of!(CONTEXT, vector_register), 0x300);
    }

    /// What the kernel has captured goes on where it was captured: a second time.
    #[test]
    fn a_captured_context_can_be_resumed() {
        // Not in a register, which would be as it was when it was captured.
        static PASSES: AtomicUsize = AtomicUsize::new(0);
        let mut context = CONTEXT::ZERO;
        // SAFETY: the function stores the registers of its caller at its first argument.
        let capture: extern "win64" fn(*mut CONTEXT) = unsafe { std::mem::transmute(RtlCaptureContext as *const ()) };
        capture(&raw mut context);
        if PASSES.fetch_add(1, Ordering::SeqCst) == 0 {
            // SAFETY: this very frame is live.
            unsafe { context.resume() }
        }
        assert_eq!(PASSES.load(Ordering::SeqCst), 2);
    }
}
