//! Activities: identifiers that tie the events and packets of one piece of work together.

use std::cell::Cell;
use std::collections::HashMap;

use parking_lot::Mutex;

use super::irql::called;
use super::status::{STATUS_INVALID_PARAMETER, STATUS_NOT_FOUND, STATUS_SUCCESS};
use super::types::{APC_LEVEL, GUID, HIGH_LEVEL, IRP, NTSTATUS, PASSIVE_LEVEL};
use crate::image::Export;

/// EVENT_ACTIVITY_CTRL_*.
const GET_ID: u32 = 1;
const SET_ID: u32 = 2;
const CREATE_ID: u32 = 3;
const GET_SET_ID: u32 = 4;
const CREATE_SET_ID: u32 = 5;

/// The identifier of a thread that has none.
const NONE: GUID = GUID { Data1: 0, Data2: 0, Data3: 0, Data4: [0; 8] };

#[derive(Default)]
struct State {
    /// By the thread's number.
    threads: HashMap<usize, GUID>,
    last: u32,
}

/// The activities of a machine's threads.
#[derive(Default)]
pub(crate) struct Activities(Mutex<State>);

impl Activities {
    fn of(&self, thread: usize) -> Option<GUID> {
        self.0.lock().threads.get(&thread).copied()
    }

    fn set(&self, thread: usize, activity: GUID) -> GUID {
        self.0.lock().threads.insert(thread, activity).unwrap_or(NONE)
    }

    /// One that nobody else on the machine has; they are not random.
    fn create(&self) -> GUID {
        let mut state = self.0.lock();
        state.last += 1;
        GUID { Data1: state.last, Data2: 0, Data3: 0, Data4: *b"activity" }
    }
}

pub(crate) extern "win64" fn EtwActivityIdControl(code: u32, activity: &Cell<GUID>) -> NTSTATUS {
    let current = called("EtwActivityIdControl", if code == CREATE_ID { HIGH_LEVEL } else { APC_LEVEL });
    let (activities, thread) = (&current.kernel.activities, current.thread.id);
    match code {
        GET_ID => activity.set(activities.of(thread).unwrap_or(NONE)),
        SET_ID => drop(activities.set(thread, activity.get())),
        CREATE_ID => activity.set(activities.create()),
        GET_SET_ID => activity.set(activities.set(thread, activity.get())),
        CREATE_SET_ID => activity.set(activities.set(thread, activities.create())),
        _ => return STATUS_INVALID_PARAMETER,
    }
    STATUS_SUCCESS
}

/// Gives a packet an activity, or the thread's own.
pub(crate) extern "win64" fn IoSetActivityIdIrp(irp: &IRP, activity: Option<&GUID>) -> NTSTATUS {
    let current = called("IoSetActivityIdIrp", if activity.is_some() { HIGH_LEVEL } else { PASSIVE_LEVEL });
    let activity = activity.copied().or_else(|| current.kernel.activities.of(current.thread.id));
    current.kernel.irps.set_activity(irp, activity);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn IoGetActivityIdIrp(irp: &IRP, activity: &Cell<GUID>) -> NTSTATUS {
    let known = called("IoGetActivityIdIrp", HIGH_LEVEL).kernel.irps.activity(irp);
    let Some(known) = known else { return STATUS_NOT_FOUND };
    activity.set(known);
    STATUS_SUCCESS
}

pub(super) const EXPORTS: &[(&str, Export)] =
    super::exports![EtwActivityIdControl, IoSetActivityIdIrp, IoGetActivityIdIrp];
