//! Finds, or sets up, what compiles a Windows driver on Linux: a Rust, LLVM's C compiler and linker, mingw-w64's headers.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{
    Task,
    arch::Arch,
    debian,
    progress::{run_for_at_most, run_quietly, say},
    workspace_root,
};

/// Where compilers may come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolchainSource {
    /// What is installed, where it will do; private packages for the rest.
    #[default]
    Any,
    /// Private packages only, though the system has some (Debian and Ubuntu).
    Private,
}

/// All that the build runs or reads, wherever it was found.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Compiles the driver.
    pub rust: Rust,
    /// Compiles and links C, and reads headers.
    pub llvm: Llvm,
    /// mingw-w64's headers; `ddk/` under it holds those of the kernel.
    pub mingw_headers: PathBuf,
    /// `LD_LIBRARY_PATH` for the tools, where they do not lie in the system's own folders.
    pub library_folders: Vec<PathBuf>,
}

/// A Rust that can compile for Windows.
#[derive(Clone, Debug)]
pub struct Rust {
    /// `rustc`, not rustup's proxy for it.
    pub rustc: PathBuf,
    /// `cargo`, likewise.
    pub cargo: PathBuf,
    /// Where `core` and `alloc` for Windows come from.
    pub library: RustLibrary,
}

/// Where a Rust has its library for a Windows target from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RustLibrary {
    /// Compiled, as rustup installs a target.
    Installed,
    /// As source, which cargo compiles along with the driver.
    Source,
}

/// LLVM's tools of one version.
#[derive(Clone, Debug)]
pub struct Llvm {
    /// Holds `clang`, `lld-link`, `llvm-lib` and `llvm-dlltool`.
    pub bin: PathBuf,
    /// Holds `libclang`.
    pub lib: PathBuf,
}

/// The oldest Rust that compiles this workspace (its `rust-version`).
pub(crate) const OLDEST_RUST: (u32, u32) = (1, 91);
/// LLVM's versions that are looked for; 19 is the one in daily use here.
pub(crate) const LLVM_VERSIONS: RangeInclusive<u32> = 16..=30;
const RUSTUP_LIMIT: Duration = Duration::from_mins(2);

impl Toolchain {
    /// Finds a toolchain for one processor and task, and sets up what is missing, saying what and why.
    ///
    /// # Errors
    /// Something is missing and cannot be had here; the message says how to install it.
    pub fn find_or_set_up(source: ToolchainSource, arch: Arch, task: Task) -> Result<Self> {
        let (rust, llvm, mingw_headers) = match source {
            ToolchainSource::Any => (
                Rust::of_the_system(arch, task),
                Llvm::under(Path::new("/usr")),
                mingw_headers_under(Path::new("/usr")),
            ),
            ToolchainSource::Private => (None, None, None),
        };
        if let (Some(rust), Some(llvm), Some(mingw_headers)) = (&rust, &llvm, &mingw_headers) {
            let (rust, llvm, mingw_headers) = (rust.clone(), llvm.clone(), mingw_headers.clone());
            return Ok(Self { rust, llvm, mingw_headers, library_folders: Vec::new() });
        }
        if debian::is_debian_like() {
            let missing =
                debian::Missing { rust: rust.is_none(), llvm: llvm.is_none(), mingw_headers: mingw_headers.is_none() };
            let private = debian::set_up(missing)?;
            let usr = private.usr();
            let found = (
                rust.or_else(|| Rust::at(&usr.join("bin"), arch, &private.library_folders())),
                llvm.or_else(|| Llvm::under(&usr)),
                mingw_headers.or_else(|| mingw_headers_under(&usr)),
            );
            let (Some(rust), Some(llvm), Some(mingw_headers)) = found else {
                bail!("the packages unpacked in {} lack a tool; delete it and try again", private.path().display());
            };
            return Ok(Self { rust, llvm, mingw_headers, library_folders: private.library_folders() });
        }
        let rust = match rust {
            Some(rust) => Some(rust),
            None => Rust::with_rustup_target(arch).filter(|rust| rust.can(task)),
        };
        let (Some(rust), Some(llvm), Some(mingw_headers)) = (rust, llvm, mingw_headers) else {
            bail!(
                "building the driver wants Rust {}.{} or later with the target {} (`rustup target add`), clang, lld and \
                 llvm {} or later, and mingw-w64's headers (and clippy, to lint); install the missing ones with this system's packages",
                OLDEST_RUST.0,
                OLDEST_RUST.1,
                arch.triple(),
                LLVM_VERSIONS.start()
            );
        };
        Ok(Self { rust, llvm, mingw_headers, library_folders: Vec::new() })
    }

    /// A command with an environment in which the tools find each other, and nothing of the cargo that runs this program,
    /// nor of compiler settings meant for the host, leaks in. The caller's own environment and PATH stay as they are.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(leaks) {
                command.env_remove(&name);
            }
        }
        if !self.library_folders.is_empty() {
            // A list made of paths found on disk has no separator in it.
            command.env("LD_LIBRARY_PATH", env::join_paths(&self.library_folders).unwrap_or_default());
        }
        command
    }
}

/// Whether a variable belongs to the outer cargo, or would change how the driver is compiled.
fn leaks(name: &str) -> bool {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_TERM_", "CARGO_BUILD_JOBS"];
    const DROPPED: [&str; 14] = [
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "LD_LIBRARY_PATH",
        "CC",
        "CFLAGS",
        "CXX",
        "AR_",
        "LIBCLANG_PATH",
        "BINDGEN_",
        "WDK",
        "CLIPPY_",
    ];
    !KEPT.iter().any(|kept| name.starts_with(kept)) && DROPPED.iter().any(|dropped| name.starts_with(dropped))
}

impl Rust {
    /// An installed Rust that can do every task. One that can do this task, but not lint, serves until another has been set up for
    /// that: then all is compiled by that one, and nothing twice.
    fn of_the_system(arch: Arch, task: Task) -> Option<Self> {
        Self::installed(arch, Task::Clippy)
            .or_else(|| if debian::has_unpacked_rust() { None } else { Self::installed(arch, task) })
    }

    /// The first installed Rust that can do the task for Windows: the user's own, or the system's.
    fn installed(arch: Arch, task: Task) -> Option<Self> {
        let bins = rustup_bin_folder().into_iter().chain([PathBuf::from("/usr/bin")]);
        bins.filter_map(|bin| Self::at(&bin, arch, &[])).find(|rust| rust.can(task))
    }

    /// Clippy is a package of its own in most systems, and has to be of the same Rust.
    fn can(&self, task: Task) -> bool {
        match task {
            Task::Build | Task::Check => true,
            Task::Clippy => self.cargo_clippy().exists(),
        }
    }

    /// cargo's subcommand for clippy, which lies beside it.
    pub(crate) fn cargo_clippy(&self) -> PathBuf {
        self.cargo.with_file_name("cargo-clippy")
    }

    fn at(bin: &Path, arch: Arch, library_folders: &[PathBuf]) -> Option<Self> {
        let (rustc, cargo) = (bin.join("rustc"), bin.join("cargo"));
        let tool = |arguments: &[&str]| {
            let mut command = Command::new(&rustc);
            command.args(arguments).env_remove("LD_LIBRARY_PATH");
            if !library_folders.is_empty() {
                command.env("LD_LIBRARY_PATH", env::join_paths(library_folders).ok()?);
            }
            run_quietly(&mut command).ok()
        };
        if !cargo.exists() || version_of(&tool(&["--version"])?)? < OLDEST_RUST {
            return None;
        }
        let rustlib = Path::new(tool(&["--print", "sysroot"])?.trim()).join("lib/rustlib");
        let library = if rustlib.join(arch.triple()).join("lib").is_dir() {
            RustLibrary::Installed
        } else if rustlib.join("src/rust/library/core/Cargo.toml").is_file() {
            RustLibrary::Source
        } else {
            return None;
        };
        Some(Self { rustc, cargo, library })
    }

    /// Adds the Windows target to the user's toolchain: an addition, that changes nothing else it builds.
    fn with_rustup_target(arch: Arch) -> Option<Self> {
        let bin = rustup_bin_folder()?;
        say(format!("`rustup target add {}`: the driver is compiled for Windows", arch.triple()));
        let mut command = Command::new("rustup");
        command.args(["target", "add", arch.triple()]).current_dir(workspace_root()).env_remove("RUSTUP_TOOLCHAIN");
        run_for_at_most(&mut command, RUSTUP_LIMIT);
        Self::at(&bin, arch, &[])
    }
}

/// Where rustup keeps the tools of the toolchain that is the default in this workspace.
fn rustup_bin_folder() -> Option<PathBuf> {
    let mut command = Command::new("rustup");
    command.args(["which", "rustc"]).current_dir(workspace_root()).env_remove("RUSTUP_TOOLCHAIN");
    let rustc = run_quietly(&mut command).ok()?;
    Path::new(rustc.trim()).parent().map(Path::to_path_buf)
}

/// The two leading numbers of `rustc 1.96.0 (...)`.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl Llvm {
    /// The newest complete LLVM: where Debian puts each version, or in the folders of a system that has but one.
    fn under(usr: &Path) -> Option<Self> {
        let versions = LLVM_VERSIONS.rev().map(|version| usr.join(format!("lib/llvm-{version}")));
        let versioned = versions.map(|folder| Self { bin: folder.join("bin"), lib: folder.join("lib") });
        let plain = ["lib64", "lib"].map(|lib| Self { bin: usr.join("bin"), lib: usr.join(lib) });
        versioned.chain(plain).find(Self::is_complete)
    }

    fn is_complete(&self) -> bool {
        let tools = ["clang", "lld-link", "llvm-lib", "llvm-dlltool"];
        tools.iter().all(|tool| self.bin.join(tool).exists()) && holds_libclang(&self.lib)
    }
}

fn holds_libclang(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    // Followed, for a package with the name may be there without the one with the file.
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libclang")
            && !name.starts_with("libclang-cpp")
            && name.contains(".so")
            && entry.path().exists()
    })
}

fn mingw_headers_under(usr: &Path) -> Option<PathBuf> {
    let folders =
        ["share/mingw-w64/include", "x86_64-w64-mingw32/sys-root/mingw/include", "x86_64-w64-mingw32/include"];
    folders.map(|folder| usr.join(folder)).into_iter().find(|folder| folder.join("ddk/ntddk.h").is_file())
}

/// Variables that tell build scripts (`cc`, `bindgen`) and cargo which tools to use for one target.
pub(crate) fn tool_variables(toolchain: &Toolchain, arch: Arch, clang_cl: &Path) -> BTreeMap<String, PathBuf> {
    let target = arch.triple().replace('-', "_");
    BTreeMap::from([
        ("RUSTC".to_owned(), toolchain.rust.rustc.clone()),
        ("LIBCLANG_PATH".to_owned(), toolchain.llvm.lib.clone()),
        (format!("CC_{target}"), clang_cl.to_path_buf()),
        (format!("AR_{target}"), toolchain.llvm.bin.join("llvm-lib")),
        (format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()), toolchain.llvm.bin.join("lld-link")),
    ])
}

#[cfg(test)]
mod tests {
    use super::{leaks, version_of};

    #[test]
    fn a_version_is_read_from_rustc_s_own_line() {
        assert_eq!(version_of("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some((1, 96)));
        assert_eq!(version_of("rustc 1.97.0-nightly (0 2026-06-01)"), Some((1, 97)));
        assert_eq!(version_of("no rustc"), None);
    }

    #[test]
    fn the_outer_cargo_s_variables_do_not_reach_the_inner_one() {
        for name in ["RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR", "CARGO_PKG_NAME", "RUSTFLAGS", "RUSTC_WRAPPER", "CFLAGS"] {
            assert!(leaks(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "PATH", "HOME", "RUSTUP_HOME"] {
            assert!(!leaks(name), "{name}");
        }
    }
}
