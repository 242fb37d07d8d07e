//! Which native address a SAN address stands for.

pub use crate::connect_failure::Reach;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    /// Bits.
    length: u8,
}

/// Who has made a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The registry.
    Registry,
    /// A request.
    Request,
}

/// Maps the SAN addresses of a prefix to native addresses of a prefix as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    san: Prefix,
    native: Prefix,
    port: Option<u16>,
    reach: Reach,
    origin: Origin,
}

/// Why a map does not take a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// It has one for that SAN prefix.
    Exists,
    /// No pool to grow.
    NoMemory,
}

/// Where a SAN address is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Native address, and the port that SAN connections arrive at there.
    pub native: SocketAddr,
    /// Whether TCP/IP reaches the SAN address as well.
    pub reach: Reach,
}

/// Why a text is not a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// Two prefixes are needed.
    Missing,
    /// No IPv4 or IPv6 address.
    Address,
    /// No prefix length, or more bits than the address has.
    Length,
    /// The address has bits past its prefix length.
    HostBits,
    /// One prefix is IPv4, the other IPv6.
    Family,
    /// The prefixes are not of the same length.
    DifferentLengths,
    /// No port number from 1 to 65535.
    Port,
    /// Something that means nothing here: only `port=`, `san-only` and `tcp` may follow the prefixes, once.
    Word,
}

impl fmt::Display for RouteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "a route is SAN-PREFIX NATIVE-PREFIX [port=N] [san-only|tcp]",
            Self::Address => "not an IPv4 or IPv6 address",
            Self::Length => "not a prefix length of this family",
            Self::HostBits => "the address has bits past its prefix length",
            Self::Family => "one prefix is IPv4, the other IPv6",
            Self::DifferentLengths => "the two prefixes are not of the same length",
            Self::Port => "not a port from 1 to 65535",
            Self::Word => "only port=N and one of san-only and tcp may follow the prefixes",
        })
    }
}

impl core::error::Error for RouteError {}

/// Reads `SAN-PREFIX NATIVE-PREFIX [port=N] [san-only|tcp]`, such as `10.1.0.0/16 192.168.0.0/16 port=28057 san-only`.
///
/// A prefix without a length is one address. Without a port it is this machine's own native port, and TCP/IP is taken to
/// reach the addresses too, for that leaves a doubt.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_route(text: &str) -> Result<Route, RouteError> {
    let mut words = text.split_ascii_whitespace();
    let (san, native) = words.next().zip(words.next()).ok_or(RouteError::Missing)?;
    let (san, native) = (Prefix::parse(san)?, Prefix::parse(native)?);
    let (mut port, mut reach) = (None, None);
    for word in words {
        match word {
            "tcp" if reach.is_none() => reach = Some(Reach::AlsoTcp),
            "san-only" if reach.is_none() => reach = Some(Reach::SanOnly),
            _ => {
                let number = word.strip_prefix("port=").filter(|_| port.is_none()).ok_or(RouteError::Word)?;
                port = Some(number.parse().ok().filter(|&port| port != 0).ok_or(RouteError::Port)?);
            }
        }
    }
    Route::new(san, native, port, reach.unwrap_or(Reach::AlsoTcp), Origin::Registry)
}

impl Route {
    /// A route from the SAN addresses of a prefix to native ones. `port`: where SAN connections arrive at the machines behind it.
    ///
    /// # Errors
    ///
    /// The prefixes are of two families or lengths, or the port is 0.
    pub fn new(
        san: Prefix,
        native: Prefix,
        port: Option<u16>,
        reach: Reach,
        origin: Origin,
    ) -> Result<Self, RouteError> {
        if san.address.is_ipv4() != native.address.is_ipv4() {
            Err(RouteError::Family)
        } else if san.length != native.length {
            Err(RouteError::DifferentLengths)
        } else if port == Some(0) {
            Err(RouteError::Port)
        } else {
            Ok(Self { san, native, port, reach, origin })
        }
    }

    /// The SAN addresses.
    #[must_use]
    pub const fn san(&self) -> Prefix {
        self.san
    }

    /// The native addresses.
    #[must_use]
    pub const fn native(&self) -> Prefix {
        self.native
    }

    /// Where SAN connections arrive at the machines behind the route, if not at this machine's own native port.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether TCP/IP reaches the SAN addresses as well.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        self.reach
    }

    /// Who has made it.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }
}

impl Prefix {
    fn parse(text: &str) -> Result<Self, RouteError> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| RouteError::Address)?;
        let length = match length {
            Some(length) => length.parse().map_err(|_| RouteError::Length)?,
            None => bits(address),
        };
        Self::new(address, length)
    }

    /// The addresses that share the first `length` bits of `address`.
    ///
    /// # Errors
    ///
    /// More bits than the address has, or bits of it past the length.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, RouteError> {
        let bits = bits(address);
        if length > bits {
            Err(RouteError::Length)
        } else if value(address) & host_mask(bits, length) != 0 {
            Err(RouteError::HostBits)
        } else {
            Ok(Self { address, length })
        }
    }

    /// The first of the addresses.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The number of bits that they share.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// What `address` has behind the prefix; `None` if it does not begin with it.
    fn host_part(self, address: IpAddr) -> Option<u128> {
        let mask = host_mask(bits(address), self.length);
        let begins = address.is_ipv4() == self.address.is_ipv4() && value(address) & !mask == value(self.address);
        begins.then_some(value(address) & mask)
    }

    fn with_host_part(self, host_part: u128) -> IpAddr {
        let value = value(self.address) | host_part;
        match self.address {
            // An IPv4 address has no bits past the 32nd, and its host part has none.
            #[expect(clippy::cast_possible_truncation)]
            IpAddr::V4(_) => Ipv4Addr::from_bits(value as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(value).into(),
        }
    }
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The bits past the first `length` of `bits`.
fn host_mask(bits: u8, length: u8) -> u128 {
    1_u128.checked_shl((bits - length).into()).map_or(u128::MAX, |bit| bit - 1)
}

/// The routes, and the native port of this machine.
#[derive(Debug)]
pub struct AddressMap {
    /// The longer prefixes first.
    routes: Vec<Route>,
    native_port: u16,
}

impl AddressMap {
    /// Without a route every SAN address stands for itself, and TCP/IP reaches it too. `native_port` is where SAN
    /// connections arrive, here and at every machine whose route does not say otherwise.
    #[must_use]
    pub const fn new(native_port: u16) -> Self {
        Self { routes: Vec::new(), native_port }
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// There is one for that SAN prefix, or no memory.
    pub fn add(&mut self, route: Route) -> Result<(), AddError> {
        if self.routes.iter().any(|other| other.san == route.san) {
            return Err(AddError::Exists);
        }
        self.routes.try_reserve(1).map_err(|_| AddError::NoMemory)?;
        let at = self.routes.partition_point(|other| other.san.length >= route.san.length);
        self.routes.insert(at, route);
        Ok(())
    }

    /// Takes out the route for a SAN prefix; `None` if there is none.
    pub fn remove(&mut self, san: Prefix) -> Option<Route> {
        let at = self.routes.iter().position(|route| route.san == san)?;
        Some(self.routes.remove(at))
    }

    /// The routes, the longer prefixes first.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Where a SAN address is found, by the route with the longest prefix; `None` if no route leads there.
    #[must_use]
    pub fn map(&self, san: SocketAddr) -> Option<Mapped> {
        let (address, port, reach) = self.find(san.ip())?;
        Some(Mapped { native: SocketAddr::new(address, port.unwrap_or(self.native_port)), reach })
    }

    /// Whether a peer at `native` may say that it is `san`.
    #[must_use]
    pub fn corresponds(&self, san: IpAddr, native: IpAddr) -> bool {
        self.find(san).is_some_and(|(address, _, _)| address.to_canonical() == native.to_canonical())
    }

    /// The native address to bind to for a SAN address of this machine: `None` if no route leads there, or one that leads to
    /// another port than this machine's, and for an address that no endpoint can have.
    #[must_use]
    pub fn is_here(&self, san: IpAddr) -> Option<IpAddr> {
        if is_nobodys(san) {
            return None;
        }
        let (address, port, _) = self.find(san)?;
        port.is_none_or(|port| port == self.native_port).then_some(address)
    }

    fn find(&self, san: IpAddr) -> Option<(IpAddr, Option<u16>, Reach)> {
        if self.routes.is_empty() {
            return Some((san, None, Reach::AlsoTcp));
        }
        self.routes.iter().find_map(|route| {
            let host_part = route.san.host_part(san)?;
            Some((route.native.with_host_part(host_part), route.port, route.reach))
        })
    }
}

/// Whether an address can be no endpoint's, for it stands for none or for many.
#[must_use]
pub fn is_nobodys(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_multicast() || address == Ipv4Addr::BROADCAST
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::vec::Vec;

    fn map(routes: &[&str]) -> AddressMap {
        let mut map = AddressMap::new(28057);
        for route in routes {
            map.add(parse_route(route).unwrap()).unwrap();
        }
        map
    }

    fn native(map: &AddressMap, san: &str) -> Option<SocketAddr> {
        map.map(SocketAddr::new(san.parse().unwrap(), 80)).map(|mapped| mapped.native)
    }

    #[test]
    fn without_a_route_every_address_is_its_own() {
        let map = map(&[]);
        for address in ["10.1.2.3", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            let expected = Mapped { native: SocketAddr::new(address, 28057), reach: Reach::AlsoTcp };
            assert_eq!(map.map(SocketAddr::new(address, 80)), Some(expected));
            assert_eq!(map.is_here(address), Some(address));
            assert!(map.corresponds(address, address));
        }
        assert!(map.corresponds("10.0.0.1".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let texts = ["10.0.0.0/8 192.0.0.0/8", "10.1.2.3 127.0.0.1 port=9 san-only", "10.1.0.0/16 172.16.0.0/16 tcp"];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let map = map(&order.map(|at| texts[at]));
            assert_eq!(native(&map, "10.2.3.4"), Some("192.2.3.4:28057".parse().unwrap()));
            assert_eq!(native(&map, "10.1.3.4"), Some("172.16.3.4:28057".parse().unwrap()));
            assert_eq!(native(&map, "10.1.2.3"), Some("127.0.0.1:9".parse().unwrap()));
            assert_eq!(native(&map, "11.0.0.1"), None);
            assert_eq!(native(&map, "::1"), None);
            assert_eq!(map.map("10.1.2.3:1".parse().unwrap()).map(|mapped| mapped.reach), Some(Reach::SanOnly));
        }
    }

    #[test]
    fn a_prefix_has_one_route() {
        let mut map = map(&["10.0.0.0/8 11.0.0.0/8", "10.0.0.0/16 13.0.0.0/16"]);
        let other = parse_route("10.0.0.0/8 12.0.0.0/8").unwrap();
        assert_eq!(map.add(other), Err(AddError::Exists));
        assert_eq!(native(&map, "10.1.2.3"), Some("11.1.2.3:28057".parse().unwrap()));
        let removed = map.remove(other.san()).expect("it is there");
        assert_eq!((removed.native().address(), removed.origin()), ("11.0.0.0".parse().unwrap(), Origin::Registry));
        assert_eq!(map.remove(other.san()), None);
        assert_eq!(native(&map, "10.1.2.3"), None);
        assert_eq!(map.add(other), Ok(()));
        assert_eq!(native(&map, "10.1.2.3"), Some("12.1.2.3:28057".parse().unwrap()));
        assert_eq!(map.routes().iter().map(|route| route.san().length()).collect::<Vec<_>>(), [16, 8]);
    }

    #[test]
    fn without_its_last_route_every_address_is_its_own_again() {
        let mut map = map(&["10.0.0.0/8 11.0.0.0/8"]);
        assert_eq!(native(&map, "12.0.0.1"), None);
        map.remove(Prefix::new("10.0.0.0".parse().unwrap(), 8).unwrap()).expect("it is there");
        assert_eq!(native(&map, "12.0.0.1"), Some("12.0.0.1:28057".parse().unwrap()));
    }

    #[test]
    fn an_address_that_nobody_has_is_not_here() {
        let map = map(&["0.0.0.0/0 0.0.0.0/0", "::/0 ::/0"]);
        for nobodys in ["0.0.0.0", "224.0.0.1", "239.1.2.3", "255.255.255.255", "::", "ff02::1"] {
            assert_eq!(map.is_here(nobodys.parse().unwrap()), None, "{nobodys}");
        }
        assert_eq!(map.is_here("10.0.0.1".parse().unwrap()), Some("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn only_a_route_to_the_own_port_leads_here() {
        let map = map(&["10.0.0.1 127.0.0.1 port=28057", "10.0.0.2 127.0.0.1 port=28058", "10.0.0.3 127.0.0.3"]);
        assert_eq!(map.is_here("10.0.0.1".parse().unwrap()), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(map.is_here("10.0.0.2".parse().unwrap()), None);
        assert_eq!(map.is_here("10.0.0.3".parse().unwrap()), Some("127.0.0.3".parse().unwrap()));
        assert!(map.corresponds("10.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()));
        assert!(!map.corresponds("10.0.0.2".parse().unwrap(), "127.0.0.2".parse().unwrap()));
    }

    #[test]
    fn a_text_that_is_no_route_is_refused_with_its_reason() {
        for (text, error) in [
            ("", RouteError::Missing),
            ("10.0.0.0/8", RouteError::Missing),
            ("10.0.0/8 10.0.0.0/8", RouteError::Address),
            ("10.0.0.0/33 10.0.0.0/8", RouteError::Length),
            ("10.0.0.0/ 10.0.0.0/8", RouteError::Length),
            ("::/129 ::/0", RouteError::Length),
            ("10.0.0.1/8 10.0.0.0/8", RouteError::HostBits),
            ("10.0.0.0/8 fc00::/8", RouteError::Family),
            ("10.0.0.0/8 192.168.0.0/16", RouteError::DifferentLengths),
            ("10.0.0.0/8 11.0.0.0/8 port=0", RouteError::Port),
            ("10.0.0.0/8 11.0.0.0/8 port=65536", RouteError::Port),
            ("10.0.0.0/8 11.0.0.0/8 udp", RouteError::Word),
            ("10.0.0.0/8 11.0.0.0/8 tcp san-only", RouteError::Word),
            ("10.0.0.0/8 11.0.0.0/8 port=1 port=1", RouteError::Word),
        ] {
            assert_eq!(parse_route(text), Err(error), "{text:?}: {error}");
        }
    }

    fn address(is_v6: bool, bits: u128) -> IpAddr {
        #[expect(clippy::cast_possible_truncation)]
        if is_v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
    }

    proptest! {
        /// A mapped address keeps the bits behind the prefix, takes the others from the native prefix, and corresponds to what
        /// it was mapped from.
        #[test]
        fn a_route_changes_the_prefix_and_nothing_else(
            is_v6: bool, length in 0_u8..=128, san: u128, native: u128, other: u128
        ) {
            let bits: u8 = if is_v6 { 128 } else { 32 };
            let length = length.min(bits);
            let mask = host_mask(bits, length);
            let [san_prefix, native_prefix] = [san, native].map(|value| address(is_v6, value & !mask));
            let map = map(&[&format!("{san_prefix}/{length} {native_prefix}/{length} san-only")]);
            let san = address(is_v6, san);
            let mapped = map.map(SocketAddr::new(san, 1)).expect("it is in the prefix").native.ip();
            prop_assert_eq!(value(mapped) & mask, value(san) & mask);
            prop_assert_eq!(value(mapped) & !mask, value(native_prefix));
            prop_assert!(map.corresponds(san, mapped));
            let other = address(is_v6, other);
            let in_prefix = value(other) & !mask == value(san_prefix);
            prop_assert_eq!(map.is_here(other).is_some(), in_prefix && !is_nobodys(other));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-f:./ portcsanly=-]{0,60}") {
            let _ = parse_route(&text);
        }
    }
}
