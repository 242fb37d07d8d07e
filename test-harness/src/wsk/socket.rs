//! WSK sockets: their state, the calls on them, and the order in which their operations end.
#![allow(unsafe_code)] // the WSK_SOCKET that a client sees lies in pool

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wsk_bindings::WSK_SOCKET;

use super::listen::{Arrival, Held};
use super::operation::{Completion, Kind, Operation, begin, claim};
use super::registration::Registration;
use super::{Job, Target, Wsk, dispatch, wsk};
use crate::guard::violate;
use crate::network::{self, Family};
use crate::nt::dpc;
use crate::nt::irql::called;
use crate::nt::pool::{self, Owner};
use crate::nt::status::{STATUS_CANCELLED, STATUS_INSUFFICIENT_RESOURCES, STATUS_PENDING};
use crate::nt::types::{DISPATCH_LEVEL, IRP, NTSTATUS, PVOID};
use crate::thread::{current, kernel};
use crate::violation::Rule;

/// The category that a socket was created in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    Basic,
    Listen,
    Connection,
    Stream,
    Datagram,
}

/// How far a socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Created,
    Bound,
    Listening,
    Connecting,
    Connected,
    /// It works no more, and why.
    Failed(NTSTATUS),
    Closing,
}

/// A direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Open,
    /// Its end was sent, or has been received.
    Ended,
}

/// Whether an enabled event is told of when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Indication {
    Armed,
    Silent,
}

/// A callback to the client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Inspect { serial: u32 },
    Abort { serial: u32 },
    Accept,
    Receive,
    ReceiveFrom,
    Disconnect { abortive: bool },
    SendBacklog,
}

/// What the socket's operations have led to, in order.
pub(super) enum Action {
    Complete(Completion),
    Call(Event),
}

/// What a client's tables say for a socket: addresses of its dispatch structures.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Callbacks {
    pub(super) context: usize,
    /// A WSK_CLIENT_LISTEN_DISPATCH, or null.
    pub(super) listen: usize,
    /// A WSK_CLIENT_CONNECTION_DISPATCH, or null.
    pub(super) connection: usize,
    /// A WSK_CLIENT_DATAGRAM_DISPATCH, or null.
    pub(super) datagram: usize,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) endpoint: Option<Box<dyn network::Socket>>,
    pub(super) callbacks: Callbacks,
    pub(super) connect: Option<Operation>,
    /// Sends, and a disconnect behind them.
    pub(super) sends: VecDeque<Operation>,
    pub(super) receives: VecDeque<Operation>,
    pub(super) accepts: VecDeque<Operation>,
    /// Connections that wait to be accepted.
    pub(super) arrivals: VecDeque<Arrival>,
    /// Connections that wait for WskInspectComplete, by serial number.
    pub(super) held: BTreeMap<u32, Held>,
    pub(super) next_serial: u32,
    pub(super) conditional_accept: bool,
    pub(super) sending: Direction,
    pub(super) receiving: Direction,
    /// Events enabled on this socket.
    pub(super) events: u32,
    /// Silent after data was not taken, until a WskReceive.
    pub(super) receive_event: Indication,
    /// Silent once it has been told.
    pub(super) disconnect_event: Indication,
    /// Data that was indicated and not taken.
    pub(super) unread: VecDeque<u8>,
    /// Datagrams that were indicated and not taken.
    pub(super) waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Where datagrams go that name no address.
    pub(super) send_to: Option<SocketAddr>,
    /// Indications that the client keeps.
    pub(super) kept: Vec<usize>,
    /// That which a callback is being shown: it decides whose it is.
    pub(super) indicated: Option<usize>,
    pub(super) actions: VecDeque<Action>,
    /// Operations that their cancel routines are about to complete.
    cancelling: usize,
    /// The close, which stands behind those.
    close: Option<Completion>,
    me: Weak<Socket>,
    /// A network thread works on the actions, or is about to.
    pub(super) draining: bool,
    /// The mask bit of the callback that runs now.
    pub(super) running: u32,
    /// The inspect identifier that an accepted socket came from.
    pub(super) inspect_serial: Option<(usize, u32)>,
}

pub(crate) struct Socket {
    /// Names it to the network and to cancel routines.
    pub(super) token: u64,
    /// The WSK_SOCKET.
    pub(super) address: usize,
    pub(super) category: Category,
    pub(super) family: Family,
    /// Its transport is UDP.
    is_of_datagrams: bool,
    pub(super) registration: Arc<Registration>,
    pub(super) state: Mutex<State>,
    /// Threads that are inside a call on the socket.
    callers: Mutex<Vec<usize>>,
    released: AtomicUsize,
    /// The token by which an accepted connection arrived, which the network goes on using; or 0.
    pub(super) arrival: AtomicU64,
}

const TAG: u32 = pool::tag(*b"Wsks");

impl Socket {
    /// A new socket, known to WSK. None if there is no memory.
    pub(super) fn new(
        wsk: &Wsk,
        registration: &Arc<Registration>,
        category: Category,
        (family, is_of_datagrams): (Family, bool),
        callbacks: Callbacks,
    ) -> Option<Arc<Self>> {
        let kernel = kernel();
        if kernel.faults.allocation_fails() {
            return None;
        }
        let block = kernel.pool.allocate(size_of::<WSK_SOCKET>(), TAG, Owner::Kernel, true)?;
        // SAFETY: a fresh block of the structure's size.
        unsafe { block.cast::<WSK_SOCKET>().write(WSK_SOCKET { Dispatch: dispatch::of(category) }) };
        let state = State {
            phase: Phase::Created,
            endpoint: None,
            callbacks,
            connect: None,
            sends: VecDeque::new(),
            receives: VecDeque::new(),
            accepts: VecDeque::new(),
            arrivals: VecDeque::new(),
            held: BTreeMap::new(),
            next_serial: 1,
            conditional_accept: false,
            sending: Direction::Open,
            receiving: Direction::Open,
            events: registration.static_events.load(Ordering::Acquire),
            receive_event: Indication::Armed,
            disconnect_event: Indication::Armed,
            unread: VecDeque::new(),
            waiting: VecDeque::new(),
            send_to: None,
            kept: Vec::new(),
            indicated: None,
            actions: VecDeque::new(),
            cancelling: 0,
            close: None,
            me: Weak::new(),
            draining: false,
            running: 0,
            inspect_serial: None,
        };
        let socket = Arc::new(Self {
            token: wsk.new_token(),
            address: block as usize,
            category,
            family,
            is_of_datagrams,
            registration: registration.clone(),
            state: Mutex::new(state),
            callers: Mutex::default(),
            released: AtomicUsize::new(0),
            arrival: AtomicU64::new(0),
        });
        socket.state.lock().me = Arc::downgrade(&socket);
        registration.sockets.fetch_add(1, Ordering::AcqRel);
        wsk.sockets.lock().insert(socket.address, socket.clone());
        wsk.targets.lock().insert(socket.token, Target::Socket(socket.clone()));
        Some(socket)
    }

    /// Takes the socket out of WSK: no call finds it any more, no event reaches it. False if that has been done.
    pub(super) fn unlist(&self, wsk: &Wsk) -> bool {
        let found = wsk.sockets.lock().remove(&self.address).is_some();
        let mut targets = wsk.targets.lock();
        targets.remove(&self.token);
        targets.remove(&self.arrival.load(Ordering::Acquire));
        found
    }

    /// Frees what the client saw, once nothing refers to it.
    pub(super) fn release(&self, wsk: &Wsk) {
        if self.released.swap(1, Ordering::AcqRel) == 0 {
            pool::free(kernel(), self.address as PVOID, TAG);
            self.registration.sockets.fetch_sub(1, Ordering::AcqRel);
            wsk.readiness.wake();
        }
    }

    /// Threads other than this one that are inside a call on the socket.
    pub(super) fn other_callers(&self) -> usize {
        let me = current().thread.id;
        self.callers.lock().iter().filter(|caller| **caller != me).count()
    }

    /// Removes a pending operation for its cancel routine, which says so by [`Self::has_cancelled`].
    pub(super) fn cancel(&self, irp: usize) -> Option<Operation> {
        let mut state = self.state.lock();
        let removed = Self::remove(&mut state, irp);
        state.cancelling += usize::from(removed.is_some());
        removed
    }

    /// A cancel routine has completed its operation.
    pub(super) fn has_cancelled(self: &Arc<Self>, wsk: &Wsk) {
        {
            let mut state = self.state.lock();
            state.cancelling -= 1;
            if state.cancelling != 0 {
                return;
            }
            let close = state.close.take();
            state.actions.extend(close.map(Action::Complete));
        }
        self.schedule(wsk);
    }

    fn remove(state: &mut State, irp: usize) -> Option<Operation> {
        if state.connect.as_ref().is_some_and(|operation| operation.irp == irp) {
            state.phase = Phase::Failed(STATUS_CANCELLED);
            state.endpoint = None;
            return state.connect.take();
        }
        for queue in [&mut state.sends, &mut state.receives, &mut state.accepts] {
            if let Some(index) = queue.iter().position(|operation| operation.irp == irp) {
                return queue.remove(index);
            }
        }
        None
    }

    /// The network says that the socket is worth a try.
    pub(super) fn pump(self: &Arc<Self>, wsk: &Wsk) {
        let bad_buffer = {
            let mut state = self.state.lock();
            match state.phase {
                Phase::Connecting | Phase::Connected => self.pump_connection(wsk, &mut state),
                Phase::Listening => {
                    self.pump_listener(wsk, &mut state);
                    false
                }
                Phase::Bound if self.category == Category::Datagram => {
                    state.pump_datagrams(wsk);
                    false
                }
                Phase::Created | Phase::Bound | Phase::Failed(_) | Phase::Closing => false,
            }
        };
        report_bad_buffer(bad_buffer);
        self.drain_if_due(wsk);
    }

    fn drain_if_due(self: &Arc<Self>, wsk: &Wsk) {
        {
            let mut state = self.state.lock();
            if state.draining || state.actions.is_empty() {
                return;
            }
            state.draining = true;
        }
        self.drain(wsk);
    }

    /// Has a network thread work on the actions that this call has led to.
    pub(super) fn schedule(self: &Arc<Self>, wsk: &Wsk) {
        {
            let mut state = self.state.lock();
            if state.draining || state.actions.is_empty() {
                return;
            }
            state.draining = true;
        }
        wsk.queue(Job::Drain(self.clone()));
    }

    /// Works on the actions until there are none; `draining` is set, and one thread at a time is here.
    pub(super) fn drain(self: &Arc<Self>, wsk: &Wsk) {
        loop {
            let action = {
                let mut state = self.state.lock();
                state.running = 0;
                match state.actions.pop_front() {
                    Some(action) => action,
                    None => {
                        state.draining = false;
                        break;
                    }
                }
            };
            match action {
                Action::Complete(completion) => completion.complete(),
                Action::Call(event) => self.call(wsk, event),
            }
            dpc::retire_between(current());
        }
    }

    /// Ends an operation that was begun by the calling thread, in order with those before it.
    pub(super) fn conclude(self: &Arc<Self>, wsk: &Wsk, completion: Completion) -> NTSTATUS {
        let inline = wsk.inline() && {
            let state = self.state.lock();
            state.actions.is_empty()
        };
        if inline {
            completion.complete_inside();
            return completion.status;
        }
        crate::nt::irp::at(completion.irp as *mut IRP).mark_pending();
        self.state.lock().actions.push_back(Action::Complete(completion));
        self.schedule(wsk);
        STATUS_PENDING
    }
}

impl State {
    /// Ends a pending operation, in order.
    pub(super) fn finish(&mut self, wsk: &Wsk, completion: Completion) {
        if claim(completion) {
            self.actions.push_back(Action::Complete(completion));
        } else if let Some(me) = self.me.upgrade() {
            self.cancelling += 1;
            wsk.claimed.lock().insert(completion.irp, (completion, me));
        }
    }

    pub(super) fn is_cancelling(&self) -> bool {
        self.cancelling != 0
    }

    /// Has the close complete behind everything that the socket's operations have led to so far.
    pub(super) fn close_behind(&mut self, completion: Completion) {
        if self.cancelling == 0 {
            self.actions.push_back(Action::Complete(completion));
        } else {
            self.close = Some(completion);
        }
    }

    /// Makes an operation wait in a queue. False if it has been cancelled already, and must be ended so.
    pub(super) fn pend(&mut self, token: u64, mut operation: Operation) -> Result<(), Operation> {
        if !operation.pend(token) {
            return Err(operation);
        }
        match operation.kind {
            Kind::Connect { .. } => self.connect = Some(operation),
            Kind::Send | Kind::SendTo { .. } | Kind::Disconnect => self.sends.push_back(operation),
            Kind::Receive { .. } | Kind::ReceiveFrom { .. } => self.receives.push_back(operation),
            Kind::Accept { .. } => self.accepts.push_back(operation),
        }
        Ok(())
    }

    /// The connection has ended: so do all operations on it.
    pub(super) fn fail(&mut self, wsk: &Wsk, status: NTSTATUS) {
        self.phase = Phase::Failed(status);
        self.endpoint = None;
        let connect = self.connect.take();
        let operations: Vec<_> =
            connect.into_iter().chain(self.sends.drain(..)).chain(self.receives.drain(..)).collect();
        for operation in operations {
            self.finish(wsk, operation.ends(status));
        }
    }

    pub(super) fn is_enabled(&self, event: u32) -> bool {
        self.events & event != 0
    }
}

/// A call on a socket, from its function's first line to its return.
pub(super) struct Call {
    pub(super) wsk: Arc<Wsk>,
    pub(super) socket: Arc<Socket>,
}

impl Call {
    /// Finds the socket; one that is closed, or was never open, is a violation.
    pub(super) fn new(socket: *mut WSK_SOCKET, name: &'static str) -> Self {
        let current = called(name, DISPATCH_LEVEL);
        let wsk = wsk();
        let found = wsk.sockets.lock().get(&(socket as usize)).cloned();
        let Some(socket) = found else {
            violate(Rule::Wsk(33), format!("{name}: {socket:p} is no open socket; nothing may follow WskCloseSocket"));
        };
        socket.callers.lock().push(current.thread.id);
        Self { wsk, socket }
    }

    /// Ends the call with an outcome that is known.
    pub(super) fn done(self, irp: &IRP, status: NTSTATUS, information: usize) -> NTSTATUS {
        self.socket.conclude(&self.wsk, Completion::new(irp, status, information))
    }

    /// Ends the call with an operation's outcome.
    pub(super) fn ended(self, completion: Completion) -> NTSTATUS {
        self.socket.conclude(&self.wsk, completion)
    }

    /// Ends the call with an operation that waits, or that was cancelled before it could.
    pub(super) fn pended(self, result: Result<(), Operation>) -> NTSTATUS {
        if let Err(operation) = result {
            let mut state = self.socket.state.lock();
            state.actions.push_back(Action::Complete(operation.ends(STATUS_CANCELLED)));
        }
        self.socket.schedule(&self.wsk);
        STATUS_PENDING
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let me = current().thread.id;
        let mut callers = self.socket.callers.lock();
        if let Some(index) = callers.iter().rposition(|caller| *caller == me) {
            callers.swap_remove(index);
        }
    }
}

/// A transfer met memory that the host cannot reach.
pub(super) fn report_bad_buffer(bad: bool) {
    if bad {
        violate(Rule::Wsk(29), "the memory of a pending operation is no longer accessible");
    }
}

pub(super) extern "win64" fn WskBind(socket: *mut WSK_SOCKET, local: PVOID, flags: u32, irp: *mut IRP) -> NTSTATUS {
    let call = Call::new(socket, "WskBind");
    check_flags(flags, 0, "WskBind");
    let irp = begin(irp, "WskBind");
    let address = have_memory().and_then(|()| super::address::read(local));
    let result = address.and_then(|address| call.socket.bind(&call.wsk, address));
    call.done(irp, result.err().unwrap_or(0), 0)
}

impl Socket {
    /// Binds; a listening socket begins to listen.
    pub(super) fn bind(&self, wsk: &Wsk, address: SocketAddr) -> Result<(), NTSTATUS> {
        use crate::nt::status::{STATUS_INVALID_ADDRESS_COMPONENT, STATUS_INVALID_DEVICE_STATE};
        if Family::of(&address) != self.family {
            return Err(STATUS_INVALID_ADDRESS_COMPONENT);
        }
        let mut state = self.state.lock();
        if state.phase != Phase::Created {
            return Err(STATUS_INVALID_DEVICE_STATE);
        }
        let endpoint = self.endpoint(wsk, &mut state)?;
        if self.category == Category::Listen {
            // Windows lets a listener have a port whose old connections linger; it is still one listener's alone.
            endpoint.set_option(network::SocketOption::ReuseAddress, 1).map_err(super::status_of)?;
        }
        endpoint.bind(address).map_err(super::status_of)?;
        if self.category == Category::Listen {
            endpoint.listen().map_err(super::status_of)?;
            state.phase = Phase::Listening;
        } else {
            state.phase = Phase::Bound;
        }
        Ok(())
    }

    /// The network's socket, made when it is first needed.
    pub(super) fn endpoint<'a>(&self, wsk: &Wsk, state: &'a mut State) -> Result<&'a dyn network::Socket, NTSTATUS> {
        if state.endpoint.is_none() {
            let backend = wsk.backend();
            let made = if self.is_of_datagrams {
                backend.datagram_socket(self.family, self.token)
            } else {
                backend.socket(self.family, self.token)
            };
            state.endpoint = Some(made.map_err(super::status_of)?);
        }
        Ok(&**state.endpoint.as_ref().expect("made above"))
    }
}

/// STATUS_INSUFFICIENT_RESOURCES if the call is one that was chosen to find no memory.
pub(super) fn have_memory() -> Result<(), NTSTATUS> {
    if kernel().faults.allocation_fails() { Err(STATUS_INSUFFICIENT_RESOURCES) } else { Ok(()) }
}

/// Reserved flags are zero.
pub(super) fn check_flags(flags: u32, allowed: u32, call: &str) {
    if flags & !allowed != 0 {
        violate(Rule::Wsk(11), format!("{call}: flags {flags:#x}; only {allowed:#x} are defined"));
    }
}

fn address_call(name: &'static str, socket: *mut WSK_SOCKET, to: PVOID, irp: *mut IRP, remote: bool) -> NTSTATUS {
    use crate::nt::status::{STATUS_INVALID_DEVICE_STATE, STATUS_SUCCESS};
    let call = Call::new(socket, name);
    let irp = begin(irp, name);
    let result = have_memory().and_then(|()| {
        let state = call.socket.state.lock();
        match &state.endpoint {
            Some(endpoint) if remote => endpoint.remote().map_err(super::status_of),
            Some(endpoint) => endpoint.local().map_err(super::status_of),
            None => Err(STATUS_INVALID_DEVICE_STATE),
        }
    });
    let status = match result {
        Ok(address) => {
            super::address::Encoded::new(&address).write(to);
            STATUS_SUCCESS
        }
        Err(status) => status,
    };
    call.done(irp, status, 0)
}

pub(super) extern "win64" fn WskGetLocalAddress(socket: *mut WSK_SOCKET, local: PVOID, irp: *mut IRP) -> NTSTATUS {
    address_call("WskGetLocalAddress", socket, local, irp, false)
}

pub(super) extern "win64" fn WskGetRemoteAddress(socket: *mut WSK_SOCKET, remote: PVOID, irp: *mut IRP) -> NTSTATUS {
    address_call("WskGetRemoteAddress", socket, remote, irp, true)
}
