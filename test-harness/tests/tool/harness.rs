//! `cargo harness`.

use std::path::{Path, PathBuf};

use crate::bed::{Ran, harness};
use driver_build::{Arch, CDriver, DriverModel};
use san_proxy::sanctl::{FAILED, USAGE};

fn minimal(name: &str, model: DriverModel) -> PathBuf {
    build("driver-build/tests/drivers", name, model)
}

fn build(folder: &str, name: &str, model: DriverModel) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name).with_extension("c");
    let driver = CDriver { name: name.to_owned(), sources: vec![source], model, arch: Arch::X64 };
    driver_build::build_c(&driver, &driver_build::output_root().join("test-drivers")).expect("the driver builds").image
}

#[test]
fn a_driver_is_loaded_and_unloaded() {
    for (name, model, printed, end) in [
        ("wdm_minimal", DriverModel::Wdm, "  debug: unloaded ", "unloaded: nothing left behind\n"),
        ("kmdf_minimal", DriverModel::Kmdf, "", "it has no unload routine\n"),
    ] {
        let image = minimal(name, model);
        let ran = harness(&["run", "--seconds", "0.1", image.to_str().unwrap()]);
        assert_eq!(ran.errors, "");
        let output = ran.done();
        assert!(output.starts_with(&image.display().to_string()), "{output}");
        assert!(output.contains(" imports, 0 missing\n"), "{output}");
        assert!(output.contains(printed), "{output}");
        assert!(output.ends_with(end), "{output}");
    }
}

#[test]
fn a_driver_of_plug_and_play_gets_a_device() {
    let image = build("tests/drivers", "kmdf_pnp", DriverModel::Kmdf);
    let output = harness(&["run", "--seconds", "0.1", image.to_str().unwrap()]).done();
    let order = [
        "loaded: its entry point returned STATUS_SUCCESS",
        "  debug: prepare hardware",
        "  debug: D0 entry",
        "a root device was added and started",
        "  debug: D0 exit",
        "the device was removed",
        "unloaded: nothing left behind",
    ];
    let mut rest = output.as_str();
    for line in order {
        let at = rest.find(line).unwrap_or_else(|| panic!("{line}: {output}"));
        rest = &rest[at..];
    }
}

#[test]
fn requests_go_to_a_drivers_device() {
    let image = build("tests/drivers", "kmdf_pnp", DriverModel::Kmdf);
    let image = image.to_str().unwrap();
    let ran = ["run", "--seconds", "0", "--io", "write:first", "--io", "read:16", "--io", "control:0x22018c", image];
    let output = harness(&ran).done();
    let given = [
        "  write 5 bytes: STATUS_SUCCESS, 5 bytes",
        "  read 16 bytes: STATUS_SUCCESS, 5 bytes: \"first\"",
        "  control 0x22018c: STATUS_INVALID_DEVICE_REQUEST, 0 bytes",
    ];
    assert!(output.contains(&given.join("\n")), "{output}");
    assert!(output.contains(r"its device: \\.\root#"), "{output}");
    let Ran { code, output, .. } = harness(&["run", "--seconds", "0", "--open", r"\\.\Nothing", image]);
    assert_eq!((code, String::from_utf8(output).unwrap().contains(r"\\.\Nothing cannot be opened: ")), (FAILED, true));
    let Ran { code, errors, .. } = harness(&["run", "--io", "append:x", image]);
    assert_eq!(code, USAGE);
    assert!(errors.contains("write:TEXT, read:BYTES or control:CODE"), "{errors}");
}

#[test]
fn what_is_no_driver_is_refused() {
    let Ran { code, output, .. } = harness(&["run", file!()]);
    let output = String::from_utf8(output).unwrap();
    assert_eq!(code, FAILED);
    assert!(output.contains("harness.rs: "), "{output}");
    let Ran { code, errors, .. } = harness(&["run"]);
    assert_eq!(code, USAGE);
    assert!(errors.contains("<FILE.sys>"), "{errors}");
}

#[test]
fn sanctl_has_its_own_help_and_says_when_there_is_no_driver() {
    let output = harness(&["sanctl", "--help"]).done();
    assert!(output.starts_with("Looks at the sanwsk driver"), "{output}");
    let errors = harness(&["sanctl", "--driver", "/nowhere/sanwsk.sys", "status"]).failed();
    assert!(errors.contains("/nowhere/sanwsk.sys: "), "{errors}");
    assert!(errors.contains("cargo driver builds it"), "{errors}");
}

#[test]
fn a_registry_value_needs_a_name_and_a_value() {
    let Ran { code, errors, .. } = harness(&["sanctl", "--parameter", "NativePort", "status"]);
    assert_eq!(code, USAGE);
    assert!(errors.contains("give a name and a value, as NativePort=28058"), "{errors}");
}

#[test]
fn the_drivers_events_are_shown_up_to_a_level() {
    let image = driver_build::build(&driver_build::Options::default()).expect("cargo driver builds it").image;
    let image = image.to_str().expect("a path of Unicode");
    let Ran { errors, code, .. } = harness(&["sanctl", "--driver", image, "--trace", "4", "status"]);
    assert_eq!(code, 0, "{errors}");
    let lines: Vec<_> = errors.lines().collect();
    assert!(lines[0].contains(" information Sanwsk DriverLoaded Version=\""), "{errors}");
    assert!(lines.last().is_some_and(|line| line.ends_with(" information Sanwsk DriverUnloaded")), "{errors}");
    let output = harness(&["run", "--trace", "4", image]).done();
    assert!(output.contains("Sanwsk DriverLoaded"), "{output}");
    let Ran { errors, .. } = harness(&["sanctl", "--driver", image, "--trace", "3", "status"]);
    assert_eq!(errors, "", "nothing to warn of");
}
