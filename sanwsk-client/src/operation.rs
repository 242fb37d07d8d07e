//! What is under way: a slot of memory for an operation, and the future that waits for its end.
#![allow(unsafe_code, reason = "keeps what an operation uses beside it, shared with its completion")]

use crate::buffer::Buffer;
use crate::endpoint::close_detached;
use crate::interface::Interface;
use crate::shared::{Shared, allocate, free};
use atomic_waker::AtomicWaker;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::pin::Pin;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering, fence};
use core::task::{Context, Poll};
use san_protocol::kernel::{self, ClientId, Mdl};
use san_protocol::{AcceptReply, NegotiateReply, NtStatus};
use zerocopy::FromBytes;

/// Bytes of the longest reply.
const REPLY: usize = size_of::<NegotiateReply>();

/// What an operation uses, and has to itself until it is over.
pub(crate) enum Held {
    Nothing,
    Buffer(Buffer),
    /// For the endpoint that an accept brings.
    Closer(Slot),
}

/// How an operation ended.
#[derive(Clone, Copy)]
struct Outcome {
    status: NtStatus,
    information: usize,
}

/// A slot's memory. The driver's own part lies behind it.
#[repr(C, align(16))]
struct Head {
    /// Whoever waits for the end, and the completion: the last one to leave makes the slot a spare one.
    references: AtomicU32,
    ended: AtomicBool,
    waker: AtomicWaker,
    contents: UnsafeCell<Contents>,
}

/// The completion's until it says that the operation has ended.
struct Contents {
    outcome: Outcome,
    reply: [u8; REPLY],
    held: Held,
    /// Whose operation it is, while it is under way.
    core: Option<Shared<Core>>,
}

fn operation(block: NonNull<Head>) -> *mut kernel::Operation {
    // SAFETY: the driver's memory lies behind the head, in the same block.
    unsafe { block.as_ptr().add(1) }.cast()
}

/// Memory in which nothing is under way.
pub(crate) struct Slot(NonNull<Head>);

// SAFETY: memory of its own; nothing in it has a tie to a thread.
unsafe impl Send for Slot {}
// SAFETY: a shared slot gives access to nothing.
unsafe impl Sync for Slot {}

/// Spare slots that a client keeps.
const SPARES: usize = 32;

/// What the endpoints of a client have in common.
pub(crate) struct Core {
    pub(crate) interface: Interface,
    pub(crate) id: ClientId,
    spares: [AtomicPtr<Head>; SPARES],
}

impl Core {
    pub(crate) fn new(interface: Interface, id: ClientId) -> Self {
        Self { interface, id, spares: [const { AtomicPtr::new(ptr::null_mut()) }; SPARES] }
    }

    /// A slot, a spare one if there is one. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn slot(&self) -> Result<Slot, NtStatus> {
        let taken = self.spares.iter().find_map(|spare| NonNull::new(spare.swap(ptr::null_mut(), Ordering::Acquire)));
        taken.map_or_else(|| Slot::new(&self.interface), |block| Ok(Slot(block)))
    }

    /// Keeps a slot for later, or lets it go.
    fn keep(&self, slot: Slot) {
        let block = slot.0.as_ptr();
        let is_kept = |spare: &AtomicPtr<Head>| {
            spare.compare_exchange(ptr::null_mut(), block, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        if self.spares.iter().any(is_kept) {
            core::mem::forget(slot);
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for spare in &mut self.spares {
            drop(NonNull::new(*spare.get_mut()).map(Slot));
        }
    }
}

/// What a function of the table is given of a slot.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a> {
    pub(crate) table: &'a kernel::Interface,
    pub(crate) client: ClientId,
    pub(crate) operation: *mut kernel::Operation,
    /// Of the buffer, if the operation holds one; else null.
    pub(crate) mdl: *mut Mdl,
    reply: *mut u8,
}

impl Arguments<'_> {
    /// Room for a reply of type `T`.
    pub(crate) fn reply<T: FromBytes>(&self) -> *mut T {
        const { assert!(size_of::<T>() <= REPLY) };
        self.reply.cast()
    }
}

impl Slot {
    pub(crate) fn new(interface: &Interface) -> Result<Self, NtStatus> {
        let length = size_of::<Head>() + interface.table().operation_size as usize;
        let block = allocate(length)?.cast::<Head>();
        let contents = Contents {
            outcome: Outcome { status: NtStatus::UNSUCCESSFUL, information: 0 },
            reply: [0; REPLY],
            held: Held::Nothing,
            core: None,
        };
        let initial = Head {
            references: AtomicU32::new(0),
            ended: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            contents: UnsafeCell::new(contents),
        };
        // SAFETY: a new block, long enough.
        unsafe { block.write(initial) };
        let slot = Self(block);
        // SAFETY: memory of that size, in which nothing is under way.
        let status = unsafe {
            (interface.table().initialize_operation)(operation(block), Some(completed), block.as_ptr().cast())
        };
        if status.is_success() { Ok(slot) } else { Err(status) }
    }

    /// Begins an operation that keeps `held`; with any other status than pending it has not begun. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn begin(
        self,
        core: &Shared<Core>,
        held: Held,
        call: impl FnOnce(Arguments<'_>) -> NtStatus,
    ) -> Result<UnderWay, (NtStatus, Held)> {
        let block = self.0;
        core::mem::forget(self);
        let mdl = match &held {
            Held::Buffer(buffer) => buffer.mdl(),
            Held::Nothing | Held::Closer(_) => ptr::null_mut(),
        };
        let under_way = UnderWay(block);
        // SAFETY: nothing is under way, so that nobody else has the slot.
        let contents = unsafe { &mut *under_way.head().contents.get() };
        (contents.held, contents.core) = (held, Some(core.clone()));
        let reply = contents.reply.as_mut_ptr();
        under_way.head().ended.store(false, Ordering::Relaxed);
        under_way.head().references.store(2, Ordering::Release);
        let status =
            call(Arguments { table: core.interface.table(), client: core.id, operation: operation(block), mdl, reply });
        if status == NtStatus::PENDING {
            return Ok(under_way);
        }
        // SAFETY: it has not begun: nobody else has the slot.
        let contents = unsafe { &mut *under_way.head().contents.get() };
        let held = core::mem::replace(&mut contents.held, Held::Nothing);
        // SAFETY: the reference that the completion would have given back.
        unsafe { release(block) };
        drop(under_way);
        Err((status, held))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: nothing is under way: nobody else has it.
        unsafe { self.0.drop_in_place() };
        // SAFETY: as above.
        unsafe { free(self.0.cast()) };
    }
}

/// A slot whose operation has begun.
pub(crate) struct UnderWay(NonNull<Head>);

// SAFETY: what is in it is handed over by `ended`.
unsafe impl Send for UnderWay {}
// SAFETY: as above; shared, it gives access to what is atomic.
unsafe impl Sync for UnderWay {}

impl UnderWay {
    fn head(&self) -> &Head {
        // SAFETY: this is one of its references.
        unsafe { self.0.as_ref() }
    }

    /// Whether the operation has ended; if not, `context` is woken when it has.
    fn poll_ended(&self, context: &Context<'_>) -> bool {
        if self.head().ended.load(Ordering::Acquire) {
            return true;
        }
        self.head().waker.register(context.waker());
        self.head().ended.load(Ordering::Acquire)
    }

    /// What has become of it, after its end.
    fn take(self) -> Ended {
        debug_assert!(self.head().ended.load(Ordering::Acquire), "taken too early");
        // SAFETY: it has ended, and this is who waited for it.
        let contents = unsafe { &mut *self.head().contents.get() };
        let Outcome { status, information } = contents.outcome;
        let held = core::mem::replace(&mut contents.held, Held::Nothing);
        Ended { status, information, held, reply: contents.reply }
    }

    /// Has it cancelled, unless it ends before. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn cancel(&self, core: &Core) {
        // SAFETY: this reference keeps the operation's memory. A status says that there was nothing to cancel.
        let _ = unsafe { (core.interface.table().cancel_operation)(operation(self.0)) };
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // SAFETY: the one reference that this value stands for.
        unsafe { release(self.0) };
    }
}

/// The end of every operation. IRQL <= DISPATCH_LEVEL.
unsafe extern "C" fn completed(
    _operation: *mut kernel::Operation,
    context: *mut c_void,
    status: NtStatus,
    information: usize,
) {
    // SAFETY: the slot, of which the operation has a reference.
    let block = unsafe { NonNull::new_unchecked(context.cast::<Head>()) };
    // SAFETY: as above.
    let this = unsafe { block.as_ref() };
    // SAFETY: the contents are the completion's until it says that the operation has ended.
    unsafe { (*this.contents.get()).outcome = Outcome { status, information } };
    this.ended.store(true, Ordering::Release);
    this.waker.wake();
    // SAFETY: the operation's own reference.
    unsafe { release(block) };
}

/// Gives a reference back.
///
/// # Safety
///
/// The caller has one, and does not use it any more.
unsafe fn release(block: NonNull<Head>) {
    // SAFETY: by this function's contract.
    let this = unsafe { block.as_ref() };
    if this.references.fetch_sub(1, Ordering::Release) != 1 {
        return;
    }
    fence(Ordering::Acquire);
    drop(this.waker.take());
    // SAFETY: the last reference has gone: nobody else has the slot.
    let contents = unsafe { &mut *this.contents.get() };
    let held = core::mem::replace(&mut contents.held, Held::Nothing);
    let core = contents.core.take();
    let (outcome, accepted) = (contents.outcome, contents.reply);
    let Some(core) = core else { return };
    core.keep(Slot(block));
    match held {
        // Nobody waited for the connection any more that this brought.
        Held::Closer(closer) if outcome.status.is_success() => {
            if let Ok((reply, _)) = AcceptReply::read_from_prefix(&accepted) {
                close_detached(&core, closer, reply.endpoint);
            }
        }
        Held::Closer(_) | Held::Buffer(_) | Held::Nothing => {}
    }
}

/// An operation that is over.
pub(crate) struct Ended {
    status: NtStatus,
    information: usize,
    held: Held,
    reply: [u8; REPLY],
}

impl Ended {
    fn refused((status, held): (NtStatus, Held)) -> Self {
        Self { status, information: 0, held, reply: [0; REPLY] }
    }

    pub(crate) fn result(&self) -> Result<(), NtStatus> {
        if self.status.is_success() { Ok(()) } else { Err(self.status) }
    }

    /// The reply of an operation that was successful.
    pub(crate) fn reply<T: FromBytes>(&self) -> Result<T, NtStatus> {
        self.result()?;
        let reply = T::read_from_prefix(&self.reply);
        reply.map(|(reply, _)| reply).map_err(|_| NtStatus::BUFFER_TOO_SMALL)
    }

    /// Bytes that have been moved.
    pub(crate) fn length(&self) -> Result<u32, NtStatus> {
        self.result()?;
        u32::try_from(self.information).map_err(|_| NtStatus::UNSUCCESSFUL)
    }

    /// What it held.
    pub(crate) fn held(self) -> Held {
        self.held
    }
}

/// The future of an operation, which begins when it is first polled, and is cancelled when it is dropped before its end.
pub(crate) struct Operating<'a, C> {
    core: &'a Shared<Core>,
    stage: Stage<C>,
}

enum Stage<C> {
    New(Held, C),
    UnderWay(UnderWay),
    Over,
}

impl<'a, C: FnOnce(Arguments<'_>) -> NtStatus> Operating<'a, C> {
    pub(crate) fn new(core: &'a Shared<Core>, held: Held, call: C) -> Self {
        Self { core, stage: Stage::New(held, call) }
    }
}

impl<'a> Operating<'a, fn(Arguments<'_>) -> NtStatus> {
    /// Waits for what has begun already.
    pub(crate) fn begun(core: &'a Shared<Core>, under_way: UnderWay) -> Self {
        Self { core, stage: Stage::UnderWay(under_way) }
    }
}

// Nothing in it refers to itself.
impl<C> Unpin for Operating<'_, C> {}

impl<C: FnOnce(Arguments<'_>) -> NtStatus> Future for Operating<'_, C> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let under_way = match core::mem::replace(&mut self.stage, Stage::Over) {
            Stage::New(held, call) => {
                let begun = match self.core.slot() {
                    Ok(slot) => slot.begin(self.core, held, call),
                    Err(status) => Err((status, held)),
                };
                match begun {
                    Ok(under_way) => under_way,
                    Err(refusal) => return Poll::Ready(Ended::refused(refusal)),
                }
            }
            Stage::UnderWay(under_way) => under_way,
            Stage::Over => return Poll::Pending,
        };
        if under_way.poll_ended(context) {
            return Poll::Ready(under_way.take());
        }
        self.stage = Stage::UnderWay(under_way);
        Poll::Pending
    }
}

impl<C> Drop for Operating<'_, C> {
    fn drop(&mut self) {
        match &self.stage {
            Stage::UnderWay(under_way) => under_way.cancel(self.core),
            Stage::New(..) | Stage::Over => {}
        }
    }
}
