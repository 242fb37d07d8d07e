//! The ports of SAN endpoints: a space of its own, apart from TCP's.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use san_protocol::NtStatus;

/// The ports that are given out on demand (RFC 6335, section 6: dynamic ports).
pub const EPHEMERAL: RangeInclusive<u16> = 49152..=65535;

const EPHEMERAL_COUNT: usize = 65536 - 49152;

/// Who has which SAN address and port. `C` is an endpoint.
#[derive(Debug)]
pub struct PortTable<C> {
    /// By family, port and address, the wildcard first.
    entries: Vec<Entry<C>>,
    /// For IPv4 and IPv6.
    ephemeral: [EphemeralPorts; 2],
}

#[derive(Debug)]
struct Entry<C> {
    key: (Family, u16, IpAddr),
    endpoint: C,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl<C> PortTable<C> {
    /// An empty table; it allocates nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new(), ephemeral: [EphemeralPorts::new(), EphemeralPorts::new()] }
    }

    /// Reserves an address and port for an endpoint. Port 0: one of [`EPHEMERAL`] that nobody has at any address. Comes back
    /// with the port.
    ///
    /// # Errors
    ///
    /// `STATUS_ADDRESS_ALREADY_EXISTS`: somebody has the port at this address, or at the wildcard, or wants the wildcard and
    /// somebody has it at any address. `STATUS_TOO_MANY_ADDRESSES`: all ephemeral ports are in use.
    /// `STATUS_INSUFFICIENT_RESOURCES`: no memory. The endpoint comes back.
    pub fn reserve(&mut self, local: SocketAddr, endpoint: C) -> Result<SocketAddr, (C, NtStatus)> {
        if self.entries.try_reserve(1).is_err() {
            return Err((endpoint, NtStatus::INSUFFICIENT_RESOURCES));
        }
        let (family, address) = (Family::of(local.ip()), local.ip());
        let ephemeral = &mut self.ephemeral[family as usize];
        let port = match local.port() {
            0 => match ephemeral.next_free() {
                Some(port) => port,
                None => return Err((endpoint, NtStatus::TOO_MANY_ADDRESSES)),
            },
            port if self.conflicts(family, port, address) => {
                return Err((endpoint, NtStatus::ADDRESS_ALREADY_EXISTS));
            }
            port => port,
        };
        self.ephemeral[family as usize].mark(port, true);
        let key = (family, port, address);
        let at = self.entries.partition_point(|entry| entry.key < key);
        self.entries.insert(at, Entry { key, endpoint });
        Ok(SocketAddr::new(address, port))
    }

    /// Gives a reserved address and port back.
    pub fn release(&mut self, local: SocketAddr) -> Option<C> {
        let (family, port, address) = (Family::of(local.ip()), local.port(), local.ip());
        let at = self.find(family, port, address)?;
        let Entry { endpoint, .. } = self.entries.remove(at);
        if self.on_port(family, port).is_empty() {
            self.ephemeral[family as usize].mark(port, false);
        }
        Some(endpoint)
    }

    /// Who is to be asked for a connection to `target`: the endpoint at this address, or else the one at the wildcard.
    #[must_use]
    pub fn listener(&self, target: SocketAddr) -> Option<&C> {
        let family = Family::of(target.ip());
        let find = |address| self.find(family, target.port(), address);
        let at = find(target.ip()).or_else(|| find(wildcard(family)))?;
        Some(&self.entries[at].endpoint)
    }

    /// Addresses and ports that are reserved.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is reserved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find(&self, family: Family, port: u16, address: IpAddr) -> Option<usize> {
        self.entries.binary_search_by_key(&(family, port, address), |entry| entry.key).ok()
    }

    /// All who have the port, at whichever address.
    fn on_port(&self, family: Family, port: u16) -> &[Entry<C>] {
        let start = self.entries.partition_point(|entry| (entry.key.0, entry.key.1) < (family, port));
        let length = self.entries[start..].partition_point(|entry| (entry.key.0, entry.key.1) == (family, port));
        &self.entries[start..start + length]
    }

    fn conflicts(&self, family: Family, port: u16, address: IpAddr) -> bool {
        if address.is_unspecified() {
            return !self.on_port(family, port).is_empty();
        }
        self.find(family, port, address).or_else(|| self.find(family, port, wildcard(family))).is_some()
    }
}

impl<C> Default for PortTable<C> {
    fn default() -> Self {
        Self::new()
    }
}

const fn wildcard(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED),
    }
}

/// A bit for each ephemeral port, set while anybody has it.
#[derive(Debug)]
struct EphemeralPorts {
    used: [u64; EPHEMERAL_COUNT / 64],
    /// Where the last one was found; a port that was given back is not given out again at once.
    last: usize,
}

impl EphemeralPorts {
    const fn new() -> Self {
        Self { used: [0; EPHEMERAL_COUNT / 64], last: EPHEMERAL_COUNT - 1 }
    }

    fn mark(&mut self, port: u16, is_used: bool) {
        if let Some(index) = port.checked_sub(*EPHEMERAL.start()) {
            let (word, bit) = (usize::from(index / 64), 1 << (index % 64));
            if is_used { self.used[word] |= bit } else { self.used[word] &= !bit }
        }
    }

    fn next_free(&mut self) -> Option<u16> {
        let index = self.search().find_map(|free| free)?;
        self.last = index;
        u16::try_from(index).ok().map(|index| EPHEMERAL.start() + index)
    }

    /// Looks at one word after the other, behind the last port that was found: the first free port of each.
    fn search(&self) -> impl Iterator<Item = Option<usize>> {
        let start = (self.last + 1) % EPHEMERAL_COUNT;
        let words = self.used.len();
        // The first word is looked at twice: from the start, and, when all others are full, from its beginning.
        (0..=words).map(move |step| {
            let word = (start / 64 + step) % words;
            let skipped = if step == 0 { (1_u64 << (start % 64)) - 1 } else { 0 };
            let free = !(self.used[word] | skipped);
            (free != 0).then(|| word * 64 + free.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_port_conflicts_at_its_address_and_with_the_wildcard_of_its_family() {
        for (first, second, conflicts) in [
            ("10.0.0.1:80", "10.0.0.1:80", true),
            ("10.0.0.1:80", "10.0.0.2:80", false),
            ("10.0.0.1:80", "10.0.0.1:81", false),
            ("10.0.0.1:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "10.0.0.1:80", true),
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "[::]:80", false),
            ("[::1]:80", "[::]:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
        ] {
            let mut table = PortTable::new();
            table.reserve(address(first), 1).unwrap();
            let expected = if conflicts { Err((2, NtStatus::ADDRESS_ALREADY_EXISTS)) } else { Ok(address(second)) };
            assert_eq!(table.reserve(address(second), 2), expected, "{first} then {second}");
            assert_eq!(table.release(address(first)), Some(1));
            assert_eq!(table.release(address(first)), None);
        }
    }

    #[test]
    fn the_listener_at_the_exact_address_is_asked_before_the_one_at_the_wildcard() {
        let mut table = PortTable::new();
        table.reserve(address("0.0.0.0:80"), "any").unwrap();
        assert_eq!(table.listener(address("10.0.0.1:80")), Some(&"any"));
        assert_eq!(table.listener(address("10.0.0.1:81")), None);
        assert_eq!(table.listener(address("[::1]:80")), None);
        table.release(address("0.0.0.0:80"));
        table.reserve(address("10.0.0.1:80"), "one").unwrap();
        assert_eq!(table.listener(address("10.0.0.1:80")), Some(&"one"));
        assert_eq!(table.listener(address("10.0.0.2:80")), None);
    }

    #[test]
    fn all_ephemeral_ports_can_be_had_once_each_and_again_after_release() {
        let mut table = PortTable::new();
        let any = address("10.0.0.1:0");
        for round in 0..2 {
            let mut seen = [false; EPHEMERAL_COUNT];
            for _ in 0..EPHEMERAL_COUNT {
                let port = table.reserve(any, ()).unwrap().port();
                assert!(
                    !core::mem::replace(&mut seen[usize::from(port - 49152)], true),
                    "port {port} in round {round}"
                );
            }
            assert_eq!(table.reserve(any, ()), Err(((), NtStatus::TOO_MANY_ADDRESSES)));
            table.reserve(address("[::1]:0"), ()).unwrap();
            for port in EPHEMERAL {
                assert!(table.release(SocketAddr::new(any.ip(), port)).is_some());
            }
        }
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn an_ephemeral_port_is_in_use_while_anybody_has_it_at_any_address() {
        let mut table = PortTable::new();
        let shared = ["10.0.0.1:49152", "10.0.0.2:49152"].map(address);
        for local in shared {
            table.reserve(local, ()).unwrap();
        }
        table.release(shared[0]).unwrap();
        assert_eq!(table.reserve(address("10.0.0.3:0"), ()), Ok(address("10.0.0.3:49153")));
    }

    #[test]
    fn a_search_for_an_ephemeral_port_takes_few_steps_however_many_are_in_use() {
        const STEPS: usize = EPHEMERAL_COUNT / 64 + 1;
        let mut table = PortTable::new();
        let any = address("10.0.0.1:0");
        for in_use in 0..EPHEMERAL_COUNT {
            let ports = &table.ephemeral[Family::V4 as usize];
            let steps = ports.search().position(|free| free.is_some());
            assert!(steps.is_some_and(|steps| steps <= 1), "{in_use} in use: it is in this word or the next");
            table.reserve(any, ()).unwrap();
        }
        // None is free: all have been looked at, 64 at a step.
        assert_eq!(table.ephemeral[Family::V4 as usize].search().collect::<Vec<_>>(), [None; STEPS]);
        // The worst place for a single free one: right before the start of the search.
        let single = SocketAddr::new(any.ip(), EPHEMERAL.start() + 100);
        table.release(single).unwrap();
        assert_eq!(table.reserve(any, ()), Ok(single));
        table.release(single).unwrap();
        assert_eq!(table.ephemeral[Family::V4 as usize].search().position(|free| free == Some(100)), Some(STEPS - 1));
    }

    proptest! {
        /// Against a list: the same conflicts, the same listener, and what was reserved comes back once.
        #[test]
        fn behaves_as_a_list_that_is_searched_through(
            steps in prop::collection::vec((0_u8..4, 0_usize..6, 0_u16..4), 0..80)
        ) {
            let addresses = ["0.0.0.0", "10.0.0.1", "10.0.0.2", "::", "::1", "fc00::1"];
            let mut table = PortTable::new();
            let mut model: std::vec::Vec<(SocketAddr, usize)> = std::vec::Vec::new();
            for (number, (kind, at, port)) in steps.into_iter().enumerate() {
                let wanted = address(&if addresses[at].contains(':') { format!("[{}]:{port}", addresses[at]) }
                    else { format!("{}:{port}", addresses[at]) });
                let meets = |other: &SocketAddr| other.port() == wanted.port()
                    && other.is_ipv4() == wanted.is_ipv4()
                    && (other.ip() == wanted.ip() || other.ip().is_unspecified() || wanted.ip().is_unspecified());
                match kind {
                    0 | 1 => match table.reserve(wanted, number) {
                        Ok(local) => {
                            prop_assert!(!model.iter().any(|(other, _)| meets(other)) || port == 0);
                            prop_assert!(!model.iter().any(|(other, _)| *other == local));
                            prop_assert_eq!(local.port() == wanted.port(), port != 0);
                            model.push((local, number));
                        }
                        Err((back, status)) => {
                            prop_assert_eq!((back, status), (number, NtStatus::ADDRESS_ALREADY_EXISTS));
                            prop_assert!(model.iter().any(|(other, _)| meets(other)));
                        }
                    },
                    2 if !model.is_empty() => {
                        let (local, endpoint) = model.swap_remove(at % model.len());
                        prop_assert_eq!(table.release(local), Some(endpoint));
                        prop_assert_eq!(table.release(local), None);
                    }
                    _ => {
                        let exact = model.iter().find(|(other, _)| *other == wanted);
                        let expected = exact.or_else(|| model.iter().find(|(other, _)| meets(other) && other.ip().is_unspecified()));
                        prop_assert_eq!(table.listener(wanted), expected.map(|(_, endpoint)| endpoint));
                    }
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
