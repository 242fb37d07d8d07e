//! The built image as Windows' loader sees it, and what it asks of Windows 10 2004.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use driver_build::{Arch, Artifacts, CDriver, DriverModel, Options, build, build_c};
use object::{
    LittleEndian as LE, Object as _,
    pe::{
        IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE, IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
        IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA, IMAGE_DLLCHARACTERISTICS_NX_COMPAT, IMAGE_FILE_MACHINE_AMD64,
        IMAGE_FILE_MACHINE_ARM64, IMAGE_FILE_RELOCS_STRIPPED, IMAGE_SCN_MEM_EXECUTE, IMAGE_SCN_MEM_WRITE,
        IMAGE_SUBSYSTEM_NATIVE,
    },
    read::pe::PeFile64,
};

const IMPORT_LISTS: [&str; 6] = ["ntoskrnl", "hal", "netio", "cng", "wdfldr", "wmilib"];

/// Documented as functions, and yet no exports of Windows 10 2004: macros and inline functions of the 64-bit WDK headers, and
/// what later versions added. An import library that promised one would link an image that does not load.
const NO_EXPORTS_OF_2004: [&str; 22] = [
    "ExAllocatePool3",
    "ExInitializeFastMutex",
    "ExInterlockedPopEntrySList",
    "IoCallDriver",
    "IoCompleteRequest",
    "IoCopyCurrentIrpStackLocationToNext",
    "IoGetCurrentIrpStackLocation",
    "IoMarkIrpPending",
    "IoSetCompletionRoutine",
    "IoSizeOfIrp",
    "IoSkipCurrentIrpStackLocation",
    "KeAcquireSpinLock",
    "KeQuerySystemTime",
    "KeQueryTickCount",
    "KeRaiseIrql",
    "MmGetMdlVirtualAddress",
    "MmGetSystemAddressForMdlSafe",
    "MmInitializeMdl",
    "ObDereferenceObject",
    "ObReferenceObject",
    "RtlCopyMemory",
    "RtlZeroMemory",
];

/// The names in one of the stand-in's import lists, and the library that they come from.
fn import_list(name: &str) -> (String, BTreeSet<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("wdk-stand-in/lib").join(name).with_extension("def");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = text.lines().filter(|line| !line.starts_with(';'));
    let library = lines.find_map(|line| line.strip_prefix("LIBRARY ")).expect("a LIBRARY line");
    let names = lines.filter(|&line| line != "EXPORTS").filter_map(|line| line.split_whitespace().next());
    (library.to_lowercase(), names.map(str::to_owned).collect())
}

fn exports_of_windows_10_2004() -> BTreeMap<String, BTreeSet<String>> {
    IMPORT_LISTS.into_iter().map(import_list).collect()
}

/// Imports, as `library!name`, that a list of exports does not have.
fn not_exported(imports: &[(String, String)], exports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let is_exported =
        |library: &str, name: &str| exports.get(&library.to_lowercase()).is_some_and(|all| all.contains(name));
    let missing = imports.iter().filter(|(library, name)| !is_exported(library, name));
    missing.map(|(library, name)| format!("{library}!{name}")).collect()
}

fn imports_of(image: &PeFile64<'_>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let imports = image.imports().expect("a readable import table");
    imports.iter().map(|import| (text(import.library()), text(import.name()))).collect()
}

/// The checksum of a PE file, as ImageHlp's CheckSumMappedFile documents: its 16-bit words added with end-around carry, the
/// field itself left out, and the file's length.
fn checksum(file: &[u8], field_at: usize) -> u32 {
    let mut sum = 0_u32;
    for (index, word) in file.chunks(2).enumerate() {
        if !(field_at..field_at + 4).contains(&(index * 2)) {
            sum += u32::from(word[0]) | word.get(1).map_or(0, |&high| u32::from(high) << 8);
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum + u32::try_from(file.len()).expect("an image under 4 GiB")
}

fn assert_fit_to_load(artifacts: &Artifacts, arch: Arch) {
    const CHECKSUM_IN_NT_HEADERS: usize = 24 + 64;
    let bytes = fs::read(&artifacts.image).expect("the image");
    let image = PeFile64::parse(&*bytes).expect("a PE32+ file");
    let (file, optional) = (image.nt_headers().file_header, image.nt_headers().optional_header);
    let machine = match arch {
        Arch::X64 => IMAGE_FILE_MACHINE_AMD64,
        Arch::Arm64 => IMAGE_FILE_MACHINE_ARM64,
    };
    assert_eq!(file.machine.get(LE), machine);
    assert_eq!(file.characteristics.get(LE) & IMAGE_FILE_RELOCS_STRIPPED, 0, "the kernel loads it wherever it likes");
    assert_eq!(optional.subsystem.get(LE), IMAGE_SUBSYSTEM_NATIVE);

    let wanted = IMAGE_DLLCHARACTERISTICS_NX_COMPAT
        | IMAGE_DLLCHARACTERISTICS_DYNAMIC_BASE
        | IMAGE_DLLCHARACTERISTICS_HIGH_ENTROPY_VA;
    assert_eq!(optional.dll_characteristics.get(LE) & wanted, wanted);

    let field_at = image.dos_header().nt_headers_offset() as usize + CHECKSUM_IN_NT_HEADERS;
    assert_eq!(optional.check_sum.get(LE), checksum(&bytes, field_at), "the loader refuses a wrong checksum");

    let mut entry_is_code = false;
    let entry = optional.address_of_entry_point.get(LE);
    for section in image.section_table().iter() {
        let flags = section.characteristics.get(LE);
        let name = String::from_utf8_lossy(section.raw_name()).into_owned();
        assert!(
            flags & IMAGE_SCN_MEM_WRITE == 0 || flags & IMAGE_SCN_MEM_EXECUTE == 0,
            "{name} is writable and executable"
        );
        let start = section.virtual_address.get(LE);
        if (start..start + section.virtual_size.get(LE)).contains(&entry) {
            entry_is_code = flags & IMAGE_SCN_MEM_EXECUTE != 0;
        }
    }
    assert!(entry_is_code, "the entry point {entry:#x} is in no executable section");

    let pdb = image.pdb_info().expect("a readable debug directory").expect("a PDB's name");
    let pdb_name = artifacts.symbols.file_name().expect("a file").to_string_lossy();
    assert_eq!(String::from_utf8_lossy(pdb.path()), pdb_name, "the image tells no path of the machine that built it");
    assert!(fs::metadata(&artifacts.symbols).expect("the PDB").len() > 0);
}

fn build_driver(arch: Arch) -> Artifacts {
    build(&Options { arch, ..Options::default() }).unwrap_or_else(|error| panic!("{error:#}"))
}

fn build_c_driver(name: &str, model: DriverModel, arch: Arch, folder: &str) -> Artifacts {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers").join(name).with_extension("c");
    let driver = CDriver { name: name.to_owned(), sources: vec![source], model, arch };
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder).join(arch.name());
    build_c(&driver, &folder).unwrap_or_else(|error| panic!("{error:#}"))
}

fn imports_of_file(path: &Path) -> Vec<(String, String)> {
    let bytes = fs::read(path).expect("the image");
    imports_of(&PeFile64::parse(&*bytes).expect("a PE32+ file"))
}

#[test]
fn the_driver_is_fit_to_load() {
    for arch in [Arch::X64, Arch::Arm64] {
        let artifacts = build_driver(arch);
        assert_fit_to_load(&artifacts, arch);
        let bytes = fs::read(&artifacts.image).expect("the image");
        let image = PeFile64::parse(&*bytes).expect("a PE32+ file");
        let characteristics = image.nt_headers().optional_header.dll_characteristics.get(LE);
        assert_ne!(
            characteristics & IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY,
            0,
            "callbacks such as Ob's want /INTEGRITYCHECK"
        );
    }
}

#[test]
fn the_driver_imports_only_what_windows_10_2004_exports() {
    let exports = exports_of_windows_10_2004();
    for arch in [Arch::X64, Arch::Arm64] {
        let imports = imports_of_file(&build_driver(arch).image);
        let bind = imports.iter().filter(|(library, name)| library == "WDFLDR.SYS" && name.starts_with("WdfVersion"));
        assert_eq!(bind.count(), 2, "binds to and unbinds from KMDF: {imports:?}");
        assert_eq!(not_exported(&imports, &exports), Vec::<String>::new(), "{}", arch.name());
    }
}

#[test]
fn an_import_that_windows_lacks_is_named() {
    let import = |library: &str, name: &str| (library.to_owned(), name.to_owned());
    let imports = [
        import("ntoskrnl.exe", "ExAllocatePool2"),
        import("ntoskrnl.exe", "ExAllocatePool3"),
        import("NETIO.SYS", "WskRegister"),
        import("ntoskrnl.exe", "WskRegister"),
        import("other.sys", "ExAllocatePool2"),
    ];
    let missing = not_exported(&imports, &exports_of_windows_10_2004());
    assert_eq!(missing, ["ntoskrnl.exe!ExAllocatePool3", "ntoskrnl.exe!WskRegister", "other.sys!ExAllocatePool2"]);
}

#[test]
fn the_import_lists_promise_no_macro_and_nothing_newer() {
    for (library, names) in exports_of_windows_10_2004() {
        let wrong: Vec<_> = NO_EXPORTS_OF_2004.iter().filter(|&&name| names.contains(name)).collect();
        assert!(wrong.is_empty(), "{library}: {wrong:?}");
    }
}

#[test]
fn c_drivers_of_both_models_are_fit_to_load() {
    for arch in [Arch::X64, Arch::Arm64] {
        let kmdf = build_c_driver("kmdf_minimal", DriverModel::Kmdf, arch, "fit");
        assert_fit_to_load(&kmdf, arch);
        assert!(imports_of_file(&kmdf.image).iter().any(|(_, name)| name == "WdfVersionBind"));
        let wdm = build_c_driver("wdm_minimal", DriverModel::Wdm, arch, "fit");
        assert_fit_to_load(&wdm, arch);
        assert!(imports_of_file(&wdm.image).iter().all(|(library, _)| library == "ntoskrnl.exe"));
    }
}

#[test]
fn two_builds_in_one_folder_give_the_same_bytes() {
    let image =
        || fs::read(build_c_driver("kmdf_minimal", DriverModel::Kmdf, Arch::X64, "twice").image).expect("the image");
    let first = image();
    std::thread::sleep(std::time::Duration::from_millis(1100)); // A time stamp would have changed.
    assert_eq!(first, image(), "the second image differs");
}
