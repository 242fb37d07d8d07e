//! What the driver's events cost: nothing listens, a session wants what is ordinary, a session wants each message.

use std::time::Duration;

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use san_proxy::{AddressFamily, StreamConnection};
use test_harness::nt::etw::{Enabling, TraceSession};

use super::bed::{Bed, PATIENCE};
use super::blocking::accept_plain;
use super::figures::{Better, Row, Section};
use super::sessions::Sessions;
use super::{Progress, Schedule};

/// Levels of a session: none, what is ordinary, each message.
const LEVELS: [Option<u8>; 3] = [None, Some(4), Some(5)];
/// Messages of a round for each connection of one: so few connections that the driver leaves no event of theirs out.
const MESSAGES_A_CONNECTION: usize = 100;

pub(crate) fn measure(bed: &Bed, schedule: Schedule, progress: &Progress) -> Result<Section> {
    progress.part("tracing");
    let mut sessions = Sessions::default();
    sessions.grow(bed, 1)?;
    let connections = schedule.spread / MESSAGES_A_CONNECTION;
    let message = rounds(bed, schedule, schedule.spread, |count| sessions.time_a_message(1, count).map(drop))?;
    let connection = rounds(bed, schedule, connections, |count| connect_and_close(bed, count))?;
    Ok(Section {
        title: "processor time with and without a tracing session",
        unit: "µs",
        better: Better::Lower,
        columns: vec!["off", "level 4", "level 5"],
        ratios: vec![[1, 0], [2, 0]],
        rows: vec![
            Row { name: "message of 64 B".to_owned(), rounds: message },
            Row { name: "connect and close".to_owned(), rounds: connection },
        ],
    })
}

/// Has `work` do something `count` times at each level, in every round: microseconds of the processor for each time, of all threads,
/// which other programs disturb less than the time that passes.
fn rounds(
    bed: &Bed,
    schedule: Schedule,
    count: usize,
    mut work: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<f64>>> {
    let mut at_level = |level: Option<u8>| {
        let _session = level.map(|level| listening(bed, level));
        let before = processor_time();
        work(count)?;
        #[allow(clippy::cast_precision_loss)] // far below 2^53
        Ok(processor_time().saturating_sub(before).as_secs_f64() * 1e6 / count as f64)
    };
    (0..schedule.rounds).map(|_| LEVELS.into_iter().map(&mut at_level).collect()).collect()
}

/// Of this process, of all its threads.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// A session that keeps all that the driver tells up to a level.
fn listening(bed: &Bed, level: u8) -> TraceSession {
    let session = bed.machine.trace();
    session.enable_all(Enabling::level(level));
    session
}

/// Connects streams to plain sockets, and closes them, one after the other.
fn connect_and_close(bed: &Bed, count: usize) -> Result<()> {
    for _ in 0..count {
        accept_plain(0, |address| {
            let connection = StreamConnection::create(&bed.near, AddressFamily::INET)?;
            connection.connect(address, Some(PATIENCE))?;
            Ok(connection)
        })?;
    }
    Ok(())
}
