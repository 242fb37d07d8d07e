//! Pages for a list, and contiguous memory: `tests/drivers/pages.c`.

use driver_build::DriverModel;
use test_harness::{Machine, Rule};

use crate::bed;

#[test]
fn they_do_what_their_documentation_says() {
    let image = bed::build("pages", DriverModel::Wdm);
    for behaviour in bed::behaviours("pages") {
        bed::succeeds(&image, &behaviour);
    }
    for (behaviour, rule, text) in [
        ("pages_are_mapped_and_freed", Rule::Mdl, "the pages are still mapped"),
        ("a_part_of_the_pages_is_mapped_alone", Rule::Mdl, "still mapped"),
        (
            "unmapped_pages_are_out_of_reach",
            Rule::Fault,
            "page 0 of a list of MmAllocatePagesForMdl, which is not mapped",
        ),
        ("pages_are_freed_by_their_own_function", Rule::Mdl, "MmUnlockPages of pages of MmAllocatePagesForMdl"),
        ("pages_are_freed_once", Rule::BadFree, "MmFreePagesFromMdl of a list"),
        ("pages_do_not_outlive_the_driver", Rule::Leak, "left 5 pages that MmAllocatePagesForMdl gave it"),
        ("contiguous_memory_is_of_whole_pages", Rule::BadFree, "is contiguous memory"),
    ] {
        let violation = bed::run(&Machine::new(), &image, behaviour, true).expect_err(behaviour);
        assert_eq!(violation.rule, rule, "{violation}");
        assert!(violation.text.contains(text), "{violation}");
    }
}
