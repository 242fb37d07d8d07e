//! Which targets are in a system area network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A prefix of IPv4 or IPv6 addresses: `10.77.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text, or an address and a length, is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// Not of the form ADDRESS/LENGTH.
    Form,
    /// No IP address before the slash.
    Address,
    /// Longer than an address of the family, or no number.
    Length,
    /// Bits of the address past the length are set.
    HostBits,
}

impl Prefix {
    /// The addresses that share the first `length` bits of `address`.
    ///
    /// # Errors
    ///
    /// [`PrefixError::Length`] and [`PrefixError::HostBits`].
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        let (bits, family) = bits(address);
        if length > family {
            Err(PrefixError::Length)
        } else if bits & !mask(length) != 0 {
            Err(PrefixError::HostBits)
        } else {
            Ok(Self { address, length })
        }
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let ((own, family), (bits, other)) = (bits(self.address), bits(address));
        family == other && bits & mask(self.length) == own
    }

    /// What stands for `address` in `other`, which is as long: the bits past the length are the same. `None`: it is not one of these.
    pub(crate) fn translate(self, address: IpAddr, other: Self) -> Option<IpAddr> {
        let ((host, family), (network, other_family)) = (bits(address), bits(other.address));
        if !self.contains(address) || self.length != other.length || family != other_family {
            return None;
        }
        let translated = network | host & !mask(self.length);
        Some(match address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(translated >> 96).ok()?.into()),
            IpAddr::V6(_) => IpAddr::V6(translated.into()),
        })
    }

    /// One of the addresses that a host may have: not the first, where there are others.
    pub(crate) fn some_host(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) if self.length < 32 => IpAddr::V4((address.to_bits() | 1).into()),
            IpAddr::V6(address) if self.length < 128 => IpAddr::V6((address.to_bits() | 1).into()),
            address => address,
        }
    }

    /// The first of the addresses.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The number of bits that they share.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }
}

/// The bits of an address, from the top, and how many there are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// The top `length` bits.
fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = text.split_once('/').ok_or(PrefixError::Form)?;
        let address = address.parse().map_err(|_| PrefixError::Address)?;
        // `u8` takes a sign.
        let digits = !length.is_empty() && length.bytes().all(|digit| digit.is_ascii_digit());
        let length = length.parse().ok().filter(|_| digits).ok_or(PrefixError::Length)?;
        Self::new(address, length)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

impl fmt::Display for PrefixError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Form => "a prefix is an address, a slash and a length, as 10.77.0.0/16",
            Self::Address => "there is no IPv4 or IPv6 address before the slash",
            Self::Length => "the length of a prefix is 0 to 32 for IPv4, 0 to 128 for IPv6",
            Self::HostBits => "the address has bits set past the length of the prefix",
        })
    }
}

impl std::error::Error for PrefixError {}

/// Addresses that a SAN provider serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The addresses.
    pub prefix: Prefix,
    /// This machine's own SAN address, to connect from. `None`: the one that the machine's routing chooses for the target.
    pub local: Option<IpAddr>,
}

impl From<Prefix> for Subnet {
    fn from(prefix: Prefix) -> Self {
        Self { prefix, local: None }
    }
}

/// The subnets that a SAN provider serves. Of those that hold an address the one with the longest prefix counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetTable {
    /// The longest first.
    subnets: Vec<Subnet>,
}

impl SubnetTable {
    /// Adds a subnet; in the place of one with the same prefix, which is given back.
    pub fn insert(&mut self, subnet: Subnet) -> Option<Subnet> {
        if let Some(same) = self.subnets.iter_mut().find(|other| other.prefix == subnet.prefix) {
            return Some(std::mem::replace(same, subnet));
        }
        let at = self.subnets.partition_point(|other| other.prefix.length >= subnet.prefix.length);
        self.subnets.insert(at, subnet);
        None
    }

    /// The subnet that holds `address`.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.prefix.contains(address))
    }

    /// Whether a listener at `address` listens on the SAN too: at one of its addresses, or at the wildcard if there is a SAN.
    #[must_use]
    pub fn is_for_listeners(&self, address: IpAddr) -> bool {
        (address.is_unspecified() && !self.is_empty())
            || self.find(address).is_some()
            || self.subnets.iter().any(|subnet| subnet.local == Some(address))
    }

    /// The subnets, the longest prefix first.
    pub fn iter(&self) -> impl Iterator<Item = &Subnet> {
        self.subnets.iter()
    }

    /// Whether there are none: then everything goes by TCP/IP.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subnets.is_empty()
    }
}

impl FromIterator<Subnet> for SubnetTable {
    fn from_iter<T: IntoIterator<Item = Subnet>>(subnets: T) -> Self {
        let mut table = Self::default();
        for subnet in subnets {
            table.insert(subnet);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_read_and_shown_as_it_was() {
        for text in ["10.77.0.0/16", "0.0.0.0/0", "1.2.3.4/32", "fd00::/8", "::/0", "::1/128"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        for (text, error) in [
            ("10.0.0.0", PrefixError::Form),
            ("10.0.0/8", PrefixError::Address),
            ("/8", PrefixError::Address),
            ("10.0.0.0/33", PrefixError::Length),
            ("fd00::/129", PrefixError::Length),
            ("10.0.0.0/", PrefixError::Length),
            ("10.0.0.0/+8", PrefixError::Length),
            ("10.0.0.0/999", PrefixError::Length),
            ("10.0.0.1/8", PrefixError::HostBits),
            ("1.0.0.0/0", PrefixError::HostBits),
            ("fd00::1/64", PrefixError::HostBits),
        ] {
            assert_eq!(text.parse::<Prefix>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_prefix_holds_its_addresses_and_no_others() {
        for (text, inside, outside) in [
            ("10.77.0.0/16", ["10.77.0.0", "10.77.255.255"], ["10.76.255.255", "10.78.0.0"]),
            ("10.77.3.9/32", ["10.77.3.9", "10.77.3.9"], ["10.77.3.8", "10.77.3.10"]),
            ("10.77.3.8/31", ["10.77.3.8", "10.77.3.9"], ["10.77.3.7", "10.77.3.10"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "::ffff:0.0.0.0"]),
            ("fd00::/8", ["fd00::", "fdff::1"], ["fc00::", "fe00::"]),
            ("::/0", ["::", "ffff::"], ["0.0.0.0", "255.255.255.255"]),
        ] {
            assert!(inside.iter().all(|&address| prefix(text).contains(ip(address))), "{text}");
            assert!(!outside.iter().any(|&address| prefix(text).contains(ip(address))), "{text}");
        }
    }

    #[test]
    fn an_address_keeps_its_host_bits_in_another_prefix() {
        for (from, address, to, expected) in [
            ("127.0.0.0/16", "127.0.3.9", "10.77.0.0/16", Some("10.77.3.9")),
            ("0.0.0.0/0", "1.2.3.4", "0.0.0.0/0", Some("1.2.3.4")),
            ("1.2.3.4/32", "1.2.3.4", "5.6.7.8/32", Some("5.6.7.8")),
            ("fe80::/64", "fe80::12:3", "fd00:7::/64", Some("fd00:7::12:3")),
            ("127.0.0.0/16", "127.1.3.9", "10.77.0.0/16", None),
            ("127.0.0.0/16", "127.0.3.9", "10.0.0.0/8", None),
            ("127.0.0.0/16", "127.0.3.9", "fd00::/16", None),
        ] {
            assert_eq!(prefix(from).translate(ip(address), prefix(to)), expected.map(ip), "{address}");
        }
        for (text, host) in
            [("10.0.0.0/8", "10.0.0.1"), ("10.0.0.0/32", "10.0.0.0"), ("fd00::/8", "fd00::1"), ("::/128", "::")]
        {
            assert_eq!(prefix(text).some_host(), ip(host));
        }
    }

    #[test]
    fn the_longest_prefix_counts_whatever_the_order() {
        let texts = ["10.0.0.0/8", "10.77.0.0/16", "10.77.3.0/24", "0.0.0.0/0", "fd00::/8", "fd00:1::/32"];
        let mut orders = vec![texts, texts];
        orders[1].reverse();
        for order in orders {
            let table: SubnetTable = order.iter().map(|text| prefix(text).into()).collect();
            for (address, expected) in [
                ("10.77.3.1", "10.77.3.0/24"),
                ("10.77.4.1", "10.77.0.0/16"),
                ("10.1.1.1", "10.0.0.0/8"),
                ("11.1.1.1", "0.0.0.0/0"),
                ("fd00:1::9", "fd00:1::/32"),
                ("fd77::9", "fd00::/8"),
            ] {
                assert_eq!(table.find(ip(address)).unwrap().prefix, prefix(expected), "{address}");
            }
            assert_eq!(table.find(ip("fe80::1")), None);
        }
    }

    #[test]
    fn the_same_prefix_is_replaced() {
        let mut table = SubnetTable::default();
        assert!(table.is_empty());
        let first = Subnet::from(prefix("10.0.0.0/8"));
        assert_eq!(table.insert(first), None);
        let second = Subnet { local: Some(ip("10.0.0.1")), ..first };
        assert_eq!(table.insert(second), Some(first));
        assert_eq!(table.iter().collect::<Vec<_>>(), [&second]);
    }

    #[test]
    fn listeners_are_on_the_san_at_its_addresses_its_local_ones_and_the_wildcard() {
        let subnet = Subnet { prefix: prefix("10.77.0.0/16"), local: Some(ip("192.168.0.1")) };
        let table: SubnetTable = [subnet].into_iter().collect();
        for (address, expected) in [
            ("10.77.0.1", true),
            ("192.168.0.1", true),
            ("0.0.0.0", true),
            ("::", true),
            ("192.168.0.2", false),
            ("127.0.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(table.is_for_listeners(ip(address)), expected, "{address}");
            assert!(!SubnetTable::default().is_for_listeners(ip(address)), "without a SAN");
        }
    }
}
