//! Event callbacks: WSK calls the client, one callback of a socket at a time, at DISPATCH_LEVEL.
#![allow(unsafe_code)] // calls through the client's tables

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wsk_bindings::{
    SO_WSK_EVENT_CALLBACK, WSK_BUF, WSK_CLIENT_CONNECTION_DISPATCH, WSK_CLIENT_DATAGRAM_DISPATCH,
    WSK_CLIENT_LISTEN_DISPATCH, WSK_DATA_INDICATION, WSK_DATAGRAM_INDICATION, WSK_EVENT_ACCEPT, WSK_EVENT_DISCONNECT,
    WSK_EVENT_RECEIVE, WSK_EVENT_RECEIVE_FROM, WSK_EVENT_SEND_BACKLOG, WSK_FLAG_ABORTIVE, WSK_FLAG_AT_DISPATCH_LEVEL,
    WSK_INSPECT_ID, WSK_SOCKET,
};

use super::address::Encoded;
use super::listen::Arrival;
use super::socket::{Call, Callbacks, Category, Direction, Event, Indication as Telling, Phase, Socket};
use super::{Wsk, status_of};
use crate::guard::{callout_at_dispatch, violate, violate_returned};
use crate::network::{NetworkError, Progress};
use crate::nt::mdl;
use crate::nt::pool::{self, Owner};
use crate::nt::status::{STATUS_DATA_NOT_ACCEPTED, STATUS_PENDING, STATUS_SUCCESS, name};
use crate::nt::types::{MDL, MDL_SOURCE_IS_NONPAGED_POOL, NTSTATUS, PVOID};
use crate::thread::kernel;
use crate::violation::Rule;

type AcceptEvent = extern "win64" fn(
    PVOID,
    u32,
    *mut c_void,
    *mut c_void,
    *mut WSK_SOCKET,
    *mut PVOID,
    *mut *const c_void,
) -> NTSTATUS;
type InspectEvent = extern "win64" fn(PVOID, *mut c_void, *mut c_void, *mut WSK_INSPECT_ID) -> i32;
type AbortEvent = extern "win64" fn(PVOID, *mut WSK_INSPECT_ID) -> NTSTATUS;
type ReceiveEvent = extern "win64" fn(PVOID, u32, *mut WSK_DATA_INDICATION, usize, *mut usize) -> NTSTATUS;
pub(super) type ReceiveFromEvent = extern "win64" fn(PVOID, u32, *mut WSK_DATAGRAM_INDICATION) -> NTSTATUS;
type DisconnectEvent = extern "win64" fn(PVOID, u32) -> NTSTATUS;
type SendBacklogEvent = extern "win64" fn(PVOID, usize) -> NTSTATUS;

/// The callback in a slot of a client's table, as what it is: a function with the Windows calling convention.
fn slot<F: Copy>(table: usize, offset: usize) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<usize>()) };
    if table == 0 {
        return None;
    }
    // SAFETY: the client's table is resident while the socket is open; a bad pointer faults, which the guard reports.
    let address = unsafe { *((table + offset) as *const usize) };
    // SAFETY: the caller names the slot's type, and null was excluded.
    (address != 0).then(|| unsafe { std::mem::transmute_copy::<usize, F>(&address) })
}

macro_rules! callback {
    ($name:ident -> $type:ty: $table:ident.$field:ident of $slot:ident) => {
        pub(super) fn $name(callbacks: &Callbacks) -> Option<$type> {
            slot(callbacks.$slot, std::mem::offset_of!($table, $field))
        }
    };
}

callback!(accept_event -> AcceptEvent: WSK_CLIENT_LISTEN_DISPATCH.WskAcceptEvent of listen);
callback!(inspect_event -> InspectEvent: WSK_CLIENT_LISTEN_DISPATCH.WskInspectEvent of listen);
callback!(abort_event -> AbortEvent: WSK_CLIENT_LISTEN_DISPATCH.WskAbortEvent of listen);
callback!(receive_event -> ReceiveEvent: WSK_CLIENT_CONNECTION_DISPATCH.WskReceiveEvent of connection);
callback!(receive_from_event -> ReceiveFromEvent: WSK_CLIENT_DATAGRAM_DISPATCH.WskReceiveFromEvent of datagram);
callback!(disconnect_event -> DisconnectEvent: WSK_CLIENT_CONNECTION_DISPATCH.WskDisconnectEvent of connection);
callback!(send_backlog_event -> SendBacklogEvent: WSK_CLIENT_CONNECTION_DISPATCH.WskSendBacklogEvent of connection);

/// Whether the client has what conditional acceptance calls.
pub(super) fn can_inspect(callbacks: &Callbacks) -> bool {
    inspect_event(callbacks).is_some() && abort_event(callbacks).is_some()
}

/// Bytes indicated at once.
const INDICATED: usize = 64 << 10;
const TAG: u32 = pool::tag(*b"Wski");

/// An indication in one pool block: the structure, its MDL with room for the pages, the data.
#[repr(C)]
struct Indication {
    head: WSK_DATA_INDICATION,
    list: MDL,
    pages: [usize; INDICATED / 4096 + 2],
}

/// An address that a callback gets, in memory that goes with it.
struct Passed(PVOID);

impl Passed {
    fn new(address: &Encoded) -> Self {
        let size = size_of::<Encoded>();
        let Some(block) = kernel().pool.allocate(size, pool::CALLBACK_ADDRESS_TAG, Owner::Kernel, true) else {
            violate(Rule::Hang, "the machine has no pool for an address");
        };
        address.write(block);
        Self(block)
    }

    fn as_ptr(&self) -> PVOID {
        self.0
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        pool::free(kernel(), self.0, pool::CALLBACK_ADDRESS_TAG);
    }
}

impl Socket {
    /// Calls the client for an event that was queued, if it still wants it.
    pub(super) fn call(self: &Arc<Self>, wsk: &Wsk, event: Event) {
        let callbacks = {
            let mut state = self.state.lock();
            if state.phase == Phase::Closing {
                return;
            }
            state.running = match event {
                Event::Accept => WSK_EVENT_ACCEPT,
                Event::Receive => WSK_EVENT_RECEIVE,
                Event::ReceiveFrom => WSK_EVENT_RECEIVE_FROM,
                Event::Disconnect { .. } => WSK_EVENT_DISCONNECT,
                Event::SendBacklog => WSK_EVENT_SEND_BACKLOG,
                Event::Inspect { .. } | Event::Abort { .. } => 0,
            };
            state.callbacks
        };
        match event {
            Event::Inspect { serial } => self.call_inspect(wsk, &callbacks, serial),
            Event::Abort { serial } => {
                let Some(routine) = abort_event(&callbacks) else { return };
                let mut id = self.inspect_id(serial);
                callout_at_dispatch("WskAbortEvent", || routine(callbacks.context as PVOID, &raw mut id));
            }
            Event::Accept => self.call_accept(wsk, &callbacks),
            Event::Receive => self.call_receive(wsk, &callbacks),
            Event::ReceiveFrom => self.call_receive_from(wsk, &callbacks),
            Event::Disconnect { abortive } => {
                let Some(routine) = disconnect_event(&callbacks) else { return };
                let flags = WSK_FLAG_AT_DISPATCH_LEVEL | if abortive { WSK_FLAG_ABORTIVE } else { 0 };
                callout_at_dispatch("WskDisconnectEvent", || routine(callbacks.context as PVOID, flags));
            }
            Event::SendBacklog => {
                let Some(routine) = send_backlog_event(&callbacks) else { return };
                let size = self.ideal_send_backlog();
                callout_at_dispatch("WskSendBacklogEvent", || routine(callbacks.context as PVOID, size));
            }
        }
    }

    /// Bytes of sends that the client should keep outstanding.
    pub(super) fn ideal_send_backlog(&self) -> usize {
        let state = self.state.lock();
        let size =
            state.endpoint.as_ref().and_then(|endpoint| endpoint.option(crate::network::SocketOption::SendBuffer).ok());
        size.map_or(0, |size| size as usize)
    }

    pub(super) fn inspect_id(&self, serial: u32) -> WSK_INSPECT_ID {
        WSK_INSPECT_ID { Key: self.address, SerialNumber: serial }
    }

    fn call_inspect(self: &Arc<Self>, wsk: &Wsk, callbacks: &Callbacks, serial: u32) {
        let Some(routine) = inspect_event(callbacks) else {
            violate(Rule::Wsk(27), "SO_CONDITIONAL_ACCEPT is on, and the client has no WskInspectEvent");
        };
        let addresses =
            self.state.lock().held.get(&serial).map(|held| (Encoded::new(&held.local), Encoded::new(&held.remote)));
        let Some((local, remote)) = addresses else { return };
        let mut id = self.inspect_id(serial);
        let context = callbacks.context as PVOID;
        let (local, remote) = (Passed::new(&local), Passed::new(&remote));
        let action =
            callout_at_dispatch("WskInspectEvent", || routine(context, local.as_ptr(), remote.as_ptr(), &raw mut id));
        self.inspected(wsk, serial, action);
    }

    /// Offers the oldest connection, as a new socket.
    fn call_accept(self: &Arc<Self>, wsk: &Wsk, callbacks: &Callbacks) {
        let Some(routine) = accept_event(callbacks) else { return };
        let arrival = self.state.lock().arrivals.pop_front();
        let Some(Arrival { endpoint, local, remote, token, serial }) = arrival else { return };
        let Some(socket) = self.accepted(wsk, endpoint, token, serial, Callbacks::default()) else { return };
        let (local, remote) = (Passed::new(&Encoded::new(&local)), Passed::new(&Encoded::new(&remote)));
        let (mut context, mut dispatch) = (std::ptr::null_mut(), std::ptr::null());
        let status = callout_at_dispatch("WskAcceptEvent", || {
            routine(
                callbacks.context as PVOID,
                WSK_FLAG_AT_DISPATCH_LEVEL,
                local.as_ptr(),
                remote.as_ptr(),
                socket.address as *mut WSK_SOCKET,
                &raw mut context,
                &raw mut dispatch,
            )
        });
        if status == STATUS_SUCCESS {
            {
                let mut state = socket.state.lock();
                state.callbacks =
                    Callbacks { context: context as usize, connection: dispatch as usize, ..Callbacks::default() };
            }
            socket.pump(wsk);
        } else {
            // Refused: the socket is WSK's to close, and the peer is reset.
            if socket.unlist(wsk) {
                socket.abandon(wsk);
            }
        }
    }

    /// Reads what has arrived and indicates it.
    fn call_receive(self: &Arc<Self>, wsk: &Wsk, callbacks: &Callbacks) {
        let Some(routine) = receive_event(callbacks) else { return };
        let mut bytes = vec![0; INDICATED];
        let count = {
            let mut state = self.state.lock();
            if !state.is_enabled(WSK_EVENT_RECEIVE)
                || state.receive_event == Telling::Silent
                || !state.receives.is_empty()
            {
                return;
            }
            let Some(endpoint) = &state.endpoint else { return };
            match endpoint.receive(&mut [std::io::IoSliceMut::new(&mut bytes)]) {
                Ok(Progress::Done(0)) => {
                    state.receiving = Direction::Ended;
                    0
                }
                Ok(Progress::Done(count)) => count,
                Ok(Progress::Later) => return,
                Err(error) => {
                    state.fail(wsk, status_of(error));
                    0
                }
            }
        };
        if count == 0 {
            self.tell_of_end();
            return;
        }
        bytes.truncate(count);
        let block = indicate(&bytes);
        let mut accepted = count;
        let context = callbacks.context as PVOID;
        self.begin_indication(block as usize);
        let mut is_back = false;
        let status = callout_at_dispatch("WskReceiveEvent", || {
            let status = routine(context, WSK_FLAG_AT_DISPATCH_LEVEL, block.cast(), count, &raw mut accepted);
            is_back = self.end_indication(block as usize, status);
            status
        });
        let taken = match status {
            STATUS_PENDING => return self.pump(wsk),
            STATUS_SUCCESS => accepted.min(count),
            STATUS_DATA_NOT_ACCEPTED => 0,
            other => violate_returned(Rule::Wsk(25), format!("WskReceiveEvent returned {}", name(other))),
        };
        if is_back {
            pool::free(kernel(), block, TAG);
        }
        {
            let mut state = self.state.lock();
            if taken < count {
                state.unread.extend(&bytes[taken..]);
                state.receive_event = Telling::Silent;
            }
        }
        self.pump(wsk);
    }

    /// The stream has ended, or broken, while it was being indicated.
    fn tell_of_end(&self) {
        let mut state = self.state.lock();
        if state.is_enabled(WSK_EVENT_DISCONNECT) && state.disconnect_event == Telling::Armed {
            state.disconnect_event = Telling::Silent;
            let abortive = matches!(state.phase, Phase::Failed(_));
            state.actions.push_back(super::socket::Action::Call(Event::Disconnect { abortive }));
        }
    }

    /// Filed before the callback is called, as the client may release it there.
    pub(super) fn begin_indication(&self, block: usize) {
        let mut state = self.state.lock();
        state.kept.push(block);
        state.indicated = Some(block);
    }

    /// The callback has returned, and nobody below DISPATCH_LEVEL can know that yet. Whether the indication is back: it is the
    /// client's after STATUS_PENDING, and gone if the client has released it.
    pub(super) fn end_indication(&self, block: usize, status: NTSTATUS) -> bool {
        self.state.lock().indicated = None;
        status != STATUS_PENDING && self.forget_indication(block)
    }

    pub(super) fn forget_indication(&self, block: usize) -> bool {
        let mut state = self.state.lock();
        let index = state.kept.iter().position(|kept| *kept == block);
        index.map(|index| state.kept.swap_remove(index)).is_some()
    }
}

/// An indication of some bytes, in pool.
fn indicate(bytes: &[u8]) -> PVOID {
    let Some(block) = kernel().pool.allocate(size_of::<Indication>() + bytes.len(), TAG, Owner::Kernel, true) else {
        violate(Rule::Hang, "the machine has no pool for a receive indication");
    };
    // SAFETY: a fresh, zeroed block of at least the structure's size; zeros are valid for it.
    let indication = unsafe { &mut *block.cast::<Indication>() };
    let data = block.wrapping_byte_add(size_of::<Indication>());
    // SAFETY: the block has room for the bytes behind the structure.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), data.cast(), bytes.len()) };
    mdl::initialize(&indication.list, data, bytes.len());
    indication.list.MdlFlags.set(MDL_SOURCE_IS_NONPAGED_POOL);
    indication.list.MappedSystemVa.set(data);
    let list = &raw mut indication.list;
    indication.head = WSK_DATA_INDICATION {
        Next: std::ptr::null_mut(),
        Buffer: WSK_BUF { Mdl: list.cast(), Offset: 0, Length: bytes.len() },
    };
    block
}

pub(super) extern "win64" fn WskRelease(socket: *mut WSK_SOCKET, indication: *mut WSK_DATA_INDICATION) -> NTSTATUS {
    let call = Call::new(socket, "WskRelease");
    let mut next = indication;
    while !next.is_null() {
        if !call.socket.forget_indication(next as usize) {
            violate(Rule::Wsk(25), format!("WskRelease: {next:p} is no indication that the client keeps"));
        }
        // SAFETY: just found among the indications of this socket.
        let following = unsafe { (*next).Next };
        pool::free(kernel(), next.cast(), TAG);
        next = following;
    }
    STATUS_SUCCESS
}

/// The name of the option that enables events, for reports.
pub(super) const EVENT_OPTION: u32 = SO_WSK_EVENT_CALLBACK;

/// Events that a category of socket can have.
pub(super) fn events_of(category: Category) -> u32 {
    let connection = WSK_EVENT_RECEIVE | WSK_EVENT_DISCONNECT | WSK_EVENT_SEND_BACKLOG;
    match category {
        Category::Basic => 0,
        Category::Listen => WSK_EVENT_ACCEPT,
        Category::Connection => connection,
        Category::Stream => WSK_EVENT_ACCEPT | connection,
        Category::Datagram => WSK_EVENT_RECEIVE_FROM,
    }
}

impl Socket {
    /// Closes a socket that the client did not want.
    fn abandon(&self, wsk: &Wsk) {
        {
            let mut state = self.state.lock();
            if let Some(endpoint) = &state.endpoint {
                endpoint.abort();
            }
            state.fail(wsk, status_of(NetworkError::Reset));
        }
        self.release(wsk);
    }

    /// Whether the registration still wants events at all.
    pub(super) fn static_events(&self) -> u32 {
        self.registration.static_events.load(Ordering::Acquire)
    }
}
