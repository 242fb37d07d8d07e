//! Names for endpoints that go stale when the endpoint is closed.

use alloc::vec::Vec;

/// Bits of an id that hold the slot; the others hold the generation.
const SLOT_BITS: u32 = 24;

/// Most entries that a table can hold.
pub const CAPACITY: usize = 1 << SLOT_BITS;

/// Why a table takes no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The table's limit is reached.
    Full,
    /// No pool to grow.
    NoMemory,
}

#[derive(Debug)]
enum Slot<T> {
    Vacant { next: Option<usize> },
    Reserved { id: u64 },
    Occupied { id: u64, value: T },
}

/// Maps ids to values. An id names a slot and a generation; the caller draws generations from one counter for all tables, so
/// that no id is ever used twice, in whichever table.
#[derive(Debug)]
pub struct IdTable<T> {
    slots: Vec<Slot<T>>,
    vacant: Option<usize>,
    taken: usize,
    limit: usize,
}

impl<T> IdTable<T> {
    /// An empty table that will hold at most `limit` entries; it allocates nothing yet.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        let limit = if limit < CAPACITY { limit } else { CAPACITY };
        Self { slots: Vec::new(), vacant: None, taken: 0, limit }
    }

    /// Takes an id for a value that comes later, by [`IdTable::fill`]; until then it names nothing.
    ///
    /// `generation` counts from 1, and only its low 40 bits count.
    ///
    /// # Errors
    ///
    /// The limit is reached, or there is no memory.
    pub fn reserve(&mut self, generation: u64) -> Result<u64, InsertError> {
        if self.taken == self.limit {
            return Err(InsertError::Full);
        }
        let index = match self.vacant {
            Some(index) => index,
            None => {
                self.slots.try_reserve(1).map_err(|_| InsertError::NoMemory)?;
                self.slots.push(Slot::Vacant { next: None });
                self.slots.len() - 1
            }
        };
        let id = (generation << SLOT_BITS) | index as u64;
        let taken = core::mem::replace(&mut self.slots[index], Slot::Reserved { id });
        self.vacant = match taken {
            Slot::Vacant { next } => next,
            Slot::Reserved { .. } | Slot::Occupied { .. } => None,
        };
        self.taken += 1;
        Ok(id)
    }

    /// Gives a reserved id its value.
    ///
    /// # Errors
    ///
    /// The value comes back if `id` is not reserved.
    pub fn fill(&mut self, id: u64, value: T) -> Result<(), T> {
        match self.slot(id) {
            Some(slot @ Slot::Reserved { .. }) => {
                *slot = Slot::Occupied { id, value };
                Ok(())
            }
            Some(Slot::Occupied { .. } | Slot::Vacant { .. }) | None => Err(value),
        }
    }

    /// What `id` names.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&T> {
        match self.slots.get(slot_of(id))? {
            Slot::Occupied { id: own, value } if *own == id => Some(value),
            Slot::Occupied { .. } | Slot::Reserved { .. } | Slot::Vacant { .. } => None,
        }
    }

    /// How many entries there are, reserved ids included: what the limit holds.
    #[must_use]
    pub const fn taken(&self) -> usize {
        self.taken
    }

    /// How many slots there are, vacant ones included. A value stays in its slot as long as it is in the table.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// What is in the slots from `first` on, at most so many slots: each value with its id.
    pub fn in_slots(&self, first: usize, slots: usize) -> impl Iterator<Item = (u64, &T)> {
        self.slots.iter().skip(first).take(slots).filter_map(|slot| match slot {
            Slot::Occupied { id, value } => Some((*id, value)),
            Slot::Reserved { .. } | Slot::Vacant { .. } => None,
        })
    }

    /// Takes out what `id` names, or gives a reserved id back; the id is stale from now on.
    pub fn remove(&mut self, id: u64) -> Option<T> {
        let vacant = Slot::Vacant { next: self.vacant };
        let removed = match self.slot(id) {
            Some(slot @ (Slot::Occupied { .. } | Slot::Reserved { .. })) => core::mem::replace(slot, vacant),
            Some(Slot::Vacant { .. }) | None => return None,
        };
        self.vacant = Some(slot_of(id));
        self.taken -= 1;
        match removed {
            Slot::Occupied { value, .. } => Some(value),
            Slot::Reserved { .. } | Slot::Vacant { .. } => None,
        }
    }

    /// Ends the table: its values come out, and it takes nothing any more.
    pub fn end(&mut self) -> impl Iterator<Item = T> + use<T> {
        let ended = core::mem::replace(self, Self::new(0));
        ended.slots.into_iter().filter_map(|slot| match slot {
            Slot::Occupied { value, .. } => Some(value),
            Slot::Reserved { .. } | Slot::Vacant { .. } => None,
        })
    }

    fn slot(&mut self, id: u64) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(slot_of(id))?;
        match slot {
            Slot::Reserved { id: own } | Slot::Occupied { id: own, .. } if *own == id => Some(slot),
            Slot::Reserved { .. } | Slot::Occupied { .. } | Slot::Vacant { .. } => None,
        }
    }
}

/// The slot that an id names.
#[must_use]
pub fn slot_of(id: u64) -> usize {
    usize::try_from(id & (CAPACITY as u64 - 1)).unwrap_or(CAPACITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_table_is_found_slot_by_slot_once() {
        let mut table: IdTable<u32> = IdTable::new(10);
        let ids: std::vec::Vec<_> = (0..5)
            .map(|value| {
                let id = table.reserve(u64::from(value) + 1).unwrap();
                table.fill(id, value).unwrap();
                id
            })
            .collect();
        table.reserve(9).unwrap();
        table.remove(ids[1]);
        let found: std::vec::Vec<_> = (0..table.slots())
            .step_by(2)
            .flat_map(|first| table.in_slots(first, 2))
            .map(|(id, &value)| (id, value))
            .collect();
        assert_eq!(found, [(ids[0], 0), (ids[2], 2), (ids[3], 3), (ids[4], 4)]);
        assert_eq!(table.in_slots(usize::MAX, usize::MAX).count(), 0);
    }
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn insert(table: &mut IdTable<u32>, generation: u64, value: u32) -> Result<u64, InsertError> {
        let id = table.reserve(generation)?;
        table.fill(id, value).expect("reserved just now");
        Ok(id)
    }

    #[test]
    fn a_reserved_id_names_nothing_yet() {
        let mut table = IdTable::new(2);
        let id = table.reserve(1).unwrap();
        assert_eq!((table.get(id), table.taken()), (None, 1));
        assert_eq!(table.fill(id, 5), Ok(()));
        assert_eq!(table.fill(id, 6), Err(6));
        assert_eq!(table.get(id), Some(&5));
    }

    #[test]
    fn an_ended_table_gives_its_values_and_takes_no_more() {
        let mut table = IdTable::new(8);
        let kept = insert(&mut table, 1, 10).unwrap();
        let pending = table.reserve(2).unwrap();
        assert_eq!(table.end().collect::<Vec<_>>(), [10]);
        assert_eq!(table.fill(pending, 11), Err(11));
        assert_eq!(table.get(kept), None);
        assert_eq!(table.reserve(3), Err(InsertError::Full));
    }

    proptest! {
        /// Against a map: an id names its value until it is removed and nothing ever after, forged ids name nothing, and the
        /// limit holds.
        #[test]
        fn behaves_as_a_map_whose_keys_never_come_back(
            limit in 1_usize..6, steps in prop::collection::vec((any::<bool>(), any::<usize>(), any::<u64>()), 1..200)
        ) {
            let mut table = IdTable::new(limit);
            let (mut model, mut stale) = (BTreeMap::new(), Vec::new());
            for (generation, (add, pick, forged)) in (1_u64..).zip(steps) {
                if add {
                    let value = u32::try_from(generation).unwrap();
                    match insert(&mut table, generation, value) {
                        Ok(id) => { prop_assert!(!stale.contains(&id)); model.insert(id, value); }
                        Err(error) => { prop_assert_eq!(error, InsertError::Full); prop_assert_eq!(model.len(), limit); }
                    }
                } else if let Some(&id) = model.keys().nth(pick % model.len().max(1)) {
                    prop_assert_eq!(table.remove(id), model.remove(&id));
                    stale.push(id);
                }
                prop_assert_eq!(table.taken(), model.len());
                for (id, value) in &model { prop_assert_eq!(table.get(*id), Some(value)); }
                for id in &stale {
                    prop_assert_eq!(table.get(*id), None);
                    prop_assert_eq!(table.remove(*id), None);
                }
                prop_assert_eq!(table.get(forged).is_some(), model.contains_key(&forged));
            }
        }
    }
}
