//! How a thread enters driver code, and how it leaves on a fault, a bug check or a violation.
//!
//! A violation does not return to the driver. The thread's stack pointer goes back to where it entered kernel mode, and every
//! frame between is abandoned without unwinding: a driver's frames cannot be unwound, and must not run on. So
//! kernel functions hold no lock and own nothing they cannot afford to lose when they call into the driver, touch memory
//! it names, or report a violation.
#![allow(unsafe_code)] // switches stacks and handles signals

use std::any::Any;
use std::arch::naked_asm;
use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::{Once, OnceLock};

use crate::image::frame::{Registers, SIGNAL_ORDER};
use crate::image::registry;
use crate::image::unwind::{self, Backtrace};
use crate::kernel::Kernel;
use crate::memory::{Access, Mapping};
use crate::nt::types::DISPATCH_LEVEL;
use crate::nt::{dpc, exception, pages, shared_data};
use crate::thread::{Current, DRIVER_STACK, DriverCall, current, try_current};
use crate::violation::Rule;

/// The machine has stopped: a violation was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// What a signal handler saw.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) signal: i32,
    pub(crate) address: usize,
    /// Whether the processor said which: it does not of addresses that cannot be any.
    pub(crate) is_at_an_address: bool,
    pub(crate) rip: usize,
    /// The fail-fast code, where the instruction was `int 29h`.
    fail_fast: Option<u64>,
    backtrace: Backtrace,
}

/// Calls `body(job)` on this stack, after it has noted in `escape` where to come back to.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(body: extern "sysv64" fn(*mut c_void), job: *mut c_void, escape: *mut usize) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdx], rsp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        ".cfi_endproc",
    )
}

/// Returns from the `enter` whose stack pointer this is.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave(stack: usize) -> ! {
    naked_asm!(
        "mov rsp, rdi",
        "cld",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Reads a byte; 1, or 0 if that faulted: the signal handler knows its first instruction.
#[unsafe(naked)]
extern "sysv64" fn try_read(address: usize) -> u32 {
    naked_asm!("mov al, [rdi]", "mov eax, 1", "ret")
}

/// Writes a byte back unchanged, atomically; 1, or 0 if that faulted.
#[unsafe(naked)]
extern "sysv64" fn try_write(address: usize) -> u32 {
    naked_asm!("lock or byte ptr [rdi], 0", "mov eax, 1", "ret")
}

/// Where a faulting probe goes on.
#[unsafe(naked)]
extern "sysv64" fn probe_failed() -> u32 {
    naked_asm!("xor eax, eax", "ret")
}

/// Whether a byte can be read.
pub(crate) fn can_read(address: usize) -> bool {
    install();
    try_read(address) != 0
}

/// Whether a byte can be written.
pub(crate) fn can_write(address: usize) -> bool {
    install();
    try_write(address) != 0
}

struct Job<F, T> {
    body: Option<F>,
    result: Option<Result<T, Box<dyn Any + Send>>>,
}

extern "sysv64" fn perform<F: FnOnce() -> T, T>(job: *mut c_void) {
    // SAFETY: `run` passes its own job, which outlives the call and is not otherwise used meanwhile.
    let job = unsafe { &mut *job.cast::<Job<F, T>>() };
    if let Some(body) = job.body.take() {
        job.result = Some(panic::catch_unwind(AssertUnwindSafe(body)));
    }
}

pub(crate) fn run<F: FnOnce() -> T, T>(current: &Current, body: F) -> Result<T, Stopped> {
    install();
    let mut job = Job { body: Some(body), result: None };
    // SAFETY: `perform` is the instance for this job's types, and `escape` is a cell of the entry that is now current.
    unsafe { enter(perform::<F, T>, (&raw mut job).cast(), current.escape.as_ptr()) };
    match job.result {
        Some(Ok(result)) => Ok(result),
        Some(Err(panic)) => panic::resume_unwind(panic),
        None => {
            if let Some(fault) = current.fault.take() {
                report_fault(&current.kernel, current, &fault);
            }
            Err(Stopped)
        }
    }
}

/// Abandons the frames down to this thread's entry into kernel mode.
pub(crate) fn escape() -> ! {
    let stack = current().escape.get();
    // SAFETY: `run` of the current entry is still on this stack, below every frame that is abandoned here.
    unsafe { leave(stack) }
}

/// Reports what the documentation advises against: a violation, unless the machine only notes it.
pub(crate) fn advise(rule: Rule, text: &str) {
    let current = current();
    if current.kernel.options.is_lenient {
        current.kernel.note(format!("{rule}: {text}"));
    } else {
        violate(rule, text);
    }
}

/// Reports a violation by the calling thread, and leaves the driver.
pub(crate) fn violate(rule: Rule, text: impl Into<String>) -> ! {
    let mut backtrace = Backtrace::EMPTY;
    unwind::from_last_call(current(), &mut backtrace);
    violate_at(rule, text, &backtrace)
}

fn violate_at(rule: Rule, text: impl Into<String>, backtrace: &Backtrace) -> ! {
    let current = current();
    current.kernel.report(rule, text.into(), current.call.get(), backtrace);
    escape()
}

/// As [`violate`], of the routine that has just returned: its frames are gone, but for its last call.
pub(crate) fn violate_returned(rule: Rule, text: impl Into<String>) -> ! {
    let (routine, site) = current().returned.get();
    current().call.set(routine);
    let mut backtrace = Backtrace::EMPTY;
    unwind::from_site(site, &mut backtrace);
    violate_at(rule, text, &backtrace)
}

/// Calls a routine of the driver: the IRQL and the spin locks held must be the same when it returns.
pub(crate) fn callout<R>(routine: &'static str, body: impl FnOnce() -> R) -> R {
    let current = current();
    if current.kernel.is_stopped() {
        escape();
    }
    let (irql, locks, critical) = (current.irql.get(), current.spin_locks(), current.critical_regions.get());
    let call = current.call.replace(routine);
    let site = current.call_site.replace(0);
    let outer = current.routine.replace(routine);
    let driver_call = DriverCall::get();
    let marker = Cell::new(0_u8);
    let stack_entry = current.stack_entry.replace(marker.as_ptr() as usize);
    let section = (irql >= DISPATCH_LEVEL).then(|| current.kernel.dispatch_sections.begin());
    let result = body();
    if let Some(section) = section {
        current.kernel.dispatch_sections.end(section);
    }
    current.stack_entry.set(stack_entry);
    if current.kernel.is_stopped() {
        escape();
    }
    if current.call_site.get() != 0 {
        current.returned.set((routine, current.call_site.get()));
    }
    let now = current.irql.get();
    if now != irql {
        violate_returned(Rule::Irql, format!("{routine} was called at IRQL {irql} and returned at {now}"));
    }
    if current.spin_locks() != locks {
        violate_returned(
            Rule::SpinLock,
            format!("{routine} returned with another set of spin locks than it was called with"),
        );
    }
    if current.critical_regions.get() != critical {
        violate_returned(
            Rule::Lock,
            format!("{routine} returned inside a critical region it was not called in, or outside its own"),
        );
    }
    current.call.set(call);
    current.call_site.set(site);
    current.routine.set(outer);
    driver_call.put_back();
    dpc::retire(current);
    result
}

/// Calls a routine of the driver at DISPATCH_LEVEL, as DPCs and completions arrive.
pub(crate) fn callout_at_dispatch<R>(routine: &'static str, body: impl FnOnce() -> R) -> R {
    let current = current();
    let irql = current.irql.replace(current.irql.get().max(DISPATCH_LEVEL));
    let result = callout(routine, body);
    current.irql.set(irql);
    dpc::retire(current);
    result
}

fn report_fault(kernel: &Kernel, current: &Current, fault: &Fault) {
    let call = current.call.get();
    let place = match registry::find(fault.rip) {
        Some(_) => "the driver".to_owned(),
        None => format!("{call}, called by the driver"),
    };
    if let Some(code) = fault.fail_fast {
        return kernel.report(Rule::BugCheck, format!("fail-fast with code {code}"), "", &fault.backtrace);
    }
    let (rule, text) = match fault.signal {
        libc::SIGSEGV | libc::SIGBUS if kernel.paging.contains(fault.address) => (
            Rule::PagedMemory,
            format!("{place} touched pageable memory at {:#x}, at IRQL {}", fault.address, current.irql.get()),
        ),
        libc::SIGSEGV | libc::SIGBUS => {
            kernel.pool.describe(fault.address).or_else(|| pages::describe(kernel, fault.address)).map_or_else(
                || (Rule::Fault, format!("{place} touched {:#x}", fault.address)),
                |(rule, what)| (rule, format!("{place} touched {:#x}: {what}", fault.address)),
            )
        }
        libc::SIGILL => (Rule::Fault, format!("{place} executed an illegal instruction")),
        libc::SIGFPE => (Rule::Fault, format!("{place} divided by zero")),
        signal => (Rule::Fault, format!("{place}: signal {signal}")),
    };
    kernel.report(rule, text, if registry::find(fault.rip).is_some() { "" } else { call }, &fault.backtrace);
}

const SIGNALS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGTRAP, libc::SIGFPE];

/// What handled each of `SIGNALS` before: Rust's stack overflow message, or a fuzzer.
static PREVIOUS: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();

/// Where the handler of a thread's signals runs: walks of stacks and whole sets of registers need more than the host gives it.
struct SignalStack(Option<Mapping>);

impl SignalStack {
    const SIZE: usize = 64 << 10;

    fn new() -> Self {
        // Without memory for it the thread keeps the one that it has.
        let memory = Mapping::new(Self::SIZE, Access::ReadWrite).ok();
        if let Some(memory) = &memory {
            Self::set(libc::stack_t { ss_sp: memory.base() as *mut c_void, ss_flags: 0, ss_size: Self::SIZE });
        }
        Self(memory)
    }

    fn set(stack: libc::stack_t) {
        // SAFETY: the memory is this thread's own, and stays until the stack is disabled.
        unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        if self.0.is_some() {
            Self::set(libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 });
        }
    }
}

thread_local! {
    static SIGNAL_STACK: SignalStack = SignalStack::new();
}

fn install() {
    static ONCE: Once = Once::new();
    // A thread that is ending keeps the one that it has.
    let _ = SIGNAL_STACK.try_with(|_| ());
    ONCE.call_once(|| {
        // All are known before the first is replaced: any thread may be in the new handler from then on.
        PREVIOUS.get_or_init(|| SIGNALS.map(handler_of));
        for signal in SIGNALS {
            // SAFETY: a sigaction of zero bytes is valid: no handler, empty mask.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            // SAFETY: the handler is for SA_SIGINFO, and touches only what a handler may.
            unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        }
    });
}

/// How the process handles a signal now.
fn handler_of(signal: i32) -> libc::sigaction {
    // SAFETY: a sigaction of zero bytes is valid: no handler, empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action it only writes the present one.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    action
}

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system passes the interrupted thread's context, which is this handler's to change.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let registers = &mut context.uc_mcontext.gregs;
    let rip = registers[libc::REG_RIP as usize].cast_unsigned() as usize;
    // SAFETY: the system passes the signal's information.
    let info = unsafe { &*info };
    // SAFETY: the signals handled here carry an address.
    let address = unsafe { info.si_addr() } as usize;
    let pages_in = |current: &Current| current.irql.get() < DISPATCH_LEVEL && current.kernel.paging.page_in(address);
    if signal == libc::SIGSEGV && try_current().is_some_and(pages_in) {
        return;
    }
    if rip == try_read as *const () as usize || rip == try_write as *const () as usize {
        registers[libc::REG_RIP as usize] = probe_failed as *const () as i64;
        return;
    }
    let entry = try_current().filter(|current| current.escape.get() != 0);
    let Some(current) = entry else { return hand_on(signal) };
    if registry::find(rip).is_some() {
        if signal == libc::SIGTRAP {
            return; // int3: a kernel debugger that says go
        }
        if signal == libc::SIGSEGV
            && (emulate_cr8(current, registers, rip)
                || instruction_at(rip).is_some_and(|code| shared_data::serve(registers, code)))
        {
            return;
        }
    } else if DRIVER_STACK.get() == 0 && current.stack_entry.get() == 0 {
        return hand_on(signal); // a fault of the harness itself
    }
    let mut backtrace = Backtrace::EMPTY;
    unwind::walk(&Registers::from_signal(registers), current.escape.get(), &mut backtrace);
    let fail_fast = code_at(rip)
        .filter(|code| code[..2] == [0xcd, 0x29])
        .map(|_| registers[libc::REG_RCX as usize].cast_unsigned());
    /// The signal comes from the kernel, which has no address for it (SI_KERNEL).
    const SI_KERNEL: i32 = 0x80;
    let is_at_an_address = info.si_code != SI_KERNEL;
    let fault = Fault { signal, address, is_at_an_address, rip, fail_fast, backtrace };
    let in_driver = registry::find(rip).is_some() || address == rip;
    let place = if in_driver { exception::Place::Driver } else { exception::Place::Kernel };
    if fail_fast.is_none() && exception::interrupt(current, &fault, place, context) {
        return;
    }
    let registers = &mut context.uc_mcontext.gregs;
    current.fault.set(Some(fault));
    registers[libc::REG_RDI as usize] = current.escape.get().cast_signed() as i64;
    registers[libc::REG_RIP as usize] = leave as *const () as i64;
}

/// The first bytes of an instruction of a driver.
fn code_at(rip: usize) -> Option<[u8; 4]> {
    instruction_at(rip).map(|code| std::array::from_fn(|index| code[index]))
}

/// As many bytes as an instruction with an address in it has; zeros behind the image's end.
fn instruction_at(rip: usize) -> Option<[u8; 10]> {
    let image = registry::find(rip)?;
    Some(std::array::from_fn(|index| image.byte_at(rip + index).unwrap_or(0)))
}

/// `mov reg, cr8` and `mov cr8, reg`: how drivers read and change the IRQL without a call. True if it was one.
fn emulate_cr8(current: &Current, registers: &mut [i64; 23], rip: usize) -> bool {
    let Some([prefix, 0x0f, opcode, modrm]) = code_at(rip) else { return false };
    if !matches!(prefix, 0x44 | 0x45) || modrm & 0xf8 != 0xc0 {
        return false;
    }
    let register = SIGNAL_ORDER[usize::from(modrm & 7) + if prefix == 0x45 { 8 } else { 0 }] as usize;
    match opcode {
        0x20 => registers[register] = i64::from(current.irql.get()),
        0x22 => current.irql.set(registers[register].to_le_bytes()[0] & 15),
        _ => return false,
    }
    registers[libc::REG_RIP as usize] += 4;
    true
}

/// Restores the handler that was there before, which the instruction then meets when it runs again.
fn hand_on(signal: i32) {
    let previous = PREVIOUS.get().zip(SIGNALS.iter().position(|known| *known == signal));
    if let Some((previous, index)) = previous {
        // SAFETY: an action that the system itself gave out.
        unsafe { libc::sigaction(signal, &raw const previous[index], ptr::null_mut()) };
    }
}
