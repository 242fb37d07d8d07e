//! What the driver has done since it was loaded, for all handles.

use crate::san::PINNED;
use core::sync::atomic::{AtomicU64, Ordering};
use san_core::san::Incident;
use san_protocol::DeviceStatistics;
use san_protocol::wire::RejectReason;

/// A number that any thread adds to, at any IRQL.
struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The driver's counters.
pub(crate) struct Statistics {
    messages_sent: Counter,
    bytes_sent: Counter,
    messages_received: Counter,
    bytes_received: Counter,
    connects: Counter,
    connect_failures: Counter,
    accepts: Counter,
    refused_backlog: Counter,
    handshakes_refused: Counter,
    handshakes_timed_out: Counter,
    protocol_violations: Counter,
}

pub(crate) static STATISTICS: Statistics = Statistics {
    messages_sent: Counter::new(),
    bytes_sent: Counter::new(),
    messages_received: Counter::new(),
    bytes_received: Counter::new(),
    connects: Counter::new(),
    connect_failures: Counter::new(),
    accepts: Counter::new(),
    refused_backlog: Counter::new(),
    handshakes_refused: Counter::new(),
    handshakes_timed_out: Counter::new(),
    protocol_violations: Counter::new(),
};

impl Statistics {
    /// A message has been sent. Any IRQL.
    pub(crate) fn sent(&self, bytes: u32) {
        self.messages_sent.add(1);
        self.bytes_sent.add(bytes.into());
    }

    /// A message has been received. Any IRQL.
    pub(crate) fn received(&self, bytes: u32) {
        self.messages_received.add(1);
        self.bytes_received.add(bytes.into());
    }

    /// A connection was let in. Any IRQL.
    pub(crate) fn accepted(&self) {
        self.accepts.add(1);
    }

    /// A peer found too many others in their hand-shake. Any IRQL.
    pub(crate) fn handshake_refused(&self) {
        self.handshakes_refused.add(1);
    }

    /// Something has happened to an endpoint. Any IRQL.
    pub(crate) fn count(&self, incident: Incident) {
        match incident {
            Incident::Connected => self.connects.add(1),
            Incident::ConnectFailed(_) => self.connect_failures.add(1),
            Incident::Rejected(RejectReason::BacklogFull) => self.refused_backlog.add(1),
            Incident::Rejected(
                RejectReason::NobodyListens
                | RejectReason::Refused
                | RejectReason::NoSuchAddress
                | RejectReason::Busy
                | RejectReason::Version,
            ) => self.handshakes_refused.add(1),
            Incident::HandshakeTimedOut => self.handshakes_timed_out.add(1),
            Incident::Violation => self.protocol_violations.add(1),
        }
    }

    /// All of it. Any IRQL.
    pub(crate) fn reply(&self, handshakes: u32) -> DeviceStatistics {
        DeviceStatistics {
            messages_sent: self.messages_sent.get(),
            bytes_sent: self.bytes_sent.get(),
            messages_received: self.messages_received.get(),
            bytes_received: self.bytes_received.get(),
            connects: self.connects.get(),
            connect_failures: self.connect_failures.get(),
            accepts: self.accepts.get(),
            refused_backlog: self.refused_backlog.get(),
            handshakes_refused: self.handshakes_refused.get(),
            handshakes_timed_out: self.handshakes_timed_out.get(),
            protocol_violations: self.protocol_violations.get(),
            pinned_bytes: PINNED.bytes(),
            regions: PINNED.regions(),
            handshakes,
        }
    }
}
