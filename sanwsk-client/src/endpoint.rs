//! Endpoints of any kind.
#![allow(unsafe_code, reason = "calls the functions of the interface")]

use crate::buffer::{Buffer, BufferRange};
use crate::operation::{Arguments, Core, Ended, Held, Operating, Slot};
use crate::shared::Shared;
use core::marker::PhantomData;
use core::net::SocketAddr;
use core::time::Duration;
use san_protocol::kernel::Interface;
use san_protocol::{
    AcceptReply, AddressReply, AddressesReply, DISCONNECT_ABORTIVE, EndpointId, EndpointKind, NtStatus, SocketAddress,
};

/// Kinds of endpoints.
pub trait Kind: Send + Sync + 'static {
    /// Its number.
    const KIND: EndpointKind;
}

/// Kinds of endpoints that connect.
pub trait Connects: Kind {}

/// Kinds of endpoints that listen.
pub trait Listens: Kind {
    /// What comes of a connection that is taken out of a backlog.
    type Arrival: From<Endpoint<Self::Connection>>;
    /// The kind of endpoint that it is.
    type Connection: Kind;
}

/// Address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Family {
    /// `AF_INET`.
    Inet = 2,
    /// `AF_INET6`.
    Inet6 = 23,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::Inet,
            SocketAddr::V6(_) => Self::Inet6,
        }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// After everything that was sent: the peer receives it, and then the end.
    Graceful,
    /// By a reset.
    Abortive,
}

/// An endpoint's addresses; none where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Its own.
    pub local: Option<SocketAddr>,
    /// Its peer's.
    pub remote: Option<SocketAddr>,
}

/// A connection that came out of a backlog.
pub struct Accepted<T> {
    /// The connection.
    pub connection: T,
    /// Its addresses.
    pub addresses: Addresses,
}

/// An endpoint. Dropped, it is closed, and what is under way for it is cancelled.
pub struct Endpoint<K: Kind> {
    core: Shared<Core>,
    id: EndpointId,
    /// For its end; taken then.
    closer: Option<Slot>,
    kind: PhantomData<K>,
}

/// Closes an endpoint; it ends by itself, and refuses only where it is closed already. IRQL <= DISPATCH_LEVEL.
pub(crate) fn close_detached(core: &Shared<Core>, closer: Slot, id: EndpointId) {
    let _ = closer.begin(core, Held::Nothing, |arguments| close(arguments, id));
}

fn close(arguments: Arguments<'_>, id: EndpointId) -> NtStatus {
    // SAFETY: the slot's operation.
    unsafe { (arguments.table.close)(arguments.client, arguments.operation, id) }
}

/// What has been moved, and the buffer.
fn moved(ended: Ended) -> (Result<u32, NtStatus>, Buffer) {
    let length = ended.length();
    match ended.held() {
        Held::Buffer(buffer) => (length, buffer),
        Held::Nothing | Held::Closer(_) => unreachable!("a slot gives back what it was given"),
    }
}

impl<K: Kind> Drop for Endpoint<K> {
    fn drop(&mut self) {
        if let Some(closer) = self.closer.take() {
            close_detached(&self.core, closer, self.id);
        }
    }
}

impl<K: Kind> Endpoint<K> {
    pub(crate) fn new(core: &Shared<Core>, closer: Slot, id: EndpointId) -> Self {
        Self { core: core.clone(), id, closer: Some(closer), kind: PhantomData }
    }

    pub(crate) fn id(&self) -> EndpointId {
        self.id
    }

    pub(crate) fn core(&self) -> &Shared<Core> {
        &self.core
    }

    /// The future of an operation of this endpoint.
    pub(crate) fn operate<C>(&self, held: Held, call: C) -> Operating<'_, C>
    where
        C: FnOnce(Arguments<'_>) -> NtStatus,
    {
        Operating::new(&self.core, held, call)
    }

    /// Asks for something that takes no time.
    pub(crate) fn query<T>(&self, empty: T, ask: impl FnOnce(&Interface, *mut T) -> NtStatus) -> Result<T, NtStatus> {
        let mut reply = empty;
        let status = ask(self.core.interface.table(), &raw mut reply);
        if status.is_success() { Ok(reply) } else { Err(status) }
    }

    /// Binds to a local address; port 0 has one chosen. The address that it is bound to.
    ///
    /// # Errors
    ///
    /// As of the request [`Bind`](san_protocol::ControlCode::Bind).
    pub async fn bind(&self, local: SocketAddr) -> Result<SocketAddr, NtStatus> {
        let (id, address) = (self.id, SocketAddress::from(local));
        let bind = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation and reply; the address is read before this returns.
            unsafe {
                (arguments.table.bind)(
                    arguments.client,
                    arguments.operation,
                    id,
                    &raw const address,
                    arguments.reply::<AddressReply>(),
                )
            }
        };
        let bound = self.operate(Held::Nothing, bind).await.reply::<AddressReply>()?;
        bound.address.parse().map_err(|_| NtStatus::INVALID_ADDRESS_COMPONENT)
    }

    /// Its addresses.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_HANDLE`: its client is closed.
    pub fn addresses(&self) -> Result<Addresses, NtStatus> {
        let nothing = AddressesReply { local: SocketAddress::NONE, remote: SocketAddress::NONE };
        let AddressesReply { local, remote } = self.query(nothing, |table, reply| {
            // SAFETY: room for the reply.
            unsafe { (table.query_addresses)(self.core.id, self.id, reply) }
        })?;
        Ok(Addresses { local: local.parse().ok(), remote: remote.parse().ok() })
    }

    /// Closes it, and is ready when everything of it is over.
    pub async fn close(mut self) {
        let Some(closer) = self.closer.take() else { return };
        let id = self.id;
        if let Ok(under_way) = closer.begin(&self.core, Held::Nothing, |arguments| close(arguments, id)) {
            Operating::begun(&self.core, under_way).await;
        }
    }
}

impl<K: Connects> Endpoint<K> {
    /// Connects within a time; none: as long as TCP tries.
    ///
    /// # Errors
    ///
    /// As of the request [`Connect`](san_protocol::ControlCode::Connect).
    pub async fn connect(&self, remote: SocketAddr, timeout: Option<Duration>) -> Result<(), NtStatus> {
        // 0 stands for none.
        let milliseconds = timeout.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1));
        let (id, address) = (self.id, SocketAddress::from(remote));
        let connect = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation; the address is read before this returns.
            unsafe {
                (arguments.table.connect)(arguments.client, arguments.operation, id, &raw const address, milliseconds)
            }
        };
        self.operate(Held::Nothing, connect).await.result()
    }

    /// Sends a part of a buffer, as one message on a SAN endpoint: the bytes that were sent, and the buffer.
    ///
    /// # Errors
    ///
    /// `STATUS_ACCESS_VIOLATION`: the part is not in the buffer. Else as of the request [`Send`](san_protocol::ControlCode::Send).
    pub async fn send(&self, buffer: Buffer, part: BufferRange) -> (Result<u32, NtStatus>, Buffer) {
        let (id, offset, length) = (self.id, part.start, part.end.saturating_sub(part.start));
        let send = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation, and the MDL of the buffer that it holds.
            unsafe { (arguments.table.send)(arguments.client, arguments.operation, id, arguments.mdl, offset, length) }
        };
        moved(self.operate(Held::Buffer(buffer), send).await)
    }

    /// Receives into a part of a buffer, what a stream has or one message: its bytes, and the buffer. A stream that brings 0 has been
    /// ended by the peer.
    ///
    /// # Errors
    ///
    /// `STATUS_ACCESS_VIOLATION`: the part is not in the buffer. Else as of the requests
    /// [`Receive`](san_protocol::ControlCode::Receive) and [`ReceiveRegistered`](san_protocol::ControlCode::ReceiveRegistered).
    pub async fn receive(&self, buffer: Buffer, part: BufferRange) -> (Result<u32, NtStatus>, Buffer) {
        self.receive_with(buffer, part, 0).await
    }

    pub(crate) async fn receive_with(
        &self,
        buffer: Buffer,
        part: BufferRange,
        flags: u32,
    ) -> (Result<u32, NtStatus>, Buffer) {
        let (id, offset, length) = (self.id, part.start, part.end.saturating_sub(part.start));
        let receive = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation, and the MDL of the buffer that it holds.
            unsafe {
                (arguments.table.receive)(
                    arguments.client,
                    arguments.operation,
                    id,
                    arguments.mdl,
                    offset,
                    length,
                    flags,
                )
            }
        };
        moved(self.operate(Held::Buffer(buffer), receive).await)
    }

    /// Ends this side's sending, or the connection.
    ///
    /// # Errors
    ///
    /// As of the request [`Disconnect`](san_protocol::ControlCode::Disconnect).
    pub async fn disconnect(&self, how: How) -> Result<(), NtStatus> {
        let flags = match how {
            How::Graceful => 0,
            How::Abortive => DISCONNECT_ABORTIVE,
        };
        let id = self.id;
        let disconnect = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation.
            unsafe { (arguments.table.disconnect)(arguments.client, arguments.operation, id, flags) }
        };
        self.operate(Held::Nothing, disconnect).await.result()
    }
}

impl<K: Listens> Endpoint<K> {
    /// Lets peers connect, about `backlog` of which may wait to be accepted.
    ///
    /// # Errors
    ///
    /// As of the request [`Listen`](san_protocol::ControlCode::Listen).
    pub async fn listen(&self, backlog: u32) -> Result<(), NtStatus> {
        let id = self.id;
        let listen = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation.
            unsafe { (arguments.table.listen)(arguments.client, arguments.operation, id, backlog) }
        };
        self.operate(Held::Nothing, listen).await.result()
    }

    /// Takes the connection that has waited longest, or waits for one.
    ///
    /// # Errors
    ///
    /// As of the request [`Accept`](san_protocol::ControlCode::Accept).
    pub async fn accept(&self) -> Result<Accepted<K::Arrival>, NtStatus> {
        let (id, closer) = (self.id, self.core.slot()?);
        let accept = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation and reply.
            unsafe {
                (arguments.table.accept)(arguments.client, arguments.operation, id, arguments.reply::<AcceptReply>())
            }
        };
        let ended = self.operate(Held::Closer(closer), accept).await;
        let AcceptReply { endpoint, local, remote } = ended.reply()?;
        let Held::Closer(closer) = ended.held() else { return Err(NtStatus::UNSUCCESSFUL) };
        let connection = Endpoint::<K::Connection>::new(&self.core, closer, endpoint);
        let addresses = Addresses { local: local.parse().ok(), remote: remote.parse().ok() };
        Ok(Accepted { connection: connection.into(), addresses })
    }
}
