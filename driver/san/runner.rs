//! The runner: carries out what an endpoint's machine wants, one action after the other.
#![allow(unsafe_code, reason = "DPC and timer get their endpoint as a raw pointer")]

use super::calls::{Purpose, SetupCall, Step};
use super::{Endpoint, Inner, LockedMemory};
use crate::continuation::WorkItem;
use crate::nt::{Outcome, Shared, SpinLock};
use crate::operation::Pending;
use san_core::san::Action;
use san_protocol::NtStatus;
use wdk_sys::{PKDPC, PVOID, WDFDEVICE, WDFWORKITEM};

/// Actions that a runner carries out before it hands over to the worker: a DPC must not go on for long.
const BUDGET: u32 = 64;

/// What is to be done next.
#[expect(clippy::large_enum_variant, reason = "boxing a message would be an allocation that can fail")]
enum Work {
    /// Go on after a setup call.
    Ended(Step, Outcome),
    /// Close the socket: nothing is in the way any more.
    Close,
    /// What the machine wants.
    Action(Action<Pending, LockedMemory>),
}

impl Inner {
    /// Takes out what is to be done next. IRQL = DISPATCH_LEVEL, under the lock.
    fn next(&mut self) -> Option<Work> {
        match self.setup {
            SetupCall::Ended(step, outcome) => {
                self.setup = SetupCall::None;
                return Some(Work::Ended(step, outcome));
            }
            SetupCall::None if self.close_wanted => {
                self.close_wanted = false;
                return Some(Work::Close);
            }
            // The machine of an arrived connection does not wait for this, and what it wants may take the same IRP.
            SetupCall::Out(Step::SendAtOnce { connecting: false }) => {
                self.apply_changes();
                return None;
            }
            SetupCall::None
            | SetupCall::Out(
                Step::Socket(..)
                | Step::Bind(_)
                | Step::Abandon(..)
                | Step::Connect(_)
                | Step::Arrived
                | Step::SendAtOnce { connecting: true }
                | Step::Disconnect,
            ) => {}
        }
        let action = self.machine.next_action();
        self.apply_changes();
        action.map(Work::Action)
    }
}

impl Endpoint {
    /// Carries out what is to be done, unless somebody does so already, who will see it. IRQL <= DISPATCH_LEVEL; not from within
    /// a WSK callback or completion; no lock is held.
    pub(super) fn run(this: &Shared<Self>) {
        if !core::mem::replace(&mut this.inner.lock().running, true) {
            Self::go_on(this);
        }
    }

    /// Has somebody else carry out what is to be done. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(super) fn run_later(this: &Shared<Self>) {
        if this.inner.lock().running {
            return;
        }
        let reference = Shared::into_raw(this.clone());
        // SAFETY: initialized when the endpoint was made; the reference is the DPC's.
        if !unsafe { this.dpc.queue() } {
            // SAFETY: counted above; the DPC that is queued already has one.
            drop(unsafe { Shared::from_raw(reference) });
        }
    }

    /// The DPC of [`Endpoint::run_later`]. IRQL = DISPATCH_LEVEL.
    pub(super) unsafe extern "C" fn run_deferred(_dpc: PKDPC, context: PVOID, _argument1: PVOID, _argument2: PVOID) {
        // SAFETY: the reference that was given to the DPC when it was queued.
        let this = unsafe { Shared::from_raw(context.cast::<Self>()) };
        Self::run(&this);
    }

    /// The runner at work. IRQL <= DISPATCH_LEVEL; no lock is held.
    fn go_on(this: &Shared<Self>) {
        for _ in 0..BUDGET {
            let work = {
                let mut inner = this.inner.lock();
                match inner.next() {
                    Some(work) => work,
                    None => {
                        inner.running = false;
                        return;
                    }
                }
            };
            match work {
                Work::Ended(step, outcome) => Self::setup_ended(this, step, outcome),
                Work::Close => Self::close_socket(this),
                Work::Action(action) => Self::carry_out(this, action),
            }
        }
        {
            let mut list = HANDED_OVER.lock();
            this.next.set(list.take());
            *list = Some(this.clone());
        }
        WORKER.enqueue();
    }

    /// Carries an action out. IRQL <= DISPATCH_LEVEL; in the runner.
    fn carry_out(this: &Shared<Self>, action: Action<Pending, LockedMemory>) {
        match action {
            Action::Open { native } => Self::begin_setup(this, Step::Socket(native.into(), Purpose::Connect)),
            Action::Connect { native } => Self::begin_setup(this, Step::Connect(native.into())),
            Action::Disconnect => Self::begin_setup(this, Step::Disconnect),
            Action::SendControl(message) => Self::send_control(this, &message),
            Action::SendData { header, send, slice } => Self::send_data(this, &header, send, slice),
            Action::ReceiveHeader => Self::receive_header(this),
            Action::ReceiveControl { length } => Self::receive_control(this, length),
            Action::ReceivePayload(slice) => Self::receive_payload(this, slice),
            Action::Offer(request) => Self::offer(this, &request),
            Action::Withdraw => Self::withdraw_from_backlog(this),
            Action::StartTimer(milliseconds) => Self::start_timer(this, milliseconds),
            Action::StopTimer => Self::stop_timer(this),
            Action::Complete { waiter, result } => Self::complete(this, waiter, result),
            Action::Close => Self::want_close(this),
        }
    }

    /// Sets the timer anew. IRQL <= DISPATCH_LEVEL; in the runner.
    fn start_timer(this: &Shared<Self>, milliseconds: u32) {
        Self::stop_timer(this);
        this.inner.lock().timer.set = true;
        // The timer's reference, until it is due or stopped.
        let _ = Shared::into_raw(this.clone());
        // SAFETY: initialized when the endpoint was made, not set, and its reference counted.
        unsafe { this.timer.set(milliseconds) };
    }

    /// Takes the timer back, or has its DPC ignored. IRQL <= DISPATCH_LEVEL; in the runner.
    fn stop_timer(this: &Shared<Self>) {
        let taken_back = {
            let mut inner = this.inner.lock();
            if !core::mem::take(&mut inner.timer.set) {
                return;
            }
            // SAFETY: it has been set.
            let taken_back = unsafe { this.timer.cancel() };
            if !taken_back {
                inner.timer.late += 1;
            }
            taken_back
        };
        if taken_back {
            // SAFETY: the timer's own reference, which its DPC will not take.
            drop(unsafe { Shared::from_raw(Shared::as_ptr(this)) });
        }
    }

    /// The DPC of the timer. IRQL = DISPATCH_LEVEL.
    pub(super) unsafe extern "C" fn timer_due(_dpc: PKDPC, context: PVOID, _argument1: PVOID, _argument2: PVOID) {
        // SAFETY: the reference that was given to the timer when it was set.
        let this = unsafe { Shared::from_raw(context.cast::<Self>()) };
        {
            let mut inner = this.inner.lock();
            if inner.timer.late > 0 {
                inner.timer.late -= 1;
                return;
            }
            inner.timer.set = false;
            inner.machine.timer_expired();
            inner.apply_changes();
        }
        Self::run(&this);
    }
}

/// Endpoints whose runner has used up its budget, newest first.
static HANDED_OVER: SpinLock<Option<Shared<Endpoint>>> = SpinLock::new(None);

/// Goes on with them.
static WORKER: WorkItem = WorkItem::new();

/// Makes the worker. IRQL = PASSIVE_LEVEL; from DriverEntry.
pub(crate) fn create(device: WDFDEVICE) -> Result<(), NtStatus> {
    WORKER.create(device, Some(work))
}

/// Waits until the worker is idle. IRQL = PASSIVE_LEVEL; at unload, when no endpoint is left.
pub(crate) fn flush() {
    WORKER.flush();
}

/// EvtWorkItem. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn work(_item: WDFWORKITEM) {
    let mut list = HANDED_OVER.lock().take();
    while let Some(endpoint) = list {
        list = endpoint.next.take();
        Endpoint::go_on(&endpoint);
    }
}
