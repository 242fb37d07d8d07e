//! What two SAN endpoints say to each other over their TCP connection: a [`Header`] and its payload, little-endian.
//!
//! Nothing is believed before it is checked: a [`Header`] that parses is one that this version may meet, with a length
//! that fits its type, and a payload that parses is complete. What a state allows is for the state to say.

mod connect;
mod control;
mod error;
mod header;
mod session;

pub use connect::{CONNECT_REQUEST_SIZE, ConnectRequest, REJECT_SIZE, RejectReason};
pub use control::{ControlMessage, MAX_CONTROL};
pub use error::WireError;
pub use header::{HEADER_SIZE, Header, MAGIC, MAX_CREDITS, MessageType, VERSION};
pub use session::{MAX_PRIVATE_DATA, SESSION_FIXED_SIZE, SessionOffer};

#[cfg(test)]
mod tests;
