//! `cargo fuzz-driver`: coverage-guided fuzzing of the real `sanwsk.sys`, by libFuzzer.
//!
//! The driver is built with a counter at each edge of its control flow and loaded into the harness. A worker process for each
//! [target](target::Target) tries inputs; after each, no rule may be broken, nothing may be left in use, and the driver has to
//! answer. A finding is written to a file, and the next worker goes on.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod bed;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod client;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod command;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod coverage;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[path = "../../tests/scenarios/documented.rs"]
mod documented;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod figures;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod loopback;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod requests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod supervisor;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod target;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod worker;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> std::process::ExitCode {
    command::main()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() -> std::process::ExitCode {
    eprintln!("the fuzzer runs the driver in the harness, which needs x64 Linux");
    std::process::ExitCode::FAILURE
}
