//! KUSER_SHARED_DATA, the page of times and versions that drivers read at an address of their own (KeQuerySystemTime and its like are
//! macros on x64).
//!
//! No program of Linux has memory there, so the first access faults: the register that holds the address gets that of a page of this
//! process instead, and with it the instruction is tried again.
#![allow(unsafe_code)] // writes the page

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;

use super::time::{TIME_INCREMENT, interrupt_time, system_time};
use super::types::PAGE_SIZE;
use crate::image::frame::SIGNAL_ORDER;
use crate::memory::{Access, Mapping};

/// KI_USER_SHARED_DATA.
const ADDRESS: usize = 0xffff_f780_0000_0000;
/// Fields of the page (wdm.h).
const TICK_COUNT_MULTIPLIER: usize = 0x04;
const INTERRUPT_TIME: usize = 0x08;
const SYSTEM_TIME: usize = 0x14;
const BUILD_NUMBER: usize = 0x260;
const MAJOR_VERSION: usize = 0x26c;
const TICK_COUNT: usize = 0x320;

/// Milliseconds a tick, with 24 bits behind the point.
const MULTIPLIER: u32 = (TIME_INCREMENT as u64 * (1 << 24) / 10_000) as u32;

/// How often the page's times are brought up to date.
const REFRESH: Duration = Duration::from_millis(1);

fn put(page: usize, offset: usize, value: u32) {
    // SAFETY: inside the page, which is never given back; drivers read it meanwhile, as they do on Windows.
    unsafe { ((page + offset) as *mut u32).write_volatile(value) };
}

/// A KSYSTEM_TIME: readers try again until both high parts are the same.
fn put_time(page: usize, offset: usize, time: u64) {
    put(page, offset + 8, (time >> 32) as u32);
    put(page, offset, time as u32);
    put(page, offset + 4, (time >> 32) as u32);
}

/// One at a time, so that no older time overwrites a newer one.
fn refresh(page: usize) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    let interrupt_time = interrupt_time().cast_unsigned();
    put_time(page, INTERRUPT_TIME, interrupt_time);
    put_time(page, SYSTEM_TIME, system_time().cast_unsigned());
    put_time(page, TICK_COUNT, interrupt_time / u64::from(TIME_INCREMENT));
}

/// The page, from the first time that it is asked for. `None` if there is no memory for it.
fn page() -> Option<usize> {
    static PAGE: OnceLock<Option<Mapping>> = OnceLock::new();
    let made = PAGE.get_or_init(|| {
        let page = Mapping::new(PAGE_SIZE, Access::ReadWrite).ok()?;
        let base = page.base();
        put(base, TICK_COUNT_MULTIPLIER, MULTIPLIER);
        let (major, minor, build) = super::version::VERSION;
        put(base, BUILD_NUMBER, build);
        put(base, MAJOR_VERSION, major);
        put(base, MAJOR_VERSION + 4, minor);
        refresh(base);
        let clock = std::thread::Builder::new().name("shared user data".to_owned());
        let clock = clock.spawn(move || {
            loop {
                std::thread::sleep(REFRESH);
                refresh(base);
            }
        });
        clock.ok().map(|_| page)
    });
    made.as_ref().map(Mapping::base)
}

/// A time is up for somebody. On Windows the clock's interrupt finds that out, and has brought the page up to date before.
pub(crate) fn tick() {
    if let Some(page) = page() {
        refresh(page);
    }
}

/// Makes the page, before a driver can ask for it in a signal handler.
pub(crate) fn prepare() {
    page();
}

/// Lets an access to the page go to this process's own. False if it was none. `code` is the instruction's.
pub(crate) fn serve(registers: &mut [i64; 23], code: [u8; 10]) -> bool {
    let Some(page) = page() else { return false };
    let offset = |value: usize| value.checked_sub(ADDRESS).filter(|offset| *offset < PAGE_SIZE);
    // mov rax, [address] and mov eax, [address], with the address in the instruction.
    let (wide, at) = match code {
        [0x48, 0xa1, ..] => (true, 2),
        [0xa1, ..] => (false, 1),
        _ => (false, 0),
    };
    if at != 0 {
        let address = u64::from_le_bytes(std::array::from_fn(|byte| code[at + byte])) as usize;
        if let Some(offset) = offset(address).filter(|offset| offset + 8 <= PAGE_SIZE) {
            // SAFETY: inside the page.
            let value = unsafe { ((page + offset) as *const u64).read_unaligned() };
            let value = if wide { value } else { value & 0xffff_ffff };
            registers[libc::REG_RAX as usize] = value.cast_signed();
            registers[libc::REG_RIP as usize] += at as i64 + 8;
            return true;
        }
    }
    let mut found = false;
    for register in SIGNAL_ORDER {
        let value = &mut registers[register as usize];
        if let Some(offset) = offset(value.cast_unsigned() as usize) {
            *value = (page + offset).cast_signed() as i64;
            found = true;
        }
    }
    found
}
