//! The kernel interface: `tests/drivers/kernel_client.c` and `kernel_endings.c`, drivers beside sanwsk.sys, do what each test names.
#![cfg(target_os = "linux")]

#[path = "../scenarios/support.rs"]
#[allow(dead_code, unreachable_pub)] // shared with the scenarios, which need more of it
mod support;

mod block;
mod echo;
mod endings;
mod rust_client;
mod teardown;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use driver_build::{Arch, CDriver, DriverModel};
use parking_lot::Mutex;
use support::{Bed, PATIENCE, builder};
use test_harness::machine::{Process, Unload};
use test_harness::nt::registry::Value;
use test_harness::nt::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};
use test_harness::{Driver, Rule, Violation};

const READ_WRITE: u32 = 0xC000_0000;
/// CTL_CODE(FILE_DEVICE_UNKNOWN, 1, METHOD_BUFFERED, FILE_ANY_ACCESS).
const CONTROL_CODE: u32 = 0x22 << 16 | 1 << 2;

/// A client's image, built once.
fn client_image(name: &str) -> PathBuf {
    static IMAGES: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let build = || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/drivers/{name}.c"));
        let driver = CDriver { name: name.to_owned(), sources: vec![source], model: DriverModel::Wdm, arch: Arch::X64 };
        let folder = driver_build::output_root().join("test-drivers");
        driver_build::build_c(&driver, &folder).expect("the C driver builds").image
    };
    IMAGES.lock().entry(name.to_owned()).or_insert_with(build).clone()
}

/// The driver under test, and its client.
struct Clients {
    bed: Bed,
    client: Driver,
}

impl Clients {
    fn new() -> Self {
        Self::on(Bed::with(builder()))
    }

    fn on(bed: Bed) -> Self {
        Self::of("kernel_client", bed)
    }

    /// With the client of this name.
    fn of(name: &str, bed: Bed) -> Self {
        let client = bed.machine.load(client_image(name), name).expect("the client loads");
        Self { bed, client }
    }

    /// Has the client do something, rightly or with its fault: the status that comes of it; none if the machine stops.
    fn ask(&self, behaviour: &str, wrong: bool) -> Option<i32> {
        let process: &Process = &self.bed.process;
        let handle = process.open(r"\\.\Verifier", READ_WRITE).ok()?;
        let mut input = vec![u8::from(wrong)];
        input.extend(behaviour.bytes());
        input.push(0);
        let (done, told) = channel();
        let issued = process.control_async(handle, CONTROL_CODE, input, vec![0; 16], move |(status, ..)| {
            let _ = done.send(status.status);
        });
        let status = issued.ok().and_then(|_| told.recv_timeout(PATIENCE * 3).ok());
        let closed = process.close(handle);
        status.filter(|_| closed.is_ok())
    }

    /// Has the client do something, which succeeds.
    #[track_caller]
    fn act(&self, behaviour: &str) {
        let status = self.ask(behaviour, false);
        if let Some(violation) = self.bed.machine.violation() {
            panic!("{violation}");
        }
        let status = status.expect("it ends");
        let line = status & 0x1FFF_FFFF;
        assert_eq!(status, STATUS_SUCCESS, "{behaviour}, line {line}: {:?}", self.bed.machine.debug_output());
    }

    /// Has the client do something wrong, which the machine does not let pass; done rightly it is no fault.
    #[track_caller]
    fn err(self, behaviour: &str) -> Violation {
        self.act(behaviour);
        let status = self.ask(behaviour, true);
        let violation = self.bed.machine.violation();
        violation.unwrap_or_else(|| panic!("no violation, but {status:x?}"))
    }

    /// The client goes first, then the driver: nothing is left of either.
    fn finish(self) {
        let unloaded = self.bed.machine.unload(&self.client);
        if let Some(violation) = self.bed.machine.violation() {
            panic!("{violation}");
        }
        assert_eq!(unloaded, Ok(Unload::Done));
        self.bed.finish();
    }
}

/// A test for each behaviour.
macro_rules! behaviours {
    ($($behaviour:ident,)*) => {
        $(
            #[test]
            fn $behaviour() {
                let clients = Clients::new();
                clients.act(stringify!($behaviour));
                clients.finish();
            }
        )*
    };
}

behaviours! {
    gets_the_interface,
    sends_and_receives_on_a_stream,
    sends_and_receives_messages,
    sends_and_receives_registered_memory,
    rejects_a_connection,
    refuses_what_makes_no_sense,
    refuses_stale_ids,
    refuses_operations_that_are_none,
    is_closed_under_load,
    cancels,
    closes_with_operations_outstanding,
    may_be_called_at_dispatch_level,
    completes_irps,
    may_be_called_from_many_threads,
}

#[test]
fn is_not_ready() {
    let machine = builder().build();
    machine.network().set_ready(false);
    let clients = Clients::on(Bed::on(machine));
    clients.act("is_not_ready");
    clients.finish();
}

#[test]
fn has_too_many_endpoints() {
    let limit = Value::Number(2);
    let clients = Clients::on(Bed::with(builder().parameter("sanwsk", "MaxEndpointsPerHandle", limit)));
    clients.act("has_too_many_endpoints");
    clients.finish();
}

#[test]
fn gets_along_without_memory() {
    let clients = Clients::new();
    clients.act("gets_the_interface");
    clients.act("gets_along_without_memory");
    let (mut refused, machine) = (0, &clients.bed.machine);
    for n in 0.. {
        machine.fail_allocation(n);
        let status = clients.ask("gets_along_without_memory", false);
        let has_failed = machine.allocation_has_failed();
        machine.fail_no_allocation();
        if let Some(violation) = machine.violation() {
            panic!("allocation {n}: {violation}");
        }
        let status = status.unwrap_or(STATUS_INSUFFICIENT_RESOURCES);
        assert!([STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES].contains(&status), "allocation {n}: {status:x}");
        refused += u32::from(status != STATUS_SUCCESS);
        if !has_failed {
            break;
        }
    }
    assert!(refused > 5, "{refused}");
    clients.finish();
}

#[test]
fn a_client_s_call_at_too_high_an_irql_is_caught() {
    for behaviour in ["calls_above_dispatch_level", "waits_at_dispatch_level", "asks_at_dispatch_level"] {
        let violation = Clients::new().err(behaviour);
        assert_eq!(violation.rule, Rule::Irql, "{behaviour}: {violation}");
        let said = violation.to_string();
        assert!(said.contains(behaviour), "the backtrace names {behaviour}: {said}");
    }
}

#[test]
fn the_driver_is_not_unloaded_under_a_client() {
    let clients = Clients::new();
    clients.act("gets_the_interface");
    let Clients { bed, client } = clients;
    assert_eq!(bed.machine.unload(&bed.driver), Ok(Unload::Deferred));
    assert!(!bed.driver.is_unloaded());
    // With the client its reference goes, and with that the driver.
    assert_eq!(bed.machine.unload(&client), Ok(Unload::Done));
    let gone = bed.machine.wait_unloaded(&bed.driver, PATIENCE);
    if let Some(violation) = bed.machine.violation() {
        panic!("{violation}");
    }
    assert!(gone, "nobody has it open any more");
}
