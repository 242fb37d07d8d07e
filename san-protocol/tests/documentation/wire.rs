//! `docs/wire.md`.

use crate::page::{Table, number, section, sections};
use san_protocol::wire::{
    CONNECT_REQUEST_SIZE, ConnectRequest, ControlMessage, HEADER_SIZE, Header, MAX_CREDITS, MAX_PRIVATE_DATA,
    MessageType, REJECT_SIZE, RejectReason, SESSION_FIXED_SIZE, SessionOffer, WireError,
};
use std::net::SocketAddr;
use std::ops::Range;

const PAGE: &str = include_str!("../../../docs/wire.md");

/// The bytes of each field, which lie one behind the other; the last one may be of any length.
fn fields<'a>(table: &Table<'a>) -> Vec<(&'a str, Range<usize>)> {
    let mut end = 0;
    let mut fields = Vec::new();
    for row in &table.rows {
        assert_eq!(number(row[0]), end, "{} does not lie behind the field before it", row[2]);
        let size = row[1].rsplit(' ').next().expect("a size");
        fields.push((row[2], end..end + number(size)));
        end += number(size);
    }
    fields
}

/// The positions at which two messages differ.
fn differences(one: &[u8], other: &[u8]) -> Vec<usize> {
    assert_eq!(one.len(), other.len());
    (0..one.len()).filter(|&at| one[at] != other[at]).collect()
}

#[test]
fn the_fields_of_the_header_are_where_they_are_described() {
    let table = section(PAGE, "Header, 16 bytes").table("offset");
    let fields = fields(&table);
    assert_eq!(fields.last().expect("fields").1.end, HEADER_SIZE);
    let header = Header { message: MessageType::Data, length: 0, credits: 0 };
    for (name, range) in &fields {
        for at in range.clone() {
            let mut bytes = header.encode();
            bytes[at] ^= 1;
            let parsed = Header::parse(&bytes);
            let as_described = match *name {
                "magic" => matches!(parsed, Err(WireError::Magic(_))),
                "version" => matches!(parsed, Err(WireError::Version(_))),
                // 5 ^ 1 is 4, a session, which has a payload.
                "type" => parsed == Err(WireError::Length { message: MessageType::Session, length: 0 }),
                "flags" => matches!(parsed, Err(WireError::Flags(_))),
                "length" => parsed == Ok(Header { length: 1 << (8 * (at - range.start)), ..header }),
                "credits" if at == range.end - 1 => {
                    parsed == Ok(Header { credits: MAX_CREDITS, ..header }) && MAX_CREDITS == 1 << 24
                }
                "credits" => parsed == Ok(Header { credits: 1 << (8 * (at - range.start)), ..header }),
                other => panic!("no field {other}"),
            };
            assert!(as_described, "{name}, byte {at}: {parsed:?}");
        }
    }
    assert_eq!(fields.len(), 6);
    assert!(PAGE.contains(&MAX_CREDITS.to_string()));
}

/// The numbers that a cell allows: one, a range, all of them, or all but 0.
fn allows(cell: &str, value: u32) -> bool {
    match (cell, cell.split_once(" to ")) {
        ("any", _) => true,
        ("not 0", _) => value != 0,
        (_, Some((least, most))) => (number(least)..=number(most)).contains(&(value as usize)),
        (one, None) => number(one) == value as usize,
    }
}

#[test]
fn every_message_is_described_with_its_lengths_and_credits() {
    let table = section(PAGE, "Messages").table("type");
    let described: Vec<_> = table.rows.iter().map(|row| (number(row[0]), row[1].to_owned())).collect();
    let real: Vec<_> = MessageType::ALL.iter().map(|&one| (one as usize, format!("{one:?}"))).collect();
    assert_eq!(described, real);
    for (row, &message) in table.rows.iter().zip(MessageType::ALL) {
        for length in 0..400 {
            for credits in [0, 1, 1000, MAX_CREDITS] {
                let legal = Header::parse(&Header { message, length, credits }.encode()).is_ok();
                let described = allows(row[2], length) && allows(row[3], credits);
                assert_eq!(legal, described, "{message:?} of {length} bytes with {credits} credits");
            }
        }
        assert!(row[4].len() > 20, "who sends {message:?}, and when");
    }
}

#[test]
fn the_fields_of_a_connect_request_are_where_they_are_described() {
    let title = format!("ConnectRequest, {CONNECT_REQUEST_SIZE} bytes");
    let fields = fields(&section(PAGE, &title).table("offset"));
    assert_eq!(fields.last().expect("fields").1.end, CONNECT_REQUEST_SIZE);
    let v4 = |octets: [u8; 4], port: u16| SocketAddr::from((octets, port));
    let v6 = |octets: [u8; 16], port: u16| SocketAddr::from((octets, port));
    let original = [v6([1; 16], 0x0101), v6([1; 16], 0x0101)];
    let encode = |[source, target]: [SocketAddr; 2]| ConnectRequest { source, target }.encode();
    for (index, end) in ["source", "target"].into_iter().enumerate() {
        let range_of = |field: &str| {
            let name = format!("{end} {field}");
            fields.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}")).1.clone()
        };
        let changed = |to: SocketAddr| {
            let mut other = original;
            other[index] = to;
            differences(&encode(original), &encode(other))
        };
        assert_eq!(changed(v6([1; 16], 0x0202)), range_of("port").collect::<Vec<_>>());
        assert_eq!(changed(v6([2; 16], 0x0101)), range_of("address").collect::<Vec<_>>());
        // The family is a small number: only its low byte differs; and IPv4 leaves zeros.
        let address = range_of("address");
        let mut expected = vec![range_of("family").start];
        expected.extend(address.start + 4..address.end);
        assert_eq!(changed(v4([1; 4], 0x0101)), expected);
        assert_eq!(range_of("family").len(), 2);
    }
    assert_eq!(fields.len(), 6);
}

#[test]
fn every_reason_is_described() {
    let section = section(PAGE, &format!("Reject, {REJECT_SIZE} bytes"));
    assert_eq!(fields(&section.table("offset")), [("reason", 0..REJECT_SIZE)]);
    let described: Vec<_> =
        section.table("number").rows.iter().map(|row| (number(row[0]), row[1].to_owned())).collect();
    let real: Vec<_> = RejectReason::ALL.iter().map(|&one| (one as usize, format!("{one:?}"))).collect();
    assert_eq!(described, real);
}

#[test]
fn the_fields_of_a_session_are_where_they_are_described() {
    let fields =
        fields(&section(PAGE, &format!("Session, {SESSION_FIXED_SIZE} bytes and private data")).table("offset"));
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["receive size", "reserved", "private data"]);
    assert_eq!(fields[2].1, SESSION_FIXED_SIZE..SESSION_FIXED_SIZE + MAX_PRIVATE_DATA);
    let payload = |receive_size, private: &[u8]| {
        let message = ControlMessage::session(&SessionOffer { receive_size, private }, 1).expect("it fits");
        message.as_bytes()[HEADER_SIZE..].to_vec()
    };
    let original = payload(0, &[0; MAX_PRIVATE_DATA]);
    let size_changed = differences(&original, &payload(u32::MAX, &[0; MAX_PRIVATE_DATA]));
    assert_eq!(size_changed, fields[0].1.clone().collect::<Vec<_>>());
    let private_changed = differences(&original, &payload(0, &[1; MAX_PRIVATE_DATA]));
    assert_eq!(private_changed, fields[2].1.clone().collect::<Vec<_>>());
    for at in fields[1].1.clone() {
        let mut wrong = original.clone();
        wrong[at] = 1;
        assert_eq!(SessionOffer::parse(&wrong), Err(WireError::Reserved));
    }
}

#[test]
fn the_page_tells_the_life_of_a_connection() {
    let life = section(PAGE, "The life of a connection").lines.join("\n");
    for message in MessageType::ALL {
        assert!(life.contains(&format!("{message:?}")), "{message:?} is not in it");
    }
    let titles: Vec<_> = sections(PAGE).iter().map(|section| section.title).collect();
    assert!(titles.contains(&"Credits") && titles.contains(&"Violations"), "{titles:?}");
}
