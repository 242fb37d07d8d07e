//! Runs of the tool, each with a machine of its own, on the network of this one.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use san_proxy::sanctl::{DONE, FAILED, Streams, Terminals};
use test_harness::tool;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a run left behind.
#[derive(Debug, PartialEq)]
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) output: Vec<u8>,
    pub(crate) errors: String,
}

impl Ran {
    /// The output of a run that has succeeded.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, DONE, "{}\n{}", String::from_utf8_lossy(&self.output), self.errors);
        String::from_utf8(self.output).expect("text")
    }

    /// What a run that has failed said.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, FAILED, "{}", self.errors);
        self.errors
    }
}

pub(crate) fn harness(arguments: &[&str]) -> Ran {
    Running::start(arguments, io::empty()).end()
}

/// The driver's image, built once.
pub(crate) fn image() -> &'static Path {
    static IMAGE: OnceLock<std::path::PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| driver_build::build(&driver_build::Options::default()).expect("the driver builds").image)
}

/// A TCP port that nobody has at the moment, below those that the host gives to connections.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(311).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % COUNT).expect("below 65536");
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// Machines that reach each other's SAN: the same native port, and the same routes.
pub(crate) struct San {
    native_port: u16,
    routes: Vec<String>,
}

impl San {
    /// SAN addresses are the native ones.
    pub(crate) fn new() -> Self {
        Self { native_port: free_port(), routes: Vec::new() }
    }

    pub(crate) fn with_route(mut self, route: &str) -> Self {
        self.routes.push(route.to_owned());
        self
    }

    /// Runs sanctl on one of the machines.
    pub(crate) fn start(&self, arguments: &[&str], input: impl Read + Send + 'static) -> Running {
        let parameters = [format!("NativePort={}", self.native_port)].into_iter();
        let parameters = parameters.chain(self.routes.iter().map(|route| format!("Routes={route}")));
        let mut all = vec!["sanctl".to_owned(), "--driver".into(), image().display().to_string()];
        all.extend(parameters.flat_map(|parameter| ["--parameter".to_owned(), parameter]));
        all.extend(arguments.iter().map(ToString::to_string));
        Running::start(&all.iter().map(String::as_str).collect::<Vec<_>>(), input)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.start(arguments, io::empty()).end()
    }

    /// One that listens, and where.
    #[track_caller]
    pub(crate) fn listening(&self, arguments: &[&str], input: impl Read + Send + 'static) -> (Running, String) {
        let running = self.start(arguments, input);
        let address = running.address();
        (running, address)
    }
}

/// Standard error that is looked at while it is written.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Vec<u8>>>);

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run in a thread of its own.
pub(crate) struct Running {
    errors: Watched,
    run: JoinHandle<(u8, Vec<u8>)>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str], input: impl Read + Send + 'static) -> Self {
        let errors = Watched::default();
        let mut told = errors.clone();
        let arguments: Vec<_> = std::iter::once(&"harness").chain(arguments).map(Into::into).collect();
        let run = thread::spawn(move || {
            let (mut output, terminals) = (Vec::new(), Terminals::default());
            let streams = Streams { input: Box::new(input), output: &mut output, errors: &mut told, terminals };
            (tool::run(arguments, streams), output)
        });
        Self { errors, run }
    }

    fn told(&self) -> String {
        String::from_utf8(self.errors.0.lock().expect("no panic").clone()).expect("text")
    }

    /// Where it says that it listens.
    #[track_caller]
    pub(crate) fn address(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told();
            if let Some((_, line)) = told.split_once("listening on ")
                && let Some((address, _)) = line.split_once(' ')
            {
                return address.to_owned();
            }
            assert!(!self.run.is_finished() && Instant::now() < deadline, "it does not listen: {told}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    pub(crate) fn end(self) -> Ran {
        let (code, output) = self.run.join().expect("no panic");
        let errors = String::from_utf8(self.errors.0.lock().expect("no panic").clone()).expect("text");
        Ran { code, output, errors }
    }
}

/// `text` with `0` in place of every number, and one space for several: what does not vary from run to run.
pub(crate) fn without_numbers(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        let letter = if letter.is_ascii_digit() { '0' } else { letter };
        let repeated = matches!(letter, '0' | ' ') && shown.ends_with(letter);
        let point = letter == '.' && shown.ends_with('0');
        if !repeated && !point {
            shown.push(letter);
        }
    }
    shown
}
