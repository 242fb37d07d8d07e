//! The framework, seen by clients of it: small KMDF drivers in C that do what these tests ask of them.
#![cfg(target_os = "linux")]

mod caller_context;
mod device;
mod filter;
mod objects;
mod queues;
mod runtime;

use std::path::{Path, PathBuf};
use std::time::Duration;

use driver_build::{Arch, CDriver, DriverModel};

const READ_WRITE: u32 = 0xC000_0000;
const MOMENT: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(10);

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(name).with_extension("c")
}

/// Builds the driver of that name.
fn build(name: &str) -> PathBuf {
    build_as(name, DriverModel::Kmdf)
}

fn build_as(name: &str, model: DriverModel) -> PathBuf {
    let driver = CDriver { name: name.to_owned(), sources: vec![source(name)], model, arch: Arch::X64 };
    let folder = driver_build::output_root().join("test-drivers");
    driver_build::build_c(&driver, &folder).expect("the C driver builds").image
}
