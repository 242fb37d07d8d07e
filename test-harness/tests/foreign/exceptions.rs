//! Structured exceptions: `tests/drivers/exceptions.c`.

use driver_build::DriverModel;
use test_harness::{Machine, Rule};

use crate::bed;

#[test]
fn drivers_catch_what_windows_lets_them_catch() {
    let image = bed::build("exceptions", DriverModel::Wdm);
    for behaviour in bed::behaviours("exceptions") {
        bed::succeeds(&image, &behaviour);
    }
    for (behaviour, rule, text) in [
        (
            "nobody_catches_a_raised_status",
            Rule::BugCheck,
            "KMODE_EXCEPTION_NOT_HANDLED: nobody handles the exception 0x",
        ),
        ("nobody_catches_an_access_violation", Rule::Fault, "the driver touched 0x10000"),
        ("bad_kernel_addresses_are_not_caught", Rule::Fault, "the driver touched 0xffff800000001000"),
        ("bad_user_addresses_are_not_caught_at_dispatch_level", Rule::Fault, "the driver touched 0x10000"),
        ("freed_memory_is_not_caught", Rule::UseAfterFree, "offset 0 of a freed block of 64"),
        (
            "a_filter_goes_on_after_what_cannot_be_continued",
            Rule::BugCheck,
            "STATUS_NONCONTINUABLE_EXCEPTION: a filter goes on after STATUS_UNSUCCESSFUL",
        ),
    ] {
        let violation = bed::run(&Machine::new(), &image, behaviour, true).expect_err(behaviour);
        assert_eq!(violation.rule, rule, "{violation}");
        assert!(violation.text.contains(text), "{violation}");
        let named =
            |function: &str| violation.backtrace.iter().any(|frame| frame.function.as_deref() == Some(function));
        assert!(named(behaviour) || violation.to_string().contains(behaviour), "{violation}");
    }
}
