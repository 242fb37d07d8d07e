//! The session message.

use super::{MessageType, WireError};

/// Most bytes of private data in a session message.
pub const MAX_PRIVATE_DATA: usize = 256;

/// Bytes of a session message's payload before the private data.
pub const SESSION_FIXED_SIZE: usize = 8;

/// What a session message says; the receives that are posted are the credits of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOffer<'a> {
    /// The longest message, in bytes, that its sender takes.
    pub receive_size: u32,
    /// Private data, at most [`MAX_PRIVATE_DATA`] bytes.
    pub private: &'a [u8],
}

impl<'a> SessionOffer<'a> {
    /// Reads and checks the payload.
    ///
    /// # Errors
    ///
    /// A wrong length, or a reserved field that is not 0.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let length = WireError::Length { message: MessageType::Session, length: bytes.len() };
        let (&fixed, private) = bytes.split_first_chunk::<SESSION_FIXED_SIZE>().ok_or(length)?;
        if private.len() > MAX_PRIVATE_DATA {
            return Err(length);
        }
        let [s0, s1, s2, s3, reserved @ ..] = fixed;
        if reserved != [0; 4] {
            return Err(WireError::Reserved);
        }
        Ok(Self { receive_size: u32::from_le_bytes([s0, s1, s2, s3]), private })
    }
}
