//! HTTP servers and clients of the machine: programs that are not ours.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// All that were started, for a demo that is given up.
static STARTED: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());

/// A program at work; it is ended when this is dropped.
pub(crate) struct Running(Arc<Mutex<Child>>);

/// Ends whatever is running.
pub(crate) fn end_all() {
    for child in STARTED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        end(&child);
    }
}

fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    // It fails for a program that has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

impl Running {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        let child = Arc::new(Mutex::new(command.stdin(Stdio::null()).spawn()?));
        STARTED.lock().unwrap_or_else(PoisonError::into_inner).push(child.clone());
        Ok(Self(child))
    }

    /// Waits for its end; `None` if it does not come in time.
    pub(crate) fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).try_wait() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&self.0);
        STARTED.lock().unwrap_or_else(PoisonError::into_inner).retain(|child| !Arc::ptr_eq(child, &self.0));
    }
}

/// Whether a program is there and does what it is asked for.
fn answers(program: &str, arguments: &[&str], with: &str) -> bool {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.is_ok_and(|output| {
        let words = [output.stdout, output.stderr].concat();
        output.status.success() && String::from_utf8_lossy(&words).lines().any(|line| line.contains(with))
    })
}

/// An HTTP server that serves a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Python,
    Busybox,
}

impl Server {
    pub(crate) fn find() -> Result<Self, Failure> {
        if answers("python3", &["-m", "http.server", "--help"], "--directory") {
            Ok(Self::Python)
        } else if answers("busybox", &["--list"], "httpd") {
            Ok(Self::Busybox)
        } else {
            let what = "this machine has no HTTP server that the demo knows: neither python3 nor busybox with httpd";
            Err(Failure::new(what, "install one (sudo apt-get install python3), then run cargo demo again"))
        }
    }

    /// What a person would type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python3 -m http.server",
            Self::Busybox => "busybox httpd",
        }
    }

    /// Starts it on a free port of 127.0.0.1.
    pub(crate) fn start(self, folder: &Path) -> Result<(Running, SocketAddr), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            let next = format!("try it by hand: {} (in any folder)", self.name());
            Failure::new(format_args!("{} does not start: {error}", self.name()), next)
        };
        let started = match self {
            Self::Python => start_python(folder),
            Self::Busybox => start_busybox(folder),
        };
        started.map_err(|error| failed(&error))
    }
}

/// Python chooses the port itself, and says which.
fn start_python(folder: &Path) -> std::io::Result<(Running, SocketAddr)> {
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder);
    let running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let output = running.0.lock().unwrap_or_else(PoisonError::into_inner).stdout.take();
    let (told, words) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        if let Some(output) = output {
            // Nothing read is nothing said.
            let _ = BufReader::new(output).read_line(&mut line);
        }
        // Nobody listens any more if it came too late.
        let _ = told.send(line);
    });
    let line = words.recv_timeout(START).unwrap_or_default();
    let port = line.split_once(" port ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    let port: u16 = port.ok_or_else(|| std::io::Error::other(format!("it says \"{}\"", line.trim_end())))?;
    Ok((running, SocketAddr::from(([127, 0, 0, 1], port))))
}

/// busybox has to be told a port.
fn start_busybox(folder: &Path) -> std::io::Result<(Running, SocketAddr)> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new("busybox");
    command.args(["httpd", "-f", "-p", &address.to_string(), "-h"]).arg(folder);
    let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let deadline = Instant::now() + START;
    while let Err(error) = TcpStream::connect_timeout(&address, START) {
        if Instant::now() > deadline || running.wait(Duration::ZERO).is_some() {
            return Err(error);
        }
        thread::sleep(POLL);
    }
    Ok((running, address))
}

/// An HTTP client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Curl,
    Wget,
    Python,
}

impl Client {
    pub(crate) fn find() -> Result<Self, Failure> {
        if answers("curl", &["--version"], "http") {
            Ok(Self::Curl)
        } else if answers("wget", &["--version"], "GNU Wget") {
            Ok(Self::Wget)
        } else if answers("python3", &["-c", "import urllib.request; print('there')"], "there") {
            Ok(Self::Python)
        } else {
            let what = "this machine has no HTTP client that the demo knows: neither curl nor wget nor python3";
            Err(Failure::new(what, "install one (sudo apt-get install curl), then run cargo demo again"))
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Wget => "wget",
            Self::Python => "python3 with urllib",
        }
    }

    /// Starts to fetch `url` to the file `to`, past any proxy.
    pub(crate) fn fetch(self, url: &str, to: &Path) -> Result<Running, Failure> {
        let mut command = match self {
            Self::Curl => {
                let mut command = Command::new("curl");
                command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60", "--output"]);
                command
            }
            Self::Wget => {
                let mut command = Command::new("wget");
                command.args(["--quiet", "--no-proxy", "--timeout=20", "--tries=1", "--output-document"]);
                command
            }
            Self::Python => {
                const SCRIPT: &str = "import sys, urllib.request as r\n\
                    r.install_opener(r.build_opener(r.ProxyHandler({})))\n\
                    r.urlretrieve(sys.argv[2], sys.argv[1])";
                let mut command = Command::new("python3");
                command.args(["-c", SCRIPT]);
                command
            }
        };
        Running::start(command.arg(to).arg(url))
            .map_err(|error| Failure::new(format_args!("{} does not start: {error}", self.name()), "try it by hand"))
    }
}
