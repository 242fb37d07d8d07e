//! An ETW provider whose events describe themselves, as TraceLogging's headers lay it out (TraceLoggingProvider.h, evntprov.h).
//!
//! Provider and events are described by bytes that are made when the driver is compiled. An event is three pieces: both
//! descriptions, and its fields one behind the other.
#![allow(unsafe_code, reason = "registers with ETW, which gets addresses of what is written")]

use crate::wsk::SockAddr;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use san_protocol::NtStatus;
use wdk_sys::ntddk::{EtwRegister, EtwUnregister, EtwWriteTransfer};
use wdk_sys::{
    EVENT_DESCRIPTOR, GUID, LPCGUID, NT_SUCCESS, PEVENT_FILTER_DESCRIPTOR, PVOID, REGHANDLE, UCHAR, ULONG, ULONGLONG,
};
use zerocopy::IntoBytes;

/// How grave an event is (WINEVENT_LEVEL).
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Level {
    Error = 2,
    Warning = 3,
    Information = 4,
    Verbose = 5,
}

/// WINEVENT_CHANNEL_TRACELOGGING: the event describes itself.
const CHANNEL_TRACELOGGING: u8 = 11;
/// EVENT_CONTROL_CODE_DISABLE_PROVIDER.
const DISABLE_PROVIDER: ULONG = 0;
/// EVENT_CONTROL_CODE_ENABLE_PROVIDER.
const ENABLE_PROVIDER: ULONG = 1;
/// What stands for every level in [`Provider::level`].
const ALL_LEVELS: u32 = 256;

/// EVENT_DATA_DESCRIPTOR, whose last member has other names in newer headers.
#[repr(C)]
struct Piece {
    address: ULONGLONG,
    size: ULONG,
    kind: PieceKind,
}

/// EVENT_DATA_DESCRIPTOR.Type, with the reserved bytes behind it.
#[derive(Clone, Copy)]
#[repr(u32)]
enum PieceKind {
    Fields = 0,
    Event = 1,
    Provider = 2,
}

/// Of an event.
const PIECES: ULONG = 3;

impl Piece {
    fn of(bytes: &[u8], kind: PieceKind) -> Self {
        Self { address: bytes.as_ptr() as ULONGLONG, size: ULONG::try_from(bytes.len()).unwrap_or(0), kind }
    }
}

/// The value of a field, and with it the field's type.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Count(u32),
    Number(u64),
    Id(u64),
    Hex(u32),
    Port(u16),
    Family(u16),
    Process(u32),
    Status(NtStatus),
    Address(&'a SockAddr),
    /// Not longer than [`LONGEST_TEXT`].
    Text(&'a str),
}

/// The type of a field, for its description: a [`Value`] of the same name has it.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Count,
    Number,
    Id,
    Hex,
    Port,
    Family,
    Process,
    Status,
    Address,
    Text,
}

impl Kind {
    /// How the bytes are to be read (TlgIn), and shown (TlgOut).
    const fn types(self) -> [u8; 2] {
        match self {
            Self::Count => [8, 0],
            Self::Number => [10, 0],
            Self::Id => [21, 0],
            Self::Hex => [20, 0],
            Self::Port | Self::Family => [6, 0],
            Self::Process => [8, 5],
            Self::Status => [20, 14],
            Self::Address => [14, 10],
            Self::Text => [23, 35],
        }
    }
}

/// In a field's first type: another one follows.
const CHAIN: u8 = 0x80;

/// Length of an event's description: its size, no tags, its name, and its fields with their names and types.
pub(super) const fn description_length(name: &str, fields: &[(&str, Kind)]) -> usize {
    let (mut length, mut at) = (2 + 1 + name.len() + 1, 0);
    while at < fields.len() {
        let (field, kind) = fields[at];
        length += field.len() + 1 + if kind.types()[1] == 0 { 1 } else { 2 };
        at += 1;
    }
    length
}

/// An event's description.
pub(super) const fn describe<const LENGTH: usize>(name: &str, fields: &[(&str, Kind)]) -> [u8; LENGTH] {
    assert!(LENGTH == description_length(name, fields));
    let mut bytes = sized();
    let (mut end, mut at) = (put(&mut bytes, 3, name), 0);
    while at < fields.len() {
        let (field, kind) = fields[at];
        end = put(&mut bytes, end, field);
        let [input, output] = kind.types();
        if output == 0 {
            bytes[end] = input;
            end += 1;
        } else {
            bytes[end] = input | CHAIN;
            bytes[end + 1] = output;
            end += 2;
        }
        at += 1;
    }
    bytes
}

/// A provider's description: its size, and its name.
pub(super) const fn describe_provider<const LENGTH: usize>(name: &str) -> [u8; LENGTH] {
    assert!(LENGTH == name.len() + 3);
    let mut bytes = sized();
    put(&mut bytes, 2, name);
    bytes
}

/// Room for a description, with its size in front.
#[expect(clippy::cast_possible_truncation, reason = "checked before")]
const fn sized<const LENGTH: usize>() -> [u8; LENGTH] {
    assert!(LENGTH <= u16::MAX as usize);
    let mut bytes = [0; LENGTH];
    [bytes[0], bytes[1]] = (LENGTH as u16).to_le_bytes();
    bytes
}

/// Puts a name and the zero behind it; where that ends.
const fn put(bytes: &mut [u8], from: usize, name: &str) -> usize {
    let mut at = 0;
    while at < name.len() {
        bytes[from + at] = name.as_bytes()[at];
        at += 1;
    }
    from + name.len() + 1
}

/// What all events of a kind have in common.
pub(super) struct Event {
    pub(super) level: Level,
    pub(super) keyword: u64,
    pub(super) description: &'static [u8],
}

/// Longest text in an event, in bytes.
const LONGEST_TEXT: usize = 160;

/// The fields of an event, one behind the other; more than the largest has do not fit.
struct Fields {
    bytes: [u8; 256],
    length: usize,
}

impl Fields {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            room.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }

    /// Bytes with their count in front.
    fn put_counted(&mut self, bytes: &[u8]) {
        self.put(&u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes());
        self.put(bytes);
    }

    fn put_value(&mut self, value: Value<'_>) {
        match value {
            Value::Count(number) | Value::Hex(number) | Value::Process(number) => self.put(&number.to_le_bytes()),
            Value::Number(number) | Value::Id(number) => self.put(&number.to_le_bytes()),
            Value::Port(number) | Value::Family(number) => self.put(&number.to_le_bytes()),
            Value::Status(status) => self.put(&status.0.to_le_bytes()),
            Value::Address(address) => self.put_counted(address.protocol().as_bytes()),
            Value::Text(text) => self.put_counted(&text.as_bytes()[..text.len().min(LONGEST_TEXT)]),
        }
    }
}

/// The provider: what is wanted of it, which its callback says, is read each time something may be told.
pub(super) struct Provider {
    id: GUID,
    description: &'static [u8],
    /// Written by EtwRegister, before any other use.
    handle: UnsafeCell<REGHANDLE>,
    /// Levels below this one are wanted; 0: none.
    level: AtomicU32,
    any: AtomicU64,
    all: AtomicU64,
}

// SAFETY: `handle` is written while the driver is loaded by one thread, and read by others afterwards; the rest is atomic.
unsafe impl Sync for Provider {}

impl Provider {
    pub(super) const fn new(id: GUID, description: &'static [u8]) -> Self {
        Self {
            id,
            description,
            handle: UnsafeCell::new(0),
            level: AtomicU32::new(0),
            any: AtomicU64::new(0),
            all: AtomicU64::new(0),
        }
    }

    /// Whether somebody wants such events. Any IRQL.
    #[inline]
    pub(super) fn is_enabled(&self, level: Level, keyword: u64) -> bool {
        (level as u32) < self.level.load(Ordering::Relaxed) && self.is_keyword_enabled(keyword)
    }

    #[cold]
    fn is_keyword_enabled(&self, keyword: u64) -> bool {
        let all = self.all.load(Ordering::Relaxed);
        keyword & self.any.load(Ordering::Relaxed) != 0 && keyword & all == all
    }

    /// Registers the provider; one that cannot be registered tells nothing. IRQL = PASSIVE_LEVEL; from DriverEntry.
    pub(super) fn register(&'static self) {
        let context: *const Self = self;
        // SAFETY: the provider is static, and the image stays until `unregister`, which every way out of the driver calls.
        let status =
            unsafe { EtwRegister(&raw const self.id, Some(changed), context.cast_mut().cast(), self.handle.get()) };
        if !NT_SUCCESS(status) {
            // SAFETY: nobody else looks at it yet.
            unsafe { *self.handle.get() = 0 };
        }
    }

    /// Unregisters the provider; waits for a callback that is running. IRQL = PASSIVE_LEVEL; nothing is told any more.
    pub(super) fn unregister(&self) {
        // SAFETY: the driver's other threads are gone.
        let handle = unsafe { core::mem::take(&mut *self.handle.get()) };
        if handle != 0 {
            // SAFETY: registered, and unregistered once.
            let _ = unsafe { EtwUnregister(handle) };
        }
        self.level.store(0, Ordering::Relaxed);
    }

    /// Tells an event. Any IRQL.
    pub(super) fn write(&self, event: &Event, values: &[Value<'_>]) {
        let mut fields = Fields { bytes: [0; 256], length: 0 };
        for value in values {
            fields.put_value(*value);
        }
        let mut pieces: [Piece; PIECES as usize] = [
            Piece::of(self.description, PieceKind::Provider),
            Piece::of(event.description, PieceKind::Event),
            Piece::of(&fields.bytes[..fields.length], PieceKind::Fields),
        ];
        let descriptor = EVENT_DESCRIPTOR {
            Id: 0,
            Version: 0,
            Channel: CHANNEL_TRACELOGGING,
            Level: event.level as UCHAR,
            Opcode: 0,
            Task: 0,
            Keyword: event.keyword,
        };
        // SAFETY: written before the callback could enable anything that leads here.
        let handle = unsafe { *self.handle.get() };
        // A session that has no room loses the event, and counts it.
        // SAFETY: registered; the pieces are statics and locals, all non-paged.
        let _ = unsafe {
            EtwWriteTransfer(
                handle,
                &raw const descriptor,
                ptr::null(),
                ptr::null(),
                PIECES,
                pieces.as_mut_ptr().cast(),
            )
        };
    }
}

/// ETWENABLECALLBACK: what is wanted of the provider has changed. IRQL = PASSIVE_LEVEL.
unsafe extern "C" fn changed(
    _source: LPCGUID,
    control: ULONG,
    level: UCHAR,
    match_any: ULONGLONG,
    match_all: ULONGLONG,
    _filter: PEVENT_FILTER_DESCRIPTOR,
    context: PVOID,
) {
    // SAFETY: `register` gave a provider, which is static.
    let provider = unsafe { &*context.cast::<Provider>() };
    match control {
        DISABLE_PROVIDER => provider.level.store(0, Ordering::Relaxed),
        ENABLE_PROVIDER => {
            provider.any.store(match_any, Ordering::Relaxed);
            provider.all.store(match_all, Ordering::Relaxed);
            // As the header has it, level 0 wants every level.
            let level = if level == 0 { ALL_LEVELS } else { u32::from(level) + 1 };
            provider.level.store(level, Ordering::Relaxed);
        }
        // EVENT_CONTROL_CODE_CAPTURE_STATE and what may come.
        _ => {}
    }
}
