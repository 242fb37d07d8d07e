//! The command-line tool `sanctl`, as a function: the same on Windows and on a simulated machine.

mod connect;
mod failure;
mod path;
mod perf;
mod picture;
mod ping;
mod progress;
mod relay;
mod route;
mod selftest;
mod status;
mod top;
mod transfer;

use crate::error::Error;
use crate::provider::Provider;
use clap::Parser;
use console::Term;
use failure::Failure;
use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};
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
    /// Which of them a person looks at.
    pub terminals: Terminals,
}

/// Which streams are terminals, on which something can be drawn again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminals {
    /// Standard output is one.
    pub output: bool,
    /// Standard error is one.
    pub errors: bool,
}

impl Terminals {
    /// Those of this process. On Windows they are told to take control sequences.
    #[must_use]
    pub fn of_process() -> Self {
        let draws = |terminal: Term| {
            let features = terminal.features();
            features.is_attended() && (cfg!(not(windows)) || features.colors_supported())
        };
        Self { output: draws(Term::stdout()), errors: draws(Term::stderr()) }
    }
}

/// Looks at the sanwsk driver, and makes and takes connections by the SAN or by TCP/IP.
#[derive(Parser)]
#[command(
    name = "sanctl",
    version,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  sanctl selftest                                first of all, on a new machine
  sanctl receive 0.0.0.0:5000                    on one machine, and on the other:
  sanctl send backup.vhdx 10.77.0.9:5000

A connection takes the SAN where the driver's routes or the switch's file hold its address, and TCP/IP elsewhere and
where the SAN fails; --san, --tcp and --stream force a way. Standard error says which one it was, and why.

Exit status: 0 done, 1 something failed (standard error says what and why), 2 wrong arguments."
)]
enum Command {
    /// Try the driver out over loopback, in a few seconds.
    #[command(after_help = selftest::EXAMPLES)]
    Selftest(selftest::Arguments),

    /// Show the driver's version and state, its limits and counters.
    #[command(after_help = status::EXAMPLES)]
    Status(status::Arguments),

    /// Show who uses the driver, and how much.
    #[command(after_help = top::EXAMPLES)]
    Top(top::Arguments),

    /// Show and change the driver's map from SAN addresses to native ones.
    #[command(subcommand, disable_help_subcommand = true, after_help = route::EXAMPLES)]
    Route(route::Command),

    /// Connect; then standard input goes to the peer, and what the peer sends to standard output.
    #[command(after_help = connect::CONNECT_EXAMPLES)]
    Connect(connect::ConnectArguments),

    /// Take a connection; then standard input goes to the peer, and what the peer sends to standard output.
    #[command(after_help = connect::LISTEN_EXAMPLES)]
    Listen(connect::ListenArguments),

    /// Send a file to sanctl receive.
    #[command(after_help = transfer::SEND_EXAMPLES)]
    Send(transfer::SendArguments),

    /// Take a file from sanctl send, and check that it is the same.
    #[command(after_help = transfer::RECEIVE_EXAMPLES)]
    Receive(transfer::ReceiveArguments),

    /// Measure how long messages take to sanctl echo and back.
    #[command(after_help = ping::PING_EXAMPLES)]
    Ping(ping::PingArguments),

    /// Send back what comes.
    #[command(after_help = ping::ECHO_EXAMPLES)]
    Echo(ping::EchoArguments),

    /// Measure how much goes over a connection, by the size of messages.
    #[command(after_help = perf::EXAMPLES)]
    Perf(perf::Arguments),
}

fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "give an IP address and a port, as in 192.0.2.7:80 or [2001:db8::7]:80")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let time = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero()).ok_or("give seconds, more than 0, as in 5 or 0.5")
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
    match command {
        Command::Selftest(arguments) => arguments.run(&open()?, streams),
        Command::Status(arguments) => arguments.run(&open()?, streams),
        Command::Top(arguments) => arguments.run(&open()?, streams),
        Command::Route(command) => command.run(open, streams),
        Command::Connect(arguments) => arguments.run(open, streams),
        Command::Listen(arguments) => arguments.run(open, streams),
        Command::Send(arguments) => arguments.run(open, streams),
        Command::Receive(arguments) => arguments.run(open, streams),
        Command::Ping(arguments) => arguments.run(open, streams),
        Command::Echo(arguments) => arguments.run(open, streams),
        Command::Perf(arguments) => arguments.run(open, streams),
    }
}

#[cfg(test)]
mod tests;
