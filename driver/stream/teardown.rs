//! The one way an endpoint ends: for a close request, the cleanup of its handle, and a socket that WSK has given up.
//!
//! First nothing new is admitted and what waits is cancelled. When the last call on the socket has returned and no setup is
//! under way, the socket is closed, which cancels its IRPs. As they are completed their operations let go of the endpoint.
#![allow(unsafe_code, reason = "gives the socket's reference to the endpoint through the close IRP")]

use super::{Endpoint, Inner, Role};
use crate::endpoint::CloseWaiter;
use crate::nt::{Outcome, Round, Shared};
use crate::operation::{Observer, Pending};
use core::ffi::c_void;
use san_core::backlog::Backlog;
use san_core::connection::Connection;
use san_core::listener::Ended;
use san_protocol::NtStatus;

/// How far the end of the socket has come.
#[derive(Clone, Copy)]
pub(super) enum Teardown {
    /// Not wanted.
    None,
    /// Wanted, as soon as nothing is in the way.
    Wanted,
    /// Begun.
    Begun,
}

/// The bind or connect that is under way.
pub(super) struct SetupUnderWay(Option<Observer>);

impl SetupUnderWay {
    pub(super) fn new(operation: &Pending) -> Self {
        Self(Some(operation.observe()))
    }
}

/// What was waiting in an endpoint that ends.
struct Waiting {
    backlog: Option<Backlog<Shared<Endpoint>, Pending>>,
    setup: Option<Observer>,
}

impl Endpoint {
    /// Closes the endpoint; `waiter` is told when nothing of it is left. The caller has taken it out of the id table.
    ///
    /// IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(crate) fn close(this: &Shared<Self>, waiter: Option<CloseWaiter>) {
        this.closing.set(waiter);
        Self::end(this, Ended::Closing);
    }

    /// Ends the socket after WSK has said that it is no longer functional. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(super) fn socket_lost(this: &Shared<Self>) {
        Self::end(this, Ended::Broken);
    }

    fn end(this: &Shared<Self>, how: Ended) {
        let waiting = this.inner.lock().end(how);
        if let Some(setup) = waiting.setup {
            setup.cancel();
        }
        if let Some(mut backlog) = waiting.backlog {
            while let Some(accept) = backlog.next_accepting() {
                Self::fail_accept(accept, NtStatus::CANCELLED);
            }
            while let Some(connection) = backlog.next_waiting() {
                Self::close(&connection, None);
            }
        }
        Self::proceed_with_teardown(this);
    }

    /// Closes the socket if that is wanted and nothing is in the way. IRQL <= DISPATCH_LEVEL; no lock is held.
    pub(super) fn proceed_with_teardown(this: &Shared<Self>) {
        let socket = {
            let mut inner = this.inner.lock();
            match inner.teardown {
                Teardown::Wanted if inner.calls == 0 && inner.setup.is_none() => {}
                Teardown::None | Teardown::Wanted | Teardown::Begun => return,
            }
            inner.teardown = Teardown::Begun;
            inner.socket.take()
        };
        let Some(socket) = socket else { return };
        let context = Shared::as_ptr(this).cast();
        // SAFETY: teardown begins once, and setup, the other user of the closer, is over. The socket's own reference, which
        // `closed` takes back, keeps the endpoint until then.
        match unsafe { this.closer.issue(Self::closed, context, |irp| socket.close(irp)) } {
            // SAFETY: the round has ended here instead.
            Round::Ended(outcome) => unsafe { Self::closed(context, outcome) },
            Round::Pending => {}
        }
    }

    /// The socket is closed: its reference to the endpoint goes.
    ///
    /// # Safety
    ///
    /// `context` is the endpoint whose socket that was.
    pub(super) unsafe fn closed(context: *const c_void, _outcome: Outcome) {
        // SAFETY: given away when the socket was opened, taken back once, now that it is gone.
        drop(unsafe { Shared::from_raw(context.cast::<Self>()) });
    }
}

impl Inner {
    fn end(&mut self, how: Ended) -> Waiting {
        let backlog = match &mut self.role {
            Role::Connection(connection) => {
                match how {
                    Ended::Broken => connection.broken(),
                    Ended::Closing => *connection = Connection::Closing,
                }
                None
            }
            Role::Listener(listener) => listener.end(how),
        };
        match self.teardown {
            Teardown::None => self.teardown = Teardown::Wanted,
            Teardown::Wanted | Teardown::Begun => {}
        }
        let setup = self.setup.as_mut().and_then(|setup| setup.0.take());
        Waiting { backlog, setup }
    }
}
