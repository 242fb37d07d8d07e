//! How WDFLDR.SYS plays the loader for a framework in an image of its own, as Microsoft's is: shown with a small one.

use driver_build::DriverModel;
use test_harness::machine::Unload;
use test_harness::{LoadError, Machine, Rule};

use super::{build, build_as};
use test_harness::nt::status::STATUS_NOT_SUPPORTED;

fn machine() -> Machine {
    Machine::builder().kmdf(Some(&build_as("framework", DriverModel::Framework))).build()
}

#[test]
fn clients_are_bound_to_the_framework_that_the_machine_has() {
    let (machine, client) = (machine(), build("framework_client"));
    let first = machine.load(&client, "client").expect("the first loads");
    let second = machine.load(&client, "second").expect("the second loads");
    assert_eq!(machine.unload(&first), Ok(Unload::Done));
    assert_eq!(machine.unload(&second), Ok(Unload::Done));
    // Once more, with the framework loaded already.
    let third = machine.load(&client, "client").expect("it loads again");
    assert_eq!(machine.unload(&third), Ok(Unload::Done));
    let told = machine.debug_output().concat();
    let expected = "commissioned\n\
        client: 24 of 88 bytes, functions 458, driver 1\n\
        second: 24 of 88 bytes, functions 458, driver 1\n\
        unregistered 458\n\
        unregistered 458\n\
        decommissioned\n\
        commissioned\n\
        client: 24 of 88 bytes, functions 458, driver 1\n\
        unregistered 458\n\
        decommissioned\n";
    assert_eq!(told, expected);
    assert!(machine.violation().is_none());
}

#[test]
fn a_client_that_the_framework_refuses_does_not_load() {
    let (machine, client) = (machine(), build("framework_client"));
    let refused = machine.load(&client, "refuse").err();
    assert!(matches!(refused, Some(LoadError::Entry(STATUS_NOT_SUPPORTED))), "{refused:?}");
    let told = machine.debug_output();
    assert_eq!(
        (told.first().map(String::as_str), told.last().map(String::as_str)),
        (Some("commissioned\n"), Some("decommissioned\n"))
    );
    assert!(machine.violation().is_none());
}

#[test]
fn what_the_framework_keeps_of_its_last_client_is_a_leak() {
    let (machine, client) = (machine(), build("framework_client"));
    let keeper = machine.load(&client, "keeper").expect("it loads");
    let _ = machine.unload(&keeper);
    let violation = machine.violation().expect("a leak");
    assert_eq!(violation.rule, Rule::Leak, "{violation}");
    assert!(violation.text.contains("the framework keeps 1 pool blocks, the last with tag Frak"), "{violation}");
}
