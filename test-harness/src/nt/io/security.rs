//! Security descriptors of devices, from their SDDL, checked against a process's token.

use crate::nt::process::ProcessKind;
use crate::nt::types::{
    ACCESS_MASK, FILE_ALL_ACCESS, FILE_GENERIC_EXECUTE, FILE_GENERIC_READ, FILE_GENERIC_WRITE, GENERIC_ALL,
    GENERIC_EXECUTE, GENERIC_READ, GENERIC_WRITE, MAXIMUM_ALLOWED,
};

/// What a device gets without one of its own: SYSTEM and administrators all, everyone read and execute (the default for
/// named devices, `SDDL_DEVOBJ_SYS_ALL_ADM_RWX_WORLD_R_RES_R` being narrower).
const DEFAULT: &str = "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GRGX;;;WD)(A;;GRGX;;;RC)";

/// Rights of files that generic rights stand for.
pub(crate) fn map_generic(access: ACCESS_MASK) -> ACCESS_MASK {
    let mut mapped = access & 0x0fff_ffff;
    for (generic, rights) in [
        (GENERIC_READ, FILE_GENERIC_READ),
        (GENERIC_WRITE, FILE_GENERIC_WRITE),
        (GENERIC_EXECUTE, FILE_GENERIC_EXECUTE),
        (GENERIC_ALL, FILE_ALL_ACCESS),
    ] {
        if access & generic != 0 {
            mapped |= rights;
        }
    }
    mapped
}

struct Entry {
    allow: bool,
    rights: ACCESS_MASK,
    trustee: String,
}

/// The discretionary access list of a device.
pub(crate) struct Security {
    entries: Vec<Entry>,
}

impl Default for Security {
    fn default() -> Self {
        Self::parse(DEFAULT).expect("the default descriptor is well formed")
    }
}

impl Security {
    /// Reads the DACL of an SDDL string. None if it is malformed.
    pub(crate) fn parse(sddl: &str) -> Option<Self> {
        let list = &sddl[sddl.find("D:")? + 2..];
        let list = list.split("S:").next()?;
        let mut entries = Vec::new();
        let mut rest = &list[list.find('(').unwrap_or(list.len())..];
        while let Some(inner) = rest.strip_prefix('(') {
            let end = inner.find(')')?;
            let fields: Vec<&str> = inner[..end].split(';').collect();
            let [kind, _flags, rights, _object, _inherited, trustee] = fields[..] else { return None };
            let allow = match kind {
                "A" => true,
                "D" => false,
                _ => return None,
            };
            entries.push(Entry { allow, rights: parse_rights(rights)?, trustee: trustee.to_owned() });
            rest = &inner[end + 1..];
        }
        rest.is_empty().then_some(Self { entries })
    }

    /// What a process gets of the access it wants, or None if that is denied.
    pub(crate) fn grant(&self, wanted: ACCESS_MASK, process: ProcessKind) -> Option<ACCESS_MASK> {
        let (mut allowed, mut denied) = (0, 0);
        for entry in self.entries.iter().filter(|entry| holds(process, &entry.trustee)) {
            if entry.allow {
                allowed |= entry.rights & !denied;
            } else {
                denied |= entry.rights & !allowed;
            }
        }
        if wanted & MAXIMUM_ALLOWED != 0 {
            return (allowed != 0).then_some(allowed);
        }
        let wanted = map_generic(wanted);
        (wanted & !allowed == 0).then_some(wanted)
    }
}

fn parse_rights(mut text: &str) -> Option<ACCESS_MASK> {
    if let Some(number) = text.strip_prefix("0x") {
        return ACCESS_MASK::from_str_radix(number, 16).ok().map(map_generic);
    }
    let mut rights = 0;
    while !text.is_empty() {
        rights |= match text.get(..2)? {
            "GA" | "FA" => FILE_ALL_ACCESS,
            "GR" | "FR" => FILE_GENERIC_READ,
            "GW" | "FW" => FILE_GENERIC_WRITE,
            "GX" | "FX" => FILE_GENERIC_EXECUTE,
            "RC" => 0x0002_0000,
            "SD" => 0x0001_0000,
            "WD" => 0x0004_0000,
            "WO" => 0x0008_0000,
            _ => return None,
        };
        text = &text[2..];
    }
    Some(rights)
}

/// Whether a process's token holds a trustee.
fn holds(process: ProcessKind, trustee: &str) -> bool {
    match (process, trustee) {
        (_, "WD" | "S-1-1-0")
        | (ProcessKind::System, "SY" | "S-1-5-18" | "BA" | "S-1-5-32-544" | "AU" | "S-1-5-11")
        | (ProcessKind::User { .. }, "AU" | "S-1-5-11" | "BU" | "S-1-5-32-545" | "IU" | "S-1-5-4") => true,
        (ProcessKind::User { elevated, .. }, "BA" | "S-1-5-32-544") => elevated,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMINISTRATOR: ProcessKind = ProcessKind::User { elevated: true, wow64: false };
    const USER: ProcessKind = ProcessKind::User { elevated: false, wow64: false };

    #[test]
    fn administrators_only() {
        let security = Security::parse("D:P(A;;GA;;;SY)(A;;GA;;;BA)").unwrap();
        assert_eq!(
            security.grant(GENERIC_READ | GENERIC_WRITE, ADMINISTRATOR),
            Some(FILE_GENERIC_READ | FILE_GENERIC_WRITE)
        );
        assert_eq!(security.grant(GENERIC_ALL, ProcessKind::System), Some(FILE_ALL_ACCESS));
        assert_eq!(security.grant(GENERIC_READ, USER), None);
        assert_eq!(security.grant(MAXIMUM_ALLOWED, USER), None);
    }

    #[test]
    fn entries_count_in_order() {
        let security = Security::parse("D:(D;;GW;;;BU)(A;;GRGW;;;WD)S:(ML;;NW;;;LW)").unwrap();
        assert_eq!(
            security.grant(GENERIC_READ, USER),
            None,
            "read shares READ_CONTROL and SYNCHRONIZE with the denied write"
        );
        assert_eq!(security.grant(1, USER), Some(1));
        assert_eq!(security.grant(GENERIC_WRITE, USER), None);
    }

    #[test]
    fn malformed_lists_are_refused() {
        for sddl in ["", "O:BA", "D:P(A;;GA;;SY)", "D:(X;;GA;;;SY)", "D:(A;;QQ;;;SY)", "D:(A;;GA;;;SY"] {
            assert!(Security::parse(sddl).is_none(), "{sddl}");
        }
    }
}
