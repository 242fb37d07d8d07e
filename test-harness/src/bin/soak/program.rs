//! A program: a process with the device open, whose requests are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use san_proxy::{Completed, Completion, Device, DeviceRequest, Error, Event, Pending, Provider, SharedMemory, Ticket};
use test_harness::Machine;
use test_harness::device::HarnessDevice;
use test_harness::machine::Process;

/// After so long a request is cancelled: its peer may have failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// What all programs have done.
#[derive(Default)]
pub(crate) struct Counts {
    /// Requests that have ended.
    pub(crate) requests: AtomicU64,
    /// Those of them that have failed.
    pub(crate) failures: AtomicU64,
    /// Bytes that were received and compared.
    pub(crate) bytes: AtomicU64,
}

impl Counts {
    pub(crate) fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A process. Dropping it ends it, whatever it has under way.
pub(crate) struct Program {
    pub(crate) provider: Provider,
    pub(crate) process: Arc<Process>,
    pub(crate) counts: Arc<Counts>,
}

impl Program {
    pub(crate) fn new(machine: &Machine, counts: &Arc<Counts>) -> Result<Self, Error> {
        let process = Arc::new(machine.process());
        let device = Counted { device: HarnessDevice::open(&process)?, counts: counts.clone() };
        Ok(Self { provider: Provider::new(Arc::new(device)), process, counts: counts.clone() })
    }
}

/// Waits for a request, but not for ever.
pub(crate) fn end<T>(pending: Pending<T>) -> T {
    pending.wait_or_cancel(PATIENCE)
}

struct Counted {
    device: HarnessDevice,
    counts: Arc<Counts>,
}

impl Counted {
    fn count(&self, done: Completion) -> Completion {
        let counts = self.counts.clone();
        Box::new(move |completed: Completed| {
            counts.requests.fetch_add(1, Ordering::Relaxed);
            if !completed.status.is_success() {
                counts.failures.fetch_add(1, Ordering::Relaxed);
            }
            done(completed);
        })
    }
}

impl Device for Counted {
    fn submit(&self, request: DeviceRequest, done: Completion) -> Ticket {
        let done = self.count(done);
        self.device.submit(request, done)
    }

    fn submit_with_memory(&self, request: DeviceRequest, memory: Arc<SharedMemory>, done: Completion) -> Ticket {
        let done = self.count(done);
        self.device.submit_with_memory(request, memory, done)
    }

    fn cancel(&self, ticket: Ticket) {
        self.device.cancel(ticket);
    }

    fn create_event(&self) -> Result<Arc<dyn Event>, Error> {
        self.device.create_event()
    }

    fn claim_administration(&self) {
        self.device.claim_administration();
    }
}
