//! Device interfaces: names for devices of a class, as links to their PDOs that come and go with them.
#![allow(unsafe_code)] // reads GUIDs

use std::ptr;

use crate::guard::violate;
use crate::image::Export;
use crate::kernel::Kernel;
use crate::nt::irql::called;
use crate::nt::pool::{self, Owner};
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_OBJECT_NAME_EXISTS,
    STATUS_OBJECT_NAME_NOT_FOUND, STATUS_SUCCESS,
};
use crate::nt::strings::text;
use crate::nt::types::{DEVICE_OBJECT, DO_BUS_ENUMERATED_DEVICE, GUID, NTSTATUS, PASSIVE_LEVEL, UNICODE_STRING};
use crate::thread::current;
use crate::violation::Rule;

/// A registered interface.
pub(super) struct Interface {
    class: GUID,
    /// The link's name as the driver got it.
    link: String,
    pdo: usize,
    enabled: bool,
}

/// The paths of a class's enabled interfaces, as CM_Get_Device_Interface_List gives them to programs.
pub(crate) fn enabled(kernel: &Kernel, class: &GUID) -> Vec<String> {
    enabled_links(kernel, class).iter().map(|link| link.replacen(r"\??\", r"\\?\", 1)).collect()
}

/// The same as drivers know them.
pub(super) fn enabled_links(kernel: &Kernel, class: &GUID) -> Vec<String> {
    let state = kernel.io.state.lock();
    let of_class = state.interfaces.iter().filter(|interface| interface.enabled && interface.class == *class);
    of_class.map(|interface| interface.link.clone()).collect()
}

pub(crate) extern "win64" fn IoRegisterDeviceInterface(
    physical: &DEVICE_OBJECT,
    class: &GUID,
    reference: Option<&UNICODE_STRING>,
    link: &UNICODE_STRING,
) -> NTSTATUS {
    let kernel = &called("IoRegisterDeviceInterface", PASSIVE_LEVEL).kernel;
    if physical.Flags.get() & DO_BUS_ENUMERATED_DEVICE == 0 {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    let pdo = ptr::from_ref(physical) as usize;
    let instance = kernel.io.state.lock().devices.get(&pdo).and_then(|record| record.name.clone()).unwrap_or_default();
    let instance = instance.rsplit('\\').next().unwrap_or_default().to_owned();
    let mut name = format!(r"\??\ROOT#{instance}#0000#{class}");
    if let Some(reference) = reference.map(text).filter(|reference| !reference.is_empty()) {
        name = format!(r"{name}\{reference}");
    }
    let units: Vec<u16> = name.encode_utf16().chain([0]).collect();
    if kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let Some(block) = kernel.pool.allocate(units.len() * 2, pool::tag(*b"Strg"), Owner::Driver, true) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: the block has room for the units.
    unsafe { ptr::copy_nonoverlapping(units.as_ptr(), block.cast(), units.len()) };
    link.Buffer.set(block.cast());
    link.Length.set(units.len() as u16 * 2 - 2);
    link.MaximumLength.set(units.len() as u16 * 2);
    let mut state = kernel.io.state.lock();
    if !state.interfaces.iter().any(|known| known.link == name) {
        state.interfaces.push(Interface { class: *class, link: name, pdo, enabled: false });
    }
    STATUS_SUCCESS
}

/// The link of an interface with a reference string is that of the device: what follows its name goes to the driver.
fn link_of(name: &str) -> String {
    let bare = name.trim_start_matches(r"\??\");
    bare.split('\\').next().unwrap_or(bare).to_lowercase()
}

pub(crate) extern "win64" fn IoSetDeviceInterfaceState(link: &UNICODE_STRING, enable: u8) -> NTSTATUS {
    let kernel = &called("IoSetDeviceInterfaceState", PASSIVE_LEVEL).kernel;
    let (name, enable) = (text(link), enable != 0);
    let mut guard = kernel.io.state.lock();
    let state = &mut *guard;
    let Some(interface) = state.interfaces.iter_mut().find(|known| known.link == name) else {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    };
    if interface.enabled == enable {
        return if enable { STATUS_OBJECT_NAME_EXISTS } else { STATUS_OBJECT_NAME_NOT_FOUND };
    }
    interface.enabled = enable;
    let (class, pdo, link) = (interface.class, interface.pdo, link_of(&name));
    let others = state.interfaces.iter().any(|known| known.enabled && link_of(&known.link) == link);
    if others {
        let target = state.devices.get(&pdo).and_then(|record| record.name.clone()).unwrap_or_default();
        state.links.insert(link, target);
    } else {
        state.links.remove(&link);
    }
    drop(guard);
    super::notification::interface_changed(class, &name, enable);
    STATUS_SUCCESS
}

/// A device has been removed: its interfaces must have been disabled.
pub(super) fn forget(kernel: &Kernel, pdo: usize) {
    let left = {
        let mut state = kernel.io.state.lock();
        let left =
            state.interfaces.iter().find(|known| known.pdo == pdo && known.enabled).map(|known| known.link.clone());
        state.interfaces.retain(|known| known.pdo != pdo);
        left
    };
    if let Some(link) = left {
        violate(Rule::Io, format!("the device was removed, and its interface {link} is still enabled"));
    }
}

pub(crate) extern "win64" fn IoGetDeviceInterfaces(
    class: &GUID,
    physical: *mut DEVICE_OBJECT,
    flags: u32,
    list: &std::cell::Cell<*mut u16>,
) -> NTSTATUS {
    /// DEVICE_INTERFACE_INCLUDE_NONACTIVE.
    const INCLUDE_NONACTIVE: u32 = 1;
    called("IoGetDeviceInterfaces", PASSIVE_LEVEL);
    let kernel = &current().kernel;
    let names: Vec<u16> = {
        let state = kernel.io.state.lock();
        let wanted = |known: &&Interface| {
            known.class == *class
                && (physical.is_null() || known.pdo == physical as usize)
                && (known.enabled || flags & INCLUDE_NONACTIVE != 0)
        };
        let links = state.interfaces.iter().filter(wanted);
        links.flat_map(|known| known.link.encode_utf16().chain([0]).collect::<Vec<_>>()).chain([0]).collect()
    };
    if kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let Some(block) = kernel.pool.allocate(names.len() * 2, pool::tag(*b"Strg"), Owner::Driver, true) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: the block has room for the names.
    unsafe { ptr::copy_nonoverlapping(names.as_ptr(), block.cast(), names.len()) };
    list.set(block.cast());
    STATUS_SUCCESS
}

pub(in crate::nt) const EXPORTS: &[(&str, Export)] =
    crate::nt::exports![IoRegisterDeviceInterface, IoSetDeviceInterfaceState, IoGetDeviceInterfaces,];
