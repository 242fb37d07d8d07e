//! What the streams of two switches say to each other: bytes, and that no more come.
//!
//! Each message of the SAN session begins with four bytes: the kind, and three that are 0. The provider sees plain messages.
//!
//! | kind | what follows | meaning |
//! | ---: | --- | --- |
//! | 1 | one byte or more | `Data`: the next bytes of the stream |
//! | 2 | nothing | `End`: the sender has shut down its side, and sends nothing more |

/// Bytes before those of the stream.
pub(super) const HEADER: usize = 4;

/// A message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message<'message> {
    Data(&'message [u8]),
    End,
}

/// The start of a message with data.
pub(super) const DATA: [u8; HEADER] = [1, 0, 0, 0];

/// All of the message that ends a side.
pub(super) const END: [u8; HEADER] = [2, 0, 0, 0];

impl<'message> Message<'message> {
    /// `None` for a message that no switch sends.
    pub(super) fn parse(message: &'message [u8]) -> Option<Self> {
        match message.split_first_chunk()? {
            (&DATA, data) if !data.is_empty() => Some(Self::Data(data)),
            (&END, []) => Some(Self::End),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_and_known_messages_are_read() {
        assert_eq!(Message::parse(&[1, 0, 0, 0, 7, 8]), Some(Message::Data(&[7, 8])));
        assert_eq!(Message::parse(&END), Some(Message::End));
        let none: [&[u8]; 8] = [
            &[],
            &[1],
            &[1, 0, 0],
            &[1, 0, 0, 0],
            &[2, 0, 0, 0, 1],
            &[1, 1, 0, 0, 7],
            &[1, 0, 0, 1, 7],
            &[3, 0, 0, 0, 7],
        ];
        for message in none {
            assert_eq!(Message::parse(message), None, "{message:?}");
        }
    }
}
