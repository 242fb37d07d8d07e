//! `sanctl perf`: how much goes over a connection, by the size of messages.
//!
//! What goes over the connection, numbers little-endian: the client sends `SANPERF1`. For each size it sends the size (4 bytes, not 0), then
//! messages of that size, of which the first byte is 1, and 0 in the last one; the server answers with the number of bytes
//! that have come (8 bytes). A size of 0 ends it.

use super::failure::{Failure, cannot_write};
use super::path::{Connection, Path};
use super::picture::bar;
use super::{Streams, report, seconds, socket_address};
use crate::error::Error;
use crate::provider::Provider;
use indicatif::HumanBytes;
use serde_json::json;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(super) const EXAMPLES: &str = "\
Examples:
  sanctl perf --serve 0.0.0.0:5000               on one machine
  sanctl perf 10.77.0.9:5000                     on the other: it sends, the server counts
  sanctl perf --sizes 4096 --seconds 5 --tcp 192.0.2.7:5000

It takes --seconds for each size. The clock stops when the server has said that everything has come.";

const MAGIC: [u8; 8] = *b"SANPERF1";
const MORE: u8 = 1;
const LAST: u8 = 0;
const MAX_SIZE: u32 = 16 * 1024 * 1024;
/// How long either side waits for the other.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where to send to; with --serve, where to listen.
    #[arg(value_name = "ADDR:PORT", value_parser = socket_address)]
    address: SocketAddr,
    /// Take what another sanctl perf sends. It ends with Ctrl+C, or with --once after one peer.
    #[arg(long, conflicts_with_all = ["sizes", "seconds", "json"])]
    serve: bool,
    /// With --serve: end when the first peer has ended.
    #[arg(long, requires = "serve")]
    once: bool,
    /// Bytes of a message, several with commas between.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "64,1024,16384,65536,1048576",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SIZE)))]
    sizes: Vec<u32>,
    /// How long to send for each size.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    seconds: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    path: Path,
}

/// What came of one size.
struct Run {
    size: u32,
    bytes: u64,
    time: Duration,
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

fn cannot_send(error: std::io::Error) -> Failure {
    Failure::network("send", None, error)
}

fn receive_exact(mut connection: &Connection, buffer: &mut [u8]) -> Result<(), Failure> {
    connection.read_exact(buffer).map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            let hint = Some("the other side has to be sanctl perf --serve; see what it says");
            Failure::Peer { what: "the other side has ended the connection amid the measurement".into(), hint }
        } else {
            Failure::network("receive", None, error)
        }
    })
}

impl Arguments {
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<Provider, Error>,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        let network = self.path.open(open)?;
        if !self.serve {
            let mut connection = network.connect(self.address, Some(TIMEOUT))?;
            connection.set_timeout(TIMEOUT)?;
            report(streams.errors, &connection);
            return self.measure(connection, streams);
        }
        let listener = network.listen(self.address, None)?;
        report(streams.errors, &format_args!("listening on {listener}"));
        loop {
            let mut connection = listener.accept()?;
            connection.set_timeout(TIMEOUT)?;
            report(streams.errors, &connection);
            let served = serve(&connection);
            if served.is_ok() {
                connection.finish();
            }
            match served {
                Err(failure) if !self.once => report(streams.errors, &failure),
                Ok(()) if !self.once => {}
                ended => return ended,
            }
        }
    }

    fn measure(&self, connection: Connection, streams: &mut Streams<'_>) -> Result<(), Failure> {
        (&connection).write_all(&MAGIC).map_err(cannot_send)?;
        let runs =
            self.sizes.iter().map(|&size| measure(&connection, size, self.seconds)).collect::<Result<Vec<_>, _>>()?;
        (&connection).write_all(&0_u32.to_le_bytes()).map_err(cannot_send)?;
        let text = if self.json { self.as_json(&runs, &connection) } else { as_table(&runs) };
        writeln!(streams.output, "{text}").map_err(cannot_write)?;
        connection.finish();
        Ok(())
    }

    fn as_json(&self, runs: &[Run], connection: &Connection) -> String {
        let runs: Vec<_> = runs
            .iter()
            .map(|run| {
                json!({
                    "message_bytes": run.size,
                    "messages": run.bytes / u64::from(run.size),
                    "bytes": run.bytes,
                    "seconds": run.time.as_secs_f64(),
                    "bytes_per_second": run.rate(),
                })
            })
            .collect();
        format!("{:#}", json!({ "address": self.address.to_string(), "path": connection.path_name(), "runs": runs }))
    }
}

fn as_table(runs: &[Run]) -> String {
    let most = runs.iter().map(Run::rate).fold(0.0, f64::max);
    let mut lines = vec![format!("{:>10}  {:>10}  {:>12}  {:>14}", "message", "messages", "messages/s", "rate")];
    for run in runs {
        let count = run.bytes / u64::from(run.size);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive rate for people")]
        let rate = format!("{}/s", HumanBytes(run.rate() as u64));
        let each = run.rate() / f64::from(run.size);
        let size = HumanBytes(run.size.into()).to_string();
        let drawn = bar(run.rate(), most);
        lines.push(format!("{size:>10}  {count:>10}  {each:>12.0}  {rate:>14}  {drawn}").trim_end().to_owned());
    }
    lines.join("\n")
}

/// Sends messages of one size for so long.
fn measure(mut connection: &Connection, size: u32, time: Duration) -> Result<Run, Failure> {
    let mut message = vec![0x5A; size as usize];
    let mut sent = 0;
    connection.write_all(&size.to_le_bytes()).map_err(cannot_send)?;
    let started = Instant::now();
    loop {
        let last = started.elapsed() >= time;
        message[0] = if last { LAST } else { MORE };
        connection.write_all(&message).map_err(cannot_send)?;
        sent += u64::from(size);
        if last {
            break;
        }
    }
    let mut counted = [0; 8];
    receive_exact(connection, &mut counted)?;
    let counted = u64::from_le_bytes(counted);
    if counted == sent {
        Ok(Run { size, bytes: sent, time: started.elapsed() })
    } else {
        Err(Failure::peer(format!("{sent} bytes were sent, and the other side has counted {counted}")))
    }
}

/// Counts what comes.
fn serve(mut connection: &Connection) -> Result<(), Failure> {
    let no_client = |what| {
        let hint = Some("the other side has to be sanctl perf ADDR:PORT of the same version");
        Failure::Peer { what, hint }
    };
    let mut magic = [0; MAGIC.len()];
    receive_exact(connection, &mut magic)?;
    if magic != MAGIC {
        return Err(no_client("the other side is no sanctl perf".to_owned()));
    }
    let mut message = Vec::new();
    loop {
        let mut size = [0; 4];
        receive_exact(connection, &mut size)?;
        match u32::from_le_bytes(size) {
            0 => return Ok(()),
            size if size > MAX_SIZE => return Err(no_client(format!("messages of {size} bytes are too long"))),
            size => message.resize(size as usize, 0),
        }
        let mut received: u64 = 0;
        loop {
            receive_exact(connection, &mut message)?;
            received += message.len() as u64;
            match message[0] {
                MORE => {}
                LAST => break,
                other => return Err(no_client(format!("a message begins with {other}"))),
            }
        }
        connection.write_all(&received.to_le_bytes()).map_err(cannot_send)?;
    }
}
