//! Images that count which of their edges are taken: LLVM's SanitizerCoverage, with one 8-bit counter for each edge.
//!
//! The driver does not know of it: the compiler's wrapper adds the pass for the workspace's own crates, and an object of
//! `wdk-stand-in/lib/coverage.c` is linked in that marks where the counters lie.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    Arch, output_root,
    progress::run_quietly,
    stand_in::{self, StandIn},
    toolchain::Toolchain,
};

/// The section of an image with coverage that holds the counters: 8 bytes, the counters, 1 byte.
pub const COUNTERS_SECTION: &str = ".SCOV";

/// The section that holds, for each counter in turn, its address and its flags (bit 0: a function begins there), 8 bytes each:
/// 8 bytes before them and 8 after.
pub const PCS_SECTION: &str = ".SCOVP";

/// The crates whose edges are counted, for the wrapper around rustc.
pub(crate) const CRATES: &str = "sanwsk,san_core,san_protocol,wsk_bindings";

/// Names [`CRATES`] to the wrapper.
pub(crate) const CRATES_VARIABLE: &str = "DRIVER_BUILD_COVERED_CRATES";

/// Names what [`compile_markers`] has made to the wrapper: a flag of cargo's would have everything compiled anew.
pub(crate) const OBJECT_VARIABLE: &str = "DRIVER_BUILD_COVERAGE_OBJECT";

/// Compiles what is linked in; its path.
pub(crate) fn compile_markers(toolchain: &Toolchain, kit: &StandIn, arch: Arch) -> Result<PathBuf> {
    let source: &Path = &stand_in::sources().join("lib/coverage.c");
    let folder = output_root().join("coverage").join(arch.name());
    fs::create_dir_all(&folder)?;
    let object = folder.join("coverage.obj");
    let mut compile = toolchain.command(toolchain.llvm.bin.join("clang"));
    compile.args(stand_in::compiler_flags(&kit.root, arch)).arg("-c").arg(source).arg("-o").arg(&object);
    run_quietly(&mut compile)?;
    Ok(object)
}

/// Begins the target folder of images with coverage as a copy of the other images' one: all that is not counted has been compiled
/// there, if the driver was, and cargo goes by the times of the files, which the copy keeps. What is counted is compiled anew.
pub(crate) fn take_over(plain: &Path, folder: &Path, arch: Arch) -> Result<()> {
    let [host, target] = [PathBuf::from("release"), Path::new(arch.triple()).join("release")];
    if folder.exists() || !plain.join(&target).exists() {
        return Ok(());
    }
    // Whole, or not there: an interrupted copy is no target folder.
    let copy: &Path = &plain.join("coverage.part");
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    for part in [&host, &target] {
        let to = copy.join(part);
        fs::create_dir_all(to.parent().unwrap_or(copy))?;
        run_quietly(Command::new("cp").arg("--archive").arg(plain.join(part)).arg(to))?;
    }
    for entry in fs::read_dir(copy.join(&target).join(".fingerprint"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().replace('-', "_");
        if name.rsplit_once('_').is_some_and(|(package, _hash)| CRATES.split(',').any(|covered| covered == package)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    fs::rename(copy, folder)?;
    Ok(())
}
