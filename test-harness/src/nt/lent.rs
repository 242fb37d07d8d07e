//! Memory that a driver has lent to another component, by address: it must stay until it is given back.

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::Mutex;

use crate::violation::Rule;

/// A loan: the rule that freeing the memory breaks, and what it is.
type Loan = (Rule, &'static str);

/// What is lent on a machine.
#[derive(Default)]
pub(crate) struct Lent(Mutex<BTreeMap<usize, Vec<Loan>>>);

impl Lent {
    pub(crate) fn lend(&self, address: usize, rule: Rule, what: &'static str) {
        if address != 0 {
            self.0.lock().entry(address).or_default().push((rule, what));
        }
    }

    /// Undoes one [`Self::lend`].
    pub(crate) fn give_back(&self, address: usize) {
        let mut lent = self.0.lock();
        if let Some(loans) = lent.get_mut(&address) {
            loans.pop();
            if loans.is_empty() {
                lent.remove(&address);
            }
        }
    }

    /// A loan in memory that is being freed.
    pub(super) fn in_range(&self, range: &Range<usize>) -> Option<Loan> {
        let lent = self.0.lock();
        let (_, loans) = lent.range(range.clone()).next()?;
        loans.last().copied()
    }
}
