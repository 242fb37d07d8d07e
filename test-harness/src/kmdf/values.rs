//! Strings, collections, DPCs, and the bytes of memory objects.
#![allow(unsafe_code)] // copies between the client's buffers

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::bind::client;
use super::object::{self, Attributes, Kind, Object, create_into, expect_kind, named_parent};
use super::presentation::{automatic, serialized_with};
use super::support::Memory;
use super::types::{HANDLE, PFN_OBJECT, WDF_DPC_CONFIG, WDF_OBJECT_ATTRIBUTES};
use crate::guard::violate;
use crate::nt::dpc::{KeFlushQueuedDpcs, KeInitializeDpc, KeInsertQueueDpc, KeRemoveQueueDpc};
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_BUFFER_SIZE, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use crate::nt::strings::code_units;
use crate::nt::types::{DISPATCH_LEVEL, HIGH_LEVEL, KDPC, NTSTATUS, PASSIVE_LEVEL, PVOID, UNICODE_STRING, Zeroed};
use crate::thread::kernel;
use crate::violation::Rule;

/// A WDFSTRING: its units, which stay where they are until it is given others, and a terminator.
pub(crate) struct Text(Mutex<Box<[u16]>>);

impl Text {
    pub(super) fn new(units: Vec<u16>) -> Self {
        Self(Mutex::new(terminated(units)))
    }

    /// Its units, without the terminator.
    pub(super) fn units(&self) -> Vec<u16> {
        let units = self.0.lock();
        units[..units.len() - 1].to_vec()
    }
}

fn terminated(mut units: Vec<u16>) -> Box<[u16]> {
    units.push(0);
    units.into()
}

pub(crate) extern "win64" fn WdfStringCreate(
    globals: usize,
    value: Option<&UNICODE_STRING>,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfStringCreate", PASSIVE_LEVEL);
    let client = client(globals);
    let units = value.map(code_units).unwrap_or_default();
    create_into(&client, Kind::Text(Text::new(units)), &Attributes::read(attributes), client.driver(), out)
}

pub(crate) extern "win64" fn WdfStringGetUnicodeString(_globals: usize, handle: HANDLE, out: &UNICODE_STRING) {
    called("WdfStringGetUnicodeString", PASSIVE_LEVEL);
    let object = object::find(handle);
    let units = expect_kind!(object, Text).0.lock();
    let length = (units.len() - 1) * 2;
    out.Length.set(u16::try_from(length).unwrap_or(u16::MAX));
    out.MaximumLength.set(u16::try_from(length + 2).unwrap_or(u16::MAX));
    out.Buffer.set(units.as_ptr().cast_mut());
}

/// Gives a WDFSTRING of the client's another value.
pub(super) fn set_string(handle: HANDLE, value: &str) -> NTSTATUS {
    set_string_units(handle, value.encode_utf16().collect())
}

/// The same, of units.
pub(super) fn set_string_units(handle: HANDLE, units: Vec<u16>) -> NTSTATUS {
    let object = object::find(handle);
    if kernel().faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *expect_kind!(object, Text).0.lock() = terminated(units);
    STATUS_SUCCESS
}

/// A WDFCOLLECTION: objects in the order in which they were added, each with a reference.
#[derive(Default)]
pub(crate) struct Collection(Mutex<Vec<HANDLE>>);

impl Collection {
    /// The collection goes: its references do.
    pub(super) fn dispose(&self) {
        for item in std::mem::take(&mut *self.0.lock()) {
            if let Some(item) = object::try_find(item) {
                item.dereference();
            }
        }
    }

    /// Its items, in their order.
    pub(super) fn items(&self) -> Vec<HANDLE> {
        self.0.lock().clone()
    }

    pub(super) fn add(&self, item: &Object) {
        item.reference();
        self.0.lock().push(item.handle);
    }

    fn remove(&self, index: usize) {
        let item = {
            let mut items = self.0.lock();
            (index < items.len()).then(|| items.remove(index))
        };
        match item.and_then(object::try_find) {
            Some(item) => item.dereference(),
            None => violate(Rule::Framework, "the collection has no such item"),
        }
    }
}

pub(crate) extern "win64" fn WdfCollectionCreate(
    globals: usize,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfCollectionCreate", DISPATCH_LEVEL);
    let client = client(globals);
    let kind = Kind::Collection(Collection::default());
    create_into(&client, kind, &Attributes::read(attributes), client.driver(), out)
}

pub(crate) extern "win64" fn WdfCollectionGetCount(_globals: usize, handle: HANDLE) -> u32 {
    called("WdfCollectionGetCount", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Collection).0.lock().len() as u32
}

pub(crate) extern "win64" fn WdfCollectionAdd(_globals: usize, handle: HANDLE, item: HANDLE) -> NTSTATUS {
    called("WdfCollectionAdd", DISPATCH_LEVEL);
    let (object, added) = (object::find(handle), object::find(item));
    let collection = expect_kind!(object, Collection);
    if kernel().faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    collection.add(&added);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WdfCollectionRemove(_globals: usize, handle: HANDLE, item: HANDLE) {
    called("WdfCollectionRemove", DISPATCH_LEVEL);
    let object = object::find(handle);
    let collection = expect_kind!(object, Collection);
    let index = collection.0.lock().iter().position(|known| *known == item);
    collection.remove(index.unwrap_or(usize::MAX));
}

pub(crate) extern "win64" fn WdfCollectionRemoveItem(_globals: usize, handle: HANDLE, index: u32) {
    called("WdfCollectionRemoveItem", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Collection).remove(index as usize);
}

fn item(handle: HANDLE, choose: impl FnOnce(&[HANDLE]) -> Option<&HANDLE>) -> HANDLE {
    let object = object::find(handle);
    let items = expect_kind!(object, Collection).0.lock();
    choose(&items).copied().unwrap_or(0)
}

pub(crate) extern "win64" fn WdfCollectionGetItem(_globals: usize, handle: HANDLE, index: u32) -> HANDLE {
    called("WdfCollectionGetItem", DISPATCH_LEVEL);
    item(handle, |items| items.get(index as usize))
}

pub(crate) extern "win64" fn WdfCollectionGetFirstItem(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfCollectionGetFirstItem", DISPATCH_LEVEL);
    item(handle, <[_]>::first)
}

pub(crate) extern "win64" fn WdfCollectionGetLastItem(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfCollectionGetLastItem", DISPATCH_LEVEL);
    item(handle, <[_]>::last)
}

/// A part of a memory object; a violation of nothing, but a status, if it lies outside.
fn part(memory: &Memory, offset: usize, length: usize) -> Result<*mut u8, NTSTATUS> {
    if length == 0 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    match offset.checked_add(length) {
        Some(end) if end <= memory.size() => Ok((memory.address() + offset) as *mut u8),
        Some(_) | None => Err(STATUS_BUFFER_TOO_SMALL),
    }
}

pub(crate) extern "win64" fn WdfMemoryCopyToBuffer(
    _globals: usize,
    handle: HANDLE,
    offset: usize,
    buffer: *mut u8,
    length: usize,
) -> NTSTATUS {
    called("WdfMemoryCopyToBuffer", DISPATCH_LEVEL);
    let object = object::find(handle);
    match part(expect_kind!(object, Memory), offset, length) {
        Ok(from) => {
            // SAFETY: inside the memory object; the client gives as many bytes, and a bad buffer faults.
            unsafe { ptr::copy(from, buffer, length) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn WdfMemoryCopyFromBuffer(
    _globals: usize,
    handle: HANDLE,
    offset: usize,
    buffer: *const u8,
    length: usize,
) -> NTSTATUS {
    called("WdfMemoryCopyFromBuffer", DISPATCH_LEVEL);
    let object = object::find(handle);
    match part(expect_kind!(object, Memory), offset, length) {
        Ok(to) => {
            // SAFETY: as above.
            unsafe { ptr::copy(buffer, to, length) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn WdfMemoryAssignBuffer(
    _globals: usize,
    handle: HANDLE,
    buffer: PVOID,
    size: usize,
) -> NTSTATUS {
    called("WdfMemoryAssignBuffer", DISPATCH_LEVEL);
    let object = object::find(handle);
    let memory = expect_kind!(object, Memory);
    if size == 0 || buffer.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    if memory.assign(buffer, size) { STATUS_SUCCESS } else { STATUS_INVALID_BUFFER_SIZE }
}

/// A WDFDPC.
pub(crate) struct Dpc {
    callback: PFN_OBJECT,
    serialized_with: Option<HANDLE>,
    dpc: Box<KDPC>,
    initialized: AtomicBool,
}

// SAFETY: the DPC is the kernel's own object, which it synchronizes; it stays where it is.
unsafe impl Send for Dpc {}
// SAFETY: as above.
unsafe impl Sync for Dpc {}

impl Dpc {
    fn dpc(&self, handle: HANDLE) -> &KDPC {
        if !self.initialized.swap(true, Ordering::AcqRel) {
            KeInitializeDpc(&self.dpc, run_dpc, handle as PVOID);
        }
        &self.dpc
    }

    pub(super) fn dispose(&self, wait: bool) {
        if self.initialized.load(Ordering::Acquire) {
            KeRemoveQueueDpc(&self.dpc);
            if wait {
                KeFlushQueuedDpcs();
            }
        }
    }
}

extern "win64" fn run_dpc(_dpc: *mut KDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    let Some(object) = object::try_find(context as HANDLE) else { return };
    if let Kind::Dpc(dpc) = &object.kind {
        serialized_with(dpc.serialized_with, "EvtDpcFunc", || (dpc.callback)(object.handle));
    }
}

fn dpc_of(object: &Object) -> &Dpc {
    expect_kind!(object, Dpc)
}

pub(crate) extern "win64" fn WdfDpcCreate(
    globals: usize,
    config: *const WDF_DPC_CONFIG,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfDpcCreate", DISPATCH_LEVEL);
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let config = unsafe { *config };
    let attributes = Attributes::read(attributes);
    let Some(callback) = config.EvtDpcFunc else { return STATUS_INVALID_PARAMETER };
    let serialized_with =
        match named_parent(&attributes).and_then(|parent| automatic(&parent, config.AutomaticSerialization, false)) {
            Ok(owner) => owner,
            Err(status) => return status,
        };
    let dpc = Dpc { callback, serialized_with, dpc: Box::new(KDPC::zeroed()), initialized: AtomicBool::new(false) };
    create_into(&client(globals), Kind::Dpc(dpc), &attributes, 0, out)
}

pub(crate) extern "win64" fn WdfDpcEnqueue(_globals: usize, handle: HANDLE) -> u8 {
    called("WdfDpcEnqueue", HIGH_LEVEL);
    let object = object::find(handle);
    KeInsertQueueDpc(dpc_of(&object).dpc(handle), ptr::null_mut(), ptr::null_mut())
}

pub(crate) extern "win64" fn WdfDpcCancel(_globals: usize, handle: HANDLE, wait: u8) -> u8 {
    called("WdfDpcCancel", if wait == 0 { HIGH_LEVEL } else { PASSIVE_LEVEL });
    let object = object::find(handle);
    let cancelled = KeRemoveQueueDpc(dpc_of(&object).dpc(handle));
    if wait != 0 {
        KeFlushQueuedDpcs();
    }
    cancelled
}

pub(crate) extern "win64" fn WdfDpcGetParentObject(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfDpcGetParentObject", HIGH_LEVEL);
    object::find(handle).parent
}

pub(crate) extern "win64" fn WdfDpcWdmGetDpc(_globals: usize, handle: HANDLE) -> *mut KDPC {
    called("WdfDpcWdmGetDpc", HIGH_LEVEL);
    let object = object::find(handle);
    ptr::from_ref(dpc_of(&object).dpc(handle)).cast_mut()
}
