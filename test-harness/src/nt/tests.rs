//! The NT layer, called as a driver calls it.
#![allow(unsafe_code)] // lends local structures to kernel functions

mod deferred_calls;
mod documented;
mod irql_table;
mod memory_lists;
mod registry_queries;
mod system_timers;

use std::cell::Cell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::dispatcher::*;
use super::dpc::*;
use super::irp::{self, *};
use super::irql::*;
use super::mdl::*;
use super::mutex::*;
use super::object::*;
use super::pool::*;
use super::process::*;
use super::spin_lock::*;
use super::status::*;
use super::timer::*;
use super::types::*;
use super::work::*;
use crate::guard::callout;
use crate::machine::Machine;
use crate::thread::current;
use crate::violation::Rule;

const TAG: u32 = tag(*b"Test");

/// Runs a body in kernel mode on a machine of its own, which must stay sound.
fn sound(body: impl FnOnce() + Send + 'static) {
    let machine = Machine::new();
    let done = machine.on_system_thread(move |_| callout("a test", body));
    if let Some(violation) = machine.violation() {
        panic!("{violation}");
    }
    assert!(done.is_ok(), "the body ended");
}

/// Runs a body that must break a rule.
fn breaks(rule: Rule, body: impl FnOnce() + Send + 'static) -> String {
    let machine = Machine::new();
    assert!(machine.on_system_thread(move |_| callout("a test", body)).is_err(), "the body was left");
    let violation = machine.violation().expect("a violation was found");
    assert_eq!(violation.rule, rule, "{violation}");
    violation.text
}

fn packet(stack: i8) -> &'static IRP {
    irp::at(IoAllocateIrp(stack, 0))
}

static ORDER: parking_lot::Mutex<Vec<(usize, u8)>> = parking_lot::Mutex::new(Vec::new());

extern "win64" fn record(_device: *mut DEVICE_OBJECT, irp: *mut IRP, context: PVOID) -> NTSTATUS {
    ORDER.lock().push((context as usize, irp::at(irp).PendingReturned.get()));
    STATUS_SUCCESS
}

extern "win64" fn keep(_device: *mut DEVICE_OBJECT, irp: *mut IRP, context: PVOID) -> NTSTATUS {
    ORDER.lock().push((context as usize, irp::at(irp).PendingReturned.get()));
    STATUS_MORE_PROCESSING_REQUIRED
}

extern "win64" fn signal(_device: *mut DEVICE_OBJECT, _irp: *mut IRP, context: PVOID) -> NTSTATUS {
    // SAFETY: the context is the waiting caller's event.
    KeSetEvent(unsafe { &*context.cast::<KEVENT>() }, 0, 0);
    STATUS_MORE_PROCESSING_REQUIRED
}

#[test]
fn completion_walks_up_the_stack() {
    sound(|| {
        let irp = packet(3);
        // Routines for every outcome at the top and the bottom, none in the middle, which passes "pending" on.
        set_completion_routine(irp, keep, 3 as PVOID, SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR);
        send(irp, "test");
        irp.next().Control.set(0);
        send(irp, "test");
        set_completion_routine(irp, record, 1 as PVOID, SL_INVOKE_ON_ERROR);
        send(irp, "test");
        irp.mark_pending();
        irp.IoStatus.Status.set(STATUS_CANCELLED);
        ORDER.lock().clear();
        IofCompleteRequest(irp, 0);
        // The routine of the lowest driver said nothing about pending, so only it saw the flag.
        assert_eq!(*ORDER.lock(), [(1, 1), (3, 0)]);
        assert_eq!(irp.CurrentLocation.get(), 4);
        IoReuseIrp(irp, STATUS_SUCCESS);
        IoFreeIrp(irp);
    });
}

#[test]
fn pending_is_carried_on_where_no_routine_is_called() {
    sound(|| {
        let irp = packet(2);
        set_completion_routine(irp, keep, 2 as PVOID, SL_INVOKE_ON_SUCCESS);
        send(irp, "test");
        set_completion_routine(irp, record, 1 as PVOID, SL_INVOKE_ON_ERROR);
        send(irp, "test");
        irp.mark_pending();
        irp.IoStatus.Status.set(STATUS_SUCCESS);
        let before = ORDER.lock().len();
        IofCompleteRequest(irp, 0);
        assert_eq!(ORDER.lock()[before..], [(2, 1)]);
        IoFreeIrp(irp);
    });
}

#[test]
fn packets_are_completed_once() {
    let text = breaks(Rule::Irp, || {
        let irp = packet(1);
        set_completion_routine(irp, keep, ptr::null_mut(), SL_INVOKE_ON_SUCCESS);
        send(irp, "test");
        IofCompleteRequest(irp, 0);
        IofCompleteRequest(irp, 0);
    });
    assert!(text.contains("completed already"), "{text}");
}

#[test]
fn packets_under_way_are_not_freed_reused_or_sent() {
    let calls: [fn(&IRP); 3] = [
        |irp| IoFreeIrp(irp),
        |irp| IoReuseIrp(irp, 0),
        |irp| {
            irp.CurrentLocation.set(2);
            send(irp, "WskSend");
        },
    ];
    for call in calls {
        breaks(Rule::Irp, move || {
            let irp = packet(1);
            send(irp, "test");
            call(irp);
        });
    }
}

#[test]
fn packets_that_reach_the_top_unclaimed_are_reported() {
    breaks(Rule::Irp, || {
        let irp = packet(1);
        send(irp, "test");
        IofCompleteRequest(irp, 0);
    });
    breaks(Rule::UseAfterFree, || {
        let irp = packet(1);
        IoFreeIrp(irp);
        IoFreeIrp(irp);
    });
}

extern "win64" fn cancel_routine(_device: *mut DEVICE_OBJECT, irp: *mut IRP) {
    let irp = irp::at(irp);
    assert_eq!(KeGetCurrentIrql(), DISPATCH_LEVEL);
    IoReleaseCancelSpinLock(irp.CancelIrql.get());
    irp.IoStatus.Status.set(STATUS_CANCELLED);
    IofCompleteRequest(irp, 0);
}

#[test]
fn cancelling_calls_the_routine_once() {
    sound(|| {
        let irp = packet(1);
        let event = KEVENT::zeroed();
        KeInitializeEvent(&event, 0, 0);
        set_completion_routine(irp, signal, (&raw const event).cast_mut().cast(), SL_INVOKE_ON_ERROR);
        send(irp, "test");
        irp.CancelRoutine.store(cancel_routine as *mut _, Ordering::Release);
        assert_eq!(IoCancelIrp(irp), 1);
        assert_eq!(KeGetCurrentIrql(), PASSIVE_LEVEL);
        assert_eq!(KeReadStateEvent(&event), 1);
        assert_eq!(irp.IoStatus.Status.get(), STATUS_CANCELLED);
        assert_eq!(IoCancelIrp(irp), 0);
        IoFreeIrp(irp);
    });
}

#[test]
fn waits_end_by_signals_time_outs_and_in_order() {
    sound(|| {
        let event = KEVENT::zeroed();
        KeInitializeEvent(&event, 1, 1);
        assert_eq!(KeWaitForSingleObject(&event.Header, 0, 0, 0, None), STATUS_SUCCESS);
        assert_eq!(KeReadStateEvent(&event), 0, "a synchronization event is consumed");
        assert_eq!(KeWaitForSingleObject(&event.Header, 0, 0, 0, Some(&0)), STATUS_TIMEOUT);
        let begun = Instant::now();
        assert_eq!(KeWaitForSingleObject(&event.Header, 0, 0, 0, Some(&-200_000)), STATUS_TIMEOUT);
        assert!(begun.elapsed() >= Duration::from_millis(20));
        let (notification, semaphore) = (KEVENT::zeroed(), KSEMAPHORE::zeroed());
        KeInitializeEvent(&notification, 0, 0);
        KeInitializeSemaphore(&semaphore, 1, 2);
        let objects =
            [&raw const event, &raw const notification, (&raw const semaphore).cast()].map(<*const KEVENT>::cast_mut);
        let objects = objects.as_ptr().cast::<PVOID>();
        assert_eq!(KeWaitForMultipleObjects(3, objects, 1, 0, 0, 0, None, ptr::null_mut()), 2);
        assert_eq!(KeReadStateSemaphore(&semaphore), 0);
        assert_eq!(KeReleaseSemaphore(&semaphore, 0, 2, 0), 0);
        KeSetEvent(&event, 0, 0);
        assert_eq!(KeWaitForMultipleObjects(3, objects, 0, 0, 0, 0, Some(&-10_000), ptr::null_mut()), STATUS_TIMEOUT);
        KeSetEvent(&notification, 0, 0);
        assert_eq!(KeWaitForMultipleObjects(3, objects, 0, 0, 0, 0, None, ptr::null_mut()), STATUS_SUCCESS);
        assert_eq!(
            (KeReadStateEvent(&event), KeReadStateEvent(&notification), KeReadStateSemaphore(&semaphore)),
            (0, 1, 1)
        );
    });
}

#[test]
fn a_blocked_thread_is_woken_by_another() {
    sound(|| {
        let event: &'static KEVENT = Box::leak(Box::new(KEVENT::zeroed()));
        KeInitializeEvent(event, 1, 0);
        let address = ptr::from_ref(event) as usize;
        let waiter = start_system_thread(&current().kernel, "waiter", move || {
            // SAFETY: leaked.
            let event = unsafe { &*(address as *const KEVENT) };
            for _ in 0..1000 {
                assert_eq!(KeWaitForSingleObject(&event.Header, 0, 0, 0, Some(&-50_000_000)), STATUS_SUCCESS);
            }
        });
        let waiter = waiter.unwrap();
        // SAFETY: the thread object outlives the wait: this is a reference to it.
        let thread = unsafe { &*waiter.body() };
        ObfReferenceObject(waiter.body().cast());
        let begun = Instant::now();
        while KeWaitForSingleObject(&thread.Header, 0, 0, 0, Some(&0)) == STATUS_TIMEOUT {
            KeSetEvent(event, 0, 0);
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
        ObfDereferenceObject(waiter.body().cast());
    });
}

#[test]
fn waits_are_for_initialized_objects_and_low_irql() {
    breaks(Rule::DispatcherObject, || {
        KeSetEvent(&KEVENT::zeroed(), 0, 0);
    });
    breaks(Rule::Irql, || {
        let event = KEVENT::zeroed();
        KeInitializeEvent(&event, 0, 1);
        KfRaiseIrql(DISPATCH_LEVEL);
        KeWaitForSingleObject(&event.Header, 0, 0, 0, Some(&0));
        KeWaitForSingleObject(&event.Header, 0, 0, 0, None);
    });
    breaks(Rule::DispatcherObject, || {
        let block = ExAllocatePool2(0x40, 64, TAG);
        // SAFETY: the block is large enough for an event.
        let event = unsafe { &*block.cast::<KEVENT>() };
        KeInitializeEvent(event, 0, 0);
        let address = block as usize;
        start_system_thread(&current().kernel, "waiter", move || {
            // SAFETY: as above.
            KeWaitForSingleObject(unsafe { &*(address as *const DISPATCHER_HEADER) }, 0, 0, 0, None);
        })
        .unwrap();
        while !current().kernel.dispatcher.is_waited_on(&(address..address + 64)) {
            std::thread::yield_now();
        }
        ExFreePool(block);
    });
}

#[test]
fn spin_locks_exclude_and_raise() {
    sound(|| {
        let lock: &'static KSPIN_LOCK = Box::leak(Box::default());
        let counter: &'static Cell<u64> = Box::leak(Box::default());
        let address = ptr::from_ref(counter) as usize;
        let add = move || {
            for _ in 0..20_000 {
                let old = KeAcquireSpinLockRaiseToDpc(lock);
                // SAFETY: leaked, and only touched under the lock.
                let counter = unsafe { &*(address as *const Cell<u64>) };
                counter.set(counter.get() + 1);
                KeReleaseSpinLock(lock, old);
            }
        };
        let other = start_system_thread(&current().kernel, "other", add).unwrap();
        ObfReferenceObject(other.body().cast());
        add();
        // SAFETY: referenced above.
        KeWaitForSingleObject(unsafe { &(*other.body()).Header }, 0, 0, 0, None);
        ObfDereferenceObject(other.body().cast());
        assert_eq!(counter.get(), 40_000);
        let handle = KLOCK_QUEUE_HANDLE::zeroed();
        KeAcquireInStackQueuedSpinLock(lock, &handle);
        assert_eq!(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeReleaseInStackQueuedSpinLock(&handle);
        assert_eq!(KeGetCurrentIrql(), PASSIVE_LEVEL);
    });
}

#[test]
fn spin_lock_misuse_is_found() {
    breaks(Rule::SpinLock, || {
        let lock = KSPIN_LOCK::new(0);
        let old = KeAcquireSpinLockRaiseToDpc(&lock);
        KeAcquireSpinLockAtDpcLevel(&lock);
        KeReleaseSpinLock(&lock, old);
    });
    breaks(Rule::SpinLock, || {
        let lock = KSPIN_LOCK::new(0);
        KfRaiseIrql(DISPATCH_LEVEL);
        KeReleaseSpinLockFromDpcLevel(&lock);
    });
    breaks(Rule::Irql, || {
        KeAcquireSpinLockAtDpcLevel(&KSPIN_LOCK::new(0));
    });
    breaks(Rule::SpinLock, || {
        let lock = KSPIN_LOCK::new(0);
        KeAcquireSpinLockRaiseToDpc(&lock);
        KeLowerIrql(PASSIVE_LEVEL);
    });
}

#[test]
fn fast_mutexes_and_rundown_protection() {
    sound(|| {
        let mutex = FAST_MUTEX::zeroed();
        ExInitializeFastMutex(&mutex);
        ExAcquireFastMutex(&mutex);
        assert_eq!(KeGetCurrentIrql(), APC_LEVEL);
        assert_eq!(ExTryToAcquireFastMutex(&mutex), 0);
        ExReleaseFastMutex(&mutex);
        assert_eq!(KeGetCurrentIrql(), PASSIVE_LEVEL);
        let rundown: &'static EX_RUNDOWN_REF = Box::leak(Box::new(EX_RUNDOWN_REF::zeroed()));
        ExInitializeRundownProtection(rundown);
        assert_eq!(ExAcquireRundownProtection(rundown), 1);
        let address = ptr::from_ref(rundown) as usize;
        start_system_thread(&current().kernel, "holder", move || {
            KeDelayExecutionThread(0, 0, Some(&-100_000));
            // SAFETY: leaked.
            ExReleaseRundownProtection(unsafe { &*(address as *const EX_RUNDOWN_REF) });
        })
        .unwrap();
        let begun = Instant::now();
        ExWaitForRundownProtectionRelease(rundown);
        assert!(begun.elapsed() >= Duration::from_millis(9));
        assert_eq!(ExAcquireRundownProtection(rundown), 0);
    });
    breaks(Rule::Lock, || {
        let mutex = FAST_MUTEX::zeroed();
        ExInitializeFastMutex(&mutex);
        ExAcquireFastMutexUnsafe(&mutex);
    });
}

#[test]
fn lists_describe_lock_and_map() {
    sound(|| {
        let block = ExAllocatePool2(0x40, 3 * PAGE_SIZE, TAG);
        let base = block.wrapping_byte_add(100);
        let mdl = unsafe_mdl(IoAllocateMdl(base, 8000, 0, 0, None));
        assert_eq!((mdl.ByteOffset.get(), mdl.ByteCount.get(), mdl.Size.get()), (100, 8000, 48 + 8 * 2));
        assert_eq!(mdl.system_address(), None);
        MmBuildMdlForNonPagedPool(mdl);
        assert_eq!(mdl.system_address(), Some(base));
        let part = unsafe_mdl(IoAllocateMdl(base, 8000, 0, 0, None));
        IoBuildPartialMdl(mdl, part, base.wrapping_byte_add(4000), 2000);
        assert_eq!(part.system_address(), Some(base.wrapping_byte_add(4000)));
        assert_eq!(part.MdlFlags.get() & MDL_PARTIAL, MDL_PARTIAL);
        IoFreeMdl(part);
        IoFreeMdl(mdl);
        let locked = unsafe_mdl(IoAllocateMdl(block, 5000, 0, 0, None));
        MmProbeAndLockPages(locked, KERNEL_MODE, 1);
        let mapped = MmMapLockedPagesSpecifyCache(locked, KERNEL_MODE, 1, ptr::null_mut(), 0, 16);
        assert_eq!(mapped, block);
        MmUnmapLockedPages(mapped, locked);
        MmUnlockPages(locked);
        IoFreeMdl(locked);
        ExFreePoolWithTag(block, TAG);
    });
}

fn unsafe_mdl(mdl: *mut MDL) -> &'static MDL {
    super::mdl::at(mdl).expect("a list")
}

#[test]
fn list_misuse_is_found() {
    let mdl = || unsafe_mdl(IoAllocateMdl(ExAllocatePool2(0x40, 100, TAG), 100, 0, 0, None));
    breaks(Rule::Mdl, move || MmUnlockPages(mdl()));
    breaks(Rule::Mdl, move || {
        let mdl = mdl();
        MmProbeAndLockPages(mdl, KERNEL_MODE, 0);
        IoFreeMdl(mdl);
    });
    breaks(Rule::Mdl, move || {
        let mdl = mdl();
        MmBuildMdlForNonPagedPool(mdl);
        IoBuildPartialMdl(
            mdl,
            unsafe_mdl(IoAllocateMdl(mdl.virtual_address(), 100, 0, 0, None)),
            mdl.virtual_address(),
            101,
        );
    });
    breaks(Rule::Mdl, || {
        let block = ExAllocatePool2(0x40, 100, TAG);
        MmBuildMdlForNonPagedPool(unsafe_mdl(IoAllocateMdl(block, 101, 0, 0, None)));
    });
    assert!(!super::mdl::probe(0x1000, 10, Access::Read));
    breaks(Rule::Fault, || ProbeForWrite(0x1000, 10, 1));
    breaks(Rule::Fault, || ProbeForRead(usize::MAX - 5, 10, 1));
    sound(|| {
        let block = ExAllocatePool2(0x40, 100, TAG);
        ProbeForWrite(block as usize, 100, 4);
        assert_eq!((MmIsAddressValid(block as usize), MmIsAddressValid(8)), (1, 0));
        ExFreePool(block);
    });
    let text = "read only";
    assert!(super::mdl::probe(text.as_ptr() as usize, text.len(), Access::Read));
    assert!(!super::mdl::probe(text.as_ptr() as usize, text.len(), Access::Write));
}

#[test]
fn use_after_free_and_overruns_are_found() {
    let text = breaks(Rule::UseAfterFree, || {
        let block = ExAllocatePool2(0x40, 64, TAG).cast::<u8>();
        ExFreePoolWithTag(block.cast(), TAG);
        super::runtime::memset(block.wrapping_add(8), 1, 1);
    });
    assert!(text.contains("offset 8 of a freed block of 64 (Test)"), "{text}");
    breaks(Rule::PoolOverrun, || {
        let block = ExAllocatePool2(0x40, 64, TAG).cast::<u8>();
        super::runtime::memset(block, 1, 65);
    });
    breaks(Rule::BadFree, || {
        let block = ExAllocatePool2(0x40, 64, TAG);
        ExFreePool(block);
        ExFreePool(block);
    });
    breaks(Rule::PagedMemory, || {
        KfRaiseIrql(DISPATCH_LEVEL);
        ExAllocatePool2(0x100, 64, TAG);
    });
}

static FIRED: AtomicU32 = AtomicU32::new(0);

extern "win64" fn fire(_dpc: *mut KDPC, _context: PVOID, _first: PVOID, _second: PVOID) {
    assert_eq!(KeGetCurrentIrql(), DISPATCH_LEVEL);
    FIRED.fetch_add(1, Ordering::AcqRel);
}

#[test]
fn timers_fire_repeat_and_are_cancelled() {
    sound(|| {
        let (timer, dpc) = (KTIMER::zeroed(), KDPC::zeroed());
        KeInitializeTimerEx(&timer, 1);
        KeInitializeDpc(&dpc, fire, ptr::null_mut());
        let dpc_address = (&raw const dpc).cast_mut();
        assert_eq!(KeSetTimerEx(&timer, -50_000, 2, dpc_address), 0);
        for _ in 0..3 {
            assert_eq!(KeWaitForSingleObject(&timer.Header, 0, 0, 0, Some(&-50_000_000)), STATUS_SUCCESS);
        }
        assert_eq!(KeCancelTimer(&timer), 1);
        KeFlushQueuedDpcs();
        let fired = FIRED.load(Ordering::Acquire);
        assert!(fired >= 3, "{fired}");
        assert_eq!(KeSetTimer(&timer, -100_000_000, dpc_address), 0);
        assert_eq!(KeSetTimer(&timer, -100_000_000, dpc_address), 1);
        assert_eq!(KeCancelTimer(&timer), 1);
        assert_eq!(KeCancelTimer(&timer), 0);
        assert_eq!(KeInsertQueueDpc(&dpc, ptr::null_mut(), ptr::null_mut()), 1);
        KeFlushQueuedDpcs();
        assert_eq!(FIRED.load(Ordering::Acquire), fired + 1);
    });
    breaks(Rule::DispatcherObject, || {
        let block = ExAllocatePool2(0x40, size_of::<KTIMER>(), TAG);
        // SAFETY: the block is large enough for a timer.
        let timer = unsafe { &*block.cast::<KTIMER>() };
        KeInitializeTimerEx(timer, 0);
        KeSetTimer(timer, -1_000_000_000, ptr::null_mut());
        ExFreePool(block);
    });
}

#[test]
fn returning_at_another_irql_is_found() {
    let text = breaks(Rule::Irql, || {
        crate::guard::callout("a routine", || KfRaiseIrql(DISPATCH_LEVEL));
    });
    assert_eq!(text, "a routine was called at IRQL 0 and returned at 2");
}

#[test]
fn events_have_handles_and_references() {
    sound(|| {
        let handle = Cell::new(0);
        assert_eq!(ZwCreateEvent(&handle, EVENT_ALL_ACCESS, None, 0, 0), STATUS_SUCCESS);
        let mut body = ptr::null_mut();
        let open = |access, kind, mode, body: &mut PVOID| {
            ObReferenceObjectByHandle(handle.get(), access, kind, mode, body, None)
        };
        assert_eq!(open(0, Some(PsProcessType), KERNEL_MODE, &mut body), STATUS_OBJECT_TYPE_MISMATCH);
        assert_eq!(open(EVENT_MODIFY_STATE, Some(ExEventObjectType), USER_MODE, &mut body), STATUS_SUCCESS);
        assert_eq!(ZwClose(handle.get()), STATUS_SUCCESS);
        KeSetEvent(super::object::event(body as usize), 0, 0);
        assert_eq!(ObfReferenceObject(body), 2);
        assert_eq!(ObfDereferenceObject(body), 1);
        assert_eq!(ObfDereferenceObject(body), 0);
    });
    breaks(Rule::Object, || {
        let handle = Cell::new(0);
        ZwCreateEvent(&handle, EVENT_ALL_ACCESS, None, 0, 0);
        ZwClose(handle.get());
        ZwClose(handle.get());
    });
}

#[test]
fn a_stopped_machine_wakes_its_threads() {
    let machine = Machine::new();
    let entered = Arc::new(AtomicUsize::new(0));
    let told = entered.clone();
    let waited = machine.on_system_thread(move |_| {
        let event: &'static KEVENT = Box::leak(Box::new(KEVENT::zeroed()));
        KeInitializeEvent(event, 0, 0);
        start_system_thread(&current().kernel, "culprit", move || {
            while told.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            super::runtime::KeBugCheckEx(0xe2, 1, 2, 3, 4);
        })
        .unwrap();
        entered.store(1, Ordering::Release);
        KeWaitForSingleObject(&event.Header, 0, 0, 0, None);
    });
    assert!(waited.is_err());
    let violation = machine.violation().unwrap();
    assert_eq!(violation.rule, Rule::BugCheck);
    assert_eq!(violation.text, "0x000000E2 (0x1, 0x2, 0x3, 0x4)");
}

#[test]
#[should_panic(expected = "BugCheck")]
fn an_unclaimed_violation_panics() {
    let machine = Machine::new();
    let _ = machine.on_system_thread(|_| super::runtime::KeBugCheck(1));
}

#[test]
fn a_process_that_has_gone_gets_no_threads() {
    let machine = Machine::new();
    let threads = || machine.stats().objects.get("Thread").copied();
    let before = threads();
    let process = machine.process();
    assert!(process.create_event(true).is_ok());
    process.exit();
    assert_eq!(process.open(r"\\.\None", 0), Err(STATUS_PROCESS_IS_TERMINATING));
    assert_eq!(threads(), before);
}

static WORKED: AtomicI32 = AtomicI32::new(0);

extern "win64" fn work(_device: *mut DEVICE_OBJECT, context: PVOID) {
    assert_eq!(KeGetCurrentIrql(), PASSIVE_LEVEL);
    WORKED.fetch_add(1, Ordering::AcqRel);
    // SAFETY: the context is the waiting caller's event.
    KeSetEvent(unsafe { &*context.cast::<KEVENT>() }, 0, 0);
}

#[test]
fn work_items_run_on_worker_threads() {
    sound(|| {
        let device = super::object::create(&current().kernel, Kind::Device, size_of::<DEVICE_OBJECT>()).unwrap();
        // SAFETY: just allocated as a work item.
        let item = unsafe { &*IoAllocateWorkItem(device.cast()) };
        let event = KEVENT::zeroed();
        KeInitializeEvent(&event, 1, 0);
        for round in 1..=100 {
            IoQueueWorkItem(item, work, 1, (&raw const event).cast_mut().cast());
            KeWaitForSingleObject(&event.Header, 0, 0, 0, None);
            assert_eq!(WORKED.load(Ordering::Acquire), round);
        }
        IoFreeWorkItem(item);
        while ObfReferenceObject(device) > 2 {
            ObfDereferenceObject(device);
            std::thread::yield_now();
        }
        ObfDereferenceObject(device);
        ObfDereferenceObject(device);
    });
}
