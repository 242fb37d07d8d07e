//! IRQL, which each thread has for itself here, and critical regions.

use super::dpc;
use super::types::{APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, KIRQL};
use crate::guard::{escape, violate};
use crate::image::{self, Export, unwind};
use crate::simulation;
use crate::thread::{Current, current};
use crate::violation::Rule;

/// The first act of every kernel function: notes its name for reports, leaves the driver if the machine has stopped, and
/// checks the IRQL against the highest that the function's documentation allows.
#[inline]
pub(crate) fn called<'a>(name: &'static str, highest: KIRQL) -> &'a Current {
    let current = current();
    if current.kernel.is_stopped() {
        escape();
    }
    current.call.set(name);
    unwind::note_call(current);
    current.kernel.preemption.called(name);
    simulation::point(name);
    let irql = current.irql.get();
    if irql > highest {
        violate(Rule::Irql, format!("{name} was called at IRQL {irql}; it may be called at {highest} or below"));
    }
    current
}

/// As [`called`], for functions that have a lowest IRQL, too: those that leave the IRQL as it is while a spin lock is held.
#[inline]
pub(crate) fn called_from<'a>(name: &'static str, lowest: KIRQL, highest: KIRQL) -> &'a Current {
    let current = called(name, highest);
    let irql = current.irql.get();
    if irql < lowest {
        violate(Rule::Irql, format!("{name} was called at IRQL {irql}; it may be called at {lowest} or above"));
    }
    current
}

pub(crate) extern "win64" fn KeGetCurrentIrql() -> KIRQL {
    called("KeGetCurrentIrql", HIGH_LEVEL).irql.get()
}

pub(crate) extern "win64" fn KfRaiseIrql(new: KIRQL) -> KIRQL {
    let current = called("KfRaiseIrql", HIGH_LEVEL);
    let old = current.irql.replace(new);
    if new < old {
        violate(Rule::Irql, format!("KfRaiseIrql from {old} to {new} lowers it"));
    }
    old
}

pub(crate) extern "win64" fn KeRaiseIrqlToDpcLevel() -> KIRQL {
    called("KeRaiseIrqlToDpcLevel", DISPATCH_LEVEL).irql.replace(DISPATCH_LEVEL)
}

pub(crate) extern "win64" fn KeLowerIrql(new: KIRQL) {
    let current = called("KeLowerIrql", HIGH_LEVEL);
    let old = current.irql.get();
    if new > old {
        violate(Rule::Irql, format!("KeLowerIrql from {old} to {new} raises it"));
    }
    if new < DISPATCH_LEVEL && current.spin_locks() != 0 {
        violate(Rule::SpinLock, format!("KeLowerIrql to {new} while a spin lock is held"));
    }
    current.irql.set(new);
    dpc::retire(current);
}

/// As [`called`], for functions that Microsoft's framework calls for its clients at DISPATCH_LEVEL, where their pages end at APC_LEVEL.
fn called_up_to_apc_level<'a>(name: &'static str) -> &'a Current {
    let current = called(name, DISPATCH_LEVEL);
    if current.irql.get() > APC_LEVEL && !image::is_of_the_system(current.call_site.get()) {
        return called(name, APC_LEVEL);
    }
    current
}

pub(crate) extern "win64" fn KeEnterCriticalRegion() {
    let current = called_up_to_apc_level("KeEnterCriticalRegion");
    current.critical_regions.set(current.critical_regions.get() + 1);
}

pub(crate) extern "win64" fn KeLeaveCriticalRegion() {
    let current = called_up_to_apc_level("KeLeaveCriticalRegion");
    match current.critical_regions.get().checked_sub(1) {
        Some(depth) => current.critical_regions.set(depth),
        None => violate(Rule::Lock, "KeLeaveCriticalRegion without KeEnterCriticalRegion"),
    }
}

/// Guarded regions keep off special kernel APCs, too; none come here.
pub(crate) extern "win64" fn KeEnterGuardedRegion() {
    let current = called("KeEnterGuardedRegion", APC_LEVEL);
    current.critical_regions.set(current.critical_regions.get() + 1);
}

pub(crate) extern "win64" fn KeLeaveGuardedRegion() {
    let current = called("KeLeaveGuardedRegion", APC_LEVEL);
    match current.critical_regions.get().checked_sub(1) {
        Some(depth) => current.critical_regions.set(depth),
        None => violate(Rule::Lock, "KeLeaveGuardedRegion without KeEnterGuardedRegion"),
    }
}

pub(crate) extern "win64" fn KeAreApcsDisabled() -> u8 {
    u8::from(called("KeAreApcsDisabled", DISPATCH_LEVEL).critical_regions.get() != 0)
}

pub(crate) extern "win64" fn KeAreAllApcsDisabled() -> u8 {
    u8::from(called("KeAreAllApcsDisabled", DISPATCH_LEVEL).irql.get() >= APC_LEVEL)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    KeEnterGuardedRegion,
    KeLeaveGuardedRegion,
    KeGetCurrentIrql,
    KfRaiseIrql,
    KeRaiseIrqlToDpcLevel,
    KeLowerIrql,
    KeEnterCriticalRegion,
    KeLeaveCriticalRegion,
    KeAreApcsDisabled,
    KeAreAllApcsDisabled,
];
