//! Runs workers, adds up what they say, and goes on after a finding.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use driver_build::{Instrumentation, Options, workspace_root};

use crate::figures::Figures;
use crate::target::Target;
use crate::worker::{FINDINGS_VARIABLE, FOUND, IMAGE_VARIABLE, RUNS_VARIABLE, SECONDS_VARIABLE, TARGET_VARIABLE};

/// How long each target is fuzzed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan {
    /// So many inputs, those of the corpus included.
    Runs(u64),
    /// So many seconds.
    Seconds(f64),
}

impl Plan {
    /// The time shared between targets.
    pub(crate) fn seconds(all: f64, targets: usize) -> Self {
        // A handful.
        #[allow(clippy::cast_precision_loss)]
        let targets = targets.max(1) as f64;
        Self::Seconds(all / targets)
    }
}

/// A worker makes room for the next after so long: what a machine keeps of its events is freed with it.
const SHIFT: f64 = 120.0;
/// A target that so many workers have found something in has enough to be looked at.
const MOST_FINDINGS: u32 = 20;
/// Bytes of an input, at most.
const LONGEST: u32 = 4096;
/// Seconds that an input may take; a machine that hangs has reported it long before.
const HANG: u32 = 60;

/// The driver, with a counter at each edge.
pub(crate) fn build_image() -> Result<PathBuf> {
    let options = Options { instrumentation: Instrumentation::Coverage, ..Options::default() };
    Ok(driver_build::build(&options)?.image)
}

/// Where everything is kept that fuzzing makes.
fn folder() -> PathBuf {
    workspace_root().join("target/fuzz")
}

fn findings() -> PathBuf {
    folder().join("findings")
}

/// Where inputs are collected that take new edges.
fn collected(target: Target) -> Result<PathBuf> {
    let folder = folder().join(target.name());
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// A folder of this name with nothing in it.
fn fresh(name: &str) -> Result<PathBuf> {
    let folder = folder().join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// What libFuzzer says of a target.
fn log(target: Target) -> PathBuf {
    folder().join(target.name()).with_extension("log")
}

/// A worker, whose arguments are libFuzzer's; its log is what libFuzzer says.
fn worker(image: &Path, target: Target) -> Result<Command> {
    let log = log(target);
    let log = fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mut command = Command::new(env::current_exe()?);
    command
        .env(TARGET_VARIABLE, target.name())
        .env(IMAGE_VARIABLE, image)
        .env(FINDINGS_VARIABLE, findings())
        .args([format!("-max_len={LONGEST}"), format!("-timeout={HANG}"), "-rss_limit_mb=8192".to_owned()])
        // The harness has handlers of its own for what goes wrong in the driver.
        .args(["-handle_segv=0", "-handle_bus=0", "-handle_ill=0", "-handle_fpe=0", "-handle_trap=0"])
        .arg(format!("-artifact_prefix={}/{}-", findings().display(), target.name()))
        .stderr(log);
    Ok(command)
}

/// Fuzzes one target; the findings.
pub(crate) fn fuzz(image: &Path, target: Target, plan: Plan, seed: u32) -> Result<u32> {
    let collected = match plan {
        Plan::Seconds(_) => collected(target)?,
        // What was collected before is not known to who repeats it.
        Plan::Runs(_) => fresh(&format!("{}-run", target.name()))?,
    };
    fs::create_dir_all(findings())?;
    let (mut total, mut found, mut workers) = (Figures::default(), 0, 0);
    loop {
        let mut command = worker(image, target)?;
        // Each worker makes other choices than the last, and the same as in another run with the same seed.
        command.arg(format!("-seed={}", seed.wrapping_add(workers).max(1)));
        match plan {
            Plan::Runs(runs) if total.runs < runs => {
                command.env(RUNS_VARIABLE, (runs - total.runs).to_string());
            }
            Plan::Seconds(seconds) if total.seconds < seconds => {
                command.env(SECONDS_VARIABLE, (seconds - total.seconds).min(SHIFT).to_string());
            }
            Plan::Runs(_) | Plan::Seconds(_) => break,
        }
        command.arg(&collected).args(Some(target.corpus()).filter(|corpus| corpus.is_dir())).stdout(Stdio::piped());
        workers += 1;
        let (figures, code) = run(command, target, &total)?;
        total += figures;
        match code {
            Some(0) => {}
            Some(FOUND) => found += 1,
            _ => {
                found += 1;
                println!("{}: a worker died ({code:?}); see {}", target.name(), log(target).display());
            }
        }
        if found > 0 && code != Some(0) {
            println!("{}: something is wrong: {}", target.name(), findings().display());
        }
        if figures.runs == 0 || found >= MOST_FINDINGS {
            break;
        }
    }
    if total.runs == 0 {
        bail!("{}: no worker has tried anything; see {}", target.name(), log(target).display());
    }
    println!("{}: {total}, {found} findings", target.name());
    Ok(found)
}

/// Runs a worker to its end, and says what it says: its last figures and its exit code.
fn run(mut command: Command, target: Target, before: &Figures) -> Result<(Figures, Option<i32>)> {
    let mut child = command.spawn().context("cannot run a worker")?;
    let mut last = Figures::default();
    for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()) {
        if let Ok(figures) = line?.parse() {
            last = figures;
            let mut now = *before;
            now += last;
            println!("{}: {now}", target.name());
        }
    }
    Ok((last, child.wait()?.code()))
}

/// Reduces what was collected to the fewest inputs that take the same edges, and puts them into the project's corpus.
pub(crate) fn keep(image: &Path, target: Target) -> Result<()> {
    let (corpus, collected) = (target.corpus(), collected(target)?);
    let fresh = fresh(&format!("{}-kept", target.name()))?;
    let mut command = worker(image, target)?;
    // By edges alone, not by how often each was taken: the corpus is to stay small.
    command
        .args(["-set_cover_merge=1", "-use_counters=0"])
        .arg(&fresh)
        .args(Some(&corpus).filter(|corpus| corpus.is_dir()))
        .arg(collected);
    let status = command.status()?;
    if !status.success() {
        bail!("{}: merging failed; see {}", target.name(), log(target).display());
    }
    if corpus.exists() {
        fs::remove_dir_all(&corpus)?;
    }
    fs::create_dir_all(&corpus)?;
    let mut bytes = 0;
    let inputs = fs::read_dir(&fresh)?.collect::<Result<Vec<_>, _>>()?;
    for input in &inputs {
        bytes += fs::copy(input.path(), corpus.join(input.file_name()))?;
    }
    println!("{}: {} inputs, {bytes} bytes", target.name(), inputs.len());
    Ok(())
}
