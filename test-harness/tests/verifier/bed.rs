//! Runs one behaviour of a faulty driver from its loading to its end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use driver_build::{Arch, CDriver, DriverModel};
use test_harness::machine::{Builder, Unload};
use test_harness::nt::status::STATUS_SUCCESS;
use test_harness::{Machine, Rule, Violation};

const READ_WRITE: u32 = 0xC000_0000;
const DEVICE: &str = r"\\.\Verifier";
/// CTL_CODE(FILE_DEVICE_UNKNOWN, 1, METHOD_BUFFERED, FILE_ANY_ACCESS).
const CONTROL_CODE: u32 = 0x22 << 16 | 1 << 2;

/// For what is right, which ends.
const PATIENCE: Duration = Duration::from_secs(20);
/// For what is wrong, and may not end before its process does.
const MOMENT: Duration = Duration::from_secs(3);

/// A fault, and what catches it.
pub(crate) struct Row {
    pub(crate) driver: &'static str,
    /// The function that errs, and the test.
    pub(crate) behaviour: &'static str,
    pub(crate) rule: Rule,
    /// The call that the report names.
    pub(crate) call: &'static str,
}

/// The image of a driver, built once.
fn image(driver: &'static str) -> PathBuf {
    type Images = HashMap<&'static str, Arc<OnceLock<PathBuf>>>;
    static IMAGES: OnceLock<Mutex<Images>> = OnceLock::new();
    let image =
        IMAGES.get_or_init(Mutex::default).lock().expect("no test panics here").entry(driver).or_default().clone();
    image.get_or_init(|| build(driver)).clone()
}

fn build(driver: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(driver).with_extension("c");
    let model = if driver.contains("kmdf") { DriverModel::Kmdf } else { DriverModel::Wdm };
    let driver = CDriver { name: driver.to_owned(), sources: vec![source], model, arch: Arch::X64 };
    let folder = driver_build::output_root().join("test-drivers");
    driver_build::build_c(&driver, &folder).expect("the C driver builds").image
}

/// What a behaviour led to, from the driver's loading to its end.
pub(crate) fn run(row: &Row, builder: Builder, wrong: bool) -> Option<Violation> {
    run_on(row, &builder.build(), wrong)
}

/// As [`run`], on a machine that there is.
pub(crate) fn run_on(row: &Row, machine: &Machine, wrong: bool) -> Option<Violation> {
    let Ok(driver) = machine.load(image(row.driver), row.driver) else { return machine.violation() };
    let process = machine.process();
    if let Ok(handle) = process.open(DEVICE, READ_WRITE) {
        let mut input = vec![u8::from(wrong)];
        input.extend(row.behaviour.bytes());
        input.push(0);
        let (done, told) = channel();
        let issued = process.control_async(handle, CONTROL_CODE, input, vec![0; 16], move |(status, ..)| {
            let _ = done.send(status.status);
        });
        let outcome = issued.ok().and_then(|_| told.recv_timeout(if wrong { MOMENT } else { PATIENCE }).ok());
        if !wrong && !machine.is_stopped() {
            assert_eq!(outcome, Some(STATUS_SUCCESS), "{} succeeds", row.behaviour);
        }
    }
    drop(process);
    let unloaded = machine.unload(&driver);
    let violation = machine.violation();
    if violation.is_none() {
        assert_eq!(unloaded, Ok(Unload::Done));
    }
    violation
}

/// The right behaviour breaks no rule, and the wrong one breaks the row's, at a line of the function with the fault.
pub(crate) fn prove(row: &Row, builder: impl Fn() -> Builder) {
    if let Some(violation) = run(row, builder(), false) {
        panic!("{} is right, and yet: {violation}", row.behaviour);
    }
    let violation = run(row, builder(), true).unwrap_or_else(|| panic!("{} goes unnoticed", row.behaviour));
    assert_eq!((violation.rule, violation.call), (row.rule, row.call), "{violation}");
    let source = format!("{}.c", row.driver);
    // The PDB names functions with the types of their arguments.
    let is_the_one = |function: &str| {
        let name = function.split('(').next().unwrap_or_default();
        // A callback that errs is named after what leads to it.
        name == row.behaviour || name.strip_suffix("_event") == Some(row.behaviour)
    };
    let at_fault = violation.backtrace.iter().find(|frame| frame.function.as_deref().is_some_and(is_the_one));
    let at_fault = at_fault.unwrap_or_else(|| panic!("no frame of {}: {violation}", row.behaviour));
    let (file, line) = at_fault.source.as_ref().expect("its source line");
    assert!(file.ends_with(&source) && *line > 0, "{violation}");
}
