//! What the framework knows of a device: `tests/drivers/kmdf_device.c`, a driver of Plug and Play.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Instant;

use test_harness::machine::{Process, RootDevice, Unload};
use test_harness::nt::status::{self, STATUS_DEVICE_BUSY, STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS};
use test_harness::{Driver, Machine, Rule};

use crate::{PATIENCE, READ_WRITE};

const DRIVER: &str = "kmdf_device";

fn image() -> &'static PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| crate::build(DRIVER))
}

/// A machine with the driver, started on a device.
fn started() -> (Machine, Driver, RootDevice) {
    let machine = Machine::new();
    let driver = machine.load(image(), DRIVER).unwrap_or_else(|error| panic!("{error:?}: {:?}", machine.violation()));
    let device = machine.add_device(&driver).unwrap_or_else(|status| panic!("{status:#x}: {:?}", machine.violation()));
    (machine, driver, device)
}

/// Has the driver behave: the status that this ended with.
fn act(machine: &Machine, process: &Process, behaviour: &str) -> i32 {
    let handle = process.open(r"\\.\Verifier", READ_WRITE).expect("the device opens");
    let (done, told) = channel();
    let input: Vec<u8> = behaviour.bytes().chain([0]).collect();
    let issued = process.control_async(handle, 0x22 << 16 | 1 << 2, input, vec![0; 16], move |(status, ..)| {
        let _ = done.send(status.status);
    });
    issued.expect("the request is issued");
    let status = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{behaviour}: {:?}", machine.violation()));
    process.close(handle).unwrap_or_else(|status| panic!("{behaviour}: {status:#x}: {:?}", machine.violation()));
    status
}

fn succeeds(behaviour: &str) {
    let (machine, driver, device) = started();
    let process = machine.process();
    match act(&machine, &process, behaviour) {
        STATUS_SUCCESS => {}
        failed if failed.cast_unsigned() >> 16 == 0xE000 => {
            panic!("{behaviour}: the check in line {} fails", failed & 0xffff)
        }
        failed => panic!("{behaviour}: {}", status::name(failed)),
    }
    // It is open by a name that is its own, not that of its stack.
    process.open(r"\\.\Verifier", READ_WRITE).expect("the device opens");
    assert_eq!(machine.remove_device(&driver, device), Err(STATUS_DEVICE_BUSY));
    drop(process);
    assert_eq!(machine.remove_device(&driver, device), Ok(()), "{behaviour}: {:?}", machine.violation());
    assert_eq!(machine.unload(&driver), Ok(Unload::Done), "{behaviour}: {:?}", machine.violation());
}

#[test]
fn it_is_as_its_documentation_says() {
    let source = std::fs::read_to_string(crate::source(DRIVER)).expect("the driver's source");
    let rows: Vec<_> =
        source.lines().filter_map(|line| line.trim().strip_prefix("ROW_OF(")?.strip_suffix("),")).collect();
    assert!(!rows.is_empty());
    rows.into_iter().for_each(succeeds);
}

#[test]
fn a_control_device_hears_of_the_shutdown_early_and_late() {
    let (machine, driver, device) = started();
    machine.shut_down().expect("the machine runs");
    let told = machine.debug_output().concat();
    assert_eq!(told.lines().collect::<Vec<_>>(), ["shutdown of it"; 2]);
    assert_eq!(machine.remove_device(&driver, device), Ok(()), "{:?}", machine.violation());
    machine.shut_down().expect("the machine runs");
    let told = machine.debug_output().concat();
    assert_eq!(told.lines().last(), Some("device cleanup"));
    assert_eq!(machine.unload(&driver), Ok(Unload::Done), "{:?}", machine.violation());
}

#[test]
fn a_device_that_has_failed_is_removed() {
    let (machine, driver, device) = started();
    let process = machine.process();
    assert_eq!(act(&machine, &process, "fail_the_device"), STATUS_SUCCESS, "{:?}", machine.violation());
    let begun = Instant::now();
    while !machine.debug_output().concat().contains("device cleanup") {
        assert!(begun.elapsed() < PATIENCE && !machine.is_stopped(), "{:?}", machine.violation());
        std::thread::yield_now();
    }
    drop(process);
    let removed = loop {
        match machine.unload(&driver) {
            Ok(unloaded) => break unloaded,
            Err(_) if begun.elapsed() < PATIENCE => std::thread::yield_now(),
            Err(status) => panic!("{status:#x}: {:?}", machine.violation()),
        }
    };
    assert_eq!(removed, Unload::Done);
    assert_eq!(machine.remove_device(&driver, device), Err(STATUS_NO_SUCH_DEVICE));
}

/// What the driver has said since it was asked last, when it has said so many lines.
fn said(machine: &Machine, before: &mut usize, count: usize) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let output = machine.debug_output().concat();
        let lines: Vec<_> = output.lines().skip(*before).map(str::to_owned).collect();
        if lines.len() >= count {
            *before += lines.len();
            return lines;
        }
        assert!(begun.elapsed() < PATIENCE && !machine.is_stopped(), "{lines:?} {:?}", machine.violation());
        std::thread::yield_now();
    }
}

#[test]
fn a_device_that_nobody_needs_leaves_d0_and_comes_back_when_it_is_needed() {
    let (machine, driver, device) = started();
    let process = machine.process();
    let mut heard = 0;
    assert_eq!(act(&machine, &process, "idle_soon"), STATUS_SUCCESS);
    assert_eq!(said(&machine, &mut heard, 1), ["D0 exit to 4"]);
    assert_eq!(act(&machine, &process, "stop_idle"), STATUS_SUCCESS);
    assert_eq!(said(&machine, &mut heard, 1), ["D0 entry from 4"]);
    assert_eq!(act(&machine, &process, "resume_idle"), STATUS_SUCCESS);
    assert_eq!(said(&machine, &mut heard, 1), ["D0 exit to 4"]);
    // The system sleeps and wakes: the device is left where it is.
    machine.sleep().expect("the machine sleeps");
    machine.wake().expect("the machine wakes");
    assert_eq!(act(&machine, &process, "idle_soon_and_rise_with_the_system"), STATUS_SUCCESS);
    assert_eq!(said(&machine, &mut heard, 2), ["D0 entry from 4", "D0 exit to 4"]);
    machine.sleep().expect("the machine sleeps");
    machine.wake().expect("the machine wakes");
    assert_eq!(said(&machine, &mut heard, 2), ["D0 entry from 4", "D0 exit to 4"]);
    // It is asked in D0 whether it may be removed.
    drop(process);
    assert_eq!(machine.remove_device(&driver, device), Ok(()), "{:?}", machine.violation());
    assert_eq!(said(&machine, &mut heard, 3), ["D0 entry from 4", "D0 exit to 5", "device cleanup"]);
    assert_eq!(machine.unload(&driver), Ok(Unload::Done), "{:?}", machine.violation());
}

#[test]
fn a_device_does_not_idle_any_more_when_its_driver_says_so_and_sleeps_with_the_system() {
    let (machine, driver, device) = started();
    let process = machine.process();
    let mut heard = 0;
    assert_eq!(act(&machine, &process, "idle_soon"), STATUS_SUCCESS);
    assert_eq!(said(&machine, &mut heard, 1), ["D0 exit to 4"]);
    assert_eq!(act(&machine, &process, "idle_no_more"), STATUS_SUCCESS);
    assert_eq!(said(&machine, &mut heard, 1), ["D0 entry from 4"]);
    machine.sleep().expect("the machine sleeps");
    assert_eq!(said(&machine, &mut heard, 1), ["D0 exit to 4"]);
    machine.wake().expect("the machine wakes");
    assert_eq!(said(&machine, &mut heard, 1), ["D0 entry from 4"]);
    drop(process);
    assert_eq!(machine.unplug_device(&driver, device), Ok(()), "{:?}", machine.violation());
    assert_eq!(said(&machine, &mut heard, 2), ["D0 exit to 5", "device cleanup"]);
    assert_eq!(machine.unload(&driver), Ok(Unload::Done), "{:?}", machine.violation());
}

/// Has the driver do what ends the machine: the rule that it breaks.
fn breaks(machine: &Machine, behaviour: &str) -> Rule {
    let process = machine.process();
    let handle = process.open(r"\\.\Verifier", READ_WRITE).expect("the device opens");
    let input: Vec<u8> = behaviour.bytes().chain([0]).collect();
    process.control(handle, 0x22 << 16 | 1 << 2, &input, 8).expect_err("the machine stops");
    machine.violation().expect("a rule is broken").rule
}

#[test]
fn a_break_point_needs_a_debugger_where_the_drivers_key_asks_for_it() {
    // Microsoft's framework calls the kernel's break point, which is not there.
    let machine = Machine::builder().kmdf(None).build();
    let driver = machine.load(image(), DRIVER).expect("the driver loads");
    let device = machine.add_device(&driver).expect("the device starts");
    let process = machine.process();
    assert_eq!(act(&machine, &process, "break_on_errors"), STATUS_SUCCESS);
    drop(process);
    machine.remove_device(&driver, device).expect("the device goes");
    assert_eq!(machine.unload(&driver), Ok(Unload::Done));
    let driver = machine.load(image(), DRIVER).expect("the driver loads again");
    machine.add_device(&driver).expect("the device starts");
    assert_eq!(breaks(&machine, "hit_a_break_point"), Rule::BugCheck);
}

#[test]
fn what_no_driver_may_say_of_its_device_ends_the_machine() {
    // The harness' framework says so in its own words.
    for fault in [
        "set_a_state_that_is_neither_yes_nor_no",
        "set_capabilities_of_another_size",
        "resume_idle_that_was_not_stopped",
    ] {
        let machine = Machine::builder().kmdf(None).build();
        let driver = machine.load(image(), DRIVER).expect("the driver loads");
        machine.add_device(&driver).expect("the device starts");
        assert_eq!(breaks(&machine, fault), Rule::Framework, "{fault}");
    }
}

#[test]
fn a_bug_check_by_way_of_the_framework_is_one() {
    let (machine, ..) = started();
    assert_eq!(breaks(&machine, "crash"), Rule::BugCheck);
    let text = machine.violation().expect("a rule is broken").text;
    assert!(text.contains("0x000000E2 (0x1, 0x2, 0x3, 0x4)"), "{text}");
}
