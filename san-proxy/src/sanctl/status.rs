//! `sanctl status`.

use crate::provider::{Status, Version};
use san_protocol::{PROTOCOL_VERSION, ProviderState};
use serde_json::json;

/// The text to print, without the end of its last line.
pub(super) fn describe(version: Version, status: Status, json: bool) -> String {
    if json { as_json(version, status) } else { as_table(version, status) }
}

fn driver_version(Version { driver: [major, minor, patch], .. }: Version) -> String {
    format!("{major}.{minor}.{patch}")
}

fn as_table(version: Version, status: Status) -> String {
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
    let suits = if (oldest_protocol..=newest_protocol).contains(&PROTOCOL_VERSION) {
        String::new()
    } else {
        format!(" (this sanctl speaks {PROTOCOL_VERSION}: update the older one)")
    };
    format!(
        "Driver        {}\nProtocol      {protocol}{suits}\nWSK provider  {provider}\nEndpoints     {}",
        driver_version(version),
        status.endpoints
    )
}

fn as_json(version: Version, status: Status) -> String {
    let state = match status.provider {
        ProviderState::Capturing => "capturing",
        ProviderState::Ready => "ready",
        ProviderState::Failed => "failed",
    };
    let value = json!({
        "driver": driver_version(version),
        "protocol": { "oldest": version.oldest_protocol, "newest": version.newest_protocol },
        "wsk_provider": {
            "state": state,
            "status": status.capture_status.0.cast_unsigned(),
            "status_name": status.capture_status.name(),
            "version": status.wsk_version.map(|version| version.to_string()),
        },
        "endpoints": status.endpoints,
    });
    format!("{value:#}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::WskVersion;
    use san_protocol::NtStatus;

    const VERSION: Version = Version { driver: [0, 1, 0], oldest_protocol: 1, newest_protocol: 1 };

    fn status(provider: ProviderState, capture_status: NtStatus) -> Status {
        Status { provider, capture_status, wsk_version: None, endpoints: 0 }
    }

    #[test]
    fn a_failed_capture_says_why() {
        let text = describe(VERSION, status(ProviderState::Failed, NtStatus::NOINTERFACE), false);
        assert!(text.contains("WSK provider  failed, STATUS_NOINTERFACE (0xc00002b9)\n"), "{text}");
    }

    #[test]
    fn a_driver_of_another_protocol_is_pointed_out() {
        let newer = Version { oldest_protocol: 2, newest_protocol: 3, ..VERSION };
        let text = describe(newer, status(ProviderState::Capturing, NtStatus::PENDING), false);
        assert!(text.contains("Protocol      2 to 3 (this sanctl speaks 1: update the older one)\n"), "{text}");
    }

    #[test]
    fn json_says_the_same() {
        let wsk_version = Some(WskVersion { major: 1, minor: 0 });
        let ready = Status { wsk_version, endpoints: 7, ..status(ProviderState::Ready, NtStatus::SUCCESS) };
        let value: serde_json::Value = serde_json::from_str(&describe(VERSION, ready, true)).unwrap();
        assert_eq!(value["driver"], "0.1.0");
        assert_eq!(value["protocol"]["newest"], 1);
        assert_eq!(value["wsk_provider"]["state"], "ready");
        assert_eq!(value["wsk_provider"]["status_name"], "STATUS_SUCCESS");
        assert_eq!(value["wsk_provider"]["version"], "1.0");
        assert_eq!(value["endpoints"], 7);
        let other: serde_json::Value =
            serde_json::from_str(&describe(VERSION, status(ProviderState::Failed, NtStatus(-1)), true)).unwrap();
        assert!(other["wsk_provider"]["status_name"].is_null());
        assert_eq!(other["wsk_provider"]["status"], u32::MAX);
    }
}
