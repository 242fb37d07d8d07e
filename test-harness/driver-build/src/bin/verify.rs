//! `cargo verify`: everything that has to hold before a change is taken. Stops at the first step that fails.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    process::{Command, ExitCode, Output},
    time::{Duration, Instant},
};

use driver_build::workspace_root;

/// One thing that has to hold.
struct Step {
    name: &'static str,
    /// cargo's arguments. Without `--package` it means every package but the driver's, which compiles only for Windows.
    arguments: &'static str,
    /// What to do when it fails.
    advice: &'static str,
}

/// From the quickest to the longest, as far as one does not want the result of another.
const STEPS: [Step; 11] = [
    Step { name: "formatting", arguments: "fmt --all --check", advice: "run `cargo fmt --all`" },
    Step {
        name: "lints",
        arguments: "clippy --locked --all-targets -- -Dwarnings",
        advice: "see what clippy says above; `cargo clippy --all-targets` repeats it",
    },
    Step {
        name: "lints of the driver",
        arguments: "driver --clippy",
        advice: "see what clippy says above; `cargo driver --clippy` repeats it",
    },
    Step {
        name: "lints of the sample",
        arguments: "driver --clippy --package sanwsk-echo",
        advice: "the sample and sanwsk-client; `cargo driver --clippy --package sanwsk-echo` repeats it",
    },
    Step {
        name: "lints of a client in Rust",
        arguments: "driver --clippy --package rust-client",
        advice: "a driver of the tests; `cargo driver --clippy --package rust-client` repeats it",
    },
    Step { name: "driver, x64", arguments: "driver", advice: "`cargo driver` repeats it" },
    Step { name: "driver, ARM64", arguments: "driver --arch arm64", advice: "`cargo driver --arch arm64` repeats it" },
    Step {
        name: "sample, ARM64",
        arguments: "driver --arch arm64 --package sanwsk-echo",
        advice: "`cargo driver --arch arm64 --package sanwsk-echo` repeats it",
    },
    Step {
        name: "user mode, Windows",
        arguments: "driver --user-mode san-proxy",
        advice: "code that only Windows compiles; `cargo driver --user-mode san-proxy` repeats it",
    },
    Step {
        name: "tests",
        arguments: "test --locked --no-fail-fast",
        advice: "`cargo test` repeats it, with a name for one test",
    },
    Step {
        name: "documentation",
        arguments: "doc --locked --no-deps",
        advice: "`RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps` repeats it",
    },
];

/// Once more on Microsoft's framework, where [`KMDF_VARIABLE`] names one.
const ON_MICROSOFTS_KMDF: Step = Step {
    name: "tests on Microsoft's KMDF",
    arguments: "test --locked --no-fail-fast --package test-harness --test scenarios --test kernel_interface --test kmdf \
                --test simulated --test sweep --test two_machines --test switch --test foreign",
    advice: "docs/testing.md says what may differ; `cargo test` with SANWSK_KMDF set repeats it",
};

/// Names a `Wdf01000.sys`, on which the harness then runs KMDF drivers.
const KMDF_VARIABLE: &str = "SANWSK_KMDF";

fn main() -> ExitCode {
    if let Some(argument) = env::args().nth(1) {
        let known = ["-h", "--help"].contains(&argument.as_str());
        println!(
            "cargo verify: checks the workspace, and stops at the first of these that fails. It takes no arguments."
        );
        for step in STEPS.iter().chain([&ON_MICROSOFTS_KMDF]) {
            println!("  {:<26}cargo {}", step.name, step.arguments);
        }
        println!("The last is skipped unless {KMDF_VARIABLE} names a Wdf01000.sys (docs/testing.md).");
        return if known { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let started = Instant::now();
    let mut tests = 0;
    let kmdf = env::var_os(KMDF_VARIABLE);
    let more = kmdf.as_ref().map(|kmdf| (&ON_MICROSOFTS_KMDF, Some(kmdf)));
    let steps: Vec<_> = STEPS.iter().map(|step| (step, None)).chain(more).collect();
    for (index, (step, kmdf)) in steps.iter().enumerate() {
        print!("[{}/{}] {:<26}", index + 1, steps.len(), step.name);
        // A step's name is wanted while it runs; a terminal that is gone is no reason to stop.
        let _ = io::stdout().flush();
        let step_started = Instant::now();
        match step.run(*kmdf) {
            Ok(output) if output.status.success() => {
                let passed = tests_passed(&output);
                let counted = if passed == 0 { String::new() } else { format!("{passed} passed") };
                println!("ok   {:>8}  {counted}", seconds(step_started.elapsed()));
                tests += passed;
            }
            Ok(output) => {
                println!("FAILED after {}", seconds(step_started.elapsed()));
                eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                eprintln!("verify: {} failed: {}", step.name, step.advice);
                return ExitCode::FAILURE;
            }
            Err(error) => {
                println!("FAILED");
                eprintln!("verify: cargo {} could not be run: {error}", step.arguments);
                return ExitCode::FAILURE;
            }
        }
    }
    if kmdf.is_none() {
        println!("skipped: {}, as {KMDF_VARIABLE} names no Wdf01000.sys (docs/testing.md)", ON_MICROSOFTS_KMDF.name);
    }
    println!("verified: {} steps in {}", steps.len(), seconds(started.elapsed()));
    println!("{tests} passed, 0 failed");
    ExitCode::SUCCESS
}

impl Step {
    fn run(&self, kmdf: Option<&OsString>) -> io::Result<Output> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        match kmdf {
            Some(kmdf) => command.env(KMDF_VARIABLE, kmdf),
            None => command.env_remove(KMDF_VARIABLE),
        };
        command
            .args(self.arguments.split_whitespace())
            .current_dir(workspace_root())
            .env("RUSTDOCFLAGS", "-Dwarnings")
            .env("CARGO_TERM_COLOR", "never")
            .output()
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// The number of tests that cargo's lines `test result: ok. 12 passed; ...` add up to.
fn tests_passed(output: &Output) -> usize {
    let text = String::from_utf8_lossy(&output.stdout);
    let counts = text
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. ")?.split_whitespace().next()?.parse::<usize>().ok());
    counts.sum()
}
