//! The user-mode side of `sanwsk.sys`: a handle of its device, endpoints as types, and the tool `sanctl`.
//!
//! # Layers
//!
//! - [`Device`]: one open handle. It takes a request *with its buffers* and gives them back with the completion, so that no
//!   memory can be freed or moved while the driver may touch it. There are two back ends: the Windows one (`windows::WindowsDevice`,
//!   overlapped requests on `\\.\SanWsk`) and the one of the test harness, which runs the same driver image on Linux.
//! - [`Pending`]: a request on its way, to be waited for or cancelled.
//! - [`Provider`], [`StreamConnection`], [`StreamListener`]: what the driver offers, the same above every device.
//! - [`SanEndpoint`]: connections of messages, which are sent from and received into registered memory, a [`Region`].
//! - [`Switch`]: decides between SAN and TCP/IP by a table of subnets, and goes on over TCP/IP where the SAN fails. [`SanStream`]
//!   and [`SanListener`] are used as `std::net::TcpStream` and `TcpListener` are; [`SanSession`] is for messages.
//! - [`sanctl`]: the command-line tool, as a function.
//!
//! # Example
//!
//! ```
//! use san_proxy::{AddressFamily, Error, Provider, StreamConnection};
//! use std::io::{Read, Write};
//! use std::net::SocketAddr;
//!
//! /// Asks an HTTP server for its first page.
//! fn fetch(provider: &Provider, server: SocketAddr) -> std::io::Result<String> {
//!     let connection = StreamConnection::create(provider, AddressFamily::of(server))?;
//!     connection.connect(server, None)?;
//!     (&connection).write_all(b"GET / HTTP/1.0\r\n\r\n")?;
//!     let mut page = String::new();
//!     (&connection).read_to_string(&mut page)?;
//!     Ok(page)
//! }
//!
//! // On Windows, with the driver loaded: `fetch(&Provider::open()?, ...)`. Elsewhere `open` says what to do instead.
//! # #[cfg(not(windows))]
//! assert!(Provider::open().is_err());
//! ```

mod device;
mod endpoint;
mod endpoint_list;
mod error;
#[cfg(test)]
mod fake;
mod list;
mod listener;
mod memory;
mod pending;
mod provider;
mod routes;
mod san;
pub mod sanctl;
mod signal;
mod stream;
mod switch;
#[cfg(windows)]
pub mod windows;

pub use device::{Completed, Completion, Device, DeviceRequest, Event, Ticket};
pub use endpoint::{AddressFamily, Addresses, Endpoint};
pub use endpoint_list::{EndpointInfo, EndpointScope};
pub use error::{Error, Operation};
pub use listener::{Accepted, Backlog, StreamListener};
pub use memory::{Memory, PAGE_SIZE, SharedMemory};
pub use pending::{Incomplete, Pending};
pub use provider::{Provider, Status, Version, WskVersion};
pub use routes::{Route, RouteEntry, RouteOrigin};
pub use san::{
    EventRecord, MemoryRights, MemoryState, NetworkEvents, PeerSession, Protocol, Region, SanEndpoint, SocketType,
    Undecided,
};
pub use stream::{Disconnect, Receive, StreamConnection, Transfer};
pub use switch::{
    CONFIG_VARIABLE, ConfigError, Incoming, Prefix, PrefixError, ReceiveWindow, SanListener, SanSession, SanSocket,
    SanStream, Subnet, SubnetTable, Switch, SwitchConfig,
};

pub use san_protocol::wire::MAX_PRIVATE_DATA;
pub use san_protocol::{
    Decision, DeviceLimits, DeviceStatistics, EndpointId, EndpointKind, EndpointState, EndpointStatistics, HandleEntry,
    NtStatus, ProviderState, SocketOption, WsaError,
};

#[cfg(test)]
mod tests;
