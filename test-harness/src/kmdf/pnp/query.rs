//! Interfaces that drivers of a stack give each other by IRP_MN_QUERY_INTERFACE, and packets of the framework's own that ask a stack.
#![allow(unsafe_code)] // reads and fills structures of clients and of those who ask

use std::ptr;
use std::sync::Arc;

use super::super::object::{self, Object};
use super::super::target;
use super::super::types::{HANDLE, INTERFACE, WDF_QUERY_INTERFACE_CONFIG};
use super::{Pnp, complete, pass_and_wait, pass_on, passed, pnp_of};
use crate::guard::{callout, violate};
use crate::nt::dispatcher::{KeInitializeEvent, KeWaitForSingleObject};
use crate::nt::io::device as device_object;
use crate::nt::io::device::IoGetAttachedDeviceReference;
use crate::nt::io::pnp::IRP_MN_QUERY_INTERFACE;
use crate::nt::irp::{self, IoAllocateIrp, IoFreeIrp, IofCallDriver, set_completion_routine};
use crate::nt::irql::called;
use crate::nt::object::ObfDereferenceObject;
use crate::nt::status::{
    STATUS_INFO_LENGTH_MISMATCH, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER, STATUS_NOT_SUPPORTED, STATUS_PENDING, STATUS_SUCCESS, nt_success,
};
use crate::nt::types::{
    DEVICE_OBJECT, GUID, IRP, IRP_MJ_PNP, KEVENT, NTSTATUS, PASSIVE_LEVEL, PVOID, SL_INVOKE_ON_CANCEL,
    SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, Zeroed,
};
use crate::thread::kernel;
use crate::violation::Rule;

type Process = extern "win64" fn(HANDLE, *const GUID, *mut INTERFACE, PVOID) -> NTSTATUS;

/// An interface that the client gives to those who ask for it.
pub(super) struct Given {
    kind: GUID,
    /// Its INTERFACE, and what else it has; none of one that the client's callback fills.
    content: Option<Vec<u8>>,
    /// The callback copies the content, having read what was passed.
    imports: bool,
    process: Option<Process>,
}

impl Given {
    fn header(content: &[u8]) -> INTERFACE {
        // SAFETY: a content is not shorter than its header, and copied byte by byte.
        unsafe { content.as_ptr().cast::<INTERFACE>().read_unaligned() }
    }
}

/// IRP_MN_QUERY_INTERFACE's parameters.
struct Asked {
    kind: *const GUID,
    size: u16,
    version: u16,
    interface: *mut INTERFACE,
    data: PVOID,
}

impl Asked {
    fn of(irp: &IRP) -> Self {
        let [kind, sizes, interface, data] = &irp.current().Parameters.Argument;
        let sizes = sizes.get();
        Self {
            kind: kind.get() as *const GUID,
            size: (sizes & 0xffff) as u16,
            version: (sizes >> 16 & 0xffff) as u16,
            interface: interface.get() as *mut INTERFACE,
            data: data.get() as PVOID,
        }
    }

    fn arguments(&self) -> [usize; 4] {
        let sizes = usize::from(self.size) | usize::from(self.version) << 16;
        [self.kind as usize, sizes, self.interface as usize, self.data as usize]
    }
}

/// Answers with the interface of the client that is asked for, if it has one that fits.
fn expose(pnp: &Pnp, asked: &Asked) -> Option<Arc<Given>> {
    let given = pnp.given.lock();
    // SAFETY: a parameter of the packet's; a bad pointer faults, which the guard reports.
    let kind = unsafe { *asked.kind };
    let found = given.iter().find(|given| given.kind == kind)?;
    if let Some(content) = &found.content {
        let header = Given::header(content);
        if header.Size > asked.size || header.Version > asked.version {
            return None;
        }
        if !found.imports {
            // SAFETY: whoever asks gives as many bytes as it says; a bad range faults.
            unsafe { ptr::copy_nonoverlapping(content.as_ptr(), asked.interface.cast(), content.len()) };
        }
    }
    Some(found.clone())
}

/// IRP_MN_QUERY_INTERFACE: lower drivers see the interface that this one gives before it goes out.
pub(super) fn answer(object: &Arc<Object>, pnp: &Pnp, irp: &IRP) -> NTSTATUS {
    let asked = Asked::of(irp);
    let Some(given) = expose(pnp, &asked) else { return pass_on(pnp, irp) };
    let mut status = STATUS_SUCCESS;
    if let Some(process) = given.process {
        status = callout("EvtDeviceProcessQueryInterfaceRequest", || {
            process(object.handle, asked.kind, asked.interface, asked.data)
        });
        // STATUS_NOT_SUPPORTED is for the lower drivers to change.
        if !nt_success(status) && status != STATUS_NOT_SUPPORTED {
            return end(irp, status);
        }
    }
    // SAFETY: whoever asks gives an INTERFACE; a bad pointer faults, which the guard reports.
    let exposed = unsafe { asked.interface.read_unaligned() };
    if let Some(reference) = exposed.InterfaceReference {
        callout("InterfaceReference", || reference(exposed.Context));
    }
    irp.IoStatus.Status.set(status);
    let status = pass_and_wait(pnp, irp);
    end(irp, status)
}

fn end(irp: &IRP, status: NTSTATUS) -> NTSTATUS {
    irp.IoStatus.Information.set(0);
    complete(irp, status)
}

extern "win64" fn no_reference(_context: PVOID) {}

/// What a client's configuration asks for.
fn given_by(config: &WDF_QUERY_INTERFACE_CONFIG) -> Result<Given, NTSTATUS> {
    if config.Size as usize != size_of::<WDF_QUERY_INTERFACE_CONFIG>() {
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    let imports = config.ImportInterface != 0;
    let is_whole = !config.Interface.is_null() || imports;
    // Only a PDO's driver sends queries on to the stack of its parent.
    if config.SendQueryToParentStack != 0
        || !is_whole
        || imports && config.EvtDeviceProcessQueryInterfaceRequest.is_none()
    {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let content = if config.Interface.is_null() { None } else { Some(content_of(config.Interface)?) };
    // SAFETY: the client's GUID; a bad pointer faults, which the guard reports.
    let kind = unsafe { *config.InterfaceType };
    Ok(Given { kind, content, imports, process: config.EvtDeviceProcessQueryInterfaceRequest })
}

/// A copy of an interface, with routines that count its references, if only in name.
fn content_of(interface: *const INTERFACE) -> Result<Vec<u8>, NTSTATUS> {
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let mut header = unsafe { interface.read_unaligned() };
    let size = usize::from(header.Size);
    if size < size_of::<INTERFACE>() {
        return Err(STATUS_INVALID_PARAMETER);
    }
    if kernel().faults.allocation_fails() {
        return Err(STATUS_INSUFFICIENT_RESOURCES);
    }
    // SAFETY: it is as large as it says; a bad range faults.
    let mut content = unsafe { std::slice::from_raw_parts(interface.cast::<u8>(), size) }.to_vec();
    header.InterfaceReference = header.InterfaceReference.or(Some(no_reference));
    header.InterfaceDereference = header.InterfaceDereference.or(Some(no_reference));
    // SAFETY: the copy is not shorter than its header.
    unsafe { content.as_mut_ptr().cast::<INTERFACE>().write_unaligned(header) };
    Ok(content)
}

pub(crate) extern "win64" fn WdfDeviceAddQueryInterface(
    _globals: usize,
    handle: HANDLE,
    config: &WDF_QUERY_INTERFACE_CONFIG,
) -> NTSTATUS {
    called("WdfDeviceAddQueryInterface", PASSIVE_LEVEL);
    let object = object::find(handle);
    let Some(pnp) = pnp_of(&object) else { return STATUS_INVALID_DEVICE_REQUEST };
    match given_by(config) {
        Ok(given) => {
            pnp.given.lock().push(Arc::new(given));
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// Asks a stack from its top, and waits for the answer: status and Information.
///
/// # Errors
/// STATUS_INSUFFICIENT_RESOURCES: there is no memory for the packet.
pub(in crate::kmdf) fn ask(
    device: *mut DEVICE_OBJECT,
    minor: u8,
    arguments: [usize; 4],
) -> Result<(NTSTATUS, usize), NTSTATUS> {
    let top = IoGetAttachedDeviceReference(device_object(device));
    let made = IoAllocateIrp(device_object(top).StackSize.get(), 0);
    let answer = if made.is_null() {
        Err(STATUS_INSUFFICIENT_RESOURCES)
    } else {
        let irp = irp::at(made);
        irp.IoStatus.Status.set(STATUS_NOT_SUPPORTED);
        let location = irp.next();
        location.MajorFunction.set(IRP_MJ_PNP);
        location.MinorFunction.set(minor);
        for (to, argument) in location.Parameters.Argument.iter().zip(arguments) {
            to.set(argument);
        }
        let done = KEVENT::zeroed();
        KeInitializeEvent(&done, 0, 0);
        let always = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
        set_completion_routine(irp, passed, ptr::from_ref(&done).cast_mut().cast(), always);
        if IofCallDriver(device_object(top), irp) == STATUS_PENDING {
            KeWaitForSingleObject(&done.Header, 0, 0, 0, None);
        }
        let answer = (irp.IoStatus.Status.get(), irp.IoStatus.Information.get());
        IoFreeIrp(irp);
        Ok(answer)
    };
    ObfDereferenceObject(top.cast());
    answer
}

fn query(device: *mut DEVICE_OBJECT, asked: &Asked) -> NTSTATUS {
    ask(device, IRP_MN_QUERY_INTERFACE, asked.arguments()).map_or_else(|status| status, |(status, _)| status)
}

pub(crate) extern "win64" fn WdfFdoQueryForInterface(
    _globals: usize,
    handle: HANDLE,
    kind: *const GUID,
    interface: *mut INTERFACE,
    size: u16,
    version: u16,
    data: PVOID,
) -> NTSTATUS {
    called("WdfFdoQueryForInterface", PASSIVE_LEVEL);
    let object = object::find(handle);
    match pnp_of(&object) {
        Some(pnp) => query(pnp.own(), &Asked { kind, size, version, interface, data }),
        None => STATUS_INVALID_PARAMETER,
    }
}

pub(crate) extern "win64" fn WdfIoTargetQueryForInterface(
    _globals: usize,
    handle: HANDLE,
    kind: *const GUID,
    interface: *mut INTERFACE,
    size: u16,
    version: u16,
    data: PVOID,
) -> NTSTATUS {
    called("WdfIoTargetQueryForInterface", PASSIVE_LEVEL);
    let object = object::find(handle);
    match target::way_of(&object) {
        Some(device) => query(device, &Asked { kind, size, version, interface, data }),
        None => violate(Rule::Framework, "WdfIoTargetQueryForInterface: the target is not open"),
    }
}
