//! The IRP of a WSK call, made so that completing it, cancelling it and reusing it cannot race.
#![allow(unsafe_code, reason = "initializes an IRP and hands it to the WSK provider")]

use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use san_core::concurrent::Rounds;
use san_protocol::NtStatus;
use wdk_sys::ntddk::{IoCancelIrp, IoInitializeIrp};
use wdk_sys::{
    IO_STACK_LOCATION, IRP, NTSTATUS, PDEVICE_OBJECT, PIRP, PVOID, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR,
    SL_INVOKE_ON_SUCCESS, STATUS_MORE_PROCESSING_REQUIRED, UCHAR,
};

/// What an IRP was completed with.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) status: NtStatus,
    pub(crate) information: usize,
}

impl Outcome {
    pub(crate) const SUCCESS: Self = Self { status: NtStatus::SUCCESS, information: 0 };

    const fn failed(status: NtStatus) -> Self {
        Self { status, information: 0 }
    }
}

/// How a round stands when [`WskIrp::issue`] returns.
pub(crate) enum Round {
    /// It has ended already; the continuation will not be called.
    Ended(Outcome),
    /// The continuation has been called, or will be; the IRP's owner may be gone.
    Pending,
}

/// An IRP with the one stack location that WSK asks for.
#[repr(C, align(16))]
struct IrpMemory {
    irp: MaybeUninit<IRP>,
    location: MaybeUninit<IO_STACK_LOCATION>,
}

/// Called when a round has ended, at any IRQL <= DISPATCH_LEVEL and possibly inside the WSK provider.
type Continuation = unsafe fn(context: *const c_void, outcome: Outcome);

/// An IRP that is used for one WSK call after the other.
///
/// Each use is a *round* with up to three kinds of parties: the issuer until the WSK function has returned, the completion
/// routine, and whoever is cancelling. The last one to leave ends the round, whichever it is; until then the IRP is neither
/// reused nor freed. So `IoCancelIrp` never meets an IRP that is gone, and nothing ever waits.
pub(crate) struct WskIrp {
    memory: UnsafeCell<IrpMemory>,
    rounds: Rounds,
    outcome: Cell<Outcome>,
    continuation: Cell<Option<(Continuation, *const c_void)>>,
}

// SAFETY: `rounds` counts who may touch the other fields: the issuer before the round, the completion routine while it is a
// party (it alone writes `outcome`), and the last party to leave.
unsafe impl Sync for WskIrp {}
// SAFETY: between rounds it is plain memory.
unsafe impl Send for WskIrp {}

impl WskIrp {
    pub(crate) const fn new() -> Self {
        Self {
            memory: UnsafeCell::new(IrpMemory { irp: MaybeUninit::uninit(), location: MaybeUninit::uninit() }),
            rounds: Rounds::new(),
            outcome: Cell::new(Outcome::failed(NtStatus::UNSUCCESSFUL)),
            continuation: Cell::new(None),
        }
    }

    /// Starts a round: `call` hands the IRP to a WSK function, or returns `None` if it could not. After a
    /// [`WskIrp::cancel`], `call` is not made and the round ends with `STATUS_CANCELLED`.
    ///
    /// What the WSK function returned does not matter: the IRP is completed in every case, and says how.
    ///
    /// IRQL <= DISPATCH_LEVEL, or what the WSK function asks for.
    ///
    /// # Safety
    ///
    /// No round is under way. `self` and `context` stay valid until the round has ended.
    pub(crate) unsafe fn issue(
        &self,
        continuation: Continuation,
        context: *const c_void,
        call: impl FnOnce(PIRP) -> Option<NTSTATUS>,
    ) -> Round {
        self.continuation.set(Some((continuation, context)));
        // SAFETY: no round is under way, so the memory is this call's own.
        let irp = unsafe { self.prepare() };
        // From here on a canceller may join.
        let begins = self.rounds.begin();
        let called = if begins { call(irp) } else { None };
        if called.is_none() {
            let status = if begins { NtStatus::NOT_SUPPORTED } else { NtStatus::CANCELLED };
            self.outcome.set(Outcome::failed(status));
            // The completion's party; the issuer still is one.
            let _ = self.rounds.leave();
        } else if self.rounds.is_cancelled() {
            // Cancelled between joining and handing over: the provider may not have seen it.
            // SAFETY: the issuer is a party still, so the IRP is there.
            unsafe { IoCancelIrp(irp) };
        }
        if self.rounds.leave() { Round::Ended(self.outcome.get()) } else { Round::Pending }
    }

    /// Cancels the round that is under way, and all later ones. Any number of times, from anywhere; nothing is waited for.
    ///
    /// The caller makes sure that `self` is not freed meanwhile. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn cancel(&self) {
        if !self.rounds.cancel() {
            return;
        }
        // SAFETY: initialized when the round began, and kept by this party.
        unsafe { IoCancelIrp(self.memory.get().cast()) };
        if self.rounds.leave() {
            self.continue_round();
        }
    }

    /// Whether [`WskIrp::cancel`] has been called.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.rounds.is_cancelled()
    }

    fn continue_round(&self) {
        if let Some((continuation, context)) = self.continuation.get() {
            // SAFETY: `issue` was given both for the end of this round, which is now.
            unsafe { continuation(context, self.outcome.get()) };
        }
    }

    /// Initializes the IRP and sets the completion routine, as the inline `IoSetCompletionRoutine` of wdm.h does.
    ///
    /// # Safety
    ///
    /// No round is under way.
    unsafe fn prepare(&self) -> PIRP {
        let irp = self.memory.get().cast::<IRP>();
        // SAFETY: the memory is large enough for an IRP with one stack location, and nobody's.
        unsafe { IoInitializeIrp(irp, PACKET_SIZE, 1) };
        // SAFETY: just initialized, and nobody else's.
        let packet = unsafe { &*irp };
        // SAFETY: the member of the union that an IRP outside a device queue uses.
        let overlay = unsafe { &packet.Tail.Overlay };
        // SAFETY: as above.
        let current = unsafe { overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation };
        // SAFETY: with one location, the next one to be used is the one below the current pointer.
        let next = unsafe { current.sub(1) };
        // SAFETY: it lies behind the IRP in the same memory.
        let location = unsafe { &mut *next };
        location.CompletionRoutine = Some(Self::completed);
        location.Context = core::ptr::from_ref(self).cast_mut().cast();
        location.Control = INVOKE_ALWAYS;
        irp
    }

    /// The completion routine of every round. The IRP is this driver's own, so completion stops here.
    unsafe extern "C" fn completed(_device: PDEVICE_OBJECT, irp: PIRP, context: PVOID) -> NTSTATUS {
        // SAFETY: `prepare` stored the owner, which stays until the round has ended.
        let this = unsafe { &*context.cast::<Self>() };
        // SAFETY: the IRP is completed: it is no longer the provider's.
        let io_status = unsafe { &(*irp).IoStatus };
        // SAFETY: the status member of the union is the one in use when an IRP is completed.
        let status = unsafe { io_status.__bindgen_anon_1.Status };
        #[expect(clippy::cast_possible_truncation, reason = "ULONG_PTR is as wide as usize")]
        let information = io_status.Information as usize;
        this.outcome.set(Outcome { status: NtStatus(status), information });
        if this.rounds.leave() {
            this.continue_round();
        }
        STATUS_MORE_PROCESSING_REQUIRED
    }
}

/// The completion routine is wanted for success, error and cancel.
#[expect(clippy::cast_possible_truncation, reason = "flags of one byte")]
const INVOKE_ALWAYS: UCHAR = (SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL) as UCHAR;

/// `IoSizeOfIrp(1)`.
#[expect(clippy::cast_possible_truncation, reason = "280 bytes")]
const PACKET_SIZE: u16 = (size_of::<IRP>() + size_of::<IO_STACK_LOCATION>()) as u16;
