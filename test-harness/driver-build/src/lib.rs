//! Builds Windows kernel drivers of this workspace: with the installed WDK on Windows, and elsewhere with clang, lld, a Rust
//! that can compile for Windows, and an open stand-in for the WDK's headers and import libraries.
//!
//! [`build`] is what `cargo driver` runs. The published `wdk` crates are used unmodified on both; what Linux needs beside
//! them lies in `wdk-stand-in/`, and everything made from it under `target/driver/`.

mod arch;
mod c_driver;
mod coverage;
mod debian;
mod inner_cargo;
pub mod package;
mod progress;
mod stand_in;
mod symlink;
mod toolchain;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

pub use crate::{
    arch::Arch,
    c_driver::{CDriver, DriverModel, build_c, kernel_c_compiler},
    coverage::{COUNTERS_SECTION, PCS_SECTION},
    inner_cargo::{Task, check_user_mode},
    toolchain::{Toolchain, ToolchainSource},
};

/// The package that is built when no other is named.
pub const DRIVER_PACKAGE: &str = "sanwsk";

/// Optimisation of the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Unoptimised, with debug assertions.
    Dev,
    /// What is installed.
    #[default]
    Release,
}

impl Profile {
    /// The folder that cargo keeps this profile's output in.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// What is compiled into the image beside the driver itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instrumentation {
    /// Nothing: the image is what is installed.
    #[default]
    None,
    /// A counter at each edge of the control flow of this workspace's crates, for a fuzzer: see [`COUNTERS_SECTION`].
    Coverage,
}

/// What to build, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// A package of this workspace whose library is a KMDF driver.
    pub package: String,
    /// Processor the image is for.
    pub arch: Arch,
    /// Optimisation.
    pub profile: Profile,
    /// Where compilers come from.
    pub toolchain: ToolchainSource,
    /// What is compiled in beside the driver. What differs has its own folders: the ordinary image stays as it is.
    pub instrumentation: Instrumentation,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            package: DRIVER_PACKAGE.to_owned(),
            arch: Arch::default(),
            profile: Profile::default(),
            toolchain: ToolchainSource::default(),
            instrumentation: Instrumentation::default(),
        }
    }
}

/// The files of a built driver, side by side in one folder.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The driver image, `<package>.sys`.
    pub image: PathBuf,
    /// Its symbols, `<package>.pdb`.
    pub symbols: PathBuf,
    /// The linker's map, `<package>.map`.
    pub map: PathBuf,
}

/// Builds a driver package, setting up first what is missing.
///
/// # Errors
/// What could not be found or set up, or that the compiler or the linker failed; their own words are on stderr by then.
pub fn build(options: &Options) -> Result<Artifacts> {
    let _turn = take_turn(Exclusive::Build)?;
    let target_folder = inner_cargo::run(options, Task::Build)?;
    collect(options, &target_folder)
}

/// Lints a driver package for its real target, through the set-up that [`build`] uses.
///
/// # Errors
/// As for [`build`]; a warning of clippy counts as a failure.
pub fn lint(options: &Options, task: Task) -> Result<()> {
    inner_cargo::run(options, task)?;
    Ok(())
}

/// The workspace that this package belongs to.
#[must_use]
pub fn workspace_root() -> &'static Path {
    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    static RESOLVED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    RESOLVED.get_or_init(|| fs::canonicalize(ROOT).unwrap_or_else(|_| PathBuf::from(ROOT)))
}

/// Where everything that this package makes is kept. Under the workspace, because wdk-build looks for its Cargo.lock in the
/// folders above the build script's own.
#[must_use]
pub fn output_root() -> PathBuf {
    workspace_root().join("target").join("driver")
}

/// What only one process or thread at a time may do under [`output_root`].
#[derive(Clone, Copy)]
enum Exclusive {
    /// Setting up compilers, headers and libraries.
    SetUp,
    /// Linking an image and collecting it.
    Build,
}

/// Waits for its turn, which lasts until the file is dropped.
fn take_turn(what: Exclusive) -> Result<File> {
    let path = output_root().join(match what {
        Exclusive::SetUp => "set-up.lock",
        Exclusive::Build => "build.lock",
    });
    fs::create_dir_all(output_root()).with_context(|| format!("cannot create {}", output_root().display()))?;
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        progress::say("waiting for another build of a driver");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

fn collect(options: &Options, target_folder: &Path) -> Result<Artifacts> {
    let file_stem = options.package.replace('-', "_");
    let built = target_folder.join(options.arch.triple()).join(options.profile.folder());
    let mut name = options.arch.name().to_owned();
    match options.profile {
        Profile::Release => {}
        Profile::Dev => name.push_str("-dev"),
    }
    match options.instrumentation {
        Instrumentation::None => {}
        Instrumentation::Coverage => name.push_str("-coverage"),
    }
    let folder = output_root().join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let take = |from: PathBuf, extension: &str| {
        let to = folder.join(&options.package).with_extension(extension);
        replace_if_different(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        anyhow::Ok(to)
    };
    Ok(Artifacts {
        image: take(built.join(&file_stem).with_extension("dll"), "sys")?,
        symbols: take(built.join(&file_stem).with_extension("pdb"), "pdb")?,
        map: take(built.join("deps").join(&file_stem).with_extension("map"), "map")?,
    })
}

/// Copies a file in one step, so that whoever is reading the old one goes on reading it whole.
fn replace_if_different(from: &Path, to: &Path) -> io::Result<()> {
    let new = fs::read(from)?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let beside = to.with_added_extension("new");
    fs::write(&beside, new)?;
    fs::rename(beside, to)
}
