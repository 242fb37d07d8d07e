//! Handles of the device through which every answer is looked at.

use super::documented::is_documented;
use parking_lot::Mutex;
use san_protocol::ControlCode;
use san_proxy::{Completed, Completion, Device, DeviceRequest, Error, Event, SharedMemory, Ticket};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use test_harness::device::HarnessDevice;
use test_harness::machine::Process;
use test_harness::nt::status::STATUS_PROCESS_IS_TERMINATING;

/// The processes of a machine, their handles, and what these have seen.
#[derive(Default)]
pub(crate) struct Watch {
    processes: Mutex<Vec<Weak<Process>>>,
    seen: Mutex<Seen>,
    devices: Mutex<Vec<Weak<Watched>>>,
}

#[derive(Default)]
struct Seen {
    /// The requests that were made, by their codes.
    codes: BTreeSet<u32>,
    /// Answers that the documentation does not know.
    undocumented: BTreeSet<String>,
}

impl Watch {
    /// Opens the device in a process.
    pub(crate) fn open(self: &Arc<Self>, process: &Arc<Process>) -> Result<Arc<Watched>, Error> {
        let device = HarnessDevice::open(process)?;
        let device = Arc::new(Watched { device, watch: self.clone() });
        self.devices.lock().push(Arc::downgrade(&device));
        Ok(device)
    }

    /// Takes a process of the machine to those that it knows.
    pub(crate) fn enlist(&self, process: Process) -> Arc<Process> {
        let process = Arc::new(process);
        self.processes.lock().push(Arc::downgrade(&process));
        process
    }

    /// Kills all processes.
    pub(crate) fn end_processes(&self) {
        let processes = self.processes.lock().clone();
        processes.iter().filter_map(Weak::upgrade).for_each(|process| process.exit());
    }

    /// The handles that are open.
    pub(crate) fn devices(&self) -> Vec<Arc<Watched>> {
        let mut devices = self.devices.lock();
        devices.retain(|device| device.strong_count() != 0);
        devices.iter().filter_map(Weak::upgrade).collect()
    }

    /// The codes of the requests that were made.
    #[allow(dead_code)] // for the sweeps, whose paths have to ask for everything
    pub(crate) fn codes(&self) -> BTreeSet<u32> {
        self.seen.lock().codes.clone()
    }

    /// Answers that `docs/ioctl.md` does not know for their requests.
    pub(crate) fn undocumented(&self) -> BTreeSet<String> {
        self.seen.lock().undocumented.clone()
    }

    /// No answer was given that the documentation does not know.
    #[track_caller]
    pub(crate) fn check(&self) {
        let undocumented = self.undocumented();
        assert!(undocumented.is_empty(), "docs/ioctl.md does not know {undocumented:#?}");
    }
}

/// A handle whose answers are looked at.
pub(crate) struct Watched {
    device: HarnessDevice,
    watch: Arc<Watch>,
}

impl Watched {
    /// CancelIoEx for all requests of the handle.
    pub(crate) fn cancel_all(&self) {
        if let Some(handle) = self.device.handle() {
            // It fails if there are none.
            let _ = self.device.process().cancel(handle, None);
        }
    }

    pub(crate) fn close(&self) {
        self.device.close();
    }

    fn watch(&self, code: u32, done: Completion) -> Completion {
        let watch = self.watch.clone();
        watch.seen.lock().codes.insert(code);
        Box::new(move |completed: Completed| {
            let status = completed.status;
            // Of codes that the driver does not know the page says what becomes of them, too: no name of a request stands for it.
            let is_known = ControlCode::from_value(code).is_none_or(|code| is_documented(code, status));
            // The system itself refuses what a process asks for that is being ended.
            if !is_known && status.0 != STATUS_PROCESS_IS_TERMINATING {
                let answer = format!("{:?}: {status}", ControlCode::from_value(code));
                watch.seen.lock().undocumented.insert(answer);
            }
            done(completed);
        })
    }
}

impl Device for Watched {
    fn submit(&self, request: DeviceRequest, done: Completion) -> Ticket {
        let done = self.watch(request.code, done);
        self.device.submit(request, done)
    }

    fn submit_with_memory(&self, request: DeviceRequest, memory: Arc<SharedMemory>, done: Completion) -> Ticket {
        let done = self.watch(request.code, done);
        self.device.submit_with_memory(request, memory, done)
    }

    fn cancel(&self, ticket: Ticket) {
        self.device.cancel(ticket);
    }

    fn create_event(&self) -> Result<Arc<dyn Event>, Error> {
        self.device.create_event()
    }

    fn wait_scheduled(&self, is_over: &dyn Fn() -> bool, timeout: Option<Duration>) -> Option<bool> {
        self.device.wait_scheduled(is_over, timeout)
    }

    fn claim_administration(&self) {
        self.device.claim_administration();
    }
}
