//! SAN endpoints: messages, with peers that run this driver too.
#![allow(unsafe_code, reason = "calls the functions of the interface, and reads registered memory")]

use crate::buffer::{Buffer, BufferRange};
use crate::endpoint::{Connects, Endpoint, Kind, Listens};
use crate::operation::{Arguments, Core, Held, Operating, UnderWay};
use crate::shared::Shared;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use san_protocol::{
    Decision, EndpointKind, EndpointStatistics, MEMORY_RECEIVE, MEMORY_SEND, MemoryReply, NegotiateReply, NtStatus,
};
use zerocopy::FromZeros;

/// Messages; listens, or connects, or was accepted.
pub struct San;

impl Kind for San {
    const KIND: EndpointKind = EndpointKind::San;
}

impl Connects for San {}

impl Listens for San {
    type Arrival = Undecided;
    type Connection = Self;
}

/// A connection whose peer waits to hear whether it is let in. Dropped, it is closed: the peer loses its connection, and its connect
/// ends in doubt, with `STATUS_IO_TIMEOUT`.
pub struct Undecided(Endpoint<San>);

impl From<Endpoint<San>> for Undecided {
    fn from(endpoint: Endpoint<San>) -> Self {
        Self(endpoint)
    }
}

impl Undecided {
    /// Lets the peer in. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// As of the request [`Decide`](san_protocol::ControlCode::Decide).
    pub fn accept(self) -> Result<Endpoint<San>, NtStatus> {
        self.decide(Decision::Accept)?;
        Ok(self.0)
    }

    /// Refuses the peer. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    ///
    /// As of the request [`Decide`](san_protocol::ControlCode::Decide).
    pub fn reject(self) -> Result<(), NtStatus> {
        self.decide(Decision::Reject)
    }

    fn decide(&self, decision: Decision) -> Result<(), NtStatus> {
        self.0.query((), |table, _| {
            // SAFETY: numbers alone.
            unsafe { (table.decide)(self.0.core().id, self.0.id(), decision as u32) }
        })
    }
}

/// What a peer has said of its session.
pub struct Session(NegotiateReply);

impl Session {
    /// Messages that it had receives posted for.
    #[must_use]
    pub fn receive_count(&self) -> u32 {
        self.0.receive_count
    }

    /// Bytes of the longest message that it takes.
    #[must_use]
    pub fn receive_size(&self) -> u32 {
        self.0.receive_size
    }

    /// Its private data.
    #[must_use]
    pub fn private_data(&self) -> &[u8] {
        self.0.private_data().unwrap_or_default()
    }
}

/// What registered memory may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// To send from it.
    Send,
    /// To receive into it.
    Receive,
    /// Both.
    SendAndReceive,
}

impl Rights {
    const fn bits(self) -> u32 {
        match self {
            Self::Send => MEMORY_SEND,
            Self::Receive => MEMORY_RECEIVE,
            Self::SendAndReceive => MEMORY_SEND | MEMORY_RECEIVE,
        }
    }
}

/// A buffer that is registered with an endpoint, and stays so until this is dropped and nothing uses it any more.
pub struct Region {
    core: Shared<Core>,
    registration: UnderWay,
    key: u64,
    start: NonNull<u8>,
    length: u32,
}

// SAFETY: the memory is the registration's, which lasts as long as this.
unsafe impl Send for Region {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        self.registration.cancel(&self.core);
    }
}

impl Region {
    /// Copies what lies at `offset`; false if that is not in the buffer. Bytes that a receive is under way for are anything.
    pub fn read(&self, offset: u32, bytes: &mut [u8]) -> bool {
        let Some(from) = self.place(offset, bytes.len()) else { return false };
        // SAFETY: so many bytes lie there.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
        true
    }

    /// Stores bytes at `offset`; false if that is not in the buffer.
    pub fn write(&mut self, offset: u32, bytes: &[u8]) -> bool {
        let Some(to) = self.place(offset, bytes.len()) else { return false };
        // SAFETY: so many bytes lie there.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        true
    }

    fn place(&self, offset: u32, length: usize) -> Option<NonNull<u8>> {
        let end = (offset as usize).checked_add(length)?;
        if end > self.length as usize {
            return None;
        }
        // SAFETY: inside the buffer.
        Some(unsafe { self.start.add(offset as usize) })
    }
}

/// Gives each region a key that no other of any endpoint has.
static KEY: AtomicU64 = AtomicU64::new(1);

impl Endpoint<San> {
    /// Exchanges sessions with the peer: up to 256 bytes of private data, and the size of this side's receives. Messages can be sent
    /// after this.
    ///
    /// # Errors
    ///
    /// As of the request [`Negotiate`](san_protocol::ControlCode::Negotiate).
    pub async fn negotiate(&self, private: &[u8], receive_size: u32) -> Result<Session, NtStatus> {
        let length = u32::try_from(private.len()).map_err(|_| NtStatus::INVALID_BUFFER_SIZE)?;
        let id = self.id();
        let negotiate = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation and reply; the private data is read before this returns.
            unsafe {
                (arguments.table.negotiate)(
                    arguments.client,
                    arguments.operation,
                    id,
                    private.as_ptr(),
                    length,
                    receive_size,
                    arguments.reply::<NegotiateReply>(),
                )
            }
        };
        self.operate(Held::Nothing, negotiate).await.reply().map(Session)
    }

    /// Registers a buffer, once for many messages.
    ///
    /// # Errors
    ///
    /// As of the request [`RegisterMemory`](san_protocol::ControlCode::RegisterMemory).
    pub async fn register(&self, buffer: Buffer, rights: Rights) -> Result<Region, NtStatus> {
        let (id, key) = (self.id(), KEY.fetch_add(1, Ordering::Relaxed));
        let (start, length) = (buffer.start(), buffer.length());
        let begun = self.core().slot()?.begin(self.core(), Held::Buffer(buffer), |arguments| {
            // SAFETY: the slot's operation, and the MDL of the buffer that it holds.
            unsafe {
                (arguments.table.register_memory)(
                    arguments.client,
                    arguments.operation,
                    id,
                    key,
                    arguments.mdl,
                    rights.bits(),
                )
            }
        });
        let registration = begun.map_err(|(status, _)| status)?;
        let stands = self.query(MemoryReply::new_zeroed(), |table, reply| {
            // SAFETY: room for the reply.
            unsafe { (table.query_memory)(self.core().id, id, key, reply) }
        });
        match stands {
            Ok(_) => Ok(Region { core: self.core().clone(), registration, key, start, length }),
            // It has ended already, or is about to.
            Err(status) => {
                let ended = Operating::begun(self.core(), registration).await;
                Err(ended.result().err().unwrap_or(status))
            }
        }
    }

    /// Sends a part of registered memory as one message: its bytes.
    ///
    /// # Errors
    ///
    /// As of the request [`SendRegistered`](san_protocol::ControlCode::SendRegistered).
    pub async fn send_registered(&self, region: &Region, part: BufferRange) -> Result<u32, NtStatus> {
        let (id, key, length) = (self.id(), region.key, part.end.saturating_sub(part.start));
        let send = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation.
            unsafe {
                (arguments.table.send_registered)(
                    arguments.client,
                    arguments.operation,
                    id,
                    key,
                    part.start.into(),
                    length,
                )
            }
        };
        self.operate(Held::Nothing, send).await.length()
    }

    /// Receives one message into a part of registered memory: its bytes.
    ///
    /// # Errors
    ///
    /// As of the request [`ReceiveRegistered`](san_protocol::ControlCode::ReceiveRegistered).
    pub async fn receive_registered(&self, region: &Region, part: BufferRange) -> Result<u32, NtStatus> {
        let (id, key, length) = (self.id(), region.key, part.end.saturating_sub(part.start));
        let receive = move |arguments: Arguments<'_>| {
            // SAFETY: the slot's operation.
            unsafe {
                (arguments.table.receive_registered)(
                    arguments.client,
                    arguments.operation,
                    id,
                    key,
                    part.start.into(),
                    length,
                )
            }
        };
        self.operate(Held::Nothing, receive).await.length()
    }

    /// What it has done and holds.
    ///
    /// # Errors
    ///
    /// `STATUS_INVALID_HANDLE`: its client is closed.
    pub fn statistics(&self) -> Result<EndpointStatistics, NtStatus> {
        self.query(EndpointStatistics::new_zeroed(), |table, reply| {
            // SAFETY: room for the reply.
            unsafe { (table.query_statistics)(self.core().id, self.id(), reply) }
        })
    }
}
