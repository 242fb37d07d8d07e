//! `docs/ioctl.md`.

use crate::page::{Section, number, section, sections};
use san_protocol::control::{Access, Method, Structure};
use san_protocol::{
    ALL_HANDLES, ControlCode, DISCONNECT_ABORTIVE, Decision, ENDPOINTS_OF_ALL_HANDLES, EndpointKind, EndpointState,
    FD_ACCEPT, FD_CONNECT, Field, LAYOUTS, Layout, MEMORY_RECEIVE, MEMORY_SEND, NtStatus, PROTOCOL_VERSION,
    ProviderState, RECEIVE_ALL, ROUTE_FROM_REGISTRY, ROUTE_SAN_ONLY, SOMAXCONN, SocketAddress, SocketOption, WsaError,
    wire, wsa_error,
};
use std::fmt::Debug;

const PAGE: &str = include_str!("../../../docs/ioctl.md");

/// The address is no macro's.
const SOCKET_ADDRESS: Layout = Layout {
    name: "SocketAddress",
    size: size_of::<SocketAddress>(),
    fields: &[
        Field { name: "family", offset: std::mem::offset_of!(SocketAddress, family), size: 2 },
        Field { name: "port", offset: std::mem::offset_of!(SocketAddress, port), size: 2 },
        Field { name: "rest", offset: std::mem::offset_of!(SocketAddress, rest), size: 24 },
    ],
};

fn link(structure: Structure) -> String {
    let Structure { name, size } = structure;
    match name {
        "()" => "none".to_owned(),
        _ => format!("[`{name}`](#{}-{size}-bytes)", name.to_lowercase()),
    }
}

#[test]
fn every_request_is_described_by_its_code() {
    for code in ControlCode::ALL {
        let section = section(PAGE, &format!("{code:?}"));
        let method = match code.method() {
            Method::Buffered => "METHOD_BUFFERED",
            Method::InDirect => "METHOD_IN_DIRECT",
            Method::OutDirect => "METHOD_OUT_DIRECT",
        };
        let access = match code.access() {
            Access::Any => "no access asked for",
            Access::ReadWrite => "read and write access",
        };
        let described = format!(
            "`{}` = 0x{:08X}: function 0x{:X}, {method}, {access}. Input: {}. Output: {}.",
            code.constant_name(),
            code.value(),
            (code.value() >> 2) & 0xFFF,
            link(code.input()),
            link(code.output())
        );
        let text = section.lines.join(" ");
        assert!(text.contains(&described), "{code:?} is not described by\n{described}\nbut by\n{text}");
        assert_ne!(section.line("Allowed: ").trim_end(), "Allowed:", "{code:?}: in which states");
    }
}

#[test]
fn no_request_is_described_that_there_is_not() {
    let described = sections(PAGE).iter().filter(|section| section.lines.join(" ").contains("Allowed: ")).count();
    assert_eq!(described, ControlCode::ALL.len());
}

#[test]
fn every_structure_is_described_as_it_lies() {
    let structures = || LAYOUTS.iter().chain([&SOCKET_ADDRESS]);
    for Layout { name, size, fields } in structures() {
        let table = section(PAGE, &format!("`{name}`, {size} bytes")).table("offset");
        assert_eq!(table.columns, ["offset", "size", "field", "meaning"]);
        let described: Vec<_> = table.rows.iter().map(|row| (number(row[0]), number(row[1]), row[2])).collect();
        let real: Vec<_> = fields.iter().map(|field| (field.offset, field.size, field.name)).collect();
        assert_eq!(described, real, "{name}");
    }
    let described = sections(PAGE).iter().filter(|section| section.title.ends_with(" bytes")).count();
    assert_eq!(described, structures().count());
}

fn check_numbers<T: Copy + Debug>(all: &[T], number_of: impl Fn(T) -> u32, name: &str) {
    let table = section(PAGE, &format!("`{name}`")).table("number");
    let described: Vec<_> = table.rows.iter().map(|row| (number(row[0]), row[1].to_owned())).collect();
    let real: Vec<_> = all.iter().map(|&one| (number_of(one) as usize, format!("{one:?}"))).collect();
    assert_eq!(described, real, "{name}");
}

#[test]
fn every_number_is_described() {
    check_numbers(EndpointKind::ALL, |one| one as u32, "EndpointKind");
    check_numbers(EndpointState::ALL, |one| one as u32, "EndpointState");
    check_numbers(Decision::ALL, |one| one as u32, "Decision");
    check_numbers(ProviderState::ALL, |one| one as u32, "ProviderState");
    check_numbers(SocketOption::ALL, |one| one as u32, "SocketOption");
    let table = section(PAGE, "Constants").table("name");
    let described: Vec<_> = table.rows.iter().map(|row| (row[0], number(row[1]))).collect();
    let real = [
        ("PROTOCOL_VERSION", PROTOCOL_VERSION),
        ("RECEIVE_ALL", RECEIVE_ALL),
        ("DISCONNECT_ABORTIVE", DISCONNECT_ABORTIVE),
        ("SOMAXCONN", SOMAXCONN),
        ("FD_ACCEPT", FD_ACCEPT),
        ("FD_CONNECT", FD_CONNECT),
        ("ENDPOINTS_OF_ALL_HANDLES", ENDPOINTS_OF_ALL_HANDLES),
        ("ALL_HANDLES", ALL_HANDLES),
        ("ROUTE_SAN_ONLY", ROUTE_SAN_ONLY),
        ("ROUTE_FROM_REGISTRY", ROUTE_FROM_REGISTRY),
        ("MEMORY_SEND", MEMORY_SEND),
        ("MEMORY_RECEIVE", MEMORY_RECEIVE),
        ("MAX_PRIVATE_DATA", u32::try_from(wire::MAX_PRIVATE_DATA).unwrap()),
    ];
    assert_eq!(described, real.map(|(name, value)| (name, value as usize)));
}

/// The status that a cell names.
fn status(cell: &str) -> NtStatus {
    let mut named = NtStatus::NAMED.iter().filter(|status| status.name() == Some(cell));
    *named.next().unwrap_or_else(|| panic!("no status {cell}"))
}

/// Every row that says what error a status becomes.
fn statuses<'a>(section: &Section<'a>) -> Vec<Vec<&'a str>> {
    let tables = section.tables().into_iter().filter(|table| table.columns[..2] == ["status", "WSA error"]);
    tables.flat_map(|table| table.rows).collect()
}

#[test]
fn statuses_become_the_errors_that_are_described() {
    let mut rows = 0;
    for section in sections(PAGE) {
        let mut seen = Vec::new();
        for row in statuses(&section) {
            let status = status(row[0]);
            assert_eq!(wsa_error(status).name(), Some(row[1]), "{} in {}", row[0], section.title);
            assert!(!seen.contains(&status), "{} twice in {}", row[0], section.title);
            assert!(!row[2].is_empty());
            seen.push(status);
            rows += 1;
        }
    }
    assert!(rows > 100, "{rows} rows were read");
}

#[test]
fn the_table_of_statuses_is_complete() {
    let table = section(PAGE, "Statuses").table("status");
    let described: Vec<_> = table.rows.iter().map(|row| status(row[0])).collect();
    for named in NtStatus::NAMED {
        assert_eq!(described.iter().filter(|status| *status == named).count(), 1, "{named}");
    }
    for row in &table.rows {
        let (status, error) = (status(row[0]), wsa_error(status(row[0])));
        assert_eq!(format!("0x{:08X}", status.0), row[1], "{}", row[0]);
        assert_eq!((error.name(), error.0.to_string().as_str()), (Some(row[2]), row[3]), "{}", row[0]);
    }
}

#[test]
fn every_name_of_a_status_or_error_exists() {
    let words = PAGE.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    for word in words {
        if word.starts_with("STATUS_") {
            status(word);
        } else if word.starts_with("WSA") && word != "WSA" && !word.starts_with("WSAEvent") {
            assert!(WsaError::NAMED.iter().any(|error| error.name() == Some(word)), "{word}");
        }
    }
}
