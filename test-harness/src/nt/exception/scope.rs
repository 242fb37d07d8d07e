//! `__C_specific_handler`: the language handler of functions with `__try`, which reads their table of scopes.
#![allow(unsafe_code)] // reads scope tables, and calls filters and termination handlers by address

use super::dispatch::{DISPATCHER_CONTEXT, Disposition, unwind_exception};
use super::{
    CONTEXT, EXCEPTION_EXIT_UNWIND, EXCEPTION_POINTERS, EXCEPTION_RECORD, EXCEPTION_TARGET_UNWIND, EXCEPTION_UNWINDING,
};
use crate::nt::types::PVOID;

/// A record of SCOPE_TABLE_AMD64; all are RVAs. `target` is 0 for `__finally`, whose routine `handler` is; else `handler` is the
/// filter, or 1 for EXCEPTION_EXECUTE_HANDLER.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Scope {
    begin: u32,
    end: u32,
    handler: u32,
    target: u32,
}

impl Scope {
    fn covers(&self, rva: usize) -> bool {
        (self.begin as usize..self.end as usize).contains(&rva)
    }
}

type Filter = extern "win64" fn(*mut EXCEPTION_POINTERS, usize) -> i32;
type Termination = extern "win64" fn(u8, usize);

const EXECUTE_HANDLER: u32 = 1;

fn scopes<'a>(dispatcher: &DISPATCHER_CONTEXT) -> &'a [Scope] {
    // SAFETY: the data of a function that names this handler is its table: a count, and so many scopes; it lies in the image.
    let count = unsafe { (dispatcher.HandlerData as *const u32).read() };
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts((dispatcher.HandlerData + 4) as *const Scope, count as usize) }
}

pub(crate) extern "win64" fn __C_specific_handler(
    record: *mut EXCEPTION_RECORD,
    establisher: PVOID,
    context: *mut CONTEXT,
    dispatcher: &mut DISPATCHER_CONTEXT,
) -> Disposition {
    let establisher = establisher as usize;
    // SAFETY: the dispatcher passes its own record, or the driver's language handler passes that on.
    let flags = unsafe { (*record).ExceptionFlags };
    if flags & (EXCEPTION_UNWINDING | EXCEPTION_EXIT_UNWIND) == 0 {
        look_for_handler(record, establisher, context, dispatcher)
    } else {
        run_terminations(flags, establisher, dispatcher);
        Disposition::ContinueSearch
    }
}

fn look_for_handler(
    record: *mut EXCEPTION_RECORD,
    establisher: usize,
    context: *mut CONTEXT,
    dispatcher: &DISPATCHER_CONTEXT,
) -> Disposition {
    let control = dispatcher.ControlPc - dispatcher.ImageBase;
    for scope in scopes(dispatcher).iter().skip(dispatcher.ScopeIndex as usize) {
        if !scope.covers(control) || scope.target == 0 {
            continue;
        }
        let answer = if scope.handler == EXECUTE_HANDLER {
            1
        } else {
            // SAFETY: the table names a filter of the image.
            let filter: Filter = unsafe { std::mem::transmute(dispatcher.ImageBase + scope.handler as usize) };
            let mut pointers = EXCEPTION_POINTERS { ExceptionRecord: record, ContextRecord: context };
            filter(&raw mut pointers, establisher)
        };
        match answer {
            ..=-1 => return Disposition::ContinueExecution,
            0 => {}
            1.. => unwind_exception(establisher, dispatcher.ImageBase + scope.target as usize, record),
        }
    }
    Disposition::ContinueSearch
}

/// Runs the `__finally` blocks that control leaves. One that has begun is not run again if it is left itself.
fn run_terminations(flags: u32, establisher: usize, dispatcher: &mut DISPATCHER_CONTEXT) {
    let control = dispatcher.ControlPc - dispatcher.ImageBase;
    let target = dispatcher.TargetIp.wrapping_sub(dispatcher.ImageBase);
    let scopes = scopes(dispatcher);
    for (index, scope) in scopes.iter().enumerate().skip(dispatcher.ScopeIndex as usize) {
        if !scope.covers(control) {
            continue;
        }
        if flags & EXCEPTION_TARGET_UNWIND != 0 {
            // Control does not leave a scope that the target lies in.
            let same = |other: &Scope| other.handler == scope.handler && other.target == scope.target;
            if scopes.iter().any(|other| other.covers(target) && same(other)) {
                return;
            }
        }
        if scope.target != 0 {
            if flags & EXCEPTION_TARGET_UNWIND != 0 && scope.target as usize == target {
                return;
            }
        } else {
            dispatcher.ScopeIndex = index as u32 + 1;
            // SAFETY: the table names a termination handler of the image.
            let handler: Termination = unsafe { std::mem::transmute(dispatcher.ImageBase + scope.handler as usize) };
            handler(1, establisher);
        }
    }
}
