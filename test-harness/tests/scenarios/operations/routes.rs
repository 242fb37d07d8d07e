//! Routes that are added and removed while the driver runs, and who may.

use super::ordinary;
use crate::input::raw;
use crate::san::support::{any, bed, bound, builder, connected, connected_to, listening, negotiated, session};
use crate::support::{Bed, PATIENCE, image, status};
use san_protocol::{
    AddRouteRequest, ControlCode, ENDPOINTS_OF_ALL_HANDLES, EndpointsRequest, Header, ROUTE_FROM_REGISTRY,
    ROUTE_SAN_ONLY, RemoveRouteRequest, Route as RouteStructure, RoutesReply, SocketAddress,
};
use san_proxy::{
    AddressFamily, Backlog, DeviceRequest, EndpointScope, NtStatus, Pending, Prefix, Provider, Route, RouteEntry,
    RouteOrigin, SanEndpoint,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use test_harness::nt::registry::Value;
use zerocopy::{FromBytes, IntoBytes};

fn prefix(text: &str) -> Prefix {
    text.parse().expect("a prefix")
}

fn route(san: &str, native: &str) -> Route {
    Route { san: prefix(san), native: prefix(native), native_port: None, san_only: false }
}

/// An endpoint that listens at a SAN address.
fn listening_at(provider: &Provider, address: &str) -> Result<(SanEndpoint, SocketAddr), san_proxy::Error> {
    let address: IpAddr = address.parse().expect("an address");
    let endpoint = SanEndpoint::create(provider, AddressFamily::INET).expect("an endpoint");
    let address = endpoint.bind(SocketAddr::new(address, 0))?;
    endpoint.listen(Backlog(4))?;
    Ok((endpoint, address))
}

#[test]
fn routes_of_the_registry_and_of_requests_are_listed_and_the_registrys_come_back() {
    let routes = vec!["10.0.0.0/8 127.0.0.0/8 san-only".into(), "10.77.0.0/16 127.1.0.0/16 port=9".into()];
    let bed = Bed::with(builder().parameter("sanwsk", "Routes", Value::List(routes)));
    let provider = bed.open();
    let wide = Route { san_only: true, ..route("10.0.0.0/8", "127.0.0.0/8") };
    let narrow = Route { native_port: Some(9), ..route("10.77.0.0/16", "127.1.0.0/16") };
    let registry = |route| RouteEntry { route, origin: RouteOrigin::Registry };
    assert_eq!(provider.routes().expect("routes"), [registry(narrow), registry(wide)]);
    let added = Route { native_port: Some(65535), san_only: true, ..route("fd00:1::/64", "fe80::/64") };
    provider.add_route(&added).expect("adds");
    provider.remove_route(wide.san).expect("removes one of the registry");
    let request = RouteEntry { route: added, origin: RouteOrigin::Request };
    assert_eq!(provider.routes().expect("routes"), [request, registry(narrow)]);
    // They are the driver's, not a handle's.
    drop(provider);
    assert_eq!(bed.open().routes().expect("routes"), [request, registry(narrow)]);
    assert!(bed.machine.unload(&bed.driver).is_ok());
    assert!(bed.machine.wait_unloaded(&bed.driver, PATIENCE));
    let again = bed.machine.load(image(), "sanwsk").expect("loads again");
    let bed = bed.with_driver(again);
    assert_eq!(bed.open().routes().expect("routes"), [registry(narrow), registry(wide)]);
    bed.finish();
}

#[test]
fn a_route_counts_for_what_begins_afterwards_and_leaves_alone_what_there_is() {
    let bed = bed();
    let provider = bed.open();
    let (before, mut before_peer) = session(&provider, 1, 16);
    assert_eq!(status(listening_at(&provider, "10.88.0.1")), NtStatus::INVALID_ADDRESS_COMPONENT);
    let added = route("10.88.0.0/24", "127.0.0.0/24");
    provider.add_route(&added).expect("adds");
    // Other addresses have no native ones any more.
    let late = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(status(late.bind(any())), NtStatus::INVALID_ADDRESS_COMPONENT);
    let (listener, address) = listening_at(&provider, "10.88.0.1").expect("listens");
    let connector = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    connector.bind("10.88.0.2:0".parse().expect("an address")).expect("binds");
    let connect = connector.start_connect(address, Some(PATIENCE));
    let acceptor = listener.accept().expect("arrives").accept().expect("accepts");
    connect.wait().expect("connects");
    let (routed, mut routed_peer) = negotiated(connector, acceptor, 1, 16);
    provider.remove_route(added.san).expect("removes");
    assert_eq!(status(listening_at(&provider, "10.88.0.1")), NtStatus::INVALID_ADDRESS_COMPONENT);
    late.bind(any()).expect("every address is its own again");
    for (sender, receiver) in [(&before, &mut before_peer), (&routed, &mut routed_peer)] {
        sender.endpoint.send(b"goes on").expect("sends");
        assert_eq!(receiver.next(0), b"goes on");
    }
    let local = routed.endpoint.addresses().expect("addresses").local.expect("bound");
    assert_eq!(local.ip(), IpAddr::from([10, 88, 0, 2]));
    drop((before, before_peer, routed, routed_peer, listener, late, provider));
    bed.finish();
}

#[test]
fn a_connect_goes_by_the_map_as_it_is_then() {
    let bed = bed();
    let provider = bed.open();
    provider.add_route(&route("127.0.0.0/8", "127.0.0.0/8")).expect("adds");
    let added = route("10.88.0.0/24", "127.0.0.0/24");
    provider.add_route(&added).expect("adds");
    let (listener, address) = listening_at(&provider, "10.88.0.1").expect("listens");
    let connector = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    connector.bind("10.88.0.2:0".parse().expect("an address")).expect("binds");
    provider.remove_route(added.san).expect("removes");
    assert_eq!(status(connector.connect(address, Some(PATIENCE))), NtStatus::NETWORK_UNREACHABLE);
    // An arrival at another native address than the map has for it now finds nobody.
    provider.add_route(&Route { san_only: true, ..route("10.88.0.0/24", "127.0.1.0/24") }).expect("adds");
    assert_eq!(status(connector.connect(address, Some(PATIENCE))), NtStatus::HOST_UNREACHABLE);
    assert_eq!(provider.statistics().expect("statistics").handshakes_refused, 1);
    provider.remove_route(added.san).expect("removes");
    provider.add_route(&added).expect("adds");
    let second = SanEndpoint::create(&provider, AddressFamily::INET).expect("an endpoint");
    second.bind("10.88.0.2:0".parse().expect("an address")).expect("binds");
    let connect = second.start_connect(address, Some(PATIENCE));
    let acceptor = listener.accept().expect("arrives").accept().expect("accepts");
    connect.wait().expect("connects");
    drop((listener, connector, second, acceptor, provider));
    bed.finish();
}

#[test]
fn a_prefix_has_one_route_and_what_is_not_there_is_not_removed() {
    let bed = Bed::with(builder().parameter("sanwsk", "MaxRoutes", Value::Number(3)));
    let provider = bed.open();
    let first = route("10.0.0.0/8", "127.0.0.0/8");
    provider.add_route(&first).expect("adds");
    assert_eq!(status(provider.add_route(&first)), NtStatus::OBJECT_NAME_COLLISION);
    let other = Route { san_only: true, ..route("10.0.0.0/8", "126.0.0.0/8") };
    assert_eq!(status(provider.add_route(&other)), NtStatus::OBJECT_NAME_COLLISION, "it is not replaced");
    for absent in ["10.0.0.0/9", "11.0.0.0/8", "::/0", "10.0.0.0/32"] {
        assert_eq!(status(provider.remove_route(prefix(absent))), NtStatus::OBJECT_NAME_NOT_FOUND, "{absent}");
    }
    provider.add_route(&route("10.0.0.0/9", "127.0.0.0/9")).expect("adds");
    provider.add_route(&route("::/0", "::/0")).expect("adds");
    let hits = provider.statistics().expect("statistics").limits_hit;
    assert_eq!(status(provider.add_route(&route("1.2.3.4/32", "127.0.0.1/32"))), NtStatus::INSUFFICIENT_RESOURCES);
    assert_eq!(status(provider.add_route(&first)), NtStatus::OBJECT_NAME_COLLISION, "which needs no room");
    let now = provider.statistics().expect("statistics");
    assert_eq!((now.limits_hit, now.routes), (hits + 1, 3));
    let limits = provider.limits().expect("limits");
    assert_eq!((limits.routes, limits.routes_used), (3, 3));
    provider.remove_route(first.san).expect("removes");
    assert_eq!(status(provider.remove_route(first.san)), NtStatus::OBJECT_NAME_NOT_FOUND, "once");
    provider.add_route(&other).expect("there is room again");
    drop(provider);
    bed.finish();
}

#[test]
fn more_routes_in_the_registry_than_there_may_be_fail_the_load() {
    let routes = (1..=3).map(|net| format!("{net}.0.0.0/8 127.0.0.0/8")).collect::<Vec<_>>();
    let machine = builder()
        .parameter("sanwsk", "MaxRoutes", Value::Number(2))
        .parameter("sanwsk", "Routes", Value::List(routes))
        .build();
    assert!(machine.load(image(), "sanwsk").is_err());
    machine.set_parameter("sanwsk", "MaxRoutes", Value::Number(3));
    let bed = Bed::on(machine);
    assert_eq!(bed.open().routes().expect("routes").len(), 3);
    bed.finish();
}

#[test]
fn a_buffer_that_is_too_short_gets_what_fits_and_is_told_how_many_there_are() {
    let bed = bed();
    let provider = bed.open();
    for net in 1..=5 {
        provider.add_route(&route(&format!("{net}.0.0.0/8"), "127.0.0.0/8")).expect("adds");
    }
    let code = ControlCode::QueryRoutes;
    let (head, entry) = (size_of::<RoutesReply>(), size_of::<RouteStructure>());
    for length in 0..head {
        assert_eq!(raw(&provider, code.value(), &[], length), (NtStatus::BUFFER_TOO_SMALL, 0));
    }
    for length in head..head + 6 * entry {
        let request = DeviceRequest { code: code.value(), input: Vec::new(), buffer: vec![0xEE; length] };
        let (status, information, buffer) =
            Pending::start(provider.device(), request, |done| (done.status, done.information, done.buffer)).wait();
        let count = ((length - head) / entry).min(5);
        let expected = if count < 5 { NtStatus::BUFFER_OVERFLOW } else { NtStatus::SUCCESS };
        assert_eq!((status, information), (expected, head + count * entry), "{length}");
        let reply = RoutesReply::read_from_bytes(&buffer[..head]).expect("a reply");
        assert_eq!((reply.total, reply.count as usize), (5, count));
        assert!(buffer[information..].iter().all(|&byte| byte == 0xEE), "nothing is written behind");
    }
    drop(provider);
    bed.finish();
}

/// A route that is good, to be spoilt.
fn good() -> RouteStructure {
    let address = |ip: [u8; 4], port| SocketAddress::from(SocketAddr::from((ip, port)));
    RouteStructure { san: address([10, 0, 0, 0], 0), native: address([127, 0, 0, 0], 0), length: 8, flags: 0 }
}

#[test]
fn what_is_no_route_is_refused_and_changes_nothing() {
    let bed = bed();
    let provider = bed.open();
    let header = Header::new(0);
    let address = |ip: IpAddr, port| SocketAddress::from(SocketAddr::new(ip, port));
    let v4 = |bytes: [u8; 4]| address(bytes.into(), 0);
    let v6 =
        |flow, scope| SocketAddress::from(SocketAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, flow, scope)));
    let wildcard6 = v6(0, 0);
    let mut padded = v4([10, 0, 0, 0]);
    padded.rest[23] = 1;
    let family = |family| SocketAddress { family, ..v4([10, 0, 0, 0]) };
    let prefixes = [
        ("no address", SocketAddress::NONE, 8),
        ("an unknown family", family(1), 8),
        ("the family of Linux", family(10), 8),
        ("something behind an IPv4 address", padded, 8),
        ("a bit past the length", v4([10, 128, 0, 0]), 8),
        ("the last bit, past the length", v4([10, 0, 0, 1]), 31),
        ("33 bits of IPv4", v4([10, 0, 0, 0]), 33),
        ("a length of more than a byte", v4([10, 0, 0, 0]), 256 + 8),
        ("the longest length", v4([10, 0, 0, 0]), u32::MAX),
        ("129 bits of IPv6", wildcard6, 129),
        ("a flow", v6(1, 0), 0),
        ("a scope", v6(0, 1), 0),
        ("a SAN port", address(Ipv4Addr::new(10, 0, 0, 0).into(), 80), 8),
    ];
    let refused = |code: ControlCode, input: &[u8], what: &str| {
        assert_eq!(raw(&provider, code.value(), input, 0), (NtStatus::INVALID_PARAMETER, 0), "{code:?}: {what}");
    };
    for (what, san, length) in prefixes {
        // As both prefixes, so that they do not differ.
        let route = RouteStructure { san, native: SocketAddress { port: [0; 2], ..san }, length, flags: 0 };
        refused(ControlCode::AddRoute, AddRouteRequest { header, route }.as_bytes(), what);
        refused(ControlCode::RemoveRoute, RemoveRouteRequest { header, san, length }.as_bytes(), what);
    }
    let natives = [
        ("no native address", RouteStructure { native: SocketAddress::NONE, ..good() }),
        ("native bits past the length", RouteStructure { native: v4([127, 0, 0, 1]), ..good() }),
        ("two families", RouteStructure { native: wildcard6, ..good() }),
        ("two families, the other way", RouteStructure { san: wildcard6, length: 0, ..good() }),
    ];
    let flags = (1..32).map(|bit| ("a flag", RouteStructure { flags: 1 << bit, ..good() }));
    let both = RouteStructure { flags: ROUTE_SAN_ONLY | ROUTE_FROM_REGISTRY, ..good() };
    for (what, route) in natives.into_iter().chain(flags).chain([("a route of the registry", both)]) {
        refused(ControlCode::AddRoute, AddRouteRequest { header, route }.as_bytes(), what);
    }
    assert_eq!(provider.routes().expect("routes"), []);
    let edges = [
        RouteStructure { length: 0, san: v4([0; 4]), native: v4([0; 4]), flags: ROUTE_SAN_ONLY },
        RouteStructure {
            length: 32,
            san: v4([10, 0, 0, 1]),
            native: address(Ipv4Addr::LOCALHOST.into(), 65535),
            flags: 0,
        },
        RouteStructure { length: 128, san: wildcard6, native: wildcard6, flags: 0 },
    ];
    for route in edges {
        let input = AddRouteRequest { header, route };
        assert_eq!(raw(&provider, ControlCode::AddRoute.value(), input.as_bytes(), 0), (NtStatus::SUCCESS, 0));
    }
    assert_eq!(provider.routes().expect("routes").len(), 3);
    drop(provider);
    bed.finish();
}

#[test]
fn only_administrators_change_routes_and_see_the_endpoints_of_others() {
    let bed = Bed::with(builder().parameter("sanwsk", "AllowUsers", Value::Number(1)));
    let (administrator, user) = (bed.open(), ordinary(&bed));
    let first = route("127.0.0.0/8", "127.0.0.0/8");
    assert_eq!(status(user.add_route(&first)), NtStatus::PRIVILEGE_NOT_HELD);
    administrator.add_route(&first).expect("adds");
    assert_eq!(status(user.remove_route(first.san)), NtStatus::PRIVILEGE_NOT_HELD);
    assert_eq!(
        status(user.remove_route(prefix("11.0.0.0/8"))),
        NtStatus::PRIVILEGE_NOT_HELD,
        "nor is told what is there"
    );
    assert_eq!(status(user.endpoints(EndpointScope::AllHandles)), NtStatus::PRIVILEGE_NOT_HELD);
    // What is malformed is refused as such, whoever asks.
    let header = Header { version: 77, flags: 0 };
    let malformed = AddRouteRequest { header, route: good() };
    for (input, expected) in [
        (malformed.as_bytes(), NtStatus::REVISION_MISMATCH),
        (&malformed.as_bytes()[1..], NtStatus::INFO_LENGTH_MISMATCH),
        (&[], NtStatus::INFO_LENGTH_MISMATCH),
    ] {
        assert_eq!(raw(&user, ControlCode::AddRoute.value(), input, 0), (expected, 0));
    }
    let all = EndpointsRequest { header: Header::new(ENDPOINTS_OF_ALL_HANDLES), position: u64::MAX };
    let refused = raw(&user, ControlCode::QueryEndpoints.value(), all.as_bytes(), 0);
    assert_eq!(refused, (NtStatus::PRIVILEGE_NOT_HELD, 0), "before its output is looked at");
    // The rest is everybody's.
    let (own, _) = bound(&user);
    let (others, _) = bound(&administrator);
    let listed = user.endpoints(EndpointScope::OwnHandle).expect("its own");
    assert_eq!(listed.iter().map(|one| one.id).collect::<Vec<_>>(), [own.id()]);
    assert_eq!(administrator.endpoints(EndpointScope::AllHandles).expect("all").len(), 2);
    assert_eq!(user.routes().expect("routes").len(), 1);
    assert_eq!(user.limits().expect("limits").allow_users, 1);
    user.statistics().expect("statistics");
    drop((own, others, user, administrator));
    bed.finish();
}

#[test]
fn routes_come_and_go_while_sessions_begin() {
    const ROUNDS: usize = 60;
    let bed = bed();
    let provider = bed.open();
    provider.add_route(&route("0.0.0.0/0", "0.0.0.0/0")).expect("adds");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let administrators: Vec<_> = (1_u8..=2)
            .map(|net| {
                let (provider, done) = (&provider, &done);
                scope.spawn(move || {
                    let own: Vec<_> = (0..20).map(|at| route(&format!("{net}.{at}.0.0/16"), "127.0.0.0/16")).collect();
                    let mut rounds = 0;
                    while !done.load(Ordering::Relaxed) {
                        for route in &own {
                            provider.add_route(route).expect("adds");
                        }
                        assert!(provider.routes().expect("routes").len() > own.len());
                        for route in &own {
                            provider.remove_route(route.san).expect("removes");
                        }
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let listener = listening(&provider, 4);
        for _ in 0..ROUNDS {
            drop(connected_to(&provider, &listener.0, listener.1));
        }
        done.store(true, Ordering::Relaxed);
        assert!(administrators.into_iter().all(|administrator| administrator.join().expect("no panic") > 0));
    });
    assert_eq!(provider.routes().expect("routes").len(), 1);
    drop(connected(&provider));
    drop(provider);
    bed.finish();
}
