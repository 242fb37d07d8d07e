//! What compilers call (memory functions, stack probes), bug checks, imports that nothing provides.
#![allow(unsafe_code)] // memory by address, naked functions

use std::arch::naked_asm;
use std::cell::Cell;

use super::irql::called;
use super::strings::{narrow, text};
use super::types::{APC_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL, PVOID, UNICODE_STRING};
use crate::guard::violate;
use crate::image::Export;
use crate::image::unwind::{self, Backtrace};
use crate::thread::{DRIVER_STACK, current};
use crate::violation::Rule;

pub(crate) extern "win64" fn memcpy(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    current().call.set("memcpy");
    // SAFETY: the driver's own memory and its own business; a bad range faults, which the guard reports.
    unsafe { std::ptr::copy(source, destination, count) };
    destination
}

pub(crate) extern "win64" fn memmove(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    current().call.set("memmove");
    // SAFETY: as for `memcpy`.
    unsafe { std::ptr::copy(source, destination, count) };
    destination
}

pub(crate) extern "win64" fn memset(destination: *mut u8, value: i32, count: usize) -> *mut u8 {
    current().call.set("memset");
    // SAFETY: as for `memcpy`.
    unsafe { std::ptr::write_bytes(destination, value.to_le_bytes()[0], count) };
    destination
}

pub(crate) extern "win64" fn memcmp(first: *const u8, second: *const u8, count: usize) -> i32 {
    current().call.set("memcmp");
    // SAFETY: as for `memcpy`.
    unsafe { libc::memcmp(first.cast(), second.cast(), count) }
}

pub(crate) extern "win64" fn RtlCompareMemory(first: *const u8, second: *const u8, count: usize) -> usize {
    current().call.set("RtlCompareMemory");
    // SAFETY: as for `memcpy`.
    let equal = |index: &usize| {
        // SAFETY: the caller's range; a bad pointer faults, which the guard reports.
        let one = unsafe { *first.wrapping_add(*index) };
        // SAFETY: as above.
        let other = unsafe { *second.wrapping_add(*index) };
        one == other
    };
    (0..count).take_while(equal).count()
}

/// What the macros of the C headers are otherwise: compilers of other languages import the functions.
pub(crate) extern "win64" fn RtlCopyMemory(destination: *mut u8, source: *const u8, count: usize) {
    current().call.set("RtlCopyMemory");
    // SAFETY: as for `memcpy`.
    unsafe { std::ptr::copy(source, destination, count) };
}

pub(crate) extern "win64" fn RtlCopyMemoryNonTemporal(destination: *mut u8, source: *const u8, count: usize) {
    current().call.set("RtlCopyMemoryNonTemporal");
    // SAFETY: as for `memcpy`.
    unsafe { std::ptr::copy(source, destination, count) };
}

pub(crate) extern "win64" fn RtlMoveMemory(destination: *mut u8, source: *const u8, count: usize) {
    current().call.set("RtlMoveMemory");
    // SAFETY: as for `memcpy`.
    unsafe { std::ptr::copy(source, destination, count) };
}

pub(crate) extern "win64" fn RtlFillMemory(destination: *mut u8, count: usize, value: u8) {
    current().call.set("RtlFillMemory");
    // SAFETY: as for `memcpy`.
    unsafe { std::ptr::write_bytes(destination, value, count) };
}

pub(crate) extern "win64" fn RtlZeroMemory(destination: *mut u8, count: usize) {
    current().call.set("RtlZeroMemory");
    // SAFETY: as for `memcpy`.
    unsafe { std::ptr::write_bytes(destination, 0, count) };
}

/// What a driver's thread may use of its stack (KERNEL_STACK_SIZE on x64).
const KERNEL_STACK_SIZE: usize = 24 << 10;

/// Called in the prologue of functions with frames above 4 KiB; the frame's size is in rax, and every register must survive.
#[unsafe(naked)]
pub(crate) extern "win64" fn __chkstk() {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rax",
        "push rcx",
        "push rdx",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "and rsp, -16",
        "sub rsp, 128",
        "movups [rsp + 32], xmm0",
        "movups [rsp + 48], xmm1",
        "movups [rsp + 64], xmm2",
        "movups [rsp + 80], xmm3",
        "movups [rsp + 96], xmm4",
        "movups [rsp + 112], xmm5",
        "mov rcx, rax",
        "lea rdx, [rbp + 8]",
        "call {check}",
        "movups xmm0, [rsp + 32]",
        "movups xmm1, [rsp + 48]",
        "movups xmm2, [rsp + 64]",
        "movups xmm3, [rsp + 80]",
        "movups xmm4, [rsp + 96]",
        "movups xmm5, [rsp + 112]",
        "lea rsp, [rbp - 56]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "pop rbp",
        "ret",
        check = sym check_stack,
    )
}

extern "win64" fn check_stack(frame: usize, stack: usize) {
    let entry = current().stack_entry.get();
    let used = entry.saturating_sub(stack) + frame;
    if entry != 0 && used > KERNEL_STACK_SIZE {
        DRIVER_STACK.set(stack);
        current().call.set("__chkstk");
        violate(Rule::KernelStack, format!("a frame of {frame} bytes makes {used} of the stack's {KERNEL_STACK_SIZE}"));
    }
}

pub(crate) extern "win64" fn _purecall() -> ! {
    current().call.set("_purecall");
    violate(Rule::BugCheck, "a pure virtual function was called")
}

/// The code that a panic of a Rust driver carries (wdk-panic): "RPNC".
const RUST_PANIC: u32 = u32::from_be_bytes(*b"RPNC");

/// How KMDF ends a machine whose driver has broken a rule of its.
const WDF_VIOLATION: u32 = 0x10d;

pub(crate) extern "win64" fn KeBugCheckEx(code: u32, first: usize, second: usize, third: usize, fourth: usize) -> ! {
    current().call.set("KeBugCheckEx");
    if code == RUST_PANIC && first != 0 {
        // SAFETY: the panic handler passes the address and length of its source file's name.
        let file = unsafe { std::slice::from_raw_parts(first as *const u8, second.min(512)) };
        violate(Rule::BugCheck, format!("the driver panicked at {}:{third}:{fourth}", String::from_utf8_lossy(file)));
    }
    let rule = if code == WDF_VIOLATION { Rule::Framework } else { Rule::BugCheck };
    violate(rule, format!("{code:#010X} ({first:#x}, {second:#x}, {third:#x}, {fourth:#x})"))
}

pub(crate) extern "win64" fn KeBugCheck(code: u32) -> ! {
    KeBugCheckEx(code, 0, 0, 0, 0)
}

/// Where the thunks of missing imports go.
pub(crate) extern "win64" fn missing_import(name: *const u8, length: usize) -> ! {
    // SAFETY: the loader passes a string that lives as long as the process.
    let name = unsafe { std::slice::from_raw_parts(name, length) };
    current().call.set("");
    violate(Rule::MissingImport, format!("{} is not provided", String::from_utf8_lossy(name)))
}

/// An assertion of a driver's has failed, with no debugger to ask.
pub(crate) extern "win64" fn RtlAssert(assertion: *const u8, file: *const u8, line: u32, message: *const u8) -> ! {
    const LONGEST: usize = 512;
    called("RtlAssert", HIGH_LEVEL);
    let text = |at: *const u8| {
        String::from_utf8_lossy(&if at.is_null() { Vec::new() } else { narrow(at, LONGEST) }).into_owned()
    };
    let message = text(message);
    let colon = if message.is_empty() { "" } else { ": " };
    violate(Rule::BugCheck, format!("assertion failed at {}:{line}: {}{colon}{message}", text(file), text(assertion)))
}

/// There is as much memory as Windows calls much (MmLargeSystem).
pub(crate) extern "win64" fn MmQuerySystemSize() -> u32 {
    called("MmQuerySystemSize", HIGH_LEVEL);
    2
}

pub(crate) extern "win64" fn MmGetSystemRoutineAddress(name: &UNICODE_STRING) -> PVOID {
    called("MmGetSystemRoutineAddress", PASSIVE_LEVEL);
    super::routine(&text(name)).map_or(std::ptr::null_mut(), |address| address as PVOID)
}

/// Every driver is verified here, as under Driver Verifier.
pub(crate) extern "win64" fn MmIsDriverVerifying(_driver: PVOID) -> u32 {
    called("MmIsDriverVerifying", APC_LEVEL);
    1
}

/// Whether Driver Verifier has a class of rules on: KMDF asks for its own, and then verifies its clients itself.
pub(crate) extern "win64" fn VfIsRuleClassEnabled(_class: u32) -> u8 {
    called("VfIsRuleClassEnabled", HIGH_LEVEL);
    1
}

/// KMDF has allocated from pool on a client's behalf. Executable pool is nothing that is looked for here.
pub(crate) extern "win64" fn VfCheckNxPoolType(_pool_type: u32, _caller: PVOID, _tag: u32) {
    called("VfCheckNxPoolType", HIGH_LEVEL);
}

/// The addresses of the callers' code, innermost first; frames of the system between two routines of drivers are left out.
pub(crate) extern "win64" fn RtlCaptureStackBackTrace(
    skip: u32,
    count: u32,
    frames: *mut PVOID,
    hash: Option<&Cell<u32>>,
) -> u16 {
    let current = called("RtlCaptureStackBackTrace", HIGH_LEVEL);
    let mut backtrace = Backtrace::EMPTY;
    unwind::from_last_call(current, &mut backtrace);
    let found: Vec<_> = backtrace.frames().iter().skip(skip as usize).take(count as usize).copied().collect();
    for (index, frame) in found.iter().enumerate() {
        // SAFETY: the caller has room for `count` addresses; a bad buffer faults, which the guard reports.
        unsafe { frames.wrapping_add(index).write(*frame as PVOID) };
    }
    if let Some(hash) = hash {
        hash.set(found.iter().fold(0, |sum, frame| sum.wrapping_add(*frame as u32)));
    }
    u16::try_from(found.len()).unwrap_or(u16::MAX)
}

/// KdDebuggerEnabled and KdDebuggerNotPresent: there is none.
static KD_DEBUGGER_ENABLED: u8 = 0;
static KD_DEBUGGER_NOT_PRESENT: u8 = 1;

pub(crate) extern "win64" fn KdRefreshDebuggerNotPresent() -> u8 {
    called("KdRefreshDebuggerNotPresent", HIGH_LEVEL);
    1
}

pub(super) fn variables() -> Vec<(&'static str, Export)> {
    vec![
        ("KdDebuggerEnabled", Export::Data(&raw const KD_DEBUGGER_ENABLED as usize)),
        ("KdDebuggerNotPresent", Export::Data(&raw const KD_DEBUGGER_NOT_PRESENT as usize)),
        ("__chkstk", Export::Bare(super::address(__chkstk as *const ()))),
    ]
}

/// Bytes of a cache line.
pub(crate) extern "win64" fn KeGetRecommendedSharedDataAlignment() -> u32 {
    called("KeGetRecommendedSharedDataAlignment", HIGH_LEVEL);
    64
}

/// The stack of the driver's routine that runs.
pub(crate) extern "win64" fn IoGetStackLimits(low: &std::cell::Cell<usize>, high: &std::cell::Cell<usize>) {
    let entry = called("IoGetStackLimits", HIGH_LEVEL).stack_entry.get();
    low.set(entry.saturating_sub(KERNEL_STACK_SIZE));
    high.set(entry);
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    memcpy,
    memmove,
    memset,
    memcmp,
    RtlCompareMemory,
    RtlCopyMemory,
    RtlCopyMemoryNonTemporal,
    RtlMoveMemory,
    RtlFillMemory,
    RtlZeroMemory,
    _purecall,
    KeBugCheckEx,
    KeBugCheck,
    RtlAssert,
    MmQuerySystemSize,
    MmGetSystemRoutineAddress,
    MmIsDriverVerifying,
    RtlCaptureStackBackTrace,
    VfCheckNxPoolType,
    VfIsRuleClassEnabled,
    KdRefreshDebuggerNotPresent,
    KeGetRecommendedSharedDataAlignment,
    IoGetStackLimits,
];
