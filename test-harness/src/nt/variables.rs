//! Variables that ntoskrnl.exe exports and nothing here writes: what kind of machine it is, and its first process.

use super::version::VERSION;
use crate::image::Export;
use crate::kernel::Kernel;

/// The build, in a system without the checks of a debug build.
static NT_BUILD_NUMBER: u32 = VERSION.2 | 0xF000_0000;
/// No flag of GFlags is set.
static NT_GLOBAL_FLAG: u32 = 0;
/// Not in safe mode.
static INIT_SAFE_BOOT_MODE: u32 = 0;
/// As many as [`super::processor_groups`] says.
static KE_NUMBER_PROCESSORS: i8 = 1;

/// PsInitialSystemProcess, whose value is a machine's own.
const SYSTEM_PROCESS: &str = "PsInitialSystemProcess";

pub(super) fn variables() -> Vec<(&'static str, Export)> {
    static NONE: usize = 0;
    vec![
        ("NtBuildNumber", Export::Data(&raw const NT_BUILD_NUMBER as usize)),
        ("NtGlobalFlag", Export::Data(&raw const NT_GLOBAL_FLAG as usize)),
        ("InitSafeBootMode", Export::Data(&raw const INIT_SAFE_BOOT_MODE as usize)),
        ("KeNumberProcessors", Export::Data(&raw const KE_NUMBER_PROCESSORS as usize)),
        (SYSTEM_PROCESS, Export::Data(&raw const NONE as usize)),
    ]
}

/// The export of a system module by name, for an image of this machine.
pub(crate) fn find_on(kernel: &Kernel, module: &str, name: &str) -> Option<Export> {
    let found = super::find(module, name)?;
    Some(if name == SYSTEM_PROCESS { Export::Data(kernel.processes.initial(kernel)) } else { found })
}
