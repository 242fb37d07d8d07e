//! The compilers that the header is tried with.

use driver_build::{Arch, Task, Toolchain, ToolchainSource, kernel_c_compiler};
use std::{env, ffi::OsStr, process::Command, sync::OnceLock};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    C,
    Cpp,
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::C, Self::Cpp];

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Cpp => "cpp",
        }
    }

    /// The oldest that the header is written for.
    fn standard(self) -> &'static str {
        match self {
            Self::C => "-std=c11",
            Self::Cpp => "-std=c++11",
        }
    }

    fn driver(self) -> &'static str {
        match self {
            Self::C => "cc",
            Self::Cpp => "c++",
        }
    }
}

/// Windows on every processor it runs on, as clang calls them.
pub(crate) const WINDOWS: [&str; 3] = ["x86_64-w64-windows-gnu", "i686-w64-windows-gnu", "aarch64-w64-windows-gnu"];

pub(crate) struct Compiler(Command);

impl Compiler {
    /// The system's own compiler. Rust links with `cc`, so that is there; a machine without `c++` has the check in C++ by
    /// clang only, unless it is one of continuous integration.
    pub(crate) fn of_this_machine(language: Language) -> Option<Self> {
        let mut command = Command::new(language.driver());
        if let Err(error) = command.arg("--version").output() {
            let needed = matches!(language, Language::C) || env::var_os("CI").is_some();
            assert!(!needed, "{} is wanted: {error}", language.driver());
            return None;
        }
        Some(Self::new(Command::new(language.driver()), language))
    }

    /// clang with mingw-w64's headers, from where the driver's build has them.
    pub(crate) fn for_windows(language: Language, target: &str) -> Self {
        static TOOLCHAIN: OnceLock<Toolchain> = OnceLock::new();
        let toolchain = TOOLCHAIN.get_or_init(|| {
            // It sets up what is missing, one process at a time; then there is only to find.
            kernel_c_compiler(ToolchainSource::Any, Arch::X64).unwrap_or_else(|error| panic!("no clang: {error:#}"));
            Toolchain::find_or_set_up(ToolchainSource::Any, Arch::X64, Task::Build)
                .unwrap_or_else(|error| panic!("no clang: {error:#}"))
        });
        let mut clang = toolchain.command(toolchain.llvm.bin.join("clang"));
        clang.arg(format!("--target={target}")).args(["-nostdlibinc", "-isystem"]).arg(&toolchain.mingw_headers);
        Self::new(clang, language)
    }

    fn new(mut command: Command, language: Language) -> Self {
        command.args([language.standard(), "-Wall", "-Wextra", "-pedantic", "-Werror"]);
        Self(command)
    }

    /// Compiles; what it said when it refuses.
    pub(crate) fn run(mut self, arguments: &[&dyn AsRef<OsStr>]) -> Result<(), String> {
        let output = self.0.args(arguments).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }
}
