//! Listening: WSK asks whom to let in, hands over who has arrived, and requests take them out.
#![allow(unsafe_code, reason = "WSK's event callbacks get the endpoint as a raw pointer")]

use super::{Endpoint, Role, refused};
use crate::endpoint::AnyEndpoint;
use crate::issuer::Issuer;
use crate::nt::Shared;
use crate::operation::{Kind, Operation, Pending};
use crate::statistics::STATISTICS;
use crate::trace;
use crate::wsk::{SockAddr, Socket};
use core::ptr::{self, NonNull};
use san_core::backlog::{Backlog, Verdict};
use san_core::connection::{Connection, Sending};
use san_protocol::{AcceptReply, NtStatus};
use wdk_sys::{NTSTATUS, PVOID, STATUS_REQUEST_NOT_ACCEPTED, STATUS_SUCCESS, ULONG};
use wsk_bindings::{
    PSOCKADDR, PWSK_INSPECT_ID, PWSK_SOCKET, WSK_CLIENT_CONNECTION_DISPATCH, WSK_CLIENT_LISTEN_DISPATCH,
    WSK_INSPECT_ACTION, WskInspectAccept, WskInspectReject,
};
use zerocopy::IntoBytes;

/// The event callbacks of every listening socket.
pub(crate) static LISTEN_DISPATCH: WSK_CLIENT_LISTEN_DISPATCH = WSK_CLIENT_LISTEN_DISPATCH {
    WskAcceptEvent: Some(accept_event),
    WskInspectEvent: Some(inspect_event),
    WskAbortEvent: Some(abort_event),
};

impl Endpoint {
    /// Opens a backlog for `limit` connections. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn listen(this: &Shared<Self>, limit: usize) -> Result<(), NtStatus> {
        let backlog = Backlog::new(limit).map_err(|_| NtStatus::INSUFFICIENT_RESOURCES)?;
        let outcome = match &mut this.inner.lock().role {
            Role::Listener(listener) => listener.listen(backlog),
            Role::Connection(_) => return Err(NtStatus::NOT_SUPPORTED),
        };
        outcome.map_err(|(refusal, _)| refused(refusal))
    }

    /// Hands out the connection that has waited longest, now or when there is one. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn accept(this: &Shared<Self>, issuer: Issuer) -> Result<(), NtStatus> {
        let id = issuer.handle().reserve_id()?;
        let pending = match Operation::begin(issuer, AnyEndpoint::Stream(this.clone()), Kind::Accept(id)) {
            Ok(pending) => pending,
            Err(status) => {
                issuer.handle().release_id(id);
                return Err(status);
            }
        };
        let operation = pending.observe();
        let met = {
            let mut inner = this.inner.lock();
            match &mut inner.role {
                Role::Connection(_) => Err((pending, NtStatus::NOT_SUPPORTED)),
                Role::Listener(listener) => match listener.backlog() {
                    Err(refusal) => Err((pending, refused(refusal))),
                    Ok(backlog) => Ok(backlog.accept(pending)),
                },
            }
        };
        match met {
            Ok(Ok(Some((connection, accept)))) => {
                if let Err(connection) = deliver(connection, accept) {
                    Self::close(&connection, None);
                }
            }
            Ok(Ok(None)) => {
                // A cancel that came before the accept waited has found nothing to withdraw.
                if operation.is_cancelled()
                    && let Some(pending) = this.withdraw_accept(operation.operation())
                {
                    Self::fail_accept(pending, NtStatus::CANCELLED);
                }
            }
            Ok(Err(pending)) => Self::fail_accept(pending, NtStatus::INSUFFICIENT_RESOURCES),
            Err((pending, status)) => Self::fail_accept(pending, status),
        }
        Ok(())
    }

    /// Takes an accept out of the backlog; `None` if it has met a connection already. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn withdraw_accept(&self, operation: NonNull<Operation>) -> Option<Pending> {
        match &mut self.inner.lock().role {
            Role::Listener(listener) => listener.backlog().ok()?.cancel(|accept| accept.owns(operation)),
            Role::Connection(_) => None,
        }
    }

    /// Ends an accept that has got no connection. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(super) fn fail_accept(accept: Pending, status: NtStatus) {
        accept.give_back();
        accept.finish(status, 0);
    }
}

/// A connection and an accept have met. The connection comes back if the handle of the accept is being closed.
/// IRQL <= DISPATCH_LEVEL; no lock is held.
fn deliver(connection: Shared<Endpoint>, accept: Pending) -> Result<(), Shared<Endpoint>> {
    let (local, remote) = connection.addresses();
    let Kind::Accept(endpoint) = accept.kind() else { return Err(connection) };
    let reply = AcceptReply { endpoint, local: local.protocol(), remote: remote.protocol() };
    let issuer = accept.issuer();
    let written = issuer.reply(reply.as_bytes());
    match written
        .and_then(|length| issuer.handle().fill_id(endpoint, AnyEndpoint::Stream(connection.clone())).map(|()| length))
    {
        Ok(length) => {
            STATISTICS.stream_accepted();
            trace::accepted(connection.number(), &remote);
            accept.finish(NtStatus::SUCCESS, length);
            Ok(())
        }
        Err(status) => {
            Endpoint::fail_accept(accept, status);
            Err(connection)
        }
    }
}

/// The listening endpoint behind a callback's context.
///
/// # Safety
///
/// `context` is what the listening socket was made with.
unsafe fn listener(context: PVOID) -> Shared<Endpoint> {
    // SAFETY: the socket has a reference to its endpoint until it is closed, and WSK calls nobody back after that.
    unsafe { Shared::from_context(context.cast::<Endpoint>()) }
}

/// WskInspectEvent: a peer asks to connect. IRQL <= DISPATCH_LEVEL.
unsafe extern "system" fn inspect_event(
    context: PVOID,
    _local: PSOCKADDR,
    remote: PSOCKADDR,
    id: PWSK_INSPECT_ID,
) -> WSK_INSPECT_ACTION {
    // SAFETY: a callback of a listening socket.
    let listener = unsafe { listener(context) };
    if id.is_null() {
        Endpoint::socket_lost(&listener);
        return WskInspectReject;
    }
    let verdict = match &mut listener.inner.lock().role {
        Role::Listener(state) => state.inspect(),
        Role::Connection(_) => Verdict::Reject,
    };
    match verdict {
        Verdict::Accept => WskInspectAccept,
        Verdict::Reject => {
            STATISTICS.stream_refused();
            // SAFETY: WSK lends the address for the time of this call.
            trace::refused(&unsafe { SockAddr::copy(remote) }, "the listener's backlog is full, or it is being closed");
            WskInspectReject
        }
    }
}

/// WskAbortEvent: a peer that was let in has gone before it arrived. IRQL <= DISPATCH_LEVEL.
unsafe extern "system" fn abort_event(context: PVOID, _id: PWSK_INSPECT_ID) -> NTSTATUS {
    // SAFETY: a callback of a listening socket.
    unsafe { listener(context) }.peer_gone();
    STATUS_SUCCESS
}

/// WskAcceptEvent: a peer that was let in is connected. IRQL <= DISPATCH_LEVEL.
unsafe extern "system" fn accept_event(
    context: PVOID,
    _flags: ULONG,
    local: PSOCKADDR,
    remote: PSOCKADDR,
    accepted: PWSK_SOCKET,
    accepted_context: *mut PVOID,
    accepted_dispatch: *mut *const WSK_CLIENT_CONNECTION_DISPATCH,
) -> NTSTATUS {
    // SAFETY: a callback of a listening socket.
    let listener = unsafe { listener(context) };
    let Some(socket) = Socket::new(accepted) else {
        Endpoint::socket_lost(&listener);
        return STATUS_REQUEST_NOT_ACCEPTED;
    };
    // SAFETY: WSK lends both addresses for the time of this call.
    let local = unsafe { SockAddr::copy(local) };
    // SAFETY: as above.
    let remote = unsafe { SockAddr::copy(remote) };
    if !listener.arrived(socket, local, remote) {
        return STATUS_REQUEST_NOT_ACCEPTED;
    }
    // No event callbacks are wanted on connections.
    // SAFETY: out parameters of this callback.
    unsafe { accepted_context.write(ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { accepted_dispatch.write(ptr::null()) };
    STATUS_SUCCESS
}

impl Endpoint {
    fn peer_gone(&self) {
        if let Role::Listener(listener) = &mut self.inner.lock().role
            && let Ok(backlog) = listener.backlog()
        {
            backlog.aborted();
        }
    }

    /// Makes an endpoint of an arrived connection, and hands it to an accept or lets it wait. If not, WSK closes the socket.
    fn arrived(&self, socket: Socket, local: SockAddr, remote: SockAddr) -> bool {
        let provider = self.provider.another();
        let role = Role::Connection(Connection::Connected(Sending::Open));
        let made =
            provider.and_then(|provider| Self::with_role(provider, role, self.family, self.process.clone()).ok());
        let Some(connection) = made else {
            self.peer_gone();
            return false;
        };
        {
            let mut inner = connection.inner.lock();
            (inner.socket, inner.local, inner.remote) = (Some(socket), local, remote);
        }
        // The socket's reference, until `Endpoint::closed`.
        let socket_reference = Shared::into_raw(connection.clone());
        let outcome = match &mut self.inner.lock().role {
            Role::Listener(listener) => match listener.backlog() {
                Ok(backlog) => backlog.arrived(connection),
                Err(_) => Err(connection),
            },
            Role::Connection(_) => Err(connection),
        };
        let refused = match outcome {
            Ok(None) => Ok(()),
            Ok(Some((connection, accept))) => deliver(connection, accept),
            Err(connection) => Err(connection),
        };
        match refused {
            Ok(()) => true,
            Err(connection) => {
                connection.inner.lock().socket = None;
                // SAFETY: counted above; the socket stays WSK's.
                drop(unsafe { Shared::from_raw(socket_reference) });
                false
            }
        }
    }
}
