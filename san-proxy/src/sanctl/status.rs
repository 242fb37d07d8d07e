//! `sanctl status`.

use super::Streams;
use super::failure::{Failure, cannot_write};
use super::path::local_behind;
use crate::provider::{Provider, Status, Version};
use indicatif::HumanBytes;
use san_protocol::{DeviceLimits, DeviceStatistics, PROTOCOL_VERSION, ProviderState};
use serde_json::json;
use std::net::IpAddr;

pub(super) const EXAMPLES: &str = "\
Examples:
  sanctl status
  sanctl status --json

WSK provider: capturing (the driver waits for the Windows network stack), ready, or failed with an NTSTATUS.
Endpoints: those of all programs, the ones being closed included. Counters begin when the driver is loaded.
Limits are registry values of the driver's key; docs/limits.md has them all.";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(&self, provider: &Provider, streams: &mut Streams<'_>) -> Result<(), Failure> {
        let version = provider.version()?;
        // Nothing else is certain to mean the same in another version.
        let standing = if version.suits() { Some(Standing::ask(provider)?) } else { None };
        let report = Report { version, status: provider.status()?, standing };
        let text = if self.json { report.as_json() } else { report.as_table() };
        writeln!(streams.output, "{text}").map_err(cannot_write)
    }
}

impl Version {
    /// Whether this program's protocol is among those that the driver understands.
    fn suits(&self) -> bool {
        (self.oldest_protocol..=self.newest_protocol).contains(&PROTOCOL_VERSION)
    }
}

struct Report {
    version: Version,
    status: Status,
    standing: Option<Standing>,
}

/// What the driver allows, has done and holds.
struct Standing {
    limits: DeviceLimits,
    statistics: DeviceStatistics,
    /// This machine's SAN addresses, as far as the driver's routes tell.
    addresses: Vec<IpAddr>,
}

impl Standing {
    fn ask(provider: &Provider) -> Result<Self, Failure> {
        let addresses = provider.routes()?.iter().filter_map(|entry| local_behind(&entry.route)).collect();
        Ok(Self { limits: provider.limits()?, statistics: provider.statistics()?, addresses })
    }

    fn lines(&self) -> Vec<String> {
        let Self { limits, statistics: done, addresses } = self;
        let addresses = if limits.routes_used == 0 {
            "the native ones (no routes)".to_owned()
        } else if addresses.is_empty() {
            "none of this machine's (see sanctl route list)".to_owned()
        } else {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let bytes = HumanBytes;
        vec![
            format!(
                "              {} SAN, {} streams, {} stream listeners; {} handles",
                done.san_endpoints, done.stream_connections, done.stream_listeners, done.handles
            ),
            format!(
                "SAN           {addresses}; {} of {} routes; native port {}",
                limits.routes_used, limits.routes, limits.native_port
            ),
            format!(
                "Registered    {} of {} in {} of {} regions",
                bytes(done.pinned_bytes),
                bytes(limits.pinned_bytes),
                done.regions,
                limits.regions
            ),
            format!(
                "SAN so far    {} connects ({} failed), {} accepts, {} refused ({} by a full backlog)",
                done.connects,
                done.connect_failures,
                done.accepts,
                done.refused_backlog + done.handshakes_refused,
                done.refused_backlog
            ),
            format!(
                "              {} messages sent ({}), {} received ({})",
                done.messages_sent,
                bytes(done.bytes_sent),
                done.messages_received,
                bytes(done.bytes_received)
            ),
            format!(
                "              {} hand-shakes now of {}, {} timed out, {} broke the protocol",
                done.handshakes, limits.handshakes, done.handshakes_timed_out, done.protocol_violations
            ),
            format!(
                "Streams       {} connects ({} failed), {} accepts, {} refused by a full backlog",
                done.stream_connects, done.stream_connect_failures, done.stream_accepts, done.stream_refused_backlog
            ),
            format!(
                "              {} sends ({}), {} receives ({})",
                done.stream_sends,
                bytes(done.stream_bytes_sent),
                done.stream_receives,
                bytes(done.stream_bytes_received)
            ),
            format!(
                "Limits        {} endpoints a handle, backlog {}, messages of {}; a limit was hit {} times",
                limits.endpoints_per_handle,
                limits.backlog,
                bytes(limits.message_size.into()),
                done.limits_hit
            ),
        ]
    }
}

fn driver_version(Version { driver: [major, minor, patch], .. }: Version) -> String {
    format!("{major}.{minor}.{patch}")
}

impl Report {
    fn as_table(&self) -> String {
        let Self { version, status, standing } = self;
        let wsk = status.wsk_version.map_or(String::new(), |version| format!(", WSK {version}"));
        let provider = match status.provider {
            ProviderState::Capturing => format!("capturing, {}", status.capture_status),
            ProviderState::Ready => format!("ready{wsk}, {}", status.capture_status),
            ProviderState::Failed => format!("failed, {}", status.capture_status),
        };
        let Version { oldest_protocol, newest_protocol, .. } = version;
        let protocol = if oldest_protocol == newest_protocol {
            newest_protocol.to_string()
        } else {
            format!("{oldest_protocol} to {newest_protocol}")
        };
        let suits = if version.suits() {
            String::new()
        } else {
            format!(" (this sanctl speaks {PROTOCOL_VERSION}: update the older one)")
        };
        let most = standing.as_ref().map_or(String::new(), |standing| format!(" of {}", standing.limits.endpoints));
        let mut lines = vec![
            format!("Driver        {}", driver_version(*version)),
            format!("Protocol      {protocol}{suits}"),
            format!("WSK provider  {provider}"),
            format!("Endpoints     {}{most}", status.endpoints),
        ];
        lines.extend(standing.as_ref().map(Standing::lines).unwrap_or_default());
        lines.join("\n")
    }

    fn as_json(&self) -> String {
        let Self { version, status, standing } = self;
        let state = match status.provider {
            ProviderState::Capturing => "capturing",
            ProviderState::Ready => "ready",
            ProviderState::Failed => "failed",
        };
        let mut value = json!({
            "driver": driver_version(*version),
            "protocol": { "oldest": version.oldest_protocol, "newest": version.newest_protocol },
            "wsk_provider": {
                "state": state,
                "status": status.capture_status.0.cast_unsigned(),
                "status_name": status.capture_status.name(),
                "version": status.wsk_version.map(|version| version.to_string()),
            },
            "endpoints": status.endpoints,
        });
        if let Some(Standing { limits, statistics, addresses }) = standing {
            value["addresses"] = addresses.iter().map(ToString::to_string).collect();
            value["limits"] = limits_as_json(limits);
            value["counters"] = counters_as_json(statistics);
        }
        format!("{value:#}")
    }
}

/// By the names of the registry, so that one finds them there.
fn limits_as_json(limits: &DeviceLimits) -> serde_json::Value {
    json!({
        "MaxEndpoints": limits.endpoints,
        "MaxEndpointsPerHandle": limits.endpoints_per_handle,
        "MaxBacklog": limits.backlog,
        "MaxRegions": limits.regions,
        "MaxRegionsPerHandle": limits.regions_per_handle,
        "MaxPinnedMiB": limits.pinned_bytes >> 20,
        "MaxPinnedMiBPerHandle": limits.pinned_bytes_per_handle >> 20,
        "MaxMessageSize": limits.message_size,
        "MaxHandshakes": limits.handshakes,
        "MaxRoutes": limits.routes,
        "HandshakeTimeout": limits.handshake_timeout,
        "ConnectTimeout": limits.connect_timeout,
        "NativePort": limits.native_port,
        "AllowUsers": limits.allow_users,
    })
}

fn counters_as_json(done: &DeviceStatistics) -> serde_json::Value {
    json!({
        "handles": done.handles,
        "routes": done.routes,
        "limits_hit": done.limits_hit,
        "pinned_bytes": done.pinned_bytes,
        "regions": done.regions,
        "san": {
            "endpoints": done.san_endpoints,
            "connects": done.connects,
            "connect_failures": done.connect_failures,
            "accepts": done.accepts,
            "refused_backlog": done.refused_backlog,
            "handshakes": done.handshakes,
            "handshakes_refused": done.handshakes_refused,
            "handshakes_timed_out": done.handshakes_timed_out,
            "protocol_violations": done.protocol_violations,
            "messages_sent": done.messages_sent,
            "bytes_sent": done.bytes_sent,
            "messages_received": done.messages_received,
            "bytes_received": done.bytes_received,
        },
        "streams": {
            "connections": done.stream_connections,
            "listeners": done.stream_listeners,
            "connects": done.stream_connects,
            "connect_failures": done.stream_connect_failures,
            "accepts": done.stream_accepts,
            "refused_backlog": done.stream_refused_backlog,
            "sends": done.stream_sends,
            "bytes_sent": done.stream_bytes_sent,
            "receives": done.stream_receives,
            "bytes_received": done.stream_bytes_received,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::WskVersion;
    use san_protocol::NtStatus;

    const VERSION: Version = Version { driver: [0, 1, 0], oldest_protocol: 1, newest_protocol: 1 };

    fn report(provider: ProviderState, capture_status: NtStatus) -> Report {
        let status = Status { provider, capture_status, wsk_version: None, endpoints: 0 };
        Report { version: VERSION, status, standing: None }
    }

    #[test]
    fn a_failed_capture_says_why() {
        let text = report(ProviderState::Failed, NtStatus::NOINTERFACE).as_table();
        assert!(text.contains("WSK provider  failed, STATUS_NOINTERFACE (0xc00002b9)\n"), "{text}");
    }

    #[test]
    fn a_driver_of_another_protocol_is_pointed_out() {
        let version = Version { oldest_protocol: 2, newest_protocol: 3, ..VERSION };
        let text = Report { version, ..report(ProviderState::Capturing, NtStatus::PENDING) }.as_table();
        assert!(text.contains("Protocol      2 to 3 (this sanctl speaks 1: update the older one)\n"), "{text}");
    }

    #[test]
    fn json_says_the_same() {
        let mut ready = report(ProviderState::Ready, NtStatus::SUCCESS);
        (ready.status.wsk_version, ready.status.endpoints) = (Some(WskVersion { major: 1, minor: 0 }), 7);
        let value: serde_json::Value = serde_json::from_str(&ready.as_json()).unwrap();
        assert_eq!(value["driver"], "0.1.0");
        assert_eq!(value["protocol"]["newest"], 1);
        assert_eq!(value["wsk_provider"]["state"], "ready");
        assert_eq!(value["wsk_provider"]["status_name"], "STATUS_SUCCESS");
        assert_eq!(value["wsk_provider"]["version"], "1.0");
        assert_eq!(value["endpoints"], 7);
        let other: serde_json::Value =
            serde_json::from_str(&report(ProviderState::Failed, NtStatus(-1)).as_json()).unwrap();
        assert!(other["wsk_provider"]["status_name"].is_null());
        assert_eq!(other["wsk_provider"]["status"], u32::MAX);
    }
}
