//! Code made at run time: the way from a driver's import slot to the function that provides it.
#![allow(unsafe_code)] // reads the thread pointer

use std::arch::asm;
use std::io;
use std::mem::offset_of;

use crate::memory::{Access, Mapping};
use crate::thread::{DRIVER_REGISTERS, DRIVER_STACK, DriverRegisters};

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
        let note = note_registers();
        let used = note.len().next_multiple_of(SLOT);
        let mut code = Mapping::new(used + count * SLOT, Access::ReadWrite)?;
        code.write(0, &note);
        Ok(Self { code, used })
    }

    /// A way into `function` that first notes the caller's stack pointer, from which backtraces start, and the registers that the
    /// caller gets back, from which exceptions are dispatched.
    pub(crate) fn entry(&mut self, function: usize) -> usize {
        let mut code = vec![0x48, 0xb8]; // mov rax, imm64
        code.extend((function as u64).to_le_bytes());
        code.push(0xe9); // jmp rel32, to the notes: the driver's return address stays on top
        let end = self.used + code.len() + 4;
        let offset = i32::try_from(end).expect("thunks are near each other");
        code.extend((-offset).to_le_bytes());
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

/// Where a thread-local variable lies from the thread pointer: one of the program's own, at the same place in every thread.
fn thread_offset(variable: usize) -> i32 {
    let thread: usize;
    // SAFETY: on x86-64 Linux the thread pointer is stored at its own start, fs:0.
    unsafe { asm!("mov {}, fs:0", out(reg) thread, options(nostack, readonly, preserves_flags)) };
    let offset = variable.wrapping_sub(thread).cast_signed();
    i32::try_from(offset).expect("the program's own thread-local block lies beside the thread pointer")
}

/// `mov fs:[offset of DRIVER_STACK], rsp`
fn note_stack() -> Vec<u8> {
    const RSP: u8 = 4;
    note_general(RSP, DRIVER_STACK.with(|cell| thread_offset(cell.as_ptr() as usize)))
}

/// `mov fs:[offset], register`
fn note_general(register: u8, offset: i32) -> Vec<u8> {
    let rex = if register < 8 { 0x48 } else { 0x4c };
    let mut code = vec![0x64, rex, 0x89, (register & 7) << 3 | 4, 0x25];
    code.extend(offset.to_le_bytes());
    code
}

/// `movups fs:[offset], register`
fn note_vector(register: u8, offset: i32) -> Vec<u8> {
    let mut code = vec![0x64];
    if register >= 8 {
        code.push(0x44);
    }
    code.extend([0x0f, 0x11, (register & 7) << 3 | 4, 0x25]);
    code.extend(offset.to_le_bytes());
    code
}

/// Stores DRIVER_STACK and DRIVER_REGISTERS, and goes on to rax.
fn note_registers() -> Vec<u8> {
    let base = DRIVER_REGISTERS.with(|cell| thread_offset(cell.as_ptr() as usize));
    let at = |field: usize, size: usize, index: usize| {
        base + i32::try_from(field + size * index).expect("the structure is small")
    };
    let mut code = note_stack();
    for (index, register) in DriverRegisters::GENERAL.into_iter().enumerate() {
        code.extend(note_general(register, at(offset_of!(DriverRegisters, general), 8, index)));
    }
    for (index, register) in DriverRegisters::VECTORS.into_iter().enumerate() {
        code.extend(note_vector(register, at(offset_of!(DriverRegisters, vectors), 16, index)));
    }
    code.extend([0xff, 0xe0]); // jmp rax
    code
}
