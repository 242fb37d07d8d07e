//! Why bytes are not a message.

use super::MessageType;
use core::fmt;

/// Why bytes are not a message, or a message cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Another [`MAGIC`](super::MAGIC): not this protocol.
    Magic(u32),
    /// Another [`VERSION`](super::VERSION).
    Version(u8),
    /// No [`MessageType`] has this number.
    Type(u8),
    /// Flags that are not 0.
    Flags(u16),
    /// A payload, or the length in a header, that this type cannot have; in bytes.
    Length {
        /// The type.
        message: MessageType,
        /// The length.
        length: usize,
    },
    /// Credits that this type cannot carry.
    Credits {
        /// The type.
        message: MessageType,
        /// The credits.
        credits: u32,
    },
    /// An address family that is neither 4 nor 6, or two that differ.
    Family(u16),
    /// An address that no endpoint has: unspecified, multicast or broadcast, port 0, or an IPv4 address that something follows.
    Address,
    /// No [`RejectReason`](super::RejectReason) has this number.
    Reason(u32),
    /// A reserved field that is not 0.
    Reserved,
}

impl fmt::Display for WireError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Magic(magic) => write!(formatter, "not this protocol: it starts with {magic:#010x}"),
            Self::Version(version) => write!(formatter, "version {version} of the protocol"),
            Self::Type(number) => write!(formatter, "an unknown message type, {number}"),
            Self::Flags(flags) => write!(formatter, "unknown flags, {flags:#06x}"),
            Self::Length { message, length } => write!(formatter, "{message:?} with a payload of {length} bytes"),
            Self::Credits { message, credits } => write!(formatter, "{message:?} with {credits} credits"),
            Self::Family(family) => write!(formatter, "addresses of family {family}"),
            Self::Address => formatter.write_str("an address that no endpoint has"),
            Self::Reason(reason) => write!(formatter, "an unknown reason to reject, {reason}"),
            Self::Reserved => formatter.write_str("a reserved field that is not 0"),
        }
    }
}

impl core::error::Error for WireError {}
