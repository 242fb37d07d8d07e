//! Runs cargo on the driver package for its Windows target.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    Arch, Exclusive, Instrumentation, Options, Profile, ToolchainSource, coverage, output_root,
    progress::{run_quietly, say},
    stand_in,
    symlink::symlink,
    take_turn,
    toolchain::{Rust, RustLibrary, Toolchain, tool_variables},
    workspace_root,
};

/// What cargo is asked to do with the driver package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Compile and link it.
    Build,
    /// Compile it without generating code.
    Check,
    /// Lint it, warnings being errors.
    Clippy,
}

/// Where cargo compiles: apart from the workspace's own target folder, whose artifacts another compiler made; and one folder
/// for the installed Rust, one for the private, so that going from one to the other rebuilds nothing.
pub(crate) fn target_folders() -> [PathBuf; 2] {
    ["build", "build-private"].map(|folder| output_root().join(folder))
}

fn target_folder(rust: &Rust, instrumentation: Instrumentation) -> PathBuf {
    let [installed, private] = target_folders();
    let folder = if rust.cargo.starts_with(output_root()) { private } else { installed };
    match instrumentation {
        Instrumentation::None => folder,
        Instrumentation::Coverage => folder.join("coverage"),
    }
}

/// Runs one task to its end. The target folder it was done in.
pub(crate) fn run(options: &Options, task: Task) -> Result<PathBuf> {
    let (command, folder) =
        if cfg!(windows) { with_the_wdk(options, task)? } else { with_the_stand_in(options, task)? };
    let what = format!("{} for {}", options.package, options.arch.triple());
    run_to_success(command, &what)?;
    Ok(folder)
}

fn run_to_success(mut command: Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !status.success() {
        bail!("cargo failed on {what} ({status})");
    }
    Ok(())
}

/// Lints a user-mode package for Windows: what only compiles there is seen on Linux too.
///
/// # Errors
/// A Rust that compiles for Windows cannot be set up, or clippy or the compiler complains; their words are on stderr by then.
pub fn check_user_mode(package: &str, source: ToolchainSource, arch: Arch) -> Result<()> {
    let (toolchain, _) = stand_in::set_up(source, arch, Task::Clippy)?;
    let instrumentation = Instrumentation::None;
    let folder = target_folder(&toolchain.rust, instrumentation);
    // Release, to share what runs on this machine with the driver's own build. The library from source is compiled even to be
    // looked at: as quickly as can be.
    let options =
        Options { package: package.to_owned(), arch, profile: Profile::Release, toolchain: source, instrumentation };
    let mut command = toolchain.command(toolchain.rust.cargo_clippy());
    command
        .env("CARGO", &toolchain.rust.cargo)
        .env("RUSTC", &toolchain.rust.rustc)
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .arg("clippy");
    add_arguments(&mut command, &options, &folder);
    match toolchain.rust.library {
        RustLibrary::Installed => {}
        RustLibrary::Source => {
            command.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=std,panic_abort");
        }
    }
    command.args(["--", "-Dwarnings"]);
    run_to_success(command, &format!("{package} for {}", arch.triple()))
}

/// The installed WDK is found by wdk-build itself. (Not run yet: no Windows machine has built this workspace.)
fn with_the_wdk(options: &Options, task: Task) -> Result<(Command, PathBuf)> {
    match options.instrumentation {
        Instrumentation::None => {}
        Instrumentation::Coverage => bail!("images with coverage are for the harness, and built on Linux"),
    }
    let [folder, _] = target_folders();
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.env("CARGO_ENCODED_RUSTFLAGS", rustflags()).arg(task.subcommand()).arg("--lib");
    add_arguments(&mut command, options, &folder);
    deny_warnings(&mut command, task);
    Ok((command, folder))
}

fn with_the_stand_in(options: &Options, task: Task) -> Result<(Command, PathBuf)> {
    let (toolchain, kit) = stand_in::set_up(options.toolchain, options.arch, task)?;
    let (wrapper, clang_cl) = make_host_tools(&toolchain)?;

    let folder = target_folder(&toolchain.rust, options.instrumentation);
    let mut command = match task {
        Task::Build | Task::Check => toolchain.command(&toolchain.rust.cargo),
        Task::Clippy => {
            let mut command = toolchain.command(toolchain.rust.cargo_clippy());
            // What cargo sets for a subcommand.
            command.env("CARGO", &toolchain.rust.cargo);
            command
        }
    };
    command
        .envs(tool_variables(&toolchain, options.arch, &clang_cl))
        .env(format!("CFLAGS_{}", options.arch.triple().replace('-', "_")), "-w")
        .env("WDKContentRoot", &kit.root)
        .env("RUSTC_WRAPPER", wrapper)
        // wdk-alloc's warning is for its authors.
        .env("CARGO_FUTURE_INCOMPAT_REPORT_FREQUENCY", "never")
        .env("DRIVER_BUILD_HOST_CRATES", stand_in::sources().join("host"))
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags());
    match options.instrumentation {
        Instrumentation::None => {}
        Instrumentation::Coverage => {
            coverage::take_over(&target_folder(&toolchain.rust, Instrumentation::None), &folder, options.arch)?;
            let markers = coverage::compile_markers(&toolchain, &kit, options.arch)?;
            command.env(coverage::CRATES_VARIABLE, coverage::CRATES).env(coverage::OBJECT_VARIABLE, markers);
        }
    }
    command.arg(task.subcommand()).arg("--lib");
    add_arguments(&mut command, options, &folder);
    match toolchain.rust.library {
        RustLibrary::Installed => {}
        RustLibrary::Source => {
            // Cargo's -Z options are for nightly; this lets the release compile its own library as the release does.
            command.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core,alloc,compiler_builtins");
            // Unoptimised, its float code would call a C runtime's fma.
            command.args(["--config", "profile.dev.package.compiler_builtins.opt-level=3"]);
        }
    }
    deny_warnings(&mut command, task);
    Ok((command, folder))
}

/// Flags for the target only, separated as cargo wants it. The kernel has no C runtime to load: wdk-build insists on a
/// static one. The linker's own default leaves the image's checksum 0 and puts the time into it.
fn rustflags() -> String {
    ["-Ctarget-feature=+crt-static", "-Clink-arg=/RELEASE", "-Clink-arg=/Brepro"].join("\x1f")
}

impl Task {
    fn subcommand(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Check => "check",
            Self::Clippy => "clippy",
        }
    }
}

fn add_arguments(command: &mut Command, options: &Options, target_folder: &Path) {
    command
        .current_dir(workspace_root())
        .args(["--locked", "--package", &options.package, "--target", options.arch.triple()])
        .arg("--target-dir")
        .arg(target_folder)
        .stdout(Stdio::null());
    match options.profile {
        Profile::Release => {
            command.arg("--release");
        }
        Profile::Dev => {
            // A driver cannot unwind; the release profile says so itself.
            command.env("CARGO_PROFILE_DEV_PANIC", "abort");
        }
    }
}

/// Has to come last: what follows is clippy's own.
fn deny_warnings(command: &mut Command, task: Task) {
    match task {
        Task::Build | Task::Check => {}
        Task::Clippy => {
            command.args(["--", "-Dwarnings"]);
        }
    }
}

/// The wrapper around rustc, and clang by the name of cl.
fn make_host_tools(toolchain: &Toolchain) -> Result<(PathBuf, PathBuf)> {
    let _turn = take_turn(Exclusive::SetUp)?;
    Ok((compile_wrapper(toolchain)?, link_clang_cl(toolchain)?))
}

/// Compiles the wrapper with the driver's own Rust, once for each version of its source and of that Rust.
fn compile_wrapper(toolchain: &Toolchain) -> Result<PathBuf> {
    let source = stand_in::sources().join("host/rustc_wrapper.rs");
    let wrapper = output_root().join("rustc-wrapper");
    let stamp = output_root().join("rustc-wrapper.made-from");
    let made_from = format!("{}\n{}", toolchain.rust.rustc.display(), fs::read_to_string(&source)?);
    if !wrapper.exists() || fs::read_to_string(&stamp).is_ok_and(|old| old != made_from) || !stamp.exists() {
        fs::create_dir_all(output_root())?;
        let mut command = toolchain.command(&toolchain.rust.rustc);
        command.args(["--edition", "2024", "-O"]).arg(&source).arg("-o").arg(&wrapper);
        run_quietly(&mut command)?;
        fs::write(&stamp, made_from)?;
    }
    Ok(wrapper)
}

/// clang takes cl's command line when it is called by that name, and not every package has the name.
fn link_clang_cl(toolchain: &Toolchain) -> Result<PathBuf> {
    let clang = toolchain.llvm.bin.join("clang");
    let link: &Path = &output_root().join("bin/clang-cl");
    fs::create_dir_all(output_root().join("bin"))?;
    if fs::read_link(link).is_ok_and(|target| target == clang) {
        return Ok(link.to_path_buf());
    }
    if link.is_symlink() {
        say("another clang than before");
        fs::remove_file(link)?;
    }
    symlink(clang, link)?;
    Ok(link.to_path_buf())
}
