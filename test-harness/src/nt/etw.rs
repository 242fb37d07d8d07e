//! Event tracing: providers that drivers register, sessions that enable them, and the events that reach a session.
//!
//! A provider hears by its enable callback what the sessions that want it want together: the highest level, any of their
//! keywords. What it writes reaches each session whose own level and keywords let it through. Events are kept as they came;
//! [`trace_logging`] decodes those that describe themselves.
#![allow(unsafe_code)] // event data comes by address, and drivers' callbacks are called

pub mod trace_logging;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{fmt, ptr};

use parking_lot::{Condvar, Mutex};

use super::irql::called;
use super::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use super::types::{GUID, HIGH_LEVEL, NTSTATUS, PASSIVE_LEVEL, PVOID};
use crate::guard::callout;
use crate::image::Export;
use crate::kernel::Kernel;
use crate::machine::on_system_thread;
use crate::thread::kernel;

/// STATUS_INTEGER_OVERFLOW: the event is larger than any session takes.
const STATUS_INTEGER_OVERFLOW: NTSTATUS = 0xC000_0095_u32.cast_signed();
/// MAX_EVENT_DATA_DESCRIPTORS.
const MAX_EVENT_DATA_DESCRIPTORS: u32 = 128;
/// EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA.
const EVENT_METADATA: u8 = 1;
/// EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA.
const PROVIDER_METADATA: u8 = 2;
/// EVENT_CONTROL_CODE_DISABLE_PROVIDER.
const DISABLE: u32 = 0;
/// EVENT_CONTROL_CODE_ENABLE_PROVIDER.
const ENABLE: u32 = 1;
/// Bytes of an event with its header (EVENT_HEADER, 80 bytes), at most.
const LARGEST: usize = 65_536 - 80;
/// Events that a session keeps; further ones are counted as lost, as in a session whose buffers are full.
const KEPT: usize = 100_000;

/// An event that a driver wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The provider's identifier.
    pub provider: GUID,
    /// EVENT_DESCRIPTOR.Id.
    pub id: u16,
    /// EVENT_DESCRIPTOR.Channel.
    pub channel: u8,
    /// EVENT_DESCRIPTOR.Level: 1 critical to 5 verbose, 0 always.
    pub level: u8,
    /// EVENT_DESCRIPTOR.Opcode.
    pub opcode: u8,
    /// EVENT_DESCRIPTOR.Keyword.
    pub keyword: u64,
    /// When it was written, since the process first asked for the time.
    pub time: Duration,
    /// The data descriptors' bytes, one after the other.
    pub data: Vec<u8>,
    /// The event's description of itself, where it has one.
    pub metadata: Vec<u8>,
    /// The provider's, likewise.
    pub provider_metadata: Vec<u8>,
}

/// What a session wants of a provider (EnableTraceEx2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enabling {
    /// The highest level.
    pub level: u8,
    /// Events with any of these keywords; 0 as for Windows: all.
    pub match_any: u64,
    /// Of these, events with all of these keywords.
    pub match_all: u64,
}

impl Enabling {
    /// Everything up to a level.
    #[must_use]
    pub fn level(level: u8) -> Self {
        Self { level, match_any: u64::MAX, match_all: 0 }
    }

    fn lets_through(self, level: u8, keyword: u64) -> bool {
        let any = if self.match_any == 0 { u64::MAX } else { self.match_any };
        let by_keyword = keyword == 0 || (keyword & any != 0 && keyword & self.match_all == self.match_all);
        (level == 0 || level <= self.level) && by_keyword
    }

    /// What a provider is told that several sessions have enabled.
    fn with(self, other: Self) -> Self {
        let any = |one: Self| if one.match_any == 0 { u64::MAX } else { one.match_any };
        Self {
            level: self.level.max(other.level),
            match_any: any(self) | any(other),
            match_all: self.match_all & other.match_all,
        }
    }
}

/// Which providers a session has enabled, and what it has got.
#[derive(Default)]
struct Session {
    /// By their identifiers.
    enabled: Mutex<BTreeMap<[u8; 16], Enabling>>,
    /// All that there are, and will be.
    any: Mutex<Option<Enabling>>,
    events: Mutex<Vec<Event>>,
    lost: AtomicUsize,
}

impl Session {
    fn wants(&self, provider: &GUID) -> Option<Enabling> {
        let named = self.enabled.lock().get(&key(provider)).copied();
        named.or(*self.any.lock())
    }

    fn keep(&self, event: Event) {
        let mut events = self.events.lock();
        if events.len() < KEPT {
            events.push(event);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn key(guid: &GUID) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&guid.Data1.to_le_bytes());
    key[4..6].copy_from_slice(&guid.Data2.to_le_bytes());
    key[6..8].copy_from_slice(&guid.Data3.to_le_bytes());
    key[8..].copy_from_slice(&guid.Data4);
    key
}

/// PETWENABLECALLBACK.
type EnableCallback = extern "win64" fn(&GUID, u32, u8, u64, u64, PVOID, PVOID);

/// A registration.
struct Provider {
    guid: GUID,
    callback: Option<EnableCallback>,
    context: usize,
    /// What it has been told last.
    told: Mutex<Option<Enabling>>,
    /// Callbacks that run: EtwUnregister waits for them.
    running: Mutex<u32>,
    idle: Condvar,
}

impl Provider {
    /// Tells the driver what is wanted of it now, if that is something new. On a system thread, at PASSIVE_LEVEL.
    fn tell(&self, wanted: Option<Enabling>) {
        {
            let mut told = self.told.lock();
            if *told == wanted {
                return;
            }
            *told = wanted;
        }
        let Some(callback) = self.callback else { return };
        *self.running.lock() += 1;
        let Enabling { level, match_any, match_all } =
            wanted.unwrap_or(Enabling { level: 0, match_any: 0, match_all: 0 });
        let control = if wanted.is_some() { ENABLE } else { DISABLE };
        // The session gives no source of its own.
        let source = GUID { Data1: 0, Data2: 0, Data3: 0, Data4: [0; 8] };
        callout("EnableCallback", || {
            callback(&source, control, level, match_any, match_all, ptr::null_mut(), self.context as PVOID);
        });
        *self.running.lock() -= 1;
        self.idle.notify_all();
    }
}

#[derive(Default)]
struct Tracing {
    next: u64,
    providers: BTreeMap<u64, Arc<Provider>>,
    sessions: Vec<Weak<Session>>,
}

/// The tracing of a machine.
#[derive(Default)]
pub(crate) struct Events(Mutex<Tracing>);

impl Events {
    /// Providers that are still registered.
    pub(crate) fn registered(&self) -> usize {
        self.0.lock().providers.len()
    }

    fn provider(&self, handle: u64) -> Option<Arc<Provider>> {
        self.0.lock().providers.get(&handle).cloned()
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        let mut tracing = self.0.lock();
        tracing.sessions.retain(|session| session.strong_count() != 0);
        tracing.sessions.iter().filter_map(Weak::upgrade).collect()
    }

    /// What all sessions together want of a provider.
    fn wanted(&self, provider: &GUID) -> Option<Enabling> {
        self.sessions().iter().filter_map(|session| session.wants(provider)).reduce(Enabling::with)
    }

    /// Tells every provider what is wanted of it.
    fn tell(&self) {
        let providers: Vec<_> = self.0.lock().providers.values().cloned().collect();
        for provider in providers {
            provider.tell(self.wanted(&provider.guid));
        }
    }

    fn enabled(&self, handle: u64, level: u8, keyword: u64) -> bool {
        self.provider(handle).is_some_and(|provider| {
            let sessions = self.sessions();
            sessions
                .iter()
                .filter_map(|session| session.wants(&provider.guid))
                .any(|want| want.lets_through(level, keyword))
        })
    }
}

/// A tracing session of a machine, as a controller starts one. Ends when it is dropped.
pub struct TraceSession {
    kernel: Weak<Kernel>,
    session: Arc<Session>,
}

impl TraceSession {
    pub(crate) fn start(kernel: &Arc<Kernel>) -> Self {
        let session = Arc::new(Session::default());
        kernel.events.0.lock().sessions.push(Arc::downgrade(&session));
        Self { kernel: Arc::downgrade(kernel), session }
    }

    /// Enables a provider, registered or not yet (EnableTraceEx2, EVENT_CONTROL_CODE_ENABLE_PROVIDER).
    pub fn enable(&self, provider: GUID, enabling: Enabling) {
        self.session.enabled.lock().insert(key(&provider), enabling);
        self.tell();
    }

    /// Enables whatever provider there is, or comes.
    pub fn enable_all(&self, enabling: Enabling) {
        *self.session.any.lock() = Some(enabling);
        self.tell();
    }

    /// Disables what it has enabled.
    pub fn disable(&self) {
        self.session.enabled.lock().clear();
        *self.session.any.lock() = None;
        self.tell();
    }

    /// What has come so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.session.events.lock().clone()
    }

    /// Takes out what has come so far.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.session.events.lock())
    }

    /// Events that came when there was no room.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.session.lost.load(Ordering::Relaxed)
    }

    fn tell(&self) {
        let Some(kernel) = self.kernel.upgrade().filter(|kernel| !kernel.is_stopped()) else { return };
        // A machine that has stopped meanwhile tells nobody anything.
        let _ = on_system_thread(&kernel, |kernel| kernel.events.tell());
    }
}

impl Drop for TraceSession {
    fn drop(&mut self) {
        self.disable();
    }
}

#[repr(C)]
pub(crate) struct EVENT_DESCRIPTOR {
    id: u16,
    version: u8,
    channel: u8,
    level: u8,
    opcode: u8,
    task: u16,
    keyword: u64,
}

#[repr(C)]
pub(crate) struct EVENT_DATA_DESCRIPTOR {
    pointer: u64,
    size: u32,
    kind: u8,
    reserved1: u8,
    reserved2: u16,
}

pub(crate) extern "win64" fn EtwRegister(
    provider: &GUID,
    callback: Option<EnableCallback>,
    context: PVOID,
    handle: &Cell<u64>,
) -> NTSTATUS {
    called("EtwRegister", PASSIVE_LEVEL);
    if kernel().faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let provider = Arc::new(Provider {
        guid: *provider,
        callback,
        context: context as usize,
        told: Mutex::new(None),
        running: Mutex::new(0),
        idle: Condvar::new(),
    });
    let next = {
        let mut tracing = kernel().events.0.lock();
        tracing.next += 1;
        let next = tracing.next;
        tracing.providers.insert(next, provider.clone());
        next
    };
    handle.set(next);
    // A session may have enabled it before there was a provider.
    provider.tell(kernel().events.wanted(&provider.guid));
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn EtwUnregister(handle: u64) -> NTSTATUS {
    called("EtwUnregister", PASSIVE_LEVEL);
    let Some(provider) = kernel().events.0.lock().providers.remove(&handle) else { return STATUS_INVALID_HANDLE };
    let mut running = provider.running.lock();
    while *running != 0 && !kernel().is_stopped() {
        provider.idle.wait_until(&mut running, Instant::now() + Duration::from_millis(20));
    }
    STATUS_SUCCESS
}

/// The bytes of one kind among an event's descriptors.
///
/// # Safety
/// Each of them names memory of its size; a bad one faults, which the guard reports.
unsafe fn gather(descriptors: &[EVENT_DATA_DESCRIPTOR], kind: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in descriptors.iter().filter(|part| part.kind == kind && part.size != 0) {
        // SAFETY: by this function's contract.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(part.pointer as *const u8, part.size as usize) });
    }
    bytes
}

/// What the functions that write have in common.
fn write(handle: u64, descriptor: &EVENT_DESCRIPTOR, count: u32, data: *const EVENT_DATA_DESCRIPTOR) -> NTSTATUS {
    let Some(provider) = kernel().events.provider(handle) else { return STATUS_INVALID_HANDLE };
    if count > MAX_EVENT_DATA_DESCRIPTORS {
        return STATUS_INVALID_PARAMETER;
    }
    let mut wanting = kernel().events.sessions();
    wanting.retain(|session| {
        session.wants(&provider.guid).is_some_and(|want| want.lets_through(descriptor.level, descriptor.keyword))
    });
    if wanting.is_empty() {
        return STATUS_SUCCESS;
    }
    let descriptors = if count == 0 {
        &[]
    } else {
        // SAFETY: the caller passes `count` descriptors; a bad address faults, which the guard reports.
        unsafe { std::slice::from_raw_parts(data, count as usize) }
    };
    // SAFETY: as above, for what they name.
    let [user, metadata, provider_metadata] =
        [0, EVENT_METADATA, PROVIDER_METADATA].map(|kind| unsafe { gather(descriptors, kind) });
    if user.len() + metadata.len() + provider_metadata.len() > LARGEST {
        return STATUS_INTEGER_OVERFLOW;
    }
    let event = Event {
        provider: provider.guid,
        id: descriptor.id,
        channel: descriptor.channel,
        level: descriptor.level,
        opcode: descriptor.opcode,
        keyword: descriptor.keyword,
        time: super::time::uptime(),
        data: user,
        metadata,
        provider_metadata,
    };
    for session in wanting {
        session.keep(event.clone());
    }
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn EtwWrite(
    handle: u64,
    descriptor: &EVENT_DESCRIPTOR,
    _activity: PVOID,
    count: u32,
    data: *const EVENT_DATA_DESCRIPTOR,
) -> NTSTATUS {
    called("EtwWrite", HIGH_LEVEL);
    write(handle, descriptor, count, data)
}

pub(crate) extern "win64" fn EtwWriteTransfer(
    handle: u64,
    descriptor: &EVENT_DESCRIPTOR,
    _activity: PVOID,
    _related_activity: PVOID,
    count: u32,
    data: *const EVENT_DATA_DESCRIPTOR,
) -> NTSTATUS {
    called("EtwWriteTransfer", HIGH_LEVEL);
    write(handle, descriptor, count, data)
}

pub(crate) extern "win64" fn EtwProviderEnabled(handle: u64, level: u8, keyword: u64) -> u8 {
    called("EtwProviderEnabled", HIGH_LEVEL);
    u8::from(kernel().events.enabled(handle, level, keyword))
}

pub(crate) extern "win64" fn EtwEventEnabled(handle: u64, descriptor: &EVENT_DESCRIPTOR) -> u8 {
    called("EtwEventEnabled", HIGH_LEVEL);
    u8::from(kernel().events.enabled(handle, descriptor.level, descriptor.keyword))
}

/// Tells of a provider's binary, its name and group, or how it writes descriptors. No session asks for providers by those.
pub(crate) extern "win64" fn EtwSetInformation(handle: u64, class: u32, _information: PVOID, _length: u32) -> NTSTATUS {
    /// EVENT_INFO_CLASS: EventProviderBinaryTrackInfo to EventProviderUseDescriptorType.
    const CLASSES: std::ops::RangeInclusive<u32> = 0..=3;
    called("EtwSetInformation", PASSIVE_LEVEL);
    if kernel().events.provider(handle).is_none() {
        return STATUS_INVALID_HANDLE;
    }
    if CLASSES.contains(&class) { STATUS_SUCCESS } else { STATUS_INVALID_PARAMETER }
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    EtwRegister,
    EtwUnregister,
    EtwSetInformation,
    EtwWrite,
    EtwWriteTransfer,
    EtwProviderEnabled,
    EtwEventEnabled
];

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            1 => "critical",
            2 => "error",
            3 => "warning",
            4 => "information",
            5 => "verbose",
            _ => "always",
        };
        write!(f, "{:10.6} {level:11} ", self.time.as_secs_f64())?;
        match trace_logging::decode(self) {
            Ok(decoded) => write!(f, "{decoded}"),
            Err(_) => write!(f, "event {} of {:?}, {} bytes", self.id, self.provider, self.data.len()),
        }
    }
}
