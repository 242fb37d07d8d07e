//! What is under way for a client: its own memory, in which the driver's operation lies.
#![allow(unsafe_code, reason = "lives in memory of the client, which it names by a pointer")]

use crate::handle::Handle;
use crate::nt::{ClientIrp, Shared};
use crate::operation::Operation;
use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use san_core::concurrent::Cancelable;
use san_protocol::{NtStatus, kernel};
use wdk_sys::STATUS_NOT_FOUND;

/// How the client is told.
#[derive(Clone, Copy)]
enum Notice {
    Callback(kernel::Completion, *mut c_void),
    Irp(ClientIrp),
}

/// There is nothing to cancel (any more).
const NOT_FOUND: NtStatus = NtStatus(STATUS_NOT_FOUND);

/// Says that memory has been initialized.
const SIGNATURE: u32 = u32::from_le_bytes(*b"SanO");

/// The memory of a client's operation. It begins with the signature.
#[repr(C)]
pub(super) struct Memory {
    signature: u32,
    state: Cancelable,
    notice: Notice,
    /// Whose it is, while it is under way; none for that one's end.
    handle: Cell<Option<Shared<Handle>>>,
    /// Where the reply goes.
    reply: Cell<Reply>,
    space: UnsafeCell<MaybeUninit<Operation>>,
}

/// Room for a reply; none if the client does not want it.
#[derive(Clone, Copy)]
pub(super) struct Reply {
    start: *mut u8,
    length: usize,
}

impl Reply {
    pub(super) const NONE: Self = Self { start: core::ptr::null_mut(), length: 0 };

    pub(super) fn of<T>(reply: *mut T) -> Self {
        Self { start: reply.cast(), length: size_of::<T>() }
    }
}

/// An operation of a client that is under way.
#[derive(Clone, Copy)]
pub(crate) struct Call(NonNull<Memory>);

// SAFETY: the memory is non-paged and nobody's but the driver's until it is completed; cancelling goes by `state`.
unsafe impl Send for Call {}

impl Call {
    /// Makes an operation of memory. Any IRQL.
    ///
    /// # Safety
    ///
    /// `memory` is non-paged, has the size of [`Memory`], and no operation is under way in it.
    unsafe fn initialize(memory: *mut kernel::Operation, notice: Notice) -> Result<(), NtStatus> {
        let memory = Self::aligned(memory)?;
        let initial = Memory {
            signature: SIGNATURE,
            state: Cancelable::new(),
            notice,
            handle: Cell::new(None),
            reply: Cell::new(Reply::NONE),
            space: UnsafeCell::new(MaybeUninit::uninit()),
        };
        // SAFETY: by this function's contract.
        unsafe { memory.write(initial) };
        Ok(())
    }

    /// Makes an operation that tells its end by a callback. Any IRQL.
    ///
    /// # Safety
    ///
    /// Those of [`Call::initialize`].
    pub(super) unsafe fn with_callback(
        memory: *mut kernel::Operation,
        completion: Option<kernel::Completion>,
        context: *mut c_void,
    ) -> Result<(), NtStatus> {
        let completion = completion.ok_or(NtStatus::INVALID_PARAMETER)?;
        // SAFETY: by this function's contract.
        unsafe { Self::initialize(memory, Notice::Callback(completion, context)) }
    }

    /// Makes an operation that completes an IRP. Any IRQL.
    ///
    /// # Safety
    ///
    /// Those of [`Call::initialize`]; and the IRP, if it is not null, is the client's own, with a stack location to spare.
    pub(super) unsafe fn with_irp(memory: *mut kernel::Operation, irp: *mut c_void) -> Result<(), NtStatus> {
        let irp = NonNull::new(irp).ok_or(NtStatus::INVALID_PARAMETER)?;
        // SAFETY: by this function's contract.
        let irp = unsafe { ClientIrp::new(irp.cast()) };
        // SAFETY: by this function's contract.
        unsafe { Self::initialize(memory, Notice::Irp(irp)) }
    }

    fn aligned(memory: *mut kernel::Operation) -> Result<NonNull<Memory>, NtStatus> {
        let memory = NonNull::new(memory.cast::<Memory>()).ok_or(NtStatus::INVALID_PARAMETER)?;
        if memory.is_aligned() { Ok(memory) } else { Err(NtStatus::INVALID_PARAMETER) }
    }

    /// The operation in memory that has been initialized. Any IRQL.
    ///
    /// # Safety
    ///
    /// `memory` has the size of [`Memory`], and stays during this call.
    pub(super) unsafe fn of(memory: *mut kernel::Operation) -> Result<Self, NtStatus> {
        let memory = Self::aligned(memory)?;
        // SAFETY: by this function's contract; what is not initialized has some other number there.
        let signature = unsafe { memory.cast::<u32>().read_volatile() };
        if signature == SIGNATURE { Ok(Self(memory)) } else { Err(NtStatus::INVALID_PARAMETER) }
    }

    fn memory(&self) -> &Memory {
        // SAFETY: initialized, and there until it is completed, or during the client's own call.
        unsafe { self.0.as_ref() }
    }

    /// Something begins: the memory is the driver's until [`Call::complete`] or [`Call::abandon`]. IRQL <= DISPATCH_LEVEL.
    ///
    /// `STATUS_DEVICE_BUSY`: something is under way already.
    pub(super) fn begin(self, handle: Option<Shared<Handle>>, reply: Reply) -> Result<(), NtStatus> {
        let memory = self.memory();
        if !memory.state.begin() {
            return Err(NtStatus::DEVICE_BUSY);
        }
        memory.handle.set(handle);
        memory.reply.set(reply);
        match memory.notice {
            Notice::Callback(..) => {}
            Notice::Irp(irp) => irp.begin(),
        }
        Ok(())
    }

    /// It has not begun after all: its client is told by a status at once. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(super) fn abandon(self) {
        let memory = self.memory();
        match memory.notice {
            Notice::Callback(..) => {}
            Notice::Irp(irp) => irp.take_back(),
        }
        let handle = memory.handle.take();
        memory.state.end();
        drop(handle);
    }

    /// Whose it is.
    pub(crate) fn handle(&self) -> &Handle {
        // SAFETY: set when it began, and taken when it is completed; every copy of the call is forgotten by then.
        let handle = unsafe { &*self.memory().handle.as_ptr() };
        // SAFETY: only the end of a client has none, and that has no operation that asks.
        unsafe { handle.as_ref().unwrap_unchecked() }
    }

    /// Where the driver's operation lies.
    pub(crate) fn space(self) -> NonNull<Operation> {
        // SAFETY: it lies in the memory.
        unsafe { NonNull::new_unchecked(self.memory().space.get().cast()) }
    }

    /// Stores the reply; returns its length. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn write_reply(self, reply: &[u8]) -> Result<usize, NtStatus> {
        let room = self.memory().reply.get();
        if room.start.is_null() {
            return Ok(0);
        }
        if reply.len() > room.length {
            return Err(NtStatus::BUFFER_TOO_SMALL);
        }
        // SAFETY: the client gave so many bytes, which stay until it is told.
        unsafe { core::ptr::copy_nonoverlapping(reply.as_ptr(), room.start, reply.len()) };
        Ok(reply.len())
    }

    /// Lets it be cancelled. IRQL <= DISPATCH_LEVEL.
    ///
    /// `STATUS_CANCELLED`: its IRP is cancelled already.
    pub(crate) fn mark_cancelable(self) -> Result<(), NtStatus> {
        let memory = self.memory();
        match memory.notice {
            Notice::Callback(..) => {
                memory.state.allow();
                Ok(())
            }
            Notice::Irp(irp) => irp.mark_cancelable(Self::cancel_irp, self.0.as_ptr().cast()),
        }
    }

    /// Whether it can no longer be cancelled; if not, that has been done, is, or will be. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn unmark_cancelable(self) -> bool {
        let memory = self.memory();
        match memory.notice {
            Notice::Callback(..) => memory.state.revoke(),
            Notice::Irp(irp) => irp.unmark_cancelable(),
        }
    }

    /// Cancels it. IRQL <= DISPATCH_LEVEL; no lock is held.
    ///
    /// `STATUS_NOT_FOUND`: there is nothing to cancel (any more). `STATUS_NOT_SUPPORTED`: that is `IoCancelIrp`'s to do.
    pub(super) fn cancel(self) -> Result<(), NtStatus> {
        let memory = self.memory();
        match memory.notice {
            Notice::Irp(_) => return Err(NtStatus::NOT_SUPPORTED),
            Notice::Callback(..) => {}
        }
        if !memory.state.claim() {
            return Err(NOT_FOUND);
        }
        // SAFETY: whoever has claimed it is the one who does this, and `unmark_cancelable` has not said that none may.
        unsafe { Operation::cancel(self.space()) };
        Ok(())
    }

    /// The IRP of a call is cancelled. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// `context` comes from `mark_cancelable`, and `unmark_cancelable` has not said that it can no longer be cancelled.
    unsafe fn cancel_irp(context: *mut c_void) {
        // SAFETY: by this function's contract.
        let call = Self(unsafe { NonNull::new_unchecked(context.cast()) });
        // SAFETY: as above; an IRP's cancel routine runs once.
        unsafe { Operation::cancel(call.space()) };
    }

    /// Tells the client the end; the memory is its own again before it is told. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn complete(self, status: NtStatus, information: usize) {
        let memory = self.memory();
        let (notice, handle) = (memory.notice, memory.handle.take());
        memory.state.end();
        match notice {
            Notice::Callback(completion, context) => {
                // SAFETY: the client's callback, with what it gave for it.
                unsafe { completion(self.0.as_ptr().cast(), context, status, information) };
            }
            Notice::Irp(irp) => irp.complete(status, information),
        }
        // Last: the client's end is told after this.
        drop(handle);
    }
}
