//! SAN endpoints: connections of messages, with registered memory and flow control.

mod endpoint;
mod events;
mod region;
mod session;
mod socket;
#[cfg(test)]
mod tests;
mod undecided;

pub use endpoint::SanEndpoint;
pub use events::{EventRecord, NetworkEvents};
pub use region::{MemoryRights, MemoryState, Region};
pub use session::PeerSession;
pub use socket::{Protocol, SocketType};
pub use undecided::Undecided;
