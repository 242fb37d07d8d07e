//! `sanctl`: looks at the driver, and makes and takes connections through it. See [`san_proxy::sanctl`].

use san_proxy::{Provider, sanctl};
use std::process::ExitCode;

fn main() -> ExitCode {
    let streams = sanctl::Streams {
        input: Box::new(std::io::stdin()),
        output: &mut std::io::stdout().lock(),
        errors: &mut std::io::stderr(),
        terminals: sanctl::Terminals::of_process(),
    };
    ExitCode::from(sanctl::run(std::env::args_os(), Provider::open, streams))
}
