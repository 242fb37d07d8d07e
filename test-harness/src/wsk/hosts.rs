//! Names of hosts and services, as WskGetAddressInfo and WskGetNameInfo have them. No name service is asked: a machine knows itself,
//! localhost, and the hosts that it was given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::kernel::Kernel;

/// Services by their names, with their ports (etc\\services).
const SERVICES: [(&str, u16); 16] = [
    ("echo", 7),
    ("discard", 9),
    ("daytime", 13),
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("time", 37),
    ("domain", 53),
    ("tftp", 69),
    ("http", 80),
    ("pop3", 110),
    ("ntp", 123),
    ("snmp", 161),
    ("https", 443),
    ("iscsi-target", 3260),
];

/// The port of a service, by its name or its number.
pub(super) fn port(service: &str) -> Option<u16> {
    let named = SERVICES.iter().find(|(name, _)| name.eq_ignore_ascii_case(service));
    named.map(|(_, port)| *port).or_else(|| service.parse().ok())
}

/// The name of a service.
pub(super) fn service(port: u16) -> Option<&'static str> {
    SERVICES.iter().find(|(_, known)| *known == port).map(|(name, _)| *name)
}

/// The addresses of a host, by its name; those of this machine are its loopback addresses.
pub(super) fn addresses(kernel: &Kernel, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    if name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(&kernel.options.name) {
        return vec![IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];
    }
    let hosts = kernel.options.hosts.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    hosts.map(|(_, address)| *address).collect()
}

/// The name of a host.
pub(super) fn host(kernel: &Kernel, address: IpAddr) -> Option<&str> {
    let given = kernel.options.hosts.iter().find(|(_, known)| *known == address).map(|(name, _)| name.as_str());
    given.or_else(|| address.is_loopback().then_some("localhost"))
}
