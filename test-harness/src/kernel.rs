//! The state of one machine's kernel, and how it stops.

use std::any::{Any, TypeId};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::image::unwind::Backtrace;
use crate::image::{self, Frame};
use crate::nt::activity::Activities;
use crate::nt::bug_check::BugCheckCallbacks;
use crate::nt::callback_object::CallbackObjects;
use crate::nt::debug::DebugLog;
use crate::nt::dispatcher::Dispatcher;
use crate::nt::dpc::Dpcs;
use crate::nt::etw::Events;
use crate::nt::io::Io;
use crate::nt::irp::Irps;
use crate::nt::lent::Lent;
use crate::nt::lock_order::LockOrder;
use crate::nt::locked_pages::LockedPages;
use crate::nt::object::Objects;
use crate::nt::paging::Paging;
use crate::nt::pool::{Pool, PoolGuard};
use crate::nt::power::Power;
use crate::nt::power_framework::PowerFramework;
use crate::nt::process::Processes;
use crate::nt::registry::Registry;
use crate::nt::timer::Timers;
use crate::nt::work::Workers;
use crate::preemption::Preemption;
use crate::simulation::{self, Condvar, JoinHandle};
use crate::thread::try_current;
use crate::violation::{Rule, Violation};

/// What a machine is made with.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) name: String,
    /// System worker threads that exist from the start; more come while all are busy.
    pub(crate) workers: usize,
    /// Whether freed pool is made inaccessible, and every block ends at a guard page.
    pub(crate) guarded_pool: bool,
    /// On which side of a block its guard page lies.
    pub(crate) pool_guard: PoolGuard,
    /// How long a spin lock may be held.
    pub(crate) spin_lock_limit: Duration,
    /// Whether what the documentation only advises against is noted, and no violation.
    pub(crate) is_lenient: bool,
    /// Microsoft's `Wdf01000.sys`, to which clients of KMDF are bound; without it they get the framework that this crate has.
    pub(crate) kmdf: Option<PathBuf>,
    /// Hosts that the machine knows by name.
    pub(crate) hosts: Vec<(String, IpAddr)>,
}

/// One simulated kernel. Its threads find it through [`crate::thread::kernel`].
pub(crate) struct Kernel {
    pub(crate) options: Options,
    pub(crate) pool: Pool,
    pub(crate) power: Power,
    pub(crate) power_framework: PowerFramework,
    pub(crate) paging: Paging,
    pub(crate) lock_order: LockOrder,
    pub(crate) lent: Lent,
    pub(crate) faults: FaultInjection,
    pub(crate) preemption: Preemption,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) dispatch_sections: DispatchSections,
    pub(crate) dpcs: Dpcs,
    pub(crate) timers: Timers,
    pub(crate) bug_check_callbacks: BugCheckCallbacks,
    pub(crate) callback_objects: CallbackObjects,
    pub(crate) workers: Workers,
    pub(crate) objects: Objects,
    pub(crate) processes: Processes,
    pub(crate) irps: Irps,
    pub(crate) locked_pages: LockedPages,
    pub(crate) io: Io,
    pub(crate) registry: Registry,
    pub(crate) debug: DebugLog,
    pub(crate) events: Events,
    pub(crate) activities: Activities,
    stopped: AtomicBool,
    violation: Mutex<Option<Violation>>,
    /// What was advised against.
    notes: Mutex<Vec<String>>,
    claimed: AtomicBool,
    extensions: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop_hooks: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

impl Kernel {
    pub(crate) fn new(options: Options) -> std::io::Result<Self> {
        Ok(Self {
            pool: Pool::new(options.guarded_pool, options.pool_guard)?,
            power: Power::default(),
            power_framework: PowerFramework::default(),
            paging: Paging::default(),
            lock_order: LockOrder::default(),
            lent: Lent::default(),
            faults: FaultInjection::default(),
            preemption: Preemption::default(),
            dispatcher: Dispatcher::default(),
            dispatch_sections: DispatchSections::default(),
            dpcs: Dpcs::default(),
            timers: Timers::default(),
            bug_check_callbacks: BugCheckCallbacks::default(),
            callback_objects: CallbackObjects::default(),
            workers: Workers::default(),
            objects: Objects::default(),
            processes: Processes::default(),
            irps: Irps::default(),
            locked_pages: LockedPages::default(),
            io: Io::default(),
            registry: Registry::default(),
            debug: DebugLog::default(),
            events: Events::default(),
            activities: Activities::default(),
            stopped: AtomicBool::new(false),
            violation: Mutex::new(None),
            notes: Mutex::default(),
            claimed: AtomicBool::new(false),
            extensions: Mutex::default(),
            threads: Mutex::default(),
            stop_hooks: Mutex::default(),
            options,
        })
    }

    /// Whether a violation has ended this machine, or it is being taken down.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Records a violation, unless there is one already, and stops the machine. The caller then leaves the driver.
    pub(crate) fn report(&self, rule: Rule, text: String, call: &'static str, backtrace: &Backtrace) {
        self.report_at(rule, text, call, backtrace.frames());
    }

    /// As [`Self::report`], with the addresses of the driver's frames.
    pub(crate) fn report_at(&self, rule: Rule, text: String, call: &'static str, addresses: &[usize]) {
        let first = {
            let mut violation = self.violation.lock();
            let first = violation.is_none() && !self.is_stopped();
            if first {
                let backtrace: Vec<Frame> = image::resolve(addresses);
                *violation = Some(Violation { rule, text, call, machine: self.options.name.clone(), backtrace });
            }
            first
        };
        if first {
            self.stop();
        }
    }

    pub(crate) fn note(&self, what: String) {
        self.notes.lock().push(what);
    }

    /// What was noted.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.lock().clone()
    }

    /// The recorded violation, once it is known to somebody.
    pub(crate) fn claim_violation(&self) -> Option<Violation> {
        let violation = self.violation.lock().clone();
        if violation.is_some() {
            self.claimed.store(true, Ordering::Release);
        }
        violation
    }

    /// The recorded violation, if nobody has claimed it.
    pub(crate) fn take_violation(&self) -> Option<Violation> {
        self.violation.lock().take().filter(|_| !self.claimed.load(Ordering::Acquire))
    }

    /// Whether a thread runs some driver's entry point.
    pub(crate) fn io_is_starting_a_driver(&self, thread: usize) -> bool {
        self.io.starting.load(Ordering::Acquire) == thread
    }

    /// Ends every wait; kernel calls from now on leave the driver. Pending requests end with STATUS_SYSTEM_SHUTDOWN.
    pub(crate) fn stop(&self) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        self.dispatcher.stop();
        self.dpcs.stop();
        self.timers.stop();
        self.workers.stop();
        self.callback_objects.stop();
        self.power_framework.stop();
        self.io.stop();
        self.irps.abandon();
        let hooks = std::mem::take(&mut *self.stop_hooks.lock());
        for hook in hooks {
            hook();
        }
    }

    /// Has `hook` called when the machine stops, or now if it has: it ends waits that this kernel does not know.
    pub(crate) fn on_stop(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.stop_hooks.lock().push(Box::new(hook));
        if self.is_stopped() {
            let hooks = std::mem::take(&mut *self.stop_hooks.lock());
            for hook in hooks {
                hook();
            }
        }
    }

    /// The state that another layer (KMDF, WSK) keeps for this machine, made when it is first asked for.
    pub(crate) fn extension<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut extensions = self.extensions.lock();
        let slot = extensions.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        slot.clone().downcast().expect("the slot of a type holds that type")
    }

    /// Forgets the layers' state, and with it whatever holds on to this machine.
    pub(crate) fn drop_extensions(&self) {
        let extensions = std::mem::take(&mut *self.extensions.lock());
        drop(extensions);
    }

    /// Starts a host thread that belongs to the machine, and is joined when the machine goes.
    pub(crate) fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let handle = simulation::spawn(std::thread::Builder::new().stack_size(1 << 20), name, body)?;
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        threads.push(handle);
        Ok(())
    }

    /// The threads to be joined.
    pub(crate) fn take_threads(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.threads.lock())
    }
}

/// The stretches of driver code that run at DISPATCH_LEVEL. A processor there takes no DPC, so KeFlushQueuedDpcs waits for each.
#[derive(Default)]
pub(crate) struct DispatchSections {
    running: Mutex<BTreeSet<u64>>,
    next: AtomicU64,
    ended: Condvar,
}

impl DispatchSections {
    /// Driver code is entered at DISPATCH_LEVEL. Frames that are abandoned by a violation never end their section.
    pub(crate) fn begin(&self) -> u64 {
        let section = self.next.fetch_add(1, Ordering::Relaxed);
        self.running.lock().insert(section);
        section
    }

    pub(crate) fn end(&self, section: u64) {
        self.running.lock().remove(&section);
        self.ended.notify_all();
    }

    /// Waits until every section that runs now has ended. False if `stopped` says so first.
    pub(crate) fn wait(&self, stopped: impl Fn() -> bool) -> bool {
        let limit = self.next.load(Ordering::Relaxed);
        let mut running = self.running.lock();
        while running.first().is_some_and(|oldest| *oldest < limit) {
            if stopped() {
                return false;
            }
            self.ended.wait_for(&mut running, Duration::from_millis(20));
        }
        true
    }
}

/// Counts the calls that Windows may refuse for want of memory, and refuses the chosen one.
#[derive(Debug)]
pub(crate) struct FaultInjection {
    asked: AtomicU64,
    /// Calls until the one that fails; negative for none.
    until: AtomicI64,
    refused: Mutex<Option<&'static str>>,
}

impl Default for FaultInjection {
    fn default() -> Self {
        Self { asked: AtomicU64::new(0), until: AtomicI64::new(-1), refused: Mutex::new(None) }
    }
}

impl FaultInjection {
    /// Called once by everything that allocates on a driver's behalf; true if it has to fail.
    pub(crate) fn allocation_fails(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.until.load(Ordering::Relaxed) < 0 {
            return false;
        }
        let fails = self.until.fetch_sub(1, Ordering::Relaxed) == 0;
        if fails {
            *self.refused.lock() = Some(try_current().map_or("", |current| current.call.get()));
        }
        fails
    }

    /// Lets the allocation after `n` more fail.
    pub(crate) fn fail_after(&self, n: u32) {
        *self.refused.lock() = None;
        self.until.store(i64::from(n), Ordering::Relaxed);
    }

    pub(crate) fn fail_none(&self) {
        self.until.store(-1, Ordering::Relaxed);
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Whether the chosen allocation has been asked for, and refused.
    pub(crate) fn has_failed(&self) -> bool {
        self.refused().is_some()
    }

    /// The call that has been refused.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        *self.refused.lock()
    }
}
