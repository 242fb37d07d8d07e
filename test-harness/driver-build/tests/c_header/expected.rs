//! What the header has to say, made from the Rust types, as a program in the language that C and C++ share.

use san_protocol::{
    ALL_HANDLES, ControlCode, DEVICE_NAME, DEVICE_PATH, DISCONNECT_ABORTIVE, Decision, ENDPOINTS_OF_ALL_HANDLES,
    EndpointKind, EndpointState, FD_ACCEPT, FD_CONNECT, Field, LAYOUTS, Layout, MEMORY_RECEIVE, MEMORY_RIGHTS,
    MEMORY_SEND, NETWORK_EVENTS, NtStatus, PROTOCOL_VERSION, ProviderState, RECEIVE_ALL, ROUTE_FROM_REGISTRY,
    ROUTE_SAN_ONLY, SOMAXCONN, SYMBOLIC_LINK, SocketAddress, SocketOption, WsaError, control, wire, wsa_error,
};
use std::{
    fmt::{Debug, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

const LIMITS: &str = include_str!("../../../../docs/limits.md");

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

/// Assertions for the compiler, and statements of a program for what only a running one can tell.
pub(crate) struct Expected {
    assertions: String,
    statements: String,
}

impl Expected {
    pub(crate) fn of_the_protocol() -> Self {
        let mut expected = Self { assertions: String::new(), statements: String::new() };
        expected.structures();
        expected.numbers();
        expected.statuses();
        for (name, value) in [
            ("SANWSK_DEVICE_PATH", DEVICE_PATH),
            ("SANWSK_SYMBOLIC_LINK", SYMBOLIC_LINK),
            ("SANWSK_DEVICE_NAME", DEVICE_NAME),
        ] {
            expected.holds(&format!("wcscmp({name}, L{value:?}) == 0"), name);
        }
        expected
    }

    /// What a compiler can tell by itself.
    pub(crate) fn assertions(&self) -> String {
        format!(
            "#include <stddef.h>\n\
             #ifdef __cplusplus\n#define CHECK(condition, what) static_assert(condition, what)\n\
             #else\n#define CHECK(condition, what) _Static_assert(condition, what)\n#endif\n{}",
            self.assertions
        )
    }

    /// All of it, but for the lines that include the header.
    pub(crate) fn program(&self) -> String {
        format!(
            "{}#include <stdio.h>\n#include <string.h>\n#include <wchar.h>\n\
             int main(void)\n{{\n    int wrong = 0;\n{}    return wrong;\n}}\n",
            self.assertions(),
            self.statements
        )
    }

    fn asserts(&mut self, condition: &str, what: &str) {
        writeln!(self.assertions, "CHECK({condition}, \"{what}\");").expect("a string takes it");
    }

    fn holds(&mut self, condition: &str, what: &str) {
        writeln!(self.statements, "    if (!({condition})) {{ puts(\"{what}\"); wrong = 1; }}")
            .expect("a string takes it");
    }

    fn is(&mut self, name: &str, value: u32) {
        self.asserts(&format!("(uint32_t)({name}) == {value:#X}u"), name);
    }

    fn structures(&mut self) {
        for Layout { name, size, fields } in LAYOUTS.iter().chain([&SOCKET_ADDRESS]) {
            let name = format!("SANWSK_{}", screaming(name));
            self.asserts(&format!("sizeof({name}) == {size} && sizeof(*(P{name})0) == {size}"), &name);
            for Field { name: field, offset, size } in *fields {
                let field = pascal(field);
                let what = format!("{name}.{field}");
                self.asserts(&format!("offsetof({name}, {field}) == {offset}"), &what);
                self.asserts(&format!("sizeof((({name} *)0)->{field}) == {size}"), &what);
            }
        }
        self.asserts(&format!("sizeof(SANWSK_ENDPOINT_ID) == {}", size_of::<san_protocol::EndpointId>()), "endpoint");
    }

    fn numbers(&mut self) {
        for code in ControlCode::ALL {
            self.is(code.constant_name(), code.value());
        }
        self.enumeration(EndpointKind::ALL, "EndpointKind", |one| one as u32);
        self.enumeration(EndpointState::ALL, "EndpointState", |one| one as u32);
        self.enumeration(Decision::ALL, "Decision", |one| one as u32);
        self.enumeration(ProviderState::ALL, "ProviderState", |one| one as u32);
        self.enumeration(SocketOption::ALL, "SocketOption", |one| one as u32);
        let family = |address: SocketAddr| u32::from(SocketAddress::from(address).family);
        for (name, value) in [
            ("FILE_DEVICE_SANWSK", control::FILE_DEVICE_SANWSK),
            ("SANWSK_PROTOCOL_VERSION", PROTOCOL_VERSION),
            ("SANWSK_AF_INET", family((Ipv4Addr::LOCALHOST, 1).into())),
            ("SANWSK_AF_INET6", family((Ipv6Addr::LOCALHOST, 1).into())),
            ("SANWSK_RECEIVE_ALL", RECEIVE_ALL),
            ("SANWSK_DISCONNECT_ABORTIVE", DISCONNECT_ABORTIVE),
            ("SANWSK_ENDPOINTS_OF_ALL_HANDLES", ENDPOINTS_OF_ALL_HANDLES),
            ("SANWSK_ALL_HANDLES", ALL_HANDLES),
            ("SANWSK_ROUTE_SAN_ONLY", ROUTE_SAN_ONLY),
            ("SANWSK_ROUTE_FROM_REGISTRY", ROUTE_FROM_REGISTRY),
            ("SANWSK_SOMAXCONN", SOMAXCONN),
            ("SANWSK_FD_ACCEPT", FD_ACCEPT),
            ("SANWSK_FD_CONNECT", FD_CONNECT),
            ("SANWSK_NETWORK_EVENTS", NETWORK_EVENTS),
            ("SANWSK_MEMORY_SEND", MEMORY_SEND),
            ("SANWSK_MEMORY_RECEIVE", MEMORY_RECEIVE),
            ("SANWSK_MEMORY_RIGHTS", MEMORY_RIGHTS),
            ("SANWSK_MAX_PRIVATE_DATA", u32::try_from(wire::MAX_PRIVATE_DATA).expect("it is small")),
            ("SANWSK_DEFAULT_MAX_MESSAGE_SIZE", default_of("MaxMessageSize")),
            ("SANWSK_DEFAULT_MAX_BACKLOG", default_of("MaxBacklog")),
            ("SANWSK_DEFAULT_CONNECT_TIMEOUT", default_of("ConnectTimeout")),
            ("SANWSK_DEFAULT_NATIVE_PORT", default_of("NativePort")),
        ] {
            self.is(name, value);
        }
    }

    fn enumeration<T: Copy + Debug>(&mut self, all: &[T], name: &str, number: impl Fn(T) -> u32) {
        let of = format!("SANWSK_{}", screaming(name));
        for &one in all {
            self.is(&format!("({of})SanWsk{name}{one:?}"), number(one));
        }
    }

    fn statuses(&mut self) {
        for error in WsaError::NAMED {
            self.is(error.name().expect("it is one of the named"), error.0 as u32);
        }
        for &status in NtStatus::NAMED {
            let name = status.name().expect("it is one of the named");
            self.is(name, status.0 as u32);
            self.becomes(&format!("(int32_t){name}"), status, name);
            let named = format!("SanWskStatusName((int32_t){name})");
            self.holds(&format!("{named} && strcmp({named}, \"{name}\") == 0"), name);
        }
        for value in [0x0000_0001_u32, 0x4000_0000, 0x8000_0001, 0xC0FF_EE00] {
            let status = NtStatus(value as i32);
            assert_eq!(status.name(), None);
            self.becomes(&format!("(int32_t){value:#X}"), status, &format!("{value:#X}"));
            self.holds(&format!("!SanWskStatusName((int32_t){value:#X})"), &format!("name of {value:#X}"));
        }
    }

    fn becomes(&mut self, expression: &str, status: NtStatus, what: &str) {
        self.holds(&format!("SanWskWsaError({expression}) == {}", wsa_error(status).0), what);
    }
}

/// Names that the header defines and a program does not mention.
pub(crate) fn unchecked_names(header: &str, program: &str) -> Vec<String> {
    /// Machinery, and what is checked by what is made of it.
    const NOT_OF_THE_PROTOCOL: [&str; 12] = [
        "SANWSK_H",
        "SANWSK_STATIC_ASSERT",
        "SANWSK_STATUSES",
        "SANWSK_ROW",
        "WIN32_LEAN_AND_MEAN",
        "CTL_CODE",
        "METHOD_BUFFERED",
        "METHOD_IN_DIRECT",
        "METHOD_OUT_DIRECT",
        "FILE_ANY_ACCESS",
        "FILE_READ_ACCESS",
        "FILE_WRITE_ACCESS",
    ];
    let first_word = |text: &str| text.split(|c: char| !is_word(c)).next().unwrap_or_default().to_owned();
    let defined = header.lines().filter_map(|line| {
        let line = line.trim_start();
        let enumerator = line.starts_with("SanWsk") && line.contains(" = ");
        let name =
            line.strip_prefix("#define ").or_else(|| line.strip_prefix("} ")).or_else(|| enumerator.then_some(line));
        name.map(first_word).filter(|name| !name.is_empty())
    });
    let checked: Vec<&str> = program.split(|c: char| !is_word(c)).collect();
    let known = |name: &String| checked.contains(&name.as_str()) || NOT_OF_THE_PROTOCOL.contains(&name.as_str());
    defined.filter(|name| !known(name)).collect()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The default that the page of limits has for a registry value.
fn default_of(value: &str) -> u32 {
    let row = LIMITS.lines().find(|line| line.starts_with(&format!("| `{value}` |")));
    let cells: Vec<&str> = row.unwrap_or_else(|| panic!("no {value}")).split('|').map(str::trim).collect();
    cells[3].parse().unwrap_or_else(|error| panic!("{value}: {error}"))
}

/// `VersionReply` as C writes it: `VERSION_REPLY`.
fn screaming(name: &str) -> String {
    let mut all = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !all.is_empty() {
            all.push('_');
        }
        all.push(letter.to_ascii_uppercase());
    }
    all
}

/// `in_use` as Windows' structures write it: `InUse`.
fn pascal(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}
