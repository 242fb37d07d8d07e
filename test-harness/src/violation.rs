//! Rules that a driver broke, as Driver Verifier would report them.

use std::fmt;

use crate::image::Frame;

/// The enumeration, and the list of all its plain variants.
macro_rules! rules {
    ($($(#[$documentation:meta])* $name:ident,)*) => {
        /// A rule of the Windows kernel, or of a correct WSK client, that a program can check.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule {
            $($(#[$documentation])* $name,)*
            /// A rule of a correct WSK client, by its number in `docs/wsk-rules.md`.
            Wsk(u8),
        }

        impl Rule {
            /// All but those of WSK.
            pub const PLAIN: &[Rule] = &[$(Rule::$name),*];
        }
    };
}

rules! {
    /// The driver touched memory that it may not touch, or executed an illegal or privileged instruction.
    Fault,
    /// Pool memory was used after it had been freed.
    UseAfterFree,
    /// Pool memory was written or read behind the end of its block.
    PoolOverrun,
    /// Pool memory was written or read before the start of its block.
    PoolUnderrun,
    /// Pageable memory was allocated, freed or touched at DISPATCH_LEVEL or above.
    PagedMemory,
    /// Something was freed that is not allocated: freed twice, or never allocated.
    BadFree,
    /// A function was called, or a routine returned, at an IRQL that its documentation excludes.
    Irql,
    /// A spin lock was acquired twice by one thread, released by another, or kept past the end of a routine.
    SpinLock,
    /// A mutex, rundown reference or critical region was misused.
    Lock,
    /// Locks were taken in an order that can deadlock against another order, taken before.
    LockOrder,
    /// A spin lock was held across a call that may complete I/O.
    LockAcrossIo,
    /// A spin lock was held for too long.
    LockHeldTooLong,
    /// A dispatcher object was used before it was initialized, or for what it is not.
    DispatcherObject,
    /// An IRP was completed twice, completed with a wrong status, freed or reused in flight, or is not an IRP.
    Irp,
    /// An MDL was mapped, locked or unlocked out of order, or is too small.
    Mdl,
    /// A handle or object reference was misused.
    Object,
    /// A device, driver object or request was misused towards the I/O manager.
    Io,
    /// The driver called KeBugCheckEx, or a fail-fast.
    BugCheck,
    /// The driver called an import that nothing provides.
    MissingImport,
    /// More than the kernel stack's 24 KiB were asked for.
    KernelStack,
    /// Something the driver acquired outlives it.
    Leak,
    /// A wait, cancel or unload did not end in time.
    Hang,
    /// A rule of the framework (KMDF).
    Framework,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Wsk(number) => write!(f, "WSK rule {number}"),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A broken rule. The first one stops its machine.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What happened.
    pub text: String,
    /// The kernel function that was called, or the driver routine that ran.
    pub call: &'static str,
    /// The name of the machine.
    pub machine: String,
    /// The driver's frames, innermost first.
    pub backtrace: Vec<Frame>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)?;
        if !self.call.is_empty() {
            write!(f, " [in {}]", self.call)?;
        }
        write!(f, " on machine {}", self.machine)?;
        for frame in &self.backtrace {
            write!(f, "\n    {frame}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}
