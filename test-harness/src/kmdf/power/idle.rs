//! A device that leaves D0 while nobody needs it: WdfDeviceAssignS0IdleSettings, and who needs it.
//!
//! Power-managed queues need it while they have requests, and drivers between WdfDeviceStopIdle and WdfDeviceResumeIdle. The bus wakes
//! nobody: settings that rely on that are refused, and a device that is idle comes back when it is needed.
#![allow(unsafe_code)] // reads the client's structures

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::super::object::{self, Kind, Object};
use super::super::pnp::{self, Pnp};
use super::super::types::{
    HANDLE, WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS, WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS, WdfFalse, WdfTrue,
    WdfUseDefault,
};
use crate::guard::violate;
use crate::nt::dispatcher::{KeClearEvent, KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use crate::nt::dpc::{KeFlushQueuedDpcs, KeInitializeDpc};
use crate::nt::irql::called;
use crate::nt::power::{IRP_MN_SET_POWER, POWER_DEVICE_D0, POWER_DEVICE_D3, PoRequestPowerIrp, REQUEST_POWER_COMPLETE};
use crate::nt::status::{
    STATUS_INFO_LENGTH_MISMATCH, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER,
    STATUS_PENDING, STATUS_POWER_STATE_INVALID, STATUS_SUCCESS,
};
use crate::nt::timer::{KeCancelTimer, KeInitializeTimer, KeSetTimer};
use crate::nt::types::{
    DEVICE_OBJECT, DISPATCH_LEVEL, IO_STATUS_BLOCK, KDPC, KEVENT, KTIMER, NTSTATUS, PASSIVE_LEVEL, PVOID, Zeroed,
};
use crate::violation::Rule;

/// EVENT_TYPE.
const NOTIFICATION_EVENT: u32 = 0;

/// WDF_POWER_POLICY_S0_IDLE_CAPABILITIES.
const CANNOT_WAKE_FROM_S0: u32 = 1;
const USB_SELECTIVE_SUSPEND: u32 = 3;
/// DEVICE_POWER_STATE.
const POWER_DEVICE_D1: u32 = 2;
const POWER_DEVICE_MAXIMUM: u32 = 5;
/// WDF_POWER_POLICY_S0_IDLE_USER_CONTROL, WDF_POWER_POLICY_SX_WAKE_USER_CONTROL: not allowed, allowed.
const USER_CONTROL: std::ops::RangeInclusive<u32> = 1..=2;
/// WDF_POWER_POLICY_IDLE_TIMEOUT_TYPE: DriverManagedIdleTimeout, SystemManagedIdleTimeoutWithHint.
const DRIVER_MANAGED: u32 = 0;
const LAST_TIMEOUT_TYPE: u32 = 2;
/// IdleTimeoutDefaultValue, and what it stands for.
const TIMEOUT_DEFAULT: u32 = 0;
const DEFAULT_TIMEOUT: u32 = 5000;
const UNITS_PER_MILLISECOND: i64 = 10_000;

/// How large WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS was up to KMDF 1.7, and up to 1.9.
const IDLE_SETTINGS_V1_7: usize = 24;
const IDLE_SETTINGS_V1_9: usize = 28;
/// How large WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS was up to KMDF 1.5.
const WAKE_SETTINGS_V1_5: usize = 16;

/// How far a device is on its way out of D0 and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not started yet, or at its end.
    Stopped,
    /// Needed, or not to leave D0 at all.
    Awake,
    /// Its timer runs.
    Counting,
    /// On its way to a lower state.
    Falling,
    Asleep,
    /// On its way to D0.
    Rising,
}

/// What the client wants while nobody needs the device.
#[derive(Clone, Copy)]
struct Settings {
    /// Milliseconds.
    timeout: u32,
    /// DEVICE_POWER_STATE.
    state: u32,
    /// An idle device comes back with the system.
    rises_with_system: bool,
}

struct State {
    phase: Phase,
    settings: Option<Settings>,
    references: usize,
    /// The system sleeps.
    paused: bool,
}

/// Who needs a device, and when it leaves D0.
pub(in crate::kmdf) struct Idle {
    /// The WDFDEVICE.
    device: AtomicUsize,
    state: Mutex<State>,
    timer: Box<KTIMER>,
    dpc: Box<KDPC>,
    /// Signaled while the device is in D0, or at its end.
    arrived: Box<KEVENT>,
    /// Signaled while the device is on no way that was asked for without waiting.
    settled: Box<KEVENT>,
}

impl Idle {
    pub(in crate::kmdf) fn new() -> Self {
        let event = || {
            let event = Box::new(KEVENT::zeroed());
            KeInitializeEvent(&event, NOTIFICATION_EVENT, 1);
            event
        };
        let timer = Box::new(KTIMER::zeroed());
        KeInitializeTimer(&timer);
        let state = State { phase: Phase::Stopped, settings: None, references: 0, paused: false };
        Self {
            device: AtomicUsize::new(0),
            state: Mutex::new(state),
            timer,
            dpc: Box::new(KDPC::zeroed()),
            arrived: event(),
            settled: event(),
        }
    }

    /// The device that this is of.
    pub(in crate::kmdf) fn bind(&self, device: HANDLE) {
        self.device.store(device, Ordering::Release);
        KeInitializeDpc(&self.dpc, expired, device as PVOID);
    }

    /// The device enters D0 for the first time: it may be needed from now on.
    pub(in crate::kmdf) fn begin(&self) {
        let mut state = self.state.lock();
        (state.phase, state.references, state.paused) = (Phase::Awake, 0, false);
    }

    /// The device has been started.
    pub(in crate::kmdf) fn started(&self) {
        self.count(&mut self.state.lock());
    }

    /// The device goes: it arrives first where it is on its way to.
    pub(in crate::kmdf) fn end(&self) {
        self.state.lock().paused = true;
        self.stop_timer();
        self.wait_until_settled();
        self.state.lock().phase = Phase::Stopped;
        KeSetEvent(&self.arrived, 0, 0);
    }

    /// The system goes to sleep, and the device with it.
    pub(in crate::kmdf) fn pause(&self) {
        self.state.lock().paused = true;
        self.stop_timer();
        self.wait_until_settled();
    }

    /// The device is asleep because the system is.
    pub(in crate::kmdf) fn fell(&self) {
        self.state.lock().phase = Phase::Asleep;
        KeClearEvent(&self.arrived);
    }

    /// The system is back. A device that was idle before stays where it is unless its driver wants otherwise.
    pub(in crate::kmdf) fn resume(&self, pnp: &Pnp) {
        let rises = {
            let mut state = self.state.lock();
            state.paused = false;
            let stays = state.references == 0 && state.settings.is_some_and(|settings| !settings.rises_with_system);
            let rises = state.phase == Phase::Asleep && !stays;
            if rises {
                state.phase = Phase::Rising;
            }
            rises
        };
        if rises {
            self.rise(pnp);
        }
    }

    pub(in crate::kmdf) fn wait_until_settled(&self) {
        KeWaitForSingleObject(&self.settled.Header, 0, 0, 0, None);
    }

    fn stop_timer(&self) {
        if self.state.lock().settings.is_none() {
            return;
        }
        if KeCancelTimer(&self.timer) == 0 {
            KeFlushQueuedDpcs();
        }
        let mut state = self.state.lock();
        if state.phase == Phase::Counting {
            state.phase = Phase::Awake;
        }
    }

    /// Starts the timer of a device that nobody needs.
    fn count(&self, state: &mut State) {
        if let Some(settings) = state.settings
            && state.phase == Phase::Awake
            && state.references == 0
            && !state.paused
        {
            state.phase = Phase::Counting;
            let due = -i64::from(settings.timeout) * UNITS_PER_MILLISECOND;
            KeSetTimer(&self.timer, due, ptr::from_ref(&*self.dpc).cast_mut());
        }
    }

    /// Somebody needs the device.
    ///
    /// # Errors
    /// STATUS_POWER_STATE_INVALID: it has not been started, or is at its end.
    pub(in crate::kmdf) fn reference(&self, pnp: &Pnp) -> Result<NTSTATUS, NTSTATUS> {
        let rises = {
            let mut state = self.state.lock();
            match state.phase {
                Phase::Stopped => return Err(STATUS_POWER_STATE_INVALID),
                Phase::Counting => {
                    KeCancelTimer(&self.timer);
                    state.phase = Phase::Awake;
                }
                Phase::Awake | Phase::Falling | Phase::Asleep | Phase::Rising => {}
            }
            state.references += 1;
            if state.phase == Phase::Awake {
                return Ok(STATUS_SUCCESS);
            }
            let rises = state.phase == Phase::Asleep && !state.paused;
            if rises {
                state.phase = Phase::Rising;
            }
            rises
        };
        if rises {
            self.rise(pnp);
        }
        Ok(STATUS_PENDING)
    }

    /// Somebody needs the device no more. False if nobody did.
    pub(in crate::kmdf) fn dereference(&self) -> bool {
        let mut state = self.state.lock();
        let known = state.references != 0;
        state.references = state.references.saturating_sub(1);
        self.count(&mut state);
        known
    }

    /// Waits for a device that somebody needs.
    fn wait_for_d0(&self) -> NTSTATUS {
        KeWaitForSingleObject(&self.arrived.Header, 0, 0, 0, None);
        let mut state = self.state.lock();
        if state.phase == Phase::Stopped {
            state.references = state.references.saturating_sub(1);
            return STATUS_POWER_STATE_INVALID;
        }
        STATUS_SUCCESS
    }

    /// Needs the device, and waits for it.
    pub(in crate::kmdf) fn hold(&self, pnp: &Pnp) -> Result<(), NTSTATUS> {
        match self.reference(pnp)? {
            STATUS_PENDING => match self.wait_for_d0() {
                STATUS_SUCCESS => Ok(()),
                failed => Err(failed),
            },
            _ => Ok(()),
        }
    }

    /// Asks for a state of the device's, without waiting; `done` comes when its stack has done with it.
    fn ask(&self, pnp: &Pnp, state: u32, done: REQUEST_POWER_COMPLETE) -> bool {
        KeClearEvent(&self.settled);
        let device = self.device.load(Ordering::Acquire) as PVOID;
        let asked = PoRequestPowerIrp(pnp.physical(), IRP_MN_SET_POWER, state, Some(done), device, None);
        if asked != STATUS_PENDING {
            KeSetEvent(&self.settled, 0, 0);
        }
        asked == STATUS_PENDING
    }

    fn rise(&self, pnp: &Pnp) {
        KeClearEvent(&self.arrived);
        if !self.ask(pnp, POWER_DEVICE_D0, risen) {
            self.state.lock().phase = Phase::Asleep;
        }
    }

    /// The device has been brought back, or that has failed.
    fn has_risen(&self) {
        {
            let mut state = self.state.lock();
            if state.phase == Phase::Rising {
                state.phase = Phase::Awake;
            }
            self.count(&mut state);
        }
        KeSetEvent(&self.arrived, 0, 0);
        KeSetEvent(&self.settled, 0, 0);
    }

    /// The device has gone to its lower state. It comes back at once if it has become needed.
    fn has_fallen(&self, pnp: &Pnp) {
        let rises = {
            let mut state = self.state.lock();
            state.phase = Phase::Asleep;
            let rises = (state.references != 0 || state.settings.is_none()) && !state.paused;
            if rises {
                state.phase = Phase::Rising;
            }
            rises
        };
        KeClearEvent(&self.arrived);
        KeSetEvent(&self.settled, 0, 0);
        if rises {
            self.rise(pnp);
        }
    }

    fn assign(&self, pnp: &Pnp, settings: Option<Settings>) {
        let rises = {
            let mut state = self.state.lock();
            state.settings = settings;
            if state.phase == Phase::Counting {
                KeCancelTimer(&self.timer);
                state.phase = Phase::Awake;
            }
            // It does not count before it has been started.
            if !pnp.is_starting() {
                self.count(&mut state);
            }
            let rises = state.phase == Phase::Asleep && settings.is_none() && !state.paused;
            if rises {
                state.phase = Phase::Rising;
            }
            rises
        };
        if rises {
            self.rise(pnp);
        }
    }
}

/// The device of a handle that a timer or a power IRP was given.
fn with_device(context: PVOID, act: impl FnOnce(&Pnp)) {
    if let Some(object) = object::try_find(context as HANDLE)
        && let Kind::Device(device) = &object.kind
        && let Some(pnp) = &device.pnp
    {
        act(pnp);
    }
}

/// Nobody has needed the device for its time.
extern "win64" fn expired(_dpc: *mut KDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    with_device(context, |pnp| {
        let idle = pnp.idle();
        let state = {
            let mut state = idle.state.lock();
            if state.phase != Phase::Counting || state.paused {
                return;
            }
            state.phase = Phase::Falling;
            state.settings.map_or(POWER_DEVICE_D3, |settings| settings.state)
        };
        if !idle.ask(pnp, state, fallen) {
            let mut state = idle.state.lock();
            state.phase = Phase::Awake;
            idle.count(&mut state);
        }
    });
}

extern "win64" fn fallen(_: *mut DEVICE_OBJECT, _: u8, _: u32, context: PVOID, _: *const IO_STATUS_BLOCK) {
    with_device(context, |pnp| pnp.idle().has_fallen(pnp));
}

extern "win64" fn risen(_: *mut DEVICE_OBJECT, _: u8, _: u32, context: PVOID, _: *const IO_STATUS_BLOCK) {
    with_device(context, |pnp| pnp.idle().has_risen());
}

fn in_range(values: &[u32], known: std::ops::RangeInclusive<u32>) -> bool {
    values.iter().all(|value| known.contains(value))
}

/// A structure of the client's with the size that it says; what it does not have is 0.
fn read_settings<T: Copy>(given: *const T, mut empty: T, sizes: &[usize]) -> Result<(T, usize), NTSTATUS> {
    // SAFETY: every settings structure begins with its size; a bad pointer faults, which the guard reports.
    let size = unsafe { given.cast::<u32>().read() } as usize;
    if !sizes.contains(&size) {
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    // SAFETY: the client's structure has so many bytes, which are not more than there is room for.
    unsafe { ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut empty).cast(), size) };
    Ok((empty, size))
}

pub(crate) extern "win64" fn WdfDeviceAssignS0IdleSettings(
    _globals: usize,
    handle: HANDLE,
    given: *const WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS,
) -> NTSTATUS {
    called("WdfDeviceAssignS0IdleSettings", DISPATCH_LEVEL);
    let object: Arc<Object> = object::find(handle);
    let pnp = pnp::expect_pnp(&object, "WdfDeviceAssignS0IdleSettings");
    if !pnp.owns_policy() {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    let empty = WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS {
        PowerUpIdleDeviceOnSystemWake: WdfUseDefault,
        ExcludeD3Cold: WdfUseDefault,
        ..WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS::default()
    };
    let sizes = [size_of::<WDF_DEVICE_POWER_POLICY_IDLE_SETTINGS>(), IDLE_SETTINGS_V1_9, IDLE_SETTINGS_V1_7];
    let (asked, size) = match read_settings(given, empty, &sizes) {
        Ok(asked) => asked,
        Err(status) => return status,
    };
    let wakes = asked.IdleCaps != CANNOT_WAKE_FROM_S0;
    let valid = in_range(&[asked.DxState], POWER_DEVICE_D1..=POWER_DEVICE_MAXIMUM)
        && in_range(&[asked.IdleCaps], CANNOT_WAKE_FROM_S0..=USB_SELECTIVE_SUSPEND)
        && in_range(&[asked.UserControlOfIdleSettings], USER_CONTROL)
        && in_range(&[asked.Enabled, asked.PowerUpIdleDeviceOnSystemWake], WdfFalse..=WdfUseDefault)
        && (!wakes || size == IDLE_SETTINGS_V1_7 || asked.PowerUpIdleDeviceOnSystemWake == WdfUseDefault)
        && asked.IdleTimeoutType <= LAST_TIMEOUT_TYPE;
    if !valid {
        return STATUS_INVALID_PARAMETER;
    }
    if wakes {
        // The bus knows no state of the device in which that would wake up.
        return STATUS_POWER_STATE_INVALID;
    }
    let settings = Settings {
        timeout: if asked.IdleTimeout == TIMEOUT_DEFAULT { DEFAULT_TIMEOUT } else { asked.IdleTimeout },
        state: if asked.DxState == POWER_DEVICE_MAXIMUM { POWER_DEVICE_D3 } else { asked.DxState },
        rises_with_system: asked.PowerUpIdleDeviceOnSystemWake == WdfTrue,
    };
    // The power framework, which decides on a timeout that is the system's to manage, directs nobody.
    let idles = asked.Enabled != WdfFalse && asked.IdleTimeoutType == DRIVER_MANAGED;
    pnp.idle().assign(pnp, idles.then_some(settings));
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WdfDeviceAssignSxWakeSettings(
    _globals: usize,
    handle: HANDLE,
    given: *const WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS,
) -> NTSTATUS {
    called("WdfDeviceAssignSxWakeSettings", DISPATCH_LEVEL);
    let object: Arc<Object> = object::find(handle);
    let pnp = pnp::expect_pnp(&object, "WdfDeviceAssignSxWakeSettings");
    if !pnp.owns_policy() {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    let empty = WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS::default();
    let sizes = [size_of::<WDF_DEVICE_POWER_POLICY_WAKE_SETTINGS>(), WAKE_SETTINGS_V1_5];
    let asked = match read_settings(given, empty, &sizes) {
        Ok((asked, _)) => asked,
        Err(status) => return status,
    };
    let valid = in_range(&[asked.DxState], POWER_DEVICE_D1..=POWER_DEVICE_MAXIMUM)
        && in_range(&[asked.UserControlOfWakeSettings], USER_CONTROL)
        && in_range(&[asked.Enabled], WdfFalse..=WdfUseDefault);
    // The bus knows no state of the system's that the device could wake it from.
    if valid { STATUS_POWER_STATE_INVALID } else { STATUS_INVALID_PARAMETER }
}

fn stop_idle(handle: HANDLE, wait: u8) -> NTSTATUS {
    let object: Arc<Object> = object::find(handle);
    let pnp = pnp::expect_pnp(&object, "WdfDeviceStopIdle");
    if !pnp.owns_policy() {
        return STATUS_INVALID_DEVICE_STATE;
    }
    match pnp.idle().reference(pnp) {
        Ok(STATUS_PENDING) if wait != 0 => pnp.idle().wait_for_d0(),
        Ok(status) | Err(status) => status,
    }
}

fn resume_idle(handle: HANDLE) {
    let object: Arc<Object> = object::find(handle);
    let pnp = pnp::expect_pnp(&object, "WdfDeviceResumeIdle");
    if pnp.owns_policy() && !pnp.idle().dereference() {
        violate(Rule::Framework, "WdfDeviceResumeIdle: there was no WdfDeviceStopIdle before");
    }
}

pub(crate) extern "win64" fn WdfDeviceStopIdleNoTrack(_globals: usize, handle: HANDLE, wait: u8) -> NTSTATUS {
    called("WdfDeviceStopIdleNoTrack", if wait == 0 { DISPATCH_LEVEL } else { PASSIVE_LEVEL });
    stop_idle(handle, wait)
}

pub(crate) extern "win64" fn WdfDeviceStopIdleActual(
    _globals: usize,
    handle: HANDLE,
    wait: u8,
    _tag: PVOID,
    _line: i32,
    _file: *const u8,
) -> NTSTATUS {
    called("WdfDeviceStopIdleActual", if wait == 0 { DISPATCH_LEVEL } else { PASSIVE_LEVEL });
    stop_idle(handle, wait)
}

pub(crate) extern "win64" fn WdfDeviceResumeIdleNoTrack(_globals: usize, handle: HANDLE) {
    called("WdfDeviceResumeIdleNoTrack", DISPATCH_LEVEL);
    resume_idle(handle);
}

pub(crate) extern "win64" fn WdfDeviceResumeIdleActual(
    _globals: usize,
    handle: HANDLE,
    _tag: PVOID,
    _line: i32,
    _file: *const u8,
) {
    called("WdfDeviceResumeIdleActual", DISPATCH_LEVEL);
    resume_idle(handle);
}
