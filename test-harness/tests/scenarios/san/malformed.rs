//! What no honest peer sends.

use super::wire_peer::{FOREIGN, connect_request, header};
use san_protocol::wire::{
    CONNECT_REQUEST_SIZE, ControlMessage, HEADER_SIZE, MAX_CREDITS, MessageType, RejectReason, SessionOffer,
};
use std::net::SocketAddr;

/// What a peer sends, and what is wrong with it.
pub(crate) type Broken = (String, Vec<u8>);

pub(crate) fn broken(what: &str, bytes: impl Into<Vec<u8>>) -> Broken {
    (what.to_owned(), bytes.into())
}

/// Headers that are none, whatever has gone before; without those of another version.
pub(crate) fn malformed_headers() -> Vec<Broken> {
    use MessageType::{Accept, ConnectRequest, Credit, Data, Goodbye, Reject, Session};
    let mut all = vec![
        broken("zeros", [0; HEADER_SIZE]),
        broken("ones", [0xFF; HEADER_SIZE]),
        broken("another protocol", b"GET / HTTP/1.1\r\n".to_vec()),
    ];
    let good = header(Credit, 0, 1);
    let altered = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        (format!("byte {at} of the header is {value}"), bytes)
    };
    all.extend((0..4).map(|at| altered(at, !good[at])));
    all.extend([0, 8, 9, 10, 11, 0xFF].map(|number| altered(5, number)));
    all.extend((0..16).map(|bit| altered(6 + bit / 8, 1 << (bit % 8))));
    let of_length = |message, length| (format!("{message:?} of {length} bytes"), header(message, length, 0));
    for length in [1, 280, 0x7FFF_FFFF, u32::MAX as usize] {
        all.extend([Accept, Goodbye].map(|message| of_length(message, length)));
        all.push((format!("Credit of {length} bytes"), header(Credit, length, 1)));
    }
    all.extend([0, 3, 5, u32::MAX as usize].map(|length| of_length(Reject, length)));
    all.extend([0, 7, 265, u32::MAX as usize].map(|length| of_length(Session, length)));
    all.extend([0, 39, 41, u32::MAX as usize].map(|length| of_length(ConnectRequest, length)));
    let with_credits =
        |(message, length, credits)| (format!("{message:?} with {credits} credits"), header(message, length, credits));
    all.extend(
        [
            (Accept, 0, 1),
            (Goodbye, 0, 1),
            (Reject, 4, 1),
            (ConnectRequest, CONNECT_REQUEST_SIZE, 1),
            (Credit, 0, 0),
            (Credit, 0, MAX_CREDITS + 1),
            (Session, 8, MAX_CREDITS + 1),
            (Data, 0, MAX_CREDITS + 1),
            (Data, 0, u32::MAX),
        ]
        .map(with_credits),
    );
    all
}

/// A header of another version of the protocol.
pub(crate) fn of_version(version: u8) -> Vec<u8> {
    let mut bytes = connect_request(FOREIGN).as_bytes()[..HEADER_SIZE].to_vec();
    bytes[4] = version;
    bytes
}

/// The payload of a request to connect to `target`, with some bytes written over.
fn altered_request(target: SocketAddr, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut message = connect_request(target).as_bytes().to_vec();
    message[HEADER_SIZE + at..HEADER_SIZE + at + bytes.len()].copy_from_slice(bytes);
    message
}

/// Requests to connect that are none.
pub(crate) fn malformed_requests(target: SocketAddr) -> Vec<Broken> {
    let altered = |what: &str, at, bytes: &[u8]| broken(what, altered_request(target, at, bytes));
    vec![
        altered("source of no family", 0, &[0, 0]),
        altered("source of another family", 0, &[6, 0]),
        altered("target of another family", 20, &[6, 0]),
        altered("target of an unknown family", 20, &[2, 0]),
        altered("source port 0", 2, &[0, 0]),
        altered("target port 0", 22, &[0, 0]),
        altered("unspecified source", 4, &[0; 4]),
        altered("unspecified target", 24, &[0; 4]),
        altered("multicast target", 24, &[224, 0, 0, 1]),
        altered("broadcast target", 24, &[255; 4]),
        altered("padding behind the source", 19, &[1]),
        altered("padding behind the target", 28, &[1]),
    ]
}

/// What a peer may not send behind its request while nobody has decided.
pub(crate) fn impatient(address: SocketAddr) -> Vec<Broken> {
    vec![
        broken("the request again", connect_request(address).as_bytes()),
        broken("Accept", ControlMessage::accept().as_bytes()),
        broken("Reject", ControlMessage::reject(RejectReason::Refused).as_bytes()),
        broken("Session", ControlMessage::session(&OFFER, 1).expect("a message").as_bytes()),
        broken("Data", header(MessageType::Data, 1, 0)),
        broken("Credit", ControlMessage::credit(1).as_bytes()),
        broken("Goodbye", ControlMessage::goodbye().as_bytes()),
        broken("zeros", [0; HEADER_SIZE]),
        broken("another version", of_version(2)),
    ]
}

/// The session of a peer.
pub(crate) const OFFER: SessionOffer<'static> = SessionOffer { receive_size: 16, private: b"" };
