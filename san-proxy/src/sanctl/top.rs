//! `sanctl top`: who uses the driver, and how much.

use super::failure::{Failure, cannot_write};
use super::{Streams, seconds};
use crate::endpoint_list::{EndpointInfo, EndpointScope};
use crate::provider::Provider;
use indicatif::HumanBytes;
use san_protocol::{EndpointId, EndpointKind, EndpointState, HandleEntry};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

pub(super) const EXAMPLES: &str = "\
Examples:
  sanctl top                                     redraws each second; Ctrl+C ends it
  sanctl top --once                              one table, for scripts
  sanctl top --json --count 60 >> rates.jsonl    one JSON object a line

The busiest endpoints come first. Rates are of the time since the table before, for the first one since sanctl top
began. Below are the handles that hold something, or have moved something since they were opened; process 0 is a
driver. The endpoints and handles of all programs are for administrators to see.";

/// Back to the top left corner, and nothing left of what was there.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Seconds from one table to the next.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// End after so many tables.
    #[arg(long, short = 'n', value_name = "COUNT", conflicts_with = "once")]
    count: Option<u32>,
    /// End after one.
    #[arg(long)]
    once: bool,
    /// Print JSON, an object a line.
    #[arg(long)]
    json: bool,
}

/// An endpoint, and its bytes a second.
struct Row {
    info: EndpointInfo,
    sent: f64,
    received: f64,
}

impl Arguments {
    pub(super) fn run(&self, provider: &Provider, streams: &mut Streams<'_>) -> Result<(), Failure> {
        let mut left = if self.once { Some(1) } else { self.count };
        let mut before = totals(&provider.endpoints(EndpointScope::AllHandles)?);
        let mut since = Instant::now();
        while left != Some(0) {
            thread::sleep(self.interval);
            let endpoints = provider.endpoints(EndpointScope::AllHandles)?;
            let time = since.elapsed();
            since = Instant::now();
            let rows = rows(&endpoints, &before, time);
            before = totals(&endpoints);
            let handles = provider.handles()?;
            let clear = if streams.terminals.output && !self.json { CLEAR } else { "" };
            let text = if self.json { as_json(&rows, &handles, time) } else { as_table(&rows, &handles) };
            writeln!(streams.output, "{clear}{text}").and_then(|()| streams.output.flush()).map_err(cannot_write)?;
            left = left.map(|left| left - 1);
        }
        Ok(())
    }
}

/// Bytes that each endpoint has sent and received.
type Totals = BTreeMap<EndpointId, [u64; 2]>;

fn totals(endpoints: &[EndpointInfo]) -> Totals {
    endpoints.iter().map(|info| (info.id, [info.bytes_sent, info.bytes_received])).collect()
}

/// The busiest first.
fn rows(endpoints: &[EndpointInfo], before: &Totals, time: Duration) -> Vec<Row> {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / time.as_secs_f64().max(1e-9);
    let row = |info: &EndpointInfo| {
        let [sent, received] = before.get(&info.id).copied().unwrap_or_default();
        Row { info: *info, sent: rate(info.bytes_sent, sent), received: rate(info.bytes_received, received) }
    };
    let mut rows: Vec<_> = endpoints.iter().map(row).collect();
    rows.sort_by(|one, other| (other.sent + other.received).total_cmp(&(one.sent + one.received)));
    rows
}

fn kind(kind: EndpointKind) -> &'static str {
    match kind {
        EndpointKind::StreamConnection => "stream",
        EndpointKind::StreamListener => "listener",
        EndpointKind::San => "SAN",
    }
}

fn state(state: EndpointState) -> &'static str {
    match state {
        EndpointState::Idle => "idle",
        EndpointState::Binding => "binding",
        EndpointState::Bound => "bound",
        EndpointState::Listening => "listening",
        EndpointState::Connecting => "connecting",
        EndpointState::Undecided => "undecided",
        EndpointState::Connected => "connected",
        EndpointState::Disconnecting => "disconnecting",
        EndpointState::Ended => "ended",
        EndpointState::Closing => "closing",
    }
}

fn address(address: Option<SocketAddr>) -> String {
    address.map_or("-".to_owned(), |address| address.to_string())
}

fn as_table(rows: &[Row], handles: &[HandleEntry]) -> String {
    let [sent, received] =
        rows.iter().fold([0.0, 0.0], |[sent, received], row| [sent + row.sent, received + row.received]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive rate for people")]
    let rate = |rate: f64| format!("{}/s", HumanBytes(rate as u64));
    let count = rows.len();
    let endpoints = if count == 1 { "endpoint" } else { "endpoints" };
    let mut lines = vec![format!("{count} {endpoints}, {} sent, {} received", rate(sent), rate(received))];
    if !rows.is_empty() {
        lines.push(format!(
            "{:<8} {:<13} {:>7}  {:<22} {:<22} {:>12} {:>12} {:>8} {:>10}",
            "kind", "state", "process", "local", "peer", "sent", "received", "waiting", "pinned"
        ));
    }
    lines.extend(rows.iter().map(|Row { info, sent, received }| {
        let waiting = match info.state {
            EndpointState::Listening => format!("{}/{}", info.backlog, info.backlog_limit),
            _ => info.sends_queued.to_string(),
        };
        format!(
            "{:<8} {:<13} {:>7}  {:<22} {:<22} {:>12} {:>12} {waiting:>8} {:>10}",
            kind(info.kind),
            state(info.state),
            info.process,
            address(info.local),
            address(info.peer),
            rate(*sent),
            rate(*received),
            HumanBytes(info.pinned_bytes).to_string()
        )
    }));
    lines.extend(handle_lines(handles));
    lines.join("\n")
}

/// A table of the handles that hold something or have done something, with a line before it to keep it apart.
fn handle_lines(handles: &[HandleEntry]) -> Vec<String> {
    let idle = |handle: &HandleEntry| {
        let moved = handle.bytes_sent + handle.bytes_received + handle.stream_bytes_sent + handle.stream_bytes_received;
        (handle.endpoints, handle.regions, moved) == (0, 0, 0)
    };
    let mut shown = handles.iter().filter(|handle| !idle(handle)).peekable();
    if shown.peek().is_none() {
        return Vec::new();
    }
    let head = format!(
        "{:>7} {:>9} {:>7} {:>10} {:>12} {:>12} {:>12} {:>15}",
        "process", "endpoints", "regions", "pinned", "SAN sent", "SAN received", "stream sent", "stream received"
    );
    let bytes = |bytes| HumanBytes(bytes).to_string();
    let line = |handle: &HandleEntry| {
        format!(
            "{:>7} {:>9} {:>7} {:>10} {:>12} {:>12} {:>12} {:>15}",
            handle.process,
            handle.endpoints,
            handle.regions,
            bytes(handle.pinned_bytes),
            bytes(handle.bytes_sent),
            bytes(handle.bytes_received),
            bytes(handle.stream_bytes_sent),
            bytes(handle.stream_bytes_received)
        )
    };
    [String::new(), head].into_iter().chain(shown.map(line)).collect()
}

fn as_json(rows: &[Row], handles: &[HandleEntry], time: Duration) -> String {
    let endpoints: Vec<_> = rows
        .iter()
        .map(|Row { info, sent, received }| {
            json!({
                "id": info.id,
                "kind": kind(info.kind),
                "state": state(info.state),
                "process": info.process,
                "local": info.local.map(|address| address.to_string()),
                "peer": info.peer.map(|address| address.to_string()),
                "messages_sent": info.messages_sent,
                "bytes_sent": info.bytes_sent,
                "messages_received": info.messages_received,
                "bytes_received": info.bytes_received,
                "bytes_sent_per_second": sent,
                "bytes_received_per_second": received,
                "backlog": info.backlog,
                "backlog_limit": info.backlog_limit,
                "sends_queued": info.sends_queued,
                "receives_posted": info.receives_posted,
                "send_credits": info.send_credits,
                "regions": info.regions,
                "pinned_bytes": info.pinned_bytes,
            })
        })
        .collect();
    let handles: Vec<_> = handles
        .iter()
        .map(|handle| {
            json!({
                "handle": handle.handle,
                "process": handle.process,
                "endpoints": handle.endpoints,
                "regions": handle.regions,
                "pinned_bytes": handle.pinned_bytes,
                "san": {
                    "messages_sent": handle.messages_sent,
                    "bytes_sent": handle.bytes_sent,
                    "messages_received": handle.messages_received,
                    "bytes_received": handle.bytes_received,
                },
                "streams": {
                    "sends": handle.stream_sends,
                    "bytes_sent": handle.stream_bytes_sent,
                    "receives": handle.stream_receives,
                    "bytes_received": handle.stream_bytes_received,
                },
            })
        })
        .collect();
    json!({ "seconds": time.as_secs_f64(), "endpoints": endpoints, "handles": handles }).to_string()
}
