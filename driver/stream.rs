//! Stream endpoints: a WSK socket, the state that says what may be done with it, and one way to end it.
#![allow(unsafe_code, reason = "the WSK socket keeps a reference to its endpoint as a raw pointer")]

mod listen;
mod setup;
mod teardown;
mod transfer;

use crate::endpoint::Closing;
use crate::nt::{Process, Shared, SpinLock, WskIrp};
use crate::operation::Pending;
use crate::statistics::{Existence, Traffic};
use crate::wsk::{OptionName, ProviderUse, SockAddr, Socket};
use san_core::Refusal;
use san_core::connection::Connection;
use san_core::listener::Listener;
use san_protocol::{EndpointEntry, EndpointKind, NtStatus, SocketOption};
use wsk_bindings::ADDRESS_FAMILY;

pub(crate) use listen::LISTEN_DISPATCH;
pub(crate) use setup::{Setup, resume as resume_setup};
use teardown::{SetupUnderWay, Teardown};
pub(crate) use transfer::LockedBuffer;

/// Pool tag of endpoints.
const TAG: [u8; 4] = *b"SanE";

/// What an endpoint is, and where it is in its life.
pub(crate) enum Role {
    Connection(Connection),
    Listener(Listener<Shared<Endpoint>, Pending>),
}

/// Options that were set before there was a socket to set them on.
#[derive(Clone, Copy, Default)]
struct Options([Option<bool>; 4]);

/// What the lock of an endpoint protects. No call that may complete a request is made while it is held.
struct Inner {
    role: Role,
    socket: Option<Socket>,
    /// Calls of the socket's functions that have not returned: it is not closed meanwhile.
    calls: u32,
    setup: Option<SetupUnderWay>,
    options: Options,
    local: SockAddr,
    remote: SockAddr,
    teardown: Teardown,
}

/// An endpoint. Whoever may still use it has a reference: the id table, every operation, and the WSK socket itself.
/// With the last one it is gone, and whoever waits for that is told.
pub(crate) struct Endpoint {
    family: ADDRESS_FAMILY,
    process: Option<Process>,
    inner: SpinLock<Inner>,
    /// Closes the socket; an endpoint has one at a time.
    closer: WskIrp,
    traffic: Traffic,
    provider: ProviderUse,
    existence: Existence,
    /// The last field: dropped when everything else of the endpoint is gone.
    closing: Closing,
}

// SAFETY: `closing` is set once, by the one caller that has taken the endpoint out of the id table, and read when the
// last reference has gone; everything else synchronizes itself.
unsafe impl Sync for Endpoint {}
// SAFETY: nothing in it has a tie to a thread.
unsafe impl Send for Endpoint {}

/// A call of one of the socket's functions: the socket stays open until this is dropped.
pub(crate) struct SocketCall {
    endpoint: Shared<Endpoint>,
    socket: Socket,
}

impl Endpoint {
    /// A new connection without a socket. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn connection(
        provider: ProviderUse,
        family: ADDRESS_FAMILY,
        process: Option<Process>,
    ) -> Result<Shared<Self>, NtStatus> {
        Self::with_role(provider, Role::Connection(Connection::Idle), family, process)
    }

    /// A new listener without a socket. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn listener(
        provider: ProviderUse,
        family: ADDRESS_FAMILY,
        process: Option<Process>,
    ) -> Result<Shared<Self>, NtStatus> {
        Self::with_role(provider, Role::Listener(Listener::Idle), family, process)
    }

    fn with_role(
        provider: ProviderUse,
        role: Role,
        family: ADDRESS_FAMILY,
        process: Option<Process>,
    ) -> Result<Shared<Self>, NtStatus> {
        let existence = Existence::of(match role {
            Role::Connection(_) => EndpointKind::StreamConnection,
            Role::Listener(_) => EndpointKind::StreamListener,
        });
        let inner = Inner {
            role,
            socket: None,
            calls: 0,
            setup: None,
            options: Options::default(),
            local: SockAddr::NONE,
            remote: SockAddr::NONE,
            teardown: Teardown::None,
        };
        let endpoint = Self {
            family,
            process,
            inner: SpinLock::new(inner),
            closer: WskIrp::new(),
            traffic: Traffic::new(),
            provider,
            existence,
            closing: Closing::new(),
        };
        Shared::try_new(TAG, endpoint)
    }

    /// What the trace calls it.
    pub(crate) fn number(&self) -> u64 {
        self.existence.number()
    }

    pub(crate) fn family(&self) -> ADDRESS_FAMILY {
        self.family
    }

    /// Local and remote address, zeros where there is none. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn addresses(&self) -> (SockAddr, SockAddr) {
        let inner = self.inner.lock();
        (inner.local, inner.remote)
    }

    /// The endpoint as it is now; id and process are the caller's to say. IRQL <= DISPATCH_LEVEL.
    pub(crate) fn entry(&self) -> EndpointEntry {
        let inner = self.inner.lock();
        let [messages_sent, bytes_sent, messages_received, bytes_received] = self.traffic.numbers();
        let (kind, state, backlog) = match &inner.role {
            Role::Connection(connection) => (EndpointKind::StreamConnection, connection.endpoint_state(), None),
            Role::Listener(listener) => {
                let backlog = match listener {
                    Listener::Listening(backlog) => Some((backlog.waiting(), backlog.limit())),
                    Listener::Idle | Listener::Binding | Listener::Bound | Listener::Broken | Listener::Closing => None,
                };
                (EndpointKind::StreamListener, listener.endpoint_state(), backlog)
            }
        };
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let (backlog, backlog_limit) = backlog.unwrap_or((0, 0));
        EndpointEntry {
            endpoint: 0,
            process: 0,
            messages_sent,
            bytes_sent,
            messages_received,
            bytes_received,
            local: inner.local.protocol(),
            remote: inner.remote.protocol(),
            kind: kind as u32,
            state: state as u32,
            backlog: count(backlog),
            backlog_limit: count(backlog_limit),
            sends_queued: 0,
            receives_posted: 0,
            send_credits: 0,
            regions: 0,
            pinned_bytes: 0,
        }
    }

    /// Starts a call on the socket of a connection, if `admit` lets it. IRQL <= DISPATCH_LEVEL.
    fn call_connection(
        this: &Shared<Self>,
        admit: impl FnOnce(&mut Connection) -> Result<(), Refusal>,
    ) -> Result<SocketCall, NtStatus> {
        let mut inner = this.inner.lock();
        match &mut inner.role {
            Role::Connection(connection) => admit(connection).map_err(refused)?,
            Role::Listener(_) => return Err(NtStatus::NOT_SUPPORTED),
        }
        inner.call(this)
    }
}

impl Inner {
    /// Starts a call on the socket.
    fn call(&mut self, endpoint: &Shared<Endpoint>) -> Result<SocketCall, NtStatus> {
        match (self.teardown, self.socket) {
            (Teardown::None, Some(socket)) => {
                self.calls += 1;
                Ok(SocketCall { endpoint: endpoint.clone(), socket })
            }
            (Teardown::None, None) => Err(NtStatus::INVALID_CONNECTION),
            (Teardown::Wanted | Teardown::Begun, _) => Err(NtStatus::FILE_FORCED_CLOSED),
        }
    }
}

impl Drop for SocketCall {
    fn drop(&mut self) {
        self.endpoint.inner.lock().calls -= 1;
        Endpoint::proceed_with_teardown(&self.endpoint);
    }
}

impl Options {
    const ALL: [SocketOption; 4] =
        [SocketOption::NoDelay, SocketOption::KeepAlive, SocketOption::ExclusiveAddressUse, SocketOption::ReuseAddress];

    fn set(&mut self, option: SocketOption, on: bool) {
        for (own, value) in Self::ALL.iter().zip(&mut self.0) {
            if *own == option {
                *value = Some(on);
            }
        }
    }

    /// The first option that is set at or behind `position`, and the position behind it.
    fn next_from(self, position: usize) -> Option<(OptionName, bool, usize)> {
        let mut rest = Self::ALL.into_iter().zip(self.0).enumerate().skip(position);
        rest.find_map(|(at, (option, value))| value.map(|on| (option_name(option), on, at + 1)))
    }
}

fn option_name(option: SocketOption) -> OptionName {
    match option {
        SocketOption::NoDelay => OptionName::NoDelay,
        SocketOption::KeepAlive => OptionName::KeepAlive,
        SocketOption::ExclusiveAddressUse => OptionName::ExclusiveAddressUse,
        SocketOption::ReuseAddress => OptionName::ReuseAddress,
    }
}

/// The status that tells a caller why an operation was not admitted.
pub(crate) fn refused(refusal: Refusal) -> NtStatus {
    match refusal {
        Refusal::NotBound | Refusal::AlreadyBound => NtStatus::INVALID_PARAMETER,
        Refusal::NotConnected => NtStatus::INVALID_CONNECTION,
        Refusal::AlreadyActive => NtStatus::CONNECTION_ACTIVE,
        Refusal::SetupUnderWay => NtStatus::DEVICE_BUSY,
        Refusal::SendingEnded => NtStatus::PIPE_DISCONNECTED,
        Refusal::Aborted => NtStatus::CONNECTION_ABORTED,
        Refusal::Broken => NtStatus::FILE_FORCED_CLOSED,
        Refusal::Closing => NtStatus::INVALID_HANDLE,
    }
}
