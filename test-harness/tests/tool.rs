//! `cargo harness`, as a user meets it.
#![cfg(target_os = "linux")]

use std::io;
use std::path::{Path, PathBuf};

use driver_build::{Arch, CDriver, DriverModel};
use san_proxy::sanctl::{DONE, FAILED, Streams, USAGE};
use test_harness::tool;

fn harness(arguments: &[&str]) -> (u8, String, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let streams = Streams { input: Box::new(io::empty()), output: &mut output, errors: &mut errors };
    let code = tool::run(std::iter::once(&"harness").chain(arguments).map(Into::into), streams);
    (code, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

fn minimal(name: &str, model: DriverModel) -> PathBuf {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("driver-build/tests/drivers").join(name).with_extension("c");
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
        let (code, output, errors) = harness(&["run", image.to_str().unwrap()]);
        assert_eq!((code, &errors[..]), (DONE, ""), "{output}");
        assert!(output.starts_with(&image.display().to_string()), "{output}");
        assert!(output.contains(" imports, 0 missing\n"), "{output}");
        assert!(output.contains(printed), "{output}");
        assert!(output.ends_with(end), "{output}");
    }
}

#[test]
fn what_is_no_driver_is_refused() {
    let (code, output, _) = harness(&["run", file!()]);
    assert_eq!(code, FAILED);
    assert!(output.contains("tool.rs: "), "{output}");
    let (code, _, errors) = harness(&["run"]);
    assert_eq!(code, USAGE);
    assert!(errors.contains("<FILE.sys>"), "{errors}");
}

#[test]
fn sanctl_has_its_own_help_and_says_when_there_is_no_driver() {
    let (code, output, _) = harness(&["sanctl", "--help"]);
    assert_eq!(code, DONE);
    assert!(output.starts_with("Looks at the sanwsk driver"), "{output}");
    let (code, _, errors) = harness(&["sanctl", "--driver", "/nowhere/sanwsk.sys", "status"]);
    assert_eq!(code, FAILED);
    assert!(errors.contains("/nowhere/sanwsk.sys: "), "{errors}");
    assert!(errors.contains("cargo driver builds it"), "{errors}");
}

/// `harness` with an input of its own.
fn harness_with(input: Vec<u8>, arguments: &[&str]) -> (u8, Vec<u8>, String) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let streams = Streams { input: Box::new(io::Cursor::new(input)), output: &mut output, errors: &mut errors };
    let code = tool::run(std::iter::once(&"harness").chain(arguments).map(Into::into), streams);
    (code, output, String::from_utf8(errors).unwrap())
}

#[test]
fn sanctl_looks_at_the_driver_and_carries_bytes_between_two_of_them() {
    let image = driver_build::build(&driver_build::Options::default()).expect("the driver builds").image;
    let image = image.to_str().unwrap().to_owned();
    let (code, output, errors) = harness(&["sanctl", "--driver", &image, "status"]);
    assert_eq!((code, &errors[..]), (DONE, ""));
    assert!(output.contains("ready"), "{output}");
    let (code, output, _) = harness(&["sanctl", "--driver", &image, "status", "--json"]);
    assert_eq!(code, DONE);
    assert!(output.starts_with('{'), "{output}");

    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, _, errors) = harness(&["sanctl", "--driver", &image, "connect", &address]);
    assert_eq!(code, FAILED);
    assert!(errors.contains("WSAECONNREFUSED (10061)"), "{errors}");

    let bytes = |seed: u8| -> Vec<u8> { (0..500_000_u32).map(|at| at.to_le_bytes()[1] ^ seed).collect() };
    let listener = std::thread::spawn({
        let (image, address) = (image.clone(), address.clone());
        move || harness_with(bytes(1), &["sanctl", "--driver", &image, "listen", &address])
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let connected = loop {
        // Refused until the other one listens.
        let connected = harness_with(bytes(2), &["sanctl", "--driver", &image, "connect", &address]);
        if connected.0 == DONE || std::time::Instant::now() > deadline {
            break connected;
        }
    };
    assert_eq!(connected.0, DONE, "{}", connected.2);
    assert!(connected.1 == bytes(1), "what the listener sent");
    let (code, output, errors) = listener.join().unwrap();
    assert_eq!(code, DONE, "{errors}");
    assert!(output == bytes(2), "what the connector sent");
}
