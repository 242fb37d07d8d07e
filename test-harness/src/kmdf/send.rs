//! Requests on their way to a target: how they are sent, cancelled, and come back.
#![allow(unsafe_code)] // writes the client's out parameters, and finds requests by their contexts

use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::bind::client;
use super::format::{Formatted, NO_FORMAT, Part, Work, format, offset_at, packet, status_of, unformat};
use super::object::{self, Attributes, Kind, Object, expect_kind};
use super::request::{self, Request};
use super::target::{Admission, Target};
use super::types::{
    HANDLE, WDF_MEMORY_DESCRIPTOR, WDF_OBJECT_ATTRIBUTES, WDF_REQUEST_COMPLETION_PARAMS, WDF_REQUEST_REUSE_PARAMS,
    WDF_REQUEST_SEND_OPTIONS,
};
use crate::guard::{callout, violate};
use crate::nt::dispatcher::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use crate::nt::dpc::{KeFlushQueuedDpcs, KeInitializeDpc};
use crate::nt::io::device as device_object;
use crate::nt::irp::{IoCancelIrp, IoFreeIrp, IoReuseIrp, IofCallDriver, set_completion_routine};
use crate::nt::irql::{KeEnterCriticalRegion, KeLeaveCriticalRegion, called};
use crate::nt::status::{
    STATUS_CANCELLED, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_DEVICE_STATE, STATUS_IO_TIMEOUT,
    STATUS_MORE_PROCESSING_REQUIRED, STATUS_SUCCESS, STATUS_TIMEOUT, nt_success,
};
use crate::nt::timer::{KeCancelTimer, KeInitializeTimer, KeSetTimer};
use crate::nt::types::{
    DEVICE_OBJECT, DISPATCH_LEVEL, IRP, IRP_MJ_DEVICE_CONTROL, IRP_MJ_INTERNAL_DEVICE_CONTROL, KDPC, KEVENT, KTIMER,
    NTSTATUS, PASSIVE_LEVEL, PVOID, SL_INVOKE_ON_CANCEL, SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, Zeroed,
};
use crate::thread::current;
use crate::violation::Rule;

type CompletionRoutine = extern "win64" fn(HANDLE, HANDLE, *const WDF_REQUEST_COMPLETION_PARAMS, usize);

/// WDF_REQUEST_SEND_OPTIONS.Flags.
const TIMEOUT: u32 = 1;
const SYNCHRONOUS: u32 = 2;
const IGNORE_TARGET_STATE: u32 = 4;
const SEND_AND_FORGET: u32 = 8;

/// A timer that cancels a request.
struct Deadline {
    timer: KTIMER,
    dpc: KDPC,
}

#[derive(Default)]
pub(super) struct State {
    routine: Option<(CompletionRoutine, usize)>,
    pub(super) formatted: Option<Formatted>,
    /// The target that it was sent to, until it has come back.
    target: Option<Arc<Object>>,
    /// Whom WdfRequestSend with WDF_REQUEST_SEND_OPTION_SYNCHRONOUS waits by.
    waiter: usize,
    deadline: Option<Box<Deadline>>,
    timed_out: bool,
    parameters: WDF_REQUEST_COMPLETION_PARAMS,
}

/// A request's way to targets.
#[derive(Default)]
pub(super) struct Sending(pub(super) Mutex<State>);

// SAFETY: what the state points to is the kernel's and the client's own, which stays until the request has come back.
unsafe impl Send for Sending {}
// SAFETY: as above.
unsafe impl Sync for Sending {}

pub(super) fn request_of(object: &Object) -> &Request {
    expect_kind!(object, Request)
}

pub(super) fn target_of(object: &Object) -> &Target {
    expect_kind!(object, Target)
}

pub(crate) extern "win64" fn WdfRequestSetCompletionRoutine(
    _globals: usize,
    handle: HANDLE,
    routine: Option<CompletionRoutine>,
    context: usize,
) {
    called("WdfRequestSetCompletionRoutine", DISPATCH_LEVEL);
    let object = object::find(handle);
    request_of(&object).sending.0.lock().routine = routine.map(|routine| (routine, context));
}

pub(crate) extern "win64" fn WdfRequestGetCompletionParams(
    _globals: usize,
    handle: HANDLE,
    out: *mut WDF_REQUEST_COMPLETION_PARAMS,
) {
    called("WdfRequestGetCompletionParams", DISPATCH_LEVEL);
    let object = object::find(handle);
    let parameters = request_of(&object).sending.0.lock().parameters;
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    unsafe { out.write(parameters) };
}

/// Cancels a request that was sent and has not come back. False if it was not, or has.
pub(super) fn cancel(handle: HANDLE) -> bool {
    let Some(object) = object::try_find(handle) else { return false };
    let Kind::Request(request) = &object.kind else { return false };
    let Some(target) = request.sending.0.lock().target.clone() else { return false };
    if target_of(&target).is_waiting(handle) {
        target_of(&target).leave(handle);
        if let Some(irp) = request.packet() {
            irp.IoStatus.Status.set(STATUS_CANCELLED);
            irp.IoStatus.Information.set(0);
        }
        come_back(&object);
        return true;
    }
    object.reference();
    let cancelled = request.packet().is_some_and(|irp| IoCancelIrp(irp) != 0);
    object.dereference();
    cancelled
}

pub(crate) extern "win64" fn WdfRequestCancelSentRequest(_globals: usize, handle: HANDLE) -> u8 {
    called("WdfRequestCancelSentRequest", DISPATCH_LEVEL);
    let _: &Request = request_of(&object::find(handle));
    u8::from(cancel(handle))
}

/// The completion routine of every packet that the framework sends.
extern "win64" fn completed(_device: *mut DEVICE_OBJECT, _irp: *mut IRP, context: PVOID) -> NTSTATUS {
    if let Some(object) = object::try_find(context as HANDLE) {
        come_back(&object);
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

/// A request has come back from its target: the client is told, or whoever waits for it.
fn come_back(object: &Arc<Object>) {
    let request = request_of(object);
    let Some(irp) = request.packet() else { return };
    let (mut formatted, target, deadline, timed_out) = {
        let mut state = request.sending.0.lock();
        (state.formatted.take(), state.target.take(), state.deadline.take(), state.timed_out)
    };
    if let Some(deadline) = deadline {
        stop(&deadline);
    }
    if timed_out && irp.IoStatus.Status.get() == STATUS_CANCELLED {
        irp.IoStatus.Status.set(STATUS_IO_TIMEOUT);
    }
    let mut parameters = Formatted::bare(NO_FORMAT).parameters(irp);
    if let Some(formatted) = &mut formatted {
        formatted.undo(irp);
        parameters = formatted.parameters(irp);
    }
    let Some(target) = target else { return };
    target_of(&target).leave(object.handle);
    let (routine, waiter) = {
        let mut state = request.sending.0.lock();
        state.parameters = parameters;
        (state.routine.take(), std::mem::take(&mut state.waiter))
    };
    if waiter == 0 {
        if let Some((routine, context)) = routine {
            callout("EvtRequestCompletionRoutine", || {
                routine(object.handle, target.handle, &raw const parameters, context);
            });
        }
    } else {
        request.sending.0.lock().routine = routine;
        // SAFETY: `send_and_wait` waits for the event, which lies in its frame.
        KeSetEvent(unsafe { &*(waiter as *const KEVENT) }, 0, 0);
    }
    drop(formatted);
    object.dereference();
}

fn stop(deadline: &Deadline) {
    // A DPC that has begun looks for the request by its handle, and finds that it is not sent.
    if KeCancelTimer(&deadline.timer) == 0 && current().irql.get() == PASSIVE_LEVEL {
        KeFlushQueuedDpcs();
    }
}

extern "win64" fn deadline_passed(_dpc: *mut KDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    if let Some(object) = object::try_find(context as HANDLE)
        && let Kind::Request(request) = &object.kind
    {
        request.sending.0.lock().timed_out = true;
        cancel(object.handle);
    }
}

fn start_deadline(object: &Arc<Object>, timeout: i64) {
    let deadline = Box::new(Deadline { timer: KTIMER::zeroed(), dpc: KDPC::zeroed() });
    KeInitializeTimer(&deadline.timer);
    KeInitializeDpc(&deadline.dpc, deadline_passed, object.handle as PVOID);
    let mut state = request_of(object).sending.0.lock();
    let deadline = state.deadline.insert(deadline);
    KeSetTimer(&deadline.timer, timeout, ptr::from_ref(&deadline.dpc).cast_mut());
}

/// Hands the packet to the target's device.
fn call(object: &Arc<Object>, device: *mut DEVICE_OBJECT) {
    let irp = request_of(object).irp();
    let always = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
    set_completion_routine(irp, completed, object.handle as PVOID, always);
    IofCallDriver(device_object(device), irp);
}

/// The target has been started: a request that waited for that goes.
pub(super) fn send_waiting(target: &Arc<Object>, handle: HANDLE) {
    let Some(object) = object::try_find(handle) else { return };
    if let Admission::Send(device) = target_of(target).admit(handle, false) {
        call(&object, device);
    }
}

/// Sends a request; its completion routine is called, or `waiter` set, when it has come back.
fn send(
    object: &Arc<Object>,
    target: &Arc<Object>,
    options: WDF_REQUEST_SEND_OPTIONS,
    waiter: usize,
) -> Result<(), NTSTATUS> {
    let request = request_of(object);
    let irp = request.irp();
    {
        let mut state = request.sending.0.lock();
        if state.target.is_some() {
            drop(state);
            violate(Rule::Framework, "WdfRequestSend: the request was sent, and has not come back");
        }
        state.target = Some(target.clone());
        state.timed_out = false;
        state.waiter = waiter;
    }
    object.reference();
    let timeout = options.Flags & TIMEOUT != 0 && options.Timeout != 0 && waiter == 0;
    match target_of(target).admit(object.handle, options.Flags & IGNORE_TARGET_STATE != 0) {
        Admission::Refuse(status) => {
            let mut state = request.sending.0.lock();
            (state.target, state.waiter) = (None, 0);
            drop(state);
            irp.IoStatus.Status.set(status);
            irp.IoStatus.Information.set(0);
            object.dereference();
            return Err(status);
        }
        Admission::Wait if timeout => start_deadline(object, options.Timeout),
        Admission::Wait => {}
        Admission::Send(device) => {
            if timeout {
                start_deadline(object, options.Timeout);
            }
            call(object, device);
        }
    }
    Ok(())
}

fn send_and_wait(
    object: &Arc<Object>,
    target: &Arc<Object>,
    options: WDF_REQUEST_SEND_OPTIONS,
) -> Result<NTSTATUS, NTSTATUS> {
    let done = KEVENT::zeroed();
    KeInitializeEvent(&done, 0, 0);
    object.reference();
    KeEnterCriticalRegion();
    let sent = send(object, target, options, ptr::from_ref(&done) as usize);
    if sent.is_ok() {
        let timeout = Some(&options.Timeout).filter(|timeout| options.Flags & TIMEOUT != 0 && **timeout != 0);
        if KeWaitForSingleObject(&done.Header, 0, 0, 0, timeout) == STATUS_TIMEOUT {
            request_of(object).sending.0.lock().timed_out = true;
            cancel(object.handle);
            KeWaitForSingleObject(&done.Header, 0, 0, 0, None);
        }
    }
    KeLeaveCriticalRegion();
    let request = request_of(object);
    let status = request.irp().IoStatus.Status.get();
    let (routine, parameters) = {
        let mut state = request.sending.0.lock();
        (state.routine.take().filter(|_| sent.is_ok()), state.parameters)
    };
    if let Some((routine, context)) = routine {
        callout("EvtRequestCompletionRoutine", || {
            routine(object.handle, target.handle, &raw const parameters, context);
        });
    }
    object.dereference();
    sent.map(|()| status)
}

fn options_at(options: *const WDF_REQUEST_SEND_OPTIONS) -> WDF_REQUEST_SEND_OPTIONS {
    // SAFETY: null, or the client's structure; a bad pointer faults.
    let given = unsafe { options.as_ref() }.copied();
    given.unwrap_or(WDF_REQUEST_SEND_OPTIONS { Size: 16, Flags: 0, Timeout: 0 })
}

pub(crate) extern "win64" fn WdfRequestSend(
    _globals: usize,
    handle: HANDLE,
    target: HANDLE,
    options: *const WDF_REQUEST_SEND_OPTIONS,
) -> u8 {
    let options = options_at(options);
    called("WdfRequestSend", if options.Flags & SYNCHRONOUS != 0 { PASSIVE_LEVEL } else { DISPATCH_LEVEL });
    let (object, target) = (object::find(handle), object::find(target));
    let request = request_of(&object);
    if options.Flags & SEND_AND_FORGET != 0 {
        return u8::from(forget(&object, &target, options));
    }
    if request.packet().is_none() {
        violate(Rule::Framework, "WdfRequestSend: the request has not been formatted");
    }
    let sent = if options.Flags & SYNCHRONOUS != 0 {
        send_and_wait(&object, &target, options).is_ok()
    } else {
        send(&object, &target, options, 0).is_ok()
    };
    u8::from(sent)
}

/// Sends a request that the framework need not see again: it goes on with the location that it has.
fn forget(object: &Arc<Object>, target: &Arc<Object>, options: WDF_REQUEST_SEND_OPTIONS) -> bool {
    let request = request_of(object);
    if request.is_drivers_own() || request.sending.0.lock().routine.is_some() {
        violate(
            Rule::Framework,
            "WdfRequestSend: a request that is forgotten is one of a queue, without a completion routine",
        );
    }
    match target_of(target).admit(object.handle, options.Flags & IGNORE_TARGET_STATE != 0) {
        Admission::Send(device) => {
            target_of(target).leave(object.handle);
            request::hand_on(object, device);
            true
        }
        Admission::Wait => {
            target_of(target).leave(object.handle);
            request.irp().IoStatus.Status.set(STATUS_INVALID_DEVICE_STATE);
            false
        }
        Admission::Refuse(status) => {
            request.irp().IoStatus.Status.set(status);
            false
        }
    }
}

pub(crate) extern "win64" fn WdfRequestCreate(
    globals: usize,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    target: HANDLE,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfRequestCreate", DISPATCH_LEVEL);
    let client = client(globals);
    let made = Kind::Request(Request::drivers_own());
    let object = match object::create(&client, made, &Attributes::read(attributes), client.driver()) {
        Ok(object) => object,
        Err(status) => return status,
    };
    if target != 0
        && let Some((device, _)) = target_of(&object::find(target)).way()
        && let Err(status) = packet(request_of(&object), device)
    {
        object::delete(&object);
        return status;
    }
    // SAFETY: the client's out parameter; a bad pointer faults.
    unsafe { out.write(object.handle) };
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WdfRequestReuse(
    _globals: usize,
    handle: HANDLE,
    parameters: &WDF_REQUEST_REUSE_PARAMS,
) -> NTSTATUS {
    called("WdfRequestReuse", DISPATCH_LEVEL);
    /// WDF_REQUEST_REUSE_SET_NEW_IRP.
    const NEW_IRP: u32 = 1;
    let object = object::find(handle);
    let request = request_of(&object);
    if !request.is_drivers_own() || parameters.Flags & NEW_IRP != 0 {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    if request.sending.0.lock().target.is_some() {
        violate(Rule::Framework, "WdfRequestReuse: the request was sent, and has not come back");
    }
    unformat(request);
    *request.sending.0.lock() = State::default();
    if let Some(irp) = request.packet() {
        IoReuseIrp(irp, parameters.Status);
    }
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WdfRequestChangeTarget(_globals: usize, handle: HANDLE, target: HANDLE) -> NTSTATUS {
    called("WdfRequestChangeTarget", DISPATCH_LEVEL);
    let (object, target) = (object::find(handle), object::find(target));
    match target_of(&target).way() {
        Some((device, _)) => status_of(packet(request_of(&object), device).map(|_| ())),
        None => STATUS_INVALID_DEVICE_STATE,
    }
}

impl Sending {
    /// The request goes: a driver's own with its packet.
    pub(super) fn dispose(&self, request: &Request) {
        if self.0.lock().target.is_some() {
            violate(Rule::Framework, "a request is deleted that was sent, and has not come back");
        }
        unformat(request);
        if request.is_drivers_own()
            && let Some(irp) = request.packet()
        {
            request.set_packet(ptr::null_mut());
            IoFreeIrp(irp);
        }
    }
}

/// Sends something and waits for it, by the client's request or one of the framework's own; how many bytes were transferred.
fn synchronously(
    globals: usize,
    target: HANDLE,
    request: HANDLE,
    options: *const WDF_REQUEST_SEND_OPTIONS,
    transferred: *mut usize,
    work: impl FnOnce() -> Result<Work, NTSTATUS>,
) -> NTSTATUS {
    let (client, target) = (client(globals), object::find(target));
    let own = request == 0;
    let object = if own {
        match object::create(&client, Kind::Request(Request::drivers_own()), &Attributes::NONE, client.driver()) {
            Ok(object) => object,
            Err(status) => return status,
        }
    } else {
        object::find(request)
    };
    let outcome = work()
        .and_then(|work| format(&object, target_of(&target), work))
        .and_then(|()| send_and_wait(&object, &target, options_at(options)));
    let status = outcome.unwrap_or_else(|status| status);
    if !transferred.is_null() {
        let information = request_of(&object).packet().map_or(0, |irp| irp.IoStatus.Information.get());
        // SAFETY: the client's out parameter; a bad pointer faults.
        unsafe { transferred.write(if nt_success(status) { information } else { 0 }) };
    }
    if own {
        object::delete(&object);
    }
    status
}

pub(crate) extern "win64" fn WdfIoTargetSendReadSynchronously(
    globals: usize,
    target: HANDLE,
    request: HANDLE,
    output: *const WDF_MEMORY_DESCRIPTOR,
    offset: *const i64,
    options: *const WDF_REQUEST_SEND_OPTIONS,
    read: *mut usize,
) -> NTSTATUS {
    called("WdfIoTargetSendReadSynchronously", PASSIVE_LEVEL);
    synchronously(globals, target, request, options, read, || {
        Ok(Work::Read(Part::described(output)?, offset_at(offset)))
    })
}

pub(crate) extern "win64" fn WdfIoTargetSendWriteSynchronously(
    globals: usize,
    target: HANDLE,
    request: HANDLE,
    input: *const WDF_MEMORY_DESCRIPTOR,
    offset: *const i64,
    options: *const WDF_REQUEST_SEND_OPTIONS,
    written: *mut usize,
) -> NTSTATUS {
    called("WdfIoTargetSendWriteSynchronously", PASSIVE_LEVEL);
    synchronously(globals, target, request, options, written, || {
        Ok(Work::Write(Part::described(input)?, offset_at(offset)))
    })
}

pub(crate) extern "win64" fn WdfIoTargetSendIoctlSynchronously(
    globals: usize,
    target: HANDLE,
    request: HANDLE,
    code: u32,
    input: *const WDF_MEMORY_DESCRIPTOR,
    output: *const WDF_MEMORY_DESCRIPTOR,
    options: *const WDF_REQUEST_SEND_OPTIONS,
    returned: *mut usize,
) -> NTSTATUS {
    called("WdfIoTargetSendIoctlSynchronously", PASSIVE_LEVEL);
    synchronously(globals, target, request, options, returned, || {
        let (input, output) = (Part::described(input)?, Part::described(output)?);
        Ok(Work::Control { major: IRP_MJ_DEVICE_CONTROL, code, input, output })
    })
}

pub(crate) extern "win64" fn WdfIoTargetSendInternalIoctlSynchronously(
    globals: usize,
    target: HANDLE,
    request: HANDLE,
    code: u32,
    input: *const WDF_MEMORY_DESCRIPTOR,
    output: *const WDF_MEMORY_DESCRIPTOR,
    options: *const WDF_REQUEST_SEND_OPTIONS,
    returned: *mut usize,
) -> NTSTATUS {
    called("WdfIoTargetSendInternalIoctlSynchronously", PASSIVE_LEVEL);
    synchronously(globals, target, request, options, returned, || {
        let (input, output) = (Part::described(input)?, Part::described(output)?);
        Ok(Work::Control { major: IRP_MJ_INTERNAL_DEVICE_CONTROL, code, input, output })
    })
}
