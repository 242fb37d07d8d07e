//! The requests for SAN endpoints: each becomes an operation that waits in the machine, and is answered when it comes out.

use super::calls::{Purpose, Step};
use super::{Endpoint, Inner, LockedMemory, Machine, memory, native, ports};
use crate::endpoint::AnyEndpoint;
use crate::issuer::Issuer;
use crate::nt::{EventObject, Shared};
use crate::operation::{Kind, Observer, Operation, Pending};
use crate::parameters;
use crate::statistics::STATISTICS;
use crate::trace;
use core::net::SocketAddr;
use san_core::backlog::Backlog;
use san_core::san::{Reply, Slice};
use san_protocol::{AddressReply, EndpointStatistics, MemoryReply, NegotiateReply, NetworkEventsReply, NtStatus};
use zerocopy::IntoBytes;

/// How an operation is answered that comes out of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// By its status alone.
    Status,
    /// By an [`AddressReply`]; a failure gives the address back.
    Bind,
    /// By its status; opens a backlog for so many connections when the native listener stands.
    Listen(usize),
    /// By a [`NegotiateReply`].
    Negotiate,
    /// By its status; counts these bytes of registered memory out.
    Register(u64),
    /// By the number of bytes, sent from the caller's own memory.
    Send,
    /// By its status; sent from registered memory.
    SendRegistered,
    /// By a [`ReceiveReply`].
    Receive,
}

/// Memory to be registered.
pub(crate) struct Region {
    /// What its owner names it by.
    pub(crate) key: u64,
    pub(crate) memory: LockedMemory,
    /// In bytes; not 0.
    pub(crate) length: u64,
    /// `MEMORY_SEND`, `MEMORY_RECEIVE`.
    pub(crate) rights: u32,
}

/// A piece of registered memory that is to be sent, or received into.
pub(crate) struct Transfer {
    pub(crate) key: u64,
    /// In bytes, as the length.
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// A bind on its way.
pub(super) struct Binding {
    pub(super) pending: Pending,
    local: SocketAddr,
    native: Option<SocketAddr>,
}

type Admitted = Result<(), (Pending, NtStatus)>;

impl Endpoint {
    /// Makes an operation of the request and has the machine admit it, which says what else to do. IRQL <= DISPATCH_LEVEL.
    fn submit(
        this: &Shared<Self>,
        issuer: Issuer,
        answer: Answer,
        admit: impl FnOnce(&mut Machine, Pending) -> Admitted,
    ) -> Result<(), NtStatus> {
        let pending = Operation::begin(issuer, AnyEndpoint::San(this.clone()), Kind::San(answer))?;
        Self::admit(this, pending, admit);
        Ok(())
    }

    /// Has the machine admit an operation. IRQL <= DISPATCH_LEVEL; no lock is held.
    fn admit(this: &Shared<Self>, pending: Pending, admit: impl FnOnce(&mut Machine, Pending) -> Admitted) {
        let operation = pending.observe();
        let admitted = this.tell(|machine| admit(machine, pending));
        Self::admitted(this, &operation, admitted);
    }

    /// Goes on when the machine has admitted an operation, or refused it. IRQL <= DISPATCH_LEVEL; no lock is held.
    fn admitted(this: &Shared<Self>, operation: &Observer, admitted: Admitted) {
        if let Err((pending, status)) = admitted {
            Self::complete(this, pending, Err(status));
        } else if operation.is_cancelled() {
            // A cancel that came before the machine knew the operation has found nothing.
            if let Some(pending) = Self::withdraw(this, operation.operation()) {
                Self::complete(this, pending, Err(NtStatus::CANCELLED));
            }
        }
        Self::run(this);
    }

    /// Binds to a SAN address of this machine, or to the wildcard. The request is completed with an [`AddressReply`].
    /// IRQL <= DISPATCH_LEVEL.
    pub(crate) fn bind(this: &Shared<Self>, issuer: Issuer, address: SocketAddr) -> Result<(), NtStatus> {
        let native = if address.ip().is_unspecified() {
            None
        } else {
            let here = ports::map_here(address.ip()).ok_or(NtStatus::INVALID_ADDRESS_COMPONENT)?;
            Some(SocketAddr::new(here, 0))
        };
        let pending = Operation::begin(issuer, AnyEndpoint::San(this.clone()), Kind::San(Answer::Bind))?;
        let operation = pending.observe();
        let refused = {
            let mut inner = this.inner.lock();
            match inner.machine.check_bind() {
                Ok(()) if inner.bound.is_none() && inner.binding.is_none() => {
                    inner.binding = Some(Binding { pending, local: address, native });
                    None
                }
                Ok(()) => Some((pending, NtStatus::INVALID_PARAMETER)),
                Err(status) => Some((pending, status)),
            }
        };
        match (refused, native) {
            (Some((pending, status)), _) => pending.finish(status, 0),
            (None, _) if operation.is_cancelled() => {
                if let Some(pending) = Self::withdraw(this, operation.operation()) {
                    pending.finish(NtStatus::CANCELLED, 0);
                }
            }
            (None, None) => Self::probed(this, Ok(())),
            // Only WSK knows whether the address is one of this machine's.
            (None, Some(native)) => Self::begin_setup(this, Step::Socket(native.into(), Purpose::Probe)),
        }
        Self::run(this);
        Ok(())
    }

    /// The address is one of this machine's, or it is not: the endpoint is bound to it, or the bind has failed.
    /// IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(super) fn probed(this: &Shared<Self>, probed: Result<(), NtStatus>) {
        // A bind that was cancelled, or an endpoint that was closed, does not need it any more.
        let Some(Binding { pending, local, native }) = this.inner.lock().binding.take() else { return };
        let local = match probed.and_then(|()| ports::reserve(local, this)) {
            Ok(local) => local,
            Err(status) => return pending.finish(status, 0),
        };
        let bound = {
            let mut inner = this.inner.lock();
            let bound = inner.machine.bind(pending, local, native);
            if bound.is_ok() {
                inner.bound = Some(local);
                inner.local = local.into();
            }
            bound
        };
        if let Err((pending, status)) = bound {
            ports::release(local);
            pending.finish(status, 0);
        }
    }

    /// Connects to a SAN address. With `FD_CONNECT` selected the request is completed at once, with `STATUS_CANT_WAIT`, and the
    /// event tells how it ended. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn connect(
        this: &Shared<Self>,
        issuer: Issuer,
        remote: SocketAddr,
        timeout: u32,
    ) -> Result<(), NtStatus> {
        let mapped = ports::map(remote);
        let pending = Operation::begin(issuer, AnyEndpoint::San(this.clone()), Kind::San(Answer::Status))?;
        let operation = pending.observe();
        let admitted = {
            let mut inner = this.inner.lock();
            let admitted = inner.machine.connect(pending, remote, mapped, timeout);
            if admitted.is_ok() {
                inner.remote = remote.into();
                trace::connecting(this.number(), &inner.remote);
            }
            inner.apply_changes();
            admitted
        };
        Self::admitted(this, &operation, admitted);
        Ok(())
    }

    /// Opens a backlog for `limit` connections, when the native listener stands. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn listen(this: &Shared<Self>, issuer: Issuer, limit: usize) -> Result<(), NtStatus> {
        this.tell(|machine| machine.check_listen())?;
        let pending = Operation::begin(issuer, AnyEndpoint::San(this.clone()), Kind::San(Answer::Listen(limit)))?;
        native::listen(this, pending);
        Ok(())
    }

    /// Opens the backlog of an endpoint whose native listener stands, or has failed. IRQL <= DISPATCH_LEVEL.
    pub(super) fn open_backlog(this: &Shared<Self>, pending: Pending, native: Result<(), NtStatus>) {
        let Kind::San(Answer::Listen(limit)) = pending.kind() else {
            return pending.finish(NtStatus::INVALID_PARAMETER, 0);
        };
        let opened = native.and_then(|()| {
            let backlog = Backlog::new(limit).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
            this.tell(|machine| machine.listen(backlog)).map_err(|(status, _)| status)
        });
        pending.finish(opened.err().unwrap_or(NtStatus::SUCCESS), 0);
    }

    /// Exchanges sessions with the peer. The request is completed with a [`NegotiateReply`]. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn negotiate(
        this: &Shared<Self>,
        issuer: Issuer,
        private: &[u8],
        receive_size: u32,
    ) -> Result<(), NtStatus> {
        Self::submit(this, issuer, Answer::Negotiate, |machine, pending| {
            machine.negotiate(pending, private, receive_size)
        })
    }

    /// Registers memory; the operation pends as long as it is registered. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn register(
        this: &Shared<Self>,
        issuer: Issuer,
        Region { key, memory, length, rights }: Region,
    ) -> Result<(), NtStatus> {
        memory::charge(issuer.handle(), length)?;
        let submitted = Self::submit(this, issuer, Answer::Register(length), |machine, pending| {
            machine.register(pending, key, memory, length, rights)
        });
        submitted.inspect_err(|_| memory::release(issuer.handle(), length))
    }

    /// Ends a registration; pends until no operation uses the memory. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn deregister(this: &Shared<Self>, issuer: Issuer, key: u64) -> Result<(), NtStatus> {
        Self::submit(this, issuer, Answer::Status, |machine, pending| machine.deregister(pending, key))
    }

    /// What is registered by this key. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn query_memory(&self, key: u64) -> Result<MemoryReply, NtStatus> {
        self.tell(|machine| machine.query_memory(key))
    }

    /// Sends the caller's own memory as one message. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn send(this: &Shared<Self>, issuer: Issuer, slice: Slice<LockedMemory>) -> Result<(), NtStatus> {
        let piece = if slice.offset == 0 { 0 } else { slice.length };
        Self::submit_send(this, issuer, Answer::Send, piece, |machine, pending| machine.send(pending, slice))
    }

    /// Sends a part of a region as one message. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn send_registered(
        this: &Shared<Self>,
        issuer: Issuer,
        Transfer { key, offset, length }: Transfer,
    ) -> Result<(), NtStatus> {
        Self::submit_send(this, issuer, Answer::SendRegistered, length, |machine, pending| {
            machine.send_registered(pending, key, offset, length)
        })
    }

    /// Submits a send, of which so many bytes are to be described as a piece of longer memory. IRQL <= DISPATCH_LEVEL.
    fn submit_send(
        this: &Shared<Self>,
        issuer: Issuer,
        answer: Answer,
        piece: u32,
        admit: impl FnOnce(&mut Machine, Pending) -> Admitted,
    ) -> Result<(), NtStatus> {
        let mut pending = Operation::begin(issuer, AnyEndpoint::San(this.clone()), Kind::San(answer))?;
        // What is longer than any message is refused below, whatever it names, and gets no memory before.
        let may_be_sent = piece <= parameters::get().message_size;
        if may_be_sent && let Err(status) = pending.arguments().payload.make_room(piece) {
            pending.finish(status, 0);
            return Ok(());
        }
        Self::admit(this, pending, admit);
        Ok(())
    }

    /// Posts a part of a region to receive one message. The request is completed with a [`ReceiveReply`].
    /// IRQL <= DISPATCH_LEVEL.
    pub(crate) fn receive_registered(
        this: &Shared<Self>,
        issuer: Issuer,
        Transfer { key, offset, length }: Transfer,
    ) -> Result<(), NtStatus> {
        Self::submit(this, issuer, Answer::Receive, |machine, pending| {
            machine.receive_registered(pending, key, offset, length)
        })
    }

    /// Posts the caller's own memory to receive one message. Answered by a [`ReceiveReply`]. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn receive(this: &Shared<Self>, issuer: Issuer, slice: Slice<LockedMemory>) -> Result<(), NtStatus> {
        Self::submit(this, issuer, Answer::Receive, |machine, pending| machine.receive(pending, slice))
    }

    /// Ends the connection. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn disconnect(this: &Shared<Self>, issuer: Issuer, abortive: bool) -> Result<(), NtStatus> {
        Self::submit(this, issuer, Answer::Status, |machine, pending| machine.disconnect(pending, abortive))
    }

    /// Selects the network events that `event` is to be set for, or none. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn event_select(this: &Shared<Self>, event: Option<EventObject>, mask: u32) -> Result<(), NtStatus> {
        let before = {
            let mut inner = this.inner.lock();
            inner.machine.event_select(mask)?;
            let before = core::mem::replace(&mut inner.event, event);
            inner.apply_changes();
            before
        };
        drop(before);
        Ok(())
    }

    /// What has happened since the last time; the event is reset. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn enum_network_events(&self) -> NetworkEventsReply {
        let events = self.tell(Machine::enum_network_events);
        NetworkEventsReply {
            events: events.events,
            connect_status: events.connect.0,
            accept_status: events.accept.0,
            reserved: 0,
        }
    }

    /// What the endpoint has done and holds. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn statistics(&self) -> EndpointStatistics {
        self.inner.lock().machine.statistics()
    }

    /// Answers an operation that has come out of the machine. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(super) fn complete(this: &Shared<Self>, pending: Pending, result: Result<Reply, NtStatus>) {
        let issuer = pending.issuer();
        pending.give_back();
        let written = result.and_then(|reply| match (reply, pending.kind()) {
            (Reply::Bound(address), Kind::San(Answer::Bind)) => {
                issuer.reply(AddressReply { address: address.into() }.as_bytes())
            }
            (Reply::Negotiated, _) => {
                let reply = this.inner.lock().negotiated();
                trace::negotiated(this.number(), &reply);
                issuer.reply(reply.as_bytes())
            }
            (Reply::Transferred(length), Kind::San(answer)) => {
                match answer {
                    Answer::Receive => {
                        STATISTICS.messages.received(length as usize);
                        issuer.handle().messages().received(length as usize);
                        trace::received(this.number(), length);
                    }
                    _ => {
                        STATISTICS.messages.sent(length as usize);
                        issuer.handle().messages().sent(length as usize);
                        trace::sent(this.number(), length);
                    }
                }
                issuer.transferred(answer, length)
            }
            (Reply::Nothing | Reply::Bound(_) | Reply::Transferred(_), _) => Ok(0),
        });
        match written {
            Ok(length) => pending.finish(NtStatus::SUCCESS, length),
            Err(status) => pending.finish(status, 0),
        }
    }
}

impl Inner {
    /// What the peer has said of itself.
    fn negotiated(&self) -> NegotiateReply {
        let mut reply =
            NegotiateReply { receive_count: 0, receive_size: 0, private_length: 0, reserved: 0, private: [0; 256] };
        if let Some(offer) = self.machine.peer_offer() {
            reply.receive_count = offer.receive_count;
            reply.receive_size = offer.receive_size;
            reply.private_length = offer.private_length;
            reply.private = offer.private;
        }
        reply
    }
}
