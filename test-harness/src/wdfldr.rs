//! WDFLDR.SYS: binds clients of KMDF to the framework. It is the border between the two layers of the simulated kernel, and the one place
//! that knows which framework a machine has: the one of this crate, or Microsoft's `Wdf01000.sys`
//! ([`Builder::kmdf`](crate::Builder::kmdf)), loaded when the first client comes.
//!
//! The structures are those of the loader's interface (fxldr.h of the published KMDF source; x64).
#![allow(unsafe_code)] // reads and fills variables of clients and of the framework's image, and calls it by address
#![allow(non_snake_case, non_camel_case_types)] // the headers' own names

use std::collections::HashSet;
use std::ffi::c_void;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::guard::{callout, escape, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::kmdf::{register_client, unregister_client};
use crate::nt::io::driver::{self, Failure, Source};
use crate::nt::irql::called;
use crate::nt::pool::{Owner, tag_name};
use crate::nt::status::{
    STATUS_INVALID_PARAMETER, STATUS_OBJECT_NAME_NOT_FOUND, STATUS_REVISION_MISMATCH, STATUS_SUCCESS, nt_success,
};
use crate::nt::types::{DRIVER_OBJECT, NTSTATUS, PASSIVE_LEVEL, UNICODE_STRING};
use crate::violation::Rule;

#[repr(C)]
pub(crate) struct WDF_BIND_INFO2 {
    pub(crate) Size: u32,
    pub(crate) Component: *const u16,
    pub(crate) Version: [u32; 3],
    pub(crate) FuncCount: u32,
    pub(crate) FuncTable: *mut *const usize,
    pub(crate) Module: *mut c_void,
    pub(crate) MinimumVersionRequired: *const u32,
    pub(crate) ClientVersionHigherThanFramework: *mut u8,
    pub(crate) FuncCountPtr: *mut u32,
    pub(crate) StructCountPtr: *mut u32,
    pub(crate) StructTable: *mut c_void,
}

#[repr(C)]
pub(crate) struct WDF_DRIVER_GLOBALS {
    /// WDFDRIVER.
    pub(crate) Driver: usize,
    pub(crate) DriverFlags: u32,
    pub(crate) DriverTag: u32,
    pub(crate) DriverName: [u8; 32],
    pub(crate) DisplaceDriverUnload: u8,
}

/// `WDF_BIND_INFO`, before KMDF 1.25.
const BIND_INFO_SIZE: u32 = 48;
/// The newest minor version of KMDF that the framework of this crate has the functions of.
const NEWEST_MINOR: u32 = 33;
/// The service of every KMDF 1.x.
const RUNTIME: &str = "Wdf01000";

/// A framework, as its image registers it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct WDF_LIBRARY_INFO {
    Size: u32,
    LibraryCommission: extern "win64" fn() -> NTSTATUS,
    LibraryDecommission: extern "win64" fn() -> NTSTATUS,
    LibraryRegisterClient:
        extern "win64" fn(*const WDF_BIND_INFO2, *mut *mut WDF_DRIVER_GLOBALS, *mut *mut c_void) -> NTSTATUS,
    LibraryUnregisterClient: extern "win64" fn(*const WDF_BIND_INFO2, *mut WDF_DRIVER_GLOBALS) -> NTSTATUS,
    Version: [u32; 3],
}

/// What a framework is told of a client beside its bind information.
#[repr(C)]
struct CLIENT_INFO {
    Size: u32,
    RegistryPath: *const UNICODE_STRING,
    DriverObject: *mut DRIVER_OBJECT,
}

/// The loader's state on one machine.
#[derive(Default)]
struct Loader {
    /// Microsoft's framework, once it has been loaded.
    library: Mutex<Option<WDF_LIBRARY_INFO>>,
    /// The globals of its clients.
    clients: Mutex<HashSet<usize>>,
    /// Pool blocks that it had before its first client came.
    at_rest: AtomicUsize,
}

/// Whether a client may be bound to a framework of these versions (major, minor): it may be newer, if it says that it can do with less.
fn fits(info: &WDF_BIND_INFO2, [major, minor]: [u32; 2]) -> bool {
    let [client_major, client_minor, _] = info.Version;
    let least = if info.Size as usize >= size_of::<WDF_BIND_INFO2>() && !info.MinimumVersionRequired.is_null() {
        // SAFETY: a variable of the client's image; a bad pointer faults, which the guard reports.
        unsafe { info.MinimumVersionRequired.read() }
    } else {
        client_minor
    };
    client_major == major && least <= minor
}

/// Loads Microsoft's framework, whose entry point calls [`WdfRegisterLibrary`].
fn load(kernel: &Kernel, loader: &Loader, path: &Path) -> Result<WDF_LIBRARY_INFO, NTSTATUS> {
    if let Some(library) = *loader.library.lock() {
        return Ok(library);
    }
    match driver::load(kernel, &Source::System(path.to_owned()), RUNTIME) {
        Ok(_) => {}
        Err(Failure::Image(error)) => violate(Rule::Framework, format!("{} cannot be loaded: {error}", path.display())),
        Err(Failure::Status(status) | Failure::Entry(status)) => return Err(status),
    }
    let library = *loader.library.lock();
    library.ok_or_else(|| violate(Rule::Framework, format!("{} registers no framework", path.display())))
}

/// Ends Microsoft's framework's work for clients, the last of which has gone. What it still keeps is a leak of theirs.
fn decommission(kernel: &Kernel, loader: &Loader, library: &WDF_LIBRARY_INFO) {
    callout("LibraryDecommission of the framework", || (library.LibraryDecommission)());
    let left = kernel.pool.live(Owner::System);
    if left.len() > loader.at_rest.load(Ordering::Acquire)
        && let Some(last) = left.last()
    {
        let text = format!("the framework keeps {} pool blocks, the last with tag {}", left.len(), tag_name(last.tag));
        kernel.report_at(Rule::Leak, text, "WdfVersionUnbind", &last.site.clone());
        escape();
    }
}

/// Binds a client to Microsoft's framework.
fn bind_to_library(
    kernel: &Kernel,
    path: &Path,
    client: &mut CLIENT_INFO,
    info: &WDF_BIND_INFO2,
) -> Result<*mut WDF_DRIVER_GLOBALS, NTSTATUS> {
    let loader = kernel.extension::<Loader>();
    let library = load(kernel, &loader, path)?;
    let [major, minor, _] = library.Version;
    if !fits(info, [major, minor]) {
        return Err(STATUS_REVISION_MISMATCH);
    }
    let succeed = |status| if nt_success(status) { Ok(()) } else { Err(status) };
    if loader.clients.lock().is_empty() {
        loader.at_rest.store(kernel.pool.live(Owner::System).len(), Ordering::Release);
        succeed(callout("LibraryCommission of the framework", || (library.LibraryCommission)()))?;
    }
    let mut globals = ptr::null_mut();
    let mut context = ptr::from_mut(client).cast::<c_void>();
    let registered = callout("LibraryRegisterClient of the framework", || {
        (library.LibraryRegisterClient)(info, &raw mut globals, &raw mut context)
    });
    if nt_success(registered) {
        loader.clients.lock().insert(globals as usize);
        return Ok(globals);
    }
    if loader.clients.lock().is_empty() {
        decommission(kernel, &loader, &library);
    }
    Err(registered)
}

/// Binds a client to the framework of this crate.
fn bind_to_ours(client: &CLIENT_INFO, info: &WDF_BIND_INFO2) -> Result<*mut WDF_DRIVER_GLOBALS, NTSTATUS> {
    if !fits(info, [1, NEWEST_MINOR]) {
        return Err(STATUS_REVISION_MISMATCH);
    }
    // SAFETY: the service's key, which the client's entry stub passes on; a bad pointer faults, which the guard reports.
    let registry_path = unsafe { &*client.RegistryPath };
    let globals = register_client(client.DriverObject, registry_path, info)?;
    if info.Size as usize >= size_of::<WDF_BIND_INFO2>() {
        if !info.ClientVersionHigherThanFramework.is_null() {
            // SAFETY: a variable of the client's image, as its bind information says.
            unsafe { info.ClientVersionHigherThanFramework.write(u8::from(info.Version[1] > NEWEST_MINOR)) };
        }
        if !info.FuncCountPtr.is_null() {
            // SAFETY: as above.
            unsafe { info.FuncCountPtr.write(info.FuncCount) };
        }
        if !info.StructCountPtr.is_null() {
            // SAFETY: as above.
            unsafe { info.StructCountPtr.write(0) };
        }
    }
    Ok(globals)
}

pub(crate) extern "win64" fn WdfVersionBind(
    driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
    info: &WDF_BIND_INFO2,
    globals: *mut *mut WDF_DRIVER_GLOBALS,
) -> NTSTATUS {
    let kernel = &called("WdfVersionBind", PASSIVE_LEVEL).kernel;
    // Of the older form, which is a beginning of the newer one, nothing else is read.
    if info.Size < BIND_INFO_SIZE || info.FuncTable.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    let mut client =
        CLIENT_INFO { Size: size_of::<CLIENT_INFO>() as u32, RegistryPath: registry_path, DriverObject: driver };
    let bound = match &kernel.options.kmdf {
        Some(path) => bind_to_library(kernel, path, &mut client, info),
        None => bind_to_ours(&client, info),
    };
    match bound {
        Ok(bound) => {
            // SAFETY: a variable of the client's image, which its entry stub names; a bad pointer faults.
            unsafe { globals.write(bound) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

pub(crate) extern "win64" fn WdfVersionUnbind(
    _registry_path: *const UNICODE_STRING,
    info: *const WDF_BIND_INFO2,
    globals: *mut WDF_DRIVER_GLOBALS,
) -> NTSTATUS {
    let kernel = &called("WdfVersionUnbind", PASSIVE_LEVEL).kernel;
    let loader = kernel.extension::<Loader>();
    let library = *loader.library.lock();
    match library {
        None => {
            unregister_client(globals as usize);
            STATUS_SUCCESS
        }
        Some(library) => {
            if !loader.clients.lock().remove(&(globals as usize)) {
                violate(Rule::Framework, format!("{globals:p} are no driver's globals: the client is not bound"));
            }
            let status = callout("LibraryUnregisterClient of the framework", || {
                (library.LibraryUnregisterClient)(info, globals)
            });
            if loader.clients.lock().is_empty() {
                decommission(kernel, &loader, &library);
            }
            status
        }
    }
}

/// Called by the entry point of Microsoft's framework.
pub(crate) extern "win64" fn WdfRegisterLibrary(
    info: &WDF_LIBRARY_INFO,
    _service_path: *const UNICODE_STRING,
    _device_name: *const UNICODE_STRING,
) -> NTSTATUS {
    let kernel = &called("WdfRegisterLibrary", PASSIVE_LEVEL).kernel;
    if (info.Size as usize) < size_of::<WDF_LIBRARY_INFO>() {
        return STATUS_INVALID_PARAMETER;
    }
    *kernel.extension::<Loader>().library.lock() = Some(*info);
    STATUS_SUCCESS
}

/// Nobody has asked for diagnostics of the loader.
pub(crate) extern "win64" fn WdfLdrDiagnosticsValueByNameAsULONG(
    _name: *const UNICODE_STRING,
    _value: *mut u32,
) -> NTSTATUS {
    called("WdfLdrDiagnosticsValueByNameAsULONG", PASSIVE_LEVEL);
    STATUS_OBJECT_NAME_NOT_FOUND
}

const EXPORTS: &[(&str, Export)] =
    crate::nt::exports![WdfVersionBind, WdfVersionUnbind, WdfRegisterLibrary, WdfLdrDiagnosticsValueByNameAsULONG];

/// What WDFLDR.SYS exports.
#[cfg(test)]
pub(crate) fn exports() -> &'static [(&'static str, Export)] {
    EXPORTS
}

/// An export of WDFLDR.SYS.
pub(crate) fn find(name: &str) -> Option<Export> {
    EXPORTS.iter().find(|(known, _)| *known == name).map(|(_, export)| *export)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_loaders() {
        assert_eq!(size_of::<WDF_BIND_INFO2>(), 88);
        assert_eq!(size_of::<WDF_LIBRARY_INFO>(), 56);
        assert_eq!(size_of::<CLIENT_INFO>(), 24);
    }
}
