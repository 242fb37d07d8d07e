//! An IRP of somebody else, which is completed for something that is no request: as WSK completes its clients'.
#![allow(unsafe_code, reason = "completes an IRP, and lets it be cancelled")]

use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};
use san_protocol::NtStatus;
use wdk_sys::ntddk::{IoReleaseCancelSpinLock, IofCompleteRequest};
use wdk_sys::{IO_NO_INCREMENT, IO_STACK_LOCATION, IRP, PDEVICE_OBJECT, PIRP, SL_PENDING_RETURNED, UCHAR};

/// The flag that `IoMarkIrpPending` sets.
#[expect(clippy::cast_possible_truncation, reason = "a flag of one byte")]
const PENDING: UCHAR = SL_PENDING_RETURNED as UCHAR;

/// The IRP.
#[derive(Clone, Copy)]
pub(crate) struct ClientIrp(NonNull<IRP>);

/// Called once when the IRP is cancelled, at IRQL <= DISPATCH_LEVEL.
pub(crate) type Cancel = unsafe fn(context: *mut c_void);

impl ClientIrp {
    /// # Safety
    ///
    /// The IRP is not under way whenever [`ClientIrp::begin`] is called, has a stack location to spare and a completion routine set
    /// for it, and stays until it is completed.
    pub(crate) const unsafe fn new(irp: NonNull<IRP>) -> Self {
        Self(irp)
    }

    /// The fields of an IRP that is in this driver's hands.
    fn overlay(self) -> *mut wdk_sys::_IRP__bindgen_ty_3__bindgen_ty_1 {
        // SAFETY: the IRP is there, and in this driver's hands.
        unsafe { (&raw mut (*self.0.as_ptr()).Tail.Overlay).cast() }
    }

    /// Where the current stack location is kept.
    fn current(self) -> *mut *mut IO_STACK_LOCATION {
        let overlay = self.overlay();
        // SAFETY: the member of the union that an IRP outside a device queue uses.
        unsafe { (&raw mut (*overlay).__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation).cast() }
    }

    /// Moves the current stack location by so many, towards the first.
    ///
    /// # Safety
    ///
    /// There are so many.
    unsafe fn advance(self, locations: isize) {
        let current = self.current();
        // SAFETY: the pointer's place in the IRP.
        let location = unsafe { current.read() };
        // SAFETY: by this function's contract.
        let location = unsafe { location.offset(-locations) };
        // SAFETY: as above.
        unsafe { current.write(location) };
        // SAFETY: the count's place in the IRP.
        let count = unsafe { &raw mut (*self.0.as_ptr()).CurrentLocation };
        #[expect(clippy::cast_possible_truncation, reason = "one, up or down")]
        let fewer = locations as i8;
        // SAFETY: the IRP is in this driver's hands.
        unsafe { *count -= fewer };
    }

    /// Takes the next stack location (`IoSetNextIrpStackLocation`) and marks it pending. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn begin(self) {
        // SAFETY: the client has left a location to spare.
        unsafe { self.advance(1) };
        // SAFETY: the current location.
        unsafe { *self.control() |= PENDING };
    }

    /// Flags of the current location.
    fn control(self) -> *mut UCHAR {
        // SAFETY: the pointer's place in the IRP.
        let location = unsafe { self.current().read() };
        // SAFETY: the location that `begin` took.
        unsafe { &raw mut (*location).Control }
    }

    /// Gives the IRP back as it was before [`ClientIrp::begin`]. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn take_back(self) {
        // SAFETY: the current location.
        unsafe { *self.control() &= !PENDING };
        // SAFETY: the location that `begin` took.
        unsafe { self.advance(-1) };
    }

    fn cancel_routine(&self) -> &AtomicPtr<c_void> {
        // SAFETY: the IRP is there.
        let routine = unsafe { &raw mut (*self.0.as_ptr()).CancelRoutine };
        // SAFETY: the kernel too changes it by interlocked operations alone.
        unsafe { AtomicPtr::from_ptr(routine.cast()) }
    }

    /// Lets the IRP be cancelled; `cancel` may be called at once. IRQL <= DISPATCH_LEVEL.
    ///
    /// `STATUS_CANCELLED`: it is cancelled already; `cancel` will not be called.
    pub(crate) fn mark_cancelable(self, cancel: Cancel, context: *mut c_void) -> Result<(), NtStatus> {
        // SAFETY: the fields of an IRP that is in this driver's hands.
        let overlay = unsafe { &mut *self.overlay() };
        // SAFETY: the member of the union that an IRP outside a device queue uses.
        let driver = unsafe { &mut overlay.__bindgen_anon_1.__bindgen_anon_1.DriverContext };
        driver[0] = context;
        driver[1] = (cancel as *mut ()).cast();
        self.cancel_routine().store(Self::cancelled as *mut c_void, Ordering::SeqCst);
        // SAFETY: the flag's place in the IRP.
        let cancelled = unsafe { &raw const (*self.0.as_ptr()).Cancel };
        // SAFETY: the IRP is there; `IoCancelIrp` sets the flag before it looks for the routine.
        let cancelled = unsafe { cancelled.read_volatile() } != 0;
        if cancelled && self.unmark_cancelable() { Err(NtStatus::CANCELLED) } else { Ok(()) }
    }

    /// Whether the IRP can no longer be cancelled; if not, the callback has run, runs, or will. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn unmark_cancelable(self) -> bool {
        !self.cancel_routine().swap(core::ptr::null_mut(), Ordering::SeqCst).is_null()
    }

    /// The cancel routine. IRQL = DISPATCH_LEVEL, with the cancel spin lock held.
    unsafe extern "C" fn cancelled(_device: PDEVICE_OBJECT, irp: PIRP) {
        // SAFETY: the I/O manager calls this for an IRP whose routine it has taken out.
        let this = Self(unsafe { NonNull::new_unchecked(irp) });
        // SAFETY: the fields of an IRP that is in this driver's hands.
        let overlay = unsafe { &*this.overlay() };
        // SAFETY: the member of the union that `mark_cancelable` has stored.
        let [context, cancel, ..] = unsafe { overlay.__bindgen_anon_1.__bindgen_anon_1.DriverContext };
        // SAFETY: the IRQL that the I/O manager took the lock at.
        let irql = unsafe { (*irp).CancelIrql };
        // SAFETY: held when this was called.
        unsafe { IoReleaseCancelSpinLock(irql) };
        // SAFETY: `mark_cancelable` stored a function of this type.
        let cancel = unsafe { core::mem::transmute::<*mut c_void, Cancel>(cancel) };
        // SAFETY: with its own context; the party that `cancel` is keeps the IRP until it has run.
        unsafe { cancel(context) };
    }

    /// Completes the IRP. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn complete(self, status: NtStatus, information: usize) {
        // SAFETY: the IRP is in this driver's hands.
        let block = unsafe { &mut (*self.0.as_ptr()).IoStatus };
        block.__bindgen_anon_1.Status = status.0;
        block.Information = information as wdk_sys::ULONG_PTR;
        #[expect(clippy::cast_possible_truncation, reason = "zero")]
        let boost = IO_NO_INCREMENT as i8;
        // SAFETY: nobody can cancel it any more, and it is not touched after this.
        unsafe { IofCompleteRequest(self.0.as_ptr(), boost) };
    }
}
