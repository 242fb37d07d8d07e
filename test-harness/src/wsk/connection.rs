//! Connections: connect, send, receive, disconnect.

use std::net::SocketAddr;
use std::sync::Arc;

use wsk_bindings::{
    WSK_BUF, WSK_EVENT_DISCONNECT, WSK_EVENT_RECEIVE, WSK_EVENT_SEND_BACKLOG, WSK_FLAG_ABORTIVE, WSK_FLAG_DRAIN,
    WSK_FLAG_NODELAY, WSK_FLAG_WAITALL, WSK_SOCKET,
};

use super::operation::{Completion, Cursor, Kind, Operation, begin};
use super::socket::{
    Action, Call, Direction, Event, Indication, Phase, Socket, State, check_flags, have_memory, report_bad_buffer,
};
use super::{Wsk, address, status_of};
use crate::guard::violate;
use crate::network::{Family, NetworkError, Progress};
use crate::nt::status::{
    STATUS_CONNECTION_ABORTED, STATUS_CONNECTION_ACTIVE, STATUS_CONNECTION_INVALID, STATUS_FILE_CLOSED,
    STATUS_INVALID_ADDRESS_COMPONENT, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use crate::nt::types::{IRP, NTSTATUS, PVOID};
use crate::violation::Rule;

/// What became of an attempt to move an operation on.
enum Attempt {
    /// It is over.
    Ended(NTSTATUS),
    /// The network has no room, or nothing there.
    Later,
    /// The connection is.
    Broken(NTSTATUS),
    BadBuffer,
}

fn broken(error: NetworkError) -> Attempt {
    match error {
        NetworkError::BadBuffer => Attempt::BadBuffer,
        other => Attempt::Broken(status_of(other)),
    }
}

impl State {
    /// The connection stands.
    fn now_connected(&mut self) {
        self.phase = Phase::Connected;
        if self.is_enabled(WSK_EVENT_SEND_BACKLOG) && self.callbacks.connection != 0 {
            self.actions.push_back(Action::Call(Event::SendBacklog));
        }
    }

    /// The connection has broken.
    fn broke(&mut self, wsk: &Wsk, status: NTSTATUS) {
        self.fail(wsk, status);
        if self.is_enabled(WSK_EVENT_DISCONNECT)
            && self.disconnect_event == Indication::Armed
            && self.callbacks.connection != 0
        {
            self.disconnect_event = Indication::Silent;
            self.actions.push_back(Action::Call(Event::Disconnect { abortive: true }));
        }
    }

    /// Queues the callbacks that what has arrived calls for.
    fn look_for_events(&mut self, wsk: &Wsk) {
        if self.callbacks.connection == 0 || !self.receives.is_empty() || self.phase != Phase::Connected {
            return;
        }
        let wanted = self.is_enabled(WSK_EVENT_RECEIVE) && self.receive_event == Indication::Armed;
        if !wanted && !self.is_enabled(WSK_EVENT_DISCONNECT) {
            return;
        }
        let arrived = match &self.endpoint {
            Some(endpoint) if self.receiving == Direction::Open => endpoint.peek(),
            _ => return,
        };
        match arrived {
            Ok(Progress::Done(true)) => {
                let queued = self.actions.iter().any(|action| matches!(action, Action::Call(Event::Receive)));
                if wanted && !queued {
                    self.actions.push_back(Action::Call(Event::Receive));
                }
            }
            Ok(Progress::Done(false)) => {
                self.receiving = Direction::Ended;
                if self.is_enabled(WSK_EVENT_DISCONNECT) && self.disconnect_event == Indication::Armed {
                    self.disconnect_event = Indication::Silent;
                    self.actions.push_back(Action::Call(Event::Disconnect { abortive: false }));
                }
            }
            Ok(Progress::Later) => {}
            Err(error) => self.broke(wsk, status_of(error)),
        }
    }

    /// Moves the first bytes of a send, or the end of the stream.
    fn attempt_send(&mut self, operation: &mut Operation) -> Attempt {
        let Some(endpoint) = &self.endpoint else { return Attempt::Ended(STATUS_CONNECTION_INVALID) };
        while operation.cursor.remaining > 0 {
            match operation.cursor.with_slices(|slices| endpoint.send(slices)) {
                Ok(Progress::Done(sent)) => {
                    operation.cursor.advance(sent);
                    operation.transferred += sent;
                }
                Ok(Progress::Later) => return Attempt::Later,
                Err(error) => return broken(error),
            }
        }
        if operation.kind == Kind::Disconnect {
            self.sending = Direction::Ended;
            if let Err(error) = endpoint.shut_down() {
                return broken(error);
            }
        }
        Attempt::Ended(STATUS_SUCCESS)
    }

    /// Moves what has arrived into a receive.
    fn attempt_receive(&mut self, operation: &mut Operation) -> Attempt {
        let Kind::Receive { all, drain } = operation.kind else { return Attempt::Ended(STATUS_INVALID_PARAMETER) };
        if !self.unread.is_empty() && !drain {
            if operation.cursor.remaining == 0 {
                return Attempt::Ended(STATUS_SUCCESS);
            }
            let copied = operation.cursor.fill(self.unread.make_contiguous());
            self.unread.drain(..copied);
            operation.transferred += copied;
            if operation.cursor.remaining == 0 || !all {
                return Attempt::Ended(STATUS_SUCCESS);
            }
        }
        let Some(endpoint) = &self.endpoint else { return Attempt::Ended(STATUS_CONNECTION_INVALID) };
        loop {
            if self.receiving == Direction::Ended {
                return Attempt::Ended(STATUS_SUCCESS);
            }
            let received = if drain {
                let mut waste = [0; 4096];
                endpoint.receive(&mut [std::io::IoSliceMut::new(&mut waste)])
            } else if operation.cursor.remaining == 0 {
                // Nothing to fill: it waits for something to receive.
                return match endpoint.peek() {
                    Ok(Progress::Done(_)) => Attempt::Ended(STATUS_SUCCESS),
                    Ok(Progress::Later) => Attempt::Later,
                    Err(error) => broken(error),
                };
            } else {
                operation.cursor.with_slices_mut(|slices| endpoint.receive(slices))
            };
            match received {
                Ok(Progress::Done(0)) => self.receiving = Direction::Ended,
                Ok(Progress::Done(_)) if drain => self.unread.clear(),
                Ok(Progress::Done(count)) => {
                    operation.cursor.advance(count);
                    operation.transferred += count;
                    if operation.cursor.remaining == 0 || !all {
                        return Attempt::Ended(STATUS_SUCCESS);
                    }
                }
                Ok(Progress::Later) => return Attempt::Later,
                Err(error) => return broken(error),
            }
        }
    }
}

impl Socket {
    /// Moves every operation on as far as the network lets it. True if one's memory was not accessible.
    pub(super) fn pump_connection(&self, wsk: &Wsk, state: &mut State) -> bool {
        if state.phase == Phase::Connecting && !self.pump_connect(wsk, state) {
            return false;
        }
        while let Some(mut operation) = state.sends.pop_front() {
            match state.attempt_send(&mut operation) {
                Attempt::Ended(status) => state.finish(wsk, operation.ends(status)),
                Attempt::Later => {
                    state.sends.push_front(operation);
                    break;
                }
                Attempt::Broken(status) => {
                    state.sends.push_front(operation);
                    state.broke(wsk, status);
                    return false;
                }
                Attempt::BadBuffer => return true,
            }
        }
        while let Some(mut operation) = state.receives.pop_front() {
            match state.attempt_receive(&mut operation) {
                Attempt::Ended(status) => state.finish(wsk, operation.ends(status)),
                Attempt::Later => {
                    state.receives.push_front(operation);
                    break;
                }
                Attempt::Broken(status) => {
                    state.receives.push_front(operation);
                    state.broke(wsk, status);
                    return false;
                }
                Attempt::BadBuffer => return true,
            }
        }
        state.look_for_events(wsk);
        false
    }

    /// False while the connect is not done.
    fn pump_connect(&self, wsk: &Wsk, state: &mut State) -> bool {
        let outcome = match &state.endpoint {
            Some(endpoint) => endpoint.connected(),
            None => return false,
        };
        match outcome {
            Ok(Progress::Later) => false,
            Ok(Progress::Done(())) => {
                state.now_connected();
                if let Some(mut operation) = state.connect.take() {
                    if let Kind::Connect { creates: true } = operation.kind {
                        operation.transferred = self.address;
                    }
                    if operation.cursor.remaining > 0 {
                        // WskConnectEx: the first bytes go before every other send.
                        operation.kind = Kind::Send;
                        state.sends.push_front(operation);
                    } else {
                        state.finish(wsk, operation.ends(STATUS_SUCCESS));
                    }
                }
                true
            }
            Err(error) => {
                let failed_socket = matches!(
                    state.connect.as_ref().map(|operation| operation.kind),
                    Some(Kind::Connect { creates: true })
                );
                state.fail(wsk, status_of(error));
                if failed_socket {
                    // WskSocketConnect leaves no socket behind.
                    self.unlist(wsk);
                    self.release(wsk);
                }
                false
            }
        }
    }

    /// Begins to connect; what the network says at once.
    pub(super) fn start_connect(
        &self,
        wsk: &Wsk,
        state: &mut State,
        remote: SocketAddr,
    ) -> Result<Progress<()>, NTSTATUS> {
        if Family::of(&remote) != self.family {
            return Err(STATUS_INVALID_ADDRESS_COMPONENT);
        }
        match state.phase {
            Phase::Bound => {}
            Phase::Connected | Phase::Connecting => return Err(STATUS_CONNECTION_ACTIVE),
            Phase::Created | Phase::Listening | Phase::Closing => return Err(STATUS_INVALID_DEVICE_STATE),
            Phase::Failed(status) => return Err(status),
        }
        let begun = self.endpoint(wsk, state)?.connect(remote).map_err(status_of);
        match begun {
            Ok(Progress::Done(())) => state.now_connected(),
            Ok(Progress::Later) => state.phase = Phase::Connecting,
            Err(status) => state.fail(wsk, status),
        }
        begun
    }
}

fn connect(
    name: &'static str,
    socket: *mut WSK_SOCKET,
    remote: PVOID,
    buffer: Option<&WSK_BUF>,
    flags: u32,
    irp: *mut IRP,
) -> NTSTATUS {
    let call = Call::new(socket, name);
    check_flags(flags, 0, name);
    let irp = begin(irp, name);
    let cursor = Cursor::new(buffer, name);
    let remote = match have_memory().and_then(|()| address::read(remote)) {
        Ok(remote) => remote,
        Err(status) => return call.done(irp, status, 0),
    };
    let (wsk, owner) = (call.wsk.clone(), call.socket.clone());
    let mut state = owner.state.lock();
    match owner.start_connect(&wsk, &mut state, remote) {
        Ok(Progress::Done(())) if cursor.remaining == 0 => {
            drop(state);
            call.done(irp, STATUS_SUCCESS, 0)
        }
        Ok(Progress::Done(())) => {
            let pended = state.pend(owner.token, Operation::new(irp, Kind::Send, cursor));
            let bad = owner.pump_connection(&wsk, &mut state);
            drop(state);
            report_bad_buffer(bad);
            call.pended(pended)
        }
        Ok(Progress::Later) => {
            let pended = state.pend(owner.token, Operation::new(irp, Kind::Connect { creates: false }, cursor));
            drop(state);
            call.pended(pended)
        }
        Err(status) => {
            drop(state);
            call.done(irp, status, 0)
        }
    }
}

pub(super) extern "win64" fn WskConnect(socket: *mut WSK_SOCKET, remote: PVOID, flags: u32, irp: *mut IRP) -> NTSTATUS {
    connect("WskConnect", socket, remote, None, flags, irp)
}

pub(super) extern "win64" fn WskConnectEx(
    socket: *mut WSK_SOCKET,
    remote: PVOID,
    buffer: Option<&WSK_BUF>,
    flags: u32,
    irp: *mut IRP,
) -> NTSTATUS {
    connect("WskConnectEx", socket, remote, buffer, flags, irp)
}

/// Whether data can be moved at all, before there is an operation.
fn ready(state: &State) -> Result<(), NTSTATUS> {
    match state.phase {
        Phase::Connected => Ok(()),
        Phase::Failed(status) => Err(status),
        Phase::Created | Phase::Bound | Phase::Listening | Phase::Connecting | Phase::Closing => {
            Err(STATUS_CONNECTION_INVALID)
        }
    }
}

/// Tries an operation at once if nothing waits before it; else, and if it cannot be finished, lets it wait.
fn transfer(call: Call, irp: &IRP, mut operation: Operation) -> NTSTATUS {
    let (wsk, socket) = (call.wsk.clone(), call.socket.clone());
    let mut state = socket.state.lock();
    if let Err(status) = ready(&state).and_then(|()| have_memory()) {
        drop(state);
        return call.done(irp, status, 0);
    }
    let receiving = matches!(operation.kind, Kind::Receive { .. });
    if !receiving && (state.sending == Direction::Ended || state.sends.iter().any(|send| send.kind == Kind::Disconnect))
    {
        drop(state);
        return call.done(irp, STATUS_FILE_CLOSED, 0);
    }
    if receiving {
        state.receive_event = Indication::Armed;
    }
    let queue = if receiving { &state.receives } else { &state.sends };
    if !queue.is_empty() {
        let pended = state.pend(socket.token, operation);
        drop(state);
        return call.pended(pended);
    }
    let attempt = if receiving { state.attempt_receive(&mut operation) } else { state.attempt_send(&mut operation) };
    match attempt {
        Attempt::Ended(status) => {
            let completion = operation.ends(status);
            if receiving {
                state.look_for_events(&wsk);
            }
            drop(state);
            call.ended(completion)
        }
        Attempt::Later => {
            let pended = state.pend(socket.token, operation);
            drop(state);
            call.pended(pended)
        }
        Attempt::Broken(status) => {
            state.broke(&wsk, status);
            drop(state);
            let completion: Completion = operation.ends(status);
            call.ended(completion)
        }
        Attempt::BadBuffer => {
            drop(state);
            report_bad_buffer(true);
            call.done(irp, STATUS_INVALID_PARAMETER, 0)
        }
    }
}

pub(super) extern "win64" fn WskSend(socket: *mut WSK_SOCKET, buffer: &WSK_BUF, flags: u32, irp: *mut IRP) -> NTSTATUS {
    let call = Call::new(socket, "WskSend");
    check_flags(flags, WSK_FLAG_NODELAY, "WskSend");
    let irp = begin(irp, "WskSend");
    let cursor = Cursor::new(Some(buffer), "WskSend");
    transfer(call, irp, Operation::new(irp, Kind::Send, cursor))
}

pub(super) extern "win64" fn WskReceive(
    socket: *mut WSK_SOCKET,
    buffer: &WSK_BUF,
    flags: u32,
    irp: *mut IRP,
) -> NTSTATUS {
    let call = Call::new(socket, "WskReceive");
    check_flags(flags, WSK_FLAG_WAITALL | WSK_FLAG_DRAIN, "WskReceive");
    let (all, drain) = (flags & WSK_FLAG_WAITALL != 0, flags & WSK_FLAG_DRAIN != 0);
    if drain && (all || buffer.Length != 0) {
        violate(Rule::Wsk(30), "WskReceive with WSK_FLAG_DRAIN and WSK_FLAG_WAITALL, or with a length");
    }
    let irp = begin(irp, "WskReceive");
    let cursor = Cursor::new(Some(buffer), "WskReceive");
    transfer(call, irp, Operation::new(irp, Kind::Receive { all, drain }, cursor))
}

pub(super) extern "win64" fn WskDisconnect(
    socket: *mut WSK_SOCKET,
    buffer: Option<&WSK_BUF>,
    flags: u32,
    irp: *mut IRP,
) -> NTSTATUS {
    let call = Call::new(socket, "WskDisconnect");
    check_flags(flags, WSK_FLAG_ABORTIVE, "WskDisconnect");
    let irp = begin(irp, "WskDisconnect");
    if flags & WSK_FLAG_ABORTIVE != 0 {
        if buffer.is_some() {
            return call.done(irp, STATUS_INVALID_PARAMETER, 0);
        }
        let socket: Arc<Socket> = call.socket.clone();
        let mut state = socket.state.lock();
        let usable = ready(&state);
        if usable.is_ok() {
            if let Some(endpoint) = &state.endpoint {
                endpoint.abort();
            }
            state.fail(&call.wsk, STATUS_CONNECTION_ABORTED);
        }
        drop(state);
        return call.done(irp, usable.err().unwrap_or(STATUS_SUCCESS), 0);
    }
    let cursor = Cursor::new(buffer, "WskDisconnect");
    transfer(call, irp, Operation::new(irp, Kind::Disconnect, cursor))
}
