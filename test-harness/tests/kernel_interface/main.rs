//! The kernel interface: `tests/drivers/kernel_client.c`, a driver beside sanwsk.sys, does what each test names.
#![cfg(target_os = "linux")]

#[path = "../scenarios/support.rs"]
#[allow(dead_code, unreachable_pub)] // shared with the scenarios, which need more of it
mod support;

mod block;
mod echo;

use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::channel;

use driver_build::{Arch, CDriver, DriverModel};
use support::{Bed, PATIENCE, builder};
use test_harness::Driver;
use test_harness::machine::{Process, Unload};
use test_harness::nt::status::STATUS_SUCCESS;

const READ_WRITE: u32 = 0xC000_0000;
/// CTL_CODE(FILE_DEVICE_UNKNOWN, 1, METHOD_BUFFERED, FILE_ANY_ACCESS).
const CONTROL_CODE: u32 = 0x22 << 16 | 1 << 2;

/// The client's image, built once.
fn client_image() -> &'static Path {
    static IMAGE: OnceLock<std::path::PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/kernel_client.c");
        let driver = CDriver {
            name: "kernel_client".to_owned(),
            sources: vec![source],
            model: DriverModel::Wdm,
            arch: Arch::X64,
        };
        let folder = driver_build::output_root().join("test-drivers");
        driver_build::build_c(&driver, &folder).expect("the C driver builds").image
    })
}

/// The driver under test, and its client.
struct Clients {
    bed: Bed,
    client: Driver,
}

impl Clients {
    fn new() -> Self {
        let bed = Bed::with(builder());
        let client = bed.machine.load(client_image(), "kernel_client").expect("the client loads");
        Self { bed, client }
    }

    /// Has the client do something.
    #[track_caller]
    fn act(&self, behaviour: &str) {
        let process: &Process = &self.bed.process;
        let handle = process.open(r"\\.\Verifier", READ_WRITE).expect("the client's device opens");
        let mut input = vec![0];
        input.extend(behaviour.bytes());
        input.push(0);
        let (done, told) = channel();
        let issued = process.control_async(handle, CONTROL_CODE, input, vec![0; 16], move |(status, ..)| {
            let _ = done.send(status.status);
        });
        let status = issued.ok().and_then(|_| told.recv_timeout(PATIENCE * 3).ok());
        if let Some(violation) = self.bed.machine.violation() {
            panic!("{violation}");
        }
        let status = status.expect("it ends");
        let line = status & 0x1FFF_FFFF;
        assert_eq!(status, STATUS_SUCCESS, "kernel_client.c:{line}: {:?}", self.bed.machine.debug_output());
        process.close(handle).expect("closes");
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
    cancels,
    closes_with_operations_outstanding,
    may_be_called_at_dispatch_level,
    completes_irps,
    may_be_called_from_many_threads,
}

#[test]
fn the_driver_is_not_unloaded_under_a_client() {
    let Clients { bed, client } = Clients::new();
    let clients = Clients { bed, client };
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
