//! SAN endpoints: what `san-requirements` asks for, and what else their users would expect.

mod accepting;
mod cancel;
mod connecting;
mod error_codes;
mod guarantee;
mod hand_shake;
mod input;
mod malformed;
mod memory;
mod messages;
mod negotiation;
mod payload;
mod requirements;
pub(crate) mod support;
mod violations;
pub(crate) mod wire_peer;
