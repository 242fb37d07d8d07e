//! What drivers call of the kernel besides I/O: `tests/drivers/exports.c`.

use driver_build::DriverModel;
use test_harness::{Machine, Rule};

use crate::bed;

#[test]
fn they_do_what_their_documentation_says() {
    let image = bed::build("exports", DriverModel::Wdm);
    for behaviour in bed::behaviours("exports") {
        bed::succeeds(&image, &behaviour);
    }
    for (behaviour, text) in [
        ("release_a_kernel_mutex_of_nobody", "KeReleaseMutex: the thread does not own this mutex"),
        ("acquire_a_resource_with_apcs_enabled", "ExAcquireResourceExclusiveLite with normal kernel APCs enabled"),
    ] {
        let violation = bed::run(&Machine::new(), &image, behaviour, true).expect_err(behaviour);
        assert_eq!(violation.rule, Rule::Lock, "{violation}");
        assert!(violation.text.contains(text), "{violation}");
    }
    let violation = bed::run(&Machine::new(), &image, "release_a_shared_lock_as_if_alone", true).expect_err("wrong");
    assert_eq!(violation.rule, Rule::SpinLock, "{violation}");
}
