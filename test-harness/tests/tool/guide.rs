//! The commands of `docs/guide.md`, run as they stand there.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::bed::{PATIENCE, free_port, image};

const FIRST: &str = "# first terminal";
const SECOND: &str = "# second terminal";

/// The guide's shell commands on Linux, block by block.
fn blocks() -> Vec<String> {
    let page = include_str!("../../../docs/guide.md");
    let linux = page.split("\n## ").find(|part| part.starts_with("On Linux")).expect("a part on Linux");
    let blocks = linux.split("```sh\n").skip(1);
    blocks.map(|block| block.split_once("```").expect("a block ends").0.to_owned()).collect()
}

/// A folder to run in, with ports that nobody else has.
struct Desk {
    folder: PathBuf,
    port: u16,
    native_port: u16,
}

impl Desk {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("guide-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder");
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"), folder.join("README.md")).expect("copies");
        Self { folder, port: free_port(), native_port: free_port() }
    }

    /// A block, in a shell. The harness is the one that was built with this test, and ports are free ones.
    fn start(&self, block: &str) -> Child {
        let harness = format!("{} sanctl --parameter NativePort={}", env!("CARGO_BIN_EXE_harness"), self.native_port);
        let commands = block.replace("cargo harness sanctl", &harness).replace(":5000", &format!(":{}", self.port));
        let mut shell = Command::new("sh");
        shell.args(["-euc", &commands]).current_dir(&self.folder).env_remove("SANWSK_SWITCH");
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh")
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // What is left in the temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A first terminal, of which everything up to "listening" has been read.
struct Waiting {
    shell: Child,
    rest: thread::JoinHandle<String>,
}

fn wait_for_listener(mut shell: Child, block: &str) -> Waiting {
    let mut lines = BufReader::new(shell.stderr.take().expect("a pipe"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("reads");
    assert!(line.starts_with("sanctl: listening on "), "{block}: {line}");
    let rest = thread::spawn(move || {
        lines.read_to_string(&mut line).expect("reads");
        line
    });
    Waiting { shell, rest }
}

/// Standard output and standard error of a shell that succeeds in time.
fn finish(mut shell: Child, block: &str) -> [String; 2] {
    let (output, errors) = (read_all(shell.stdout.take()), read_all(shell.stderr.take()));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = shell.try_wait().expect("waits") {
            break status;
        }
        if Instant::now() > deadline {
            shell.kill().expect("ends it");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let said = [output, errors].map(|reading| reading.join().expect("no panic"));
    assert!(status.success(), "{block}: {status}: {said:?}");
    said
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut stream) = stream {
            stream.read_to_string(&mut text).expect("reads");
        }
        text
    })
}

/// What each block is expected to say besides succeeding, by a word of the block: on standard output, on standard error.
const SAYS: [(&str, [&str; 2]); 6] = [
    ("selftest", ["all 11 checks passed\n", ""]),
    (" send ", ["the same at both ends", "by SAN"]),
    ("connect 10.77", ["", "by SAN"]),
    ("switch.toml", ["is anybody there?\n", "by TCP/IP (the SAN failed: "]),
    (" ping ", ["and back by SAN\n", "by SAN"]),
    (" perf --san ", ["KiB/s", "by SAN"]),
];

#[test]
fn every_command_of_the_guide_does_what_the_page_says() {
    let (desk, mut waiting, mut said_so) = (Desk::new(), None, 0);
    let blocks = blocks();
    assert_eq!(blocks[0], "cargo driver\n");
    image();
    for block in &blocks[1..] {
        let shell = desk.start(block);
        if block.starts_with(FIRST) {
            assert!(waiting.is_none(), "{block}: the terminal is in use");
            waiting = Some(wait_for_listener(shell, block));
            continue;
        }
        let [output, errors] = finish(shell, block);
        for (word, [on_output, on_errors]) in SAYS {
            if block.contains(word) {
                said_so += 1;
                assert!(output.contains(on_output) && errors.contains(on_errors), "{block}: {output}{errors}");
            }
        }
        if block.starts_with(SECOND) {
            let Waiting { shell, rest } = waiting.take().expect("a first terminal");
            finish(shell, block);
            let told = rest.join().expect("no panic");
            assert!(told.contains("sanctl: connected from "), "{block}: {told}");
        }
    }
    assert!(waiting.is_none());
    assert_eq!(said_so, SAYS.len());
}

#[test]
fn what_was_not_run_is_marked() {
    let page = include_str!("../../../docs/guide.md");
    let windows = page.split("\n## ").find(|part| part.starts_with("On Windows")).expect("a part on Windows");
    let steps: Vec<_> = windows.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).collect();
    assert!(steps.len() > 3);
    assert!(steps.iter().all(|step| step.contains("*(not run)*")), "{steps:?}");
}
