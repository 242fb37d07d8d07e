//! A RUSTC_WRAPPER with which the published wdk-build 0.6 compiles on a Linux host, for the driver's build scripts.
//!
//! - wdk-build stops where `target_os` is not "windows", and names `std::os::windows`: it gets that cfg, and the crate of
//!   `windows.rs` as its `std`.
//! - Of `windows` 0.62 it uses a few registry names, and the crates under that one do not compile here: `windows.rs`
//!   and `empty.rs` are compiled in their place.
//!
//! The driver itself and all that is linked into it is compiled as it stands; with `DRIVER_BUILD_COVERED_CRATES`, the crates
//! named there get a counter at each edge of their control flow, and `DRIVER_BUILD_COVERAGE_OBJECT` is linked in.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::Path,
    process::{Command, ExitCode},
};

/// Where `windows.rs` and `empty.rs` lie.
const SOURCES_VARIABLE: &str = "DRIVER_BUILD_HOST_CRATES";

/// Crates, separated by commas, that are compiled with SanitizerCoverage for their target.
const COVERED_VARIABLE: &str = "DRIVER_BUILD_COVERED_CRATES";

/// The object that marks where the counters lie.
const OBJECT_VARIABLE: &str = "DRIVER_BUILD_COVERAGE_OBJECT";

const COVERAGE: [&str; 4] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
];

const CRATES_UNDER_WINDOWS: [&str; 7] = [
    "windows_core",
    "windows_collections",
    "windows_future",
    "windows_numerics",
    "windows_threading",
    "windows_result",
    "windows_strings",
];

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("rustc-wrapper: cargo runs this, with rustc's own command line");
        return ExitCode::FAILURE;
    };
    let mut arguments: Vec<OsString> = arguments.collect();
    match crate_name(&arguments) {
        Some("wdk_build") => compile_as_on_windows(&mut arguments),
        Some("windows") => replace_root(&mut arguments, "windows.rs"),
        Some(name) if CRATES_UNDER_WINDOWS.contains(&name) => replace_root(&mut arguments, "empty.rs"),
        Some(name) if is_covered(name, &arguments) => count_edges(&mut arguments),
        Some(_) | None => {}
    }
    match Command::new(&program).args(&arguments).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        // rustc has said why.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rustc-wrapper: {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}

fn crate_name(arguments: &[OsString]) -> Option<&str> {
    let at = arguments.iter().position(|argument| argument == "--crate-name")?;
    arguments.get(at + 1)?.to_str()
}

/// Whether a crate's edges are to be counted. What is compiled for the host, as build scripts are, has no `--target`.
fn is_covered(name: &str, arguments: &[OsString]) -> bool {
    let covered = env::var(COVERED_VARIABLE).unwrap_or_default();
    covered.split(',').any(|covered| covered == name) && arguments.iter().any(|argument| argument == "--target")
}

/// The object is for the crate that is linked; a library does nothing with it.
fn count_edges(arguments: &mut Vec<OsString>) {
    arguments.extend(COVERAGE.map(OsString::from));
    if let Some(object) = env::var_os(OBJECT_VARIABLE) {
        let mut link = OsString::from("-Clink-arg=");
        link.push(object);
        arguments.push(link);
    }
}

fn compile_as_on_windows(arguments: &mut Vec<OsString>) {
    let windows = arguments.iter().find_map(|argument| argument.to_str()?.strip_prefix("windows=").map(str::to_owned));
    if let Some(windows) = windows {
        let std = format!("std={windows}");
        let added = ["--cfg", "target_os=\"windows\"", "-Aexplicit_builtin_cfgs_in_flags", "--extern", &std];
        arguments.extend(added.map(OsString::from));
    }
}

fn replace_root(arguments: &mut [OsString], file: &str) {
    let sources = env::var_os(SOURCES_VARIABLE).unwrap_or_default();
    let root = arguments.iter_mut().find(|argument| Path::new(argument).ends_with(OsStr::new("src/lib.rs")));
    if let Some(root) = root {
        *root = Path::new(&sources).join(file).into_os_string();
    }
}
