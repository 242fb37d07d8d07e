//! What a switch is told: subnets, and the size and times of its sessions.

use super::subnet::{Subnet, SubnetTable};
use std::time::Duration;

/// What a switch goes by. [`SwitchConfig::load`] reads it from a file.
///
/// ```
/// use san_proxy::{Subnet, SwitchConfig};
/// use std::time::Duration;
///
/// let san = Subnet { prefix: "10.77.0.0/16".parse()?, local: Some([10, 77, 0, 5].into()) };
/// let config = SwitchConfig { connect_timeout: Duration::from_secs(2), ..SwitchConfig::default() }.with_subnet(san);
/// assert!(config.subnets.find([10, 77, 3, 9].into()).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchConfig {
    /// The targets that the SAN provider serves. None of them: everything goes by TCP/IP.
    pub subnets: SubnetTable,
    /// What each session takes from its peer.
    pub receives: ReceiveWindow,
    /// Messages that a stream has on their way before a write waits.
    pub send_count: usize,
    /// How long the SAN may take to connect before TCP/IP is tried.
    pub connect_timeout: Duration,
    /// How long the peer's side of a session is waited for.
    pub negotiate_timeout: Duration,
    /// How long a stream that was dropped goes on sending what was written before, in the background.
    pub linger: Duration,
    /// Connections that wait in a listener before further ones wait in the backlogs behind it.
    pub backlog: usize,
}

/// The receives that a session keeps posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveWindow {
    /// How many there are.
    pub count: usize,
    /// The bytes of each: the longest message that the peer may send.
    pub size: u32,
}

impl SwitchConfig {
    /// The shortest message that a stream can be made of, in bytes.
    pub const MIN_RECEIVE_SIZE: u32 = 64;

    /// With one more subnet.
    #[must_use]
    pub fn with_subnet(mut self, subnet: impl Into<Subnet>) -> Self {
        self.subnets.insert(subnet.into());
        self
    }
}

impl Default for SwitchConfig {
    fn default() -> Self {
        Self {
            subnets: SubnetTable::default(),
            receives: ReceiveWindow { count: 16, size: 16 * 1024 },
            send_count: 8,
            connect_timeout: Duration::from_secs(5),
            negotiate_timeout: Duration::from_secs(5),
            linger: Duration::from_mins(2),
            backlog: 128,
        }
    }
}
