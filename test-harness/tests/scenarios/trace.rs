//! The driver's events, as a tracing session gets them. Each is held to what `docs/events.md` says of it.

#[path = "../../driver-build/tests/package/events_page.rs"]
mod events_page;

use crate::san::support::{Receiver, bed, bound, builder, connected_to, free_port, listening, session};
use crate::san::wire_peer::{FOREIGN, Neighbours, Role, WirePeer};
use crate::support::{
    Bed, PATIENCE, closed_port, connected, eventually, host_connect, image, listening as stream_listening, status,
};
use events_page::Row;
use san_protocol::NtStatus;
use san_protocol::wire::MessageType;
use san_proxy::{AddressFamily, Backlog, Memory, MemoryRights, SanEndpoint, StreamConnection};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use test_harness::nt::etw::trace_logging::{Decoded, Field, decode};
use test_harness::nt::etw::{Enabling, Event, TraceSession};
use test_harness::nt::registry::Value;
use test_harness::nt::types::GUID;
use test_harness::{LoadError, Machine};

/// The provider `Sanwsk`: its identifier is made of its name.
const SANWSK: GUID =
    GUID { Data1: 0x6104_AB46, Data2: 0x1938, Data3: 0x5EC2, Data4: [0x5E, 0xDE, 0xF1, 0xB8, 0xBB, 0x7E, 0x20, 0x01] };

const INFORMATION: u8 = 4;
const VERBOSE: u8 = 5;

/// Keywords.
const ENDPOINT: u64 = 0x2;
const CONNECTION: u64 = 0x4;
const LIMIT: u64 = 0x40;

/// All that the session has got. Level, keyword and fields of each are those of the page.
fn decoded(session: &TraceSession) -> Vec<Decoded> {
    static PAGE: LazyLock<BTreeMap<String, Row>> = LazyLock::new(events_page::rows);
    let decode = |event: &Event| {
        let decoded = decode(event).unwrap_or_else(|error| panic!("{event:?}: {error:?}"));
        let row = PAGE.get(&decoded.name).unwrap_or_else(|| panic!("the page has no {}", decoded.name));
        assert_eq!((event.level, event.keyword), (row.level, row.keyword), "{decoded}");
        let suppressed = row.most.map(|_| "Suppressed");
        let fields = row.fields.iter().map(String::as_str).chain(suppressed);
        assert!(fields.eq(decoded.fields.iter().map(|(name, _)| name.as_str())), "{decoded}");
        decoded
    };
    session.events().iter().map(decode).collect()
}

/// The events of this name.
fn named(session: &TraceSession, name: &str) -> Vec<Decoded> {
    decoded(session).into_iter().filter(|event| event.name == name).collect()
}

/// The only event of this name, which may take a moment to come.
#[track_caller]
fn only(session: &TraceSession, name: &str) -> Decoded {
    eventually(name, || !named(session, name).is_empty());
    let [event] = <[Decoded; 1]>::try_from(named(session, name)).expect("one");
    event
}

fn endpoint(event: &Decoded) -> u64 {
    event.number("Endpoint").expect("an endpoint's number")
}

fn remote(event: &Decoded) -> SocketAddr {
    match event.field("Remote") {
        Some(Field::Address(address)) => *address,
        other => panic!("{other:?}"),
    }
}

fn told_status(event: &Decoded) -> NtStatus {
    match event.field("Status") {
        Some(Field::Status(status)) => NtStatus(*status),
        other => panic!("{other:?}"),
    }
}

/// A session that gets all that the driver tells up to `level`.
fn tracing(machine: &Machine, level: u8) -> TraceSession {
    let session = machine.trace();
    session.enable(SANWSK, Enabling::level(level));
    session
}

#[test]
fn load_attachment_and_unload_are_told_to_a_session_that_waited_for_the_provider() {
    let port = free_port();
    let machine = Machine::builder().parameter("sanwsk", "NativePort", Value::Number(port.into())).build();
    let trace = tracing(&machine, INFORMATION);
    let bed = Bed::on(machine);
    bed.wait_for_provider();
    let loaded = only(&trace, "DriverLoaded");
    assert_eq!(loaded.provider, "Sanwsk");
    assert_eq!(loaded.text("Version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(loaded.number("NativePort"), Some(port.into()));
    let attached = only(&trace, "ProviderAttached");
    assert_eq!(attached.field("WskVersion"), Some(&Field::Hex(0x100)), "1.0");
    bed.finish();
    let order: Vec<_> = decoded(&trace).into_iter().map(|event| event.name).collect();
    assert_eq!(order.first().map(String::as_str), Some("DriverLoaded"));
    assert_eq!(order[order.len() - 2..], ["ProviderDetached", "DriverUnloaded"]);
}

#[test]
fn a_load_and_a_capture_that_fail_say_why() {
    let machine = Machine::builder().parameter("sanwsk", "Routes", Value::List(vec!["no route".into()])).build();
    let trace = tracing(&machine, INFORMATION);
    assert!(matches!(machine.load(image(), "sanwsk"), Err(LoadError::Entry(_))));
    assert_eq!(told_status(&only(&trace, "DriverLoadFailed")), NtStatus::INVALID_PARAMETER);
    assert!(machine.violation().is_none(), "the provider is not left behind");

    let machine = Machine::new();
    machine.network().fail_capture(Some(NtStatus::NOINTERFACE.0));
    let trace = tracing(&machine, INFORMATION);
    let bed = Bed::on(machine);
    assert_eq!(told_status(&only(&trace, "ProviderFailed")), NtStatus::NOINTERFACE);
    bed.finish();
}

#[test]
fn the_life_of_streams_is_told_from_open_to_gone() {
    let bed = bed();
    let trace = tracing(&bed.machine, INFORMATION);
    let provider = bed.open();
    let (listener, address) = stream_listening(&provider, 4);
    let accept = listener.start_accept();
    let connection = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    connection.connect(address, Some(PATIENCE)).expect("connects");
    let accepted = accept.wait().expect("accepts").connection;
    let connecting = only(&trace, "Connecting");
    let connected = only(&trace, "Connected");
    assert_eq!((remote(&connecting), remote(&connected)), (address, address));
    assert_eq!(endpoint(&connecting), endpoint(&connected));
    let names = named(&trace, "EndpointNamed");
    let number_of = |id: u64| names.iter().find(|name| name.number("Id") == Some(id)).map(endpoint).expect("its name");
    assert_eq!(number_of(connection.id()), endpoint(&connecting));
    assert_eq!(number_of(accepted.id()), endpoint(&only(&trace, "Accepted")));
    let created = named(&trace, "EndpointCreated");
    let kinds: Vec<_> = created.iter().filter_map(|event| event.text("Kind")).collect();
    assert_eq!(kinds, ["stream listener", "stream connection", "stream connection"]);
    assert!(named(&trace, "EndpointClosing").is_empty() && named(&trace, "EndpointGone").is_empty());
    drop((listener, connection, accepted, provider));
    eventually("all are gone", || named(&trace, "EndpointGone").len() == 3);
    let sorted = |name: &str| {
        let mut numbers: Vec<_> = named(&trace, name).iter().map(endpoint).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(sorted("EndpointGone"), sorted("EndpointCreated"));
    assert_eq!(sorted("EndpointClosing"), sorted("EndpointCreated"));
    assert_eq!(only(&trace, "HandleOpened").number("Process"), only(&trace, "HandleClosing").number("Process"));
    bed.finish();
}

#[test]
fn a_connect_that_fails_names_its_cause() {
    let bed = bed();
    let trace = tracing(&bed.machine, 3);
    let provider = bed.open();
    let nowhere = closed_port();
    let stream = StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint");
    assert_eq!(status(stream.connect(nowhere, Some(PATIENCE))), NtStatus::CONNECTION_REFUSED);
    let failed = only(&trace, "ConnectFailed");
    assert_eq!(failed.text("Cause"), Some("the machine refused the TCP connection: nobody listens at its port"));
    assert_eq!((remote(&failed), told_status(&failed)), (nowhere, NtStatus::CONNECTION_REFUSED));
    drop(trace);

    // The other machine runs a SAN provider, and nobody listens at the SAN port.
    let trace = tracing(&bed.machine, 3);
    let (listener, _) = listening(&provider, 1);
    let (connector, _) = bound(&provider);
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    assert_eq!(status(connector.connect(nobody, Some(PATIENCE))), NtStatus::IO_TIMEOUT, "what the caller is told");
    let failed = only(&trace, "ConnectFailed");
    assert_eq!(failed.text("Cause"), Some("nobody listens at the SAN address and port"), "what the trace knows");
    assert_eq!((remote(&failed), told_status(&failed)), (nobody, NtStatus::IO_TIMEOUT));
    let refused = only(&trace, "PeerRefused");
    assert_eq!(refused.text("Why"), Some("nobody listens at the SAN address and port"));
    drop((stream, listener, connector, provider));
    bed.finish();
}

#[test]
fn a_session_is_told_with_its_messages_and_without_their_bytes() {
    let bed = bed();
    let trace = tracing(&bed.machine, VERBOSE);
    let provider = bed.open();
    let (connector, mut acceptor) = session(&provider, 4, 64);
    let secret = b"nobody's business";
    connector.endpoint.send(secret).expect("sends");
    assert_eq!(acceptor.next(0), secret);
    let negotiated = named(&trace, "SessionNegotiated");
    assert_eq!(negotiated.len(), 2);
    for side in &negotiated {
        assert_eq!((side.number("PeerReceives"), side.number("PeerReceiveSize")), (Some(4), Some(64)), "{side}");
    }
    let mut lengths: Vec<_> = negotiated.iter().filter_map(|side| side.number("PrivateLength")).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [b"acceptor".len() as u64, b"connector".len() as u64]);
    let length = Some(secret.len() as u64);
    assert_eq!(only(&trace, "MessageSent").number("Length"), length);
    assert_eq!(only(&trace, "MessageReceived").number("Length"), length);
    connector.endpoint.disconnect().expect("disconnects");
    drop((connector, acceptor, provider));
    eventually("both ends are told", || named(&trace, "ConnectionEnded").len() == 2);
    for event in trace.events() {
        for bytes in [&secret[..], b"acceptor", b"connector"] {
            assert!(!event.data.windows(bytes.len()).any(|window| window == bytes), "{event}");
        }
    }
    assert!(!named(&trace, "NativeListenerOpened").is_empty());
    bed.finish();
}

#[test]
fn a_violation_and_who_is_turned_away_are_told_with_the_peers_address() {
    let neighbours = Neighbours::new();
    let provider = neighbours.bed.open();
    let trace = tracing(&neighbours.bed.machine, 3);
    let (endpoint, mut peer) = neighbours.connected(&provider, Role::Connector);
    let receiver = Receiver::new(endpoint, 1, 16);
    let negotiate = receiver.endpoint.start_negotiate(b"", 16);
    peer.expect(MessageType::Session);
    peer.send(b"GET / HTTP/1.1\r\n");
    assert_eq!(status(negotiate.wait()), NtStatus::INVALID_NETWORK_RESPONSE);
    assert_eq!(remote(&only(&trace, "ProtocolViolation")), FOREIGN);
    drop((receiver, provider));
    neighbours.bed.finish();
}

#[test]
fn a_full_backlog_and_a_peer_that_says_nothing_are_refusals() {
    let port = free_port();
    let builder = Machine::builder()
        .parameter("sanwsk", "NativePort", Value::Number(port.into()))
        .parameter("sanwsk", "HandshakeTimeout", Value::Number(1000))
        .parameter("sanwsk", "MaxHandshakes", Value::Number(1));
    let bed = Bed::with(builder);
    let trace = tracing(&bed.machine, 3);
    let provider = bed.open();
    let (listener, address) = stream_listening(&provider, 1);
    let waits = host_connect(address);
    let turned_away = TcpStream::connect_timeout(&address, PATIENCE);
    let refused = only(&trace, "PeerRefused");
    assert_eq!(refused.text("Why"), Some("the listener's backlog is full, or it is being closed"));
    assert_eq!(remote(&refused).ip(), Ipv4Addr::LOCALHOST);
    drop((trace, listener, waits, turned_away));

    let trace = tracing(&bed.machine, 3);
    let (listener, _) = listening(&provider, 1);
    let native = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let silent = WirePeer::connect(native);
    let too_many = WirePeer::connect(native);
    let why = |text: &str| named(&trace, "PeerRefused").iter().any(|event| event.text("Why") == Some(text));
    eventually("too many", || why("too many hand-shakes are under way (MaxHandshakes)"));
    eventually("too late", || why("it has not said in time what it wants"));
    drop((silent, too_many, listener, provider));
    bed.finish();
}

#[test]
fn a_limit_that_is_hit_is_told_by_its_registry_value() {
    let builder = [("MaxEndpoints", 4), ("MaxEndpointsPerHandle", 3), ("MaxRegionsPerHandle", 1), ("MaxRoutes", 1)]
        .iter()
        .fold(builder(), |builder, (name, value)| builder.parameter("sanwsk", name, Value::Number(*value)));
    let bed = Bed::with(builder.parameter("sanwsk", "MaxPinnedMiB", Value::Number(1)));
    let trace = bed.machine.trace();
    trace.enable(SANWSK, Enabling { level: 3, match_any: LIMIT, match_all: 0 });
    let (provider, other) = (bed.open(), bed.open());
    let create = |provider| SanEndpoint::create(provider, AddressFamily::INET);
    let (listener, address) = listening(&provider, 1);
    let (connector, acceptor) = connected_to(&provider, &listener, address);
    assert!(create(&provider).is_err());
    let last = create(&other).expect("the last of all");
    assert!(create(&other).is_err());
    assert!(connector.register(Memory::new((1 << 20) + 1), MemoryRights::BOTH).is_err());
    let region = connector.register(Memory::new(16), MemoryRights::BOTH).expect("registers");
    assert!(connector.register(Memory::new(16), MemoryRights::BOTH).is_err());
    for prefix in ["10.1.0.0/16", "10.2.0.0/16"] {
        let (san, native) = (prefix.parse().expect("a prefix"), "127.0.0.0/16".parse().expect("a prefix"));
        let _ = provider.add_route(&san_proxy::Route { san, native, native_port: None, san_only: false });
    }
    let hit: Vec<_> = decoded(&trace).iter().filter_map(|event| event.text("Parameter").map(str::to_owned)).collect();
    assert_eq!(hit, ["MaxEndpointsPerHandle", "MaxEndpoints", "MaxPinnedMiB", "MaxRegionsPerHandle", "MaxRoutes"]);
    drop((region, listener, connector, acceptor, last, provider, other));
    bed.finish();
}

/// The names of all that the session has got.
fn names(session: &TraceSession) -> BTreeSet<String> {
    decoded(session).into_iter().map(|event| event.name).collect()
}

#[test]
fn every_event_of_the_page_is_told_where_what_it_says_happens() {
    let mut told = BTreeSet::new();
    let machine = Machine::builder().parameter("sanwsk", "Routes", Value::List(vec!["no route".into()])).build();
    let trace = tracing(&machine, VERBOSE);
    assert!(machine.load(image(), "sanwsk").is_err());
    told.extend(names(&trace));

    let machine = Machine::new();
    machine.network().fail_capture(Some(NtStatus::NOINTERFACE.0));
    let trace = tracing(&machine, VERBOSE);
    Bed::on(machine).finish();
    told.extend(names(&trace));

    let port = free_port();
    let native = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let machine = builder()
        .parameter("sanwsk", "NativePort", Value::Number(port.into()))
        .parameter("sanwsk", "MaxRegionsPerHandle", Value::Number(2))
        .build();
    let trace = tracing(&machine, VERBOSE);
    let bed = Bed::on(machine);
    bed.wait_for_provider();
    let provider = bed.open();
    let (connector, mut acceptor) = session(&provider, 1, 8);
    connector.endpoint.send(b"message").expect("sends");
    acceptor.next(0);
    let too_many = connector.endpoint.register(Memory::new(8), MemoryRights::BOTH);
    assert_eq!(status(too_many.map(drop)), NtStatus::INSUFFICIENT_RESOURCES);
    // Nobody listens at that SAN port: the connector's side fails, the listening machine refuses.
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    assert!(bound(&provider).0.connect(nobody, Some(PATIENCE)).is_err());
    WirePeer::connect(native).send(b"GET / HTTP/1.1\r\n\r\n");
    // Somebody else has the native port of the other family.
    let taken = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).expect("the port is free");
    let other = SanEndpoint::create(&provider, AddressFamily::INET6).expect("an endpoint");
    other.bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).expect("binds");
    assert_eq!(status(other.listen(Backlog(1))), NtStatus::ADDRESS_ALREADY_EXISTS);
    assert_eq!(told_status(&only(&trace, "NativeListenerFailed")), NtStatus::ADDRESS_ALREADY_EXISTS);
    eventually("the violation is told", || !named(&trace, "ProtocolViolation").is_empty());
    drop((connector, acceptor, other, taken, provider));
    bed.finish();
    told.extend(names(&trace));
    assert_eq!(told, events_page::rows().into_keys().collect());
}

#[test]
fn nothing_is_told_unless_somebody_asks_and_only_what_is_asked_for() {
    let bed = bed();
    let provider = bed.open();
    let life = || drop(connected(&provider));
    let all = bed.machine.trace();
    all.enable_all(Enabling::level(0));
    life();
    let (endpoints, connections) = (bed.machine.trace(), bed.machine.trace());
    endpoints.enable(SANWSK, Enabling { level: INFORMATION, match_any: ENDPOINT, match_all: 0 });
    connections.enable(SANWSK, Enabling { level: INFORMATION, match_any: CONNECTION, match_all: 0 });
    let both = bed.machine.trace();
    both.enable(SANWSK, Enabling { level: INFORMATION, match_any: 0, match_all: ENDPOINT | CONNECTION });
    life();
    eventually("its life is over", || !named(&endpoints, "EndpointGone").is_empty());
    let in_order = |session| decoded(session).into_iter().map(|event| event.name).collect::<Vec<_>>();
    assert_eq!(in_order(&endpoints), ["EndpointCreated", "EndpointNamed", "EndpointClosing", "EndpointGone"]);
    assert_eq!(in_order(&connections), ["Connecting", "Connected"]);
    assert!(both.events().is_empty(), "no event has both keywords");
    assert!(all.events().is_empty(), "a level below everything");
    endpoints.disable();
    let before = endpoints.events().len();
    life();
    eventually("the others go on", || connections.events().len() == 4);
    assert_eq!(endpoints.events().len(), before);
    drop((endpoints, connections));
    drop(provider);
    bed.finish();
}

#[test]
fn while_nobody_listens_the_driver_does_not_even_ask_for_the_time() {
    let bed = bed();
    let provider = bed.open();
    // The fewest of several times: what went before may still be on its way out.
    let calls = || {
        let one = || {
            let before = bed.machine.calls();
            drop(StreamConnection::create(&provider, AddressFamily::INET));
            bed.machine.calls() - before
        };
        (0..20).map(|_| one()).min()
    };
    let off = calls();
    let trace = tracing(&bed.machine, INFORMATION);
    let on = calls();
    drop(trace);
    // Created, named, closing, gone: each asks for the time and is written.
    assert_eq!(on, off.map(|off| off + 2 * 4));
    assert_eq!(calls(), off);
    drop(provider);
    bed.finish();
}

#[test]
fn sessions_come_and_go_while_the_driver_works() {
    let bed = bed();
    let provider = bed.open();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(StreamConnection::create(&provider, AddressFamily::INET).expect("an endpoint"));
                }
            });
        }
        for _ in 0..50 {
            let trace = tracing(&bed.machine, VERBOSE);
            eventually("something is told", || !trace.events().is_empty());
            drop(decoded(&trace));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let (listener, address) = listening(&provider, 1);
    drop(connected_to(&provider, &listener, address));
    drop((listener, provider));
    bed.finish();
}
