//! A few seconds of the soak.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::process::Command;

#[test]
fn five_seconds_of_the_soak_leave_nothing_behind() {
    let output = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--minutes", "0.085", "--every", "1"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "nothing is wrong");
    assert!(text.starts_with("seed "), "the seed is told");
    let last = text.lines().last().unwrap_or_default();
    let requests = last.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    assert!(requests.is_some_and(|requests| requests > 100) && last.ends_with("0 violations"), "{last}");
}
