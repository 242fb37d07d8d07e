//! What a device says of itself to the PnP manager: its state, and what it can do.
#![allow(unsafe_code)] // reads and fills the client's structures, and the capabilities that a packet carries by address

use std::ptr;
use std::sync::Arc;

use super::super::object::{self, Object};
use super::super::types::{
    HANDLE, WDF_DEVICE_PNP_CAPABILITIES, WDF_DEVICE_POWER_CAPABILITIES, WDF_DEVICE_STATE, WdfFalse, WdfTrue,
    WdfUseDefault,
};
use super::{Pnp, complete, expect_pnp, pass_and_wait};
use crate::guard::violate;
use crate::nt::io::pnp::{DEVICE_CAPABILITIES, IoInvalidateDeviceState, PNP_DEVICE_FAILED};
use crate::nt::irql::called;
use crate::nt::status::{STATUS_NOT_SUPPORTED, STATUS_SUCCESS, nt_success};
use crate::nt::types::{DISPATCH_LEVEL, IRP, NTSTATUS};
use crate::violation::Rule;

/// Bits of a PNP_DEVICE_STATE, as the fields of WDF_DEVICE_STATE come.
const STATE_BITS: [usize; 7] =
    [PNP_DEVICE_DISABLED, PNP_DEVICE_DONT_DISPLAY_IN_UI, PNP_DEVICE_FAILED, 0x20, 0x8, 0x10, 0x100];
const PNP_DEVICE_DISABLED: usize = 0x1;
const PNP_DEVICE_DONT_DISPLAY_IN_UI: usize = 0x2;
/// Where WDF_DEVICE_STATE has DontDisplayInUI.
const DONT_DISPLAY_IN_UI: usize = 1;
/// How large WDF_DEVICE_STATE was before KMDF 1.29, without AssignedToGuest.
const FORMER_STATE_SIZE: usize = 28;

/// Bits of DEVICE_CAPABILITIES' second word, as the fields of WDF_DEVICE_PNP_CAPABILITIES come: LockSupported, EjectSupported,
/// Removable, DockDevice, UniqueID, SilentInstall, SurpriseRemovalOK, HardwareDisabled, NoDisplayInUI.
const CAPABILITY_BITS: [u32; 9] = [1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 9, 1 << 14, 1 << 17];
const LOCK_SUPPORTED: usize = 0;
const EJECT_SUPPORTED: usize = 1;
const REMOVABLE: usize = 2;
const DOCK_DEVICE: usize = 3;
const SURPRISE_REMOVAL_OK: usize = 6;
const NO_DISPLAY_IN_UI: usize = 8;
/// What lower drivers are to know as well.
const TOLD_DOWNWARDS: [usize; 6] =
    [LOCK_SUPPORTED, EJECT_SUPPORTED, REMOVABLE, DOCK_DEVICE, SURPRISE_REMOVAL_OK, NO_DISPLAY_IN_UI];
/// What a lower driver may say only if this one agrees.
const DENIED: [usize; 5] = [LOCK_SUPPORTED, EJECT_SUPPORTED, DOCK_DEVICE, REMOVABLE, SURPRISE_REMOVAL_OK];
/// What this driver says last.
const INSISTED: [usize; 2] = [REMOVABLE, SURPRISE_REMOVAL_OK];

/// PowerDeviceMaximum, PowerSystemMaximum, and a number that stands for no number of the client's.
const DEVICE_DEFAULT: u32 = 5;
const SYSTEM_DEFAULT: u32 = 7;
const NUMBER_DEFAULT: u32 = u32::MAX;

/// WDF_DEVICE_FAILED_ACTION.
const FAILED_ATTEMPT_RESTART: u32 = 1;
const FAILED_NO_RESTART: u32 = 2;

/// What the client has said of a device.
pub(super) struct Said {
    state: [u32; 7],
    capabilities: [u32; 9],
    address: u32,
    ui_number: u32,
    power: WDF_DEVICE_POWER_CAPABILITIES,
    /// It cannot go on.
    failed: bool,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            state: [WdfUseDefault; 7],
            capabilities: [WdfUseDefault; 9],
            address: NUMBER_DEFAULT,
            ui_number: NUMBER_DEFAULT,
            power: WDF_DEVICE_POWER_CAPABILITIES {
                Size: 0,
                Can: [WdfUseDefault; 6],
                DeviceState: [DEVICE_DEFAULT; 7],
                DeviceWake: DEVICE_DEFAULT,
                SystemWake: SYSTEM_DEFAULT,
                Latency: [NUMBER_DEFAULT; 3],
                IdealDxStateForSx: DEVICE_DEFAULT,
            },
            failed: false,
        }
    }
}

impl Said {
    pub(super) fn set_failed(&mut self) {
        self.failed = true;
    }

    /// A PNP_DEVICE_STATE with what the client has said.
    fn add_to_state(&self, mut bits: usize) -> usize {
        let mut tell = |value: u32, bit: usize| match value {
            WdfTrue => bits |= bit,
            WdfFalse => bits &= !bit,
            _ => {}
        };
        for (value, bit) in self.state.into_iter().zip(STATE_BITS) {
            tell(value, bit);
        }
        if self.state[DONT_DISPLAY_IN_UI] == WdfUseDefault {
            tell(self.capabilities[NO_DISPLAY_IN_UI], PNP_DEVICE_DONT_DISPLAY_IN_UI);
        }
        if self.failed { bits | PNP_DEVICE_FAILED } else { bits }
    }

    fn add_to_capabilities(&self, asked: &mut DEVICE_CAPABILITIES) {
        for index in TOLD_DOWNWARDS.into_iter().filter(|index| self.capabilities[*index] == WdfTrue) {
            asked.Flags |= CAPABILITY_BITS[index];
        }
    }

    /// Sleep may become deeper by what the client has said, waking lighter, and the way back slower.
    fn correct_capabilities(&self, told: &mut DEVICE_CAPABILITIES) {
        for index in DENIED.into_iter().filter(|index| self.capabilities[*index] == WdfFalse) {
            told.Flags &= !CAPABILITY_BITS[index];
        }
        for index in INSISTED.into_iter().filter(|index| self.capabilities[*index] == WdfTrue) {
            told.Flags |= CAPABILITY_BITS[index];
        }
        for (known, said) in told.DeviceState.iter_mut().zip(self.power.DeviceState).skip(1) {
            if said != DEVICE_DEFAULT {
                *known = said.max(*known);
            }
        }
        if self.power.SystemWake != SYSTEM_DEFAULT {
            told.SystemWake = told.SystemWake.min(self.power.SystemWake);
        }
        if self.power.DeviceWake != DEVICE_DEFAULT {
            told.DeviceWake = told.DeviceWake.min(self.power.DeviceWake);
        }
        for (known, said) in told.Latency.iter_mut().zip(self.power.Latency) {
            if said != NUMBER_DEFAULT {
                *known = said.max(*known);
            }
        }
        for (known, said) in [(&mut told.Address, self.address), (&mut told.UINumber, self.ui_number)] {
            if said != NUMBER_DEFAULT {
                *known = said;
            }
        }
    }
}

/// IRP_MN_QUERY_PNP_DEVICE_STATE: the lower drivers speak first.
pub(super) fn answer_state(pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    let status = match pass_and_wait(pnp, irp) {
        STATUS_NOT_SUPPORTED => STATUS_SUCCESS,
        status => status,
    };
    if nt_success(status) {
        let bits = pnp.said.lock().add_to_state(irp.IoStatus.Information.get());
        irp.IoStatus.Information.set(bits);
    }
    complete(irp, status)
}

/// IRP_MN_QUERY_CAPABILITIES: the lower drivers know what this one has said, which has the last word.
pub(super) fn answer_capabilities(pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    let asked = irp.current().Parameters.Argument[0].get() as *mut DEVICE_CAPABILITIES;
    // SAFETY: Parameters.DeviceCapabilities of its sender; a bad pointer faults, which the guard reports.
    let [size, version] = unsafe { asked.cast::<[u16; 2]>().read() };
    let known = usize::from(size) >= size_of::<DEVICE_CAPABILITIES>() && version == 1;
    if known {
        // SAFETY: as above, and as large as it says.
        pnp.said.lock().add_to_capabilities(unsafe { &mut *asked });
    }
    let status = pass_and_wait(pnp, irp);
    if known && nt_success(status) {
        // SAFETY: as above.
        pnp.said.lock().correct_capabilities(unsafe { &mut *asked });
    }
    complete(irp, status)
}

/// A field that is yes, no or the default.
fn expect_tri_states(call: &str, values: &[u32]) {
    if let Some(wrong) = values.iter().find(|value| ![WdfFalse, WdfTrue, WdfUseDefault].contains(value)) {
        violate(Rule::Framework, format!("{call}: {wrong} is no WDF_TRI_STATE"));
    }
}

fn expect_size(call: &str, size: u32, known: &[usize]) {
    if !known.contains(&(size as usize)) {
        violate(Rule::Framework, format!("{call}: the structure's Size is {size}, not {}", known[0]));
    }
}

/// How large the client's WDF_DEVICE_STATE is.
fn expect_state(call: &str, state: *const WDF_DEVICE_STATE) -> usize {
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let size = unsafe { (*state).Size };
    expect_size(call, size, &[size_of::<WDF_DEVICE_STATE>(), FORMER_STATE_SIZE]);
    size as usize
}

fn tell_again(pnp: &Pnp) {
    IoInvalidateDeviceState(pnp.physical());
}

pub(crate) extern "win64" fn WdfDeviceGetDeviceState(_globals: usize, handle: HANDLE, out: *mut WDF_DEVICE_STATE) {
    called("WdfDeviceGetDeviceState", DISPATCH_LEVEL);
    let object: Arc<Object> = object::find(handle);
    let pnp = expect_pnp(&object, "WdfDeviceGetDeviceState");
    let size = expect_state("WdfDeviceGetDeviceState", out);
    let state = WDF_DEVICE_STATE { Size: size as u32, States: pnp.said.lock().state };
    // SAFETY: the client's structure, which has so many bytes.
    unsafe { ptr::copy_nonoverlapping((&raw const state).cast::<u8>(), out.cast(), size) };
}

pub(crate) extern "win64" fn WdfDeviceSetDeviceState(_globals: usize, handle: HANDLE, given: *const WDF_DEVICE_STATE) {
    called("WdfDeviceSetDeviceState", DISPATCH_LEVEL);
    let object: Arc<Object> = object::find(handle);
    let pnp = expect_pnp(&object, "WdfDeviceSetDeviceState");
    let size = expect_state("WdfDeviceSetDeviceState", given);
    let mut state = WDF_DEVICE_STATE { Size: 0, States: [WdfUseDefault; 7] };
    // SAFETY: the client's structure, which has so many bytes.
    unsafe { ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut state).cast(), size) };
    expect_tri_states("WdfDeviceSetDeviceState", &state.States);
    pnp.said.lock().state = state.States;
    tell_again(pnp);
}

/// A device that has failed is removed. A bus that does not enumerate it again for the asking leaves it at that.
pub(crate) extern "win64" fn WdfDeviceSetFailed(_globals: usize, handle: HANDLE, action: u32) {
    called("WdfDeviceSetFailed", DISPATCH_LEVEL);
    let object: Arc<Object> = object::find(handle);
    let pnp = expect_pnp(&object, "WdfDeviceSetFailed");
    if !matches!(action, FAILED_ATTEMPT_RESTART | FAILED_NO_RESTART) {
        violate(Rule::Framework, format!("WdfDeviceSetFailed: {action} is no WDF_DEVICE_FAILED_ACTION"));
    }
    pnp.said.lock().failed = true;
    tell_again(pnp);
}

pub(crate) extern "win64" fn WdfDeviceSetPnpCapabilities(
    _globals: usize,
    handle: HANDLE,
    given: *const WDF_DEVICE_PNP_CAPABILITIES,
) {
    called("WdfDeviceSetPnpCapabilities", DISPATCH_LEVEL);
    let object: Arc<Object> = object::find(handle);
    let pnp = expect_pnp(&object, "WdfDeviceSetPnpCapabilities");
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let given = unsafe { *given };
    expect_size("WdfDeviceSetPnpCapabilities", given.Size, &[size_of::<WDF_DEVICE_PNP_CAPABILITIES>()]);
    expect_tri_states("WdfDeviceSetPnpCapabilities", &given.Can);
    let mut said = pnp.said.lock();
    said.capabilities = given.Can;
    if given.Address != NUMBER_DEFAULT {
        said.address = given.Address;
    }
    if given.UINumber != NUMBER_DEFAULT {
        said.ui_number = given.UINumber;
    }
}

pub(crate) extern "win64" fn WdfDeviceSetPowerCapabilities(
    _globals: usize,
    handle: HANDLE,
    given: *const WDF_DEVICE_POWER_CAPABILITIES,
) {
    called("WdfDeviceSetPowerCapabilities", DISPATCH_LEVEL);
    let object: Arc<Object> = object::find(handle);
    let pnp = expect_pnp(&object, "WdfDeviceSetPowerCapabilities");
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let mut given = unsafe { *given };
    expect_size("WdfDeviceSetPowerCapabilities", given.Size, &[size_of::<WDF_DEVICE_POWER_CAPABILITIES>()]);
    expect_tri_states("WdfDeviceSetPowerCapabilities", &given.Can);
    let mut said = pnp.said.lock();
    // What is left at its default stays as it was said before.
    if given.DeviceWake == DEVICE_DEFAULT {
        given.DeviceWake = said.power.DeviceWake;
    }
    if given.SystemWake == SYSTEM_DEFAULT {
        given.SystemWake = said.power.SystemWake;
    }
    said.power = given;
}
