//! Datagram sockets: WskSendTo, WskSendMessages, WskReceiveFrom, WskReceiveFromEvent.
#![allow(unsafe_code)] // writes to the client's variables, and to the indications that it gets

use std::net::SocketAddr;
use std::sync::Arc;

use wsk_bindings::{
    MSG_TRUNC, WSK_BUF, WSK_BUF_LIST, WSK_DATAGRAM_INDICATION, WSK_EVENT_RECEIVE_FROM, WSK_FLAG_AT_DISPATCH_LEVEL,
    WSK_SOCKET,
};

use super::address::{self, Encoded};
use super::events::receive_from_event;
use super::operation::{Cursor, Kind, Operation, begin};
use super::socket::{
    Action, Call, Callbacks, Category, Event, Indication, Phase, Socket, State, check_flags, have_memory,
};
use super::{Wsk, status_of};
use crate::guard::{callout_at_dispatch, violate, violate_returned};
use crate::network::{Family, Progress};
use crate::nt::mdl;
use crate::nt::pool::{self, Owner};
use crate::nt::status::{
    STATUS_DATA_NOT_ACCEPTED, STATUS_INVALID_ADDRESS_COMPONENT, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER, STATUS_PENDING, STATUS_SUCCESS, name,
};
use crate::nt::types::{IRP, MDL, MDL_SOURCE_IS_NONPAGED_POOL, NTSTATUS, PVOID};
use crate::thread::kernel;
use crate::violation::Rule;

/// The longest datagram that IP carries.
const LONGEST: usize = 65_535;
/// Datagrams indicated at once.
const INDICATED: usize = 8;
const TAG: u32 = pool::tag(*b"Wskg");

/// A datagram in one pool block: the structure, its MDL with room for the pages, who sent it; the data lies behind.
#[repr(C)]
struct Block {
    head: WSK_DATAGRAM_INDICATION,
    list: MDL,
    pages: [usize; LONGEST / 4096 + 2],
    from: Encoded,
}

fn write(variable: usize, value: u32) {
    if variable != 0 {
        // SAFETY: the client names a variable that stays until the IRP completes; a bad pointer faults.
        unsafe { (variable as *mut u32).write_unaligned(value) };
    }
}

impl State {
    /// Sends a datagram, or receives one. `None` if the network is not ready.
    fn attempt_datagram(&mut self, operation: &mut Operation) -> Option<NTSTATUS> {
        let Some(endpoint) = &self.endpoint else { return Some(STATUS_INVALID_DEVICE_STATE) };
        match operation.kind {
            Kind::SendTo { to } => match endpoint.send_to(&operation.cursor.bytes(), to) {
                Ok(Progress::Done(sent)) => {
                    operation.transferred += sent;
                    Some(STATUS_SUCCESS)
                }
                Ok(Progress::Later) => None,
                Err(error) => Some(status_of(error)),
            },
            Kind::ReceiveFrom { remote, control_length, flags } => match self.next_datagram() {
                Ok(Some((from, datagram))) => {
                    operation.transferred = operation.cursor.fill(&datagram);
                    Encoded::new(&from).write(remote as PVOID);
                    // No control information was asked for by an option, so there is none.
                    write(control_length, 0);
                    write(flags, if operation.transferred < datagram.len() { MSG_TRUNC } else { 0 });
                    Some(STATUS_SUCCESS)
                }
                Ok(None) => None,
                Err(status) => Some(status),
            },
            Kind::Connect { .. } | Kind::Send | Kind::Receive { .. } | Kind::Disconnect | Kind::Accept { .. } => {
                Some(STATUS_INVALID_PARAMETER)
            }
        }
    }

    /// What was indicated and not taken comes first.
    fn next_datagram(&mut self) -> Result<Option<(SocketAddr, Vec<u8>)>, NTSTATUS> {
        if let Some(waiting) = self.waiting.pop_front() {
            return Ok(Some(waiting));
        }
        self.receive_datagram()
    }

    fn receive_datagram(&self) -> Result<Option<(SocketAddr, Vec<u8>)>, NTSTATUS> {
        let Some(endpoint) = &self.endpoint else { return Err(STATUS_INVALID_DEVICE_STATE) };
        let mut datagram = vec![0; LONGEST];
        match endpoint.receive_from(&mut datagram) {
            Ok(Progress::Done(received)) => {
                datagram.truncate(received.bytes);
                Ok(Some((received.from, datagram)))
            }
            Ok(Progress::Later) => Ok(None),
            Err(error) => Err(status_of(error)),
        }
    }

    /// Moves every operation on as far as the network lets it; what nobody waits for is indicated.
    pub(super) fn pump_datagrams(&mut self, wsk: &Wsk) {
        while let Some(mut operation) = self.sends.pop_front() {
            match self.attempt_datagram(&mut operation) {
                Some(status) => self.finish(wsk, operation.ends(status)),
                None => {
                    self.sends.push_front(operation);
                    break;
                }
            }
        }
        while let Some(mut operation) = self.receives.pop_front() {
            match self.attempt_datagram(&mut operation) {
                Some(status) => self.finish(wsk, operation.ends(status)),
                None => {
                    self.receives.push_front(operation);
                    return;
                }
            }
        }
        let queued = self.actions.iter().any(|action| matches!(action, Action::Call(Event::ReceiveFrom)));
        if self.is_enabled(WSK_EVENT_RECEIVE_FROM) && self.callbacks.datagram != 0 && !queued {
            self.actions.push_back(Action::Call(Event::ReceiveFrom));
        }
    }

    /// The datagrams for one callback: those that were not taken before, if it is time to offer them again, and what has arrived.
    fn datagrams_to_indicate(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut fresh = Vec::new();
        while fresh.len() < INDICATED
            && let Ok(Some(datagram)) = self.receive_datagram()
        {
            fresh.push(datagram);
        }
        if fresh.is_empty() && self.receive_event == Indication::Silent {
            return fresh;
        }
        self.waiting.extend(fresh);
        self.receive_event = Indication::Silent;
        self.waiting.drain(..).collect()
    }
}

impl Socket {
    /// Indicates what has arrived, as one list.
    pub(super) fn call_receive_from(self: &Arc<Self>, wsk: &Wsk, callbacks: &Callbacks) {
        let Some(routine) = receive_from_event(callbacks) else { return };
        let datagrams = {
            let mut state = self.state.lock();
            if !state.is_enabled(WSK_EVENT_RECEIVE_FROM) || !state.receives.is_empty() {
                return;
            }
            state.datagrams_to_indicate()
        };
        if datagrams.is_empty() {
            return;
        }
        let first =
            datagrams.iter().rev().fold(std::ptr::null_mut(), |next, (from, datagram)| indicate(datagram, from, next));
        self.begin_indication(first as usize);
        let context = callbacks.context as PVOID;
        let mut is_back = false;
        let status = callout_at_dispatch("WskReceiveFromEvent", || {
            let status = routine(context, WSK_FLAG_AT_DISPATCH_LEVEL, first);
            is_back = self.end_indication(first as usize, status);
            status
        });
        match status {
            STATUS_PENDING => return self.pump(wsk),
            STATUS_SUCCESS => {}
            STATUS_DATA_NOT_ACCEPTED => {
                let mut state = self.state.lock();
                state.events &= !WSK_EVENT_RECEIVE_FROM | self.static_events();
                for datagram in datagrams.into_iter().rev() {
                    state.waiting.push_front(datagram);
                }
            }
            other => violate_returned(Rule::Wsk(25), format!("WskReceiveFromEvent returned {}", name(other))),
        }
        if is_back {
            free(first);
        }
        self.pump(wsk);
    }

    /// SIO_WSK_SET_REMOTE_ADDRESS: the one peer that it sends to and receives from.
    pub(super) fn set_remote(&self, wsk: &Wsk, remote: Option<SocketAddr>) -> Result<(), NTSTATUS> {
        let mut state = self.state.lock();
        self.check_peer(&state, remote)?;
        let endpoint = self.endpoint(wsk, &mut state)?;
        match remote {
            Some(remote) => endpoint.connect(remote).map(|_| ()).map_err(status_of)?,
            None => endpoint.forget_peer().map_err(status_of)?,
        }
        state.send_to = None;
        Ok(())
    }

    /// SIO_WSK_SET_SENDTO_ADDRESS: where datagrams go that name no address.
    pub(super) fn set_send_to(&self, remote: Option<SocketAddr>) -> Result<(), NTSTATUS> {
        let mut state = self.state.lock();
        self.check_peer(&state, remote)?;
        state.send_to = remote;
        Ok(())
    }

    fn check_peer(&self, state: &State, remote: Option<SocketAddr>) -> Result<(), NTSTATUS> {
        if self.category != Category::Datagram {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        if state.phase != Phase::Bound {
            return Err(STATUS_INVALID_DEVICE_STATE);
        }
        let fits = remote.is_none_or(|remote| Family::of(&remote) == self.family);
        if fits { Ok(()) } else { Err(STATUS_INVALID_ADDRESS_COMPONENT) }
    }
}

/// An indication of a datagram, in pool, before another one.
fn indicate(datagram: &[u8], from: &SocketAddr, next: *mut WSK_DATAGRAM_INDICATION) -> *mut WSK_DATAGRAM_INDICATION {
    let Some(block) = kernel().pool.allocate(size_of::<Block>() + datagram.len(), TAG, Owner::Kernel, true) else {
        violate(Rule::Hang, "the machine has no pool for a datagram");
    };
    let data = block.wrapping_byte_add(size_of::<Block>());
    // SAFETY: the block has room for the bytes behind the structure.
    unsafe { std::ptr::copy_nonoverlapping(datagram.as_ptr(), data.cast(), datagram.len()) };
    // SAFETY: a fresh, zeroed block of at least the structure's size; zeros are valid for it.
    let indication = unsafe { &mut *block.cast::<Block>() };
    mdl::initialize(&indication.list, data, datagram.len());
    indication.list.MdlFlags.set(MDL_SOURCE_IS_NONPAGED_POOL);
    indication.list.MappedSystemVa.set(data);
    indication.from = Encoded::new(from);
    indication.head = WSK_DATAGRAM_INDICATION {
        Next: next,
        Buffer: WSK_BUF { Mdl: (&raw mut indication.list).cast(), Offset: 0, Length: datagram.len() },
        ControlInfo: std::ptr::null_mut(),
        ControlInfoLength: 0,
        RemoteAddress: indication.from.as_ptr().cast(),
    };
    block.cast()
}

/// Frees a list of indications.
fn free(first: *mut WSK_DATAGRAM_INDICATION) {
    let mut next = first;
    while !next.is_null() {
        // SAFETY: the list that `indicate` made, which its client has given back.
        let following = unsafe { (*next).Next };
        pool::free(kernel(), next.cast(), TAG);
        next = following;
    }
}

/// The WskRelease of datagram sockets.
pub(super) extern "win64" fn WskReleaseDatagrams(
    socket: *mut WSK_SOCKET,
    indication: *mut WSK_DATAGRAM_INDICATION,
) -> NTSTATUS {
    let call = Call::new(socket, "WskRelease");
    if !call.socket.forget_indication(indication as usize) {
        violate(Rule::Wsk(25), format!("WskRelease: {indication:p} is no list of datagrams that the client keeps"));
    }
    free(indication);
    STATUS_SUCCESS
}

/// Tries an operation at once if nothing waits before it; else, and if the network is not ready, lets it wait.
fn transfer(call: Call, irp: &IRP, mut operation: Operation) -> NTSTATUS {
    let socket = call.socket.clone();
    let mut state = socket.state.lock();
    let usable = match state.phase {
        Phase::Bound => have_memory(),
        Phase::Failed(status) => Err(status),
        Phase::Created | Phase::Listening | Phase::Connecting | Phase::Connected | Phase::Closing => {
            Err(STATUS_INVALID_DEVICE_STATE)
        }
    };
    if let Err(status) = usable {
        drop(state);
        return call.done(irp, status, 0);
    }
    let queue = if matches!(operation.kind, Kind::SendTo { .. }) { &state.sends } else { &state.receives };
    let ended = if queue.is_empty() { state.attempt_datagram(&mut operation) } else { None };
    match ended {
        Some(status) => {
            drop(state);
            call.ended(operation.ends(status))
        }
        None => {
            let pended = state.pend(socket.token, operation);
            drop(state);
            call.pended(pended)
        }
    }
}

/// Where a datagram goes: the address that the call names, or the socket's.
fn destination(socket: &Socket, remote: PVOID) -> Result<Option<SocketAddr>, NTSTATUS> {
    if remote.is_null() {
        return Ok(socket.state.lock().send_to);
    }
    let to = address::read(remote)?;
    if Family::of(&to) == socket.family { Ok(Some(to)) } else { Err(STATUS_INVALID_ADDRESS_COMPONENT) }
}

pub(super) extern "win64" fn WskSendTo(
    socket: *mut WSK_SOCKET,
    buffer: &WSK_BUF,
    flags: u32,
    remote: PVOID,
    control_length: u32,
    _control: PVOID,
    irp: *mut IRP,
) -> NTSTATUS {
    let call = Call::new(socket, "WskSendTo");
    check_flags(flags, 0, "WskSendTo");
    let irp = begin(irp, "WskSendTo");
    let cursor = Cursor::new(Some(buffer), "WskSendTo");
    if control_length != 0 {
        // None of what the options ask for is there.
        return call.done(irp, STATUS_INVALID_PARAMETER, 0);
    }
    match destination(&call.socket, remote) {
        Ok(to) => transfer(call, irp, Operation::new(irp, Kind::SendTo { to }, cursor)),
        Err(status) => call.done(irp, status, 0),
    }
}

pub(super) extern "win64" fn WskSendMessages(
    socket: *mut WSK_SOCKET,
    list: *const WSK_BUF_LIST,
    flags: u32,
    remote: PVOID,
    control_length: u32,
    _control: PVOID,
    irp: *mut IRP,
) -> NTSTATUS {
    let call = Call::new(socket, "WskSendMessages");
    check_flags(flags, 0, "WskSendMessages");
    let irp = begin(irp, "WskSendMessages");
    let to = destination(&call.socket, remote);
    let (Ok(to), 0, false) = (to, control_length, list.is_null()) else {
        return call.done(irp, to.err().unwrap_or(STATUS_INVALID_PARAMETER), 0);
    };
    let (mut next, mut sent) = (list, 0);
    loop {
        // SAFETY: the client's list, which stays until the IRP completes; a bad pointer faults.
        let element = unsafe { &*next };
        let mut operation =
            Operation::new(irp, Kind::SendTo { to }, Cursor::new(Some(&element.Buffer), "WskSendMessages"));
        operation.transferred = sent;
        next = element.Next;
        if next.is_null() {
            return transfer(call, irp, operation);
        }
        let mut state = call.socket.state.lock();
        // One that the network has no room for is lost, as datagrams may be.
        let ended = if state.phase == Phase::Bound { state.attempt_datagram(&mut operation) } else { None };
        sent = operation.transferred;
        drop(state);
        if let Some(status) = ended.filter(|status| *status != STATUS_SUCCESS) {
            return call.done(irp, status, sent);
        }
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) extern "win64" fn WskReceiveFrom(
    socket: *mut WSK_SOCKET,
    buffer: &WSK_BUF,
    flags: u32,
    remote: PVOID,
    control_length: *mut u32,
    _control: PVOID,
    control_flags: *mut u32,
    irp: *mut IRP,
) -> NTSTATUS {
    let call = Call::new(socket, "WskReceiveFrom");
    check_flags(flags, 0, "WskReceiveFrom");
    let irp = begin(irp, "WskReceiveFrom");
    let cursor = Cursor::new(Some(buffer), "WskReceiveFrom");
    let kind = Kind::ReceiveFrom {
        remote: remote as usize,
        control_length: control_length as usize,
        flags: control_flags as usize,
    };
    transfer(call, irp, Operation::new(irp, kind, cursor))
}
