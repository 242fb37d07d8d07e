//! What a peer offers.

use san_protocol::NegotiateReply;

/// The peer's side of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSession {
    /// Messages that the peer had receives posted for: so many may be sent to it at first.
    pub receive_count: u32,
    /// The longest message, in bytes, that it takes.
    pub receive_size: u32,
    /// Its private data, at most [`MAX_PRIVATE_DATA`](crate::MAX_PRIVATE_DATA) bytes.
    pub private: Vec<u8>,
}

impl PeerSession {
    /// `None` if the reply is none.
    pub(super) fn from_reply(reply: &NegotiateReply) -> Option<Self> {
        let private = reply.private_data()?.to_vec();
        Some(Self { receive_count: reply.receive_count, receive_size: reply.receive_size, private })
    }
}
