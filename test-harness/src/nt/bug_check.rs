//! Callbacks for the moment of a bug check. None is called: a bug check ends the machine with a report.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ptr;

use parking_lot::Mutex;

use super::irql::called;
use super::types::{HIGH_LEVEL, LIST_ENTRY, PVOID};
use crate::image::Export;

/// The callback records of a machine's drivers, by address.
#[derive(Default)]
pub(crate) struct BugCheckCallbacks(Mutex<BTreeSet<usize>>);

impl BugCheckCallbacks {
    /// How many are registered.
    pub(crate) fn registered(&self) -> usize {
        self.0.lock().len()
    }
}

/// KBUGCHECK_REASON_CALLBACK_RECORD.
#[repr(C)]
pub(crate) struct CallbackRecord {
    entry: LIST_ENTRY,
    callback: Cell<PVOID>,
    component: Cell<*const u8>,
    checksum: Cell<usize>,
    reason: Cell<u32>,
    state: Cell<u8>,
}

impl CallbackRecord {
    #[cfg(test)]
    pub(super) fn zeroed() -> Self {
        let entry =
            LIST_ENTRY { Flink: ptr::null_mut::<LIST_ENTRY>().into(), Blink: ptr::null_mut::<LIST_ENTRY>().into() };
        let (component, callback) = (Cell::new(ptr::null()), Cell::new(ptr::null_mut()));
        Self {
            entry,
            callback,
            component,
            checksum: Cell::new(0),
            reason: Cell::new(0),
            state: Cell::new(BUFFER_EMPTY),
        }
    }
}

/// KBUGCHECK_BUFFER_DUMP_STATE.
const BUFFER_EMPTY: u8 = 0;
const BUFFER_INSERTED: u8 = 1;

/// FALSE if the record is registered already.
pub(crate) extern "win64" fn KeRegisterBugCheckReasonCallback(
    record: &CallbackRecord,
    callback: PVOID,
    reason: u32,
    component: *const u8,
) -> u8 {
    let current = called("KeRegisterBugCheckReasonCallback", HIGH_LEVEL);
    if !current.kernel.bug_check_callbacks.0.lock().insert(ptr::from_ref(record) as usize) {
        return 0;
    }
    record.callback.set(callback);
    record.component.set(component);
    record.reason.set(reason);
    record.state.set(BUFFER_INSERTED);
    1
}

/// FALSE if the record is not registered.
pub(crate) extern "win64" fn KeDeregisterBugCheckReasonCallback(record: &CallbackRecord) -> u8 {
    let current = called("KeDeregisterBugCheckReasonCallback", HIGH_LEVEL);
    let registered = current.kernel.bug_check_callbacks.0.lock().remove(&(ptr::from_ref(record) as usize));
    if registered {
        record.state.set(BUFFER_EMPTY);
    }
    u8::from(registered)
}

pub(super) const EXPORTS: &[(&str, Export)] =
    super::exports![KeRegisterBugCheckReasonCallback, KeDeregisterBugCheckReasonCallback];
