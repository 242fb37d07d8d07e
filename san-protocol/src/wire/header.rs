//! The header of every message.

use super::{CONNECT_REQUEST_SIZE, MAX_PRIVATE_DATA, REJECT_SIZE, SESSION_FIXED_SIZE, WireError};
use crate::numbers::numbered;

/// First bytes of every message: "SanW".
pub const MAGIC: u32 = u32::from_le_bytes(*b"SanW");

/// Version of the protocol.
pub const VERSION: u8 = 1;

/// Bytes of a header.
pub const HEADER_SIZE: usize = 16;

/// Most credits that one message may grant, and that a sender may hold.
pub const MAX_CREDITS: u32 = 1 << 24;

numbered! {
    /// What a message is. 8 to 10 are kept for remote direct memory access.
    MessageType: u8 {
        /// Connector to acceptor, first: the SAN addresses. Payload: [`ConnectRequest`](super::ConnectRequest).
        ConnectRequest = 1,
        /// Acceptor to connector: the connection stands. No payload.
        Accept = 2,
        /// Acceptor to connector: it does not. Payload: a [`RejectReason`](super::RejectReason) (4 bytes).
        Reject = 3,
        /// Each to the other, once: the session. Payload: [`SessionOffer`](super::SessionOffer). Grants the first credits.
        Session = 4,
        /// A message of the application, which uses up one credit. Any payload. May grant credits.
        Data = 5,
        /// Grants credits. No payload.
        Credit = 6,
        /// Nothing more will be sent. No payload.
        Goodbye = 7,
    }
}

/// A header that was checked.
///
/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 4 | [`MAGIC`] |
/// | 4 | 1 | [`VERSION`] |
/// | 5 | 1 | [`MessageType`] |
/// | 6 | 2 | flags, 0 |
/// | 8 | 4 | bytes of payload that follow |
/// | 12 | 4 | credits: messages that the receiver may send more |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub message: MessageType,
    /// Bytes of payload that follow.
    pub length: u32,
    /// Messages that the receiver of this may send more.
    pub credits: u32,
}

impl Header {
    /// Reads and checks a header.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in the order of the fields.
    pub const fn parse(bytes: &[u8; HEADER_SIZE]) -> Result<Self, WireError> {
        let [m0, m1, m2, m3, version, number, f0, f1, l0, l1, l2, l3, c0, c1, c2, c3] = *bytes;
        let magic = u32::from_le_bytes([m0, m1, m2, m3]);
        if magic != MAGIC {
            return Err(WireError::Magic(magic));
        }
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let Some(message) = MessageType::from_number(number) else { return Err(WireError::Type(number)) };
        let flags = u16::from_le_bytes([f0, f1]);
        if flags != 0 {
            return Err(WireError::Flags(flags));
        }
        let header = Self {
            message,
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            credits: u32::from_le_bytes([c0, c1, c2, c3]),
        };
        if !message.may_be_long(header.length) {
            return Err(WireError::Length { message, length: header.length as usize });
        }
        if !message.may_grant(header.credits) {
            return Err(WireError::Credits { message, credits: header.credits });
        }
        Ok(header)
    }

    /// Its bytes. They [parse](Self::parse) if length and credits are such as the type allows.
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER_SIZE] {
        let [m0, m1, m2, m3] = MAGIC.to_le_bytes();
        let [l0, l1, l2, l3] = self.length.to_le_bytes();
        let [c0, c1, c2, c3] = self.credits.to_le_bytes();
        [m0, m1, m2, m3, VERSION, self.message as u8, 0, 0, l0, l1, l2, l3, c0, c1, c2, c3]
    }
}

impl MessageType {
    /// Whether its payload may be of `length` bytes. How long data may be is for the session to say.
    const fn may_be_long(self, length: u32) -> bool {
        let length = length as usize;
        match self {
            Self::ConnectRequest => length == CONNECT_REQUEST_SIZE,
            Self::Reject => length == REJECT_SIZE,
            Self::Accept | Self::Credit | Self::Goodbye => length == 0,
            Self::Session => SESSION_FIXED_SIZE <= length && length <= SESSION_FIXED_SIZE + MAX_PRIVATE_DATA,
            Self::Data => true,
        }
    }

    /// Whether it may grant so many credits.
    const fn may_grant(self, credits: u32) -> bool {
        match self {
            Self::ConnectRequest | Self::Accept | Self::Reject | Self::Goodbye => credits == 0,
            Self::Session | Self::Data => credits <= MAX_CREDITS,
            Self::Credit => 0 < credits && credits <= MAX_CREDITS,
        }
    }
}
