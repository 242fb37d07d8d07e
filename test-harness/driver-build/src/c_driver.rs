//! Drivers written in C, for tests: compiled and linked against the same stand-in as the Rust ones.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{Arch, Artifacts, Task, ToolchainSource, progress::run_quietly, stand_in};

/// The driver model, which decides the entry point and what is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverModel {
    /// `DriverEntry` is the image's entry point.
    Wdm,
    /// The framework's entry code runs first.
    Kmdf,
    /// As [`Self::Wdm`], with what `WDFLDR.SYS` exports: the image is a framework.
    Framework,
}

/// A driver of C files. Each begins with `#include <ntifs.h>`, `<ntddk.h>` and `<ntstrsafe.h>`, and `<wdf.h>` for KMDF.
#[derive(Clone, Debug)]
pub struct CDriver {
    /// Name of the image, without `.sys`.
    pub name: String,
    /// The C files.
    pub sources: Vec<PathBuf>,
    /// What it is built on.
    pub model: DriverModel,
    /// Processor the image is for.
    pub arch: Arch,
}

/// A C compiler with the flags and headers that a driver is compiled with.
///
/// # Errors
/// The toolchain or the headers cannot be set up.
pub fn kernel_c_compiler(source: ToolchainSource, arch: Arch) -> Result<Command> {
    let (toolchain, kit) = stand_in::set_up(source, arch, Task::Build)?;
    let mut command = toolchain.command(toolchain.llvm.bin.join("clang"));
    command.args(stand_in::compiler_flags(&kit.root, arch));
    Ok(command)
}

/// Builds a driver of C files into a folder.
///
/// # Errors
/// The toolchain cannot be set up, or the compiler or linker refuses the files; the error holds what they said.
pub fn build_c(driver: &CDriver, folder: &Path) -> Result<Artifacts> {
    let (toolchain, kit) = stand_in::set_up(ToolchainSource::Any, driver.arch, Task::Build)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let file = |extension: &str| folder.join(&driver.name).with_extension(extension);
    let artifacts = Artifacts { image: file("sys"), symbols: file("pdb"), map: file("map") };

    let mut link = toolchain.command(toolchain.llvm.bin.join("lld-link"));
    let entry = match driver.model {
        DriverModel::Wdm | DriverModel::Framework => "/entry:DriverEntry",
        DriverModel::Kmdf => "/entry:FxDriverEntry",
    };
    link.args([
        "/nologo",
        "/driver",
        "/nodefaultlib",
        "/subsystem:native",
        "/nxcompat",
        "/dynamicbase",
        "/release",
        "/Brepro",
    ])
    .args(["/debug", "/pdbaltpath:%_PDB%", entry])
    .arg(format!("/out:{}", artifacts.image.display()))
    .arg(format!("/pdb:{}", artifacts.symbols.display()))
    .arg(format!("/map:{}", artifacts.map.display()));
    for (index, source) in driver.sources.iter().enumerate() {
        let object = folder.join(format!("{}-{index}.obj", driver.name));
        let mut compile = toolchain.command(toolchain.llvm.bin.join("clang"));
        compile
            .args(stand_in::compiler_flags(&kit.root, driver.arch))
            .args(["-g", "-c"])
            .arg(source)
            .arg("-o")
            .arg(&object);
        run_quietly(&mut compile)?;
        link.arg(object);
    }
    link.args(stand_in::libraries(&kit.root, driver.arch, driver.model)?);
    run_quietly(&mut link)?;
    Ok(artifacts)
}
