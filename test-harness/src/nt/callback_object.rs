//! Callback objects: named points at which drivers have routines called, by other drivers or by the system.
#![allow(unsafe_code)] // reads object names

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr;

use parking_lot::Mutex;

use super::irql::called;
use super::object::{self, Kind};
use super::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS, STATUS_UNSUCCESSFUL};
use super::strings::text;
use super::types::{APC_LEVEL, DISPATCH_LEVEL, NTSTATUS, OBJECT_ATTRIBUTES, PVOID};
use crate::guard::{callout, escape, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::simulation::Condvar;
use crate::violation::Rule;

/// A CALLBACK_FUNCTION: its context, and two arguments that the object's owner gives a meaning.
type CALLBACK_FUNCTION = extern "win64" fn(PVOID, PVOID, PVOID);

/// The objects that the system has by itself.
const OF_THE_SYSTEM: [&str; 3] = [r"\callback\setsystemtime", r"\callback\powerstate", r"\callback\processoradd"];

/// A routine that is called at an object.
struct Registration {
    id: usize,
    object: usize,
    routine: CALLBACK_FUNCTION,
    context: usize,
    /// Calls of it that have not returned.
    running: usize,
    /// Whether ExUnregisterCallback waits for these.
    leaving: bool,
}

/// Whether ExRegisterCallback takes more than one routine.
struct Object {
    multiple: bool,
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, usize>,
    objects: BTreeMap<usize, Object>,
    /// In the order in which they were registered.
    registrations: Vec<Registration>,
    last: usize,
}

/// The callback objects of a machine.
#[derive(Default)]
pub(crate) struct CallbackObjects {
    state: Mutex<State>,
    returned: Condvar,
}

impl CallbackObjects {
    /// Routines that are registered.
    pub(crate) fn registered(&self) -> usize {
        self.state.lock().registrations.len()
    }

    pub(crate) fn stop(&self) {
        self.returned.notify_all();
    }

    /// The last reference to an object has gone.
    pub(super) fn forget(&self, body: usize) {
        let mut state = self.state.lock();
        state.names.retain(|_, known| *known != body);
        state.objects.remove(&body);
    }
}

/// Has the routines called that are registered at an object of the system's.
pub(crate) fn notify(kernel: &Kernel, name: &str, first: usize, second: usize) {
    let object = kernel.callback_objects.state.lock().names.get(&name.to_lowercase()).copied();
    if let Some(object) = object {
        call_all(kernel, object, first, second);
    }
}

fn call_all(kernel: &Kernel, object: usize, first: usize, second: usize) {
    let callbacks = &kernel.callback_objects;
    let known: Vec<usize> = {
        let state = callbacks.state.lock();
        state.registrations.iter().filter(|known| known.object == object).map(|known| known.id).collect()
    };
    for id in known {
        let begun = {
            let mut state = callbacks.state.lock();
            let registration = state.registrations.iter_mut().find(|known| known.id == id && !known.leaving);
            registration.map(|registration| {
                registration.running += 1;
                (registration.routine, registration.context)
            })
        };
        let Some((routine, context)) = begun else { continue };
        callout("a callback object's routine", || routine(context as PVOID, first as PVOID, second as PVOID));
        if let Some(registration) = callbacks.state.lock().registrations.iter_mut().find(|known| known.id == id) {
            registration.running -= 1;
        }
        callbacks.returned.notify_all();
    }
}

pub(crate) extern "win64" fn ExCreateCallback(
    callback: &Cell<PVOID>,
    attributes: &OBJECT_ATTRIBUTES,
    create: u8,
    allow_multiple: u8,
) -> NTSTATUS {
    let kernel = &called("ExCreateCallback", APC_LEVEL).kernel;
    // SAFETY: OBJECT_ATTRIBUTES name a UNICODE_STRING; a bad one faults, which the guard reports.
    let name = unsafe { attributes.ObjectName.as_ref() }.map(text).unwrap_or_default().to_lowercase();
    if name.is_empty() {
        return STATUS_UNSUCCESSFUL;
    }
    let known = kernel.callback_objects.state.lock().names.get(&name).copied();
    if let Some(known) = known.filter(|known| kernel.objects.reference(*known).is_some()) {
        callback.set(known as PVOID);
        return STATUS_SUCCESS;
    }
    // The system's own come into being when somebody first asks for them, which nobody can tell from their having been there.
    let of_the_system = OF_THE_SYSTEM.contains(&name.as_str());
    if create == 0 && !of_the_system {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    if kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let Some(body) = object::create(kernel, Kind::Callback, 16) else { return STATUS_INSUFFICIENT_RESOURCES };
    let mut state = kernel.callback_objects.state.lock();
    state.names.insert(name, body as usize);
    state.objects.insert(body as usize, Object { multiple: of_the_system || allow_multiple != 0 });
    callback.set(body);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn ExRegisterCallback(callback: PVOID, routine: CALLBACK_FUNCTION, context: PVOID) -> PVOID {
    let kernel = &called("ExRegisterCallback", APC_LEVEL).kernel;
    let object = callback as usize;
    if kernel.objects.kind(object) != Some(Kind::Callback) {
        violate(
            Rule::Object,
            format!("ExRegisterCallback: {callback:p} is no callback object, or it has been deleted"),
        );
    }
    if kernel.faults.allocation_fails() {
        return ptr::null_mut();
    }
    let mut state = kernel.callback_objects.state.lock();
    let multiple = state.objects.get(&object).is_some_and(|object| object.multiple);
    if !multiple && state.registrations.iter().any(|known| known.object == object) {
        return ptr::null_mut();
    }
    // The registration keeps the object.
    kernel.objects.reference(object);
    state.last += 16;
    let id = state.last;
    state.registrations.push(Registration {
        id,
        object,
        routine,
        context: context as usize,
        running: 0,
        leaving: false,
    });
    id as PVOID
}

/// Waits for calls of the routine that have not returned.
pub(crate) extern "win64" fn ExUnregisterCallback(registration: PVOID) {
    let kernel = &called("ExUnregisterCallback", APC_LEVEL).kernel;
    let callbacks = &kernel.callback_objects;
    let id = registration as usize;
    let object = {
        let mut state = callbacks.state.lock();
        loop {
            let index = state.registrations.iter().position(|known| known.id == id);
            let Some(index) = index else {
                break None;
            };
            state.registrations[index].leaving = true;
            if state.registrations[index].running == 0 {
                break Some(state.registrations.remove(index).object);
            }
            if kernel.is_stopped() {
                drop(state);
                escape();
            }
            callbacks.returned.wait(&mut state);
        }
    };
    match object {
        Some(object) => drop(object::dereference(kernel, object)),
        None => violate(Rule::Object, format!("ExUnregisterCallback: {registration:p} is no registration")),
    }
}

pub(crate) extern "win64" fn ExNotifyCallback(callback: PVOID, first: PVOID, second: PVOID) {
    let kernel = &called("ExNotifyCallback", DISPATCH_LEVEL).kernel;
    call_all(kernel, callback as usize, first as usize, second as usize);
}

pub(super) const EXPORTS: &[(&str, Export)] =
    super::exports![ExCreateCallback, ExRegisterCallback, ExUnregisterCallback, ExNotifyCallback];
