//! Hashes, HMACs and random numbers of CNG: `tests/drivers/cryptography.c`.

use driver_build::DriverModel;
use test_harness::{Machine, Rule};

use crate::bed;

#[test]
fn they_do_what_their_documentation_says() {
    let image = bed::build("cryptography", DriverModel::Wdm);
    for behaviour in bed::behaviours("cryptography") {
        bed::succeeds(&image, &behaviour);
    }
    for (behaviour, rule, text) in [
        ("random_numbers_differ", Rule::Irql, "BCRYPT_USE_SYSTEM_PREFERRED_RNG above PASSIVE_LEVEL"),
        ("a_provider_is_for_dispatch_level_if_it_was_opened_so", Rule::Irql, "without BCRYPT_PROV_DISPATCH"),
        ("a_hash_object_is_destroyed_before_its_memory_goes", Rule::UseAfterFree, "holds a hash object"),
        ("a_provider_is_closed_after_its_hash_objects", Rule::Object, "before 1 hash objects"),
        ("a_handle_is_closed_once", Rule::Object, "is no handle of CNG"),
        ("a_provider_does_not_outlive_the_driver", Rule::Leak, "tags Bcry"),
    ] {
        let violation = bed::run(&Machine::new(), &image, behaviour, true).expect_err(behaviour);
        assert_eq!(violation.rule, rule, "{violation}");
        assert!(violation.text.contains(text), "{violation}");
    }
}
