//! Counted strings made from and turned into others: ANSI and Unicode, UTF-8, numbers, GUIDs, IP addresses.
//!
//! The ANSI code page is ISO 8859-1, the part of Windows-1252 that is the same as Unicode's first 256 characters.
#![allow(unsafe_code)] // GUIDs and addresses by pointer

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ptr;

use super::irql::called;
use super::pool::{self, Owner};
use super::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_NAME_TOO_LONG, STATUS_SOME_NOT_MAPPED, STATUS_SUCCESS,
};
use super::strings::{RtlInitAnsiString, code_units, narrow, put, put_byte, text, unit, units, upcase};
use super::types::{ANSI_STRING, DISPATCH_LEVEL, GUID, HIGH_LEVEL, NTSTATUS, PASSIVE_LEVEL, UNICODE_STRING};
use crate::image::Export;
use crate::thread::kernel;

const TAG: u32 = pool::tag(*b"Strg");

/// A block for a string that the function allocates. None if there is no memory.
fn allocate(size: usize) -> Option<*mut u8> {
    let kernel = kernel();
    if kernel.faults.allocation_fails() {
        return None;
    }
    kernel.pool.allocate(size, TAG, Owner::Driver, true).map(<*mut _>::cast)
}

fn put_units(to: *mut u16, values: &[u16]) {
    for (index, value) in values.iter().enumerate() {
        put(to.wrapping_add(index), *value);
    }
}

fn put_bytes(to: *mut u8, values: &[u8]) {
    for (index, value) in values.iter().enumerate() {
        put_byte(to.wrapping_add(index), *value);
    }
}

fn bytes_of(string: &ANSI_STRING) -> Vec<u8> {
    (0..usize::from(string.Length.get()))
        .map(|index| super::strings::byte(string.Buffer.get().wrapping_add(index)))
        .collect()
}

fn ansi(units: &[u16]) -> Vec<u8> {
    units.iter().map(|unit| u8::try_from(*unit).unwrap_or(b'?')).collect()
}

fn downcase(value: u16) -> u16 {
    let mut lower = char::from_u32(value.into()).unwrap_or('\0').to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(only), None) if value != 0 => u16::try_from(u32::from(only)).unwrap_or(value),
        _ => value,
    }
}

pub(crate) extern "win64" fn RtlInitString(destination: &ANSI_STRING, source: *mut u8) {
    called("RtlInitString", DISPATCH_LEVEL);
    RtlInitAnsiString(destination, source);
}

pub(crate) extern "win64" fn RtlInitUnicodeStringEx(destination: &UNICODE_STRING, source: *mut u16) -> NTSTATUS {
    called("RtlInitUnicodeStringEx", PASSIVE_LEVEL);
    let length = if source.is_null() { 0 } else { units(source, 0x8000).len() * 2 };
    if length > 0xfffc {
        return STATUS_NAME_TOO_LONG;
    }
    destination.Buffer.set(source);
    destination.Length.set(length as u16);
    destination.MaximumLength.set(if source.is_null() { 0 } else { length as u16 + 2 });
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlInitAnsiStringEx(destination: &ANSI_STRING, source: *mut u8) -> NTSTATUS {
    called("RtlInitAnsiStringEx", DISPATCH_LEVEL);
    /// The longest string that the structure can tell the size of.
    const LONGEST: usize = 0xfffe;
    if !source.is_null() && narrow(source, LONGEST + 1).len() > LONGEST {
        return STATUS_NAME_TOO_LONG;
    }
    RtlInitAnsiString(destination, source);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlUshortByteSwap(value: u16) -> u16 {
    called("RtlUshortByteSwap", HIGH_LEVEL);
    value.swap_bytes()
}

pub(crate) extern "win64" fn RtlUlongByteSwap(value: u32) -> u32 {
    called("RtlUlongByteSwap", HIGH_LEVEL);
    value.swap_bytes()
}

pub(crate) extern "win64" fn RtlUlonglongByteSwap(value: u64) -> u64 {
    called("RtlUlonglongByteSwap", HIGH_LEVEL);
    value.swap_bytes()
}

pub(crate) extern "win64" fn RtlUnicodeStringToAnsiString(
    destination: &ANSI_STRING,
    source: &UNICODE_STRING,
    allocates: u8,
) -> NTSTATUS {
    called("RtlUnicodeStringToAnsiString", PASSIVE_LEVEL);
    let bytes = ansi(&code_units(source));
    let Ok(maximum) = u16::try_from(bytes.len() + 1) else { return STATUS_INVALID_PARAMETER };
    if allocates != 0 {
        let Some(block) = allocate(maximum.into()) else { return STATUS_INSUFFICIENT_RESOURCES };
        destination.Buffer.set(block);
        destination.MaximumLength.set(maximum);
    } else if maximum > destination.MaximumLength.get() {
        return STATUS_BUFFER_OVERFLOW;
    }
    put_bytes(destination.Buffer.get(), &bytes);
    put_byte(destination.Buffer.get().wrapping_add(bytes.len()), 0);
    destination.Length.set(maximum - 1);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlFreeAnsiString(string: &ANSI_STRING) {
    called("RtlFreeAnsiString", PASSIVE_LEVEL);
    let buffer = string.Buffer.replace(ptr::null_mut());
    string.Length.set(0);
    string.MaximumLength.set(0);
    if !buffer.is_null() {
        pool::free(kernel(), buffer.cast(), 0);
    }
}

pub(crate) extern "win64" fn RtlxUnicodeStringToAnsiSize(source: &UNICODE_STRING) -> u32 {
    called("RtlxUnicodeStringToAnsiSize", PASSIVE_LEVEL);
    u32::from(source.Length.get() / 2) + 1
}

pub(crate) extern "win64" fn RtlxAnsiStringToUnicodeSize(source: &ANSI_STRING) -> u32 {
    called("RtlxAnsiStringToUnicodeSize", PASSIVE_LEVEL);
    (u32::from(source.Length.get()) + 1) * 2
}

/// A macro in the C headers, for single bytes, and a function for who does not use them.
pub(crate) extern "win64" fn RtlAnsiStringToUnicodeSize(source: &ANSI_STRING) -> u32 {
    RtlxAnsiStringToUnicodeSize(source)
}

/// Stores changed units of a string in another, or in a new buffer of it.
fn store_changed(
    destination: &UNICODE_STRING,
    source: &UNICODE_STRING,
    allocates: u8,
    change: fn(u16) -> u16,
) -> NTSTATUS {
    let changed: Vec<u16> = code_units(source).into_iter().map(change).collect();
    let length = source.Length.get() & !1;
    if allocates != 0 {
        let Some(block) = allocate(usize::from(length).max(2)) else { return STATUS_INSUFFICIENT_RESOURCES };
        destination.Buffer.set(block.cast());
        destination.MaximumLength.set(length);
    } else if length > destination.MaximumLength.get() {
        return STATUS_BUFFER_OVERFLOW;
    }
    put_units(destination.Buffer.get(), &changed);
    destination.Length.set(length);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlUpcaseUnicodeString(
    destination: &UNICODE_STRING,
    source: &UNICODE_STRING,
    allocates: u8,
) -> NTSTATUS {
    called("RtlUpcaseUnicodeString", PASSIVE_LEVEL);
    store_changed(destination, source, allocates, upcase)
}

pub(crate) extern "win64" fn RtlDowncaseUnicodeString(
    destination: &UNICODE_STRING,
    source: &UNICODE_STRING,
    allocates: u8,
) -> NTSTATUS {
    called("RtlDowncaseUnicodeString", PASSIVE_LEVEL);
    store_changed(destination, source, allocates, downcase)
}

pub(crate) extern "win64" fn RtlDowncaseUnicodeChar(value: u16) -> u16 {
    called("RtlDowncaseUnicodeChar", PASSIVE_LEVEL);
    downcase(value)
}

pub(crate) extern "win64" fn RtlUpperChar(value: u8) -> u8 {
    called("RtlUpperChar", PASSIVE_LEVEL);
    u8::try_from(upcase(value.into())).unwrap_or(value)
}

pub(crate) extern "win64" fn RtlPrefixUnicodeString(
    first: &UNICODE_STRING,
    second: &UNICODE_STRING,
    insensitive: u8,
) -> u8 {
    called("RtlPrefixUnicodeString", PASSIVE_LEVEL);
    let fold = |value: u16| if insensitive == 0 { value } else { upcase(value) };
    let (prefix, whole) = (code_units(first), code_units(second));
    let same = prefix.iter().zip(&whole).all(|(a, b)| fold(*a) == fold(*b));
    u8::from(prefix.len() <= whole.len() && same)
}

pub(crate) extern "win64" fn RtlCompareString(first: &ANSI_STRING, second: &ANSI_STRING, insensitive: u8) -> i32 {
    called("RtlCompareString", PASSIVE_LEVEL);
    let fold = |value: u8| i32::from(if insensitive == 0 { value } else { value.to_ascii_uppercase() });
    let (first, second) = (bytes_of(first), bytes_of(second));
    let difference = first.iter().zip(&second).map(|(a, b)| fold(*a) - fold(*b)).find(|difference| *difference != 0);
    difference.unwrap_or(first.len() as i32 - second.len() as i32)
}

pub(crate) extern "win64" fn RtlEqualString(first: &ANSI_STRING, second: &ANSI_STRING, insensitive: u8) -> u8 {
    called("RtlEqualString", PASSIVE_LEVEL);
    u8::from(RtlCompareString(first, second, insensitive) == 0)
}

pub(crate) extern "win64" fn RtlCopyString(destination: &ANSI_STRING, source: Option<&ANSI_STRING>) {
    called("RtlCopyString", PASSIVE_LEVEL);
    let mut bytes = source.map(bytes_of).unwrap_or_default();
    bytes.truncate(destination.MaximumLength.get().into());
    put_bytes(destination.Buffer.get(), &bytes);
    destination.Length.set(bytes.len() as u16);
}

/// HASH_STRING_ALGORITHM_X65599, which is also the default.
pub(crate) extern "win64" fn RtlHashUnicodeString(
    string: &UNICODE_STRING,
    insensitive: u8,
    algorithm: u32,
    hash: &Cell<u32>,
) -> NTSTATUS {
    called("RtlHashUnicodeString", PASSIVE_LEVEL);
    if algorithm > 1 {
        return STATUS_INVALID_PARAMETER;
    }
    let fold = |value: u16| u32::from(if insensitive == 0 { value } else { upcase(value) });
    hash.set(
        code_units(string).into_iter().fold(0, |hash: u32, unit| hash.wrapping_mul(65599).wrapping_add(fold(unit))),
    );
    STATUS_SUCCESS
}

fn in_base(value: u64, base: u32) -> Option<String> {
    match base {
        0 | 10 => Some(value.to_string()),
        2 => Some(format!("{value:b}")),
        8 => Some(format!("{value:o}")),
        16 => Some(format!("{value:X}")),
        _ => None,
    }
}

fn store_number(value: u64, base: u32, string: &UNICODE_STRING) -> NTSTATUS {
    let Some(digits) = in_base(value, base) else { return STATUS_INVALID_PARAMETER };
    let digits: Vec<u16> = digits.encode_utf16().collect();
    let length = digits.len() * 2;
    if length > usize::from(string.MaximumLength.get()) {
        return STATUS_BUFFER_OVERFLOW;
    }
    put_units(string.Buffer.get(), &digits);
    string.Length.set(length as u16);
    if length + 2 <= usize::from(string.MaximumLength.get()) {
        put(string.Buffer.get().wrapping_add(digits.len()), 0);
    }
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlIntegerToUnicodeString(value: u32, base: u32, string: &UNICODE_STRING) -> NTSTATUS {
    called("RtlIntegerToUnicodeString", PASSIVE_LEVEL);
    store_number(value.into(), base, string)
}

pub(crate) extern "win64" fn RtlInt64ToUnicodeString(value: u64, base: u32, string: &UNICODE_STRING) -> NTSTATUS {
    called("RtlInt64ToUnicodeString", PASSIVE_LEVEL);
    store_number(value, base, string)
}

/// Base 0 goes by a prefix: `0x`, `0o` or `0b`.
pub(crate) extern "win64" fn RtlUnicodeStringToInteger(
    string: &UNICODE_STRING,
    base: u32,
    value: &Cell<u32>,
) -> NTSTATUS {
    called("RtlUnicodeStringToInteger", PASSIVE_LEVEL);
    let text = text(string);
    let text = text.trim_start_matches(|value: char| value <= ' ');
    let (minus, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed =
        [("0x", 16), ("0o", 8), ("0b", 2)].iter().find_map(|(prefix, base)| Some((rest.strip_prefix(prefix)?, *base)));
    let (digits, base) = match (base, prefixed) {
        (0, Some((digits, base))) => (digits, base),
        (0, None) => (rest, 10),
        (2 | 8 | 10 | 16, _) => (rest, base),
        _ => return STATUS_INVALID_PARAMETER,
    };
    let digits = digits.chars().map_while(|digit| digit.to_digit(base));
    let magnitude = digits.fold(0_u32, |value, digit| value.wrapping_mul(base).wrapping_add(digit));
    value.set(if minus { magnitude.wrapping_neg() } else { magnitude });
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlStringFromGUID(guid: &GUID, string: &UNICODE_STRING) -> NTSTATUS {
    called("RtlStringFromGUID", PASSIVE_LEVEL);
    let text = guid.to_string().to_uppercase();
    let values: Vec<u16> = text.encode_utf16().collect();
    let length = values.len() as u16 * 2;
    let Some(block) = allocate(usize::from(length) + 2) else { return STATUS_INSUFFICIENT_RESOURCES };
    put_units(block.cast(), &values);
    string.Buffer.set(block.cast());
    string.Length.set(length);
    string.MaximumLength.set(length + 2);
    STATUS_SUCCESS
}

fn parse_guid(text: &str) -> Option<GUID> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let parts: Vec<&str> = inner.split('-').collect();
    if parts.iter().map(|part| part.len()).ne([8, 4, 4, 4, 12]) || !inner.is_ascii() {
        return None;
    }
    let tail = parts[3..].concat();
    let mut data = [0; 8];
    for (index, byte) in data.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&tail[2 * index..2 * index + 2], 16).ok()?;
    }
    let word = |text| u16::from_str_radix(text, 16).ok();
    Some(GUID {
        Data1: u32::from_str_radix(parts[0], 16).ok()?,
        Data2: word(parts[1])?,
        Data3: word(parts[2])?,
        Data4: data,
    })
}

pub(crate) extern "win64" fn RtlGUIDFromString(string: &UNICODE_STRING, guid: &mut GUID) -> NTSTATUS {
    called("RtlGUIDFromString", PASSIVE_LEVEL);
    match parse_guid(&text(string)) {
        Some(parsed) => {
            *guid = parsed;
            STATUS_SUCCESS
        }
        None => STATUS_INVALID_PARAMETER,
    }
}

fn units_at(at: *const u16, bytes: u32) -> Vec<u16> {
    (0..bytes as usize / 2).map(|index| unit(at.wrapping_add(index))).collect()
}

fn bytes_at(at: *const u8, bytes: u32) -> Vec<u8> {
    (0..bytes as usize).map(|index| super::strings::byte(at.wrapping_add(index))).collect()
}

fn tell(size: Option<&Cell<u32>>, bytes: usize) {
    if let Some(size) = size {
        size.set(bytes as u32);
    }
}

pub(crate) extern "win64" fn RtlMultiByteToUnicodeN(
    to: *mut u16,
    room: u32,
    size: Option<&Cell<u32>>,
    from: *const u8,
    bytes: u32,
) -> NTSTATUS {
    called("RtlMultiByteToUnicodeN", PASSIVE_LEVEL);
    let mut values: Vec<u16> = bytes_at(from, bytes).into_iter().map(u16::from).collect();
    values.truncate(room as usize / 2);
    put_units(to, &values);
    tell(size, values.len() * 2);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn RtlUnicodeToMultiByteN(
    to: *mut u8,
    room: u32,
    size: Option<&Cell<u32>>,
    from: *const u16,
    bytes: u32,
) -> NTSTATUS {
    called("RtlUnicodeToMultiByteN", PASSIVE_LEVEL);
    let mut values = ansi(&units_at(from, bytes));
    values.truncate(room as usize);
    put_bytes(to, &values);
    tell(size, values.len());
    STATUS_SUCCESS
}

/// What both UTF-8 functions end with: no destination asks for the size alone.
fn end<T: Copy>(
    values: &[T],
    to: *mut T,
    room: u32,
    size: Option<&Cell<u32>>,
    lossy: bool,
    store: fn(*mut T, &[T]),
) -> NTSTATUS {
    let fits = if to.is_null() { values.len() } else { values.len().min(room as usize / size_of::<T>()) };
    if !to.is_null() {
        store(to, &values[..fits]);
    }
    tell(size, fits * size_of::<T>());
    if fits < values.len() {
        STATUS_BUFFER_TOO_SMALL
    } else if lossy {
        STATUS_SOME_NOT_MAPPED
    } else {
        STATUS_SUCCESS
    }
}

pub(crate) extern "win64" fn RtlUTF8ToUnicodeN(
    to: *mut u16,
    room: u32,
    size: Option<&Cell<u32>>,
    from: *const u8,
    bytes: u32,
) -> NTSTATUS {
    called("RtlUTF8ToUnicodeN", PASSIVE_LEVEL);
    let source = bytes_at(from, bytes);
    let lossy = std::str::from_utf8(&source).is_err();
    let values: Vec<u16> = String::from_utf8_lossy(&source).encode_utf16().collect();
    end(&values, to, room, size, lossy, put_units)
}

pub(crate) extern "win64" fn RtlUnicodeToUTF8N(
    to: *mut u8,
    room: u32,
    size: Option<&Cell<u32>>,
    from: *const u16,
    bytes: u32,
) -> NTSTATUS {
    called("RtlUnicodeToUTF8N", PASSIVE_LEVEL);
    let source = units_at(from, bytes);
    let lossy = String::from_utf16(&source).is_err();
    end(String::from_utf16_lossy(&source).as_bytes(), to, room, size, lossy, put_bytes)
}

/// Stores an address's text with its terminator; the place of the terminator.
fn store_address(address: &str, to: *mut u16) -> *mut u16 {
    let values: Vec<u16> = address.encode_utf16().chain([0]).collect();
    put_units(to, &values);
    to.wrapping_add(values.len() - 1)
}

/// As above, with the length in characters, terminator and all, in and out.
fn store_address_within(address: &str, to: *mut u16, length: &Cell<u32>) -> NTSTATUS {
    let needed = address.len() as u32 + 1;
    let fits = length.replace(needed) >= needed && !to.is_null();
    if !fits {
        return STATUS_INVALID_PARAMETER;
    }
    store_address(address, to);
    STATUS_SUCCESS
}

fn with_port(address: &str, port: u16, brackets: bool) -> String {
    match (u16::from_be(port), brackets) {
        (0, _) => address.to_owned(),
        (port, true) => format!("[{address}]:{port}"),
        (port, false) => format!("{address}:{port}"),
    }
}

pub(crate) extern "win64" fn RtlIpv4AddressToStringW(address: &[u8; 4], to: *mut u16) -> *mut u16 {
    called("RtlIpv4AddressToStringW", PASSIVE_LEVEL);
    store_address(&Ipv4Addr::from(*address).to_string(), to)
}

pub(crate) extern "win64" fn RtlIpv6AddressToStringW(address: &[u8; 16], to: *mut u16) -> *mut u16 {
    called("RtlIpv6AddressToStringW", PASSIVE_LEVEL);
    store_address(&Ipv6Addr::from(*address).to_string(), to)
}

pub(crate) extern "win64" fn RtlIpv4AddressToStringExW(
    address: &[u8; 4],
    port: u16,
    to: *mut u16,
    length: &Cell<u32>,
) -> NTSTATUS {
    called("RtlIpv4AddressToStringExW", PASSIVE_LEVEL);
    store_address_within(&with_port(&Ipv4Addr::from(*address).to_string(), port, false), to, length)
}

pub(crate) extern "win64" fn RtlIpv6AddressToStringExW(
    address: &[u8; 16],
    scope: u32,
    port: u16,
    to: *mut u16,
    length: &Cell<u32>,
) -> NTSTATUS {
    called("RtlIpv6AddressToStringExW", PASSIVE_LEVEL);
    let mut text = Ipv6Addr::from(*address).to_string();
    if scope != 0 {
        text = format!("{text}%{scope}");
    }
    store_address_within(&with_port(&text, port, true), to, length)
}

/// The longest beginning of a text that is an address, and where it ends.
fn parse_beginning<A: std::str::FromStr>(from: *const u16, allowed: fn(char) -> bool) -> Option<(A, *const u16)> {
    let text: String =
        units(from, 64).iter().map_while(|unit| char::from_u32((*unit).into()).filter(|c| allowed(*c))).collect();
    (1..=text.len()).rev().find_map(|end| Some((text[..end].parse().ok()?, from.wrapping_add(end))))
}

pub(crate) extern "win64" fn RtlIpv4StringToAddressW(
    from: *const u16,
    strict: u8,
    terminator: &Cell<*const u16>,
    address: &mut [u8; 4],
) -> NTSTATUS {
    called("RtlIpv4StringToAddressW", PASSIVE_LEVEL);
    let found = parse_beginning::<Ipv4Addr>(from, |c| c.is_ascii_digit() || c == '.');
    let found = found.or_else(|| {
        // Without strictness the last number takes the bytes of those that are missing.
        let (number, end) = parse_beginning::<u32>(from, |c| c.is_ascii_digit())?;
        (strict == 0).then(|| (Ipv4Addr::from(number), end))
    });
    match found {
        Some((parsed, end)) => {
            *address = parsed.octets();
            terminator.set(end);
            STATUS_SUCCESS
        }
        None => {
            terminator.set(from);
            STATUS_INVALID_PARAMETER
        }
    }
}

pub(crate) extern "win64" fn RtlIpv6StringToAddressW(
    from: *const u16,
    terminator: &Cell<*const u16>,
    address: &mut [u8; 16],
) -> NTSTATUS {
    called("RtlIpv6StringToAddressW", PASSIVE_LEVEL);
    match parse_beginning::<Ipv6Addr>(from, |c| c.is_ascii_hexdigit() || matches!(c, ':' | '.')) {
        Some((parsed, end)) => {
            *address = parsed.octets();
            terminator.set(end);
            STATUS_SUCCESS
        }
        None => {
            terminator.set(from);
            STATUS_INVALID_PARAMETER
        }
    }
}

pub(crate) extern "win64" fn RtlCharToInteger(text: *const u8, base: u32, value: &Cell<u32>) -> NTSTATUS {
    called("RtlCharToInteger", PASSIVE_LEVEL);
    let wide: Vec<u16> = narrow(text, 64).into_iter().map(u16::from).collect();
    let string = UNICODE_STRING {
        Length: (wide.len() as u16 * 2).into(),
        MaximumLength: (wide.len() as u16 * 2).into(),
        Buffer: wide.as_ptr().cast_mut().into(),
    };
    RtlUnicodeStringToInteger(&string, base, value)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    RtlInitString,
    RtlInitUnicodeStringEx,
    RtlInitAnsiStringEx,
    RtlUshortByteSwap,
    RtlUlongByteSwap,
    RtlUlonglongByteSwap,
    RtlUnicodeStringToAnsiString,
    RtlFreeAnsiString,
    RtlxUnicodeStringToAnsiSize,
    RtlxAnsiStringToUnicodeSize,
    RtlAnsiStringToUnicodeSize,
    RtlUpcaseUnicodeString,
    RtlDowncaseUnicodeString,
    RtlDowncaseUnicodeChar,
    RtlUpperChar,
    RtlPrefixUnicodeString,
    RtlCompareString,
    RtlEqualString,
    RtlCopyString,
    RtlHashUnicodeString,
    RtlIntegerToUnicodeString,
    RtlInt64ToUnicodeString,
    RtlUnicodeStringToInteger,
    RtlStringFromGUID,
    RtlGUIDFromString,
    RtlMultiByteToUnicodeN,
    RtlUnicodeToMultiByteN,
    RtlUTF8ToUnicodeN,
    RtlUnicodeToUTF8N,
    RtlIpv4AddressToStringW,
    RtlIpv6AddressToStringW,
    RtlIpv4AddressToStringExW,
    RtlIpv6AddressToStringExW,
    RtlIpv4StringToAddressW,
    RtlIpv6StringToAddressW,
    RtlCharToInteger,
];
