//! A driver of Plug and Play on the framework: `tests/drivers/kmdf_pnp.c`.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use driver_build::DriverModel;
use test_harness::Machine;
use test_harness::machine::{Driver, Handle, Process, RootDevice, Unload};
use test_harness::nt::status::{
    STATUS_CANCELLED, STATUS_DEVICE_BUSY, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_DEVICE_STATE,
    STATUS_NO_SUCH_DEVICE, STATUS_SUCCESS, STATUS_UNSUCCESSFUL,
};
use test_harness::nt::types::GUID;

use crate::bed::{self, READ_WRITE};

const INTERFACE: GUID =
    GUID { Data1: 0x5a1c_2d5e, Data2: 0x0b6f, Data3: 0x4d3a, Data4: [0x9c, 0x41, 0x7f, 0x2e, 0x6f, 0x0a, 0x1b, 0x2c] };
const BY_TIMER: u32 = 1;
const BY_WORK_ITEM: u32 = 2;
const BY_DPC: u32 = 3;
const REFUSE_REMOVAL: u32 = 4;
const ALLOW_REMOVAL: u32 = 5;
const KEEP: u32 = 6;
const STATE: u32 = 7;
const PATIENCE: Duration = Duration::from_secs(20);

/// A device control with METHOD_BUFFERED: status and Information.
fn control(process: &Process, handle: Handle, function: u32) -> (i32, usize) {
    issue(process, handle, function).recv_timeout(PATIENCE).expect("the request ends")
}

fn issue(process: &Process, handle: Handle, function: u32) -> Receiver<(i32, usize)> {
    let (done, told) = channel();
    let code = 0x22 << 16 | function << 2;
    let issued = process.control_async(handle, code, vec![], vec![0; 8], move |(status, ..)| {
        let _ = done.send((status.status, status.information));
    });
    issued.expect("the request is issued");
    told
}

/// What the driver has said since it was asked last.
fn said(machine: &Machine, before: &mut usize) -> Vec<String> {
    let output = machine.debug_output();
    let new = output[*before..].concat();
    *before = output.len();
    new.lines().filter(|line| !line.starts_with("interface ")).map(str::to_owned).collect()
}

/// What it says until it says something certain.
fn said_until(machine: &Machine, before: &mut usize, last: &str) -> Vec<String> {
    let begun = Instant::now();
    let mut lines = vec![];
    while lines.last().is_none_or(|line| line != last) {
        assert!(begun.elapsed() < PATIENCE && !machine.is_stopped(), "{lines:?} {:?}", machine.violation());
        std::thread::yield_now();
        lines.extend(said(machine, before));
    }
    lines
}

/// Waits until the driver has heard of its interface.
fn hears_of_its_interface(machine: &Machine, what: &str) {
    let begun = Instant::now();
    let told = |machine: &Machine| {
        let output = machine.debug_output().concat();
        output.lines().filter(|line| line.starts_with(&format!(r"interface {what} \??\ROOT#"))).count()
    };
    while told(machine) == 0 {
        assert!(begun.elapsed() < PATIENCE && !machine.is_stopped(), "{what}: {:?}", machine.violation());
        std::thread::yield_now();
    }
    assert_eq!(told(machine), 1);
}

/// A machine with the driver, started on a device.
fn started() -> (Machine, Driver, RootDevice) {
    let machine = Machine::new();
    let driver = machine.load(bed::build("kmdf_pnp", DriverModel::Kmdf), "kmdf_pnp").expect("the driver loads");
    let device = machine.add_device(&driver).unwrap_or_else(|status| panic!("{status:#x}: {:?}", machine.violation()));
    (machine, driver, device)
}

fn open(machine: &Machine, process: &Process) -> Handle {
    let paths = machine.interfaces(&INTERFACE);
    process.open(&paths[0], READ_WRITE).expect("the interface opens")
}

/// Writes bytes, or reads up to 16: what comes of it, with the bytes that were moved.
fn transfer(process: &Process, handle: Handle, written: Option<&[u8]>) -> Receiver<(i32, Vec<u8>)> {
    let (done, told) = channel();
    let buffer = written.map_or_else(|| vec![0; 16], <[u8]>::to_vec);
    let issued = process.transfer_async(handle, written.is_some(), buffer, move |(status, mut buffer)| {
        buffer.truncate(status.information);
        let _ = done.send((status.status, buffer));
    });
    issued.expect("the request is issued");
    told
}

#[test]
fn a_root_device_is_added_started_used_and_removed() {
    let machine = Machine::new();
    let driver = machine.load(bed::build("kmdf_pnp", DriverModel::Kmdf), "kmdf_pnp").expect("the driver loads");
    assert!(machine.adds_devices(&driver));
    assert_eq!(machine.interfaces(&INTERFACE), Vec::<String>::new());
    let device = machine.add_device(&driver).unwrap_or_else(|status| panic!("{status:#x}: {:?}", machine.violation()));
    let paths = machine.interfaces(&INTERFACE);
    let [path] = &paths[..] else { panic!("{paths:?}") };
    assert!(path.starts_with(r"\\?\ROOT#") && path.ends_with("{5a1c2d5e-0b6f-4d3a-9c41-7f2e6f0a1b2c}"), "{path}");
    // A driver with a device is not unloaded.
    assert_eq!(machine.unload(&driver), Err(STATUS_INVALID_DEVICE_REQUEST));

    let process = machine.process();
    let handle = process.open(path, READ_WRITE).expect("the interface opens");
    assert_eq!(control(&process, handle, BY_TIMER), (STATUS_SUCCESS, 0), "a passive timer");
    assert_eq!(control(&process, handle, BY_WORK_ITEM), (STATUS_SUCCESS, 0));
    assert_eq!(control(&process, handle, BY_DPC), (STATUS_SUCCESS, 2));
    assert_eq!(control(&process, handle, 99).0, STATUS_INVALID_DEVICE_REQUEST);

    // What was written is read; a read before it waits for it.
    assert_eq!(
        transfer(&process, handle, Some(b"first")).recv_timeout(PATIENCE),
        Ok((STATUS_SUCCESS, b"first".to_vec()))
    );
    assert_eq!(transfer(&process, handle, None).recv_timeout(PATIENCE), Ok((STATUS_SUCCESS, b"first".to_vec())));
    let read = transfer(&process, handle, None);
    assert_eq!(read.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(
        transfer(&process, handle, Some(b"second")).recv_timeout(PATIENCE),
        Ok((STATUS_SUCCESS, b"second".to_vec()))
    );
    assert_eq!(read.recv_timeout(PATIENCE), Ok((STATUS_SUCCESS, b"second".to_vec())));
    // One that is cancelled does not.
    let read = transfer(&process, handle, None);
    process.cancel(handle, None).expect("the read waits");
    assert_eq!(read.recv_timeout(PATIENCE).map(|read| read.0), Ok(STATUS_CANCELLED));

    assert_eq!(control(&process, handle, REFUSE_REMOVAL), (STATUS_SUCCESS, 0));
    assert_eq!(machine.remove_device(&driver, device), Err(STATUS_DEVICE_BUSY), "it is open");
    process.close(handle).expect("the handle closes");
    assert_eq!(machine.remove_device(&driver, device), Err(STATUS_UNSUCCESSFUL), "the driver refuses");
    let handle = process.open(path, READ_WRITE).expect("it is still there");
    assert_eq!(control(&process, handle, ALLOW_REMOVAL), (STATUS_SUCCESS, 0));
    drop(process);
    let removed = machine.remove_device(&driver, device);
    assert_eq!(removed, Ok(()), "{:?}", machine.violation());
    assert_eq!(machine.interfaces(&INTERFACE), Vec::<String>::new());
    let said = machine.debug_output().concat();
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("interface ")).collect();
    assert_eq!(
        said,
        [
            "prepare hardware",
            "D0 entry",
            "self-managed I/O init",
            "query remove",
            "self-managed I/O suspend",
            "D0 exit",
            "release hardware",
            "self-managed I/O cleanup",
            "device cleanup",
        ]
    );
    let unloaded = machine.unload(&driver);
    assert_eq!(unloaded, Ok(Unload::Done), "{:?}", machine.violation());
}

#[test]
fn a_machine_that_sleeps_takes_its_devices_out_of_d0_and_back() {
    let (machine, driver, device) = started();
    let mut heard = 0;
    assert_eq!(said(&machine, &mut heard), ["prepare hardware", "D0 entry", "self-managed I/O init"]);
    assert_eq!(machine.wake(), Err(STATUS_INVALID_DEVICE_STATE), "it does not sleep");
    let process = machine.process();
    let handle = open(&machine, &process);
    let kept = issue(&process, handle, KEEP);
    for _ in 0..3 {
        assert_eq!(machine.sleep(), Ok(()), "{:?}", machine.violation());
        assert_eq!(said(&machine, &mut heard), ["self-managed I/O suspend", "D0 exit to D3"]);
        assert_eq!(machine.sleep(), Err(STATUS_INVALID_DEVICE_STATE));
        assert_eq!(machine.interfaces(&INTERFACE).len(), 1, "the interface stays");
        // What comes now waits for the device.
        let state = issue(&process, handle, STATE);
        assert_eq!(state.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(machine.wake(), Ok(()), "{:?}", machine.violation());
        assert_eq!(state.recv_timeout(PATIENCE), Ok((STATUS_SUCCESS, 1)));
        let lines = said_until(&machine, &mut heard, "self-managed I/O restart");
        assert_eq!(lines, ["D0 entry from D3", "self-managed I/O restart"]);
    }
    assert_eq!(kept.recv_timeout(PATIENCE), Ok((STATUS_SUCCESS, 6)), "what the driver had was resumed");
    process.close(handle).expect("the handle closes");
    drop(process);
    assert_eq!(machine.remove_device(&driver, device), Ok(()), "{:?}", machine.violation());
    assert_eq!(machine.unload(&driver), Ok(Unload::Done), "{:?}", machine.violation());
}

#[test]
fn a_device_that_is_on_its_way_back_can_be_removed() {
    let (machine, driver, device) = started();
    assert_eq!(machine.sleep(), Ok(()), "{:?}", machine.violation());
    assert_eq!(machine.wake(), Ok(()), "{:?}", machine.violation());
    // It may not have come back yet.
    assert_eq!(machine.remove_device(&driver, device), Ok(()), "{:?}", machine.violation());
    let mut heard = 0;
    let lines = said(&machine, &mut heard);
    assert_eq!(lines.last().map(String::as_str), Some("device cleanup"), "{lines:?}");
    assert_eq!(machine.unload(&driver), Ok(Unload::Done), "{:?}", machine.violation());
}

#[test]
fn a_device_that_is_pulled_goes_when_it_is_closed() {
    let (machine, driver, device) = started();
    let process = machine.process();
    let handle = open(&machine, &process);
    hears_of_its_interface(&machine, "arrived");
    let mut heard = 0;
    said(&machine, &mut heard);
    assert_eq!(machine.unplug_device(&driver, device), Ok(()), "{:?}", machine.violation());
    let first = said(&machine, &mut heard);
    assert_eq!(first, ["surprise removal", "self-managed I/O suspend", "D0 exit", "release hardware"]);
    assert_eq!(machine.interfaces(&INTERFACE), Vec::<String>::new());
    hears_of_its_interface(&machine, "removed");
    assert_eq!(machine.unplug_device(&driver, device), Err(STATUS_NO_SUCH_DEVICE));
    assert_eq!(machine.remove_device(&driver, device), Err(STATUS_NO_SUCH_DEVICE));
    process.close(handle).expect("the handle closes");
    drop(process);
    let lines = said_until(&machine, &mut heard, "device cleanup");
    assert_eq!(lines, ["self-managed I/O cleanup", "device cleanup"]);
    // The PnP manager has done with the device a moment later.
    let begun = Instant::now();
    let unloaded = loop {
        match machine.unload(&driver) {
            Err(STATUS_INVALID_DEVICE_REQUEST) if begun.elapsed() < PATIENCE => std::thread::yield_now(),
            other => break other,
        }
    };
    assert_eq!(unloaded, Ok(Unload::Done), "{:?}", machine.violation());
}
