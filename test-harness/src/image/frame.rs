//! One step up a stack by a function's unwind information (.pdata and .xdata), as RtlVirtualUnwind does it.
//!
//! It allocates nothing and reads only the given stack and the images' tables: a signal handler may use it.
#![allow(unsafe_code)] // reads the stack

use super::Mapped;

/// The registers that unwinding needs, numbered as in UNWIND_CODE; `None` where the value is not known.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    pub(crate) rip: usize,
    pub(crate) general: [Option<usize>; 16],
    /// XMM0 to XMM15.
    pub(crate) vectors: [u128; 16],
}

pub(crate) const RSP: usize = 4;

/// The general registers of a signal's context, numbered as in UNWIND_CODE.
pub(crate) const SIGNAL_ORDER: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

impl Registers {
    pub(crate) fn from_signal(registers: &[i64; 23]) -> Self {
        let value = |register: i32| registers[register as usize].cast_unsigned() as usize;
        let general = SIGNAL_ORDER.map(|register| Some(value(register)));
        Self { rip: value(libc::REG_RIP), general, vectors: [0; 16] }
    }

    /// The caller's registers at a call whose return address lies at `stack`; only the stack pointer is known.
    pub(crate) fn at_call(rip: usize, stack: usize) -> Self {
        let mut general = [None; 16];
        general[RSP] = Some(stack);
        Self { rip, general, vectors: [0; 16] }
    }

    pub(crate) fn stack(&self) -> usize {
        self.general[RSP].unwrap_or(0)
    }

    /// Returns from the function whose return address is on top of the stack.
    fn leave(&mut self, stack: &Stack) -> Option<()> {
        let at = self.general[RSP]?;
        self.rip = stack.read(at)?;
        self.general[RSP] = Some(at + 8);
        Some(())
    }

    fn pop(&mut self, register: usize, stack: &Stack) -> Option<()> {
        let at = self.general[RSP]?;
        self.general[register] = Some(stack.read(at)?);
        if register != RSP {
            self.general[RSP] = Some(at + 8);
        }
        Some(())
    }
}

/// The part of a stack that may be read.
pub(crate) struct Stack {
    pub(crate) low: usize,
    pub(crate) high: usize,
}

impl Stack {
    pub(crate) fn read(&self, address: usize) -> Option<usize> {
        let inside = address >= self.low && address.checked_add(8)? <= self.high && address.is_multiple_of(8);
        inside.then(|| {
            let word: usize;
            // Not a read of Rust's: these are other functions' frames, parts of which an address sanitizer keeps from everybody.
            // SAFETY: between the stack pointer and the thread's entry into kernel mode the stack is mapped.
            unsafe {
                std::arch::asm!("mov {}, [{}]", out(reg) word, in(reg) address, options(nostack, readonly, preserves_flags));
            }
            word
        })
    }
}

/// UNW_FLAG_EHANDLER: the handler is to be asked when an exception is dispatched.
pub(crate) const EXCEPTION_HANDLER: u8 = 1;
/// UNW_FLAG_UHANDLER: the handler is to be called when the frame is unwound.
pub(crate) const UNWIND_HANDLER: u8 = 2;
/// UNW_FLAG_CHAININFO: the entry goes on with that of another part of the function.
const CHAINED: u8 = 4;

/// The language handler of a function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handler {
    /// Of [`EXCEPTION_HANDLER`] and [`UNWIND_HANDLER`].
    pub(crate) flags: u8,
    pub(crate) routine: usize,
    /// The language's own data behind the unwind information.
    pub(crate) data: usize,
}

/// What a step tells of the frame that it has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// What the frame is known by (EstablisherFrame).
    pub(crate) establisher: usize,
    /// The function's handler, if control was in its body.
    pub(crate) handler: Option<Handler>,
}

/// Goes from a function to its caller. `None` if its tables or a register it needs are not there.
pub(crate) fn step(image: &Mapped, registers: &mut Registers, stack: &Stack) -> Option<Frame> {
    let rva = u32::try_from(registers.rip.wrapping_sub(image.base())).ok()?;
    let Some(function) = image.runtime_function(rva) else {
        let establisher = registers.general[RSP]?;
        registers.leave(stack)?;
        return Some(Frame { establisher, handler: None });
    };
    let mut info = Info::read(image, function)?;
    let mut offset = rva - function[0];
    let establisher = info.establisher(offset, registers)?;
    if let Some(epilogue) = epilogue(image, rva, function, &info) {
        epilogue.finish(registers, stack)?;
        return Some(Frame { establisher, handler: None });
    }
    while let Some(parent) = info.undo(establisher, offset, registers, stack)? {
        // A chained entry's parent has run its whole prologue.
        offset = u32::MAX;
        info = Info::read(image, parent)?;
    }
    registers.leave(stack)?;
    let handler = if offset >= info.prologue { info.handler() } else { None };
    Some(Frame { establisher, handler })
}

/// An UNWIND_INFO.
struct Info<'a> {
    image: &'a Mapped,
    rva: u32,
    flags: u8,
    /// Bytes of the prologue.
    prologue: u32,
    /// UNWIND_CODE slots.
    count: u32,
    frame_register: usize,
    frame_offset: usize,
}

/// An operation of an UNWIND_CODE, with its slots.
struct Code {
    /// Where in the prologue it has been done.
    offset: u32,
    operation: u8,
    argument: usize,
    at: u32,
    slots: u32,
}

/// UWOP_SET_FPREG.
const SET_FRAME_REGISTER: u8 = 3;

impl<'a> Info<'a> {
    fn read(image: &'a Mapped, function: [u32; 3]) -> Option<Self> {
        let rva = function[2];
        let byte = |at: u32| image.byte(rva.checked_add(at)?);
        Some(Self {
            image,
            rva,
            flags: byte(0)? >> 3,
            prologue: byte(1)?.into(),
            count: byte(2)?.into(),
            frame_register: usize::from(byte(3)? & 15),
            frame_offset: usize::from(byte(3)? >> 4) * 16,
        })
    }

    fn byte(&self, at: u32) -> Option<u8> {
        self.image.byte(self.rva.checked_add(at)?)
    }

    fn word(&self, at: u32) -> Option<usize> {
        Some(usize::from(u16::from_le_bytes([self.byte(at)?, self.byte(at + 1)?])))
    }

    fn long(&self, at: u32) -> Option<usize> {
        Some(self.word(at)? | self.word(at + 2)? << 16)
    }

    fn code(&self, index: u32) -> Option<Code> {
        let at = 4 + 2 * index;
        let (operation, argument) = (self.byte(at + 1)? & 15, usize::from(self.byte(at + 1)? >> 4));
        let slots = match (operation, argument) {
            (1, 0) | (4 | 8, _) => 2,
            (1 | 5 | 9, _) => 3,
            _ => 1,
        };
        Some(Code { offset: self.byte(at)?.into(), operation, argument, at, slots })
    }

    /// What the frame is known by: the stack pointer of the body, or where the frame register points.
    fn establisher(&self, offset: u32, registers: &Registers) -> Option<usize> {
        let stack = registers.general[RSP];
        if self.frame_register == 0 {
            return stack;
        }
        let mut is_set = offset >= self.prologue || self.flags & CHAINED != 0;
        let mut index = 0;
        while !is_set && index < self.count {
            let code = self.code(index)?;
            is_set = code.operation == SET_FRAME_REGISTER && offset >= code.offset;
            index += code.slots;
        }
        if is_set { registers.general[self.frame_register]?.checked_sub(self.frame_offset) } else { stack }
    }

    /// Undoes the operations; the chained parent's entry, if there is one.
    #[allow(clippy::option_option)] // none: unreadable; some none: the walk goes on without a parent
    fn undo(
        &self,
        establisher: usize,
        offset: u32,
        registers: &mut Registers,
        stack: &Stack,
    ) -> Option<Option<[u32; 3]>> {
        let mut index = 0;
        while index < self.count {
            let code = self.code(index)?;
            if code.offset <= offset {
                self.undo_one(&code, establisher, registers, stack)?;
            }
            index += code.slots;
        }
        if self.flags & CHAINED == 0 {
            return Some(None);
        }
        let parent = 4 + 2 * self.count.next_multiple_of(2);
        let field = |at: u32| u32::try_from(self.long(parent + at)?).ok();
        Some(Some([field(0)?, field(4)?, field(8)?]))
    }

    fn undo_one(&self, code: &Code, establisher: usize, registers: &mut Registers, stack: &Stack) -> Option<()> {
        let rsp = registers.general[RSP]?;
        let next = code.at + 2;
        let saved_vector = |at: usize| Some(stack.read(at)? as u128 | (stack.read(at + 8)? as u128) << 64);
        match (code.operation, code.argument) {
            (0, register) => registers.pop(register, stack)?,
            (1, 0) => registers.general[RSP] = Some(rsp + self.word(next)? * 8),
            (1, _) => registers.general[RSP] = Some(rsp + self.long(next)?),
            (2, size) => registers.general[RSP] = Some(rsp + size * 8 + 8),
            (SET_FRAME_REGISTER, _) => {
                registers.general[RSP] = Some(registers.general[self.frame_register]?.checked_sub(self.frame_offset)?);
            }
            (4, register) => registers.general[register] = Some(stack.read(establisher + self.word(next)? * 8)?),
            (5, register) => registers.general[register] = Some(stack.read(establisher + self.long(next)?)?),
            (8, register) => registers.vectors[register] = saved_vector(establisher + self.word(next)? * 16)?,
            (9, register) => registers.vectors[register] = saved_vector(establisher + self.long(next)?)?,
            // An epilogue's place, which the instructions themselves show.
            (6, _) => {}
            _ => return None,
        }
        Some(())
    }

    fn handler(&self) -> Option<Handler> {
        let flags = self.flags & (EXCEPTION_HANDLER | UNWIND_HANDLER);
        if flags == 0 || self.flags & CHAINED != 0 {
            return None;
        }
        let at = 4 + 2 * self.count.next_multiple_of(2);
        let base = self.image.base();
        Some(Handler { flags, routine: base + self.long(at)?, data: base + (self.rva + at + 4) as usize })
    }
}

/// The most registers that an epilogue restores.
const POPS: usize = 16;

/// What is left of an epilogue that control is in.
struct Epilogue {
    restored: StackPointer,
    pops: [usize; POPS],
    count: usize,
}

/// How the epilogue gives the frame's memory back.
#[derive(Clone, Copy)]
enum StackPointer {
    /// It has done so.
    Stays,
    /// `add rsp, n`.
    Plus(usize),
    /// `lea rsp, [register + n]`.
    Register(usize, isize),
}

impl Epilogue {
    fn finish(&self, registers: &mut Registers, stack: &Stack) -> Option<()> {
        let rsp = registers.general[RSP]?;
        registers.general[RSP] = Some(match self.restored {
            StackPointer::Stays => rsp,
            StackPointer::Plus(size) => rsp + size,
            StackPointer::Register(register, offset) => registers.general[register]?.wrapping_add_signed(offset),
        });
        for register in &self.pops[..self.count] {
            registers.pop(*register, stack)?;
        }
        registers.leave(stack)
    }
}

/// The epilogue that control is in: what an epilogue may consist of, to a return or a jump out of the function.
fn epilogue(image: &Mapped, rva: u32, function: [u32; 3], info: &Info<'_>) -> Option<Epilogue> {
    let byte = |at: u32| image.byte(at);
    let long = |at: u32| Some(i32::from_le_bytes([byte(at)?, byte(at + 1)?, byte(at + 2)?, byte(at + 3)?]));
    let mut at = rva;
    let mut restored = StackPointer::Stays;
    match (byte(at)?, byte(at + 1)?, byte(at + 2)?) {
        (0x48, 0x83, 0xc4) => {
            restored = StackPointer::Plus(byte(at + 3)?.into());
            at += 4;
        }
        (0x48, 0x81, 0xc4) => {
            restored = StackPointer::Plus(usize::try_from(long(at + 3)?).ok()?);
            at += 7;
        }
        (rex @ (0x48 | 0x49), 0x8d, modrm) => {
            let register = usize::from(rex & 1) << 3 | usize::from(modrm & 7);
            if register != 0 && register == info.frame_register {
                if modrm & 0xf8 == 0x60 {
                    restored = StackPointer::Register(register, byte(at + 3)?.cast_signed().into());
                    at += 4;
                } else if modrm & 0xf8 == 0xa0 {
                    restored = StackPointer::Register(register, long(at + 3)? as isize);
                    at += 7;
                }
            }
        }
        _ => {}
    }
    let (mut pops, mut count) = ([0; POPS], 0);
    while count < POPS {
        let (register, size) = match (byte(at)?, byte(at + 1)?) {
            (one, _) if one & 0xf8 == 0x58 => (one & 7, 1),
            (rex, two) if rex & 0xf0 == 0x40 && two & 0xf8 == 0x58 => ((rex & 1) << 3 | two & 7, 2),
            _ => break,
        };
        pops[count] = register.into();
        count += 1;
        at += size;
    }
    let leaves = |target: i64| u32::try_from(target).is_ok_and(|target| leaves(image, target, function, info));
    let ends = match (byte(at)?, byte(at + 1)?) {
        (0xc3 | 0xc2, _) | (0xf3, 0xc3) | (0xff, 0x25) => true,
        (0xeb, offset) => leaves(i64::from(at) + 2 + i64::from(offset.cast_signed())),
        (0xe9, _) => leaves(i64::from(at) + 5 + i64::from(long(at + 1)?)),
        (0x48, 0xff) => byte(at + 2)? & 0x38 == 0x20,
        _ => false,
    };
    ends.then_some(Epilogue { restored, pops, count })
}

/// Whether a jump ends the function: it goes to the start of a function, and not to another part of the same one.
fn leaves(image: &Mapped, target: u32, function: [u32; 3], info: &Info<'_>) -> bool {
    if (function[0]..function[1]).contains(&target) {
        return target == function[0] && info.flags & CHAINED == 0;
    }
    let Some(other) = image.runtime_function(target) else { return true };
    other[0] == target && Info::read(image, other).is_some_and(|other| other.flags & CHAINED == 0)
}
