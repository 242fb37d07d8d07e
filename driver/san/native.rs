//! The native listeners: one TCP port, for IPv4 and IPv6, at which all SAN connections arrive.
//!
//! A listener is opened when the first SAN endpoint of its family listens, and stays until the driver is unloaded: where
//! nobody wants SAN connections, no port is open.
#![allow(unsafe_code, reason = "hands WSK a listener, whose callbacks get it back as a raw pointer")]

use super::Endpoint;
use super::accept::NATIVE_DISPATCH;
use crate::continuation::WorkItem;
use crate::endpoint::AnyEndpoint;
use crate::nt::{Outcome, Round, Shared, SpinLock, WskIrp};
use crate::operation::{Operation, Pending};
use crate::parameters;
use crate::statistics::STATISTICS;
use crate::trace;
use crate::wsk::{Category, OptionName, PROVIDER, ProviderUse, SockAddr, Socket, wsk_socket};
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use san_core::concurrent::Budget;
use san_core::id_table::{CAPACITY, IdTable};
use san_protocol::NtStatus;
use wdk_sys::{PIRP, WDFDEVICE, WDFWORKITEM};
use wsk_bindings::{ADDRESS_FAMILY, AF_INET, AF_INET6};

/// A call on the way of a listener's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// WskSocket.
    Open,
    /// WskControlSocket(SO_EXCLUSIVEADDRUSE): nobody else gets what is meant for this port.
    Exclusive,
    /// WskBind.
    Bind,
    /// WskCloseSocket; every endpoint that waits gets this status.
    Close(NtStatus),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No socket.
    Closed,
    /// The step's call is to be made.
    Wanted(Step),
    /// The step's call is out, or has ended.
    Out(Step),
    /// Connections arrive.
    Open,
}

struct Inner {
    state: State,
    /// Of the step's call, until the worker goes on.
    outcome: Option<Outcome>,
    socket: Option<Socket>,
    provider: Option<ProviderUse>,
    /// Endpoints that want to listen, as soon as it is open.
    waiting: Vec<Pending>,
    /// The driver is being unloaded.
    ending: bool,
    /// WSK has said that the socket is no longer functional: it is closed, and another one opened.
    lost: bool,
}

/// The listening socket of a family.
pub(super) struct NativeListener {
    family: ADDRESS_FAMILY,
    inner: SpinLock<Inner>,
    irp: WskIrp,
    address: UnsafeCell<SockAddr>,
    option: u32,
}

// SAFETY: `address` is written by the worker that makes the call that reads it, one call at a time.
unsafe impl Sync for NativeListener {}

impl NativeListener {
    const fn new(family: ADDRESS_FAMILY) -> Self {
        let inner = Inner {
            state: State::Closed,
            outcome: None,
            socket: None,
            provider: None,
            waiting: Vec::new(),
            ending: false,
            lost: false,
        };
        Self {
            family,
            inner: SpinLock::new(inner),
            irp: WskIrp::new(),
            address: UnsafeCell::new(SockAddr::NONE),
            option: 1,
        }
    }

    pub(super) fn family(&self) -> ADDRESS_FAMILY {
        self.family
    }

    /// WSK has said that the socket is no longer functional. IRQL <= DISPATCH_LEVEL.
    pub(super) fn socket_lost(&self) {
        self.inner.lock().lost = true;
        WORKER.enqueue();
    }

    /// A further use of the provider, for a connection that has arrived. IRQL <= DISPATCH_LEVEL.
    pub(super) fn provider(&self) -> Option<ProviderUse> {
        let inner = self.inner.lock();
        if inner.ending { None } else { inner.provider.as_ref()?.another() }
    }
}

static LISTENERS: [NativeListener; 2] = [NativeListener::new(AF_INET), NativeListener::new(AF_INET6)];

/// Opens and closes them.
static WORKER: WorkItem = WorkItem::new();

fn of(family: ADDRESS_FAMILY) -> &'static NativeListener {
    if family == AF_INET6 { &LISTENERS[1] } else { &LISTENERS[0] }
}

/// Makes the worker. IRQL = PASSIVE_LEVEL; from DriverEntry.
pub(crate) fn create(device: WDFDEVICE) -> Result<(), NtStatus> {
    WORKER.create(device, Some(work))
}

/// Closes the listeners, and the connections in their hand-shake. [`PROVIDER`]'s end waits for that. IRQL = PASSIVE_LEVEL; at unload, when no handle is open.
pub(crate) fn end() {
    for listener in &LISTENERS {
        listener.inner.lock().ending = true;
    }
    WORKER.enqueue();
    let handshakes = HANDSHAKES.lock().end();
    for endpoint in handshakes {
        Endpoint::close(&endpoint, None);
    }
}

/// Waits until the worker is idle. IRQL = PASSIVE_LEVEL; at unload.
pub(crate) fn flush() {
    WORKER.flush();
}

/// Opens the endpoint's backlog as soon as its native listener stands. IRQL <= DISPATCH_LEVEL; no lock is held.
pub(super) fn listen(endpoint: &Shared<Endpoint>, pending: Pending) {
    let listener = of(endpoint.family());
    let ready = {
        let mut inner = listener.inner.lock();
        let state = inner.state;
        match state {
            State::Open => Ok(pending),
            State::Closed | State::Wanted(_) | State::Out(_) if inner.waiting.try_reserve(1).is_err() => {
                Err((pending, NtStatus::INSUFFICIENT_RESOURCES))
            }
            State::Closed | State::Wanted(_) | State::Out(_) => {
                inner.waiting.push(pending);
                if state == State::Closed {
                    inner.state = State::Wanted(Step::Open);
                    WORKER.enqueue();
                }
                return;
            }
        }
    };
    match ready {
        Ok(pending) => Endpoint::open_backlog(endpoint, pending, Ok(())),
        Err((pending, status)) => pending.finish(status, 0),
    }
}

/// Takes an endpoint's wish to listen back, if it waits. IRQL <= DISPATCH_LEVEL; no lock is held.
pub(super) fn withdraw(family: ADDRESS_FAMILY, operation: NonNull<Operation>) -> Option<Pending> {
    let mut inner = of(family).inner.lock();
    let position = inner.waiting.iter().position(|waiting| waiting.owns(operation))?;
    Some(inner.waiting.swap_remove(position))
}

/// EvtWorkItem. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn work(_item: WDFWORKITEM) {
    for listener in &LISTENERS {
        listener.proceed();
    }
}

impl NativeListener {
    /// Makes one call after the other until one is out, or there is none to make. IRQL = PASSIVE_LEVEL; on the worker, of
    /// which several may run: whoever takes the step or the outcome out goes on.
    fn proceed(&'static self) {
        loop {
            let ended = {
                let mut inner = self.inner.lock();
                match inner.state {
                    State::Open if inner.ending || inner.lost => {
                        inner.state = State::Wanted(Step::Close(NtStatus::FILE_FORCED_CLOSED));
                        continue;
                    }
                    State::Closed if inner.lost && !inner.ending => {
                        inner.lost = false;
                        inner.state = State::Wanted(Step::Open);
                        continue;
                    }
                    State::Closed | State::Open => return,
                    State::Wanted(step) => {
                        inner.state = State::Out(step);
                        (step, None)
                    }
                    State::Out(step) => match inner.outcome.take() {
                        Some(outcome) => (step, Some(outcome)),
                        None => return,
                    },
                }
            };
            match ended {
                (step, None) => {
                    if let Some(outcome) = self.call(step) {
                        self.inner.lock().outcome = Some(outcome);
                    }
                }
                (step, Some(outcome)) => self.after(step, outcome),
            }
        }
    }

    /// Goes on when a step has ended. IRQL = PASSIVE_LEVEL; on the worker.
    fn after(&'static self, step: Step, outcome: Outcome) {
        let status = outcome.status;
        let next = match step {
            Step::Open if status.is_success() => {
                self.inner.lock().socket = Socket::from_information(outcome.information);
                Step::Exclusive
            }
            Step::Exclusive if status.is_success() => Step::Bind,
            Step::Bind if status.is_success() => return self.settle(State::Open, Ok(())),
            Step::Exclusive | Step::Bind => Step::Close(status),
            Step::Open => return self.settle(State::Closed, Err(status)),
            Step::Close(status) => return self.settle(State::Closed, Err(status)),
        };
        self.inner.lock().state = State::Wanted(next);
    }

    /// Makes a step's call. `Some`: it has ended. IRQL = PASSIVE_LEVEL; on the worker.
    fn call(&'static self, step: Step) -> Option<Outcome> {
        let socket = self.inner.lock().socket;
        match step {
            Step::Open => {
                let (kept, used) = match PROVIDER.acquire_for_listener() {
                    Ok(uses) => uses,
                    Err(status) => return Some(Outcome { status, information: 0 }),
                };
                self.inner.lock().provider = Some(kept);
                let context = core::ptr::from_ref(self).cast();
                self.issue(|irp| wsk_socket(&used, self.family, Category::Listen(&NATIVE_DISPATCH, context), None, irp))
            }
            Step::Exclusive => self.issue(|irp| socket?.set_option(OptionName::ExclusiveAddressUse, &self.option, irp)),
            Step::Bind => {
                let mut address = SockAddr::wildcard(self.family).socket_address();
                address.set_port(parameters::get().native_port);
                // SAFETY: no call is out that refers to it.
                unsafe { *self.address.get() = SockAddr::from(address) };
                self.issue(|irp| {
                    // SAFETY: nobody changes it while the call is out.
                    socket?.bind(true, unsafe { &*self.address.get() }, irp)
                })
            }
            Step::Close(_) => self.issue(|irp| socket?.close(irp)),
        }
    }

    /// Makes a call with the listener's IRP. `Some`: it has ended. IRQL = PASSIVE_LEVEL; on the worker.
    fn issue(&'static self, call: impl FnOnce(PIRP) -> Option<i32>) -> Option<Outcome> {
        let context: *const Self = self;
        // SAFETY: the worker makes one call at a time; the listener is static.
        match unsafe { self.irp.issue(Self::ended, context.cast(), call) } {
            Round::Ended(outcome) => Some(outcome),
            Round::Pending => None,
        }
    }

    /// The continuation of that IRP. IRQL <= DISPATCH_LEVEL; inside WSK.
    unsafe fn ended(context: *const c_void, outcome: Outcome) {
        // SAFETY: `issue` was called with a listener, which is static.
        let this = unsafe { &*context.cast::<Self>() };
        this.inner.lock().outcome = Some(outcome);
        WORKER.enqueue();
    }

    /// It stands, or it does not: so do those who wait for it. IRQL = PASSIVE_LEVEL; on the worker.
    fn settle(&'static self, state: State, result: Result<(), NtStatus>) {
        match result {
            Ok(()) => trace::native_listener_opened(self.family),
            Err(_) if self.inner.lock().ending => trace::native_listener_closed(self.family),
            Err(status) => trace::native_listener_failed(self.family, status),
        }
        let (waiting, provider) = {
            let mut inner = self.inner.lock();
            inner.state = state;
            let provider = if state == State::Closed { inner.provider.take() } else { None };
            if state == State::Closed {
                inner.socket = None;
            }
            (core::mem::take(&mut inner.waiting), provider)
        };
        for pending in waiting {
            match pending.endpoint().clone() {
                AnyEndpoint::San(endpoint) => Endpoint::open_backlog(&endpoint, pending, result),
                AnyEndpoint::Stream(_) => pending.finish(NtStatus::NOT_SUPPORTED, 0),
            }
        }
        drop(provider);
    }
}

/// Endpoints whose peers are in their hand-shake: nobody else may know them, and unload ends them.
static HANDSHAKES: SpinLock<IdTable<Shared<Endpoint>>> = SpinLock::new(IdTable::new(CAPACITY));

static HANDSHAKE_COUNT: Budget = Budget::new();

/// Draws the generations of the table's ids.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// One of them, as long as it is.
pub(super) struct HandshakeUse(u64);

impl HandshakeUse {
    /// A place, if there is one left. IRQL <= DISPATCH_LEVEL.
    pub(super) fn acquire() -> Option<Self> {
        if HANDSHAKE_COUNT.take(1, parameters::get().handshakes.into()) {
            let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
            if let Ok(id) = HANDSHAKES.lock().reserve(generation) {
                return Some(Self(id));
            }
            HANDSHAKE_COUNT.give_back(1);
        }
        STATISTICS.handshake_refused();
        None
    }

    pub(super) fn id(&self) -> u64 {
        self.0
    }
}

impl Drop for HandshakeUse {
    fn drop(&mut self) {
        let endpoint = HANDSHAKES.lock().remove(self.0);
        drop(endpoint);
        HANDSHAKE_COUNT.give_back(1);
    }
}

/// Says which endpoint has the place; false if the driver is being unloaded. IRQL <= DISPATCH_LEVEL.
pub(super) fn begin_handshake(id: u64, endpoint: &Shared<Endpoint>) -> bool {
    let refused = HANDSHAKES.lock().fill(id, endpoint.clone());
    refused.is_ok()
}

/// How many peers are in their hand-shake. Any IRQL.
pub(crate) fn handshakes() -> u32 {
    // As many as a parameter of 32 bits allows.
    u32::try_from(HANDSHAKE_COUNT.taken()).unwrap_or(u32::MAX)
}
