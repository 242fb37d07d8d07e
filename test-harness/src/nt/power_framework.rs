//! The power management framework (PoFx): components that are active while somebody holds them, and devices that are needed no more
//! once all of their components have been idle for a while.
//!
//! A device's callbacks come one after another, on a worker. Components stay in F0: no other state saves anything here. Nobody directs
//! devices.
#![allow(unsafe_code)] // reads the driver's structure

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::irql::called;
use super::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use super::types::{DEVICE_OBJECT, DISPATCH_LEVEL, NTSTATUS, PASSIVE_LEVEL, PVOID};
use crate::guard::{callout, escape, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::simulation::{self, Condvar};
use crate::thread::current;
use crate::violation::Rule;

type COMPONENT_CALLBACK = extern "win64" fn(PVOID, u32);
type DEVICE_CALLBACK = extern "win64" fn(PVOID);

/// What the versions of PO_FX_DEVICE have in common, in this order; beside it lie the version, the flags and the number of components.
#[derive(Clone, Copy)]
#[repr(C)]
struct Callbacks {
    ComponentActiveCondition: Option<COMPONENT_CALLBACK>,
    ComponentIdleCondition: Option<COMPONENT_CALLBACK>,
    ComponentIdleState: Option<extern "win64" fn(PVOID, u32, u32)>,
    DevicePowerRequired: Option<DEVICE_CALLBACK>,
    DevicePowerNotRequired: Option<DEVICE_CALLBACK>,
}

/// Where a version of PO_FX_DEVICE has what.
struct Layout {
    callbacks: usize,
    context: usize,
    components: usize,
}

impl Layout {
    /// PO_FX_DEVICE_V1, V2 and V3 (wdm.h).
    const VERSIONS: [Self; 3] = [
        Self { callbacks: 8, context: 56, components: 4 },
        Self { callbacks: 16, context: 64, components: 72 },
        Self { callbacks: 16, context: 88, components: 96 },
    ];
}

/// PO_FX_FLAG_BLOCKING.
const BLOCKING: u64 = 1;

/// Where a component stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Active,
    /// Its idle condition callback has been called, and not been completed.
    BecomingIdle,
    Idle,
}

struct Component {
    references: u32,
    condition: Condition,
}

/// Whether a device has to be in D0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Required,
    /// DevicePowerNotRequired has been called, and not been completed.
    Ending,
    NotRequired,
    /// DevicePowerRequired has been called, and the device has not been reported to be on.
    Beginning,
}

struct Device {
    pdo: usize,
    callbacks: Callbacks,
    context: usize,
    components: Vec<Component>,
    need: Need,
    timeout: Duration,
    /// Since when all components have been idle.
    idle_since: Option<Instant>,
    /// A worker calls its callbacks.
    running: bool,
    /// It is being unregistered.
    leaving: bool,
}

/// What a worker has to do for a device.
enum Step {
    Component(COMPONENT_CALLBACK, u32),
    Device(DEVICE_CALLBACK),
    /// Nothing before that time.
    Wait(Instant),
    Nothing,
}

impl Device {
    fn next(&mut self) -> Step {
        if self.leaving {
            return Step::Nothing;
        }
        let (need, callbacks) = (self.need, self.callbacks);
        for (number, component) in (0..).zip(&mut self.components) {
            match (component.condition, component.references) {
                (Condition::Active, 0) => {
                    component.condition = Condition::BecomingIdle;
                    if let Some(callback) = callbacks.ComponentIdleCondition {
                        return Step::Component(callback, number);
                    }
                    component.condition = Condition::Idle;
                }
                (Condition::Idle, 1..) if need == Need::Required => {
                    component.condition = Condition::Active;
                    if let Some(callback) = callbacks.ComponentActiveCondition {
                        return Step::Component(callback, number);
                    }
                }
                (Condition::Idle, 1..) if need == Need::NotRequired => {
                    self.need = Need::Beginning;
                    if let Some(callback) = callbacks.DevicePowerRequired {
                        return Step::Device(callback);
                    }
                    self.need = Need::Required;
                    return self.next();
                }
                (Condition::Active | Condition::BecomingIdle | Condition::Idle, _) => {}
            }
        }
        if self.components.iter().any(|component| component.condition != Condition::Idle) {
            self.idle_since = None;
            return Step::Nothing;
        }
        let due = *self.idle_since.get_or_insert_with(simulation::now) + self.timeout;
        match callbacks.DevicePowerNotRequired {
            Some(_) if self.need != Need::Required => Step::Nothing,
            Some(callback) if due <= simulation::now() => {
                self.need = Need::Ending;
                Step::Device(callback)
            }
            Some(_) => Step::Wait(due),
            None => Step::Nothing,
        }
    }
}

#[derive(Default)]
struct State {
    devices: HashMap<usize, Device>,
    last: usize,
}

/// The registered devices of a machine, by their POHANDLE.
#[derive(Default)]
pub(crate) struct PowerFramework {
    state: Mutex<State>,
    changed: Condvar,
}

impl PowerFramework {
    /// Devices that are registered.
    pub(crate) fn registered(&self) -> usize {
        self.state.lock().devices.len()
    }

    pub(crate) fn stop(&self) {
        self.changed.notify_all();
    }
}

/// Changes what is known of a device, and has a worker do what follows from it.
fn change<T>(handle: usize, call: &'static str, change: impl FnOnce(&mut Device) -> T) -> T {
    let kernel = &current().kernel;
    let framework = &kernel.power_framework;
    let (changed, begins) = {
        let mut state = framework.state.lock();
        let Some(device) = state.devices.get_mut(&handle) else {
            drop(state);
            violate(Rule::Io, format!("{call}: {handle:#x} is no registered device"));
        };
        let changed = change(device);
        (changed, !std::mem::replace(&mut device.running, true))
    };
    framework.changed.notify_all();
    if begins {
        kernel.workers.queue(kernel, move || run(&current().kernel, handle));
    }
    changed
}

/// Calls a device's callbacks until there is nothing more to do for it.
fn run(kernel: &Kernel, handle: usize) {
    let framework = &kernel.power_framework;
    loop {
        let (step, context) = {
            let mut state = framework.state.lock();
            let Some(device) = state.devices.get_mut(&handle) else { return };
            let step = device.next();
            let context = device.context;
            match step {
                Step::Nothing => {
                    device.running = false;
                    drop(state);
                    framework.changed.notify_all();
                    return;
                }
                Step::Wait(due) => {
                    if kernel.is_stopped() {
                        return;
                    }
                    framework.changed.wait_until(&mut state, due);
                    continue;
                }
                Step::Component(..) | Step::Device(_) => (step, context as PVOID),
            }
        };
        match step {
            Step::Component(callback, number) => callout("a component's callback", || callback(context, number)),
            Step::Device(callback) => callout("a device power callback", || callback(context)),
            Step::Wait(_) | Step::Nothing => {}
        }
        framework.changed.notify_all();
    }
}

fn component<'a>(device: &'a mut Device, number: u32, call: &str) -> &'a mut Component {
    match device.components.get_mut(number as usize) {
        Some(component) => component,
        None => violate(Rule::Io, format!("{call}: the device has no component {number}")),
    }
}

pub(crate) extern "win64" fn PoFxRegisterDevice(
    pdo: *mut DEVICE_OBJECT,
    device: PVOID,
    handle: &Cell<usize>,
) -> NTSTATUS {
    let kernel = &called("PoFxRegisterDevice", PASSIVE_LEVEL).kernel;
    // SAFETY: the driver's PO_FX_DEVICE begins with its version; a bad pointer faults, which the guard reports.
    let version = unsafe { device.cast::<u32>().read() };
    let Some(layout) = version.checked_sub(1).and_then(|index| Layout::VERSIONS.get(index as usize)) else {
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: the structure of that version has it there.
    let callbacks = unsafe { device.wrapping_byte_add(layout.callbacks).cast::<Callbacks>().read() };
    // SAFETY: as above.
    let context = unsafe { device.wrapping_byte_add(layout.context).cast::<usize>().read() };
    // SAFETY: as above.
    let count = unsafe { device.wrapping_byte_add(layout.components).cast::<u32>().read() };
    if count == 0 {
        return STATUS_INVALID_PARAMETER;
    }
    if kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // Until power management starts, each is held.
    let components = (0..count).map(|_| Component { references: 1, condition: Condition::Active }).collect();
    let mut state = kernel.power_framework.state.lock();
    if state.devices.values().any(|known| known.pdo == pdo as usize) {
        drop(state);
        violate(Rule::Io, "PoFxRegisterDevice: the device is registered already");
    }
    state.last += 16;
    let id = state.last;
    let registered = Device {
        pdo: pdo as usize,
        callbacks,
        context,
        components,
        need: Need::Required,
        timeout: Duration::ZERO,
        idle_since: None,
        running: false,
        leaving: false,
    };
    state.devices.insert(id, registered);
    handle.set(id);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn PoFxStartDevicePowerManagement(handle: usize) {
    called("PoFxStartDevicePowerManagement", PASSIVE_LEVEL);
    change(handle, "PoFxStartDevicePowerManagement", |device| {
        for component in &mut device.components {
            component.references -= 1;
        }
    });
}

/// Waits for the callbacks that run.
pub(crate) extern "win64" fn PoFxUnregisterDevice(handle: usize) {
    let kernel = &called("PoFxUnregisterDevice", PASSIVE_LEVEL).kernel;
    change(handle, "PoFxUnregisterDevice", |device| device.leaving = true);
    let mut state = kernel.power_framework.state.lock();
    while state.devices.get(&handle).is_some_and(|device| device.running) {
        if kernel.is_stopped() {
            drop(state);
            escape();
        }
        kernel.power_framework.changed.wait(&mut state);
    }
    state.devices.remove(&handle);
}

/// Holds a component, which becomes active before this returns if the flags say so.
pub(crate) extern "win64" fn PoFxActivateComponent(handle: usize, number: u32, flags: u64) {
    let kernel = &called("PoFxActivateComponent", DISPATCH_LEVEL).kernel;
    change(handle, "PoFxActivateComponent", |device| {
        component(device, number, "PoFxActivateComponent").references += 1;
    });
    if flags & BLOCKING != 0 {
        wait_for(kernel, handle, number, |condition| condition == Condition::Active);
    }
}

pub(crate) extern "win64" fn PoFxIdleComponent(handle: usize, number: u32, flags: u64) {
    let kernel = &called("PoFxIdleComponent", DISPATCH_LEVEL).kernel;
    let held = change(handle, "PoFxIdleComponent", |device| {
        let component = component(device, number, "PoFxIdleComponent");
        let held = component.references;
        component.references = held.saturating_sub(1);
        held
    });
    match held {
        0 => violate(Rule::Io, "PoFxIdleComponent: nobody holds the component"),
        1 if flags & BLOCKING != 0 => wait_for(kernel, handle, number, |condition| condition != Condition::Active),
        _ => {}
    }
}

fn wait_for(kernel: &Kernel, handle: usize, number: u32, is_reached: impl Fn(Condition) -> bool) {
    let mut state = kernel.power_framework.state.lock();
    let condition = |state: &State| Some(state.devices.get(&handle)?.components.get(number as usize)?.condition);
    while condition(&state).is_some_and(|condition| !is_reached(condition)) {
        if kernel.is_stopped() {
            drop(state);
            escape();
        }
        kernel.power_framework.changed.wait(&mut state);
    }
}

pub(crate) extern "win64" fn PoFxCompleteIdleCondition(handle: usize, number: u32) {
    called("PoFxCompleteIdleCondition", DISPATCH_LEVEL);
    let before = change(handle, "PoFxCompleteIdleCondition", |device| {
        let component = component(device, number, "PoFxCompleteIdleCondition");
        std::mem::replace(&mut component.condition, Condition::Idle)
    });
    if before != Condition::BecomingIdle {
        violate(Rule::Io, "PoFxCompleteIdleCondition: the component is not becoming idle");
    }
}

pub(crate) extern "win64" fn PoFxCompleteIdleState(handle: usize, _number: u32) {
    called("PoFxCompleteIdleState", DISPATCH_LEVEL);
    violate(Rule::Io, format!("PoFxCompleteIdleState: no component of {handle:#x} changes its state"));
}

pub(crate) extern "win64" fn PoFxReportDevicePoweredOn(handle: usize) {
    called("PoFxReportDevicePoweredOn", DISPATCH_LEVEL);
    change(handle, "PoFxReportDevicePoweredOn", |device| device.need = Need::Required);
}

pub(crate) extern "win64" fn PoFxCompleteDevicePowerNotRequired(handle: usize) {
    called("PoFxCompleteDevicePowerNotRequired", DISPATCH_LEVEL);
    let before = change(handle, "PoFxCompleteDevicePowerNotRequired", |device| {
        std::mem::replace(&mut device.need, Need::NotRequired)
    });
    if before != Need::Ending {
        violate(Rule::Io, "PoFxCompleteDevicePowerNotRequired: the device has not been told so");
    }
}

/// Sets how long a device stays needed when all of its components are idle, in units of 100 nanoseconds.
pub(crate) extern "win64" fn PoFxSetDeviceIdleTimeout(handle: usize, timeout: u64) {
    called("PoFxSetDeviceIdleTimeout", DISPATCH_LEVEL);
    let timeout = Duration::from_nanos(timeout.saturating_mul(100));
    change(handle, "PoFxSetDeviceIdleTimeout", |device| device.timeout = timeout);
}

pub(crate) extern "win64" fn PoFxCompleteDirectedPowerDown(handle: usize) {
    called("PoFxCompleteDirectedPowerDown", DISPATCH_LEVEL);
    violate(Rule::Io, format!("PoFxCompleteDirectedPowerDown: nobody has directed {handle:#x}"));
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    PoFxRegisterDevice,
    PoFxStartDevicePowerManagement,
    PoFxUnregisterDevice,
    PoFxActivateComponent,
    PoFxIdleComponent,
    PoFxCompleteIdleCondition,
    PoFxCompleteIdleState,
    PoFxReportDevicePoweredOn,
    PoFxCompleteDevicePowerNotRequired,
    PoFxSetDeviceIdleTimeout,
    PoFxCompleteDirectedPowerDown,
];
