//! What a machine knows of memory descriptor lists beside the lists themselves: whose pages are locked, which partial list was
//! built from which, and which lists some component works with.

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::Mutex;

use crate::image::unwind::{Site, known, site};
use crate::memory::Mapping;

/// A locking of pages.
struct Lock {
    /// Tells it from others of the same list.
    serial: u64,
    /// The EPROCESS whose pages they are; 0 for pages of the system.
    process: usize,
    /// Partial lists built from it that have mappings of their own.
    mappings: usize,
    site: Site,
}

/// What a partial list was built from.
#[derive(Clone, Copy)]
struct Origin {
    list: usize,
    serial: u64,
}

struct Partial {
    origin: Origin,
    /// Whether it has a mapping of its own.
    mapped: bool,
}

/// A mapping of a list into a process.
struct View {
    list: usize,
    base: usize,
    /// The address that the machine itself has for the first byte.
    described: usize,
    process: usize,
    /// The pages once more, of those that have no address of their own.
    memory: Option<Mapping>,
}

#[derive(Default)]
struct State {
    views: Vec<View>,
    serials: u64,
    /// By the address of the locked list.
    locks: BTreeMap<usize, Lock>,
    /// By the address of the partial list. Those over non-paged pool are not here.
    partials: BTreeMap<usize, Partial>,
    /// Lists that somebody works with, and how often.
    used: BTreeMap<usize, usize>,
}

impl State {
    fn origin(&self, list: usize) -> Option<Origin> {
        match self.locks.get(&list) {
            Some(lock) => Some(Origin { list, serial: lock.serial }),
            None => self.partials.get(&list).map(|partial| partial.origin),
        }
    }

    fn is_locked(&self, origin: Origin) -> bool {
        self.locks.get(&origin.list).is_some_and(|lock| lock.serial == origin.serial)
    }

    /// A partial list goes. Whether it had a mapping.
    fn remove_partial(&mut self, list: usize) -> bool {
        let Some(partial) = self.partials.remove(&list) else { return false };
        if partial.mapped {
            self.count_mapping(partial.origin, false);
        }
        partial.mapped
    }

    fn count_mapping(&mut self, origin: Origin, mapped: bool) {
        if let Some(lock) = self.locks.get_mut(&origin.list).filter(|lock| lock.serial == origin.serial) {
            lock.mappings = if mapped { lock.mappings + 1 } else { lock.mappings - 1 };
        }
    }
}

/// A list was used in a way that its state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InUse;

/// The ledger of a machine.
#[derive(Default)]
pub(crate) struct LockedPages(Mutex<State>);

/// Why memory or a lock must not go yet: a list in it is locked, is mapped, or is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remnant {
    Locked,
    Mapped,
    Used,
}

impl LockedPages {
    pub(super) fn lock(&self, list: usize, process: usize) {
        let mut state = self.0.lock();
        state.serials += 1;
        let serial = state.serials;
        state.locks.insert(list, Lock { serial, process, mappings: 0, site: site() });
    }

    /// Whether the list can be unlocked, and then it is.
    pub(super) fn unlock(&self, list: usize) -> Result<(), Remnant> {
        let mut state = self.0.lock();
        if state.used.contains_key(&list) {
            return Err(Remnant::Used);
        }
        // Pages of a process have their address there without a mapping, too.
        state.views.retain(|view| view.list != list);
        match state.locks.remove(&list) {
            Some(lock) if lock.mappings != 0 => Err(Remnant::Mapped),
            _ => Ok(()),
        }
    }

    /// A partial list has been built, anew or again.
    pub(super) fn build(&self, source: usize, target: usize) -> Result<(), InUse> {
        let mut state = self.0.lock();
        if state.used.contains_key(&target) {
            return Err(InUse);
        }
        match state.origin(source) {
            Some(origin) => {
                state.remove_partial(target);
                state.partials.insert(target, Partial { origin, mapped: false });
            }
            None => {
                state.remove_partial(target);
            }
        }
        Ok(())
    }

    pub(super) fn set_mapped(&self, list: usize, mapped: bool) {
        let mut state = self.0.lock();
        let Some(partial) = state.partials.get_mut(&list) else { return };
        if std::mem::replace(&mut partial.mapped, mapped) != mapped {
            let origin = partial.origin;
            state.count_mapping(origin, mapped);
        }
    }

    /// A list has been mapped into a process.
    pub(super) fn add_view(&self, list: usize, base: usize, described: usize, process: usize, memory: Option<Mapping>) {
        self.0.lock().views.push(View { list, base, described, process, memory });
    }

    /// A mapping into a process goes: whether it is one.
    pub(super) fn remove_view(&self, list: usize, base: usize, process: usize) -> bool {
        let mut state = self.0.lock();
        let found = state.views.iter().position(|view| (view.list, view.base, view.process) == (list, base, process));
        found.map(|index| state.views.swap_remove(index)).is_some()
    }

    pub(super) fn is_viewed(&self, list: usize) -> bool {
        self.0.lock().views.iter().any(|view| view.list == list)
    }

    /// What an address is otherwise, if it lies in another view of some pages.
    pub(super) fn seen_through(&self, address: usize) -> usize {
        let state = self.0.lock();
        let through = |view: &View| view.memory.as_ref().is_some_and(|memory| memory.contains(address));
        state.views.iter().find(|view| through(view)).map_or(address, |view| address - view.base + view.described)
    }

    /// The list goes.
    pub(super) fn forget(&self, list: usize) -> Result<(), InUse> {
        let mut state = self.0.lock();
        state.remove_partial(list);
        if state.used.contains_key(&list) { Err(InUse) } else { Ok(()) }
    }

    /// Memory is being freed, and all lists in it go.
    pub(super) fn forget_in(&self, range: &Range<usize>) -> Option<Remnant> {
        let mut state = self.0.lock();
        if state.used.range(range.clone()).next().is_some() {
            return Some(Remnant::Used);
        }
        let inside: Vec<usize> = state.partials.range(range.clone()).map(|(list, _)| *list).collect();
        let mut mapped = false;
        for list in inside {
            mapped |= state.remove_partial(list);
        }
        if mapped {
            return Some(Remnant::Mapped);
        }
        state.locks.range(range.clone()).next().map(|_| Remnant::Locked)
    }

    /// Whether the pages that a list describes are still those that were locked. Lists over non-paged pool are unknown here.
    pub(crate) fn are_pages_locked(&self, list: usize) -> bool {
        let state = self.0.lock();
        state.origin(list).is_some_and(|origin| state.is_locked(origin))
    }

    /// Somebody works with these lists until [`Self::release`]: they stay, and so do the locks under them. What to release.
    pub(crate) fn hold(&self, lists: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut state = self.0.lock();
        let mut held = Vec::new();
        for list in lists {
            let source = state.origin(list).map(|origin| origin.list).filter(|source| *source != list);
            held.extend(source.into_iter().chain([list]));
        }
        for list in &held {
            *state.used.entry(*list).or_insert(0) += 1;
        }
        held
    }

    pub(crate) fn release(&self, held: &[usize]) {
        let mut state = self.0.lock();
        for list in held {
            if let Some(count) = state.used.get_mut(list) {
                *count -= 1;
                if *count == 0 {
                    state.used.remove(list);
                }
            }
        }
    }

    /// Lists whose pages are locked, of a process or (0) of the system.
    pub(crate) fn of_process(&self, process: usize) -> usize {
        self.0.lock().locks.values().filter(|lock| lock.process == process).count()
    }

    /// Where the driver locked the oldest list of a process.
    pub(crate) fn site_of(&self, process: usize) -> Vec<usize> {
        let state = self.0.lock();
        let oldest = state.locks.values().filter(|lock| lock.process == process).min_by_key(|lock| lock.serial);
        oldest.map_or_else(Vec::new, |lock| known(lock.site))
    }

    /// All lists whose pages are locked.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().locks.len()
    }
}
