//! Transfers through the driver against the same transfers by plain sockets in the same run: throughput, latency, pool
//! allocations a message, time a message against the number of sessions, and the cost of an operation by a request and by the kernel
//! interface.
//!
//! Everything goes over TCP on loopback. The driver runs in the harness, so that the figures are those of the driver *and* of
//! the simulated kernel under it, on a machine whose TCP is Linux's: they show what the path costs over a socket here, not how
//! fast Windows would be.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod suite;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> std::process::ExitCode {
    suite::run()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() -> std::process::ExitCode {
    eprintln!("the harness runs on x64 Linux");
    std::process::ExitCode::FAILURE
}
