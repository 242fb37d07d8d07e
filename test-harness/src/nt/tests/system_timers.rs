//! Timers that the system allocates, and callbacks for bug checks.

use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::nt::bug_check::{CallbackRecord, KeDeregisterBugCheckReasonCallback, KeRegisterBugCheckReasonCallback};

/// 1 ms in the units of timers, from now.
const MILLISECOND: i64 = 10_000;

#[derive(Default)]
struct Watch {
    calls: AtomicU32,
    /// How long each call takes, in milliseconds.
    takes: AtomicU64,
}

extern "win64" fn watched(timer: PVOID, context: PVOID) {
    assert_eq!(KeGetCurrentIrql(), DISPATCH_LEVEL);
    assert!(!timer.is_null());
    // SAFETY: the test's own, which outlives its timer.
    let watch = unsafe { &*context.cast::<Watch>() };
    crate::simulation::sleep(Duration::from_millis(watch.takes.load(Ordering::Acquire)));
    watch.calls.fetch_add(1, Ordering::AcqRel);
}

fn allocate(watch: &Watch) -> PVOID {
    let timer = ExAllocateTimer(Some(watched), ptr::from_ref(watch).cast_mut().cast(), 0);
    assert!(!timer.is_null());
    timer
}

fn until_called(watch: &Watch, times: u32) {
    while watch.calls.load(Ordering::Acquire) < times {
        let interval = -MILLISECOND;
        assert_eq!(KeDelayExecutionThread(0, 0, Some(&interval)), STATUS_SUCCESS);
    }
}

#[test]
fn a_timer_calls_back_once_or_by_its_period_until_it_is_cancelled() {
    sound(|| {
        let watch = Box::<Watch>::default();
        let timer = allocate(&watch);
        assert_eq!(ExSetTimer(timer, -MILLISECOND, 0, ptr::null_mut()), 0);
        until_called(&watch, 1);
        assert_eq!(ExCancelTimer(timer, ptr::null_mut()), 0, "it has expired");
        assert_eq!(ExSetTimer(timer, -MILLISECOND, MILLISECOND, ptr::null_mut()), 0);
        until_called(&watch, 4);
        assert_eq!(ExCancelTimer(timer, ptr::null_mut()), 1, "a periodic one is always set");
        assert_eq!(ExSetTimer(timer, -3_600_000 * MILLISECOND, 0, ptr::null_mut()), 0);
        assert_eq!(ExSetTimer(timer, -3_600_000 * MILLISECOND, 0, ptr::null_mut()), 1, "set anew");
        assert_eq!(ExDeleteTimer(timer, 1, 0, None), 1);
    });
}

#[test]
fn a_delete_that_waits_returns_after_the_callback() {
    sound(|| {
        let watch = Box::<Watch>::default();
        watch.takes.store(30, Ordering::Release);
        let timer = allocate(&watch);
        ExSetTimer(timer, 0, 0, ptr::null_mut());
        while current().kernel.timers.pending() != 0 {
            std::thread::yield_now();
        }
        assert_eq!(ExDeleteTimer(timer, 1, 1, None), 0);
        assert_eq!(watch.calls.load(Ordering::Acquire), 1);
    });
}

#[test]
fn what_is_no_timer_or_deleted_is_found() {
    let text = breaks(Rule::DispatcherObject, || {
        let timer = allocate(Box::leak(Box::<Watch>::default()));
        assert_eq!(ExDeleteTimer(timer, 1, 0, None), 0);
        ExSetTimer(timer, 0, 0, ptr::null_mut());
    });
    assert!(text.starts_with("ExSetTimer:"), "{text}");
    let text = breaks(Rule::BugCheck, || {
        let timer = allocate(Box::leak(Box::<Watch>::default()));
        ExDeleteTimer(timer, 0, 1, None);
    });
    assert!(text.contains("wait"), "{text}");
}

#[test]
fn a_bug_check_callback_is_registered_once() {
    sound(|| {
        let record = CallbackRecord::zeroed();
        let register = || KeRegisterBugCheckReasonCallback(&record, ptr::null_mut(), 2, c"test".as_ptr().cast());
        assert_eq!((register(), register()), (1, 0));
        let deregister = || KeDeregisterBugCheckReasonCallback(&record);
        assert_eq!((deregister(), deregister()), (1, 0));
    });
}
