//! Listening sockets: connections arrive, are inspected, and are accepted.
//!
//! Linux answers a SYN by itself. So a connection under SO_CONDITIONAL_ACCEPT is taken from the host first, then inspected;
//! a rejected one is reset at once, and one that its peer gives up meanwhile is aborted.

use std::net::SocketAddr;
use std::sync::Arc;

use wsk_bindings::{WSK_EVENT_ACCEPT, WSK_INSPECT_ID, WSK_SOCKET, WskInspectAccept, WskInspectPend, WskInspectReject};

use super::address::Encoded;
use super::operation::{Cursor, Kind, Operation, begin};
use super::socket::{Action, Call, Callbacks, Category, Event, Phase, Socket, State, check_flags, have_memory};
use super::{Target, Wsk};
use crate::guard::{violate, violate_returned};
use crate::network::{self, NetworkError, Progress};
use crate::nt::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_STATE, STATUS_NOT_FOUND, STATUS_SUCCESS};
use crate::nt::types::{IRP, NTSTATUS, PVOID};
use crate::thread::kernel;
use crate::violation::Rule;

/// A connection that nobody has accepted.
pub(super) struct Arrival {
    pub(super) endpoint: Box<dyn network::Socket>,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) token: u64,
    pub(super) serial: u32,
}

/// A connection under inspection.
pub(super) struct Held {
    pub(super) endpoint: Box<dyn network::Socket>,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) token: u64,
    /// The client has answered WskInspectPend.
    pended: bool,
}

/// Connections that WSK keeps for a client which accepts none; further ones wait in the host.
const ARRIVALS: usize = 512;

impl Socket {
    /// Takes what has arrived, and hands it to whoever waits.
    pub(super) fn pump_listener(self: &Arc<Self>, wsk: &Wsk, state: &mut State) {
        while state.arrivals.len() + state.held.len() < ARRIVALS {
            let token = wsk.new_token();
            let endpoint = match state.endpoint.as_ref().map(|endpoint| endpoint.accept(token)) {
                Some(Ok(Progress::Done(endpoint))) => endpoint,
                // Where the host has no room, the connections stay in its queue.
                Some(Ok(Progress::Later) | Err(_)) | None => break,
            };
            let (Ok(local), Ok(remote)) = (endpoint.local(), endpoint.remote()) else {
                continue; // its peer has gone already
            };
            let serial = state.next_serial;
            state.next_serial = state.next_serial.wrapping_add(1);
            if state.conditional_accept {
                wsk.targets.lock().insert(token, Target::Held(self.clone()));
                state.held.insert(serial, Held { endpoint, local, remote, token, pended: false });
                state.actions.push_back(Action::Call(Event::Inspect { serial }));
            } else {
                state.arrivals.push_back(Arrival { endpoint, local, remote, token, serial: 0 });
            }
        }
        self.offer(wsk, state);
    }

    /// Hands waiting connections to waiting accepts, or to the accept callback.
    fn offer(self: &Arc<Self>, wsk: &Wsk, state: &mut State) {
        while !state.arrivals.is_empty()
            && let Some(operation) = state.accepts.pop_front()
        {
            if let Some(arrival) = state.arrivals.pop_front() {
                self.accept(wsk, state, operation, arrival);
            }
        }
        let enabled = state.is_enabled(WSK_EVENT_ACCEPT) && state.callbacks.listen != 0;
        if enabled {
            let queued = state.actions.iter().filter(|action| matches!(action, Action::Call(Event::Accept))).count();
            for _ in queued..state.arrivals.len() {
                state.actions.push_back(Action::Call(Event::Accept));
            }
        }
    }

    /// Ends a WskAccept with a connection.
    fn accept(self: &Arc<Self>, wsk: &Wsk, state: &mut State, mut operation: Operation, arrival: Arrival) {
        let completion = match self.take(wsk, &mut operation, arrival) {
            Ok(()) => operation.ends(STATUS_SUCCESS),
            Err(status) => operation.ends(status),
        };
        state.finish(wsk, completion);
    }

    /// Makes the socket that a WskAccept returns, and writes the addresses to where it wants them.
    fn take(self: &Arc<Self>, wsk: &Wsk, operation: &mut Operation, arrival: Arrival) -> Result<(), NTSTATUS> {
        let Kind::Accept { context, dispatch, local, remote } = operation.kind else {
            return Err(STATUS_INVALID_DEVICE_STATE);
        };
        let callbacks = Callbacks { context, connection: dispatch, ..Callbacks::default() };
        let (from, to) = (Encoded::new(&arrival.remote), Encoded::new(&arrival.local));
        let socket = self
            .accepted(wsk, arrival.endpoint, arrival.token, arrival.serial, callbacks)
            .ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        to.write(local as PVOID);
        from.write(remote as PVOID);
        operation.transferred = socket.address;
        Ok(())
    }

    /// A connected socket for an arrival. Without memory the peer is reset.
    pub(super) fn accepted(
        &self,
        wsk: &Wsk,
        endpoint: Box<dyn network::Socket>,
        token: u64,
        serial: u32,
        callbacks: Callbacks,
    ) -> Option<Arc<Socket>> {
        let Some(socket) = Socket::new(wsk, &self.registration, Category::Connection, (self.family, false), callbacks)
        else {
            endpoint.abort();
            return None;
        };
        {
            let mut state = socket.state.lock();
            state.endpoint = Some(endpoint);
            state.phase = Phase::Connected;
            state.inspect_serial = (serial != 0).then_some((self.address, serial));
        }
        // The network knows the connection by the token it arrived with.
        socket.arrival.store(token, std::sync::atomic::Ordering::Release);
        wsk.targets.lock().insert(token, Target::Socket(socket.clone()));
        Some(socket)
    }

    /// The client has answered WskInspectEvent.
    pub(super) fn inspected(self: &Arc<Self>, wsk: &Wsk, serial: u32, action: i32) {
        let mut state = self.state.lock();
        if action == WskInspectPend {
            if let Some(held) = state.held.get_mut(&serial) {
                held.pended = true;
            }
            state.look_after_held(wsk, serial);
            return;
        }
        if action != WskInspectAccept && action != WskInspectReject {
            drop(state);
            violate_returned(Rule::Wsk(28), format!("WskInspectEvent returned {action}"));
        }
        self.decide(wsk, &mut state, serial, action == WskInspectAccept);
    }

    /// Lets a held connection in, or resets it. False if there is none.
    fn decide(self: &Arc<Self>, wsk: &Wsk, state: &mut State, serial: u32, accept: bool) -> bool {
        let Some(Held { endpoint, local, remote, token, .. }) = state.held.remove(&serial) else { return false };
        wsk.targets.lock().remove(&token);
        if accept {
            state.arrivals.push_back(Arrival { endpoint, local, remote, token, serial });
            self.offer(wsk, state);
        } else {
            endpoint.abort();
        }
        true
    }
}

impl State {
    /// Tells the client if the peer of a pended connection has gone.
    fn look_after_held(&mut self, wsk: &Wsk, serial: u32) {
        let Some(held) = self.held.get(&serial).filter(|held| held.pended) else { return };
        let gone = match held.endpoint.peek() {
            Ok(Progress::Done(has_data)) => !has_data,
            Ok(Progress::Later) => false,
            Err(error) => matches!(error, NetworkError::NotConnected | NetworkError::Reset),
        };
        if gone {
            wsk.targets.lock().remove(&held.token);
            self.held.remove(&serial);
            self.actions.push_back(Action::Call(Event::Abort { serial }));
        }
    }
}

/// The network has something to say of a connection under inspection.
pub(super) fn held_is_ready(wsk: &Wsk, listener: &Arc<Socket>, token: u64) {
    {
        let mut state = listener.state.lock();
        let serial = state.held.iter().find(|(_, held)| held.token == token).map(|(serial, _)| *serial);
        if let Some(serial) = serial {
            state.look_after_held(wsk, serial);
        }
    }
    listener.schedule(wsk);
}

pub(super) extern "win64" fn WskAccept(
    socket: *mut WSK_SOCKET,
    flags: u32,
    context: PVOID,
    dispatch: PVOID,
    local: PVOID,
    remote: PVOID,
    irp: *mut IRP,
) -> NTSTATUS {
    let call = Call::new(socket, "WskAccept");
    check_flags(flags, 0, "WskAccept");
    super::client::check_context(context, "WskAccept");
    if [local, remote].iter().any(|address| kernel().paging.contains(*address as usize)) {
        violate(Rule::Wsk(14), "WskAccept: an address buffer lies in pageable memory");
    }
    let irp = begin(irp, "WskAccept");
    let kind = Kind::Accept {
        context: context as usize,
        dispatch: dispatch as usize,
        local: local as usize,
        remote: remote as usize,
    };
    let mut operation = Operation::new(irp, kind, Cursor::NOTHING);
    let (wsk, owner) = (call.wsk.clone(), call.socket.clone());
    let mut state = owner.state.lock();
    let listens = if state.phase == Phase::Listening { have_memory() } else { Err(STATUS_INVALID_DEVICE_STATE) };
    if let Err(status) = listens {
        drop(state);
        return call.done(irp, status, 0);
    }
    let arrival = if state.accepts.is_empty() { state.arrivals.pop_front() } else { None };
    match arrival {
        Some(arrival) => {
            let taken = owner.take(&wsk, &mut operation, arrival);
            // There may be room again for those that wait in the host.
            owner.pump_listener(&wsk, &mut state);
            drop(state);
            owner.schedule(&wsk);
            call.ended(operation.ends(taken.err().unwrap_or(STATUS_SUCCESS)))
        }
        None => {
            let pended = state.pend(owner.token, operation);
            drop(state);
            call.pended(pended)
        }
    }
}

pub(super) extern "win64" fn WskInspectComplete(
    socket: *mut WSK_SOCKET,
    id: &WSK_INSPECT_ID,
    action: i32,
    irp: *mut IRP,
) -> NTSTATUS {
    let call = Call::new(socket, "WskInspectComplete");
    let irp = begin(irp, "WskInspectComplete");
    if action != WskInspectAccept && action != WskInspectReject {
        violate(Rule::Wsk(28), format!("WskInspectComplete with action {action}"));
    }
    let known = {
        let mut state = call.socket.state.lock();
        id.Key == call.socket.address
            && call.socket.decide(&call.wsk, &mut state, id.SerialNumber, action == WskInspectAccept)
    };
    call.socket.schedule(&call.wsk);
    // An abort may have been first.
    call.done(irp, if known { STATUS_SUCCESS } else { STATUS_NOT_FOUND }, 0)
}

pub(super) extern "win64" fn WskListen(socket: *mut WSK_SOCKET, irp: *mut IRP) -> NTSTATUS {
    let call = Call::new(socket, "WskListen");
    let irp = begin(irp, "WskListen");
    let listening = have_memory().and_then(|()| {
        let mut state = call.socket.state.lock();
        let (Some(endpoint), Phase::Bound) = (&state.endpoint, state.phase) else {
            return Err(STATUS_INVALID_DEVICE_STATE);
        };
        endpoint.listen().map_err(super::status_of)?;
        state.phase = Phase::Listening;
        Ok(())
    });
    call.done(irp, listening.err().unwrap_or(STATUS_SUCCESS), 0)
}
