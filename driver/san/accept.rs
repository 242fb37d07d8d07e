//! Connections that peers make: they arrive at a native listener, say which SAN endpoint they want, and wait in its backlog
//! until somebody takes them out and decides.
#![allow(unsafe_code, reason = "WSK's event callback gets the native listener as a raw pointer")]

use super::calls::{SetupCall, Step};
use super::native::{self, HandshakeUse, NativeListener};
use super::{Endpoint, Machine, NativeAddresses, ports};
use crate::endpoint::AnyEndpoint;
use crate::handle::Handle;
use crate::issuer::Issuer;
use crate::nt::{Outcome, Shared};
use crate::operation::{Kind, Operation, Pending};
use crate::statistics::STATISTICS;
use crate::trace;
use crate::wsk::{SockAddr, Socket};
use core::ptr;
use san_core::san::Offered;
use san_protocol::wire::{ConnectRequest, RejectReason};
use san_protocol::{AcceptReply, Decision, EndpointId, NtStatus};
use wdk_sys::{NTSTATUS, PVOID, STATUS_REQUEST_NOT_ACCEPTED, STATUS_SUCCESS, ULONG};
use wsk_bindings::{PSOCKADDR, PWSK_SOCKET, WSK_CLIENT_CONNECTION_DISPATCH, WSK_CLIENT_LISTEN_DISPATCH};
use zerocopy::IntoBytes;

/// The event callbacks of the native listeners.
pub(super) static NATIVE_DISPATCH: WSK_CLIENT_LISTEN_DISPATCH =
    WSK_CLIENT_LISTEN_DISPATCH { WskAcceptEvent: Some(accept_event), WskInspectEvent: None, WskAbortEvent: None };

/// WskAcceptEvent: a peer has connected to the native port. IRQL <= DISPATCH_LEVEL.
unsafe extern "system" fn accept_event(
    context: PVOID,
    _flags: ULONG,
    local: PSOCKADDR,
    remote: PSOCKADDR,
    accepted: PWSK_SOCKET,
    accepted_context: *mut PVOID,
    accepted_dispatch: *mut *const WSK_CLIENT_CONNECTION_DISPATCH,
) -> NTSTATUS {
    // SAFETY: the socket was made with a listener, which is static, as its context.
    let listener = unsafe { &*context.cast::<NativeListener>() };
    let Some(socket) = Socket::new(accepted) else {
        listener.socket_lost();
        return STATUS_REQUEST_NOT_ACCEPTED;
    };
    // SAFETY: WSK lends both addresses for the time of this call.
    let local = unsafe { SockAddr::copy(local) };
    // SAFETY: as above.
    let remote = unsafe { SockAddr::copy(remote) };
    if !arrived(listener, socket, NativeAddresses { local, remote }) {
        return STATUS_REQUEST_NOT_ACCEPTED;
    }
    // No event callbacks are wanted on connections.
    // SAFETY: out parameters of this callback.
    unsafe { accepted_context.write(ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { accepted_dispatch.write(ptr::null()) };
    STATUS_SUCCESS
}

/// Begins the hand-shake of a connection. If not, WSK closes its socket. IRQL <= DISPATCH_LEVEL.
fn arrived(listener: &NativeListener, socket: Socket, addresses: NativeAddresses) -> bool {
    let Some(handshake) = HandshakeUse::acquire() else {
        trace::refused(&addresses.remote, "too many hand-shakes are under way (MaxHandshakes)");
        return false;
    };
    let place = handshake.id();
    let made = listener
        .provider()
        .and_then(|provider| Endpoint::arriving(provider, listener.family(), handshake, addresses).ok());
    let Some(endpoint) = made else { return false };
    {
        let mut inner = endpoint.inner.lock();
        inner.socket = Some(socket);
        inner.setup = SetupCall::Ended(Step::Arrived, Outcome::SUCCESS);
    }
    if !native::begin_handshake(place, &endpoint) {
        // It stays WSK's.
        endpoint.inner.lock().socket = None;
        return false;
    }
    Endpoint::run_later(&endpoint);
    true
}

impl Endpoint {
    /// Hands out the connection that has waited longest, now or when there is one. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn accept(this: &Shared<Self>, issuer: Issuer) -> Result<(), NtStatus> {
        let id = issuer.handle().reserve_id()?;
        let begun = Operation::begin(issuer, AnyEndpoint::San(this.clone()), Kind::Accept(id));
        let pending = begun.inspect_err(|_| issuer.handle().release_id(id))?;
        let operation = pending.observe();
        match this.tell(|machine| machine.accept(pending)) {
            Ok(Some((connection, accept))) => deliver(&connection, accept),
            Ok(None) if operation.is_cancelled() => {
                // A cancel that came before the accept waited has found nothing to withdraw.
                if let Some(pending) = Self::withdraw(this, operation.operation()) {
                    Self::complete(this, pending, Err(NtStatus::CANCELLED));
                }
            }
            Ok(None) => {}
            Err((pending, status)) => Self::complete(this, pending, Err(status)),
        }
        Self::run(this);
        Ok(())
    }

    /// A peer wants a SAN endpoint: finds it, and has the connection wait there. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn offer(this: &Shared<Self>, request: &ConnectRequest) {
        let listener = match Self::find_listener(this, request) {
            Ok(listener) => listener,
            Err(reason) => return this.tell(|machine| machine.offered(Offered::Rejected(reason))),
        };
        {
            let mut inner = this.inner.lock();
            (inner.local, inner.remote) = (request.target.into(), request.source.into());
            // Before it waits, for it may be taken out at once.
            inner.machine.offered(Offered::Queued);
        }
        match listener.tell(|machine| machine.arrived(this.clone())) {
            Ok(met) => {
                // Who waits in a backlog is counted there.
                this.inner.lock().handshake = None;
                if let Some((connection, accept)) = met {
                    deliver(&connection, accept);
                }
            }
            Err((_, reason)) => this.tell(|machine| machine.offered(Offered::Rejected(reason))),
        }
    }

    /// Who listens at the address that a peer wants, if the peer may say that it is who it says. IRQL <= DISPATCH_LEVEL.
    fn find_listener(this: &Shared<Self>, request: &ConnectRequest) -> Result<Shared<Self>, RejectReason> {
        let native = this.inner.lock().native.ok_or(RejectReason::NoSuchAddress)?;
        let (local, remote) = (native.local.socket_address().ip(), native.remote.socket_address().ip());
        if ports::map_here(request.target.ip()) != Some(local) || !ports::corresponds(request.source.ip(), remote) {
            return Err(RejectReason::NoSuchAddress);
        }
        ports::find(request.target).ok_or(RejectReason::NobodyListens)
    }

    /// The peer of a connection that waits has gone. IRQL <= DISPATCH_LEVEL; in the runner.
    pub(super) fn withdraw_from_backlog(this: &Shared<Self>) {
        let target = this.addresses().0.socket_address();
        let Some(listener) = ports::find(target) else { return };
        // If it is not there any more, somebody has just accepted it.
        if let Some(withdrawn) = listener.tell(|machine| machine.withdraw(|waiting| Shared::is_same(waiting, this))) {
            Self::close(&withdrawn, None);
        }
    }

    /// Accepts or rejects a connection that was taken out of a backlog. IRQL <= DISPATCH_LEVEL.
    ///
    /// `STATUS_CONNECTION_REFUSED` for a rejection: the endpoint is gone, and its id stale.
    pub(crate) fn decide(handle: &Handle, id: EndpointId, decision: Decision) -> Result<(), NtStatus> {
        let AnyEndpoint::San(this) = handle.find(id)? else { return Err(NtStatus::NOT_SUPPORTED) };
        match decision {
            Decision::Accept => {
                this.tell(|machine| machine.decide(true))?;
                STATISTICS.accepted();
                trace::accepted(this.number(), &this.addresses().1);
                Self::run(&this);
                Ok(())
            }
            Decision::Reject => {
                this.tell(|machine| machine.decide(false))?;
                // The peer is told before the socket is closed, which the machine sees to; nobody else needs the endpoint.
                drop(handle.take(id)?);
                Self::run(&this);
                Err(NtStatus::CONNECTION_REFUSED)
            }
        }
    }
}

/// A connection and an accept have met. IRQL <= DISPATCH_LEVEL; no lock is held.
pub(super) fn deliver(connection: &Shared<Endpoint>, accept: Pending) {
    let Kind::Accept(endpoint) = accept.kind() else { return Endpoint::close(connection, None) };
    let (local, remote) = connection.addresses();
    let reply = AcceptReply { endpoint, local: local.protocol(), remote: remote.protocol() };
    connection.tell(Machine::taken);
    let issuer = accept.issuer();
    let filled = issuer
        .reply(reply.as_bytes())
        .and_then(|length| issuer.handle().fill_id(endpoint, AnyEndpoint::San(connection.clone())).map(|()| length));
    match filled {
        Ok(length) => accept.finish(NtStatus::SUCCESS, length),
        Err(status) => {
            accept.give_back();
            accept.finish(status, 0);
            Endpoint::close(connection, None);
        }
    }
}
