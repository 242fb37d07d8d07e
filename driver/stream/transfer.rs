//! What a connected endpoint does: send, receive, disconnect; and options.

use super::{Endpoint, Role, option_name};
use crate::endpoint::AnyEndpoint;
use crate::issuer::Issuer;
use crate::nt::{Outcome, Shared};
use crate::operation::{Kind, Operation, Pending};
use crate::statistics::{STATISTICS, Traffic};
use core::ptr::NonNull;
use san_core::connection::Connection;
use san_core::listener::Listener;
use san_protocol::{NtStatus, SocketOption};
use wdk_sys::MDL;
use wsk_bindings::WSK_BUF;

/// A piece of the caller's locked memory.
#[derive(Clone, Copy)]
pub(crate) struct LockedBuffer {
    pub(crate) mdl: NonNull<MDL>,
    pub(crate) offset: u32,
    pub(crate) length: usize,
}

impl LockedBuffer {
    fn wsk_buf(self) -> WSK_BUF {
        WSK_BUF { Mdl: self.mdl.as_ptr().cast(), Offset: self.offset, Length: self.length as _ }
    }
}

impl Endpoint {
    /// Sends the buffer, straight from the caller's pages. Sends go out in the order they are made. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn send(this: &Shared<Self>, issuer: Issuer, buffer: LockedBuffer) -> Result<(), NtStatus> {
        let call = Self::call_connection(this, |connection| connection.admit_send())?;
        let mut pending = Operation::begin(issuer, AnyEndpoint::Stream(this.clone()), Kind::Wsk)?;
        pending.arguments().buffer = buffer.wsk_buf();
        let ended = pending.issue(finish_send, |irp, arguments| call.socket.send(&arguments.buffer, irp));
        drop(call);
        if let Some((pending, outcome)) = ended {
            finish_send(pending, outcome);
        }
        Ok(())
    }

    /// Receives into the buffer, straight into the caller's pages; `all`: until it is full. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn receive(
        this: &Shared<Self>,
        issuer: Issuer,
        buffer: LockedBuffer,
        all: bool,
    ) -> Result<(), NtStatus> {
        let call = Self::call_connection(this, |connection| connection.admit_receive())?;
        let mut pending = Operation::begin(issuer, AnyEndpoint::Stream(this.clone()), Kind::Wsk)?;
        pending.arguments().buffer = buffer.wsk_buf();
        let ended = pending.issue(finish_receive, |irp, arguments| call.socket.receive(&arguments.buffer, all, irp));
        drop(call);
        if let Some((pending, outcome)) = ended {
            finish_receive(pending, outcome);
        }
        Ok(())
    }

    /// Whether there is a connection to send on, for a send of nothing. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn check_send(this: &Shared<Self>) -> Result<(), NtStatus> {
        Self::call_connection(this, |connection| connection.admit_send()).map(drop)
    }

    /// Ends this side's sending, or resets the connection. A graceful disconnect may pend as long as the peer does not
    /// acknowledge; an abortive one, a cancel or a close ends it. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn disconnect(this: &Shared<Self>, issuer: Issuer, abortive: bool) -> Result<(), NtStatus> {
        let pending = Operation::begin(issuer, AnyEndpoint::Stream(this.clone()), Kind::Wsk)?;
        // From here on nothing more is sent, so it comes last: a request that was cancelled before has ended nothing.
        match Self::call_connection(this, |connection| connection.begin_disconnect(abortive)) {
            Ok(call) => {
                let ended = pending.issue(finish, |irp, _| call.socket.disconnect(abortive, irp));
                drop(call);
                finish_if_ended(ended);
            }
            Err(status) => pending.finish(status, 0),
        }
        Ok(())
    }

    /// Sets an option: at once if there is a socket, else when there will be one. `Ok(true)`: the request pends.
    /// IRQL <= DISPATCH_LEVEL.
    pub(crate) fn set_option(
        this: &Shared<Self>,
        issuer: Issuer,
        option: SocketOption,
        on: bool,
    ) -> Result<bool, NtStatus> {
        let before_bind_only = match option {
            SocketOption::ExclusiveAddressUse | SocketOption::ReuseAddress => true,
            SocketOption::NoDelay | SocketOption::KeepAlive => false,
        };
        let call = {
            let mut inner = this.inner.lock();
            let idle = match &inner.role {
                Role::Connection(Connection::Idle) | Role::Listener(Listener::Idle) => true,
                Role::Connection(Connection::Binding | Connection::Connecting) | Role::Listener(Listener::Binding) => {
                    return Err(NtStatus::DEVICE_BUSY);
                }
                Role::Connection(
                    Connection::Bound | Connection::Connected(_) | Connection::Broken | Connection::Closing,
                )
                | Role::Listener(Listener::Bound | Listener::Listening(_) | Listener::Broken | Listener::Closing) => {
                    false
                }
            };
            if idle {
                inner.options.set(option, on);
                return Ok(false);
            }
            if before_bind_only {
                return Err(NtStatus::INVALID_PARAMETER);
            }
            inner.call(this)?
        };
        let mut pending = Operation::begin(issuer, AnyEndpoint::Stream(this.clone()), Kind::Wsk)?;
        pending.arguments().value = on.into();
        let ended =
            pending.issue(finish, |irp, arguments| call.socket.set_option(option_name(option), &arguments.value, irp));
        drop(call);
        finish_if_ended(ended);
        Ok(true)
    }
}

fn finish_if_ended(ended: Option<(Pending, Outcome)>) {
    if let Some((pending, outcome)) = ended {
        finish(pending, outcome);
    }
}

/// What WSK refuses a send with behind a graceful disconnect.
const FILE_CLOSED: NtStatus = NtStatus(wdk_sys::STATUS_FILE_CLOSED);

/// A send is over. It is counted before its request is completed: who has seen the end sees the number.
fn finish_send(pending: Pending, mut outcome: Outcome) {
    if outcome.status == FILE_CLOSED {
        // Another thread's disconnect has overtaken it on the way to WSK.
        outcome.status = NtStatus::PIPE_DISCONNECTED;
    }
    if outcome.status.is_success() {
        count(&pending, |traffic| traffic.sent(outcome.information));
    }
    finish(pending, outcome);
}

/// A receive is over; one of nothing says that the peer has ended its side.
fn finish_receive(pending: Pending, outcome: Outcome) {
    if outcome.status.is_success() && outcome.information != 0 {
        count(&pending, |traffic| traffic.received(outcome.information));
    }
    finish(pending, outcome);
}

/// Counts for the operation's endpoint, for its handle, and for all.
fn count(pending: &Pending, count: impl Fn(&Traffic)) {
    match pending.endpoint() {
        AnyEndpoint::Stream(endpoint) => count(&endpoint.traffic),
        AnyEndpoint::San(_) => {}
    }
    count(pending.issuer().handle().streams());
    count(&STATISTICS.streams);
}

/// A single WSK call is over: so is the operation, with what the call came to.
fn finish(pending: Pending, outcome: Outcome) {
    if outcome.status == NtStatus::FILE_FORCED_CLOSED {
        let endpoint = pending.endpoint().clone();
        pending.finish(outcome.status, outcome.information);
        match endpoint {
            AnyEndpoint::Stream(endpoint) => Endpoint::socket_lost(&endpoint),
            AnyEndpoint::San(_) => {}
        }
    } else {
        pending.finish(outcome.status, outcome.information);
    }
}
