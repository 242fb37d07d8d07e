//! `sanctl connect` and `sanctl listen`: standard input and output at one end of a connection.

use super::failure::Failure;
use super::path::Path;
use super::relay::{Input, relay};
use super::{Streams, report, seconds, socket_address};
use crate::error::Error;
use crate::provider::Provider;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub(super) const CONNECT_EXAMPLES: &str = "\
Examples:
  sanctl connect 192.0.2.7:5000
  sanctl connect --timeout 2.5 [2001:db8::7]:80 < request.txt > answer.txt
  sanctl connect --san 10.77.0.9:5000 < message.txt

The end of standard input ends this side of the connection only. The tool ends when the peer has ended its side too.
Standard error says which way was taken, SAN or TCP/IP, and why.";

pub(super) const LISTEN_EXAMPLES: &str = "\
Examples:
  sanctl listen 0.0.0.0:5000 > received.bin
  sanctl listen --keep --backlog 4 [::1]:5000 < nul

Port 0 stands for any free port; standard error says which one it is.
With --keep, standard input goes to whoever is connected; once it has ended, each further peer is only listened to.";

#[derive(clap::Args)]
pub(super) struct ConnectArguments {
    /// IP address and port to connect to, as in 192.0.2.7:80 or [2001:db8::7]:80.
    #[arg(value_name = "ADDR:PORT", value_parser = socket_address)]
    address: SocketAddr,
    /// Give up after so many seconds; without it, when the SAN and TCP do.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    path: Path,
}

#[derive(clap::Args)]
pub(super) struct ListenArguments {
    /// Local IP address and port, as in 127.0.0.1:5000, 0.0.0.0:5000 or [::]:5000.
    #[arg(value_name = "ADDR:PORT", value_parser = socket_address)]
    address: SocketAddr,
    /// With --san or --stream: so many may wait, more are refused. Without it, the driver's most.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    backlog: Option<u32>,
    /// Take another connection when one has ended, for ever.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    path: Path,
}

impl ConnectArguments {
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<Provider, Error>,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        let connection = self.path.open(open)?.connect(self.address, self.timeout)?;
        report(streams.errors, &connection);
        relay(&connection, &input(streams), streams.output)
    }
}

impl ListenArguments {
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<Provider, Error>,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        let network = self.path.open(open)?;
        let listener = network.listen(self.address, self.backlog)?;
        report(streams.errors, &format_args!("listening on {listener}"));
        let input = input(streams);
        loop {
            let connection = listener.accept()?;
            report(streams.errors, &connection);
            match relay(&connection, &input, streams.output) {
                Err(failure) if self.keep && failure.is_of_peer() => report(streams.errors, &failure),
                Ok(()) if self.keep => {}
                ended => return ended,
            }
        }
    }
}

/// Takes standard input over. It is read from now on.
fn input(streams: &mut Streams<'_>) -> Input {
    Input::start(std::mem::replace(&mut streams.input, Box::new(io::empty())))
}
