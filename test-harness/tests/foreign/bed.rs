//! Builds drivers of C files, and runs the behaviours of those that are made like `tests/drivers/verifier.h`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use driver_build::{Arch, CDriver, DriverModel};
use test_harness::machine::{Process, Unload};
use test_harness::nt::status::{self, STATUS_SUCCESS};
use test_harness::{Machine, Violation};

pub(crate) const READ_WRITE: u32 = 0xC000_0000;
const DEVICE: &str = r"\\.\Verifier";
/// CTL_CODE(FILE_DEVICE_UNKNOWN, 1, METHOD_BUFFERED, FILE_ANY_ACCESS).
const CONTROL_CODE: u32 = 0x22 << 16 | 1 << 2;
const PATIENCE: Duration = Duration::from_secs(20);

fn source(driver: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(driver).with_extension("c")
}

/// Builds a driver of one file.
pub(crate) fn build(driver: &str, model: DriverModel) -> PathBuf {
    let driver = CDriver { name: driver.to_owned(), sources: vec![source(driver)], model, arch: Arch::X64 };
    let folder = driver_build::output_root().join("test-drivers");
    driver_build::build_c(&driver, &folder).expect("the C driver builds").image
}

/// The behaviours that a driver's table of rows names.
pub(crate) fn behaviours(driver: &str) -> Vec<String> {
    let text = fs::read_to_string(source(driver)).expect("the driver's source");
    let rows = text.lines().filter_map(|line| line.trim().strip_prefix("ROW_OF(")?.strip_suffix("),"));
    let rows: Vec<_> = rows.map(str::to_owned).collect();
    assert!(!rows.is_empty(), "{driver} has behaviours");
    rows
}

/// Runs one behaviour, from loading the driver to unloading it: what it ended with, or the rule that it broke.
pub(crate) fn run(machine: &Machine, image: &Path, behaviour: &str, wrong: bool) -> Result<i32, Violation> {
    let broken = || machine.violation().expect("the machine has stopped for a reason");
    let driver = machine.load(image, "foreign").map_err(|_| broken())?;
    let process = machine.process();
    let handle = process.open(DEVICE, READ_WRITE).map_err(|_| broken())?;
    let mut input = vec![u8::from(wrong)];
    input.extend(behaviour.bytes());
    input.push(0);
    let (done, told) = channel();
    let issued = process.control_async(handle, CONTROL_CODE, input, vec![0; 16], move |(status, ..)| {
        let _ = done.send(status.status);
    });
    issued.map_err(|_| broken())?;
    let status = told.recv_timeout(PATIENCE).expect("the behaviour ends");
    drop(process);
    let unloaded = machine.unload(&driver);
    match machine.violation() {
        Some(violation) => Err(violation),
        None => {
            assert_eq!(unloaded, Ok(Unload::Done));
            Ok(status)
        }
    }
}

/// Has a driver that is loaded act; the status that it ended with.
pub(crate) fn act(process: &Process, behaviour: &str) -> i32 {
    let handle = process.open(DEVICE, READ_WRITE).expect("the device opens");
    let input: Vec<u8> = [0].into_iter().chain(behaviour.bytes()).chain([0]).collect();
    let status = process.control(handle, CONTROL_CODE, &input, 16).map_or_else(|status| status, |_| STATUS_SUCCESS);
    process.close(handle).expect("it closes");
    status
}

/// Runs a behaviour that breaks no rule and finds what it expects.
pub(crate) fn succeeds(image: &Path, behaviour: &str) {
    match run(&Machine::new(), image, behaviour, false) {
        Ok(STATUS_SUCCESS) => {}
        Ok(failed) if failed.cast_unsigned() >> 16 == 0xE000 => {
            panic!("{behaviour}: the check in line {} fails", failed & 0xffff)
        }
        Ok(failed) => panic!("{behaviour}: {}", status::name(failed)),
        Err(violation) => panic!("{behaviour}: {violation}"),
    }
}
