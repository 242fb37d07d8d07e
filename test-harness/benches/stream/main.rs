//! One TCP stream through the driver against plain sockets in the same run: throughput, latency, memory an operation.
//!
//! The peer is a plain socket in both cases, on loopback. The driver runs in the harness, so that the figures are those of the
//! driver *and* of the simulated kernel under it, on a machine whose TCP is Linux's: they show what the path costs
//! over a socket here, not how fast Windows would be.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod bed;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod measure;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod memory;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod path;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod report;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> std::process::ExitCode {
    measure::run()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() -> std::process::ExitCode {
    eprintln!("the harness runs on x64 Linux");
    std::process::ExitCode::FAILURE
}
