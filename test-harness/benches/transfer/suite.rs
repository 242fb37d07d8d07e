//! What is measured, in which order and for how long.

mod allocations;
mod bed;
mod blocking;
mod figures;
mod operations;
mod path;
mod picture;
mod report;
mod san;
mod sessions;
mod stream;
mod tracing;
mod transfers;

use std::path::PathBuf;
use std::process::{ExitCode, exit};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use allocations::Allocations;
use bed::Bed;
use figures::Section;

/// Transfers through the driver against plain sockets in the same run, on loopback.
///
/// Prints tables, and writes target/bench/transfer.csv and target/bench/transfer.svg.
#[derive(Parser)]
#[command(name = "cargo bench -p test-harness --", version)]
struct Arguments {
    /// A few seconds in all, to see that it works; the figures mean little.
    #[arg(long)]
    quick: bool,
    /// An image that is built already; without it, the driver is built first.
    #[arg(long, value_name = "FILE.sys")]
    driver: Option<PathBuf>,
    /// What cargo bench says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long one measurement takes, and how often it is repeated.
#[derive(Clone, Copy)]
struct Schedule {
    /// Rounds of each measurement; in a round, all paths have their turn and meet the same weather.
    rounds: usize,
    /// Of one path in one round.
    time: Duration,
    /// Messages whose pool allocations are counted.
    counted: u32,
    /// Messages of one round against the number of sessions.
    spread: usize,
}

const FULL: Schedule = Schedule { rounds: 5, time: Duration::from_millis(300), counted: 1000, spread: 10_000 };
const QUICK: Schedule = Schedule { rounds: 2, time: Duration::from_millis(20), counted: 100, spread: 2000 };

/// Tells how far it has come: a bar on a terminal, else a line for each part.
struct Progress(ProgressBar);

impl Progress {
    fn new(parts: u64) -> Self {
        let style = ProgressStyle::with_template("[{bar:30}] {msg}").expect("a template without errors");
        Self(ProgressBar::new(parts).with_style(style.progress_chars("=> ")))
    }

    fn part(&self, what: &str) {
        if self.0.is_hidden() {
            eprintln!("measuring {what}");
        } else {
            self.0.inc(1);
            self.0.set_message(what.to_owned());
        }
    }
}

/// The whole bench takes longer only if something hangs.
const LIMIT: Duration = Duration::from_mins(3);
/// How often the machines are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the bench.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match bench(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    let schedule = if arguments.quick { QUICK } else { FULL };
    let image = match &arguments.driver {
        Some(image) => image.clone(),
        None => driver_build::build(&driver_build::Options::default())?.image,
    };
    let (bed, alone, started) = (Bed::new(&image)?, Bed::new(&image)?, Instant::now());
    let (sections, allocations) = thread::scope(|scope| {
        let measuring = scope.spawn(|| measure(&bed, &alone, schedule));
        while !measuring.is_finished() {
            let violation = bed.machine.violation().or_else(|| alone.machine.violation());
            let late = || (started.elapsed() > LIMIT).then(|| "it does not come to an end".to_owned());
            if let Some(why) = violation.map(|violation| violation.to_string()).or_else(late) {
                // The measuring thread may wait for a machine that has stopped.
                eprintln!("the bench failed: {why}");
                exit(1);
            }
            thread::sleep(LOOK);
        }
        measuring.join().map_err(|_| anyhow!("the measuring thread panicked"))?
    })?;
    alone.finish()?;
    bed.finish()?;
    report::write(&sections, &allocations, started.elapsed())
}

fn measure(bed: &Bed, alone: &Bed, schedule: Schedule) -> Result<(Vec<Section>, Allocations)> {
    let progress = Progress::new(4 + transfers::SIZES.len() as u64 + sessions::COUNTS.len() as u64);
    let mut sections: Vec<Section> = transfers::one_way(bed, schedule, &progress)?.into();
    sections.push(transfers::ping_pong(bed, schedule, &progress)?);
    sections.extend(transfers::against_plain_peers(bed, schedule, &progress)?);
    sections.push(operations::measure(bed, schedule, &progress)?);
    sections.push(sessions::measure(bed, alone, schedule, &progress)?);
    sections.push(tracing::measure(bed, schedule, &progress)?);
    let allocations = allocations::measure(bed, schedule, &progress)?;
    progress.0.finish_and_clear();
    Ok((sections, allocations))
}
