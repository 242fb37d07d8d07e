//! Lays out the open stand-in for the WDK as a folder that wdk-build takes for one (`WDKContentRoot`).

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    DriverModel, Exclusive, Task,
    arch::Arch,
    inner_cargo, output_root,
    progress::{run_quietly, say},
    symlink::symlink,
    take_turn,
    toolchain::{Toolchain, ToolchainSource},
};

/// The version of the kit that the folders claim: any that wdk-build can sort.
const KIT_VERSION: &str = "10.0.22000.0";
const KMDF_VERSION: &str = "1.31";
const IMPORT_LIBRARIES: [&str; 5] = ["ntoskrnl", "hal", "netio", "cng", "wmilib"];

/// A laid-out kit.
pub(crate) struct StandIn {
    /// `WDKContentRoot`.
    pub(crate) root: PathBuf,
}

/// The project's own files that the kit is made from.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("wdk-stand-in")
}

/// Folders that a C compiler has to search for the kit's headers, in their order.
pub(crate) fn include_folders(root: &Path) -> [PathBuf; 4] {
    let kit = root.join("Include").join(KIT_VERSION);
    [kit.join("km/crt"), kit.join("km"), kit.join("shared"), root.join("Include/wdf/kmdf").join(KMDF_VERSION)]
}

/// Finds or sets up the toolchain and the kit for one processor and task.
pub(crate) fn set_up(source: ToolchainSource, arch: Arch, task: Task) -> Result<(Toolchain, StandIn)> {
    let _turn = take_turn(Exclusive::SetUp)?;
    let toolchain = Toolchain::find_or_set_up(source, arch, task)?;
    let kit = lay_out(&toolchain, arch)?;
    Ok((toolchain, kit))
}

/// Lays the kit out for one processor, unless it is there and up to date.
fn lay_out(toolchain: &Toolchain, arch: Arch) -> Result<StandIn> {
    let root = output_root().join("stand-in").join(arch.name());
    // wdk-sys tells KMDF's headers from the others by that word in their path.
    if root.to_string_lossy().to_lowercase().contains("wdf") {
        bail!("the workspace lies in {}, and no folder above it may have \"wdf\" in its name", root.display());
    }
    let stamp = root.join("made-from");
    let made_from = fingerprint(toolchain)?;
    if fs::read_to_string(&stamp).is_ok_and(|old| old == made_from) {
        return Ok(StandIn { root });
    }
    say(format!("laying out headers and import libraries in place of the WDK's ({})", arch.name()));
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("cannot replace {}", root.display()))?;
    }
    forget_function_signatures()?;
    lay_out_headers(&root, toolchain)?;
    make_libraries(&root, toolchain, arch)?;
    fs::write(&stamp, made_from)?;
    Ok(StandIn { root })
}

fn lay_out_headers(root: &Path, toolchain: &Toolchain) -> Result<()> {
    let kit = root.join("Include").join(KIT_VERSION);
    // wdk-build asks for the folder of the USB function class extension; nothing of it is used.
    fs::create_dir_all(kit.join("km/ufx/1.1"))?;
    fs::create_dir_all(root.join("Include/wdf/kmdf"))?;
    for entry in fs::read_dir(toolchain.mingw_headers.join("ddk"))? {
        let entry = entry?;
        symlink(entry.path(), kit.join("km").join(entry.file_name()))?;
    }
    symlink(&toolchain.mingw_headers, kit.join("shared"))?;
    symlink(sources().join("include/crt"), kit.join("km/crt"))?;
    symlink(sources().join("include/kmdf"), root.join("Include/wdf/kmdf").join(KMDF_VERSION))?;
    Ok(())
}

fn kernel_libraries(root: &Path, arch: Arch) -> PathBuf {
    root.join("Lib").join(KIT_VERSION).join("km").join(arch.library_folder())
}

fn kmdf_libraries(root: &Path, arch: Arch) -> PathBuf {
    root.join("Lib/wdf/kmdf").join(arch.library_folder()).join(KMDF_VERSION)
}

/// Every library that a driver of one model may be linked with.
pub(crate) fn libraries(root: &Path, arch: Arch, model: DriverModel) -> Result<Vec<PathBuf>> {
    let folders = match model {
        DriverModel::Wdm => vec![kernel_libraries(root, arch)],
        DriverModel::Kmdf | DriverModel::Framework => vec![kernel_libraries(root, arch), kmdf_libraries(root, arch)],
    };
    let mut libraries = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            libraries.push(entry?.path());
        }
    }
    libraries.sort();
    Ok(libraries)
}

fn make_libraries(root: &Path, toolchain: &Toolchain, arch: Arch) -> Result<()> {
    let (kernel, kmdf) = (kernel_libraries(root, arch), kmdf_libraries(root, arch));
    fs::create_dir_all(&kernel)?;
    fs::create_dir_all(&kmdf)?;
    for name in IMPORT_LIBRARIES {
        make_import_library(toolchain, arch, name, &kernel.join(name).with_extension("lib"))?;
    }
    make_import_library(toolchain, arch, "wdfldr", &kmdf.join("WdfLdr.lib"))?;
    let compiled = |source, library: PathBuf| make_static_library(root, toolchain, arch, source, &library);
    compiled("wdf_driver_entry", kmdf.join("WdfDriverEntry.lib"))?;
    compiled("buffer_overflow_fast_fail", kernel.join("BufferOverflowFastFailK.lib"))?;
    match arch {
        Arch::X64 => Ok(()),
        Arch::Arm64 => compiled("arm64_runtime", kernel.join("arm64rt.lib")),
    }
}

fn make_import_library(toolchain: &Toolchain, arch: Arch, name: &str, library: &Path) -> Result<()> {
    let definition = sources().join("lib").join(name).with_extension("def");
    let mut command = toolchain.command(toolchain.llvm.bin.join("llvm-dlltool"));
    command.args(["-m", arch.dlltool_machine(), "-d"]).arg(definition).arg("-l").arg(library);
    run_quietly(&mut command)?;
    Ok(())
}

fn make_static_library(root: &Path, toolchain: &Toolchain, arch: Arch, name: &str, library: &Path) -> Result<()> {
    let source = sources().join("lib").join(name).with_extension("c");
    let object = library.with_extension("obj");
    let mut compile = toolchain.command(toolchain.llvm.bin.join("clang"));
    compile.args(compiler_flags(root, arch)).arg("-c").arg(source).arg("-o").arg(&object);
    run_quietly(&mut compile)?;
    let mut archive = toolchain.command(toolchain.llvm.bin.join("llvm-lib"));
    archive.args(["/nologo", &format!("/machine:{}", arch.name())]);
    archive.arg(format!("/out:{}", library.display())).arg(&object);
    run_quietly(&mut archive)?;
    fs::remove_file(object)?;
    Ok(())
}

/// wdk-macros keeps the signatures that it once read from the headers, and does not look whether they changed.
fn forget_function_signatures() -> Result<()> {
    let mut folders = inner_cargo::target_folders().to_vec();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue }; // Nothing is built yet.
        for entry in entries {
            let path = entry?.path();
            if path.ends_with("cached_function_info_map.json") {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            } else if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

/// How C for the kernel is compiled: as `cl /kernel /GS-` would.
pub(crate) fn compiler_flags(root: &Path, arch: Arch) -> Vec<String> {
    let fixed = [
        "-O2",
        "-std=c17",
        "-ffreestanding",
        "-fms-extensions",
        "-fshort-wchar",
        "-fno-stack-protector",
        // As Windows on x64 and ARM64 requires of every function that is no leaf, and Microsoft's compiler has no option for.
        "-fasynchronous-unwind-tables",
        "-gcodeview",
        "-w",
        "-D_KERNEL_MODE",
        "-DKMDF_VERSION_MAJOR=1",
        "-DKMDF_VERSION_MINOR=31",
    ];
    let mut flags = vec![format!("--target={}", arch.triple())];
    flags.extend(fixed.iter().chain(arch.definitions()).map(|&flag| flag.to_owned()));
    // Not -isystem: clang's own folder would come between, and crt/ has to be searched before all others.
    flags.extend(include_folders(root).iter().map(|folder| format!("-I{}", folder.display())));
    flags
}

/// Changes when anything the kit is made from does.
fn fingerprint(toolchain: &Toolchain) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    let mut folders = vec![sources()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(&folder)
            .with_context(|| format!("cannot read {}", folder.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        entries.sort();
        for entry in entries {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                entry.hash(&mut hasher);
                fs::read(&entry)?.hash(&mut hasher);
            }
        }
    }
    Ok(format!("{:016x}\n{}\n{}\n", hasher.finish(), toolchain.llvm.bin.display(), toolchain.mingw_headers.display()))
}
