//! Something that takes its time: all that it needs, in memory that its issuer gives.
#![allow(unsafe_code, reason = "keeps the operation in its issuer's memory, shared with the cancel callback and a DPC")]

use crate::endpoint::AnyEndpoint;
use crate::issuer::Issuer;
use crate::nt::{MdlBuffer, Outcome, PartialMdl, Round, Timer, WskIrp};
use crate::san;
use crate::stream;
use crate::wdf::{self, Request};
use crate::wsk::SockAddr;
use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use san_core::concurrent::Parties;
use san_core::san::Sending;
use san_protocol::NtStatus;
use san_protocol::wire::HEADER_SIZE;
use wdk_sys::{NTSTATUS, PIRP, PKDPC, PVOID, WDFREQUEST};
use wsk_bindings::WSK_BUF;

/// What an operation goes on with when its WSK call has ended.
pub(crate) type Then = fn(Pending, Outcome);

/// What an operation does, which says how it is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One WSK call, or several in a row: cancelling reaches the IRP that is out.
    Wsk,
    /// Waits in a listener's backlog for a connection, for which this id is reserved.
    Accept(u64),
    /// Waits in a SAN endpoint, and is answered thus.
    San(san::Answer),
}

/// Memory that a WSK call refers to until its IRP is completed.
pub(crate) struct Arguments {
    pub(crate) setup: Option<stream::Setup>,
    pub(crate) address: SockAddr,
    pub(crate) remote: SockAddr,
    pub(crate) buffer: WSK_BUF,
    pub(crate) value: u32,
    /// Of the call before, on its way to the worker.
    pub(crate) outcome: Outcome,
    /// Header of a SAN message.
    pub(crate) header: MdlBuffer<{ HEADER_SIZE }>,
    /// What of a registered region is the message.
    pub(crate) payload: PartialMdl,
    /// A SAN message on its way.
    pub(crate) sending: Option<Sending<()>>,
}

/// What is under way for an issuer.
///
/// It lies in the issuer's memory, the context space of a request or a client's own, so an operation allocates nothing. Besides
/// its owner ([`Pending`]), cancelling and the timer's DPC look at it: each is a *party*, and the last one to leave tells the
/// issuer.
pub(crate) struct Operation {
    issuer: Issuer,
    kind: Kind,
    endpoint: AnyEndpoint,
    irp: WskIrp,
    timer: Timer,
    timer_set: Cell<bool>,
    expired: AtomicBool,
    parties: Parties,
    outcome: Cell<Outcome>,
    then: Cell<Option<Then>>,
    arguments: UnsafeCell<Arguments>,
    next: Cell<Option<Pending>>,
}

wdf::context_type!(Operation, c"Operation");

/// The owner of an operation: whoever has it drives the operation, and ends it by [`Pending::finish`].
pub(crate) struct Pending(NonNull<Operation>);

// SAFETY: an operation is in non-paged memory and has one owner; what others touch of it is atomic.
unsafe impl Send for Pending {}

/// Somebody who looks at an operation that is not theirs: while it exists the operation does too.
pub(crate) struct Observer(NonNull<Operation>);

impl Operation {
    /// Makes the issuer's operation, which can be cancelled from now on. On failure the issuer is the caller's to tell.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    pub(crate) fn begin(issuer: Issuer, endpoint: AnyEndpoint, kind: Kind) -> Result<Pending, NtStatus> {
        let space = issuer.space();
        let operation = Self {
            issuer,
            kind,
            endpoint,
            irp: WskIrp::new(),
            timer: Timer::new(),
            timer_set: Cell::new(false),
            expired: AtomicBool::new(false),
            // The owner, and who may cancel it.
            parties: Parties::new(2),
            outcome: Cell::new(Outcome { status: NtStatus::UNSUCCESSFUL, information: 0 }),
            then: Cell::new(None),
            arguments: UnsafeCell::new(Arguments {
                setup: None,
                address: SockAddr::NONE,
                remote: SockAddr::NONE,
                buffer: WSK_BUF { Mdl: core::ptr::null_mut(), Offset: 0, Length: 0 },
                value: 0,
                outcome: Outcome::SUCCESS,
                header: MdlBuffer::new(),
                payload: PartialMdl::new(),
                sending: None,
            }),
            next: Cell::new(None),
        };
        // SAFETY: the space has the size of the type, is aligned as pool is, and holds nothing yet.
        unsafe { space.write(operation) };
        match issuer.mark_cancelable() {
            Ok(()) => Ok(Pending(space)),
            Err(status) => {
                // SAFETY: written above, and no other party has come to know it.
                unsafe { space.drop_in_place() };
                Err(status)
            }
        }
    }

    /// The endpoint that the operation is for.
    pub(crate) fn endpoint(&self) -> &AnyEndpoint {
        &self.endpoint
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// Whether it was cancelled because its time was up.
    pub(crate) fn has_expired(&self) -> bool {
        self.expired.load(Ordering::Acquire)
    }

    /// Where a request's operation lies.
    pub(crate) fn of_request(request: Request) -> NonNull<Self> {
        // SAFETY: the request is this driver's, and the device gives every request an `Operation` as context.
        unsafe { wdf::context::<Self>(request.handle().cast()) }
    }

    /// EvtRequestCancel. IRQL <= DISPATCH_LEVEL.
    pub(crate) unsafe extern "C" fn cancel_request(request: WDFREQUEST) {
        // SAFETY: only requests with an operation are made cancelable.
        let operation = unsafe { wdf::context::<Self>(request.cast()) };
        // SAFETY: the framework calls this once, and not after `Request::unmark_cancelable` has said so.
        unsafe { Self::cancel(operation) };
    }

    /// Cancels an operation. IRQL <= DISPATCH_LEVEL; no lock is held.
    ///
    /// # Safety
    ///
    /// Called once, between [`Issuer::mark_cancelable`] and an [`Issuer::unmark_cancelable`] that has said that it cannot be any more.
    pub(crate) unsafe fn cancel(operation: NonNull<Self>) {
        // SAFETY: whoever cancels is one of its parties.
        let this = unsafe { operation.as_ref() };
        this.irp.cancel();
        let withdrawn = match (&this.endpoint, this.kind) {
            (AnyEndpoint::Stream(_), Kind::Wsk | Kind::San(_)) => None,
            (AnyEndpoint::Stream(endpoint), Kind::Accept(_)) => endpoint.withdraw_accept(operation),
            (AnyEndpoint::San(endpoint), Kind::Wsk | Kind::Accept(_) | Kind::San(_)) => {
                san::Endpoint::withdraw(endpoint, operation)
            }
        };
        if let Some(pending) = withdrawn {
            pending.give_back();
            pending.finish_cancelled();
        }
        // SAFETY: the canceller's own party.
        unsafe { Self::leave(operation) };
    }

    /// The timer is due. IRQL = DISPATCH_LEVEL.
    unsafe extern "C" fn expire(_dpc: PKDPC, context: PVOID, _argument1: PVOID, _argument2: PVOID) {
        // SAFETY: the timer was set with its operation, of which this DPC is a party.
        let operation = unsafe { NonNull::new_unchecked(context.cast::<Self>()) };
        // SAFETY: as above.
        let this = unsafe { operation.as_ref() };
        this.expired.store(true, Ordering::Release);
        this.irp.cancel();
        // SAFETY: this DPC's own party.
        unsafe { Self::leave(operation) };
    }

    /// A party leaves; the last one tells the issuer.
    ///
    /// # Safety
    ///
    /// The caller is a party, and leaves once.
    unsafe fn leave(operation: NonNull<Self>) {
        // SAFETY: a party keeps the operation alive until it has left.
        if !unsafe { operation.as_ref() }.parties.leave() {
            return;
        }
        // SAFETY: every party has left: it is moved out before the issuer is told, and the space goes.
        let Self { issuer, endpoint, outcome, arguments, .. } = unsafe { operation.read() };
        drop(arguments);
        let outcome = outcome.get();
        issuer.complete(outcome.status, outcome.information);
        // After that: with its last operation an endpoint may end, and whoever waits for its end is told last.
        drop(endpoint);
    }
}

impl Deref for Pending {
    type Target = Operation;

    fn deref(&self) -> &Operation {
        // SAFETY: the owner is a party.
        unsafe { self.0.as_ref() }
    }
}

impl Pending {
    /// Whether this is the owner of that operation.
    pub(crate) fn owns(&self, operation: NonNull<Operation>) -> bool {
        self.0 == operation
    }

    /// The memory for the next WSK call.
    pub(crate) fn arguments(&mut self) -> &mut Arguments {
        // SAFETY: the owner alone uses the arguments; WSK refers to them only while the owner waits for the IRP.
        unsafe { &mut *self.arguments.get() }
    }

    /// Has the operation cancelled after that many milliseconds; once for an operation. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn expire_after(&self, milliseconds: u32) {
        self.timer_set.set(true);
        self.parties.join();
        // SAFETY: once for an operation, which does not move.
        unsafe { self.timer.initialize(Operation::expire, self.0.as_ptr().cast()) };
        // SAFETY: just initialized; the operation stays until the DPC has left or the timer has been taken back.
        unsafe { self.timer.set(milliseconds) };
    }

    /// Makes a WSK call with the operation's own IRP; see [`Pending::issue_with`].
    pub(crate) fn issue(
        self,
        then: Then,
        call: impl FnOnce(PIRP, &mut Arguments) -> Option<NTSTATUS>,
    ) -> Option<(Self, Outcome)> {
        let operation = self.0;
        // SAFETY: `issue_with` keeps the operation, and its IRP with it, until the round has ended.
        let irp = unsafe { &(*operation.as_ptr()).irp };
        // SAFETY: the operation's own IRP: its owner starts one round at a time.
        unsafe { self.issue_with(irp, then, call) }
    }

    /// Makes a WSK call. Gives the operation back if it has ended at once; else `then` gets it, at any IRQL <=
    /// DISPATCH_LEVEL, possibly before this returns.
    ///
    /// IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    ///
    /// No round of `irp` is under way, and it lives as long as the operation.
    pub(crate) unsafe fn issue_with(
        self,
        irp: &WskIrp,
        then: Then,
        call: impl FnOnce(PIRP, &mut Arguments) -> Option<NTSTATUS>,
    ) -> Option<(Self, Outcome)> {
        self.then.set(Some(then));
        let operation = self.0;
        let arguments = self.arguments.get();
        let call = |irp| {
            // SAFETY: the owner's own, and the owner waits for the round's end.
            let arguments = unsafe { &mut *arguments };
            call(irp, arguments)
        };
        // SAFETY: by this function's contract.
        match unsafe { irp.issue(Self::resume, operation.as_ptr().cast(), call) } {
            Round::Ended(outcome) => Some((self, outcome)),
            Round::Pending => None,
        }
    }

    /// The continuation of a round that ended elsewhere.
    unsafe fn resume(context: *const c_void, outcome: Outcome) {
        // SAFETY: `issue_with` gave its operation away as this context.
        let pending = Self(unsafe { NonNull::new_unchecked(context.cast_mut().cast::<Operation>()) });
        if let Some(then) = pending.then.get() {
            then(pending, outcome);
        }
    }

    /// Lets somebody look at the operation who may outlive its owner.
    pub(crate) fn observe(&self) -> Observer {
        self.parties.join();
        Observer(self.0)
    }

    /// Puts `self` in front of a list of operations.
    pub(crate) fn link(self, rest: Option<Self>) -> Self {
        self.next.set(rest);
        self
    }

    /// Takes the rest of the list that `self` is the front of.
    pub(crate) fn unlink(&self) -> Option<Self> {
        self.next.take()
    }

    /// Ends the operation: its issuer is told `status` as soon as canceller and timer are done with it.
    /// IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn finish(self, status: NtStatus, information: usize) {
        self.outcome.set(Outcome { status, information });
        // SAFETY: a timer that was set is taken back once, here.
        if self.timer_set.get() && unsafe { self.timer.cancel() } {
            // SAFETY: the DPC will not run: its party leaves here.
            unsafe { Operation::leave(self.0) };
        }
        if self.issuer.unmark_cancelable() {
            // SAFETY: nobody will cancel it: that party leaves here.
            unsafe { Operation::leave(self.0) };
        }
        // SAFETY: the owner's own party.
        unsafe { Operation::leave(self.0) };
    }

    /// Gives back what was set aside for the operation: the id of an accept that has got no connection, and a registration's
    /// share of what may be registered. Before it is finished; IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn give_back(&self) {
        match self.kind {
            Kind::Accept(id) => self.issuer.handle().release_id(id),
            Kind::San(san::Answer::Register(bytes)) => san::release_memory(self.issuer.handle(), bytes),
            Kind::Wsk | Kind::San(_) => {}
        }
    }

    /// Ends the operation while it is being cancelled: the canceller is a party still.
    fn finish_cancelled(self) {
        self.outcome.set(Outcome { status: NtStatus::CANCELLED, information: 0 });
        // SAFETY: the owner's own party.
        unsafe { Operation::leave(self.0) };
    }
}

impl Observer {
    /// Which operation it looks at.
    pub(crate) fn operation(&self) -> NonNull<Operation> {
        self.0
    }

    /// Whether the operation has been cancelled, for whatever reason.
    pub(crate) fn is_cancelled(&self) -> bool {
        // SAFETY: an observer is a party.
        unsafe { self.0.as_ref() }.irp.is_cancelled()
    }

    /// Cancels the operation. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn cancel(&self) {
        // SAFETY: an observer is a party.
        unsafe { self.0.as_ref() }.irp.cancel();
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // SAFETY: the observer's own party.
        unsafe { Operation::leave(self.0) };
    }
}
