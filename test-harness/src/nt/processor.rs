//! What drivers read of their processor through GS (KPCR): each host thread has its own.
#![allow(unsafe_code)] // the base of GS

use std::cell::{Cell, LazyCell};

use super::process::Thread;
use super::types::PAGE_SIZE;

/// Self: the address of the block (KPCR in ntddk.h).
const SELF: usize = 0x18;
/// Where `KeGetCurrentThread` of wdm.h reads the current thread. The processor's number, at 0x184 and 0x1A4, is 0 as
/// [`KeGetCurrentProcessorNumberEx`](super::process::KeGetCurrentProcessorNumberEx) says.
const CURRENT_THREAD: usize = 0x188;
/// asm/prctl.h.
const ARCH_SET_GS: i32 = 0x1001;

struct Block(Box<[Cell<u64>; PAGE_SIZE / 8]>);

impl Block {
    fn new() -> Self {
        let block = Self(Box::new([const { Cell::new(0) }; PAGE_SIZE / 8]));
        let base = block.0.as_ptr() as u64;
        block.word(SELF).set(base);
        // SAFETY: programs of Linux have their thread's data at FS and leave GS alone; the block lives as long as its thread.
        let set = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
        assert_eq!(set, 0, "the base of GS can be set");
        block
    }

    fn word(&self, offset: usize) -> &Cell<u64> {
        &self.0[offset / 8]
    }
}

thread_local! {
    static BLOCK: LazyCell<Block> = LazyCell::new(Block::new);
}

/// The thread that runs on a processor.
#[derive(Clone, Copy)]
pub(crate) struct Running(u64);

/// Lets a thread run on the calling host thread: what ran there before.
pub(crate) fn switch_to(thread: &Thread) -> Running {
    put(Running(thread.body() as u64))
}

/// Lets what ran before run again: what ran until now.
pub(crate) fn put(thread: Running) -> Running {
    BLOCK.with(|block| Running(block.word(CURRENT_THREAD).replace(thread.0)))
}
