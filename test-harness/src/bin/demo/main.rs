//! `cargo demo`: the driver at work on Linux, from its source to real traffic with programs that are not ours, and between two
//! machines.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod bed;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod console;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod failure;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod http;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod neighbours;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod payload;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod programs;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod refusals;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod san;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod steps;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> std::process::ExitCode {
    steps::run()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() -> std::process::ExitCode {
    eprintln!("the demo runs the driver in the harness, which needs x64 Linux; on Windows, see the README");
    std::process::ExitCode::FAILURE
}
