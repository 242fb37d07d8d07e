//! What the driver has done since it was loaded, for all handles.

use crate::san::PINNED;
use crate::trace;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use san_core::san::Incident;
use san_protocol::wire::RejectReason;
use san_protocol::{DeviceStatistics, EndpointKind};

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

/// How many there are of something. Any IRQL.
struct Gauge(AtomicU32);

impl Gauge {
    const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What an endpoint, or all of a handle or of the device, have sent and received: streams, or SAN endpoints.
pub(crate) struct Traffic {
    sends: Counter,
    bytes_sent: Counter,
    receives: Counter,
    bytes_received: Counter,
}

impl Traffic {
    pub(crate) const fn new() -> Self {
        Self {
            sends: Counter::new(),
            bytes_sent: Counter::new(),
            receives: Counter::new(),
            bytes_received: Counter::new(),
        }
    }

    /// A send, or a message, has been taken by TCP. Any IRQL.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sends.add(1);
        self.bytes_sent.add(bytes as u64);
    }

    /// A receive has brought bytes, or a message. Any IRQL.
    pub(crate) fn received(&self, bytes: usize) {
        self.receives.add(1);
        self.bytes_received.add(bytes as u64);
    }

    /// Sends, their bytes, receives, their bytes. Any IRQL.
    pub(crate) fn numbers(&self) -> [u64; 4] {
        [self.sends.get(), self.bytes_sent.get(), self.receives.get(), self.bytes_received.get()]
    }
}

/// Counts something as long as it exists.
pub(crate) struct Gauged(&'static Gauge);

impl Gauged {
    /// A handle of the device. Any IRQL.
    pub(crate) fn handle() -> Self {
        Self::by(&STATISTICS.handles)
    }

    fn by(gauge: &'static Gauge) -> Self {
        gauge.0.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An endpoint, counted and traced as long as it exists.
pub(crate) struct Existence {
    number: u64,
    _gauged: Gauged,
}

impl Existence {
    /// Any IRQL.
    pub(crate) fn of(kind: EndpointKind) -> Self {
        let gauge = match kind {
            EndpointKind::StreamConnection => &STATISTICS.stream_connections,
            EndpointKind::StreamListener => &STATISTICS.stream_listeners,
            EndpointKind::San => &STATISTICS.san_endpoints,
        };
        let number = trace::next_number();
        trace::endpoint_created(number, kind);
        Self { number, _gauged: Gauged::by(gauge) }
    }

    /// What the trace calls the endpoint.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Existence {
    fn drop(&mut self) {
        trace::endpoint_gone(self.number);
    }
}

/// A limit that an administrator has set.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    Endpoints,
    EndpointsPerHandle,
    Regions,
    RegionsPerHandle,
    PinnedMemory,
    PinnedMemoryPerHandle,
    Routes,
}

impl Limit {
    /// The registry value that sets it.
    fn parameter(self) -> &'static str {
        match self {
            Self::Endpoints => "MaxEndpoints",
            Self::EndpointsPerHandle => "MaxEndpointsPerHandle",
            Self::Regions => "MaxRegions",
            Self::RegionsPerHandle => "MaxRegionsPerHandle",
            Self::PinnedMemory => "MaxPinnedMiB",
            Self::PinnedMemoryPerHandle => "MaxPinnedMiBPerHandle",
            Self::Routes => "MaxRoutes",
        }
    }
}

/// The driver's counters.
pub(crate) struct Statistics {
    /// Of all SAN endpoints.
    pub(crate) messages: Traffic,
    connects: Counter,
    connect_failures: Counter,
    accepts: Counter,
    refused_backlog: Counter,
    handshakes_refused: Counter,
    handshakes_timed_out: Counter,
    protocol_violations: Counter,
    /// Of all streams.
    pub(crate) streams: Traffic,
    stream_connects: Counter,
    stream_connect_failures: Counter,
    stream_accepts: Counter,
    stream_refused_backlog: Counter,
    limits_hit: Counter,
    handles: Gauge,
    stream_connections: Gauge,
    stream_listeners: Gauge,
    san_endpoints: Gauge,
}

pub(crate) static STATISTICS: Statistics = Statistics {
    messages: Traffic::new(),
    connects: Counter::new(),
    connect_failures: Counter::new(),
    accepts: Counter::new(),
    refused_backlog: Counter::new(),
    handshakes_refused: Counter::new(),
    handshakes_timed_out: Counter::new(),
    protocol_violations: Counter::new(),
    streams: Traffic::new(),
    stream_connects: Counter::new(),
    stream_connect_failures: Counter::new(),
    stream_accepts: Counter::new(),
    stream_refused_backlog: Counter::new(),
    limits_hit: Counter::new(),
    handles: Gauge::new(),
    stream_connections: Gauge::new(),
    stream_listeners: Gauge::new(),
    san_endpoints: Gauge::new(),
};

impl Statistics {
    /// A SAN connection was let in. Any IRQL.
    pub(crate) fn accepted(&self) {
        self.accepts.add(1);
    }

    /// A peer found too many others in their hand-shake. Any IRQL.
    pub(crate) fn handshake_refused(&self) {
        self.handshakes_refused.add(1);
    }

    /// A stream's connect has ended. Any IRQL.
    pub(crate) fn stream_connected(&self, succeeded: bool) {
        if succeeded { &self.stream_connects } else { &self.stream_connect_failures }.add(1);
    }

    /// A stream listener has handed a connection out. Any IRQL.
    pub(crate) fn stream_accepted(&self) {
        self.stream_accepts.add(1);
    }

    /// A stream listener has refused a peer. Any IRQL.
    pub(crate) fn stream_refused(&self) {
        self.stream_refused_backlog.add(1);
    }

    /// A request is refused because of a limit. Any IRQL.
    pub(crate) fn limit_hit(&self, limit: Limit) {
        self.limits_hit.add(1);
        trace::limit_hit(limit.parameter());
    }

    /// Something has happened to a SAN endpoint. Any IRQL.
    pub(crate) fn count(&self, incident: Incident) {
        match incident {
            Incident::Connected => self.connects.add(1),
            Incident::ConnectFailed(..) => self.connect_failures.add(1),
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
            Incident::Ended(_) => {}
        }
    }

    /// All of it, with how many there are of what others count. Any IRQL.
    pub(crate) fn reply(&self, handshakes: u32, routes: u32) -> DeviceStatistics {
        let [messages_sent, bytes_sent, messages_received, bytes_received] = self.messages.numbers();
        let [stream_sends, stream_bytes_sent, stream_receives, stream_bytes_received] = self.streams.numbers();
        DeviceStatistics {
            messages_sent,
            bytes_sent,
            messages_received,
            bytes_received,
            connects: self.connects.get(),
            connect_failures: self.connect_failures.get(),
            accepts: self.accepts.get(),
            refused_backlog: self.refused_backlog.get(),
            handshakes_refused: self.handshakes_refused.get(),
            handshakes_timed_out: self.handshakes_timed_out.get(),
            protocol_violations: self.protocol_violations.get(),
            pinned_bytes: PINNED.bytes(),
            stream_sends,
            stream_bytes_sent,
            stream_receives,
            stream_bytes_received,
            stream_connects: self.stream_connects.get(),
            stream_connect_failures: self.stream_connect_failures.get(),
            stream_accepts: self.stream_accepts.get(),
            stream_refused_backlog: self.stream_refused_backlog.get(),
            limits_hit: self.limits_hit.get(),
            regions: PINNED.regions(),
            handshakes,
            handles: self.handles.get(),
            stream_connections: self.stream_connections.get(),
            stream_listeners: self.stream_listeners.get(),
            san_endpoints: self.san_endpoints.get(),
            routes,
            reserved: 0,
        }
    }
}
