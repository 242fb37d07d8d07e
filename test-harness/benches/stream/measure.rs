//! The measurements, in rounds that take turns: both paths meet the same weather.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Parser;

use crate::bed::{Bed, plain};
use crate::memory;
use crate::path::Path;
use crate::report::{self, Better, Round, Row};

/// One TCP stream through the driver against plain sockets, on loopback.
///
/// Prints a table, and writes target/bench/stream.csv and target/bench/stream.svg.
#[derive(Parser)]
#[command(name = "cargo bench -p test-harness --", version)]
struct Arguments {
    /// Two seconds in all, to see that it works; the figures mean little.
    #[arg(long)]
    quick: bool,
    /// What cargo bench says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How long one measurement takes, and how often it is repeated.
#[derive(Clone, Copy)]
struct Schedule {
    rounds: usize,
    throughput: Duration,
    latency: Duration,
}

const FULL: Schedule = Schedule { rounds: 5, throughput: Duration::from_secs(1), latency: Duration::from_secs(1) };
const QUICK: Schedule =
    Schedule { rounds: 2, throughput: Duration::from_millis(100), latency: Duration::from_millis(100) };

pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(if arguments.quick { QUICK } else { FULL }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(schedule: Schedule) -> Result<()> {
    let bed = Bed::new()?;
    let started = Instant::now();
    let mut rows = Vec::new();
    for (name, direction) in [("send", Direction::Send), ("receive", Direction::Receive)] {
        let once = |near: &mut dyn Path, far| throughput(near, far, direction, schedule.throughput);
        let rounds = rounds(&bed, schedule.rounds, &once)?;
        rows.push(Row { name: format!("{name}, 64 KiB operations"), unit: "MiB/s", better: Better::Higher, rounds });
    }
    for size in [1, 64] {
        let once = |near: &mut dyn Path, far| ping_pong(near, far, size, schedule.latency);
        let measured = rounds(&bed, schedule.rounds, &once)?;
        for percentile in [50, 99] {
            let of = |samples: &Vec<f64>| at_percentile(samples, percentile);
            let rounds =
                measured.iter().map(|round| Ok(Round { driver: of(&round.driver)?, plain: of(&round.plain)? }));
            let rounds = rounds.collect::<Result<_>>()?;
            let name = format!("ping-pong, {size} B, p{percentile}");
            rows.push(Row { name, unit: "µs", better: Better::Lower, rounds });
        }
    }
    let memory = memory::measure(&bed)?;
    bed.finish()?;
    report::write(rows, &memory, started.elapsed())
}

/// Measures on a new connection of each path in turn.
fn rounds<T>(bed: &Bed, rounds: usize, once: &dyn Fn(&mut dyn Path, TcpStream) -> Result<T>) -> Result<Vec<Round<T>>> {
    let round = || {
        let (mut near, far) = plain()?;
        let plain = once(&mut near, far)?;
        let (mut near, far) = bed.through_driver()?;
        Ok(Round { driver: once(&mut near, far)?, plain })
    };
    (0..rounds).map(|_| round()).collect()
}

/// Which way the bytes go, seen from the path that is measured.
#[derive(Clone, Copy)]
enum Direction {
    Send,
    Receive,
}

/// MiB per second, from the first byte until the receiver has the last.
fn throughput(near: &mut dyn Path, mut far: TcpStream, direction: Direction, time: Duration) -> Result<f64> {
    let started = Instant::now();
    let bytes = match direction {
        Direction::Send => {
            let receiver = thread::spawn(move || far.drain());
            near.send_for(time)?;
            join(receiver)?
        }
        Direction::Receive => {
            let sender = thread::spawn(move || far.send_for(time).map(|()| far));
            let bytes = near.drain()?;
            join(sender)?;
            bytes
        }
    };
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    Ok(bytes as f64 / f64::from(1 << 20) / started.elapsed().as_secs_f64())
}

/// Microseconds of each round trip.
fn ping_pong(near: &mut dyn Path, mut far: TcpStream, size: usize, time: Duration) -> Result<Vec<f64>> {
    let echo = thread::spawn(move || -> Result<()> {
        let mut message = vec![0; size];
        loop {
            match far.read(&mut message)? {
                0 => return Ok(()),
                length => far.write_all(&message[..length])?,
            }
        }
    });
    let (mut message, mut samples, deadline) = (vec![0x5a; size], Vec::new(), Instant::now() + time);
    while Instant::now() < deadline {
        let started = Instant::now();
        near.exchange(&mut message)?;
        samples.push(started.elapsed().as_secs_f64() * 1e6);
    }
    near.end()?;
    join(echo)?;
    Ok(samples)
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("the peer's thread panicked"))?
}

/// The sample that so many hundredths of all do not exceed.
pub(crate) fn at_percentile(samples: &[f64], percentile: usize) -> Result<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percentile).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().ok_or_else(|| anyhow!("nothing was measured"))
}
