//! WDFQUEUE: who gets a request, when, and what becomes of those that wait.
#![allow(unsafe_code)] // reads the client's structures

mod retrieve;

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

pub(super) use self::retrieve::{
    WdfIoQueueFindRequest, WdfIoQueueRetrieveFoundRequest, WdfIoQueueRetrieveNextRequest,
    WdfIoQueueRetrieveRequestByFileObject,
};
use super::bind::client;
use super::device::Device;
use super::object::{self, Attributes, Kind, Object, create_into, expect_kind};
use super::pnp::Pnp;
use super::presentation::defer;
use super::request::{self, Owner, Request};
use super::types::{
    HANDLE, PFN_IO_DEFAULT, WDF_IO_QUEUE_CONFIG, WDF_OBJECT_ATTRIBUTES, WdfIoQueueDispatchManual,
    WdfIoQueueDispatchParallel, WdfIoQueueDispatchSequential, WdfTrue, WdfUseDefault,
};
use crate::guard::violate;
use crate::nt::irql::called;
use crate::nt::status::{
    STATUS_CANCELLED, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER,
    STATUS_NOT_FOUND, STATUS_SUCCESS, STATUS_WDF_BUSY,
};
use crate::nt::types::{
    DISPATCH_LEVEL, FILE_OBJECT, IRP_MJ_DEVICE_CONTROL, IRP_MJ_INTERNAL_DEVICE_CONTROL, IRP_MJ_READ, IRP_MJ_WRITE,
    NTSTATUS, PASSIVE_LEVEL,
};
use crate::simulation::Condvar;
use crate::thread::kernel;
use crate::violation::Rule;

/// How a queue presents requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dispatching {
    Sequential,
    /// At most so many at once.
    Parallel(usize),
    Manual,
}

/// Whether a queue takes and presents requests.
#[derive(Clone, Copy)]
struct Flow {
    accepts: bool,
    dispatches: bool,
}

struct State {
    flow: Flow,
    /// False of a power-managed queue while its device is not in D0: it keeps its requests.
    powered: bool,
    /// Called when a request comes to the queue while it has none, of a manual queue.
    ready: Option<(extern "win64" fn(HANDLE, HANDLE), HANDLE)>,
    waiting: VecDeque<HANDLE>,
    /// Requests that the driver has of this queue.
    presented: usize,
    /// Those of them that it keeps while the device sleeps.
    kept: BTreeSet<HANDLE>,
    /// Called once when nothing is presented (any more): a stop, purge or drain with a callback.
    idle: Option<(PFN_IO_DEFAULT, HANDLE)>,
    /// It has requests, for which its device is to be in D0.
    needs_power: bool,
}

impl State {
    /// Lets a request wait, cancelable. False if it has been cancelled already. Both under the queue's lock: whoever finds it
    /// waiting may take it for cancelable.
    fn wait(&mut self, object: &Object, request: &Request, push: fn(&mut VecDeque<HANDLE>, HANDLE)) -> bool {
        let waits = request::arm_cancel(object, request);
        if waits {
            push(&mut self.waiting, object.handle);
        }
        waits
    }

    /// Whether the driver has no request of the queue, and gets none of those that wait.
    fn is_idle(&self) -> bool {
        self.presented == 0 && (self.waiting.is_empty() || !self.flow.dispatches)
    }

    /// Takes the first of the waiting requests that is `wanted`, and that nobody cancels: one whose cancel routine runs elsewhere
    /// is that one's, which completes it as soon as it gets the queue's lock.
    fn take(&mut self, wanted: impl Fn(&Request) -> bool) -> Option<Arc<Object>> {
        let (position, object) = self.waiting.iter().enumerate().find_map(|(position, handle)| {
            let object = object::find(*handle);
            let request = expect_kind!(object, Request);
            let taken = wanted(request) && request::disarm_cancel(request);
            taken.then_some((position, object))
        })?;
        self.waiting.remove(position);
        Some(object)
    }
}

/// A queue.
pub(crate) struct Queue {
    config: WDF_IO_QUEUE_CONFIG,
    power_managed: bool,
    dispatching: Dispatching,
    default: bool,
    state: Mutex<State>,
    became_idle: Condvar,
}

impl Queue {
    pub(super) fn is_default(&self) -> bool {
        self.default
    }

    /// Whether requests of a major function can be presented.
    pub(super) fn takes(&self, major: u8) -> bool {
        let own = match major {
            IRP_MJ_READ => self.config.EvtIoRead.is_some(),
            IRP_MJ_WRITE => self.config.EvtIoWrite.is_some(),
            IRP_MJ_DEVICE_CONTROL => self.config.EvtIoDeviceControl.is_some(),
            IRP_MJ_INTERNAL_DEVICE_CONTROL => self.config.EvtIoInternalDeviceControl.is_some(),
            _ => false,
        };
        own || self.config.EvtIoDefault.is_some() || self.dispatching == Dispatching::Manual
    }

    /// Whether the framework completes the request in the driver's place: a transfer of nothing.
    fn skips(&self, request: &Request) -> bool {
        let location = request.irp().current();
        let transfers = matches!(location.MajorFunction.get(), IRP_MJ_READ | IRP_MJ_WRITE);
        transfers && location.Parameters.read_write().Length == 0 && self.config.AllowZeroLengthRequests == 0
    }
}

pub(crate) extern "win64" fn WdfIoQueueCreate(
    globals: usize,
    device: HANDLE,
    config: *const WDF_IO_QUEUE_CONFIG,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    out: *mut HANDLE,
) -> NTSTATUS {
    called("WdfIoQueueCreate", DISPATCH_LEVEL);
    // SAFETY: the client's structure; a bad pointer faults, which the guard reports.
    let config = unsafe { *config };
    if config.Size as usize != size_of::<WDF_IO_QUEUE_CONFIG>() {
        violate(Rule::Framework, format!("WDF_IO_QUEUE_CONFIG.Size is {}, not 96", config.Size));
    }
    let dispatching = match config.DispatchType {
        WdfIoQueueDispatchSequential => Dispatching::Sequential,
        WdfIoQueueDispatchParallel if config.NumberOfPresentedRequests != 0 => {
            Dispatching::Parallel(config.NumberOfPresentedRequests as usize)
        }
        WdfIoQueueDispatchManual => Dispatching::Manual,
        _ => return STATUS_INVALID_PARAMETER,
    };
    let callbacks = [
        config.EvtIoDefault.is_some(),
        config.EvtIoRead.is_some(),
        config.EvtIoWrite.is_some(),
        config.EvtIoDeviceControl.is_some(),
        config.EvtIoInternalDeviceControl.is_some(),
    ];
    if dispatching != Dispatching::Manual && !callbacks.contains(&true) {
        return crate::nt::status::STATUS_WDF_NO_CALLBACK;
    }
    let owner = object::find(device);
    let device_data: &Device = expect_kind!(owner, Device);
    if config.DefaultQueue != 0 && device_data.default_queue.lock().is_some() {
        return crate::nt::status::STATUS_UNSUCCESSFUL;
    }
    let power_managed = match config.PowerManaged {
        WdfTrue => true,
        WdfUseDefault => device_data.pnp.as_ref().is_some_and(Pnp::manages_queues),
        _ => false,
    };
    let queue = Queue {
        config,
        power_managed,
        dispatching,
        default: config.DefaultQueue != 0,
        state: Mutex::new(State {
            flow: Flow { accepts: true, dispatches: true },
            powered: !power_managed || device_data.pnp.as_ref().is_none_or(Pnp::is_in_d0),
            ready: None,
            waiting: VecDeque::new(),
            presented: 0,
            kept: BTreeSet::new(),
            idle: None,
            needs_power: false,
        }),
        became_idle: Condvar::new(),
    };
    let mut handle = 0;
    let status =
        create_into(&client(globals), Kind::Queue(queue), &Attributes::read(attributes), device, &raw mut handle);
    if status != STATUS_SUCCESS {
        return status;
    }
    if config.DefaultQueue != 0 {
        *device_data.default_queue.lock() = Some(handle);
    }
    if !out.is_null() {
        // SAFETY: the client's out parameter; a bad pointer faults.
        unsafe { out.write(handle) };
    }
    STATUS_SUCCESS
}

/// A request goes to the queue that its device has for it.
pub(super) fn deliver_to_default(device: &Arc<Object>, request: &Arc<Object>) {
    let major = expect_kind!(request, Request).irp().current().MajorFunction.get();
    match expect_kind!(device, Device).queue_for(major).and_then(object::try_find) {
        Some(queue) => deliver(&queue, request),
        None => request::complete(request, STATUS_INVALID_DEVICE_REQUEST, Some(0)),
    }
}

/// Puts a new request into a queue, or ends it if that takes none.
pub(super) fn deliver(queue: &Arc<Object>, request: &Arc<Object>) {
    if let Err(status) = insert(queue, request) {
        request::complete(request, status, Some(0));
    }
}

/// WdfDeviceEnqueueRequest. The client keeps a request that the queue does not take.
pub(super) fn enqueue(queue: &Arc<Object>, request: &Arc<Object>) -> NTSTATUS {
    match insert(queue, request) {
        Ok(()) => STATUS_SUCCESS,
        Err(_) => STATUS_WDF_BUSY,
    }
}

/// Puts a request into a queue, which presents it as soon as it may.
fn insert(object: &Arc<Object>, request: &Arc<Object>) -> Result<(), NTSTATUS> {
    let queue = expect_kind!(object, Queue);
    let data = expect_kind!(request, Request);
    let ready;
    let waits = {
        let mut state = queue.state.lock();
        if !state.flow.accepts {
            return Err(STATUS_INVALID_DEVICE_STATE);
        }
        data.set_owner(Owner::Framework);
        data.queue.store(object.handle, Ordering::Release);
        let was_empty = state.waiting.is_empty();
        let waits = state.wait(request, data, VecDeque::push_back);
        claim(object, queue, &mut state);
        ready = state.ready.filter(|_| was_empty && waits && state.flow.dispatches && state.powered);
        waits
    };
    if !waits {
        cancelled_in_queue(request, data);
        return Ok(());
    }
    if let Some((callback, context)) = ready {
        event(object, callback, context);
    }
    pump(object);
    Ok(())
}

/// Does something with the power of the device that a power-managed queue is of.
fn with_power(object: &Object, queue: &Queue, act: impl FnOnce(&Pnp)) {
    if queue.power_managed
        && let Some(device) = object::try_find(object.parent)
        && let Kind::Device(device) = &device.kind
        && let Some(pnp) = device.pnp.as_ref().filter(|pnp| pnp.owns_policy())
    {
        act(pnp);
    }
}

/// The queue needs its device while it has requests. Under its lock, as is [`rest`].
fn claim(object: &Object, queue: &Queue, state: &mut State) {
    if !state.needs_power && (state.presented != 0 || !state.waiting.is_empty()) {
        with_power(object, queue, |pnp| state.needs_power = pnp.idle().reference(pnp).is_ok());
    }
}

/// The queue may have no more requests.
fn rest(object: &Object, queue: &Queue, state: &mut State) {
    if state.needs_power && state.presented == 0 && state.waiting.is_empty() {
        state.needs_power = false;
        with_power(object, queue, |pnp| {
            pnp.idle().dereference();
        });
    }
}

/// Takes the next request out that may be presented, and that is not being cancelled.
fn next(queue: &Queue, wanted: impl Fn(&Request) -> bool, manual: bool) -> Option<Arc<Object>> {
    let mut state = queue.state.lock();
    if !state.flow.dispatches || !state.powered {
        return None;
    }
    let room = match queue.dispatching {
        Dispatching::Sequential => state.presented == 0,
        Dispatching::Parallel(limit) => state.presented < limit,
        Dispatching::Manual => manual,
    };
    if !room && !manual {
        return None;
    }
    let object = state.take(wanted)?;
    state.presented += 1;
    expect_kind!(object, Request).set_owner(Owner::Driver);
    drop(state);
    Some(object)
}

thread_local! {
    /// Queues whose requests this thread is presenting: a completion inside a callback does not present from within it.
    static PUMPING: RefCell<Vec<HANDLE>> = const { RefCell::new(Vec::new()) };
}

/// Presents what may be presented.
fn pump(object: &Arc<Object>) {
    let queue = expect_kind!(object, Queue);
    if queue.dispatching == Dispatching::Manual {
        return;
    }
    // A worker for nothing would be woken at every completion.
    if queue.state.lock().waiting.is_empty() {
        return;
    }
    let nested = queue.dispatching == Dispatching::Sequential && PUMPING.with_borrow(|on| on.contains(&object.handle));
    if nested {
        return;
    }
    if object.must_defer() {
        return defer(object, pump);
    }
    PUMPING.with_borrow_mut(|on| on.push(object.handle));
    while let Some(request) = next(queue, |_| true, false) {
        present(object, queue, &request);
    }
    PUMPING.with_borrow_mut(|on| on.retain(|handle| *handle != object.handle));
}

fn power_managed_queues(device: &Arc<Object>) -> Vec<Arc<Object>> {
    let is_managed = |object: &Arc<Object>| matches!(&object.kind, Kind::Queue(queue) if queue.power_managed);
    device.children().into_iter().filter_map(object::try_find).filter(is_managed).collect()
}

/// Why queues stop with their device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It sleeps, and comes back.
    Suspend,
    /// It goes.
    Purge,
}

impl Stop {
    /// WDF_REQUEST_STOP_ACTION_FLAGS.
    const fn action(self) -> u32 {
        match self {
            Stop::Suspend => 1,
            Stop::Purge => 2,
        }
    }
}

/// The requests that a queue has presented, and the driver has not completed.
fn presented(device: &Arc<Object>, queue: &Arc<Object>) -> Vec<Arc<Object>> {
    let is_presented = |object: &Arc<Object>| match &object.kind {
        Kind::Request(data) => data.queue.load(Ordering::Acquire) == queue.handle && data.is_drivers(),
        _ => false,
    };
    device.children().into_iter().filter_map(object::try_find).filter(is_presented).collect()
}

/// The device is in D0: the driver goes on with what it has kept, and its power-managed queues present what has been waiting.
pub(super) fn power_up(device: &Arc<Object>) {
    for object in power_managed_queues(device) {
        let queue = expect_kind!(object, Queue);
        let kept = {
            let mut state = queue.state.lock();
            state.powered = true;
            claim(&object, queue, &mut state);
            std::mem::take(&mut state.kept)
        };
        for request in kept {
            if let Some(callback) = queue.config.EvtIoResume
                && let Some(request) = object::try_find(request)
            {
                object.callback("EvtIoResume", || callback(object.handle, request.handle));
            }
        }
        pump(&object);
    }
}

/// The device leaves D0: its power-managed queues present nothing more, and what they have presented ends first, or is acknowledged.
pub(super) fn power_down(device: &Arc<Object>, how: Stop) {
    for object in power_managed_queues(device) {
        let queue = expect_kind!(object, Queue);
        queue.state.lock().powered = false;
        if let Some(callback) = queue.config.EvtIoStop {
            for request in presented(device, &object) {
                object.callback("EvtIoStop", || callback(object.handle, request.handle, how.action()));
            }
        }
        let mut state = queue.state.lock();
        while state.presented > state.kept.len() {
            if kernel().is_stopped() {
                drop(state);
                crate::guard::escape();
            }
            queue.became_idle.wait_for(&mut state, std::time::Duration::from_millis(50));
        }
    }
}

pub(crate) extern "win64" fn WdfIoQueueReadyNotify(
    _globals: usize,
    handle: HANDLE,
    callback: Option<extern "win64" fn(HANDLE, HANDLE)>,
    context: HANDLE,
) -> NTSTATUS {
    called("WdfIoQueueReadyNotify", DISPATCH_LEVEL);
    let object = object::find(handle);
    let queue = expect_kind!(object, Queue);
    if queue.dispatching != Dispatching::Manual {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    let mut state = queue.state.lock();
    match (callback, state.ready.is_some()) {
        (Some(_), true) => STATUS_INVALID_DEVICE_REQUEST,
        // A registration ends while the queue is stopped.
        (None, _) if state.flow.dispatches => STATUS_INVALID_DEVICE_REQUEST,
        (callback, _) => {
            state.ready = callback.map(|callback| (callback, context));
            STATUS_SUCCESS
        }
    }
}

/// Calls the driver with a request.
fn present(object: &Arc<Object>, queue: &Queue, request: &Arc<Object>) {
    let (handle, config) = (object.handle, &queue.config);
    let location = expect_kind!(request, Request).irp().current();
    let control = location.Parameters.device_io_control();
    let length = location.Parameters.read_write().Length as usize;
    let (output, input, code) =
        (control.OutputBufferLength as usize, control.InputBufferLength as usize, control.IoControlCode);
    let id = request.handle;
    let major = location.MajorFunction.get();
    if queue.skips(expect_kind!(request, Request)) {
        return request::complete(request, STATUS_SUCCESS, Some(0));
    }
    match (major, config) {
        (IRP_MJ_READ, WDF_IO_QUEUE_CONFIG { EvtIoRead: Some(callback), .. }) => {
            object.callback("EvtIoRead", || callback(handle, id, length));
        }
        (IRP_MJ_WRITE, WDF_IO_QUEUE_CONFIG { EvtIoWrite: Some(callback), .. }) => {
            object.callback("EvtIoWrite", || callback(handle, id, length));
        }
        (IRP_MJ_DEVICE_CONTROL, WDF_IO_QUEUE_CONFIG { EvtIoDeviceControl: Some(callback), .. }) => {
            object.callback("EvtIoDeviceControl", || callback(handle, id, output, input, code));
        }
        (IRP_MJ_INTERNAL_DEVICE_CONTROL, WDF_IO_QUEUE_CONFIG { EvtIoInternalDeviceControl: Some(callback), .. }) => {
            object.callback("EvtIoInternalDeviceControl", || callback(handle, id, output, input, code));
        }
        (_, WDF_IO_QUEUE_CONFIG { EvtIoDefault: Some(callback), .. }) => {
            object.callback("EvtIoDefault", || callback(handle, id));
        }
        _ => request::complete(request, STATUS_INVALID_DEVICE_REQUEST, Some(0)),
    }
}

/// A request that the queue had presented is completed, or has left the queue: the next one may come.
pub(super) fn completed(handle: HANDLE, request: HANDLE) {
    let Some(object) = object::try_find(handle) else { return };
    let Kind::Queue(queue) = &object.kind else { return };
    queue.state.lock().kept.remove(&request);
    left(queue, &object);
    pump(&object);
}

/// Tells the driver of a change of the queue.
fn event(object: &Arc<Object>, callback: PFN_IO_DEFAULT, context: HANDLE) {
    if object.must_defer() {
        return defer(object, move |object| event(object, callback, context));
    }
    object.callback("EvtIoQueueState", || callback(object.handle, context));
}

/// One request fewer is presented.
fn left(queue: &Queue, object: &Arc<Object>) {
    let mut state = queue.state.lock();
    state.presented = state.presented.saturating_sub(1);
    drop(state);
    tell_if_idle(queue, object);
}

/// Tells whoever waits for it that the queue has nothing to do any more.
fn tell_if_idle(queue: &Queue, object: &Arc<Object>) {
    let idle = {
        let mut state = queue.state.lock();
        rest(object, queue, &mut state);
        if !state.is_idle() {
            return;
        }
        queue.became_idle.notify_all();
        state.idle.take()
    };
    if let Some((callback, context)) = idle {
        event(object, callback, context);
    }
}

/// The IRP of a waiting request has been cancelled.
pub(super) fn cancelled_in_queue(object: &Arc<Object>, request: &Request) {
    let handle = request.queue.load(Ordering::Acquire);
    let Some(owner) = object::try_find(handle) else { return };
    let Kind::Queue(queue) = &owner.kind else { return };
    queue.state.lock().waiting.retain(|waiting| *waiting != object.handle);
    // It is not presented, so its completion must not make room.
    request.queue.store(0, Ordering::Release);
    match queue.config.EvtIoCanceledOnQueue {
        Some(callback) if request.was_presented() => {
            request.set_owner(Owner::Driver);
            owner.callback("EvtIoCanceledOnQueue", || callback(handle, object.handle));
        }
        _ => request::complete(object, STATUS_CANCELLED, Some(0)),
    }
    tell_if_idle(queue, &owner);
}

/// Cancels the waiting requests of the queue that are `wanted`.
fn flush(queue: &Queue, wanted: impl Fn(&Request) -> bool) {
    loop {
        let taken = queue.state.lock().take(&wanted);
        let Some(object) = taken else { return };
        cancelled_in_queue(&object, expect_kind!(object, Request));
    }
}

/// IRP_MJ_CLEANUP: what a file object still has waiting in the device's queues is cancelled.
pub(super) fn flush_file(device: &Arc<Object>, file: *mut FILE_OBJECT) {
    for child in device.children() {
        if let Some(object) = object::try_find(child)
            && let Kind::Queue(queue) = &object.kind
        {
            flush(queue, |request| request.file_object() == file);
        }
    }
}

pub(crate) extern "win64" fn WdfIoQueueGetDevice(_globals: usize, handle: HANDLE) -> HANDLE {
    called("WdfIoQueueGetDevice", DISPATCH_LEVEL);
    object::find(handle).parent
}

/// WDF_IO_QUEUE_STATE.
const ACCEPT_REQUESTS: u32 = 1;
const DISPATCH_REQUESTS: u32 = 2;
const NO_REQUESTS: u32 = 4;
const DRIVER_NO_REQUESTS: u32 = 8;

pub(crate) extern "win64" fn WdfIoQueueGetState(
    _globals: usize,
    handle: HANDLE,
    waiting: *mut u32,
    presented: *mut u32,
) -> u32 {
    called("WdfIoQueueGetState", DISPATCH_LEVEL);
    let object = object::find(handle);
    let state = expect_kind!(object, Queue).state.lock();
    let (queued, given) = (state.waiting.len(), state.presented);
    let bits = [
        (state.flow.accepts, ACCEPT_REQUESTS),
        (state.flow.dispatches, DISPATCH_REQUESTS),
        (queued == 0, NO_REQUESTS),
        (given == 0, DRIVER_NO_REQUESTS),
    ];
    drop(state);
    for (out, count) in [(waiting, queued), (presented, given)] {
        if !out.is_null() {
            // SAFETY: the client's out parameter; a bad pointer faults, which the guard reports.
            unsafe { out.write(u32::try_from(count).unwrap_or(u32::MAX)) };
        }
    }
    bits.into_iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum()
}

pub(crate) extern "win64" fn WdfIoQueueStart(_globals: usize, handle: HANDLE) {
    called("WdfIoQueueStart", DISPATCH_LEVEL);
    let object = object::find(handle);
    expect_kind!(object, Queue).state.lock().flow = Flow { accepts: true, dispatches: true };
    pump(&object);
}

/// Changes the flow; `callback` is called when the driver has no request of the queue.
fn change(object: &Arc<Object>, flow: Flow, callback: Option<PFN_IO_DEFAULT>, context: HANDLE) {
    let queue = expect_kind!(object, Queue);
    let now = {
        let mut state = queue.state.lock();
        state.flow = flow;
        match callback {
            Some(callback) if !state.is_idle() => {
                state.idle = Some((callback, context));
                None
            }
            other => other,
        }
    };
    if let Some(callback) = now {
        event(object, callback, context);
    }
}

/// Waits until the driver has no request of the queue.
fn wait_idle(queue: &Queue) {
    let mut state = queue.state.lock();
    while !state.is_idle() {
        if kernel().is_stopped() {
            drop(state);
            crate::guard::escape();
        }
        queue.became_idle.wait_for(&mut state, std::time::Duration::from_millis(50));
    }
}

const STOPPED: Flow = Flow { accepts: true, dispatches: false };
const PURGED: Flow = Flow { accepts: false, dispatches: true };

pub(crate) extern "win64" fn WdfIoQueueStop(
    _globals: usize,
    handle: HANDLE,
    callback: Option<PFN_IO_DEFAULT>,
    context: HANDLE,
) {
    called("WdfIoQueueStop", DISPATCH_LEVEL);
    change(&object::find(handle), STOPPED, callback, context);
}

pub(crate) extern "win64" fn WdfIoQueueStopSynchronously(_globals: usize, handle: HANDLE) {
    called("WdfIoQueueStopSynchronously", PASSIVE_LEVEL);
    let object = object::find(handle);
    change(&object, STOPPED, None, 0);
    wait_idle(expect_kind!(object, Queue));
}

pub(crate) extern "win64" fn WdfIoQueueDrain(
    _globals: usize,
    handle: HANDLE,
    callback: Option<PFN_IO_DEFAULT>,
    context: HANDLE,
) {
    called("WdfIoQueueDrain", DISPATCH_LEVEL);
    change(&object::find(handle), PURGED, callback, context);
}

pub(crate) extern "win64" fn WdfIoQueueDrainSynchronously(_globals: usize, handle: HANDLE) {
    called("WdfIoQueueDrainSynchronously", PASSIVE_LEVEL);
    let object = object::find(handle);
    change(&object, PURGED, None, 0);
    wait_idle(expect_kind!(object, Queue));
}

/// Cancels what waits, and the cancelable requests that the driver has.
fn purge(object: &Arc<Object>) {
    let queue = expect_kind!(object, Queue);
    queue.state.lock().flow = PURGED;
    flush(queue, |_| true);
    let device = object::find(object.parent);
    for child in device.children() {
        if let Some(request) = object::try_find(child)
            && let Kind::Request(data) = &request.kind
            && data.queue.load(Ordering::Acquire) == object.handle
        {
            request::cancel_presented(&request);
        }
    }
}

pub(crate) extern "win64" fn WdfIoQueuePurge(
    _globals: usize,
    handle: HANDLE,
    callback: Option<PFN_IO_DEFAULT>,
    context: HANDLE,
) {
    called("WdfIoQueuePurge", DISPATCH_LEVEL);
    let object = object::find(handle);
    purge(&object);
    change(&object, PURGED, callback, context);
}

pub(crate) extern "win64" fn WdfIoQueuePurgeSynchronously(_globals: usize, handle: HANDLE) {
    called("WdfIoQueuePurgeSynchronously", PASSIVE_LEVEL);
    let object = object::find(handle);
    purge(&object);
    wait_idle(expect_kind!(object, Queue));
}

pub(crate) extern "win64" fn WdfRequestForwardToIoQueue(_globals: usize, handle: HANDLE, target: HANDLE) -> NTSTATUS {
    called("WdfRequestForwardToIoQueue", DISPATCH_LEVEL);
    let (object, target) = (object::find(handle), object::find(target));
    let request = expect_kind!(object, Request);
    let from = request.queue.load(Ordering::Acquire);
    // A request that was never in a queue goes by WdfDeviceEnqueueRequest.
    if from == target.handle || request.is_in_caller_context() {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    match insert(&target, &object) {
        Ok(()) => {
            completed(from, handle);
            STATUS_SUCCESS
        }
        Err(_) => STATUS_WDF_BUSY,
    }
}

pub(crate) extern "win64" fn WdfRequestRequeue(_globals: usize, handle: HANDLE) -> NTSTATUS {
    called("WdfRequestRequeue", DISPATCH_LEVEL);
    let object = object::find(handle);
    let request = expect_kind!(object, Request);
    let Some(owner) = object::try_find(request.queue.load(Ordering::Acquire)) else { return STATUS_NOT_FOUND };
    let queue = expect_kind!(owner, Queue);
    if queue.dispatching != Dispatching::Manual {
        return STATUS_INVALID_DEVICE_REQUEST;
    }
    give_back(queue, &object, request);
    STATUS_SUCCESS
}

/// A request that the driver has is the first to wait in its queue again.
fn give_back(queue: &Queue, object: &Arc<Object>, request: &Request) {
    request.set_owner(Owner::Framework);
    let waits = {
        let mut state = queue.state.lock();
        state.presented = state.presented.saturating_sub(1);
        state.wait(object, request, VecDeque::push_front)
    };
    if !waits {
        cancelled_in_queue(object, request);
    }
}

/// The driver has stopped with a request: it keeps it until the device is back, or gives it back to its queue.
pub(crate) extern "win64" fn WdfRequestStopAcknowledge(_globals: usize, handle: HANDLE, requeue: u8) {
    called("WdfRequestStopAcknowledge", DISPATCH_LEVEL);
    let object = object::find(handle);
    let request = expect_kind!(object, Request);
    if !request.is_drivers() {
        violate(Rule::Framework, "WdfRequestStopAcknowledge: the driver does not have the request");
    }
    let Some(owner) = object::try_find(request.queue.load(Ordering::Acquire)) else { return };
    let queue = expect_kind!(owner, Queue);
    if requeue == 0 {
        queue.state.lock().kept.insert(handle);
        queue.became_idle.notify_all();
    } else {
        give_back(queue, &object, request);
        queue.became_idle.notify_all();
    }
}
