//! Queues, and who has a request.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use test_harness::machine::{Handle, IoToken, Process, Unload};
use test_harness::nt::status::{STATUS_BUFFER_TOO_SMALL, STATUS_CANCELLED, STATUS_SUCCESS};
use test_harness::{Driver, IoStatus, Machine, Rule};

use crate::{MOMENT, PATIENCE, READ_WRITE};

const ECHO: u32 = 1;
const PARK: u32 = 2;
const UNPARK: u32 = 3;
const HOLD: u32 = 4;
const RELEASE: u32 = 5;
const COMPLETE_TWICE: u32 = 6;
const COMPLETE_WHILE_CANCELABLE: u32 = 7;
const HOLD_FOR_TIMER: u32 = 8;
const WORK: u32 = 9;
const USE_DELETED: u32 = 10;
const STATE: u32 = 11;
const DRAIN: u32 = 12;
const PURGE: u32 = 13;
const NEEDS_FOUR_BYTES: u32 = 99;

const DISPATCH_LEVEL: usize = 2;

fn image() -> &'static PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| crate::build("kmdf_queues"))
}

struct Bed {
    machine: Machine,
    driver: Driver,
    process: Process,
    handle: Handle,
}

impl Bed {
    fn new() -> Self {
        Self::on(Machine::new())
    }

    fn on(machine: Machine) -> Self {
        let driver = machine.load(image(), "kmdf_queues").expect("the driver loads");
        let process = machine.process();
        let handle = process.open(r"\\.\KmdfQueues", READ_WRITE).expect("the device opens");
        Self { machine, driver, process, handle }
    }

    fn start_with(&self, handle: Handle, function: u32, input: &[u8]) -> (IoToken, Receiver<IoStatus>) {
        let (done, told) = channel();
        let code = (0x22 << 16) | (function << 2);
        let token = self
            .process
            .control_async(handle, code, input.to_vec(), vec![0; 16], move |(status, ..)| {
                let _ = done.send(status);
            })
            .expect("the request is issued");
        (token, told)
    }

    fn start(&self, function: u32) -> (IoToken, Receiver<IoStatus>) {
        self.start_with(self.handle, function, &[])
    }

    fn call(&self, function: u32) -> IoStatus {
        self.start(function).1.recv_timeout(PATIENCE).expect("it completes")
    }

    fn finish(self) {
        drop(self.process);
        assert_eq!(self.machine.unload(&self.driver), Ok(Unload::Done));
        assert!(self.machine.violation().is_none());
    }

    /// The rule that a request breaks. The harness' framework finds more than Microsoft's, which another rule then ends.
    fn broken_by(function: u32) -> Rule {
        let bed = Self::on(Machine::builder().kmdf(None).build());
        let code = (0x22 << 16) | (function << 2);
        // The machine stops inside the call.
        bed.process.control_async(bed.handle, code, Vec::new(), Vec::new(), |_| ()).expect_err("the machine stops");
        let violation = bed.machine.violation().expect("a rule is broken");
        assert!(!violation.backtrace.is_empty(), "the driver's frames are named");
        violation.rule
    }
}

#[test]
fn a_request_is_completed_with_its_information() {
    let bed = Bed::new();
    let (_, told) = bed.start_with(bed.handle, ECHO, b"seven b");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(IoStatus { status: STATUS_SUCCESS, information: 7 }));
    let (_, told) = bed.start_with(bed.handle, NEEDS_FOUR_BYTES, b"two");
    assert_eq!(told.recv_timeout(PATIENCE).expect("completes").status, STATUS_BUFFER_TOO_SMALL);
    bed.finish();
}

#[test]
fn parked_requests_come_out_in_order() {
    let bed = Bed::new();
    let parked: Vec<_> = (0..5).map(|_| bed.start(PARK).1).collect();
    assert_eq!(bed.call(STATE).information, 5);
    for request in &parked {
        assert!(request.try_recv().is_err(), "it waits still");
        assert_eq!(bed.call(UNPARK).information, 1);
        assert_eq!(request.recv_timeout(PATIENCE).expect("completes").status, STATUS_SUCCESS);
    }
    assert_eq!(bed.call(UNPARK).information, 0);
    bed.finish();
}

#[test]
fn a_request_cancelled_in_a_queue_is_completed_by_the_framework() {
    let bed = Bed::new();
    let (token, parked) = bed.start(PARK);
    bed.process.cancel(bed.handle, Some(token)).expect("there is one to cancel");
    assert_eq!(parked.recv_timeout(PATIENCE).expect("completes").status, STATUS_CANCELLED);
    assert_eq!(bed.call(STATE).information, 0);
    bed.finish();
}

#[test]
fn a_queue_is_drained_also_when_its_last_request_is_cancelled() {
    let bed = Bed::new();
    let (token, parked) = bed.start(PARK);
    let drained = bed.start(DRAIN).1;
    assert!(drained.recv_timeout(MOMENT).is_err(), "one waits still");
    bed.process.cancel(bed.handle, Some(token)).expect("there is one to cancel");
    assert_eq!(parked.recv_timeout(PATIENCE).expect("completes").status, STATUS_CANCELLED);
    assert_eq!(drained.recv_timeout(PATIENCE).expect("completes").status, STATUS_SUCCESS);
    bed.finish();
}

#[test]
fn a_request_that_the_driver_holds_is_cancelled_by_its_callback() {
    let bed = Bed::new();
    let (token, held) = bed.start(HOLD);
    assert!(held.recv_timeout(MOMENT).is_err());
    bed.process.cancel(bed.handle, Some(token)).expect("there is one to cancel");
    assert_eq!(held.recv_timeout(PATIENCE).expect("completes").status, STATUS_CANCELLED);
    let (_, held) = bed.start(HOLD);
    assert_eq!(bed.call(RELEASE).information, 1);
    assert_eq!(held.recv_timeout(PATIENCE).expect("completes").status, STATUS_SUCCESS);
    bed.finish();
}

#[test]
fn a_purge_cancels_what_the_driver_has_made_cancelable_and_nothing_else() {
    let bed = Bed::new();
    let (token, parked) = bed.start(PARK);
    let drained = bed.start(DRAIN).1;
    let held = bed.start(HOLD).1;
    assert_eq!(bed.call(PURGE).status, STATUS_SUCCESS);
    assert_eq!(held.recv_timeout(PATIENCE).expect("completes").status, STATUS_CANCELLED);
    assert!(drained.recv_timeout(MOMENT).is_err(), "the driver has it still");
    bed.process.cancel(bed.handle, Some(token)).expect("there is one to cancel");
    assert_eq!(parked.recv_timeout(PATIENCE).expect("completes").status, STATUS_CANCELLED);
    assert_eq!(drained.recv_timeout(PATIENCE).expect("completes").status, STATUS_SUCCESS);
    bed.finish();
}

#[test]
fn a_parallel_queue_presents_no_more_than_it_was_told() {
    let bed = Bed::new();
    let held = bed.start(HOLD_FOR_TIMER).1;
    assert!(held.recv_timeout(PATIENCE).is_ok());
    let (first_token, first) = bed.start(HOLD);
    // Two more fill the queue's three; the echo behind them waits.
    let waiting: Vec<_> = (0..2).map(|_| bed.start(HOLD)).collect();
    let echo = bed.start(ECHO).1;
    assert!(echo.recv_timeout(MOMENT).is_err(), "three are presented");
    bed.process.cancel(bed.handle, Some(first_token)).expect("there is one to cancel");
    assert_eq!(first.recv_timeout(PATIENCE).expect("completes").status, STATUS_CANCELLED);
    assert_eq!(echo.recv_timeout(PATIENCE).expect("its turn").status, STATUS_SUCCESS);
    for (token, held) in waiting {
        bed.process.cancel(bed.handle, Some(token)).expect("there is one to cancel");
        assert_eq!(held.recv_timeout(PATIENCE).expect("completes").status, STATUS_CANCELLED);
    }
    bed.finish();
}

#[test]
fn no_request_is_lost_between_the_threads_that_present_them() {
    let bed = Bed::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3000 {
                    assert_eq!(bed.call(ECHO).status, STATUS_SUCCESS);
                }
            });
        }
    });
    bed.finish();
}

/// A request that was taken out of its queue while its cancel routine was running was looked up again after that one had
/// completed it.
#[test]
fn a_request_that_is_cancelled_while_it_is_taken_out_has_one_end() {
    let bed = Bed::new();
    let ended = AtomicUsize::new(0);
    let cancels = || {
        for _ in 0..150 {
            let parked: Vec<_> = (0..20).map(|_| bed.start(PARK)).collect();
            for (token, _) in &parked {
                // Gone already if another thread has taken it out.
                let _ = bed.process.cancel(bed.handle, Some(*token));
            }
            for (_, parked) in parked {
                let status = parked.recv_timeout(PATIENCE).expect("it completes").status;
                assert!([STATUS_SUCCESS, STATUS_CANCELLED].contains(&status), "{status:#x}");
            }
        }
        ended.fetch_add(1, Ordering::AcqRel);
    };
    let retrieves = || {
        while ended.load(Ordering::Acquire) != 4 {
            assert_eq!(bed.call(UNPARK).status, STATUS_SUCCESS);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(cancels);
            scope.spawn(retrieves);
        }
    });
    assert_eq!(bed.call(STATE).information, 0);
    bed.finish();
}

#[test]
fn cleanup_of_a_handle_cancels_what_it_has_waiting_and_nothing_else() {
    let bed = Bed::new();
    let other = bed.process.open(r"\\.\KmdfQueues", READ_WRITE).expect("opens twice");
    let (_, mine) = bed.start(PARK);
    let (_, others) = bed.start_with(other, PARK, &[]);
    bed.process.close(other).expect("closes");
    assert_eq!(others.recv_timeout(PATIENCE).expect("completes").status, STATUS_CANCELLED);
    assert!(mine.recv_timeout(MOMENT).is_err());
    assert_eq!(bed.call(UNPARK).information, 1);
    bed.finish();
}

#[test]
fn timers_run_at_dispatch_level_and_work_items_at_passive_level() {
    let bed = Bed::new();
    assert_eq!(bed.call(HOLD_FOR_TIMER).information, DISPATCH_LEVEL);
    assert_eq!(bed.call(WORK).information, 0);
    bed.finish();
}

#[test]
fn an_unload_is_deferred_while_a_handle_is_open() {
    let Bed { machine, driver, process, handle } = Bed::new();
    assert_eq!(machine.unload(&driver), Ok(Unload::Deferred));
    process.close(handle).expect("closes");
    assert!(machine.wait_unloaded(&driver, PATIENCE));
    assert!(machine.violation().is_none());
}

#[test]
fn a_request_completed_twice_is_caught() {
    assert_eq!(Bed::broken_by(COMPLETE_TWICE), Rule::Framework);
}

#[test]
fn a_request_completed_while_cancelable_is_caught() {
    assert_eq!(Bed::broken_by(COMPLETE_WHILE_CANCELABLE), Rule::Framework);
}

#[test]
fn a_deleted_object_that_is_used_is_caught() {
    assert_eq!(Bed::broken_by(USE_DELETED), Rule::Framework);
}
