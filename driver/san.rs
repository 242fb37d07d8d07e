//! SAN endpoints: messages through registered memory, over one TCP connection between two of these drivers.
//!
//! An endpoint's decisions are san-core's ([`Machine`]). Requests, completed WSK calls and the timer are its events; what it
//! wants done comes out as actions, and one thread at a time, the *runner*, carries them out, so that messages go onto the
//! wire in the order in which the machine let them go. A WSK call that completes elsewhere only tells the machine, and
//! leaves running to a DPC: no WSK call is made from within the completion of another.
#![allow(unsafe_code, reason = "gives WSK calls, DPC and timer their reference to the endpoint")]

mod accept;
mod calls;
mod memory;
mod native;
mod ports;
mod request;
mod runner;

use crate::endpoint::{CloseWaiter, Closing};
use crate::nt::{Dpc, EventObject, MdlBuffer, Process, Shared, SpinLock, Timer, WskIrp};
use crate::operation::{Operation, Pending};
use crate::parameters;
use crate::statistics::{Existence, STATISTICS};
use crate::trace;
use crate::wsk::{ProviderUse, SockAddr, Socket};
use calls::{Arguments, Calls, Receiving, SetupCall};
use core::cell::Cell;
use core::net::SocketAddr;
use core::ptr::NonNull;
use native::HandshakeUse;
use san_core::network_events::EventChange;
use san_core::san::Offered;
use san_protocol::wire::RejectReason;
use san_protocol::{EndpointEntry, EndpointKind, EndpointState, NtStatus};
use wdk_sys::WDFDEVICE;
use wsk_bindings::ADDRESS_FAMILY;

pub(crate) use memory::{LockedMemory, PINNED, PinnedMemory, release as release_memory};
pub(crate) use native::handshakes;
pub(crate) use ports::{add_route, remove_route, routes, set_routes, write_routes};
use request::Binding;
pub(crate) use request::{Answer, Region, Transfer};

/// Makes what SAN endpoints share. IRQL = PASSIVE_LEVEL; from DriverEntry.
pub(crate) fn create(device: WDFDEVICE) -> Result<(), NtStatus> {
    runner::create(device)?;
    native::create(device)
}

/// No handle is open any more: closes the native listeners, for which the end of the provider waits. IRQL = PASSIVE_LEVEL; at
/// unload.
pub(crate) fn end() {
    native::end();
}

/// Waits until nothing of it runs, and frees what is left. IRQL = PASSIVE_LEVEL; at unload, when no endpoint is left.
pub(crate) fn flush() {
    native::flush();
    runner::flush();
    ports::clear();
}

/// Pool tag of SAN endpoints.
const TAG: [u8; 4] = *b"SanM";

/// The state machine of an endpoint: connections that wait for an accept are endpoints, requests that wait are operations.
type Machine = san_core::san::Endpoint<Shared<Endpoint>, Pending, LockedMemory>;

/// What the lock of an endpoint protects. No call that may complete a request is made while it is held.
struct Inner {
    /// What the trace calls the endpoint.
    number: u64,
    machine: Machine,
    /// Somebody carries out actions, and will see what the machine wants next.
    running: bool,
    socket: Option<Socket>,
    /// The setup call that is out, and what it has come to.
    setup: SetupCall,
    receiving: Receiving,
    /// The machine wants the socket closed, and a setup call is in the way.
    close_wanted: bool,
    event: Option<EventObject>,
    binding: Option<Binding>,
    /// The SAN address that is reserved for this endpoint.
    bound: Option<SocketAddr>,
    local: SockAddr,
    remote: SockAddr,
    /// Of the TCP connection, where a peer has made it.
    native: Option<NativeAddresses>,
    handshake: Option<HandshakeUse>,
    timer: TimerState,
}

/// Both ends of a TCP connection that a peer has made.
#[derive(Clone, Copy)]
struct NativeAddresses {
    local: SockAddr,
    remote: SockAddr,
}

/// Whether the timer is set, and how many of its DPCs come too late to be meant.
#[derive(Default)]
struct TimerState {
    set: bool,
    late: u32,
}

/// A SAN endpoint. Whoever may still use it has a reference: the id table, the table of ports, a backlog, every operation,
/// every call that is out, DPC and timer. With the last one it is gone, and whoever waits for that is told.
pub(crate) struct Endpoint {
    family: ADDRESS_FAMILY,
    process: Option<Process>,
    inner: SpinLock<Inner>,
    calls: Calls,
    timer: Timer,
    dpc: Dpc,
    /// The next endpoint on the worker's list.
    next: Cell<Option<Shared<Endpoint>>>,
    provider: ProviderUse,
    existence: Existence,
    /// The last field: dropped when everything else of the endpoint is gone.
    closing: Closing,
}

// SAFETY: `closing` is set once, by the one caller that has taken the endpoint out of the id table; `next` is the
// worker's, under its lock; `calls` are the runner's; everything else synchronizes itself.
unsafe impl Sync for Endpoint {}
// SAFETY: nothing in it has a tie to a thread.
unsafe impl Send for Endpoint {}

impl Endpoint {
    /// A new endpoint without a socket. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn new(
        provider: ProviderUse,
        family: ADDRESS_FAMILY,
        process: Option<Process>,
    ) -> Result<Shared<Self>, NtStatus> {
        Self::with_machine(provider, family, process, Machine::new(parameters::get().san_limits()))
    }

    /// An endpoint for a connection that a peer has made, whose hand-shake begins. IRQL <= DISPATCH_LEVEL.
    fn arriving(
        provider: ProviderUse,
        family: ADDRESS_FAMILY,
        handshake: HandshakeUse,
        native: NativeAddresses,
    ) -> Result<Shared<Self>, NtStatus> {
        let endpoint = Self::with_machine(provider, family, None, Machine::arriving(parameters::get().san_limits()))?;
        {
            let mut inner = endpoint.inner.lock();
            inner.handshake = Some(handshake);
            inner.native = Some(native);
        }
        Ok(endpoint)
    }

    /// IRQL <= DISPATCH_LEVEL.
    fn with_machine(
        provider: ProviderUse,
        family: ADDRESS_FAMILY,
        process: Option<Process>,
        machine: Machine,
    ) -> Result<Shared<Self>, NtStatus> {
        let existence = Existence::of(EndpointKind::San);
        let inner = Inner {
            number: existence.number(),
            machine,
            running: false,
            socket: None,
            setup: SetupCall::None,
            receiving: Receiving::Nothing,
            close_wanted: false,
            event: None,
            binding: None,
            bound: None,
            local: SockAddr::NONE,
            remote: SockAddr::NONE,
            native: None,
            handshake: None,
            timer: TimerState::default(),
        };
        let endpoint = Shared::try_new(
            TAG,
            Self {
                family,
                process,
                inner: SpinLock::new(inner),
                calls: Calls {
                    setup: WskIrp::new(),
                    receive: WskIrp::new(),
                    control: WskIrp::new(),
                    closer: WskIrp::new(),
                    incoming: MdlBuffer::new(),
                    outgoing: MdlBuffer::new(),
                    arguments: Arguments::new(),
                },
                timer: Timer::new(),
                dpc: Dpc::new(),
                next: Cell::new(None),
                provider,
                existence,
                closing: Closing::new(),
            },
        )?;
        let context = Shared::as_ptr(&endpoint).cast_mut().cast();
        // SAFETY: an endpoint is in pool, where it stays; nobody else has come to know it.
        unsafe { endpoint.dpc.initialize(Self::run_deferred, context) };
        // SAFETY: as above.
        unsafe { endpoint.timer.initialize(Self::timer_due, context) };
        // SAFETY: as above, and no call refers to the buffer.
        unsafe { endpoint.calls.incoming.build(None) };
        // SAFETY: as above.
        unsafe { endpoint.calls.outgoing.build(None) };
        Ok(endpoint)
    }

    /// What the trace calls it.
    pub(crate) fn number(&self) -> u64 {
        self.existence.number()
    }

    pub(crate) fn family(&self) -> ADDRESS_FAMILY {
        self.family
    }

    /// Local and remote SAN address, zeros where there is none. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn addresses(&self) -> (SockAddr, SockAddr) {
        let inner = self.inner.lock();
        (inner.local, inner.remote)
    }

    /// The endpoint as it is now; id and process are the caller's to say. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn entry(&self) -> EndpointEntry {
        let inner = self.inner.lock();
        let statistics = inner.machine.statistics();
        let state = match inner.machine.state().endpoint_state() {
            EndpointState::Idle if inner.binding.is_some() => EndpointState::Binding,
            state => state,
        };
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let (backlog, backlog_limit) = inner.machine.waiting().unwrap_or((0, 0));
        EndpointEntry {
            endpoint: 0,
            process: 0,
            messages_sent: statistics.messages_sent,
            bytes_sent: statistics.bytes_sent,
            messages_received: statistics.messages_received,
            bytes_received: statistics.bytes_received,
            local: inner.local.protocol(),
            remote: inner.remote.protocol(),
            kind: EndpointKind::San as u32,
            state: state as u32,
            backlog: count(backlog),
            backlog_limit: count(backlog_limit),
            sends_queued: statistics.sends_queued,
            receives_posted: statistics.receives_posted,
            send_credits: statistics.send_credits,
            regions: statistics.regions,
            pinned_bytes: statistics.pinned_bytes,
        }
    }

    /// Tells the machine something, and the caller's event what came of it. IRQL <= DISPATCH_LEVEL.
    fn tell<T>(&self, event: impl FnOnce(&mut Machine) -> T) -> T {
        let mut inner = self.inner.lock();
        let told = event(&mut inner.machine);
        inner.apply_changes();
        told
    }

    /// Closes the endpoint; `waiter` is told when nothing of it is left. The caller has taken it out of the id table.
    ///
    /// IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn close(this: &Shared<Self>, waiter: Option<CloseWaiter>) {
        this.closing.set(waiter);
        let (binding, bound, event) = {
            let mut inner = this.inner.lock();
            inner.machine.close();
            (inner.binding.take(), inner.bound.take(), inner.event.take())
        };
        if let Some(binding) = binding {
            binding.pending.finish(NtStatus::CANCELLED, 0);
        }
        if let Some(address) = bound {
            ports::release(address);
        }
        drop(event);
        while let Some(connection) = this.tell(|machine| machine.withdraw(|_| true)) {
            connection.tell(|machine| machine.offered(Offered::Rejected(RejectReason::NobodyListens)));
            Self::run(&connection);
        }
        Self::run(this);
    }

    /// Takes a request that has not begun out of the machine; `None` if it is on the wire, or over. IRQL <= DISPATCH_LEVEL; no
    /// lock is held.
    pub(crate) fn withdraw(this: &Shared<Self>, operation: NonNull<Operation>) -> Option<Pending> {
        let binding = this.inner.lock().binding.take_if(|binding| binding.pending.owns(operation));
        if let Some(binding) = binding {
            return Some(binding.pending);
        }
        let listening = native::withdraw(this.family, operation);
        if listening.is_some() {
            return listening;
        }
        let withdrawn = this.tell(|machine| machine.cancel(|waiter| waiter.owns(operation)));
        // What is on the wire ends the connection.
        Self::run(this);
        withdrawn
    }
}

impl Inner {
    /// After the machine has been told something: sets or resets the event, and counts what has occurred. IRQL = DISPATCH_LEVEL, under
    /// the lock.
    fn apply_changes(&mut self) {
        while let Some(incident) = self.machine.take_incident() {
            STATISTICS.count(incident);
            let peer = self.native.map_or(self.remote, |native| native.remote);
            trace::incident(self.number, &peer, incident);
        }
        match (self.machine.take_event_change(), &self.event) {
            (Some(EventChange::Set), Some(event)) => event.set(),
            (Some(EventChange::Reset), Some(event)) => event.clear(),
            (Some(EventChange::Set | EventChange::Reset) | None, _) => {}
        }
    }
}
