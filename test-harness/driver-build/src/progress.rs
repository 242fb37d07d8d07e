//! Lines on stderr that say what is being done; stdout stays free for results.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, bail};

/// Says one thing that is being done, or why.
pub(crate) fn say(what: impl AsRef<str>) {
    eprintln!("  driver: {}", what.as_ref());
}

/// Runs a command to its end; its output is shown only if it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "{:?} failed ({})\n{}{}",
            command,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command that may hang, such as one that downloads, and kills it after `limit`. Whether it succeeded in time.
pub(crate) fn run_for_at_most(command: &mut Command, limit: Duration) -> bool {
    const POLL: Duration = Duration::from_millis(100);
    let Ok(mut child) = command.spawn() else { return false };
    let mut waited = Duration::ZERO;
    while waited < limit {
        if let Ok(Some(status)) = child.try_wait() {
            return status.success();
        }
        std::thread::sleep(POLL);
        waited += POLL;
    }
    // Failing to kill it means that it has just ended by itself.
    let _ = child.kill();
    let _ = child.wait();
    false
}
