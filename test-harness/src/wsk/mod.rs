//! What `netio.sys` exports: the Winsock Kernel, over a network back end.
//!
//! Rules of a correct client that it sees broken are violations, named by their number in `docs/wsk-rules.md`.
#![allow(non_snake_case, non_camel_case_types)] // the headers' own names

mod address;
mod client;
mod close;
mod connection;
mod control;
mod datagram;
mod dispatch;
mod events;
mod hosts;
mod listen;
mod name;
mod nmr;
mod operation;
mod registration;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::image::Export;
use crate::kernel::Kernel;
use crate::network::{Backend, NetworkError};
use crate::nt::dpc;
use crate::nt::process::start_system_thread;
use crate::nt::status::{
    STATUS_ACCESS_DENIED, STATUS_ADDRESS_ALREADY_EXISTS, STATUS_CONNECTION_ACTIVE, STATUS_CONNECTION_INVALID,
    STATUS_CONNECTION_REFUSED, STATUS_CONNECTION_RESET, STATUS_HOST_UNREACHABLE, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_ADDRESS_COMPONENT, STATUS_INVALID_PARAMETER, STATUS_INVALID_USER_BUFFER, STATUS_IO_TIMEOUT,
    STATUS_NETWORK_UNREACHABLE, STATUS_NOT_SUPPORTED,
};
use crate::nt::types::{DISPATCH_LEVEL, NTSTATUS};
use crate::thread::{current, kernel};
use crate::violation::Rule;
use operation::Completion;
use registration::Registration;
use socket::Socket;

/// When WSK completes an operation that it could complete at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completions {
    /// Inside the call, at the caller's IRQL.
    #[default]
    Inline,
    /// Later, on another thread, at DISPATCH_LEVEL; the call returns STATUS_PENDING.
    Deferred,
    /// One or the other, by a seeded sequence.
    Mixed,
}

/// Who is told when a token is ready.
#[derive(Clone)]
enum Target {
    Socket(Arc<Socket>),
    /// A connection that waits for WskInspectComplete, and its listener.
    Held(Arc<Socket>),
}

/// Work for the network threads.
enum Job {
    /// What its operations have led to is worked on.
    Drain(Arc<Socket>),
    /// It is looked at as if the network had said that it is ready.
    Pump(Arc<Socket>),
    Complete(Completion),
}

/// The WSK of a machine.
#[derive(Default)]
pub(crate) struct Wsk {
    registrations: Mutex<HashMap<usize, Arc<Registration>>>,
    /// Open sockets by the address of their WSK_SOCKET.
    sockets: Mutex<HashMap<usize, Arc<Socket>>>,
    targets: Mutex<HashMap<u64, Target>>,
    next_token: AtomicU64,
    /// Completions whose IRPs' cancel routines were already on their way; those complete them, for these sockets.
    claimed: Mutex<HashMap<usize, (Completion, Arc<Socket>)>>,
    jobs: Mutex<VecDeque<Job>>,
    backend: OnceLock<Arc<dyn Backend>>,
    started: AtomicBool,
    hooked: AtomicBool,
    mode: AtomicU8,
    random: AtomicU64,
    /// Security descriptors from WSK_CACHE_SD.
    descriptors: Mutex<Vec<usize>>,
    pub(super) readiness: registration::Readiness,
}

/// The WSK of the calling thread's machine.
pub(crate) fn wsk() -> Arc<Wsk> {
    kernel().extension()
}

impl Wsk {
    /// Sets when completions arrive; the seed is for `Mixed`.
    pub(crate) fn set_completions(&self, completions: Completions, seed: u64) {
        self.random.store(seed | 1, Ordering::Relaxed);
        self.mode.store(completions as u8, Ordering::Relaxed);
    }

    /// Sets the back end, before there are sockets. False if there is one already.
    pub(crate) fn set_backend(&self, backend: Arc<dyn Backend>) -> bool {
        self.backend.set(backend).is_ok()
    }

    /// The back end; the host's own network if none was set.
    fn backend(&self) -> &Arc<dyn Backend> {
        self.backend.get_or_init(|| Arc::new(crate::network::Host::new().expect("descriptors for the network")))
    }

    /// Whether the next completion may be inline.
    fn inline(&self) -> bool {
        const DEFERRED: u8 = Completions::Deferred as u8;
        const MIXED: u8 = Completions::Mixed as u8;
        match self.mode.load(Ordering::Relaxed) {
            DEFERRED => false,
            MIXED => {
                // xorshift64
                let step = |mut x: u64| {
                    x ^= x << 13;
                    x ^= x >> 7;
                    Some(x ^ x << 17)
                };
                let old = self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
                old.is_ok_and(|value| value & 0x100 == 0)
            }
            _ => true,
        }
    }

    fn new_token(&self) -> u64 {
        self.next_token.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Has a network thread look at a socket.
    fn queue_pump(&self, socket: &Arc<Socket>) {
        self.queue(Job::Pump(socket.clone()));
    }

    fn queue(&self, job: Job) {
        self.jobs.lock().push_back(job);
        self.backend().wake();
    }

    /// Starts the network threads, once.
    fn start(self: &Arc<Self>, kernel: &Arc<Kernel>) {
        /// So many sockets can be served at the same time.
        const THREADS: usize = 2;
        if self.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let backend = self.backend().clone();
        kernel.on_stop(move || backend.wake());
        for _ in 0..THREADS {
            let wsk = self.clone();
            // Without memory for a thread nothing completes, which a test sees as a hang.
            let _ = start_system_thread(kernel, "network", move || wsk.run());
        }
    }

    /// A network thread: readiness and queued work, at DISPATCH_LEVEL as a protocol driver's DPCs run.
    fn run(self: Arc<Self>) {
        let current = current();
        current.irql.set(DISPATCH_LEVEL);
        let mut ready = Vec::new();
        loop {
            self.backend().wait(&mut ready);
            for token in ready.drain(..) {
                let target = self.targets.lock().get(&token).cloned();
                match target {
                    Some(Target::Socket(socket)) => socket.pump(&self),
                    Some(Target::Held(listener)) => listen::held_is_ready(&self, &listener, token),
                    None => {}
                }
                dpc::retire_between(current);
            }
            loop {
                if current.kernel.is_stopped() {
                    // One wake-up is for one thread: hand it on.
                    self.backend().wake();
                    return;
                }
                let job = self.jobs.lock().pop_front();
                match job {
                    Some(Job::Drain(socket)) => socket.drain(&self),
                    Some(Job::Pump(socket)) => socket.pump(&self),
                    Some(Job::Complete(completion)) => completion.complete(),
                    None => break,
                }
                dpc::retire_between(current);
            }
        }
    }
}

/// The NTSTATUS that Windows' TCP gives for a cause.
pub(super) fn status_of(error: NetworkError) -> NTSTATUS {
    match error {
        NetworkError::Refused => STATUS_CONNECTION_REFUSED,
        NetworkError::Reset => STATUS_CONNECTION_RESET,
        NetworkError::TimedOut => STATUS_IO_TIMEOUT,
        NetworkError::HostUnreachable => STATUS_HOST_UNREACHABLE,
        NetworkError::NetworkUnreachable => STATUS_NETWORK_UNREACHABLE,
        NetworkError::AddressInUse => STATUS_ADDRESS_ALREADY_EXISTS,
        NetworkError::AddressNotAvailable => STATUS_INVALID_ADDRESS_COMPONENT,
        NetworkError::AccessDenied => STATUS_ACCESS_DENIED,
        NetworkError::NotConnected => STATUS_CONNECTION_INVALID,
        NetworkError::AlreadyConnected => STATUS_CONNECTION_ACTIVE,
        NetworkError::NoBuffers => STATUS_INSUFFICIENT_RESOURCES,
        NetworkError::NotSupported => STATUS_NOT_SUPPORTED,
        NetworkError::BadBuffer => STATUS_INVALID_USER_BUFFER,
        NetworkError::Invalid => STATUS_INVALID_PARAMETER,
    }
}

fn exports() -> impl Iterator<Item = (&'static str, Export)> {
    registration::EXPORTS.iter().chain(nmr::EXPORTS).copied()
}

/// What netio.sys exports under a name.
pub(crate) fn find(name: &str) -> Option<Export> {
    exports().find(|(known, _)| *known == name).map(|(_, export)| export)
}

/// Every function that drivers can call: exports, and those in the dispatch tables.
#[cfg(test)]
pub(crate) fn functions() -> Vec<(&'static str, usize)> {
    let exported = exports().filter_map(|(name, export)| Some((name, export.code()?)));
    exported.chain(dispatch::functions()).collect()
}

/// A rule that a driver which is being unloaded has broken towards WSK.
pub(crate) fn left_behind(kernel: &Kernel) -> Option<(Rule, String)> {
    let wsk: Arc<Wsk> = kernel.extension();
    let (sockets, registrations) = (wsk.sockets.lock().len(), wsk.registrations.lock().len());
    if sockets != 0 {
        return Some((Rule::Wsk(5), format!("{sockets} open WSK sockets")));
    }
    if registrations != 0 {
        return Some((Rule::Wsk(2), format!("{registrations} WSK registrations without WskDeregister")));
    }
    nmr::left_behind(kernel)
}

/// What a machine's WSK has in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WskUse {
    /// Open sockets.
    pub sockets: usize,
    /// Registered clients.
    pub registrations: usize,
}

impl Wsk {
    pub(crate) fn in_use(&self) -> WskUse {
        WskUse { sockets: self.sockets.lock().len(), registrations: self.registrations.lock().len() }
    }
}
