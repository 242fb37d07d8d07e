//! What a package of a primitive driver has to be: the pages "Creating a new primitive driver", "INF Version section", "INF
//! AddService directive", "Using dirids" and "InfVerif", with `/w`, in the Windows driver documentation. Where a page allows
//! several things, the one that this package does: what is not known here is refused.

use std::collections::BTreeSet;

use driver_build::package::Stamp;
use driver_build::{Arch, package};

use crate::inf::{Inf, Line};

/// A parameter, as `[..AddReg]` sets it: name and number; none for an empty list.
pub(crate) type Parameter = (String, Option<u32>);

/// Classes that are set up by Windows, of those that a driver without a device may be of.
const CLASSES: [(&str, &str); 1] = [("System", "{4d36e97d-e325-11ce-bfc1-08002be10318}")];

/// FLG_ADDREG_TYPE_DWORD and FLG_ADDREG_TYPE_MULTI_SZ, each with FLG_ADDREG_NOCLOBBER.
const DWORD: u32 = 0x0001_0003;
const MULTI_SZ: u32 = 0x0001_0002;
/// SPSVCINST_CLOBBER_SECURITY.
const CLOBBER_SECURITY: u32 = 0x400;
/// SPSVCINST_STOPSERVICE.
const STOP_SERVICE: u32 = 0x200;

fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is no number"))
}

/// The file's rules, all of them; the parameters that it sets.
pub(crate) fn check(text: &str, stamp: &Stamp) -> Result<Vec<Parameter>, String> {
    let inf = Inf::parse(text)?;
    version(&inf, stamp)?;
    let install = format!("DefaultInstall.NT{}", arch_name(stamp.arch));
    let uninstall = format!("DefaultUninstall.NT{}", arch_name(stamp.arch));
    let mut sections: BTreeSet<String> =
        ["Version", "DestinationDirs", "SourceDisksNames", "SourceDisksFiles", "Strings"].map(str::to_owned).into();

    directives(&inf, &install, &["CopyFiles"])?;
    let copied = copied_files(&inf, inf.value(&install, "CopyFiles")?)?;
    sections.extend([install.clone(), inf.value(&install, "CopyFiles")?.to_owned()]);

    directives(&inf, &uninstall, &["LegacyUninstall"])?;
    expect(inf.value(&uninstall, "LegacyUninstall")?, "1", "LegacyUninstall")?;
    sections.insert(uninstall.clone());

    let services = format!("{install}.Services");
    directives(&inf, &services, &["AddService"])?;
    let [service, flags, section] = inf.values(&services, "AddService")? else {
        return Err("AddService = NAME, FLAGS, SECTION".into());
    };
    if number(flags)? & !CLOBBER_SECURITY != 0 {
        return Err(format!("AddService has the flags {flags}, of which a driver without a device wants none"));
    }
    sections.extend([services, section.clone()]);

    let removal = format!("{uninstall}.Services");
    directives(&inf, &removal, &["DelService"])?;
    match inf.values(&removal, "DelService")? {
        [removed, flags] if removed == service && number(flags)? == STOP_SERVICE => {}
        other => return Err(format!("DelService = {other:?} does not stop and delete {service}")),
    }
    sections.insert(removal);

    let parameters = service_section(&inf, section, &copied, &mut sections)?;

    let wdf = format!("{install}.Wdf");
    directives(&inf, &wdf, &["KmdfService"])?;
    let [of, library] = inf.values(&wdf, "KmdfService")? else { return Err("KmdfService = SERVICE, SECTION".into()) };
    expect(of, service, "KmdfService")?;
    directives(&inf, library, &["KmdfLibraryVersion"])?;
    expect(inf.value(library, "KmdfLibraryVersion")?, &stamp.kmdf, "KmdfLibraryVersion")?;
    sections.extend([wdf, library.clone()]);

    match inf.names().find(|name| !sections.iter().any(|known| known.eq_ignore_ascii_case(name))) {
        Some(unknown) => Err(format!("[{unknown}] has no place in the package of a primitive driver")),
        None => Ok(parameters),
    }
}

fn arch_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X64 => "amd64",
        Arch::Arm64 => "arm64",
    }
}

fn expect(actual: &str, expected: &str, what: &str) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what} is {actual:?}, not {expected:?}")) }
}

/// Refuses a section that has other directives, or one of these not exactly once.
fn directives(inf: &Inf, section: &str, known: &[&str]) -> Result<(), String> {
    for line in inf.section(section)? {
        if !known.iter().any(|known| line.is(known)) {
            return Err(format!("line {}: [{section}] may not have {:?}", line.number, line.key));
        }
    }
    known.iter().try_for_each(|key| inf.values(section, key).map(drop))
}

fn version(inf: &Inf, stamp: &Stamp) -> Result<(), String> {
    directives(
        inf,
        "Version",
        &["Signature", "Class", "ClassGuid", "Provider", "DriverVer", "CatalogFile", "PnpLockdown"],
    )?;
    expect(&inf.value("Version", "Signature")?.to_uppercase(), "$WINDOWS NT$", "Signature")?;
    let class = (inf.value("Version", "Class")?, inf.value("Version", "ClassGuid")?);
    if !CLASSES.contains(&class) {
        return Err(format!("{class:?} is no class of Windows with its identifier"));
    }
    inf.value("Version", "Provider")?;
    let catalog = inf.value("Version", "CatalogFile")?;
    if !catalog.to_lowercase().ends_with(".cat") || catalog.contains('\\') {
        return Err(format!("{catalog} is no catalog"));
    }
    expect(inf.value("Version", "PnpLockdown")?, "1", "PnpLockdown")?;
    let package::Date { year, month, day } = stamp.date;
    let date = format!("{month:02}/{day:02}/{year}");
    match inf.values("Version", "DriverVer")? {
        [given, version] if *given == date && *version == stamp.version => Ok(()),
        other => Err(format!("DriverVer is {other:?}, not {date}, {}", stamp.version)),
    }
}

/// The files of a section, each on the disk, and going to the driver store.
fn copied_files(inf: &Inf, section: &str) -> Result<BTreeSet<String>, String> {
    directives(inf, "DestinationDirs", &["DefaultDestDir"])?;
    expect(inf.value("DestinationDirs", "DefaultDestDir")?, "13", "DefaultDestDir")?;
    let mut files = BTreeSet::new();
    for line in inf.section(section)? {
        let Line { key: None, values, .. } = line else {
            return Err(format!("line {}: a file's name alone", line.number));
        };
        let [file] = &values[..] else { return Err(format!("line {}: a file's name alone", line.number)) };
        let disk = inf.value("SourceDisksFiles", file)?;
        inf.values("SourceDisksNames", disk)?;
        if !files.insert(file.clone()) {
            return Err(format!("{file} is copied twice"));
        }
    }
    for line in inf.section("SourceDisksFiles")? {
        if !line.key.as_ref().is_some_and(|file| files.contains(file)) {
            return Err(format!("line {}: nobody copies {:?}", line.number, line.key));
        }
    }
    Ok(files)
}

fn service_section(
    inf: &Inf,
    section: &str,
    copied: &BTreeSet<String>,
    sections: &mut BTreeSet<String>,
) -> Result<Vec<Parameter>, String> {
    let known = [
        "DisplayName",
        "Description",
        "ServiceType",
        "StartType",
        "ErrorControl",
        "ServiceBinary",
        "Dependencies",
        "Security",
        "AddReg",
    ];
    directives(inf, section, &known)?;
    for key in ["DisplayName", "Description"] {
        inf.value(section, key)?;
    }
    // SERVICE_KERNEL_DRIVER, SERVICE_DEMAND_START, SERVICE_ERROR_NORMAL.
    for (key, value) in [("ServiceType", 1), ("StartType", 3), ("ErrorControl", 1)] {
        if number(inf.value(section, key)?)? != value {
            return Err(format!("{key} is not {value}"));
        }
    }
    let binary = inf.value(section, "ServiceBinary")?;
    match binary.strip_prefix(r"%13%\") {
        Some(file) if copied.contains(file) => {}
        _ => return Err(format!("{binary} is no file that the package puts into the driver store")),
    }
    expect(inf.value(section, "Dependencies")?, "Tcpip", "Dependencies")?;
    security(inf.value(section, "Security")?)?;
    let registry = inf.value(section, "AddReg")?;
    sections.insert(registry.to_owned());
    inf.section(registry)?.iter().map(parameter).collect()
}

/// A line of AddReg: the driver's own state, relative to its service, which an upgrade leaves alone.
fn parameter(line: &Line) -> Result<Parameter, String> {
    let wrong = |what: &str| format!("line {}: {what}", line.number);
    let (None, [root, key, name, kind, value @ ..]) = (&line.key, &line.values[..]) else {
        return Err(wrong("ROOT, KEY, NAME, FLAGS, VALUE"));
    };
    if (root.as_str(), key.as_str()) != ("HKR", "Parameters") {
        return Err(wrong("a driver package writes to its own service's Parameters alone"));
    }
    match (number(kind)?, value) {
        (DWORD, [value]) => Ok((name.clone(), Some(number(value)?))),
        (MULTI_SZ, []) => Ok((name.clone(), None)),
        (kind, _) => {
            Err(wrong(&format!("{kind:#x} is no type of a parameter that outlives an upgrade, with its value")))
        }
    }
}

/// Each right to a service, as `sc sdshow` writes them; generic rights are mapped by some who read them, and not by others.
const SERVICE_ALL_ACCESS: &str = "CCDCLCSWRPWPDTLOCRSDRCWDWO";

/// Access to a service that only SYSTEM and administrators may have: to change it, its security or its owner, to start, stop,
/// pause or delete it; and what stands for these among others.
const RESERVED: [&str; 10] = ["GA", "GW", "GX", "DC", "RP", "WP", "DT", "SD", "WD", "WO"];

fn security(sddl: &str) -> Result<(), String> {
    let wrong = |what: &str| format!("{sddl}: {what}");
    let mut rest = sddl.strip_prefix("D:P").ok_or_else(|| wrong("no protected DACL"))?;
    let mut everything = BTreeSet::new();
    while !rest.is_empty() {
        let (ace, after) =
            rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or_else(|| wrong("no list of entries"))?;
        rest = after;
        let [kind, flags, rights, object, inherited, trustee] = ace.split(';').collect::<Vec<_>>()[..] else {
            return Err(wrong("an entry has six parts"));
        };
        if (kind, flags, object, inherited) != ("A", "", "", "") || rights.len() % 2 != 0 {
            return Err(wrong("an entry that is more than an access of a trustee"));
        }
        let rights: Vec<_> = (0..rights.len()).step_by(2).map(|at| &rights[at..at + 2]).collect();
        match trustee {
            "SY" | "BA" => {
                if rights.concat() == SERVICE_ALL_ACCESS {
                    everything.insert(trustee);
                }
            }
            "IU" | "SU" | "AU" | "BU" => {
                if let Some(right) = rights.iter().find(|right| RESERVED.contains(right)) {
                    return Err(wrong(&format!("{trustee} may not have {right}")));
                }
            }
            other => return Err(wrong(&format!("{other} has no access to a driver's service"))),
        }
    }
    if everything.len() == 2 { Ok(()) } else { Err(wrong("SYSTEM or administrators cannot do everything")) }
}
