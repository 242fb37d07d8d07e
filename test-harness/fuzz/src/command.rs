//! The command line.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::supervisor::{self, Plan};
use crate::target::Target;
use crate::{client, worker};

/// Fuzzes sanwsk.sys in the harness, guided by the edges of the driver that its inputs take.
///
/// Inputs that take new edges are kept in target/fuzz; those in test-harness/fuzz/corpus are where it begins. Findings are
/// written to target/fuzz/findings, each with a report.
#[derive(Parser)]
#[command(
    name = "cargo fuzz-driver",
    bin_name = "cargo fuzz-driver",
    after_help = "\
Examples:
  cargo fuzz-driver --minutes 30
  cargo fuzz-driver --target wire --minutes 5 --seed 7
  cargo fuzz-driver --replay target/fuzz/findings/wire-0123456789abcdef

Exit status: 0 nothing found, 1 something was found."
)]
struct Arguments {
    /// How long, for all targets together
    #[arg(long, default_value_t = 3.0, conflicts_with = "runs")]
    minutes: f64,

    /// So many inputs of each target instead
    #[arg(long)]
    runs: Option<u64>,

    /// What to fuzz; without it, all
    #[arg(long = "target", value_enum)]
    targets: Vec<Target>,

    /// What libFuzzer's choices follow from; without it, another one each time
    #[arg(long)]
    seed: Option<u32>,

    /// Try the input of this file instead, and say what is wrong
    #[arg(long, value_name = "FILE", conflicts_with_all = ["runs", "targets", "seed"])]
    replay: Option<PathBuf>,

    /// How often to try it: not all that happens follows from the input alone
    #[arg(long, value_name = "TIMES", default_value_t = 20, requires = "replay")]
    times: u32,

    /// Show its requests, and how they end
    #[arg(long, requires = "replay")]
    show: bool,

    /// Put the fewest inputs that take the same edges into the project's corpus
    #[arg(long, conflicts_with_all = ["replay", "runs", "seed"])]
    keep: bool,
}

pub(crate) fn main() -> ExitCode {
    let result = match env::var(worker::TARGET_VARIABLE) {
        Ok(target) => worker::run(&target).map(|code| u8::try_from(code).unwrap_or(1)),
        Err(_) => run(Arguments::parse()),
    };
    result.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        ExitCode::from,
    )
}

/// Does what is asked for; the exit code.
fn run(arguments: Arguments) -> Result<u8> {
    let image = supervisor::build_image()?;
    if let Some(file) = &arguments.replay {
        if arguments.show {
            client::show_requests();
        }
        let target = Target::of_file(file)
            .with_context(|| format!("{}: neither name nor folder names a target", file.display()))?;
        let input = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        return Ok(match worker::replay(&image, target, &input, arguments.times)? {
            Some(failure) => {
                println!("{failure}");
                1
            }
            None => {
                println!("nothing is wrong, {} times", arguments.times);
                0
            }
        });
    }
    let targets = if arguments.targets.is_empty() { Target::ALL.to_vec() } else { arguments.targets };
    if arguments.keep {
        targets.into_iter().try_for_each(|target| supervisor::keep(&image, target))?;
        return Ok(0);
    }
    let plan = match arguments.runs {
        Some(runs) => Plan::Runs(runs),
        None => Plan::seconds(arguments.minutes * 60.0, targets.len()),
    };
    let seed = arguments.seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.subsec_nanos()));
    println!("seed {seed}");
    let mut found = 0;
    for target in targets {
        found += supervisor::fuzz(&image, target, plan, seed)?;
    }
    Ok(u8::from(found > 0))
}
