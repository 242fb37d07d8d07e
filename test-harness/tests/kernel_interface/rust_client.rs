//! `tests/drivers/rust_client`, a driver in Rust that does everything that sanwsk-client offers when it is loaded.

use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use san_proxy::EndpointScope;
use test_harness::machine::Unload;
use test_harness::{Driver, LoadError};

use crate::support::{Bed, MOMENT, builder, eventually};

const PACKAGE: &str = "rust-client";

/// Its image, built once.
fn image() -> &'static Path {
    static IMAGE: OnceLock<std::path::PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let options = driver_build::Options { package: PACKAGE.to_owned(), ..driver_build::Options::default() };
        driver_build::build(&options).expect("the driver builds").image
    })
}

/// Loads it, which has it do everything; the line of its source where something was not as it should be.
#[track_caller]
fn load(bed: &Bed) -> Result<Driver, i32> {
    let loaded = bed.machine.load(image(), PACKAGE);
    if let Some(violation) = bed.machine.violation() {
        panic!("{violation}");
    }
    loaded.map_err(|error| match error {
        LoadError::Entry(status) => status & 0x1FFF_FFFF,
        other => panic!("{other}"),
    })
}

/// Unloads it, once the client that it has dropped is gone: nothing waits for that.
#[track_caller]
fn unload(bed: &Bed, client: &Driver) {
    let provider = bed.open();
    let endpoints = || provider.endpoints(EndpointScope::AllHandles).expect("the endpoints");
    eventually("no more than one listener is left", || endpoints().len() <= 1);
    thread::sleep(MOMENT);
    let unloaded = bed.machine.unload(client);
    if let Some(violation) = bed.machine.violation() {
        panic!("{violation}");
    }
    assert_eq!(unloaded, Ok(Unload::Done));
}

#[test]
fn everything_that_the_crate_offers_works_and_what_is_dropped_leaves_nothing_behind() {
    let bed = Bed::with(builder());
    for _ in 0..5 {
        let client = load(&bed).unwrap_or_else(|line| panic!("line {line}"));
        unload(&bed, &client);
    }
    bed.finish();
}

#[test]
fn each_allocation_may_be_refused() {
    let bed = Bed::with(builder());
    let mut failures = 0;
    for allocation in 0.. {
        bed.machine.fail_allocation(allocation);
        let loaded = load(&bed);
        let refused = bed.machine.refused_call();
        bed.machine.fail_no_allocation();
        println!("allocation {allocation}, {refused:?}: line {:?}", loaded.as_ref().err());
        failures += u32::from(loaded.is_err());
        if let Ok(client) = loaded {
            unload(&bed, &client);
        }
        if refused.is_none() {
            break;
        }
    }
    assert!(failures > 50, "{failures}");
    let client = load(&bed).unwrap_or_else(|line| panic!("afterwards line {line}"));
    unload(&bed, &client);
    bed.finish();
}
