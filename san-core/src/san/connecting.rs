//! Bind and connect: the side that asks.

use super::socket::{Socket, Timer};
use super::{Action, Connect, Endpoint, IllegalTransition, Incident, Reply, State};
use crate::address_map::{Mapped, is_nobodys};
use crate::connect_failure::ConnectFailure;
use core::net::SocketAddr;
use san_protocol::wire::{ConnectRequest, ControlMessage, Header, MessageType, RejectReason};
use san_protocol::{FD_CONNECT, NtStatus};

impl<C, W, M: Copy> Endpoint<C, W, M> {
    /// Whether it may be bound.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: bound already (WSPBind: WSAEINVAL).
    pub fn check_bind(&self) -> Result<(), NtStatus> {
        self.state.may_become(State::Bound).map_err(IllegalTransition::status)
    }

    /// Binds to a SAN address and port, which the caller has reserved; `native` is the address behind it, `None` for the
    /// wildcard, which can only listen. `waiter` completes with [`Reply::Bound`].
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_PARAMETER`: bound already (WSPBind: WSAEINVAL).
    pub fn bind(&mut self, waiter: W, local: SocketAddr, native: Option<SocketAddr>) -> Result<(), (W, NtStatus)> {
        if let Err(status) = self.check_bind() {
            return Err((waiter, status));
        }
        let waiter = self.admit(waiter)?;
        (self.state, self.local, self.native) = (State::Bound, Some(local), native);
        self.complete(waiter, Ok(Reply::Bound(local)));
        Ok(())
    }

    /// Connects to a SAN address, found at `mapped`; `timeout` in milliseconds, 0 for [`Limits::connect_timeout`]. `waiter`
    /// completes with the result, or, if `FD_CONNECT` is selected, with `STATUS_CANT_WAIT` at once. A connect that fails
    /// ends the endpoint.
    ///
    /// [`Limits::connect_timeout`]: super::Limits::connect_timeout
    ///
    /// # Errors
    ///
    /// - `STATUS_INVALID_PARAMETER`: not bound, listening, or another address family than it is bound to.
    /// - `STATUS_INVALID_ADDRESS_COMPONENT`: bound to the wildcard, or no address that somebody could have (WSAEADDRNOTAVAIL).
    /// - `STATUS_NETWORK_UNREACHABLE`: no route leads there. The endpoint stays bound.
    /// - `STATUS_DEVICE_BUSY`, `STATUS_CONNECTION_ACTIVE`: it is connecting, or connected.
    pub fn connect(
        &mut self,
        waiter: W,
        remote: SocketAddr,
        mapped: Option<Mapped>,
        timeout: u32,
    ) -> Result<(), (W, NtStatus)> {
        let (native, mapped) = match self.check_connect(remote, mapped) {
            Ok(found) => found,
            Err(status) => return Err((waiter, status)),
        };
        let waiter = self.admit(waiter)?;
        let timeout = if timeout == 0 { self.limits.connect_timeout } else { timeout };
        self.state = State::Connecting;
        self.remote = Some(remote);
        self.timer = Timer::StartDue(timeout);
        self.socket = Socket::OpenDue { local: native, remote: mapped.native };
        let waiter = if self.events.is_selected(FD_CONNECT) {
            self.complete(waiter, Err(NtStatus::CANT_WAIT));
            None
        } else {
            Some(waiter)
        };
        self.connect = Some(Connect { waiter, reach: mapped.reach, is_requested: false });
        Ok(())
    }

    fn check_connect(&self, remote: SocketAddr, mapped: Option<Mapped>) -> Result<(SocketAddr, Mapped), NtStatus> {
        self.state.may_become(State::Connecting).map_err(IllegalTransition::status)?;
        let native = self.native.ok_or(NtStatus::INVALID_ADDRESS_COMPONENT)?;
        if self.local.is_none_or(|local| local.is_ipv4() != remote.is_ipv4()) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        if remote.port() == 0 || is_nobodys(remote.ip()) {
            return Err(NtStatus::INVALID_ADDRESS_COMPONENT);
        }
        let mapped = mapped.ok_or(NtStatus::NETWORK_UNREACHABLE)?;
        Ok((native, mapped))
    }

    /// Answer to [`Action::Open`]. An error says that there is no socket.
    pub fn opened(&mut self, result: Result<(), NtStatus>) {
        self.answered();
        match (self.socket, result) {
            (Socket::Opening { remote }, Ok(())) => self.socket = Socket::ConnectDue { remote },
            (Socket::OpeningInVain, Ok(())) => self.socket = Socket::CloseDue,
            (Socket::Opening { .. }, Err(status)) => {
                self.socket = Socket::Closed;
                self.connect_failed(ConnectFailure::of_native(status));
            }
            (Socket::OpeningInVain, Err(_)) => self.socket = Socket::Closed,
            // Nothing was being opened.
            (_, Ok(()) | Err(_)) => {}
        }
        self.settle();
    }

    /// Answer to [`Action::Connect`].
    pub fn connected(&mut self, result: Result<(), NtStatus>) {
        self.answered();
        match (self.socket, result) {
            (Socket::Connecting, Ok(())) => self.socket = Socket::Open,
            (Socket::Connecting, Err(status)) => self.connect_failed(ConnectFailure::of_native(status)),
            // It is being closed.
            (_, Ok(()) | Err(_)) => {}
        }
        self.settle();
    }

    pub(super) fn next_request(&mut self) -> Option<Action<W, M>> {
        let connect = self.connect.as_mut().filter(|connect| !connect.is_requested)?;
        connect.is_requested = true;
        let (source, target) = self.local.zip(self.remote)?;
        let message = ControlMessage::connect_request(&ConnectRequest { source, target });
        Some(self.send_control(MessageType::ConnectRequest, &message))
    }

    pub(super) fn answer_header(&mut self, header: Header) {
        match header.message {
            MessageType::Accept => self.connect_succeeded(),
            MessageType::Reject => self.incoming.expect_control(header),
            MessageType::ConnectRequest
            | MessageType::Session
            | MessageType::Data
            | MessageType::Credit
            | MessageType::Goodbye => self.violated(),
        }
    }

    pub(super) fn answer_control(&mut self, payload: &[u8]) {
        match RejectReason::parse(payload) {
            Ok(reason) => self.connect_failed(reason.into()),
            Err(_) => self.violated(),
        }
    }

    fn connect_succeeded(&mut self) {
        self.state = State::Connected;
        self.timer.stop();
        self.incidents.handshake = Some(Incident::Connected);
        if let Some(waiter) = self.connect.take().and_then(|connect| connect.waiter) {
            self.complete(waiter, Ok(Reply::Nothing));
        }
        self.events.connect_ended(NtStatus::SUCCESS);
    }

    pub(super) fn connect_failed(&mut self, failure: ConnectFailure) {
        let Some(connect) = self.connect.take() else { return };
        let status = failure.status(connect.reach);
        self.incidents.handshake = Some(Incident::ConnectFailed(failure, status));
        if let Some(waiter) = connect.waiter {
            self.complete(waiter, Err(status));
        }
        self.events.connect_ended(status);
        self.end(State::Ended(status), status);
    }

    /// The connect's request is cancelled: it ends at once.
    pub(super) fn cancel_connect(&mut self, is_it: impl Fn(&W) -> bool) -> Option<W> {
        let waiter = self.connect.as_mut()?.waiter.take_if(|waiter| is_it(waiter))?;
        self.connect_failed(ConnectFailure::Cancelled);
        Some(waiter)
    }
}
