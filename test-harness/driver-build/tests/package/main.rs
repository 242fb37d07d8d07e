//! The driver package: its INF by the rules for primitive drivers, its parameters as the driver has them, its version, and the
//! folder as a whole.

mod events;
mod events_page;
mod image;
mod inf;
mod parameters;
mod pooltag;
mod rules;
mod scripts;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use driver_build::package::{Date, Stamp, assemble, version};
use driver_build::{Arch, Options, workspace_root};

/// Held by whoever has the package folders.
static FOLDERS: Mutex<()> = Mutex::new(());

const DATE: Date = Date { year: 2026, month: 3, day: 9 };

fn inx() -> String {
    fs::read_to_string(workspace_root().join("inf/sanwsk.inx")).expect("the INX")
}

fn stamp(arch: Arch) -> Stamp {
    Stamp::of_workspace(arch, DATE).expect("Cargo.toml")
}

#[test]
fn the_inf_keeps_the_rules_for_each_processor() {
    for arch in [Arch::X64, Arch::Arm64] {
        let stamp = stamp(arch);
        rules::check(&stamp.inf(&inx()), &stamp).unwrap_or_else(|error| panic!("{arch:?}: {error}"));
    }
}

/// Mistakes that are made in INFs: what is replaced, by what, and what is said of it.
const MISTAKES: [(&str, &str, &str); 34] = [
    ("DriverVer   =", "DriverVer2  =", "may not have"),
    ("DriverVer   =\n", "", "has no DriverVer"),
    ("Class       = System", "Class       = Net", "no class of Windows"),
    ("CatalogFile = sanwsk.cat\n", "", "has no CatalogFile"),
    ("PnpLockdown = 1\n", "", "has no PnpLockdown"),
    ("Provider    = %ProviderName%\n", "Provider    =\n", "nobody uses the string providername"),
    ("\"$WINDOWS NT$\"", "\"$CHICAGO$\"", "Signature"),
    ("[DefaultInstall.NT$ARCH$]", "[DefaultInstall]", "there is no [DefaultInstall.NT"),
    ("[Sanwsk_Files]", "[Manufacturer]\n%ProviderName% = Models\n[Sanwsk_Files]", "[Manufacturer] has no place"),
    ("[Sanwsk_Files]", "[DefaultInstall]\nCopyFiles = Sanwsk_Files\n[Sanwsk_Files]", "[DefaultInstall] has no place"),
    ("LegacyUninstall = 1", "LegacyUninstall = 0", "LegacyUninstall"),
    ("DefaultDestDir = 13", "DefaultDestDir = 12", "DefaultDestDir"),
    (r"%13%\sanwsk.sys", r"%12%\sanwsk.sys", "driver store"),
    (r"%13%\sanwsk.sys", r"%13%\sanwsk64.sys", "driver store"),
    ("sanwsk.sys = 1", "sanwsk.sys = 2", "has no 2"),
    ("[Sanwsk_Files]\nsanwsk.sys", "[Sanwsk_Files]\nsanwsk.sys\nextra.dll", "has no extra.dll"),
    ("sanwsk.sys = 1", "sanwsk.sys = 1\nextra.dll = 1", "nobody copies"),
    ("CopyFiles = Sanwsk_Files", "CopyFiles = Sanwsk_Files\nRegisterDlls = X", "may not have Some(\"RegisterDlls\")"),
    ("CopyFiles = Sanwsk_Files", "CopyFiles = Sanwsk_File", "there is no [Sanwsk_File]"),
    ("sanwsk, 0x400, Sanwsk_Service", "sanwsk, 0x402, Sanwsk_Service", "flags"),
    ("DelService = sanwsk, 0x200", "DelService = sanwsk", "does not stop"),
    ("StartType     = 3", "StartType     = 4", "StartType is not 3"),
    ("ServiceType   = 1", "ServiceType   = 0x10", "ServiceType is not 1"),
    ("(A;;CCLCSWLOCRRC;;;IU)", "(A;;CCLCSWRPLOCRRC;;;IU)", "IU may not have RP"),
    ("WDWO;;;BA)", "WDWO;;;WD)", "WD has no access"),
    ("HKR, Parameters, AllowUsers, ", "HKLM, Parameters, AllowUsers, ", "its own service's Parameters"),
    ("0x00010003, 256\n", "0x00010001, 256\n", "outlives an upgrade"),
    ("0x00010003, 200", "0x00010003, 2OO", "no number"),
    ("KmdfService = sanwsk,", "KmdfService = sanwsk2,", "KmdfService"),
    ("$KMDFVERSION$", "1.9", "KmdfLibraryVersion"),
    ("%ServiceName%", "%ServiceTitle%", "there is no string ServiceTitle"),
    ("[Strings]", "[Strings]\nSpare = \"spare\"", "nobody uses the string spare"),
    ("[SourceDisksFiles]", "[SourceDisksNames]", "two sections"),
    ("\"sanwsk installation disk\"", "\"sanwsk installation disk", "quotation mark"),
];

#[test]
fn every_planted_mistake_is_found() {
    let stamp = stamp(Arch::X64);
    for (right, wrong, said) in MISTAKES {
        let planted = inx().replacen(right, wrong, 1);
        assert_ne!(planted, inx(), "{right:?} is not in the INX any more");
        match rules::check(&stamp.inf(&planted), &stamp) {
            Ok(_) => panic!("nobody minds {wrong:?} for {right:?}"),
            Err(error) => assert!(error.contains(said), "{wrong:?} for {right:?}: {error}"),
        }
    }
}

#[test]
fn a_package_of_another_version_or_processor_is_found() {
    let x64 = stamp(Arch::X64);
    let inf = x64.inf(&inx());
    assert!(rules::check(&inf, &stamp(Arch::Arm64)).is_err());
    assert!(rules::check(&inf, &Stamp { version: "0.0.9.0".into(), ..x64.clone() }).is_err());
    assert!(rules::check(&inf, &Stamp { date: Date { day: 10, ..DATE }, ..x64 }).is_err());
}

/// The name of a file in the folder, and whether it is there with something in it.
fn holds(folder: &Path, name: &str) -> bool {
    fs::metadata(folder.join(name)).is_ok_and(|file| file.len() > 0)
}

#[test]
fn the_package_folder_has_all_that_an_installation_wants_but_the_catalog() {
    let _alone = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    for arch in [Arch::X64, Arch::Arm64] {
        let folder = assemble(&Options { arch, ..Options::default() }, DATE, false).expect("a package");
        let inf = fs::read_to_string(folder.join("sanwsk.inf")).expect("the INF");
        rules::check(&inf, &stamp(arch)).unwrap_or_else(|error| panic!("{arch:?}: {error}"));
        for file in ["sanwsk.sys", "sanwsk.pdb", "LICENSE-MIT", "LICENSE-APACHE", "install.ps1", "pooltag.txt"] {
            assert!(holds(&folder, file), "{file}");
        }
        // What cargo make puts in on Windows beside what it has built.
        let makefile = fs::read_to_string(workspace_root().join("Makefile.toml")).expect("the makefile");
        for entry in fs::read_dir(&folder).expect("the folder") {
            let name = entry.expect("an entry").file_name().into_string().expect("ASCII");
            assert!(
                name.starts_with("sanwsk.") || makefile.contains(&format!("/{name}")),
                "Makefile.toml lacks {name}"
            );
        }
        assert!(!holds(&folder, "sanwsk.cat"), "nothing here makes a catalog");
        assert_eq!(image::version_of(&folder.join("sanwsk.sys")), image::Version::of_package(&version()));
    }
}

#[test]
fn a_signed_image_says_who_signed_it_and_is_whole() {
    if Command::new("osslsigncode").arg("--version").output().is_err() {
        println!("osslsigncode is not installed: nothing signed");
        return;
    }
    let _alone = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    // `assemble` has verified it; what follows does not go by its word.
    let signed = assemble(&Options::default(), DATE, true).expect("a package");
    assert!(holds(&signed, "sanwsk-test.cer"));
    let file = fs::read(signed.join("sanwsk.sys")).expect("the image");
    assert!(image::certificate_table(&file).is_some_and(|table| !table.is_empty()));
    assert_eq!(image::version_of(&signed.join("sanwsk.sys")), image::Version::of_package(&version()));
    let built = driver_build::build(&Options::default()).expect("the driver").image;
    assert_eq!(image::certificate_table(&fs::read(built).expect("the image")), None);
}
