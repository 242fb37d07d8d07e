//! Backtraces of a driver, exact by its unwind tables (.pdata and .xdata, as RtlVirtualUnwind reads them).
//!
//! Frames of the harness between two routines of a driver have no such tables; there the walk looks for the next word that is
//! a return address into an image. It allocates nothing and reads only the given stack: a signal handler may use it.
#![allow(unsafe_code)] // reads the stack and the images' tables

use super::frame::{Registers, Stack, step};
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

/// Whether the innermost frame is of an image that is part of Windows.
pub(crate) fn is_in_system(site: Site) -> bool {
    registry::find(site[0]).is_some_and(|image| image.is_system())
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
    walk_from(*registers, &stack, backtrace, Backtrace::MAXIMUM, false);
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
