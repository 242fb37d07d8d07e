//! Whole messages, as they are sent.

use super::{
    ConnectRequest, HEADER_SIZE, Header, MAX_PRIVATE_DATA, MessageType, RejectReason, SESSION_FIXED_SIZE, SessionOffer,
    WireError,
};

/// Bytes of the longest message that is not data, with its header.
pub const MAX_CONTROL: usize = HEADER_SIZE + SESSION_FIXED_SIZE + MAX_PRIVATE_DATA;

/// A message that is not data, header and payload, ready to be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ControlMessage {
    /// The message, then zeros.
    pub bytes: [u8; MAX_CONTROL],
    /// Bytes of the message.
    pub length: usize,
}

impl ControlMessage {
    /// [`MessageType::ConnectRequest`].
    #[must_use]
    pub fn connect_request(request: &ConnectRequest) -> Self {
        Self::new(MessageType::ConnectRequest, 0, &[&request.encode()])
    }

    /// [`MessageType::Accept`].
    #[must_use]
    pub fn accept() -> Self {
        Self::new(MessageType::Accept, 0, &[])
    }

    /// [`MessageType::Reject`].
    #[must_use]
    pub fn reject(reason: RejectReason) -> Self {
        Self::new(MessageType::Reject, 0, &[&reason.encode()])
    }

    /// [`MessageType::Session`], which grants `credits`.
    ///
    /// # Errors
    ///
    /// More private data than [`MAX_PRIVATE_DATA`].
    pub fn session(offer: &SessionOffer<'_>, credits: u32) -> Result<Self, WireError> {
        if offer.private.len() > MAX_PRIVATE_DATA {
            let length = SESSION_FIXED_SIZE.saturating_add(offer.private.len());
            return Err(WireError::Length { message: MessageType::Session, length });
        }
        let payload = [&offer.receive_size.to_le_bytes(), &[0; 4][..], offer.private];
        Ok(Self::new(MessageType::Session, credits, &payload))
    }

    /// [`MessageType::Credit`], which grants `credits`, at least one.
    #[must_use]
    pub fn credit(credits: u32) -> Self {
        Self::new(MessageType::Credit, credits, &[])
    }

    /// [`MessageType::Goodbye`].
    #[must_use]
    pub fn goodbye() -> Self {
        Self::new(MessageType::Goodbye, 0, &[])
    }

    /// The message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }

    /// A message of these pieces of payload, which fit together.
    fn new(message: MessageType, credits: u32, payload: &[&[u8]]) -> Self {
        let mut bytes = [0; MAX_CONTROL];
        let mut length = HEADER_SIZE;
        for piece in payload {
            bytes[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        // At most `MAX_CONTROL`.
        #[expect(clippy::cast_possible_truncation)]
        let header = Header { message, length: (length - HEADER_SIZE) as u32, credits };
        bytes[..HEADER_SIZE].copy_from_slice(&header.encode());
        Self { bytes, length }
    }
}

impl core::fmt::Debug for ControlMessage {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let header = self.bytes.first_chunk().map(Header::parse);
        formatter.debug_struct("ControlMessage").field("header", &header).field("length", &self.length).finish()
    }
}
