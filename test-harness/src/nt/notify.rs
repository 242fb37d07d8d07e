//! Routines that drivers have called when processes begin and end, and when drivers are loaded.
#![allow(unsafe_code)] // calls the driver's routines with addresses of structures

use std::ptr;
use std::time::Duration;

use parking_lot::Mutex;

use super::irql::called;
use super::process::Process;
use super::status::{STATUS_INVALID_PARAMETER, STATUS_PROCEDURE_NOT_FOUND, STATUS_SUCCESS};
use super::strings;
use super::types::{APC_LEVEL, CLIENT_ID, HANDLE, NTSTATUS, PASSIVE_LEVEL, PEPROCESS, UNICODE_STRING, Zeroed};
use crate::guard::{callout, escape};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::simulation::Condvar;
use crate::thread::{current, kernel};

type ProcessRoutine = extern "win64" fn(HANDLE, HANDLE, u8);
type ProcessRoutineEx = extern "win64" fn(PEPROCESS, HANDLE, *mut PS_CREATE_NOTIFY_INFO);
type ImageRoutine = extern "win64" fn(*const UNICODE_STRING, HANDLE, *mut IMAGE_INFO);

/// What a driver is told of a process that begins.
#[repr(C)]
pub(crate) struct PS_CREATE_NOTIFY_INFO {
    Size: usize,
    Flags: u32,
    ParentProcessId: HANDLE,
    CreatingThreadId: CLIENT_ID,
    FileObject: usize,
    ImageFileName: *const UNICODE_STRING,
    CommandLine: *const UNICODE_STRING,
    CreationStatus: NTSTATUS,
}

/// What a driver is told of an image.
#[repr(C)]
pub(crate) struct IMAGE_INFO {
    Properties: u32,
    ImageBase: usize,
    ImageSelector: u32,
    ImageSize: usize,
    ImageSectionNumber: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Routine {
    Process(usize),
    ProcessEx(usize),
    Image(usize),
}

#[derive(Default)]
struct State {
    routines: Vec<Routine>,
    /// Threads that are telling.
    telling: usize,
}

/// The routines of a machine's drivers.
#[derive(Default)]
pub(crate) struct Notifications {
    state: Mutex<State>,
    told: Condvar,
}

/// How many routines of a kind there may be.
const LIMIT: usize = 64;

impl Notifications {
    /// How many are registered.
    pub(crate) fn registered(&self) -> usize {
        self.state.lock().routines.len()
    }

    fn add(&self, routine: Routine) -> NTSTATUS {
        let routines = &mut self.state.lock().routines;
        if routines.contains(&routine) || routines.len() >= LIMIT {
            return STATUS_INVALID_PARAMETER;
        }
        routines.push(routine);
        STATUS_SUCCESS
    }

    /// Takes a routine out, and waits until nobody is in it any more: its driver may go then.
    fn remove(&self, routine: Routine, missing: NTSTATUS) -> NTSTATUS {
        let mut state = self.state.lock();
        let Some(index) = state.routines.iter().position(|known| *known == routine) else { return missing };
        state.routines.remove(index);
        while state.telling != 0 {
            if kernel().is_stopped() {
                drop(state);
                escape();
            }
            self.told.wait_for(&mut state, Duration::from_millis(50));
        }
        STATUS_SUCCESS
    }

    /// Calls `tell` for each routine, without a lock held.
    fn each(&self, tell: impl FnMut(Routine)) {
        let routines = {
            let mut state = self.state.lock();
            state.telling += 1;
            state.routines.clone()
        };
        routines.into_iter().for_each(tell);
        self.state.lock().telling -= 1;
        self.told.notify_all();
    }
}

/// Whether anybody is told of processes.
pub(crate) fn of_processes(kernel: &Kernel) -> bool {
    let known = kernel.extension::<Notifications>();
    let state = known.state.lock();
    state.routines.iter().any(|routine| matches!(routine, Routine::Process(_) | Routine::ProcessEx(_)))
}

/// Tells the drivers of a process that begins, in the thread that makes it, or ends, in its last one. What a driver says of a
/// creation is not heeded: a process of the harness is there already.
pub(crate) fn process(kernel: &Kernel, process: &Process, begins: bool) {
    let (parent, creator) = (kernel.processes.system(kernel).id, current());
    let creator = CLIENT_ID { UniqueProcess: creator.thread.process.id, UniqueThread: creator.thread.id };
    kernel.extension::<Notifications>().each(|routine| {
        match routine {
            Routine::Process(address) => {
                // SAFETY: the driver registered a PCREATE_PROCESS_NOTIFY_ROUTINE, and is loaded while it is registered.
                let routine: ProcessRoutine = unsafe { std::mem::transmute(address) };
                callout("a process notify routine", || routine(parent, process.id, u8::from(begins)));
            }
            Routine::ProcessEx(address) => {
                // SAFETY: as above, a PCREATE_PROCESS_NOTIFY_ROUTINE_EX.
                let routine: ProcessRoutineEx = unsafe { std::mem::transmute(address) };
                let mut information = PS_CREATE_NOTIFY_INFO {
                    Size: size_of::<PS_CREATE_NOTIFY_INFO>(),
                    Flags: 0,
                    ParentProcessId: parent,
                    CreatingThreadId: creator,
                    FileObject: 0,
                    ImageFileName: ptr::null(),
                    CommandLine: ptr::null(),
                    CreationStatus: STATUS_SUCCESS,
                };
                let told = if begins { &raw mut information } else { ptr::null_mut() };
                callout("a process notify routine", || routine(process.body(), process.id, told));
            }
            Routine::Image(_) => {}
        }
    });
}

/// Tells the drivers of one that has been mapped, before its entry point is called.
pub(crate) fn driver_loaded(kernel: &Kernel, name: &str, base: usize, size: usize) {
    /// IMAGE_INFO.SystemModeImage, and IMAGE_ADDRESSING_MODE_32BIT.
    const PROPERTIES: u32 = 0x100 | 3;
    let path = UNICODE_STRING::zeroed();
    strings::allocate(kernel, &format!(r"\SystemRoot\System32\drivers\{name}.sys"), &path);
    kernel.extension::<Notifications>().each(|routine| {
        if let Routine::Image(address) = routine {
            // SAFETY: the driver registered a PLOAD_IMAGE_NOTIFY_ROUTINE, and is loaded while it is registered.
            let routine: ImageRoutine = unsafe { std::mem::transmute(address) };
            let mut information = IMAGE_INFO {
                Properties: PROPERTIES,
                ImageBase: base,
                ImageSelector: 0,
                ImageSize: size,
                ImageSectionNumber: 0,
            };
            callout("a load-image notify routine", || routine(&raw const path, 0, &raw mut information));
        }
    });
    strings::free(kernel, &path);
}

fn set(routine: Routine, remove: u8, missing: NTSTATUS) -> NTSTATUS {
    let routines = kernel().extension::<Notifications>();
    if remove == 0 { routines.add(routine) } else { routines.remove(routine, missing) }
}

pub(crate) extern "win64" fn PsSetCreateProcessNotifyRoutine(routine: usize, remove: u8) -> NTSTATUS {
    called("PsSetCreateProcessNotifyRoutine", PASSIVE_LEVEL);
    set(Routine::Process(routine), remove, STATUS_PROCEDURE_NOT_FOUND)
}

pub(crate) extern "win64" fn PsSetCreateProcessNotifyRoutineEx(routine: usize, remove: u8) -> NTSTATUS {
    called("PsSetCreateProcessNotifyRoutineEx", PASSIVE_LEVEL);
    set(Routine::ProcessEx(routine), remove, STATUS_INVALID_PARAMETER)
}

pub(crate) extern "win64" fn PsSetLoadImageNotifyRoutine(routine: usize) -> NTSTATUS {
    called("PsSetLoadImageNotifyRoutine", PASSIVE_LEVEL);
    set(Routine::Image(routine), 0, STATUS_SUCCESS)
}

pub(crate) extern "win64" fn PsRemoveLoadImageNotifyRoutine(routine: usize) -> NTSTATUS {
    called("PsRemoveLoadImageNotifyRoutine", APC_LEVEL);
    set(Routine::Image(routine), 1, STATUS_PROCEDURE_NOT_FOUND)
}

pub(super) const EXPORTS: &[(&str, Export)] = super::exports![
    PsSetCreateProcessNotifyRoutine,
    PsSetCreateProcessNotifyRoutineEx,
    PsSetLoadImageNotifyRoutine,
    PsRemoveLoadImageNotifyRoutine,
];
