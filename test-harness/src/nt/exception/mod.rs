//! Structured exceptions, as x64 Windows dispatches them: by the unwind tables of the driver's image, to its language handlers.
//!
//! An exception ends at the routine of the driver that it was raised in: it does not go through this kernel into a driver that called
//! it. One that nobody handles is a bug check on Windows, and the violation here that it has always been.
#![allow(unsafe_code)] // keeps exceptions on the stack that they are dispatched on

mod context;
mod dispatch;
mod scope;

use std::ptr;

pub(crate) use context::{CONTEXT, RtlCaptureContext};
pub(crate) use dispatch::Active;

use super::irql::called;
use super::status::{
    STATUS_ACCESS_VIOLATION, STATUS_DATATYPE_MISALIGNMENT, STATUS_ILLEGAL_INSTRUCTION, STATUS_INTEGER_DIVIDE_BY_ZERO,
    name,
};
use super::types::{APC_LEVEL, DISPATCH_LEVEL, NTSTATUS, PVOID};
use crate::guard::{self, Fault, violate};
use crate::image::{Export, registry};
use crate::thread::{Current, current};
use crate::violation::Rule;
use dispatch::dispatch;

/// Parameters that an exception can have.
const EXCEPTION_MAXIMUM_PARAMETERS: usize = 15;

/// EXCEPTION_RECORD (winnt.h; x64).
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct EXCEPTION_RECORD {
    pub(crate) ExceptionCode: NTSTATUS,
    pub(crate) ExceptionFlags: u32,
    pub(crate) ExceptionRecord: *mut EXCEPTION_RECORD,
    pub(crate) ExceptionAddress: PVOID,
    pub(crate) NumberParameters: u32,
    pub(crate) ExceptionInformation: [usize; EXCEPTION_MAXIMUM_PARAMETERS],
}

impl EXCEPTION_RECORD {
    fn new(code: NTSTATUS, flags: u32, address: usize, parameters: &[usize]) -> Self {
        let mut information = [0; EXCEPTION_MAXIMUM_PARAMETERS];
        information[..parameters.len()].copy_from_slice(parameters);
        Self {
            ExceptionCode: code,
            ExceptionFlags: flags,
            ExceptionRecord: ptr::null_mut(),
            ExceptionAddress: address as PVOID,
            NumberParameters: parameters.len() as u32,
            ExceptionInformation: information,
        }
    }
}

/// EXCEPTION_POINTERS.
#[repr(C)]
pub(crate) struct EXCEPTION_POINTERS {
    ExceptionRecord: *mut EXCEPTION_RECORD,
    ContextRecord: *mut CONTEXT,
}

/// ExceptionFlags.
const EXCEPTION_NONCONTINUABLE: u32 = 0x01;
const EXCEPTION_UNWINDING: u32 = 0x02;
const EXCEPTION_EXIT_UNWIND: u32 = 0x04;
const EXCEPTION_TARGET_UNWIND: u32 = 0x20;

/// Raises an exception in the driver, which called the function that is running. It returns only if nobody handles it. The
/// caller owns nothing: its frame is abandoned if somebody does.
fn search(code: NTSTATUS, flags: u32, parameters: &[usize]) {
    let Some(mut context) = CONTEXT::of_driver_call() else { return };
    let mut record = EXCEPTION_RECORD::new(code, flags, context.Rip, parameters);
    if dispatch(&mut record, &mut context) {
        // SAFETY: the driver goes on behind its call, whose frames are all below.
        unsafe { context.resume() }
    }
}

/// Raises an exception in the driver. If nobody handles it, that is a violation.
pub(crate) fn raise(code: NTSTATUS, flags: u32, parameters: &[usize], unhandled: impl FnOnce() -> (Rule, String)) -> ! {
    search(code, flags, parameters);
    let (rule, text) = unhandled();
    violate(rule, text)
}

/// What bug check KMODE_EXCEPTION_NOT_HANDLED says.
fn not_handled(code: NTSTATUS) -> (Rule, String) {
    (Rule::BugCheck, format!("KMODE_EXCEPTION_NOT_HANDLED: nobody handles the exception {}", name(code)))
}

/// STATUS_ACCESS_VIOLATION at an address, as a function of the kernel raises it.
pub(crate) fn raise_access_violation(address: usize, writes: bool, unhandled: impl FnOnce() -> (Rule, String)) -> ! {
    raise(STATUS_ACCESS_VIOLATION, 0, &[usize::from(writes), address], unhandled)
}

pub(crate) extern "win64" fn ExRaiseStatus(status: NTSTATUS) -> ! {
    called("ExRaiseStatus", DISPATCH_LEVEL);
    raise(status, EXCEPTION_NONCONTINUABLE, &[], || not_handled(status))
}

pub(crate) extern "win64" fn RtlRaiseStatus(status: NTSTATUS) -> ! {
    called("RtlRaiseStatus", DISPATCH_LEVEL);
    raise(status, EXCEPTION_NONCONTINUABLE, &[], || not_handled(status))
}

pub(crate) extern "win64" fn ExRaiseAccessViolation() -> ! {
    called("ExRaiseAccessViolation", DISPATCH_LEVEL);
    raise(STATUS_ACCESS_VIOLATION, EXCEPTION_NONCONTINUABLE, &[], || not_handled(STATUS_ACCESS_VIOLATION))
}

pub(crate) extern "win64" fn ExRaiseDatatypeMisalignment() -> ! {
    called("ExRaiseDatatypeMisalignment", DISPATCH_LEVEL);
    raise(STATUS_DATATYPE_MISALIGNMENT, EXCEPTION_NONCONTINUABLE, &[], || not_handled(STATUS_DATATYPE_MISALIGNMENT))
}

pub(crate) extern "win64" fn RtlRaiseException(record: &EXCEPTION_RECORD) {
    called("RtlRaiseException", DISPATCH_LEVEL);
    let Some(mut context) = CONTEXT::of_driver_call() else {
        let (rule, text) = not_handled(record.ExceptionCode);
        violate(rule, text)
    };
    let mut record = *record;
    record.ExceptionAddress = context.Rip as PVOID;
    if !dispatch(&mut record, &mut context) {
        let (rule, text) = not_handled(record.ExceptionCode);
        violate(rule, text)
    }
    // SAFETY: the driver goes on behind its call, or where its handler has decided; this frame is below.
    unsafe { context.resume() }
}

/// An exception of the processor, on its way from the signal handler to the interrupted thread: it lies on that one's stack.
struct Pending {
    fault: Fault,
    record: EXCEPTION_RECORD,
    /// As the driver's handlers see it.
    context: CONTEXT,
    /// Where the processor is, if the fault was in a function of this kernel, which the driver called.
    inside: Option<CONTEXT>,
}

/// Bytes below an interrupted function's stack pointer that are its own (System V ABI).
const RED_ZONE: usize = 128;

/// What the processor may be at when it faults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Driver,
    /// A function of this kernel, called by the driver.
    Kernel,
}

/// The code and parameters of the exception that a signal is, where Windows would dispatch one: not for bad kernel addresses, and not for
/// memory accesses at DISPATCH_LEVEL, which are bug checks.
fn of_signal(current: &Current, fault: &Fault, registers: &[i64; 23]) -> Option<(NTSTATUS, [usize; 2], usize)> {
    /// The bit of a page fault's error code that says that it was a write.
    const WRITE: i64 = 2;
    let address = fault.address;
    match fault.signal {
        libc::SIGFPE => Some((STATUS_INTEGER_DIVIDE_BY_ZERO, [0; 2], 0)),
        libc::SIGILL => Some((STATUS_ILLEGAL_INSTRUCTION, [0; 2], 0)),
        libc::SIGSEGV | libc::SIGBUS => {
            let executes = address == fault.rip;
            let writes = registers[libc::REG_ERR as usize] & WRITE != 0;
            let kind = if executes { 8 } else { usize::from(writes) };
            let is_users = address < super::mdl::USER_PROBE_ADDRESS
                && fault.is_at_an_address
                && registry::find(address).is_none()
                && !current.kernel.pool.contains(address)
                && super::pages::describe(&current.kernel, address).is_none()
                && !current.kernel.paging.contains(address);
            (is_users && current.irql.get() < DISPATCH_LEVEL).then_some((STATUS_ACCESS_VIOLATION, [kind, address], 2))
        }
        _ => None,
    }
}

/// Has the interrupted thread dispatch the exception that a signal is. False if it is none.
pub(crate) fn interrupt(current: &Current, fault: &Fault, place: Place, signal: &mut libc::ucontext_t) -> bool {
    let Some((code, parameters, count)) = of_signal(current, fault, &signal.uc_mcontext.gregs) else { return false };
    let at = CONTEXT::of_signal(signal);
    let (context, inside) = match place {
        Place::Driver => (at, None),
        Place::Kernel => match CONTEXT::of_driver_call() {
            Some(call) => (call, Some(at)),
            None => return false,
        },
    };
    let room = (at.stack() - RED_ZONE - size_of::<Pending>()) & !15;
    // A stack that has run out cannot have the exception.
    if !guard::can_write(room - 4096) || !guard::can_write(at.stack() - RED_ZONE) {
        return false;
    }
    let record = EXCEPTION_RECORD::new(code, 0, at.Rip, &parameters[..count]);
    let pending = room as *mut Pending;
    // SAFETY: the stack below what the interrupted function uses is free, and there is enough of it.
    unsafe { pending.write(Pending { fault: *fault, record, context, inside }) };
    let registers = &mut signal.uc_mcontext.gregs;
    registers[libc::REG_RSP as usize] = (room - 8).cast_signed() as i64;
    registers[libc::REG_RDI as usize] = room.cast_signed() as i64;
    registers[libc::REG_RIP as usize] = begin as *const () as i64;
    true
}

/// On the thread that was interrupted.
extern "sysv64" fn begin(pending: *mut Pending) -> ! {
    // SAFETY: `interrupt` wrote it above this frame, and nobody else knows of it.
    let Pending { fault, record, context, inside } = unsafe { &mut *pending };
    if !dispatch(record, context) {
        current().fault.set(Some(*fault));
        guard::escape()
    }
    // SAFETY: the instruction is tried again, or the driver's handler has changed where it goes on.
    unsafe { inside.as_ref().unwrap_or(context).resume() }
}

pub(crate) extern "win64" fn RtlPcToFileHeader(address: usize, base: &std::cell::Cell<usize>) -> usize {
    called("RtlPcToFileHeader", APC_LEVEL);
    let found = registry::find(address).map_or(0, |image| image.base());
    base.set(found);
    found
}

pub(super) fn variables() -> [(&'static str, Export); 1] {
    [("RtlCaptureContext", Export::Bare(super::address(RtlCaptureContext as *const ())))]
}

use dispatch::{_local_unwind, RtlLookupFunctionEntry, RtlRestoreContext, RtlUnwind, RtlUnwindEx, RtlVirtualUnwind};
use scope::__C_specific_handler;

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    ExRaiseStatus,
    RtlRaiseStatus,
    ExRaiseAccessViolation,
    ExRaiseDatatypeMisalignment,
    RtlRaiseException,
    RtlPcToFileHeader,
    RtlLookupFunctionEntry,
    RtlRestoreContext,
    RtlUnwind,
    RtlUnwindEx,
    RtlVirtualUnwind,
    _local_unwind,
    __C_specific_handler,
];
