//! The search for a handler, and the unwinding of frames (RtlDispatchException, RtlUnwindEx).
#![allow(unsafe_code)] // calls language handlers by address, and leaves frames behind

use std::cell::{Cell, UnsafeCell};
use std::ptr;

use super::{
    CONTEXT, EXCEPTION_EXIT_UNWIND, EXCEPTION_NONCONTINUABLE, EXCEPTION_RECORD, EXCEPTION_TARGET_UNWIND,
    EXCEPTION_UNWINDING,
};
use crate::guard::violate;
use crate::image::frame::{EXCEPTION_HANDLER, Frame, RSP, Registers, Stack, UNWIND_HANDLER, step};
use crate::image::registry::{self, Found};
use crate::nt::irql::called;
use crate::nt::status::{STATUS_UNWIND, name};
use crate::nt::types::{HIGH_LEVEL, PVOID};
use crate::thread::{Current, DriverCall, current};
use crate::violation::Rule;

/// DISPATCHER_CONTEXT (winnt.h; x64).
#[repr(C)]
pub(crate) struct DISPATCHER_CONTEXT {
    pub(crate) ControlPc: usize,
    pub(crate) ImageBase: usize,
    FunctionEntry: usize,
    EstablisherFrame: usize,
    pub(crate) TargetIp: usize,
    ContextRecord: *mut CONTEXT,
    LanguageHandler: usize,
    pub(crate) HandlerData: usize,
    HistoryTable: PVOID,
    pub(crate) ScopeIndex: u32,
    Fill0: u32,
}

/// EXCEPTION_DISPOSITION, as far as a handler of this kernel's gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Disposition {
    ContinueExecution = 0,
    ContinueSearch = 1,
}

type LanguageHandler = extern "win64" fn(*mut EXCEPTION_RECORD, PVOID, *mut CONTEXT, *mut DISPATCHER_CONTEXT) -> i32;

/// What a handler of the driver's is being called for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Search,
    Unwind,
}

/// An exception that is being dispatched, or an unwind, on the stack below the frames that it is about. What happens in a handler goes on
/// from here: an exception in a filter is looked for in the frames of the first one, too.
pub(crate) struct Active {
    outer: *const Active,
    phase: Phase,
    /// Where the exception was raised; or the frame that is being unwound.
    context: UnsafeCell<CONTEXT>,
    dispatcher: UnsafeCell<DISPATCHER_CONTEXT>,
}

impl Active {
    fn new(current: &Current, phase: Phase, context: &CONTEXT) -> Self {
        let dispatcher = DISPATCHER_CONTEXT {
            ControlPc: 0,
            ImageBase: 0,
            FunctionEntry: 0,
            EstablisherFrame: 0,
            TargetIp: 0,
            ContextRecord: ptr::null_mut(),
            LanguageHandler: 0,
            HandlerData: 0,
            HistoryTable: ptr::null_mut(),
            ScopeIndex: 0,
            Fill0: 0,
        };
        Self {
            outer: current.exception.get(),
            phase,
            context: UnsafeCell::new(*context),
            dispatcher: UnsafeCell::new(dispatcher),
        }
    }

    /// Where a walk that has come to the handler's end goes on, and from which scope of the frame.
    fn goes_on(&self) -> (Registers, u32) {
        // SAFETY: this thread alone uses it, and its handler is running, which does not.
        let registers = unsafe { &*self.context.get() }.registers();
        match self.phase {
            Phase::Search => (registers, 0),
            // SAFETY: as above; the handler has its own reference only while it runs no code of the driver's.
            Phase::Unwind => (registers, unsafe { (*self.dispatcher.get()).ScopeIndex }),
        }
    }

    /// Asks or tells the language handler of a frame.
    fn call(
        &self,
        handler: usize,
        record: *mut EXCEPTION_RECORD,
        context: *mut CONTEXT,
        frame: DISPATCHER_CONTEXT,
    ) -> i32 {
        let establisher = frame.EstablisherFrame as PVOID;
        let dispatcher = self.dispatcher.get();
        // SAFETY: as in `goes_on`.
        unsafe { dispatcher.write(frame) };
        // SAFETY: unwind information of the driver's image names it as a handler of this type.
        let handler: LanguageHandler = unsafe { std::mem::transmute(handler) };
        handler(record, establisher, context, dispatcher)
    }
}

/// A walk up the driver's frames, from the innermost to those of the routine that this kernel has called.
struct Walk {
    registers: Registers,
    /// The first scope that is still to be looked at, in the next frame.
    scope: u32,
    /// The next exception to go on with, where a handler's frames end.
    active: *const Active,
    stack: Stack,
}

impl Walk {
    fn new(current: &Current, context: &CONTEXT) -> Self {
        let high = if current.stack_entry.get() == 0 { current.escape.get() } else { current.stack_entry.get() };
        Self {
            registers: context.registers(),
            scope: 0,
            active: current.exception.get(),
            stack: Stack { low: context.stack(), high },
        }
    }

    /// Goes on in the frames that the innermost handler is called for.
    fn hop(&mut self) -> Option<()> {
        loop {
            let at = self.active as usize;
            if at == 0 || at >= self.stack.high {
                return None;
            }
            // SAFETY: it lies on this thread's stack, in a frame above the handler's.
            let active = unsafe { &*self.active };
            self.active = active.outer;
            if at > self.registers.stack() {
                (self.registers, self.scope) = active.goes_on();
                return Some(());
            }
        }
    }

    /// The next frame: its registers, its image, what its tables tell, and its first scope. `None` at the end.
    fn next(&mut self) -> Option<(Registers, Found, Frame, u32)> {
        let image = loop {
            match registry::find(self.registers.rip) {
                Some(image) => break image,
                None => self.hop()?,
            }
        };
        let before = self.registers;
        let frame = step(&image, &mut self.registers, &self.stack)?;
        let inside = (self.stack.low..self.stack.high).contains(&frame.establisher);
        inside.then(|| (before, image, frame, std::mem::take(&mut self.scope)))
    }
}

fn dispatcher_context(
    registers: &Registers,
    image: &Found,
    frame: &Frame,
    scope: u32,
    context: *mut CONTEXT,
) -> DISPATCHER_CONTEXT {
    let (routine, data) = frame.handler.map_or((0, 0), |handler| (handler.routine, handler.data));
    DISPATCHER_CONTEXT {
        ControlPc: registers.rip,
        ImageBase: image.base(),
        FunctionEntry: image.function_entry(registers.rip).unwrap_or(0),
        EstablisherFrame: frame.establisher,
        TargetIp: 0,
        ContextRecord: context,
        LanguageHandler: routine,
        HandlerData: data,
        HistoryTable: ptr::null_mut(),
        ScopeIndex: scope,
        Fill0: 0,
    }
}

/// Looks for a handler. True if the driver is to go on at `context`; false if there is none. A handler that takes the exception does not
/// let this return.
pub(super) fn dispatch(record: &mut EXCEPTION_RECORD, context: &mut CONTEXT) -> bool {
    let current = current();
    let (call, driver_call) = ((current.call.get(), current.call_site.get()), DriverCall::get());
    let mut start = *context;
    // A call to where nothing is has got no further than its return address.
    if registry::find(start.Rip).is_none() {
        let stack = Stack { low: start.stack(), high: current.escape.get() };
        let Some(back) = stack.read(start.stack()) else { return false };
        start.Rip = back;
        start.general[RSP] += 8;
    }
    let mut walk = Walk::new(current, &start);
    let active = Active::new(current, Phase::Search, &start);
    current.exception.set(&raw const active);
    let mut goes_on = false;
    while let Some((registers, image, frame, scope)) = walk.next() {
        let Some(handler) = frame.handler.filter(|handler| handler.flags & EXCEPTION_HANDLER != 0) else { continue };
        let mut unwound = CONTEXT::ZERO;
        unwound.set_registers(&walk.registers);
        let about = dispatcher_context(&registers, &image, &frame, scope, &raw mut unwound);
        drop(image);
        if active.call(handler.routine, record, context, about) == Disposition::ContinueExecution as i32 {
            goes_on = true;
            break;
        }
    }
    current.exception.set(active.outer);
    current.call.set(call.0);
    current.call_site.set(call.1);
    driver_call.put_back();
    if goes_on && record.ExceptionFlags & EXCEPTION_NONCONTINUABLE != 0 {
        violate(
            Rule::BugCheck,
            format!("STATUS_NONCONTINUABLE_EXCEPTION: a filter goes on after {}", name(record.ExceptionCode)),
        );
    }
    goes_on
}

/// Unwinds to the frame of the handler that takes the exception which is being dispatched.
pub(super) fn unwind_exception(target: usize, address: usize, record: *mut EXCEPTION_RECORD) -> ! {
    let current = current();
    // SAFETY: a handler is being called, so there is one, in a live frame above.
    let active = unsafe { &*current.exception.get() };
    // SAFETY: this thread alone uses it.
    let start = unsafe { *active.context.get() };
    // SAFETY: the record of the exception, in a live frame above.
    let code = unsafe { (*record).ExceptionCode };
    unwind(&start, target, address, record, code.cast_unsigned() as usize)
}

/// Calls the termination handlers of all frames below the one that `target` names, and of what is left in that one, and goes on in it at
/// `address`.
fn unwind(start: &CONTEXT, target: usize, address: usize, record: *mut EXCEPTION_RECORD, value: usize) -> ! {
    let current = current();
    let set = |flags: u32, clear: u32| {
        // SAFETY: the record is in a live frame: the exception's, or the unwind's own.
        let record = unsafe { &mut *record };
        record.ExceptionFlags = record.ExceptionFlags & !clear | flags;
    };
    set(if target == 0 { EXCEPTION_UNWINDING | EXCEPTION_EXIT_UNWIND } else { EXCEPTION_UNWINDING }, 0);
    let mut walk = Walk::new(current, start);
    let active = Active::new(current, Phase::Unwind, start);
    let outer = Cell::new(active.outer);
    current.exception.set(&raw const active);
    while let Some((registers, image, frame, scope)) = walk.next() {
        let last = frame.establisher == target;
        // SAFETY: this thread alone uses it, and no handler is running.
        let context = unsafe { &mut *active.context.get() };
        context.set_registers(&registers);
        if let Some(handler) = frame.handler.filter(|handler| handler.flags & UNWIND_HANDLER != 0) {
            set(if last { EXCEPTION_TARGET_UNWIND } else { 0 }, EXCEPTION_TARGET_UNWIND);
            let mut about = dispatcher_context(&registers, &image, &frame, scope, active.context.get());
            about.TargetIp = address;
            drop(image);
            active.call(handler.routine, record, active.context.get(), about);
        }
        if last {
            // SAFETY: as above.
            let context = unsafe { &mut *active.context.get() };
            context.set_registers(&registers);
            context.general[0] = value;
            context.Rip = address;
            // Those whose handlers are left are over.
            while (outer.get() as usize) < context.stack() && !outer.get().is_null() {
                // SAFETY: in a live frame of this thread.
                outer.set(unsafe { (*outer.get()).outer });
            }
            current.exception.set(outer.get());
            // SAFETY: the frame's function is live, and what lies below it is over.
            unsafe { context.resume() }
        }
        if target != 0 && frame.establisher > target {
            break;
        }
    }
    current.exception.set(active.outer);
    violate(Rule::BugCheck, format!("STATUS_INVALID_UNWIND_TARGET: no frame of the driver is at {target:#x}"))
}

/// An unwind that the driver itself asks for.
fn unwind_from_call(target: usize, address: usize, record: *mut EXCEPTION_RECORD, value: usize) -> ! {
    let Some(start) = CONTEXT::of_driver_call() else { violate(Rule::BugCheck, "an unwind without a driver") };
    let mut own = EXCEPTION_RECORD::new(STATUS_UNWIND, 0, start.Rip, &[]);
    let record = if record.is_null() { &raw mut own } else { record };
    unwind(&start, target, address, record, value)
}

pub(crate) extern "win64" fn RtlUnwindEx(
    target: usize,
    address: usize,
    record: *mut EXCEPTION_RECORD,
    value: usize,
    _context: *mut CONTEXT,
    _history: PVOID,
) -> ! {
    called("RtlUnwindEx", HIGH_LEVEL);
    unwind_from_call(target, address, record, value)
}

pub(crate) extern "win64" fn RtlUnwind(
    target: usize,
    address: usize,
    record: *mut EXCEPTION_RECORD,
    value: usize,
) -> ! {
    called("RtlUnwind", HIGH_LEVEL);
    unwind_from_call(target, address, record, value)
}

/// How `goto` and `return` leave a `__try` that has a `__finally`.
pub(crate) extern "win64" fn _local_unwind(target: usize, address: usize) -> ! {
    called("_local_unwind", HIGH_LEVEL);
    unwind_from_call(target, address, ptr::null_mut(), 0)
}

/// Where the RUNTIME_FUNCTION lies that covers an address, and the image's start.
pub(crate) extern "win64" fn RtlLookupFunctionEntry(address: usize, base: &Cell<usize>, _history: PVOID) -> usize {
    called("RtlLookupFunctionEntry", HIGH_LEVEL);
    let Some(image) = registry::find(address) else { return 0 };
    base.set(image.base());
    image.function_entry(address).unwrap_or(0)
}

pub(crate) extern "win64" fn RtlVirtualUnwind(
    kind: u32,
    _base: usize,
    control: usize,
    _function: usize,
    context: &mut CONTEXT,
    data: &Cell<usize>,
    establisher: &Cell<usize>,
    _pointers: PVOID,
) -> usize {
    let current = called("RtlVirtualUnwind", HIGH_LEVEL);
    let mut registers = context.registers();
    registers.rip = control;
    let stack = Stack { low: context.stack(), high: current.escape.get() };
    let Some(frame) = registry::find(control).and_then(|image| step(&image, &mut registers, &stack)) else { return 0 };
    context.set_registers(&registers);
    establisher.set(frame.establisher);
    match frame.handler {
        Some(handler) if u32::from(handler.flags) & kind != 0 => {
            data.set(handler.data);
            handler.routine
        }
        Some(_) | None => 0,
    }
}

pub(crate) extern "win64" fn RtlRestoreContext(context: &CONTEXT, _record: *const EXCEPTION_RECORD) -> ! {
    called("RtlRestoreContext", HIGH_LEVEL);
    // SAFETY: the driver says that the context is that of a live frame of its own.
    unsafe { context.resume() }
}
