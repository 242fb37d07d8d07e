//! A process that tries inputs, one after the other, in the machine that it has loaded the driver into. libFuzzer chooses them, by
//! the driver's counters.
#![allow(unsafe_code)] // libFuzzer's entry point, and what it calls

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, Result};
use libfuzzer_sys as _;
use sha2::{Digest, Sha256};

use crate::bed::{Bed, Failure, Settled, wrong};
use crate::coverage::Coverage;
use crate::figures::Figures;
use crate::target::Target;

/// Names the target to a worker. libFuzzer runs workers of its own where it merges, with the same environment.
pub(crate) const TARGET_VARIABLE: &str = "FUZZ_DRIVER_TARGET";
/// Seconds after which a worker ends by itself; without it, libFuzzer decides.
pub(crate) const SECONDS_VARIABLE: &str = "FUZZ_DRIVER_SECONDS";
/// Inputs after which it does, those that it begins with included.
pub(crate) const RUNS_VARIABLE: &str = "FUZZ_DRIVER_RUNS";
/// The image, with coverage.
pub(crate) const IMAGE_VARIABLE: &str = "FUZZ_DRIVER_IMAGE";
/// The folder that findings are written to.
pub(crate) const FINDINGS_VARIABLE: &str = "FUZZ_DRIVER_FINDINGS";

/// The exit code of a worker that has found something.
pub(crate) const FOUND: i32 = 77;

/// How often it is said how it goes.
const REPORT: Duration = Duration::from_secs(5);

type Callback = extern "C" fn(*const u8, usize) -> c_int;

unsafe extern "C" {
    /// libFuzzer, with the arguments of its command line.
    fn LLVMFuzzerRunDriver(argc: *mut c_int, argv: *mut *mut *mut c_char, callback: Callback) -> c_int;
}

/// libfuzzer-sys has an entry point of its own, which is not used, and wants this for it.
#[unsafe(no_mangle)]
extern "Rust" fn rust_fuzzer_test_input(_input: &[u8]) -> i32 {
    0
}

thread_local! {
    /// libFuzzer calls back without a context, on the thread that runs it.
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

struct Worker {
    target: Target,
    bed: Bed,
    coverage: Coverage,
    findings: PathBuf,
    started: Instant,
    deadline: Option<Instant>,
    most_runs: Option<u64>,
    report: Instant,
    runs: u64,
}

/// What is in use may change so often with one input that is tried again and again: more is a leak, and no table that grows.
const MOST_CHANGES: u32 = 4;

/// Tries one input, and looks at the driver then.
pub(crate) fn try_input(bed: &mut Bed, target: Target, input: &[u8]) -> Result<(), Failure> {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let mut changes = 0;
    loop {
        bed.mix_completions(hasher.finish());
        let tried = panic::catch_unwind(AssertUnwindSafe(|| target.run(bed, input)));
        let result = tried.unwrap_or_else(|_| wrong("the harness panicked, see above"));
        // A rule that was broken says more than what became of it.
        match bed.violation().and(result).and_then(|()| bed.settle())? {
            Settled::AsBefore => return Ok(()),
            Settled::Changed(change) => {
                changes += 1;
                if changes == MOST_CHANGES {
                    return wrong(format!("each time the input is tried, something stays in use: {change}"));
                }
            }
        }
    }
}

/// The name of an input, which the same input has again.
fn name(target: Target, input: &[u8]) -> String {
    let digest = Sha256::digest(input);
    let number = digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    format!("{}-{number:016x}", target.name())
}

impl Worker {
    fn new(target: Target) -> Result<Self> {
        let variable = |name| env::var_os(name).with_context(|| format!("{name} is not set"));
        let bed = Bed::new(Path::new(&variable(IMAGE_VARIABLE)?))?;
        let coverage = Coverage::of(&bed.driver)?;
        let started = Instant::now();
        let seconds = env::var(SECONDS_VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
        let most_runs = env::var(RUNS_VARIABLE).ok().and_then(|runs| runs.parse().ok());
        Ok(Self {
            target,
            bed,
            coverage,
            findings: variable(FINDINGS_VARIABLE)?.into(),
            started,
            deadline: seconds.map(|seconds| started + Duration::from_secs_f64(seconds)),
            most_runs,
            report: started + REPORT,
            runs: 0,
        })
    }

    fn figures(&self) -> Figures {
        Figures {
            runs: self.runs,
            seconds: self.started.elapsed().as_secs_f64(),
            taken: self.coverage.taken(),
            edges: self.coverage.total(),
        }
    }

    /// Tries an input; whether there is time for another.
    fn step(&mut self, input: &[u8]) -> bool {
        let result = try_input(&mut self.bed, self.target, input);
        self.coverage.note();
        self.runs += 1;
        if let Err(failure) = result {
            self.found(input, &failure);
        }
        let now = Instant::now();
        if now > self.report {
            self.report = now + REPORT;
            println!("{}", self.figures());
        }
        self.deadline.is_none_or(|deadline| now < deadline) && self.most_runs.is_none_or(|most| self.runs < most)
    }

    /// Writes a finding down, and ends the process: the machine has stopped.
    fn found(&self, input: &[u8], failure: &Failure) -> ! {
        let name = name(self.target, input);
        let file = self.findings.join(&name);
        let report = format!("{failure}\n\nagain: cargo fuzz-driver --replay {}\n", file.display());
        let written = fs::create_dir_all(&self.findings)
            .and_then(|()| fs::write(&file, input))
            .and_then(|()| fs::write(file.with_added_extension("txt"), &report));
        println!("{}", self.figures());
        eprintln!("{report}");
        if let Err(error) = written {
            eprintln!("{}: {error}", file.display());
        }
        leave(FOUND);
    }
}

/// Ends the process at once: libFuzzer takes an exit for a bug of what it fuzzes.
fn leave(code: i32) -> ! {
    // SAFETY: ends the process; what is to be kept has been written.
    unsafe { libc::_exit(code) }
}

extern "C" fn test_one_input(data: *const u8, length: usize) -> c_int {
    // libFuzzer gives no address for an input without bytes.
    let input = if length == 0 {
        &[]
    } else {
        // SAFETY: libFuzzer's buffer, which stays as it is during the call.
        unsafe { std::slice::from_raw_parts(data, length) }
    };
    WORKER.with_borrow_mut(|worker| {
        let Some(running) = worker else { leave(1) };
        if running.step(input) {
            return;
        }
        println!("{}", running.figures());
        let ended = worker.take().map_or(Ok(()), |worker| worker.bed.finish());
        leave(ended.map_or_else(
            |failure| {
                eprintln!("at the end: {failure}");
                FOUND
            },
            |()| 0,
        ));
    });
    0
}

/// Runs libFuzzer with the arguments of this process.
pub(crate) fn run(target: &str) -> Result<i32> {
    let target = Target::named(target).with_context(|| format!("no such target: {target}"))?;
    let worker = Worker::new(target)?;
    WORKER.set(Some(worker));
    let arguments: Vec<CString> = env::args().map(CString::new).collect::<Result<_, _>>()?;
    let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    let mut count = c_int::try_from(pointers.len())?;
    pointers.push(std::ptr::null_mut());
    // Kept for good, as a program's arguments are.
    let mut arguments = pointers.leak().as_mut_ptr();
    // SAFETY: a count and as many strings, as `main` of a C program has them; libFuzzer keeps them as long as it runs.
    Ok(unsafe { LLVMFuzzerRunDriver(&raw mut count, &raw mut arguments, test_one_input) })
}

/// Tries one input again and again, in a machine each.
pub(crate) fn replay(image: &Path, target: Target, input: &[u8], times: u32) -> Result<Option<Failure>> {
    for _ in 0..times {
        let mut bed = Bed::new(image)?;
        if let Err(failure) = try_input(&mut bed, target, input).and_then(|()| bed.finish()) {
            // What still runs there belongs to the machine that has stopped.
            thread::sleep(Duration::from_millis(10));
            return Ok(Some(failure));
        }
    }
    Ok(None)
}
