//! Throughput and latency of one connection.

use anyhow::Result;

use super::bed::Bed;
use super::figures::{Better, Row, Section, at_percentile, size_name};
use super::path::{Path, round_trips, throughput};
use super::{Progress, Schedule};

/// Bytes of a message.
pub(crate) const SIZES: [usize; 6] = [64, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// Bytes of a message that goes back and forth.
const PING: usize = 64;

/// Messages of each size one way: bytes and messages a second.
pub(crate) fn one_way(bed: &Bed, schedule: Schedule, progress: &Progress) -> Result<[Section; 2]> {
    const PATHS: [Path; 4] = [Path::Plain, Path::Stream, Path::San, Path::Switch];
    let section = |title, unit, ratios| Section {
        title,
        unit,
        better: Better::Higher,
        columns: PATHS.map(Path::name).into(),
        ratios,
        rows: Vec::new(),
    };
    let mut bytes =
        section("one way, 16 sends and 16 receives under way", "MiB/s", vec![[1, 0], [2, 0], [2, 1], [3, 0]]);
    let mut messages = section("the same in messages", "a second", Vec::new());
    for size in SIZES {
        progress.part(&format!("throughput, {}", size_name(size)));
        let rounds = rounds(schedule, &PATHS, |path| {
            let [mut near, mut far] = path.connect(bed, size)?;
            throughput(&mut *near, &mut *far, schedule.time)
        })?;
        bytes.rows.push(Row { name: size_name(size), rounds: in_mebibytes(&rounds, size) });
        messages.rows.push(Row { name: size_name(size), rounds });
    }
    Ok([bytes, messages])
}

/// A small message to and fro.
pub(crate) fn ping_pong(bed: &Bed, schedule: Schedule, progress: &Progress) -> Result<Section> {
    const PATHS: [Path; 5] = [Path::Plain, Path::Stream, Path::San, Path::SanInline, Path::Switch];
    progress.part("latency");
    Ok(Section {
        title: "ping-pong, round trip",
        unit: "µs",
        better: Better::Lower,
        columns: PATHS.map(Path::name).into(),
        ratios: vec![[2, 0], [3, 0], [2, 1], [4, 0]],
        rows: latency(bed, schedule, &PATHS, PING)?,
    })
}

/// One stream through the driver whose peer is a plain socket.
pub(crate) fn against_plain_peers(bed: &Bed, schedule: Schedule, progress: &Progress) -> Result<[Section; 2]> {
    const PATHS: [Path; 2] = [Path::Plain, Path::StreamToPlain];
    const SIZE: usize = 64 << 10;
    progress.part("a stream and a plain socket");
    let section = |title, unit, better, rows| Section {
        title,
        unit,
        better,
        columns: PATHS.map(Path::name).into(),
        ratios: vec![[1, 0]],
        rows,
    };
    let sent = rounds(schedule, &PATHS, |path| {
        let [mut near, mut far] = path.connect(bed, SIZE)?;
        throughput(&mut *near, &mut *far, schedule.time)
    })?;
    let received = rounds(schedule, &PATHS, |path| {
        let [mut near, mut far] = path.connect(bed, SIZE)?;
        throughput(&mut *far, &mut *near, schedule.time)
    })?;
    let throughput = [("send", sent), ("receive", received)]
        .map(|(way, rounds)| Row { name: format!("{way}, 64 KiB"), rounds: in_mebibytes(&rounds, SIZE) });
    let mut latencies = latency(bed, schedule, &PATHS, 1)?;
    latencies.extend(latency(bed, schedule, &PATHS, PING)?);
    Ok([
        section("one stream endpoint, its peer a plain socket", "MiB/s", Better::Higher, throughput.into()),
        section("its ping-pong, round trip", "µs", Better::Lower, latencies),
    ])
}

fn latency(bed: &Bed, schedule: Schedule, paths: &[Path], size: usize) -> Result<Vec<Row>> {
    let samples = rounds(schedule, paths, |path| round_trips(&mut path.connect(bed, size)?, schedule.time))?;
    let row = |percentile| {
        let of_round = |round: &Vec<Vec<f64>>| round.iter().map(|samples| at_percentile(samples, percentile)).collect();
        let rounds = samples.iter().map(of_round).collect::<Result<_>>()?;
        Ok(Row { name: format!("{}, p{percentile}", size_name(size)), rounds })
    };
    [50, 99].into_iter().map(row).collect()
}

/// Measures each path in its turn, round after round.
fn rounds<T>(schedule: Schedule, paths: &[Path], once: impl Fn(Path) -> Result<T>) -> Result<Vec<Vec<T>>> {
    (0..schedule.rounds).map(|_| paths.iter().map(|&path| once(path)).collect()).collect()
}

fn in_mebibytes(messages: &[Vec<f64>], size: usize) -> Vec<Vec<f64>> {
    #[allow(clippy::cast_precision_loss)] // a power of two
    let each = size as f64 / f64::from(1 << 20);
    messages.iter().map(|round| round.iter().map(|messages| messages * each).collect()).collect()
}
