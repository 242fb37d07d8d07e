//! What the driver's package does to a machine, as its INF says: installation, an upgrade, an uninstall, with handles open.

#[expect(dead_code, reason = "the rules of packages are another test's")]
#[path = "../../../driver-build/tests/package/inf.rs"]
mod inf;

use crate::support::{Bed, PATIENCE, connected, image, status};
use driver_build::package::{Date, Stamp};
use driver_build::{Arch, workspace_root};
use inf::Inf;
use san_protocol::{DeviceLimits, NtStatus};
use san_proxy::{AddressFamily, Provider, StreamConnection};
use std::path::{Path, PathBuf};
use test_harness::device::HarnessDevice;
use test_harness::machine::Unload;
use test_harness::nt::registry::Value;
use test_harness::{Driver, LoadError, Machine};

/// FLG_ADDREG_NOCLOBBER: a value that is there stays as it is.
const NOCLOBBER: u32 = 2;
/// FLG_ADDREG_TYPE_DWORD and FLG_ADDREG_TYPE_MULTI_SZ.
const DWORD: u32 = 0x0001_0001;
const MULTI_SZ: u32 = 0x0001_0000;

fn number(text: &str) -> u32 {
    let parsed = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16));
    parsed.expect("a number")
}

/// The package's INF, with `more` lines in its AddReg section.
fn package(more: &str) -> Inf {
    let inx = std::fs::read_to_string(workspace_root().join("inf/sanwsk.inx")).expect("the INX");
    let stamp = Stamp::of_workspace(Arch::X64, Date::after_epoch(0)).expect("Cargo.toml");
    let section = "[Sanwsk_Parameters]\r\n";
    Inf::parse(&stamp.inf(&inx).replacen(section, &format!("{section}{more}\r\n"), 1)).expect("an INF")
}

/// What `pnputil /add-driver /install` does to the registry.
fn install(machine: &Machine, inf: &Inf) {
    let [service, _, section] = inf.values("DefaultInstall.NTamd64.Services", "AddService").expect("a service") else {
        panic!("AddService = NAME, FLAGS, SECTION");
    };
    for line in inf.section(inf.value(section, "AddReg").expect("registry values")).expect("a section") {
        let [_, key, name, flags, value @ ..] = &line.values[..] else { panic!("{line:?}") };
        assert_eq!(key, "Parameters");
        let flags = number(flags);
        let value = match (flags & !NOCLOBBER, value) {
            (DWORD, [value]) => Value::Number(number(value)),
            (MULTI_SZ, lines) => Value::List(lines.to_vec()),
            _ => panic!("{line:?}"),
        };
        if flags & NOCLOBBER == 0 || machine.parameter(service, name).is_none() {
            machine.set_parameter(service, name, value);
        }
    }
}

/// `sc start`, of an image in its own folder of the driver store.
fn start(machine: &Machine, image: &Path) -> Result<Driver, LoadError> {
    machine.load(image, "sanwsk")
}

/// The image in another folder of the driver store.
fn in_the_store(folder: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("driver-store").join(folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(image(), folder.join("sanwsk.sys")).expect("a copy");
    folder.join("sanwsk.sys")
}

fn limits(bed: &Bed) -> DeviceLimits {
    bed.wait_for_provider();
    bed.open().limits().expect("limits")
}

/// A provider and a stream through it that works.
fn in_use(bed: &Bed) -> (Provider, StreamConnection, std::net::TcpStream) {
    let provider = bed.open();
    let (connection, peer) = connected(&provider);
    (provider, connection, peer)
}

/// `sc stop` while the device is open: the driver stays for those who have it, and takes nobody else.
fn stop_is_put_off(bed: &Bed, provider: &Provider, connection: &StreamConnection) {
    assert_eq!(bed.machine.unload(&bed.driver), Ok(Unload::Deferred));
    assert!(HarnessDevice::open(&bed.process).is_err(), "nobody comes in any more");
    connection.send(b"who is in goes on").expect("sends");
    drop(StreamConnection::create(provider, AddressFamily::INET).expect("an endpoint more"));
    assert!(matches!(start(&bed.machine, image()), Err(LoadError::Refused(_))), "it is still there");
    assert_eq!(bed.machine.unload(&bed.driver), Err(NtStatus::INVALID_DEVICE_REQUEST.0), "one stop is enough");
}

#[test]
fn an_installation_gives_the_parameters_that_the_driver_has_without_one() {
    let bare = {
        let machine = Machine::new();
        let driver = start(&machine, image()).expect("starts");
        Bed::of(machine, driver)
    };
    let installed = {
        let machine = Machine::new();
        install(&machine, &package(""));
        assert_eq!(machine.parameter("sanwsk", "MaxBacklog"), Some(Value::Number(200)));
        let driver = start(&machine, image()).expect("starts");
        Bed::of(machine, driver)
    };
    assert_eq!(limits(&bare), limits(&installed));
    bare.finish();
    installed.finish();
}

#[test]
fn an_upgrade_waits_for_the_last_handle_and_keeps_what_an_administrator_has_set() {
    let machine = Machine::new();
    install(&machine, &package(""));
    machine.set_parameter("sanwsk", "MaxEndpointsPerHandle", Value::Number(2));
    machine.set_parameter("sanwsk", "Routes", Value::List(vec!["10.77.0.0/16 127.0.0.0/16".into()]));
    let driver = start(&machine, &in_the_store("old")).expect("starts");
    let bed = Bed::of(machine, driver);
    let before = limits(&bed);
    let (provider, connection, peer) = in_use(&bed);
    stop_is_put_off(&bed, &provider, &connection);
    // The new package has a value more, and another default.
    let newer = package("HKR, Parameters, MaxRoutes2, 0x00010003, 7\r\nHKR, Parameters, MaxBacklog, 0x00010003, 9");
    install(&bed.machine, &newer);
    drop((provider, connection, peer));
    assert!(bed.machine.wait_unloaded(&bed.driver, PATIENCE), "the last handle is closed");
    let driver = start(&bed.machine, &in_the_store("new")).expect("the new one starts");
    let bed = bed.with_driver(driver);
    assert_eq!(limits(&bed), before, "every value that there was is as it was");
    assert_eq!((before.endpoints_per_handle, before.routes_used, before.backlog), (2, 1, 200));
    assert_eq!(bed.machine.parameter("sanwsk", "MaxRoutes2"), Some(Value::Number(7)), "what is new has its default");
    let provider = bed.open();
    let two = [(); 2].map(|()| StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint"));
    let third = status(StreamConnection::create(&provider, AddressFamily::INET));
    assert_eq!(third, NtStatus::TOO_MANY_OPENED_FILES);
    drop((two, provider));
    bed.finish();
}

#[test]
fn an_uninstall_waits_for_the_last_handle_and_takes_the_parameters_along() {
    let machine = Machine::new();
    install(&machine, &package(""));
    machine.set_parameter("sanwsk", "MaxBacklog", Value::Number(3));
    let driver = start(&machine, image()).expect("starts");
    let bed = Bed::of(machine, driver);
    assert_eq!(limits(&bed).backlog, 3);
    let (provider, connection, peer) = in_use(&bed);
    stop_is_put_off(&bed, &provider, &connection);
    drop((connection, peer, provider));
    assert!(bed.machine.wait_unloaded(&bed.driver, PATIENCE), "the last handle is closed");
    let stats = bed.machine.stats();
    assert!(stats.driver_pool.is_empty(), "pool left behind: {:?}", stats.driver_pool);
    bed.machine.delete_service("sanwsk");
    assert_eq!(bed.machine.parameter("sanwsk", "MaxBacklog"), None);
    // Installed again it is as new.
    install(&bed.machine, &package(""));
    let driver = start(&bed.machine, image()).expect("starts again");
    let bed = bed.with_driver(driver);
    assert_eq!(limits(&bed).backlog, 200);
    bed.finish();
}
