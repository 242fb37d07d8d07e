//! Network addresses as text (ip2string.h) of one byte a character, and whole texts with ports and scopes.
#![allow(unsafe_code)] // writes the caller's out parameters

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::ptr;

use super::conversion::{
    RtlIpv4AddressToStringExW, RtlIpv4AddressToStringW, RtlIpv4StringToAddressW, RtlIpv6AddressToStringExW,
    RtlIpv6AddressToStringW, RtlIpv6StringToAddressW,
};
use super::irql::called;
use super::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use super::strings::{narrow, put_byte, units};
use super::types::{NTSTATUS, PASSIVE_LEVEL};
use crate::image::Export;

/// Units of the longest address with everything, and its terminator (INET6_ADDRSTRLEN).
const LONGEST: usize = 65;

/// Narrows what a function of the other width has stored; how many characters there are.
fn store(units: &[u16], to: *mut u8) -> usize {
    let length = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    for (index, unit) in units[..length].iter().chain([&0]).enumerate() {
        put_byte(to.wrapping_add(index), unit.to_le_bytes()[0]);
    }
    length
}

pub(crate) extern "win64" fn RtlIpv4AddressToStringA(address: &[u8; 4], to: *mut u8) -> *mut u8 {
    called("RtlIpv4AddressToStringA", PASSIVE_LEVEL);
    let mut text = [0_u16; LONGEST];
    RtlIpv4AddressToStringW(address, text.as_mut_ptr());
    to.wrapping_add(store(&text, to))
}

pub(crate) extern "win64" fn RtlIpv6AddressToStringA(address: &[u8; 16], to: *mut u8) -> *mut u8 {
    called("RtlIpv6AddressToStringA", PASSIVE_LEVEL);
    let mut text = [0_u16; LONGEST];
    RtlIpv6AddressToStringW(address, text.as_mut_ptr());
    to.wrapping_add(store(&text, to))
}

pub(crate) extern "win64" fn RtlIpv4AddressToStringExA(
    address: &[u8; 4],
    port: u16,
    to: *mut u8,
    length: &Cell<u32>,
) -> NTSTATUS {
    called("RtlIpv4AddressToStringExA", PASSIVE_LEVEL);
    let mut text = [0_u16; LONGEST];
    let room = if to.is_null() { ptr::null_mut() } else { text.as_mut_ptr() };
    let status = RtlIpv4AddressToStringExW(address, port, room, length);
    if status == STATUS_SUCCESS {
        store(&text, to);
    }
    status
}

pub(crate) extern "win64" fn RtlIpv6AddressToStringExA(
    address: &[u8; 16],
    scope: u32,
    port: u16,
    to: *mut u8,
    length: &Cell<u32>,
) -> NTSTATUS {
    called("RtlIpv6AddressToStringExA", PASSIVE_LEVEL);
    let mut text = [0_u16; LONGEST];
    let room = if to.is_null() { ptr::null_mut() } else { text.as_mut_ptr() };
    let status = RtlIpv6AddressToStringExW(address, scope, port, room, length);
    if status == STATUS_SUCCESS {
        store(&text, to);
    }
    status
}

/// The text in the other width, with its terminator.
fn widened(from: *const u8) -> Vec<u16> {
    narrow(from, LONGEST).into_iter().map(u16::from).chain([0]).collect()
}

/// The place in the caller's text of one in the widened.
fn place(wide: &[u16], end: *const u16, from: *const u8) -> *const u8 {
    from.wrapping_add((end as usize - wide.as_ptr() as usize) / 2)
}

pub(crate) extern "win64" fn RtlIpv4StringToAddressA(
    from: *const u8,
    strict: u8,
    terminator: &Cell<*const u8>,
    address: &mut [u8; 4],
) -> NTSTATUS {
    called("RtlIpv4StringToAddressA", PASSIVE_LEVEL);
    let (wide, end) = (widened(from), Cell::new(ptr::null()));
    let status = RtlIpv4StringToAddressW(wide.as_ptr(), strict, &end, address);
    terminator.set(place(&wide, end.get(), from));
    status
}

pub(crate) extern "win64" fn RtlIpv6StringToAddressA(
    from: *const u8,
    terminator: &Cell<*const u8>,
    address: &mut [u8; 16],
) -> NTSTATUS {
    called("RtlIpv6StringToAddressA", PASSIVE_LEVEL);
    let (wide, end) = (widened(from), Cell::new(ptr::null()));
    let status = RtlIpv6StringToAddressW(wide.as_ptr(), &end, address);
    terminator.set(place(&wide, end.get(), from));
    status
}

/// An address of four bytes, and its port in network order: 0 if the text has none.
fn parse_v4(text: &str) -> Option<([u8; 4], u16)> {
    let whole = text.parse::<SocketAddrV4>().map(|whole| (whole.ip().octets(), whole.port().to_be()));
    whole.ok().or_else(|| Some((text.parse::<Ipv4Addr>().ok()?.octets(), 0)))
}

/// An address of sixteen bytes, its scope, and its port in network order.
fn parse_v6(text: &str) -> Option<([u8; 16], u32, u16)> {
    let (inner, port) = match text.strip_prefix('[') {
        None => (text, 0),
        Some(rest) => {
            let (inner, behind) = rest.split_once(']')?;
            let port = if behind.is_empty() { 0 } else { behind.strip_prefix(':')?.parse().ok()? };
            (inner, port)
        }
    };
    let (address, scope) = match inner.split_once('%') {
        None => (inner, 0),
        Some((address, scope)) => (address, scope.parse().ok()?),
    };
    Some((address.parse::<Ipv6Addr>().ok()?.octets(), scope, u16::to_be(port)))
}

fn store_v4(text: &str, address: &mut [u8; 4], port: &Cell<u16>) -> NTSTATUS {
    let Some((parsed, number)) = parse_v4(text) else { return STATUS_INVALID_PARAMETER };
    *address = parsed;
    port.set(number);
    STATUS_SUCCESS
}

fn store_v6(text: &str, address: &mut [u8; 16], scope: &Cell<u32>, port: &Cell<u16>) -> NTSTATUS {
    let Some((parsed, zone, number)) = parse_v6(text) else { return STATUS_INVALID_PARAMETER };
    *address = parsed;
    scope.set(zone);
    port.set(number);
    STATUS_SUCCESS
}

fn text_of(from: *const u16) -> String {
    String::from_utf16_lossy(&units(from, LONGEST))
}

fn narrow_text_of(from: *const u8) -> String {
    String::from_utf8_lossy(&narrow(from, LONGEST)).into_owned()
}

pub(crate) extern "win64" fn RtlIpv4StringToAddressExW(
    from: *const u16,
    _strict: u8,
    address: &mut [u8; 4],
    port: &Cell<u16>,
) -> NTSTATUS {
    called("RtlIpv4StringToAddressExW", PASSIVE_LEVEL);
    store_v4(&text_of(from), address, port)
}

pub(crate) extern "win64" fn RtlIpv4StringToAddressExA(
    from: *const u8,
    _strict: u8,
    address: &mut [u8; 4],
    port: &Cell<u16>,
) -> NTSTATUS {
    called("RtlIpv4StringToAddressExA", PASSIVE_LEVEL);
    store_v4(&narrow_text_of(from), address, port)
}

pub(crate) extern "win64" fn RtlIpv6StringToAddressExW(
    from: *const u16,
    address: &mut [u8; 16],
    scope: &Cell<u32>,
    port: &Cell<u16>,
) -> NTSTATUS {
    called("RtlIpv6StringToAddressExW", PASSIVE_LEVEL);
    store_v6(&text_of(from), address, scope, port)
}

pub(crate) extern "win64" fn RtlIpv6StringToAddressExA(
    from: *const u8,
    address: &mut [u8; 16],
    scope: &Cell<u32>,
    port: &Cell<u16>,
) -> NTSTATUS {
    called("RtlIpv6StringToAddressExA", PASSIVE_LEVEL);
    store_v6(&narrow_text_of(from), address, scope, port)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlIpv4AddressToStringA,
    RtlIpv6AddressToStringA,
    RtlIpv4AddressToStringExA,
    RtlIpv6AddressToStringExA,
    RtlIpv4StringToAddressA,
    RtlIpv6StringToAddressA,
    RtlIpv4StringToAddressExW,
    RtlIpv4StringToAddressExA,
    RtlIpv6StringToAddressExW,
    RtlIpv6StringToAddressExA,
];
