//! `cargo harness`: see [`test_harness::tool`].

use std::process::ExitCode;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> ExitCode {
    let streams = san_proxy::sanctl::Streams {
        input: Box::new(std::io::stdin()),
        output: &mut std::io::stdout().lock(),
        errors: &mut std::io::stderr(),
        terminals: san_proxy::sanctl::Terminals::of_process(),
    };
    ExitCode::from(test_harness::tool::run(std::env::args_os(), streams))
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() -> ExitCode {
    eprintln!("the harness runs on x64 Linux");
    ExitCode::FAILURE
}
