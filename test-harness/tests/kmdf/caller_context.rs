//! Requests in their callers' context: contexts of requests, event handles, DPCs, and registry values.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use test_harness::machine::{Builder, Handle, IoToken, Process, Unload};
use test_harness::nt::registry::Value;
use test_harness::nt::status::{
    STATUS_ACCESS_DENIED, STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL, STATUS_CANCELLED, STATUS_DEVICE_BUSY,
    STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_HANDLE, STATUS_OBJECT_NAME_EXISTS, STATUS_OBJECT_NAME_NOT_FOUND,
    STATUS_OBJECT_TYPE_MISMATCH, STATUS_SUCCESS,
};
use test_harness::nt::types::{EVENT_MODIFY_STATE, EVENT_QUERY_STATE, NTSTATUS, SYNCHRONIZE};
use test_harness::{Driver, IoStatus, Machine, Rule};

use crate::{MOMENT, PATIENCE, READ_WRITE};

const COMPLETE_HERE: u32 = 1;
const ENQUEUE: u32 = 2;
const PARK: u32 = 3;
const COUNTS: u32 = 4;
const NO_CONTEXT: u32 = 5;
const ENQUEUE_AT_DISPATCH: u32 = 6;
const ENQUEUE_TWICE: u32 = 7;
const PURGE: u32 = 8;
const FORWARD_FROM_CALLER: u32 = 9;
const ALLOCATE_TWICE: u32 = 10;
const SELECT: u32 = 11;
const SIGNAL: u32 = 12;
const RESET: u32 = 13;
const CLEAR: u32 = 14;
const DESELECT: u32 = 15;
const SELECT_LATER: u32 = 16;
const DPC: u32 = 17;
const QUERY_VALUE: u32 = 18;
const UNSAFE: u32 = 19;
const METHOD_NEITHER: u32 = 3;

const SERVICE: &str = "kmdf_caller_context";
const DEVICE: &str = r"\\.\KmdfCallerContext";
const PASSIVE_LEVEL: u32 = 0;
const DISPATCH_LEVEL: usize = 2;
const USER_MODE: u32 = 1;

fn image() -> &'static PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| crate::build(SERVICE))
}

fn code(function: u32) -> u32 {
    (0x22 << 16) | (function << 2)
}

struct Bed {
    machine: Machine,
    driver: Driver,
    process: Process,
    handle: Handle,
}

impl Bed {
    fn new() -> Self {
        Self::with(Machine::builder())
    }

    fn with(builder: Builder) -> Self {
        let machine = builder.build();
        let driver = machine.load(image(), SERVICE).expect("the driver loads");
        let process = machine.process();
        let handle = process.open(DEVICE, READ_WRITE).expect("the device opens");
        Self { machine, driver, process, handle }
    }

    fn start(&self, function: u32, input: &[u8]) -> (IoToken, Receiver<(IoStatus, Vec<u8>)>) {
        let (done, told) = channel();
        let finished = move |(status, _, output)| {
            let _ = done.send((status, output));
        };
        let token = self
            .process
            .control_async(self.handle, code(function), input.to_vec(), vec![0; 20], finished)
            .expect("the request is issued");
        (token, told)
    }

    fn status(&self, function: u32, input: &[u8]) -> NTSTATUS {
        self.start(function, input).1.recv_timeout(PATIENCE).expect("it completes").0.status
    }

    /// The numbers that a request answers.
    fn ask<const COUNT: usize>(&self, function: u32, input: &[u8]) -> [u32; COUNT] {
        let (status, output) = self.start(function, input).1.recv_timeout(PATIENCE).expect("it completes");
        assert_eq!(status, IoStatus { status: STATUS_SUCCESS, information: 4 * COUNT });
        std::array::from_fn(|index| u32::from_le_bytes(output[4 * index..][..4].try_into().expect("four bytes")))
    }

    fn select(&self, handle: u64) -> NTSTATUS {
        self.status(SELECT, &handle.to_le_bytes())
    }

    fn finish(self) {
        drop(self.process);
        assert_eq!(self.machine.unload(&self.driver), Ok(Unload::Done));
        if let Some(violation) = self.machine.violation() {
            panic!("{violation}");
        }
    }
}

#[test]
fn the_callback_runs_in_the_callers_thread_and_process_and_may_complete_there() {
    let bed = Bed::new();
    let [process, thread, irql, mode, first] = bed.ask(COMPLETE_HERE, &[0xA5, 1]);
    assert_eq!(process as usize, bed.process.id());
    assert_eq!((irql, mode, first), (PASSIVE_LEVEL, USER_MODE, 0xA5));
    let elsewhere = std::thread::scope(|scope| {
        let other = scope.spawn(|| bed.ask::<5>(COMPLETE_HERE, &[7]));
        other.join().expect("it answers")
    });
    assert_eq!(elsewhere[0], process);
    assert_ne!(elsewhere[1], thread, "the thread that calls is the thread it runs in");
    assert_eq!(bed.ask(COUNTS, &[]), [2, 2, 1, 1], "cleaned up and destroyed, once each");
    bed.finish();
}

#[test]
fn the_callers_own_buffers_are_used_in_its_context() {
    let bed = Bed::new();
    let named = bed.process.open(r"\\.\KmdfCallerContext\zone", READ_WRITE).expect("it opens");
    let control = |handle, code, room| {
        let (done, told) = channel();
        let issued =
            bed.process.control_async(handle, code, b"abc".to_vec(), vec![0; room], move |(status, _, output)| {
                let _ = done.send((status.status, output));
            });
        issued.unwrap_or_else(|_| panic!("{:?}", bed.machine.violation()));
        told.recv_timeout(PATIENCE).expect("it completes")
    };
    let neither = code(UNSAFE) | METHOD_NEITHER;
    assert_eq!(control(named, neither, 4), (STATUS_SUCCESS, b"cbaz".to_vec()));
    assert_eq!(control(bed.handle, neither, 4), (STATUS_SUCCESS, b"cba\0".to_vec()));
    assert_eq!(control(named, neither, 3).0, STATUS_BUFFER_TOO_SMALL);
    assert_eq!(control(named, code(UNSAFE), 4).0, STATUS_INVALID_DEVICE_REQUEST, "a buffered one has none");
    bed.finish();
}

#[test]
fn a_request_goes_on_to_its_queue_with_its_context() {
    let bed = Bed::new();
    assert_eq!(bed.ask(ENQUEUE, &[]), [4711]);
    assert_eq!(bed.ask(COUNTS, &[]), [1, 1, 4711, 4711]);
    let (status, _) = bed.start(NO_CONTEXT, &[]).1.recv_timeout(PATIENCE).expect("it completes");
    assert_eq!(status, IoStatus { status: STATUS_SUCCESS, information: 0 }, "no context that nobody allocated");
    assert_eq!(bed.status(ALLOCATE_TWICE, &[]), STATUS_OBJECT_NAME_EXISTS);
    assert_eq!(bed.ask(COUNTS, &[]), [2, 2, 7, 7], "the first allocation's callbacks");
    bed.finish();
}

#[test]
fn a_request_that_is_cancelled_in_a_queue_is_cleaned_up_once() {
    let bed = Bed::new();
    let (token, parked) = bed.start(PARK, &[]);
    assert!(parked.recv_timeout(MOMENT).is_err());
    assert_eq!(bed.ask(COUNTS, &[]), [0, 0, 0, 0]);
    bed.process.cancel(bed.handle, Some(token)).expect("there is one to cancel");
    assert_eq!(parked.recv_timeout(PATIENCE).expect("it completes").0.status, STATUS_CANCELLED);
    assert_eq!(bed.ask(COUNTS, &[]), [1, 1, 42, 42]);
    bed.finish();
}

#[test]
fn the_passive_device_dispatches_at_passive_level_whatever_enqueued() {
    let bed = Bed::new();
    assert_eq!(bed.ask(ENQUEUE_AT_DISPATCH, &[]), [PASSIVE_LEVEL]);
    bed.finish();
}

#[test]
fn the_driver_keeps_a_request_that_is_not_taken() {
    let bed = Bed::new();
    assert_eq!(bed.status(FORWARD_FROM_CALLER, &[]), STATUS_INVALID_DEVICE_REQUEST);
    assert_eq!(bed.status(PURGE, &[]), STATUS_SUCCESS);
    assert_eq!(bed.status(ENQUEUE, &[]), STATUS_DEVICE_BUSY, "STATUS_WDF_BUSY, as the framework hands it on");
    bed.finish();
}

#[test]
fn a_request_enqueued_twice_is_caught() {
    // Microsoft's framework says no to the second one, without another word.
    let bed = Bed::with(Machine::builder().kmdf(None));
    bed.process.control_async(bed.handle, code(ENQUEUE_TWICE), vec![], vec![], |_| ()).expect_err("the machine stops");
    assert_eq!(bed.machine.violation().expect("a rule is broken").rule, Rule::Framework);
}

#[test]
fn an_event_is_set_and_reset_through_its_handle() {
    let bed = Bed::new();
    for notification in [true, false] {
        let event = bed.process.create_event(notification).expect("an event");
        assert_eq!(bed.select(event.value()), STATUS_SUCCESS);
        assert_eq!(bed.status(SIGNAL, &[]), STATUS_SUCCESS);
        assert_eq!(bed.process.is_signaled(event), Ok(true));
        assert_eq!((bed.ask(RESET, &[]), bed.ask(RESET, &[])), ([1], [0]));
        assert_eq!(bed.process.is_signaled(event), Ok(false));
        assert_eq!(bed.status(SIGNAL, &[]), STATUS_SUCCESS);
        assert_eq!(bed.process.wait_event(event, PATIENCE), Ok(true));
        assert_eq!(bed.process.is_signaled(event), Ok(notification), "a wait resets a synchronization event");
        assert_eq!(bed.status(CLEAR, &[]), STATUS_SUCCESS);
        assert_eq!(bed.process.is_signaled(event), Ok(false));
        // The driver's reference outlives the handle.
        bed.process.close(event).expect("it was open");
        assert_eq!(bed.status(SIGNAL, &[]), STATUS_SUCCESS);
        assert_eq!(bed.status(DESELECT, &[]), STATUS_SUCCESS);
    }
    bed.finish();
}

#[test]
fn a_handle_that_is_no_event_or_may_not_be_set_is_refused() {
    let bed = Bed::new();
    for wrong in [0, 0x4444, u64::MAX - 2] {
        assert_eq!(bed.select(wrong), STATUS_INVALID_HANDLE, "{wrong:#x}");
    }
    assert_eq!(bed.select(bed.handle.value()), STATUS_OBJECT_TYPE_MISMATCH, "a file");
    // NtCurrentProcess().
    assert_eq!(bed.select(u64::MAX), STATUS_OBJECT_TYPE_MISMATCH);
    let closed = bed.process.create_event(true).expect("an event");
    bed.process.close(closed).expect("it was open");
    assert_eq!(bed.select(closed.value()), STATUS_INVALID_HANDLE);
    let watched = bed.process.create_event_with(true, SYNCHRONIZE | EVENT_QUERY_STATE).expect("an event");
    assert_eq!(bed.select(watched.value()), STATUS_ACCESS_DENIED);
    let settable = bed.process.create_event_with(true, EVENT_MODIFY_STATE).expect("an event");
    assert_eq!(bed.select(settable.value()), STATUS_SUCCESS);
    assert_eq!(bed.status(DESELECT, &[]), STATUS_SUCCESS);
    // The first kernel handle, which no user mode names.
    assert_eq!(bed.select(0xffff_ffff_8000_0004), STATUS_INVALID_HANDLE);
    // A system thread has another process' handles.
    assert_eq!(bed.status(SELECT_LATER, &settable.value().to_le_bytes()), STATUS_INVALID_HANDLE);
    bed.finish();
}

#[test]
fn a_dpc_completes_a_request_at_dispatch_level() {
    let bed = Bed::new();
    let begun = Instant::now();
    for _ in 0..100 {
        let (status, _) = bed.start(DPC, &[]).1.recv_timeout(PATIENCE).expect("it completes");
        assert_eq!(status, IoStatus { status: STATUS_SUCCESS, information: DISPATCH_LEVEL });
    }
    println!("a request that a DPC completes: {:?}", begun.elapsed() / 100);
    bed.finish();
}

#[test]
fn a_registry_value_is_read_as_its_bytes() {
    const REG_DWORD: u32 = 4;
    const REG_MULTI_SZ: u32 = 7;
    let query = |bed: &Bed, room: u32| {
        let [status, length, kind, low, high] = bed.ask(QUERY_VALUE, &room.to_le_bytes());
        (status.cast_signed(), length, kind, low, high)
    };
    let routes = Value::List(vec!["a".to_owned(), "b".to_owned()]);
    let bed = Bed::with(Machine::builder().parameter(SERVICE, "Other", Value::Number(0)));
    assert_eq!(query(&bed, 8), (STATUS_OBJECT_NAME_NOT_FOUND, 0, 0, 0, 0));
    bed.machine.set_parameter(SERVICE, "Routes", routes);
    // Two strings with their terminators, and the list's own.
    assert_eq!(query(&bed, 0), (STATUS_BUFFER_OVERFLOW, 10, REG_MULTI_SZ, 0, 0));
    assert_eq!(query(&bed, 8), (STATUS_BUFFER_OVERFLOW, 10, REG_MULTI_SZ, 0, 0), "nothing of it is copied");
    bed.machine.set_parameter(SERVICE, "Routes", Value::List(vec!["a".to_owned()]));
    let (a, end) = (u32::from(b'a'), 0);
    assert_eq!(query(&bed, 8), (STATUS_SUCCESS, 6, REG_MULTI_SZ, a, end));
    bed.machine.set_parameter(SERVICE, "Routes", Value::Number(0x1234_5678));
    assert_eq!(query(&bed, 4), (STATUS_SUCCESS, 4, REG_DWORD, 0x1234_5678, 0));
    bed.finish();
}
