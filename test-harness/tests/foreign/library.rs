//! What drivers call of the kernel's run-time library and of its processes: `tests/drivers/library.c`.

use driver_build::DriverModel;
use test_harness::machine::Unload;
use test_harness::nt::status::STATUS_SUCCESS;
use test_harness::{Machine, Rule};

use crate::bed;

#[test]
fn it_does_what_its_documentation_says() {
    let image = bed::build("library", DriverModel::Wdm);
    for behaviour in bed::behaviours("library") {
        bed::succeeds(&image, &behaviour);
    }
    let machine = Machine::new();
    let violation = bed::run(&machine, &image, "push_locks_are_shared_or_held_alone", true).expect_err("wrong");
    assert_eq!(violation.rule, Rule::Lock, "{violation}");
    let violation = bed::run(&Machine::new(), &image, "bits_are_set_and_found", true).expect_err("wrong");
    assert_eq!(violation.rule, Rule::Fault, "{violation}");
    assert!(violation.text.contains("RtlSetBits: 2 bits from 69 on, of a bitmap of 70"), "{violation}");
    let violation = bed::run(&Machine::new(), &image, "an_assertion_that_fails_ends_the_run", true).expect_err("wrong");
    assert_eq!(violation.rule, Rule::BugCheck, "{violation}");
    assert!(violation.text.contains("library.c:7: Left == Right: they differ"), "{violation}");
}

#[test]
fn the_error_log_is_part_of_the_output() {
    let image = bed::build("library", DriverModel::Wdm);
    let machine = Machine::new();
    assert_eq!(
        bed::run(&machine, &image, "an_error_is_logged", false).map_err(|broken| broken.to_string()),
        Ok(STATUS_SUCCESS)
    );
    let lines = machine.debug_output();
    let logged = "(final status STATUS_DEVICE_NOT_READY, 0x7)";
    assert!(lines.iter().any(|line| line.starts_with("error log: ") && line.contains(logged)), "{lines:?}");
}

#[test]
fn drivers_are_told_of_processes() {
    let image = bed::build("library", DriverModel::Wdm);
    let machine = Machine::new();
    let driver = machine.load(&image, "library").expect("the driver loads");
    let process = machine.process();
    assert_eq!(bed::act(&process, "begin_to_watch_processes"), STATUS_SUCCESS);
    drop(machine.process());
    assert_eq!(bed::act(&process, "stop_watching_processes"), STATUS_SUCCESS);
    drop(process);
    assert_eq!(machine.unload(&driver), Ok(Unload::Done));
    assert!(machine.violation().is_none(), "{:?}", machine.violation());
}
