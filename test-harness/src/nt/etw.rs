//! Event tracing: providers that drivers register, and the events they write, which are kept.
#![allow(unsafe_code)] // event data comes by address

use std::cell::Cell;
use std::collections::HashMap;

use parking_lot::Mutex;

use super::irql::called;
use super::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_SUCCESS};
use super::types::{GUID, HIGH_LEVEL, NTSTATUS, PASSIVE_LEVEL, PVOID};
use crate::image::Export;
use crate::thread::kernel;

/// An event that a driver wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The provider's identifier.
    pub provider: GUID,
    /// EVENT_DESCRIPTOR.Id.
    pub id: u16,
    /// EVENT_DESCRIPTOR.Level.
    pub level: u8,
    /// EVENT_DESCRIPTOR.Keyword.
    pub keyword: u64,
    /// The data descriptors' bytes, one after the other.
    pub data: Vec<u8>,
}

/// Events kept; further ones are dropped.
const KEPT: usize = 10_000;

#[derive(Default)]
struct Tracing {
    next: u64,
    providers: HashMap<u64, GUID>,
    events: Vec<Event>,
}

/// The tracing of a machine.
#[derive(Default)]
pub(crate) struct Events(Mutex<Tracing>);

impl Events {
    pub(crate) fn written(&self) -> Vec<Event> {
        self.0.lock().events.clone()
    }

    /// Providers that are still registered.
    pub(crate) fn registered(&self) -> usize {
        self.0.lock().providers.len()
    }

    fn provider(&self, handle: u64) -> Option<GUID> {
        self.0.lock().providers.get(&handle).copied()
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
    reserved: u32,
}

pub(crate) extern "win64" fn EtwRegister(
    provider: &GUID,
    _callback: PVOID,
    _context: PVOID,
    handle: &Cell<u64>,
) -> NTSTATUS {
    called("EtwRegister", PASSIVE_LEVEL);
    if kernel().faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let provider = *provider;
    let mut tracing = kernel().events.0.lock();
    tracing.next += 1;
    let next = tracing.next;
    tracing.providers.insert(next, provider);
    drop(tracing);
    handle.set(next);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn EtwUnregister(handle: u64) -> NTSTATUS {
    called("EtwUnregister", PASSIVE_LEVEL);
    match kernel().events.0.lock().providers.remove(&handle) {
        Some(_) => STATUS_SUCCESS,
        None => STATUS_INVALID_HANDLE,
    }
}

pub(crate) extern "win64" fn EtwWrite(
    handle: u64,
    descriptor: &EVENT_DESCRIPTOR,
    _activity: PVOID,
    count: u32,
    data: *const EVENT_DATA_DESCRIPTOR,
) -> NTSTATUS {
    called("EtwWrite", HIGH_LEVEL);
    let Some(provider) = kernel().events.provider(handle) else { return STATUS_INVALID_HANDLE };
    let mut bytes = Vec::new();
    for index in 0..count as usize {
        // SAFETY: the caller passes `count` descriptors; a bad one faults, which the guard reports.
        let part = unsafe { &*data.wrapping_add(index) };
        // SAFETY: each names memory of its size.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(part.pointer as *const u8, part.size as usize) });
    }
    let event =
        Event { provider, id: descriptor.id, level: descriptor.level, keyword: descriptor.keyword, data: bytes };
    let mut tracing = kernel().events.0.lock();
    if tracing.events.len() < KEPT {
        tracing.events.push(event);
    }
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn EtwProviderEnabled(handle: u64, _level: u8, _keyword: u64) -> u8 {
    called("EtwProviderEnabled", HIGH_LEVEL);
    u8::from(kernel().events.provider(handle).is_some())
}

pub(crate) extern "win64" fn EtwEventEnabled(handle: u64, _descriptor: PVOID) -> u8 {
    called("EtwEventEnabled", HIGH_LEVEL);
    u8::from(kernel().events.provider(handle).is_some())
}

pub(super) const EXPORTS: &[(&str, Export)] =
    super::exports![EtwRegister, EtwUnregister, EtwWrite, EtwProviderEnabled, EtwEventEnabled];
