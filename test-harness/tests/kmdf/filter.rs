//! A filter above a function device: `tests/drivers/kmdf_filter.c`.

use std::sync::mpsc::channel;
use std::time::Instant;

use test_harness::machine::{Handle, Process, Unload};
use test_harness::nt::status::STATUS_SUCCESS;
use test_harness::{IoStatus, Machine};

use crate::{PATIENCE, READ_WRITE};

/// How the function device answers a transfer and a control, and the filter.
const FUNCTION_TRANSFER: usize = 3;
const FUNCTION_CONTROL: usize = 4;
const FILTER_TRANSFER: usize = 2;
const FILTER_CONTROL: usize = 1;

fn transfer(process: &Process, handle: Handle, writes: bool) -> IoStatus {
    let (done, told) = channel();
    let issued = process.transfer_async(handle, writes, vec![0; 8], move |(status, _)| {
        let _ = done.send(status);
    });
    issued.expect("the request is issued");
    told.recv_timeout(PATIENCE).expect("the request ends")
}

fn control(process: &Process, handle: Handle, function: u32) -> IoStatus {
    let (done, told) = channel();
    let issued = process.control_async(handle, 0x22 << 16 | function << 2, vec![], vec![0; 8], move |(status, ..)| {
        let _ = done.send(status);
    });
    issued.expect("the request is issued");
    told.recv_timeout(PATIENCE).expect("the request ends")
}

/// Waits until the driver has said so much.
fn says(machine: &Machine, lines: &[&str]) {
    let begun = Instant::now();
    loop {
        let output = machine.debug_output().concat();
        let said: Vec<_> = output.lines().collect();
        if said.len() >= lines.len() || begun.elapsed() > PATIENCE || machine.is_stopped() {
            assert_eq!(said, lines, "{:?}", machine.violation());
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn what_a_filter_does_not_handle_goes_on_to_the_function_device() {
    let answered = |information| IoStatus { status: STATUS_SUCCESS, information };
    let machine = Machine::new();
    let driver = machine.load(crate::build("kmdf_filter"), "kmdf_filter").expect("the driver loads");
    let device = machine.add_device(&driver).unwrap_or_else(|status| panic!("{status:#x}: {:?}", machine.violation()));
    let mut lines = vec!["D0 entry of the function", "D0 entry of the filter"];
    says(&machine, &lines);
    let process = machine.process();
    let handle = process.open(r"\\.\Filtered", READ_WRITE).expect("the device opens");
    lines.push("create");
    says(&machine, &lines);
    assert_eq!(transfer(&process, handle, true), answered(FILTER_TRANSFER));
    assert_eq!(transfer(&process, handle, false), answered(FUNCTION_TRANSFER));
    assert_eq!(control(&process, handle, 1), answered(FILTER_CONTROL));
    assert_eq!(control(&process, handle, 2), answered(FUNCTION_CONTROL));
    // The function device owns the power policy of the stack.
    machine.sleep().expect("the machine sleeps");
    lines.extend(["D0 exit of the filter", "D0 exit of the function"]);
    says(&machine, &lines);
    machine.wake().expect("the machine wakes");
    lines.extend(["D0 entry of the function", "D0 entry of the filter"]);
    says(&machine, &lines);
    process.close(handle).expect("the handle closes");
    lines.extend(["cleanup in the filter", "cleanup", "close"]);
    says(&machine, &lines);
    drop(process);
    assert_eq!(machine.remove_device(&driver, device), Ok(()), "{:?}", machine.violation());
    lines.extend(["D0 exit of the filter", "D0 exit of the function"]);
    says(&machine, &lines);
    assert_eq!(machine.unload(&driver), Ok(Unload::Done), "{:?}", machine.violation());
}
