//! Code made at run time: the way from a driver's import slot to the function that provides it.
#![allow(unsafe_code)] // reads the thread pointer

use std::arch::asm;
use std::io;

use crate::memory::{Access, Mapping};
use crate::thread::DRIVER_STACK;

/// Bytes of one thunk.
const SLOT: usize = 48;

/// A page range of thunks, writable until it is sealed.
#[derive(Debug)]
pub(crate) struct Thunks {
    code: Mapping,
    used: usize,
}

impl Thunks {
    /// Room for `count` thunks.
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        Ok(Self { code: Mapping::new((count * SLOT).max(1), Access::ReadWrite)?, used: 0 })
    }

    /// A way into `function` that first notes the caller's stack pointer, from which backtraces start.
    pub(crate) fn entry(&mut self, function: usize) -> usize {
        let mut code = note_stack();
        code.extend([0x48, 0xb8]); // mov rax, imm64
        code.extend((function as u64).to_le_bytes());
        code.extend([0xff, 0xe0]); // jmp rax: the driver's return address stays on top
        self.add(&code)
    }

    /// As [`Self::entry`], for functions whose argument is in rax (`__chkstk`): nothing but the jump.
    pub(crate) fn jump(&mut self, function: usize) -> usize {
        let mut code = vec![0xff, 0x25, 0, 0, 0, 0]; // jmp [rip + 0]
        code.extend((function as u64).to_le_bytes());
        self.add(&code)
    }

    /// A way to `handler(name, length)` for a name that nothing provides.
    pub(crate) fn missing(&mut self, name: &'static str, handler: extern "win64" fn(*const u8, usize) -> !) -> usize {
        let mut code = note_stack();
        code.extend([0x48, 0xb9]); // mov rcx, imm64
        code.extend((name.as_ptr() as u64).to_le_bytes());
        code.push(0xba); // mov edx, imm32
        code.extend(u32::try_from(name.len()).expect("import names are short").to_le_bytes());
        code.extend([0x48, 0xb8]); // mov rax, imm64
        code.extend((handler as *const () as u64).to_le_bytes());
        code.extend([0xff, 0xe0]);
        self.add(&code)
    }

    fn add(&mut self, code: &[u8]) -> usize {
        assert!(code.len() <= SLOT, "a thunk fits its slot");
        self.code.write(self.used, code);
        self.used += SLOT;
        self.code.base() + self.used - SLOT
    }

    /// Makes the thunks executable, and no longer writable.
    pub(crate) fn seal(self) -> io::Result<Sealed> {
        self.code.protect(0, self.code.len(), Access::ReadExecute)?;
        Ok(Sealed { _code: self.code })
    }
}

/// Finished thunks; they live as long as this.
#[derive(Debug)]
pub(crate) struct Sealed {
    _code: Mapping,
}

/// `mov fs:[offset of DRIVER_STACK], rsp`
fn note_stack() -> Vec<u8> {
    let thread: usize;
    // SAFETY: on x86-64 Linux the thread pointer is stored at its own start, fs:0.
    unsafe { asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly, preserves_flags)) };
    let offset = DRIVER_STACK.with(|cell| (cell.as_ptr() as usize).wrapping_sub(thread).cast_signed());
    let offset = i32::try_from(offset).expect("the program's own thread-local block lies beside the thread pointer");
    let mut code = vec![0x64, 0x48, 0x89, 0x24, 0x25];
    code.extend(offset.to_le_bytes());
    code
}
