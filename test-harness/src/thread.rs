//! A host thread in kernel mode: which machine, process and thread it is, its IRQL and what it holds.
#![allow(unsafe_code)] // the thread-local pointer to the innermost entry

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::guard::{self, Stopped};
use crate::kernel::Kernel;
use crate::nt::lock_order::{Held, LockKind};
use crate::nt::process::Thread;
use crate::nt::types::{DISPATCH_LEVEL, KIRQL, PASSIVE_LEVEL};
use crate::nt::{exception, processor};

/// A thread's IRQL. Raising it to DISPATCH_LEVEL takes pageable memory away.
pub(crate) struct Irql(Cell<KIRQL>);

impl Irql {
    pub(crate) fn get(&self) -> KIRQL {
        self.0.get()
    }

    pub(crate) fn set(&self, new: KIRQL) {
        self.replace(new);
    }

    /// Sets it; the old one.
    pub(crate) fn replace(&self, new: KIRQL) -> KIRQL {
        let old = self.0.replace(new);
        if old < DISPATCH_LEVEL
            && new >= DISPATCH_LEVEL
            && let Some(current) = try_current()
        {
            current.kernel.paging.page_out();
        }
        old
    }
}

impl Current {
    /// Spin locks held.
    pub(crate) fn spin_locks(&self) -> usize {
        let spins = |held: &&Held| matches!(held.kind, LockKind::Spin | LockKind::Presentation);
        self.locks.borrow().iter().filter(spins).count()
    }
}

/// The state of one entry into kernel mode.
pub(crate) struct Current {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) thread: Arc<Thread>,
    pub(crate) irql: Irql,
    /// The kernel function called last, for reports.
    pub(crate) call: Cell<&'static str>,
    /// Where the driver made that call: what is left to show of a routine that has returned.
    pub(crate) call_site: Cell<usize>,
    /// The routine of the driver that returned last, and where it made its last call.
    pub(crate) returned: Cell<(&'static str, usize)>,
    /// The driver's routine that runs.
    pub(crate) routine: Cell<&'static str>,
    /// The locks held, in the order in which they were taken.
    pub(crate) locks: RefCell<Vec<Held>>,
    /// Whether it has DPCs to run.
    pub(crate) dpcs_queued: Cell<bool>,
    /// WSK calls that it is inside of: the inner ones were made by completion routines of the outer ones.
    pub(crate) wsk_depth: Cell<u32>,
    /// KeEnterCriticalRegion's depth.
    pub(crate) critical_regions: Cell<u32>,
    /// The stack pointer to return to on an escape.
    pub(crate) escape: Cell<usize>,
    /// The stack pointer at the innermost call into the driver.
    pub(crate) stack_entry: Cell<usize>,
    pub(crate) fault: Cell<Option<guard::Fault>>,
    /// The innermost exception or unwind that a handler of the driver's is being called for.
    pub(crate) exception: Cell<*const exception::Active>,
}

/// The registers that a function gives back to its caller as they were (x64 calling convention).
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct DriverRegisters {
    pub(crate) vectors: [u128; 10],
    pub(crate) general: [usize; 8],
}

impl DriverRegisters {
    /// RBX, RBP, RSI, RDI, R12 to R15, numbered as in instructions.
    pub(crate) const GENERAL: [u8; 8] = [3, 5, 6, 7, 12, 13, 14, 15];
    /// XMM6 to XMM15.
    pub(crate) const VECTORS: [u8; 10] = [6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    const NONE: Self = Self { vectors: [0; 10], general: [0; 8] };
}

/// Where the driver last called an import, to be put back when its caller goes on.
#[derive(Clone, Copy)]
pub(crate) struct DriverCall {
    stack: usize,
    registers: DriverRegisters,
}

impl DriverCall {
    pub(crate) fn get() -> Self {
        Self { stack: DRIVER_STACK.get(), registers: DRIVER_REGISTERS.get() }
    }

    pub(crate) fn put_back(self) {
        DRIVER_STACK.set(self.stack);
        DRIVER_REGISTERS.set(self.registers);
    }
}

thread_local! {
    static CURRENT: Cell<*const Current> = const { Cell::new(std::ptr::null()) };
    /// The stack pointer with which a driver last called an import; written by the import's thunk.
    pub(crate) static DRIVER_STACK: Cell<usize> = const { Cell::new(0) };
    /// The registers at that call; written there, too.
    pub(crate) static DRIVER_REGISTERS: Cell<DriverRegisters> = const { Cell::new(DriverRegisters::NONE) };
}

/// The innermost entry of this thread, if it is in kernel mode.
pub(crate) fn try_current<'a>() -> Option<&'a Current> {
    let current = CURRENT.get();
    // SAFETY: `enter` sets the pointer to its own local, and resets it before it returns; what is borrowed here is used
    // within the kernel call that asked.
    (!current.is_null()).then(|| unsafe { &*current })
}

/// The innermost entry of this thread.
///
/// # Panics
/// Outside kernel mode: a fault of this harness.
pub(crate) fn current<'a>() -> &'a Current {
    try_current().expect("the thread is in kernel mode")
}

/// The machine this thread runs on.
pub(crate) fn kernel<'a>() -> &'a Kernel {
    &current().kernel
}

/// Enters kernel mode on the calling thread as `thread` of the machine, at PASSIVE_LEVEL, like a system call.
///
/// # Errors
/// The machine had stopped, or it stopped during the call, which was abandoned: its frames were left without unwinding.
pub(crate) fn enter<T>(kernel: &Arc<Kernel>, thread: &Arc<Thread>, body: impl FnOnce() -> T) -> Result<T, Stopped> {
    if kernel.is_stopped() {
        return Err(Stopped);
    }
    let current = Current {
        kernel: kernel.clone(),
        thread: thread.clone(),
        irql: Irql(Cell::new(PASSIVE_LEVEL)),
        call: Cell::new(""),
        call_site: Cell::new(0),
        routine: Cell::new(""),
        returned: Cell::new(("", 0)),
        locks: RefCell::new(Vec::new()),
        dpcs_queued: Cell::new(false),
        wsk_depth: Cell::new(0),
        critical_regions: Cell::new(0),
        escape: Cell::new(0),
        stack_entry: Cell::new(0),
        fault: Cell::new(None),
        exception: Cell::new(std::ptr::null()),
    };
    let outer = CURRENT.replace(&raw const current);
    let driver_call = DriverCall::get();
    let running = processor::switch_to(thread);
    DRIVER_STACK.set(0);
    let result = guard::run(&current, body);
    driver_call.put_back();
    processor::put(running);
    CURRENT.set(outer);
    result
}
