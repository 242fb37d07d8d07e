//! Notifications of Plug and Play: drivers hear of device interfaces that come and go, and of devices that they have open and that are
//! to be removed.
#![allow(unsafe_code)] // reads a class by address

use std::cell::Cell;
use std::collections::VecDeque;

use parking_lot::Mutex;

use super::{file_object, interface, pnp};
use crate::guard::{callout, escape, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_SUCCESS, nt_success,
};
use crate::nt::types::{
    DEVICE_OBJECT, DRIVER_OBJECT, FILE_OBJECT, GUID, NTSTATUS, PASSIVE_LEVEL, PVOID, UNICODE_STRING, Zeroed,
};
use crate::simulation::Condvar;
use crate::thread::current;
use crate::violation::Rule;

/// A DRIVER_NOTIFICATION_CALLBACK_ROUTINE.
type CALLBACK = extern "win64" fn(PVOID, PVOID) -> NTSTATUS;

/// IO_NOTIFICATION_EVENT_CATEGORY.
const HARDWARE_PROFILE_CHANGE: u32 = 1;
const DEVICE_INTERFACE_CHANGE: u32 = 2;
const TARGET_DEVICE_CHANGE: u32 = 3;
/// PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES.
const INCLUDE_EXISTING: u32 = 1;

/// The events of wdmguid.h, which differ in one byte.
const fn event(number: u32) -> GUID {
    let rest = [0xb0, 0x8f, 0x00, 0x60, 0x97, 0x13, 0x05, 0x3f];
    GUID { Data1: 0xcb3a_4000 | number, Data2: 0x46f0, Data3: 0x11d0, Data4: rest }
}
const DEVICE_INTERFACE_ARRIVAL: GUID = event(0x4);
const DEVICE_INTERFACE_REMOVAL: GUID = event(0x5);
const TARGET_DEVICE_QUERY_REMOVE: GUID = event(0x6);
const TARGET_DEVICE_REMOVE_CANCELLED: GUID = event(0x7);
const TARGET_DEVICE_REMOVE_COMPLETE: GUID = event(0x8);

#[repr(C)]
struct DEVICE_INTERFACE_CHANGE_NOTIFICATION {
    Version: u16,
    Size: u16,
    Event: GUID,
    InterfaceClassGuid: GUID,
    SymbolicLinkName: *const UNICODE_STRING,
}

#[repr(C)]
struct TARGET_DEVICE_REMOVAL_NOTIFICATION {
    Version: u16,
    Size: u16,
    Event: GUID,
    FileObject: *mut FILE_OBJECT,
}

/// What somebody wants to hear of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// Profiles of the hardware: there is one.
    HardwareProfile,
    Interfaces(GUID),
    /// The device that a file object is open on, by its PDO. The file object is the driver's to keep.
    Target {
        file: usize,
        pdo: usize,
    },
}

struct Registration {
    id: usize,
    subject: Subject,
    callback: CALLBACK,
    context: usize,
    /// Calls that have not returned.
    running: usize,
}

/// An interface that has come or gone.
struct Change {
    class: GUID,
    link: String,
    enabled: bool,
}

#[derive(Default)]
struct State {
    registrations: Vec<Registration>,
    last: usize,
    changes: VecDeque<Change>,
    /// A worker tells of the changes.
    telling: bool,
}

/// Who wants to be told of what on a machine.
#[derive(Default)]
pub(crate) struct Notifications {
    state: Mutex<State>,
    returned: Condvar,
}

impl Notifications {
    /// Notifications that are registered.
    pub(super) fn registered(&self) -> usize {
        self.state.lock().registrations.len()
    }

    pub(super) fn stop(&self) {
        self.returned.notify_all();
    }

    fn wanted(&self, wants: impl Fn(Subject) -> bool) -> Vec<usize> {
        self.state.lock().registrations.iter().filter(|known| wants(known.subject)).map(|known| known.id).collect()
    }

    /// Calls a registration's routine, unless it has gone; its status.
    fn call(&self, id: usize, notification: PVOID) -> NTSTATUS {
        let begun = {
            let mut state = self.state.lock();
            state.registrations.iter_mut().find(|known| known.id == id).map(|known| {
                known.running += 1;
                (known.callback, known.context)
            })
        };
        let Some((callback, context)) = begun else { return STATUS_SUCCESS };
        let status = callout("a notification callback", || callback(notification, context as PVOID));
        if let Some(known) = self.state.lock().registrations.iter_mut().find(|known| known.id == id) {
            known.running -= 1;
        }
        self.returned.notify_all();
        status
    }
}

/// An interface has come or gone: who wants to know hears of it on a worker, in order.
pub(super) fn interface_changed(class: GUID, link: &str, enabled: bool) {
    let kernel = &current().kernel;
    let notifications = &kernel.io.notifications;
    if notifications.wanted(|subject| subject == Subject::Interfaces(class)).is_empty() {
        return;
    }
    let begins = {
        let mut state = notifications.state.lock();
        state.changes.push_back(Change { class, link: link.to_owned(), enabled });
        !std::mem::replace(&mut state.telling, true)
    };
    if begins {
        kernel.workers.queue(kernel, || {
            let notifications = &current().kernel.io.notifications;
            loop {
                let change = {
                    let mut state = notifications.state.lock();
                    let change = state.changes.pop_front();
                    state.telling = change.is_some();
                    change
                };
                let Some(change) = change else { return };
                for id in notifications.wanted(|subject| subject == Subject::Interfaces(change.class)) {
                    tell(notifications, id, &change);
                }
            }
        });
    }
}

fn tell(notifications: &Notifications, id: usize, change: &Change) {
    let mut units: Vec<u16> = change.link.encode_utf16().collect();
    let link = UNICODE_STRING::zeroed();
    let bytes = u16::try_from(units.len() * 2).unwrap_or(u16::MAX);
    link.Length.set(bytes);
    link.MaximumLength.set(bytes);
    link.Buffer.set(units.as_mut_ptr());
    let mut notification = DEVICE_INTERFACE_CHANGE_NOTIFICATION {
        Version: 1,
        Size: const { size_of::<DEVICE_INTERFACE_CHANGE_NOTIFICATION>() as u16 },
        Event: if change.enabled { DEVICE_INTERFACE_ARRIVAL } else { DEVICE_INTERFACE_REMOVAL },
        InterfaceClassGuid: change.class,
        SymbolicLinkName: &raw const link,
    };
    // Nobody can keep an interface from coming or going.
    let _ = notifications.call(id, (&raw mut notification).cast());
}

/// Tells those who have a device open; those that were told, and the status of the one that refused.
fn tell_targets(kernel: &Kernel, pdo: *mut DEVICE_OBJECT, event: GUID) -> Result<(), (Vec<usize>, NTSTATUS)> {
    let notifications = &kernel.io.notifications;
    let is_target = |subject| match subject {
        Subject::Target { pdo: target, .. } => target == pdo as usize,
        Subject::HardwareProfile | Subject::Interfaces(_) => false,
    };
    let mut told = vec![];
    for id in notifications.wanted(is_target) {
        let status = tell_target(notifications, id, event);
        told.push(id);
        if !nt_success(status) {
            return Err((told, status));
        }
    }
    Ok(())
}

fn tell_target(notifications: &Notifications, id: usize, event: GUID) -> NTSTATUS {
    let file = notifications.state.lock().registrations.iter().find_map(|known| match known.subject {
        Subject::Target { file, .. } if known.id == id => Some(file),
        Subject::Target { .. } | Subject::HardwareProfile | Subject::Interfaces(_) => None,
    });
    let mut notification = TARGET_DEVICE_REMOVAL_NOTIFICATION {
        Version: 1,
        Size: const { size_of::<TARGET_DEVICE_REMOVAL_NOTIFICATION>() as u16 },
        Event: event,
        FileObject: file.unwrap_or(0) as *mut FILE_OBJECT,
    };
    notifications.call(id, (&raw mut notification).cast())
}

/// Asks those who have a device open whether it may go. They close it, or refuse.
pub(super) fn query_remove(kernel: &Kernel, pdo: *mut DEVICE_OBJECT) -> Result<(), NTSTATUS> {
    tell_targets(kernel, pdo, TARGET_DEVICE_QUERY_REMOVE).map_err(|(told, status)| {
        for id in told {
            tell_target(&kernel.io.notifications, id, TARGET_DEVICE_REMOVE_CANCELLED);
        }
        status
    })
}

/// A device that somebody has been asked for stays after all.
pub(super) fn remove_cancelled(kernel: &Kernel, pdo: *mut DEVICE_OBJECT) {
    // What they say to it is of no interest.
    let _ = tell_targets(kernel, pdo, TARGET_DEVICE_REMOVE_CANCELLED);
}

/// A device goes.
pub(super) fn remove_complete(kernel: &Kernel, pdo: *mut DEVICE_OBJECT) {
    // As above.
    let _ = tell_targets(kernel, pdo, TARGET_DEVICE_REMOVE_COMPLETE);
}

pub(crate) extern "win64" fn IoRegisterPlugPlayNotification(
    category: u32,
    flags: u32,
    data: PVOID,
    _driver: *mut DRIVER_OBJECT,
    callback: CALLBACK,
    context: PVOID,
    entry: &Cell<PVOID>,
) -> NTSTATUS {
    let kernel = &called("IoRegisterPlugPlayNotification", PASSIVE_LEVEL).kernel;
    let subject = match category {
        HARDWARE_PROFILE_CHANGE => Subject::HardwareProfile,
        // SAFETY: the class of the interfaces; a bad pointer faults, which the guard reports.
        DEVICE_INTERFACE_CHANGE => Subject::Interfaces(unsafe { *data.cast::<GUID>() }),
        TARGET_DEVICE_CHANGE => match pnp::pdo_of(kernel, file_object(data.cast()).DeviceObject.get()) {
            Some(pdo) => Subject::Target { file: data as usize, pdo },
            None => return STATUS_INVALID_DEVICE_REQUEST,
        },
        _ => return STATUS_INVALID_PARAMETER,
    };
    if kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let id = {
        let mut state = kernel.io.notifications.state.lock();
        state.last += 16;
        let id = state.last;
        state.registrations.push(Registration { id, subject, callback, context: context as usize, running: 0 });
        id
    };
    entry.set(id as PVOID);
    if let Subject::Interfaces(class) = subject
        && flags & INCLUDE_EXISTING != 0
    {
        for link in interface::enabled_links(kernel, &class) {
            tell(&kernel.io.notifications, id, &Change { class, link, enabled: true });
        }
    }
    STATUS_SUCCESS
}

fn unregister(kernel: &Kernel, entry: PVOID, waits: bool, call: &str) -> NTSTATUS {
    let notifications = &kernel.io.notifications;
    let id = entry as usize;
    let known = {
        let mut state = notifications.state.lock();
        loop {
            let Some(index) = state.registrations.iter().position(|known| known.id == id) else { break false };
            if state.registrations[index].running == 0 || !waits {
                state.registrations.remove(index);
                break true;
            }
            if kernel.is_stopped() {
                drop(state);
                escape();
            }
            notifications.returned.wait(&mut state);
        }
    };
    if !known {
        violate(Rule::Io, format!("{call}: {entry:p} is no registered notification"));
    }
    STATUS_SUCCESS
}

/// May be called in the callback itself, which is not waited for.
pub(crate) extern "win64" fn IoUnregisterPlugPlayNotification(entry: PVOID) -> NTSTATUS {
    let kernel = &called("IoUnregisterPlugPlayNotification", PASSIVE_LEVEL).kernel;
    unregister(kernel, entry, false, "IoUnregisterPlugPlayNotification")
}

/// Waits for the callback.
pub(crate) extern "win64" fn IoUnregisterPlugPlayNotificationEx(entry: PVOID) -> NTSTATUS {
    let kernel = &called("IoUnregisterPlugPlayNotificationEx", PASSIVE_LEVEL).kernel;
    unregister(kernel, entry, true, "IoUnregisterPlugPlayNotificationEx")
}

pub(in crate::nt) const EXPORTS: &[(&str, Export)] = crate::nt::exports![
    IoRegisterPlugPlayNotification,
    IoUnregisterPlugPlayNotification,
    IoUnregisterPlugPlayNotificationEx,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes that the headers give (wdm.h, x64).
    #[test]
    fn structures_are_as_large_as_the_headers() {
        assert_eq!(size_of::<DEVICE_INTERFACE_CHANGE_NOTIFICATION>(), 48);
        assert_eq!(size_of::<TARGET_DEVICE_REMOVAL_NOTIFICATION>(), 32);
    }
}
