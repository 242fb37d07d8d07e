//! Executive resources: locks that many threads share, or one has alone.

use std::cell::Cell;
use std::collections::HashMap;
use std::ptr;

use parking_lot::Mutex;

use super::irql::called;
use super::lock_order::{LockKind, acquired, released, wanted};
use super::status::STATUS_SUCCESS;
use super::types::{APC_LEVEL, DISPATCH_LEVEL, NTSTATUS};
use crate::guard::{escape, violate};
use crate::image::Export;
use crate::simulation::Condvar;
use crate::thread::{Current, current};
use crate::violation::Rule;

/// ERESOURCE: opaque but for its size. What it is in is kept beside it.
#[repr(C)]
pub(crate) struct ERESOURCE([Cell<usize>; 13]);

/// Who has a resource.
#[derive(Default)]
struct State {
    /// The thread that has it alone, and how often.
    exclusive: Option<(usize, u32)>,
    /// Threads that share it, and how often each.
    shared: HashMap<usize, u32>,
    exclusive_waiters: u32,
    shared_waiters: u32,
}

impl State {
    /// Takes it for a thread, if that is possible now. New sharers let those who want it alone go first.
    fn take(&mut self, thread: usize, exclusive: bool, starves: bool) -> bool {
        match &mut self.exclusive {
            Some((owner, count)) if *owner == thread => {
                *count += 1;
                true
            }
            Some(_) => false,
            None if exclusive => {
                let free = self.shared.is_empty();
                if free {
                    self.exclusive = Some((thread, 1));
                }
                free
            }
            None => {
                let may = self.exclusive_waiters == 0 || starves || self.shared.contains_key(&thread);
                if may {
                    *self.shared.entry(thread).or_default() += 1;
                }
                may
            }
        }
    }

    /// Gives one of a thread's acquisitions back. False if it has none.
    fn give_back(&mut self, thread: usize) -> bool {
        match &mut self.exclusive {
            Some((owner, count)) if *owner == thread => {
                *count -= 1;
                if *count == 0 {
                    self.exclusive = None;
                }
                return true;
            }
            Some(_) | None => {}
        }
        let Some(count) = self.shared.get_mut(&thread) else { return false };
        *count -= 1;
        if *count == 0 {
            self.shared.remove(&thread);
        }
        true
    }
}

/// The resources of a machine, by their addresses.
#[derive(Default)]
struct Resources {
    states: Mutex<HashMap<usize, State>>,
    changed: Condvar,
}

fn address(resource: &ERESOURCE) -> usize {
    ptr::from_ref(resource) as usize
}

fn with<R>(resource: &ERESOURCE, call: &str, body: impl FnOnce(&mut State) -> R) -> R {
    let resources = current().kernel.extension::<Resources>();
    let mut states = resources.states.lock();
    let result = states.get_mut(&address(resource)).map(body);
    drop(states);
    drop(resources);
    match result {
        Some(result) => result,
        None => violate(Rule::Lock, format!("{call}: the resource is not initialized (ExInitializeResourceLite)")),
    }
}

pub(crate) extern "win64" fn ExInitializeResourceLite(resource: &ERESOURCE) -> NTSTATUS {
    let current = called("ExInitializeResourceLite", APC_LEVEL);
    let known = current.kernel.extension::<Resources>().states.lock().insert(address(resource), State::default());
    if known.is_some() {
        violate(Rule::Lock, "ExInitializeResourceLite of a resource that is initialized already");
    }
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn ExReinitializeResourceLite(resource: &ERESOURCE) -> NTSTATUS {
    called("ExReinitializeResourceLite", APC_LEVEL);
    with(resource, "ExReinitializeResourceLite", |state| *state = State::default());
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn ExDeleteResourceLite(resource: &ERESOURCE) -> NTSTATUS {
    let current = called("ExDeleteResourceLite", APC_LEVEL);
    let held = with(resource, "ExDeleteResourceLite", |state| state.exclusive.is_some() || !state.shared.is_empty());
    if held {
        violate(Rule::Lock, "ExDeleteResourceLite of a resource that somebody has");
    }
    current.kernel.extension::<Resources>().states.lock().remove(&address(resource));
    STATUS_SUCCESS
}

fn acquire(current: &Current, resource: &ERESOURCE, exclusive: bool, starves: bool, wait: bool) -> u8 {
    let call = current.call.get();
    if current.irql.get() < APC_LEVEL && current.critical_regions.get() == 0 {
        violate(Rule::Lock, format!("{call} with normal kernel APCs enabled (KeEnterCriticalRegion)"));
    }
    let me = current.thread.id;
    let mine = with(resource, call, |state| {
        state.exclusive.is_some_and(|(owner, _)| owner == me) || state.shared.contains_key(&me)
    });
    if wait && !mine {
        wanted(current, address(resource));
    }
    let resources = current.kernel.extension::<Resources>();
    let mut states = resources.states.lock();
    let mut waits = false;
    let taken = loop {
        // Another thread may delete it meanwhile.
        let Some(state) = states.get_mut(&address(resource)) else { break false };
        let waiters = if exclusive { &mut state.exclusive_waiters } else { &mut state.shared_waiters };
        if std::mem::take(&mut waits) {
            *waiters -= 1;
        }
        if state.take(me, exclusive, starves) {
            break true;
        }
        if !wait || current.kernel.is_stopped() {
            break false;
        }
        let waiters = if exclusive { &mut state.exclusive_waiters } else { &mut state.shared_waiters };
        *waiters += 1;
        waits = true;
        resources.changed.wait_for(&mut states, std::time::Duration::from_millis(50));
    };
    drop(states);
    drop(resources);
    if current.kernel.is_stopped() {
        escape();
    }
    if taken && !mine {
        acquired(current, address(resource), LockKind::Mutex);
    }
    u8::from(taken)
}

pub(crate) extern "win64" fn ExAcquireResourceExclusiveLite(resource: &ERESOURCE, wait: u8) -> u8 {
    acquire(called("ExAcquireResourceExclusiveLite", APC_LEVEL), resource, true, false, wait != 0)
}

pub(crate) extern "win64" fn ExAcquireResourceSharedLite(resource: &ERESOURCE, wait: u8) -> u8 {
    acquire(called("ExAcquireResourceSharedLite", APC_LEVEL), resource, false, false, wait != 0)
}

pub(crate) extern "win64" fn ExAcquireSharedStarveExclusive(resource: &ERESOURCE, wait: u8) -> u8 {
    acquire(called("ExAcquireSharedStarveExclusive", APC_LEVEL), resource, false, true, wait != 0)
}

pub(crate) extern "win64" fn ExReleaseResourceLite(resource: &ERESOURCE) {
    let current = called("ExReleaseResourceLite", DISPATCH_LEVEL);
    let me = current.thread.id;
    let (had, has) = with(resource, "ExReleaseResourceLite", |state| {
        let had = state.give_back(me);
        (had, state.exclusive.is_some_and(|(owner, _)| owner == me) || state.shared.contains_key(&me))
    });
    if !had {
        violate(Rule::Lock, "ExReleaseResourceLite: the thread does not have the resource");
    }
    if !has {
        released(current, address(resource));
    }
    current.kernel.extension::<Resources>().changed.notify_all();
}

pub(crate) extern "win64" fn ExConvertExclusiveToSharedLite(resource: &ERESOURCE) {
    let current = called("ExConvertExclusiveToSharedLite", DISPATCH_LEVEL);
    let me = current.thread.id;
    let converted = with(resource, "ExConvertExclusiveToSharedLite", |state| match state.exclusive {
        Some((owner, count)) if owner == me => {
            state.exclusive = None;
            state.shared.insert(me, count);
            true
        }
        Some(_) | None => false,
    });
    if !converted {
        violate(Rule::Lock, "ExConvertExclusiveToSharedLite: the thread does not have the resource alone");
    }
    current.kernel.extension::<Resources>().changed.notify_all();
}

pub(crate) extern "win64" fn ExIsResourceAcquiredExclusiveLite(resource: &ERESOURCE) -> u8 {
    let me = called("ExIsResourceAcquiredExclusiveLite", DISPATCH_LEVEL).thread.id;
    let mine = |state: &mut State| state.exclusive.is_some_and(|(owner, _)| owner == me);
    u8::from(with(resource, "ExIsResourceAcquiredExclusiveLite", mine))
}

pub(crate) extern "win64" fn ExIsResourceAcquiredSharedLite(resource: &ERESOURCE) -> u32 {
    let me = called("ExIsResourceAcquiredSharedLite", DISPATCH_LEVEL).thread.id;
    with(resource, "ExIsResourceAcquiredSharedLite", |state| match state.exclusive {
        Some((owner, count)) if owner == me => count,
        Some(_) | None => state.shared.get(&me).copied().unwrap_or(0),
    })
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    ExInitializeResourceLite,
    ExReinitializeResourceLite,
    ExDeleteResourceLite,
    ExAcquireResourceExclusiveLite,
    ExAcquireResourceSharedLite,
    ExAcquireSharedStarveExclusive,
    ExReleaseResourceLite,
    ExConvertExclusiveToSharedLite,
    ExIsResourceAcquiredExclusiveLite,
    ExIsResourceAcquiredSharedLite,
];
