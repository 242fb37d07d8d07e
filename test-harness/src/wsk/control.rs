//! WskControlSocket: options, events, I/O controls of a socket.
#![allow(unsafe_code)] // reads and writes the client's buffers
#![allow(non_upper_case_globals)] // the headers' constants in patterns

use std::ffi::c_void;
use std::net::SocketAddr;

use wsk_bindings::{
    IPPROTO_IPV6, IPPROTO_TCP, IPV6_V6ONLY, NPI_WSK_INTERFACE_ID, SIO_WSK_QUERY_IDEAL_SEND_BACKLOG,
    SIO_WSK_QUERY_INSPECT_ID, SIO_WSK_QUERY_RECEIVE_BACKLOG, SIO_WSK_SET_REMOTE_ADDRESS, SIO_WSK_SET_SENDTO_ADDRESS,
    SO_BROADCAST, SO_CONDITIONAL_ACCEPT, SO_EXCLUSIVEADDRUSE, SO_KEEPALIVE, SO_RCVBUF, SO_REUSEADDR, SO_SNDBUF,
    SO_TYPE, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY, WSK_EVENT_CALLBACK_CONTROL, WSK_EVENT_DISABLE,
    WSK_EVENT_RECEIVE_FROM, WSK_INSPECT_ID, WSK_SOCKET, WskGetOption, WskIoctl, WskSetOption,
};

use super::events::{EVENT_OPTION, events_of};
use super::operation::{Completion, begin};
use super::socket::{Action, Call, Category, Indication, Phase, State, have_memory};
use super::{address, status_of};
use crate::guard::violate;
use crate::network::SocketOption;
use crate::nt::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_EVENT_PENDING, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_DEVICE_STATE,
    STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_PENDING, STATUS_SUCCESS,
};
use crate::nt::types::{IRP, NTSTATUS, PVOID};
use crate::violation::Rule;

/// The network's name for an option.
fn network_option(level: u32, name: u32) -> Option<SocketOption> {
    let tcp = level == IPPROTO_TCP;
    let socket = level == SOL_SOCKET;
    Some(match name {
        _ if tcp && name == TCP_NODELAY => SocketOption::NoDelay,
        _ if socket && name == SO_KEEPALIVE => SocketOption::KeepAlive,
        _ if socket && name == SO_REUSEADDR => SocketOption::ReuseAddress,
        _ if socket && name == SO_BROADCAST => SocketOption::Broadcast,
        _ if socket && name == SO_SNDBUF => SocketOption::SendBuffer,
        _ if socket && name == SO_RCVBUF => SocketOption::ReceiveBuffer,
        _ if level == IPPROTO_IPV6 && name == IPV6_V6ONLY => SocketOption::V6Only,
        _ => return None,
    })
}

/// A client's buffer.
#[derive(Clone, Copy)]
struct Buffer {
    address: PVOID,
    size: usize,
}

impl Buffer {
    /// Reads an option's value: four bytes, or one of BOOLEAN kind.
    fn number(self) -> Result<u32, NTSTATUS> {
        match self.size {
            _ if self.address.is_null() => Err(STATUS_INVALID_PARAMETER),
            // SAFETY: the client gives so many bytes until the IRP completes; a bad pointer faults.
            1 => Ok(unsafe { self.address.cast::<u8>().read() }.into()),
            // SAFETY: as above.
            4.. => Ok(unsafe { self.address.cast::<u32>().read_unaligned() }),
            _ => Err(STATUS_BUFFER_TOO_SMALL),
        }
    }

    /// Reads an address; `None` if the buffer is empty.
    fn peer(self) -> Result<Option<SocketAddr>, NTSTATUS> {
        if self.address.is_null() || self.size == 0 { Ok(None) } else { address::read(self.address).map(Some) }
    }

    /// Writes a value; the number of bytes.
    fn write<T: Copy>(self, value: T) -> Result<usize, NTSTATUS> {
        if self.address.is_null() || self.size < size_of::<T>() {
            return Err(STATUS_BUFFER_TOO_SMALL);
        }
        // SAFETY: the client gives so many bytes; a bad pointer faults, which the guard reports.
        unsafe { self.address.cast::<T>().write_unaligned(value) };
        Ok(size_of::<T>())
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) extern "win64" fn WskControlSocket(
    socket: *mut WSK_SOCKET,
    request: i32,
    code: u32,
    level: u32,
    input_size: usize,
    input: *mut c_void,
    output_size: usize,
    output: *mut c_void,
    returned: *mut usize,
    irp: *mut IRP,
) -> NTSTATUS {
    let call = Call::new(socket, "WskControlSocket");
    let input = Buffer { address: input, size: input_size };
    let output = Buffer { address: output, size: output_size };
    let is_events = request == WskSetOption && level == SOL_SOCKET && code == EVENT_OPTION;
    let no_irp = is_events || request == WskIoctl && code == SIO_WSK_QUERY_INSPECT_ID;
    if irp.is_null() && !no_irp {
        violate(Rule::Wsk(6), format!("WskControlSocket({request}, {code:#x}) without an IRP, which it requires"));
    }
    if request == WskSetOption && level == SOL_SOCKET && code == SO_CONDITIONAL_ACCEPT && input.number() != Ok(0) {
        let callbacks = call.socket.state.lock().callbacks;
        if callbacks.listen != 0 && !super::events::can_inspect(&callbacks) {
            violate(Rule::Wsk(27), "SO_CONDITIONAL_ACCEPT, and the client has no WskInspectEvent or WskAbortEvent");
        }
    }
    let packet = (!irp.is_null()).then(|| begin(irp, "WskControlSocket"));
    if is_events {
        return set_events(call, input, packet);
    }
    let result = have_memory().and_then(|()| {
        let mut state = call.socket.state.lock();
        match request {
            WskSetOption => set_option(&call, &mut state, level, code, input).map(|()| 0),
            WskGetOption => get_option(&call, &mut state, level, code, output),
            WskIoctl => {
                drop(state);
                io_control(&call, code, input, output)
            }
            _ => Err(STATUS_INVALID_PARAMETER),
        }
    });
    let (status, size) = result.map_or_else(|status| (status, 0), |size| (STATUS_SUCCESS, size));
    match packet {
        Some(irp) => call.done(irp, status, size),
        None => {
            if !returned.is_null() {
                // SAFETY: the client gives it for a call without an IRP; a bad pointer faults.
                unsafe { returned.write(size) };
            }
            status
        }
    }
}

fn set_option(call: &Call, state: &mut State, level: u32, name: u32, input: Buffer) -> Result<(), NTSTATUS> {
    let value = input.number()?;
    if level == SOL_SOCKET && name == SO_CONDITIONAL_ACCEPT {
        if !matches!(call.socket.category, Category::Listen | Category::Stream) {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        if state.phase != Phase::Created {
            return Err(STATUS_INVALID_DEVICE_STATE);
        }
        if value != 0 && state.callbacks.listen == 0 {
            return Err(STATUS_INVALID_DEVICE_REQUEST);
        }
        state.conditional_accept = value != 0;
        return Ok(());
    }
    if level == SOL_SOCKET && name == SO_EXCLUSIVEADDRUSE {
        // Addresses are not shared unless SO_REUSEADDR says so: the host's default.
        return Ok(());
    }
    let option = network_option(level, name).ok_or(STATUS_NOT_SUPPORTED)?;
    call.socket.endpoint(&call.wsk, state)?.set_option(option, value).map_err(status_of)
}

fn get_option(call: &Call, state: &mut State, level: u32, name: u32, output: Buffer) -> Result<usize, NTSTATUS> {
    if level == SOL_SOCKET && name == SO_CONDITIONAL_ACCEPT {
        return output.write(u32::from(state.conditional_accept));
    }
    if level == SOL_SOCKET && name == SO_TYPE {
        let kind = if call.socket.category == Category::Datagram { SOCK_DGRAM } else { SOCK_STREAM };
        return output.write(u32::from(kind));
    }
    let option = network_option(level, name).ok_or(STATUS_NOT_SUPPORTED)?;
    let value = call.socket.endpoint(&call.wsk, state)?.option(option).map_err(status_of)?;
    output.write(value)
}

fn io_control(call: &Call, code: u32, input: Buffer, output: Buffer) -> Result<usize, NTSTATUS> {
    match code {
        SIO_WSK_QUERY_IDEAL_SEND_BACKLOG => output.write(call.socket.ideal_send_backlog()),
        SIO_WSK_QUERY_RECEIVE_BACKLOG => output.write(call.socket.state.lock().unread.len()),
        SIO_WSK_QUERY_INSPECT_ID => {
            let from = call.socket.state.lock().inspect_serial.ok_or(STATUS_INVALID_DEVICE_REQUEST)?;
            output.write(WSK_INSPECT_ID { Key: from.0, SerialNumber: from.1 })
        }
        SIO_WSK_SET_REMOTE_ADDRESS => call.socket.set_remote(&call.wsk, input.peer()?).map(|()| 0),
        SIO_WSK_SET_SENDTO_ADDRESS => call.socket.set_send_to(input.peer()?).map(|()| 0),
        _ => Err(STATUS_NOT_SUPPORTED),
    }
}

/// Enables events, or disables one; a callback that runs now ends before the disabling does.
fn set_events(call: Call, input: Buffer, packet: Option<&IRP>) -> NTSTATUS {
    let finish = |call: Call, status: NTSTATUS| match packet {
        Some(irp) => call.done(irp, status, 0),
        None => status,
    };
    if input.size < size_of::<WSK_EVENT_CALLBACK_CONTROL>() {
        return finish(call, STATUS_INVALID_PARAMETER);
    }
    // SAFETY: the client gives the structure for the call; a bad pointer faults, which the guard reports.
    let control = unsafe { input.address.cast::<WSK_EVENT_CALLBACK_CONTROL>().read() };
    // SAFETY: likewise, the identifier that it points to.
    let id = unsafe { control.NpiId.read() };
    if id != NPI_WSK_INTERFACE_ID {
        return finish(call, STATUS_NOT_SUPPORTED);
    }
    let mask = control.EventMask & !WSK_EVENT_DISABLE;
    if mask & !events_of(call.socket.category) != 0 {
        return finish(call, STATUS_INVALID_PARAMETER);
    }
    let socket = call.socket.clone();
    let mut state = socket.state.lock();
    if control.EventMask & WSK_EVENT_DISABLE == 0 {
        if packet.is_some() {
            drop(state);
            violate(Rule::Wsk(20), "enabling events takes no IRP");
        }
        let ready = match state.phase {
            Phase::Listening => socket.category != Category::Connection,
            Phase::Created | Phase::Bound if socket.category == Category::Datagram => true,
            Phase::Connected => true,
            Phase::Created | Phase::Bound | Phase::Connecting | Phase::Failed(_) | Phase::Closing => false,
        };
        if !ready {
            drop(state);
            return finish(call, STATUS_INVALID_DEVICE_STATE);
        }
        state.events |= mask;
        if mask & WSK_EVENT_RECEIVE_FROM != 0 {
            state.receive_event = Indication::Armed;
        }
        drop(state);
        // What has arrived before is told of now, but not in this call.
        call.wsk.queue_pump(&socket);
        return finish(call, STATUS_SUCCESS);
    }
    if !mask.is_power_of_two() {
        drop(state);
        violate(Rule::Wsk(20), format!("events are disabled one at a time, not as {mask:#x}"));
    }
    if socket.static_events() & mask != 0 {
        drop(state);
        violate(Rule::Wsk(18), "static event callbacks cannot be disabled");
    }
    state.events &= !mask;
    let runs = state.running & mask != 0;
    drop(state);
    match (runs, packet) {
        (false, _) => finish(call, STATUS_SUCCESS),
        (true, None) => STATUS_EVENT_PENDING,
        (true, Some(irp)) => {
            irp.mark_pending();
            let completion = Completion::new(irp, STATUS_SUCCESS, 0);
            socket.state.lock().actions.push_front(Action::Complete(completion));
            socket.schedule(&call.wsk);
            STATUS_PENDING
        }
    }
}
