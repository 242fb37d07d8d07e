//! Objects of the framework, each used by one behaviour of `tests/drivers/kmdf_objects.c`, and callbacks that come one at a time.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};

use test_harness::machine::{Handle, IoToken, Process, Unload};
use test_harness::nt::status::{self, STATUS_CANCELLED, STATUS_SUCCESS};
use test_harness::{IoStatus, Machine, Rule, Violation};

use crate::{MOMENT, PATIENCE, READ_WRITE};

const DRIVER: &str = "kmdf_objects";
/// What the device that serializes its callbacks is asked for.
const PAUSE: u32 = 1;
const FORWARD: u32 = 2;
const PARK: u32 = 3;
const FIND: u32 = 4;

fn image() -> &'static PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| crate::build(DRIVER))
}

fn start(process: &Process, handle: Handle, function: u32, input: Vec<u8>) -> (Option<IoToken>, Receiver<IoStatus>) {
    let (done, told) = channel();
    let issued = process.control_async(handle, 0x22 << 16 | function << 2, input, vec![0; 16], move |(status, ..)| {
        let _ = done.send(status);
    });
    (issued.ok(), told)
}

/// Runs one behaviour: the status it ended with, or the rule that it broke.
fn run(machine: &Machine, behaviour: &str, wrong: bool) -> Result<i32, Violation> {
    let broken = || machine.violation().expect("the machine has stopped for a reason");
    let driver = machine.load(image(), DRIVER).map_err(|_| broken())?;
    let process = machine.process();
    let handle = process.open(r"\\.\Verifier", READ_WRITE).map_err(|_| broken())?;
    let mut input = vec![u8::from(wrong)];
    input.extend(behaviour.bytes().chain([0]));
    let (_, told) = start(&process, handle, 1, input);
    let status = told.recv_timeout(PATIENCE).map_err(|_| broken())?;
    drop(process);
    let unloaded = machine.unload(&driver);
    match machine.violation() {
        Some(violation) => Err(violation),
        None => {
            assert_eq!(unloaded, Ok(Unload::Done));
            Ok(status.status)
        }
    }
}

fn succeeds(behaviour: &str) {
    match run(&Machine::new(), behaviour, false) {
        Ok(STATUS_SUCCESS) => {}
        Ok(failed) if failed.cast_unsigned() >> 16 == 0xE000 => {
            panic!("{behaviour}: the check in line {} fails", failed & 0xffff)
        }
        Ok(failed) => panic!("{behaviour}: {}", status::name(failed)),
        Err(violation) => panic!("{behaviour}: {violation}"),
    }
}

#[test]
fn they_do_what_their_documentation_says() {
    let source = std::fs::read_to_string(crate::source(DRIVER)).expect("the driver's source");
    let rows = source.lines().filter_map(|line| line.trim().strip_prefix("ROW_OF(")?.strip_suffix("),"));
    let rows: Vec<_> = rows.collect();
    assert!(!rows.is_empty());
    rows.into_iter().for_each(succeeds);
}

#[test]
fn only_a_device_or_a_queue_has_a_presentation_lock() {
    // The harness' framework says so in its own words.
    let machine = Machine::builder().kmdf(None).build();
    let violation = run(&machine, "lock_an_object_without_a_lock", true).expect_err("a rule is broken");
    assert_eq!(violation.rule, Rule::Framework, "{violation}");
    assert!(violation.text.contains("WdfObjectAcquireLock"), "{violation}");
}

#[test]
fn callbacks_of_a_device_come_one_at_a_time() {
    let machine = Machine::new();
    let driver = machine.load(image(), DRIVER).expect("the driver loads");
    let process = machine.process();
    let handle = process.open(r"\\.\Serialized", READ_WRITE).expect("the device opens");
    std::thread::scope(|scope| {
        for function in [PAUSE, FORWARD, PAUSE, FORWARD] {
            let process = &process;
            scope.spawn(move || {
                for _ in 0..200 {
                    let (_, told) = start(process, handle, function, Vec::new());
                    assert_eq!(told.recv_timeout(PATIENCE), Ok(IoStatus { status: STATUS_SUCCESS, information: 1 }));
                }
            });
        }
    });
    drop(process);
    assert_eq!(machine.unload(&driver), Ok(Unload::Done));
    assert!(machine.violation().is_none(), "{:?}", machine.violation());
}

#[test]
fn a_waiting_request_is_found_and_retrieved_among_others() {
    let machine = Machine::new();
    let driver = machine.load(image(), DRIVER).expect("the driver loads");
    let process = machine.process();
    let handle = process.open(r"\\.\Serialized", READ_WRITE).expect("the device opens");
    let find = |length: usize| start(&process, handle, FIND, vec![0; length]).1.recv_timeout(PATIENCE);
    let looked_at = |information| Ok(IoStatus { status: STATUS_SUCCESS, information });
    assert_eq!(find(3), looked_at(0));
    let parked: Vec<_> = (1..=4).map(|length| start(&process, handle, PARK, vec![0; length])).collect();
    assert_eq!(find(9), looked_at(4));
    assert_eq!(find(3), looked_at(3));
    assert_eq!(parked[2].1.recv_timeout(PATIENCE), looked_at(0));
    process.cancel(handle, parked[0].0).expect("it waits");
    assert_eq!(parked[0].1.recv_timeout(PATIENCE).map(|status| status.status), Ok(STATUS_CANCELLED));
    assert_eq!(find(4), looked_at(2));
    assert_eq!(parked[3].1.recv_timeout(PATIENCE), looked_at(0));
    assert!(parked[1].1.recv_timeout(MOMENT).is_err(), "it waits still");
    drop(process);
    assert_eq!(parked[1].1.recv_timeout(PATIENCE).map(|status| status.status), Ok(STATUS_CANCELLED));
    assert_eq!(machine.unload(&driver), Ok(Unload::Done));
    assert!(machine.violation().is_none(), "{:?}", machine.violation());
}
