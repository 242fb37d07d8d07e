//! `cargo package-driver`: assembles the driver package for each processor, and prints the folders as the last lines.

use std::process::ExitCode;

use clap::Parser;
use driver_build::{
    Arch, Options, ToolchainSource,
    package::{Date, assemble},
};

/// Builds the driver and assembles the folder that it is installed from: driver, INF, symbols, scripts and licences.
///
/// The catalog is missing, and with it the signature that Windows wants of a package: Inf2Cat makes it on Windows, from this
/// folder or in the course of cargo make.
#[derive(Parser)]
#[command(name = "cargo package-driver", bin_name = "cargo package-driver")]
struct Arguments {
    /// Processor that the package is for; without it, a package for each
    #[arg(long, value_enum)]
    arch: Option<Arch>,

    /// Sign the image by a test certificate, made at the first time (wants openssl and osslsigncode)
    #[arg(long)]
    test_sign: bool,

    /// Use compilers that are downloaded for this project, though the system has some that would do (Debian and Ubuntu)
    #[arg(long)]
    private_toolchain: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let toolchain = if arguments.private_toolchain { ToolchainSource::Private } else { ToolchainSource::Any };
    let archs = arguments.arch.map_or_else(|| vec![Arch::X64, Arch::Arm64], |arch| vec![arch]);
    let date = Date::of_build();
    for arch in archs {
        match assemble(&Options { arch, toolchain, ..Options::default() }, date, arguments.test_sign) {
            Ok(folder) => println!("{}", folder.display()),
            Err(error) => {
                eprintln!("error: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
