//! Packets that the client wants to see before the framework does: EvtDeviceWdmIrpPreprocess, and how they come back from there.
#![allow(unsafe_code)] // reads the minor functions that the client names

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use super::super::object::{self, Object, expect_kind};
use super::super::queue::{self, Queue};
use super::super::request::{self, Owner, Purpose};
use super::super::types::HANDLE;
use super::{Device, DeviceInit, complete, dispatch_now, init, is_transfer, within_critical_region};
use crate::guard::{callout, violate};
use crate::nt::irp;
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_PENDING,
    STATUS_SUCCESS,
};
use crate::nt::types::{DISPATCH_LEVEL, IRP, IRP_MJ_MAXIMUM_FUNCTION, NTSTATUS};
use crate::thread::kernel;
use crate::violation::Rule;

type Preprocess = extern "win64" fn(HANDLE, *mut IRP) -> NTSTATUS;

/// WDF_DISPATCH_IRP_TO_IO_QUEUE_FLAGS.
const INVOKE_IN_CALLER_CONTEXT: u32 = 1;
const PREPROCESSED: u32 = 2;

/// The callbacks by major function, with the minor functions that they are for: all where none is named.
#[derive(Clone, Default)]
pub(super) struct Callbacks(BTreeMap<u8, (Preprocess, Vec<u8>)>);

impl Callbacks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The callback that is to see a packet.
    pub(super) fn for_packet(&self, irp: &IRP) -> Option<Preprocess> {
        let (major, minor) = (irp.current().MajorFunction.get(), irp.current().MinorFunction.get());
        let (callback, minors) = self.0.get(&major)?;
        (minors.is_empty() || minors.contains(&minor)).then_some(*callback)
    }
}

/// Hands the client a packet, which is its own until it gives it back.
pub(super) fn preprocess(object: &Arc<Object>, callback: Preprocess, irp: &IRP) -> NTSTATUS {
    callout("EvtDeviceWdmIrpPreprocess", || callback(object.handle, irp.as_ptr()))
}

pub(crate) extern "win64" fn WdfDeviceInitAssignWdmIrpPreprocessCallback(
    _globals: usize,
    pointer: *mut DeviceInit,
    callback: Option<Preprocess>,
    major: u8,
    minors: *const u8,
    count: u32,
) -> NTSTATUS {
    called("WdfDeviceInitAssignWdmIrpPreprocessCallback", DISPATCH_LEVEL);
    let init = init(pointer);
    let Some(callback) = callback else {
        violate(Rule::Framework, "WdfDeviceInitAssignWdmIrpPreprocessCallback: there is no callback")
    };
    if major > IRP_MJ_MAXIMUM_FUNCTION {
        return STATUS_INVALID_PARAMETER;
    }
    if kernel().faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let known = init.preprocess.0.entry(major).or_insert((callback, Vec::new()));
    if count != 0 {
        if !known.1.is_empty() {
            return STATUS_INVALID_DEVICE_REQUEST;
        }
        // SAFETY: the client names so many minor functions; a bad range faults, which the guard reports.
        known.1 = unsafe { slice::from_raw_parts(minors, count as usize) }.to_vec();
    }
    known.0 = callback;
    STATUS_SUCCESS
}

/// Goes on to the packet's next location, as IoCallDriver does: the client has set it up or skipped its own.
fn advance(irp: &IRP) {
    let next = irp.CurrentLocation.get() - 1;
    if next < 1 {
        violate(Rule::Framework, "the packet has no next location: it was neither skipped nor copied");
    }
    irp.CurrentLocation.set(next);
    irp.CurrentStackLocation.set(irp.location_address(next));
}

pub(crate) extern "win64" fn WdfDeviceWdmDispatchPreprocessedIrp(
    _globals: usize,
    handle: HANDLE,
    packet: *mut IRP,
) -> NTSTATUS {
    called("WdfDeviceWdmDispatchPreprocessedIrp", DISPATCH_LEVEL);
    let object = object::find(handle);
    let device: &Device = expect_kind!(object, Device);
    let irp = irp::at(packet);
    advance(irp);
    dispatch_now(&object, device, irp)
}

/// Puts a packet into a queue of the client's choice.
pub(crate) extern "win64" fn WdfDeviceWdmDispatchIrpToIoQueue(
    _globals: usize,
    handle: HANDLE,
    packet: *mut IRP,
    queue: HANDLE,
    flags: u32,
) -> NTSTATUS {
    called("WdfDeviceWdmDispatchIrpToIoQueue", DISPATCH_LEVEL);
    let (object, queue) = (object::find(handle), object::find(queue));
    let device: &Device = expect_kind!(object, Device);
    let taken: &Queue = expect_kind!(queue, Queue);
    let irp = irp::at(packet);
    if flags & PREPROCESSED != 0 {
        advance(irp);
    }
    let major = irp.current().MajorFunction.get();
    let unknown = flags & !(INVOKE_IN_CALLER_CONTEXT | PREPROCESSED) != 0;
    if unknown || !is_transfer(major) || !taken.takes(major) || queue.parent != handle {
        irp.IoStatus.Information.set(0);
        return complete(irp, STATUS_INVALID_PARAMETER);
    }
    irp.mark_pending();
    within_critical_region(|| match request::create(&object, irp, Purpose::Io) {
        Err(status) => {
            complete(irp, status);
        }
        Ok(request) => match device.in_caller_context.filter(|_| flags & INVOKE_IN_CALLER_CONTEXT != 0) {
            Some(callback) => {
                let data: &request::Request = expect_kind!(request, Request);
                data.aim(queue.handle);
                data.set_owner(Owner::DriverInCallerContext);
                callout("EvtIoInCallerContext", || callback(object.handle, request.handle));
            }
            None => queue::deliver(&queue, &request),
        },
    });
    STATUS_PENDING
}
