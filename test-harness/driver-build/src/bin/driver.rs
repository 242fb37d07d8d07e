//! `cargo driver`: builds `sanwsk.sys` and prints its path as the last line.

use std::process::ExitCode;

use clap::Parser;
use driver_build::{
    Arch, DRIVER_PACKAGE, Instrumentation, Options, Profile, Task, ToolchainSource, build, check_user_mode, lint,
};

/// Builds the driver image and prints its path.
///
/// On Windows the installed WDK is used. On Linux an open stand-in for it, with clang, lld and a Rust that can compile for
/// Windows; on Debian and Ubuntu what is missing is downloaded and unpacked under target/driver, and nothing is installed.
#[derive(Parser)]
#[command(name = "cargo driver", bin_name = "cargo driver")]
struct Arguments {
    /// Processor the image is for
    #[arg(long, value_enum, default_value_t = Arch::X64)]
    arch: Arch,

    /// Optimisation of the image
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,

    /// The driver package of this workspace to build
    #[arg(long, default_value = DRIVER_PACKAGE)]
    package: String,

    /// Only check that the driver compiles
    #[arg(long, conflicts_with = "clippy")]
    check: bool,

    /// Only lint the driver; a warning is an error
    #[arg(long)]
    clippy: bool,

    /// Lint a user-mode package of this workspace for Windows instead
    #[arg(long, value_name = "PACKAGE", conflicts_with_all = ["check", "clippy", "package"])]
    user_mode: Option<String>,

    /// Use compilers that are downloaded for this project, though the system has some that would do (Debian and Ubuntu)
    #[arg(long)]
    private_toolchain: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        package: arguments.package,
        arch: arguments.arch,
        profile: arguments.profile,
        toolchain: if arguments.private_toolchain { ToolchainSource::Private } else { ToolchainSource::Any },
        instrumentation: Instrumentation::None,
    };
    let result = if let Some(package) = arguments.user_mode {
        check_user_mode(&package, options.toolchain, options.arch)
    } else if arguments.check {
        lint(&options, Task::Check)
    } else if arguments.clippy {
        lint(&options, Task::Clippy)
    } else {
        build(&options).map(|artifacts| println!("{}", artifacts.image.display()))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
