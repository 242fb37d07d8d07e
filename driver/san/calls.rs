//! The WSK calls of a SAN endpoint, and what their completions tell the machine.
//!
//! Each kind of call has an IRP of its own, and one call at a time. Only sends of data use the IRPs of their operations, so
//! that many are out at once. A call that ends before its function has returned goes on here, in the runner; one that ends
//! elsewhere tells the machine and has the runner called by a DPC.
#![allow(unsafe_code, reason = "fills in what WSK calls refer to, and takes references back from their completions")]

use super::{Endpoint, LockedMemory};
use crate::endpoint::AnyEndpoint;
use crate::nt::{MdlBuffer, Outcome, Round, Shared, WskIrp};
use crate::operation::{Kind, Pending};
use crate::san::Answer;
use crate::wsk::{Category, OptionName, SockAddr, Socket, wsk_socket};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use san_core::san::{Sending, Slice};
use san_protocol::NtStatus;
use san_protocol::wire::{ControlMessage, HEADER_SIZE, MAX_CONTROL};
use wdk_sys::{MDL, NTSTATUS, PIRP};
use wsk_bindings::WSK_BUF;

/// IRPs and buffers of an endpoint's own calls.
pub(super) struct Calls {
    /// Open, bind, connect, disconnect.
    pub(super) setup: WskIrp,
    pub(super) receive: WskIrp,
    /// Sends of control messages.
    pub(super) control: WskIrp,
    pub(super) closer: WskIrp,
    /// A header or control message that comes in.
    pub(super) incoming: MdlBuffer<MAX_CONTROL>,
    /// A control message that goes out.
    pub(super) outgoing: MdlBuffer<MAX_CONTROL>,
    pub(super) arguments: Arguments,
}

/// Memory that a call refers to until its IRP is completed; the runner's, who makes one call of a kind at a time.
pub(super) struct Arguments {
    address: UnsafeCell<SockAddr>,
    option: UnsafeCell<u32>,
    receive: UnsafeCell<WSK_BUF>,
    send: UnsafeCell<WSK_BUF>,
}

impl Arguments {
    pub(super) const fn new() -> Self {
        const NOTHING: WSK_BUF = WSK_BUF { Mdl: ptr::null_mut(), Offset: 0, Length: 0 };
        Self {
            address: UnsafeCell::new(SockAddr::NONE),
            option: UnsafeCell::new(0),
            receive: UnsafeCell::new(NOTHING),
            send: UnsafeCell::new(NOTHING),
        }
    }
}

/// A step on the way of the socket.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// WskSocket, then bind to this native address.
    Socket(SockAddr, Purpose),
    /// WskBind.
    Bind(Purpose),
    /// WskCloseSocket, for the bind has come to this status and the socket is of no use.
    Abandon(NtStatus, Purpose),
    /// WskConnect to this native address.
    Connect(SockAddr),
    /// A peer has made the connection.
    Arrived,
    /// WskControlSocket(TCP_NODELAY), on the way of a connect or not: messages are whole when they are sent, and somebody waits
    /// for each.
    SendAtOnce { connecting: bool },
    /// WskDisconnect, graceful.
    Disconnect,
}

/// What a socket is opened and bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To connect.
    Connect,
    /// To see whether the address is one of this machine's.
    Probe,
}

/// The call of the setup IRP.
#[derive(Clone, Copy)]
pub(super) enum SetupCall {
    None,
    Out(Step),
    /// It has ended, and the runner has not gone on yet.
    Ended(Step, Outcome),
}

/// What the receive that is out brings.
#[derive(Clone, Copy)]
pub(super) enum Receiving {
    Nothing,
    Header,
    Control(usize),
    Payload(usize),
}

/// What a call came to.
fn result(outcome: Outcome) -> Result<(), NtStatus> {
    if outcome.status.is_success() { Ok(()) } else { Err(outcome.status) }
}

/// What a call that was to move so many bytes came to; fewer mean that the peer has ended the TCP connection.
fn transferred(outcome: Outcome, length: usize) -> Result<(), NtStatus> {
    result(outcome)?;
    if outcome.information == length { Ok(()) } else { Err(NtStatus::CONNECTION_RESET) }
}

/// An offset in a region, whose length came as the 32 bits of a device control request.
fn region_offset(offset: u64) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

impl Endpoint {
    /// Makes a call with one of the endpoint's own IRPs, which keeps the endpoint until the call has ended. `Some`: it has;
    /// else `ended` is called. IRQL <= DISPATCH_LEVEL; in the runner.
    fn issue(
        this: &Shared<Self>,
        irp: &WskIrp,
        ended: unsafe fn(*const c_void, Outcome),
        call: impl FnOnce(PIRP) -> Option<NTSTATUS>,
    ) -> Option<Outcome> {
        let reference = Shared::into_raw(this.clone());
        // SAFETY: the runner makes one call at a time with each IRP; the IRP lies in the endpoint, whose reference is the round's.
        match unsafe { irp.issue(ended, reference.cast(), call) } {
            Round::Ended(outcome) => {
                // SAFETY: counted above; `ended` will not be called.
                drop(unsafe { Shared::from_raw(reference) });
                Some(outcome)
            }
            Round::Pending => None,
        }
    }

    /// The endpoint of a call that has ended elsewhere.
    ///
    /// # Safety
    ///
    /// Called once, by the continuation of a round that `issue` began.
    unsafe fn of_call(context: *const c_void) -> Shared<Self> {
        // SAFETY: `issue` gave this reference to the round.
        unsafe { Shared::from_raw(context.cast::<Self>()) }
    }

    /// The socket, if it is open. IRQL <= DISPATCH_LEVEL; no lock is held.
    fn socket(&self) -> Option<Socket> {
        self.inner.lock().socket
    }

    /// Makes the call of a step. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn begin_setup(this: &Shared<Self>, step: Step) {
        this.inner.lock().setup = SetupCall::Out(step);
        let socket = this.socket();
        let address = this.calls.arguments.address.get();
        let outcome = match step {
            Step::Socket(..) => Self::issue(this, &this.calls.setup, Self::setup_call_ended, |irp| {
                wsk_socket(&this.provider, this.family, Category::Connection, this.process.as_ref(), irp)
            }),
            Step::Bind(_) => Self::issue(this, &this.calls.setup, Self::setup_call_ended, |irp| {
                // SAFETY: stored by the step before; nobody changes it while the call is out.
                socket?.bind(false, unsafe { &*address }, irp)
            }),
            Step::Abandon(..) => {
                Self::issue(this, &this.calls.closer, Self::setup_call_ended, |irp| socket?.close(irp))
            }
            Step::Connect(native) => Self::issue(this, &this.calls.setup, Self::setup_call_ended, |irp| {
                // SAFETY: no setup call is out, so that nothing refers to it.
                unsafe { *address = native };
                // SAFETY: nobody changes it while the call is out.
                socket?.connect(unsafe { &*address }, irp)
            }),
            Step::Arrived => Some(Outcome::SUCCESS),
            Step::SendAtOnce { .. } => Self::issue(this, &this.calls.setup, Self::setup_call_ended, |irp| {
                let option = this.calls.arguments.option.get();
                // SAFETY: no setup call is out, so that nothing refers to it.
                unsafe { *option = 1 };
                // SAFETY: nobody changes it while the call is out.
                socket?.set_option(OptionName::NoDelay, unsafe { &*option }, irp)
            }),
            Step::Disconnect => {
                Self::issue(this, &this.calls.setup, Self::setup_call_ended, |irp| socket?.disconnect(false, irp))
            }
        };
        if let Some(outcome) = outcome {
            this.inner.lock().setup = SetupCall::Ended(step, outcome);
        }
    }

    /// The continuation of the setup IRP. IRQL <= DISPATCH_LEVEL; inside WSK.
    unsafe fn setup_call_ended(context: *const c_void, outcome: Outcome) {
        // SAFETY: the continuation of a setup call.
        let this = unsafe { Self::of_call(context) };
        {
            let mut inner = this.inner.lock();
            inner.setup = match inner.setup {
                SetupCall::Out(step) => SetupCall::Ended(step, outcome),
                SetupCall::None | SetupCall::Ended(..) => inner.setup,
            };
        }
        Self::run_later(&this);
    }

    /// Goes on after a step. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn setup_ended(this: &Shared<Self>, step: Step, outcome: Outcome) {
        let closing = this.inner.lock().close_wanted;
        match (step, result(outcome)) {
            (Step::Socket(native, purpose), Ok(())) => {
                let socket = Socket::from_information(outcome.information);
                this.inner.lock().socket = socket;
                if !closing {
                    // SAFETY: no setup call is out, so that nothing refers to it.
                    unsafe { *this.calls.arguments.address.get() = native };
                    Self::begin_setup(this, Step::Bind(purpose));
                }
            }
            (Step::Bind(purpose), Err(status)) if !closing => {
                Self::begin_setup(this, Step::Abandon(status, purpose));
            }
            (Step::Bind(Purpose::Probe), Ok(())) => {
                Self::begin_setup(this, Step::Abandon(NtStatus::SUCCESS, Purpose::Probe));
            }
            (Step::Abandon(status, purpose), _) => {
                this.inner.lock().socket = None;
                Self::opened(this, purpose, if status.is_success() { Ok(()) } else { Err(status) });
            }
            (Step::Socket(_, purpose) | Step::Bind(purpose), opened) => Self::opened(this, purpose, opened),
            (Step::Connect(_), Ok(())) if !closing => Self::begin_setup(this, Step::SendAtOnce { connecting: true }),
            (Step::Connect(_), connected) => this.tell(|machine| machine.connected(connected)),
            (Step::Arrived, _) if !closing => Self::begin_setup(this, Step::SendAtOnce { connecting: false }),
            // A socket that cannot do so works as well, only later.
            (Step::SendAtOnce { connecting: true }, _) => this.tell(|machine| machine.connected(Ok(()))),
            (Step::SendAtOnce { connecting: false } | Step::Arrived, _) => {}
            (Step::Disconnect, _) => this.tell(super::Machine::disconnected),
        }
    }

    /// A socket has been opened and bound, or could not be. IRQL <= DISPATCH_LEVEL; in the runner.
    fn opened(this: &Shared<Self>, purpose: Purpose, opened: Result<(), NtStatus>) {
        match purpose {
            Purpose::Connect => this.tell(|machine| machine.opened(opened)),
            Purpose::Probe => Self::probed(this, opened),
        }
    }

    /// Sends a control message. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn send_control(this: &Shared<Self>, message: &ControlMessage) {
        let bytes = message.as_bytes();
        // SAFETY: the machine sends one control message at a time: no call refers to the buffer.
        unsafe { this.calls.outgoing.write(bytes) };
        let socket = this.socket();
        let buffer = this.calls.arguments.send.get();
        let outcome = Self::issue(this, &this.calls.control, Self::control_call_ended, |irp| {
            let filled =
                WSK_BUF { Mdl: this.calls.outgoing.mdl().as_ptr().cast(), Offset: 0, Length: bytes.len() as _ };
            // SAFETY: as for the bytes.
            unsafe { *buffer = filled };
            // SAFETY: nobody changes it while the call is out.
            socket?.send(unsafe { &*buffer }, irp)
        });
        if let Some(outcome) = outcome {
            this.tell(|machine| machine.control_sent(result(outcome)));
        }
    }

    /// The continuation of the control IRP. IRQL <= DISPATCH_LEVEL; inside WSK.
    unsafe fn control_call_ended(context: *const c_void, outcome: Outcome) {
        // SAFETY: the continuation of such a call.
        let this = unsafe { Self::of_call(context) };
        this.tell(|machine| machine.control_sent(result(outcome)));
        Self::run_later(&this);
    }

    /// Sends a message: the header's MDL, chained to the payload's. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn send_data(
        this: &Shared<Self>,
        header: &[u8; HEADER_SIZE],
        send: Sending<Pending>,
        slice: Slice<LockedMemory>,
    ) {
        let (mut send, sending) = send.split();
        let answer = send.kind();
        let arguments = send.arguments();
        arguments.sending = Some(sending);
        let payload = match (slice.memory.mdl(), answer) {
            (Some(region), kind) if kind == Kind::San(Answer::SendRegistered) || slice.offset != 0 => {
                let offset = region_offset(slice.offset);
                // SAFETY: room was made when the request came; the machine has checked the slice and keeps the region while the
                // operation uses it; the operation does not move.
                Some(unsafe { arguments.payload.build(region, offset, slice.length) })
            }
            (whole, _) => whole,
        };
        // SAFETY: the operation's own, which no call refers to yet.
        unsafe { arguments.header.write(header) };
        // SAFETY: operations lie in non-paged memory, as their issuers give it.
        let first: NonNull<MDL> = unsafe { arguments.header.build(payload) };
        let length = HEADER_SIZE + slice.length as usize;
        arguments.buffer = WSK_BUF { Mdl: first.as_ptr().cast(), Offset: 0, Length: length as _ };
        let socket = this.socket();
        let ended = send.issue(Self::data_call_ended, |irp, arguments| socket?.send(&arguments.buffer, irp));
        if let Some((send, outcome)) = ended {
            Self::data_sent(this, send, outcome);
        }
    }

    /// A message has gone, or has not. IRQL <= DISPATCH_LEVEL; no lock is held.
    fn data_sent(this: &Shared<Self>, mut send: Pending, outcome: Outcome) {
        // Before the machine lets the region go that it describes a part of.
        let arguments = send.arguments();
        arguments.payload.clear();
        match arguments.sending.take() {
            Some(sending) => this.tell(|machine| machine.sent(sending.with(send), result(outcome))),
            None => send.finish(outcome.status, 0),
        }
    }

    /// The continuation of a message's IRP. IRQL <= DISPATCH_LEVEL; inside WSK.
    fn data_call_ended(send: Pending, outcome: Outcome) {
        match send.endpoint().clone() {
            AnyEndpoint::San(this) => {
                Self::data_sent(&this, send, outcome);
                Self::run_later(&this);
            }
            AnyEndpoint::Stream(_) => send.finish(outcome.status, outcome.information),
        }
    }

    /// Receives a header. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn receive_header(this: &Shared<Self>) {
        Self::receive_exactly(this, Receiving::Header, this.calls.incoming.mdl(), 0, HEADER_SIZE);
    }

    /// Receives a control message behind its header. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn receive_control(this: &Shared<Self>, length: usize) {
        let length = length.min(MAX_CONTROL);
        Self::receive_exactly(this, Receiving::Control(length), this.calls.incoming.mdl(), 0, length);
    }

    /// Receives a message's payload straight into the caller's pages. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn receive_payload(this: &Shared<Self>, slice: Slice<LockedMemory>) {
        let length = slice.length as usize;
        match slice.memory.mdl() {
            Some(region) => {
                Self::receive_exactly(this, Receiving::Payload(length), region, region_offset(slice.offset), length);
            }
            None => this.tell(|machine| machine.payload_received(Err(NtStatus::INVALID_PARAMETER))),
        }
    }

    /// Receives exactly so many bytes. IRQL <= DISPATCH_LEVEL; in the runner.
    fn receive_exactly(this: &Shared<Self>, receiving: Receiving, mdl: NonNull<MDL>, offset: u32, length: usize) {
        this.inner.lock().receiving = receiving;
        let socket = this.socket();
        let buffer = this.calls.arguments.receive.get();
        let outcome = Self::issue(this, &this.calls.receive, Self::receive_call_ended, |irp| {
            // SAFETY: one receive at a time: nothing refers to it.
            unsafe { *buffer = WSK_BUF { Mdl: mdl.as_ptr().cast(), Offset: offset, Length: length as _ } };
            // SAFETY: nobody changes it while the call is out.
            socket?.receive(unsafe { &*buffer }, true, irp)
        });
        if let Some(outcome) = outcome {
            this.received(outcome);
        }
    }

    /// The continuation of the receive IRP. IRQL <= DISPATCH_LEVEL; inside WSK.
    unsafe fn receive_call_ended(context: *const c_void, outcome: Outcome) {
        // SAFETY: the continuation of such a call.
        let this = unsafe { Self::of_call(context) };
        this.received(outcome);
        Self::run_later(&this);
    }

    /// Tells the machine what has come in. IRQL <= DISPATCH_LEVEL; no lock is held.
    fn received(&self, outcome: Outcome) {
        let receiving = core::mem::replace(&mut self.inner.lock().receiving, Receiving::Nothing);
        match receiving {
            Receiving::Nothing => {}
            Receiving::Header => {
                let header = transferred(outcome, HEADER_SIZE).map(|()| {
                    // SAFETY: the receive has ended, and the next one is the machine's to ask for.
                    let bytes = unsafe { self.calls.incoming.read() };
                    let mut header = [0; HEADER_SIZE];
                    header.copy_from_slice(&bytes[..HEADER_SIZE]);
                    header
                });
                self.tell(|machine| machine.header_received(header));
            }
            Receiving::Control(length) => {
                let message = transferred(outcome, length).map(|()| {
                    // SAFETY: as above.
                    unsafe { self.calls.incoming.read() }
                });
                let message = message.as_ref().map(|bytes| &bytes[..length]).map_err(|status| *status);
                self.tell(|machine| machine.control_received(message));
            }
            Receiving::Payload(length) => {
                let payload = transferred(outcome, length);
                self.tell(|machine| machine.payload_received(payload));
            }
        }
    }

    /// The socket is to be closed, as soon as no open or connect is under way on it: closing a socket that connects has been
    /// seen to hang. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn want_close(this: &Shared<Self>) {
        let in_the_way = {
            let mut inner = this.inner.lock();
            match inner.setup {
                SetupCall::Out(
                    Step::Socket(..)
                    | Step::Bind(_)
                    | Step::Abandon(..)
                    | Step::Connect(_)
                    | Step::Arrived
                    | Step::SendAtOnce { .. },
                )
                | SetupCall::Ended(..) => {
                    inner.close_wanted = true;
                    true
                }
                SetupCall::Out(Step::Disconnect) | SetupCall::None => false,
            }
        };
        if in_the_way {
            this.calls.setup.cancel();
        } else {
            Self::close_socket(this);
        }
    }

    /// Closes the socket, which ends every call that is out. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn close_socket(this: &Shared<Self>) {
        let (socket, handshake) = {
            let mut inner = this.inner.lock();
            (inner.socket.take(), inner.handshake.take())
        };
        drop(handshake);
        let outcome = match socket {
            Some(socket) => Self::issue(this, &this.calls.closer, Self::close_call_ended, |irp| socket.close(irp)),
            None => Some(Outcome::SUCCESS),
        };
        if outcome.is_some() {
            this.tell(super::Machine::closed);
        }
    }

    /// The continuation of the close IRP. IRQL <= DISPATCH_LEVEL; inside WSK.
    unsafe fn close_call_ended(context: *const c_void, _outcome: Outcome) {
        // SAFETY: the continuation of that call.
        let this = unsafe { Self::of_call(context) };
        this.tell(super::Machine::closed);
        Self::run_later(&this);
    }
}
