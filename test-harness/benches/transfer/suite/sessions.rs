//! Time a message against the number of sessions that stand.
//!
//! All connectors belong to one handle, and all acceptors to another. As many messages are under way at once however many
//! sessions carry them, so that only the number of sessions differs.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::bed::Bed;
use super::figures::{Better, Row, Section};
use super::path::{WINDOW, both};
use super::san::{Listener, San, SendFrom, Sending};
use super::{Progress, Schedule};

/// Endpoints with a session, of one handle.
pub(crate) const COUNTS: [usize; 4] = [1, 10, 100, 1000];
/// Bytes of a message.
const SIZE: usize = 64;
/// Receives of a session that shares the traffic with others.
const SHARED: usize = 2;
/// Descriptors that everything else needs.
const OTHER_DESCRIPTORS: u64 = 100;

/// Sessions: their connectors and their acceptors, in the same order.
#[derive(Default)]
pub(crate) struct Sessions([Vec<San>; 2]);

/// `alone_bed` is a machine with one session, to compare with in every round.
pub(crate) fn measure(bed: &Bed, alone_bed: &Bed, schedule: Schedule, progress: &Progress) -> Result<Section> {
    raise_descriptor_limit(2 * COUNTS[COUNTS.len() - 1] as u64 + OTHER_DESCRIPTORS)?;
    let mut alone = Sessions::default();
    alone.grow(alone_bed, 1)?;
    let mut sessions = Sessions::default();
    let mut rows = Vec::new();
    for count in COUNTS {
        progress.part(&format!("sessions, {count}"));
        sessions.grow(bed, count)?;
        let round = |_| {
            Ok(vec![
                alone.time_a_message(1, schedule.spread)?,
                sessions.time_a_message(1, schedule.spread)?,
                sessions.time_a_message(count, schedule.spread)?,
            ])
        };
        let rounds = (0..schedule.rounds).map(round).collect::<Result<_>>()?;
        let plural = if count == 1 { "session stands" } else { "sessions stand" };
        rows.push(Row { name: format!("{count} {plural}"), rounds });
    }
    Ok(Section {
        title: "time a message of 64 B, against the number of sessions on the handle",
        unit: "µs",
        better: Better::Lower,
        columns: vec!["alone", "one sends", "all send"],
        ratios: vec![[1, 0], [2, 0]],
        rows,
    })
}

impl Sessions {
    /// Adds sessions until there are `count`.
    pub(crate) fn grow(&mut self, bed: &Bed, count: usize) -> Result<()> {
        let listener = Listener::new(bed)?;
        let Self([connectors, acceptors]) = self;
        while connectors.len() < count {
            // The first one also carries all of the traffic alone.
            let receives = if connectors.is_empty() { WINDOW } else { SHARED };
            let [connector, acceptor] = listener.session(SIZE, receives, SendFrom::Region)?;
            connectors.push(connector);
            acceptors.push(acceptor);
        }
        Ok(())
    }

    /// Sends `messages` in all, the first `active` sessions in turn: microseconds a message.
    pub(crate) fn time_a_message(&mut self, active: usize, messages: usize) -> Result<f64> {
        let Self([connectors, acceptors]) = self;
        let started = Instant::now();
        both(
            || {
                for message in 0..messages {
                    ensure!(acceptors[message % active].receive()?, "a session has ended");
                }
                Ok(())
            },
            || {
                let mut sends = VecDeque::<(usize, Sending)>::with_capacity(WINDOW);
                for message in 0..messages {
                    if sends.len() == WINDOW
                        && let Some((sender, send)) = sends.pop_front()
                    {
                        connectors[sender].finish_send(send)?;
                    }
                    let sender = message % active;
                    sends.push_back((sender, connectors[sender].start_send()));
                }
                sends.into_iter().try_for_each(|(sender, send)| connectors[sender].finish_send(send))
            },
        )?;
        #[allow(clippy::cast_precision_loss)] // far below 2^53
        Ok(started.elapsed().as_secs_f64() * 1e6 / messages as f64)
    }
}

/// Each end of each session is a socket of this process.
fn raise_descriptor_limit(needed: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(needed);
        setrlimit(Resource::Nofile, limit)
            .with_context(|| format!("a thousand sessions need {needed} descriptors: raise the limit (ulimit -Hn)"))?;
    }
    Ok(())
}
