//! Processors a driver can be built for, and what each tool calls them.

/// A processor architecture of 64-bit Windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// x86-64.
    #[default]
    X64,
    /// AArch64.
    Arm64,
}

impl Arch {
    /// As `--arch` and the output folder spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Arm64 => "arm64",
        }
    }

    /// Rust's and clang's target triple.
    #[must_use]
    pub fn triple(self) -> &'static str {
        match self {
            Self::X64 => "x86_64-pc-windows-msvc",
            Self::Arm64 => "aarch64-pc-windows-msvc",
        }
    }

    /// llvm-dlltool's `-m`.
    pub(crate) fn dlltool_machine(self) -> &'static str {
        match self {
            Self::X64 => "i386:x86-64",
            Self::Arm64 => "arm64",
        }
    }

    /// The WDK's library folder, in the case that wdk-build asks for.
    pub(crate) fn library_folder(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Arm64 => "ARM64",
        }
    }

    /// The macros that kernel headers want for it, as wdk-build defines them.
    pub(crate) fn definitions(self) -> &'static [&'static str] {
        match self {
            Self::X64 => &["-D_WIN64", "-D_AMD64_", "-DAMD64"],
            Self::Arm64 => &["-D_ARM64_", "-DARM64", "-D_USE_DECLSPECS_FOR_SAL=1", "-DSTD_CALL"],
        }
    }
}
