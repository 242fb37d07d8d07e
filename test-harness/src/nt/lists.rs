//! Sequenced and interlocked lists, and lookaside lists.
#![allow(unsafe_code)] // list entries by address, and routines that drivers give

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exception;
use super::irql::called;
use super::pool::{ExAllocatePoolWithTag, ExFreePoolWithTag};
use super::spin_lock::{acquire, release};
use super::status::STATUS_INSUFFICIENT_RESOURCES;
use super::types::{APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, KSPIN_LOCK, LIST_ENTRY, NTSTATUS, PVOID};
use crate::guard::{callout, violate};
use crate::image::Export;
use crate::thread::current;
use crate::violation::Rule;

/// SLIST_ENTRY and SINGLE_LIST_ENTRY.
#[repr(C)]
pub(crate) struct SINGLE_LIST_ENTRY {
    Next: Cell<*mut SINGLE_LIST_ENTRY>,
}

/// SLIST_HEADER: 16 bits of depth, 48 of a sequence number, and the first entry, whose address is a multiple of 16.
#[repr(C, align(16))]
pub(crate) struct SLIST_HEADER {
    depth_and_sequence: Cell<u64>,
    first: Cell<u64>,
}

/// The header's type bit: that of x64.
const HEADER_TYPE: u64 = 1;
const DEPTH: u64 = 0xffff;
const SEQUENCE: u64 = 0x1_0000;

/// The processor's 16-byte exchange, in place of which one lock orders the accesses to all headers.
struct Exchange;

static EXCHANGE: AtomicBool = AtomicBool::new(false);

impl Exchange {
    fn begin() -> Self {
        while EXCHANGE.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::hint::spin_loop();
        }
        Self
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        EXCHANGE.store(false, Ordering::Release);
    }
}

fn single<'a>(entry: *mut SINGLE_LIST_ENTRY) -> Option<&'a SINGLE_LIST_ENTRY> {
    // SAFETY: an entry of a driver's list, or null; a freed one faults, which the guard reports.
    unsafe { entry.as_ref() }
}

/// Reads the entry: it faults here, before a lock is held, if it has been freed.
fn probe(entry: *mut SINGLE_LIST_ENTRY) {
    if let Some(entry) = single(entry) {
        std::hint::black_box(entry.Next.get());
    }
}

impl SLIST_HEADER {
    fn first(&self) -> *mut SINGLE_LIST_ENTRY {
        (self.first.get() & !15) as *mut SINGLE_LIST_ENTRY
    }

    fn set(&self, first: *mut SINGLE_LIST_ENTRY, depth: u64) {
        let sequence = (self.depth_and_sequence.get() & !DEPTH).wrapping_add(SEQUENCE);
        self.depth_and_sequence.set(sequence | depth & DEPTH);
        self.first.set(first as u64 | HEADER_TYPE);
    }

    fn depth(&self) -> u64 {
        self.depth_and_sequence.get() & DEPTH
    }

    fn pop(&self) -> *mut SINGLE_LIST_ENTRY {
        probe(self.first());
        let _exchange = Exchange::begin();
        let first = self.first();
        if let Some(entry) = single(first) {
            self.set(entry.Next.get(), self.depth().wrapping_sub(1));
        }
        first
    }

    fn push(&self, entry: &SINGLE_LIST_ENTRY) -> *mut SINGLE_LIST_ENTRY {
        entry.Next.set(ptr::null_mut());
        let _exchange = Exchange::begin();
        let first = self.first();
        entry.Next.set(first);
        self.set(ptr::from_ref(entry).cast_mut(), self.depth() + 1);
        first
    }
}

fn check_alignment(call: &str, address: usize) {
    if !address.is_multiple_of(16) {
        violate(Rule::Fault, format!("{call}: {address:#x} is no multiple of 16 (STATUS_DATATYPE_MISALIGNMENT)"));
    }
}

pub(crate) extern "win64" fn InitializeSListHead(head: &SLIST_HEADER) {
    called("InitializeSListHead", HIGH_LEVEL);
    check_alignment("InitializeSListHead", ptr::from_ref(head) as usize);
    head.depth_and_sequence.set(0);
    head.first.set(HEADER_TYPE);
}

pub(crate) extern "win64" fn ExpInterlockedPopEntrySList(head: &SLIST_HEADER) -> *mut SINGLE_LIST_ENTRY {
    called("ExpInterlockedPopEntrySList", DISPATCH_LEVEL);
    head.pop()
}

pub(crate) extern "win64" fn ExpInterlockedPushEntrySList(
    head: &SLIST_HEADER,
    entry: &SINGLE_LIST_ENTRY,
) -> *mut SINGLE_LIST_ENTRY {
    called("ExpInterlockedPushEntrySList", DISPATCH_LEVEL);
    check_alignment("ExpInterlockedPushEntrySList", ptr::from_ref(entry) as usize);
    head.push(entry)
}

pub(crate) extern "win64" fn ExpInterlockedFlushSList(head: &SLIST_HEADER) -> *mut SINGLE_LIST_ENTRY {
    called("ExpInterlockedFlushSList", DISPATCH_LEVEL);
    let _exchange = Exchange::begin();
    let first = head.first();
    head.set(ptr::null_mut(), 0);
    first
}

pub(crate) extern "win64" fn ExQueryDepthSList(head: &SLIST_HEADER) -> u16 {
    called("ExQueryDepthSList", HIGH_LEVEL);
    head.depth() as u16
}

/// Runs `body` with the driver's spin lock, at DISPATCH_LEVEL or above.
fn interlocked<R>(lock: &KSPIN_LOCK, body: impl FnOnce() -> R) -> R {
    let current = current();
    let old = current.irql.replace(current.irql.get().max(DISPATCH_LEVEL));
    acquire(current, lock);
    let result = body();
    release(current, lock);
    current.irql.set(old);
    result
}

fn entry<'a>(at: *mut LIST_ENTRY) -> &'a LIST_ENTRY {
    // SAFETY: an entry of the driver's list; a freed one faults, which the guard reports.
    unsafe { &*at }
}

fn address(entry: &LIST_ENTRY) -> *mut LIST_ENTRY {
    ptr::from_ref(entry).cast_mut()
}

/// An empty list (InitializeListHead).
pub(super) fn initialize_head(head: &LIST_ENTRY) {
    head.Flink.set(address(head));
    head.Blink.set(address(head));
}

/// The entry behind another.
pub(super) fn next(at: *mut LIST_ENTRY) -> *mut LIST_ENTRY {
    entry(at).Flink.get()
}

/// Puts an entry at a list's end (InsertTailList); what was there.
pub(super) fn insert_tail(head: &LIST_ENTRY, new: &LIST_ENTRY) -> *mut LIST_ENTRY {
    let last = head.Blink.get();
    new.Blink.set(last);
    new.Flink.set(address(head));
    entry(last).Flink.set(address(new));
    head.Blink.set(address(new));
    last
}

/// Takes an entry out of its list (RemoveEntryList).
pub(super) fn remove(old: &LIST_ENTRY) {
    entry(old.Blink.get()).Flink.set(old.Flink.get());
    entry(old.Flink.get()).Blink.set(old.Blink.get());
}

pub(crate) extern "win64" fn ExInterlockedInsertHeadList(
    head: &LIST_ENTRY,
    new: &LIST_ENTRY,
    lock: &KSPIN_LOCK,
) -> *mut LIST_ENTRY {
    called("ExInterlockedInsertHeadList", HIGH_LEVEL);
    interlocked(lock, || {
        let first = head.Flink.get();
        new.Flink.set(first);
        new.Blink.set(address(head));
        entry(first).Blink.set(address(new));
        head.Flink.set(address(new));
        if first == address(head) { ptr::null_mut() } else { first }
    })
}

pub(crate) extern "win64" fn ExInterlockedInsertTailList(
    head: &LIST_ENTRY,
    new: &LIST_ENTRY,
    lock: &KSPIN_LOCK,
) -> *mut LIST_ENTRY {
    called("ExInterlockedInsertTailList", HIGH_LEVEL);
    interlocked(lock, || {
        let last = insert_tail(head, new);
        if last == address(head) { ptr::null_mut() } else { last }
    })
}

pub(crate) extern "win64" fn ExInterlockedRemoveHeadList(head: &LIST_ENTRY, lock: &KSPIN_LOCK) -> *mut LIST_ENTRY {
    called("ExInterlockedRemoveHeadList", HIGH_LEVEL);
    interlocked(lock, || {
        let first = head.Flink.get();
        if first == address(head) {
            return ptr::null_mut();
        }
        let next = entry(first).Flink.get();
        head.Flink.set(next);
        entry(next).Blink.set(address(head));
        first
    })
}

pub(crate) extern "win64" fn ExInterlockedPushEntryList(
    head: &SINGLE_LIST_ENTRY,
    new: &SINGLE_LIST_ENTRY,
    lock: &KSPIN_LOCK,
) -> *mut SINGLE_LIST_ENTRY {
    called("ExInterlockedPushEntryList", HIGH_LEVEL);
    interlocked(lock, || {
        let first = head.Next.replace(ptr::from_ref(new).cast_mut());
        new.Next.set(first);
        first
    })
}

pub(crate) extern "win64" fn ExInterlockedPopEntryList(
    head: &SINGLE_LIST_ENTRY,
    lock: &KSPIN_LOCK,
) -> *mut SINGLE_LIST_ENTRY {
    called("ExInterlockedPopEntryList", HIGH_LEVEL);
    interlocked(lock, || {
        let first = head.Next.get();
        if let Some(entry) = single(first) {
            head.Next.set(entry.Next.get());
        }
        first
    })
}

pub(crate) extern "win64" fn ExInterlockedAddLargeInteger(
    addend: &Cell<i64>,
    increment: i64,
    lock: &KSPIN_LOCK,
) -> i64 {
    called("ExInterlockedAddLargeInteger", HIGH_LEVEL);
    interlocked(lock, || addend.replace(addend.get().wrapping_add(increment)))
}

pub(crate) extern "win64" fn ExInterlockedAddUlong(addend: &Cell<u32>, increment: u32, lock: &KSPIN_LOCK) -> u32 {
    called("ExInterlockedAddUlong", HIGH_LEVEL);
    interlocked(lock, || addend.replace(addend.get().wrapping_add(increment)))
}

/// GENERAL_LOOKASIDE, the head of every kind of lookaside list. Drivers' inline functions use it themselves.
#[repr(C, align(64))]
pub(crate) struct GENERAL_LOOKASIDE {
    ListHead: SLIST_HEADER,
    Depth: Cell<u16>,
    MaximumDepth: Cell<u16>,
    TotalAllocates: Cell<u32>,
    AllocateMisses: Cell<u32>,
    TotalFrees: Cell<u32>,
    FreeMisses: Cell<u32>,
    Type: Cell<u32>,
    Tag: Cell<u32>,
    Size: Cell<u32>,
    Allocate: Cell<usize>,
    Free: Cell<usize>,
    ListEntry: LIST_ENTRY,
    LastTotalAllocates: Cell<u32>,
    LastAllocateMisses: Cell<u32>,
    Future: [Cell<u32>; 2],
}

/// Entries that a list keeps, until the system would give it more.
const MINIMUM_DEPTH: u16 = 4;
const MAXIMUM_DEPTH: u16 = 256;
const NON_PAGED_POOL: u32 = 0;
const PAGED_POOL: u32 = 1;
/// POOL_NX_ALLOCATION and POOL_RAISE_IF_ALLOCATION_FAILURE, in the flags of a list.
const POOL_NX_ALLOCATION: u32 = 0x200;

/// The address of a routine of this kernel that a driver may call by pointer.
fn routine(name: &'static str) -> usize {
    super::routine(name).unwrap_or(0)
}

fn initialize(list: &GENERAL_LOOKASIDE, allocate: usize, free: usize, kind: u32, size: usize, tag: u32) {
    InitializeSListHead(&list.ListHead);
    list.Depth.set(MINIMUM_DEPTH);
    list.MaximumDepth.set(MAXIMUM_DEPTH);
    for counter in [&list.TotalAllocates, &list.AllocateMisses, &list.TotalFrees, &list.FreeMisses] {
        counter.set(0);
    }
    list.Type.set(kind);
    list.Tag.set(tag);
    // An entry of the list has to fit.
    list.Size.set(size.max(size_of::<usize>()) as u32);
    list.Allocate.set(allocate);
    list.Free.set(free);
    list.LastTotalAllocates.set(0);
    list.LastAllocateMisses.set(0);
}

type Free = extern "win64" fn(PVOID);
type FreeEx = extern "win64" fn(PVOID, &GENERAL_LOOKASIDE);

fn initialize_plain(list: &GENERAL_LOOKASIDE, allocate: usize, free: usize, kind: u32, size: usize, tag: u32) {
    let or = |given: usize, own: &'static str| if given == 0 { routine(own) } else { given };
    initialize(list, or(allocate, "ExAllocatePoolWithTag"), or(free, "ExFreePool"), kind, size, tag);
}

pub(crate) extern "win64" fn ExInitializeNPagedLookasideList(
    list: &GENERAL_LOOKASIDE,
    allocate: usize,
    free: usize,
    flags: u32,
    size: usize,
    tag: u32,
    _depth: u16,
) {
    called("ExInitializeNPagedLookasideList", DISPATCH_LEVEL);
    initialize_plain(list, allocate, free, NON_PAGED_POOL | flags & POOL_NX_ALLOCATION, size, tag);
}

pub(crate) extern "win64" fn ExInitializePagedLookasideList(
    list: &GENERAL_LOOKASIDE,
    allocate: usize,
    free: usize,
    _flags: u32,
    size: usize,
    tag: u32,
    _depth: u16,
) {
    called("ExInitializePagedLookasideList", APC_LEVEL);
    initialize_plain(list, allocate, free, PAGED_POOL, size, tag);
}

/// Gives back what a list keeps.
fn drain(list: &GENERAL_LOOKASIDE, give_back: impl Fn(PVOID)) {
    loop {
        let entry = list.ListHead.pop();
        if entry.is_null() {
            return;
        }
        give_back(entry.cast());
    }
}

fn drain_plain(list: &GENERAL_LOOKASIDE) {
    let routine = list.Free.get();
    drain(list, |block| {
        // SAFETY: the driver's own routine, or the kernel's, as the list was initialized with.
        let free = unsafe { std::mem::transmute::<usize, Free>(routine) };
        callout("a lookaside list's free routine", || free(block));
    });
}

pub(crate) extern "win64" fn ExDeleteNPagedLookasideList(list: &GENERAL_LOOKASIDE) {
    called("ExDeleteNPagedLookasideList", DISPATCH_LEVEL);
    drain_plain(list);
}

pub(crate) extern "win64" fn ExDeletePagedLookasideList(list: &GENERAL_LOOKASIDE) {
    called("ExDeletePagedLookasideList", APC_LEVEL);
    drain_plain(list);
}

/// What LOOKASIDE_LIST_EX.AllocateEx is where the driver gives none.
pub(crate) extern "win64" fn ExAllocateForLookasideListEx(
    kind: u32,
    size: usize,
    tag: u32,
    list: &GENERAL_LOOKASIDE,
) -> PVOID {
    called("ExAllocateForLookasideListEx", DISPATCH_LEVEL);
    let block = ExAllocatePoolWithTag(kind, size, tag);
    if block.is_null() && list.Future[0].get() & RAISE_ON_FAIL != 0 {
        let text = || (Rule::BugCheck, "nobody handles the exception STATUS_INSUFFICIENT_RESOURCES".to_owned());
        exception::raise(STATUS_INSUFFICIENT_RESOURCES, 0, &[], text);
    }
    block
}

pub(crate) extern "win64" fn ExFreeForLookasideListEx(block: PVOID, list: &GENERAL_LOOKASIDE) {
    called("ExFreeForLookasideListEx", DISPATCH_LEVEL);
    ExFreePoolWithTag(block, list.Tag.get());
}

/// EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL.
const RAISE_ON_FAIL: u32 = 1;

pub(crate) extern "win64" fn ExInitializeLookasideListEx(
    list: &GENERAL_LOOKASIDE,
    allocate: usize,
    free: usize,
    kind: u32,
    flags: u32,
    size: usize,
    tag: u32,
    _depth: u16,
) -> NTSTATUS {
    called("ExInitializeLookasideListEx", DISPATCH_LEVEL);
    let or = |given: usize, own: &'static str| if given == 0 { routine(own) } else { given };
    let allocate = or(allocate, "ExAllocateForLookasideListEx");
    initialize(list, allocate, or(free, "ExFreeForLookasideListEx"), kind, size, tag);
    list.Future[0].set(flags);
    super::status::STATUS_SUCCESS
}

pub(crate) extern "win64" fn ExFlushLookasideListEx(list: &GENERAL_LOOKASIDE) {
    called("ExFlushLookasideListEx", DISPATCH_LEVEL);
    let routine = list.Free.get();
    drain(list, |block| {
        // SAFETY: as in `drain_plain`.
        let free = unsafe { std::mem::transmute::<usize, FreeEx>(routine) };
        callout("a lookaside list's free routine", || free(block, list));
    });
}

pub(crate) extern "win64" fn ExDeleteLookasideListEx(list: &GENERAL_LOOKASIDE) {
    called("ExDeleteLookasideListEx", DISPATCH_LEVEL);
    ExFlushLookasideListEx(list);
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    InitializeSListHead,
    ExpInterlockedPopEntrySList,
    ExpInterlockedPushEntrySList,
    ExpInterlockedFlushSList,
    ExQueryDepthSList,
    ExInterlockedInsertHeadList,
    ExInterlockedInsertTailList,
    ExInterlockedRemoveHeadList,
    ExInterlockedPushEntryList,
    ExInterlockedPopEntryList,
    ExInterlockedAddLargeInteger,
    ExInterlockedAddUlong,
    ExInitializeNPagedLookasideList,
    ExInitializePagedLookasideList,
    ExDeleteNPagedLookasideList,
    ExDeletePagedLookasideList,
    ExAllocateForLookasideListEx,
    ExFreeForLookasideListEx,
    ExInitializeLookasideListEx,
    ExFlushLookasideListEx,
    ExDeleteLookasideListEx,
];
