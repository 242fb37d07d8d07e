//! A process with the device open, whose answers are looked at.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use san_protocol::{ControlCode, DEVICE_PATH, NtStatus};
use test_harness::machine::{Handle, IoToken, Process};
use zerocopy::IntoBytes;

use crate::bed::{Failure, PATIENCE, wrong};
use crate::documented::is_documented;

/// Whether requests and their ends are written to standard error as they come.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Has them written from now on.
pub(crate) fn show_requests() {
    SHOWN.store(true, Ordering::Relaxed);
}

fn show(what: impl FnOnce() -> String) {
    if SHOWN.load(Ordering::Relaxed) {
        eprintln!("{}", what());
    }
}

/// What a control code is called.
fn name(code: u32) -> String {
    ControlCode::from_value(code).map_or_else(|| format!("control code {code:#010x}"), |code| format!("{code:?}"))
}

/// GENERIC_READ | GENERIC_WRITE.
const READ_WRITE: u32 = 0xC000_0000;

/// How a request has ended.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: NtStatus,
    /// IO_STATUS_BLOCK.Information.
    pub(crate) information: usize,
    /// The whole output buffer.
    pub(crate) output: Vec<u8>,
}

impl Answer {
    /// The output that the information names, of a success.
    pub(crate) fn reply(&self) -> Option<&[u8]> {
        self.status.is_success().then(|| self.output.get(..self.information)).flatten()
    }
}

#[derive(Default)]
struct Slot {
    /// How often the request was completed, and how.
    ended: Mutex<(usize, Option<Answer>)>,
    told: Condvar,
}

/// A request that was issued.
#[derive(Clone)]
pub(crate) struct Request {
    code: u32,
    token: Option<IoToken>,
    slot: Arc<Slot>,
}

impl Request {
    /// How it has ended, if it has.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.slot.ended.lock().1.clone()
    }

    /// Waits for its end, but not longer than this.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<Answer> {
        let deadline = Instant::now() + timeout;
        let mut ended = self.slot.ended.lock();
        while ended.1.is_none() && !self.slot.told.wait_until(&mut ended, deadline).timed_out() {}
        ended.1.clone()
    }

    /// Has it have ended with another status.
    #[cfg(test)]
    pub(crate) fn pretend(&self, status: NtStatus) {
        let answer = Answer { status, information: 0, output: Vec::new() };
        self.slot.ended.lock().1 = Some(answer);
    }

    /// Fails if the answer is none that the documentation knows.
    fn check(&self) -> Result<(), Failure> {
        // The thread that completes it may be about to say so.
        let _ = self.wait(PATIENCE);
        let code = ControlCode::from_value(self.code);
        let what = || name(self.code);
        let ended = self.slot.ended.lock();
        let (count, Some(answer)) = &*ended else { return wrong(format!("{} has not ended with its handle", what())) };
        if *count != 1 {
            return wrong(format!("{} was completed {count} times", what()));
        }
        let known = match code {
            Some(code) => is_documented(code, answer.status),
            None => [NtStatus::INVALID_DEVICE_REQUEST, NtStatus::ACCESS_DENIED].contains(&answer.status),
        };
        if !known {
            return wrong(format!("{} ended with {}, which docs/ioctl.md does not know", what(), answer.status));
        }
        if answer.information > answer.output.len() {
            let (information, length) = (answer.information, answer.output.len());
            return wrong(format!("{} has written {information} bytes into {length}", what()));
        }
        Ok(())
    }
}

/// A process with one handle of the device.
pub(crate) struct Client {
    process: Process,
    handle: Handle,
    requests: RefCell<Vec<Request>>,
}

impl Client {
    pub(crate) fn open(process: Process) -> Result<Self, NtStatus> {
        let handle = process.open(DEVICE_PATH, READ_WRITE).map_err(NtStatus)?;
        Ok(Self { process, handle, requests: RefCell::default() })
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Issues any request.
    pub(crate) fn issue(&self, code: u32, input: Vec<u8>, output: Vec<u8>) -> Request {
        let slot = Arc::<Slot>::default();
        let told = slot.clone();
        let number = self.requests.borrow().len();
        let process = self.process.id();
        show(|| format!("{process}.{number}: {} {input:02x?}, output of {}", name(code), output.len()));
        let issued = self.process.control_async(self.handle, code, input, output, move |(ended, _, output)| {
            let answer = Answer { status: NtStatus(ended.status), information: ended.information, output };
            show(|| {
                let reply = answer.reply().map(|reply| &reply[..reply.len().min(64)]).unwrap_or_default();
                format!("{process}.{number}: {} {reply:02x?}", answer.status)
            });
            let mut ended = told.ended.lock();
            *ended = (ended.0 + 1, Some(answer));
            told.told.notify_all();
        });
        if let Err(status) = issued {
            show(|| format!("{process}.{number}: {}", NtStatus(status)));
            let answer = Answer { status: NtStatus(status), information: 0, output: Vec::new() };
            *slot.ended.lock() = (1, Some(answer));
        }
        let request = Request { code, token: issued.ok(), slot };
        self.requests.borrow_mut().push(request.clone());
        request
    }

    /// Issues a request of the protocol.
    pub(crate) fn request(&self, code: ControlCode, input: &impl Bytes, output: Vec<u8>) -> Request {
        self.issue(code.value(), input.bytes(), output)
    }

    /// Cancels a request of this process, if it has not ended.
    pub(crate) fn cancel(&self, request: &Request) {
        if let Some(token) = request.token {
            // It fails if the request has ended.
            let _ = self.process.cancel(self.handle, Some(token));
        }
    }

    /// The request issued as the `index`th, counted round and round.
    pub(crate) fn nth(&self, index: usize) -> Option<Request> {
        let requests = self.requests.borrow();
        (!requests.is_empty()).then(|| requests[index % requests.len()].clone())
    }

    /// Ends the process. All that it has asked for has ended then, each request once and with a status that is documented.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.process.exit();
        self.requests.borrow().iter().try_for_each(Request::check)
    }
}

/// What a request's input is made of.
pub(crate) trait Bytes {
    fn bytes(&self) -> Vec<u8>;
}

impl<T: IntoBytes + zerocopy::Immutable> Bytes for T {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}
