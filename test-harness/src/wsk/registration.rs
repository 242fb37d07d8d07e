//! Registration of WSK clients, and the capture of the provider NPI.
#![allow(unsafe_code)] // writes the client's structures

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wsk_bindings::{
    MAKE_WSK_VERSION, WSK_CLIENT_DISPATCH, WSK_CLIENT_NPI, WSK_INFINITE_WAIT, WSK_NO_WAIT,
    WSK_PROVIDER_CHARACTERISTICS, WSK_PROVIDER_NPI, WSK_REGISTRATION,
};

use super::{Wsk, dispatch, wsk};
use crate::guard::{advise, escape, violate};
use crate::image::Export;
use crate::kernel::Kernel;
use crate::nt::irql::called;
use crate::nt::pool::{self, Owner};
use crate::nt::status::{STATUS_DEVICE_NOT_READY, STATUS_INSUFFICIENT_RESOURCES, STATUS_NOINTERFACE, STATUS_SUCCESS};
use crate::nt::types::{DISPATCH_LEVEL, NTSTATUS, PASSIVE_LEVEL, PVOID};
use crate::simulation::{self, Condvar};
use crate::thread::current;
use crate::violation::Rule;

/// The versions that this provider serves.
pub(super) const VERSION: u16 = MAKE_WSK_VERSION(1, 0);

/// How long WskDeregister waits for what the client should have ended before.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the transport is there, as a test wants it.
#[derive(Default)]
pub(crate) struct Readiness {
    state: Mutex<ReadinessState>,
    changed: Condvar,
}

#[derive(Default)]
struct ReadinessState {
    not_ready: bool,
    failure: Option<NTSTATUS>,
}

impl Readiness {
    pub(crate) fn set_ready(&self, ready: bool) {
        self.state.lock().not_ready = !ready;
        self.changed.notify_all();
    }

    pub(crate) fn set_failure(&self, failure: Option<NTSTATUS>) {
        self.state.lock().failure = failure;
        self.changed.notify_all();
    }

    pub(crate) fn wake(&self) {
        // Under the lock: a waiter has looked at the machine and sleeps, or has not looked yet.
        let _state = self.state.lock();
        self.changed.notify_all();
    }
}

/// One client.
pub(super) struct Registration {
    /// The WSK client object, which the client gets as the first argument of its calls.
    pub(super) client: usize,
    version: u16,
    /// The client's WSK_CLIENT_DISPATCH.
    dispatch: usize,
    /// Successful captures that have not been released.
    captures: AtomicI32,
    deregistering: std::sync::atomic::AtomicBool,
    /// Events enabled by WSK_SET_STATIC_EVENT_CALLBACKS.
    pub(super) static_events: AtomicU32,
    /// Sockets that exist.
    pub(super) sockets: AtomicUsize,
}

impl Registration {
    pub(super) fn is_captured(&self) -> bool {
        self.captures.load(Ordering::Acquire) > 0
    }
}

const TAG: u32 = pool::tag(*b"Wskc");

/// WSK_REGISTRATION.ReservedRegistrationState. Captures that come after WskDeregister are allowed, and get
/// STATUS_DEVICE_NOT_READY.
const REGISTERED: u64 = 1;
const DEREGISTERED: u64 = 2;

fn find(wsk: &Wsk, registration: *const WSK_REGISTRATION, call: &str) -> Arc<Registration> {
    let found = wsk.registrations.lock().get(&(registration as usize)).cloned();
    match found {
        Some(found) => found,
        None => violate(Rule::Wsk(2), format!("{call}: the client is not registered, or was deregistered")),
    }
}

/// A record of a client, which gets a block of memory to be known by. `None` without memory.
fn record(kernel: &Kernel, dispatch: usize, captures: i32) -> Option<Registration> {
    if kernel.faults.allocation_fails() {
        return None;
    }
    let block = kernel.pool.allocate(16, TAG, Owner::Kernel, true)?;
    // SAFETY: the client's table is resident while it is a client; a bad pointer faults, which the guard reports.
    let version = unsafe { &*(dispatch as *const WSK_CLIENT_DISPATCH) }.Version;
    Some(Registration {
        client: block as usize,
        version,
        dispatch,
        captures: AtomicI32::new(captures),
        deregistering: false.into(),
        static_events: AtomicU32::new(0),
        sockets: AtomicUsize::new(0),
    })
}

fn wake_on_stop(wsk: &Arc<Wsk>, kernel: &Kernel) {
    if !wsk.hooked.swap(true, Ordering::AcqRel) {
        let hooked = Arc::downgrade(wsk);
        kernel.on_stop(move || {
            if let Some(wsk) = hooked.upgrade() {
                wsk.readiness.wake();
            }
        });
    }
}

/// Attaches a client that has found WSK by the Network Module Registrar: its WSK client object, and the provider's table.
pub(super) fn attach(wsk: &Arc<Wsk>, dispatch: PVOID) -> Result<(PVOID, PVOID), NTSTATUS> {
    let kernel = &current().kernel;
    if dispatch.is_null() || wsk.readiness.state.lock().not_ready {
        return Err(STATUS_NOINTERFACE);
    }
    let record = record(kernel, dispatch as usize, 1).ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
    let client = record.client;
    if record.version >> 8 != VERSION >> 8 {
        pool::free(kernel, client as PVOID, TAG);
        return Err(STATUS_NOINTERFACE);
    }
    kernel.lent.lend(record.dispatch, Rule::Wsk(1), "the WSK_CLIENT_DISPATCH of an attached client");
    wsk.registrations.lock().insert(client, Arc::new(record));
    wake_on_stop(wsk, kernel);
    wsk.start(kernel);
    Ok((client as PVOID, dispatch::provider() as PVOID))
}

/// Sockets of a client that has attached.
pub(super) fn sockets_of(wsk: &Wsk, client: usize) -> usize {
    wsk.registrations.lock().get(&client).map_or(0, |known| known.sockets.load(Ordering::Acquire))
}

/// Forgets a client that has attached, and has no sockets left.
pub(super) fn detach(wsk: &Wsk, client: usize) {
    if let Some(known) = wsk.registrations.lock().remove(&client) {
        current().kernel.lent.give_back(known.dispatch);
        pool::free(&current().kernel, client as PVOID, TAG);
    }
}

pub(crate) extern "win64" fn WskRegister(client: &WSK_CLIENT_NPI, registration: &mut WSK_REGISTRATION) -> NTSTATUS {
    let current = called("WskRegister", PASSIVE_LEVEL);
    let wsk = wsk();
    let address = std::ptr::from_mut(registration) as usize;
    if wsk.registrations.lock().contains_key(&address) {
        violate(Rule::Wsk(2), "WskRegister with a WSK_REGISTRATION that is in use");
    }
    let Some(record) = record(&current.kernel, client.Dispatch as usize, 0) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    *registration = WSK_REGISTRATION {
        ReservedRegistrationState: REGISTERED,
        ReservedRegistrationContext: record.client as *mut _,
        ReservedRegistrationLock: 0,
    };
    current.kernel.lent.lend(record.dispatch, Rule::Wsk(1), "the WSK_CLIENT_DISPATCH of a registered client");
    current.kernel.lent.lend(address, Rule::Wsk(1), "the WSK_REGISTRATION of a registered client");
    wsk.registrations.lock().insert(address, Arc::new(record));
    wake_on_stop(&wsk, &current.kernel);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WskCaptureProviderNPI(
    registration: *const WSK_REGISTRATION,
    timeout: u32,
    npi: &mut WSK_PROVIDER_NPI,
) -> NTSTATUS {
    let current = called("WskCaptureProviderNPI", DISPATCH_LEVEL);
    if timeout != WSK_NO_WAIT && current.irql.get() > PASSIVE_LEVEL {
        violate(Rule::Wsk(3), format!("WskCaptureProviderNPI with a wait at IRQL {}", current.irql.get()));
    }
    if timeout == WSK_INFINITE_WAIT && current.kernel.io_is_starting_a_driver(current.thread.id) {
        advise(Rule::Wsk(3), "WskCaptureProviderNPI with an endless wait in DriverEntry");
    }
    let wsk = wsk();
    // SAFETY: the client's memory, which it keeps as long as it calls with it; a bad pointer faults.
    if unsafe { (*registration).ReservedRegistrationState } == DEREGISTERED {
        return STATUS_DEVICE_NOT_READY;
    }
    let client = find(&wsk, registration, "WskCaptureProviderNPI");
    let deadline = (timeout != WSK_INFINITE_WAIT).then(|| simulation::now() + Duration::from_millis(timeout.into()));
    let status = capture(&wsk, &client, deadline);
    if current.kernel.is_stopped() {
        drop((wsk, client));
        escape();
    }
    if status == STATUS_SUCCESS {
        wsk.start(&current.kernel);
        *npi = WSK_PROVIDER_NPI { Client: client.client as PVOID, Dispatch: dispatch::provider() };
    }
    status
}

fn capture(wsk: &Wsk, client: &Registration, deadline: Option<Instant>) -> NTSTATUS {
    let stopped = || current().kernel.is_stopped();
    let mut state = wsk.readiness.state.lock();
    loop {
        if client.deregistering.load(Ordering::Acquire) || stopped() {
            return STATUS_DEVICE_NOT_READY;
        }
        if let Some(failure) = state.failure {
            return failure;
        }
        if !state.not_ready {
            break;
        }
        let timed_out = match deadline {
            None => {
                wsk.readiness.changed.wait(&mut state);
                false
            }
            Some(deadline) => wsk.readiness.changed.wait_until(&mut state, deadline).timed_out(),
        };
        if timed_out {
            return STATUS_DEVICE_NOT_READY;
        }
    }
    if client.version >> 8 != VERSION >> 8 {
        return STATUS_NOINTERFACE;
    }
    client.captures.fetch_add(1, Ordering::AcqRel);
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WskReleaseProviderNPI(registration: *const WSK_REGISTRATION) {
    called("WskReleaseProviderNPI", DISPATCH_LEVEL);
    let wsk = wsk();
    let client = find(&wsk, registration, "WskReleaseProviderNPI");
    if client.captures.fetch_sub(1, Ordering::AcqRel) <= 0 {
        violate(Rule::Wsk(2), "WskReleaseProviderNPI without a capture that is still held");
    }
    wsk.readiness.wake();
}

pub(crate) extern "win64" fn WskQueryProviderCharacteristics(
    registration: *const WSK_REGISTRATION,
    characteristics: &mut WSK_PROVIDER_CHARACTERISTICS,
) -> NTSTATUS {
    called("WskQueryProviderCharacteristics", DISPATCH_LEVEL);
    let wsk = wsk();
    let _client = find(&wsk, registration, "WskQueryProviderCharacteristics");
    if wsk.readiness.state.lock().not_ready {
        return STATUS_DEVICE_NOT_READY;
    }
    *characteristics = WSK_PROVIDER_CHARACTERISTICS { HighestVersion: VERSION, LowestVersion: VERSION };
    STATUS_SUCCESS
}

pub(crate) extern "win64" fn WskDeregister(registration: *mut WSK_REGISTRATION) {
    let current = called("WskDeregister", PASSIVE_LEVEL);
    let wsk = wsk();
    let client = find(&wsk, registration, "WskDeregister");
    client.deregistering.store(true, Ordering::Release);
    // SAFETY: the client's memory, which stays while it is registered.
    unsafe { (*registration).ReservedRegistrationState = DEREGISTERED };
    wsk.readiness.wake();
    let deadline = simulation::now() + PATIENCE;
    let ended = {
        let mut state = wsk.readiness.state.lock();
        loop {
            if current.kernel.is_stopped() {
                break false;
            }
            if client.captures.load(Ordering::Acquire) <= 0 && client.sockets.load(Ordering::Acquire) == 0 {
                break true;
            }
            if wsk.readiness.changed.wait_until(&mut state, deadline).timed_out() {
                break false;
            }
        }
    };
    if current.kernel.is_stopped() {
        drop((wsk, client));
        escape();
    }
    if !ended {
        let (captures, sockets) = (client.captures.load(Ordering::Acquire), client.sockets.load(Ordering::Acquire));
        violate(
            Rule::Wsk(5),
            format!("WskDeregister waits for ever: {captures} captures are not released, {sockets} sockets are open"),
        );
    }
    wsk.registrations.lock().remove(&(registration as usize));
    current.kernel.lent.give_back(client.dispatch);
    current.kernel.lent.give_back(registration as usize);
    pool::free(&current.kernel, client.client as PVOID, TAG);
}

/// The registration behind a client object: its NPI must be captured.
pub(super) fn of_client(wsk: &Wsk, client: PVOID, call: &str) -> Arc<Registration> {
    let found = wsk.registrations.lock().values().find(|known| known.client == client as usize).cloned();
    match found {
        Some(found) if found.is_captured() => found,
        Some(_) => violate(Rule::Wsk(5), format!("{call} after WskReleaseProviderNPI")),
        None => violate(Rule::Wsk(5), format!("{call}: {client:p} is no WSK client")),
    }
}

pub(super) const EXPORTS: &[(&str, Export)] = crate::nt::exports![
    WskRegister,
    WskCaptureProviderNPI,
    WskReleaseProviderNPI,
    WskQueryProviderCharacteristics,
    WskDeregister,
];
