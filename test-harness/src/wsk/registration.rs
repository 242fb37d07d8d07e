//! Registration of WSK clients, and the capture of the provider NPI.
#![allow(unsafe_code)] // writes the client's structures

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wsk_bindings::{
    MAKE_WSK_VERSION, WSK_CLIENT_NPI, WSK_INFINITE_WAIT, WSK_NO_WAIT, WSK_PROVIDER_CHARACTERISTICS, WSK_PROVIDER_NPI,
    WSK_REGISTRATION,
};

use super::{Wsk, dispatch, wsk};
use crate::guard::{escape, violate};
use crate::image::Export;
use crate::nt::irql::called;
use crate::nt::pool::{self, Owner};
use crate::nt::status::{STATUS_DEVICE_NOT_READY, STATUS_INSUFFICIENT_RESOURCES, STATUS_NOINTERFACE, STATUS_SUCCESS};
use crate::nt::types::{DISPATCH_LEVEL, NTSTATUS, PASSIVE_LEVEL, PVOID};
use crate::simulation::{self, Condvar};
use crate::thread::current;
use crate::violation::Rule;

/// The versions that this provider serves.
const VERSION: u16 = MAKE_WSK_VERSION(1, 0);

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

pub(crate) extern "win64" fn WskRegister(client: &WSK_CLIENT_NPI, registration: &mut WSK_REGISTRATION) -> NTSTATUS {
    let current = called("WskRegister", PASSIVE_LEVEL);
    // SAFETY: the client's table is resident until WskDeregister; a bad pointer faults, which the guard reports.
    let version = unsafe { &*client.Dispatch }.Version;
    if current.kernel.faults.allocation_fails() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let wsk = wsk();
    let address = std::ptr::from_mut(registration) as usize;
    if wsk.registrations.lock().contains_key(&address) {
        violate(Rule::Wsk(2), "WskRegister with a WSK_REGISTRATION that is in use");
    }
    let Some(block) = current.kernel.pool.allocate(16, TAG, Owner::Kernel, true) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    *registration = WSK_REGISTRATION {
        ReservedRegistrationState: REGISTERED,
        ReservedRegistrationContext: block.cast(),
        ReservedRegistrationLock: 0,
    };
    let record = Registration {
        client: block as usize,
        version,
        dispatch: client.Dispatch as usize,
        captures: AtomicI32::new(0),
        deregistering: false.into(),
        static_events: AtomicU32::new(0),
        sockets: AtomicUsize::new(0),
    };
    current.kernel.lent.lend(record.dispatch, Rule::Wsk(1), "the WSK_CLIENT_DISPATCH of a registered client");
    current.kernel.lent.lend(address, Rule::Wsk(1), "the WSK_REGISTRATION of a registered client");
    wsk.registrations.lock().insert(address, Arc::new(record));
    if !wsk.hooked.swap(true, Ordering::AcqRel) {
        let hooked = Arc::downgrade(&wsk);
        current.kernel.on_stop(move || {
            if let Some(wsk) = hooked.upgrade() {
                wsk.readiness.wake();
            }
        });
    }
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
        violate(Rule::Wsk(3), "WskCaptureProviderNPI with an endless wait in DriverEntry");
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
    let left = client.captures.fetch_sub(1, Ordering::AcqRel) - 1;
    if left < 0 {
        violate(Rule::Wsk(2), "WskReleaseProviderNPI without a capture that is still held");
    }
    if left == 0 && client.sockets.load(Ordering::Acquire) != 0 {
        let open = client.sockets.load(Ordering::Acquire);
        violate(Rule::Wsk(5), format!("WskReleaseProviderNPI while {open} sockets are open"));
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
