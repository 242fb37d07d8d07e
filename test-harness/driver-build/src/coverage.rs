//! Images that count which of their edges are taken: LLVM's SanitizerCoverage, with one 8-bit counter for each edge.
//!
//! The driver does not know of it: the compiler's wrapper adds the pass for the workspace's own crates, and an object of
//! `wdk-stand-in/lib/coverage.c` is linked in that marks where the counters lie.

use std::{
    fs,
    path::{Path, PathBuf},
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
