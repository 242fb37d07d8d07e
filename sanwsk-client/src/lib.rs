//! Streams and SAN sessions of `sanwsk.sys`, for other drivers: its kernel interface (`san_protocol::kernel`, in C
//! `include/sanwsk_kernel.h`) with owned endpoints and futures.
//!
//! ```ignore
//! async fn ask(client: &Client, peer: SocketAddr) -> Result<(u32, Buffer), NtStatus> {
//!     let stream = client.create::<Connection>(Family::of(&peer))?;
//!     stream.connect(peer, None).await?;
//!     let (sent, buffer) = stream.send(Buffer::of(b"hello\n")?, 0..6).await;
//!     sent?;
//!     let (received, buffer) = stream.receive(buffer, 0..6).await;
//!     stream.disconnect(How::Graceful).await?;
//!     Ok((received?, buffer))
//! }
//! ```
//!
//! An [`Interface`] is had at PASSIVE_LEVEL. A [`Client`] of it has endpoints, each of a kind: [`Connection`], [`Listener`], [`San`].
//! What takes its time is a future, which any executor may poll. [`spawn`] needs no thread: it goes on with a future
//! wherever what it waits for completes. [`block_on`] waits on the caller's.
//!
//! # IRQL
//!
//! [`Interface::open`], [`Client::close`] and [`block_on`] wait: PASSIVE_LEVEL. Everything else, polling and dropping too, may be done
//! at IRQL <= DISPATCH_LEVEL, and nothing of it blocks. A spawned future is polled at IRQL <= DISPATCH_LEVEL: it touches no pageable
//! memory.
//!
//! # What is under way
//!
//! A future that is dropped has its operation cancelled. The memory of an operation, and the [`Buffer`] that it uses, is its own until
//! the driver says that it is over, and then goes wherever that is: so a buffer is given to an operation, and comes back with its end.
//! An endpoint that is dropped is closed, a client that is dropped closes what it has; what they need for that they have from the
//! beginning. Operations use memory of earlier ones: in the long run none is allocated for them.
//!
//! # Memory
//!
//! All of it is non-paged pool with the tag `SanC`. Where there is none, what asks for it ends with `STATUS_INSUFFICIENT_RESOURCES`:
//! nothing panics, and the driver's global allocator is not used.
//!
//! # Unloading
//!
//! Completions are code of the driver that uses this crate. Before it is unloaded, and before it fails to load, it calls
//! [`Client::close`] for each client that it has opened; that returns when none of the client's completions runs any more, and none
//! will. A client that was dropped instead can no longer be waited for: drop one only in a driver that stays.
#![no_std]

mod blocking;
mod buffer;
mod client;
mod endpoint;
mod interface;
mod operation;
mod san;
mod shared;
mod stream;
mod task;
mod waker;

pub use blocking::block_on;
pub use buffer::{Buffer, BufferRange};
pub use client::Client;
pub use endpoint::{Accepted, Addresses, Connects, Endpoint, Family, How, Kind, Listens};
pub use interface::Interface;
pub use san::{Region, Rights, San, Session, Undecided};
pub use san_protocol::{EndpointStatistics, NtStatus, SocketOption};
pub use stream::{Connection, Listener};
pub use task::spawn;
