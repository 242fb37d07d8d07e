//! The load: programs, each on a thread of its own, and what goes wrong around them.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use fastrand::Rng;
use parking_lot::Mutex;

use crate::activity::{ACTIVITIES, Stop, die, pause};
use crate::bed::{Bed, Failure, resident_bytes};
use crate::program::{Counts, Program};

/// Lets programs use sanwsk.sys in every way at once, while memory runs out, peers reset and processes die.
///
/// Streams and SAN sessions, connects and closes, cancels, foreign peers. Every byte that arrives is compared, the verifier watches,
/// and at the end everything has to be as it was at the start.
#[derive(Parser)]
#[command(
    name = "cargo soak",
    bin_name = "cargo soak",
    after_help = "\
Exit status: 0 all was well, 1 something was wrong, which is shown with the driver's source lines."
)]
struct Arguments {
    /// How long
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,

    /// Programs that run at the same time
    #[arg(long, default_value_t = 6)]
    programs: u64,

    /// Seconds between lines
    #[arg(long, default_value_t = 5.0)]
    every: f64,

    /// What all choices follow from, but for the order in which threads run; without it, another one each time
    #[arg(long)]
    seed: Option<u64>,

    /// Let no allocation fail
    #[arg(long)]
    no_failures: bool,
}

/// The load lasts so long before what is in use is noted for the first time: tables have grown by then.
const WARM_UP: f64 = 0.2;
/// A second allocation fails after so many, on average.
const ALLOCATIONS_BETWEEN_FAILURES: u32 = 3000;
/// Without a request that ends for so long, something hangs.
const HANG: Duration = Duration::from_secs(30);
/// What this process may have in memory more at the end than after the warm-up: allocators keep what they once had.
const GROWTH: u64 = 32 << 20;

/// What the threads share.
struct Load {
    bed: Bed,
    counts: Arc<Counts>,
    stop: AtomicBool,
    wrong: Mutex<Option<Failure>>,
    /// Allocations that were refused, and processes that have died.
    refused: AtomicU64,
    deaths: AtomicU64,
    done: [AtomicU64; ACTIVITIES.len()],
}

impl Load {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.bed.machine.is_stopped()
    }

    /// One program after the other.
    fn run_programs(&self, random: &mut Rng) {
        while !self.is_over() {
            // Without memory for a process or a handle there is none.
            let Ok(program) = Program::new(&self.bed.machine, &self.counts) else { continue };
            for _ in 0..random.usize(1..10) {
                if self.is_over() {
                    return;
                }
                let which = random.usize(0..ACTIVITIES.len());
                let (name, activity) = ACTIVITIES[which];
                match activity(&program, random, self.bed.native) {
                    Ok(()) => {
                        self.done[which].fetch_add(1, Ordering::Relaxed);
                    }
                    Err(Stop::Failed) => {}
                    Err(Stop::Wrong(what)) => self.is_wrong(format!("{name}: {what}")),
                }
            }
            if random.u8(0..4) == 0 && die(&program, random).is_ok() {
                self.deaths.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn is_wrong(&self, what: Failure) {
        self.wrong.lock().get_or_insert(what);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Lets an allocation fail now and then.
    fn run_out_of_memory(&self, random: &mut Rng) {
        let machine = &self.bed.machine;
        while !self.is_over() {
            machine.fail_allocation(random.u32(0..2 * ALLOCATIONS_BETWEEN_FAILURES));
            while !self.is_over() && !machine.allocation_has_failed() {
                thread::sleep(Duration::from_millis(2));
            }
            self.refused.fetch_add(u64::from(machine.allocation_has_failed()), Ordering::Relaxed);
        }
        machine.fail_no_allocation();
    }

    /// Says how it goes, until the time is over or something is wrong.
    fn watch(&self, duration: Duration, every: Duration, started: Instant) -> Result<(), Failure> {
        let deadline = Instant::now() + duration;
        let (mut last, mut progress, mut since) = (Instant::now(), 0, Instant::now());
        let mut before = (0, 0);
        while Instant::now() < deadline && !self.is_over() {
            pause(every.min(deadline.saturating_duration_since(Instant::now())), &self.stop);
            let requests = self.counts.requests.load(Ordering::Relaxed);
            let bytes = self.counts.bytes.load(Ordering::Relaxed);
            if requests != progress {
                (progress, since) = (requests, Instant::now());
            } else if since.elapsed() > HANG {
                return Err(format!("no request has ended for {HANG:?}: {}", self.bed.in_use()?));
            }
            let seconds = last.elapsed().as_secs_f64();
            last = Instant::now();
            let in_use = self.bed.in_use()?;
            println!(
                "{:6.0} s  {:6.0} requests/s  {:6.1} MiB/s  {in_use}, {} MiB resident",
                started.elapsed().as_secs_f64(),
                per_second(requests - before.0, seconds),
                per_second(bytes - before.1, seconds) / f64::from(1 << 20),
                resident_bytes() >> 20,
            );
            before = (requests, bytes);
        }
        Ok(())
    }

    /// Runs the load for a time; then nothing is under way any more.
    fn run(self: &Arc<Self>, arguments: &Arguments, duration: Duration, random: &mut Rng) -> Result<(), Failure> {
        self.stop.store(false, Ordering::Relaxed);
        let started = Instant::now();
        let mut threads = Vec::new();
        for _ in 0..arguments.programs {
            let (load, mut random) = (self.clone(), random.fork());
            threads.push(thread::spawn(move || load.run_programs(&mut random)));
        }
        if !arguments.no_failures {
            let (load, mut random) = (self.clone(), random.fork());
            threads.push(thread::spawn(move || load.run_out_of_memory(&mut random)));
        }
        let watched = self.watch(duration, Duration::from_secs_f64(arguments.every), started);
        self.stop.store(true, Ordering::Relaxed);
        if watched.is_err() && self.bed.violation().is_ok() {
            // What hangs cannot be waited for.
            return watched;
        }
        for thread in threads {
            if thread.join().is_err() {
                self.is_wrong("a program panicked, see above".to_owned());
            }
        }
        self.bed.machine.fail_no_allocation();
        self.bed.violation()?;
        watched?;
        self.wrong.lock().take().map_or(Ok(()), Err)
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    // Fewer than 2^53.
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    count / seconds.max(0.001)
}

/// Runs the tool.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    match soak(&arguments, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("{failure}\n\nagain, as far as it follows from the seed: cargo soak --seed {seed}");
            ExitCode::FAILURE
        }
    }
}

fn soak(arguments: &Arguments, seed: u64) -> Result<(), Failure> {
    let image = driver_build::build(&driver_build::Options::default()).map_err(|error| format!("{error:#}"))?.image;
    let mut random = Rng::with_seed(seed);
    let load = Arc::new(Load {
        bed: Bed::new(&image, random.u64(..))?,
        counts: Arc::default(),
        stop: AtomicBool::new(false),
        wrong: Mutex::new(None),
        refused: AtomicU64::new(0),
        deaths: AtomicU64::new(0),
        done: std::array::from_fn(|_| AtomicU64::new(0)),
    });
    let duration = Duration::from_secs_f64(arguments.minutes * 60.0);
    let warm_up = duration.mul_f64(WARM_UP);
    load.run(arguments, warm_up, &mut random)?;
    let before = load.bed.at_rest()?;
    let memory = resident_bytes();
    println!("at rest after the warm-up: {before}, {} MiB resident", memory >> 20);
    load.run(arguments, duration.saturating_sub(warm_up), &mut random)?;
    let after = load.bed.at_rest()?;
    let grown = resident_bytes().saturating_sub(memory);
    println!("at rest: {after}, {} MiB resident", resident_bytes() >> 20);
    if after != before {
        return Err(format!("not as it was: {after:#?}, and was {before:#?}"));
    }
    if grown > GROWTH {
        return Err(format!("the process has grown by {} MiB", grown >> 20));
    }
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    for ((name, _), done) in ACTIVITIES.iter().zip(&load.done) {
        println!("{:>10} {name}", count(done));
    }
    let Counts { requests, failures, bytes } = &*load.counts;
    println!(
        "{} requests, {} of them failed; {} MiB compared; {} allocations refused; {} processes died; 0 violations",
        count(requests),
        count(failures),
        count(bytes) >> 20,
        count(&load.refused),
        count(&load.deaths),
    );
    match Arc::try_unwrap(load) {
        Ok(load) => load.bed.finish(),
        Err(_) => Err("a program is still running".to_owned()),
    }
}
