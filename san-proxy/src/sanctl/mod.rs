//! The command-line tool `sanctl`, as a function: the same on Windows and on a simulated machine.

mod relay;
mod status;

use crate::endpoint::AddressFamily;
use crate::error::Error;
use crate::listener::{Accepted, Backlog, StreamListener};
use crate::provider::Provider;
use crate::stream::StreamConnection;
use clap::Parser;
use relay::{Input, relay};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Exit code: done, or help was asked for.
pub const DONE: u8 = 0;
/// Exit code: something failed; standard error says what.
pub const FAILED: u8 = 1;
/// Exit code: the arguments are wrong.
pub const USAGE: u8 = 2;

/// What the tool reads and writes.
pub struct Streams<'a> {
    /// Standard input. It is read by a thread of its own, which may outlast the run while it waits for input.
    pub input: Box<dyn Read + Send>,
    /// Standard output.
    pub output: &'a mut dyn Write,
    /// Standard error.
    pub errors: &'a mut dyn Write,
}

/// Looks at the sanwsk driver, and makes and takes connections through it.
#[derive(Clone, Copy, Parser)]
#[command(
    name = "sanctl",
    version,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  sanctl status
  sanctl connect 192.0.2.7:80 < request.txt > answer.txt
  sanctl listen 0.0.0.0:5000 > received.bin

Exit status: 0 done, 1 something failed (standard error says what and why), 2 wrong arguments."
)]
enum Command {
    /// Show the driver's version and state.
    #[command(after_help = "\
Examples:
  sanctl status
  sanctl status --json

WSK provider: capturing (the driver waits for the Windows network stack), ready, or failed with an NTSTATUS.
Endpoints: those of all programs, the ones being closed included.")]
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },

    /// Connect; then standard input goes to the peer, and what the peer sends to standard output.
    #[command(after_help = "\
Examples:
  sanctl connect 192.0.2.7:5000
  sanctl connect --timeout 2.5 [2001:db8::7]:80 < request.txt > answer.txt

The end of standard input ends this side of the connection only. The tool ends when the peer has ended its side too.")]
    Connect {
        /// IP address and port to connect to, as in 192.0.2.7:80 or [2001:db8::7]:80.
        #[arg(value_name = "ADDR:PORT", value_parser = socket_address)]
        address: SocketAddr,
        /// Give up after so many seconds; without it, when TCP does.
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        timeout: Option<Duration>,
    },

    /// Take a connection; then standard input goes to the peer, and what the peer sends to standard output.
    #[command(after_help = "\
Examples:
  sanctl listen 0.0.0.0:5000 > received.bin
  sanctl listen --keep --backlog 4 [::1]:5000 < nul

Port 0 stands for any free port; standard error says which one it is.
With --keep, standard input goes to whoever is connected; once it has ended, each further peer is only listened to.")]
    Listen {
        /// Local IP address and port, as in 127.0.0.1:5000, 0.0.0.0:5000 or [::]:5000.
        #[arg(value_name = "ADDR:PORT", value_parser = socket_address)]
        address: SocketAddr,
        /// Connections that may wait to be taken; more are refused. Without it, as many as the driver allows.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
        backlog: Option<u32>,
        /// Take another connection when one has ended, for ever.
        #[arg(long)]
        keep: bool,
    },
}

fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "give an IP address and a port, as in 192.0.2.7:80 or [2001:db8::7]:80")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or("give seconds, more than 0, as in 5 or 0.5")
}

/// Why a run failed.
#[derive(Debug)]
enum Failure {
    San(Error),
    Io(&'static str, io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::San(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::San(error) => match error.hint() {
                Some(hint) => write!(formatter, "{error}\nhint: {hint}"),
                None => write!(formatter, "{error}"),
            },
            Self::Io(what, error) => write!(formatter, "cannot {what}: {error}"),
        }
    }
}

/// Runs the tool. `arguments` begin with the program's name; `open` opens the driver, if it is needed. The exit code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    open: impl FnOnce() -> Result<Provider, Error>,
    mut streams: Streams<'_>,
) -> u8 {
    let command = match Command::try_parse_from(arguments) {
        Ok(command) => command,
        Err(error) => return explain(&error, &mut streams),
    };
    match execute(command, open, &mut streams) {
        Ok(()) => DONE,
        Err(failure) => {
            report(streams.errors, &failure);
            FAILED
        }
    }
}

/// Help, or what is wrong with the arguments.
fn explain(error: &clap::Error, streams: &mut Streams<'_>) -> u8 {
    let (stream, code) = if error.use_stderr() { (&mut *streams.errors, USAGE) } else { (&mut *streams.output, DONE) };
    // Nobody is left to tell if it cannot be written.
    let _ = write!(stream, "{}", error.render());
    code
}

fn report(errors: &mut dyn Write, what: &dyn fmt::Display) {
    // As above.
    let _ = writeln!(errors, "sanctl: {what}");
}

fn execute(
    command: Command,
    open: impl FnOnce() -> Result<Provider, Error>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let provider = open()?;
    match command {
        Command::Status { json } => {
            let text = status::describe(provider.version()?, provider.status()?, json);
            writeln!(streams.output, "{text}").map_err(cannot_write)
        }
        Command::Connect { address, timeout } => connect(&provider, address, timeout, streams),
        Command::Listen { address, backlog, keep } => {
            listen(&provider, address, backlog.map_or(Backlog::MAXIMUM, Backlog), keep, streams)
        }
    }
}

fn cannot_write(error: io::Error) -> Failure {
    Failure::Io("write to standard output", error)
}

fn connect(
    provider: &Provider,
    address: SocketAddr,
    timeout: Option<Duration>,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let connection = StreamConnection::create(provider, AddressFamily::of(address))?;
    connection.connect(address, timeout)?;
    report(streams.errors, &format_args!("connected to {address} from {}", connection.local_address()?));
    relay(&connection, &input(streams), streams.output)
}

fn listen(
    provider: &Provider,
    address: SocketAddr,
    backlog: Backlog,
    keep: bool,
    streams: &mut Streams<'_>,
) -> Result<(), Failure> {
    let listener = StreamListener::create(provider, AddressFamily::of(address))?;
    let local = listener.bind(address)?;
    listener.listen(backlog)?;
    report(streams.errors, &format_args!("listening on {local}"));
    let input = input(streams);
    loop {
        let Accepted { connection, peer, .. } = listener.accept()?;
        report(streams.errors, &format_args!("connected from {peer}"));
        let ended = relay(&connection, &input, streams.output);
        match ended {
            Err(failure @ Failure::San(_)) if keep => report(streams.errors, &failure),
            Ok(()) if keep => {}
            Ok(()) | Err(_) => return ended,
        }
    }
}

/// Takes standard input over. It is read from now on.
fn input(streams: &mut Streams<'_>) -> Input {
    Input::start(std::mem::replace(&mut streams.input, Box::new(io::empty())))
}

#[cfg(test)]
mod tests;
