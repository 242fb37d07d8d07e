//! One direction of a connection: bytes that are sent in segments, each cut where the seed says, and arrive in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Link;
use crate::simulation::Random;

/// The first wait before a segment is sent again; it doubles.
pub(super) const RETRANSMISSION: Duration = Duration::from_millis(300);
/// A segment is sent again so often before its connection is given up (TcpMaxDataRetransmissions).
pub(super) const RETRANSMISSIONS: u32 = 5;

/// How far the end of a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// It comes behind what has still to be sent.
    Wanted,
    /// It is on its way, or has arrived.
    Sent,
}

/// Bytes on their way. None are the end of the stream.
pub(super) struct Segment {
    pub(super) bytes: Vec<u8>,
    arrival: Instant,
}

/// What one end sends.
pub(super) struct Sending {
    unsent: VecDeque<u8>,
    /// Bytes that were sent and not acknowledged.
    unacknowledged: usize,
    /// Bytes that the peer still has room for.
    pub(super) window: usize,
    flight: VecDeque<Segment>,
    /// How often the first of the flight has been sent in vain.
    pub(super) attempts: u32,
    pub(super) end: End,
    /// When the link has taken the last segment.
    free: Option<Instant>,
}

impl Sending {
    pub(super) fn new() -> Self {
        Self {
            unsent: VecDeque::new(),
            unacknowledged: 0,
            window: 0,
            flight: VecDeque::new(),
            attempts: 0,
            end: End::Open,
            free: None,
        }
    }

    /// Bytes in the send buffer.
    pub(super) fn buffered(&self) -> usize {
        self.unsent.len() + self.unacknowledged
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
    }

    /// Whether everything has arrived, and the end too if there is one.
    pub(super) fn is_done(&self) -> bool {
        self.unsent.is_empty() && self.flight.is_empty() && self.end != End::Wanted
    }

    /// Puts on the link what the window allows. The arrival of the first segment, if it was the first.
    pub(super) fn transmit(&mut self, link: &Link, random: &mut Random, now: Instant) -> Option<Instant> {
        let idle = self.flight.is_empty();
        while !self.unsent.is_empty() && self.window > 0 {
            let most = self.unsent.len().min(self.window).min(link.segment);
            let whole = random.below(2) == 0;
            let length = if whole { most } else { 1 + random.below(most as u64) as usize };
            let bytes: Vec<u8> = self.unsent.drain(..length).collect();
            self.window -= length;
            self.unacknowledged += length;
            self.put(bytes, link, random, now);
        }
        if self.unsent.is_empty() && self.end == End::Wanted {
            self.end = End::Sent;
            self.put(Vec::new(), link, random, now);
        }
        if idle { self.next_arrival() } else { None }
    }

    fn put(&mut self, bytes: Vec<u8>, link: &Link, random: &mut Random, now: Instant) {
        let taken = Duration::from_nanos(bytes.len() as u64 * 1_000_000_000 / link.bandwidth.max(1));
        let free = self.free.map_or(now, |free| free.max(now)) + taken;
        self.free = Some(free);
        let jitter = link.jitter.as_nanos() as u64;
        let late = Duration::from_nanos(if jitter == 0 { 0 } else { random.below(jitter) });
        let arrival = free + link.delay + late;
        // What was sent before arrives before.
        let arrival = self.flight.back().map_or(arrival, |last| last.arrival.max(arrival));
        self.flight.push_back(Segment { bytes, arrival });
    }

    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.flight.front().map(|segment| segment.arrival)
    }

    /// The first segment has arrived.
    pub(super) fn arrived(&mut self) -> Option<Segment> {
        self.attempts = 0;
        self.flight.pop_front()
    }

    /// When the first segment, which was lost, is sent again. None if it has been often enough.
    pub(super) fn again(&mut self) -> Option<Duration> {
        self.attempts += 1;
        (self.attempts <= RETRANSMISSIONS).then(|| RETRANSMISSION * (1 << (self.attempts - 1)))
    }

    /// The peer has got so many bytes.
    pub(super) fn acknowledged(&mut self, bytes: usize) {
        self.unacknowledged = self.unacknowledged.saturating_sub(bytes);
    }
}
