//! Every scenario once more, under adversity: what may be refused is, and what may end does in its middle. Each runs in a process of
//! its own, and may fail as it likes; the driver comes out clean, or the sweep fails.

use crate::support::adversity::{ADVERSITY, Adversity, Kind, Outcome, REPORT};
use crate::support::{IMAGE_VARIABLE, image};
use parking_lot::Mutex;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Chooses the scenarios and calls that are tried, and is printed.
const SEED: &str = "SANWSK_SWEEP_SEED";
/// Set, every scenario is tried, with every refusal.
const ALL: &str = "SANWSK_SWEEP_ALL";
/// Set, only scenarios are tried whose names contain it.
const ONLY: &str = "SANWSK_SWEEP_ONLY";

/// One in so many scenarios is tried in an ordinary run.
const ORDINARY_SHARE: u64 = 8;
/// Refusals of a scenario that are tried in turn, from the first on. Long ones repeat themselves: of the rest a few are tried.
const IN_TURN: u64 = 250;
const OF_THE_REST: u64 = 10;
/// Calls at which a scenario is ended in each way, of a run that tries all.
const ENDS_OF_EACH: u64 = 12;

/// They do for minutes what others do, too.
const LEFT_OUT: [&str; 3] = [
    "lifecycle::a_hundred_thousand_connects_leave_pool_and_objects_flat",
    "transfer::a_gibibyte_comes_in_whole",
    "transfer::a_gibibyte_goes_out_whole",
];

/// Longer than any scenario takes that has met with adversity. One that goes on for longer waits for a host's socket.
const PATIENCE: Duration = Duration::from_mins(2);

const ENDS: [Kind; 4] = [Kind::Cancel, Kind::Close, Kind::Exit, Kind::Unload];

#[test]
fn bears_refusals() {
    sweep("refusals", |scenario, refusable, _, draw| {
        let points = if draw.all {
            let rest = (IN_TURN..refusable).step_by(usize::try_from((refusable / OF_THE_REST).max(1)).expect("a few"));
            (0..refusable.min(IN_TURN)).chain(rest).collect()
        } else {
            draw.below(refusable, scenario).into_iter().collect::<Vec<_>>()
        };
        points.into_iter().map(|after| Adversity { kind: Kind::Refuse, after }).collect()
    });
}

#[test]
fn bears_ends() {
    sweep("ends", |scenario, _, calls, draw| {
        let kinds = if draw.all { &ENDS[..] } else { &ENDS[draw.index(ENDS.len(), scenario)..][..1] };
        let number = if draw.all { ENDS_OF_EACH } else { 1 };
        let of_kind = |&kind: &Kind| {
            let at = move |nth: u64| draw.below(calls, (scenario, nth, format!("{kind:?}")));
            (0..number).filter_map(at).map(move |after| Adversity { kind, after })
        };
        kinds.iter().flat_map(of_kind).collect()
    });
}

/// What is left to chance.
#[derive(Clone, Copy)]
struct Draw {
    seed: u64,
    all: bool,
}

impl Draw {
    fn new() -> Self {
        let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
        let by_clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| u64::from(time.subsec_micros()));
        let seed = given.unwrap_or_else(by_clock);
        println!("{SEED}={seed} chooses the same again");
        Self { seed, all: std::env::var_os(ALL).is_some() }
    }

    /// A number below the limit, if there is any.
    fn below(self, limit: u64, of: impl Hash) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        (self.seed, of).hash(&mut hasher);
        hasher.finish().checked_rem(limit)
    }

    fn index(self, length: usize, of: impl Hash) -> usize {
        self.below(length as u64, of).map_or(0, |index| usize::try_from(index).expect("below a length"))
    }
}

/// Runs each scenario as it is, which counts what it does, and then under the adversities that are chosen of it.
fn sweep(name: &str, choose: impl Fn(&str, u64, u64, Draw) -> Vec<Adversity> + Sync) {
    let draw = Draw::new();
    let all = scenarios();
    let number = all.len();
    let chosen = all.into_iter().filter(|scenario| draw.all || draw.below(ORDINARY_SHARE, scenario) == Some(0));
    let left = chosen.collect::<Vec<_>>();
    let (count, left) = (left.len(), Mutex::new(left));
    let tally = Mutex::new(Tally::default());
    let folder = Folder::new(name);
    let work = |lane: usize| {
        while let Some(scenario) = { left.lock().pop() } {
            let counted = run(&scenario, Adversity { kind: Kind::Refuse, after: u32::MAX.into() }, &folder.file(lane));
            let (refusable, calls) =
                counted.iter().fold((0, 0), |(most_refusable, most_calls), outcome| match outcome {
                    Outcome::Clean { refusable, calls, .. } => (most_refusable.max(*refusable), most_calls.max(*calls)),
                    Outcome::Broken(_) => (most_refusable, most_calls),
                });
            tally.lock().add(&scenario, None, counted);
            let adversities = choose(&scenario, refusable, calls, draw);
            for &adversity in &adversities {
                let outcomes = run(&scenario, adversity, &folder.file(lane));
                tally.lock().add(&scenario, Some(adversity), outcomes);
            }
            println!(
                "{scenario}: {refusable} refusable calls of {calls}, {} runs; {} to go",
                adversities.len(),
                left.lock().len()
            );
        }
    };
    // Most of the time they wait for what does not come any more.
    let lanes = 4 * thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| (0..lanes).for_each(|lane| _ = scope.spawn(move || work(lane))));
    let Tally { tried, met, broken } = tally.into_inner();
    println!("{name}: {count} of {number} scenarios, {tried} runs, of which {met} met with it");
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
    assert!(met != 0, "nothing has befallen any scenario");
}

#[derive(Default)]
struct Tally {
    tried: usize,
    met: usize,
    broken: Vec<String>,
}

impl Tally {
    fn add(&mut self, scenario: &str, adversity: Option<Adversity>, outcomes: Vec<Outcome>) {
        self.tried += usize::from(adversity.is_some());
        self.met += usize::from(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Clean { was_met: true, .. })));
        for outcome in outcomes {
            if let Outcome::Broken(how) = outcome {
                let command = adversity.map_or_else(String::new, |adversity| format!("{ADVERSITY}={adversity} "));
                let broken =
                    format!("{command}cargo test -p test-harness --test scenarios -- --exact {scenario}\n{how}\n");
                println!("{broken}");
                self.broken.push(broken);
            }
        }
    }
}

/// The names of all scenarios: the tests of this program, but for the sweeps.
fn scenarios() -> Vec<String> {
    let output =
        Command::new(this_program()).args(["--list", "--format", "terse"]).output().expect("it lists its tests");
    let text = String::from_utf8(output.stdout).expect("names");
    let own = module_path!().rsplit("::").next().expect("a name");
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    let names: Vec<_> =
        names.filter(|name| !name.starts_with(own) && !LEFT_OUT.contains(name)).map(str::to_owned).collect();
    match std::env::var(ONLY) {
        Ok(part) => names.into_iter().filter(|name| name.contains(&part)).collect(),
        Err(_) => names,
    }
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("it has a file")
}

/// Runs a scenario in a process of its own: how each of its machines came out of it.
fn run(scenario: &str, adversity: Adversity, report: &Path) -> Vec<Outcome> {
    let _ = std::fs::remove_file(report);
    let printed = report.with_extension("out");
    let output = File::create(&printed).expect("a file for what it prints");
    let mut child = Command::new(this_program())
        .args(["--exact", scenario, "--test-threads", "1"])
        .env(ADVERSITY, adversity.to_string())
        .env(REPORT, report)
        .env(IMAGE_VARIABLE, image())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output)
        .spawn()
        .expect("it starts itself");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("its child") {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => {
                child.kill().expect("its child");
                child.wait().expect("its child");
                break None;
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let lines = std::fs::read_to_string(report).unwrap_or_default();
    let mut outcomes: Vec<Outcome> = lines.lines().map(|line| line.parse().expect("a line of the report")).collect();
    let printed = || std::fs::read_to_string(&printed).unwrap_or_default();
    let is_excused = outcomes.iter().any(|outcome| !matches!(outcome, Outcome::Clean { was_met: false, .. }));
    let wrong = match status.map(|status| (status.code(), status)) {
        None => Some("it does not end".to_owned()),
        Some((Some(0), _)) => None,
        Some((Some(FAILED), _)) if is_excused => None,
        Some((Some(FAILED), _)) => Some("it fails without any adversity".to_owned()),
        Some((_, status)) => Some(status.to_string()),
    };
    outcomes.extend(wrong.map(|wrong| Outcome::Broken(format!("{wrong}:\n{}", printed()))));
    outcomes
}

/// What a test program exits with if a test has failed.
const FAILED: i32 = 101;

/// Where the processes write, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("every-scenario-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self, lane: usize) -> PathBuf {
        self.0.join(format!("lane-{lane}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies under the target folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
