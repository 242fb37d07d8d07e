//! The tool as a user meets it.

mod connect;
mod looking;
mod measuring;
mod route;
mod transfer;

use super::{DONE, FAILED, Streams, Terminals, USAGE, run};
use crate::NtStatus;
use crate::error::{Error, Operation};
use crate::fake::FakeDevice;
use crate::provider::Provider;
use std::io::{self, Cursor, Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a run left behind.
#[derive(Debug, PartialEq)]
struct Ran {
    code: u8,
    output: String,
    errors: String,
}

impl Ran {
    /// The output of a run that has succeeded.
    #[track_caller]
    fn done(self) -> String {
        assert_eq!(self.code, DONE, "{}", self.errors);
        self.output
    }

    /// What a run that has failed said.
    #[track_caller]
    fn failed(self) -> String {
        assert_eq!(self.code, FAILED, "{}", self.errors);
        self.errors
    }

    /// The same, of a run that was none.
    #[track_caller]
    fn misused(self) -> String {
        assert_eq!((self.code, &*self.output), (USAGE, ""), "{}", self.errors);
        self.errors
    }

    #[track_caller]
    fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.done()).expect("JSON")
    }
}

fn sanctl_with(arguments: &[&str], provider: Result<Provider, Error>, input: impl Read + Send + 'static) -> Ran {
    Running::start(arguments, provider, input, Terminals::default()).end()
}

fn sanctl(arguments: &[&str]) -> Ran {
    sanctl_with(arguments, Ok(FakeDevice::provider().0), io::empty())
}

/// Standard error that is looked at while it is written.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<Vec<u8>>>);

impl Watched {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run of the tool in a thread of its own.
struct Running {
    errors: Watched,
    run: JoinHandle<(u8, String)>,
}

impl Running {
    fn start(
        arguments: &[&str],
        provider: Result<Provider, Error>,
        input: impl Read + Send + 'static,
        terminals: Terminals,
    ) -> Self {
        let errors = Watched::default();
        let mut told = errors.clone();
        let arguments: Vec<_> = std::iter::once(&"sanctl").chain(arguments).map(Into::into).collect();
        let run = thread::spawn(move || {
            let mut output = Vec::new();
            let streams = Streams { input: Box::new(input), output: &mut output, errors: &mut told, terminals };
            let code = run(arguments, || provider, streams);
            (code, String::from_utf8(output).unwrap())
        });
        Self { errors, run }
    }

    /// One that listens at a port of its choice, and where that is.
    #[track_caller]
    fn listening(arguments: &[&str], provider: &Provider) -> (Self, String) {
        let running = Self::start(arguments, Ok(provider.clone()), io::empty(), Terminals::default());
        let address = running.address();
        (running, address)
    }

    /// Where it says that it listens.
    #[track_caller]
    fn address(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.errors.text();
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
    fn end(self) -> Ran {
        let (code, output) = self.run.join().expect("no panic");
        Ran { code, output, errors: self.errors.text() }
    }
}

/// Standard input that never ends: a terminal at which nobody types.
struct Terminal(Receiver<()>);

impl Read for Terminal {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(0)
    }
}

/// `text` with `0` in place of every number, and one space for several: what does not vary from run to run.
fn without_numbers(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        let letter = if letter.is_ascii_digit() { '0' } else { letter };
        let repeated = matches!(letter, '0' | ' ') && shown.ends_with(letter);
        // 1.25 as 3.
        let point = letter == '.' && shown.ends_with('0');
        if !repeated && !point {
            shown.push(letter);
        }
    }
    shown
}

#[test]
fn help_is_as_it_was_agreed() {
    for (command, expected) in [
        ("", include_str!("../help/sanctl.txt")),
        ("selftest", include_str!("../help/selftest.txt")),
        ("status", include_str!("../help/status.txt")),
        ("top", include_str!("../help/top.txt")),
        ("route", include_str!("../help/route.txt")),
        ("route list", include_str!("../help/route-list.txt")),
        ("route add", include_str!("../help/route-add.txt")),
        ("route remove", include_str!("../help/route-remove.txt")),
        ("connect", include_str!("../help/connect.txt")),
        ("listen", include_str!("../help/listen.txt")),
        ("send", include_str!("../help/send.txt")),
        ("receive", include_str!("../help/receive.txt")),
        ("ping", include_str!("../help/ping.txt")),
        ("echo", include_str!("../help/echo.txt")),
        ("perf", include_str!("../help/perf.txt")),
    ] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        assert_eq!(sanctl(&arguments), Ran { code: DONE, output: expected.to_owned(), errors: String::new() });
        assert!(expected.lines().all(|line| line.chars().count() <= 120), "{command}");
    }
}

#[test]
fn every_command_of_the_help_has_its_page() {
    let page = include_str!("../help/sanctl.txt");
    let commands = page.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(commands.len(), 11);
    for command in commands {
        assert!(sanctl(&[command, "--help"]).done().contains("Examples:\n"), "{command}");
    }
}

#[test]
fn wrong_arguments_are_explained() {
    assert!(sanctl(&["connect", "localhost"]).misused().starts_with(
        "error: invalid value 'localhost' for '<ADDR:PORT>': give an IP address and a port, as in 192.0.2.7:80 or \
         [2001:db8::7]:80\n"
    ));
    for (arguments, said) in [
        (&["connect", "127.0.0.1:1", "--timeout", "0"][..], "give seconds, more than 0, as in 5 or 0.5"),
        (&["listne", "127.0.0.1:1"], "a similar subcommand exists: 'listen'"),
        (&["connect", "127.0.0.1:1", "--san", "--tcp"], "cannot be used with"),
        (&["perf", "127.0.0.1:1", "--once"], "--serve"),
        (&["perf", "127.0.0.1:1", "--sizes", "1,0"], "0 is not in 1..="),
        (&["ping", "127.0.0.1:1", "--count", "0"], "0 is not in 1..="),
        (&["route", "add", "10.0.0.1/8", "11.0.0.0/8"], "bits set past the length"),
        (&["route", "add", "10.0.0.0", "11.0.0.0/8"], "a prefix is an address, a slash and a length"),
        (&["route"], "Usage: sanctl route <COMMAND>"),
        (&["top", "--once", "--count", "2"], "cannot be used with"),
        (&[], "Usage: sanctl <COMMAND>"),
    ] {
        let errors = sanctl(arguments).misused();
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
}

#[test]
fn what_keeps_the_driver_from_being_opened_is_named_with_what_to_do() {
    for (status, said, hint) in [
        (
            NtStatus::OBJECT_NAME_NOT_FOUND,
            "sanctl: cannot open the device: WSAENETDOWN (10050), STATUS_OBJECT_NAME_NOT_FOUND (0xc0000034)\n",
            "sc.exe start sanwsk",
        ),
        (
            NtStatus::NO_SUCH_DEVICE,
            "sanctl: cannot open the device: WSAENETDOWN (10050), STATUS_NO_SUCH_DEVICE (0xc000000e)\n",
            "the driver is being stopped",
        ),
        (
            NtStatus::ACCESS_DENIED,
            "sanctl: cannot open the device: WSAEACCES (10013), STATUS_ACCESS_DENIED (0xc0000022)\n",
            "run it as an administrator",
        ),
    ] {
        for command in
            ["selftest", "status", "top", "route list", "listen --san 127.0.0.1:0", "echo --stream 127.0.0.1:0"]
        {
            let arguments: Vec<_> = command.split_whitespace().collect();
            let ran = sanctl_with(&arguments, Err(Error::new(Operation::Open, status)), io::empty());
            let errors = ran.failed();
            assert!(errors.starts_with(said), "{errors}");
            assert!(errors.contains("\nhint: ") && errors.contains(hint), "{errors}");
        }
    }
}
