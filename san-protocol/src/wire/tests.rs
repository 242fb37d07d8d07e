//! Messages there and back, and everything that is none.

use super::*;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use proptest::prelude::*;
extern crate std;
use std::vec::Vec;
use std::{format, vec};

/// Every kind of header that is legal.
fn header() -> impl Strategy<Value = Header> {
    let of = |message, length, credits| Header { message, length, credits };
    prop_oneof![
        Just(of(MessageType::ConnectRequest, 40, 0)),
        Just(of(MessageType::Accept, 0, 0)),
        Just(of(MessageType::Reject, 4, 0)),
        (8..=264_u32, 0..=MAX_CREDITS).prop_map(move |(length, credits)| of(MessageType::Session, length, credits)),
        (any::<u32>(), 0..=MAX_CREDITS).prop_map(move |(length, credits)| of(MessageType::Data, length, credits)),
        (1..=MAX_CREDITS).prop_map(move |credits| of(MessageType::Credit, 0, credits)),
        Just(of(MessageType::Goodbye, 0, 0)),
    ]
}

fn v4() -> impl Strategy<Value = SocketAddr> {
    let usable = any::<u32>().prop_map(Ipv4Addr::from).prop_filter("an endpoint's", |address| {
        !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
    });
    (usable, 1..=u16::MAX).prop_map(SocketAddr::from)
}

fn v6() -> impl Strategy<Value = SocketAddr> {
    let usable = any::<u128>()
        .prop_map(Ipv6Addr::from)
        .prop_filter("an endpoint's", |address| !(address.is_unspecified() || address.is_multicast()));
    (usable, 1..=u16::MAX).prop_map(SocketAddr::from)
}

fn connect_request() -> impl Strategy<Value = ConnectRequest> {
    prop_oneof![(v4(), v4()), (v6(), v6())].prop_map(|(source, target)| ConnectRequest { source, target })
}

/// Header and payload of a message.
fn split(message: &ControlMessage) -> (Header, &[u8]) {
    let (header, payload) = message.as_bytes().split_first_chunk().expect("a header");
    (Header::parse(header).expect("a legal header"), payload)
}

proptest! {
    #[test]
    fn a_header_is_read_as_it_was_written(header in header()) {
        prop_assert_eq!(Header::parse(&header.encode()), Ok(header));
    }

    #[test]
    fn a_flipped_bit_is_seen_or_makes_another_legal_header(header in header()) {
        let bytes = header.encode();
        for bit in 0..8 * HEADER_SIZE {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let parsed = Header::parse(&flipped);
            if let Ok(other) = parsed {
                prop_assert_ne!(other, header);
                prop_assert_eq!(other.encode(), flipped);
            }
            if bit < 40 || (48..64).contains(&bit) {
                prop_assert!(parsed.is_err(), "magic, version and flags have one value each: bit {}", bit);
            }
        }
    }

    #[test]
    fn random_bytes_are_refused_or_written_the_same(bytes: [u8; 16]) {
        if let Ok(header) = Header::parse(&bytes) {
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    /// Random bytes behind a right magic, version and flags get past the first checks.
    #[test]
    fn random_fields_are_refused_or_written_the_same(number in 0..12_u8, length: u32, credits: u32) {
        let mut bytes = Header { message: MessageType::Data, length, credits }.encode();
        bytes[5] = number;
        match Header::parse(&bytes) {
            Ok(header) => prop_assert_eq!(header.encode(), bytes),
            Err(WireError::Type(refused)) => prop_assert!(refused == number && !(1..=7).contains(&number)),
            Err(WireError::Length { length: refused, .. }) => prop_assert_eq!(refused, length as usize),
            Err(WireError::Credits { credits: refused, .. }) => prop_assert_eq!(refused, credits),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn a_connect_request_is_read_as_it_was_written(request in connect_request()) {
        let message = ControlMessage::connect_request(&request);
        let (header, payload) = split(&message);
        prop_assert_eq!(header.message, MessageType::ConnectRequest);
        prop_assert_eq!(header.length as usize, payload.len());
        prop_assert_eq!(ConnectRequest::parse(payload), Ok(request));
    }

    #[test]
    fn a_flipped_bit_of_a_connect_request_is_seen_or_makes_another(request in connect_request(), bit in 0..320_usize) {
        let mut bytes = request.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = ConnectRequest::parse(&bytes) {
            prop_assert_ne!(other, request);
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn a_session_is_read_as_it_was_written(
        receive_size: u32,
        private in proptest::collection::vec(any::<u8>(), 0..=MAX_PRIVATE_DATA),
        credits in 0..=MAX_CREDITS,
    ) {
        let offer = SessionOffer { receive_size, private: &private };
        let message = ControlMessage::session(&offer, credits).unwrap();
        let (header, payload) = split(&message);
        prop_assert_eq!((header.message, header.credits), (MessageType::Session, credits));
        prop_assert_eq!(header.length as usize, payload.len());
        prop_assert_eq!(SessionOffer::parse(payload), Ok(offer));
    }

    #[test]
    fn random_payloads_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(request) = ConnectRequest::parse(&bytes) {
            prop_assert_eq!(&request.encode()[..], &bytes[..]);
        }
        if let Ok(reason) = RejectReason::parse(&bytes) {
            prop_assert_eq!(&reason.encode()[..], &bytes[..]);
        }
        if let Ok(offer) = SessionOffer::parse(&bytes) {
            let message = ControlMessage::session(&offer, 0).unwrap();
            prop_assert_eq!(&message.as_bytes()[HEADER_SIZE..], &bytes[..]);
        }
    }
}

#[test]
fn a_header_lies_as_documented() {
    let header = Header { message: MessageType::Data, length: 0x0403_0201, credits: 0x0008_0706 };
    assert_eq!(header.encode(), [b'S', b'a', b'n', b'W', 1, 5, 0, 0, 1, 2, 3, 4, 6, 7, 8, 0]);
}

#[test]
fn the_first_wrong_field_is_named() {
    let mut bytes = [0xFF; HEADER_SIZE];
    assert_eq!(Header::parse(&bytes), Err(WireError::Magic(u32::MAX)));
    bytes[..4].copy_from_slice(b"SanW");
    assert_eq!(Header::parse(&bytes), Err(WireError::Version(0xFF)));
    bytes[4] = 1;
    assert_eq!(Header::parse(&bytes), Err(WireError::Type(0xFF)));
    bytes[5] = 6;
    assert_eq!(Header::parse(&bytes), Err(WireError::Flags(0xFFFF)));
    bytes[6..8].fill(0);
    let (message, length) = (MessageType::Credit, 0xFFFF_FFFF);
    assert_eq!(Header::parse(&bytes), Err(WireError::Length { message, length }));
    bytes[8..12].fill(0);
    assert_eq!(Header::parse(&bytes), Err(WireError::Credits { message, credits: u32::MAX }));
    bytes[12..].fill(0);
    assert_eq!(Header::parse(&bytes), Err(WireError::Credits { message, credits: 0 }));
    bytes[12] = 1;
    assert_eq!(Header::parse(&bytes), Ok(Header { message, length: 0, credits: 1 }));
}

#[test]
fn each_type_has_its_lengths_and_credits() {
    for &message in MessageType::ALL {
        let lengths: Vec<u32> = (0..=300)
            .filter(|&length| {
                let credits = u32::from(message == MessageType::Credit);
                Header::parse(&Header { message, length, credits }.encode()).is_ok()
            })
            .collect();
        let expected = match message {
            MessageType::ConnectRequest => vec![40],
            MessageType::Reject => vec![4],
            MessageType::Accept | MessageType::Credit | MessageType::Goodbye => vec![0],
            MessageType::Session => (8..=264).collect(),
            MessageType::Data => (0..=300).collect(),
        };
        assert_eq!(lengths, expected, "{message:?}");
        let grants = [0, 1, MAX_CREDITS, MAX_CREDITS + 1, u32::MAX]
            .map(|credits| Header::parse(&Header { message, length: lengths[0], credits }.encode()).is_ok());
        let expected = match message {
            MessageType::Session | MessageType::Data => [true, true, true, false, false],
            MessageType::Credit => [false, true, true, false, false],
            _ => [true, false, false, false, false],
        };
        assert_eq!(grants, expected, "{message:?}");
    }
}

#[test]
fn messages_without_a_payload_are_headers() {
    for (message, kind) in [
        (ControlMessage::accept(), MessageType::Accept),
        (ControlMessage::goodbye(), MessageType::Goodbye),
        (ControlMessage::credit(3), MessageType::Credit),
    ] {
        let (header, payload) = split(&message);
        assert_eq!((header.message, payload), (kind, &[][..]));
    }
}

#[test]
fn a_rejection_gives_its_reason() {
    for &reason in RejectReason::ALL {
        let message = ControlMessage::reject(reason);
        let (header, payload) = split(&message);
        assert_eq!((header.message, payload.len()), (MessageType::Reject, 4));
        assert_eq!(RejectReason::parse(payload), Ok(reason));
    }
    assert_eq!(RejectReason::parse(&[0; 4]), Err(WireError::Reason(0)));
    assert_eq!(RejectReason::parse(&7_u32.to_le_bytes()), Err(WireError::Reason(7)));
    let (message, length) = (MessageType::Reject, 3);
    assert_eq!(RejectReason::parse(&[1, 0, 0]), Err(WireError::Length { message, length }));
}

#[test]
fn an_ipv4_connect_request_lies_as_documented() {
    let (source, target) = (SocketAddr::from(([10, 0, 0, 1], 0x0102)), SocketAddr::from(([10, 0, 0, 2], 80)));
    let bytes = ConnectRequest { source, target }.encode();
    assert_eq!(bytes[..8], [4, 0, 2, 1, 10, 0, 0, 1]);
    assert_eq!(bytes[8..20], [0; 12]);
    assert_eq!(bytes[20..28], [4, 0, 80, 0, 10, 0, 0, 2]);
}

#[test]
fn addresses_that_no_endpoint_has_are_refused() {
    let good: SocketAddr = ([10, 0, 0, 1], 7).into();
    for nobodys in ["0.0.0.0:7", "10.0.0.1:0", "224.0.0.1:7", "255.255.255.255:7"] {
        let nobodys = nobodys.parse().unwrap();
        for (source, target) in [(good, nobodys), (nobodys, good)] {
            let refused = ConnectRequest::parse(&ConnectRequest { source, target }.encode());
            assert_eq!(refused, Err(WireError::Address), "{nobodys}");
        }
    }
    for nobodys in ["[::]:7", "[ff02::1]:7", "[::1]:0"] {
        let (source, target) = (SocketAddr::from((Ipv6Addr::LOCALHOST, 7)), nobodys.parse().unwrap());
        let refused = ConnectRequest::parse(&ConnectRequest { source, target }.encode());
        assert_eq!(refused, Err(WireError::Address), "{nobodys}");
    }
    let source = SocketAddr::from((Ipv6Addr::LOCALHOST, 7));
    let mixed = ConnectRequest::parse(&ConnectRequest { source, target: good }.encode());
    assert_eq!(mixed, Err(WireError::Family(4)));
    let mut bytes = ConnectRequest { source: good, target: good }.encode();
    bytes[19] = 1;
    assert_eq!(ConnectRequest::parse(&bytes), Err(WireError::Address));
    bytes[0] = 2;
    assert_eq!(ConnectRequest::parse(&bytes), Err(WireError::Family(2)));
}

#[test]
fn scope_and_flow_stay_at_home() {
    let scoped: SocketAddr = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 7, 3, 9).into();
    let plain = SocketAddr::from((Ipv6Addr::LOCALHOST, 7));
    let parsed = ConnectRequest::parse(&ConnectRequest { source: scoped, target: scoped }.encode());
    assert_eq!(parsed, Ok(ConnectRequest { source: plain, target: plain }));
}

#[test]
fn every_length_but_the_right_one_is_refused() {
    let bytes = [4; 300];
    for length in (0..=300).filter(|&length| length != CONNECT_REQUEST_SIZE) {
        let refused = ConnectRequest::parse(&bytes[..length]);
        assert_eq!(refused, Err(WireError::Length { message: MessageType::ConnectRequest, length }));
    }
    for length in (0..8).chain(265..300) {
        let refused = SessionOffer::parse(&[0; 300][..length]);
        assert_eq!(refused, Err(WireError::Length { message: MessageType::Session, length }));
    }
}

#[test]
fn private_data_has_a_limit_and_the_reserved_field_is_zero() {
    let long = SessionOffer { receive_size: 1, private: &[0; MAX_PRIVATE_DATA + 1] };
    let refused = ControlMessage::session(&long, 1);
    assert_eq!(refused, Err(WireError::Length { message: MessageType::Session, length: 265 }));
    for at in 4..8 {
        let mut bytes = [0; 8];
        bytes[at] = 1;
        assert_eq!(SessionOffer::parse(&bytes), Err(WireError::Reserved));
    }
}

#[test]
fn an_error_says_what_is_wrong() {
    let error = WireError::Length { message: MessageType::Session, length: 265 };
    assert_eq!(format!("{error}"), "Session with a payload of 265 bytes");
    assert_eq!(format!("{}", WireError::Magic(0x2054_5448)), "not this protocol: it starts with 0x20545448");
}
