//! Backtraces of a driver, exact by its unwind tables (.pdata and .xdata, as RtlVirtualUnwind reads them).
//!
//! Frames of the harness between two routines of a driver have no such tables; there the walk looks for the next word that is
//! a return address into an image. It allocates nothing and reads only the given stack: a signal handler may use it.
#![allow(unsafe_code)] // reads the stack and the images' tables

use super::{Mapped, registry};
use crate::thread::{Current, DRIVER_STACK, try_current};

/// Addresses of calls, innermost first.
#[derive(Clone, Copy)]
pub(crate) struct Backtrace {
    frames: [usize; Self::MAXIMUM],
    len: usize,
}

impl Backtrace {
    const MAXIMUM: usize = 32;
    pub(crate) const EMPTY: Self = Self { frames: [0; Self::MAXIMUM], len: 0 };

    pub(crate) fn frames(&self) -> &[usize] {
        &self.frames[..self.len]
    }

    /// False when it is full.
    fn push(&mut self, address: usize, limit: usize) -> bool {
        if self.len < limit.min(Self::MAXIMUM) {
            self.frames[self.len] = address;
            self.len += 1;
        }
        self.len < limit.min(Self::MAXIMUM)
    }
}

/// The registers that unwinding needs, numbered as in UNWIND_CODE; `None` where the value is not known.
pub(crate) struct Registers {
    rip: usize,
    general: [Option<usize>; 16],
}

const RSP: usize = 4;

impl Registers {
    pub(crate) fn from_context(registers: &[i64; 23]) -> Self {
        let order = [
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
        let value = |register: i32| registers[register as usize].cast_unsigned() as usize;
        Self { rip: value(libc::REG_RIP), general: order.map(|register| Some(value(register))) }
    }

    /// The caller's registers at a call whose return address lies at `stack`; only the stack pointer is known.
    fn at_call(rip: usize, stack: usize) -> Self {
        let mut general = [None; 16];
        general[RSP] = Some(stack);
        Self { rip, general }
    }

    fn stack(&self) -> usize {
        self.general[RSP].unwrap_or(0)
    }
}

/// The part of a stack that may be read.
struct Stack {
    low: usize,
    high: usize,
}

impl Stack {
    fn read(&self, address: usize) -> Option<usize> {
        let inside = address >= self.low && address.checked_add(8)? <= self.high && address.is_multiple_of(8);
        // SAFETY: between the stack pointer and the thread's entry into kernel mode the stack is mapped.
        inside.then(|| unsafe { (address as *const usize).read() })
    }
}

/// Frames kept of where the driver acquired something.
const SITE: usize = 6;
/// Where the driver acquired something: its innermost frames, and zeros.
pub(crate) type Site = [usize; SITE];
/// No driver did.
pub(crate) const NOWHERE: Site = [0; SITE];

/// Where the driver's call comes from.
pub(crate) fn site() -> Site {
    let mut frames = NOWHERE;
    if let Some(current) = try_current() {
        let mut backtrace = Backtrace::EMPTY;
        callers(current, &mut backtrace, SITE);
        frames[..backtrace.frames().len()].copy_from_slice(backtrace.frames());
    }
    frames
}

/// The frames that there are.
pub(crate) fn known(site: Site) -> Vec<usize> {
    site.into_iter().filter(|address| *address != 0).collect()
}

/// Keeps where the driver called the function that is running.
pub(crate) fn note_call(current: &Current) {
    let at = DRIVER_STACK.get();
    if at != 0 {
        // SAFETY: the driver's thread had its return address there when it called; its stack stays mapped.
        current.call_site.set(unsafe { (at as *const usize).read() });
    }
}

/// Where a routine that has returned made its last call.
pub(crate) fn from_site(site: usize, backtrace: &mut Backtrace) {
    if registry::find(site).is_some() {
        backtrace.push(site - 1, Backtrace::MAXIMUM);
    }
}

/// The driver frames from where the driver last called an import.
pub(crate) fn from_last_call(current: &Current, backtrace: &mut Backtrace) {
    callers(current, backtrace, Backtrace::MAXIMUM);
}

/// As [`from_last_call`], at most `limit` frames.
pub(crate) fn callers(current: &Current, backtrace: &mut Backtrace, limit: usize) {
    let at = DRIVER_STACK.get();
    if at == 0 {
        return; // the driver has called nothing yet
    }
    let stack = Stack { low: at, high: current.escape.get() };
    let Some(rip) = stack.read(at) else { return };
    walk_from(Registers::at_call(rip, at + 8), &stack, backtrace, limit, true);
}

/// All driver frames from a point of execution to the stack address `high`.
pub(crate) fn walk(registers: &Registers, high: usize, backtrace: &mut Backtrace) {
    let stack = Stack { low: registers.stack(), high };
    let registers = Registers { rip: registers.rip, general: registers.general };
    walk_from(registers, &stack, backtrace, Backtrace::MAXIMUM, false);
}

fn walk_from(mut registers: Registers, stack: &Stack, backtrace: &mut Backtrace, limit: usize, mut after_call: bool) {
    loop {
        match registry::find(registers.rip) {
            Some(image) => {
                // A return address may be the first byte of another line: the call before it is what is meant.
                if !backtrace.push(registers.rip - usize::from(after_call), limit) {
                    return;
                }
                let stepped = step(&image, &mut registers, stack);
                if stepped.is_none() && !scan(&mut registers, stack) {
                    return;
                }
            }
            None if !scan(&mut registers, stack) => return,
            None => {}
        }
        after_call = true;
    }
}

/// Goes up to the next word that is a return address into an image.
fn scan(registers: &mut Registers, stack: &Stack) -> bool {
    let mut at = registers.stack().next_multiple_of(8);
    while let Some(word) = stack.read(at) {
        at += 8;
        if registry::find(word).is_some_and(|image| follows_call(&image, word)) {
            *registers = Registers::at_call(word, at);
            return true;
        }
    }
    false
}

fn follows_call(image: &Mapped, address: usize) -> bool {
    let byte = |back: usize| image.code_byte(address.wrapping_sub(back));
    byte(5) == Some(0xe8)
        || byte(6) == Some(0xff) && byte(5) == Some(0x15)
        || (2..=7).any(|back| byte(back) == Some(0xff) && byte(back - 1).is_some_and(|modrm| modrm & 0x38 == 0x10))
}

/// Undoes one function's prologue. `None` if its tables or a register it needs are not there.
fn step(image: &Mapped, registers: &mut Registers, stack: &Stack) -> Option<()> {
    let rva = u32::try_from(registers.rip - image.base()).ok()?;
    if let Some([begin, _, info]) = image.runtime_function(rva) {
        let mut info = info;
        let mut offset = rva - begin;
        // A chained entry's parent has run its whole prologue.
        while let Some(parent) = undo(image, info, offset, registers, stack)? {
            info = parent;
            offset = u32::MAX;
        }
    }
    let at = registers.general[RSP]?;
    registers.rip = stack.read(at)?;
    registers.general[RSP] = Some(at + 8);
    Some(())
}

/// Undoes the unwind codes of one UNWIND_INFO; the chained parent's, if there is one.
#[allow(clippy::option_option)] // none: unreadable; some none: the walk goes on without a return address of its own
fn undo(image: &Mapped, info: u32, offset: u32, registers: &mut Registers, stack: &Stack) -> Option<Option<u32>> {
    const CHAINED: u8 = 4;
    let byte = |at: u32| image.byte(info + at);
    let word = |at: u32| Some(usize::from(u16::from_le_bytes([byte(at)?, byte(at + 1)?])));
    let long = |at: u32| Some(word(at)? | word(at + 2)? << 16);
    let (flags, count, frame) = (byte(0)? >> 3, u32::from(byte(2)?), byte(3)?);
    let frame_register = usize::from(frame & 15);
    let frame_base = |registers: &Registers| {
        let value = registers.general[if frame_register == 0 { RSP } else { frame_register }]?;
        Some(value - if frame_register == 0 { 0 } else { usize::from(frame >> 4) * 16 })
    };
    let mut index = 0;
    while index < count {
        let at = 4 + 2 * index;
        let (code_offset, operation, argument) =
            (u32::from(byte(at)?), byte(at + 1)? & 15, usize::from(byte(at + 1)? >> 4));
        let slots = match (operation, argument) {
            (1, 0) | (4 | 8, _) => 2,
            (1 | 5 | 9, _) => 3,
            _ => 1,
        };
        if code_offset <= offset {
            let rsp = registers.general[RSP]?;
            match operation {
                0 => {
                    registers.general[argument] = Some(stack.read(rsp)?);
                    registers.general[RSP] = Some(rsp + 8);
                }
                1 => registers.general[RSP] = Some(rsp + if argument == 0 { word(at + 2)? * 8 } else { long(at + 2)? }),
                2 => registers.general[RSP] = Some(rsp + argument * 8 + 8),
                3 => registers.general[RSP] = Some(frame_base(registers)?),
                4 => registers.general[argument] = Some(stack.read(frame_base(registers)? + word(at + 2)? * 8)?),
                5 => registers.general[argument] = Some(stack.read(frame_base(registers)? + long(at + 2)?)?),
                6 | 8 | 9 => {}
                _ => return None,
            }
        }
        index += slots;
    }
    if flags & CHAINED == 0 {
        return Some(None);
    }
    let parent = 4 + 2 * count.next_multiple_of(2);
    Some(Some(u32::try_from(long(parent + 8)?).ok()?))
}
