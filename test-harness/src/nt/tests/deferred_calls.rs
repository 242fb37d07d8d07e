//! DPCs: when they run, and who waits for them.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::*;

/// What a test's DPC has seen.
#[derive(Default)]
struct DpcWatch {
    runs: AtomicU32,
    /// Times that it queues itself again.
    again: AtomicU32,
    /// Where its stack frames were.
    frames: Mutex<Vec<usize>>,
    ran_at: Mutex<Option<Instant>>,
}

extern "win64" fn watched(dpc: *mut KDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    let now = Instant::now();
    assert_eq!(KeGetCurrentIrql(), DISPATCH_LEVEL);
    // SAFETY: the test's own, which outlives its DPC.
    let watch = unsafe { &*context.cast::<DpcWatch>() };
    watch.runs.fetch_add(1, Ordering::AcqRel);
    *watch.ran_at.lock() = Some(now);
    let frame = std::cell::Cell::new(0_u8);
    watch.frames.lock().push(frame.as_ptr() as usize);
    let more = watch.again.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
    if more.is_ok() {
        // SAFETY: the DPC that runs, which its test keeps.
        assert_eq!(KeInsertQueueDpc(unsafe { &*dpc }, ptr::null_mut(), ptr::null_mut()), 1);
    }
}

/// A DPC and what it sees, both where they are for good.
fn watched_dpc() -> (Box<DpcWatch>, Box<KDPC>) {
    let (watch, dpc) = (Box::<DpcWatch>::default(), Box::new(KDPC::zeroed()));
    KeInitializeDpc(&dpc, watched, ptr::from_ref(&*watch).cast_mut().cast());
    (watch, dpc)
}

fn insert(dpc: &KDPC) -> u8 {
    KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut())
}

#[test]
fn a_dpc_runs_as_soon_as_the_irql_is_below_dispatch_level() {
    sound(|| {
        let (watch, dpc) = watched_dpc();
        let runs = || watch.runs.load(Ordering::Acquire);
        assert_eq!((insert(&dpc), runs()), (1, 1), "at PASSIVE_LEVEL it interrupts the call");
        let lock = KSPIN_LOCK::new(0);
        let old = KeAcquireSpinLockRaiseToDpc(&lock);
        assert_eq!((insert(&dpc), insert(&dpc), runs()), (1, 0, 1), "it is queued once");
        KeReleaseSpinLock(&lock, old);
        assert_eq!(runs(), 2);
        let old = KfRaiseIrql(DISPATCH_LEVEL);
        insert(&dpc);
        assert_eq!((KeRemoveQueueDpc(&dpc), KeRemoveQueueDpc(&dpc)), (1, 0));
        KeLowerIrql(old);
        assert_eq!(runs(), 2, "it was taken out");
    });
    breaks(Rule::DispatcherObject, || {
        insert(&KDPC::zeroed());
    });
    breaks(Rule::DispatcherObject, || {
        let block = ExAllocatePool2(0x40, size_of::<KDPC>(), TAG);
        // SAFETY: the block is large enough for a DPC.
        let dpc = unsafe { &*block.cast::<KDPC>() };
        KeInitializeDpc(dpc, fire, ptr::null_mut());
        KfRaiseIrql(DISPATCH_LEVEL);
        insert(dpc);
        ExFreePool(block);
    });
}

#[test]
fn a_dpc_that_queues_itself_again_does_not_recurse() {
    sound(|| {
        let (watch, dpc) = watched_dpc();
        watch.again.store(1000, Ordering::Release);
        insert(&dpc);
        assert_eq!(watch.runs.load(Ordering::Acquire), 1001);
        let frames = watch.frames.lock();
        assert!(frames.iter().all(|frame| *frame == frames[0]), "one frame, again and again");
    });
}

#[test]
fn flushing_waits_for_the_dpcs_of_other_threads() {
    sound(|| {
        let (watch, dpc) = watched_dpc();
        let (to, queued) = (ptr::from_ref(&*dpc) as usize, Arc::new(AtomicU32::new(0)));
        let told = queued.clone();
        start_system_thread(&current().kernel, "another processor", move || {
            let old = KfRaiseIrql(DISPATCH_LEVEL);
            // SAFETY: the test waits for the DPC before it lets go of it.
            insert(unsafe { &*(to as *const KDPC) });
            told.store(1, Ordering::Release);
            std::thread::sleep(Duration::from_millis(20));
            KeLowerIrql(old);
        })
        .unwrap();
        while queued.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(watch.runs.load(Ordering::Acquire), 0);
        KeFlushQueuedDpcs();
        assert_eq!(watch.runs.load(Ordering::Acquire), 1);
    });
}

#[test]
fn a_dpc_runs_within_microseconds() {
    sound(|| {
        let (watch, dpc) = watched_dpc();
        let mut waits: Vec<Duration> = (0..1001)
            .map(|_| {
                let lock = KSPIN_LOCK::new(0);
                let old = KeAcquireSpinLockRaiseToDpc(&lock);
                insert(&dpc);
                let begun = Instant::now();
                KeReleaseSpinLock(&lock, old);
                watch.ran_at.lock().unwrap() - begun
            })
            .collect();
        waits.sort();
        println!("from the release of a spin lock to the DPC: median {:?}, longest {:?}", waits[500], waits[1000]);
        assert!(waits[500] < Duration::from_micros(200), "{:?}", waits[500]);
    });
}
