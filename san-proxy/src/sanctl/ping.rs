//! `sanctl ping` and `sanctl echo`: how long a message takes there and back.

use super::failure::{Failure, cannot_write};
use super::path::{Connection, Path};
use super::picture::{bar, time};
use super::{Streams, report, seconds, socket_address};
use crate::error::Error;
use crate::provider::Provider;
use hdrhistogram::Histogram;
use serde_json::json;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

pub(super) const PING_EXAMPLES: &str = "\
Examples:
  sanctl ping 10.77.0.9:5000
  sanctl ping --count 1000 --interval 0.001 --size 4096 10.77.0.9:5000
  sanctl ping --tcp 192.0.2.7:7                any TCP echo server

On the other machine: sanctl echo 0.0.0.0:5000. Every answer is compared with what was sent.
The picture shows how many answers took how long; p99: 99 of 100 took no longer.";

pub(super) const ECHO_EXAMPLES: &str = "\
Examples:
  sanctl echo 0.0.0.0:5000
  sanctl echo --once --san 10.77.0.9:5000

One peer at a time; others wait. It ends with Ctrl+C, or with --once when its first peer has ended.";

/// Rows of the picture.
const ROWS: u32 = 12;
/// What a histogram keeps: 1 ns to an hour, to three digits.
const HIGHEST: u64 = 3_600_000_000_000;
const DIGITS: u8 = 3;
const CHUNK: usize = 64 * 1024;

#[derive(clap::Args)]
pub(super) struct PingArguments {
    /// Where sanctl echo listens.
    #[arg(value_name = "ADDR:PORT", value_parser = socket_address)]
    address: SocketAddr,
    /// Messages to send.
    #[arg(long, short = 'n', value_name = "COUNT", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Bytes of each.
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    size: u32,
    /// Seconds from one to the next; the next waits for the answer in any case.
    #[arg(long, value_name = "SECONDS", default_value = "0.01", value_parser = seconds)]
    interval: Duration,
    /// Give up when an answer takes so many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    path: Path,
}

#[derive(clap::Args)]
pub(super) struct EchoArguments {
    /// Local IP address and port to listen at.
    #[arg(value_name = "ADDR:PORT", value_parser = socket_address)]
    address: SocketAddr,
    /// End when the first peer has ended.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    path: Path,
}

impl EchoArguments {
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<Provider, Error>,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        let network = self.path.open(open)?;
        let listener = network.listen(self.address, None)?;
        report(streams.errors, &format_args!("listening on {listener}"));
        loop {
            let connection = listener.accept()?;
            report(streams.errors, &connection);
            let echoed = echo(&connection);
            if echoed.is_ok() {
                connection.finish();
            }
            match echoed {
                Err(failure) if !self.once => report(streams.errors, &failure),
                Ok(()) if !self.once => {}
                ended => return ended,
            }
        }
    }
}

/// Sends back what comes, until the peer ends its side.
fn echo(mut connection: &Connection) -> Result<(), Failure> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match connection.read(&mut buffer).map_err(|error| Failure::network("receive", None, error))? {
            0 => return Ok(()),
            length => {
                connection.write_all(&buffer[..length]).map_err(|error| Failure::network("send", None, error))?;
            }
        }
    }
}

impl PingArguments {
    pub(super) fn run(
        &self,
        open: impl FnOnce() -> Result<Provider, Error>,
        streams: &mut Streams<'_>,
    ) -> Result<(), Failure> {
        let mut connection = self.path.open(open)?.connect(self.address, Some(self.timeout))?;
        connection.set_timeout(self.timeout)?;
        report(streams.errors, &connection);
        let times = self.measure(&connection)?;
        let text = if self.json { self.as_json(&times, &connection) } else { self.as_picture(&times, &connection) };
        writeln!(streams.output, "{text}").map_err(cannot_write)?;
        connection.finish();
        Ok(())
    }

    fn measure(&self, mut connection: &Connection) -> Result<Histogram<u64>, Failure> {
        let unusable =
            |error: hdrhistogram::CreationError| Failure::io("make a histogram", std::io::Error::other(error));
        let mut times = Histogram::<u64>::new_with_bounds(1, HIGHEST, DIGITS).map_err(unusable)?;
        let mut answer = vec![0; self.size as usize];
        for number in 0..self.count {
            let message: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(answer.len()).collect();
            let sent = Instant::now();
            connection.write_all(&message).map_err(|error| Failure::network("send", None, error))?;
            connection.read_exact(&mut answer).map_err(|error| no_answer(number, self.count, error))?;
            let taken = sent.elapsed();
            if answer != message {
                return Err(Failure::Peer {
                    what: format!("answer {} is not what was sent", number + 1),
                    hint: Some("the other side has to send back what it gets: sanctl echo does"),
                });
            }
            times.saturating_record(u64::try_from(taken.as_nanos()).unwrap_or(HIGHEST).max(1));
            if number + 1 < self.count {
                thread::sleep(self.interval.saturating_sub(taken));
            }
        }
        Ok(times)
    }

    fn as_picture(&self, times: &Histogram<u64>, connection: &Connection) -> String {
        let Self { size, count, .. } = self;
        let mut lines =
            vec![format!("{count} messages of {size} bytes to {} and back by {}", self.address, connection.path)];
        let rows = rows(times);
        let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0);
        for (from, count) in rows {
            #[expect(clippy::cast_precision_loss, reason = "lengths of bars")]
            let drawn = bar(count as f64, most as f64);
            lines.push(format!("{:>9}  {drawn} {count:>7}", shown(from)));
        }
        let at = |part| shown(times.value_at_quantile(part));
        lines.push(format!(
            "min {}  p50 {}  p90 {}  p99 {}  max {}",
            shown(times.min()),
            at(0.5),
            at(0.9),
            at(0.99),
            shown(times.max())
        ));
        lines.join("\n")
    }

    fn as_json(&self, times: &Histogram<u64>, connection: &Connection) -> String {
        let value = json!({
            "address": self.address.to_string(),
            "path": connection.path_name(),
            "count": self.count,
            "bytes": self.size,
            "nanoseconds": {
                "min": times.min(),
                "mean": times.mean(),
                "p50": times.value_at_quantile(0.5),
                "p90": times.value_at_quantile(0.9),
                "p99": times.value_at_quantile(0.99),
                "max": times.max(),
            },
        });
        format!("{value:#}")
    }
}

fn no_answer(number: u32, count: u32, error: std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        let what = format!("the connection ended after {number} of {count} answers");
        Failure::Peer { what, hint: Some("the other side has to send back what it gets: sanctl echo does") }
    } else {
        Failure::network("receive an answer", None, error)
    }
}

fn shown(nanoseconds: u64) -> String {
    time(Duration::from_nanos(nanoseconds))
}

/// Where the rows of the picture begin, and how many times are in each.
fn rows(times: &Histogram<u64>) -> Vec<(u64, u64)> {
    let edges = edges(times.min().max(1), times.max());
    let mut rows: Vec<_> = edges[..edges.len() - 1].iter().map(|&from| (from, 0)).collect();
    for recorded in times.iter_recorded() {
        let after = rows.partition_point(|(from, _)| *from <= recorded.value_iterated_to());
        rows[after.max(1) - 1].1 += recorded.count_since_last_iteration();
    }
    rows
}

/// Where the rows begin, and the last one ends: each is as many times the one before, as far as whole numbers go.
fn edges(least: u64, most: u64) -> Vec<u64> {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a picture")]
    let (from, to) = (least as f64, (most + 1) as f64);
    let ratio = (to / from).powf(1.0 / f64::from(ROWS));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two u64")]
    let mut edges: Vec<u64> = (0..ROWS).map(|row| (from * ratio.powf(row.into())) as u64).collect();
    edges.push(most + 1);
    edges.dedup();
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_the_picture_hold_every_time_once() {
        let mut times = Histogram::<u64>::new_with_bounds(1, HIGHEST, DIGITS).unwrap();
        for number in 0..1000_u64 {
            times.record(77_000 + number * number % 20_011).unwrap();
        }
        let rows = rows(&times);
        assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), 1000);
        assert!(rows[0].1 > 0 && rows[rows.len() - 1].1 > 0, "{rows:?}");
        for (least, most) in [(1, 2), (1000, 1001), (999, 1_000_000), (1, HIGHEST), (7, 7)] {
            let edges = edges(least, most);
            assert_eq!((edges[0], edges[edges.len() - 1]), (least, most + 1));
            assert!(edges.is_sorted_by(|one, next| one < next), "{edges:?}");
            assert!(edges.len() <= ROWS as usize + 1);
        }
    }
}
