//! What may befall a scenario that is run to see whether the driver bears it: a refused allocation, or an end in its middle. The
//! scenario then fails as it likes; the driver has to come out of it clean.

use super::watched::Watch;
use super::{Bed, PATIENCE};
use parking_lot::Mutex;
use san_proxy::Provider;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use test_harness::machine::{Builder, Process};
use test_harness::nt::pool::PoolGuard;
use test_harness::{Driver, Machine};

/// Names what befalls the scenarios of this process, as [`Adversity`] is written.
pub(crate) const ADVERSITY: &str = "SANWSK_ADVERSITY";
/// The file that a line is added to for each machine, as [`Outcome`] is written.
pub(crate) const REPORT: &str = "SANWSK_ADVERSITY_REPORT";

/// How long a scenario may go on after it has met with adversity, before its process is ended under it; and then, before it is left
/// to itself.
const GRACE: Duration = Duration::from_millis(500);

/// What befalls a machine, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Adversity {
    pub(crate) kind: Kind,
    /// How many refusable calls, or calls of any kind, come before.
    pub(crate) after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An allocation, or a call that Windows may refuse, is refused.
    Refuse,
    /// CancelIoEx for all requests of all handles, while the thread that made the call is off the processor.
    Cancel,
    /// The handles are closed.
    Close,
    /// The process is killed.
    Exit,
    /// The driver is stopped: it goes with its last handle.
    Unload,
}

/// Each with its name.
const KINDS: [(Kind, &str); 5] = [
    (Kind::Refuse, "refuse"),
    (Kind::Cancel, "cancel"),
    (Kind::Close, "close"),
    (Kind::Exit, "exit"),
    (Kind::Unload, "unload"),
];

impl fmt::Display for Adversity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name);
        write!(f, "{name}:{}", self.after)
    }
}

impl FromStr for Adversity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{ADVERSITY}={text}: it is one of refuse, cancel, close, exit, unload, a colon, and a number");
        let (name, after) = text.split_once(':').ok_or_else(wrong)?;
        let (kind, _) = KINDS.into_iter().find(|(_, known)| *known == name).ok_or_else(wrong)?;
        Ok(Self { kind, after: after.parse().map_err(|_| wrong())? })
    }
}

/// How a machine came out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Clean.
    Clean {
        /// Whether the scenario has come to the call at all.
        was_met: bool,
        /// Calls that could have been refused, and calls of any kind, of a scenario that has come to its end.
        refusable: u64,
        calls: u64,
    },
    /// Not.
    Broken(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean { was_met, refusable, calls } => write!(f, "clean {was_met} {refusable} {calls}"),
            Self::Broken(how) => write!(f, "broken {}", how.escape_debug()),
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["clean", was_met, refusable, calls] => Ok(Self::Clean {
                was_met: was_met.parse().map_err(|_| line.to_owned())?,
                refusable: refusable.parse().map_err(|_| line.to_owned())?,
                calls: calls.parse().map_err(|_| line.to_owned())?,
            }),
            ["broken", ..] => Ok(Self::Broken(line["broken ".len()..].replace("\\n", "\n"))),
            _ => Err(line.to_owned()),
        }
    }
}

/// What befalls the scenarios of this process, if anything.
pub(crate) fn from_environment() -> Option<Adversity> {
    let text = std::env::var(ADVERSITY).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{error}")))
}

/// Where the guard page lies: before the driver's blocks each other time.
pub(crate) fn with_pool_guard(builder: Builder) -> Builder {
    match from_environment() {
        Some(Adversity { after, .. }) if after % 2 == 1 => builder.pool_guard(PoolGuard::Before),
        _ => builder,
    }
}

/// What meets with adversity.
struct Subject {
    adversity: Adversity,
    machine: Arc<Machine>,
    driver: Mutex<Driver>,
    process: Arc<Process>,
    watch: Arc<Watch>,
    /// Whether somebody looks at how it has come out of it.
    is_over: AtomicBool,
}

/// A machine that meets with adversity. Dropped, also by a scenario that fails, it sees whether the driver has come out of it clean.
pub(crate) struct Trial {
    subject: Arc<Subject>,
    /// Calls before it began: those that could have been refused, and all.
    before: (u64, u64),
    /// Tells at its end whether the adversity was met.
    fate: Option<JoinHandle<bool>>,
}

impl Trial {
    /// Begins now, if this process is one of trials.
    pub(crate) fn of(bed: &Bed) -> Option<Self> {
        let subject = Arc::new(Subject {
            adversity: from_environment()?,
            machine: bed.machine.clone(),
            driver: Mutex::new(bed.driver.clone()),
            process: bed.process.clone(),
            watch: bed.watch.clone(),
            is_over: AtomicBool::new(false),
        });
        let Adversity { kind, after } = subject.adversity;
        let before = (subject.machine.allocations(), subject.machine.calls());
        match kind {
            Kind::Refuse => subject.machine.fail_allocation(u32::try_from(after).unwrap_or(u32::MAX)),
            Kind::Cancel | Kind::Close | Kind::Exit | Kind::Unload => subject.machine.preempt(after),
        }
        let fate = thread::spawn({
            let subject = subject.clone();
            move || subject.meet_its_fate()
        });
        Some(Self { subject, before, fate: Some(fate) })
    }

    /// The machine's driver is another one from now on.
    pub(crate) fn follow(&self, driver: Driver) {
        *self.subject.driver.lock() = driver;
    }

    fn outcome(&mut self) -> Outcome {
        let machine = &self.subject.machine;
        machine.go_on();
        let Some(Ok(was_met)) = self.fate.take().map(|fate| {
            fate.thread().unpark();
            fate.join()
        }) else {
            return Outcome::Broken("what was to befall it failed".into());
        };
        let (refusable, calls) = (machine.allocations() - self.before.0, machine.calls() - self.before.1);
        self.subject.end().map_or_else(Outcome::Broken, |()| Outcome::Clean { was_met, refusable, calls })
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.subject.is_over.store(true, Ordering::Release);
        let outcome = self.outcome();
        self.subject.report(&outcome);
    }
}

impl Subject {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Waits until the call comes, and does what is to be done then. Whether it came before the trial was over.
    fn meet_its_fate(&self) -> bool {
        let was_met = self.await_and_bring_about();
        if was_met {
            self.wait_for_the_end();
            // What the scenario waits for does not come any more.
            self.watch.end_processes();
            self.wait_for_the_end();
            if !self.is_over.swap(true, Ordering::AcqRel) {
                // It waits for a host's socket. The driver has nothing to do with that.
                let clean = Outcome::Clean { was_met, refusable: 0, calls: 0 };
                self.report(&self.end().map_or_else(Outcome::Broken, |()| clean));
                std::process::exit(0);
            }
        }
        was_met
    }

    fn wait_for_the_end(&self) {
        let deadline = Instant::now() + GRACE;
        while !self.is_over() && Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn await_and_bring_about(&self) -> bool {
        let Self { adversity, machine, driver, process, watch, .. } = self;
        match adversity.kind {
            Kind::Refuse => {
                while !machine.allocation_has_failed() && !self.is_over() {
                    thread::park_timeout(Duration::from_millis(5));
                }
                return machine.allocation_has_failed();
            }
            Kind::Cancel | Kind::Close | Kind::Exit | Kind::Unload => {
                // The end of the trial ends the wait, too.
                if machine.wait_preempted(Duration::MAX).is_none() {
                    return false;
                }
            }
        }
        match adversity.kind {
            Kind::Refuse => {}
            Kind::Cancel => watch.devices().iter().for_each(|device| device.cancel_all()),
            Kind::Close => watch.devices().iter().for_each(|device| device.close()),
            Kind::Exit => process.exit(),
            Kind::Unload => {
                let driver = driver.lock().clone();
                // It fails where the scenario has unloaded it itself.
                let _ = machine.unload(&driver);
            }
        }
        machine.go_on();
        true
    }

    /// Whether everything ends well: the driver still answers, goes, and leaves nothing behind.
    fn end(&self) -> Result<(), String> {
        let Self { machine, watch, .. } = self;
        let driver = self.driver.lock().clone();
        let no_violation = || machine.violation().map_or(Ok(()), |violation| Err(violation.to_string()));
        machine.fail_no_allocation();
        watch.end_processes();
        no_violation()?;
        let other = Arc::new(machine.process());
        // It cannot be opened once it is to be unloaded, by this trial or by the scenario itself.
        if let Ok(device) = watch.open(&other) {
            Provider::new(device).status().map_err(|error| format!("afterwards {error}"))?;
        }
        drop(other);
        // It fails where it is on its way out already.
        let _ = machine.unload(&driver);
        let is_unloaded = machine.wait_unloaded(&driver, PATIENCE);
        no_violation()?;
        if !is_unloaded {
            return Err("it is not unloaded, though its process has ended".into());
        }
        let left = machine.stats().driver_pool;
        if !left.is_empty() {
            return Err(format!("pool left behind: {left:?}"));
        }
        match watch.undocumented() {
            answers if answers.is_empty() => Ok(()),
            answers => Err(format!("docs/ioctl.md does not know {answers:?}")),
        }
    }

    fn report(&self, outcome: &Outcome) {
        println!("{}: {outcome:?}", self.adversity);
        let Some(path) = std::env::var_os(REPORT) else { return };
        let file = OpenOptions::new().append(true).create(true).open(path);
        // One write, as several threads add to the file.
        let written = file.and_then(|mut file| file.write_all(format!("{outcome}\n").as_bytes()));
        if let Err(error) = written {
            eprintln!("{REPORT}: {error}");
        }
    }
}
